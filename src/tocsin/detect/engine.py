"""The engine: blocks of log lines in, findings out. Live guard, replay and explain are loops around this one object.

It reads no clock, does no I/O and draws no lots: the findings depend on the rules and the lines, in their order, and
on what `on_finding` answers (until when the subject is muted, because it is banned). How the lines are cut into
blocks is of no account, because every line is taken in order and every finding is handed over before the next line.

Event time: `now` is the newest stamp read, never later than the line's arrival plus `skew_s`. A line more than
`lateness_s` behind it cannot be placed exactly any more and is counted as late, not evaluated.

Where the time goes (1,000,000 combined lines, 240 MB, 2 % attack; profiled): the prefilter 0.05 s, parsing what
survives 2 us a line, counting every line for a flood rule 0.4 us on top of 0.4 us to cut client and time out of it.
So: lookups by raw bytes in dicts, no call per line in `_count_lines`, and no object built for a line that only counts.
"""

from __future__ import annotations

from _blake2 import blake2b
from bisect import insort
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any
from zlib import crc32

import msgspec

from tocsin.detect.block import Block, Lines, OnFinding, all_lines
from tocsin.detect.books import Counts, Limits, Observer
from tocsin.detect.evidence import EvidenceStore, Row, finding_of, printable
from tocsin.detect.plan import Plan, Tracker, make_plan
from tocsin.detect.scan import Candidates
from tocsin.detect.window import CROSSED, PRUNE_EVERY, QUIET, CountWindow, Pool
from tocsin.model import AuthAttempt, Batch, Finding, HttpRequest, Other, RawLine, Unparsed, target_of
from tocsin.rules.compiled import subject_of

if TYPE_CHECKING:
    from tocsin.formats import Anchor, Format
    from tocsin.rules import CompiledRule, Failure

SAMPLES = 5  # unparsed lines kept for showing
SPOT_CHECK_BYTES = 1 << 16  # where only candidates are parsed, one line in so many bytes is looked at all the same
CLIENTS_CACHED = 1 << 15
STAMPS_CACHED = 1 << 12
MUTED_AT_MOST = 1 << 20
SOURCES_CACHED = 4096
KEY_CHARS = 64


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
        self.evidence = EvidenceStore(self.limits.evidence_bytes)
        self.samples: dict[str, list[tuple[int, str, str]]] = {}
        self._rotate_ts = float("-inf")
        self._plans: dict[tuple[int, int], tuple[Format, Plan]] = {}
        self._covering: dict[str, int] = {}
        self._clients: dict[bytes, str] = {}
        self._stamps: dict[bytes, float] = {}
        self._subject = subject_of(32, 64)
        self._observed: set[str] = set()  # of the clients remembered: whose requests the observer wants
        self._mask = observer.mask if observer else 0

    def step(self, batch: Batch, fmt: Format, anchor: Anchor, on_finding: OnFinding) -> None:
        """Take a block of whole lines of one source. `on_finding` is called in the order of the crossing lines."""
        plan = self._plan(fmt, batch.source)
        block = Block(batch, fmt, anchor, on_finding)
        # Deleting copies whole stretches, `bytes.count` stops at every hit: 0.02 s against 0.1 in 240 MB.
        self.counts.lines += len(batch.data) - len(batch.data.replace(b"\n", b""))
        self.counts.bytes += len(batch.data)
        candidates = plan.scanner.scan(batch.data)
        if plan.filters:
            candidates = self._filter(block, plan, candidates)
        if plan.flood is None:
            every = self.observer is not None and self.observer.thorough and fmt.kind == "access"
            if every:
                candidates = all_lines(batch.data, candidates)
            for start, mask in candidates:
                self._take_line(block, plan, start, batch.data.find(b"\n", start), mask)
            if not (plan.scanner.always or every):
                self._spot_check(block, candidates)
            return
        self._count_lines(block, plan, plan.flood, candidates)

    def prepare(self, fmt: Format, source: str) -> None:
        """Make ready for a log what its first block would wait for: compiling the prefilter takes 0.1 s."""
        self._plan(fmt, source)

    def skip(self, batch: Batch, reason: str) -> None:
        """Count a block whose format nobody knows: every line of it is unparsed."""
        lines = batch.data.count(b"\n")
        self.counts.lines += lines
        self.counts.bytes += len(batch.data)
        self.counts.unparsed += lines
        samples = self.samples.setdefault(batch.source, [])
        if len(samples) < SAMPLES:
            samples.append((batch.line, printable(batch.data[:200].partition(b"\n")[0]), reason))

    def _take_line(self, block: Block, plan: Plan, start: int, end: int, mask: int) -> None:
        """Parse one line and give it to the rules of `mask`."""
        if start in block.failures:
            self._take_failures(block, block.failures[start], start, end)
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
        ts = self._place(event.ts, block.batch.arrival_ts)
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
        who = self._subject(event.source_ip or "")
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
            self._clients.clear()
            self._observed.clear()
            for tracker in self.trackers:
                if isinstance(tracker.window, CountWindow):
                    tracker.window.hot.clear()

    def _filter(self, block: Block, plan: Plan, candidates: Candidates) -> Candidates:
        """Let the rules that have a filter of their own read their candidates; what they find stands in the block.
        Returns the lines that are still to be looked at. Filters see banned clients too: they remember connections.
        """
        data, now_ts = block.data, block.anchor.now_ts
        for tracker in plan.filters:
            line_filter = tracker.rule.filter
            starts = [start for start, mask in candidates if mask & tracker.mask]
            if line_filter is None or not (starts or line_filter.watching):
                continue
            if block.format.verbatim:
                found = line_filter.take_block(data, starts, now_ts)
            else:
                plain = [(at, *block.format.plain(data[at : data.find(b"\n", at)], block.anchor)) for at in starts]
                found = [(start, line_filter.take(text, ts)) for start, text, ts in plain]
            for start, failures in found:
                block.failures.setdefault(start, []).extend((tracker, failure) for failure in failures)
        native = plan.native_mask
        left = {start: mask & native for start, mask in candidates if mask & native}
        return sorted({**dict.fromkeys(block.failures, 0), **left}.items())

    def _take_failures(self, block: Block, failures: Sequence[tuple[Tracker, Failure]], start: int, end: int) -> None:
        """Count what filters have found in a line."""
        stopped = False
        for tracker, failure in failures:
            rule = tracker.rule
            ts = self._place(failure.ts, block.batch.arrival_ts)
            if ts is None:
                self.counts.late += 1
            elif failure.source_ip is None:
                self.counts.no_address += 1
            elif self._is_muted(rule, failure.source_ip, ts):
                stopped = True
            else:
                row = block.row(start, end)
                if rule.judge is None or rule.judge(failure, ts, row) == "counts":
                    self._fail(tracker, failure, ts, row, block.on_finding)
        self.counts.stopped += stopped

    def count(self, rule_id: str, failure: Failure, ts: float, row: Row, on_finding: OnFinding) -> None:
        """Count a failure that its rule's judge had wait, at its own time. Nothing where the rule has gone."""
        tracker = next((tracker for tracker in self.trackers if tracker.id == rule_id), None)
        if tracker is None or failure.source_ip is None:
            return
        if ts < self.now_ts - self.limits.lateness_s:
            self.counts.late += 1
        elif self._is_muted(tracker.rule, failure.source_ip, ts):
            self.counts.stopped += 1
        else:
            self._fail(tracker, failure, ts, row, on_finding)

    def _is_muted(self, rule: CompiledRule, source_ip: str, ts: float) -> bool:
        subject = rule.subject(source_ip)
        return ts < self.muted.get(subject, ts) or ts < self.muted.get(target_of(subject, rule.services), ts)

    def _fail(self, tracker: Tracker, failure: Failure, ts: float, row: Row, on_finding: OnFinding) -> None:
        """Count a failure as often as it counts; once it has crossed the line, the rest is of no account."""
        assert failure.source_ip is not None  # noqa: S101  the callers have looked
        subject = tracker.rule.subject(failure.source_ip)
        key = subject if failure.key == failure.source_ip else bounded_key((failure.key,))
        slot = (tracker.id, key)
        tracker.counted += 1
        for attempt in range(failure.attempts):
            level = tracker.count(key, ts, None)
            if attempt == 0:
                self.evidence.add(slot, row)
            if level == CROSSED:
                self._emit(on_finding, tracker, slot, subject, ts, None)
                return

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
            self._emit(block.on_finding, tracker, slot, subject, ts, getattr(event, "via", None), note)

    def _emit(
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

    # -- counting every line -----------------------------------------------------------------------------------------

    def _count_lines(  # noqa: C901  one loop, as the profile wants it
        self, block: Block, plan: Plan, flood: Tracker, candidates: Sequence[tuple[int, int]]
    ) -> None:
        """Count the lines of a block for the flood rule without parsing them, but for the candidates of other rules.

        Written out where a call a line would cost as much as the work: stamps and clients are looked up by their bytes,
        and the first, the second and the common next event of an address are put into the window's dicts right here.
        """
        skim = block.format.skim
        window = flood.window
        assert skim is not None  # noqa: S101  a plan has a flood tracker only where the format can be skimmed
        assert isinstance(window, CountWindow)  # noqa: S101  a flood rule counts
        data = block.data
        clients, muted, hot, near = self._clients, self.muted, window.hot, min(window.arm, PRUNE_EVERY) - 1
        stamps = self._stamps if block.batch.arrival_ts is None else {}
        observed = self._observed
        lines = Lines(data)
        awaited = iter(candidates)
        marked, mask = next(awaited, (len(data), 0))
        candidate = data.count(b"\n", 0, marked)  # the number of the next candidate's line, from 0
        last_stamp, ts, now_ts, floor_ts = b"", 0.0, self.now_ts, self.now_ts - self.limits.lateness_s
        slow = 0
        rows = skim(data, 0, len(data))
        for i, (client, stamp) in enumerate(rows):
            if stamp != last_stamp:
                known_ts = stamps.get(stamp)
                if known_ts is not None and floor_ts <= known_ts <= now_ts:
                    last_stamp, ts = stamp, known_ts
                else:
                    placed = self._place_stamp(block, stamp)
                    last_stamp, ts = (b"", 0.0) if placed is None else (stamp, placed)
                    now_ts, floor_ts = self.now_ts, self.now_ts - self.limits.lateness_s
            times = hot.get(client)
            if times is not None and last_stamp and len(times) < near:  # the common end: at work, far from the limit
                if ts >= times[-1]:
                    times.append(ts)
                else:
                    insort(times, ts)
                if i != candidate:
                    continue
                mask &= ~flood.mask
            else:
                mask |= flood.mask
            if i == candidate:
                slow += 1
                lines.know(i, marked)
                self._take_line(block, plan, marked, data.find(b"\n", marked), mask)
                last_stamp, now_ts, floor_ts = b"", self.now_ts, self.now_ts - self.limits.lateness_s
                known, (marked, mask) = marked, next(awaited, (len(data), 0))
                candidate += data.count(b"\n", known, marked)
                continue
            key = clients.get(client) or self._client(block, flood, client)
            if not key or not last_stamp:  # does not fit, or too late: the slow way counts it as what it is
                slow += 1
                self._take_line(block, plan, *lines.span(i), flood.mask)
                continue
            if muted and ts < muted.get(key, ts):
                self.counts.stopped += 1
                continue
            value = window.young.get(key)
            if key in observed:
                slow += 1
                self._take_line(block, plan, *lines.span(i), flood.mask)
                continue
            if near > 1:
                if value is None and (value := window.revive(key, ts)) is None:
                    continue
                if type(value) is float:
                    (window.young if key in window.young else window.old)[key] = value = [value]
                if len(value) < near:
                    if ts >= value[-1]:
                        value.append(ts)
                    else:
                        insort(value, ts)
                    if len(client) == len(key) or ":" in key:
                        hot[client] = value
                    continue
            level = window.add(key, ts)
            value = window.young.get(key)
            if type(value) is list and (len(client) == len(key) or ":" in key):
                hot[client] = value
            if level:
                start, end = lines.span(i)
                slot = (flood.id, key)
                self.evidence.add(slot, block.row(start, end))
                if level == CROSSED:
                    self._emit(block.on_finding, flood, slot, key, ts, None)
        self.counts.parsed += len(rows) - slow

    def _place_stamp(self, block: Block, stamp: bytes) -> float | None:
        """Event time of a stamp as skimmed, remembered where no arrival bounds it. None: it is none, or too late."""
        stamp_ts = block.format.time_ts(stamp, block.anchor) if stamp else None
        if stamp_ts is None:
            return None
        if block.batch.arrival_ts is None:
            if len(self._stamps) >= STAMPS_CACHED:
                self._stamps.clear()
            self._stamps[stamp] = stamp_ts
        return self._place(stamp_ts, block.batch.arrival_ts)

    def _client(self, block: Block, flood: Tracker, raw: bytes) -> str:
        """The flood rule's key of a client as logged, remembered; empty where it is no address."""
        address = block.format.client(raw) if raw else None
        key: str = flood.rule.subject(address) if address else ""
        if len(self._clients) >= CLIENTS_CACHED:
            self._clients.clear()
            self._observed.clear()
        self._clients[raw] = key
        if self.observer and address and not crc32(self._subject(address).encode()) & self._mask:
            self._observed.add(key)
        return key

    # -- time --------------------------------------------------------------------------------------------------------

    def _place(self, stamp_ts: float, arrival_ts: float | None) -> float | None:
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
        samples = self.samples.setdefault(block.batch.source, [])
        if len(samples) < SAMPLES:
            samples.append((block.number(start), printable(block.data[start : min(end, start + 200)]), reason))

    def _spot_check(self, block: Block, candidates: Sequence[tuple[int, int]]) -> None:
        """Where only candidates are parsed: look at one line in 64 KiB, and at all of the block if one does not fit."""
        data = block.data
        starts = (data.find(b"\n", at) + 1 if at else 0 for at in range(0, len(data), SPOT_CHECK_BYTES))
        if not any(start < len(data) and self._misfits(block, start) for start in starts):
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

    def _misfits(self, block: Block, start: int) -> bool:
        line = block.data[start : block.data.find(b"\n", start)]
        return isinstance(block.format.parse(line, block.anchor), Unparsed)

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
            else:
                tracker.window.cool(subject)

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
        kind = tuple[
            Counts,
            float,
            dict[str, float],
            dict[str, tuple[tuple[dict[str, Any], dict[str, Any], float], dict[str, dict[str, float]]]],
            list[tuple[tuple[str, str], list[Row]]],
            dict[str, list[tuple[int, str, str]]],
            int,
            dict[str, bytes],
        ]
        loaded = msgspec.msgpack.decode(state, type=kind)
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


def bounded_key(parts: Sequence[str]) -> str:
    """One text for a key of one or several fields. What clients write may be long: then a digest stands for it."""
    key = "\x1f".join(parts)
    if len(key) <= KEY_CHARS:
        return key
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
