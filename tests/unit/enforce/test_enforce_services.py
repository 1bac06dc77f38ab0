"""Targets with services: their sets, the rules that ask them, and which connections they end."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.enforce.elements import PERMANENT, Element
from tocsin.enforce.protocol import Actual, Banned, ProtocolError, pack_elements, unpack_elements
from tocsin.enforce.ruleset import render_table
from tocsin.enforce.sockets import _Closing
from tocsin.enforce.subjects import Target, is_service_set, parse_subject, render_target, services_of

MANY = "tcp/22,tcp/8000-8080,udp/53"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("192.0.2.7 tcp/22", "host4.tcp/22"),
        (f"192.0.2.7 {MANY}", "host4.tcp/22_tcp/8000-8080_udp/53"),
        (f"2001:db8:1:2::/64 {MANY}", "host6.tcp/22_tcp/8000-8080_udp/53"),
    ],
)
def test_a_target_lives_in_the_set_of_its_services(text: str, name: str) -> None:
    target = parse_subject(text)
    assert target.set == name
    assert is_service_set(name)
    assert services_of(name) == text.partition(" ")[2]
    assert render_target(target) == text
    rows = pack_elements(name, [Element(target.key, target.prefix, PERMANENT, 3, 180)], 1000.0)
    assert list(unpack_elements(Actual(1, name, rows))) == [Banned(text, None, 3, 180)]


@pytest.mark.parametrize(
    "text",
    [
        "192.0.2.7 ", " tcp/22", "192.0.2.7  tcp/22", "192.0.2.7 tcp/22 ", "192.0.2.7\ttcp/22", "192.0.2.7 ssh",
        "192.0.2.7 tcp/22\n", "192.0.2.7 tcp/22 tcp/80", "192.0.2.7/32 tcp/22", "192.0.2.0/24 tcp/22",
        "2001:db8::1 tcp/22", "2001:db8::/48 tcp/22", "localhost tcp/22", "192.0.2.7 tcp/22;flush", "192.0.2.7 @host4",
        "192.0.2.7 tcp/22 } drop", "192.0.2.7 tcp/65536", "192.0.2.7 esp/0-65535", "192.0.2.7 tcp/22_udp/53",
    ],
)  # fmt: skip
def test_hostile_targets_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_subject(text)


@given(st.text(max_size=40) | st.text(" tcpudp/,-.0123456789", max_size=40).map("192.0.2.7 ".__add__))
def test_any_text_is_refused_or_is_what_would_be_rendered(text: str) -> None:
    try:
        target = parse_subject(text)
    except ValueError:
        return
    assert render_target(target) == text


@pytest.mark.parametrize(
    "name",
    ["host4", "host4.", "net4.tcp/22", "host4.tcp/22,udp/53", "host5.tcp/22", "__set0", "host4.x", "host4.tcp/22.x"],
)
def test_other_sets_are_not_taken_for_ours(name: str) -> None:
    assert not is_service_set(name)
    if name != "host4":
        with pytest.raises(ProtocolError):
            list(unpack_elements(Actual(1, name, b"")))


def test_the_table_asks_each_protocol_for_its_ports() -> None:
    services = [MANY, "icmp/0-65535,tcp/0-65535"]
    lines = render_table("t", services=services).split("\n")
    sets = [line.split()[4] for line in lines if line.startswith("add set")]
    assert sets[5:] == [
        "host4.tcp/22_tcp/8000-8080_udp/53",
        "host6.tcp/22_tcp/8000-8080_udp/53",
        "host4.icmp/0-65535_tcp/0-65535",
        "host6.icmp/0-65535_tcp/0-65535",
    ]
    rules = [line.removeprefix("add rule inet t prerouting ") for line in lines if line.startswith("add rule")]
    assert rules[0] == "iif lo accept"
    assert rules[6:8] == [
        "meta l4proto 6 th dport { 22, 8000-8080 } ip saddr @host4.tcp/22_tcp/8000-8080_udp/53 drop",
        f"meta l4proto 6 th dport {{ 22, 8000-8080 }} ip6 saddr and ffff:ffff:ffff:ffff:: @{sets[6]} drop",
    ]
    assert rules[8].startswith("meta l4proto 17 th dport { 53 } ip saddr")
    assert rules[10] == "meta l4proto 1 ip saddr @host4.icmp/0-65535_tcp/0-65535 drop"
    assert rules[12] == "meta l4proto 6 ip saddr @host4.icmp/0-65535_tcp/0-65535 drop"
    assert len(rules) == 6 + 4 + 4


def test_connections_are_ended_by_their_own_port() -> None:
    texts = ["192.0.2.7 tcp/22", "192.0.2.7 tcp/8000-8080,udp/443", "192.0.2.8", "192.0.2.8 tcp/22", "192.0.2.9 udp/22"]
    targets = {text: parse_subject(text) for text in texts}
    closing = _Closing(set(targets.values()))
    hosts = {text: parse_subject(text) for text in ("192.0.2.7", "192.0.2.8", "192.0.2.9")}
    assert closing.subjects == set(hosts.values())

    def ended(host: str, port: int) -> Target | None:
        return closing.target_of(hosts[host], port)

    assert ended("192.0.2.7", 22) == targets["192.0.2.7 tcp/22"]
    assert [ended("192.0.2.7", port) for port in (8000, 8080)] == [targets["192.0.2.7 tcp/8000-8080,udp/443"]] * 2
    assert [ended("192.0.2.7", port) for port in (21, 23, 443, 7999, 8081)] == [None] * 5
    assert [ended("192.0.2.8", port) for port in (1, 22)] == [targets["192.0.2.8"]] * 2
    assert ended("192.0.2.9", 22) is None
    assert closing.target_of(None, 22) is None
