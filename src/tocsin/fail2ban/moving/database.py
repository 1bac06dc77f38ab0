"""Reads fail2ban's own database: who is banned, by which jail, until when, and who was banned before how often.

Nothing is written and nothing is held up: the file is opened read only, and read in portions, between which fail2ban
may write (it gives up after five seconds when it cannot). Memory is bounded by a portion.

| version | fail2ban | what there is |
| --- | --- | --- |
| 1, 2 | 0.9, 0.10 | `bans`: a row a ban, without its length; the jail's `bantime` says it |
| 3 | (on the way from 2 to 4) | `bans` with `bantime` (-2: unknown) and `bancount` |
| 4 | 0.11 to 1.1 | `bips` besides: the last ban of each address and jail, and how many there were |

`bantime` -1 is for good. `jails.enabled` tells which jails run, or ran when fail2ban was killed; a clean end clears it
for all. What is no address (a jail may ban user names) and what makes no sense is left out, counted, and told.
"""

from __future__ import annotations

import math
import os
import sqlite3
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import closing
from ipaddress import ip_address, ip_network
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, NamedTuple, Self
from urllib.parse import quote

from msgspec import Struct

NEWEST = 4
PORTION_ROWS = 5000
BUSY_WITHIN_S = 5.0
EXAMPLES = 3
LONGEST_S = 100 * 31_557_600.0  # longer bans are for good
USUAL_S = 600.0  # fail2ban's own bantime
FOR_GOOD, UNKNOWN = -1, -2

_REMEDIES = {
    sqlite3.SQLITE_BUSY: "another program keeps it locked: try again, or stop fail2ban first",
    sqlite3.SQLITE_LOCKED: "another program keeps it locked: try again, or stop fail2ban first",
    sqlite3.SQLITE_CORRUPT: "it is damaged: try `sqlite3 {path} .recover | sqlite3 NEW`, then --database NEW",
    sqlite3.SQLITE_NOTADB: "it is no SQLite database: is this what dbfile in fail2ban.conf says?",
    sqlite3.SQLITE_CANTOPEN: "its folder or what belongs to it ({path}-wal) cannot be read: try as root (sudo)",
}


class DatabaseError(Exception):
    """The database cannot be read; the text says why and what to do. `code` is the exit code that fits (sysexits)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Known(Struct, frozen=True):
    """What fail2ban knows of an address, over all its jails.

    `jail` is the one whose ban ends last, `start_ts` and `end_ts` (None: for good) are of that ban, which has ended
    where `in_force` is false. `jails` are all in which it is banned now; `times` is how often it was banned in all,
    `by_jail` in each.
    """

    address: str
    jail: str
    start_ts: float
    end_ts: float | None
    times: int
    in_force: bool
    jails: tuple[str, ...]
    by_jail: tuple[tuple[str, int], ...]


class LeftOut:
    """How many rows were left out for a reason, and the first of them."""

    def __init__(self) -> None:
        self.rows = 0
        self.examples: list[str] = []

    def add(self, example: str, rows: int = 1) -> None:
        """Count some."""
        self.rows += rows
        if example and len(self.examples) < EXAMPLES and example not in self.examples:
            self.examples.append(example)


class _Row(NamedTuple):
    """One row of `bips`, or of `bans` (a ban each)."""

    rowid: int
    ip: str
    jail: str
    start: Any
    seconds: Any
    times: Any


class _Ban(NamedTuple):
    """One row understood."""

    jail: str
    start_ts: float
    end_ts: float | None
    times: int
    in_force: bool

    def order(self) -> tuple[float, float]:
        """By what ends last."""
        return (math.inf if self.end_ts is None else self.end_ts, self.start_ts)


class Database:
    """fail2ban's database, read only; a context manager. DatabaseError where it is none, or cannot be read.

    `bantimes_s` are the jails' `bantime` (None: for good) for bans whose length the file does not tell; `running` the
    jails that the configuration enables, for a file that a clean end of fail2ban has left (None: every jail counts).
    After `known` was read to its end, `left_out` tells what was not taken, by reason.
    """

    def __init__(
        self,
        path: Path,
        *,
        bantimes_s: Mapping[str, float | None] | None = None,
        running: frozenset[str] | None = None,
        busy_within_s: float = BUSY_WITHIN_S,
    ) -> None:
        self.path = path
        self.left_out: dict[str, LeftOut] = {}
        self._bantimes_s = bantimes_s or {}
        self._busy_within_s = busy_within_s
        self._connection = self._open()
        try:
            self.version = self._version()
            self._table, self._columns = self._where()
            enabled = {jail for jail, on in self._rows("SELECT name, enabled FROM jails") if on}
        except BaseException:
            self._connection.close()
            raise
        self._running = frozenset(enabled) if enabled else running
        self._why_not_running = (
            "is not running in fail2ban" if enabled else "is not enabled in fail2ban's configuration"
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._connection.close()

    def known(self, now_ts: float) -> Iterator[Known]:
        """Everybody whom fail2ban knows, each once, in no order that means anything. DatabaseError."""
        self.left_out = {}
        for jail, rows, example in self._rows(
            f"SELECT jail, count(*), min(ip) FROM {self._table} WHERE NOT ({_ADDRESS}) GROUP BY jail"  # noqa: S608  our own names
        ):
            self._leave_out(f"jail {jail} bans what is no address", _text(example), rows)
        for ip, rows_of_it in groupby(self._all(), key=lambda row: row.ip):
            address = _address(ip)
            bans = [ban for row in rows_of_it if (ban := self._understood(row, now_ts, is_address=address is not None))]
            if address is not None and bans:
                yield _merged(address, bans)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _all(self) -> Iterator[_Row]:
        """All rows whose `ip` may be an address, in its order: a portion at a time, so that no lock lasts."""
        query = f"SELECT rowid, ip, jail, {self._columns} FROM {self._table} WHERE {_ADDRESS}"  # noqa: S608  our own names
        order = f" ORDER BY ip, rowid LIMIT {PORTION_ROWS}"
        portion = [_Row(*row) for row in self._rows(query + order)]
        while portion:
            yield from portion
            last = portion[-1]
            portion = [
                _Row(*row) for row in self._rows(f"{query} AND (ip, rowid) > (?, ?){order}", last.ip, last.rowid)
            ]

    def _understood(self, row: _Row, now_ts: float, *, is_address: bool) -> _Ban | None:
        if not is_address:
            self._leave_out(f"jail {row.jail} bans what is no address", row.ip)
            return None
        seconds = row.seconds
        if seconds == UNKNOWN:
            seconds = self._bantimes_s.get(row.jail, USUAL_S)
        numbers = (row.start, 0 if seconds is None else seconds, row.times)
        if not all(isinstance(number, int | float) and abs(number) < math.inf for number in numbers) or row.start < 0:
            self._leave_out(f"jail {row.jail} has rows without a time that makes sense", row.ip)
            return None
        start_ts = min(float(row.start), now_ts)
        for_good = seconds is None or seconds <= FOR_GOOD or seconds > LONGEST_S
        end_ts = None if for_good else start_ts + float(seconds)
        in_force = end_ts is None or end_ts > now_ts
        if in_force and self._running is not None and row.jail not in self._running:
            self._leave_out(f"jail {row.jail} {self._why_not_running}: what it banned is not in force", row.ip)
            in_force = False
            end_ts = min(now_ts, math.inf if end_ts is None else end_ts)
        return _Ban(row.jail, start_ts, end_ts, max(1, int(min(row.times, 1_000_000))), in_force)

    def _leave_out(self, reason: str, example: str, rows: int = 1) -> None:
        self.left_out.setdefault(reason, LeftOut()).add(example, rows)

    def _rows(self, query: str, *values: object) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._error(error) from error

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.stat()
        except PermissionError as error:
            raise self._forbidden() from error
        except OSError as error:
            raise DatabaseError(
                f"there is no fail2ban database at {self.path} ({error.strerror}): name it with --database; dbfile in "
                "fail2ban.conf says where it is, `None` there means that fail2ban keeps none",
                66,
            ) from error
        if not os.access(self.path, os.R_OK):
            raise self._forbidden()
        if not self.path.is_file():
            raise DatabaseError(f"{self.path} is no file; name fail2ban's database with --database", 66)
        try:
            return self._connect("mode=ro")
        except sqlite3.Error as error:
            # A write-ahead log needs a folder that may be written in; without one, the file is all there is.
            needs_folder = _code(error) == sqlite3.SQLITE_CANTOPEN
            if not needs_folder or self.path.with_name(self.path.name + "-wal").exists():
                raise self._error(error) from error
        try:
            return self._connect("mode=ro&immutable=1")
        except sqlite3.Error as error:
            raise self._error(error) from error

    def _connect(self, options: str) -> sqlite3.Connection:
        uri = f"file:{quote(str(self.path.absolute()))}?{options}"
        connection = sqlite3.connect(uri, uri=True, timeout=self._busy_within_s, isolation_level=None)
        connection.text_factory = _text
        try:
            for pragma in ("trusted_schema = OFF", "cell_size_check = ON", "mmap_size = 0", "query_only = ON"):
                connection.execute(f"PRAGMA {pragma}").fetchall()
            connection.execute("SELECT count(*) FROM sqlite_master").fetchall()
        except BaseException:
            connection.close()
            raise
        return connection

    def _version(self) -> int:
        tables = {name for (name,) in self._rows("SELECT name FROM sqlite_master WHERE type = 'table'")}
        if not {"fail2banDb", "jails", "bans"} <= tables:
            raise DatabaseError(f"{self.path} is a SQLite database, but not fail2ban's: name that with --database", 65)
        versions = self._rows("SELECT version FROM fail2banDb LIMIT 1")
        if not versions or not isinstance(versions[0][0], int):
            raise DatabaseError(f"{self.path} does not tell its version: it is damaged, or was only begun", 65)
        version = int(versions[0][0])
        if version > NEWEST:
            raise DatabaseError(
                f"{self.path} has version {version}, and this tocsin knows those up to {NEWEST}: look for a newer "
                "tocsin; until then, `fail2ban-client banned` lists who is banned, and `tocsin ban` takes addresses",
                65,
            )
        return version

    def _where(self) -> tuple[str, str]:
        """The table that tells most, and its columns for a row."""
        for table in ("bips", "bans"):
            with closing(self._connection.execute(f"PRAGMA table_info({table})")) as answer:
                columns = {row[1] for row in answer}
            if {"jail", "ip", "timeofban"} <= columns:
                seconds = "bantime" if "bantime" in columns else str(UNKNOWN)
                times = "bancount" if table == "bips" and "bancount" in columns else "1"
                return table, f"timeofban, {seconds}, {times}"
        raise DatabaseError(f"{self.path} lacks the columns of fail2ban's tables: it is damaged", 65)

    def _forbidden(self) -> DatabaseError:
        return DatabaseError(f"{self.path} may not be read by this user: try again with sudo", 77)

    def _error(self, error: sqlite3.Error) -> DatabaseError:
        code = _code(error)
        remedy = _REMEDIES.get(code, "look into it with sqlite3").format(path=self.path)
        busy = code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
        return DatabaseError(f"{self.path} cannot be read ({error}): {remedy}", 69 if busy else 65)


_ADDRESS = "ifnull(typeof(ip) = 'text' AND ip <> '' AND ip NOT GLOB '*[^0-9a-fA-F:./]*', 0)"  # what may be one


def _code(error: sqlite3.Error) -> int:
    return int(getattr(error, "sqlite_errorcode", -1)) & 0xFF


def _text(value: object) -> str:
    return value.decode("utf-8", "backslashreplace") if isinstance(value, bytes) else str(value)


def _address(text: str) -> str | None:
    """The address or network that a text names, as `ipaddress` renders it; None where it names none."""
    try:
        return str(ip_network(text, strict=False)) if "/" in text else str(ip_address(text))
    except ValueError:
        return None


def _merged(address: str, bans: list[_Ban]) -> Known:
    """What all jails know of an address."""
    in_force = [ban for ban in bans if ban.in_force]
    last = max(in_force or bans, key=_Ban.order)
    by_jail: Counter[str] = Counter()
    for ban in bans:
        by_jail[ban.jail] += ban.times
    return Known(
        address,
        last.jail,
        last.start_ts,
        last.end_ts,
        sum(ban.times for ban in bans),
        bool(in_force),
        tuple(sorted({ban.jail for ban in in_force})),
        tuple(sorted(by_jail.items())),
    )
