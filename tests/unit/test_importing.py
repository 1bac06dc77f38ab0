"""Bans taken over from another program, and taken back: exactly, whatever was there before or came since."""

from __future__ import annotations

import math
from collections.abc import Iterable
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings, Terms
from tocsin.importing import Arrival, LedgerKeeper, Taken, refusal, take, take_back
from tocsin.ledger.load import imported_bans, load
from tocsin.ledger.reader import Reader
from tocsin.ledger.store import Ledger
from tocsin.ledger.writer import Recollection
from tocsin.model import Decision, Finding

NOW = 1_700_000_000.0
DAY = 86400.0
A, B, C = "192.0.2.1", "192.0.2.2", "2001:db8::1"


class Notes:
    """Keeps what a guard would carry out."""

    def __init__(self) -> None:
        self.decisions: list[Decision] = []
        self.recollections: list[Recollection] = []

    def carry_out(self, decision: Decision) -> None:
        self.decisions.append(decision)

    def recollect(self, row: Recollection) -> None:
        self.recollections.append(row)


def policy_of(max_active: int = 100, allowed: Iterable[str] = ()) -> Policy:
    return Policy(PolicySettings(max_active=max_active), AllowList([(text, "a friend") for text in allowed]))


def arrival(address: str = A, left_s: float | None = 600.0, times: int = 1, rule: str = "sshd") -> Arrival:
    return Arrival(
        address, rule, NOW - 60, None if left_s is None else NOW + left_s, times, left_s is None or left_s > 0
    )


def memory(policy: Policy, subjects: Iterable[str]) -> dict[str, list[float]]:
    """What a policy holds and remembers of these: the end, the number of bans, the last end; -1 where nothing."""
    found = {}
    for subject in subjects:
        end_ts, past = policy.end_of(subject), policy.past(subject)
        times, last_ts = (0, -1.0) if past is None or past == (0, -math.inf) else past
        found[subject] = [-1.0 if end_ts is None else end_ts, times, last_ts]
    return found


def test_a_ban_comes_with_its_remaining_time_and_its_number() -> None:
    policy, notes = policy_of(), Notes()
    taken = take(policy, notes, arrival(C, times=4), NOW)
    (decision,) = notes.decisions
    assert decision.subject == "2001:db8::/64"
    assert (decision.origin, decision.rule, decision.held) == ("import", "sshd", None)
    assert decision.end_ts == pytest.approx(NOW + 600)
    assert decision.note == "taken over: banned there 1m ago, ban 4 of it"
    assert policy.desired(NOW) == {"2001:db8::/64": decision.end_ts}
    assert taken.decision == decision.id
    assert notes.recollections == [Recollection("2001:db8::/64", 4, "sshd", NOW - 60, decision.end_ts)]
    # the next one is the fifth: sixteen times as long
    again = policy.decide(Finding("f", "r", "2001:db8::/64", NOW + 700, 3, 60.0), 100.0)
    assert again is not None
    assert again.end_ts == NOW + 700 + 1600


def test_earlier_bans_alone_make_the_next_one_longer() -> None:
    policy, notes = policy_of(), Notes()
    taken = take(policy, notes, arrival(left_s=-DAY, times=3), NOW)
    assert not notes.decisions
    assert taken.decision == ""
    assert policy.desired(NOW) == {}
    again = policy.decide(Finding("f", "r", A, NOW, 3, 60.0), 100.0)
    assert again is not None
    assert again.end_ts == NOW + 800


def test_what_is_not_taken_and_why() -> None:
    policy = policy_of(max_active=2, allowed=["203.0.113.0/24"])
    policy.ban(A, 1000.0, NOW)
    policy.ban("198.51.100.0/24", None, NOW)
    assert refusal(policy, arrival(A), NOW) == "banned here already, as long or longer"
    assert refusal(policy, arrival("198.51.100.9"), NOW) == "banned here already, as long or longer"
    assert refusal(policy, arrival(A, left_s=2000.0), NOW) is None
    assert refusal(policy, arrival(A, left_s=None), NOW) is None
    assert refusal(policy, arrival("203.0.113.5"), NOW) == "safe: 203.0.113.0/24: a friend"
    assert refusal(policy, arrival("203.0.0.0/16"), NOW) == "safe: 203.0.113.0/24: a friend"
    assert refusal(policy, arrival("127.0.0.1"), NOW) == "safe: 127.0.0.0/8: this machine itself"
    assert refusal(policy, arrival(B), NOW) == "no room: 2 bans are in force ([bans] max_active)"
    assert "expected an address" in str(refusal(policy, arrival("bob"), NOW))
    assert refusal(policy, arrival(B, left_s=-100 * DAY), NOW) == "its last ban ended more than 90d ago ([bans] memory)"
    assert refusal(policy, arrival(A, left_s=-5.0), NOW) == "known here already"
    assert refusal(policy, arrival(A, left_s=-5.0, times=2), NOW) is None


def test_taking_twice_counts_once() -> None:
    policy, notes = policy_of(), Notes()
    take(policy, notes, arrival(times=3), NOW)
    assert refusal(policy, arrival(times=3), NOW) == "banned here already, as long or longer"
    take(policy, notes, arrival(left_s=700.0, times=3), NOW)
    past = policy.past(A)
    assert past is not None
    assert past[0] == 3


def test_a_longer_ban_gives_way_again_to_the_shorter_one_before_it() -> None:
    policy, notes = policy_of(), Notes()
    own = policy.ban(A, 1000.0, NOW)
    taken = take(policy, notes, arrival(left_s=None, times=5), NOW)
    assert policy.end_of(A) == math.inf
    assert take_back(policy, notes, taken, NOW + 100)
    assert policy.end_of(A) == own.end_ts
    assert policy.past(A) == (1, own.end_ts)
    assert [each.action for each in notes.decisions] == ["ban", "lift", "ban"]
    assert notes.decisions[-1].origin == "operator"


def test_what_changed_since_stays() -> None:
    policy, notes = policy_of(), Notes()
    unbanned, longer, ended = (take(policy, notes, arrival(each, times=2), NOW) for each in (A, B, "192.0.2.3"))
    policy.lift(A, NOW + 1)
    own = policy.ban(B, DAY, NOW + 1)
    policy.expire(NOW + 700)
    for taken in (ended, longer, unbanned):
        assert not take_back(policy, notes, taken, NOW + 700)
    assert policy.end_of(B) == own.end_ts
    assert policy.past(B) == (0, own.end_ts)  # as an operator's ban in place of the imported one counts: by itself
    assert policy.past(A) == (0, NOW + 1)
    assert memory(policy, ["192.0.2.3"]) == {"192.0.2.3": [-1.0, 0, -1.0]}
    assert not [each for each in notes.decisions if each.action == "lift"]


SUBJECTS = ("192.0.2.1", "192.0.2.2", "198.51.100.0/24", "2001:db8::/64")
arrivals = st.lists(
    st.builds(
        arrival,
        st.sampled_from([*SUBJECTS, "2001:db8::5", "2001:db8::7"]),
        st.sampled_from([None, -5 * DAY, -60.0, 30.0, 600.0, 86400.5]),
        st.integers(1, 9),
    ),
    max_size=12,
)
own_bans = st.lists(
    st.tuples(st.sampled_from(SUBJECTS), st.sampled_from([None, 50.0, 500.0, 5000.0]), st.sampled_from([-DAY, -1.0])),
    max_size=4,
)


@settings(max_examples=300)
@given(own_bans, arrivals)
def test_what_was_taken_over_is_taken_back_exactly(
    before: list[tuple[str, float | None, float]], offered: list[Arrival]
) -> None:
    policy, notes = policy_of(), Notes()
    for subject, seconds, at_s in before:
        policy.ban(subject, seconds, NOW + at_s)
    policy.expire(NOW)
    remembered = memory(policy, SUBJECTS)
    taken = [take(policy, notes, each, NOW) for each in offered if refusal(policy, each, NOW) is None]
    for row in reversed(taken):
        again = msgspec.json.decode(msgspec.json.encode(row), type=Taken)
        assert again == row
        take_back(policy, notes, again, NOW)
    after = memory(policy, SUBJECTS)
    for subject in SUBJECTS:
        assert after[subject] == pytest.approx(remembered[subject]), subject


def test_the_next_start_finds_it_in_the_ledger(tmp_path: Path) -> None:
    """Bans, their number, and who was banned before; and after it was taken back, nothing of it."""
    path = tmp_path / "ledger.db"
    policy = policy_of()
    ledger = Ledger(path, 90 * DAY, 1000, lambda: NOW)
    ledger.start()
    keeper = LedgerKeeper(ledger.decision, ledger.recollect)
    offered = [arrival(A, times=3), arrival(B, left_s=-DAY, times=5, rule="a\udc80b"), arrival(C, left_s=None, times=2)]
    taken = [take(policy, keeper, each, NOW) for each in offered]
    assert ledger.wait_written(10)
    saved = load(path, NOW, 90 * DAY)
    assert saved.active == {A: pytest.approx(NOW + 600), "2001:db8::/64": None}
    assert sorted(saved.history) == [
        (A, 3, pytest.approx(NOW + 600)),
        (B, 5, NOW - DAY),
        ("2001:db8::/64", 2, math.inf),
    ]
    assert sorted(imported_bans(path)) == [
        ("a\\udc80b", B, 5, NOW - DAY),
        ("sshd", A, 3, pytest.approx(NOW + 600)),
        ("sshd", "2001:db8::/64", 2, math.inf),
    ]
    next_policy = Policy(PolicySettings(), AllowList(), history=saved.history, active=saved.active, starts=saved.starts)
    for row in reversed(taken):
        take_back(next_policy, keeper, row, NOW + 1)
    assert ledger.close(10)
    after = load(path, NOW + 2, 90 * DAY)
    assert after.active == {}
    assert list(imported_bans(path)) == []
    assert {subject: times for subject, times, _ in after.history} in ({}, {A: 0, "2001:db8::/64": 0})
    with Reader(path) as reader:
        assert {each.origin for each in reader.decisions() if each.action == "ban"} == {"import"}


def test_a_ledger_that_cannot_keep_up_counts_what_it_drops(tmp_path: Path) -> None:
    from tocsin.ledger import store  # noqa: PLC0415  its bound

    ledger = Ledger(tmp_path / "ledger.db", DAY, 1000, lambda: NOW)  # not started: nothing leaves the queue
    for number in range(store.RECOLLECTIONS_MAX + 7):
        ledger.recollect(Recollection(f"10.0.0.{number & 255}", 1, "sshd", NOW, NOW))
    assert ledger.lost()["recollections"] == 7


def test_a_jails_services_are_taken_and_given_back() -> None:
    policy, notes = policy_of(), Notes()
    policy.decide(Finding("f", "web", A, NOW - 5, 3, 60.0), 300.0, Terms(services="tcp/80"))
    before = memory(policy, [A])
    assert refusal(policy, arrival(), NOW, "tcp/22") is None
    taken = take(policy, notes, arrival(), NOW, "tcp/22")
    assert taken.subject == f"{A} tcp/22"
    assert (notes.decisions[0].subject, notes.decisions[0].services) == (A, "tcp/22")
    assert notes.recollections[0].subject == f"{A} tcp/22"
    assert set(policy.desired(NOW)) == {f"{A} tcp/22", f"{A} tcp/80"}
    assert refusal(policy, arrival(), NOW, "tcp/22") == "banned here already, as long or longer"
    assert take_back(policy, notes, msgspec.convert(msgspec.to_builtins(taken), Taken), NOW + 1)
    assert set(policy.desired(NOW + 1)) == {f"{A} tcp/80"}
    assert memory(policy, [A]) == before
    wide = take(policy, notes, arrival("198.51.100.0/24"), NOW, "tcp/22")
    assert wide.subject == "198.51.100.0/24"
    assert notes.decisions[-1].services == ""
