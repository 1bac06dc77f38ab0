"""The engine: blocks of log lines in, findings out. Live guard, replay and explain are loops around this one object.

It reads no clock, does no I/O and draws no lots: the findings depend on the rules and the lines, in their order, and
on what `on_finding` answers (until when the subject is muted, because it is banned). How the lines are cut into
blocks is of no account, because every line is taken in order and every finding is handed over before the next line.

Event time: `now` is the newest stamp read, never later than the line's arrival plus `skew_s`. A line more than
`lateness_s` behind it cannot be placed exactly any more and is counted as late, not evaluated.

Where the time goes (1,000,000 combined lines, 240 MB, 2 % attack; profiled): the prefilter 0.2 s; what survives 8 us a
line, 3 of them to parse it; counting every line (`counting`) 0.5 us on top of 0.4 us to cut client and time out of it.
So no object is built for a line that only counts, nor for one of a client that is banned.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING
from zlib import crc32

import msgspec

from tocsin.detect.block import Block, Looked, OnFinding, all_lines, line_numbers
from tocsin.detect.books import Counts, Limits, Observer, State
from tocsin.detect.counting import LineCounter
from tocsin.detect.evidence import EvidenceStore, Row, finding_of, printable
from tocsin.detect.failures import FailureCounter
from tocsin.detect.looking import glean, look, misfits, sift
from tocsin.detect.plan import Plan, Tracker, bounded_key, make_plan
from tocsin.detect.window import CROSSED, QUIET, Pool
from tocsin.model import AuthAttempt, Batch, Finding, HttpRequest, Other, RawLine, Unparsed, target_of
from tocsin.packed import spelt_out
from tocsin.rules.compiled import subject_of

if TYPE_CHECKING:
    from tocsin.formats import Anchor, Format
    from tocsin.rules import CompiledRule, Failure

SAMPLES = 5  # unparsed lines kept for showing
MUTED_AT_MOST = 1 << 20
SOURCES_CACHED = 4096


class Engine:
    """Rules at work on blocks of lines. One object serves all sources; windows run across them."""

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        limits: Limits | None = None,
        *,
        prefilter: bool = True,
        fallback: bool = False,
        observer: Observer | None = None,
    ) -> None:
        self.limits = limits or Limits()
        self.prefilter = prefilter
        self.fallback = fallback
        self.observer = observer
        self.pool = Pool(self.limits.tracked_keys)
        self.trackers = [Tracker(rule, i, self.pool, self.limits.lateness_s) for i, rule in enumerate(rules)]
        self.counts = Counts()
        self.now_ts = float("-inf")
        self.muted: dict[str, float] = {}
        self.client = ""  # as the line counter knows it: of two equal texts that would be kept, one
        self.evidence = EvidenceStore(self.limits.evidence_bytes)
        self.samples: dict[str, list[tuple[int, str, str]]] = {}
        self._rotate_ts = float("-inf")
        self._plans: dict[tuple[int, int], tuple[Format, Plan]] = {}
        self._covering: dict[str, int] = {}
        self.subject = subject_of(32, 64)
        self._mask = observer.mask if observer else 0
        self._counter = LineCounter(self)
        self._failures = FailureCounter(self)
        self._look_out()

    def look(self, batch: Batch, fmt: Format, anchor: Anchor, *, whole: bool) -> tuple[Batch, Looked]:
        """What `step` will look for in a block, with more care than it would take, and what of the block it needs
        then. Others may do this ahead of us, for it depends on the lines alone. `whole`: it needs all of it.
        """
        plan = self._plan(fmt, batch.source)
        if plan.flood is not None and fmt.skim is not None:
            return batch, sift(plan, batch.data, fmt, anchor, look(plan, batch.data, fmt))
        return glean(plan, batch, fmt, anchor, whole=whole or self._sees_all(fmt))

    def step(
        self, batch: Batch, fmt: Format, anchor: Anchor, on_finding: OnFinding, looked: Looked | None = None
    ) -> None:
        """Take a block of whole lines of one source. `on_finding` is called in the order of the crossing lines.
        `looked` is what `look` found, where that is known.
        """
        plan = self._plan(fmt, batch.source)
        looked = looked or look(plan, batch.data, fmt)
        block = Block(batch, fmt, anchor, on_finding, looked.places)
        candidates = looked.candidates
        if plan.filters:
            candidates = self._failures.find(block, plan, candidates)
        if plan.flood is not None:
            if plan.filters:
                looked = Looked(candidates, line_numbers(batch.data, candidates), looked.lines, looked.rows)
            self._counter.count(block, plan, plan.flood, looked)
        else:
            every = self._sees_all(fmt)
            if every:
                candidates = all_lines(batch.data, candidates)
            for start, mask in candidates:
                self.take_line(block, plan, start, batch.data.find(b"\n", start), mask)
            if not (plan.scanner.always or every or looked.places):
                self._spot_check(block, candidates)
        lines, size = block.count()
        self.counts.lines += lines
        self.counts.bytes += size

    def prepare(self, fmt: Format, source: str) -> None:
        """Make ready for a log what its first block would wait for: compiling the prefilter takes 0.1 s."""
        plan = self._plan(fmt, source)
        plan.scanner.prepare()
        for tracker in plan.filters:
            if tracker.rule.filter:
                tracker.rule.filter.prepare()

    def skip(self, batch: Batch, reason: str) -> None:
        """Count a block whose format nobody knows: every line of it is unparsed."""
        lines = batch.data.count(b"\n")
        self.counts.lines += lines
        self.counts.bytes += len(batch.data)
        self.counts.unparsed += lines
        samples = self.samples.setdefault(spelt_out(batch.source), [])
        if len(samples) < SAMPLES:
            samples.append((batch.line, printable(batch.data[:200].partition(b"\n")[0]), reason))

    def take_line(self, block: Block, plan: Plan, start: int, end: int, mask: int) -> None:
        """Parse one line and give it to the rules of `mask`."""
        if start in block.failures:
            self._failures.take(block, block.failures[start], start, end)
            if not mask:
                self.counts.parsed += 1
                return
        event = block.format.parse(block.data[start:end], block.anchor)
        if isinstance(event, Unparsed):
            self._note_unparsed(block, start, end, event.reason)
            return
        self.counts.parsed += 1
        if isinstance(event, Other):
            return
        ts = self.place(event.ts, block.batch.arrival_ts)
        if ts is None:
            self.counts.late += 1
        elif isinstance(event, RawLine):
            self._give_raw(block, plan, start, end, event, ts, mask)
        else:
            self._give(block, plan, start, end, event, ts, mask)

    def _give(
        self, block: Block, plan: Plan, start: int, end: int, event: HttpRequest | AuthAttempt, ts: float, mask: int
    ) -> None:
        """Give a parsed line to the rules of `mask`, in the rules' order."""
        address = event.source_ip
        if address is None:
            self.counts.no_address += 1
            return
        if address == self.client:
            address = self.client
        matched = stopped = False
        for tracker in plan.of_mask(mask):
            if type(event) is not tracker.event_type or not tracker.rule.predicate(event):
                continue
            matched = matched or not tracker.rule.skim
            subject = tracker.rule.subject(address)
            until_ts = self.muted.get(subject)
            if until_ts is not None and ts < until_ts:
                stopped = True
            else:
                self._hit(block, tracker, subject, event, ts, start, end)
        if stopped:
            self.counts.stopped += 1
        elif self.observer and type(event) is HttpRequest:
            self._show(self.observer, block, event, ts, start, end, matched=matched)

    def _show(
        self, observer: Observer, block: Block, event: HttpRequest, ts: float, start: int, end: int, *, matched: bool
    ) -> None:
        """Let the observer see a request, if its sender is of those that it wants and is not banned by now."""
        who = self.subject(event.source_ip or "")
        if ts < self.muted.get(who, ts):
            return
        if crc32(who.encode()) & observer.mask:
            if event.method == "POST":
                observer.glance(event, who, self.now_ts)
            return
        row = partial(block.row, start, end)
        strike = observer.note(event, who, self.now_ts, row, matched=matched)
        if strike is not None:
            slot = (strike.rule, who)
            self.evidence.add(slot, row())
            lines = self.evidence.take(slot)
            found = finding_of(strike.rule, who, ts, strike.count, strike.within_s, lines, event.via, strike.note)
            self._hand_over(block.on_finding, found, who)
        if observer.mask != self._mask:  # others are wanted now: what is remembered of clients no longer holds
            self._mask = observer.mask
            self._counter.forget()
            self._look_out()

    def _sees_all(self, fmt: Format) -> bool:
        """Whether the observer wants every line."""
        return self.observer is not None and self.observer.thorough and fmt.kind == "access"

    def wants(self, who: str) -> bool:
        """Whether the observer watches an address (IPv6: a /64)."""
        return self.observer is not None and not crc32(who.encode()) & self._mask

    def _look_out(self) -> None:
        for tracker in self.trackers:
            if self.observer is not None and tracker.rule.skim and tracker.by_host:
                tracker.window.look_out(self.wants if self._mask else None)

    def count(self, rule_id: str, failure: Failure, ts: float, row: Row, on_finding: OnFinding) -> None:
        """Count a failure that its rule's judge had wait, at its own time. Nothing where the rule has gone."""
        self._failures.count(rule_id, failure, ts, row, on_finding)

    def _give_raw(self, block: Block, plan: Plan, start: int, end: int, line: RawLine, ts: float, mask: int) -> None:
        """Give a line of an unknown format to the rules that look at lines."""
        for tracker in plan.of_mask(mask):
            address = tracker.rule.line_address(line.text)
            if address is None:
                continue
            subject = tracker.rule.subject(address)
            if ts < self.muted.get(subject, ts):
                self.counts.stopped += 1
            else:
                self._hit(block, tracker, subject, None, ts, start, end)

    def _hit(
        self,
        block: Block,
        tracker: Tracker,
        subject: str,
        event: HttpRequest | AuthAttempt | None,
        ts: float,
        start: int,
        end: int,
    ) -> None:
        """A line that a rule counts (`event` None: a raw line, which is counted by its address alone)."""
        key = subject
        if tracker.contributors is not None and event is not None:
            keys = tracker.rule.keys(event)
            if keys is None:
                return
            key = bounded_key(keys)
            tracker.contributors.add(key, subject, ts)
        level = tracker.count(key, ts, event)
        if level == QUIET:
            return
        slot = (tracker.id, key)
        self.evidence.add(slot, block.row(start, end))
        if level == CROSSED:
            note = tracker.rule.proof(event) if type(event) is HttpRequest else ""
            self.emit(block.on_finding, tracker, slot, subject, ts, getattr(event, "via", None), note)

    def emit(
        self,
        on_finding: OnFinding,
        tracker: Tracker,
        slot: tuple[str, str],
        subject: str,
        ts: float,
        via: str | None,
        note: str = "",
    ) -> None:
        """A rule crossed its line: hand over a finding for each subject, and mute those that are banned now."""
        subjects = [subject] if tracker.contributors is None else tracker.contributors.take(slot[1], ts)
        evidence = self.evidence.take(slot)
        for who in subjects:
            found = finding_of(tracker.id, who, ts, tracker.limit, tracker.within_s, evidence, via, note)
            self._hand_over(on_finding, found, target_of(who, tracker.rule.services))

    def _hand_over(self, on_finding: OnFinding, finding: Finding, target: str) -> None:
        """Hand over a finding, and mute its target if it is banned now."""
        self.counts.findings += 1
        until_ts = on_finding(finding)
        if until_ts is not None and until_ts > finding.ts:
            self.mute(target, until_ts)

    # -- time --------------------------------------------------------------------------------------------------------

    def place(self, stamp_ts: float, arrival_ts: float | None) -> float | None:
        """Event time of a stamp, moving `now`; None where it is too late to be placed."""
        ts = stamp_ts if arrival_ts is None else min(stamp_ts, arrival_ts + self.limits.skew_s)
        if ts > self.now_ts:
            self.now_ts = ts
            if ts >= self._rotate_ts:
                self._rotate_ts = min((tracker.window.rotate(ts) for tracker in self.trackers), default=ts)
                self._clean(ts)
        elif ts < self.now_ts - self.limits.lateness_s:
            return None
        return ts

    def _clean(self, now_ts: float) -> None:
        """What goes with a generation: contributors without a key, mutes that have ended."""
        for tracker in self.trackers:
            if tracker.contributors is not None:
                tracker.contributors.rotate()
        oldest_ts = now_ts - self.limits.lateness_s
        for subject in [subject for subject, until_ts in self.muted.items() if until_ts <= oldest_ts]:
            del self.muted[subject]

    # -- what did not fit --------------------------------------------------------------------------------------------

    def _note_unparsed(self, block: Block, start: int, end: int, reason: str) -> None:
        self.counts.unparsed += 1
        samples = self.samples.setdefault(block.source, [])
        if len(samples) < SAMPLES:
            samples.append((block.number(start), printable(block.data[start : min(end, start + 200)]), reason))

    def _spot_check(self, block: Block, candidates: Sequence[tuple[int, int]]) -> None:
        """Where only candidates are parsed: look at one line in 64 KiB, and at all of the block if one does not fit."""
        data = block.data
        if not misfits(data, block.format, block.anchor):
            return
        known = {start for start, _ in candidates}
        start = 0
        while start < len(data):
            end = data.find(b"\n", start)
            if start not in known:
                event = block.format.parse(data[start:end], block.anchor)
                if isinstance(event, Unparsed):
                    self._note_unparsed(block, start, end, event.reason)
            start = end + 1

    # -- plans -------------------------------------------------------------------------------------------------------

    def _plan(self, fmt: Format, source: str) -> Plan:
        """How the rules apply to a log; made once for each format and set of rules that cover it."""
        covering = self._covering.get(source)
        if covering is None:
            if len(self._covering) >= SOURCES_CACHED:
                self._covering.clear()
            covering = self._covering[source] = sum(t.mask for t in self.trackers if t.rule.covers(source))
        known = self._plans.get((id(fmt), covering))
        if known is None:
            trackers = [tracker for tracker in self.trackers if tracker.mask & covering]
            plan = make_plan(
                trackers,
                fmt,
                prefilter=self.prefilter,
                fallback=self.fallback,
                posts=bool(self.observer and self.observer.thorough),
            )
            known = self._plans[id(fmt), covering] = (fmt, plan)
        return known[1]

    # -- bans and restarts -------------------------------------------------------------------------------------------

    def mute(self, subject: str, until_ts: float) -> None:
        """The subject or target (`target_of`) is banned until then: its lines count as stopped, not as offences."""
        if len(self.muted) >= MUTED_AT_MOST:
            del self.muted[next(iter(self.muted))]
        self.muted[subject] = until_ts
        for tracker in self.trackers:
            if until_ts - self.now_ts >= tracker.window.retention_s:  # too old to count by the time that the ban ends
                tracker.window.forget(subject)

    def unmute(self, subject: str) -> None:
        """The subject's ban was lifted: its lines count again."""
        self.muted.pop(subject, None)

    def dump(self) -> bytes:
        """All state, to be saved together with the sources' offsets."""
        windows = {t.id: (t.window.dump(), t.contributors.by_key if t.contributors else {}) for t in self.trackers}
        evidence = [(slot, rows) for slot, rows in self.evidence.lines.items()]
        filters = {t.id: t.rule.filter.dump() for t in self.trackers if t.rule.filter}
        state = (self.counts, self.now_ts, self.muted, windows, evidence, self.samples, self.pool.evicted, filters)
        return msgspec.msgpack.encode(state)

    def load(self, state: bytes) -> None:
        """Take up a dumped state; rules that are new or gone since begin empty or are left out."""
        loaded = msgspec.msgpack.decode(state, type=State)
        self.counts, self.now_ts, self.muted, windows, evidence, self.samples, self.pool.evicted, filters = loaded
        for tracker in self.trackers:
            if tracker.rule.filter and tracker.id in filters:
                tracker.rule.filter.load(filters[tracker.id])
            if tracker.id in windows:
                (young, old, rotated_ts), by_key = windows[tracker.id]
                tracker.window.load(young, old, rotated_ts)
                if tracker.contributors:
                    tracker.contributors.by_key = by_key
        for slot, rows in evidence:
            for row in rows:
                self.evidence.add(slot, row)
