"""The laws for sieges: how lines are cut does not matter, a restart repeats and loses nothing, live equals replay."""

from __future__ import annotations

import sys
from datetime import UTC
from pathlib import Path
from random import Random

import msgspec
import pytest

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
from tocsin.replay import Replay
from tocsin.rules import compile_rule, load_shipped

sys.path.insert(0, str(Path(__file__).parents[1] / "unit" / "decide"))
from crowding import START_TS, Line, crowd, log, visitors, xmlrpc

RULES = [compile_rule(rule) for rule in load_shipped() if rule.enabled]
LEARNT_S, SEEDS = 1300.0, (1, 2)
Row = tuple[Decision, Finding | None]


def lines_of(seed: int) -> list[Line]:
    """Ordinary traffic, then a siege, a third of the lines out of order as Apache writes them."""
    rng = Random(seed)
    found = log(visitors(seed, 0, LEARNT_S + 420), crowd(seed, LEARNT_S, LEARNT_S + 150, 7, xmlrpc))
    found.sort(key=lambda one: one[0] + (rng.uniform(0, 8) if rng.random() < 1 / 3 else 0))
    return found


class Live:
    """The pipeline as guard drives it, with a new process now and then."""

    def __init__(self) -> None:
        self.rows: list[Row] = []
        self.pipeline = self._make()

    def _make(self) -> Pipeline:
        visitors_seen = Visitors()
        self.readings = Readings([("*", "combined")], Proxies(), UTC)
        breaker = Breaker(BreakerSettings(), visitors_seen, self._request_of)
        policy = Policy(PolicySettings(), AllowList(), breaker=breaker)
        seen = Crowd(visitors_seen, SiegeSettings(), lambda _change: None)
        return Pipeline(RULES, Limits(), policy, self.readings, lambda *row: self.rows.append(row), crowd=seen)

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.readings.request_of(evidence, START_TS)

    def feed(self, source: str, lines: list[Line], rng: Random, sizes: tuple[int, ...], restarts: float) -> None:
        at = offset = 0
        newest_ts = 0.0
        while at < len(lines):
            batch = lines[at : at + rng.choice(sizes)]
            data = b"".join(text + b"\n" for _, text in batch)
            newest_ts = max(newest_ts, *(ts for ts, _ in batch))
            self.pipeline.take(Batch(source, data, offset, at + 1, newest_ts), newest_ts)
            at, offset = at + len(batch), offset + len(data)
            if rng.random() < restarts:
                state, normal = self.pipeline.dump(normal=False), self.pipeline.crowd
                assert normal is not None
                self.pipeline = self._make()
                self.pipeline.load(state, normal.normal.dump())


@pytest.fixture(params=SEEDS)
def played(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, list[Line], list[Row]]:
    """The log's name, its lines, and what a replay makes of them."""
    lines, path = lines_of(request.param), tmp_path / "access.log"
    path.write_bytes(b"".join(text + b"\n" for _, text in lines))
    rows: list[Row] = []
    Replay([path], RULES, UTC, None, lambda *row: rows.append(row)).run()
    assert {"deny-request", "ban", "lift"} <= {decision.action for decision, _ in rows}
    return str(path), lines, rows


@pytest.mark.parametrize(("sizes", "restarts"), [((1,), 0.0), ((1, 3, 70, 400), 0.0), ((5, 60, 200), 0.2)])
def test_live_in_pieces_and_with_restarts_is_the_replay(
    played: tuple[str, list[Line], list[Row]], sizes: tuple[int, ...], restarts: float
) -> None:
    source, lines, wanted = played
    live = Live()
    live.feed(source, lines, Random(f"{sizes} {restarts}"), sizes, restarts)
    assert msgspec.json.encode(live.rows) == msgspec.json.encode(wanted)


def test_the_prefilter_is_invisible(played: tuple[str, list[Line], list[Row]]) -> None:
    source, _, wanted = played
    rows: list[Row] = []
    Replay([Path(source)], RULES, UTC, None, lambda *row: rows.append(row), prefilter=False).run()
    assert msgspec.json.encode(rows) == msgspec.json.encode(wanted)
