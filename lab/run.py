"""Makes real outages: python lab/run.py [--scenario NAME]... [--seed N] [--runs K] [--jobs J] [--out DIR]. Root.

Every run is one server with its clients in namespaces of their own, three to four minutes long. Nothing leaves the
namespaces, and nothing is left of them. Exit code 1 where a run failed, or where nothing fell that should have.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

import setup
from one import run
from scenarios import SCENARIOS
from space import sweep

RUN_WITHIN_S = 420.0


def arguments() -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--scenario", action="append", choices=sorted(SCENARIOS), help="which (all)")
    parser.add_argument("--seed", type=int, default=1, help="the first seed (1)")
    parser.add_argument("--runs", type=int, default=1, help="how many seeds of each scenario (1)")
    parser.add_argument("--jobs", type=int, default=1, help="how many servers side by side (1)")
    parser.add_argument("--out", type=Path, default=Path("lab-cases"), help="where the cases go (lab-cases)")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


class Child:
    """One run in a process of its own."""

    def __init__(self, name: str, seed: int, out: Path) -> None:
        """Start it."""
        self.name, self.seed, self.case = name, seed, out / f"{name}-{seed}"
        words = [sys.executable, __file__, "--one", "--scenario", name, "--seed", str(seed), "--out", str(out)]
        self.process = subprocess.Popen(words, stderr=subprocess.PIPE, text=True, start_new_session=True)
        self.began_s = time.monotonic()

    def ended(self) -> bool:
        """Whether it is over; one that takes too long is told to end."""
        if self.process.poll() is None and time.monotonic() - self.began_s > RUN_WITHIN_S:
            self.end()
        return self.process.poll() is not None

    def end(self) -> None:
        """Let it clean up and go."""
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(30)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()

    def line(self) -> tuple[bool, str]:
        """Whether it came off, and a line of the table."""
        took = f"{self.time_s:4.0f} s"
        if self.process.returncode != 0:
            assert self.process.stderr is not None
            words = self.process.stderr.read().strip().splitlines()
            return False, f"{self.name:20} {self.seed:4} {took}  FAILED: {words[-1] if words else 'killed'}"
        truth = json.loads((self.case / "truth.json").read_text())
        wrong = truth["fell"] != (truth["expect"] == "incident")
        verdict = "fell" if truth["fell"] else "stood"
        told = f"{self.name:20} {self.seed:4} {took}  {verdict:5} {shares(truth['measured'])}"
        return not wrong, told + ("  NOT AS MEANT" if wrong else "")

    @property
    def time_s(self) -> float:
        """How long it has run."""
        return time.monotonic() - self.began_s


def shares(measured: dict[str, Any]) -> str:
    """Visitors' page loads that came off, and what was killed."""
    told = []
    for part, counts in measured["loads"].items():
        told.append(f"{part} {counts['ok']}/{sum(counts.values())}")
    return f"{', '.join(told)}; {measured['oom_kills']} OOM kills, {measured['service_failures']} services failed"


def one(name: str, seed: int, out: Path) -> int:
    """The run itself."""
    signal.signal(signal.SIGTERM, stopped)
    run(name, seed, out)
    return 0


def stopped(number: int, _frame: object) -> NoReturn:
    """A signal ends us as an exception would, so that the server is taken apart."""
    sys.exit(128 + number)


def main() -> int:
    """All runs, so many side by side; the table at the end."""
    told = arguments()
    if os.getuid() != 0:
        print("lab: namespaces with memory limits need root: sudo make lab", file=sys.stderr)
        return 77
    if told.one:
        return one(told.scenario[0], told.seed, told.out)
    if setup.main() != 0:
        return 69
    signal.signal(signal.SIGTERM, stopped)
    sweep()
    told.out.mkdir(parents=True, exist_ok=True)
    names = told.scenario or list(SCENARIOS)
    waiting = [(name, seed) for seed in range(told.seed, told.seed + told.runs) for name in names]
    running: list[Child] = []
    table: list[tuple[bool, str]] = []
    try:
        while waiting or running:
            while waiting and len(running) < told.jobs:
                running.append(Child(*waiting.pop(0), told.out.resolve()))
            for child in [child for child in running if child.ended()]:
                running.remove(child)
                table.append(child.line())
                print(table[-1][1], flush=True)
            time.sleep(0.2)
    except KeyboardInterrupt:
        print("lab: interrupted; taking the servers apart", file=sys.stderr)
    finally:
        for child in running:
            child.process.terminate()
        for child in running:
            child.end()
    missed = len(waiting) + len(running)
    good = sum(each for each, _ in table)
    print(f"\n{good} of {len(table)} runs are as they were meant; the cases are in {told.out}")
    return 0 if good == len(table) and not missed else 1


if __name__ == "__main__":
    sys.exit(main())
