"""Which paths a pattern names: absolute paths and shell globs (`*`, `?`, `[...]`; `**` for any depth)."""

from __future__ import annotations

import glob
import os
from fnmatch import fnmatchcase


class Pattern:
    """One configured path or glob. Matching is by component, and a leading dot must be written out, as in a shell."""

    def __init__(self, text: str) -> None:
        self.text = os.path.normpath(text)
        self.magic = glob.has_magic(self.text)
        self._parts = self.text.split("/")
        if not os.path.isabs(self.text):  # noqa: PTH117  a text comes in, texts go out
            raise ValueError(f"{text!r}: expected an absolute path or pattern, such as /var/log/nginx/*.log")

    def paths(self) -> list[str]:
        """What is there now, sorted; for a plain path itself, whether it is there or not."""
        if not self.magic:
            return [self.text]
        return sorted(glob.glob(self.text, recursive=True))  # noqa: PTH207

    def matches(self, path: str) -> bool:
        """Whether a file at `path` would be followed because of this pattern (`**` not considered: see `paths`)."""
        if not self.magic:
            return path == self.text
        parts = path.split("/")
        return len(parts) == len(self._parts) and all(map(_part_matches, parts, self._parts))

    def directories(self) -> list[tuple[str, bool]]:
        """(directory, whether the pattern's files themselves lie in it) to be watched, as far as they are there.

        Where one is missing, its nearest parent that is there stands for it: when that changes, ask again.
        """
        first = next((i for i, part in enumerate(self._parts) if glob.has_magic(part)), len(self._parts) - 1)
        wanted: list[tuple[str, bool]] = []
        for depth in range(min(first, len(self._parts) - 1), len(self._parts)):
            leaf = depth == len(self._parts) - 1
            prefix = "/".join(self._parts[:depth]) or "/"
            found = glob.glob(prefix, recursive=True) if glob.has_magic(prefix) else [prefix]  # noqa: PTH207
            wanted += [(path, leaf) for path in found]
        return [_existing(path, leaf=leaf) for path, leaf in wanted]


def _part_matches(name: str, part: str) -> bool:
    return fnmatchcase(name, part) and (name[:1] != "." or part[:1] == ".")


def _existing(path: str, *, leaf: bool) -> tuple[str, bool]:
    while not os.path.isdir(path) and path != "/":  # noqa: PTH112
        path, leaf = os.path.dirname(path), False  # noqa: PTH120
    return path, leaf
