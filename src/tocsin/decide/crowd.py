"""What all who come do together: an observer of the engine that learns what is normal and notices a siege. Pure.

It sees whole requests of a sample of addresses (all of them on a quiet site, and while a siege lasts), in the order of
the lines. A request is judged ten seconds after it came: by then a browser has fetched what the page is made of, and
its sender is told for a visitor (`visitors.py`) or is a stranger. What strangers asked for within the last minute
stands against what is normal (`detect/normal.py`) every five seconds; what comes of it is decided in `sieges.py`.

A request counts for as many as it is dearer than an ordinary one, where durations are logged. Time is the engine's: the
newest stamp so far. Assets that name a referer are left out, they are what pages bring; but not those that are missing
(404), which a site's own program answers, at the cost of a page.

Cost (profiled, per request seen): 3 us to parse it and judge the visitor, 4 us here, against 4 us for all that is done
with a line otherwise. So only about `SEEN_A_SECOND` requests a second are looked at on a busy site, by leaving out
addresses, half as many each time; of those, posts are remembered all the same, as they are few.
"""

from __future__ import annotations

import math
import zlib
from collections import deque
from collections.abc import Callable

import msgspec
from msgspec import Struct

from tocsin.decide.records import OTHERS, Hosts, Record, Seen, asked_of, host_of, others, record_again, record_of
from tocsin.decide.siege import Change, Siege, SiegeSettings
from tocsin.decide.sieges import LATEST, RIPE_S, WINDOW_S, Sieges
from tocsin.decide.visitors import REFUSED, Visitors, is_asset
from tocsin.detect.asked import Asked
from tocsin.detect.books import Strike
from tocsin.detect.contrast import Feature
from tocsin.detect.evidence import Row
from tocsin.detect.normal import CHAPTER_S, FIRST_KEPT, Normal, Request, sources_kept
from tocsin.model import HttpRequest
from tocsin.server_events import Sample

SEEN_A_SECOND = 6.0
MASK_MAX = 0xFFF
TICK_S = 5.0
WINDOW_MAX = 20_000
RIPENING_MAX = 40_000  # requests that wait to be judged, 200 bytes each
RIPENED_EARLY = 1000
RECORDS_MAX = 8192  # requests told apart within a chapter; what comes beyond is one record
SENT = frozenset((200, 206, 304))
UNITS = (0.25, 20.0)  # what one request is worth at least and at most
SUFFERING_5XX = 0.2
SUFFERING_STALLED = 0.4


class Chapter(Struct, array_like=True):
    """Some minutes that are over and not learnt yet: what began in their last seconds may be an attack."""

    requests: list[Request]
    visitors: list[tuple[Asked, ...]]
    peaks: list[tuple[Feature, float]]
    start_ts: float
    end_ts: float


class Saved(Struct, array_like=True):
    """All state but the visitors' and the normal, for a restart. `seen` are (time, subject, position of its record,
    visiting, visitor, weight, units, cost, apart), `ripe` how many of them are judged.
    """

    times: list[float]
    mask: int
    rate_seen: int
    besieged: bool
    records: list[Request]
    known: int
    seen: list[tuple[float, str, int, bool, bool, float, float, float, bool]]
    ripe: int
    first: dict[str, list[Asked]]
    failed: list[tuple[float, bool]]
    hosts: dict[str, int]
    peaks: list[tuple[Feature, float]]
    latest: list[tuple[int, Row]]
    sieges: list[Siege]
    alarms: list[tuple[tuple[Feature, ...], float]]
    fresh: list[str]
    closed: Chapter | None


class Crowd:
    """The observer. `hear` is called with each change of a siege, before the next line is read."""

    def __init__(self, visitors: Visitors, settings: SiegeSettings, hear: Callable[[Change], None]) -> None:
        self.visitors = visitors
        self.settings = settings
        self.thorough = settings.enabled
        self.mask = 0
        self.normal = Normal()
        self.sieges = Sieges(self.normal, visitors, settings, hear)
        self._known: dict[Asked, Record] = {}
        self._ripening: deque[Seen] = deque()
        self._first: dict[str, list[Asked]] = {}
        self._chapter_ts = -math.inf
        self._besieged = False  # within this chapter: then nothing is learnt from it
        self._closed: Chapter | None = None
        self._tick_ts = -math.inf
        self._rate_ts = -math.inf
        self._rate_seen = 0
        self._failed: deque[tuple[float, bool]] = deque(maxlen=400)
        self._hosts = Hosts()

    # -- each request ------------------------------------------------------------------------------------------------

    def note(
        self, request: HttpRequest, subject: str, now_ts: float, row: Callable[[], Row], *, matched: bool
    ) -> Strike | None:
        """A request; see `Observer.note`. A strike where its sender has sent enough of what is under siege."""
        self._rate_seen += 1
        before = self.visitors.of(subject)
        was_visitor = before is not None and self.visitors.is_visitor(before)
        visits = self.visitors.note(request, subject, matched=matched)
        if not self.settings.enabled:
            self._pace(now_ts)
            return None
        is_visitor = visits is not None and (was_visitor or self.visitors.is_visitor(visits))
        if is_visitor and self.sieges.all:
            self.sieges.fresh[subject] = None
        if now_ts >= self._tick_ts:
            self._tick(now_ts, row())
        elif self.sieges.all:
            self.sieges.renew(now_ts)
        file = request.method == "GET" and is_asset(request.path) and ".php/" not in request.path
        if file and request.referer and request.status != 404:
            if is_visitor:
                self._hosts.note(host_of(request.referer))
            return None
        record = self._record(request, led=visits is not None and visits.led)
        self._suffer(request, now_ts)
        weight, cost_s = self.mask + 1.0, request.duration_s or 0.0
        units = weight * self._worth(cost_s) if cost_s else weight
        refused = request.status == REFUSED and self.sieges.lasting
        apart = refused or (file and request.status in SENT)
        seen = Seen(now_ts, subject, record, was_visitor, False, weight, units, cost_s * weight, apart)
        self._ripening.append(seen)
        if len(self._ripening) > RIPENING_MAX:  # a flood: who waits longest is judged as what he is by now
            self._ripen(-math.inf, RIPENING_MAX - RIPENED_EARLY)
            self.sieges.expire(-math.inf, WINDOW_MAX)
        if is_visitor:
            return None
        if self.sieges.all or not self._rate_seen & 3:  # a line costs as much as all else here: some do as evidence
            self.sieges.latest.append((record, row()))
        if not self.sieges.all:
            return None
        return self.sieges.strike(record, subject, now_ts, refused=request.status == REFUSED)

    def glance(self, request: HttpRequest, subject: str, now_ts: float) -> None:
        """A post of an address that is left out: remembered as one that posts this, and no more."""
        if self.settings.enabled:
            sources = self._record(request, led=False).request.sources
            if len(sources) < sources_kept(request.method or ""):
                sources.setdefault(subject, now_ts)

    def _worth(self, cost_s: float) -> float:
        usual_s = self.normal.cost_s / self.normal.strangers if self.normal.strangers else 0.0
        return min(UNITS[1], max(UNITS[0], cost_s / usual_s)) if usual_s else 1.0

    def _record(self, request: HttpRequest, *, led: bool) -> Record:
        asked = asked_of(request, "link" if led else self._hosts.contact(request.referer))
        known = self._known.get(asked)
        if known is not None:
            return known
        if len(self._known) < RECORDS_MAX:
            return self._known.setdefault(asked, record_of(asked))
        return self._known.get(OTHERS) or self._known.setdefault(OTHERS, others())

    def _suffer(self, request: HttpRequest, now_ts: float) -> None:
        """The machine suffers where many requests fail."""
        failed = self._failed
        failed.append((now_ts, (request.status or 0) >= 500))
        if failed[-1][1]:
            lately = [bad for ts, bad in failed if ts >= now_ts - WINDOW_S]
            if sum(lately) >= max(10, SUFFERING_5XX * len(lately)):
                self.sieges.suffering_until_ts = now_ts + WINDOW_S

    def feel(self, sample: Sample) -> None:
        """What the machine says of itself, as recorded: tasks that stall for want of memory, storage or processors. It
        says nothing of lines that are read late.
        """
        newest_ts = self._tick_ts - TICK_S
        if (sample.stalled_share or 0.0) >= SUFFERING_STALLED and abs(sample.ts - newest_ts) < WINDOW_S:
            self.sieges.suffering_until_ts = max(newest_ts + WINDOW_S, self.sieges.suffering_until_ts)

    # -- time --------------------------------------------------------------------------------------------------------

    def _tick(self, now_ts: float, row: Row) -> None:
        """Every five seconds of event time: judge what is ripe, forget what is old, look for an excess."""
        self._tick_ts = now_ts + TICK_S
        if self._chapter_ts == -math.inf:
            self._chapter_ts = now_ts
        self._ripen(now_ts - RIPE_S)
        self.sieges.expire(now_ts - RIPE_S - WINDOW_S, WINDOW_MAX)
        self.sieges.tick(now_ts, self._ripening, row)
        if self.sieges.is_odd(now_ts):
            self._besieged, self._closed = True, None
        elif self._closed is not None and now_ts >= self._closed.end_ts + WINDOW_S:
            self._learn(self._closed)
        if now_ts >= self._chapter_ts + CHAPTER_S:
            self._close_chapter(now_ts)
        self._pace(now_ts)

    def _ripen(self, until_ts: float, at_most: int = RIPENING_MAX) -> None:
        ripening, of, is_visitor = self._ripening, self.visitors.of, self.visitors.is_visitor
        while ripening and (ripening[0].now_ts <= until_ts or len(ripening) > at_most):
            seen = ripening.popleft()
            visits = of(seen.subject)
            request = seen.record.request
            request.cost_s += seen.cost_s
            if len(request.sources) < sources_kept(request.asked[0]):
                request.sources.setdefault(seen.subject, seen.now_ts)
            if visits is not None and is_visitor(visits):
                seen.visitor = True
                request.visitors += seen.weight
                if not seen.visiting:
                    first = self._first.setdefault(seen.subject, [])
                    if len(first) < FIRST_KEPT:
                        first.append(request.asked)
            else:
                request.strangers += seen.weight
                request.units += seen.units
            self.sieges.take(seen)

    def _learn(self, chapter: Chapter) -> None:
        peaks = dict(chapter.peaks)
        self.normal.learn(chapter.requests, chapter.visitors, peaks, chapter.start_ts, chapter.end_ts)
        self._closed = None

    def _close_chapter(self, now_ts: float) -> None:
        if self._closed is not None:  # after a silence: it was followed by nothing
            self._learn(self._closed)
        if not self._besieged:
            requests = [record.request for record in self._known.values()]
            visitors = [tuple(first) for _, first in sorted(self._first.items())]
            self._closed = Chapter(requests, visitors, list(self.sieges.peaks.items()), self._chapter_ts, now_ts)
        self.sieges.peaks = {}
        self._first.clear()
        self._known.clear()  # who waits or is in the window keeps its record; what it adds to that is of no account
        self._chapter_ts = now_ts
        self._besieged = self.sieges.lasting

    def _pace(self, now_ts: float) -> None:
        """Look at all addresses, or at half as many, so that the requests looked at stay about the same number."""
        watchful = self.sieges.lasting or now_ts < self.sieges.attentive_until_ts
        if watchful and self.mask:
            self.mask = 0
            self.sieges.whole_since_ts = now_ts
        if now_ts < self._rate_ts + 2 * TICK_S:
            return
        span_s = now_ts - self._rate_ts
        rate = self._rate_seen / span_s if span_s < 3600 else 0.0
        self._rate_ts, self._rate_seen = now_ts, 0
        if watchful:
            return
        if rate > SEEN_A_SECOND and self.mask < MASK_MAX:
            self.mask = 2 * self.mask + 1
            self.sieges.whole_since_ts = math.inf
        elif rate < SEEN_A_SECOND / 4 and self.mask:
            self.mask >>= 1
            self.sieges.whole_since_ts = math.inf if self.mask else now_ts

    def configure(self, settings: SiegeSettings) -> None:
        """Go on with other settings."""
        self.settings = self.sieges.settings = settings
        self.thorough = settings.enabled

    def adopt(self, other: Crowd) -> None:
        """Know what another one has learnt, and whom it saw."""
        self.normal.load(other.normal.dump())
        self.normal.chapters = other.normal.chapters
        self.visitors.load(other.visitors.dump())
        self._hosts = Hosts(other._hosts.counts)

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All state but what `visitors` and `normal` dump by themselves. Packed: what is asked for repeats itself."""
        sieges = self.sieges
        records = list(self._known.values())
        at = {id(record): number for number, record in enumerate(records)}
        known = len(records)
        for record in (*(seen.record for queue in (sieges.window, self._ripening) for seen in queue),
                       *(record for record, _ in sieges.latest)):  # fmt: skip
            if id(record) not in at:
                at[id(record)] = len(records)
                records.append(record)
        seen = [
            (
                one.now_ts,
                one.subject,
                at[id(one.record)],
                one.visiting,
                one.visitor,
                one.weight,
                one.units,
                one.cost_s,
                one.apart,
            )
            for queue in (sieges.window, self._ripening)
            for one in queue
        ]
        times = [
            self._chapter_ts, self._tick_ts, self._rate_ts, sieges.spare_ts, sieges.pause_ts, sieges.suffering_until_ts,
            sieges.whole_since_ts, sieges.attentive_until_ts, sieges.unmet_ts, sieges.unmet_s, sieges.unmet * 1.0,
        ]  # fmt: skip
        saved = Saved(
            times, self.mask, self._rate_seen, self._besieged, [record.request for record in records], known, seen,
            len(sieges.window), self._first, list(self._failed), self._hosts.counts, list(sieges.peaks.items()),
            [(at[id(record)], row) for record, row in sieges.latest], sieges.all, list(sieges.alarms.items()),
            list(sieges.fresh), self._closed,
        )  # fmt: skip
        return zlib.compress(msgspec.msgpack.encode(saved), 1)

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.MsgspecError where it is none."""
        try:
            saved = msgspec.msgpack.decode(zlib.decompress(state), type=Saved)
        except zlib.error as error:
            raise msgspec.DecodeError(f"not what was saved: {error}") from error
        sieges = self.sieges
        self._chapter_ts, self._tick_ts, self._rate_ts, *times = saved.times
        sieges.spare_ts, sieges.pause_ts, sieges.suffering_until_ts, *times = times
        sieges.whole_since_ts, sieges.attentive_until_ts, sieges.unmet_ts, sieges.unmet_s, unmet = times
        sieges.unmet = bool(unmet)
        self.mask, self._rate_seen, self._besieged = saved.mask, saved.rate_seen, saved.besieged
        records = [record_again(request) for request in saved.records]
        self._known = {record.request.asked: record for record in records[: saved.known]}
        seen = [Seen(ts, subject, records[at], *rest) for ts, subject, at, *rest in saved.seen]  # type: ignore[arg-type]
        self._ripening = deque(seen[saved.ripe :])
        self._first, self._hosts = saved.first, Hosts(saved.hosts)
        self._failed = deque(saved.failed, maxlen=self._failed.maxlen)
        sieges.load(seen[: saved.ripe], saved.sieges, dict(saved.peaks), dict(saved.alarms))
        sieges.latest = deque(((records[at], row) for at, row in saved.latest), maxlen=LATEST)
        sieges.fresh = dict.fromkeys(saved.fresh)
        self._closed = saved.closed
