"""A rule made ready to run: predicate, needs, keys, subject, sentence. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from operator import attrgetter
from typing import Literal, Protocol

from msgspec import Struct, structs

from tocsin.model import AuthAttempt, HttpRequest
from tocsin.rules.derived import CrawlerJudge, asks_crawlers, reader_of
from tocsin.rules.language import REGEX_SUBJECT_CHARS, Condition, Rule
from tocsin.rules.literals import Needs, needs_of
from tocsin.rules.predicate import EVENT_TYPES, Predicate, Trouble, predicate_of, test_of, timed_search
from tocsin.rules.regexes import expand_line
from tocsin.rules.sentence import condition_text, name_of, sentence_of, shown

Counted = HttpRequest | AuthAttempt

SUBJECTS_CACHED = 1 << 14


SET_ASIDE = "a regex took more than 50 ms too often and is set aside, the others go on; write it without nested repeats"
"""What is said of each of `LineFilter.set_aside`."""


class Failure(Protocol):
    """What a filter found: when, whose (`key` is counted, `source_ip` banned, None: it named no address), how often it
    counts, and what else it captured.
    """

    @property
    def ts(self) -> float: ...
    @property
    def key(self) -> str: ...
    @property
    def source_ip(self) -> str | None: ...
    @property
    def attempts(self) -> int: ...
    @property
    def fields(self) -> Mapping[str, str | None]: ...
    @property
    def matches(self) -> tuple[str, ...]: ...


Place = tuple[str, int, int, bytes]
"""Where a line stands: source, number, offset, and the line itself, cut."""

Verdict = Literal["ignored", "counts", "waits"]
Judge = Callable[[Failure, float, Place], Verdict]
"""What becomes of a failure (with its event time and its line): nobody counts it, it counts, or it waits. What waits
is the judge's to keep; it hands it to `Engine.count` later, if it counts after all.
"""


class LineFilter(Protocol):
    """Finds failures in raw lines. It may remember earlier lines.

    `loud_patterns`: regexes, one of which occurs in each line that `take_block` must be told of; None: every line must.
    `refined`: of one of them what must occur in the line besides, for `re` (b"": nothing is known). `signs`: simpler
    regexes each of which occurs in the same lines, the most telling one first.
    `simple_patterns`: the same for where `re` scans in place of an automaton. While it is `watching`, it looks for more
    in a block by itself, so it is to be given each one, or of it all lines that hold one of the `quiet` patterns too or
    of the simple ones. `take_block` answers with (start of a line, its failures).
    `set_aside` are its regexes that are not used any more, because lines cost them too much time.
    """

    @property
    def loud_patterns(self) -> tuple[bytes, ...] | None: ...
    @property
    def simple_patterns(self) -> tuple[bytes, ...] | None: ...
    @property
    def refined(self) -> Mapping[bytes, bytes]: ...
    @property
    def signs(self) -> Mapping[bytes, tuple[bytes, ...]]: ...
    @property
    def quiet(self) -> frozenset[bytes]: ...
    @property
    def watching(self) -> bool: ...
    @property
    def set_aside(self) -> tuple[str, ...]: ...
    def prepare(self) -> None: ...
    def take(self, line: str, now_ts: float) -> Sequence[Failure]: ...
    def take_block(
        self, data: bytes, starts: Sequence[int], now_ts: float
    ) -> Sequence[tuple[int, Sequence[Failure]]]: ...
    def dump(self) -> bytes: ...
    def load(self, state: bytes) -> None: ...


class CompiledRule(Struct, frozen=True):
    """A rule and what the engine asks of it.

    `predicate(event)`: whether the event counts; False for events of another kind.
    `needs`: what a raw line must hold for that (`Need`); None where any line may matter.
    `skim`: the rule counts every request by address, so client and time of a line are all it needs.
    `subject(source_ip)`: whom a finding names: the address, or the prefix that it is counted by, canonical.
    `distinct_value(event)`: the value that `distinct` counts, None where the event has none (it does not count then)
    or the rule counts events. `trouble` counts matches that were given up. `crawlers` judges claims to be a crawler
    for a rule that asks for it; None: nobody claims to be one.
    `covers(source)`: the logs that it is for. Of a rule with a `filter` besides: `judge`, which of its failures count
    (None: all); `ban_s_of(earlier, seed)`, how long who was banned so often before is banned, in place of the policy's
    way; `alone`, whether only its own bans count for that; `services`, what its bans close (as in `Decision.services`);
    `held`, why they are not put into the kernel.
    """

    rule: Rule
    predicate: Predicate
    needs: Needs | None
    skim: bool
    subject: Callable[[str], str]
    distinct_value: Callable[[Counted], str | None]
    sentence: str
    trouble: Trouble
    line_searchers: tuple[Callable[[str], str | None], ...] = ()
    filter: LineFilter | None = None
    covers: Callable[[str], bool] = lambda _source: True
    judge: Judge | None = None
    ban_s_of: Callable[[int, str], float | None] | None = None
    alone: bool = False
    services: str = ""
    held: str = ""
    crawlers: CrawlerJudge | None = None

    def judged_by(self, crawlers: CrawlerJudge) -> CompiledRule:
        """The rule with a judge of crawlers, if it needs one."""
        if not asks_crawlers(self.rule):
            return self
        predicate, needs = predicate_of(self.rule, self.trouble, crawlers), needs_of(self.rule, crawlers)
        return structs.replace(self, predicate=predicate, needs=needs, crawlers=crawlers)

    def proof(self, event: Counted | None) -> str:
        """What proves that an event fulfils the conditions, where its line alone does not; else empty."""
        return self.crawlers.proof(event) if self.crawlers and isinstance(event, HttpRequest) else ""

    def keys(self, event: Counted) -> tuple[str, ...] | None:
        """What the event is counted under, in the order of `by`; None where a part is missing."""
        if event.source_ip is None:
            return None
        keys: list[str] = []
        for field in self.rule.by:
            value = self.subject(event.source_ip) if field in ("address", "network") else getattr(event, field)
            if value is None:
                return None
            keys.append(value)
        return tuple(keys)

    def need_holds(self, raw_line: bytes, *, json: bool = False) -> bool:
        """The reference reading of `needs`: False means that no event of this raw line can match."""
        if self.needs is None:
            return True
        return all(any(need.holds(raw_line, json=json) for need in options) for options in self.needs)

    def line_address(self, line: str) -> str | None:
        """The canonical client address that a raw line names for a rule with `line`; None where it does not match."""
        return next((address for search in self.line_searchers if (address := search(line))), None)

    def explain_match(self, event: Counted) -> str:
        """`yes: ` and the conditions that the event fulfils, or `no: ` and the first it does not. Safe to print."""
        if type(event) is not EVENT_TYPES.get(self.rule.on):
            return f"no: the rule is about {self.rule.on}, the line is not"
        where = self.rule.where
        failed = self._first_failed(where.conditions, event)
        if failed:
            return f"no: {self._said(failed, event)}, wanted {condition_text(failed)}"
        met = [self._said(condition, event) for condition in where.conditions]
        if where.any_of:
            group = next((group for group in where.any_of if not self._first_failed(group, event)), None)
            if group is None:
                return f"no: none of the {len(where.any_of)} alternatives fits"
            met += [self._said(condition, event) for condition in group]
        return f"yes: {'; '.join(met)}" if met else "yes: every request counts"

    def _first_failed(self, conditions: tuple[Condition, ...], event: Counted) -> Condition | None:
        for condition in conditions:
            if not test_of(condition.test, self.rule, self.trouble)(self._value(condition, event)):
                return condition
        return None

    def _said(self, condition: Condition, event: Counted) -> str:
        said = f"{name_of(condition.field)} is {shown(self._value(condition, event))}"
        proof = self.proof(event) if condition.field == "crawler" else ""
        return f"{said} ({proof})" if proof else said

    def _value(self, condition: Condition, event: Counted) -> object:
        return reader_of(condition.field, self.crawlers)(event)


def compile_rule(rule: Rule) -> CompiledRule:
    """Make a rule ready to run. Its regexes were checked when it was read."""
    trouble = Trouble()
    subject = subject_of(rule.ipv4_prefix, rule.ipv6_prefix)
    by_address = len(rule.by) == 1 and rule.by[0] in ("address", "network")
    return CompiledRule(
        rule=rule,
        predicate=predicate_of(rule, trouble),
        needs=needs_of(rule),
        skim=rule.on == "http-request" and rule.where.is_empty() and by_address and rule.distinct is None,
        subject=subject,
        distinct_value=_distinct_of(rule, subject),
        sentence=sentence_of(rule),
        trouble=trouble,
        line_searchers=tuple(_line_searcher(pattern, trouble) for pattern in rule.line),
    )


@lru_cache(maxsize=64)
def subject_of(ipv4_prefix: int, ipv6_prefix: int) -> Callable[[str], str]:
    """From a canonical address to the text it is counted and banned by; rules of the same prefixes share a cache."""

    @lru_cache(maxsize=SUBJECTS_CACHED)
    def network(source_ip: str) -> str:
        length = ipv6_prefix if ":" in source_ip else ipv4_prefix
        net = ipaddress.ip_network(f"{source_ip}/{length}", strict=False)
        return str(net.network_address) if length == net.max_prefixlen else str(net)

    if ipv4_prefix < 32:
        return network
    return lambda source_ip: network(source_ip) if ":" in source_ip else source_ip


def _distinct_of(rule: Rule, subject: Callable[[str], str]) -> Callable[[Counted], str | None]:
    if rule.distinct is None:
        return lambda _event: None
    if rule.distinct == "address":
        return lambda event: subject(event.source_ip) if event.source_ip else None
    value_of: Callable[[Counted], str | None] = attrgetter(rule.distinct)
    return value_of


def _line_searcher(pattern: str, trouble: Trouble) -> Callable[[str], str | None]:
    search = timed_search(expand_line(pattern), trouble)

    def address(line: str) -> str | None:
        if len(line) > REGEX_SUBJECT_CHARS:  # cut, its end would not be the line's end that the pattern is anchored to
            return None
        match = search(line)
        return canonical(match["address"]) if match else None

    return address


def canonical(text: str) -> str | None:
    """The address as `ipaddress` writes it, IPv4 taken out of IPv6; None where the text is no address."""
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    mapped = address.ipv4_mapped if isinstance(address, ipaddress.IPv6Address) else None
    return str(mapped or address)
