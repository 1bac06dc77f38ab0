"""Times as logs write them, to Unix seconds: strftime patterns, epochs, ISO 8601.

A missing zone is the anchor's. A missing year is the latest that puts the time no later than a day after the
anchor: a log of December read in January is last year's, a clock a little ahead is still this year's.

A log writes the same second on many lines, so that each text is worked out once: the cache is the hot path.
"""

from __future__ import annotations

import re
from calendar import timegm
from collections.abc import Sequence
from datetime import datetime, timedelta, timezone, tzinfo

from msgspec import Struct

from tocsin.formats.base import CACHE_ENTRIES, Anchor, remember

CLF = "%d/%b/%Y:%H:%M:%S %z"
"""Apache's `%t` between its brackets, and nginx's `$time_local`."""

ISO = "%Y-%m-%dT%H:%M:%S%:z"
"""nginx's `$time_iso8601`."""

AHEAD_S = 86400.0
"""How far after the anchor a time without a year may lie."""

_LATEST_TS = 253402300800.0
_YEARS_BACK = 9  # 29 February is at most eight years away
_MONTHS = {
    name: number
    for number, name in enumerate("Jan Feb Mar Apr May Jun Jul Aug Sep Oct Nov Dec".split(), start=1)  # noqa: SIM905  reads better
}
_UTC_NAMES = frozenset(("UTC", "GMT", "Z"))

# directive -> (what it tells, its strict shape). Every shape of a component but the zone's has one length.
_DIRECTIVES: dict[str, tuple[str, str]] = {
    "Y": ("year", "[0-9]{4}"),
    "y": ("year2", "[0-9]{2}"),
    "m": ("month", "[0-9]{2}"),
    "b": ("month_name", "[A-Z][a-z]{2}"),
    "h": ("month_name", "[A-Z][a-z]{2}"),
    "B": ("month_name", "[A-Z][a-z]{2,8}"),
    "d": ("day", "[0-9]{2}"),
    "e": ("day", "[ 0-9][0-9]"),
    "H": ("hour", "[0-9]{2}"),
    "k": ("hour", "[ 0-9][0-9]"),
    "I": ("hour12", "[0-9]{2}"),
    "l": ("hour12", "[ 0-9][0-9]"),
    "p": ("half", "[AP]M"),
    "M": ("minute", "[0-9]{2}"),
    "S": ("second", "[0-9]{2}"),
    "z": ("offset", "[+-][0-9]{4}"),
    ":z": ("offset", "(?:[+-][0-9]{2}:?[0-9]{2}|Z)"),
    "Z": ("zone_name", "[A-Z]{1,5}"),
    "a": ("", "[A-Z][a-z]{2}"),
    "A": ("", "[A-Z][a-z]{5,8}"),
    "s": ("epoch_s", "[0-9]{1,12}"),
}
_SHORTHAND = {
    "T": "%H:%M:%S",
    "F": "%Y-%m-%d",
    "D": "%m/%d/%y",
    "R": "%H:%M",
    "r": "%I:%M:%S %p",
    "c": "%a %b %e %H:%M:%S %Y",
    "n": "\n",
    "t": "\t",
}
# what Apache's `%{...}t` knows beyond strftime
_PARTS = {
    "sec": ("epoch_s", "[0-9]{1,12}"),
    "msec": ("epoch_ms", "[0-9]{1,15}"),
    "usec": ("epoch_us", "[0-9]{1,18}"),
    "msec_frac": ("fraction", "[0-9]{3}"),
    "usec_frac": ("fraction", "[0-9]{6}"),
    "s.ms": ("epoch_float", r"[0-9]{1,12}\.[0-9]{1,9}"),
}
PART_NAMES = frozenset(_PARTS)


class TimePiece(Struct, frozen=True):
    """One field of a line that tells (a part of) the time: its strict shape, and the shape with its parts as groups."""

    shape: str
    grouped: str
    tells: tuple[str, ...]


def time_piece(pattern: str) -> TimePiece:
    """A strftime pattern, or a name of PART_NAMES (`s.ms`: nginx's `$msec`). ValueError names an unknown directive."""
    if pattern in _PARTS:
        component, shape = _PARTS[pattern]
        return TimePiece(shape, f"({shape})", (component,))
    shapes: list[str] = []
    grouped: list[str] = []
    tells: list[str] = []
    for directive, literal in re.findall(r"%[EO_-]?(:?.)|([^%]+|%$)", _spelled_out(pattern), re.DOTALL):
        if directive == "" or directive == "%":
            shapes.append(re.escape(literal or "%"))
            grouped.append(shapes[-1])
            continue
        if directive not in _DIRECTIVES:
            known = " ".join(f"%{name}" for name in _DIRECTIVES)
            raise ValueError(f"%{directive} in the time format {pattern!r} is not known; expected {known}")
        component, shape = _DIRECTIVES[directive]
        shapes.append(shape)
        grouped.append(f"({shape})" if component else shape)
        if component:
            tells.append(component)
    return TimePiece("".join(shapes), "".join(grouped), tuple(tells))


def _spelled_out(pattern: str) -> str:
    return re.sub(r"%(%|[TFDRrcnt])", lambda found: _SHORTHAND.get(found[1], found[0]), pattern)


def epoch_ts(number: float) -> float | None:
    """Unix seconds of an epoch in seconds, milli-, micro- or nanoseconds, told apart by its size."""
    if not 0 <= number < 1e20:
        return None
    for scale in (1.0, 1e3, 1e6, 1e9):
        if number < 1e11 * scale:
            return number / scale
    return None


_ISO = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})[T ]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:[.,]([0-9]{1,9}))?"
    r" ?([+-][0-9]{2}:?[0-9]{2}|Z)?"
).fullmatch
_ISO_PARTS = ("year", "month", "day", "hour", "minute", "second", "fraction", "offset")


def iso_ts(text: str, anchor: Anchor) -> float | None:
    """Unix seconds of an ISO 8601 time, to the nanosecond that it gives; without a zone, in the anchor's."""
    match = _ISO(text)
    return _ts(dict(zip(_ISO_PARTS, match.groups(), strict=True)), anchor) if match else None


class Stamp:
    """The time of one format: `ts` of the joined texts of its pieces, cached by text.

    Where the year is missing, a cached answer holds for every anchor for which it would be given anew.
    """

    __slots__ = (
        "_between",
        "_common",
        "_minutes",
        "_tells",
        "_whole",
        "_yearless",
        "_zone",
        "_zoned",
        "shape",
        "times",
    )

    JOIN = "\x1f"

    def __init__(self, pieces: Sequence[TimePiece]) -> None:
        self._tells = tuple(component for piece in pieces for component in piece.tells)
        self._whole = re.compile(self.JOIN.join(piece.grouped for piece in pieces)).fullmatch
        self.shape = pieces[0].shape if len(pieces) == 1 else ""
        told = set(self._tells)
        epoch = any(component.startswith("epoch_") for component in told)
        dated = told >= {"day", "minute"} and told & {"month", "month_name"} and told & {"hour", "hour12"}
        if not epoch and not dated:
            raise ValueError(
                "the format's times tell neither month, day, hour and minute nor an epoch: it cannot be dated"
            )
        self._zoned = epoch or bool(told & {"offset", "zone_name"})
        self._yearless = not epoch and not told & {"year", "year2"}
        self._zone: tzinfo | None = None
        self.times: dict[str, float] = {}
        self._common = len(pieces) == 1 and pieces[0] == time_piece(CLF)
        self._minutes: dict[str, float] = {}
        self._between: dict[str, tuple[float, float]] = {}

    @property
    def absolute(self) -> bool:
        """Whether a text means the same under any anchor, so that `times` may be asked without one."""
        return self._zoned and not self._yearless and "zone_name" not in self._tells

    def ts(self, text: str, anchor: Anchor) -> float | None:
        """Unix seconds; None where the text is no valid time."""
        if anchor.zone is not self._zone and not self.absolute:
            self._zone = anchor.zone
            self.times.clear()
            self._between.clear()
        found = self.times.get(text)
        if found is not None:
            if not self._yearless:
                return found
            first, last = self._between[text]
            if first <= anchor.now_ts < last:
                return found
        if self._common and (ts := self._within_minute(text)) is not None:
            return remember(self.times, text, ts)
        match = self._whole(text)
        if match is None:
            return None
        parts = {name: value for name, value in zip(self._tells, match.groups(), strict=True) if value is not None}
        if self._yearless:
            return self._latest(text, parts, anchor)
        ts = _ts(parts, anchor)
        if ts is None:
            return None
        # a leap second stands for the one before it: no measure of its minute
        if self._common and text[18:20] != "60":
            remember(self._minutes, text[:18] + text[20:], ts - int(text[18:20]))
        return remember(self.times, text, ts)

    def _within_minute(self, text: str) -> float | None:
        """A common-log time of a known minute: one second in sixty is read part by part (13 us), the rest not."""
        minute_ts = self._minutes.get(text[:18] + text[20:])
        second = text[18:20]
        if minute_ts is None or not ("00" <= second <= "59" and second.isdecimal() and second.isascii()):
            return None
        return minute_ts + int(second)

    def _latest(self, text: str, parts: dict[str, str], anchor: Anchor) -> float | None:
        now_year = _local_year(anchor)
        later = float("inf")
        for year in range(now_year + 1, now_year - _YEARS_BACK, -1):
            ts = _ts({**parts, "year": f"{year:04}"}, anchor) if 1 <= year <= 9999 else None
            if ts is None:
                continue
            if ts <= anchor.now_ts + AHEAD_S:
                if len(self.times) >= CACHE_ENTRIES:
                    self._between.clear()
                # the next year's is not known where it lies beyond the range looked at: hold the answer a day only
                self._between[text] = (ts - AHEAD_S, min(later - AHEAD_S, anchor.now_ts + AHEAD_S))
                return remember(self.times, text, ts)
            later = ts
        return None


def _local_year(anchor: Anchor) -> int:
    try:
        return datetime.fromtimestamp(anchor.now_ts, anchor.zone).year
    except (OverflowError, ValueError, OSError):
        return 1970


def _ts(parts: dict[str, str], anchor: Anchor) -> float | None:
    epoch = _epoch(parts)
    if epoch is None:
        try:
            epoch = _civil(parts, anchor)
        except (ValueError, OverflowError):
            return None
    fraction = parts.get("fraction")
    ts = epoch + float("0." + fraction) if fraction else epoch
    return ts if 0 <= ts < _LATEST_TS else None


def _epoch(parts: dict[str, str]) -> float | None:
    for name, scale in (("epoch_float", 1.0), ("epoch_us", 1e6), ("epoch_ms", 1e3), ("epoch_s", 1.0)):
        if name in parts:
            return float(parts[name]) / scale
    return None


def _civil(parts: dict[str, str], anchor: Anchor) -> float:
    """Seconds of a date and time of day; ValueError where there is no such day or hour."""
    second = int(parts.get("second", "0"))
    if second == 60:  # a leap second has no number of its own in Unix time
        second = 59
    when = datetime(  # noqa: DTZ001  its zone is applied below
        _year(parts), _month(parts), int(parts["day"]), _hour(parts), int(parts["minute"]), second
    )
    offset = parts.get("offset")
    if offset is None and parts.get("zone_name") in _UTC_NAMES:
        offset = "Z"
    if offset is None:
        return when.replace(tzinfo=anchor.zone).timestamp()
    return float(timegm(when.timetuple())) - _offset_s(offset)


def _year(parts: dict[str, str]) -> int:
    if "year" in parts:
        return int(parts["year"])
    year = int(parts["year2"])
    return year + (2000 if year < 69 else 1900)


def _month(parts: dict[str, str]) -> int:
    name = parts.get("month_name")
    if name is None:
        return int(parts["month"])
    month = _MONTHS.get(name[:3])
    if month is None:
        raise ValueError(f"{name} is no month")
    return month


def _hour(parts: dict[str, str]) -> int:
    if "hour" in parts:
        return int(parts["hour"])
    hour = int(parts["hour12"])
    if not 1 <= hour <= 12:
        raise ValueError(f"{hour} is no hour of twelve")
    return hour % 12 + (12 if parts.get("half") == "PM" else 0)


def _offset_s(text: str) -> float:
    if text == "Z":
        return 0.0
    hours, minutes = int(text[1:3]), int(text[-2:])
    if hours > 23 or minutes > 59:
        raise ValueError(f"{text} is no offset from UTC")
    zone = timezone(timedelta(hours=hours, minutes=minutes))
    seconds = zone.utcoffset(None).total_seconds()
    return -seconds if text[0] == "-" else seconds
