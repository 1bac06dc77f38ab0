"""The table of all requests in DuckDB: its schema, how texts get their numbers, and what happens where memory ends."""

# ruff: noqa: S608  statements are made of names of ours alone; values are parameters

from __future__ import annotations

import os
from collections.abc import Sequence
from tempfile import TemporaryDirectory
from typing import Any

import duckdb

from tocsin.sources.notice import SourceError

MOST_MB, LEAST_MB = 600, 128


def memory_mb() -> int:
    """How much memory the table may take: half of what is free, so that a small machine that has just fallen for want
    of memory does not fall again because somebody asks why.
    """
    try:
        with open("/proc/meminfo") as lines:  # noqa: PTH123  a line of a file that is no file
            free_kb = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable:"))
    except (OSError, StopIteration, ValueError, IndexError):
        return MOST_MB
    return max(LEAST_MB, min(MOST_MB, free_kb // 2048))


MEMORY_MB = memory_mb()
_TOO_MUCH = (
    f"they need more than the {MEMORY_MB} MB of memory that are theirs, and there is no room for temporary files;"
    " name fewer logs, or let TMPDIR name a folder with room"
)

_SETTINGS: dict[str, str | bool | int | float | list[str]] = {
    "memory_limit": f"{MEMORY_MB}MB",
    "threads": str(max(1, min(4, os.cpu_count() or 1))),
    "temp_directory": "",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_ASSET = r"\.(?:css|js|mjs|map|png|jpe?g|gif|webp|avif|svg|ico|bmp|woff2?|ttf|otf|eot|mp[34]|m4[av]|webm|og[gv]|wav)$"
_SCHEMA = f"""
attach ':memory:' as logs (compress);
use logs;
create table addresses(id integer, text varchar);
create table vhosts(id integer, text varchar);
create table agents(id integer, text varchar);
create table referers(id integer, text varchar);
create table requests(id integer, method varchar, path varchar, query varchar, protocol varchar, asset boolean);
create table hits(line ubigint, source usmallint, ts double, took double, status bigint, body_bytes bigint,
    address integer, vhost integer, request integer, agent integer, referer integer);
create temp table days(day varchar, zone varchar, base double, shift integer);
create view seen as
    select h.line, h.source, h.ts, h.took, h.status, h.body_bytes, a.text as source_ip, v.text as vhost, r.method,
        r.path, r.query, r.protocol, r.asset, u.text as user_agent, f.text as referer
    from hits h left join addresses a on a.id = h.address left join vhosts v on v.id = h.vhost
        left join requests r on r.id = h.request left join agents u on u.id = h.agent
        left join referers f on f.id = h.referer;
create macro host_of(referer) as case when referer not in ('', '-') then
    lower(split_part(split_part(split_part(
        case when contains(referer, '://') then split_part(referer, '://', 2) else referer end,
        '/', 1), '?', 1), '#', 1)) end;
create macro is_asset(path) as regexp_matches(path, '{_ASSET}', 'i');
"""
PARTS = "method, path, query, protocol"
"""The columns that a request line consists of."""

_HOT = r'[A-Z]{3,7} /[^ "%#?]*(\?[^ "#]+)? HTTP/[0-9](\.[0-9])?'
PARTED = f"""split_part(raw, ' ', 1) as method, split_part(split_part(raw, ' ', 2), '?', 1) as path,
    substr(split_part(raw, ' ', 2), length(path) + 2) as query, split_part(raw, ' ', 3) as protocol,
    regexp_full_match(raw, '{_HOT}') and not contains(path, '//') and not contains(path, '/.') as hot"""
"""Those of a request line (`raw`), and whether they are what the formats would make of it."""

MOST_RAW = 200_000
"""Requests and referers as they are written whose numbers are remembered: most of a block's were in those before."""


class Table:
    """A connection with the empty tables, and statements on it."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config=_SETTINGS)
        self.connection.execute(_SCHEMA)
        self._spill: TemporaryDirectory[str] | None = None

    def freshen(self, table: str, column: str, parts: str) -> None:
        """Put those texts of the stage's column into `fresh` that raw_TABLE does not know yet, with `parts` of each.

        raw_TABLE keeps the numbers of texts as they are written; whoever calls adds those of `fresh`.
        """
        run = self.run
        run(f"create temp table if not exists raw_{table}(raw varchar, id integer)")
        if run(f"select count(*) from raw_{table}")[0][0] > MOST_RAW:
            run(f"create or replace temp table raw_{table}(raw varchar, id integer)")
        run(f"""create or replace temp table fresh as select raw, {parts} from (
            select distinct {column} as raw from stage s where fast
                and not exists (select 1 from raw_{table} r where r.raw is not distinct from s.{column}))""")

    def learn(self, table: str, texts: str, columns: str = "text") -> None:
        """Give a number to each text that has none yet; those asked for stand in `known_TABLE` then, with theirs.

        `texts` selects them. Only they are held in memory as a whole, never the table, which may have millions.
        """
        run = self.run
        same = " and ".join(f"d.{name} is not distinct from t.{name}" for name in columns.split(", "))
        begin = run(f"select count(*) from {table}")[0][0]
        given = " where text is not null" if columns == "text" else ""
        run(f"create or replace temp table wanted as select distinct {columns} from ({texts}){given}")
        run(f"""create or replace temp table known_{table} as
            select id, {columns} from {table} t where exists (select 1 from wanted d where {same})""")
        run(f"""insert into known_{table} select {begin} + row_number() over (), {columns}
            from wanted d where not exists (select 1 from known_{table} t where {same})""")
        asset = ", is_asset(path)" if table == "requests" else ""
        run(f"insert into {table} select id, {columns}{asset} from known_{table} where id > {begin}")

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A statement; where memory does not suffice for it, once more with a disk to help. SourceError where neither
        does.
        """
        try:
            return self.connection.execute(sql, list(values)).fetchall()
        except duckdb.OutOfMemoryException as error:
            if self._spill is not None:
                raise SourceError("access logs", "no-input", _TOO_MUCH) from error
        try:
            self._spill = TemporaryDirectory(prefix="tocsin-", ignore_cleanup_errors=True)
            quoted = self._spill.name.replace("'", "''")
            self.connection.execute(f"set temp_directory = '{quoted}'")
            return self.connection.execute(sql, list(values)).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
            raise SourceError("access logs", "no-input", _TOO_MUCH) from error
