"""The verdict on one outage: which of the suspects it was, how sure that is, and what stands against it. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import get_args

from msgspec import Struct, structs

from tocsin.explain.accuse import Accused, accused_requests
from tocsin.explain.banning import with_banning
from tocsin.explain.bans import bans_of, front_of, own_of, usual_senders
from tocsin.explain.capacity import Capacity, capacity_of
from tocsin.explain.chain import chain_of
from tocsin.explain.culprits import culprits_of
from tocsin.explain.incident import Trouble
from tocsin.explain.lasting import of_all, span_of
from tocsin.explain.load import Load, load_of
from tocsin.explain.losses import loss_of, memory_gave_out
from tocsin.explain.machine import befallen
from tocsin.explain.model import (
    Accesses,
    Cause,
    Dossier,
    Fact,
    Incident,
    Link,
    Profile,
    Said,
    Spared,
    Suspect,
    Value,
    say,
)
from tocsin.explain.remedies import is_against_somebody, remedies_of, server_of
from tocsin.explain.suspects import by_subject, carried
from tocsin.explain.symptoms import events
from tocsin.explain.timeline import timeline_of
from tocsin.explain.waiting import full_of
from tocsin.model import Signature
from tocsin.server_events import LimitReached, ProcessKilled

AROUND_S = 3600.0
"""Facts of so long before an outage may belong to it."""

LEAST_SCORE = 0.3
"""Below this nobody is accused."""

_BANNABLE = frozenset(
    ("slow-connections", "login-bruteforce", "crawler", "distributed-flood", "request-flood", "expensive-requests")
)
_UNPROVEN = 0.2
_SUSPECTS = 5
_WORTH_NAMING = 0.25
"""Suspects far weaker than the first only confuse."""

_AT_ONCE_S = 60.0
_MUCH = 0.5
"""A symptom of this weight says what happened as well as one that came soon after it."""

_AFTER_S = 600.0
"""How long after its last symptom who still sends the class belongs to it."""


class Case(Struct, frozen=True):
    """All that is known of one outage."""

    trouble: Trouble
    facts: tuple[Fact, ...]
    load: Load | None
    capacity: Capacity
    profiles: dict[str, Profile]
    accused: tuple[Accused, ...]


def case_of(dossier: Dossier, trouble: Trouble, troubles: Sequence[Trouble]) -> Case:
    """The evidence of one outage, and whom it speaks against."""
    earliest = max((one.end for one in troubles if one.end < trouble.start), default=trouble.start - AROUND_S)
    latest = min((one.start for one in troubles if one.start > trouble.end), default=trouble.end + AROUND_S)
    first, last = max(earliest, trouble.start - AROUND_S), min(latest, trouble.end + AROUND_S / 6)
    facts = tuple(one for one in dossier.facts if first < one.ts <= last)
    capacity = capacity_of(facts)
    load = load_of(dossier.accesses, trouble, [other for other in troubles if other is not trouble])
    accused: list[Accused] = list(culprits_of(trouble, facts, dossier.accesses, load, capacity))
    profiles: dict[str, Profile] = {}
    if load is not None:
        begin, end = load.start, trouble.end + _AFTER_S
        present = [one.source_ip for one in dossier.accesses.profiles(begin, end)]
        profiles = by_subject(dossier.accesses.profiles_of(present))
        loss = loss_of(trouble, facts)
        lost_ts = None if loss is None else loss.ts
        classes, full = carried(load, profiles), full_of(facts, trouble.start)
        accused += accused_requests(dossier.accesses, load, classes, trouble.start, end, lost_ts, full)
    accused.sort(
        key=lambda one: (-round(one.score, 2), _ORDER.index(one.suspect.cause))
    )  # of equals, the first that fits
    return Case(trouble, facts, load, capacity, profiles, tuple(accused))


_ORDER: tuple[str, ...] = get_args(Cause)


def judge(dossier: Dossier, case: Case) -> Incident:
    """The incident that a case amounts to."""
    trouble, accused = case.trouble, _different(case.accused)
    top = accused[0] if accused and accused[0].score >= LEAST_SCORE else None
    cause: Cause = top.suspect.cause if top is not None else "unknown"
    ban: tuple[str, ...] = ()
    spare: tuple[Spared, ...] = ()
    deny: tuple[Signature, ...] = ()
    front = _front(case, accused, top)
    begin, end = math.inf, trouble.end + _AFTER_S
    if top is not None and cause in _BANNABLE:
        case, top, (begin, end) = _lasting(dossier.accesses, case, top)
        accused[0] = top
        ban, spare = _bans(dossier, top, case, begin, end) if front is None else ((), ())
        if top.suspect.signature is not None and is_against_somebody(cause, top):
            deny = (top.suspect.signature,)
    elif top is not None and top.carried is not None and cause == "local-job":
        spare = own_of(top)
    later = [one for one in dossier.facts if case.facts and one.ts > case.facts[-1].ts]
    remedies = remedies_of(cause, top, case.facts, case.capacity, later, _front_server(dossier.accesses, top))
    if front is not None:
        remedies = tuple(one for one in remedies if not one.rule)  # a rule would ban it as well
    remedies = tuple(with_banning(remedies, ban, top, trouble.start))
    told = (*_of_all(case, begin, end), *(() if front is None else (front,)))
    known = tuple(befallen(trouble, case.facts, dossier.coverage))
    onset = trouble.start
    if top is not None and top.carried is not None and case.load is not None:
        onset = min(onset, begin, max(top.carried.first_ts, case.load.start))
    return Incident(
        trouble.start,
        trouble.end,
        onset,
        cause,
        _confidence(accused, top),
        _summary(case, top, cause, known),
        chain_of(trouble, case.facts, top, dossier.accesses, case.capacity, frozenset(ban), known),
        _suspects(accused, top),
        ban,
        deny,
        spare,
        remedies,
        (*told, *_notes(case, cause), *_collateral(dossier, case, deny)),
        timeline=timeline_of(trouble, dossier.accesses, case.load, top, case.capacity),
    )


def _different(accused: Sequence[Accused]) -> list[Accused]:
    """Without those that say the same of the same."""
    found: dict[tuple[object, ...], Accused] = {}
    for one in accused:
        found.setdefault((one.suspect.cause, one.suspect.signature, one.suspect.process), one)
    return list(found.values())


def _front_server(accesses: Accesses, top: Accused | None) -> str:
    """The server that logged the first suspect's requests, where their lines tell."""
    if top is None or top.carried is None:
        return ""
    quotes = accesses.quotes(top.carried.signature, top.carried.first_ts, top.carried.last_ts + 1, 1)
    return server_of(quotes[0].text) if quotes else ""


def _suspects(accused: Sequence[Accused], top: Accused | None) -> tuple[Suspect, ...]:
    """Who is named: where the evidence reaches nobody, no requests, since somebody sent them."""
    if top is None:
        accused = [one for one in accused if one.suspect.kind not in {"requests", "connections"}]
    worth = [one for one in accused[:_SUSPECTS] if one.score >= _WORTH_NAMING * accused[0].score]
    return tuple(one.suspect for one in worth)


def _confidence(accused: Sequence[Accused], top: Accused | None) -> float:
    """The strength of the evidence, less what speaks as strongly for another cause."""
    if top is None or top.suspect.cause == "unknown":
        return _UNPROVEN
    rival = max((one.score for one in accused if one.suspect.cause != top.suspect.cause), default=0.0)
    return round(top.score * (1 - 0.3 * min(1.0, rival / top.score)), 2)


def _front(case: Case, accused: Sequence[Accused], top: Accused | None) -> Said | None:
    """That all clients are of what stands before the site; of nobody convicted, too."""
    first = top or next((one for one in accused if one.carried is not None), None)
    front = None if first is None or case.load is None else front_of(case.load, first)
    if front is None or top is not None:
        return front
    return say(
        "visitors come from few networks, such as {network}: they are of what stands before the site (a CDN, a proxy), "
        "and nobody can be told from others; let the web server take the clients' own addresses from it (mod_remoteip, "
        "ngx_http_realip_module)",
        network=front.args["network"],
    )


def _lasting(accesses: Accesses, case: Case, top: Accused) -> tuple[Case, Accused, tuple[float, float]]:
    """The case and its first suspect with all who sent the class as long as it lasted, and when that was: from infinity
    where it did not begin before what is looked at anyway.
    """
    end = case.trouble.end + _AFTER_S
    if case.load is None:
        return case, top, (math.inf, end)
    first, last = span_of(accesses, case.load, top, end)
    begin = first if first < case.load.start else math.inf
    if begin == math.inf and last <= end:
        return case, top, (begin, end)
    top = of_all(accesses, top, (first, last))
    present = [one.source_ip for one in accesses.profiles(first, last)]
    profiles = by_subject(accesses.profiles_of(present))
    return structs.replace(case, profiles=profiles), top, (begin, last)


def _of_all(case: Case, begin: float, end: float) -> Iterator[Said]:
    if begin < math.inf:
        yield say(
            "such requests came since {ts:time} at least: their number, and whom to ban, are of all that time", ts=begin
        )
    if end > case.trouble.end + _AFTER_S:
        yield say(
            "such requests went on after the last symptom until {ts:time} at least: their number, and whom to ban, are "
            "of all that time",
            ts=end,
        )


def _bans(
    dossier: Dossier, top: Accused, case: Case, begin: float, end: float
) -> tuple[tuple[str, ...], tuple[Spared, ...]]:
    if case.load is not None and top.suspect.signature is not None:
        start = min(begin, case.load.start)
        usual = usual_senders(dossier.accesses, top, case.load, start, end)
        return bans_of(top, case.profiles, case.load, start, usual)
    return tuple(actor.subject for actor in top.suspect.actors), ()


# -- what is said ------------------------------------------------------------------------------------------------------


def _summary(case: Case, top: Accused | None, cause: Cause, known: Sequence[Link]) -> Said:
    fell = _fell(case.trouble)
    if top is None and known and known[0].link != fell.args.get("what"):
        return say("{fell}; {known}. What brought it there is not proven.", fell=fell, known=known[0].link)
    if top is None:
        return say("{fell}. What brought it there is not proven.", fell=fell)
    return say("{fell}. {why}", fell=fell, why=_because(top, cause))


def _fell(trouble: Trouble) -> Said:
    """What the outage began with, and what weighs most where that came later."""
    shown = [(one.ts, one.fact.event) for one in trouble.of("killed") if one.fact is not None]
    killed = [(ts, event) for ts, event in shown if isinstance(event, ProcessKilled) and event.by != "signal"]
    heaviest = max(trouble.symptoms, key=lambda one: (one.weight, -one.ts))
    if killed:
        return memory_gave_out(killed[0][0], [event for _, event in killed])
    first = trouble.symptoms[0]
    if heaviest.ts - first.ts <= _AT_ONCE_S and first.weight < _MUCH:
        return say("On {ts:time}: {what}", ts=heaviest.ts, what=heaviest.text)
    if heaviest.kind == first.kind or heaviest.ts - first.ts <= _AT_ONCE_S:
        return say("On {ts:time}: {what}", ts=first.ts, what=first.text)
    text = "On {ts:time}: {what}; on {later:time}: {then}"
    return say(text, ts=first.ts, what=first.text, later=heaviest.ts, then=heaviest.text)


def _because(top: Accused, cause: Cause) -> Said:
    suspect = top.suspect
    number = len(suspect.actors)
    facts: dict[str, Value] = {"name": suspect.name, "why": suspect.why, "number": number, "requests": suspect.requests}
    match cause:
        case "disk-full":
            return say("The cause: the disk was full ({why}).", **facts)
        case "local-job":
            return say("The cause is no attack but a job on the machine itself, {name}: {why}.", **facts)
        case "crash":
            return say("The cause is no attack: {name} failed by itself; {why}.", **facts)
        case "slow-connections":
            return say("The cause: {why}, from {number} addresses.", **facts)
        case "login-bruteforce":
            return say(
                "The cause: passwords were guessed at {name}, {requests} times from {number} addresses.", **facts
            )
        case "crawler":
            return say("The cause: a crawler fetched more than the site bears: {name}, {requests} requests.", **facts)
        case "distributed-flood":
            return say("The cause: {requests} requests {name} from {number} addresses, few from each.", **facts)
        case "request-flood":
            return say("The cause: {requests} requests {name} from {number} addresses.", **facts)
        case "expensive-requests":
            return say("The cause: requests that cost too much, {name}, {requests} of them.", **facts)
        case "legitimate-surge":
            return say("The cause is no attack: more visitors came than the machine holds ({why}).", **facts)
        case _:
            return say("The cause: {why}.", **facts)


def _collateral(dossier: Dossier, case: Case, deny: Sequence[Signature]) -> tuple[Said, ...]:
    """What denying a class would have hit in all that the logs hold from before the outage."""
    begin, load = dossier.accesses.start, case.load
    if begin is None or load is None or begin >= load.start:
        return ()
    found = [dossier.accesses.hits(one, begin, load.start) for one in deny]
    return tuple(
        say(
            "the class to deny had {requests} requests of {addresses} addresses in the {span:span} before it began",
            span=load.start - begin,
            requests=requests,
            addresses=addresses,
        )
        for requests, addresses in found
    )


def _notes(case: Case, cause: Cause) -> tuple[Said, ...]:
    notes = []
    if case.load is None:
        notes.append(say("no access log covers the time of this outage: nobody can be convicted of it by requests"))
    elif not case.load.measured:
        notes.append(say("no durations are logged: the cost of requests is estimated from their kind"))
    full = [event for _, event in events(case.facts, LimitReached) if not event.near and event.limit != "listen queue"]
    if cause == "unknown" and full:
        text = "a request is logged when it ends: no log names those that held every worker of {service}"
        notes.append(say(text, service=full[0].service))
    fitting = case.capacity.fitting
    if fitting is not None and (case.capacity.workers or 0) > fitting and cause != "local-job":
        notes.append(
            say(
                "{fitting} workers of {size:size} would have fitted into memory; {workers} ran",
                fitting=fitting,
                size=case.capacity.worker_bytes,
                workers=case.capacity.workers,
            )
        )
    return tuple(notes)
