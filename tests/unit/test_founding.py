"""The founding incident: eight lines of an access log, the rule that cured it, and the two bans that it must give.

`tests/conformance/founding/access.log` are the real lines of a machine that `POST /xmlrpc.php` brought down.
"""

from __future__ import annotations

import gzip
import json
import lzma
import subprocess
import sys
import tomllib
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
import zstandard

from tocsin.model import Decision, Finding
from tocsin.replay import Replay
from tocsin.rules import compile_rule, load_shipped, only, read_rules
from tocsin.rules.load import SHIPPED

LOG = Path(__file__).parents[1] / "conformance" / "founding" / "access.log"
LINES = LOG.read_text().splitlines()
RULE = """\
[wordpress-xmlrpc]
title  = "XML-RPC flood"
on     = "http-request"
where  = { method = "POST", path = "/xmlrpc.php" }
by     = "address"
limit  = 3
within = "10m"
ban    = "66h40m"
"""
ZONE = timezone(timedelta(hours=-4))
BANS = [
    ("63.251.225.206", datetime(2016, 6, 20, 11, 17, 36, tzinfo=ZONE).timestamp(), [1, 2, 3]),
    ("63.251.225.207", datetime(2016, 6, 20, 11, 17, 43, tzinfo=ZONE).timestamp(), [5, 6, 7]),
]
DURATION_S = 240_000
COUNTED = {"lines": 8, "stopped": 2, "findings": 2, "decisions": 2, "unparsed": 0, "bytes": LOG.stat().st_size}


def tocsin(*arguments: str | Path, given: bytes = b"") -> list[dict[str, Any]]:
    """The objects that the command prints, run as its users run it."""
    ran = subprocess.run(
        [sys.executable, "-m", "tocsin.cli.main", *map(str, arguments)], input=given, capture_output=True, check=False
    )
    assert (ran.returncode, ran.stderr) == (0, b"")
    return [json.loads(line) for line in ran.stdout.splitlines()]


def assert_founding(rows: list[dict[str, Any]], source: str) -> None:
    """Two bans, at the lines that crossed the limit, with the lines that prove it, and the sums."""
    *decisions, last = rows
    for row, (subject, ts, numbers) in zip(decisions, BANS, strict=True):
        assert (row["rule"], row["action"], row["count"]) == ("wordpress-xmlrpc", "ban", 3)
        assert (row["subject"], row["ts"], row["duration_s"]) == (subject, ts, DURATION_S)
        assert row["held"] is None
        assert row["evidence"] == [{"source": source, "line": n, "text": LINES[n - 1]} for n in numbers]
    assert {name: last["summary"][name] for name in COUNTED} == COUNTED


@pytest.fixture
def rule_file(tmp_path: Path) -> Path:
    path = tmp_path / "rule.toml"
    path.write_text(RULE)
    return path


def test_the_excerpt_is_what_it_was() -> None:
    assert len(LINES) == 8
    assert [line.split()[0] for line in LINES] == ["63.251.225.206"] * 4 + ["63.251.225.207"] * 4


def test_the_command_line_gives_exactly_two_bans(rule_file: Path) -> None:
    rows = tocsin("replay", "--rules", rule_file, "--only", "wordpress-xmlrpc", "--json", LOG)
    assert_founding(rows, str(LOG))


def test_nothing_of_the_machine_counts(rule_file: Path) -> None:
    """Another zone and another clock change nothing: the lines say when they were."""
    arguments = ("replay", "--rules", rule_file, "--only", "wordpress-xmlrpc", "--json", LOG)
    rows = tocsin(*arguments, "--tz", "Asia/Tokyo", "--now", "0")
    assert_founding(rows, str(LOG))


def test_replay_itself_gives_the_same() -> None:
    found: list[tuple[Decision, Finding | None]] = []
    rules = [compile_rule(rule) for rule in read_rules(RULE, "rule.toml")]
    summary = Replay([LOG], rules, UTC, None, lambda *both: found.append(both)).run()
    for (decision, finding), (subject, ts, numbers) in zip(found, BANS, strict=True):
        assert (decision.subject, decision.start_ts, decision.action, decision.held) == (subject, ts, "ban", None)
        assert decision.end_ts == ts + DURATION_S
        assert finding is not None
        assert decision.finding == finding.id
        assert [(line.line, line.text) for line in finding.evidence] == [(n, LINES[n - 1]) for n in numbers]
        assert [LOG.read_bytes()[line.offset :][:20].decode() for line in finding.evidence] == [
            LINES[n - 1][:20] for n in numbers
        ]
    assert {name: getattr(summary, name) for name in COUNTED} == COUNTED


def test_the_shipped_rule_is_the_founding_cure_but_for_the_apps_that_say_who_they_are() -> None:
    """The block of the design stands in the shipped file, key for key; see docs/decisions/0012."""
    (rule,) = only(load_shipped(), ["wordpress-xmlrpc"])
    shipped = tomllib.loads((SHIPPED / Path(rule.origin.file).name).read_text())["wordpress-xmlrpc"]
    apps = shipped["where"].pop("user_agent")
    assert shipped == tomllib.loads(RULE)["wordpress-xmlrpc"]
    assert list(apps) == ["not"]
    assert not any(name in line for line in LINES for name in apps["not"]["prefix"])
    assert rule.enabled


def test_all_shipped_rules_together_decide_the_same() -> None:
    """No other shipped rule acts on these lines."""
    assert_founding(tocsin("replay", "--json", LOG), str(LOG))


PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "gz": gzip.compress,
    "xz": lzma.compress,
    "zst": zstandard.ZstdCompressor().compress,
}


@pytest.mark.parametrize("suffix", PACKERS)
def test_a_compressed_log_is_the_same_log(suffix: str, rule_file: Path, tmp_path: Path) -> None:
    packed = tmp_path / f"access.log.1.{suffix}"
    packed.write_bytes(PACKERS[suffix](LOG.read_bytes()))
    rows = tocsin("replay", "--rules", rule_file, "--only", "wordpress-xmlrpc", "--json", packed)
    assert_founding(rows, str(packed))


def test_standard_input_is_the_same_log(rule_file: Path) -> None:
    rows = tocsin("replay", "--rules", rule_file, "--only", "wordpress-xmlrpc", "--json", "-", given=LOG.read_bytes())
    assert_founding(rows, rows[0]["evidence"][0]["source"])


def test_a_last_line_without_its_newline_counts(rule_file: Path, tmp_path: Path) -> None:
    cut = tmp_path / "access.log"
    cut.write_bytes(LOG.read_bytes()[:-1])
    rows = tocsin("replay", "--rules", rule_file, "--only", "wordpress-xmlrpc", "--json", cut)
    assert rows[-1]["summary"]["lines"] == 8
    assert [row["subject"] for row in rows[:-1]] == [subject for subject, _, _ in BANS]
