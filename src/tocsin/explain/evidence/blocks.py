"""Blocks of lines that are taken apart together: each stands behind its number, so that rows may come in any order.

Measured: to number the lines of a megabyte costs as much as twice to count them (0.6 s for 4.5 million; of 64 MB at
once it is 4.5 s). It lets DuckDB look up what it knows while it reads, without keeping the texts: joins keep no order.
"""

from __future__ import annotations

import os

from msgspec import Struct

from tocsin.explain.evidence.shapes import Shape, odd_lines
from tocsin.formats import Format
from tocsin.model import Batch

_MASKED = b"?"


class Log(Struct):
    """One access log on its way into the table. `path` is what to open to read it again; `group` what its rotations
    share. `word`: which word behind the last quote is a number that may be the duration (1 or -1; 0: none). `unparsed`
    and `others` (entries that are no requests) are counted here.
    """

    name: str
    format: Format
    path: str = ""
    vhost: str | None = None
    word: int = 0
    group: object = None
    lines: int = 0
    unparsed: int = 0
    others: int = 0
    sample: str = ""


class Part(Struct):
    """A batch in a block: of which log, where it stands in both, and those of its lines that DuckDB must not see."""

    source: int
    line: int
    offset: int
    lines: int
    begin: int
    size: int
    odd: dict[int, bytes]


class Block(Struct):
    """Lines that wait to be taken apart together: all of one format. `fd` holds them."""

    format: Format
    shape: Shape
    word: int
    fd: int
    parts: list[Part]
    size: int = 0
    lines: int = 0

    def write(self, source: int, batch: Batch, lines: list[bytes]) -> None:
        """Append a batch of a log, of which `lines` are the lines."""
        count = len(lines)
        odd = {number: lines[number] for number in odd_lines(batch.data, lines)}
        numbered = [_MASKED] * (2 * count)
        numbered[::2] = _numbers(self.lines, count)
        numbered[1::2] = lines
        for number in odd:
            numbered[2 * number + 1] = _MASKED
        size = os.pwrite(self.fd, b"".join(numbered), self.size)
        self.parts.append(Part(source, batch.line, batch.offset, count, self.size, size, odd))
        self.size += size
        self.lines += count

    def read(self, part: Part) -> list[bytes]:
        """The lines of a part, as they were."""
        written = os.pread(self.fd, part.size, part.begin).split(b"\n")
        lines = [line[line.index(b'"') + 1 :] for line in written[1:]]
        for number, line in part.odd.items():
            lines[number] = line
        return lines

    def close(self) -> str:
        """The last line is written; what to open to read them all."""
        os.pwrite(self.fd, b"\n", self.size)
        os.ftruncate(self.fd, self.size + 1)
        return f"/proc/self/fd/{self.fd}"

    def owners(self) -> list[tuple[int, int, int]]:
        """Which lines are of which log: the first, the one behind the last, and the log."""
        found: list[tuple[int, int, int]] = []
        at = 0
        for part in self.parts:
            first = at
            if found and found[-1][2] == part.source:
                first = found.pop()[0]
            at += part.lines
            found.append((first, at, part.source))
        return found


_made: list[bytes] = []


def _numbers(first: int, count: int) -> list[bytes]:
    """What stands between the end of one line and the next one itself; made once."""
    if len(_made) < first + count:
        _made.extend([b'\n%d"' % number for number in range(len(_made), first + 2 * count)])
    return _made[first : first + count]
