"""The client behind trusted proxies."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tocsin.formats import Proxies
from tocsin.formats.addresses import forwarded, x_forwarded_for

PROXIES = Proxies([ip_network("10.0.0.0/8"), ip_network("2001:db8:f::/48")])


@pytest.mark.parametrize(
    ("peer", "header", "told"),
    [
        ("192.0.2.1", "203.0.113.1", ("192.0.2.1", None)),
        ("10.0.0.1", "203.0.113.1", ("203.0.113.1", "10.0.0.1")),
        ("10.0.0.1", "203.0.113.1:4711", ("203.0.113.1", "10.0.0.1")),
        ("10.0.0.1", "[2001:db8::1]:4711", ("2001:db8::1", "10.0.0.1")),
        ("10.0.0.1", "[2001:DB8::1]", ("2001:db8::1", "10.0.0.1")),
        ("10.0.0.1", "::ffff:203.0.113.1", ("203.0.113.1", "10.0.0.1")),
        ("10.0.0.1", "198.51.100.1, 203.0.113.1 ,10.2.2.2", ("203.0.113.1", "10.0.0.1")),
        ("2001:db8:f::1", "203.0.113.1,2001:db8:f::2", ("203.0.113.1", "2001:db8:f::1")),
        ("10.0.0.1", "203.0.113.1, junk", (None, "10.0.0.1")),
        ("10.0.0.1", "203.0.113.1, ", (None, "10.0.0.1")),
        ("10.0.0.1", "10.1.1.1, 10.2.2.2", (None, "10.0.0.1")),
        ("10.0.0.1", "fe80::1%eth0", (None, "10.0.0.1")),
        ("10.0.0.1", None, (None, "10.0.0.1")),
        (None, "203.0.113.1", (None, None)),
    ],
)
def test_x_forwarded_for(peer: str | None, header: str | None, told: tuple[str | None, str | None]) -> None:
    assert PROXIES.client(peer, x_forwarded_for(header)) == told


@pytest.mark.parametrize(
    ("header", "hops"),
    [
        ("for=192.0.2.60;proto=http;by=203.0.113.43", ["192.0.2.60"]),
        ('For="[2001:db8:cafe::17]:4711"', ["[2001:db8:cafe::17]:4711"]),
        ("for=192.0.2.43, for=198.51.100.17", ["192.0.2.43", "198.51.100.17"]),
        ("for=unknown , proto=http;for=_hidden", ["unknown", "_hidden"]),
        ("proto=https", [""]),
        ('for="a\\"b", for=192.0.2.1', ['a"b', "192.0.2.1"]),
        ('for="x, for=192.0.2.1', None),
        ('for="x"y, for=192.0.2.1', None),
        ("for = 192.0.2.1", None),
        ("192.0.2.1", None),
        ("", None),
    ],
)
def test_forwarded(header: str, hops: list[str] | None) -> None:
    assert forwarded(header) == hops


def test_without_networks_nobody_is_trusted() -> None:
    assert not Proxies()
    assert not Proxies().trusted("127.0.0.1")
    assert Proxies().client("10.0.0.1", ["203.0.113.1"]) == ("10.0.0.1", None)


def test_what_is_known_of_peers_is_bounded() -> None:
    proxies = Proxies([ip_network("10.0.0.0/8")])
    for number in range(70_000):
        assert not proxies.trusted(f"192.{number // 250 % 250}.{number % 250}.{number // 62500}")
    assert len(proxies._known) <= 65536
