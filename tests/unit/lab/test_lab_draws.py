"""The lab's draws: the same for a seed, different between seeds, complete for every scenario."""

from __future__ import annotations

import ipaddress
import sys
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

from scenarios import SCENARIOS, Scenario, draw
from traffic import KINDS

SEEDS = range(20)


@pytest.mark.parametrize("name", SCENARIOS)
def test_draws_repeat_and_differ(name: str) -> None:
    drawn = [msgspec.json.encode(draw(name, seed)) for seed in SEEDS]
    assert drawn == [msgspec.json.encode(draw(name, seed)) for seed in SEEDS]
    assert len(set(drawn)) == len(drawn)


@pytest.mark.parametrize("name", SCENARIOS)
def test_plans_are_whole(name: str) -> None:
    for seed in SEEDS:
        scenario = draw(name, seed)
        nets = {ipaddress.ip_network(prefix) for prefix in scenario.prefixes}
        assert 100 <= scenario.plan["seconds"] <= 240
        for phase in scenario.plan["phases"]:
            assert phase["kind"] in KINDS
            assert 0 <= phase["start_s"] < phase["end_s"] <= scenario.plan["seconds"]
            for address in phase["addresses"]:
                assert ipaddress.ip_network(f"{address}/16", strict=False) in nets
        for fault in scenario.faults:
            assert 0 < fault.at_s < scenario.plan["seconds"]
        if scenario.truth["expect"] == "incident":
            assert harm(scenario) == [scenario.truth["start_s"]]


def harm(scenario: Scenario) -> list[float]:
    """When what brings the server down begins."""
    hurting = [phase["start_s"] for phase in scenario.plan["phases"] if phase["kind"] in ATTACKS]
    return hurting + [fault.at_s for fault in scenario.faults if fault.kind in ("local-job", "fill-disk", "crash")]


ATTACKS = {"flood", "distributed", "login", "search", "scrape", "slow", "surge"}


@pytest.mark.parametrize("name", SCENARIOS)
def test_nobody_shares_an_address(name: str) -> None:
    for seed in SEEDS:
        phases = [set(phase["addresses"]) for phase in draw(name, seed).plan["phases"] if phase["kind"] != "crawler"]
        assert sum(map(len, phases)) == len(set().union(*phases))
