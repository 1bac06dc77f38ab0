"""Suspects that are no requests: storage, jobs on the machine, programs that fail by themselves, connections that never
become requests, and limits that were never right. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tocsin.explain.accuse import Accused
from tocsin.explain.capacity import Capacity
from tocsin.explain.incident import Trouble
from tocsin.explain.jobs import CLEAR, jobs_of
from tocsin.explain.load import Load
from tocsin.explain.losses import failures_of
from tocsin.explain.model import Accesses, Actor, Fact, Suspect, say
from tocsin.explain.symptoms import events
from tocsin.server_events import LimitReached, ProcessKilled, Sample, StorageError

_HOLDS_NOTHING = frozenset(("TIME_WAIT", "FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "CLOSING"))
"""States of connections that no worker serves any more."""

_AT_ONCE_S = 10.0
_GOES_ON_S = 30.0
_GOES_ON_SHARE = 0.4


def culprits_of(
    trouble: Trouble, facts: Sequence[Fact], accesses: Accesses, load: Load | None, capacity: Capacity
) -> list[Accused]:
    """The suspects that the facts around an outage name, the likeliest first. `facts` reach back for an hour."""
    found = [
        *_storage(facts),
        *jobs_of(trouble, facts, load, capacity),
        *failures_of(trouble, facts),
        *_connections(trouble, facts, accesses, load),
        *_limits(facts, accesses, load, capacity),
    ]
    return sorted(found, key=lambda one: -one.score)


def _storage(facts: Sequence[Fact]) -> Iterable[Accused]:
    full = [(fact, event) for fact, event in events(facts, StorageError) if event.error in {"full", "inodes"}]
    if not full:
        return
    event = full[0][1]
    killed = any(event.by != "signal" for _, event in events(facts, ProcessKilled))
    where = event.path or event.service
    lines = sum(each.count for each, _ in full)
    why = say(
        "{lines} lines say that there was no room left, the first by {service}", lines=lines, service=event.service
    )
    against = say("processes were killed for want of memory as well") if killed else None
    suspect = Suspect("storage", "disk-full", say("no room left: {where}", where=where), why, counter_evidence=against)
    yield Accused(suspect, 0.6 if killed else 0.97)


# -- connections -------------------------------------------------------------------------------------------------------


def _connections(trouble: Trouble, facts: Sequence[Fact], accesses: Accesses, load: Load | None) -> Iterable[Accused]:
    """Workers held by connections that never complete a request: they leave 408s, or nothing but the lack of others."""
    end = trouble.end + 120
    groups = [] if load is None else accesses.groups(load.start - 60, end)
    late = [group for group in groups if group.status in {400, 408}]
    timeouts = sum(group.requests for group in late)
    usual = 0.0
    if load is not None and load.before_s:
        before = load.broken_before
        usual = before / load.before_s * (end - load.start + 60)
    holders = _holders_of_connections(facts)
    reached = [fact.ts for fact, event in events(facts, LimitReached) if _is_web(event.service) and not event.near]
    saturated = bool(reached)
    killed = [fact.ts for fact, event in events(facts, ProcessKilled) if event.by != "signal"]
    starved = bool(killed) and (not reached or killed[0] <= reached[0] + _AT_ONCE_S)
    others = sum(group.requests for group in groups) - timeouts
    score = 0.0
    if timeouts >= 10 and timeouts >= 5 * usual:
        score = 0.5 + 0.2 * saturated + 0.25 * min(1.0, 2 * timeouts / max(1, others))
    # a server that goes silent for long was thrashing: slow clients leave it room to answer others now and then
    if saturated and not starved and not trouble.of("silence") and load is not None and _is_thin(load, trouble):
        # where some requests rose clearly, few but dear ones may be what kept the workers
        score = max(score, 0.72 if load.rise < CLEAR else 0.45)
    if sum(number for _, number in holders) >= 20 and saturated:
        score = max(score, 0.6)
    if score:
        yield Accused(_slow_suspect(late, timeouts, holders), min(score, 0.95) * (0.7 if starved else 1.0))


def _is_web(service: str) -> bool:
    """Whether clients talk to it themselves: PHP-FPM gets only requests that came in whole."""
    return service != "kernel" and not service.startswith("php-fpm")


def _is_thin(load: Load, trouble: Trouble) -> bool:
    """Whether fewer requests than usual were completed while every worker was busy."""
    if not load.before_s or trouble.end - trouble.start < 10:
        return False
    done = sum(group.requests for group in load.groups if group.first_ts >= trouble.start)
    usual = sum(group.requests for group in load.before) / load.before_s
    return done / max(1.0, load.end - trouble.start) < 0.6 * usual


def _holders_of_connections(facts: Sequence[Fact]) -> list[tuple[str, int]]:
    most: Counter[str] = Counter()
    for _, sample in events(facts, Sample):
        for one in sample.connections:
            if one.state in _HOLDS_NOTHING:
                continue
            most[one.source_ip] = max(most[one.source_ip], one.count)
    return [(address, number) for address, number in most.most_common() if number >= 5]


def _slow_suspect(late: list, timeouts: int, holders: list[tuple[str, int]]) -> Suspect:  # type: ignore[type-arg]
    actors: Counter[str] = Counter()
    for group in late:
        if group.source_ip is not None:
            actors[group.source_ip] += group.requests
    for address, number in holders:
        actors[address] = max(actors[address], number)
    if timeouts:
        why = say("{timeouts} connections held a worker and never completed a request (408)", timeouts=timeouts)
        against = None
    else:
        why = say("every worker was busy while fewer requests than usual were completed")
        against = say("connections that hold a worker leave no line: it is inferred from what is missing")
    return Suspect(
        "connections",
        "slow-connections",
        say("connections that never complete a request"),
        why,
        actors=tuple(Actor(address, number) for address, number in actors.most_common()),
        requests=timeouts,
        counter_evidence=against,
    )


# -- limits ------------------------------------------------------------------------------------------------------------


def _limits(facts: Sequence[Fact], accesses: Accesses, load: Load | None, capacity: Capacity) -> Iterable[Accused]:
    """More workers allowed, or running, than memory holds: then any burst brings the server down."""
    starved = any(event.by != "signal" for _, event in events(facts, ProcessKilled))
    reached = [one for one in events(facts, LimitReached) if not one[1].near and one[1].limit != "listen queue"]
    if reached and not starved and (load is None or (load.rise < CLEAR and _goes_on(accesses, load, reached[0][0].ts))):
        limit = reached[0][1]
        name = say("{limit} of {service}", limit=limit.limit, service=limit.service)
        why = say("ordinary load reached it: nothing came that does not come otherwise")
        suspect = Suspect("limit", "misconfiguration", name, why, process=limit.service)
        yield Accused(suspect, 0.45 if load is not None else 0.25)
    if not starved or not capacity.worker_bytes or not capacity.memory_bytes or not capacity.workers:
        return
    share = capacity.workers * capacity.worker_bytes / capacity.memory_bytes
    if share < 0.5:
        return
    why = say(
        "{workers} processes of {worker} held {held:size}, {share:share} of the memory; {fitting} fit beside the rest",
        workers=capacity.workers,
        worker=capacity.worker,
        held=capacity.workers * capacity.worker_bytes,
        share=min(1.0, share),
        fitting=capacity.fitting,
    )
    ordinary = load is not None and load.before_s > 0 and load.rise < CLEAR
    suspect = Suspect(
        "limit",
        "misconfiguration",
        say("more {worker} than the memory holds", worker=capacity.worker),
        why,
        process=capacity.worker,
        share=min(1.0, share),
        counter_evidence=None if ordinary else say("it needed something that called for so many workers at once"),
    )
    yield Accused(suspect, 0.6 if ordinary else 0.29)


def _goes_on(accesses: Accesses, load: Load, ts: float) -> bool:
    """Whether requests were completed after `ts` as before it. Else those that held the workers never got as far as the
    log, and that they were ordinary is not known.
    """
    if not load.before_s:
        return True
    done = sum(group.requests for group in accesses.groups(ts, ts + _GOES_ON_S))
    return done >= _GOES_ON_SHARE * _GOES_ON_S * sum(group.requests for group in load.before) / load.before_s
