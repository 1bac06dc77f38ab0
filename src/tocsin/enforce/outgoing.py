"""What is on its way to the enforcer: Ops that were decided, and behind them those that a plan puts right.

At most four messages are unanswered at any time, and where both have something to send they take turns: so a ban
never stands behind the 100,000 that are being restored, and those need not exist all at once.
"""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING

from tocsin.enforce.client import OPS_PER_MESSAGE
from tocsin.model import Op
from tocsin.packed import Packed

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.enforce.client import Enforcer

UNANSWERED_OPS = 3 * OPS_PER_MESSAGE  # beyond, nothing more is sent: the enforcer has work for 30 ms
WAITING_OPS = 200_000
DECIDED_MAX = 50_000  # while one plan is carried out: in such a flood it is made anew later


class Outgoing:
    """The queue before the socket. Every method raises what `Enforcer` raises."""

    def __init__(self, enforcer: Enforcer) -> None:
        self._enforcer = enforcer
        self._again: list[Op] = []  # what the socket gave back
        self._waiting = Packed(Op, WAITING_OPS)
        self._plan: Iterator[Op] | None = None
        self._decided: set[str] = set()  # since the plan was made: it knows nothing of these
        self._sent = 0
        self._answered = 0
        self._planned_upto = 0

    def decided(self, op: Op) -> bool:
        """Send an Op, or let it wait its turn. False: too many waited, something was dropped, and what the kernel holds
        is to be read again once `busy` is over.
        """
        if self._plan is not None:
            self._decided.add(op.subject)
            if len(self._decided) > DECIDED_MAX:
                self._finish()
                self.decided(op)
                return False
        if not (self._again or self._waiting) and self._has_room():
            self._send([op])
            return True
        if self._waiting.put(op):
            return True
        self._waiting.clear()
        return False

    def planned(self, ops: Iterator[Op]) -> None:
        """Send these too, in place of what is left of an earlier plan; what is decided from now on goes before."""
        self._plan = ops
        self._decided.clear()
        self.advance()

    @property
    def busy(self) -> bool:
        """Whether more waits than goes into one message."""
        return len(self._waiting) > OPS_PER_MESSAGE

    @property
    def settled(self) -> bool:
        """Whether all of the last plan has been answered."""
        return self._plan is None and self._answered >= self._planned_upto

    def answered(self, receipts: int) -> None:
        """So many Ops have been answered."""
        self._answered += receipts
        self.advance()

    def advance(self) -> None:
        """Send what there is room for."""
        self._enforcer.flush()
        while self._has_room() and (self._again or self._waiting or self._plan is not None):
            if self._again:
                again, self._again = self._again, []
                self._send(again)
                continue
            if self._waiting:
                self._send(self._waiting.take(OPS_PER_MESSAGE))
            if self._plan is not None and self._has_room():
                self._send_planned(self._plan)

    def _send_planned(self, plan: Iterator[Op]) -> None:
        portion = list(islice(plan, OPS_PER_MESSAGE))
        self._send([op for op in portion if op.subject not in self._decided])
        if len(portion) < OPS_PER_MESSAGE:
            self._finish()

    def _finish(self) -> None:
        self._plan, self._planned_upto = None, self._sent + len(self._again)
        self._decided.clear()

    def _has_room(self) -> bool:
        return self._sent - self._answered <= UNANSWERED_OPS and not self._enforcer.queued_bytes

    def _send(self, ops: list[Op]) -> None:
        self._again = self._enforcer.send(ops)
        self._sent += len(ops) - len(self._again)
