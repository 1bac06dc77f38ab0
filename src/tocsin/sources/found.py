"""What discovery speaks of: logs that a web server's configuration declares, logs found, and what could not be read."""

from __future__ import annotations

import glob
import re
from typing import Literal

from msgspec import Struct, field

from tocsin.sources.rooted import RootedTree, strerror

LogKind = Literal["access", "error", "auth"]
MAX_INCLUDES = 5_000  # files read for one server: a thousand sites fit, a loop of includes ends
MAX_TEXT = 64 << 20  # characters of all of them together
MAX_DEPTH = 64  # nested includes; Apache itself stops at 128, nginx at the process's open files
_ESCAPED = re.compile(r"\[([*?\[])\]")  # what `literal` wrote
AS_ROOT = "run as root, or give the process CAP_DAC_READ_SEARCH"


class Declared(Struct, frozen=True):
    """A log as a configuration declares it, before anybody looked whether it exists."""

    path: str
    kind: LogKind
    format: str
    vhost: str | None
    found_in: str
    server: str
    note: str = ""


class FoundLog(Struct, frozen=True):
    """One log of this machine.

    `path` is absolute and may be a glob (then `files` counts what matches now, and `exclude` names matches that are
    another log). `format` is what `formats.by_name` takes; empty: to be sniffed. `vhost` is None where one log serves
    several. `found_in` is `FILE:LINE` of the configuration, or "usual place". `size_bytes` and `age_s` (seconds since
    the last write, of the youngest file) are None where nothing exists or nothing may be seen. `note` says in words
    what a reader should know.
    """

    path: str
    kind: LogKind
    format: str
    vhost: str | None
    found_in: str
    server: str
    exists: bool
    readable: bool
    files: int = 0
    size_bytes: int | None = None
    age_s: float | None = None
    exclude: tuple[str, ...] = ()
    note: str = ""


class Unreadable(Struct, frozen=True):
    """Something that could not be read: where it was found, why, and what to do."""

    path: str
    reason: str
    remedy: str
    found_in: str = ""


class Discovery(Struct, frozen=True):
    """All that was found, all that could not be read, and the `configs` read.

    Logs come in the order of the configurations, but single files before globs: of two that fit a file the first is it.
    """

    logs: tuple[FoundLog, ...]
    unreadable: tuple[Unreadable, ...]
    configs: tuple[str, ...]


class Findings(Struct):
    """What the readers of configurations write into while they walk."""

    declared: list[Declared] = field(default_factory=list)
    unreadable: list[Unreadable] = field(default_factory=list)
    configs: list[str] = field(default_factory=list)

    def refuse(self, path: str, reason: str, remedy: str, found_in: str = "") -> None:
        """Note something that could not be read, once."""
        item = Unreadable(printable(_ESCAPED.sub(r"\1", path)), printable(reason), printable(remedy), found_in)
        if item not in self.unreadable:
            self.unreadable.append(item)


class Includer:
    """Opens configuration files under a budget: includes that loop or multiply end with a report, not a hang."""

    def __init__(self, tree: RootedTree, findings: Findings) -> None:
        self.tree = tree
        self.findings = findings
        self._open: list[str] = []
        self._files = 0
        self._text = 0

    def enter(self, path: str, found_in: str) -> str | None:
        """The text of a file that is now being read (call `leave` after), or None after reporting why not."""
        try:
            canonical = self.tree.canonical(path)
            reason = self._refusal(canonical)
            text = "" if reason else self.tree.text(canonical)
        except OSError as error:
            reason = strerror(error)
            remedy = AS_ROOT if isinstance(error, PermissionError) else "correct or remove the line that includes it"
            self.findings.refuse(path, reason, remedy, found_in)
            return None
        if reason:
            self.findings.refuse(path, reason, "correct the include", found_in)
            return None
        self._open.append(canonical)
        self._text += len(text)
        if path not in self.findings.configs:
            self.findings.configs.append(path)
        return text

    def leave(self) -> None:
        """The file last entered is read."""
        self._open.pop()

    def expand(self, pattern: str, found_in: str) -> list[str]:
        """The files that an include names: a glob's matches in order. What may not be listed is reported."""
        paths, failed = self.tree.glob(pattern)
        for directory, error in failed:
            self.findings.refuse(directory, strerror(error), AS_ROOT, found_in)
        return paths

    def _refusal(self, canonical: str) -> str:
        if canonical in self._open:
            return "includes itself"
        if len(self._open) >= MAX_DEPTH:
            return f"includes nested deeper than {MAX_DEPTH}"
        self._files += 1
        if self._files > MAX_INCLUDES or self._text > MAX_TEXT:
            return f"more than {MAX_INCLUDES} files, or {MAX_TEXT >> 20} MiB, included"
        return ""


def printable(text: str) -> str:
    """The text with bytes that were not UTF-8, and control characters, as escapes."""
    safe = text.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in safe)


def literal(path: str) -> str:
    """A literal path as text in which globs are meant: its own `*?[` lose their magic."""
    return glob.escape(path)
