"""A real fail2ban server in a folder of its own, with an action that does nothing; for the tests of this folder."""

from __future__ import annotations

import contextlib
import sqlite3
import subprocess
from collections.abc import Iterator
from pathlib import Path

from netns import wait_until

CLIENT = Path("/usr/bin/fail2ban-client")
SERVER = Path("/usr/bin/fail2ban-server")
JAILS = ("web", "api")
_FILES = {
    "fail2ban.conf": """[DEFAULT]
loglevel = INFO
logtarget = {folder}/fail2ban.log
syslogsocket = auto
socket = {folder}/fail2ban.sock
pidfile = {folder}/fail2ban.pid
dbfile = {folder}/fail2ban.sqlite3
dbpurgeage = 1d
dbmaxmatches = 10
[Definition]
allowipv6 = auto
[Thread]
""",
    "filter.d/one.conf": "[Definition]\nfailregex = ^bad <HOST>$\ndatepattern = {{NONE}}\n",
    "action.d/nothing.conf": "[Definition]\nactionban = true\nactionunban = true\n",
    "jail.conf": """[DEFAULT]
backend = polling
bantime = 1h
findtime = 600
maxretry = 2
ignoreself = false
usedns = no
action = nothing
filter = one
[web]
enabled = true
logpath = {folder}/web.log
          {folder}/more.log
[api]
enabled = true
bantime = -1
logpath = {folder}/api.log
""",
}


class Fail2ban:
    """The server, and its client's words."""

    def __init__(self, folder: Path) -> None:
        assert CLIENT.exists(), "install fail2ban: make setup does"
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        for name, text in _FILES.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text.format(folder=folder))
        for name in ("web.log", "more.log", "api.log"):
            (folder / name).write_text("\n")

    @property
    def database(self) -> Path:
        """Where it keeps its bans."""
        return self.folder / "fail2ban.sqlite3"

    def start(self) -> None:
        """Start it and wait until it answers."""
        command: list[str | Path] = [SERVER, "-c", self.folder, "-f", "start"]
        with (self.folder / "server.out").open("ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)
        wait_until(lambda: self.ask("status").stdout.endswith(f"{', '.join(sorted(JAILS))}\n"), "fail2ban at work")

    def stop(self) -> None:
        """End it in peace."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(30)
            self.process = None

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `fail2ban-client WORDS`."""
        command: list[str | Path] = [CLIENT, "-c", self.folder, *words]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)

    def ban(self, jail: str, *addresses: str) -> None:
        """Ban by hand, and wait until the database has it."""
        assert self.ask("set", jail, "banip", *addresses).stdout == f"{len(addresses)}\n"
        wait_until(lambda: all(self._kept(jail, each) for each in addresses), "bans in fail2ban's database")

    def _kept(self, jail: str, address: str) -> bool:
        query = "SELECT count(*) FROM bips WHERE jail = ? AND ip = ?"
        with contextlib.closing(sqlite3.connect(f"file:{self.database}?mode=ro", uri=True)) as database:
            return bool(database.execute(query, (jail, address)).fetchone()[0])


@contextlib.contextmanager
def fail2ban_in(folder: Path) -> Iterator[Fail2ban]:
    """A server at work, ended after."""
    one = Fail2ban(folder)
    try:
        one.start()
        yield one
    finally:
        one.stop()
