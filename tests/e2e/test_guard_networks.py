"""Networks that guard bans: packets from all of one stop, those from its neighbour do not."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from enforcing import SERVER4, Site
from guarding import Guard, guarding, request_line
from netns import echo_server, wait_until

pytestmark = pytest.mark.root

WORLD = "198.18"
ANSWERED, DROPPED = "answered", "no answer"


@pytest.fixture
def guard(site: Site) -> Iterator[Guard]:
    """A guard at work on a server that some of 198.18.0.0/16 can reach."""
    inside = [f"{WORLD}.{net}.77" for net in (3, 5, 7, 8)] + [f"{WORLD}.64.{last}" for last in (5, 6, 200)]
    site.outside.addresses("eth0", *(f"{address}/32" for address in inside))
    site.server.run("ip", "route", "add", f"{WORLD}.0.0/16", "via", "10.66.0.66")
    echo_server(site.server)
    with guarding(site.server) as one:
        yield one


def attack(guard: Guard, *clients: str) -> None:
    for client in clients:
        guard.write(*3 * [request_line(client)])


def test_a_packet_from_a_banned_22_does_not_arrive_and_its_neighbours_does(site: Site, guard: Guard) -> None:
    within, beside = [f"{WORLD}.{net}.77" for net in (5, 7)], [f"{WORLD}.{net}.77" for net in (3, 8)]
    assert {site.client.connect(one, SERVER4) for one in (*within, *beside)} == {ANSWERED}
    offenders = [f"{WORLD}.{net}.{last}" for net in (4, 5, 6) for last in (9, 140)]
    offenders += [f"{WORLD}.7.1", f"{WORLD}.4.200"]
    attack(guard, *offenders)
    guard.wait_banned(f"{WORLD}.4.0/22")
    assert [site.client.connect(one, SERVER4) for one in within] == [DROPPED] * 2
    assert [site.client.connect(one, SERVER4) for one in beside] == [ANSWERED] * 2
    assert guard.in_kernel() == {*offenders, f"{WORLD}.4.0/22"}
    wait_until(lambda: "8 addresses of it" in guard.tell("why", within[0]), "the ledger to tell of the network")
    told = guard.tell("why", within[0])
    assert f"{within[0]} (as part of {WORLD}.4.0/22) is banned" in told
    assert f"it ends the ban of {WORLD}.4.0/22 too" in told
    assert f"folded into the ban of {WORLD}.4.0/22" in guard.tell("why", offenders[0])
    assert "folded into" in guard.tell("bans")
    guard.tell("unban", within[0])
    assert [site.client.connect(one, SERVER4) for one in within] == [ANSWERED] * 2
    assert guard.in_kernel() == set(offenders), "each for itself"


def test_a_network_that_grows_takes_the_place_of_the_narrower_one(site: Site, guard: Guard) -> None:
    attack(guard, *(f"{WORLD}.64.{last}" for last in (9, 70, 100, 120)))
    guard.wait_banned(f"{WORLD}.64.0/25")
    assert [site.client.connect(f"{WORLD}.64.{last}", SERVER4) for last in (5, 200)] == [DROPPED, ANSWERED]
    attack(guard, f"{WORLD}.64.130")
    guard.wait_banned(f"{WORLD}.64.0/24")
    assert [site.client.connect(f"{WORLD}.64.{last}", SERVER4) for last in (6, 200)] == [DROPPED, DROPPED]
    assert {each for each in guard.in_kernel() if "/" in each} == {f"{WORLD}.64.0/24"}
    assert "failed" not in guard.said_text()
