"""SOCK_DESTROY: end the TCP connections of banned addresses, so that the workers which they hold are free at once.

A dropped packet tells a server nothing: a worker that waits for a banned client's request waits for its time-out. The
kernel's socket monitor finds the sockets by remote address and aborts them; the server sees ECONNABORTED or a reset.
Sockets of other network namespaces (containers with networks of their own) are out of reach; forwarded connections
have no socket here.

Layouts: linux/inet_diag.h, linux/sock_diag.h. The kernel walks its whole table of connections for a dump, whoever is
asked for, so one dump serves many subjects: up to MAX_CONDITIONS are told to the kernel as a filter, more are compared
here.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import struct
from typing import TYPE_CHECKING

from tocsin.enforce import netlink
from tocsin.enforce.subjects import ADDR6, HOST4, HOST6, INTERVAL_SETS, Target, kind_of, services_of
from tocsin.services import Span, parse_services

if TYPE_CHECKING:
    from collections.abc import Collection
    from collections.abc import Set as AbstractSet

_SOCK_DIAG_BY_FAMILY, _SOCK_DESTROY = 20, 21
_REQUEST = struct.Struct("=BBBBI")  # inet_diag_req_v2 before its inet_diag_sockid
_SOCKID_BYTES = 48
_SOCKID_AT = 4  # in inet_diag_msg, after family, state, timer and retransmissions
_REMOTE_AT = _SOCKID_AT + 4 + 16
_PORT = struct.Struct("!H")  # our own, the first of inet_diag_sockid
_BYTECODE = 1  # INET_DIAG_REQ_BYTECODE
_OP = struct.Struct("=BBH")
_CONDITION = struct.Struct("=BBHi")
_JUMP, _REMOTE_CONDITION = 1, 8  # INET_DIAG_BC_JMP, INET_DIAG_BC_D_COND
_ANY_PORT = -1
# All states but TIME_WAIT, CLOSE and LISTEN (linux/tcp_states.h): those hold no worker and no client.
_STATES = 0xFFF & ~(1 << 6 | 1 << 7 | 1 << 10)
_MAPPED = bytes(10) + b"\xff\xff"

# Filters are 24 or 36 bytes a subject and are run for every socket; 64 stay below the cost of copying sockets out.
MAX_CONDITIONS = 64


def destroy_sockets(source: netlink.Netlink, targets: AbstractSet[Target]) -> dict[Target, int]:
    """Abort the TCP sockets whose remote address lies in one of the targets and whose own port it closes; how many, for
    those that had any.

    IPv4 targets include sockets that see the client as `::ffff:a.b.c.d`. Raises NetlinkError where the kernel has no
    socket monitor (ENOENT: modules inet_diag and tcp_diag) or cannot destroy (EOPNOTSUPP).
    """
    destroyed: dict[Target, int] = {}
    if not targets:
        return destroyed
    families = {socket.AF_INET, socket.AF_INET6} if any(len(one.key) == 4 for one in targets) else {socket.AF_INET6}
    closing = _Closing(targets)
    which = _Which(closing.subjects)
    for family in sorted(families):
        for diag in _connections(source, family, closing.subjects):
            remote = diag[_REMOTE_AT : _REMOTE_AT + (4 if family == socket.AF_INET else 16)]
            target = closing.target_of(which.target_of(remote), _PORT.unpack_from(diag, _SOCKID_AT)[0])
            if target is not None and _destroy(source, family, diag):
                destroyed[target] = destroyed.get(target, 0) + 1
    return destroyed


def _connections(source: netlink.Netlink, family: int, targets: Collection[Target]) -> list[bytes]:
    """The inet_diag_msg of each connection that may be one of the targets', read to the end."""
    payload = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + bytes(_SOCKID_BYTES)
    if len(targets) <= MAX_CONDITIONS:
        payload += netlink.attribute(_BYTECODE, _bytecode(targets))
    found: list[bytes] = []
    # A table that changes under the dump shows new connections twice or not at all: those are dropped in the firewall.
    with contextlib.suppress(netlink.Interrupted):
        for batch in source.dump(_SOCK_DIAG_BY_FAMILY, payload, "listing connections"):
            found += [one.buffer[one.start : one.end] for one in batch if one.type == _SOCK_DIAG_BY_FAMILY]
    return found


def _bytecode(targets: Collection[Target]) -> bytes:
    """A filter that takes sockets whose remote address is in any of the targets.

    Each condition, where it holds, goes on to a jump to the very end, which accepts; where not, over that jump. The
    last jump leads beyond the end, which rejects. The kernel lets an IPv4 condition match mapped addresses.
    """
    sizes = [_OP.size * 2 + _CONDITION.size + len(target.key) for target in targets]
    left = sum(sizes) + _OP.size
    parts = []
    for target, size in zip(targets, sizes, strict=True):
        family = socket.AF_INET if len(target.key) == 4 else socket.AF_INET6
        left -= size
        parts += [
            _OP.pack(_REMOTE_CONDITION, size - _OP.size, size),
            _CONDITION.pack(family, target.prefix, 0, _ANY_PORT),
            target.key,
            _OP.pack(_JUMP, _OP.size, left + _OP.size),
        ]
    return b"".join([*parts, _OP.pack(_JUMP, _OP.size, 2 * _OP.size)])


def _destroy(source: netlink.Netlink, family: int, diag: bytes) -> bool:
    """Abort one socket; False where it is gone already."""
    sockid = diag[_SOCKID_AT : _SOCKID_AT + _SOCKID_BYTES]
    payload = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _STATES) + sockid
    try:
        source.request(_SOCK_DESTROY, netlink.NLM_F_ACK, payload, "ending a connection")
    except netlink.NetlinkError as error:
        if error.errno in (errno.ENOENT, errno.ESTALE):
            return False
        raise
    return True


class _Closing:
    """Targets that may close single services, seen as subjects that close everything, and back again."""

    def __init__(self, targets: AbstractSet[Target]) -> None:
        self._by_subject: dict[Target, list[tuple[Target, tuple[Span, ...]]]] = {}
        for target in targets:
            if services := services_of(target.set):
                subject = Target(kind_of(target.set), target.key, target.prefix)
                self._by_subject.setdefault(subject, []).append((target, parse_services(services)))
        self._whole = targets
        self.subjects = {one for one in targets if "." not in one.set} | self._by_subject.keys()

    def target_of(self, subject: Target | None, port: int) -> Target | None:
        """Which of the targets closes this TCP port of our own to a subject."""
        if subject is None or subject in self._whole:
            return subject
        for target, spans in self._by_subject.get(subject, ()):
            if any(protocol == "tcp" and low <= port <= high for protocol, low, high in spans):
                return target
        return None


class _Which:
    """Finds the target that a remote address lies in; nothing is built for hosts, of which there may be thousands."""

    def __init__(self, targets: AbstractSet[Target]) -> None:
        self._targets = targets
        self._prefixes = [
            (target, len(target.key) * 8 - target.prefix, int.from_bytes(target.key, "big"))
            for target in targets
            if target.set in INTERVAL_SETS
        ]

    def target_of(self, remote: bytes) -> Target | None:
        """The target that holds an address in network byte order; mapped addresses count as IPv4."""
        remote = remote.removeprefix(_MAPPED) if len(remote) == 16 else remote
        if len(remote) == 4:
            hosts = [Target(HOST4, remote, 32)]
        else:
            hosts = [Target(HOST6, remote[:8] + bytes(8), 64), Target(ADDR6, remote, 128)]
        value = int.from_bytes(remote, "big")
        return next(
            (host for host in hosts if host in self._targets),
            next(
                (
                    target
                    for target, shift, first in self._prefixes
                    if len(target.key) == len(remote) and value >> shift == first >> shift
                ),
                None,
            ),
        )
