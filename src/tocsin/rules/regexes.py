"""What a rule's regex may be, and which literals a text must hold for it to match. Pure.

Accepted is the part of Python's `re` syntax whose cost can be judged from its shape: literals, classes, groups,
alternatives, anchors, repetition. Refused are look-around, back-references and inline flags, and the shapes that let
one hostile line cost seconds: a repetition inside a repetition, alternatives under a repetition that can begin alike,
two unbounded repetitions side by side that match the same characters.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Sequence
from re import _constants as sre  # type: ignore[attr-defined]  # the syntax tree has no public name in the library
from re import _parser as sre_parser  # type: ignore[attr-defined]  # as above
from typing import Any

MAX_PATTERN_CHARS = 1000
UNBOUNDED = 10  # a repetition that can go on for more than this is taken as endless when shapes are judged
MAX_ENDLESS = 4

Node = tuple[Any, Any]
Chars = int  # a set of characters as a bit mask; bit 256 stands for all beyond Latin-1

_ALL: Chars = (1 << 257) - 1
_BEYOND: Chars = 1 << 256
_REPEATS = (sre.MAX_REPEAT, sre.MIN_REPEAT, sre.POSSESSIVE_REPEAT)
_ASCII_SETS = {
    sre.CATEGORY_DIGIT: r"\d",
    sre.CATEGORY_NOT_DIGIT: r"\D",
    sre.CATEGORY_SPACE: r"\s",
    sre.CATEGORY_NOT_SPACE: r"\S",
    sre.CATEGORY_WORD: r"\w",
    sre.CATEGORY_NOT_WORD: r"\W",
}
_REFUSED = {
    sre.ASSERT: "look-around such as (?=...) is not supported",
    sre.ASSERT_NOT: "look-around such as (?!...) is not supported",
    sre.GROUPREF: "back-references are not supported",
    sre.GROUPREF_EXISTS: "conditional groups are not supported",
}
_INLINE_FLAGS = "inline flags are not supported; ignore_case = true stands beside the regex"


def problem_of(pattern: str) -> str | None:
    """What is wrong with a regex, in words, or None where it may be used."""
    if len(pattern) > MAX_PATTERN_CHARS:
        return f"a regex has at most {MAX_PATTERN_CHARS:,} characters, this one {len(pattern):,}"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # "possible nested set": read otherwise by other regex libraries
            parsed = sre_parser.parse(pattern, re.ASCII)
            re.compile(pattern, re.ASCII)
    except (re.error, OverflowError, RecursionError, FutureWarning, DeprecationWarning) as error:
        return f"not a valid regex: {error}"
    if re.search(r"(?:[^\\]|^)(?:\\\\)*\{(?!\d+(?:,\d*)?\}|,\d+\})", pattern):
        return r"a literal { is written \{"
    return _INLINE_FLAGS if parsed.state.flags != re.ASCII else _shape_problem(list(parsed))


def parse(pattern: str) -> list[Node]:
    """The syntax tree of a regex that `re` accepts."""
    return list(sre_parser.parse(pattern, re.ASCII))


def _shape_problem(tree: list[Node]) -> str | None:
    if problem := _refused(tree):
        return problem
    if _endless(tree) > MAX_ENDLESS:
        return f"at most {MAX_ENDLESS} unbounded repetitions in one regex"
    first = _flat(tree)[:1]
    if first and first[0][0] in _REPEATS and _is_endless(first[0]) and first[0][1][2][0][0] is sre.ANY:
        return "leave out the leading .* or .+: a regex without ^ is found anywhere in the field"
    return _repeat_problem(tree)


def _refused(tree: Sequence[Node]) -> str | None:
    for op, arg in tree:
        if op in _REFUSED:
            return _REFUSED[op]
        if op is sre.SUBPATTERN and (arg[1] or arg[2]):
            return _INLINE_FLAGS
        for part in _parts(op, arg):
            if problem := _refused(part):
                return problem
    return None


def _parts(op: Any, arg: Any) -> list[list[Node]]:
    """The sub-trees of a node."""
    if op is sre.BRANCH:
        return [list(branch) for branch in arg[1]]
    if op is sre.SUBPATTERN:
        return [list(arg[3])]
    if op in _REPEATS:
        return [list(arg[2])]
    if op is sre.ATOMIC_GROUP:
        return [list(arg)]
    return []


def _flat(tree: Sequence[Node]) -> list[Node]:
    """The sequence with groups opened."""
    flat: list[Node] = []
    for op, arg in tree:
        flat += _flat(list(arg[3])) if op is sre.SUBPATTERN else [(op, arg)]
    return flat


def _is_endless(node: Node) -> bool:
    return int(node[1][1]) > UNBOUNDED


def _endless(tree: Sequence[Node]) -> int:
    """How many endless repetitions a tree holds."""
    count = 0
    for op, arg in tree:
        count += op in _REPEATS and _is_endless((op, arg)) and arg[0] != arg[1]
        count += sum(_endless(part) for part in _parts(op, arg))
    return count


def _repeat_problem(tree: Sequence[Node]) -> str | None:
    flat = _flat(tree)
    reach: Chars = 0  # what the endless repetitions just before this place can match
    for op, arg in flat:
        if op in _REPEATS:
            inner = list(arg[2])
            endless = _is_endless((op, arg))
            if endless and (problem := _inner_problem(inner)):
                return problem
            if endless and reach & _first(inner):
                return "two unbounded repetitions side by side match the same characters"
            reach = (reach if _nullable([(op, arg)]) else 0) | (_first(inner) if endless and arg[0] != arg[1] else 0)
        elif not _nullable([(op, arg)]):
            reach = 0
        for part in _parts(op, arg):
            if problem := _repeat_problem(part):
                return problem
    return None


def _inner_problem(inner: Sequence[Node]) -> str | None:
    """What makes the inside of an endless repetition costly."""
    for op, arg in _flat(inner):
        if op in _REPEATS and (arg[0] != arg[1] or _inner_problem(list(arg[2]))):
            return "a repetition inside a repetition can take exponential time; write the inner part without one"
        if op is sre.BRANCH:
            seen: Chars = 0
            for branch in _parts(op, arg):
                begin = _ALL if _nullable(branch) else _first(branch)
                if seen & begin:
                    return "alternatives under a repetition must begin with different characters"
                seen |= begin
                if problem := _inner_problem(branch):
                    return problem
    return None


def _nullable(tree: Sequence[Node]) -> bool:
    """Whether a tree can match the empty text."""
    for op, arg in tree:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return False
        if op in _REPEATS and arg[0] and not _nullable(list(arg[2])):
            return False
        parts = _parts(op, arg)
        if parts and op not in _REPEATS and not any(_nullable(part) for part in parts):
            return False
    return True


def _first(tree: Sequence[Node]) -> Chars:
    """The characters that a match of the tree can begin with."""
    chars: Chars = 0
    for op, arg in tree:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            return chars | _class(op, arg)
        for part in _parts(op, arg):
            chars |= _first(part)
        if not _nullable([(op, arg)]):
            return chars
    return chars


def _class(op: Any, arg: Any) -> Chars:
    if op is sre.ANY:
        return _ALL
    if op is sre.LITERAL:
        return _bit(arg)
    if op is sre.NOT_LITERAL:
        return (_ALL & ~_bit(arg)) | _BEYOND
    chars: Chars = 0
    negated = False
    for kind, value in arg:
        if kind is sre.NEGATE:
            negated = True
        elif kind is sre.LITERAL:
            chars |= _bit(value)
        elif kind is sre.RANGE:
            low, high = value
            chars |= sum(1 << code for code in range(low, min(high, 255) + 1)) | (_BEYOND if high > 255 else 0)
        else:
            category = re.compile(_ASCII_SETS[value], re.ASCII)
            chars |= sum(1 << code for code in range(256) if category.match(chr(code)))
            chars |= _BEYOND if category.match("\u0100") else 0
    return (_ALL & ~chars) | _BEYOND if negated else chars


def _bit(code: int) -> Chars:
    return 1 << code if code < 256 else _BEYOND


# -- literals ------------------------------------------------------------------------------------------------------


def required_literals(pattern: str) -> list[frozenset[str]]:
    """Sets of literals of which a matching text holds at least one each; the pattern's own letter case."""
    return _required(parse(pattern))


def _required(tree: Sequence[Node]) -> list[frozenset[str]]:
    found: list[frozenset[str]] = []
    run = ""
    for op, arg in _flat(tree):
        if op is sre.LITERAL:
            run += chr(arg)
            continue
        if run:
            found.append(frozenset((run,)))
            run = ""
        if op is sre.BRANCH:
            if alternatives := _of_branches(_parts(op, arg)):
                found.append(alternatives)
        elif (op in _REPEATS and arg[0] > 0) or op is sre.ATOMIC_GROUP:
            found += _required(_parts(op, arg)[0])
    if run:
        found.append(frozenset((run,)))
    return found


def _of_branches(branches: Sequence[list[Node]]) -> frozenset[str] | None:
    """One literal of each branch, or None where a branch requires none."""
    literals: set[str] = set()
    for branch in branches:
        required = _required(branch)
        if not required:
            return None
        literals |= max(required, key=lambda options: min(map(len, options)))
    return frozenset(literals)


# -- whole-line patterns -------------------------------------------------------------------------------------------

ADDRESS = "<address>"
_ADDRESS_REGEX = r"(?<![0-9A-Za-z:.])(?P<address>[0-9A-Fa-f:.]{2,45})(?![0-9A-Za-z:]|\.[0-9A-Za-z])"


def line_problem_of(pattern: str) -> str | None:
    """What is wrong with a `line` regex: it names the client in one place, and nobody else can move that place."""
    if pattern.count(ADDRESS) != 1:
        return "a line regex holds <address> exactly once"
    if not pattern.startswith("^") or not pattern.endswith("$") or pattern.endswith(r"\$"):
        return "a line regex is anchored at both ends: ^...$"
    before, _, after = pattern.partition(ADDRESS)
    marker = "\x01"
    if problem := problem_of(before + marker + after):
        return problem
    flat = _flat(parse(before + marker + after))
    place = next((i for i, node in enumerate(flat) if node == (sre.LITERAL, ord(marker))), None)
    if place is None:
        return "<address> stands outside of alternatives and repetitions"
    if _holds_blanks(flat[:place]) and _holds_blanks(flat[place + 1 :]):
        return (
            "text of any length that may hold blanks stands on both sides of <address>, so a client could write "
            "another's address into the line; use a class such as [^ ]* on one side"
        )
    return None


def expand_line(pattern: str) -> str:
    """The regex of a `line` pattern, with the address as a named group."""
    return pattern.replace(ADDRESS, _ADDRESS_REGEX)


def _holds_blanks(tree: Sequence[Node]) -> bool:
    """Whether an endless repetition in the tree can match a blank."""
    blank = _bit(ord(" "))
    for op, arg in tree:
        if op in _REPEATS and _is_endless((op, arg)) and _any_char(list(arg[2])) & blank:
            return True
        if any(_holds_blanks(part) for part in _parts(op, arg)):
            return True
    return False


def _any_char(tree: Sequence[Node]) -> Chars:
    """Every character that occurs anywhere in what the tree matches."""
    chars: Chars = 0
    for op, arg in tree:
        if op in (sre.LITERAL, sre.NOT_LITERAL, sre.ANY, sre.IN):
            chars |= _class(op, arg)
        for part in _parts(op, arg):
            chars |= _any_char(part)
    return chars
