"""What guard would have done to finished logs, by the logs' own clock: the same pipeline, fed from files.

Nothing of the host counts: not its addresses, not its clock, not its configuration. The policy is that of a fresh
install, and the same lines with the same rules give the same decisions anywhere, byte for byte.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import tzinfo
from pathlib import Path

from msgspec import Struct

from tocsin.ahead import is_worth, read_ahead
from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.crowd import Crowd
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.prefixes import Prefixes
from tocsin.decide.siege import SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.block import Looked
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.formats.syslog import Journal
from tocsin.model import Batch, Decision, Evidence, Finding, HttpRequest, Unparsed
from tocsin.pipeline import Pipeline
from tocsin.reading import Reading, Readings
from tocsin.rules import CompiledRule
from tocsin.sources.finished import read_finished
from tocsin.sources.journal_match import EXPORTED, SOURCE, Sorter, path_of
from tocsin.sources.notice import SourceError


class Summary(Struct, frozen=True):
    """What a replay amounts to. Counts as in the engine's `Counts`; `seconds` is what it took."""

    lines: int
    bytes: int
    unparsed: int
    stopped: int
    findings: int
    decisions: int
    seconds: float
    late: int
    no_address: int
    evicted: int


class Replay:
    """One replay over some files."""

    def __init__(
        self,
        paths: Sequence[Path],
        rules: Sequence[CompiledRule],
        zone: tzinfo,
        now_ts: float | None,
        on_decision: Callable[[Decision, Finding | None], None],
        *,
        proxies: Proxies | None = None,
        limits: Limits | None = None,
        settings: PolicySettings | None = None,
        named: Sequence[tuple[str, str]] = (),
        on_reading: Callable[[str, Reading], None] = lambda _source, _reading: None,
        prefilter: bool = True,
        contrast: bool = True,
        prefixes: bool = False,
        journal_readers: Mapping[str, Sequence[str]] = {},
    ) -> None:
        """`now_ts` resolves missing years (None: each file's modification time); `named` are (path, format spec);
        `contrast`: whether sieges are noticed; `prefixes`: whether networks are banned for their addresses;
        `journal_readers`: which entries of an export of the journal rules read (see `Journal`), by their names there.
        """
        self.paths = paths
        self.now_ts = now_ts
        self.decisions = 0
        self.troubles: list[SourceError] = []
        self._on_decision = on_decision
        self._anchors: dict[str, float] = {}
        self._sorter = Sorter(journal_readers)
        self._formats = Readings(list(named), Proxies(), zone)  # of whole files, before their entries are sorted
        self._stamps = Readings(list(named), Proxies(), zone)  # of lines, for their order: what is taken is known anew
        visitors = Visitors()
        exports = [(f"*{EXPORTED}{SOURCE}*", SOURCE)] if journal_readers else []
        self.readings = Readings([*exports, *named], proxies or Proxies(), zone, on_reading)
        breaker = Breaker(BreakerSettings(), visitors, self._request_of)
        networks = Prefixes() if prefixes else None
        policy = Policy(settings or PolicySettings(), AllowList(), breaker=breaker, prefixes=networks)
        self.crowd = Crowd(visitors, SiegeSettings(enabled=contrast), lambda _change: None)
        self.pipeline = Pipeline(
            rules, limits or Limits(), policy, self.readings, self._decided, crowd=self.crowd, prefilter=prefilter
        )

    def run(self, progress: Callable[[int], None] | None = None) -> Summary:
        """Read everything. `progress` hears how many bytes of the files are done. What could not be read to its end
        stands in `troubles` afterwards; the rest was read all the same.
        """
        began_s = time.perf_counter()
        collecting = gc.isenabled()
        gc.disable()  # nothing here makes cycles, and looking for them among 100,000 clients takes a tenth of the time
        try:
            self._read(progress)
        finally:
            if collecting:
                gc.enable()
        counts, pool = self.pipeline.engine.counts, self.pipeline.engine.pool
        return Summary(
            lines=counts.lines,
            bytes=counts.bytes,
            unparsed=counts.unparsed,
            stopped=counts.stopped,
            findings=counts.findings,
            decisions=self.decisions,
            seconds=round(time.perf_counter() - began_s, 3),
            late=counts.late,
            no_address=counts.no_address,
            evicted=pool.evicted,
        )

    def _read(self, progress: Callable[[int], None] | None) -> None:
        def read(advance: Callable[[int], None] | None, refuse: Callable[[SourceError], None]) -> Iterator[Batch]:
            for batch in read_finished(self.paths, progress=advance, line_ts=self._line_ts, on_error=refuse):
                yield from self._sorted(batch)

        if not is_worth(self.paths):
            for batch in read(progress, self.troubles.append):
                self.pipeline.take(batch, self._anchor(batch.source))
            return
        for batch, looked in read_ahead(
            read, self._look, progress or _unheard, self.troubles.append, self.pipeline.prepare
        ):
            self.pipeline.take(batch, self._anchor(batch.source), looked)

    def _look(self, batch: Batch) -> tuple[Batch, Looked | None]:
        return self.pipeline.look(batch, self._anchor(batch.source))

    def _sorted(self, batch: Batch) -> Iterator[Batch]:
        """An export of the journal by those who would read its entries in the journal."""
        fmt = self._formats.of(batch, self._anchor(batch.source))[0] if self._sorter.readers else None
        return self._sorter.split(batch) if isinstance(fmt, Journal) else iter((batch,))

    def _decided(self, decision: Decision, finding: Finding | None) -> None:
        self.decisions += 1
        self._on_decision(decision, finding)

    def _anchor(self, source: str) -> float:
        """What resolves the missing years of a source."""
        if self.now_ts is not None:
            return self.now_ts
        known = self._anchors.get(source)
        if known is None:
            path = Path(path_of(source))
            known = self._anchors[source] = path.stat().st_mtime if path.exists() else time.time()
        return known

    def _line_ts(self, source: str, line: bytes) -> float | None:
        """The stamp of a line, by which several files are merged."""
        fmt, anchor = self._stamps.of_line(source, line, self._anchor(source))
        event = fmt.parse(line, anchor) if fmt else None
        return None if event is None or isinstance(event, Unparsed) else getattr(event, "ts", None)

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        """A line of evidence as the request that it was."""
        return self.readings.request_of(evidence, self._anchor(evidence.source))


def _unheard(_done_bytes: int) -> None:
    """Nobody wants to know how far it is."""
