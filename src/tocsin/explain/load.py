"""What the requests of a span cost the server, in worker-seconds, and where the rise before an outage began. Pure."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import pairwise
from typing import TypeVar

from msgspec import Struct

from tocsin.detect.contrast import Cell, Feature, features_of, likelihood, path_shapes
from tocsin.explain.incident import Trouble
from tocsin.explain.model import Accesses, Group

LEADS_S = (0.0, 5.0, 10.0, 20.0, 30.0, 45.0, 60.0, 90.0, 120.0, 180.0, 300.0, 600.0, 1200.0, 1800.0)
"""How long before the first symptom the rise may have begun: the likeliest of these is taken."""

BEFORE_S = 2700.0
"""How much of what went before the rise it is compared with, and of the same hour on each of DAYS days."""

DAYS = 7
_GUARD_S = 600.0
"""Around other outages nothing is normal."""

_NOW_S = 900.0
"""Of a long outage, its first quarter of an hour: later come the retries."""

_SETTLED_S = 60.0
_SHORTEST_S = 45.0
_LEAST_BEFORE_S = 20.0
_GONE = 499
"""From this status on a request failed, or was given up (nginx)."""

_KNOWN = 10
_LEAST_BEFORE = 0.4
"""What is compared with must be at least so long, as a part of now: the first visitors in a log are no baseline."""


ASSET = re.compile(
    r"\.(?:css|js|mjs|png|jpe?g|gif|svg|ico|webp|avif|woff2?|ttf|eot|map|mp4|webm|mp3|pdf|zip|gz|txt|xml)$"
)
"""What a page's own files end in: served without a program behind."""

PRIORS_S = {"asset": 0.005, "page": 0.3, "query": 0.4, "post": 0.6, "xmlrpc": 1.0}
"""What a request costs where no log tells: estimates, and said to be."""


class Load(Struct, frozen=True):
    """The requests around one outage: those of now (`start` to `end`), those that it is compared with (`before`, in all
    of `before_s` seconds), and both without addresses as `cells`. `rise` is how clearly now differs (a logarithm of
    likelihoods; below 3 it does not). `measured`: durations are logged; else costs are PRIORS_S. `unit_s` is what a
    page of this site costs. `reloads`: requests of now for pages that were answered before and failed since the first
    symptom, such as people make who try again.
    """

    start: float
    end: float
    groups: tuple[Group, ...]
    before: tuple[Group, ...]
    before_s: float
    broken_before: int
    cells: dict[Key, Cell]
    rise: float
    measured: bool
    unit_s: float
    reloads: Counter[Key]

    @property
    def now_s(self) -> float:
        """The length of now."""
        return self.end - self.start


Key = tuple[str | None, str, str, str | None, str | None]
"""A group without its address: method, path, query, vhost, agent."""


class _Features(dict[Key, tuple[Feature, ...]]):
    """What a description may use of each kind of request, found out once: most are in several slices."""

    def __missing__(self, key: Key) -> tuple[Feature, ...]:
        found = self[key] = features_of(*key)
        return found


class _Kinds(dict[Key, str]):
    """What sort of work each kind of request asks for, found out once."""

    def __missing__(self, key: Key) -> str:
        found = self[key] = kind_of(*key[:3])
        return found


class _Slice:
    """The requests of a span and, of each value in them, how many and at what estimated cost."""

    def __init__(self, features: _Features, kinds: _Kinds, span: tuple[float, float], groups: list[Group]) -> None:
        self.start, self.end = span
        self.groups = completed(groups)
        self.broken = sum(group.requests for group in groups) - sum(group.requests for group in self.groups)
        addresses = {group.source_ip for group in self.groups}
        self.visit = sum(group.requests for group in self.groups) / len(addresses) if addresses else 0.0
        self.counts: defaultdict[Feature, int] = defaultdict(int)
        self.costs: defaultdict[Feature, float] = defaultdict(float)
        for key, number in keyed(self.groups).items():
            cost = number * PRIORS_S[kinds[key]]
            for feature in (*features[key], _ALL):
                self.counts[feature] += number
                self.costs[feature] += cost

    @property
    def seconds(self) -> float:
        return max(0.0, self.end - self.start)


_ALL: Feature = ("", "")


def load_of(accesses: Accesses, trouble: Trouble, others: Sequence[Trouble] = ()) -> Load | None:
    """The load around an outage; None where no access log covers its beginning."""
    first = trouble.start
    if accesses.start is None or accesses.end is None or not accesses.start <= first <= accesses.end + _GUARD_S:
        return None
    end = max(first + _SHORTEST_S, min(trouble.end, first + _NOW_S))
    floor = max([accesses.start, *(one.end + _SETTLED_S for one in others if one.end < first)])
    if end <= floor:
        return None
    leads = [first - lead for lead in reversed(LEADS_S)]
    edges = [max(first - BEFORE_S, floor), *(edge for edge in leads if edge > floor), end]
    features, kinds = _Features(), _Kinds()
    spans = zip(pairwise(edges), accesses.groups_between(edges), strict=True)
    slices = [_Slice(features, kinds, span, groups) for span, groups in spans][::-1]
    same = _same_hour(accesses, first, (trouble, *others))
    elsewhere = [_Slice(features, kinds, span, accesses.groups(*span)) for span in same]
    cut, rise = _rise(slices, elsewhere)
    now = [group for one in slices[:cut] for group in one.groups]
    rest = slices[cut:] + elsewhere
    before = [group for one in rest for group in one.groups]
    before_s = sum(one.seconds for one in rest)
    unit = _units(before, now, kinds, measured=accesses.has_durations)
    cells = _cells(now, before, unit, features)
    pages = [unit(key) for key in keyed(before or now) if kinds[key] == "page"]
    unit_s = sorted(pages)[len(pages) // 2] if pages else PRIORS_S["page"]
    start = slices[cut - 1].start
    broken = sum(one.broken for one in rest)
    measured = accesses.has_durations
    reloads = _reloads(now, before, kinds, first)
    return Load(start, end, tuple(now), tuple(before), before_s, broken, cells, rise, measured, unit_s, reloads)


def _reloads(now: list[Group], before: list[Group], kinds: _Kinds, first: float) -> Counter[Key]:
    answered = {(group.vhost, group.path) for group in before if group.status is not None and group.status < 400}
    return keyed(
        group
        for group in now
        if group.first_ts > first
        and group.status is not None
        and group.status >= _GONE
        and (group.vhost, group.path) in answered
        and kinds[key_of(group)] == "page"
    )


def _same_hour(accesses: Accesses, first: float, troubles: Sequence[Trouble]) -> list[tuple[float, float]]:
    """The same hour on the days before and after, but for what lies near an outage."""
    spans = []
    for day in (*range(-DAYS, 0), *range(1, DAYS + 1)):
        start = first + 86400.0 * day - BEFORE_S / 2
        end = start + BEFORE_S
        covered = (accesses.start or 0.0) <= start and end <= (accesses.end or 0.0)
        if covered and not any(one.start - _GUARD_S < end and start < one.end + _GUARD_S for one in troubles):
            spans.append((start, end))
    return spans[-2:]


def _rise(slices: list[_Slice], elsewhere: list[_Slice]) -> tuple[int, float]:
    """How many of the slices are now, and how clearly those differ from the rest: the division that makes some value of
    the requests, weighed by the cost that it carries, most unlike before.
    """
    best, cut = 0.0, 0
    for i in range(1, len(slices) + bool(elsewhere)):  # of what rose over hours, only other days know the normal
        now, before = slices[:i], slices[i:] + elsewhere
        now_s, before_s = (sum(one.seconds for one in part) for part in (now, before))
        if before_s < max(_LEAST_BEFORE_S, _LEAST_BEFORE * now_s):
            break
        costs: Counter[Feature] = Counter()
        for one in now:
            costs.update(one.costs)
        visit = max(1.0, sum(one.visit * one.seconds for one in before) / before_s)
        least = 0.05 * costs[_ALL]
        for feature, cost in costs.items():
            if cost >= least:
                n, b = (sum(one.counts.get(feature, 0) for one in part) for part in (now, before))
                # who comes as usual comes in visits: their requests are not independent of each other
                score = likelihood(n, now_s, b, before_s) / (visit if b >= _KNOWN else 1.0) * cost / costs[_ALL]
                if score > best:
                    best, cut = score, i
    return (cut, best) if cut else (min(len(slices), 7), 0.0)


def completed(groups: Iterable[Group]) -> list[Group]:
    """Those that were requests: a connection that timed out (408), or never made sense (400), is none, nor is what
    Apache sends to itself (`OPTIONS *`).
    """
    return [group for group in groups if group.method and group.status not in {400, 408} and group.path != "*"]


def keyed(groups: Iterable[Group]) -> Counter[Key]:
    """The requests by all but their address."""
    found: Counter[Key] = Counter()
    for group in groups:
        found[key_of(group)] += group.requests
    return found


def key_of(group: Group) -> Key:
    """A group without its address."""
    return group.method, group.path, group.query, group.vhost, group.user_agent


def _cells(now: list[Group], before: list[Group], unit: Callable[[Key], float], features: _Features) -> dict[Key, Cell]:
    counts_now, counts_before = keyed(now), keyed(before)
    cells = {}
    for key in counts_now | counts_before:
        cost = unit(key)
        now_n, before_n = counts_now[key], counts_before[key]
        cells[key] = Cell(now_n * cost, before_n * cost, now_n, before_n, features[key])
    return cells


_Sort = tuple[str | None, str, bool]
_MUCH_DEARER = 3.0
_NEW_SHARE = 0.5
"""Of what is estimated for its kind, so much is the least that a class of requests costs that never came before: while
the database is down, everything is answered fast, and the dearest were killed and left no line.
"""


def _units(before: list[Group], now: list[Group], kinds: _Kinds, *, measured: bool) -> Callable[[Key], float]:
    """What one request of a key costs, in worker-seconds. In an outage everything is slow, victims too: so a class
    costs what it cost before; one that is new, what its kind cost before, or, where that is new too, what it costs now
    divided by how much slower the others have become.
    """
    if not measured:
        return lambda key: PRIORS_S[kinds[key]]
    was, is_now = _means(before, _sort), _means(now, _sort)
    kinds_was = _means(before, kinds.__getitem__)
    slower = sorted(is_now[sort] / was_s for sort, was_s in was.items() if sort in is_now and was_s > 0.01)
    inflation = max(1.0, slower[len(slower) // 2]) if slower else 1.0
    scale = kinds_was.get("page", PRIORS_S["page"]) / PRIORS_S["page"]

    def unit(key: Key) -> float:
        sort, kind = _sort(key), kinds[key]
        if sort in was:
            return was[sort]
        estimate = is_now.get(sort, 0.0) / inflation
        if kind in kinds_was:
            return max(estimate, kinds_was[kind]) if estimate > _MUCH_DEARER * kinds_was[kind] else kinds_was[kind]
        return max(estimate, _NEW_SHARE * scale * PRIORS_S[kind])

    return unit


def _sort(key: Key) -> _Sort:
    return key[0], path_shapes(key[1])[-1], bool(key[2])


_Name = TypeVar("_Name")


def _means(groups: list[Group], name: Callable[[Key], _Name]) -> dict[_Name, float]:
    sums: defaultdict[_Name, list[float]] = defaultdict(lambda: [0.0, 0.0])
    for group in groups:
        if group.busy_s is not None:
            one = sums[name(key_of(group))]
            one[0] += group.busy_s
            one[1] += group.requests
    return {sort: busy / number for sort, (busy, number) in sums.items()}


def kind_of(method: str | None, path: str, query: str) -> str:
    """What sort of work a request asks for: a key of PRIORS_S."""
    if path.endswith("/xmlrpc.php"):
        return "xmlrpc"
    if method == "POST":
        return "post"
    if "." in path[-6:] and ASSET.search(path[-6:].lower()):
        return "asset"
    return "query" if query else "page"
