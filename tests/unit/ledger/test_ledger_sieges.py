"""Sieges in the ledger: renewals are one step with what they follow, and crowd nothing else out."""

from __future__ import annotations

from pathlib import Path

from ledger_rows import DAY_S, NOW_TS, ban

from tocsin.decide.siege import LEASE_S, RENEWED
from tocsin.ledger.reader import Reader
from tocsin.ledger.store import Ledger
from tocsin.model import Decision, Finding, Receipt, Signature

CLASS = Signature("POST", "/xmlrpc.php")
NOTE = "140 requests POST /xmlrpc.php within 60 s by strangers"


def found(name: str, subject: str = "", note: str = NOTE) -> Finding:
    return Finding(name, "contrast", subject, NOW_TS, 140, 60.0, note=note, signature=None if subject else CLASS)


def deny(finding: str, number: int, spares: int, note: str) -> Decision:
    ts, spare = NOW_TS + number, tuple(f"192.0.2.{each}" for each in range(spares))
    return Decision(
        f"deny~{finding}~{number}", "deny-request", "", ts, ts + LEASE_S, "contrast", finding, note=note,
        signature=CLASS, spare=spare,
    )  # fmt: skip


def lift(finding: str, number: int, note: str) -> Decision:
    lifts = f"deny~{finding}~{number}"
    return Decision(
        f"lift~{lifts}", "lift", "", NOW_TS + number + 1, None, "contrast", finding, lifts=lifts, note=note,
        signature=CLASS,
    )  # fmt: skip


def stretch(finding: str, first: int, last: int) -> list[Decision]:
    """A denial, its renewals, its end; it spares one more each time."""
    rows = [deny(finding, first, first, NOTE)]
    for number in range(first + 1, last + 1):
        rows += [lift(finding, number - 1, RENEWED), deny(finding, number, number, RENEWED)]
    return [*rows, lift(finding, last, "no more than normal for 120 s")]


def ledger_with(path: Path, findings: list[Finding], decisions: list[Decision]) -> Ledger:
    ledger = Ledger(path, 90 * DAY_S, 100_000, lambda: NOW_TS)
    ledger.start()
    for each in findings:
        ledger.finding(each)
    for decision in decisions:
        ledger.decision(decision)
    return ledger


def test_renewals_are_one_step_and_two_sieges_are_told_apart(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    one, other = stretch("one", 1, 40), stretch("other", 1, 1)
    mixed = [one[0], *other, *one[1:], *stretch("one", 50, 52)]
    findings = [found("alarm", note="nothing is done"), found("one"), found("other", note="else")]
    ledger = ledger_with(path, [*findings, found("s1", "192.0.2.7"), found("s2", "192.0.2.8")], mixed)
    ledger.receipts([Receipt("deny", "", "deny~one~40", ok=False, ts=NOW_TS, error="no room")])
    assert ledger.close(10)
    with Reader(path) as reader:
        alarm, first, second = reader.sieges()
        assert [each.finding.id for each in reader.sieges(2)] == ["one", "other"]
    assert (alarm.finding.id, alarm.steps, alarm.senders) == ("alarm", (), 0)
    told = [(step.decision.id, step.renewed, step.spares, step.until_ts) for step in first.steps]
    assert told == [
        ("deny~one~1", 39, 40, NOW_TS + 40 + LEASE_S),
        ("lift~deny~one~40", 0, 0, None),
        ("deny~one~50", 2, 52, NOW_TS + 52 + LEASE_S),
        ("lift~deny~one~52", 0, 0, None),
    ]
    assert [answer.error for answer in first.steps[0].answers] == ["no room"]
    assert first.senders == 2
    assert [step.decision.action for step in second.steps] == ["deny-request", "lift"]
    assert second.senders == 0


def test_what_is_left_of_a_pruned_siege_is_told(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert ledger_with(path, [found("one")], stretch("one", 1, 5)[4:]).close(10)
    with Reader(path) as reader:
        (siege,) = reader.sieges()
    assert [(step.decision.id, step.renewed) for step in siege.steps] == [("deny~one~3", 3), ("lift~deny~one~5", 0)]


def test_renewals_crowd_no_other_decision_out(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    assert ledger_with(path, [], [ban("192.0.2.7"), *stretch("one", 1, 200)]).close(10)
    with Reader(path) as reader:
        assert [each.action for each in reader.decisions(3)] == ["lift", "deny-request", "ban"]


def test_what_is_normal_is_there_once_it_was_saved(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    ledger = ledger_with(path, [], [])
    ledger.checkpoint(b"state", [], 1, None)
    assert ledger.wait_written(10)
    with Reader(path) as reader:
        assert reader.normal() is None
    ledger.checkpoint(b"state", [], 2, b"normal")
    assert ledger.close(10)
    with Reader(path) as reader:
        assert reader.normal() == b"normal"
