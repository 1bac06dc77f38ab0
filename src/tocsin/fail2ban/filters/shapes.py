"""What a regex can cost, judged from its shape. Pure.

A backtracking engine pays for choices: where a repetition could end in several places, where alternatives begin alike,
where a search may begin anywhere. Its steps are at most about the product of how many ways there are to decide each of
them. How many, the text says: a run of anything before ` from ` can end where ` from ` stands, no more often. A
repetition of something that itself holds a choice has no such bound. What is cheap by this reckoning runs without a
clock, all else with one.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tocsin.fail2ban.filters.syntax import (
    ASCII,
    EVERY,
    Again,
    Alt,
    Chars,
    Group,
    Look,
    Mask,
    Node,
    Place,
    Repeat,
    Seq,
    anchored,
    characters,
    first,
    flat,
    is_address,
    nullable,
    single,
)

FREE_STEPS = 1_000_000
"""How many steps are let go without a clock: 30 ms at the worst, within the budget of a line."""

LONGEST_FREE = 100_000
_TWO_BLANKS = re.compile(r"\s\s").search
_ENDLESS = 16  # a repetition that may go on for longer than this is counted as one without end
_EXPONENTIAL = 99
_BLANKS: Mask = sum(1 << code for code in range(128) if chr(code).isspace())


class Cost(Struct, frozen=True):
    """About `factor * length ** degree` steps, times how often each of `ends` occurs, times the length of the longest
    run of blanks `blanks` times over."""

    factor: float = 1.0
    degree: int = 0
    ends: tuple[str, ...] = ()
    blanks: int = 0

    def times(self, other: Cost) -> Cost:
        return Cost(
            min(self.factor * other.factor, 1e12),
            self.degree + other.degree,
            self.ends + other.ends,
            self.blanks + other.blanks,
        )

    @property
    def chooses(self) -> bool:
        return self.degree > 0 or self.factor > 1 or bool(self.ends) or self.blanks > 0

    @property
    def hopeless(self) -> bool:
        """No text is short enough."""
        return self.degree >= _EXPONENTIAL

    @property
    def free_length(self) -> int:
        """How many characters a text may have to be cheap for certain."""
        degree = self.degree + len(self.ends) + self.blanks
        return 0 if self.hopeless else min(int((FREE_STEPS / self.factor) ** (1 / degree)), LONGEST_FREE)

    def is_low(self, text: str) -> bool:
        """Whether a search of a text that ends in a newline takes few steps."""
        length = len(text)
        if self.degree >= _EXPONENTIAL or length > LONGEST_FREE:
            return False
        steps = self.factor * length**self.degree
        if steps > FREE_STEPS:
            return False
        for end in self.ends:
            steps *= text.count(end) + 1
        if self.blanks and steps <= FREE_STEPS and _TWO_BLANKS(text):
            surplus = length - len(" ".join(text.split())) - text[0].isspace() - 1
            steps *= (max(surplus, 0) + 1) ** self.blanks
        return bool(steps <= FREE_STEPS)


_ONE = Cost()
_LINEAR = Cost(degree=1)
_ADDRESS = Cost(factor=2.0)
HOPELESS = Cost(degree=_EXPONENTIAL)


def cost_of(tree: Seq, *, lines: bool = False) -> Cost:
    """What a search for a regex can cost. `lines`: `^` also holds within the text."""
    cost = _cost(tree, 0).times(_LINEAR)
    return cost if anchored(tree) and not lines else cost.times(_LINEAR)


def free_length(tree: Seq) -> int:
    """How many characters a text may have for a search to be certain to be cheap, whatever it is; 0: there is no such
    length."""
    return cost_of(tree).free_length


def _cost(node: Node, follow: Mask) -> Cost:
    """`follow`: what the text after the node can begin with; nothing at the end, where no choice can go wrong."""
    match node:
        case Group(_, _, "ip4" | "ip6"):
            return _ADDRESS
        case Group(item, _, "dns"):  # a run of its characters
            return _LINEAR if characters(item) & follow else _ONE
        case Seq(items):
            return _of_items(items, follow)
        case Group(item):
            return _cost(item, follow)
        case Alt(branches):
            return _of_branches(branches, follow)
        case Repeat():
            return _of_repeat(node, follow)
        case Look(item):
            inner = _cost(item, EVERY)
            return inner.times(_LINEAR) if inner.chooses or _endless(item) else _ONE
        case _:
            return _ONE


def _of_items(items: tuple[Node, ...], follow: Mask) -> Cost:
    total = _ONE
    literal = ""  # what surely follows
    for item in reversed(items):
        cost = _cost(item, follow)
        if cost.degree == 1 and literal and _is_run(item):
            cost = Cost(cost.factor, 0, (*cost.ends, _countable(literal)), cost.blanks)
        total = total.times(cost)
        if not isinstance(item, Place):
            sign = single(item.mask) if isinstance(item, Chars) else None
            literal = sign + literal if sign else ""
        if not isinstance(item, Look):
            follow = first(item) | (follow if nullable(item) else 0)
    return total


def _countable(literal: str) -> str:
    """Of a literal what `str.count` counts all of: a text that cannot overlap with itself."""
    for shift in range(1, len(literal)):
        if literal.startswith(literal[shift:]):
            return _countable(literal[:shift])
    return literal


def _is_run(node: Node) -> bool:
    """Whether the only choice in a node is where it ends."""
    if is_address(node):
        return True
    items = [item for item in flat(node) if not isinstance(item, Look | Place)]
    if len(items) != 1:
        return False
    match items[0]:
        case Repeat(item):
            inner = [one for one in flat(item) if not isinstance(one, Look | Place)]
            return len(inner) == 1 and isinstance(inner[0], Chars)
        case Alt(branches):
            return all(_is_run(branch) for branch in branches)
        case _:
            return False


def _of_branches(branches: tuple[Node, ...], follow: Mask) -> Cost:
    factor, degree, blanks = 0.0, 0, 0
    ends: tuple[str, ...] = ()
    seen: Mask = 0
    for branch in branches:
        begin = first(branch) | (follow if nullable(branch) else 0)
        cost = _cost(branch, follow)
        degree, blanks = max(degree, cost.degree), max(blanks, cost.blanks)
        ends += cost.ends
        factor = factor + cost.factor if seen & begin else max(factor, cost.factor)
        seen |= begin
    return Cost(max(factor, 1.0), degree, ends, blanks)


def _of_repeat(node: Repeat, follow: Mask) -> Cost:
    item, low, high = node.item, node.low, node.high
    begin = first(item)
    inner = _cost(item, begin | follow)
    span = _ENDLESS + 1 if high is None else high - low
    endless = span > _ENDLESS
    if high != 1 and (inner.chooses or (nullable(item) and endless)) and not isinstance(item, Chars):
        if endless or inner.hopeless or (high or 0) > _ENDLESS:
            return HOPELESS
        once, inner = inner, _ONE
        for _ in range(high or 1):
            inner = inner.times(once)
    if not span or not begin & follow:
        return inner
    if begin & ASCII and not begin & ASCII & ~_BLANKS and endless:
        return inner.times(Cost(factor=1.0 if low else 2.0, blanks=1))
    return inner.times(_LINEAR if endless else Cost(factor=span + 1.0))


def _endless(node: Node) -> bool:
    match node:
        case Repeat(item, _, high):
            return high is None or high > _ENDLESS or _endless(item)
        case Seq(items) | Alt(items):
            return any(_endless(item) for item in items)
        case Group(item) | Look(item):
            return _endless(item)
        case Again():
            return True
        case _:
            return False
