"""Dates as people put them between the outputs of commands, and the clock that a file of snapshots keeps by them.

A line is a date when every word of it is: `Sun Jul  5 21:24:01 CEST 2015`, `dimanche 5 juillet 2015, 21:24:01
(UTC+0200)`, `05/07/2015 21:24`, `1436124241`, `21h24`. Set off (`=== ... ===`, `### ...`), it may hold a few other
words. Days stand before months, as everywhere but in one country.
"""

from __future__ import annotations

import re
from calendar import timegm
from datetime import UTC, datetime

from msgspec import Struct

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, epoch_ts, iso_ts, time_piece
from tocsin.formats.told import Clock

LONGEST_DATE = 96
DAY_S = 86400.0
BACK_S = 3600.0
"""How far a time of day may lie before the last one and still be of the same day: a clock set back, summer time."""

QUARTER_S = 900.0
MOST_OTHER_WORDS = 4

_MONTH_NAMES = (
    ("january", "janvier"), ("february", "février", "fevrier"), ("march", "mars"), ("april", "avril"), ("may", "mai"),
    ("june", "juin"), ("july", "juillet"), ("august", "août", "aout"), ("september", "septembre"),
    ("october", "octobre"), ("november", "novembre"), ("december", "décembre", "decembre"),
)  # fmt: skip
_MONTHS = {
    name[:length]: number
    for number, names in enumerate(_MONTH_NAMES, start=1)
    for name in names
    for length in range(3, len(name) + 1)
}
_WEEKDAYS = frozenset(
    (
        "sun", "mon", "tue", "wed", "thu", "fri", "sat",
        "sunday", "monday", "tuesday", "wednesday", "thursday", "friday", "saturday",
        "dim", "lun", "mer", "jeu", "ven", "sam",
        "dimanche", "lundi", "mardi", "mercredi", "jeudi", "vendredi", "samedi",
    )
)  # fmt: skip
_FILLERS = frozenset(("date", "time", "timestamp", "le", "at", "on", "à", "a", "heure", "-", ""))
_ZONES = {
    "utc": "Z", "gmt": "Z", "z": "Z", "wet": "Z", "cet": "+0100", "west": "+0100", "cest": "+0200", "eet": "+0200",
    "eest": "+0300", "msk": "+0300", "edt": "-0400", "est": "-0500", "cdt": "-0500", "mdt": "-0600", "mst": "-0700",
    "pdt": "-0700", "pst": "-0800", "jst": "+0900",
}  # fmt: skip
"""Zones that mean one offset wherever they are written; the rest is taken for the server's own."""

_WORTH_READING = re.compile(
    r"[0-9]{1,2}[:hH][0-9]{2}|(?<![0-9])[0-9]{9,10}(?![0-9])|[0-9]{13}|[0-9]{4}[-/]?[0-9]{2}"
).search
_SET_OFF = "=#*+~>[|-"
_WORDS = re.compile(r"[\s,()\[\]=]+").split
_DATE_TIME = re.compile(
    r"([0-9]{4})[-/]?([0-9]{2})[-/]?([0-9]{2})[tT_:-]?([0-9]{2})[:h_-]?([0-9]{2})(?:[:m_-]?([0-9]{2})(?:[.,]([0-9]{1,9}))?)?"
    r"s?([zZ]|[+-][0-9]{2}:?[0-9]{2})?"
).fullmatch
_YMD = re.compile(r"([0-9]{4})([-/.]?)([0-9]{2})\2([0-9]{2})").fullmatch
_DMY = re.compile(r"([0-9]{1,2})([-/.])([0-9]{1,2}|[A-Za-z]{3})\2([0-9]{4})").fullmatch
_TIME = re.compile(
    r"([0-9]{1,2})[:hH]([0-9]{2})(?:[:m]([0-9]{2})s?(?:[.,]([0-9]{1,9}))?)?([zZ]|[+-][0-9]{2}:?[0-9]{2})?"
).fullmatch
_OFFSET = re.compile(r"(?:UTC|GMT)?([+-][0-9]{2}):?([0-9]{2})?").fullmatch  # `-03` is what Brazil's zone is called
_EPOCH = re.compile(r"@?([0-9]{9,10}(?:\.[0-9]{1,9})?|[0-9]{13})").fullmatch


class When(Struct):
    """What a line says of the time: an epoch, or a date (the year may lack), or a time of day alone."""

    year: int | None = None
    month: int | None = None
    day: int | None = None
    day_s: float | None = None
    fraction: str = ""
    offset: str = ""
    epoch_s: float | None = None
    evening: bool | None = None
    weekday: bool = False


def date_of(line: str) -> When | None:
    """The date or time of day that a line consists of; None where it is another line."""
    if len(line) > LONGEST_DATE or not _WORTH_READING(line):
        return None
    shown = line.strip()
    others = MOST_OTHER_WORDS if shown[:1] in _SET_OFF else 0
    when = When()
    for word in _WORDS(shown.strip("=#*+~><|_- \t:")):
        if _understood(when, word.strip(";:,.'\"=#")):
            continue
        if others == 0:
            return None
        others -= 1
    if shown[:1] in _SET_OFF and when.month is None:
        when.day = None  # `=== 5 apache at 21:24 ===`
    return _whole(when)


def _whole(when: When) -> When | None:
    if when.epoch_s is not None:
        return when if when.day_s is None and when.day is None else None
    if (when.month is None) != (when.day is None) or (when.year is not None and when.month is None):
        return None
    if when.day_s is None:
        if when.year is None:
            return None
        when.day_s = 0.0
    if when.evening is not None:
        hour = int(when.day_s // 3600)
        if not 1 <= hour <= 12:
            return None
        when.day_s += (hour % 12 + 12 * when.evening - hour) * 3600
    return when


def _understood(when: When, word: str) -> bool:
    """Whether a word tells a part of the time (taken down in `when`, each part once) or says nothing."""
    if not word:
        return True
    if word[:1].isdigit() or word[:1] == "@":
        return _figures(when, word)
    low = word.lower()
    if low in _FILLERS:
        return True
    if low in {"am", "pm"} and when.day_s is not None and when.evening is None:
        when.evening = low == "pm"
        return True
    if low.rstrip(".") in _WEEKDAYS and not when.weekday:
        when.weekday = True
        return True
    return _named_month(when, low) or _zone(when, word, low)


def _named_month(when: When, low: str) -> bool:
    month = _MONTHS.get(low.rstrip("."))
    # `mar. juil.  5`: what looked like March was a Tuesday
    if month is None or (when.month is not None and (when.month != 3 or when.weekday)):
        return False
    when.weekday = when.weekday or when.month is not None
    when.month = month
    return True


def _zone(when: When, word: str, low: str) -> bool:
    match = _OFFSET(word)
    offset = match[1] + (match[2] or "00") if match else _ZONES.get(low)
    if offset is None:
        # after the time of day, an unknown name of a zone means the server's
        return when.day_s is not None and when.day is not None and word.isupper() and 2 < len(word) < 6
    when.offset = when.offset or offset
    return True


def _figures(when: When, word: str) -> bool:
    if match := _TIME(word):
        return _time_of_day(when, match[1], match[2], match[3], match[4], match[5])
    if match := _DATE_TIME(word):
        return _day(when, match[1], match[2], match[3]) and _time_of_day(
            when, match[4], match[5], match[6], match[7], match[8]
        )
    if match := _YMD(word):
        return _day(when, match[1], match[3], match[4])
    if match := _DMY(word):
        month = match[3] if match[3].isdigit() else str(_MONTHS.get(match[3].lower(), 0))
        return _day(when, match[4], month, match[1])
    if match := _EPOCH(word):
        if when.epoch_s is not None:
            return False
        when.epoch_s = epoch_ts(float(match[1]))
        return when.epoch_s is not None and when.epoch_s >= 1e8
    return _lone_number(when, word.removesuffix("er"))


def _lone_number(when: When, word: str) -> bool:
    """A year of four figures, a day of at most two."""
    if not (word.isascii() and word.isdecimal()):
        return False
    if len(word) == 4 and when.year is None and "1970" <= word <= "2199":
        when.year = int(word)
        return True
    if len(word) <= 2 and when.day is None and 1 <= int(word) <= 31:
        when.day = int(word)
        return True
    return False


def _day(when: When, year: str, month: str, day: str) -> bool:
    if when.day is not None or not 1 <= int(month) <= 12 or not 1 <= int(day) <= 31:
        return False
    when.year, when.month, when.day = int(year), int(month), int(day)
    return True


def _time_of_day(
    when: When, hour: str, minute: str, second: str | None, fraction: str | None, offset: str | None
) -> bool:
    if when.day_s is not None or int(hour) > 23 or int(minute) > 59 or int(second or 0) > 60:
        return False
    when.day_s = float(int(hour) * 3600 + int(minute) * 60 + min(int(second or 0), 59))
    when.fraction = fraction or ""
    when.offset = (offset or when.offset).upper()
    return True


class Clockwork:
    """The time of a file of snapshots: the last that was read, by which clock, and what a time of day means after it.

    `ts` is None until a date has been read. Then each time of day is the first that comes no more than an hour before
    the last.
    """

    def __init__(self) -> None:
        self.ts: float | None = None
        self.clock: Clock = "local"
        self.day_s: float | None = None
        self._fresh = False
        self._stamp = Stamp([time_piece("%b %e %H:%M:%S")])

    def read(self, when: When, anchor: Anchor) -> bool:
        """Take in a date line; False where there is no such day."""
        if when.epoch_s is None and when.month is None:
            if when.day_s is not None:
                self.time_of_day(when.day_s)
            return True
        ts = when.epoch_s if when.epoch_s is not None else self._date_ts(when, anchor)
        if ts is None:
            return False
        self.ts, self.day_s, self._fresh = ts, when.day_s, True
        self.clock = "zone" if when.offset or when.epoch_s is not None else "local"
        return True

    def time_of_day(self, day_s: float) -> None:
        """A command has told its own time of day."""
        if self.ts is not None:
            if self._fresh and self.clock == "zone":
                # `date -u` or an epoch, then `top` in the server's own zone: whole quarters of an hour apart
                ahead = (
                    day_s - (self.ts if self.day_s is None else self.day_s) + QUARTER_S / 2
                ) % QUARTER_S - QUARTER_S / 2
            else:
                ahead = (day_s - (day_s if self.day_s is None else self.day_s) + BACK_S) % DAY_S - BACK_S
            self.ts += ahead
        self._fresh = False
        self.day_s = day_s

    def _date_ts(self, when: When, anchor: Anchor) -> float | None:
        second = int(when.day_s or 0.0)
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        if when.year is None:
            name = "Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split()[(when.month or 1) - 1]  # noqa: SIM905
            return self._stamp.ts(f"{name} {when.day:2} {clock}", anchor)
        fraction = f".{when.fraction}" if when.fraction else ""
        return iso_ts(f"{when.year:04}-{when.month:02}-{when.day:02}T{clock}{fraction}{when.offset}", anchor)


def before(ts: float, ts_day_s: float | None, day_s: float | None) -> float:
    """The last moment up to `ts`, whose time of day is `ts_day_s`, at which it was `day_s`; `ts` where one is None."""
    if ts_day_s is None or day_s is None:
        return ts
    return ts - (ts_day_s - day_s) % DAY_S


def day_seconds(anchor: Anchor) -> float | None:
    """The anchor's time of day in its zone; None where it lies outside the calendar."""
    try:
        local = datetime.fromtimestamp(anchor.now_ts, anchor.zone)
    except (OverflowError, ValueError, OSError):
        return None
    return float(timegm(local.replace(tzinfo=UTC).timetuple()) % int(DAY_S))
