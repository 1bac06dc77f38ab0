"""A regex as a tree that its shape, its literals and its prefilter are read from. Pure.

The tree says what a text that matches must look like, and never less: letter case is resolved into classes, all
characters beyond ASCII are one (`BEYOND`), a conditional group is either of its parts. What a class says of ASCII is
exact.
"""

from __future__ import annotations

from collections.abc import Callable

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


def is_sure(node: Node) -> bool:
    """Whether a regex that can be parsed can be compiled for certain: it looks back as far whatever stands there."""
    match node:
        case Look(item, _, behind):
            return is_sure(item) and not (behind and narrowest(item) != widest(item))
        case Seq(items) | Alt(items):
            return all(is_sure(item) for item in items)
        case Repeat(item) | Group(item):
            return is_sure(item)
        case _:
            return True


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
