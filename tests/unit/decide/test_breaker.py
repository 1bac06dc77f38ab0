"""Visitors and the breaker: rules that go wild trip it; attackers do not, whatever they try cheaply."""

from __future__ import annotations

import random
from collections.abc import Iterator
from zlib import crc32

import pytest

from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings, Reset, Tripped
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.visitors import Visitors, is_asset, page_key, referer_key
from tocsin.model import Decision, Evidence, Finding, HttpRequest

T0 = 1_431_861_456.0
SITE = "https://example.org"


class Rule:
    """A rule small enough to be seen through: which requests it counts, and from which number on it finds."""

    def __init__(self, name: str, limit: int, **where: str) -> None:
        self.name, self.limit, self.where = name, limit, where

    def counts(self, request: HttpRequest) -> bool:
        return all(getattr(request, field).startswith(value) for field, value in self.where.items())


class Machine:
    """A guard in small: rules count, the policy decides, who is banned gets nothing through."""

    def __init__(self, *rules: Rule, settings: BreakerSettings | None = None, visitors: Visitors | None = None) -> None:
        self.rules = rules
        self.visitors = visitors or Visitors()
        self.lines: list[HttpRequest] = []
        breaker = Breaker(settings or BreakerSettings(), self.visitors, lambda line: self.lines[line.offset])
        self.policy = Policy(PolicySettings(), AllowList(), breaker=breaker)
        self.breaker = breaker
        self.counted: dict[tuple[str, str], list[int]] = {}
        self.decisions: list[Decision] = []

    def play(self, requests: Iterator[HttpRequest] | list[HttpRequest]) -> None:
        for request in sorted(requests, key=lambda one: one.ts):
            self.take(request)

    def take(self, request: HttpRequest) -> None:
        assert request.source_ip is not None
        if self.policy.until_ts(request.source_ip, request.ts) is not None:
            return
        self.lines.append(request)
        matched = False
        for rule in self.rules:
            if not rule.counts(request):
                continue
            matched = True
            slot = self.counted.setdefault((rule.name, request.source_ip), [])
            slot.append(len(self.lines) - 1)
            if len(slot) >= rule.limit:
                evidence = tuple(Evidence("log", 0, at, "") for at in slot[-10:])
                slot.clear()
                finding = Finding(
                    f"{len(self.lines)}", rule.name, request.source_ip, request.ts, rule.limit, 600.0, evidence
                )
                decision = self.policy.decide(finding, 3600.0)
                self.decisions += [decision] if decision else []
                self.decisions += self.policy.take_lifts()
        self.visitors.note(request, request.source_ip, matched=matched)

    def banned(self) -> set[str]:
        return {d.subject for d in self.decisions if d.action == "ban" and d.held is None}


def get(
    ip: str, ts: float, path: str, status: int = 200, referer: str | None = None, method: str = "GET"
) -> HttpRequest:
    return HttpRequest(
        ts, ip, method, path, path.partition("?")[0], "", "HTTP/1.1", status, 100, referer, "Mozilla/5.0"
    )


def assets(ip: str, ts: float, page: str, number: int = 4) -> list[HttpRequest]:
    names = ("/style.css", "/script.js", "/logo.png", "/font.woff2")
    paths = [names[n] if n < 4 else f"/img/{n}.jpg" for n in range(number)]
    return [get(ip, ts + 0.1 + n / 1000, path, referer=SITE + page) for n, path in enumerate(paths)]


def visit(ip: str, ts: float, pages: int = 4) -> list[HttpRequest]:
    """A browser: a page with its assets, then links from page to page, home again now and then."""
    requests = [get(ip, ts, "/", referer="https://search.example/"), *assets(ip, ts, "/")]
    last = "/"
    for number in range(1, pages):
        page = "/" if number % 2 == 0 else f"/post-{number}"
        requests.append(get(ip, ts + 20 * number, page, referer=SITE + last))
        requests += assets(ip, ts + 20 * number, page, 1)
        last = page
    return requests


def network(number: int) -> str:
    return f"{20 + number // 250}.{number % 250}"


def crowd(number: int, ts: float = T0) -> list[HttpRequest]:
    """So many visitors from as many networks, over a quarter of an hour."""
    return [request for n in range(number) for request in visit(f"{network(n)}.7.{n % 200}", ts + n * 900 / number, 6)]


XMLRPC = Rule("xmlrpc", 3, method="POST", path="/xmlrpc.php")
WILD = Rule("wild", 3, path="/")


# -- what a visitor is -----------------------------------------------------------------------------------------------


def is_visitor(requests: list[HttpRequest]) -> bool:
    visitors = Visitors()
    for request in requests:
        visitors.note(request, "192.0.2.7")
    return bool(visitors.hit_by("192.0.2.7"))


ME = "192.0.2.7"
PROBES = [get(ME, T0 + 5 + n, f"/wp-content/{n}.php", 404) for n in range(3)]


@pytest.mark.parametrize(
    ("requests", "expected"),
    [
        (visit(ME, T0), True),
        ([get(ME, T0 - 2 + n, "/", 429) for n in range(2)] + visit(ME, T0, 1), True),
        ([get(ME, T0 - 2 + n, "/", 403) for n in range(2)] + visit(ME, T0, 1), False),
        (visit(ME, T0, 1), True),
        ([get(ME, T0, "/"), *assets(ME, T0, "/", 1)], True),
        ([get(ME, T0, "/")] * 10, False),
        ([get(ME, T0, "/", 404), *assets(ME, T0, "/")], False),
        ([get(ME, T0, "/"), *assets(ME, T0, "/other")], False),
        ([get(ME, T0, "/"), *[get(ME, T0 + 2, f"/{n}.css") for n in range(4)]], True),  # keeps its referers to itself
        ([get(ME, T0, "/"), *[get(ME, T0 + 20, f"/{n}.css") for n in range(4)]], False),  # too late for a browser
        ([*assets(ME, T0, "/"), get(ME, T0 + 1, "/")], True),  # nginx logs a page when all of it is sent
        ([*assets(ME, T0, "/"), get(ME, T0 + 1, "/other"), get(ME, T0 + 2, "/")], False),
        ([get(ME, T0, "/ana/tool"), get(ME, T0 + 1, "/avatars/4f2a", 200, SITE + "/ana/tool")], True),
        ([get(ME, T0, "/", 304), *[get(ME, T0, f"/{n}.css", 304, SITE + "/") for n in range(4)]], True),
        (visit(ME, T0, 1) + PROBES, False),
        ([get(ME, T0, "/"), *assets(ME, T0, "/", 60), *PROBES], False),  # one heavy page is no alibi
        (visit(ME, T0, 12) + PROBES, True),  # a dead link or two make no attacker
        (visit(ME, T0, 3) + [get(ME, T0 + 90, "/ajax", 200, SITE + "/", "POST")] * 30, True),
        (visit(ME, T0, 3) + [get(ME, T0 + 90, "/xmlrpc.php", 200, None, "POST")] * 30, False),
        (visit(ME, T0, 3) + [get(ME, T0 + 90, f"/?s={n}", 200, SITE + "/") for n in range(30)], False),
    ],
)
def test_who_behaves_like_a_visitor(requests: list[HttpRequest], expected: bool) -> None:
    assert is_visitor(requests) is expected


def test_a_visitor_is_one_for_a_while() -> None:
    visitors = Visitors(lately_s=3600)
    for request in visit(ME, T0, 1):
        visitors.note(request)
    visitors.note(get("198.51.100.1", T0 + 3600, "/x", 404))
    assert visitors.hit_by(ME)
    visitors.note(get("198.51.100.1", T0 + 3602, "/x", 404))
    assert not visitors.hit_by(ME)


def test_ipv6_visitors_are_known_by_their_64() -> None:
    visitors = Visitors()
    for request in visit("2001:db8:1:2:3:4:5:6", T0):
        visitors.note(request)
    assert visitors.of("2001:db8:1:2::/64") is not None
    assert set(visitors.hit_by("2001:db8:1:2::/64")) == {"2001:db8:1:2::/64"}
    assert set(visitors.hit_by("2001:db8::/32")) == {"2001:db8:1:2::/64"}
    assert visitors.hit_by("2001:db9::/32") == {}


@pytest.mark.parametrize(
    ("referer", "target"),
    [
        ("https://example.org/a/b?c=d#e", "/a/b?x=y"),
        ("http://example.org:8080/", "/"),
        ("https://example.org/%C3%A9", "/%C3%A9"),
    ],
)
def test_a_referer_names_a_page_whatever_its_query(referer: str, target: str) -> None:
    assert referer_key(referer) == page_key(target)


@pytest.mark.parametrize("referer", [None, "", "-", "https://example.org", "about:blank", "/", "\udcff"])
def test_what_names_no_page(referer: str | None) -> None:
    assert referer_key(referer) == 0


def test_assets_are_told_by_their_ending() -> None:
    assert all(map(is_asset, ("/a.css", "/A.JPG", "/x/y.woff2", "/.js")))
    assert all(map(is_asset, ("/avatars/4f2a", "/git/repo-avatars/7")))
    assert not any(map(is_asset, ("/ana/avatars/commit/4f2a", "/ana/avatar-tool", "/avatars")))
    assert not any(map(is_asset, ("/", "", "/a.php", "/css", "/a.css/b", "/.env")))


# -- the sample ------------------------------------------------------------------------------------------------------


def test_the_table_is_bounded_and_visitors_outlast_a_flood() -> None:
    visitors = Visitors(max_addresses=512)
    for request in sorted(crowd(60), key=lambda one: one.ts):
        visitors.note(request)
    before = visitors.sites_seen()
    assert before == 60
    for number in range(50_000):  # the flood changes its address with every request
        ip = f"{100 + (number >> 16)}.{number >> 8 & 255}.{number & 255}.9"
        visitors.note(get(ip, T0 + 1000 + number / 100, "/xmlrpc.php", 200, None, "POST"))
        assert sum(1 for _ in visitors.lately()) <= 512
    assert 0 < visitors.sites_seen() <= before


def test_the_sample_recovers_after_a_flood() -> None:
    visitors = Visitors(max_addresses=64)
    for number in range(5000):
        visitors.note(get(f"10.0.{number >> 8}.{number & 255}", T0, "/x", 404))
    assert not all(visitors.sampled(f"30.0.0.{n}") for n in range(250))
    for hours in range(1, 40):
        visitors.note(get("192.0.2.1", T0 + 3600 * hours, "/x", 404))
    assert all(visitors.sampled(f"30.0.0.{n}") for n in range(250))


def test_addresses_chosen_to_be_in_every_sample_do_not_break_the_bound() -> None:
    visitors = Visitors(max_addresses=8)
    chosen = [ip for n in range(1 << 20) if not crc32((ip := f"{n >> 12}.{n >> 4 & 255}.{n & 15}.1").encode()) & 0xFFFF]
    assert len(chosen) >= 12, "more than fit"
    for ip in chosen:
        visitors.note(get(ip, T0, "/x", 404))
    assert sum(visitors.of(ip) is not None for ip in chosen) <= 8


# -- the breaker -----------------------------------------------------------------------------------------------------


def test_a_rule_that_goes_wild_stops_banning_and_says_so() -> None:
    machine = Machine(WILD, XMLRPC)
    machine.play(crowd(60))
    (tripped,) = machine.policy.take_notices()
    assert isinstance(tripped, Tripped)
    assert tripped.rule == "wild"
    assert tripped.visitors >= 5
    for part in (
        "rule wild has stopped banning",
        f"{tripped.visitors} of the",
        "tocsin rules reset wild",
        tripped.examples[0],
    ):
        assert part in tripped.text
    held = [d for d in machine.decisions if d.held]
    assert held, "it goes on observing"
    assert all(d.held is not None and d.held.startswith("breaker: ") for d in held)
    assert machine.policy.desired(T0 + 2000) == {}, "the bans of visitors that it had caused are lifted"
    lifts = [d for d in machine.decisions if d.action == "lift"]
    assert {d.subject for d in lifts} == machine.banned()
    assert {d.lifts for d in lifts} == {d.id for d in machine.decisions if d.action == "ban" and d.held is None}
    assert len(machine.banned()) < 15


def test_other_rules_go_on_banning() -> None:
    machine = Machine(WILD, XMLRPC)
    machine.play(crowd(60))
    machine.play([get("198.51.100.1", T0 + 2000 + n, "/xmlrpc.php", 200, None, "POST") for n in range(3)])
    assert "198.51.100.1" in machine.policy.desired(T0 + 2100)


@pytest.mark.parametrize(
    "wild", [Rule("flood", 5), Rule("agent", 2, user_agent="Mozilla"), Rule("css", 2, path="/style.css")]
)
def test_rules_can_go_wild_in_many_ways(wild: Rule) -> None:
    machine = Machine(wild)
    machine.play(crowd(60))
    assert set(machine.breaker.tripped()) == {wild.name}


def test_a_page_with_broken_pictures_makes_a_sweep_rule_wild() -> None:
    class Missing(Rule):
        def counts(self, request: HttpRequest) -> bool:
            return request.status == 404

    requests = crowd(60)
    for n in range(60):
        ip = f"{network(n)}.7.{n % 200}"
        requests += [get(ip, T0 + n * 15 + 5 + k / 10, f"/img/{k}.png", 404, SITE + "/") for k in range(12)]
    machine = Machine(Missing("sweep-404", 10))
    machine.play(requests)
    assert set(machine.breaker.tripped()) == {"sweep-404"}


def attack(ip: str, ts: float, number: int = 4, referer: str | None = None) -> list[HttpRequest]:
    return [get(ip, ts + n * 2, "/xmlrpc.php", 200, referer, "POST") for n in range(number)]


def bots(number: int) -> list[str]:
    return [f"{60 + n // 200}.{n % 200}.9.9" for n in range(number)]


def test_ten_thousand_attackers_do_not_trip_it() -> None:
    machine = Machine(XMLRPC)
    attackers = [f"{60 + n // 200}.{n % 200}.9.9" for n in range(10_000)]
    machine.play(crowd(60) + [r for n, ip in enumerate(attackers) for r in attack(ip, T0 + n / 10)])
    assert machine.policy.take_notices() == []
    assert machine.banned() == set(attackers)


def test_bots_that_fetch_a_page_with_its_assets_first_do_not_trip_it() -> None:
    machine = Machine(XMLRPC, Rule("search", 10, target="/?s="))
    requests = crowd(30)
    for n, ip in enumerate(bots(400)):
        ts = T0 + n
        requests += [get(ip, ts, "/"), *assets(ip, ts, "/", 40 if n % 2 else 4)]
        requests += attack(ip, ts + 5)
        other = f"{ip[:-1]}8"
        requests += [get(other, ts, "/"), *assets(other, ts, "/", 40 if n % 2 else 4)]
        requests += [get(other, ts + 5 + k / 10, f"/?s={k}") for k in range(12)]
    machine.play(requests)
    assert machine.policy.take_notices() == []
    assert len(machine.banned()) == 800


def test_nor_do_bots_that_browse_all_the_time_and_forge_referers() -> None:
    machine = Machine(XMLRPC)
    requests = crowd(30)
    for n, ip in enumerate(bots(100)):
        requests += visit(ip, T0 + n, 10) + attack(ip, T0 + n + 195, referer=SITE + "/")
    machine.play(requests)
    assert machine.policy.take_notices() == [], "what the rule counted is not what visitors do"
    assert machine.banned() == set(bots(100))


def test_one_network_cannot_trip_it() -> None:
    machine = Machine(WILD)
    machine.play([r for n in range(200) for r in visit(f"20.20.{n}.7", T0 + n, 6)])
    assert machine.policy.take_notices() == []


def test_a_few_among_many_visitors_do_not_trip_it() -> None:
    rule = Rule("private", 3, path="/private")
    requests = crowd(200)
    for ip in bots(8):
        requests += visit(ip, T0 + 900, 2)
        requests += [get(ip, T0 + 950 + n, f"/private/{n}", 200, SITE + "/") for n in range(3)]
    machine = Machine(rule)
    machine.play(requests)
    assert machine.policy.take_notices() == [], "8 of 200 are not a tenth"
    assert machine.banned() == set(bots(8))


def test_bans_of_attackers_stay_when_a_rule_trips() -> None:
    machine = Machine(WILD)
    floods = [get("198.51.100.1", T0 - 100 + n, "/", 200) for n in range(10)]
    machine.play(floods + crowd(60))
    assert machine.breaker.tripped()
    assert set(machine.policy.desired(T0 + 1000)) == {"198.51.100.1"}


def test_a_ban_that_another_rule_made_longer_is_not_lifted() -> None:
    machine = Machine(WILD)
    machine.play(visit(ME, T0, 6))
    assert machine.banned() == {ME}
    machine.policy.decide(Finding("f", "injection", ME, T0 + 200, 1, 60.0), 10 * 86400.0)
    machine.play(crowd(60, T0 + 300))
    assert machine.breaker.tripped()
    assert set(machine.policy.desired(T0 + 1500)) == {ME}


def test_it_stays_tripped_until_the_operator_resets_it() -> None:
    machine = Machine(WILD)
    machine.play(crowd(60))
    machine.policy.take_notices()
    assert machine.breaker.reset("wild", T0 + 5000)
    assert not machine.breaker.reset("wild", T0 + 5000)
    (notice,) = machine.policy.take_notices()
    assert isinstance(notice, Reset)
    assert notice.text == "rule wild bans again: reset by the operator"
    machine.play([get("198.51.100.1", T0 + 5001 + n, "/") for n in range(3)])
    assert "198.51.100.1" in machine.policy.desired(T0 + 5010)


def test_a_day_without_visitors_hit_resets_it() -> None:
    machine = Machine(WILD)
    machine.play(crowd(60))
    for hours, tripped in ((1, True), (23, True), (25, False)):
        machine.play([get(f"198.51.100.{hours}", T0 + hours * 3600 + n, "/") for n in range(3)])
        assert bool(machine.breaker.tripped()) is tripped
    assert [type(notice) for notice in machine.policy.take_notices()] == [Tripped, Reset]
    assert set(machine.policy.desired(T0 + 25 * 3600 + 10)) == {"198.51.100.25"}


def test_all_of_it_survives_a_restart() -> None:
    requests = sorted(crowd(60), key=lambda one: one.ts)
    rng = random.Random(7)
    whole = Machine(WILD)
    whole.play(requests)
    cut = rng.randrange(len(requests) // 4, len(requests) // 2)
    first = Machine(WILD)
    first.play(requests[:cut])
    second = Machine(WILD)
    second.lines, second.counted = first.lines, first.counted
    second.policy = Policy(
        PolicySettings(),
        AllowList(),
        breaker=second.breaker,
        active=first.policy.desired(requests[cut].ts),
    )
    second.policy.load(first.policy.dump())
    second.play(requests[cut:])
    assert first.decisions + second.decisions == whole.decisions
    assert second.policy.dump() == whole.policy.dump()


def test_evidence_that_cannot_be_read_again_counts_for_nothing() -> None:
    visitors = Visitors()
    for request in crowd(20):
        visitors.note(request)
    breaker = Breaker(BreakerSettings(), visitors, lambda _: None)
    for n in range(20):
        found = Finding("f", "rule", f"{network(n)}.7.{n}", T0 + 900, 1, 60.0, (Evidence("log", 0, 0, ""),))
        assert breaker.hit(found) == {}
    assert breaker.tripped() == {}


def test_a_rule_that_leaves_no_time_to_visit_is_judged_by_those_who_visited_before() -> None:
    machine = Machine(XMLRPC)
    machine.play(crowd(60))
    machine.rules = (Rule("first-request", 1, path="/"),)
    machine.play(crowd(60, T0 + 1200))
    assert set(machine.breaker.tripped()) == {"first-request"}
    assert len(machine.banned()) < 15
