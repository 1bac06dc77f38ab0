"""What a server's machine says of itself: its syslog, and the kernel's lines that concern this server alone.

The kernel's log is the host's. Of it we keep the out-of-memory reports of our cgroup, from `invoked oom-killer` to
`Killed process`, and lines that name a process of ours (segfaults, the reaper). The kernel limits the long reports to
ten in five seconds; a kill without its report is one line, which we know by its pid.
"""

from __future__ import annotations

import datetime as dt
import errno
import os
import re
import select
import threading
import time
from collections.abc import Callable
from pathlib import Path
from zoneinfo import ZoneInfo

import msgspec

INVOKED = re.compile(r" invoked oom-killer: ")
KILLED = re.compile(r"Killed process (\d+) \(")
NAMES_PID = re.compile(r"(?:^|traps: )\S{1,16}\[(\d+)\][: ]|reaped process (\d+) ")
CODE = re.compile(r"^Code: ")
LONGEST_REPORT = 2000


class KernelLine(msgspec.Struct):
    """One line of the kernel: when we read it, the kernel's own clock, the text."""

    ts: float
    uptime_us: int
    text: str


class Syslog:
    """Writes lines as rsyslog does: `Nov  2 09:41:02 host name[pid]: ...`, or in ISO form.

    `lost` counts the lines that a full disk has swallowed.
    """

    def __init__(self, path: Callable[[], Path], hostname: str, tz: str, *, iso: bool) -> None:
        """`path` says where the log is at the moment of writing (a file system may have been mounted over it)."""
        self._path, self._hostname, self._zone, self._iso = path, hostname, ZoneInfo(tz), iso
        self._lock = threading.Lock()
        self.lost = 0

    def stamp(self, ts: float) -> str:
        """The moment in the server's zone and this log's form."""
        moment = dt.datetime.fromtimestamp(ts, self._zone)
        if self._iso:
            return moment.isoformat(timespec="microseconds")
        return f"{moment:%b} {moment.day:2d} {moment:%H:%M:%S}"

    def write(self, tag: str, text: str, ts: float | None = None, file: str = "syslog") -> None:
        """One line, in the server's /var/log; `tag` is the program with its pid, if it has one."""
        line = f"{self.stamp(time.time() if ts is None else ts)} {self._hostname} {tag}: {text}\n"
        with self._lock:
            try:
                with (self._path() / file).open("ab", buffering=0) as log:
                    log.write(line.encode())
            except OSError as error:
                if error.errno not in (errno.ENOSPC, errno.EDQUOT, errno.ENOENT):
                    raise
                self.lost += 1


class KernelLog(threading.Thread):
    """Follows /dev/kmsg (which, unlike /proc/kmsg, may have several readers) and gives on the lines of one cgroup."""

    def __init__(self, cgroup: Path, write: Callable[[KernelLine], None]) -> None:
        """`cgroup` is the memory cgroup's directory; `write` is called from this thread."""
        super().__init__(daemon=True)
        self._group, self._write = cgroup, write
        self._mark = f"oom_memcg=/{cgroup.relative_to(cgroup.parents[1])},"
        self._ended = threading.Event()
        self._report: list[KernelLine] | None = None
        self._ours_before = False
        self.pids: set[int] = set()
        self.killed: list[int] = []
        self.lines: list[KernelLine] = []
        self._descriptor = self._open()

    def _open(self) -> int:
        descriptor = os.open("/dev/kmsg", os.O_RDONLY | os.O_NONBLOCK)
        os.lseek(descriptor, 0, os.SEEK_END)
        return descriptor

    def look_for_pids(self) -> None:
        """Remember who lives in the cgroup: a process that crashed is gone when its line comes."""
        try:
            self.pids.update(int(pid) for pid in (self._group / "cgroup.procs").read_text().split())
        except FileNotFoundError:
            self._ended.set()

    def run(self) -> None:
        """Until stopped."""
        while not self._ended.is_set():
            readable, _, _ = select.select([self._descriptor], [], [], 0.1)
            self.look_for_pids()
            while readable:
                try:
                    record = os.read(self._descriptor, 8192)
                except BlockingIOError:
                    break
                except BrokenPipeError:
                    continue  # the ring has overtaken us; the next read goes on behind the gap
                self.take(record.decode("utf-8", "replace"))
        os.close(self._descriptor)

    def take(self, record: str) -> None:
        """One record of /dev/kmsg: `priority,number,microseconds,flags;text`, then lines with fields of devices."""
        head, _, rest = record.partition(";")
        fields = head.split(",")
        if int(fields[0]) >> 3 != 0:
            return  # written by a program, not by the kernel
        line = KernelLine(time.time(), int(fields[2]), rest.split("\n", 1)[0])
        if INVOKED.search(line.text):
            self._report = [line]
            return
        if self._report is not None and len(self._report) < LONGEST_REPORT:
            self._report.append(line)
            if KILLED.search(line.text):
                self._finish(self._report)
            return
        self._report = None
        self._single(line)

    def _finish(self, report: list[KernelLine]) -> None:
        self._report = None
        if any(self._mark in line.text for line in report):
            for line in report:
                self._keep(line)

    def _single(self, line: KernelLine) -> None:
        killed, named = KILLED.search(line.text), NAMES_PID.search(line.text)
        pid = int(killed[1]) if killed else int(named[1] or named[2]) if named else 0
        self._ours_before = pid in self.pids or (self._ours_before and CODE.match(line.text) is not None)
        if self._ours_before:
            self._keep(line)

    def _keep(self, line: KernelLine) -> None:
        if killed := KILLED.search(line.text):
            self.killed.append(int(killed[1]))
        self.lines.append(line)
        self._write(line)

    def stop(self) -> None:
        """End it."""
        self._ended.set()
        self.join(5)


def as_dmesg(line: KernelLine) -> str:
    """The line as `dmesg` prints it, without an end of line."""
    return f"[{line.uptime_us // 1_000_000:5d}.{line.uptime_us % 1_000_000:06d}] {line.text}"
