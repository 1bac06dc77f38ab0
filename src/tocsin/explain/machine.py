"""What befell the machine itself: it was not shut down and booted, it stood still. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tocsin.explain.incident import Trouble
from tocsin.explain.model import Coverage, Fact, Link, say
from tocsin.explain.symptoms import events, is_standstill
from tocsin.server_events import ServiceState, Stall

_SHUTDOWN_S = 900.0
"""A shutdown, and a boot after it, take no longer."""

_HEARD_S = 600.0
"""So long before a boot a log must speak, or how the machine went down stood in another one."""


def befallen(trouble: Trouble, facts: Sequence[Fact], coverage: Sequence[Coverage]) -> Iterator[Link]:
    """What befell the machine within an outage, each with the line that proves it."""
    heard = {one.source: one.start for one in coverage if one.start is not None}
    last_ts = trouble.end + _HEARD_S
    for fact, event in events(facts, ServiceState):
        is_boot = event.service == "kernel" and event.state == "started" and trouble.start <= fact.ts <= last_ts
        if is_boot and heard.get(fact.source, fact.ts) < fact.ts - _HEARD_S and not _is_told(fact, facts):
            text = say("the machine was not shut down, and booted at {ts:time}", ts=fact.ts)
            yield Link(fact.ts, text, True, fact.source, fact.line, fact.text, main=True)
            break
    for fact, stall in events(facts, Stall):
        if is_standstill(stall) and trouble.start <= fact.ts <= last_ts:
            text = say("the machine stood still for {span:span}", span=stall.duration_s)
            yield Link(fact.ts, text, True, fact.source, fact.line, fact.text, main=True)
            break


def _is_told(boot: Fact, facts: Sequence[Fact]) -> bool:
    """Whether the machine, or anything on it, was told to stop shortly before it booted."""
    told = {"stopping", "stopped"}
    return any(
        boot.ts - _SHUTDOWN_S <= fact.ts < boot.ts and event.state in told
        for fact, event in events(facts, ServiceState)
    )
