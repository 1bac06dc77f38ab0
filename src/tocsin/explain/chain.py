"""How one thing led to the next: the links from cause to outage, each observed, inferred or missing. Pure."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from itertools import islice
from typing import TypeVar

from tocsin.explain.accuse import Accused
from tocsin.explain.capacity import Capacity
from tocsin.explain.incident import Trouble
from tocsin.explain.model import Accesses, Fact, Link, Said, say
from tocsin.explain.symptoms import events, is_serving
from tocsin.server_events import (
    AppError,
    Changed,
    JobStarted,
    LimitReached,
    ProcessKilled,
    ServiceState,
    SlowQuery,
    StorageError,
)

_E = TypeVar("_E")
_QUOTED = 2
"""Lines of an access log that stand for a class of requests."""


def chain_of(
    trouble: Trouble,
    facts: Sequence[Fact],
    top: Accused | None,
    accesses: Accesses,
    capacity: Capacity,
    ban: Collection[str],
    befallen: Sequence[Link] = (),
) -> tuple[Link, ...]:
    """The links, those with a time in its order, those without at the end. Where some are to be banned, the lines of
    the class that are quoted are theirs, and no visitor's. `befallen` is what befell the machine itself.
    """
    links = [*befallen, *_cause(trouble, facts, top, accesses, ban), *_course(trouble, facts), *_shown(trouble)]
    links += _memory(trouble, facts, capacity)
    links += _missing(trouble, accesses)
    links.sort(key=lambda link: float("inf") if link.ts is None else link.ts)
    return tuple(links)


def _cause(
    trouble: Trouble, facts: Sequence[Fact], top: Accused | None, accesses: Accesses, ban: Collection[str]
) -> Iterator[Link]:
    if top is not None and top.carried is not None:
        one = top.carried
        end = max(trouble.end, trouble.start) + 60
        quotes = accesses.quotes(one.signature, one.first_ts, end, _QUOTED, ban)
        for i, quote in enumerate(quotes):
            text = say("requests of the class begin") if i == 0 else say("and go on")
            yield Link(quote.ts, text, True, quote.source, quote.line, quote.text)
        if not quotes:
            yield Link(one.first_ts, say("requests of the class begin"), False)
    before = [fact for fact in facts if fact.ts <= trouble.start + 1]
    if top is not None and top.suspect.cause == "local-job":
        process = top.suspect.process or ""
        for fact, event in events(before, JobStarted):
            if process and process in event.command:
                yield _link(fact, say("{by} starts {command}", by=event.by, command=event.command[:120]))
                break
    if top is None or top.suspect.cause == "crash":
        for fact, change in list(events(before, Changed))[-1:]:
            yield _link(fact, say("{package} is changed", package=change.what), main=True)
    if top is not None and top.suspect.cause == "crash":
        failed = (found for found in events(facts, AppError) if found[1].symptom == "fatal")
        own = (fact for fact, error in failed if error.service == top.suspect.process)
        for fact in list(islice(own, 1)):
            yield _link(fact, say("a program fails by an error of its own"), main=True)


def _course(trouble: Trouble, facts: Sequence[Fact]) -> Iterator[Link]:
    """The first of each kind of line, and what ended it."""
    inside = [fact for fact in facts if trouble.start - 60 <= fact.ts <= trouble.end + 600]
    for fact, limit in _firsts(events(inside, LimitReached), lambda event: (event.service, event.near)):
        text = say("{service} is near its limit {limit}", service=limit.service, limit=limit.limit)
        if not limit.near:
            text = say("{service} reaches its limit {limit}", service=limit.service, limit=limit.limit)
        yield _link(fact, text, main=not limit.near)
    for fact, _ in _firsts(events(inside, StorageError), lambda event: event.error):
        yield _link(fact, say("storage refuses to take more"), main=True)
    for fact, query in _firsts(events(inside, SlowQuery), lambda event: event.service):
        yield _link(fact, say("a query takes {span:span}", span=query.duration_s))
    killed = [(fact, event) for fact, event in events(inside, ProcessKilled) if event.by != "signal"]
    for fact, event in _firsts(killed, lambda event: event.process):
        number = sum(one.process == event.process for _, one in killed)
        text = say("memory is out: {process} is killed, {number} times in all", process=event.process, number=number)
        once = say("memory is out: {process} is killed", process=event.process)
        yield _link(fact, text if number > 1 else once, main=True)
    yield from _faults(inside)
    for fact, state in _firsts(events(inside, ServiceState), lambda event: (event.service, event.state)):
        if changed := _state(state):
            yield _link(fact, changed)
    for fact, error in _firsts(events(inside, AppError), lambda event: event.symptom):
        if shown := _ERRORS.get(error.symptom or ""):
            yield _link(fact, shown)


def _faults(inside: Sequence[Fact]) -> Iterator[Link]:
    """Processes that a signal ended: the first line of each name, and how many there were."""
    ended = [(fact, event) for fact, event in events(inside, ProcessKilled) if event.by == "signal"]
    for fact, event in _firsts(ended, lambda event: (event.process, event.signal)):
        number = sum(each.count for each, one in ended if (one.process, one.signal) == (event.process, event.signal))
        text = say("{process} is ended by signal {signal}", process=event.process, signal=event.signal or "?")
        several = say(
            "{process}: {number} are ended by signal {signal}",
            process=event.process,
            number=number,
            signal=event.signal or "?",
        )
        yield _link(fact, several if number > 1 else text)


_ERRORS = {
    "database-down": say("pages find no database"),
    "backend-down": say("the web server finds nobody behind it"),
    "backend-slow": say("the web server waits in vain for what is behind it"),
    "out-of-memory": say("a program gets no memory"),
}


def _state(event: ServiceState) -> Said | None:
    if not is_serving(event.service):
        return None
    return {
        "stopping": say("{service} is told to stop", service=event.service),
        "stopped": say("{service} has stopped", service=event.service),
        "died": say("{service} dies", service=event.service),
        "failed": say("{service} stays down: its supervisor gave up", service=event.service),
        "refused": say("{service} refuses to start", service=event.service),
        "restarting": say("{service} is started again by its supervisor", service=event.service),
        "recovered": say("{service} finds that it was killed", service=event.service),
        "started": say("{service} is ready again", service=event.service),
    }.get(event.state)


def _shown(trouble: Trouble) -> Iterator[Link]:
    """What the access logs show of it: no line by itself proves a share, or a silence."""
    for kind in ("failed", "timeout", "slow", "silence"):
        for symptom in trouble.of(kind)[:1]:
            yield Link(symptom.ts, symptom.text, True)


def _memory(trouble: Trouble, facts: Sequence[Fact], capacity: Capacity) -> Iterator[Link]:
    victims = [event for _, event in events(facts, ProcessKilled) if event.by != "signal"]
    if victims and capacity.workers and capacity.worker_bytes:
        text = say(
            "{workers} processes of {worker} hold {held:size} then",
            workers=capacity.workers,
            worker=capacity.worker,
            held=capacity.workers * capacity.worker_bytes,
        )
        yield Link(trouble.start, text, False)
    killed = sum(event.process.startswith(("apache2", "httpd", "php-fpm")) for event in victims)
    if killed:
        yield Link(
            None, say("{killed} killed workers never logged the requests that they were at", killed=killed), False
        )


def _missing(trouble: Trouble, accesses: Accesses) -> Iterator[Link]:
    if accesses.start is None or accesses.end is None:
        yield Link(None, say("no access log was found"), False, missing=True)
    elif not accesses.start <= trouble.start <= accesses.end + 600:
        yield Link(None, say("no access log covers this time"), False, missing=True)


def _link(fact: Fact, text: Said, *, main: bool = False) -> Link:
    return Link(fact.ts, text, True, fact.source, fact.line, fact.text, main=main)


def _firsts(found: Iterable[tuple[Fact, _E]], key: Callable[[_E], object]) -> Iterator[tuple[Fact, _E]]:
    seen = set()
    for fact, event in found:
        if (name := key(event)) not in seen:
            seen.add(name)
            yield fact, event
