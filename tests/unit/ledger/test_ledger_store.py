"""The ledger as the watcher uses it: what goes in comes out, bounded."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest
from ledger_rows import DAY_S, NOW_TS, ban, finding, lift, until

from tocsin.ledger import store
from tocsin.ledger.load import load
from tocsin.ledger.reader import Reader
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Receipt


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "ledger.db"


@pytest.fixture
def ledger(path: Path) -> Iterator[Ledger]:
    running = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    running.start()
    yield running
    running.close(10)


def test_everything_handed_over_is_read_back(ledger: Ledger, path: Path) -> None:
    ledger.finding(finding("f1"))
    ledger.decision(ban("192.0.2.7"))
    ledger.decision(ban("198.51.100.1", held="observing"))
    ledger.receipts([Receipt("ban", "192.0.2.7", ban("192.0.2.7").id, True, NOW_TS + 0.001, sockets_destroyed=2)])
    ledger.counters([("192.0.2.7", 10, 600)])
    ledger.checkpoint(b"engine", [b"one", Receipt("ban", "x", "y", True, 1.0)], 42)
    assert ledger.wait_written(10)
    assert ledger.trouble() is None

    loaded = load(path, NOW_TS + 1, DAY_S)
    assert (loaded.state, loaded.checkpoints[0], loaded.lines_total) == (b"engine", b"one", 42)
    assert loaded.active == {"192.0.2.7": NOW_TS + 600}, "held decisions are not in force"
    assert list(loaded.history) == [("192.0.2.7", 1, NOW_TS + 600)]
    with Reader(path) as reader:
        (past,) = reader.why("192.0.2.7", NOW_TS + 1).past
    assert past.finding == finding("f1")
    assert past.decision == ban("192.0.2.7")
    assert (past.packets, past.bytes) == (10, 600)
    assert [(a.ok, a.sockets_destroyed) for a in past.answers] == [(True, 2)]


def test_the_file_is_for_its_user_and_group_only(ledger: Ledger, path: Path) -> None:
    assert ledger.wait_written(10)
    until(path.exists)
    assert stat.S_IMODE(path.stat().st_mode) == 0o640


def test_reading_lines_again_changes_nothing(ledger: Ledger, path: Path) -> None:
    for _ in range(2):
        ledger.finding(finding("f1"))
        ledger.decision(ban("192.0.2.7"))
        assert ledger.wait_written(10)
    with Reader(path) as reader:
        assert [b.times for b in reader.bans(NOW_TS)] == [1]
        assert len(reader.findings()) == len(reader.decisions()) == 1


def test_bans_lifts_and_returns_make_the_history(ledger: Ledger, path: Path) -> None:
    first, prolonged = ban("192.0.2.7"), ban("192.0.2.7", NOW_TS + 500, 3600)
    again = ban("192.0.2.7", NOW_TS + 10_000, 600)
    for decision, expected in (
        (first, (1, NOW_TS + 600)),
        (prolonged, (1, NOW_TS + 4100)),  # it was in force: no further ban
        (again, (2, NOW_TS + 10_600)),
        (lift("192.0.2.7", NOW_TS + 10_100), (1, NOW_TS + 10_100)),  # a lifted ban does not count
        (ban("192.0.2.7", NOW_TS + 100 * DAY_S), (1, NOW_TS + 100 * DAY_S + 600)),  # long forgotten
    ):
        ledger.decision(decision)
        assert ledger.wait_written(10)
        ((_, times, end_ts),) = load(path, NOW_TS, 1000 * DAY_S).history
        assert (times, end_ts) == expected


def test_a_ban_for_good_is_in_force_until_lifted(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("2001:db8:1:2::/64", seconds=None))
    assert ledger.wait_written(10)
    loaded = load(path, NOW_TS + 1e9, DAY_S)
    assert loaded.active == {"2001:db8:1:2::/64": None}
    assert loaded.starts == {"2001:db8:1:2::/64": NOW_TS}
    assert list(loaded.history) == [("2001:db8:1:2::/64", 1, float("inf"))]
    ledger.decision(lift("2001:db8:1:2::/64", NOW_TS + 5))
    assert ledger.wait_written(10)
    assert load(path, NOW_TS + 6, DAY_S).active == {}


def test_counters_add_up_over_elements_that_were_made_anew(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("192.0.2.7"))
    for packets in (10, 25, 25, 4, 6):  # at the fourth the kernel's element is a new one
        ledger.counters([("192.0.2.7", packets, 100 * packets)])
        assert ledger.wait_written(10)
    with Reader(path) as reader:
        (in_force,) = reader.bans(NOW_TS)
    assert (in_force.packets, in_force.bytes) == (31, 3100)


def test_what_a_past_ban_stopped_stays_with_it(ledger: Ledger, path: Path) -> None:
    ledger.decision(ban("192.0.2.7"))
    ledger.counters([("192.0.2.7", 10, 1000)])
    assert ledger.wait_written(10)
    ledger.decision(ban("192.0.2.7", NOW_TS + 5000))
    assert ledger.wait_written(10)
    ledger.counters([("192.0.2.7", 12, 1200)])
    assert ledger.wait_written(10)
    with Reader(path) as reader:
        assert [past.packets for past in reader.why("192.0.2.7", NOW_TS).past] == [12, 10]


def test_a_checkpoint_is_never_ahead_of_what_was_handed_over_before_it(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(store, "PORTION_ROWS", 10)
    running = Ledger(path, DAY_S, 10_000, lambda: NOW_TS)
    for number in range(95):
        running.decision(ban(f"198.51.100.{number}"))
        running.checkpoint(b"%d" % (number + 1), [], number + 1)
    running.start()
    seen = set()

    def written() -> bool:
        if path.exists():
            loaded = load(path, NOW_TS, DAY_S)
            seen.add(loaded.lines_total)
            assert len(loaded.active) >= loaded.lines_total
        return running.wait_written(0.001)

    until(written)
    assert load(path, NOW_TS, DAY_S).lines_total == 95
    assert seen <= {0, 95}, "only the newest checkpoint is written"
    assert running.close(10)


def test_the_newest_checkpoint_wins(ledger: Ledger, path: Path) -> None:
    for number in range(100):
        ledger.checkpoint(b"%d" % number, [], number)
    assert ledger.wait_written(10)
    assert load(path, NOW_TS, DAY_S).state == b"99"


# -- bounds ----------------------------------------------------------------------------------------------------------


def test_the_file_is_bounded_by_age_and_rows(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "PORTION_ROWS", 100)
    monkeypatch.setattr(store, "PRUNE_EVERY_S", 0.01)
    running = Ledger(path, DAY_S, 200, lambda: NOW_TS)
    running.start()
    for number in range(1000):  # ended two days ago
        start_ts = NOW_TS - 2 * DAY_S + number / 100
        running.decision(ban(f"198.51.{number // 250}.{number % 250}", start_ts))
        running.finding(finding(f"f{number}"))
    running.decision(ban("192.0.2.7", NOW_TS - 3 * DAY_S, None))
    assert running.wait_written(10)

    def rows() -> tuple[int, int, int]:
        with Reader(path) as reader:
            figures = reader.summary(NOW_TS)
        return figures.remembered, figures.decisions, figures.findings

    def settled() -> bool:
        running.checkpoint(b"", [], 0)  # pruning comes after writing
        running.wait_written(10)
        return rows() == (1, 0, 200)

    until(settled)
    assert load(path, NOW_TS, DAY_S).active == {"192.0.2.7": None}, "a ban in force is never pruned"
    assert running.close(10)


def test_the_thread_ends_and_no_descriptor_is_left(path: Path) -> None:
    before = len(list(Path("/proc/self/fd").iterdir()))
    running = Ledger(path, DAY_S, 1000, lambda: NOW_TS)
    running.start()
    running.decision(ban("192.0.2.7"))
    assert running.close(10)
    assert len(list(Path("/proc/self/fd").iterdir())) == before
    assert not path.with_name("ledger.db-wal").exists()


def test_what_is_restated_and_known_stays_as_it_is(ledger: Ledger, path: Path) -> None:
    """After rows were lost all bans in force are handed over again: known ones keep rule, start and counters."""
    known, lost = ban("192.0.2.7"), ban("192.0.2.8")
    ledger.decision(known)
    ledger.counters([("192.0.2.7", 10, 600)])
    assert ledger.wait_written(10)
    for decision in (known, lost):
        end_ts = decision.end_ts
        restated = Decision(decision.id, "ban", decision.subject, NOW_TS + 50, end_ts, "", None, "import", note="taken")
        ledger.decision(restated)
    assert ledger.wait_written(10)
    with Reader(path) as reader:
        bans = {each.subject: each for each in reader.bans(NOW_TS + 60)}
    assert (bans["192.0.2.7"].rule, bans["192.0.2.7"].start_ts, bans["192.0.2.7"].packets) == ("xmlrpc", NOW_TS, 10)
    assert (bans["192.0.2.8"].rule, bans["192.0.2.8"].origin) == ("", "import")
