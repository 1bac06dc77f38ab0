"""Names that are claimed, the networks that operators publish, and how their machines are called."""

from __future__ import annotations

import hashlib
import re
from collections import defaultdict
from datetime import UTC, datetime
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.decide.crawlers import (
    CRAWLERS,
    DRIVEN,
    HOSTS,
    LISTS,
    claimed_crawler,
    covers_published,
    in_published_range,
    is_named,
    ranges_ts,
    read_ranges,
    shipped,
)

SHA256 = "29e11fb9bd86283a285e2f8bcf6d8fbbb515aa74c437bf17c031084a4ef724a7"
"""Of the shipped lists: who refreshes them says so here."""


@pytest.mark.parametrize(
    ("name", "address", "expected"),
    [
        ("Googlebot", "66.249.73.135", True),
        ("Googlebot", "2001:4860:4801:10::1", True),
        ("Googlebot", "63.251.225.206", False),
        ("Googlebot", "203.0.113.9", False),
        ("Googlebot", "2001:db8::1", False),
        ("GPTBot", "132.196.86.1", True),
        ("GPTBot", "132.196.87.0", False),
        ("GPTBot", "104.210.140.130", None),  # another of its operator's
        ("MJ12bot", "192.0.2.7", None),
        ("nobody", "192.0.2.7", None),
        ("Googlebot", "no address", None),
    ],
)
def test_published_ranges(name: str, address: str, expected: bool | None) -> None:
    assert in_published_range(name, address) is expected


def test_an_absence_means_nothing_in_another_year() -> None:
    then = datetime(2015, 5, 18, tzinfo=UTC).timestamp()
    assert in_published_range("bingbot", "157.56.92.151") is False
    # a real one, of a log of that day
    assert in_published_range("bingbot", "157.56.92.151", then) is None
    assert in_published_range("Googlebot", "66.249.73.135", then) is True
    assert in_published_range("Googlebot", "203.0.113.9", ranges_ts() + 30 * 86400) is False


def test_the_file_says_where_it_comes_from_and_holds_what_is_asked_for() -> None:
    text = files("tocsin.decide").joinpath("crawler_ranges.txt").read_text("utf-8")
    assert re.search(r"SHA-256 [0-9a-f]{64}\.", text)
    assert hashlib.sha256(text.encode()).hexdigest() == SHA256
    assert ranges_ts() == datetime(2026, 9, 2, tzinfo=UTC).timestamp()
    networks: defaultdict[str, list[IPv4Network | IPv6Network]] = defaultdict(list)
    name = ""
    for line in text.splitlines():
        if line.startswith(" "):
            networks[name].extend(map(ip_network, line.split()))
        elif line and not line.startswith("#"):
            name = line.split()[0]
    assert {each for lists in CRAWLERS.values() for each in lists} <= set(networks)
    for found in networks.values():
        for version in (4, 6):
            # sorted and disjoint, as the search asks; as few as can be
            kept = [each for each in found if each.version == version]
            assert kept == list(collapse_addresses(kept))  # type: ignore[type-var]
            assert all(each.prefixlen >= 8 for each in kept)


@given(st.one_of(st.none(), st.text(max_size=300)), st.text(max_size=50))
def test_any_text_is_judged(agent: str | None, address: str) -> None:
    assert claimed_crawler(agent) in {None, "YandexBot", *CRAWLERS}
    assert in_published_range("Googlebot", address) in {None, True, False}


@pytest.mark.parametrize(
    ("host", "named"),
    [
        ("crawl-66-249-66-1.googlebot.com", True),
        ("geo-crawl-34-80-50-81.geo.googlebot.com.", True),
        ("CRAWL.GoogleBot.com", True),
        ("evilgooglebot.com", False),
        ("googlebot.com", False),
        (".googlebot.com", False),
        ("crawl.googlebot.com.example.net", False),
        ("", False),
    ],
)
def test_a_name_fits_at_the_border_of_a_label(host: str, *, named: bool) -> None:
    assert is_named(host, HOSTS["Googlebot"].patterns) is named


def test_names_of_machines_that_anybody_can_rent_prove_nothing() -> None:
    patterns = [pattern for hosts in HOSTS.values() for pattern in (*hosts.patterns, *hosts.kin)]
    for host in ("1.2.3.4.bc.googleusercontent.com", "ec2-192-0-2-7.compute.amazonaws.com", "a.cloudapp.azure.com"):
        assert not is_named(host, patterns)
    assert is_named("rate-limited-proxy-66-249-90-77.google.com", HOSTS["AdsBot-Google"].patterns)
    assert not is_named("google-proxy-66-249-81-1.google.com", HOSTS["AdsBot-Google"].patterns)


@given(st.sampled_from(["0.0.0.0/0", "66.249.0.0/16"]), st.integers(16, 32), st.integers(0, 2**16 - 1))
def test_what_covers_a_published_network_is_found(base: str, length: int, offset: int) -> None:
    """The search against a look at every network, over prefixes of any length."""
    low = int(ip_network(base)[0]) + (offset << (16 if base.endswith("/0") else 0))
    subject = ip_network((low, length), strict=False)
    text = str(subject[0]) if length == 32 else str(subject)
    proper = [one for name, one in shipped().lists.items() if name not in DRIVEN]
    expected = any(
        first <= int(subject[-1]) and last >= int(subject[0])
        for one in proper
        for first, last in zip(one.firsts[4], one.lasts[4], strict=True)
    )
    assert (covers_published(text) is not None) is expected


def test_the_sentence_names_crawler_network_and_day() -> None:
    assert covers_published("157.55.39.7") == "verified crawler bingbot (157.55.39.0/24, published 2026-09-02)"
    assert covers_published("203.0.113.0/24") is None
    for name in DRIVEN:
        assert name in LISTS


OWN = """# date 2026-11-01
google-googlebot Google https://example.org/a.json
  192.0.2.128/25 192.0.2.0/25
\t2001:db8:1::/48

bing-bingbot Microsoft https://example.org/b.json
  198.51.100.7/32
"""


def test_a_file_of_ones_own_replaces_the_lists() -> None:
    own = read_ranges(OWN)
    assert own.covered("192.0.2.200") == "verified crawler Googlebot (192.0.2.0/24, published 2026-11-01)"
    assert own.network("Googlebot", "2001:db8:1:2::3") == "2001:db8:1::/48"
    assert own.in_range("bingbot", "198.51.100.7", own.ts) is True
    assert own.in_range("GPTBot", "198.51.100.7", own.ts) is None, "no list, no verdict"
    assert own.in_range("GoogleOther", "203.0.113.9", own.ts) is False


@pytest.mark.parametrize(
    ("text", "wrong"),
    [
        ("", "no line `# date"),
        ("# date 2026-11-01\n", "it holds no list"),
        ("# date yesterday\n", "line 1: "),
        ("# date \n", "line 1: "),
        ("# date 2026-11-01\n  192.0.2.0/24\n", "line 2: networks before the name of a list"),
        ("# date 2026-11-01\ngooglebot Google\n", "line 2: expected the name of a list"),
        ("# date 2026-11-01\nbing-bingbot\n", "line 2: expected the name of a list"),
        ("# date 2026-11-01\nbing-bingbot Microsoft\n  192.0.2.7/24\n", "line 3: 192.0.2.7/24 has host bits set"),
        ("# date 2026-11-01\nbing-bingbot Microsoft\n  0.0.0.0/0\n", "line 3: 0.0.0.0/0 is wider"),
        ("# date 2026-11-01\nbing-bingbot Microsoft\n  here\n", "line 3: "),
    ],
)
def test_a_mistake_in_the_file_is_told_with_its_line(text: str, wrong: str) -> None:
    with pytest.raises(ValueError, match=re.escape(wrong)):
        read_ranges(text)


def test_every_list_of_a_crawler_has_networks() -> None:
    assert set(LISTS) == set(shipped().lists)
    for one in shipped().lists.values():
        assert one.firsts[4]
        assert all(ip_address(first).version == 4 for first in one.firsts[4])
