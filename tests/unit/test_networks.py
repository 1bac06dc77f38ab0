"""Networks through the pipeline: who else the engine has seen, whose lines count as stopped, and until when."""

from __future__ import annotations

import time
from datetime import UTC

import pytest
from msgspec import structs

from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.crowd import Crowd
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.prefixes import Prefixes
from tocsin.decide.siege import SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Evidence, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.rules import compile_rule, read_rules

BASE_TS = 1_466_421_454
RULES = """
[xmlrpc]
on = "http-request"
where = { method = "POST", path = "/xmlrpc.php" }
limit = 3
within = "10m"
ban = "1h"
"""
FLOOD = """
[flood]
on = "http-request"
limit = 3000
within = "1m"
ban = "10m"
"""
NET = "198.51.100"
FOUR = [f"{NET}.{last}" for last in (9, 70, 140, 230)]
INSIDE = f"{NET}.101"


def line(client: str, request: str = "POST /xmlrpc.php", ts: int = BASE_TS, referer: str = "-") -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))
    return f'{client} - - [{stamp}] "{request} HTTP/1.1" 200 5 "{referer}" "-"\n'.encode()


def visit(client: str) -> bytes:
    page = line(client, "GET /page")
    return page + b"".join(line(client, f"GET /{n}.css", referer="https://example.org/page") for n in range(3))


class Made:
    """A pipeline as guard has it, and what comes out of it."""

    def __init__(self, rules: str = FLOOD + RULES) -> None:
        self.decisions: list[Decision] = []
        self.findings: list[Finding] = []
        self.readings = Readings([("*", "combined")], Proxies(), UTC)
        visitors = Visitors()
        breaker = Breaker(BreakerSettings(), visitors, self._request_of)
        self.policy = Policy(PolicySettings(), AllowList(), breaker=breaker, prefixes=Prefixes())
        self.pipeline = Pipeline(
            [compile_rule(rule) for rule in read_rules(rules, "t.toml")],
            Limits(),
            self.policy,
            self.readings,
            lambda decision, _finding: self.decisions.append(decision),
            self.findings.append,
            crowd=Crowd(visitors, SiegeSettings(enabled=False), lambda _change: None),
        )
        self._offset = 0

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.readings.request_of(evidence, BASE_TS)

    def take(self, data: bytes) -> None:
        self.pipeline.take(Batch("log", data, self._offset, 1), BASE_TS)
        self._offset += len(data)

    def attack(self, *clients: str, ts: int = BASE_TS) -> None:
        """Three posts of each."""
        for client in clients:
            self.take(line(client, ts=ts) * 3)

    @property
    def banned(self) -> list[str]:
        return [decision.subject for decision in self.decisions if decision.action == "ban" and decision.held is None]

    @property
    def stopped(self) -> int:
        return self.pipeline.engine.counts.stopped


def test_the_network_is_decided_right_after_its_fourth_offender() -> None:
    made = Made()
    made.attack(*FOUR)
    assert made.banned == [*FOUR, f"{NET}.0/24"]
    assert [finding.rule for finding in made.findings] == ["xmlrpc"] * 4 + ["network"]
    assert made.findings[-1].id == made.decisions[-1].finding
    assert [each.text.split()[0] for each in made.findings[-1].evidence] == FOUR


def test_who_is_in_it_is_found_once_and_never_decided_upon() -> None:
    made = Made()
    made.attack(*FOUR)
    others = [f"{NET}.{last}" for last in range(100, 130)]
    for _ in range(5):
        made.attack(*others)
    assert made.banned == [*FOUR, f"{NET}.0/24"]
    later = made.findings[5:]
    assert sorted(finding.subject for finding in later) == sorted(others)
    assert made.stopped == len(others) * 12, "all after the three that crossed"


@pytest.mark.parametrize(
    ("before", "banned"),
    [
        (line(INSIDE, "GET /feed"), False),
        (line(INSIDE) * 2, True),  # on its way to be an offender
        (line(INSIDE) + line(INSIDE, "GET /a") + line(INSIDE, "GET /b"), False),
        (visit(INSIDE), False),
        (line("198.51.101.101", "GET /feed") + visit("198.51.101.7"), True),
    ],
)
def test_who_was_seen_in_it_weighs(before: bytes, banned: bool) -> None:
    made = Made()
    made.take(before)
    made.attack(*FOUR)
    assert (made.banned == [*FOUR, f"{NET}.0/24"]) is banned
    assert made.banned[:4] == FOUR


@pytest.mark.parametrize(("rules", "banned"), [(FLOOD + RULES, True), (RULES, False)])
def test_a_22_is_banned_only_where_others_are_known(rules: str, banned: bool) -> None:
    made = Made(rules)
    made.attack(*[f"203.0.{net}.{last}" for last in (9, 140) for net in (4, 5, 6, 7)])
    assert ("203.0.4.0/22" in made.banned) is banned


def test_other_clients_of_a_48_are_seen() -> None:
    offenders = [f"2001:db8:7:{number << 12 | 5:x}::1" for number in range(9)]
    for other in ("2001:db8:7:8005::1", "2001:db8:7:ff::9", "2001:db8:8::1"):
        made = Made()
        made.take(visit(other))
        made.attack(*(each for each in offenders if each != other))
        assert ("2001:db8:7::/48" in made.banned) is (other == "2001:db8:8::1")


def test_when_it_is_lifted_lines_from_it_count_again() -> None:
    made = Made()
    made.attack(*FOUR, INSIDE)
    made.attack(INSIDE)
    assert made.stopped == 3
    for lift in made.policy.lift(f"{NET}.0/24", BASE_TS + 60.0):
        made.pipeline.let_in(lift)
    assert not made.pipeline.engine.muted
    made.attack(INSIDE, FOUR[0], ts=BASE_TS + 100)
    assert made.banned[5:] == [INSIDE, FOUR[0]]


def test_unban_of_one_leaves_the_others_muted_who_are_banned_themselves() -> None:
    made = Made()
    made.attack(*FOUR, INSIDE)
    for lift in made.policy.lift(INSIDE, BASE_TS + 60.0):
        made.pipeline.let_in(lift)
    assert sorted(made.pipeline.engine.muted) == sorted(FOUR)


def test_a_jail_does_what_fail2ban_does() -> None:
    made = Made()
    made.pipeline.rules["xmlrpc"] = structs.replace(made.pipeline.rules["xmlrpc"], filter=object())
    made.attack(*FOUR)
    assert made.banned == FOUR


def test_state_is_taken_up_where_it_was_left() -> None:
    whole, first, second = Made(), Made(), Made()
    whole.attack(*FOUR)
    first.attack(*FOUR[:3])
    second.pipeline.load(first.pipeline.dump())
    second._offset = first._offset
    second.attack(FOUR[3])
    assert first.decisions + second.decisions == whole.decisions
    assert first.findings + second.findings == whole.findings
