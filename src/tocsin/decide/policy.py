"""The policy: what a finding leads to. It knows who is safe, who is banned until when, and who was banned before.

Time is event time, handed in; no clock is read. The same findings in the same order give the same decisions.

How long: the rule's ban (or the default), times `factor` (2: doubled) for each earlier ban that is still remembered
(`memory_s` after it ended), at most `max_s`. A ban that was lifted does not count as an earlier one. Lines from before
a ban ended (or was lifted) do not ban again: they are what the ban was for, or what the operator has forgiven.

A ban may close single services of a host; it is then kept by its target (`model.target_of`), beside others of the same
subject. A ban of everything covers it. Who was banned how often is remembered by subject: bans that are in force at the
same time count once.

What is in force is bounded: beyond `max_active` bans the ones that end first make room, lifted and counted.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice

import msgspec
from msgspec import UNSET, Struct, UnsetType
from msgspec.structs import replace

from tocsin.decide.allow import AllowList
from tocsin.decide.bantable import BanTable
from tocsin.decide.breaker import Breaker, Notice
from tocsin.decide.history import History
from tocsin.decide.impostors import Crawlers
from tocsin.decide.neighbours import Neighbours
from tocsin.decide.prefixes import Prefixes
from tocsin.decide.subjects import bounds, canonical
from tocsin.duration import render_duration
from tocsin.model import Decision, Finding, is_host, parts_of, target_of

HELD_ROWS = 50_000
DOUBLINGS_MAX = 40
REMEMBERED_A_STEP = 1000
EXTEND_BY = 0.1  # the part of a new ban by which it must outlast the one in force: no decision for every late line


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
    has said of crawlers, and the offenders of networks.
    """

    held: dict[str, float | None]
    breaker: bytes | None
    crawlers: bytes | None = None
    prefixes: bytes | None = None


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
        self._active = BanTable(settings.max_active)
        self._held = BanTable(HELD_ROWS)
        self._history = History(settings.max_history)
        self._starts = dict(starts or {})  # of the bans for good, whose ids need it
        self._lifts: list[Decision] = []
        self.remembering = history is None  # until `remember` is through
        self._left_out: list[str] = []  # fewer fit than before: whoever is left out can be banned again
        for subject, end_ts in (active or {}).items():
            self._left_out += (left_out for left_out, _ in self._active.put(subject, end_ts, -math.inf))
        if history is not None:
            for _ in self.remember(history):
                pass

    def remember(self, history: Iterable[tuple[str, int, float]]) -> Iterator[None]:
        """Take in who was banned before, in steps of a few milliseconds: 500,000 rows take seconds."""
        several: set[str] = set()  # subjects with services: of these there may be more than one row
        for number, (target, count, last_end_ts) in enumerate(history, 1):
            if " " in target:
                several.add(parts_of(target)[0])
            if several:
                self._remember_too(target, count, last_end_ts, several)
            else:
                self._history.put(target, count, last_end_ts)
            if number % REMEMBERED_A_STEP == 0:
                yield
        for target, end_ts in self._active.ends.items():
            subject = parts_of(target)[0]
            if self._history.get(subject) is None:
                self._history.put(subject, 1, math.inf if end_ts is None else end_ts)
        for left_out in self._left_out:
            subject = parts_of(left_out)[0]
            if not self._active.own(subject, -math.inf):
                self._history.put(subject, 0, -math.inf)
        self._left_out = []
        self.remembering = False

    def _remember_too(self, target: str, count: int, last_end_ts: float, several: set[str]) -> None:
        subject = parts_of(target)[0]
        known = self._history.get(subject) if subject in several else None
        if known is not None:
            count, last_end_ts = max(known[0], count), max(known[1], last_end_ts)
        self._history.put(subject, count, last_end_ts)

    # -- findings ----------------------------------------------------------------------------------------------------

    def decide(
        self, finding: Finding, rule_ban_s: float | UnsetType | None = UNSET, terms: Terms = NO_TERMS
    ) -> Decision | None:
        """The decision that a finding leads to. None where it changes nothing: the subject is banned already (until
        about then or later), or was when the line was written, or the same was held back a moment ago.

        `held` says why the ban is not to be put into the kernel; such a decision bans nobody.
        """
        if self.breaker is not None:
            self._trip(finding)
        base_s = self.settings.ban_s if isinstance(rule_ban_s, UnsetType) else rule_ban_s
        held = self._held_because(finding) or terms.held or self._spares(finding, terms) or None
        if held is not None:
            return self._hold(finding, base_s, held, terms.services)
        subject, ts = finding.subject, finding.ts
        target = _target(subject, terms.services)
        holder = self._holder(subject, target, ts)
        known, is_banned = self._history.get(subject), bool(self._active.own(subject, ts))
        if holder is None and not is_banned and known is not None and ts < known[1]:
            return None
        earlier = self._earlier(known, ts) - is_banned
        own_s = terms.ban_s_of
        seconds = own_s(max(earlier, 0), finding.id) if own_s else self.escalated_s(base_s, earlier)
        end_ts = None if seconds is None else ts + seconds
        if holder is not None and (
            self._is_of_network(holder, subject) or not _much_later(end_ts, self._active.ends[holder], seconds)
        ):
            return None
        self._enforce(target, end_ts, ts, max(earlier, 0) + 1)
        if self.breaker is not None:
            self.breaker.banned(finding, end_ts, target)
        note = ""
        if earlier > 0:
            note = (
                f"ban {earlier + 1} of this subject: {render_duration(seconds)} in place of {render_duration(base_s)}"
            )
        return Decision(
            id=self._id(target, end_ts),
            action="ban",
            subject=subject,
            start_ts=ts,
            end_ts=end_ts,
            rule=finding.rule,
            finding=finding.id,
            held="observing" if self.settings.observe else None,
            note=note,
            services=parts_of(target)[1],
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
            end_ts = self._active.ends.get(network, -math.inf)
            if _last(end_ts) > decision.start_ts and _last(end_ts) <= _last(decision.end_ts):
                self._active.remove(network)
                why = f"folded into {decision.subject}"
                self._lifts.append(self._lift(network, end_ts, decision.start_ts, why, "rule", decision.rule))

    def escalated_s(self, base_s: float | None, earlier: int) -> float | None:
        """The length of a ban after so many earlier ones."""
        if base_s is None or earlier <= 0:
            return base_s
        return max(base_s, min(base_s * self.settings.factor ** min(earlier, DOUBLINGS_MAX), self.settings.max_s))

    def until_ts(self, subject: str, now_ts: float, services: str = "") -> float | None:
        """Until when the subject is banned (infinity: for good), itself or by a wider prefix; None where it is not.
        With services: until when it cannot get at these.
        """
        holder = self._holder(subject, _target(subject, services), now_ts)
        if holder is None:
            return None
        end_ts = self._active.ends[holder]
        return math.inf if end_ts is None else end_ts

    def _holder(self, subject: str, target: str, now_ts: float) -> str | None:
        """What is in force that covers all of the target; of several, what ends last."""
        holder = self._active.holder(subject, now_ts)
        if target == subject or target not in self._active.ends:
            return holder
        end_ts, other_ts = (_last(self._active.ends[each]) if each else -math.inf for each in (target, holder))
        return target if end_ts > now_ts and end_ts >= other_ts else holder

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

    def _hold(self, finding: Finding, base_s: float | None, held: str, services: str) -> Decision | None:
        key = f"{finding.subject}~{finding.rule}"
        end_ts = None if base_s is None else finding.ts + base_s
        last = self._held.ends.get(key, -math.inf)
        if last is None or last > finding.ts:
            return None
        self._held.put(key, end_ts, finding.ts)
        return Decision(
            id=f"held~{finding.subject}~{finding.id}",
            action="ban",
            subject=finding.subject,
            start_ts=finding.ts,
            end_ts=end_ts,
            rule=finding.rule,
            finding=finding.id,
            held=held,
            services=parts_of(_target(finding.subject, services))[1],
        )

    def _earlier(self, known: tuple[int, float] | None, ts: float) -> int:
        """How many bans of the subject are remembered, the one in force included."""
        return known[0] if known is not None and ts <= known[1] + self.settings.memory_s else 0

    def _enforce(self, target: str, end_ts: float | None, ts: float, count: int) -> None:
        subject = parts_of(target)[0]
        others = [each for each in self._active.own(subject, ts) if each != target]
        self._history.put(subject, count, max(_last(end_ts), self._last_end_ts(others)))
        self._starts.pop(target, None)
        if end_ts is None:
            self._starts[target] = ts
        for gone, gone_end_ts in self._active.put(target, end_ts, ts):
            why = f"made room: {self.settings.max_active} bans are in force and this one ended first"
            self._lifts.append(self._lift(gone, gone_end_ts, ts, why, "rule", ""))

    def _last_end_ts(self, targets: Iterable[str]) -> float:
        return max((_last(self._active.ends[each]) for each in targets), default=-math.inf)

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
        target = _target(subject, services)
        end_ts = None if seconds is None else now_ts + seconds
        known = self._history.get(subject)
        earlier = self._earlier(known, now_ts) - bool(self._active.own(subject, now_ts))
        self._enforce(target, end_ts, now_ts, max(earlier, 0) + 1)
        return Decision(
            id=self._id(target, end_ts),
            action="ban",
            subject=subject,
            start_ts=now_ts,
            end_ts=end_ts,
            rule="",
            finding=None,
            origin="operator",
            held="observing" if self.settings.observe else None,
            note="forced: " + reason if reason is not None else "",
            services=parts_of(target)[1],
        )

    def lift(self, subject: str, now_ts: float, note: str = "") -> list[Decision]:
        """End every ban because of which `subject` cannot get through: its own, those of prefixes that hold it, and,
        where it is a prefix itself, those of everything in it. Empty where nothing was banned. The operator's doing.
        """
        self.expire(now_ts)
        asked = canonical(subject)
        active = self._active
        found = dict.fromkeys((*active.holders(asked), *active.holders(subject.strip()), *active.targets(asked)))
        version, low, high = bounds(asked)
        if low != high and (not asked.endswith("/64") or active.holds_narrower(64)):
            found.update(dict.fromkeys(self._within(version, low, high)))
        return [self._lift_active(text, now_ts, note or "unbanned", "operator", "") for text in found]

    # -- what comes from elsewhere ------------------------------------------------------------------------------------

    def past(self, subject: str) -> tuple[int, float] | None:
        """How many bans of a subject are remembered, and the last end (infinity: never); None: nothing is known."""
        return self._history.get(subject)

    def recollect(self, subject: str, times: int, last_end_ts: float) -> None:
        """Remember a subject's bans as somebody else knows them, in place of what was remembered."""
        self._history.put(subject, times, last_end_ts)

    def end_of(self, target: str) -> float | None:
        """When the target's own ban ends (infinity: never); None where it has none."""
        end_ts = self._active.ends.get(target, -math.inf)
        return None if end_ts == -math.inf else _last(end_ts)

    def lift_own(self, target: str, now_ts: float, note: str) -> Decision:
        """End the target's own ban, and no other. KeyError where it has none. The operator's doing."""
        return self._lift_active(target, now_ts, note, "operator", "")

    def _within(self, version: int, low: int, high: int) -> list[str]:
        inside = []
        for text in self._active:
            if (":" in text) == (version == 6):
                _, first, last = bounds(parts_of(text)[0])
                if low <= first and last <= high:
                    inside.append(text)
        return inside

    # -- what is in force --------------------------------------------------------------------------------------------

    def desired(self, now_ts: float) -> dict[str, float | None]:
        """What should be in the kernel now: target to end (None: for good). Nothing while observing."""
        if self.settings.observe:
            return {}
        return {subject: end_ts for subject, end_ts in self._active.ends.items() if end_ts is None or end_ts > now_ts}

    def some(self, at: int, count: int) -> list[str]:
        """At most so many of the targets in force, from a position on; fewer where that is the end. Between two calls
        they may move up.
        """
        return [] if self.settings.observe else list(islice(self._active, at, at + count))

    def expire(self, now_ts: float) -> list[str]:
        """Forget the bans that have ended, as the kernel does by itself; returns their targets."""
        self._held.expire(now_ts)
        return self._active.expire(now_ts)

    def spare(self, now_ts: float) -> list[Decision]:
        """Lift the bans of all who are on the allow list by now (its entries change while the guard runs)."""
        self.expire(now_ts)
        safe = [(target, self.allow.reason(parts_of(target)[0])) for target in self._active]
        return [
            self._lift_active(target, now_ts, f"allowed: {reason}", "rule", "") for target, reason in safe if reason
        ]

    def pardon(self, target: str, why: str, now_ts: float) -> Decision | None:
        """Lift a target's own ban, because it was wrong; None where it is in force no longer. The ban of a network to
        which it has led is lifted too (`take_lifts`).
        """
        self.expire(now_ts)
        subject = parts_of(target)[0]
        for holder in list(self._active.holders(subject)):
            if self._is_of_network(holder, subject):
                self._lifts.append(self._lift_active(holder, now_ts, f"{subject} in it: {why}", "rule", ""))
        return None if self.end_of(target) is None else self._lift_active(target, now_ts, why, "rule", "")

    def counts(self) -> dict[str, int]:
        """Figures for `status`."""
        return {
            "active": len(self._active),
            "evicted": self._active.evicted,
            "remembered": len(self._history),
            "forgotten": self._history.evicted,
        }

    def restate(self, now_ts: float) -> Iterator[Decision]:
        """The bans in force as decisions, for a ledger that has lost some; their rules and findings are lost to us. To
        be asked for in portions: what ends or is lifted between two of them is left out.
        """
        for target in () if self.settings.observe else list(self._active):
            end_ts = self._active.ends.get(target, -math.inf)
            if end_ts is None or end_ts > now_ts:
                yield self._taken_over(target, end_ts, now_ts)

    def remembers(self, target: str) -> bool:
        """Whether the target's subject was ever banned, as far as is remembered."""
        return self._history.get(parts_of(target)[0]) is not None

    def adopt(self, actual: Mapping[str, float | None], now_ts: float) -> list[Decision]:
        """Take over bans that the kernel holds and nobody remembers (the ledger was lost): target to seconds left,
        None for good. Who is safe is left out, so that reconciling ends those.
        """
        adopted = []
        for target, left_s in actual.items():
            if target in self._active.ends or self.allow.reason(parts_of(target)[0]) is not None:
                continue
            end_ts = None if left_s is None else now_ts + left_s
            self._enforce(target, end_ts, now_ts, 1)
            adopted.append(self._taken_over(target, end_ts, now_ts))
        return adopted

    def _taken_over(self, target: str, end_ts: float | None, now_ts: float) -> Decision:
        (subject, services), ban_id = parts_of(target), self._id(target, end_ts)
        return Decision(
            ban_id, "ban", subject, now_ts, end_ts, "", None, "import", note="taken over", services=services
        )

    # -- side effects ------------------------------------------------------------------------------------------------

    def take_lifts(self) -> list[Decision]:
        """Bans that ended early since the last call: to make room, or because a breaker has tripped."""
        lifts, self._lifts = self._lifts, []
        return lifts

    def take_notices(self) -> list[Notice]:
        """What people must be told: breakers that tripped, or were reset, since the last call."""
        return self.breaker.take_notices() if self.breaker is not None else []

    def _trip(self, finding: Finding) -> None:
        assert self.breaker is not None  # noqa: S101  the caller has looked
        for victim, end_ts in self.breaker.hit(finding).items():
            in_force = end_ts is None or end_ts > finding.ts
            if in_force and self._active.ends.get(victim, -math.inf) == end_ts:
                why = f"breaker: rule {finding.rule} had hit a visitor"
                self._lifts.append(self._lift_active(victim, finding.ts, why, "rule", finding.rule))

    def _lift_active(self, target: str, now_ts: float, note: str, origin: str, rule: str) -> Decision:
        end_ts = self._active.ends[target]
        self._active.remove(target)
        if self.prefixes is not None:
            self.prefixes.forget(parts_of(target)[0])
        return self._lift(target, end_ts, now_ts, note, origin, rule)

    def _lift(self, target: str, end_ts: float | None, now_ts: float, note: str, origin: str, rule: str) -> Decision:
        lifts = self._id(target, end_ts)
        self._starts.pop(target, None)
        subject, services = parts_of(target)
        known, left = self._history.get(subject), self._active.own(subject, now_ts)
        if known is not None and left:
            self._history.amend(subject, known[0], self._last_end_ts(left))
        elif known is not None:
            self._history.amend(subject, max(known[0] - 1, 0), now_ts)
        return Decision(
            id=f"lift~{lifts}~{now_ts!r}",
            action="lift",
            subject=subject,
            start_ts=now_ts,
            end_ts=None,
            rule=rule,
            finding=None,
            origin="operator" if origin == "operator" else "rule",
            lifts=lifts,
            note=note,
            services=services,
        )

    def _id(self, target: str, end_ts: float | None) -> str:
        """A ban's id follows from what it is, so that 200,000 of them need not be kept."""
        if end_ts is not None:
            return f"ban~{target}~{end_ts!r}"
        return f"ban~{target}~{self._starts.get(target, 0.0)!r}~for-good"

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """State that a restart takes up beside what the ledger holds (bans in force, history)."""
        breaker = self.breaker.dump() if self.breaker is not None else None
        prefixes = self.prefixes.dump() if self.prefixes is not None else None
        return msgspec.msgpack.encode(Saved(self._held.ends, breaker, self.crawlers.dump(), prefixes))

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.DecodeError where it is none."""
        saved = msgspec.msgpack.decode(state, type=Saved)
        for key, end_ts in saved.held.items():
            self._held.put(key, end_ts, -math.inf)
        if self.breaker is not None and saved.breaker is not None:
            self.breaker.load(saved.breaker)
        if self.prefixes is not None and saved.prefixes is not None:
            self.prefixes.load(saved.prefixes)
        if saved.crawlers is not None:
            self.crawlers.load(saved.crawlers)


def _target(subject: str, services: str) -> str:
    """What a ban is kept by: only hosts are closed to single services, whatever is wider to everything."""
    return target_of(subject, services if services and is_host(subject) else "")


def _last(end_ts: float | None) -> float:
    return math.inf if end_ts is None else end_ts


def _much_later(new_end_ts: float | None, end_ts: float | None, seconds: float | None) -> bool:
    """Whether a ban until `new_end_ts` (of so many seconds) is worth putting in place of one until `end_ts`."""
    if end_ts is None:
        return False
    if new_end_ts is None or seconds is None:
        return True
    return new_end_ts > end_ts + EXTEND_BY * seconds
