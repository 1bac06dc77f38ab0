"""What the control socket can ask of a running watcher: its state, bans and unbans, a breaker's reset, a reload."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

import msgspec

from tocsin import __version__
from tocsin.control import Reply, Request
from tocsin.decide.policy import RefusedError
from tocsin.decide.siege import REFUSED_TIMES, Siege, SiegeSettings, text_of
from tocsin.decide.subjects import canonical
from tocsin.detect.normal import LEARNT_AFTER_S, LEAST_VISITORS
from tocsin.duration import render_duration
from tocsin.enforce.addresses import own_addresses
from tocsin.enforce.admission import LISTED, Admission, Limits, Refused, parse_allow
from tocsin.importing import Arrival, Taken, refusal, take, take_back
from tocsin.ledger.writer import Recollection
from tocsin.model import MAX_BAN_S, Action, Decision, Op, parts_of, target_of

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.enforce.subjects import Network
    from tocsin.guard import Watcher
    from tocsin.sources.follow import Followed

RECEIPT_WITHIN_S = 2.0
RECEIPTS_AWAITED = 20
SUBJECTS_LOOKED_AT = 500


class Steering:
    """Answers requests (see `docs/json.md`). An answer to a ban or unban carries the kernel's receipt."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._moving: set[str] = set()  # decisions of the last portion of an import that the kernel has not answered
        self._admission: tuple[Config, Admission] | None = None
        self._commands = {
            "status": self._status,
            "ban": self._ban,
            "unban": self._unban,
            "stopped": self._stopped,
            "reset": self._reset,
            "reload": self._reload,
            "import": self._import,
            "import-undo": self._import_undo,
        }

    def answer(self, request: Request) -> Reply:
        """The reply to one request; `error` says what was wrong with it."""
        command = self._commands.get(str(request.get("cmd")))
        if command is None:
            return {"error": f"unknown command; expected one of {', '.join(self._commands)}", "kind": "usage"}
        try:
            return command(request)
        except RefusedError as error:
            return {"error": str(error), "kind": "refused"}
        except (ValueError, TypeError, msgspec.ValidationError) as error:
            return {"error": str(error), "kind": "usage"}

    def _ban(self, request: Request) -> Reply:
        seconds = request.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or not 1 <= seconds <= MAX_BAN_S):
            longest = f"{MAX_BAN_S} ({render_duration(MAX_BAN_S)})"
            raise ValueError(f"expected 1 to {longest} seconds, or null for good, got {seconds!r}")
        subject, now_ts, rule = canonical(str(request.get("subject"))), time.time(), str(request.get("rule") or "")
        self._refuse_the_hopeless(subject)
        decision = self.watcher.policy.ban(
            subject, seconds, now_ts, force=bool(request.get("force")), services=self._services(rule)
        )
        if rule:
            decision = msgspec.structs.replace(decision, rule=rule)
        self.watcher.carry_out(decision)
        receipts = self._receipts([decision])
        self.watcher.take_back()
        if self.watcher.policy.end_of(decision.target) is not None:
            self.watcher.pipeline.engine.mute(decision.target, decision.end_ts or float("inf"))
        return {"decision": msgspec.to_builtins(decision), "receipt": receipts[0] if receipts else None}

    def _refuse_the_hopeless(self, subject: str) -> None:
        """RefusedError for what the enforcer never takes, whoever insists. It judges itself; this is its judgement
        beforehand, so that no ban is said to be in force meanwhile.
        """
        config = self.watcher.config
        if self._admission is None or self._admission[0] is not config:
            listed = parse_allow([*config.allow.addresses, *config.proxies.trusted])
            self._admission = config, Admission(listed, Limits(), _own_addresses)
        admission = self._admission[1]
        admission.refresh()
        try:
            admission.admit(Op("ban", subject))
        except Refused as refusal:
            safe = self.watcher.policy.allow.reason(subject)
            if safe is None:
                raise RefusedError(f"{refusal}; --force does not change that") from refusal
            first = "; take it off the allow list first" if str(refusal).endswith(LISTED) else ""
            raise RefusedError(f"{subject} is safe ({safe}), --force does not change that{first}") from refusal

    def _unban(self, request: Request) -> Reply:
        """With `rule`, a jail's: where it closes single services, its own ban of the subject alone."""
        watcher, now_ts = self.watcher, time.time()
        lifts: list[Decision] = []
        for subject in self._to_unban(request, now_ts):
            own = target_of(subject, self._services(str(request.get("rule") or "")))
            if own != subject and watcher.policy.end_of(own) is not None:
                lifts.append(watcher.policy.lift_own(own, now_ts, "unbanned"))
            else:
                lifts += watcher.policy.lift(subject, now_ts)
        for lift in lifts:
            watcher.pipeline.let_in(lift)
            watcher.carry_out(lift)
        return {"lifted": list(dict.fromkeys(lift.subject for lift in lifts)), "receipts": self._receipts(lifts)}

    def _to_unban(self, request: Request, now_ts: float) -> list[str]:
        if request.get("all"):
            return list(dict.fromkeys(parts_of(target)[0] for target in self.watcher.policy.desired(now_ts)))
        return [str(request.get("subject"))]

    def _services(self, rule: str) -> str:
        """What a ban of a jail closes; empty: everything."""
        jailing = self.watcher.jailing
        return jailing.jailed.services_of(rule) if rule and jailing is not None else ""

    def _receipts(self, decisions: list[Decision]) -> list[dict[str, Any]]:
        """The kernel's answers, as far as they come, so that the operator hears what really happened."""
        receipts = self.watcher.enforcing.receipts
        wanted = [decision.id for decision in decisions if decision.held is None]
        if len(wanted) <= RECEIPTS_AWAITED:
            self._await(lambda: all(each in receipts for each in wanted))
        return [msgspec.to_builtins(receipts[each]) for each in wanted if each in receipts]

    def _stopped(self, request: Request) -> Reply:
        """What the bans of some subjects have stopped so far, as the kernel's counters say now: [packets, bytes]."""
        enforcing = self.watcher.enforcing
        subjects = [str(subject) for subject in request.get("subjects", ())][:SUBJECTS_LOOKED_AT]
        if enforcing.look(subjects):
            self._await(lambda: not enforcing.looking)
        return {"stopped": {subject: list(enforcing.stopped.get(subject, (0, 0))) for subject in subjects}}

    def _await(self, holds: Callable[[], bool]) -> None:
        """Serve the enforcer alone until something holds, a moment at most."""
        enforcing = self.watcher.enforcing
        until_s = time.monotonic() + RECEIPT_WITHIN_S
        while enforcing.enforcer is not None and not holds():
            left_s = until_s - time.monotonic()
            if left_s <= 0:
                return
            if select.select([enforcing.enforcer.fileno()], [], [], left_s)[0]:
                enforcing.receive()
            enforcing.flush()

    def _reset(self, request: Request) -> Reply:
        done = self.watcher.breaker.reset(str(request.get("rule")), time.time())
        for notice in self.watcher.policy.take_notices():
            self.watcher.announcer.say("breaker", notice.text, rule=notice.rule)
        return {"reset": done}

    def _import(self, request: Request) -> Reply:
        """Take over bans of another program: a portion of `Arrival`s. `left` holds the positions of those that were
        not taken, and why; with `dry` nothing is taken. `said` is announced, after the last portion. `waiting` is how
        many of the last portion's Ops the kernel has not answered: who sends the next one before, delays bans.
        """
        policy, now_ts, dry = self.watcher.policy, time.time(), bool(request.get("dry"))
        if (why := self._cannot_import()) is not None and not dry:
            return {"error": why, "kind": "unavailable"}
        if request.get("rows"):
            self._moving.clear()
        taken: list[Taken] = []
        left: list[tuple[int, str]] = []
        for number, arrival in enumerate(msgspec.convert(request.get("rows", []), list[Arrival])):
            services = self._services(arrival.rule)
            reason = refusal(policy, arrival, now_ts, services)
            if reason is not None:
                left.append((number, reason))
            elif not dry:
                taken.append(take(policy, self, arrival, now_ts, services))
        if request.get("said"):
            self.watcher.announcer.say("import", str(request["said"]))
        return {"taken": msgspec.to_builtins(taken), "left": left, **self._answered()}

    def _import_undo(self, request: Request) -> Reply:
        """Take back a portion of what `import` has taken, in the order given (the last taken first)."""
        if (why := self._cannot_import()) is not None:
            return {"error": why, "kind": "unavailable"}
        now_ts = time.time()
        rows = msgspec.convert(request.get("rows", []), list[Taken])
        self._moving.clear()
        lifted = sum(take_back(self.watcher.policy, self, row, now_ts) for row in rows)
        if request.get("said"):
            self.watcher.announcer.say("import", str(request["said"]))
        return {"lifted": lifted, **self._answered()}

    def _answered(self) -> Reply:
        """How many of the last portion's Ops wait, and what the firewall has refused since this was asked last."""
        receipts = self.watcher.enforcing.receipts
        if self.watcher.enforcing.enforcer is None:
            self._moving.clear()
        answered = [receipts[each] for each in self._moving if each in receipts]
        self._moving -= {receipt.decision for receipt in answered}
        return {
            "waiting": len(self._moving),
            "refused": [f"{receipt.subject}: {receipt.error}" for receipt in answered if not receipt.ok],
        }

    def _cannot_import(self) -> str | None:
        if self.watcher.policy.remembering:
            return "the guard has just started and is still reading its ledger; try again in a moment"
        if self.watcher.policy.settings.observe:
            return "the guard only observes, so no ban would be in force; start it without --observe, then try again"
        return None

    def carry_out(self, decision: Decision) -> None:
        """Bring an imported ban, or the end of one, into force: thousands come at once, so each is not announced."""
        engine = self.watcher.pipeline.engine
        if decision.action == "lift":
            engine.unmute(decision.target)
        else:
            engine.mute(decision.target, decision.end_ts or float("inf"))
        self._moving.add(decision.id)
        self.watcher.enforcing.apply(decision)
        self.watcher.ledger.decision(decision)
        if self.watcher.jailing is not None:
            self.watcher.jailing.note(decision)

    def recollect(self, row: Recollection) -> None:
        """Keep how often a subject was banned elsewhere."""
        self.watcher.ledger.recollect(row)

    def _reload(self, _request: Request) -> Reply:
        errors = self.watcher.reload()
        return {"ok": not errors, "errors": errors}

    def _status(self, _request: Request) -> Reply:
        watcher = self.watcher
        engine, enforcing = watcher.pipeline.engine, watcher.enforcing
        observing = "asked to" if watcher.observe else enforcing.error if enforcing.enforcer is None else None
        status = {
            "version": __version__,
            "pid": os.getpid(),
            "since_ts": watcher.began_ts,
            "now_ts": time.time(),
            "observe": observing is not None,
            "why_observing": observing,
            "enforcer": {"ok": not enforcing.error, "error": enforcing.error},
            "sources": [self._source(followed) for followed in watcher.watching.tail.files()],
            "counts": msgspec.to_builtins(engine.counts),
            "tracked": engine.pool.tracked,
            "evicted": engine.pool.evicted,
            "bans": watcher.policy.counts(),
            "rules": {"enabled": len(watcher.rules)},
            "breakers": [{"rule": rule, "text": each.text} for rule, each in watcher.breaker.tripped().items()],
            "ledger": {"trouble": watcher.ledger.trouble()},
            "unparsed_samples": [
                {"source": source, "line": line, "text": text, "reason": reason}
                for source, rows in engine.samples.items()
                for line, text, reason in rows
            ],
            "notices": [msgspec.to_builtins(notice) for notice in watcher.watching.notices],
            "ban_latency_ms": enforcing.latency_ms(),
            "web": enforcing.denials.status(),
            "contrast": self._contrast(),
            "sieges": self._sieges(),
        }
        if watcher.jailing is not None:
            sources = [followed.source for followed in watcher.watching.tail.files()]
            status["jails"] = watcher.jailing.status(engine, sources, time.time())
            status["actions"] = watcher.jailing.acting.status() if watcher.jailing.acting else None
        return {"status": status}

    def _contrast(self) -> dict[str, Any]:
        """What is known of normal traffic, and the share of addresses that is looked at."""
        crowd = self.watcher.crowd
        normal = crowd.normal
        return {
            "enabled": crowd.settings.enabled,
            "learnt": normal.learnt,
            "learnt_s": normal.seconds,
            "visitors": len(normal.visitors),
            "needs_s": LEARNT_AFTER_S,
            "needs_visitors": LEAST_VISITORS,
            "share": 1 / (crowd.mask + 1),
            "suffering": self.watcher.pipeline.engine.now_ts < crowd.sieges.suffering_until_ts,
        }

    def _sieges(self) -> list[dict[str, Any]]:
        """The sieges that last, and those that were left lately."""
        watcher = self.watcher
        crowd, cannot, observe = watcher.crowd, watcher.pipeline.cannot, watcher.policy.settings.observe
        return [
            {
                "class": text_of(siege.description),
                "signature": msgspec.to_builtins(siege.signature),
                "since_ts": siege.began_ts,
                "left_ts": siege.left_ts,
                "requests_a_minute": siege.arrivals,
                "normal_a_minute": siege.normal,
                "times": siege.times,
                "agents": siege.agents,
                **_in_web_server(siege, cannot, observe=observe),
                "spared": len(siege.spared),
                "done": what_is_done(siege, crowd.settings, cannot, observe=observe),
                "note": siege.note,
                "finding": siege.finding.id,
            }
            for siege in crowd.sieges.all
        ]

    def _source(self, followed: Followed) -> dict[str, Any]:
        reading = self.watcher.watching.readings.known.get(followed.source)
        return {
            "source": followed.source,
            "format": reading.format.name if reading and reading.format else None,
            "share": reading.share if reading else None,
            "how": reading.how if reading else None,
            "size_bytes": followed.size_bytes,
            "offset": followed.offset,
            "readable": not followed.trouble,
            "why": followed.trouble or followed.polled or None,
        }


def _own_addresses() -> list[Network]:
    try:
        return own_addresses()
    except OSError:  # not told here; the enforcer is, and its refusal is heard
        return []


def _in_web_server(siege: Siege, cannot: Mapping[Action, str], *, observe: bool) -> dict[str, float | None]:
    """Until when the web server turns a class away, or asks its senders."""
    action: Action = "deny-request" if siege.turned_away else "limit"
    until_ts = siege.denied_until_ts if siege.denied and not (observe or action in cannot) else None
    return {
        "turned_away_until_ts": until_ts if siege.turned_away else None,
        "asked_until_ts": until_ts if siege.opens or not siege.turned_away else None,
    }


def what_is_done(siege: Siege, settings: SiegeSettings, cannot: Mapping[Action, str], *, observe: bool) -> str:
    """In words; `cannot` is why the web server does not do this or that."""
    several = " by several agents" if siege.agents else ""
    whom = "its senders" if siege.times == 1 else f"who sends {siege.times} of them{several}"
    if siege.opens or not siege.times:
        whom = f"who is refused {REFUSED_TIMES} times"
    would = "would be " if observe else ""
    banned = f"{whom} {would}banned for {render_duration(settings.ban_s)}"
    if siege.told is None:
        return banned
    action: Action = "deny-request" if siege.turned_away else "limit"
    done = "turned away in the web server" if siege.turned_away else "asked to show a cookie"
    done += " but for browsers that show a cookie" if siege.opens else ""
    if action in cannot:
        return f"{banned}; not {done}: {cannot[action]}"
    return f"{'' if siege.turned_away else 'browsers '}{would}{done}, {banned}"
