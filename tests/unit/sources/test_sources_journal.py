"""The journal through a program that behaves as journalctl does, over a journal that is a file of JSON lines."""

from __future__ import annotations

import json
import os
import select
import signal
import stat
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest

from tocsin.model import Batch
from tocsin.sources.journal import Journal
from tocsin.sources.lines import MAX_LINE_BYTES
from tocsin.sources.notice import Notice

DEADLINE_S = 20.0
MATCHES = ("_COMM=sshd", "_COMM=sshd-session")

# Follows the file beside it. Notes its arguments and its process id; ends when nobody hears it any more, as journalctl.
JOURNALCTL = f"""#!{sys.executable} -S
import json, os, pathlib, select, sys
here = pathlib.Path(__file__).parent
with (here / "started").open("a") as file:
    file.write(json.dumps([os.getpid(), sys.argv[1:]]) + "\\n")
if (here / "refuse").exists():
    sys.stderr.write((here / "refuse").read_text())
    sys.exit(1)
def option(name):
    return next((a.split("=", 1)[1] for a in sys.argv[1:] if a.startswith(f"--{{name}}=")), None)
after = option("after-cursor")
with (here / "entries").open("rb", buffering=0) as file:
    if option("lines") == "0":
        file.seek(0, 2)
    out = select.poll()
    out.register(1, select.POLLERR)
    rest, passing = b"", after is not None
    (here / "ready").touch()
    while not out.poll(5):
        *lines, rest = (rest + file.read()).split(b"\\n")
        for line in lines:
            if not passing:
                os.write(1, line + b"\\n")
            elif json.loads(line)["__CURSOR"] == after:
                passing = False
"""


class Machine:
    """A machine with a journal."""

    def __init__(self, root: Path) -> None:
        self.program = root / "bin" / "journalctl"
        self.program.parent.mkdir()
        self.program.write_text(JOURNALCTL)
        self.program.chmod(self.program.stat().st_mode | stat.S_IXUSR)
        self.entries = self.program.parent / "entries"
        self.entries.touch()
        self.journals = root / "journal"
        (self.journals / "0123").mkdir(parents=True)
        (self.journals / "0123" / "system.journal").touch()
        self.logged = 0
        self.opened: list[Journal] = []

    def log(self, count: int = 1, message: str = "Failed password") -> None:
        with self.entries.open("ab") as file:
            for _ in range(count):
                self.logged += 1
                cursor = f"s=ab;i={self.logged:x};b=cd;m=1;t=2;x=3"
                file.write(json.dumps({"__CURSOR": cursor, "MESSAGE": message}).encode() + b"\n")

    def journal(self, cursor: str | None = None, clock: Callable[[], float] = time.time) -> Journal:
        journal = Journal(MATCHES, cursor, program=self.program, directories=[self.journals], clock=clock)
        self.opened.append(journal)
        return journal

    def started(self) -> list[tuple[int, list[str]]]:
        path = self.program.parent / "started"
        return [tuple(json.loads(line)) for line in path.read_text().splitlines()] if path.exists() else []

    def has_started(self, times: int) -> bool:
        return len(self.started()) == times

    def follow(self, journal: Journal) -> None:
        """Start the child and wait until it has taken up its place."""
        ready = self.program.parent / "ready"
        ready.unlink(missing_ok=True)
        journal.fileno()
        until(ready.exists)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    yield machine
    for journal in machine.opened:
        journal.close()


def until(holds: Callable[[], bool]) -> None:
    deadline_s = time.monotonic() + DEADLINE_S
    while not holds():
        assert time.monotonic() < deadline_s, "it did not come to that in time"
        time.sleep(0.005)


def read(journal: Journal, count: int) -> list[Batch]:
    """The next `count` entries, waiting as guard does."""
    batches: list[Batch] = []
    deadline_s = time.monotonic() + DEADLINE_S
    while len(batches) < count:
        assert time.monotonic() < deadline_s, f"{len(batches)} of {count} entries came"
        due_ts = journal.deadline_ts()
        wait_s = 0.5 if due_ts is None else min(0.5, max(0.0, due_ts - time.time()))
        select.select([journal.fileno()], [], [], wait_s)
        batches += journal.read()
    return batches


def numbers(batches: list[Batch]) -> list[int]:
    return [batch.offset for batch in batches]


def is_running(pid: int) -> bool:
    with suppress(ProcessLookupError, FileNotFoundError):
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    return False


def test_without_a_cursor_what_is_logged_from_now_on_is_read(machine: Machine) -> None:
    machine.log(3)
    journal = machine.journal()
    assert (journal.available, journal.why_not, journal.cursor, machine.started()) == (True, "", None, [])
    machine.follow(journal)
    machine.log(2, 'naïve " \\ \\u001b __CURSOR":"s=x;i=1"')
    batches = read(journal, 2)
    assert numbers(batches) == [4, 5]
    assert {batch.source for batch in batches} == {"journal"}
    assert b"".join(batch.data for batch in batches) == b"".join(machine.entries.read_bytes().splitlines(True)[3:])
    assert all(batch.arrival_ts is not None and abs(batch.arrival_ts - time.time()) < 60 for batch in batches)
    assert journal.cursor == "s=ab;i=5;b=cd;m=1;t=2;x=3"
    assert (journal.pending, journal.deadline_ts(), journal.notices()) == (False, None, [])
    arguments = machine.started()[0][1]
    assert arguments == ["--output=json", "--follow", "--no-pager", "--lines=0", *MATCHES]


def test_a_cursor_goes_on_where_it_was_left(machine: Machine) -> None:
    machine.log(5)
    first = machine.journal("s=ab;i=2;b=cd;m=1;t=2;x=3")
    assert numbers(read(first, 3)) == [3, 4, 5]
    first.close()
    machine.log(1_000)
    assert numbers(read(machine.journal(first.cursor), 1_000)) == list(range(6, 1_006))


def test_an_ended_child_is_started_again_and_nothing_is_lost_or_repeated(machine: Machine) -> None:
    journal = machine.journal()
    machine.follow(journal)
    fileno = journal.fileno()
    machine.log(10)
    seen = numbers(read(journal, 10))
    os.kill(machine.started()[0][0], signal.SIGKILL)
    machine.log(10)
    seen += numbers(read(journal, 10))
    assert seen == list(range(1, 21))
    assert journal.fileno() == fileno
    notices = journal.notices()
    assert [(notice.source, notice.kind) for notice in notices] == [("journal", "journal")]
    assert "signal 9" in notices[0].text
    assert journal.notices() == []
    assert machine.started()[1][1][3] == "--no-tail"


def test_a_child_that_ended_before_it_gave_anything_loses_nothing(machine: Machine) -> None:
    journal = machine.journal()
    machine.follow(journal)
    os.kill(machine.started()[0][0], signal.SIGKILL)
    machine.log(2)
    assert numbers(read(journal, 2)) == [1, 2]
    assert [argument.split("=")[0] for argument in machine.started()[1][1][3:5]] == ["--no-tail", "--since"]


def test_the_back_off_doubles_up_to_a_minute_and_the_same_trouble_is_told_once(machine: Machine) -> None:
    (machine.program.parent / "refuse").write_text("No journal files: insufficient \x1b[31mpermissions.\n")
    now = 1_000_000.0
    journal = machine.journal(clock=lambda: now)
    waits, notices = [], list[Notice]()
    for attempt in range(1, 10):
        assert journal.read() == []
        until(partial(machine.has_started, attempt))
        began_ts = now
        deadline_s = time.monotonic() + DEADLINE_S
        while (due_ts := journal.deadline_ts()) is None or due_ts - now < 0.5:
            assert time.monotonic() < deadline_s
            now = now if due_ts is None else max(now, due_ts)
            select.select([journal.fileno()], [], [], 0.05)
            journal.read()
        assert now - began_ts < 5
        waits.append(round(due_ts - now))
        now = due_ts
        notices += journal.notices()
    assert waits == [1, 2, 4, 8, 16, 32, 60, 60, 60]
    assert len(notices) == 1
    assert "exit status 1: No journal files: insufficient \\x1b[31mpermissions." in notices[0].text
    assert "systemd-journal" in notices[0].text


def test_a_position_that_is_not_understood_is_given_up_and_told(machine: Machine) -> None:
    refuse = machine.program.parent / "refuse"
    refuse.write_text("Failed to seek to cursor: Invalid argument\n")
    journal = machine.journal("nonsense")
    notices: list[Notice] = []

    def is_told() -> bool:
        journal.read()
        notices.extend(journal.notices())
        return bool(notices)

    until(is_told)
    assert [(notice.kind, notice.lost_bytes_at_most) for notice in notices] == [("lost", None)]
    assert journal.cursor is None
    refuse.unlink()
    machine.log(1)
    until(lambda: bool(journal.read()))


def test_what_is_no_entry_is_skipped_and_a_long_one_is_cut(machine: Machine) -> None:
    journal = machine.journal()
    machine.follow(journal)
    with machine.entries.open("ab") as file:
        file.write(b"-- Boot 0123456789abcdef0123456789abcdef --\n")
    machine.log(1)
    machine.log(1, "x" * 200_000)
    machine.log(1)
    batches = read(journal, 3)
    assert numbers(batches) == [1, 2, 3]
    assert [len(batch.data) for batch in batches][1] == MAX_LINE_BYTES + 1
    assert [notice.kind for notice in journal.notices()] == ["long-line"]


def test_the_budget_bounds_a_read(machine: Machine) -> None:
    machine.log(3_000)
    journal = machine.journal("s=ab;i=1;b=cd;m=1;t=2;x=3")
    first: list[Batch] = []
    until_s = time.monotonic() + 20
    while len(first) < 2_999 and time.monotonic() < until_s:
        select.select([journal.fileno()], [], [], 1.0)
        more = journal.read(1)
        assert sum(len(batch.data) for batch in more) <= 2 << 16
        first += more
    assert numbers(first) == list(range(2, 3_001))


def test_close_ends_the_child(machine: Machine) -> None:
    journal = machine.journal()
    machine.follow(journal)
    pid = machine.started()[0][0]
    assert is_running(pid)
    journal.close()
    assert not is_running(pid)
    assert journal.deadline_ts() is None
    journal.close()
    with pytest.raises(ValueError, match="closed"):
        journal.read()


def test_the_child_ends_with_a_parent_that_was_killed(machine: Machine) -> None:
    program = (
        "import sys, time; from pathlib import Path; from tocsin.sources.journal import Journal\n"
        "journal = Journal(['_COMM=sshd'], program=Path(sys.argv[1]), directories=[Path(sys.argv[2])])\n"
        "journal.fileno(); time.sleep(60)"
    )
    with subprocess.Popen([sys.executable, "-c", program, machine.program, machine.journals]) as parent:
        until((machine.program.parent / "ready").exists)
        pid = machine.started()[0][0]
        parent.kill()
    until(lambda: not is_running(pid))


def test_what_is_missing_is_said(machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    no_journal = Journal(MATCHES, program=machine.program, directories=[empty, tmp_path / "none"])
    assert not no_journal.available
    assert f"there is no journal in {empty}" in no_journal.why_not
    with pytest.raises(ValueError, match="cannot be read"):
        no_journal.read()
    monkeypatch.setenv("PATH", str(empty))
    assert "no journalctl" in Journal(MATCHES, directories=[machine.journals]).why_not
    monkeypatch.setenv("PATH", f"relative:{empty}:{machine.program.parent}")
    assert Journal(MATCHES, directories=[machine.journals]).available


@pytest.mark.parametrize("match", ["--flush", "sshd", "_comm=sshd", "", "A=\0"])
def test_a_match_is_no_option(match: str) -> None:
    with pytest.raises(ValueError, match="no match of the journal"):
        Journal([match])
