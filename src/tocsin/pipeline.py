"""From a batch to decisions: formats, engine and policy in a row. Guard and replay are both loops around this."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec

from tocsin.decide.policy import Policy, Terms
from tocsin.detect.engine import Engine, Limits, Observer
from tocsin.formats import RawLines
from tocsin.model import Batch, Decision, Finding
from tocsin.reading import Readings
from tocsin.rules import CompiledRule, Failure, Place

OnDecision = Callable[[Decision, Finding | None], None]

HUSHED_AT_MOST = 1 << 16


class Pipeline:
    """Takes batches in order. `on_decision` is called before the next line is read: with a finding's decision, and
    with the lifts that it caused. `on_finding` sees every finding, also those that change nothing.
    """

    def __init__(
        self,
        rules: Sequence[CompiledRule],
        limits: Limits,
        policy: Policy,
        readings: Readings,
        on_decision: OnDecision,
        on_finding: Callable[[Finding], None] = lambda _finding: None,
        observer: Observer | None = None,
        *,
        prefilter: bool = True,
    ) -> None:
        self.engine = Engine(rules, limits, prefilter=prefilter, observer=observer)
        self.rules = {rule.rule.id: rule for rule in rules}
        self._terms = {name: Terms(rule.ban_s_of, rule.services, rule.held) for name, rule in self.rules.items()}
        self._raw = RawLines()
        self._raw_rules = [rule.covers for rule in rules if rule.rule.on in ("line", "filter")]
        self.policy = policy
        self.readings = readings
        self.on_decision = on_decision
        self.on_finding = on_finding
        self._hushed: dict[tuple[str, str, str | None], float] = {}

    def take(self, batch: Batch, now_ts: float) -> None:
        """Take whole lines of one source; `now_ts` resolves missing years (arrival, or a finished file's time)."""
        fmt, anchor = self.readings.of(batch, now_ts)
        if fmt is None and not self.reads(batch.source):
            self.engine.skip(batch, "no known format fits this log; name one in [[log]]")
            return
        fmt = fmt or self._raw
        self.engine.step(batch, fmt, anchor, self._judge)

    def count(self, rule_id: str, failure: Failure, ts: float, place: Place) -> None:
        """Count a failure that had to wait for its judge."""
        self.engine.count(rule_id, failure, ts, place, self._judge)

    def reads(self, source: str) -> bool:
        """Whether a rule looks at this source's raw lines, be its format known or not."""
        return any(covers(source) for covers in self._raw_rules)

    def _judge(self, finding: Finding) -> float | None:
        """Decide, hand over, and say until when the subject's lines are of no account: as long as it is banned."""
        which = (finding.rule, finding.subject, finding.via)
        if finding.ts < self._hushed.get(which, finding.ts):
            return None
        self.on_finding(finding)
        rule = self.rules[finding.rule]
        decision = self.policy.decide(finding, rule.rule.ban_s, self._terms[finding.rule])
        for lift in self.policy.take_lifts():
            self.engine.unmute(lift.target)
            self.on_decision(lift, None)
        if decision is None:
            return self.policy.until_ts(finding.subject, finding.ts, rule.services)
        self.on_decision(decision, finding)
        if decision.held is not None and decision.held != "observing":
            self._hush(which, finding.ts + finding.within_s)
            return None
        return math.inf if decision.end_ts is None else decision.end_ts

    def _hush(self, which: tuple[str, str, str | None], until_ts: float) -> None:
        """Held: say so once a window, not at each line. Other rules go on judging the subject: nobody stops it."""
        if len(self._hushed) >= HUSHED_AT_MOST:
            del self._hushed[next(iter(self._hushed))]
        self._hushed[which] = until_ts

    def dump(self) -> bytes:
        """Engine and policy state, to be saved together with the sources' offsets."""
        return msgspec.msgpack.encode((self.engine.dump(), self.policy.dump(), list(self._hushed.items())))

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.MsgspecError where it is none."""
        kind = tuple[bytes, bytes, list[tuple[tuple[str, str, str | None], float]]]
        engine, policy, hushed = msgspec.msgpack.decode(state, type=kind)
        self.policy.load(policy)
        self.engine.load(engine)
        self._hushed = dict(hushed)
