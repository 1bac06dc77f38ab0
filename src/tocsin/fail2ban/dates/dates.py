r"""The date of a log line: which part of it is one, and what instant it tells.

**Which one.** Templates (date_templates) that are bound to the line's start or end come first, in the order of the
list: the first one that fits and tells a possible instant is the date. Where none does, it is the leftmost fit of all
others; of two that begin at one place the earlier in the list. That depends on the line, `now_ts` and the patterns
alone. fail2ban begins likewise, but then prefers what matched in earlier lines at the same place, moves templates that
match often to the front of the list, gives up where the first fit is no possible instant, and lets the last of several
patterns win wherever it stands: there the same line can have two dates.

**What it tells** is date_fields' business. As in fail2ban, `%f` is read and dropped and a TAI64N label is taken for
Unix time, though it counts ten seconds more; unlike there, `{DEFAULT}` among other patterns does add the default list.

**How far.** A line is searched up to REACH_CHARS; with a pattern that ends in `$`, so much of its end. A date beyond
is not found, and what stands there costs nothing.

**How fast.** Templates that may be one regex are one. A date's text is taken apart once and then found in a cache;
what now_ts means to it (a missing year or day) is kept with it, as the span in which it stays the same. The common
dates are looked for only around what each of them holds, and first where the line before had its date. None of this
changes an answer.

**How long.** A user's regex that could cost more than linear time is run under a limit of 50 ms; a line that takes
longer has no date by that pattern. After three such lines the pattern is set aside; `cut_off` counts them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import tzinfo
from functools import cached_property
from itertools import chain

from tocsin.fail2ban.dates.scouts import CUT_OFFS, REACH_CHARS, Found, Match, Scout, alone, scouts_of
from tocsin.fail2ban.dates.templates import Template, templates_of
from tocsin.fail2ban.dates.zones import zone_of
from tocsin.fail2ban.filters.cuts import cuts_of
from tocsin.fail2ban.filters.syntax import ASCII, WORD

__all__ = ["REACH_CHARS", "DateFinder", "Found"]

_TORN_CHARS = 64  # so near to the end of what is searched a date may have been cut in two


class DateFinder:
    """Finds the dates of one source's lines.

    `datepattern` is the option's text (None: the default list), `zone` that of dates which name none unless
    `logtimezone` names another. ValueError says what is wrong with the pattern or the zone.
    """

    def __init__(self, datepattern: str | None, zone: tzinfo, *, logtimezone: str | None = None) -> None:
        self._zone = zone_of(logtimezone) if logtimezone else zone
        self._datepattern = datepattern
        self._cut_off: dict[str, int] = {}
        self._templates = tuple(enumerate(templates_of(datepattern)))

    @property
    def cuts_anywhere(self) -> bool:
        """Whether what stands before and after a date may both be characters of words, so that cutting it out makes
        two neighbours of them that were none. (`cuts_of` tells more.)"""
        cuts = cuts_of(self._datepattern)
        if not (self._datepattern or "").isascii() or cuts.near_after & WORD & ASCII:
            return True
        return any(before & WORD and after & WORD for before, after in cuts.within)

    @property
    def cut_off(self) -> Mapping[str, int]:
        """How many lines took too long, by pattern."""
        return self._cut_off

    @property
    def set_aside(self) -> tuple[str, ...]:
        """The patterns that took too long so often that lines that could be costly are not given to them any more."""
        return tuple(pattern for pattern, lines in self._cut_off.items() if lines >= CUT_OFFS)

    # Regexes are compiled with the first line: of many jails few have any.

    def prepare(self) -> None:
        """Compile what the first line would wait for."""
        _ = self._bound, self._others

    @cached_property
    def _bound(self) -> tuple[Scout, ...]:
        bound = [numbered for numbered in self._templates if _is_bound(numbered[1])]
        return scouts_of(bound, self._zone, self._cut_off)

    @cached_property
    def _others(self) -> tuple[Scout, ...]:
        others = [numbered for numbered in self._templates if not _is_bound(numbered[1])]
        no_number_first = any(template.begins and template.reads == "epoch" for _, template in self._templates)
        return scouts_of(others, self._zone, self._cut_off, no_number_first=no_number_first)

    @cached_property
    def _at_end(self) -> tuple[Scout, ...]:
        """In a line that is searched in part, what is looked for at its end."""
        return tuple(scout for scout in self._bound if scout.template.ends and not scout.template.begins)

    @cached_property
    def _at_start(self) -> tuple[Scout, ...]:
        """In a line that is searched in part, what is looked for at its start."""
        return tuple(scout for scout in self._bound if scout.template.begins)

    @cached_property
    def _singly(self) -> tuple[Scout, ...]:
        return tuple(alone(order, template, self._zone, self._cut_off) for order, template in self._templates)

    def find(self, line: str, now_ts: float) -> Found | None:
        """The date of a line (without its newline), or None. `now_ts` tells a missing year or day."""
        if len(line) > REACH_CHARS:
            return self._find_in_long(line, now_ts)
        return self._find(line, now_ts, self._bound)

    def _find(self, line: str, now_ts: float, bound: tuple[Scout, ...]) -> Found | None:
        for scout in bound:
            match = scout.look(line)
            if match is not None:
                found = scout.sources[match.lastindex].read(match, now_ts)
                return self._find_singly(line, now_ts, bound) if found is None else found
        others = self._others
        if not others:
            return None
        if len(others) == 1:
            scout = others[0]
            match = scout.look(line)
        else:
            scout, match = next(iter(_leftmost_first(others, line)), (others[0], None))
        if match is None:
            return None
        found = scout.sources[match.lastindex].read(match, now_ts)
        return self._find_singly(line, now_ts, bound) if found is None else found

    def _find_singly(self, line: str, now_ts: float, bound: tuple[Scout, ...]) -> Found | None:
        """Template by template: the first fit tells no possible instant."""
        whole = bound is self._bound
        first = [scout for scout in self._singly if _is_bound(scout.template) and (whole or scout.template.begins)]
        last = [scout for scout in self._singly if not _is_bound(scout.template)]
        in_order = ((scout, match) for scout in first if (match := scout.look(line)) is not None)
        for scout, match in chain(in_order, _leftmost_first(last, line)):
            if (found := scout.sources[match.lastindex].read(match, now_ts)) is not None:
                return found
        return None

    def _find_in_long(self, line: str, now_ts: float) -> Found | None:
        """In a part of the line: from its start, or for patterns bound to its end alone from there."""
        skipped = len(line) - REACH_CHARS
        for scout in self._at_end:
            match = scout.look(line[skipped:])
            if match is not None and (found := scout.sources[match.lastindex].read(match, now_ts)) is not None:
                return Found(found.ts, found.start + skipped, found.end + skipped)
        found = self._find(line[:REACH_CHARS], now_ts, self._at_start)
        return found if found is not None and found.end <= REACH_CHARS - _TORN_CHARS else None


def _is_bound(template: Template) -> bool:
    return template.begins or template.ends


def _leftmost_first(scouts: Sequence[Scout], line: str) -> list[tuple[Scout, Match]]:
    """What fits, the leftmost first; of two at one place the earlier in the list."""
    matches = [(scout, match) for scout in scouts if (match := scout.look(line)) is not None]
    return sorted(matches, key=lambda found: (found[1].start(), found[0].sources[found[1].lastindex].order))
