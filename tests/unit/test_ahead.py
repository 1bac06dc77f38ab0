"""Reading ahead in another process: the same batches and what is in them, the same errors, nothing lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pytest

from tocsin import ahead
from tocsin.detect.block import Looked
from tocsin.model import Batch, Decision
from tocsin.replay import Replay
from tocsin.rules import compile_rule, load_shipped
from tocsin.sources.finished import read_finished
from tocsin.sources.notice import SourceError

LINE = '192.0.2.{} - - [20/Jun/2016:12:00:{:02} +0000] "POST /xmlrpc.php HTTP/1.0" 200 5 "-" "x"\n'


@pytest.fixture
def log(tmp_path: Path) -> Path:
    path = tmp_path / "access.log"
    path.write_text("".join(LINE.format(i % 5 + 1, i // 20) for i in range(1000)))
    return path


def reader(*paths: Path) -> ahead.Read:
    def read(progress: Callable[[int], None], on_error: Callable[[SourceError], None]) -> Iterator[Batch]:
        return read_finished(paths, block_bytes=8192, progress=progress, on_error=on_error)

    return read


def look(batch: Batch) -> tuple[Batch, Looked]:
    return batch, looked(batch)


def looked(batch: Batch) -> Looked:
    number = batch.data.count(b"\n")
    return Looked([(0, 3)], [0], number, [("192.0.2.1", batch.data[15:35].decode())] * number)


def taken(read: ahead.Read, look: ahead.Look) -> tuple[list[tuple[Batch, object]], list[str], int]:
    done: list[int] = [0]
    errors: list[str] = []
    found: list[tuple[Batch, object]] = [
        (batch, each and (each.candidates, each.numbers, each.lines, list(each.rows)))
        for batch, each in ahead.read_ahead(read, look, done.append, lambda error: errors.append(str(error)))
    ]
    return found, errors, done[-1]


def test_the_same_as_read_here(log: Path) -> None:
    gone = log.with_name("gone.log")
    found, errors, done = taken(reader(gone, log), look)
    batches = list(read_finished([log], block_bytes=8192))
    assert found == [(each, (*looked(each)[:3], list(looked(each).rows))) for each in batches]
    assert len(found) > 5
    assert errors == [f"{gone}: there is no such file; check the name"]
    assert done == log.stat().st_size


def test_what_nobody_has_looked_for_is_none(log: Path) -> None:
    found, _, _ = taken(reader(log), lambda batch: (batch, None))
    assert [each for _, each in found] == [None] * len(found)


@pytest.mark.parametrize("how", ["killed", "failed"])
def test_the_rest_is_read_here_where_the_process_ends_early(log: Path, how: str) -> None:
    """And no error is told twice."""
    parent = os.getpid()

    def look(batch: Batch) -> tuple[Batch, Looked]:
        if batch.line > 300 and os.getpid() != parent:
            if how == "failed":
                raise ValueError("an error of ours")
            os.kill(os.getpid(), signal.SIGKILL)
        return batch, looked(batch)

    found, errors, _ = taken(reader(log.with_name("gone.log"), log), look)
    assert [batch for batch, _ in found] == list(read_finished([log], block_bytes=8192))
    assert {each is None for _, each in found} == {True, False}
    assert len(errors) == 1


def test_nothing_is_left_behind_where_the_reader_stops_early(log: Path) -> None:
    several = ahead.read_ahead(reader(*[log] * 3), look, lambda _done: None, lambda _error: None)
    next(several)
    several.close()  # type: ignore[attr-defined]  # a generator
    with pytest.raises(ChildProcessError):
        os.waitpid(-1, os.WNOHANG)


@pytest.mark.parametrize("files", [1, 3])
@pytest.mark.parametrize("every", [False, True])
def test_a_replay_decides_alike(log: Path, files: int, every: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of several files, too, which are merged by their lines' times; whether all lines are looked at or few."""
    rules = [compile_rule(rule) for rule in load_shipped() if rule.enabled and (every or "xmlrpc" in rule.id)]
    text = log.read_text()
    for_no_rule = text.replace("12:00", "11:59").replace("POST /xmlrpc.php", "GET /")
    lines = (for_no_rule + text).splitlines(keepends=True)
    logs = [log.with_name(f"{i}.log") for i in range(files)]
    for i, each in enumerate(logs):
        each.write_text("".join(lines[i::files]))

    def decisions() -> tuple[list[Decision], object]:
        made: list[Decision] = []
        summary = Replay(logs, rules, UTC, None, lambda decision, _finding: made.append(decision), contrast=every).run()
        return made, (summary.lines, summary.stopped, summary.unparsed, summary.findings)

    here = decisions()
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(os, "getloadavg", lambda: (0.5, 0.5, 0.5))
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert ahead.is_worth(logs)
    assert decisions() == here
    assert here[0]


def test_it_is_not_worth_it_where_nobody_has_time(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By what runs now, for what ended a moment ago is in the average still."""
    load = log.with_name("loadavg")
    monkeypatch.setattr(ahead, "LEAST_BYTES", 1)
    monkeypatch.setattr(ahead, "LOAD", load)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _pid: {0, 1})
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    monkeypatch.setattr(os, "getloadavg", lambda: (5.0, 0.5, 0.5))
    monkeypatch.setattr("threading.active_count", lambda: 1)
    assert not ahead.is_worth([log]), "the average is all that is known"
    load.write_text("5.00 0.50 0.50 3/200 4711\n")
    assert not ahead.is_worth([log])
    load.write_text("5.00 0.50 0.50 1/200 4711\n")
    assert ahead.is_worth([log])
