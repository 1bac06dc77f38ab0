"""What the first process says of its services: systemd and upstart; and the daemons that kill before the kernel does.

systemd names a unit (`mysql.service: Main process exited`) or, before version 246 where a job ends, its description
alone (`Started The Apache HTTP Server.`): known descriptions are read as the service, others hold no name. It says of
one death several things (how the process ended, with which result the unit failed, that it cannot be started): the
first is told, the others where they add something. A signal that ended a service's process stands in the detail as
`killed by SEGV`.
"""

from __future__ import annotations

import re
from typing import Literal

from tocsin.formats.heard import Heard, Lately
from tocsin.formats.oom import unit_of
from tocsin.formats.services import service_name
from tocsin.formats.told import Told
from tocsin.server_events import JobStarted, ProcessKilled, ServerEvent, ServiceState, Stall

State = Literal["started", "reloaded", "stopping", "stopped", "died", "restarting", "failed", "refused", "recovered"]

_ONE_FALL_S = 90.0  # systemd's TimeoutStopSec: the result may come that long after the process
_ONE_KILL_S = 60.0
_MOST_UNITS = 4096

_UNIT = re.compile(r"(?P<unit>[A-Za-z0-9@_.:\\-]{1,255}\.(?P<type>service|slice|scope)): (?P<what>.*)", re.DOTALL)
_EXITED = re.compile(
    r"(?P<which>[Mm]ain|[Cc]ontrol) process exited, code=(?P<code>exited|killed|dumped),? status=(?P<status>[0-9]{1,3})"
    r"(?:/(?P<name>[A-Z0-9+_]{1,30}))?"
).match
_RESULT = re.compile(r"Failed with result '([a-z-]{1,40})'").match
_WATCHDOG = re.compile(r"[Ww]atchdog timeout \(limit (?P<limit>[0-9a-z. ]{1,40})\)").match
_SPAN = re.compile(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(us|ms|s|min|h|d)\b")
_SPAN_S = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_OOMD_DONE = re.compile(r"systemd-oomd killed [0-9]{1,9} process\(es\) in this unit").match
_RESTARTING = re.compile(
    r"(?:Scheduled restart job|Service hold-off time over|Service RestartSec=\S{1,30} expired|holdoff time over), ?(.*)"
).match
_OLD_FAILED = re.compile(r"Unit (?P<unit>[A-Za-z0-9@_.:\\-]{1,255}\.service) entered failed state").match
_OLD_HOLDOFF = re.compile(
    r"(?P<unit>[A-Za-z0-9@_.:\\-]{1,255}\.service) (?:holdoff time over|has no holdoff time), scheduling restart"
).match
_OLD_REPEATED = re.compile(r"start request repeated too quickly for (?P<unit>[A-Za-z0-9@_.:\\-]{1,255}\.service)").match
_JOB = re.compile(
    r"(?P<verb>Started|Starting|Stopped|Stopping|Reloaded|Finished|Failed to start) (?P<rest>\S.{0,400})", re.DOTALL
)
_NAMED = re.compile(
    r"(?P<unit>[A-Za-z0-9@_.:\\-]{1,255}\.(?:service|timer|socket|slice|scope|mount|target|device|path|swap))"
    r"(?: - .*|\.?|\.\.\.)",
    re.DOTALL,
)
_DESCRIPTIONS: tuple[tuple[re.Pattern[str], str], ...] = (
    (re.compile(r"(?:LSB: )?(?:The )?Apache ?2? (?:HTTP|web) [Ss]erver"), "apache2"),
    (re.compile(r"(?:The nginx HTTP|A high performance web server|(?:LSB: )?nginx\b)"), "nginx"),
    (re.compile(r"(?:LSB: )?(?:Start and stop the )?(?:mysql database|MySQL\b)"), "mysql"),
    (re.compile(r"MariaDB\b"), "mariadb"),
    (re.compile(r"(?:LSB: )?(?:The )?(?:PHP [0-9.]{0,5} ?FastCGI|PHP-?FPM|php[0-9.]{0,5}-fpm)"), "php-fpm"),
    (re.compile(r"(?:LSB: )?PostgreSQL\b"), "postgresql"),
)  # fmt: skip
_STATES: dict[str, State] = {
    "Started": "started",
    "Stopped": "stopped",
    "Stopping": "stopping",
    "Reloaded": "reloaded",
    "Failed to start": "refused",
}
_SILENCED_BY: dict[State, tuple[State, ...]] = {
    "died": ("died", "refused", "failed"),
    "refused": ("refused", "failed"),
    "failed": ("failed",),
    "stopping": ("stopping",),
    "stopped": ("stopped", "restarting"),  # systemd stops what it is about to start again
    "restarting": ("restarting",),
}
"""What was said of one fall, and says enough: for `_ONE_FALL_S`, or until the service does what undoes it."""

_UNDOES: dict[State, tuple[State, ...]] = {
    "died": ("restarting",),
    "refused": ("restarting",),
    "stopping": ("restarting",),
    "restarting": ("died", "refused", "failed", "stopping", "stopped"),
    "started": ("died", "refused", "failed", "stopping", "stopped", "restarting"),
}

_STOP_SIGNALS = frozenset(("TERM", "INT", "HUP", "PIPE"))  # systemd counts them as a clean end, too
_EVERYTHING = re.compile(r"(?:-|system|user|machine|system-.*)\.slice", re.DOTALL).fullmatch
_WORK = re.compile(
    r"(?<![a-z])(?:backups?|(?:mysql|pg_?)?dump|borg(?:matic)?|restic|duplicity|rsnapshot|apt|dnf|yum|packagekit"
    r"|logrotate|man-?db|updatedb|[pm]?locate|fstrim|discard unused|anacron|(?:dai|week|hour|night|month)ly|certbot"
    r"|renew(?:al)?|sysstat|e2scrub|scrub|raid-check|mdcheck|rkhunter|maldet|reports?|reindex|sync|snapshots?"
    r"|unattended|phpsessionclean|clean(?:up|ing)?|housekeeping|motd-news|archive|vacuum|maintenance)(?![a-z])",
    re.IGNORECASE,
).search

_UPSTART = re.compile(
    r"(?P<job>[A-Za-z0-9_.-]{1,64})(?: \([^()]{1,64}\))? (?P<which>main|pre-start|post-start|pre-stop|post-stop)"
    r" process"
    r"(?: \([0-9]{1,10}\) (?P<how>terminated with status [0-9]{1,3}|killed by (?P<signal>[A-Z0-9]{1,10}) signal)"
    r"| (?P<ended>ended, respawning))\b"
).match
_TOO_FAST = re.compile(r"(?P<job>[A-Za-z0-9_.-]{1,64})(?: \([^()]{1,64}\))? respawning too fast, stopped").match

_OOMD = re.compile(
    r"(?:Killed (?P<killed>/\S{0,1000}) due to |Marked (?P<marked>/\S{0,1000}) for killing due to )"
).match
_EARLYOOM = re.compile(
    r"(?:sending SIG(?P<signal>[A-Z]{3,6}) to|[Kk]illing) process (?P<pid>[0-9]{1,10}),?(?: uid [0-9]{1,10})?"
    r" (?:\"(?P<quoted>.{1,64}?)\"(?=[:,]|$)|(?P<bare>[^\s:\"]{1,64}))(?P<rest>.*)",
    re.DOTALL,
).match
_VMRSS = re.compile(r"VmRSS:? ([0-9]{1,9}) MiB").search


class InitMessages:
    """Reads the messages of init and of the out-of-memory daemons, in order, by the tag under which they stand."""

    def __init__(self) -> None:
        self._said = Lately(_ONE_FALL_S, _MOST_UNITS)
        self._kills = Lately(_ONE_KILL_S, _MOST_UNITS)
        self._starting: dict[str, Heard] = {}
        self._jobs = Lately(float("inf"), _MOST_UNITS)

    def tell(self, tag: str, pid: str | None, message: str, heard: Heard, unit: str = "") -> list[Told]:
        """What a message tells. `unit` is the one that the journal says it is about. The services of users, whose
        systemd has a pid of its own, are nobody's business.
        """
        if tag == "systemd" and pid in {None, "1"}:
            return self._systemd(message, heard, unit)
        event: ServerEvent | None = None
        if tag == "init":
            event = _upstart(message, heard.ts)
        elif tag == "systemd-oomd":
            event = self._oomd(message, heard.ts)
        elif tag == "systemd-logind" and message.startswith(("System is rebooting", "System is powering down")):
            event = self._state("kernel", "stopping", message[:100].rstrip("."), heard.ts)
        elif tag == "earlyoom":
            event = self._earlyoom(message, heard.ts)
        return [] if event is None else [heard.told(event)]

    def _systemd(self, message: str, heard: Heard, unit: str) -> list[Told]:
        job = _JOB.fullmatch(message)
        if job:
            return self._job(job["verb"], job["rest"], heard, unit)
        event: ServerEvent | None = None
        if message.startswith("Shutting down."):
            event = self._state("kernel", "stopping", "shutting down", heard.ts)
        of_unit = _UNIT.fullmatch(message)
        if of_unit:
            event = self._unit(of_unit["unit"], of_unit["what"], heard.ts)
        else:
            failed, holdoff, repeated = _OLD_FAILED(message), _OLD_HOLDOFF(message), _OLD_REPEATED(message)
            if failed:
                event = self._state(service_name(failed["unit"]), "died", "entered failed state", heard.ts)
            elif holdoff:
                event = self._state(service_name(holdoff["unit"]), "restarting", "", heard.ts)
            elif repeated:
                event = self._state(
                    service_name(repeated["unit"]), "failed", "start request repeated too quickly", heard.ts
                )
        return [] if event is None else [heard.told(event)]

    def _unit(self, unit: str, what: str, ts: float) -> ServerEvent | None:
        """What is said of a unit by its name."""
        exited, result, watchdog, restarting = _EXITED(what), _RESULT(what), _WATCHDOG(what), _RESTARTING(what)
        if exited:
            return self._exited(unit, exited, ts)
        if result:
            gave_up = result[1] == "start-limit-hit"
            return self._state(service_name(unit), "failed" if gave_up else "died", result[1], ts)
        if watchdog:
            return Stall(ts, service_name(unit), _span_s(watchdog["limit"]), "watchdog")
        if restarting:
            return self._state(service_name(unit), "restarting", restarting[1].rstrip("."), ts)
        return self._unit_by_words(unit, what, ts)

    def _unit_by_words(self, unit: str, what: str, ts: float) -> ServerEvent | None:
        if what.startswith(("Start request repeated too quickly", "start request repeated too quickly")):
            return self._state(service_name(unit), "failed", "start request repeated too quickly", ts)
        if what.startswith("A process of this unit has been killed by the OOM killer"):
            return self._killed(unit, "oom", ts)
        if _OOMD_DONE(what):
            return self._killed(unit, "systemd-oomd", ts)
        if what.startswith("Unit entered failed state"):
            return self._state(service_name(unit), "died", "entered failed state", ts)
        if what.startswith(("Deactivated successfully", "Succeeded")) and unit.endswith(".service"):
            name = service_name(unit)
            work = name in self._starting or self._jobs.seen(name, ts)
            return None if work else self._state(name, "stopped", "", ts)
        return None

    def _exited(self, unit: str, exited: re.Match[str], ts: float) -> ServiceState | None:
        name, number = service_name(unit), exited["status"]
        if number == "0":
            return None
        status = exited["name"] or number
        if exited["code"] == "exited":
            how = f"exited with status {number}" + (f" ({status})" if status != number else "")
        else:
            how = f"killed by {status}" + (" (core dumped)" if exited["code"] == "dumped" else "")
        if status in _STOP_SIGNALS:
            return self._state(name, "stopped", how, ts)
        if exited["which"].lower() == "main":
            return self._state(name, "died", how, ts)
        return self._state(name, "refused", f"control process {how}", ts)

    def _state(self, name: str, state: State, detail: str, ts: float) -> ServiceState | None:
        """One word for one fall, and none for one that it was told to take."""
        if state in {"died", "refused"} and self._said.seen((name, "stopping"), ts):
            return None
        silenced = any(self._said.seen((name, by), ts) for by in _SILENCED_BY.get(state, ()))
        self._said.again((name, state), ts)
        for said in _UNDOES.get(state, ()):
            self._said.forget((name, said))
        return None if silenced else ServiceState(ts, name, state, detail)

    def _killed(self, unit: str, by: Literal["oom", "systemd-oomd"], ts: float) -> ProcessKilled | None:
        """A kill of which only the unit is known. That it was in a slice that holds everything says nothing."""
        name = service_name(unit)
        if _EVERYTHING(unit):
            return None
        return None if self._kills.again((by, name), ts) else ProcessKilled(ts, name, None, by, unit=name)

    def _job(self, verb: str, rest: str, heard: Heard, journal_unit: str) -> list[Told]:
        """`Started apache2.service - The Apache HTTP Server.`, or the description alone."""
        named = _NAMED.fullmatch(rest)
        unit = named["unit"] if named else journal_unit
        if unit and not unit.endswith(".service"):
            return []
        described = rest.removesuffix("...").removesuffix(".")
        known = next((name for pattern, name in _DESCRIPTIONS if pattern.match(described)), "")
        name = service_name(unit) if unit else known
        if verb == "Starting":  # what it was told to take is over: if it dies now, nobody asked for that
            self._said.forget((name, "stopping"))
        if verb in {"Starting", "Finished"}:
            return self._work(verb, name or described, described, heard)
        self._starting.pop(name or described, None)
        if not name or self._jobs.seen(name, heard.ts):
            return []
        event = self._state(name, _STATES[verb], "", heard.ts)
        return [] if event is None else [heard.told(event)]

    def _work(self, verb: str, name: str, described: str, heard: Heard) -> list[Told]:
        """A unit that is `Finished` was a job; one that looks like it is told at its start, for it may never finish."""
        if verb == "Starting" and not _WORK(f"{name} {described}"):
            if len(self._starting) >= _MOST_UNITS:
                self._starting.clear()
            self._starting[name] = heard
            return []
        start = heard if verb == "Starting" else self._starting.pop(name, None)
        self._jobs.again(name, heard.ts)
        return [] if start is None else [start.told(JobStarted(start.ts, "systemd", name))]

    def _oomd(self, message: str, ts: float) -> ProcessKilled | None:
        match = _OOMD(message)
        unit = unit_of(match["killed"] or match["marked"]) if match else None
        return self._killed(unit, "systemd-oomd", ts) if unit else None

    def _earlyoom(self, message: str, ts: float) -> ProcessKilled | None:
        match = _EARLYOOM(message)
        if match is None or self._kills.again(("earlyoom", match["pid"]), ts):
            return None
        held = _VMRSS(match["rest"])
        return ProcessKilled(
            ts,
            match["quoted"] or match["bare"],
            int(match["pid"]),
            "earlyoom",
            match["signal"],
            rss_bytes=int(held[1]) << 20 if held else None,
        )


def _upstart(message: str, ts: float) -> ServiceState | None:
    process, too_fast = _UPSTART(message), _TOO_FAST(message)
    if too_fast:
        return ServiceState(ts, service_name(too_fast["job"]), "failed", "respawning too fast")
    if process is None:
        return None
    name = service_name(process["job"])
    if process["ended"]:
        return ServiceState(ts, name, "restarting")
    signal = process["signal"]
    how = f"killed by {signal}" if signal else process["how"]
    if process["which"] == "main":
        return ServiceState(ts, name, "stopped" if signal == "TERM" else "died", how)
    if process["which"] in {"pre-start", "post-start"}:
        return ServiceState(ts, name, "refused", f"{process['which']} process {how}")
    return None


def _span_s(text: str) -> float:
    """Seconds of a span as systemd writes it: `3min`, `1min 30s`."""
    return sum(float(number) * _SPAN_S[unit] for number, unit in _SPAN.findall(text))
