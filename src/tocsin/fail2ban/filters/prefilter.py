"""Which raw lines a filter's regex could match: a simpler regex that a block of lines is scanned with. Pure.

It is read off the regex's tree and only ever promises less: look-arounds, places and back-references are left out,
what is optional may be anything. It speaks of bytes, of one line, and of the line as written: the regex sees it with
its date cut out, so wherever the date may have stood anything is allowed. It is for an automaton such as Hyperscan,
whose cost does not depend on it; for a backtracking engine there is a simpler one still.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec import Struct

from tocsin.fail2ban.filters.cuts import UNCUT, Cuts
from tocsin.fail2ban.filters.syntax import (
    ASCII,
    BEYOND,
    EVERY,
    NEWLINE,
    Alt,
    Chars,
    Group,
    Look,
    Mask,
    Node,
    Place,
    Repeat,
    Seq,
    anchored,
    characters,
    first,
    flat,
    is_address,
    last,
    narrowest,
    nullable,
    single,
)

MIN_CHARS = 3
SIGN_CHARS = 5
MOST_SIGNS = 3
MAX_BYTES = 12_000
_MOST_BRANCHES = 400
_MOST_BEFORE = 16  # so many nodes before what must not follow tell enough
_FEW = 8  # a bounded repetition of one character keeps its bounds up to this
_SHORT_BYTES = 64  # what is optional is kept up to this

_ANYTHING = b"[^\\n]*"
_GAP_NODE = Repeat(Chars(EVERY & ~NEWLINE), 0, None)


class _Piece(Struct, frozen=True):
    """A part of the pattern: `regex` b"" is a gap, in which anything may stand. `chars`: how many literal characters
    every match of it holds, its worth. `literal`: it is nothing but these. `simple`: it is literals and alternatives.
    """

    regex: bytes
    chars: int = 0
    literal: bool = False
    simple: bool = False


_GAP = _Piece(b"")


def line_parts(pref: Node | None, content: str, fail: Node) -> tuple[Node, ...]:
    """The trees that a raw line's text matches one after the other: of a prefregex, with the failregex's in the place
    of its group `content`.

    Where the group may take no part or be empty, the failregex is tried on the whole text: then it stands alone.
    """
    items = () if pref is None else flat(pref, lambda node: isinstance(node, Group) and node.name == content)
    place = next((i for i, item in enumerate(items) if isinstance(item, Group) and item.name == content), None)
    if place is None or nullable(items[place]):
        return (fail,)
    before = items[:place] if anchored(fail) else (*items[:place], _GAP_NODE)
    return (Seq(before), fail, Seq((_GAP_NODE, *items[place + 1 :])))


class Patterns(Struct, frozen=True):
    """Regexes that each occur in every line in question: `full` for an automaton, `simple` without a repetition,
    `refined` (where there is one) for `re`, in linear time: it knows what must not follow. `signs`: parts of `full`,
    the most telling one first.
    """

    full: bytes
    simple: bytes
    refined: bytes = b""
    signs: tuple[bytes, ...] = ()


def patterns_of(parts: Sequence[Node], cuts: Cuts) -> Patterns | None:
    """The patterns of raw lines whose text the parts match, one after the other; None where they would tell nothing."""
    pieces = _line(parts, cuts)
    simple = max((piece for piece in pieces if piece.simple), key=lambda piece: piece.chars, default=_GAP)
    if simple.chars >= MIN_CHARS:
        full = _written(pieces) or simple.regex
        return Patterns(full, simple.regex, _refined(parts, cuts), _signs(pieces, full))
    half = _half(_line(parts, UNCUT)) if cuts.within or cuts.near >= 0 else None
    return None if half is None else Patterns(_written(pieces) or half, half)


def _signs(pieces: list[_Piece], full: bytes) -> tuple[bytes, ...]:
    """The most telling pieces, of two alike the later: logs begin alike."""
    telling = [piece for piece in reversed(pieces) if piece.chars >= SIGN_CHARS and len(piece.regex) <= MAX_BYTES]
    telling.sort(key=lambda piece: -piece.chars)
    return tuple(piece.regex for piece in telling[:MOST_SIGNS] if piece.regex != full)


def _refined(parts: Sequence[Node], cuts: Cuts) -> bytes:
    """What stands before a look-ahead for a text that must not follow, and it; where no date can have stood in between.
    A jail that leaves out its own bans (`\\[(?!recidive\\])`) has so many of them that to scan them out pays.
    """
    items = [item for part in parts for item in flat(part, is_address)]
    widths = [narrowest(item) for item in items]
    for i, item in enumerate(items):
        if not isinstance(item, Look) or not item.negative or item.behind:
            continue
        literal = [single(one.mask) if isinstance(one, Chars) else None for one in flat(item.item)]
        if None in literal:
            continue
        for begin in _runs_before(items, i):
            ends = [*(last(one) for one in items[begin:i]), characters(item.item)]
            if not any(cuts.split(end, EVERY, sum(widths[: begin + n + 1])) for n, end in enumerate(ends)):
                pieces = [piece for one in items[begin:i] for piece in _Writer(UNCUT)._of(one, 0)]
                return _join(pieces) + b"(?!" + re.escape("".join(filter(None, literal)).encode()) + b")"
    return b""


def _runs_before(items: Sequence[Node], end: int) -> list[int]:
    """From where on there are only characters and runs of them, the first places first; none where a search for these
    is not linear, or the newline at a text's end could be one.
    """
    before = items[end - 1] if end else None
    if not isinstance(before, Chars) or before.mask & NEWLINE:
        return []
    begins: list[int] = []
    crossed: Mask = 0
    for i in range(end - 1, max(end - _MOST_BEFORE, 0) - 1, -1):
        item = items[i]
        mask = _mask_of(item)
        if mask is None or mask & ASCII & ~NEWLINE == ASCII & ~NEWLINE:
            break
        crossed |= mask if isinstance(item, Repeat) else 0
        if isinstance(item, Chars) and single(mask) and end - i >= MIN_CHARS and not crossed & mask:
            begins.insert(0, i)
    return begins


def _mask_of(item: Node) -> Mask | None:
    """The characters of one or of a run of one or more."""
    if isinstance(item, Repeat) and item.low == 1 and item.high is None:
        inner = flat(item.item)
        item = inner[0] if len(inner) == 1 else item
    return item.mask if isinstance(item, Chars) else None


def _half(pieces: list[_Piece]) -> bytes | None:
    """Either half of the longest literal: a line has one date, and that cannot split both."""
    literal = max((_plain(piece) for piece in pieces if piece.literal), key=len, default="")
    if len(literal) < 2 * MIN_CHARS:
        return None
    halves = literal[: len(literal) // 2], literal[len(literal) // 2 :]
    return b"(?:" + b"|".join(re.escape(half.encode()) for half in halves) + b")"


def _plain(piece: _Piece) -> str:
    return re.sub(rb"\\(.)", rb"\1", piece.regex).decode()


def _line(parts: Sequence[Node], cuts: Cuts) -> list[_Piece]:
    writer = _Writer(cuts)
    pieces: list[_Piece] = []
    tail: Mask = 0
    consumed = 0
    for part in parts:
        made, tail = writer.sequence(flat(part, is_address), tail, consumed)
        consumed += narrowest(part)
        for piece in made:
            _add(pieces, piece)
    return pieces


def _written(pieces: list[_Piece]) -> bytes | None:
    """The pieces from the first telling one to the last."""
    telling = [i for i, piece in enumerate(pieces) if piece.chars > 1]
    if not telling:
        return None
    pieces = pieces[telling[0] : telling[-1] + 1]
    if sum(piece.chars for piece in pieces) < MIN_CHARS:
        return None
    regex = _join(pieces)
    if len(regex) <= MAX_BYTES:
        return regex
    best = max(
        (piece for piece in pieces if len(piece.regex) <= MAX_BYTES), key=lambda piece: piece.chars, default=_GAP
    )
    return best.regex if best.chars >= MIN_CHARS else None


def _join(pieces: Sequence[_Piece]) -> bytes:
    return b"".join(piece.regex or _ANYTHING for piece in pieces)


def _add(pieces: list[_Piece], piece: _Piece) -> None:
    if pieces:
        before = pieces[-1]
        if not piece.regex and not before.regex:
            return
        if piece.literal and before.literal:
            pieces[-1] = _Piece(before.regex + piece.regex, before.chars + piece.chars, literal=True, simple=True)
            return
    pieces.append(piece)


class _Writer:
    """Writes the pieces of nodes. `consumed`: how many characters of the text come before them at least."""

    def __init__(self, cuts: Cuts) -> None:
        self._split = cuts.split

    def sequence(self, items: Sequence[Node], tail: Mask, consumed: int) -> tuple[list[_Piece], Mask]:
        """The pieces of a sequence, and the characters that it can end with. `tail`: those that come before it."""
        pieces: list[_Piece] = []
        ends = [True] * (len(items) + 1)  # whether all from there on can be nothing
        for i in range(len(items) - 1, -1, -1):
            ends[i] = ends[i + 1] and nullable(items[i])
        for i, item in enumerate(items):
            if isinstance(item, Place | Look):
                continue
            begin, optional = first(item), nullable(item)
            if tail and begin and self._split(tail, begin, consumed):
                _add(pieces, _GAP)
            # it may be the newline that ends the text, and is nothing of the line
            ending = ends[i + 1] and begin & NEWLINE and not optional
            for piece in [_GAP] if ending else self._of(item, consumed):
                _add(pieces, piece)
            tail = last(item) | (tail if optional else 0)
            consumed += narrowest(item)
        return pieces, tail

    def _inner(self, node: Node, consumed: int) -> list[_Piece]:
        return self.sequence(flat(node, is_address), 0, consumed)[0]

    def _of(self, node: Node, consumed: int) -> list[_Piece]:
        if is_address(node):
            return self._chars(characters(node), 1, None, consumed)
        match node:
            case Chars(mask):
                return self._chars(mask, 1, 1, consumed)
            case Group() | Seq():
                return self._inner(node, consumed)
            case Alt(branches):
                return self._branches(branches, consumed)
            case Repeat(item, low, high):
                inner = flat(item)
                if len(inner) == 1 and isinstance(inner[0], Chars):
                    return self._chars(inner[0].mask, low, high, consumed)
                return self._repeat(node, consumed)
            case _:
                return [_GAP]

    def _chars(self, mask: Mask, low: int, high: int | None, consumed: int) -> list[_Piece]:
        mask &= ~NEWLINE
        if high == 0:
            return []
        if not mask or mask & ASCII == ASCII & ~NEWLINE:
            return [_GAP]
        if high != 1 and self._split(mask, mask, consumed):  # the date may have stood within
            return [_Piece(_class(mask)), _GAP] if low else [_GAP]
        sign = single(mask)
        if sign is not None and low == high and low <= _FEW:
            return [_Piece(re.escape(sign.encode()), 1, literal=True, simple=True)] * low
        regex = _class(mask)
        if mask & BEYOND:  # one character is up to four bytes
            return [_Piece(regex + (b"+" if low else b"*"))]
        if high is None or high > _FEW:
            return [_Piece(regex + (b"*" if not low else b"+" if low == 1 else b"{%d,}" % min(low, _FEW)))]
        if (low, high) == (1, 1):
            return [_Piece(regex)]
        return [_Piece(regex + (b"?" if (low, high) == (0, 1) else b"{%d,%d}" % (low, high)))]

    def _branches(self, branches: Sequence[Node], consumed: int) -> list[_Piece]:
        if len(branches) > _MOST_BRANCHES:
            return [_GAP]
        made = [self._inner(branch, consumed) for branch in branches]
        texts = dict.fromkeys(_join(pieces) for pieces in made)
        if not texts or _ANYTHING in texts:
            return [_GAP]
        if b"" in texts:
            some = b"|".join(text for text in texts if text)
            return [_Piece(b"(?:" + some + b")?")] if 0 < len(some) <= _SHORT_BYTES else [_GAP]
        if len(texts) == 1:
            return made[0]
        chars = min(sum(piece.chars for piece in pieces) for pieces in made)
        simple = all(piece.simple for pieces in made for piece in pieces)
        return [_Piece(b"(?:" + b"|".join(texts) + b")", chars, simple=simple)]

    def _repeat(self, node: Repeat, consumed: int) -> list[_Piece]:
        if node.high == 0:
            return []
        inner = self._inner(node.item, consumed)
        if node.low == 0:
            text = _join(inner)
            short = node.high == 1 and text != _ANYTHING and 0 < len(text) <= _SHORT_BYTES
            return [_Piece(b"(?:" + text + b")?")] if short else [_GAP]
        if (node.low, node.high) == (1, 1):
            return inner
        made: list[_Piece] = []
        for piece in [*inner, _GAP]:
            _add(made, piece)
        return made


def _class(mask: Mask) -> bytes:
    """A class of bytes: the set's ASCII characters, and every byte beyond where it holds any other character."""
    without = EVERY & ~mask
    negate = bool(mask & BEYOND) and (without & ASCII).bit_count() < (mask & ASCII).bit_count()
    codes = [code for code in range(128) if (without if negate else mask) >> code & 1]
    text = b""
    while codes:
        low = high = codes.pop(0)
        while codes and codes[0] == high + 1:
            high = codes.pop(0)
        text += b"\\x%02x" % low if low == high else b"\\x%02x-\\x%02x" % (low, high)
    if negate:
        return b"[^" + text + b"]"
    return b"[" + text + (b"\\x80-\\xff]" if mask & BEYOND else b"]")
