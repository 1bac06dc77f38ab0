"""What the engine keeps beside its rules: its limits, its counts, and who else looks at the requests."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Protocol

from msgspec import Struct

from tocsin.detect.evidence import Row
from tocsin.model import HttpRequest


class Limits(Struct, frozen=True):
    """What bounds the engine: `tracked_keys` are exact, up to twice as many are held."""

    tracked_keys: int = 500_000
    lateness_s: float = 300.0
    skew_s: float = 60.0
    evidence_bytes: int = 8 << 20


class Counts(Struct):
    """What was done with the lines. `lines` = all; the others are parts of it and may overlap with none but `late`."""

    lines: int = 0
    bytes: int = 0
    parsed: int = 0
    unparsed: int = 0
    stopped: int = 0
    late: int = 0
    no_address: int = 0
    findings: int = 0


State = tuple[
    Counts,
    float,
    dict[str, float],
    dict[str, tuple[tuple[dict[str, Any], dict[str, Any], float], dict[str, dict[str, float]]]],
    list[tuple[tuple[str, str], list[Row]]],
    dict[str, list[tuple[int, str, str]]],
    int,
    dict[str, bytes],
]
"""An engine's state as it is dumped: counts, event time, who is muted until when, each rule's window and contributors,
evidence, samples of what did not fit, keys that had to go early, each filter's own state."""


class Strike(Struct, frozen=True, gc=False):
    """What an observer holds against the sender of a request: as a rule's finding, with the proof in `note`."""

    rule: str
    count: int
    within_s: float
    note: str


class Observer(Protocol):
    """Whoever wants to see whole requests: all those of the addresses whose CRC has no bit of `mask` set, but for
    those of addresses that are banned. `mask` may change with any request told.
    `thorough`: also of logs of which the rules look at some lines only; then all of them are parsed.
    """

    mask: int
    thorough: bool

    def glance(self, request: HttpRequest, subject: str, now_ts: float) -> None:
        """A post of an address whose requests are not wanted: they are few, and who posts what is worth knowing."""

    def note(
        self, request: HttpRequest, subject: str, now_ts: float, row: Callable[[], Row], *, matched: bool
    ) -> Strike | None:
        """A request of `subject` (IPv6 by /64), in the order of the lines; the engine's time; its line as evidence; and
        whether a rule's condition fits it. What it returns becomes a finding.
        """
