"""What nft is told: rendered from parsed keys and integers, nothing else."""

from __future__ import annotations

import re

import pytest

from tocsin.enforce.nftables import CHUNK_HOSTS, FirewallError, is_denied
from tocsin.enforce.ruleset import SET_SIZE, render_new, render_renewal, render_table
from tocsin.enforce.subjects import SETS, Change, parse_subject
from tocsin.model import MAX_BAN_S


def ban(subject: str, seconds: int | None = 60) -> Change:
    """A ban of a subject."""
    return Change(parse_subject(subject), ban=True, seconds=seconds)


def test_the_table_has_every_set_one_chain_and_spares_loopback_first() -> None:
    """Order matters: loopback is accepted before anything is dropped."""
    lines = render_table().split("\n")
    assert lines[0] == "add table inet tocsin"
    for name in SETS:
        (line,) = [one for one in lines if one.startswith(f"add set inet tocsin {name} ")]
        assert "counter;" in line
        assert f"size {SET_SIZE[name]};" in line
        assert "auto-merge" not in line
        assert ("flags interval" in line) == name.startswith("net")
    rules = [one.removeprefix("add rule inet tocsin prerouting ") for one in lines if one.startswith("add rule")]
    assert rules == [
        "iif lo accept",
        "ip saddr @host4 drop",
        "ip saddr @net4 drop",
        "ip6 saddr and ffff:ffff:ffff:ffff:: @host6 drop",
        "ip6 saddr @addr6 drop",
        "ip6 saddr @net6 drop",
    ]
    assert "hook prerouting priority -300" in render_table()


def test_the_scratch_table_drops_only_what_its_test_sends() -> None:
    """Each of its rules begins with the match that it is given, and loopback is what it is about."""
    lines = [one for one in render_table("scratch", "iif lo udp dport 9").split("\n") if one.startswith("add rule")]
    assert len(lines) == 5
    assert all(one.startswith("add rule inet scratch prerouting iif lo udp dport 9 ip") for one in lines)


@pytest.mark.parametrize(
    ("subject", "seconds", "element"),
    [
        ("192.0.2.7", 60, "192.0.2.7 timeout 60s"),
        ("192.0.2.7", None, "192.0.2.7"),
        ("2001:db8::/64", 240000, "2001:db8:: timeout 240000s"),
        ("2001:db8::1", 1, "2001:db8::1 timeout 1s"),
        ("10.0.0.0/24", None, "10.0.0.0/24"),
        ("2001:db8::/48", 10**8, "2001:db8::/48 timeout 1157d35200s"),
        ("2001:db8::/65", MAX_BAN_S, "2001:db8::/65 timeout 36500d0s"),
    ],
)
def test_elements_are_rendered_with_their_time(subject: str, seconds: int | None, element: str) -> None:
    """Never `timeout 0s`, which is for good; more than eight digits go into days, as nft takes no more."""
    change = ban(subject, seconds)
    name = change.target.set
    assert f"elements = {{ {element} }}" in render_new("tocsin", name, [change])
    key = element.split(" ", maxsplit=1)[0]
    assert render_renewal("tocsin", name, [change]).split("\n") == [
        f"add element inet tocsin {name} {{ {key} }}",
        f"delete element inet tocsin {name} {{ {key} }}",
        f"add element inet tocsin {name} {{ {element} }}",
    ]


def test_an_unban_never_fails_and_leaves_nothing() -> None:
    """Added first, so that there is something to delete."""
    change = Change(parse_subject("192.0.2.7"), ban=False)
    assert render_renewal("tocsin", "host4", [change]).split("\n") == [
        "add element inet tocsin host4 { 192.0.2.7 }",
        "delete element inet tocsin host4 { 192.0.2.7 }",
    ]


def test_a_batch_is_plain_ascii_of_addresses_and_numbers() -> None:
    """Thousands in one command, and no character that could end it."""
    changes = [ban(f"10.{n >> 8}.{n & 255}.1", n + 1) for n in range(CHUNK_HOSTS)]
    text = render_new("tocsin", "host4", changes)
    inside = text[text.index("= {") + 4 : -4]
    assert re.fullmatch(r"(10\.\d+\.\d+\.1 timeout \d+s,?)+", inside)
    assert inside.count("timeout") == CHUNK_HOSTS


def test_errors_say_what_to_do() -> None:
    """Text and remedy, together and apart; a missing capability is recognised."""
    error = FirewallError("cannot create the table", "run as root")
    assert str(error) == "cannot create the table: run as root"
    assert (error.what, error.remedy) == ("cannot create the table", "run as root")
    assert is_denied("cache initialization failed: Operation not permitted")
    assert not is_denied("Could not process rule: File exists")
