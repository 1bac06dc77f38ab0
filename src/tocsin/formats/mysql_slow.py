"""The slow query log of MySQL (5.5 to 8.0), MariaDB and Percona Server.

An entry: `# Time:` (5.5 leaves it out within a second), `# User@Host:`, `# Query_time:` with more in whichever lines,
`use db;` when it changed, `SET timestamp=`, the statement over any number of lines, its last one ended by `;`.

`# Time` and `SET timestamp` are the end of the statement in MySQL, where 8.0.14 and later give its start in `SET
timestamp` but the end in `# Time`; in MariaDB both are its start (measured with 10.11; older ones may differ).
`SET timestamp` names its zone by nature, the `# Time: 161209 14:37:59` of 5.5 does not.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.entries import Entries, cut
from tocsin.formats.told import Told
from tocsin.server_events import SlowQuery

QUERY_CHARACTERS = 500
_LONGEST_STATEMENT = 1 << 20
"""Characters of a statement in which a line that looks like the next entry's is taken for the statement's own."""

_TIME = re.compile(
    r"# Time: (?:(?P<old>[0-9]{6} {1,2}[0-9]{1,2}:[0-9]{2}:[0-9]{2})(?:\.[0-9]{1,6})?"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]{8}(?:\.[0-9]{1,6})?(?:Z|[+-][0-9]{2}:[0-9]{2})))\s*$"
).match
_USER = re.compile(r"# User@Host: ([^\[]{0,200})\[([^\]]{0,200})\] @ ").match
_QUERY_TIME = re.compile(r"# Query_time: ([0-9]{1,10}(?:\.[0-9]{1,9})?)  ?Lock_time: ").match
_EXAMINED = re.compile(r" Rows_examined: ([0-9]{1,18})\b")
_SCHEMA = re.compile(r"[# ] Schema: ([^ ]{0,200}) ")
_START = re.compile(r" Start: ([0-9]{4}-[0-9T:.-]{1,30}(?:Z|[+-][0-9]{2}:[0-9]{2})) ")
_USE = re.compile(r"use `?([^`;]{1,200})`?;$").match
_SET = re.compile(r"SET timestamp=([0-9]{1,12})(?:\.[0-9]{1,6})?;$").match
_SERVER = re.compile(r"\S{1,200}, Version: .{1,200}\. started with:$").match
_BANNER = ("Tcp port: ", "TCP Port: ", "Time  ", "Time\t")


class MysqlSlow(Entries):
    """The slow query log. An entry is told when it ends: with the next one's beginning, or the file's end."""

    name = "mysql-slow"
    kind = "slow-query"

    def __init__(self) -> None:
        super().__init__()
        self.clock = "zone"
        self._stamp = Stamp([time_piece("%y%m%d %k:%M:%S")])
        self._mariadb = False
        self._schema: str | None = None
        self._time: tuple[float, bool] | None = None
        self._begun = False
        self._clear()

    def _clear(self) -> None:
        self._user: str | None = None
        self._duration_s: float | None = None
        self._examined: int | None = None
        self._start_ts: float | None = None
        self._set_ts: float | None = None
        self._proof = ("", 0)
        self._query: list[str] = []
        self._kept = self._passed = 0
        self._complete = True

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """The entry before, where a line begins the next."""
        line = cut(line)
        if self._in_statement():
            self._passed += len(line) + 1
            if not _SERVER(line):
                self._statement(line)
                return ()
        if line.startswith("# "):
            return self._header(line, number, anchor)
        if _SERVER(line):
            return self._banner(line)
        if not self._begun:
            return () if line.startswith(_BANNER) else self._misfit(line)
        self._body(line)
        return ()

    def _in_statement(self) -> bool:
        return not self._complete and self._passed < _LONGEST_STATEMENT

    def _header(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        time = _TIME(line)
        if time is not None:
            told = self.finish()
            return told if self._named(time, anchor) else (*told, *self._misfit(line))
        user = _USER(line)
        if user is not None:
            told = self.finish()
            self._begun = True
            self._user = user[2] or user[1] or None
            return told
        if not self._begun:
            return self._misfit(line)
        self._figures(line, number, anchor)
        return ()

    def _named(self, time: re.Match[str], anchor: Anchor) -> bool:
        if time["iso"]:
            ts = iso_ts(time["iso"], anchor)
        else:
            day, _, hour = time["old"].partition(" ")
            ts = self._stamp.ts(f"{day} {hour.strip():>8}", anchor)
        if ts is None:
            return False
        self._time = (ts, time["iso"] is not None)
        self.ts = ts
        return True

    def _figures(self, line: str, number: int, anchor: Anchor) -> None:
        """`# Query_time` and its neighbours, in whichever order this server writes them."""
        if self._query or self._set_ts is not None:
            if line.startswith("# administrator command: "):
                self._body(line)
            return
        duration = _QUERY_TIME(line)
        if duration is not None:
            self._duration_s = float(duration[1])
            self._proof = (line, number)
        if " QC_hit: " in line:
            self._mariadb = True
        examined = _EXAMINED.search(line)
        if examined is not None:
            self._examined = int(examined[1])
        schema = _SCHEMA.search(line)
        if schema is not None:
            self._schema = schema[1] or None
        start = _START.search(line)
        if start is not None:
            self._start_ts = iso_ts(start[1], anchor)

    def _banner(self, line: str) -> Sequence[Told]:
        told = self.finish()
        self._mariadb = "MariaDB" in line
        self._begun = False
        self._schema = None
        return told

    def _body(self, line: str) -> None:
        if not self._query:
            if self._set_ts is None and line.startswith("Profile_"):
                return  # Percona's, which it forgets to comment out
            use, stamp = _USE(line), _SET(line)
            if use is not None and self._set_ts is None:
                self._schema = use[1]
                return
            if stamp is not None and self._set_ts is None:
                self._set_ts = float(stamp[1])
                return
        self._statement(line)

    def _statement(self, line: str) -> None:
        self._complete = line.endswith(";")
        if self._kept <= QUERY_CHARACTERS:
            self._query.append(line[:QUERY_CHARACTERS])
            self._kept += len(line) + 1

    def finish(self) -> Sequence[Told]:
        """The entry that is being read."""
        start_ts = self._began()
        if self._duration_s is None or start_ts is None:
            self._clear()
            return ()
        query = " ".join(self._query)[:QUERY_CHARACTERS]
        service = "mariadb" if self._mariadb else "mysql"
        schema = self._schema
        event = SlowQuery(start_ts, service, self._duration_s, self._examined, self._user, schema, query)
        told = self._told(event, *self._proof)
        self.ts = start_ts + self._duration_s
        self._clear()
        return (told,)

    def _began(self) -> float | None:
        """When the statement began, by the best of its clocks."""
        duration_s = self._duration_s or 0.0
        self.clock = "zone"
        if self._start_ts is not None:
            return self._start_ts
        if self._time is not None and self._time[1]:
            return self._time[0] - duration_s
        ts = self._set_ts
        if ts is None:
            if self._time is None:
                return None
            ts = self._time[0]
            self.clock = "local"
        return ts if self._mariadb else ts - duration_s
