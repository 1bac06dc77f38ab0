"""Subject texts to set elements and back: which of the table's sets holds an address or a prefix, under which key.

A subject comes from the far side of a socket, so it is parsed strictly: only the canonical text of an address or a
prefix is taken, and what later reaches nftables is rendered anew from the parsed bytes, never passed through (nft
resolves names: `localhost` as an element bans 127.0.0.1). `inet_pton` takes neither names nor short forms.

Hosts that are closed to single services (`192.0.2.7 tcp/22,udp/53`) are in sets of their own, one pair for each
collection of services, whose names say which: `host4.tcp/22_udp/53`. What a set closes is thus never lost.
"""

from __future__ import annotations

import socket
from bisect import bisect_right
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

from tocsin.model import target_of
from tocsin.services import parse_services

if TYPE_CHECKING:
    from collections.abc import Iterable

Network = IPv4Network | IPv6Network

# The floors: one wrong ban of a wider prefix would shut out a country's provider.
IPV4_PREFIX_MIN = 16
IPV6_PREFIX_MIN = 32

HOST4, HOST6, ADDR6, NET4, NET6 = "host4", "host6", "addr6", "net4", "net6"
SETS = (HOST4, HOST6, ADDR6, NET4, NET6)
KEY_BYTES = {HOST4: 4, HOST6: 16, ADDR6: 16, NET4: 4, NET6: 16}
HASH_PREFIX = {HOST4: 32, HOST6: 64, ADDR6: 128}
INTERVAL_SETS = frozenset({NET4, NET6})
SERVICE_KINDS = (HOST4, HOST6)


class Target(NamedTuple):
    """Where a subject lives in the table: `key` is the network's first address in network byte order."""

    set: str
    key: bytes
    prefix: int


class Change(NamedTuple):
    """One element to put in for `seconds` (None: for good), or, with `ban` False, to take out."""

    target: Target
    ban: bool
    seconds: int | None = None


def service_set(kind: str, services: str) -> str:
    """The set of the hosts of a kind (`host4`, `host6`) that are closed to services."""
    return f"{kind}.{services.replace(',', '_')}"


def kind_of(set_name: str) -> str:
    """Which of SETS a set is like."""
    return set_name.partition(".")[0]


def services_of(set_name: str) -> str:
    """The services that a set closes, empty: everything."""
    return set_name.partition(".")[2].replace("_", ",")


def is_service_set(name: str) -> bool:
    """Whether a set of this name is one of ours for hosts that are closed to single services."""
    services = services_of(name)
    try:
        parse_services(services)
    except ValueError:
        return False
    return name in (service_set(kind, services) for kind in SERVICE_KINDS)


def render_target(target: Target) -> str:
    """The target text of an element, its address as `ipaddress` would render it."""
    if target.set == HOST4:
        return socket.inet_ntoa(target.key)
    if services := services_of(target.set):
        return target_of(render_target(Target(kind_of(target.set), target.key, target.prefix)), services)
    if len(target.key) == 4:
        return f"{socket.inet_ntoa(target.key)}/{target.prefix}"
    text = socket.inet_ntop(socket.AF_INET6, target.key)
    return text if target.prefix == 128 else f"{text}/{target.prefix}"


def parse_subject(text: str) -> Target:
    """The element that stands for `text`; ValueError says why it is none.

    IPv4 hosts go to `host4`, IPv6 /64 to `host6`, single IPv6 addresses to `addr6`, every other prefix to `net4` or
    `net6`. Text that is not canonical (`192.0.2.7/32`, host bits set, capitals, IPv4-mapped, zone ids) is refused.
    Behind a blank the services may follow that a host is closed to.
    """
    if " " in text:
        return _parse_closed(*text.split(" ", 1))
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        key = socket.inet_pton(family, address)
        if family == socket.AF_INET and not slash and socket.inet_ntoa(key) == text:
            return Target(HOST4, key, 32)  # nearly all of them: done with little
        prefix = int(length) if slash else len(key) * 8
    except (OSError, ValueError) as error:
        raise ValueError(f"expected an address or a prefix, as 192.0.2.7 or 2001:db8::/64, got {text!r:.80}") from error
    bits = len(key) * 8
    if slash and (not 0 <= prefix <= bits or int.from_bytes(key, "big") & ((1 << (bits - prefix)) - 1)):
        raise ValueError(f"expected the first address of a prefix, got {text!r:.80}")
    target = Target(_set_of(bits, prefix), key, prefix)
    if render_target(target) != text:
        raise ValueError(f"expected the canonical text {render_target(target)}, got {text!r:.80}")
    return target


def _parse_closed(subject: str, services: str) -> Target:
    target = parse_subject(subject)
    if target.set not in SERVICE_KINDS:
        raise ValueError(f"expected a host (IPv4 address or IPv6 /64) before services, got {subject!r:.80}")
    parse_services(services)
    return Target(service_set(target.set, services), target.key, target.prefix)


def _set_of(bits: int, prefix: int) -> str:
    if bits == 32:
        return HOST4 if prefix == 32 else NET4
    return {64: HOST6, 128: ADDR6}.get(prefix, NET6)


def _networks(*texts: str) -> tuple[Network, ...]:
    return tuple(ip_network(text) for text in texts)


# Banning these stops no attacker: it cuts the machine off from itself, from its neighbours (IPv6 neighbour discovery
# and routers speak from fe80::/10) or from nothing at all (an IPv4-mapped address is in no packet).
NEVER = _networks(
    "0.0.0.0/8",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "224.0.0.0/4",
    "255.255.255.255/32",
    "::/96",
    "::ffff:0:0/96",
    "fe80::/10",
    "ff00::/8",
)


class Spared:
    """A fixed collection of networks, asked whether a target overlaps one of them in either direction.

    One bisection, however many there are: they are kept as ranges that neither overlap nor touch.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._firsts: dict[int, list[int]] = {4: [], 16: []}
        self._lasts: dict[int, list[int]] = {4: [], 16: []}
        for network in sorted(networks, key=lambda one: (one.version, int(one.network_address))):
            firsts, lasts = (ranges[network.max_prefixlen // 8] for ranges in (self._firsts, self._lasts))
            first, last = int(network.network_address), int(network.broadcast_address)
            if lasts and first <= lasts[-1] + 1:
                lasts[-1] = max(lasts[-1], last)
            else:
                firsts.append(first)
                lasts.append(last)

    def overlaps(self, target: Target) -> bool:
        """Whether the target's network lies in a spared one, or holds one."""
        key = target.key
        size = len(key)
        first = int.from_bytes(key, "big")
        last = first | (1 << 8 * size - target.prefix) - 1
        at = bisect_right(self._firsts[size], last) - 1
        return at >= 0 and self._lasts[size][at] >= first
