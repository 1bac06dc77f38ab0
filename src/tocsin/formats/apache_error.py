"""Apache's error log, 2.2 and 2.4.

2.2: `[time] [level] [client A] (errno)text: message`. 2.4: `[time] [module:level] [pid P:tid T] file(line):
(errno)text: [client A:port] AHnnnnn: message, referer: R`, each part but the first two left out where it has none.
Times are local and name no zone.

Clients write into messages (paths, user names, referers), scripts even whole ones (`error_log`). So each part counts
in its place alone: a number `AHnnnnn` is none where PHP or a CGI speaks, and what concerns the whole server has no
client. Messages without a number are told by their beginning. Facts: httpd 2.4's and 2.2's sources.

Codes of an AppError: Apache's number, for 2.2 that which 2.4 gave to the same message; see also `php_messages`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

from msgspec import Struct

from tocsin.formats.addresses import canonical
from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, time_piece
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries, cut, errno_event, fatal_signal
from tocsin.formats.heard import Hours
from tocsin.formats.php_messages import php_event, relayed_event
from tocsin.formats.told import Told
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState

_SERVICE = "apache2"
_ERRNO = r"\((?:[A-Z]{2,4} )?(?P<errno>[0-9]{1,9})\)[^:\[\]]{1,120}: "
_TAIL = (
    rf"(?:{_ERRNO})?"
    r"(?:\[(?P<side>client|remote) (?P<client>[^\]\s]{1,100})\] (?:\[client [^\]\s]{1,100}\] )?)?"
    rf"(?:{_ERRNO.replace('errno', 'errno22')})?"
    r"(?:(?P<id>AH[0-9]{5}): ?)?"
)
_LINE = re.compile(
    r"\[(?P<day>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8})(?P<fraction>\.[0-9]{1,6})? (?P<year>[0-9]{4})\] "
    r"\[(?:(?P<module>[A-Za-z0-9_-]*):)?(?P<level>[a-z0-9]{1,10})\] "
    r"(?:\[pid [0-9]{1,10}(?::tid [0-9]{1,20})?\] )?"
    r"(?:[A-Za-z0-9_./-]{1,100}\([0-9]{1,6}\): )?" + _TAIL
).match
_MESSAGE = re.compile(_TAIL).match
_TIMED_OUT = frozenset(("70007", "110"))
_CGI = frozenset(("cgi", "cgid", "fcgid"))


class _Said(Struct, gc=False):
    ts: float
    level: str
    code: str
    errno: str | None
    source_ip: str | None
    text: str


_Reading = Callable[[_Said], ServerEvent | None]


def _error(said: _Said, symptom: str | None) -> AppError:
    text = said.text[:DETAIL_CHARACTERS]
    return AppError(said.ts, _SERVICE, said.level, said.code, symptom, said.source_ip, text)  # type: ignore[arg-type]


def _complaint(symptom: str | None) -> _Reading:
    return lambda said: _error(said, symptom)


def _state(state: str) -> _Reading:
    return lambda said: ServiceState(said.ts, _SERVICE, state, said.text[:DETAIL_CHARACTERS])  # type: ignore[arg-type]


def _limit(name: str, *, near: bool = False) -> _Reading:
    return lambda said: LimitReached(said.ts, _SERVICE, name, near=near)


def _workers(said: _Said) -> ServerEvent:
    old = said.text.startswith("server reached MaxClients")
    return LimitReached(said.ts, _SERVICE, "MaxClients" if old else "MaxRequestWorkers")


# prefork's: of the other MPMs' children nobody knows how many threads each has
_BUSY = re.compile(
    r"server seems busy, \([^()]{1,120}\), spawning [0-9]{1,9} children, there are [0-9]{1,9} idle, and "
    r"([0-9]{1,9}) total children"
).match


def _busy(said: _Said) -> ServerEvent:
    counts = _BUSY(said.text)
    return LimitReached(said.ts, _SERVICE, "MaxRequestWorkers", int(counts[1]) if counts else None, near=True)


_CHILD = re.compile(r"child pid ([0-9]{1,10}) exit signal [^()]{1,60} \(([0-9]{1,3})\)").match


def _child(said: _Said) -> ServerEvent | None:
    child = _CHILD(said.text)
    signal = fatal_signal(child[2]) if child else None
    if child is None or signal is None:
        return None
    return ProcessKilled(said.ts, _SERVICE, int(child[1]), "signal", signal)


def _fork(said: _Said) -> ServerEvent:
    if said.errno == "11":
        return LimitReached(said.ts, _SERVICE, "processes")
    return _error(said, "out-of-memory")


def _backend(said: _Said) -> ServerEvent:
    return _error(said, "backend-slow" if said.errno in _TIMED_OUT else "backend-down")


def _connecting(said: _Said) -> ServerEvent:
    # EAGAIN: a Unix socket's queue is full, so that the backend lives but does not take more
    if said.errno == "11":
        return LimitReached(said.ts, _SERVICE, "listen queue")
    return _error(said, "backend-down")


def _mutex(said: _Said) -> ServerEvent:
    # System V semaphores, not bytes, are what there is no space for
    if said.errno == "28":
        return LimitReached(said.ts, _SERVICE, "semaphores")
    return ServiceState(said.ts, _SERVICE, "refused", said.text[:DETAIL_CHARACTERS])


def _relayed(said: _Said) -> ServerEvent | None:
    return relayed_event(said.ts, said.text, said.source_ip)


_REFUSED = "AH00013 AH00014 AH00015 AH00016 AH00017 AH00018 AH00019 AH00020 AH00072 AH00100 AH00451 AH00526"
_SERVER: dict[str, _Reading] = {
    **dict.fromkeys(("AH00161", "AH00286", "AH00484"), _workers),
    **dict.fromkeys(("AH00287", "AH10159"), _limit("MaxRequestWorkers", near=True)),
    **dict.fromkeys(("AH00288", "AH00485", "AH03490"), _limit("scoreboard")),
    **dict.fromkeys(("AH00162", "AH00289", "AH00486"), _busy),
    **dict.fromkeys(("AH00159", "AH00283", "AH00481"), _fork),
    **dict.fromkeys(("AH00051", "AH00052"), _child),
    **dict.fromkeys(("AH00045", "AH00046", "AH00047", "AH10392"), _complaint(None)),
    **dict.fromkeys(("AH00163", "AH00292", "AH00489", "AH00094"), _state("started")),
    **dict.fromkeys(("AH00169", "AH00295", "AH00491"), _state("stopped")),
    **dict.fromkeys(("AH00170", "AH00296", "AH00492"), _state("stopping")),
    **dict.fromkeys(("AH00171", "AH00297", "AH00493", "AH00173", "AH00298", "AH00494"), _state("reloaded")),
    **dict.fromkeys(_REFUSED.split(), _state("refused")),
    "AH00050": _state("died"),
    "AH00098": _state("recovered"),
    "AH00023": _mutex,
}
"""What concerns the whole server. AH00050: a child's fatal error takes the parent along. AH00098: the PID file of a
server that never took its leave."""

_REQUEST: dict[str, _Reading] = {
    **dict.fromkeys(("AH00957", "AH02454"), _connecting),
    **dict.fromkeys(("AH00959", "AH01079", "AH01114"), _complaint("backend-down")),
    **dict.fromkeys(("AH01067", "AH01075", "AH01102", "AH01110", "AH00898"), _backend),
    "AH01068": _complaint("backend-down"),
    "AH01070": _complaint("fatal"),
    "AH01071": _relayed,
    **dict.fromkeys(("AH01630", "AH01797"), _complaint("denied")),
    **dict.fromkeys(("AH01617", "AH01618", "AH01790", "AH01794"), _complaint("login")),
    "AH01382": _complaint("timeout"),
}
_AT_ONCE_S = 60.0
_NEVER = float("-inf")

_SERVER_TEXT = re.compile(
    r"(?P<AH00161>server reached Max(?:Clients|RequestWorkers) setting)|(?P<AH00162>server seems busy, )"
    r"|(?P<AH00288>scoreboard is full, not at Max)|(?P<AH00052>child pid )"
    r"|(?P<AH00045>child process [0-9]{1,10} still did not exit, sending a SIG)"
    r"|(?P<AH00047>could not make child process )|(?P<AH00159>fork: Unable to fork new process)"
    r"|(?P<AH00163>Apache(?:/[^ ]{1,40})? (?:[^ ]{1,200} ){0,40}configured -- resuming normal operations$)"
    r"|(?P<AH00169>caught SIGTERM, shutting down)|(?P<AH00170>caught SIGWINCH, shutting down gracefully)"
    r"|(?P<AH00171>Graceful restart requested, doing restart|SIGUSR1 received\. +Doing graceful restart)"
    r"|(?P<AH00173>SIGHUP received\. +Attempting to restart)"
    r"|(?P<AH00050>Child [0-9]{1,10} returned a Fatal error)"
    r"|(?P<AH00098>pid file [^ ]{1,500} overwritten -- Unclean shutdown of previous Apache run\?)"
    r"|(?P<AH00072>make_sock: could not bind to address )|(?P<AH00451>no listening sockets available, shutting down)"
    r"|(?P<AH00016>Configuration Failed|Pre-configuration failed|Configuration check failed|Unable to open logs)"
    r"|(?P<AH00526>(?:[a-z0-9/]{1,80}: )?Syntax error on line [0-9]{1,9} of |Cannot load \S{1,500} into server: )"
    r"|(?P<AH00023>Couldn't create (?:the|accept) |Cannot create SSLMutex)"
    r"|(?P<AH00957>proxy: [A-Z]{1,10}: attempt to connect to .{1,200} failed)"
).match
_REQUEST_TEXT = re.compile(
    r"(?P<AH01630>client denied by server configuration: )"
    r"|(?P<AH01617>user .{0,200}: authentication failure for \")|(?P<AH01618>user .{0,200} not found: )"
    r"|(?P<AH01102>proxy: error reading status line from remote server |proxy: Error reading from remote server)"
    r"|(?P<AH01114>proxy: [A-Z]{1,10}: failed to make connection to backend: )"
    r"|(?P<AH01382>Request (?:header|body|handshake) read timeout)"
    r"|(?P<fcgid_slow>mod_fcgid: (?:read data timeout in|ap_pass_brigade failed in handle_request_ipc"
    r"|can't apply process slot for))"
    r"|(?P<modsecurity>ModSecurity: (?:\[[^\]]{0,100}\] )?Access denied )"
).match
_BY_TEXT: dict[str, _Reading] = {
    "fcgid_slow": _complaint("backend-slow"),
    "modsecurity": _complaint("denied"),
}
_STDERR = re.compile(r"(?:mod_fcgid: stderr: |stderr from [^ :]{1,500}: )?(?=PHP |WordPress )").match


def apache_message(ts: float, message: str) -> ServerEvent | None:
    """What a message of the server tells that came without the log's head: through syslog, the journal, a terminal."""
    head = _MESSAGE(cut(message))
    return _event(ts, "error", None, head, cut(message)) if head and head["side"] is None else None


def _event(ts: float, level: str, module: str | None, head: re.Match[str], line: str) -> ServerEvent | None:
    """What a message tells whose place in the line is behind `head`."""
    code, side, peer = head["id"], head["side"], head["client"]
    client = peer if side == "client" else None
    errno = head["errno"] or head["errno22"]
    if module is not None and (module.startswith("php") or (module == "" and side is not None)):
        return _scripted(ts, level, head, line)
    if module in _CGI or code == "AH01215":
        stderr = _STDERR(line, head.end())
        return php_event(ts, line[stderr.end() :], _address(client, module)) if stderr else None
    if code is None:
        return _unnumbered(ts, level, module, head, line)
    reading = _REQUEST.get(code) or (_SERVER.get(code) if side is None else None)
    if reading is None and errno is None:
        return None
    text = line[head.end() :]
    event = None
    if reading is not None:
        event = reading(_Said(ts, level, code, errno, _address(client, module), text))
    return event or errno_event(ts, _SERVICE, level, errno, text)


def _scripted(ts: float, level: str, head: re.Match[str], line: str) -> ServerEvent | None:
    """What PHP, or a module of Apache 2.2's kind, said of a request: a number there is the script's invention."""
    if head["id"]:
        return None
    source_ip = _address(head["client"], "") if head["side"] == "client" else None
    event = php_event(ts, line[head.end() :], source_ip)
    if event is None and line.startswith("ModSecurity: ", head.end()):
        return _by_text(_REQUEST_TEXT(line, head.end()), ts, level, None, source_ip, line[head.end() :])
    return event


def _unnumbered(ts: float, level: str, module: str | None, head: re.Match[str], line: str) -> ServerEvent | None:
    """What a message without a number tells: all of 2.2's, and those of modules that never took numbers."""
    errno = head["errno"] or head["errno22"]
    end = head.end()
    source_ip = None
    if head["side"] == "client":
        source_ip = _address(head["client"], module)
        if module is None and (stderr := _STDERR(line, end)):
            return php_event(ts, line[stderr.end() :], source_ip)
        found = _REQUEST_TEXT(line, end)
    else:
        found = _SERVER_TEXT(line, end) or _REQUEST_TEXT(line, end)
    if found is None and errno is None:
        return None
    event = _by_text(found, ts, level, errno, source_ip, line[end:])
    return event or errno_event(ts, _SERVICE, level, errno, line[end:])


def _by_text(
    found: re.Match[str] | None, ts: float, level: str, errno: str | None, source_ip: str | None, text: str
) -> ServerEvent | None:
    code = found.lastgroup if found else None
    if code is None:
        return None
    reading = _SERVER.get(code) or _REQUEST.get(code) or _BY_TEXT[code]
    return reading(_Said(ts, level, code.replace("_", "-"), errno, source_ip, text))


def _address(client: str | None, module: str | None) -> str | None:
    """2.4 always appends the port, to IPv6 addresses, too, without brackets; 2.2 never does."""
    if client is None:
        return None
    return canonical(client if module is None else client.rpartition(":")[0] or client)


class ApacheError(Entries):
    """The error log of Apache 2.2 and 2.4. Of a restart that keeps the server's process, the first line is told."""

    name = "apache-error"
    kind = "error"

    def __init__(self) -> None:
        super().__init__()
        self._hours = Hours(Stamp([time_piece("%a %b %e %H:%M:%S %Y")]).ts, 14)
        self._reloaded_ts = self._started_ts = _NEVER

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        head = _LINE(line)
        if head is None:
            return self._misfit(line)
        ts = self._hours.ts(f"{head['day']} {head['year']}", anchor)
        if ts is None:
            return self._misfit(line)
        fraction = head["fraction"]
        self.ts = ts = ts + float(fraction) if fraction else ts
        event = _event(ts, head["level"], head["module"], head, line)
        if event is None:
            return ()
        if type(event) is ServiceState and self._repeats(event):
            return ()
        return (self._told(event, line, number),)

    def _repeats(self, event: ServiceState) -> bool:
        """Whether it says again what was told: `resuming normal operations` after a reload, `Command line` after it."""
        if event.state != "started":
            self._reloaded_ts = event.ts if event.state == "reloaded" else _NEVER
            return False
        before = self._started_ts if event.detail.startswith("Command line") else self._reloaded_ts
        self._started_ts = event.ts
        self._reloaded_ts = _NEVER
        return 0 <= event.ts - before <= _AT_ONCE_S
