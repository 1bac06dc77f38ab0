"""What a bench measures, and how: figures with what is asked of them, whole processes timed, spans of a sample."""

from __future__ import annotations

import math
import os
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from msgspec import Struct

ROOT = Path(__file__).resolve().parent.parent
SCRATCH = ROOT / "bench" / "data"  # inputs, kept for the next run
TOCSIN = Path(sys.executable).parent / "tocsin"


class Measure(Struct, frozen=True):
    """One figure. `asked` is a bound (`at_most`, else at least), None where the figure only explains others.

    `how` says what it was measured from: repetitions, and what the other side of a ratio was.
    """

    bench: str
    name: str
    value: float
    unit: str
    asked: float | None = None
    at_most: bool = True
    how: str = ""

    @property
    def ratio(self) -> float | None:
        """Value over what is asked."""
        return self.value / self.asked if self.asked else None

    @property
    def met(self) -> bool | None:
        """Whether it is as asked; None where nothing is."""
        if self.asked is None:
            return None
        return self.value <= self.asked if self.at_most else self.value >= self.asked


class Skipped(Exception):  # noqa: N818  not a mistake
    """A bench that cannot run here; the text says what is missing."""


class Span(Struct, frozen=True):
    """Times of repetitions, in seconds."""

    best: float
    median: float
    count: int

    def __str__(self) -> str:
        return f"best {self.best:.3f} s, median {self.median:.3f} s of {self.count}"


def span(times_s: Sequence[float]) -> Span:
    """The best and the median of some repetitions."""
    return Span(min(times_s), statistics.median(times_s), len(times_s))


def share_of(values: Sequence[float], share: float) -> float:
    """The value that so large a share of the sample does not exceed (nearest rank)."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, math.ceil(share * len(ordered)) - 1)]


def timed(command: Sequence[str], *, piped: bool = False) -> float:
    """Seconds that a whole process takes, its output thrown away (`piped`: read by a `cat` first)."""
    began_s = time.perf_counter()
    if piped:
        with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
            subprocess.run(["cat"], stdin=process.stdout, stdout=subprocess.DEVNULL, check=True)
        code = process.returncode
    else:
        code = subprocess.run(command, stdout=subprocess.DEVNULL, check=False).returncode
    took_s = time.perf_counter() - began_s
    if code:
        raise RuntimeError(f"{' '.join(command)} left with {code}")
    return took_s


def alternating(repeat: int, *tasks: Callable[[], float]) -> list[Span]:
    """Repeat several timings in turn, so that what else the machine does falls on all alike."""
    rounds = [[task() for task in tasks] for _ in range(repeat)]
    return [span([times[i] for times in rounds]) for i in range(len(tasks))]


def machine() -> dict[str, str]:
    """What the figures were measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")), "unknown"
    )
    memory_kib = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    commit = subprocess.run(
        ["git", "-C", str(ROOT), "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False
    ).stdout.strip()
    return {
        "date": time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime()),
        "commit": commit or "unknown",
        "cpu": model,
        "cores": str(os.cpu_count()),
        "memory": f"{memory_kib / 1024**2:.1f} GiB",
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load at start": " ".join(f"{load:.2f}" for load in os.getloadavg()),
    }


def _lines(path: str) -> list[str]:
    file = Path(path)
    return file.read_text().splitlines() if file.exists() else []
