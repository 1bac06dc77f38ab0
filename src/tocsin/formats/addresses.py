"""Addresses in their one spelling, and the client behind trusted proxies.

A header that a client can write decides nothing unless the peer is a trusted proxy; then the list is walked from the
right, the end that the nearest proxy wrote, past every trusted address. The first other one is the client.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address

from tocsin.formats.base import CLIENT_CACHE_ENTRIES, remember

Network = IPv4Network | IPv6Network

_OCTET = r"(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"
_IPV4 = re.compile(rf"(?:{_OCTET}\.){{3}}{_OCTET}").fullmatch
_LONGEST_IPV6 = 45


def canonical(text: str) -> str | None:
    """The address as `ipaddress` renders it, brackets off, `::ffff:a.b.c.d` unmapped; None where it is none.

    An address with a zone (`fe80::1%eth0`) means nothing beyond its link and cannot be banned: None. So is a
    host name, and an octet with a leading zero, which some read as octal.
    """
    if _IPV4(text):
        return text
    if text[:1] == "[" and text[-1:] == "]":
        text = text[1:-1]
    if ":" not in text or "%" in text or len(text) > _LONGEST_IPV6:
        return None
    try:
        address = IPv6Address(text)
    except ValueError:
        return None
    return str(address.ipv4_mapped or address)


_WITH_PORT = re.compile(r"(\[[^\]]*\]|[^:]*):[0-9]{1,5}").fullmatch


def without_port(text: str) -> str | None:
    """The canonical address of `a.b.c.d`, `a.b.c.d:port`, `v6`, `[v6]` or `[v6]:port`."""
    ported = _WITH_PORT(text)
    return canonical(ported[1] if ported else text)


class Proxies:
    """The peers whose word on the client is believed, as networks. Without any, no header is ever read."""

    __slots__ = ("_known", "networks")

    def __init__(self, networks: Iterable[Network] = ()) -> None:
        self.networks = tuple(networks)
        self._known: dict[str, bool] = {}

    def __bool__(self) -> bool:
        return bool(self.networks)

    def trusted(self, ip_text: str) -> bool:
        """Whether a canonical address is one of them."""
        if not self.networks:
            return False
        known = self._known.get(ip_text)
        if known is None:
            address = ip_address(ip_text)
            known = any(address in network for network in self.networks)
            remember(self._known, ip_text, known, CLIENT_CACHE_ENTRIES)
        return known

    def client(self, peer: str | None, claimed: list[str] | None) -> tuple[str | None, str | None]:
        """(`source_ip`, `via`) of a request from `peer`, whose header named `claimed` (left: farthest; None: unusable).

        `source_ip` is None where the peer is a trusted proxy that told us nothing usable: banning it would ban all.
        """
        if peer is None or not self.trusted(peer):
            return peer, None
        for hop in reversed(claimed or ()):
            address = without_port(hop)
            if address is None:
                break
            if not self.trusted(address):
                return address, peer
        return None, peer


def x_forwarded_for(value: str | None) -> list[str] | None:
    """The addresses of `X-Forwarded-For`, left to right, as written."""
    return [hop.strip(" \t") for hop in value.split(",")] if value else None


_PAIR = re.compile(r'[ \t]*(?:([!#$%&\'*+.^_`|~0-9A-Za-z-]+)=(?:"((?:[^"\\]|\\.)*)"|([^"\\,; \t]*)))?[ \t]*([,;]|$)')


def forwarded(value: str | None) -> list[str] | None:
    """The `for=` of each element of a `Forwarded` header (RFC 7239), left to right; None where it is malformed.

    One stray quote makes it malformed as a whole: a client's quote must not swallow what a proxy appended.
    """
    if not value:
        return None
    hops: list[str] = []
    hop = ""
    position = 0
    while True:
        pair = _PAIR.match(value, position)
        if pair is None:
            return None
        if pair[1] is not None and pair[1].lower() == "for":
            quoted = pair[2]
            hop = re.sub(r"\\(.)", r"\1", quoted) if quoted is not None else pair[3]
        if pair[4] != ";":
            hops.append(hop)
            hop = ""
        if pair[4] == "":
            return hops
        position = pair.end()
