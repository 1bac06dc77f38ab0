"""Exact windows over event time, compact and bounded: `limit` events (or distinct values) within `within_s` seconds.

In: (key, time) pairs in the order of reading, a part of them late. Out: CROSSED at the event that crosses the limit.
Invariants:
- exact: CROSSED if and only if some span of `within_s` seconds, both ends included, holds `limit` events that are not
  older than `lateness_s` behind the newest line when they are read. Their order within that lateness is of no account.
- bounded: a key lives in the younger of two generations, and moves there when it is touched. A generation ends when
  its oldest key can no longer matter, or when the pool is full; what is still in the older one then goes. So the
  last `Pool.capacity` keys touched are exact, and what is dropped before its time is counted in `Pool.evicted`.
- no clock: only `rotate(now_ts)`, driven by the lines, ends a generation.
Memory is what shapes the values: 500,000 keys with one event each cost a dict entry and a float shared by all lines of
that second (64 MB in all with their keys); a deque for each would cost 800 bytes more.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections.abc import Callable
from typing import Any
from zlib import crc32

# A count: the one event's time, or the times in order. A distinct count: value digest -> its times in order.
Value = float | list[float] | dict[int, list[float]]

# What an event did to its key: nothing yet worth a note; near enough to the limit that the line is evidence; crossed.
QUIET, ARMED, CROSSED = 0, 1, 2

GENERATION_S = 1800.0  # at least: each end of a generation makes every address that is still at work move
PRUNE_EVERY = 64  # events of a key, so that one that goes on for days stays small


class Pool:
    """The room that all windows share: how many keys may be young together, and how many had to go early."""

    def __init__(self, capacity: int) -> None:
        self.capacity = capacity
        self.young = 0
        self.evicted = 0
        self.windows: list[Window] = []

    def make_room(self) -> None:
        """Too many keys are young: end everybody's generation, counting what goes early."""
        for window in self.windows:
            self.evicted += len(window.old)
            window.age()
        self.young = 0

    @property
    def tracked(self) -> int:
        """Keys held at the moment."""
        return sum(len(window.young) + len(window.old) for window in self.windows)


class Window:
    """What count and distinct windows share: generations, and who contributed where the key is not an address."""

    def __init__(self, pool: Pool, limit: int, within_s: float, lateness_s: float) -> None:
        self.pool = pool
        self.limit = limit
        self.within_s = within_s
        self.retention_s = within_s + lateness_s
        self.generation_s = max(self.retention_s, GENERATION_S)
        self.young: dict[str, Any] = {}
        self.old: dict[str, Any] = {}
        self.rotated_ts = float("-inf")
        self.watch: Callable[[str], bool] | None = None  # of whose keys somebody wants to see every line
        self.watched: set[str] = set()  # those of them that are young or old
        self.all_watched = False  # then `watched` stays empty: it would take 40 bytes for each key of a flood
        pool.windows.append(self)

    def rotate(self, now_ts: float) -> float:
        """End the generation if it is due; returns the event time at which the next one is."""
        if self.rotated_ts == float("-inf"):
            self.rotated_ts = now_ts
        elif now_ts >= self.rotated_ts + self.generation_s:
            self.pool.young -= len(self.young)
            self.age()
            self.rotated_ts = now_ts
        return self.rotated_ts + self.generation_s

    def age(self) -> None:
        """What is young is old from now on, and what was old is gone."""
        self.old, self.young = self.young, {}
        self.watched.intersection_update(self.old)

    def look_out(self, watch: Callable[[str], bool] | None) -> None:
        """Watch these keys from now on; None: all of them."""
        self.watch, self.all_watched = watch, watch is None
        self.watched.clear()
        if watch is not None:
            self.watched.update(filter(watch, self.young), filter(watch, self.old))

    def forget(self, key: str) -> None:
        """Drop what is known of a key, as a crossing does."""
        if self.young.pop(key, None) is None:
            self.old.pop(key, None)
        else:
            self.pool.young -= 1
        self.watched.discard(key)

    def dump(self) -> tuple[dict[str, Any], dict[str, Any], float]:
        """The state, for `load` after a restart."""
        return self.young, self.old, self.rotated_ts

    def load(self, young: dict[str, Any], old: dict[str, Any], rotated_ts: float) -> None:
        """Take up a dumped state."""
        self.pool.young += len(young) - len(self.young)
        self.young, self.old, self.rotated_ts = young, old, rotated_ts
        if self.watch is not None:
            self.look_out(self.watch)

    def renew(self, key: str, value: Any) -> Any:
        """Make a key young that is not, with its older value or else `value`. Returns the older value or None."""
        known = self.old.pop(key, None)
        if known is not None:
            self.young[key] = known
        else:
            self.young[key] = value
            if self.watch is not None and self.watch(key):
                self.watched.add(key)
        pool = self.pool
        pool.young += 1
        if pool.young > pool.capacity:
            pool.make_room()
        return known


class CountWindow(Window):
    """Counts events. From `arm` events within the window on, an event is ARMED: its line is worth keeping.

    Fewer than `loose` times of a key can neither cross nor arm, so they stand in the order of reading.
    """

    def __init__(self, pool: Pool, limit: int, within_s: float, lateness_s: float, arm: int = 1) -> None:
        super().__init__(pool, limit, within_s, lateness_s)
        self.arm = arm
        self.loose = min(arm, PRUNE_EVERY) - 1

    def add(self, key: str, ts: float) -> int:
        """Count an event; CROSSED (and the key begins anew) if it completes `limit` events within `within_s`."""
        if self.limit == 1:
            return CROSSED
        value: Any = self.young.get(key)
        if value is None:
            value = self.renew(key, ts)
            if value is None:
                return ARMED if self.arm == 1 else QUIET
        if type(value) is not list:
            value = [value]
            window = self.young if key in self.young else self.old
            window[key] = value
        return self._extend(key, value, ts)

    def load(self, young: dict[str, Any], old: dict[str, Any], rotated_ts: float) -> None:
        """Take up a dumped state; what stands loose in it need not under another limit."""
        super().load(young, old, rotated_ts)
        for value in (*young.values(), *old.values()):
            if type(value) is list:
                value.sort()

    def _extend(self, key: str, times: list[float], ts: float) -> int:
        if len(times) < self.loose:
            times.append(ts)
            return QUIET
        if len(times) == self.loose:
            times.sort()
        limit, within_s = self.limit, self.within_s
        if ts >= times[-1]:
            times.append(ts)
            crossed = len(times) >= limit and ts - times[-limit] <= within_s
        else:
            insort(times, ts)
            crossed = len(times) >= limit and self._spans(times, ts)
        if crossed:
            self.forget(key)
            return CROSSED
        if len(times) % PRUNE_EVERY == 0:
            del times[: bisect_left(times, times[-1] - self.retention_s)]
        arm = self.arm
        return ARMED if len(times) >= arm and times[-1] - times[-arm] <= within_s else QUIET

    def _spans(self, times: list[float], ts: float) -> bool:
        """Whether some `limit` neighbours around `ts` fit into the window."""
        at, limit, within_s = bisect_left(times, ts), self.limit, self.within_s
        first, last = max(0, at - limit + 1), min(at, len(times) - limit)
        return any(times[i + limit - 1] - times[i] <= within_s for i in range(first, last + 1))


class DistinctWindow(Window):
    """Counts distinct values. From `arm` values on (those too old to matter may be among them) an event is ARMED."""

    def __init__(self, pool: Pool, limit: int, within_s: float, lateness_s: float, arm: int = 1) -> None:
        super().__init__(pool, limit, within_s, lateness_s)
        self.arm = arm

    def add(self, key: str, ts: float, value: str) -> int:
        """Count a value; CROSSED (and the key begins anew) if it completes `limit` distinct ones within `within_s`."""
        if self.limit == 1:
            return CROSSED
        seen: Any = self.young.get(key)
        if seen is None:
            fresh: dict[int, list[float]] = {}
            seen = self.renew(key, fresh) or fresh
        digest = crc32(value.encode("utf-8", "surrogatepass")) << 16 | len(value) & 0xFFFF
        times = seen.get(digest)
        if times is None:
            if len(seen) >= 8 * self.limit:
                self._prune(seen)
            seen[digest] = [ts]
        else:
            self._insert(times, ts)
        if len(seen) >= self.limit and self._crossed(seen, ts):
            self.forget(key)
            return CROSSED
        return ARMED if len(seen) >= self.arm else QUIET

    def _insert(self, times: list[float], ts: float) -> None:
        """Note one more time of a value; a time between two that lie within one window adds nothing and is left out."""
        at = bisect_left(times, ts)
        if at < len(times) and times[at] == ts:
            return
        times.insert(at, ts)
        for middle in (at + 1, at, at - 1):
            if 0 < middle < len(times) - 1 and times[middle + 1] - times[middle - 1] <= self.within_s:
                del times[middle]
                return

    def _prune(self, seen: dict[int, list[float]]) -> None:
        """Forget values too old to matter, so that a key that goes on for days stays small."""
        horizon = max(times[-1] for times in seen.values()) - self.retention_s
        for digest in [digest for digest, times in seen.items() if times[-1] < horizon]:
            del seen[digest]

    def _crossed(self, seen: dict[int, list[float]], ts: float) -> bool:
        """Whether a span of `within_s` that holds `ts` holds `limit` distinct values."""
        within_s = self.within_s
        near = sorted((t, digest) for digest, times in seen.items() for t in times if abs(t - ts) <= within_s)
        counts: dict[int, int] = {}
        start = 0
        for t, digest in near:
            counts[digest] = counts.get(digest, 0) + 1
            while t - near[start][0] > within_s:
                gone = near[start][1]
                counts[gone] -= 1
                if not counts[gone]:
                    del counts[gone]
                start += 1
            if len(counts) >= self.limit:
                return True
        return False


class Contributors:
    """Which addresses contributed to a key that is no address: at most `most` for each, newest kept, by event time."""

    def __init__(self, window: Window, most: int = 1024) -> None:
        self.window = window
        self.most = most
        self.by_key: dict[str, dict[str, float]] = {}

    def add(self, key: str, subject: str, ts: float) -> None:
        """Note that `subject` took part at `ts`."""
        if len(self.by_key) >= 3 * self.window.pool.capacity:
            self.rotate()  # the window holds at most two thirds of them
        subjects = self.by_key.setdefault(key, {})
        subjects.pop(subject, None)
        subjects[subject] = ts
        if len(subjects) > self.most:
            del subjects[next(iter(subjects))]

    def take(self, key: str, ts: float) -> list[str]:
        """Those who took part in the crossing at `ts`, sorted; they are forgotten."""
        within_s = self.window.within_s
        return sorted(s for s, at in self.by_key.pop(key, {}).items() if abs(at - ts) <= within_s)

    def rotate(self) -> None:
        """Forget those of keys that the window has forgotten."""
        young, old = self.window.young, self.window.old
        self.by_key = {key: subjects for key, subjects in self.by_key.items() if key in young or key in old}
