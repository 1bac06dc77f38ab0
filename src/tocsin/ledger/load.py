"""What a starting guard takes up from the ledger. It never fails: what cannot be read is said, the rest is taken."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import msgspec
from msgspec import Struct

from tocsin.ledger.fault import describe, is_corrupt, set_aside, utc
from tocsin.ledger.schema import BUSY_TIMEOUT_S, SchemaError, migrate
from tocsin.ledger.writer import DECISION_COLUMNS, decision_of
from tocsin.model import Decision, parts_of

_DENIALS = f"""SELECT {DECISION_COLUMNS} FROM decision AS denial
    WHERE subject = '' AND action IN ('deny-request', 'limit') AND held IS NULL AND end_ts > ? AND NOT EXISTS (
        SELECT 1 FROM decision WHERE subject = '' AND action = 'lift' AND lifts = denial.id) ORDER BY rowid"""  # noqa: S608  constant


class HistoryRows:
    """Rows (target, number of bans, last end), oldest end first, read anew from the file at each iteration.

    They are not kept: 500,000 of them would cost 100 MB as objects. A file that turns out damaged ends the iteration.
    """

    def __init__(self, path: Path, since_ts: float, limit: int) -> None:
        self._path = path
        self._since_ts = since_ts
        self._limit = limit

    def __iter__(self) -> Iterator[tuple[str, int, float]]:
        if not self._path.exists():
            return
        try:
            with closing(_connect(self._path)) as connection:
                yield from connection.execute(
                    "SELECT * FROM (SELECT subject, times, end_ts FROM ban WHERE end_ts > ?"
                    " ORDER BY end_ts DESC LIMIT ?) ORDER BY end_ts",
                    (self._since_ts, self._limit),
                )
                yield from connection.execute("SELECT subject, times, 9e999 FROM ban WHERE end_ts IS NULL")
        except sqlite3.Error:
            return  # `load` has read the same file and told of it


class Loaded(Struct):
    """State and source checkpoints as saved (None and empty at the first start), and the bans in force.

    `active` maps targets to their ends (None: for good), `starts` tells when those for good began. `trouble` says
    what was wrong with the file; then bans may be missing in `active` that the kernel still holds: they are not to be
    undone for that reason. `denials` are the classes of requests turned away whose leases run, oldest first; `normal`
    what is known of normal traffic.
    """

    state: bytes | None
    checkpoints: list[bytes]
    active: dict[str, float | None]
    starts: dict[str, float]
    history: HistoryRows
    lines_total: int
    trouble: str | None
    denials: list[Decision] = []
    normal: bytes = b""


def load(path: Path, now_ts: float, memory_s: float, max_history: int = 500_000) -> Loaded:
    """Read what a guard needs to go on. A damaged file is moved aside, after what can be read of it was read."""
    loaded = Loaded(None, [], {}, {}, HistoryRows(path, now_ts - memory_s, max_history), 0, None)
    if not path.exists():
        return loaded
    try:
        with closing(_connect(path)) as connection:
            _read(connection, loaded, now_ts)
    except (sqlite3.Error, SchemaError, msgspec.MsgspecError, OSError) as error:
        loaded.trouble = f"the ledger {path} cannot be read: {describe(error, path)}"
        if is_corrupt(error):
            loaded.trouble = _moved(path, error, now_ts)
    return loaded


def bans_by_rule(path: Path, now_ts: float) -> Iterator[tuple[str, str, float | None]]:
    """Rows (rule, subject, end) of the bans in force; none where the file cannot be read."""
    if not path.exists():
        return
    try:
        with closing(_connect(path)) as connection:
            rows = connection.execute(
                "SELECT rule, subject, end_ts FROM ban WHERE end_ts > ? OR end_ts IS NULL ORDER BY start_ts", (now_ts,)
            )
            yield from ((rule, parts_of(target)[0], end_ts) for rule, target, end_ts in rows)
    except sqlite3.Error:
        return  # `load` has read the same file and told of it


def imported_bans(path: Path) -> Iterator[tuple[str, str, int, float]]:
    """Rows (rule, target, number of bans, last end) of what was taken over from elsewhere and has not come back since,
    the latest first; none where the file cannot be read.
    """
    if not path.exists():
        return
    try:
        with closing(_connect(path)) as connection:
            rows = connection.execute(
                "SELECT rule, subject, times, ifnull(end_ts, 9e999) FROM ban WHERE origin = 'import' AND times > 0"
                " ORDER BY ban.end_ts DESC"
            )
            yield from rows
    except sqlite3.Error:
        return  # as above


def _read(connection: sqlite3.Connection, loaded: Loaded, now_ts: float) -> None:
    migrate(connection, now_ts)
    row = connection.execute("SELECT engine, checkpoints, lines_total FROM state").fetchone()
    in_force = connection.execute("SELECT subject, end_ts FROM ban WHERE end_ts > ? ORDER BY end_ts", (now_ts,))
    for subject, end_ts in in_force:
        loaded.active[subject] = end_ts
    for subject, start_ts in connection.execute("SELECT subject, start_ts FROM ban WHERE end_ts IS NULL"):
        loaded.active[subject] = None
        loaded.starts[subject] = start_ts
    normal = connection.execute("SELECT state FROM normal").fetchone()
    loaded.normal = normal[0] if normal is not None else b""
    loaded.denials = [decision_of(each) for each in connection.execute(_DENIALS, (now_ts,))]
    if row is not None:
        loaded.checkpoints = msgspec.msgpack.decode(row[1], type=list[bytes])
        loaded.state, loaded.lines_total = row[0], row[2]


def _moved(path: Path, error: Exception, now_ts: float) -> str:
    try:
        aside = set_aside(path, now_ts)
    except OSError as moving:
        return f"the ledger {path} is damaged ({error}) and cannot be moved aside ({moving.strerror}): do it by hand"
    return (
        f"the ledger was damaged ({error}) and has been moved to {aside} on {utc(now_ts)}; a new one is begun. "
        f"Its history is in the old file: try `sqlite3 {aside} .recover`"
    )


def _connect(path: Path) -> sqlite3.Connection:
    return sqlite3.connect(path, timeout=BUSY_TIMEOUT_S, isolation_level=None)
