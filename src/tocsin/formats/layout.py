"""From the pieces of a log format to the regexes that read its lines in one way only.

A line can be trusted only where it has one reading. Servers escape a quote inside what a client wrote, so that a quote
of the format itself is a wall that no client can move: the pieces between two walls are a *segment*. Within a segment

- fields that the server makes (addresses, numbers, times) have strict shapes without blanks: read from either end they
  fall into place, whatever the one stretch of client text between them holds;
- where client text stands in two places with a server's field between, one character (the *pin*) is barred from every
  field, so that it can only be the format's own: a line whose client wrote it has one too many and does not fit;
- a format where neither helps is refused when it is made, with the fields named.

With `escape=none` nothing is escaped; then the quote is barred from every field in the same way.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

from msgspec import Struct

from tocsin.formats.dates import CLF, Stamp, time_piece
from tocsin.formats.logformat import HOST, Field, Piece, Slot, Text

Segment = list[Piece]
Shapes = tuple[str, str, str]
"""plain, strict and skim."""

_HOST_SIGNS = r"0-9A-Za-z.:%_\-"
_NO_PIN = re.compile(rf"[{_HOST_SIGNS}+/]")
_CLF_SHAPE = time_piece(CLF).shape
_CLF_LENGTH = 26
_NEVER = r"(?:(?!)())?"
_CARRIAGE_RETURN = r"\r?"  # of files that came by way of Windows
# what honest clients write in a field: a pin taken from there would turn many lines away
_TYPICAL = dict.fromkeys(("request", "uri", "path", "query", "path_query"), "[]&=;,()@!$'*") | {
    "user_agent": " ;,()[]=",
    "referer": "[]&=;,()@!$'*",
    "user": "@",
    "x_forwarded_for": " ,",
    "forwarded": " ,;=",
    "vhost": "",
    "method": "",
    "protocol": "",
}
_WIDE = frozenset(("path_query", "path", "uri", "request"))


class Layout(Struct, frozen=True):
    """How to read a line: `plain` where it holds no backslash, else `strict`; `groups` tells where each slot stands.

    `hot` is `plain` with an ordinary request line taken apart (method, target, path, query, protocol; else the whole as
    a sixth group), for a line that holds the HOT slots in their order and nothing else.
    """

    plain: re.Pattern[str]
    strict: re.Pattern[str]
    hot: re.Pattern[str] | None
    groups: dict[Slot, int]
    never: int
    """A group that takes part in no match: what a slot that the format lacks stands for."""
    times: tuple[int, ...]
    stamp: Stamp
    skim: re.Pattern[str] | None
    request_wall: str | None
    """The literal text right before the request line, where that stands alone between quotes."""


def compile_layout(pieces: Sequence[Piece], escape: str) -> Layout:
    """The reading of a format's lines; ValueError says which fields cannot be told apart, or what is missing.

    `escape` is `apache`, or nginx's `default`, `json` or `none`.
    """
    owned = _owned(_merged(pieces))
    times = [piece for piece in owned if isinstance(piece, Field) and piece.slot == "time"]
    stamps = [piece.time for piece in times if piece.time is not None]
    if not stamps:
        raise ValueError("the format holds no time (%t, $time_local, $time_iso8601, $msec): its lines cannot be dated")
    writer = _Writer(escape, walled=any(isinstance(piece, Text) and '"' in piece.text for piece in owned))
    segments = list(_segments(owned))
    for number, segment in enumerate(segments):
        writer.segment(segment, first=number == 0, last=number == len(segments) - 1)
    return Layout(
        plain=re.compile('"'.join(writer.plain) + _CARRIAGE_RETURN + _NEVER),
        strict=re.compile('"'.join(writer.strict) + _CARRIAGE_RETURN + _NEVER, re.DOTALL),
        never=writer.count + 1,
        groups=writer.groups,
        times=tuple(writer.times),
        stamp=Stamp(stamps),
        hot=_hot(writer.plain, segments),
        skim=_skim('"'.join(writer.skim), owned),
        request_wall=_request_wall(segments) if escape in {"apache", "default"} else None,
    )


def _merged(pieces: Sequence[Piece]) -> list[Piece]:
    """Neighbouring literals as one; `%U%q` and `$uri$is_args$args` as one field of path and query."""
    merged: list[Piece] = []
    for piece in pieces:
        before = merged[-1] if merged else None
        if isinstance(piece, Text):
            if isinstance(before, Text):
                merged[-1] = Text(before.text + piece.text)
            elif piece.text:
                merged.append(piece)
        elif isinstance(before, Field) and before.slot in {"path", "path_query"} and _continues(before, piece):
            merged[-1] = Field(before.spelled + piece.spelled, "path_query", rank=before.rank)
        else:
            merged.append(piece)
    return merged


def _continues(before: Field, piece: Field) -> bool:
    return piece.slot == "query" or (before.slot == "path" and piece.spelled == "$is_args")


def _owned(pieces: Sequence[Piece]) -> list[Piece]:
    """Each slot with one owner, the first of the highest rank (the time: all of them); the others tell nothing."""
    best: dict[str, int] = {}
    for piece in pieces:
        if isinstance(piece, Field):
            best[piece.slot] = max(best.get(piece.slot, -1), piece.rank)
    owned: list[Piece] = []
    taken: set[str] = set()
    for piece in pieces:
        if isinstance(piece, Field) and piece.slot:
            owns = piece.rank == best[piece.slot] and (piece.slot == "time" or piece.slot not in taken)
            taken.add(piece.slot if owns else "")
            owned.append(piece if owns else Field(piece.spelled, "", piece.shape, 0, piece.time))
        else:
            owned.append(piece)
    return owned


def _segments(pieces: Sequence[Piece]) -> Iterator[Segment]:
    """What stands between the format's own quotes."""
    segment: Segment = []
    for piece in pieces:
        if isinstance(piece, Field):
            segment.append(piece)
            continue
        for number, text in enumerate(piece.text.split('"')):
            if number:
                yield segment
                segment = []
            if text:
                segment.append(Text(text))
    yield segment


def _is_text(piece: Piece) -> bool:
    """Whether a client may have written it."""
    return isinstance(piece, Field) and not piece.shape and piece.time is None


def _runs(segment: Segment) -> int:
    """How many stretches of client text a segment has; literals alone do not part them."""
    runs = 0
    inside = False
    for piece in segment:
        if _is_text(piece):
            runs += not inside
            inside = True
        elif isinstance(piece, Field):
            inside = False
    return runs


def _split_at(segment: Segment, pin: str) -> Iterator[Segment]:
    part: Segment = []
    for piece in segment:
        if isinstance(piece, Field):
            part.append(piece)
            continue
        for number, text in enumerate(piece.text.split(pin)):
            if number:
                yield part
                part = []
            if text:
                part.append(Text(text))
    yield part


def _pin(segment: Segment) -> str:
    """The character that tells a segment's stretches of client text apart; empty where there is but one."""
    if _runs(segment) <= 1:
        return ""
    signs = {sign for piece in segment if isinstance(piece, Text) for sign in piece.text if not _NO_PIN.match(sign)}
    padded = any(isinstance(piece, Field) and piece.time and "[ 0-9]" in piece.time.shape for piece in segment)
    slots = [piece.slot for piece in segment if isinstance(piece, Field) and _is_text(piece)]

    def price(sign: str) -> tuple[int, str]:
        return sum(sign in _TYPICAL.get(slot, " ") for slot in slots), sign

    # controls come first: every server escapes them, so that they cost no line
    for pin in sorted(signs, key=price):
        if (pin != " " or not padded) and all(_runs(part) <= 1 for part in _split_at(segment, pin)):
            return pin
    raise ValueError(
        f"{' and '.join(piece.spelled for piece in segment if isinstance(piece, Field) and _is_text(piece))} may hold"
        " anything and cannot be told apart from what stands between them: put each in quotes"
    )


def _signs(field: Field) -> str:
    """The characters of a server-made field, as a class; empty where its length is fixed and position enough."""
    if field.time is not None or not field.shape:
        return ""
    if field.shape == HOST:
        return _HOST_SIGNS
    return "0-9" * ("0-9" in field.shape) + "." * (r"\." in field.shape) + "a-zA-Z" * ("a-" in field.shape) + r"\-"


def _check(part: Segment) -> None:
    """That the server's fields fall into place from either end around the client's text. ValueError where not.

    They do where what parts them from the text has a sign that none of them can hold: its count is then the format's.
    """
    texts = [position for position, piece in enumerate(part) if _is_text(piece)]
    if not texts:
        return
    for piece, after in pairwise(part):
        if isinstance(piece, Field) and isinstance(after, Field) and (_is_text(piece) or _is_text(after)):
            raise ValueError(f"nothing stands between {piece.spelled} and {after.spelled}: they cannot be told apart")
    _check_side(part[: texts[0]], -1)
    _check_side(part[texts[-1] + 1 :], 0)


def _check_side(side: Segment, border: int) -> None:
    """`side` is what stands before or after a segment's client text, `border` its piece next to that.

    What none of the side's fields can hold cuts it into words; only the word next to the text could be misread.
    """
    alphabet = "".join(_signs(piece) for piece in side if isinstance(piece, Field))
    word: list[Field] = []
    for piece in side[::-1] if border else side:
        if isinstance(piece, Field):
            word.append(piece)
        elif word and re.search(f"[^{alphabet}]" if alphabet else ".", piece.text, re.DOTALL):
            break
    signs = "".join(_signs(field) for field in word)
    outermost = side[border] if side else None
    parting = outermost.text if isinstance(outermost, Text) else ""
    if signs and not re.search(f"[^{signs}]", parting):
        raise ValueError(f"{word[0].spelled} may itself hold the {parting!r} that parts it: put a blank there")


def _barred(segment: Segment, position: int) -> str:
    """What a field of a stretch of client text may not hold, so that its neighbours in the stretch are told from it.

    One of them is wide, and may hold anything: the path or target (`%m %U%q %H`), else the last. Where a client writes
    what parts them, it moves only its own words.
    """
    first = last = position
    while first > 0 and (isinstance(segment[first - 1], Text) or _is_text(segment[first - 1])):
        first -= 1
    while last + 1 < len(segment) and (isinstance(segment[last + 1], Text) or _is_text(segment[last + 1])):
        last += 1
    run = [number for number in range(first, last + 1) if _is_text(segment[number])]
    wide = next((number for number in run if _slot(segment[number]) in _WIDE), run[-1])
    before, after = segment[position - 1 : position], segment[position + 1 : position + 2]
    if position < wide:
        return after[0].text[0] if isinstance(after[0], Text) else ""
    if position > wide:
        return before[0].text[-1] if isinstance(before[0], Text) else ""
    return ""


def _slot(piece: Piece) -> str:
    return piece.slot if isinstance(piece, Field) else ""


class _Writer:
    """Writes the three regexes of a layout side by side, segment by segment."""

    def __init__(self, escape: str, *, walled: bool) -> None:
        self.escape = escape
        self.walled = walled
        self.plain: list[str] = []
        self.strict: list[str] = []
        self.skim: list[str] = []
        self.groups: dict[Slot, int] = {}
        self.times: list[int] = []
        self.count = 0

    def segment(self, segment: Segment, *, first: bool, last: bool) -> None:
        pin = _pin(segment)
        for part in _split_at(segment, pin) if pin else (segment,):
            _check(part)
        plain = strict = skim = ""
        for position, piece in enumerate(segment):
            if isinstance(piece, Text):
                literal = re.escape(piece.text)
                plain, strict, skim = plain + literal, strict + literal, skim + literal
                continue
            before = segment[position - 1] if position else None
            after = segment[position + 1] if position + 1 < len(segment) else None
            if piece.time is not None:
                shapes = _time_shapes(piece, segment, position, last=last)
            elif piece.shape:
                shapes = self._server_made(piece, before, after, pin)
            else:
                alone = len(segment) == 1 and not first and not last
                barred = re.escape(pin + _barred(segment, position))
                shapes = self._client_text(piece, barred, last=after is None, alone=alone)
            opening = self._open(piece)
            closing = ")"
            plain += opening + shapes[0] + closing
            strict += opening + shapes[1] + closing
            skim += (opening if piece.slot in {"client", "time"} else "(?:") + shapes[2] + closing
        self.plain.append(plain)
        self.strict.append(strict)
        self.skim.append(skim)

    def _open(self, field: Field) -> str:
        if not field.slot:
            return "(?:"
        self.count += 1
        if field.slot == "time":
            self.times.append(self.count)
        else:
            self.groups[field.slot] = self.count
        return "("

    def _server_made(self, field: Field, before: Piece | None, after: Piece | None, pin: str) -> Shapes:
        if field.shape == HOST:
            signs = pin + (before.text[-1] if isinstance(before, Text) else "")
            signs += after.text[0] if isinstance(after, Text) else ""
            barred = re.escape("".join(sign for sign in signs if not re.match(f"[{_HOST_SIGNS}]", sign)))
            host = rf'[^ \t"\\\n{barred}]+'
            skim = "[0-9a-fA-F.:]+" if field.slot == "client" else rf'[^ \t"\\\n\x80-\xff{barred}]+'
            return host, host, skim
        shape = field.shape + ("|" if self.escape == "json" else "")
        return shape, shape, shape

    def _client_text(self, field: Field, barred: str, *, last: bool, alone: bool) -> Shapes:
        quote = '"' if self.walled else ""
        # client text before a server's field: the shortest is the likely one, and there is but one that fits
        lazy = "" if last or barred else "?"
        if self.escape == "none":
            plain = strict = rf"[^{quote}\n{barred}]*{lazy}"
        else:
            plain = f'[^"{barred}]*{lazy}'
            strict = rf'(?:[^"\\\n{barred}]|\\[^\n{barred}])*{lazy}'
            if not lazy:
                strict = rf'[^"\\\n{barred}]*(?:\\[^\n{barred}][^"\\\n{barred}]*)*'
        blank = "" if last else " "
        skim = '[^"]*' if alone else rf'[^"\\\n\x80-\xff{barred}{blank}]*'
        if field.slot == "user" and self.escape == "apache" and not alone:
            plain, strict = f'""|{plain}', f'""|{strict}'  # how Apache writes a user whose name is empty
        return plain, strict, skim


def _time_shapes(field: Field, segment: Segment, position: int, *, last: bool) -> Shapes:
    """Any 26 signs up to the bracket before the wall read faster than the strict shape; `Stamp` is strict anyway."""
    if field.time is None:
        raise TypeError("a time field without its pattern")
    shape = field.time.shape
    tail = segment[position + 1 :]
    bracketed = shape == _CLF_SHAPE and position > 0 and tail == [Text("] ")] and not last
    if bracketed and isinstance(before := segment[position - 1], Text) and before.text[-1] == "[" and not _pin(segment):
        loose = rf"[^\]]{{{_CLF_LENGTH}}}"
        return loose, shape, loose
    return shape, shape, shape


def _skim(pattern: str, pieces: Sequence[Piece]) -> re.Pattern[str] | None:
    """Whole blocks (bytes as Latin-1) by `findall`, where client and time are one field each, in this order."""
    order = [piece.slot for piece in pieces if isinstance(piece, Field) and piece.slot in {"client", "time"}]
    return (
        re.compile(rf"{pattern}{_CARRIAGE_RETURN}\n|[^\n]*\n".encode().decode("latin-1"))
        if order == ["client", "time"]
        else None
    )


HOT: tuple[Slot, ...] = ("client", "user", "time", "request", "status", "body_bytes", "referer", "user_agent")
_ORDINARY = r'(?:([A-Z]{3,7}) ((/[^ "%#?]*)(?:\?([^ "#]*))?) (HTTP/[0-9](?:\.[0-9])?)|([^"]*))'


def _hot(plain: Sequence[str], segments: Sequence[Segment]) -> re.Pattern[str] | None:
    slots = tuple(piece.slot for segment in segments for piece in segment if isinstance(piece, Field) and piece.slot)
    alone = [number for number, segment in enumerate(segments) if number and _slots(segment) == ("request",)]
    if slots != HOT or alone == [] or alone[0] == len(segments) - 1:
        return None
    parts = [_ORDINARY if number == alone[0] else part for number, part in enumerate(plain)]
    return re.compile('"'.join(parts) + _CARRIAGE_RETURN)


def _slots(segment: Segment) -> tuple[str, ...]:
    return tuple(piece.slot if isinstance(piece, Field) else "literal" for piece in segment)


def _request_wall(segments: Sequence[Segment]) -> str | None:
    for number, segment in enumerate(segments):
        if number and len(segment) == 1 and isinstance(field := segment[0], Field) and field.slot == "request":
            before = segments[number - 1][-1] if segments[number - 1] else None
            return (before.text if isinstance(before, Text) else "") + '"' if number < len(segments) - 1 else None
    return None
