"""Programs that fail by themselves, and services that are lost before anything else goes wrong: what fails
after that is an effect. Pure.
"""

from __future__ import annotations

import textwrap
from collections import Counter
from collections.abc import Iterable, Sequence

from msgspec import Struct

from tocsin.explain.accuse import Accused
from tocsin.explain.incident import Trouble
from tocsin.explain.model import Fact, Said, Suspect, Value, say
from tocsin.explain.symptoms import events, is_serving
from tocsin.server_events import AppError, Changed, ProcessKilled, ServiceState, StorageError

_FATAL_SIGNALS = frozenset(("SEGV", "ABRT", "BUS", "ILL", "FPE", "SYS", "TRAP"))
_SEEN = 0.9
"""How strongly it speaks against a service that it was gone before anything else went wrong."""

_ENDED = 0.6
_MOST_QUOTED = 160
_AT_ONCE_S = 5.0
_SOON_S = 30.0
"""Within this pages miss a service that is gone."""

_AFTERMATH_S = 120.0
_DOWN = frozenset(("stopping", "stopped", "died", "failed", "refused"))
_TOLD = frozenset(("stopping", "stopped"))
_BY_LOAD = frozenset(("limit", "storage", "stall"))
_CROWDED = "too many connections"
_NOBODY = ("refused", "no such file")
"""What a web server finds where no backend listens: one that is only busy lets it wait."""


class Loss(Struct, frozen=True):
    """When a service was gone; by which line, where one tells: else pages found it gone."""

    ts: float
    state: ServiceState | None = None

    @property
    def is_told(self) -> bool:
        """Whether somebody, or a program, told it to stop."""
        return self.state is not None and self.state.state in _TOLD

    @property
    def is_fault(self) -> bool:
        """Whether it ended by a fault of its own: what is sent KILL may have been killed for want of memory."""
        return self.state is not None and not self.is_told and "KILL" not in self.state.detail


def loss_of(trouble: Trouble, facts: Sequence[Fact]) -> Loss | None:
    """The loss that an outage begins with; None where load, memory or storage may have come first."""
    opening = [one for one in trouble.symptoms if one.ts <= trouble.start + _AT_ONCE_S]
    killed = (one.fact.event for one in opening if one.fact is not None)
    starved = any(isinstance(event, ProcessKilled) and event.by != "signal" for event in killed)
    if starved or any(one.kind in _BY_LOAD for one in opening):
        return None
    first_s, last_s = trouble.start - _SOON_S, trouble.start + _AT_ONCE_S
    states = [(fact.ts, event) for fact, event in events(facts, ServiceState) if is_serving(event.service)]
    for ts, event in states:
        if event.state in _DOWN and first_s <= ts <= last_s and not _is_restart(trouble, ts, event, states):
            return Loss(ts, event)
    shown = opening[0].fact
    return Loss(shown.ts) if shown is not None and _tells_of_loss(shown) else None


def _tells_of_loss(shown: Fact) -> bool:
    """Whether a line says that nobody answers, not that whoever does is busy."""
    event = shown.event
    if not isinstance(event, AppError):
        return False
    text = f"{event.text} {shown.text}".lower()
    if event.symptom == "backend-down":
        return any(words in text for words in _NOBODY)
    return event.symptom == "database-down" and _CROWDED not in text


def _is_restart(trouble: Trouble, ts: float, event: ServiceState, states: Sequence[tuple[float, ServiceState]]) -> bool:
    """Whether a service that was told to stop was back before the outage began, or long before it ended."""
    if event.state not in _TOLD:
        return False
    later = [(at, one.state) for at, one in states if at >= ts and one.service == event.service]
    back_ts = next((at for at, state in later if state == "started"), float("inf"))
    return back_ts <= trouble.start or trouble.end > back_ts + _AFTERMATH_S


def memory_gave_out(ts: float, kills: Sequence[ProcessKilled]) -> Said:
    """That memory ran out, who was killed, and by whom: the kernel, or a daemon that is quicker than it."""
    names = ", ".join(sorted({one.process for one in kills}))
    by = {"" if one.by in {"oom", "cgroup-oom"} else one.by for one in kills}
    facts: dict[str, Value] = {"ts": ts, "names": names, "number": len(kills)}
    if len(by) > 1:
        return say("On {ts:time} memory ran out, and {names} were killed, {number} processes in all", **facts)
    facts["killer"] = say("{process}", process=named) if (named := by.pop()) else say("the kernel")
    if len(kills) == 1:
        return say("On {ts:time} memory ran out, and {killer} killed {names}", **facts)
    return say("On {ts:time} memory ran out, and {killer} killed {names}, {number} processes in all", **facts)


# -- accused ----------------------------------------------------------------------------------------------------------


def failures_of(trouble: Trouble, facts: Sequence[Fact]) -> Iterable[Accused]:
    """Programs that ended, or did not start, with nobody's requests to blame."""
    loss = loss_of(trouble, facts)
    crashes = list(_crashes(trouble, facts, loss))
    yield from crashes
    if all(one.score <= _ENDED for one in crashes):
        yield from _stopped(loss, facts)  # else it stopped to be started again, and what came then fails


def _crashes(trouble: Trouble, facts: Sequence[Fact], loss: Loss | None) -> Iterable[Accused]:
    starved = any(event.by != "signal" for _, event in events(facts, ProcessKilled)) or any(
        event.error == "full" for _, event in events(facts, StorageError)
    )
    by_itself = Counter(
        event.process
        for fact, event in events(facts, ProcessKilled)
        if event.by == "signal" and event.signal in _FATAL_SIGNALS
        for _ in range(fact.count)
    )
    changed = [event for fact, event in events(facts, Changed) if trouble.start - 86400 <= fact.ts <= trouble.end]
    for process, number in by_itself.most_common(2):
        why = say("{number} processes died by a fault of their own (a signal such as SEGV)", number=number)
        seen = _SEEN if loss is not None and loss.is_fault else 0.0
        yield Accused(_crash(process, why, changed), max(seen, min(0.95, 0.55 + 0.1 * number)))
    refused = [
        event for _, event in events(facts, ServiceState) if event.state == "refused" and is_serving(event.service)
    ]
    if refused and not starved:
        service = refused[0].service
        why = say("it refused to start: {detail}", detail=_last_words(facts, service))
        yield Accused(_crash(service, why, changed), 0.93)
    elif not starved and not by_itself:
        yield from _deaths(facts, changed, loss)
    yield from _fatals(trouble, facts, changed)


def _last_words(facts: Sequence[Fact], service: str) -> str:
    """What is known of why a service does not start: its own words, else how it ended."""
    told = [event for _, event in events(facts, ServiceState) if event.service == service and event.detail]
    own = next((event for event in told if event.state == "refused"), None)
    words = own or next((event for event in told if event.state in {"died", "failed"}), None)
    return "?" if words is None else _in_short(words.detail)


def _in_short(text: str) -> str:
    return textwrap.shorten(text, _MOST_QUOTED, break_on_hyphens=False, placeholder=" …")


def _deaths(facts: Sequence[Fact], changed: list[Changed], loss: Loss | None) -> Iterable[Accused]:
    """Services that ended: those known by name, and whatever died just as pages found a service gone."""
    died = [(fact.ts, event) for fact, event in events(facts, ServiceState) if event.state in {"died", "failed"}]
    served = [
        event for ts, event in died if is_serving(event.service) or (loss is not None and abs(ts - loss.ts) <= _SOON_S)
    ]
    if served:
        score = _SEEN if loss is not None and loss.is_fault else _ENDED
        why = say("it ended without having been told to: {detail}", detail=_in_short(served[0].detail))
        yield Accused(_crash(served[0].service, why, changed), score)


def _fatals(trouble: Trouble, facts: Sequence[Fact], changed: list[Changed]) -> Iterable[Accused]:
    """A site whose program fails on most requests: a bad upgrade shows so, without any process dying."""
    fatal = [(fact, event) for fact, event in events(facts, AppError) if event.symptom == "fatal"]
    number = sum(fact.count for fact, _ in fatal if trouble.start - 60 <= fact.ts <= trouble.end + 60)
    if number >= 20 and trouble.of("failed"):
        why = say(
            "{number} requests failed by an error of the program itself: {text}",
            number=number,
            text=_in_short(fatal[0][1].text),
        )
        yield Accused(_crash(fatal[0][1].service, why, changed), 0.6)


def _crash(process: str, why: Said, changed: list[Changed]) -> Suspect:
    name = say("{process}", process=process)
    if changed:
        name = say("{process}, after a change of {package}", process=process, package=changed[-1].what)
    return Suspect("process", "crash", name, why, process=process)


def _stopped(loss: Loss | None, facts: Sequence[Fact]) -> Iterable[Accused]:
    """The service that was told to stop: that is why the site was down, though not who did it, nor why."""
    if loss is None or loss.state is None or not loss.is_told:
        return
    service = loss.state.service
    if any(one.service == service and one.state in _DOWN - _TOLD for _, one in events(facts, ServiceState)):
        return  # it stopped to be started again, and was not: that failure says more
    why = say(
        "{service} was stopped on {ts:time} as it was told; by whom, and why, no log says", service=service, ts=loss.ts
    )
    suspect = Suspect("process", "unknown", say("{process}", process=service), why, process=service)
    yield Accused(suspect, _SEEN)
