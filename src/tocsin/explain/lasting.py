"""A class of requests from its beginning, which may lie hours before the first symptom, to its end, which may lie after
the last: Apache says but once that it is full. Pure.
"""

from __future__ import annotations

from msgspec import structs

from tocsin.explain.accuse import Accused, senders
from tocsin.explain.kinds import before_of
from tocsin.explain.load import Load
from tocsin.explain.model import Accesses, Actor

_STEP_S = 600.0
_MOST_STEPS = 12
"""Two hours, each step one question."""

_ABOUT = 0.5
_RISING = 0.2
"""The parts of its rate in the outage that a class keeps while it goes on, and has while it rises."""

_ASKED = 3
"""Of the kinds of requests in a class that says too little by itself, so many are asked for."""

_ABOVE = 4.0
"""So many times its rate before the outage a class must come, or it is visitors who go on."""


def span_of(accesses: Accesses, load: Load, top: Accused, end: float) -> tuple[float, float]:
    """From when on, before the load's start, and until when, from `end` on, the class of the first suspect came without
    a break.
    """
    signature, one, start = top.suspect.signature, top.carried, load.start
    if signature is None or one is None or accesses.start is None or accesses.end is None or end <= start:
        return start, end
    kinds = top.rose[:_ASKED] or (signature,)
    before = before_of(load, kinds) if top.rose else one.contrast.before
    usual = _ABOVE * before / load.before_s if load.before_s else 0.0

    def number(first: float, last: float) -> int:
        return sum(accesses.hits(kind, first, last)[0] for kind in kinds)

    rate = number(start, end) / (end - start)
    for _ in range(_MOST_STEPS if load.before_s else 0):
        earlier = start - _STEP_S
        least = max(_RISING * rate, usual) * _STEP_S
        if earlier < accesses.start or number(earlier, start) < least:
            break
        start = earlier
    for _ in range(_MOST_STEPS):
        least = max(_ABOUT * rate, usual) * _STEP_S
        if end + _STEP_S > accesses.end or number(end, end + _STEP_S) < least:
            break
        end += _STEP_S
    return start, end


def of_all(accesses: Accesses, top: Accused, span: tuple[float, float]) -> Accused:
    """The first suspect with all who sent its class in a span."""
    if top.suspect.signature is None:
        return top
    sent = senders(accesses, top.rose or (top.suspect.signature,), *span)
    actors = tuple(Actor(*one) for one in sent)
    number = sum(actor.requests for actor in actors)
    return structs.replace(top, suspect=structs.replace(top.suspect, actors=actors, requests=number))
