"""This machine's own evidence: the logs of its web servers, the usual files below /var/log, the journal, the kernel."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from shutil import which

from tocsin.explain.evidence.archives import stage
from tocsin.explain.evidence.files import File, Found, find
from tocsin.explain.model import say
from tocsin.server_events import ClockTie
from tocsin.sources.discovery import Discovery, discover
from tocsin.sources.found import FoundLog
from tocsin.sources.journal import Journal
from tocsin.sources.rotation import siblings_of

USUAL = (
    *("syslog*", "messages*", "kern.log*", "daemon.log*", "cron.log*", "cron", "user.log*", "auth.log*", "secure*"),
    *("dmesg*", "dpkg.log*", "apt/history.log*", "fail2ban.log*", "mysql/*", "mysql*.log*", "mysqld*.log*"),
    *(
        "mariadb/*",
        "postgresql/*",
        "php*.log*",
        "php-fpm/*",
        "apache2/*error*",
        "httpd/*error*",
        "nginx/*error*",
        "tocsin/*.log*",
    ),
)
JOURNAL_LINES = 300_000
"""The last so many lines of the journal: an hour of a very busy machine, weeks of a quiet one."""

_DAYS = 30
_WAIT_S = 120.0
_CHUNK_BYTES = 1 << 18
_ROOM_BYTES = 512 << 20


def find_own(root: Path = Path("/")) -> Found:
    """Everything on this machine that may tell of an outage. What may not be read is named."""
    discovery = discover(root)
    declared: dict[str, FoundLog] = {}
    for log in discovery.logs:
        if log.exists and log.readable:
            for path in _files(root, log):
                declared.setdefault(path, log)
    usual = [str(path) for pattern in USUAL for path in sorted((root / "var/log").glob(pattern)) if path.is_file()]
    found = find([Path(path) for path in dict.fromkeys([*declared, *usual])])
    for file in found.files:
        known = declared.get(file.name)
        if known is not None and known.kind == "access":
            file.format, file.vhost = known.format, known.vhost
    _refuse(discovery, found)
    if root == Path("/"):
        _add_journal(found)
        _add_dmesg(found)
    return found


def _files(root: Path, log: FoundLog) -> list[str]:
    """The files of a declared log, its rotations too."""
    path = root / log.path.lstrip("/")
    named = sorted(path.parent.glob(path.name)) if "*" in log.path or "?" in log.path else [path]
    named = [one for one in named if f"/{one.relative_to(root)}" not in log.exclude]
    return [name for one in named for name in (str(one), *(sibling.path for sibling in siblings_of(str(one))))]


def _refuse(discovery: Discovery, found: Found) -> None:
    for one in discovery.unreadable:
        text = "It cannot be read ({what}); {remedy}."
        found.refuse(one.path, "unread", say(text, what=one.reason, remedy=one.remedy))


def _add_journal(found: Found) -> None:
    journal = Journal(())
    if not journal.available:
        found.notes.append(say("There is no journal: {why}.", why=journal.why_not))
        return
    program = which("journalctl") or "journalctl"
    span = (f"--lines={JOURNAL_LINES}", f"--since=-{_DAYS}days")
    _add_output("journal", (program, "--no-pager", "--quiet", "--output=short-iso-precise", *span), found)


def _add_dmesg(found: Found) -> None:
    program = which("dmesg")
    if program is None:
        return
    if _add_output("dmesg", (program,), found):
        found.ties.append(ClockTie(time.time(), time.clock_gettime(time.CLOCK_MONOTONIC)))


def _add_output(name: str, command: Sequence[str], found: Found) -> bool:
    """What a program prints, as a file."""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C.UTF-8", "TZ": os.environ.get("TZ", "")}
    if not environment["TZ"]:
        del environment["TZ"]
    child = subprocess.Popen(  # noqa: S603  an absolute program, arguments we made, no shell
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    try:
        fd = stage(_output(child), [_ROOM_BYTES])
    finally:
        child.kill()
        child.wait()
    if fd is None or not os.fstat(fd).st_size:
        found.refuse(name, "unread", say("It is too large.") if fd is None else say("It is empty, or may not be read."))
        if fd is not None:
            os.close(fd)
        return False
    found.files.append(File(name, f"/proc/self/fd/{fd}", os.fstat(fd).st_size, time.time(), fd))
    return True


def _output(child: subprocess.Popen[bytes]) -> Iterator[bytes]:
    """What a child writes, for so long as it may run."""
    until = time.monotonic() + _WAIT_S
    stream = child.stdout
    while stream is not None and time.monotonic() < until and (data := os.read(stream.fileno(), _CHUNK_BYTES)):
        yield data
    if stream is not None:
        stream.close()
