"""Who is safe: overlap in either direction, every way to write an address, kinds replaced as a whole."""

from __future__ import annotations

import pytest

from tocsin.decide.allow import AllowError, AllowList
from tocsin.enforce.subjects import NEVER, Network

LIST = (
    ("192.0.2.7", "office"),
    ("198.51.100.0/24", "partner"),
    ("2001:db8:1:2::5", "home"),
    ("2001:db8:f::/48", "lab"),
    ("::ffff:203.0.113.0/120", "old notation"),
)


@pytest.mark.parametrize(
    ("subject", "entry"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("192.0.2.6", None),
        ("192.0.2.8", None),
        ("192.0.2.0/24", "192.0.2.7"),  # a prefix that holds an allowed address
        ("192.0.3.0/24", None),
        ("198.51.100.0", "198.51.100.0/24"),
        ("198.51.100.255", "198.51.100.0/24"),
        ("198.51.101.0", None),
        ("198.51.99.255", None),
        ("198.51.100.128/25", "198.51.100.0/24"),
        ("198.51.0.0/16", "198.51.100.0/24"),
        ("0.0.0.0/0", "255.255.255.255"),
        ("2001:db8:1:2::/64", "2001:db8:1:2::5"),  # the /64 under which an address is counted
        ("2001:db8:1:3::/64", None),
        ("2001:db8:f:ffff::/64", "2001:db8:f::/48"),
        ("2001:db8:10::/64", None),
        ("203.0.113.9", "::ffff:203.0.113.0/120"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("::ffff:c000:0207", "192.0.2.7"),
        ("::ffff:192.0.2.8", None),
        ("127.9.9.9", "127.0.0.0/8"),
        ("::1", "::/96"),
        ("::/64", "::/96"),
        ("fe80::/64", "fe80::/10"),
        ("ff02::1", "ff00::/8"),
        ("224.0.0.1", "224.0.0.0/4"),
        ("255.255.255.255", "255.255.255.255"),
        ("10.0.0.1", None),  # private addresses are not safe by themselves
    ],
)
def test_overlap_in_either_direction(subject: str, entry: str | None) -> None:
    reason = AllowList(LIST).reason(subject)
    assert (reason is None) if entry is None else (reason is not None and reason.startswith(f"{entry}: "))


def test_of_nested_entries_the_widest_speaks() -> None:
    allow = AllowList([("10.1.2.3", "one"), ("10.0.0.0/8", "all"), ("10.1.0.0/16", "some")])
    assert allow.reason("10.1.2.3") == "10.0.0.0/8: all"
    assert allow.reason("10.200.0.1") == "10.0.0.0/8: all"
    assert allow.reason("11.0.0.1") is None


def test_a_kind_is_replaced_as_a_whole() -> None:
    allow = AllowList([("192.0.2.7", "office")])
    assert allow.reason("198.51.100.4") is None
    assert allow.replace("login", [("198.51.100.4", "open SSH login of root")])
    assert allow.reason("198.51.100.4") == "198.51.100.4: open SSH login of root"
    assert not allow.replace("login", [("198.51.100.4", "open SSH login of root")]), "nothing has changed"
    assert allow.replace("login", [])
    assert allow.reason("198.51.100.4") is None
    assert allow.reason("192.0.2.7") == "192.0.2.7: office"


def test_zone_ids_are_left_off() -> None:
    allow = AllowList()
    allow.replace("gateway", [("2001:db8::1%eth0", "gateway")])
    assert allow.reason("2001:db8::/64") is not None


def test_all_mistakes_are_told_at_once_and_change_nothing() -> None:
    allow = AllowList([("192.0.2.7", "office")])
    with pytest.raises(AllowError) as caught:
        allow.replace("configured", [("localhost", ""), ("10.0.0.1", ""), ("300.1.1.1", "")])
    assert "localhost" in str(caught.value)
    assert "300.1.1.1" in str(caught.value)
    assert allow.reason("192.0.2.7") is not None
    assert allow.reason("10.0.0.1") is None


def test_the_cache_is_bounded_and_right() -> None:
    allow = AllowList([("10.0.0.0/15", "lan")])
    for number in range(100_000):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        assert allow.reason(address) is not None
    assert len(allow._cache) <= 1 << 15
    assert allow.reason("10.2.0.0") is None


def test_entries_are_listed_with_their_kind() -> None:
    allow = AllowList([("192.0.2.7", "office")])
    assert ("configured", "192.0.2.7", "office") in allow.entries()
    assert ("built-in", "127.0.0.0/8", "this machine itself") in allow.entries()


@pytest.mark.parametrize("network", NEVER, ids=str)
def test_what_the_enforcer_never_takes_is_safe(network: Network) -> None:
    """No rule bans what would be refused."""
    assert AllowList().reason(str(network)) is not None
