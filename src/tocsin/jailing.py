"""What a running guard keeps of fail2ban's jails beside their rules: whom each bans, whom it leaves alone, and what its
other actions hear of it.

`tocsin fail2ban status` shows it in fail2ban's words; the firewall does not depend on it. A jail none of whose actions
blocks anybody bans nobody here either: its bans are held back, and kept here alone, for its actions.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from heapq import heapify, heappop, heappush
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import structs

from tocsin.acting import Acting
from tocsin.fail2ban.actions.client import wants_runner
from tocsin.fail2ban.actions.protocol import Resolved
from tocsin.fail2ban.actions.tickets import Ticket
from tocsin.fail2ban.rules import Jailed, remarks_text
from tocsin.jailed_bans import BEFORE, Ban, Saved, address_of, plain_ban, saved_of
from tocsin.model import Decision, Finding, is_host
from tocsin.rules import SET_ASIDE
from tocsin.sparing import Earlier, Late, Sparing

if TYPE_CHECKING:
    import socket

    from tocsin.detect.engine import Engine
    from tocsin.fail2ban.model import Failure, Jail
    from tocsin.pipeline import Pipeline
    from tocsin.rules import CompiledRule

CROWDED = 1000  # messages that the runner's socket has not taken: bans come first, ends wait


class Jailing:
    """The jails at work. `in_force` are rows (rule, subject, end) of the bans that a restart takes up, `saved` what an
    earlier guard's `dump` gave. `runner` is the socket to the runner, None: no action is run, `why_not` says why.
    `earlier` is (rule, subject, event time) -> how many bans count before one then, `weighs` whether failures of
    known offenders count for more. `root` is where the machine's own addresses are read.
    """

    def __init__(
        self,
        jailed: Jailed,
        in_force: Iterable[tuple[str, str, float | None]],
        saved: bytes = b"",
        *,
        say: Callable[..., None] = lambda *_said, **_fields: None,
        runner: socket.socket | None = None,
        observe: bool = False,
        why_not: str = "",
        earlier: Earlier = lambda _rule, _subject, _ts: 0,
        weighs: Callable[[], bool] = lambda: False,
        root: Path = Path("/"),
    ) -> None:
        self._root = root
        self._why_not = why_not
        self._say = say
        self._observe = observe
        self._earlier = earlier
        self._weighs = weighs
        self._selector: selectors.BaseSelector | None = None
        self.acting = None if runner is None else Acting(runner, say, self)
        self._to_restore: set[str] = set()
        before = saved_of(saved)
        self._late = before.waiting
        self._use(jailed)
        self._banned: dict[str, dict[str, Ban]] = {rule.rule.id: {} for rule in jailed.rules}
        for rule, subject, end_ts in in_force:
            if rule in self._banned:
                self._banned[rule][subject] = ban = plain_ban(subject, end_ts)
                ban.services = self._services[rule] if is_host(subject) else ""
        for rule, bans in before.bans.items():
            mine = self._banned.get(rule, {})
            kept = {subject: ban for subject, ban in bans.items() if ban.held or subject in mine}
            mine.update((subject, structs.replace(ban, told=BEFORE)) for subject, ban in kept.items())
        self._totals = dict.fromkeys(self._banned, 0)
        self._ends = [
            (ban.end_ts, rule, subject)
            for rule, bans in self._banned.items()
            for subject, ban in bans.items()
            if ban.end_ts is not None
        ]
        heapify(self._ends)

    def _use(self, jailed: Jailed) -> None:
        self.jailed = jailed
        self._set_aside: set[tuple[str, str]] = set()
        self._jails: dict[str, Jail] = {
            rule.rule.id: jail for jail, rule in zip(jailed.jails, jailed.rules, strict=True)
        }
        self._rule_of = {jail.name: rule for rule, jail in self._jails.items()}
        self._held_rules = {rule.rule.id: rule.held for rule in jailed.rules if rule.held}
        self._services = {rule.rule.id: rule.services for rule in jailed.rules}
        earlier = self._earlier if self._weighs() else None
        self.sparing = Sparing(jailed, self._ask, root=self._root, earlier=earlier)
        if self.acting is not None:
            self.acting.begin(jailed.jails)
        elif wants_runner(jailed.jails):
            text = "actions and ignorecommand are not run, and names in ignoreip not looked up"
            self._say("actions", f"{text}: {self._why_not}")

        self._refresh(time.monotonic())

    def _refresh(self, now_s: float) -> None:
        for trouble in self.sparing.refresh(self.acting.actions if self.acting else None, now_s):
            self._say("ignoreip", trouble)

    def _ask(self, jail: str, ticket: Ticket) -> int | None:
        return None if self.acting is None else self.acting.actions.ask(jail, ticket)

    @property
    def rules(self) -> tuple[CompiledRule, ...]:
        """The jails' rules, judged by what this machine knows."""
        return self.sparing.rules

    def take_up(self, jailed: Jailed) -> None:
        """Go on with other jails after a reload; those that stay keep their bans. `begin` is to be called again."""
        self._late = self.sparing.waiting()
        self._use(jailed)
        names = [rule.rule.id for rule in jailed.rules]
        self._banned = {name: self._banned.get(name, {}) for name in names}
        self._totals = {name: self._totals.get(name, 0) for name in names}
        for text in remarks_text(jailed.errors):
            self._say("fail2ban", text)

    def lost_by(self, jailed: Jailed | None) -> list[str]:
        """The mistakes for which another configuration should not be used, since a jail at work would be left out."""
        if jailed is None or {jail.name for jail in self.jailed.jails} <= {jail.name for jail in jailed.jails}:
            return []
        return remarks_text(jailed.errors)

    # -- bans --------------------------------------------------------------------------------------------------------

    def note(self, decision: Decision, finding: Finding | None = None) -> None:
        """A decision of anybody's: a jail's ban, or the end of one."""
        if decision.action == "lift":
            self._lift(decision)
            return
        rule = decision.rule if decision.rule in self._banned else self._rule_of.get(decision.rule, "")
        if not rule or (decision.rule != rule and decision.origin == "rule"):
            return
        if decision.held is None or (not self._observe and decision.held == self._held_rules.get(rule)):
            self._ban(rule, decision, finding)

    def _lift(self, decision: Decision) -> None:
        """Have the bans end at the next tick: there may be thousands, and the runner takes them by and by."""
        now_ts = time.time()
        for rule, banned in self._banned.items():
            ban = banned.get(decision.subject)
            if ban is not None and ban.services == decision.services:
                ban.end_ts = now_ts
                heappush(self._ends, (now_ts, rule, decision.subject))

    def _ban(self, rule: str, decision: Decision, finding: Finding | None) -> None:
        """Keep it, and tell the jail's actions."""
        subject, end_ts, now_ts = decision.subject, decision.end_ts, time.time()
        if end_ts is not None and end_ts <= now_ts:
            return  # read late, after a stop: its time is over
        before = self._banned[rule].get(subject)
        if before is not None and before.end_ts is not None and before.end_ts <= now_ts:
            self._end(rule, subject)
            before = None
        failure = self.sparing.crossing.get(rule) if finding is not None else None
        ban = plain_ban(subject, end_ts)
        if failure is not None and failure.source_ip is not None:
            ban.ip = failure.source_ip
            ban.fid = failure.source_ip if failure.key == failure.source_ip else failure.key
        ban.held, ban.services = decision.held is not None, decision.services
        ban.told = 0
        self._banned[rule][subject] = ban
        self._totals[rule] += 1
        if end_ts is not None:
            heappush(self._ends, (end_ts, rule, subject))
        name = self._jails[rule].name
        if self.acting is None or not self.acting.acts(name):
            return
        if decision.origin == "import":  # thousands at once, which somebody else's actions knew of
            self._to_restore.add(name)
            return
        prolongs = before is not None and before.told != 0
        ban.told = self.acting.runner
        self.acting.run(name, "prolong" if prolongs else "ban", self._ticket(rule, decision, finding, failure, ban))

    def _ticket(
        self, rule: str, decision: Decision, finding: Finding | None, failure: Failure | None, ban: Ban
    ) -> Ticket:
        jail = self._jails[rule]
        lines = tuple(line.text for line in finding.evidence) if finding is not None else ()
        if jail.maxmatches is not None:
            lines = lines[max(0, len(lines) - jail.maxmatches) :]
        failures = finding.count if finding is not None else 0
        return Ticket(
            fid=ban.fid,
            ip=ban.ip,
            ts=decision.start_ts,
            failures=failures,
            bantime_s=None if decision.end_ts is None else decision.end_ts - decision.start_ts,
            bancount=self._earlier(rule, decision.subject, decision.start_ts) + 1,
            matches=lines,
            fields=failure.fields if failure is not None else {},
            ip_failures=failures,
            ip_jail_failures=failures,
            jail_banned=len(self._banned[rule]),
            jail_banned_total=self._totals[rule],
        )

    def _end(self, rule: str, subject: str) -> None:
        """A jail's ban is over, or lifted."""
        ban = self._banned[rule].pop(subject, None)
        name = self._jails[rule].name
        if ban is None or self.acting is None or not self.acting.acts(name):
            return
        if ban.told == 0:
            return  # an import of which nobody was told yet
        ticket = Ticket(fid=ban.fid, ip=ban.ip, ts=time.time(), restored=ban.told != self.acting.runner)
        self.acting.run(name, "unban", ticket)

    def tickets(self, jail: str, *, every: bool) -> Iterator[Ticket]:
        """See `acting.Bans`."""
        rule = self._rule_of.get(jail, "")
        for subject in list(self._banned.get(rule, ())):
            ban, now_ts = self._banned.get(rule, {}).get(subject), time.time()
            if ban is None or self.acting is None or (ban.end_ts is not None and ban.end_ts <= now_ts):
                continue
            if ban.told == 0 or (every and ban.told != self.acting.runner):
                ban.told = self.acting.runner
                left_s = None if ban.end_ts is None else ban.end_ts - now_ts
                times = self._earlier(rule, subject, now_ts) + 1
                yield Ticket(fid=ban.fid, ip=ban.ip, ts=now_ts, bantime_s=left_s, bancount=times, restored=True)

    def forget(self, jail: str) -> None:
        """See `acting.Bans`."""
        for ban in self._banned.get(self._rule_of.get(jail, ""), {}).values():
            ban.told = 0

    # -- the loop ----------------------------------------------------------------------------------------------------

    def begin(self, pipeline: Pipeline) -> None:
        """Counting goes on in `pipeline`: what waited before is judged anew."""
        self._pipeline = pipeline
        late, self._late = self._late, []
        self._count(self.sparing.again(late))

    def wait_on(self, selector: selectors.BaseSelector) -> None:
        """Have `selector` wake for the runner."""
        self._selector = selector
        if self.acting is not None:
            selector.register(self.acting.actions.fileno(), selectors.EVENT_READ, self._on_runner)

    def want_writes(self) -> None:
        """Have the selector wake as well when the runner's socket takes more, while something waits for that."""
        if self.acting is None or self._selector is None:
            return
        actions = self.acting.actions
        if actions.gone:
            self._selector.unregister(actions.fileno())
            self._selector = None
            return
        events = selectors.EVENT_READ | (selectors.EVENT_WRITE if actions.queued else 0)
        if self._selector.get_key(actions.fileno()).events != events:
            self._selector.modify(actions.fileno(), events, self._on_runner)

    def _on_runner(self) -> None:
        if self.acting is None:
            return
        self.acting.actions.flush()
        for message in self.acting.receive():
            if isinstance(message, Resolved):
                trouble = self.sparing.sources.resolved(message.name, message.addresses)
                if trouble:
                    self._say("ignoreip", trouble)
            else:
                self._count(self.sparing.answered(message, time.monotonic()))

    def tick(self, now_s: float, now_ts: float) -> None:
        """Do what is due: bans that end, failures that have waited too long, names and files to look at again."""
        while self._ends and self._ends[0][0] <= now_ts and not self._is_crowded():
            end_ts, rule, subject = heappop(self._ends)
            ban = self._banned.get(rule, {}).get(subject)
            if ban is not None and ban.end_ts == end_ts:
                self._end(rule, subject)
        if now_s >= self.sparing.due_s():
            self._count(self.sparing.expire(now_s))
            self._refresh(now_s)
        if self.acting is not None:
            for name in self._to_restore:
                self.acting.restore(name)
            self._to_restore.clear()

    def _is_crowded(self) -> bool:
        return self.acting is not None and self.acting.actions.queued >= CROWDED

    def due_s(self, now_s: float, now_ts: float) -> float:
        """When `tick` has something to do, on the monotonic clock."""
        ends = self._ends and not self._is_crowded()  # else the runner's socket wakes us
        ends_s = now_s + max(0.0, self._ends[0][0] - now_ts) if ends else float("inf")
        return min(ends_s, self.sparing.due_s())

    def _count(self, lates: Iterable[Late]) -> None:
        for late in lates:
            self._pipeline.count(late.rule, late.failure, late.ts, late.place)

    def dump(self) -> bytes:
        """What is to be saved with the engine's state."""
        bans = {
            rule: {
                subject: ban
                for subject, ban in mine.items()
                if ban.held or (ban.ip, ban.fid) != (address_of(subject), subject)
            }
            for rule, mine in self._banned.items()
        }
        return msgspec.msgpack.encode(Saved([*self._late, *self.sparing.waiting()], bans))

    def leave(self) -> None:
        """There are no jails any more; after another reload there may be."""
        self.take_up(Jailed())

    def stop(self) -> None:
        """Have the actions stopped; `wait_stopped` waits for that."""
        if self.acting is not None:
            self.acting.stop()

    def wait_stopped(self, within_s: float) -> None:
        """Until the actions have stopped, or the time is over."""
        if self.acting is not None:
            self.acting.wait_stopped(within_s)

    # -- for people --------------------------------------------------------------------------------------------------

    def status(self, engine: Engine, sources: Sequence[str], now_ts: float) -> list[dict[str, Any]]:
        """One row a jail (see `docs/json.md`). `sources` are the files that are followed."""
        trackers = {tracker.id: tracker for tracker in engine.trackers}
        rows = []
        for jail, rule in zip(self.jailed.jails, self.jailed.rules, strict=True):
            banned = self._in_force(rule, now_ts)
            tracker = trackers.get(rule.rule.id)
            row: dict[str, Any] = {
                "name": jail.name,
                "filter_files": [source for source in sources if rule.covers(source)],
                "failed_now": len(tracker.window.young) + len(tracker.window.old) if tracker else 0,
                "failed_total": tracker.counted if tracker else 0,
                "banned_now": len(banned),
                "banned_total": max(self._totals[rule.rule.id], len(banned)),
                "banned": banned,
                "logpath": list(jail.logpath),
                "bantime_s": jail.bantime_s,
            }
            if jail.filter.logtype == "journal":
                row["journalmatch"] = list(jail.filter.journalmatch)
            rows.append(row)
        return rows

    def say_set_aside(self) -> None:
        """Name loudly each regex of a jail that has cost so much time that it is not used any more."""
        for jail, rule in zip(self.jailed.jails, self.jailed.rules, strict=True):
            for regex in rule.filter.set_aside if rule.filter else ():
                if (jail.name, regex) not in self._set_aside:
                    self._set_aside.add((jail.name, regex))
                    self._say("regex", f"jail {jail.name}: {SET_ASIDE}: {regex}", rule=jail.name)

    def _in_force(self, rule: CompiledRule, now_ts: float) -> list[str]:
        bans = self._banned[rule.rule.id].items()
        return [subject for subject, ban in bans if ban.end_ts is None or ban.end_ts > now_ts]
