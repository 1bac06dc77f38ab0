"""Takes blocks of lines apart in DuckDB: one pass over them, in which all texts that are known become their numbers.

Measured on 4.5 million lines (1 GB), in seconds of processor: to read them and cut them at their quotes 0.8 (the CSV
reader does it; of lists, 2.3), to look up one text of each 0.2 (agents) to 0.5 (requests), to keep one text of each in
a table 0.3, which is why only those are kept that are not known. Dearer than they look: slices (`p[2:4]`; `substring`
costs a third), regexes (0.2 to 0.3 each), times of day looked up in a table of all (0.7; cast, and back to see that
nothing else was meant, 0.3), joins by several columns, an asof join (1.6).
"""

# ruff: noqa: S608  statements are made of names of ours alone; values are parameters

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial

from tocsin.explain.evidence.blocks import Block, Log
from tocsin.explain.evidence.shapes import is_day, is_zone, vhost_text
from tocsin.explain.evidence.table import MEMORY_MB, PARTED, PARTS, TEXT, Table
from tocsin.formats import Anchor
from tocsin.formats.request import split_request

MOST_RAW = 300 * MEMORY_MB
"""So many texts of a kind are remembered as they are written: most of a block's were in those before."""

MOST_DAYS = 8
_OCTET = "(25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = rf"({_OCTET}\.){{3}}{_OCTET}"
_KINDS = ("clients", "requests", "agents")

_PARTS = PARTS.split(", ")
_CSV = """auto_detect = false, header = false, delim = '"', quote = '', escape = '', comment = '', nullstr = chr(1),
    null_padding = true, new_line = '\\n', max_line_size = 1000000, strict_mode = false, compression = 'none',
    buffer_size = 8388608"""
"""Nothing but quotes and ends of lines means anything. Pieces for which there is no column are lost without a word, so
one column more is asked for than a line may fill.
"""


class Splitter:
    """Puts the lines of blocks into the table of all requests, those that DuckDB may read."""

    def __init__(self, table: Table, logs: Sequence[Log], anchor: Anchor) -> None:
        self._table = table
        self._logs = logs
        self._anchor = anchor
        self._clients_of = ""
        self._hosts: dict[str | None, int | None] = {None: None}
        self._days: dict[tuple[str, str], float | None] = {}

    def take(self, block: Block, first: int) -> Sequence[int]:
        """Take in a block whose first line has that number among all; the lines of it that could not be, ascending."""
        run = self._table.run
        try:
            if not self._stage(block):
                return range(block.lines)
            fresh = self._encode(block)
            if self._date(block):
                fresh.add("days")
            if self._insert(block, first, fresh) == block.lines:
                return ()
            return [
                n
                for (n,) in run(
                    """select n from work.stage where n not in
                        (select line - $1 from hits where line >= $1 and line < $1 + $2) order by n""",
                    [first, block.lines],
                )
            ]
        finally:
            run("drop table if exists work.stage")

    def _stage(self, block: Block) -> bool:
        """Take the lines apart; whether there are as many as there should be."""
        run = self._table.run
        if self._clients_of != block.format.name:  # each format has its own way to name them
            self._clients_of = block.format.name
            self._table.forget("clients")
        for kind in _KINDS:
            if run(f"select count(*) from work.raw_{kind}")[0][0] > MOST_RAW:
                self._table.forget(kind)
        # the lines are to pass by the tables, not the tables by the lines: how many lines there are it can only guess
        run("set disabled_optimizers = 'build_side_probe_side,join_order'")
        try:
            run(f"create or replace table work.stage as {_split(block, self._base())}", [block.close()])
        finally:
            run("reset disabled_optimizers")
        return bool(run("select count(*) from work.stage")[0][0] == block.lines)

    def _base(self) -> str:
        """When the day of a line began, where it is one of the latest that are known: too few to need a table."""
        latest = [(*key, base) for key, base in self._days.items() if base is not None][-MOST_DAYS:]
        cases = "".join(f" when day = '{day}' and zone = '{zone}' then {base}" for day, zone, base in reversed(latest))
        return f"case{cases} end" if cases else "null::double"

    def _date(self, block: Block) -> bool:
        """When the days of a block begin, those that are none never; whether there are such as `_base` did not know."""
        new = self._table.run("""select distinct substring(new_stamp, 1, 12), substring(new_stamp, -8, 8)
            from work.stage where new_stamp is not null and fits""")
        for day, zone in new:
            if (day, zone) in self._days or not (is_day(day) and is_zone(zone)):
                continue
            base = block.format.time_ts(f"{day}00:00:00{zone[:6]}".encode(), self._anchor)
            shift = 0 if base is None else (int(zone[2:4]) * 3600 + int(zone[4:6]) * 60) * (-1 if zone[1] == "-" else 1)
            self._table.run("insert into work.days values ($1, $2, $3, $4)", [day, zone, base, shift])
            self._days[day, zone] = base
        return bool(new)

    # -- texts that are new ------------------------------------------------------------------------------------------

    def _encode(self, block: Block) -> set[str]:
        """Give numbers to the texts of the stage that have none; the kinds of which there are such."""
        learning: dict[str, Callable[[], bool]] = {
            "clients": partial(self._clients, block),
            "requests": self._requests,
            "agents": self._agents,
        }
        return {kind for kind, learn in learning.items() if learn()}

    def _freshen(self, kind: str, parts: str) -> bool:
        """Put the texts of a kind that are not known into fresh_KIND, with parts of each; whether there are any. One
        that holds a backslash stays unknown, and its line with it: what that stands for its format tells.
        """
        run = self._table.run
        run(f"""create or replace table work.fresh_{kind} as select raw, {parts} from (
            select distinct new_{kind} as raw from work.stage where fits) where not contains(raw, '\\')""")
        return bool(run(f"select count(*) from work.fresh_{kind}")[0][0])

    def _know(self, kind: str, numbered: str) -> None:
        """Remember the texts of a kind that were new, with their numbers."""
        self._table.run(f"create or replace table work.new_{kind} as {numbered}")
        self._table.run(f"insert into work.raw_{kind} from work.new_{kind}")

    def _agents(self) -> bool:
        if not self._freshen("agents", "nullif(nullif(raw, '-'), '') as text"):
            return False
        self._table.learn("agents", "select text from work.fresh_agents")
        self._know(
            "agents",
            "select raw, coalesce(id, 0) as id from work.fresh_agents left join work.known_agents using (text)",
        )
        return True

    def _clients(self, block: Block) -> bool:
        """What stands before the time: the client and, where the format has one, the virtual host."""
        run, vhost = self._table.run, block.shape.vhost
        client = f"split_part(raw, ' ', {2 if vhost else 1})"
        host = "split_part(raw, ' ', 1)" if vhost else "null::varchar"
        if not self._freshen("clients", f"{client} as client, {host} as vhost"):
            return False
        run(f"delete from work.fresh_clients where not {block.shape.client_sql()}")
        odd = run(f"select distinct client from work.fresh_clients where not regexp_full_match(client, '{_IPV4}')")
        hosts = run("select distinct vhost from work.fresh_clients where vhost is not null")
        self._read("clients", {raw: block.format.client(raw.encode()) for (raw,) in odd})
        self._read("vhosts", {raw: vhost_text(raw) or None for (raw,) in hosts})
        run("""create or replace table work.named as
            select c.raw, case when o.raw is null then c.client else o.text end as address, v.text as vhost
            from work.fresh_clients c
                left join work.read_clients o on o.raw = c.client left join work.read_vhosts v on v.raw = c.vhost""")
        self._table.learn("addresses", "select address as text from work.named")
        self._table.learn("vhosts", "select vhost as text from work.named")
        self._know(
            "clients",
            """select n.raw, coalesce(a.id, 0) as address, coalesce(v.id, 0) as vhost from work.named n
                left join work.known_addresses a on a.text = n.address
                left join work.known_vhosts v on v.text = n.vhost""",
        )
        return True

    def _requests(self) -> bool:
        """Ordinary request lines are split here, the others as the formats split them."""
        run = self._table.run
        if not self._freshen("requests", f"raw as text, {PARTED}"):
            return False
        odd = [raw for (raw,) in run("select raw from work.fresh_requests where not hot")]
        if odd:
            run("delete from work.fresh_requests where not hot")
            method, _, *others = (list(column) for column in zip(*map(split_request, odd), strict=True))
            unnested = ", ".join(f"unnest(${n}::varchar[]) as {name}" for n, name in enumerate(("raw", *_PARTS), 1))
            run(
                f"insert into work.fresh_requests select raw, {TEXT}, {PARTS}, false from (select {unnested})",
                [odd, method, *others],
            )
        self._table.learn("requests", f"select text, {PARTS} from work.fresh_requests")
        self._know("requests", "select raw, id from work.fresh_requests join work.known_requests using (text)")
        return True

    def _read(self, kind: str, texts: Mapping[str, str | None]) -> None:
        """What the formats make of texts, as a table read_KIND."""
        self._table.run(
            f"""create or replace table work.read_{kind} as
                select unnest($1::varchar[]) as raw, unnest($2::varchar[]) as text""",
            [list(texts), list(texts.values())],
        )

    # -- lines -------------------------------------------------------------------------------------------------------

    def _insert(self, block: Block, first: int, fresh: set[str]) -> int:
        """Take in the lines all of whose texts are known; how many those are."""
        numbers = {"clients": ("address", "vhost"), "requests": ("id",), "agents": ("id",)}
        columns, joins = [], ""
        for kind, ids in numbers.items():
            for name in ids:
                own = kind[:-1] if name == "id" else name
                columns.append(f"coalesce(s.{own}, {kind}.{name}) as {own}" if kind in fresh else f"s.{own}")
            if kind in fresh:
                joins += f" left join work.new_{kind} {kind} on {kind}.raw = s.new_{kind}"
        if "days" in fresh:
            joins += """ left join work.days d
                on d.day = substring(s.new_stamp, 1, 12) and d.zone = substring(s.new_stamp, -8, 8)"""
        columns.append("coalesce(s.base, d.base) as base" if "days" in fresh else "s.base")
        known = " and ".join(f"{name} is not null" for name in ("base", "address", "request", "agent"))
        inserted = self._table.run(f"""insert into hits
            select {first} + n, source, base + second, took, status, nullif(address, 0),
                coalesce(nullif(vhost, 0), own_vhost), nullif(request, 0), nullif(agent, 0), referred
            from (
                select s.n, s.second, s.took, s.status, s.referred, {", ".join(columns)}, g.source, g.vhost as own_vhost
                from work.stage s {self._owners(block)}{joins} where s.fits
            ) where {known}""")
        return int(inserted[0][0])

    def _owners(self, block: Block) -> str:
        """A join that tells of which log a line is, and the number of the virtual host that the log's name tells."""
        run, owners = self._table.run, block.owners()
        hosts = [self._logs[source].vhost for _, _, source in owners]
        if set(hosts) - self._hosts.keys():
            self._read("vhosts", {host: host for host in hosts if host})
            self._table.learn("vhosts", "select text from work.read_vhosts")
            self._hosts.update(run("select text, id from work.known_vhosts"))
        ids = [self._hosts.get(host) for host in hosts]
        if len(owners) == 1:
            return f"cross join (select {owners[0][2]} as source, {ids[0] or 'null'} as vhost) g"
        run(
            """create or replace table work.owners as select unnest($1::bigint[]) as first,
                unnest($2::bigint[]) as until, unnest($3::usmallint[]) as source, unnest($4::integer[]) as vhost""",
            [*map(list, zip(*owners, strict=True)), ids],
        )
        return "join work.owners g on s.n >= g.first and s.n < g.until"


def _split(block: Block, base: str) -> str:
    """A statement on the lines: numbers of what is known, texts of what is new."""
    shape = block.shape
    columns = ", ".join(f"'p{number}': 'VARCHAR'" for number in range(1, shape.parts + 2))
    looked_up = [("clients", "left(p1, -28)", "address"), ("requests", "p2", "id")]
    if shape.quoted:
        looked_up.append(("agents", "p6", "id"))
    joins = "".join(f" left join work.raw_{kind} {kind} on {kind}.raw = {text}" for kind, text, _ in looked_up)
    new = ", ".join(
        f"case when {kind}.{number} is null then {text} end as new_{kind}" for kind, text, number in looked_up
    )
    none = "false as referred, 0 as agent, null::varchar as new_agents"
    return f"""
        select n, epoch(time) as second, base, {shape.took_sql(block.word)} as took,
            try_cast(substring(p3, 2, 3) as bigint) as status, clients.address, clients.vhost, requests.id as request,
            {"p4 not in ('', '-') as referred, agents.id as agent" if shape.quoted else none}, {new},
            case when base is null then right(p1, 28) end as new_stamp,
            time < '24:00' and time::varchar = clock and {shape.fits_sql()} as fits
        from (
            select *, {base} as base, try_cast(clock as time) as time from (
                select *, substring(p1, -28, 12) as day, substring(p1, -16, 8) as clock, substring(p1, -8, 8) as zone
                from read_csv($1, {_CSV}, columns = {{'n': 'INTEGER', {columns}}})
            )
        ){joins}"""
