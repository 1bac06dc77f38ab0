"""A log whose path is no UTF-8: its attackers are banned, it is read on after a restart, and everything names it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator

import pytest
from enforcing import Site
from guarding import Guard, append, request_line, scratch
from netns import wait_until

pytestmark = pytest.mark.root
SITE = os.fsdecode(b"caf\xe9")
SHOWN = "caf\\udce9/access.log"


@pytest.fixture
def guard(site: Site) -> Iterator[Guard]:
    """Guard at work on the logs of all sites."""
    with scratch() as folder:
        (folder / SITE).mkdir()
        (folder / SITE / "access.log").touch()
        one = Guard(site.server, folder, f'[[log]]\npath = "{folder}/*/access.log"\n')
        try:
            one.start()
            yield one
        finally:
            one.stop()


def attack(guard: Guard, client: str, lines: int) -> None:
    """So many lines in the log of the site."""
    append(guard.folder / SITE / "access.log", lines * [request_line(client)])


def test_its_attackers_are_banned_and_it_is_read_on_after_a_restart(guard: Guard) -> None:
    watcher = guard.pids()["guard"]
    attack(guard, "198.51.100.1", 4)
    guard.wait_banned("198.51.100.1")
    attack(guard, "198.51.100.2", 1)  # counts on after the restart
    wait_until(lambda: guard.lines() == 5, "all lines")
    assert guard.pids()["guard"] == watcher
    guard.stop()
    attack(guard, "198.51.100.2", 2)
    guard.start()
    guard.wait_banned("198.51.100.2")
    assert guard.lines() == 7, "none lost, none twice"
    assert "starting watcher" not in guard.said_text()


def test_it_is_named_wherever_it_is_told_of(guard: Guard) -> None:
    attack(guard, "198.51.100.1", 4)
    guard.wait_banned("198.51.100.1")
    assert f"watching {guard.folder}/{SHOWN}" in guard.said_text()
    wait_until(lambda: bool(json.loads(guard.tell("why", "198.51.100.1", "--json"))["past"]), "the ban in the ledger")
    for words in (("status",), ("why", "198.51.100.1")):
        assert SHOWN in guard.tell(*words)
        assert SHOWN in json.dumps(json.loads(guard.tell(*words, "--json"))).replace("\\\\", "\\")
