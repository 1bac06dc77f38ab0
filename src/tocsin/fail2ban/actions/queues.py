"""What waits to be run: jails side by side, each in order; bounded, what does not fit counted. Pure.

A jail runs one thing at a time. A jail that hangs holds up itself alone: what has run for longer than PATIENCE_S no
longer counts among the few that may run at once, up to a number that only a machine in trouble reaches.
"""

from __future__ import annotations

from collections import deque
from typing import Generic, TypeVar

PATIENCE_S = 0.25
AT_ONCE = 8
AT_ONCE_MAX = 32

T = TypeVar("T")


class Lane(Generic[T]):
    """One jail's queue. Counts since the start: `done` through or dropped, `dropped` of the first sort and `late`."""

    __slots__ = ("busy_since_s", "done", "dropped", "dropped_late", "waiting")

    def __init__(self) -> None:
        self.waiting: deque[T] = deque()
        self.busy_since_s: float | None = None
        self.done = 0
        self.dropped = 0
        self.dropped_late = 0


class Queues(Generic[T]):
    """Lanes by name, served in turn."""

    def __init__(self, lane_max: int, late_max: int, *, at_once: int = AT_ONCE, at_once_max: int = AT_ONCE_MAX) -> None:
        """At most `lane_max` wait in a lane; of those put in `late` (undoing what was done before) `late_max`."""
        self.lanes: dict[str, Lane[T]] = {}
        self._lane_max = lane_max
        self._late_max = late_max
        self._at_once = at_once
        self._at_once_max = at_once_max
        self._turn: deque[str] = deque()

    def lane(self, name: str) -> Lane[T]:
        """The lane of that name, made where it was not there."""
        return self.lanes.setdefault(name, Lane())

    def put(self, name: str, item: T, *, late: bool = False) -> bool:
        """Queue it; False where the lane is full (counted)."""
        lane = self.lane(name)
        if len(lane.waiting) >= (self._late_max if late else self._lane_max):
            lane.done += 1
            if late:
                lane.dropped_late += 1
            else:
                lane.dropped += 1
            return False
        if not lane.waiting and lane.busy_since_s is None:
            self._turn.append(name)
        lane.waiting.append(item)
        return True

    def next(self, now_s: float) -> T | None:
        """The next to be run, its lane marked busy; None where nothing waits or enough runs."""
        if not self._turn or not self._room(now_s):
            return None
        name = self._turn.popleft()
        lane = self.lanes[name]
        lane.busy_since_s = now_s
        return lane.waiting.popleft()

    def clear(self, name: str) -> None:
        """Drop all that waits in the lane (counted)."""
        lane = self.lanes[name]
        if lane.waiting and lane.busy_since_s is None:
            self._turn.remove(name)
        lane.dropped += len(lane.waiting)
        lane.done += len(lane.waiting)
        lane.waiting.clear()

    def finished(self, name: str) -> None:
        """What ran in the lane is through."""
        lane = self.lanes[name]
        lane.busy_since_s = None
        lane.done += 1
        if lane.waiting:
            self._turn.append(name)

    def wait_s(self, now_s: float) -> float | None:
        """How long until what hangs stands no longer in the way; None where nothing waits for that."""
        if not self._turn or self._room(now_s):
            return None
        since = [lane.busy_since_s for lane in self.lanes.values() if lane.busy_since_s is not None]
        ends = [one + PATIENCE_S - now_s for one in since if one + PATIENCE_S > now_s]
        return max(0.0, min(ends)) if ends else None

    @property
    def idle(self) -> bool:
        """Nothing waits and nothing runs."""
        return not any(lane.waiting or lane.busy_since_s is not None for lane in self.lanes.values())

    def _room(self, now_s: float) -> bool:
        since = [lane.busy_since_s for lane in self.lanes.values() if lane.busy_since_s is not None]
        young = sum(now_s - one < PATIENCE_S for one in since)
        return young < self._at_once and len(since) < self._at_once_max
