"""Snapshots made by hand: outputs of `ps`, `top -b`, `free`, `df`, `vmstat`, `uptime`, `ss`, `netstat` and of files of
/proc, one after the other in a file, once or again and again with dates between.

Each output of each command is a Sample. Its time is the last date before it, or the time of day that the command
itself prints; where the file holds times of day alone, its last one is the latest before the anchor, and each other
the latest before the one after it; where it holds none, the anchor's. Titles, and the prompts at which commands were
typed, say nothing and are no mistakes.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC

from msgspec import Struct
from msgspec.structs import replace

from tocsin.formats.base import Anchor
from tocsin.formats.snapshots.processes import PsSection, TopSection, header_of, headerless
from tocsin.formats.snapshots.sections import (
    DfSection,
    FreeSection,
    MeminfoSection,
    PressureSection,
    Section,
    Seen,
    UptimeSection,
    is_df,
    is_free,
    is_pressure,
    uptime_section,
)
from tocsin.formats.snapshots.sockets import CountsSection, SocketsSection, socket_header
from tocsin.formats.snapshots.times import Clockwork, before, date_of, day_seconds
from tocsin.formats.snapshots.vmstat import VmstatSection, is_vmstat
from tocsin.formats.told import TEXT_CHARACTERS, Clock, Told
from tocsin.server_events import Sample

LINE_CHARACTERS = 4096
"""What of a line is read."""

MOST_HELD = 20_000
"""Samples that can wait for a date; later ones are given the anchor's time at once."""

_TITLE = re.compile(r"\s*(?:[=#*+~>$%-]|==>|\[?[\w.-]{1,32}@[\w.-]{1,64}[: \]])").match
_TOP = re.compile(r"top - ([0-9]{2}):([0-9]{2}):([0-9]{2}) up ").match
_UPTIME = re.compile(r" ?([0-9]{1,2}):([0-9]{2}):([0-9]{2}) +up ").match
_TOP_NEXT = re.compile(r"Tasks:|Threads:|[0-9]{1,6} processes:").match
_BUSYBOX_TOP = re.compile(r"Mem: [0-9]{1,12}K used, ").match


class Held(Struct):
    """A sample that waits for a date; `day_s` is its time of day, as far as known."""

    day_s: float | None
    seen: Seen


class Snapshot:
    """A file of outputs of commands."""

    name = "snapshot"
    kind = "snapshot"

    def __init__(self) -> None:
        self.clock: Clock = "local"
        self.ts: float | None = None
        self.unparsed = 0
        self.sample = ""
        self.sections = 0
        self._time = Clockwork()
        self._section: Section | None = None
        self._section_ts: float | None = None
        self._section_day_s: float | None = None
        self._anchor = Anchor(0.0, UTC)
        self._held: list[Held] = []
        self._memory_bytes: int | None = None
        self._title = ""

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How much of the lines that are not empty is output of such commands; 0 where none of them is."""
        teller, anchor = cls(), Anchor(0.0, UTC)
        for number, line in enumerate(lines, start=1):
            teller.tell(line, number, anchor)
        written = sum(1 for line in lines if line.strip())
        return (written - teller.unparsed) / written if teller.sections else 0.0

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """The samples that end with the line before this one."""
        self._anchor = anchor
        line = line[:LINE_CHARACTERS].rstrip()
        if not line:
            return self._close() if self._section is not None and self._section.blank_ends else ()
        when = date_of(line)
        if when is not None:
            told = self._close()
            if not self._time.read(when, anchor):
                self._misfit(line)
            elif self._time.ts is not None:
                told += self._release()
            return told
        if self._section is not None and self._section.take(line, number):
            return ()
        return self._begin(line, number)

    def finish(self) -> Sequence[Told]:
        """The last sample, and those that no date was found for."""
        told = self._close()
        if self._held:
            self._time.ts, self._time.clock, self._time.day_s = self._anchor.now_ts, "zone", day_seconds(self._anchor)
            told += self._release()
        return told

    def _begin(self, line: str, number: int) -> list[Told]:
        """A line that continues nothing: a new section, a title, or nothing we know."""
        if isinstance(self._section, UptimeSection) and _TOP_NEXT(line):
            # `top` of procps before 3 begins as `uptime` does
            _, first, text = self._section.told()
            self._section = TopSection(text, first)
            self._section.take(line, number)
            return []
        told = self._close()
        section = self._opened(line, number)
        if section is not None:
            self.sections += 1
            self._section = section
            self._section_ts, self._section_day_s = self._time.ts, self._time.day_s
            self._note_time()
        elif _TITLE(line):
            self._title = line
        else:
            self._misfit(line)
        return told

    def _opened(self, line: str, number: int) -> Section | None:
        top = _TOP(line) or _UPTIME(line)
        if top is not None:
            self._time.time_of_day(float(int(top[1]) % 24 * 3600 + int(top[2]) % 60 * 60 + int(top[3]) % 60))
            return TopSection(line, number) if line.startswith("top") else uptime_section(line, number)
        if _BUSYBOX_TOP(line):
            section = TopSection("", number)
            section.take(line, number)
            return section
        if columns := header_of(line):
            return PsSection(columns)
        return self._other(line, number) or self._row(line, number)

    def _other(self, line: str, number: int) -> Section | None:
        if is_free(line):
            return FreeSection(line, self._memory_bytes)
        if is_df(line):
            return DfSection(line)
        if is_vmstat(line) or line.startswith("procs -"):
            vmstat = VmstatSection(self._anchor)
            vmstat.take(line, number)
            return vmstat
        if socket_header(line):
            return SocketsSection()
        if line.startswith("MemTotal:"):
            return MeminfoSection(line, number)
        if is_pressure(line):
            return PressureSection(line, number, self._title)
        return uptime_section(line, number)

    def _row(self, line: str, number: int) -> Section | None:
        """A row without its header; after a date, it may be a count of `uniq -c`."""
        columns = headerless(line)
        section: PsSection | CountsSection
        if columns is not None:
            section = PsSection(columns)
        elif self._time.ts is None and self._time.day_s is None:
            return None
        else:
            section = CountsSection(self._title)
        return section if section.take(line, number) else None

    def _close(self) -> list[Told]:
        """End the section, if one is open."""
        section, self._section = self._section, None
        if section is None:
            return []
        if isinstance(section, VmstatSection) and (stamped := section.stamped()):
            self._time.ts, self._time.clock, self._time.day_s = stamped[0][0].ts, "local", None
            told = self._release()
            self._time.ts = stamped[-1][0].ts
            self._note_time()
            return told + [self._told(seen[0].ts, "local", seen) for seen in stamped]
        seen = section.told()
        if seen is None:
            return []
        self._memory_bytes = self._memory_bytes or seen[0].memory_bytes
        if self._section_ts is not None:
            return [self._told(self._section_ts, self._time.clock, seen)]
        if len(self._held) >= MOST_HELD:
            return [self._told(self._anchor.now_ts, "zone", seen)]
        self._held.append(Held(self._section_day_s, seen))
        return []

    def _release(self) -> list[Told]:
        """Give the samples that wait their times, from the date that has come backwards."""
        self._note_time()
        held, self._held = self._held, []
        ts, day_s = self._time.ts or self._anchor.now_ts, self._time.day_s
        told: list[Told] = []
        for each in reversed(held):
            ts, day_s = before(ts, day_s, each.day_s), each.day_s if each.day_s is not None else day_s
            told.append(self._told(ts, self._time.clock, each.seen))
        return told[::-1]

    def _note_time(self) -> None:
        self.ts, self.clock = self._time.ts, self._time.clock

    def _told(self, ts: float, clock: Clock, seen: Seen) -> Told:
        sample, line, text = seen
        event: Sample = replace(sample, ts=ts)
        return Told(event, line, text[:TEXT_CHARACTERS], clock)

    def _misfit(self, line: str) -> None:
        self.unparsed += 1
        self.sample = self.sample or line[:TEXT_CHARACTERS]
