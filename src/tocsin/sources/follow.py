"""One source: watches what its path leads to, and keeps the chain of its files fed with that."""

from __future__ import annotations

import os
from collections.abc import Sequence
from stat import S_ISREG
from typing import Literal

from msgspec import Struct

from tocsin.model import Batch
from tocsin.sources.chain import Chain
from tocsin.sources.fingerprint import Checkpoint
from tocsin.sources.lines import BEFORE_BYTES, HEAD_BYTES, MAX_LINE_BYTES, Lines
from tocsin.sources.lineup import Keeper, Lineup, reason_of
from tocsin.sources.rotation import OPEN_FLAGS

VANISHED_S = 5.0
"""A path that leads nowhere for so long is told of; a rotation leaves it empty for a moment only."""
_BACKOFF_FIRST_S = 1.0
_BACKOFF_MOST_S = 60.0


class Followed(Struct, frozen=True):
    """One file that is followed. `size_bytes` is what lies there (of an archive: compressed), `offset` what was handed
    out (decompressed); `trouble` says why it cannot be read, `polled` why it is polled; "" where neither is so."""

    source: str
    path: str
    size_bytes: int
    offset: int
    trouble: str
    polled: str


class Source:
    """Follows one path. Driven by the Tail: `check` when the directory may have changed, `pump` to read."""

    __slots__ = (
        "_backoff_s",
        "_join_bytes",
        "_keeper",
        "_missing_ts",
        "_retry_ts",
        "_vanished",
        "chain",
        "lineup",
        "path",
        "polled",
        "trouble",
    )

    def __init__(self, path: str, keeper: Keeper, since_ns: int) -> None:
        self.path = path
        self.lineup = Lineup(path, keeper, since_ns)
        self.chain = Chain(self.lineup)
        self.polled = ""
        self.trouble = ""
        self._keeper = keeper
        self._join_bytes = 0
        self._missing_ts: float | None = None
        self._vanished = False
        self._retry_ts = 0.0
        self._backoff_s = _BACKOFF_FIRST_S

    def begin(self, now: float, start: Literal["end", "start"]) -> None:
        """First sight, nothing known: what is there now is read from its `start` or `end`, older rotations never."""
        if start == "end":
            try:
                self._join_bytes = os.stat(self.path).st_size  # noqa: PTH116  texts throughout: no Path objects here
            except OSError:
                self._join_bytes = 0
        self.check(now)
        if self.lineup.current is None or not self.lineup.current.confirmed:
            self.lineup.refuse_older()

    def resume(self, positions: Sequence[Checkpoint], now: float) -> None:
        """Go on from checkpoints, oldest file first."""
        self.lineup.resume(positions, now)
        self.check(now)

    def check(self, now: float) -> None:
        """Compare the path with what is open: the same file, a new one, none."""
        try:
            status = os.stat(self.path)  # noqa: PTH116
        except (FileNotFoundError, NotADirectoryError):
            self._miss(now)
            return
        except OSError as error:
            self._be_troubled(reason_of(error), now)
            return
        current = self.lineup.current
        if current is not None and current.identity == (status.st_dev, status.st_ino):
            if self.trouble or self._missing_ts is not None:
                self._recover(now)
            return
        if current is None:
            if self.trouble and now < self._retry_ts:
                return
            self.lineup.place_again(now)
            if self.lineup.current is not None:
                self._recover(now)
                return
        self._switch(now)

    def retry_now(self) -> None:
        """The path, or the permission to read it, has changed: the next check need not wait."""
        self._retry_ts = 0.0

    def pump(self, limit_bytes: int, now: float) -> list[Batch]:
        """The next batches, oldest file first, about `limit_bytes`; `chain.more` where the end was not reached."""
        batches = self.chain.pump(limit_bytes, now)
        if self.chain.failure:
            self._be_troubled(self.chain.failure, now)
            self.chain.failure = ""
        return batches

    def followed(self) -> list[Followed]:
        """The files open now, and the path itself where none is."""
        rows = [
            Followed(self.path, r.path, os.fstat(r.fd).st_size, r.lines.offset, "", self.polled)
            for r in self.lineup.readers
        ]
        if self.lineup.current is None:
            why = self.trouble or "there is no such file yet"
            rows.append(Followed(self.path, self.path, 0, 0, why, self.polled))
        return rows

    def _miss(self, now: float) -> None:
        self.lineup.retire(now)
        if self._missing_ts is None:
            self._missing_ts = now
        elif not self._vanished and now - self._missing_ts >= VANISHED_S and self.lineup.begun:
            self._vanished = True
            self._keeper.tell(self.path, "vanished", "the file is gone and none took its place; waiting for it", now)

    def _be_troubled(self, text: str, now: float) -> None:
        if text != self.trouble:
            self.trouble = text
            self._backoff_s = _BACKOFF_FIRST_S
            self._keeper.tell(self.path, "unreadable", text, now)
        self._retry_ts = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, _BACKOFF_MOST_S)

    def _recover(self, now: float) -> None:
        if self.trouble or self._vanished:
            self._keeper.tell(self.path, "returned", "the file is there and read again", now)
        self.trouble = ""
        self._vanished = False
        self._missing_ts = None

    def _switch(self, now: float) -> None:
        try:
            fd = os.open(self.path, OPEN_FLAGS)
        except FileNotFoundError:
            self._miss(now)
            return
        except OSError as error:
            self._be_troubled(reason_of(error), now)
            return
        status = os.fstat(fd)
        why = ""
        if not S_ISREG(status.st_mode):
            why = "not a regular file: a log file was expected"
        elif (other := self._keeper.claim((status.st_dev, status.st_ino), self.lineup)) is not None:
            why = f"the same file as {other}, where it is read"
        if why:
            os.close(fd)
            self._be_troubled(why, now)
            return
        rotated = bool(self.lineup.readers)
        self.lineup.begin(fd, status, self._joined(fd, status.st_size), now)
        if rotated:
            self._keeper.tell(self.path, "rotated", "the old file is read to its end, then the new one", now)
        self._recover(now)

    def _joined(self, fd: int, size: int) -> Lines:
        """The first file's position: behind the last whole line of what was there at first sight; later files: 0."""
        end, self._join_bytes = min(self._join_bytes, size), 0
        if not end:
            return Lines(self.path)
        tail = os.pread(fd, min(end, MAX_LINE_BYTES + 1), max(0, end - MAX_LINE_BYTES - 1))
        partial = len(tail) - (tail.rfind(b"\n") + 1)
        if partial == end:
            return Lines(self.path)
        offset = end - partial if partial < len(tail) else end
        size = min(BEFORE_BYTES, offset)
        before = os.pread(fd, size, offset - size)
        return Lines(self.path, offset, 0, os.pread(fd, min(HEAD_BYTES, offset), 0), before)
