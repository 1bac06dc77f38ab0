"""The multi-pattern prefilter: which lines of a block could matter to which rules, without parsing any.

In: a block of whole lines. Out: (start of line, mask of rules) for each line in which a pattern occurs, in order.
A pattern over-approximates: a line without it cannot match its rule, a line with it may. With `on=False` every line
is a candidate for every rule; findings must not differ (law 7).

Hyperscan scans 240 MB for a rule set in 0.04-0.1 s. Where no wheel of it exists, `re` finds the same lines, slower.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from itertools import accumulate
from typing import TYPE_CHECKING

from msgspec import Struct

if TYPE_CHECKING:
    from tocsin.formats import Format
    from tocsin.rules import Need

try:
    import hyperscan
except ImportError:  # pragma: no cover  # no wheel for this machine: the fallback gives the same candidates
    hyperscan = None  # type: ignore[assignment]  # a module, or nothing

OFTEN = 8  # a sign in one of so many lines or more is of no use
LONG_SIGN_BYTES = 512  # so long a sign tells as much as the pattern, and takes as long to make an automaton of
LEARN_BYTES = 1 << 16  # from so many bytes it is learned how often signs occur
LEARNED_MOST = 4
_NEWLINES = re.compile(rb"\n").finditer

HAS_AUTOMATON = hyperscan is not None
Candidates = list[tuple[int, int]]


class Pattern(Struct, frozen=True):
    """A regex that Hyperscan and `re` read alike (no look-around, never over a newline; `^` and `$` are of lines), and
    whom it concerns. `refined`: one for `re` that must occur in the line too. `signs`: regexes, simpler than this, each
    of which occurs in every such line; the most telling one first.
    """

    regex: bytes
    mask: int
    ignore_case: bool = False
    refined: bytes = b""
    signs: tuple[bytes, ...] = ()


class TooLargeError(ValueError):
    """The patterns are more than Hyperscan can make an automaton of."""


_PERCENT = b"%[2-7]"
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
            patterns.append(_percent(fmt, mask))
    if fmt.json_escapes:
        patterns.append(Pattern(_JSON_ESCAPE, mask))
    return patterns


def _percent(fmt: Format, mask: int) -> Pattern:
    """A path with a letter or sign spelt as `%hh`. Where in the line it stands is looked at only in lines that have one
    at all: looked for in all lines it took 70 ms of 155 (240 MB).
    """
    regex = fmt.percent_pattern
    return Pattern(regex, mask, signs=() if regex == _PERCENT else (_PERCENT,))


class Scanner:
    """Finds candidate lines. `always` is the mask of rules that want every line, and so cannot be prefiltered.

    Automata are made when the first block is scanned; where they would be too large with the patterns of `spare`, these
    rules want every line too.

    A long pattern costs far more than a literal: ten jails' 25 took 0.8 s for 1,000,000 lines (170 MB), the literals
    that they demand 0.1 s. So a pattern with `signs` is looked for only in lines with the rarest of them in the first
    block of some size; where none is rare it is looked for everywhere.
    """

    def __init__(
        self,
        patterns: Sequence[Pattern],
        always: int = 0,
        *,
        spare: Sequence[Pattern] = (),
        fallback: bool = False,
    ) -> None:
        self.always = always
        self._patterns = tuple(patterns)
        self._spare = tuple(spare)
        self._simple = fallback or hyperscan is None
        self._doubt = 1 << max((pattern.mask for pattern in (*patterns, *spare)), default=0).bit_length()
        self._signs: dict[Pattern, bytes] = {}  # of a pattern, where it is not the first: b"" none
        self._learned = 0
        self._learns = not self._simple and any(pattern.signs for pattern in (*patterns, *spare))
        self._first: _Lines | None = None
        self._second: _Lines | None = None

    def with_others(self, regexes: Collection[bytes], mask: int) -> Scanner:
        """A scanner that finds the lines of these regexes too. With `re` every line in question is found as it is."""
        if self._simple or not regexes:
            return self
        others = [Pattern(regex, mask) for regex in sorted(regexes)]
        return Scanner(self._patterns, self.always, spare=[*self._spare, *others])

    def scan(self, data: bytes) -> Candidates:
        """Candidate lines of a block of whole lines, in order."""
        self._make_ready(data)
        found = dict(self._hits(data))
        if not self.always:
            return list(found.items())
        starts = [0, *(match.end() for match in _NEWLINES(data))][:-1]
        return [(start, self.always | found.get(start, 0)) for start in starts]

    def _hits(self, data: bytes) -> Candidates:
        if self._first is None:
            return []
        found = list(self._first.hits(data))
        if self._second is None:
            return found
        doubt = self._doubt
        doubtful = [start for start, mask in found if mask & doubt]
        if not doubtful:
            return found
        lines = [data[start : data.find(b"\n", start) + 1] for start in doubtful]
        left = b"".join(lines)
        if len(data) >= LEARN_BYTES and len(left) * OFTEN > len(data):  # what was rare is so no more
            self._learns = self._learned < LEARNED_MOST
        places = dict(zip(accumulate(map(len, lines), initial=0), doubtful, strict=False))
        sure = {places[start]: mask for start, mask in self._second.hits(left)}
        marked = ((start, mask & ~doubt | sure.get(start, 0)) for start, mask in found)
        return [(start, mask) for start, mask in marked if mask]

    # -- automata ----------------------------------------------------------------------------------------------------

    def prepare(self) -> None:
        """Make the automata before the first block comes."""
        self._make_ready(b"")

    def _make_ready(self, data: bytes) -> None:
        learns = self._learns and len(data) >= LEARN_BYTES
        wanted = self._first is None
        while wanted or learns:
            patterns = [*self._patterns, *self._spare]
            try:
                if learns:
                    wanted |= self._learn([pattern for pattern in patterns if pattern.signs], data)
                if wanted:
                    self._make(patterns)
            except TooLargeError:
                if not self._spare:
                    raise
                for pattern in self._spare:
                    self.always |= pattern.mask
                self._spare = ()
                wanted = True
            else:
                return

    def _learn(self, patterns: Sequence[Pattern], data: bytes) -> bool:
        """Which sign of each pattern is in the fewest lines of a block; whether that asks for other automata. Who has
        but one is taken to be right with it until it is met too often: an automaton of many takes time to make too.
        """
        self._learned += 1
        self._learns = False
        patterns = [pattern for pattern in patterns if len(pattern.signs) > 1 or self._learned > 1]
        if not patterns:  # the same automata again would keep the block waiting for 0.05 s
            return False
        before = dict(self._signs)
        signs = list(dict.fromkeys(sign for pattern in patterns for sign in pattern.signs))
        bytes_of = dict.fromkeys(signs, 0)
        for start, mask in _Lines([Pattern(sign, 1 << i) for i, sign in enumerate(signs)], simple=False).hits(data):
            size = data.find(b"\n", start) - start
            for i in range(mask.bit_length()):
                if mask >> i & 1:
                    bytes_of[signs[i]] += size
        for pattern in patterns:
            sign = min(pattern.signs, key=lambda sign: bytes_of[sign])
            self._signs[pattern] = sign if bytes_of[sign] * OFTEN < len(data) else b""
        return self._signs != before

    def _make(self, patterns: Sequence[Pattern]) -> None:
        direct: list[Pattern] = []
        staged: list[Pattern] = []
        for pattern in patterns:
            sign = b"" if self._simple else self._signs.get(pattern, next(iter(pattern.signs), b""))
            if len(sign) > LONG_SIGN_BYTES:
                direct.append(Pattern(sign, pattern.mask, pattern.ignore_case, pattern.refined))
            elif sign:
                staged.append(pattern)
                direct.append(Pattern(sign, self._doubt, pattern.ignore_case))
            else:
                direct.append(pattern)
        second = _Lines(staged, simple=self._simple) if staged else None
        self._first, self._second = _Lines(direct, simple=self._simple), second


class _Lines:
    """Finds the lines in which patterns occur."""

    def __init__(self, patterns: Sequence[Pattern], *, simple: bool) -> None:
        merged: dict[tuple[bytes, bool, bytes], int] = {}
        for pattern in patterns:
            slot = (pattern.regex, pattern.ignore_case, pattern.refined)
            merged[slot] = merged.get(slot, 0) | pattern.mask
        self._masks = tuple(merged.values())
        self._refined = tuple(re.compile(refined).search if refined else None for _, _, refined in merged)
        regexes = [(regex, ignore_case) for regex, ignore_case, _ in merged]
        self._ends: Callable[[bytes], Iterator[tuple[int, int]]] = lambda _data: iter(())
        if regexes:
            self._ends = _python_ends(regexes) if simple else _hyperscan_ends(regexes)

    def hits(self, data: bytes) -> Iterator[tuple[int, int]]:
        """(start of a line, mask of the patterns in it), in order."""
        start, end, mask = 0, -1, 0
        masks, all_refined = self._masks, self._refined
        for pattern, position in self._ends(data):
            if position > end:
                if mask:
                    yield start, mask
                start = data.rfind(b"\n", 0, position) + 1
                end = data.find(b"\n", position)
                mask = 0
            refined = all_refined[pattern]
            if refined is None or refined(data, start, end):
                mask |= masks[pattern]
        if mask:
            yield start, mask


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
