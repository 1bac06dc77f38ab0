"""`tocsin guard` as people start it, in a namespace of its own, and every command that steers it."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guarding import NOBODY, TOCSIN, Guard, guarding, request_line, scratch
from netns import Namespace, missing, wait_until

from tocsin.control import ask
from tocsin.ledger.store import Ledger
from tocsin.model import Decision

pytestmark = pytest.mark.root

ALLOW = '[allow]\naddresses = ["192.0.2.200"]\n'
AGENT = "\x1b[2J[red]x[/red]"


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network of its own."""
    if reason := missing():
        text = f"needs network namespaces with nftables: {reason}"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with Namespace() as made:
        yield made


@pytest.fixture
def guard(namespace: Namespace) -> Iterator[Guard]:
    """A guard at work."""
    with guarding(namespace, ALLOW) as one:
        yield one


@contextlib.contextmanager
def started(namespace: Namespace, *options: str) -> Iterator[Guard]:
    """A guard at work that was started with further options."""
    with scratch() as folder:
        one = Guard(namespace, folder, ALLOW)
        command = namespace.command(str(TOCSIN), "guard", *options, "--config", str(one.config))
        with one.said.open("ab") as out:
            one.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
        try:
            wait_until(lambda: "guard is on:" in one.said_text(), "guard at work")
            yield one
        finally:
            one.stop()


def attack(guard: Guard, address: str) -> None:
    """Requests that the shipped rule against XML-RPC floods counts, to its limit."""
    guard.write(*[request_line(address, agent=AGENT)] * 3)


def rows(done: subprocess.CompletedProcess[str]) -> list[Any]:
    """The JSON that a command printed."""
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_ban_from_the_log_to_why(guard: Guard) -> None:
    attack(guard, "203.0.113.5")
    guard.wait_banned("203.0.113.5")
    wait_until(lambda: "in the kernel: yes" in guard.run_cli("why", "203.0.113.5").stdout, "the ledger has the receipt")
    why = guard.run_cli("why", "203.0.113.5")
    assert why.returncode == 0
    assert "by rule wordpress-xmlrpc" in why.stdout
    assert f"{guard.log}:3: 203.0.113.5" in why.stdout
    assert "\\x1b[2J[red]x[/red]" in why.stdout
    assert "\x1b" not in why.stdout
    assert not why.stderr
    assert "203.0.113.5" in guard.run_cli("bans").stdout
    (status,) = rows(guard.run_cli("status", "--json"))
    assert status["guard"]["bans"]["active"] == 1
    assert status["guard"]["sources"][0]["format"] == "combined"
    assert status["guard"]["ban_latency_ms"]["count"] == 1
    shown = guard.run_cli("status")
    assert shown.returncode == 0
    assert str(guard.log) in shown.stdout


def test_ban_and_unban_by_hand(guard: Guard) -> None:
    done = guard.run_cli("ban", "198.51.100.7", "2001:db8:1:2::5", "198.51.100.128/25", "--for", "10m")
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "198.51.100.7 is banned for 10m.",
        "2001:db8:1:2::/64 is banned for 10m.",
        "198.51.100.128/25 is banned for 10m.",
    ]
    assert "198.51.100.7" in guard.in_kernel()
    unbanned = guard.run_cli("unban", "198.51.100.7")
    assert (unbanned.returncode, unbanned.stdout) == (0, "198.51.100.7 is unbanned.\n")
    assert "198.51.100.7" not in guard.in_kernel()
    assert guard.run_cli("unban", "198.51.100.7").stdout == "198.51.100.7 is not banned.\n"
    (reply,) = rows(guard.run_cli("unban", "--all", "--json"))
    assert sorted(reply["lifted"]) == ["198.51.100.128/25", "2001:db8:1:2::/64"]


def test_a_ban_for_good_is_said_as_such(guard: Guard) -> None:
    guard.tell("ban", "198.51.100.9", "--forever")
    wait_until(lambda: "tocsin: ban 198.51.100.9 for good\n" in guard.said_text(), "the guard tells the ban")


def test_resetting_rules(guard: Guard) -> None:
    done = guard.run_cli("rules", "reset", "wordpress-xmlrpc")
    assert (done.returncode, done.stdout) == (0, "Rule wordpress-xmlrpc was not stopped; nothing to do.\n")
    assert guard.run_cli("rules", "reset", "nonsense").returncode == 64


def test_json_lines_of_guard(namespace: Namespace) -> None:
    with started(namespace, "--json") as guard:
        attack(guard, "203.0.113.9")
        wait_until(lambda: '"decision"' in guard.said_text(), "the guard tells the ban")
        lines = [line for line in guard.said_text().splitlines() if line.startswith("{")]
        events = [json.loads(line) for line in lines]
    assert events[0]["event"] == "discovered"
    assert events[0]["configured"][0]["path"] == str(guard.log)
    decision = next(event for event in events if event["event"] == "decision")
    assert (decision["action"], decision["subject"], decision["held"]) == ("ban", "203.0.113.9", None)


def test_the_guard_ends_in_peace_and_a_second_one_is_refused(guard: Guard) -> None:
    second = guard.run_cli("guard")
    assert second.returncode == 69
    assert "another guard runs already" in second.stderr
    assert guard.process is not None
    guard.process.terminate()
    assert guard.process.wait(20) == 0
    assert guard.run_cli("status").returncode == 69


def test_two_guards_do_not_share_their_state(guard: Guard, tmp_path: Path) -> None:
    second = Guard(guard.namespace, tmp_path, state=guard.state)
    second.start(wait=False)
    try:
        wait_until(lambda: "starting watcher and enforcer again" in second.said_text(), "the second one gives up")
        assert f"another guard has its state in {guard.state}" in second.said_text()
        assert second.status() is None
        guard.stop()
        wait_until(lambda: second.status() is not None, "the second one at work, now that it is alone")
    finally:
        second.stop()


def test_a_guard_that_nobody_can_hear_goes_on(namespace: Namespace) -> None:
    """Its output goes to a file on a full disk; its watcher ends, and comes again."""
    with scratch() as folder:
        guard = Guard(namespace, folder)
        guard.said = Path("/dev/full")
        guard.start(wait=False)
        try:
            wait_until(lambda: guard.status() is not None, "guard at work")
            watcher = guard.pids()["guard"]
            guard.kill("guard")
            wait_until(lambda: guard.pids().get("guard", watcher) != watcher, "another watcher")
            wait_until(lambda: guard.status() is not None, "guard at work again")
            attack(guard, "203.0.113.5")
            wait_until(lambda: guard.in_kernel() == {"203.0.113.5"}, "the ban")
        finally:
            guard.stop()


def test_observing_bans_nobody(namespace: Namespace) -> None:
    with started(namespace, "--observe") as guard:
        attack(guard, "203.0.113.5")
        wait_until(lambda: "would ban 203.0.113.5" in guard.said_text(), "the guard tells what it would do")
        assert guard.in_kernel() == set()
        assert "Observing: what would be banned is said, nothing is banned." in guard.said_text()
        assert "It only observes" in guard.tell("status")


def test_check_proves_a_ban(namespace: Namespace) -> None:
    with scratch() as folder:
        one = Guard(namespace, folder)
        one.write(request_line("192.0.2.1"))
        said = one.tell("check")
        assert "ok    firewall: ban an IPv4 address" in said
        assert "combined, fits 100% of its last 1 lines" in said
        assert "All is well." in said
        assert "selftest" not in namespace.run("nft", "list", "ruleset")


def test_a_ban_longer_than_any_is_refused_before_it_is_one(guard: Guard) -> None:
    done = guard.run_cli("ban", "203.0.113.60", "--for", "99999999d")
    assert done.returncode == 64
    assert "expected one second to 36500d" in done.stderr
    assert "for good is --forever" in done.stderr
    reply = ask(guard.run_dir, {"cmd": "ban", "subject": "203.0.113.60", "seconds": 99999999 * 86400})
    assert (reply["kind"], "36500d" in reply["error"]) == ("usage", True)
    assert not guard.in_kernel()
    assert guard.tell("ban", "203.0.113.60", "--for", "36500d") == "203.0.113.60 is banned for 36500d.\n"
    assert "36500d" in guard.namespace.run("nft", "list", "set", "inet", "tocsin", "host4")


@pytest.mark.parametrize(
    ("subject", "what"),
    [
        ("127.0.0.1", "127.0.0.0/8: this machine itself"),
        ("169.254.1.1", "169.254.0.0/16: link-local"),
        ("fe80::1", "link-local"),
        ("224.0.0.1", "multicast"),
        ("192.0.2.200", "[allow] in the configuration), --force does not change that; take it off the allow list"),
        ("203.0.0.0/8", "wider than the widest prefix allowed, /16"),
    ],
)
def test_what_no_firewall_takes_is_refused_at_once(guard: Guard, subject: str, what: str) -> None:
    for force in ((), ("--force",)):
        done = guard.run_cli("ban", subject, *force)
        assert done.returncode == 77
        assert what in done.stderr
        assert "insist" not in done.stderr
    assert guard.need_status()["bans"]["active"] == 0
    assert not guard.in_kernel()


def test_a_ban_that_the_firewall_refuses_is_none(guard: Guard) -> None:
    """The enforcer has its allow list from the start: what a reload takes off it, only it still knows."""
    guard.configure("")
    assert ask(guard.run_dir, {"cmd": "reload"})["ok"]
    done = guard.run_cli("ban", "192.0.2.200", "--for", "1h")
    assert done.returncode == 69
    assert "the firewall refused: 192.0.2.200 holds an address of the allowlist" in done.stderr
    assert guard.need_status()["bans"]["active"] == 0
    wait_until(lambda: guard.tell("bans").startswith("0 bans in force"), "the ledger knows of no ban")
    time.sleep(2.5)  # the reconciling that followed would have tried again each second
    assert guard.said_text().count("holds an address of the allowlist") == 1
    assert "reconciling" not in guard.said_text()
    assert "192.0.2.200 is not banned now" in guard.tell("why", "192.0.2.200")


def test_a_ban_of_before_that_the_firewall_refuses_is_taken_back(namespace: Namespace) -> None:
    """It is in a ledger since a version that let it be forced."""
    with scratch() as folder:
        guard = Guard(namespace, folder)
        ledger = Ledger(guard.state / "ledger.db", 9e9, 1000, time.time)
        ledger.start()
        ledger.decision(Decision("ban~127.0.0.1~0.0~for-good", "ban", "127.0.0.1", 0.0, None, "", None, "operator"))
        assert ledger.close(10)
        for path in (guard.state, *guard.state.iterdir()):
            os.chown(path, NOBODY, NOBODY)
        try:
            guard.start()
            wait_until(lambda: "unban 127.0.0.1: the firewall refused it" in guard.said_text(), "it is taken back")
            guard.stop()
            guard.start()
            assert guard.need_status()["bans"]["active"] == 0
            assert guard.said_text().count("127.0.0.1") == 2, "it is said once, and what it holds"
        finally:
            guard.stop()
