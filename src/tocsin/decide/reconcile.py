"""What to change so that the kernel holds what should be in force: a pure function, and nothing else issues Ops.

It runs at start, on decisions, on every change that somebody else made to the table, and at `next_change_ts`. One law:
applying its Ops to `actual` makes it equal to what `in_force` keeps of `desired`, within TOLERANCE_S; a second run then
has nothing to do.

The kernel refuses prefixes that overlap in one set. Hosts (IPv4 addresses, IPv6 /64 and single IPv6 addresses) are in
sets of their own and never overlap; of other prefixes that lie in each other only the widest is put in, and those
inside it are folded: they come back when it ends.
"""

from __future__ import annotations

import math
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING

from tocsin.model import MAX_BAN_S, Op

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

# The kernel is told whole seconds, rounded up, and until it has 100,000 of them two seconds pass; what differs by no
# more than this is right.
TOLERANCE_S = 5.0

# A prefix that folds a longer ban gives way to it this long before its own end: ending itself, it would leave the
# folded one free until somebody looks.
HANDOVER_S = 1.0

_MISSING = -1.0


def reconcile(
    desired: Mapping[str, float | None],
    actual: Mapping[str, float | None],
    now_ts: float,
    *,
    never: Callable[[str], bool] | None = None,
    causes: Mapping[str, str] | None = None,
) -> list[Op]:
    """The Ops that bring `actual` to `desired`, as `reconciling` gives them."""
    return list(reconciling(desired, actual, now_ts, never=never, causes=causes))


def reconciling(
    desired: Mapping[str, float | None],
    actual: Mapping[str, float | None],
    now_ts: float,
    *,
    never: Callable[[str], bool] | None = None,
    causes: Mapping[str, str] | None = None,
) -> Iterator[Op]:
    """The Ops that bring `actual` to `desired`, unbans first, then bans, each in the order of its mapping.

    One after the other: 200,000 are never held at once. Neither mapping may change until the last was taken.

    Args:
        desired: target (`model.target_of`) to when its ban ends in Unix seconds (None: for good). What has ended by
            `now_ts` is not desired. Every element of our sets that is not here is taken out.
        actual: target to the seconds that the kernel has left for it at `now_ts` (None: for good).
        never: targets for which it is true are not desired, whoever put them there.
        causes: target to the id of its decision, for the Receipts.
    """
    wanted = in_force(desired, now_ts, never=never)
    causes = causes or {}
    for subject, remaining_s in actual.items():
        # A host that is about to end is left to: unban and expiry would race, and the outcome is the same. A prefix may
        # be in another's way.
        if subject not in wanted and (remaining_s is None or remaining_s > TOLERANCE_S or _is_prefix(subject)):
            yield Op("unban", subject, None, causes.get(subject, ""))
    for subject, end_ts in wanted.items():
        remaining_s = actual.get(subject, _MISSING)
        if end_ts is None:
            if remaining_s is not None:
                yield Op("ban", subject, None, causes.get(subject, ""))
            continue
        left_s = end_ts - now_ts
        if remaining_s is None or remaining_s <= 0 or not -TOLERANCE_S <= remaining_s - left_s <= TOLERANCE_S:
            yield Op("ban", subject, max(1, math.ceil(left_s)), causes.get(subject, ""))


def in_force(
    desired: Mapping[str, float | None], now_ts: float, *, never: Callable[[str], bool] | None = None
) -> dict[str, float | None]:
    """What of `desired` the kernel should hold at `now_ts`: not ended, not `never`, prefixes folded.

    Ends more than a century away become None.
    """
    latest_ts = now_ts + MAX_BAN_S
    wanted = {
        subject: end_ts if end_ts is not None and end_ts <= latest_ts else None
        for subject, end_ts in desired.items()
        if end_ts is None or end_ts > now_ts
    }
    if never is not None:
        wanted = {subject: end_ts for subject, end_ts in wanted.items() if not never(subject)}
    for subject in _folded(wanted, now_ts)[0]:
        del wanted[subject]
    return wanted


def next_change_ts(desired: Mapping[str, float | None], now_ts: float) -> float | None:
    """When to reconcile again although nothing happens: a prefix is then to give way to one that it folds.

    None where no prefix folds a longer ban. Everything else ends in the kernel by itself.
    """
    wanted = {subject: end_ts for subject, end_ts in desired.items() if end_ts is None or end_ts > now_ts}
    return _folded(wanted, now_ts)[1]


def _folded(wanted: Mapping[str, float | None], now_ts: float) -> tuple[list[str], float | None]:
    """The prefixes to leave out, and when the first of those that fold a longer one gives way.

    A prefix is left out where a wider one holds it, or where it holds a longer one and is itself about to end.
    """
    prefixes = _prefixes(wanted)
    if len(prefixes) < 2:
        return [], None
    folded: list[str] = []
    handover_ts: float | None = None
    tops: list[tuple[IPv4Network | IPv6Network, str, list[str]]] = []
    for network, subject in prefixes:
        top = tops[-1] if tops else None
        if top and top[0].version == network.version and network.subnet_of(top[0]):  # type: ignore[arg-type]  # versions are equal
            top[2].append(subject)
        else:
            tops.append((network, subject, []))
    for _, subject, inside in tops:
        end_ts = wanted[subject]
        longer = end_ts is not None and any(_outlasts(wanted[one], end_ts) for one in inside)
        if end_ts is None or not longer or end_ts - HANDOVER_S > now_ts:
            folded += inside
            if longer and end_ts is not None:
                handover_ts = min(end_ts - HANDOVER_S, handover_ts or math.inf)
        else:
            folded.append(subject)
            again, later_ts = _folded({one: wanted[one] for one in inside}, now_ts)
            folded += again
            if later_ts is not None:
                handover_ts = min(later_ts, handover_ts or math.inf)
    return folded, handover_ts


def _outlasts(end_ts: float | None, other_ts: float) -> bool:
    return end_ts is None or end_ts > other_ts


def _is_prefix(target: str) -> bool:
    """Only hosts have services."""
    return "/" in target and " " not in target and not (target.endswith("/64") and ":" in target)


def _prefixes(subjects: Iterable[str]) -> list[tuple[IPv4Network | IPv6Network, str]]:
    """The subjects that share an interval set, parsed, each before those that lie in it."""
    found = [(ip_network(one), one) for one in subjects if _is_prefix(one)]
    return sorted(found, key=lambda pair: (pair[0].version, int(pair[0].network_address), pair[0].prefixlen))
