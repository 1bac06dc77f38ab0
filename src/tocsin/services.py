"""The services that a ban closes: spans of ports of a protocol, and the one text that stands for a collection of them.

`tcp/22,tcp/8000-8080,udp/53`: sorted, merged, both ends of a span included. No text at all means everything. A text
that comes from elsewhere is taken only where it is what `render_services` would write.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import lru_cache
from typing import NamedTuple

PORT_MAX = 65535
WITH_PORTS = frozenset(("tcp", "udp", "udplite", "sctp", "dccp"))
WITHOUT_PORTS = frozenset(("icmp", "icmpv6"))
SAME = {"ipv6-icmp": "icmpv6"}
TEXT_MAX = 200  # it becomes part of the name of a set, which has at most 255 bytes
COLLECTIONS_MAX = 64  # different ones that the firewall keeps: each has sets and rules of its own


class Span(NamedTuple):
    """Ports of a protocol, both ends included. Of a protocol without ports: 0 to 65535."""

    protocol: str
    low: int
    high: int

    def __str__(self) -> str:
        return f"{self.protocol}/{self.low}" if self.low == self.high else f"{self.protocol}/{self.low}-{self.high}"


def render_services(spans: Iterable[Span]) -> str:
    """The text; spans that overlap or touch are merged. ValueError where it cannot be: says what and why."""
    merged: list[Span] = []
    for protocol, low, high in sorted({_whole(span) for span in spans}):
        if merged and merged[-1].protocol == protocol and low <= merged[-1].high + 1:
            merged[-1] = Span(protocol, merged[-1].low, max(high, merged[-1].high))
        else:
            merged.append(Span(protocol, low, high))
    text = ",".join(map(str, merged))
    if len(text) > TEXT_MAX:
        raise ValueError(f"{len(merged)} spans of ports are more than one ban can close")
    return text


@lru_cache(maxsize=4 * COLLECTIONS_MAX)
def parse_services(text: str) -> tuple[Span, ...]:
    """The spans of a text, at least one. ValueError where `render_services` would not write it so."""
    if not 0 < len(text) <= TEXT_MAX or not text.isascii():
        raise ValueError(f"expected services such as tcp/22,udp/8000-8080, got {text!r:.80}")
    try:
        spans = tuple(_span(part) for part in text.split(","))
        canonical = render_services(spans)
    except ValueError as error:
        raise ValueError(f"expected services such as tcp/22,udp/8000-8080, got {text!r:.80}: {error}") from error
    if canonical != text:
        raise ValueError(f"expected the canonical text {canonical}, got {text!r:.80}")
    return spans


def _span(text: str) -> Span:
    protocol, slash, ports = text.partition("/")
    low, dash, high = ports.partition("-")
    if not slash or not low.isdigit() or not (high.isdigit() if dash else True):
        raise ValueError("a protocol, a slash and a port, or two with a hyphen between them")
    return Span(protocol, int(low), int(high if dash else low))


def _whole(span: Span) -> Span:
    protocol, low, high = SAME.get(span.protocol, span.protocol), span.low, span.high
    if protocol in WITHOUT_PORTS:
        return Span(protocol, 0, PORT_MAX)
    if protocol not in WITH_PORTS:
        raise ValueError(f"of the protocol {protocol!r:.20} single ports cannot be closed")
    if not 0 <= low <= high <= PORT_MAX:
        raise ValueError(f"ports go from 0 to {PORT_MAX}")
    return Span(protocol, low, high)
