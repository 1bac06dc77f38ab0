"""Asking the running guard, and the ledger where none runs."""

from __future__ import annotations

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tocsin.cli.failure import NO_PERMISSION, UNAVAILABLE, USAGE, Failure

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tocsin.config import Config
    from tocsin.control import Reply, Request
    from tocsin.ledger.reader import Ban, Reader

_CODES = {"usage": USAGE, "refused": NO_PERMISSION}


def ask(config: Config, request: Request) -> Reply:
    """The guard's reply; a Failure where none runs, or it says that the request cannot be met."""
    from tocsin.control import GuardUnavailableError  # noqa: PLC0415  by the commands that ask alone
    from tocsin.control import ask as ask_guard  # noqa: PLC0415  as above

    try:
        reply = ask_guard(Path(config.guard.run_dir), request)
    except GuardUnavailableError as error:
        raise Failure(UNAVAILABLE, str(error)) from error
    if "error" in reply:
        raise Failure(_CODES.get(str(reply.get("kind")), UNAVAILABLE), str(reply["error"]))
    return reply


def status_of(config: Config) -> tuple[dict[str, Any] | None, str]:
    """The running guard's status, or None and why there is none."""
    try:
        return ask(config, {"cmd": "status"})["status"], ""
    except Failure as absent:
        return None, absent.lines[0]


def with_fresh_counters(config: Config, bans: tuple[Ban, ...]) -> tuple[Ban, ...]:
    """The bans with what the kernel's counters say this moment, where a guard runs; else as the ledger knows them.

    The ledger adds up what renewed bans have stopped, the kernel counts from the last renewal: the larger is true.
    """
    from msgspec.structs import replace  # noqa: PLC0415  by the commands that show bans alone

    try:
        stopped = ask(config, {"cmd": "stopped", "subjects": [ban.target for ban in bans]})["stopped"]
    except Failure:
        return bans
    fresh = [(ban, *stopped.get(ban.target, (0, 0))) for ban in bans]
    return tuple(
        replace(b, packets=max(b.packets, packets), bytes=max(b.bytes, octets)) for b, packets, octets in fresh
    )


@contextmanager
def ledger_of(config: Config) -> Iterator[Reader]:
    """The ledger, read only; a Failure where there is none."""
    from tocsin.ledger.reader import LedgerError, Reader  # noqa: PLC0415  by the commands that read it alone

    try:
        with Reader(Path(config.guard.state_dir) / "ledger.db") as reader:
            yield reader
    except LedgerError as error:
        state, _ = status_of(config)
        trouble = state["ledger"]["trouble"] if state is not None else None
        raise Failure(error.code, trouble or str(error)) from error


def subject_of(text: str) -> str:
    """The address or prefix that somebody typed, as it stands in bans."""
    from tocsin.decide.subjects import canonical  # noqa: PLC0415  by the commands that take one alone

    try:
        return canonical(text)
    except ValueError as error:
        raise Failure(USAGE, str(error)) from error
