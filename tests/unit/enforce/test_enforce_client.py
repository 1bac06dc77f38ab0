"""The watcher's end: what it sends, what it holds back, and what it gathers."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from tocsin.enforce.client import OPS_PER_MESSAGE, Enforcer, InForce
from tocsin.enforce.elements import Element
from tocsin.enforce.protocol import Actual, Apply, Channel, Look, Ping, Probe, Read, ToEnforcer, pack_elements
from tocsin.model import Op


@pytest.fixture
def ends() -> Iterator[tuple[Enforcer, Channel[ToEnforcer]]]:
    """A client and what the far side hears, with a small queue."""
    left, right = socket.socketpair()
    with left, right:
        yield Enforcer(left, max_queued_bytes=200_000), Channel(right, ToEnforcer)


def hear(enforcer: Enforcer, far: Channel[ToEnforcer]) -> list[ToEnforcer]:
    """All that was sent."""
    found: list[ToEnforcer] = []
    while True:
        enforcer.flush()
        if not (got := far.receive()) and not enforcer.queued_bytes:
            return found
        found += got


def test_ops_go_in_messages_of_bounded_size_in_order(ends: tuple[Enforcer, Channel[ToEnforcer]]) -> None:
    """Small enough that a ban which comes after does not wait long."""
    enforcer, far = ends
    ops = [Op("ban", f"10.0.{n >> 8}.{n & 255}", 60) for n in range(OPS_PER_MESSAGE + 7)]
    assert enforcer.send(ops) == []
    heard = hear(enforcer, far)
    assert [len(one.ops) for one in heard if isinstance(one, Apply)] == [OPS_PER_MESSAGE, 7]
    assert [op for one in heard if isinstance(one, Apply) for op in one.ops] == ops
    assert enforcer.send([]) == []
    assert hear(enforcer, far) == []


def test_what_the_queue_cannot_take_comes_back(ends: tuple[Enforcer, Channel[ToEnforcer]]) -> None:
    """Nothing is lost and nothing sent twice: taken and returned together are what was offered."""
    enforcer, far = ends
    ops = [Op("ban", f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}", 60) for n in range(40 * OPS_PER_MESSAGE)]
    left = enforcer.send(ops)
    assert 0 < len(left) < len(ops)
    assert enforcer.queued_bytes > 0
    while enforcer.read() is not None:
        assert enforcer.queued_bytes < 300_000
    taken = [op for one in hear(enforcer, far) if isinstance(one, Apply) for op in one.ops]
    assert [*taken, *left] == ops


def test_requests_carry_the_id_that_is_returned(ends: tuple[Enforcer, Channel[ToEnforcer]]) -> None:
    """Each its own."""
    enforcer, far = ends
    ids = [enforcer.read(), enforcer.look(["192.0.2.7"]), enforcer.probe(), enforcer.ping()]
    assert None not in ids
    assert len(set(ids)) == 4
    assert hear(enforcer, far) == [
        Read(ids[0] or 0),
        Look(ids[1] or 0, ["192.0.2.7"]),
        Probe(ids[2] or 0),
        Ping(ids[3] or 0),
    ]


def rows(*elements: Element) -> bytes:
    """Rows of `host4`, read at second 100."""
    return pack_elements("host4", elements, 100.0)


def test_parts_are_gathered_into_ends_and_counters() -> None:
    """Complete with the last part; counters only where something was stopped."""
    in_force = InForce()
    assert not in_force.add(Actual(1, "host4", rows(Element(b"\x01\x01\x01\x01", 32, 5000, 2, 99))))
    assert not in_force.add(Actual(1, "host4", rows(Element(b"\x02\x01\x01\x01", 32, -1, 0, 0))))
    assert not in_force.complete
    assert in_force.add(Actual(1, "net6", b"", last=True))
    assert in_force.complete
    assert in_force.whole
    assert in_force.end_ts == {"1.1.1.1": 105.0, "2.1.1.1": None}
    assert in_force.stopped == {"1.1.1.1": (2, 99)}
    assert in_force.remaining_s(101.0) == {"1.1.1.1": 4.0, "2.1.1.1": None}


def test_what_came_twice_means_that_something_is_missing() -> None:
    """The kernel resized the set while it was read; so does a part that says so itself."""
    one = Element(b"\x01\x01\x01\x01", 32, 5000, 2, 99)
    doubled = InForce()
    doubled.add(Actual(1, "host4", rows(one)))
    doubled.add(Actual(1, "host4", rows(one), last=True))
    assert not doubled.whole
    told = InForce()
    told.add(Actual(1, "host4", rows(one), whole=False))
    told.add(Actual(1, "net6", b"", last=True, error="no such table"))
    assert not told.whole
    assert told.error == "no such table"
