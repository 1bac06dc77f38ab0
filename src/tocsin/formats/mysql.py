"""The error log of MySQL (5.5 to 8.0) and MariaDB.

5.5: `140521  8:26:40 [Note] message`, local time. 5.6: `2014-05-21 08:33:23 25042 [Note] message` (the process),
MariaDB 10 alike (the thread, the hour padded with a blank), local time. 5.7: `2016-12-09T12:08:33.402440Z 0 [Note]
message`, UTC or with its offset. 8.0: `[MY-010931] [Server]` before the message. Lines without a time go on with the
entry before them; InnoDB's of 5.5 and a crash's are entries of their own. What the messages mean: `mysql_messages`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

from msgspec.structs import replace

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, time_piece
from tocsin.formats.entries import DETAIL_CHARACTERS, Entries, cut
from tocsin.formats.mysql_messages import Head, foreign, head_of, mysql_event, mysql_message
from tocsin.formats.told import Told
from tocsin.server_events import ServiceState

__all__ = ["MysqlError", "mysql_message"]

_CONTINUED = ("InnoDB: ", "--Thread ")
_CRASH = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2}) UTC - (?:mysqld|mariadbd) got signal ").match
_DAY_S = 86400.0
_BACK_S = 3600.0
_SAME_S = 60.0


class MysqlError(Entries):
    """The error log of MySQL or MariaDB. A state that several lines in a row tell of is told once; why the server
    would not start is its first error since it last did.
    """

    name = "mysql-error"
    kind = "database"

    def __init__(self) -> None:
        super().__init__()
        self._old = Stamp([time_piece("%y%m%d %k:%M:%S")])
        self._iso = Stamp([time_piece("%Y-%m-%d %k:%M:%S")])
        self._zoned = Stamp([time_piece("%Y-%m-%d %k:%M:%S"), time_piece("%:z")])
        self._service = "mysql"
        self._foreign = False
        self._state: tuple[str, float] = ("", 0.0)
        self._error = ""

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line tells; most tell nothing."""
        line = cut(line)
        head = head_of(line)
        if head is None:
            return self._continued(line, number)
        ts = self._ts(head, anchor)
        if ts is None:
            return self._misfit(line)
        self.ts = ts
        message = line[head.end :]
        self._foreign = foreign(message)
        return self._entry(ts, head.level, message, line, number)

    def _ts(self, head: Head, anchor: Anchor) -> float | None:
        self.clock = "local" if head.zone is None else "zone"
        if head.old is not None:
            return self._old.ts(head.old, anchor)
        text = f"{head.date} {head.time}"
        ts = self._iso.ts(text, anchor) if head.zone is None else self._zoned.ts(text + Stamp.JOIN + head.zone, anchor)
        return ts + float(head.fraction) if ts is not None and head.fraction else ts

    def _continued(self, line: str, number: int) -> Sequence[Told]:
        crash = _CRASH(line)
        if self.ts is None:
            return self._misfit(line)
        if crash is not None:
            self._foreign = False
            return self._entry(self._crash_ts(crash, self.ts), "error", line, line, number, clock_is_utc=True)
        if line.startswith("Version: '") and "MariaDB" in line[:100]:
            self._service = "mariadb"
        if self._foreign or not line.startswith(_CONTINUED):
            return ()
        return self._entry(self.ts, "note", line, line, number)

    @staticmethod
    def _crash_ts(crash: re.Match[str], last_ts: float) -> float:
        """A crash names the time of day, in UTC: the first such after the last line (or an hour before it)."""
        of_day = int(crash[1]) * 3600 + int(crash[2]) * 60 + int(crash[3])
        return last_ts - _BACK_S + (of_day - (last_ts - _BACK_S)) % _DAY_S

    def _entry(
        self, ts: float, level: str, message: str, line: str, number: int, *, clock_is_utc: bool = False
    ) -> Sequence[Told]:
        if message.startswith(("Starting MariaDB ", "mariadbd")):
            self._service = "mariadb"
        event = mysql_event(ts, self._service, level, message)
        if isinstance(event, ServiceState):
            event = self._news(event)
        elif level == "error" and not self._error:
            self._error = message[:DETAIL_CHARACTERS]
        if event is None:
            return ()
        told = self._told(event, line, number)
        return (replace(told, clock="zone") if clock_is_utc else told,)

    def _news(self, event: ServiceState) -> ServiceState | None:
        """The state, if it is not the one that was told last, with the reason where it is a refusal."""
        state, ts = self._state
        self._state = (event.state, event.ts)
        reason, self._error = self._error, ""
        if state == event.state and 0 <= event.ts - ts <= _SAME_S:
            return None
        if event.state == "refused" and event.detail == "Aborting" and reason:
            return replace(event, detail=reason)
        return event
