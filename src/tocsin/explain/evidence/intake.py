"""Fills the table of all requests: blocks of lines that DuckDB splits, and single ones that their format reads.

Texts stand once, in tables of their own. Every row keeps the number of its line among all lines, so that the line can
be found again. Memory is bounded by one block, the numbers of a row (about 50 bytes) and the distinct texts.
"""

# ruff: noqa: S608  statements are made of names of ours alone; values are parameters

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor

from msgspec import Struct

from tocsin.explain.evidence.shapes import Shape, masked, shape_of, took_of, vhost_text
from tocsin.explain.evidence.table import PARTED, PARTS, Table
from tocsin.formats import Anchor, Format
from tocsin.formats.request import split_request
from tocsin.model import Batch, HttpRequest, Unparsed
from tocsin.sources.lines import count_lines

BLOCK_BYTES = 64 << 20
MOST_NUMBER = (1 << 63) - 1
SLOW_ROWS = 50_000
PACKED_ROWS = 1_000_000
"""So many new rows are compressed at a time: 70 bytes become a dozen."""

_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_SLOW = (
    ("line", "ubigint"), ("source", "usmallint"), ("ts", "double"), ("took", "double"), ("status", "bigint"),
    ("body_bytes", "bigint"), ("address", "varchar"), ("vhost", "varchar"), ("method", "varchar"), ("path", "varchar"),
    ("query", "varchar"), ("protocol", "varchar"), ("referer", "varchar"), ("agent", "varchar"),
)  # fmt: skip
_SAME = " and ".join(f"d.{name} is not distinct from r.{name}" for name in PARTS.split(", "))


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


class Segment(Struct, frozen=True, gc=False):
    """A run of lines of one log: number of the first among all lines, in its file, and where that begins."""

    first: int
    source: int
    line: int
    offset: int


class _Part(Struct):
    """A batch in a block: of which log, where it stands in both, and its bytes where the block has others for them."""

    source: int
    line: int
    offset: int
    lines: int
    begin: int
    size: int
    original: bytes | None


class _Block(Struct):
    """Lines that wait to be taken apart together: all of one format."""

    format: Format
    shape: Shape
    word: int
    fd: int
    parts: list[_Part]
    size: int = 0
    lines: int = 0

    def write(self, part: _Part, original: bytes, data: bytes) -> None:
        """Append a part's bytes, as DuckDB shall see them."""
        part.begin, part.size = self.size, len(data)
        part.original = None if data is original else original
        self.size += os.pwrite(self.fd, data, self.size)

    def data(self, part: _Part) -> bytes:
        """A part's bytes, as they were read."""
        return os.pread(self.fd, part.size, part.begin) if part.original is None else part.original


class Loader:
    """Takes batches of access logs into its `table`. While one block is taken apart the next is read."""

    def __init__(self, anchor: Anchor) -> None:
        self.table = Table()
        self.logs: list[Log] = []
        self.segments: list[Segment] = []
        self._anchor = anchor
        self._lines = 0
        self._blocks: dict[tuple[str, int], _Block] = {}
        self._slow: list[tuple[object, ...]] = []
        self._unpacked = 0
        self._free: list[int] = []
        self._worker = ThreadPoolExecutor(1)
        self._flushing: Future[None] | None = None

    def add_log(self, log: Log) -> int:
        """Announce a log; the number by which its batches name it."""
        self.logs.append(log)
        return len(self.logs) - 1

    def add(self, source: int, batch: Batch) -> None:
        """Some lines of a log."""
        log = self.logs[source]
        lines = count_lines(batch.data)
        log.lines += lines
        shape = shape_of(log.format.name)
        if shape is None:
            self.wait()
            number = self._segment(source, batch.line, batch.offset, lines)
            self._read(number, source, batch.data[:-1].split(b"\n"))
            return
        block = self._blocks.get((log.format.name, log.word))
        if block is None:
            fd = self._free.pop() if self._free else os.memfd_create("lines", os.MFD_CLOEXEC)
            block = self._blocks[log.format.name, log.word] = _Block(log.format, shape, log.word, fd, [])
        part = _Part(source, batch.line, batch.offset, lines, 0, 0, None)
        block.write(part, batch.data, masked(batch.data))
        block.parts.append(part)
        block.lines += lines
        if sum(one.size for one in self._blocks.values()) >= BLOCK_BYTES:
            key = max(self._blocks, key=lambda one: self._blocks[one].size)
            self.wait()
            self._flushing = self._worker.submit(self._flush, self._blocks.pop(key))

    def wait(self) -> None:
        """Until nothing is being taken in: only then may anybody else use the table, or a format."""
        flushing, self._flushing = self._flushing, None
        if flushing is not None:
            flushing.result()

    def finish(self) -> None:
        """All lines are in; nothing more may be added."""
        self.wait()
        for block in self._blocks.values():
            self._flush(block)
        self._blocks.clear()
        self._worker.shutdown()
        for fd in self._free:
            os.close(fd)
        self._flush_slow()
        self.table.run("""create table pages as select r.id, p.page from requests r
            join (select method, path, protocol, min(id) as page from requests group by all) p
            on r.path = p.path and r.method is not distinct from p.method and r.protocol is not distinct from p.protocol
        """)

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
                what = (event.method, event.path, event.query, event.protocol, event.referer, event.user_agent)
                figures = (first + number, source, event.ts, took, _fit(event.status), _fit(event.body_bytes))
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
        rows = len(self._slow)
        columns = [list(column) for column in zip(*self._slow, strict=True)]
        self._slow.clear()
        unnested = ", ".join(f"unnest(${n}::{kind}[]) as {name}" for n, (name, kind) in enumerate(_SLOW, 1))
        run = self.table.run
        run(f"create or replace temp table slow as select {unnested}", columns)
        run("update slow set referer = host_of(referer)")
        for column, table in (("address", "addresses"), ("vhost", "vhosts"), ("agent", "agents")):
            self.table.learn(table, f"select {column} as text from slow")
        self.table.learn("referers", "select referer as text from slow")
        self.table.learn("requests", "select method, path, query, protocol from slow", PARTS)
        run(f"""insert into hits
            select d.line, d.source, d.ts, d.took, d.status, d.body_bytes, a.id, v.id, r.id, u.id, f.id
            from slow d left join known_addresses a on a.text = d.address
            left join known_vhosts v on v.text = d.vhost left join known_requests r on {_SAME}
            left join known_agents u on u.text = d.agent left join known_referers f on f.text = d.referer""")
        self._pack(rows)

    # -- blocks ------------------------------------------------------------------------------------------------------

    def _flush(self, block: _Block) -> None:
        firsts = [self._segment(part.source, part.line, part.offset, part.lines) for part in block.parts]
        whole = self._stage(block)
        if not whole:  # there are empty lines, which DuckDB leaves out
            written, block.size = [block.data(part) for part in block.parts], 0
            for part, data in zip(block.parts, written, strict=True):
                block.write(part, data, masked(data, empty=True))
            whole = self._stage(block)
        slow = list(range(block.lines))
        if whole:
            self._date(block)
            slow = [row for (row,) in self.table.run("select rowid from stage where not fast order by rowid")]
            if len(slow) < block.lines:
                self._encode(block, firsts[0])
        self.table.run("drop table stage")
        self._read_some(block, firsts, slow)
        self._free.append(block.fd)  # its pages are there already: as much time as to fill them
        self._pack(block.lines)

    def _pack(self, rows: int) -> None:
        """Compress the table, once enough rows are new."""
        self._unpacked += rows
        if self._unpacked >= PACKED_ROWS:
            self.table.run("checkpoint logs")
            self._unpacked = 0

    def _stage(self, block: _Block) -> bool:
        """Take a block's lines apart; whether there are as many as there should be."""
        os.ftruncate(block.fd, block.size)
        self.table.run(f"create or replace temp table stage as {self._split(block)}", [f"/proc/self/fd/{block.fd}"])
        return bool(self.table.run("select count(*) from stage")[0][0] == block.lines)

    def _split(self, block: _Block) -> str:
        shape = block.shape
        vhost, client = ("split_part(p[1], ' ', 1)", 2) if shape.vhost else ("null::varchar", 1)
        referer, agent = ("p[4]", "p[6]") if shape.quoted else ("null::varchar", "null::varchar")
        return f"""
            select {vhost} as vhost, split_part(p[1], ' ', {client}) as client, right(p[1], 28) as stamp,
                p[2] as request, try_cast(p[3][2:4] as bigint) as status,
                try_cast(p[3][6:{-2 if shape.quoted else ""}] as bigint) as size, {referer} as referer,
                {agent} as agent, {shape.took_sql(block.word)} as took, coalesce({shape.fits_sql()}, false) as fast
            from (
                select l, string_split(l, '"') as p
                from read_csv($1, auto_detect = false, header = false, delim = chr(1), quote = '', escape = '',
                    comment = '', columns = {{'l': 'VARCHAR'}}, new_line = '\\n', max_line_size = 1000000,
                    strict_mode = false, compression = 'none', buffer_size = 16777216))"""

    def _date(self, block: _Block) -> None:
        """When the times of a block are; what names a day that is none is left to the format."""
        self.table.run("""create or replace temp table stamps as
            select stamp, stamp[:11] as day, stamp[22:26] as zone,
                3600 * stamp[13:14]::int + 60 * stamp[16:17]::int + stamp[19:20]::int as second
            from (select distinct stamp from stage where fast)""")
        new = self.table.run("""select distinct day, zone from stamps s
            where not exists (select 1 from days d where d.day = s.day and d.zone = s.zone)""")
        for day, zone in new:
            base = block.format.time_ts(f"{day}:00:00:00 {zone}".encode(), self._anchor)
            shift = 0 if base is None else (int(zone[1:3]) * 3600 + int(zone[3:]) * 60) * (-1 if zone[0] == "-" else 1)
            self.table.run("insert into days values ($1, $2, $3, $4)", [day, zone, base, shift])
        if self.table.run("select 1 from days where base is null limit 1"):
            self.table.run("""update stage set fast = false where stamp in
                (select stamp from stamps s join days d using (day, zone) where d.base is null)""")

    def _encode(self, block: _Block, first: int) -> None:
        run = self.table.run
        self._clients(block)
        self._vhosts(block)
        self._requests()
        self.table.freshen("referers", "referer", "host_of(raw) as text")
        self.table.learn("referers", "select text from fresh")
        run("insert into raw_referers select raw, id from fresh left join known_referers using (text)")
        run("""create or replace temp table raw_agents as
            select raw, nullif(nullif(raw, '-'), '') as text
            from (select distinct agent as raw from stage where fast)""")
        self.table.learn("agents", "select text from raw_agents")
        for table, texts in (("clients", "addresses"), ("agents", "agents")):
            run(f"""create or replace temp table raw_{table} as
                select raw, id from raw_{table} d left join known_{texts} using (text)""")
        run(f"""insert into hits
            select {first} + s.rowid, g.source, t.ts, s.took, s.status, s.size,
                c.id, v.id, r.id, u.id, f.id
            from stage s {self._owners(block)}
                join (select stamp, base + second as ts from stamps join days using (day, zone)) t on t.stamp = s.stamp
                join raw_clients c on c.raw = s.client
                join raw_vhosts v on v.raw is not distinct from s.vhost and v.source = g.source
                join raw_requests r on r.raw = s.request
                join raw_agents u on u.raw is not distinct from s.agent
                join raw_referers f on f.raw is not distinct from s.referer
            where s.fast""")

    def _owners(self, block: _Block) -> str:
        """A join that tells of which log a row is."""
        starts: list[int] = []
        sources: list[int] = []
        at = 0
        for part in block.parts:
            if not sources or sources[-1] != part.source:
                starts.append(at)
                sources.append(part.source)
            at += part.lines
        if len(sources) == 1:
            return f"cross join (select {sources[0]} as source) g"
        self.table.run(
            """create or replace temp table owners as
            select unnest($1::bigint[]) as first, unnest($2::usmallint[]) as source""",
            [starts, sources],
        )
        return "asof join owners g on s.rowid >= g.first"

    def _clients(self, block: _Block) -> None:
        self.table.run(f"""create or replace temp table raw_clients as
            select raw, case when regexp_full_match(raw, '{_IPV4}') then raw end as text
            from (select distinct client as raw from stage where fast)""")
        odd = [raw for (raw,) in self.table.run("select raw from raw_clients where text is null")]
        if odd:
            read = [block.format.client(raw.encode()) for raw in odd]
            self.table.run(
                """update raw_clients set text = o.text
                from (select unnest($1::varchar[]) as raw, unnest($2::varchar[]) as text) o
                where raw_clients.raw = o.raw""",
                [odd, read],
            )
        self.table.learn("addresses", "select text from raw_clients")

    def _vhosts(self, block: _Block) -> None:
        """What the lines name, else what the log's own name tells."""
        raws = [raw for (raw,) in self.table.run("select distinct vhost from stage where fast")]
        named = [vhost_text(raw) if raw is not None else None for raw in raws]
        sources = sorted({part.source for part in block.parts})
        rows = [
            (raw, source, name or self.logs[source].vhost)
            for raw, name in zip(raws, named, strict=True)
            for source in sources
        ]
        self.table.run(
            """create or replace temp table named as select unnest($1::varchar[]) as raw,
                unnest($2::usmallint[]) as source, unnest($3::varchar[]) as text""",
            [list(column) for column in zip(*rows, strict=True)],
        )
        self.table.learn("vhosts", "select text from named")
        self.table.run("""create or replace temp table raw_vhosts as
            select raw, source, id from named left join known_vhosts using (text)""")

    def _requests(self) -> None:
        """Ordinary request lines are split here, the others as the formats split them."""
        run = self.table.run
        self.table.freshen("requests", "request", PARTED)
        odd = [raw for (raw,) in run("select raw from fresh where not hot")]
        if odd:
            run("delete from fresh where not hot")
            split = [split_request(raw) for raw in odd]
            columns = [list(column) for column in zip(*split, strict=True)]
            unnested = ", ".join(f"unnest(${number}::varchar[])" for number in (1, 2, 3, 4, 5))
            run(f"insert into fresh select {unnested}, false", [odd, columns[0], *columns[2:]])
        self.table.learn("requests", "select method, path, query, protocol from fresh", PARTS)
        run(f"insert into raw_requests select d.raw, r.id from fresh d join known_requests r on {_SAME}")

    def _read_some(self, block: _Block, firsts: list[int], rows: list[int]) -> None:
        """Rows of a block, ascending, through its format."""
        at = begin = 0
        for part, first in zip(block.parts, firsts, strict=True):
            end = begin + part.lines
            until = bisect_left(rows, end, at)
            if until > at:
                numbers = [row - begin for row in rows[at:until]]
                self._read(first, part.source, block.data(part)[:-1].split(b"\n"), numbers)
            at, begin = until, end


def _fit(number: int | None) -> int | None:
    """What a column holds: JSON's numbers have no end."""
    return None if number is None else min(number, MOST_NUMBER)
