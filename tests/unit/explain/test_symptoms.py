"""What counts as an outage, and what is everyday noise."""

from __future__ import annotations

import pytest
from explain_made import START_TS, dossier, fact, request, visits
from msgspec import structs

from tocsin.explain.downtime import down_at_last
from tocsin.explain.incident import troubles_of
from tocsin.explain.model import Coverage, Fact
from tocsin.explain.symptoms import symptoms_of
from tocsin.model import HttpRequest
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState, StorageError

OUTAGES: list[ServerEvent] = [
    ProcessKilled(0.0, "apache2", 1, "oom"),
    ProcessKilled(0.0, "backup", 1, "cgroup-oom"),
    LimitReached(0.0, "apache2", "MaxRequestWorkers"),
    LimitReached(0.0, "php-fpm", "pm.max_children", 5),
    StorageError(0.0, "mysql", "full"),
    ServiceState(0.0, "mysql", "failed"),
]
NOISE: list[ServerEvent] = [
    LimitReached(0.0, "php-fpm", "pm.max_children", 12, near=True),
    LimitReached(0.0, "kernel", "listen queue"),
    ServiceState(0.0, "mysql", "stopped"),
    ServiceState(0.0, "mysql", "started"),
    ServiceState(0.0, "motd-news", "died"),
    ServiceState(0.0, "nginx", "refused"),
    ProcessKilled(0.0, "apache2", 1, "signal", "SEGV"),
    AppError(0.0, "apache2", "error", symptom="fatal"),
    AppError(0.0, "apache2", "error", symptom="denied"),
]


@pytest.mark.parametrize("event", OUTAGES, ids=repr)
def test_one_line_that_says_it_all(event: ServerEvent) -> None:
    assert len(troubles_of(symptoms_of(dossier(visits(0, 300), [fact(100, event)])))) == 1


@pytest.mark.parametrize("event", NOISE, ids=repr)
def test_one_line_that_says_little(event: ServerEvent) -> None:
    assert not troubles_of(symptoms_of(dossier(visits(0, 300), [fact(100, event)])))


def test_many_lines_that_say_little_make_an_outage() -> None:
    errors = [fact(100 + i, AppError(0.0, "apache2", "error", symptom="database-down")) for i in range(5)]
    assert len(troubles_of(symptoms_of(dossier(visits(0, 300), errors)))) == 1


def test_what_is_far_apart_in_time_is_two_outages() -> None:
    kills = [fact(ts, ProcessKilled(0.0, "mariadbd", 1, "oom")) for ts in (100, 160, 5000)]
    troubles = troubles_of(symptoms_of(dossier([], kills)))
    assert [(one.start - START_TS, one.end - START_TS) for one in troubles] == [(100, 160), (5000, 5000)]


def failing(ts: float, i: int) -> HttpRequest:
    return request(ts, f"198.51.100.{i}", "/", status=500)


def test_failing_requests_are_an_outage_and_a_few_are_not() -> None:
    few = [failing(60 + i, i) for i in range(4)]
    many = [failing(60 + i / 4, i % 250) for i in range(200)]
    assert not troubles_of(symptoms_of(dossier([*visits(0, 300), *few])))
    (trouble,) = troubles_of(symptoms_of(dossier([*visits(0, 300), *many])))
    assert trouble.of("failed")


def test_an_outage_may_fill_the_greater_part_of_the_logs() -> None:
    many = [failing(90 + i, i % 250) for i in range(210)]
    (trouble,) = troubles_of(symptoms_of(dossier([*visits(0, 300), *many])))
    assert trouble.of("failed")


def test_an_outage_of_slow_requests_begins_with_the_first_of_them() -> None:
    slow = [request(270 + i / 8, "203.0.113.1", "/", duration_s=75.0) for i in range(40)]
    quick = [request(i, f"198.51.100.{i % 200}", "/", duration_s=0.1) for i in range(300)]
    (symptom,) = [one for one in symptoms_of(dossier([*quick, *slow])) if one.kind == "slow"]
    assert 268 <= symptom.ts - START_TS <= 270


def test_silence_where_requests_never_ceased_says_something_and_at_night_it_does_not() -> None:
    busy = [*visits(0, 3600, 1.0), *visits(4500, 8000, 1.0)]
    assert [one.kind for one in symptoms_of(dossier(busy))] == ["silence"]
    seldom = [*visits(0, 3600, 100.0), *visits(4500, 8000, 100.0)]
    assert not symptoms_of(dossier(seldom))


def test_an_operator_who_stops_the_server_causes_no_silence() -> None:
    busy = [*visits(0, 3600, 1.0), *visits(4500, 8000, 1.0)]
    stopped = [fact(3605, ServiceState(0.0, "apache2", "stopping"))]
    assert not [one for one in symptoms_of(dossier(busy, stopped)) if one.kind == "silence"]


def test_a_server_that_was_stopped_and_does_not_come_back() -> None:
    facts = [fact(100, ServiceState(0.0, "nginx", "stopped")), fact(102, ServiceState(0.0, "nginx", "refused"))]
    assert len(troubles_of(symptoms_of(dossier(visits(0, 100), facts)))) == 1


def state(ts: float, service: str, state: str) -> Fact:
    return fact(ts, ServiceState(ts, service, state))  # type: ignore[arg-type]


UPGRADE = [
    state(3605, "nginx", "stopping"),
    state(3606, "nginx", "stopped"),
    state(3607, "nginx", "refused"),
    state(3607.1, "nginx", "failed"),
]


def test_a_service_that_refuses_to_start_again_is_down_until_it_is_started() -> None:
    """The stop was planned, what followed was not: neither is the silence the operator's, nor is it over at once."""
    busy = [*visits(0, 3600, 1.0), *visits(9000, 9600, 1.0)]
    found = symptoms_of(dossier(busy, [*UPGRADE, state(8990, "nginx", "started")]))
    assert "silence" in [one.kind for one in found]
    (trouble,) = troubles_of([one for one in found if one.kind != "silence"])
    assert (trouble.start - START_TS, trouble.end - START_TS) == (3607, 8990)


def test_a_service_that_was_started_in_time_unseen_is_not_down_until_its_next_start() -> None:
    later = [state(8000, "nginx", "stopping"), state(8010, "nginx", "started")]
    (trouble,) = troubles_of(symptoms_of(dossier((), [*UPGRADE, *later])))
    assert trouble.end == UPGRADE[-1].ts


def test_what_was_started_after_the_outage_need_not_be_started() -> None:
    assert down_at_last(UPGRADE, []) == ["nginx"]
    assert down_at_last(UPGRADE, [state(9000, "nginx", "started")]) == []


@pytest.mark.parametrize(("at_night", "number"), [(500, 1), (200, 2)])
def test_what_fails_on_in_a_quiet_hour_is_one_outage(at_night: int, number: int) -> None:
    """Two requests a minute are no symptom, but where none of them is answered nothing has come back."""
    many = [failing(600 + i / 4, i % 250) for i in range(240)] + [failing(4200 + i / 4, i % 250) for i in range(240)]
    few = [request(690 + i * 30, f"198.51.100.{i}", "/", status=at_night) for i in range(116)]
    made = dossier([*visits(0, 600), *many, *few])
    assert len(troubles_of(symptoms_of(made), made.accesses)) == number


@pytest.mark.parametrize(
    ("goes_on", "then", "outages"),
    [
        (345, [], 1),
        (310, [], 0),  # the machine was shut down
        (345, [(301.0, "started")], 0),
        (345, [(330.0, "stopped")], 1),
    ],
)
def test_a_web_server_that_is_told_to_stop_and_does_not_come_back_is_down(
    goes_on: float, then: list[tuple[float, str]], outages: int
) -> None:
    states = [(300.0, "stopping"), *then]
    facts = [fact(ts, ServiceState(0.0, "apache2", state)) for ts, state in states]  # type: ignore[arg-type]
    system = Coverage("syslog", "system", START_TS, START_TS + goes_on, 100, 0)
    made = structs.replace(dossier(visits(0, 299), facts), coverage=(system,))
    assert len(troubles_of(symptoms_of(made), made.accesses)) == outages
