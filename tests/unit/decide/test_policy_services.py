"""Bans of single services: beside each other, below a ban of everything, remembered by subject."""

from __future__ import annotations

import math

import pytest
from msgspec import UNSET

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings, Terms
from tocsin.model import Decision, Finding

T0 = 1_431_861_456.0
A, NET6 = "192.0.2.7", "2001:db8:1:2::/64"
SSH, WEB = "tcp/22", "tcp/80,tcp/443"


def found(rule: str, subject: str = A, ts: float = T0) -> Finding:
    return Finding(f"{rule}-{subject}-{ts}", rule, subject, ts, 3, 600.0)


def policy(allowed: str = "") -> Policy:
    return Policy(PolicySettings(), AllowList([(allowed, "a friend")] if allowed else []))


def ban(
    rules: Policy, services: str, subject: str = A, ts: float = T0, seconds: float | None = 600.0
) -> Decision | None:
    return rules.decide(found(services or "any", subject, ts), seconds, Terms(services=services))


def test_two_jails_ban_an_address_beside_each_other() -> None:
    rules = policy()
    first, second = ban(rules, SSH), ban(rules, WEB, ts=T0 + 1)
    assert first
    assert second
    assert (first.subject, first.services, first.target) == (A, SSH, f"{A} {SSH}")
    assert first.id != second.id
    assert rules.desired(T0 + 1) == {f"{A} {SSH}": T0 + 600, f"{A} {WEB}": T0 + 601}
    assert ban(rules, SSH, ts=T0 + 2) is None
    assert second.end_ts == T0 + 601, "of what is in force at the same time, one counts"
    assert rules.past(A) == (1, T0 + 601)
    assert rules.until_ts(A, T0 + 1) is None
    assert rules.until_ts(A, T0 + 1, SSH) == T0 + 600


def test_a_ban_of_everything_covers_those_of_services() -> None:
    rules = policy()
    assert ban(rules, SSH)
    whole = ban(rules, "", ts=T0 + 1)
    assert whole
    assert not whole.services
    assert ban(rules, WEB, ts=T0 + 2) is None
    longer = ban(rules, WEB, ts=T0 + 3, seconds=6000.0)
    assert longer
    assert longer.services == WEB, "it outlasts the ban of everything"
    assert set(rules.desired(T0 + 3)) == {A, f"{A} {SSH}", f"{A} {WEB}"}
    assert rules.decide(found("any", ts=T0 + 4), 60.0) is None


def test_a_banned_prefix_covers_too_and_is_itself_closed_for_everything() -> None:
    rules = policy()
    wide = ban(rules, SSH, "192.0.2.0/24")
    assert wide
    assert (wide.services, wide.target) == ("", "192.0.2.0/24")
    assert ban(rules, SSH, ts=T0 + 1) is None
    assert rules.until_ts(A, T0 + 1, SSH) == T0 + 600


def test_who_comes_back_to_another_service_is_banned_for_longer() -> None:
    rules = policy()
    assert ban(rules, SSH)
    again = ban(rules, WEB, ts=T0 + 700)
    assert again
    assert again.end_ts == T0 + 700 + 1200
    assert "ban 2 of this subject" in again.note
    assert rules.past(A) == (2, T0 + 1900)


def test_lines_from_before_a_lift_do_not_ban_again_and_the_others_stay() -> None:
    rules = policy()
    ban(rules, SSH)
    ban(rules, WEB)
    lift = rules.lift_own(f"{A} {SSH}", T0 + 10, "unbanned")
    assert (lift.subject, lift.services, lift.lifts) == (A, SSH, f"ban~{A} {SSH}~{T0 + 600!r}")
    assert rules.desired(T0 + 10) == {f"{A} {WEB}": T0 + 600}
    assert rules.past(A) == (1, T0 + 600)
    (other,) = rules.lift(A, T0 + 20)
    assert other.services == WEB
    assert rules.past(A) == (0, T0 + 20)
    assert ban(rules, WEB, ts=T0 + 15) is None
    assert ban(rules, WEB, ts=T0 + 25)


@pytest.mark.parametrize("asked", [A, "192.0.2.0/24"])
def test_an_unban_lifts_all_targets(asked: str) -> None:
    rules = policy()
    for services in (SSH, WEB, ""):
        ban(rules, services)
    ban(rules, SSH, "198.51.100.9")
    assert {lift.target for lift in rules.lift(asked, T0 + 1)} == {A, f"{A} {SSH}", f"{A} {WEB}"}
    assert set(rules.desired(T0 + 1)) == {f"198.51.100.9 {SSH}"}
    ban(rules, SSH, NET6)
    assert [lift.target for lift in rules.lift("2001:db8:1:2::5", T0 + 1)] == [f"{NET6} {SSH}"]


def test_who_is_safe_is_safe_from_every_target() -> None:
    rules = policy("198.51.100.0/24")
    held = ban(rules, SSH, "198.51.100.9")
    assert held
    assert (held.held, held.services) == ("allowed: 198.51.100.0/24: a friend", SSH)
    ban(rules, SSH)
    ban(rules, WEB)
    rules.allow.replace("configured", [(A, "by now")])
    assert {lift.target for lift in rules.spare(T0 + 1)} == {f"{A} {SSH}", f"{A} {WEB}"}
    actual: dict[str, float | None] = {f"{A} {SSH}": 60.0, "203.0.113.5 tcp/22": 60.0, "203.0.113.6 tcp/22": None}
    adopted = rules.adopt(actual, T0 + 2)
    assert [(each.subject, each.services) for each in adopted] == [("203.0.113.5", SSH), ("203.0.113.6", SSH)]
    assert rules.remembers("203.0.113.5 tcp/80")
    assert [each.target for each in rules.restate(T0 + 2)] == ["203.0.113.5 tcp/22", "203.0.113.6 tcp/22"]


def test_a_restart_remembers_subjects_from_the_rows_of_their_targets() -> None:
    rows = [(f"{A} {SSH}", 2, T0 - 50), (A, 1, T0 - 20), (f"{NET6} {WEB}", 3, T0 + 100), (NET6, 1, T0 + 200)]
    rows.append(("198.51.100.9", 4, math.inf))
    rules = Policy(
        PolicySettings(), AllowList(), history=rows, active={f"{NET6} {WEB}": T0 + 100, "198.51.100.9": None}
    )
    assert rules.past(A) == (2, T0 - 20)
    assert rules.past(NET6) == (3, T0 + 200)
    assert rules.past("198.51.100.9") == (4, math.inf)
    assert rules.until_ts(NET6, T0, WEB) == T0 + 100


def test_an_operators_ban_of_services() -> None:
    rules = policy()
    decision = rules.ban(A, None, T0, services=SSH)
    assert (decision.target, decision.end_ts) == (f"{A} {SSH}", None)
    assert decision.id == f"ban~{A} {SSH}~{T0!r}~for-good"
    assert rules.ban("192.0.2.0/24", 60.0, T0, services=SSH).services == ""
    assert rules.end_of(f"{A} {SSH}") == math.inf
    assert rules.decide(found("x", ts=T0 + 1), UNSET, Terms(services=SSH)) is None


def test_what_makes_room_is_a_target() -> None:
    rules = Policy(PolicySettings(max_active=2), AllowList())
    for number, services in enumerate((SSH, WEB, "udp/53")):
        ban(rules, services, ts=T0 + number)
    (lift,) = rules.take_lifts()
    assert lift.target == f"{A} {SSH}"
    assert rules.past(A) == (1, T0 + 602)
