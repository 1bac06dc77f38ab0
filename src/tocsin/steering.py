"""What the control socket can ask of a running watcher: its state, bans and unbans, a breaker's reset, a reload."""

from __future__ import annotations

import os
import select
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import msgspec

from tocsin import __version__
from tocsin.control import Reply, Request
from tocsin.decide.policy import RefusedError
from tocsin.model import Decision

if TYPE_CHECKING:
    from tocsin.guard import Watcher
    from tocsin.sources.follow import Followed

RECEIPT_WITHIN_S = 2.0
RECEIPTS_AWAITED = 20
SUBJECTS_LOOKED_AT = 500


class Steering:
    """Answers requests (see `docs/json.md`). An answer to a ban or unban carries the kernel's receipt."""

    def __init__(self, watcher: Watcher) -> None:
        self.watcher = watcher
        self._commands = {
            "status": self._status,
            "ban": self._ban,
            "unban": self._unban,
            "stopped": self._stopped,
            "reset": self._reset,
            "reload": self._reload,
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
        except (ValueError, TypeError) as error:
            return {"error": str(error), "kind": "usage"}

    def _ban(self, request: Request) -> Reply:
        seconds = request.get("seconds")
        if seconds is not None and (not isinstance(seconds, int | float) or not seconds >= 1):
            raise ValueError(f"expected at least one second, or null for good, got {seconds!r}")
        subject, now_ts = str(request.get("subject")), time.time()
        decision = self.watcher.policy.ban(subject, seconds, now_ts, force=bool(request.get("force")))
        self.watcher.carry_out(decision)
        self.watcher.pipeline.engine.mute(decision.subject, decision.end_ts or float("inf"))
        receipts = self._receipts([decision])
        return {"decision": msgspec.to_builtins(decision), "receipt": receipts[0] if receipts else None}

    def _unban(self, request: Request) -> Reply:
        watcher, now_ts = self.watcher, time.time()
        subjects = list(watcher.policy.desired(now_ts)) if request.get("all") else [str(request.get("subject"))]
        lifts = [lift for subject in subjects for lift in watcher.policy.lift(subject, now_ts)]
        for lift in lifts:
            watcher.pipeline.engine.unmute(lift.subject)
            watcher.carry_out(lift)
        return {"lifted": [lift.subject for lift in lifts], "receipts": self._receipts(lifts)}

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
            "sources": [self._source(followed) for followed in watcher.tail.files()],
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
            "notices": [msgspec.to_builtins(notice) for notice in watcher.notices],
            "ban_latency_ms": enforcing.latency_ms(),
        }
        return {"status": status}

    def _source(self, followed: Followed) -> dict[str, Any]:
        reading = self.watcher.readings.known.get(followed.source)
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
