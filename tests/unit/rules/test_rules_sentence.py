"""Rules in words."""

from __future__ import annotations

import pytest

from tocsin.rules import compile_rule, load_shipped, read_rules

CASES = {
    "Bans an address for 66h40m when it makes 3 requests POST /xmlrpc.php within 10m.": """
        on = "http-request"
        where = { method = "POST", path = "/xmlrpc.php" }
        limit = 3
        within = "10m"
        ban = "66h40m"
    """,
    "Bans an address for 2h when it makes requests with 30 different paths and status 404 within 5m.": """
        on = "http-request"
        where = { status = 404 }
        distinct = "path"
        limit = 30
        within = "5m"
        ban = "2h"
    """,
    "Bans an address for 2h when it makes requests for / or /index.php with 5 different queries within 5m.": """
        on = "http-request"
        where = { path = ["/", "/index.php"] }
        distinct = "query"
        limit = 5
        within = "5m"
        ban = "2h"
    """,
    (
        'Bans each address that took part for good when there are 1,000 login attempts with service "sshd" and '
        'outcome "failure" that share one user within 1d.'
    ): """
        on = "auth"
        where = { service = "sshd", outcome = "failure" }
        by = "user"
        limit = 1000
        within = "1d"
        ban = "forever"
    """,
    "Bans a network (IPv4 /24, IPv6 /48) for 1m when it makes 9 requests that share one path within 1m.": """
        on = "http-request"
        by = ["network", "path"]
        limit = 9
        within = 60
        ban = 60
    """,
    (
        '(Switched off.) Bans an address for 1m when it makes 1 request with user agent containing "a", "b", "c" '
        'or 2 more (in any case) and not ending with "z" (in any case).'
    ): """
        on = "http-request"
        limit = 1
        ban = 60
        enabled = false
        [r.where.user_agent]
        contains = ["a", "b", "c", "d", "e"]
        ignore_case = true
        not = { suffix = "z" }
    """,
    (
        "Bans an address for 1m when it makes 1 request with status from 400 to 499 and not 404 or 410 and "
        "duration in seconds at least 2.5 and user present."
    ): """
        on = "http-request"
        limit = 1
        ban = 60
        [r.where]
        status = { min = 400, max = 499, not = [404, 410] }
        duration_s = { min = 2.5 }
        user = { missing = false }
    """,
    (
        'Bans an address for 1m when it makes 1 request with either path beginning with "/a", or query matching '
        '"^x" and method "GET".'
    ): """
        on = "http-request"
        limit = 1
        ban = 60
        where = { any = [{ path = { prefix = "/a" } }, { query = { regex = "^x" }, method = "GET" }] }
    """,
    'Bans an address for 1m when it is named by 2 lines matching "^<address> refused$" within 1m.': """
        line = '^<address> refused$'
        limit = 2
        within = 60
        ban = 60
    """,
}


@pytest.mark.parametrize(("sentence", "body"), CASES.items())
def test_sentence(sentence: str, body: str) -> None:
    """The whole rule in one sentence."""
    assert compile_rule(read_rules(f"[r]\n{body}", "r.toml")[0]).sentence == sentence


def test_shipped_sentences_can_be_read() -> None:
    """Short enough, printable, ending in a full stop."""
    for rule in load_shipped():
        sentence = compile_rule(rule).sentence
        assert sentence.isprintable()
        assert sentence.endswith(".")
        assert len(sentence) < 600
