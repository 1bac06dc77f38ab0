"""`vmstat`: memory that goes to and from the swap, and processors that wait for storage."""

from __future__ import annotations

from tocsin.formats.base import Anchor
from tocsin.formats.dates import iso_ts
from tocsin.formats.snapshots.sections import Seen
from tocsin.formats.snapshots.units import size, whole
from tocsin.server_events import Sample

MOST_STAMPED = 100_000
SOONEST_HEADER = 10


def is_vmstat(line: str) -> bool:
    """Whether a line is the second of `vmstat`'s header."""
    words = line.split()
    return words[:2] == ["r", "b"] and {"swpd", "si", "so"} <= set(words)


class VmstatSection:
    """A table of `vmstat`. The first row tells of the time since boot, and is no sample where others follow.

    Rows with a stamp (`-t`) are samples each; of others, whose interval nobody knows, the one that swapped most.
    Units are KiB, as without `-S`.
    """

    blank_ends = True

    def __init__(self, anchor: Anchor) -> None:
        self._columns: list[str] = []
        self._stamped = False
        self._anchor = anchor
        self._rows: list[tuple[float, Seen]] = []
        self._count = 0
        self._since_header = 0

    def take(self, line: str, number: int) -> bool:
        """Whether the line is a row or one of the two of the header."""
        if is_vmstat(line) or line.startswith("procs "):
            return self._take_header(line)
        words = line.split()
        figures = [whole(word) for word in words[: len(self._columns)]]
        if not figures or len(figures) < len(self._columns) or None in figures:
            return False
        ts = self._stamp(words[len(figures) :])
        told = {name: figure or 0 for name, figure in zip(self._columns, figures, strict=True)}
        self._count += 1
        self._since_header += 1
        seen = self._sample(ts, told), number, line
        traffic = float(told["si"] + told["so"])
        if self._count == 1 or not self._stamped:
            # the first stands only until another comes
            keep = self._count <= 2 or traffic > self._rows[0][0]
            self._rows = [(traffic, seen)] if keep else self._rows
        elif len(self._rows) < MOST_STAMPED:
            self._rows = [] if self._count == 2 else self._rows
            self._rows.append((traffic, seen))
        return True

    def _take_header(self, line: str) -> bool:
        """Into a file, a header comes again after 20 rows or so: one that comes sooner is another run's."""
        if 0 < self._since_header < SOONEST_HEADER:
            return False
        self._since_header = 0
        if is_vmstat(line):
            self._columns = [name for name in line.split() if name.islower()]
        return True

    def _stamp(self, words: list[str]) -> float:
        """The row's own time; 0 where it has none."""
        ts = iso_ts(f"{words[0]} {words[1]}", self._anchor) if len(words) >= 2 else None
        self._stamped = self._stamped or ts is not None
        return ts or 0.0

    def _sample(self, ts: float, told: dict[str, int]) -> Sample:
        caches = sum(told.get(name, 0) for name in ("free", "buff", "cache"))
        return Sample(
            ts=ts,
            kind="vmstat",
            available_bytes=size(str(caches), 1024),
            swapping_bytes_s=float((told["si"] + told["so"]) * 1024),
            waiting_share=min(told.get("wa", 0), 100) / 100 if "wa" in told else None,
        )

    def told(self) -> Seen | None:
        """The sample of a table without stamps; None of one with."""
        return self._rows[0][1] if self._rows and not self._stamped else None

    def stamped(self) -> list[Seen]:
        """The samples of rows that have a stamp, by which they stand."""
        return [seen for _, seen in self._rows if seen[0].ts] if self._stamped else []
