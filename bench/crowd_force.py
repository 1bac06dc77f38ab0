"""What was in force when: bans, prefixes, classes of requests turned away; and whether it would have stopped a line."""

from __future__ import annotations

import math
import re
from datetime import UTC
from functools import cache

from msgspec import Struct

from crowd_site import Line
from tocsin.decide.subjects import bounds, canonical
from tocsin.enforce.pasting import query_pattern
from tocsin.enforce.webserver import BROWSER, EMBEDDED, ROBOT
from tocsin.formats import Format, Proxies, by_name
from tocsin.formats.base import Anchor
from tocsin.model import Decision, HttpRequest, Signature, is_host

_BROWSER, _ROBOT, _EMBEDDED = re.compile(BROWSER).search, re.compile(f"(?i){ROBOT}").search, re.compile(EMBEDDED).search

PEOPLE = ("visitor", "surge", "office", "admin")


class Span(Struct):
    """A measure in force from `start_ts` to `end_ts`; `spare` are the subjects that a class leaves alone."""

    start_ts: float
    end_ts: float
    decision: Decision
    spare: frozenset[str] = frozenset()

    def at(self, ts: float) -> bool:
        """Whether it is in force at a time."""
        return self.start_ts <= ts < self.end_ts


class Force:
    """All measures of one run. A decision counts from when the log's clock had reached it, never before."""

    def __init__(self, *, with_vhost: bool) -> None:
        """Nothing is in force."""
        self.decisions: list[Decision] = []
        self.held: dict[str, int] = {}
        self.asked: dict[tuple[str, str], None] = {}  # browsers, by address and agent, that keep the cookie
        self._by_id: dict[str, Span] = {}
        self._hosts: dict[str, list[Span]] = {}
        self._wide: list[tuple[int, int, int, Span]] = []
        self._classes: list[Span] = []
        self._format: Format = by_name("vhost_combined" if with_vhost else "combined", Proxies())

    def take(self, decision: Decision, now_ts: float) -> None:
        """A decision that was heard at a time of the log's clock."""
        if decision.held is not None:
            self.held[decision.held] = self.held.get(decision.held, 0) + 1
            return
        self.decisions.append(decision)
        if decision.action == "lift":
            span = self._by_id.get(decision.lifts or "")
            if span is not None:
                span.end_ts = min(span.end_ts, now_ts)
            return
        end_ts = math.inf if decision.end_ts is None else decision.end_ts
        span = self._by_id[decision.id] = Span(now_ts, end_ts, decision, frozenset(decision.spare))
        if decision.action in {"limit", "deny-request"}:
            self._classes.append(span)
        elif is_host(decision.subject):
            self._hosts.setdefault(decision.subject, []).append(span)
        else:
            self._wide.append((*bounds(decision.subject), span))

    def answered(self, line: Line) -> tuple[Span | None, bool]:
        """The measure that would have stopped a line, None where it would have been served; whether only after the
        browser was asked for its cookie, which people's browsers have from then on.
        """
        span = self.stopping(line)
        if span is None or not opens(span.decision) or line.label not in PEOPLE:
            return span, False
        browser = line.who, self.request(line).user_agent or ""
        if browser in self.asked:
            return None, False
        self.asked[browser] = None
        return None, True

    def stopping(self, line: Line) -> Span | None:
        """The measure that concerns a line first; None where there is none."""
        subject = subject_of(line.who)
        for span in self._hosts.get(subject, ()):
            if span.at(line.ts):
                return span
        wide = [each for each in self._wide if each[3].at(line.ts)]
        if wide:
            version, low, high = bounds(subject)
            for its_version, first, last, span in wide:
                if version == its_version and first <= low and high <= last:
                    return span
        classes = [span for span in self._classes if span.at(line.ts) and subject not in span.spare]
        if classes:
            request = self.request(line)
            return next((span for span in classes if is_met(span.decision, request)), None)
        return None

    def request(self, line: Line) -> HttpRequest:
        """A line as the request that it was."""
        event = self._format.parse(line.text.encode(), Anchor(line.ts, UTC))
        assert isinstance(event, HttpRequest), line.text
        return event

    def of_class(self) -> list[Span]:
        """The classes that were turned away."""
        return self._classes


def opens(decision: Decision) -> bool:
    """Whether a browser that shows the cookie is let through."""
    of_pages = decision.signature is not None and decision.signature.method == "GET"
    return decision.action == "limit" or (decision.action == "deny-request" and of_pages)


def is_met(decision: Decision, request: HttpRequest) -> bool:
    """Whether the web server would turn a request away or ask its sender, as its configuration says."""
    if not fits(decision.signature, request):
        return False
    agent = request.user_agent or ""
    return decision.action != "limit" or bool(_BROWSER(agent) and not _ROBOT(agent) and not _EMBEDDED(request.path))


@cache
def subject_of(address: str) -> str:
    """What an address is banned by."""
    return canonical(address)


def fits(signature: Signature | None, request: HttpRequest) -> bool:
    """Whether a request belongs to a class."""
    if signature is None:
        return False
    if signature.method is not None and request.method != signature.method:
        return False
    if signature.protocol is not None and request.protocol != signature.protocol:
        return False
    if signature.vhost is not None and (request.vhost or "").partition(":")[0] != signature.vhost.partition(":")[0]:
        return False
    if signature.user_agent is not None and signature.user_agent not in (request.user_agent or ""):
        return False
    if signature.query is not None and not re.search(query_pattern(signature.query) or "^$", request.query):
        return False
    return signature.path is None or path_pattern(signature.path).fullmatch(request.path) is not None


@cache
def path_pattern(path: str) -> re.Pattern[str]:
    """A class's path: exact, `*` for one segment or a part of it."""
    return re.compile("[^/]*".join(map(re.escape, path.split("*"))))
