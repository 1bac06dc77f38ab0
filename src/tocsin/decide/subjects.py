"""Subjects as numbers: which addresses a text names, and what one text has to do with another.

A subject is text that `ipaddress` renders: an IPv4 address, or a prefix. IPv4-mapped IPv6 (`::ffff:192.0.2.7`) is the
IPv4 address it carries, zone ids (`fe80::1%eth0`) are left off, and a lone IPv6 address stands for its /64, because
that is how IPv6 is counted and banned.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_network

IPV6_PREFIX = 64
EXPECTED = 'an address or prefix such as "192.0.2.7", "192.0.2.0/24" or "2001:db8:1:2::/64"'

Network = IPv4Network | IPv6Network
Bounds = tuple[int, int, int]  # 4 or 6, the first and the last address as a number

_IPV4 = re.compile(r"(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})\.(0|[1-9][0-9]{0,2})").fullmatch
_MAPPED = 0xFFFF << 32  # ::ffff:0:0/96


def network_of(text: str) -> Network:
    """The network that a text names (an address is its /32 or /128). ValueError says what was expected."""
    address, slash, length = text.strip().partition("/")
    try:
        network = ip_network(address.partition("%")[0] + slash + length, strict=False)
    except ValueError as error:
        raise ValueError(f"expected {EXPECTED}, got {text[:100]!r}") from error
    if isinstance(network, IPv6Network) and network.prefixlen >= 96:
        low = int(network.network_address)
        if low >> 32 == _MAPPED >> 32:
            return IPv4Network((low & 0xFFFFFFFF, network.prefixlen - 96))
    return network


def canonical(text: str) -> str:
    """The subject that a text names, as it stands in findings and bans. ValueError says what was expected."""
    network = network_of(text)
    if isinstance(network, IPv4Network):
        return str(network.network_address) if network.prefixlen == 32 else str(network)
    if "/" not in text:
        return str(network.supernet(new_prefix=IPV6_PREFIX))
    return str(network)


def bounds(text: str) -> Bounds:
    """The addresses that a text names, mapped addresses as IPv4. ValueError says what was expected."""
    match = _IPV4(text)
    if match:
        a, b, c, d = map(int, match.groups())
        if a < 256 and b < 256 and c < 256 and d < 256:
            low = (a << 24) | (b << 16) | (c << 8) | d
            return 4, low, low
    network = network_of(text)
    return network.version, int(network.network_address), int(network.broadcast_address)


def prefix_of(version: int, number: int, length: int) -> str:
    """The subject of a length that holds an address, as `ipaddress` renders a network of it."""
    if version == 4:
        low = number >> 32 - length << 32 - length
        return f"{low >> 24}.{low >> 16 & 255}.{low >> 8 & 255}.{low & 255}/{length}"
    return str(IPv6Network((number >> 128 - length << 128 - length, length)))


def lies_in(text: str, wider: str) -> bool:
    """Whether a subject is a part of another, and not all of it."""
    version, low, high = bounds(text)
    wider_version, first, last = bounds(wider)
    return version == wider_version and first <= low and high <= last and (low, high) != (first, last)


def covering(text: str) -> Iterator[str]:
    """Every subject that holds all of `text`, from itself outwards to the widest prefix: at most 129 texts."""
    network = network_of(text)
    if network.prefixlen == network.max_prefixlen:
        yield str(network.network_address)
    for length in range(network.prefixlen, -1, -1):
        yield str(network.supernet(new_prefix=length))


def site_of(text: str) -> str:
    """The network that a subject counts for where visitors are counted by network: IPv4 /16, IPv6 /32."""
    version, low, _ = bounds(text)
    return f"{low >> 24}.{low >> 16 & 255}" if version == 4 else f"{low >> 112:x}:{low >> 96 & 0xFFFF:x}"
