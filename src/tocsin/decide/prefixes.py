"""Networks: where several addresses of one offend within a while, all of it is banned.

An *offender* is an address (IPv6: a /64) whose ban is in force because a rule has found it; it counts at its latest
offence, for `within_s`. With each new one the prefixes that hold it are tried, and the widest is banned that has, in
some span of `within_s` that holds the new offence, offenders who are

- *enough*: `offenders` (4) for an IPv4 /24 or less and an IPv6 /56. In a wider IPv4 prefix one more for each /24; of
  each /24 no more than four count. For an IPv6 /48, a site like a /56 in a larger house, twice as many;
- *spread over it*: of each sixteenth of the prefix no more than two count, and both halves hold one, so that no shorter
  prefix would do. Three in a rented /29 and one stray beyond take no /24. A wider IPv4 prefix is tried as what it is, a
  row of /24s: three in four of them must hold two or more, or lie in a wider network that was banned within the span
  and hides what else they hold. Five at random in a provider's /20 never take it, whoever else is there; an attacker
  at home in all of it has lost each /24 by four anyhow, so nothing is urgent;
- *nearly alone*: nobody in it has lately behaved like a visitor (`visitors.py`), and of other clients that were seen
  there is at most one for eight offenders. Who asks for little but what the offenders' rules count is no other client
  (`neighbours.py`). Where nobody knows who else is there, nothing wider than a /24 or a /56 is banned.

Why four: were bots strewn over the networks of the world, at work within the hour in one of ten /24s, four would meet
in one /24 by chance in four of a million, three in one of six thousand.

It never covers who is on the allow list, nor a crawler: its published networks, or an address that proved to be one.

Which prefixes come out does not depend on the order of offences that lie within one `within_s`, as far as nobody else
is seen in them, although a banned network hides its further offenders: that is what the caps are for. Who else is seen,
is so at the moment of trying; a prefix that fails for it is tried again when it has a quarter more offenders, or after
ten minutes. `max_offenders` are remembered, those that came first make room.
"""

from __future__ import annotations

import math
from bisect import bisect_left, insort
from collections import Counter
from collections.abc import Callable, Collection, Iterable, Sequence
from itertools import pairwise

import msgspec
from msgspec import Struct

from tocsin.decide.neighbours import Neighbours, host_key, host_text, prefix_text
from tocsin.duration import render_duration
from tocsin.model import Evidence, Finding

RULE = "network"  # what its findings and bans stand under, and has a breaker of its own

EVIDENCE_LINES = 5
OTHERS_FOR_ONE = 8  # offenders that outweigh one other client
TRIED_AGAIN_AT = 1.25  # so many times as many offenders ...
TRIED_AGAIN_S = 600.0  # ... or after so long
REFUSED_KEPT = 1024
NETWORKS_KEPT = 4096
UNIT = 256  # hosts of the prefix that wider ones are rows of: an IPv4 /24, an IPv6 /56


class PrefixSettings(Struct, frozen=True):
    """`ipv4` and `ipv6` are the lengths of the widest prefixes. `lateness_s` as the engine's."""

    offenders: int = 4
    within_s: float = 3600.0
    ipv4: int = 20
    ipv6: int = 48
    lateness_s: float = 300.0
    max_offenders: int = 8192


class Width(Struct, frozen=True):
    """Prefixes of one length, `size` hosts each: offenders needed in all, of which so many (`cap`) count in each part
    of `part` hosts, and in how many parts there must be two.
    """

    length: int
    size: int
    part: int
    cap: int
    need: int
    pairs: int = 0


class Offender(Struct, array_like=True, frozen=True, gc=False):
    """The latest offence of a host: when, by which rule, how long that bans at first, and the crossing line."""

    ts: float
    rule: str
    ban_s: float | None
    line: Evidence | None


class _Saved(Struct, array_like=True):
    now_ts: float
    offenders: list[tuple[str, Offender]]
    refused: list[tuple[str, int, int, float]]
    networks: dict[str, float]


class _Ripe(Struct, frozen=True):
    """A prefix that may be banned: its offenders, and how many others were seen in it."""

    low: int
    width: Width
    group: list[int]
    others: int


def widths(settings: PrefixSettings) -> tuple[tuple[Width, ...], tuple[Width, ...]]:
    """The lengths that are tried, of IPv4 and of IPv6: up to a /24 (/56) the widest first, then from a /23 (/48) up."""
    base, half = settings.offenders, max(1, settings.offenders // 2)
    ipv4 = []
    for length in (*range(max(24, settings.ipv4), 31), *range(23, settings.ipv4 - 1, -1)):
        size = 1 << 32 - length
        rows = size // UNIT
        if rows > 1:
            ipv4.append(Width(length, size, UNIT, base, base + rows, (3 * rows + 3) // 4))
        else:
            ipv4.append(Width(length, size, max(1, size // 16), half, base))
    ipv6 = [Width(56, UNIT, UNIT // 16, half, base)]
    if settings.ipv6 <= 48:
        ipv6.append(Width(48, UNIT * UNIT, UNIT * UNIT // 16, half, 2 * base))
    return tuple(ipv4), tuple(ipv6)


class Prefixes:
    """The offenders of the last hour, and which networks they led to. Hosts are numbers (`host_key`)."""

    def __init__(self, settings: PrefixSettings | None = None) -> None:
        self.settings = settings = settings or PrefixSettings()
        self._ipv4, self._ipv6 = widths(settings)
        self._now_ts = -math.inf
        self._offenders: dict[int, Offender] = {}  # in the order in which they came
        self._order: list[int] = []  # the same, by address
        self._refused: dict[tuple[int, int], tuple[int, float]] = {}
        self._networks: dict[str, float] = {}  # banned for their offenders, and when
        self._rows: dict[int, float] = {}  # the /24s of those that are wider

    def offended(
        self,
        finding: Finding,
        ban_s: float | None,
        neighbours: Neighbours,
        never: Callable[[str], str | None],
        is_banned: Callable[[str], bool],
    ) -> tuple[Finding, float | None] | None:
        """A host was banned, for `ban_s` if it were for the first time. The finding about the network that this makes
        ripe, and how long to ban that; None mostly. `never` says of a prefix why it may not be banned (None: it may),
        `is_banned` whether a host is.
        """
        key = host_key(finding.subject)
        self._add(key, Offender(finding.ts, finding.rule, ban_s, finding.evidence[-1] if finding.evidence else None))
        ripe: _Ripe | None = None
        for width in self._ipv4 if key < 1 << 32 else self._ipv6:
            low = key & -width.size
            if (ripe is not None and width.size < ripe.width.size) or (width.size > UNIT and not neighbours.known):
                continue
            group = self._group(low, width, finding.ts, self._full(low, width, finding.ts, ripe))
            subject = prefix_text(low, width.length) if group else ""
            if not group or never(subject) is not None:
                continue
            others = self._others(neighbours.seen(subject, low, width.size), group, neighbours, is_banned)
            if others is None:
                self._refuse(low, width)
            else:
                ripe = _Ripe(low, width, group, others)
        return self._finding(finding, ripe, known=neighbours.known) if ripe is not None else None

    def banned(self, network: str, ts: float) -> list[str]:
        """A network is banned now; returns those banned before that lie in it."""
        low, size = _span(network)
        inside = [each for each in self._networks if each != network and low <= host_key(each) < low + size]
        for each in (*inside, network):
            self._networks.pop(each, None)
        self._networks[network] = ts
        while len(self._networks) > NETWORKS_KEPT:
            self._let_go(next(iter(self._networks)))
        self._rows.update(_rows(low, size, ts))
        return inside

    def made(self, prefix: str) -> bool:
        """Whether it was banned for its offenders."""
        return prefix in self._networks

    def forget(self, subject: str) -> None:
        """Bans of a host, or of all in a prefix, were lifted: what they were for does not count any more."""
        low, size = _span(subject)
        self._let_go(subject)
        first, last = bisect_left(self._order, low), bisect_left(self._order, low + size)
        for each in self._order[first:last]:
            del self._offenders[each]
        del self._order[first:last]

    def _let_go(self, network: str) -> None:
        if self._networks.pop(network, None) is not None:
            for row in _rows(*_span(network), 0.0):
                self._rows.pop(row, None)

    # -- the offenders -----------------------------------------------------------------------------------------------

    def _add(self, key: int, offender: Offender) -> None:
        known = self._offenders.pop(key, None)
        if known is None:
            insort(self._order, key)
        elif known.ts > offender.ts:
            offender = known
        self._offenders[key] = offender
        self._now_ts = max(self._now_ts, offender.ts)
        oldest_ts = self._now_ts - self.settings.within_s - self.settings.lateness_s
        while True:
            first = next(iter(self._offenders))
            if len(self._offenders) <= self.settings.max_offenders and self._offenders[first].ts >= oldest_ts:
                return
            del self._offenders[first]
            del self._order[bisect_left(self._order, first)]

    def _full(self, low: int, width: Width, ts: float, ripe: _Ripe | None) -> frozenset[int]:
        """The /24s in it that count as full of offenders, because they lie in a wider network that was banned lately,
        or will be: that hides who else is in there.
        """
        if not width.pairs:
            return frozenset()
        within_s, rows = self.settings.within_s, range(low, low + width.size, UNIT)
        full = (
            {row for row in rows if abs(self._rows.get(row, math.inf) - ts) <= within_s} if self._rows else set[int]()
        )
        return frozenset(full.union(_rows(ripe.low, ripe.width.size, ts)) if ripe is not None else full)

    def _group(self, low: int, width: Width, ts: float, full: frozenset[int]) -> list[int]:
        """The offenders of a span around `ts` that make the prefix ripe; empty where none does."""
        order, offenders, within_s = self._order, self._offenders, self.settings.within_s
        first, last = bisect_left(order, low), bisect_left(order, low + width.size)
        if not self._may_fit(low, width, first, last, full) or self._was_refused(low, width, last - first):
            return []
        near = [key for key in order[first:last] if abs(offenders[key].ts - ts) <= within_s]
        if not _fits(near, low, width, full):
            return []
        for end_ts in sorted({at for key in near if (at := offenders[key].ts) >= ts}):
            span = [key for key in near if end_ts - within_s <= offenders[key].ts <= end_ts]
            if _fits(span, low, width, full):
                return span
        return []

    def _may_fit(self, low: int, width: Width, first: int, last: int, full: frozenset[int]) -> bool:
        """Whether the offenders would do if all had come at once: the cheap half of `_fits`."""
        order = self._order
        if not width.pairs:
            return last - first >= width.need and order[first] < low + width.size // 2 <= order[last - 1]
        if last - first + width.cap * len(full) < width.need:
            return False
        edges = [bisect_left(order, edge, first, last) for edge in range(low, low + width.size + 1, UNIT)]
        counts = [
            width.cap if low + UNIT * row in full else after - before
            for row, (before, after) in enumerate(pairwise(edges))
        ]
        return _enough(counts, width)

    # -- who else is there -------------------------------------------------------------------------------------------

    def _others(
        self,
        seen: Iterable[str],
        group: Sequence[int],
        neighbours: Neighbours,
        is_banned: Callable[[str], bool],
    ) -> int | None:
        """How many of those seen are other clients; None where one of them is a visitor, or they are too many."""
        most = len(group) // OTHERS_FOR_ONE
        rules, offenders = {self._offenders[key].rule for key in group}, set(group)
        others = 0
        for host in seen:
            visits = neighbours.is_visitor(host)
            if not visits and neighbours.is_suspect(host, rules):
                continue
            if host_key(host) in offenders or is_banned(host):
                continue
            others += 1
            if visits or others > most:
                return None
        return others

    def _was_refused(self, low: int, width: Width, count: int) -> bool:
        refused = self._refused.get((low, width.size))
        return refused is not None and count < TRIED_AGAIN_AT * refused[0] and self._now_ts < refused[1] + TRIED_AGAIN_S

    def _refuse(self, low: int, width: Width) -> None:
        count = bisect_left(self._order, low + width.size) - bisect_left(self._order, low)
        self._refused.pop((low, width.size), None)
        self._refused[low, width.size] = (count, self._now_ts)
        if len(self._refused) > REFUSED_KEPT:
            del self._refused[next(iter(self._refused))]

    # -- what comes of it --------------------------------------------------------------------------------------------

    def _finding(self, finding: Finding, ripe: _Ripe, *, known: bool) -> tuple[Finding, float | None]:
        within_s, count = self.settings.within_s, len(ripe.group)
        crossing = host_key(finding.subject)
        latest = sorted(ripe.group, key=lambda key: (key == crossing, self._offenders[key].ts, key))
        members = [self._offenders[key] for key in latest]
        rules = ", ".join(sorted({each.rule for each in members}))
        seen = f"0 visitors and {ripe.others} other clients seen in it" if known else "who else is in it is not known"
        lengths = [each.ban_s for each in members if each.ban_s is not None]
        about = Finding(
            id=f"{RULE}~{finding.id}",
            rule=RULE,
            subject=prefix_text(ripe.low, ripe.width.length),
            ts=finding.ts,
            count=count,
            within_s=within_s,
            evidence=tuple([each.line for each in members if each.line is not None][-EVIDENCE_LINES:]),
            note=f"{count} addresses of it were banned within {render_duration(within_s)} ({rules}), {seen}",
        )
        return about, max(lengths) if len(lengths) == count else None

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All state, for a restart."""
        offenders = [(host_text(key), each) for key, each in self._offenders.items()]
        refused = [(host_text(low), size, *why) for (low, size), why in self._refused.items()]
        return msgspec.msgpack.encode(_Saved(self._now_ts, offenders, refused, self._networks))

    def load(self, state: bytes) -> None:
        """Take up a dumped state in place of what there is. msgspec.DecodeError where it is none."""
        saved = msgspec.msgpack.decode(state, type=_Saved)
        self._now_ts = saved.now_ts
        self._offenders = {host_key(host): each for host, each in saved.offenders}
        self._order = sorted(self._offenders)
        self._refused = {(host_key(low), size): (count, ts) for low, size, count, ts in saved.refused}
        self._networks, self._rows = saved.networks, {}
        for network, ts in saved.networks.items():
            self._rows.update(_rows(*_span(network), ts))


def _fits(keys: Sequence[int], low: int, width: Width, full: frozenset[int]) -> bool:
    """Whether offenders, in order, are enough for a prefix and spread over all of it."""
    if not keys or not (width.pairs or keys[0] < low + width.size // 2 <= keys[-1]):
        return False
    counts = dict(Counter((key - low) // width.part for key in keys))
    counts.update({(row - low) // width.part: width.cap for row in full} if full else {})
    return _enough(counts.values(), width)


def _enough(counts: Collection[int], width: Width) -> bool:
    """Whether so many offenders in each part make a prefix ripe."""
    return sum(min(count, width.cap) for count in counts) >= width.need and (
        sum(count > 1 for count in counts) >= width.pairs
    )


def _span(subject: str) -> tuple[int, int]:
    """The first host of a subject, and how many they are."""
    host_bits = (64 if ":" in subject else 32) - int(subject.partition("/")[2] or 32)
    return host_key(subject), 1 << max(0, host_bits)


def _rows(low: int, size: int, ts: float) -> dict[int, float]:
    """The /24s of an IPv4 prefix that is wider than one."""
    return dict.fromkeys(range(low, low + size, UNIT), ts) if size > UNIT and low < 1 << 32 else {}
