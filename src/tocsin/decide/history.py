"""Who was banned before: how often, and until when; 500,000 subjects in 22 MB.

A dict of tuples would cost 150 bytes a subject. Here a subject is one 64-bit number in open-addressed arrays, cut into
shards so that growing one never takes longer than a few milliseconds. Exact up to `max_rows`; beyond that the one
that was banned first makes room, unless it came back meanwhile (it is then passed over once). That order is kept apart
from the arrays, so it does not depend on how they are laid out, which an attacker must not know (SipHash, seeded by
the interpreter).
"""

from __future__ import annotations

from array import array

from tocsin.decide.subjects import bounds

SHARDS = 256
FIRST_SLOTS = 16
ODD_ROWS = 4096  # subjects that are neither an IPv4 address nor an IPv6 /64
COUNT_MAX = 100
PASSED_OVER_MAX = 64  # bounds the work of one eviction
_CAME_BACK = 0x80
_COUNT = 0x7F


def key_of(subject: str) -> int:
    """The subject as a number that fits 64 bits, 0 where it does not (a prefix other than an IPv6 /64)."""
    version, low, high = bounds(subject)
    if version == 4:
        return 1 << 32 | low if low == high else 0
    top = low >> 64
    return top if high - low == (1 << 64) - 1 and top >> 33 else 0


class _Shard:
    """An open-addressed table with linear probing. Key 0 is an empty slot."""

    __slots__ = ("counts", "keys", "last_ends", "mask", "used")

    def __init__(self, slots: int) -> None:
        self.mask = slots - 1
        self.used = 0
        self.keys = array("Q", bytes(8 * slots))
        self.last_ends = array("d", bytes(8 * slots))
        self.counts = bytearray(slots)

    def find(self, key: int, start: int) -> int:
        """The slot that holds the key, or the empty one where it belongs."""
        keys, mask = self.keys, self.mask
        at = start & mask
        while keys[at] and keys[at] != key:
            at = at + 1 & mask
        return at

    def grown(self) -> _Shard:
        """The same in twice the room."""
        bigger = _Shard(2 * (self.mask + 1))
        for at, key in enumerate(self.keys):
            if key:
                to = bigger.find(key, _start(key))
                bigger.keys[to] = key
                bigger.last_ends[to] = self.last_ends[at]
                bigger.counts[to] = self.counts[at]
        bigger.used = self.used
        return bigger

    def delete(self, hole: int) -> None:
        """Empty a slot, and move up what was pushed past it, so that no search ends too early."""
        keys, mask = self.keys, self.mask
        at = hole
        while True:
            at = at + 1 & mask
            if not keys[at]:
                break
            home = _start(keys[at]) & mask
            if (at - home & mask) >= (at - hole & mask):
                keys[hole] = keys[at]
                self.last_ends[hole] = self.last_ends[at]
                self.counts[hole] = self.counts[at]
                hole = at
        keys[hole] = 0
        self.used -= 1


def _start(key: int) -> int:
    """Where to look first: the layout alone depends on it, never a result."""
    return hash(key.to_bytes(8, "little")) >> 8


def _shard_number(key: int) -> int:
    return hash(key.to_bytes(8, "little")) & SHARDS - 1


class History:
    """How often each subject was banned, and when its last ban ended or will end (infinity: never)."""

    def __init__(self, max_rows: int = 500_000) -> None:
        self.max_rows = max_rows
        self.evicted = 0
        self._rows = 0
        self._shards = [_Shard(FIRST_SLOTS) for _ in range(SHARDS)]
        self._order = array("Q")  # the keys, oldest at `_oldest` once it is full
        self._oldest = 0
        self._odd: dict[str, tuple[int, float]] = {}
        self._last = ("", 0)  # the subject asked for last, and its key: questions about one come in pairs

    def __len__(self) -> int:
        return self._rows + len(self._odd)

    def _key(self, subject: str) -> int:
        if self._last[0] != subject:
            self._last = (subject, key_of(subject))
        return self._last[1]

    def get(self, subject: str) -> tuple[int, float] | None:
        """The number of bans and the last end, None where nothing is known."""
        key = self._key(subject)
        if not key:
            return self._odd.get(subject)
        shard = self._shards[_shard_number(key)]
        at = shard.find(key, _start(key))
        return (shard.counts[at] & _COUNT, shard.last_ends[at]) if shard.keys[at] else None

    def put(self, subject: str, count: int, last_end_ts: float) -> None:
        """Remember the number of bans and the last end."""
        if self.amend(subject, count, last_end_ts, came_back=True):
            return
        count = min(count, COUNT_MAX)
        key = self._key(subject)
        if not key:
            self._put_odd(subject, count, last_end_ts)
            return
        self._enqueue(key)
        number = _shard_number(key)
        shard = self._shards[number]
        if 10 * (shard.used + 1) > 7 * (shard.mask + 1):
            shard = self._shards[number] = shard.grown()
        at = shard.find(key, _start(key))
        shard.keys[at] = key
        shard.counts[at] = count
        shard.last_ends[at] = last_end_ts
        shard.used += 1
        self._rows += 1

    def amend(self, subject: str, count: int, last_end_ts: float, *, came_back: bool = False) -> bool:
        """Correct what is remembered; False where nothing is. `came_back`: the subject has earned to be kept longer."""
        key = self._key(subject)
        if not key:
            if subject in self._odd:
                self._odd[subject] = (min(count, COUNT_MAX), last_end_ts)
            return subject in self._odd
        shard = self._shards[_shard_number(key)]
        at = shard.find(key, _start(key))
        if not shard.keys[at]:
            return False
        flag = _CAME_BACK if came_back else shard.counts[at] & _CAME_BACK
        shard.counts[at] = min(count, COUNT_MAX) | flag
        shard.last_ends[at] = last_end_ts
        return True

    def _put_odd(self, subject: str, count: int, last_end_ts: float) -> None:
        if len(self._odd) >= ODD_ROWS:
            del self._odd[next(iter(self._odd))]
            self.evicted += 1
        self._odd[subject] = (count, last_end_ts)

    def _enqueue(self, key: int) -> None:
        """Put a new key last in the order of leaving; at the limit the first one goes."""
        if len(self._order) < self.max_rows:
            self._order.append(key)
            return
        passed_over = 0
        while True:
            at = self._oldest
            self._oldest = (at + 1) % self.max_rows
            oldest = self._order[at]
            shard = self._shards[_shard_number(oldest)]
            slot = shard.find(oldest, _start(oldest))
            if shard.counts[slot] & _CAME_BACK and passed_over < PASSED_OVER_MAX:
                shard.counts[slot] &= _COUNT
                passed_over += 1
                continue
            shard.delete(slot)
            self._rows -= 1
            self.evicted += 1
            self._order[at] = key
            return
