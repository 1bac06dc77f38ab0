"""The kernel's own log: raw `dmesg`, `dmesg -T`, and the messages themselves, however they were brought here.

Raw lines stand by seconds since boot; an `audit(EPOCH:serial)` on one of them ties that clock to the world's, also
after a reboot. `dmesg -T` computes wall time from the uptime and drifts by the time that the machine was suspended.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from typing import Literal

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.heard import Heard, looked_at
from tocsin.formats.init import InitMessages
from tocsin.formats.oom import OomReports, unit_of
from tocsin.formats.told import TEXT_CHARACTERS, Clock, Told
from tocsin.server_events import ClockTie, LimitReached, ProcessKilled, ServerEvent, ServiceState, Stall, StorageError

# The parts that `dmesg` may put in front: level, `-x`'s words, the time, the caller of newer kernels.
_UPTIME = r"\[ *(?P<uptime>[0-9]{1,10}\.[0-9]{6})\](?:\[ *[TC][0-9]{1,10}\])?"
_STAMPED = re.compile(
    r"(?:<[0-9]{1,3}>|[a-z]{1,10} *:[a-z]{1,8} *: )?"
    rf"(?:{_UPTIME}"
    r"|\[(?P<wall>[A-Z][a-z]{2} [A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2} [0-9]{4})\]"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2},[0-9]{6}[+-][0-9]{2}:?[0-9]{2}))"
    r"(?: (?P<message>.*)|)",
    re.DOTALL,
).fullmatch
_FORWARDED = re.compile(rf"(?:<[0-9]{{1,3}}>)?{_UPTIME} ?(?P<message>.*)", re.DOTALL).fullmatch
_TORN = re.compile(r"(?P<head>[^\[]{1,300}) (?P<tail>\[ *[0-9]{1,10}\.[0-9]{6}\] .*)", re.DOTALL).fullmatch
# Apache 2.2 writes its error log under the same stamp, with the level next to it.
_APACHE = re.compile(r"\[(?:emerg|alert|crit|error|warn|notice|info|debug|[a-z0-9_]{0,30}:[a-z0-9]{1,8})\]").match
_SPEAKER = re.compile(r"(?P<tag>[A-Za-z][A-Za-z0-9_.-]{0,30})(?:\[(?P<pid>[0-9]{1,10})\])?: (?P<message>.*)", re.DOTALL)
_AUDIT = re.compile(r"(?:audit: )?type=[0-9]{1,5} audit\(([0-9]{9,11}\.[0-9]{3}):[0-9]{1,20}\)").match

_TIE_EVERY_S = 1.0

Failure = Literal["full", "inodes", "read-only", "io"]
_DEVICE = r"(?P<path>[A-Za-z0-9_/.-]{1,64})"
_TRAPS = {"general protection": "SEGV", "segfault at": "SEGV", "trap invalid opcode": "ILL", "trap divide error": "FPE"}
_FAULT = re.compile(
    r"(?:traps: )?(?P<name>.{1,64}?)\[(?P<pid>[0-9]{1,10})\]:? (?P<trap>segfault at|general protection"
    r"|trap invalid opcode|trap divide error)\b",
    re.DOTALL,
).match
_HUNG = re.compile(
    r"INFO: task (?P<name>.{1,64}):[0-9]{1,10} blocked (?:in I/O wait )?for more than (?P<seconds>[0-9]{1,7}) seconds",
    re.DOTALL,
).match
_LOCKUP = re.compile(
    r"(?:watchdog: )?BUG: soft lockup - CPU#[0-9]{1,5} stuck for (?P<seconds>[0-9]{1,7})s! "
    r"\[(?P<name>.{1,64}):[0-9]{1,10}\]",
    re.DOTALL,
).match
_PIDS = re.compile(r"cgroup: fork rejected by pids controller in (?P<path>/\S{0,1000})").match
_FILE_MAX = re.compile(r"VFS: file-max limit (?P<value>[0-9]{1,19}) reached").match
_BOOT = re.compile(r"Linux version (?P<version>\S{1,100})").match
_PANIC = re.compile(r"Kernel panic - not syncing: (?P<why>.{1,200})", re.DOTALL).match

_LIMITS: tuple[tuple[Callable[[str], object], str], ...] = (
    (re.compile(r"(?:TCP: )?(?:request_sock_\w{1,30}: )?[Pp]ossible SYN flooding on port ").match, "listen queue"),
    (re.compile(r"(?:(?:nf|ip)_conntrack: ){1,2}table full, dropping packet").match, "conntrack"),
    (re.compile(r"(?:TCP: )?(?:out of memory -- consider tuning tcp_mem)").match, "tcp_mem"),
    (re.compile(r"(?:TCP: )?too many (?:of )?orphaned sockets").match, "tcp_max_orphans"),
)
_EXT = r"EXT[234]-fs"
_STORAGE: tuple[tuple[Callable[[str], re.Match[str] | None], Failure], ...] = (
    (re.compile(rf"{_EXT} \({_DEVICE}\): [Rr]emounting filesystem read-only").match, "read-only"),
    (re.compile(rf"{_EXT} \({_DEVICE}\): .{{0,200}}? with error 28\b").match, "full"),
    (re.compile(rf"{_EXT} error \(device {_DEVICE}\)").match, "io"),
    (re.compile(rf"{_EXT} (?:warning )?\((?:device )?{_DEVICE}\): .{{0,200}}?I/O error").match, "io"),
    (re.compile(rf"BTRFS.{{0,40}}? \(device {_DEVICE}\).{{0,200}}?errno=-28\b").match, "full"),
    (re.compile(rf"BTRFS.{{0,40}}? \(device {_DEVICE}\):? forced readonly").match, "read-only"),
    (re.compile(rf"BTRFS:? (?:error|critical) \(device {_DEVICE}\)").match, "io"),
    (
        re.compile(rf"XFS \({_DEVICE}\): (?:.{{0,60}}?I/O [Ee]rror|Corruption|.{{0,60}}?[Ss]hut(?:ting)? down)").match,
        "io",
    ),
    (re.compile(rf"Buffer I/O error on dev(?:ice)? {_DEVICE},").match, "io"),
    (re.compile(rf"(?:[a-z_]{{1,30}}: )?(?:critical \w{{1,10}}|I/O) error, dev {_DEVICE}, sector").match, "io"),
    (re.compile(rf"(?:JBD2: Detected IO errors .{{0,80}}? on|Aborting journal on device) {_DEVICE}").match, "io"),
    (re.compile(r"(?P<path>).{0,200}?No space left on device\b").match, "full"),
)
# A missing floppy or disc in a virtual machine fails at every boot and means nothing.
_NO_DISK = re.compile(r"(?:/dev/)?(?:fd|sr|loop)[0-9]{1,3}").fullmatch


_TELLS = re.compile(
    r"[Kk]ill|pid|audit\(|segfault|protection|trap |blocked|lockup|flooding|table full|tcp_mem|orphaned|rejected"
    r"|file-max|rror|read|No space|XFS|Linux version|panic"
).search
"""Of what stands in every message that is understood outside a report."""


def split_uptime(message: str) -> tuple[float | None, str]:
    """A kernel message as syslog forwards it: seconds since boot, where they stand in front, and the rest."""
    match = _FORWARDED(message)
    return (float(match["uptime"]), match["message"]) if match else (None, message)


class KernelMessages:
    """What the messages of one kernel tell, in their order."""

    def __init__(self) -> None:
        self._oom = OomReports()
        self._tied_s: float | None = None

    def is_idle(self, line: str, begin: int = 0) -> bool:
        """Whether the message that begins there in a line can tell nothing: a packet that the firewall logs."""
        return not self._oom.is_open and _TELLS(line, begin) is None

    def tell(self, message: str, heard: Heard) -> list[Told]:
        """What becomes known with a message, freed of stamps."""
        told = self._oom.end(heard)
        of_memory = self._oom.tell(message, heard)
        if of_memory:
            return [*told, *of_memory]
        tie = self._tie(message, heard)
        if tie is not None:
            return [*told, heard.told(tie, "zone")]
        event = _event(message, heard.ts)
        return told if event is None else [*told, heard.told(event)]

    def finish(self) -> list[Told]:
        """What was left open."""
        return self._oom.finish()

    def _tie(self, message: str, heard: Heard) -> ClockTie | None:
        """One a second is enough; a machine may audit thousands."""
        uptime_s = heard.uptime_s
        match = None if uptime_s is None else _AUDIT(message)
        if match is None or uptime_s is None:
            return None
        if self._tied_s is not None and 0 <= uptime_s - self._tied_s < _TIE_EVERY_S:
            return None
        self._tied_s = uptime_s
        return ClockTie(float(match[1]), uptime_s)


def _event(message: str, ts: float) -> ServerEvent | None:
    return _of_process(message, ts) or _of_limit(message, ts) or _of_storage(message, ts) or _of_machine(message, ts)


def _of_process(message: str, ts: float) -> ServerEvent | None:
    fault = _FAULT(message)
    if fault:
        return ProcessKilled(ts, fault["name"], int(fault["pid"]), "signal", _TRAPS[fault["trap"]])
    hung = _HUNG(message)
    if hung:
        return Stall(ts, "kernel", float(hung["seconds"]), f"task {hung['name']}")
    lockup = _LOCKUP(message)
    return Stall(ts, "kernel", float(lockup["seconds"]), f"CPU: {lockup['name']}") if lockup else None


def _of_limit(message: str, ts: float) -> ServerEvent | None:
    for fits, limit in _LIMITS:
        if fits(message):
            return LimitReached(ts, "kernel", limit)
    pids, files = _PIDS(message), _FILE_MAX(message)
    if pids:
        return LimitReached(ts, unit_of(pids["path"]) or "kernel", "pids")
    return LimitReached(ts, "kernel", "open files", int(files["value"])) if files else None


def _of_storage(message: str, ts: float) -> ServerEvent | None:
    if "rror" not in message and "read" not in message and "No space" not in message and "XFS" not in message:
        return None
    for fits, error in _STORAGE:
        match = fits(message)
        if match:
            device = match["path"] or None
            return None if device and _NO_DISK(device) else StorageError(ts, "kernel", error, device)
    return None


def _of_machine(message: str, ts: float) -> ServerEvent | None:
    boot, panic = _BOOT(message), _PANIC(message)
    if boot:
        return ServiceState(ts, "kernel", "started", boot["version"])
    return ServiceState(ts, "kernel", "died", panic["why"]) if panic else None


class KernelLog:
    """`dmesg`: `[4747880.173192] message`, `[Fri Oct  8 14:08:06 2021] message` (-T), `--time-format iso`; with levels
    (`-r`, `-x`) or callers, or without. What init and systemd tell the kernel's log is read, too.
    """

    name = "kernel"
    kind = "kernel"

    def __init__(self) -> None:
        self.clock: Clock = "uptime"
        self.ts: float | None = None
        self.unparsed = 0
        self.sample = ""
        self._messages = KernelMessages()
        self._init = InitMessages()
        self._stamp = Stamp([time_piece("%a %b %e %H:%M:%S %Y")])

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How many lines begin with one of the kernel's stamps, or continue one that does."""
        fitting = tried = 0
        for line in lines:
            if not line.strip():
                continue
            tried += 1
            match = _STAMPED(looked_at(line))
            if match:
                fitting += not (match["wall"] and _APACHE(match["message"] or ""))
            else:
                fitting += fitting > 0 and line[0] in " \t"
        return fitting / tried if tried else 0.0

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line completes. A line without a stamp belongs to the moment before it, where it fits at all."""
        return self._line(looked_at(line), number, line[:TEXT_CHARACTERS], anchor)

    def _line(self, line: str, number: int, text: str, anchor: Anchor) -> list[Told]:
        match = _STAMPED(line)
        if match is None:
            torn = _TORN(line)
            if torn is None:
                return self._stampless(line, number, text)
            return [*self._stampless(torn["head"], number, text), *self._line(torn["tail"], number, text, anchor)]
        ts = self._ts(match, anchor)
        if ts is None:
            return self._stampless(line, number, text)
        self.ts = ts
        uptime = match["uptime"]
        heard = Heard(ts, self.clock, number, text, None if uptime is None else float(uptime))
        return self._message(match["message"] or "", heard)

    def _message(self, message: str, heard: Heard) -> list[Told]:
        told = self._messages.tell(message, heard)
        speaker = None if told else _SPEAKER.fullmatch(message)
        return self._init.tell(speaker["tag"], speaker["pid"], speaker["message"], heard) if speaker else told

    def _ts(self, match: re.Match[str], anchor: Anchor) -> float | None:
        if match["uptime"] is not None:
            self.clock = "uptime"
            return float(match["uptime"])
        self.clock = "local" if match["wall"] else "zone"
        return self._stamp.ts(match["wall"], anchor) if match["wall"] else iso_ts(match["iso"], anchor)

    def _stampless(self, line: str, number: int, text: str) -> list[Told]:
        """Pages that quote logs tear lines and stamps apart; what upstart says is told without its own."""
        if not line.strip() or (self.ts is not None and line[0] in " \t"):
            return []
        told: list[Told] = []
        if self.ts is not None:
            told = self._init.tell("init", None, line, Heard(self.ts, self.clock, number, text))
        if not told:
            self.unparsed += 1
            self.sample = self.sample or text
        return told

    def finish(self) -> Sequence[Told]:
        """A report that was cut off."""
        return self._messages.finish()
