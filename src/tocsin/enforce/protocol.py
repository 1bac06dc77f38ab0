"""What travels between watcher and enforcer: length-prefixed msgpack over a stream socket pair.

A frame is a 4-byte big-endian length and that many bytes of one msgpack map, tagged by `type`. Frames and their parts
are bounded, decoding is strict, and every violation is a ProtocolError: the far side is broken or hostile, and the
connection is to be closed. Order is kept; an answer carries the `id` of its request.
"""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import TYPE_CHECKING, Annotated, Generic, TypeVar

import msgspec
from msgspec import Meta, Struct

from tocsin.enforce.subjects import HASH_PREFIX, KEY_BYTES, Target, is_service_set, kind_of, render_target, services_of
from tocsin.enforce.webserver import MAX_SPARED
from tocsin.model import Op, Receipt, Signature, target_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tocsin.enforce.elements import Element

MAX_MESSAGE_BYTES = 8 << 20
MAX_OPS = 20_000
MAX_LOOKS = 2_000
_LENGTH = struct.Struct("!I")
_RECEIVE_BYTES = 60 << 10  # below what glibc maps apart, as netlink.RECEIVE_BYTES


class ProtocolError(Exception):
    """The far side sent what the protocol does not allow; says what."""


class Apply(Struct, tag="apply", frozen=True):
    """Bring these Ops into the kernel. Answered by Receipts, one for each Op, in order."""

    id: int
    ops: Annotated[list[Op], Meta(max_length=MAX_OPS)]


class Read(Struct, tag="read", frozen=True):
    """Tell all that the kernel holds. Answered by Actual messages, the last of them marked.

    For a start and after Changed. With 100,000 elements it keeps the kernel busy for about a second, in which a ban
    waits up to 4 ms: counters are better asked for with Look.
    """

    id: int


class Look(Struct, tag="look", frozen=True):
    """Tell about these targets. Answered as Read is; what is not in force is left out. About 20 microseconds each."""

    id: int
    subjects: Annotated[list[str], Meta(max_length=MAX_LOOKS)]


class Deny(Struct, tag="deny", frozen=True):
    """Have the web server turn away a class of requests until `end_ts`, but for those from `spare`. Answered by Denied.

    `asks`: only until the browser that sends them shows a cookie, which the answer sets.
    `decision` is the id by which `Allow` takes it back. A further one of the same class takes the first one's place.
    """

    id: int
    decision: str
    signature: Signature
    spare: Annotated[list[str], Meta(max_length=MAX_SPARED)]
    end_ts: float
    asks: bool = False


class Allow(Struct, tag="allow", frozen=True):
    """Turn away no more what `decision` says. Answered by Denied."""

    id: int
    decision: str


class Probe(Struct, tag="probe", frozen=True):
    """Prove that a ban works. Answered by Probed."""

    id: int


class Ping(Struct, tag="ping", frozen=True):
    """Are you there? Answered by Pong."""

    id: int


class Receipts(Struct, tag="receipts", frozen=True):
    """What happened to the Ops of Apply `id`.

    They leave as soon as the kernel has the elements. Destroying the sockets of those banned comes after; where there
    were any, the Receipts concerned follow once more, with their number and `revised` true, in place of the first.
    """

    id: int
    receipts: list[Receipt]
    revised: bool = False


class Denied(Struct, tag="denied", frozen=True):
    """What happened to a Deny or an Allow: the web server has it (or not, and why not)."""

    id: int
    receipt: Receipt


class Actual(Struct, tag="actual", frozen=True):
    """A part of what the kernel holds, packed: see `pack_elements` and `unpack_elements`.

    `whole` is False in the last part where the sets changed so fast that even repeated reading may have missed or
    doubled some elements; `error` says why they could not be read at all.
    """

    id: int
    set: str
    rows: bytes
    last: bool = False
    whole: bool = True
    error: str = ""


class Changed(Struct, tag="changed", frozen=True):
    """Somebody else changed the table (or may have): look again. At most a few a second, whatever happens."""

    reason: str


class Step(Struct, frozen=True):
    """One step of a self-test; `remedy` says what to do where it failed. Bans work without those not `required`."""

    name: str
    ok: bool
    detail: str = ""
    remedy: str = ""
    required: bool = True


class Probed(Struct, tag="probed", frozen=True):
    """The self-test's result: `ok` where a ban really works."""

    id: int
    ok: bool
    steps: list[Step]


class Pong(Struct, tag="pong", frozen=True):
    """Still here."""

    id: int


ToEnforcer = Apply | Read | Look | Deny | Allow | Probe | Ping
FromEnforcer = Receipts | Actual | Changed | Denied | Probed | Pong


class Banned(Struct, frozen=True, gc=False):
    """One element in force, by its target: until when (None: for good), and what it has stopped since it was put in.

    A renewal may begin the counters anew; kernels from 6.12 on can prolong an element as it stands.
    """

    subject: str
    end_ts: float | None
    packets: int
    bytes: int


def _row(set_name: str) -> struct.Struct:
    return struct.Struct(f"!{KEY_BYTES[set_name]}sBqQQ")


_ROWS = {name: _row(name) for name in KEY_BYTES}


def pack_elements(set_name: str, elements: Iterable[Element], now_ts: float) -> bytes:
    """Rows of (key, prefix, end in Unix milliseconds or -1, packets, bytes): 29 or 41 bytes each.

    `now_ts` is when the elements were read: reading a large set takes a while, an end does not depend on it.
    """
    pack, now_ms = _ROWS[kind_of(set_name)].pack, int(now_ts * 1000)
    return b"".join(
        [
            pack(key, prefix, -1 if remaining_ms < 0 else now_ms + remaining_ms, packets, octets)
            for key, prefix, remaining_ms, packets, octets in elements
        ]
    )


def rows_of(set_name: str, rows: bytes, limit_bytes: int) -> Iterator[bytes]:
    """The same rows in pieces of at most `limit_bytes`, cut between rows; one empty piece where there are none."""
    size = _ROWS[kind_of(set_name)].size
    step = limit_bytes // size * size
    yield rows[:step]
    for start in range(step, len(rows), step):
        yield rows[start : start + step]


def unpack_elements(part: Actual) -> Iterator[Banned]:
    """The elements of one Actual message. Raises ProtocolError where the rows are none."""
    kind, services = kind_of(part.set), services_of(part.set)
    row = _ROWS.get(kind)
    if row is None or len(part.rows) % row.size or not (part.set in _ROWS or is_service_set(part.set)):
        raise ProtocolError(f"elements of an unknown set or size: {part.set!r:.40}, {len(part.rows)} bytes")
    hash_prefix = HASH_PREFIX.get(kind)
    for key, prefix, end_ms, packets, octets in row.iter_unpack(part.rows):
        subject = render_target(Target(kind, key, hash_prefix or prefix))
        yield Banned(target_of(subject, services), None if end_ms < 0 else end_ms / 1000, packets, octets)


T = TypeVar("T")


class Channel(Generic[T]):
    """One end of the socket pair: frames in, frames out, never waiting.

    What the socket does not take at once is kept, up to `max_queued_bytes`; `push` takes no more beyond that.
    """

    def __init__(self, sock: socket.socket, incoming: object, *, max_queued_bytes: int = 16 << 20) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._max_queued_bytes = max_queued_bytes
        self._incoming = bytearray()
        self._outgoing: deque[memoryview] = deque()
        self.queued_bytes = 0

    def fileno(self) -> int:
        """The socket to wait on: always for reading, for writing while `queued_bytes` is not 0."""
        return self._socket.fileno()

    def close(self) -> None:
        """Close the socket; what is queued is lost."""
        self._socket.close()

    def push(self, message: Struct) -> bool:
        """Queue a message and send what goes; False (and nothing queued) where the queue is full.

        Raises OSError (EPIPE, ECONNRESET) where the far side is gone.
        """
        payload = self._encoder.encode(message)
        if len(payload) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message of {len(payload)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        if self.queued_bytes and self.queued_bytes + len(payload) > self._max_queued_bytes:
            return False
        frame = _LENGTH.pack(len(payload)) + payload
        self._outgoing.append(memoryview(frame))
        self.queued_bytes += len(frame)
        self.flush()
        return True

    def flush(self) -> None:
        """Send what the socket takes now. Raises OSError where the far side is gone."""
        while self._outgoing:
            try:
                sent = self._socket.send(self._outgoing[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            self.queued_bytes -= sent
            if sent == len(self._outgoing[0]):
                self._outgoing.popleft()
            else:
                self._outgoing[0] = self._outgoing[0][sent:]

    def receive(self) -> list[T]:
        """The messages that have come whole, perhaps none. EOFError once the far side has closed; ProtocolError.

        At most about one buffer is read in a call, so that a busy far side does not keep the caller from its work.
        """
        try:
            data = self._socket.recv(_RECEIVE_BYTES)
        except BlockingIOError:
            return []
        except ConnectionResetError as error:
            raise EOFError("the far side is gone") from error
        if not data:
            raise EOFError("the far side has closed the connection")
        self._incoming += data
        found: list[T] = []
        start = 0
        while len(self._incoming) - start >= _LENGTH.size:
            (length,) = _LENGTH.unpack_from(self._incoming, start)
            if length > MAX_MESSAGE_BYTES:
                raise ProtocolError(f"a message of {length} bytes announced; at most {MAX_MESSAGE_BYTES} are allowed")
            end = start + _LENGTH.size + length
            if end > len(self._incoming):
                break
            found.append(self._decode(bytes(self._incoming[start + _LENGTH.size : end])))
            start = end
        del self._incoming[:start]
        return found

    def _decode(self, payload: bytes) -> T:
        try:
            return self._decoder.decode(payload)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise ProtocolError(f"not a message of this protocol: {error}") from error
