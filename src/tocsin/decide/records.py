"""Requests as a crowd sees them: alike ones as one record, and each as it waits to be judged."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct

from tocsin.detect.asked import ALL, Asked, features, matched, trigger_features
from tocsin.detect.contrast import Feature, family_of, varied_path
from tocsin.detect.normal import Request
from tocsin.model import HttpRequest

OTHERS: Asked = ("", "*", "", "", "", "", "")
HOSTS_MAX = 64


class Record(Struct):
    """Requests that are alike: for the present chapter (`request`), and what a description may say of them."""

    request: Request
    in_order: tuple[Feature, ...]
    features: frozenset[Feature]
    triggers: Sequence[Feature]
    version: int = -1
    sieges: Sequence[object] = ()  # those that it belonged to as of `version`


class Seen(Struct, gc=False):
    """One request, waiting to be judged or within the window. `weight` is how many it stands for, `units` the same with
    its cost: how many ordinary requests it is worth. `apart`: it is no part of an excess, as
    the web server turned it away when it was told to, or sent a file, which costs next to nothing.
    """

    now_ts: float
    subject: str
    record: Record
    visiting: bool  # a visitor when it came
    visitor: bool  # a visitor when it was judged
    weight: float
    units: float
    cost_s: float
    apart: bool


def record_of(asked: Asked) -> Record:
    """What is remembered of requests that are new."""
    return record_again(Request(asked, kind_of(asked), sources={}))


def asked_of(request: HttpRequest, contact: str) -> Asked:
    """What was asked for, as the records are kept by; `contact` as in `normal.Asked`."""
    return (
        request.method or "", request.path, request.query, request.vhost or "", request.user_agent or "",
        request.protocol or "", contact,
    )  # fmt: skip


def record_again(request: Request) -> Record:
    """The record of requests known before."""
    if request.asked == OTHERS:
        return Record(request, (), frozenset(), (ALL,))
    found = features(request.asked)
    return Record(request, found, matched(request.asked), trigger_features(request.asked))


def others() -> Record:
    """What is not told apart any more within this chapter."""
    return record_again(Request(OTHERS, ("", "", "*", "", "", ""), sources={}))


def kind_of(asked: Asked) -> tuple[str, str, str, str, str, str]:
    """The class of what was asked; see `normal.Kind`."""
    method, path, _, vhost, agent, protocol, contact = asked
    return vhost, method, varied_path(path)[:200], family_of(agent), protocol, contact


def host_of(referer: str) -> str:
    """The host that a referer names, as it stands there; empty where it names none."""
    at = referer.find("://")
    return referer[at + 3 : at + 67].partition("/")[0] if at > 0 else ""


class Hosts:
    """Which hosts are this site's own: those that visitors' browsers name as where an asset belongs."""

    def __init__(self, counts: dict[str, int] | None = None) -> None:
        self.counts = counts or {}
        self.own: frozenset[str] = frozenset()
        self._settle()

    def note(self, host: str) -> None:
        """An asset that a visitor fetched for a page of this host."""
        number = self.counts[host] = self.counts.get(host, 0) + 1
        if number & 15 == 1 or host not in self.own:
            self._settle()

    def _settle(self) -> None:
        if len(self.counts) > HOSTS_MAX:
            ranked = sorted(self.counts.items(), key=lambda item: (-item[1], item[0]))
            self.counts = dict(ranked[: HOSTS_MAX // 2])
        least = max(3, sum(self.counts.values()) // 20)
        self.own = frozenset(name for name, number in self.counts.items() if number >= least and name)

    def contact(self, referer: str | None) -> str:
        """How somebody comes who is not told for a visitor; see `normal.Asked`."""
        if not referer:
            return "no referer"
        return "own referer" if host_of(referer) in self.own else "referer"
