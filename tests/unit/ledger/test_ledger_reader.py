"""Looking into the ledger: finds prefixes that hold an address, works beside a writer and without one."""

from __future__ import annotations

import shutil
import sqlite3
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from ledger_rows import DAY_S, NOW_TS, ban, finding, lift

from tocsin.ledger.load import load
from tocsin.ledger.reader import LedgerError, Reader
from tocsin.ledger.schema import MIGRATIONS, SchemaError, first_tables, migrate, open_writer
from tocsin.ledger.store import Ledger
from tocsin.ledger.writer import pack_evidence, unpack_evidence
from tocsin.model import Evidence, Receipt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A ledger with a few rows, closed."""
    path = tmp_path / "ledger.db"
    ledger = Ledger(path, 90 * DAY_S, 1000, lambda: NOW_TS)
    ledger.start()
    ledger.finding(finding("f1"))
    ledger.decision(ban("192.0.2.7"))
    ledger.decision(ban("198.51.100.0/24", seconds=None))
    ledger.decision(ban("2001:db8:1:2::/64", NOW_TS + 1))
    ledger.decision(ban("203.0.113.9", NOW_TS - 5000))
    ledger.decision(ban("10.0.0.1", held="allowed: lan"))
    ledger.decision(lift("203.0.113.9", NOW_TS - 4900))
    ledger.receipts(
        [
            Receipt("ban", "192.0.2.7", ban("192.0.2.7").id, ok, NOW_TS + n, "" if ok else "no such set")
            for n, ok in enumerate((False, True, True))
        ]
    )
    ledger.checkpoint(b"state", [], 7)
    assert ledger.close(10)
    return path


@pytest.mark.parametrize(
    ("asked", "banned"),
    [
        ("192.0.2.7", ["192.0.2.7"]),
        ("::ffff:192.0.2.7", ["192.0.2.7"]),
        ("192.0.2.8", []),
        ("198.51.100.77", ["198.51.100.0/24"]),
        ("198.51.100.0/25", ["198.51.100.0/24"]),
        ("198.51.0.0/16", []),
        ("2001:db8:1:2:3:4:5:6", ["2001:db8:1:2::/64"]),
        ("2001:DB8:1:2::1", ["2001:db8:1:2::/64"]),
        ("2001:db8:1:3::1", []),
        ("203.0.113.9", []),
        ("10.0.0.1", []),
    ],
)
def test_an_address_is_found_in_the_prefix_that_holds_it(path: Path, asked: str, banned: list[str]) -> None:
    with Reader(path) as reader:
        assert [b.subject for b in reader.why(asked, NOW_TS + 2).bans] == banned


def test_why_walks_from_the_address_to_the_lines(path: Path) -> None:
    with Reader(path) as reader:
        why = reader.why("192.0.2.7", NOW_TS + 2)
    (past,) = why.past
    assert past.finding is not None
    assert [line.text for line in past.finding.evidence] == [f"POST /xmlrpc.php {n}" for n in (1, 2, 3)]
    (answer,) = past.answers
    assert (answer.ok, answer.times, answer.first_ts, answer.ts, answer.error) == (True, 3, NOW_TS, NOW_TS + 2, "")


def test_history_tells_of_lifts_and_of_what_was_held_back(path: Path) -> None:
    with Reader(path) as reader:
        assert [past.decision.action for past in reader.why("203.0.113.9", NOW_TS).past] == ["lift", "ban"]
        assert [past.decision.held for past in reader.why("10.0.0.1", NOW_TS).past] == ["allowed: lan"]


def test_lists_and_figures(path: Path) -> None:
    with Reader(path) as reader:
        in_force = [b.subject for b in reader.bans(NOW_TS + 2)]
        assert in_force == ["2001:db8:1:2::/64", "192.0.2.7", "198.51.100.0/24"]
        assert [d.action for d in reader.decisions(1)] == ["lift"]
        figures = reader.summary(NOW_TS + 2)
    assert (figures.active, figures.for_good, figures.remembered) == (3, 1, 4)
    assert (figures.decisions, figures.findings, figures.lines_total) == (6, 1, 7)
    assert figures.saved_ts == NOW_TS
    assert figures.file_bytes > 4096


def test_reads_while_a_guard_writes(path: Path) -> None:
    ledger = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    ledger.start()
    seen = []
    with Reader(path) as reader:
        for number in range(15):
            ledger.decision(ban(f"100.64.0.{number}"))
            assert ledger.wait_written(10)
            seen.append(reader.summary(NOW_TS + 2).active)
    assert seen == list(range(4, 19))
    assert ledger.close(10)


def test_what_is_asked_must_be_an_address(path: Path) -> None:
    with Reader(path) as reader, pytest.raises(ValueError, match="expected an address or prefix"):
        reader.why("'; DROP TABLE ban; --", NOW_TS)


def test_a_missing_ledger_says_what_to_do(tmp_path: Path) -> None:
    with pytest.raises(LedgerError, match="no guard has run here yet") as caught:
        Reader(tmp_path / "ledger.db")
    assert caught.value.code == 66
    assert not (tmp_path / "ledger.db").exists()


def test_no_database_is_said_and_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    path.write_text("something else\n" * 1000)
    with pytest.raises(LedgerError, match="not a database"):
        Reader(path)
    assert path.read_text().startswith("something else")


def test_a_newer_ledger_is_left_alone(path: Path) -> None:
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("INSERT INTO migration VALUES ('from_the_future', 0)")
    connection.close()
    with pytest.raises(LedgerError, match="another version"):
        Reader(path)
    loaded = load(path, NOW_TS, DAY_S)
    assert "newer tocsin" in str(loaded.trouble)
    with pytest.raises(SchemaError):
        open_writer(path, NOW_TS)


def test_a_user_who_may_only_read_can_look(path: Path) -> None:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        copy = Path(folder) / path.name
        shutil.copy(path, copy)
        copy.chmod(0o444)
        Path(folder).chmod(0o555)  # for who is not root and cannot become somebody else
        script = (
            "import os, sys; from pathlib import Path; from tocsin.ledger.reader import Reader;"
            "os.geteuid() or (os.setgid(65534), os.setuid(65534)); reader = Reader(Path(sys.argv[1]));"
            "print(len(reader.bans(float(sys.argv[2])))); reader.close()"
        )
        command = [sys.executable, "-c", script, str(copy), str(NOW_TS)]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        Path(folder).chmod(0o755)
    assert done.stdout == "3\n", done.stderr


# -- loading ---------------------------------------------------------------------------------------------------------


def test_the_first_start_finds_nothing(tmp_path: Path) -> None:
    loaded = load(tmp_path / "ledger.db", NOW_TS, DAY_S)
    assert (loaded.state, loaded.checkpoints, loaded.active, loaded.lines_total) == (None, [], {}, 0)
    assert loaded.trouble is None
    assert list(loaded.history) == []
    assert not (tmp_path / "ledger.db").exists()


def test_history_is_what_is_remembered_newest_kept(path: Path) -> None:
    assert [row[0] for row in load(path, NOW_TS + 2, DAY_S).history] == [
        "203.0.113.9", "192.0.2.7", "2001:db8:1:2::/64", "198.51.100.0/24",
    ]  # fmt: skip
    assert next(row[0] for row in load(path, NOW_TS + 2, 4000.0).history) == "192.0.2.7"
    assert [row[0] for row in load(path, NOW_TS + 2, DAY_S, 1).history] == ["2001:db8:1:2::/64", "198.51.100.0/24"]


def test_what_can_be_read_of_a_damaged_file_is_taken(path: Path) -> None:
    with path.open("r+b") as file:
        file.seek(0)
        file.write(b"\0" * 100)
    loaded = load(path, NOW_TS, DAY_S)
    assert "moved to" in str(loaded.trouble)
    assert loaded.active == {}
    assert [p.name for p in path.parent.iterdir() if "corrupt" in p.name] == ["ledger.db.corrupt-1700000000"]
    assert load(path, NOW_TS, DAY_S).trouble is None, "the next start begins anew"


def test_migrations_are_recorded_once(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    for _ in range(2):
        connection = open_writer(path, NOW_TS)
        migrate(connection, NOW_TS + 1)
        rows = connection.execute("SELECT name, applied_ts FROM migration").fetchall()
        connection.close()
        assert rows == [(migration.__name__, NOW_TS) for migration in MIGRATIONS]


def test_a_migration_that_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    connection = sqlite3.connect(tmp_path / "ledger.db", isolation_level=None)
    connection.execute("CREATE TABLE ban (in_the_way)")
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        migrate(connection, NOW_TS)
    assert connection.execute("SELECT name FROM sqlite_master").fetchall() == [("ban",)]
    connection.execute("DROP TABLE ban")
    migrate(connection, NOW_TS)
    assert first_tables.__name__ in [row[0] for row in connection.execute("SELECT name FROM migration")]
    connection.close()


@pytest.mark.parametrize("lines", [0, 1, 10])
def test_evidence_survives_packing(lines: int) -> None:
    evidence = tuple(Evidence("/var/log/a", n, n * 1000, 'x" \\x00\x1b[2J ' * 70) for n in range(lines))
    packed = pack_evidence(evidence)
    assert unpack_evidence(packed) == evidence
    assert packed is None or len(packed) < 1200, "lines that are alike cost little"
