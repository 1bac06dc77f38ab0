"""Texts of addresses and prefixes as numbers, and back."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tocsin.decide.subjects import bounds, canonical, covering, site_of


@pytest.mark.parametrize(
    ("text", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        (" 192.0.2.7 ", "192.0.2.7"),
        ("192.0.2.7/32", "192.0.2.7"),
        ("192.0.2.7/24", "192.0.2.0/24"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.0/120", "192.0.2.0/24"),
        ("2001:DB8:1:2:3::4", "2001:db8:1:2::/64"),
        ("2001:db8:1:2:3::4/128", "2001:db8:1:2:3::4/128"),
        ("2001:db8::/32", "2001:db8::/32"),
        ("fe80::1%eth0", "fe80::/64"),
    ],
)
def test_canonical(text: str, subject: str) -> None:
    assert canonical(text) == subject


@pytest.mark.parametrize(
    "text", ["", "localhost", "1.2.3", "1.2.3.4.5", "256.1.1.1", "1.2.3.4/33", "01.2.3.4", "١.2.3.4"]
)
def test_what_is_no_address_is_refused(text: str) -> None:
    for function in (canonical, bounds):
        with pytest.raises(ValueError, match="expected an address or prefix"):
            function(text)


@pytest.mark.parametrize(
    "text", ["192.0.2.7", "1.2.3.4", "255.255.255.255", "10.0.0.0/8", "2001:db8::/64", "::/0", "::1"]
)
def test_bounds_are_those_of_the_network(text: str) -> None:
    network = ip_network(text)
    assert bounds(text) == (network.version, int(network.network_address), int(network.broadcast_address))


def test_covering_goes_outwards() -> None:
    assert list(covering("192.0.2.7"))[:3] == ["192.0.2.7", "192.0.2.7/32", "192.0.2.6/31"]
    assert next(covering("192.0.2.0/24")) == "192.0.2.0/24"
    wider = list(covering("2001:db8:1:2::5"))
    assert {"2001:db8:1:2::5", "2001:db8:1:2::/64", "::/0"} <= set(wider)
    assert len(wider) == 130


def test_sites() -> None:
    assert site_of("192.0.2.7") == site_of("192.0.77.7") != site_of("192.1.2.7")
    assert site_of("2001:db8:1:2::/64") == site_of("2001:db8:f:2::/64") != site_of("2001:db9:1:2::/64")
    assert site_of("2001::/64") == site_of("2001:0:1::/64") != site_of("2001:1::/64")
