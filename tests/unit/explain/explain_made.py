"""Evidence made by hand: requests in a list that answer as the access logs do, and facts with their lines."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Sequence
from datetime import UTC
from itertools import pairwise

from tocsin.detect.contrast import features_of
from tocsin.explain.load import ASSET
from tocsin.explain.model import Dossier, Fact, Group, Profile, Quote, Rate, Step
from tocsin.formats import Anchor, combined
from tocsin.model import AuthAttempt, HttpRequest, Signature
from tocsin.server_events import ServerEvent

START_TS = 1_790_000_000.0
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"


def request(ts: float, ip: str, path: str, **more: object) -> HttpRequest:
    """A request at START_TS + ts; what is not named is a browser's successful GET."""
    target, _, query = path.partition("?")
    fields: dict[str, object] = {"method": "GET", "protocol": "HTTP/1.1", "status": 200, "body_bytes": 5000}
    fields |= {"user_agent": BROWSER, "path": target, "target": path, "query": query} | more
    return HttpRequest(START_TS + ts, ip, **fields)  # type: ignore[arg-type]


def visit(ts: float, ip: str, page: str = "/post/") -> list[HttpRequest]:
    """A visitor loads a page and what it is made of."""
    site = {"referer": "https://shop.example" + page}
    return [
        request(ts, ip, page),
        *(
            request(ts + 0.2 + i / 10, ip, f"/theme/{name}", **site)
            for i, name in enumerate(("a.css", "b.js", "c.png"))
        ),
    ]


def visits(start: float, end: float, each_s: float = 5.0) -> list[HttpRequest]:
    """Visitors, one after the other, each from another address and at another page."""
    found: list[HttpRequest] = []
    for i in range(int((end - start) / each_s)):
        address = f"198.51.{(int(start) // 60 + i) % 250}.{i % 250 + 1}"
        found += visit(start + i * each_s, address, f"/post-{i % 30}/")
    return found


def fact(ts: float, event: ServerEvent | AuthAttempt, text: str = "a line", source: str = "error.log") -> Fact:
    """A fact at START_TS + ts."""
    return Fact(START_TS + ts, event, source, 1, text)


def dossier(requests: Iterable[HttpRequest] = (), facts: Sequence[Fact] = ()) -> Dossier:
    """All of it together."""
    ordered = tuple(sorted(facts, key=lambda one: one.ts))
    return Dossier(ordered, (), (), Requests(requests), START_TS + 100_000)


def read(lines: Iterable[bytes]) -> list[HttpRequest]:
    """The requests of lines in the combined format."""
    reader, anchor = combined(), Anchor(START_TS, UTC)
    events = (reader.parse(line, anchor) for line in lines)
    return [event for event in events if isinstance(event, HttpRequest)]


Key = tuple[str | None, str | None, str | None, str, str, str | None, int | None, str | None]


class Requests:
    """`Accesses` over a list."""

    def __init__(self, requests: Iterable[HttpRequest]) -> None:
        self.rows = sorted(requests, key=lambda one: one.ts)
        self.start = self.rows[0].ts if self.rows else None
        self.end = self.rows[-1].ts if self.rows else None
        self.requests = len(self.rows)
        self.has_durations = any(one.duration_s is not None for one in self.rows)
        self.has_user_agents = any(one.user_agent for one in self.rows)

    def _within(self, start: float | None, end: float | None) -> list[HttpRequest]:
        return [one for one in self.rows if (start or 0.0) <= one.ts < (float("inf") if end is None else end)]

    def rates(self, step_s: float, start: float | None = None, end: float | None = None) -> list[Rate]:
        steps: defaultdict[float, list[HttpRequest]] = defaultdict(list)
        for one in self._within(start, end):
            steps[one.ts // step_s * step_s].append(one)
        return [self._rate(ts, ones) for ts, ones in sorted(steps.items())]

    def _rate(self, ts: float, ones: list[HttpRequest]) -> Rate:
        timed = [one.duration_s for one in ones if one.duration_s is not None]
        return Rate(
            ts,
            len(ones),
            sum((one.status or 0) >= 500 for one in ones),
            sum(one.status == 408 or (one.status == 400 and not one.method) for one in ones),
            sum(timed) if timed else None,
            max(timed) if timed else None,
        )

    def groups(self, start: float, end: float, limit: int = 200_000) -> list[Group]:
        alike: defaultdict[Key, list[HttpRequest]] = defaultdict(list)
        for one in self._within(start, end):
            place = (one.source_ip, one.vhost, one.method, one.path, one.query)
            alike[(*place, one.protocol, one.status, one.user_agent)].append(one)
        found = [self._group(key, ones) for key, ones in alike.items()]
        return sorted(found, key=lambda one: -one.requests)[:limit]

    def groups_between(self, edges: Sequence[float]) -> list[list[Group]]:
        return [self.groups(*span) for span in pairwise(edges)]

    def _group(self, key: Key, ones: list[HttpRequest]) -> Group:
        return Group(*key, len(ones), self._busy_s(ones), ones[0].ts, ones[-1].ts)

    def _busy_s(self, ones: list[HttpRequest]) -> float | None:
        timed = [one.duration_s for one in ones if one.duration_s is not None]
        return sum(timed) if timed else None

    def steps(self, step_s: float, start: float, end: float) -> list[Step]:
        return [
            Step(
                start + (one.ts - start) // step_s * step_s,
                one.method,
                one.path,
                one.query,
                one.vhost,
                one.user_agent,
                1,
            )
            for one in self._within(start, end)
        ]

    def took(self, signature: Signature, start: float, end: float) -> tuple[float, float]:
        ours = {id(one) for one in self._matching(signature, start, end)}
        mine = [one.duration_s or 0.0 for one in self._within(start, end) if id(one) in ours]
        rest = [one.duration_s or 0.0 for one in self._within(start, end) if id(one) not in ours]
        return sum(mine) / max(1, len(mine)), sum(rest) / max(1, len(rest))

    def profiles(self, start: float, end: float, limit: int = 200_000) -> list[Profile]:
        by: defaultdict[str, list[HttpRequest]] = defaultdict(list)
        for one in self._within(start, end):
            if one.source_ip is not None:
                by[one.source_ip].append(one)
        found = [self._profile(address, ones) for address, ones in by.items()]
        return sorted(found, key=lambda one: -one.requests)[:limit]

    def _profile(self, address: str, ones: list[HttpRequest]) -> Profile:
        assets = sum(bool(ASSET.search(one.path)) for one in ones)
        return Profile(
            address,
            len(ones),
            sum(one.method == "GET" for one in ones) - assets,
            assets,
            sum(one.method == "POST" for one in ones),
            sum(bool(one.referer) for one in ones),
            sum((one.status or 0) >= 500 for one in ones),
            len({one.user_agent for one in ones}),
            ones[0].ts,
            ones[-1].ts,
        )

    def profiles_of(self, addresses: list[str]) -> list[Profile]:
        wanted = set(addresses)
        return [one for one in self.profiles(0, float("inf")) if one.source_ip in wanted]

    def _matching(self, signature: Signature, start: float, end: float) -> list[HttpRequest]:
        wanted = {
            (name, value) for name in signature.__struct_fields__ if (value := getattr(signature, name)) is not None
        }
        return [
            one
            for one in self._within(start, end)
            if wanted <= set(features_of(one.method, one.path, one.query, one.vhost, one.user_agent))
        ]

    def hits(self, signature: Signature, start: float, end: float) -> tuple[int, int]:
        found = self._matching(signature, start, end)
        return len(found), len({one.source_ip for one in found})

    def actors(self, signature: Signature, start: float, end: float) -> list[tuple[str, int]]:
        counts: defaultdict[str, int] = defaultdict(int)
        for one in self._matching(signature, start, end):
            counts[one.source_ip or ""] += 1
        return sorted(counts.items(), key=lambda item: -item[1])

    def quotes(
        self, signature: Signature, start: float, end: float, limit: int = 3, by: Collection[str] = ()
    ) -> list[Quote]:
        found = [one for one in self._matching(signature, start, end) if not by or one.source_ip in by][:limit]
        return [Quote(one.ts, "access.log", 1 + self.rows.index(one), f"{one.method} {one.target}") for one in found]
