"""Bans of single services in the ledger: a row for each target, one history of the subject, older files taken up."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from ledger_rows import DAY_S, NOW_TS, ban, lift
from msgspec.structs import replace

from tocsin.ledger.load import bans_by_rule, load
from tocsin.ledger.reader import Reader
from tocsin.ledger.schema import first_tables
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Receipt

A, NET6 = "192.0.2.7", "2001:db8:1:2::/64"
SSH, WEB = "tcp/22", "tcp/80,tcp/443"


def closed(decision: Decision, services: str) -> Decision:
    """The same of these services."""
    return replace(decision, id=f"{decision.id} {services}", services=services)


def write(path: Path, *decisions: Decision, receipts: tuple[Receipt, ...] = (), counters: tuple[str, ...] = ()) -> None:
    ledger = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    ledger.start()
    for decision in decisions:
        ledger.decision(decision)
    ledger.receipts(receipts)
    ledger.counters([(target, 10, 600) for target in counters])
    assert ledger.close(10)


def test_each_target_has_its_ban_and_an_address_finds_all(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    made = [closed(ban(A), SSH), closed(ban(A), WEB), ban("192.0.2.70"), closed(ban(NET6), SSH), ban(A, NOW_TS - 9000)]
    answers = tuple(Receipt("ban", each.target, each.id, True, NOW_TS) for each in made)
    write(path, *made, receipts=answers, counters=(f"{A} {WEB}", f"{NET6} {SSH}"))
    with Reader(path) as reader:
        story = reader.why(A, NOW_TS + 1)
        assert [(each.subject, each.services, each.packets) for each in story.bans] == [(A, SSH, 0), (A, WEB, 10)]
        assert {past.decision.services: (past.packets, past.answers[0].ok) for past in story.past} == {
            SSH: (0, True),
            WEB: (10, True),
            "": (0, True),
        }
        (six,) = reader.why("2001:db8:1:2::5", NOW_TS + 1).bans
        assert (six.subject, six.services, six.target, six.packets) == (NET6, SSH, f"{NET6} {SSH}", 10)
        assert {each.target for each in reader.bans(NOW_TS + 1)} == {
            f"{A} {SSH}",
            f"{A} {WEB}",
            "192.0.2.70",
            six.target,
        }
    loaded = load(path, NOW_TS + 1, DAY_S)
    assert set(loaded.active) == {f"{A} {SSH}", f"{A} {WEB}", "192.0.2.70", f"{NET6} {SSH}"}
    rows = sorted(bans_by_rule(path, NOW_TS + 1))
    assert [subject for _, subject, _ in rows] == ["192.0.2.7", "192.0.2.7", "192.0.2.70", NET6]


def test_a_ban_that_is_replaced_leaves_what_it_stopped_to_its_decision(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    write(path, closed(ban(A), SSH), counters=(f"{A} {SSH}",))
    write(path, closed(ban(A, NOW_TS + 100), SSH))
    with Reader(path) as reader:
        newer, older = reader.why(A, NOW_TS + 101).past
    assert (newer.packets, older.packets) == (0, 10)


def test_the_subjects_bans_are_counted_over_its_targets(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    later = NOW_TS + 10_000
    write(path, closed(ban(A), SSH), closed(ban(A, NOW_TS + 1), WEB), closed(ban(A, later), WEB), ban(A, later + 1))
    assert times(path) == {f"{A} {SSH}": 1, f"{A} {WEB}": 2, A: 2}
    write(path, replace(lift(A, later + 5), services=WEB), lift(A, later + 6))
    assert max(times(path).values()) == 1
    write(path, ban(A, later + 5000))
    assert times(path)[A] == 2


def times(path: Path) -> dict[str, int]:
    with closing(sqlite3.connect(path)) as connection:
        return dict(connection.execute("SELECT subject, times FROM ban"))


def test_a_file_of_the_first_release_is_taken_up(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    with closing(sqlite3.connect(path)) as connection:
        first_tables(connection)
        connection.execute("CREATE TABLE migration (name TEXT PRIMARY KEY, applied_ts REAL NOT NULL)")
        connection.execute("INSERT INTO migration VALUES ('first_tables', 1.0)")
        row = ("d1", "xmlrpc", "rule", NOW_TS, NOW_TS + 600, 1)
        connection.execute(
            "INSERT INTO ban (subject, decision, rule, origin, start_ts, end_ts, times) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (A, *row),
        )
        connection.execute(
            "INSERT INTO decision (subject, id, action, start_ts, end_ts, rule, origin, note)"
            " VALUES (?, 'd1', 'ban', ?, ?, 'xmlrpc', 'rule', '')",
            (A, NOW_TS, NOW_TS + 600),
        )
        connection.commit()
    assert load(path, NOW_TS + 1, DAY_S).active == {A: NOW_TS + 600}
    write(path, closed(ban(A, NOW_TS + 1), SSH), counters=(A,))
    with Reader(path) as reader:
        story = reader.why(A, NOW_TS + 2)
    assert [each.services for each in story.bans] == ["", SSH]
    assert [past.decision.services for past in story.past] == [SSH, ""]
    assert times(path) == {A: 1, f"{A} {SSH}": 1}
