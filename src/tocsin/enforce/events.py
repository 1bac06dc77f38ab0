"""Changes of the ruleset that somebody else made, told by the kernel over netlink.

The socket joins the group of nf_tables events. A filter in the kernel drops the events of our own transactions before
they are queued: otherwise 100,000 of our own bans would overflow the queue. An overflow all the same (ENOBUFS) means
that something was missed: look again.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import socket
import struct
from typing import NamedTuple

from tocsin.enforce import netlink
from tocsin.enforce.elements import NFPROTO_INET

_GROUP_NFTABLES = 7  # NFNLGRP_NFTABLES
_SUBSYSTEM = 10
_TABLE_NAME = 1  # NFTA_TABLE_NAME, NFTA_CHAIN_TABLE, NFTA_RULE_TABLE, NFTA_SET_TABLE, NFTA_SET_ELEM_LIST_TABLE
_ELEMENT_MESSAGES = frozenset({12, 14})
# NFT_MSG_* of linux/netfilter/nf_tables.h. What is not here (new generation, objects, flowtables) does not concern us.
_WHAT = {
    0: "table added",
    2: "table deleted",
    3: "chain changed",
    5: "chain deleted",
    6: "rule added",
    8: "rule deleted",
    9: "set changed",
    11: "set deleted",
    12: "elements added",
    14: "elements deleted",
}
_QUEUE_BYTES = 1 << 20
_SO_ATTACH_FILTER = 26
_FILTER_INSTRUCTION = struct.Struct("=HBBI")
# Instructions of classic BPF, linux/bpf_common.h. A filter has at most 4,096; our own process has two or three sockets.
_LOAD_WORD, _JUMP_EQUAL, _RETURN = 0x20, 0x15, 0x06
_PORT_ID_OFFSET = 12
_OWN_PORTS_MAX = 32


class Foreign(NamedTuple):
    """What others did to our table since the last look: `structure` where more than elements changed."""

    reason: str
    structure: bool


def own_port_ids() -> frozenset[int]:
    """The netlink ports of this process (libnftables does not tell the one that it uses)."""
    ports = set()
    for name in os.listdir("/proc/self/fd"):  # noqa: PTH208  Path would cost a second system call each
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):  # noqa: PTH115  as above
                continue
            with socket.socket(fileno=os.dup(int(name))) as one:
                if one.family == socket.AF_NETLINK:
                    ports.add(int(one.getsockname()[0]) & 0xFFFFFFFF)
    return frozenset(ports)


class RulesetMonitor:
    """Listens for changes of one table of family inet made by other processes.

    Without CAP_NET_ADMIN it hears nothing; then there is nothing to guard either, and each Receipt says so.
    """

    def __init__(self, table: str) -> None:
        self._name = table.encode() + b"\0"
        kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC
        self._socket = socket.socket(socket.AF_NETLINK, kind, netlink.NETLINK_NETFILTER)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _QUEUE_BYTES)
        with contextlib.suppress(PermissionError):
            self._socket.bind((0, 1 << (_GROUP_NFTABLES - 1)))
        self._socket.setblocking(False)
        self._own: frozenset[int] = frozenset()
        self.ignore_own()

    def fileno(self) -> int:
        """The socket to wait on; readable when there may be something for `changes`."""
        return self._socket.fileno()

    def close(self) -> None:
        """Stop listening."""
        self._socket.close()

    def ignore_own(self) -> None:
        """Let the kernel drop, from here on, the events of every netlink socket that this process has open now."""
        self._own = own_port_ids()
        ports = sorted(self._own)[:_OWN_PORTS_MAX]
        program = [_FILTER_INSTRUCTION.pack(_LOAD_WORD, 0, 0, _PORT_ID_OFFSET)]
        for index, port in enumerate(ports):
            # The word is compared as loaded, big-endian; the header is in host order. A match jumps to the last line.
            word = int.from_bytes(struct.pack("=I", port), "big")
            program.append(_FILTER_INSTRUCTION.pack(_JUMP_EQUAL, len(ports) - index, 0, word))
        program += [_FILTER_INSTRUCTION.pack(_RETURN, 0, 0, 0xFFFFFFFF), _FILTER_INSTRUCTION.pack(_RETURN, 0, 0, 0)]
        code = ctypes.create_string_buffer(b"".join(program))
        self._socket.setsockopt(
            socket.SOL_SOCKET, _SO_ATTACH_FILTER, struct.pack("@HP", len(program), ctypes.addressof(code))
        )

    def changes(self) -> Foreign | None:
        """What others did to our table since the last call, all told as one; None where nothing did."""
        reasons: dict[str, bool] = {}
        while True:
            try:
                datagram = self._socket.recv(netlink.RECEIVE_BYTES)
            except BlockingIOError:
                break
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                reasons["events were lost"] = True
                continue
            for event in netlink.messages(datagram):
                if reason := self._concerns(event):
                    reasons[reason] = event.type & 0xFF not in _ELEMENT_MESSAGES
        return Foreign(", ".join(reasons), any(reasons.values())) if reasons else None

    def _concerns(self, event: netlink.Message) -> str | None:
        kind = event.type & 0xFF
        if event.type >> 8 != _SUBSYSTEM or kind not in _WHAT or not event.port_id:
            return None  # port 0 is the kernel itself: an element's time has ended
        if event.buffer[event.start] != NFPROTO_INET:
            return None
        name = netlink.find(event.buffer, event.start + netlink.NFGENMSG.size, event.end, _TABLE_NAME)
        if name is None or event.buffer[slice(*name)] != self._name:
            return None
        if event.port_id not in self._own:
            self._own = own_port_ids()
            if event.port_id in self._own:
                self.ignore_own()  # libnftables has opened its socket anew
        return None if event.port_id in self._own else _WHAT[kind]
