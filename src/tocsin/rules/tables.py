"""TOML tables in, frozen `Rule`s out, or every mistake in them at once. Pure: the text is handed in.

A table whose id is that of a shipped rule either sets some of `limit`, `within`, `ban`, `enabled` alone, and the rest
stays as shipped, or it is a whole rule (it has `on`) and takes the shipped one's place.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from typing import Any, cast

from msgspec import UNSET, structs

from tocsin.duration import parse_duration_s
from tocsin.rules.conditions import read_where
from tocsin.rules.language import BY_FIELDS, DISTINCT_FIELDS, Equal, On, Origin, Rule, RuleErrors, Where
from tocsin.rules.mistakes import Mistakes, nearest, words
from tocsin.rules.positions import Path, key_lines
from tocsin.rules.regexes import line_problem_of

RULE_KEYS = (
    "title",
    "on",
    "where",
    "by",
    "limit",
    "within",
    "distinct",
    "ban",
    "ipv4_prefix",
    "ipv6_prefix",
    "enabled",
    "line",
)
OVERRIDES = ("limit", "within", "ban", "enabled")
LIMIT_AT_MOST = 100_000
WITHIN_AT_MOST_S = 31 * 86400.0
BAN_AT_MOST_S = 3650 * 86400.0
PREFIXES = {"ipv4_prefix": (16, 32), "ipv6_prefix": (32, 128)}

_ID = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,62}[a-z0-9])?")


def read_rules(
    text: str, file: str, base: Mapping[str, Rule] | None = None, *, shipped: bool = False
) -> tuple[Rule, ...]:
    """The rules of a TOML text, in its order. `base` holds the shipped rules that it may adjust.

    RuleErrors has every mistake of the text, with lines; a text that is no TOML has one, where reading stopped.
    """
    try:
        tables = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        place = re.search(r"\(at line (\d+)", str(error))
        line = int(place[1]) if place else text.count("\n") + 1
        raise RuleErrors((Mistakes(file, {}).error((), f"not TOML: {error}", line=line),)) from None
    mistakes = Mistakes(file, key_lines(text))
    rules = [
        rule for key, table in tables.items() if (rule := _read_rule(key, table, mistakes, base or {}, shipped=shipped))
    ]
    mistakes.raise_if_any()
    return tuple(rules)


def _read_rule(key: str, table: object, mistakes: Mistakes, base: Mapping[str, Rule], *, shipped: bool) -> Rule | None:
    path: Path = (key,)
    if not isinstance(table, dict):
        mistakes.error(path, f"expected a table, [{key}], that holds a rule")
        return None
    if not _ID.fullmatch(key):
        mistakes.error(path, "a rule's id is made of a-z, 0-9 and -, at most 64 of them")
    origin = Origin(mistakes.file, mistakes.line_of(path))
    if "on" in table or "line" in table:
        return _Reader(key, table, mistakes, origin, shipped=shipped).rule()
    if key in base:
        return _adjusted(base[key], table, mistakes, origin)
    if table and set(table) <= set(OVERRIDES):
        mistakes.error(path, "no shipped rule has this id, so it cannot be adjusted", nearest(key, base))
        return None
    return _Reader(key, table, mistakes, origin, shipped=shipped).rule()


def _adjusted(rule: Rule, table: dict[str, Any], mistakes: Mistakes, origin: Origin) -> Rule:
    """A shipped rule with some of its numbers changed."""
    reader = _Reader(rule.id, table, mistakes, origin, shipped=rule.shipped)
    for name in table:
        if name in OVERRIDES:
            continue
        if name in RULE_KEYS:
            mistakes.error(
                (rule.id, name),
                f"of a shipped rule only {words(OVERRIDES)} can be set alone; with `on` the table is a whole new rule",
            )
        else:
            mistakes.error(
                (rule.id, name), f"unknown key; expected one of {words(OVERRIDES)}", nearest(name, RULE_KEYS)
            )
    return structs.replace(
        rule,
        limit=reader.limit() if "limit" in table else rule.limit,
        within_s=reader.within_s(rule.limit) if "within" in table else rule.within_s,
        ban_s=reader.ban_s() if "ban" in table else rule.ban_s,
        enabled=reader.enabled() if "enabled" in table else rule.enabled,
        origin=origin,
    )


class _Reader:
    """Reads one table. Each method reads one key, notes what is wrong with it and returns something to go on with."""

    def __init__(
        self, rule_id: str, table: dict[str, Any], mistakes: Mistakes, origin: Origin, *, shipped: bool
    ) -> None:
        self.id = rule_id
        self.table = table
        self.mistakes = mistakes
        self.origin = origin
        self.shipped = shipped

    def rule(self) -> Rule:
        for name in self.table:
            if name not in RULE_KEYS:
                self._error(name, f"unknown key; expected one of {words(RULE_KEYS)}", nearest(name, RULE_KEYS))
        on = self.on()
        lines = self.lines()
        where = Where()
        if on == "line" and "where" in self.table:
            self._error("where", "a rule with `line` has no parsed fields to ask; leave `where` out")
        elif "where" in self.table:
            where = read_where(self.table["where"], on, (self.id, "where"), self.mistakes)
        by = self.by(on)
        limit = self.limit()
        distinct = self.distinct(on)
        self._check_reachable(where, by, limit, distinct)
        wide = "network" in by
        return Rule(
            id=self.id,
            title=self.title(),
            on=on,
            where=where,
            by=by,
            limit=limit,
            within_s=self.within_s(limit),
            distinct=distinct,
            ban_s=self.ban_s(),
            ipv4_prefix=self.prefix("ipv4_prefix", 24 if wide else 32),
            ipv6_prefix=self.prefix("ipv6_prefix", 48 if wide else 64),
            enabled=self.enabled(),
            line=lines,
            origin=self.origin,
            shipped=self.shipped,
        )

    def title(self) -> str:
        title = self.table.get("title", self.id)
        if not isinstance(title, str) or not title.strip() or not title.isprintable():
            self._error("title", "expected a line of text")
            return self.id
        return title

    def on(self) -> On:
        if "line" in self.table:
            if "on" in self.table:
                self._error("on", "a rule with `line` is for logs without a known format; leave `on` out")
            return "line"
        on = self.table.get("on", UNSET)
        if on in ("http-request", "auth"):
            return cast(On, on)
        choices = ("http-request", "auth")
        if on is UNSET:
            self._error(None, f"`on` is missing; expected one of {words(choices)}")
        else:
            self._error("on", f"expected one of {words(choices)}", nearest(on, choices))
        return "http-request"

    def lines(self) -> tuple[str, ...]:
        if "line" not in self.table:
            return ()
        value = self.table["line"]
        patterns = value if isinstance(value, list) else [value]
        if not patterns or not all(isinstance(pattern, str) for pattern in patterns):
            self._error("line", "expected a regex, or a list of them")
            return ()
        for index, pattern in enumerate(patterns):
            if problem := line_problem_of(pattern):
                place: Path = (self.id, "line", index) if isinstance(value, list) else (self.id, "line")
                self.mistakes.error(place, problem)
        return tuple(patterns)

    def by(self, on: On) -> tuple[str, ...]:
        value = self.table.get("by", "address")
        fields = value if isinstance(value, list) else [value]
        choices = BY_FIELDS[on]
        good = [field for field in fields if isinstance(field, str) and field in choices]
        if not fields or len(good) < len(fields):
            wrong = next((field for field in fields if field not in good), "")
            self._error("by", f"expected one or several of {words(choices)}", nearest(wrong, choices))
        elif len(set(good)) < len(good):
            self._error("by", "a field stands twice")
        elif {"address", "network"} <= set(good):
            self._error("by", "an address is part of its network: name one of the two")
        return tuple(good) or ("address",)

    def limit(self) -> int:
        if "limit" not in self.table:
            self._error(None, "`limit` is missing: how many events make a finding, from 1")
            return 1
        value = self.table["limit"]
        if isinstance(value, bool) or not isinstance(value, int) or not 1 <= value <= LIMIT_AT_MOST:
            self._error("limit", f"expected a whole number from 1 to {LIMIT_AT_MOST:,}")
            return 1
        return value

    def within_s(self, limit: int) -> float:
        """A limit of 1 is reached by the event itself, so no span is asked for."""
        if "within" not in self.table:
            if limit > 1:
                self._error(None, "`within` is missing: the span in which `limit` events must fall, such as 10m")
            return 1.0
        return self._span("within", WITHIN_AT_MOST_S, "31d") or 1.0

    def ban_s(self) -> float | None:
        if "ban" not in self.table:
            self._error(None, '`ban` is missing: how long, such as 4h, or "forever"')
            return None
        if self.table["ban"] == "forever":
            return None
        return self._span("ban", BAN_AT_MOST_S, '3650d; "forever" has no end')

    def _span(self, key: str, most_s: float, most: str) -> float | None:
        value = self.table[key]
        if isinstance(value, bool) or not isinstance(value, str | int | float):
            self._error(key, 'expected a duration such as "10m" or "66h40m", or a number of seconds')
            return None
        try:
            span_s = parse_duration_s(value)
        except ValueError as error:
            self._error(key, str(error), nearest(value, ("forever",)) if key == "ban" else None)
            return None
        if not 1 <= span_s <= most_s:
            self._error(key, f"expected a duration of at least 1s and at most {most}")
            return None
        return span_s

    def distinct(self, on: On) -> str | None:
        value = self.table.get("distinct")
        if value is None:
            return None
        choices = DISTINCT_FIELDS[on]
        if not isinstance(value, str) or value not in choices:
            wanted = f"expected one of {words(choices)}" if choices else "a rule with `line` counts lines; leave it out"
            self._error("distinct", wanted, nearest(value, choices))
            return None
        return value

    def prefix(self, key: str, default: int) -> int:
        low, high = PREFIXES[key]
        value = self.table.get(key, default)
        if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
            self._error(key, f"expected a prefix length from {low} to {high}")
            return default
        return value

    def enabled(self) -> bool:
        value = self.table.get("enabled", True)
        if not isinstance(value, bool):
            self._error("enabled", "expected true or false")
            return True
        return value

    def _check_reachable(self, where: Where, by: tuple[str, ...], limit: int, distinct: str | None) -> None:
        """A count of distinct values that can never be so many would be a rule that never fires."""
        if distinct is None or limit == 1:
            return
        if distinct in by:
            self._error("distinct", f"`by` already keeps each {distinct} apart, so a limit of {limit} is never reached")
        for condition in where.conditions:
            test = condition.test
            if condition.field == distinct and isinstance(test, Equal) and len(test.values) < limit:
                count = len(test.values)
                self._error("limit", f"`where` lets only {count} {distinct} through, so {limit} are never reached")

    def _error(self, key: str | None, problem: str, near: str | None = None) -> None:
        self.mistakes.error((self.id, key) if key else (self.id,), problem, near)
