"""What is proposed: sound rules, and what they would have done to the same logs."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest
from explain_made import fact
from hypothesis import given
from hypothesis import strategies as st

from tocsin.detect.contrast import Contrast
from tocsin.explain.accuse import Accused
from tocsin.explain.capacity import capacity_of
from tocsin.explain.effect import with_effects
from tocsin.explain.model import Cause, Coverage, Incident, Remedy, Report, Suspect, say
from tocsin.explain.remedies import denial_of, name_of, remedies_of, server_of, toml_of
from tocsin.explain.suspects import Carried
from tocsin.model import HttpRequest, Signature
from tocsin.rules import compile_rule, read_rules
from tocsin.server_events import AppError, LimitReached, Processes, Sample

LINE = '{} - - [14/Sep/2026:13:33:{:02} +0000] "POST /xmlrpc.php HTTP/1.1" 200 5 "-" "x"\n'
BY_HAND = "tocsin ban 203.0.113.0 --for 1d"
TEXTS = st.none() | st.text(min_size=1, max_size=30)


@given(TEXTS, TEXTS, TEXTS, TEXTS, TEXTS)
def test_any_class_makes_a_sound_rule(
    method: str | None, path: str | None, query: str | None, vhost: str | None, agent: str | None
) -> None:
    """Whatever an attacker wrote into requests, the rule says it and nothing else, or there is none."""
    text = toml_of("explained-x", "request-flood", Signature(method, path, query, vhost, agent), 3)
    if text:
        (rule,) = read_rules(text, "explained.toml", {})
        assert rule.id == "explained-x"


def test_a_class_of_usual_requests_makes_a_rule() -> None:
    assert toml_of("x", "t", Signature("POST", "/xmlrpc.php", "s=", "shop.example", 'a "𐀀" \x7f'), 3)


def test_apache_and_nginx_turn_a_class_away() -> None:
    signature = Signature("POST", "/xmlrpc.php", user_agent="Evil (bot)")
    apache = denial_of(signature, [fact(0, AppError(0.0, "apache2", "error"))])
    assert apache.splitlines()[2:] == [
        "RewriteCond %{REQUEST_METHOD} =POST",
        'RewriteCond %{HTTP_USER_AGENT} "Evil\\ \\(bot\\)"',
        r"RewriteRule ^/xmlrpc\.php$ - [R=429,L]",
    ]
    full = fact(0, LimitReached(0.0, "php-fpm", "listen queue"), "connect() to unix:/run/php.sock failed (11: x)")
    assert "location" in denial_of(Signature("POST", "/xmlrpc.php"), [full])
    nginx = denial_of(Signature("POST", "/xmlrpc.php"), [fact(0, AppError(0.0, "nginx", "error"))])
    assert nginx == "location = /xmlrpc.php {\n    if ($request_method = POST) { return 429; }\n}"


@pytest.mark.parametrize("path", ['/a"b', "/a\nDeny", "/a;b}", "/*", "/a\\b"])
def test_a_path_that_could_mean_something_in_a_configuration_is_not_put_there(path: str) -> None:
    assert denial_of(Signature("POST", path), []) == ""


def effects(log: Path, path: str, *guilty: str, limit: int = 3) -> Incident:
    rule = toml_of("explained-x", "request-flood", Signature("POST", path), limit)
    remedy = Remedy(say("this rule"), rule, rule="explained-x", instead="deny")
    incident = Incident(0.0, 0.0, 0.0, "request-flood", 0.9, say("x"), (), (), guilty, remedies=(remedy,))
    return with_effects(Report((Coverage(str(log), "access", None, None, 20, 0),), (incident,), quiet=False)).incidents[
        0
    ]


def test_a_rule_is_replayed_over_the_same_logs(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(LINE.format(f"203.0.113.{i % 2}", i) for i in range(20)))
    (told,) = effects(log, "/xmlrpc.php", "203.0.113.0", "203.0.113.1").remedies
    assert (told.rule, told.text.args["banned"], told.text.args["stopped"]) == ("explained-x", 2, 14)


def test_a_rule_that_bans_others_or_stops_nothing_is_none(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(LINE.format(f"203.0.113.{i % 2}", i) for i in range(20)))
    for incident in (
        effects(log, "/xmlrpc.php", "203.0.113.0"),
        effects(log, "/other.php", "203.0.113.0"),
    ):
        assert [(remedy.rule, remedy.apply) for remedy in incident.remedies] == [("", "deny"), ("", BY_HAND)]
        assert incident.notes[0].text.startswith("no rule is proposed")


def test_a_higher_limit_spares_who_asks_now_and_then(tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    log.write_text("".join(LINE.format("203.0.113.1" if i % 6 else "192.0.2.7", i) for i in range(30)))
    (told,) = effects(log, "/xmlrpc.php", "203.0.113.1").remedies
    assert "limit  = 10\n" in told.apply
    assert told.text.args["stopped"] == 15


@pytest.mark.parametrize(
    ("query", "matched"), [("s=hefe", True), ("a=1&s=", True), ("items=3", False), ("news=2&as=1", False)]
)
def test_a_parameter_is_matched_where_its_name_begins(query: str, matched: bool) -> None:
    assert is_banned(Signature("GET", "/", "s="), query) is matched


@pytest.mark.parametrize(
    ("query", "matched"), [("page-1", True), ("a&page-1&b", True), ("page-12", False), ("mypage-1", False)]
)
def test_a_pair_is_matched_whole(query: str, matched: bool) -> None:
    assert is_banned(Signature("GET", "/", "page-1"), query) is matched


@pytest.mark.parametrize(
    ("path", "matched"), [("/u/r/blame/1", True), ("/u/r/blame/1/2", False), ("/u/r/raw/1", False)]
)
def test_what_varies_in_a_path_is_one_part_of_it(path: str, matched: bool) -> None:
    assert is_banned(Signature("GET", "/*/*/blame/*"), "", path) is matched


def is_banned(signature: Signature, query: str, path: str = "/") -> bool:
    """Whether the rule against a class counts a request."""
    (rule,) = read_rules(toml_of("x", "t", signature, 2), "x", {})
    return compile_rule(rule).predicate(HttpRequest(0.0, "192.0.2.1", method="GET", path=path, query=query))


def test_what_ran_when_memory_gave_out_did_not_fit() -> None:
    """The kernel's own share stands in no process's row: 16 workers and a database are 895 of 980 MiB."""
    table = (Processes("apache2", 16, 594 << 20), Processes("mariadbd", 1, 301 << 20))
    capacity = capacity_of([fact(0, Sample(0.0, "oom-report", table, memory_bytes=980 << 20))])
    assert capacity.fitting == 15
    first, last = remedies_of("unknown", None, [], capacity)
    assert (first.apply[:1], last.apply) == ("*", "MaxRequestWorkers 13")  # what is not proven is asked about first
    calm = capacity_of([fact(0, Sample(0.0, "ps", table, memory_bytes=980 << 20))])
    assert calm.fitting == 18


def test_each_class_has_a_rule_of_its_own() -> None:
    names = {name_of(Signature("POST", "/xmlrpc.php", user_agent=agent)) for agent in ("a", "b", None)}
    assert len(names) == 3
    assert all(name.startswith("explained-xmlrpc-php-") for name in names)


def of_class(cause: Cause, signature: Signature, requests: int, addresses: str, agent: str = "x") -> Accused:
    """A class of requests from four addresses."""
    each = dict.fromkeys((addresses.format(i) for i in range(4)), requests // 4)
    contrast = Contrast((), 1.0, 1.0, 9.0, requests, 3, 1.0, 0.0)
    carried = Carried(contrast, signature, (), each, Counter({agent: requests}), requests, 0.0, 0.0, 0.0, 1.0)
    return Accused(Suspect("requests", cause, say("x"), say("x"), signature), 0.9, carried)


@pytest.mark.parametrize(("requests", "kinds"), [(5, ["deny"]), (40, ["rule"])])
def test_who_comes_but_once_is_denied_not_banned(requests: int, kinds: list[str]) -> None:
    """Whatever the cause is called: a ban that begins with the last request stops nothing."""
    accused = of_class("expensive-requests", Signature("GET", "/", "s="), requests, "192.0.2.{}")
    found = remedies_of("expensive-requests", accused, [], capacity_of([]))
    assert ["rule" if one.rule else "deny" for one in found if one.apply] == kinds
    assert all("limit  = 3\n" in one.apply and "QUERY_STRING" in one.instead for one in found if one.rule)


GOOGLE = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


@pytest.mark.parametrize(
    ("path", "query", "pattern"),
    [
        ("/c/*/", "orderby=", "/c/*/?*orderby="),
        (None, "filter=", "/*?*filter="),
        ("/search", None, "/search"),
        ("/search", "", "/search$"),
        (None, None, None),
        ("/", None, None),
        ("/a\nAllow", None, None),
    ],
)
def test_googlebot_is_told_what_not_to_fetch_and_is_not_turned_away(
    path: str | None, query: str | None, pattern: str | None
) -> None:
    """It minds no Crawl-delay; and who is genuine is to be asked, not shut out."""
    accused = of_class("crawler", Signature("GET", path, query), 400, "66.249.66.{}", GOOGLE)
    found = remedies_of("crawler", accused, [], capacity_of([]))
    assert [one.apply for one in found] == [f"User-agent: Googlebot\nDisallow: {pattern}" if pattern else ""]


@pytest.mark.parametrize("agent", [GOOGLE, "FooBot/1.0"])
def test_who_only_says_so_is_turned_away_and_a_crawler_that_obeys_is_slowed_down(agent: str) -> None:
    accused = of_class("crawler", Signature("GET", "/", "s="), 400, "192.0.2.{}", agent)
    rule, slower = remedies_of("crawler", accused, [], capacity_of([]))
    assert rule.rule
    assert slower.apply == f"User-agent: {(agent.startswith('Foo') and 'FooBot') or 'Googlebot'}\nCrawl-delay: 10"


def test_no_cache_is_advised_for_a_login() -> None:
    for path, told in (("/wp-login.php", False), ("/news", True)):
        accused = of_class("legitimate-surge", Signature(None, path), 400, "192.0.2.{}")
        (found,) = remedies_of("legitimate-surge", accused, [], capacity_of([]))
        assert ("let a page cache answer" in found.text.text) is told


CADDY = '{"level":"info","ts":1.5,"logger":"http.log.access.log0","msg":"handled request","request":{}}'
TRAEFIK = '{"ClientAddr":"192.0.2.1:3","DownstreamStatus":200,"RouterName":"a@docker"}'
CLF = '192.0.2.1 - - [14/Sep/2026:13:33:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'


@pytest.mark.parametrize(
    ("line", "server"),
    [(CADDY, "caddy"), (TRAEFIK, "traefik"), (CLF, ""), (f'{CLF} 7 "a@docker" "http://10.0.0.2:80" 12ms', "traefik")],
)
def test_caddy_and_traefik_are_not_given_apaches_lines(line: str, server: str) -> None:
    assert server_of(line) == server
    accused = of_class("distributed-flood", Signature("GET", "/", "s="), 400, "192.0.2.{}")
    found = remedies_of("distributed-flood", accused, [], capacity_of([]), front=server)
    assert any("RewriteRule" in one.apply for one in found) is (not server)
    assert "banned too late" not in " ".join(one.text.text for one in found), "each came a hundred times"
