"""The control socket: one request, one answer; who is silent, sends too much or sends nonsense costs nothing."""

from __future__ import annotations

import json
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tocsin.control import (
    CLIENT_WITHIN_S,
    CLIENTS_AT_MOST,
    REQUEST_BYTES,
    ControlServer,
    GuardUnavailableError,
    Reply,
    Request,
    ask,
)

DEADLINE_S = 5.0


class Served:
    """A server in this thread's event loop, and clients that speak to it."""

    def __init__(self, folder: Path, answer: Callable[[Request], Reply]) -> None:
        self.path = folder / "control.sock"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(64)
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(self.listener, self.selector, answer)

    def client(self) -> socket.socket:
        client = socket.socket(socket.AF_UNIX)
        client.settimeout(DEADLINE_S)
        client.connect(str(self.path))
        return client

    def turn(self) -> None:
        """Serve what is there."""
        while ready := self.selector.select(0):
            for key, _ in ready:
                key.data()

    def told(self, sent: bytes) -> dict[str, Any] | None:
        """What a client that sends this hears; None where the connection ends without an answer."""
        with self.client() as client:
            for at in range(0, len(sent), 1 << 15):
                self.turn()
                try:
                    client.sendall(sent[at : at + (1 << 15)])
                except (BrokenPipeError, ConnectionResetError):
                    break
            self.turn()
            return heard(client)

    def close(self) -> None:
        for client in list(self.server.clients):
            client.close()
        self.listener.close()
        self.selector.close()


def heard(client: socket.socket) -> dict[str, Any] | None:
    """All that comes until the connection ends."""
    data = b""
    try:
        while piece := client.recv(1 << 16):
            data += piece
    except ConnectionResetError:
        return None
    reply: dict[str, Any] | None = json.loads(data) if data else None
    return reply


def echo(request: Request) -> Reply:
    return {"heard": request}


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Served]:
    made = Served(tmp_path, echo)
    yield made
    made.close()


def test_one_request_one_answer(served: Served) -> None:
    assert served.told(b'{"cmd": "status"}\n') == {"heard": {"cmd": "status"}}
    assert not served.server.clients


def test_a_request_may_come_in_pieces(served: Served) -> None:
    with served.client() as client:
        for piece in (b'{"cmd"', b': "sta', b'tus"}', b"\n"):
            served.turn()
            client.sendall(piece)
        served.turn()
        assert heard(client) == {"heard": {"cmd": "status"}}


BAD = (
    b"\n",
    b"nonsense\n",
    b"{\n",
    b"\xff\xfe\n",
    b"[1]\n",
    b'"x"\n',
    b"null\n",
    b"NaN\n",
    b'{"a":1} {"b":2}\n',
    b"9" * 5000 + b"\n",
    b"[" * 30_000 + b"\n",
    b'{"a":' * 10_000 + b"\n",
)


@pytest.mark.parametrize("sent", BAD, ids=range(len(BAD)))
def test_nonsense_is_answered_and_the_server_goes_on(served: Served, sent: bytes) -> None:
    reply = served.told(sent)
    assert reply is not None
    assert reply["error"]
    assert served.told(b'{"cmd": "x"}\n') == {"heard": {"cmd": "x"}}


def test_who_sends_too_much_is_dropped(served: Served) -> None:
    assert served.told(b"x" * (REQUEST_BYTES * 4)) is None
    assert not served.server.clients
    assert served.told(b'{"cmd": "x"}\n') == {"heard": {"cmd": "x"}}


def test_who_says_nothing_is_dropped_in_time(served: Served) -> None:
    with served.client() as silent, served.client() as halfway:
        halfway.sendall(b'{"cmd"')
        served.turn()
        now_s = time.monotonic()
        served.server.drop_silent(now_s + CLIENT_WITHIN_S - 0.5)
        assert len(served.server.clients) == 2
        served.server.drop_silent(now_s + CLIENT_WITHIN_S + 0.5)
        assert not served.server.clients
        assert heard(silent) is None
        assert heard(halfway) is None


def test_who_leaves_is_forgotten(served: Served) -> None:
    served.client().close()
    leaving = served.client()
    leaving.sendall(b'{"cmd": "x"}\n')
    leaving.close()
    served.turn()
    assert not served.server.clients


def test_too_many_clients_are_turned_away_and_room_is_made(served: Served) -> None:
    crowd = [served.client() for _ in range(CLIENTS_AT_MOST)]
    served.turn()
    assert len(served.server.clients) == CLIENTS_AT_MOST
    with served.client() as late:
        served.turn()
        assert heard(late) is None
    for client in crowd:
        client.close()
    served.turn()
    assert served.told(b'{"cmd": "x"}\n') == {"heard": {"cmd": "x"}}


def test_an_answer_that_nobody_reads_holds_nobody_up(tmp_path: Path) -> None:
    served = Served(tmp_path, lambda _request: {"much": "x" * (8 << 20)})
    try:
        with served.client() as client:
            client.sendall(b'{"cmd": "x"}\n')
            began_s = time.monotonic()
            served.turn()
            assert time.monotonic() - began_s < 2.0
            assert not served.server.clients
    finally:
        served.close()


def test_asking_a_guard(served: Served, tmp_path: Path) -> None:
    stop = threading.Event()

    def serve() -> None:
        until_s = time.monotonic() + DEADLINE_S
        while not stop.is_set() and time.monotonic() < until_s:
            for key, _ in served.selector.select(0.05):
                key.data()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ask(tmp_path, {"cmd": "status"}) == {"heard": {"cmd": "status"}}
        assert ask(tmp_path, {"text": "x" * 10_000}) == {"heard": {"text": "x" * 10_000}}
        with pytest.raises(GuardUnavailableError):
            ask(tmp_path, {"text": "x" * (REQUEST_BYTES * 2)})
    finally:
        stop.set()
        thread.join()


def test_asking_where_no_guard_is(tmp_path: Path) -> None:
    with pytest.raises(GuardUnavailableError, match=r"no guard is running .*tocsin guard"):
        ask(tmp_path, {"cmd": "status"})
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(tmp_path / "control.sock"))
    with pytest.raises(GuardUnavailableError, match="does not answer"):
        ask(tmp_path, {"cmd": "status"})


def test_a_guard_that_is_stuck_is_not_waited_for(tmp_path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as stuck:
        stuck.bind(str(tmp_path / "control.sock"))
        stuck.listen()
        with pytest.raises(GuardUnavailableError, match="does not answer"):
            ask(tmp_path, {"cmd": "status"}, within_s=0.1)
