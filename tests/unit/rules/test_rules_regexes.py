"""Regexes of rules: which shapes are refused, which literals they require."""

from __future__ import annotations

import re
import time

import pytest
import regex  # type: ignore[import-untyped]  # has no stubs in the project

from tocsin.rules import load_shipped
from tocsin.rules.language import REGEX_SUBJECT_CHARS, REGEX_TIMEOUT_S, AllOf, Matches, Test
from tocsin.rules.regexes import expand_line, line_problem_of, problem_of, required_literals


@pytest.mark.parametrize(
    "pattern",
    [
        "abc",
        "^/wp-[a-z]+/$",
        "a.*b.*c",
        r"(?:^|&)author=[0-9]{1,9}(?:&|$)",
        r"(?:\.\./){3,5}",
        "(?:a|b)+",
        r"\d+-\d+",
        r"\{literal\}",
        "x{2}y{2,}z{,3}",
        "(?P<name>x)",
        "a++b",
        "(?>abc)",
    ],
)
def test_accepted(pattern: str) -> None:
    """Shapes whose cost is bounded."""
    assert problem_of(pattern) is None


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        ("(a+)+", "repetition inside a repetition"),
        ("(?:[^ ]+ )*x", "repetition inside a repetition"),
        ("(a?){30}b", "repetition inside a repetition"),
        ("(?:a{1,2})*b", "repetition inside a repetition"),
        ("(?:a|ab)*c", "alternatives under a repetition"),
        ("(?:a|b?)+x", "alternatives under a repetition"),
        (r"\d+\d+x", "side by side"),
        (r"\s*\s*x", "side by side"),
        (r".*y?.*x", "leading"),
        (r"x\w*y?\w*z", "side by side"),
        (".*x", "leading .*"),
        ("(?:.+)x", "leading .*"),
        ("a.*b.*c.*d.*e.*f", "at most 4"),
        ("(?=x)y", "look-around"),
        ("(?<!x)y", "look-around"),
        (r"(a)\1", "back-references"),
        ("(a)?(?(1)b|c)", "conditional"),
        ("(?i:x)", "inline flags"),
        ("(?i)x", "inline flags"),
        ("(", "not a valid regex"),
        ("[[:alpha:]]", "not a valid regex"),
        ("a{e<=1}", r"\{"),
        ("x{}", r"\{"),
        ("x" * 1001, "at most 1,000"),
    ],
)
def test_refused(pattern: str, problem: str) -> None:
    """Shapes that cost exponential or high polynomial time, and what other libraries read otherwise."""
    assert problem in (problem_of(pattern) or "accepted")


@pytest.mark.parametrize(
    ("pattern", "literals"),
    [
        ("abc", [{"abc"}]),
        ("^/wp-[a-z]+/x$", [{"/wp-"}, {"/x"}]),
        ("ab?c", [{"a"}, {"c"}]),
        ("(?:one|two)three", [{"one", "two"}, {"three"}]),
        ("(?:one|)three", [{"three"}]),
        ("(?:one){2,}", [{"one"}]),
        ("(?:one)*", []),
        ("[ab]c", [{"c"}]),
        ("union(?:all|distinct)?select", [{"union"}, {"select"}]),
    ],
)
def test_required_literals(pattern: str, literals: list[set[str]]) -> None:
    """What a match must hold."""
    assert [set(options) for options in required_literals(pattern)] == literals


@pytest.mark.parametrize(
    ("pattern", "problem"),
    [
        (r"^\S+ failed from <address> port \d+$", None),
        (r"^<address> .*$", None),
        (r"^.*from <address>$", None),
        (r"^.* from <address> .*$", "both sides"),
        ("from <address>$", "anchored"),
        ("^from <address>", "anchored"),
        (r"^from <address>\$", "anchored"),
        ("^from$", "exactly once"),
        ("^<address> <address>$", "exactly once"),
        ("^(?:from <address>|x)$", "outside of alternatives"),
        ("^(?P<address>x)<address>$", "exactly once"),
        ("^(a+)+<address>$", "repetition inside"),
    ],
)
def test_line_patterns(pattern: str, problem: str | None) -> None:
    """A client that writes into a log must not be able to choose whom the line names."""
    found = line_problem_of(pattern)
    assert found is None if problem is None else problem in (found or "accepted")


def test_expanded_line_takes_whole_addresses() -> None:
    """Not the tail of a longer one."""
    search = regex.compile(expand_line("^.*from <address>$")).search
    assert search("login from 192.0.2.77")["address"] == "192.0.2.77"
    assert search("login from 2001:db8::7")["address"] == "2001:db8::7"
    assert search("from x192.0.2.7") is None


def regexes_of(test: Test) -> list[Matches]:
    """The regexes in a test."""
    if isinstance(test, AllOf):
        return [found for inner in test.tests for found in regexes_of(inner)]
    return [test] if isinstance(test, Matches) else []


SHIPPED = sorted(
    {
        pattern
        for rule in load_shipped()
        for group in (rule.where.conditions, *rule.where.any_of)
        for condition in group
        for found in regexes_of(condition.test)
        for pattern in found.values
    }
)


@pytest.mark.parametrize("pattern", SHIPPED)
@pytest.mark.parametrize(
    "seed", ["%2e", "../", "union/**/", "union+", ";", "a", "'+or+1", "<img", "%3c", "sleep(", "&author=1", ";wget+"]
)
def test_shipped_regexes_are_quick_on_hostile_text(pattern: str, seed: str) -> None:
    """All that a field can hold of what makes them try hardest stays within the budget that users' regexes have."""
    search = re.compile(pattern, re.ASCII | re.IGNORECASE).search
    text = (seed * REGEX_SUBJECT_CHARS)[:REGEX_SUBJECT_CHARS]
    best_s = REGEX_TIMEOUT_S * 10
    for _ in range(3):
        begin = time.process_time()
        search(text)
        best_s = min(best_s, time.process_time() - begin)
    assert best_s < REGEX_TIMEOUT_S
