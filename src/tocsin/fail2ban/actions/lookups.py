"""Names and addresses looked up in DNS, beside the work: a few threads, bounded waiting, answers kept for a while.

A thread hangs as long as the resolver lets it (resolv.conf(5): 10 s by default), so there are few of them; when all of
them hang, or too many questions wait, the answer is None at once. No answer is a ban's concern.
"""

from __future__ import annotations

import contextlib
import encodings.idna  # noqa: F401  sockets load it with the first name, when our own files may be out of reach
import ipaddress
import os
import queue
import socket
import threading
from collections import OrderedDict
from typing import Literal

from msgspec import Struct

THREADS = 3
WAITING_MAX = 200
KEPT_MAX = 1000
KEEP_S = 300.0
ADDRESSES_MAX = 64  # of one name: a name with thousands of them covers the first ones


class Found(Struct, frozen=True):
    """An answer: a name's addresses, or an address's names; None where nobody could be asked."""

    kind: Literal["addresses", "name"]
    asked: str
    answer: tuple[str, ...] | None


class Lookups:
    """Ask, wait on `fileno` for reading, `take`. Threads are started with the first question."""

    def __init__(self) -> None:
        self._wake_in, self._wake_out = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._waiting: queue.Queue[tuple[Literal["addresses", "name"], str]] = queue.Queue(WAITING_MAX)
        self._found: queue.SimpleQueue[Found] = queue.SimpleQueue()
        self._threads: list[threading.Thread] = []
        self._asked: set[tuple[str, str]] = set()
        self._kept: OrderedDict[tuple[str, str], tuple[float, Found]] = OrderedDict()

    def fileno(self) -> int:
        """Readable when an answer is there."""
        return self._wake_in

    def ask(self, kind: Literal["addresses", "name"], asked: str, now_s: float) -> Found | None:
        """The answer where it is known, or where no more can be asked; None where `take` will bring it."""
        kept = self._kept.get((kind, asked))
        if kept is not None and now_s < kept[0]:
            return kept[1]
        if (kind, asked) in self._asked:
            return None
        try:
            self._waiting.put_nowait((kind, asked))
        except queue.Full:
            return Found(kind, asked, None)
        self._asked.add((kind, asked))
        if len(self._threads) < THREADS:
            thread = threading.Thread(target=self._work, name=f"lookup-{len(self._threads)}", daemon=True)
            self._threads.append(thread)
            thread.start()
        return None

    def take(self, now_s: float) -> list[Found]:
        """The answers that have come."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._wake_in, 4096)
        answers = []
        while not self._found.empty():
            found = self._found.get_nowait()
            self._asked.discard((found.kind, found.asked))
            if len(self._kept) >= KEPT_MAX:
                self._kept.popitem(last=False)
            self._kept[found.kind, found.asked] = (now_s + (KEEP_S if found.answer is not None else 30.0), found)
            answers.append(found)
        return answers

    def _work(self) -> None:
        while True:
            kind, asked = self._waiting.get()
            answer = look_up_addresses(asked) if kind == "addresses" else look_up_name(asked)
            self._found.put(Found(kind, asked, answer))
            with contextlib.suppress(BlockingIOError):  # full of wake-ups: it is readable
                os.write(self._wake_out, b"x")


def look_up_addresses(name: str) -> tuple[str, ...] | None:
    """A host name's addresses, canonical, sorted; empty where it has none, None where nobody answers now."""
    try:
        found = socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)
    except socket.gaierror as error:
        return () if error.errno in (socket.EAI_NONAME, socket.EAI_NODATA) else None
    except (OSError, UnicodeError, ValueError):
        return None
    texts = {str(entry[4][0]).partition("%")[0] for entry in found}
    return tuple(str(ipaddress.ip_address(text)) for text in sorted(texts)[:ADDRESSES_MAX])


def look_up_name(address: str) -> tuple[str, ...] | None:
    """An address's name, empty where it has none. Who runs the address's network chooses it: it proves nothing."""
    try:
        return (socket.gethostbyaddr(address)[0],)
    except socket.herror:
        return ()
    except (OSError, UnicodeError, ValueError):
        return None
