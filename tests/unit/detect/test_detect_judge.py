"""A rule's judge: what of its filter's failures counts, and what counts later, at its own time, with its own line."""

from __future__ import annotations

from datetime import UTC

import pytest
from msgspec import structs

from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.fail2ban.model import FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import rules_of
from tocsin.formats import Anchor, RawLines
from tocsin.model import Batch, Finding
from tocsin.rules import Failure, Judge, Place, Verdict

NOW_TS = 1_767_225_600.0  # 2026-01-01T00:00:00Z
CLIENT = "192.0.2.7"
FILTER = FilterSpec("any", failregex=("^ failure from <HOST>$",))


def engine_of(judge: Judge | None, lateness_s: float = 300.0) -> Engine:
    """An engine with one jail: three failures within a minute."""
    (rule,) = rules_of(Loaded("", (Jail("any", FILTER, logpath=("log",), maxretry=3, findtime_s=60.0),)), UTC).rules
    return Engine([structs.replace(rule, judge=judge)], Limits(lateness_s=lateness_s))


class Scene:
    """An engine whose judge lets `waits` wait."""

    def __init__(self, waits: Verdict = "waits", lateness_s: float = 300.0) -> None:
        self.verdict: Verdict = waits
        self.waiting: list[tuple[Failure, float, Place]] = []
        self.found: list[Finding] = []
        self.engine = engine_of(self._judge, lateness_s)
        self.offset = 0

    def _judge(self, failure: Failure, ts: float, place: Place) -> Verdict:
        if self.verdict == "waits":
            self.waiting.append((failure, ts, place))
        return self.verdict

    def _on_finding(self, finding: Finding) -> float:
        self.found.append(finding)
        return finding.ts + 600

    def line(self, after_s: float, client: str = CLIENT) -> None:
        """A failure, so long after the beginning."""
        line = f"2026-01-01 00:{int(after_s) // 60:02}:{int(after_s) % 60:02} failure from {client}\n".encode()
        batch = Batch("log", line, self.offset, 1)
        self.engine.step(batch, RawLines(), Anchor(NOW_TS + after_s, UTC), self._on_finding)
        self.offset += len(line)

    def late(self) -> None:
        """All that waited counts now."""
        for failure, ts, place in self.waiting:
            self.engine.count("any", failure, ts, place, self._on_finding)
        self.waiting = []


def test_what_is_ignored_never_counts() -> None:
    scene = Scene("ignored")
    for after_s in range(9):
        scene.line(after_s)
    assert scene.found == []
    assert scene.engine.trackers[0].counted == 0


def test_what_waited_counts_at_its_own_time_with_its_own_line() -> None:
    scene = Scene()
    scene.line(0)
    scene.line(10)
    scene.verdict = "counts"
    scene.line(50)
    assert scene.found == []
    scene.late()
    (finding,) = scene.found
    assert finding.subject == CLIENT
    assert sorted(line.offset for line in finding.evidence) == [
        0,
        len("2026-01-01 00:00:00 failure from 192.0.2.7\n"),
        86,
    ]
    straight = Scene("counts")
    for after_s in (0, 10, 50):
        straight.line(after_s)
    assert {line.text for line in finding.evidence} == {line.text for line in straight.found[0].evidence}


def test_what_waited_is_no_newer_for_that() -> None:
    scene = Scene()
    scene.line(0)
    scene.verdict = "counts"
    scene.line(55)
    scene.line(65)
    scene.late()
    assert scene.found == [], "65 s lie between the first and the last"


def test_who_is_banned_by_then_is_not_counted_again() -> None:
    scene = Scene()
    for after_s in (0, 1, 2):
        scene.line(after_s)
    waiting = list(scene.waiting)
    scene.late()
    assert len(scene.found) == 1
    scene.waiting = waiting
    scene.late()
    assert len(scene.found) == 1
    assert scene.engine.counts.stopped == 3


def test_what_has_waited_beyond_the_lateness_is_counted_as_late() -> None:
    scene = Scene(lateness_s=30.0)
    scene.line(0)
    scene.verdict = "counts"
    scene.line(40, "192.0.2.8")
    scene.late()
    assert scene.engine.counts.late == 1
    assert scene.engine.trackers[0].counted == 1


@pytest.mark.parametrize("rule", ["gone", "any"])
def test_a_rule_that_has_gone_meanwhile_counts_nothing(rule: str) -> None:
    scene = Scene()
    for after_s in (0, 1, 2):
        scene.line(after_s)
    for failure, ts, place in scene.waiting:
        scene.engine.count(rule, failure, ts, place, scene._on_finding)
    assert len(scene.found) == (rule == "any")
