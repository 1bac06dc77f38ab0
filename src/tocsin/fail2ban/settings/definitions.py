"""A filter's or an action's file as one jail uses it: the jail's brackets over `[Init]` over `[Definition]`.

fail2ban reads a filter twice for a jail: once alone, so that the jail can say `%(known/failregex)s`, and once more with
the jail's own options in its hands. Both readings share what tags were found to stand for. `Definition` is that reader.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Literal

from tocsin.fail2ban.model import ActionSpec, FilterSpec
from tocsin.fail2ban.settings.interpolation import Missing, Unresolved, get, get_qualified, substitute
from tocsin.fail2ban.settings.merge import Merged
from tocsin.fail2ban.settings.options import parse_bool, parse_int

FILTER_OPTIONS = ("usedns", "prefregex", "ignoreregex", "failregex", "maxlines", "datepattern", "journalmatch")
ACTION_OPTIONS = (
    "actionstart",
    "actionstart_on_demand",
    "actionstop",
    "actionflush",
    "actionreload",
    "actioncheck",
    "actionrepair",
    "actionrepair_on_unban",
    "actionban",
    "actionprolong",
    "actionreban",
    "actionunban",
    "norestored",
)
_ACTION_BOOLS = ("actionstart_on_demand", "actionrepair_on_unban", "norestored")
_AT_BAN_TIME = frozenset(("matches", "ipmatches", "ipjailmatches", "timeout", "bantime"))
_USEDNS: tuple[Literal["yes", "warn", "no", "raw"], ...] = ("yes", "warn", "no", "raw")
_KNOWN = "known/"
_CONDITIONAL = re.compile(r"(\w+)\?.+")


class Mistake(ValueError):  # noqa: N818  several of them are no exception
    """A value that is not what its option takes. `option` names it, `line` of `file` where that is known."""

    def __init__(self, option: str, text: str, file: str = "", line: int = 0) -> None:
        super().__init__(text)
        self.option = option
        self.file = file
        self.line = line


class Definition:
    """One file's options for one jail. `given` are those in the jail's brackets; the file's `[Init]` adds to them."""

    def __init__(self, merged: Merged, given: Mapping[str, str], names: tuple[str, ...]) -> None:
        self._merged = merged
        self._names = names
        self._init: dict[str, str] = dict(given)
        self._own: dict[str, str] = {}
        self._given: dict[str, str] = {}
        self._tags: dict[str, str | None] = {}

    def read(self, jail: Mapping[str, str], *, everything: bool = False) -> None:
        """Reads `[Definition]` with the jail's options at hand, which also count as set, and `[Init]`.

        `everything`: all of `[Definition]`, not only the options that filters or actions are made of.
        """
        handed = {**jail, **self._init}
        self._given = {name.lower(): text for name, text in handed.items()}
        definition = self._merged.sections.get("Definition", {})
        self._own = {}
        for name in self._names:
            if name not in handed and (name in definition or name in self._merged.defaults):
                self._own[name] = get(self._merged, "Definition", name, self._given)
        for name in self._merged.sections.get("Init", ()):
            text = get(self._merged, "Init", name)
            if not name.startswith(_KNOWN):
                self._init[_KNOWN + name] = text
            self._init.setdefault(name, text)
        if everything:
            for name in definition:
                if name not in self._own:
                    self._own[name] = get(self._merged, "Definition", name)

    def combined(self, ignore: Collection[str] = ()) -> dict[str, str]:
        """All options with static tags replaced. Those with a conditional twin stay open, for the family decides."""
        options = {**self._own, **self._init}
        conditional = {match[1] for name in options if (match := _CONDITIONAL.fullmatch(name))}
        return substitute(options, conditional.union(ignore), self._stands_for)

    def _stands_for(self, tag: str) -> str | None:
        if tag not in self._tags:
            self._tags[tag] = get_qualified(self._merged, "Definition", tag, self._given)
        return self._tags[tag]

    def defines(self, name: str) -> bool:
        """Whether `[Definition]` itself sets the option."""
        return name in self._merged.sections.get("Definition", {})


def open_filter(merged: Merged, given: Mapping[str, str], logtype: str) -> Definition:
    """A filter's reader; the automatic `logtype` is given unless somebody chose one."""
    options = dict(given)
    filter_ = Definition(merged, options, FILTER_OPTIONS)
    if not options.get("logtype") and not filter_.defines("logtype"):
        options["logtype"] = logtype
        filter_ = Definition(merged, options, FILTER_OPTIONS)
    return filter_


def filter_spec(
    name: str,
    merged: Merged | None,
    combined: Mapping[str, str],
    jail: Mapping[str, str],
    everything: Mapping[str, str],
) -> tuple[FilterSpec, list[Mistake]]:
    """The filter's options with the jail's own over them. Regexes in the filter's brackets stay beside the jail's."""
    mistakes: list[Mistake] = []
    over = {**combined, **jail}
    logtype = combined.get("logtype") or everything.get("logtype")
    return FilterSpec(
        name=name,
        failregex=_lines(combined.get("failregex")) + _lines(jail.get("failregex")),
        ignoreregex=_lines(combined.get("ignoreregex")) + _lines(jail.get("ignoreregex")),
        prefregex=over.get("prefregex") or None,
        maxlines=_maxlines(over.get("maxlines"), mistakes),
        datepattern=over.get("datepattern") or None,
        journalmatch=_lines(combined.get("journalmatch")) + _lines(jail.get("journalmatch")),
        usedns=_usedns(over.get("usedns"), mistakes),
        logtype="journal" if logtype == "journal" else "file",
        options={
            option: text
            for option, text in everything.items()
            if option not in FILTER_OPTIONS and not option.startswith(_KNOWN)
        },
        file=merged.main if merged else "",
    ), mistakes


def action_spec(
    name: str, merged: Merged, given: Mapping[str, str], jail_name: str, jail: Mapping[str, str]
) -> tuple[ActionSpec, list[Mistake]]:
    """The action as the jail has it; `name` and `actname` are given where the jail's brackets do not."""
    known_as = given.get("name", jail_name)
    actname = given.get("actname") or name
    if "actname" not in given and known_as != jail_name:
        actname += known_as.removeprefix(jail_name) if known_as.startswith(jail_name) else f"-{known_as}"
    options = {**given, "name": known_as, "actname": actname}
    action = Definition(merged, options, ACTION_OPTIONS)
    action.read(jail)
    mistakes: list[Mistake] = []
    combined = {option: text for option, text in action.combined(_AT_BAN_TIME).items() if not option.startswith(_KNOWN)}
    for option in _ACTION_BOOLS:
        if option in combined:
            combined[option] = _bool(option, combined[option], mistakes)
    return ActionSpec(name=name, actname=actname, options=combined, given=dict(given), file=merged.main), mistakes


def _lines(text: str | None) -> tuple[str, ...]:
    return tuple(line for line in text.split("\n") if line) if text else ()


def _bool(option: str, text: str, mistakes: list[Mistake]) -> str:
    try:
        return "true" if parse_bool(text) else "false"
    except ValueError as error:
        mistakes.append(Mistake(option, f"{error}; it counts as `false`"))
        return "false"


def _maxlines(text: str | None, mistakes: list[Mistake]) -> int:
    if text is None:
        return 1
    try:
        lines = parse_int(text)
    except ValueError as error:
        mistakes.append(Mistake("maxlines", f"{error}; 1 is taken"))
        return 1
    if lines < 1:
        mistakes.append(Mistake("maxlines", f"expected at least 1 line, got {lines}; 1 is taken"))
        return 1
    return lines


def _usedns(text: str | None, mistakes: list[Mistake]) -> Literal["yes", "warn", "no", "raw"]:
    word = "warn" if text is None else text.lower()
    for known in _USEDNS:
        if word == known:
            return known
    mistakes.append(Mistake("usedns", f"expected yes, warn, no or raw, got {text!r}; `no` is taken"))
    return "no"


__all__ = [
    "ACTION_OPTIONS",
    "FILTER_OPTIONS",
    "Definition",
    "Missing",
    "Mistake",
    "Unresolved",
    "action_spec",
    "filter_spec",
    "open_filter",
]
