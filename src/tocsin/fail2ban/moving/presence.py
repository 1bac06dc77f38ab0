"""Where fail2ban keeps its things on this machine, and whether it runs."""

from __future__ import annotations

import socket
from collections.abc import Mapping
from pathlib import Path

from msgspec import Struct

from tocsin.config_model import ConfigErrors
from tocsin.fail2ban.settings.loader import load

DATABASE = "/var/lib/fail2ban/fail2ban.sqlite3"
SOCKET = "/var/run/fail2ban/fail2ban.sock"
PIDFILE = "/var/run/fail2ban/fail2ban.pid"
ANSWER_WITHIN_S = 1.0


class Presence(Struct, frozen=True):
    """What its configuration says, or its defaults where `trouble` says that there is none to read.

    `database` is None where it keeps none. `jails` are those that are enabled (None: unknown), `bantimes_s` their
    `bantime` (None: for good). `running` says by what it was seen to run, "" where it does not.
    """

    database: Path | None
    jails: frozenset[str] | None
    bantimes_s: Mapping[str, float | None]
    running: str
    trouble: str = ""


def presence(directory: Path) -> Presence:
    """Look at a configuration, and for the fail2ban that it is of."""
    try:
        loaded = load(directory)
    except (ConfigErrors, OSError) as error:
        running = seen_running(Path(SOCKET), Path(PIDFILE))
        return Presence(Path(DATABASE), None, {}, running, str(error).splitlines()[0])
    settings = loaded.settings
    database = settings.get("dbfile", DATABASE)
    jails = frozenset(jail.name for jail in loaded.jails)
    return Presence(
        None if database.lower() == "none" else Path(database),
        jails or None,
        {jail.name: jail.bantime_s for jail in loaded.jails},
        seen_running(Path(settings.get("socket", SOCKET)), Path(settings.get("pidfile", PIDFILE))),
    )


def seen_running(path: Path, pidfile: Path) -> str:
    """By what a fail2ban is seen to run: its socket takes a connection, or its process is there; "" where neither."""
    try:
        with socket.socket(socket.AF_UNIX) as client:
            client.settimeout(ANSWER_WITHIN_S)
            client.connect(str(path))
    except OSError:
        return _process(pidfile)
    return f"it answers on {path}"


def _process(pidfile: Path) -> str:
    try:
        pid = int(pidfile.read_text().strip()[:20])
        words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
    except (OSError, ValueError):
        return ""
    return f"process {pid}" if any(word.rpartition(b"/")[2] == b"fail2ban-server" for word in words[:3]) else ""
