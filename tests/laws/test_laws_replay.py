"""Replay is live whose file has ended: same lines, same decisions, however they came and wherever they lay.

The log is drawn from a seed: visitors, attackers of several kinds, a third of the lines out of order, some damaged.
"""

from __future__ import annotations

import gzip
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from random import Random

import msgspec
import pytest
from msgspec import structs

from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.crowd import Crowd
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.siege import SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Evidence, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.replay import Replay, Summary
from tocsin.rules import CompiledRule, compile_rule, load_shipped

BASE_TS = 1_466_421_454
LINES = 4000
SEEDS = range(4)
Row = tuple[Decision, Finding | None]


def _rules() -> list[CompiledRule]:
    """The shipped rules, the flood rule at a limit that so short a log reaches."""
    lower = {"request-flood": 60}
    return [compile_rule(structs.replace(r, limit=lower.get(r.id, r.limit))) for r in load_shipped() if r.enabled]


RULES = _rules()
AGENTS = ("Mozilla/5.0 (X11; Linux x86_64)", "curl/8.0", "sqlmap/1.7", "Googlebot/2.1")
ATTACKS = (
    ("POST", "/xmlrpc.php", 200, 0),
    ("POST", "/wp-login.php", 200, 0),
    ("GET", "/.env", 404, 0),
    ("GET", "/.git/config", 404, 0),
    ("GET", "/?author={n}", 301, 0),
    ("GET", "/missing/{n}", 404, 0),
    ("GET", "/shop?id=1+union+select+null,{n}", 200, 0),
    ("GET", "/../../etc/passwd", 400, 0),
    ("GET", "/", 200, 2),
)


def log_lines(seed: int) -> list[tuple[int, bytes]]:
    """(stamp, line) in the order of writing."""
    rng = Random(f"replay {seed}")
    clients = [f"198.51.100.{n}" for n in range(1, 30)] + ["2001:db8::1", "2001:db8::2", "2001:db8:0:1::3"]
    attackers = {client: rng.choice(ATTACKS) for client in rng.sample(clients, 10)}
    found = []
    now_ts = float(BASE_TS)
    for n in range(LINES):
        now_ts += rng.expovariate(8)
        ts = int(now_ts) - (rng.randrange(20) if rng.random() < 0.33 else 0)
        client = rng.choice(clients)
        method, target, status, agent = attackers.get(client, ("GET", f"/page/{rng.randrange(50)}", 200, 0))
        if rng.random() < 0.3:
            method, target, status, agent = "GET", f"/page/{rng.randrange(50)}", 200, rng.randrange(2)
        stamp = datetime.fromtimestamp(ts, UTC).strftime("%d/%b/%Y:%H:%M:%S +0000")
        request = f"{method} {target.format(n=n % 60)} HTTP/1.1"
        line = f'{client} - - [{stamp}] "{request}" {status} 12 "-" "{AGENTS[agent]}"'.encode()
        found.append((ts, line[: rng.randrange(len(line))] if rng.random() < 0.01 else line))
    return found


def replayed(paths: list[Path], *, prefilter: bool = True) -> tuple[list[Row], Summary]:
    rows: list[Row] = []
    job = Replay(paths, RULES, UTC, None, lambda *row: rows.append(row), prefilter=prefilter)
    summary = job.run()
    assert not job.troubles
    return rows, summary


def gist(rows: list[Row]) -> list[tuple[object, ...]]:
    """The decisions without what depends on where their lines lay: file, line number, and the ids made of them."""
    return [
        (
            decision.start_ts,
            decision.rule,
            decision.subject,
            decision.action,
            decision.end_ts,
            decision.held,
            [line.text for line in finding.evidence] if finding else None,
        )
        for decision, finding in rows
    ]


def written(path: Path, lines: list[tuple[int, bytes]]) -> Path:
    data = b"".join(line + b"\n" for _, line in lines)
    path.write_bytes(gzip.compress(data) if path.suffix == ".gz" else data)
    return path


def test_the_log_has_something_to_decide(tmp_path: Path) -> None:
    for seed in SEEDS:
        rows, summary = replayed([written(tmp_path / "access.log", log_lines(seed))])
        assert len({decision.rule for decision, _ in rows}) >= 3
        assert summary.stopped > 20
        assert summary.unparsed > 10
        assert summary.lines == LINES


@pytest.mark.parametrize("seed", SEEDS)
def test_the_same_file_gives_the_same_bytes(seed: int, tmp_path: Path) -> None:
    """In processes that hash differently, in other zones and folders."""
    log = written(tmp_path / "access.log", log_lines(seed))
    outputs = []
    for hash_seed, zone, folder in (("0", "UTC", "/"), ("1", "Asia/Tokyo", str(tmp_path))):
        ran = subprocess.run(
            [sys.executable, "-m", "tocsin.cli.main", "replay", "--json", str(log)],
            env={**os.environ, "PYTHONHASHSEED": hash_seed, "TZ": zone},
            cwd=folder,
            capture_output=True,
            check=True,
        )
        *decisions, last = ran.stdout.splitlines()
        summary = json.loads(last)["summary"]
        del summary["seconds"]
        outputs.append((decisions, summary))
    assert outputs[0] == outputs[1]
    assert outputs[0][0]


@pytest.mark.parametrize("seed", SEEDS)
def test_the_prefilter_changes_no_decision(seed: int, tmp_path: Path) -> None:
    """Law 7 through policy and breaker; findings, evidence and ids included."""
    log = written(tmp_path / "access.log", log_lines(seed))
    with_it, summary = replayed([log])
    without, other = replayed([log], prefilter=False)
    assert with_it == without
    assert structs.replace(summary, seconds=0) == structs.replace(other, seconds=0)


def parts_of(lines: list[tuple[int, bytes]], cuts: list[int], folder: Path) -> list[Path]:
    """The lines as one log that was rotated at the cuts, all but the two newest parts packed."""
    bounds = [0, *cuts, len(lines)]
    last = len(bounds) - 2
    return [
        written(folder / ("access.log" if i == last else f"access.log.{last - i}{'.gz' if last - i > 1 else ''}"), part)
        for i, part in enumerate(lines[a:b] for a, b in pairwise(bounds))
    ]


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rotated_log_is_one_log(seed: int, tmp_path: Path) -> None:
    """Split into packed and plain rotations, named in any order: same decisions at the same moments."""
    lines, rng = log_lines(seed), Random(f"rotated {seed}")
    cuts = sorted(rng.sample(range(200, LINES - 800), 3))
    for cut in cuts:
        lines = in_order_around(lines, cut)
    whole, summary = replayed([written(tmp_path / "whole.log", lines)])
    parts = parts_of(lines, cuts, tmp_path)
    assert [path.name for path in parts] == ["access.log.3.gz", "access.log.2.gz", "access.log.1", "access.log"]
    rng.shuffle(parts)
    split, other = replayed(parts)
    assert gist(split) == gist(whole)
    assert other.lines == summary.lines
    assert (other.stopped, other.findings, other.decisions) == (summary.stopped, summary.findings, summary.decisions)


def in_order_around(lines: list[tuple[int, bytes]], at: int) -> list[tuple[int, bytes]]:
    """The lines without those from `at` on that are older than one before it: files are merged by time."""
    newest_ts = max(ts for ts, _ in lines[:at])
    return lines[:at] + [(ts, line) for ts, line in lines[at:] if ts >= newest_ts]


class Live:
    """The pipeline as guard drives it: small batches as they arrive, now and then a restart."""

    def __init__(self, *, named: bool) -> None:
        self.rows: list[Row] = []
        self.named = [("*", "combined")] if named else []
        self.pipeline = self._make()

    def _make(self) -> Pipeline:
        visitors = Visitors()
        self.readings = Readings(self.named, Proxies(), UTC)
        policy = Policy(PolicySettings(), AllowList(), breaker=Breaker(BreakerSettings(), visitors, self._request_of))
        crowd = Crowd(visitors, SiegeSettings(), lambda _change: None)
        return Pipeline(RULES, Limits(), policy, self.readings, lambda *row: self.rows.append(row), crowd=crowd)

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.readings.request_of(evidence, BASE_TS)

    def restart(self) -> None:
        """A new process that takes up what the old one saved."""
        state = self.pipeline.dump()
        self.pipeline = self._make()
        self.pipeline.load(state)

    def feed(self, source: str, lines: list[tuple[int, bytes]], rng: Random, restarts: float = 0.0) -> None:
        """The lines in random batches, each arriving when its newest line says."""
        at, offset, newest_ts = 0, 0, 0.0
        while at < len(lines):
            batch = lines[at : at + rng.choice((1, 1, 2, 5, 50, 300))]
            data = b"".join(line + b"\n" for _, line in batch)
            newest_ts = max(newest_ts, *(ts for ts, _ in batch))
            self.pipeline.take(Batch(source, data, offset, at + 1, newest_ts), newest_ts)
            at += len(batch)
            offset += len(data)
            if rng.random() < restarts:
                self.restart()


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("seed", SEEDS)
def test_live_equals_replay(seed: int, named: bool, tmp_path: Path) -> None:
    """Same decisions in the same order, with the same findings, evidence and ids."""
    lines = log_lines(seed)
    log = written(tmp_path / "access.log", lines)
    wanted, summary = replayed([log])
    live = Live(named=named)
    live.feed(str(log), lines, Random(f"live {seed}"))
    assert msgspec.json.encode(live.rows) == msgspec.json.encode(wanted)
    counts = live.pipeline.engine.counts
    assert (counts.lines, counts.unparsed, counts.stopped) == (summary.lines, summary.unparsed, summary.stopped)


@pytest.mark.parametrize("seed", SEEDS)
def test_restarts_change_no_decision(seed: int, tmp_path: Path) -> None:
    """Law 6 through the whole pipeline: a new process every few batches."""
    lines = log_lines(seed)
    log = written(tmp_path / "access.log", lines)
    wanted, summary = replayed([log])
    live = Live(named=True)
    live.feed(str(log), lines, Random(f"restarts {seed}"), restarts=0.3)
    assert msgspec.json.encode(live.rows) == msgspec.json.encode(wanted)
    counts = live.pipeline.engine.counts
    assert (counts.lines, counts.unparsed, counts.stopped) == (summary.lines, summary.unparsed, summary.stopped)
