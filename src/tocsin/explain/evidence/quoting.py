"""Finds the lines of access logs again by their numbers: reads the stretch of the file in which they stand."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path

from tocsin.explain.evidence.blocks import Log
from tocsin.explain.evidence.intake import Segment
from tocsin.formats.told import TEXT_CHARACTERS
from tocsin.sources.archive import packing_of
from tocsin.sources.finished import read_finished
from tocsin.sources.lines import MAX_LINE_BYTES
from tocsin.sources.notice import SourceError

_KEPT = 4
_READ_BYTES = 1 << 20


class Lines:
    """The lines of all logs. The last stretches read are kept, for whoever quotes one line quotes its neighbours."""

    def __init__(self, logs: Sequence[Log], segments: Sequence[Segment]) -> None:
        self._logs = logs
        self._segments = segments
        self._kept: dict[int, list[bytes]] = {}

    def line(self, number: int) -> tuple[str, int, str] | None:
        """Source, number in it and text of a line; None where it can no longer be read."""
        at = bisect_right(self._segments, number, key=lambda segment: segment.first) - 1
        segment = self._segments[at]
        place = number - segment.first
        lines = self._kept.get(at)
        if lines is None or len(lines) <= place:
            lines = self._read(segment, place + 1)
            if len(self._kept) >= _KEPT:
                del self._kept[next(iter(self._kept))]
            self._kept[at] = lines
        if len(lines) <= place:
            return None
        text = lines[place].decode("utf-8", "backslashreplace")[:TEXT_CHARACTERS]
        return self._logs[segment.source].name, segment.line + place, text

    def _read(self, segment: Segment, count: int) -> list[bytes]:
        """A segment's lines, so many at least, where they are still there."""
        path = Path(self._logs[segment.source].path)
        try:
            with path.open("rb") as file:
                if not packing_of(file.read(8)):
                    file.seek(segment.offset)
                    data = b""
                    while data.count(b"\n") < count and (more := file.read(_READ_BYTES)):
                        data += more
                    return [line[:MAX_LINE_BYTES] for line in data.split(b"\n")]
            lines: list[bytes] = []
            for batch in read_finished([path], block_bytes=_READ_BYTES):
                found = batch.data[:-1].split(b"\n")
                lines += found[max(0, segment.line - batch.line) :]
                if len(lines) >= count:
                    break
        except (OSError, SourceError):
            return []
        return lines
