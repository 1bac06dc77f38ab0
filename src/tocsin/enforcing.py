"""The watcher's side of enforcement: sends Ops, hears Receipts, and keeps the kernel as the policy wants it.

Each decision becomes its Op at once. Besides, what the kernel really holds is read at the start, whenever somebody
else changed the ruleset, when a ban is to give way to another, and once in ten minutes; `reconcile` says what is
missing, and that is sent. Counters are asked for a few hundred at a time: a ban waits milliseconds for a full reading.
"""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import chain, islice
from pathlib import Path

from tocsin.decide.policy import Policy
from tocsin.decide.reconcile import next_change_ts, reconciling
from tocsin.enforce.client import Enforcer, InForce
from tocsin.enforce.denials import Denials
from tocsin.enforce.failing import Failing
from tocsin.enforce.outgoing import Outgoing
from tocsin.enforce.protocol import Actual, Changed, Denied, Receipts
from tocsin.enforce.webfiles import marker_path
from tocsin.ledger.store import Ledger
from tocsin.model import MAX_BAN_S, Decision, Op, Receipt

READ_EVERY_S = 600.0
LOOK_EVERY_S = 30.0
LOOK_SUBJECTS = 500  # 20 microseconds each, and bans go between
RETRY_S = 1.0
LATENCIES_KEPT = 2000
RECEIPTS_KEPT = 2000
HEAR_EVERY_OPS = 250
RESTATED_A_STEP = 200  # decisions, of 2 microseconds each
RESTATE_EVERY_S = 0.02
FAILURES_SAID = 20  # of one reading; the rest is counted

READING = "reading"

Say = Callable[..., None]


class Enforcing:
    """Between policy, enforcer and ledger. `ready` once the kernel holds what it should for the first time."""

    def __init__(
        self,
        enforcer: Enforcer | None,
        policy: Policy,
        ledger: Ledger,
        say: Say,
        marker: Path | None = None,
        *,
        proxied: bool = False,
    ) -> None:
        """`marker` is where it stands which web server may be told what to deny, `proxied` whether clients come through
        proxies: see `enforce.webfiles`.
        """
        self.enforcer = enforcer
        self.policy = policy
        self.ledger = ledger
        self.say = say
        self.denials = Denials(enforcer, marker or marker_path(""), say, ledger.receipts, proxied=proxied)
        self.ready = enforcer is None
        self.error = "" if enforcer else "no firewall: only observing"
        self.latencies_s: deque[float] = deque(maxlen=LATENCIES_KEPT)
        self.receipts: dict[str, Receipt] = {}
        self.stopped: dict[str, tuple[int, int]] = {}
        self._arrival_ts: dict[str, float] = {}
        self._refused: list[Receipt] = []
        self._failing = Failing()
        self._outgoing = None if enforcer is None else Outgoing(enforcer)
        self._reading: InForce | None = None
        self._read_id: int | None = None
        self._read_again = False
        self._adopted = False
        self._read_due_s = 0.0
        self._looks: dict[int, InForce] = {}
        self._look_at = 0  # the position in the policy of whom to look at next
        self._look_due_s = time.monotonic() + LOOK_EVERY_S
        self._planned = False
        self._unheard = 0
        self._restating: Iterator[Decision] | None = None
        self._restate_due_s = 0.0

    # -- out ---------------------------------------------------------------------------------------------------------

    def apply(self, decision: Decision, arrival_ts: float | None = None) -> None:
        """Bring a decision into the kernel, if it belongs there, or into the web server."""
        if decision.signature is not None:
            self.denials.apply(decision)
            return
        if self._outgoing is None or decision.held is not None:
            return
        if decision.action == "lift":
            self._send(Op("unban", decision.target, None, decision.id))
            return
        end_ts, seconds = decision.end_ts, None
        if end_ts is not None:
            left_s = end_ts - time.time()
            if left_s <= 0:
                return  # read late, after a stop: its time is over
            seconds = max(1, math.ceil(left_s)) if left_s <= MAX_BAN_S else None
        self._send(Op("ban", decision.target, seconds, decision.id))
        if arrival_ts is not None and len(self._arrival_ts) < LATENCIES_KEPT:
            self._arrival_ts[decision.id] = arrival_ts

    def _send(self, op: Op) -> None:
        if self._outgoing is not None and not self._outgoing.decided(op):
            self._arrival_ts.clear()  # what was dropped, the next reading finds missing
            self._read_due_s = min(self._read_due_s, time.monotonic() + RETRY_S)
        self._unheard += 1
        if self._unheard >= HEAR_EVERY_OPS:  # a flood in one batch: who only talks is not answered
            self._unheard = 0
            self.receive()

    def flush(self) -> None:
        """Offer again what the enforcer's queue could not take."""
        if self._outgoing is not None:
            self._outgoing.advance()

    @property
    def wants_write(self) -> bool:
        """Whether to wait until the socket takes more."""
        return self.enforcer is not None and self.enforcer.queued_bytes > 0

    # -- in ----------------------------------------------------------------------------------------------------------

    def receive(self) -> None:
        """Take in what the enforcer says. EOFError when it has gone."""
        if self.enforcer is None:
            return
        for message in self.enforcer.receive():
            if isinstance(message, Receipts):
                self._on_receipts(message)
            elif isinstance(message, Actual):
                self._on_part(message)
            elif isinstance(message, Denied):
                self.denials.answered(message)
            elif isinstance(message, Changed):
                self.say(
                    "changed",
                    f"the firewall was changed by somebody else ({message.reason}): restoring what is missing",
                )
                self.read_now()

    def _on_receipts(self, message: Receipts) -> None:
        self.ledger.receipts(message.receipts)
        failed = [receipt for receipt in message.receipts if not (receipt.ok or _is_refused_ban(receipt))]
        self._refused += filter(_is_refused_ban, message.receipts)
        for receipt in message.receipts:
            arrival_ts = self._arrival_ts.pop(receipt.decision, None)
            if arrival_ts is not None and receipt.ok:
                self.latencies_s.append(receipt.ts - arrival_ts)
        self.receipts.update((receipt.decision, receipt) for receipt in message.receipts if receipt.decision)
        while len(self.receipts) > RECEIPTS_KEPT:
            del self.receipts[next(iter(self.receipts))]
        self._note_failures(message.receipts, failed)
        self.error = failed[0].error if failed else ""
        if self._outgoing is not None and not message.revised:
            self._outgoing.answered(len(message.receipts))
            self.ready = self.ready or (self._planned and self._outgoing.settled)

    def _note_failures(self, receipts: Sequence[Receipt], failed: Sequence[Receipt]) -> None:
        """Say what is new of them, and have them tried again."""
        if self._failing:
            for receipt in receipts:
                if receipt.ok:
                    self._failing.succeeded(f"{receipt.verb} {receipt.subject}")
        new, now_s = [], time.monotonic()
        for receipt in failed:
            say, wait_s = self._failing.failed(f"{receipt.verb} {receipt.subject}", now_s)
            new += [receipt] if say else []
            self._read_due_s = min(self._read_due_s, now_s + wait_s)
        for receipt in new[:FAILURES_SAID]:
            self.say("failed", f"{receipt.verb} {receipt.subject} failed: {receipt.error}", subject=receipt.subject)
        if len(new) > FAILURES_SAID:
            self.say("failed", f"{len(new) - FAILURES_SAID} more changes failed")

    def take_refused(self) -> list[Receipt]:
        """The bans that the enforcer has refused since the last call: trying again does not help."""
        refused, self._refused = self._refused, []
        return refused

    def _on_part(self, message: Actual) -> None:
        """A piece of an answer to a reading or to a look."""
        if message.id in self._looks:
            if self._looks[message.id].add(message):
                self._note_counters(self._looks.pop(message.id))
        elif self._reading is not None and message.id == self._read_id and self._reading.add(message):
            self._on_actual(self._reading)

    def _note_counters(self, actual: InForce) -> None:
        self.stopped = actual.stopped
        self.ledger.counters([(subject, *stopped) for subject, stopped in actual.stopped.items()])

    def _on_actual(self, actual: InForce) -> None:
        self._reading = None
        now_ts = time.time()
        if self.policy.remembering and actual.end_ts.keys() - self.policy.desired(now_ts).keys():
            self._read_due_s = time.monotonic()  # whether to adopt or to end those, only the history can tell
            return
        pause_s = READ_EVERY_S
        if actual.error:
            self.error = actual.error
            say, pause_s = self._failing.failed(READING, time.monotonic())
            if say:
                self.say("failed", f"the firewall cannot be read: {actual.error}")
        else:
            self._failing.succeeded(READING)
            self.error = ""
            if not self._adopted:
                self._adopted = True
                self._adopt(actual.remaining(now_ts), now_ts)
            self._reconcile(actual, now_ts)
            self._note_counters(actual)
        self._read_due_s = time.monotonic() + min(pause_s, self._pause_s(now_ts))
        if self._read_again:
            self._read_again = False
            self.read_now()

    def _reconcile(self, actual: InForce, now_ts: float) -> None:
        if self._outgoing is None:
            return
        desired = self.policy.desired(now_ts)
        ops = reconciling(desired, actual.remaining(now_ts), now_ts)
        first = next(ops, None)
        self._planned = True
        if first is None:
            self.ready = True
            self._failing.clear()
            return
        if not self._failing:
            text = f"reconciling: the kernel holds {len(actual.end_ts)} bans, {len(desired)} are in force"
            self.say("reconcile", text)
        self._outgoing.planned(chain((first,), ops))

    def _adopt(self, remaining_s: Mapping[str, float | None], now_ts: float) -> None:
        """At the start: bans that the kernel holds and nobody remembers stay (the ledger was lost, or we were killed
        before it was written). Those that ended or were lifted are remembered, and go.
        """
        unknown = {subject: left for subject, left in remaining_s.items() if not self.policy.remembers(subject)}
        adopted = self.policy.adopt(unknown, now_ts) if unknown else []
        for decision in adopted:
            self.ledger.decision(decision)
        if adopted:
            self.say("adopted", f"{len(adopted)} bans that the kernel held and the ledger did not know are taken over")

    def _pause_s(self, now_ts: float) -> float:
        """Until the next reading: a prefix that is folded into a shorter ban must come out when that one ends."""
        change_ts = next_change_ts(self.policy.desired(now_ts), now_ts)
        return READ_EVERY_S if change_ts is None else min(READ_EVERY_S, max(RETRY_S, change_ts - now_ts))

    def read_now(self) -> None:
        """Ask what the kernel holds; the answer is reconciled."""
        if self.enforcer is None:
            return
        if self._reading is not None:
            self._read_again = True
            return
        self._read_id = self.enforcer.read()
        if self._read_id is None:
            self._read_due_s = time.monotonic() + RETRY_S
            return
        self._reading = InForce()

    def look(self, subjects: list[str]) -> bool:
        """Ask what these have stopped so far; the ledger hears the answer. False where that cannot be asked now."""
        request = None if self.enforcer is None else self.enforcer.look(subjects)
        if request is None:
            return False
        self._looks[request] = InForce()
        return True

    @property
    def looking(self) -> bool:
        """Whether an answer to a look is awaited."""
        return bool(self._looks)

    def tick(self, now_s: float) -> None:
        """Read, look or restate when it is time (`now_s`: monotonic)."""
        if now_s >= self._restate_due_s:
            self._restate(now_s)
        if (news := self.ledger.news()) is not None:
            self.say("ledger", news)
        self.denials.tick()
        if self.enforcer is None:
            return
        if self._reading is None and now_s >= self._read_due_s:
            if self._outgoing is not None and self._outgoing.busy:
                self._read_due_s = now_s + RETRY_S
            else:
                self.read_now()
        if now_s >= self._look_due_s:
            self._look_due_s = now_s + LOOK_EVERY_S
            some = self.policy.some(self._look_at, LOOK_SUBJECTS)
            self._look_at = self._look_at + LOOK_SUBJECTS if len(some) == LOOK_SUBJECTS else 0
            if some:
                self.look(some)

    def _restate(self, now_s: float) -> None:
        """Hand the bans in force over again to a ledger that has lost some, a few at a time."""
        self._restate_due_s = now_s + RESTATE_EVERY_S
        if self._restating is None and self.ledger.wants_restating():
            self._restating = self.policy.restate(time.time())
        if self._restating is None or not self.ledger.has_room:
            return
        portion = list(islice(self._restating, RESTATED_A_STEP))
        for decision in portion:
            self.ledger.decision(decision)
        if len(portion) < RESTATED_A_STEP:
            self._restating = None

    def due_s(self) -> float:
        """When `tick` has something to do, on the monotonic clock."""
        restate_s = math.inf if self._restating is None else self._restate_due_s
        if self.enforcer is None:
            return restate_s
        read_s = math.inf if self._reading is not None else self._read_due_s
        return min(restate_s, self._look_due_s, read_s)

    def latency_ms(self) -> dict[str, float | int]:
        """From reading a line to its ban in the kernel, of the last bans."""
        ordered = sorted(self.latencies_s)
        if not ordered:
            return {"p50": 0.0, "p99": 0.0, "count": 0}

        def at(share: float) -> float:
            return round(1000 * ordered[min(len(ordered) - 1, int(share * len(ordered)))], 3)

        return {"p50": at(0.5), "p99": at(0.99), "count": len(ordered)}


def _is_refused_ban(receipt: Receipt) -> bool:
    return receipt.refused and receipt.verb == "ban"
