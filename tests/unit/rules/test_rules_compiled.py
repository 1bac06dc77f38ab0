"""Rules at work: predicates, keys, subjects, needs, explanations."""

from __future__ import annotations

import subprocess
import sys

import pytest
from msgspec import structs

from tocsin.decide.impostors import Crawlers
from tocsin.model import AuthAttempt, HttpRequest
from tocsin.rules import CompiledRule, Need, compile_rule, load_shipped, read_rules

REQUEST = HttpRequest(
    ts=1.0,
    source_ip="192.0.2.7",
    method="GET",
    target="/Blog/page.php?id=1",
    path="/Blog/page.php",
    query="id=1",
    protocol="HTTP/1.1",
    status=404,
    body_bytes=512,
    user_agent="Mozilla/5.0 Probe",
)
LOGIN = AuthAttempt(1.0, "192.0.2.7", "sshd", "root", "failure", "password")


def rule(where: str, extra: str = "", on: str = "http-request") -> CompiledRule:
    """A rule with a where."""
    clause = f"where = {where}\n" if where else ""
    return compile_rule(
        read_rules(f'[r]\non = "{on}"\nlimit = 2\nwithin = "1m"\nban = "1h"\n{clause}{extra}', "r.toml")[0]
    )


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ("{ method = 'GET' }", True),
        ("{ method = ['POST', 'GET'] }", True),
        ("{ method = 'POST' }", False),
        ("{ path = '/blog/page.php' }", False),
        ("{ path = { equal = '/blog/PAGE.php', ignore_case = true } }", True),
        ("{ path = { prefix = ['/x', '/Blog'] } }", True),
        ("{ path = { prefix = '/blog' } }", False),
        ("{ path = { prefix = '/blog', ignore_case = true } }", True),
        ("{ path = { suffix = '.php' } }", True),
        ("{ path = { suffix = ['.html', '.PHP'] } }", False),
        ("{ path = { contains = 'page' } }", True),
        ("{ path = { contains = ['nothing', 'page'] } }", True),
        ("{ path = { contains = ['nothing', 'PAGE'], ignore_case = true } }", True),
        ("{ path = { regex = '^/[A-Z][a-z]+/' } }", True),
        ("{ path = { regex = ['^x', 'PHP$'] } }", False),
        ("{ path = { regex = 'PHP$', ignore_case = true } }", True),
        ("{ path = { prefix = '/Blog', suffix = '.php', not = { contains = 'page' } } }", False),
        ("{ path = { prefix = '/Blog', not = { contains = 'x' } } }", True),
        ("{ path = { not = { prefix = '/Blog', suffix = '.html' } } }", False),
        ("{ path = { not = { prefix = '/x', suffix = '.html' } } }", True),
        ("{ target = '/Blog/page.php?id=1' }", True),
        ("{ query = 'id=1' }", True),
        ("{ status = 404 }", True),
        ("{ status = [400, 403] }", False),
        ("{ status = { min = 400, max = 499 } }", True),
        ("{ status = { min = 405 } }", False),
        ("{ status = { max = 404, not = 404 } }", False),
        ("{ status = { min = 400, not = 200 } }", True),
        ("{ body_bytes = { max = 512 } }", True),
        ("{ duration_s = { min = 0 } }", False),
        ("{ duration_s = { not = { min = 1 } } }", True),
        ("{ duration_s = { missing = true } }", True),
        ("{ referer = 'x' }", False),
        ("{ referer = { prefix = 'x' } }", False),
        ("{ referer = { suffix = 'x', ignore_case = true } }", False),
        ("{ referer = { contains = ['x', 'y'] } }", False),
        ("{ referer = { regex = '.' } }", False),
        ("{ referer = { not = 'x' } }", True),
        ("{ referer = { not = { contains = 'x' } } }", True),
        ("{ referer = { missing = true } }", True),
        ("{ referer = { missing = false } }", False),
        ("{ query = { missing = false } }", True),
        (
            "{ user_agent = { missing = false, contains = 'Probe' }, method = 'GET', status = 404, query = 'id=1' }",
            True,
        ),
        ("{ user_agent = { contains = 'Probe' }, method = 'GET', status = 404, path = '/Blog' }", False),
        ("{ any = [{ path = '/x' }, { status = 404 }] }", True),
        ("{ method = 'POST', any = [{ path = '/x' }, { status = 404 }] }", False),
        ("{ any = [{ path = '/x' }, { status = 200 }, { query = 'x' }, { method = 'PUT' }] }", False),
        ("", True),
    ],
)
def test_predicates(where: str, *, expected: bool) -> None:
    """What a condition says of one request; a missing field passes `not` and `missing` alone."""
    compiled = rule(where)
    assert compiled.predicate(REQUEST) is expected
    assert compiled.explain_match(REQUEST).startswith("yes" if expected else "no")


def test_rules_for_logins_and_events_of_another_kind() -> None:
    """A rule is never asked about what it does not speak of, and says no if it is."""
    compiled = rule("{ service = 'sshd', outcome = 'failure', user = { not = 'jane' } }", on="auth")
    assert compiled.predicate(LOGIN)
    assert not compiled.predicate(structs.replace(LOGIN, user="jane"))
    assert not compiled.predicate(REQUEST)
    assert not rule("{ user = 'root' }").predicate(LOGIN)
    assert compiled.explain_match(REQUEST) == "no: the rule is about auth, the line is not"


def test_case_is_folded_for_ascii_alone() -> None:
    """The Kelvin sign is no k and the long s no s: the bytes of the line would not show the literal."""
    for test in ("contains = 'ask'", "regex = 'ask'", "prefix = 'ask'", "equal = 'ask'"):
        compiled = rule(f"{{ user_agent = {{ {test}, ignore_case = true }} }}")
        assert compiled.predicate(structs.replace(REQUEST, user_agent="ASK"))
        assert not compiled.predicate(structs.replace(REQUEST, user_agent="a\u017f\u212a"))
        assert not compiled.predicate(structs.replace(REQUEST, user_agent="AS\u212a"))


def test_a_hostile_text_cannot_hold_up_a_users_regex() -> None:
    """A regex that slips through the check of shapes is given up in time, counted, and the rule says no."""
    compiled = rule("{ user_agent = { regex = 'a[^x]*b[^x]*c[^x]*d[^x]*e' } }")
    text = "abcd" * 2000
    assert not compiled.predicate(structs.replace(REQUEST, user_agent=text))
    assert compiled.trouble.timeouts == 1
    assert compiled.predicate(structs.replace(REQUEST, user_agent="abcde"))


def test_only_the_beginning_of_a_long_text_is_searched() -> None:
    """8,192 characters, which is what servers take for a request line."""
    compiled = rule("{ user_agent = { regex = 'needle' } }")
    assert compiled.predicate(structs.replace(REQUEST, user_agent="x" * 8186 + "needle"))
    assert not compiled.predicate(structs.replace(REQUEST, user_agent="x" * 8187 + "needle"))


@pytest.mark.parametrize(
    ("extra", "source_ip", "keys"),
    [
        ("", "192.0.2.7", ("192.0.2.7",)),
        ("", "2001:db8:1:2:3::4", ("2001:db8:1:2::/64",)),
        ("ipv6_prefix = 128", "2001:db8:1:2:3::4", ("2001:db8:1:2:3::4",)),
        ("ipv4_prefix = 24", "192.0.2.7", ("192.0.2.0/24",)),
        ("by = 'network'", "192.0.2.7", ("192.0.2.0/24",)),
        ("by = 'network'", "2001:db8:1:2:3::4", ("2001:db8:1::/48",)),
        ("by = ['path', 'address']", "192.0.2.7", ("/Blog/page.php", "192.0.2.7")),
        ("by = 'user_agent'", "192.0.2.7", ("Mozilla/5.0 Probe",)),
        ("by = 'user'", "192.0.2.7", None),
        ("by = 'path'", None, None),
    ],
)
def test_keys(extra: str, source_ip: str | None, keys: tuple[str, ...] | None) -> None:
    """What an event is counted under; nothing where a part is missing or nobody could be banned."""
    assert rule("", extra).keys(structs.replace(REQUEST, source_ip=source_ip)) == keys


def test_distinct_values() -> None:
    """The value of the field, or of the address as it is counted."""
    assert rule("", "distinct = 'path'").distinct_value(REQUEST) == "/Blog/page.php"
    assert rule("", "distinct = 'user'").distinct_value(REQUEST) is None
    assert rule("").distinct_value(REQUEST) is None
    compiled = rule("", "distinct = 'address'\nby = 'path'")
    assert compiled.distinct_value(structs.replace(REQUEST, source_ip="2001:db8::1")) == "2001:db8::/64"


def test_which_rules_can_be_skimmed() -> None:
    """Those that need nothing of a line but its client and time."""
    assert rule("").skim
    assert rule("", "by = 'network'").skim
    for other in (
        rule("{ status = 404 }"),
        rule("", "by = 'path'"),
        rule("", "distinct = 'path'"),
        rule("", on="auth"),
    ):
        assert not other.skim


@pytest.mark.parametrize(
    ("where", "needs"),
    [
        (
            "{ method = 'POST', path = '/xmlrpc.php' }",
            {Need("/xmlrpc.php", "path", method="POST", encoded=True)},
        ),
        ("{ path = '/.git/config' }", {Need("/.git", "path", encoded=True)}),
        ("{ path = { suffix = 'secret.txt' } }", {Need("secret.txt", "path", encoded=True)}),
        ("{ path = { contains = 'admin' } }", {Need("min", "path", encoded=True)}),  # \xfa + dmin reads as \xfadmin
        (
            "{ path = { equal = '/Secret', ignore_case = true } }",
            {Need("/Secret", "path", ignore_case=True, encoded=True)},
        ),
        ("{ target = { contains = '/a.php?secret=' } }", {Need("secret=", "target")}),
        ("{ user_agent = { prefix = 'a\"sqlmap' } }", {Need("sqlmap", "user_agent")}),
        ("{ user_agent = { prefix = 'sqlmap\\\\xffprobing' } }".replace("'", '"'), {Need("sqlmap", "user_agent")}),
        (
            "{ user_agent = { contains = ['sqlmap', 'nikto'] }, status = 404 }",
            {Need("sqlmap", "user_agent"), Need("nikto", "user_agent")},
        ),
        ("{ user_agent = { prefix = 'Mozilla/5.0' }, query = 'token=7' }", {Need("token=7", "query")}),
        (
            "{ status = [403, 404], method = 'GET' }",
            {Need("403", "status", method="GET"), Need("404", "status", method="GET")},
        ),
        ("{ status = { min = 500, max = 501 } }", {Need("500", "status"), Need("501", "status")}),
        ("{ method = 'PROPFIND', status = 404 }", {Need("PROPFIND", "method")}),
        ("{ query = { regex = 'x=(?:one|two)three[0-9]' } }", {Need("three", "query")}),
        (
            "{ any = [{ path = '/secret' }, { user = 'root' }] }",
            {Need("/secret", "path", encoded=True), Need("root", "user")},
        ),
        (
            "{ method = 'POST', any = [{ path = '/secret' }, { query = 'root' }] }",
            {Need("/secret", "path", method="POST", encoded=True), Need("root", "query", method="POST")},
        ),
    ],
)
def test_needs(where: str, needs: set[Need]) -> None:
    """The most selective requirement, in the terms of the raw line."""
    assert rule(where).needs == (frozenset(needs),)


@pytest.mark.parametrize(
    "where",
    [
        "",
        "{ path = '/' }",
        "{ path = { not = '/secret' } }",
        "{ path = { contains = ['secret', 'ab'] } }",
        "{ status = { min = 400 } }",
        "{ status = { min = 400, max = 499 } }",
        "{ user = { missing = true } }",
        "{ vhost = 'www.example.org' }",
        "{ user_agent = { contains = '\u00e9t\u00e9' } }",
        "{ query = { regex = '[ab]+' } }",
        "{ any = [{ path = '/secret' }, { status = { min = 500 } }] }",
        "{ method = { not = 'GET' } }",
    ],
)
def test_no_needs(where: str) -> None:
    """Where any line may matter, every line is looked at."""
    compiled = rule(where)
    assert compiled.needs is None
    assert compiled.need_holds(b"anything")


def test_how_a_need_holds() -> None:
    """As itself, percent-encoded, or escaped by JSON; a status as a number by itself."""
    need = Need("/xmlrpc.php", "path", method="POST", encoded=True)
    assert need.holds(b'"POST /xmlrpc.php HTTP/1.0" 200')
    assert need.holds(b'"POST /%78mlrpc.php HTTP/1.0" 200')
    assert need.holds(b'"POST %2Fxmlrpc.php HTTP/1.0" 200')
    assert not need.holds(b'"GET /xmlrpc.php HTTP/1.0" 200')
    assert not need.holds(b'"POST /%41bout HTTP/1.0" 200')
    assert need.holds(rb'{"method":"POST","uri":"\/xmlrpc.php"}', json=True)
    assert not need.holds(rb'{"method":"POST","uri":"\/xmlrpc.txt"}')
    assert "%2F" in need.percent_spellings()
    assert "%2f" in need.percent_spellings()
    assert "%4c" not in need.percent_spellings()
    assert "%5A" in Need("/z", "path", ignore_case=True, encoded=True).percent_spellings()
    assert Need("404", "status").holds(b'" 404 12')
    assert not Need("404", "status").holds(b'" 200 14045')
    assert Need("SqlMap", "user_agent", ignore_case=True).holds(b"SQLMAP/1.7")
    assert not Need("SqlMap", "user_agent").holds(b"SQLMAP/1.7")


def test_a_rule_for_logs_without_a_format() -> None:
    """The line names the client; its address is taken whole and canonical."""
    lines = r"['^\S+ app: refused <address> for .*$', '^app2: <address>$']"
    text = f"[own]\nline = {lines}\nlimit = 3\nwithin = 60\nban = 60\n"
    compiled = compile_rule(read_rules(text, "own.toml")[0])
    assert compiled.rule.on == "line"
    assert compiled.line_address("12:00 app: refused 192.0.2.7 for 10.0.0.1") == "192.0.2.7"
    assert compiled.line_address("12:00 app: refused ::ffff:192.0.2.7 for x") == "192.0.2.7"
    assert compiled.line_address("app2: 2001:DB8::0:1") == "2001:db8::1"
    assert compiled.line_address("app2: 999.0.2.7") is None
    assert compiled.line_address("app2: 192.0.2.7 ") is None
    assert compiled.line_address("app2: 192.0.2.7".rjust(9000)) is None
    assert compiled.needs == (frozenset({Need(" app: refused ", "line"), Need("pp2: ", "line")}),)
    assert not compiled.predicate(REQUEST)
    assert "lines matching" in compiled.sentence


def test_explanations_show_hostile_text_safely() -> None:
    """No control character of a log line reaches the terminal."""
    compiled = rule("{ user_agent = { contains = 'x' }, any = [{ method = 'PUT' }, { status = 404 }] }")
    event = structs.replace(REQUEST, user_agent="x\x1b[31m\u202e" + "y" * 500)
    said = compiled.explain_match(event)
    assert said.isprintable()
    assert said.startswith(r"yes: user agent is 'x\x1b[31m\u202e")
    assert said.endswith("'...; status is 404")
    assert rule("{ status = 200 }").explain_match(REQUEST) == "no: status is 404, wanted status 200"
    assert rule("{ any = [{ method = 'PUT' }, { status = 1 }] }".replace("1", "200")).explain_match(REQUEST) == (
        "no: none of the 2 alternatives fits"
    )


def test_shipped_rules_do_without_the_slow_library() -> None:
    """Guard with shipped rules alone does not import `regex`, nor what only mistakes need."""
    code = (
        "import sys; from tocsin.rules import compile_rule, load_shipped; "
        "rules = [compile_rule(rule) for rule in load_shipped()]; "
        "print(sorted({'regex', 'difflib'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


@pytest.mark.parametrize("shipped", load_shipped(), ids=lambda each: each.id)
def test_every_shipped_signature_can_be_prefiltered(shipped: object) -> None:
    """Only the flood rule, which is skimmed, and rules about logins see every line."""
    compiled = next(compile_rule(each).judged_by(Crawlers()) for each in load_shipped() if each is shipped)
    assert compiled.needs or compiled.skim or compiled.rule.on == "auth"
