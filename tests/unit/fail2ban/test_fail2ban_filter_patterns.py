"""The prefilter's patterns: what they promise of raw lines, where dates may have stood, how selective they are."""

from __future__ import annotations

import re

import pytest

from tocsin.detect.scan import Pattern, Scanner
from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.dates.zones import zone_of
from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.cuts import UNCUT, Cuts, cuts_of
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.parsing import parse
from tocsin.fail2ban.filters.prefilter import line_parts, patterns_of
from tocsin.fail2ban.filters.regexes import Budget
from tocsin.fail2ban.model import FilterSpec

ANYWHERE = Cuts(within=((parse(r"[\s\S]").begin, parse(r"[\s\S]").begin),))
AT_START = cuts_of("{^LN-BEG}")
IN_BRACKETS = cuts_of(r"^[^\[]*\[({DATE})")


def full(regex: str, cuts: Cuts = UNCUT, pref: str | None = None) -> bytes | None:
    tree = None if pref is None else parse(tags.expand(pref))
    found = patterns_of(line_parts(tree, "content", parse(tags.expand(regex))), cuts)
    return None if found is None else found.full


@pytest.mark.parametrize(
    ("regex", "pattern"),
    [
        ("^Failed password for .* from <HOST>", rb"Failed\ password\ for\ [^\n]*\ from\ "),
        ("^user \\S+ (?:not found|denied)$", rb"user\ [^\x09-\x0d\x1c-\x20]+\ (?:not\ found|denied)"),
        ('^<HOST> -.*"(?:GET|POST) /x', rb'\ \-[^\n]*"(?:GET|POST)\ /x'),
        ("^bad(?: very)? <HOST> end", rb"bad(?:\ very)?\ [^\x00-\x2c\x2f\x3b-\x40\x5c\x60\x7b-\x7f]+\ end"),
        ("^a(?=b)c(?!d)e(?<=f)ghi", b"aceghi"),
        ("^abc(?P<x>d)?e(?(x)fgh|ijk)", rb"abc[\x64]?e(?:fgh|ijk)"),
        (r"^x{3}y{2,}zz\b", rb"xxx[\x79]{2,}zz"),
        ("^(?i)abc", None),
        ("^(?i:abcx)", rb"[\x41\x61][\x42\x62][\x43\x63][\x58\x78]"),
        ("^<HOST>$", None),
        (r"^\d+ \d+ <HOST>", None),
        ("^ab <HOST>", rb"ab\ "),
        (r"^abc\s$", b"abc"),
        (r"^abc(?:\s|$)", b"abc"),
        ("^(?:abc|)def", b"def"),
        ("^(?:abc|.*)def", b"def"),
        ("^abc(?:de){2,5}fgh", rb"abcde[^\n]*fgh"),
        (r"^abc\ndef", rb"abc[^\n]*def"),
        ("^äbcdef", b"bcdef"),
    ],
)
def test_what_a_regex_demands_of_a_line(regex: str, pattern: bytes | None) -> None:
    try:
        made = full(regex)
    except re.error:
        made = None
    if pattern is not None and pattern.startswith(rb"[\x41"):
        # classes alone are no literal: such a filter wants every line
        assert made is None
    else:
        assert made == pattern


def test_letters_with_strange_kin_are_matched_by_these_too() -> None:
    """`re` takes the long s for an s and the Kelvin sign for a k where case is ignored."""
    made = full("^(?i:ask) abcd")
    assert made is not None
    for text in ("ASK abcd", "aſk abcd", "asK abcd"):
        assert re.search("^(?i:ask) abcd", text)
        assert re.search(made, text.encode())


def test_a_character_beyond_ascii_is_some_bytes() -> None:
    made = full(r"^abc\w(?:x|y)\D\d{2}def")
    assert made is not None
    for text in ("abcäx€12def", "abc嶸y-٣٤def"):
        assert re.search(r"^abc\w(?:x|y)\D\d{2}def", text)
        assert re.search(made, text.encode())
        assert re.search(made, text.encode("latin-1", "replace")) or "€" in text or "嶸" in text


def test_the_prefregex_stands_before() -> None:
    pref = r"^\S+ app\[\d+\]: <F-CONTENT>.+</F-CONTENT>$"
    assert full("^bad <HOST>", pref=pref) == rb"\ app\[[\x30-\x39\x80-\xff]+\]:\ bad\ "
    assert full("bad <HOST>", pref=pref) == rb"\ app\[[\x30-\x39\x80-\xff]+\]:\ [^\n]*bad\ "
    # content that may be nothing: then the whole text is tried
    assert full("^bad <HOST>", pref="^app: <F-CONTENT>.*</F-CONTENT>$") == rb"bad\ "
    assert full("^bad$", pref="^app from <HOST> <F-CONTENT>.+</F-CONTENT> done$") == (
        rb"app\ from\ [^\x00-\x2c\x2f\x3b-\x40\x5c\x60\x7b-\x7f]+\ bad[^\n]*\ done"
    )


# -- dates -----------------------------------------------------------------------------------------------------------


def test_where_dates_can_stand() -> None:
    a, b, blank, bracket = (parse(re.escape(sign)).begin for sign in "ab [")
    assert not UNCUT.split(a, b, 5)
    assert AT_START.within == ()
    assert AT_START.split(bracket, blank, 1)
    assert not AT_START.split(a, blank, 1)
    assert not AT_START.split(bracket, blank, 3)
    assert IN_BRACKETS.split(bracket, blank, 9)
    assert not IN_BRACKETS.split(blank, blank, 9)
    default = cuts_of(None)
    assert default.split(blank, blank, 9)
    assert not default.split(a, b, 9)
    assert not default.split(a, blank, 9)
    assert rb"@[0-9a-f]{24}" in default.escapes
    assert cuts_of(r"%Y%m%d**").split(blank, a, 9)
    assert cuts_of("{NONE}") == UNCUT


def test_a_date_may_stand_in_the_midst() -> None:
    regex = '^<HOST> - - \\[\\] "GET /x'
    assert full(regex, IN_BRACKETS) == rb'\ \-\ \-\ \[[^\n]*\]\ "GET\ /x'
    assert full("^client  and", cuts_of(None)) == rb"client\ [^\n]*\ and"
    # one date cannot split both halves of a literal
    assert full("^something bad", ANYWHERE) == rb"(?:someth|ing\ bad)"
    assert full("^shor", ANYWHERE) is None


CASES = [
    (None, "^ user bob failed <HOST>$", "2024-05-06 11:22:33 user bob failed 192.0.2.7"),
    (None, "^ user  bob failed <HOST>$", " user 2024-05-06 11:22:33 bob failed 192.0.2.7"),
    (None, "^user \\[\\]  bob failed <HOST>$", "user [06/May/2024:11:22:33 +0000]  bob failed 192.0.2.7"),
    (None, "^bob failed <HOST>$", "bob+0100 May  6 11:22:33 failed 192.0.2.7"),
    (None, "^bob failed <HOST>$", "bob 6/May/2024:11:22:33 failed 192.0.2.7"),
    (None, "^bob failed <HOST> $", "bob failed 192.0.2.7 May  6 11:22:33"),
    (None, "^bob failed <HOST>$", "bob@400000003ba3ccdd00000000 failed 192.0.2.7"),
    ("{^LN-BEG}", "^\\[\\] bob failed <HOST>$", "[2024-05-06 11:22:33] bob failed 192.0.2.7"),
    ("{^LN-BEG}EPOCH", "^\\(\\) bob failed <HOST>$", "(1715000000) bob failed 192.0.2.7"),
    (r"^[^\[]*\[({DATE})", "^bob \\[\\] failed <HOST>$", "bob [2024-05-06 11:22:33] failed 192.0.2.7"),
    (r"^[^\[]*(\[{DATE}\s*\])", "^bobby failed <HOST>$", "bob[2024-05-06 11:22:33]by failed 192.0.2.7"),
    (r"%Y-%m-%d %H:%M:%S**", "^bobby failed <HOST>$", "bobby fa 2024-05-06 11:22:33iled 192.0.2.7"),
    (r"**%Y-%m-%d %H:%M:%S**", "^bobby failed <HOST>$", "bobby fai2024-05-06 11:22:33led 192.0.2.7"),
    (r"<%Y-%m-%d %H:%M:%S>", "^bobby failed <HOST>$", "bobby fail<2024-05-06 11:22:33>ed 192.0.2.7"),
]


@pytest.mark.parametrize(("datepattern", "regex", "line"), CASES)
def test_a_line_whose_date_parts_a_literal_is_let_through(datepattern: str | None, regex: str, line: str) -> None:
    spec = FilterSpec("test", (regex,), datepattern=datepattern)
    line_filter = LineFilter(spec, DateFinder(datepattern, zone_of("UTC")), Budget())
    if line_filter.take(line, 1_715_000_000.0):
        for patterns, fallback in ((line_filter.patterns, False), (line_filter.simple_patterns, True)):
            assert patterns is None or Scanner([Pattern(one, 1) for one in patterns], fallback=fallback).scan(
                line.encode() + b"\n"
            )
    else:
        # the date was not cut there after all: the case would prove nothing
        assert "fa 2024" in line or "<2024" in line


# -- what must not follow --------------------------------------------------------------------------------------------

REFUSING = [
    ("^{DATE}", "^ NOTICE\\s+\\[(?!own\\]).*\\] Ban <HOST>$", b"NOTICE", b"(?!own\\])"),
    ("{^LN-BEG}", "^ user (?!`)\\S+ from <HOST>$", b"user", b"(?!`)"),
    ("^{DATE}", "^ x[(?!own)] Ban <HOST>$", None, b""),  # a class
    ("^{DATE}", "^ a\\S+(?!own) Ban <HOST>$", None, b""),  # the run could be shorter
    ("^{DATE}", "^ Ban <HOST>(?:(?!own)x)*$", None, b""),  # somewhere within
    ("%Y-%m-%d**", "^ NOTICE\\s+\\[(?!own\\]).*\\] Ban <HOST>$", None, b""),  # a date may stand in between
]


@pytest.mark.parametrize(("datepattern", "regex", "begin", "end"), REFUSING)
def test_what_must_not_follow_is_known_where_it_is_certain(
    datepattern: str, regex: str, begin: bytes | None, end: bytes
) -> None:
    spec = FilterSpec("test", (regex,), datepattern=datepattern)
    line_filter = LineFilter(spec, DateFinder(datepattern, zone_of("UTC")), Budget())
    (refined,) = line_filter.refined.values()
    assert refined.startswith(begin or b"")
    assert refined.endswith(end)
    assert bool(refined) == bool(end)


@pytest.mark.parametrize("inside", ["own]", "owner]", "own", "ow", "]", "o own]", "own] [other]", "\u212awn]", ""])
def test_only_what_must_not_follow_is_refused(inside: str) -> None:
    spec = FilterSpec("test", ("^ NOTICE\\s+\\[(?!own\\]).*\\] Ban <HOST>$",), datepattern="^{DATE}")
    line_filter = LineFilter(spec, DateFinder(spec.datepattern, zone_of("UTC")), Budget())
    ((pattern, refined),) = line_filter.refined.items()
    line = f"2024-05-06 11:22:33 NOTICE  [{inside}] Ban 192.0.2.7"
    hit = Scanner([Pattern(pattern, 1, refined=refined)]).scan(line.encode() + b"\n")
    assert bool(hit) == bool(line_filter.take(line, 1_715_000_000.0))


# -- how selective ---------------------------------------------------------------------------------------------------


def test_patterns_are_telling() -> None:
    """A line with each word of a regex, but in another order or place, is not let through."""
    spec = FilterSpec("test", ("^Failed password for \\S+ from <HOST> port \\d+$",), datepattern="{^LN-BEG}")
    line_filter = LineFilter(spec, DateFinder(spec.datepattern, zone_of("UTC")), Budget())
    assert line_filter.patterns is not None
    scanner = Scanner([Pattern(one, 1) for one in line_filter.patterns])
    let = [
        line
        for line in (
            "Failed password for root from 192.0.2.7 port 22",
            "Accepted password for root from 192.0.2.7 port 22",
            "password Failed for root from 192.0.2.7 port 22",
            "Failed password change for root",
            "from port Failed password for",
        )
        if scanner.scan(line.encode() + b"\n")
    ]
    assert let == ["Failed password for root from 192.0.2.7 port 22"]


def test_a_filter_without_a_literal_wants_every_line() -> None:
    spec = FilterSpec("test", ("^\\S+ <HOST>$", "^bad thing <HOST>$"))
    line_filter = LineFilter(spec, DateFinder(None, zone_of("UTC")), Budget())
    assert (line_filter.patterns, line_filter.loud_patterns, line_filter.simple_patterns) == (None, None, None)


def test_huge_alternatives_stay_small_enough() -> None:
    words = "|".join(f"word{n:05}(?:x|y) \\[" for n in range(2000))
    made = full(f"^bad thing (?:{words}) <HOST>", cuts_of(None))
    assert made is not None
    assert len(made) <= 12_000
    assert Scanner([Pattern(made, 1)]).scan(b"bad thing word00001x [ 192.0.2.7\n")
