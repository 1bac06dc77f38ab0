"""How single values of a configuration are read: each reader is strict, reports what it expected, and names no key.

A reader gets the value and `report(problem, *index)`, which notes a mistake (of an element of a list where an index is
given); what it returns after reporting is not used.
"""

from __future__ import annotations

import math
import re
import reprlib
from collections.abc import Callable, Iterable
from ipaddress import IPv6Network, ip_network
from typing import Any

from msgspec import Struct

from tocsin.duration import parse_duration_s, render_duration

KeyPath = tuple[str | int, ...]
Report = Callable[..., None]
Read = Callable[[Any, Report], Any]
_MAPPED_PREFIX = 96
_PLAIN_PATH = re.compile(r"/[A-Za-z0-9._/-]+")
_USER_NAME = re.compile(r"[a-z_][a-z0-9_-]{0,30}\$?")


class Key(Struct, frozen=True):
    """A key of a section: the attribute it fills, its reader, and a valid value as TOML."""

    name: str
    attribute: str
    read: Read
    example: str


class Mistakes:
    """The mistakes of one text, by key. Lines are looked up only once something needs one."""

    def __init__(self, text: str) -> None:
        self.found: list[tuple[KeyPath, str, str]] = []
        self._text = text
        self._lines: dict[KeyPath, int] | None = None

    def add(self, where: KeyPath, problem: str, remedy: str) -> None:
        """Note a mistake at a key."""
        self.found.append((where, problem, remedy))

    def located(self) -> list[tuple[int, str, str, str]]:
        """Line, key, problem and remedy of each."""
        return [(self.line_of(where), _spelled(where), problem, remedy) for where, problem, remedy in self.found]

    def line_of(self, where: KeyPath) -> int:
        """The line of a key, or of the nearest table around it."""
        if self._lines is None:
            from tocsin.rules.positions import key_lines  # noqa: PLC0415  a flawless file starts guard without it

            self._lines = key_lines(self._text)
        return next((self._lines[where[:end]] for end in range(len(where), 0, -1) if where[:end] in self._lines), 1)

    def nearest(self, word: str, choices: Iterable[str]) -> str:
        """The start of a remedy: the valid word that was probably meant, or nothing."""
        from tocsin.rules.mistakes import nearest  # noqa: PLC0415  imports difflib, which only a mistake needs

        close = nearest(word, choices)
        return f"did you mean `{close}`? " if close else ""


def words(choices: Iterable[str]) -> str:
    """A list for people."""
    return ", ".join(choices)


def printable(text: str) -> str:
    """The text with what a terminal might obey as escapes."""
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def shown(value: object) -> str:
    """A value as a message shows it: short, and nothing that a terminal would obey."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, dict | list):
        return "a table" if isinstance(value, dict) else "a list"
    return reprlib.repr(value)


def flag(value: Any, report: Report) -> Any:
    """true or false."""
    if not isinstance(value, bool):
        report(f"expected true or false, got {shown(value)}")
    return value


def number(least: int, most: int) -> Read:
    """A whole number within bounds."""

    def read(value: Any, report: Report) -> Any:
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            report(f"expected a whole number from {least:,} to {most:,}, got {shown(value)}")
        return value

    return read


def ratio(least: float, most: float) -> Read:
    """Any number within bounds."""

    def read(value: Any, report: Report) -> Any:
        if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= most:
            report(f"expected a number from {least:g} to {most:g}, got {shown(value)}")
            return value
        return float(value)

    return read


def span(least_s: float, most_s: float) -> Read:
    """A duration within bounds, in seconds."""

    def read(value: Any, report: Report) -> Any:
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            report(f'expected a duration such as "10m" or "66h40m", or a number of seconds, got {shown(value)}')
            return value
        try:
            seconds = parse_duration_s(value)
        except ValueError as error:
            report(printable(str(error))[:300])
            return value
        if not (math.isfinite(seconds) and least_s <= seconds <= most_s):
            bounds = f"from {render_duration(least_s) if least_s else '0s'} to {render_duration(most_s)}"
            report(f"expected a duration {bounds}, got {shown(value)}")
        return seconds

    return read


def forever_or(read_span: Read) -> Read:
    """A duration, or "forever", which is None."""

    def read(value: Any, report: Report) -> Any:
        return None if value == "forever" else read_span(value, report)

    return read


def choice(*choices: str) -> Read:
    """One of a few words."""

    def read(value: Any, report: Report) -> Any:
        if value not in choices:
            expected = " or ".join(f'"{word}"' for word in choices)
            report(f"expected {expected}, got {shown(value)}")
        return value

    return read


def identifier(what: str) -> Read:
    """A text of one line that is not empty."""

    def read(value: Any, report: Report) -> Any:
        if not isinstance(value, str) or not value or not value.isprintable():
            report(f"expected a {what} as a text of printable characters, got {shown(value)}")
        return value

    return read


def log_format(value: Any, report: Report) -> Any:
    """The name of a log format, or an Apache or nginx format string, as `formats.by_name` takes it."""
    if not isinstance(value, str) or not value:
        report(f"expected a log format as a text, got {shown(value)}")
        return value
    from tocsin.formats import by_name  # noqa: PLC0415  only a configuration that names a format needs the formats

    try:
        by_name(value)
    except ValueError as error:
        report(printable(str(error))[:300])
    return value


def user_name(value: Any, report: Report) -> Any:
    """The name of a system user."""
    if not isinstance(value, str) or not _USER_NAME.fullmatch(value):
        report(f"expected the name of a system user, got {shown(value)}")
    return value


def path(value: Any, report: Report) -> Any:
    """An absolute path."""
    if not isinstance(value, str) or not value.startswith("/") or not value.isprintable():
        report(f"expected an absolute path, got {shown(value)}")
    return value


def plain_path(value: Any, report: Report) -> Any:
    """An absolute path that may stand in another program's configuration without quotes."""
    if not isinstance(value, str) or not _PLAIN_PATH.fullmatch(value):
        report(f"expected an absolute path of letters, digits and ._/-, got {shown(value)}")
    return value


def path_or_none(value: Any, report: Report) -> Any:
    """An absolute path, or an empty text for none."""
    return value if value == "" else path(value, report)


def each(read: Read) -> Read:
    """A list; every element is read, and every mistake reported."""

    def read_all(value: Any, report: Report) -> Any:
        if not isinstance(value, list):
            report(f"expected a list, got {shown(value)}")
            return ()

        def reporter(index: int) -> Report:
            return lambda problem: report(problem, index)

        return tuple(read(element, reporter(index)) for index, element in enumerate(value))

    return read_all


def network(value: Any, report: Report) -> Any:
    """An address or prefix as canonical text, IPv4 unwrapped from IPv6. A prefix with host bits is a mistake."""
    if not isinstance(value, str):
        report(f"expected an address or prefix as a text, got {shown(value)}")
        return value
    try:
        found = ip_network(value)
    except ValueError:
        try:
            meant = ip_network(value, strict=False)
        except ValueError:
            report(f"expected an address or prefix (names are not looked up), got {shown(value)}")
        else:
            report(f"{shown(value)} has bits set behind its prefix length; the network is {meant}")
        return value
    if isinstance(found, IPv6Network) and found.prefixlen >= _MAPPED_PREFIX:
        mapped = found.network_address.ipv4_mapped
        if mapped is not None:
            found = ip_network((int(mapped), found.prefixlen - _MAPPED_PREFIX))
    alone = found.prefixlen == found.max_prefixlen
    return str(found.network_address) if alone else str(found)


def proper_network(value: Any, report: Report) -> Any:
    """As `network`, but not all addresses there are: to allow or trust everybody would undo the whole."""
    text = network(value, report)
    if isinstance(text, str) and text.endswith("/0"):
        report(f"{shown(value)} is every address; name those that are meant")
    return text


def _spelled(where: KeyPath) -> str:
    spelled = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in where)
    return printable(spelled.lstrip("."))
