"""Said -> text in the reader's language, English or French.

A template is filled in one pass (`{n:s}` is the plural's `s` of the word before it, and `1 requests` becomes
`1 request`), so nothing that a log put into a place is looked at again; and whatever stands in a place is made
printable and cut at MOST_CHARS first: a terminal may show the text, and a page after escaping HTML.
French is set with no-break spaces (U+00A0) where its typography wants them; who prints to a terminal turns them into
plain ones after wrapping.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from datetime import UTC, datetime, tzinfo
from typing import Literal

from tocsin.announce import safe_text
from tocsin.explain.model import Said, Value
from tocsin.explain.telling.french import DAYS, FRENCH, MONTHS, WORDS

Code = Literal["en", "fr"]
CODES: tuple[Code, ...] = ("en", "fr")
FORMATS = ("time", "clock", "span", "size", "share", "times")
PLACE = re.compile(r"\{([A-Za-z_][A-Za-z_0-9]*)(?::([a-z]+))?\}")
PLACE_AND_WORD = re.compile(PLACE.pattern + r"( [a-z]+s\b)?")
MOST_CHARS = 160  # of a text in a place: a path may be of 8 KiB, and a sentence is to be read
HARD_SPACE = "\u00a0"
ENGLISH_DAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
ENGLISH_MONTHS = (
    *("January", "February", "March", "April", "May", "June", "July"),
    *("August", "September", "October", "November", "December"),
)
_SIZES = {"en": ("B", "KiB", "MiB", "GiB", "TiB"), "fr": ("o", "Kio", "Mio", "Gio", "Tio")}
_SPANS = {"en": ("d", "h", "min", "s"), "fr": ("j", "h", "min", "s")}
_SINGULAR = {"addresses": "address", "processes": "process", "queries": "query"}
_HARD_BEFORE = re.compile(r" (?=[:;!?»%])")


def chosen(environ: Mapping[str, str]) -> Code:
    """The language of a locale: the first of LC_ALL, LC_MESSAGES and LANG that is set decides (POSIX, 8.2)."""
    name = next((environ[key] for key in ("LC_ALL", "LC_MESSAGES", "LANG") if environ.get(key)), "")
    return "fr" if re.split(r"[_.@]", name)[0].lower() in ("fr", "french", "français") else "en"


class Language:
    """How one reader is spoken to: a language, and the zone that times are shown in.

    `names_zone`: each full time names its zone, for texts that stand alone.
    """

    def __init__(self, code: Code = "en", zone: tzinfo = UTC, *, names_zone: bool = False) -> None:
        self.code = code
        self.zone = zone
        self.names_zone = names_zone

    def tell(self, said: Said) -> str:
        """The sentence. A place without a value stays as it is written; text without a translation is English."""
        text = typeset(FRENCH[said.text]) if self.code == "fr" and said.text in FRENCH else said.text
        return PLACE_AND_WORD.sub(lambda place: self._place(said, place), text)

    def _place(self, said: Said, place: re.Match[str]) -> str:
        name, form, word = place[1], place[2] or "", place[3] or ""
        if name not in said.args:
            return place[0]
        value = said.args[name]
        if form == "s":
            return f"{'s' if self._is_many(value) else ''}{word}"
        if isinstance(value, str) and (words := WORDS.get(name)) and value in words:
            return (typeset(words[value][1]) if self.code == "fr" else words[value][0]) + word
        if value == 1 and isinstance(value, int) and not form and self.code == "en":
            word = f" {_SINGULAR.get(word[1:], word[1:-1])}" if word else ""
        return self.value(value, form) + word

    def _is_many(self, value: Value) -> bool:
        """Whether a number takes the plural: in French not below two, in English all but one."""
        return isinstance(value, int | float) and (abs(value) >= 2 if self.code == "fr" else value != 1)

    def value(self, value: Value, form: str = "") -> str:
        """What stands in a place; `form` as in `Said`, anything else is none."""
        if value is None:
            return "unknown" if self.code == "en" else "inconnu"
        if isinstance(value, Said):
            return self.tell(value)
        if isinstance(value, str):
            return shortened(value)
        if not math.isfinite(value):
            return "∞" if value > 0 else "?"
        match form:
            case "time":
                return self.time(value)
            case "clock":
                return self.clock(value)
            case "span":
                return self.span(value)
            case "size":
                return self.size(value)
            case "share":
                return self.share(value)
            case "times":
                return self.times(value)
        return self.number(value)

    # -- moments -----------------------------------------------------------------------------------------------------

    def moment(self, ts: float) -> datetime | None:
        """The moment in the reader's zone; None where no calendar has it."""
        try:
            return datetime.fromtimestamp(ts, UTC).astimezone(self.zone)
        except (OverflowError, ValueError, OSError):
            return None

    def time(self, ts: float) -> str:
        """Day and time to the second."""
        at = self.moment(ts)
        if at is None:
            return f"epoch {ts:.0f} s"
        zone = f" {at:%Z}" if self.names_zone else ""
        if self.code == "fr":
            return f"{self._day_of_month(at)} {at.year} à {at:%H:%M:%S}{zone}"
        return f"{at.year:04}-{at:%m-%d %H:%M:%S}{zone}"

    def clock(self, ts: float, *, seconds: bool = False) -> str:
        """The time of day."""
        at = self.moment(ts)
        if at is None:
            return f"epoch {ts:.0f} s"
        if seconds:
            return f"{at:%H:%M:%S}"
        return f"{at.hour}{HARD_SPACE}h{HARD_SPACE}{at:%M}" if self.code == "fr" else f"{at:%H:%M}"

    def day(self, ts: float) -> str:
        """The day with its name."""
        at = self.moment(ts)
        if at is None:
            return f"epoch {ts:.0f} s"
        names = DAYS if self.code == "fr" else ENGLISH_DAYS
        return f"{names[at.weekday()]} {self._day_of_month(at)} {at.year}"

    def period(self, start: float, end: float) -> str:
        """From when to when: the day once where it is one."""
        first, last = self.moment(start), self.moment(end)
        if first is None or last is None or first.date() != last.date():
            return f"{self.time(start)} → {self.time(end)}"
        return f"{self.day(start)}, {first:%H:%M:%S} → {last:%H:%M:%S}"

    def span_between(self, start: float, end: float) -> str:
        """From when to when in the fewest signs: the day only where the two differ in it."""
        first, last = self.moment(start), self.moment(end)
        if first is None or last is None or first.date() != last.date():
            return f"{self.time(start)} → {self.time(end)}"
        return f"{self.time(start)} → {last:%H:%M:%S}"

    def sign(self, mark: str) -> str:
        """A colon or a semicolon as the language sets it behind a word."""
        return f"{HARD_SPACE}{mark}" if self.code == "fr" else mark

    def zone_name(self, ts: float) -> str:
        """The zone as an offset, and its name where it has one: `UTC+02:00 (CEST)`."""
        at = self.moment(ts)
        offset = at.strftime("%z") if at else "+0000"
        shown = "UTC" if offset[:5] == "+0000" else f"UTC{offset[:3]}:{offset[3:5]}"
        name = (at.tzname() if at else None) or ""
        return shown if name.startswith(("UTC", "+", "-")) or not name else f"{shown} ({name})"

    def _day_of_month(self, at: datetime) -> str:
        if self.code == "fr":
            return f"{'1er' if at.day == 1 else at.day}{HARD_SPACE}{MONTHS[at.month - 1]}"
        return f"{at.day} {ENGLISH_MONTHS[at.month - 1]}"

    # -- amounts -----------------------------------------------------------------------------------------------------

    def span(self, seconds: float) -> str:
        """A span in its two largest units: `2 h 10 min`; below ten seconds with tenths."""
        sign, rest = ("-" if seconds < 0 else ""), abs(seconds)
        day, hour, minute, second = _SPANS[self.code]
        if rest < 0.095:
            return f"{sign}{self.number(round(rest * 1000))}{HARD_SPACE}ms"
        if rest < 9.95:
            return f"{sign}{self._decimal(rest)}{HARD_SPACE}{second}"
        whole = round(rest) if rest < 3600 else round(rest / 60) * 60 if rest < 172800 else round(rest / 3600) * 3600
        parts = (whole // 86400, day), (whole % 86400 // 3600, hour), (whole % 3600 // 60, minute), (whole % 60, second)
        return sign + HARD_SPACE.join(f"{amount:,}{HARD_SPACE}{unit}" for amount, unit in parts if amount)

    def size(self, octets: float) -> str:
        """Bytes in the unit that fits."""
        value = float(octets)
        units = _SIZES[self.code]
        for unit in units:
            if abs(value) < 1024 or unit == units[-1]:
                break
            value /= 1024
        shown = self._decimal(value) if unit != units[0] and abs(value) < 99.95 else self.number(round(value))
        return f"{shown}{HARD_SPACE}{unit}"

    def share(self, share: float) -> str:
        """A share in percent, below one percent with a tenth."""
        percent = share * 100
        shown = self._decimal(percent) if 0 < abs(percent) < 0.95 else self._whole(percent)
        return f"{shown}{HARD_SPACE}%" if self.code == "fr" else f"{shown}%"

    def times(self, factor: float) -> str:
        """A factor: `38 times`."""
        word = "fois" if self.code == "fr" else "times"
        return f"{self.factor(factor)}{HARD_SPACE}{word}"

    def factor(self, factor: float) -> str:
        """A factor as a number alone, with a tenth below ten."""
        return self._decimal(factor) if abs(factor) < 9.95 else self._whole(factor)

    def number(self, value: float) -> str:
        """A number with its thousands."""
        if not math.isfinite(value):
            return "∞"
        if isinstance(value, float) and value == int(value):
            value = int(value)
        shown = f"{value:,}" if isinstance(value, int) else f"{value:,.1f}"
        return shown.replace(",", HARD_SPACE).replace(".", ",") if self.code == "fr" else shown

    def _whole(self, value: float) -> str:
        return self.number(round(value) if math.isfinite(value) else value)

    def _decimal(self, value: float) -> str:
        return self.number(round(value, 1))


def shortened(text: str, most: int = MOST_CHARS) -> str:
    """The text, printable, and no longer than so many characters."""
    text = safe_text(text[: most + 1])
    return text if len(text) <= most else f"{text[: most - 1]}…"


def typeset(french: str) -> str:
    """French with the no-break spaces that its typography wants: before `: ; ! ? » %`, after `«`."""
    return _HARD_BEFORE.sub(HARD_SPACE, french).replace("« ", f"«{HARD_SPACE}")
