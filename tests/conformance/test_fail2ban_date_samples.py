"""Dates against fail2ban's own: the sample logs of Debian's package, its default list, its zones, and lines that were
made up, each seen by a new date detector of its own in a helper process.

Differences that are meant, and none but these:
- a year of this century is any of 2000 to 2099; fail2ban takes the years up to the end of the decade in which it will
  be three years after its start;
- where the first fit is no possible instant (30 February, hour 29, an unknown zone) fail2ban has no time, and here the
  next fit is the date;
- a date without a year around New Year: the latest that is at most a day ahead, not always of the present year;
- a leap second is the one before it, 29 February without a year is the last there was; fail2ban has no time for them;
- what lies before 1970 or after 9999 is no date;
- digits are ASCII;
- `{DEFAULT}` among other patterns adds the default list; fail2ban means to, but adds nothing.
"""

from __future__ import annotations

import json
import os
import re
import struct
import subprocess
from datetime import datetime
from functools import cache
from io import BytesIO
from pathlib import Path
from random import Random
from typing import Any, NamedTuple
from zoneinfo import ZoneInfo

import pytest

from tocsin.fail2ban.dates.dates import DateFinder, Found
from tocsin.fail2ban.dates.fields import LATEST_TS
from tocsin.fail2ban.dates.templates import templates_of
from tocsin.fail2ban.dates.zones import ABBREVIATIONS

ORACLE = Path(__file__).with_name("dates_oracle.py")
SYSTEM_PYTHON = "/usr/bin/python3"
NOW_TS = 1124013600  # what fail2ban's own tests hold the clock at
TZ = "CET-01CEST-02,M3.5.0,M10.5.0"


@cache
def zone() -> ZoneInfo:
    """The zone of fail2ban's own tests, from its POSIX rule: a file of a zone without any past."""
    header = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, 0, 1, 4) + struct.pack(">lbb4s", 3600, 0, 0, b"CET\0")
    return ZoneInfo.from_file(BytesIO(header + header + f"\n{TZ}\n".encode()))


def asked(**request: Any) -> Any:
    ran = subprocess.run(
        [SYSTEM_PYTHON, "-B", ORACLE],
        input=json.dumps(request),
        capture_output=True,
        text=True,
        env={**os.environ, "TZ": TZ, "LC_ALL": "C.UTF-8"},
        timeout=300,
        check=False,
    )
    assert ran.returncode == 0, f"install fail2ban: make setup does\n{ran.stderr[-2000:]}"
    return json.loads(ran.stdout)


@cache
def samples() -> list[dict[str, Any]]:
    told: list[dict[str, Any]] = asked(samples=True)
    return told


def test_all_times_of_the_samples() -> None:
    """A line whose pattern leaves its date empty has that of the line before, as where a filter joins lines."""
    timed, wrong = 0, []
    for option_set in samples():
        finder = DateFinder(option_set["datepattern"], zone())
        ts: float | None = None
        for sample in option_set["lines"]:
            found = finder.find(sample["line"], NOW_TS)
            if found is not None and (ts is None or found.start < found.end):
                ts = found.ts
            if sample["time"] is not None:
                timed += 1
                if ts != local_ts(sample["time"]):
                    wrong.append((sample["file"], sample["number"], sample["line"], ts, sample["time"]))
    assert timed > 950
    assert not wrong


def local_ts(text: str) -> float:
    """Unix seconds of an annotated time: local, not always of two digits (`2005-03-7T02:09:33.5`)."""
    parts = re.split("[-T:.]", text)
    year, month, day, hour, minute, second = map(int, parts[:6])
    when = datetime(year, month, day, hour, minute, second, tzinfo=zone())
    return when.timestamp() + (float(f"0.{parts[6]}") if parts[6:] else 0)


@pytest.mark.parametrize("history", ["fresh", "carried"])
def test_what_is_cut_out_of_the_samples(history: str) -> None:
    """The same as by a detector without any past, and as by one that has seen the file's lines before."""
    wrong = []
    for option_set in samples():
        finder = DateFinder(option_set["datepattern"], zone())
        for sample in option_set["lines"]:
            found = finder.find(sample["line"], NOW_TS)
            if not is_same(found, sample[history]):
                wrong.append((sample["file"], sample["number"], sample["line"], found, sample[history]))
    assert not wrong


def is_same(found: Found | None, theirs: list[Any] | None) -> bool:
    if found is None or theirs is None:
        return found is None and theirs is None
    _, start, end, ts, *_ = theirs
    return (found.start, found.end) == (start, end) and (start == end or found.ts == ts)


class Question(NamedTuple):
    datepattern: str | None
    line: str
    logtimezone: str | None = None


def answered(questions: list[Question]) -> list[tuple[Question, list[Any] | None]]:
    """What a new detector finds for each."""
    asking = [[question.datepattern, question.logtimezone, question.line, NOW_TS] for question in questions]
    return list(zip(questions, asked(dates=asking), strict=True))


def found_of(question: Question) -> Found | None:
    finder = DateFinder(question.datepattern, zone(), logtimezone=question.logtimezone)
    return finder.find(question.line, NOW_TS)


def test_the_default_list() -> None:
    names = asked(templates=True)
    ours = templates_of(None)
    assert len(names) == len(ours) == 31
    # their names stand for directives; line by line, both begin and are bound alike
    for name, template in zip(names, ours, strict=True):
        assert name.startswith(("{^LN-BEG}", "^")) == template.begins
        assert ("Epoch" in name) == (template.reads == "epoch")
        assert ("TAI64N" in name) == (template.reads == "tai64n")
        assert [letter in name for letter in ("DAY", "MON", "AMPM", "Zone", "_sep")] == [
            letter in template.text for letter in ("%a", "%b", "%p", "%Z" if "Zone name" in name else "%z", "mark")
        ]


def test_all_abbreviations() -> None:
    assert asked(zones=True) == ABBREVIATIONS


WRITTEN = (
    ("%H:%M:%S %d.%m.%Y", "at 20:00:00 01.02.2003"),
    ("%H:%M:%S %d.%m.%Y", "at 20:00:00 01.02.2003x"),
    ("**%H:%M:%S %d.%m.%Y**", "at20:00:00 01.02.2003x"),
    (r"\**%H:%M:%S %d.%m.%Y\**", "at*20:00:00 01.02.2003*x"),
    ("%H:%M:%S %d.%m.%Y$", "at 20:00:00 01.02.2003"),
    (r"\[%H:%M:%S %d.%m.%Y\]", "at[20:00:00 01.02.2003]x"),
    (r"^\[%d/%b/%Y %H:%M:%S\]", "[17/jun/2011 17:00:45] x"),
    ("%Y%m%d %H%M%S", "text:200333 010203 | date:20031230 010203"),
    ("%ExY%Exm%Exd %ExH%ExM%ExS", "text:200333 010203 | date:20031230 010203"),
    ("{^LN-BEG}%ExY%Exm%Exd%ExH%ExM%ExS**", "##2003123001020320030101000000"),
    ("{^LN-BEG}%ExY%Exm%Exd%ExH%ExM%ExS", "[20031230010203]20030101000000"),
    ("{^LN-BEG}%ExY-%Exm-%Exd %ExH:%ExM:%ExS(?: %Z)?", "[2003-12-30 01:02:03 UTC] x"),
    ("{UNB}%Y-%m-%d", "x2003-12-30x"),
    ("^%B %Exd %I:%ExM:%ExS**", "January 23 12:59:59"),
    ("^%B %Exd %l:%ExM:%ExS %p", "May 23  9:59:59 pm"),
    ("^%y %U %A %ExH:%ExM:%ExS**", "01 11 Wednesday 21:59:59"),
    ("^%y %W %A %ExH:%ExM:%ExS**", "01 11 Wednesday 21:59:59"),
    ("^%y %W %w %ExH:%ExM:%ExS**", "01 11 0 21:59:59"),
    ("^%y %U %w %ExH:%ExM:%ExS**", "05 00 6 21:59:59"),
    ("^%Y %j", "2004 366 x"),
    ("^%ExH:%ExM:%ExS**", "21:59:59"),
    ("^%ExH:%ExM:%ExS**", "12:00:00"),
    ("^%m/%d %ExH:%ExM:%ExS**", "09/01 21:59:59"),
    ("^%Y-%m-%d**", "2004-09-01"),
    ("^%Y-%m-%d%z**", "2004-09-01Z"),
    ("^%Y-%m-%d %Exz", "2004-09-01 CET+0130 x"),
    ("^%Y-%m-%d %ExZ", "2004-09-01 NPT x"),
    ("%c", "Sun Jan 23 21:59:59 2005"),
    ("%x %X", "at 01/23/05 21:59:59"),
    (r"(?i)on %Y-%m-%dT", "ON 2003-12-30t"),
    (r"^(?:x )?(?:%Y-)?%m-%d (?P<H>\d+)h", "x 08-13 7h"),
    ("%%%Y-%m-%d", "%2003-12-30"),
    ("EPOCH", "[1138049999.555] x"),
    ("EPOCH", "audit(1138049999.555:101) x"),
    ("EPOCH", "audit(1138049999.555) x"),
    ("EPOCH", "x 1138049999"),
    ("^EPOCH", " 1138049999 x"),
    ("LEPOCH", "32535244799123456 x"),
    ("LEPOCH", "[1138049999123.5] x"),
    (r"(?<=\|\s){LEPOCH}(?=\s\|)", "a | 1138049999123 | b"),
    (r"^x {EPOCH}**", "x 1138049999b"),
    ("{^LN-BEG}TAI64N", "[@4000000043d5446f00000000] x"),
    ("TAI64N", "x@4000000043d5446f00000000 x"),
    ("^{DATE}", "1138049999 x"),
    ("{^LN-BEG}{DATE}", "- 05-08-13 x 12:00:00"),
    (r"^\w+ \[({DATE}\s*)\]", "x [<09/16/08@05:03:30>] x"),
    (r"^\w+ \[({DATE}\s*)\]", "x [Aug 13 05:03:30  ] x"),
    ("{NONE}", "2003-12-30"),
    ("^#()**\n{^LN-BEG}", "#2003-12-30 12:00:00"),
    ("^x%H:%M:%S\n{^LN-BEG}", "x12:00:00 2003-12-30 12:00:00"),
    (None, "some free text 030324  0:03:59 -- 2003-03-07 17:05:01"),
    (None, "a server: Sep 16 21:30:26 server mysqld: 030916 21:30:26"),
    (None, "Aug 8 11:25:50 2014 20030f2329b8"),
    (None, "0000-12-30 00:00:00 - 2003-12-30 00:00:00"),
)


def test_patterns_that_were_made_up() -> None:
    """Beside each, the same line after some more text, and before some."""
    questions = [Question(pattern, line) for pattern, text in WRITTEN for line in (text, f"abc {text}", f"{text} 7")]
    assert not [
        (question, found, theirs)
        for question, theirs in answered(questions)
        if not is_same(found := found_of(question), theirs) and not is_meant(theirs, found, question.line)
    ]


def test_log_time_zones() -> None:
    pattern = "^%ExY-%Exm-%Exd %H:%M:%S(?: ?%Exz)?"
    zones = ("UTC+0300", "UTC", "UTC-0430", "GMT+12", "CET", "+0100", "CEST-01", "CET+01", "CET+0130", "-04:30", "NPT")
    lines = [f"2017-01-23 15:00:00{written}" for written in ("", " GMT", " -1045", "+09:45", " Z", " CET", " CET+0130")]
    for question, theirs in answered([Question(pattern, line, name) for name in zones for line in lines]):
        assert is_same(found_of(question), theirs), question


def mutated(rng: Random, line: str, others: list[str]) -> str:
    """A sample with some of its first characters changed, or a piece of another one put in."""
    for _ in range(rng.randint(1, 3)):
        place = rng.randrange(min(len(line), 60) + 1)
        other = rng.choice(others)
        piece = rng.randrange(len(other))
        new = rng.choice(("", rng.choice("0123456789:-/ .,[]()TZ+@<>abcAugJanSep"), other[piece : piece + 40]))
        line = line[:place] + new + line[place + rng.choice((0, 1, 1, 7)) :]
    return line


def is_meant(theirs: list[Any] | None, found: Found | None, line: str) -> bool:
    """Whether a difference is one of those that the head of this file names."""
    if theirs is not None and theirs[3] is None:
        return found is None or found[1:] != tuple(theirs[1:3]) or re.search("60|29", theirs[0]) is not None
    if found is None and theirs is not None and not 0 <= theirs[3] < LATEST_TS:
        return True
    part = "" if found is None else line[found.start : found.end]
    return re.search("20[3-9][0-9]", part) is not None


def test_mutated_samples() -> None:
    rng = Random(20240814)
    pool = [(option_set["datepattern"], sample["line"]) for option_set in samples() for sample in option_set["lines"]]
    lines = [line for _, line in pool]
    questions = []
    for _ in range(4000):
        pattern, line = rng.choice(pool)
        questions.append(Question(rng.choice((pattern, pattern, None)), mutated(rng, line, lines)))
    finders = {question.datepattern: DateFinder(question.datepattern, zone()) for question in questions}
    same, wrong = 0, []
    for question, theirs in answered(questions):
        found = finders[question.datepattern].find(question.line, NOW_TS)
        if is_same(found, theirs):
            same += 1
        elif not is_meant(theirs, found, question.line):
            wrong.append((question, found, theirs))
    assert not wrong
    assert same > 0.99 * len(questions)
