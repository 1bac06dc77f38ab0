"""Gathers everything that logs have to say into one dossier: files found, told apart, read, and put on one clock."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, tzinfo
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from msgspec.structs import replace

from tocsin.explain.evidence.clocks import Repaired, ServerZone, anchor_ts, clock_text, named_offsets, repair
from tocsin.explain.evidence.files import Access, File, Typing, find, head_of, vhost_of
from tocsin.explain.evidence.gaps import Minute, gaps_of
from tocsin.explain.evidence.hearing import Hearing, is_settled, minutes_of, names_year
from tocsin.explain.evidence.noaccesses import NoAccesses
from tocsin.explain.model import Accesses, Coverage, Dossier, Gap, Said, say
from tocsin.formats import Anchor
from tocsin.formats.told import Teller
from tocsin.model import AuthAttempt, Batch
from tocsin.server_events import AppError
from tocsin.sources.finished import read_finished
from tocsin.sources.lines import MAX_LINE_BYTES
from tocsin.sources.notice import SourceError

if TYPE_CHECKING:
    from tocsin.explain.evidence.accesses import AccessLogs

BLOCK_BYTES = 1 << 20
MOST_COMPARED = 1000
"""Of one log's lines that name a client: enough to tell its zone."""

Progress = Callable[[int, int], None]


def gather(
    paths: Sequence[Path], now_ts: float | None, zone: tzinfo | None, on_progress: Progress | None = None
) -> Dossier:
    """All evidence below some paths; without any, this machine's own.

    `now_ts` is the moment from which missing years are resolved (None: each file's modification time), `zone` what
    times without one are in where no access log tells it (None: the machine's). `on_progress` hears how many bytes of
    how many have been read. What cannot be read is part of the answer.
    """
    if paths:
        found = find(paths)
    else:
        from tocsin.explain.evidence.machine import find_own  # noqa: PLC0415  only on the machine itself

        found = find_own()
    if zone is None:
        from tocsin.wiring import local_zone  # noqa: PLC0415  only where nobody named one

        zone = local_zone()
    job = _Gathering(sum(file.size_bytes for file in found.files), now_ts, zone, on_progress)
    try:
        job.sort(found.files)
        job.read_accesses()
        job.hear_dated()  # meanwhile DuckDB takes in the last requests
        job.hear_yearless()
        job.place_accesses()
        job.settle_years()
        job.take_zone()
        job.compare_clocks()
        repaired = repair([hearing.heard.voice for _, hearing in job.heard], job.server, found.ties)
        return job.dossier(found.refused, repaired, found.notes)
    finally:
        if job.logs is None:
            for file in found.files:
                file.close()


class _Gathering:
    """The work in its order: access logs first, for they name year and zone, then logs with years, then the rest, whose
    years are settled when the access logs have been taken in.
    """

    def __init__(self, total: int, now_ts: float | None, zone: tzinfo, on_progress: Progress | None) -> None:
        self.logs: AccessLogs | None = None
        self.heard: list[tuple[File, Hearing]] = []
        self.server = ServerZone([], zone)
        self._asked_ts = time.time() if now_ts is None else now_ts
        self._now_ts = now_ts
        self._zone = zone
        self._named_zone = False
        self._lasts: list[tuple[File, int, bytes]] = []
        self._spans: list[tuple[float, float]] = []
        self._yearless: list[tuple[File, Teller]] = []
        self._guessed: list[tuple[int, float]] = []
        self._accesses: list[tuple[File, Access]] = []
        self._tellers: list[tuple[File, Teller]] = []
        self._unknown: list[File] = []
        self._refused: list[Coverage] = []
        self._notes: defaultdict[str, list[Said]] = defaultdict(list)
        self._total = total
        self._done = 0
        self._on_progress = on_progress

    def sort(self, files: Sequence[File]) -> None:
        """Tell the files apart."""
        typing = Typing(Anchor(self._asked_ts, self._zone))
        for file in files:
            try:
                kind = typing.of(file)
            except SourceError as error:
                text = say("It cannot be read: {what}.", what=error.text)
                self._refused.append(Coverage(file.name, "unread", None, None, 0, 0, (), (text,)))
                self._done += file.size_bytes
                continue
            if kind is None:
                self._unknown.append(file)
            elif isinstance(kind, Access):
                self._accesses.append((file, kind))
            else:
                self._tellers.append((file, kind))

    # -- reading -----------------------------------------------------------------------------------------------------

    def read_accesses(self) -> None:
        """All access logs into one table."""
        if not self._accesses:
            return
        from tocsin.explain.evidence.accesses import AccessLogs  # noqa: PLC0415  DuckDB: 0.1 s

        self.logs = logs = AccessLogs(Anchor(self._asked_ts, self._zone))
        for file, access in self._accesses:
            number = logs.add_log(file, access, file.vhost or vhost_of(file.name))
            last = b""
            for batch in self._batches(file):
                logs.add(number, batch)
                last = batch.data
            if last:
                self._lasts.append((file, number, last[last.rfind(b"\n", 0, -1) + 1 : -1]))
        logs.close()

    def place_accesses(self) -> None:
        """When the requests were, and in which zone."""
        logs = self.logs
        if logs is None:
            return
        logs.finish()
        for file, number, last in self._lasts:
            if logs.is_cut(number, last):
                self._notes[file.name].append(say("Its last line is cut off."))
        if logs.start is not None and logs.end is not None:
            self._spans.append((logs.start, logs.end))
        days = logs.days()
        self._named_zone = bool(days)
        self.server = ServerZone(days, self._zone)

    def hear_dated(self) -> None:
        """All other logs that name their year, which need nobody's help for it."""
        for file, teller in self._tellers:
            lines = [line.decode("utf-8", "backslashreplace") for line in head_of(file)[:50]]
            if teller.kind != "snapshot" and not names_year(teller, lines, Anchor(self._asked_ts, UTC)):
                self._yearless.append((file, teller))
                continue
            hearing = self._hear(file, teller, self._anchor_ts(file))
            minutes = minutes_of(hearing.heard)
            if minutes and hearing.teller.clock != "uptime" and hearing.teller.kind != "snapshot":
                self._spans.append((minutes[0].first, minutes[-1].last))

    def hear_yearless(self) -> None:
        """The rest, from the years that the others name as far as that is known: where the access logs begin."""
        begins = [access.begin_ts for _, access in self._accesses if access.begin_ts is not None]
        span = _hull([*self._spans, *((ts, ts) for ts in begins)])
        for file, teller in self._yearless:
            now_ts = anchor_ts(self._anchor_ts(file), span)
            self._guessed.append((len(self.heard), now_ts))
            self._hear(file, teller, now_ts)

    def settle_years(self) -> None:
        """Hear those again whose years were guessed wrong."""
        span = _hull(self._spans)
        for number, guess_ts in self._guessed:
            file, hearing = self.heard[number]
            now_ts = anchor_ts(self._anchor_ts(file), span)
            if not is_settled(hearing.heard, guess_ts, now_ts):
                self._notes[file.name].clear()
                self._hear(file, type(hearing.teller)(), now_ts)
                self.heard[number] = self.heard.pop()
            from_others = say("Its lines name no year; it was taken from the other logs.")
            latest = say("Its lines name no year; the latest before {ts:time} was taken.", ts=now_ts)
            self._notes[file.name].append(from_others if span else latest)

    def take_zone(self) -> None:
        """The zone of the system's own logs, where no access log names it."""
        if self.server.offset_s is None:
            heard = (each.heard.voice.told for _, each in self.heard if each.teller.kind in {"system", "kernel"})
            self.server = ServerZone(named_offsets(chain.from_iterable(heard)), self._zone)

    def compare_clocks(self) -> None:
        """Logs that name clients, but no zone: the same clients' requests tell how far their clock is ahead."""
        if self.logs is None:
            return
        for file, hearing in self.heard:
            voice = hearing.heard.voice
            named = [
                (told.event.source_ip, told.event.ts)
                for told in voice.told
                if told.clock == "local" and isinstance(told.event, AppError | AuthAttempt) and told.event.source_ip
            ][:MOST_COMPARED]
            offset = self.logs.offset_of(named) if named else None
            if offset is None or self.server.ts(named[0][1]) == named[0][1] - offset:
                continue
            voice.zone = ServerZone([(0.0, offset)], UTC)
            if self.server.offset_s is None:
                self.server = voice.zone
            text = "Its clock was taken to be at {zone}: the clients that it names made their requests then."
            self._notes[file.name].append(say(text, zone=clock_text(offset)))

    def _anchor_ts(self, file: File) -> float:
        if self._now_ts is not None:
            return self._now_ts
        return self._asked_ts if file.mtime_ts is None else file.mtime_ts

    def _hear(self, file: File, teller: Teller, now_ts: float) -> Hearing:
        hearing = Hearing(file.name, teller, Anchor(now_ts, UTC))
        for batch in self._batches(file):
            hearing.take(batch.data.decode("utf-8", "backslashreplace"), batch.line)
        hearing.finish()
        self._notes[file.name] += hearing.notes()
        self.heard.append((file, hearing))
        return hearing

    def _batches(self, file: File) -> Iterator[Batch]:
        """The lines of a file; what went wrong becomes notes."""
        notes = self._notes[file.name]
        nuls = 0

        def failed(error: SourceError) -> None:
            notes.append(say("It cannot be read to its end: {what}.", what=error.text))

        def advanced(done: int) -> None:
            if self._on_progress is not None:
                self._on_progress(min(self._total, self._done + done), self._total)

        for batch in read_finished(
            [Path(file.path)],
            block_bytes=BLOCK_BYTES,
            progress=advanced,
            on_error=failed,
            on_notice=lambda _: notes.append(
                say("Lines longer than {limit:size} were cut there.", limit=MAX_LINE_BYTES)
            ),
        ):
            if b"\0" in batch.data:
                nuls += batch.data.count(b"\0")
            yield batch
        self._done += file.size_bytes
        if nuls:
            notes.append(say("It holds {count} NUL bytes, as a hard reset leaves them.", count=nuls))

    # -- what came of it ---------------------------------------------------------------------------------------------

    def dossier(self, refused: Sequence[Coverage], repaired: Repaired, notes: Sequence[Said]) -> Dossier:
        """Everything together."""
        for source, said in repaired.notes.items():
            self._notes[source] += said
        coverage = [*self._of_accesses(), *self._of_tellers(repaired), *self._of_unknown(), *self._refused, *refused]
        accesses: Accesses = NoAccesses() if self.logs is None else self.logs
        return Dossier(
            tuple(repaired.facts),
            tuple(repaired.unplaced),
            tuple(coverage),
            accesses,
            self._asked_ts,
            self.server.offset_s,
            (*self._about_zone(), *notes),
        )

    def _about_zone(self) -> Iterator[Said]:
        if not any(hearing.teller.clock == "local" for _, hearing in self.heard):
            return
        offset = self.server.offset_s
        if offset is None:
            yield say("No log names a zone: times without one were taken to be at this machine's, or at that of --tz.")
        elif self._named_zone:
            text = "Times without a zone were taken to be at {zone}, as the access logs are."
            yield say(text, zone=clock_text(offset))
        elif any(hearing.heard.voice.zone is None for _, hearing in self.heard if hearing.teller.clock == "local"):
            text = "Times without a zone were taken to be at {zone}, as the system's logs are."
            yield say(text, zone=clock_text(offset))

    def _of_accesses(self) -> Iterator[Coverage]:
        if self.logs is None:
            return
        covers = self.logs.coverage()
        minutes = self.logs.minutes()
        files = [file for file, _ in self._accesses]
        silent = _silences(files, minutes)
        for number, cover in enumerate(covers):
            notes = (*cover.notes, *self._notes[cover.source])
            yield replace(cover, gaps=tuple(silent[number]), notes=notes)

    def _of_tellers(self, repaired: Repaired) -> Iterator[Coverage]:
        files = [file for file, _ in self.heard]
        minutes = [self._placed(hearing, repaired) for _, hearing in self.heard]
        silent = _silences(files, minutes)
        for number, (file, hearing) in enumerate(self.heard):
            spoke = minutes[number]
            notes = self._notes[file.name]
            if hearing.teller.unparsed:
                notes.append(say("A line that does not fit: {line}", line=hearing.teller.sample[:200]))
            yield Coverage(
                file.name,
                hearing.teller.kind,
                spoke[0].first if spoke else None,
                spoke[-1].last if spoke else None,
                hearing.heard.lines,
                hearing.teller.unparsed,
                tuple(silent[number]),
                tuple(notes),
            )

    def _placed(self, hearing: Hearing, repaired: Repaired) -> list[Minute]:
        """When a log spoke, by the repaired clock; nothing where that could not be repaired."""
        source, clock = hearing.heard.voice.source, hearing.teller.clock
        minutes = minutes_of(hearing.heard)
        if clock == "zone":
            return minutes
        if clock == "local":
            zone = hearing.heard.voice.zone or self.server
            moved = [(zone.ts(minute.first), zone.ts(minute.last)) for minute in minutes]
        elif source in repaired.boots:
            boot = repaired.boots[source]
            moved = [(boot + minute.first, boot + minute.last) for minute in minutes]
        else:
            return []
        return [Minute(int(first // 60), first, last) for first, last in moved]

    def _of_unknown(self) -> Iterator[Coverage]:
        for file in self._unknown:
            lines = 0
            for batch in self._batches(file):
                lines += batch.data.count(b"\n")
            text = say("It fits no format that is known; it was not used.")
            yield Coverage(file.name, "unknown", None, None, lines, lines, (), (text, *self._notes[file.name]))


def _hull(spans: Sequence[tuple[float, float]]) -> tuple[float, float] | None:
    return (min(start for start, _ in spans), max(end for _, end in spans)) if spans else None


def _silences(files: Sequence[File], minutes: Sequence[Sequence[Minute]]) -> list[list[Gap]]:
    """The gaps of each file; those between rotations of one log belong to the file before them."""
    silent: list[list[Gap]] = [[] for _ in files]
    groups: defaultdict[tuple[str, str], list[int]] = defaultdict(list)
    for number, file in enumerate(files):
        if minutes[number]:
            groups[file.group].append(number)
    for group in groups.values():
        spoke = sorted((minute for number in group for minute in minutes[number]), key=lambda minute: minute.first)
        for gap in gaps_of(spoke):
            before = [number for number in group if minutes[number][0].first <= gap.start]
            silent[max(before, key=lambda number: minutes[number][0].first)].append(gap)
    return silent
