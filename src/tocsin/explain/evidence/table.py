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
    "checkpoint_threshold": "1TB",
    "autoinstall_known_extensions": "false",
    "autoload_known_extensions": "false",
}
_ASSET = r"\.(?:css|js|mjs|map|png|jpe?g|gif|webp|avif|svg|ico|bmp|woff2?|ttf|otf|eot|mp[34]|m4[av]|webm|og[gv]|wav)$"
_SCHEMA = f"""
attach ':memory:' as logs (compress);
attach ':memory:' as work (row_group_size 30720);
use logs;
create table addresses(id integer, text varchar);
create table vhosts(id integer, text varchar);
create table agents(id integer, text varchar);
create table requests(id integer, text varchar, method varchar, path varchar, query varchar, protocol varchar,
    asset boolean);
create table hits(line ubigint, source usmallint, ts double, took double, status bigint, address integer, vhost integer,
    request integer, agent integer, referred boolean);
create table work.raw_clients(raw varchar, address integer, vhost integer);
create table work.raw_requests(raw varchar, id integer);
create table work.raw_agents(raw varchar, id integer);
create table work.days(day varchar, zone varchar, base double, shift integer);
create view seen as
    select h.line, h.source, h.ts, h.took, h.status, a.text as source_ip, v.text as vhost, r.method, r.path, r.query,
        r.protocol, r.asset, u.text as user_agent, h.referred
    from hits h left join addresses a on a.id = h.address left join vhosts v on v.id = h.vhost
        left join requests r on r.id = h.request left join agents u on u.id = h.agent;
create macro is_asset(path) as regexp_matches(substring(path, -6), '{_ASSET}', 'i');
"""
"""`logs` holds what questions are put to, `work` what is needed to fill it, in groups of few rows, so that two threads
share a block of lines evenly. Its raw_KIND remember of texts, as they are written, the numbers of what they mean (0: of
nothing).
"""

_HOT = r'[A-Z]{3,7} /[^ "%#?]*(\?[^ "#]+)? HTTP/[0-9](\.[0-9])?'
PARTS = "method, path, query, protocol"
PARTED = f"""split_part(raw, ' ', 1) as method, split_part(split_part(raw, ' ', 2), '?', 1) as path,
    substr(split_part(raw, ' ', 2), length(path) + 2) as query, split_part(raw, ' ', 3) as protocol,
    regexp_full_match(raw, '{_HOT}') and not contains(path, '//') and not contains(path, '/.') as hot"""
"""The columns that a request line (`raw`) consists of, and whether they are what the formats would make of it."""

_AGAIN = "concat(method, ' ', path, if(query = '', '', '?'), query, ' ', protocol)"
_LENGTHS = ", ".join(f"coalesce(strlen({part}), -1)" for part in PARTS.split(", "))
TEXT = f"""case when regexp_full_match({_AGAIN}, '{_HOT}') and not regexp_matches(path, '//|/\\.|\\?')
    then {_AGAIN} else concat_ws(' ', {_LENGTHS}, {PARTS}) end as text"""
"""What a request is known by: the line that is hot and has these parts; where there is none, what no line can be."""


class Table:
    """A connection with the empty tables, and statements on it."""

    def __init__(self) -> None:
        self.connection = duckdb.connect(config=_SETTINGS)
        self.connection.execute(_SCHEMA)
        self._spill: TemporaryDirectory[str] | None = None

    def forget(self, kind: str) -> None:
        """Empty the table of a kind's raw texts."""
        self.run(f"create or replace table work.raw_{kind} as from work.raw_{kind} limit 0")

    def learn(self, table: str, texts: str) -> None:
        """Give a number to each text that has none yet; those asked for stand in `known_TABLE` then, with theirs.

        `texts` selects them, with what the table tells of each. Only they are held in memory as a whole, never the
        table, which may have millions.
        """
        run = self.run
        begin = run(f"select count(*) from {table}")[0][0]
        run(f"create or replace table work.wanted as select distinct on (text) * from ({texts}) where text is not null")
        run(f"""create or replace table work.known_{table} as
            select coalesce(t.id, {begin} + row_number() over (partition by t.id is null)) as id, d.*
            from work.wanted d left join {table} t using (text)""")
        asset = ", is_asset(path)" if table == "requests" else ""
        run(f"insert into {table} select *{asset} from work.known_{table} where id > {begin}")

    def held_mb(self) -> float:
        """How much memory all tables take."""
        return float(self.run("select sum(memory_usage_bytes) / 1e6 from duckdb_memory()")[0][0])

    def run(self, sql: str, values: Sequence[object] = ()) -> list[tuple[Any, ...]]:
        """A statement; where memory does not suffice for it, once more with a disk to help. SourceError where neither
        does.
        """
        try:
            return self.connection.execute(sql, list(values)).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.IOException) as error:
            if self._spill is not None:
                raise SourceError("access logs", "no-input", _TOO_MUCH) from error
        try:
            self._spill = TemporaryDirectory(prefix="tocsin-", ignore_cleanup_errors=True)
            quoted = self._spill.name.replace("'", "''")
            self.connection.execute(f"set temp_directory = '{quoted}'")
            return self.connection.execute(sql, list(values)).fetchall()
        except (duckdb.OutOfMemoryException, duckdb.IOException, OSError) as error:
            raise SourceError("access logs", "no-input", _TOO_MUCH) from error
