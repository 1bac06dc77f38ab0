"""Merges several logs by time, in runs: as many lines of one log at a time as are not later than the others' next.

The order within a log is never changed, and lines of a log that are out of order move with the run that they stand in:
run ends are found by probing, for to ask every line for its time would cost as much as all that is done with it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Iterator, Sequence

from tocsin.model import Batch
from tocsin.sources.lines import count_lines

LineTs = Callable[[str, bytes], float | None]
"""(source, line without its newline) -> Unix seconds; None where it tells none: it stays with the one before."""

NO_TIME = -math.inf
_STRIDE_BYTES = 512  # the first stride in search of a run's end: two or three lines
_UNTIMED_LINES = 64  # so many lines without a time are looked through in search of one


def first_ts(source: str, data: bytes, line_ts: LineTs) -> float:
    """The time of the first line in `data` that tells one; NO_TIME where none of the first does."""
    begin = 0
    for _ in range(_UNTIMED_LINES):
        end = data.find(b"\n", begin)
        if end < 0:
            break
        ts = line_ts(source, data[begin:end])
        if ts is not None:
            return ts
        begin = end + 1
    return NO_TIME


class Log:
    """One log on its way through the merge. `ts` is the time of its next line; the first `run` is the first to read."""

    def __init__(self, source: str, batches: Iterator[Batch], ts: float, line_ts: LineTs) -> None:
        self.source = source
        self.ts = ts
        self.ended = False
        self._batches = batches
        self._line_ts = line_ts
        self._batch: Batch | None = None
        self._data = b""
        self._at = 0
        self._line = 0
        self._last_at = 0
        self._last_ts = ts

    def run(self, bound_ts: float) -> Batch | None:
        """The lines from the next one on up to the first that is later than `bound_ts`; None where there are none."""
        if self._batch is None:
            self._load()
        batch, data = self._batch, self._data
        if batch is None or self.ts > bound_ts:
            return None
        end = len(data) if self._last_ts <= bound_ts else self._run_end(bound_ts)
        piece = batch
        if end - self._at < len(data):
            piece = Batch(self.source, data[self._at : end], batch.offset + self._at, self._line, batch.arrival_ts)
        self._at = end
        if end == len(data):
            self._load()
        else:
            self._line += count_lines(piece.data)
        return piece

    def _load(self) -> None:
        """The next batch, its last line's time, and that of its first unless it tells none."""
        before_ts = self._last_ts
        self._batch = batch = next(self._batches, None)
        if batch is None:
            self.ended = True
            return
        self._data = batch.data
        self._at, self._line = 0, batch.line
        ts = self._ts_of(0)
        self.ts = before_ts if ts is None else ts
        self._last_at = batch.data.rfind(b"\n", 0, len(batch.data) - 1) + 1
        self._last_ts = self._ts_at(self._last_at)

    def _run_end(self, bound_ts: float) -> int:
        """Where the first line later than `bound_ts` begins; the next line is not later, the last of the batch is."""
        low, high, high_ts = self._at, self._last_at, self._last_ts
        stride = _STRIDE_BYTES
        while (probe := self._next_line(min(low + stride, high))) < high:
            ts = self._ts_at(probe)
            if ts > bound_ts:
                high, high_ts = probe, ts
                break
            low, stride = probe, 2 * stride
        while (probe := self._between(low, high)) < high:
            ts = self._ts_at(probe)
            if ts > bound_ts:
                high, high_ts = probe, ts
            else:
                low = probe
        self.ts = high_ts
        return high

    def _between(self, low: int, high: int) -> int:
        """A line that begins between two others, near the middle; `high` where they are neighbours."""
        middle = self._data.rfind(b"\n", low, (low + high) // 2) + 1
        return middle if middle > low else self._next_line(low)

    def _next_line(self, position: int) -> int:
        return self._data.index(b"\n", position) + 1

    def _ts_at(self, begin: int) -> float:
        """The time of the line at `begin`: its own, else that of the nearest line before it."""
        for _ in range(_UNTIMED_LINES):
            ts = self._ts_of(begin)
            if ts is not None:
                return ts
            if begin <= self._at:
                break
            begin = self._data.rfind(b"\n", 0, begin - 1) + 1
        return self.ts

    def _ts_of(self, begin: int) -> float | None:
        return self._line_ts(self.source, self._data[begin : self._data.index(b"\n", begin)])


def merged(logs: Sequence[Log]) -> Iterator[Batch]:
    """All lines of all logs by time; at equal times the log that is being read goes on, else the first in order."""
    heap = [(log.ts, index) for index, log in enumerate(logs)]
    heapq.heapify(heap)
    while heap:
        _, index = heapq.heappop(heap)
        log = logs[index]
        bound_ts = heap[0][0] if heap else math.inf
        while not log.ended and log.ts <= bound_ts:
            piece = log.run(bound_ts)
            if piece is not None:
                yield piece
        if not log.ended:
            heapq.heappush(heap, (log.ts, index))
