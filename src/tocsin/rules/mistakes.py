"""Collects every mistake of a rule file, each with its line, key and the nearest valid word."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from tocsin.rules.language import RuleError, RuleErrors
from tocsin.rules.positions import Path


class Mistakes:
    """The mistakes of one file. `lines` tells where its keys stand."""

    def __init__(self, file: str, lines: Mapping[Path, int]) -> None:
        self.file = file
        self.lines = lines
        self.errors: list[RuleError] = []

    def error(self, path: Path, problem: str, near: str | None = None, *, line: int | None = None) -> RuleError:
        """Note a mistake at a key."""
        key = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in path).lstrip(".")
        found = RuleError(self.file, line or self.line_of(path), key, problem, near)
        self.errors.append(found)
        return found

    def line_of(self, path: Path) -> int:
        """The line of a key, or of the nearest table around it."""
        for end in range(len(path), 0, -1):
            if path[:end] in self.lines:
                return self.lines[path[:end]]
        return 1

    def raise_if_any(self) -> None:
        """RuleErrors with all that was noted, in the order of the lines."""
        if self.errors:
            raise RuleErrors(tuple(sorted(self.errors, key=lambda error: error.line)))


def words(choices: Iterable[str]) -> str:
    """A list for people: `a, b or c`."""
    *rest, last = choices
    return f"{', '.join(rest)} or {last}" if rest else last


def nearest(word: object, choices: Iterable[str]) -> str | None:
    """The valid word that was probably meant."""
    import difflib  # noqa: PLC0415  only a mistake needs it, and guard starts without one

    close = difflib.get_close_matches(str(word).lower().replace("-", "_"), list(choices), 1, 0.6)
    close = close or difflib.get_close_matches(str(word).lower(), list(choices), 1, 0.6)
    return close[0] if close else None
