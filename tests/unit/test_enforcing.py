"""The watcher's side of enforcement against a firewall that does not do what it is told."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.enforce.client import Enforcer
from tocsin.enforce.protocol import Actual, Apply, Channel, Read, Receipts, ToEnforcer
from tocsin.enforcing import READ_EVERY_S, Enforcing
from tocsin.ledger.store import Ledger
from tocsin.model import MAX_BAN_S, Op, Receipt

START_TS = 1_700_000_000.0


class Clock:
    """Both clocks of a simulated day."""

    def __init__(self) -> None:
        self.passed_s = 0.0

    def time(self) -> float:
        """Unix time."""
        return START_TS + self.passed_s

    def monotonic(self) -> float:
        """Since boot."""
        return 1000.0 + self.passed_s


class Scene:
    """Enforcing, and a firewall that holds nothing and answers every Op with `error`, `refused` or not."""

    def __init__(self, folder: Path, clock: Clock, near: socket.socket, far: socket.socket) -> None:
        self.clock = clock
        self.error, self.refused, self.unreadable = "no memory", False, ""
        self.said: list[str] = []
        self.ops: list[Op] = []
        self.reads = 0
        self.policy = Policy(PolicySettings(), AllowList())
        self.channel: Channel[ToEnforcer] = Channel(far, ToEnforcer)
        ledger = Ledger(folder / "ledger.db", 9e9, 1000, clock.time)
        self.enforcing = Enforcing(Enforcer(near), self.policy, ledger, self.say, folder / "marker")

    def say(self, event: str, text: str, **_fields: Any) -> None:
        """What guard would print."""
        self.said.append(f"{event}: {text}")

    def run(self, seconds: float) -> None:
        """As the loop does, a second at a time."""
        until_s = self.clock.passed_s + seconds
        while self.clock.passed_s < until_s:
            self.enforcing.tick(self.clock.monotonic())
            self.answer()
            self.enforcing.receive()
            self.clock.passed_s += 0.5

    def answer(self) -> None:
        """The far side's turn."""
        for message in self.channel.receive():
            if isinstance(message, Read):
                self.reads += 1
                self.channel.push(Actual(message.id, "host4", b"", last=True, error=self.unreadable))
            elif isinstance(message, Apply):
                self.ops += message.ops
                self.channel.push(Receipts(message.id, [self.receipt(op) for op in message.ops]))

    def receipt(self, op: Op) -> Receipt:
        """What came of an Op."""
        ts, ok = self.clock.time(), not self.error
        return Receipt(op.verb, op.subject, op.decision, ok, ts, self.error, refused=self.refused)


@pytest.fixture
def scene(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Scene]:
    """As it is after the first reading."""
    clock, (near, far) = Clock(), socket.socketpair()
    monkeypatch.setattr("tocsin.enforcing.time", clock)
    with near, far:
        one = Scene(tmp_path, clock, near, far)
        one.run(2)
        yield one


def test_what_fails_is_tried_ever_more_rarely_and_said_hourly(scene: Scene) -> None:
    scene.enforcing.apply(scene.policy.ban("192.0.2.7", None, scene.clock.time()))
    scene.run(9000)
    assert scene.said.count("failed: ban 192.0.2.7 failed: no memory") == 3
    assert len(scene.said) == 3, "nor is each try a line"
    assert len(scene.ops) <= 11 + 9000 / READ_EVERY_S
    before = len(scene.ops)
    scene.enforcing.apply(scene.policy.ban("192.0.2.8", None, scene.clock.time()))
    scene.run(5)
    assert "failed: ban 192.0.2.8 failed: no memory" in scene.said
    assert [op.subject for op in scene.ops[before:]].count("192.0.2.8") >= 3, "it has a pause of its own"


def test_a_firewall_that_cannot_be_read_is_no_litany(scene: Scene) -> None:
    scene.unreadable = "not permitted"
    scene.enforcing.read_now()
    scene.run(7000)
    assert scene.said.count("failed: the firewall cannot be read: not permitted") == 2
    assert scene.reads < 30


def test_what_is_refused_is_handed_over_and_not_tried_again(scene: Scene) -> None:
    scene.refused = True
    scene.enforcing.apply(scene.policy.ban("192.0.2.7", 60.0, scene.clock.time()))
    scene.run(30)
    assert [(one.subject, one.error) for one in scene.enforcing.take_refused()] == [("192.0.2.7", "no memory")]
    assert not scene.enforcing.take_refused()
    assert (len(scene.ops), scene.said, scene.enforcing.error) == (1, [], "")


def test_a_span_beyond_a_century_is_for_good_from_the_first(scene: Scene) -> None:
    scene.error = ""
    for subject, seconds in (("192.0.2.7", MAX_BAN_S), ("192.0.2.8", MAX_BAN_S + 1.0)):
        scene.enforcing.apply(scene.policy.ban(subject, seconds, scene.clock.time()))
    scene.run(1)
    assert [op.seconds for op in scene.ops] == [MAX_BAN_S, None]
