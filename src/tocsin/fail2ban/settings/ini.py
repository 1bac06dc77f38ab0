"""One file of an /etc/fail2ban: sections, options, and where each value stands.

The dialect is that of Python's ConfigParser, which fail2ban reads with: option names in lower case, section names as
written, `=` or `:` between name and value, `#` and `;` for whole-line comments, `;` after a blank for a comment at a
line's end, lines that are indented deeper than their option continue its value. Unlike ConfigParser this reader goes
on after a mistake, so that one slip in one section leaves the other sections standing, and tells where it was.
"""

from __future__ import annotations

import re
import stat
from pathlib import Path
from typing import Literal, NamedTuple

MAX_FILE_BYTES = 1 << 20
DEFAULT = "DEFAULT"

_COMMENT_AT_END = re.compile(r"(?:^|(?<=\s));")
_SECTION = re.compile(r"\[(.+)\]")
_OPTION = re.compile(r"([^=:]*)[=:](.*)", re.DOTALL)
_NOT_UTF8 = re.compile("[\udc80-\udcff]")
_MOST_FAULTS = 100
_CUT_WITH_CARE = ("failregex", "ignoreregex", "prefregex", "datepattern", "action")


class Value(NamedTuple):
    """A raw value (lines joined by newlines), the file and the line of its option; `before`: what it overwrote."""

    text: str
    file: str
    line: int
    before: Value | None = None


class Fault(NamedTuple):
    """A mistake in a file. An `error` spoils the section (`""`: the file), a `warning` or `instead` only itself."""

    severity: Literal["error", "warning", "instead"]
    section: str
    line: int
    text: str


class IniFile:
    """What one file says. `headers` are the lines of the sections' heads; `[DEFAULT]` is in `defaults` alone."""

    __slots__ = ("defaults", "faults", "file", "headers", "sections")

    def __init__(self, file: str) -> None:
        self.file = file
        self.defaults: dict[str, Value] = {}
        self.sections: dict[str, dict[str, Value]] = {}
        self.headers: dict[str, int] = {}
        self.faults: list[Fault] = []


def read_file(path: Path) -> IniFile | None:
    """The file, or None where there is none. A file that cannot be read, is no file or is too large is all fault."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            return _unusable(path, "this is no regular file; put a file there or take the reference to it out")
        if status.st_size > MAX_FILE_BYTES:
            return _unusable(
                path,
                f"this file is {status.st_size / (1 << 20):.1f} MiB large, more than the 1 MiB that is read"
                " of a configuration file; see whether a log or a list took its name",
            )
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
        return _unusable(path, f"this file cannot be read ({reason}); make it readable for the user that runs this")
    return parse(data.decode("utf-8-sig", "surrogateescape"), str(path))


def parse(text: str, file: str) -> IniFile:
    """The sections of `text`. Bytes that were no UTF-8 are expected as surrogate escapes. Never raises."""
    parser = _Parser(file)
    for number, line in enumerate(text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), start=1):
        parser.take(number, line)
    return parser.finish()


def _unusable(path: Path, text: str) -> IniFile:
    ini = IniFile(str(path))
    ini.faults.append(Fault("error", "", 0, text))
    return ini


class _Parser:
    """The state between lines: the section and option that a continuation would belong to."""

    def __init__(self, file: str) -> None:
        self._ini = IniFile(file)
        self._section: str | None = None
        self._options: dict[str, Value] = {}
        self._name = ""
        self._name_line = 0
        self._lines: list[str] = []
        self._indent = 0
        self._seen: set[tuple[str, str]] = set()
        self._skipped = False
        self._more: list[Fault] = []
        self._odd_comment = 0

    def take(self, number: int, line: str) -> None:
        """One more line, without its newline."""
        text = line.strip()
        if not text:
            if self._name:
                self._lines.append("")
            return
        if text[0] in "#;":
            if not self._odd_comment and not text.isascii() and _NOT_UTF8.search(text):
                self._odd_comment = number
            return
        cut = ""
        if ";" in line and (comment := _COMMENT_AT_END.search(line)):
            text, cut = line[: comment.start()].strip(), line[comment.start() :]
        indent = len(line) - len(line.lstrip())
        if self._name and indent > self._indent:
            self._lines.append(text)
            self._cut(cut, number)
            return
        self._indent = indent
        if header := _SECTION.match(text):
            self._open_section(header[1], number)
        elif self._section is None:
            self._stray(number)
        else:
            self._open_option(text, number)
            self._cut(cut, number)

    def finish(self) -> IniFile:
        """The file as read."""
        self._close_option()
        faults = self._ini.faults
        if self._odd_comment:
            text = (
                "a comment holds bytes that are no UTF-8 (fail2ban passes over the whole file for it); the file is read"
                " here. Save it as UTF-8"
            )
            faults.append(Fault("instead", "", self._odd_comment, text))
        if self._more:
            severity: Literal["error", "warning"] = "warning"
            if any(fault.severity == "error" for fault in self._more):
                severity = "error"
            text = f"{len(self._more)} more lines are mistaken; see whether this is a configuration file at all"
            faults.append(Fault(severity, "", self._more[0].line, text))
        return self._ini

    def _open_section(self, name: str, number: int) -> None:
        self._close_option()
        ini = self._ini
        self._section = name
        if name == DEFAULT:
            self._options = ini.defaults
        elif name in ini.sections:
            self._fault(
                "error",
                f"the section [{name}] stands twice in this file, first in line {ini.headers[name]};"
                " make one section of them",
                number,
            )
            self._options = {}
        else:
            self._options = ini.sections[name] = {}
        ini.headers.setdefault(name, number)

    def _open_option(self, text: str, number: int) -> None:
        self._close_option()
        option = _OPTION.match(text)
        if option is None or not option[1].strip():
            self._fault(
                "warning",
                f"the line {_shown(text)} is neither a section, nor an option with its `=`, nor indented to continue"
                " the value above; it is ignored (fail2ban would refuse the whole configuration). Write"
                " `name = value`, indent it, or put `#` before it",
                number,
            )
            return
        name = option[1].strip().lower()
        if (self._section or "", name) in self._seen:
            first = self._options.get(name)
            where = f", first in line {first.line}" if first else ""
            self._fault(
                "error", f"`{name}` stands twice in [{self._section}] of this file{where}; leave one of them", number
            )
        self._seen.add((self._section or "", name))
        self._name, self._name_line, self._lines = name, number, [option[2].strip()]

    def _close_option(self) -> None:
        if not self._name:
            return
        text = "\n".join(self._lines).rstrip()
        if _NOT_UTF8.search(text) or _NOT_UTF8.search(self._name):
            self._fault(
                "error",
                f"the value of `{_shown(self._name)}` holds bytes that are no UTF-8; save the file as UTF-8",
                self._name_line,
            )
        self._options[self._name] = Value(text, self._ini.file, self._name_line)
        self._name = ""
        self._lines = []

    def _stray(self, number: int) -> None:
        if not self._skipped:
            self._skipped = True
            self._fault("error", "lines stand before the first [section]; write the section's head above them", number)

    def _cut(self, comment: str, number: int) -> None:
        if comment and self._name.startswith(_CUT_WITH_CARE):
            self._fault(
                "warning",
                f"`{self._name}` ends before {_shown(comment)}, for ` ;` begins a comment; where it is meant, write"
                " `;` without a blank before it",
                number,
            )

    def _fault(self, severity: Literal["error", "warning"], text: str, number: int) -> None:
        fault = Fault(severity, self._section or "", number, text)
        if len(self._ini.faults) < _MOST_FAULTS:
            self._ini.faults.append(fault)
        else:
            self._more.append(fault)


def _shown(text: str) -> str:
    """A text from a file as a message may show it: one short line, nothing that a terminal would obey."""
    return ascii(text if len(text) <= 60 else text[:57] + "...")
