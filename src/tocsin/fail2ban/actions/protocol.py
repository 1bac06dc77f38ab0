"""What travels between the watcher and the runner of actions: one msgpack map a packet, over a SOCK_SEQPACKET pair.

The kernel keeps the packets apart, so a runner that has died can be replaced at the same socket. The watcher names
jails and hands over values; which commands belong to them the runner has read from the configuration by itself, so that
no watcher, however deceived, can have it run anything else. Decoding is strict and bounded; a ProtocolError says that
the far side is broken.
"""

from __future__ import annotations

import socket
from collections import deque
from typing import Annotated, Generic, Literal, TypeVar

import msgspec
from msgspec import Meta, Struct

from tocsin.fail2ban.actions.tickets import Ticket

MAX_MESSAGE_BYTES = 160 << 10  # has to fit a socket's send buffer whole (212,992 bytes unless raised)
MAX_JAILS = 1000
MAX_NAMES = 200
_PER_RECEIVE = 64

Name = Annotated[str, Meta(max_length=256)]


class ProtocolError(Exception):
    """The far side sent what the protocol does not allow; says what."""


class Begin(Struct, tag="begin", frozen=True):
    """These jails are at work: start the actions of those that were not, stop those of jails no longer named.

    Sent again after a reload; the runner reads the configuration anew before. Answered by Ready.
    """

    jails: Annotated[tuple[Name, ...], Meta(max_length=MAX_JAILS)]


class Run(Struct, tag="run", frozen=True):
    """Run a jail's actions: somebody is banned, no longer, or for longer."""

    jail: Name
    what: Literal["ban", "unban", "prolong"]
    ticket: Ticket


class Ask(Struct, tag="ask", frozen=True):
    """Run the jail's `ignorecommand`. Answered by Answer."""

    id: int
    jail: Name
    ticket: Ticket


class Resolve(Struct, tag="resolve", frozen=True):
    """Look up host names. Answered by a Resolved for each."""

    names: Annotated[tuple[Name, ...], Meta(max_length=MAX_NAMES)]


class Stop(Struct, tag="stop", frozen=True):
    """Run every `actionstop`. Answered by Stopped. Bans are not undone one by one: they stay in force."""


class Ready(Struct, tag="ready", frozen=True):
    """At work. `user` is as whom, `notes` what could not be done as asked. `actions` counts those that are run.

    Said once at the start of the process, with `began` false: a Begin is then wanted, also where one was sent to a
    runner before this one. `forgetful` are the jails with an action whose bans were undone when it was last stopped:
    tell it those in force. `missing` are jails of Begin that its reading of the configuration does not have.
    """

    user: str
    began: bool
    notes: tuple[str, ...] = ()
    actions: int = 0
    forgetful: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


Kind = Literal["failed", "timeout", "refused", "output"]


class Report(Struct, tag="report", frozen=True):
    """A command failed, ran into its time-out, or (`output`) said something.

    `text` is one sentence, with what the command put out, printable and cut. `more` counts the like that went unsaid.
    """

    jail: str
    action: str
    moment: str
    kind: Kind
    text: str
    more: int = 0


class Dropped(Struct, tag="dropped", frozen=True):
    """The jail's queue was full: so many bans and unbans, of those handed over, are not run. Counts since the start."""

    jail: str
    bans: int
    unbans: int


class Done(Struct, tag="done", frozen=True):
    """So many of the jail's Run messages are through, well or not, or dropped. Counts since the start."""

    jail: str
    count: int


class Answer(Struct, tag="answer", frozen=True):
    """The `ignorecommand` ended: `ignore` whom it was asked for, or None where it could not say (`error`)."""

    id: int
    ignore: bool | None
    error: str = ""


class Resolved(Struct, tag="resolved", frozen=True):
    """A host name's addresses, canonical; None where it could not be looked up now."""

    name: str
    addresses: tuple[str, ...] | None


class Restarted(Struct, tag="restarted", frozen=True):
    """An action of the jail had to be started anew and has forgotten its bans: tell it those in force."""

    jail: str
    action: str


class Stopped(Struct, tag="stopped", frozen=True):
    """Every `actionstop` has run."""


ToRunner = Begin | Run | Ask | Resolve | Stop
FromRunner = Ready | Report | Dropped | Done | Answer | Resolved | Restarted | Stopped

T = TypeVar("T")


def pair() -> tuple[socket.socket, socket.socket]:
    """A watcher's and a runner's end."""
    return socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)


class Link(Generic[T]):
    """One end: whole messages in, whole messages out, never waiting. At most `max_queued` wait to be sent."""

    def __init__(self, sock: socket.socket, incoming: object, *, max_queued: int = 2000) -> None:
        self._socket = sock
        sock.setblocking(False)
        self._decoder: msgspec.msgpack.Decoder[T] = msgspec.msgpack.Decoder(incoming)
        self._encoder = msgspec.msgpack.Encoder()
        self._max_queued = max_queued
        self._outgoing: deque[bytes] = deque()

    @property
    def queued(self) -> int:
        """Messages that the socket has not taken yet."""
        return len(self._outgoing)

    def fileno(self) -> int:
        """The socket to wait on: always for reading, for writing while `queued` is not 0."""
        return self._socket.fileno()

    def close(self) -> None:
        """Hang up; what is queued is lost."""
        self._socket.close()

    def push(self, message: Struct) -> bool:
        """Send or queue a message; False where the queue is full. OSError where the far side is gone."""
        packet = self._encoder.encode(message)
        if len(packet) > MAX_MESSAGE_BYTES:
            raise ProtocolError(f"a message of {len(packet)} bytes; at most {MAX_MESSAGE_BYTES} are allowed")
        if len(self._outgoing) >= self._max_queued:
            return False
        self._outgoing.append(packet)
        self.flush()
        return True

    def flush(self) -> None:
        """Send what the socket takes now. OSError where the far side is gone."""
        while self._outgoing:
            try:
                self._socket.send(self._outgoing[0], socket.MSG_NOSIGNAL)
            except BlockingIOError:
                return
            self._outgoing.popleft()

    def receive(self) -> list[T]:
        """Some of the messages that have come. EOFError once the far side has closed; ProtocolError."""
        found: list[T] = []
        for _ in range(_PER_RECEIVE):
            try:
                packet = self._socket.recv(MAX_MESSAGE_BYTES + 1)
            except BlockingIOError:
                break
            except ConnectionResetError as error:
                raise EOFError("the far side is gone") from error
            if not packet:
                if found:
                    break
                raise EOFError("the far side has closed the connection")
            try:
                found.append(self._decoder.decode(packet))
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
                raise ProtocolError(f"not a message of this protocol: {error}") from error
        return found
