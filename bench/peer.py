"""fail2ban as the drop-in's peer: what its test command finds in a log and how fast, and its server at work."""

from __future__ import annotations

import ast
import contextlib
import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path

from msgspec import Struct
from netns import Namespace, wait_until

from measuring import ROOT, Span, span, timed

STOCK = Path("/etc/fail2ban")
REGEX = "fail2ban-regex"
SERVER, CLIENT = Path("/usr/bin/fail2ban-server"), Path("/usr/bin/fail2ban-client")
PYINOTIFY = Path("/usr/lib/python3/dist-packages/pyinotify.py")

Rows = list[tuple[str, float]]


class Pace(Struct, frozen=True):
    """How long fail2ban-regex takes: to start, and for so many lines, start included."""

    start_s: float
    took: Span
    lines: int

    @property
    def a_line_s(self) -> float:
        """For one line more."""
        return (self.took.best - self.start_s) / self.lines

    def whole_s(self, lines: int) -> float:
        """What so many lines would take, start included."""
        return self.start_s + lines * self.a_line_s

    def __str__(self) -> str:
        return (
            f"{self.took} for {self.lines:,} lines, {self.start_s:.2f} s of it to start:"
            f" {1 / self.a_line_s:,.0f} lines/s"
        )


def piece_of(log: Path, lines: int) -> Path:
    """The first lines of a log as a file of their own."""
    piece = log.with_name(f"{log.stem}-piece-{lines}.log")
    if not piece.exists():
        with log.open() as source, piece.open("w") as out:
            out.writelines(islice(source, lines))
    return piece


def rows_of(piece: Path, filter_: str) -> Rows:
    """(id, time) of each failure that fail2ban-regex finds."""
    command = [REGEX, "--usedns=no", "-o", "row", str(piece), filter_]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [ast.literal_eval(line.rstrip(",")) for line in said.splitlines() if line.startswith("[")]
    return [(row[0], row[1]) for row in rows]


def pace_of(piece: Path, filter_: str, lines: int, repeat: int = 2) -> Pace:
    """Time fail2ban-regex on a piece of so many lines."""
    start = span([timed([REGEX, "--usedns=no", "127.0.0.1 x", filter_]) for _ in range(repeat)])
    command = [REGEX, "--usedns=no", "--print-no-missed", "--print-no-ignored", str(piece), filter_]
    return Pace(start.best, span([timed(command) for _ in range(repeat)]), lines)


def configuration(folder: Path, jail: str, failregex: str, options: Sequence[str] = ()) -> Path:
    """A copy of the stock configuration in which nothing is on but one jail with a filter of its own. A server of it
    keeps to the folder.
    """
    copy = folder / "fail2ban"
    shutil.copytree(STOCK, copy)
    for old in (copy / "jail.d").glob("*"):
        old.unlink()
    (copy / "filter.d" / f"{jail}.conf").write_text(f"[Definition]\nfailregex = {failregex}\n")
    section = "\n".join(["enabled = true", f"filter = {jail}", *options])
    (copy / "jail.local").write_text(f"[DEFAULT]\nenabled = false\n\n[{jail}]\n{section}\n")
    (copy / "fail2ban.local").write_text(
        f"[Definition]\nlogtarget = {folder}/fail2ban.log\nsocket = {folder}/fail2ban.sock\n"
        f"pidfile = {folder}/fail2ban.pid\ndbfile = {folder}/fail2ban.sqlite3\n"
    )
    return copy


@contextlib.contextmanager
def serving(namespace: Namespace, directory: Path, jail: str) -> Iterator[None]:
    """A fail2ban server of a configuration, in a namespace; ended after."""
    said = directory.parent / "fail2ban.out"
    command = namespace.command(str(SERVER), "-c", str(directory), "-f", "start")
    with said.open("wb") as out:
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def up() -> bool:
        if process.poll() is not None:
            raise RuntimeError(f"fail2ban-server ended with {process.returncode}: {said.read_text()[-2000:]}")
        ask = [str(CLIENT), "-c", str(directory), "status", jail]
        return subprocess.run(ask, capture_output=True, check=False).returncode == 0

    try:
        wait_until(up, "fail2ban at work")
        yield
    finally:
        process.terminate()
        try:
            process.wait(30)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def probe_environment() -> dict[str, str]:
    """For programs of this folder that run inside a namespace."""
    return {**os.environ, "PYTHONPATH": os.pathsep.join((str(ROOT / "bench"), str(ROOT / "tests" / "e2e")))}
