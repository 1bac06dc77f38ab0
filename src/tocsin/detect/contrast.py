"""The shortest description of requests that separates now from normal and carries the excess. Pure.

Multi-dimensional localisation over method, path, query, virtual host and agent: values that carry load are combined,
up to three at a time, and judged by how much of the excess they carry and how little of it is normal. Cost is in
seconds of a worker, not in hits: an attack can be cheap in number and dear in time.
"""

from __future__ import annotations

import math
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from itertools import combinations

from msgspec import Struct

Feature = tuple[str, str]
"""A dimension (`method`, `path`, `query`, `vhost`, `user_agent`) and its value, as in a signature; besides, where they
are known, `protocol` and `contact` (how a stranger comes: see `normal.Asked`), which no signature can say."""

Description = tuple[Feature, ...]
"""Features that hold together, in the order of DIMENSIONS; empty: every request."""

DIMENSIONS = ("method", "path", "query", "vhost", "user_agent", "protocol", "contact")
CACHED = 1 << 15
"""Texts whose values are remembered: taking them apart was a quarter of the work on a large log."""

KEPT_FEATURES = 24
"""Single values that are combined: those that carry most of the excess."""

LEAST_BEFORE_S = 1e-3
_LEAST_SHARE = 0.05
_PER_DIMENSION = 0.03
"""What one more dimension must gain: of two descriptions that say nearly the same, the shorter is better."""

_SPILLED = 0.3
"""What a description loses that matches all of normal: who says everything says nothing."""

_WIDE = 0.04
"""What it loses with a `*` in its path: what is exact hits fewer others."""

_VAGUE = 0.12
"""What a description loses that names neither what is asked for nor who says to ask: it would hit bystanders."""

_VAGUE_DIMENSIONS = frozenset(("method", "vhost", "protocol", "contact"))
_WORD = re.compile(r"[a-z]{2,20}")
_VARIABLE = re.compile(r"[0-9]{2,}|[0-9a-f]{8,}|[0-9]+$")
_AGENT_TOKEN = re.compile(r"[A-Za-z][A-Za-z0-9_.-]{2,40}(?:/[0-9][0-9A-Za-z_.]{0,20})?")
_AUTOMATON = re.compile(r"(?i)bot|crawl|spider|fetch|scrap").search
_BROWSERS = ("Edg", "Firefox", "Chrome", "Safari")
BROWSER = "browser"
_COMMON_TOKENS = frozenset(
    (
        *("mozilla", "applewebkit", "khtml", "gecko", "safari", "chrome", "version", "mobile", "linux", "windows"),
        *(
            "macintosh",
            "compatible",
            "like",
            "firefox",
            "edg",
            "edge",
            "opr",
            "crios",
            "fxios",
            "trident",
            "msie",
            "presto",
        ),
        *("samsungbrowser", "android", "wv", "build"),
    )
)


class Cell(Struct, frozen=True, gc=False):
    """Requests that are alike in all dimensions: what they cost now and in the time compared with (worker-seconds),
    how many they were, and every value that a description may use (see `features_of`).
    """

    now_cost: float
    before_cost: float
    now: int
    before: int
    features: tuple[Feature, ...]


class Contrast(Struct, frozen=True):
    """A description and what it carries (`spill` is the share of the requests before that it matches, too): `share` of
    the excess cost, `purity` (how much of what it matches now is excess), `lift` (its rate now over its rate before,
    shrunk towards 1 where little was seen), and the counts behind them.
    """

    features: Description
    share: float
    purity: float
    lift: float
    now: int
    before: int
    now_cost: float
    spill: float

    @property
    def score(self) -> float:
        """By which descriptions are ranked."""
        vague = _VAGUE if {dimension for dimension, _ in self.features} <= _VAGUE_DIMENSIONS else 0.0
        wide = _WIDE * sum("*" in value for dimension, value in self.features if dimension == "path")
        lost = _PER_DIMENSION * len(self.features) + vague + wide
        return self.share * self.purity * (1 - _SPILLED * self.spill) - lost

    def value(self, dimension: str) -> str | None:
        """The value in a dimension; None where it says nothing of it."""
        return dict(self.features).get(dimension)


class _Sum:
    __slots__ = ("before", "before_cost", "now", "now_cost")

    def __init__(self) -> None:
        self.now_cost = 0.0
        self.before_cost = 0.0
        self.now = 0
        self.before = 0

    def add(self, cell: Cell) -> None:
        self.now_cost += cell.now_cost
        self.before_cost += cell.before_cost
        self.now += cell.now
        self.before += cell.before


def contrasts(cells: Sequence[Cell], now_s: float, before_s: float, limit: int = 8) -> list[Contrast]:
    """The descriptions that separate the cells' now (a span of `now_s` seconds) from before (`before_s`; next to 0:
    nothing is known of it, then all load is excess), the best first. Nothing where there is no load.
    """
    ratio = now_s / before_s if before_s >= LEAST_BEFORE_S else 0.0
    # sums of floats; sorted twice, for to compare what stands in a tuple costs twice as much
    cells = sorted(cells, key=lambda cell: (cell.now, cell.before, cell.now_cost))
    cells.sort(key=lambda cell: cell.features)
    total = _Sum()
    for cell in cells:
        total.add(cell)
    if total.now_cost <= 0:
        return []
    excess = max(total.now_cost - ratio * total.before_cost, 0.1 * total.now_cost)
    kept = _kept(cells, ratio, excess)
    sums: defaultdict[Description, _Sum] = defaultdict(_Sum)
    for cell in cells:
        mine = [feature for feature in cell.features if feature in kept]
        for size in (1, 2, 3):
            for description in combinations(mine, size):
                if len({dimension for dimension, _ in description}) == size:
                    sums[description].add(cell)
    sums[()] = total
    # Where others stay away at the same time, a class rises by more than all requests do: it measures the rest.
    excess = max(excess, *(one.now_cost - ratio * one.before_cost for one in sums.values()))
    ranked = [_contrast(description, one, total, ratio, excess) for description, one in sums.items()]
    ranked = [one for one in ranked if one.share >= _LEAST_SHARE or not one.features]
    ranked.sort(key=lambda one: (-one.score, one.features))
    return ranked[:limit]


def _kept(cells: Sequence[Cell], ratio: float, excess: float) -> frozenset[Feature]:
    now: defaultdict[Feature, float] = defaultdict(float)
    before: defaultdict[Feature, float] = defaultdict(float)
    for cell in cells:
        for feature in cell.features if cell.now_cost else ():
            now[feature] += cell.now_cost
        for feature in cell.features if cell.before_cost else ():
            before[feature] += cell.before_cost
    gains = {
        feature: gain
        for feature, cost in now.items()
        if (gain := cost - ratio * before.get(feature, 0.0)) >= _LEAST_SHARE * excess
    }
    best = sorted(gains, key=lambda feature: (-gains[feature], feature))
    return frozenset(best[:KEPT_FEATURES])


def _contrast(description: Description, one: _Sum, total: _Sum, ratio: float, excess: float) -> Contrast:
    gain = max(0.0, one.now_cost - ratio * one.before_cost)
    lift = (one.now + 1.0) / (ratio * one.before + 1.0)
    purity = gain / one.now_cost if one.now_cost else 0.0
    spill = one.before / total.before if total.before else float(not description)
    return Contrast(description, min(1.0, gain / excess), purity, lift, one.now, one.before, one.now_cost, spill)


# -- features ----------------------------------------------------------------------------------------------------------


def features_of(
    method: str | None, path: str, query: str, vhost: str | None, user_agent: str | None
) -> tuple[Feature, ...]:
    """Every value that a description of such a request may use, in the order of DIMENSIONS, the exact ones first."""
    found: list[Feature] = []
    if method:
        found.append(("method", method))
    found += [("path", shape) for shape in path_shapes(path)]
    found += [("query", part) for part in query_parts(query)]
    if vhost:
        found.append(("vhost", vhost))
    if user_agent:
        found += [("user_agent", token) for token in agent_tokens(user_agent)]
    return tuple(found)


@lru_cache(maxsize=CACHED)
def path_shapes(path: str) -> tuple[str, ...]:
    """A path, the same with what varies in it as `*`, its folder, its first folder, and what it is of a thing that
    somebody owns, as forges have it: `/a/17`, `/a/*`; `/t/some-words/17`, `/t/*/*`; `/ana/tool/commit/17`,
    `/ana/tool/commit/*`, `/ana/*/*/*`, `/*/*/commit/*`.
    """
    shapes = [path]
    segments = path.split("/")
    if (varied := varied_path(path)) != path:
        shapes.append(varied)
    if len(segments) > 2 and segments[-1]:
        shapes.append("/".join((*segments[:-1], "*")))
    elif len(segments) > 3:
        shapes.append("/".join((*segments[:-2], "*", "")))
    if len(segments) > 3:
        shapes.append("/".join(("", segments[1], *("*" if part else "" for part in segments[2:]))))
    at = 4 if segments[3:4] == ["-"] else 3  # as GitLab sets them apart
    if len(segments) > at and _WORD.fullmatch(segments[at]):
        below = ("*" if part else "" for part in segments[at + 1 :])
        shapes.append("/".join(("", "*", "*", *segments[3 : at + 1], *below)))
    return tuple(dict.fromkeys(shapes))


def varied_path(path: str) -> str:
    """A path with what varies in it as `*`."""
    return "/".join("*" if _VARIABLE.search(part) and "." not in part else part for part in path.split("/"))


@lru_cache(maxsize=CACHED)
def query_parts(query: str) -> tuple[str, ...]:
    """The names in a query with their `=`, and short pairs: `s=`, `page=`, `action=register`."""
    parts: list[str] = []
    for pair in query.split("&", 8)[:8]:
        name, equals, value = pair.partition("=")
        if name and len(name) <= 40:
            parts.append(name + equals)
            if value and len(value) <= 24:
                parts.append(pair)
    if "=" in query:
        parts.append("=")
    return tuple(dict.fromkeys(parts))


@lru_cache(maxsize=CACHED)
def agent_tokens(agent: str) -> tuple[str, ...]:
    """An agent, and the products that it names beside what every browser says: `Googlebot/2.1`."""
    tokens = [
        token
        for token in _AGENT_TOKEN.findall(agent)[:40]
        if ("/" in token or _AUTOMATON(token)) and token.partition("/")[0].lower() not in _COMMON_TOKENS
    ]
    return (agent, *dict.fromkeys(tokens[:6]))


def family_of(agent: str) -> str:
    """What an agent is, in a word: what it calls itself, or which browser; `-` for none."""
    if not agent:
        return "-"
    tokens = agent_tokens(agent)
    if len(tokens) > 1:
        return tokens[1].partition("/")[0]
    return next((name for name in _BROWSERS if name in agent), BROWSER)


def is_browser(agent: str) -> bool:
    """Whether an agent claims to be a browser: `Mozilla/5.0 (Linux) mirall/3.13` does not."""
    return agent.startswith("Mozilla/") and not is_software(agent)


def is_software(agent: str) -> bool:
    """Whether an agent is a program's own, neither a browser's nor that of one who reads what he finds."""
    return family_of(agent) not in {*_BROWSERS, BROWSER, "-"} and not _AUTOMATON(agent)


# -- spans -------------------------------------------------------------------------------------------------------------


def likelihood(now: float, now_s: float, before: float, before_s: float) -> float:
    """How much likelier two rates are than one: the logarithm of the ratio of Poisson likelihoods; 0 where it fell."""
    if now <= 0 or now_s <= 0 or before_s <= 0 or now / now_s <= before / before_s:
        return 0.0
    rate = (now + before) / (now_s + before_s)
    if rate <= 0:  # of counts next to nothing, which a float cannot tell from none
        return 0.0
    gain = now * math.log(now / now_s / rate)
    was = before / before_s / rate
    return gain + (before * math.log(was) if was > 0 else 0.0)


def holds(description: Description, cell: Cell) -> bool:
    """Whether a description is true of a cell."""
    return all(feature in cell.features for feature in description)


def _looseness(feature: Feature) -> tuple[bool, int]:
    """Of values that all share, the exact one first: a path without `*`, the longest part of a query or an agent."""
    return "*" in feature[1], -len(feature[1])


def narrowed(
    base: Description, cells: Iterable[Cell], useful: Callable[[Feature], bool], least_share: float = 0.97
) -> Description:
    """The description with every further value that nearly all of its cost shares and that `useful` approves of."""
    sums: dict[Feature, float] = {}
    total = 0.0
    found = dict(base)
    for cell in cells:
        if holds(base, cell):
            total += cell.now_cost
            for feature in cell.features:
                if feature[0] not in found or feature[0] == "path":
                    sums[feature] = sums.get(feature, 0.0) + cell.now_cost
    shared = [feature for feature, cost in sums.items() if cost >= least_share * total]
    for feature in sorted(shared, key=_looseness):
        wide = found.get(feature[0], "*")
        if (feature[0] not in found or (feature[0] == "path" and "*" in wide)) and useful(feature):
            found[feature[0]] = feature[1]
    return tuple((dimension, found[dimension]) for dimension in DIMENSIONS if dimension in found)
