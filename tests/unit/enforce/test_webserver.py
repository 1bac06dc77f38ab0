"""What Apache and nginx are told of classes of requests, held against a plain reading of what a class is."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from ipaddress import IPv6Address, ip_network
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
import regex  # type: ignore[import-untyped]  # it has no stubs
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tocsin.enforce.pasting import denial_rule
from tocsin.enforce.webserver import (
    LEASE_S,
    MAX_SPARED,
    Denial,
    apache_classes,
    apache_conf,
    check,
    nginx_conf,
    spare_names,
    subject_names,
)
from tocsin.model import Signature

NOW_TS = 1_700_000_000.0
PARTS = st.text("ab/.*-$\\\"'(){}[]#%\u00e9 ", max_size=6)
QUERIES = st.text("ab=&-$\\(", max_size=8)


class Request(NamedTuple):
    """What a server knows of a request."""

    method: str = "GET"
    name: str = "main.example"
    host: str = "main.example"
    query: str = ""
    path: str = "/"
    agent: str = ""
    protocol: str = "HTTP/1.1"

    @property
    def values(self) -> tuple[str, ...]:
        """What a class is compared with, in the order in which both servers say it."""
        return f"{self.method}/{self.protocol}", self.name, self.host, self.query, self.path, self.agent


def belongs(signature: Signature, request: Request) -> bool:
    """Whether a request is of a class, read plainly."""
    path = "[^/]*".join(map(re.escape, (signature.path or "").split("*")))
    nameless = request.agent in ("", "-")  # servers log the one as the other
    return (
        signature.method in (None, request.method)
        and signature.protocol in (None, request.protocol)
        and (signature.path is None or re.fullmatch(path, request.path) is not None)
        and (signature.query is None or has(signature.query, request.query))
        and (
            signature.user_agent is None
            or (signature.user_agent in request.agent if signature.user_agent else nameless)
        )
    )


def has(part: str, query: str) -> bool:
    """Whether a query has such a pair, or one of such a name."""
    if not part:
        return not query
    start, end = ("" if part[0] == "=" else "&"), ("" if part[-1] == "=" else "&")
    return f"{start}{part}{end}" in f"&{query}&"


def apache_says(signature: Signature, request: Request, ts: float = NOW_TS, zone: ZoneInfo | None = None) -> bool:
    """What the expression in Apache's configuration says, of `ts` by a clock in `zone`."""
    found = re.search(r"=~ m#(.*?)# \\\n", apache_conf("/run/x"))
    assert found
    pattern = re.sub(r"\\g\{(\d+)\}", r"\\g<\1>", found[1])
    classes = apache_classes([(7, signature)], NOW_TS, ZoneInfo("Europe/Paris"))
    clock = datetime.fromtimestamp(ts, UTC).astimezone(zone or UTC).strftime("%Y%m%d%H%M%S")
    told = f"{clock}\n".encode() + classes + b"\n" + "\t".join(request.values).encode()
    return regex.search(pattern.encode(), told) is not None


def nginx_says(signature: Signature, request: Request, ts: float = NOW_TS, end_ts: float = NOW_TS + 600) -> bool:
    """What the map in nginx's configuration says at `ts`."""
    conf = nginx_conf([Denial("d", signature, (), end_ts)], NOW_TS)
    found = re.search(r'^    "~(\^.*)" 1;$', conf, re.MULTILINE)
    assert found
    told = "\t".join((f"{ts:.3f}", *request.values)).encode()
    return re.search(found[1].replace("(?i:", "(?:").encode(), told) is not None


SIGNATURES = st.builds(
    Signature,
    method=st.sampled_from([None, "GET", "POST"]),
    path=st.none() | PARTS.map(lambda text: re.sub(r"\*[^/]*\*", "*", f"/{text}")),
    query=st.none() | PARTS | QUERIES,
    user_agent=st.none() | PARTS,
    protocol=st.sampled_from([None, None, "HTTP/1.0", "HTTP/2.0"]),
)
REQUESTS = st.builds(
    Request,
    method=st.sampled_from(["GET", "POST"]),
    name=st.just("main.example"),
    host=st.sampled_from(["", "main.example"]),
    query=PARTS | QUERIES,
    path=PARTS.map("/{}".format),
    agent=PARTS | st.just("a\tb"),
    protocol=st.sampled_from(["HTTP/1.0", "HTTP/2.0"]),
)


@given(SIGNATURES, REQUESTS, st.booleans())
@example(Signature("GET", "/a", user_agent="-"), Request(path="/a", agent="-"), False)
@settings(max_examples=600)
def test_both_servers_deny_exactly_the_class(signature: Signature, request: Request, near: bool) -> None:
    try:
        check(signature, (), NOW_TS + 60, NOW_TS)
    except ValueError:
        return
    if near:
        request = Request(
            signature.method or "GET",
            query=f"a&{signature.query}" if signature.query else "",
            path=(signature.path or "/").replace("*", "a."),
            agent=f"x{signature.user_agent}" if signature.user_agent else "",
            protocol=signature.protocol or "HTTP/1.1",
        )
        assert belongs(signature, request)
    assert apache_says(signature, request) == belongs(signature, request)
    assert nginx_says(signature, request) == belongs(signature, request)


def test_a_site_is_known_by_its_names() -> None:
    shop = Signature("GET", "/", vhost="www.shop.example")
    for host in ("shop.example", "www.shop.example"):
        assert apache_says(shop, Request(name="main.example", host=f"{host}:8080"))
        assert apache_says(shop, Request(name=host))
        assert nginx_says(shop, Request(host=host))
    for host in ("myshop.example", "shop.example.net", "shopxexample"):
        assert not apache_says(shop, Request(name=host, host=host))
        assert not nginx_says(shop, Request(name=host, host=host))


def test_the_lease_is_over_when_it_is_over_whatever_the_hour() -> None:
    signature, request = Signature(path="/"), Request()
    paris, tokyo = ZoneInfo("Europe/Paris"), ZoneInfo("Asia/Tokyo")
    for zone in (None, paris):
        during = [apache_says(signature, request, NOW_TS + s, zone) for s in (-2, 0, LEASE_S - 1)]
        after = [apache_says(signature, request, NOW_TS + s, zone) for s in (-3, LEASE_S, 600, 86400, 90 * 86400)]
        assert (during, after) == ([True] * 3, [False] * 5)
    assert not apache_says(signature, request, NOW_TS, tokyo)
    assert apache_classes([], NOW_TS) == b""
    assert [nginx_says(signature, request, NOW_TS + s) for s in (0, 600, 701, 10 * 86400)] == [True, True, False, False]


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (Signature("GET", vhost="shop.example"), "needs a path"),
        (Signature("G T", "/"), "method"),
        (Signature("", "/"), "method"),
        (Signature(path="xmlrpc.php"), "root"),
        (Signature(path="/*"), "most of the site"),
        (Signature(path="/a*b*"), "one \\*"),
        (Signature(path="/*/*/*/*/*"), "4 in all"),
        (Signature(path="/a\tb"), "control"),
        (Signature(path="/", user_agent="a\nb"), "control"),
        (Signature(path="/", query="\x01"), "control"),
        (Signature(path="/", vhost="www."), "vhost"),
        (Signature(user_agent="x" * 1025), "1024"),
        (Signature(path="/" + "é" * 512), "1024"),
    ],
)
def test_a_class_that_is_no_class_is_refused(signature: Signature, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        check(signature, (), NOW_TS + 60, NOW_TS)


@pytest.mark.parametrize("spare", ["192.0.2.0/24", "2001:db8::/48", "2001:DB8::1", "example.org", "192.0.2.7/32", ""])
def test_only_addresses_and_64s_are_spared(spare: str) -> None:
    with pytest.raises(ValueError, match="spared"):
        check(Signature(path="/"), (spare,), NOW_TS + 60, NOW_TS)
    check(Signature(path="/"), ("192.0.2.7", "2001:db8::/64", "2001:db8::1"), NOW_TS + 60, NOW_TS)


@pytest.mark.parametrize("end_s", [0, -1, 3601])
def test_no_denial_is_for_long(end_s: float) -> None:
    with pytest.raises(ValueError, match="within 3600"):
        check(Signature(path="/"), (), NOW_TS + end_s, NOW_TS)
    with pytest.raises(ValueError, match="at most 5000"):
        check(Signature(path="/"), ("192.0.2.7",) * (MAX_SPARED + 1), NOW_TS + 60, NOW_TS)


def names_of_client(address: str) -> set[str]:
    """The names that Apache looks up for a client, by its own expression."""
    found = re.search(r"\(\\d\+\) (.*?)# &&", apache_conf("/run/x"))
    assert found
    match = re.match(found[1], address)
    widths = re.findall(r"/\$1/(\d+)-\$(\d)", apache_conf("/run/x"))
    groups = {width: match[int(group) - 1] for width, group in widths} if match else {}
    return {address, *(f"{width}-{text}" for width, text in groups.items() if text)}


@given(st.integers(0x2001_0001 << 96, (0x3FFF_FFFF << 96)), st.sets(st.integers(0, 7), max_size=7))
def test_an_ipv6_client_is_spared_by_its_64_and_no_other(number: int, zeros: set[int]) -> None:
    for group in zeros - {0, 1}:
        number &= ~(0xFFFF << 16 * (7 - group))
    address = IPv6Address(number)
    own = ip_network((number >> 64 << 64, 64))
    other = ip_network(((number >> 64 ^ 1) << 64, 64))
    asked = names_of_client(str(address))
    assert asked & set(subject_names(str(own)))
    assert not asked & set(subject_names(str(other)))
    for width in (32, 48):
        assert asked & set(spare_names(own.supernet(new_prefix=width)))


@given(st.integers(1 << 24, (224 << 24) - 1), st.integers(8, 32))
def test_an_ipv4_client_is_spared_by_its_prefix_alone(number: int, bits: int) -> None:
    network = ip_network((number >> 32 - bits << 32 - bits, bits))
    names = set(spare_names(network))
    assert len(names) <= 128
    assert names_of_client(str(network[-1])) & names
    assert not names_of_client(str(network[0] - 1)) & names
    assert not names_of_client(str(network[-1] + 1)) & names


def test_what_is_pasted_denies_the_class_and_no_more() -> None:
    whole = Signature("POST", "/a*/x.php", "s=", "www.shop.example", "Evil (bot)")
    assert denial_rule("apache", whole).splitlines()[1:] == [
        "RewriteEngine On",
        "RewriteCond %{REQUEST_METHOD} =POST",
        r'RewriteCond %{HTTP_HOST} "^(www\.)?shop\.example(:\d+)?$" [NC]',
        'RewriteCond %{QUERY_STRING} "(?:^|&)s="',
        r'RewriteCond %{HTTP_USER_AGENT} "Evil\ \(bot\)"',
        r"RewriteRule ^/a[^/]*/x\.php$ - [R=429,L]",
    ]
    assert "if ($denied) { return 429; }" in denial_rule("nginx", whole)
    for hostile in ('a"b', "a\\b", "a${b}", "a\nb"):
        assert denial_rule("apache", Signature(path="/", user_agent=hostile)) == ""
        assert denial_rule("nginx", Signature(path="/", query=hostile)) == ""
