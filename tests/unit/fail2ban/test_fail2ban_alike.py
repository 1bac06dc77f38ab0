"""`re` and `regex` see the same in a text and in its likeness, whatever the character; and the match tells the text."""

from __future__ import annotations

import re

import pytest
import regex  # type: ignore[import-untyped]  # it comes without types

from tocsin.fail2ban.filters.alike import alike
from tocsin.fail2ban.filters.regexes import Budget, Regex

EVERY = "".join(chr(code) for code in range(0x110000) if not 0xD800 <= code < 0xE000)


@pytest.mark.parametrize("kind", [r"\s", r"\S", r"\d", r"\D", r"\w", r"\W", r"[^\s,]", r"[\w-]", "."])
def test_every_character_is_of_the_same_kind(kind: str) -> None:
    here = {match.start() for match in re.finditer(kind, EVERY)}
    there = {match.start() for match in regex.finditer(kind, alike(EVERY))}
    assert here == there


def test_plain_text_is_left_alone() -> None:
    text = "Failed password for root from 192.0.2.7 port 22\n"
    assert alike(text) is text
    assert len(alike("a\x1cb\u0301\xb2")) == 5


@pytest.mark.parametrize(
    ("line", "user"),
    [("of a\x1db from 192.0.2.7", None), ("of a\xb2b from 192.0.2.7", "a\xb2b"), ("of é from ::1", "é")],
)
def test_a_regex_under_the_clock_finds_what_re_finds(line: str, user: str | None) -> None:
    made = Regex(r"^of (?P<user>\w+) from <HOST>$", "failregex", "one", Budget(), usedns="no")
    plain = made.search(line)
    made.always_timed()
    timed = made.search(line)
    found = [None if match is None else made.captured(match) for match in (plain, timed)]
    assert found[0] == found[1]
    assert (None if timed is None else timed["user"]) == user
