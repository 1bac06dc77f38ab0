"""What findings lead to: durations, escalation, who is safe, what the operator may do."""

from __future__ import annotations

import math

import pytest
from msgspec import UNSET, UnsetType

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings, RefusedError
from tocsin.model import Decision, Finding

T0 = 1_431_861_456.0
HOUR_S, DAY_S = 3600.0, 86400.0


def finding(subject: str, ts: float = T0, rule: str = "xmlrpc", via: str | None = None) -> Finding:
    return Finding(f"{rule}-{subject}-{ts}", rule, subject, ts, 3, 600.0, (), via)


def policy(settings: PolicySettings | None = None) -> Policy:
    return Policy(settings or PolicySettings(), AllowList())


def banned(decision: Decision | None) -> float | None:
    """The length of an enforced ban."""
    assert decision is not None
    assert decision.action == "ban"
    assert decision.held is None
    return None if decision.end_ts is None else decision.end_ts - decision.start_ts


def test_a_finding_bans_its_subject_for_as_long_as_the_rule_says() -> None:
    rules = policy()
    decision = rules.decide(finding("63.251.225.206"), 240_000.0)
    identity = "xmlrpc-63.251.225.206-1431861456.0"
    assert decision == Decision(
        "ban~63.251.225.206~1432101456.0", "ban", "63.251.225.206", T0, T0 + 240_000, "xmlrpc", identity
    )
    assert rules.desired(T0) == {"63.251.225.206": T0 + 240_000}
    assert rules.desired(T0 + 240_000) == {}


@pytest.mark.parametrize(("rule_ban_s", "expected"), [(UNSET, 4 * HOUR_S), (60.0, 60.0), (None, None)])
def test_the_default_is_for_rules_that_do_not_say(rule_ban_s: float | UnsetType | None, expected: float | None) -> None:
    rules = policy(PolicySettings(ban_s=4 * HOUR_S))
    assert banned(rules.decide(finding("192.0.2.7"), rule_ban_s)) == expected


@pytest.mark.parametrize(
    ("base_s", "earlier", "expected"),
    [
        (600.0, 0, 600.0),
        (600.0, 1, 1200.0),
        (600.0, 2, 2400.0),
        (600.0, 5, 19_200.0),
        (600.0, 12, 28 * DAY_S),
        (600.0, 10_000, 28 * DAY_S),
        (60 * DAY_S, 3, 60 * DAY_S),  # the cap does not shorten what a rule says
        (None, 3, None),
    ],
)
def test_escalation(base_s: float | None, earlier: int, expected: float | None) -> None:
    assert policy(PolicySettings(max_s=28 * DAY_S)).escalated_s(base_s, earlier) == expected


def test_escalation_can_be_steeper_or_off() -> None:
    assert policy(PolicySettings(factor=3.0)).escalated_s(60.0, 2) == 540.0
    assert policy(PolicySettings(factor=1.0)).escalated_s(60.0, 2) == 60.0


def test_who_comes_back_is_banned_twice_as_long_each_time_while_remembered() -> None:
    rules = policy(PolicySettings(memory_s=DAY_S, max_s=8 * HOUR_S))
    ts, lengths = T0, []
    for pause_s in (1.0, HOUR_S, DAY_S, 1.0, 1.0, DAY_S + 1.0, 1.0):
        length = banned(rules.decide(finding("192.0.2.7", ts), HOUR_S))
        assert length is not None
        lengths.append(length / HOUR_S)
        ts += length + pause_s
        rules.expire(ts)
    assert lengths == [1, 2, 4, 8, 8, 8, 1], "the last but one pause was longer than the memory"
    assert banned(rules.decide(finding("192.0.2.8", ts), HOUR_S)) == HOUR_S, "neighbours have their own history"


def test_history_from_the_ledger_counts() -> None:
    rules = Policy(PolicySettings(), AllowList(), history=[("192.0.2.7", 2, T0 - DAY_S), ("2001:db8::/64", 1, T0 - 1)])
    decision = rules.decide(finding("192.0.2.7"), HOUR_S)
    assert banned(decision) == 4 * HOUR_S
    assert decision is not None
    assert decision.note == "ban 3 of this subject: 4h in place of 1h"
    assert banned(rules.decide(finding("2001:db8::/64"), HOUR_S)) == 2 * HOUR_S


def test_a_ban_in_force_is_not_made_again_but_prolonged_by_a_much_longer_one() -> None:
    rules = policy()
    assert banned(rules.decide(finding("192.0.2.7"), HOUR_S)) == HOUR_S
    for late_s in (-5.0, 0.0, 1.0, 300.0):
        assert rules.decide(finding("192.0.2.7", T0 + late_s), HOUR_S) is None
    assert rules.decide(finding("192.0.2.7", T0 + 1, "short"), 60.0) is None
    assert banned(rules.decide(finding("192.0.2.7", T0 + 2, "long"), DAY_S)) == DAY_S, "not doubled: the same visit"
    assert banned(rules.decide(finding("192.0.2.7", T0 + 3, "ever"), None)) is None
    assert rules.decide(finding("192.0.2.7", T0 + 4, "long"), DAY_S) is None
    assert rules.desired(T0 + 5) == {"192.0.2.7": None}


def test_lines_from_before_the_end_of_a_ban_do_not_ban_again() -> None:
    rules = policy()
    rules.decide(finding("192.0.2.7"), HOUR_S)
    rules.expire(T0 + 2 * HOUR_S)
    assert rules.decide(finding("192.0.2.7", T0 + HOUR_S - 1), HOUR_S) is None
    assert banned(rules.decide(finding("192.0.2.7", T0 + HOUR_S), HOUR_S)) == 2 * HOUR_S


def test_reading_again_after_a_restart_decides_nothing_new() -> None:
    first = policy()
    found = [finding("192.0.2.7"), finding("192.0.2.8", T0 + 1), finding("192.0.2.7", T0 + 2)]
    for one in found:
        first.decide(one, HOUR_S)
    rows = [("192.0.2.7", 1, T0 + HOUR_S), ("192.0.2.8", 1, T0 + 1 + HOUR_S)]
    again = Policy(PolicySettings(), AllowList(), history=rows, active=first.desired(T0 + 3))
    assert [again.decide(one, HOUR_S) for one in found] == [None, None, None]
    assert again.desired(T0 + 3) == first.desired(T0 + 3)


def test_bans_for_good_keep_their_ids_over_a_restart() -> None:
    first = policy()
    made = first.decide(finding("192.0.2.7"), None)
    assert made is not None
    again = Policy(PolicySettings(), AllowList(), active={"192.0.2.7": None}, starts={"192.0.2.7": T0})
    (lifted,) = again.lift("192.0.2.7", T0 + 5)
    assert lifted.lifts == made.id


# -- held back -------------------------------------------------------------------------------------------------------


def test_who_is_safe_is_not_banned_and_it_says_why() -> None:
    rules = Policy(PolicySettings(), AllowList([("192.0.2.0/24", "office")]))
    decision = rules.decide(finding("192.0.2.7"), HOUR_S)
    assert decision is not None
    assert decision.held == "allowed: 192.0.2.0/24: office"
    assert rules.desired(T0) == {}
    assert rules.until_ts("192.0.2.7", T0) is None
    assert rules.decide(finding("192.0.2.7", T0 + 1), HOUR_S) is None, "said once in the time of a ban"
    assert rules.decide(finding("192.0.2.7", T0 + HOUR_S), HOUR_S) is not None
    rules.allow.replace("configured", [])
    assert banned(rules.decide(finding("192.0.2.7", T0 + HOUR_S + 1), HOUR_S)) == HOUR_S, "held bans do not escalate"


def test_an_address_behind_a_proxy_cannot_be_stopped_here() -> None:
    rules = policy()
    decision = rules.decide(finding("192.0.2.7", via="10.0.0.1"), HOUR_S)
    assert decision is not None
    assert decision.held is not None
    assert decision.held.startswith("behind proxy 10.0.0.1: ")
    assert rules.desired(T0) == {}
    assert banned(rules.decide(finding("192.0.2.7", T0 + 1), HOUR_S)) == HOUR_S, "it came directly as well"


def test_observing_decides_the_same_and_bans_nobody() -> None:
    live, observing = policy(), policy(PolicySettings(observe=True))
    for ts in (T0, T0 + 1, T0 + 2 * HOUR_S):
        real, held = (one.decide(finding("192.0.2.7", ts), HOUR_S) for one in (live, observing))
        assert (real is None) == (held is None)
        if real is not None and held is not None:
            assert (held.subject, held.end_ts, held.held) == (real.subject, real.end_ts, "observing")
    assert live.desired(T0 + 2 * HOUR_S)
    assert observing.desired(T0 + 2 * HOUR_S) == {}


def test_bans_of_who_has_become_safe_are_lifted() -> None:
    rules = policy()
    rules.decide(finding("192.0.2.7"), HOUR_S)
    rules.decide(finding("192.0.2.8"), HOUR_S)
    assert rules.spare(T0 + 1) == []
    rules.allow.replace("login", [("192.0.2.7", "open SSH login")])
    (lifted,) = rules.spare(T0 + 1)
    assert (lifted.action, lifted.subject) == ("lift", "192.0.2.7")
    assert set(rules.desired(T0 + 1)) == {"192.0.2.8"}


# -- the operator ----------------------------------------------------------------------------------------------------


def test_unban_forgives_and_lines_from_before_it_do_not_ban_again() -> None:
    rules = policy()
    made = rules.decide(finding("192.0.2.7"), HOUR_S)
    assert made is not None
    (lifted,) = rules.lift("192.0.2.7", T0 + 100)
    assert (lifted.action, lifted.lifts, lifted.origin) == ("lift", made.id, "operator")
    assert rules.desired(T0 + 100) == {}
    assert rules.decide(finding("192.0.2.7", T0 + 99), HOUR_S) is None
    assert banned(rules.decide(finding("192.0.2.7", T0 + 101), HOUR_S)) == HOUR_S, "not doubled"
    assert rules.lift("192.0.2.9", T0 + 102) == []


@pytest.mark.parametrize(
    ("asked", "lifted"),
    [
        ("10.1.2.3", {"10.1.2.3", "10.1.0.0/16"}),
        ("::ffff:10.1.2.3", {"10.1.2.3", "10.1.0.0/16"}),
        ("10.1.2.0/24", {"10.1.2.3", "10.1.2.4", "10.1.0.0/16"}),
        ("10.0.0.0/8", {"10.1.2.3", "10.1.2.4", "10.1.0.0/16", "10.2.0.1"}),
        ("2001:db8:1:2::99", {"2001:db8:1:2::/64"}),
        ("2001:db8:1:2::/64", {"2001:db8:1:2::/64"}),
        ("2001:db8::/32", {"2001:db8:1:2::/64"}),
    ],
)
def test_unban_lets_the_address_through_whatever_it_was_banned_by(asked: str, lifted: set[str]) -> None:
    rules = policy()
    for subject in ("10.1.2.3", "10.1.2.4", "10.2.0.1", "10.1.0.0/16", "2001:db8:1:2::/64"):
        rules.ban(subject, HOUR_S, T0)
    assert {decision.subject for decision in rules.lift(asked, T0 + 1)} == lifted


def test_the_operator_bans_addresses_and_prefixes_at_once() -> None:
    rules = policy()
    assert rules.ban("2001:db8:1:2::5", 60.0, T0).subject == "2001:db8:1:2::/64"
    decision = rules.ban("198.51.100.0/24", None, T0)
    assert (decision.origin, decision.end_ts, decision.held) == ("operator", None, None)
    assert rules.desired(T0) == {"2001:db8:1:2::/64": T0 + 60, "198.51.100.0/24": None}
    assert rules.until_ts("198.51.100.9", T0) == math.inf
    assert rules.decide(finding("198.51.100.9"), HOUR_S) is None, "it is covered"
    shortened = rules.ban("198.51.100.0/24", 5.0, T0)
    assert rules.desired(T0)["198.51.100.0/24"] == shortened.end_ts == T0 + 5
    assert banned(rules.decide(finding("198.51.100.9", T0 + 1), HOUR_S)) == HOUR_S, "longer than the prefix's ban"


def test_the_operator_is_kept_from_banning_who_is_safe_unless_forced() -> None:
    rules = Policy(PolicySettings(), AllowList([("192.0.2.7", "office")]))
    for subject in ("192.0.2.7", "192.0.2.0/24", "0.0.0.0/0", "127.0.0.1"):
        with pytest.raises(RefusedError, match="is safe"):
            rules.ban(subject, 60.0, T0)
    with pytest.raises(ValueError, match="expected an address or prefix"):
        rules.ban("example.org", 60.0, T0)
    assert rules.desired(T0) == {}
    assert rules.ban("192.0.2.0/24", 60.0, T0, force=True).note.startswith("forced")
    assert rules.desired(T0) == {"192.0.2.0/24": T0 + 60}


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_the_bans_that_end_first_make_room() -> None:
    rules = policy(PolicySettings(max_active=100))
    for number in range(150):
        made = rules.decide(finding(f"10.0.0.{number}", T0 + number), HOUR_S if number % 2 else DAY_S)
        assert banned(made) is not None
    lifts = rules.take_lifts()
    assert len(lifts) == 50
    assert {lift.subject for lift in lifts} == {f"10.0.0.{number}" for number in range(1, 100, 2)}
    assert all(lift.lifts == f"ban~{lift.subject}~{T0 + int(lift.subject[7:]) + HOUR_S!r}" for lift in lifts)
    assert rules.take_lifts() == []
    assert len(rules.desired(T0 + 150)) == 100
    assert rules.counts()["evicted"] == 50
    assert banned(rules.decide(finding("10.0.0.1", T0 + 200), HOUR_S)) == HOUR_S, "cut short, it does not count"


def test_more_bans_in_the_ledger_than_are_allowed_now() -> None:
    active: dict[str, float | None] = {f"10.0.0.{number}": T0 + number for number in range(1, 21)}
    rules = Policy(PolicySettings(max_active=10), AllowList(), active=active)
    assert set(rules.desired(T0)) == {f"10.0.0.{number}" for number in range(11, 21)}
    assert banned(rules.decide(finding("10.0.0.1"), HOUR_S)) == HOUR_S


def test_what_is_held_back_is_remembered_over_a_restart_and_bounded() -> None:
    allow = AllowList([("10.0.0.0/8", "lan")])
    first = Policy(PolicySettings(), allow)
    for number in range(60_000):
        first.decide(finding(f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"), HOUR_S)
    assert len(first._held) == 50_000
    again = Policy(PolicySettings(), allow)
    again.load(first.dump())
    assert again.decide(finding("10.0.234.95"), HOUR_S) is None
    assert again.decide(finding("10.1.0.0"), HOUR_S) is not None


def test_the_bans_in_force_can_be_stated_anew() -> None:
    rules = policy()
    made = [rules.decide(finding("192.0.2.7"), HOUR_S), rules.ban("198.51.100.0/24", None, T0)]
    stated = list(rules.restate(T0 + 5))
    assert [(d.id, d.subject, d.end_ts) for d in stated] == [(d.id, d.subject, d.end_ts) for d in made if d]
    assert {d.origin for d in stated} == {"import"}


def test_bans_that_only_the_kernel_remembers_are_taken_over() -> None:
    rules = Policy(PolicySettings(), AllowList([("10.0.0.0/8", "lan")]), active={"192.0.2.7": T0 + 60})
    adopted = rules.adopt({"192.0.2.7": 999.0, "192.0.2.8": 100.0, "198.51.100.0/24": None, "10.0.0.1": 5.0}, T0)
    assert [(d.subject, d.end_ts, d.origin) for d in adopted] == [
        ("192.0.2.8", T0 + 100, "import"),
        ("198.51.100.0/24", None, "import"),
    ]
    assert rules.desired(T0) == {"192.0.2.7": T0 + 60, "192.0.2.8": T0 + 100, "198.51.100.0/24": None}
