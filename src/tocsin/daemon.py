"""What a process that stays for months does to itself: gives up rights, stays in memory, hears signals."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import socket
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.privileges import (
    WATCHER_KEEPS,
    Locked,
    PrivilegeError,
    die_with_parent,
    drop_to,
    lock_memory,
    own_directory,
    raise_priority,
    set_oom_score_adj,
)

if TYPE_CHECKING:
    from tocsin.config import Config

_SIGNALS: tuple[int, int] = (-1, -1)


def settle(config: Config) -> list[str]:
    """Take the place of an unprivileged process that stays in memory; returns what could not be had."""
    notes: list[str] = []
    notes += own_directory(Path(config.guard.state_dir), config.guard.user)
    keep = set(WATCHER_KEEPS)
    for wish in (lock_memory, set_oom_score_adj, raise_priority):
        try:
            got = wish()
            keep |= got.needs if isinstance(got, Locked) else set()
        except PrivilegeError as error:
            notes.append(str(error))
    notes += drop_to(config.guard.user if os.getuid() == 0 else None, frozenset(keep)).notes
    die_with_parent(number=signal.SIGTERM)
    return notes


def has_alone(state_dir: Path) -> bool:
    """Whether no other guard writes there; until this process ends. What cannot be locked the ledger tells."""
    with suppress(OSError):
        lock = os.open(state_dir / "guard.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o640)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def hear_signals(selector: selectors.BaseSelector, handle: Callable[[int], None]) -> None:
    """Have SIGTERM, SIGINT and SIGHUP wake `selector`; `handle` hears which it was."""
    global _SIGNALS  # noqa: PLW0603  a process has one set of signal handlers
    _SIGNALS = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(_SIGNALS[1], warn_on_full_buffer=False)
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda received, _frame: handle(received))
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    selector.register(_SIGNALS[0], selectors.EVENT_READ, lambda: os.read(_SIGNALS[0], 512))


def notify_systemd(state: str) -> None:
    """Tell systemd, if it is there (sd_notify(3): a datagram to $NOTIFY_SOCKET)."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(state.encode(), "\0" + address[1:] if address.startswith("@") else address)
