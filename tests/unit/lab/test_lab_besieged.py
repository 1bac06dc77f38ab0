"""The live crowd's draw: who comes, from where, and that nobody shares an address."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

from besieged import PER_S, Job, draft_of
from traffic import KINDS


@pytest.mark.parametrize(("kind", "networks"), [("a", 40), ("b", None)])
def test_the_crowd_comes_once_from_where_it_should(kind: str, networks: int | None) -> None:
    draft = draft_of(Job(kind, 1, None, 45, 120, 10))
    crowd = [phase for phase in draft.phases if phase["kind"] == "distributed"]
    addresses = [address for phase in crowd for address in phase["addresses"]]
    assert sum(phase["per_s"] for phase in crowd) == pytest.approx(PER_S)
    assert len(set(addresses)) == len(addresses) > 120 * PER_S
    if networks:
        assert len({address.rpartition(".")[0] for address in addresses}) == networks
    else:
        assert len({address.rsplit(".", 2)[0] for address in addresses}) == len(addresses)
    assert all(phase["kind"] in KINDS for phase in draft.phases)
    others = {address for phase in draft.phases if phase not in crowd for address in phase["addresses"]}
    assert not others & set(addresses)
