"""The files behind one name (`jail`, `filter.d/sshd`), in fail2ban's order, merged into one configuration.

The order, later wins: `N.conf`, `N.d/*.conf`, `N.local`, `N.d/*.local`; each file comes after what its
`[INCLUDES] before` names and before what its `after` names, each include with its `.local` sibling. A value that is
overwritten stays reachable as `known/name`. `[Section?cond]` holds options of `[Section]` under the name `name?cond`.
"""

from __future__ import annotations

import re
from difflib import get_close_matches
from pathlib import Path

from tocsin.fail2ban.settings.ini import Fault, IniFile, Value, read_file

INCLUDES = "INCLUDES"
KNOWN = "KNOWN/"
MAX_FILES = 500
MAX_DEPTH = 50

_MOST_MISSING = 20

_CONDITIONAL = re.compile(r"(\w+)(\?.+)")


class Merged:
    """Several files as one, `files` in merge order; `main` is the first of its own, not an include.

    `known` holds by section the values that a later file overwrote. `faults` are those of all files, each with its
    file's name. `headers` tells where a section was first opened.
    """

    __slots__ = ("defaults", "faults", "files", "headers", "known", "main", "sections")

    def __init__(self, main: str) -> None:
        self.main = main
        self.defaults: dict[str, Value] = {}
        self.sections: dict[str, dict[str, Value]] = {}
        self.known: dict[str, dict[str, Value]] = {}
        self.headers: dict[str, tuple[str, int]] = {}
        self.files: list[str] = []
        self.faults: list[tuple[str, Fault]] = []

    def raw(self, section: str, option: str) -> Value | None:
        """The value as written, the section's own or that of `[DEFAULT]`; None where neither has one."""
        value = self.own(section).get(option)
        return value if value is not None else self.defaults.get(option)

    def own(self, section: str) -> dict[str, Value]:
        """What the section itself sets; `KNOWN/section` is what was overwritten of it."""
        if section.startswith(KNOWN):
            return self.known.get(section.removeprefix(KNOWN), {})
        return self.sections.get(section, {})

    def add(self, ini: IniFile) -> None:
        """Lays one more file over the others."""
        if ini.file not in self.files:
            self.faults += [(ini.file, fault) for fault in ini.faults]
        self.files.append(ini.file)
        self.defaults.update(_over(self.defaults, ini.defaults))
        for head, written in ini.sections.items():
            section, options = head, written
            if conditional := _CONDITIONAL.fullmatch(head):
                section = conditional[1]
                options = {name + conditional[2]: value for name, value in written.items()}
            self.headers.setdefault(section, (ini.file, ini.headers[head]))
            earlier = self.sections.get(section)
            if earlier is None:
                self.sections[section] = dict(options)
                continue
            shadow = self.known.setdefault(section, {})
            shadow.update({name: earlier[name] for name in options if name in earlier})
            earlier.update(_over(earlier, options))


class Reader:
    """The files of one directory, each read and parsed once."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._files: dict[Path, IniFile | None] = {}
        self._merged: dict[str, Merged | None] = {}

    def read(self, name: str) -> Merged | None:
        """All files of `name`, relative to the directory and without its suffix; None where there is none."""
        if name not in self._merged:
            self._merged[name] = self._read(name)
        return self._merged[name]

    def _read(self, name: str) -> Merged | None:
        found = [path for path in _candidates(self.directory / name) if self._file(path) is not None]
        if not found:
            return None
        merged = Merged(str(found[0]))
        order: list[Path] = []
        try:
            for path in _with_local(found):
                self._expand(path, (), order, merged)
        except _TooManyError:
            text = (
                f"the includes of `{name}` come to more than {MAX_FILES} files, or stand more than {MAX_DEPTH} deep;"
                " a file is probably included again and again, take the repeated `before` and `after` out"
            )
            merged.faults.append((str(found[0]), Fault("error", "", 0, text)))
            order = found
        for path in order:
            if (ini := self._file(path)) is not None:
                merged.add(ini)
        return merged

    def _file(self, path: Path) -> IniFile | None:
        if path not in self._files:
            self._files[path] = read_file(path)
        return self._files[path]

    def _expand(self, path: Path, above: tuple[Path, ...], order: list[Path], merged: Merged) -> None:
        """Appends the file to `order`, before and after it what it includes; `above` are those that include it."""
        ini = self._file(path)
        if ini is None:
            return
        if len(above) > MAX_DEPTH:
            raise _TooManyError
        self._include(ini, path, "before", above, order, merged)
        if len(order) >= MAX_FILES:
            raise _TooManyError
        order.append(path)
        self._include(ini, path, "after", above, order, merged)

    def _include(
        self, ini: IniFile, path: Path, option: str, above: tuple[Path, ...], order: list[Path], merged: Merged
    ) -> None:
        value = ini.sections.get(INCLUDES, {}).get(option) or ini.defaults.get(option)
        if value is None or INCLUDES not in ini.sections:
            return
        words = value.text.split("\n")
        if len(words) > MAX_FILES:
            raise _TooManyError
        for number, word in enumerate(words):
            target = _target(path.parent, word)
            if not word or target in above:
                continue
            both = [each for each in _with_local([target]) if each == target or each not in (*above, path)]
            if all(self._file(each) is None for each in both):
                if target.suffix != ".local":
                    self._missing(merged, value, number, word)
                continue
            for each in both:
                self._expand(each, (*above, path), order, merged)

    def _missing(self, merged: Merged, value: Value, number: int, word: str) -> None:
        if sum(fault.section == INCLUDES for _, fault in merged.faults) >= _MOST_MISSING:
            return
        near = nearest(word, [each.name for each in sorted((Path(value.file).parent / word).parent.glob("*.conf"))])
        text = f"the included file `{word}` is not there and is passed over{near}; correct its name or take it out"
        fault = Fault("warning", INCLUDES, value.line + number, text)
        if (value.file, fault) not in merged.faults:
            merged.faults.append((value.file, fault))


def _target(folder: Path, word: str) -> Path:
    """The file that an include names; without `..`, so that a circle is seen to be one."""
    target = folder / word
    try:
        return target.resolve() if ".." in target.parts else target
    except (OSError, ValueError, RuntimeError):  # a circle of links, or no name at all: reading it says so
        return target


class _TooManyError(Exception):
    """The files that include one another have no end, or nearly none."""


def nearest(name: str, names: list[str]) -> str:
    """` (did you mean `x`?)` for the likeliest of `names`, or nothing."""
    if len(name) > 80:
        return ""
    close = get_close_matches(name, names, n=1, cutoff=0.65)
    return f" (did you mean `{close[0]}`?)" if close else ""


def _candidates(base: Path) -> list[Path]:
    folder = base.parent / (base.name + ".d")
    try:
        listed = sorted(folder.iterdir())
    except (OSError, ValueError):  # none there, or none that may be seen
        listed = []
    drop_ins = [path for path in listed if not path.name.startswith(".")]
    return [
        base.parent / (base.name + ".conf"),
        *(path for path in drop_ins if path.suffix == ".conf"),
        base.parent / (base.name + ".local"),
        *(path for path in drop_ins if path.suffix == ".local"),
    ]


def _with_local(paths: list[Path]) -> list[Path]:
    """Each file followed by its `.local` sibling, where that is not in the list anyway."""
    both: list[Path] = []
    for path in paths:
        both.append(path)
        try:
            sibling = path.with_suffix(".local")
            if sibling not in paths and sibling.is_file():
                both.append(sibling)
        except (OSError, ValueError):  # no name that a file could have, or none that may be seen
            continue
    return both


def _over(earlier: dict[str, Value], later: dict[str, Value]) -> dict[str, Value]:
    """`later`, each value knowing the one that it overwrites."""
    return {name: value._replace(before=earlier[name]) if name in earlier else value for name, value in later.items()}
