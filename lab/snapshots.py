"""What a careful owner's loop records beside a server: ps, free, df, vmstat; and the counters that make them true.

In a cgroup `free` and `uptime` show the host. As lxcfs does, we put files of our own over /proc/meminfo and
/proc/loadavg inside, and write into them what the cgroup's own counters say.
"""

from __future__ import annotations

import datetime as dt
import math
import subprocess
import time
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from server import Server

TAKEN_WITHIN_S = 25.0
SCRIPT = "date; uptime; echo; free -m; echo; df -h /var/lib/mysql /var/log; echo; vmstat 1 2; echo; ps u -p $PIDS"


class Snapshots:
    """The loop of one server. A snapshot that fails under load stays as short as it came out."""

    def __init__(self, server: Server) -> None:
        """Nothing is taken yet."""
        self._server, self._space = server, server.space
        self._load = [0.0, 0.0, 0.0]
        self._measured_s = time.monotonic()
        self.failed = 0

    def measure(self) -> None:
        """Write the cgroup's memory and load over /proc/meminfo and /proc/loadavg."""
        try:
            self._write_meminfo()
            self._write_loadavg()
        except FileNotFoundError:
            return  # the server is being taken apart

    def _write_meminfo(self) -> None:
        group = self._space.memory
        stat = dict(line.split() for line in (group / "memory.stat").read_text().splitlines())
        total = int((group / "memory.limit_in_bytes").read_text())
        used = int((group / "memory.usage_in_bytes").read_text())
        files = int(stat["active_file"]) + int(stat["inactive_file"])
        rows = {
            "MemTotal": total, "MemFree": max(0, total - used), "MemAvailable": max(0, total - used + files),
            "Buffers": 0, "Cached": int(stat["cache"]), "SwapCached": 0,
            "Active": int(stat["active_anon"]) + int(stat["active_file"]),
            "Inactive": int(stat["inactive_anon"]) + int(stat["inactive_file"]),
            "SwapTotal": 0, "SwapFree": 0, "Dirty": int(stat["dirty"]), "Writeback": int(stat["writeback"]),
            "AnonPages": int(stat["rss"]), "Mapped": int(stat["mapped_file"]), "Shmem": int(stat["shmem"]),
            "SReclaimable": 0,
        }  # fmt: skip
        text = "".join(f"{name + ':':15} {value // 1024:8} kB\n" for name, value in rows.items())
        (self._space.home / "proc/meminfo").write_text(text)

    def _write_loadavg(self) -> None:
        now_s = time.monotonic()
        passed_s, self._measured_s = now_s - self._measured_s, now_s
        states = [state_of(pid) for pid in self._space.pids()]
        active = sum(state in ("R", "D") for state in states)
        for place, window_s in enumerate((60, 300, 900)):
            decay = math.exp(-passed_s / window_s)
            self._load[place] = self._load[place] * decay + active * (1 - decay)
        one, five, fifteen = self._load
        last = max(self._space.pids(), default=1)
        text = f"{one:.2f} {five:.2f} {fifteen:.2f} {states.count('R')}/{len(states)} {last}\n"
        (self._space.home / "proc/loadavg").write_text(text)

    def take(self) -> None:
        """One snapshot, by programs that run within the server's limits."""
        folder = self._space.home / "snapshots"
        folder.mkdir(exist_ok=True)
        moment = dt.datetime.now(ZoneInfo(self._server.stack.tz))
        pids = ",".join(str(pid) for pid in self._space.pids()) or "1"
        environment = {**self._space.environment, "PIDS": pids}
        with (folder / f"{moment:%Y%m%d-%H%M%S}.txt").open("wb") as file:
            process = self._space.start(["sh", "-c", SCRIPT], env=environment, stdout=file, stderr=file)
            try:
                self.failed += process.wait(TAKEN_WITHIN_S) != 0
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()
                self.failed += 1


def state_of(pid: int) -> str:
    """A process's state as /proc says it: R, S, D...; empty when it is gone."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (OSError, IndexError):
        return ""
