"""How long the kernel is without the bans: after a start into an empty namespace, and after `nft flush ruleset`."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from guarding import HOSTS_ALONE, Guard, kernel_subjects, scratch
from netns import Namespace, missing

from filled import fill_ledger
from measuring import Measure, Skipped

REPEAT = 3
HERE = Path(__file__).resolve().parent


def measure() -> Iterator[Measure]:
    """Both, with few and with many bans."""
    if reason := missing():
        raise Skipped(f"no network namespaces can be made here: {reason}")
    for count, flush_asked_s in ((10_000, 1.0), (100_000, 3.0)):
        starts_s: list[float] = []
        flushes_s: list[float] = []
        for _ in range(REPEAT):
            _one_round(count, starts_s, flushes_s)
        asked = 3.0 if count == 100_000 else None
        yield _of(f"start with {count:,} bans, all in the kernel", starts_s, asked)
        yield _of(f"flush ruleset with {count:,}, all back", flushes_s, flush_asked_s)


def _of(name: str, times_s: list[float], asked: float | None) -> Measure:
    how = f"median of {len(times_s)}; best {min(times_s):.2f}, worst {max(times_s):.2f} s; every tenth ban looked up"
    return Measure("restart", name, statistics.median(times_s), "s", asked, how=how)


def _one_round(count: int, starts_s: list[float], flushes_s: list[float]) -> None:
    with Namespace() as namespace, scratch() as folder:
        fill_ledger(folder / "state", count)
        guard = Guard(namespace, folder, HOSTS_ALONE)
        began_s = time.monotonic()
        guard.start(wait=False)
        try:
            starts_s.append(_all_there(guard, count) - began_s)
            guard.wait_ready(60)
            _check(guard, count)
            began_s = time.monotonic()
            namespace.run("nft", "flush", "ruleset")
            flushes_s.append(_all_there(guard, count) - began_s)
            _check(guard, count)
        finally:
            guard.stop()


def _all_there(guard: Guard, count: int) -> float:
    path = os.pathsep.join((str(HERE), str(HERE.parent / "tests" / "e2e")))
    command = guard.namespace.command(sys.executable, str(HERE / "restore_probe.py"), str(count))
    done = subprocess.run(
        command, capture_output=True, text=True, check=False, env={**os.environ, "PYTHONPATH": path}, timeout=150
    )
    if done.returncode:
        raise RuntimeError(f"{done.stderr[-2000:]}\nguard said:\n{guard.said_text()[-2000:]}")
    return float(done.stdout)


def _check(guard: Guard, count: int) -> None:
    """That really all are there: what nft lists."""
    time.sleep(0.5)
    listed = len(kernel_subjects(guard.namespace))
    if listed != count:
        raise RuntimeError(f"nft lists {listed:,} bans where {count:,} were expected")
