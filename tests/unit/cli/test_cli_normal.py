"""`tocsin normal`: what was learnt, as a table and as JSON; what is said before there is anything."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
from cli_runs import config_in, run

from tocsin.detect.asked import Asked
from tocsin.detect.normal import Normal, Request
from tocsin.ledger.store import Ledger

MONDAY_NOON_TS = 1_793_016_000.0  # 2026-10-26 12:00 UTC
CHAPTER_S = 300.0


def request(path: str, strangers: float, visitors: float, cost_s: float = 0.0, agents: str = "Firefox") -> Request:
    asked: Asked = ("GET", path, "", "shop.example", "x", "HTTP/2.0", "no referer")
    kind = ("shop.example", "GET", path, agents, "HTTP/2.0", "no referer")
    sources = {f"192.0.2.{number}": MONDAY_NOON_TS for number in range(3)}
    return Request(asked, kind, strangers, visitors, cost_s, strangers, sources)


def learnt(chapters: int, *requests: Request) -> Normal:
    """What was learnt in so many chapters, in each of which ten visitors came."""
    normal = Normal()
    for number in range(chapters):
        start_ts = MONDAY_NOON_TS + number * CHAPTER_S
        normal.learn(requests, [(requests[0].asked,)] * 10, {}, start_ts, start_ts + CHAPTER_S)
    return normal


def config_of(folder: Path, state: bytes | None, more: str = "") -> Path:
    ledger = Ledger(folder / "state" / "ledger.db", 90 * 86400.0, 1000, time.time)
    ledger.start()
    ledger.checkpoint(b"state", [], 1, state)
    assert ledger.close(10)
    return config_in(folder, more)


SHOP, ODD = request("/shop/*", 1, 9, cost_s=2.5), request("/odd\x1b[2J", 2, 0, agents="Oddbot")


def test_the_busiest_classes_come_first(tmp_path: Path) -> None:
    ran = run(["normal", "--config", config_of(tmp_path, learnt(4, ODD, SHOP).dump())])
    assert ran.code == 0
    assert "Learnt, from 20 min of traffic" in ran.out
    assert "40 visitors and 2 classes of requests remembered; strangers send 0.6 requests a minute." in ran.out
    shop, odd = (line.split() for line in ran.out.splitlines() if line.startswith("shop.example"))
    assert shop[1:9] == ["GET", "/shop/*", "HTTP/2.0", "Firefox", "none", "2,880", "90%", "250"]
    assert shop[10] == "~3"
    assert shop[-2:] == ["Mon", "12:00"]
    assert odd[2] == "/odd\\x1b[2J"
    assert odd[6:8] == ["576", "0%"]


def test_some_classes_alone(tmp_path: Path) -> None:
    many = [request(f"/p{number}/", 1 + number / 100, 0) for number in range(40)]
    config = config_of(tmp_path, learnt(4, *many, ODD).dump())
    ran = run(["normal", "--config", config])
    assert ran.out.count("shop.example") == 30
    assert "11 more classes; --all shows them" in ran.out
    assert run(["normal", "--all", "--config", config]).out.count("shop.example") == 41
    assert run(["normal", "--class", "ODDBOT", "--config", config]).out.count("shop.example") == 1
    assert "No class of requests is like that." in run(["normal", "--class", "none such", "--config", config]).out


def test_json(tmp_path: Path) -> None:
    config = config_of(tmp_path, learnt(4, ODD, SHOP).dump())
    (document,) = run(["normal", "--json", "--class", "/shop", "--config", config]).rows
    (shop,) = document.pop("classes")
    assert document == {
        "enabled": True,
        "learnt": True,
        "learnt_s": pytest.approx(1200, rel=0.01),
        "visitors": 40,
        "needs_s": 900.0,
        "needs_visitors": 30,
        "guard_since_ts": None,
        "hour_factor": 1.0,
        "evicted": 0,
        "strangers_a_minute": pytest.approx(0.6, rel=0.01),
    }
    assert shop == {
        "site": "shop.example",
        "method": "GET",
        "path": "/shop/*",
        "agents": "Firefox",
        "protocol": "HTTP/2.0",
        "referer": "none",
        "requests_a_day": pytest.approx(2880, rel=0.01),
        "by_visitors": pytest.approx(0.9),
        "duration_s": pytest.approx(0.25),
        "addresses": 3,
        "busiest_hour": 12,
        "first_ts": MONDAY_NOON_TS,
        "last_ts": MONDAY_NOON_TS + 4 * CHAPTER_S,
    }


def test_what_was_not_seen_lately_has_faded(tmp_path: Path) -> None:
    normal = learnt(4, SHOP)
    for number in range(3000):
        start_ts = MONDAY_NOON_TS + (4 + number) * CHAPTER_S
        normal.learn([ODD], [], {}, start_ts, start_ts + CHAPTER_S)
    (document,) = run(["normal", "--json", "--config", config_of(tmp_path, normal.dump())]).rows
    odd, shop = document["classes"]
    assert odd["requests_a_day"] == pytest.approx(576, rel=0.02)
    assert 0 < shop["requests_a_day"] < 5


@pytest.mark.parametrize(
    ("state", "seen"), [(None, "0 s of 15 min and 0 of 30"), (b"", "5 min of 15 min and 10 of 30")]
)
def test_before_it_is_enough_it_says_how_long_it_takes(tmp_path: Path, state: bytes | None, seen: str) -> None:
    ran = run(["normal", "--config", config_of(tmp_path, None if state is None else learnt(1, SHOP).dump())])
    assert ran.code == 0
    assert f"Still learning: {seen} visitors so far." in ran.out
    assert "no guard is running" in ran.err


def test_that_it_is_off_is_said(tmp_path: Path) -> None:
    ran = run(["normal", "--config", config_of(tmp_path, None, "[contrast]\nenabled = false\n")])
    assert "[contrast] enabled is false" in ran.err


def test_a_damaged_memory_is_a_fault_of_the_data(tmp_path: Path) -> None:
    ran = run(["normal", "--config", config_of(tmp_path, b"\x93nonsense")])
    assert ran.code == 65
    assert "cannot be read" in ran.err
