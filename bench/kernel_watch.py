"""The kernel's own announcements of new set elements, in the network namespace in which this runs."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Iterator

NETLINK_NETFILTER = 12
NFNLGRP_NFTABLES = 7
NEWSETELEM = 10 << 8 | 12  # NFNL_SUBSYS_NFTABLES, NFT_MSG_NEWSETELEM
SO_RCVBUFFORCE = 33
SOL_NETLINK, NETLINK_ADD_MEMBERSHIP = 270, 1
HEADER = struct.Struct("=IHHII")  # nlmsghdr: length, type, flags, sequence, port


class KernelWatch:
    """A socket that hears every change of the ruleset."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, SO_RCVBUFFORCE, 16 << 20)
        self._socket.bind((0, 0))
        self._socket.setsockopt(SOL_NETLINK, NETLINK_ADD_MEMBERSHIP, NFNLGRP_NFTABLES)
        self._socket.setblocking(False)

    def drain(self) -> None:
        """Let go of what was announced so far."""
        while self._messages():
            pass

    def wait_for(self, key: bytes, within_s: float) -> int | None:
        """When (time.perf_counter_ns) a new element with this key was announced; None where none was in time."""
        end_s = time.monotonic() + within_s
        while (left_s := end_s - time.monotonic()) > 0:
            if not select.select([self._socket], [], [], left_s)[0]:
                return None
            data = self._messages()
            heard_ns = time.perf_counter_ns()
            if any(kind == NEWSETELEM and key in payload for kind, payload in _split(data)):
                return heard_ns
        return None

    def _messages(self) -> bytes:
        try:
            return self._socket.recv(1 << 18)
        except BlockingIOError:
            return b""


def _split(data: bytes) -> Iterator[tuple[int, bytes]]:
    position = 0
    while position + HEADER.size <= len(data):
        length, kind, *_ = HEADER.unpack_from(data, position)
        yield kind, data[position + HEADER.size : position + length]
        position += max(HEADER.size, length + 3 & ~3)
