"""A message of a log, freed of its envelope: when and where it was heard, and how to tell what it said."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from msgspec import Struct

from tocsin.formats.base import CACHE_ENTRIES, Anchor, remember
from tocsin.formats.told import Clock, Told
from tocsin.model import AuthAttempt
from tocsin.server_events import ServerEvent

_HOUR_S = 3600

LONGEST = 8192
"""Characters of a line that are looked at: the kernel's records end at about 1,000, syslog's at 8,192."""


def looked_at(line: str) -> str:
    """What is read of a line: without the NULs that a hard reset leaves around it, and cut."""
    return line[:LONGEST].strip("\0")


class Heard(Struct, frozen=True, gc=False):
    """`ts` by `clock`, the line's `number` and its `text` (cut), and `uptime_s` where it names that, too."""

    ts: float
    clock: Clock
    number: int
    text: str
    uptime_s: float | None = None

    def told(self, event: ServerEvent | AuthAttempt, clock: Clock | None = None) -> Told:
        """The event, proved by this line."""
        return Told(event, self.number, self.text, clock or self.clock)


class Hours:
    """Times of one format by the hour in which they are: one in thousands is read part by part (8 us), the rest not.

    `read` reads a whole one; minutes and seconds stand in it from place `at` on, as `MM:SS`. An hour in which a clock
    is put forward or back, or a year is another, is not remembered.
    """

    def __init__(self, read: Callable[[str, Anchor], float | None], at: int) -> None:
        self._read = read
        self._at = at
        self._begins: dict[str, float] = {}
        self._odd: set[str] = set()
        self._anchor: Anchor | None = None

    def ts(self, text: str, anchor: Anchor) -> float | None:
        """Unix seconds; None where the text is no valid time."""
        if anchor is not self._anchor:
            self._anchor = anchor
            self._begins.clear()
            self._odd.clear()
        at = self._at
        second = _of_hour().get(text[at : at + 5])
        if second is None:
            return self._read(text, anchor)
        hour = text[:at] + text[at + 5 :]
        begin = self._begins.get(hour)
        if begin is None:
            begin = None if hour in self._odd else self._begin(hour, anchor)
        return self._read(text, anchor) if begin is None else begin + second

    def _begin(self, hour: str, anchor: Anchor) -> float | None:
        head, tail = hour[: self._at], hour[self._at :]
        first, last = self._read(f"{head}00:00{tail}", anchor), self._read(f"{head}59:59{tail}", anchor)
        if first is not None and last is not None and last - first == _HOUR_S - 1:
            return remember(self._begins, hour, first)
        if len(self._odd) >= CACHE_ENTRIES:
            self._odd.clear()
        self._odd.add(hour)
        return None


@cache
def _of_hour() -> dict[str, int]:
    return {f"{second // 60:02}:{second % 60:02}": second for second in range(_HOUR_S)}


class Lately:
    """What was told in the last while, so that it is not told again: bounded, by event time in either direction."""

    def __init__(self, within_s: float, most: int = 4096) -> None:
        self._within_s = within_s
        self._most = most
        self._told: dict[object, float] = {}

    def seen(self, key: object, ts: float) -> bool:
        """Whether it was told within that while."""
        before = self._told.get(key)
        return before is not None and abs(ts - before) <= self._within_s

    def again(self, key: object, ts: float) -> bool:
        """Whether it was told within that while; it is now."""
        seen = self.seen(key, ts)
        if len(self._told) >= self._most:
            self._told.clear()
        self._told[key] = ts
        return seen

    def forget(self, key: object) -> None:
        """What comes next is news."""
        self._told.pop(key, None)
