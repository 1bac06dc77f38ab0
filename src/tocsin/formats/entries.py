"""What the tellers of programs' own logs share: counting of lines that do not fit, and what an errno means."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from datetime import UTC

from tocsin.formats.base import Anchor
from tocsin.formats.heard import LONGEST
from tocsin.formats.told import TEXT_CHARACTERS, Clock, Told
from tocsin.model import AuthAttempt
from tocsin.server_events import AppError, LimitReached, ServerEvent, StorageError

_NUMBERED = {
    "4": "ILL", "5": "TRAP", "6": "ABRT", "7": "BUS", "8": "FPE", "9": "KILL", "11": "SEGV", "24": "XCPU",
    "25": "XFSZ", "31": "SYS",
}  # fmt: skip
_FULL = frozenset(("28", "122"))
_OPEN_FILES = frozenset(("23", "24"))
DETAIL_CHARACTERS = 300


def fatal_signal(number: str) -> str | None:
    """`SEGV` of `11`; None of the signals by which a program is told to stop, which nobody has died of."""
    return _NUMBERED.get(number)


def errno_event(
    ts: float, service: str, level: str, errno: str | None, text: str, path: str | None = None
) -> ServerEvent | None:
    """What a system call's failure says of the machine (Linux's numbers); None of what tells of one file or peer."""
    if errno in _FULL:
        return StorageError(ts, service, "full", path)
    if errno == "30":
        return StorageError(ts, service, "read-only", path)
    if errno == "5":
        return StorageError(ts, service, "io", path)
    if errno in _OPEN_FILES:
        return LimitReached(ts, service, "open files")
    if errno == "12":
        return AppError(ts, service, level, "ENOMEM", "out-of-memory", None, text[:DETAIL_CHARACTERS])
    return None


class Entries(ABC):
    """A teller's bookkeeping. Whoever inherits says `name`, `kind` and `tell`, and `clock` where it is not `local`."""

    name = ""
    kind = ""

    def __init__(self) -> None:
        self.clock: Clock = "local"
        self.ts: float | None = None
        self.unparsed = 0
        self.sample = ""

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How much of some first lines fits: those that `tell` does not count as unparsed."""
        teller = cls()
        anchor = Anchor(0.0, UTC)
        for number, line in enumerate(lines, start=1):
            teller.tell(line, number, anchor)
        return 1.0 - teller.unparsed / len(lines) if lines else 0.0

    @abstractmethod
    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What becomes known with a line (without its newline)."""

    def finish(self) -> Sequence[Told]:
        """What the last lines told, when no more come."""
        return ()

    def _told(self, event: ServerEvent | AuthAttempt, line: str, number: int) -> Told:
        return Told(event, number, line[:TEXT_CHARACTERS], self.clock)

    def _misfit(self, line: str) -> Sequence[Told]:
        """A line that does not fit; a blank one is no line."""
        if line and not line.isspace():
            if not self.unparsed:
                self.sample = line[:TEXT_CHARACTERS]
            self.unparsed += 1
        return ()


def cut(line: str) -> str:
    """As much of a line as is looked at."""
    return line if len(line) <= LONGEST else line[:LONGEST]
