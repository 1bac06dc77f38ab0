"""A reload: changed rules are taken up, broken ones are not, and counting and bans go on."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest
from enforcing import Site
from guarding import Guard, guarding, request_line
from netns import wait_until

pytestmark = pytest.mark.root
RULE = """
[night-watch]
title = "Somebody at the back door"
on = "http-request"
where = { path = "/back-door" }
limit = LIMIT
within = "10m"
ban = "1h"
"""


class Reloading:
    """A guard with a rule file of its own."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self.file = guard.folder / "rules.toml"
        self.said = 0

    def rule(self, text: str, expected: str) -> str:
        """Write the rules, say so by SIGHUP to the supervisor, and wait for what guard says; its new words."""
        self.file.write_text(text)
        self.said = len(self.guard.said_text())
        os.kill(self.guard.pids()["supervise"], signal.SIGHUP)
        wait_until(lambda: expected in self.guard.said_text()[self.said :], f"guard says {expected!r}")
        return self.guard.said_text()[self.said :]

    def knock(self, client: str, times: int) -> None:
        """So many lines that the rule counts."""
        self.guard.write(*times * [request_line(client, "GET /back-door HTTP/1.1")])


@pytest.fixture
def reloading(site: Site) -> Iterator[Reloading]:
    """Guard at work with the rule's limit at 2."""
    with guarding(site.server) as guard:
        one = Reloading(guard)
        guard.configure(f'[rules]\npaths = ["{one.file}"]\n')
        one.rule(RULE.replace("LIMIT", "2"), "reloaded")
        yield one


def test_a_broken_file_changes_nothing_and_is_named(reloading: Reloading) -> None:
    said = reloading.rule(RULE.replace("LIMIT", '"two"').replace("path =", "paht ="), "the old one stays")
    assert f"{reloading.file}:5" in said, "the unknown field, with its line"
    assert f"{reloading.file}:6" in said, "the limit that is none, in the same go"
    reloading.guard.check()
    reloading.knock("198.51.100.1", 2)
    reloading.guard.wait_banned("198.51.100.1")


def test_a_broken_configuration_changes_nothing(reloading: Reloading) -> None:
    config = reloading.guard.config.read_text()
    reloading.guard.config.write_text(config + "[bans]\ndefault = true\n")
    reloading.rule(RULE.replace("LIMIT", "9"), "the old one stays")
    reloading.knock("198.51.100.2", 2)
    reloading.guard.wait_banned("198.51.100.2")


def test_a_good_file_is_taken_up_and_what_was_counted_still_counts(reloading: Reloading) -> None:
    reloading.knock("198.51.100.3", 1)
    wait_until(lambda: reloading.guard.lines() == 1, "the first line")
    reloading.rule(RULE.replace("LIMIT", "3"), "reloaded")
    reloading.knock("198.51.100.3", 1)
    reloading.knock("198.51.100.4", 3)
    reloading.guard.wait_banned("198.51.100.4")
    assert reloading.guard.in_kernel() == {"198.51.100.4"}, "two of three"
    reloading.knock("198.51.100.3", 1)
    reloading.guard.wait_banned("198.51.100.3")


def test_what_only_a_restart_changes_is_said(reloading: Reloading) -> None:
    """Where the ledger and the sockets are; the rules are taken up all the same."""
    guard = reloading.guard
    config = guard.config.read_text()
    guard.config.write_text(config.replace(f'"{guard.state}"', '"/nonexistent"'))
    for _ in range(2):
        said = reloading.rule(RULE.replace("LIMIT", "2"), "reloaded")
        assert f'it goes on with [guard] state_dir = "{guard.state}" until a restart' in said
    guard.config.write_text(config)
    assert "restart" not in reloading.rule(RULE.replace("LIMIT", "2"), "reloaded")


def test_what_is_said_of_a_log_names_it(reloading: Reloading) -> None:
    guard = reloading.guard
    guard.log.rename(guard.log.with_suffix(".1"))
    guard.log.touch()
    wait_until(lambda: f"tocsin: {guard.log}: the old file is read to its end" in guard.said_text(), "the rotation")
