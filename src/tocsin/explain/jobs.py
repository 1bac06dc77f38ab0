"""Jobs on the machine itself that took the memory; told from services, which serve requests. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from tocsin.explain.accuse import Accused
from tocsin.explain.appservers import Server, is_ambiguous, server_of, uids_of_services
from tocsin.explain.capacity import Capacity
from tocsin.explain.incident import Trouble
from tocsin.explain.load import Load
from tocsin.explain.model import Fact, Said, Suspect, Value, say
from tocsin.explain.symptoms import events, is_serving
from tocsin.server_events import JobStarted, Processes, ProcessKilled, Sample

_BEFORE_S = 900.0
"""How long before the first symptom a job or a change may have begun."""

_ONE_RUN_S = 30.0
"""Two logs may tell of one run of a job."""

_HOURLY = re.compile(r"cron\.hourly\b").search

CLEAR = 6.0
"""From this rise on (see Load) now differs from before."""

_SYSTEM = frozenset(
    (
        *("systemd", "systemd-journald", "systemd-journal", "systemd-udevd", "systemd-logind"),
        *("systemd-network", "systemd-resolve", "sshd", "cron", "crond", "rsyslogd", "agetty", "login", "bash"),
        *("sh", "dash", "su", "sudo", "init", "dbus-daemon", "polkitd", "irqbalance", "ps", "top", "free"),
        *("df", "vmstat", "sleep", "exim4", "master", "qmgr", "pickup", "fail2ban-server", "snapd", "atop"),
        "tocsin",
    )
)
_INTERPRETERS = frozenset(("python", "perl", "php", "ruby", "sh", "bash", "dash", "node"))
_JOB_SHARE = 0.2
_FAMILY_SHARE = 0.3
_SHELL_WORDS = frozenset(
    ("cd", "/", "&&", "||", "[", "test", "if", "then", "(", "-x", "!", "exec", "nice", "ionice", "command", "-v")
)


def jobs_of(trouble: Trouble, facts: Sequence[Fact], load: Load | None, capacity: Capacity) -> Iterable[Accused]:
    """Processes that held much of the memory when it gave out: jobs, which serve no request, and services that outgrew
    it; else jobs that began shortly before.
    """
    jobs = [(fact, event) for fact, event in events(facts, JobStarted) if _near(trouble, fact.ts)]
    early = _early(facts, trouble)
    for processes, share in _idle(facts, capacity, jobs):
        if share < _JOB_SHARE:
            continue
        started = _starter(jobs, processes, facts)
        if started is None and (server := server_of(processes.name, facts)) is not None:
            yield _accused_server(processes, share, server, load)
            continue
        score = min(0.97, 0.65 + share)
        doubtful = is_ambiguous(processes.name) and started is None and not _is_new(processes, early)
        yield Accused(_job_suspect(processes, share, started, doubtful=doubtful), score * (0.4 if doubtful else 1.0))
    if not capacity.worker and not any(True for _ in events(facts, Sample)):
        yield from _killed_jobs(facts, jobs, load)
    yield from _timed_jobs(trouble, facts, jobs)


def _idle(
    facts: Sequence[Fact], capacity: Capacity, jobs: list[tuple[Fact, JobStarted]]
) -> list[tuple[Processes, float]]:
    """What held memory, but for the system's own and what serves; a family of processes, such as a job and what it
    started, is one.
    """
    users = {event.user for _, event in jobs if event.user}
    uids = uids_of_services(facts, users)
    idle = [
        one
        for one in _holders(facts, capacity)
        if not is_serving(one[0].name)
        and one[0].name not in _SYSTEM
        and not (_is_started_by(uids, one[0], facts) and _starter(jobs, one[0], facts) is None)
    ]
    together = min(1.0, sum(share for _, share in idle))
    if idle and idle[0][1] < _JOB_SHARE and together >= _FAMILY_SHARE:
        idle = [(idle[0][0], together)]
    return idle


def _is_started_by(uids: frozenset[int], processes: Processes, facts: Sequence[Fact]) -> bool:
    """Whether services started these for requests: they run as the same user, and are not the service itself."""
    return bool(processes.uids) and uids.issuperset(processes.uids) and server_of(processes.name, facts) is None


def _starter(jobs: list[tuple[Fact, JobStarted]], processes: Processes, facts: Sequence[Fact]) -> JobStarted | None:
    """The job that these processes are, by their name or by the unit in which one of them was killed."""
    units = {event.unit for _, event in events(facts, ProcessKilled) if event.process == processes.name}
    return next((job for _, job in jobs if job.command in units or _names(job.command, processes)), None)


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


def _accused_server(processes: Processes, share: float, server: Server, load: Load | None) -> Accused:
    """What serves the site and outgrew the memory, or a limit of its own: by itself, where nothing came that does not
    come otherwise.
    """
    score, against = min(0.8, 0.45 + share / 2), None
    if load is None:
        score = min(score, 0.64 if server.limit_group else 0.48)
        against = say("no access log covers that time: requests may have called for it")
    elif load.rise >= CLEAR:
        score *= 0.6
        against = say("requests rose as well: they may have called for it")
    process = server.unit or processes.name
    if server.limit_group:
        name, why = say("the memory limit of {process}", process=process), _why_limit(processes, server)
    else:
        name, why = say("the memory of {process}", process=process), _why_server(process, processes)
    suspect = Suspect(
        "limit" if server.limit_group else "process",
        "misconfiguration",
        name,
        why,
        process=process,
        share=share,
        counter_evidence=against,
    )
    return Accused(suspect, score)


def _why_server(process: str, processes: Processes) -> Said:
    if not processes.rss_bytes:
        return say("{process} runs as a service, and was killed when memory gave out", process=process)
    return say(
        "{process} runs as a service, and held {size:size} when memory gave out and it was killed",
        process=process,
        size=processes.rss_bytes,
    )


def _why_limit(processes: Processes, server: Server) -> Said:
    facts: dict[str, Value] = {"unit": server.unit, "process": processes.name}
    if not server.limit_bytes:
        return say("{unit} reached its own limit of memory, and {process} in it was killed", **facts)
    text = "{unit} reached its own limit of {limit:size} of memory, not the machine's, and {process} in it was killed"
    return say(text, limit=server.limit_bytes, **facts)


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


def _killed_jobs(facts: Sequence[Fact], jobs: list[tuple[Fact, JobStarted]], load: Load | None) -> Iterable[Accused]:
    """Where no sample shows who held the memory: victims that serve no request."""
    for _, event in events(facts, ProcessKilled):
        if event.by != "signal" and not is_serving(event.process) and event.process not in _SYSTEM:
            held = Processes(event.process, 1, event.rss_bytes or 0)
            started = _starter(jobs, held, facts) is not None
            server = None if started else server_of(event.process, facts)
            if server is not None:
                yield _accused_server(held, 0.0, server, load)
                return
            why = say("it was killed when memory gave out")
            if event.rss_bytes:
                why = say("it was killed when memory gave out: it held {size:size}", size=event.rss_bytes)
            suspect = Suspect(
                "process", "local-job", say("{process}", process=event.process), why, process=event.process
            )
            yield Accused(suspect, 0.85 if started else 0.7)
            return


def _timed_jobs(trouble: Trouble, facts: Sequence[Fact], jobs: list[tuple[Fact, JobStarted]]) -> Iterable[Accused]:
    """Jobs that began shortly before, without proof that they took anything. What runs every hour or oftener has done
    so without an outage, and nothing speaks against it.
    """
    firsts: dict[str, float] = {}
    for fact, event in events(facts, JobStarted):
        firsts.setdefault(event.command, fact.ts)
    recent = [
        (fact, event)
        for fact, event in jobs
        if trouble.start - 300 <= fact.ts <= trouble.start
        and fact.ts - firsts[event.command] <= _ONE_RUN_S
        and not _HOURLY(event.command)
    ]
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
