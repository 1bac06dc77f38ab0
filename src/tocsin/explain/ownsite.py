"""The site's own WordPress, which calls itself over HTTP to run what is due. Pure."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable

from tocsin.explain.load import Load
from tocsin.explain.model import Group
from tocsin.explain.suspects import SUBJECT, Carried

_CRON = "/wp-cron.php"
_WORDPRESS = re.compile(r"WordPress/[\w.-]{1,30}; https?://([\w.-]{1,253})").match
_HABIT = 3
_NEARLY_ALL = 0.9


def runs_own_jobs(load: Load, one: Carried) -> bool:
    """Whether a class is a WordPress that asks itself to run its scheduled jobs, as it did before: an agent is but a
    claim, so its address must be known from before, and its host be one that is served here, where the log names those.
    """
    if not (one.signature.path or "").endswith(_CRON):
        return False
    known = _callers(load.before)
    ours = sum(group.requests for group in one.groups if _calls_itself(group) and _caller(group) in known)
    return ours >= _NEARLY_ALL * one.requests


def _callers(groups: Iterable[Group]) -> set[tuple[str, str]]:
    """The addresses, each with its agent, that had been calling themselves."""
    times: Counter[tuple[str, str]] = Counter()
    for group in groups:
        if _calls_itself(group):
            times[_caller(group)] += group.requests
    return {caller for caller, number in times.items() if number >= _HABIT}


def _caller(group: Group) -> tuple[str, str]:
    return SUBJECT(group.source_ip) if group.source_ip else "", group.user_agent or ""


def _calls_itself(group: Group) -> bool:
    """By path and agent; a virtual host that the line names must be the one that the agent names."""
    if not group.path.endswith(_CRON) or not (named := _WORDPRESS(group.user_agent or "")):
        return False
    return group.vhost is None or _bare(group.vhost) == _bare(named[1])


def _bare(host: str) -> str:
    return host.lower().partition(":")[0].removeprefix("www.")
