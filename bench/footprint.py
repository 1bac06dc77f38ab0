"""Memory and processor time of a guard at work: idle, and after a million attackers' addresses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from guarding import HOSTS_ALONE, Guard, request_line, scratch
from netns import Namespace, missing, wait_until

from filled import address
from measuring import Measure, Skipped

IDLE_S = 30.0
ATTACKERS = 1_000_000
PORTION = 2000
NAMES = {"supervise": "supervisor", "guard": "watcher", "enforce": "enforcer"}
SHELLSHOCK = "() { :;}; /bin/cat /etc/passwd"  # one line of it bans


def measure() -> Iterator[Measure]:
    """Idle; then a million who do too little to be banned; then a million who are banned each."""
    if reason := missing():
        raise Skipped(f"no network namespaces can be made here: {reason}")
    with Namespace() as namespace, scratch() as folder:
        guard = Guard(namespace, folder, HOSTS_ALONE)
        guard.start()
        try:
            guard.write(request_line("198.51.100.1", "GET / HTTP/1.1"))
            wait_until(lambda: guard.lines() == 1, "the first line")
            time.sleep(8.0)  # the first checkpoint and reading of the counters are behind us
            yield from _idle(guard)
        finally:
            guard.stop()
    for name, line in (
        ("1,000,000 addresses, one XML-RPC post each", request_line),
        ("1,000,000 addresses, each banned at once", _probe_line),
    ):
        with Namespace() as namespace, scratch() as folder:
            guard = Guard(namespace, folder, HOSTS_ALONE)
            guard.start()
            try:
                yield from _attacked(guard, name, line)
            finally:
                guard.stop()


def _probe_line(client: str, *, ts: float) -> str:
    return request_line(client, "GET / HTTP/1.1", agent=SHELLSHOCK, ts=ts)


def memory_mb(pid: int, field: str = "VmRSS") -> float:
    """Memory of a process in MB, resident (VmRSS) or the most that it ever was (VmHWM)."""
    line = next(line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith(f"{field}:"))
    return int(line.split()[1]) * 1024 / 1e6


def cpu_s(pid: int) -> float:
    """Processor time that a process has used, its own and the kernel's for it."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _both(guard: Guard, field: str = "VmRSS") -> float:
    pids = guard.pids()
    return memory_mb(pids["guard"], field) + memory_mb(pids["enforce"], field)


def _idle(guard: Guard) -> Iterator[Measure]:
    pids = guard.pids()
    before = {name: cpu_s(pid) for name, pid in pids.items()}
    began_s = time.monotonic()
    time.sleep(IDLE_S)
    used_s = {name: cpu_s(pid) - before[name] for name, pid in pids.items()}
    share = 100 * sum(used_s.values()) / (time.monotonic() - began_s)
    each = ", ".join(f"{NAMES[name]} {memory_mb(pid):.0f}" for name, pid in pids.items())
    yield Measure("footprint", "memory idle, watcher and enforcer", _both(guard), "MB", 60.0, how=f"RSS in MB: {each}")
    how = f"over {IDLE_S:.0f} s, ticks of 10 ms; " + ", ".join(
        f"{NAMES[name]} {1000 * used:.0f} ms" for name, used in used_s.items()
    )
    yield Measure("footprint", "processor idle, all three", share, "%", 0.2, how=how)


def _attacked(guard: Guard, name: str, line: Callable[..., str]) -> Iterator[Measure]:
    began_s = time.monotonic()
    with guard.log.open("ab", buffering=0) as out:
        for start in range(0, ATTACKERS, PORTION):
            ts = time.time()
            out.write("".join(line(address(number), ts=ts) for number in range(start, start + PORTION)).encode())
    wait_until(lambda: guard.lines() == ATTACKERS, f"{ATTACKERS:,} lines read", 600)
    took_s = time.monotonic() - began_s
    time.sleep(10.0)  # a checkpoint, and what is given back after it
    status, pids = guard.need_status(), guard.pids()
    each = ", ".join(
        f"{NAMES[key]} {memory_mb(pid):.0f} (most {memory_mb(pid, 'VmHWM'):.0f})" for key, pid in pids.items()
    )
    how = (
        f"RSS in MB: {each}; took {took_s:.0f} s; {status['tracked']:,} keys tracked, {status['evicted']:,} evicted, "
        f"{status['bans']['active']:,} bans in force, {status['bans']['evicted']:,} evicted"
    )
    yield Measure("footprint", f"memory after {name}", _both(guard), "MB", 200.0, how=how)
    yield Measure("footprint", "  the most it ever was", _both(guard, "VmHWM"), "MB", how="watcher and enforcer, VmHWM")
