"""The picture of an outage: what the classes of requests asked for, step by step, against the symptoms. Pure."""

from __future__ import annotations

import math

from tocsin.explain.accuse import Accused
from tocsin.explain.capacity import Capacity
from tocsin.explain.incident import Trouble
from tocsin.explain.load import Key, Load, key_of
from tocsin.explain.model import Accesses, Mark, Series, Timeline, say
from tocsin.explain.symptoms import Symptom

_STEPS = 120
_MARKS = 40
_LEAST_STEP_S = 5.0


def timeline_of(
    trouble: Trouble, accesses: Accesses, load: Load | None, top: Accused | None, capacity: Capacity
) -> Timeline | None:
    """Load by class against symptoms, from well before the first to the end; None without an access log."""
    if load is None:
        return None
    span = max(load.end - load.start, 60.0)
    start = max(accesses.start or load.start, load.start - span)
    end = min(max(trouble.end, load.end) + span / 3, start + 6 * span)
    step_s = max(_LEAST_STEP_S, (end - start) / _STEPS)
    suspected = {key_of(group) for group in top.carried.groups} if top is not None and top.carried else set()
    ours, rest = _busy(accesses, load, suspected, (start, end, step_s))
    series = [Series(say("everything else"), tuple(rest))]
    if suspected and top is not None and top.carried is not None:
        series.append(Series(top.suspect.name, tuple(ours), suspect=True))
    marks = tuple(Mark(one.ts, one.kind, one.text) for one in _telling(trouble) if start <= one.ts <= end)
    fitting = capacity.fitting
    unit = say("workers busy") if load.measured else say("workers busy (estimated from the kind of request)")
    return Timeline(start, step_s, unit, tuple(series), marks, float(fitting) if fitting else None)


def _busy(
    accesses: Accesses, load: Load, suspected: set[Key], span: tuple[float, float, float]
) -> tuple[list[float], list[float]]:
    """The workers that the suspected requests needed in each step, and those that all others did."""
    start, end, step_s = span
    number = max(1, math.ceil((end - start) / step_s))
    ours, rest = [0.0] * number, [0.0] * number
    for one in accesses.steps(step_s, start, end):
        key = one.method, one.path, one.query, one.vhost, one.user_agent
        cell = load.cells.get(key)
        known = (cell.now + cell.before) if cell else 0
        unit = (cell.now_cost + cell.before_cost) / known if cell and known else load.unit_s
        at = min(number - 1, round((one.ts - start) / step_s))
        (ours if key in suspected else rest)[at] += unit * one.requests / step_s
    return ours, rest


def _telling(trouble: Trouble) -> list[Symptom]:
    """The symptoms that say most, in order of time."""
    heaviest = sorted(trouble.symptoms, key=lambda one: -one.weight)[:_MARKS]
    return sorted(heaviest, key=lambda one: one.ts)
