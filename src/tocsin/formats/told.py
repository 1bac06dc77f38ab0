"""Logs whose entries may span lines: what a `Teller` reads, line by line, and what it tells of.

Error logs, the kernel's log, snapshots made by hand: unlike a `Format`, a teller remembers (the OOM report or the slow
query that it is inside of), and most of its lines hold nothing that anybody needs. Pure, total over any text.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, Protocol

from msgspec import Struct

from tocsin.formats.base import Anchor
from tocsin.model import AuthAttempt
from tocsin.server_events import ServerEvent

Clock = Literal["zone", "local", "uptime"]
"""By which clock a time stands: with its own zone, in the server's unsaid zone (the anchor's was taken), or seconds
since boot.
"""

TEXT_CHARACTERS = 1000


class Told(Struct, frozen=True, gc=False):
    """An event and the line that tells of it best: its number in the file, from 1, and at most TEXT_CHARACTERS of it.

    With the clock `uptime` the event's `ts` is seconds since boot, to be moved by whoever finds a `ClockTie`.
    """

    event: ServerEvent | AuthAttempt
    line: int
    text: str
    clock: Clock = "zone"


class Teller(Protocol):
    """One kind of log, from its first line to its last. A new one for each file."""

    name: str
    """How people call it: `apache-error`, `kernel`, `mariadb-slow`, ..."""

    kind: str
    """`error`, `kernel`, `system`, `database`, `slow-query`, `php`, `jobs`, `packages`, `snapshot`, `bans`."""

    clock: Clock
    """By which clock its lines stand; may become clear with the first line."""

    ts: float | None
    """When the last line was that named a time, by that clock; None before the first."""

    unparsed: int
    """Lines so far that do not fit; `sample` is the first of them."""

    sample: str

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How much of some first lines of a file fits, 0 to 1: to tell the file's kind by its content. Lines that
        continue others count as fitting only where what they continue stands before them."""

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What becomes known with a line (without its newline): often nothing, sometimes of lines before it."""

    def finish(self) -> Sequence[Told]:
        """What the last lines told, when no more come."""
