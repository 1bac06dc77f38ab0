"""What waits before the socket to the enforcer, and in which order it leaves."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tocsin.enforce import outgoing
from tocsin.enforce.client import OPS_PER_MESSAGE, Enforcer
from tocsin.enforce.outgoing import Outgoing
from tocsin.enforce.protocol import Apply, Channel, ToEnforcer
from tocsin.model import Op


class Far:
    """The far side: takes what has come, and answers when told to."""

    def __init__(self) -> None:
        near, far = socket.socketpair()
        self._sockets = near, far
        self.enforcer = Enforcer(near)
        self.outgoing = Outgoing(self.enforcer)
        self._channel: Channel[ToEnforcer] = Channel(far, ToEnforcer)

    def close(self) -> None:
        for one in self._sockets:
            one.close()

    def heard(self) -> list[Op]:
        """The Ops that have come since, unanswered."""
        found: list[Op] = []
        while True:
            self.enforcer.flush()
            messages = self._channel.receive()
            if not messages and not self.enforcer.queued_bytes:
                return found
            found += [op for one in messages if isinstance(one, Apply) for op in one.ops]

    def drain(self) -> list[Op]:
        """All that comes where each is answered."""
        found: list[Op] = []
        while some := self.heard():
            found += some
            self.outgoing.answered(len(some))
        return found


@pytest.fixture
def far() -> Iterator[Far]:
    one = Far()
    yield one
    one.close()


def ban(number: int, decision: str = "") -> Op:
    return Op("ban", f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}", 60, decision)


def test_a_single_op_leaves_at_once(far: Far) -> None:
    assert far.outgoing.decided(ban(1))
    assert far.heard() == [ban(1)]


def test_a_flood_keeps_its_order_and_little_is_unanswered(far: Far) -> None:
    for number in range(20_000):
        assert far.outgoing.decided(ban(number))
    assert far.outgoing.busy
    first = far.heard()
    assert 0 < len(first) <= outgoing.UNANSWERED_OPS + OPS_PER_MESSAGE
    far.outgoing.answered(len(first))
    assert [*first, *far.drain()] == [ban(number) for number in range(20_000)]
    assert not far.outgoing.busy


def test_a_ban_does_not_stand_behind_a_plan_and_is_not_undone_by_it(far: Far) -> None:
    far.outgoing.planned(ban(number) for number in range(50_000))
    assert not far.outgoing.settled
    first = far.heard()
    assert far.outgoing.decided(Op("unban", ban(49_999).subject))
    far.outgoing.answered(len(first))
    second = far.heard()
    assert second.index(Op("unban", ban(49_999).subject)) < OPS_PER_MESSAGE
    far.outgoing.answered(len(second))
    rest = far.drain()
    planned = [op for op in (*first, *second, *rest) if op.verb == "ban"]
    assert planned == [ban(number) for number in range(49_999)]
    assert far.outgoing.settled


def test_a_plan_and_a_flood_take_turns(far: Far) -> None:
    for number in range(10_000):
        assert far.outgoing.decided(ban(number, "decided"))
    far.outgoing.planned(ban(100_000 + number) for number in range(10_000))
    order = [op.decision for op in far.drain()]
    assert len(order) == 20_000
    assert "" in order[: 6 * OPS_PER_MESSAGE]
    assert "decided" in order[-12 * OPS_PER_MESSAGE :]


def test_a_new_plan_takes_the_place_of_the_old(far: Far) -> None:
    far.outgoing.planned(ban(number) for number in range(20_000))
    far.outgoing.planned(ban(100_000 + number) for number in range(3))
    assert far.drain()[-3:] == [ban(100_000 + number) for number in range(3)]
    assert far.outgoing.settled


def test_what_is_too_much_is_dropped_and_said(far: Far, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outgoing, "DECIDED_MAX", 100)
    far.outgoing.planned(ban(number) for number in range(20_000))
    taken = [far.outgoing.decided(ban(100_000 + number, "decided")) for number in range(200)]
    assert taken.count(False) == 1, "the plan is given up, and what it knew is to be read again"
    assert [op for op in far.drain() if op.decision] == [ban(100_000 + number, "decided") for number in range(200)]
    assert far.outgoing.settled
    monkeypatch.setattr(outgoing, "WAITING_OPS", 1500)
    narrow = Outgoing(far.enforcer)
    assert not all(narrow.decided(ban(number)) for number in range(10_000))
