"""Sieges as `why sieges`, `status`, `rules` and `replay` tell of them."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

import pytest
from cli_runs import config_in, run
from msgspec.structs import replace

from tocsin.announce import Announcer
from tocsin.cli.output import Output
from tocsin.cli.replaying import Row, _say_decisions, _to_rows
from tocsin.config import parse
from tocsin.decide.siege import RENEWED, Change, Siege, SiegeSettings
from tocsin.guard import Watcher
from tocsin.ledger.store import Ledger
from tocsin.model import Action, Decision, Evidence, Finding, Signature
from tocsin.steering import Steering, what_is_done

NOW_TS = 1_793_016_000.0  # 2026-10-26 12:00 UTC
CLASS = Signature("POST", "/xmlrpc.php\x1b[2J")
NOTE = "140 requests POST /xmlrpc.php within 60 s by strangers, 98 times the normal"
END = "no more than normal for 120 s"


def found(name: str, note: str, subject: str = "") -> Finding:
    lines = (Evidence("/var/log/access.log", 7, 0, "192.0.2.7 - - evil \x1b[2J"),)
    return Finding(name, "contrast", subject, NOW_TS, 140, 60.0, lines, note=note)


def deny(number: int, spares: int, note: str, held: str | None = None) -> Decision:
    ts, spare = NOW_TS + number, tuple(f"192.0.2.{each}" for each in range(spares))
    return Decision(
        f"d{number}", "deny-request", "", ts, ts + 600, "contrast", "f", held=held, note=note, signature=CLASS,
        spare=spare,
    )  # fmt: skip


def lift(number: int, ts: float, note: str) -> Decision:
    return Decision(f"l{number}", "lift", "", ts, None, "contrast", "f", lifts=f"d{number}", note=note, signature=CLASS)


def siege_of(held: str | None = None) -> list[Decision]:
    """Turned away for a while: renewed twice, then calm."""
    return [
        deny(0, 14, NOTE, held),
        *(lift(0, NOW_TS + 1, RENEWED), deny(1, 15, RENEWED, held), lift(1, NOW_TS + 60, RENEWED)),
        *(deny(60, 16, RENEWED, held), lift(60, NOW_TS + 300, END)),
    ]


def config_of(folder: Path, *rows: Finding | Decision) -> Path:
    folder.mkdir(exist_ok=True)
    ledger = Ledger(folder / "state" / "ledger.db", 9e9, 1000, time.time)
    ledger.start()
    for row in rows:
        if isinstance(row, Finding):
            ledger.finding(row)
        else:
            ledger.decision(row)
    assert ledger.close(10)
    return config_in(folder)


@pytest.fixture
def watcher(tmp_path: Path) -> Iterator[Watcher]:
    """A guard that observes and knows what is normal; what it says goes into `said`."""
    folder = tmp_path / "guard"
    folder.mkdir()
    config = parse(config_in(folder, "[crawlers]\ndns = false\n").read_text(), "t.toml")
    guard = Watcher(config, (), None, Announcer(StringIO(), as_json=True), observe=True)
    guard.crowd.normal.seconds = 7200.0
    guard.crowd.normal.visitors.extend([()] * 40)
    yield guard
    guard.stop()
    guard.announcer.close()


def besiege(
    guard: Watcher,
    *,
    note: str = NOTE,
    name: str = "f",
    times: int = 1,
    agents: bool = False,
    asks: Signature | None = None,
) -> Siege:
    """A siege as the crowd begins it: it is there, and a change is told."""
    description = (("method", "POST"), ("path", "/xmlrpc.php"))
    siege = Siege(
        description, description, frozenset(description), CLASS, times, agents, found(name, note), note, normal=0.28,
        limit=16.0, turned_away=times == 1, opens=False, told=CLASS if times == 1 else asks, began_ts=NOW_TS,
        hot_ts=NOW_TS, counted={}, spared={"192.0.2.9": 1.0}, arrivals=498.0,
    )  # fmt: skip
    guard.crowd.sieges.all.append(siege)
    guard.crowd.sieges.hear(Change("enter", NOW_TS, siege.signature, note, siege.finding))
    return siege


def said(guard: Watcher) -> list[dict[str, Any]]:
    """What it has said so far."""
    guard.announcer.close()
    out = guard.announcer._out
    assert isinstance(out, StringIO)
    return [json.loads(line) for line in out.getvalue().splitlines()]


def running(monkeypatch: pytest.MonkeyPatch, guard: Watcher) -> None:
    """The command line asks this one."""
    status = json.loads(json.dumps(Steering(guard).answer({"cmd": "status"})["status"]))
    monkeypatch.setattr("tocsin.cli.asking.status_of", lambda _config: (status, ""))


# -- what guard says ---------------------------------------------------------------------------------------------------


def test_guard_says_each_change_once_and_no_renewal(watcher: Watcher) -> None:
    siege = besiege(watcher)
    hear, told = watcher.crowd.sieges.hear, (siege.signature, NOTE, siege.finding)
    hear(Change("deny", NOW_TS, *told, id="d0", end_ts=NOW_TS + 600, spare=("192.0.2.9",)))
    for number in range(1, 100):
        ts, lifts = NOW_TS + number, f"d{number - 1}"
        hear(Change("deny", ts, *told, id=f"d{number}", lifts=lifts, end_ts=ts + 600, spare=("192.0.2.9",)))
    hear(Change("leave", NOW_TS + 300, siege.signature, END, siege.finding, lifts="d99"))
    hear(Change("return", NOW_TS + 400, siege.signature, f"it is back: {NOTE}", siege.finding))
    hear(Change("alarm", NOW_TS + 500, CLASS, "nothing is done, because", found("other", "")))
    rows = [row for row in said(watcher) if row["event"] in {"siege", "decision"}]
    assert [(row["event"], row.get("verb") or row["action"]) for row in rows] == [
        *(("siege", "enter"), ("decision", "deny-request"), ("decision", "lift"), ("siege", "leave")),
        *(("siege", "return"), ("siege", "alarm")),
    ]
    assert rows[0]["text"].startswith(f"siege: {NOTE}; its senders would be banned for 10m")
    assert rows[0]["signature"] == {"method": "POST", "path": CLASS.path}
    assert rows[1]["text"].startswith("would turn away for 10m, sparing 1: ")
    assert rows[3]["text"] == f"siege over: POST /xmlrpc.php: {END}"
    assert rows[5]["text"] == "alarm: nothing is done, because"


@pytest.mark.parametrize(
    ("times", "agents", "why_not", "observe", "says"),
    [
        (1, False, "", False, "turned away in the web server, its senders banned for 10m"),
        (1, False, "", True, "would be turned away in the web server, its senders would be banned for 10m"),
        (1, False, "not set up", False, "its senders banned for 10m; not turned away in the web server: not set up"),
        (2, True, "", False, "browsers asked to show a cookie, who sends 2 of them by several agents banned for 10m"),
        (3, False, "nginx", True, "who sends 3 of them would be banned for 10m; not asked to show a cookie: nginx"),
    ],
)
def test_what_is_done_in_words(
    watcher: Watcher, times: int, agents: bool, why_not: str, observe: bool, says: str
) -> None:
    siege = besiege(watcher, times=times, agents=agents, asks=Signature("GET"))
    cannot: dict[Action, str] = {"deny-request": why_not, "limit": why_not} if why_not else {}
    assert what_is_done(siege, SiegeSettings(), cannot, observe=observe) == says
    siege.told = None
    assert "cookie" not in what_is_done(siege, SiegeSettings(), cannot, observe=observe)


# -- why sieges --------------------------------------------------------------------------------------------------------


def test_why_sieges_tells_what_was_done_with_renewals_in_one_line(tmp_path: Path) -> None:
    findings = found("a", "31 requests; nothing is done"), found("f", NOTE), found("s", NOTE, "192.0.2.7")
    ran = run(["why", "sieges", "--config", config_of(tmp_path, *findings, *siege_of())])
    assert ran.code == 0
    alarm, siege = ran.out.strip().split("\n\n")
    until = "POST /xmlrpc.php\\x1b[2J turned away until 2026-10-26 12:11:00 UTC"
    assert alarm.splitlines()[0] == "2026-10-26 12:00:00 UTC: alarm: 31 requests; nothing is done"
    assert siege.splitlines() == [
        f"2026-10-26 12:00:00 UTC: siege: {NOTE}",
        "  the last lines:",
        "    /var/log/access.log:7: 192.0.2.7 - - evil \\x1b[2J",
        f"  2026-10-26 12:00:00 UTC: {until} at most; renewed 2 times, spares 16 addresses now",
        f"  2026-10-26 12:05:00 UTC: the web server lets them all through again. {END.capitalize()}.",
        "  1 address sent too many of them; `tocsin why ADDRESS` tells more",
    ]
    assert "no guard is running" in ran.err


def test_why_sieges_of_a_guard_that_observes(tmp_path: Path) -> None:
    ran = run(["why", "sieges", "--config", config_of(tmp_path, found("f", NOTE), *siege_of("observing"))])
    assert "would have been turned away until" in ran.out
    assert "held back: observing" in ran.out


def test_why_sieges_knows_what_lasts_from_the_guard(
    tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    besiege(watcher)
    besiege(watcher, name="g", note="else").left_ts = NOW_TS + 300
    running(monkeypatch, watcher)
    ran = run(["why", "sieges", "--config", config_of(tmp_path, found("f", NOTE), found("g", "else"))])
    assert "it lasts: 498 in the last minute; its senders would be banned for 10m" in ran.out
    assert "siege: else" in ran.out
    assert "it was over 2026-10-26 12:05:00 UTC" in ran.out


def test_why_sieges_as_json(tmp_path: Path) -> None:
    (document,) = run(["why", "sieges", "--json", "--config", config_of(tmp_path, found("f", NOTE), *siege_of())]).rows
    assert (document["asked"], document["running"]) == ("sieges", False)
    (siege,) = document["sieges"]
    assert siege.keys() == {"finding", "steps", "senders", "now"}
    assert [(step["decision"]["action"], step["renewed"], step["spares"]) for step in siege["steps"]] == [
        ("deny-request", 2, 16),
        ("lift", 0, 0),
    ]
    assert "spare" not in siege["steps"][0]["decision"]


def test_why_sieges_where_there_was_none(tmp_path: Path) -> None:
    assert "No siege is known" in run(["why", "sieges", "--config", config_of(tmp_path)]).out


def test_why_an_address_was_banned_for_a_siege(tmp_path: Path) -> None:
    ban = Decision("b", "ban", "192.0.2.7", NOW_TS, NOW_TS + 600, "contrast", "s")
    ran = run(["why", "192.0.2.7", "--config", config_of(tmp_path, found("s", NOTE, "192.0.2.7"), ban)])
    assert f"  {NOTE}." in ran.out
    assert "the rule: Bans an address for 10m when it sends requests of a class under siege" in ran.out


# -- status ------------------------------------------------------------------------------------------------------------


def status_with(folder: Path, monkeypatch: pytest.MonkeyPatch, guard: Watcher) -> str:
    running(monkeypatch, guard)
    ran = run(["status", "--config", config_of(folder)])
    assert ran.code == 0
    return ran.out


def test_status_shows_sieges(tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    siege = besiege(watcher)
    siege.denied, siege.denied_until_ts = "d", NOW_TS + 600
    besiege(watcher, name="g").left_ts = NOW_TS + 60
    watcher.pipeline.cannot = {}
    watcher.policy.settings = replace(watcher.policy.settings, observe=False)
    watcher.crowd.mask = 3
    out = status_with(tmp_path, monkeypatch, watcher)
    assert "Contrast: normal traffic is known from 2 h and 40 visitors; one address in 4 is looked at" in out
    row = next(line for line in out.splitlines() if line.startswith("POST /xmlrpc.php"))
    for part in ("  498", "  0.28", "  1  ", "  turned away in", "(until 2026-10-26 12:10:00 UTC)"):
        assert part in row
    assert "Siege over: POST /xmlrpc.php, 2026-10-26 12:00:00 UTC to 2026-10-26 12:01:00 UTC" in out
    assert "why sieges" in out


def test_status_of_a_guard_that_observes_names_no_lease(
    tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch
) -> None:
    siege = besiege(watcher)
    siege.denied, siege.denied_until_ts = "d", NOW_TS + 600
    watcher.pipeline.cannot = {}
    out = status_with(tmp_path, monkeypatch, watcher)
    assert "would be turned away in the web server, its senders would be banned for 10m\n" in out


def test_status_says_what_contrast_knows(tmp_path: Path, watcher: Watcher, monkeypatch: pytest.MonkeyPatch) -> None:
    watcher.crowd.sieges.suffering_until_ts = math.inf
    out = status_with(tmp_path / "1", monkeypatch, watcher)
    assert "all addresses are looked at; the machine suffers, so half as much is enough" in out
    assert "why sieges" not in out
    watcher.crowd.normal.seconds = 300.0
    out = status_with(tmp_path / "2", monkeypatch, watcher)
    assert "still learning what is normal, 5 min of 15 min and 40 of 30 visitors so far" in out
    watcher.crowd.settings = SiegeSettings(enabled=False)
    assert "Contrast is off: no siege is noticed" in status_with(tmp_path / "3", monkeypatch, watcher)


# -- rules -------------------------------------------------------------------------------------------------------------


def test_rules_list_what_bans_beside_them_with_the_configured_numbers(tmp_path: Path) -> None:
    numbers = 'factor = 7.5\nleast = 33\nban = "25m"\nhit_share = 0.02\ncalm = "3m"'
    config = config_in(tmp_path, f"[contrast]\n{numbers}\n[prefixes]\nenabled = false\n")
    out = run(["rules", "--config", config]).out
    assert "contrast  Sieges by ever new addresses" in out
    for part in ("for 25m", "33 such requests more than 7.5 times", "calm for 3m", "more than 2% of the visitors"):
        assert part in out
    assert "network (off)" in out
    rows = run(["rules", "--json", "--config", config]).rows
    built_in = [row["watcher"] for row in rows if "watcher" in row]
    assert [(row["id"], row["enabled"], row["section"]) for row in built_in] == [
        ("contrast", True, "contrast"),
        ("network", False, "prefixes"),
    ]
    assert all("id" in row for row in rows[: -len(built_in)])


@pytest.mark.parametrize(("rule", "code"), [("contrast", 0), ("network", 0), ("no-such", 64)])
def test_what_is_built_in_can_be_reset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, rule: str, code: int) -> None:
    monkeypatch.setattr("tocsin.cli.asking.ask", lambda _config, _request: {"reset": False})
    assert run(["rules", "reset", rule, "--config", config_in(tmp_path)]).code == code


# -- replay ------------------------------------------------------------------------------------------------------------


def test_replay_folds_renewals_into_one_row(capsys: pytest.CaptureFixture[str]) -> None:
    out, rows = Output(), list[Row]()
    take = _to_rows(out, rows)
    for decision in siege_of():
        take(decision, found("f", NOTE))
    _say_decisions(out, rows)
    _, denial, end = capsys.readouterr().out.strip().splitlines()
    assert "deny-request  POST /xmlrpc.php\\x1b[2J  11m" in denial
    assert denial.endswith(f"renewed 2 times, spares 16 in the end; {NOTE}")
    assert end.endswith(END)
