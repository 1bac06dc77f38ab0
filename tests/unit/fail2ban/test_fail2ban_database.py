"""fail2ban's database: every version of its schema, what is left out and why, and files that cannot be read."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path

import pytest
from fail2ban_files import PYTHON, of_version_2, written_by_fail2ban

from tocsin.fail2ban.moving.database import PORTION_ROWS, Database, DatabaseError, Known

NOW = 1_700_000_000.0
HOUR = 3600


def ago(seconds: float) -> int:
    return int(NOW - seconds)


def known(database: Database) -> dict[str, Known]:
    rows = list(database.known(NOW))
    assert len({row.address for row in rows}) == len(rows)
    return {row.address: row for row in rows}


def left_out(database: Database) -> dict[str, tuple[int, list[str]]]:
    return {reason: (left.rows, left.examples) for reason, left in database.left_out.items()}


def test_the_installed_version(tmp_path: Path) -> None:
    path = written_by_fail2ban(
        tmp_path / "db.sqlite3",
        [
            ("sshd", "192.0.2.1", ago(2 * HOUR), 600, 1),
            ("sshd", "192.0.2.1", ago(60), 1200, 2),  # came back: one row in `bips`, two in `bans`
            ("sshd", "192.0.2.2", ago(HOUR), 600, 7),  # ended
            ("web", "192.0.2.3", ago(HOUR), -1, 1),  # for good
            ("sshd", "192.0.2.4", ago(10), 600, 1),
            ("web", "192.0.2.4", ago(100), 86400.5, 4),  # two jails: what ends last counts
            ("sshd", "2001:db8::7", ago(10), 600, 1),
            ("web", "198.51.100.0/24", ago(10), 600, 1),
            ("web", "bob", ago(10), 600, 1),
            ("web", "beef.cafe", ago(10), 600, 1),
        ],
    )
    with Database(path) as database:
        assert database.version == 4
        found = known(database)
        assert found == {
            "192.0.2.1": Known("192.0.2.1", "sshd", ago(60), ago(60) + 1200, 2, True, ("sshd",), (("sshd", 2),)),
            "192.0.2.2": Known("192.0.2.2", "sshd", ago(HOUR), ago(HOUR) + 600, 7, False, (), (("sshd", 7),)),
            "192.0.2.3": Known("192.0.2.3", "web", ago(HOUR), None, 1, True, ("web",), (("web", 1),)),
            "192.0.2.4": Known(
                "192.0.2.4", "web", ago(100), ago(100) + 86400.5, 5, True, ("sshd", "web"), (("sshd", 1), ("web", 4))
            ),
            "198.51.100.0/24": Known(
                "198.51.100.0/24", "web", ago(10), ago(10) + 600, 1, True, ("web",), (("web", 1),)
            ),
            "2001:db8::7": Known("2001:db8::7", "sshd", ago(10), ago(10) + 600, 1, True, ("sshd",), (("sshd", 1),)),
        }
        assert left_out(database) == {"jail web bans what is no address": (2, ["bob", "beef.cafe"])}


def test_jails_that_do_not_run_ban_nobody(tmp_path: Path) -> None:
    rows = [("sshd", "192.0.2.1", ago(60), 600, 1), ("old", "192.0.2.2", ago(60), -1, 3)]
    with Database(written_by_fail2ban(tmp_path / "db.sqlite3", rows, ended=["old"])) as database:
        found = known(database)
        assert found["192.0.2.1"].in_force
        assert found["192.0.2.2"] == Known("192.0.2.2", "old", ago(60), NOW, 3, False, (), (("old", 3),))
        said = "jail old is not running in fail2ban: what it banned is not in force"
        assert left_out(database) == {said: (1, ["192.0.2.2"])}


def test_a_clean_end_of_fail2ban_leaves_the_configuration_to_tell_which_jails_run(tmp_path: Path) -> None:
    rows = [("sshd", "192.0.2.1", ago(60), 600, 1), ("old", "192.0.2.2", ago(60), 600, 1)]
    path = written_by_fail2ban(tmp_path / "db.sqlite3", rows, ended=["old", "sshd"])
    with Database(path, running=frozenset({"sshd"})) as database:
        assert [row.address for row in database.known(NOW) if row.in_force] == ["192.0.2.1"]
        assert list(left_out(database)) == [
            "jail old is not enabled in fail2ban's configuration: what it banned is not in force"
        ]
    with Database(path) as database:
        assert [row.address for row in database.known(NOW) if row.in_force] == ["192.0.2.1", "192.0.2.2"]


@pytest.mark.parametrize("version", [1, 2])
def test_older_versions_do_not_tell_how_long(tmp_path: Path, version: int) -> None:
    rows = [
        ("sshd", "192.0.2.1", ago(5000)),
        ("sshd", "192.0.2.1", ago(3000)),
        ("sshd", "192.0.2.1", ago(1000)),
        ("web", "192.0.2.2", ago(1000)),
        ("api", "192.0.2.3", ago(500)),
        ("api", "192.0.2.4", ago(700)),
    ]
    path = of_version_2(tmp_path / "db.sqlite3", rows, version)
    with Database(path, bantimes_s={"sshd": 3600.0, "web": None}) as database:
        assert database.version == version
        found = known(database)
    assert found["192.0.2.1"] == Known(
        "192.0.2.1", "sshd", ago(1000), ago(1000) + 3600, 3, True, ("sshd",), (("sshd", 3),)
    )
    assert found["192.0.2.2"].end_ts is None
    assert found["192.0.2.3"] == Known("192.0.2.3", "api", ago(500), ago(500) + 600, 1, True, ("api",), (("api", 1),))
    assert not found["192.0.2.4"].in_force


def test_what_fail2ban_has_brought_up_to_date_is_read_alike(tmp_path: Path) -> None:
    path = of_version_2(tmp_path / "db.sqlite3", [("sshd", "192.0.2.1", ago(1000)), ("sshd", "192.0.2.2", ago(9000))])
    upgrade = "import sys; from fail2ban.server.database import Fail2BanDb; Fail2BanDb(sys.argv[1]).close()"
    subprocess.run([PYTHON, "-c", upgrade, path], check=True, capture_output=True)
    with Database(path, bantimes_s={"sshd": 3600.0}) as database:
        assert database.version == 4
        found = known(database)
    assert found["192.0.2.1"] == Known(
        "192.0.2.1", "sshd", ago(1000), ago(1000) + 3600, 1, True, ("sshd",), (("sshd", 1),)
    )
    assert not found["192.0.2.2"].in_force


def test_rows_that_make_no_sense_are_counted(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    strange: list[tuple[object, ...]] = [
        ("192.0.2.1", "sshd", "yesterday", 600, 1),
        ("192.0.2.2", "sshd", ago(10), "long", 1),
        ("192.0.2.3", "sshd", ago(10), 600, "often"),
        ("192.0.2.4", "sshd", float("inf"), 600, 1),
        ("192.0.2.5", "sshd", -5, 600, 1),
        ("192.0.2.6", "sshd", int(NOW) + 90_000, 600, 1),  # the clock was set back: counts as now
        ("192.0.2.7", "sshd", ago(10), 1e300, 0),  # longer than anybody lives: for good; the count at least 1
        (b"192.0.2.8", "sshd", ago(10), 600, 1),
        (b"\xff\xfe", "sshd", ago(10), 600, 1),
        ("", "sshd", ago(10), 600, 1),
        ("::g", "sshd", ago(10), 600, 1),
        ("1.2.3", "sshd", ago(10), 600, 1),
        ("192.0.2.300", "sshd", ago(10), 600, 1),
        ("192.0.2.1/99", "sshd", ago(10), 600, 1),
    ]
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(
            "INSERT INTO bips (ip, jail, timeofban, bantime, bancount) VALUES (?, ?, ?, ?, ?)", strange
        )
    with Database(path) as opened:
        found = known(opened)
        reasons = {reason: rows for reason, (rows, _) in left_out(opened).items()}
    assert set(found) == {"192.0.2.6", "192.0.2.7", "192.0.2.9"}
    assert found["192.0.2.6"].end_ts == NOW + 600
    assert found["192.0.2.7"].end_ts is None
    assert found["192.0.2.7"].times == 1
    assert reasons == {
        "jail sshd has rows without a time that makes sense": 5,
        "jail sshd bans what is no address": 7,
    }


def test_more_rows_than_a_portion_are_all_read_once(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    wanted = {f"10.{i >> 16}.{i >> 8 & 255}.{i & 255}" for i in range(2 * PORTION_ROWS + 17)}
    with closing(sqlite3.connect(path)) as database, database:
        database.executemany(
            "INSERT INTO bips (ip, jail, timeofban, bantime, bancount) VALUES (?, ?, ?, 600, 1)",
            [(ip, jail, ago(10)) for ip in sorted(wanted) for jail in ("sshd", "web")],
        )
    with Database(path) as opened:
        found = known(opened)
    assert set(found) == wanted | {"192.0.2.9"}
    assert all(row.times == 2 for row in found.values() if row.address != "192.0.2.9")


def test_fail2ban_may_write_while_we_read(tmp_path: Path) -> None:
    """No lock outlasts a portion, and a row that comes meanwhile does no harm."""
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    with closing(sqlite3.connect(path)) as writer:
        with writer:
            writer.executemany(
                "INSERT INTO bips (ip, jail, timeofban, bantime) VALUES (?, 'sshd', ?, 600)",
                [(f"10.0.{i >> 8}.{i & 255}", ago(10)) for i in range(PORTION_ROWS + 10)],
            )
        with Database(path) as opened:
            rows = opened.known(NOW)
            first = next(rows)
            with writer:
                writer.execute("DELETE FROM bips WHERE ip = ?", (first.address,))
                writer.execute(
                    "INSERT INTO bips (ip, jail, timeofban, bantime) VALUES ('9.9.9.9', 'sshd', ?, 600)", (ago(1),)
                )
            assert len(list(rows)) == PORTION_ROWS + 11


def test_a_write_ahead_log_is_read_too(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    with closing(sqlite3.connect(path)) as writer:
        writer.execute("PRAGMA journal_mode = WAL")
        with writer:
            writer.execute(
                "INSERT INTO bips (ip, jail, timeofban, bantime) VALUES ('192.0.2.1', 'sshd', ?, 600)", (ago(1),)
            )
        assert (tmp_path / "db.sqlite3-wal").stat().st_size
        with Database(path) as opened:
            assert set(known(opened)) == {"192.0.2.1", "192.0.2.9"}


def test_nothing_is_written(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    before = path.read_bytes()
    with Database(path) as opened:
        assert known(opened)
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            opened._connection.execute("DELETE FROM bips")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir()] == ["db.sqlite3"]


def test_a_locked_file(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    held, let_go = threading.Event(), threading.Event()

    def hold() -> None:
        with closing(sqlite3.connect(path, isolation_level=None)) as other:
            other.execute("BEGIN EXCLUSIVE")
            held.set()
            let_go.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert held.wait(10)
        with pytest.raises(DatabaseError, match=r"locked.*stop fail2ban first") as failed:
            Database(path, busy_within_s=0.05)
        assert failed.value.code == 69
    finally:
        let_go.set()
        thread.join()


def refused(path: Path) -> tuple[int, str]:
    with pytest.raises(DatabaseError) as failed, Database(path) as database:
        list(database.known(NOW))
    return failed.value.code, str(failed.value)


def test_files_that_are_none(tmp_path: Path) -> None:
    code, said = refused(tmp_path / "none.sqlite3")
    assert (code, "dbfile in fail2ban.conf" in said) == (66, True)
    code, said = refused(tmp_path)
    assert (code, "is no file" in said) == (66, True)
    text = tmp_path / "text"
    text.write_text("not a database, and longer than a header of SQLite's would be" * 20)
    code, said = refused(text)
    assert (code, "it is no SQLite database" in said) == (65, True)
    other = tmp_path / "other.sqlite3"
    with closing(sqlite3.connect(other)) as database, database:
        database.execute("CREATE TABLE something (x)")
    code, said = refused(other)
    assert (code, "not fail2ban's" in said) == (65, True)
    begun = of_version_2(tmp_path / "begun.sqlite3", [])
    with closing(sqlite3.connect(begun)) as database, database:
        database.execute("DELETE FROM fail2banDb")
    code, said = refused(begun)
    assert (code, "does not tell its version" in said) == (65, True)


def test_a_newer_version(tmp_path: Path) -> None:
    code, said = refused(of_version_2(tmp_path / "db.sqlite3", [], version=5))
    assert code == 65
    assert "has version 5, and this tocsin knows those up to 4" in said


def test_a_damaged_file(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", f"192.0.2.{i}", ago(10), 600, 1) for i in range(200)])
    with path.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        for page in range(4096 * 6, size, 4096):
            file.seek(page)
            file.write(b"\xff" * 2000)
    code, said = refused(path)
    assert code == 65
    assert ".recover" in said


def test_what_may_not_be_read(tmp_path: Path) -> None:
    path = written_by_fail2ban(tmp_path / "db.sqlite3", [("sshd", "192.0.2.9", ago(10), 600, 1)])
    path.chmod(0)
    tmp_path.chmod(0o755)
    code = (
        "import os, sys; from pathlib import Path\n"
        "from tocsin.fail2ban.moving.database import Database, DatabaseError\n"
        "os.getuid() or os.setuid(65534)\n"
        "try: Database(Path(sys.argv[1]))\n"
        "except DatabaseError as error: print(error.code, error)"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("77 ")
    assert "try again with sudo" in done.stdout
