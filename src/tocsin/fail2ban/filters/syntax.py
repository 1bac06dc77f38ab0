"""A regex as a tree that its shape, its literals and its prefilter are read from. Pure.

The tree says what a text that matches must look like, and never less: letter case is resolved into classes, all
characters beyond ASCII are one (`BEYOND`), a conditional group is either of its parts. What a class says of ASCII is
exact.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import lru_cache
from re import _constants as sre  # type: ignore[attr-defined]  # the syntax tree has no public name in the library
from re import _parser as sre_parser  # type: ignore[attr-defined]  # as above
from typing import Any

from msgspec import Struct
from msgspec.structs import force_setattr

Mask = int  # a set of characters: bit n for code n below 128, three bits for all others

BEYOND_WORD: Mask = 1 << 128  # those of them that `\w` matches
BEYOND_SPACE: Mask = 1 << 129  # `\s`
BEYOND_OTHER: Mask = 1 << 130
BEYOND: Mask = BEYOND_WORD | BEYOND_SPACE | BEYOND_OTHER
ASCII: Mask = BEYOND_WORD - 1
EVERY: Mask = ASCII | BEYOND
NEWLINE: Mask = 1 << 10
WORD: Mask = sum(1 << code for code in range(128) if chr(code).isalnum() or code == 95) | BEYOND_WORD


class _Facts(Struct, frozen=True, kw_only=True):
    """What is asked of every node again and again: `empty`, whether it can match the empty text, and the characters
    that a match can begin and end with. They follow from the rest.
    """

    empty: bool = True
    begin: Mask = 0
    end: Mask = 0

    def _know(self, begin: Mask, end: Mask, *, empty: bool) -> None:
        force_setattr(self, "empty", empty)
        force_setattr(self, "begin", begin)
        force_setattr(self, "end", end)


class Chars(_Facts, frozen=True):
    """One character of a set."""

    mask: Mask

    def __post_init__(self) -> None:
        self._know(self.mask, self.mask, empty=False)


class Seq(_Facts, frozen=True):
    items: tuple[Node, ...]

    def __post_init__(self) -> None:
        begin = end = 0
        for item in self.items:
            begin |= item.begin
            if not item.empty:
                break
        for item in reversed(self.items):
            end |= item.end
            if not item.empty:
                break
        self._know(begin, end, empty=all(item.empty for item in self.items))


class Alt(_Facts, frozen=True):
    branches: tuple[Node, ...]

    def __post_init__(self) -> None:
        begin = end = 0
        for branch in self.branches:
            begin |= branch.begin
            end |= branch.end
        self._know(begin, end, empty=any(branch.empty for branch in self.branches))


class Repeat(_Facts, frozen=True):
    """`item` from `low` to `high` times; `high` None: without end. `lazy`: as few as possible."""

    item: Node
    low: int
    high: int | None
    lazy: bool = False

    def __post_init__(self) -> None:
        self._know(self.item.begin, self.item.end, empty=self.low == 0 or self.item.empty)


class Group(_Facts, frozen=True):
    item: Node
    number: int
    name: str | None

    def __post_init__(self) -> None:
        self._know(self.item.begin, self.item.end, empty=self.item.empty)


class Look(_Facts, frozen=True):
    """A look-around: takes no text. `negative`: its item must not match. `behind`: it looks back."""

    item: Node
    negative: bool
    behind: bool


class Place(_Facts, frozen=True):
    """`^`, `$`, `\\b` and their like."""

    kind: str


class Again(_Facts, frozen=True):
    """A back-reference."""

    number: int

    def __post_init__(self) -> None:
        self._know(EVERY, EVERY, empty=True)


ADDRESS_GROUPS = ("ip4", "ip6", "dns")

Node = Chars | Seq | Alt | Repeat | Group | Look | Place | Again

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


def parse(pattern: str, flags: int = 0) -> Seq:
    """The tree of a regex that `re.compile(pattern, flags)` accepts; raises what that raises."""
    parsed = sre_parser.parse(pattern, flags)
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


# -- what can be read off a tree -----------------------------------------------------------------------------------


def single(mask: Mask) -> str | None:
    """The one character of a set, None where it holds several, or one beyond ASCII."""
    return chr(mask.bit_length() - 1) if mask & ASCII and not mask & (mask - 1) else None


def nullable(node: Node) -> bool:
    """Whether a node can match the empty text."""
    return node.empty


def first(node: Node) -> Mask:
    """The characters that a match can begin with."""
    return node.begin


def last(node: Node) -> Mask:
    """The characters that a match can end with."""
    return node.end


def longest_literal(node: Node) -> str:
    """The longest text of ASCII that every match holds, "" where there is none."""
    best = run = ""
    for item in flat(node):
        sign = single(item.mask) if isinstance(item, Chars) else None
        if sign is not None:
            run += sign
        elif not isinstance(item, Place | Look):
            best, run = max(best, run, key=len), ""
            if isinstance(item, Repeat) and item.low:
                best = max(best, longest_literal(item.item), key=len)
    return max(best, run, key=len)


def always_sets(node: Node, name: str, *, empty: bool = False) -> bool:
    """Whether every match sets the named group; to a text that is not empty, unless `empty` will do."""
    match node:
        case Group(item, _, own) if own == name:
            return empty or not nullable(item)
        case Group(item):
            return always_sets(item, name, empty=empty)
        case Seq(items):
            return any(always_sets(item, name, empty=empty) for item in items)
        case Alt(branches):
            return bool(branches) and all(always_sets(branch, name, empty=empty) for branch in branches)
        case Repeat(item, low, _):
            return low > 0 and always_sets(item, name, empty=empty)
        case _:
            return False


def flat(node: Node, keep: Callable[[Node], bool] | None = None) -> tuple[Node, ...]:
    """A node as a sequence, with sequences in it and groups opened; what `keep` says stays closed."""
    if keep is not None and keep(node):
        return (node,)
    if isinstance(node, Group):
        return flat(node.item, keep)
    if isinstance(node, Seq):
        return tuple(inner for item in node.items for inner in flat(item, keep))
    return (node,)


def is_address(node: Node) -> bool:
    """Whether a node is an address, whatever its alternatives: a group of one, or what holds such groups only."""
    match node:
        case Group(item, _, name):
            return name in ADDRESS_GROUPS or is_address(item)
        case Alt(branches):
            return bool(branches) and all(is_address(branch) for branch in branches)
        case Seq(items):
            found = [item for item in items if is_address(item)]
            return len(found) == 1 and all(item is found[0] or _is_bracket(item) for item in items)
        case _:
            return False


def _is_bracket(node: Node) -> bool:
    return isinstance(node, Repeat) and node.low == 0 and node.high == 1


def characters(node: Node) -> Mask:
    """Every character that occurs anywhere in a match."""
    match node:
        case Chars(mask):
            return mask
        case Seq(items) | Alt(items):
            mask = 0
            for item in items:
                mask |= characters(item)
            return mask
        case Repeat(item) | Group(item):
            return characters(item)
        case Again():
            return EVERY
        case _:
            return 0


def narrowest(node: Node) -> int:
    """How many characters a match has at least."""
    match node:
        case Chars():
            return 1
        case Seq(items):
            return sum(narrowest(item) for item in items)
        case Alt(branches):
            return min((narrowest(branch) for branch in branches), default=0)
        case Repeat(item, low, _):
            return low * narrowest(item)
        case Group(item):
            return narrowest(item)
        case _:
            return 0


def widest(node: Node) -> int | None:
    """How many characters a match has at most; None: there is no limit."""
    match node:
        case Chars():
            return 1
        case Seq(items):
            widths = [widest(item) for item in items]
            return None if None in widths else sum(width for width in widths if width)
        case Alt(branches):
            widths = [widest(branch) for branch in branches]
            return None if None in widths else max((width for width in widths if width), default=0)
        case Repeat(item, _, high):
            width = widest(item)
            return 0 if width == 0 else None if width is None or high is None else high * width
        case Group(item):
            return widest(item)
        case Again():
            return None
        case _:
            return 0


def can_begin(node: Node, sign: str) -> bool:
    """Whether a match of a text that begins with a sign is possible."""
    if not anchored(node) or nullable(node) or not sign.isascii():
        return True
    return bool(first(node) >> ord(sign) & 1)


def anchored(node: Node) -> bool:
    """Whether a match can begin at the text's start only."""
    match node:
        case Place("start"):
            return True
        case Group(item):
            return anchored(item)
        case Seq(items):
            for item in items:
                if anchored(item):
                    return True
                if not isinstance(item, Place | Look):
                    return False
            return False
        case Alt(branches):
            return bool(branches) and all(anchored(branch) for branch in branches)
        case Repeat(item, low, _):
            return low > 0 and anchored(item)
        case _:
            return False
