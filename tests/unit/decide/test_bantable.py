"""The tables behind the policy, against plain models of them."""

from __future__ import annotations

import random

import pytest

from tocsin.decide import bantable
from tocsin.decide.bantable import BanTable
from tocsin.decide.history import ODD_ROWS, History


def address(number: int) -> str:
    return f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"


@pytest.mark.parametrize("crowd", [2, 8, 4096])
@pytest.mark.parametrize("seed", range(5))
def test_bans_expire_and_make_room_in_order_of_their_ends(
    seed: int, crowd: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bantable, "CROWD", crowd)
    rng = random.Random(seed)
    table = BanTable(50)
    model: dict[str, float | None] = {}
    now = 0.0
    for _ in range(3000):
        now += rng.choice((0.0, 0.5, 40.0))
        subject = address(rng.randrange(120))
        action = rng.random()
        if action < 0.7:
            end = None if rng.random() < 0.05 else now + rng.choice((1.0, 64.0, 500.0, 5000.0)) + rng.random()
            if subject not in model and len(model) >= 50:
                for gone in [s for s, e in model.items() if e is not None and e <= now]:
                    del model[gone]
            expected = []
            if subject not in model and len(model) >= 50:
                first = min((e, s) for s, e in model.items() if e is not None)
                expected = [(first[1], first[0])]
                del model[first[1]]
            assert table.put(subject, end, now) == expected
            model[subject] = end
        elif action < 0.85:
            assert table.remove(subject) == (subject in model)
            model.pop(subject, None)
        else:
            due = sorted((e, s) for s, e in model.items() if e is not None and e <= now)
            assert table.expire(now) == [s for _, s in due]
            for _, gone in due:
                del model[gone]
        assert table.ends == model
        assert table._queued <= 2 * len(model) + 1025


def test_only_bans_for_good_make_room_when_nothing_else_is_there() -> None:
    table = BanTable(2)
    for number in range(3):
        gone = table.put(address(number), None, 0.0)
    assert gone == [(address(0), None)]
    assert table.evicted == 1


def test_who_holds_an_address() -> None:
    table = BanTable(10)
    table.put("192.0.2.7", 100.0, 0.0)
    table.put("2001:db8:1:2::/64", 100.0, 0.0)
    assert table.holder("192.0.2.7", 99.0) == "192.0.2.7"
    assert table.holder("192.0.2.7", 100.0) is None
    assert table.holder("198.51.100.3", 0.0) is None
    assert table.holder("2001:db8:1:2::9", 0.0) == "2001:db8:1:2::/64"
    table.put("198.51.100.0/24", None, 0.0)
    table.put("2001:db8::/32", 50.0, 0.0)
    assert table.holder("198.51.100.3", 1e12) == "198.51.100.0/24"
    assert table.holder("2001:db8:7::/64", 49.0) == "2001:db8::/32"
    assert table.holder("2001:db8:7::/64", 50.0) is None
    table.remove("198.51.100.0/24")
    assert table.holder("198.51.100.3", 0.0) is None


@pytest.mark.parametrize("seed", range(3))
def test_history_is_exact_up_to_its_bound(seed: int) -> None:
    rng = random.Random(seed)
    history = History(5000)
    model: dict[str, tuple[int, float]] = {}
    for _ in range(20_000):
        subject = address(rng.randrange(4000)) if rng.random() < 0.7 else f"2001:db8:{rng.randrange(900):x}:1::/64"
        row = (rng.randrange(1, 120), rng.random() * 1e9)
        history.put(subject, *row)
        model[subject] = (min(row[0], 100), row[1])
    assert len(history) == len(model)
    assert {subject: history.get(subject) for subject in model} == model
    assert history.get("192.0.2.99") is None
    assert history.evicted == 0


def test_history_forgets_who_came_first_but_not_who_came_back() -> None:
    history = History(100)
    for number in range(100):
        history.put(address(number), 1, 1.0)
    history.put(address(0), 2, 2.0)
    assert history.amend(address(1), 0, 1.5), "a correction is no return"
    for number in range(100, 110):
        history.put(address(number), 1, 3.0)
    kept = [number for number in range(110) if history.get(address(number)) is not None]
    assert kept == [0, *range(11, 110)]
    assert history.evicted == 10
    assert len(history) == 100


def test_history_holds_prefixes_too_within_bounds() -> None:
    history = History(100)
    for number in range(ODD_ROWS + 10):
        history.put(f"10.{number >> 8}.{number & 255}.0/24", 1, float(number))
    assert history.get("10.0.0.0/24") is None
    assert history.get("10.1.0.0/24") == (1, 256.0)
    assert len(history) == ODD_ROWS
    assert history.evicted == 10
    history.put("::1:0:0:0:0/64", 3, 1.0)  # a low /64 must not be taken for an IPv4 address
    assert history.get("0.0.0.1") is None
