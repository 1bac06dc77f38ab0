"""What is remembered of a connection between the lines that tell of it (`<F-MLFID>`). Pure.

A daemon says in one line who connects, in another who fails. What the lines of one connection capture is merged; lines
that are no failure (`<F-NOFAIL>`) wait for one that is; a success (`<F-MLFGAINED>`) forgets them, unless one connection
tried several users; `<F-MLFFORGET>` ends the connection.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from collections.abc import Set as AbstractSet
from contextlib import contextmanager
from functools import cache

import msgspec

from tocsin.fail2ban.filters.cuts import NEAR_CHARS

LIFE_S = 300.0
"""How long after its first line a connection is remembered, by the lines' own times."""

MOST = 1000
"""How many connections are remembered at once; the oldest makes room."""

MOST_LINES = 100
"""How many lines of one connection are kept; the oldest make room."""

_FLAGS = ("nofail", "mlfgained", "mlfforget")


class Session(msgspec.Struct):
    """`fields`: what the lines captured, the latest values. `users`: all that it named. `matches`: lines of failures
    that are not yet told of or were just told of; `waiting`: lines that are no failure. `quiet`: the last line was no
    failure. `pending`: a failure could not be told of, for nobody was named.
    """

    fields: dict[str, str]
    start_ts: float
    users: list[str] = []
    matches: list[str] = []
    waiting: list[str] = []
    quiet: bool = False
    pending: bool = False

    def note_user(self, user: str | None) -> None:
        if user and user not in self.users:
            self.users.append(user)

    def note(self, lines: tuple[str, ...], *, quiet: bool) -> None:
        """Adds lines: to those that wait, or with those that waited to the failure's."""
        if quiet:
            self.waiting = [*self.waiting, *lines][-MOST_LINES:]
        else:
            self.matches = [*self.waiting, *self.matches, *lines][-MOST_LINES:]
            self.waiting = []


class Sessions:
    """The connections of one log, by their ids. `whole`: an id stands in the raw line as it is captured, for dates are
    cut out at the line's start only.
    """

    def __init__(self, *, whole: bool = False) -> None:
        self._whole = whole
        self._sessions: dict[str, Session] = {}
        self._marks: dict[tuple[str, str], dict[bytes, int]] = {}
        self._marked: dict[str, tuple[dict[bytes, int], bytes]] = {}
        self._unmarked = 0
        self._following: Following | None = None

    def __len__(self) -> int:
        return len(self._sessions)

    def merge(self, mlfid: str, captured: Mapping[str, str], lines: tuple[str, ...], ts: float) -> Session:
        """What is known of a connection after a line about it; `quiet` of it says that it is no failure."""
        gained = bool(captured.get("mlfgained"))
        quiet = gained or bool(captured.get("nofail"))
        forget = bool(captured.get("mlfforget"))
        session = self._get(mlfid, ts)
        told = {name: value for name, value in captured.items() if name not in _FLAGS}
        if session is None:
            session = Session(told, ts)
            session.note_user(captured.get("user"))
            if not forget:
                self._put(mlfid, session)
        else:
            session.note_user(captured.get("user"))
            if gained:
                session.pending = False
            if not session.quiet and not session.pending:
                session.matches = []  # these were told of
            session.fields.update(told)
            if forget:
                self._remove(mlfid)
        if session.pending or len(session.users) > 1:
            quiet = False
        session.pending = False
        session.quiet = quiet
        if not (quiet and forget):
            session.note(lines, quiet=quiet)
        return session

    def _get(self, mlfid: str, ts: float) -> Session | None:
        session = self._sessions.get(mlfid)
        if session is not None and abs(ts - session.start_ts) >= LIFE_S:
            self._remove(mlfid)
            return None
        return session

    def _put(self, mlfid: str, session: Session) -> None:
        while self._sessions:
            oldest = next(iter(self._sessions))
            if len(self._sessions) < MOST and session.start_ts - self._sessions[oldest].start_ts < LIFE_S:
                break
            self._remove(oldest)
        self._sessions[mlfid] = session
        self._mark(mlfid)

    def _remove(self, mlfid: str) -> None:
        del self._sessions[mlfid]
        self._unmark(mlfid)

    # -- which raw lines can be about a connection ---------------------------------------------------------------

    def _mark(self, mlfid: str) -> None:
        found = _MARK.search(mlfid) if self._whole else None
        if found is None:
            self._unmarked += 1
            if self._following is not None:
                self._following.note_unmarked()
            return
        before, after = found[1], found[3]
        digits = found[2].encode()
        if self._following is not None:
            self._following.note(before, digits, after)
        known = self._marks.setdefault((before, after), {})
        known[digits] = known.get(digits, 0) + 1
        self._marked[mlfid] = known, digits

    def _unmark(self, mlfid: str) -> None:
        known, digits = self._marked.pop(mlfid, ({}, b""))
        if not digits:
            self._unmarked -= 1
        elif known[digits] == 1:
            del known[digits]
        else:
            known[digits] -= 1

    @contextmanager
    def followed(self, data: bytes, endings: re.Pattern[bytes]) -> Iterator[Following]:
        """For the time of one block: which of its lines could be about a connection that is remembered. `endings`
        occurs in every line that can end one."""
        following = self._following = Following(data, endings)
        try:
            for (before, after), known in self._marks.items():
                following.note_all(before, known.keys(), after)
            if self._unmarked:
                following.note_unmarked()
            yield following
        finally:
            self._following = None

    def dump(self) -> dict[str, Session]:
        return self._sessions

    def load(self, sessions: dict[str, Session]) -> None:
        for mlfid in list(self._sessions):
            self._remove(mlfid)
        for mlfid, session in sessions.items():
            self._put(mlfid, session)


class Following:
    """The lines of a block that are about connections which are remembered, found as these become known."""

    def __init__(self, data: bytes, endings: re.Pattern[bytes]) -> None:
        self._data = data
        self._endings = endings
        self._counts: dict[tuple[str, str], Counter[bytes]] = {}
        self._new: list[tuple[tuple[str, str], bytes]] = []
        self._places: dict[tuple[str, str], dict[bytes, list[int]]] = {}
        self._all = False
        self._also: list[int] = []

    def note(self, before: str, digits: bytes, after: str) -> None:
        """A line of the block makes a connection known, by its mark."""
        if self._counted(before, after).get(digits, 0) > 1:
            self._new.append(((before, after), digits))

    def note_all(self, before: str, known: AbstractSet[bytes], after: str) -> None:
        """Connections are known already, by their marks."""
        if known:
            there = known & self._counted(before, after).keys()
            self._new += (((before, after), digits) for digits in there)

    def _counted(self, before: str, after: str) -> Counter[bytes]:
        """How often each number stands between two signs."""
        counts = self._counts.get((before, after))
        if counts is None:
            counts = self._counts[before, after] = Counter(_around(before, after).findall(self._data))
        return counts

    def note_unmarked(self) -> None:
        """A connection is known that has no mark: any line that can end one may be about it."""
        self._all = True

    def after(self, done: int) -> list[int]:
        """The starts of such lines after `done`, the last first. What is taken off the list is not given again."""
        if self._new or self._all:
            starts = {start for start in self._also if start > done}
            for around, digits in self._new:
                starts.update(self._lines_with(around, digits, done + 1))
            if self._all:
                starts.update(self._line(match.start()) for match in self._endings.finditer(self._data, done + 1))
            self._also = sorted((start for start in starts if start > done), reverse=True)
            self._new, self._all = [], False
        return self._also

    def _lines_with(self, around: tuple[str, str], digits: bytes, place: int) -> Iterator[int]:
        places = self._places.get(around)
        if places is None and len(self._new) < _FEW_MARKS:
            mark = _mark_of(around[0], digits, around[1])
            while (place := self._data.find(mark, place)) >= 0:
                yield self._line(place)
                place += len(mark)
            return
        if places is None:
            # numbers come back often, say where processes are few: all are looked for at once
            places = self._places[around] = {}
            for match in _around(*around).finditer(self._data):
                places.setdefault(match[1], []).append(match.start())
        yield from (self._line(found) for found in places.get(digits, ()) if found >= place)

    def _line(self, place: int) -> int:
        return self._data.rfind(b"\n", 0, place) + 1


_FEW_MARKS = 8
_MARK = re.compile(rf"^.{{{NEAR_CHARS},}}([!-/:-@\[-^{{-~])([0-9]+)([!-/:-@\[-^{{-~])", re.DOTALL)


def _mark_of(before: str, digits: bytes, after: str) -> bytes:
    return before.encode() + digits + after.encode()


@cache
def _around(before: str, after: str) -> re.Pattern[bytes]:
    return re.compile(re.escape(before).encode() + rb"([0-9]+)(?=" + re.escape(after).encode() + b")")
