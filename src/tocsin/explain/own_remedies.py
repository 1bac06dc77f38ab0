"""What to do about what the site itself runs, and the limits that it set itself. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tocsin.explain.appservers import own_name
from tocsin.explain.model import Fact, Remedy, Suspect, say
from tocsin.explain.symptoms import events
from tocsin.server_events import LimitReached, ProcessKilled, Sample

_UNIT = re.compile(r"[A-Za-z0-9][\w.@:-]{0,100}").fullmatch
_CONTAINER = re.compile(r"(docker|libpod)-([0-9a-f]{12})").fullmatch
_SOONER = 0.9
"""Of what a service held when memory gave out, so much is where it is to be stopped next time."""

_ROOMIER = 1.5
_WHO_IS_CONNECTED = {
    "postgresql": "SELECT usename, application_name, state, count(*) FROM pg_stat_activity GROUP BY 1, 2, 3"
    " ORDER BY 4 DESC;",
    "mysql": "SELECT user, host, command, count(*) FROM information_schema.processlist GROUP BY 1, 2, 3"
    " ORDER BY 4 DESC;",
}
_WHO_IS_CONNECTED["mariadb"] = _WHO_IS_CONNECTED["mysql"]


def of_misconfiguration(suspect: Suspect, facts: Sequence[Fact]) -> Iterator[Remedy]:
    """What helps a service that outgrew the memory, or a limit that was reached."""
    if suspect.kind == "process":
        yield _of_growth(suspect)
    elif suspect.kind == "limit":
        yield from _of_own_limit(suspect, facts)
        yield from _of_connections(suspect, facts)


def _of_growth(suspect: Suspect) -> Remedy:
    """A limit somewhat below what it held has it started again, and nothing else killed, before memory gives out. What
    it needs while it is well is not known.
    """
    unit = suspect.process or ""
    if not suspect.share or not _UNIT(unit):
        apply = f"# the unit of {unit}: systemctl edit\n[Service]\nRestart=always" if _UNIT(unit) else ""
        return Remedy(say("look for what it never frees; until then let it be started again by itself"), apply)
    least = max(5, int(suspect.share * _SOONER * 20) * 5)
    text = say(
        "look for what it never frees; until then a limit somewhat below the {share:share} that it held has it started "
        "again before the machine's memory runs out (what it needs while it is well, no log says)",
        share=suspect.share,
    )
    return Remedy(text, f"# the unit of {unit}: systemctl edit\n[Service]\nMemoryMax={least}%\nRestart=always")


def _of_own_limit(suspect: Suspect, facts: Sequence[Fact]) -> Iterator[Remedy]:
    unit = suspect.process or ""
    kills = (event for _, event in events(facts, ProcessKilled) if event.by == "cgroup-oom")
    if not any(own_name(event.limit_group) == unit for event in kills):
        return
    text = say(
        "raise that limit, if the machine has room, or keep the program below it by a limit of its own "
        "(java -Xmx, node --max-old-space-size), and look for what it never frees"
    )
    limit = next((one.limit_bytes for _, one in events(facts, Sample) if one.limit_bytes), None)
    yield Remedy(text, _raised(unit, int(limit * _ROOMIER) >> 20) if limit else "")


def _raised(unit: str, mebibytes: int) -> str:
    """The command that raises the limit of a container, or the lines that raise that of a unit."""
    container = _CONTAINER(unit)
    if container:
        tool = "docker" if container[1] == "docker" else "podman"
        return f"{tool} update --memory {mebibytes}m --memory-swap {mebibytes}m {container[2]}"
    if not _UNIT(unit) or unit.startswith(("container-", "cri-containerd-", "crio-")):
        return ""
    return f"# the unit of {unit}: systemctl edit\n[Service]\nMemoryMax={mebibytes}M"


def _of_connections(suspect: Suspect, facts: Sequence[Fact]) -> Iterator[Remedy]:
    reached = [one for _, one in events(facts, LimitReached) if not one.near and one.limit == "max_connections"]
    if not any(one.service == suspect.process for one in reached):
        return
    text = say(
        "let the pools of all applications together stay below max_connections, or put one pool before the database "
        "(PgBouncer, ProxySQL); raise it only as far as the memory bears. This shows who holds them"
    )
    yield Remedy(text, _WHO_IS_CONNECTED.get(suspect.process or "", ""))
