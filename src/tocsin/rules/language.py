"""The rule language: what a rule may say, and the frozen objects that say it. Pure; knows no file and no TOML.

A rule asks questions of parsed fields, never of a raw line. `where` is a list of conditions that must all hold, and
optionally alternatives of which one must hold. A condition is a field and a test. A field that the log does not give
(`None`) passes no test but `Not` and `Missing`.

Regexes are read with ASCII meaning (`\\d`, `\\w`, letter case), so that what they can match is also what the bytes of
the line can show; `ignore_case` folds the letters A to Z and nothing else, for the same reason.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

On = Literal["http-request", "auth", "line", "filter"]
"""What a rule looks at: parsed requests or logins, lines of logs without a known format, or what a filter of another
program's finds in lines (`CompiledRule.filter`); the last cannot be written in TOML."""

TEXT_FIELDS: dict[str, tuple[str, ...]] = {
    "http-request": ("method", "path", "target", "query", "protocol", "referer", "user_agent", "user", "vhost"),
    "auth": ("service", "user", "outcome", "method"),
    "line": (),
    "filter": (),
}
NUMBER_FIELDS: dict[str, tuple[str, ...]] = {
    "http-request": ("status", "body_bytes", "duration_s"),
    "auth": (),
    "line": (),
    "filter": (),
}
DERIVED_FIELDS: dict[str, dict[str, tuple[str, ...]]] = {
    "http-request": {"crawler": ("verified", "impostor", "unknown")},
}
"""Fields that no log holds, with their values. `crawler` is what a request's claim to be a crawler is worth; it is
missing where the agent claims none. Who judges it is handed in (`derived.CrawlerJudge`).
"""

BY_FIELDS: dict[str, tuple[str, ...]] = {
    "http-request": ("address", "network", "user", "user_agent", "path", "vhost"),
    "auth": ("address", "network", "user"),
    "line": ("address", "network"),
    "filter": ("address",),
}
DISTINCT_FIELDS: dict[str, tuple[str, ...]] = {
    "http-request": (*TEXT_FIELDS["http-request"], "address"),
    "auth": (*TEXT_FIELDS["auth"], "address"),
    "line": (),
    "filter": (),
}

# What a request line can hold at most in Apache (LimitRequestLine 8190) and nginx (large_client_header_buffers 8k).
REGEX_SUBJECT_CHARS = 8192
REGEX_TIMEOUT_S = 0.05


class Equal(Struct, frozen=True):
    """The text is one of `values`."""

    values: tuple[str, ...]
    ignore_case: bool = False


class Prefix(Struct, frozen=True):
    """The text begins with one of `values`."""

    values: tuple[str, ...]
    ignore_case: bool = False


class Suffix(Struct, frozen=True):
    """The text ends with one of `values`."""

    values: tuple[str, ...]
    ignore_case: bool = False


class Contains(Struct, frozen=True):
    """One of `values` occurs in the text."""

    values: tuple[str, ...]
    ignore_case: bool = False


class Matches(Struct, frozen=True):
    """One of the regexes `values` is found in the first 8,192 characters of the text; anchors are the writer's."""

    values: tuple[str, ...]
    ignore_case: bool = False


class EqualNumber(Struct, frozen=True):
    """The number is one of `values`."""

    values: tuple[float, ...]


class Between(Struct, frozen=True):
    """The number is at least `low` and at most `high`; `None` leaves that side open."""

    low: float | None
    high: float | None


class Missing(Struct, frozen=True):
    """The log gave no value for the field (`wanted` true), or it gave one (`wanted` false)."""

    wanted: bool


class Not(Struct, frozen=True):
    """The inner test does not hold; so it passes where the field is missing. `not = { prefix = A, suffix = B }` is two
    of these: neither holds.
    """

    test: Test


class AllOf(Struct, frozen=True):
    """Every one of `tests` holds."""

    tests: tuple[Test, ...]


TextTest = Equal | Prefix | Suffix | Contains | Matches
Test = Equal | Prefix | Suffix | Contains | Matches | EqualNumber | Between | Missing | Not | AllOf


class Condition(Struct, frozen=True):
    """A field of the event and the test it must pass."""

    field: str
    test: Test


class Where(Struct, frozen=True):
    """All of `conditions` hold, and, where there are alternatives, all conditions of at least one of `any_of`."""

    conditions: tuple[Condition, ...] = ()
    any_of: tuple[tuple[Condition, ...], ...] = ()

    def is_empty(self) -> bool:
        """Whether every event passes."""
        return not self.conditions and not self.any_of


class Origin(Struct, frozen=True):
    """Where a rule was written: the file as it was named, and the line of its table."""

    file: str
    line: int


class Rule(Struct, frozen=True):
    """One rule: `limit` events (or distinct values of `distinct`) with one key of `by` within `within_s` are a finding.

    `ban_s` is None for good. `ipv4_prefix` and `ipv6_prefix` are how an address is counted and banned. `line` holds
    the regexes of a rule for logs without a known format (`on` is `line` then, and `where` is empty). `shipped` says
    that it came with the program: its regexes are proven by our tests and run without a time-out.
    """

    id: str
    title: str
    on: On
    where: Where
    by: tuple[str, ...]
    limit: int
    within_s: float
    distinct: str | None
    ban_s: float | None
    ipv4_prefix: int
    ipv6_prefix: int
    enabled: bool
    line: tuple[str, ...]
    origin: Origin
    shipped: bool = False


class RuleError(Struct, frozen=True):
    """One mistake in a rule file. `line` from 1 (0: the file as a whole); `key` as in `wordpress-login.where.status`;
    `nearest` is the valid word that was probably meant.
    """

    file: str
    line: int
    key: str
    problem: str
    nearest: str | None = None

    def __str__(self) -> str:
        hint = f'; did you mean "{self.nearest}"?' if self.nearest else ""
        key = f" {self.key}:" if self.key else ""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return f"{place}:{key} {self.problem}{hint}"


class RuleErrors(Exception):  # noqa: N818  it holds several
    """Every mistake that was found, in the order of the files and lines."""

    def __init__(self, errors: tuple[RuleError, ...]) -> None:
        super().__init__("\n".join(map(str, errors)))
        self.errors = errors
