"""TOML in, a frozen `Config` out, or every mistake of the file in one go.

Keys and sections are those of `docs/config.md`; an absent file, section or key means the default written there. Spans
are texts such as `"66h40m"` or numbers of seconds.
"""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

from msgspec import Struct

from tocsin.config_keys import LOG_KEYS, OVERRIDE_KEYS, SECTIONS
from tocsin.config_model import (
    Allow,
    Bans,
    Breaker,
    Config,
    ConfigError,
    ConfigErrors,
    Crawlers,
    Fail2ban,
    Guard,
    Ledger,
    Limits,
    Log,
    Logs,
    Override,
    Prefixes,
    Proxies,
    Rules,
    Web,
)
from tocsin.config_values import Key, Mistakes, printable, shown, words

__all__ = [
    "DEFAULT_PATH",
    "SECTIONS",
    "Allow",
    "Bans",
    "Breaker",
    "Config",
    "ConfigError",
    "ConfigErrors",
    "Crawlers",
    "Fail2ban",
    "Guard",
    "Ledger",
    "Limits",
    "Log",
    "Logs",
    "Override",
    "Prefixes",
    "Proxies",
    "Rules",
    "Web",
    "load",
    "parse",
]

DEFAULT_PATH = Path("/etc/tocsin/tocsin.toml")
MAX_FILE_BYTES = 4 << 20
MAX_SYNTAX_ERRORS = 50
# Mistakes of tomllib's that end with their line, so that the lines after it can still be judged.
_LOCAL_MISTAKES = re.compile(
    r"Invalid value|Invalid statement|Invalid date|Expected '=' after a key|Expected newline or end of document|"
    r"Cannot overwrite a value|Illegal character"
)
_STATEMENT = re.compile(r"\s*(?:\[|[\w\"'.-]+\s*=)")
_TOP_LEVEL = (*SECTIONS, "log")


def load(file: Path | None = None) -> Config:
    """The configuration of a file; None: the default place, where an absent file means all defaults.

    ConfigErrors has every mistake, also that a file that was asked for cannot be read.
    """
    where = DEFAULT_PATH if file is None else file
    try:
        with where.open("rb") as opened:
            data = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        if file is None and isinstance(error, FileNotFoundError):
            return Config()
        raise _unusable(where, 0, f"cannot be read: {error.strerror}", "correct its place or its rights") from error
    if len(data) > MAX_FILE_BYTES:
        raise _unusable(
            where, 0, f"larger than {MAX_FILE_BYTES:,} bytes", "this cannot be a configuration; name another"
        )
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise _unusable(
            where, line, f"byte 0x{data[error.start]:02x} is not UTF-8", "save the file as UTF-8"
        ) from error
    return parse(text, str(where))


def _unusable(file: Path, line: int, problem: str, remedy: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(printable(str(file)), line, "", problem, remedy),))


def parse(text: str, file: str) -> Config:
    """The configuration of a text; `file` is what errors call it. ConfigErrors has every mistake."""
    text, document, errors = _documented(text.replace("\r\n", "\n"), file)
    config = Config(file=file)
    if document is not None:
        mistakes = Mistakes(text)
        config = _Reader(document, mistakes).config(file)
        errors += [ConfigError(file, *mistake) for mistake in mistakes.located()]
    if errors:
        raise ConfigErrors(tuple(sorted(errors, key=lambda error: error.line)))
    return config


def _documented(text: str, file: str) -> tuple[str, dict[str, Any] | None, list[ConfigError]]:
    """The TOML document, and the errors of lines that had to be left out (as blank lines) for it to be one.

    None where what is wrong reaches over its line (an open quote or bracket), so that the rest cannot be judged.
    """
    errors: list[ConfigError] = []
    lines = text.split("\n")
    while True:
        try:
            return "\n".join(lines), tomllib.loads("\n".join(lines)), errors
        except (ValueError, RecursionError) as error:
            problem = "nested too deeply" if isinstance(error, RecursionError) else str(error)
        place = re.search(r" \(at (?:line (\d+), column \d+|end of document)\)$", problem)
        line = int(place[1]) if place and place[1] else len(lines)
        what = problem[: place.start()] if place else problem
        errors.append(
            ConfigError(file, line, "", f"not TOML: {printable(what)}", _syntax_remedy(lines[line - 1], what))
        )
        at_end = place is None or place[1] is None
        if at_end or not _is_local(lines[line - 1], what) or len(errors) >= MAX_SYNTAX_ERRORS:
            return text, None, errors
        lines[line - 1] = ""


def _is_local(line: str, what: str) -> bool:
    """Whether leaving the line out leaves the others as they were meant."""
    if what.startswith("Unclosed array"):  # an element that is none, if it is not the next statement
        return bool(line.strip()) and not _STATEMENT.match(line)
    return bool(line.strip()) and _LOCAL_MISTAKES.match(what) is not None


def _syntax_remedy(line: str, what: str) -> str:
    if what.startswith("Invalid value") and "=" in line:
        key, _, value = line.partition("=")
        if re.fullmatch(r"[\w./:+-]+", value.strip()):
            return f'texts stand in quotes: {key.strip()} = "{value.strip()}"'
    if what.startswith("Unclosed array"):
        return 'close the list with "]"; its elements stand in quotes, with commas between them'
    if what.startswith("Illegal character"):
        return "end the text with its quote on the same line"
    if what.startswith("Expected '=' after a key"):
        return "a line is a `[section]` or `key = value`"
    return "correct the line; texts stand in quotes, lists in brackets"


class _Reader:
    def __init__(self, document: dict[str, Any], mistakes: Mistakes) -> None:
        self._document = document
        self._mistakes = mistakes

    def config(self, file: str) -> Config:
        for name in self._document:
            if name not in _TOP_LEVEL:
                self._unknown_top(name)
        parts: dict[str, Any] = {name: self._section(name) for name in SECTIONS}
        config = Config(file=file, log=self._logs(), **parts)
        self._check_bans(config.bans)
        return config

    def _check_bans(self, bans: Bans) -> None:
        """What holds between keys, judged only where each by itself is right."""
        if any(where[0] == "bans" for where, *_ in self._mistakes.found) or bans.default_s is None:
            return
        if bans.default_s > bans.max_s:
            where = ("bans", "max") if "max" in self._document["bans"] else ("bans", "default")
            self._mistakes.add(where, "`max` is shorter than `default`", "let `max` be the longer of the two")

    def _unknown_top(self, name: str) -> None:
        owners = {key.name: section for section, (_, keys) in SECTIONS.items() for key in keys}
        if isinstance(self._document[name], dict | list):
            remedy = self._mistakes.nearest(name, _TOP_LEVEL) + f"known sections: {words(_TOP_LEVEL)}"
            self._mistakes.add((name,), "unknown section", remedy)
        elif name in owners:
            self._mistakes.add((name,), "stands in no section", f"it belongs under [{owners[name]}]")
        else:
            remedy = self._mistakes.nearest(name, owners) + "keys stand under the [section] they belong to"
            self._mistakes.add((name,), "unknown key", remedy)

    def _section(self, name: str) -> Struct:
        structure, keys = SECTIONS[name]
        table = self._document.get(name, {})
        if not isinstance(table, dict):
            self._mistakes.add(
                (name,), f"expected a section, got {shown(table)}", f"write [{name}] on a line of its own"
            )
            return structure()
        if name != "rules":
            return structure(**self._values((name,), table, keys))
        values = self._values((name,), {key: value for key, value in table.items() if key != "override"}, keys)
        if "disable" in table:
            values["disable_line"] = self._mistakes.line_of(("rules", "disable"))
        return Rules(override=self._overrides(table.get("override", {})), **values)

    def _overrides(self, table: object) -> tuple[Override, ...]:
        where = ("rules", "override")
        if not isinstance(table, dict):
            self._mistakes.add(where, f"expected tables, got {shown(table)}", "write [rules.override.RULE]")
            return ()
        overrides = []
        for rule, values in table.items():
            if not isinstance(values, dict):
                self._mistakes.add(
                    (*where, rule), f"expected a table, got {shown(values)}", "write [rules.override.RULE]"
                )
                continue
            known = self._values((*where, rule), values, OVERRIDE_KEYS)
            overrides.append(Override(rule, self._mistakes.line_of((*where, rule)), **known))
        return tuple(overrides)

    def _logs(self) -> tuple[Log, ...]:
        tables = self._document.get("log", [])
        if not isinstance(tables, list):
            self._mistakes.add(("log",), "expected one table a log", "write [[log]], in double brackets")
            return ()
        logs: list[Log] = []
        for index, table in enumerate(tables):
            if not isinstance(table, dict):
                self._mistakes.add(
                    ("log", index), f"expected a table, got {shown(table)}", "write [[log]] and its keys"
                )
                continue
            values = self._values(("log", index), table, LOG_KEYS)
            if "path" not in table:
                self._mistakes.add(("log", index), "`path` is missing", 'write path = "/var/log/nginx/access.log"')
            elif values.get("path") in [log.path for log in logs]:
                self._mistakes.add(("log", index, "path"), "this path has a [[log]] already", "remove one of the two")
            elif "path" in values:
                logs.append(Log(**values))
        return tuple(logs)

    def _values(self, where: tuple[str | int, ...], table: dict[str, Any], keys: tuple[Key, ...]) -> dict[str, Any]:
        """What could be read of a table, by attribute."""
        known = {key.name: key for key in keys}
        values = {}
        for name, value in table.items():
            key = known.get(name)
            if key is None:
                remedy = self._mistakes.nearest(name, known) + f"known here: {words(known)}"
                self._mistakes.add((*where, name), "unknown key", remedy)
                continue
            before = len(self._mistakes.found)
            read = key.read(value, lambda problem, *at, key=key: self._bad(where, key, problem, at))
            if len(self._mistakes.found) == before:
                values[key.attribute] = read
        return values

    def _bad(self, where: tuple[str | int, ...], key: Key, problem: str, at: tuple[int, ...]) -> None:
        self._mistakes.add((*where, key.name, *at), problem, f"for example: {key.name} = {key.example}")
