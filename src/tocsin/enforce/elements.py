"""Set elements read over plain netlink: subject, time left, packets and bytes, without libnftables.

libnftables lists 100,000 elements in more than a second and 200 MB; here they pass by, one datagram at a time.
Layouts: linux/netfilter/nf_tables.h (enum nft_set_elem_attributes and its neighbours); all numbers big-endian.
"""

from __future__ import annotations

import contextlib
import errno
import struct
from typing import TYPE_CHECKING, NamedTuple

from tocsin.enforce import netlink
from tocsin.enforce.subjects import HASH_PREFIX, INTERVAL_SETS, KEY_BYTES, Target, is_service_set, kind_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NFPROTO_INET = 1
_SUBSYSTEM = 10 << 8  # NFNL_SUBSYS_NFTABLES
NFT_MSG_GETSET = _SUBSYSTEM | 10
NFT_MSG_NEWSETELEM = _SUBSYSTEM | 12
NFT_MSG_GETSETELEM = _SUBSYSTEM | 13
NFT_MSG_GETGEN = _SUBSYSTEM | 16

_SET_TABLE, _SET_NAME = 1, 2
_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS = 1, 2, 3
_LIST_ELEM = 1
_KEY, _FLAGS, _EXPIRATION, _EXPR = 1, 3, 5, 7
_DATA_VALUE = 1
_EXPR_NAME, _EXPR_DATA = 1, 2
_COUNTER_BYTES, _COUNTER_PACKETS = 1, 2
_INTERVAL_END = 1

_U32, _U64 = struct.Struct("!I"), struct.Struct("!Q")
_I32 = struct.Struct("=i")
PERMANENT = -1
_LISTED_AGAIN = 5


class Element(NamedTuple):
    """One element as the kernel holds it; `remaining_ms` is PERMANENT (-1) where it has no timeout."""

    key: bytes
    prefix: int
    remaining_ms: int
    packets: int
    bytes: int


class _Edge(NamedTuple):
    """One entry of an interval set: where an interval starts or, exclusively, ends."""

    key: bytes
    interval_end: bool
    remaining_ms: int
    packets: int
    bytes: int


def element_request(table: str, set_name: str, key: bytes | None = None) -> bytes:
    """The payload of a request for all elements of a set, or for the one with `key`."""
    parts = [
        netlink.NFGENMSG.pack(NFPROTO_INET, 0, 0),
        netlink.attribute(_LIST_TABLE, table.encode() + b"\0"),
        netlink.attribute(_LIST_SET, set_name.encode() + b"\0"),
    ]
    if key is not None:
        value = netlink.nested(_KEY, netlink.attribute(_DATA_VALUE, key))
        parts.append(netlink.nested(_LIST_ELEMENTS, netlink.nested(_LIST_ELEM, value)))
    return b"".join(parts)


def service_sets(source: netlink.Netlink, table: str) -> list[str]:
    """The names of the table's sets of hosts that are closed to single services, sorted; none where there is no table.

    Raises NetlinkError for other errors.
    """
    payload = netlink.NFGENMSG.pack(NFPROTO_INET, 0, 0) + netlink.attribute(_SET_TABLE, table.encode() + b"\0")
    found: set[str] = set()
    for _ in range(_LISTED_AGAIN):
        try:
            for batch in source.dump(NFT_MSG_GETSET, payload, f"listing the sets of table inet {table}"):
                found.update(name for reply in batch if is_service_set(name := _set_name(reply)))
            break
        except netlink.Interrupted:
            continue  # sets come and go: what was seen may have gone, which reading it will tell
        except netlink.NetlinkError as error:
            if error.errno != errno.ENOENT:
                raise
            break
    return sorted(found)


def has_elements(table: str, set_name: str) -> bool:
    """Whether a set holds anything. Raises NetlinkError as `read_set` does."""
    with contextlib.closing(netlink.Netlink(netlink.NETLINK_NETFILTER)) as source:  # a dump is left in the middle
        try:
            return any(read_set(source, table, set_name))
        except netlink.Interrupted:
            return True


def _set_name(reply: netlink.Message) -> str:
    span = netlink.find(reply.buffer, reply.start + netlink.NFGENMSG.size, reply.end, _SET_NAME)
    return reply.buffer[slice(*span)].rstrip(b"\0").decode("ascii", "replace") if span else ""


def read_set(source: netlink.Netlink, table: str, set_name: str) -> Iterator[list[Element]]:
    """Dump one set of the table: a list of elements for each datagram (about 300), so that others get a turn between.

    Elements of a hash set come in no order, those of an interval set at the end, ascending. A range in an interval set
    that is no prefix was not put there by us and is left out. Raises NetlinkError (ENOENT: no such set or table) and,
    after the last list, Interrupted where the set changed under the dump.
    """
    what = f"reading the set {set_name} of table inet {table}"
    dump = source.dump(NFT_MSG_GETSETELEM, element_request(table, set_name), what)
    if set_name in INTERVAL_SETS:
        edges: list[_Edge] = []
        interrupted: netlink.Interrupted | None = None
        try:
            for batch in dump:
                edges += [_edge(*span) for span in _spans(batch)]
                yield []
        except netlink.Interrupted as signal:
            interrupted = signal
        yield list(_prefixes(edges))
        if interrupted:
            raise interrupted
        return
    kind = kind_of(set_name)
    reader = _HashReader(KEY_BYTES[kind], HASH_PREFIX[kind])
    for batch in dump:
        yield [reader.element(*span) for span in _spans(batch)]


def look_up(source: netlink.Netlink, table: str, target: Target) -> Element | None:
    """The element that holds a target, or None where it is not in force. Raises NetlinkError for other errors."""
    return look_up_all(source, table, target.set, [target])[0]


def look_up_all(source: netlink.Netlink, table: str, set_name: str, targets: Sequence[Target]) -> list[Element | None]:
    """For each target of one set the element that holds it, None where it is not in force: 4 microseconds each.

    Of an interval set it is the element that covers the target's first address. A missing table or set looks like a
    missing element. Raises NetlinkError for other errors.
    """
    size = KEY_BYTES[kind_of(set_name)]
    head = element_request(table, set_name, bytes(size))[:-size]
    found: list[Element | None] = []
    errors: set[int] = set()
    answers = source.ask(NFT_MSG_GETSETELEM, [head + target.key for target in targets])
    for target, datagram in zip(targets, answers, strict=True):
        if netlink.HEADER.unpack_from(datagram)[1] == netlink.NLMSG_ERROR:
            errors.add(-_I32.unpack_from(datagram, netlink.HEADER.size)[0])
            found.append(None)
            continue
        spans = _spans(list(netlink.messages(datagram)))
        edges = [edge for edge in (_edge(*span) for span in spans) if not edge.interval_end]
        found.append(Element(edges[0].key, target.prefix, *edges[0][2:]) if edges else None)
    for code in errors - {errno.ENOENT}:
        raise netlink.NetlinkError(code, f"reading elements of the set {set_name} of table inet {table}")
    return found


def _spans(batch: list[netlink.Message]) -> Iterator[tuple[bytes, int, int]]:
    """Where each element of some NEWSETELEM messages lies: (buffer, start, end) with its own attribute header."""
    head = netlink.ATTRIBUTE.unpack_from
    for reply in batch:
        span = netlink.find(reply.buffer, reply.start + netlink.NFGENMSG.size, reply.end, _LIST_ELEMENTS)
        start, end = span or (0, 0)
        while start + 4 <= end:
            size, _ = head(reply.buffer, start)
            if size < 4 or start + size > end:
                break
            yield reply.buffer, start, start + size
            start += (size + 3) & ~3


def _edge(buffer: bytes, start: int, end: int) -> _Edge:
    """An element read the general way, attribute by attribute."""
    key, flags, remaining_ms, packets, octets = b"", 0, PERMANENT, 0, 0
    for kind, low, high in netlink.attributes(buffer, start + 4, end):
        if kind == _KEY and (span := netlink.find(buffer, low, high, _DATA_VALUE)):
            key = buffer[slice(*span)]
        elif kind == _FLAGS:
            flags = _U32.unpack_from(buffer, low)[0]
        elif kind == _EXPIRATION:
            remaining_ms = _U64.unpack_from(buffer, low)[0]
        elif kind == _EXPR and (data := netlink.find(buffer, low, high, _EXPR_DATA)):
            values = {inner: _U64.unpack_from(buffer, at)[0] for inner, at, _ in netlink.attributes(buffer, *data)}
            packets, octets = values.get(_COUNTER_PACKETS, 0), values.get(_COUNTER_BYTES, 0)
    return _Edge(key, bool(flags & _INTERVAL_END), remaining_ms, packets, octets)


class _HashReader:
    """Reads elements by the layout of the first one of the same size, checking its landmarks in each.

    Elements of one set differ only in whether they have a timeout, so nearly all of them are one `unpack`; any other
    (a comment added by somebody's hand) takes the general way. The landmarks are the headers of the attributes used:
    an element of the same size and another shape cannot have all of them in the same places.
    """

    def __init__(self, key_bytes: int, prefix: int) -> None:
        self._key_bytes = key_bytes
        self._prefix = prefix
        self._layouts: dict[int, _Layout | None] = {}

    def element(self, buffer: bytes, start: int, end: int) -> Element:
        """The element that lies between start and end."""
        try:
            layout = self._layouts[end - start]
        except KeyError:
            layout = self._layouts[end - start] = _layout(buffer, start, end, self._key_bytes)
        if layout is not None:
            at_key, key, at_bytes, octets, at_packets, packets, *timed = layout.fields.unpack_from(buffer, start)
            if (at_key, at_bytes, at_packets, *timed[:1]) == layout.landmarks:
                return Element(key, self._prefix, timed[1] if timed else PERMANENT, packets, octets)
        _, _, remaining_ms, packets, octets = edge = _edge(buffer, start, end)
        return Element(edge.key, self._prefix, remaining_ms, packets, octets)


class _Layout(NamedTuple):
    fields: struct.Struct
    landmarks: tuple[int, ...]


def _layout(buffer: bytes, start: int, end: int, key_bytes: int) -> _Layout | None:
    """The layout of an element whose key, counter and expiration stand in the kernel's order; None for any other."""
    inside = (buffer, start + 4, end)
    octets = netlink.find(*inside, _EXPR, _EXPR_DATA, _COUNTER_BYTES)
    packets = netlink.find(*inside, _EXPR, _EXPR_DATA, _COUNTER_PACKETS)
    spans = [netlink.find(*inside, _KEY, _DATA_VALUE), octets, packets]
    if expiration := netlink.find(*inside, _EXPIRATION):
        spans.append(expiration)
    lengths = [key_bytes, 8, 8, 8]
    form, position = ">", start
    for span, length in zip(spans, lengths, strict=False):
        if span is None or span[1] - span[0] != length or span[0] - 4 < position:
            return None
        form += f"{span[0] - 4 - position}xI" + (f"{length}s" if length != 8 else "Q")
        position = span[1]
    fields = struct.Struct(form)
    return _Layout(fields, fields.unpack_from(buffer, start)[::2])


def _prefixes(edges: list[_Edge]) -> Iterator[Element]:
    """The prefixes that lie between starts and ends, ascending. An end at a key comes before a start at the same."""
    start: _Edge | None = None
    for edge in sorted(edges, key=lambda edge: (edge.key, not edge.interval_end)):
        if start is not None:
            bits = len(start.key) * 8
            low = int.from_bytes(start.key, "big")
            high = int.from_bytes(edge.key, "big")
            if element := _prefix(start, bits, low, high):
                yield element
        start = None if edge.interval_end else edge
    if start is not None:
        bits = len(start.key) * 8
        if element := _prefix(start, bits, int.from_bytes(start.key, "big"), 1 << bits):
            yield element


def _prefix(edge: _Edge, bits: int, low: int, high: int) -> Element | None:
    size = high - low
    if size <= 0 or size & (size - 1) or low & (size - 1):
        return None
    return Element(edge.key, bits - size.bit_length() + 1, edge.remaining_ms, edge.packets, edge.bytes)
