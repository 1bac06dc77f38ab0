"""The exact predicate of a rule, as closures over the event's fields. Pure.

Tests run in the order of their price, so that the common refusal (another method, another status) costs one
comparison: 0.1-0.2 us for a line that fails at once, 0.3-0.5 us for one that matches a signature rule.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Sequence
from typing import Any

from msgspec import Struct

from tocsin.model import AuthAttempt, HttpRequest
from tocsin.rules.derived import CrawlerJudge, is_derived, reader_of
from tocsin.rules.language import (
    REGEX_SUBJECT_CHARS,
    REGEX_TIMEOUT_S,
    AllOf,
    Between,
    Condition,
    Contains,
    Equal,
    EqualNumber,
    Matches,
    Missing,
    Not,
    Prefix,
    Rule,
    Suffix,
    Test,
)

Predicate = Callable[[Any], bool]
"""Of an event (or, for a single test, of a field's value, which may be None)."""

EVENT_TYPES: dict[str, type] = {"http-request": HttpRequest, "auth": AuthAttempt}

_LOWER = {code: code + 32 for code in range(ord("A"), ord("Z") + 1)}
_PRICES: dict[type, int] = {
    Missing: 2,
    EqualNumber: 1,
    Equal: 1,
    Between: 2,
    Prefix: 2,
    Suffix: 3,
    Contains: 5,
    Matches: 50,
}


class Trouble(Struct):
    """What went wrong while a rule's regexes ran: matches given up after 50 ms, counted as no match."""

    timeouts: int = 0


def fold(text: str) -> str:
    """A to Z in small letters, everything else as it is: `str.lower` would make a Kelvin sign a k."""
    return text.lower() if text.isascii() else text.translate(_LOWER)


def predicate_of(rule: Rule, trouble: Trouble, crawlers: CrawlerJudge | None = None) -> Predicate:
    """Whether the rule's conditions hold for an event; False for an event of another kind. Without a judge of crawlers
    nobody claims to be one.
    """
    compiler = _Compiler(trouble, timed=not rule.shipped, crawlers=crawlers)
    kind = EVENT_TYPES.get(rule.on)
    tests = compiler.conditions([each for each in rule.where.conditions if not is_derived(each.field)])
    if rule.where.any_of:
        tests.append(_any([_all(compiler.conditions(group)) for group in rule.where.any_of]))
    # last, since it may leave a question that the finding is to wait for
    tests += [compiler.claim(each, rule) for each in rule.where.conditions if is_derived(each.field)]
    holds = _all(tests)
    if not tests:
        return lambda event: type(event) is kind
    return lambda event: type(event) is kind and holds(event)


def test_of(test: Test, rule: Rule, trouble: Trouble) -> Predicate:
    """One test alone, for those who explain a match."""
    return _Compiler(trouble, timed=not rule.shipped).test(test)


def timed_search(pattern: str, trouble: Trouble, *, ignore_case: bool = False) -> Callable[[str], Any]:
    """A search for a user's regex through `regex`; given up after 50 ms, it counts as trouble and no match."""
    regex = importlib.import_module("regex")  # here, not above: megabytes that only a user's regex needs
    options = regex.ASCII | regex.V0 | (regex.IGNORECASE if ignore_case else 0)
    search = regex.compile(pattern, options).search

    def found(text: str) -> Any:
        try:
            return search(text, timeout=REGEX_TIMEOUT_S)
        except TimeoutError:
            trouble.timeouts += 1
            return None

    return found


def _regex(search: Callable[[str], object]) -> Predicate:
    return lambda text: text is not None and search(text[:REGEX_SUBJECT_CHARS]) is not None


def price(test: Test) -> int:
    """What a test costs, in units of a comparison."""
    if isinstance(test, Not):
        return price(test.test)
    if isinstance(test, AllOf):
        return sum(map(price, test.tests))
    return _PRICES[type(test)] * (len(test.values) if isinstance(test, Contains | Matches) else 1)


class _Compiler:
    def __init__(self, trouble: Trouble, *, timed: bool, crawlers: CrawlerJudge | None = None) -> None:
        self.trouble = trouble
        self.timed = timed
        self.crawlers = crawlers

    def conditions(self, conditions: Sequence[Condition]) -> list[Predicate]:
        """Predicates of an event, cheapest first."""
        return [self.condition(condition) for condition in sorted(conditions, key=lambda each: price(each.test))]

    def condition(self, condition: Condition) -> Predicate:
        value_of = reader_of(condition.field, self.crawlers)
        test = condition.test
        if isinstance(test, Equal) and len(test.values) == 1 and not test.ignore_case:
            wanted = test.values[0]
            return lambda event: bool(value_of(event) == wanted)
        holds = self.test(test)
        return lambda event: holds(value_of(event))

    def claim(self, condition: Condition, rule: Rule) -> Predicate:
        """A condition on what a claim is worth. Of a rule that asks for impostors and finds at once, an event passes
        for which an answer is outstanding, too: the finding waits for it.
        """
        fits, crawlers = self.condition(condition), self.crawlers
        holds = self.test(condition.test)
        if crawlers is None or rule.limit > 1 or not holds("impostor") or holds("unknown"):
            return fits
        ask = crawlers.ask
        return lambda event: fits(event) or ask(event)

    def search(self, pattern: str, test: Matches) -> Callable[[str], Any]:
        if self.timed:
            return timed_search(pattern, self.trouble, ignore_case=test.ignore_case)
        return re.compile(pattern, re.ASCII | (re.IGNORECASE if test.ignore_case else 0)).search

    def test(self, test: Test) -> Predicate:
        match test:
            case Not():
                inner = self.test(test.test)
                return lambda value: not inner(value)
            case AllOf():
                return _all([self.test(each) for each in sorted(test.tests, key=price)])
            case Missing():
                return _missing if test.wanted else lambda value: not _missing(value)
            case EqualNumber():
                return frozenset(test.values).__contains__
            case Between():
                return _between(test.low, test.high)
            case Matches():
                return _any([_regex(self.search(pattern, test)) for pattern in test.values])
            case _:
                return _folded(test) if test.ignore_case else _compare(test, test.values)


def _missing(value: object) -> bool:
    return value is None or value == ""


def _between(low: float | None, high: float | None) -> Predicate:
    least = float("-inf") if low is None else low
    most = float("inf") if high is None else high
    return lambda value: value is not None and least <= value <= most


def _folded(test: Equal | Prefix | Suffix | Contains) -> Predicate:
    holds = _compare(test, tuple(fold(value) for value in test.values))
    return lambda text: bool(text) and holds(fold(text))


def _compare(test: Equal | Prefix | Suffix | Contains, values: tuple[str, ...]) -> Predicate:
    """No value is empty, so an absent or empty text is refused before anything is looked for in it."""
    if isinstance(test, Equal):
        return frozenset(values).__contains__
    if isinstance(test, Prefix):
        return lambda text: bool(text) and text.startswith(values)
    if isinstance(test, Suffix):
        return lambda text: bool(text) and text.endswith(values)
    if len(values) == 1:
        value = values[0]
        return lambda text: bool(text) and value in text
    # A list where a generator would do: half the time for the usual handful of values.
    return lambda text: bool(text) and any([value in text for value in values])  # noqa: C419  as said above


def _all(tests: Sequence[Predicate]) -> Predicate:
    """All of them, in order, as nested calls: a generator costs more than the tests."""
    if not tests:
        return lambda _value: True
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) and second(value)
    begin, middle, rest = tests[0], tests[1], _all(tests[2:])
    return lambda value: begin(value) and middle(value) and rest(value)


def _any(tests: Sequence[Predicate]) -> Predicate:
    if len(tests) == 1:
        return tests[0]
    if len(tests) == 2:
        first, second = tests
        return lambda value: first(value) or second(value)
    begin, middle, rest = tests[0], tests[1], _any(tests[2:])
    return lambda value: begin(value) or middle(value) or rest(value)
