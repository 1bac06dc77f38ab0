"""Real packets between namespaces: what is banned does not get through, what is beside it does."""

from __future__ import annotations

import time

import pytest
from enforcing import (
    ATTACKER4,
    ATTACKER6,
    BEHIND4,
    NEIGHBOUR4,
    NEIGHBOUR6,
    SAME64,
    SERVER4,
    SERVER6,
    Running,
    Site,
    held_connection,
)
from netns import echo_server, wait_until

from tocsin.model import Op

pytestmark = pytest.mark.root

ANSWERED, DROPPED = "answered", "no answer"


def test_banned_ipv4_address_cannot_connect_and_its_neighbour_can(site: Site, running: Running) -> None:
    """The server listens on `::`, so that its sockets see mapped addresses; the ban holds all the same."""
    echo_server(site.server)
    assert site.client.connect(ATTACKER4, SERVER4) == ANSWERED
    assert running.ban(ATTACKER4).ok
    assert site.client.connect(ATTACKER4, SERVER4) == DROPPED
    assert site.client.connect(NEIGHBOUR4, SERVER4) == ANSWERED
    in_force = running.read()
    assert set(in_force.end_ts) == {ATTACKER4}
    packets, octets = in_force.stopped[ATTACKER4]
    assert packets >= 1
    assert octets >= 40 * packets
    assert running.unban(ATTACKER4).ok
    assert site.client.connect(ATTACKER4, SERVER4) == ANSWERED


def test_ipv6_is_banned_by_64_and_the_next_64_is_not(site: Site, running: Running) -> None:
    """Both addresses of one /64 are stopped by one element."""
    echo_server(site.server)
    assert site.client.connect(ATTACKER6, SERVER6) == ANSWERED
    assert running.ban("2001:db8:a:1::/64").ok
    assert [site.client.connect(one, SERVER6) for one in (ATTACKER6, SAME64)] == [DROPPED, DROPPED]
    assert site.client.connect(NEIGHBOUR6, SERVER6) == ANSWERED
    assert running.unban("2001:db8:a:1::/64").ok
    assert running.ban(ATTACKER6).ok
    assert [site.client.connect(one, SERVER6) for one in (ATTACKER6, SAME64)] == [DROPPED, ANSWERED]


@pytest.mark.parametrize(
    ("prefix", "inside", "outside", "server"),
    [
        ("10.66.0.64/28", (ATTACKER4, NEIGHBOUR4), "10.66.0.130", SERVER4),
        ("2001:db8:a::/63", (ATTACKER6,), NEIGHBOUR6, SERVER6),
        ("2001:db8:a:1::4/127", (ATTACKER6,), SAME64, SERVER6),
    ],
)
def test_prefix_is_dropped_and_the_address_beside_it_is_not(
    site: Site, running: Running, prefix: str, inside: tuple[str, ...], outside: str, server: str
) -> None:
    """Prefixes of other lengths than a host's go into interval sets and count too."""
    echo_server(site.server)
    assert [site.client.connect(one, server) for one in (*inside, outside)] == [ANSWERED] * (len(inside) + 1)
    assert running.ban(prefix).ok
    assert [site.client.connect(one, server) for one in inside] == [DROPPED] * len(inside)
    assert site.client.connect(outside, server) == ANSWERED
    in_force = running.read()
    assert set(in_force.end_ts) == {prefix}
    assert in_force.stopped[prefix][0] >= len(inside)


def test_ban_ends_on_time_by_the_kernel_alone(site: Site, running: Running) -> None:
    """Nobody has to unban: access is back when the seconds are over, not before."""
    echo_server(site.server)
    start_s = time.monotonic()
    assert running.ban(ATTACKER4, 2).ok
    assert site.client.connect(ATTACKER4, SERVER4) == DROPPED
    wait_until(lambda: site.client.connect(ATTACKER4, SERVER4, wait_s=0.1) == ANSWERED, "the ban's end", 5.0)
    assert time.monotonic() - start_s >= 1.9


def test_renewal_replaces_the_time_left_in_both_directions(site: Site, running: Running) -> None:
    """The last word counts: longer, shorter, for good, and limited again."""
    del site
    for seconds, subject in [
        (600, ATTACKER4),
        (60, ATTACKER4),
        (None, ATTACKER4),
        (30, ATTACKER4),
        (90, "10.9.0.0/24"),
    ]:
        assert running.ban(subject, seconds).ok
        end_ts = running.read().end_ts[subject]
        assert end_ts is None if seconds is None else end_ts == pytest.approx(time.time() + seconds, abs=2.0)


def test_forwarded_traffic_is_dropped_too(site: Site, running: Running) -> None:
    """Containers and forwarded ports: packets for a machine behind the server pass the same chain first."""
    echo_server(site.behind, "0.0.0.0")  # noqa: S104  inside a namespace of its own
    nat = "add table ip nat\nadd chain ip nat pre { type nat hook prerouting priority -100; }\n"
    site.server.run("nft", "-f", "-", stdin=f"{nat}add rule ip nat pre tcp dport 8088 dnat to {BEHIND4}:8080")
    assert site.client.connect(ATTACKER4, BEHIND4) == ANSWERED
    assert site.client.connect(ATTACKER4, SERVER4, 8088) == ANSWERED
    assert running.ban(ATTACKER4).ok
    assert site.client.connect(ATTACKER4, BEHIND4) == DROPPED
    assert site.client.connect(ATTACKER4, SERVER4, 8088) == DROPPED
    assert site.client.connect(NEIGHBOUR4, BEHIND4) == ANSWERED
    assert site.client.connect(NEIGHBOUR4, SERVER4, 8088) == ANSWERED


@pytest.mark.parametrize(
    ("subject", "source", "server"),
    [
        (ATTACKER4, ATTACKER4, SERVER4),
        ("10.66.0.64/28", ATTACKER4, SERVER4),
        ("2001:db8:a:1::/64", ATTACKER6, SERVER6),
        (ATTACKER6, ATTACKER6, SERVER6),
    ],
)
def test_held_connections_end_and_free_their_worker(
    site: Site, running: Running, subject: str, source: str, server: str
) -> None:
    """The server learns at once that a banned client is gone; a neighbour's connection lives on."""
    echo = echo_server(site.server)
    neighbour = held_connection(site.outside, NEIGHBOUR6 if ":" in source else "10.66.0.130", server)
    held_connection(site.outside, source, server)
    held_connection(site.outside, source, server)
    receipt = running.ban(subject)
    assert (receipt.ok, receipt.sockets_destroyed) == (True, 0)
    assert running.destroyed() == 2
    assert echo.stdout
    assert [echo.stdout.readline() for _ in range(2)] == ["ConnectionAbortedError\n"] * 2
    assert neighbour.stdin
    neighbour.stdin.close()
    assert echo.stdout.readline() == "closed\n"


def test_held_connections_of_many_banned_at_once_end(site: Site, running: Running) -> None:
    """More subjects than the kernel is told as a filter: their connections are found by comparing here."""
    echo = echo_server(site.server)
    held_connection(site.outside, ATTACKER4, SERVER4)
    held_connection(site.outside, ATTACKER6, SERVER6)
    others = [Op("ban", f"198.51.100.{last}", 60) for last in range(1, 200)]
    mine = [Op("ban", ATTACKER4, 60, "d4"), Op("ban", "2001:db8:a::/48", 60, "d6")]
    assert all(receipt.ok for receipt in running.apply([*others[:100], *mine, *others[100:]]))
    assert running.destroyed() == 2
    assert echo.stdout
    assert [echo.stdout.readline() for _ in range(2)] == ["ConnectionAbortedError\n"] * 2


def test_loopback_of_a_banned_prefix_is_never_dropped(site: Site, running: Running) -> None:
    """The machine can always talk to itself, by whatever address of its own."""
    echo_server(site.server)
    site.server.addresses("lo", "192.0.2.9/32")
    element = "add element inet tocsin host4 { 192.0.2.9 timeout 60s }"
    site.server.run("nft", element)
    assert "192.0.2.9" in running.read().end_ts
    own = site.server.python(
        "import socket; c = socket.create_connection(('192.0.2.9', 8080), 2, ('192.0.2.9', 0)); c.sendall(b'x'); "
        "print(c.recv(1))"
    )
    assert own.communicate(timeout=5)[0] == "b'x'\n"
