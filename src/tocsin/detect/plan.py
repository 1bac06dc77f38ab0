"""Rules at work: a tracker for each, and for each format the plan by which lines are found and shared out."""

from __future__ import annotations

from _blake2 import blake2b
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from tocsin.detect.evidence import EVIDENCE_LINES
from tocsin.detect.scan import HAS_AUTOMATON, Pattern, Scanner, need_patterns
from tocsin.detect.window import QUIET, Contributors, CountWindow, DistinctWindow, Pool
from tocsin.model import AuthAttempt, HttpRequest, RawLine

if TYPE_CHECKING:
    from tocsin.formats import Format
    from tocsin.rules import CompiledRule, LineFilter

KEY_CHARS = 64
MASKS_KEPT = 4096  # a client may send any combination of what rules look for

EVENT_TYPES: Mapping[str, type] = {"http-request": HttpRequest, "auth": AuthAttempt, "line": RawLine}
EVENT_OF_KIND: Mapping[str, type] = {"access": HttpRequest, "auth": AuthAttempt, "line": RawLine}


class Tracker:
    """One rule at work: its window, and who contributed where its key is no address."""

    def __init__(self, rule: CompiledRule, index: int, pool: Pool, lateness_s: float) -> None:
        self.rule = rule
        self.id = rule.rule.id
        self.limit = rule.rule.limit
        self.within_s = rule.rule.within_s
        self.mask = 1 << index
        self.event_type = EVENT_TYPES.get(rule.rule.on)
        self.by_host = rule.rule.ipv4_prefix == 32 and rule.rule.ipv6_prefix == 64
        self.by_address = rule.rule.by in {("address",), ("network",)}
        self.window: CountWindow | DistinctWindow
        # Lines before these are pushed out of the evidence by the time that the limit is crossed.
        arm = max(1, self.limit - EVIDENCE_LINES + 1)
        if rule.rule.distinct:
            self.window = DistinctWindow(pool, self.limit, self.within_s, lateness_s, arm)
        else:
            self.window = CountWindow(pool, self.limit, self.within_s, lateness_s, arm if rule.skim else 1)
        self.counted = 0
        self.contributors = None if self.by_address else Contributors(self.window)

    def may_count(self, event: HttpRequest) -> bool:
        """Whether the rule could count a request, as far as the request alone can tell, and always tells alike: regexes
        of rules that are not ours may be given up for want of time.
        """
        rule = self.rule
        own = rule.rule.shipped and rule.filter is None and rule.crawlers is None
        return not own or rule.predicate(event)

    def count(self, key: str, ts: float, event: HttpRequest | AuthAttempt | None) -> int:
        """Count an event under its key: QUIET, ARMED or CROSSED."""
        if isinstance(self.window, CountWindow):
            return self.window.add(key, ts)
        value = None if event is None else self.rule.distinct_value(event)
        return QUIET if value is None else self.window.add(key, ts, value)


class Plan:
    """How the rules apply to one format. `flood`: the rule that counts by client alone, where that is possible.
    `every`: the mask of all rules.
    """

    def __init__(self, scanner: Scanner, trackers: Sequence[Tracker], flood: Tracker | None) -> None:
        self.scanner = scanner
        self.every = sum(tracker.mask for tracker in trackers)
        self.flood = flood
        # Of these rules a client is banned or not as of the flood rule: whoever is stopped there need not be parsed.
        self.alike = sum(
            t.mask for t in trackers if flood and t.rule.subject is flood.rule.subject and not t.rule.filter
        )
        self.filters = tuple(tracker for tracker in trackers if tracker.rule.filter)
        self.native_mask = sum(tracker.mask for tracker in trackers if not tracker.rule.filter)
        self._trackers = trackers
        self._by_mask: dict[int, tuple[Tracker, ...]] = {}

    @cached_property
    def gleaner(self) -> Scanner:
        """The scanner of who leaves out the lines that are of no account: it also finds those that end a connection,
        for which filters look themselves.
        """
        quiet = [tracker.rule.filter.quiet for tracker in self.filters if tracker.rule.filter]
        return self.scanner.with_others({regex for regexes in quiet for regex in regexes}, 1 << self.every.bit_length())

    def of_mask(self, mask: int) -> tuple[Tracker, ...]:
        """The trackers of a mask, in the rules' order."""
        known = self._by_mask.get(mask)
        if known is None:
            if len(self._by_mask) >= MASKS_KEPT:
                self._by_mask.clear()
            known = self._by_mask[mask] = tuple(tracker for tracker in self._trackers if tracker.mask & mask)
        return known


def make_plan(
    all_trackers: Sequence[Tracker], fmt: Format, *, prefilter: bool, fallback: bool, posts: bool = False
) -> Plan:
    """How the rules apply to a format; those with a filter must cover its source. Without `prefilter` every line is a
    candidate for every rule. With `posts` lines that post are looked at though no rule asks for them.
    """
    trackers = [
        tracker for tracker in all_trackers if tracker.rule.filter or tracker.event_type is EVENT_OF_KIND[fmt.kind]
    ]
    trackers.sort(key=lambda tracker: not tracker.rule.skim)  # first: the engine counts for it before it parses
    flood = trackers[0] if trackers and trackers[0].rule.skim and fmt.skim and prefilter else None
    always = 0
    patterns: list[Pattern] = []
    filters: list[Pattern] = []
    if posts and flood is not None:
        patterns.append(Pattern(fmt.request_pattern("POST", "/") or b"POST", 0))
    simple = fallback or not HAS_AUTOMATON
    for tracker in trackers:
        if tracker is flood:
            continue
        if tracker.rule.filter:
            known = _patterns(tracker.rule.filter, tracker.mask, simple=simple) if prefilter and fmt.verbatim else None
            always |= tracker.mask if known is None else 0
            filters += known or ()
            continue
        needs = tracker.rule.needs if prefilter else None
        if needs is None:
            always |= tracker.mask
        else:
            patterns += need_patterns(min(needs, key=len), fmt, tracker.mask)
    # where somebody's own regexes are too large their rules look at every line
    scanner = Scanner(patterns, always, spare=filters, fallback=fallback)
    return Plan(scanner, trackers, flood)


def _patterns(line_filter: LineFilter, mask: int, *, simple: bool) -> list[Pattern] | None:
    regexes = line_filter.simple_patterns if simple else line_filter.loud_patterns
    if regexes is None:
        return None
    if simple:
        return [Pattern(regex, mask) for regex in regexes]
    return [
        Pattern(regex, mask, refined=line_filter.refined.get(regex, b""), signs=line_filter.signs.get(regex, ()))
        for regex in regexes
    ]


def bounded_key(parts: Sequence[str]) -> str:
    """One text for a key of one or several fields. What clients write may be long: then a digest stands for it."""
    key = "\x1f".join(parts)
    if len(key) <= KEY_CHARS:
        return key
    return blake2b(key.encode("utf-8", "surrogatepass"), digest_size=16).hexdigest()
