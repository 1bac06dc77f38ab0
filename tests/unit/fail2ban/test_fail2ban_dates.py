"""Dates in log lines: which part of a line, which instant, at what cost."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from zoneinfo import ZoneInfo

import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from tocsin.fail2ban.dates.dates import REACH_CHARS, DateFinder, Found
from tocsin.fail2ban.dates.directives import rendered
from tocsin.fail2ban.dates.fields import instant
from tocsin.fail2ban.dates.templates import COMMON, Template, templates_of
from tocsin.fail2ban.dates.zones import ABBREVIATIONS, offset_minutes, zone_of

LAW = settings(derandomize=True, max_examples=150)
BERLIN = ZoneInfo("Europe/Berlin")
NOW_TS = 1124013600.0  # 14 August 2005, 10:00 UTC
PATTERNS = (
    None,
    "{^LN-BEG}",
    "{DATE}",
    r"^[^\[]*\[({DATE})",
    r"^[^\[]*(\[{DATE}\s*\])" + "\n{^LN-BEG}",
    r'time="{DATE}"',
    r"%H:%M:%S",
    r"**%Y-%m-%d %H:%M:%S**" + "\n" + r"\[%d/%b/%Y:%H:%M:%S %z\]",
    r"%H:%M:%S %d.%m.%Y$",
    r"(?<=\|\s){LEPOCH}(?=\s\|)",
    r"^<\d+>\d+\s+{DATE}" + "\nEPOCH\nTAI64N",
    r"^%ExY(?P<_sep>[-/.])%m(?P=_sep)%d[T ]%H:%M:%S(?:[.,]%f)?(?:\s*%Exz)?" + "\n^#()**\n{DEFAULT}",
    "{NONE}",
)


def ts_of(year: int, month: int, day: int, hour: int = 0, minute: int = 0, second: int = 0) -> float:
    return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()


def dated(datepattern: str | None, line: str, zone: tzinfo = UTC, now_ts: float = NOW_TS) -> tuple[str, float] | None:
    """The text that is cut out, and its instant."""
    found = DateFinder(datepattern, zone).find(line, now_ts)
    return None if found is None else (line[found.start : found.end], found.ts)


# -- the common dates ----------------------------------------------------------------------------------------------

# strftime, whether seconds fit, whether it stands at the line's start only
WRITTEN = (
    ("%Y-%m-%d %H:%M:%S", "anywhere"),
    ("%Y-%m-%dT%H:%M:%S.123456%z", "anywhere"),
    ("%Y/%m/%d %H:%M:%S,5 %z", "anywhere"),
    ("%Y.%m.%d  %H:%M:%S", "anywhere"),
    ("%b %d %H:%M:%S", "anywhere"),
    ("%b %e %H:%M:%S", "anywhere"),
    ("%a %b %d %H:%M:%S %Y", "anywhere"),
    ("%a %b %d %H:%M:%S.123 %Y", "anywhere"),
    ("%a %b %d %Y %H:%M:%S", "anywhere"),
    ("%b %d %Y %k:%M:%S.9", "anywhere"),
    ("%d-%m-%Y %H:%M:%S", "late days"),
    ("%d/%m/%y %k:%M:%S", "late days"),
    ("%d/%b/%Y:%H:%M:%S %z", "anywhere"),
    ("%d-%b-%Y %H:%M:%S.123", "anywhere"),
    ("%m/%d/%Y:%H:%M:%S", "anywhere"),
    ("%m-%d-%Y %H:%M:%S.252", "late days"),
    ("%s", "start"),
    ("%s.123", "start"),
    ("audit(%s.500", "audit"),
    ("<%m/%d/%y@%H:%M:%S>", "exactly the start"),
    ("%y%m%d %H:%M:%S", "anywhere"),
    ("%y%m%d %k:%M:%S", "anywhere"),
    ("%b %d, %Y %I:%M:%S %p", "anywhere"),
    ("%b-%d-%y %H:%M:%S", "exactly the start"),
    ("%Y%m%dT%H%M%S", "anywhere"),
    ("%Y%m%d %H%M%S,5", "anywhere"),
    ("UTC %b %d %H:%M:%S %Y", "anywhere"),
    ("%z %b %d %H:%M:%S %Y", "anywhere"),
    ("@4{:015x}00000000", "anywhere"),
)


def written(form: str, when: datetime) -> str:
    if form.startswith("@"):
        return form.format(int(when.timestamp()))
    form = form.replace("%s", str(int(when.timestamp()))).replace("%k", f"{when.hour:2}")
    text = when.strftime(form)
    # a zone of its own says what the date alone does not
    return text if "%z" not in form or not text.startswith("+") else text[:3] + ":" + text[3:]


@given(
    st.sampled_from(WRITTEN),
    st.integers(int(ts_of(2001, 10, 1)), int(ts_of(2029, 12, 31))),
    st.sampled_from(("", "[", "- ", "srv app[7]: ", "10.0.0.7 - - [", "word ")),
    st.sampled_from(("", " ", "] text", ": text")),
    st.sampled_from((UTC, timezone(timedelta(hours=5, minutes=30)))),
)
@LAW
def test_every_common_date_is_found_and_read_back(
    form_and_place: tuple[str, str], ts: int, before: str, after: str, zone: tzinfo
) -> None:
    form, place = form_and_place
    when = datetime.fromtimestamp(ts, zone)
    if place == "late days":
        assume(when.day > 12)  # earlier ones are read with the month in front, or are not
    if form.startswith(("%b %d %H", "%b %e %H")):
        after = "" if not after else " host:" + after  # a year could follow
    if form.startswith("UTC"):
        when = datetime.fromtimestamp(ts, UTC)
    if place == "exactly the start":
        before = ""
    elif place == "start":
        before = before[:2].strip("srvwo10")
    text = written(form, when)
    found = DateFinder(None, zone).find(before + text + after, ts + 60)
    assert found is not None
    fraction = {"%s.123": 0.123, "audit(%s.500": 0.5}.get(form, 0)
    assert found.ts == pytest.approx(ts + fraction, abs=1e-6)
    cut = text.removeprefix("audit(")
    assert (before + text + after)[found.start : found.end] == cut


# -- the rule ------------------------------------------------------------------------------------------------------


def by_the_rule(datepattern: str | None, line: str, now_ts: float) -> Found | None:
    """The rule as it is written, without anything that makes it fast."""
    matches = []
    for order, template in enumerate(templates_of(datepattern)):
        match = re.search(template.regex, line)
        if match is not None:
            is_bound = template.begins or template.ends
            matches.append((not is_bound, 0 if is_bound else match.start(), order, template, match))
    for *_, template, match in sorted(matches, key=lambda found: found[:3]):
        cut = match.span(min(set(range(1, match.re.groups + 1)) - set(match.re.groupindex.values())))
        ts = now_ts if cut[0] == cut[1] else read(template, match, now_ts)
        if ts is not None:
            return Found(ts, *cut)
    return None


def read(template: Template, match: re.Match[str], now_ts: float) -> float | None:
    if template.reads == "fields":
        told = instant(match.groupdict(), BERLIN, now_ts)
        return None if told is None else told.ts
    text = match[template.told]
    if template.reads == "tai64n":
        return ts if (ts := int(text[2:17], 16)) < ts_of(9999, 12, 31) else None
    if template.reads == "long_epoch" and len(text) > 11:
        return float(text) / (1e6 if len(text) >= 16 and "." not in text else 1e3)
    return float(text)


PIECES = st.sampled_from(
    (
        "2005-08-14 12:00:00", "2005-08-14T12:00:00.5Z", "Aug 14 12:00:00", "Sun Aug 14 12:00:00.25 2005",
        "Feb 30 12:00:00", "14/Aug/2005:12:00:00 +0200", "14/08/2005 12:00:00", "08/14/2005:12:00:00",
        "08-30-2005 12:00:00", "1124013600", "12:00:00", "<08/14/05@12:00:00>", "050814 12:00:00",
        "Aug 14, 2005 12:00:00 PM", "Aug-14-05 12:00:00", "Z ", "20050814T120000", "PDT Aug 14 12:00:00",
        "FOO Sun Aug 14 12:00:00", "+01:00 Aug 14 12:00:00", "audit(1124013600.5", "@4000000042ff15e000000000",
        "1124013600123456", "@b000000042ff15e000000000", "@4ffffffff2ff15e000000000",
        "| 1124013600123 |", "12:00:00 14.08.2005", "2005-02-30 25:00:00", "2001:db8::1:2:3",
        "10.0.0.7 - - ", " ", "  ", "[", "]", "<38>1 ", "host ", "x", "é", "#", 'time="', '"', ".5", "+0100",
        " 2005", "0", "7", ":", "\t", "\n", "sept.", "ſep 14 12:00:00", "２００５-08-14 12:00:00", "CET", "utc", "((",
        "5:4:3",
    )
)  # fmt: skip
LINES = st.lists(PIECES, max_size=7).map("".join)


@pytest.mark.parametrize("datepattern", PATTERNS)
@given(st.lists(LINES, min_size=1, max_size=4))
@example(
    [
        "FOO Aug 14 12:00:00",
        "[@b000000042ff15e000000000]",
        "[Feb 30 12:00:00] 2005-08-14 12:00:00",
        "9 audit(1124013600.5",
    ]
)
@example(
    [
        f"host{left}14/Aug/2005:12:00:00{right}"
        for left in "[ x["
        for right in ("] a", "] b", " +0200]", ".5]", "5]", " +02", "")
    ]
)
@LAW
def test_the_answer_is_that_of_the_rule_whatever_was_found_before(datepattern: str | None, lines: list[str]) -> None:
    finder = DateFinder(datepattern, BERLIN)
    for line in lines:
        assert finder.find(line, NOW_TS) == by_the_rule(datepattern, line, NOW_TS)


@given(st.one_of(st.text(), LINES), st.floats(), st.sampled_from(PATTERNS))
@LAW
def test_any_text_at_any_time_is_taken(line: str, now_ts: float, datepattern: str | None) -> None:
    found = DateFinder(datepattern, BERLIN).find(line, now_ts)
    assert found is None or 0 <= found.start <= found.end <= len(line)


@pytest.mark.parametrize("datepattern", PATTERNS)
@given(LINES)
@LAW
def test_a_cut_joins_words_only_where_it_is_said(datepattern: str | None, line: str) -> None:
    finder = DateFinder(datepattern, BERLIN)
    found = finder.find(line, NOW_TS)
    if found is not None and found.start < found.end and not finder.cuts_anywhere:
        assert not re.fullmatch(r"\w\w", line[found.start - 1 : found.start] + line[found.end : found.end + 1])


@pytest.mark.parametrize(
    ("datepattern", "anywhere"),
    [
        (None, False),
        (r"^[^\[]*\[({DATE})", False),
        (r"\[%d/%b/%Y:%H:%M:%S\]", True),
        ("**%Y-%m-%d**", True),
        ("{UNB}%H:%M:%S", True),
        ("{NONE}", False),
        ("^é(%H:%M)**", True),
    ],
)
def test_where_a_cut_can_join_words(datepattern: str | None, anywhere: bool) -> None:
    assert DateFinder(datepattern, UTC).cuts_anywhere is anywhere


# -- which part ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datepattern", "line", "cut"),
    [
        (None, "Test failure Jan 23 21:59:59 for 192.0.2.1", "Jan 23 21:59:59"),
        (None, "Test failure TestJan 23 21:59:59.011 2015 for 192.0.2.1", None),
        (None, "Aug 8 11:25:50 20030f2329b8 failed", "Aug 8 11:25:50"),
        (None, "Aug 8 11:25:50 2014 20030f2329b8 failed", "Aug 8 11:25:50 2014"),
        (None, "host app: Sep 16 21:30:26 host app: 030916 21:30:27", "Sep 16 21:30:26"),
        (None, "host app: FOO Feb 30 21:30:26 (2003-03-07 17:05:01)", "2003-03-07 17:05:01"),
        ("%H:%M:%S %d.%m.%Y", "at 20:00:00 01.02.2003.", "20:00:00 01.02.2003"),
        ("%H:%M:%S %d.%m.%Y", "x20:00:00 01.02.2003", None),
        ("**%H:%M:%S %d.%m.%Y**", "x20:00:00 01.02.2003x", "20:00:00 01.02.2003"),
        (r"\**%H:%M:%S\**", "a*20:00:00*b", "*20:00:00*"),
        ("%H:%M:%S %d.%m.%Y$", "20:00:00 01.02.2003 at 21:00:00 01.02.2003", "21:00:00 01.02.2003"),
        ("%Y-%m-%d $", "2003-12-30 ", "2003-12-30 "),
        (r"^ts=(%Y-%m-%d) ", "ts=2003-12-30 x", "2003-12-30"),
        (r"^[(]%Y-%m-%d", "(2003-12-30", "(2003-12-30"),
        ("{^LN-BEG}%Y-%m-%d", "##2003-12-30", "2003-12-30"),
        ("{^LN-BEG}%Y-%m-%d", "###2003-12-30", None),
        ("{^LN-BEG}%Y-%m-%d", "2003-12-30x", None),
        ("{UNB}%Y-%m-%d", "x2003-12-20x", "2003-12-20"),
        ("{^ln-beg}epoch", "[1387288694] x", "1387288694"),
        ("EPOCH", "1387288694 x", "1387288694"),
        ("EPOCH", "x 1387288694 x", None),
        ("^{DATE}", " 1387288694", " 1387288694"[1:]),
        ("{NONE}", "2003-12-30 01:02:03", ""),
        ("^#()**\n{DEFAULT}", "#x 2003-12-30 01:02:03", ""),
        ("%ExY-%m-%d", "1999-12-30 2003-12-30", "2003-12-30"),
        ("(?i)on %Y-%m-%dT", "ON 2003-12-30t", "ON 2003-12-30t"),
        ("(?i)^on %Y-%m-%dT", "ON 2003-12-30t", "ON 2003-12-30t"),
        (r"%Y-%m-%d [^|]*(?P=d)x", "2003-12-30 a 30x", "2003-12-30 a 30x"),
        (r"(**%Y-%m-%d**)", "x2003-12-20x", "2003-12-20"),
        ("%%%Y-%m-%d", "%2003-12-30", "%2003-12-30"),
    ],
)
def test_what_is_cut_out(datepattern: str | None, line: str, cut: str | None) -> None:
    found = dated(datepattern, line)
    assert (None if found is None else found[0]) == cut


# -- which instant -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datepattern", "line", "ts"),
    [
        ("^%B %Exd %I:%ExM:%ExS", "January 23 12:59:59", ts_of(2005, 1, 23, 0, 59, 59)),
        ("^%b %d %l:%M %p", "Jan 23  9:59 pm", ts_of(2005, 1, 23, 21, 59)),
        ("^%b %d %l:%M %p", "Jan 23 12:59 PM", ts_of(2005, 1, 23, 12, 59)),
        ("^%y %U %A %ExH:%ExM:%ExS", "01 11 Wednesday 21:59:59", ts_of(2001, 3, 21, 21, 59, 59)),
        ("^%y %W %A %ExH:%ExM:%ExS", "01 11 Wednesday 21:59:59", ts_of(2001, 3, 14, 21, 59, 59)),
        ("^%y %W %w %ExH:%ExM:%ExS", "01 11 0 21:59:59", ts_of(2001, 3, 18, 21, 59, 59)),
        ("^%y %j", "01 032", ts_of(2001, 2, 1)),
        ("^%y %j", "01 366", None),
        ("^%y %j", "04 366", ts_of(2004, 12, 31)),
        ("%H:%M:%S", "21:59:59", ts_of(2005, 8, 13, 21, 59, 59)),
        ("%H:%M:%S", "10:00:00", NOW_TS),
        ("%H:%M:%S%z", "21:59:59+1400", ts_of(2005, 8, 14, 7, 59, 59)),
        ("%m/%d %H:%M", "09/01 21:59", ts_of(2004, 9, 1, 21, 59)),
        ("%m/%d %H:%M", "08/15 10:00", ts_of(2005, 8, 15, 10)),
        ("%m/%d %H:%M", "08/15 10:01", ts_of(2004, 8, 15, 10, 1)),
        ("%m/%d %H:%M", "02/29 10:01", ts_of(2004, 2, 29, 10, 1)),
        ("%m/%d %H:%M", "02/30 10:01", None),
        ("%Y-%m-%d", "2004-09-01", ts_of(2004, 9, 1)),
        ("%Y-%m-%d %H:%M:%S", "2016-12-31 23:59:60", ts_of(2016, 12, 31, 23, 59, 59)),
        ("%Y-%m-%d %H:%M:%S", "2016-12-31 23:59:61", None),
        ("%Y-%m-%d", "0000-09-01", None),
        ("%Y-%m-%d", "1950-09-01", None),
        ("%Y-%m-%d %H:%M(?: ?%Exz)?", "2017-01-23 15:00 CET+0130", ts_of(2017, 1, 23, 12, 30)),
        ("%Y-%m-%d %H:%M(?: ?%Exz)?", "2017-01-23 15:00 -10:45", ts_of(2017, 1, 24, 1, 45)),
        ("%Y-%m-%d %H:%M %ExZ", "2017-01-23 15:00 NPT", ts_of(2017, 1, 23, 9, 15)),
        ("%Y-%m-%d %H:%M %ExZ", "2017-01-23 15:00 XYZ", None),
        ("%c", "Sun Jan 23 21:59:59 2005", ts_of(2005, 1, 23, 21, 59, 59)),
        ("%x %X", "01/23/05 21:59:59", ts_of(2005, 1, 23, 21, 59, 59)),
        (r"at (?P<H>[0-9]+)h of (?P<d>\d+)\.(?P<m>\d+)", "at 7h of 14.8", ts_of(2005, 8, 14, 7)),
        ("LEPOCH", "1138049999123 x", 1138049999.123),
        ("LEPOCH", "1138049999123456 x", 1138049999.123456),
        ("LEPOCH", "1138049999 x", 1138049999.0),
        (r"(?<=\|\s){LEPOCH}(?=\s\|)", "a | 1138049999123 | b", 1138049999.123),
        (r"^(\w+) at {EPOCH}", "x at 1138049999.123 b", 1138049999.123),
        ("TAI64N", "@4000000043d5446f00000000 x", 1138050159.0),
        (None, "[1138049999.555] x", 1138049999.555),
        (None, "audit(1138049999.555:101) x", 1138049999.555),
        (None, "2005-01-23 21:59:59.999", ts_of(2005, 1, 23, 21, 59, 59)),
        (None, "Jan 23 21:59:59 gmt", ts_of(2005, 1, 23, 21, 59, 59)),
    ],
)
def test_what_it_tells(datepattern: str | None, line: str, ts: float | None) -> None:
    found = dated(datepattern, line)
    assert (None if found is None else found[1]) == ts


@pytest.mark.parametrize(
    ("now_ts", "line", "ts"),
    [
        (ts_of(2006, 1, 1, 0, 0, 5), "Dec 31 23:59:59", ts_of(2005, 12, 31, 23, 59, 59)),
        (ts_of(2005, 12, 31, 23, 59, 59), "Jan 1 00:00:05", ts_of(2006, 1, 1, 0, 0, 5)),
        (ts_of(2005, 12, 31, 23, 59, 59), "00:00:05", ts_of(2005, 12, 31, 0, 0, 5)),
        (ts_of(2006, 1, 1, 0, 0, 5), "23:59:59", ts_of(2005, 12, 31, 23, 59, 59)),
    ],
)
def test_new_year(now_ts: float, line: str, ts: float) -> None:
    assert dated(None, line, now_ts=now_ts) == (line, ts)


@given(
    st.lists(st.floats(-3e8, 3e8), min_size=2, max_size=6),
    st.sampled_from(("Feb 29 10:00:00", "Aug 14 10:00:00", "10:00:00")),
)
@LAW
def test_what_is_kept_of_a_date_without_a_year_holds_for_its_now_alone(shifts: list[float], line: str) -> None:
    finder = DateFinder(None, BERLIN)
    for shift in shifts:
        now_ts = NOW_TS + shift
        assert finder.find(line, now_ts) == DateFinder(None, BERLIN).find(line, now_ts)


STAMPS = (
    "%Y-%m-%d %H:%M:%S",
    "%b %d %H:%M:%S",
    "%d/%b/%Y:%H:%M:%S +0100",
    "%H:%M:%S",
    "%Y%m%dT%H%M%S",
    "%m/%d/%Y:%H:%M:%S",
)


@settings(max_examples=300, derandomize=True)
@given(
    st.sampled_from(["Europe/Paris", "America/St_Johns", "Africa/Monrovia", "UTC"]),
    st.sampled_from(STAMPS),
    # summer begins and ends, a leap day, the one change of a zone since 1970 that is not at a full minute
    st.sampled_from([1_459_040_400, 1_477_789_200, 1_456_704_000, 63_593_070]),
    st.lists(st.tuples(st.integers(-200, 200), st.integers(-100_000, 100_000)), min_size=2, max_size=12),
)
@example("Africa/Monrovia", "%b %d %H:%M:%S", 63_593_070, [(5, 1000), (9, 1000), (20, 1000)])
def test_seconds_of_a_minute_are_told_alike_one_by_one(
    zone: str, stamp: str, around_ts: int, lines: list[tuple[int, int]]
) -> None:
    """Also where a minute does not have sixty of them, or now is so that not all are in the same year or day."""
    warm = DateFinder(None, ZoneInfo(zone))
    for after_s, now_s in lines:
        when = datetime.fromtimestamp(around_ts, ZoneInfo(zone)).replace(tzinfo=None) + timedelta(seconds=after_s)
        line = when.strftime(stamp) + " x"
        now_ts = around_ts + float(now_s)
        assert warm.find(line, now_ts) == DateFinder(None, ZoneInfo(zone)).find(line, now_ts)


def test_summer_and_winter() -> None:
    assert dated(None, "2005-08-14 12:00:00", BERLIN) == ("2005-08-14 12:00:00", NOW_TS)
    assert dated(None, "2005-02-14 12:00:00", BERLIN) == ("2005-02-14 12:00:00", ts_of(2005, 2, 14, 11))


# -- zones ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("zone", "hours"),
    [
        ("UTC+0300", 3),
        ("GMT+12", 12),
        ("-0430", -4.5),
        ("CET", 1),
        ("CEST-01", 1),
        ("cest", 2),
        ("+01:30", 1.5),
        ("Z", 0),
    ],
)
def test_a_logtimezone(zone: str, hours: float) -> None:
    assert zone_of(zone).utcoffset(None) == timedelta(hours=hours)
    found = DateFinder(None, BERLIN, logtimezone=zone).find("2017-01-23 15:00:00", NOW_TS)
    assert found is not None
    assert found.ts == ts_of(2017, 1, 23, 15) - hours * 3600


def test_a_named_logtimezone_knows_summer() -> None:
    finder = DateFinder(None, UTC, logtimezone="Europe/Berlin")
    assert finder.find("2005-08-14 12:00:00", NOW_TS) == (NOW_TS, 0, 19)


@pytest.mark.parametrize("zone", ["WRONG-TZ", "CTE", "Europe/Nowhere", "../etc/passwd", "+25", " "])
def test_an_unknown_logtimezone_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="expected an offset such as"):
        DateFinder(None, UTC, logtimezone=zone)


def test_abbreviations() -> None:
    assert len(ABBREVIATIONS) == 222
    assert ABBREVIATIONS["NPT"] == 345
    told = {text: offset_minutes(text) for text in ("", "x", "X", "+1", "CET+2560", "+0960", "CST", "cst")}
    assert told == {
        "": None,
        "x": None,
        "X": -660,
        "+1": None,
        "CET+2560": None,
        "+0960": 600,
        "CST": -360,
        "cst": None,
    }


# -- refusals ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("datepattern", "message"),
    [
        ("%Y-%m-%d %Q", "%Q .* is not known; expected %Y"),
        ("100%", "is not known; expected"),
        ("(%ExY%Exm%Exd", "is not a valid regex .*unterminated"),
        ("%Y-%m-%d %Y", "each part of the date at most once"),
        ("%Y %H:%M", "a part of the date only; expected month and day"),
        ("%b %H:%M", "a part of the date only"),
        ("today", "tells no time; expected directives"),
        ("{DAT}", "is {DATE} meant"),
        ("{DATE} {DATE}", "2 times; expected once"),
        ("x{^LN-BEG}%H", "not understood there"),
        ("{DEFAULT} %H", "not understood there"),
        (r"^[\[{DATE}", "is not a valid regex"),
        ("%Y-%m-%d\n%H:%W:%M", "a part of the date only"),
    ],
)
def test_a_bad_pattern_is_refused(datepattern: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        DateFinder(datepattern, UTC)


def test_a_list_holds_each_template_once() -> None:
    assert len(templates_of(None)) == 31 == len(templates_of("{DEFAULT}\n\n  {^LN-BEG}\nEPOCH"))
    assert len(COMMON) == 17
    assert all(re.compile(rendered(common)) for common in COMMON if "%" in common and not common.startswith("{"))


# -- cost ----------------------------------------------------------------------------------------------------------


def hostile() -> Iterator[str]:
    """Long lines of what dates are made of."""
    size = 10_000_000
    for piece in ("2005-08-14 12:00:00", "Aug 14 12:00:0", "12:", "1", " ", "[", "@4", "audit(1", "Z +01 ", 'time="'):
        yield piece * (size // len(piece))
    yield "2005-08-14 12:00:00" + " " * size


def test_a_line_of_any_length_takes_bounded_time() -> None:
    lines = list(hostile())
    for datepattern in PATTERNS:
        finder = DateFinder(datepattern, UTC)
        finder.find("", NOW_TS)
        for line in lines:
            began = time.perf_counter()
            finder.find(line, NOW_TS)
            assert time.perf_counter() - began < 1, (datepattern, line[:30])


def test_how_far_a_date_is_looked_for() -> None:
    date = "2005-08-14 12:00:00"
    near = " " * 100 + date + " " * REACH_CHARS
    far = "x" + " " * REACH_CHARS + date
    assert dated(None, near) == (date, NOW_TS + 7200)
    assert dated(None, far) is None
    assert dated("%Y-%m-%d %H:%M:%S$", far) == (date, NOW_TS + 7200)
    assert dated("^(%Y-%m-%d %H:%M:%S) .*$", date + far) is None
    assert dated("^(%Y-%m-%d %H:%M:%S) .*$", f"{date} {far}") == (date, NOW_TS + 7200)
    assert dated("%Y-%m-%d %H:%M:%S$", " " * (REACH_CHARS - 19) + date + "x") is None


def test_a_costly_pattern_is_cut_off_and_set_aside_the_others_go_on() -> None:
    costly = "^(?:a|aa|b?a)*c?!%H:%M:%S"
    finder = DateFinder(f"{costly}\n{{DEFAULT}}", UTC)
    began = time.perf_counter()
    for _ in range(10):
        assert finder.find("a" * 60 + "b! 2005-08-14 12:00:00", NOW_TS) == (NOW_TS + 7200, 63, 82)
    assert finder.cut_off == {costly: 3}
    assert time.perf_counter() - began < 2
    assert DateFinder(costly, UTC).find("aa!10:00:00", NOW_TS) == (NOW_TS, 0, 11)
