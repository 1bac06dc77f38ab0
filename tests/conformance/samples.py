"""The annotated sample logs of Debian's fail2ban package, and Tocsin's score on them.

A sample file is a log with comments: what the next line must give (`failJSON`), with which options of the filter all
following lines are checked (`filterOptions`), which file belongs to it as well (`addFILE`). A check is one line with
one set of options; each set has a filter of its own, which sees the lines in order. Lines that nothing is said of must
not match. The clock stands still, and the machine is in Central Europe, as in the package's own harness.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from datetime import datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

from msgspec import Struct

from tocsin.detect.scan import Pattern, Scanner
from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.regexes import Budget
from tocsin.fail2ban.model import Failure, FilterSpec
from tocsin.fail2ban.settings.loader import load_filter
from tocsin.formats.addresses import canonical

LOGS = Path("/usr/lib/python3/dist-packages/fail2ban/tests/files/logs")
CONFIG = Path("/etc/fail2ban")
NOW_TS = 1_124_013_600.0  # 14 August 2005, noon
ZONE = ZoneInfo("Europe/Berlin")
MISSING = f"{CONFIG}/filter.d or {LOGS} is missing: install fail2ban: make setup does"

_COMMENT = re.compile(r"#+ ?(failJSON|fileOptions|filterOptions|addFILE):(.+)")
_NAME_IS = re.compile(r"name\s*(==|!=)\s*(?:'([^']*)'|\"([^\"]*)\")")
_OPTION_IS = re.compile(r"opts\.get\('([^']*)'\)\s*(==|!=)\s*'([^']*)'")


class Options(Struct, frozen=True):
    """One set of options: `key` is what a filter's state is kept by, `given` is the filter's, `prefix` comes before
    each line."""

    key: str
    given: dict[str, str]
    prefix: str = ""

    @property
    def journal(self) -> bool:
        return self.given.get("logtype") == "journal"


class Check(Struct, frozen=True):
    """A line that is checked: `expected` is what its annotation says, empty where it must not match."""

    name: str
    options: Options
    file: str
    number: int
    line: str
    expected: dict[str, Any]

    @property
    def where(self) -> str:
        return f"{self.file}:{self.number} {self.options.given or ''}"


@cache
def filter_names() -> tuple[str, ...]:
    """The stock filters: all of filter.d that is not there to be included."""
    found = sorted(path.stem for path in (CONFIG / "filter.d").glob("*.conf") if not path.stem.endswith("common"))
    if not found or not LOGS.is_dir():
        raise FileNotFoundError(MISSING)
    return tuple(found)


def checks_of(name: str) -> Iterator[Check]:
    """All checks of a filter, in order."""
    common: dict[str, str] = {}
    sets: list[Options] = []
    files = [name]
    for file in files:
        skipped = False
        # not splitlines: only a newline ends a line
        lines = iter(list(enumerate((LOGS / file).read_text("utf-8", "replace").split("\n"), 1)))
        for place, text in lines:
            number, line = place, text
            expected: dict[str, Any] = {}
            comment = _COMMENT.match(line)
            if comment:
                said = json.loads(comment[2])
                if comment[1] == "fileOptions":
                    common = said
                elif comment[1] == "filterOptions":
                    given = [{**common, **one} for one in (said if isinstance(said, list) else [said])]
                    conditions = [one["test.condition"] for one in given if "test.condition" in one]
                    skipped = not all(_holds(condition, name, {}) for condition in conditions)
                    sets = [] if skipped else [_options(name, one) for one in given]
                elif comment[1] == "addFILE":
                    files.append(said)
                if comment[1] != "failJSON":
                    continue
                expected = said
                number, line = next(lines)
            elif line.startswith("#") or not line.strip():
                continue
            if skipped:
                continue
            sets = sets or [Options(name, {})]
            for options in sets:
                if "constraint" not in expected or _holds(expected["constraint"], name, options.given):
                    yield Check(name, options, file, number, options.prefix + line.rstrip("\r"), expected)


def _options(name: str, said: dict[str, str]) -> Options:
    given = {key: value for key, value in said.items() if not key.startswith("test.")}
    own = said.get("test.filter-name") or (json.dumps(given, sort_keys=True) if given else "")
    return Options(name + own, given, said.get("test.prefix-line", "") if given.get("logtype") == "journal" else "")


def _holds(condition: str, name: str, options: dict[str, str]) -> bool:
    """The two kinds of condition that the samples know."""
    if match := _NAME_IS.fullmatch(condition.strip()):
        equal = name == (match[2] or match[3])
        return equal == (match[1] == "==")
    if match := _OPTION_IS.fullmatch(condition.strip()):
        return (options.get(match[1]) == match[3]) == (match[2] == "==")
    raise ValueError(f"an unknown kind of condition: {condition}")


@cache
def spec_of(name: str, given: tuple[tuple[str, str], ...] = ()) -> FilterSpec:
    """A stock filter with options, through Tocsin's loader."""
    logtype = dict(given).get("logtype", "file")
    call = name + (f"[{', '.join(f'{key}={json.dumps(value)}' for key, value in given)}]" if given else "")
    return load_filter(CONFIG, call, logtype="journal" if logtype == "journal" else "file")[0]


def filter_of(options: Options, name: str, budget: Budget | None = None) -> LineFilter:
    """A new filter with a set of options."""
    spec = spec_of(name, tuple(options.given.items()))
    return LineFilter(spec, DateFinder(spec.datepattern, ZONE), budget or Budget())


def problem_of(check: Check, failures: tuple[Failure, ...]) -> str | None:
    """What is wrong with an answer, None where it is as annotated."""
    expected = check.expected
    if not expected.get("match"):
        return f"matches: {failures[0]}" if failures else None
    if len(failures) != 1:
        return f"{len(failures)} failures, one was expected"
    failure = failures[0]
    for key, value in expected.items():
        if key in ("match", "desc", "constraint"):
            continue
        if (got := _got(failure, key)) != wanted(key, value):
            return f"{key}: {got!r}, expected {wanted(key, value)!r}"
    return None


def _got(failure: Failure, key: str) -> Any:
    if key == "host":
        return failure.key
    if key == "time":
        return failure.ts
    if key == "attempts":
        return len(failure.matches)
    if key == "users":
        return sorted(failure.users)
    return failure.fields.get(tags.field_of(key))


def wanted(key: str, value: Any) -> Any:
    """What an annotation says, as a failure has it."""
    if key == "host":
        return canonical(value) or value
    if key == "time":
        year, month, day, hour, minute, second = map(int, re.split("[-T:]", value.partition(".")[0]))
        return datetime(year, month, day, hour, minute, second, tzinfo=ZONE).timestamp()
    if key == "users":
        return sorted(value)
    return value


class Score(Struct):
    """`problems`: one text a check that failed."""

    name: str
    passed: int = 0
    total: int = 0
    sets: int = 0
    problems: list[str] = []


def score_of(name: str, *, prefilter: bool = False, simple: bool = False) -> Score:
    """A filter's checks, each line given to it; with `prefilter` only those that its patterns let through, or its
    `simple` ones."""
    score = Score(name)
    filters: dict[str, LineFilter] = {}
    gates: dict[str, Gate] = {}
    for check in checks_of(name):
        key = check.options.key
        if key not in filters:
            filters[key] = filter_of(check.options, name)
            if prefilter or simple:
                gates[key] = Gate(filters[key], simple=simple)
        failures = gates[key].take(check.line) if prefilter or simple else filters[key].take(check.line, NOW_TS)
        problem = problem_of(check, failures)
        score.total += 1
        if problem is None:
            score.passed += 1
        else:
            score.problems.append(f"{check.where}: {problem}\n    {check.line}")
    score.sets = len(filters)
    return score


class Gate:
    """A filter behind its own patterns, as the engine runs it; `simple` with those of a machine without Hyperscan,
    `loud` without the quiet ones."""

    def __init__(self, line_filter: LineFilter, *, simple: bool = False, loud: bool = False) -> None:
        self.filter = line_filter
        patterns = line_filter.loud_patterns if loud else line_filter.patterns
        quiet = line_filter.quiet
        if simple:
            patterns, quiet = line_filter.simple_patterns, frozenset()
        self._scanner = None
        if patterns is not None:
            masks = [Pattern(one, 2 if one in quiet else 1, **self._besides(one, simple=simple)) for one in patterns]
            self._scanner = Scanner(masks, fallback=simple)

    def _besides(self, pattern: bytes, *, simple: bool) -> dict[str, Any]:
        """What is known of a pattern besides, as the engine has it."""
        if simple:
            return {}
        return {"refined": self.filter.refined.get(pattern, b""), "signs": self.filter.signs.get(pattern, ())}

    def mask(self, raw: bytes) -> int:
        """0: no pattern occurs in a raw line; 2: only quiet ones."""
        if self._scanner is None:
            return 1
        hits = self._scanner.scan(raw + b"\n")
        return hits[0][1] if hits else 0

    def take_raw(self, raw: bytes) -> tuple[Failure, ...]:
        starts = [0] if self.mask(raw) & 1 else []
        if not starts and not self.filter.watching:
            return ()
        found = self.filter.take_block(raw + b"\n", starts, NOW_TS)
        return found[0][1] if found else ()

    def take(self, line: str) -> tuple[Failure, ...]:
        return self.take_raw(line.encode())
