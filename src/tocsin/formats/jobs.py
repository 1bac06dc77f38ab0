"""What package managers and fail2ban write down: software that changed, and who was banned.

All three stand in the server's own zone, which none of them names.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import UTC
from ipaddress import ip_network

from tocsin.formats.addresses import canonical
from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.entries import Entries
from tocsin.formats.told import Told
from tocsin.server_events import Banned, Changed, JobStarted

LINE_CHARACTERS = 4096
PACKAGES_CHARACTERS = 500_000
"""apt names all packages of a run in one line."""

MOST_PENDING = 10_000
COMMAND_CHARACTERS = 500


class _Log(Entries):
    """What the three share: empty lines say nothing of the kind of a log, and one without any time is none of them."""

    kind = "packages"

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How much of the lines that are not empty fits."""
        log, anchor = cls(), Anchor(0.0, UTC)
        for number, line in enumerate(lines, start=1):
            log.tell(line, number, anchor)
        written = sum(1 for line in lines if line.strip())
        return (written - log.unparsed) / written if written and log.ts is not None else 0.0


_DPKG = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}) "
    r"(startup|status|install|upgrade|remove|purge|configure|trigproc|disappear|conffile) (\S+(?: \S+){0,3})"
).fullmatch


class DpkgLog(_Log):
    """/var/log/dpkg.log. `upgrade`, `install`, `remove` and `purge` say when a change began, `status installed` when
    it was done; that of a package which merely ran its triggers is no change.
    """

    name = "dpkg"

    def __init__(self) -> None:
        super().__init__()
        self._pending: set[str] = set()

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells."""
        match = _DPKG(line[:LINE_CHARACTERS].rstrip())
        ts = iso_ts(match[1], anchor) if match else None
        if match is None or ts is None:
            return self._misfit(line)
        self.ts = ts
        changed = self._changed(ts, match[2], match[3].split(" "))
        return () if changed is None else (self._told(changed, line, number),)

    def _changed(self, ts: float, verb: str, words: list[str]) -> Changed | None:
        if verb == "status":
            if len(words) < 3 or words[0] != "installed" or words[1] not in self._pending:
                return None
            self._pending.discard(words[1])
            return Changed(ts, _package(words[1]), f"installed {words[2]}")
        if verb in {"install", "upgrade", "configure"} and len(self._pending) < MOST_PENDING:
            self._pending.add(words[0])
        if verb not in {"install", "upgrade", "remove", "purge"}:
            return None
        return Changed(ts, _package(words[0]), " ".join([verb, *(word for word in words[1:] if word != "<none>")]))


def _package(name: str) -> str:
    return name.partition(":")[0]


_APT = re.compile(
    r"(Start-Date|End-Date|Commandline|Requested-By|Comment|Error|Install|Upgrade|Downgrade|Reinstall|Remove|Purge|"
    r"Disappeared): *(.*)"
).fullmatch
_APT_TIME = re.compile(r"([0-9]{4}-[0-9]{2}-[0-9]{2}) +([0-9]{2}:[0-9]{2}:[0-9]{2})").fullmatch
_APT_PACKAGE = re.compile(r"([A-Za-z0-9][A-Za-z0-9+.-]{0,127})(?::[a-z0-9-]{1,20})? \(([^()]{0,300})\)").finditer
_CHANGES = frozenset(("Install", "Upgrade", "Downgrade", "Reinstall", "Remove", "Purge"))


class AptHistory(_Log):
    """/var/log/apt/history.log: each run with its command line, then what it changed, all at the time of its start."""

    name = "apt-history"

    def __init__(self) -> None:
        super().__init__()
        self._start_ts: float | None = None
        self._command = ""
        self._user: str | None = None
        self._where = 0, ""
        self._changes: list[tuple[str, str, int, str]] = []

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """A run, when it ends."""
        match = _APT(line[:PACKAGES_CHARACTERS].rstrip())
        if match is None:
            return self._misfit(line) if line.strip() else self.finish()
        key, value = match[1], match[2]
        if key == "Start-Date":
            told = self.finish()
            self._begin(value, line, number, anchor)
            return told
        if key in _CHANGES:
            self._changes.append((key.lower(), value, number, line))
        elif key == "Commandline":
            self._command, self._where = value[:COMMAND_CHARACTERS], (number, line)
        elif key == "Requested-By":
            self._user = value.partition(" ")[0][:64]
        elif key == "End-Date":
            self.ts = self._time(value, anchor) or self.ts
            return self.finish()
        return ()

    def finish(self) -> Sequence[Told]:
        """The run that is open, if any."""
        ts, self._start_ts = self._start_ts, None
        changes, self._changes = self._changes, []
        if ts is None:
            return ()
        number, line = self._where
        job = JobStarted(ts, "apt", self._command or "apt", self._user)
        told = [self._told(job, line, number)]
        for verb, value, where, text in changes:
            told.extend(self._told(changed, text, where) for changed in _changes(ts, verb, value))
        return told

    def _begin(self, value: str, line: str, number: int, anchor: Anchor) -> None:
        self._start_ts = self._time(value, anchor)
        self._command, self._user, self._where = "", None, (number, line)
        if self._start_ts is None:
            self._misfit(line)
        else:
            self.ts = self._start_ts

    def _time(self, value: str, anchor: Anchor) -> float | None:
        match = _APT_TIME(value)
        return iso_ts(f"{match[1]} {match[2]}", anchor) if match else None


def _changes(ts: float, verb: str, value: str) -> Iterator[Changed]:
    for match in _APT_PACKAGE(value):
        versions = " ".join(part for part in match[2].split(", ") if part != "automatic")
        yield Changed(ts, match[1], f"{verb} {versions}".rstrip())


_FAIL2BAN = re.compile(
    r"(?:([0-9]{4}-[0-9]{2}-[0-9]{2} [0-9]{2}:[0-9]{2}:[0-9]{2}(?:,[0-9]{1,6})?)"
    r"|([A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2}) \S{1,255}(?: fail2ban-server(?:\[[0-9]{1,10}\])?:)?)"
    r" +fail2ban(?:\.[\w.]{1,40})? *(?:\[[0-9]{1,10}\])? ?: *(?:[A-Z]{4,8})[: ] *(.*)"
).fullmatch
_BAN = re.compile(r"\[([^\[\]]{1,100})\] (?:Restore )?(Ban|Unban) (\S{2,64})").fullmatch
_CONTINUES = (" ", "\t", "Traceback (most recent call last)")


class Fail2banLog(_Log):
    """fail2ban's own log, of any version from 0.7 on, or its lines in syslog. `Restore Ban` is a ban again."""

    name = "fail2ban"
    kind = "bans"

    def __init__(self) -> None:
        super().__init__()
        self._stamp = Stamp([time_piece("%b %e %H:%M:%S")])

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells."""
        match = _FAIL2BAN(line[:LINE_CHARACTERS].rstrip())
        if match is None:
            return () if self.ts is not None and line.startswith(_CONTINUES) else self._misfit(line)
        ts = iso_ts(match[1], anchor) if match[1] else self._stamp.ts(match[2], anchor)
        if ts is None:
            return self._misfit(line)
        self.ts = ts
        ban = _BAN(match[3])
        subject = _subject(ban[3]) if ban else None
        if ban is None or subject is None:
            return ()
        verb: str = ban[2].lower()
        return (self._told(Banned(ts, ban[1], subject, "ban" if verb == "ban" else "unban"), line, number),)


def _subject(text: str) -> str | None:
    """The address or network in its one spelling; None for what else a jail may ban by."""
    if "/" not in text:
        return canonical(text)
    try:
        return str(ip_network(text, strict=False))
    except ValueError:
        return None
