"""Who of a class of requests is convicted: not whom it only seems to hold, and not a crowd that may come."""

from __future__ import annotations

from collections.abc import Sequence

from explain_made import dossier, fact, request, visits

from tocsin.explain.explain import explain
from tocsin.explain.model import Incident
from tocsin.model import HttpRequest, LimitReached

BINGBOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"


def only(requests: Sequence[HttpRequest], ts: float = 620) -> Incident:
    saturated = LimitReached(0.0, "apache2", "MaxRequestWorkers", 40)
    report = explain(dossier(requests, [fact(ts, saturated, "AH00161: server reached MaxRequestWorkers")]))
    assert len(report.incidents) == 1, [one.summary for one in report.incidents]
    return report.incidents[0]


def crowd(number: int) -> list[str]:
    return [f"203.{20 + i // 250}.{i % 250}.{1 + i % 200}" for i in range(number)]


def each(
    addresses: Sequence[str], path: str, start: float = 580, end: float = 700, **more: object
) -> list[HttpRequest]:
    """One request of each address, evenly in a span."""
    step = (end - start) / len(addresses)
    return [request(start + i * step, address, path, **more) for i, address in enumerate(addresses)]


def test_a_genuine_crawler_is_spared_in_a_class_of_which_most_claim_to_be_none() -> None:
    crawl = [request(590 + i * 4, "157.55.39.4", f"/produit/{i}/", user_agent=BINGBOT) for i in range(25)]
    attack = [one for i in range(6) for one in each(crowd(200), f"/produit/{i}/", 575 + i, 695 + i)]
    incident = only([*visits(0, 720), *crawl, *attack])
    assert incident.cause in {"distributed-flood", "request-flood"}
    assert len(incident.ban) == 200
    assert "157.55.39.4" in {one.subject for one in incident.spare}
