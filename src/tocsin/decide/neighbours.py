"""Who else was lately seen in a network: asked only when it is about to be banned, so that no line pays for it.

The rule that counts every request (`request-flood`) knows each client of the last half to whole hour by its key, as
long as the engine tracks it; the breaker's visitors are known beside that. A network of up to 65,536 hosts is asked
for name by name; of a wider one (IPv6 /48) only the `LATEST` clients are looked through.

A *suspect* is a client that a rule counts: of what it asked for lately, at least half is what the offenders' rules
count. It is on its way to be an offender, not somebody to be spared.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from itertools import chain, islice
from typing import TYPE_CHECKING, Any

from tocsin.decide.subjects import bounds, prefix_of

if TYPE_CHECKING:
    from tocsin.decide.visitors import Visitors
    from tocsin.detect.plan import Tracker
    from tocsin.detect.window import Window

LATEST = 20_000  # 2 ms
ASKED_BY_NAME = 1 << 16
_IPV6 = 1 << 64
_LAST_OCTETS = tuple(str(octet) for octet in range(256))


def host_key(subject: str) -> int:
    """A host as a number: IPv4 addresses below 2^32, IPv6 /64 from 2^64 on. Of a prefix that of its first host."""
    version, low, _ = bounds(subject)
    return low if version == 4 else _IPV6 | low >> 64


def host_text(key: int) -> str:
    """The inverse of `host_key`: an IPv4 address, or an IPv6 /64."""
    if key < _IPV6:
        return f"{key >> 24}.{key >> 16 & 255}.{key >> 8 & 255}.{key & 255}"
    groups = [key >> shift & 0xFFFF for shift in (48, 32, 16, 0)]
    while (
        groups and not groups[-1]
    ):  # the zeros at the end are the longest row of them, so that is what `::` stands for
        groups.pop()
    return ":".join(f"{group:x}" for group in groups) + "::/64"


def prefix_text(low: int, length: int) -> str:
    """The prefix of a length that begins with a host."""
    return prefix_of(4, low, length) if low < _IPV6 else prefix_of(6, (low & _IPV6 - 1) << 64, length)


class Neighbours:
    """Looks into what the engine's rules and the breaker hold anyway. `known`: a rule counts every request."""

    def __init__(self, trackers: Iterable[Tracker] = (), visitors: Visitors | None = None) -> None:
        trackers = tuple(trackers)
        flood = next((t for t in trackers if t.rule.skim and _counts_hosts(t)), None)
        self._flood: Window | None = flood.window if flood else None
        self._windows = {t.id: t.window for t in trackers if t.by_address and _counts_hosts(t) and t is not flood}
        self._visitors = visitors
        self.known = flood is not None

    def seen(self, prefix: str, low: int, size: int) -> Iterator[str]:
        """Those of a prefix (from `low`, `size` hosts) that were seen lately, banned or not."""
        return self._asked(low, size) if size < ASKED_BY_NAME else self._looked_through(prefix, low, size)

    def is_visitor(self, host: str) -> bool:
        """Whether it has lately behaved like a visitor."""
        return self._visitors is not None and bool(self._visitors.hit_by(host))

    def is_suspect(self, host: str, rules: Collection[str]) -> bool:
        """Whether half of what it asked for counts for one of these rules."""
        windows = self._windows
        counted = max((_count(windows[rule], host) for rule in rules if rule in windows), default=0)
        return counted > 0 and 2 * counted >= (_count(self._flood, host) if self._flood else 1)

    def _asked(self, low: int, size: int) -> Iterator[str]:
        young: Collection[str] = self._flood.young if self._flood else ()
        old: Collection[str] = self._flood.old if self._flood else ()
        may_hit = self._visitors.may_hit if self._visitors else _nobody
        for host in _hosts(low, size):
            if host in young or host in old or may_hit(host):
                yield host

    def _looked_through(self, prefix: str, low: int, size: int) -> Iterator[str]:
        clients = chain(reversed(self._flood.young), reversed(self._flood.old)) if self._flood else iter(())
        latest = (host for host in islice(clients, LATEST) if (":" in host) == (":" in prefix))
        begins = prefix.partition(":")[0] + ":"  # most are of quite another part of the world
        inside = (host for host in latest if host.startswith(begins) and low <= host_key(host) < low + size)
        visitors = self._visitors.hit_by(prefix) if self._visitors else {}
        return chain(visitors, (host for host in inside if host not in visitors))


def _counts_hosts(tracker: Tracker) -> bool:
    rule = tracker.rule.rule
    return rule.ipv4_prefix == 32 and rule.ipv6_prefix == 64


def _hosts(low: int, size: int) -> Iterator[str]:
    """The names of hosts in a row."""
    if low >= _IPV6:
        yield from map(host_text, range(low, low + size))
        return
    for start in range(low, low + size, 256):
        net = host_text(start).rpartition(".")[0] + "."
        yield from (net + octet for octet in _LAST_OCTETS[start & 255 : (start & 255) + size])


def _count(window: Window, host: str) -> int:
    """How often a window has counted a host lately."""
    value: Any = window.young.get(host)
    if value is None:
        value = window.old.get(host)
    if type(value) is dict:
        return sum(map(len, value.values()))
    return len(value) if type(value) is list else int(value is not None)


def _nobody(_host: str) -> bool:
    return False
