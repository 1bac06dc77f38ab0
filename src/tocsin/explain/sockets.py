"""A socket that the web server may not open, or does not find: a configuration's fault. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from tocsin.explain.model import Fact, Remedy, say
from tocsin.explain.symptoms import events
from tocsin.server_events import AppError, ServiceState

_LEAST = 5
_FORBIDDEN = re.compile(r"\(13(?::|\)) ?Permission denied")
_ABSENT = re.compile(r"\(2(?::|\)) ?No such file")
_SOCKET = re.compile(r"/[\w./-]{1,100}\.sock\b")

_POOL = """\
; the pool's file, such as /etc/php/8.2/fpm/pool.d/www.conf; the user and the group that the web server runs as
listen.owner = www-data
listen.group = www-data
listen.mode = 0660"""


def opening(facts: Sequence[Fact]) -> Iterator[Remedy]:
    """What to set where the web server found again and again a socket that it may not open; or none, though PHP-FPM had
    been started.
    """
    missed = [(fact.ts, event.text) for fact, event in events(facts, AppError) if event.symptom == "backend-down"]
    missed = [(ts, text) for ts, text in missed if _SOCKET.search(text)]
    forbidden = [text for _, text in missed if _FORBIDDEN.search(text)]
    absent = [(ts, text) for ts, text in missed if _ABSENT.search(text)]
    if len(forbidden) >= _LEAST:
        text = say("let the web server open the socket {path}: its owner, group and mode", path=_path(forbidden[0]))
        yield Remedy(text, _POOL if "fpm" in forbidden[0] else "")
    elif len(absent) >= _LEAST and _ran(facts, absent[0][0]):
        text = say(
            "no socket is at {path}: give the web server the path that the pool listens at", path=_path(absent[0][1])
        )
        yield Remedy(text, "grep -rs ^listen /etc/php*/*/fpm/pool.d /etc/php-fpm.d")


def _path(text: str) -> str:
    found = _SOCKET.search(text)
    return found[0] if found else ""


def _ran(facts: Sequence[Fact], ts: float) -> bool:
    """Whether PHP-FPM was up when a socket was first missed, and did not go down while it was."""
    states = [(fact.ts, event.state) for fact, event in events(facts, ServiceState) if event.service == "php-fpm"]
    before = [state for at, state in states if at <= ts]
    return before[-1:] == ["started"] and not any(at > ts and state != "reloaded" for at, state in states)
