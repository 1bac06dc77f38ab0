"""Finds a machine's web logs, unconfigured: from its web servers' configurations, then in the usual places.

Nothing is guessed that can be read: a log found in a configuration comes with its format, its virtual host and the line
that says so; one found in a usual place only with its path. What cannot be read is reported with what to do about it.
"""

from __future__ import annotations

import fnmatch
import re
import stat
import time
from pathlib import Path

from msgspec import Struct
from msgspec.structs import replace

from tocsin.sources.apache_config import read_apache
from tocsin.sources.caddy_config import read_caddy
from tocsin.sources.found import (
    AS_ROOT,
    Declared,
    Discovery,
    Findings,
    FoundLog,
    LogKind,
    Unreadable,
    literal,
    printable,
)
from tocsin.sources.nginx_config import read_nginx
from tocsin.sources.rooted import RootedTree, has_magic, strerror

__all__ = ["Discovery", "FoundLog", "Unreadable", "discover"]

USUAL_PLACE = "usual place"
# (glob, kind, format, server); an authentication log's shape is known, a web server's is sniffed
USUAL_PLACES: tuple[tuple[str, LogKind, str, str], ...] = (
    ("/var/log/apache2/*access*.log", "access", "", "apache"),
    ("/var/log/httpd/*access*log", "access", "", "apache"),
    ("/var/log/nginx/*access*.log", "access", "", "nginx"),
    ("/var/log/caddy/*.log", "access", "", "caddy"),
    ("/var/log/lighttpd/*access*.log", "access", "", "lighttpd"),
    ("/var/log/auth.log", "auth", "sshd", "sshd"),
    ("/var/log/secure", "auth", "sshd", "sshd"),
)
_FINISHED = re.compile(r"\.(?:gz|xz|zst|bz2|lz4|Z)$")
_NOT_FILES = ("/dev", "/proc", "/sys")


def discover(root: Path = Path("/"), now_ts: float | None = None) -> Discovery:
    """All web and login logs of the machine whose files lie below `root`.

    Ages are counted from `now_ts` (None: the clock). Raises nothing: what cannot be read is part of the answer.
    """
    tree = RootedTree(root)
    findings = Findings()
    for read in (read_apache, read_nginx, read_caddy):
        read(tree, findings)
    declared = _merged(tree, findings)
    found = _Prober(tree, findings, time.time() if now_ts is None else now_ts).probe(declared)
    return Discovery(tuple(found), tuple(findings.unreadable), tuple(findings.configs))


def _merged(tree: RootedTree, findings: Findings) -> list[Declared]:
    """One entry a log: the same file named by several sites belongs to none of them alone."""
    merged: dict[tuple[str, LogKind], Declared] = {}
    for log in findings.declared:
        if printable(log.path) != log.path:
            findings.refuse(
                log.path, "the path holds bytes that are not printable text", "rename the log", log.found_in
            )
            continue
        try:
            settled = replace(log, path=tree.settled(log.path))
        except OSError as error:
            findings.refuse(log.path, strerror(error), "correct the path", log.found_in)
            continue
        key = settled.path, settled.kind
        merged[key] = _joined(merged[key], settled) if key in merged else settled
    return list(merged.values())


def _joined(first: Declared, second: Declared) -> Declared:
    notes = [first.note, second.note if second.note not in first.note else ""]
    form = first.format
    if first.format != second.format:
        form = ""
        conflict = f"{first.found_in} and {second.found_in} write it in different formats"
        notes.append(conflict if "different formats" not in first.note else "")
    vhost = first.vhost if first.vhost == second.vhost else None
    return replace(first, format=form, vhost=vhost, note="; ".join(note for note in notes if note))


class _State(Struct, frozen=True):
    """What there is to see of one path."""

    exists: bool
    readable: bool = False
    size_bytes: int | None = None
    written_ts: float | None = None


class _Prober:
    """Looks at the files themselves."""

    def __init__(self, tree: RootedTree, findings: Findings, now_ts: float) -> None:
        self._tree = tree
        self._findings = findings
        self._now_ts = now_ts

    def probe(self, declared: list[Declared]) -> list[FoundLog]:
        """Every declared log with its state, then the usual places that none of them covers."""
        single = {log.path for log in declared if not has_magic(log.path)}
        found: list[FoundLog] = []
        for log in sorted(declared, key=lambda log: has_magic(log.path)):  # whoever takes the first that fits errs not
            found += self._probe(log, single)
        globs = [log for log in found if has_magic(log.path)]
        for pattern, kind, form, server in USUAL_PLACES:
            for path in self._unclaimed(pattern, single, globs):
                found += self._probe(Declared(literal(path), kind, form, None, USUAL_PLACE, server), single)
        return found

    def _probe(self, log: Declared, single: set[str]) -> list[FoundLog]:
        item = self._glob(log, single) if has_magic(log.path) else self._single(log)
        return [] if item is None else [item]

    def _unclaimed(self, pattern: str, single: set[str], globs: list[FoundLog]) -> list[str]:
        """Existing files of a usual place that no configuration speaks of."""
        paths, failed = self._tree.glob(pattern)
        if failed and not any(_below(path, failed[0][0]) for path in single):
            self._findings.refuse(failed[0][0], strerror(failed[0][1]), AS_ROOT, USUAL_PLACE)
        unclaimed = []
        for path in paths:
            settled = self._tree.settled(path)
            if settled not in single and not any(_matches(settled, log) for log in globs) and settled not in unclaimed:
                unclaimed.append(settled)
        return unclaimed

    def _single(self, log: Declared) -> FoundLog | None:
        try:
            actual = self._tree.canonical(log.path)
        except OSError as error:
            self._findings.refuse(log.path, strerror(error), "correct the link", log.found_in)
            return None
        if actual == "/dev/null":
            return None
        if any(_below(actual, place) for place in _NOT_FILES):
            remedy = "let the server write a file, or feed its output to `tocsin guard` by a journal or a pipe"
            self._findings.refuse(log.path, f"leads to {printable(actual)}, which is no file", remedy, log.found_in)
            return None
        return self._found(log, [self._look(log.path, log.found_in)], ())

    def _glob(self, log: Declared, single: set[str]) -> FoundLog:
        paths, failed = self._tree.glob(log.path)
        for directory, error in failed:
            self._findings.refuse(directory, strerror(error), AS_ROOT, log.found_in)
        other = [path for path in paths if self._tree.settled(path) in single]
        living = [path for path in paths if path not in other and not _FINISHED.search(path)]
        return self._found(log, [self._look(path, log.found_in) for path in living], tuple(other))

    def _found(self, log: Declared, states: list[_State], exclude: tuple[str, ...]) -> FoundLog:
        there = [state for state in states if state.exists]
        written = [state.written_ts for state in there if state.written_ts is not None]
        sizes = [state.size_bytes for state in there if state.size_bytes is not None]
        return FoundLog(
            path=log.path,
            kind=log.kind,
            format=log.format,
            vhost=log.vhost,
            found_in=log.found_in,
            server=log.server,
            exists=bool(there),
            readable=bool(there) and all(state.readable for state in there),
            files=len(there),
            size_bytes=sum(sizes) if sizes else None,
            age_s=max(0.0, self._now_ts - max(written)) if written else None,
            exclude=exclude,
            note=log.note,
        )

    def _look(self, path: str, found_in: str) -> _State:
        """Stat the file, and read nothing of it but open it: the kernel alone knows whether we may."""
        try:
            status = self._tree.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return _State(exists=False)
        except OSError as error:
            self._findings.refuse(path, strerror(error), AS_ROOT, found_in)
            return _State(exists=False)
        if not stat.S_ISREG(status.st_mode):
            self._findings.refuse(path, "is no regular file", "name a file under [[log]]", found_in)
            return _State(exists=True)
        readable = True
        try:
            self._tree.may_read(path)
        except OSError as error:
            self._findings.refuse(path, strerror(error), AS_ROOT, found_in)
            readable = False
        return _State(exists=True, readable=readable, size_bytes=status.st_size, written_ts=status.st_mtime)


def _below(path: str, directory: str) -> bool:
    return path.startswith(f"{directory.rstrip('/')}/")


def _matches(path: str, log: FoundLog) -> bool:
    """Whether a glob names the path, segment by segment."""
    names, patterns = path.split("/"), log.path.split("/")
    return len(names) == len(patterns) and all(map(fnmatch.fnmatchcase, names, patterns))
