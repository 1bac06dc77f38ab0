"""What normal looks like: requests by class, what strangers ask for, and what visitors asked for first. Pure, bounded.

Learnt in chapters of five minutes, of which those with a siege are left out; what was learnt fades with a half-life of
a week. A *stranger's* request is one of an address that does not behave like a visitor; nothing else is of interest for
telling an attack from a day like any other, as visitors are told by what they do.

Kept are: of each class of requests the number, cost, sources and hours of the week; the number of strangers' requests
by each single value (path, part of a query, agent); a sample of them, whole; and of the last visitors what each asked
for before it could be told for one. When a table is full, what was asked for least makes room, counted.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterable, Mapping
from zlib import crc32

import msgspec
from msgspec import Struct

from tocsin.detect.asked import BROWSERS, Asked, Kind, features, matched, trigger_features
from tocsin.detect.contrast import Cell, Description, Feature, family_of, is_software, path_shapes, varied_path

CHAPTER_S = 300.0
HALF_LIFE_S = 7 * 86400.0
LEARNT_AFTER_S = 3 * CHAPTER_S
LEAST_VISITORS = 30
FEATURES_KEPT = 4096
CLASSES_KEPT = 1024
SOURCES_KEPT = 64  # of each class, the latest; of one that is no page's, as many as
SENDERS_KEPT = 1024
SAMPLES_KEPT = 4096
VISITORS_KEPT = 4096
FAMILIAR_AFTER_S = 900.0
FIRST_KEPT = 6  # requests of a visitor that was not told for one yet
HOURS = 168
SPREAD = 2_654_435_761  # Knuth's: spreads positions over the sample
PEAK_FACTOR = 1.5
PEAKED = frozenset(("method", "path", "query", "user_agent"))  # of which peaks are known
SKETCH_BITS = 1024
HOUR_SPAN = (0.25, 4.0)  # an hour's rate is believed to differ from the mean by no more


class Request(Struct, array_like=True):
    """Requests that are alike, within a chapter: by strangers and by visitors, their cost (seconds, where logged),
    how many ordinary requests the strangers' are worth (`units`), and some of the addresses they came from.
    """

    asked: Asked
    kind: Kind
    strangers: float = 0.0
    visitors: float = 0.0
    cost_s: float = 0.0
    units: float = 0.0
    sources: dict[str, float] = {}


class Class(Struct, array_like=True):
    """What is remembered of a class of requests. Counts fade; `sources` are the latest addresses and when each came
    first, `sketch` which of SKETCH_BITS hashes were seen, `hours` how many came in which hour of the week (UTC).
    """

    requests: float = 0.0
    visitors: float = 0.0
    cost_s: float = 0.0
    first_ts: float = math.inf
    last_ts: float = -math.inf
    sources: dict[str, float] = {}
    sketch: int = 0
    hours: dict[int, float] = {}

    def distinct(self) -> int:
        """From how many addresses it was asked for (linear counting: within 5 % up to 1,500, at most 7,000)."""
        empty = SKETCH_BITS - self.sketch.bit_count()
        return round(SKETCH_BITS * math.log(SKETCH_BITS / max(empty, 1)))


class Index(Struct):
    """What strangers asked for, with its features, how many did and what that was worth; what visitors did, by their
    agent, with which of them; what programs asked for (see `_programs`); and what was worked out from these for
    descriptions so far.
    """

    strangers: list[tuple[Asked, frozenset[Feature], int, float]]
    visitors: list[tuple[str, frozenset[Feature], list[int]]]
    programs: dict[tuple[str, str, str], dict[str, float]]
    hits: dict[frozenset[Feature], list[tuple[int, bool]]] = {}
    numbers: dict[frozenset[Feature], int] = {}


class Saved(Struct, array_like=True):
    """All state, for a restart."""

    seconds: float
    strangers: float
    visiting: float
    cost_s: float
    hours: list[tuple[float, float]]
    features: dict[str, float]
    peaks: dict[str, float]
    samples: list[tuple[Asked, float]]
    seen: int
    visitors: list[tuple[Asked, ...]]
    classes: list[tuple[Kind, Class]]
    evicted: int


class Normal:
    """The memory. `seconds` is how long it has learnt (it fades like all else)."""

    def __init__(self) -> None:
        self.seconds = 0.0
        self.strangers = 0.0  # their requests, and those of visitors
        self.visiting = 0.0
        self.cost_s = 0.0
        self.hours: list[tuple[float, float]] = [(0.0, 0.0)] * HOURS  # seconds and strangers' requests
        self.features: dict[Feature, float] = {}
        self.peaks: dict[Feature, float] = {}  # the most within a minute
        self.samples: list[tuple[Asked, float]] = []  # with its worth, in units
        self.visitors: deque[tuple[Asked, ...]] = deque(maxlen=VISITORS_KEPT)
        self.classes: dict[Kind, Class] = {}
        self.evicted = 0
        self.chapters = 0  # learnt by this object: whoever saves it sees by that whether it has changed
        self._seen = 0
        self._indexed: Index | None = None

    @property
    def learnt(self) -> bool:
        """Whether enough is known to tell a siege from a day like any other."""
        return self.seconds >= LEARNT_AFTER_S and len(self.visitors) >= LEAST_VISITORS

    # -- learning ----------------------------------------------------------------------------------------------------

    def learn(
        self,
        requests: Iterable[Request],
        visitors: Iterable[tuple[Asked, ...]],
        peaks: Mapping[Feature, float],
        start_ts: float,
        end_ts: float,
    ) -> None:
        """Take in a chapter: its requests, what those asked first that were told for visitors in it, and how many of
        strangers' requests came within its busiest minute.
        """
        self._indexed = None
        self.chapters += 1
        span_s = min(max(end_ts - start_ts, 1.0), 2 * CHAPTER_S)
        self._fade(span_s)
        self.visitors.extend(visitors)
        hour = hour_of(start_ts)
        strangers = visiting = cost_s = 0.0
        features = self.features
        for request in requests:
            strangers += request.strangers
            visiting += request.visitors
            cost_s += request.cost_s * request.strangers / max(request.strangers + request.visitors, 1e-9)
            self._note_class(request, hour, start_ts, end_ts)
            if request.strangers:
                for feature in trigger_features(request.asked):
                    features[feature] = features.get(feature, 0.0) + request.units
                self._sample(request.asked, request.strangers, request.units / request.strangers)
        for feature, number in peaks.items():
            self.peaks[feature] = max(number, self.peaks.get(feature, 0.0))
        seconds, count = self.hours[hour]
        self.hours[hour] = seconds + span_s, count + strangers
        self.seconds += span_s
        self.strangers += strangers
        self.visiting += visiting
        self.cost_s += cost_s
        self._make_room()

    def _fade(self, span_s: float) -> None:
        factor = 0.5 ** (span_s / HALF_LIFE_S)
        self.seconds *= factor
        self.strangers *= factor
        self.visiting *= factor
        self.cost_s *= factor
        self.features = {feature: count * factor for feature, count in self.features.items()}
        self.peaks = {feature: count * factor for feature, count in self.peaks.items()}
        self.hours = [(seconds * factor, count * factor) for seconds, count in self.hours]

    def _note_class(self, request: Request, hour: int, start_ts: float, end_ts: float) -> None:
        known = self.classes.get(request.kind)
        if known is None:
            known = self.classes[request.kind] = Class(sources={}, hours={})
        number = request.strangers + request.visitors
        fade = 0.5 ** (max(0.0, end_ts - known.last_ts) / HALF_LIFE_S) if known.requests else 1.0
        known.requests = known.requests * fade + number
        known.visitors = known.visitors * fade + request.visitors
        known.cost_s = known.cost_s * fade + request.cost_s
        known.first_ts = min(known.first_ts, start_ts)
        known.last_ts = max(known.last_ts, end_ts)
        known.hours[hour] = known.hours.get(hour, 0.0) + number
        for source, ts in request.sources.items():
            known.sources[source] = known.sources.pop(source, ts)
            known.sketch |= 1 << (crc32(source.encode()) % SKETCH_BITS)
        while len(known.sources) > sources_kept(request.asked[0]):
            del known.sources[next(iter(known.sources))]

    def _sample(self, asked: Asked, number: float, units: float) -> None:
        """Keep one request in so many, each about as likely as any other: its position decides which."""
        for _ in range(max(1, min(round(number), 64))):
            self._seen += 1
            if len(self.samples) < SAMPLES_KEPT:
                self.samples.append((asked, units))
                continue
            at = self._seen * SPREAD % (1 << 32) % min(self._seen, 8 * SAMPLES_KEPT)
            if at < SAMPLES_KEPT:
                self.samples[at] = (asked, units)

    def _make_room(self) -> None:
        if len(self.features) > FEATURES_KEPT:
            kept = sorted(self.features.items(), key=lambda item: (-item[1], item[0]))[: FEATURES_KEPT * 3 // 4]
            self.evicted += len(self.features) - len(kept)
            self.features = dict(sorted(kept))
            self.peaks = {feature: peak for feature, peak in self.peaks.items() if feature in self.features}
        if len(self.classes) > CLASSES_KEPT:
            ranked = sorted(self.classes.items(), key=lambda item: (-item[1].requests, item[0]))
            # Who posts is worth knowing though it is seldom: a phone's app must not make room for a shop's many pages.
            posts = [item for item in ranked if item[0][1] not in {"GET", "HEAD"}][: CLASSES_KEPT // 4]
            left = dict(posts)
            for kind, known in ranked:
                if len(left) >= CLASSES_KEPT * 3 // 4:
                    break
                left.setdefault(kind, known)
            self.evicted += len(ranked) - len(left)
            self.classes = dict(sorted(left.items()))

    # -- questions ---------------------------------------------------------------------------------------------------

    def expected(self, feature: Feature, ts: float, span_s: float) -> float:
        """How many requests of strangers with this value are normal within a span at this hour of the week."""
        if not self.seconds:
            return 0.0
        return self.features.get(feature, 0.0) / self.seconds * span_s * self.hour_factor(ts)

    def limit(self, feature: Feature, ts: float, factor: float, least: float) -> float:
        """How many requests of strangers with this value, within a minute, are far above the normal: `factor` times
        what is expected, and half as many again as the most that was seen; in any case `least` more.
        """
        return least + max(factor * self.expected(feature, ts, 60.0), PEAK_FACTOR * self.peaks.get(feature, 0.0))

    def limit_of(self, description: Description, ts: float, factor: float, least: float) -> float:
        """The same for a description."""
        peak = min((self.peaks.get(one, 0.0) for one in description if one[0] in PEAKED), default=0.0)
        return least + max(factor * self.rate_of(description, ts, 60.0), PEAK_FACTOR * peak)

    def hour_factor(self, ts: float) -> float:
        """How much busier this hour of the week is than the mean; 1 where it was not seen for half an hour."""
        seconds, count = self.hours[hour_of(ts)]
        if seconds < 1800 or not self.strangers:
            return 1.0
        low, high = HOUR_SPAN
        return min(high, max(low, count / seconds / (self.strangers / self.seconds)))

    def rate_of(self, description: Description, ts: float, span_s: float) -> float:
        """How many strangers' requests that a description matches are normal within a span at this hour."""
        if not self.seconds:
            return 0.0
        share = self.share_of_strangers(description)
        return share * self.strangers / self.seconds * span_s * self.hour_factor(ts)

    def before(self) -> tuple[list[Cell], float]:
        """The sample of strangers' requests as cells to contrast with, and how many seconds it stands for."""
        cells = [Cell(0.0, units, 0, n, features(asked)) for asked, _, n, units in self._index().strangers]
        return cells, self.seconds * len(self.samples) / self.strangers if self.strangers else 0.0

    def share_of_visitors(self, description: Description, times: int, *, agents: bool = False) -> float:
        """The share of visitors who asked for such requests so many times before they could be told for visitors; with
        `agents`, by more than one agent.
        """
        index = self._index()
        wanted = frozenset(description)
        hits = index.hits.get(wanted)
        if hits is None:
            sent: dict[int, list[str]] = {}
            for agent, found, visitors in index.visitors:
                if wanted <= found:
                    for who in visitors:
                        sent.setdefault(who, []).append(agent)
            hits = index.hits[wanted] = [(len(each), len(set(each)) > 1) for each in sent.values()]
        return sum(n >= times and several >= agents for n, several in hits) / max(1, len(self.visitors))

    def share_of_all(self, description: Description) -> float:
        """The share of all requests that are strangers' and match a description."""
        return self.share_of_strangers(description) * self.strangers / max(self.strangers + self.visiting, 1e-9)

    def share_of_strangers(self, description: Description) -> float:
        """The share of strangers' requests that a description matches."""
        index = self._index()
        wanted = frozenset(description)
        number = index.numbers.get(wanted)
        if number is None:
            number = index.numbers[wanted] = sum(n for _, found, n, _ in index.strangers if wanted <= found)
        return number / max(1, len(self.samples))

    def _index(self) -> Index:
        """The samples by what was asked for: made once a chapter, as each question goes through all of it."""
        if self._indexed is None:
            worth: dict[Asked, list[float]] = {}
            for asked, units in self.samples:
                worth.setdefault(asked, []).append(units)
            strangers = [
                (asked, matched(asked), len(units), math.fsum(units)) for asked, units in sorted(worth.items())
            ]
            by_asked: dict[Asked, list[int]] = {}
            for number, first in enumerate(self.visitors):
                for asked in first:
                    by_asked.setdefault(asked, []).append(number)
            visitors = [(asked[4], matched(asked), numbers) for asked, numbers in by_asked.items()]
            self._indexed = Index(strangers, visitors, self._programs(), {}, {})
        return self._indexed

    def _programs(self) -> dict[tuple[str, str, str], dict[str, float]]:
        """What each program asked for before: of a host, a method and a family of agents the shapes of paths, each with
        when it was first asked for.
        """
        found: dict[tuple[str, str, str], dict[str, float]] = {}
        for (vhost, method, path, family, *_), known in self.classes.items():
            shapes = found.setdefault((vhost, method, family), {})
            for shape in path_shapes(path):
                shapes[shape] = min(known.first_ts, shapes.get(shape, math.inf))
        return found

    def is_familiar(self, request: Request, now_ts: float) -> bool:
        """Whether a program, no browser, that asks for the like at other times sends such a request."""
        method, path, _, vhost, agent, *_ = request.asked
        if not is_software(agent):
            return False
        known = self._index().programs.get((vhost, method, family_of(agent)), {})
        return any(known.get(shape, now_ts) <= now_ts - FAMILIAR_AFTER_S for shape in path_shapes(path))

    def known_sources(self, description: Description) -> dict[str, float]:
        """The addresses that asked for such requests before, and when first; who asked for the most of them comes last.
        Of agents only families are remembered; what a description says of the query is left out of account.
        """
        values = {name: value for name, value in description if name not in {"user_agent", "query"}}
        asked, agent = values.pop("path", ""), dict(description).get("user_agent", BROWSERS[1])
        found: dict[str, list[float]] = {}
        for (vhost, method, path, family, protocol, contact), known in self.classes.items():
            own = {"vhost": vhost, "method": method, "protocol": protocol, "contact": contact}
            if any(own[name] != value for name, value in values.items()):
                continue
            if agent != BROWSERS[1] and family != family_of(agent):
                continue
            if not asked or asked in path_shapes(path) or path == varied_path(asked):
                for source, ts in known.sources.items():
                    found.setdefault(source, []).append(ts)
        return {who: min(found[who]) for who in sorted(found, key=lambda who: (len(found[who]), who))}

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All state."""
        features = {"\0".join(feature): count for feature, count in self.features.items()}
        peaks = {"\0".join(feature): count for feature, count in self.peaks.items()}
        classes = list(self.classes.items())
        packed = [(kind, msgspec.structs.replace(one, sketch=0)) for kind, one in classes]
        sketches = [one.sketch.to_bytes(SKETCH_BITS // 8, "big") for _, one in classes]
        saved = Saved(
            self.seconds, self.strangers, self.visiting, self.cost_s, self.hours, features, peaks, self.samples,
            self._seen, list(self.visitors), packed, self.evicted,
        )  # fmt: skip
        return msgspec.msgpack.encode((saved, sketches))

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.MsgspecError where it is none."""
        saved, sketches = msgspec.msgpack.decode(state, type=tuple[Saved, list[bytes]])
        self.seconds, self.strangers, self.hours = saved.seconds, saved.strangers, saved.hours
        self.visiting, self.cost_s = saved.visiting, saved.cost_s
        self.features = {_feature(text): count for text, count in saved.features.items()}
        self.peaks = {_feature(text): count for text, count in saved.peaks.items()}
        self.samples, self._seen, self.evicted = saved.samples, saved.seen, saved.evicted
        self.visitors = deque(saved.visitors, maxlen=VISITORS_KEPT)
        self.classes = dict(saved.classes)
        self._indexed = None
        for one, sketch in zip(self.classes.values(), sketches, strict=True):
            one.sketch = int.from_bytes(sketch, "big")


def sources_kept(method: str) -> int:
    """How many addresses are remembered of a class: who posts and who synchronises is few, and worth knowing."""
    return SOURCES_KEPT if method in {"GET", "HEAD"} else SENDERS_KEPT


def _feature(text: str) -> Feature:
    dimension, _, value = text.partition("\0")
    return dimension, value


def hour_of(ts: float) -> int:
    """The hour of the week (UTC) from Monday 0:00: 0 to 167."""
    return int(ts // 3600 + 72) % HOURS
