"""`bans`, `why` and `status` from a real ledger, with no guard running."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cli_runs import config_in, run

from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Evidence, Finding, Receipt

NOW_TS = time.time()
LINE = '192.0.2.7 - - [20/Jun/2016:11:17:34 -0400] "POST /xmlrpc.php\x1b[2J\u202e HTTP/1.0" 200 820 "-" "[red]x[/red]"'


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A ledger with a ban in force, one that was lifted, and one that is held back."""
    ledger = Ledger(tmp_path / "state" / "ledger.db", 90 * 86400.0, 1000, time.time)
    ledger.start()
    evidence = (Evidence("/var/log/access.log", 3, 100, LINE),)
    for subject, number in (("192.0.2.7", 1), ("192.0.2.8", 2), ("192.0.2.9", 3)):
        finding = Finding(f"f{number}", "wordpress-xmlrpc", subject, NOW_TS - 60, 3, 600.0, evidence)
        ledger.finding(finding)
        ledger.decision(
            Decision(
                id=f"d{number}",
                action="ban",
                subject=subject,
                start_ts=NOW_TS - 60,
                end_ts=NOW_TS + 240000 - 60,
                rule="wordpress-xmlrpc",
                finding=finding.id,
                held="allowed: a friend" if number == 3 else None,
            )
        )
    ledger.decision(
        Decision("d4", "lift", "192.0.2.8", NOW_TS - 30, None, "", None, "operator", lifts="d2", note="unbanned")
    )
    ledger.decision(Decision("d5", "ban", "2001:db8:1:2::/64", NOW_TS - 9, None, "", None, "operator"))
    ledger.receipts(
        [
            Receipt("ban", "192.0.2.7", "d1", ok=True, ts=NOW_TS - 59, sockets_destroyed=2),
            Receipt("ban", "2001:db8:1:2::/64", "d5", ok=False, ts=NOW_TS - 8, error="no table"),
        ]
    )
    ledger.counters([("192.0.2.7", 42, 2520)])
    assert ledger.wait_written(10)
    assert ledger.close(10)
    return config_in(tmp_path)


def test_why_tells_the_whole_story(config: Path) -> None:
    ran = run(["why", "192.0.2.7", "--config", config])
    assert ran.code == 0
    for part in (
        "192.0.2.7 is banned until ",
        "by rule wordpress-xmlrpc",
        "in the kernel: yes, confirmed",
        "2 open connections ended",
        "stopped since: 42 packets (2.5 KiB)",
        "the rule: Bans an address for 66h40m when",
        "it counted 3 within 10m",
        "/var/log/access.log:3: 192.0.2.7 - - [20/Jun/2016:11:17:34 -0400]",
        "tocsin unban 192.0.2.7",
    ):
        assert part in ran.out
    assert "no guard is running" in ran.err


def test_why_of_a_lifted_ban(config: Path) -> None:
    ran = run(["why", "192.0.2.8", "--config", config])
    assert "192.0.2.8 is not banned now." in ran.out
    assert "by the operator. Unbanned." in ran.out


def test_why_of_a_held_decision(config: Path) -> None:
    ran = run(["why", "192.0.2.9", "--config", config])
    assert "would have been banned for 66h40m" in ran.out
    assert "held back: allowed: a friend" in ran.out


def test_why_finds_an_address_in_its_prefix_and_says_what_failed(config: Path) -> None:
    ran = run(["why", "2001:db8:1:2::77", "--config", config])
    assert "2001:db8:1:2::77 (as part of 2001:db8:1:2::/64) is banned for good, by the operator" in ran.out
    assert "in the kernel: NO: no table" in ran.out


def test_why_of_a_stranger(config: Path) -> None:
    ran = run(["why", "198.51.100.1", "--config", config])
    assert ran.code == 0
    assert "Nothing is known of 198.51.100.1" in ran.out


def test_why_as_json(config: Path) -> None:
    (row,) = run(["why", "192.0.2.7", "--json", "--config", config]).rows
    assert row.keys() == {"asked", "running", "bans", "past", "rules"}
    assert row["bans"][0]["packets"] == 42
    assert row["past"][0]["finding"]["evidence"][0]["text"] == LINE


def test_bans(config: Path) -> None:
    ran = run(["bans", "--config", config])
    assert ran.code == 0
    assert "192.0.2.7" in ran.out
    assert "42 packets" in ran.out
    assert "for good" in ran.out
    assert "192.0.2.8" not in ran.out
    assert "2 bans in force" in ran.out
    every = run(["bans", "--all", "--config", config])
    assert "192.0.2.8" in every.out
    assert "allowed: a friend" in every.out


def test_bans_as_json(config: Path) -> None:
    rows = run(["bans", "--all", "--json", "--config", config]).rows
    assert [row["ban"]["subject"] for row in rows if "ban" in row] == ["2001:db8:1:2::/64", "192.0.2.7"]
    assert len([row for row in rows if "decision" in row]) == 5


def test_status_without_a_guard(config: Path) -> None:
    ran = run(["status", "--config", config])
    assert ran.code == 69
    assert "no guard is running" in ran.err
    assert "2 bans in force (1 for good), 5 decisions, 3 findings" in ran.out


@pytest.mark.parametrize("terminal", [False, True])
@pytest.mark.parametrize("command", ["why 192.0.2.7", "bans --all", "status"])
def test_hostile_lines_are_harmless(
    command: str, terminal: bool, config: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "dumb")
    ran = run([*command.split(), "--config", config], terminal=terminal)
    assert all(sign.isprintable() or sign == "\n" for sign in ran.out + ran.err)
    if command.startswith("why"):
        assert "\\x1b[2J\\u202e" in ran.out
        assert "[red]x[/red]" in ran.out
