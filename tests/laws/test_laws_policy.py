"""Laws of the policy: it never bans who is safe, is deterministic and bounded, and the ledger holds what it holds."""

from __future__ import annotations

import math
import tempfile
from ipaddress import ip_network
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.policy import Policy, PolicySettings, RefusedError, Terms
from tocsin.decide.visitors import Visitors
from tocsin.ledger.load import load
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Evidence, Finding, HttpRequest, is_host, parts_of

T0 = 1_431_861_456.0
MEMORY_S = 5000.0

# Few addresses, close together, so that they meet each other and the prefixes around them.
addresses = st.builds("10.0.{}.{}".format, st.integers(0, 1), st.integers(0, 7)) | st.builds(
    "2001:db8:0:{:x}::/64".format, st.integers(1, 6)
)
prefixes = st.builds("10.0.{}.{}/{}".format, st.integers(0, 1), st.integers(0, 7), st.integers(20, 32)).map(
    lambda text: str(ip_network(text, strict=False)).removesuffix("/32")
) | st.builds("2001:db8:0:{:x}::/{}".format, st.integers(0, 6), st.integers(60, 64)).map(
    lambda text: str(ip_network(text, strict=False))
)
lengths = st.sampled_from([None, 1.0, 60.0, 600.0, 4000.0])
# Rules, and what their bans close.
SERVICES = {"a": "", "b": "", "c": "tcp/22", "d": "tcp/80,udp/53"}
TERMS = {rule: Terms(services=services) for rule, services in SERVICES.items()}
findings = st.tuples(st.just("finding"), addresses | prefixes, st.sampled_from(sorted(SERVICES)), lengths)
bans = st.tuples(st.just("ban"), prefixes, st.just(""), lengths)
lifts = st.tuples(st.just("lift"), prefixes, st.just(""), st.none())
steps = st.lists(
    st.tuples(st.sampled_from([0.25, 0.5, 30.0, 700.0, 6000.0]), findings | bans | lifts | findings), max_size=40
)
allowed = st.lists(st.tuples(addresses | prefixes, st.just("safe")), max_size=3)

Steps = list[tuple[float, tuple[str, str, str, float | None]]]


def overlap(one: str, other: str) -> bool:
    first, second = ip_network(one), ip_network(other)
    return first.version == second.version and bool(first.overlaps(second))


def play(policy: Policy, script: Steps) -> tuple[list[Decision], float]:
    now_ts, decisions = T0, list[Decision]()
    for number, (pause_s, (kind, subject, rule, seconds)) in enumerate(script):
        now_ts += pause_s
        if kind == "finding":
            decision = policy.decide(Finding(f"f{number}", rule, subject, now_ts, 3, 600.0), seconds, TERMS[rule])
            made = [decision] if decision else []
        elif kind == "lift":
            made = policy.lift(subject, now_ts)
        else:
            try:
                made = [policy.ban(subject, seconds, now_ts)]
            except RefusedError:
                made = []
        decisions += policy.take_lifts() + made
        if number % 3 == 0:
            policy.expire(now_ts)
    return decisions, now_ts


def make(allow: list[tuple[str, str]], max_active: int = 100) -> Policy:
    return Policy(PolicySettings(memory_s=MEMORY_S, max_s=8000.0, max_active=max_active), AllowList(allow))


@given(steps, allowed)
def test_nobody_who_is_safe_is_ever_banned(script: Steps, allow: list[tuple[str, str]]) -> None:
    policy = make(allow)
    decisions, _ = play(policy, script)
    for decision in decisions:
        if decision.action == "ban" and decision.held is None:
            assert not any(overlap(decision.subject, entry) for entry, _ in allow)
        if decision.held is not None:
            assert any(overlap(decision.subject, entry) for entry, _ in allow)


@given(steps, allowed)
def test_the_same_findings_give_the_same_decisions(script: Steps, allow: list[tuple[str, str]]) -> None:
    one, other = make(allow), make(allow)
    assert play(one, script) == play(other, script)
    assert one.dump() == other.dump()


@given(steps, st.integers(1, 4))
def test_what_is_in_force_follows_from_the_decisions_and_is_bounded(script: Steps, max_active: int) -> None:
    policy = make([], max_active)
    decisions, now_ts = play(policy, script)
    in_force: dict[str, float | None] = {}
    by_id: dict[str, str] = {}
    for decision in decisions:
        if decision.action == "ban":
            assert by_id.get(decision.id, decision.target) == decision.target
            assert not decision.services or is_host(decision.subject)
            by_id[decision.id] = decision.target
            in_force[decision.target] = decision.end_ts
        else:
            assert by_id[decision.lifts or ""] == decision.target, "a lift names a ban that was made"
            del in_force[decision.target]
    desired = policy.desired(now_ts)
    assert desired == {s: end_ts for s, end_ts in in_force.items() if end_ts is None or end_ts > now_ts}
    assert len(desired) <= max_active
    for target in desired:
        subject, services = parts_of(target)
        assert policy.until_ts(subject, now_ts, services) is not None


@given(steps)
def test_a_lift_lets_through_and_what_was_banned_stays_banned_until_then(script: Steps) -> None:
    policy = make([])
    _, now_ts = play(policy, script)
    for target in list(policy.desired(now_ts)):
        subject, services = parts_of(target)
        policy.lift(subject, now_ts)
        assert policy.until_ts(subject, now_ts) is None
        assert policy.until_ts(subject, now_ts, services) is None
    assert policy.desired(now_ts) == {}


@settings(max_examples=40)
@given(steps)
def test_the_ledger_holds_what_the_policy_holds(script: Steps) -> None:
    policy = make([])
    decisions, now_ts = play(policy, script)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "ledger.db"
        ledger = Ledger(path, 1e9, 10_000, lambda: now_ts, MEMORY_S)
        for decision in decisions:
            ledger.decision(decision)
        ledger.start()
        assert ledger.close(30)
        loaded = load(path, now_ts, MEMORY_S)
        history = list(loaded.history)
    assert loaded.active == policy.desired(now_ts)
    again = Policy(policy.settings, policy.allow, history=history, active=loaded.active, starts=loaded.starts)
    for subject in sorted({decision.subject for decision in decisions}):
        for rule in SERVICES:
            found = Finding("f", rule, subject, now_ts + 1, 3, 600.0)
            assert again.decide(found, 600.0, TERMS[rule]) == policy.decide(found, 600.0, TERMS[rule])


# -- visitors and the breaker ----------------------------------------------------------------------------------------

clients = st.builds("{}.{}.0.1".format, st.integers(20, 22), st.integers(0, 9))
paths = st.sampled_from(["/", "/a", "/b", "/style.css", "/x.png", "/xmlrpc.php", "/?s=1"])
referers = st.sampled_from([None, "https://example.org/", "https://example.org/a", "https://other.example/"])
requests = st.lists(
    st.tuples(
        clients, paths, st.sampled_from([200, 304, 404]), referers, st.sampled_from(["GET", "POST"]), st.booleans()
    ),
    max_size=200,
)

Requests = list[tuple[str, str, int, str | None, str, bool]]


def watch(breaker: Breaker, lines: list[HttpRequest], script: Requests, first: int = 0) -> None:
    for at, (client, path, status, referer, method, found) in enumerate(script, first):
        request = HttpRequest(T0 + at, client, method, path, path.partition("?")[0], status=status, referer=referer)
        lines.append(request)
        if found:
            evidence = (Evidence("log", 0, at, ""),)
            breaker.hit(Finding(str(at), "rule", client, request.ts, 1, 60.0, evidence))
        breaker.visitors.note(request)


def new(lines: list[HttpRequest], max_addresses: int = 8) -> Breaker:
    return Breaker(BreakerSettings(min_visitors=2), Visitors(max_addresses), lambda line: lines[line.offset])


@given(requests, st.data())
def test_watching_visitors_is_deterministic_bounded_and_survives_restarts(
    script: Requests, data: st.DataObject
) -> None:
    lines: list[HttpRequest] = []
    whole = new(lines)
    watch(whole, lines, script)
    assert sum(1 for _ in whole.visitors.lately()) <= 8
    cut = data.draw(st.integers(0, len(script)))
    lines = []
    first = new(lines)
    watch(first, lines, script[:cut])
    second = new(lines)
    second.load(first.dump())
    watch(second, lines, script[cut:], cut)
    assert second.dump() == whole.dump()


@given(requests)
def test_no_post_and_no_miss_of_a_page_ever_trips_a_breaker(script: Requests) -> None:
    lines: list[HttpRequest] = []
    breaker = new(lines, 64)
    watch(
        breaker,
        lines,
        [(c, p, s, r, m, f and (m == "POST" or (s == 404 and "." not in p))) for c, p, s, r, m, f in script],
    )
    assert breaker.tripped() == {}


@given(st.text(), st.text())
def test_no_text_in_a_request_is_too_strange(target: str, referer: str) -> None:
    visitors = Visitors()
    for method in ("GET", "POST", None):
        visitors.note(HttpRequest(T0, "192.0.2.7", method, target, target, status=200, referer=referer))
    assert visitors.of("192.0.2.7") is not None
    assert math.isfinite(visitors.now_ts)


@pytest.mark.parametrize("subject", ["192.0.2.7", "2001:db8::/64"])
def test_time_is_only_what_findings_say(subject: str) -> None:
    shifted = []
    for origin_ts in (0.0, 1e9, 4e9):
        policy = make([])
        made = [policy.decide(Finding("f", "a", subject, origin_ts + n * 1000.0, 3, 60.0), 500.0) for n in range(5)]
        shifted.append([d and (d.start_ts - origin_ts, (d.end_ts or 0) - origin_ts) for d in made])
    assert shifted[0] == shifted[1] == shifted[2]
