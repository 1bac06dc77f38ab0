"""One clock for all logs: zones, boots, late syslog, years, silences."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone
from zoneinfo import ZoneInfo

import pytest
from msgspec.structs import replace

from tocsin.explain.evidence.clocks import Lateness, ServerZone, Voice, anchor_ts, named_offsets, repair, uptime_of
from tocsin.explain.evidence.gaps import Minute, gaps_of
from tocsin.formats.told import Clock, Told
from tocsin.server_events import ClockTie, ProcessKilled, ServerEvent, ServiceState

JUNE_TS = 1_466_208_000.0  # 18 June 2016, 00:00 UTC
DAY_S = 86400
PARIS = ZoneInfo("Europe/Paris")
KILL = ProcessKilled(4747880.176918, "apache2", 6898, "oom", rss_bytes=103_000_000)
TIES = (ClockTie(1466221659.162, 4747881.577925), ClockTie(1466221660.286, 4747882.704025))


def voice(source: str, *told: tuple[ServerEvent, Clock, str]) -> Voice:
    lines = [Told(event, number, text, clock) for number, (event, clock, text) in enumerate(told, 1)]
    return Voice(source, lines, Lateness(), {})


def test_two_audit_lines_place_the_founding_kill() -> None:
    dmesg = voice("dmesg", (KILL, "uptime", "[4747880.176918] Killed"), *((tie, "zone", "audit") for tie in TIES))
    repaired = repair([dmesg], ServerZone([], UTC))
    assert not repaired.unplaced
    fact = repaired.facts[0]
    assert fact.ts == fact.event.ts == pytest.approx(1466221657.76, abs=0.01)  # 2016-06-18 03:47:37.76 UTC
    assert 0.0005 < fact.spread_s < 0.002
    assert repaired.notes["dmesg"][0].args["count"] == 2


def test_ties_of_another_log_serve_only_where_they_agree() -> None:
    dmesg = voice("dmesg", (KILL, "uptime", "x"))
    kern = voice("kern.log", (TIES[0], "zone", "audit"))
    assert repair([dmesg, kern], ServerZone([], UTC)).facts
    rebooted = voice("kern.log", (TIES[0], "zone", "audit"), (ClockTie(1466221659.0, 17.0), "zone", "audit"))
    repaired = repair([dmesg, rebooted], ServerZone([], UTC))
    assert not repaired.facts
    assert repaired.unplaced[0].ts == KILL.ts


def test_the_same_event_in_syslog_places_the_boot() -> None:
    walled = ProcessKilled(JUNE_TS + 3600, "apache2", 6898, "oom", rss_bytes=103_000_000)
    other = ServiceState(4747890.0, "mysql", "died")
    dmesg = voice("dmesg", (KILL, "uptime", "x"), (other, "uptime", "y"))
    repaired = repair([dmesg, voice("syslog", (walled, "local", "z"))], ServerZone([(JUNE_TS, 7200)], UTC))
    assert [fact.ts - JUNE_TS for fact in repaired.facts] == [-3600, -3600, pytest.approx(-3590.2, abs=0.1)]
    assert repaired.boots["dmesg"] == pytest.approx(JUNE_TS - 3600 - KILL.ts)


def test_times_without_a_zone_are_the_access_logs() -> None:
    zone = ServerZone([(JUNE_TS, -14400), (JUNE_TS + DAY_S, -14400)], UTC)
    assert zone.offset_s == -14400
    assert zone.ts(JUNE_TS) == JUNE_TS + 14400
    assert ServerZone([], PARIS).ts(JUNE_TS) == JUNE_TS - 7200
    assert ServerZone([], PARIS).offset_s is None


def test_summer_time_is_known_where_the_zone_agrees_and_else_the_nearest_day_tells() -> None:
    january = JUNE_TS - 150 * DAY_S
    assert ServerZone([(JUNE_TS - 7200, 7200)], PARIS).ts(january) == january - 3600
    both = ServerZone([(january, 3600), (JUNE_TS, 7200)], UTC)
    assert (both.ts(january + DAY_S), both.ts(JUNE_TS + DAY_S)) == (january + DAY_S - 3600, JUNE_TS + DAY_S - 7200)
    assert ServerZone([], timezone(timedelta(hours=14))).ts(1e18) == 1e18


def test_a_copied_files_modification_time_is_not_believed() -> None:
    span = (JUNE_TS, JUNE_TS + 3 * DAY_S)
    assert anchor_ts(1.8e9, None) == 1.8e9
    assert anchor_ts(JUNE_TS + 10 * DAY_S, span) == JUNE_TS + 10 * DAY_S
    assert JUNE_TS + 180 * DAY_S < anchor_ts(1.8e9, span) < JUNE_TS + 190 * DAY_S
    assert anchor_ts(JUNE_TS - DAY_S, span) > JUNE_TS


def test_a_late_syslog_line_stands_where_the_kernel_said_it() -> None:
    text = "Jun 18 00:47:00 web kernel: [ 1000.000000] Killed"
    late = voice("syslog", (ProcessKilled(JUNE_TS + 2820, "apache2", 1, "oom"), "local", text))
    late.told.append(Told(ServiceState(JUNE_TS + 2825, "mysql", "died"), 2, "Jun 18 00:47:05 web mysqld: died"))
    for number in range(100):
        late.lateness.add(JUNE_TS + number * 10, number * 10.0)
    late.lateness.add(JUNE_TS + 2820, 1000.0)
    repaired = repair([late], ServerZone([], UTC))
    killed, died = repaired.facts
    assert (killed.ts, killed.spread_s) == (JUNE_TS + 1000, 0.0)
    assert (died.ts, died.spread_s) == (JUNE_TS + 2825, 1820.0)
    assert repaired.notes["syslog"]


@pytest.mark.parametrize(
    ("text", "uptime_s"),
    [
        ("Jun 18 00:47:00 web kernel: [ 1000.000000] Killed", 1000.0),
        ("2026-02-08T00:40:07.136582+00:00 web kernel: [4747880.176918] Killed", 4747880.176918),
        ("Jun 18 00:47:00 web sshd[1]: Invalid user x kernel: [ 1000.000000] from 192.0.2.1", None),
        ("Jun 18 00:47:00 web kernel: Killed", None),
    ],
)
def test_only_the_kernels_own_stamp_is_an_uptime(text: str, uptime_s: float | None) -> None:
    assert uptime_of(text) == uptime_s


def minutes(*spans: tuple[int, int], every: int = 1) -> list[Minute]:
    return [Minute(m, m * 60.0, m * 60.0 + 30) for first, last in spans for m in range(first, last) if m % every == 0]


def test_a_busy_logs_silence_is_a_gap_with_its_last_and_first_line() -> None:
    found = gaps_of(minutes((0, 300), (319, 600)))
    assert [(gap.start, gap.end) for gap in found] == [(299 * 60 + 30, 319 * 60)]


@pytest.mark.parametrize(
    "spoke",
    [
        minutes((0, 600)),
        minutes((0, 6000), every=20),  # speaks seldom
        minutes((0, 3), (40, 43)),  # too short to tell
        [*minutes((0, 200)), *minutes((200, 400), every=7), *minutes((400, 700), every=45), *minutes((700, 900))],
        minutes(*((day * 1440 + 360, day * 1440 + 1380) for day in range(6))),  # silent every night
        [],
    ],
)
def test_what_is_no_gap(spoke: list[Minute]) -> None:
    assert gaps_of(spoke) == ()


def test_an_outage_at_a_time_that_is_busy_on_other_days() -> None:
    days = [(day * 1440 + 360, day * 1440 + 1380) for day in range(6)]
    days[3:4] = [(days[3][0], days[3][0] + 300), (days[3][0] + 340, days[3][1])]
    assert [gap.start for gap in gaps_of(minutes(*days))] == [(days[3][1] - 1) * 60 + 30]


@pytest.mark.parametrize(
    ("stamp", "offsets"),
    [
        ("2016-06-18T03:47:37.760000+02:00", [7200]),
        ("2016-06-18T03:47:37-0430", [-16200]),
        ("2016-06-18T03:47:37Z", []),
        ("Jun 18 03:47:37", []),
    ],
)
def test_the_zone_on_the_lines_of_the_system(stamp: str, offsets: list[int]) -> None:
    line = Told(replace(KILL, ts=JUNE_TS + 13_657), 1, f"{stamp} web kernel: Killed", "zone")
    assert named_offsets([line]) == [(JUNE_TS, offset) for offset in offsets]
