"""The kernel's reports of memory run out: who asked, what every process held, who was killed.

A report is many lines: `X invoked oom-killer`, a call trace, the memory's state, a table of processes, from Linux 5 on
a line of context, and the kill. It becomes one `Sample` and a `ProcessKilled` for each process killed. The kernel
limits how often it prints all but the kill, so that a kill may stand alone; a crash cuts reports off. The forms of
2.6 to 6 are told apart by their text, since vendors port patches to old kernels (mm/oom_kill.c of 2.6.24, 3.10, 4.19
and 6.1).

Sizes: the table counts pages, the lines about kills and cgroups kB. A page is taken to have 4 KiB, as on x86; where
arm64 is built with larger ones the table's sizes come out too small.
"""

from __future__ import annotations

import re
from typing import Literal

from tocsin.formats.heard import Heard, Lately
from tocsin.formats.oom_table import PAGE_BYTES, TaskTable
from tocsin.formats.services import service_name
from tocsin.formats.told import Told
from tocsin.server_events import ProcessKilled, Sample

SMEARED_S = 3600.0
"""How long syslog may take to write one report down: 47 minutes have been seen (a 256 MB machine, 2009)."""

_AGAIN_S = 60.0
_STEPPED_BACK_S = 60.0  # a clock that is set right in the midst of it
_UNLIMITED_BYTES = 1 << 52  # a cgroup without a limit shows the counter's largest value
_NAME_MOST = 64
_PATH_MOST = 1000

# The name of a process may hold `)`: what follows it decides where it ends, and only a cut line has no such end.
_KILLED = re.compile(
    r"(?P<pid>[0-9]{1,10})(?:, UID [0-9]{1,10},)? \((?P<name>.{1,64}?)\)"
    r"(?:\.?|,? (?:total-vm|vsz):[0-9]{1,20}kB, anon-rss:(?P<anon>[0-9]{1,20})kB, file-rss:(?P<file>[0-9]{1,20})kB"
    r"(?:, shmem-rss:(?P<shmem>[0-9]{1,20})kB)?(?:[ ,].*)?)",
    re.DOTALL,
).fullmatch
_KILLED_CUT = re.compile(r"(?P<pid>[0-9]{1,10})(?:, UID [0-9]{1,10},)? \((?P<name>.{1,64})\)", re.DOTALL).match
_SELECTED = re.compile(
    r"[Kk]ill process ([0-9]{1,10}) \((.{1,64})\) score [0-9]{1,20} or (?:sacrifice|a) child", re.DOTALL
).match
_SCOPES = ("Out of memory", "Out of Memory", "Memory cgroup out of memory", "No available memory", "Task")
_SCOPE_MOST = 1000

_RAM = re.compile(r"([0-9]{1,12}) pages (?:of )?RAM").match
_RESERVED = re.compile(r"([0-9]{1,12}) (?:pages reserved|reserved pages)").match
_SWAP = re.compile(r"(Free|Total) swap *[=:] *([0-9]{1,15}) ?kB").match
_CGROUP = re.compile(r"memory: usage [0-9]{1,20}kB, limit ([0-9]{1,20})kB").match
_CGROUP_HIT = re.compile(r"Task in (/\S{0,1000}) killed as a result of limit of (/\S{0,1000})?").match
_GROUP = re.compile(r"Tasks in (/\S{0,1000}) are going to be killed due to memory\.oom\.group set").match
_CONSTRAINED = re.compile(r"oom-kill:constraint=CONSTRAINT_([A-Z_]{1,20}),").match
_CONTEXT_END = re.compile(r"([0-9]{1,10}),uid=[0-9]{1,10}").fullmatch


class _Report:
    """What one report has told so far."""

    __slots__ = (
        *("asker", "cgroup", "first", "group", "headed", "killed", "limit", "limit_group", "pages", "selected"),
        *("swap", "table"),
    )

    def __init__(self, first: Heard, asker: str | None = None, *, headed: bool = False) -> None:
        self.first = first
        self.headed = headed
        self.asker = asker
        self.cgroup = False
        self.group: tuple[int | None, str] | None = None
        self.limit_group = ""
        self.limit: int | None = None
        self.pages: dict[str, int] = {}
        self.swap: dict[str, int] = {}
        self.table = TaskTable()
        self.selected: tuple[int, str, bool, Heard] | None = None
        self.killed = False

    def ts(self, heard: Heard) -> float:
        """When a line's matter happened: the report is one moment, however long its lines took to reach the file."""
        if heard.clock == "uptime":
            return heard.ts
        if heard.uptime_s is not None and self.first.uptime_s is not None:
            return self.first.ts + (heard.uptime_s - self.first.uptime_s)
        return heard.ts if self.killed else self.first.ts

    def is_over(self, heard: Heard) -> bool:
        """Whether a line comes too late to belong to it, or from another boot."""
        if heard.uptime_s is not None and self.first.uptime_s is not None:
            return not 0 <= heard.uptime_s - self.first.uptime_s <= SMEARED_S
        return not -_STEPPED_BACK_S <= heard.ts - self.first.ts <= SMEARED_S

    def sample(self) -> Sample | None:
        """The machine at that moment. None where neither head nor table was there: other dumps show memory, too."""
        if not self.headed and not self.table:
            return None
        ram = self.pages.get("RAM")
        reserved = self.pages.get("reserved", 0)
        return Sample(
            self.first.ts,
            "oom-report",
            self.table.processes(),
            memory_bytes=None if ram is None else max(0, ram - reserved) * PAGE_BYTES,
            swap_bytes=self.swap.get("Total"),
            swap_free_bytes=self.swap.get("Free"),
            limit_bytes=self.limit,
        )

    def group_of(self, pid: int) -> str:
        """The control group of a killed process, where the report names it."""
        return self.group[1] if self.group is not None and self.group[0] in {None, pid} else ""


def unit_of(cgroup: str) -> str | None:
    """The unit that a cgroup's path ends in: `mysql` of `/system.slice/mysql.service`; else its last part's name."""
    parts = [part for part in cgroup.split("/") if part]
    services = [part for part in parts if part.endswith(".service")]
    last = services or parts
    return service_name(last[-1]) if last else None


class OomReports:
    """Reads the messages of one kernel, in order. A kill that is printed twice, or of two threads, is told once."""

    def __init__(self) -> None:
        self._report: _Report | None = None
        self._lately = Lately(_AGAIN_S)

    @property
    def is_open(self) -> bool:
        """Whether a report is being read, so that any line may belong to it."""
        return self._report is not None

    def end(self, heard: Heard) -> list[Told]:
        """What a report told that a line can no more belong to."""
        return self.finish() if self._report is not None and self._report.is_over(heard) else []

    def tell(self, message: str, heard: Heard) -> list[Told]:
        """What a message completes, after `end`; most lines of a report complete nothing."""
        if " invoked oom-killer: " in message:
            return self._begin(message, heard)
        if "Killed process " in message:
            return self._kill(message, heard)
        if "ill process " in message:
            return self._select(message, heard)
        if message.startswith("oom-kill:"):
            self._context(message, heard)
        elif not self._memory(message, heard):
            self._cgroup(message)
        return []

    def finish(self) -> list[Told]:
        """A report that was cut off, or whose kill was lost, is told as far as it goes."""
        report, self._report = self._report, None
        if report is None:
            return []
        told = self._tell_sample(report)
        if report.selected is not None:
            pid, name, cgroup, heard = report.selected
            told += self._tell_kill(report, ProcessKilled(report.ts(heard), name, pid, _by(cgroup=cgroup)), heard)
        return told

    def _begin(self, message: str, heard: Heard) -> list[Told]:
        asker = message.partition(" invoked oom-killer: ")[0]
        if not 0 < len(asker) <= _NAME_MOST:
            return []
        told = self.finish()
        self._report = _Report(heard, asker, headed=True)
        return told

    def _open(self, heard: Heard) -> _Report:
        if self._report is None:
            self._report = _Report(heard)
        return self._report

    def _select(self, message: str, heard: Heard) -> list[Told]:
        scope, rest = _scoped(message, message.index("ill process ") - 1)
        match = _SELECTED(rest)
        if match is None or scope is None:
            return []
        told = self.finish() if self._report is not None and (self._report.killed or self._report.selected) else []
        report = self._open(heard)
        report.selected = int(match[1]), match[2], report.cgroup or "cgroup" in scope, heard
        return told

    def _kill(self, message: str, heard: Heard) -> list[Told]:
        at = message.index("Killed process ")
        scope, _ = _scoped(message, at)
        rest = message[at + len("Killed process ") :]
        match = _KILLED(rest) or _KILLED_CUT(rest)
        if match is None or scope is None:
            return []
        report = self._open(heard)
        cgroup = report.cgroup or "cgroup" in scope or bool(report.selected and report.selected[2])
        sizes = match.groupdict()
        anon = sizes.get("anon")
        pid = int(match["pid"])
        held = report.table.rss_bytes(pid)
        if anon is not None:
            held = sum(int(sizes[part] or 0) for part in ("anon", "file", "shmem")) * 1024
        killed = ProcessKilled(
            report.ts(heard),
            match["name"],
            pid,
            _by(cgroup=cgroup),
            rss_bytes=held,
            anon_bytes=None if anon is None else int(anon) * 1024,
        )
        return [*self._tell_sample(report), *self._tell_kill(report, killed, heard)]

    def _tell_sample(self, report: _Report) -> list[Told]:
        sample = None if report.killed else report.sample()
        return [] if sample is None else [report.first.told(sample)]

    def _tell_kill(self, report: _Report, killed: ProcessKilled, heard: Heard) -> list[Told]:
        """A thread's death is its process's. After the first kill the head speaks for no other one."""
        asker = None if report.killed else report.asker
        report.killed, report.selected = True, None
        pid = report.table.process_of(killed.pid or 0)
        if self._lately.again(pid, killed.ts):
            return []
        group = report.group_of(killed.pid or 0)
        whole = ProcessKilled(
            killed.ts,
            killed.process,
            pid,
            killed.by,
            rss_bytes=killed.rss_bytes,
            anon_bytes=killed.anon_bytes,
            unit=unit_of(group),
            asker=asker,
            group=group,
            limit_group=report.limit_group if group else "",
        )
        return [heard.told(whole)]

    def _context(self, message: str, heard: Heard) -> None:
        """`oom-kill:constraint=...`: read from both ends, since paths and names may hold commas."""
        constrained = _CONSTRAINED(message)
        head, found, end = message.rpartition(",pid=")
        pid = _CONTEXT_END(end.strip())
        if not constrained or not found or pid is None:
            return
        report = self._open(heard)
        report.cgroup = report.cgroup or constrained[1] == "MEMCG"
        before, _, after = head.partition(",task_memcg=")
        path = after.partition(",task=")[0]
        if unit_of(path) is not None:
            report.group = int(pid[1]), path[:_PATH_MOST]
            report.limit_group = before.partition(",oom_memcg=")[2][:_PATH_MOST]

    def _memory(self, message: str, heard: Heard) -> bool:
        if message.startswith("["):
            report = self._report
            if report is None and "pid" in message[:12]:
                report = self._open(heard)
            return report is not None and not report.killed and report.table.take(message)
        report = self._report
        if report is None or report.killed:
            return False
        ram, reserved, swap = _RAM(message), _RESERVED(message), _SWAP(message)
        if ram:
            report.pages["RAM"] = int(ram[1])
        elif reserved:
            report.pages["reserved"] = int(reserved[1])
        elif swap:
            report.swap[swap[1]] = int(swap[2]) * 1024
        return bool(ram or reserved or swap)

    def _cgroup(self, message: str) -> None:
        report = self._report
        if report is None:
            return
        limit, hit, group = _CGROUP(message), _CGROUP_HIT(message), _GROUP(message)
        if limit:
            report.cgroup = True
            of_bytes = int(limit[1]) * 1024
            report.limit = of_bytes if of_bytes < _UNLIMITED_BYTES else None
            return
        named = hit or group
        if named:
            report.cgroup = report.cgroup or hit is not None
            report.group = None if unit_of(named[1]) is None else (None, named[1])
            report.limit_group = (hit[2] or "") if hit else report.limit_group


def _by(*, cgroup: bool) -> Literal["oom", "cgroup-oom"]:
    return "cgroup-oom" if cgroup else "oom"


def _scoped(message: str, at: int) -> tuple[str | None, str]:
    """What stands before `Killed process`: nothing, or a scope that the kernel prints; None where it is neither."""
    scope = message[:at]
    fits = at == 0 or (at <= _SCOPE_MOST and scope.endswith(": ") and scope.startswith(_SCOPES))
    return (scope if fits else None), message[at:]
