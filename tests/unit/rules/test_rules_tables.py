"""Reading rule tables: what is accepted, and every mistake of a file in one go."""

from __future__ import annotations

import pytest

from tocsin.rules import Rule, RuleErrors, load_shipped, read_rules
from tocsin.rules.language import AllOf, Between, Condition, Contains, Equal, EqualNumber, Missing, Not, Prefix, Where

XMLRPC = """
[wordpress-xmlrpc]
title  = "XML-RPC flood"
on     = "http-request"
where  = { method = "POST", path = "/xmlrpc.php" }
by     = "address"
limit  = 3
within = "10m"
ban    = "66h40m"
"""
SHORT = 'on = "http-request"\nlimit = 1\nban = "1h"\n'


def one(body: str) -> Rule:
    """The rule of a table body; limit and ban are given unless the body does."""
    (rule,) = read_rules(f"[r]\n{body}", "r.toml")
    return rule


def mistakes(text: str) -> list[str]:
    """The mistakes of a text as people see them."""
    with pytest.raises(RuleErrors) as caught:
        read_rules(text, "r.toml", {rule.id: rule for rule in load_shipped()})
    return [str(error) for error in caught.value.errors]


def test_the_rule_of_the_founding_incident() -> None:
    """The cure as it was written down."""
    (rule,) = read_rules(XMLRPC, "own.toml")
    assert (rule.id, rule.title, rule.on, rule.by) == (
        "wordpress-xmlrpc",
        "XML-RPC flood",
        "http-request",
        ("address",),
    )
    assert (rule.limit, rule.within_s, rule.ban_s, rule.distinct) == (3, 600.0, 240_000.0, None)
    assert (rule.ipv4_prefix, rule.ipv6_prefix, rule.enabled, rule.origin.line) == (32, 64, True, 2)
    assert rule.where == Where((Condition("method", Equal(("POST",))), Condition("path", Equal(("/xmlrpc.php",)))))


@pytest.mark.parametrize(
    ("where", "test"),
    [
        ("{ path = ['/a', '/b'] }", Equal(("/a", "/b"))),
        ("{ path = { prefix = '/a' } }", Prefix(("/a",))),
        ("{ path = { contains = ['x', 'y'], ignore_case = true } }", Contains(("x", "y"), ignore_case=True)),
        ("{ path = { equal = '/A', ignore_case = true } }", Equal(("/A",), ignore_case=True)),
        ("{ path = { prefix = '/a', contains = 'x' } }", AllOf((Prefix(("/a",)), Contains(("x",))))),
        ("{ path = { not = '/a' } }", Not(Equal(("/a",)))),
        ("{ path = { not = { contains = 'x' } } }", Not(Contains(("x",)))),
        (
            "{ path = { not = { prefix = '/a', contains = 'x' } } }",
            AllOf((Not(Prefix(("/a",))), Not(Contains(("x",))))),
        ),
        ("{ path = { not = { contains = 'x' }, ignore_case = true } }", Not(Contains(("x",), ignore_case=True))),
        ("{ user = { missing = true } }", Missing(wanted=True)),
        ("{ status = 404 }", EqualNumber((404,))),
        ("{ status = [404, 410] }", EqualNumber((404, 410))),
        ("{ status = { min = 400, max = 499 } }", Between(400, 499)),
        ("{ duration_s = { min = 2.5 } }", Between(2.5, None)),
        ("{ status = { not = 200 } }", Not(EqualNumber((200,)))),
        ("{ status = { min = 400, not = [404, 410] } }", AllOf((Between(400, None), Not(EqualNumber((404, 410)))))),
    ],
)
def test_operators(where: str, test: object) -> None:
    """Each operator reads as what it says."""
    assert one(f"{SHORT}where = {where}").where.conditions[0].test == test


def test_alternatives() -> None:
    """`any` holds where one of its tables does."""
    where = one(f"{SHORT}where = {{ method = 'GET', any = [{{ path = '/a' }}, {{ query = 'b' }}] }}").where
    assert where.conditions == (Condition("method", Equal(("GET",))),)
    assert where.any_of == ((Condition("path", Equal(("/a",))),), (Condition("query", Equal(("b",))),))


def test_defaults() -> None:
    """By address, IPv6 by /64; a network is a /24 or a /48; the title is the id."""
    rule = one(SHORT)
    assert (rule.title, rule.by, rule.ipv4_prefix, rule.ipv6_prefix) == ("r", ("address",), 32, 64)
    rule = one(f'{SHORT}by = "network"')
    assert (rule.by, rule.ipv4_prefix, rule.ipv6_prefix) == (("network",), 24, 48)
    assert one('on = "auth"\nlimit = 1\nban = "forever"').ban_s is None
    assert one('on = "auth"\nlimit = 2\nwithin = 90\nban = 60.0').within_s == 90.0


def test_every_mistake_in_one_go() -> None:
    """Each with file, line, key, what was expected and the nearest valid word, in the order of the lines."""
    text = """\
[one]
on = "http-reqest"
limt = 3
limit = 0
within = "10 minutes"
ban = "forevr"
by = ["adress"]

[two]
on = "http-request"
limit = 3
where = { methd = "POST", path = "xmlrpc.php", status = 40400 }
enabled = "yes"
"""
    assert mistakes(text) == [
        'r.toml:2: one.on: expected one of http-request or auth; did you mean "http-request"?',
        (
            "r.toml:3: one.limt: unknown key; expected one of title, on, where, by, limit, within, distinct, ban, "
            'ipv4_prefix, ipv6_prefix, enabled or line; did you mean "limit"?'
        ),
        "r.toml:4: one.limit: expected a whole number from 1 to 100,000",
        (
            'r.toml:5: one.within: expected a duration such as "90s", "10m", "66h40m" or "1d12h", or a number of '
            "seconds, got '10 minutes'"
        ),
        (
            'r.toml:6: one.ban: expected a duration such as "90s", "10m", "66h40m" or "1d12h", or a number of seconds, '
            "got 'forevr'; did you mean \"forever\"?"
        ),
        (
            "r.toml:7: one.by: expected one or several of address, network, user, user_agent, path or vhost; "
            'did you mean "address"?'
        ),
        "r.toml:9: two: `within` is missing: the span in which `limit` events must fall, such as 10m",
        'r.toml:9: two: `ban` is missing: how long, such as 4h, or "forever"',
        (
            "r.toml:12: two.where.methd: unknown field; expected one of method, path, target, query, protocol, "
            'referer, user_agent, user, vhost, status, body_bytes, duration_s or crawler; did you mean "method"?'
        ),
        'r.toml:12: two.where.path: "xmlrpc.php": a path begins with "/"',
        "r.toml:12: two.where.status: a status is a whole number from 100 to 999",
        "r.toml:13: two.enabled: expected true or false",
    ]


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        ("where = { path = '' }", "r.where.path: expected a text that is not empty"),
        ("where = { path = [] }", "r.where.path: expected a text that is not empty"),
        ("where = { path = ['/a', '/a'] }", "a value stands twice"),
        ("where = { path = {} }", "nothing to compare with"),
        ("where = { path = { ignore_case = true } }", "nothing to compare with"),
        ("where = { path = { sufix = 'x' } }", 'did you mean "suffix"?'),
        ("where = { path = '/a//b' }", "slashes merged"),
        ("where = { path = { contains = '../' } }", "dot segments resolved"),
        ("where = { path = '/a?b' }", "ends before the ?"),
        ("where = { query = '?a=b' }", "leave the ? out"),
        ("where = { method = 'post' }", 'written in capitals; did you mean "POST"?'),
        ("where = { status = { min = 500, max = 400 } }", "nothing is at least 500 and at most 400"),
        ("where = { status = { min = [400] } }", "expected one number"),
        ("where = { status = true }", "expected a number"),
        ("where = { body_bytes = -1 }", "not negative"),
        ("where = { duration_s = nan }", "expected a number"),
        ("where = {}", "expected a table"),
        ("where = 'x'", "expected a table"),
        ("where = { any = [{ path = '/a' }] }", "at least two tables"),
        ("where = { any = [{ path = '/a' }, { any = [] }] }", "where.any[1].any: unknown field"),
        ("where = { path = { regex = '(' } }", "not a valid regex"),
        ("where = { user = { missing = 1 } }", "expected true or false"),
        ("where = { path = { contains = 'x', ignore_case = 1 } }", "expected true or false"),
        ("distinct = 'pth'", 'did you mean "path"?'),
        ("by = []", "expected one or several of"),
        ("by = ['path', 'path']", "a field stands twice"),
        ("by = ['address', 'network']", "part of its network"),
        ("ipv4_prefix = 8", "from 16 to 32"),
        ("ipv6_prefix = 129", "from 32 to 128"),
        ("title = ''", "expected a line of text"),
        ("title = 'a\\u001bb'", None),
        ("ipv4_prefix = true", "from 16 to 32"),
        ("line = '^<address>$'", "leave `on` out"),
    ],
)
def test_what_is_refused(body: str, problem: str | None) -> None:
    """Wrong types, empty values, words that do not exist, conditions that nothing can meet."""
    if problem is None:
        assert one(f"{SHORT}{body}").title == "a\\u001bb"  # a literal string of TOML knows no escapes
        return
    found = mistakes(f"[r]\n{SHORT}{body}\n")
    assert any(problem in each for each in found), found


@pytest.mark.parametrize(
    "body",
    [
        "limit = 4\ndistinct = 'path'\nwhere = { path = ['/a', '/b', '/c'] }",
        "limit = 2\ndistinct = 'path'\nby = ['address', 'path']",
        "limit = 2\ndistinct = 'address'",
    ],
)
def test_limits_that_cannot_be_reached(body: str) -> None:
    """A rule that can never fire is an error, not a comfort."""
    found = mistakes(f'[r]\non = "http-request"\nwithin = "1m"\nban = "1h"\n{body}\n')
    assert any("never reached" in each for each in found), found


@pytest.mark.parametrize("body", ["limit = 2.0", "limit = true", "limit = 100001", "limit = '3'"])
def test_limits_that_are_no_counts(body: str) -> None:
    """A limit is a whole number, and bounded: the engine keeps so many stamps for each key."""
    assert "expected a whole number from 1" in mistakes(f'[r]\non = "auth"\nban = 60\nwithin = 60\n{body}')[0]


def test_a_rule_for_auth_knows_its_fields_and_outcomes() -> None:
    """Fields of requests are no fields of logins."""
    body = '[r]\non = "auth"\nlimit = 1\nban = "1h"\n'
    assert 'did you mean "failure"?' in mistakes(f'{body}where = {{ outcome = "failur" }}')[0]
    assert (
        "unknown field; expected one of service, user, outcome or method"
        in mistakes(f"{body}where = {{ path = '/' }}")[0]
    )


def test_text_that_is_no_toml() -> None:
    """One mistake, with the line where reading stopped."""
    assert mistakes('[r]\nlimit = 3\nban = "x\n')[0].startswith("r.toml:3: not TOML: ")
    assert mistakes("x = 1")[0] == "r.toml:1: x: expected a table, [x], that holds a rule"
    assert "a rule's id is made of" in mistakes(f"[Big_Rule]\n{SHORT}")[0]


def test_a_shipped_rule_is_adjusted() -> None:
    """Some numbers alone; the rest stays as shipped."""
    base = {rule.id: rule for rule in load_shipped()}
    (rule,) = read_rules('[wordpress-login]\nlimit = 30\nban = "1h"\n', "own.toml", base)
    shipped = base["wordpress-login"]
    assert (rule.limit, rule.ban_s, rule.within_s, rule.where) == (30, 3600.0, shipped.within_s, shipped.where)
    assert (rule.shipped, rule.origin.file) == (True, "own.toml")
    (rule,) = read_rules("[request-flood]\nenabled = false\n", "own.toml", base)
    assert not rule.enabled


def test_a_shipped_rule_is_replaced() -> None:
    """A whole rule of the same id takes its place, with all that follows for a rule of a user."""
    base = {rule.id: rule for rule in load_shipped()}
    (rule,) = read_rules(f"[wordpress-login]\n{SHORT}", "own.toml", base)
    assert (rule.limit, rule.where.is_empty(), rule.shipped) == (1, True, False)


def test_mistakes_in_adjusting() -> None:
    """Half a rule, or one that does not exist."""
    assert "only limit, within, ban or enabled can be set alone" in mistakes("[wordpress-login]\nby = 'path'\n")[0]
    assert mistakes("[wordpres-login]\nlimit = 3\n") == [
        (
            "r.toml:1: wordpres-login: no shipped rule has this id, so it cannot be adjusted; "
            'did you mean "wordpress-login"?'
        )
    ]
    assert 'did you mean "limit"?' in mistakes("[wordpress-login]\nlimits = 3\n")[0]
    assert "`on` is missing" in mistakes("[mine]\nlimit = 3\nwithin = 60\nban = 60\nby = 'user'\n")[0]
