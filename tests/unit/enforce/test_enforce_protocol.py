"""Framing, limits and strictness of what travels between watcher and enforcer."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator

import msgspec
import pytest

from tocsin.enforce.elements import PERMANENT, Element
from tocsin.enforce.protocol import (
    MAX_LOOKS,
    MAX_MESSAGE_BYTES,
    MAX_OPS,
    Actual,
    Apply,
    Banned,
    Changed,
    Channel,
    FromEnforcer,
    Look,
    Ping,
    Pong,
    Probe,
    Probed,
    ProtocolError,
    Read,
    Receipts,
    Step,
    ToEnforcer,
    pack_elements,
    rows_of,
    unpack_elements,
)
from tocsin.enforce.subjects import parse_subject, render_target
from tocsin.model import Op, Receipt

REQUESTS: list[ToEnforcer] = [
    Apply(1, [Op("ban", "192.0.2.7", 60, "d1"), Op("unban", "2001:db8::/64")]),
    Read(2),
    Look(3, ["192.0.2.7"]),
    Probe(4),
    Ping(5),
]
ANSWERS: list[FromEnforcer] = [
    Receipts(1, [Receipt("ban", "192.0.2.7", "d1", ok=True, ts=12.5, sockets_destroyed=3)], revised=True),
    Actual(2, "host4", b"", last=True, whole=False, error="no"),
    Changed("table deleted"),
    Probed(4, ok=False, steps=[Step("firewall", ok=False, remedy="run as root")]),
    Pong(5),
]


@pytest.fixture
def pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a stream."""
    left, right = socket.socketpair()
    with left, right:
        yield left, right


def frame(payload: bytes) -> bytes:
    """A payload with its length before it."""
    return struct.pack("!I", len(payload)) + payload


def test_every_message_arrives_as_it_was_sent(pair: tuple[socket.socket, socket.socket]) -> None:
    """In order, in both directions."""
    watcher: Channel[FromEnforcer] = Channel(pair[0], FromEnforcer)
    enforcer: Channel[ToEnforcer] = Channel(pair[1], ToEnforcer)
    for request in REQUESTS:
        assert watcher.push(request)
    for answer in ANSWERS:
        assert enforcer.push(answer)
    assert enforcer.receive() == REQUESTS
    assert watcher.receive() == ANSWERS
    assert watcher.receive() == []


def test_messages_survive_being_read_byte_by_byte(pair: tuple[socket.socket, socket.socket]) -> None:
    """However the stream is cut, the same messages come out, none before its last byte."""
    enforcer: Channel[ToEnforcer] = Channel(pair[1], ToEnforcer)
    found: list[ToEnforcer] = []
    for payload in [msgspec.msgpack.encode(request) for request in REQUESTS]:
        for index, byte in enumerate(frame(payload)):
            pair[0].send(bytes([byte]))
            got = enforcer.receive()
            assert bool(got) == (index == len(payload) + 3)
            found += got
    assert found == REQUESTS


@pytest.mark.parametrize(
    "payload",
    [
        b"",
        b"\xc1",
        b"\x93\x01\x02",
        b"\xff\xff\xff",
        b"\x81\xa4type\xa5apply",
        msgspec.msgpack.encode({"type": "explode", "id": 1}),
        msgspec.msgpack.encode({"type": "apply", "id": "1", "ops": []}),
        msgspec.msgpack.encode({"type": "apply", "id": 1}),
        msgspec.msgpack.encode({"type": "apply", "id": 1, "ops": [{"op": "Op", "verb": "flush", "subject": "x"}]}),
        msgspec.msgpack.encode({"type": "apply", "id": 1, "ops": [{"op": "Op", "verb": "ban", "subject": 7}]}),
        msgspec.msgpack.encode(Apply(1, [Op("unban", "x")] * (MAX_OPS + 1))),
        msgspec.msgpack.encode(Look(1, ["x"] * (MAX_LOOKS + 1))),
        msgspec.msgpack.encode(Ping(1)) + b"\x00",
        b"\x81\xa4type\xa4\xff\xff\xff\xff",
        b"\x91" * 5000,
    ],
)
def test_what_is_no_message_is_a_protocol_error(pair: tuple[socket.socket, socket.socket], payload: bytes) -> None:
    """Never another error, never a guess."""
    enforcer: Channel[ToEnforcer] = Channel(pair[1], ToEnforcer)
    pair[0].setblocking(False)

    def pump(data: bytes) -> None:
        for _ in range(1000):
            data = data[pair[0].send(data) :] if data else data
            enforcer.receive()

    with pytest.raises(ProtocolError):
        pump(frame(payload))


def test_a_message_too_long_is_refused_before_it_is_read(pair: tuple[socket.socket, socket.socket]) -> None:
    """Its announcement is enough: no memory is spent on it."""
    enforcer: Channel[ToEnforcer] = Channel(pair[1], ToEnforcer)
    pair[0].send(struct.pack("!I", MAX_MESSAGE_BYTES + 1))
    with pytest.raises(ProtocolError, match="announced"):
        enforcer.receive()
    with pytest.raises(ProtocolError, match="allowed"):
        enforcer.push(Actual(1, "host4", bytes(MAX_MESSAGE_BYTES)))


def test_a_closed_far_side_is_the_end_of_the_file(pair: tuple[socket.socket, socket.socket]) -> None:
    """What was sent before is still heard."""
    watcher: Channel[FromEnforcer] = Channel(pair[0], FromEnforcer)
    pair[1].send(frame(msgspec.msgpack.encode(Pong(1))))
    pair[1].close()
    assert watcher.receive() == [Pong(1)]
    with pytest.raises(EOFError):
        watcher.receive()
    with pytest.raises(BrokenPipeError):
        watcher.push(Ping(1))


def test_a_far_side_that_does_not_read_blocks_nobody(pair: tuple[socket.socket, socket.socket]) -> None:
    """The queue takes what it may, then refuses; once the far side reads, all that was taken arrives in order."""
    watcher: Channel[FromEnforcer] = Channel(pair[0], FromEnforcer, max_queued_bytes=300_000)
    enforcer: Channel[ToEnforcer] = Channel(pair[1], ToEnforcer)
    taken = 0
    while watcher.push(Look(taken, ["192.0.2.7"] * 500)):
        taken += 1
        assert taken < 1000
    assert 0 < watcher.queued_bytes <= 310_000
    found: list[ToEnforcer] = []
    while len(found) < taken:
        watcher.flush()
        found += enforcer.receive()
    assert [message.id for message in found] == list(range(taken))
    assert watcher.queued_bytes == 0
    assert watcher.push(Ping(1))


def test_elements_are_packed_and_unpacked() -> None:
    """Ends are points in time, whenever they were read; None is for good."""
    rows = {
        "host4": [(parse_subject("192.0.2.7"), 1500, 3, 180), (parse_subject("192.0.2.8"), PERMANENT, 0, 0)],
        "host6": [(parse_subject("2001:db8:1:2::/64"), 1000, 1, 80)],
        "addr6": [(parse_subject("2001:db8::1"), 1000, 1, 80)],
        "net4": [(parse_subject("10.0.0.0/24"), 99000, 1 << 40, 1 << 60)],
        "net6": [(parse_subject("2001:db8::/47"), 0, 0, 0)],
    }
    for name, elements in rows.items():
        packed = pack_elements(
            name, [Element(one.key, one.prefix, left, packets, octets) for one, left, packets, octets in elements], 1e9
        )
        assert len(packed) == len(elements) * (29 if name.endswith("4") else 41)
        found = list(unpack_elements(Actual(1, name, packed)))
        assert [one.subject for one in found] == [render_target(target) for target, *_ in elements]
        assert [one.end_ts for one in found] == [None if left < 0 else 1e9 + left / 1000 for _, left, _, _ in elements]
        assert [(one.packets, one.bytes) for one in found] == [(packets, octets) for *_, packets, octets in elements]


def test_rows_are_cut_between_elements() -> None:
    """Pieces that fit a message, together the whole; nothing is one empty piece."""
    packed = pack_elements("host4", [Element(bytes([9, 9, 9, n]), 32, n, n, n) for n in range(100)], 0.0)
    pieces = list(rows_of("host4", packed, 1000))
    assert b"".join(pieces) == packed
    assert all(0 < len(piece) <= 1000 for piece in pieces)
    assert sum(len(list(unpack_elements(Actual(1, "host4", piece)))) for piece in pieces) == 100
    assert list(rows_of("host4", b"", 1000)) == [b""]


@pytest.mark.parametrize("part", [Actual(1, "hosts", b""), Actual(1, "host4", b"123")])
def test_rows_that_are_none_are_a_protocol_error(part: Actual) -> None:
    """An unknown set, or half an element."""
    with pytest.raises(ProtocolError):
        list(unpack_elements(part))


def test_banned_holds_what_was_read() -> None:
    """The fields by name."""
    (one,) = unpack_elements(
        Actual(1, "host4", pack_elements("host4", [Element(b"\x01\x02\x03\x04", 32, 5, 6, 7)], 1.0))
    )
    assert one == Banned("1.2.3.4", 1.005, 6, 7)
