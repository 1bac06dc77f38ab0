"""What the reader is told: the links that the verdict rests on, and sentences that end where words do."""

from __future__ import annotations

from explain_made import START_TS, dossier, fact, request, visits
from explain_reports import START, flood
from msgspec import structs
from msgspec.structs import replace
from test_verdict import only

from tocsin.explain.explain import explain
from tocsin.explain.model import Coverage, Fact, Incident, Link, Report, say
from tocsin.explain.telling.render import render
from tocsin.explain.telling.words import Language
from tocsin.model import HttpRequest
from tocsin.server_events import AppError, LimitReached, ServiceState, Stall


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


def told_of(requests: list[HttpRequest], facts: list[Fact]) -> Incident:
    """The one incident, where the system's log speaks from the beginning on."""
    covered = Coverage("syslog", "system", START_TS, START_TS + 9000, 100, 0)
    (incident,) = explain(structs.replace(dossier(requests, facts), coverage=(covered,))).incidents
    return incident


def english(incident: Incident) -> str:
    return Language("en").tell(incident.summary)


BOOT = fact(6000, ServiceState(0.0, "kernel", "started"), "Linux version 6.1.0", "syslog")
GONE = [*visits(0, 3600, 1.0), *visits(6060, 8000, 1.0)]


def test_a_boot_without_a_shutdown_is_told() -> None:
    incident = told_of(GONE, [BOOT])
    assert incident.cause == "unknown"
    assert "the machine was not shut down, and booted at" in english(incident)
    assert [link.text for link in incident.chain if link.main] == ["Linux version 6.1.0"]
    assert not incident.suspects, "somebody who came by is named"


def test_a_boot_after_a_shutdown_is_not_told() -> None:
    full = fact(5940, LimitReached(0.0, "apache2", "MaxRequestWorkers"))
    stop = fact(5950, ServiceState(0.0, "cron", "stopping"), source="syslog")
    for facts, told in (([full, BOOT], True), ([full, stop, BOOT], False)):
        incident = told_of(visits(6060, 8000, 1.0), facts)
        assert any("not shut down" in link.link.text for link in incident.chain) is told


def test_a_machine_that_stood_still_is_told_and_a_busy_processor_is_none() -> None:
    for what, told in (("CPU: swapper/0", True), ("CPU: php-fpm", False)):
        incident = told_of(GONE, [fact(6050, Stall(0.0, "kernel", 2440.0, what), source="syslog")])
        assert ("the machine stood still for" in english(incident)) is told


def test_the_summary_begins_with_what_came_first() -> None:
    errors = [fact(600 + i * 20, AppError(0.0, "nginx", "error", symptom="backend-down")) for i in range(30)]
    failing = [request(900 + i / 2, f"198.51.100.{i}", "/", status=502) for i in range(100)]
    incident = only([*visits(0, 600), *failing], errors)
    assert english(incident).startswith(f"On {Language('en').time(START_TS + 600)}: nginx: ")
    assert incident.summary.args  # and what weighs most, with its own time
    assert "requests failed within a minute" in english(incident)


def test_a_socket_that_may_not_be_opened_is_opened() -> None:
    text = "connect() to unix:/run/php/php8.2-fpm.sock failed (13: Permission denied) while connecting to upstream"
    denied = [fact(600 + i, AppError(0.0, "nginx", "crit", symptom="backend-down", text=text)) for i in range(9)]
    incident = only(visits(0, 900), denied)
    assert "listen.owner" in incident.remedies[0].apply
    refused = text.replace("13: Permission denied", "111: Connection refused")
    down = [fact(600 + i, AppError(0.0, "nginx", "error", symptom="backend-down", text=refused)) for i in range(9)]
    assert not any("listen.owner" in one.apply for one in only(visits(0, 900), down).remedies)
    absent = text.replace("13: Permission denied", "2: No such file or directory")
    missed = [fact(600 + i, AppError(0.0, "nginx", "crit", symptom="backend-down", text=absent)) for i in range(9)]
    assert not any("grep" in one.apply for one in only(visits(0, 900), missed).remedies)
    ran = fact(590, ServiceState(0.0, "php-fpm", "started"))
    assert any("grep" in one.apply for one in only(visits(0, 900), [ran, *missed]).remedies)
