"""What can be wrong with the ledger's file, in words: the cause, and what to do."""

from __future__ import annotations

import os
import shlex
import sqlite3
from datetime import UTC, datetime
from pathlib import Path

from tocsin.ledger.schema import SchemaError

_PRIMARY = 0xFF  # the low byte of SQLite's extended codes

_REMEDIES = {
    sqlite3.SQLITE_FULL: "free space on the file system of {path}",
    sqlite3.SQLITE_READONLY: "make {path} and its folder writable for the user that tocsin runs as",
    sqlite3.SQLITE_CANTOPEN: "make {path} and its folder writable for the user that tocsin runs as",
    sqlite3.SQLITE_PERM: "make {path} and its folder writable for the user that tocsin runs as",
    sqlite3.SQLITE_BUSY: "find and end the process that holds {path} locked (`fuser {path}`)",
    sqlite3.SQLITE_LOCKED: "find and end the process that holds {path} locked (`fuser {path}`)",
    sqlite3.SQLITE_IOERR: "look for disk errors in the kernel log, and for space on the file system of {path}",
}


def is_corrupt(error: Exception) -> bool:
    """Whether the file itself is damaged, or no database at all."""
    code = getattr(error, "sqlite_errorcode", None)
    return isinstance(error, sqlite3.DatabaseError) and code is not None and code & _PRIMARY in _DAMAGED


_DAMAGED = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)


def describe(error: Exception, path: Path) -> str:
    """`cause; what to do` of a failure to open, read or write the file."""
    if isinstance(error, SchemaError):
        return f"{error}; install that version again, or move {path} away"
    if isinstance(error, PermissionError) and not os.path.isdir(path.parent):  # noqa: PTH112  which raises nothing
        folder, user = shlex.quote(str(path.parent)), os.geteuid()
        return (
            f"its folder is gone, and user {user} may not make it: run `install -d -o {user} -m 750 {folder}` as root"
        )
    if isinstance(error, OSError):
        cause = error.strerror or str(error)
        return f"{cause}; make {path} and its folder writable for the user that tocsin runs as, with space left"
    code = getattr(error, "sqlite_errorcode", None)
    remedy = _REMEDIES.get(code & _PRIMARY if code is not None else -1, "look into {path} with sqlite3")
    return f"{error}; {remedy.format(path=path)}"


def set_aside(path: Path, now_ts: float) -> Path:
    """Move a damaged file, and what belongs to it, out of the way; returns where the file is now. OSError."""
    aside = path.with_name(f"{path.name}.corrupt-{int(now_ts)}")
    number = 1
    while aside.exists():
        aside = path.with_name(f"{path.name}.corrupt-{int(now_ts)}.{number}")
        number += 1
    path.rename(aside)
    for suffix in ("-wal", "-shm"):
        companion = path.with_name(path.name + suffix)
        if companion.exists():
            companion.rename(aside.with_name(aside.name + suffix))
    return aside


def utc(ts: float) -> str:
    """A moment for people."""
    return datetime.fromtimestamp(ts, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
