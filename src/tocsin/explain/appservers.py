"""Services of any name, such as what answers requests behind the web server, told from jobs. Pure."""

from __future__ import annotations

import re
from collections.abc import Collection, Sequence

from msgspec import Struct

from tocsin.explain.model import Fact
from tocsin.explain.symptoms import events, is_serving
from tocsin.formats.services import service_name
from tocsin.server_events import AppError, ProcessKilled, Sample, ServiceState

_AMBIGUOUS = frozenset(
    (
        *("java", "node", "python", "perl", "php", "ruby", "dotnet", "beam.smp", "gitea"),
        *("uwsgi", "gunicorn", "uvicorn", "puma", "unicorn", "deno", "bun"),
    )
)
"""Names of programs that serve as often as they do batches, without versions."""

_BACK_S = 60.0
"""Within this a supervisor has started again what is to run always."""

_MISSED_S = 10.0
_BEFORE_S = 2.0
_QUIET_S = 600.0


_RUN_JOBS = frozenset(("cron", "crond", "cronie", "anacron", "atd", "user"))
"""Units below which jobs run, and what people start."""

_CONTAINER = re.compile(r"(?:docker|libpod|cri-containerd|crio)-[0-9a-f]{12,64}\.scope|[0-9a-f]{64}").fullmatch
_REPORT_S = 10.0
_DATABASES = ("mysql", "mariadb", "postgres", "redis", "memcached")
"""They start nothing for requests: what runs as their user, or they as another's, is of somebody else."""

_WEB_USERS = frozenset(("www-data", "apache", "nginx", "http", "wwwrun"))


class Server(Struct, frozen=True):
    """A service: its unit or container (empty where no line names it); and where it was its own limit of memory that it
    reached, in place of the machine's, the group whose limit that is, and the limit where a line tells.
    """

    unit: str
    limit_group: str = ""
    limit_bytes: int | None = None


def server_of(name: str, facts: Sequence[Fact]) -> Server | None:
    """The service that a killed process was of; None where nothing shows that it was of any."""
    kills = [one for one in events(facts, ProcessKilled) if one[1].process == name and one[1].by != "signal"]
    limited = next((one for one in kills if one[1].by == "cgroup-oom" and own_name(one[1].limit_group)), None)
    if limited is not None and not _is_machine(report := _report_near(limited[0].ts, facts), name):
        group = limited[1].limit_group
        return Server(own_name(group), group, None if report is None else report.limit_bytes)
    unit = next((unit for _, event in kills if (unit := lasting_service(event.group))), None)
    unit = unit_behind(name, facts) if unit is None else unit
    return None if unit is None else Server(unit)


def lasting_service(group: str) -> str:
    """The service that a control group is of; empty for what people and cron start, and for containers."""
    parts = group.split("/")
    name = next((service_name(part) for part in reversed(parts) if part.endswith(".service")), "")
    return "" if name in _RUN_JOBS or "user.slice" in parts else name


def own_name(group: str) -> str:
    """The name of the service or container that a group is of; empty where it may stand for a whole machine."""
    container = next((part for part in reversed(group.split("/")) if _CONTAINER(part)), "")
    return lasting_service(group) or service_name(container)


def _report_near(ts: float, facts: Sequence[Fact]) -> Sample | None:
    """The kernel's report that a kill belongs to."""
    near = ((abs(fact.ts - ts), one) for fact, one in events(facts, Sample) if one.kind == "oom-report")
    late_s, found = min(near, key=lambda one: one[0], default=(_REPORT_S, None))
    return found if late_s < _REPORT_S else None


def _is_machine(report: Sample | None, name: str) -> bool:
    """Whether a limited group holds what a whole server needs beside `name`, as a container may."""
    return report is not None and any(is_serving(one.name) and one.name != name for one in report.processes)


def uids_of_services(facts: Sequence[Fact], users: Collection[str]) -> frozenset[int]:
    """The users as which the services run that the kernel's tables list or that were killed: what else runs so was
    started by them. But for those as whom one of `users` may have started jobs; names of users and their numbers stand
    in no log together.
    """
    others = {user for user in users if user != "root"}
    killed = {
        event.process
        for _, event in events(facts, ProcessKilled)
        if event.by != "signal" and lasting_service(event.group)
    }
    found: set[int] = set()
    databases: set[int] = set()
    for _, sample in events(facts, Sample):
        for one in sample.processes:
            if one.name.startswith(_DATABASES):
                databases.update(one.uids)
            elif (is_serving(one.name) and not others) or (one.name in killed and others <= _WEB_USERS):
                found.update(one.uids)
    return frozenset(found - databases - {0})


def is_ambiguous(name: str) -> bool:
    """Whether a process of this name may serve requests as well as do a batch."""
    return name in _AMBIGUOUS or name.rstrip("0123456789.") in _AMBIGUOUS


def unit_behind(name: str, facts: Sequence[Fact]) -> str | None:
    """The unit of a killed process that is a service (empty where no line names it): it was started again at once by
    its supervisor, or the web server found nobody behind it from then on. None where nothing shows that.
    """
    killed = [(fact.ts, event.process) for fact, event in events(facts, ProcessKilled) if event.by != "signal"]
    ours = next((ts for ts, process in killed if process == name), None)
    if ours is None or any(process != name and abs(ts - ours) <= _MISSED_S for ts, process in killed):
        return None
    if (unit := _started_again(ours, facts)) is not None:
        return unit
    down = [fact.ts for fact, event in events(facts, AppError) if event.symptom == "backend-down"]
    began = any(ours - _BEFORE_S <= ts <= ours + _MISSED_S for ts in down)
    if began and is_ambiguous(name) and not any(ours - _QUIET_S <= ts < ours - _BEFORE_S for ts in down):
        return ""
    return None


def _started_again(ts: float, facts: Sequence[Fact]) -> str | None:
    """The unit whose main process ended just then, and which its supervisor started again."""
    states = [(fact.ts, one) for fact, one in events(facts, ServiceState) if ts - _BEFORE_S <= fact.ts <= ts + _BACK_S]
    died = [one.service for at, one in states if one.state in {"died", "failed"} and at <= ts + _MISSED_S]
    again = {one.service for _, one in states if one.state == "restarting"}
    return next((unit for unit in died if unit in again and not is_serving(unit)), None)
