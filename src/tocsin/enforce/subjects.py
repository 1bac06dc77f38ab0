"""Subject texts to set elements and back: which of the table's sets holds an address or a prefix, under which key.

A subject comes from the far side of a socket, so it is parsed strictly: only the canonical text of an address or a
prefix is taken, and what later reaches nftables is rendered anew from the parsed bytes, never passed through (nft
resolves names: `localhost` as an element bans 127.0.0.1). `inet_pton` takes neither names nor short forms.
"""

from __future__ import annotations

import socket
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import TYPE_CHECKING, NamedTuple

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


class Target(NamedTuple):
    """Where a subject lives in the table: `key` is the network's first address in network byte order."""

    set: str
    key: bytes
    prefix: int


def render_target(target: Target) -> str:
    """The subject text of an element, as `ipaddress` would render it."""
    if target.set == HOST4:
        return socket.inet_ntoa(target.key)
    if len(target.key) == 4:
        return f"{socket.inet_ntoa(target.key)}/{target.prefix}"
    text = socket.inet_ntop(socket.AF_INET6, target.key)
    return text if target.prefix == 128 else f"{text}/{target.prefix}"


def parse_subject(text: str) -> Target:
    """The element that stands for `text`; ValueError says why it is none.

    IPv4 hosts go to `host4`, IPv6 /64 to `host6`, single IPv6 addresses to `addr6`, every other prefix to `net4` or
    `net6`. Text that is not canonical (`192.0.2.7/32`, host bits set, capitals, IPv4-mapped, zone ids) is refused.
    """
    address, slash, length = text.partition("/")
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        key = socket.inet_pton(family, address)
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

    A host costs one set lookup for each distinct prefix length held, so that a list of thousands stays cheap.
    """

    def __init__(self, networks: Iterable[Network]) -> None:
        self._networks = tuple(networks)
        self._heads: dict[int, dict[int, set[int]]] = {32: {}, 128: {}}
        for network in self._networks:
            shift = network.max_prefixlen - network.prefixlen
            heads = self._heads[network.max_prefixlen].setdefault(network.prefixlen, set())
            heads.add(int(network.network_address) >> shift)
        self._tails: dict[tuple[int, int], set[int]] = {}

    def overlaps(self, target: Target) -> bool:
        """Whether the target's network lies in a spared one, or holds one."""
        bits = len(target.key) * 8
        value = int.from_bytes(target.key, "big")
        for prefix, heads in self._heads[bits].items():
            if prefix <= target.prefix and value >> (bits - prefix) in heads:
                return True
        return target.prefix < bits and value >> (bits - target.prefix) in self._narrower(bits, target.prefix)

    def _narrower(self, bits: int, prefix: int) -> set[int]:
        """The first `prefix` bits of all spared networks longer than that. At most 128 + 32 of them are kept."""
        tails = self._tails.get((bits, prefix))
        if tails is None:
            tails = {
                int(network.network_address) >> (bits - prefix)
                for network in self._networks
                if network.max_prefixlen == bits and network.prefixlen > prefix
            }
            self._tails[bits, prefix] = tails
        return tails
