"""Asks the DNS who an address is: PTR records, and whether the names that a crawler could have lead back to it.

Nothing here waits. Questions go out as datagrams from sockets of their own (so each has a port of its own, and only the
asked server's answer is received); what comes back wakes an epoll that the watcher's own selector waits on. A server
that hangs costs a few sockets until it has timed out. Every address that was asked for gets an `Answer`, at last with
`failed`. What the wire holds is hostile: lengths are checked, compression only points backwards, names are cut.

That there is no name, or another one, is believed only of servers that know a name that is known to be there: those of
a closed network say of everything that it does not exist, others have an answer of their own for everything.
"""

from __future__ import annotations

import os
import select
import selectors
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from ipaddress import ip_address

from msgspec import Struct

from tocsin.decide.crawlers import HOSTS, is_named
from tocsin.decide.impostors import Answer

AT_ONCE = 16
QUERY_S = 2.0
TRIES = 2
NAMES_MOST = 8
CONFIRMED_MOST = 4
RECORDS_MOST = 64
CHAIN_MOST = 8
NAME_CHARS = 253
DATAGRAM_BYTES = 4096
PAYLOAD_BYTES = 1232
PORT = 53

A, CNAME, PTR, AAAA, OPT = 1, 5, 12, 28, 41
NOERROR, NXDOMAIN = 0, 3

PATTERNS = tuple(dict.fromkeys(pattern for hosts in HOSTS.values() for pattern in (*hosts.patterns, *hosts.kin)))
"""The names that are worth asking whether they lead back."""

# Google's own example of a crawler's address and its name, for as long as it has told how to verify one
KNOWN_ADDRESS, KNOWN_PATTERNS = "66.249.66.1", HOSTS["Googlebot"].patterns
TRUSTED_S, BLIND_S = 3600.0, 60.0

Server = tuple[str, int]


class WireError(ValueError):
    """An answer that is none."""


class Reply(Struct, frozen=True):
    """What a server said to one question: names or addresses, and the shortest time to live. `failed`: nothing."""

    failed: bool
    found: tuple[str, ...] = ()
    ttl_s: float = 0.0


FAILED = Reply(failed=True)


# -- the wire ----------------------------------------------------------------------------------------------------------


def question_of(name: str, kind: int, number: int) -> bytes:
    """A recursive question, with room for more than 512 bytes of answer. ValueError where it is no name."""
    labels = name.rstrip(".").encode("ascii").split(b".")
    if not all(0 < len(label) < 64 for label in labels):
        raise ValueError(f"no name of a host: {name[:NAME_CHARS]!r}")
    asked = b"".join(bytes((len(label),)) + label for label in labels) + b"\0"
    extra = b"\0" + struct.pack("!HHIH", OPT, PAYLOAD_BYTES, 0, 0)
    return struct.pack("!6H", number, 0x0100, 1, 0, 0, 1) + asked + struct.pack("!HH", kind, 1) + extra


def reply_of(data: bytes, question: bytes, kind: int) -> Reply:
    """What an answer says to a question: the records of its kind, through aliases. WireError where it is no answer to
    it at all (a forger's, a stray one).
    """
    if len(data) < 12:
        raise WireError("too short")
    number, flags, questions, answers = struct.unpack_from("!4H", data)
    asked = question[12 : question.index(b"\0", 12) + 5]
    echoed = data[12 : 12 + len(asked)]
    if number != int.from_bytes(question[:2], "big") or not flags & 0x8000 or questions != 1:
        raise WireError("another question's")
    if echoed.lower() != asked.lower():
        raise WireError("another question's")
    code = flags & 0xF
    if code not in (NOERROR, NXDOMAIN) or flags & 0x0200:  # cut short: nobody can tell what is missing
        return FAILED
    return _records(data, 12 + len(asked), answers, kind)


def _records(data: bytes, at: int, count: int, kind: int) -> Reply:
    """The records of a kind whose owner is the name that was asked for, or an alias of it."""
    owners, found, ttls = {_name(data, 12)[0]}, [], []
    for _ in range(min(count, RECORDS_MOST)):
        owner, at = _name(data, at)
        if at + 10 > len(data):
            raise WireError("too short")
        this, _, ttl, length = struct.unpack_from("!HHIH", data, at)
        at += 10
        if at + length > len(data):
            raise WireError("too short")
        if owner in owners and this == CNAME and len(owners) < CHAIN_MOST:
            owners.add(_name(data, at)[0])
        elif owner in owners and this == kind:
            found.append(_value(data, at, length, kind))
            ttls.append(float(ttl))
        at += length
    return Reply(failed=False, found=tuple(dict.fromkeys(found)), ttl_s=min(ttls, default=0.0))


def _value(data: bytes, at: int, length: int, kind: int) -> str:
    if kind == PTR:
        return _name(data, at)[0]
    if length != (4 if kind == A else 16):
        raise WireError("no address")
    return str(ip_address(data[at : at + length]))


def _name(data: bytes, at: int) -> tuple[str, int]:
    """A name in small letters, what no host may have in it as `?`, and where the data goes on."""
    labels: list[str] = []
    after, least, chars = 0, at, 0
    while True:
        if at >= len(data):
            raise WireError("too short")
        length = data[at]
        if length >= 0xC0:
            if at + 1 >= len(data):
                raise WireError("too short")
            after = after or at + 2
            at = (length & 0x3F) << 8 | data[at + 1]
            if at >= least:
                raise WireError("points forwards")
            least = at
        elif length > 63 or chars > NAME_CHARS:
            raise WireError("no name")
        elif length == 0:
            return ".".join(labels), after or at + 1
        else:
            labels.append(_label(data[at + 1 : at + 1 + length]))
            chars += length + 1
            at += 1 + length


def _label(raw: bytes) -> str:
    return "".join(chr(code) if chr(code) in _HOST_CHARS else "?" for code in raw.lower())


_HOST_CHARS = frozenset("abcdefghijklmnopqrstuvwxyz0123456789-_")


# -- asking ------------------------------------------------------------------------------------------------------------


class _Query:
    """One question on its way, with the socket that its answer comes to."""

    def __init__(self, name: str, kind: int, done: Callable[[Reply], None]) -> None:
        self.name, self.kind, self.done = name, kind, done
        self.tries = 0
        self.sent = b""
        self.socket: socket.socket | None = None
        self.due_s = 0.0


class _Lookup:
    """What is known so far of an address."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.names: tuple[str, ...] = ()
        self.ttl_s = 0.0
        self.asked: list[str] = []
        self.confirmed: list[str] = []
        self.failed = False


class Resolver:
    """Looks up addresses by `servers`, a few at once, the others in turn. `on_answer` hears of each, from `receive`,
    `tick` or `ask`. `clock` is monotonic, `now` gives the time that answers bear.
    """

    def __init__(
        self,
        servers: Sequence[Server],
        on_answer: Callable[[Answer], None],
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.servers = tuple(servers)
        self.on_answer = on_answer
        self._clock, self._now = clock, now
        self._selector = selectors.EpollSelector()
        self._queue: deque[str] = deque()
        self._lookups = 0
        self._queries: set[_Query] = set()
        self._trusted_until_s = self._blind_until_s = float("-inf")

    def fileno(self) -> int:
        """Readable when an answer has come."""
        return self._selector.fileno()

    def ask(self, addresses: Iterable[str]) -> None:
        """Look these up, after what is asked already."""
        self._queue.extend(addresses)
        self._go_on()

    def receive(self) -> None:
        """Take the answers that have come."""
        for key, _ in self._selector.select(0):
            query: _Query = key.data
            if query not in self._queries or query.socket is None:
                continue
            try:
                reply = reply_of(query.socket.recv(DATAGRAM_BYTES), query.sent, query.kind)
            except WireError:  # not the answer that we wait for
                continue
            except OSError:  # nobody listens there
                self._again(query)
                continue
            self._end(query, reply)
        self._go_on()

    def tick(self) -> None:
        """Give up what has taken too long."""
        now_s = self._clock()
        for query in [query for query in self._queries if query.due_s <= now_s]:
            self._again(query)
        self._go_on()

    def due_s(self) -> float:
        """When `tick` is next of use, by the monotonic clock; infinity: it is not."""
        return min((query.due_s for query in self._queries), default=float("inf"))

    def close(self) -> None:
        """Let go; what was asked stays without an answer."""
        for query in self._queries:
            self._drop(query)
        self._queries.clear()
        self._queue.clear()
        self._selector.close()

    # -- one address -------------------------------------------------------------------------------------------------

    def _go_on(self) -> None:
        while self._queue and self._lookups < AT_ONCE:
            lookup = _Lookup(self._queue.popleft())
            self._lookups += 1
            name = ip_address(lookup.address).reverse_pointer
            self._send(_Query(name, PTR, lambda reply, lookup=lookup: self._named(lookup, reply)))  # type: ignore[misc]

    def _named(self, lookup: _Lookup, reply: Reply) -> None:
        if reply.failed:
            lookup.failed = True
            self._finish(lookup)
            return
        lookup.names, lookup.ttl_s = reply.found[:NAMES_MOST], reply.ttl_s
        lookup.asked = [name for name in lookup.names if is_named(name, PATTERNS)][:CONFIRMED_MOST]
        self._confirm(lookup)

    def _confirm(self, lookup: _Lookup) -> None:
        """Ask whether the next of the names leads back, or finish."""
        if not lookup.asked:
            self._weigh(lookup)
            return
        name = lookup.asked.pop(0)
        kind = AAAA if ":" in lookup.address else A
        self._send(_Query(name, kind, lambda reply: self._led_back(lookup, name, reply)))

    def _led_back(self, lookup: _Lookup, name: str, reply: Reply) -> None:
        if reply.failed:
            lookup.failed = True
        elif str(ip_address(lookup.address)) in reply.found:
            lookup.confirmed.append(name)
            lookup.ttl_s = min(lookup.ttl_s, reply.ttl_s)
        self._confirm(lookup)

    def _weigh(self, lookup: _Lookup) -> None:
        """Finish; but what could prove an impostor only where the servers are to be believed."""
        now_s = self._clock()
        if lookup.confirmed or lookup.failed or now_s < self._trusted_until_s:
            self._finish(lookup)
        elif now_s < self._blind_until_s:
            lookup.failed = True
            self._finish(lookup)
        else:
            name = ip_address(KNOWN_ADDRESS).reverse_pointer
            self._send(_Query(name, PTR, lambda reply: self._tried(lookup, reply)))

    def _tried(self, lookup: _Lookup, reply: Reply) -> None:
        if any(is_named(name, KNOWN_PATTERNS) for name in reply.found):
            self._trusted_until_s = self._clock() + TRUSTED_S
        else:
            self._blind_until_s = self._clock() + BLIND_S
            lookup.failed = True
        self._finish(lookup)

    def _finish(self, lookup: _Lookup) -> None:
        self._lookups -= 1
        names, confirmed = lookup.names, tuple(lookup.confirmed)
        if lookup.failed and not confirmed:
            answer = Answer(lookup.address, self._now(), "failed", names)
        else:
            answer = Answer(lookup.address, self._now(), "found" if names else "none", names, confirmed, lookup.ttl_s)
        self.on_answer(answer)

    # -- one question ------------------------------------------------------------------------------------------------

    def _send(self, query: _Query) -> None:
        """Send it to the next server; where that cannot be, it has failed."""
        server = self.servers[query.tries % len(self.servers)] if self.servers else None
        query.tries += 1
        query.due_s = self._clock() + QUERY_S
        self._queries.add(query)
        try:
            query.sent = question_of(query.name, query.kind, int.from_bytes(os.urandom(2), "big"))
            query.socket = _connected(server)
            self._selector.register(query.socket, selectors.EVENT_READ, query)
            query.socket.send(query.sent)
        except (OSError, ValueError):
            query.due_s = 0.0  # the next tick goes on with it: here, many of them would call each other

    def _again(self, query: _Query) -> None:
        self._drop(query)
        if query.tries < TRIES:
            self._send(query)
        else:
            self._end(query, FAILED)

    def _end(self, query: _Query, reply: Reply) -> None:
        self._drop(query)
        self._queries.discard(query)
        query.done(reply)

    def _drop(self, query: _Query) -> None:
        if query.socket is not None:
            if query.socket in self._selector.get_map():
                self._selector.unregister(query.socket)
            query.socket.close()
            query.socket = None


def _connected(server: Server | None) -> socket.socket:
    if server is None:
        raise OSError("no name server is known")
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    made = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK | socket.SOCK_CLOEXEC)
    try:
        made.connect(server)
    except OSError:
        made.close()
        raise
    return made


def is_blind(servers: Sequence[Server]) -> bool:
    """Whether these servers do not know a name that is there, so that nothing can be proven by names. Waits for them,
    some seconds at most.
    """
    answers: list[Answer] = []
    resolver = Resolver(servers, answers.append)
    resolver.ask([KNOWN_ADDRESS])
    while not answers:
        wait_s = max(0.0, min(resolver.due_s() - time.monotonic(), QUERY_S))
        if select.select([resolver], [], [], wait_s)[0]:
            resolver.receive()
        resolver.tick()
    resolver.close()
    return not any(is_named(name, KNOWN_PATTERNS) for name in answers[0].names)
