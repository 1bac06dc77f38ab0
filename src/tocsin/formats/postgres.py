"""PostgreSQL's log on stderr: `2021-09-09 18:15:08.123 UTC [560567] user@database LOG:  message`.

`log_line_prefix` is the administrator's: read are those that begin with the time (`%m`, `%t`), its zone and `[%p]`
(with or without a colon), then no blank or one word (`%u@%d`, `user=%u,db=%d,...`) before the level. Lines that begin
with a tab go on with the entry before. User and database are words of whoever connects: what concerns the whole server
is believed of lines without them alone. Facts: PostgreSQL's elog.c, postmaster.c, postgres.c.

Codes of an AppError: `ENOMEM`, `password`, `statement-timeout`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, time_piece
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries, cut, fatal_signal
from tocsin.formats.told import Told
from tocsin.server_events import (
    AppError,
    LimitReached,
    ProcessKilled,
    ServerEvent,
    ServiceState,
    SlowQuery,
    StorageError,
)

_SERVICE = "postgresql"
QUERY_CHARACTERS = 500
_LINE = re.compile(
    r"(?P<time>[0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{3})? "
    r"(?P<zone>[A-Z]{1,5}|[+-][0-9]{2}) \[(?P<pid>[0-9]{1,10})(?:-[0-9]{1,10})?\]:? "
    r"(?P<who>\S{1,300} )?(?P<level>DEBUG[1-5]?|LOG|INFO|NOTICE|WARNING|ERROR|FATAL|PANIC|DETAIL|HINT|STATEMENT|CONTEXT"
    r"|QUERY|LOCATION): {1,2}"
).match
_NOBODY = re.compile(r"(?:\[unknown\]|[a-z_]{1,20}=|[@,:/()\[\]-])*").fullmatch
_HOURS = {
    "UTC": 0, "GMT": 0, "WET": 0, "WEST": 1, "CET": 1, "CEST": 2, "MEZ": 1, "EET": 2, "EEST": 3, "MSK": 3, "JST": 9,
    "EST": -5, "EDT": -4, "CDT": -5, "MST": -7, "MDT": -6, "PST": -8, "PDT": -7,
}  # fmt: skip
"""Abbreviations that mean one zone; `CST`, `IST` and `BST` mean several."""

_STATE = re.compile(
    r"(?P<started>database system is ready to accept (?:read-only |read only )?connections)"
    r"|(?P<reloaded>received SIGHUP, reloading configuration files)"
    r"|(?P<stopping>received (?:fast|smart|immediate) shutdown request)|(?P<stopped>database system is shut down)"
    r"|(?P<died>terminating any other active server processes)"
    r"|(?P<recovered>database system was (?:interrupted|not properly shut down))"
    r"|(?P<refused>could not create any TCP/IP sockets|configuration file \"[^\"]{1,500}\" contains errors"
    r"|lock file \"[^\"]{1,500}\" already exists|could not map anonymous shared memory|data directory \"[^\"]{1,500}\" "
    r"|could not create shared memory segment)"
).match
_KILLED = re.compile(
    r"(?:server process|client backend|autovacuum worker|background worker \"[^\"]{1,100}\"|[a-z ]{1,40}(?:process"
    r"|worker|writer|launcher|checkpointer|archiver|startup)) \(PID (?P<pid>[0-9]{1,10})\) was terminated by signal "
    r"(?P<signal>[0-9]{1,3})"
).match
_DURATION = re.compile(
    r"duration: ([0-9]{1,12}\.[0-9]{1,6}) ms  (?:statement|(?:parse|bind|execute) [^:]{1,200}|plan): *"
).match
_FULL = re.compile(
    r"could not [a-z -]{1,60}\"(?P<path>[^\"]{1,500})\"(?: to [0-9]{1,20} blocks| at offset [0-9]{1,20})?: "
)
_ERRNO = {"No space left on device": "full", "Read-only file system": "read-only", "Input/output error": "io"}
_CLIENTS = ("sorry, too many clients already", "remaining connection slots are reserved ")
_MEMORY = re.compile(
    r"out of memory$|could not fork [a-z -]{1,60}: (?P<errno>Cannot allocate memory|Resource temporarily)"
).match


class PostgresLog(Entries):
    """PostgreSQL's stderr log."""

    name = "postgresql"
    kind = "database"

    def __init__(self) -> None:
        super().__init__()
        self._local = Stamp([time_piece("%Y-%m-%d %H:%M:%S")])
        self._zoned = Stamp([time_piece("%Y-%m-%d %H:%M:%S"), time_piece("%:z")])

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        if line.startswith("\t") and self.ts is not None:
            return ()
        head = _LINE(line)
        ts = self._ts(head, anchor) if head else None
        if head is None or ts is None:
            return self._misfit(line)
        self.ts = ts
        level, message = head["level"], line[head.end() :]
        event: ServerEvent | None = None
        if level in {"LOG", "FATAL", "ERROR", "PANIC", "WARNING"}:
            who = head["who"]
            if who is None or _NOBODY(who.strip()):
                event = _server_event(ts, message)
            event = event or _session_event(ts, level, who, message)
        return (self._told(event, line, number),) if event is not None else ()

    def _ts(self, head: re.Match[str], anchor: Anchor) -> float | None:
        zone = head["zone"]
        hours = int(zone) if zone[0] in "+-" else _HOURS.get(zone)
        self.clock = "local" if hours is None else "zone"
        if hours is None:
            ts = self._local.ts(head["time"], anchor)
        else:
            sign = "-" if hours < 0 else "+"
            ts = self._zoned.ts(f"{head['time']}{Stamp.JOIN}{sign}{abs(hours):02}:00", anchor)
        return ts + float(head["fraction"]) if ts is not None and head["fraction"] else ts


def _server_event(ts: float, message: str) -> ServerEvent | None:
    """What the postmaster says of the whole server."""
    state = _STATE(message)
    if state is not None:
        return ServiceState(ts, _SERVICE, state.lastgroup, message[:DETAIL_CHARACTERS])  # type: ignore[arg-type]
    killed = _KILLED(message)
    signal = fatal_signal(killed["signal"]) if killed else None
    return ProcessKilled(ts, "postgres", int(killed["pid"]), "signal", signal) if killed and signal else None


def _session_event(ts: float, level: str, who: str | None, message: str) -> ServerEvent | None:
    duration = _DURATION(message)
    if duration is not None:
        return _slow(ts, float(duration[1]) / 1000, who, message[duration.end() :])
    if message.startswith(_CLIENTS):
        return LimitReached(ts, _SERVICE, "max_connections")
    storage = _FULL.match(message)
    error = _ERRNO.get(message[storage.end() :].strip()) if storage else None
    if storage is not None and error is not None:
        return StorageError(ts, _SERVICE, error, storage["path"])  # type: ignore[arg-type]
    text = message[:DETAIL_CHARACTERS]
    memory = _MEMORY(message)
    if memory is not None:
        if memory["errno"] and memory["errno"].startswith("Resource"):
            return LimitReached(ts, _SERVICE, "processes")
        return AppError(ts, _SERVICE, level.lower(), "ENOMEM", "out-of-memory", None, text)
    if message.startswith("password authentication failed for user "):
        return AppError(ts, _SERVICE, level.lower(), "password", "login", None, text)
    if message.startswith("canceling statement due to statement timeout"):
        return AppError(ts, _SERVICE, level.lower(), "statement-timeout", "backend-slow", None, text)
    return None


def _slow(end_ts: float, duration_s: float, who: str | None, query: str) -> SlowQuery:
    user, _, database = (who or "").strip().partition("@")
    if "=" in user or not database:
        user = database = ""
    return SlowQuery(
        end_ts - duration_s, _SERVICE, duration_s, None, user or None, database or None, query[:QUERY_CHARACTERS]
    )
