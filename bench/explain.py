"""What `tocsin explain` takes, whole process, on much and on the usual; and whether it still finds who it was."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from msgspec import Struct

from measuring import SCRATCH, TOCSIN, Measure, span
from outage import ATTACKERS, write_access, write_others

REPEAT = 3
CAUSES, PATH = ("request-flood", "distributed-flood"), "/xmlrpc.php"


class Run(Struct, frozen=True):
    """One run of the command: seconds that passed, of processor time, and the most memory that it held, in MB."""

    wall_s: float
    cpu_s: float
    most_mb: float


def measure() -> Iterator[Measure]:
    """A gigabyte of access logs, and a folder of 50 MB with some of everything."""
    large = _folder("explain-1g", lines=4_500_000, days=10, syslog_lines=20_000, error_lines=20_000)
    usual = _folder("explain-50m", lines=130_000, days=3, syslog_lines=100_000, error_lines=28_000, queries=11_000)
    yield from _measured(large, "1 GB", 8.0, 1000.0)
    yield from _measured(usual, "50 MB", 2.0, None)


def _folder(name: str, *, lines: int, days: int, syslog_lines: int, error_lines: int, queries: int = 0) -> Path:
    """A folder of logs, made unless it is there already."""
    folder = SCRATCH / name
    if not folder.exists():
        partial = SCRATCH / f"{name}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir(parents=True)
        write_others(partial, write_access(partial, lines, days), syslog_lines, error_lines, queries)
        partial.rename(folder)
    return folder


def _measured(folder: Path, size: str, asked_s: float, asked_mb: float | None) -> Iterator[Measure]:
    files = sorted(folder.iterdir())
    subprocess.run(["cat", *map(str, files)], stdout=subprocess.DEVNULL, check=True)  # into the page cache
    runs = [_explained(folder) for _ in range(REPEAT)]
    took = span([run.wall_s for run in runs])
    cpu = span([run.cpu_s for run in runs])
    bytes_ = sum(file.stat().st_size for file in files)
    how = f"{bytes_ / 1e6:,.0f} MB in {len(files)} files; {took}; processor {cpu}"
    yield Measure("explain", f"{size}: tocsin explain --json", took.best, "s", asked_s, how=how)
    most = max(run.most_mb for run in runs)
    yield Measure("explain", f"{size}: the most memory", most, "MB", asked_mb, how="peak RSS")


def _explained(folder: Path) -> Run:
    """Run it, and see that it names the attack."""
    began_s = time.perf_counter()
    with subprocess.Popen([str(TOCSIN), "explain", "--json", str(folder)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall_s = time.perf_counter() - began_s
    if process.returncode:
        raise RuntimeError(f"tocsin explain left with {process.returncode}")
    _expect_verdict(json.loads(said))
    return Run(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024 / 1e6)


def _expect_verdict(report: dict[str, Any]) -> None:
    incidents = report["incidents"]
    if len(incidents) != 1 or incidents[0]["cause"] not in CAUSES:
        found = [(one["cause"], one["start"]) for one in incidents]
        raise RuntimeError(f"expected one outage by {' or '.join(CAUSES)}, found {found}")
    signature = incidents[0]["suspects"][0]["signature"]
    if (signature["method"], signature["path"]) != ("POST", PATH):
        raise RuntimeError(f"expected POST {PATH} to be accused, not {signature}")
    if len(incidents[0]["ban"]) != ATTACKERS:
        raise RuntimeError(f"expected {ATTACKERS} addresses to be banned, not {len(incidents[0]['ban'])}")
