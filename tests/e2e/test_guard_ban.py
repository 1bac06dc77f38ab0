"""From a line in a log to packets that do not get through: the whole guard, real processes, real packets."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator

import pytest
from enforcing import ATTACKER4, ATTACKER6, NEIGHBOUR4, NEIGHBOUR6, SAME64, SERVER4, SERVER6, Site
from guarding import Guard, guarding, request_line
from netns import echo_server, wait_until

pytestmark = pytest.mark.root
ALLOWED4 = "10.66.0.130"
SAME64_SUBJECT = "2001:db8:a:1::/64"


@pytest.fixture
def guard(site: Site) -> Iterator[Guard]:
    """A guard at work on the server, which answers on port 8080."""
    echo_server(site.server)
    with guarding(site.server, f'[allow]\naddresses = ["{ALLOWED4}"]\n') as one:
        yield one


def bans(guard: Guard) -> list[str]:
    """The subjects that `tocsin bans --json` names, the newest first."""
    return [json.loads(line)["ban"]["subject"] for line in guard.tell("bans", "--json").splitlines()]


def test_the_crossing_line_bans_its_client_and_nobody_else(site: Site, guard: Guard) -> None:
    guard.write(*2 * [request_line(ATTACKER4)], *5 * [request_line(NEIGHBOUR4, "GET /xmlrpc.php HTTP/1.1")])
    assert site.client.connect(ATTACKER4, SERVER4) == "answered", "two lines are not three"
    guard.write(request_line(ATTACKER4))
    guard.wait_banned(ATTACKER4)
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert site.client.connect(NEIGHBOUR4, SERVER4) == "answered"
    assert guard.in_kernel() == {ATTACKER4}
    assert bans(guard) == [ATTACKER4]


def test_why_shows_the_rule_and_the_very_lines(guard: Guard) -> None:
    lines = [request_line(ATTACKER4, agent=f"agent {number}") for number in range(3)]
    guard.write(*lines)
    guard.wait_banned(ATTACKER4)
    wait_until(lambda: "wordpress-xmlrpc" in guard.tell("why", ATTACKER4), "the ledger to tell of the ban")
    told = guard.tell("why", ATTACKER4)
    for line in lines:
        assert line.strip() in told


def test_unban_and_ban_act_at_once(site: Site, guard: Guard) -> None:
    guard.write(*3 * [request_line(ATTACKER4)])
    guard.wait_banned(ATTACKER4)
    guard.tell("unban", ATTACKER4)
    assert guard.in_kernel() == set()
    assert site.client.connect(ATTACKER4, SERVER4) == "answered"
    guard.tell("ban", NEIGHBOUR4)
    assert guard.in_kernel() == {NEIGHBOUR4}
    assert site.client.connect(NEIGHBOUR4, SERVER4) == "no answer"
    later_ts = time.time() + 2  # lines stamped before the unban are forgiven, and stamps have whole seconds
    guard.write(*3 * [request_line(ATTACKER4, ts=later_ts)])
    guard.wait_banned(ATTACKER4, NEIGHBOUR4)


def test_an_ipv6_client_is_banned_with_its_64(site: Site, guard: Guard) -> None:
    assert site.client.connect(NEIGHBOUR6, SERVER6, wait_s=2.0) == "answered"
    guard.write(request_line(ATTACKER6), request_line(SAME64), request_line(ATTACKER6))
    guard.wait_banned(SAME64_SUBJECT)
    assert site.client.connect(ATTACKER6, SERVER6) == "no answer"
    assert site.client.connect(SAME64, SERVER6) == "no answer"
    assert site.client.connect(NEIGHBOUR6, SERVER6) == "answered"


def test_who_is_allowed_is_never_banned(site: Site, guard: Guard) -> None:
    guard.write(*9 * [request_line(ALLOWED4)], *9 * [request_line(SERVER4)], *3 * [request_line(ATTACKER4)])
    guard.wait_banned(ATTACKER4)
    assert guard.in_kernel() == {ATTACKER4}
    for safe in (ALLOWED4, SERVER4, "10.66.0.0/24"):
        assert guard.run_cli("ban", safe).returncode != 0, f"{safe} is, or holds, somebody who is safe"
    assert guard.in_kernel() == {ATTACKER4}
    assert site.client.connect(ALLOWED4, SERVER4) == "answered"
