"""Disks that do not work: full, locked, gone, damaged. No ban waits for them, and nothing is lost."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_rows import DAY_S, NOW_TS, ban, finding, until

from tocsin.ledger import schema, store
from tocsin.ledger.load import load
from tocsin.ledger.reader import Reader
from tocsin.ledger.store import Ledger


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    running = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    running.start()
    yield running
    running.close(10)


def test_a_folder_that_cannot_be_made_is_no_reason_to_stop(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "ledger.db"
    running = Ledger(path, DAY_S, 1000, lambda: NOW_TS)
    running.start()
    running.decision(ban("192.0.2.7"))
    running.finding(finding("f1"))
    until(lambda: running.trouble() is not None)
    trouble = running.trouble()
    assert trouble is not None
    assert "1 decisions, 1 findings" in trouble
    assert "2023-11-14 22:13:20 UTC" in trouble
    assert str(path) in trouble
    assert not running.wait_written(0.01)
    (tmp_path / "file").unlink()
    assert running.wait_written(10), "written as soon as the disk works again"
    assert running.trouble() is None
    assert load(path, NOW_TS, DAY_S).active == {"192.0.2.7": NOW_TS + 600}
    assert running.close(10)


def test_closing_with_a_failing_disk_says_so_and_ends(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    running = Ledger(tmp_path / "file" / "ledger.db", DAY_S, 1000, lambda: NOW_TS)
    running.start()
    running.decision(ban("192.0.2.7"))
    assert not running.close(10)


def test_a_locked_file_is_written_when_it_is_free(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(schema, "BUSY_TIMEOUT_S", 0.05)
    ledger = Ledger(path, DAY_S, 1000, lambda: NOW_TS)
    ledger.start()
    ledger.decision(ban("192.0.2.7"))
    assert ledger.wait_written(10)
    blocker = sqlite3.connect(path, isolation_level=None)
    blocker.execute("BEGIN IMMEDIATE")
    ledger.decision(ban("192.0.2.8"))
    until(lambda: ledger.trouble() is not None)
    assert "locked" in str(ledger.trouble())
    assert "fuser" in str(ledger.trouble())
    blocker.execute("ROLLBACK")
    blocker.close()
    assert ledger.wait_written(15)
    assert set(load(path, NOW_TS, DAY_S).active) == {"192.0.2.7", "192.0.2.8"}
    assert ledger.close(10)


def test_a_deleted_file_is_written_anew_with_all_that_it_held(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("192.0.2.7"))
    ledger.finding(finding("f1"))
    ledger.checkpoint(b"state", [b"offset"], 7, b"normal")
    assert ledger.wait_written(10)
    shutil.rmtree(path.parent)
    ledger.decision(ban("192.0.2.8"))
    assert ledger.wait_written(10)
    loaded = load(path, NOW_TS, DAY_S)
    assert set(loaded.active) == {"192.0.2.7", "192.0.2.8"}
    assert (loaded.state, loaded.checkpoints, loaded.normal) == (b"state", [b"offset"], b"normal")
    with Reader(path) as reader:
        assert [each.id for each in reader.findings()] == ["f1"]
    assert "deleted" in str(ledger.news())
    assert ledger.news() is None, "once"
    assert path.stat().st_mode & 0o777 == schema.FILE_MODE
    assert sorted(each.name for each in path.parent.iterdir()) == ["ledger.db", "ledger.db-shm", "ledger.db-wal"]
    assert not ledger.wants_restating(), "nothing is missing"


def test_it_is_noticed_while_nothing_is_written(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "LOOK_EVERY_S", 0.05)
    ledger = Ledger(path, DAY_S, 1000, lambda: NOW_TS)
    ledger.start()
    ledger.decision(ban("192.0.2.7"))
    assert ledger.wait_written(10)
    path.unlink()
    until(path.exists)
    assert set(load(path, NOW_TS, DAY_S).active) == {"192.0.2.7"}
    assert ledger.close(10)


def test_what_was_deleted_is_kept_until_it_can_be_written(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("192.0.2.7"))
    assert ledger.wait_written(10)
    shutil.rmtree(path.parent)
    path.parent.write_text("in the way")
    ledger.decision(ban("192.0.2.8"))
    until(lambda: ledger.trouble() is not None)
    assert "1 decisions" in str(ledger.trouble())
    assert "lost where tocsin is stopped before" in str(ledger.news())
    path.parent.unlink()
    assert ledger.wait_written(10)
    assert set(load(path, NOW_TS, DAY_S).active) == {"192.0.2.7", "192.0.2.8"}
    assert ledger.trouble() is None
    assert "all that it held" in str(ledger.news())


def test_where_another_file_has_taken_its_place_the_bans_are_asked_for(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("192.0.2.7"))
    assert ledger.wait_written(10)
    path.rename(path.with_name("old"))
    schema.make_file(path)
    ledger.decision(ban("192.0.2.8"))
    assert ledger.wait_written(10)
    assert set(load(path, NOW_TS, DAY_S).active) == {"192.0.2.8"}
    assert ledger.wants_restating()
    assert not ledger.wants_restating(), "once"


def test_a_file_that_is_no_database_is_moved_aside(path: Path) -> None:
    path.parent.mkdir()
    path.write_bytes(b"not a database, but somebody's 4 KiB of text\n" * 100)
    running = Ledger(path, DAY_S, 1000, lambda: NOW_TS)
    running.start()
    running.decision(ban("192.0.2.7"))
    assert running.wait_written(10)
    aside = path.with_name("ledger.db.corrupt-1700000000")
    assert aside.read_bytes().startswith(b"not a database")
    assert str(aside) in str(running.trouble()), "said as long as the guard runs"
    assert running.wants_restating()
    assert load(path, NOW_TS, DAY_S).active == {"192.0.2.7": NOW_TS + 600}
    assert running.close(10)


def test_a_file_damaged_under_a_running_ledger_is_moved_aside(path: Path) -> None:
    running = Ledger(path, DAY_S, 100_000, lambda: NOW_TS)
    running.start()
    for number in range(5000):
        running.decision(ban(f"198.51.{number // 250}.{number % 250}"))
    assert running.wait_written(10)
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    with path.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * (path.stat().st_size - 4096))
    for number in range(5000):
        running.decision(ban(f"203.0.{number // 250}.{number % 250}"))
    assert running.wait_written(10)
    assert "damaged" in str(running.trouble())
    assert running.wants_restating()
    assert len(load(path, NOW_TS, DAY_S).active) == 5000
    assert running.close(10)


def test_evidence_goes_first_and_decisions_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "EVIDENCE_CHARS_MAX", 1000)
    monkeypatch.setattr(store, "FINDINGS_MAX", 50)
    (tmp_path / "file").write_text("in the way")
    path = tmp_path / "file" / "ledger.db"
    running = Ledger(path, DAY_S, 100_000, lambda: NOW_TS)
    running.start()
    until(lambda: running.trouble() is not None)
    for number in range(60):
        running.finding(finding(f"f{number}"))
        running.decision(ban(f"198.51.100.{number}"))
    lost = running.lost()
    assert lost["decisions"] == 0
    assert lost["findings"] > 0
    assert lost["evidence"] > 0
    assert "given up" in str(running.trouble())
    (tmp_path / "file").unlink()
    assert running.wait_written(10)
    with Reader(path) as reader:
        assert len(reader.bans(NOW_TS)) == 60
        kept = reader.findings()
    assert len(kept) == 60 - lost["findings"]
    assert sum(bool(f.evidence) for f in kept) == len(kept) - lost["evidence"]
    assert running.close(10)


def test_decisions_are_bounded_and_asked_for_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "DECISIONS_MAX", 50)
    (tmp_path / "file").write_text("in the way")
    running = Ledger(tmp_path / "file" / "ledger.db", DAY_S, 100_000, lambda: NOW_TS)
    running.start()
    until(lambda: running.trouble() is not None)
    for number in range(200):
        running.decision(ban(f"198.51.100.{number}"))
    assert running.lost()["decisions"] >= 100
    assert not running.wants_restating(), "not as long as the disk fails"
    (tmp_path / "file").unlink()
    assert running.wait_written(10)
    assert running.wants_restating()
    assert running.close(10)


def test_text_that_no_file_can_hold_is_spelt_out(ledger: Ledger, path: Path) -> None:
    ledger.finding(finding("f1", text="\udcff\x00 agent"))
    ledger.decision(ban("192.0.2.7"))
    assert ledger.wait_written(10)
    with Reader(path) as reader:
        (found,) = reader.findings()
    assert found.evidence[0].text == "\\udcff\x00 agent 1"


FULL_DISK = """
    import resource, signal, sys, time
    from pathlib import Path
    from tocsin.ledger.load import load
    from tocsin.ledger.store import Ledger
    from tocsin.model import Decision
    path, how = Path(sys.argv[1]), sys.argv[2]
    ledger = Ledger(path, 1e6, 10**6, time.time)
    ledger.start()
    def add(first, last):
        for n in range(first, last):
            subject = f"10.{n >> 16}.{n >> 8 & 255}.{n & 255}"
            ledger.decision(Decision(f"d{n}", "ban", subject, 1.0, 2e9, "rule", None))
    add(0, 10)
    assert ledger.wait_written(10)
    ballast = path.with_name("ballast")
    if how == "limit":
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, resource.RLIM_INFINITY))
    else:
        try:
            ballast.write_bytes(bytes(100 << 20))
        except OSError:
            print("disk full")
    slowest = 0.0
    for n in range(10, 20_000):
        begun = time.perf_counter()
        add(n, n + 1)
        slowest = max(slowest, time.perf_counter() - begun)
    deadline = time.monotonic() + 10
    while ledger.trouble() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    print(ledger.trouble())
    if how == "limit":
        resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    else:
        ballast.unlink()
    assert ledger.wait_written(30), ledger.trouble()
    assert ledger.trouble() is None
    assert ledger.close(10)
    print("active", len(load(path, 10.0, 1e9).active), ledger.lost())
"""


def run_full_disk(command: list[str]) -> str:
    done = subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_a_disk_that_takes_no_more_is_survived(tmp_path: Path) -> None:
    script = textwrap.dedent(FULL_DISK)
    output = run_full_disk([sys.executable, "-c", script, str(tmp_path / "ledger.db"), "limit"])
    assert "the ledger cannot be written since" in output
    assert "active 20000 {'decisions': 0" in output


@pytest.mark.root
def test_a_full_file_system_is_survived(tmp_path: Path) -> None:
    probe = subprocess.run(["unshare", "-rm", "true"], capture_output=True, check=False)
    if probe.returncode != 0:
        pytest.skip("no user namespace and no root: a small file system cannot be mounted here")
    script = tmp_path / "full_disk.py"
    script.write_text(textwrap.dedent(FULL_DISK))
    mounted = tmp_path / "small"
    mounted.mkdir()
    mount = (
        f"mount -t tmpfs -o size=30m tocsin-test {mounted} && exec {sys.executable} {script} {mounted}/ledger.db fill"
    )
    output = run_full_disk(["unshare", "-rm", "sh", "-c", mount])
    assert "disk full" in output
    assert f"free space on the file system of {mounted}" in output or "space left" in output
    assert "active 20000 {'decisions': 0" in output
