"""Netlink messages and set elements, read from bytes as the kernel lays them out."""

from __future__ import annotations

import random
import socket
import struct
from collections.abc import Iterator

import pytest

from tocsin.enforce import netlink
from tocsin.enforce.elements import NFT_MSG_NEWSETELEM, PERMANENT, Element, element_request, read_set

# One element of a hash set as Linux 6.18 dumped it from a namespace: 127.66.66.66 was banned for 600 s, and two
# datagrams of 62 bytes in all were dropped in the first 100 ms.
RECORDED = bytes.fromhex(
    "540001000c000100080001007f4242422c0007000c000100636f756e746572001c0002000c000100000000000000003e"
    "0c00020000000000000000020c00040000000000000927c00c000500000000000009275c"
)


class Recorded(netlink.Netlink):
    """Plays datagrams to a reader; an honest netlink source without a kernel."""

    def __init__(self, *datagrams: list[bytes], interrupted: bool = False) -> None:
        self.datagrams = datagrams
        self.interrupted = interrupted

    def dump(self, kind: int, payload: bytes, what: str) -> Iterator[list[netlink.Message]]:
        """The datagrams, each a list of element lists."""
        del kind, payload
        for elements in self.datagrams:
            yield [as_message(elements)]
        if self.interrupted:
            raise netlink.Interrupted(what)


def as_message(elements: list[bytes]) -> netlink.Message:
    """A NEWSETELEM message that holds some elements."""
    payload = element_request("tocsin", "host4") + netlink.nested(3, *elements)
    (message,) = netlink.messages(netlink.message(NFT_MSG_NEWSETELEM, 2, payload))
    return message


def element(
    key: str,
    *,
    left_ms: int | None = None,
    packets: int = 0,
    octets: int = 0,
    end: bool = False,
    comment: bytes | None = None,
    counter: bool = True,
) -> bytes:
    """An element with its attributes in the kernel's order."""
    parts = [netlink.attribute(1, netlink.attribute(1, socket.inet_aton(key)))]
    if counter:
        counts = netlink.attribute(1, struct.pack("!Q", octets)) + netlink.attribute(2, struct.pack("!Q", packets))
        parts.append(netlink.attribute(7, netlink.attribute(1, b"counter\0") + netlink.attribute(2, counts)))
    if end:
        parts.append(netlink.attribute(3, struct.pack("!I", 1)))
    if left_ms is not None:
        parts.append(netlink.attribute(4, struct.pack("!Q", 10**6)) + netlink.attribute(5, struct.pack("!Q", left_ms)))
    if comment is not None:
        parts.append(netlink.attribute(6, comment))
    return netlink.attribute(1, b"".join(parts))


def read(set_name: str, *datagrams: list[bytes]) -> list[Element]:
    """All elements that a reader finds."""
    return [one for batch in read_set(Recorded(*datagrams), "tocsin", set_name) for one in batch]


def test_a_recorded_element_is_read() -> None:
    """Real bytes, so that the builder of these tests and the reader cannot be wrong together."""
    assert read("host4", [RECORDED]) == [Element(bytes([127, 66, 66, 66]), 32, 599_900, 2, 62)]


def test_built_elements_are_laid_out_as_the_recorded_one() -> None:
    """The other tests' elements differ from the real one in nothing but its timeout."""
    built = element("127.66.66.66", left_ms=599_900, packets=2, octets=62)
    assert built.replace(struct.pack("!Q", 10**6), struct.pack("!Q", 600_000)) == RECORDED


def test_elements_of_every_shape_are_read_in_any_mixture() -> None:
    """Timed, permanent, commented by hand (even to the size of a timed one), without a counter."""
    dice = random.Random(3)
    expected, built = [], []
    for number in range(500):
        key = f"10.0.{number >> 8}.{number & 255}"
        left_ms = dice.choice([None, dice.randrange(10**9)])
        comment = dice.choice([None, None, b"\x00\x13twelve characters\x00", b"c", bytes(12), bytes(20)])
        counter = dice.random() < 0.8
        packets, octets = dice.randrange(1 << 60), dice.randrange(1 << 60)
        built.append(element(key, left_ms=left_ms, packets=packets, octets=octets, comment=comment, counter=counter))
        counts = (packets, octets) if counter else (0, 0)
        expected.append(Element(socket.inet_aton(key), 32, PERMANENT if left_ms is None else left_ms, *counts))
    assert read("host4", built[:100], [], built[100:101], built[101:]) == expected


@pytest.mark.parametrize(
    ("edges", "prefixes"),
    [
        ([("10.0.0.0", False), ("10.0.1.0", True)], [("10.0.0.0", 24)]),
        # Ascending or descending, next to each other, with the end that nft puts at the very first address.
        (
            [("10.0.2.0", True), ("10.0.1.0", False), ("10.0.1.0", True), ("10.0.0.0", False), ("0.0.0.0", True)],  # noqa: S104  a key
            [("10.0.0.0", 24), ("10.0.1.0", 24)],
        ),
        ([("255.255.0.0", False)], [("255.255.0.0", 16)]),
        ([("10.0.0.0", False), ("10.0.0.7", True), ("10.9.0.0", False), ("10.9.0.4", True)], [("10.9.0.0", 30)]),
        ([("10.0.0.4", False), ("10.0.0.12", True)], []),
    ],
)
def test_intervals_are_read_as_prefixes(edges: list[tuple[str, bool]], prefixes: list[tuple[str, int]]) -> None:
    """Starts and ends are paired; ranges that are no prefix are somebody else's and left out."""
    built = [element(key, end=end, left_ms=None if end else 1000, counter=not end) for key, end in edges]
    found = read("net4", built[:2], built[2:])
    assert [(socket.inet_ntoa(one.key), one.prefix, one.remaining_ms) for one in found] == [
        (key, prefix, 1000) for key, prefix in prefixes
    ]


@pytest.mark.parametrize("set_name", ["host4", "net4"])
def test_what_was_read_before_an_interruption_is_given_too(set_name: str) -> None:
    """The reader decides whether it is good enough; the signal comes last."""
    found: list[Element] = []
    source = Recorded([element("10.0.0.0", left_ms=5), element("10.0.1.0", end=True, left_ms=5)], interrupted=True)
    batches = read_set(source, "tocsin", set_name)

    def read_on() -> None:
        for batch in batches:
            found.extend(batch)

    with pytest.raises(netlink.Interrupted):
        read_on()
    assert found


def test_garbage_is_read_without_an_accident() -> None:
    """Lengths that lie end the reading; nothing is raised, nothing is read beyond the end."""
    dice = random.Random(5)
    good = element("203.0.113.9", left_ms=5)
    for _ in range(3000):
        bad = bytearray(good)
        for _ in range(dice.randrange(1, 4)):
            bad[dice.randrange(len(bad))] = dice.randrange(256)
        try:
            read("host4", [good, bytes(bad)])
        except struct.error:
            pytest.fail(f"read past the end: {bad.hex()}")


def test_messages_and_attributes_stop_at_lengths_that_make_no_sense() -> None:
    """A header that announces more than there is, or less than itself, is the end."""
    whole = netlink.message(7, 0, b"abcd") + netlink.message(8, 0, b"")
    assert [one.type for one in netlink.messages(whole)] == [7, 8]
    assert [one.type for one in netlink.messages(whole[:-1])] == [7]
    assert list(netlink.messages(struct.pack("=IHHII", 3, 0, 0, 0, 0))) == []
    both = netlink.attribute(1, b"abc") + netlink.attribute(2, b"")
    assert [(kind, both[low:high]) for kind, low, high in netlink.attributes(both, 0, len(both))] == [
        (1, b"abc"),
        (2, b""),
    ]
    assert list(netlink.attributes(b"\x03\x00\x01\x00", 0, 4)) == []
    assert list(netlink.attributes(b"\x09\x00\x01\x00", 0, 4)) == []
    assert netlink.find(netlink.nested(4, both), 0, 100, 4, 2) == (16, 16)
    assert netlink.find(both, 0, len(both), 3) is None
