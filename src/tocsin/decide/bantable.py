"""Subjects and until when: what is in force, in order of what ends first, in bounded memory.

Bans that close single services are rows of their own, under their targets (`model.target_of`); they cover nothing else.

Ends are kept in slots of 64 s; only the slot that comes next is put in exact order, after it was cut into seconds where
a flood has filled it. A heap of all of them would cost 120 bytes a ban more (24 MB for 200,000).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from heapq import heapify, heappop, heappush

from tocsin.decide.subjects import bounds, prefix_of
from tocsin.model import parts_of

SLOT_S = 64.0
FINE_S = 1.0
CROWD = 4096  # subjects in a slot that is cut
HOST = 64  # the IPv6 prefix that is a host


class BanTable:
    """At most `max_rows` subjects, each with the event time at which it ends (None: never)."""

    def __init__(self, max_rows: int) -> None:
        self.max_rows = max_rows
        self.ends: dict[str, float | None] = {}
        self.evicted = 0
        self._permanent: dict[str, None] = {}
        self._slots: list[float] = []  # heap of when the slots of `_later` begin
        self._later: dict[float, list[str]] = {}
        self._next: list[tuple[float, str]] = []  # heap: all that end before `_next_until`
        self._next_until = -math.inf
        self._fine_until = -math.inf  # slots up to here are of FINE_S
        self._queued = 0
        self._targets: dict[str, list[str]] = {}  # of those with services, by subject
        self._lengths: dict[int, dict[int, int]] = {4: {}, 6: {}}  # how many prefixes of each length are held
        self._longest_first: dict[int, list[int]] = {4: [], 6: []}

    def __len__(self) -> int:
        return len(self.ends)

    def put(self, subject: str, end_ts: float | None, now_ts: float) -> list[tuple[str, float | None]]:
        """Add or change one; returns the rows that ended earlier than their time to make room, with their ends."""
        gone: list[tuple[str, float | None]] = []
        if subject in self.ends:
            self._permanent.pop(subject, None)
        else:
            if len(self.ends) >= self.max_rows:
                self.expire(now_ts)
            while len(self.ends) >= self.max_rows:
                gone.append(self._evict())
            length = subject.partition("/")[2]
            if " " in subject:
                self._targets.setdefault(parts_of(subject)[0], []).append(subject)
            elif length.isdigit():
                self._count(subject, int(length), 1)
        self.ends[subject] = end_ts
        self._queue(subject, end_ts)
        if self._queued > 2 * len(self.ends) + 1024:
            self._rebuild()
        return gone

    def remove(self, subject: str) -> bool:
        """Drop one; says whether it was there."""
        if subject not in self.ends:
            return False
        self._drop(subject)
        return True

    def expire(self, now_ts: float) -> list[str]:
        """Drop and return all that end by now, in order of their ends."""
        gone = []
        while (first := self._first()) is not None and first[0] <= now_ts:
            heappop(self._next)
            self._queued -= 1
            self._drop(first[1])
            gone.append(first[1])
        return gone

    def holder(self, subject: str, now_ts: float) -> str | None:
        """The narrowest held subject, in force after `now_ts`, that covers all of `subject`: itself, or a prefix."""
        for held in self.holders(subject):
            end_ts = self.ends[held]
            if end_ts is None or end_ts > now_ts:
                return held
        return None

    def holders(self, subject: str) -> Iterator[str]:
        """All held subjects that cover all of `subject`, in force or ended, from itself outwards."""
        if subject in self.ends:
            yield subject
        lengths = self._longest_first[6 if ":" in subject else 4]
        if not lengths or (lengths[-1] >= HOST and subject.endswith("/64")):
            return  # only hosts are held, so nothing wider is
        version, low, high = bounds(subject)
        own = (32 if version == 4 else 128) - (high - low).bit_length()
        for length in self._longest_first[version]:
            if length <= own:
                wider = prefix_of(version, low, length)
                if wider in self.ends and wider != subject:
                    yield wider

    def targets(self, subject: str) -> tuple[str, ...]:
        """The held targets with services of a subject, in force or ended."""
        return tuple(self._targets.get(subject, ()))

    def own(self, subject: str, now_ts: float) -> list[str]:
        """The rows of a subject that are in force after `now_ts`: its own, and those of its targets with services."""
        rows = (subject, *self._targets[subject]) if subject in self._targets else (subject,)
        return [row for row in rows if (end_ts := self.ends.get(row, -math.inf)) is None or end_ts > now_ts]

    def holds_narrower(self, prefix: int) -> bool:
        """Whether a prefix longer than that is held."""
        return any(length > prefix for lengths in self._longest_first.values() for length in lengths[:1])

    def __iter__(self) -> Iterator[str]:
        return iter(self.ends)

    def _drop(self, subject: str) -> None:
        del self.ends[subject]
        self._permanent.pop(subject, None)
        length = subject.partition("/")[2]
        if " " in subject:
            host = parts_of(subject)[0]
            self._targets[host].remove(subject)
            if not self._targets[host]:
                del self._targets[host]
        elif length.isdigit():
            self._count(subject, int(length), -1)

    def _count(self, subject: str, length: int, more: int) -> None:
        version = 6 if ":" in subject else 4
        lengths = self._lengths[version]
        lengths[length] = lengths.get(length, 0) + more
        if not lengths[length]:
            del lengths[length]
        if len(lengths) != len(self._longest_first[version]):
            self._longest_first[version] = sorted(lengths, reverse=True)

    def _queue(self, subject: str, end_ts: float | None) -> None:
        if end_ts is None:
            self._permanent[subject] = None
            return
        self._queued += 1
        if end_ts < self._next_until:
            heappush(self._next, (end_ts, subject))
        else:
            self._file(subject, end_ts)

    def _file(self, subject: str, end_ts: float) -> None:
        """Put one into the slot in which it ends."""
        width_s = FINE_S if end_ts < self._fine_until else SLOT_S
        slot = end_ts // width_s * width_s
        if slot in self._later:
            self._later[slot].append(subject)
        else:
            self._later[slot] = [subject]
            heappush(self._slots, slot)

    def _first(self) -> tuple[float, str] | None:
        """What ends first. Rows that were changed or dropped since they were queued are passed over."""
        while True:
            while self._next:
                end_ts, subject = self._next[0]
                if self.ends.get(subject) == end_ts:
                    return end_ts, subject
                heappop(self._next)
                self._queued -= 1
            if not self._slots:
                return None
            self._open(heappop(self._slots))

    def _open(self, slot: float) -> None:
        """Put a slot in order, or, where it is crowded, cut it."""
        subjects = self._later.pop(slot)
        fine = slot < self._fine_until
        until_ts = slot + (FINE_S if fine else SLOT_S)
        known = {subject: end_ts for subject in subjects if (end_ts := self.ends.get(subject)) is not None}
        rows = [(end_ts, subject) for subject, end_ts in known.items() if slot <= end_ts < until_ts]
        self._queued -= len(subjects) - len(rows)
        if fine or len(rows) <= CROWD:
            self._next_until = until_ts
            self._next = rows
            heapify(self._next)
            return
        self._next_until, self._fine_until = slot, until_ts
        for end_ts, subject in rows:
            self._file(subject, end_ts)

    def _evict(self) -> tuple[str, float | None]:
        first = self._first()
        self.evicted += 1
        if first is None:
            subject = next(iter(self._permanent))
            self._drop(subject)
            return subject, None
        self._drop(first[1])
        return first[1], first[0]

    def _rebuild(self) -> None:
        """Queue anew what is held, without what changes have left behind."""
        self._slots, self._later, self._next, self._queued = [], {}, [], 0
        self._next_until = self._fine_until = -math.inf
        self._permanent = {}
        for subject, end_ts in self.ends.items():
            self._queue(subject, end_ts)
