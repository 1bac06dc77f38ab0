"""The side of the ledger that touches the disk. Used by one thread alone.

A `Portion` is written in one transaction: all of it is in the file, or nothing. Every method may raise sqlite3.Error
or OSError.
"""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
from msgspec import Struct

from tocsin.decide.siege import RENEWED
from tocsin.ledger.schema import make_file, open_writer
from tocsin.model import Decision, Evidence, Finding, Receipt, Signature


class Recollection(Struct, frozen=True):
    """What is known from elsewhere of a target's bans: how many there were (0: forget them), and of the last one the
    rule and the times (`end_ts` None: for good). Of a ban in force the number alone is taken.
    """

    subject: str
    times: int
    rule: str
    start_ts: float
    end_ts: float | None


PRUNE_ROWS = 500  # in one step
VACUUM_PAGES = 64  # given back to the file system in one step
SLACK_PAGES = 256  # free pages that are left in the file to be used again
COMPRESS_FROM_BYTES = 512

_ADD_FINDING = """INSERT OR IGNORE INTO finding
    (subject, id, rule, ts, count, within_s, via, evidence, note, signature) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
_ADD_DECISION = """INSERT OR IGNORE INTO decision
    (subject, id, action, start_ts, end_ts, rule, finding, origin, held, lifts, note, services, signature, spare)
    VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"""
# Whom it spared is of no use once a denial was replaced, and there may be one of 2,000 addresses each second.
_FORGET_SPARED = "UPDATE decision SET spare = NULL WHERE subject = '' AND id = ?"
# A ban while one is in force prolongs it and is no further one; one begun long after the last counts from 1 again. What
# is restated (see `Policy.restate`) and known already stays as it is, with its rule and what it has stopped.
_ADD_BAN = """INSERT INTO ban (subject, decision, rule, origin, start_ts, end_ts, times)
    VALUES (?, ?, ?, ?, ?, ?, 1)
    ON CONFLICT (subject) DO UPDATE SET
        times = CASE WHEN ban.end_ts IS NULL OR ban.end_ts > excluded.start_ts THEN max(ban.times, 1)
            WHEN excluded.start_ts - ban.end_ts > ? THEN 1 ELSE ban.times + 1 END,
        seen_packets = CASE WHEN ban.end_ts IS NULL OR ban.end_ts > excluded.start_ts THEN ban.seen_packets ELSE 0 END,
        seen_bytes = CASE WHEN ban.end_ts IS NULL OR ban.end_ts > excluded.start_ts THEN ban.seen_bytes ELSE 0 END,
        packets = 0, bytes = 0, decision = excluded.decision, rule = excluded.rule, origin = excluded.origin,
        start_ts = excluded.start_ts, end_ts = excluded.end_ts
    WHERE (ban.start_ts < excluded.start_ts
            AND (ban.decision <> excluded.decision OR ban.end_ts IS NOT excluded.end_ts))
        OR (ban.start_ts = excluded.start_ts AND ban.decision <> excluded.decision)"""
_LIFT_BAN = """UPDATE ban SET end_ts = max(start_ts, lift.ts), times = max(times - 1, 0)
    FROM (SELECT ? AS subject, ? AS ts) AS lift
    WHERE ban.subject = lift.subject AND (end_ts IS NULL OR end_ts > max(start_ts, lift.ts))"""
# Where bans close single services, a subject may have several rows; those in force at the same time count once.
_HAS_SERVICES = "SELECT 1 FROM ban WHERE instr(subject, ' ') > 0 LIMIT 1"
_OF_SUBJECT = "(subject = :subject OR (subject > :subject || ' ' AND subject < :subject || '!'))"
_COUNT_BANS = f"""SELECT ifnull(max(times), 0), count(*) FILTER (WHERE end_ts IS NULL OR end_ts > :ts) FROM ban
    WHERE {_OF_SUBJECT} AND (end_ts IS NULL OR :ts - end_ts <= :memory_s)"""  # noqa: S608  constants
_SET_TIMES = "UPDATE ban SET times = :times WHERE subject = :target AND decision = :id"
_LIFT_OTHERS = f"""UPDATE ban SET times = min(times, (SELECT times FROM ban WHERE subject = :target))
    WHERE {_OF_SUBJECT} AND EXISTS (SELECT 1 FROM ban WHERE subject = :target)
        AND NOT EXISTS (SELECT 1 FROM ban WHERE {_OF_SUBJECT} AND (end_ts IS NULL OR end_ts > :ts))"""  # noqa: S608  as above
_RECOLLECT = """INSERT INTO ban (subject, decision, rule, origin, start_ts, end_ts, times)
    VALUES (?, '', ?, 'import', ?, ?, ?)
    ON CONFLICT (subject) DO UPDATE SET times = excluded.times,
        end_ts = iif(ban.end_ts <= ?, excluded.end_ts, ban.end_ts)"""
_ADD_RECEIPT = """INSERT INTO receipt VALUES (?, ?, ?, ?, ?, ?, 1, ?, ?)
    ON CONFLICT (subject, decision, verb) DO UPDATE SET ok = excluded.ok, ts = excluded.ts, times = times + 1,
        error = excluded.error, sockets_destroyed = sockets_destroyed + excluded.sockets_destroyed"""
_COUNT = """UPDATE ban SET
        packets = ban.packets + seen.packets - iif(seen.packets >= seen_packets, seen_packets, 0),
        bytes = ban.bytes + seen.bytes - iif(seen.bytes >= seen_bytes, seen_bytes, 0),
        seen_packets = seen.packets, seen_bytes = seen.bytes
    FROM (SELECT ? AS subject, ? AS packets, ? AS bytes) AS seen
    WHERE ban.subject = seen.subject AND (seen_packets <> seen.packets OR seen_bytes <> seen.bytes)"""
_SAVE_STATE = "INSERT OR REPLACE INTO state VALUES (1, ?, ?, ?, ?)"


class Checkpoint(Struct, frozen=True):
    """Where to go on: the engine's state and the sources' offsets belong together, and what is known of normal traffic,
    which is large and seldom changes (None: it has not).
    """

    state: bytes
    sources: Sequence[bytes | Struct]
    lines_total: int
    normal: bytes | None = None


class Portion(Struct):
    """What is written in one transaction."""

    findings: list[Finding]
    decisions: list[Decision]
    receipts: list[Receipt]
    counters: Sequence[Sequence[tuple[str, int, int]]]
    checkpoint: Checkpoint | None
    recollections: list[Recollection] = []

    def rows(self) -> int:
        """How many findings, decisions and receipts it holds."""
        return len(self.findings) + len(self.decisions) + len(self.receipts)


class Writer:
    """The open file. `keep_s` and `max_rows` bound each table; `memory_s` is how long a ban is remembered."""

    def __init__(self, path: Path, keep_s: float, max_rows: int, memory_s: float, now_ts: float) -> None:
        self.path = path
        self.keep_s = keep_s
        self.max_rows = max_rows
        self.memory_s = memory_s
        self._connection = open_writer(path, now_ts)
        self._identity = _identity(path)
        self._has_services = self._connection.execute(_HAS_SERVICES).fetchone() is not None

    def is_current(self) -> bool:
        """Whether the path still names the file that is open: it may have been deleted or replaced."""
        return self._identity == _identity(self.path)

    def is_gone(self) -> bool:
        """Whether the file that is open was deleted, and none has taken its place."""
        return _identity(self.path) == (0, 0)

    def put_back(self) -> None:
        """Write all that the open file holds to its path again, as it was deleted there; then it is closed."""
        copy = self.path.with_name(f"{self.path.name}.new")
        copy.unlink(missing_ok=True)
        make_file(copy)
        try:
            with closing(sqlite3.connect(copy)) as connection:
                self._connection.backup(connection)
        except BaseException:
            copy.unlink(missing_ok=True)  # it may be what has filled the disk
            raise
        self._connection.close()  # before the new one is there: SQLite deletes the write-ahead log by its name
        for suffix in ("-wal", "-shm"):
            self.path.with_name(self.path.name + suffix).unlink(missing_ok=True)
        copy.rename(self.path)

    def close(self) -> None:
        """Close the file; the write-ahead log goes into it where the disk allows."""
        self._connection.close()

    def write(self, portion: Portion, now_ts: float) -> None:
        """Write all of it, or nothing."""
        connection = self._connection
        connection.execute("BEGIN IMMEDIATE")
        try:
            connection.executemany(_ADD_FINDING, map(_finding_row, portion.findings))
            connection.executemany(_ADD_DECISION, map(_decision_row, portion.decisions))
            connection.executemany(
                _FORGET_SPARED, ((d.lifts,) for d in portion.decisions if d.lifts and d.note == RENEWED)
            )
            self._apply_bans(portion.decisions)
            self._recollect(portion.recollections, now_ts)
            connection.executemany(_ADD_RECEIPT, map(_receipt_row, portion.receipts))
            for rows in portion.counters:
                connection.executemany(_COUNT, rows)
            if portion.checkpoint is not None:
                connection.execute(_SAVE_STATE, _state_row(portion.checkpoint, now_ts))
                if portion.checkpoint.normal is not None:
                    connection.execute("INSERT OR REPLACE INTO normal VALUES (1, ?)", (portion.checkpoint.normal,))
            connection.execute("COMMIT")
        except BaseException:
            if connection.in_transaction:
                connection.execute("ROLLBACK")
            raise

    def _apply_bans(self, decisions: Iterable[Decision]) -> None:
        """Bring the table of bans up to date, in the order of the decisions."""
        run: list[tuple[object, ...]] = []
        for decision in decisions:
            if decision.held is not None or decision.action not in ("ban", "lift") or decision.signature is not None:
                continue
            self._has_services = self._has_services or bool(decision.services)
            if decision.action == "ban" and not self._has_services:
                run.append(self._ban_row(decision))
                continue
            self._connection.executemany(_ADD_BAN, run)
            run.clear()
            if decision.action == "ban":
                self._add_beside_others(decision)
            else:
                self._lift(decision)
        self._connection.executemany(_ADD_BAN, run)

    def _ban_row(self, decision: Decision) -> tuple[object, ...]:
        return (
            *(decision.target, decision.id, decision.rule, decision.origin),
            *(decision.start_ts, decision.end_ts, self.memory_s),
        )

    def _add_beside_others(self, decision: Decision) -> None:
        """A ban of a subject that may have several rows: it counts on from all of them."""
        known = {"subject": decision.subject, "ts": decision.start_ts, "memory_s": self.memory_s}
        times, in_force = self._connection.execute(_COUNT_BANS, known).fetchone()
        self._connection.execute(_ADD_BAN, self._ban_row(decision))
        row = {"times": max(1, times + (not in_force)), "target": decision.target, "id": decision.id}
        self._connection.execute(_SET_TIMES, row)

    def _lift(self, decision: Decision) -> None:
        self._connection.execute(_LIFT_BAN, (decision.target, decision.start_ts))
        if self._has_services:
            row = {"subject": decision.subject, "target": decision.target, "ts": decision.start_ts}
            self._connection.execute(_LIFT_OTHERS, row)

    def _recollect(self, rows: Iterable[Recollection], now_ts: float) -> None:
        """Note how often subjects were banned; after the bans of the same portion, whose own numbers give way."""
        for row in rows:
            if row.times:
                values = (row.subject, row.rule, row.start_ts, row.end_ts, row.times, now_ts)
                self._connection.execute(_RECOLLECT, values)
                continue
            self._connection.execute("DELETE FROM ban WHERE subject = ? AND decision = ''", (row.subject,))
            self._connection.execute("UPDATE ban SET times = 0 WHERE subject = ?", (row.subject,))

    def release_memory(self) -> None:
        """Give the pages back that are cached after a flood of rows."""
        self._connection.execute("PRAGMA shrink_memory")

    # -- bounds ------------------------------------------------------------------------------------------------------

    def prune(self, now_ts: float, rows: int = PRUNE_ROWS) -> bool:
        """Delete the oldest of what is too old or too many, at most `rows` of each table; says whether more waits."""
        more = False
        for table, column in (("receipt", "ts"), ("decision", "start_ts"), ("finding", "ts")):
            more = self._prune_oldest(table, column, now_ts - self.keep_s, rows) or more
        more = self._prune_bans(now_ts, rows) or more
        free = self._number("PRAGMA freelist_count")
        if free > SLACK_PAGES:
            self._connection.execute(f"PRAGMA incremental_vacuum({VACUUM_PAGES})").fetchall()
        return more or free > SLACK_PAGES + VACUUM_PAGES

    def _prune_oldest(self, table: str, column: str, before_ts: float, rows: int) -> bool:
        upto = self._number(f"SELECT ifnull(max(rowid), 0) FROM {table}") - self.max_rows  # noqa: S608  our own names
        first = self._connection.execute(f"SELECT rowid, {column} FROM {table} ORDER BY rowid LIMIT 1").fetchone()  # noqa: S608  as above
        if first is None or (first[0] > upto and first[1] >= before_ts):
            return False
        deleted = self._connection.execute(
            f"DELETE FROM {table} WHERE rowid IN (SELECT rowid FROM {table} ORDER BY rowid LIMIT ?)"  # noqa: S608  as above
            f" AND ({column} < ? OR rowid <= ?)",
            (rows, before_ts, upto),
        ).rowcount
        return deleted == rows

    def _prune_bans(self, now_ts: float, rows: int) -> bool:
        """Bans that ended long ago; where there are too many, those that ended first. Never one in force."""
        surplus = self._number("SELECT count(*) FROM ban") - self.max_rows
        before_ts = now_ts if surplus > 0 else now_ts - self.keep_s
        limit = min(rows, surplus) if surplus > 0 else rows
        deleted = self._connection.execute(
            "DELETE FROM ban WHERE subject IN (SELECT subject FROM ban WHERE end_ts < ? ORDER BY end_ts LIMIT ?)",
            (before_ts, limit),
        ).rowcount
        return deleted == rows

    def _number(self, query: str) -> int:
        row = self._connection.execute(query).fetchone()
        return int(row[0])


def _identity(path: Path) -> tuple[int, int]:
    try:
        status = os.stat(path)  # noqa: PTH116  hot enough to spare the object
    except (FileNotFoundError, NotADirectoryError):
        return (0, 0)
    return status.st_dev, status.st_ino


# -- rows ------------------------------------------------------------------------------------------------------------


def pack_evidence(evidence: Sequence[Evidence]) -> bytes | None:
    """Lines of evidence as one value; those of a flood are much alike, so packing them costs a tenth of the room."""
    if not evidence:
        return None
    packed = msgspec.msgpack.encode([(line.source, line.line, line.offset, line.text) for line in evidence])
    return b"z" + zlib.compress(packed, 1) if len(packed) >= COMPRESS_FROM_BYTES else b"m" + packed


def unpack_evidence(value: bytes | None) -> tuple[Evidence, ...]:
    """The inverse of `pack_evidence`. ValueError (msgspec's and zlib's among them) where it is damaged."""
    if not value:
        return ()
    packed = zlib.decompress(value[1:]) if value[:1] == b"z" else value[1:]
    rows = msgspec.msgpack.decode(packed, type=list[tuple[str, int, int, str]])
    return tuple(Evidence(*row) for row in rows)


def pack_signature(signature: Signature | None) -> str | None:
    """A class of requests as JSON."""
    return None if signature is None else msgspec.json.encode(signature).decode()


def unpack_signature(value: str | None) -> Signature | None:
    """The inverse of `pack_signature`. msgspec.MsgspecError where it is damaged."""
    return None if value is None else msgspec.json.decode(value, type=Signature)


def pack_subjects(subjects: Sequence[str]) -> bytes | None:
    """Subjects as one value: 5,000 addresses take 20 KB."""
    return zlib.compress(" ".join(subjects).encode(), 1) if subjects else None


def unpack_subjects(value: bytes | None) -> tuple[str, ...]:
    """The inverse of `pack_subjects`. zlib.error and ValueError where it is damaged."""
    return tuple(zlib.decompress(value).decode().split(" ")) if value else ()


def _finding_row(f: Finding) -> tuple[object, ...]:
    return (
        f.subject, f.id, f.rule, f.ts, f.count, f.within_s, f.via, pack_evidence(f.evidence), f.note,
        pack_signature(f.signature),
    )  # fmt: skip


DECISION_COLUMNS = (
    "id, action, subject, start_ts, end_ts, rule, finding, origin, held, lifts, note, services, signature, spare"
)


def decision_of(row: tuple[Any, ...]) -> Decision:
    """A decision from its row; a class of requests that is damaged is left out, so that the rest can be read."""
    *fields, signature, spare = row
    try:
        return Decision(*(*fields, unpack_signature(signature), unpack_subjects(spare)))
    except (ValueError, zlib.error, msgspec.MsgspecError):
        return Decision(*fields)


def _decision_row(d: Decision) -> tuple[object, ...]:
    return (
        d.subject, d.id, d.action, d.start_ts, d.end_ts, d.rule, d.finding, d.origin, d.held, d.lifts, d.note,
        d.services, pack_signature(d.signature), pack_subjects(d.spare),
    )  # fmt: skip


def _receipt_row(r: Receipt) -> tuple[object, ...]:
    return r.subject, r.decision, r.verb, r.ok, r.ts, r.ts, r.error, r.sockets_destroyed


def _state_row(checkpoint: Checkpoint, now_ts: float) -> tuple[object, ...]:
    sources = list(_encoded(checkpoint.sources))
    return checkpoint.state, msgspec.msgpack.encode(sources), checkpoint.lines_total, now_ts


def _encoded(sources: Sequence[bytes | Struct]) -> Iterator[bytes]:
    for source in sources:
        yield source if isinstance(source, bytes) else msgspec.msgpack.encode(source)
