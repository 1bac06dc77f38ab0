"""What fields that no log holds are derived by. Pure; the knowledge comes from a later room and is handed in."""

from __future__ import annotations

from collections.abc import Callable
from operator import attrgetter
from typing import Any, Protocol

from tocsin.model import HttpRequest
from tocsin.rules.language import DERIVED_FIELDS, Rule, Where


class CrawlerJudge(Protocol):
    """Says what a request's claim to be a crawler is worth, and why.

    `names`: texts of which an agent, in any case, bears one where the verdict can be another than `unknown`; `claims`:
    where there is a verdict at all. `ask`: the verdict is `unknown` only as long as an answer is outstanding, and the
    finding that the request leads to is to wait for it.
    """

    @property
    def names(self) -> tuple[str, ...]: ...
    @property
    def claims(self) -> tuple[str, ...]: ...
    def verdict(self, request: HttpRequest) -> str | None: ...
    def proof(self, request: HttpRequest) -> str: ...
    def ask(self, request: HttpRequest) -> bool: ...


def reader_of(field: str, crawlers: CrawlerJudge | None) -> Callable[[Any], Any]:
    """How a field's value is had from an event."""
    if field != "crawler":
        return attrgetter(field)
    return crawlers.verdict if crawlers else lambda _event: None


def is_derived(field: str) -> bool:
    """Whether no log holds the field."""
    return any(field in fields for fields in DERIVED_FIELDS.values())


def asks_crawlers(rule: Rule) -> bool:
    """Whether the rule has a condition on what a claim to be a crawler is worth."""
    return _asks(rule.where)


def _asks(where: Where) -> bool:
    groups = (where.conditions, *where.any_of)
    return any(condition.field == "crawler" for group in groups for condition in group)
