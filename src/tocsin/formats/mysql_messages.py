"""What single messages of MySQL and MariaDB mean, from 5.5 to 8.0 and 11, wherever they are written.

SQL, user names and databases' names stand in some messages: what follows `Statement: ` or `Query: ` is not looked at,
and each text counts at the beginning of its message alone. Facts: the servers' errmsg-utf8.txt, log.cc, mysqld_safe,
InnoDB's ut0ut.cc, buf0flu.cc, srv0srv.cc, os0file.cc.

Codes of an AppError: `ENOMEM`, `aborted-connection`, `access-denied`, `table-crashed`.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tocsin.formats.addresses import canonical
from tocsin.formats.entries import DETAIL_CHARACTERS, cut, errno_event, fatal_signal
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState, Stall, StorageError

# a message of 5.5 may begin with its subsystem or with the program's path
_BY = r"(?:\S{1,200}: )?"
_HEAD = re.compile(
    r"(?:(?P<old>[0-9]{6} [ 0-9][0-9]:[0-9]{2}:[0-9]{2})"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2})[T ](?P<day>[ 0-9][0-9]:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,9})?"
    r"(?P<zone>Z|[+-][0-9]{2}:[0-9]{2})?)"
    r" {1,2}(?:(?:(?:[0-9]{1,20}|[0-9a-f]{8,16}) )?\[(?P<level>Note|Warning|ERROR|System)\] "
    r"(?:\[MY-[0-9]{6}\] \[[A-Za-z ]{1,40}\] )?"
    r"|(?:[0-9a-f]{1,20} )?(?=InnoDB: )|(?P<safe>mysqld_safe|mariadbd-safe) |(?=UTC - )"
    r"|(?=\[ERROR\] )|(?=[a-z]{6,8} got signal ))"
).match
_TEXT = re.compile(
    r"(?P<started>\S{1,200}: ready for connections)"
    r"|(?P<stopping>\S{1,200}(?: \(initiated by: .{1,300}\))?: Normal shutdown|Received SHUTDOWN from user )"
    r"|(?P<stopped>\S{1,200}: Shutdown complete)"
    r"|(?P<recovered>(?:InnoDB: )?(?:Database was not shut ?down normally|Starting crash recovery)"
    r"|Recovering after a crash using )"
    r"|(?P<died>Number of processes running now: 0)|(?P<restarting>(?:mysqld|mariadbd) restarted$|restarted$)"
    rf"|(?P<refused>Aborting$|{_BY}unknown (?:variable|option) '|Do you already have another "
    r"|Can't start server: |Fatal error: Can't open and lock privilege tables)"
    rf"|(?P<memory>{_BY}(?:Fatal error: )?(?:[Cc]annot allocate memory|[Cc]ould not allocate memory|Out of memory\b"
    r"|mmap\([0-9]{1,20} bytes\) failed; errno 12\b|Unable to allocate memory of size"
    r"|Error: cannot allocate [0-9]{1,20} bytes))"
    r"|(?P<aborted>Aborted connection [0-9]{1,20} to db: )|(?P<connections>Too many connections)"
    r"|(?P<denied>Access denied for user '.{0,200}'@'(?P<host>[^'@]{1,100})'(?: \(using password: (?:YES|NO)\))?$)"
    r"|(?P<signal>(?:[0-9]{2}:[0-9]{2}:[0-9]{2} )?(?:UTC - )?(?P<program>mysqld|mariadbd) got signal "
    r"(?P<number>[0-9]{1,3}) ?;)"
    r"|(?P<cleaner>(?:InnoDB: )?page_cleaner: [0-9]{1,10}ms intended loop took (?P<took>[0-9]{1,12})ms)"
    r"|(?P<semaphore>--Thread [0-9]{1,20} has waited at .{1,200}? line [0-9]{1,7} for "
    r"(?P<waited>[0-9]{1,9}(?:\.[0-9]{1,6})?) {1,3}seconds)"
    r"|(?P<lasted>(?:InnoDB: )?(?:(?:Error: )?[Ss]emaphore wait has lasted > (?P<lasted_s>[0-9]{1,6}) seconds"
    r"|Long wait \((?P<long_s>[0-9]{1,6}) seconds\)))"
    r"|(?P<threads>(?:\S{1,200}: )?Can't create (?:a new )?thread .{0,80}errno[ =]{1,3}11\b)"
    r"|(?P<crashed>(?:\S{1,200}: )?Table '[^']{1,300}' is marked as crashed)"
    r"|(?P<corrupt>InnoDB: (?:Database page corruption on disk|Error: trying to access page number|Corrupted page ))"
    r"|(?P<table_full>(?:\S{1,200}: )?The table '(?P<table>/[^']{1,300})' is full)"
    r"|(?P<full>Disk is full|Disk full|Disk got full|(?:InnoDB: )?Error number 28 means)"
).match
_ERRNO = re.compile(r"(?:[Ee]rr(?:no|code)|[Ee]rror(?: number)?)[:=]? {0,2}(5|12|23|24|28|30|122)\b")
_NO_SPACE = re.compile(r"No space left on device|Disk (?:is |got )?full")
_PATH = re.compile(r"['(](/[^'() ]{1,300})['. )]")
_SQL = re.compile(r"(?:[Ss]tatement|[Qq]uery|QUERY)\b ?(?:\([^)]{0,40}\))?: ?|SQL: ")
_FOREIGN = (
    "IP address ",
    "Hostname ",
    "Host ",
    "Slave SQL",
    "Unsafe statement",
    "Warning: ",
    "Aborted ",
    "Access denied",
)
_LOOKED_AT = 600

STATES = {"started", "stopping", "stopped", "recovered", "died", "restarting", "refused"}


class Head(Struct, frozen=True, gc=False):
    """Where a line of the error log begins to speak, at which level, and its time's text by what names its zone."""

    end: int
    level: str
    old: str | None
    date: str | None
    time: str | None
    fraction: str | None
    zone: str | None


def head_of(line: str) -> Head | None:
    """The time and level at a line's beginning; None where it has none and goes on with another."""
    found = _HEAD(line)
    if found is None:
        return None
    level = (found["level"] or "note").lower()
    return Head(found.end(), level, found["old"], found["iso"], found["day"], found["fraction"], found["zone"])


def foreign(message: str) -> bool:
    """Whether SQL stands in the message, which may go on over lines that are the client's."""
    return _SQL.search(message) is not None


def mysql_message(ts: float, service: str, message: str) -> ServerEvent | None:
    """What a message of the server or of mysqld_safe tells; with or without the error log's own time before it."""
    message = cut(message)
    head = head_of(message)
    return mysql_event(ts, service, head.level if head else "note", message[head.end :] if head else message)


def mysql_event(ts: float, service: str, level: str, message: str) -> ServerEvent | None:
    """What a message without its time tells."""
    found = _TEXT(message)
    if found is None:
        return _resource(ts, service, level, message)
    kind = found.lastgroup or ""
    if kind in STATES:
        return ServiceState(ts, service, kind, message[:DETAIL_CHARACTERS])  # type: ignore[arg-type]
    if kind == "signal":
        signal = fatal_signal(found["number"])
        return ProcessKilled(ts, found["program"], None, "signal", signal) if signal else None
    stall = _stall(ts, service, kind, found)
    return stall or _complaint(ts, service, level, kind, found, message)


def _stall(ts: float, service: str, kind: str, found: re.Match[str]) -> Stall | None:
    if kind == "cleaner":
        return Stall(ts, service, int(found["took"]) / 1000, "page_cleaner")
    if kind == "semaphore":
        return Stall(ts, service, float(found["waited"]), "semaphore")
    if kind == "lasted":
        return Stall(ts, service, float(found["lasted_s"] or found["long_s"]), "semaphore")
    return None


def _complaint(
    ts: float, service: str, level: str, kind: str, found: re.Match[str], message: str
) -> ServerEvent | None:
    text = message[:DETAIL_CHARACTERS]
    if kind == "connections" or (kind == "aborted" and message.endswith("(Too many connections)")):
        return LimitReached(ts, service, "max_connections")
    if kind == "threads":
        return LimitReached(ts, service, "processes")
    if kind in {"full", "table_full"}:
        path = _PATH.search(message, 0, _LOOKED_AT)
        return StorageError(ts, service, "full", path[1] if path else None)
    if kind == "corrupt":
        return StorageError(ts, service, "io")
    if kind == "memory":
        return AppError(ts, service, level, "ENOMEM", "out-of-memory", None, text)
    if kind == "denied":
        return AppError(ts, service, level, "access-denied", "login", canonical(found["host"]), text)
    if kind == "crashed":
        return AppError(ts, service, level, "table-crashed", "fatal", None, text)
    return AppError(ts, service, level, "aborted-connection", None, None, text)


def _resource(ts: float, service: str, level: str, message: str) -> ServerEvent | None:
    """What an errno in a message says of the machine."""
    if message.startswith(_FOREIGN):
        return None
    sql = _SQL.search(message, 0, _LOOKED_AT)
    end = sql.start() if sql else _LOOKED_AT
    errno = _ERRNO.search(message, 0, end)
    full = None if errno else _NO_SPACE.search(message, 0, end)
    if errno is None and full is None:
        return None
    path = _PATH.search(message, 0, end)
    return errno_event(ts, service, level, errno[1] if errno else "28", message, path[1] if path else None)
