"""The prefilter: Hyperscan and its fallback find the same lines, which are those in which a pattern occurs."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.detect import scan
from tocsin.detect.scan import Pattern, Scanner, need_patterns
from tocsin.formats import by_name
from tocsin.rules import compile_rule, load_shipped

LAW = settings(derandomize=True, max_examples=150)
SIGNS = 'abAB/.%\\" 1{(\x1b\xff'
text = st.text(alphabet=SIGNS, min_size=1, max_size=6).map(lambda t: t.encode("latin-1"))
literals = st.builds(
    lambda literal, mask, ignore_case: Pattern(re.escape(literal), mask, ignore_case),
    text,
    st.sampled_from([1, 2, 4, 8, 6]),
    st.booleans(),
)
shapes = st.builds(
    Pattern, st.sampled_from([rb"a[^b\n]*b", rb"A+", rb"(?:ab|ba)/", rb"%[2-7]", rb"\.{2}"]), st.just(16)
)
patterns = st.lists(st.one_of(literals, shapes), max_size=6)
lines = st.lists(st.text(alphabet=SIGNS, max_size=12).map(lambda t: t.encode("latin-1")), max_size=12)


def expected(chosen: list[Pattern], data: list[bytes], always: int) -> list[tuple[int, int]]:
    """What a scan must find, line by line."""
    found, start = [], 0
    for line in data:
        mask = always
        for pattern in chosen:
            refined = re.search(pattern.refined, line)
            if refined and re.search(pattern.regex, line, re.IGNORECASE if pattern.ignore_case else 0):
                mask |= pattern.mask
        if mask:
            found.append((start, mask))
        start += len(line) + 1
    return found


@pytest.mark.parametrize("fallback", [False, True])
@LAW
@given(patterns, lines, st.sampled_from([0, 32]))
def test_the_lines_that_hold_a_pattern_are_found(
    fallback: bool, chosen: list[Pattern], data: list[bytes], always: int
) -> None:
    block = b"".join(line + b"\n" for line in data)
    assert Scanner(chosen, always, fallback=fallback).scan(block) == expected(chosen, data, always)


staged = st.lists(
    st.sampled_from(
        [
            Pattern(rb"a[^\n]*b[^\n]*1", 1, signs=(rb"1", rb"b", rb"a")),
            Pattern(rb"a[^\n]*b[^\n]*1", 16, signs=(rb"a",)),
            Pattern(rb"A\.[^\n]*\{", 2, signs=(rb"A\.",)),
            Pattern(rb"(?:ab|ba)[^\n]*\(", 2, refined=rb"\((?!a)", signs=(rb"(?:ab|ba)", rb"\(")),
            Pattern(rb"/B", 4, signs=(rb"B",)),
            Pattern(rb"b", 8),
        ]
    ),
    max_size=6,
)


@LAW
@given(staged, st.lists(lines, max_size=4), st.sampled_from([1, 8, scan.LEARN_BYTES]))
def test_signs_are_invisible(chosen: list[Pattern], blocks: list[list[bytes]], learn_bytes: int) -> None:
    """Whichever sign a pattern is looked for by, rare or in every line, in the first block or in a later one."""
    scanner = Scanner(chosen)
    usual, scan.LEARN_BYTES = scan.LEARN_BYTES, learn_bytes
    try:
        for data in blocks:
            found = scanner.scan(b"".join(line + b"\n" for line in data))
            assert found == expected(chosen, data, 0)
    finally:
        scan.LEARN_BYTES = usual


def test_a_large_block_with_nothing_to_choose_waits_for_no_automata(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[object] = []
    usual = scan._hyperscan_ends

    def ends(regexes: Sequence[tuple[bytes, bool]]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
        made.append(regexes)
        return usual(regexes)

    monkeypatch.setattr(scan, "_hyperscan_ends", ends)
    scanner = Scanner([Pattern(rb"a[^\n]*b", 1, signs=(rb"a",))])
    scanner.prepare()
    prepared = len(made)
    assert scanner.scan(b"ab\n" + b"x" * scan.LEARN_BYTES + b"\n") == [(0, 1)]
    assert len(made) == prepared


def test_patterns_too_large_are_for_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    usual = scan._hyperscan_ends

    def ends(regexes: Sequence[tuple[bytes, bool]]) -> Callable[[bytes], Iterator[tuple[int, int]]]:
        if (b"large", False) in regexes:
            raise scan.TooLargeError("it is")
        return usual(regexes)

    monkeypatch.setattr(scan, "_hyperscan_ends", ends)
    scanner = Scanner([Pattern(rb"x", 1)], spare=[Pattern(rb"large", 2), Pattern(rb"y", 4)])
    assert scanner.scan(b"xy\n\n") == [(0, 7), (3, 6)]
    assert scanner.always == 6
    with pytest.raises(scan.TooLargeError):
        Scanner([Pattern(rb"large", 1)]).prepare()
    others = Scanner([Pattern(rb"x", 1)]).with_others({b"large"}, 8)
    assert others.scan(b"x\n\n") == [(0, 9), (2, 8)]


def test_a_pattern_never_spans_two_lines() -> None:
    for fallback in (False, True):
        scanner = Scanner([Pattern(rb"ab", 1), Pattern(rb"a[^\n]*b", 2)], fallback=fallback)
        assert scanner.scan(b"a\nb\nxa\nbx\n") == []


def test_a_scanner_of_nothing_finds_nothing_or_everything() -> None:
    assert Scanner([]).scan(b"a\nb\n") == []
    assert Scanner([], always=4).scan(b"a\n\nb\n") == [(0, 4), (2, 4), (3, 4)]
    assert Scanner([Pattern(rb"b", 1)], always=4).scan(b"") == []


def test_a_pattern_of_several_rules_is_searched_once() -> None:
    scanner = Scanner([Pattern(rb"x", 1), Pattern(rb"x", 2), Pattern(rb"x", 4, ignore_case=True)])
    assert scanner.scan(b"x\nX\n") == [(0, 7), (2, 4)]


@pytest.mark.parametrize("spec", ["combined", "vhost_combined", "main", "caddy", "traefik", "json"])
def test_the_shipped_rules_patterns_are_read_alike(spec: str) -> None:
    """All of them, over lines made of their own literals: no construct that one engine reads otherwise."""
    fmt = by_name(spec)
    chosen: list[Pattern] = []
    literals_used: list[bytes] = []
    for index, rule in enumerate(map(compile_rule, load_shipped())):
        for needs in rule.needs or ():
            chosen += need_patterns(needs, fmt, 1 << index)
            literals_used += [need.literal.encode() for need in needs]
    assert len(literals_used) > 100
    data = [f'1.2.3.4 - - [x] "{method} /'.encode() + piece + b' HTTP/1.1" 404 5 "' + piece.upper() + b'" "-"'
            for piece in literals_used for method in ("GET", "POST")]  # fmt: skip
    block = b"".join(line + b"\n" for line in data)
    found = Scanner(chosen).scan(block)
    assert found == Scanner(chosen, fallback=True).scan(block)
    assert len(found) > len(data) // 2
