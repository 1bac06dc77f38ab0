"""Replay: finished files in the order of their times, nothing of the host, and what could not be read said."""

from __future__ import annotations

import os
from datetime import UTC, timedelta, timezone, tzinfo
from pathlib import Path

import pytest

from tocsin.detect.books import Limits
from tocsin.model import Decision, Finding
from tocsin.reading import Reading
from tocsin.replay import Replay, Summary
from tocsin.rules import compile_rule, load_shipped, read_rules

PROBE = """
[probe]
on = "http-request"
where = { path = { contains = "/.env" } }
limit = 3
within = "10m"
ban = "1h"
"""
GUESS = """
[guess]
on = "auth"
where = { outcome = "failure" }
limit = 1
ban = "1h"
"""
NOON_TS = 1_466_424_000.0  # 20 Jun 2016 12:00:00 UTC


def request(client: str, minute: int, target: str = "/.env") -> str:
    return f'{client} - - [20/Jun/2016:12:{minute:02}:00 +0000] "GET {target} HTTP/1.1" 404 5 "-" "-"\n'


class Run:
    """A replay of some files and what came of it."""

    def __init__(
        self, *paths: Path, rules: str = PROBE, zone: tzinfo = UTC, now_ts: float | None = None, named: str = ""
    ) -> None:
        self.decisions: list[Decision] = []
        self.readings: list[tuple[str, Reading]] = []
        self.heard: list[int] = []
        self.job = Replay(
            paths,
            [compile_rule(rule) for rule in read_rules(rules, "t.toml")],
            zone,
            now_ts,
            self._take,
            named=[("*", named)] if named else (),
            on_reading=lambda *told: self.readings.append(told),
        )
        self.summary: Summary = self.job.run(self.heard.append)

    def _take(self, decision: Decision, _finding: Finding | None) -> None:
        self.decisions.append(decision)


def test_several_files_are_one_stream_in_time(tmp_path: Path) -> None:
    """Each has two of the three requests; only merged by time do they lie within ten minutes in this order."""
    first, second = tmp_path / "a.log", tmp_path / "b.log"
    first.write_text(request("203.0.113.7", 0) + request("203.0.113.7", 4) + request("198.51.100.1", 30))
    second.write_text(request("203.0.113.7", 2) + request("203.0.113.7", 20))
    for paths in ((first, second), (second, first)):
        ran = Run(*paths)
        assert [(d.subject, d.start_ts) for d in ran.decisions] == [("203.0.113.7", NOON_TS + 240)]
        assert ran.summary.lines == 5
        assert ran.summary.stopped == 1


def test_a_missing_year_comes_from_the_files_own_time(tmp_path: Path) -> None:
    log = tmp_path / "auth.log"
    log.write_text("Jun 20 12:00:00 web sshd[1]: Failed password for root from 203.0.113.7 port 22 ssh2\n")
    os.utime(log, (NOON_TS + 60, NOON_TS + 60))
    assert [d.start_ts for d in Run(log, rules=GUESS).decisions] == [NOON_TS]
    later = Run(log, rules=GUESS, now_ts=NOON_TS + 366 * 86400)
    assert [d.start_ts for d in later.decisions] == [NOON_TS + 365 * 86400]


def test_a_missing_zone_is_the_one_asked_for(tmp_path: Path) -> None:
    log = tmp_path / "auth.log"
    log.write_text("Jun 20 12:00:00 web sshd[1]: Failed password for root from 203.0.113.7 port 22 ssh2\n")
    ran = Run(log, rules=GUESS, zone=timezone(timedelta(hours=2)), now_ts=NOON_TS + 86400)
    assert [d.start_ts for d in ran.decisions] == [NOON_TS - 7200]


def test_private_addresses_are_not_safe(tmp_path: Path) -> None:
    """Nothing of the host it runs on counts."""
    log = tmp_path / "a.log"
    log.write_text(request("192.168.1.5", 0) * 3 + request("10.0.0.1", 1) * 3)
    assert [d.subject for d in Run(log).decisions] == ["192.168.1.5", "10.0.0.1"]


def test_what_cannot_be_read_is_said_and_the_rest_is_read(tmp_path: Path) -> None:
    log, damaged = tmp_path / "a.log", tmp_path / "b.log.gz"
    log.write_text(request("203.0.113.7", 0) * 3)
    damaged.write_bytes(b"\x1f\x8b\x08\x00garbage that is no archive")
    ran = Run(log, damaged, tmp_path / "absent.log")
    assert [d.subject for d in ran.decisions] == ["203.0.113.7"]
    assert {(Path(trouble.path).name, trouble.kind) for trouble in ran.job.troubles} == {
        ("b.log.gz", "data"),
        ("absent.log", "no-input"),
    }


def test_progress_reaches_the_end(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(request("203.0.113.7", 0, "/") * 50_000)
    ran = Run(log)
    assert ran.heard == sorted(ran.heard)
    assert len(ran.heard) > 2
    assert ran.heard[-1] == log.stat().st_size == ran.summary.bytes


def test_the_sum_says_what_was_not_judged(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text(
        request("203.0.113.7", 30)
        + request("203.0.113.7", 10)  # twenty minutes late
        + request("host.example.org", 30)
        + "broken /.env\n"
    )
    summary = Run(log, named="combined").summary
    assert (summary.lines, summary.late, summary.no_address, summary.unparsed) == (4, 1, 1, 1)


def test_how_each_log_is_read_is_said(tmp_path: Path) -> None:
    log, odd = tmp_path / "a.log", tmp_path / "odd.log"
    log.write_text(request("203.0.113.7", 0))
    odd.write_text("nobody knows this\n")
    told = {Path(source).name: reading for source, reading in Run(log, odd).readings}
    assert told["odd.log"].format is None
    reading = told["a.log"].format
    assert reading is not None
    assert reading.name == "combined"


def test_an_empty_log_is_no_trouble(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_bytes(b"")
    ran = Run(log)
    assert (ran.summary.lines, ran.decisions, ran.job.troubles) == (0, [], [])


@pytest.mark.parametrize("limit", [1, 50])
def test_state_stays_bounded_and_says_what_it_forgot(tmp_path: Path, limit: int) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(request(f"10.0.{n >> 8}.{n & 255}", 0) for n in range(3000)))
    rules = [compile_rule(rule) for rule in read_rules(PROBE.replace("limit = 3", f"limit = {limit + 1}"), "t.toml")]
    job = Replay([log], rules, UTC, None, lambda *_: None, limits=Limits(tracked_keys=100))
    assert job.run().evicted >= 3000 - 2 * 100 - 1
    assert job.pipeline.engine.pool.tracked <= 201


def test_shipped_rules_leave_an_ordinary_visit_alone(tmp_path: Path) -> None:
    log = tmp_path / "a.log"
    log.write_text("".join(request("198.51.100.1", n % 60, f"/page/{n}").replace(" 404 ", " 200 ") for n in range(300)))
    found: list[Decision] = []
    rules = [compile_rule(rule) for rule in load_shipped()]
    summary = Replay([log], rules, UTC, None, lambda decision, _: found.append(decision)).run()
    assert (summary.lines, summary.findings, found) == (300, 0, [])
