"""One clock for all logs: the server's zone, seconds since boot, syslog that was written late. Pure.

Error logs and syslog name no zone: the access logs of the same machine do. Raw kernel lines stand by seconds since
boot: a line that holds both clocks ties them, else the same event in a log with wall time. Under memory pressure a
syslog line is stamped when it was written; the kernel's own seconds in it tell when it was said.
"""

from __future__ import annotations

import re
from bisect import bisect_left
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, tzinfo
from statistics import median

from msgspec import Struct
from msgspec.structs import replace

from tocsin.explain.model import Fact, Said, say
from tocsin.formats.told import Told
from tocsin.server_events import ClockTie

HALF_YEAR_S = 182.6 * 86400
LATE_S = 5.0
"""So much after its neighbours' a syslog line's stamp must be to count as late."""

_LATEST_TS = 253_402_214_400.0
_BOOT_S = 60.0
_NEAR_S = 300.0
_MOST_POINTS = 200_000
# anchored: what a client can get into a message must not pass for the kernel's own
_UPTIME = re.compile(
    r"(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:\S{5,16}|[0-9]{4}-\S{10,32}) \S{1,255} kernel: "
    r"\[ *([0-9]{1,10}\.[0-9]{6})\]"
).match

_OFFSET = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:.,]{8,18}([+-])([01][0-9]):?([0-5][0-9]) ").match


def named_offsets(told: Iterable[Told]) -> list[tuple[float, int]]:
    """Starts of days, and the offset to UTC that stands on lines of a system's log then. A bare `Z` is a program's
    habit, and says nothing of the machine's zone.
    """
    found = {}
    for one in told:
        match = _OFFSET(one.text) if one.clock == "zone" else None
        if match:
            offset_s = int(match[2]) * 3600 + int(match[3]) * 60
            found[one.event.ts // 86400 * 86400] = -offset_s if match[1] == "-" else offset_s
    return sorted(found.items())


class ServerZone:
    """The offset to UTC of times without one."""

    def __init__(self, days: Sequence[tuple[float, int]], zone: tzinfo) -> None:
        """`days`: starts of days in the logs that name it, and the offset then. `zone` where there are none, and
        for other days where it agrees with those.
        """
        self._days = sorted(days)
        self._zone = zone
        self.offset_s: int | None = Counter(shift for _, shift in days).most_common(1)[0][0] if days else None
        self.agrees = all(_offset_s(zone, start) == shift for start, shift in days)

    def ts(self, wall: float) -> float:
        """When it was, of a time read as if it were UTC."""
        if self.agrees:
            try:
                return datetime.fromtimestamp(wall, UTC).replace(tzinfo=self._zone).timestamp()
            except (OverflowError, ValueError, OSError):
                return wall
        at = bisect_left(self._days, (wall, 0))
        near = self._days[max(0, at - 1) : at + 1] or self._days[-1:]
        return wall - min(near, key=lambda day: abs(day[0] - wall))[1]


def clock_text(offset_s: int) -> str:
    """An offset to UTC as people write it: `+02:00`."""
    minutes = abs(offset_s) // 60
    return f"{'-' if offset_s < 0 else '+'}{minutes // 60:02}:{minutes % 60:02}"


def _offset_s(zone: tzinfo, ts: float) -> int | None:
    try:
        offset = datetime.fromtimestamp(ts, zone).utcoffset()
    except (OverflowError, ValueError, OSError):
        return None
    return int(offset.total_seconds()) if offset is not None else None


def anchor_ts(mtime_ts: float, span: tuple[float, float] | None) -> float:
    """The moment from which a log without years is read, such that its last year ends there.

    `span` is what the logs with years cover: a copied file's modification time says nothing, but logs of one case
    are of one time. Within half a year of the span the modification time is believed.
    """
    if span is None:
        return mtime_ts
    start, end = span
    latest = (start + end) / 2 + HALF_YEAR_S
    return mtime_ts if start <= mtime_ts <= max(latest, end) else latest


class Lateness:
    """How late syslog wrote down what the kernel said: wall time less uptime, against what is usual in that boot."""

    def __init__(self) -> None:
        self._boots: list[list[tuple[float, float]]] = []
        self._usual: list[float] = []
        self._worst: dict[int, float] = {}

    def add(self, wall: float, uptime_s: float) -> None:
        """A line that names both, in the order of the log."""
        if not self._boots or uptime_s < self._boots[-1][-1][1] - _BOOT_S:
            self._boots.append([])
        if len(self._boots[-1]) < _MOST_POINTS:
            self._boots[-1].append((wall, uptime_s))

    def of(self, wall: float, uptime_s: float | None) -> float:
        """How late a line is; of one that names no uptime, the worst of those around it. All lines must be known."""
        if len(self._usual) < len(self._boots):
            self._measure()
        if uptime_s is None:
            near = int(wall // _NEAR_S)
            return max(self._worst.get(number, 0.0) for number in (near - 1, near, near + 1))
        for boot, usual in zip(self._boots, self._usual, strict=True):
            if boot[0][0] <= wall <= boot[-1][0]:
                return max(0.0, wall - uptime_s - usual)
        return 0.0

    def _measure(self) -> None:
        self._usual = [median(wall - uptime for wall, uptime in boot) for boot in self._boots]
        for boot, usual in zip(self._boots, self._usual, strict=True):
            for wall, uptime_s in boot:
                number = int(wall // _NEAR_S)
                self._worst[number] = max(self._worst.get(number, 0.0), wall - uptime_s - usual)


class Voice(Struct):
    """What one source told, before its clock was repaired; walls are read as if they were UTC. `counts`: how often a
    thing was told within its second, by its place among the told, where that is more than once. `zone` where the log
    was found to be in another than the server's.
    """

    source: str
    told: list[Told]
    lateness: Lateness
    counts: dict[int, int]
    zone: ServerZone | None = None


def uptime_of(text: str) -> float | None:
    """Seconds since boot that the kernel put into a line of syslog."""
    match = _UPTIME(text)
    return float(match[1]) if match else None


class Repaired(Struct, frozen=True):
    """Facts in order of time, those that no clock places, and what the repair took for granted, by source."""

    facts: list[Fact]
    unplaced: list[Fact]
    notes: dict[str, list[Said]]
    boots: dict[str, float]


def repair(voices: Sequence[Voice], zone: ServerZone, known: Sequence[ClockTie] = ()) -> Repaired:
    """Put everything on one clock. `known` ties are of the machine itself, not of any log."""
    facts: list[Fact] = []
    waiting: list[Voice] = []
    notes: dict[str, list[Said]] = {}
    ties = [("", tie) for tie in known]
    for voice in voices:
        placed, late = 0, 0.0
        for number, told in enumerate(voice.told):
            if isinstance(told.event, ClockTie):
                ties.append((voice.source, told.event))
            elif told.clock != "uptime":
                fact = _placed(voice, number, told, zone)
                late = max(late, fact.spread_s, told.event.ts - fact.ts if told.clock == "zone" else 0.0)
                facts.append(fact)
                placed += told.clock == "local"
        if any(told.clock == "uptime" and not isinstance(told.event, ClockTie) for told in voice.told):
            waiting.append(voice)
        if late > LATE_S:
            text = say("Lines were written up to {late:span} after what they tell of.", late=late)
            notes.setdefault(voice.source, []).append(text)
    unplaced: list[Fact] = []
    boots: dict[str, float] = {}
    for voice in waiting:
        boot = _boot(voice, ties, facts)
        notes.setdefault(voice.source, []).append(boot.note)
        if boot.ts is not None:
            boots[voice.source] = boot.ts
        for number, one in enumerate(voice.told):
            if one.clock != "uptime" or isinstance(one.event, ClockTie):
                continue
            fact = _fact(voice, number, one, one.event.ts if boot.ts is None else boot.ts + one.event.ts, boot.spread_s)
            (unplaced if boot.ts is None else facts).append(fact)
    facts.sort(key=lambda fact: fact.ts)
    return Repaired(facts, unplaced, notes, boots)


def _placed(voice: Voice, number: int, told: Told, zone: ServerZone) -> Fact:
    wall = told.event.ts
    uptime_s = uptime_of(told.text)
    late = voice.lateness.of(wall, uptime_s)
    late = late if late > LATE_S else 0.0
    said = wall - late if uptime_s is not None else wall
    ts = (voice.zone or zone).ts(said) if told.clock == "local" else said
    return _fact(voice, number, told, ts, 0.0 if uptime_s is not None else late)


def _fact(voice: Voice, number: int, told: Told, ts: float, spread_s: float) -> Fact:
    event = told.event if told.event.ts == ts else replace(told.event, ts=ts)
    return Fact(ts, event, voice.source, told.line, told.text, spread_s, voice.counts.get(number, 1))


class _Boot(Struct, frozen=True):
    ts: float | None
    spread_s: float
    note: Said


def _boot(voice: Voice, ties: Iterable[tuple[str, ClockTie]], facts: Sequence[Fact]) -> _Boot:
    """When the machine of a log that stands by seconds since boot was started."""
    tied = [(source, tie.ts - tie.uptime_s) for source, tie in ties]
    own = [boot for source, boot in tied if source == voice.source]
    boots = own or [boot for _, boot in tied]
    if boots and (own or max(boots) - min(boots) <= _BOOT_S):
        return _agreed(
            boots, "{count} lines that hold both clocks place the boot at {boot:time}; they agree to {spread:span}."
        )
    same = _same_events(voice, facts)
    if same:
        return _agreed(
            same, "The same events in another log place the boot at {boot:time} ({count} of them, to {spread:span})."
        )
    return _Boot(None, 0.0, say("Its times are seconds since boot, and no line tells when that was."))


def _agreed(boots: Sequence[float], text: str) -> _Boot:
    boot = median(boots)
    spread = max(abs(one - boot) for one in boots)
    return _Boot(boot, spread, say(text, count=len(boots), boot=boot, spread=spread))


def _same_events(voice: Voice, facts: Sequence[Fact]) -> list[float]:
    """Boot times by events that stand once in this log, and once in one with wall time."""
    mine = Counter(repr(replace(told.event, ts=0.0)) for told in voice.told if told.clock == "uptime")
    walls: dict[str, list[float]] = {}
    for fact in facts:
        walls.setdefault(repr(replace(fact.event, ts=0.0)), []).append(fact.ts)
    found = []
    for told in voice.told:
        key = repr(replace(told.event, ts=0.0))
        if told.clock == "uptime" and mine[key] == 1 and len(walls.get(key, ())) == 1:
            found.append(walls[key][0] - told.event.ts)
    return found
