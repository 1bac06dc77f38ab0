"""AF_NETLINK by hand: messages, attributes, requests and dumps. No packet library, a few microseconds a message.

Layouts: linux/netlink.h, linux/netfilter/nfnetlink.h. Headers are in host byte order; what nf_tables puts into
attributes is big-endian. Lengths of attributes exclude their padding to 4 bytes.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NETLINK_ROUTE = 0
NETLINK_SOCK_DIAG = 4
NETLINK_NETFILTER = 12

NLM_F_REQUEST, NLM_F_MULTI, NLM_F_ACK, NLM_F_ECHO, NLM_F_DUMP_INTR, NLM_F_DUMP = 0x1, 0x2, 0x4, 0x8, 0x10, 0x300
NLMSG_ERROR, NLMSG_DONE, NLMSG_OVERRUN = 0x2, 0x3, 0x4
NLA_F_NESTED = 0x8000
NLA_TYPE_MASK = 0x3FFF

HEADER = struct.Struct("=IHHII")
ATTRIBUTE = struct.Struct("=HH")
NFGENMSG = struct.Struct("!BBH")
_ERRNO = struct.Struct("=i")

# The kernel fills a dump's buffers up to 32 KiB when the reader offers that much: linux/net/netlink/af_netlink.c,
# netlink_recvmsg. Fewer, fuller buffers matter: a hash set's walk begins anew, skipping, for each of them. From 64 KiB
# on glibc would map and unmap each buffer (supervise.ALLOCATOR): 0.1 ms of the one for a ban that nobody waited for.
RECEIVE_BYTES = 60 << 10

# Requests sent at once: their answers have to fit the socket's receive queue, each counted as a page and more.
_WINDOW = 32


class Message(NamedTuple):
    """One netlink message; its payload is `buffer[start:end]`."""

    type: int
    flags: int
    sequence: int
    port_id: int
    buffer: bytes
    start: int
    end: int


class NetlinkError(OSError):
    """The kernel refused a request; `errno` says why."""

    def __init__(self, code: int, what: str) -> None:
        super().__init__(code, f"{what}: {os.strerror(code)}")


class Interrupted(Exception):  # noqa: N818  it is a signal to read again, not an error
    """What was dumped changed meanwhile: some of it may be missing or doubled."""


def attribute(kind: int, payload: bytes) -> bytes:
    """One attribute, padded to 4 bytes."""
    size = ATTRIBUTE.size + len(payload)
    return ATTRIBUTE.pack(size, kind) + payload + bytes(-size % 4)


def nested(kind: int, *parts: bytes) -> bytes:
    """An attribute that holds attributes."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def message(kind: int, flags: int, payload: bytes, sequence: int = 1) -> bytes:
    """One message with its header; the kernel fills in the sender's port."""
    return HEADER.pack(HEADER.size + len(payload), kind, flags | NLM_F_REQUEST, sequence, 0) + payload


def attributes(buffer: bytes, start: int, end: int) -> Iterator[tuple[int, int, int]]:
    """(type, start, end) of each attribute between start and end; stops where a length makes no sense."""
    while start + 4 <= end:
        size, kind = ATTRIBUTE.unpack_from(buffer, start)
        if size < 4 or start + size > end:
            return
        yield kind & NLA_TYPE_MASK, start + 4, start + size
        start += (size + 3) & ~3


def find(buffer: bytes, start: int, end: int, *path: int) -> tuple[int, int] | None:
    """Where the payload of the attribute at the end of a path of nested types lies, or None."""
    span: tuple[int, int] | None = (start, end)
    for wanted in path:
        if span is None:
            return None
        span = next(((low, high) for kind, low, high in attributes(buffer, *span) if kind == wanted), None)
    return span


def messages(buffer: bytes) -> Iterator[Message]:
    """The messages of one datagram."""
    start = 0
    while start + HEADER.size <= len(buffer):
        size, kind, flags, sequence, port_id = HEADER.unpack_from(buffer, start)
        if size < HEADER.size or start + size > len(buffer):
            return
        yield Message(kind, flags, sequence, port_id, buffer, start + HEADER.size, start + size)
        start += (size + 3) & ~3


def error_code(reply: Message) -> int:
    """The positive errno of an NLMSG_ERROR message, 0 for an acknowledgement."""
    return -int(_ERRNO.unpack_from(reply.buffer, reply.start)[0])


class Netlink:
    """A netlink socket that asks and is answered, one request at a time. Not for events.

    `dump` yields datagram by datagram and leaves time between them for other work; it has to be read to its end before
    the socket is used for something else (the kernel runs one dump a socket), or the socket closed.
    """

    def __init__(self, protocol: int, timeout_s: float = 5.0) -> None:
        self._socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol)
        self._socket.bind((0, 0))
        self._socket.settimeout(timeout_s)
        self._sequence = 0

    def close(self) -> None:
        """Release the socket."""
        self._socket.close()

    def request(self, kind: int, flags: int, payload: bytes, what: str) -> Message:
        """Send one request; the answer, or the acknowledgement where there is none. Raises NetlinkError."""
        self._sequence += 1
        self._socket.send(message(kind, flags, payload, self._sequence))
        while True:
            for reply in messages(self._socket.recv(RECEIVE_BYTES)):
                if reply.sequence != self._sequence:
                    continue
                if reply.type == NLMSG_ERROR and error_code(reply):
                    raise NetlinkError(error_code(reply), what)
                return reply

    def ask(self, kind: int, payloads: Sequence[bytes]) -> Iterator[bytes]:
        """Send many requests, each with one answer of one message; the datagrams in order, errors among them."""
        for start in range(0, len(payloads), _WINDOW):
            part = payloads[start : start + _WINDOW]
            first = self._sequence + 1
            self._sequence += len(part)
            self._socket.send(b"".join([message(kind, 0, payload, first + n) for n, payload in enumerate(part)]))
            expected = first
            while expected <= self._sequence:
                datagram = self._socket.recv(RECEIVE_BYTES)
                if HEADER.unpack_from(datagram)[3] == expected:
                    expected += 1
                    yield datagram

    def echoed(self, whole: bytes | bytearray, kind: int) -> list[bytes]:
        """Send messages as they are; the answers of this type. NLM_F_ECHO asks for those: what was really done.

        For a socket with no time-out: all has been answered by the time that `send` returns, and is taken in here.
        """
        self._socket.send(whole)
        found: list[bytes] = []
        while True:
            try:
                reply = self._socket.recv(RECEIVE_BYTES)
            except BlockingIOError:
                return found
            if HEADER.unpack_from(reply)[1] == kind:
                found.append(reply)

    def transact(self, parts: Sequence[tuple[int, int, bytes]]) -> int:
        """Send messages (type, flags, payload) as one; the first errno among the answers, 0 where there is none.

        The kernel has answered all by the time that they are sent: those with NLM_F_ACK, and those that failed.
        """
        first = self._sequence + 1
        self._sequence += len(parts)
        self._socket.send(b"".join([message(*part, first + n) for n, part in enumerate(parts)]))
        awaited = sum(bool(flags & NLM_F_ACK) for _, flags, _ in parts)
        code = 0
        while awaited > 0:
            for reply in messages(self._socket.recv(RECEIVE_BYTES)):
                if reply.sequence < first or reply.type != NLMSG_ERROR:
                    continue
                awaited -= 1
                if failure := error_code(reply):
                    code = code or failure
                    if reply.sequence == first:
                        return code  # about the whole: nothing else is answered
        return code

    def dump(self, kind: int, payload: bytes, what: str) -> Iterator[list[Message]]:
        """Send a dump request; yields the messages of one datagram at a time.

        Raises NetlinkError, and Interrupted after the last datagram where the kernel says that the dumped thing
        changed between two of them. ENOBUFS cannot happen to a dump: the kernel waits for the reader.
        """
        self._sequence += 1
        self._socket.send(message(kind, NLM_F_DUMP, payload, self._sequence))
        interrupted = done = False
        while not done:
            batch = []
            for reply in messages(self._socket.recv(RECEIVE_BYTES)):
                if reply.sequence != self._sequence:
                    continue
                interrupted = interrupted or bool(reply.flags & NLM_F_DUMP_INTR)
                if reply.type in (NLMSG_DONE, NLMSG_ERROR):
                    done = True
                    if code := error_code(reply) or (errno.EIO if reply.type == NLMSG_ERROR else 0):
                        raise NetlinkError(code, what)
                else:
                    batch.append(reply)
            yield batch
        if interrupted:
            raise Interrupted(what)
