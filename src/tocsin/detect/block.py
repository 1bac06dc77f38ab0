"""A batch at work in the engine: what its steps need beside each other, and line numbers and positions on demand."""

from __future__ import annotations

import re
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

from tocsin.detect.evidence import EVIDENCE_BYTES, Row
from tocsin.detect.scan import Candidates
from tocsin.model import Batch, Finding
from tocsin.packed import spelt_out

if TYPE_CHECKING:
    from tocsin.detect.plan import Tracker
    from tocsin.formats import Anchor, Format
    from tocsin.rules import Failure

FEW_BYTES = 1 << 10  # in so short a stretch newlines are counted faster where they stand
_NEWLINES = re.compile(rb"\n").finditer
OnFinding = Callable[[Finding], float | None]


class Places(NamedTuple):
    """Where the lines of a block stood that are left of a longer one: their starts in what is left, in the longer one,
    and their numbers there (from 0). `lines` and `bytes`: how long that was.
    """

    starts: array[int]
    offsets: array[int]
    numbers: array[int]
    lines: int
    bytes: int


class Block:
    """A batch at work: what the steps need beside each other, and line numbers on demand. `places`: it is what is left
    of a longer one.
    """

    __slots__ = ("_at", "_line", "anchor", "batch", "data", "failures", "format", "on_finding", "places", "source")

    def __init__(
        self, batch: Batch, fmt: Format, anchor: Anchor, on_finding: OnFinding, places: Places | None = None
    ) -> None:
        self.batch = batch
        self.source = spelt_out(batch.source)  # as it is shown and stored; the path itself may be no UTF-8
        self.places = places
        self.data = batch.data
        self.format = fmt
        self.anchor = anchor
        self.on_finding = on_finding
        self.failures: dict[int, list[tuple[Tracker, Failure]]] = {}  # by start of line: what filters found there
        self._at = 0
        self._line = batch.line

    def number(self, start: int) -> int:
        """The number of the line at `start` (0: unknown). Asked in order, so that newlines are counted once."""
        if not self.batch.line:
            return 0
        if self.places is not None:
            return self.batch.line + self.places.numbers[bisect_right(self.places.starts, start) - 1]
        if start < self._at:
            self._at, self._line = 0, self.batch.line
        self._line += newlines(self.data, self._at, start)
        self._at = start
        return self._line

    def row(self, start: int, end: int) -> Row:
        """A line as evidence."""
        text = self.data[start : min(end, start + EVIDENCE_BYTES)]
        offset = start
        if self.places is not None:
            offset = self.places.offsets[bisect_right(self.places.starts, start) - 1]
        return self.source, self.number(start), self.batch.offset + offset, text

    def count(self) -> tuple[int, int]:
        """Lines and bytes of the block, to be asked last: what numbers were asked for need not be counted again."""
        if self.places is not None:
            return self.places.lines, self.places.bytes
        self._line += newlines(self.data, self._at, len(self.data))
        self._at = len(self.data)
        return self._line - self.batch.line, len(self.data)


def newlines(data: bytes, start: int, end: int) -> int:
    """Newlines in a stretch. `bytes.count` stops at every hit, which is slower than to copy what lies between."""
    stretch = data[start:end]
    return len(stretch) - len(stretch.replace(b"\n", b""))


class Looked(NamedTuple):
    """What a block holds, before anybody judges it: the candidates, the numbers of their lines within the block (from
    0), how many lines it has, and client and time of each, to be gone through once. All but the candidates are empty
    where no rule counts every line. `places`: the block is what was left of a longer one.
    """

    candidates: Candidates
    numbers: list[int]
    lines: int
    rows: Iterable[tuple[str, str]]
    places: Places | None = None


def line_numbers(data: bytes, candidates: Candidates) -> list[int]:
    """The numbers of the candidates' lines within the block."""
    numbers: list[int] = []
    at = number = 0
    for start, _ in candidates:
        number += newlines(data, at, start) if start - at > FEW_BYTES else data.count(b"\n", at, start)
        at = start
        numbers.append(number)
    return numbers


class Lines:
    """Where the i-th line of a block stands, found only when asked, in order, so that the block is walked once."""

    __slots__ = ("_at", "_data", "_start")

    def __init__(self, data: bytes) -> None:
        self._data = data
        self._at = 0
        self._start = 0

    def know(self, i: int, start: int) -> None:
        """Line `i` is known to begin at `start`: what comes before need not be walked."""
        self._at, self._start = i, start

    def span(self, i: int) -> tuple[int, int]:
        """Start and end (without its newline) of line `i`."""
        find, start = self._data.find, self._start
        for _ in range(i - self._at):
            start = find(b"\n", start) + 1
        self._at, self._start = i, start
        return start, find(b"\n", start)


def all_lines(data: bytes, candidates: Candidates) -> Candidates:
    """Every line, with the masks of the candidates."""
    starts = [0, *(found.end() for found in _NEWLINES(data))][:-1]
    return sorted({**dict.fromkeys(starts, 0), **dict(candidates)}.items())
