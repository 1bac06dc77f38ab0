"""Which access formats DuckDB may take apart, and how: only lines whose one reading needs no more than splitting.

A line qualifies where it holds no backslash, exactly the format's own quotes, and between them words of strict shapes;
the others are given to the format itself. Then whatever DuckDB reads is what the format's own regex would have read.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import UTC

from msgspec import Struct

from tocsin.formats import Anchor, Format, apache, nginx, vhost_combined
from tocsin.formats.access import COMBINED, VHOST_COMBINED
from tocsin.model import HttpRequest

FOREIGN = (b"\r", b"\0", b"\x01")
"""Bytes that DuckDB's reader of lines takes for something else than a character."""

_HAS_FOREIGN = re.compile(b"[\r\0\x01]").search

NUMBER_SQL = r"^(?:[A-Za-z_]{1,32}[=:])?([0-9]{1,15}(?:\.[0-9]{1,9})?)$"
_NUMBER = re.compile(rb"(?:[A-Za-z_]{1,32}[=:])?([0-9]{1,15}(?:\.[0-9]{1,9})?)").fullmatch


class Shape(Struct, frozen=True):
    """How a line of a format falls apart at its quotes: `quoted` fields after the request, `more` behind the last."""

    vhost: bool
    quoted: int
    more: bool

    @property
    def parts(self) -> int:
        """How many pieces (`p1`, `p2` ...) the quotes cut a line into."""
        return 3 + 2 * self.quoted

    def fits_sql(self) -> str:
        """Whether a line's pieces are those of the format, but for what stands in the first, the request and the
        agent.
        """
        p = self.parts
        tests = [f"p{p} is not null", f"p{p + 1} is null"]
        if self.quoted:
            tests.append("not contains(p4, '\\')")
        tests += [f"p{number} = ' '" for number in range(5, p - 1, 2)]
        tests += [f"not contains(p{number}, '\\')" for number in range(8, p, 2)]
        if self.more:
            tests += [f"starts_with(p{p}, ' ')", f"not contains(p{p}, '\\')"]
        elif self.quoted:
            tests.append(f"p{p} = ''")
        blank = " " if self.quoted else ""
        tests.append(f"regexp_full_match(p3, ' [0-9]{{3}} ([0-9]{{1,18}}|-){blank}')")
        return " and ".join(tests)

    def client_sql(self) -> str:
        """What fits before the time."""
        vhost = r"[^ \t]+ " if self.vhost else ""
        return rf"regexp_full_match(raw, '{vhost}[^ \t]+ - [^ \t]* \[')"

    def took_sql(self, word: int) -> str:
        """The number in one of the words behind the last quote (1: the first, -1: the last)."""
        if not self.more or not word:
            return "null::double"
        tail = f"substring(p{self.parts}, 2)"
        return f"try_cast(regexp_extract(split_part({tail}, ' ', {word}), '{NUMBER_SQL}', 1) as double)"


is_day, is_zone = (
    re.compile("[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:", re.ASCII).fullmatch,
    re.compile(r" [+-][0-9]{4}\] ", re.ASCII).fullmatch,
)
"""What stands before and behind the time of day."""


def took_of(line: bytes, word: int) -> float | None:
    """The same for a line that was not split."""
    words = line[line.rfind(b'"') + 2 :].split(b" ")
    number = _NUMBER(words[0 if word == 1 else -1])
    return float(number[1]) if number else None


_SHAPES = {
    "combined": Shape(vhost=False, quoted=2, more=False),
    "common": Shape(vhost=False, quoted=0, more=False),
    "vhost_combined": Shape(vhost=True, quoted=2, more=False),
    "main": Shape(vhost=False, quoted=3, more=False),
    "combined and more": Shape(vhost=False, quoted=2, more=True),
    "vhost_combined and more": Shape(vhost=True, quoted=2, more=True),
}
_EXTENDED = re.compile(r"(vhost_)?combined and ([1-4]) in quotes( and more)?").fullmatch


_NGINX_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
_HEADER_TIME = ' uht="$upstream_header_time"'
_TIMED = tuple(
    f'{_NGINX_COMBINED} rt=$request_time uct="$upstream_connect_time"{header} urt="$upstream_response_time"'
    for header in ("", _HEADER_TIME)
)
"""What nginx's own guide to timings appends, without and with the time of the header."""


def shape_of(name: str) -> Shape | None:
    """The shape of a format by its name; None where DuckDB cannot take its lines apart."""
    extended = _EXTENDED(name)
    if extended:
        return Shape(vhost=bool(extended[1]), quoted=2 + int(extended[2]), more=bool(extended[3]))
    return _SHAPES.get(name)


def extended_formats(quotes: int) -> list[Format]:
    """Combined formats with fields in quotes appended, such as lines with so many quotes may have."""
    count = quotes // 2 - 3
    if not 1 <= count <= 4 or quotes % 2:
        return []
    appended = "".join(f' "%{{quoted{number}}}n"' for number in range(count))
    timed: list[Format] = [nginx(spec, name=f"nginx {spec}") for spec in _TIMED if spec.count('"') == quotes]
    return timed + [
        apache(base + appended + tail, name=f"{name} and {count} in quotes{' and more' if tail else ''}")
        for name, base in (("vhost_combined", VHOST_COMBINED), ("combined", COMBINED))
        for tail in ("", " %{more}n")
    ]


def odd_lines(data: bytes, lines: Sequence[bytes]) -> list[int]:
    """Which of the lines that `data` consists of DuckDB's reader would not read as lines of text."""
    if not any(byte in data for byte in FOREIGN) and (data.isascii() or _is_utf8(data)):
        return []
    return [number for number, line in enumerate(lines) if _HAS_FOREIGN(line) or not _is_utf8(line)]


def _is_utf8(data: bytes) -> bool:
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


_VHOSTS = vhost_combined()


def vhost_text(raw: str) -> str | None:
    """A virtual host as formats read it, without its port."""
    event = _VHOSTS.parse(f'{raw} - - - [01/Jan/2000:00:00:00 +0000] "-" 200 - "-" "-"'.encode(), Anchor(0.0, UTC))
    return event.vhost if isinstance(event, HttpRequest) else None
