"""PHP's logs: FPM's own, FPM's slow log, and PHP's error log (WordPress's `debug.log` is one, too).

FPM: `[26-Jul-2012 09:49:59] WARNING: [pool www] message`, local time. PHP: `[26-Jul-2012 09:49:59 UTC] PHP Fatal
error:  message`, with the name of its zone since 5.3. Facts: FPM's fpm_process_ctl.c, fpm_children.c, fpm_request.c,
fpm_php_trace.c, PHP's main.c.

Codes of an AppError: `request_slowlog_timeout`, `request_terminate_timeout`, `slowlog`; see also `php_messages`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from datetime import tzinfo
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, time_piece
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries, cut, errno_event, fatal_signal
from tocsin.formats.php_messages import php_event
from tocsin.formats.told import TEXT_CHARACTERS, Told
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState

_FPM = "php-fpm"
_TIME = r"\[(?P<time>[0-9]{2}-[A-Z][a-z]{2}-[0-9]{4} [0-9]{2}:[0-9]{2}:[0-9]{2})(?P<fraction>\.[0-9]{1,6})?"
_PATTERN = "%d-%b-%Y %H:%M:%S"

_FPM_LINE = re.compile(
    _TIME + r"\] (?P<level>DEBUG|NOTICE|WARNING|ERROR|ALERT): "
    r"(?:pid [0-9]{1,10}, [a-z_0-9]{1,60}\(\), line [0-9]{1,6}: )?(?:\[pool [^\]]{1,100}\] )?"
).match
_FPM_TEXT = re.compile(
    r"(?P<busy>seems busy \([^()]{1,200}\), spawning [0-9]{1,9} children, there are [0-9]{1,9} idle, and "
    r"(?P<total>[0-9]{1,9}) total children)"
    r"|(?P<limit>server reached (?:pm\.)?max_children setting \((?P<most>[0-9]{1,9})\))"
    r"|(?P<killed>child (?P<pid>[0-9]{1,10}) exited on signal (?P<signal>[0-9]{1,3}) )"
    r"|(?P<slow>child [0-9]{1,10}, script '.{0,1000}executing too slow \()"
    r"|(?P<late>child [0-9]{1,10}, script '.{0,1000}execution timed out \()"
    r'|(?P<said>child [0-9]{1,10} said into std(?:err|out): "(?:NOTICE: PHP message: )?)'
    r"|(?P<ready>ready to handle connections$)|(?P<reloading>Reloading in progress)"
    r"|(?P<threshold>failed processes threshold \()"
    r"|(?P<leaving>Terminating \.\.\.|Finishing \.\.\.)|(?P<gone>exiting, bye-bye!)"
    r"|(?P<refused>FPM initialization failed|failed to post process the configuration|unable to bind listening socket )"
    r"|(?P<failed>(?:fork\(\)|unable to malloc|failed to prepare).{0,200}?[(:] ?(?P<what>Cannot allocate memory"
    r"|Resource temporarily unavailable))"
).match
_LONG_ERRNO = re.compile(r"\((5|12|23|24|28|30|122)\)$")


class FpmLog(Entries):
    """PHP-FPM's own log. Why FPM would not start stands in the first error before `FPM initialization failed`."""

    name = "php-fpm"
    kind = "php"

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp([time_piece(_PATTERN)])
        self._reloading = False
        self._refused_ts: float | None = None
        self._error = ""

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        head = _FPM_LINE(line)
        ts = self._stamp.ts(head["time"], anchor) if head else None
        if head is None or ts is None:
            return self._misfit(line)
        self.ts = ts = ts + float(head["fraction"]) if head["fraction"] else ts
        text = line[head.end() :]
        found = _FPM_TEXT(text)
        level = head["level"].lower()
        if found is None:
            self._error = self._error or (text if level in {"error", "alert"} else "")
            errno = _LONG_ERRNO.search(text) if level != "notice" else None
            event = errno_event(ts, _FPM, level, errno[1], text) if errno else None
        else:
            event = self._state(ts, found, text) or _fpm_event(ts, level, found, text)
        return (self._told(event, line, number),) if event is not None else ()

    def _state(self, ts: float, found: re.Match[str], text: str) -> ServiceState | None:
        kind = found.lastgroup
        detail = text[:DETAIL_CHARACTERS]
        if kind in {"reloading", "threshold"}:
            again, self._reloading = self._reloading, True
            return None if again else ServiceState(ts, _FPM, "reloaded", detail)
        if kind == "ready":
            again, self._reloading = self._reloading, False
            self._error = ""
            return None if again else ServiceState(ts, _FPM, "started", detail)
        if kind in {"leaving", "gone"}:
            return ServiceState(ts, _FPM, "stopping" if kind == "leaving" else "stopped", detail)
        if kind != "refused":
            return None
        if not text.startswith("FPM initialization failed"):
            self._error = self._error or text
            return None
        detail, self._error = (self._error or text)[:DETAIL_CHARACTERS], ""
        return ServiceState(ts, _FPM, "refused", detail)


def _fpm_event(ts: float, level: str, found: re.Match[str], text: str) -> ServerEvent | None:
    kind = found.lastgroup
    if kind == "busy":
        return LimitReached(ts, _FPM, "pm.max_children", int(found["total"]), near=True)
    if kind == "limit":
        return LimitReached(ts, _FPM, "pm.max_children", int(found["most"]))
    if kind == "killed":
        signal = fatal_signal(found["signal"])
        return ProcessKilled(ts, _FPM, int(found["pid"]), "signal", signal) if signal else None
    if kind == "said":
        return php_event(ts, text[found.end() :])
    if kind == "failed":
        if found["what"].startswith("Resource"):
            return LimitReached(ts, _FPM, "processes")
        return AppError(ts, _FPM, level, "ENOMEM", "out-of-memory", None, text[:DETAIL_CHARACTERS])
    code = {"slow": "request_slowlog_timeout", "late": "request_terminate_timeout"}.get(kind or "")
    return AppError(ts, _FPM, level, code, "backend-slow", None, text[:DETAIL_CHARACTERS]) if code else None


_SLOW_HEAD = re.compile(_TIME + r"\]  \[pool [^\]]{1,100}\] pid [0-9]{1,10}$").match
_SLOW_FRAME = re.compile(r"\[0x[0-9a-f]{1,16}\] (.{1,500})").match
_SCRIPT = "script_filename = "


class FpmSlow(Entries):
    """FPM's slow log: an entry is told with its first frame, the function in which the script hung."""

    name = "php-fpm-slow"
    kind = "php"

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp([time_piece(_PATTERN)])
        self._inside = False
        self._script: tuple[str, str, int] | None = None

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """The slow script, once its first frame or the entry's end is seen."""
        line = cut(line)
        head = _SLOW_HEAD(line)
        if head is not None:
            told = self.finish()
            ts = self._stamp.ts(head["time"], anchor)
            if ts is None:
                return (*told, *self._misfit(line))
            self.ts = ts + float(head["fraction"] or 0)
            self._inside = True
            return told
        if not self._inside:
            return self._misfit(line)
        frame = _SLOW_FRAME(line)
        if frame is not None:
            return self._slow(frame[1])
        if line.startswith(_SCRIPT):
            self._script = (line[len(_SCRIPT) :].strip(), line, number)
            return ()
        self._inside = False
        return (*self.finish(), *self._misfit(line))

    def finish(self) -> Sequence[Told]:
        """The last entry, where it names no frame."""
        return self._slow("")

    def _slow(self, frame: str) -> Sequence[Told]:
        if self._script is None or self.ts is None:
            return ()
        (script, line, number), self._script = self._script, None
        text = f"{script[:DETAIL_CHARACTERS]} {frame[:DETAIL_CHARACTERS]}".rstrip()
        event = AppError(self.ts, _FPM, "warning", "slowlog", "backend-slow", None, text)
        return (self._told(event, line[:TEXT_CHARACTERS], number),)


_PHP_LINE = re.compile(
    _TIME + r"(?: (?P<zone>[A-Z][A-Za-z]{1,20}(?:/[A-Za-z0-9_+-]{1,40}){0,2}|[+-][0-9]{2}:[0-9]{2}))?\] "
    r"(?!(?:DEBUG|NOTICE|WARNING|ERROR|ALERT): | \[pool )"
).match


class PhpErrors(Entries):
    """PHP's own error log. Lines without a time go on with the message before them (a stack trace)."""

    name = "php-errors"
    kind = "php"

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp([time_piece(_PATTERN)])
        self._zoned = Stamp([time_piece(_PATTERN), time_piece("%:z")])
        self._zones: dict[str, tzinfo | None] = {}
        self._anchors: dict[str, Anchor] = {}

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        head = _PHP_LINE(line)
        if head is None:
            return () if self.ts is not None else self._misfit(line)
        ts = self._when(head["time"], head["zone"], anchor)
        if ts is None:
            return self._misfit(line)
        self.ts = ts
        event = php_event(ts, line[head.end() :])
        return (self._told(event, line, number),) if event is not None else ()

    def _when(self, time: str, zone: str | None, anchor: Anchor) -> float | None:
        self.clock = "zone"
        if zone is None:
            self.clock = "local"
            return self._stamp.ts(time, anchor)
        if zone[0] in "+-":
            return self._zoned.ts(f"{time}{Stamp.JOIN}{zone}", anchor)
        there = self._anchors.get(zone)
        if there is None:
            known = _zone(zone) if len(self._anchors) < _MOST_ZONES else None
            if known is None:
                self.clock = "local"
                return self._stamp.ts(time, anchor)
            there = self._anchors[zone] = Anchor(anchor.now_ts, known)
        return self._stamp.ts(time, there)


_MOST_ZONES = 100


def _zone(name: str) -> tzinfo | None:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        return None
