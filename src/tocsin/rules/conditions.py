"""The `where` of a rule: TOML values in, conditions out, mistakes noted. Pure.

Besides types it refuses what can never match: a path that does not begin with `/`, a method in small letters, a range
that is empty. A rule that silently never fires is worse than none.
"""

from __future__ import annotations

from math import isfinite
from typing import Any

from tocsin.rules.language import (
    DERIVED_FIELDS,
    NUMBER_FIELDS,
    TEXT_FIELDS,
    AllOf,
    Between,
    Condition,
    Contains,
    Equal,
    EqualNumber,
    Matches,
    Missing,
    Not,
    On,
    Prefix,
    Suffix,
    Test,
    TextTest,
    Where,
)
from tocsin.rules.mistakes import Mistakes, nearest, words
from tocsin.rules.positions import Path
from tocsin.rules.regexes import problem_of

_TEXT_TESTS: dict[str, type[TextTest]] = {
    "equal": Equal,
    "prefix": Prefix,
    "suffix": Suffix,
    "contains": Contains,
    "regex": Matches,
}
_TEXT_OPERATORS = (*_TEXT_TESTS, "not", "missing", "ignore_case")
_NUMBER_OPERATORS = ("min", "max", "not", "missing")
_OUTCOMES = ("success", "failure")
MAX_VALUES = 1000


def read_where(value: object, on: On, path: Path, mistakes: Mistakes) -> Where:
    """The conditions of a `where` table."""
    reader = _Conditions(on, mistakes)
    if not isinstance(value, dict) or not value:
        mistakes.error(path, 'expected a table such as { method = "POST", path = "/xmlrpc.php" }')
        return Where()
    conditions = reader.conditions({key: item for key, item in value.items() if key != "any"}, path)
    alternatives: list[tuple[Condition, ...]] = []
    if "any" in value:
        tables = value["any"]
        if not isinstance(tables, list) or len(tables) < 2 or not all(isinstance(t, dict) and t for t in tables):
            mistakes.error((*path, "any"), "expected a list of at least two tables of conditions")
        else:
            alternatives = [reader.conditions(t, (*path, "any", i)) for i, t in enumerate(tables)]
    return Where(conditions, tuple(alternatives))


class _Conditions:
    def __init__(self, on: On, mistakes: Mistakes) -> None:
        self.on = on
        self.mistakes = mistakes

    def conditions(self, table: dict[str, Any], path: Path) -> tuple[Condition, ...]:
        found: list[Condition] = []
        for field, value in table.items():
            here = (*path, field)
            test: Test | None = None
            if field in TEXT_FIELDS[self.on] or field in DERIVED_FIELDS.get(self.on, ()):
                test = self.text(value, field, here, ignore_case=False)
            elif field in NUMBER_FIELDS[self.on]:
                test = self.number(value, field, here)
            else:
                fields = (*TEXT_FIELDS[self.on], *NUMBER_FIELDS[self.on], *DERIVED_FIELDS.get(self.on, ()))
                self.mistakes.error(here, f"unknown field; expected one of {words(fields)}", nearest(field, fields))
            if test is not None:
                found.append(Condition(field, test))
        return tuple(found)

    # -- texts ------------------------------------------------------------------------------------------------------

    def text(self, value: object, field: str, path: Path, *, ignore_case: bool) -> Test | None:
        if not isinstance(value, dict):
            values = self.texts(value, path)
            return self.checked(Equal(values, ignore_case), field, path) if values else None
        flag = value.get("ignore_case", ignore_case)
        if not isinstance(flag, bool):
            self.mistakes.error((*path, "ignore_case"), "expected true or false")
            flag = False
        tests: list[Test | None] = []
        for name, operand in value.items():
            here = (*path, name)
            if name in _TEXT_TESTS:
                values = self.texts(operand, here)
                tests.append(self.checked(_TEXT_TESTS[name](values, flag), field, here) if values else None)
            elif name == "not":
                tests.append(_refused(self.text(operand, field, here, ignore_case=flag)))
            elif name == "missing":
                tests.append(self.missing(operand, here))
            elif name != "ignore_case":
                self.unknown(name, _TEXT_OPERATORS, here)
        return self.together(tests, path, _TEXT_OPERATORS[:-1])

    def texts(self, value: object, path: Path) -> tuple[str, ...]:
        values = value if isinstance(value, list) else [value]
        if not values or len(values) > MAX_VALUES or not all(isinstance(item, str) and item for item in values):
            self.mistakes.error(path, f"expected a text that is not empty, or a list of 1 to {MAX_VALUES:,} of them")
            return ()
        if len(set(values)) < len(values):
            self.mistakes.error(path, "a value stands twice")
        return tuple(values)

    def checked(self, test: TextTest, field: str, path: Path) -> TextTest:
        """Note what makes a test of this field senseless."""
        known = DERIVED_FIELDS.get(self.on, {}).get(field)
        for value in test.values:
            problem: str | None
            near = None
            if known:
                problem = None if isinstance(test, Equal) and value in known else f"expected {words(known)}"
                near = nearest(value, known) if problem else None
            elif isinstance(test, Matches):
                problem = problem_of(value)
            elif field == "path":
                problem = _path_problem(value, test)
            elif field == "outcome" and isinstance(test, Equal):
                problem = None if value in _OUTCOMES else f"expected {words(_OUTCOMES)}"
                near = nearest(value, _OUTCOMES) if problem else None
            elif field == "method" and self.on == "http-request" and not test.ignore_case:
                problem = None if value == value.upper() else "methods are written in capitals"
                near = value.upper()
            elif field == "query" and value.startswith("?"):
                problem = "the query is what follows the ?; leave the ? out"
            else:
                problem = None
            if problem:
                self.mistakes.error(path, f'"{value}": {problem}', near)
        return test

    # -- numbers ----------------------------------------------------------------------------------------------------

    def number(self, value: object, field: str, path: Path) -> Test | None:
        if not isinstance(value, dict):
            numbers = self.numbers(value, field, path)
            return EqualNumber(numbers) if numbers else None
        tests: list[Test | None] = []
        if "min" in value or "max" in value:
            tests.append(self.between(value, field, path))
        for name, operand in value.items():
            here = (*path, name)
            if name == "not":
                tests.append(_refused(self.number(operand, field, here)))
            elif name == "missing":
                tests.append(self.missing(operand, here))
            elif name not in ("min", "max"):
                self.unknown(name, _NUMBER_OPERATORS, here)
        return self.together(tests, path, _NUMBER_OPERATORS)

    def numbers(self, value: object, field: str, path: Path) -> tuple[float, ...]:
        values = value if isinstance(value, list) else [value]
        if not values or len(values) > MAX_VALUES or not all(_is_number(item) for item in values):
            self.mistakes.error(path, "expected a number, or a list of numbers")
            return ()
        if field == "status" and not all(isinstance(item, int) and 100 <= item <= 999 for item in values):
            self.mistakes.error(path, "a status is a whole number from 100 to 999")
            return ()
        if min(values) < 0:
            self.mistakes.error(path, "expected a number that is not negative")
        return tuple(values)

    def between(self, value: dict[str, Any], field: str, path: Path) -> Test | None:
        sides: list[float | None] = []
        for name in ("min", "max"):
            side = self.numbers(value[name], field, (*path, name)) if name in value else None
            if side == () or isinstance(value.get(name), list):
                self.mistakes.error((*path, name), "expected one number")
                return None
            sides.append(side[0] if side else None)
        low, high = sides
        if low is not None and high is not None and low > high:
            self.mistakes.error(path, f"nothing is at least {low:g} and at most {high:g}")
        return Between(low, high)

    # -- both -------------------------------------------------------------------------------------------------------

    def missing(self, value: object, path: Path) -> Test | None:
        if not isinstance(value, bool):
            self.mistakes.error(path, "expected true or false")
            return None
        return Missing(value)

    def unknown(self, name: str, choices: tuple[str, ...], path: Path) -> None:
        self.mistakes.error(path, f"unknown operator; expected one of {words(choices)}", nearest(name, choices))

    def together(self, tests: list[Test | None], path: Path, choices: tuple[str, ...]) -> Test | None:
        """All tests of one operator table; a test that could not be read was noted where it stands."""
        if not tests:
            if not any(error.key.startswith(_dotted(path)) for error in self.mistakes.errors):
                self.mistakes.error(path, f"nothing to compare with; expected one of {words(choices)}")
            return None
        good = tuple(test for test in tests if test is not None)
        return good[0] if len(good) == 1 else AllOf(good)


def _refused(test: Test | None) -> Test | None:
    """The opposite of a test; of several operators in one table, each is refused by itself, as people read it."""
    if isinstance(test, AllOf):
        return AllOf(tuple(Not(each) for each in test.tests))
    return Not(test) if test else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and isfinite(value)


def _dotted(path: Path) -> str:
    return "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")


def _path_problem(value: str, test: TextTest) -> str | None:
    """What in a value a path can never hold: it is percent-decoded, its slashes are merged, its dot segments gone."""
    if isinstance(test, Equal | Prefix) and value[0] != "/" and value != "*":
        return 'a path begins with "/"'
    if "//" in value:
        return "a path has its slashes merged; ask `target` for what was sent"
    parts = value.split("/")
    if ".." in parts or "." in parts[1:-1]:
        return "a path has its dot segments resolved; ask `target` for what was sent"
    if "?" in value:
        return "a path ends before the ?; ask `query` for what follows"
    return None
