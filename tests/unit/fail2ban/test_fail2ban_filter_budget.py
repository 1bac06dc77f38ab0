"""The time budget: no line costs much in any regex, whatever it says; what is cut off is counted, then set aside."""

from __future__ import annotations

import random
import re
import time
from datetime import UTC

import pytest

from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters import shapes
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.parsing import parse
from tocsin.fail2ban.filters.regexes import Budget, Regex, SetAside
from tocsin.fail2ban.model import FilterSpec

GENEROUS_S = 2.0  # for a machine that does other things too; a regex that is not cut off takes minutes
WORDS = r"^smtp: (?:\w|\w\w|x?\w| )* \[<HOST>\] refused$"
TESTERS_OWN = r"^(?:a|aa|b?a)*$<HOST>"
HARMLESS = r"^\S+ .*? by <HOST>$"


def made(budget: Budget, *failregex: str, **options: object) -> LineFilter:
    spec = FilterSpec("test", failregex, **options)  # type: ignore[arg-type]  # the options of a spec, by name
    return LineFilter(spec, DateFinder("{NONE}", UTC), budget)


HOSTILE = {
    WORDS: "smtp: " + "word " * 40 + " [192.0.2.6] refused by 192.0.2.7",
    TESTERS_OWN: "a" * 60 + " ! by 192.0.2.7",
}


@pytest.mark.parametrize("regex", [WORDS, TESTERS_OWN])
def test_a_costly_regex_is_cut_off_then_set_aside_and_the_others_go_on(regex: str) -> None:
    budget = Budget()
    line_filter = made(budget, regex, HARMLESS)
    begin_s = time.perf_counter()
    for times in range(1, 8):
        failures = line_filter.take(HOSTILE[regex], 0)
        assert [failure.key for failure in failures] == ["192.0.2.7"]
        assert budget.cut_off == {(regex, "test"): min(times, 3)}
        assert budget.set_aside == ([] if times < 3 else [SetAside(regex, "test", 3)])
    assert time.perf_counter() - begin_s < GENEROUS_S
    # what is set aside matches nothing any more
    assert line_filter.take("smtp: a [192.0.2.7] refused", 0) == ()


def test_a_line_that_is_cheap_still_matches_before_that() -> None:
    budget = Budget()
    line_filter = made(budget, WORDS)
    line_filter.take(HOSTILE[WORDS], 0)
    assert [failure.key for failure in line_filter.take("smtp: some words [192.0.2.7] refused", 0)] == ["192.0.2.7"]
    assert budget.cut_off == {(WORDS, "test"): 1}


@pytest.mark.parametrize(
    ("options", "found"),
    [
        ({"prefregex": r"^(?:a|aa|b?a)*$|^<F-CONTENT>.+</F-CONTENT>$"}, []),
        ({"ignoreregex": (r"^(?:a|aa|b?a)*$",)}, ["192.0.2.7"]),
    ],
)
def test_other_regexes_have_the_same_budget(options: dict[str, object], found: list[str]) -> None:
    """A prefregex that is cut off lets nothing through, an ignoreregex ignores nothing."""
    budget = Budget()
    line_filter = made(budget, r"^a+ ! by <HOST>$", **options)
    begin_s = time.perf_counter()
    for _ in range(5):
        assert [failure.key for failure in line_filter.take(HOSTILE[TESTERS_OWN], 0)] == found
    assert time.perf_counter() - begin_s < GENEROUS_S
    assert [aside.count for aside in budget.set_aside] == [3]


def test_a_long_line_costs_no_more() -> None:
    budget = Budget()
    line_filter = made(budget, HARMLESS, r"^.*x.*y.*z <HOST>$", r"(?:\w+ )+from <HOST>")
    for line in ("x y z " * 20_000, "a by " * 100_000, " " * 300_000):
        begin_s = time.perf_counter()
        line_filter.take(line, 0)
        assert time.perf_counter() - begin_s < GENEROUS_S


def test_a_budget_is_each_filters_own() -> None:
    one, other = Budget(), Budget()
    first, second = made(one, WORDS), made(other, WORDS)
    for _ in range(3):
        first.take(HOSTILE[WORDS], 0)
    assert one.set_aside
    assert not other.cut_off
    assert second.take("smtp: a [192.0.2.7] refused", 0)


# -- what runs without a clock ---------------------------------------------------------------------------------------

CHEAP = [r"^bad \S+ from \d+$", r"^a[^\"]*\"b", r"^(?:GET|POST|HEAD) /x", r"^[a-z]+: .* failed$", r"user \w+ bad"]
ENDLESS = [r"^(?:a|aa)*$", r"^(?:[^\[]+ )*x", r"^(?:\w+\s*)+$", r"(a*)*b", r"^(?:.*,)*x$"]


@pytest.mark.parametrize("regex", CHEAP)
def test_a_cheap_shape_needs_no_clock_on_usual_lines(regex: str) -> None:
    assert shapes.free_length(parse(regex)) >= 300


@pytest.mark.parametrize("regex", ENDLESS)
def test_a_repetition_of_choices_always_has_one(regex: str) -> None:
    assert shapes.free_length(parse(regex)) == 0
    assert not shapes.cost_of(parse(regex)).is_low("a\n")


def test_how_often_a_choice_can_end_is_counted_in_the_text() -> None:
    cost = shapes.cost_of(parse(r"^.* from .* to .* by (?P<fid>\d+)$"))
    assert cost.is_low("a from b to c by 1\n" * 3)
    assert not cost.is_low(" from to by" * 3000 + "\n")


def random_regex(rng: random.Random, depth: int = 0) -> str:
    """A regex made of what real ones are made of, good or bad."""
    parts = []
    for _ in range(rng.randrange(1, 5)):
        kind = rng.randrange(10 if depth < 3 else 7)
        if kind < 3:
            parts.append(rng.choice(["a", "b", " ", "from ", " by", "x", ":", r"\[", r"\]"]))
        elif kind < 7:
            atom = rng.choice([".", r"\S", r"\w", r"\d", "[^a]", r"\s", "[ab]", r"[^\]]"])
            parts.append(atom + rng.choice(["*", "+", "?", "*?", "+?", "{1,3}", "{2,}", ""]))
        elif kind < 9:
            many = rng.choice(["", "?", "?", "{0,2}", "*"])
            parts.append(f"(?:{random_regex(rng, depth + 1)}){many}")
        else:
            parts.append(f"(?:{random_regex(rng, depth + 1)}|{random_regex(rng, depth + 1)})")
    return "".join(parts)


def hostile_texts(rng: random.Random) -> list[str]:
    units = ["a", "ab", " ", "a ", "from ", " by", "a from ", "b:", "[a]", "ab ab ", "1", "aa1 "]
    texts = []
    for length in (20, 60, 150, 400, 2000):
        unit = rng.choice(units)
        texts.append((unit * length)[:length] + rng.choice(["", "!", "x!", " from"]) + "\n")
    return texts


def test_what_runs_without_a_clock_is_fast() -> None:
    """On texts made to hurt: whatever is judged cheap is."""
    rng = random.Random(20)
    slowest_s = 0.0
    ran = 0
    for _ in range(1500):
        source = rng.choice(["^", ""]) + random_regex(rng) + rng.choice(["$", "", "!$"])
        try:
            tree = parse(source)
        except re.error:
            continue
        cost, search = shapes.cost_of(tree), re.compile(source).search
        for text in hostile_texts(rng):
            if len(text) <= cost.free_length or cost.is_low(text):
                begin_s = time.perf_counter()
                search(text)
                slowest_s = max(slowest_s, time.perf_counter() - begin_s)
                ran += 1
    assert ran > 1000
    assert slowest_s < 1.0, slowest_s


def test_both_engines_agree_on_random_regexes() -> None:
    rng = random.Random(21)
    for _ in range(300):
        source = rng.choice(["^", ""]) + random_regex(rng)
        try:
            free = Regex(source, "ignoreregex", "x", Budget(), usedns="no")
            clocked = Regex(source, "ignoreregex", "x", Budget(), usedns="no")
        except ValueError:
            continue
        clocked.always_timed()
        for text in ("a b from 1 by x\n", "[a] b:1\n", "ab" * 5 + "\n", "\n"):
            one, other = free.search(text), clocked.search(text)
            assert (one is None) == (other is None), (source, text)
            if one is not None and other is not None:
                assert (one.start(), one.end()) == (other.start(), other.end()), (source, text)
