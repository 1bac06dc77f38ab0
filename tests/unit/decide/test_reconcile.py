"""What has to change so that the kernel holds what should be in force."""

from __future__ import annotations

import pytest

from tocsin.decide.reconcile import HANDOVER_S, TOLERANCE_S, in_force, next_change_ts, reconcile
from tocsin.model import MAX_BAN_S, Op

NOW = 1_700_000_000.0


def ban(subject: str, seconds: int | None) -> Op:
    """A ban without a cause."""
    return Op("ban", subject, seconds)


def unban(subject: str) -> Op:
    """An unban without a cause."""
    return Op("unban", subject)


@pytest.mark.parametrize(
    ("desired", "actual", "ops"),
    [
        pytest.param({}, {}, [], id="nothing"),
        pytest.param({"192.0.2.1": NOW + 60}, {}, [ban("192.0.2.1", 60)], id="missing"),
        pytest.param({"192.0.2.1": NOW + 59.2}, {}, [ban("192.0.2.1", 60)], id="rounded up"),
        pytest.param({"192.0.2.1": NOW + 0.01}, {}, [ban("192.0.2.1", 1)], id="never less than a second"),
        pytest.param({"192.0.2.1": None}, {}, [ban("192.0.2.1", None)], id="for good"),
        pytest.param({"192.0.2.1": NOW + MAX_BAN_S + 1}, {}, [ban("192.0.2.1", None)], id="beyond a century"),
        pytest.param({"192.0.2.1": NOW + MAX_BAN_S + 1}, {"192.0.2.1": None}, [], id="beyond a century, there"),
        pytest.param({"192.0.2.1": NOW}, {}, [], id="over"),
        pytest.param({"192.0.2.1": NOW - 5}, {"192.0.2.1": 99.0}, [unban("192.0.2.1")], id="over, but there"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": 60.0}, [], id="right"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": 60 + TOLERANCE_S}, [], id="right enough, longer"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": 60 - TOLERANCE_S}, [], id="right enough, shorter"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": 70.0}, [ban("192.0.2.1", 60)], id="too long"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": 50.0}, [ban("192.0.2.1", 60)], id="too short"),
        pytest.param({"192.0.2.1": NOW + 60}, {"192.0.2.1": None}, [ban("192.0.2.1", 60)], id="wrongly for good"),
        pytest.param({"192.0.2.1": None}, {"192.0.2.1": 60.0}, [ban("192.0.2.1", None)], id="wrongly limited"),
        pytest.param({"192.0.2.1": NOW + 3}, {"192.0.2.1": -0.5}, [ban("192.0.2.1", 3)], id="ended since it was read"),
        pytest.param({}, {"192.0.2.1": 60.0}, [unban("192.0.2.1")], id="not desired"),
        pytest.param({}, {"192.0.2.1": None}, [unban("192.0.2.1")], id="not desired, for good"),
        pytest.param({}, {"192.0.2.1": TOLERANCE_S}, [], id="not desired, about to end"),
        pytest.param({}, {"10.0.0.0/24": 0.5}, [unban("10.0.0.0/24")], id="a prefix about to end may be in the way"),
    ],
)
def test_one_subject(desired: dict[str, float | None], actual: dict[str, float | None], ops: list[Op]) -> None:
    """Each case of one subject in, out, right and wrong."""
    assert reconcile(desired, actual, NOW) == ops


def test_unbans_come_before_bans_and_carry_their_causes() -> None:
    """So that an overlap is out of the way, and a Receipt finds its decision."""
    desired = {"10.0.0.0/25": NOW + 60, "192.0.2.1": NOW + 60}
    actual = {"10.0.0.0/24": 60.0, "192.0.2.2": 60.0}
    causes = {"10.0.0.0/25": "d1", "192.0.2.1": "d2", "192.0.2.2": "d3"}
    assert reconcile(desired, actual, NOW, causes=causes) == [
        Op("unban", "10.0.0.0/24"),
        Op("unban", "192.0.2.2", None, "d3"),
        Op("ban", "10.0.0.0/25", 60, "d1"),
        Op("ban", "192.0.2.1", 60, "d2"),
    ]


def test_never_ban_is_taken_out_whoever_put_it_there() -> None:
    """And never put in."""
    desired = {"192.0.2.1": NOW + 60, "192.0.2.2": NOW + 60}
    ops = reconcile(desired, {"192.0.2.1": 60.0}, NOW, never=lambda subject: subject == "192.0.2.1")
    assert ops == [unban("192.0.2.1"), ban("192.0.2.2", 60)]


@pytest.mark.parametrize(
    ("desired", "kept"),
    [
        pytest.param({"10.0.0.0/24": 90, "10.0.0.0/25": 60}, {"10.0.0.0/24"}, id="inside a longer one"),
        pytest.param({"10.0.0.0/24": 60, "10.0.0.0/25": 90}, {"10.0.0.0/24"}, id="inside a shorter one, for now"),
        pytest.param({"10.0.0.0/24": 60, "10.0.0.0/25": None}, {"10.0.0.0/24"}, id="inside, for good, for now"),
        pytest.param({"10.0.0.0/24": 0.9, "10.0.0.0/25": 90}, {"10.0.0.0/25"}, id="the wide one is about to end"),
        pytest.param({"10.0.0.0/24": 0.9, "10.0.0.0/25": 0.8}, {"10.0.0.0/24"}, id="both are about to end"),
        pytest.param(
            {"10.0.0.0/23": 0.9, "10.0.0.0/24": 60, "10.0.0.0/25": 90, "10.0.1.0/24": 30},
            {"10.0.0.0/24", "10.0.1.0/24"},
            id="three deep",
        ),
        pytest.param({"10.0.0.0/24": 60, "10.0.1.0/24": 60}, {"10.0.0.0/24", "10.0.1.0/24"}, id="side by side"),
        pytest.param({"10.0.0.0/24": 60, "10.0.0.7": 90}, {"10.0.0.0/24", "10.0.0.7"}, id="hosts have their own set"),
        pytest.param(
            {"2001:db8::/48": 60, "2001:db8::/64": 90, "2001:db8::1": 90, "2001:db8::/56": 30},
            {"2001:db8::/48", "2001:db8::/64", "2001:db8::1"},
            id="IPv6 hosts and /64 too",
        ),
        pytest.param({"0.0.0.0/16": 60, "::/32": 90, "::/33": 90}, {"0.0.0.0/16", "::/32"}, id="families apart"),
    ],
)
def test_overlapping_prefixes_are_folded(desired: dict[str, float | None], kept: set[str]) -> None:
    """The kernel takes no overlap in one set."""
    ends = {subject: None if left_s is None else NOW + left_s for subject, left_s in desired.items()}
    assert set(in_force(ends, NOW)) == kept


def test_a_folded_prefix_comes_back_before_the_wide_one_ends() -> None:
    """Told when to look again, the narrower ban is never without a moment's cover."""
    desired: dict[str, float | None] = {"10.0.0.0/24": NOW + 60, "10.0.0.0/25": NOW + 600}
    assert reconcile(desired, {}, NOW) == [ban("10.0.0.0/24", 60)]
    again_ts = next_change_ts(desired, NOW)
    assert again_ts == NOW + 60 - HANDOVER_S
    assert again_ts is not None
    assert reconcile(desired, {"10.0.0.0/24": HANDOVER_S}, again_ts) == [unban("10.0.0.0/24"), ban("10.0.0.0/25", 541)]
    assert next_change_ts(desired, again_ts) is None


@pytest.mark.parametrize(
    "desired",
    [{}, {"10.0.0.1": 60.0}, {"10.0.0.0/24": 60.0, "10.0.0.0/25": 30.0}, {"10.0.0.0/24": None, "10.0.0.0/25": None}],
)
def test_without_a_longer_one_inside_nothing_has_to_be_looked_at(desired: dict[str, float | None]) -> None:
    """Everything else ends in the kernel by itself."""
    assert next_change_ts({one: left and NOW + left for one, left in desired.items()}, NOW) is None
