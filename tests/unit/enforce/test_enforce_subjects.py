"""Subject texts and where they live in the table."""

from __future__ import annotations

import random
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_network

import pytest

from tocsin.enforce.subjects import NEVER, Network, Spared, parse_subject, render_target


@pytest.mark.parametrize(
    ("text", "set_name", "prefix"),
    [
        ("192.0.2.7", "host4", 32),
        ("192.0.2.0/31", "net4", 31),
        ("10.20.0.0/16", "net4", 16),
        ("2001:db8:1:2::/64", "host6", 64),
        ("2001:db8::1", "addr6", 128),
        ("2001:db8::/32", "net6", 32),
        ("2001:db8::/127", "net6", 127),
        ("::/0", "net6", 0),
    ],
)
def test_each_shape_has_its_set(text: str, set_name: str, prefix: int) -> None:
    """Hosts go to hash sets, everything else to interval sets; the text comes back as it was."""
    target = parse_subject(text)
    assert (target.set, target.prefix) == (set_name, prefix)
    assert render_target(target) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "localhost",
        "example.org",
        "192.0.2.7/32",
        "192.0.2.7/24",
        "192.0.2.07",
        "192.0.2",
        "0x7f.0.0.1",
        "2130706433",
        "192.0.2.7/",
        "192.0.2.0/+24",
        "192.0.2.0/ 24",
        "192.0.2.0/33",
        "192.0.2.0/-1",
        "192.0.2.0/24/24",
        "2001:DB8::1",
        "2001:db8:0::1",
        "2001:db8::1/128",
        "2001:db8::1/64",
        "fe80::1%eth0",
        "::ffff:192.0.2.7 }",
        "192.0.2.7 }; flush ruleset; {",
        "192.0.2.7\n",
        "192.0.2.7\x00",
        "192.0.2.٧",
        "192.0.2.0/٢٤",
    ],
)
def test_what_is_not_canonical_is_refused(text: str) -> None:
    """No name, no second spelling, nothing that nft would read as more than one element."""
    with pytest.raises(ValueError, match="expected"):
        parse_subject(text)


def test_rendering_is_that_of_ipaddress() -> None:
    """Every public address and prefix has the one text that the other rooms use."""
    dice = random.Random(7)
    for _ in range(2000):
        four = IPv4Network((dice.getrandbits(32) & 0xFFFF0000, dice.randint(16, 31)))
        bits = dice.choice([0, 0xFFFF << 96, 0xFFFFFFFF << 64, (1 << 128) - 1])
        value = 0x2001 << 112 | dice.getrandbits(112) & bits
        prefix = dice.randint(32, 127)
        six = IPv6Network((value >> (128 - prefix) << (128 - prefix), prefix))
        for text in (str(IPv4Address(dice.getrandbits(32))), str(IPv6Address(value)), str(four), str(six)):
            assert render_target(parse_subject(text)) == text


def test_spared_finds_overlaps_in_both_directions_as_ipaddress_does() -> None:
    """A host in a spared network, a prefix that holds a spared address, and neither."""
    dice = random.Random(11)
    networks: list[Network] = [
        IPv4Network((dice.getrandbits(8) << 24 | 1 << 20, dice.choice([12, 32]))) for _ in range(6)
    ]
    networks += [ip_network(f"10.1.{dice.getrandbits(8)}.0/{dice.choice([24, 27])}") for _ in range(6)]
    sixes = [ip_network(f"2001:db8:{dice.getrandbits(4):x}::/{dice.choice([48, 64, 128])}") for _ in range(6)]
    spared = Spared([*networks, *sixes])
    hits = 0
    for _ in range(4000):
        text = f"10.1.{dice.getrandbits(8)}.{dice.getrandbits(8)}"
        net = f"{dice.getrandbits(8)}.16.0.0/{dice.choice([12, 16])}"
        six = f"2001:db8:{dice.getrandbits(4):x}::/{dice.choice([32 + 12, 48, 64, 96])}"
        for candidate in (text, net, str(ip_network(six, strict=False))):
            network = ip_network(candidate)
            expected = any(one.version == network.version and one.overlaps(network) for one in [*networks, *sixes])
            assert spared.overlaps(parse_subject(candidate)) == expected, candidate
            hits += expected
    assert 1000 < hits < 11000


@pytest.mark.parametrize(
    "text",
    [
        "127.0.0.1",
        "0.0.0.1",
        "169.254.1.1",
        "239.1.2.3",
        "255.255.255.255",
        "::1",
        "::",
        "fe80::/64",
        "ff02::1",
        "::/64",
    ],
)
def test_addresses_that_no_attacker_can_have_are_never_banned(text: str) -> None:
    """Loopback, unspecified, link-local, multicast and broadcast."""
    assert Spared(NEVER).overlaps(parse_subject(text))


@pytest.mark.parametrize("text", ["192.0.2.1", "10.0.0.1", "64:ff9b::c000:201", "2001:db8::/64", "fd00::/64"])
def test_others_can_be_banned(text: str) -> None:
    """Private addresses attack too, and NAT64 clients come from 64:ff9b::/96."""
    assert not Spared(NEVER).overlaps(parse_subject(text))
