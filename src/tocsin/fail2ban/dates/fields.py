"""What the parts of a date tell: Unix seconds, for as long as "now" leaves the answer the same.

A missing year is the latest that puts the date no later than a day after now, a missing day the latest that puts the
time no later than now, a missing time of day is midnight. Subseconds are not told: fail2ban drops them, and its times
are what its users compare with. A leap second stands for the one before it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import date, datetime, timedelta, timezone, tzinfo
from typing import NamedTuple

from tocsin.fail2ban.dates.zones import offset_minutes
from tocsin.formats.dates import AHEAD_S

_ALWAYS = float("inf")
LATEST_TS = 253402300800.0
"""The end of the year 9999."""
_YEARS_BACK = 9  # 29 February is at most eight years away
_DAY = timedelta(days=1)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")

KNOWN = frozenset("YymbBdjUWwaAHIpMSfzZ")
"""The names of groups that tell something, in templates and in regexes that name their groups so."""


class Instant(NamedTuple):
    """Unix seconds, and the span of "now" (from, until) in which the same text means the same."""

    ts: float
    from_ts: float = -_ALWAYS
    until_ts: float = _ALWAYS


def instant(parts: Mapping[str, str | None], zone: tzinfo, now_ts: float) -> Instant | None:
    """What `parts` (by strftime letter) tell; None where there is no such day, hour or zone. `zone` is that of dates
    that name none."""
    told = {name: text for name, text in parts.items() if text is not None and name in KNOWN}
    try:
        return _instant(told, zone, now_ts)
    except (ValueError, OverflowError, OSError):
        return None


def _instant(told: Mapping[str, str], zone: tzinfo, now_ts: float) -> Instant | None:
    zone = _zone(told) or zone
    if year := _year(told):
        found = _ts(_day(told, year), told, zone)
        return Instant(found) if found is not None else None
    days, ahead_s = (_years(told, zone, now_ts), AHEAD_S) if _is_dated(told) else (_days(zone, now_ts), 0.0)
    later_ts = _ALWAYS
    for day in days:
        ts = _ts(day, told, zone)
        if ts is None:
            continue
        if ts <= now_ts + ahead_s:
            # what lies beyond the first day looked at is not known: the answer is held a day at most
            return Instant(ts, ts - ahead_s, min(later_ts - ahead_s, now_ts + AHEAD_S))
        later_ts = ts
    return None


def _years(told: Mapping[str, str], zone: tzinfo, now_ts: float) -> Iterator[date]:
    """The day in each year that may be meant, latest first."""
    this = datetime.fromtimestamp(now_ts, zone).year
    for year in range(min(this + 1, 9999), max(this - _YEARS_BACK, 0), -1):
        try:
            yield _day(told, year)
        except ValueError:
            continue


def _days(zone: tzinfo, now_ts: float) -> Iterator[date]:
    """Tomorrow, today, yesterday."""
    today = datetime.fromtimestamp(now_ts, zone).date()
    yield from (today + _DAY, today, today - _DAY)


def _is_dated(told: Mapping[str, str]) -> bool:
    return not told.keys().isdisjoint(("m", "b", "B", "d", "j", "U", "W"))


def _ts(day: date, told: Mapping[str, str], zone: tzinfo) -> float | None:
    second = int(told.get("S", "0"))
    if second == 60:
        second = 59
    when = datetime(day.year, day.month, day.day, _hour(told), int(told.get("M", "0")), second, tzinfo=zone)
    ts = when.timestamp()
    return ts if 0 <= ts < LATEST_TS else None


def _zone(told: Mapping[str, str]) -> tzinfo | None:
    text = told.get("z") or told.get("Z")
    if text is None:
        return None
    minutes = offset_minutes(text)
    if minutes is None:
        raise ValueError(f"{text} is no zone")
    return timezone(timedelta(minutes=minutes))


def _year(told: Mapping[str, str]) -> int | None:
    if "Y" in told:
        year = int(told["Y"])
        if year < 1:
            raise ValueError(f"there is no year {year}")
        return year
    return 2000 + int(told["y"]) if "y" in told else None


def _day(told: Mapping[str, str], year: int) -> date:
    """The day within a year that the parts tell. ValueError: they tell none, or there is no such day."""
    month = _month(told)
    if month is not None and "d" in told:
        return date(year, month, int(told["d"]))
    if "j" in told:
        ordinal = int(told["j"])
    elif ("U" in told or "W" in told) and (weekday := _weekday(told)) is not None:
        ordinal = _ordinal_of_week(told, year, weekday)
    else:
        raise ValueError("a year, month, week or day alone tells no day")
    day = date(year, 1, 1) + (ordinal - 1) * _DAY
    if ordinal > 366 or ("j" in told and day.year != year):
        raise ValueError(f"day {ordinal} is not in {year}")
    return day


def _month(told: Mapping[str, str]) -> int | None:
    if "m" in told:
        return int(told["m"])
    name = told.get("b") or told.get("B")
    return None if name is None else _MONTHS.index(name[:3].lower()) + 1


def _weekday(told: Mapping[str, str]) -> int | None:
    """Days after Monday."""
    if "w" in told:
        return (int(told["w"]) - 1) % 7
    name = told.get("a") or told.get("A")
    return None if name is None else _WEEKDAYS.index(name[:3].lower())


def _ordinal_of_week(told: Mapping[str, str], year: int, weekday: int) -> int:
    """Day of the year of a weekday in a week. Weeks begin on Sunday (`%U`) or Monday (`%W`); before the first, 0."""
    sunday_first = "U" in told
    week = int(told["U" if sunday_first else "W"])
    shift = 1 if sunday_first else 0
    into_week = (date(year, 1, 1).weekday() + shift) % 7
    return 1 + week * 7 + (weekday + shift) % 7 - (into_week or 7)


def _hour(told: Mapping[str, str]) -> int:
    if "I" not in told:
        return int(told.get("H", "0"))
    hour, half = int(told["I"]), (told.get("p") or "am").lower()
    if hour == 12:
        hour = 0
    return hour + 12 if half == "pm" else hour
