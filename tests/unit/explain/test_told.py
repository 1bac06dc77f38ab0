"""What the reader is told: the links that the verdict rests on, and sentences that end where words do."""

from __future__ import annotations

from explain_made import fact, visits
from explain_reports import START, flood
from msgspec.structs import replace
from test_verdict import only

from tocsin.explain.model import Link, Report, say
from tocsin.explain.telling.render import render
from tocsin.explain.telling.words import Language
from tocsin.model import AppError


def shown(report: Report) -> list[str]:
    return [row.text for row in render(report, Language("en"), 100)]


def test_a_long_chain_keeps_what_the_verdict_rests_on_and_what_is_quoted_ends_with_a_word() -> None:
    links = tuple(Link(START + i, say(f"link {i}"), True, "log", 1, "word " * 50, main=i in {7, 8}) for i in range(14))
    lines = shown(Report((), (replace(flood().incidents[0], chain=links),), quiet=False))
    named = [int(line.split()[-1]) for line in lines if " link " in line]
    assert named == [0, 1, 2, 7, 8, 11, 12, 13]
    assert all(line.endswith("word…") for line in lines if "log:1: word" in line)


def test_the_error_that_is_the_cause_stands_in_the_chain() -> None:
    text = "PHP Fatal error: Class not found in /var/www/" + "a/" * 60
    errors = [fact(600 + i, AppError(0.0, "php", "crit", symptom="fatal", text=text), text) for i in range(40)]
    failing = [replace(one, status=500) for one in visits(600, 900)]
    incident = only([*visits(0, 600), *failing], errors)
    assert incident.cause == "crash"
    assert text in [link.text for link in incident.chain if link.main]
    assert str(incident.suspects[0].why.args["text"]).endswith("in …")
