"""Questions on the wire, hostile answers, and a resolver against name servers that lie, hang or fail."""

from __future__ import annotations

import select
import socket
import struct
import time
from collections.abc import Callable, Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.decide.impostors import Answer
from tocsin.resolving import (
    AAAA,
    AT_ONCE,
    CNAME,
    FAILED,
    PTR,
    QUERY_S,
    A,
    Reply,
    Resolver,
    WireError,
    question_of,
    reply_of,
)

GOOGLE = "crawl-66-249-66-1.googlebot.com"
REVERSE = "1.66.249.66.in-addr.arpa"


def wire(name: str) -> bytes:
    return b"".join(bytes((len(label),)) + label.encode("latin-1") for label in name.split(".")) + b"\0"


def record(owner: bytes, kind: int, value: bytes, ttl: int = 300) -> bytes:
    return owner + struct.pack("!HHIH", kind, 1, ttl, len(value)) + value


def answered(question: bytes, *records: bytes, code: int = 0, flags: int = 0x8180) -> bytes:
    end = question.index(b"\0", 12) + 5
    return question[:2] + struct.pack("!5H", flags | code, 1, len(records), 0, 0) + question[12:end] + b"".join(records)


def name_asked(question: bytes) -> tuple[str, int]:
    end = question.index(b"\0", 12)
    labels, at = [], 12
    while at < end:
        labels.append(question[at + 1 : at + 1 + question[at]].decode())
        at += 1 + question[at]
    return ".".join(labels), struct.unpack_from("!H", question, end + 1)[0]


SAME = b"\xc0\x0c"


def test_a_question_asks_for_recursion() -> None:
    question = question_of(GOOGLE, A, 0x1234)
    assert question[:12] == bytes.fromhex("1234 0100 0001 0000 0000 0001")
    assert question[12:] == wire(GOOGLE) + b"\0\x01\0\x01" + bytes.fromhex("00 0029 04d0 00000000 0000")
    for name in ("a..b", "a" * 64 + ".com", "\N{SNOWMAN}.com", ""):
        with pytest.raises(ValueError, match=r"no name|ascii"):
            question_of(name, A, 1)


@pytest.mark.parametrize(
    ("kind", "records", "reply"),
    [
        (PTR, [record(SAME, PTR, wire(GOOGLE))], Reply(False, (GOOGLE,), 300)),
        (PTR, [record(SAME, PTR, wire("Crawl.GoogleBot.com"))], Reply(False, ("crawl.googlebot.com",), 300)),
        (PTR, [record(SAME, PTR, wire("a\x1bb.\xe9*"))], Reply(False, ("a?b.??",), 300)),
        (PTR, [record(wire("other.example"), PTR, wire(GOOGLE))], Reply(False)),
        (
            PTR,
            [record(SAME, CNAME, wire("x.example"), 9), record(wire("x.example"), PTR, wire(GOOGLE), 60)],
            Reply(False, (GOOGLE,), 60),
        ),
        (
            A,
            [record(SAME, A, bytes((66, 249, 66, 1)), 7), record(SAME, PTR, wire("b"))],
            Reply(False, ("66.249.66.1",), 7),
        ),
        (AAAA, [record(SAME, AAAA, bytes(15) + b"\x01")], Reply(False, ("::1",), 300)),
        (A, [], Reply(False)),
    ],
)
def test_an_answer_is_read(kind: int, records: list[bytes], reply: Reply) -> None:
    question = question_of(REVERSE, kind, 7)
    assert reply_of(answered(question, *records), question, kind) == reply


def test_a_server_that_fails_or_cuts_short_says_nothing() -> None:
    question = question_of(REVERSE, PTR, 7)
    assert reply_of(answered(question, code=3), question, PTR) == Reply(failed=False)
    for code in (1, 2, 5):
        assert reply_of(answered(question, code=code), question, PTR) is FAILED
    assert reply_of(answered(question, record(SAME, PTR, wire(GOOGLE)), flags=0x8380), question, PTR) is FAILED


@pytest.mark.parametrize(
    "forged",
    [
        lambda _: b"",
        lambda q: b"\xff\xff" + answered(q)[2:],
        lambda q: q,
        lambda _: answered(question_of("other.example", PTR, 7)),
        lambda _: answered(question_of(REVERSE, A, 7)),
        lambda q: answered(q, record(SAME, PTR, b"\xc0\x50"))[:-1],
        lambda q: answered(q, record(SAME, PTR, b"\xc0\x36")),
        lambda q: answered(q, record(SAME, PTR, b"\x50" + b"x" * 80)),
        lambda q: answered(q, b"\0"),
    ],
)
def test_what_is_no_answer_is_none(forged: Callable[[bytes], bytes]) -> None:
    question = question_of(REVERSE, PTR, 7)
    with pytest.raises(WireError):
        reply_of(forged(question), question, PTR)


@given(st.binary(max_size=200), st.integers(0, 250))
def test_no_bytes_do_harm(noise: bytes, cut: int) -> None:
    question = question_of(REVERSE, PTR, 7)
    data = answered(question, record(SAME, PTR, wire(GOOGLE)))
    data = data[:cut] + noise + data[cut + len(noise) :] if cut < 200 else noise
    try:
        assert len("".join(reply_of(data, question, PTR).found)) < 8192
    except WireError:
        return


class NameServer:
    """A name server on the loopback that says of each name what `zone` holds, and nothing of others."""

    def __init__(self, zone: dict[tuple[str, int], list[bytes] | None]) -> None:
        self.zone = zone
        self.socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.socket.bind(("127.0.0.1", 0))
        self.asked: list[tuple[str, int]] = []

    @property
    def place(self) -> tuple[str, int]:
        host, port = self.socket.getsockname()
        return host, port

    def serve(self) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            question, sender = self.socket.recvfrom(4096)
            asked = name_asked(question)
            self.asked.append(asked)
            if asked not in self.zone:
                self.socket.sendto(answered(question, code=3), sender)
            elif (records := self.zone[asked]) is not None:
                self.socket.sendto(b"\0\0" + answered(question, *records)[2:], sender)  # a forger's guess comes first
                self.socket.sendto(answered(question, *records), sender)


@pytest.fixture
def serving() -> Iterator[Callable[[dict[tuple[str, int], list[bytes] | None]], NameServer]]:
    made: list[NameServer] = []

    def make(zone: dict[tuple[str, int], list[bytes] | None]) -> NameServer:
        made.append(NameServer(zone))
        return made[-1]

    yield make
    for server in made:
        server.socket.close()


class Asking:
    """A resolver with a clock of its own."""

    def __init__(self, *servers: tuple[str, int]) -> None:
        self.now_s = 100.0
        self.answers: list[Answer] = []
        self.resolver = Resolver(servers, self.answers.append, lambda: self.now_s, lambda: 5000.0 + self.now_s)

    def settle(self, server: NameServer) -> None:
        end_s = time.monotonic() + 5
        while time.monotonic() < end_s and self.resolver.due_s() < 1e9:
            server.serve()
            if not select.select([self.resolver], [], [], 0.02)[0]:
                return
            self.resolver.receive()


Serving = Callable[[dict[tuple[str, int], list[bytes] | None]], NameServer]


def test_a_crawler_is_called_so_and_the_name_leads_back(serving: Serving) -> None:
    server = serving(
        {
            (REVERSE, PTR): [record(SAME, PTR, wire(GOOGLE), 900)],
            (GOOGLE, A): [record(SAME, A, bytes((66, 249, 66, 1)), 600)],
        }
    )
    asking = Asking(server.place)
    asking.resolver.ask(["66.249.66.1"])
    asking.settle(server)
    assert asking.answers == [Answer("66.249.66.1", 5100.0, "found", (GOOGLE,), (GOOGLE,), 600.0)]
    assert asking.resolver.due_s() == float("inf")
    asking.resolver.close()


def test_an_address_of_version_6(serving: Serving) -> None:
    name = "1" + ".0" * 23 + ".8.b.d.0.1.0.0.2.ip6.arpa"
    host = "crawl.example.googlebot.com"
    address = socket.inet_pton(socket.AF_INET6, "2001:db8::1")
    server = serving({(name, PTR): [record(SAME, PTR, wire(host))], (host, AAAA): [record(SAME, AAAA, address)]})
    asking = Asking(server.place)
    asking.resolver.ask(["2001:db8::1"])
    asking.settle(server)
    assert [answer.confirmed for answer in asking.answers] == [(host,)]
    asking.resolver.close()


def test_a_forged_name_does_not_lead_back_and_others_are_not_asked_for(serving: Serving) -> None:
    forged, other = "9.113.0.203.in-addr.arpa", "4.100.51.198.in-addr.arpa"
    server = serving(
        {
            (REVERSE, PTR): [record(SAME, PTR, wire(GOOGLE))],
            (forged, PTR): [record(SAME, PTR, wire(GOOGLE))],
            (GOOGLE, A): [record(SAME, A, bytes((66, 249, 66, 1)))],
            (other, PTR): [record(SAME, PTR, wire("slow.example.net"))],
        }
    )
    asking = Asking(server.place)
    asking.resolver.ask(["203.0.113.9", "198.51.100.4", "192.0.2.1"])
    asking.settle(server)
    told = {answer.address: (answer.outcome, answer.names, answer.confirmed) for answer in asking.answers}
    assert told == {
        "203.0.113.9": ("found", (GOOGLE,), ()),
        "198.51.100.4": ("found", ("slow.example.net",), ()),
        "192.0.2.1": ("none", (), ()),
    }
    assert ("slow.example.net", A) not in server.asked
    before = server.asked.count((REVERSE, PTR))
    asking.resolver.ask(["192.0.2.2"])
    asking.settle(server)
    assert server.asked.count((REVERSE, PTR)) == before, "believed for an hour"
    asking.resolver.close()


def test_a_server_that_hangs_costs_time_and_nothing_else(serving: Serving) -> None:
    server = serving({(f"{n}.2.0.192.in-addr.arpa", PTR): None for n in range(40)})
    asking = Asking(server.place)
    asking.resolver.ask([f"192.0.2.{n}" for n in range(40)])
    rounds = 0
    while asking.resolver.due_s() < float("inf"):
        assert len(asking.resolver._queries) <= AT_ONCE
        asking.settle(server)
        asking.now_s += QUERY_S
        asking.resolver.tick()
        rounds += 1
        assert rounds < 20
    assert sorted(answer.address for answer in asking.answers) == sorted(f"192.0.2.{n}" for n in range(40))
    assert {answer.outcome for answer in asking.answers} == {"failed"}
    assert len(server.asked) == 80, "each twice"
    asking.resolver.close()


@pytest.mark.parametrize("known", [None, "wildcard.example.net"])
def test_a_server_that_does_not_know_the_world_is_not_believed(serving: Serving, known: str | None) -> None:
    zone: dict[tuple[str, int], list[bytes] | None] = {}
    if known is not None:
        zone = {(REVERSE, PTR): [record(SAME, PTR, wire(known))]}
    server = serving(zone)
    asking = Asking(server.place)
    asking.resolver.ask(["203.0.113.9", "192.0.2.1"])
    asking.settle(server)
    asking.resolver.ask(["198.51.100.4"])
    asking.settle(server)
    assert [answer.outcome for answer in asking.answers] == ["failed"] * 3
    assert server.asked.count((REVERSE, PTR)) <= 2, "not asked again at once"
    asking.resolver.close()


def test_the_next_server_is_asked_where_one_is_not_there(serving: Serving) -> None:
    server = serving({(REVERSE, PTR): [record(SAME, PTR, wire(GOOGLE))]})
    gone = serving({})
    place = gone.place
    gone.socket.close()
    asking = Asking(place, server.place)
    asking.resolver.ask(["66.249.66.1"])
    for _ in range(10):
        asking.settle(server)
        asking.now_s += QUERY_S
        asking.resolver.tick()
    assert [answer.names for answer in asking.answers] == [(GOOGLE,)]
    asking.resolver.close()


def test_without_a_server_every_answer_is_a_failure() -> None:
    asking = Asking()
    asking.resolver.ask(["192.0.2.1"])
    for _ in range(3):
        asking.resolver.tick()
    assert [answer.outcome for answer in asking.answers] == ["failed"]
    asking.resolver.close()
