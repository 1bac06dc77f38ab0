"""The number that many servers append to `combined`: which of the words it is, and what it counts. Pure.

Facts: Apache's `%D` microseconds, `%T` seconds, `%{ms}T` milliseconds, all since the request's start, at which `%t`
stands; nginx's `$request_time` seconds with three decimals, and its time is the end (log-format documentation of both).
`combinedio` appends bytes in and out (`%I %O`), which are no durations.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from tocsin.explain.evidence.shapes import took_of

_MOSTLY = 0.9
_LONG = 120_000
_TWO_NUMBERS = re.compile(rb'" [0-9]+ [0-9]+\Z').search


class Numbers(Struct, frozen=True):
    """What is known of the numbers of one log: how many, how they are spread, how many differ."""

    count: int
    low: float
    median: float
    high: float
    most: float
    zeros: int
    distinct: int
    whole: bool


class Unit(Struct, frozen=True):
    """What to divide by to get seconds, the unit's name, and whether the line's time is the request's end."""

    divisor: float
    name: str
    ends: bool


def word_of(lines: Sequence[bytes]) -> int:
    """Which word behind the last quote may be the duration: 1 the first, -1 the last, 0 none."""
    told = [line for line in lines if line.rfind(b'"') + 2 < len(line)]
    if not told:
        return 0
    if sum(_TWO_NUMBERS(line) is not None for line in told) >= _MOSTLY * len(told):
        return 0  # two whole numbers are bytes in and out
    for word in (-1, 1):
        if sum(took_of(line, word) is not None for line in told) >= _MOSTLY * len(told):
            return word
    return 0


def unit_of(numbers: Numbers) -> Unit | None:
    """What these numbers count; None where they are not durations (or say nothing: all alike)."""
    if not numbers.count or numbers.distinct < min(3, numbers.count):
        return Unit(1.0, "seconds", ends=False) if numbers.most and numbers.most <= 3 else None
    if not numbers.whole:
        return Unit(1.0, "seconds", ends=True)
    # %D is what most servers append; of milliseconds so many would be minutes, which no server grants a request
    if numbers.low >= 20 or numbers.median >= 5000 or numbers.most >= _LONG:
        return Unit(1e6, "microseconds", ends=False)
    if numbers.zeros > numbers.count / 2 and numbers.high <= 60:
        return Unit(1.0, "seconds", ends=False)
    return Unit(1e3, "milliseconds", ends=False)
