"""The small languages inside values: `name[opt=…]`, lists of actions, spans of time, words, yes and no.

All of it as fail2ban 1.0 understands it, but by a scanner: nothing is evaluated. ValueErrors say what was expected.
"""

from __future__ import annotations

import math
import re

_NAME = re.compile(r"[^\[\s]+")
_KEY = re.compile(r"\s*([\w.-]+(?:\?\w+=\w+)?)=")
_BARE = re.compile(r"[^,\]]*")
_BLANKS = re.compile(r"\s*")
_NEXT_GROUP = re.compile(r"\]\s*\[")
_YES = frozenset(("1", "on", "true", "yes"))
_NO = frozenset(("0", "off", "false", "no"))

_DAY_S = 86_400
_YEAR_S = 365.25 * _DAY_S
_UNITS_S: tuple[tuple[tuple[str, ...], float], ...] = (
    (("s", "ss", "se", "sec", "second", "seconds"), 1),
    (("m", "mm", "mi", "min", "minute", "minutes"), 60),
    (("h", "hh", "ho", "hou", "hour", "hours"), 3_600),
    (("d", "dd", "da", "day", "days"), _DAY_S),
    (("w", "ww", "we", "wee", "week", "weeks"), 7 * _DAY_S),
    (("mo", "mon", "month", "months"), _YEAR_S / 12),
    (("y", "yy", "ye", "yea", "year", "years"), _YEAR_S),
)
_UNIT_S = {word: seconds for words, seconds in _UNITS_S for word in words}
_TOKEN = re.compile(r"\s*(?:([0-9]+(?:\.[0-9]*)?|\.[0-9]+)\s*([a-z]*)|([-+*/()]))", re.IGNORECASE)
_MAX_SPAN_CHARS = 100
_MAX_SPAN_S = 1e12
SPAN_EXPECTED = "a number of seconds, or a span such as `10m`, `48h`, `1d 12h` or `1y 6mo` (`m` minutes, `mo` months)"


def parse_call(text: str) -> tuple[str, dict[str, str]]:
    """`sshd[mode=ddos]` -> `("sshd", {"mode": "ddos"})`; groups may repeat (`x[a=1][b=2]`), the last word counts."""
    text = text.strip()
    match = _NAME.match(text)
    if match is None:
        raise ValueError(f"expected `name` or `name[option=value]`, got {text!r}")
    at = _blanks(text, match.end())
    options: dict[str, str] = {}
    if text.startswith("[", at):
        at = _groups(text, at, options)
    if at != len(text):
        raise ValueError(
            f"expected `name` or `name[option=value]`, got {text[at : at + 25]!r} after {text[:at][-40:]!r}"
        )
    return match[0], options


def split_calls(text: str) -> list[str]:
    """Several calls, apart from one another by blanks or newlines (which may also stand inside the brackets)."""
    calls: list[str] = []
    at = _blanks(text, 0)
    while at < len(text):
        match = _NAME.match(text, at)
        if match is None:
            raise ValueError(f"expected an action's name before {text[at : at + 25]!r}")
        end = match.end()
        bracket = _blanks(text, end)
        if text.startswith("[", bracket):
            end = _groups(text, bracket, {})
        calls.append(text[at:end])
        at = _blanks(text, end)
        if at == end < len(text):
            raise ValueError(f"expected a blank or a new line before {text[at : at + 25]!r}")
    return calls


def _groups(text: str, at: int, options: dict[str, str]) -> int:
    """Reads `[a=1, b="x"][c=2]` from its first bracket on; the position after its last one."""
    at += 1
    while True:
        at = _blanks(text, at)
        if text.startswith(",", at):
            at = _blanks(text, at + 1)
        if not text.startswith("]", at):
            key = _KEY.match(text, at)
            if key is None:
                raise ValueError(f"expected `option=value` or `]`, got {text[at : at + 25]!r}")
            value, at = _value(text, key.end())
            options[key[1]] = value
            at = _blanks(text, at)
        if more := _NEXT_GROUP.match(text, at):
            at = more.end()
        elif text.startswith("]", at):
            return at + 1
        elif not text.startswith(",", at):
            raise ValueError(f"expected `,` or `]` after an option's value, got {text[at : at + 25]!r}")


def _value(text: str, at: int) -> tuple[str, int]:
    quote = text[at : at + 1]
    if quote and quote in "\"'":
        end = text.find(quote, at + 1)
        if end >= 0:
            return text[at + 1 : end].strip(), end + 1
    match = _BARE.match(text, at)
    end = match.end() if match else at
    return text[at:end].strip(), end


def _blanks(text: str, at: int) -> int:
    match = _BLANKS.match(text, at)
    return match.end() if match else at


def parse_words(text: str) -> tuple[str, ...]:
    """The words of a list apart by blanks, commas or newlines."""
    return tuple(text.replace(",", " ").split())


def parse_bool(text: str) -> bool:
    """`true`, `yes`, `on`, `1` and their opposites, in any case."""
    word = text.strip().lower()
    if word in _YES:
        return True
    if word in _NO:
        return False
    raise ValueError(f"expected `true` or `false`, got {text!r}")


def parse_int(text: str) -> int:
    """A whole number, not longer than makes sense."""
    if not re.fullmatch(r"\s*[-+]?[0-9]{1,15}\s*", text):
        raise ValueError(f"expected a whole number, got {text[:40]!r}")
    return int(text)


def parse_span_s(text: str) -> float:
    """Seconds of a span: numbers with or without a unit, added where they stand side by side, `+ - * /` and brackets.

    `1h30m` is 5400, `2*1h` is 7200, `1y-6mo` half a year (a year is 365.25 days, a month a twelfth of it), `-1` is -1.
    """
    if len(text) > _MAX_SPAN_CHARS:
        raise ValueError(f"expected {SPAN_EXPECTED}, got a text of {len(text)} characters")
    try:
        seconds = _Span(text).value()
    except (ValueError, ZeroDivisionError, OverflowError) as error:
        raise ValueError(f"expected {SPAN_EXPECTED}, got {text!r}") from error
    if not math.isfinite(seconds) or abs(seconds) > _MAX_SPAN_S:
        raise ValueError(f"expected a span of less than 30,000 years, got {text!r}")
    return seconds


class _Span:
    """A span's numbers and signs, and the usual descent through sum, product, atom. ValueError: not a span."""

    def __init__(self, text: str) -> None:
        self._words: list[float | str] = []
        at = 0
        text = text.rstrip()
        while at < len(text):
            match = _TOKEN.match(text, at)
            if match is None:
                raise ValueError
            number, unit, sign = match.groups()
            if sign:
                self._words.append(sign)
            elif unit and unit.lower() not in _UNIT_S:
                raise ValueError
            else:
                self._words.append(float(number) * (_UNIT_S[unit.lower()] if unit else 1))
            at = match.end()
        self._at = 0

    def value(self) -> float:
        result = self._sum()
        if self._at != len(self._words):
            raise ValueError
        return result

    def _next(self) -> float | str | None:
        return self._words[self._at] if self._at < len(self._words) else None

    def _sum(self) -> float:
        result = self._product()
        while (word := self._next()) is not None and word != ")":
            if word in ("+", "-"):
                self._at += 1
                result += self._product() if word == "+" else -self._product()
            else:
                result += self._product()
        return result

    def _product(self) -> float:
        result = self._atom()
        while (word := self._next()) in ("*", "/"):
            self._at += 1
            result = result * self._atom() if word == "*" else result / self._atom()
        return result

    def _atom(self) -> float:
        word = self._next()
        self._at += 1
        if isinstance(word, float):
            return word
        if word == "-":
            return -self._atom()
        if word == "+":
            return self._atom()
        if word != "(":
            raise ValueError
        result = self._sum()
        if self._next() != ")":
            raise ValueError
        self._at += 1
        return result
