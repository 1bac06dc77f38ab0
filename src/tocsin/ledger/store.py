"""The ledger as the watcher sees it: it takes everything at once and never waits for the disk.

A thread writes what was handed over, a few milliseconds later, in few transactions. When the disk fails (full,
read-only, broken, locked), the thread keeps what it has, tries again with growing pauses, and writes it all when the
disk works again. Meanwhile memory is bounded: the evidence of findings goes first (it is most of the bytes), then
findings and receipts, decisions last. `trouble` says so in words.

A file that was deleted is open still, so it is written to its place again, with all that it held. A damaged one is
moved aside; then, and where another file has taken its place, `wants_restating` asks the watcher for the bans in force.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tocsin.ledger.fault import describe, is_corrupt, set_aside, utc
from tocsin.ledger.schema import SchemaError
from tocsin.ledger.writer import Checkpoint, Portion, Recollection, Writer
from tocsin.memory import give_back
from tocsin.model import Decision, Finding, Receipt
from tocsin.packed import Packed

DECISIONS_MAX = 50_000
FINDINGS_MAX = 25_000
RECEIPTS_MAX = 25_000
RECOLLECTIONS_MAX = 200_000
COUNTER_CALLS = 4
EVIDENCE_CHARS_MAX = 8 << 20
PORTION_ROWS = 5_000  # each touches most pages of the indexes: many small transactions cost three times as much
LINGER_S = 0.05  # between the first row and writing: keeps the disk out of the moment in which a ban is made
RETRY_S = (0.25, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0)
PRUNE_EVERY_S = 60.0
LOOK_EVERY_S = 5.0  # at the path, whether the file is there still, while nothing is to be written
BETWEEN_STEPS_S = 0.005  # of pruning, for whoever else wants the disk or the interpreter
DEFAULT_MEMORY_S = 28 * 86400.0


class Fault(Struct, frozen=True):
    """What keeps the ledger from being written, and since when."""

    since_ts: float
    text: str


class Ledger:
    """Findings, decisions, receipts, counters and checkpoints, written by a thread of its own.

    Its methods belong to one thread (the watcher's); they cost a microsecond or so and never raise because of the disk.
    `keep_s` and `max_rows` bound the file, `memory_s` is how long a ban counts as an earlier one, `clock` gives Unix
    seconds (when something went wrong, what is too old).
    """

    def __init__(
        self,
        path: Path,
        keep_s: float,
        max_rows: int,
        clock: Callable[[], float],
        memory_s: float = DEFAULT_MEMORY_S,
    ) -> None:
        self.path = path
        self._keep_s = keep_s
        self._max_rows = max_rows
        self._memory_s = memory_s
        self._clock = clock
        self._findings = Packed(Finding, FINDINGS_MAX)
        self._decisions = Packed(Decision, DECISIONS_MAX)
        self._receipts = Packed(Receipt, RECEIPTS_MAX)
        self._recollections = Packed(Recollection, RECOLLECTIONS_MAX)
        self._counters: list[Sequence[tuple[str, int, int]]] = []
        self._checkpoint: Checkpoint | None = None
        self._evidence_in = 0  # characters handed over and written, each counted by one thread alone
        self._evidence_out = 0
        self._given = 0  # calls that handed something over
        self._written = 0  # the value of `_given` up to which all is in the file
        self._lost = {"decisions": 0, "findings": 0, "evidence": 0, "receipts": 0, "recollections": 0}
        self._newest = threading.Lock()  # guards the checkpoint and the counters, of which the newest replace the old
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._progress = threading.Condition()
        self._thread: threading.Thread | None = None
        # Owned by the thread; the watcher only looks.
        self._writer: Writer | None = None
        self._hand: Portion | None = None
        self._hand_given = 0
        self._hand_evidence = 0
        self._fault: Fault | None = None
        self._failures = 0
        self._moved_aside = ""
        self._began_anew = False
        self._had_file = False
        self._gone = False  # the file that is open was deleted
        self._put_back = 0  # how often one was written to its place again
        self._told = (False, 0, "")
        self._flooded = False
        self._decisions_lost_by_now = 0

    # -- the watcher's side ------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Start the thread, which opens the file."""
        self._thread = threading.Thread(target=self._run, name="ledger", daemon=True)
        self._thread.start()

    def close(self, timeout_s: float) -> bool:
        """Write what waits and end the thread; says whether all was written. With a failing disk: one more attempt."""
        self._stop.set()
        self._wake.set()
        if self._thread is not None:
            self._thread.join(timeout_s)
        return self._written >= self._given

    def finding(self, f: Finding) -> None:
        """Keep a finding with its evidence. It is written with what comes after: waking a thread is left to those who
        are called when the ban is on its way.
        """
        if self._findings.full:
            self._lost["findings"] += 1
            return
        size = sum(len(line.text) for line in f.evidence)
        if self._evidence_in - self._evidence_out + size > EVIDENCE_CHARS_MAX:
            self._lost["evidence"] += 1
            f = replace(f, evidence=())
            size = 0
        self._findings.put(f)
        self._evidence_in += size
        self._given += 1

    def decision(self, d: Decision) -> None:
        """Keep a decision: a ban (held or not) or a lift."""
        if self._decisions.put(d):
            self._handed_over()
        else:
            self._lost["decisions"] += 1

    def recollect(self, row: Recollection) -> None:
        """Keep how often a subject was banned, as somebody else knows it; after the decisions handed over before."""
        if self._recollections.put(row):
            self._handed_over()
        else:
            self._lost["recollections"] += 1

    def receipts(self, rs: Sequence[Receipt]) -> None:
        """Keep what the enforcer answered."""
        kept = sum(map(self._receipts.put, rs))
        self._lost["receipts"] += len(rs) - kept
        if kept:
            self._handed_over()

    def checkpoint(
        self, state: bytes, checkpoints: Sequence[bytes | Struct], lines_total: int, normal: bytes | None = None
    ) -> None:
        """Save the engine's state and the sources' offsets in one transaction, not before all that was handed over
        earlier. Only the newest waits. `normal` where what is known of normal traffic has changed since the last call.
        """
        with self._newest:
            if normal is None and self._checkpoint is not None:
                normal = self._checkpoint.normal
            self._checkpoint = Checkpoint(state, checkpoints, lines_total, normal)
        self._handed_over()

    def counters(self, rows: Sequence[tuple[str, int, int]]) -> None:
        """What the kernel's counters of banned subjects say now: (subject, packets, bytes). The rows are not copied,
        so the caller leaves them alone. Of many calls that wait, the oldest are dropped.
        """
        with self._newest:
            self._counters = [*self._counters[1 - COUNTER_CALLS :], rows]
        self._handed_over()

    def trouble(self) -> str | None:
        """What is not in the file, since when, why, and what to do. None when all is well."""
        if self._thread is not None and not self._thread.is_alive() and not self._stop.is_set():
            return "the ledger's thread has ended unexpectedly; bans are made all the same. Restart tocsin, report this"
        fault = self._fault
        if fault is None:
            return self._moved_aside or None
        lost = ", ".join(f"{number:,} {what}" for what, number in self._lost.items() if number)
        text = f"the ledger cannot be written since {utc(fault.since_ts)}: {fault.text}. Bans are made all the same; "
        text += f"waiting to be written: {self._waiting() or 'nothing yet'}"
        if lost:
            text += f"; given up for lack of room: {lost}"
        if self._gone:
            text += "; what it held is kept until that works, and lost where tocsin is stopped before"
        return f"{text}. {self._moved_aside}".rstrip()

    def news(self) -> str | None:
        """What is to be said of the file since this was asked last: that it cannot be written, or can again."""
        told, fails = self._told, self._fault is not None
        _, put_back, moved_aside = told
        self._told = fails, put_back if fails else self._put_back, self._moved_aside
        if self._told == told:
            return None
        if fails or self._told[2] != moved_aside:
            return self.trouble()
        if self._told[1] > put_back:
            return f"the ledger {self.path} had been deleted; it was written anew with all that it held"
        return "the ledger is written again"

    def lost(self) -> dict[str, int]:
        """What was given up because too much waited: decisions, findings, evidence (of findings), receipts and
        recollections.
        """
        return dict(self._lost)

    def wants_restating(self) -> bool:
        """True once after bans were lost from the file (begun anew, or too many waited): hand over those in force, as
        long as it `has_room` without pushing others out.
        """
        lost = self._lost["decisions"]
        wanted = self._began_anew or (self._fault is None and lost > self._decisions_lost_by_now)
        wanted = wanted and self.has_room
        if wanted:
            self._began_anew = False
            self._decisions_lost_by_now = lost
        return wanted

    @property
    def has_room(self) -> bool:
        """Whether few decisions wait to be written."""
        return len(self._decisions) < PORTION_ROWS

    def wait_written(self, timeout_s: float) -> bool:
        """Wait until all that was handed over by now is in the file; False if that takes longer."""
        target = self._given
        self._wake.set()
        with self._progress:
            return self._progress.wait_for(lambda: self._written >= target, timeout_s)

    def _handed_over(self) -> None:
        self._given += 1
        if not self._wake.is_set():
            self._wake.set()

    def _waiting(self) -> str:
        hand = self._hand
        numbers = {
            "decisions": len(self._decisions) + (len(hand.decisions) if hand else 0),
            "findings": len(self._findings) + (len(hand.findings) if hand else 0),
            "receipts": len(self._receipts) + (len(hand.receipts) if hand else 0),
        }
        words = [f"{number:,} {what}" for what, number in numbers.items() if number]
        if self._checkpoint is not None or (hand is not None and hand.checkpoint is not None):
            words.append("a checkpoint")
        return ", ".join(words)

    # -- the thread's side -------------------------------------------------------------------------------------------

    def _run(self) -> None:
        self._attempt()
        prune_s = time.monotonic() + PRUNE_EVERY_S
        while True:
            stopping = self._stop.is_set()
            if stopping and self._written >= self._given:
                break
            if self._fault is not None:
                self._stop.wait(RETRY_S[min(self._failures, len(RETRY_S)) - 1])
            elif self._written >= self._given:
                self._wake.wait(LOOK_EVERY_S)
                self._stop.wait(LINGER_S)
            self._wake.clear()
            worked = self._attempt()
            if stopping and not worked:
                break
            if worked and time.monotonic() >= prune_s:
                self._prune()
                prune_s = time.monotonic() + PRUNE_EVERY_S
        if self._writer is not None:
            self._shut()

    def _attempt(self) -> bool:
        """Open the file if need be and write one portion; notes what goes wrong. Says whether all went well."""
        try:
            writer = self._opened()
            if self._hand is None and self._written < self._given:
                self._take()
            if self._hand is not None:
                self._write(writer, self._hand)
        except (sqlite3.Error, OSError, SchemaError) as error:
            self._failed(error)
            return False
        self._fault = None
        self._failures = 0
        if self._hand is not None:
            self._hand = None
            self._evidence_out += self._hand_evidence
            with self._progress:
                self._written = self._hand_given
                self._progress.notify_all()
        return True

    def _write(self, writer: Writer, hand: Portion) -> None:
        writer.write(hand, self._clock())
        if hand.rows() >= PORTION_ROWS:  # in a flood of rows, pruning cannot wait until it is quiet
            self._flooded = True
            writer.prune(self._clock(), 2 * PORTION_ROWS)
        elif self._flooded:
            self._flooded = False
            writer.release_memory()
            give_back()

    def _opened(self) -> Writer:
        replaced = False
        if self._writer is not None and not self._writer.is_current():
            self._gone = self._writer.is_gone()
            if self._gone:
                self._writer.put_back()
                self._gone = False
                self._put_back += 1
            else:
                replaced = True
            self._shut()
        if self._writer is None:
            new = not self.path.exists()
            self._writer = Writer(self.path, self._keep_s, self._max_rows, self._memory_s, self._clock())
            if (new and self._had_file) or replaced:
                self._began_anew = True
            self._had_file = True
        return self._writer

    def _take(self) -> None:
        """Take the next portion in hand. The checkpoint goes with the last rows that were handed over before it."""
        with self._newest:
            given = self._given
            waiting = len(self._findings), len(self._decisions), len(self._receipts), len(self._recollections)
            complete = max(waiting) <= PORTION_ROWS
            checkpoint, counters = (self._checkpoint, self._counters) if complete else (None, [])
            if complete:
                self._checkpoint, self._counters = None, []
        findings = self._findings.take(PORTION_ROWS)
        decisions = self._decisions.take(PORTION_ROWS)
        recollections = [] if waiting[1] > PORTION_ROWS else self._recollections.take(PORTION_ROWS)
        receipts = self._receipts.take(PORTION_ROWS)
        self._hand = Portion(findings, decisions, receipts, counters, checkpoint, recollections)
        self._hand_given = given if complete else self._written
        self._hand_evidence = sum(len(line.text) for finding in findings for line in finding.evidence)

    def _failed(self, error: Exception) -> None:
        now_ts = self._clock()
        self._failures += 1
        text = describe(error, self.path)
        if not self._gone or is_corrupt(error) or isinstance(error, sqlite3.ProgrammingError):  # it is closed already
            self._gone = False
            self._shut()
        if is_corrupt(error):
            try:
                aside = set_aside(self.path, now_ts)
            except OSError as moving:
                text += f"; it could not be moved aside ({moving.strerror})"
            else:
                text = self._moved_aside = (
                    f"the ledger was damaged ({error}) and has been moved to {aside} on {utc(now_ts)}; a new one was "
                    f"begun with the bans in force. Its history is in the old file: try `sqlite3 {aside} .recover`"
                )
                self._failures = 1
                self._had_file = True
        self._fault = Fault(self._fault.since_ts if self._fault else now_ts, text)

    def _shut(self) -> None:
        """Close the file. That it cannot be finished matters no more: its log is taken up when it is next opened."""
        writer, self._writer = self._writer, None
        if writer is not None:
            try:
                writer.close()
            except sqlite3.Error as error:
                self._fault = Fault(self._clock(), describe(error, self.path))

    def _prune(self) -> None:
        """Keep the file within its bounds, a little at a time, as long as nothing waits to be written."""
        try:
            while self._writer is not None and self._written >= self._given and not self._stop.is_set():
                if not self._writer.prune(self._clock()):
                    self._writer.release_memory()
                    return
                self._stop.wait(BETWEEN_STEPS_S)
        except (sqlite3.Error, OSError) as error:
            self._failed(error)
