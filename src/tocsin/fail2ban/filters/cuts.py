"""Where a date can have stood in a raw line, so that cutting it out joined what is apart there. Pure.

The prefilter reads raw lines, a filter's regexes the text without its date. Of most date patterns it can be said that
the date stands at the line's start, or which characters can stand close before and after it; then hardly any place of
a regex can be one at which the raw line has a date.
"""

from __future__ import annotations

from functools import cache, lru_cache

from msgspec import Struct

from tocsin.fail2ban.dates.templates import BOUND, LINE_BEGIN, Template, templates_of
from tocsin.fail2ban.filters.parsing import parse
from tocsin.fail2ban.filters.syntax import (
    EVERY,
    WORD,
    Alt,
    Chars,
    Group,
    Look,
    Mask,
    Node,
    Place,
    Repeat,
    Seq,
    first,
    flat,
    last,
    nullable,
    widest,
)

NEAR_CHARS = 8
"""How many characters may stand before a date for it to be near the line's start."""

_TAI64N = rb"@[0-9a-f]{24}"
_OFFSET = (
    rb"[+\-][01][0-9](?::?[0-9][0-9])? (?i:mon|tue|wed|thu|fri|sat|sun|jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec)"
)
_SHORT_DAY = rb" [1-9][\-/][0-9A-Za-z]{1,3}[\-/]"
_RARE_BEGINNINGS: dict[Mask, bytes] = {1 << ord("+") | 1 << ord("-"): _OFFSET, 1 << ord(" "): _SHORT_DAY}
_BOUND = parse(BOUND).items[0]


class Cuts(Struct, frozen=True):
    """`near`: a date may stand after at most so many characters of the text, of which the last is one of `near_after`;
    -1: none stands near. `within`: one may stand anywhere, between characters of these two sets. `escapes`: a line in
    which one of these regexes occurs may have a date wherever it likes.
    """

    near: int = -1
    near_after: Mask = 0
    within: tuple[tuple[Mask, Mask], ...] = ()
    escapes: tuple[bytes, ...] = ()

    def split(self, before: Mask, after: Mask, consumed: int) -> bool:
        """Whether a date can have stood between a character of the one set and one of the other, `consumed` characters
        at least after the start of the text."""
        if max(consumed, 1) <= self.near and before & self.near_after:
            return True
        return any(before & left and after & right for left, right in self.within)


UNCUT = Cuts()
"""Nothing is cut out: the journal tells the time."""


@lru_cache(maxsize=256)
def cuts_of(datepattern: str | None) -> Cuts:
    """What is known of the dates of a `datepattern`."""
    near, near_after = -1, 0
    within: dict[tuple[Mask, Mask], None] = {}
    escapes: dict[bytes, None] = {}
    templates = templates_of(datepattern)
    for template in templates:
        if template.reads == "nothing" and template.anchored:
            continue
        rare: Mask = 0
        if len(templates) > 1 and not template.anchored and not template.own:
            # these may stand close after a word, but no usual line holds one
            if template.reads == "tai64n":
                escapes[_TAI64N] = None
                continue
            rare = parse(template.regex).begin & ~WORD
            if rare in _RARE_BEGINNINGS:
                escapes[_RARE_BEGINNINGS[rare]] = None
            else:
                rare = 0
        one = _of_template(template, without=rare)
        near, near_after = max(near, one.near), near_after | one.near_after
        within.update(dict.fromkeys(one.within))
    return Cuts(near, near_after, tuple(within), tuple(escapes))


def _of_template(template: Template, *, without: Mask = 0) -> Cuts:
    """`without`: a date that begins so is seen to elsewhere."""
    anywhere = Cuts(within=((EVERY, EVERY),))
    begin, _, rest = template.regex.removeprefix("(?i)").partition(LINE_BEGIN)
    if template.anchored and not (template.own or begin) and rest.startswith("(") and not rest.startswith("(?"):
        return _at_start()
    try:
        items = parse(template.regex).items
    except (RecursionError, OverflowError):
        return anywhere
    place = next((i for i, item in enumerate(items) if _holds_cut(item)), None)
    if place is None or not isinstance(items[place], Group):
        return anywhere
    group, before, after = items[place], items[:place], items[place + 1 :]
    room = widest(Seq(before))
    if template.anchored and room is not None and room <= NEAR_CHARS:
        return Cuts(near=room, near_after=last(Seq(before)))
    if without:
        group = Group(Seq((Chars(group.begin & ~without), group)), 0, None)
    return Cuts(within=((_before(before, group, EVERY), _after(after, group, EVERY)),))


@cache
def _at_start() -> Cuts:
    """Of the common dates at the line's start: before them stands the same, and parsing all of them takes 8 ms."""
    before = parse(LINE_BEGIN)
    return Cuts(near=widest(before) or 0, near_after=last(before))


def _holds_cut(node: Node) -> bool:
    """Whether the first unnamed group, which is cut out, is the node or in it."""
    match node:
        case Group(item, _, name):
            return name is None or _holds_cut(item)
        case Seq(items) | Alt(items):
            return any(_holds_cut(item) for item in items)
        case Repeat(item) | Look(item):
            return _holds_cut(item)
        case _:
            return False


def _at_edge(edge: Mask, *, empty: bool) -> Mask:
    """What can stand outside of a boundary, of what is inside."""
    return EVERY & ~WORD if not empty and edge & WORD == edge else EVERY


def _before(items: tuple[Node, ...], group: Node, allowed: Mask) -> Mask:
    """The characters that can stand close before what is cut out."""
    if not items:
        return allowed
    item, rest = items[-1], items[:-1]
    if item == _BOUND:
        return _before(rest, group, allowed & _at_edge(first(group), empty=nullable(group)))
    if item == Place("start"):
        return 0
    if isinstance(item, Look):
        told = item.behind and not item.negative and not nullable(item.item)
        return _before(rest, group, allowed & last(item.item) if told else allowed)
    if isinstance(item, Alt) and widest(item) == 0:
        masks = [_before((*rest, *flat(branch)), group, allowed) for branch in item.branches]
        return _union(masks)
    mask = last(item) & allowed
    return mask | _before(rest, group, allowed) if nullable(item) else mask


def _after(items: tuple[Node, ...], group: Node, allowed: Mask) -> Mask:
    """The characters that can stand close after what is cut out."""
    if not items:
        return allowed
    item, rest = items[0], items[1:]
    if item == _BOUND:
        return _after(rest, group, allowed & _at_edge(last(group), empty=nullable(group)))
    if item == Place("end"):
        return 0
    if isinstance(item, Look | Place):
        return _after(rest, group, allowed)
    mask = first(item) & allowed
    return mask | _after(rest, group, allowed) if nullable(item) else mask


def _union(masks: list[Mask]) -> Mask:
    mask = 0
    for one in masks:
        mask |= one
    return mask
