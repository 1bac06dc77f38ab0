"""What says that the server was not well: facts of its logs, requests that failed, silence. Pure.

A symptom weighs what it says by itself: 1 is an outage (a process killed for want of memory), less needs company (one
failed request says nothing). Weights are judgements; each stands beside its reason.
"""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

from msgspec import Struct

from tocsin.explain.downtime import Downtimes
from tocsin.explain.model import Accesses, Dossier, Fact, Rate, Said, say
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServiceState, Stall, StorageError

STEP_S = 60.0
"""In which the requests are looked at."""

SERVING = frozenset(
    [
        "apache2",
        "httpd",
        "nginx",
        "php-fpm",
        "php-cgi",
        "mysql",
        "mysqld",
        "mariadb",
        "mariadbd",
        "postgresql",
        "postgres",
        "redis",
        "redis-server",
        "memcached",
        "caddy",
        "traefik",
        "haproxy",
        "varnishd",
        "lighttpd",
    ]
)
"""Programs without which a site does not answer."""

_APP_WEIGHTS = {
    "database-down": 0.25,  # each visitor who met it; four within the cluster are an outage
    "backend-down": 0.25,
    "out-of-memory": 0.25,
    "backend-slow": 0.15,
    "timeout": 0.05,  # a client that was too slow: a hundred phones on bad lines are no outage
    "fatal": 0.02,  # a broken plugin fails on its own page all day
}
_DOWN_S = 300.0
_FAILED_LEAST = 5
_FAILED_SHARE = 0.3
_FAILED_MANY = 20
_FINE_S = 2.0
_TOGETHER_S = 30 * STEP_S
_TIMEOUTS_LEAST = 10
_SLOW_S = 8.0
_SILENCE_LEAST_S = 60.0
_GOES_ON = frozenset(("system", "snapshot"))
"""Logs that go on whatever becomes of the site."""

_WEB_SERVERS = frozenset(("apache2", "httpd", "nginx"))
_CEASES_S = 10.0
_STARTS_S = 30.0
"""By then a web server that is started again has been, and a machine that shuts down has."""

_MOST_SILENCES = 12
_SILENCE_EXPECTED = 20.0
"""So many requests would have come: by chance, none do once in 5e8 times."""

_Event = TypeVar("_Event")


class Symptom(Struct, frozen=True):
    """Something was wrong at `ts`. `kind` groups them: `killed`, `limit`, `state`, `storage`, `error`, `failed`,
    `timeout`, `slow`, `silence`, `stall`. `until` is where it ends, where it lasts. `fact` proves it, where a single
    line does.
    """

    ts: float
    kind: str
    weight: float
    text: Said
    fact: Fact | None = None
    until: float | None = None

    @property
    def end(self) -> float:
        """The last moment of it."""
        return self.ts if self.until is None else self.until


def symptoms_of(dossier: Dossier) -> list[Symptom]:
    """Every symptom, by time."""
    down = Downtimes(dossier.facts)
    found = [symptom for fact in dossier.facts for symptom in _of_fact(fact, down)]
    found += _of_requests(dossier.accesses, down.planned(), down.starts())
    found += _falling_silent(dossier)
    found += _not_back(dossier, down)
    return sorted(found, key=lambda symptom: symptom.ts)


def events(facts: Iterable[Fact], kind: type[_Event]) -> Iterator[tuple[Fact, _Event]]:
    """The facts of one kind with their events."""
    for fact in facts:
        if isinstance(fact.event, kind):
            yield fact, fact.event


def is_standstill(stall: Stall) -> bool:
    """Whether the whole machine stood still: the kernel found its own idle task stuck, which nothing on it can hold."""
    return stall.service == "kernel" and stall.what.startswith("CPU: swapper")


def is_serving(service: str) -> bool:
    """Whether the site needs this program to answer."""
    return service in SERVING or service.startswith(("php-fpm", "postgres", "mysql", "mariadb"))


# -- facts -------------------------------------------------------------------------------------------------------------


def _of_fact(fact: Fact, down: Downtimes) -> Iterator[Symptom]:
    event = fact.event
    if isinstance(event, ProcessKilled):
        yield _killed(fact, event)
    elif isinstance(event, LimitReached):
        if not event.near and event.limit != "header timeout":
            text = say("{service} reached its limit {limit}", service=event.service, limit=event.limit)
            # a full queue of the kernel's may be one burst; the others mean that somebody waited
            weight = 0.3 if event.service == "kernel" and event.limit == "listen queue" else 1.0
            yield Symptom(fact.ts, "limit", weight, text, fact)
    elif isinstance(event, ServiceState):
        yield from _state(fact, event, down)
    elif isinstance(event, StorageError):
        text = say("{service} could not write: storage is {error}", service=event.service, error=event.error)
        yield Symptom(fact.ts, "storage", 1.0, text, fact)
    elif isinstance(event, Stall):
        text = say("{service} stood still for {span:span}", service=event.service, span=event.duration_s)
        if is_standstill(event):
            text = say("the machine stood still for {span:span}", span=event.duration_s)
        yield Symptom(fact.ts - event.duration_s, "stall", min(0.6, event.duration_s / 100), text, fact, fact.ts)
    elif isinstance(event, AppError) and event.symptom in _APP_WEIGHTS:
        weight = min(1.0, _APP_WEIGHTS[event.symptom] * fact.count)
        text = say("{service}: {symptom}", service=event.service, symptom=event.symptom)
        yield Symptom(fact.ts, "error", weight, text, fact)


def _killed(fact: Fact, event: ProcessKilled) -> Symptom:
    if event.by == "signal":
        text = say("{process} was ended by signal {signal}", process=event.process, signal=event.signal or "?")
        # somebody's kill -9, or the kernel's for want of memory where its own log does not say so
        weight = 1.0 if event.signal == "KILL" else 0.4
        return Symptom(fact.ts, "killed", weight if is_serving(event.process) else 0.1, text, fact)
    if event.rss_bytes:
        text = say(
            "out of memory: {process} was killed, holding {rss:size}", process=event.process, rss=event.rss_bytes
        )
    else:
        text = say("out of memory: {process} was killed", process=event.process)
    return Symptom(fact.ts, "killed", 1.0, text, fact)


def _state(fact: Fact, event: ServiceState, down: Downtimes) -> Iterator[Symptom]:
    weight = {"died": 0.6, "failed": 1.0, "refused": 0.6, "recovered": 0.5}.get(event.state, 0.0)
    if event.state == "refused" and down.was_down(event.service, fact.ts, _DOWN_S):
        weight = 1.0  # else it may be a test of the configuration, or a second start beside a server that runs
    if weight and is_serving(event.service):
        text = {
            "died": say("{service} died", service=event.service),
            "failed": say("{service} stays down: its supervisor gave up", service=event.service),
            "refused": say("{service} refused to start", service=event.service),
            "recovered": say("{service} found that it had been killed", service=event.service),
        }[event.state]
        until = down.until(event.service, fact.ts) if weight == 1.0 else None
        yield Symptom(fact.ts, "state", weight, text, fact, until)


# -- requests ----------------------------------------------------------------------------------------------------------


def _of_requests(accesses: Accesses, told_to_stop: list[float], started: list[float]) -> Iterator[Symptom]:
    rates = accesses.rates(STEP_S)
    usual = _usual(rates)
    fine = _Fine(accesses)
    for rate in rates:
        yield from _failing(fine, rate, usual)
        yield from _slow(fine, rate, usual)
    for start, end in _silences(rates, told_to_stop):
        text = say("no request was logged for {span:span}", span=end - start)
        # after which something had to be started again: then it was no gap of the log's
        weight = 1.0 if any(start - STEP_S <= ts <= end + _DOWN_S for ts in started) else 0.7
        yield Symptom(start, "silence", weight, text, None, end)


class _Usual(Struct, frozen=True):
    """What is so on this site all the time: the lower quartile, since an outage may well fill half of the logs."""

    failed: float
    timeouts: float
    slowest_s: float


def _usual(rates: list[Rate]) -> _Usual:
    slow = _quartile([rate.slowest_s for rate in rates if rate.slowest_s is not None])
    return _Usual(_quartile([rate.failed for rate in rates]), _quartile([rate.timeouts for rate in rates]), slow)


def _quartile(values: list[float] | list[int]) -> float:
    return sorted(values)[len(values) // 4] if values else 0.0


def _failing(fine: _Fine, rate: Rate, usual: _Usual) -> Iterator[Symptom]:
    """Failing requests and connections that came to nothing, from the first of them within the minute.

    What counts is their number where it is great, else their share: an attack's own requests may well be answered
    with 200 while every visitor is failed.
    """
    much = rate.failed >= _FAILED_LEAST and rate.failed >= _FAILED_SHARE * rate.requests
    if (much or rate.failed >= _FAILED_MANY) and rate.failed >= 5 * usual.failed:
        text = say("{failed} of {requests} requests failed within a minute", failed=rate.failed, requests=rate.requests)
        start = fine.first(rate, lambda step: step.failed >= 2)
        yield Symptom(start, "failed", min(1.0, rate.failed / 20), text, None, rate.ts + STEP_S)
    if rate.timeouts >= _TIMEOUTS_LEAST and rate.timeouts >= 5 * usual.timeouts:
        text = say("{timeouts} connections within a minute never completed a request", timeouts=rate.timeouts)
        start = fine.first(rate, lambda step: step.timeouts >= 1)
        yield Symptom(start, "timeout", min(0.8, rate.timeouts / 40), text, None, rate.ts + STEP_S)


class _Fine:
    """The steps within minutes. They are asked for by the half hour: where one minute is bad, the next ones are."""

    def __init__(self, accesses: Accesses) -> None:
        self._accesses = accesses
        self._until = float("-inf")
        self._steps: list[Rate] = []

    def first(self, rate: Rate, shows: Callable[[Rate], bool]) -> float:
        """Where within a minute it began; minutes ascend."""
        if rate.ts >= self._until:
            self._until = rate.ts + _TOGETHER_S
            self._steps = self._accesses.rates(_FINE_S, rate.ts, self._until)
        within = (step for step in self._steps if rate.ts <= step.ts < rate.ts + STEP_S)
        return next((step.ts for step in within if shows(step)), rate.ts)


def _slow(fine: _Fine, rate: Rate, usual: _Usual) -> Iterator[Symptom]:
    if rate.busy_s is None or rate.slowest_s is None or rate.requests < _FAILED_LEAST:
        return
    mean_s, much_s = rate.busy_s / rate.requests, max(_SLOW_S, 4 * usual.slowest_s)
    if mean_s > 1.0 and rate.slowest_s > much_s:
        start = fine.first(rate, lambda step: (step.slowest_s or 0.0) > much_s)
        text = say(
            "requests took {mean:span} on average, the slowest {slowest:span}", mean=mean_s, slowest=rate.slowest_s
        )
        yield Symptom(start, "slow", min(0.6, mean_s / 5), text, None, rate.ts + STEP_S)


def _silences(rates: list[Rate], told_to_stop: list[float]) -> list[tuple[float, float]]:
    """Spans without a request that the rate of the hour before them, and that of the same hour of other days, make
    impossible by chance. None where the log is full of such spans: then it was sampled, or cut.
    """
    hourly: dict[int, list[int]] = defaultdict(list)
    for rate in rates:
        hourly[int(rate.ts // 3600) % 24].append(rate.requests)
    found = []
    for i in range(1, len(rates)):
        start, end = rates[i - 1].ts + STEP_S, rates[i].ts
        if end - start < _SILENCE_LEAST_S:
            continue
        recent = [rate.requests for rate in rates[max(0, i - 60) : i] if rate.ts > start - 3600]
        per_step = min(sum(recent) / min(60.0, (start - rates[0].ts) / STEP_S), _mean(hourly[int(start // 3600) % 24]))
        # bursts come in visits: five requests of one visitor are one event
        if per_step / 5 * (end - start) / STEP_S < _SILENCE_EXPECTED:
            continue
        if not any(start - 2 * STEP_S <= ts <= end for ts in told_to_stop):
            found.append((start, end))
    return found if len(found) <= _MOST_SILENCES else []


def _falling_silent(dossier: Dossier) -> Iterator[Symptom]:
    """Requests that cease while the machine's other logs go on: a server that never came back leaves no gap, but an
    end.
    """
    accesses = dossier.accesses
    others = [one.end for one in dossier.coverage if one.kind in _GOES_ON and one.end is not None]
    if accesses.end is None or not others:
        return
    start, end = accesses.end, min(max(others), accesses.end + 3600)
    recent = sum(rate.requests for rate in accesses.rates(STEP_S, start - 3600, start))
    lasted_s = min(3600.0, start - (accesses.start or start))
    if end - start >= _SILENCE_LEAST_S and recent / 5 / max(STEP_S, lasted_s) * (end - start) >= _SILENCE_EXPECTED:
        text = say("no request was logged any more, while other logs go on for {span:span}", span=end - start)
        yield Symptom(start, "silence", 0.5, text, None, min(end, start + STEP_S))


def _not_back(dossier: Dossier, down: Downtimes) -> Iterator[Symptom]:
    """A web server that was told to stop, and of which no line tells anything more, while the machine goes on: one that
    shuts down ends all of its logs.
    """
    accesses = dossier.accesses
    goes_on = max((one.end for one in dossier.coverage if one.kind in _GOES_ON and one.end is not None), default=0.0)
    for fact, event in events(dossier.facts, ServiceState):
        told = event.service in _WEB_SERVERS and event.state in {"stopping", "stopped"}
        if not told or not down.is_last(event.service, fact.ts):
            continue
        ceased = accesses.end is not None and abs(accesses.end - fact.ts) <= _CEASES_S
        if ceased and fact.ts + _STARTS_S <= goes_on:
            yield Symptom(
                fact.ts, "state", 1.0, say("{service} did not come back", service=event.service), fact, goes_on
            )
            break


def _mean(values: list[int]) -> float:
    return math.fsum(values) / len(values) if values else 0.0


def most_common(texts: Iterable[str], key: Callable[[str], str] = str) -> str:
    """The text that occurs most often; empty where there is none."""
    counted = Counter(map(key, texts))
    return counted.most_common(1)[0][0] if counted else ""
