"""The multi-pattern prefilter: which lines of a block could matter to which rules, without parsing any.

In: a block of whole lines. Out: (start of line, mask of rules) for each line in which a pattern occurs, in order.
A pattern over-approximates: a line without it cannot match its rule, a line with it may. With `on=False` every line
is a candidate for every rule; findings must not differ (law 7).

Hyperscan scans 240 MB for a rule set in 0.04-0.1 s. Where no wheel of it exists, `re` finds the same lines, slower.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from tocsin.formats import Format
    from tocsin.rules import Need

try:
    import hyperscan
except ImportError:  # pragma: no cover  # no wheel for this machine: the fallback gives the same candidates
    hyperscan = None  # type: ignore[assignment]  # a module, or nothing

HAS_AUTOMATON = hyperscan is not None
Candidates = list[tuple[int, int]]


class Pattern(Struct, frozen=True):
    """A regex that Hyperscan and `re` read alike (no look-around, never over a newline; `^` and `$` are of lines), and
    whom it concerns.
    """

    regex: bytes
    mask: int
    ignore_case: bool = False


class TooLargeError(ValueError):
    """The patterns are more than Hyperscan can make an automaton of."""


# In JSON: an ASCII sign spelt as an escape.
_JSON_ESCAPE = rb"\\(?:u00[2-7]|/)"
_IN_REQUEST = frozenset({"path", "target", "query"})


def need_patterns(needs: frozenset[Need], fmt: Format, mask: int) -> list[Pattern]:
    """Patterns one of which occurs in every line of the format that fulfils one of the needs.

    A need with a method becomes a pattern of the request, so that neither a GET nor a referer with the literal passes.
    All others are searched for anywhere in the line: 250 patterns of requests made a database of 20 MB, literals make
    one of 0.1 MB, and few innocent lines hold them.
    """
    patterns = []
    for need in needs:
        regex = re.escape(need.literal.encode())
        if need.field == "status":
            regex = b"(?:^|[^0-9])" + regex + b"(?:[^0-9\\n]|$)"
        if need.field in _IN_REQUEST and need.method and not need.ignore_case and not fmt.json_escapes:
            regex = fmt.request_pattern(need.method, need.literal) or regex
        patterns.append(Pattern(regex, mask, need.ignore_case))
        if need.encoded:
            patterns.append(Pattern(fmt.percent_pattern, mask))
    if fmt.json_escapes:
        patterns.append(Pattern(_JSON_ESCAPE, mask))
    return patterns


class Scanner:
    """Finds candidate lines. `always` is the mask of rules that want every line, and so cannot be prefiltered."""

    def __init__(self, patterns: Sequence[Pattern], always: int = 0, *, fallback: bool = False) -> None:
        merged: dict[tuple[bytes, bool], int] = {}
        for pattern in patterns:
            slot = (pattern.regex, pattern.ignore_case)
            merged[slot] = merged.get(slot, 0) | pattern.mask
        self.always = always
        self.masks = tuple(merged.values())
        self._ends: Callable[[bytes], Iterator[tuple[int, int]]] = lambda _data: iter(())
        if merged:
            regexes = list(merged)
            self._ends = _python_ends(regexes) if fallback or hyperscan is None else _hyperscan_ends(regexes)

    def scan(self, data: bytes) -> Candidates:
        """Candidate lines of a block of whole lines, in order."""
        return list(self._every_line(data) if self.always else self._hits(data))

    def _hits(self, data: bytes) -> Iterator[tuple[int, int]]:
        start, end, mask = 0, -1, 0
        masks = self.masks
        for pattern, position in self._ends(data):
            if position > end:
                if mask:
                    yield start, mask
                start = data.rfind(b"\n", 0, position) + 1
                end = data.find(b"\n", position)
                mask = 0
            mask |= masks[pattern]
        if mask:
            yield start, mask

    def _every_line(self, data: bytes) -> Iterator[tuple[int, int]]:
        hits = dict(self._hits(data))
        start = 0
        while start < len(data):
            yield start, self.always | hits.get(start, 0)
            start = data.find(b"\n", start) + 1


def _hyperscan_ends(regexes: Sequence[tuple[bytes, bool]]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    database = hyperscan.Database(mode=hyperscan.HS_MODE_BLOCK)
    try:
        database.compile(
            expressions=[regex for regex, _ in regexes],
            ids=list(range(len(regexes))),
            elements=len(regexes),
            flags=[
                hyperscan.HS_FLAG_MULTILINE | (hyperscan.HS_FLAG_CASELESS if ignore_case else 0)
                for _, ignore_case in regexes
            ],
        )
    except hyperscan.error as error:
        raise TooLargeError(str(error)) from error

    def ends(data: bytes) -> Iterator[tuple[int, int]]:
        hits: list[tuple[int, int]] = []

        def note(pattern: int, _start: int, end: int, _flags: int, _context: object) -> None:
            hits.append((pattern, end))

        database.scan(data, match_event_handler=note)
        return iter(hits)

    return ends


def _python_ends(regexes: Sequence[tuple[bytes, bool]]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
    compiled = [
        re.compile(regex, re.MULTILINE | (re.IGNORECASE if ignore_case else 0)) for regex, ignore_case in regexes
    ]

    def ends(data: bytes) -> Iterator[tuple[int, int]]:
        hits = [(match.end(), i) for i, regex in enumerate(compiled) for match in regex.finditer(data)]
        hits.sort()
        return ((i, end) for end, i in hits)

    return ends
