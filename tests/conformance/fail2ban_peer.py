"""fail2ban's own classes at work, in a process of the system's Python that stays up; what they find, as JSON.

Imported it is a client: `Peer` starts this file with /usr/bin/python3, beside Debian's package, and asks it. A request
is one line `{"do": NAME, ...}`, the answer one line; NAME is a function of `Work`.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator
from importlib import import_module
from typing import Any

PYTHON = "/usr/bin/python3"
PACKAGE = "/usr/lib/python3/dist-packages"
CONFIG = "/etc/fail2ban"
UNREADABLE = (KeyError, TypeError, ValueError, OverflowError, AttributeError)
MISSING = "install fail2ban: make setup does"


class Silent(Exception):  # noqa: N818  an answer that did not come in time; some tests expect it
    """No answer in time."""


class Peer:
    """The client. It is unusable after `Silent`: the process is still at its regex."""

    def __init__(self, zone: str = "UTC") -> None:
        assert os.path.isdir(f"{PACKAGE}/fail2ban"), MISSING  # noqa: PTH112  this runs on any Python
        self.process = subprocess.Popen(
            [PYTHON, __file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env={"TZ": zone, "PATH": "/usr/bin:/bin", "LC_ALL": "C.UTF-8"},
        )

    def ask(self, do: str, within_s: float = 60.0, **details: Any) -> Any:
        """The answer. Silent where none comes in time; AssertionError with the reason where there is none."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"do": do, **details}).encode() + b"\n")
        self.process.stdin.flush()
        if not select.select([self.process.stdout], [], [], within_s)[0]:
            raise Silent(do)
        said = self.process.stdout.readline()
        assert said, f"fail2ban's process has ended at {do}"
        answer = json.loads(said)
        assert "error" not in answer, answer["error"]
        return answer["answer"]

    def close(self) -> None:
        """End it, whatever it does."""
        self.process.kill()
        self.process.wait()
        for pipe in (self.process.stdin, self.process.stdout):
            if pipe is not None:
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()


@contextlib.contextmanager
def peer(zone: str = "UTC") -> Iterator[Peer]:
    """One at work, ended after."""
    one = Peer(zone)
    try:
        yield one
    finally:
        one.close()


# -- in the process of the system's Python ---------------------------------------------------------------------------


class Work:
    """What can be asked for."""

    def __init__(self) -> None:
        server = "fail2ban.server."
        self.clock = import_module(server + "mytime").MyTime
        self.filters = import_module(server + "filter")
        self.polling = import_module(server + "filterpoll").FilterPoll
        self.dates = import_module(server + "datedetector").DateDetector
        self.addresses = import_module(server + "ipdns").IPAddr
        self.reader = import_module("fail2ban.client.filterreader").FilterReader
        self.jail = import_module("fail2ban.tests.dummyjail").DummyJail
        self.watched: list[Any] = []
        self.made: list[tuple[Any, str | None, bool]] = []

    # Limits and files: a jail whose bans are only noted.

    def bans_at(self, times: list[float], maxretry: int, findtime: float) -> int | None:
        """At which of an address's failures (from 1) it is banned."""
        jail = self.jail()
        one = self.filters.Filter(jail)
        one.addFailRegex("^failure of <HOST>$")
        one.setMaxRetry(maxretry)
        one.setFindTime(findtime)
        one.inOperation = True
        for count, ts in enumerate(times, 1):
            self.clock.setTime(ts)
            one.processLineAndAdd(("", "", "failure of 192.0.2.7"), ts)
            if len(jail):
                return count
        return None

    def watch(self, path: str, failregex: str, jails: int = 1) -> None:
        """Some jails on a file, each of which bans at the first failure. The clock is the machine's."""
        self.clock.setTime(None)
        self.watched = []
        for _ in range(jails):
            one = self.polling(self.jail())
            one.addFailRegex(failregex)
            one.setMaxRetry(1)
            one.setUseDns("no")
            one.active = True
            one.addLogPath(path, autoSeek=False)
            self.watched.append((one, path))

    def look(self) -> dict[str, Any]:
        """Each looks at its file once, as when it is told that it has changed. Whom the first has banned since the last
        look, and how many bytes all together had read for them.
        """
        before = read_bytes()
        for one, path in self.watched:
            one.getFailures(path)
        read = read_bytes() - before
        queue = self.watched[0][0].jail.queue
        banned = [str(ticket.getID()) for ticket in queue]
        queue.clear()
        return {"banned": banned, "read": read}

    def restorable(self, path: str, jail: str, count: int, bantime: int) -> list[str]:
        """A database as a server leaves it, with so many bans of a jail in force."""
        database = import_module("fail2ban.server.database").Fail2BanDb(path)
        ticket_of = import_module("fail2ban.server.ticket").BanTicket
        one = self.jail(name=jail)
        database.addJail(one)
        addresses = [f"{20 + n % 100}.{n // 100 % 256}.{n // 25_600}.{1 + n % 253}" for n in range(count)]
        for address in addresses:
            ticket = ticket_of(address, int(time.time()))
            ticket.setBanTime(bantime)
            database.addBan(one, ticket)
        database.close()
        return addresses

    # Filters and lines.

    def filter(self, name: str, options: dict[str, str] | None = None, directory: str = CONFIG) -> int:
        """Make a filter ready, read as a jail would; its number."""
        one = self.filters.Filter(None)
        one.returnRawHost = True
        one.checkFindTime = False
        one.active = True
        reader = self.reader(name, "jail", dict(options or {}), basedir=directory)
        reader.read()
        reader.getOptions({})
        datepattern = None
        setters = {"addfailregex": one.addFailRegex, "addignoreregex": one.addIgnoreRegex, "maxlines": one.setMaxLines}
        for command in reader.convert():
            for value in command[3] if command[0] == "multi-set" else [command[3]]:
                if command[2] == "prefregex":
                    one.prefRegex = value
                elif command[2] == "datepattern":
                    datepattern = value
                elif command[2] in setters:
                    setters[command[2]](value)
        self.made.append((one, datepattern, (options or {}).get("logtype") == "journal"))
        return len(self.made) - 1

    def lines(self, number: int, lines: list[str], now_ts: float, *, together: bool = False) -> list[Any]:
        """Of each line the date, [start, end, time], and what a filter finds, [id, time, fields]. Each is the first
        that it sees; those that are seen `together` share connections, but not what it learns of dates.
        """
        one, datepattern, journal = self.made[number]
        self.clock.setTime(now_ts)
        found = []
        for place, raw in enumerate(lines):
            line = raw.rstrip("\r\n")
            if place == 0 or not together:
                one.mlfidCache.clear()
                one._Filter__lineBuffer = []
            date = None if journal else self.date(one, datepattern, line)
            self.renew(one, datepattern, dates=place == 0 or not together or one.getMaxLines() == 1)
            found.append([date, self.found(one, line, now_ts if journal else None)])
        return found

    def renew(self, one: Any, datepattern: str | None, *, dates: bool = True) -> None:
        """A date detector that has learned nothing; with `dates` no date of an earlier line either."""
        if dates:
            one._Filter__lastDate = None
            one._Filter__lastTimeText = ""
        if datepattern is None:
            one.dateDetector = self.dates()
            one.dateDetector.addDefaultTemplate()
        else:
            one.setDatePattern(datepattern)

    def date(self, one: Any, datepattern: str | None, line: str) -> list[Any] | None:
        """Where its date is, and what it tells: None where that is no instant."""
        self.renew(one, datepattern, dates=False)
        match, template = one.dateDetector.matchTime(line)
        if match is None:
            return None
        start, end = match.span(1)
        try:
            told = one.dateDetector.getTime(line[start:end], (match, template))
        except UNREADABLE:
            told = None
        return [start, end, told[0] if told else None]

    def found(self, one: Any, line: str, ts: float | None) -> list[Any]:
        """A line's failures; a text where its date cannot be read at all."""
        try:
            rows = one.processLine(line) if ts is None else one.processLine(("", "", line), ts)
        except UNREADABLE as error:
            return [repr(error)]
        return [
            [str(fid), ts, {name: plain(value) for name, value in fields.items()}, str(fields.get("ip", ""))]
            for _, fid, ts, fields in rows
            if fid is not None and not fields.get("nofail")
        ]


def plain(value: Any) -> Any:
    """A captured value as JSON can have it."""
    if isinstance(value, set | list | tuple):
        return len(value)
    return value if value is None or isinstance(value, int | float) else str(value)


def read_bytes() -> int:
    """What this process has read so far, through system calls."""
    with open("/proc/self/io", encoding="ascii") as file:  # noqa: PTH123  one line of /proc
        return int(next(line for line in file if line.startswith("rchar")).split()[1])


def main() -> None:
    """Answer until nobody asks any more."""
    sys.path.insert(0, PACKAGE)
    logging.disable(logging.CRITICAL)
    work = Work()
    for request in sys.stdin:
        asked = json.loads(request)
        try:
            said = {"answer": getattr(work, asked.pop("do"))(**asked)}
        except Exception as error:  # noqa: BLE001  whatever it is, it is told
            said = {"error": repr(error)}
        print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
