"""A message of a log, freed of its envelope: when and where it was heard, and how to tell what it said."""

from __future__ import annotations

from msgspec import Struct

from tocsin.formats.told import Clock, Told
from tocsin.model import AuthAttempt, ServerEvent

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
