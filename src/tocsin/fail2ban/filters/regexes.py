"""A filter's regexes: compiled, refused with a reason, and run so that no line can cost much. Pure.

They are Python's, as fail2ban reads them. A text that could cost much for the regex's shape (see shapes) is matched by
the `regex` library, which can be given a time limit; all others by `re`, which is faster. Both find the same: see
alike.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable
from typing import Any, Literal, Protocol

from msgspec import Struct

from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.alike import Told, alike
from tocsin.fail2ban.filters.parsing import compiled, groups_of, parse
from tocsin.fail2ban.filters.shapes import HOPELESS, Cost, cost_of
from tocsin.fail2ban.filters.syntax import Seq, is_sure, longest_literal

Kind = Literal["failregex", "ignoreregex", "prefregex"]


class FilterError(ValueError):
    """A filter that cannot be run. `problems`: what is wrong, one text each, naming the regex and what to write."""

    def __init__(self, problems: tuple[str, ...]) -> None:
        super().__init__("\n".join(problems))
        self.problems = problems


class Found(Protocol):
    """What the matches of `re` and `regex` have in common."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def span(self, group: int | str, /) -> tuple[int, int]: ...
    def groups(self) -> tuple[str | None, ...]: ...
    def __getitem__(self, group: int | str, /) -> str | None: ...


class SetAside(Struct, frozen=True):
    """A regex that is no longer run: the regex as written, whose it is, how many lines took too long."""

    regex: str
    where: str
    count: int


class Budget:
    """How long a regex may take for one line, and what came of it.

    A line that takes longer does not match that regex: its search is cut off, and counted in `cut_off` by regex. After
    `strikes` of them the regex is set aside: it is no longer run. The others go on.
    """

    def __init__(self, limit_s: float = 0.05, strikes: int = 3) -> None:
        self.limit_s = limit_s
        self.strikes = strikes
        self.cut_off: dict[tuple[str, str], int] = {}
        self.set_aside: list[SetAside] = []

    def strike(self, regex: str, where: str) -> bool:
        """Notes that a search was cut off. True: the regex is to be set aside."""
        count = self.cut_off.get((regex, where), 0) + 1
        self.cut_off[regex, where] = count
        if count < self.strikes:
            return False
        self.set_aside.append(SetAside(regex, where, count))
        return True


class Regex:
    """One regex of a filter. `source`: as written; `text`: as run; `needle`: a text that every match holds, "" where
    none is known; `aside`: it was set aside and matches nothing.
    """

    __slots__ = ("_alternates", "_budget", "_cost", "_flags", "_free", "_names", "_parts", "_run", "_timed",
                 "_unnamed", "aside", "groups", "kind", "needle", "source", "text", "tree", "where")  # fmt: skip

    def __init__(
        self, source: str, kind: Kind, where: str, budget: Budget, *, usedns: str, lines: bool = False
    ) -> None:
        """ValueError says what is wrong, and what to write. `lines`: `^` and `$` also hold within the text."""
        self.source = source
        self.kind = kind
        self.where = where
        self.text = tags.expand(source, usedns)
        self.aside = False
        self._budget = budget
        self._flags = re.MULTILINE if lines else 0
        if not self.text.strip():
            raise ValueError(f"{kind} is empty: remove it or write a regex")
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # "possible nested set": fail2ban takes it as it stands
                self.tree: Seq = parse(self.text, self._flags)
                groups, self.groups = groups_of(self.text, self._flags)
                if not is_sure(self.tree):
                    compiled(self.text, self._flags)
        except (re.error, OverflowError, RecursionError) as error:
            raise ValueError(f"{kind} {source!r} is not a valid regex: {error}{_advice(error)}") from error
        self.needle = longest_literal(self.tree)
        names = {number: name for name, number in self.groups.items()}
        self._names = tuple(names.get(number, "") for number in range(1, groups + 1))
        self._unnamed = "" in self._names
        self._alternates = tags.alternates(self.groups)
        self._parts = tags.parts(self.groups)
        self._run: Callable[[str], Found | None] = self._run_first
        self._timed: Any = None
        self._cost: Cost = cost_of(self.tree, lines=lines)
        self._free = self._cost.free_length

    def search(self, text: str) -> Found | None:
        """The first match in a text, None also where the search is cut off."""
        if len(text) <= self._free or self._cost.is_low(text):
            return self._run(text)
        return None if self.aside else self._search_timed(text)

    def prepare(self) -> None:
        """Compile the regex, which else waits for a line that could match: most never meet one."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._run = compiled(self.text, self._flags).search

    def _run_first(self, text: str) -> Found | None:
        self.prepare()
        return self._run(text)

    def always_timed(self) -> None:
        """Never match without the clock."""
        self._free = -1
        self._cost = HOPELESS

    def _search_timed(self, text: str) -> Found | None:
        if self._timed is None:
            import regex  # type: ignore[import-untyped]  # noqa: PLC0415  most logs need none of it, and it takes 7 ms

            try:
                self._timed = regex.compile(self.text, self._flags)
            except regex.error:
                self._set_aside()
                return None
        likeness = alike(text)
        try:
            match: Found | None = self._timed.search(likeness, timeout=self._budget.limit_s)
        except TimeoutError:
            if self._budget.strike(self.source, self.where):
                self._set_aside()
            return None
        return match if match is None or likeness is text else Told(match, text)

    def _set_aside(self) -> None:
        self.aside = True
        self.always_timed()

    def captured(self, match: Found) -> dict[str, str]:
        """What the named groups of a match have captured, alternates and parts of tuples merged."""
        groups = {name: value for name, value in zip(self._names, match.groups(), strict=True) if value is not None}
        if self._unnamed:
            groups.pop("", None)
        for group, name in self._alternates:
            if groups.get(group) and not groups.get(name):
                groups[name] = groups[group]
        if self._parts:
            tuples: dict[str, tuple[str | None, ...]] = {}
            for group, name in self._parts:
                before = tuples.get(name, (groups.get(name),))
                tuples[name] = (*before, groups.get(group))
            groups.update((name, str(value)) for name, value in tuples.items())
        return groups


def _advice(error: Exception) -> str:
    text = str(error)
    if "global flags not at the start" in text:
        return "; write the flags at its beginning, or for a part of it (?i:...)"
    if "redefinition of group name" in text:
        return "; a tag stands once in a regex, <F-ALT_USER> is another spelling of <F-USER>"
    if "nothing to repeat" in text:
        return "; a * alone is no regex, any text is .*"
    return ""


_LOST = re.compile(r"\b(?:client|from|host|addr) (?=[ $]|$)|(?:[=(]|\\\[)(?=\\\]|\))| (?= )")
_SIGN_ALONE = re.compile(r"(?<!\\)\.(?![*+?{])")


def without_id(source: str, kind: Kind = "failregex") -> str:
    """What to say of a failregex that names nobody, and what to write instead."""
    text = f"{kind} {source!r} does not say who is meant: <HOST> is missing"
    if guess := _with_host(source):
        text += (
            f". Text in angle brackets is lost where a page is HTML, and so is a * where it is Markdown; write: {guess}"
        )
    else:
        text += "; write <HOST> where the line has the client's address"
    return text


def _with_host(source: str) -> str | None:
    """The regex with <HOST> where it seems to have been lost."""
    if re.match(r"\^[ \-]", source):
        guess = "^<HOST>" + source[1:]
    elif match := _LOST.search(source):
        guess = source[: match.end()] + "<HOST>" + source[match.end() :]
    else:
        return None
    return _SIGN_ALONE.sub(lambda dot: dot[0] if _in_word(guess, dot.start()) else ".*", guess)


def _in_word(text: str, place: int) -> bool:
    """Whether a sign stands between characters of a name, as in `index.php` and `1.0`."""
    around = text[place - 1 : place], text[place + 1 : place + 2]
    return all(sign.isalnum() and not sign.isupper() for sign in around)
