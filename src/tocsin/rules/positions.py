"""Which line of a TOML text a key stands on. `tomllib` reads values and forgets where they were; errors need to know.

The scanner is only given texts that `tomllib` has accepted, so it need not judge, only follow. It knows a key by its
path: table and key names, and for arrays the index (`("probe", "where", "path", 2)`).
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable

Path = tuple[str | int, ...]

_Item = Callable[[int], None]

_BLANK = re.compile(r"(?:[ \t\r\n]|#[^\n]*)*")
_KEY = re.compile(r"[A-Za-z0-9_-]+|\"(?:[^\"\\\n]|\\.)*\"|'[^'\n]*'")
_STRING = re.compile(
    r'"""(?:[^"\\]|\\.|"{1,2}(?!"))*"{3,5}|\'\'\'.*?\'{3,5}|"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'', re.DOTALL
)
_SCALAR = re.compile(r"[^,\]}#\n]+")


def key_lines(text: str) -> dict[Path, int]:
    """Line (from 1) of every key, table and array element of a valid TOML text."""
    scanner = _Scanner(text)
    scanner.document()
    return scanner.lines


class _Scanner:
    def __init__(self, text: str) -> None:
        self.text = text
        self.position = 0
        self.line = 1
        self.lines: dict[Path, int] = {}
        self.arrays: dict[Path, int] = {}

    def document(self) -> None:
        table: Path = ()
        self._skip()
        while self.position < len(self.text):
            if self.text.startswith("[", self.position):
                table = self._header()
            else:
                self._pair(table)
            self._skip()

    def _header(self) -> Path:
        double = self.text.startswith("[[", self.position)
        self._move(self.position + 1 + double)
        path: Path = self._dotted()
        self._move(self.position + 1 + double)
        if double:
            self.arrays[path] = self.arrays.get(path, -1) + 1
        return self._real(path)

    def _real(self, path: Path) -> Path:
        """The path with the index of the current element put after each array of tables on the way."""
        real: Path = ()
        for depth, part in enumerate(path, 1):
            real = (*real, part)
            self.lines.setdefault(real, self.line)
            if path[:depth] in self.arrays:
                real = (*real, self.arrays[path[:depth]])
            self.lines.setdefault(real, self.line)
        return real

    def _pair(self, table: Path) -> None:
        path = table
        for part in self._dotted():
            path = (*path, part)
            self.lines.setdefault(path, self.line)
        self._move(self.position + 1)  # the equals sign
        self._skip()
        self._value(path)

    def _value(self, path: Path) -> None:
        opening = self.text[self.position : self.position + 1]
        if opening == "{":
            self._inside("}", lambda _index: self._pair(path))
        elif opening == "[":
            self._inside("]", lambda index: self._element((*path, index)))
        else:
            match = _STRING.match(self.text, self.position) or _SCALAR.match(self.text, self.position)
            self._move(match.end() if match else len(self.text))

    def _inside(self, closing: str, item: _Item) -> None:
        self._move(self.position + 1)
        self._skip()
        index = 0
        while self.position < len(self.text) and not self.text.startswith(closing, self.position):
            item(index)
            index += 1
            self._skip()
            if self.text.startswith(",", self.position):
                self._move(self.position + 1)
                self._skip()
        self._move(self.position + 1)

    def _element(self, path: Path) -> None:
        self.lines.setdefault(path, self.line)
        self._value(path)

    def _dotted(self) -> tuple[str, ...]:
        parts: list[str] = []
        while True:
            self._skip()
            match = _KEY.match(self.text, self.position)
            if match is None:  # what tomllib accepted always has a key here; stop rather than loop if it did not
                self._move(len(self.text))
                return tuple(parts)
            parts.append(_bare(match[0]))
            self._move(match.end())
            self._skip()
            if not self.text.startswith(".", self.position):
                return tuple(parts)
            self._move(self.position + 1)

    def _skip(self) -> None:
        match = _BLANK.match(self.text, self.position)
        self._move(match.end() if match else self.position)

    def _move(self, position: int) -> None:
        self.line += self.text.count("\n", self.position, position)
        self.position = position


def _bare(key: str) -> str:
    if key[0] == "'":
        return key[1:-1]
    return str(tomllib.loads(f"k = {key}")["k"]) if key[0] == '"' else key
