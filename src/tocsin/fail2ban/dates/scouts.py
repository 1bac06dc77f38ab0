"""Looking for dates in a line: templates joined to one regex, and what their dates tell, each text worked out once."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import tzinfo
from functools import cache
from itertools import groupby
from typing import Any, NamedTuple, Protocol

from tocsin.fail2ban.dates.fields import LATEST_TS, Instant, instant
from tocsin.fail2ban.dates.templates import Reads, Template
from tocsin.fail2ban.filters.parsing import parse
from tocsin.fail2ban.filters.shapes import free_length
from tocsin.fail2ban.filters.syntax import longest_literal
from tocsin.formats.base import remember

REACH_CHARS = 8192
"""How much of a line is searched."""

LIMIT_S = 0.05
CUT_OFFS = 3
"""How often a pattern is cut off before it is set aside."""


class Found(NamedTuple):
    """A date: Unix seconds, and the part of the line that is cut out. Where that is empty (`{NONE}`, or a pattern whose
    date is optional) the line tells no time of its own, and `ts` is now."""

    ts: float
    start: int
    end: int


class Match(Protocol):
    """What the matches of `re` and `regex` have in common."""

    @property
    def lastindex(self) -> int | None: ...
    def start(self, group: int = 0, /) -> int: ...
    def span(self, group: int = 0, /) -> tuple[int, int]: ...
    def groups(self) -> tuple[Any, ...]: ...
    def groupdict(self) -> dict[str, Any]: ...
    def __getitem__(self, group: int, /) -> Any: ...


Look = Callable[[str], Match | None]
Numbered = tuple[int, Template]
"""A template and its place in the list."""


class Source:
    """One template as a finder uses it: `read` what a match of it tells. `order` is its place in the list.

    To take a date apart costs 10 us, and a log has a new second every few lines, so dates are worked out by the minute:
    where first and last second of it are 59 s apart, the others lie between them.
    """

    __slots__ = ("_cut", "_date", "_fields", "_held", "_key", "_minutes", "_second_at", "_zone", "order", "template")

    def __init__(self, template: Template, order: int, zone: tzinfo, cut: int, date: int, fields: str | None) -> None:
        self.template = template
        self.order = order
        self._zone = zone
        self._cut = cut
        self._date = date
        self._fields = re.compile(fields).fullmatch if fields else None
        self._key = date if fields or template.reads != "fields" else _key_of(template)
        self._held: dict[str | tuple[Any, ...], tuple[Found, float, float, tuple[int, int]]] = {}
        self._second_at = 0  # where the second stood in the last date
        self._minutes: dict[tuple[str, str], Instant] = {}  # by what stands before and after the second

    def read(self, match: Match, now_ts: float) -> Found | None:
        """The date that a match is; None where it is no possible one."""
        key = match[self._key] if self._key >= 0 else match.groups()
        held = self._held.get(key)
        span = match.span(self._cut)
        if held is not None and held[1] <= now_ts < held[2]:
            return held[0] if held[3] == span else Found(held[0].ts, *span)
        if span[0] == span[1]:
            return Found(now_ts, *span)
        told = self._instant(match, now_ts)
        if told is None:
            return None
        found = Found(told.ts, *span)
        remember(self._held, key, (found, told.from_ts, told.until_ts, span))
        return found

    def _instant(self, match: Match, now_ts: float) -> Instant | None:
        if self.template.reads != "fields":
            return _number(self.template.reads, match[self._date])
        if self._fields is None:
            return instant(match.groupdict(), self._zone, now_ts)
        return self._of_minute(match[self._date], now_ts) or self._apart(match[self._date], now_ts)

    def _of_minute(self, text: str, now_ts: float) -> Instant | None:
        """What a common date tells, if its minute is known."""
        at = self._second_at
        second = _SECONDS.get(text[at : at + 2])
        minute = self._minutes.get((text[:at], text[at + 2 :]))
        if second is None or minute is None or not minute.from_ts <= now_ts < minute.until_ts:
            return None
        return Instant(minute.ts + second, minute.from_ts, minute.until_ts)

    def _apart(self, text: str, now_ts: float) -> Instant | None:
        """What a common date tells; its minute is known then."""
        taken = self._fields(text) if self._fields else None
        if taken is None:
            return None
        parts = taken.groupdict()
        first, last = (instant({**parts, "S": second}, self._zone, now_ts) for second in ("00", "59"))
        if first is not None and last is not None and last.ts - first.ts == 59 and parts.get("S") in _SECONDS:
            at = self._second_at = taken.start("S")
            span = max(first.from_ts, last.from_ts), min(first.until_ts, last.until_ts)
            remember(self._minutes, (text[:at], text[at + 2 :]), Instant(first.ts, *span))
        return instant(parts, self._zone, now_ts)


_SECONDS = {f"{second:02}": second for second in range(60)}


def _number(reads: Reads, text: str | None) -> Instant | None:
    """The instant of a date that is one number. TAI64N's label is read as fail2ban does: as Unix time."""
    if text is None or reads == "nothing":
        return None
    if reads == "tai64n":
        number = float(int(text[2:17], 16))
    elif reads == "long_epoch" and len(text) >= 13:
        number = float(text) / (1e6 if len(text) >= 16 and "." not in text else 1e3)
    else:
        number = float(text)
    return Instant(number) if number < LATEST_TS else None


def _key_of(template: Template) -> int:
    """The group whose text decides what a match tells: all of it where the pattern leaves no other choice, or -1."""
    own = re.sub(r"^(?:\{\^LN-BEG\}|\{UNB\})?\^?|\$$", "", template.own)
    return -1 if re.search(r"[|*+^$]|\(\?(?![:P])|\\[AbBZ]", own) else 0


class Scout(NamedTuple):
    """One look at a line. The number of a match's last group tells which template it is."""

    look: Look
    sources: Mapping[int | None, Source]
    template: Template
    """The one it looks for, or the first of them."""


def scouts_of(
    templates: Sequence[Numbered], zone: tzinfo, cut_off: dict[str, int], *, no_number_first: bool = False
) -> tuple[Scout, ...]:
    """Scouts for templates that are all bound or none: neighbours that may be one regex are one.

    `cut_off` counts, by text, the lines at which a pattern was cut off. `no_number_first`: lines that begin with a
    number of seconds have been taken already.
    """
    scouts: list[Scout] = []
    for joinable, run in groupby(templates, key=lambda numbered: _is_joinable(numbered[1]) and (numbered[1].own,)):
        if joinable:
            scouts.append(_joined(list(run), zone, cut_off, no_number_first=no_number_first))
        else:
            scouts += [alone(order, template, zone, cut_off) for order, template in run]
    return tuple(scouts)


def _is_joinable(template: Template) -> bool:
    bound = template.begins or template.ends
    return template.branch is not None and bound == template.anchored and not template.ends


@cache
def _free_chars(own: str, *, anchored: bool, many: bool) -> int:
    """How long a line may be for a user's regex to be certain to end soon. A part of the date is as good as a digit."""
    plain = _plain(own)
    try:
        free_chars = free_length(parse(f"^{plain}" if anchored and not plain.startswith("^") else plain))
    except re.error:
        return 0  # it refers to a part of the date
    return free_chars if free_chars >= _LINEAR_CHARS else free_chars // (_MANY if many else _ONE)


_LINEAR_CHARS = 50_000  # what is free of the clock up to here takes linear time
_MANY, _ONE = 8, 2  # how much sooner the clock runs elsewhere: a date takes more steps than a digit


def _plain(own: str) -> str:
    """A user's regex with a digit for each part of the date, and without what is said of its ends."""
    plain = re.sub(r"^\{(?:\^LN-BEG|UNB)\}|(?<!\\)\*\*(?=\)*$)|\(\?[a-z]+\)", "", own, flags=re.IGNORECASE)
    plain = re.sub(r"^(\(*)\*\*", r"\1", plain)
    return re.sub(r"(?<!\\)\{(?:DATE|L?EPOCH)\}|%(?:Ex)?.", "[0-9]", plain, flags=re.IGNORECASE)


@cache
def _needed(own: str) -> str:
    """A text (without letters: their case may not matter) that every match of a user's regex holds; may be empty."""
    try:
        return longest_literal(parse(_plain(own), re.IGNORECASE))
    except re.error:
        return ""  # as above


def alone(order: int, template: Template, zone: tzinfo, cut_off: dict[str, int]) -> Scout:
    """The scout of one template."""
    pattern = _compiled(template.regex)
    cut = min(set(range(1, pattern.groups + 1)) - set(pattern.groupindex.values()))
    source = Source(template, order, zone, cut, template.told, None)
    look: Look = pattern.match if template.anchored else pattern.search
    if template.own:
        look = _of_user(pattern, template, cut_off, many=False)
    return Scout(look, dict.fromkeys((None, *range(1, pattern.groups + 1)), source), template)


def _of_user(pattern: re.Pattern[str], template: Template, cut_off: dict[str, int], *, many: bool) -> Look:
    """A look that spares lines without what the pattern needs, and ends in bounded time."""
    free = pattern.match if template.anchored else pattern.search
    free_chars = _free_chars(template.own, anchored=template.anchored, many=many)
    look = free if free_chars >= REACH_CHARS else _clocked(free, pattern.pattern, template, free_chars, cut_off)
    needed = "" if template.anchored else _needed(template.own)
    return (lambda line: look(line) if needed in line else None) if needed else look


def _clocked(free: Look, pattern: str, template: Template, free_chars: int, cut_off: dict[str, int]) -> Look:
    """A look under a limit of time where the line is so long that it could be passed.

    A regex that `regex` does not read is cut off at once in such lines.
    """
    import regex  # type: ignore[import-untyped]  # noqa: PLC0415  for few patterns, and it takes 7 ms

    try:
        clocked = regex.compile(pattern)
    except regex.error:
        clocked = None
    name = template.own

    def look(line: str) -> Match | None:
        if len(line) <= free_chars:
            return free(line)
        if cut_off.get(name, 0) >= CUT_OFFS:
            return None
        if clocked is not None:
            run = clocked.match if template.anchored else clocked.search
            with suppress(TimeoutError):
                found: Match | None = run(line, timeout=LIMIT_S)
                return found
        cut_off[name] = cut_off.get(name, 0) + 1
        return None

    return look


_compiled = cache(re.compile)


def _joined(templates: Sequence[Numbered], zone: tzinfo, cut_off: dict[str, int], *, no_number_first: bool) -> Scout:
    """One regex of several templates, in order. Each alternative ends in an empty group, the last to be closed."""
    alternatives: list[str] = []
    sources: dict[int | None, Source] = {}
    groups = 0
    for order, template in templates:
        branch = template.branch
        if branch is None:
            raise ValueError(f"{template.text} cannot be joined")
        mark = f"mark{order}"
        source = branch.source.replace("(?P<mark>", f"(?P<{mark}>").replace("(?P=mark)", f"(?P={mark})")
        alternatives.append(f"{source}()")
        cut, date = groups + branch.cut, groups + branch.date
        groups += branch.groups + 1
        sources[groups] = Source(template, order, zone, cut, date, branch.fields)
    body = "|".join(alternatives)
    first = templates[0][1]
    if first.own:
        return Scout(_of_user(_compiled(body), first, cut_off, many=True), sources, first)
    if first.anchored:
        return Scout(_compiled(f"{_HEAD_GUARD}(?:{body})").match, sources, first)
    return Scout(_Anywhere(_compiled(body), no_number_first=no_number_first).look, sources, first)


# -- the common dates ----------------------------------------------------------------------------------------------

_HEAD_GUARD = r"(?=\W{0,3}(?:[A-Za-z]{1,5}[ -](?:[A-Za-z]{3} | ?[0-9])|[0-9]{1,2}[-/: ]|[0-9]{4}|[0-9a-f]{24}))"
"""What every common date at the line's start begins with: one look instead of one for each."""

_HINT = re.compile(r"[0-9@a](?::[0-5]?[0-9]:[0-9]|[0-9]{7}(?:T| {1,2})[0-9]{6}|[0-9a-f]{24}|udit\([0-9]{10})")
"""What every common date elsewhere holds: hour, minute and second, fourteen digits, a TAI64N label, an audit number."""

_BEFORE_HINT = 24
"""The most characters of a common date before its hint."""

_AUDIT = "audit("
_NUMBER_STARTS = frozenset("0123456789[")  # a number of seconds at the line's start needs no hint

_PLACES = 64
"""In how many places of a line a date is held."""

_PARTING = frozenset("[](){}<>\"'=|;*#!?&%$^~`\\")
"""Characters that no common date holds."""


class _Anywhere:
    """The leftmost common date of a line, in whatever place.

    It cannot begin much before the first hint, so that the line is searched from there. Where the date stands as far
    before the hint as in the line before, and a character in front of it belongs to no date, there is none before it.
    Where such characters stand on both sides, the text between them tells all: a match of it at the same place in an
    earlier line is this line's too.
    """

    __slots__ = ("_before", "_held", "_match", "_number_starts", "_search")

    def __init__(self, pattern: re.Pattern[str], *, no_number_first: bool) -> None:
        self._number_starts = frozenset[str]() if no_number_first else _NUMBER_STARTS
        self._match = pattern.match
        self._search = pattern.search
        self._before = 0
        self._held: dict[int, tuple[str, Match]] = {}

    def look(self, line: str) -> Match | None:
        """The leftmost date."""
        first = line[:1]
        if first in self._number_starts and (match := self._match(line, first == "[")):
            return match
        hint = _HINT.search(line)
        if hint is None:
            return None
        place = hint.start()
        start = place - self._before
        if start > 0:
            held = self._held.get(start)
            if held is not None and line.startswith(held[0], start - 1):
                return held[1]
            if line[start - 1] in _PARTING and (match := self._match(line, start)):
                return self._hold(line, match)
        if line.startswith(_AUDIT, place) and (match := self._match(line, place + len(_AUDIT))):
            # no date holds the bracket, so that none before it has a hint
            return match
        match = self._search(line, max(0, place - _BEFORE_HINT))
        if match is not None:
            self._before = max(0, place - match.start())
        return match

    def _hold(self, line: str, match: Match) -> Match:
        start, end = match.span()
        if line[end : end + 1] in _PARTING:
            remember(self._held, start, (line[start - 1 : end + 1], match), _PLACES)
        return match
