"""From a batch to decisions: formats, engine and policy in a row. Guard and replay are both loops around this."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
from msgspec import UnsetType

from tocsin.decide.crowd import Crowd
from tocsin.decide.impostors import Answer
from tocsin.decide.neighbours import Neighbours
from tocsin.decide.policy import NO_TERMS, Policy, Terms
from tocsin.decide.siege import RENEWED, RULE, Change
from tocsin.decide.subjects import bounds
from tocsin.detect.block import Looked
from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.formats import RawLines
from tocsin.model import Action, Batch, Decision, Finding, is_host, parts_of, target_of
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
        crowd: Crowd | None = None,
        *,
        prefilter: bool = True,
    ) -> None:
        rules = [rule.judged_by(policy.crawlers) for rule in rules]
        self.cannot: dict[Action, str] = {}  # why the web server does not do this or that
        self.on_siege: Callable[[Change], None] = lambda _change: None
        self.engine = Engine(rules, limits, prefilter=prefilter, observer=crowd)
        self.crowd = crowd
        if crowd is not None:
            crowd.sieges.hear = self._on_change
        self.rules = {rule.rule.id: rule for rule in rules}
        self._terms = {
            name: Terms(rule.ban_s_of, rule.services, rule.held, spares_visitors=rule.crawlers is not None)
            for name, rule in self.rules.items()
        }
        self._raw = RawLines()
        self._raw_rules = [rule.covers for rule in rules if rule.rule.on in ("line", "filter")]
        self.policy = policy
        policy.pasts.rules = frozenset(name for name, rule in self.rules.items() if rule.alone)
        policy.neighbours = Neighbours(self.engine.trackers, policy.breaker.visitors if policy.breaker else None)
        self.readings = readings
        self.on_decision = on_decision
        self.on_finding = on_finding
        self._hushed: dict[tuple[str, str, str | None], float] = {}

    def prepare(self) -> None:
        """Make ready what the first lines would wait for, but for what `look` needs."""
        for rule in self.rules.values():
            if rule.filter:
                rule.filter.prepare()

    def look(self, batch: Batch, now_ts: float) -> tuple[Batch, Looked | None]:
        """What the engine will look for in these lines, with more care than it would take, and what of them `take` is
        to be given. (None: what it is is not known.)
        """
        known = self.readings.known.get(batch.source)
        fmt, anchor = self.readings.of(batch, now_ts)
        if fmt is None and not self.reads(batch.source):
            return batch, None
        sniffed = self.readings.known[batch.source] is not known  # by these lines, of which `take` needs all then
        return self.engine.look(batch, fmt or self._raw, anchor, whole=sniffed)

    def take(self, batch: Batch, now_ts: float, looked: Looked | None = None) -> None:
        """Take whole lines of one source; `now_ts` resolves missing years (arrival, or a finished file's time).
        `looked` is what `look` found in them, where that is known.
        """
        size = looked.places.bytes if looked and looked.places else len(batch.data)
        fmt, anchor = self.readings.of(batch, now_ts, size)
        if fmt is None and not self.reads(batch.source):
            self.engine.skip(batch, "no known format fits this log; name one in [[log]]")
            return
        fmt = fmt or self._raw
        self.engine.step(batch, fmt, anchor, self._judge, looked)

    def count(self, rule_id: str, failure: Failure, ts: float, place: Place) -> None:
        """Count a failure that had to wait for its judge."""
        self.engine.count(rule_id, failure, ts, place, self._judge)

    def reads(self, source: str) -> bool:
        """Whether a rule looks at this source's raw lines, be its format known or not."""
        return any(covers(source) for covers in self._raw_rules)

    def _judge(self, finding: Finding) -> float | None:
        """Decide, hand over, and say until when the subject's lines are of no account: as long as it is banned."""
        known = self.rules.get(finding.rule)
        of_claim = known is not None and known.crawlers is not None
        if of_claim and self.policy.crawlers.wait(finding):
            return None
        which = (finding.rule, finding.subject, finding.via)
        if finding.ts < self._hushed.get(which, finding.ts):
            return None
        self.on_finding(finding)
        ban_s, terms = self._terms_of(finding.rule)
        decision = self.policy.decide(finding, ban_s, terms)
        self._hand_over_lifts()
        if decision is None:
            return self.policy.until_ts(finding.subject, finding.ts, terms.services)
        self.on_decision(decision, finding)
        if known is None or known.filter is None:  # a jail does what fail2ban does, and no more
            self._widen(finding, decision, ban_s)
        if of_claim and decision.held is None:
            self.policy.crawlers.doubt(decision.target)
        if decision.held is not None and decision.held != "observing":
            self._hush(which, finding.ts + finding.within_s)
            return None
        return math.inf if decision.end_ts is None else decision.end_ts

    def answer(self, answer: Answer) -> None:
        """Take what the DNS said of an address that `policy.crawlers` asked for: a source like a log."""
        finding, pardon = self.policy.crawlers.answer(answer)
        if finding is not None and finding.rule in self.rules:
            until_ts = self._judge(finding)
            if until_ts is not None and until_ts > finding.ts:
                self.engine.mute(target_of(finding.subject, self.rules[finding.rule].services), until_ts)
        if pardon is not None and (lift := self.pardon(*pardon, answer.ts)) is not None:
            self.engine.unmute(lift.target)

    def pardon(self, target: str, why: str, now_ts: float) -> Decision | None:
        """End a ban that was wrong, and that of a network to which it has led; the lift where it was in force. Its
        lines stay unheard.
        """
        lift = self.policy.pardon(target, why, now_ts)
        self._hand_over_lifts()
        if lift is not None:
            self.on_decision(lift, None)
        return lift

    def _hand_over_lifts(self) -> None:
        for lift in self.policy.take_lifts():
            self.let_in(lift)
            self.on_decision(lift, None)

    def _widen(self, finding: Finding, decision: Decision, ban_s: float | UnsetType | None) -> None:
        """Ban the network too, where this was one address of it too many."""
        widened = self.policy.widen(finding, decision, ban_s)
        if widened is None:
            return
        about, made = widened
        self.on_finding(about)
        for lift in self.policy.take_lifts():  # folded into it: who is in there stays where it is
            self.engine.unmute(lift.target)
            self.on_decision(lift, None)
        self.on_decision(made, about)

    def let_in(self, lift: Decision) -> None:
        """A ban was lifted: the lines that it stopped count again; of a prefix, those of all whom nothing else bans."""
        self.engine.unmute(lift.target)
        if is_host(lift.subject):
            return
        version, low, high = bounds(lift.subject)
        octets = lift.subject.split(".")[: int(lift.subject.partition("/")[2]) // 8] if version == 4 else []
        begins = "".join(f"{octet}." for octet in octets[:3])
        for target in [each for each in self.engine.muted if each.startswith(begins)]:
            subject, services = parts_of(target)
            its_version, first, last = bounds(subject)
            inside = its_version == version and low <= first and last <= high
            if inside and self.policy.until_ts(subject, lift.start_ts, services) is None:
                self.engine.unmute(target)

    def _terms_of(self, rule_id: str) -> tuple[float | UnsetType | None, Terms]:
        """How long a rule bans, and what else it brings."""
        if rule_id == RULE and self.crowd is not None:
            return self.crowd.settings.ban_s, NO_TERMS
        return self.rules[rule_id].rule.ban_s, self._terms[rule_id]

    def _on_change(self, change: Change) -> None:
        """What happened to a siege, as findings and decisions."""
        if change.verb in {"enter", "alarm"}:
            self.on_finding(change.finding)
        if change.lifts is not None:
            self.on_decision(self._of_class("lift", f"lift~{change.lifts}", change), change.finding)
        if change.verb in {"deny", "ask"}:
            action: Action = "limit" if change.verb == "ask" else "deny-request"
            self.on_decision(self._of_class(action, change.id, change), change.finding)
        self.on_siege(change)

    def _of_class(self, action: Action, decision_id: str, change: Change) -> Decision:
        tells = action != "lift"
        held = "observing" if self.policy.settings.observe else self.cannot.get(action)
        renews = change.verb in {"deny", "ask"} and change.lifts is not None
        return Decision(
            id=decision_id,
            action=action,
            subject="",
            start_ts=change.ts,
            end_ts=change.end_ts if tells else None,
            rule=RULE,
            finding=change.finding.id,
            held=held if tells else None,
            lifts=None if tells else change.lifts,
            note=RENEWED if renews else change.note,
            signature=change.signature,
            spare=change.spare if tells else (),
        )

    def _hush(self, which: tuple[str, str, str | None], until_ts: float) -> None:
        """Held: say so once a window, not at each line. Other rules go on judging the subject: nobody stops it."""
        if len(self._hushed) >= HUSHED_AT_MOST:
            del self._hushed[next(iter(self._hushed))]
        self._hushed[which] = until_ts

    def dump(self, *, normal: bool = True) -> bytes:
        """Engine, policy and crowd state, to be saved together with the sources' offsets; without what is normal, where
        that is saved by itself (`crowd.normal.dump`).
        """
        crowd = self.crowd.dump() if self.crowd is not None else b""
        usual = self.crowd.normal.dump() if self.crowd is not None and normal else b""
        return msgspec.msgpack.encode(
            (self.engine.dump(), self.policy.dump(), list(self._hushed.items()), crowd, usual)
        )

    def load(self, state: bytes, normal: bytes = b"") -> None:
        """Take up a dumped state. msgspec.MsgspecError where it is none."""
        kind = tuple[bytes, bytes, list[tuple[tuple[str, str, str | None], float]], bytes, bytes]
        engine, policy, hushed, crowd, usual = msgspec.msgpack.decode(state, type=kind)
        self.policy.load(policy)
        self.engine.load(engine)
        if self.crowd is not None and crowd:
            if usual or normal:
                self.crowd.normal.load(usual or normal)
            self.crowd.load(crowd)
        self._hushed = dict(hushed)
