"""Elements of hash sets put in and taken out over plain netlink: one transaction, nothing rendered, nothing parsed.

libnftables takes a text to pieces for each transaction: 0.5 ms for one ban that comes when nothing is in the caches,
and more than half of the time that 100,000 take. The messages that it would send are simple. Interval sets are left to
it: their elements are pairs of ends, and closed ones need to know their neighbours.

Layouts: linux/netfilter/nfnetlink.h (batches), linux/netfilter/nf_tables.h (enum nft_set_elem_attributes). A new
element gets the set's own counter from the kernel (since 5.7, the first that takes a set with one).
"""

from __future__ import annotations

import os
import struct
from typing import TYPE_CHECKING

from tocsin.enforce import netlink
from tocsin.enforce.elements import NFPROTO_INET, NFT_MSG_NEWSETELEM

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

NFT_MSG_DELSETELEM = NFT_MSG_NEWSETELEM + 2
_BATCH_BEGIN, _BATCH_END = 16, 17  # NFNL_MSG_BATCH_*
_SUBSYSTEM_NFTABLES = 10
_NLM_F_EXCL, _NLM_F_CREATE = 0x200, 0x400

_LIST_TABLE, _LIST_SET, _LIST_ELEMENTS, _LIST_ELEM = 1, 2, 3, 1
_KEY, _TIMEOUT, _DATA_VALUE = 1, 4, 1
_TIMEOUT_MS = struct.Struct("!Q")

# The list of a message's elements is one attribute of at most 65,535 bytes; an element takes 40 at most.
_ELEMENTS_A_MESSAGE = 1000

Row = tuple[bytes, int | None]
"""The key of an element, and for how many seconds (None: for good)."""


class Writer:
    """Writes elements of the hash sets of one table over a socket of its own."""

    def __init__(self, table: str) -> None:
        self._table = netlink.attribute(_LIST_TABLE, table.encode() + b"\0")
        self._socket = netlink.Netlink(netlink.NETLINK_NETFILTER, timeout_s=0.0)  # a batch is answered while it is sent
        self._frames: dict[str, _Frame] = {}

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def add(self, set_name: str, key: bytes, seconds: int) -> bool:
        """Add one element that ends; whether the kernel says that it has it now.

        False where it was there already, whenever that ends, or where something is wrong: `write` finds out. Written
        out for the one ban that comes when nothing is in the caches: whatever else is touched costs microseconds.
        """
        frame = self._frames.get(set_name)
        if frame is None:
            frame = self._frames[set_name] = _Frame(self._head(set_name), len(key))
        return any(key in echo for echo in self._socket.echoed(frame.filled(key, seconds), NFT_MSG_NEWSETELEM))

    def write(self, set_name: str, new: Sequence[Row], renewed: Sequence[Row], gone: Sequence[bytes]) -> str:
        """In one transaction: add what is not in the set, renew what is, take out what is to go.

        Returns the error text, empty where all went in: `File exists` where one of `new` is there already. Those of
        `renewed` and `gone` may be missing: their time can end in this very moment.
        """
        replaced = [*(key for key, _ in renewed), *gone]
        parts = [
            *self._messages(set_name, NFT_MSG_NEWSETELEM, _NLM_F_CREATE, ((key, None) for key in replaced)),
            *self._messages(set_name, NFT_MSG_DELSETELEM, 0, ((key, None) for key in replaced)),
            *self._messages(set_name, NFT_MSG_NEWSETELEM, _NLM_F_CREATE | _NLM_F_EXCL, renewed),
            *self._messages(set_name, NFT_MSG_NEWSETELEM, _NLM_F_CREATE | _NLM_F_EXCL, new),
        ]
        if not parts:
            return ""
        frame = netlink.NFGENMSG.pack(0, 0, _SUBSYSTEM_NFTABLES)
        try:
            code = self._socket.transact([(_BATCH_BEGIN, 0, frame), *parts, (_BATCH_END, 0, frame)])
        except OSError as error:
            return os.strerror(error.errno or 0)
        return os.strerror(code) if code else ""

    def _messages(self, set_name: str, kind: int, flags: int, rows: Iterable[Row]) -> list[tuple[int, int, bytes]]:
        elements = [_element(key, seconds) for key, seconds in rows]
        if not elements:
            return []
        head = self._head(set_name)
        flags |= netlink.NLM_F_ACK
        return [
            (kind, flags, head + netlink.nested(_LIST_ELEMENTS, *elements[start : start + _ELEMENTS_A_MESSAGE]))
            for start in range(0, len(elements), _ELEMENTS_A_MESSAGE)
        ]

    def _head(self, set_name: str) -> bytes:
        set_attribute = netlink.attribute(_LIST_SET, set_name.encode() + b"\0")
        return netlink.NFGENMSG.pack(NFPROTO_INET, 0, 0) + self._table + set_attribute


class _Frame:
    """A transaction that adds one element with a time-out to a set, all but the key and the time-out."""

    def __init__(self, head: bytes, key_bytes: int) -> None:
        generic = netlink.NFGENMSG.pack(0, 0, _SUBSYSTEM_NFTABLES)
        begin, end = (netlink.message(kind, 0, generic) for kind in (_BATCH_BEGIN, _BATCH_END))
        flags = _NLM_F_CREATE | netlink.NLM_F_ECHO
        payload = head + netlink.nested(_LIST_ELEMENTS, _element(bytes(key_bytes), 0))
        self._bytes = bytearray(begin + netlink.message(NFT_MSG_NEWSETELEM, flags, payload) + end)
        self._timeout_at = len(self._bytes) - len(end) - _TIMEOUT_MS.size
        at_key = self._timeout_at - netlink.ATTRIBUTE.size - key_bytes
        self._key_span = slice(at_key, at_key + key_bytes)

    def filled(self, key: bytes, seconds: int) -> bytearray:
        """The whole: the same object at each call."""
        whole = self._bytes
        whole[self._key_span] = key
        _TIMEOUT_MS.pack_into(whole, self._timeout_at, seconds * 1000)
        return whole


def _heads(key_bytes: int) -> tuple[bytes, bytes]:
    """What stands before the key in an element: without a time-out, and with one."""
    attribute, nested = netlink.ATTRIBUTE, netlink.NLA_F_NESTED
    size = 4 + key_bytes
    key = attribute.pack(4 + size, _KEY | nested) + attribute.pack(size, _DATA_VALUE)
    return attribute.pack(8 + size, _LIST_ELEM | nested) + key, attribute.pack(20 + size, _LIST_ELEM | nested) + key


_HEADS = {4: _heads(4), 16: _heads(16)}
_TIMEOUT_HEAD = netlink.ATTRIBUTE.pack(12, _TIMEOUT)


def _element(key: bytes, seconds: int | None) -> bytes:
    plain, timed = _HEADS[len(key)]
    if seconds is None:
        return plain + key
    return timed + key + _TIMEOUT_HEAD + _TIMEOUT_MS.pack(seconds * 1000)
