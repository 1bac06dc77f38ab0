"""The text that stands for the services of a ban: one for each collection, and nothing else is taken for one."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.services import PORT_MAX, TEXT_MAX, WITH_PORTS, Span, parse_services, render_services

ports = st.integers(0, PORT_MAX)
spans = st.builds(
    lambda protocol, low, width: Span(protocol, low, min(PORT_MAX, low + width)),
    st.sampled_from(sorted(WITH_PORTS)),
    ports,
    st.sampled_from([0, 0, 1, 7, 1000]),
)


@pytest.mark.parametrize(
    ("given_spans", "text"),
    [
        ([Span("tcp", 22, 22)], "tcp/22"),
        ([Span("udp", 53, 53), Span("tcp", 443, 443), Span("tcp", 80, 80)], "tcp/80,tcp/443,udp/53"),
        ([Span("tcp", 80, 90), Span("tcp", 85, 100), Span("tcp", 101, 101)], "tcp/80-101"),
        ([Span("tcp", 0, PORT_MAX), Span("tcp", 22, 22)], "tcp/0-65535"),
        ([Span("ipv6-icmp", 1, 2), Span("icmp", 0, PORT_MAX)], "icmp/0-65535,icmpv6/0-65535"),
        ([], ""),
    ],
)
def test_spans_are_sorted_and_merged(given_spans: list[Span], text: str) -> None:
    assert render_services(given_spans) == text
    assert not text or render_services(parse_services(text)) == text


@pytest.mark.parametrize(
    "text",
    [
        "", " ", "tcp", "tcp/", "/22", "tcp/ssh", "tcp/22,", ",tcp/22", "tcp/22,,udp/53", "tcp/022", "tcp/-1",
        "tcp/22-", "tcp/30-20", "tcp/22-22", "tcp/65536", "tcp/99999999999999999999", "tcp/2²", "tcp/٢٢", "TCP/22",
        "tcp/22 ", " tcp/22", "tcp/22\n", "tcp/22;drop", "ip/22", "all/22", "tcp/80,tcp/22", "tcp/22,tcp/22",
        "tcp/22,tcp/23", "tcp/22-25,tcp/24-30", "udp/53,tcp/22", "icmp/8", "ipv6-icmp/0-65535", "tcp/22}",
        "tcp/22_udp/53", "tcp/+22",
        ",".join(f"tcp/{port}" for port in range(1, 200, 2)), "tcp/1" * 100_000,
    ],
)  # fmt: skip
def test_what_would_not_be_written_so_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_services(text)


def test_more_than_one_ban_can_close_is_refused() -> None:
    with pytest.raises(ValueError, match="more than one ban can close"):
        render_services(Span("tcp", port, port) for port in range(1, 2 * TEXT_MAX, 2))


@given(st.lists(spans, min_size=1, max_size=6))
def test_a_text_closes_what_its_spans_close(some: list[Span]) -> None:
    text = render_services(some)
    parsed = parse_services(text)
    assert render_services(parsed) == text
    edges = {(one.protocol, port) for one in some for port in (one.low - 1, one.low, one.high, one.high + 1)}
    for protocol, port in edges:
        inside = [any(p == protocol and low <= port <= high for p, low, high in each) for each in (some, parsed)]
        assert inside[0] == inside[1]


@given(st.text(max_size=30) | st.text("tcpudp/,-0123456789", max_size=30))
def test_any_text_is_refused_or_is_what_would_be_written(text: str) -> None:
    try:
        found = parse_services(text)
    except ValueError:
        return
    assert render_services(found) == text
