"""From all evidence to a report: outages found, each judged, habits seen. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Sequence

from msgspec import structs

from tocsin.decide.crawlers import claimed_crawler
from tocsin.explain.accuse import pooled
from tocsin.explain.agents import contradiction
from tocsin.explain.incident import Trouble, troubles_of
from tocsin.explain.model import Dossier, Fact, Incident, Report, Said, say
from tocsin.explain.symptoms import events, symptoms_of
from tocsin.explain.verdict import case_of, judge
from tocsin.formats.services import service_name
from tocsin.server_events import ProcessKilled

_MOST_INCIDENTS = 50
"""Of more outages, the last ones: who looks for a cause wants the latest first of all."""

_UNPLACED_S = 86400.0
_SAME_KILL_S = 3.0


def explain(dossier: Dossier) -> Report:
    """The report on everything that the evidence holds."""
    dossier = structs.replace(dossier, facts=_once(dossier.facts))
    dossier = _placed(dossier)
    troubles = troubles_of(symptoms_of(dossier), dossier.accesses)
    notes = list(dossier.notes)
    if len(troubles) > _MOST_INCIDENTS:
        text = say(
            "{number} outages were found; the last {kept} are explained", number=len(troubles), kept=_MOST_INCIDENTS
        )
        notes.append(text)
        troubles = troubles[-_MOST_INCIDENTS:]
    cases = [case_of(dossier, trouble, troubles) for trouble in troubles]
    shared = pooled([case.accused for case in cases])
    incidents = [
        judge(dossier, structs.replace(case, accused=tuple(accused)))
        for case, accused in zip(cases, shared, strict=True)
    ]
    incidents, habits = _habits(incidents)
    notes += habits
    notes += _active(dossier, troubles)
    return Report(dossier.coverage, tuple(incidents), not incidents, tuple(notes))


def _once(facts: Sequence[Fact]) -> tuple[Fact, ...]:
    """The facts, each kill once: the kernel's lines stand in two logs of a stock Debian, and systemd tells of them
    again, before or after them, by the unit's name alone.
    """
    named = _named_kills(facts)
    seen: dict[tuple[str, int | None], float] = {}
    kept = []
    for fact in facts:
        event = fact.event
        if isinstance(event, ProcessKilled):
            key = event.process, event.pid
            again = fact.ts - seen.get(key, float("-inf")) <= _SAME_KILL_S
            if again or (event.pid is None and _is_near(named[service_name(event.process)], fact.ts)):
                continue
            seen[key] = fact.ts
        kept.append(fact)
    return tuple(kept)


def _named_kills(facts: Sequence[Fact]) -> defaultdict[str, list[float]]:
    """When processes whose pid is known were killed for want of memory, by name and by unit, ascending."""
    found: defaultdict[str, list[float]] = defaultdict(list)
    for fact, event in events(facts, ProcessKilled):
        if event.pid is not None and event.by != "signal":
            for name in {service_name(event.process), service_name(event.unit or event.process)}:
                found[name].append(fact.ts)
    return found


def _is_near(times: Sequence[float], ts: float) -> bool:
    at = bisect_left(times, ts - _SAME_KILL_S)
    return at < len(times) and times[at] <= ts + _SAME_KILL_S


def _placed(dossier: Dossier) -> Dossier:
    """The dossier with facts that name no time (uptime, without a tie) moved to the one outage that they can be of.

    The kernel's first kill is put where the other logs first show that something was lost; where those tell of no
    outage, or of several, at the end of all that they cover, so that it is at least seen.
    """
    kills = [fact for fact in dossier.facts_without_time if isinstance(fact.event, ProcessKilled)]
    if not kills:
        return dossier
    troubles = troubles_of(symptoms_of(dossier), dossier.accesses)
    ends = [one.end for one in dossier.coverage if one.end is not None]
    if len(troubles) == 1:
        at = _first_loss(troubles[0])
        note = say("the kernel's log names no time: its first kill was put where the other logs show the outage")
    else:
        at = max(ends, default=dossier.now_ts)
        note = say(
            "the kernel's log names no time: its kills stand at the end of the other logs, when they were is unknown"
        )
    shift_s = at - kills[0].ts
    moved = [structs.replace(fact, ts=fact.ts + shift_s, spread_s=_UNPLACED_S) for fact in dossier.facts_without_time]
    facts = tuple(sorted((*dossier.facts, *moved), key=lambda fact: fact.ts))
    return structs.replace(dossier, facts=facts, facts_without_time=(), notes=(*dossier.notes, note))


def _first_loss(trouble: Trouble) -> float:
    for kinds in (("killed", "state"), ("error", "failed")):
        if found := trouble.of(*kinds):
            return found[0].ts
    return trouble.start


def _habits(incidents: Sequence[Incident]) -> tuple[list[Incident], list[Said]]:
    """The outages, those of one cause with the times of all of them; and a note on each such habit."""
    alike: defaultdict[tuple[str, str | None], list[float]] = defaultdict(list)
    for one in incidents:
        alike[_habit_of(one)].append(one.start)
    told = [
        structs.replace(one, times=tuple(times)) if len(times := alike[_habit_of(one)]) > 1 else one
        for one in incidents
    ]
    notes = [
        say("{number} outages have one cause ({cause}): a habit, not an accident", number=len(times), cause=cause)
        for (cause, _), times in alike.items()
        if len(times) > 1 and cause != "unknown"
    ]
    return told, notes


def _habit_of(incident: Incident) -> tuple[str, str | None]:
    first = incident.suspects[0] if incident.suspects else None
    if incident.cause == "unknown" or first is None:
        return incident.cause, f"{incident.start}"
    return incident.cause, first.signature.path if first.signature is not None else first.process


def _active(dossier: Dossier, troubles: Sequence[Trouble]) -> list[Said]:
    """Who behaves like an attacker in the logs though nothing that they cover fell: named, not convicted."""
    accesses = dossier.accesses
    if accesses.start is None or accesses.end is None:
        return []
    covered = any(accesses.start <= trouble.start <= accesses.end + 600 for trouble in troubles)
    if covered or not troubles:
        return []
    found: Counter[tuple[str, str]] = Counter()
    addresses: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for group in accesses.groups(max(accesses.start, accesses.end - 86400), accesses.end + 1):
        agent = group.user_agent or ""
        if claimed_crawler(agent) and contradiction(agent, group.method, group.path, None):
            what = f"{group.method} {group.path}", agent
            found[what] += group.requests
            addresses[what].add(group.source_ip or "")
    return [
        say(
            "a suspect is active now, but its lines are not from the time of the outage and prove nothing of it: "
            '{requests} {what} from {addresses} addresses, as "{agent}"; keep the access logs of the next outage',
            requests=number,
            what=what[0],
            addresses=len(addresses[what]),
            agent=what[1],
        )
        for what, number in found.most_common(3)
    ]
