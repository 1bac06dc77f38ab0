"""A class of requests that goes on after the last symptom: Apache says but once that it is full. Pure."""

from __future__ import annotations

from msgspec import structs

from tocsin.explain.accuse import Accused, senders
from tocsin.explain.load import Load
from tocsin.explain.model import Accesses, Actor

_STEP_S = 600.0
_MOST_STEPS = 12
"""Two hours, each step one question."""

_ABOUT = 0.5
_ABOVE = 4.0
"""So many times its rate before the outage a class must come, or it is visitors who go on."""


def lasting_until(accesses: Accesses, load: Load, top: Accused, end: float) -> float:
    """Until when from `end` on the class of the first suspect kept about its rate without a break."""
    signature, one = top.suspect.signature, top.carried
    if signature is None or one is None or accesses.end is None or end <= load.start:
        return end
    least = _ABOUT * accesses.hits(signature, load.start, end)[0] / (end - load.start)
    before = one.contrast.before / load.before_s if load.before_s else 0.0
    least = max(least, _ABOVE * before)
    for _ in range(_MOST_STEPS):
        if end + _STEP_S > accesses.end or accesses.hits(signature, end, end + _STEP_S)[0] < least * _STEP_S:
            break
        end += _STEP_S
    return end


def of_all(accesses: Accesses, load: Load, top: Accused, end: float) -> Accused:
    """The first suspect with all who sent its class until `end`."""
    if top.suspect.signature is None:
        return top
    sent = senders(accesses, top.rose or (top.suspect.signature,), load.start, end)
    actors = tuple(Actor(*one) for one in sent)
    number = sum(actor.requests for actor in actors)
    return structs.replace(top, suspect=structs.replace(top.suspect, actors=actors, requests=number))
