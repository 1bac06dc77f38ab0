"""The policy: what a finding leads to, and what an operator asks for. It knows who is safe; `Bans` knows who is banned.

Time is event time, handed in; no clock is read. The same findings in the same order give the same decisions.

How long: the rule's ban (or the default), times `factor` (2: doubled) for each earlier ban that is still remembered
(`memory_s` after it ended), at most `max_s`; for rules that `pasts` counts alone, each of their own. Lines from
before a ban ended (or was lifted) do not ban again: they are what the ban was for, or what the operator has forgiven.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tocsin.decide.allow import AllowList
from tocsin.decide.bans import Bans, Origin, last_ts, much_later, target_for
from tocsin.decide.breaker import Breaker, Notice
from tocsin.decide.held import Held
from tocsin.decide.impostors import Crawlers
from tocsin.decide.neighbours import Neighbours
from tocsin.decide.prefixes import Prefixes
from tocsin.decide.subjects import canonical
from tocsin.duration import render_duration
from tocsin.model import Decision, Finding, is_host, parts_of

DOUBLINGS_MAX = 40


BanSpan = Callable[[int, str], float | None]
"""A rule's own way: (earlier bans that are remembered, id of the finding) -> seconds, None for good."""


class Terms(Struct, frozen=True):
    """What a rule brings of its own beside the length of its ban: a way to lengthen it, the services that it closes
    (`Decision.services`), why its bans are held back, if they are, and whether it leaves visitors alone.
    """

    ban_s_of: BanSpan | None = None
    services: str = ""
    held: str = ""
    spares_visitors: bool = False


NO_TERMS = Terms()


class PolicySettings(Struct, frozen=True):
    """`ban_s` where a rule does not say (None: for good). Who comes back is banned `factor` times as long for each
    earlier ban, up to `max_s`, which does not cap a rule's own ban.
    """

    ban_s: float | None = 3600.0
    factor: float = 2.0
    max_s: float = 30 * 86400.0
    memory_s: float = 90 * 86400.0
    max_active: int = 200_000
    max_history: int = 500_000
    observe: bool = False


class RefusedError(ValueError):
    """A ban that the operator asked for and that would hit somebody who is safe; the text says who and why."""


class Saved(Struct, frozen=True, array_like=True):
    """What a restart must take up and the ledger does not hold: what was held back lately, the breakers, what the DNS
    has said of crawlers, the offenders of networks, and how often single rules banned somebody.
    """

    held: dict[str, float | None]
    breaker: bytes | None
    crawlers: bytes | None = None
    prefixes: bytes | None = None
    pasts: bytes | None = None


class Policy:
    """Turns findings into decisions and keeps what is in force.

    `history` are rows (target, number of bans, last end), `active` the bans in force and `starts` when those of them
    began that are for good, all from the ledger. `history` None: `remember` is called before the first finding. After
    each call, `take_lifts` and `take_notices` hand out what the call caused besides its answer.
    """

    def __init__(
        self,
        settings: PolicySettings,
        allow: AllowList,
        *,
        breaker: Breaker | None = None,
        prefixes: Prefixes | None = None,
        history: Iterable[tuple[str, int, float]] | None = (),
        active: Mapping[str, float | None] | None = None,
        starts: Mapping[str, float] | None = None,
        crawlers: Crawlers | None = None,
    ) -> None:
        self.settings = settings
        self.crawlers = crawlers or Crawlers()
        self.allow = allow
        self.breaker = breaker
        self.prefixes = prefixes
        self.neighbours = Neighbours()  # the pipeline's, who knows whom the engine has seen
        self._bans = Bans(settings.max_active, settings.max_history, settings.memory_s, active or {}, starts or {})
        self.pasts = self._bans.pasts
        self._held = Held()
        self.remembering = history is None  # until `remember` is through
        if history is not None:
            for _ in self.remember(history):
                pass

    def remember(self, history: Iterable[tuple[str, int, float]]) -> Iterator[None]:
        """Take in who was banned before, in steps of a few milliseconds."""
        yield from self._bans.remember(history)
        self.remembering = False

    # -- findings ----------------------------------------------------------------------------------------------------

    def decide(
        self, finding: Finding, rule_ban_s: float | UnsetType | None = UNSET, terms: Terms = NO_TERMS
    ) -> Decision | None:
        """The decision that a finding leads to. None where it changes nothing: the subject is banned already (until
        about then or later), or was when the line was written, or the same was held back a moment ago.

        `held` says why the ban is not to be put into the kernel; such a decision bans nobody.
        """
        self._trip(finding)
        base_s = self.settings.ban_s if isinstance(rule_ban_s, UnsetType) else rule_ban_s
        held = self._held_because(finding) or terms.held or self._spares(finding, terms) or None
        subject, ts = finding.subject, finding.ts
        target = target_for(subject, terms.services)
        if held is not None:
            return self._held.hold(finding, target, base_s, held)
        holder = self._bans.holder(target, ts)
        earlier, is_late = self._bans.earlier(subject, ts)
        if holder is None and is_late:
            return None
        counted = self.earlier_by(finding.rule, subject, ts)
        own_s = terms.ban_s_of
        seconds = own_s(counted, finding.id) if own_s else self.escalated_s(base_s, counted)
        end_ts = None if seconds is None else ts + seconds
        if holder is not None and (
            self._is_of_network(holder, subject) or not much_later(end_ts, self._bans.ends[holder], seconds)
        ):
            return None
        note = ""
        if counted:
            number = f"ban {counted + 1} of this subject" + (
                " by this rule" if finding.rule in self.pasts.rules else ""
            )
            note = f"{number}: {render_duration(seconds)} in place of {render_duration(base_s)}"
        if self.breaker is not None:
            self.breaker.banned(finding, end_ts, target)
        held = "observing" if self.settings.observe else None
        return self._bans.begin(
            target, ts, end_ts, earlier, rule=finding.rule, finding=finding.id, held=held, note=note
        )

    def widen(
        self, finding: Finding, decision: Decision, rule_ban_s: float | UnsetType | None = UNSET
    ) -> tuple[Finding, Decision] | None:
        """What a finding's ban leads to beside itself: the ban of the network, where too many of it offend by now, and
        the finding that says so. To be asked after each decision of `decide`, with what that was told.

        Bans of networks in that one, which have led to it, are folded into it: they are lifted, unless they last
        longer. Bans of hosts stay as they are, and go on when it ends.
        """
        if self.prefixes is None or decision.action != "ban" or decision.services or not is_host(finding.subject):
            return None
        if not self._is_made(decision):
            return None
        base_s = self.settings.ban_s if isinstance(rule_ban_s, UnsetType) else rule_ban_s
        found = self.prefixes.offended(
            finding,
            base_s,
            self.neighbours,
            lambda prefix: self.allow.reason(prefix) or self.crawlers.verified(prefix, finding.ts),
            lambda host: self.until_ts(host, finding.ts) is not None,
        )
        made = self.decide(*found) if found else None
        if found is None or made is None:
            return None
        if self._is_made(made):
            self._fold(made)
        return found[0], replace(made, note="; ".join(filter(None, (found[0].note, made.note))))

    def _is_of_network(self, holder: str, subject: str) -> bool:
        """Whether it is the ban that a network got for its offenders: what is read of others in it came before."""
        return holder != subject and self.prefixes is not None and self.prefixes.made(holder)

    def _is_made(self, decision: Decision) -> bool:
        """Whether a ban is in force, or would be if we did more than observe."""
        return decision.held is None or (self.settings.observe and decision.held == "observing")

    def _fold(self, decision: Decision) -> None:
        assert self.prefixes is not None  # noqa: S101  the caller has looked
        for network in self.prefixes.banned(decision.subject, decision.start_ts):
            end_ts = self._bans.end_of(network)
            if end_ts is not None and decision.start_ts < end_ts <= last_ts(decision.end_ts):
                why = f"folded into {decision.subject}"
                self._bans.lifts.append(self._bans.end(network, decision.start_ts, why, rule=decision.rule))

    def earlier_by(self, rule: str, subject: str, ts: float) -> int:
        """How many bans of a subject count for a rule at `ts`: its own, where they are counted alone, else all."""
        own = self.pasts.earlier(rule, subject, ts)
        return self._bans.earlier(subject, ts)[0] if own is None else own

    def escalated_s(self, base_s: float | None, earlier: int) -> float | None:
        """The length of a ban after so many earlier ones."""
        if base_s is None or earlier <= 0:
            return base_s
        return max(base_s, min(base_s * self.settings.factor ** min(earlier, DOUBLINGS_MAX), self.settings.max_s))

    def _held_because(self, finding: Finding) -> str | None:
        reason = self.allow.reason(finding.subject)
        if reason is not None:
            return f"allowed: {reason}"
        if finding.via is not None:
            return f"behind proxy {finding.via}: the kernel sees only the proxy; deny it in the web server"
        crawler = self.crawlers.verified(finding.subject, finding.ts)
        if crawler is not None:
            return crawler
        return self.breaker.reason(finding.rule, finding.ts) if self.breaker is not None else None

    def _spares(self, finding: Finding, terms: Terms) -> str:
        """A claim speaks of one request: who reads pages like a visitor besides is many, behind a proxy that nobody
        named or in one office, of whom one plays at being a crawler.
        """
        visitors = self.breaker.visitors if self.breaker is not None and terms.spares_visitors else None
        if visitors is None or not visitors.may_hit(finding.subject) or not visitors.hit_by(finding.subject):
            return ""
        return "it behaves like a visitor, too; if it is a proxy, name it in [proxies]"

    # -- the operator ------------------------------------------------------------------------------------------------

    def ban(
        self, subject: str, seconds: float | None, now_ts: float, *, force: bool = False, services: str = ""
    ) -> Decision:
        """Ban an address or a prefix because an operator says so (None: for good), in place of any ban it has. Of a
        host, `services` alone may be closed.

        ValueError where it is no address; RefusedError where somebody on the allow list would be hit, unless forced.
        What is built in (loopback, link-local, multicast) is refused by the enforcer even then.
        """
        subject = canonical(subject)
        reason = self.allow.reason(subject)
        if reason is not None and not force:
            raise RefusedError(
                f"{subject} is safe ({reason}); take it off the allow list first, or insist with --force"
            )
        target = target_for(subject, services)
        end_ts = None if seconds is None else now_ts + seconds
        earlier, _ = self._bans.earlier(subject, now_ts)
        held = "observing" if self.settings.observe else None
        note = "forced: " + reason if reason is not None else ""
        return self._bans.begin(target, now_ts, end_ts, earlier, origin="operator", held=held, note=note)

    def lift(self, subject: str, now_ts: float, note: str = "") -> list[Decision]:
        """End every ban because of which `subject` cannot get through: its own, those of prefixes that hold it, and,
        where it is a prefix itself, those of everything in it. Empty where nothing was banned. The operator's doing.
        """
        self.expire(now_ts)
        touching = self._bans.touching(subject)
        return [self._lift(target, now_ts, note or "unbanned", origin="operator") for target in touching]

    def lift_own(self, target: str, now_ts: float, note: str) -> Decision:
        """End the target's own ban, and no other. KeyError where it has none. The operator's doing."""
        return self._lift(target, now_ts, note, origin="operator")

    # -- what is in force, and what was ------------------------------------------------------------------------------

    def until_ts(self, subject: str, now_ts: float, services: str = "") -> float | None:
        """Until when the subject is banned (infinity: for good), itself or by a wider prefix; None where it is not.
        With services: until when it cannot get at these.
        """
        holder = self._bans.holder(target_for(subject, services), now_ts)
        return None if holder is None else self._bans.end_of(holder)

    def past(self, subject: str) -> tuple[int, float] | None:
        """How many bans of a subject are remembered, and the last end (infinity: never); None: nothing is known."""
        return self._bans.past(subject)

    def recollect(self, subject: str, times: int, last_end_ts: float) -> None:
        """Remember a subject's bans as somebody else knows them, in place of what was remembered."""
        self._bans.recollect(subject, times, last_end_ts)

    def end_of(self, target: str) -> float | None:
        """When the target's own ban ends (infinity: never); None where it has none."""
        return self._bans.end_of(target)

    def remembers(self, target: str) -> bool:
        """Whether the target's subject was ever banned, as far as is remembered."""
        return self._bans.past(parts_of(target)[0]) is not None

    def desired(self, now_ts: float) -> dict[str, float | None]:
        """What should be in the kernel now: target to end (None: for good). Nothing while observing."""
        if self.settings.observe:
            return {}
        return {subject: end_ts for subject, end_ts in self._bans.ends.items() if end_ts is None or end_ts > now_ts}

    def some(self, at: int, count: int) -> list[str]:
        """At most so many of the targets in force, from a position on; fewer where that is the end. Between two calls
        they may move up.
        """
        return [] if self.settings.observe else list(islice(self._bans.ends, at, at + count))

    def expire(self, now_ts: float) -> list[str]:
        """Forget the bans that have ended, as the kernel does by itself; returns their targets."""
        self._held.expire(now_ts)
        return self._bans.expire(now_ts)

    def spare(self, now_ts: float) -> list[Decision]:
        """Lift the bans of all who are on the allow list by now (its entries change while the guard runs)."""
        self.expire(now_ts)
        safe = [(target, self.allow.reason(parts_of(target)[0])) for target in self._bans.ends]
        return [self._lift(target, now_ts, f"allowed: {reason}") for target, reason in safe if reason]

    def pardon(self, target: str, why: str, now_ts: float) -> Decision | None:
        """Lift a target's own ban, because it was wrong; None where it is in force no longer. The ban of a network to
        which it has led is lifted too (`take_lifts`).
        """
        self.expire(now_ts)
        subject = parts_of(target)[0]
        for holder in self._bans.covering(subject):
            if self._is_of_network(holder, subject):
                self._bans.lifts.append(self._lift(holder, now_ts, f"{subject} in it: {why}"))
        return None if self.end_of(target) is None else self._lift(target, now_ts, why)

    def counts(self) -> dict[str, int]:
        """Figures for `status`."""
        return self._bans.counts()

    def restate(self, now_ts: float) -> Iterator[Decision]:
        """The bans in force as decisions, for a ledger that has lost some; their rules and findings are lost to us. To
        be asked for in portions: what ends or is lifted between two of them is left out.
        """
        if not self.settings.observe:
            yield from self._bans.restate(now_ts)

    def adopt(self, actual: Mapping[str, float | None], now_ts: float) -> list[Decision]:
        """Take over bans that the kernel holds and nobody remembers (the ledger was lost): target to seconds left,
        None for good. Who is safe is left out, so that reconciling ends those.
        """
        adopted = []
        for target, left_s in actual.items():
            if target not in self._bans.ends and self.allow.reason(parts_of(target)[0]) is None:
                end_ts = None if left_s is None else now_ts + left_s
                adopted.append(self._bans.take_over(target, now_ts, end_ts))
        return adopted

    # -- side effects ------------------------------------------------------------------------------------------------

    def take_lifts(self) -> list[Decision]:
        """Bans that ended early since the last call: to make room, or because a breaker has tripped."""
        lifts, self._bans.lifts = self._bans.lifts, []
        return lifts

    def take_notices(self) -> list[Notice]:
        """What people must be told: breakers that tripped, or were reset, since the last call."""
        return self.breaker.take_notices() if self.breaker is not None else []

    def _trip(self, finding: Finding) -> None:
        for victim, end_ts in self.breaker.hit(finding).items() if self.breaker is not None else ():
            if last_ts(end_ts) > finding.ts and self._bans.ends.get(victim, -math.inf) == end_ts:
                why = f"breaker: rule {finding.rule} had hit a visitor"
                self._bans.lifts.append(self._lift(victim, finding.ts, why, rule=finding.rule))

    def _lift(self, target: str, now_ts: float, why: str, *, origin: Origin = "rule", rule: str = "") -> Decision:
        """End a target's own ban; of its network's offenders it is one no more."""
        lift = self._bans.end(target, now_ts, why, origin=origin, rule=rule)
        if self.prefixes is not None:
            self.prefixes.forget(lift.subject)
        return lift

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """State that a restart takes up beside what the ledger holds (bans in force, history)."""
        breaker = self.breaker.dump() if self.breaker is not None else None
        prefixes = self.prefixes.dump() if self.prefixes is not None else None
        return msgspec.msgpack.encode(
            Saved(self._held.ends, breaker, self.crawlers.dump(), prefixes, self.pasts.dump())
        )

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.DecodeError where it is none."""
        saved = msgspec.msgpack.decode(state, type=Saved)
        self._held.load(saved.held)
        if self.breaker is not None and saved.breaker is not None:
            self.breaker.load(saved.breaker)
        if self.prefixes is not None and saved.prefixes is not None:
            self.prefixes.load(saved.prefixes)
        if saved.crawlers is not None:
            self.crawlers.load(saved.crawlers)
        if saved.pasts is not None:
            self.pasts.load(saved.pasts)
