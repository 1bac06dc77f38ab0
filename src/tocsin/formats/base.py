"""What every log format offers, and the words that they share: anchor, decoding of texts, the protocol.

A log line is bytes; the texts of an event are `str`. Bytes that are no UTF-8 stand as `\\xhh`, just as Apache and nginx
write them, so that a raw byte and its escape read the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import tzinfo
from typing import Protocol, TypeVar

from msgspec import Struct

from tocsin.model import Event

Skim = Callable[[bytes, int, int], list[tuple[str, str]]]
"""(data, start, end) -> one (client, time) for every line between, in order; both empty: ask `parse`. They are
texts in Latin-1, since tables are asked for them that hold addresses."""

CACHE_ENTRIES = 4096
"""What a cache of times holds: a log names each second once and moves on."""

CLIENT_CACHE_ENTRIES = 65536

_Key = TypeVar("_Key")
_Value = TypeVar("_Value")


class Anchor(Struct, frozen=True):
    """What resolves a missing year or zone. `now_ts` is the arrival of a live line, the modification time of a
    finished file, or what the operator said; `zone` the machine's or the one asked for. Never read from a clock here.
    """

    now_ts: float
    zone: tzinfo


class Format(Protocol):
    """One reading of a log's lines. Total over any bytes: a line that does not fit is `Unparsed`, never an error."""

    name: str
    """How people and the configuration call it: `combined`, `apache %h ...`, `caddy`, `sshd-syslog`, ..."""

    kind: str
    """`access` (yields HttpRequest) or `auth` (yields AuthAttempt)."""

    skim: Skim | None
    """Clients and times of whole blocks, where the format allows it. A line for which it gives a client fits the
    format exactly if `time_ts` of its time is not None, and then `client` and `time_ts` are those of `parse`."""

    verbatim: bool
    """Whether `plain` gives the line itself, so that what that is to hold can be looked for in the raw line."""

    json_escapes: bool
    """Whether texts may be spelt with JSON's escapes, so that a field holds what the raw line does not show."""

    percent_pattern: bytes
    """A regex (as in `request_pattern`) that occurs in every line whose path spells an ASCII sign as %XX."""

    def parse(self, line: bytes, anchor: Anchor) -> Event:
        """The event of one line (without its newline)."""

    def plain(self, line: bytes, anchor: Anchor) -> tuple[str, float]:
        """The line as its writer would have put it into a file, for whoever reads raw lines; and the time of those that
        name none: the anchor's, or the envelope's own.
        """

    def time_ts(self, text: bytes, anchor: Anchor) -> float | None:
        """Unix seconds of a time as `skim` gives it, in bytes; None where it is no time."""

    def client(self, raw: bytes) -> str | None:
        """The `source_ip` that a client as `skim` gives it, in bytes, stands for; None: no address, or a proxy."""

    def request_pattern(self, method: str | None, literal: str) -> bytes | None:
        """A regex (no look-around, no back-reference, never across a newline) that occurs in every raw line whose
        request has this method (None: any) and whose target, as sent, holds `literal`. None: no promise."""


def remember(cache: dict[_Key, _Value], key: _Key, value: _Value, entries: int = CACHE_ENTRIES) -> _Value:
    """Put into a cache that starts anew when full: bounded, and cheaper on the hot path than any order of eviction."""
    if len(cache) >= entries:
        cache.clear()
    cache[key] = value
    return value


def text_of(line: bytes) -> str:
    """The line as text; bytes that are no UTF-8 as `\\xhh`."""
    try:
        return line.decode()
    except UnicodeDecodeError:
        return line.decode("utf-8", "backslashreplace")


class Verbatim:
    """What formats share whose lines are as they were written into the file."""

    verbatim = True

    def plain(self, line: bytes, anchor: Anchor) -> tuple[str, float]:
        """The line as text."""
        return text_of(line), anchor.now_ts


_ESCAPE = re.compile(rb"\\(?:x([0-9a-fA-F]{2})|(.))", re.DOTALL)
_NAMED = {b"n": b"\n", b"t": b"\t", b"r": b"\r", b"b": b"\b", b"v": b"\v", b"f": b"\f", b'"': b'"', b"\\": b"\\"}


def _unescape_one(match: re.Match[bytes]) -> bytes:
    digits = match[1]
    if digits is None:
        return _NAMED.get(match[2], match[0])
    code = int(digits, 16)
    # No server escapes printable signs but these two. Were a made-up `\x70` read as `p`, the scan of raw lines for
    # literals would miss what the parsed field holds.
    if 0x20 <= code < 0x7F and code not in {0x22, 0x5C}:
        return match[0]
    return bytes((code,))


def unescape(text: str) -> str:
    """Undo what Apache (`\\"`, `\\\\`, `\\n`, `\\xhh`) and nginx (`\\xHH`) do to text that they log."""
    if "\\" not in text:
        return text
    return _ESCAPE.sub(_unescape_one, text.encode()).decode("utf-8", "backslashreplace")


_JSON_ESCAPE = re.compile(r"\\(?:u([0-9a-fA-F]{4})|(.))", re.DOTALL)
_JSON_NAMED = {"n": "\n", "t": "\t", "r": "\r", "b": "\b", "f": "\f", '"': '"', "\\": "\\", "/": "/"}


def _unescape_json_one(match: re.Match[str]) -> str:
    digits = match[1]
    if digits is None:
        return _JSON_NAMED.get(match[2], match[0])
    code = int(digits, 16)
    return match[0] if 0xD800 <= code < 0xE000 else chr(code)


def unescape_json(text: str) -> str:
    """Undo JSON's escapes inside a string, as nginx's `escape=json` writes them."""
    return _JSON_ESCAPE.sub(_unescape_json_one, text) if "\\" in text else text


def given(text: str | None) -> str | None:
    """A field's text, None where the log says `-` or nothing."""
    return None if text is None or text in {"", "-"} else text
