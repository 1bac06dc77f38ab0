"""Regexes parsed into trees (see syntax), and compiled. Pure.

The library's own parser does the reading; that is most of the work of compiling, so it is done once for both.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from re import _compiler as sre_compiler  # type: ignore[attr-defined]  # the syntax tree has no public name in it
from re import _constants as sre  # type: ignore[attr-defined]  # as above
from re import _parser as sre_parser  # type: ignore[attr-defined]  # as above
from typing import Any

from tocsin.fail2ban.filters.syntax import (
    BEYOND,
    BEYOND_OTHER,
    BEYOND_SPACE,
    BEYOND_WORD,
    EVERY,
    NEWLINE,
    Again,
    Alt,
    Chars,
    Group,
    Look,
    Mask,
    Node,
    Place,
    Repeat,
    Seq,
)

_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_CATEGORIES = {
    sre.CATEGORY_DIGIT: (r"\d", False),
    sre.CATEGORY_NOT_DIGIT: (r"\D", True),
    sre.CATEGORY_SPACE: (r"\s", False),
    sre.CATEGORY_NOT_SPACE: (r"\S", True),
    sre.CATEGORY_WORD: (r"\w", False),
    sre.CATEGORY_NOT_WORD: (r"\W", True),
}
_PLACES = {
    sre.AT_BEGINNING: "start",
    sre.AT_BEGINNING_STRING: "start",
    sre.AT_END: "end",
    sre.AT_END_STRING: "end",
    sre.AT_BOUNDARY: "boundary",
    sre.AT_NON_BOUNDARY: "boundary",
}
_SPACES = (sre.CATEGORY_SPACE, sre.CATEGORY_NOT_SPACE)
# Beyond ASCII, what `re` takes for the same letter when case is ignored.
_SAME_LETTER = {0x69: (0x130, 0x131), 0x73: (0x17F,), 0x6B: (0x212A,)}


@lru_cache(maxsize=8)
def _parsed(pattern: str, flags: int) -> Any:
    return sre_parser.parse(pattern, flags)


def compiled(pattern: str, flags: int = 0) -> re.Pattern[str]:
    """`re.compile`, which shares with `parse` what takes most of the time: reading the regex."""
    found: re.Pattern[str] = sre_compiler.compile(_parsed(pattern, flags), flags)
    return found


def groups_of(pattern: str, flags: int = 0) -> tuple[int, Mapping[str, int]]:
    """How many groups a regex has, and the numbers of those with names."""
    state = _parsed(pattern, flags).state
    return state.groups - 1, state.groupdict


@lru_cache(maxsize=1024)
def parse(pattern: str, flags: int = 0) -> Seq:
    """The tree of a regex that `re.compile(pattern, flags)` accepts; raises what that raises."""
    parsed = _parsed(pattern, flags)
    names = {number: name for name, number in parsed.state.groupdict.items()}
    return _seq(parsed, parsed.state.flags, names)


def _seq(tree: Any, flags: int, names: dict[int, str]) -> Seq:
    return Seq(tuple(_node(op, arg, flags, names) for op, arg in tree))


def _node(op: Any, arg: Any, flags: int, names: dict[int, str]) -> Node:
    if op is sre.SUBPATTERN:
        number, more, less, tree = arg
        item = _seq(tree, (flags | more) & ~less, names)
        return item if number is None else Group(item, number, names.get(number))
    if op is sre.BRANCH:
        return Alt(tuple(_seq(branch, flags, names) for branch in arg[1]))
    if op in _REPEATS:
        low, high, tree = arg
        ceiling = None if high is sre.MAXREPEAT else int(high)
        return Repeat(_seq(tree, flags, names), int(low), ceiling, op is sre.MIN_REPEAT)
    if op is sre.ATOMIC_GROUP:
        return _seq(arg, flags, names)
    if op in (sre.ASSERT, sre.ASSERT_NOT):
        return Look(_seq(arg[1], flags, names), op is sre.ASSERT_NOT, arg[0] < 0)
    if op is sre.AT:
        return Place(_PLACES[arg])
    if op is sre.GROUPREF:
        return Again(int(arg))
    if op is sre.GROUPREF_EXISTS:
        _, yes, no = arg
        return Alt((_seq(yes, flags, names), _seq(no or (), flags, names)))
    if op is sre.FAILURE:
        return Alt(())
    return Chars(_mask(op, tuple(arg) if op is sre.IN else arg, flags & (re.IGNORECASE | re.DOTALL | re.ASCII)))


@lru_cache(maxsize=4096)
def _mask(op: Any, arg: Any, flags: int) -> Mask:
    if op is sre.ANY:
        return EVERY if flags & re.DOTALL else EVERY & ~NEWLINE
    if op is sre.LITERAL:
        return _class(((sre.LITERAL, arg),), flags)
    if op is sre.NOT_LITERAL:
        return _class(((sre.NEGATE, None), (sre.LITERAL, arg)), flags)
    return _class(arg, flags)


def _class(items: tuple[Any, ...], flags: int) -> Mask:
    negated = items[0][0] is sre.NEGATE
    mask: Mask = 0
    for kind, value in items[negated:]:
        if kind is sre.LITERAL:
            mask |= _range(value, value, flags)
        elif kind is sre.RANGE:
            mask |= _range(value[0], value[1], flags)
        else:
            mask |= _category(value, flags & re.ASCII)
    return (EVERY & ~mask) | BEYOND if negated else mask


def _range(low: int, high: int, flags: int) -> Mask:
    mask = sum(1 << code for code in range(low, min(high, 127) + 1))
    if high > 127:
        mask |= BEYOND if low < high else _beyond(chr(low))
    if flags & re.IGNORECASE:
        for code in range(97, 123):
            upper = code - 32
            same = (code, upper, *(() if flags & re.ASCII else _SAME_LETTER.get(code, ())))
            if any(low <= other <= high for other in same):
                mask |= 1 << code | 1 << upper | (BEYOND_WORD if same[2:] else 0)
    return mask


def _beyond(sign: str) -> Mask:
    return BEYOND_WORD if sign.isalnum() else BEYOND_SPACE if sign.isspace() else BEYOND_OTHER


@lru_cache(maxsize=32)
def _category(category: Any, ascii_only: int) -> Mask:
    text, negated = _CATEGORIES[category]
    member = re.compile(text, ascii_only).match
    mask = sum(1 << code for code in range(128) if member(chr(code)))
    own = BEYOND_SPACE if category in _SPACES else BEYOND_WORD
    if ascii_only:
        return mask | BEYOND if negated else mask
    return mask | (BEYOND & ~own if negated and category is not sre.CATEGORY_NOT_DIGIT else BEYOND if negated else own)
