"""The letters after `%` in a date template, spelled out as regexes. Pure."""

from __future__ import annotations

import re

_DAY = "[12][0-9]|[ 0]?[1-9]|3[01]"
_HOUR = "[01]?[0-9]|2[0-3]"
_SECOND = "[0-5]?[0-9]|6[01]"
_OFFSET = "[+-][01][0-9](?::?[0-9]{2})?"
_ABBREVIATION = "[A-Z](?:[A-Z]{2,4})?"
_WEEK = "5[0-3]|[0-4]?[0-9]"
_TWO = "[0-9]{2}"

# directive -> (blank that may precede, name of the group, its regex)
DIRECTIVES: dict[str, tuple[str, str, str]] = {
    "Y": ("", "Y", "[0-9]{4}"),
    "ExY": ("", "Y", "20[0-9]{2}"),
    "y": ("", "y", _TWO),
    "Exy": ("", "y", _TWO),
    "m": ("", "m", "0?[1-9]|1[0-2]"),
    "Exm": ("", "m", "0[1-9]|1[0-2]"),
    "b": ("", "b", "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"),
    "B": (
        "",
        "B",
        "january|february|march|april|may|june|july|august|september|october|november|december",
    ),
    "d": ("", "d", _DAY),
    "Exd": ("", "d", "[12][0-9]|0[1-9]|3[01]"),
    "j": ("", "j", "[0-2]?[0-9]?[0-9]|3[0-5][0-9]|36[0-6]"),
    "U": ("", "U", _WEEK),
    "W": ("", "W", _WEEK),
    "w": ("", "w", "[0-6]"),
    "a": ("", "a", "mon|tue|wed|thu|fri|sat|sun"),
    "A": ("", "A", "monday|tuesday|wednesday|thursday|friday|saturday|sunday"),
    "H": ("", "H", _HOUR),
    "ExH": ("", "H", "[01][0-9]|2[0-3]"),
    "k": (" ?", "H", _HOUR),
    "Exk": (" ?", "H", _HOUR),
    "I": ("", "I", "1[0-2]|0?[1-9]"),
    "l": (" ?", "I", "1[0-2]|0?[0-9]"),
    "Exl": (" ?", "I", "1[0-2]|[0-9]"),
    "p": ("", "p", "am|pm"),
    "M": ("", "M", "[0-5]?[0-9]"),
    "ExM": ("", "M", "[0-5][0-9]"),
    "S": ("", "S", _SECOND),
    "ExS": ("", "S", "[0-5][0-9]|6[01]"),
    "f": ("", "f", "[0-9]{1,6}"),
    "z": ("", "z", f"Z|UTC|GMT|{_OFFSET}"),
    "Z": ("", "Z", "Z|[A-Z]{3,5}"),
    "ExZ": ("", "Z", _ABBREVIATION),
    "Exz": ("", "z", f"(?:{_ABBREVIATION})?{_OFFSET}|{_ABBREVIATION}"),
}
_SHORTHAND = {"c": "%a %b %d %H:%M:%S %Y", "x": "%m/%d/%y", "X": "%H:%M:%S"}
_NAMES = frozenset("aAbBpc")  # directives that are read in either letter case, and all of the template with them
_DIRECTIVE = re.compile(r"%(Ex[A-Za-z]|.|$)", re.DOTALL)


def rendered(text: str, *, named: bool = True) -> str:
    """The regex of a template's text: directives spelled out, all else as it stands. ValueError: no such directive."""

    def one(found: re.Match[str]) -> str:
        name = found[1]
        if name == "%":
            return "%"
        if name in _SHORTHAND:
            return rendered(_SHORTHAND[name], named=named)
        if name not in DIRECTIVES:
            known = " ".join(f"%{known}" for known in (*DIRECTIVES, *_SHORTHAND))
            raise ValueError(
                f"%{name} in datepattern {text!r} is not known; expected {known}, or %% for a percent sign"
            )
        blank, group, regex = DIRECTIVES[name]
        return f"{blank}(?P<{group}>{regex})" if named else f"{blank}(?:{regex})"

    return _DIRECTIVE.sub(one, text)


def is_named(line: str) -> bool:
    """Whether a template has parts that are names, and is read in either letter case."""
    return any(found[1] in _NAMES for found in _DIRECTIVE.finditer(line))
