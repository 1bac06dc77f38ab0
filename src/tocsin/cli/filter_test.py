"""`tocsin rules test --fail2ban DIR FILTER FILE...`: what a fail2ban filter makes of each line of a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import tzinfo
from pathlib import Path
from typing import Any

from tocsin.cli.failure import CONFIGURATION, OF_SOURCE, Failure
from tocsin.cli.output import Output
from tocsin.cli.words import count, number
from tocsin.config import ConfigErrors
from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters.filter import LineFilter, Trace
from tocsin.fail2ban.filters.regexes import Budget, FilterError
from tocsin.fail2ban.model import FilterSpec
from tocsin.fail2ban.rules import remark_text
from tocsin.fail2ban.settings.loader import load_filter
from tocsin.formats import Anchor, Format, by_name
from tocsin.rules import SET_ASIDE
from tocsin.sources.finished import read_finished
from tocsin.sources.notice import SourceError


def test_filter(
    directory: Path, spec: str, files: Sequence[Path], zone: tzinfo, now_ts: float | None, out: Output, *, every: bool
) -> None:
    """Judge all lines in order: a filter may remember earlier ones. Ends the command where it cannot be read."""
    tester = FilterTester(directory, spec, zone, out, every=every)
    for file in files:
        tester.take(file, now_ts)
    if out.as_json:
        out.flush()
    else:
        tester.summary()
    for regex in tester.filter.set_aside:
        out.note(f"{spec}: {SET_ASIDE}: {regex}")
    for trouble in tester.troubles:
        out.note(str(trouble))
    if tester.troubles:
        raise SystemExit(OF_SOURCE[tester.troubles[0].kind])


class FilterTester:
    """A filter at work on one line after the other."""

    def __init__(self, directory: Path, spec: str, zone: tzinfo, out: Output, *, every: bool) -> None:
        try:
            self.spec, remarks = load_filter(directory, spec)
            self.filter = _filter_of(self.spec, zone)
        except ConfigErrors as found:
            raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found
        except FilterError as error:
            raise Failure(CONFIGURATION, *(f"{self.spec.file}: {problem}" for problem in error.problems)) from error
        except ValueError as error:
            raise Failure(CONFIGURATION, f"{self.spec.file}: {error}") from error
        for remark in remarks:
            out.note(remark_text(remark))
        self.name = spec
        self.zone = zone
        self.out = out
        self.every = every
        self.lines = self.matched = self.ignored = 0
        self.hits = [0] * len(self.spec.failregex)
        self.troubles: list[SourceError] = []
        self._journal: tuple[LineFilter, Format] | None = None

    def take(self, file: Path, now_ts: float | None) -> None:
        """All lines of one file, in order; one that begins like the journal's JSON is read as such."""
        if now_ts is None:
            now_ts = file.stat().st_mtime if file.is_file() else time.time()
        anchor = Anchor(now_ts, self.zone)
        for batch in read_finished([file], on_error=self.troubles.append):
            for line_number, line in enumerate(batch.data[:-1].split(b"\n"), batch.line):
                self._judge(batch.source, line_number, line, anchor)

    def _judge(self, source: str, line_number: int, line: bytes, anchor: Anchor) -> None:
        trace = self._trace(line, anchor)
        matched = bool(trace.failures) or (trace.failregex is not None and trace.ignoreregex is None)
        self.lines += 1
        self.matched += matched
        self.ignored += trace.ignoreregex is not None
        if trace.failregex is not None and matched:
            self.hits[trace.failregex] += 1
        if self.out.as_json:
            self.out.json(self._row(source, line_number, trace, matched=matched))
            return
        text = line.decode("utf-8", "backslashreplace")
        self.out.line(f"{'>' if matched else ' '} {line_number:>6}  {text}", style="bold green" if matched else "")
        if matched or self.every:
            self.out.line(f"          {self._why(trace)}", style="" if matched else "dim")

    def _trace(self, line: bytes, anchor: Anchor) -> Trace:
        if line.startswith(b'{"') and b'"__REALTIME_TIMESTAMP"' in line:
            journal, form = self._journal_filter()
            text, ts = form.plain(line, anchor)
            return journal.explain(text, ts)
        return self.filter.explain(line.decode("utf-8", "replace"), anchor.now_ts)

    def _journal_filter(self) -> tuple[LineFilter, Format]:
        """The same filter as it is for the journal, where the date is not in the text."""
        if self._journal is None:
            directory = Path(self.spec.file).parent.parent
            spec, _ = load_filter(directory, self.name, logtype="journal")
            self._journal = (_filter_of(spec, self.zone), by_name("journal"))
        return self._journal

    def _row(self, source: str, line_number: int, trace: Trace, *, matched: bool) -> dict[str, Any]:
        failure = trace.failures[-1] if trace.failures else None
        return {
            "source": source,
            "line": line_number,
            "matched": matched,
            "rule": self.name,
            "subject": failure.source_ip or failure.key if failure else None,
            "ts": number(trace.ts),
            "fields": dict(failure.fields) if failure else trace.fields,
            "why": self._why(trace),
        }

    def _why(self, trace: Trace) -> str:
        dated = f"its date is {trace.date[0] + 1} to {trace.date[1]}" if trace.date else "it holds no date"
        if trace.failregex is None or trace.ignoreregex is not None:
            return f"no: {trace.note or 'nothing matches'}; {dated}"
        said = "; ".join(f"{name} {value!r}" for name, value in trace.fields.items() if value)
        held = "" if trace.failures else ", which is no failure by itself: it is remembered"
        return f"yes: failregex {trace.failregex + 1}{held}; {dated}" + (f"; {said}" if said else "")

    def summary(self) -> None:
        """How often each regex matched, as fail2ban-regex has it."""
        out = self.out
        out.line()
        for place, hits in enumerate(self.hits):
            if hits or self.every:
                out.line(f"{hits:>8,}  failregex {place + 1}: {self.spec.failregex[place]}")
        text = f"{count(self.lines, 'line')}: {self.matched:,} matched, {self.ignored:,} ignored, "
        out.line(text + f"{self.lines - self.matched - self.ignored:,} missed.")


def _filter_of(spec: FilterSpec, zone: tzinfo) -> LineFilter:
    return LineFilter(spec, DateFinder(spec.datepattern, zone), Budget())
