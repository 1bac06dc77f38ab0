"""From `write()` of the line that crosses a rule's limit to the ban in the kernel's set.

A real `tocsin guard` in a network namespace, all shipped rules, ledger on, 100,000 bans in force. The end is the
kernel's own announcement of the new element, as another process receives it; nothing is subtracted.
"""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from guarding import HOSTS_ALONE, Guard, scratch
from netns import Namespace, missing, wait_until

from filled import fill_ledger
from measuring import Measure, Skipped, share_of

IN_FORCE = 100_000
BANS = 400
RATE = 2000
HERE = Path(__file__).resolve().parent


def measure() -> Iterator[Measure]:
    """Quiet, then with background traffic in the same log."""
    if reason := missing():
        raise Skipped(f"no network namespaces can be made here: {reason}")
    with Namespace() as namespace, scratch() as folder:
        fill_ledger(folder / "state", IN_FORCE)
        guard = Guard(namespace, folder, HOSTS_ALONE)
        guard.start(wait=False)
        try:
            guard.wait_ready(60)
            wait_until(lambda: guard.need_status()["bans"]["active"] == IN_FORCE, "all bans in force")
            yield from _figures("quiet", _probe(guard, 0))
            with _background(guard):
                yield from _figures(f"at {RATE:,} lines/s", _probe(guard, 1))
            yield _own_view(guard)
        finally:
            guard.stop()


def _environment() -> dict[str, str]:
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(HERE), str(HERE.parent / "tests" / "e2e")))}


def _probe(guard: Guard, seed: int) -> list[float | None]:
    command = guard.namespace.command(
        sys.executable, str(HERE / "latency_probe.py"), str(guard.log), str(BANS), str(seed)
    )
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=_environment(), timeout=300)
    if done.returncode:
        raise RuntimeError(f"the probe failed: {done.stderr[-2000:]}")
    took: list[float | None] = json.loads(done.stdout)
    return took


@contextlib.contextmanager
def _background(guard: Guard) -> Iterator[None]:
    """Traffic for as long as it is needed; begun once its first lines have been read."""
    before = guard.lines()
    command = [sys.executable, str(HERE / "background.py"), str(guard.log), str(RATE), "120"]
    with subprocess.Popen(command, env=_environment()) as process:
        try:
            wait_until(lambda: guard.lines() > before + RATE, "background lines")
            yield
            if process.poll() is not None:
                raise RuntimeError("the background traffic ended before the probe")
        finally:
            process.kill()


def _figures(when: str, took_ms: list[float | None]) -> Iterator[Measure]:
    good = [value for value in took_ms if value is not None]
    if len(good) < len(took_ms):
        raise RuntimeError(f"{len(took_ms) - len(good)} of {len(took_ms)} bans never came ({when})")
    how = f"{len(good)} bans, {IN_FORCE:,} in force; p90 {share_of(good, 0.9):.2f}, worst {max(good):.2f} ms"
    yield Measure("latency", f"write() to kernel, {when}, p50", share_of(good, 0.5), "ms", 1.0, how=how)
    yield Measure("latency", f"write() to kernel, {when}, p99", share_of(good, 0.99), "ms", 3.0, how=how)


def _own_view(guard: Guard) -> Measure:
    """What guard tells of itself, which begins at its own reading."""
    own = guard.need_status()["ban_latency_ms"]
    how = f"as `tocsin status` shows it: from reading the line; p99 {own['p99']:.2f} ms of {own['count']}"
    return Measure("latency", "of it in guard and kernel, p50", own["p50"], "ms", how=how)
