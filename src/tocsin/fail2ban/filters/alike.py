r"""Characters of which `re` and `regex` think differently, and what stands for them. Pure.

`re` takes \x1c to \x1f for blanks and superscripts and fractions for characters of words, `regex` does not; with
combining marks it is the other way round. fail2ban uses `re`, so for `regex` each such character becomes one that both
see as `re` sees it: a text of the same length, whose matches stand in the same places.
"""

from __future__ import annotations

import re
from functools import cache
from typing import Any, Protocol

_KINDS = (r"\s", r"\d", r"\w")
_HERE = [re.compile(kind) for kind in _KINDS]
_DOUBTFUL = re.compile(r"[^\x00-\x1b\x20-\x7f]")
_STAND_IN = {
    (True, False, False): "\x85",
    (False, True, True): "\u0660",
    (False, False, True): "\xaa",
    (False, False, False): "\xa1",
}


@cache
def _there() -> list[Any]:
    import regex  # type: ignore[import-untyped]  # noqa: PLC0415  most logs need none of it, and it takes 7 ms

    return [regex.compile(kind) for kind in _KINDS]


class _Table(dict[int, str]):
    """For `str.translate`; filled as characters are met."""

    def __missing__(self, code: int) -> str:
        sign = chr(code)
        blank, digit, word = (kind.match(sign) is not None for kind in _HERE)
        same = [blank, digit, word] == [kind.match(sign) is not None for kind in _there()]
        self[code] = found = sign if same else _STAND_IN[blank, digit, word]
        return found


_TABLE = _Table()


def alike(text: str) -> str:
    """The text as `regex` must see it; itself where nothing is in doubt."""
    return text.translate(_TABLE) if _DOUBTFUL.search(text) else text


class Match(Protocol):
    """What is needed of a match."""

    def start(self) -> int: ...
    def end(self) -> int: ...
    def span(self, group: int | str, /) -> tuple[int, int]: ...
    def groups(self) -> tuple[str | None, ...]: ...


class Told:
    """A match in a text's likeness, told in the words of the text."""

    def __init__(self, match: Match, text: str) -> None:
        self._match = match
        self._text = text

    def start(self) -> int:
        """Where it begins."""
        return self._match.start()

    def end(self) -> int:
        """Where it ends."""
        return self._match.end()

    def span(self, group: int | str, /) -> tuple[int, int]:
        """Where a group stands; (-1, -1) where it took no part."""
        return self._match.span(group)

    def groups(self) -> tuple[str | None, ...]:
        """What the groups hold."""
        return tuple(self[number] for number in range(1, len(self._match.groups()) + 1))

    def __getitem__(self, group: int | str, /) -> str | None:
        start, end = self._match.span(group)
        return None if start < 0 else self._text[start:end]
