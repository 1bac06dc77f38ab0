"""The running guard's control socket: one JSON object in, one JSON object out, then the connection ends.

The supervisor makes the socket (root's, mode 0660), so whoever can open it may steer the guard. The server side never
waits for a client: it reads what is there, and drops who sends too much or stays silent.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tocsin.packed import spelt_out

REQUEST_BYTES = 1 << 16
CLIENT_WITHIN_S = 5.0
CLIENTS_AT_MOST = 32

Request = dict[str, Any]
Reply = dict[str, Any]


class GuardUnavailableError(Exception):
    """No guard answers on the control socket; the message says what to do."""


class ControlServer:
    """Serves requests inside the watcher's event loop. `answer` gets a request and returns the reply."""

    def __init__(
        self, listener: socket.socket, selector: selectors.BaseSelector, answer: Callable[[Request], Reply]
    ) -> None:
        self.listener = listener
        self.selector = selector
        self.answer = answer
        self.clients: dict[socket.socket, tuple[bytearray, float]] = {}
        listener.setblocking(False)
        selector.register(listener, selectors.EVENT_READ, self._accept)

    def _accept(self) -> None:
        self.drop_silent(time.monotonic())
        try:
            client, _ = self.listener.accept()
        except OSError:
            return  # it has gone again, or descriptors are short: it will ask again, and bans must go on
        if len(self.clients) >= CLIENTS_AT_MOST:
            client.close()
            return
        client.setblocking(False)
        self.clients[client] = (bytearray(), time.monotonic())
        self.selector.register(client, selectors.EVENT_READ, lambda: self._read(client))

    def drop_silent(self, now_s: float) -> None:
        """Let go of clients that have said nothing whole for too long."""
        for client, (_, since_s) in list(self.clients.items()):
            if now_s - since_s > CLIENT_WITHIN_S:
                self._drop(client)

    def _drop(self, client: socket.socket) -> None:
        self.selector.unregister(client)
        del self.clients[client]
        client.close()

    def _read(self, client: socket.socket) -> None:
        buffer, _ = self.clients[client]
        try:
            piece = client.recv(REQUEST_BYTES)
        except (BlockingIOError, ConnectionError):
            piece = b""
        buffer += piece
        if piece and b"\n" not in buffer and len(buffer) <= REQUEST_BYTES:
            return
        if b"\n" in buffer:
            self._reply(client, bytes(buffer))
        self._drop(client)

    def _reply(self, client: socket.socket, line: bytes) -> None:
        try:
            request = json.loads(line)
            reply = self.answer(request) if isinstance(request, dict) else {"error": "expected a JSON object"}
        except (ValueError, RecursionError) as error:
            reply = {"error": f"bad request: {error}"}
        client.setblocking(True)
        client.settimeout(0.2)
        try:
            client.sendall(json.dumps(spelt_out(reply)).encode() + b"\n")
        except OSError:
            return  # the client went away before its answer: nobody is left to tell


def ask(run_dir: Path, request: Request, within_s: float = CLIENT_WITHIN_S) -> Reply:
    """Send a request to the running guard and return its reply. GuardUnavailableError where none answers."""
    path = run_dir / "control.sock"
    hint = "start it with `tocsin guard`, or `systemctl start tocsin`"
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(within_s)
            client.connect(str(path))
            client.sendall(json.dumps(request).encode() + b"\n")
            with client.makefile("rb") as answer:
                reply = json.loads(answer.readline() or b"null")
    except FileNotFoundError:
        raise GuardUnavailableError(f"no guard is running ({path} does not exist); {hint}") from None
    except PermissionError:
        raise GuardUnavailableError(f"{path}: permission denied; ask as root (sudo)") from None
    except (OSError, ValueError) as error:
        raise GuardUnavailableError(
            f"the guard does not answer on {path} ({error}); see `systemctl status tocsin`, or {hint}"
        ) from None
    if not isinstance(reply, dict):
        raise GuardUnavailableError(f"the guard ended the connection on {path} without an answer; {hint}")
    return reply
