"""The folder of the ledger is deleted under a guard that may not make it: it says so, and gives it all back."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator

import pytest
from enforcing import Site
from guarding import Guard, guarding, request_line
from netns import wait_until

pytestmark = pytest.mark.root


@pytest.fixture
def guard(site: Site) -> Iterator[Guard]:
    """Guard at work."""
    with guarding(site.server) as one:
        yield one


def rules(guard: Guard) -> dict[str, str]:
    """Of the bans in force in the ledger: whom, by which rule; empty where there is no ledger."""
    done = guard.run_cli("bans", "--json")
    rows = [json.loads(line).get("ban") for line in done.stdout.splitlines()]
    return {row["subject"]: row["rule"] for row in rows if row}


def test_a_deleted_folder_is_told_of_and_all_of_it_comes_back(guard: Guard) -> None:
    guard.write(*4 * [request_line("198.51.100.1")])
    wait_until(lambda: len(rules(guard)) == 1, "the first ban in the ledger")
    owner = guard.state.stat()
    shutil.rmtree(guard.state)
    wait_until(lambda: "cannot be written" in guard.said_text(), "guard says so, although nothing happens", 15)
    guard.write(*4 * [request_line("198.51.100.2")])
    guard.wait_banned("198.51.100.1", "198.51.100.2")
    trouble = guard.need_status()["ledger"]["trouble"]
    assert "1 decisions" in trouble
    assert "install -d" in guard.run_cli("bans").stderr, "not that no guard has run"
    guard.state.mkdir(mode=0o750)
    os.chown(guard.state, owner.st_uid, owner.st_gid)
    wait_until(lambda: len(rules(guard)) == 2, "both bans in the ledger", 40)
    assert set(rules(guard).values()) == {"wordpress-xmlrpc"}
    assert "xmlrpc.php" in guard.tell("why", "198.51.100.1"), "with its evidence"
    wait_until(lambda: "all that it held" in guard.said_text(), "guard says that all is well")
    assert guard.said_text().count("cannot be written") == 1, "once"
    assert guard.need_status()["ledger"]["trouble"] is None
