"""Services of any name, such as what answers requests behind the web server, told from jobs. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.explain.model import Fact
from tocsin.explain.symptoms import events, is_serving
from tocsin.model import AppError, ProcessKilled, ServiceState

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
