"""The tables, how they came to be, and how their file is opened for writing.

| table | a row is | key |
| --- | --- | --- |
| `finding` | a rule that crossed its line, with its lines of evidence | subject, id |
| `decision` | what was decided about a subject: bans (held ones too) and lifts | subject, id |
| `ban` | the present or last ban of a target, how many it had, what it has stopped | subject |
| `receipt` | what the kernel answered about a decision; repeated answers are one row | subject, decision, verb |
| `state` | the engine's state and the sources' offsets, saved together | one row |
| `normal` | what is known of normal traffic, as of the same line as `state` | one row |
| `migration` | a change of the schema that was applied | name |

In `ban` and `receipt` the subject is a target: with the services, where the ban closes single ones (`model.target_of`).
`signature` is a class of requests as JSON, its subject is empty then; `spare` the subjects excepted, packed.
`finding`, `decision` and `receipt` are pruned from their lowest rowid, so rowids tell order and (nearly) number.
`ban.end_ts` is when the ban ends or ended, lifted or not; null is for good. `seen_*` is what the kernel's counter of
the element said last: it begins at 0 again whenever the element is made anew, and only what was added since counts.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable
from pathlib import Path

BUSY_TIMEOUT_S = 2.0
WAL_BYTES = 8 << 20
CACHE_KIB = 8192  # used only by a flood of rows, and given back after it
FILE_MODE = 0o640


class SchemaError(Exception):
    """The file was written by a newer Tocsin."""


def first_tables(connection: sqlite3.Connection) -> None:
    """The schema of the first release."""
    for statement in (
        """CREATE TABLE finding (
            subject TEXT NOT NULL, id TEXT NOT NULL, rule TEXT NOT NULL, ts REAL NOT NULL, count INTEGER NOT NULL,
            within_s REAL NOT NULL, via TEXT, evidence BLOB, UNIQUE (subject, id))""",
        """CREATE TABLE decision (
            subject TEXT NOT NULL, id TEXT NOT NULL, action TEXT NOT NULL, start_ts REAL NOT NULL, end_ts REAL,
            rule TEXT NOT NULL, finding TEXT, origin TEXT NOT NULL, held TEXT, lifts TEXT, note TEXT NOT NULL,
            packets INTEGER NOT NULL DEFAULT 0, bytes INTEGER NOT NULL DEFAULT 0, UNIQUE (subject, id))""",
        """CREATE TABLE ban (
            subject TEXT PRIMARY KEY, decision TEXT NOT NULL, rule TEXT NOT NULL, origin TEXT NOT NULL,
            start_ts REAL NOT NULL, end_ts REAL, times INTEGER NOT NULL, packets INTEGER NOT NULL DEFAULT 0,
            bytes INTEGER NOT NULL DEFAULT 0, seen_packets INTEGER NOT NULL DEFAULT 0,
            seen_bytes INTEGER NOT NULL DEFAULT 0) WITHOUT ROWID""",
        "CREATE INDEX ban_end ON ban (end_ts)",
        """CREATE TRIGGER ban_replaced BEFORE UPDATE OF decision ON ban WHEN old.packets > 0 BEGIN
            UPDATE decision SET packets = old.packets, bytes = old.bytes
            WHERE subject = old.subject AND id = old.decision; END""",
        """CREATE TABLE receipt (
            subject TEXT NOT NULL, decision TEXT NOT NULL, verb TEXT NOT NULL, ok INTEGER NOT NULL,
            first_ts REAL NOT NULL, ts REAL NOT NULL, times INTEGER NOT NULL, error TEXT NOT NULL,
            sockets_destroyed INTEGER NOT NULL, UNIQUE (subject, decision, verb))""",
        """CREATE TABLE state (
            id INTEGER PRIMARY KEY CHECK (id = 1), engine BLOB NOT NULL, checkpoints BLOB NOT NULL,
            lines_total INTEGER NOT NULL, saved_ts REAL NOT NULL)""",
    ):
        connection.execute(statement)


def services_of_bans(connection: sqlite3.Connection) -> None:
    """Bans that close single services."""
    for statement in (
        "ALTER TABLE decision ADD COLUMN services TEXT NOT NULL DEFAULT ''",
        "DROP TRIGGER ban_replaced",
        """CREATE TRIGGER ban_replaced BEFORE UPDATE OF decision ON ban WHEN old.packets > 0 BEGIN
            UPDATE decision SET packets = old.packets, bytes = old.bytes
            WHERE subject = substr(old.subject, 1, instr(old.subject || ' ', ' ') - 1) AND id = old.decision; END""",
        "CREATE INDEX ban_of_services ON ban (subject) WHERE instr(subject, ' ') > 0",
    ):
        connection.execute(statement)


def classes_of_requests(connection: sqlite3.Connection) -> None:
    """Findings and decisions about a class of requests, and the proof of a finding."""
    for statement in (
        "ALTER TABLE finding ADD COLUMN note TEXT NOT NULL DEFAULT ''",
        "ALTER TABLE finding ADD COLUMN signature TEXT",
        "ALTER TABLE decision ADD COLUMN signature TEXT",
        "ALTER TABLE decision ADD COLUMN spare BLOB",
    ):
        connection.execute(statement)


def normal_traffic(connection: sqlite3.Connection) -> None:
    """What is known of normal traffic: large, and seldom changed."""
    connection.execute("CREATE TABLE normal (id INTEGER PRIMARY KEY CHECK (id = 1), state BLOB NOT NULL)")


# In order; their names are kept in the file.
MIGRATIONS: tuple[Callable[[sqlite3.Connection], None], ...] = (
    first_tables,
    services_of_bans,
    classes_of_requests,
    normal_traffic,
)


def make_file(path: Path) -> None:
    """An empty file, mode 0640, and its folder. OSError."""
    path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, FILE_MODE)
    try:
        os.fchmod(descriptor, FILE_MODE)  # whatever the umask; SQLite gives its other files the same mode
    finally:
        os.close(descriptor)


def open_writer(path: Path, now_ts: float) -> sqlite3.Connection:
    """The connection that writes; makes the file (mode 0640) and its folder where there are none.

    Commits are appended to the write-ahead log without waiting for the disk (`synchronous = NORMAL`): a power cut may
    cost the last of them, never the file. OSError, sqlite3.Error, SchemaError.
    """
    if not path.exists():
        make_file(path)
    connection = sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None, cached_statements=64)
    try:
        for pragma in (
            "auto_vacuum = INCREMENTAL",
            "journal_mode = WAL",
            "synchronous = NORMAL",
            f"journal_size_limit = {WAL_BYTES}",
            "temp_store = MEMORY",
            f"cache_size = -{CACHE_KIB}",
            "trusted_schema = OFF",
            "cell_size_check = ON",
        ):
            connection.execute(f"PRAGMA {pragma}").fetchall()
        migrate(connection, now_ts)
    except BaseException:
        connection.close()
        raise
    return connection


def migrate(connection: sqlite3.Connection, now_ts: float) -> None:
    """Apply the migrations that the file has not seen, and record them, all in one transaction."""
    applied = applied_migrations(connection)
    names = [migration.__name__ for migration in MIGRATIONS]
    unknown = [name for name in applied if name not in names]
    if unknown:
        raise SchemaError(f"it was written by a newer tocsin (unknown migrations: {', '.join(unknown)})")
    if len(applied) == len(names):
        return
    connection.execute("BEGIN IMMEDIATE")
    try:
        connection.execute("CREATE TABLE IF NOT EXISTS migration (name TEXT PRIMARY KEY, applied_ts REAL NOT NULL)")
        for migration in MIGRATIONS:
            if migration.__name__ not in applied:
                migration(connection)
                connection.execute("INSERT INTO migration VALUES (?, ?)", (migration.__name__, now_ts))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def applied_migrations(connection: sqlite3.Connection) -> list[str]:
    """The names recorded in the file, in order; empty for a file that was only begun."""
    if not connection.execute("SELECT 1 FROM sqlite_master WHERE name = 'migration'").fetchone():
        return []
    return [name for (name,) in connection.execute("SELECT name FROM migration ORDER BY rowid")]
