"""What a raw log line must hold for a rule to match, so that lines without it need not be parsed. Pure.

Of a rule's conditions the one that fewest lines fulfil is chosen and turned into `Need`s: literals of which the line
holds at least one. Necessary, never sufficient: the predicate decides. What makes a literal of a parsed field
necessary in the raw line, with `formats/` as it decodes:

- `path` is decoded and normalised. Within one segment every character stands in the line as itself or as `%XX`, so a
  literal never crosses a slash and is `encoded`: a line with one of its characters percent-encoded is a candidate too.
- All fields are decoded from the log's escapes. Servers escape quotes, backslashes, controls and bytes beyond ASCII,
  so literals are cut there; JSON may escape anything (`\\u0061`, `\\/`), so a line of a JSON log with such an escape
  is a candidate too.
- A byte that is no UTF-8 reads as the text `\\xhh`. A literal that may begin inside such a text loses the part that
  the hex digits could have lent it.
- `target` may be put together from a path and a query that the log holds apart: cut at the `?`.
- `vhost` may come from the configuration instead of the line: no needs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Literal

from msgspec import Struct

from tocsin.rules.derived import CrawlerJudge
from tocsin.rules.language import (
    AllOf,
    Between,
    Condition,
    Equal,
    EqualNumber,
    Matches,
    Prefix,
    Rule,
    Test,
    TextTest,
)
from tocsin.rules.predicate import Trouble, test_of
from tocsin.rules.regexes import required_literals

NeedField = Literal["method", "path", "target", "query", "referer", "user_agent", "user", "status", "line"]

MIN_CHARS = 3
MAX_STATUSES = 16

_PLAIN = re.compile(r"[ !#-\[\]-~]+")  # printable ASCII but the quote and the backslash
_HEX_TAIL = re.compile(r"(?:x[89a-f][0-9a-f]|[89a-f][0-9a-f]|[0-9a-f])")
_HEX_TAIL_ANY_CASE = re.compile(_HEX_TAIL.pattern, re.IGNORECASE)
_JSON_ESCAPE = re.compile(rb"\\(?:u00[2-7]|/)")
_FIELDS: dict[str, NeedField] = {
    "path": "path",
    "target": "target",
    "query": "query",
    "referer": "referer",
    "user_agent": "user_agent",
    "user": "user",
}
_USUAL_METHODS = frozenset({"GET", "HEAD", "POST"})

# Parts of these stand in half of all lines, so they tell hardly one line from another.
_USUAL_TEXT = (
    "mozilla/5.0 (windows nt 10.0; win64; x64) applewebkit/537.36 (khtml, like gecko) chrome/ mobile safari/537.36 "
    "(x11; linux x86_64; rv: gecko/ firefox/ (compatible; +http://www. https://www. version/ index.php index.html "
    ".php .html .css .js .png .jpg /index.php /index.html /about /auth /admin /config /current /login /user /wp-admin/ "
    "/admin-ajax.php /wp-content/ /wp-includes/ /themes/ /plugins/ /uploads/ /images/ googlebot/2.1"
)


class Need(Struct, frozen=True, order=True):
    """A literal that the raw line holds where a rule matches it.

    `field` says of which part of the line it speaks: `path`, `target`, `query` and `method` stand in the request. A
    `status` literal is a number standing alone. `method` not None: the request has that method besides. `encoded`:
    the line may spell a character of the literal as `%XX` (see `percent_spellings`).
    """

    literal: str
    field: NeedField
    ignore_case: bool = False
    method: str | None = None
    encoded: bool = False

    def percent_spellings(self) -> tuple[str, ...]:
        """Every `%XX` that can stand for a character of the literal; one of them in the request fulfils the need."""
        if not self.encoded:
            return ()
        chars = set(self.literal)
        if self.ignore_case:
            chars |= {char.lower() for char in chars} | {char.upper() for char in chars}
        codes = {f"{ord(char):02x}" for char in chars}
        return tuple(sorted({f"%{spelt}" for code in codes for spelt in _hex_cases(code)}))

    def holds(self, raw_line: bytes, *, json: bool = False) -> bool:
        """The reference reading: whether a raw line fulfils the need. A scanner must find every line for which this is
        true. `json`: the line's format undoes JSON escapes.
        """
        if json and _JSON_ESCAPE.search(raw_line):
            return True
        if self.method and self.method.encode() not in raw_line:
            return False
        if self.encoded and any(spelling.encode() in raw_line for spelling in self.percent_spellings()):
            return True
        literal = self.literal.encode()
        if self.field == "status":
            return re.search(rb"(?<![0-9])" + literal + rb"(?![0-9])", raw_line) is not None
        return literal.lower() in raw_line.lower() if self.ignore_case else literal in raw_line


Needs = tuple[frozenset[Need], ...]
"""All of the sets must be fulfilled, each by at least one of its needs."""


def needs_of(rule: Rule, crawlers: CrawlerJudge | None = None) -> Needs | None:
    """What a line must hold to matter to the rule; None where any line may matter. A condition on claims to be a
    crawler needs their names, and without a judge of them cannot be met.

    Rules on `auth` have None: such logs are small, and which daemon says what in which words is the formats' affair.
    """
    if rule.on == "auth":
        return None
    if rule.on == "line":
        sets = [_of_text(Matches((pattern.replace("<address>", "\x01"),)), "line", None) for pattern in rule.line]
        return (frozenset().union(*(s for s in sets if s)),) if all(sets) else None
    candidates = _of_conditions(rule, rule.where.conditions, crawlers)
    method = _method_of(rule.where.conditions)
    groups = [_best(_of_conditions(rule, group, crawlers, method)) for group in rule.where.any_of]
    if groups and all(groups):
        candidates.append(frozenset().union(*(group for group in groups if group)))
    best = _best(candidates)
    return (best,) if best else None


def _of_conditions(
    rule: Rule, conditions: Iterable[Condition], crawlers: CrawlerJudge | None, method: str | None = None
) -> list[frozenset[Need]]:
    conditions = tuple(conditions)
    method = _method_of(conditions) or method
    found = [needs for condition in conditions for needs in _of_test(condition.test, condition.field, method)]
    return found + [_of_claim(each, rule, crawlers, method) for each in conditions if _needs_claim(each, rule)]


def _needs_claim(condition: Condition, rule: Rule) -> bool:
    return condition.field == "crawler" and not test_of(condition.test, rule, Trouble())(None)


def _of_claim(condition: Condition, rule: Rule, crawlers: CrawlerJudge | None, method: str | None) -> frozenset[Need]:
    """The names that a claim bears, without the capitals: agents are read in any case."""
    if crawlers is None:
        return frozenset()
    names = crawlers.claims if test_of(condition.test, rule, Trouble())("unknown") else crawlers.names
    return frozenset(Need(name.lower(), "user_agent", ignore_case=True, method=method) for name in names)


def _method_of(conditions: Iterable[Condition]) -> str | None:
    """The one method that the conditions allow."""
    for condition in conditions:
        test = condition.test
        if condition.field == "method" and isinstance(test, Equal) and len(test.values) == 1 and not test.ignore_case:
            return test.values[0]
    return None


def _of_test(test: Test, field: str, method: str | None) -> list[frozenset[Need]]:
    if isinstance(test, AllOf):
        return [needs for inner in test.tests for needs in _of_test(inner, field, method)]
    if field == "status":
        statuses = _statuses(test)
        return [frozenset(Need(str(status), "status", method=method) for status in statuses)] if statuses else []
    if field == "method":
        return _of_method(test)
    if field in _FIELDS and isinstance(test, TextTest):
        needs = _of_text(test, _FIELDS[field], method)
        return [needs] if needs else []
    return []


def _statuses(test: Test) -> tuple[int, ...]:
    if isinstance(test, EqualNumber):
        statuses = tuple(int(value) for value in test.values)
    elif isinstance(test, Between) and test.low is not None and test.high is not None:
        statuses = tuple(range(int(-(-test.low // 1)), int(test.high) + 1))
    else:
        return ()
    return statuses if len(statuses) <= MAX_STATUSES else ()


def _of_method(test: Test) -> list[frozenset[Need]]:
    if not isinstance(test, Equal) or any(not _PLAIN.fullmatch(value) for value in test.values):
        return []
    return [frozenset(Need(value, "method", test.ignore_case) for value in test.values)]


def _of_text(test: TextTest, field: NeedField, method: str | None) -> frozenset[Need] | None:
    """One need for each value of a test, or None where a value requires nothing."""
    needs: set[Need] = set()
    for value in test.values:
        found = _of_regex(value, test, field) if isinstance(test, Matches) else _of_value(value, test, field)
        if not found:
            return None
        needs |= {Need(literal, field, test.ignore_case, method, field == "path") for literal in found}
    return frozenset(needs)


def _of_value(value: str, test: TextTest, field: NeedField) -> frozenset[str]:
    literal = _plain_part(value, field, at_start=isinstance(test, Equal | Prefix), ignore_case=test.ignore_case)
    return frozenset((literal,)) if literal else frozenset()


def _of_regex(pattern: str, test: TextTest, field: NeedField) -> frozenset[str]:
    best: frozenset[str] = frozenset()
    for options in required_literals(pattern):
        parts = {_plain_part(option, field, at_start=False, ignore_case=test.ignore_case) for option in options}
        literals = frozenset(part for part in parts if part)
        if len(literals) == len(parts) and _worth(literals) > _worth(best):
            best = literals
    return best


def _plain_part(text: str, field: NeedField, *, at_start: bool, ignore_case: bool) -> str | None:
    """The most telling part of a literal that the raw line must hold as it stands."""
    text = text.partition("\\")[0]  # what follows could be the digits of an escape
    if field == "target":
        pieces = text.split("?")
    elif field == "path":
        pieces = re.findall(r"/[^/]*|^[^/]+", text)
    else:
        pieces = [text]
    parts: list[str] = []
    for i, piece in enumerate(pieces):
        for match in _PLAIN.finditer(piece):
            begins = match.start() == 0 and i == 0 and not at_start
            parts.append(_without_hex_tail(match[0], ignore_case=ignore_case) if begins else match[0])
    best = max(parts, key=lambda part: (_weight(part), len(part)), default="")
    return best if len(best) >= MIN_CHARS else None


def _without_hex_tail(literal: str, *, ignore_case: bool) -> str:
    tail = (_HEX_TAIL_ANY_CASE if ignore_case else _HEX_TAIL).match(literal)
    return literal[tail.end() :] if tail else literal


def _hex_cases(code: str) -> set[str]:
    return {code, code.upper(), code[0] + code[1].upper(), code[0].upper() + code[1]}


def _best(candidates: Iterable[frozenset[Need]]) -> frozenset[Need] | None:
    """The most selective of several requirements."""
    return max(candidates, key=_need_worth, default=None)


def _need_worth(needs: frozenset[Need]) -> tuple[int, int]:
    if not needs:  # no line can fulfil it
        return 100, 0
    field = next(iter(needs)).field
    if field == "status":
        worth = 2
    elif field == "method":
        worth = 1 if {need.literal for need in needs} & _USUAL_METHODS else 6
    else:
        worth, _ = _worth(frozenset(need.literal for need in needs))
    return worth, -len(needs)


def _worth(literals: frozenset[str]) -> tuple[int, int]:
    """How few lines hold one of the literals: as telling as the least telling of them."""
    return min(map(_weight, literals), default=0), -len(literals)


def _weight(literal: str) -> int:
    return 1 if literal.lower() in _USUAL_TEXT else min(len(literal), 12)
