"""The laws of reconcile, held against a model of the kernel's sets: refusals of overlaps included."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_network

from hypothesis import given
from hypothesis import strategies as st

from tocsin.decide.reconcile import HANDOVER_S, TOLERANCE_S, in_force, next_change_ts, reconcile
from tocsin.model import Op

NOW = 1_700_000_000.0

# Few enough bits that prefixes lie in each other and subjects meet again.
_hosts4 = st.integers(0, 31).map(lambda n: f"10.0.{n >> 3}.{n & 7}")
_nets4 = st.tuples(st.integers(0, 15), st.integers(20, 31)).map(
    lambda pair: str(ip_network((0x0A000000 | pair[0] << 8, pair[1]), strict=False))
)
_nets6 = st.tuples(st.integers(0, 15), st.sampled_from([32, 44, 46, 47, 48, 63, 64, 65, 127])).map(
    lambda pair: str(ip_network((0x20010DB8 << 96 | pair[0] << 80, pair[1]), strict=False))
)
_hosts6 = st.integers(0, 3).map(lambda n: f"2001:db8::{n:x}" if n else "2001:db8::")
subjects = st.one_of(_hosts4, _nets4, _nets6, _hosts6)
lefts = st.one_of(st.none(), st.floats(-5, 5), st.floats(-100, 10_000), st.just(1e10))
desires = st.dictionaries(subjects, lefts, max_size=12).map(
    lambda wanted: {subject: None if left is None else NOW + left for subject, left in wanted.items()}
)


class Kernel:
    """The table's sets as the kernel keeps them: subject to the second at which it ends."""

    def __init__(self, now_ts: float) -> None:
        self.now_ts = now_ts
        self.end_ts: dict[str, float | None] = {}

    def apply(self, ops: Sequence[Op]) -> None:
        """What the enforcer does: in order, and refusing what the kernel refuses."""
        for op in ops:
            self.end_ts.pop(op.subject, None)
            if op.verb == "ban":
                assert op.seconds is None or op.seconds >= 1
                assert not [one for one in self.end_ts if overlap(one, op.subject)], f"overlap with {op.subject}"
                self.end_ts[op.subject] = None if op.seconds is None else self.now_ts + op.seconds

    def advance(self, now_ts: float) -> None:
        """Let time pass: what has ended is gone."""
        self.now_ts = now_ts
        self.end_ts = {one: end for one, end in self.end_ts.items() if end is None or end > now_ts}

    def remaining_s(self) -> dict[str, float | None]:
        """What a reading tells."""
        return {one: None if end is None else end - self.now_ts for one, end in self.end_ts.items()}

    def covers(self, subject: str) -> bool:
        """Whether packets of all of a subject are dropped by one element."""
        network = ip_network(subject)
        return any(
            other.version == network.version and network.subnet_of(other)  # type: ignore[arg-type]  # versions are equal
            for other in map(ip_network, self.end_ts)
        )


def interval(subject: str) -> bool:
    """Whether a subject lives in an interval set."""
    return "/" in subject and not (":" in subject and subject.endswith("/64"))


def overlap(one: str, other: str) -> bool:
    """Whether the kernel refuses two elements side by side."""
    if not (interval(one) and interval(other)):
        return False
    left, right = ip_network(one), ip_network(other)
    return left.version == right.version and left.overlaps(right)


@st.composite
def kernels(draw: st.DrawFn) -> Kernel:
    """Any state that the kernel's sets can be in."""
    kernel = Kernel(NOW)
    for subject, left in draw(st.dictionaries(subjects, lefts, max_size=12)).items():
        if (left is None or left > 0) and not any(overlap(one, subject) for one in kernel.end_ts):
            kernel.end_ts[subject] = None if left is None else NOW + left
    return kernel


@given(desired=desires, kernel=kernels())
def test_applying_the_ops_makes_actual_what_is_desired(desired: dict[str, float | None], kernel: Kernel) -> None:
    """Every subject in force, each with its end within the tolerance; a stray host may have seconds left."""
    kernel.apply(reconcile(desired, kernel.remaining_s(), NOW))
    wanted = in_force(desired, NOW)
    for subject, end_ts in wanted.items():
        assert subject in kernel.end_ts
        actual_ts = kernel.end_ts[subject]
        if end_ts is None or actual_ts is None:
            assert end_ts is None
            assert actual_ts is None
        else:
            assert -TOLERANCE_S <= actual_ts - end_ts <= TOLERANCE_S
    for subject in kernel.end_ts.keys() - wanted.keys():
        left_s = kernel.remaining_s()[subject]
        assert not interval(subject)
        assert left_s is not None
        assert left_s <= TOLERANCE_S


@given(desired=desires, kernel=kernels())
def test_it_is_idempotent(desired: dict[str, float | None], kernel: Kernel) -> None:
    """A second run has nothing to do."""
    kernel.apply(reconcile(desired, kernel.remaining_s(), NOW))
    assert reconcile(desired, kernel.remaining_s(), NOW) == []


@given(desired=desires, kernel=kernels())
def test_whatever_is_desired_is_covered(desired: dict[str, float | None], kernel: Kernel) -> None:
    """Folded or not: every packet of every desired subject is dropped."""
    kernel.apply(reconcile(desired, kernel.remaining_s(), NOW))
    for subject, end_ts in desired.items():
        handing_over = end_ts is not None and end_ts - HANDOVER_S <= NOW
        assert (end_ts is not None and (end_ts <= NOW or handing_over)) or kernel.covers(subject), subject


@given(desired=desires, kernel=kernels(), spared=st.sets(subjects, max_size=6))
def test_never_ban_is_never_in_force(desired: dict[str, float | None], kernel: Kernel, spared: set[str]) -> None:
    """Neither by a ban nor left over, except for a host's last seconds."""
    ops = reconcile(desired, kernel.remaining_s(), NOW, never=spared.__contains__)
    assert not {op.subject for op in ops if op.verb == "ban"} & spared
    kernel.apply(ops)
    for subject in spared & kernel.end_ts.keys():
        left_s = kernel.remaining_s()[subject]
        assert left_s is not None
        assert left_s <= TOLERANCE_S


@given(desired=desires)
def test_looking_again_when_told_leaves_no_prefix_uncovered(desired: dict[str, float | None]) -> None:
    """From the first ban to the last end, a wide prefix that ends never frees a longer one inside it."""
    kernel = Kernel(NOW)
    now_ts, rounds = NOW, 0
    kernel.apply(reconcile(desired, kernel.remaining_s(), now_ts))
    while (again_ts := next_change_ts(desired, now_ts)) is not None:
        rounds += 1
        assert rounds <= len(desired)
        assert again_ts > now_ts
        kernel.advance(again_ts)
        still = [one for one, end in desired.items() if interval(one) and (end is None or end > again_ts + HANDOVER_S)]
        now_ts = again_ts
        kernel.apply(reconcile(desired, kernel.remaining_s(), now_ts))
        assert all(kernel.covers(one) for one in still)


@given(desired=desires, kernel=kernels())
def test_the_order_of_what_is_desired_does_not_matter(desired: dict[str, float | None], kernel: Kernel) -> None:
    """The same Ops, if not in the same order."""
    backwards = dict(reversed(desired.items()))
    actual = kernel.remaining_s()
    assert sorted(map(repr, reconcile(desired, actual, NOW))) == sorted(map(repr, reconcile(backwards, actual, NOW)))
