"""`tocsin fail2ban import` without a guard: what it says, the record by which it is undone, and what may go wrong."""

from __future__ import annotations

import fcntl
import json
import os
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fail2ban_files import of_version_2, written_by_fail2ban

from tocsin.cli.main import main
from tocsin.fail2ban.moving.presence import presence, seen_running

Capture = pytest.CaptureFixture[str]
COUNT = 30


class Moving:
    """A folder with a database of fail2ban, its configuration, and ours."""

    def __init__(self, folder: Path, capture: Capture) -> None:
        self.folder = folder
        self.capture = capture
        self.state = folder / "state"
        self.config = folder / "tocsin.toml"
        self.config.write_text(
            f'[guard]\nstate_dir = "{self.state}"\nrun_dir = "{folder}/run"\nuser = "nobody"\n'
            "[allow]\nown = false\nssh = false\n"  # whatever the addresses of the machine that runs the test
        )
        self.fail2ban = folder / "fail2ban"
        self.fail2ban.mkdir()
        (self.fail2ban / "fail2ban.conf").write_text(
            f"[Definition]\ndbfile = {folder}/db.sqlite3\nsocket = {folder}/f.sock\npidfile = {folder}/f.pid\n"
        )
        (self.fail2ban / "jail.conf").write_text(
            "[sshd]\nenabled = true\nbantime = 2h\nfailregex = ^<HOST>$\nfilter =\n"
        )
        self.now = int(time.time())
        written_by_fail2ban(
            folder / "db.sqlite3",
            [
                *(("sshd", f"192.0.2.{i}", self.now - 60, 3600, 2) for i in range(COUNT)),
                ("sshd", "198.51.100.1", self.now - 9999, 600, 4),
                ("sshd", "127.0.0.1", self.now - 60, 3600, 1),
                ("sshd", "\x1b[2J", self.now - 60, 3600, 1),
            ],
        )

    def run(self, *words: str, code: int = 0) -> tuple[str, str]:
        """Run `tocsin fail2ban import WORDS`."""
        where = [] if "--undo" in words else ["--fail2ban", str(self.fail2ban)]
        ended = main(["fail2ban", "import", *words, *where, "--config", str(self.config)])
        said = self.capture.readouterr()
        assert ended == code, said
        return said.out, said.err

    def bans(self) -> list[dict[str, Any]]:
        """What `tocsin bans` lists."""
        main(["bans", "--json", "--config", str(self.config)])
        return [json.loads(line)["ban"] for line in self.capture.readouterr().out.splitlines()]

    def record(self) -> Path:
        """The newest record."""
        return max(self.state.glob("fail2ban-import.*.jsonl"))


@pytest.fixture
def moving(capsys: Capture) -> Iterator[Moving]:
    with tempfile.TemporaryDirectory(prefix="tocsin-") as folder:
        Path(folder).chmod(0o755)  # guard's user, as which root writes the ledger, must get there
        yield Moving(Path(folder), capsys)


def test_a_dry_run_says_all_and_changes_nothing(moving: Moving) -> None:
    out, err = moving.run("--dry-run")
    assert f"Would take {COUNT} bans in force, and the earlier bans of 1 more address" in out
    assert "not taken: 1: safe: 127.0.0.0/8: this machine itself (127.0.0.1)" in out
    assert "not taken: 1: jail sshd bans what is no address (\\x1b[2J)" in out
    assert "Nothing was changed" in out
    assert not err
    assert not moving.state.exists()


def test_bans_and_numbers_are_taken_and_taken_back(moving: Moving) -> None:
    out, _ = moving.run("--json")
    rows = [json.loads(line) for line in out.splitlines()]
    assert rows[-1]["summary"] == {
        "database": str(moving.folder / "db.sqlite3"),
        "version": 4,
        "into": "ledger",
        "dry_run": False,
        "bans": COUNT,
        "earlier": 1,
        "left": {"safe: 127.0.0.0/8: this machine itself": 1, "jail sshd bans what is no address": 1},
        "fail2ban_running": False,
    }
    assert len([row for row in rows if "taken" in row]) == COUNT + 1
    bans = moving.bans()
    assert {(ban["rule"], ban["origin"], ban["times"]) for ban in bans} == {("sshd", "import", 2)}
    assert {round(ban["end_ts"]) for ban in bans} == {moving.now + 3540}
    if os.geteuid() == 0:  # guard's user can write what root has made
        assert {each.stat().st_uid for each in (moving.state, *moving.state.iterdir())} == {65534}
    # once more: nothing is new, so there is nothing more to take back
    assert "Took 0 bans" in moving.run()[0]
    out, _ = moving.run("--undo")
    assert f"{COUNT} bans ended." in out
    assert moving.bans() == []
    _, err = moving.run("--undo", code=66)
    assert "there is no import to undo" in err


def test_an_undoing_that_was_ended_goes_on(moving: Moving) -> None:
    """The record is cut as it is undone, and the torn line that a crash leaves is no line."""
    moving.run()
    with moving.record().open("ab") as file:
        file.write(b'["192.0.2.1","ss')
    lines = moving.record().read_bytes().splitlines(keepends=True)
    moving.record().write_bytes(b"".join(lines[:11]) + b'["192.0.2.1","ss')
    assert "10 bans ended" in moving.run("--undo")[0]
    assert len(moving.bans()) == COUNT - 10


def test_a_damaged_record_is_said(moving: Moving) -> None:
    moving.run()
    moving.record().write_bytes(moving.record().read_bytes().replace(b'"192.0.2.1",', b"192.0.2.1,"))
    _, err = moving.run("--undo", code=65)
    assert "is damaged" in err
    moving.record().write_bytes(b"")
    assert "is damaged" in moving.run("--undo", code=65)[1]


def test_no_guard_starts_meanwhile_and_one_that_does_not_answer_is_not_passed_by(moving: Moving) -> None:
    run_dir = moving.folder / "run"
    run_dir.mkdir()
    with (run_dir / "guard.lock").open("a+") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        _, err = moving.run(code=69)
    assert "no guard is running" in err or "does not answer" in err
    assert not (moving.state / "ledger.db").exists()


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["--undo", "--dry-run"], 64, "--undo needs neither"),
        (["--undo"], 66, "there is no import to undo"),
        (["--database", "/nonexistent/db.sqlite3"], 66, "there is no fail2ban database at /nonexistent"),
    ],
)
def test_mistakes(moving: Moving, words: list[str], code: int, said: str) -> None:
    assert said in moving.run(*words, code=code)[1]
    assert not moving.state.exists()


def test_a_fail2ban_without_a_database(moving: Moving) -> None:
    (moving.fail2ban / "fail2ban.conf").write_text("[Definition]\ndbfile = None\n")
    assert "keeps no database" in moving.run(code=66)[1]


def test_older_databases_take_the_length_from_the_jail(moving: Moving) -> None:
    old = of_version_2(moving.folder / "old.sqlite3", [("sshd", "192.0.2.9", moving.now - 60)])
    moving.run("--database", str(old))
    (ban,) = moving.bans()
    assert round(ban["end_ts"]) == moving.now - 60 + 7200


def test_where_fail2ban_is_and_whether_it_runs(tmp_path: Path) -> None:
    absent = presence(tmp_path)
    assert absent.trouble
    assert str(absent.database) == "/var/lib/fail2ban/fail2ban.sqlite3"
    pidfile = tmp_path / "pid"
    for text in ("", "x", "0", str(os.getpid())):  # nobody, or somebody else who has its number
        pidfile.write_text(text)
        assert seen_running(tmp_path / "none.sock", pidfile) == ""
