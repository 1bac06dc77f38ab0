"""Failures that filters of raw lines have found (of rules that bring their own reading of a log), counted.

A filter sees the lines of banned clients too, since it remembers connections; what it finds of them is not counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tocsin.detect.plan import bounded_key
from tocsin.detect.window import CROSSED
from tocsin.model import target_of

if TYPE_CHECKING:
    from tocsin.detect.block import Block, OnFinding
    from tocsin.detect.engine import Engine
    from tocsin.detect.evidence import Row
    from tocsin.detect.plan import Plan, Tracker
    from tocsin.detect.scan import Candidates
    from tocsin.rules import CompiledRule, Failure


class FailureCounter:
    """Has filters read their candidates, and counts what they find for their rules."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def find(self, block: Block, plan: Plan, candidates: Candidates) -> Candidates:
        """Let the rules that have a filter of their own read their candidates; what they find stands in the block.
        Returns the lines that are still to be looked at.
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

    def take(self, block: Block, failures: Sequence[tuple[Tracker, Failure]], start: int, end: int) -> None:
        """Count what filters have found in a line."""
        stopped = False
        for tracker, failure in failures:
            rule = tracker.rule
            ts = self._engine.place(failure.ts, block.batch.arrival_ts)
            if ts is None:
                self._engine.counts.late += 1
            elif failure.source_ip is None:
                self._engine.counts.no_address += 1
            elif self._is_muted(rule, failure.source_ip, ts):
                stopped = True
            else:
                row = block.row(start, end)
                if rule.judge is None or rule.judge(failure, ts, row) == "counts":
                    self._fail(tracker, failure, ts, row, block.on_finding)
        self._engine.counts.stopped += stopped

    def count(self, rule_id: str, failure: Failure, ts: float, row: Row, on_finding: OnFinding) -> None:
        """Count a failure that its rule's judge had wait, at its own time. Nothing where the rule has gone."""
        tracker = next((tracker for tracker in self._engine.trackers if tracker.id == rule_id), None)
        if tracker is None or failure.source_ip is None:
            return
        if ts < self._engine.now_ts - self._engine.limits.lateness_s:
            self._engine.counts.late += 1
        elif self._is_muted(tracker.rule, failure.source_ip, ts):
            self._engine.counts.stopped += 1
        else:
            self._fail(tracker, failure, ts, row, on_finding)

    def _is_muted(self, rule: CompiledRule, source_ip: str, ts: float) -> bool:
        subject = rule.subject(source_ip)
        return ts < self._engine.muted.get(subject, ts) or ts < self._engine.muted.get(
            target_of(subject, rule.services), ts
        )

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
                self._engine.evidence.add(slot, row)
            if level == CROSSED:
                self._engine.emit(on_finding, tracker, slot, subject, ts, None)
                return
