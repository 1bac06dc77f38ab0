"""Classes of requests in the ledger: kept whole, taken up again while their leases run, older files taken up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ledger_rows import DAY_S, NOW_TS, finding
from msgspec.structs import replace

from tocsin.ledger.load import load
from tocsin.ledger.reader import Reader
from tocsin.ledger.schema import first_tables, services_of_bans
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Finding, Signature

CLASS = Signature("POST", "/a*/x.php", 'q="ü"', "shop.example", "Evil\udcff \\ $1 %{x}")
SPELT_OUT = replace(CLASS, user_agent="Evil\\udcff \\ $1 %{x}")
SPARE = ("192.0.2.7", "2001:db8:1:2::/64")


def denial(number: int, held: str | None = None) -> Decision:
    end_ts = NOW_TS + 600
    return Decision(
        f"d{number}", "deny-request", "", NOW_TS, end_ts, "contrast", "f1", held=held, signature=CLASS, spare=SPARE
    )


def lifted(number: int) -> Decision:
    return Decision(f"l{number}", "lift", "", NOW_TS + 1, None, "", None, lifts=f"d{number}", signature=CLASS)


def write(path: Path, *rows: Decision | Finding) -> None:
    ledger = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    ledger.start()
    for row in rows:
        if isinstance(row, Finding):
            ledger.finding(row)
        else:
            ledger.decision(row)
    assert ledger.close(10)


def test_a_class_is_kept_whole(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    found = Finding("f1", "contrast", "", NOW_TS, 900, 60.0, note="30 times its normal", signature=CLASS)
    write(path, found, finding("f2"), denial(1), lifted(1))
    with Reader(path) as reader:
        assert reader.findings() == [finding("f2"), replace(found, signature=SPELT_OUT)]
        kept = [replace(each, signature=SPELT_OUT) for each in (lifted(1), denial(1))]
        assert reader.decisions() == kept
        assert reader.bans(NOW_TS) == []


def test_a_denial_whose_lease_runs_is_taken_up_again(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, denial(1), lifted(1), denial(2), denial(3, held="observing"))
    assert load(path, NOW_TS + 2, DAY_S).denials == [replace(denial(2), signature=SPELT_OUT)]
    assert load(path, NOW_TS + 600, DAY_S).denials == []


def test_an_older_file_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_ts REAL NOT NULL)")
        for migration in (first_tables, services_of_bans):
            migration(connection)
            connection.execute("INSERT INTO migration VALUES (?, 1.0)", (migration.__name__,))
        connection.execute("INSERT INTO finding VALUES ('192.0.2.7', 'f1', 'xmlrpc', 1.0, 3, 600.0, NULL, NULL)")
        connection.commit()
    write(path, denial(1))
    with Reader(path) as reader:
        assert [each.signature for each in reader.findings()] == [None]
        assert [each.spare for each in reader.decisions()] == [SPARE]
