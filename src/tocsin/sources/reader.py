"""Readers of one file each: a plain file that may still grow, and an archive that has ended."""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from typing import Literal

from tocsin.model import Batch
from tocsin.sources.archive import ArchiveError, Packing, Unpacker
from tocsin.sources.fingerprint import Checkpoint, before_agrees, checkpoint_of, head_ladder
from tocsin.sources.lines import BEFORE_BYTES, HEAD_BYTES, MAX_LINE_BYTES, Lines
from tocsin.sources.rotation import Identity

_SMALL_BYTES = 32 << 10  # below malloc's mmap threshold: a read of a few lines costs no page faults
_BLOCK_BYTES = 1 << 20
_HEAD_CHECK_BYTES = 128  # enough to hold the time stamp behind the longest address and a user's name
_SKIP_BYTES = 8 << 20  # unpacked and passed over in one turn on the way to a position: about 30 ms

Role = Literal["current", "leaving", "copy"]


class Truncated(Exception):  # noqa: N818  a state of the file, not a failure
    """The file no longer holds, before our position, what we read there."""


class Mistaken(Exception):  # noqa: N818  a state of the file, not a failure
    """An archive taken for ours by its head holds something else before our position, or is damaged (`text`)."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class Reader(ABC):
    """What both kinds have in common. `role`: `current` is bound to the source's path; `leaving` was rotated away and
    may still be written to; `copy` holds what it will ever hold. `own`: it has been the file at the path. `eof`: the
    last `take` reached the end. `confirmed`: nothing unread lies between it and what was read before (see Chain)."""

    __slots__ = (
        "_cached",
        "_ladder",
        "confirmed",
        "data_ts",
        "eof",
        "fd",
        "identity",
        "lines",
        "mtime_ns",
        "own",
        "path",
        "role",
        "since_ts",
    )

    def __init__(self, path: str, fd: int, status: os.stat_result, lines: Lines, role: Role, now: float) -> None:
        self.path = path
        self.fd = fd
        self.identity: Identity = (status.st_dev, status.st_ino)
        self.mtime_ns = status.st_mtime_ns
        self.lines = lines
        self.role: Role = role
        self.own = role != "copy"
        self.confirmed = lines.offset > 0
        self.since_ts = now
        self.data_ts = now
        self.eof = False
        self._ladder: bytes | None = None
        self._cached: Checkpoint | None = None

    @abstractmethod
    def take(self, now: float) -> list[Batch]:
        """The next block as batches; OSError where the file cannot be read."""

    def checkpoint(self) -> Checkpoint:
        """Where this reader stands; cheap when nothing was handed out since the last call."""
        lines = self.lines
        if self._cached is None or self._cached.offset != lines.offset:
            if self._ladder is None and len(lines.head) == HEAD_BYTES:
                self._ladder = head_ladder(lines.head)
            self._cached = checkpoint_of(lines, *self.identity, self.mtime_ns, self._ladder)
        return self._cached

    def peek(self) -> Checkpoint:
        """A position by which copies of the file are known although nothing was handed out of it yet."""
        return self.checkpoint()

    def is_truncated(self) -> bool:
        """Whether the file no longer holds what we read, as `take` would find."""
        return False

    def known_by(self) -> Checkpoint:
        """The position that tells most of the file's content."""
        return self.checkpoint() if self.lines.offset else self.peek()

    def close(self) -> None:
        os.close(self.fd)


class PlainReader(Reader):
    """A plain file, which may still grow."""

    __slots__ = ("_want",)

    def __init__(self, path: str, fd: int, status: os.stat_result, lines: Lines, role: Role, now: float) -> None:
        super().__init__(path, fd, status, lines, role, now)
        self._want = _SMALL_BYTES

    def take(self, now: float) -> list[Batch]:
        """A pread that also brings the last bytes before our position, and one of the file's beginning after it: so a
        file that was truncated is noticed, also when it has regrown past us with lines all alike. Then Truncated.
        Costs 1 us; the order matters, as a beginning that is still ours vouches for what was read before it."""
        lines = self.lines
        mark = lines.mark()
        want = self._want
        size = len(mark)
        data = os.pread(self.fd, size + want, lines.end - size)
        head = lines.head[:_HEAD_CHECK_BYTES]
        if not data.startswith(mark) or (head and os.pread(self.fd, len(head), 0) != head):
            raise Truncated
        fresh = data[size:]
        if len(fresh) < want:
            self.eof = True
            self._want = _SMALL_BYTES
        else:
            self.eof = False
            self._want = _BLOCK_BYTES
        if not fresh:
            return []
        self.data_ts = now
        return lines.feed(fresh, now)

    def peek(self) -> Checkpoint:
        """A position behind the file's first whole lines, whatever was handed out: to compare copies and archives with.

        Not behind less: a few bytes, an address perhaps, do not make a file known."""
        try:
            head = os.pread(self.fd, HEAD_BYTES, 0)
        except OSError:
            return self.checkpoint()
        if len(head) < HEAD_BYTES:
            head = head[: head.rfind(b"\n") + 1]
        lines = Lines(self.lines.source, len(head), 0, head, head[-BEFORE_BYTES:])
        return checkpoint_of(lines, *self.identity, self.mtime_ns)

    def touched(self) -> bool:
        """Whether the file was modified since it was opened, or since the last call."""
        before, self.mtime_ns = self.mtime_ns, os.fstat(self.fd).st_mtime_ns
        return before != self.mtime_ns

    def is_truncated(self) -> bool:
        """Whether the file no longer holds what we read, as `take` would find (and tells, if it is unreadable)."""
        mark = self.lines.mark()
        head = self.lines.head[:_HEAD_CHECK_BYTES]
        try:
            tail = os.pread(self.fd, len(mark), self.lines.end - len(mark))
            return tail != mark or os.pread(self.fd, len(head), 0) != head
        except OSError:
            return False

    def restart(self, lines: Lines) -> None:
        """Read on from another position of the same file."""
        status = os.fstat(self.fd)
        self.mtime_ns = status.st_mtime_ns
        self.lines = lines
        self.eof = False
        self.confirmed = lines.offset > 0
        self._ladder = None
        self._cached = None


class PackedReader(Reader):
    """An archive, read on from `position`: what lies before it is unpacked and passed over, a bit in each turn."""

    __slots__ = ("_expected", "_tail", "_unpacker")

    def __init__(
        self,
        path: str,
        fd: int,
        status: os.stat_result,
        packing: Packing,
        position: Checkpoint | None,
        source: str,
        now: float,
    ) -> None:
        super().__init__(path, fd, status, Lines(source), "copy", now)
        self.confirmed = True
        self._unpacker = Unpacker(fd, packing)
        self._expected = position
        self._tail = b""

    def take(self, now: float) -> list[Batch]:
        """The next block. Mistaken where the content is not what the position says, or the archive is damaged."""
        try:
            if self._expected is not None and not self._arrive(self._expected):
                return []
            data = self._unpacker.read(_BLOCK_BYTES)
        except ArchiveError as error:
            self.eof = True
            raise Mistaken(f"{error.text}, readable up to byte {error.position:,}") from error
        if not data:
            self.eof = True
            return []
        self.data_ts = now
        return self.lines.feed(data, now)

    def checkpoint(self) -> Checkpoint:
        """The position aimed at, as long as it is not reached."""
        return self._expected or super().checkpoint()

    def _arrive(self, position: Checkpoint) -> bool:
        budget = _SKIP_BYTES
        while (left := position.offset - self._unpacker.position) > 0:
            if budget <= 0:
                return False
            data = self._unpacker.read(min(left, MAX_LINE_BYTES))
            if not data:
                self.eof = True  # a copy that ends before our position holds nothing unread
                return False
            budget -= len(data)
            if len(self.lines.head) < HEAD_BYTES:
                self.lines.head = (self.lines.head + data)[:HEAD_BYTES]
            self._tail = (self._tail + data)[-BEFORE_BYTES:]
        if not before_agrees(position, self._tail):
            self.eof = True
            raise Mistaken("what it holds before our position is not what was read there")
        self.lines = Lines(self.lines.source, position.offset, position.line, self.lines.head, self._tail)
        self._expected = None
        return True
