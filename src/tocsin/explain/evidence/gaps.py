"""Where a log is silent though it would have spoken. Pure.

A log is looked at in steps of a minute, and of five and fifteen: where nearly every step around had a line, one
without is improbable, and a run of them the more so. A log that speaks seldom, or falls silent by degrees as a site
does at night, has no such steps at the silence's edges; one that is silent at that hour on most days is not missed.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence

from msgspec import Struct

from tocsin.explain.model import Gap

_SCALES = ((60, 0.5), (300, 0.9), (900, 0.9))
"""Steps, and how large a share of those at the edges must have lines."""

_EDGES = (30, 120)
_LEAST_EDGE = 5
_LEAST_STEPS = 3
_IMPROBABLE = 1e-6
_DAY_S = 86400
_DAYS = 7
_LEAST_DAYS = 2


class Minute(Struct, frozen=True, gc=False):
    """The lines of one minute (`number` since the epoch): when the first and last were."""

    number: int
    first: float
    last: float


def gaps_of(minutes: Sequence[Minute]) -> tuple[Gap, ...]:
    """The silences of a log whose minutes with lines ascend; from the last line before to the first after."""
    found: dict[float, Gap] = {}
    for step_s, least in _SCALES:
        steps = sorted({minute.number * 60 // step_s for minute in minutes})
        for before, after in _silences(steps):
            gap = _gap(minutes, steps, before, after, step_s, least)
            if gap is not None:
                found.setdefault(gap.start, gap)
    return tuple(found[start] for start in sorted(found))


def _silences(steps: Sequence[int]) -> list[tuple[int, int]]:
    """Positions before and after each run of empty steps that is long enough."""
    return [
        (position, position + 1)
        for position in range(len(steps) - 1)
        if steps[position + 1] - steps[position] > _LEAST_STEPS
    ]


def _gap(
    minutes: Sequence[Minute], steps: Sequence[int], before: int, after: int, step_s: int, least: float
) -> Gap | None:
    first, last = steps[before], steps[after]
    share = min(_share(steps, first - size + 1, first + 1) for size in _EDGES)
    share = min(share, *(_share(steps, last, last + size) for size in _EDGES))
    empty = last - first - 1
    if share < least or (1 - share) ** empty > _IMPROBABLE or _usual(steps, first, last, step_s):
        return None
    at = bisect_left(minutes, last * step_s // 60, key=lambda minute: minute.number)
    return Gap(minutes[at - 1].last, minutes[at].first)


def _share(steps: Sequence[int], begin: int, end: int) -> float:
    """How many of the steps of a span (as far as the log reaches) have lines; never quite all of them, and none where
    too few are known."""
    begin, end = max(begin, steps[0]), min(end, steps[-1] + 1)
    if end - begin < _LEAST_EDGE:
        return 0.0
    return (bisect_left(steps, end) - bisect_left(steps, begin)) / (end - begin + 1)


def _usual(steps: Sequence[int], first: int, last: int, step_s: int) -> bool:
    """Whether the log is mostly silent at that time of day, where other days are known."""
    day = _DAY_S // step_s
    shares = [
        _share(steps, first + 1 + number * day, last + number * day)
        for number in range(-_DAYS, _DAYS + 1)
        if number and first + number * day >= steps[0] and last + number * day <= steps[-1]
    ]
    return len(shares) >= _LEAST_DAYS and sorted(shares)[len(shares) // 2] < 0.25
