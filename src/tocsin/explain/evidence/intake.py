"""Fills the table of all requests: blocks of lines that DuckDB splits, and single ones that their format reads.

Texts stand once, in tables of their own. Every row keeps the number of its line among all lines, so that the line can
be found again. Memory is bounded by one block, the numbers of a row (50 bytes, a dozen where memory is short) and the
distinct texts.
"""

# ruff: noqa: S608  statements are made of names of ours alone; values are parameters

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct

from tocsin.explain.evidence.blocks import Block, Log
from tocsin.explain.evidence.shapes import shape_of, took_of
from tocsin.explain.evidence.splitting import Splitter
from tocsin.explain.evidence.table import MEMORY_MB, PARTS, TEXT, Table
from tocsin.formats import Anchor
from tocsin.model import Batch, HttpRequest, Unparsed

BLOCK_BYTES, BLOCK_LINES = min(64, MEMORY_MB // 8) << 20, 400_000
WORK_MB = 180
"""Besides what is kept, so much is needed to take a block apart."""

MOST_NUMBER = (1 << 63) - 1
SLOW_ROWS = 50_000

_SLOW = (
    ("line", "ubigint"), ("source", "usmallint"), ("ts", "double"), ("took", "double"), ("status", "bigint"),
    ("address", "varchar"), ("vhost", "varchar"), ("method", "varchar"), ("path", "varchar"), ("query", "varchar"),
    ("protocol", "varchar"), ("referred", "boolean"), ("agent", "varchar"),
)  # fmt: skip


class Segment(Struct, frozen=True, gc=False):
    """A run of lines of one log: number of the first among all lines, in its file, and where that begins."""

    first: int
    source: int
    line: int
    offset: int


class Loader:
    """Takes batches of access logs into its `table`. While one block is taken apart the next is read."""

    def __init__(self, anchor: Anchor) -> None:
        self.table = Table()
        self.logs: list[Log] = []
        self.segments: list[Segment] = []
        self._anchor = anchor
        self._lines = 0
        self._blocks: dict[tuple[str, int], Block] = {}
        self._slow: list[tuple[object, ...]] = []
        self._free: list[int] = []
        self._splitter = Splitter(self.table, self.logs, anchor)
        self._worker = ThreadPoolExecutor(1)
        self._flushing: list[Future[None]] = []

    def add_log(self, log: Log) -> int:
        """Announce a log; the number by which its batches name it."""
        self.logs.append(log)
        return len(self.logs) - 1

    def add(self, source: int, batch: Batch) -> None:
        """Some lines of a log."""
        log = self.logs[source]
        lines = batch.data.split(b"\n")
        lines.pop()
        log.lines += len(lines)
        shape = shape_of(log.format.name)
        if shape is None:
            self.wait()
            self._read(self._segment(source, batch.line, batch.offset, len(lines)), source, lines)
            return
        block = self._blocks.get((log.format.name, log.word))
        if block is None:
            fd = self._free.pop() if self._free else os.memfd_create("lines", os.MFD_CLOEXEC)
            block = self._blocks[log.format.name, log.word] = Block(log.format, shape, log.word, fd, [])
        block.write(source, batch, lines)
        waiting = self._blocks.values()
        if sum(one.size for one in waiting) >= BLOCK_BYTES or sum(one.lines for one in waiting) >= BLOCK_LINES:
            key = max(self._blocks, key=lambda one: self._blocks[one].size)
            self.wait()
            self._flush_aside(self._blocks.pop(key))

    def wait(self) -> None:
        """Until nothing is being taken in: only then may anybody else use the table, or a format."""
        while self._flushing:
            self._flushing.pop().result()

    def close(self) -> None:
        """All lines are in; nothing more may be added. What waits is taken in while others do something else."""
        for block in self._blocks.values():
            self._flush_aside(block)
        self._blocks.clear()

    def finish(self) -> None:
        """Until the table is complete."""
        self.close()
        self.wait()
        self._worker.shutdown()
        for fd in self._free:
            os.close(fd)
        self._flush_slow()
        self.table.run("""create table pages as select r.id, p.page from requests r
            join (select method, path, protocol, min(id) as page from requests group by all) p
            on r.path = p.path and r.method is not distinct from p.method and r.protocol is not distinct from p.protocol
        """)

    def _flush_aside(self, block: Block) -> None:
        self._flushing.append(self._worker.submit(self._flush, block))

    # -- single lines ------------------------------------------------------------------------------------------------

    def _segment(self, source: int, line: int, offset: int, lines: int) -> int:
        """Number these lines; the number of the first."""
        first = self._lines
        self.segments.append(Segment(first, source, line, offset))
        self._lines += lines
        return first

    def _read(self, first: int, source: int, lines: Sequence[bytes], numbers: Iterable[int] | None = None) -> None:
        """Lines (of them the `numbers`) through their format."""
        log = self.logs[source]
        parse, anchor, word = log.format.parse, self._anchor, log.word
        for number in range(len(lines)) if numbers is None else numbers:
            line = lines[number]
            event = parse(line, anchor)
            if isinstance(event, HttpRequest):
                took = event.duration_s if not word else took_of(line, word)
                who = (event.source_ip, event.vhost or log.vhost)
                referred = (event.referer or "-") != "-"
                what = (event.method, event.path, event.query, event.protocol, referred, event.user_agent)
                figures = (first + number, source, event.ts, took, _fit(event.status))
                self._slow.append((*figures, *who, *what))
            elif isinstance(event, Unparsed):
                log.unparsed += 1
                log.sample = log.sample or line[:200].decode("utf-8", "backslashreplace")
            else:
                log.others += 1
        if len(self._slow) >= SLOW_ROWS:
            self._flush_slow()

    def _flush_slow(self) -> None:
        if not self._slow:
            return
        columns = [list(column) for column in zip(*self._slow, strict=True)]
        self._slow.clear()
        unnested = ", ".join(f"unnest(${n}::{kind}[]) as {name}" for n, (name, kind) in enumerate(_SLOW, 1))
        run = self.table.run
        run(f"create or replace table work.slow as select {unnested}", columns)
        for column, table in (("address", "addresses"), ("vhost", "vhosts"), ("agent", "agents")):
            self.table.learn(table, f"select {column} as text from work.slow")
        self.table.learn("requests", f"select {TEXT}, {PARTS} from work.slow")
        run(f"""insert into hits
            select d.line, d.source, d.ts, d.took, d.status, a.id, v.id, r.id, u.id, d.referred
            from (select *, {TEXT} from work.slow) d left join work.known_addresses a on a.text = d.address
            left join work.known_vhosts v on v.text = d.vhost left join work.known_requests r on r.text = d.text
            left join work.known_agents u on u.text = d.agent""")
        self._pack()

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _flush(self, block: Block) -> None:
        firsts = [self._segment(part.source, part.line, part.offset, part.lines) for part in block.parts]
        self._read_some(block, firsts, self._splitter.take(block, firsts[0]))
        self._free.append(block.fd)  # its pages are there already: as much time as to fill them
        self._pack()

    def _pack(self) -> None:
        """Compress what is new in the table, where memory becomes short: it costs a tenth of all the rest."""
        if self.table.held_mb() > max(MEMORY_MB - WORK_MB, MEMORY_MB / 2):
            self.table.run("checkpoint logs")

    def _read_some(self, block: Block, firsts: list[int], rows: Sequence[int]) -> None:
        """Rows of a block, ascending, through its format."""
        at = begin = 0
        for part, first in zip(block.parts, firsts, strict=True):
            end = begin + part.lines
            until = bisect_left(rows, end, at)
            if until > at:
                numbers = [row - begin for row in rows[at:until]]
                self._read(first, part.source, block.read(part), numbers)
            at, begin = until, end


def _fit(number: int | None) -> int | None:
    """What a column holds: JSON's numbers have no end."""
    return None if number is None else min(number, MOST_NUMBER)
