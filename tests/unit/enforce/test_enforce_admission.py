"""The enforcer's own judgement: what it refuses whoever asks."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from tocsin.enforce.addresses import own_addresses
from tocsin.enforce.admission import Admission, Limits, Refused, parse_allow
from tocsin.enforce.subjects import Change, Network, parse_subject
from tocsin.model import Op


def admission(*allow: str, own: tuple[str, ...] = ("203.0.113.1/32", "2001:db8:9::1/128")) -> Admission:
    """An admission with an allowlist, for a machine with some addresses."""
    made = Admission(parse_allow(allow), Limits(max_ban_s=1000), own=lambda: [ip_network(one) for one in own])
    made.refresh()
    return made


@pytest.mark.parametrize(
    ("subject", "seconds"),
    [
        ("192.0.2.7", 1),
        ("192.0.2.7", 1000),
        ("192.0.2.7", None),
        ("10.20.0.0/16", 60),
        ("2001:db8:1::/64", 60),
        ("2001:db9::/32", 60),
    ],
)
def test_sound_bans_are_admitted(subject: str, seconds: int | None) -> None:
    """As they are, with their seconds."""
    assert admission().admit(Op("ban", subject, seconds)) == Change(parse_subject(subject), ban=True, seconds=seconds)


@pytest.mark.parametrize(
    ("subject", "seconds", "why"),
    [
        ("192.0.2.7", 0, "1 to 1000 seconds"),
        ("192.0.2.7", -5, "1 to 1000 seconds"),
        ("192.0.2.7", 1001, "1 to 1000 seconds"),
        ("localhost", 60, "expected an address"),
        ("192.0.2.7/32", 60, "canonical"),
        ("::ffff:192.0.2.7", 60, "no attacker"),
        ("127.0.0.1", 60, "no attacker"),
        ("224.0.0.1", 60, "no attacker"),
        ("fe80::/64", 60, "no attacker"),
        ("10.20.0.0/15", 60, "wider than the widest prefix allowed, /16"),
        ("2001:db9::/31", 60, "expected the first address"),
        ("2001:db8::/31", 60, "wider than the widest prefix allowed, /32"),
        ("203.0.113.1", 60, "this machine"),
        ("203.0.113.0/24", 60, "this machine"),
        ("2001:db8:9::/64", 60, "this machine"),
        ("198.51.100.77", 60, "allowlist"),
        ("198.51.0.0/16", 60, "allowlist"),
        ("2001:db8:a::/64", 60, "allowlist"),
    ],
)
def test_unsound_bans_are_refused_with_the_reason(subject: str, seconds: int, why: str) -> None:
    """The Receipt will say it."""
    judge = admission("198.51.100.0/24", "2001:db8:a::7")
    with pytest.raises(Refused, match=why):
        judge.admit(Op("ban", subject, seconds))


def test_whatever_is_spared_can_be_unbanned() -> None:
    """An element that was put in before the allowlist had it has to come out."""
    judge = admission("198.51.100.0/24")
    for subject in ("198.51.100.7", "203.0.113.1", "127.0.0.1", "10.0.0.0/8"):
        assert judge.admit(Op("unban", subject)) == Change(parse_subject(subject), ban=False)
    with pytest.raises(Refused):
        judge.admit(Op("unban", "everything"))


def test_own_addresses_are_asked_again_when_old() -> None:
    """An address that came with the last lease is not banned; within `own_refresh_s` nobody is asked."""
    asked: list[list[Network]] = [[ip_network("203.0.113.1")], [ip_network("203.0.113.2")]]
    fresh = Admission([], Limits(own_refresh_s=3600.0), own=lambda: asked.pop(0))
    fresh.refresh()
    fresh.refresh()
    assert len(asked) == 1
    fresh.admit(Op("ban", "203.0.113.2", 60))
    stale = Admission([], Limits(own_refresh_s=0.0), own=lambda: asked[0])
    stale.refresh()
    with pytest.raises(Refused, match="this machine"):
        stale.admit(Op("ban", "203.0.113.2", 60))


def test_the_kernel_tells_the_own_addresses() -> None:
    """Each as a network of one address; loopback's among them wherever it is up."""
    found = own_addresses()
    assert all(network.prefixlen == network.max_prefixlen for network in found)


def test_the_allowlist_names_what_it_cannot_read() -> None:
    """Host bits are forgiven, nonsense is not."""
    assert parse_allow(["192.0.2.7/24", "2001:db8::1"]) == [ip_network("192.0.2.0/24"), ip_network("2001:db8::1")]
    with pytest.raises(ValueError, match=r"allowlist, got 'office\.example'"):
        parse_allow(["192.0.2.7", "office.example"])
