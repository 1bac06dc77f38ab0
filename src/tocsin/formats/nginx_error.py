"""nginx's error log: `2014/05/15 08:57:21 [alert] 31914#0: *13546 message, client: A, server: S, request: "...", ...`.

Times are local and name no zone. The request, the referrer and the names of files are the client's words, unescaped:
only messages with a known beginning are read, and the client is the first one named after it where nothing of his
stands between, else the only one. What FastCGI sent in stderr may go on over lines; an entry has 2,048 bytes at most.
Facts: nginx's ngx_log.c, ngx_http_upstream.c, ngx_event_accept.c, ngx_process.c, ngx_process_cycle.c.

Codes of an AppError: `upstream-timeout`, `upstream-closed`, `no-live-upstreams`, `connect`, `limit_req`, `limit_conn`,
`delayed`, `forbidden`, `auth_basic`, `client-timeout`, `ENOMEM`; see also `php_messages`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from tocsin.formats.addresses import canonical
from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, time_piece
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries, cut, errno_event, fatal_signal
from tocsin.formats.heard import Hours
from tocsin.formats.php_messages import relayed_event
from tocsin.formats.services import service_name
from tocsin.formats.told import Told
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState

_SERVICE = "nginx"
_LINE = re.compile(
    r"([0-9]{4}/[0-9]{2}/[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) \[([a-z]{4,6})\] ([0-9]{1,10})#[0-9]{1,20}: "
    r"(?:\*[0-9]{1,20} )?"
).match
_ENTRY_BYTES = 2047

_TEXT = re.compile(
    r"(?P<upstream_timeout>upstream timed out )"
    r"|(?P<upstream_closed>upstream prematurely closed |upstream sent unexpected FastCGI request id high byte)"
    r"|(?P<no_live_upstreams>no live upstreams )"
    r'|(?P<limit_req>limiting requests(?:, dry run)?, excess: )|(?P<limit_conn>limiting connections by zone ")'
    r"|(?P<delayed>delaying request, excess: )|(?P<forbidden>access forbidden by rule)"
    r'|(?P<auth_basic>user "(?P<user>.{0,500})"(?:: password mismatch| was not found in "[^"]{1,1000}"), client: )'
    r"|(?P<client_timeout>client timed out \(110: )"
    r"|(?P<connections>(?P<most>[0-9]{1,9}) worker_connections are not enough(?P<reusing>, reusing connections)?)"
    r"|(?P<stderr>FastCGI sent in stderr: \")"
    r"|(?P<modsecurity>\[client (?P<peer>[0-9a-fA-F.:]{2,45})\] ModSecurity: Access denied )"
    r"|(?P<worker>(?:worker|cache manager|cache loader) process (?P<pid>[0-9]{1,10}) exited on signal "
    r"(?P<signal>[0-9]{1,3})(?: \(core dumped\))?$)"
    r"|(?P<hopeless>worker process [0-9]{1,10} exited with fatal code [0-9]{1,3} and cannot be respawned)"
    r"|(?P<reconfiguring>signal [0-9]{1,2} \(SIGHUP\) received(?: from [0-9]{1,10})?, reconfiguring$)"
    r"|(?P<leaving>signal [0-9]{1,2} \(SIG(?:TERM|INT|QUIT)\) received(?: from [0-9]{1,10})?, "
    r"(?:exiting|shutting down)$)"
    r"|(?P<exit>exit$)|(?P<starting>start worker processes$)"
    r'|(?P<call>(?P<name>[a-z][a-z0-9_]{1,30})\([0-9]{0,12}\)(?: "(?P<path>[^"]{0,1024})"| to [^ "]{1,200})?'
    r' failed(?: while spawning "[^"]{1,40}")? \((?P<errno>[0-9]{1,3}): )'
).match
_CLIENT = re.compile(r", client: ([0-9a-fA-F.:]{2,45})(?=, server: |$)")
_SOCKET = re.compile(r"connect\(\) to unix:([\w./@-]{1,200}?)(?:\.sock(?:et)?)?:? failed ").match
_CLOSED = re.compile(r'" while [a-z ]{1,60}, client: ')
_COMPLAINTS = {
    "upstream_timeout": "backend-slow",
    "upstream_closed": "backend-down",
    "no_live_upstreams": "backend-down",
    "limit_req": "denied",
    "limit_conn": "denied",
    "delayed": None,
    "forbidden": "denied",
    "client_timeout": "timeout",
}
_WITH_BACKEND = re.compile(r"[A-Za-z ]{1,60}\) while [a-z ]{1,60} upstream, client: ").match
_BACKEND_CALLS = frozenset(("connect", "recv", "send", "writev", "readv", "sendfile"))
_GRAVE = frozenset(("crit", "alert", "emerg"))


class NginxError(Entries):
    """nginx's error log. An `emerg` that kept nginx from starting (or from reloading, or `nginx -t` from agreeing) is
    told once a process.
    """

    name = "nginx-error"
    kind = "error"

    def __init__(self) -> None:
        super().__init__()
        self._hours = Hours(Stamp([time_piece("%Y/%m/%d %H:%M:%S")]).ts, 14)
        self._stderr_left = 0
        self._stderr_level = ""
        self._reloading = False
        self._leaving_pid: str | None = None
        self._refused_pid: str | None = None
        self._states: dict[str, Callable[[float, str, str], ServiceState | None]] = {
            "hopeless": self._hopeless,
            "reconfiguring": self._reconfiguring,
            "leaving": self._leaving,
            "exit": self._exit,
            "starting": self._starting,
        }

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        if self._stderr_left > 0:
            return self._stderr_continued(line, number)
        head = _LINE(line)
        ts = self._hours.ts(head[1], anchor) if head else None
        if head is None or ts is None:
            return self._misfit(line)
        self.ts = ts
        level, pid, start = head[2], head[3], head.end()
        found = _TEXT(line, start)
        event: ServerEvent | None = None
        if found is not None:
            event = self._event(ts, level, pid, found, line)
        elif level == "emerg":
            event = self._refusal(ts, pid, line[start:])
        return (self._told(event, line, number),) if event is not None else ()

    def _event(self, ts: float, level: str, pid: str, found: re.Match[str], line: str) -> ServerEvent | None:
        kind = found.lastgroup
        # the last group to close is the outermost: each alternative is one
        if kind is None:
            return None
        if kind in _COMPLAINTS:
            client = _first_client(line, found.end())
            return _complaint(ts, level, kind, _COMPLAINTS[kind], client, line[found.start() :])
        state = self._states.get(kind)
        if state is not None:
            return state(ts, pid, line[found.start() :])
        if kind == "stderr":
            return self._stderr(ts, level, found, line)
        if kind == "call":
            return self._call(ts, level, pid, found, line)
        return _simple(ts, level, kind, found, line)

    def _call(self, ts: float, level: str, pid: str, found: re.Match[str], line: str) -> ServerEvent | None:
        """A system call failed. The file that `open` did not find is the client's invention, errno and all."""
        name, errno, text = found["name"], found["errno"], line[found.start() :]
        if name == "connect" and errno == "11":
            return LimitReached(ts, _listener(text), "listen queue")
        if name == "open" and level not in _GRAVE:
            return None
        event = errno_event(ts, _SERVICE, level, errno, text, found["path"])
        if event is not None:
            return event
        if name == "connect" or (name in _BACKEND_CALLS and _WITH_BACKEND(line, found.end())):
            symptom = "backend-slow" if name != "connect" and errno == "110" else "backend-down"
            return _complaint(ts, level, name, symptom, _first_client(line, found.end()), text)
        return self._refusal(ts, pid, text) if level == "emerg" else None

    def _stderr(self, ts: float, level: str, found: re.Match[str], line: str) -> ServerEvent | None:
        """What a FastCGI backend sent in stderr: a script's words, which may pretend to be the rest of the line."""
        if _CLOSED.search(line, found.end()) is None:
            self._stderr_left = _ENTRY_BYTES - len(line)
            self._stderr_level = level
        return relayed_event(ts, line[found.end() :], _only_client(line, found.end()))

    def _stderr_continued(self, line: str, number: int) -> Sequence[Told]:
        self._stderr_left = 0 if _CLOSED.search(line) else self._stderr_left - len(line) - 1
        event = relayed_event(self.ts or 0.0, line, _only_client(line, 0))
        return (self._told(event, line, number),) if event is not None else ()

    def _refusal(self, ts: float, pid: str, text: str) -> ServiceState | None:
        if pid == self._refused_pid:
            return None
        self._refused_pid = pid
        return ServiceState(ts, _SERVICE, "refused", text[:DETAIL_CHARACTERS])

    def _reconfiguring(self, ts: float, pid: str, text: str) -> ServiceState:  # noqa: ARG002  alike with its neighbours
        self._reloading = True
        return ServiceState(ts, _SERVICE, "reloaded", text[:DETAIL_CHARACTERS])

    def _starting(self, ts: float, pid: str, text: str) -> ServiceState | None:  # noqa: ARG002  alike
        reloading, self._reloading = self._reloading, False
        self._leaving_pid = None
        return None if reloading else ServiceState(ts, _SERVICE, "started", text[:DETAIL_CHARACTERS])

    def _leaving(self, ts: float, pid: str, text: str) -> ServiceState | None:
        if self._leaving_pid is not None:
            return None
        self._leaving_pid = pid
        return ServiceState(ts, _SERVICE, "stopping", text[:DETAIL_CHARACTERS])

    def _exit(self, ts: float, pid: str, text: str) -> ServiceState | None:
        if pid != self._leaving_pid:
            return None
        self._leaving_pid = None
        return ServiceState(ts, _SERVICE, "stopped", text)

    def _hopeless(self, ts: float, pid: str, text: str) -> ServiceState:  # noqa: ARG002  alike with its neighbours
        return ServiceState(ts, _SERVICE, "failed", text[:DETAIL_CHARACTERS])


def _listener(text: str) -> str:
    """Whose queue is full: of whoever listens at the socket, by its name."""
    path = _SOCKET(text)
    if path is None:
        return _SERVICE
    return "php-fpm" if "fpm" in path[1] else service_name(path[1]) or _SERVICE


def _simple(ts: float, level: str, kind: str, found: re.Match[str], line: str) -> ServerEvent | None:
    if kind == "connections":
        near = found["reusing"] is not None
        return LimitReached(ts, _SERVICE, "worker_connections", int(found["most"]), near)
    if kind == "worker":
        signal = fatal_signal(found["signal"])
        return ProcessKilled(ts, _SERVICE, int(found["pid"]), "signal", signal) if signal else None
    text = line[found.start() :]
    if kind == "modsecurity":
        return _complaint(ts, level, kind, "denied", canonical(found["peer"]), text)
    return _complaint(ts, level, kind, "login", _only_client(line, found.start()), text)


def _complaint(ts: float, level: str, kind: str, symptom: str | None, source_ip: str | None, text: str) -> AppError:
    code = "auth_basic" if kind == "auth_basic" else kind if kind.startswith("limit_") else kind.replace("_", "-")
    return AppError(ts, _SERVICE, level, code, symptom, source_ip, text[:DETAIL_CHARACTERS])  # type: ignore[arg-type]


def _first_client(line: str, start: int) -> str | None:
    """The client where nginx alone has spoken up to there."""
    found = _CLIENT.search(line, start)
    return canonical(found[1]) if found else None


def _only_client(line: str, start: int) -> str | None:
    """The client where somebody else has spoken, too: the only one that is named, or none."""
    found = _CLIENT.search(line, start)
    return canonical(found[1]) if found and line.count(", client: ", start) == 1 else None
