"""Sieges as they begin, last and end: an excess is found, described, held against the visitors, and met. Pure."""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from typing import Literal

from msgspec import structs

from tocsin.decide.gate import LEAST_SENDERS, Measure, Present, known_before, measure_of
from tocsin.decide.narrowing import POST, narrowing
from tocsin.decide.records import Record, Seen
from tocsin.decide.siege import (
    LEASE_S,
    RULE,
    TOLD_MAX,
    Change,
    Siege,
    SiegeSettings,
    question_of,
    signature_of,
    text_of,
)
from tocsin.decide.visitors import Visitors, is_page
from tocsin.detect.books import Strike
from tocsin.detect.contrast import Cell, Contrast, Description, Feature, contrasts
from tocsin.detect.evidence import Row, evidence_of, finding_of
from tocsin.detect.normal import Normal
from tocsin.model import Finding, Signature

RIPE_S = 10.0
ATTEND_S = 15.0  # all addresses must have been seen for so long before one request is enough
WINDOW_S = 60.0
PEAK_LEAST = 6.0
PAUSE_S = 15.0  # between two searches
ALARM_EVERY_S = 1800.0
ALARM_FACTOR = 2.0  # so many times what makes a siege, and this share of the excess: else nobody is told of it
ALARM_SHARE = 0.5
SIEGES_MAX = 8
UNMET_S, UNMET_HALF_LIFE_S = 7200.0, 86400.0
SEARCHED = 20  # descriptions, the best first
PATHS_SEARCHED = 10  # and of others that name a path: what is wide fills the first places with its variants
RANKED = 200
LEAST_SHARE, LEAST_SHARE_OF_PATH = 0.15, 0.08  # of the excess that a description must carry
LEAST_REQUESTS = 5
EVIDENCE = 5
LATEST = 64  # lines of strangers, kept as evidence
STRICTER_AFTER_S = 600.0
ASKED = frozenset(("method", "path", "query", "vhost"))  # what is asked for, whoever asks


class Sieges:
    """All sieges. `window` are the requests of the last minute, judged; `latest` the last lines of strangers. `asks`
    says whether the web server can ask who wants a page to show that he is a browser.
    """

    def __init__(
        self, normal: Normal, visitors: Visitors, settings: SiegeSettings, hear: Callable[[Change], None]
    ) -> None:
        self.normal = normal
        self.visitors = visitors
        self.settings = settings
        self.hear = hear
        self.asks = True
        self.all: list[Siege] = []
        self.window: deque[Seen] = deque()
        self.latest: deque[tuple[Record, Row]] = deque(maxlen=LATEST)
        self.fresh: dict[str, None] = {}  # visitors who were seen since the last look
        self.peaks: dict[Feature, float] = {}
        self.alarms: dict[Description, float] = {}
        self.suffering_until_ts = -math.inf
        self.whole_since_ts = -math.inf  # since when all addresses are seen; infinity: not all are
        self.attentive_until_ts = -math.inf  # all should be
        self.unmet = False  # whether something is far above its normal that nothing is done about
        self.unmet_s, self.unmet_ts = 0.0, -math.inf  # how long that was so of late, and as of when
        self.spare_ts = -math.inf
        self.pause_ts = -math.inf
        self._counts: dict[Feature, float] = {}
        self._version = 0
        self._row: Row = ("", 0, 0, b"")

    @property
    def lasting(self) -> bool:
        """Whether there is a siege now."""
        return any(siege.left_ts is None for siege in self.all)

    def is_odd(self, now_ts: float) -> bool:
        """Whether what comes now is not to be learnt: a siege, or for some hours an excess that no measure fits. What
        rises slowly would make itself normal; what comes every hour is to become it.
        """
        return self.lasting or now_ts < self.attentive_until_ts or (self.unmet and self.unmet_s < UNMET_S)

    def load(
        self, window: Iterable[Seen], sieges: list[Siege], peaks: dict[Feature, float], alarms: dict[Description, float]
    ) -> None:
        """Go on with these."""
        self.window.clear()
        self._counts.clear()
        for seen in window:
            self.take(seen)
        self.all, self.peaks, self.alarms = sieges, peaks, alarms
        self._version += 1

    # -- the window --------------------------------------------------------------------------------------------------

    def take(self, seen: Seen) -> None:
        """A request that has been judged."""
        self.window.append(seen)
        if not (seen.visitor or seen.apart):
            counts = self._counts
            for feature in seen.record.triggers:
                counts[feature] = counts.get(feature, 0.0) + seen.units

    def expire(self, until_ts: float, at_most: int) -> None:
        """Forget what came before, and what is too much."""
        window = self.window
        while window and (window[0].now_ts < until_ts or len(window) > at_most):
            self._drop(window.popleft())

    def _drop(self, seen: Seen) -> None:
        if seen.visitor or seen.apart:
            return
        counts = self._counts
        for feature in seen.record.triggers:
            left = counts[feature] - seen.units
            if left > 1e-6:
                counts[feature] = left
            else:
                del counts[feature]

    # -- each request, while there are sieges ------------------------------------------------------------------------

    def strike(self, record: Record, subject: str, now_ts: float, *, refused: bool) -> Strike | None:
        """Count a stranger's request against the sieges that it belongs to. `refused`: it was answered with 429."""
        if record.version != self._version:
            record.sieges = [one for one in self.all if one.left_ts is None and one.wanted <= record.features]
            record.version = self._version
        method, path, _, _, agent, *_ = record.request.asked
        page = method == "GET" and is_page(path)
        for siege in record.sieges:
            if not isinstance(siege, Siege) or subject in siege.spared:
                continue
            if siege.count(subject, now_ts, agent, refused=refused, page=page) and not self._is_browser(subject):
                return Strike(RULE, max(siege.times, 1), WINDOW_S if siege.times == 1 else STRICTER_AFTER_S, siege.note)
        return None

    def _is_browser(self, subject: str) -> bool:
        """Whether an address has shown in any siege that it is one."""
        return any(sent.shown for one in self.all if (sent := one.counted.get(subject)) is not None)

    def tick(self, now_ts: float, ripening: Iterable[Seen], row: Row) -> None:
        """From time to time: does each siege last, is there another. `row` is the line at which this is asked."""
        self._row = row
        if self.all:
            self._weigh(now_ts, ripening)
            self.spare_ts = now_ts
            self.renew(now_ts)
        self._search(now_ts)
        span_s = max(0.0, now_ts - self.unmet_ts) if self.unmet_ts > -math.inf else 0.0
        faded_s = self.unmet_s * 0.5 ** (span_s / UNMET_HALF_LIFE_S)
        self.unmet_s = min(UNMET_S, faded_s + min(span_s, WINDOW_S) * self.unmet)
        self.unmet_ts = now_ts

    # -- a siege begins ----------------------------------------------------------------------------------------------

    def _search(self, now_ts: float) -> None:
        """Look whether anything is far above its normal, and for what carries the excess."""
        halved = 0.5 if now_ts < self.suffering_until_ts else 1.0
        factor, least = max(1.5, self.settings.factor * halved), self.settings.least * halved
        limit, peaks, excess = self.normal.limit, self.peaks, False
        for feature, number in self._counts.items():
            if number >= PEAK_LEAST and number > peaks.get(feature, 0.0):
                peaks[feature] = number
            if number >= least and not excess:
                excess = number >= limit(feature, now_ts, factor, least)
        if not excess:
            self.unmet = False
        if not excess or now_ts < self.pause_ts or not self.normal.learnt:
            return
        self.pause_ts = now_ts + PAUSE_S
        cells, before_s = self._cells(now_ts)
        met = {siege.found for siege in self.all}
        narrow = narrowing(cells)
        found = [
            (one, description, measure)
            for one in _worth_a_look(contrasts(cells, WINDOW_S, before_s, RANKED))
            if one.features and one.features not in met and one.now >= LEAST_REQUESTS
            if one.now_cost >= self.normal.limit_of(one.features, now_ts, factor, least)
            if (measure := self._measure(description := narrow(one.features), one.purity)) is not None
        ]
        fitting = [one for one in found if (one[2].times or one[2].asks) and not self._is_met(one[1], one[2])]
        fitting.sort(
            key=lambda one: (
                *(one[0].share < LEAST_SHARE, one[2].strictness),
                *(POST not in one[1], signature_of(one[1]) is None),
            )
        )
        if fitting and len(self.all) < SIEGES_MAX:
            if fitting[0][2].times != 1 or now_ts >= self.whole_since_ts + ATTEND_S:
                self._enter(*fitting[0], now_ts)
                return
            self.unmet = True
            self.attentive_until_ts = now_ts + WINDOW_S  # first see who is a visitor of those left out so far
            self.pause_ts = now_ts
            return
        self.unmet = True
        if found and not (found[0][2].times or found[0][2].asks):
            self._alarm(*found[0], now_ts, self.normal.limit_of(found[0][0].features, now_ts, factor, least))

    def _cells(self, now_ts: float) -> tuple[list[Cell], float]:
        """What strangers were served within the last minute that no strict siege is about, beside what is normal."""
        strict = [one.wanted for one in self.all if one.times <= 1 and one.left_ts is None]
        before, before_s = self.normal.before()
        factor = self.normal.hour_factor(now_ts)
        cells = {cell.features: structs.replace(cell, before_cost=cell.before_cost * factor) for cell in before}
        now: dict[int, tuple[Record, list[float]]] = {}
        for seen in self.window:
            if not (seen.visitor or seen.apart):
                now.setdefault(id(seen.record), (seen.record, []))[1].append(seen.units)
        for record, units in now.values():
            if not any(wanted <= record.features for wanted in strict):
                cell = cells.get(record.in_order) or Cell(0.0, 0.0, 0, 0, record.in_order)
                number, cost = cell.now + len(units), cell.now_cost + math.fsum(units)
                cells[record.in_order] = structs.replace(cell, now=number, now_cost=cost)
        return list(cells.values()), before_s

    def _measure(self, description: Description, purity: float) -> Measure | None:
        """The measure against a class; None where so few sent it that the rules that count by address are for them."""
        present = self._present(frozenset(description))
        if len(present.strangers) + len(present.visitors) < LEAST_SENDERS:
            return None
        asked = frozenset(one for one in description if one[0] in ASKED)
        if asked and len(asked) < len(description):
            present.visiting = max(present.visiting, self._present(asked).visiting)
        if (page := _page_of(description)) is not None and page != description:
            present.visitors = self._present(frozenset(page)).visitors
        posted = {one.signature.path for one in self.all if one.left_ts is None and POST in one.wanted}
        is_form = POST not in description and dict(description).get("path") in posted
        asks = self.asks and "path" in dict(description) and question_of(description) is not None
        return measure_of(page or description, self.normal, present, self.settings, purity, asks=asks, is_form=is_form)

    def _present(self, wanted: frozenset[Feature]) -> Present:
        visitors: dict[str, list[str]] = {}
        strangers: dict[str, list[str]] = {}
        everybody: set[str] = set()
        senders: set[str] = set()
        holds: dict[int, bool] = {}
        familiar: dict[int, bool] = {}
        number = known_programs = 0
        for seen in self.window:
            if seen.visitor:
                everybody.add(seen.subject)
            known = holds.get(id(seen.record))
            if known is None:
                known = holds[id(seen.record)] = wanted <= seen.record.features
            if known:
                senders.add(seen.subject)
                if not (seen.visiting or seen.visitor):
                    if id(seen.record) not in familiar:
                        familiar[id(seen.record)] = self.normal.is_familiar(seen.record.request, seen.now_ts)
                    number += 1
                    known_programs += familiar[id(seen.record)]
                if not seen.visiting:
                    agent = seen.record.request.asked[4]
                    (visitors if seen.visitor else strangers).setdefault(seen.subject, []).append(agent)
        visiting = len(senders & everybody) / max(1, len(senders))
        return Present(visitors, strangers, len(everybody), visiting, known_programs / max(1, number))

    def _is_met(self, description: Description, measure: Measure) -> bool:
        """Whether most of such requests are those of a siege that is at least as strict."""
        wanted = frozenset(description)
        met = [one.wanted for one in self.all if one.left_ts is None and one.strictness <= measure.strictness]
        such = [seen.record for seen in self.window if not seen.visitor and wanted <= seen.record.features]
        return sum(any(each <= record.features for each in met) for record in such) > 0.5 * len(such)

    def _enter(self, contrast: Contrast, description: Description, measure: Measure, now_ts: float) -> None:
        signature = signature_of(description)
        if measure.asks and signature is not None:
            signature = structs.replace(signature, method="GET")
        note = (
            f"{contrast.now} requests {text_of(description)} within {WINDOW_S:.0f} s by strangers, "
            f"{contrast.lift:.0f} times the normal, {contrast.share:.0%} of the excess; {measure.note}"
        )
        finding = self._finding(description, signature, contrast.now, note, now_ts)
        settings = self.settings
        is_one_page = signature is not None and "*" not in (signature.path or "*")
        turned_away = signature is not None and (measure.times == 1 or (measure.asks and is_one_page))
        siege = Siege(
            description,
            contrast.features,
            frozenset(description),
            signature or Signature(),
            measure.times,
            measure.agents,
            finding,
            note,
            normal=self.normal.rate_of(description, now_ts, WINDOW_S),
            limit=self.normal.limit_of(description, now_ts, settings.factor, settings.least),
            turned_away=turned_away,
            opens=self.asks and signature is not None and turned_away and signature.method == "GET",
            told=signature if turned_away else question_of(description),
            began_ts=now_ts,
            hot_ts=now_ts,
            counted={},
            spared={},
        )
        for who in known_before(self.normal, description, now_ts):
            siege.spare(who, now_ts)
        for who, visits in self.visitors.lately():
            if siege.concerns(visits):
                siege.spare(who, now_ts)
        if siege.times > 1:  # what was sent before it was noticed counts, too
            for seen in self.window:
                if not seen.visitor and siege.wanted <= seen.record.features and seen.subject not in siege.spared:
                    siege.count(seen.subject, seen.now_ts, seen.record.request.asked[4])
        self.all.append(siege)
        self._version += 1
        self.hear(Change("enter", now_ts, siege.signature, note, finding))
        self._tell(siege, now_ts)

    def _finding(
        self, description: Description, signature: Signature | None, count: int, note: str, now_ts: float
    ) -> Finding:
        """The finding of an excess, with the latest lines that belong to it; the last is where it was noticed."""
        wanted = frozenset(description)
        rows = [row for record, row in self.latest if wanted <= record.features][-EVIDENCE:]
        found = finding_of(RULE, "", now_ts, count, WINDOW_S, evidence_of(rows or [self._row]))
        return structs.replace(found, note=note, signature=signature)

    def _alarm(
        self, contrast: Contrast, description: Description, measure: Measure, now_ts: float, limit: float
    ) -> None:
        """Say that something is far above its normal, and why nothing is done about it."""
        far = contrast.now_cost >= ALARM_FACTOR * limit and contrast.share >= ALARM_SHARE
        if not far or now_ts < self.alarms.get(description, -math.inf):
            return
        self.alarms = {one: ts for one, ts in self.alarms.items() if ts > now_ts}
        self.alarms[description] = now_ts + ALARM_EVERY_S
        signature = signature_of(description)
        note = (
            f"{contrast.now} requests {text_of(description)} within {WINDOW_S:.0f} s, "
            f"{contrast.lift:.0f} times the normal; nothing is done, because {measure.note}"
        )
        finding = self._finding(description, signature, contrast.now, note, now_ts)
        self.hear(Change("alarm", now_ts, signature or Signature(), note, finding))

    # -- a siege lasts -----------------------------------------------------------------------------------------------

    def _weigh(self, now_ts: float, ripening: Iterable[Seen]) -> None:
        """Whether each siege is still one; whether one that was left has come back."""
        lately = [seen for queue in (self.window, ripening) for seen in queue if seen.now_ts > now_ts - WINDOW_S]
        strangers = [seen for seen in lately if not seen.visitor]
        for siege in self.all:
            wanted, spared = siege.wanted, siege.spared
            such = (seen.units for seen in strangers if wanted <= seen.record.features and seen.subject not in spared)
            siege.arrivals = math.fsum(such)
            if siege.left_ts is not None:
                if siege.arrivals > max(siege.limit / 2, 3 * siege.normal):
                    self._come_back(siege, now_ts)
            elif siege.arrivals > max(siege.limit / 3, 2 * siege.normal):
                siege.hot_ts = now_ts
            elif now_ts >= siege.hot_ts + self.settings.calm_s:
                self._leave(siege, now_ts)
        kept = [one for one in self.all if one.left_ts is None or now_ts < one.left_ts + self.settings.memory_s]
        if len(kept) < len(self.all):
            self.all = kept
            self._version += 1

    def _leave(self, siege: Siege, now_ts: float) -> None:
        siege.left_ts = now_ts
        siege.counted.clear()
        self._version += 1
        lifts, siege.denied = siege.denied or None, ""
        note = f"no more than normal for {self.settings.calm_s:.0f} s"
        about = siege.signature if lifts is None or siege.told is None else siege.told
        self.hear(Change("leave", now_ts, about, note, siege.finding, lifts=lifts))

    def _come_back(self, siege: Siege, now_ts: float) -> None:
        siege.left_ts, siege.hot_ts = None, now_ts
        self._version += 1
        for who, visits in self.visitors.lately():
            if siege.concerns(visits):
                siege.spare(who, now_ts)
        self.hear(Change("return", now_ts, siege.signature, f"it is back: {siege.note}", siege.finding))
        self._tell(siege, now_ts)

    def renew(self, now_ts: float) -> None:
        """Spare who has become a visitor since, and renew leases: once a second of event time."""
        if now_ts < self.spare_ts:
            return
        self.spare_ts = now_ts + 1.0
        fresh, self.fresh = self.fresh, {}
        for siege in self.all:
            if siege.left_ts is not None:
                continue
            for who in fresh:
                visits = self.visitors.of(who)
                if visits is not None and who not in siege.spared and siege.concerns(visits):
                    siege.spare(who, now_ts)
                    siege.unsaid = True
            if siege.is_due(now_ts):
                self._tell(siege, now_ts)

    def _tell(self, siege: Siege, now_ts: float) -> None:
        """Have the web server turn the class away, or ask its senders, in place of what was said before."""
        if siege.told is None:
            return
        siege.number += 1
        siege.unsaid = False
        verb: Literal["deny", "ask"] = "deny" if siege.turned_away else "ask"
        before, siege.denied = siege.denied or None, f"{verb}~{siege.finding.id}~{siege.number}"
        siege.denied_until_ts = now_ts + LEASE_S
        alike = [one.spared for one in self.all if one.left_ts is None and one.told == siege.told]  # one stands for all
        spared = dict.fromkeys(who for each in (*alike, siege.spared) for who in each)
        until_ts, spare = siege.denied_until_ts, tuple(sorted([*spared][-TOLD_MAX:]))
        said = siege.told, siege.note, siege.finding
        self.hear(Change(verb, now_ts, *said, id=siege.denied, lifts=before, end_ts=until_ts, spare=spare))


def _page_of(description: Description) -> Description | None:
    """One page without how it is asked for; None where it is no page, or more than one. Those who only look what is
    behind a link that was shared ask in another way than those who read it: to tell them by that is to hit the half.
    """
    values = dict(description)
    if values.get("method", "GET") not in {"GET", "HEAD"} or "*" in values.get("path", "*"):
        return None
    page = (("method", "GET") if name == "method" else (name, value) for name, value in description)
    return tuple(one for one in page if one[0] not in {"protocol", "contact"})


def _worth_a_look(ranked: Sequence[Contrast]) -> list[Contrast]:
    """The best descriptions that carry enough, and the best of the rest that say which path."""
    best = [one for one in ranked[:SEARCHED] if one.share >= LEAST_SHARE]
    rest = (one for one in ranked if one.share >= LEAST_SHARE_OF_PATH and one.value("path") is not None)
    return [*best, *islice((one for one in rest if one not in best), PATHS_SEARCHED)]
