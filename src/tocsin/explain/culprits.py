"""Suspects that are no requests: storage, jobs on the machine, programs that fail by themselves, connections that never
become requests, and limits that were never right. Pure.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from tocsin.explain.accuse import Accused
from tocsin.explain.appservers import is_ambiguous, unit_behind
from tocsin.explain.capacity import Capacity
from tocsin.explain.incident import Trouble
from tocsin.explain.load import Load
from tocsin.explain.losses import failures_of
from tocsin.explain.model import Accesses, Actor, Fact, Suspect, Value, say
from tocsin.explain.symptoms import events, is_serving
from tocsin.model import (
    JobStarted,
    LimitReached,
    Processes,
    ProcessKilled,
    Sample,
    StorageError,
)

_BEFORE_S = 900.0
"""How long before the first symptom a job or a change may have begun."""

_SYSTEM = frozenset(
    (
        *("systemd", "systemd-journald", "systemd-journal", "systemd-udevd", "systemd-logind"),
        *("systemd-network", "systemd-resolve", "sshd", "cron", "crond", "rsyslogd", "agetty", "login", "bash"),
        *("sh", "dash", "su", "sudo", "init", "dbus-daemon", "polkitd", "irqbalance", "ps", "top", "free"),
        *("df", "vmstat", "sleep", "exim4", "master", "qmgr", "pickup", "fail2ban-server", "snapd", "atop"),
        "tocsin",
    )
)
_HOLDS_NOTHING = frozenset(("TIME_WAIT", "FIN_WAIT1", "FIN_WAIT2", "LAST_ACK", "CLOSING"))
"""States of connections that no worker serves any more."""

_AT_ONCE_S = 10.0
_CLEAR = 6.0
"""From this rise on (see Load) now differs from before."""

_GOES_ON_S = 30.0
_GOES_ON_SHARE = 0.4

_INTERPRETERS = frozenset(("python", "perl", "php", "ruby", "sh", "bash", "dash", "node"))
_JOB_SHARE = 0.2
_FAMILY_SHARE = 0.3
_SHELL_WORDS = frozenset(
    ("cd", "/", "&&", "||", "[", "test", "if", "then", "(", "-x", "!", "exec", "nice", "ionice", "command", "-v")
)


def culprits_of(
    trouble: Trouble, facts: Sequence[Fact], accesses: Accesses, load: Load | None, capacity: Capacity
) -> list[Accused]:
    """The suspects that the facts around an outage name, the likeliest first. `facts` reach back _BEFORE_S and more."""
    found = [
        *_storage(facts),
        *_jobs(trouble, facts, load, capacity),
        *failures_of(trouble, facts),
        *_connections(trouble, facts, accesses, load),
        *_limits(facts, accesses, load, capacity),
    ]
    return sorted(found, key=lambda one: -one.score)


def _storage(facts: Sequence[Fact]) -> Iterable[Accused]:
    full = [(fact, event) for fact, event in events(facts, StorageError) if event.error in {"full", "inodes"}]
    if not full:
        return
    event = full[0][1]
    killed = any(event.by != "signal" for _, event in events(facts, ProcessKilled))
    where = event.path or event.service
    lines = sum(each.count for each, _ in full)
    why = say(
        "{lines} lines say that there was no room left, the first by {service}", lines=lines, service=event.service
    )
    against = say("processes were killed for want of memory as well") if killed else None
    suspect = Suspect("storage", "disk-full", say("no room left: {where}", where=where), why, counter_evidence=against)
    yield Accused(suspect, 0.6 if killed else 0.97)


# -- jobs --------------------------------------------------------------------------------------------------------------


def _jobs(trouble: Trouble, facts: Sequence[Fact], load: Load | None, capacity: Capacity) -> Iterable[Accused]:
    """Processes that serve no request and held much of the memory when it gave out."""
    jobs = [(fact, event) for fact, event in events(facts, JobStarted) if _near(trouble, fact.ts)]
    early = _early(facts, trouble)
    idle = [one for one in _holders(facts, capacity) if not is_serving(one[0].name) and one[0].name not in _SYSTEM]
    together = min(1.0, sum(share for _, share in idle))
    if idle and idle[0][1] < _JOB_SHARE and together >= _FAMILY_SHARE:  # a job and what it started
        idle = [(idle[0][0], together)]
    for processes, share in idle:
        if share < _JOB_SHARE:
            continue
        started = next((event for _, event in jobs if _names(event.command, processes)), None)
        if started is None and (unit := unit_behind(processes.name, facts)) is not None:
            yield _accused_server(processes, share, unit, load)
            continue
        score = min(0.97, 0.65 + share)
        doubtful = is_ambiguous(processes.name) and started is None and not _is_new(processes, early)
        yield Accused(_job_suspect(processes, share, started, doubtful=doubtful), score * (0.4 if doubtful else 1.0))
    if not capacity.worker and not any(True for _ in events(facts, Sample)):
        yield from _killed_jobs(facts, jobs)
    yield from _timed_jobs(trouble, jobs)


def _holders(facts: Sequence[Fact], capacity: Capacity) -> list[tuple[Processes, float]]:
    """What held memory, each name by its largest showing, and the share of the whole that it was."""
    most: dict[str, tuple[Processes, float]] = {}
    for _, sample in events(facts, Sample):
        total = sample.limit_bytes or capacity.memory_bytes or sample.memory_bytes or _sum(sample)
        for processes in sample.processes:
            share = min(1.0, processes.rss_bytes / max(1, total))
            if share > most.get(processes.name, (processes, 0.0))[1]:
                most[processes.name] = processes, share
    return sorted(most.values(), key=lambda item: -item[1])


def _sum(sample: Sample) -> int:
    return sum(processes.rss_bytes for processes in sample.processes)


def _early(facts: Sequence[Fact], trouble: Trouble) -> set[str]:
    """The names of processes that ran well before the first symptom."""
    return {
        processes.name
        for fact, sample in events(facts, Sample)
        if fact.ts < trouble.start - 60
        for processes in sample.processes
        if processes.rss_bytes
    }


def _is_new(processes: Processes, early: set[str]) -> bool:
    return bool(early) and processes.name not in early


def _names(command: str, processes: Processes) -> bool:
    words = {word.rsplit("/", 1)[-1] for word in command.split()[:12]}
    return any(word[:15] == processes.name for word in words) or any(
        word and len(word) > 3 and word in processes.command for word in words
    )


def _accused_server(processes: Processes, share: float, unit: str, load: Load | None) -> Accused:
    """What serves the site and outgrew the memory: by itself, where nothing came that does not come otherwise."""
    process = unit or processes.name
    why = say(
        "{process} is no job but a service, and held {size:size} when memory gave out and the kernel killed it",
        process=process,
        size=processes.rss_bytes,
    )
    name = say("the memory of {process}", process=process)
    driven = load is not None and load.rise >= _CLEAR
    against = say("requests rose as well: they may have called for it") if driven else None
    suspect = Suspect("process", "misconfiguration", name, why, process=process, share=share, counter_evidence=against)
    return Accused(suspect, min(0.8, 0.45 + share / 2) * (0.6 if driven else 1.0))


def _job_suspect(processes: Processes, share: float, started: JobStarted | None, *, doubtful: bool) -> Suspect:
    held: dict[str, Value] = {"count": processes.count, "size": processes.rss_bytes, "share": share}
    why = say("{count} processes held {size:size}, {share:share} of the memory, and serve no request", **held)
    if processes.count == 1:
        why = say("it held {size:size}, {share:share} of the memory, and serves no request", **held)
    if doubtful:
        why = say("it held {size:size}, {share:share} of the memory; whether it serves requests is not known", **held)
    process = script_of(processes)
    name = say("{process}, started by {by}", process=process, by=started.by) if started else None
    return Suspect("process", "local-job", name or say("{process}", process=process), why, process=process, share=share)


def script_of(processes: Processes) -> str:
    """What a process is called: an interpreter's by its script, where the command line is known."""
    if processes.name.rstrip("0123456789.") not in _INTERPRETERS:
        return processes.name
    words = (word for word in processes.command.split()[1:8] if not word.startswith("-"))
    return next((word.rsplit("/", 1)[-1] for word in words), processes.name) or processes.name


def _killed_jobs(facts: Sequence[Fact], jobs: list[tuple[Fact, JobStarted]]) -> Iterable[Accused]:
    """Where no sample shows who held the memory: victims that serve no request."""
    for _, event in events(facts, ProcessKilled):
        if event.by != "signal" and not is_serving(event.process) and event.process not in _SYSTEM:
            unit = unit_behind(event.process, facts)
            if unit is not None:
                yield _accused_server(Processes(event.process, 1, event.rss_bytes or 0), 0.0, unit, None)
                return
            why = say("the kernel chose it when memory gave out: it held {size:size}", size=event.rss_bytes or 0)
            started = any(_names(job.command, Processes(event.process, 1, 0)) for _, job in jobs)
            suspect = Suspect(
                "process", "local-job", say("{process}", process=event.process), why, process=event.process
            )
            yield Accused(suspect, 0.85 if started else 0.7)
            return


def _timed_jobs(trouble: Trouble, jobs: list[tuple[Fact, JobStarted]]) -> Iterable[Accused]:
    """Jobs that began shortly before, without proof that they took anything."""
    recent = [(fact, event) for fact, event in jobs if trouble.start - 300 <= fact.ts <= trouble.start]
    for fact, event in recent[-2:]:
        name = say("{command}, started by {by}", command=event.command[:80], by=event.by)
        why = say("it began {span:span} before the first symptom", span=trouble.start - fact.ts)
        against = say("nothing shows that it took memory or processor")
        words = (word for word in event.command.split()[:20] if word not in _SHELL_WORDS and not word.startswith("-"))
        process = next(words, "").rsplit("/", 1)[-1]
        yield Accused(
            Suspect("process", "local-job", name, why, process=process or None, counter_evidence=against), 0.2
        )


def _near(trouble: Trouble, ts: float) -> bool:
    return trouble.start - _BEFORE_S <= ts <= trouble.end


# -- connections -------------------------------------------------------------------------------------------------------


def _connections(trouble: Trouble, facts: Sequence[Fact], accesses: Accesses, load: Load | None) -> Iterable[Accused]:
    """Workers held by connections that never complete a request: they leave 408s, or nothing but the lack of others."""
    end = trouble.end + 120
    groups = [] if load is None else accesses.groups(load.start - 60, end)
    late = [group for group in groups if group.status in {400, 408}]
    timeouts = sum(group.requests for group in late)
    usual = 0.0
    if load is not None and load.before_s:
        before = load.broken_before
        usual = before / load.before_s * (end - load.start + 60)
    holders = _holders_of_connections(facts)
    reached = [fact.ts for fact, event in events(facts, LimitReached) if _is_web(event.service) and not event.near]
    saturated = bool(reached)
    killed = [fact.ts for fact, event in events(facts, ProcessKilled) if event.by != "signal"]
    starved = bool(killed) and (not reached or killed[0] <= reached[0] + _AT_ONCE_S)
    others = sum(group.requests for group in groups) - timeouts
    score = 0.0
    if timeouts >= 10 and timeouts >= 5 * usual:
        score = 0.5 + 0.2 * saturated + 0.25 * min(1.0, 2 * timeouts / max(1, others))
    # a server that goes silent for long was thrashing: slow clients leave it room to answer others now and then
    if saturated and not starved and not trouble.of("silence") and load is not None and _is_thin(load, trouble):
        # where some requests rose clearly, few but dear ones may be what kept the workers
        score = max(score, 0.72 if load.rise < _CLEAR else 0.45)
    if sum(number for _, number in holders) >= 20 and saturated:
        score = max(score, 0.6)
    if score:
        yield Accused(_slow_suspect(late, timeouts, holders), min(score, 0.95) * (0.7 if starved else 1.0))


def _is_web(service: str) -> bool:
    """Whether clients talk to it themselves: PHP-FPM gets only requests that came in whole."""
    return service != "kernel" and not service.startswith("php-fpm")


def _is_thin(load: Load, trouble: Trouble) -> bool:
    """Whether fewer requests than usual were completed while every worker was busy."""
    if not load.before_s or trouble.end - trouble.start < 10:
        return False
    done = sum(group.requests for group in load.groups if group.first_ts >= trouble.start)
    usual = sum(group.requests for group in load.before) / load.before_s
    return done / max(1.0, load.end - trouble.start) < 0.6 * usual


def _holders_of_connections(facts: Sequence[Fact]) -> list[tuple[str, int]]:
    most: Counter[str] = Counter()
    for _, sample in events(facts, Sample):
        for one in sample.connections:
            if one.state in _HOLDS_NOTHING:
                continue
            most[one.source_ip] = max(most[one.source_ip], one.count)
    return [(address, number) for address, number in most.most_common() if number >= 5]


def _slow_suspect(late: list, timeouts: int, holders: list[tuple[str, int]]) -> Suspect:  # type: ignore[type-arg]
    actors: Counter[str] = Counter()
    for group in late:
        if group.source_ip is not None:
            actors[group.source_ip] += group.requests
    for address, number in holders:
        actors[address] = max(actors[address], number)
    if timeouts:
        why = say("{timeouts} connections held a worker and never completed a request (408)", timeouts=timeouts)
        against = None
    else:
        why = say("every worker was busy while fewer requests than usual were completed")
        against = say("connections that hold a worker leave no line: it is inferred from what is missing")
    return Suspect(
        "connections",
        "slow-connections",
        say("connections that never complete a request"),
        why,
        actors=tuple(Actor(address, number) for address, number in actors.most_common()),
        requests=timeouts,
        counter_evidence=against,
    )


# -- limits ------------------------------------------------------------------------------------------------------------


def _limits(facts: Sequence[Fact], accesses: Accesses, load: Load | None, capacity: Capacity) -> Iterable[Accused]:
    """More workers allowed, or running, than memory holds: then any burst brings the server down."""
    starved = any(event.by != "signal" for _, event in events(facts, ProcessKilled))
    reached = [one for one in events(facts, LimitReached) if not one[1].near and one[1].limit != "listen queue"]
    if (
        reached
        and not starved
        and (load is None or (load.rise < _CLEAR and _goes_on(accesses, load, reached[0][0].ts)))
    ):
        limit = reached[0][1]
        name = say("{limit} of {service}", limit=limit.limit, service=limit.service)
        why = say("ordinary load reached it: nothing came that does not come otherwise")
        suspect = Suspect("limit", "misconfiguration", name, why, process=limit.service)
        yield Accused(suspect, 0.45 if load is not None else 0.25)
    if not starved or not capacity.worker_bytes or not capacity.memory_bytes or not capacity.workers:
        return
    share = capacity.workers * capacity.worker_bytes / capacity.memory_bytes
    if share < 0.5:
        return
    why = say(
        "{workers} processes of {worker} held {held:size}, {share:share} of the memory; {fitting} fit beside the rest",
        workers=capacity.workers,
        worker=capacity.worker,
        held=capacity.workers * capacity.worker_bytes,
        share=min(1.0, share),
        fitting=capacity.fitting,
    )
    ordinary = load is not None and load.before_s > 0 and load.rise < _CLEAR
    suspect = Suspect(
        "limit",
        "misconfiguration",
        say("more {worker} than the memory holds", worker=capacity.worker),
        why,
        process=capacity.worker,
        share=min(1.0, share),
        counter_evidence=None if ordinary else say("it needed something that called for so many workers at once"),
    )
    yield Accused(suspect, 0.6 if ordinary else 0.29)


def _goes_on(accesses: Accesses, load: Load, ts: float) -> bool:
    """Whether requests were completed after `ts` as before it. Else those that held the workers never got as far as the
    log, and that they were ordinary is not known.
    """
    if not load.before_s:
        return True
    done = sum(group.requests for group in accesses.groups(ts, ts + _GOES_ON_S))
    return done >= _GOES_ON_SHARE * _GOES_ON_S * sum(group.requests for group in load.before) / load.before_s
