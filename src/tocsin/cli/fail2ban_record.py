"""The record of an import, by which it can be undone.

It is a file in the folder of the ledger, `fail2ban-import.N.jsonl`: a line for the import, then one for each that was
taken. A portion is noted before the next one is offered, and cut off when it has been undone, so that an import that
is ended midway can be undone, and an undoing that is ended midway goes on where it was. Root writes into that folder
as its owner, who can then gain nothing by what it puts there.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

import msgspec

from tocsin.cli.failure import DATA, NO_INPUT, NO_PERMISSION, UNAVAILABLE, Failure
from tocsin.importing import Head, Taken

if TYPE_CHECKING:
    from tocsin.config import Config

_NAME = re.compile(r"fail2ban-import\.([0-9]{1,9})\.jsonl").fullmatch


@contextmanager
def as_owner(folder: Path) -> Iterator[None]:
    """What is done in the folder is done as its owner, where we are root."""
    try:
        status = folder.stat()
    except OSError:
        status = None
    if os.geteuid() != 0 or status is None or status.st_uid == 0:
        yield
        return
    group = os.getegid()
    os.setegid(status.st_gid)
    os.seteuid(status.st_uid)
    try:
        yield
    finally:
        os.seteuid(0)
        os.setegid(group)


class Record:
    """Notes what was taken. The file is made with the first row, so an import that brings nothing leaves none."""

    def __init__(self, config: Config, source: str, now_ts: float) -> None:
        self.folder = Path(config.guard.state_dir)
        self.head = Head(source, now_ts)
        self._descriptor: int | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        if self._descriptor is not None:
            os.close(self._descriptor)

    def append(self, rows: Sequence[Taken]) -> None:
        """Note some. Failure where they cannot be written: they are in force, but cannot be taken back."""
        if not rows:
            return
        try:
            if self._descriptor is None:
                self._descriptor = self._make()
            _write(self._descriptor, b"".join(msgspec.json.encode(row) + b"\n" for row in rows))
        except OSError as error:
            raise Failure(
                UNAVAILABLE,
                f"the record in {self.folder} cannot be written ({error.strerror}): the import stops here, and its "
                f"last {len(rows)} cannot be taken back by --undo (`tocsin unban` can); make room, then import again",
            ) from error

    def _make(self) -> int:
        with as_owner(self.folder):
            number = max(_records(self.folder), default=0) + 1
            path = self.folder / f"fail2ban-import.{number}.jsonl"
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o640)
        _write(descriptor, msgspec.json.encode(self.head) + b"\n")
        return descriptor


def _write(descriptor: int, data: bytes) -> None:
    while data:
        data = data[os.write(descriptor, data) :]


def _records(folder: Path) -> dict[int, Path]:
    return {int(match[1]): path for path in folder.iterdir() if (match := _NAME(path.name))}


class Kept:
    """The record of the last import, open for being undone from its end."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        head, *self._lines = _whole_lines(descriptor)
        self._head = msgspec.json.decode(head, type=Head)
        self._bytes = len(head) + sum(map(len, self._lines))

    @property
    def source(self) -> str:
        """The database that it was of."""
        return self._head.database

    @property
    def ts(self) -> float:
        """When it began."""
        return self._head.ts

    def last(self, rows: int) -> list[Taken]:
        """The last rows, in their order; empty where none are left."""
        try:
            return [msgspec.json.decode(line, type=Taken) for line in self._lines[-rows:]]
        except msgspec.MsgspecError as error:
            raise _damaged(self.path, error) from error

    def drop(self, rows: int) -> None:
        """Forget the last rows: they are undone."""
        self._bytes -= sum(map(len, self._lines[-rows:]))
        del self._lines[-rows:]
        os.ftruncate(self._descriptor, self._bytes)

    def remove(self) -> None:
        """All of it is undone."""
        with as_owner(self.path.parent):
            self.path.unlink()


def _whole_lines(descriptor: int) -> list[bytes]:
    """The lines of a file; what a crash has left of a last one is no line."""
    pieces = []
    while piece := os.read(descriptor, 1 << 20):
        pieces.append(piece)
    lines = b"".join(pieces).splitlines(keepends=True)
    return lines if not lines or lines[-1].endswith(b"\n") else lines[:-1]


@contextmanager
def last_record(config: Config) -> Iterator[Kept]:
    """The record of the last import that was not undone; a Failure where there is none, or it is damaged."""
    folder = Path(config.guard.state_dir)
    try:
        records = _records(folder)
        path = records[max(records)]
        with as_owner(folder):
            descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC | os.O_NOFOLLOW)
    except PermissionError as error:
        raise Failure(NO_PERMISSION, f"{folder}: permission denied; try again as root (sudo)") from error
    except (OSError, ValueError) as error:
        raise Failure(NO_INPUT, "there is no import to undo: none was made, or all were undone") from error
    try:
        yield _kept(path, descriptor)
    finally:
        os.close(descriptor)


def _kept(path: Path, descriptor: int) -> Kept:
    try:
        return Kept(path, descriptor)
    except (msgspec.MsgspecError, ValueError) as error:
        raise _damaged(path, error) from error


def _damaged(path: Path, error: Exception) -> Failure:
    return Failure(DATA, f"{path} is damaged ({error}): with `tocsin bans` and `tocsin unban` it can be done by hand")
