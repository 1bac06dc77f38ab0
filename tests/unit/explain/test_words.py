"""Sentences in two languages: every text has its French, places are filled once, numbers read as people write them."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from datetime import UTC, timedelta, timezone
from pathlib import Path
from typing import get_args, get_type_hints
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.explain.model import Cause, Said, say
from tocsin.explain.telling.french import FRENCH, WORDS
from tocsin.explain.telling.words import FORMATS, HARD_SPACE, MOST_CHARS, PLACE, Language, chosen, typeset
from tocsin.server_events import AppError, StorageError

SOURCE = Path(__file__).parents[3] / "src" / "tocsin"
PARIS = ZoneInfo("Europe/Paris")
TS = 1436124252.0  # 2015-07-05 19:24:12 UTC
EN, FR = Language("en", PARIS), Language("fr", PARIS)


def said_in(path: Path) -> Iterator[tuple[str, str]]:
    """The sentences of a module and where they stand: what `say` is given; where it is a name, all that has places."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(SOURCE)
    handed_on = False
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in ("say", "Said"):
            first = node.args[0]
            if isinstance(first, ast.Constant):
                yield str(first.value), f"{where}:{node.lineno}"
            handed_on |= isinstance(first, ast.Name)
            assert isinstance(first, ast.Constant | ast.Name), f"{where}:{node.lineno}: pieces have no French"
    prose = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree) if handed_on else ():
        if isinstance(node, ast.Constant) and id(node) not in prose and PLACE.search(str(node.value)):
            yield str(node.value), f"{where}:{node.lineno}"


TEXTS = {text: where for path in sorted(SOURCE.rglob("*.py")) for text, where in said_in(path)}


def places(text: str) -> set[tuple[str, str]]:
    """The places of a text, but for the plural's `s`, which each language sets by itself."""
    return {(place[1], place[2] or "") for place in PLACE.finditer(text) if place[2] != "s"}


def codes(noun: type, field: str) -> set[str]:
    """The texts that a field of a noun may be."""
    kind = get_type_hints(noun)[field]
    return {text for each in (kind, *get_args(kind)) for text in get_args(each) if isinstance(text, str)}


def test_every_sentence_has_its_french() -> None:
    assert len(TEXTS) > 150
    missing = "\n".join(f"{where}: {text!r}" for text, where in TEXTS.items() if text not in FRENCH)
    assert not missing, missing


def test_no_french_is_left_over() -> None:
    assert not [text for text in FRENCH if text not in TEXTS]


@pytest.mark.parametrize("english", sorted(TEXTS))
def test_the_french_has_the_same_places(english: str) -> None:
    assert {form for _, form in places(english)} <= {"", *FORMATS}
    assert places(FRENCH.get(english, english)) == places(english)
    assert "{" not in PLACE.sub("", english)


@pytest.mark.parametrize(
    "french", [*FRENCH.values(), *(pair[1] for words in WORDS.values() for pair in words.values())]
)
def test_the_french_is_set_as_french_is(french: str) -> None:
    """No-break spaces come from `typeset`, which wants plain ones; apostrophes and quotes are the typographic ones."""
    text = PLACE.sub("X", french)
    assert not re.search(r"['\"\u00a0\u202f]|[^ ][;!?»]|[\w)}]:(?!\w)|«[^ ]|  ", text)
    assert not re.search(r" [:;!?»%]|« ", typeset(text))


@pytest.mark.parametrize(
    ("form", "value", "english", "french"),
    [
        ("time", TS, "2015-07-05 21:24:12", "5_juillet 2015 à 21:24:12"),
        ("clock", TS, "21:24", "21_h_24"),
        ("clock", TS - 14 * 3600 - 20 * 60, "07:04", "7_h_04"),
        ("span", 0.012, "12_ms", "12_ms"),
        ("span", 2.34, "2.3_s", "2,3_s"),
        ("span", 95, "1_min_35_s", "1_min_35_s"),
        ("span", 7800, "2_h_10_min", "2_h_10_min"),
        ("span", 3600 * 50, "2_d_2_h", "2_j_2_h"),
        ("size", 512, "512_B", "512_o"),
        ("size", 62_704_845, "59.8_MiB", "59,8_Mio"),
        ("share", 0.94, "94%", "94_%"),
        ("share", 0.004, "0.4%", "0,4_%"),
        ("times", 38.2, "38_times", "38_fois"),
        ("times", 1.44, "1.4_times", "1,4_fois"),
        ("", 1234567, "1,234,567", "1_234_567"),
        ("", 12.5, "12.5", "12,5"),
        ("", None, "unknown", "inconnu"),
        ("time", 1e18, "epoch 1000000000000000000 s", "epoch 1000000000000000000 s"),
        ("share", float("nan"), "?", "?"),
        ("times", float("inf"), "∞", "∞"),
    ],
)
def test_amounts(form: str, value: float | None, english: str, french: str) -> None:
    said = Said("{it:%s}" % form if form else "{it}", {"it": value})  # noqa: UP031  braces
    assert EN.tell(said).replace(HARD_SPACE, "_") == english
    assert FR.tell(said).replace(HARD_SPACE, "_") == french


@pytest.mark.parametrize(("number", "english"), [(0, "0 addresses"), (1, "1 address"), (2, "2 addresses")])
def test_one_is_singular(number: int, english: str) -> None:
    said = Said("{n} addresses of {n} request{n:s}", {"n": number})
    assert EN.tell(said) == f"{english} of {number} request{'' if number == 1 else 's'}"


def test_a_sentence_in_a_sentence_is_told_in_the_same_language() -> None:
    assert FR.tell(Said("{inner}", {"inner": say("share")})) == FRENCH["share"]


def test_names_of_our_own_are_words() -> None:
    said = Said("{service}: {symptom}", {"service": "database-down", "symptom": "database-down"})
    assert EN.tell(said) == "database-down: the database does not answer"
    assert FR.tell(said).startswith(f"database-down{HARD_SPACE}: la base de données")


def test_every_code_of_the_nouns_has_its_words() -> None:
    assert set(WORDS["cause"]) == set(get_args(Cause)) - {"unknown"}
    assert set(WORDS["error"]) == codes(StorageError, "error")
    assert set(WORDS["symptom"]) == codes(AppError, "symptom")


def test_what_is_unknown_stays_as_it_is_written() -> None:
    assert FR.tell(Said("no such text, {and_place}")) == "no such text, {and_place}"


@given(st.text())
def test_a_hostile_text_fills_one_place_and_nothing_else(text: str) -> None:
    told = EN.tell(Said("<{it}|{other}>", {"it": text, "other": "{it}"}))
    assert told.isprintable()
    assert told.endswith("|{it}>")
    assert len(told) <= MOST_CHARS + 7


@given(st.floats(), st.sampled_from(["", *FORMATS]))
def test_no_number_breaks_a_sentence(value: float, form: str) -> None:
    said = Said("{it:%s}" % form if form else "{it}", {"it": value})  # noqa: UP031  braces
    assert EN.tell(said)
    assert FR.tell(said)


@pytest.mark.parametrize(
    ("environ", "code"),
    [
        ({"LANG": "fr_FR.UTF-8"}, "fr"),
        ({"LANG": "fr"}, "fr"),
        ({"LANG": "fr_FR.UTF-8", "LC_ALL": "C.UTF-8"}, "en"),
        ({"LANG": "en_GB.UTF-8", "LC_MESSAGES": "fr_CA@euro"}, "fr"),
        ({"LANG": "fur_IT"}, "en"),
        ({"LC_ALL": "", "LANG": "fr_BE"}, "fr"),
        ({}, "en"),
    ],
)
def test_the_locale_chooses(environ: dict[str, str], code: str) -> None:
    assert chosen(environ) == code


def test_periods_and_zones() -> None:
    assert EN.period(TS, TS + 60) == "Sunday 5 July 2015, 21:24:12 → 21:25:12"
    assert EN.period(TS, TS + 86400) == "2015-07-05 21:24:12 → 2015-07-06 21:24:12"
    assert FR.period(TS - 4 * 86400, TS - 4 * 86400) == f"mercredi 1er{HARD_SPACE}juillet 2015, 21:24:12 → 21:24:12"
    assert EN.zone_name(TS) == "UTC+02:00 (CEST)"
    assert Language("en", UTC).zone_name(TS) == "UTC"
    assert Language("en", timezone(timedelta(seconds=-14400))).zone_name(TS) == "UTC-04:00"
    assert Language("en", names_zone=True).time(TS) == "2015-07-05 19:24:12 UTC"
