"""A jail's own options, typed: what each is when nothing is said, and what is taken where what is said makes no sense.

Defaults are fail2ban's. Where fail2ban takes a mistaken value in silence, or refuses the whole configuration for it,
the mistake is noted with its place and what is taken in its stead.
"""

from __future__ import annotations

import codecs
import ipaddress
from collections.abc import Callable, Mapping
from typing import TypeVar

from tocsin.fail2ban.model import Increment, Remark
from tocsin.fail2ban.settings.definitions import FILTER_OPTIONS
from tocsin.fail2ban.settings.interpolation import Missing, get
from tocsin.fail2ban.settings.merge import Merged, nearest
from tocsin.fail2ban.settings.options import parse_bool, parse_int, parse_span_s, parse_words

_BOOLS = ("enabled", "bantime.increment", "bantime.overalljails", "ignoreself")
_NUMBERS = ("maxretry", "maxmatches")
_TEXTS = (
    "backend",
    "findtime",
    "bantime",
    "bantime.factor",
    "bantime.formula",
    "bantime.multipliers",
    "bantime.maxtime",
    "bantime.rndtime",
    "ignorecommand",
    "ignoreip",
    "ignorecache",
    "filter",
    "logtimezone",
    "logencoding",
    "logpath",
    "action",
)
_NEWER = ("skip_if_nologs", "systemd_if_nologs")
JAIL_OPTIONS = (*_BOOLS, *_NUMBERS, *_TEXTS, *_NEWER, *FILTER_OPTIONS)
"""Every option of a jail that has a meaning of its own."""

CONVENTIONS = (
    "mode",
    "port",
    "protocol",
    "chain",
    "banaction",
    "banaction_allports",
    "destemail",
    "sender",
    "mta",
    "fail2ban_agent",
)
"""Variables that stock files and stock actions refer to by habit."""

_HANDED_DEFAULTS = {"enabled": "False", "backend": "auto", "filter": "", "action": ""}
_BACKENDS = ("auto", "polling", "pyinotify", "gamin", "systemd")
_T = TypeVar("_T")


class JailOptions:
    """One jail's options. `final` are those of its filter, as `known/name`. What is wrong collects in `remarks`."""

    def __init__(self, merged: Merged, jail: str, final: Mapping[str, str]) -> None:
        self._merged = merged
        self._jail = jail
        self._final = final
        self._said: set[tuple[str, str]] = set()
        self.remarks: list[Remark] = []

    def text(self, option: str) -> str | None:
        """The value, interpolated; None where neither the jail nor `[DEFAULT]` sets it. Raises Unresolved."""
        try:
            return get(self._merged, self._jail, option, {}, self._final)
        except Missing:
            return None

    def line(self, option: str, default: str = "") -> str:
        """A value that has one line; what is indented below it was not meant for it."""
        text = self.text(option)
        if text is None:
            return default
        first, _, rest = text.partition("\n")
        if rest.strip():
            self.remark(
                option,
                f"`{option}` goes on in the line below it, {rest.strip().splitlines()[0][:60]!r}, because that is"
                " indented (fail2ban takes both as one value); only the first line is taken here."
                " Write the other at the line's start",
                "instead",
            )
        return first

    def flag(self, option: str, *, default: bool) -> bool:
        """Yes or no; a word that is neither is `no`, as in fail2ban."""
        text = self.line(option)
        if not text and self.text(option) is None:
            return default
        return self._read(option, text, parse_bool, False, "it counts as `false`")

    def number(self, option: str, default: int | None) -> int | None:
        """A whole number from 1 on."""
        text = self.line(option)
        if not text:
            return default
        number = self._read(option, text, parse_int, default, f"{default} is taken")
        if number is not None and number < 1:
            self.remark(option, f"`{option}` is {number}, but counts from 1; 1 is taken. Write a number from 1 on")
            return 1
        return number

    def span_s(self, option: str, default_s: float | None) -> float | None:
        """Seconds."""
        text = self.line(option)
        if not text:
            return default_s
        taken = "fail2ban's own default is taken" if default_s is not None else "it counts as not set"
        return self._read(option, text, parse_span_s, default_s, taken)

    def handed(self) -> dict[str, str]:
        """The options as filter and action see them when they refer to the jail's (`%(maxretry)s`)."""
        handed = dict(_HANDED_DEFAULTS)
        for option in (*_BOOLS, *_NUMBERS, *_TEXTS, *FILTER_OPTIONS):
            text = self.text(option)
            if text is not None:
                handed[option] = _as_bool(text) if option in _BOOLS else text
        return handed

    def remark(self, option: str, text: str, severity: str = "warning") -> None:
        """Notes something about the option, with the place where it is set."""
        if (option, text) in self._said:
            return
        self._said.add((option, text))
        value = self._merged.raw(self._jail, option)
        self.remarks.append(
            Remark(
                "instead" if severity == "instead" else "warning",
                text,
                self._jail,
                value.file if value else "",
                value.line if value else 0,
            )
        )

    def _read(self, option: str, text: str, parse: Callable[[str], _T], default: _T, taken: str) -> _T:
        try:
            return parse(text)
        except ValueError as error:
            self.remark(option, f"`{option}`: {error}; {taken}")
            return default


def read_backend(options: JailOptions) -> str:
    """`auto`, `polling`, `pyinotify` or `systemd[…]`."""
    backend = options.line("backend", "auto")
    kind = backend.split("[", 1)[0].strip().lower()
    if backend and kind not in _BACKENDS:
        near = nearest(kind, list(_BACKENDS))
        options.remark("backend", f"there is no backend `{backend}`{near}; `auto` is taken. Write auto or systemd")
        return "auto"
    return backend or "auto"


def read_bantime_s(options: JailOptions) -> float | None:
    """Seconds of a ban, None for good, which any negative number means."""
    seconds = options.span_s("bantime", 600.0)
    return None if seconds is not None and seconds < 0 else seconds


def read_findtime_s(options: JailOptions) -> float:
    """Seconds within which failures count together."""
    seconds = options.span_s("findtime", 600.0)
    if seconds is None or seconds <= 0:
        options.remark("findtime", "`findtime` is not more than nothing; 10m is taken. Write a span such as `10m`")
        return 600.0
    return seconds


def read_increment(options: JailOptions) -> Increment:
    """The `bantime.*` options; formulas stay text."""
    multipliers: list[float] = []
    for word in parse_words(options.text("bantime.multipliers") or ""):
        try:
            multipliers.append(float(parse_int(word)))
        except ValueError:
            options.remark(
                "bantime.multipliers",
                f"`bantime.multipliers`: expected whole numbers apart by blanks, got {word!r}; it is passed over."
                " Write for example `1 2 4 8 16`",
            )
    return Increment(
        enabled=options.flag("bantime.increment", default=False),
        factor=options.line("bantime.factor"),
        formula=(options.text("bantime.formula") or "").replace("\n", " "),
        multipliers=tuple(multipliers),
        maxtime_s=options.span_s("bantime.maxtime", None),
        rndtime_s=max(0.0, options.span_s("bantime.rndtime", None) or 0.0),
        overalljails=options.flag("bantime.overalljails", default=False),
    )


def read_ignoreip(options: JailOptions) -> tuple[str, ...]:
    """Addresses, networks, names and `file:` paths, as written. `# …` behind them is no list of names."""
    words: list[str] = []
    for line in (options.text("ignoreip") or "").split("\n"):
        meant, hash_, comment = line.partition("#")
        if hash_:
            options.remark(
                "ignoreip",
                f"`#{comment[:40]}` is no comment where it stands (fail2ban takes its words as host names); it is"
                " passed over here. Write comments on lines of their own",
                "instead",
            )
        words += parse_words(meant)
    for word in words:
        if _looks_like_address(word) and not _is_network(word):
            options.remark(
                "ignoreip",
                f"{word!r} is neither an address nor a network, so it protects nobody; write for example `192.0.2.7`,"
                " `192.0.2.0/24` or `2001:db8::/32`",
            )
    return tuple(words)


def read_logpath(options: JailOptions) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """All paths and globs, and those of them that are to be read from their end (`path tail`)."""
    paths: list[str] = []
    tails: list[str] = []
    for line in (options.text("logpath") or "").split("\n"):
        if "\0" in line:
            options.remark(
                "logpath", f"the path {line!r} has a NUL in it, which no path can; it is left out. Correct it"
            )
            continue
        path, _, word = line.rpartition(" ")
        path = path.rstrip()
        if path and word.lower() in ("head", "tail"):
            if word.lower() == "tail":
                tails.append(path)
        else:
            path = line
        if path != line or " " not in path:
            if path:
                paths.append(path)
            continue
        options.remark(
            "logpath",
            f"the path {path!r} has a blank in it (fail2ban takes {word!r} for `head` or `tail`, and stumbles); it is"
            " taken as one path here. Write each path on a line of its own",
            "instead",
        )
        paths.append(path)
    return tuple(paths), tuple(tails)


def read_logencoding(options: JailOptions) -> str:
    """`auto`, or the name of an encoding."""
    encoding = options.line("logencoding", "auto") or "auto"
    if encoding.lower() != "auto":
        try:
            codecs.lookup(encoding)
        except (LookupError, ValueError):
            options.remark(
                "logencoding", f"there is no encoding {encoding!r}; `auto` is taken. Write for example utf-8"
            )
            return "auto"
    return encoding


def _as_bool(text: str) -> str:
    try:
        return str(parse_bool(text))
    except ValueError:
        return "False"


def _looks_like_address(word: str) -> bool:
    head = word.split("/", 1)[0]
    return not word.startswith("file:") and (":" in head or (bool(head) and set(head) <= set("0123456789.")))


def _is_network(word: str) -> bool:
    try:
        ipaddress.ip_network(word, strict=False)
    except ValueError:
        return False
    return True
