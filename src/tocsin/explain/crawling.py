"""Whether a class of requests is one client's that says what it is and goes from page to page, or comes from crawlers
whose operators publish their networks. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from ipaddress import IPv4Network, IPv6Network, ip_network

from tocsin.decide.crawlers import CRAWLERS, claimed_crawler, covers_published, in_published_range
from tocsin.explain.agents import contradiction, honest_name, is_library
from tocsin.explain.suspects import Carried
from tocsin.model import Signature

_INTERFACE = re.compile(r"/(?:api|wp-json|graphql|rest|rpc)(?:/|$)").search
_PAGES = 10
"""Who asks for fewer different things does not crawl."""

_ONE_CLIENT = 0.9
_HALF = 0.5


def genuine(subject: str, claimed: str | None = None) -> str | None:
    """The crawler whose published networks an address is within: of others than it is `claimed` to be, too, but for
    fetchers that others send.
    """
    address = subject.partition("/")[0]
    if claimed is not None and in_published_range(claimed, address):
        return claimed
    if covers_published(subject) is None:
        return None
    return next((name for name in CRAWLERS if in_published_range(name, address)), None)


def genuine_crawler(one: Carried) -> str | None:
    """The crawler that sent most of what genuine ones sent of a class, where that is half of it or more."""
    sent: Counter[str] = Counter()
    for subject, number in one.addresses.items():
        if (name := genuine(subject)) is not None:
            sent[name] += number
    return sent.most_common(1)[0][0] if sent and sent.total() >= _HALF * one.requests else None


def is_honest_client(one: Carried) -> bool:
    """Whether nearly all of a class is of one client that says what it is, and is not refuted."""
    agent, number = one.agents.most_common(1)[0]
    signature = one.signature
    if number < _ONE_CLIENT * one.requests or signature.method == "POST" or not honest_name(agent):
        return False
    if claimed_crawler(agent) is None and not _in_one_network(one.addresses):
        return False
    if is_library(agent) and not _is_crawling(one):
        return False
    return not _is_forged(agent, signature, one)


def _is_crawling(one: Carried) -> bool:
    """Whether it goes from page to page: an app asks for the same few things, or has an interface made for it."""
    pages = {(group.path, group.query) for group in one.groups}
    served = sum(group.requests for group in one.groups if _INTERFACE(group.path))
    return len(pages) >= _PAGES and 2 * served < one.requests


def _is_forged(agent: str, signature: Signature, one: Carried) -> bool:
    """Whether a claim to be a known crawler is refuted, by what it asks for or by where it comes from."""
    name = claimed_crawler(agent)
    if name is None:
        return False
    first = next(iter(one.addresses), "").partition("/")[0]
    refuted = in_published_range(name, first, one.first_ts) is False
    return refuted or contradiction(agent, signature.method, signature.path or "", None) is not None


def _in_one_network(addresses: Mapping[str, int]) -> bool:
    """Whether nearly all requests come from one /24 or /48."""
    if not addresses:
        return False
    first = ip_network(next(iter(addresses)))
    network = first.supernet(new_prefix=24 if first.version == 4 else 48)
    inside = sum(number for address, number in addresses.items() if _within(address, network))
    return inside >= _ONE_CLIENT * sum(addresses.values())


def _within(subject: str, network: IPv4Network | IPv6Network) -> bool:
    address = ip_network(subject).network_address
    return address in network
