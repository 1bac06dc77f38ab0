"""Requests that are logged as they end, and had come before the first symptom. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from tocsin.explain.load import Load, key_of, kind_of
from tocsin.explain.model import Accesses, Fact
from tocsin.explain.suspects import Carried
from tocsin.explain.symptoms import events
from tocsin.server_events import LimitReached

_JUST_BEFORE_S = 20.0
_AT_ONCE_S = 5.0
_HELD_S = 120.0
"""A worker is busy with one request no longer: nginx gives up after 60 s, as it comes."""

_NGINX = 499
_GIVEN_UP = frozenset((_NGINX, 504))


class Full(Struct, frozen=True):
    """All workers behind the web server were busy: since when (Unix time), and how many they are."""

    ts: float
    workers: int


def full_of(facts: Iterable[Fact], first_ts: float) -> Full | None:
    """Whether an outage began with that."""
    for fact, event in events(facts, LimitReached):
        if event.limit == "pm.max_children" and event.value and not event.near:
            return Full(fact.ts, event.value) if abs(fact.ts - first_ts) <= _JUST_BEFORE_S else None
    return None


def has_waited(accesses: Accesses, load: Load, one: Carried, full: Full | None) -> bool:
    """Whether the first of a class had come before they were logged: nginx, which alone logs 499, logs a request as it
    ends. Those that it gave up (499, 504), or that fail the moment a server that was silent goes on (502), had waited;
    and what ends first once all workers are busy is what they were busy with.
    """
    if load.measured or all(group.status != _NGINX for group in load.groups):
        return False
    silent = not accesses.groups(one.first_ts - _JUST_BEFORE_S, one.first_ts)
    ended = _GIVEN_UP | {502} if silent else _GIVEN_UP
    earliest = [group for group in one.groups if group.first_ts <= one.first_ts + _AT_ONCE_S]
    given_up = sum(group.requests for group in earliest if group.status in ended)
    return 2 * given_up >= sum(group.requests for group in earliest) or _kept_all_busy(accesses, one, full)


def _kept_all_busy(accesses: Accesses, one: Carried, full: Full | None) -> bool:
    """Whether most of the requests that workers answered first after all were busy are of a class."""
    if full is None:
        return False
    logged = accesses.groups(full.ts, min(one.last_ts, full.ts + _HELD_S) + 1)
    answered = (group for group in logged if group.status is not None and group.status < _NGINX)
    by_workers = (group for group in answered if kind_of(group.method, group.path, group.query) != "asset")
    worked = sorted(by_workers, key=lambda group: group.first_ts)[: full.workers]
    kinds = set(map(key_of, one.groups))
    return 2 * len(worked) >= full.workers and 2 * sum(key_of(group) in kinds for group in worked) >= len(worked)
