"""Databases as fail2ban has written them: the newest by the installed fail2ban itself, older ones by their schema."""

from __future__ import annotations

import json
import sqlite3
import subprocess
from collections.abc import Iterable, Sequence
from contextlib import closing
from pathlib import Path

PYTHON = Path("/usr/bin/python3")
PACKAGE = Path("/usr/lib/python3/dist-packages/fail2ban")
WRITE = """
import json, sys
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.ticket import BanTicket

class Jail:
    def __init__(self, name):
        self.name = name
    class actions:
        @staticmethod
        def getBanTime():
            return 600

path, rows, ended = json.load(sys.stdin)
database = Fail2BanDb(path)
for name, ip, start, seconds, times in rows:
    jail = Jail(name)
    database.addJail(jail)
    ticket = BanTicket(ip, start, ["a line of the log"])
    ticket.setBanTime(seconds)
    ticket.setBanCount(times)
    database.addBan(jail, ticket)
for name in ended:
    database.delJail(Jail(name))
database.close()
"""

Row = tuple[str, str, int, float, int]
"""Jail, address, when, for how long, which ban it is."""


def written_by_fail2ban(path: Path, rows: Iterable[Row], ended: Sequence[str] = ()) -> Path:
    """A database of the installed fail2ban; the jails in `ended` do not run any more."""
    assert PACKAGE.is_dir(), "install fail2ban: make setup does"
    given = json.dumps((str(path), list(rows), list(ended)))
    subprocess.run([PYTHON, "-c", WRITE], input=given, text=True, check=True, capture_output=True)
    return path


def of_version_2(path: Path, rows: Iterable[tuple[str, str, int]], version: int = 2) -> Path:
    """A database of fail2ban 0.9 or 0.10: a row a ban, without its length."""
    with closing(sqlite3.connect(path)) as database, database:
        database.execute("CREATE TABLE fail2banDb (version INTEGER)")
        database.execute("INSERT INTO fail2banDb VALUES (?)", (version,))
        database.execute("CREATE TABLE jails (name TEXT NOT NULL UNIQUE, enabled INTEGER NOT NULL DEFAULT 1)")
        database.execute("CREATE TABLE logs (jail TEXT NOT NULL, path TEXT, firstlinemd5 TEXT, lastfilepos INTEGER)")
        database.execute("CREATE TABLE bans (jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, data JSON)")
        database.execute("CREATE INDEX bans_ip ON bans(ip)")
        for jail, ip, start in rows:
            database.execute("INSERT OR IGNORE INTO jails VALUES (?, 1)", (jail,))
            database.execute("INSERT INTO bans VALUES (?, ?, ?, '{}')", (jail, ip, start))
    return path
