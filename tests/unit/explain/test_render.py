"""The report on a terminal: what is needed first stands first, on a page, and nothing in it is obeyed."""

from __future__ import annotations

from zoneinfo import ZoneInfo

import pytest
from explain_reports import FOUNDING, HOSTS, REPORTS, START, abstaining, flood, local_job, quiet
from hypothesis import given
from hypothesis import strategies as st
from msgspec.structs import replace

from tocsin.explain.model import Actor, Link, Remedy, Report, Spared, Suspect, say
from tocsin.explain.telling.render import render
from tocsin.explain.telling.words import Language
from tocsin.model import Signature

PARIS = ZoneInfo("Europe/Paris")
EN, FR = Language("en", PARIS), Language("fr", PARIS)


def shown(report: Report, language: Language = EN, width: int = 90, *, whole: bool = False) -> list[str]:
    return [row.text for row in render(report, language, width, whole_quotes=whole)]


def words(lines: list[str]) -> str:
    """The lines as one, as if they had not been wrapped."""
    return " ".join(" ".join(lines).split())


def test_the_first_lines_say_what_when_why_how_sure_and_what_to_do() -> None:
    head = " ".join(shown(flood())[:12])
    assert "A flood of requests" in head
    assert "Sunday 5 July 2015, 21:26:00 → 21:47:00 (21 min)" in head
    assert "the kernel killed mysqld" in head
    assert "POST /xmlrpc.php from 313 addresses" in head
    assert "Certainty: 94%, as good as proven." in head
    assert "Do now: mysql was down when the logs end: start it." in head
    assert "systemctl restart mysql" in head


def test_it_fits_a_page() -> None:
    for language in (EN, FR):
        assert len(shown(flood(), language)) <= 64
        for report in (local_job(), abstaining(), quiet()):
            assert len(shown(report, language, 80)) <= 40


def test_lines_are_quoted_with_their_place() -> None:
    lines = shown(flood(), width=100)
    assert any(line.strip().startswith("access.log:18231: 203.0.113.9 - -") for line in lines)
    assert any("error.log:71: [Sun Jul 05 21:25:45 2015]" in line for line in lines)
    whole = shown(abstaining(), whole=True)
    assert f"            error.log:1: {FOUNDING}" in whole


def test_sources_of_one_name_are_told_apart() -> None:
    incident = flood().incidents[0]
    links = tuple(Link(START, say("and go on"), True, f"/logs/{site}/access.log", 1, "x") for site in ("a", "b"))
    lines = shown(Report((), (replace(incident, chain=links),), quiet=False))
    assert {line.strip() for line in lines} >= {"a/access.log:1: x", "b/access.log:1: x"}


def test_a_long_ban_is_counted_and_a_short_one_is_whole() -> None:
    lines = shown(flood())
    assert "… 313 in all: --html FILE" in words(lines)
    assert not any(HOSTS[-1] in line for line in lines)
    few = replace(flood().incidents[0], ban=HOSTS[:3])
    assert any(line == "  ban 203.0.113.1, 203.0.113.2, 203.0.113.3" for line in shown(Report((), (few,), quiet=False)))


def test_a_quiet_day_is_called_quiet_and_nothing_else() -> None:
    lines = shown(quiet())
    assert lines[0] == "Nothing went wrong in the time that these logs tell of."
    assert "silent 2015-07-05 21:31:00 → 21:47:00" in words(lines)


def test_who_cannot_tell_says_what_is_missing() -> None:
    text = " ".join(shown(abstaining()))
    assert "The cause is not proven" in text
    assert "No verdict" in text
    assert "Not found: no access log was found." in text
    assert "Certainty" not in text


def test_french() -> None:
    text = " ".join(shown(flood(), FR, 100))
    assert "la mémoire s’est épuisée et le noyau a tué mysqld" in text
    assert "Certitude : 94 %, autant dire prouvé." in text
    assert "5 210 requêtes POST /xmlrpc.php venues de 313 adresses" in text


def test_many_outages_are_listed_and_the_latest_told() -> None:
    one = flood().incidents[0]
    many = tuple(replace(one, start=START + i * 7200, end=START + i * 7200 + 60) for i in range(5))
    lines = shown(Report((), many, quiet=False))
    assert lines[0] == "5 outages, the latest first."
    assert sum(line.startswith(("  1. Monday", "  5. Sunday")) for line in lines) == 2
    assert sum("How it came about" in line for line in lines) == 3


@pytest.mark.parametrize("width", [80, 100])
@pytest.mark.parametrize("name", REPORTS)
def test_lines_keep_to_the_width(name: str, width: int) -> None:
    for language in (EN, FR):
        typed = {line for one in REPORTS[name]().incidents for each in one.remedies for line in each.apply.splitlines()}
        wide = [line for line in shown(REPORTS[name](), language, width) if len(line) > width]
        assert not [line for line in wide if line.strip() not in typed]


@given(st.text(), st.integers(20, 120))
def test_nothing_hostile_is_obeyed(text: str, width: int) -> None:
    said = say("{text}", text=text)
    suspect = Suspect(
        "requests", "crawler", said, said, Signature(text, text), text, (Actor(text, 1),), 1, 1.0, 1.0, said
    )
    incident = replace(
        flood().incidents[0],
        summary=said,
        chain=(Link(START, said, True, text, 1, text), Link(None, said, False, missing=True)),
        suspects=(suspect, suspect),
        ban=(text,) * 60,
        deny=(Signature(text, text, text, text, text),),
        spare=(Spared(text, said),),
        remedies=(Remedy(said, text), Remedy(said, text, now=True)),
    )
    for whole in (False, True):
        assert all(line.isprintable() for line in shown(Report((), (incident,), quiet=False), FR, width, whole=whole))
