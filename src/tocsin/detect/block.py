"""A batch at work in the engine: what its steps need beside each other, and line numbers and positions on demand."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from tocsin.detect.evidence import EVIDENCE_BYTES, Row
from tocsin.model import Batch, Finding

if TYPE_CHECKING:
    from tocsin.formats import Anchor, Format

OnFinding = Callable[[Finding], float | None]


class Block:
    """A batch at work: what the steps need beside each other, and line numbers on demand."""

    __slots__ = ("_at", "_line", "anchor", "batch", "data", "format", "on_finding")

    def __init__(self, batch: Batch, fmt: Format, anchor: Anchor, on_finding: OnFinding) -> None:
        self.batch = batch
        self.data = batch.data
        self.format = fmt
        self.anchor = anchor
        self.on_finding = on_finding
        self._at = 0
        self._line = batch.line

    def number(self, start: int) -> int:
        """The number of the line at `start` (0: unknown). Asked in order, so that newlines are counted once."""
        if not self.batch.line:
            return 0
        if start < self._at:
            self._at, self._line = 0, self.batch.line
        self._line += self.data.count(b"\n", self._at, start)
        self._at = start
        return self._line

    def row(self, start: int, end: int) -> Row:
        """A line as evidence."""
        text = self.data[start : min(end, start + EVIDENCE_BYTES)]
        return self.batch.source, self.number(start), self.batch.offset + start, text


class Lines:
    """Where the i-th line of a block from a position on stands, found only when asked."""

    __slots__ = ("_data", "_starts")

    def __init__(self, data: bytes, first: int) -> None:
        self._data = data
        self._starts = [first]

    def span(self, i: int) -> tuple[int, int]:
        """Start and end (without its newline) of line `i`. Asked in order, so that the piece is walked once."""
        starts = self._starts
        while len(starts) <= i + 1:
            starts.append(self._data.find(b"\n", starts[-1]) + 1)
        return starts[i], starts[i + 1] - 1
