"""Looking into the ledger from the command line, whether a guard runs or not. Read only; never blocks the writer."""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.parse import quote

import msgspec
from msgspec import Struct

from tocsin.decide.siege import RENEWED, RULE
from tocsin.decide.subjects import covering
from tocsin.ledger.fault import describe
from tocsin.ledger.schema import BUSY_TIMEOUT_S, MIGRATIONS, applied_migrations
from tocsin.ledger.writer import DECISION_COLUMNS, decision_of, unpack_evidence, unpack_signature
from tocsin.model import Decision, Finding, is_host, parts_of, target_of

_FINDING = "id, rule, subject, ts, count, within_s, evidence, via, note, signature"


class LedgerError(Exception):
    """The ledger cannot be read; the text says why and what to do. `code` is the exit code that fits (sysexits)."""

    def __init__(self, text: str, code: int) -> None:
        super().__init__(text)
        self.code = code


class Ban(Struct, frozen=True):
    """The present or last ban of a subject; `end_ts` None is for good. `times` counts its bans that are remembered;
    `packets` and `bytes` are what it has stopped as far as the kernel was asked. `services` as in `Decision`.
    """

    subject: str
    decision: str
    rule: str
    origin: str
    start_ts: float
    end_ts: float | None
    times: int
    packets: int
    bytes: int
    services: str = ""

    @property
    def target(self) -> str:
        """What the kernel and the guard know it by."""
        return target_of(self.subject, self.services)


class Answer(Struct, frozen=True):
    """What the kernel answered about a decision: first, last and how often."""

    decision: str
    verb: str
    ok: bool
    first_ts: float
    ts: float
    times: int
    error: str
    sockets_destroyed: int


class Past(Struct, frozen=True):
    """A decision with what led to it (None: nothing, or pruned), what the kernel answered, what it has stopped."""

    decision: Decision
    finding: Finding | None
    answers: tuple[Answer, ...]
    packets: int
    bytes: int


class Why(Struct, frozen=True):
    """All that is known of an address or prefix. `bans` are those in force that it falls under, widest last; `past`
    all decisions about it and about prefixes that hold it, newest first.
    """

    asked: str
    bans: tuple[Ban, ...]
    past: tuple[Past, ...]


class Step(Struct, frozen=True):
    """A decision about a class under siege, and how often the lease of a denial was renewed since: `spares` and
    `until_ts` are of the last renewal, as is what the web server answered.
    """

    decision: Decision
    renewed: int
    spares: int
    until_ts: float | None
    answers: tuple[Answer, ...]


class Besieged(Struct, frozen=True):
    """A class of requests that was far above its normal: its finding, what was decided about it, in order, and how many
    addresses it was told of that they had sent too many. With neither it was an alarm and no more.
    """

    finding: Finding
    steps: tuple[Step, ...]
    senders: int


class Summary(Struct, frozen=True):
    """Figures for `status`. `stopped_*` are of the bans in force."""

    active: int
    for_good: int
    remembered: int
    decisions: int
    findings: int
    stopped_packets: int
    stopped_bytes: int
    lines_total: int
    saved_ts: float | None
    file_bytes: int


class Reader:
    """A read-only look at the ledger; a context manager. LedgerError where there is none, or it cannot be read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._connection = self._open()
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {path} cannot be read: {describe(error, path)}", 74) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._connection.close()

    def bans(self, now_ts: float) -> list[Ban]:
        """The bans in force, newest first."""
        return list(self._bans("WHERE end_ts > ? OR end_ts IS NULL ORDER BY start_ts DESC, subject", (now_ts,)))

    def why(self, asked: str, now_ts: float, limit: int = 100) -> Why:
        """What is known of an address or a prefix: its own decisions, and those of prefixes that hold it (an IPv6
        address is found in its /64, an IPv4 address in a banned /24). ValueError where it is no address.
        """
        subjects = tuple(dict.fromkeys(covering(asked)))
        marks = ", ".join("?" * len(subjects))
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS}, packets, bytes FROM decision WHERE subject IN ({marks})"  # noqa: S608  question marks
            " ORDER BY start_ts DESC, rowid DESC LIMIT ?",
            (*subjects, limit),
        )
        latest = list(self._bans(f"WHERE subject IN ({marks}) ORDER BY length(subject) DESC", subjects))
        for host in filter(is_host, subjects):  # its targets: it, a blank (the character before "!"), their services
            latest += self._bans("WHERE subject > ? AND subject < ? ORDER BY subject", (f"{host} ", f"{host}!"))
        counted = {ban.decision: (ban.packets, ban.bytes) for ban in latest}
        in_force = tuple(ban for ban in latest if ban.end_ts is None or ban.end_ts > now_ts)
        past = []
        for *fields, packets, octets in rows:
            decision = decision_of(tuple(fields))
            stopped = counted.get(decision.id, (packets, octets))
            past.append(Past(decision, self._finding_of(decision), self._answers(decision), *stopped))
        return Why(asked, in_force, tuple(past))

    def findings(self, limit: int = 100) -> list[Finding]:
        """The newest findings, newest first."""
        rows = self._rows(f"SELECT {_FINDING} FROM finding ORDER BY rowid DESC LIMIT ?", (limit,))  # noqa: S608  constant
        return [_finding(row) for row in rows]

    def decisions(self, limit: int = 100) -> list[Decision]:
        """The newest decisions, newest first: bans, held ones, lifts; without the renewals of denials, of which there
        may be one each second.
        """
        rows = self._rows(
            f"SELECT {DECISION_COLUMNS} FROM decision WHERE subject <> '' OR note <> ? ORDER BY rowid DESC LIMIT ?",  # noqa: S608  constant
            (RENEWED, limit),
        )
        return [decision_of(row) for row in rows]

    def sieges(self, limit: int = 100) -> list[Besieged]:
        """The latest sieges and alarms, oldest first."""
        query = f"SELECT {_FINDING} FROM finding WHERE subject = '' AND rule = ? ORDER BY rowid DESC LIMIT ?"  # noqa: S608  constant
        findings = [_finding(row) for row in self._rows(query, (RULE, limit))]
        findings.reverse()
        steps = self._steps({finding.id for finding in findings})
        senders = dict(
            self._rows("SELECT note, count(*) FROM finding WHERE rule = ? AND subject <> '' GROUP BY note", (RULE,))
        )
        return [Besieged(each, tuple(steps.get(each.id, ())), senders.get(each.note, 0)) for each in findings]

    def normal(self) -> bytes | None:
        """What is known of normal traffic, as `Normal.dump` gave it; None where nothing is yet."""
        return next((state for (state,) in self._rows("SELECT state FROM normal")), None)

    def summary(self, now_ts: float) -> Summary:
        """Figures for `status`."""
        active, for_good, packets, octets = next(
            self._rows(
                "SELECT count(*), count(*) - count(end_ts), ifnull(sum(packets), 0), ifnull(sum(bytes), 0)"
                " FROM ban WHERE end_ts > ? OR end_ts IS NULL",
                (now_ts,),
            )
        )
        remembered, decided, found = next(
            self._rows(
                "SELECT (SELECT count(*) FROM ban), (SELECT count(*) FROM decision), (SELECT count(*) FROM finding)"
            )
        )
        lines_total, saved_ts = next(self._rows("SELECT lines_total, saved_ts FROM state"), (0, None))
        names = (self.path, self.path.with_name(self.path.name + "-wal"))
        size = sum(name.stat().st_size for name in names if name.exists())
        return Summary(active, for_good, remembered, decided, found, packets, octets, lines_total, saved_ts, size)

    # -- rows --------------------------------------------------------------------------------------------------------

    def _steps(self, findings: set[str]) -> dict[str, list[Step]]:
        """What was decided about classes, by finding, in order. Of renewals only the last is read whole."""
        runs: dict[str, list[list[int]]] = {}  # the first of each, how many renewals, the last
        query = "SELECT rowid, finding, action, note FROM decision WHERE subject = '' AND rule = ? ORDER BY rowid"
        for row, finding, action, note in self._rows(query, (RULE,)):
            if finding not in findings:
                continue
            known = runs.setdefault(finding, [])
            if note != RENEWED:
                known.append([row, 0, row])
            elif action != "lift":
                if not known:
                    known.append([row, 0, row])  # what came before has been pruned
                known[-1][1:] = known[-1][1] + 1, row
        return {finding: [self._step(*run) for run in each] for finding, each in runs.items()}

    def _step(self, first: int, renewed: int, last: int) -> Step:
        query = f"SELECT {DECISION_COLUMNS} FROM decision WHERE rowid IN (?, ?) ORDER BY rowid"  # noqa: S608  constant
        rows = [decision_of(row) for row in self._rows(query, (first, last))]
        return Step(rows[0], renewed, len(rows[-1].spare), rows[-1].end_ts, self._answers(rows[-1]))

    def _finding_of(self, decision: Decision) -> Finding | None:
        query = f"SELECT {_FINDING} FROM finding WHERE subject = ? AND id = ?"  # noqa: S608  constant
        row = next(self._rows(query, (decision.subject, decision.finding)), None)
        return None if row is None else _finding(row)

    def _answers(self, decision: Decision) -> tuple[Answer, ...]:
        ids = (decision.id, decision.lifts) if decision.lifts else (decision.id,)
        of_class = decision.signature is not None
        verb = ("allow" if of_class else "unban") if decision.action == "lift" else "deny" if of_class else "ban"
        rows = self._rows(
            "SELECT decision, verb, ok, first_ts, ts, times, error, sockets_destroyed FROM receipt"
            " WHERE subject = ? AND decision IN (?, ?) AND verb = ? ORDER BY rowid",
            (decision.target, ids[0], ids[-1], verb),
        )
        return tuple(Answer(row[0], row[1], bool(row[2]), *row[3:]) for row in rows)

    def _bans(self, condition: str, values: tuple[object, ...]) -> Iterator[Ban]:
        query = "SELECT subject, decision, rule, origin, start_ts, end_ts, times, packets, bytes FROM ban "
        for target, *row in self._rows(query + condition, values):
            subject, services = parts_of(target)
            yield Ban(*(subject, *row, services))

    def _rows(self, query: str, values: tuple[object, ...] = ()) -> Iterator[tuple[Any, ...]]:
        try:
            yield from self._connection.execute(query, values)
        except sqlite3.Error as error:
            raise LedgerError(f"the ledger {self.path} cannot be read: {describe(error, self.path)}", 74) from error

    # -- opening -----------------------------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            self.path.stat()
        except PermissionError as error:
            raise LedgerError(
                f"the ledger {self.path} may not be read by this user: try again with sudo", 77
            ) from error
        except OSError as error:
            raise LedgerError(
                f"there is no ledger at {self.path}: no guard has run here yet. Start one with `tocsin guard`, or name "
                "the folder of its ledger in the configuration",
                66,
            ) from error
        if not os.access(self.path, os.R_OK):
            raise LedgerError(f"the ledger {self.path} may not be read by this user: try again with sudo", 77)
        try:
            connection, applied = self._connect("mode=ro")
        except sqlite3.OperationalError:
            # A log-ahead file that nobody has open can be read only by who may write beside it, or as it stands.
            if self.path.with_name(self.path.name + "-wal").exists():
                raise
            connection, applied = self._connect("mode=ro&immutable=1")
        if applied != [migration.__name__ for migration in MIGRATIONS]:
            connection.close()
            raise LedgerError(
                f"the ledger {self.path} is of another version of tocsin: start its guard once with this version, "
                "or look at it with that one",
                65,
            )
        return connection

    def _connect(self, options: str) -> tuple[sqlite3.Connection, list[str]]:
        uri = f"file:{quote(str(self.path.absolute()))}?{options}"
        connection = sqlite3.connect(uri, uri=True, timeout=BUSY_TIMEOUT_S, isolation_level=None)
        try:
            return connection, applied_migrations(connection)
        except sqlite3.Error:
            connection.close()
            raise


def _finding(row: tuple[Any, ...]) -> Finding:
    """A finding from its row; what is damaged is left out, so that the rest can be read."""
    fields = list(row)
    try:
        fields[-1] = unpack_signature(fields[-1])
    except msgspec.MsgspecError:
        fields[-1] = None
    packed = fields[6]
    try:
        fields[6] = unpack_evidence(packed if isinstance(packed, bytes) else None)
    except (ValueError, msgspec.MsgspecError):
        fields[6] = ()
    return Finding(*fields)
