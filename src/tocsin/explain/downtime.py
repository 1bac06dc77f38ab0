"""When services were down: told to stop and started again, or stopped and not to be started. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

from tocsin.explain.model import Fact
from tocsin.server_events import ServiceState

_DOWN = frozenset(("died", "failed", "refused", "stopped"))
_NOT_BACK = _DOWN | {"restarting", "recovered"}


class Downtimes:
    """The states of each service, by time."""

    def __init__(self, facts: Iterable[Fact]) -> None:
        self._states: defaultdict[str, list[tuple[float, str]]] = defaultdict(list)
        for fact in facts:
            if isinstance(fact.event, ServiceState):
                self._states[fact.event.service].append((fact.ts, fact.event.state))

    def starts(self) -> list[float]:
        """When any service was ready, or found at its start that it had been killed."""
        return [ts for states in self._states.values() for ts, state in states if state in {"started", "recovered"}]

    def was_down(self, service: str, ts: float, within_s: float) -> bool:
        """Whether a service stopped or died so shortly before."""
        down = {"stopping", "stopped", "died"}
        return any(0 <= ts - at <= within_s for at, state in self._states[service] if state in down)

    def until(self, service: str, ts: float) -> float | None:
        """When a service that is down at a time was ready again; None where no line tells, or it must have been up
        before without one.
        """
        later = (one for one in self._states[service] if one[0] > ts and one[1] not in _NOT_BACK)
        at, state = next(later, (ts, ""))
        return at if state == "started" else None

    def is_last(self, service: str, ts: float) -> bool:
        """Whether nothing is known of a service, or of the kernel that boots, after a time but that it stopped."""
        later = (state for at, state in self._states[service] if at > ts)
        booted = any(at > ts for at, _ in self._states["kernel"])
        return not booted and all(state in {"stopping", "stopped"} for state in later)

    def planned(self) -> list[float]:
        """When services were told to stop; not where they refused to start again."""
        return [
            ts
            for states in self._states.values()
            for i, (ts, state) in enumerate(states)
            if state == "stopping" and not _in_vain(states[i + 1 :])
        ]


def _in_vain(later: Sequence[tuple[float, str]]) -> bool:
    """Whether a service that was told to stop could not be started at first."""
    for _, state in later:
        if state not in {"stopping", "stopped"}:
            return state in {"failed", "refused"}
    return False


def down_at_last(facts: Iterable[Fact], later: Iterable[Fact]) -> list[str]:
    """The services whose last state in some facts is that they are down, and of which the later facts know no other."""
    last: dict[str, str] = {}
    for fact in facts:
        if isinstance(fact.event, ServiceState):
            last[fact.event.service] = fact.event.state
    up = {one.event.service for one in later if isinstance(one.event, ServiceState) and one.event.state not in _DOWN}
    return [service for service, state in last.items() if state in _DOWN and service not in up]
