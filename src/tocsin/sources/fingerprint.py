"""How a file is known again after a rotation, a copy, a compression or a restart: by identity and by content."""

from __future__ import annotations

import os
from _blake2 import blake2b  # what hashlib hands out; hashlib itself loads OpenSSL, 4 MB of it
from typing import Literal

from msgspec import Struct

from tocsin.sources.archive import ArchiveError, Packing, Unpacker
from tocsin.sources.lines import BEFORE_BYTES, HEAD_BYTES, Lines

VERIFY_BYTES = 4 << 20
"""An archive is unpacked this far to compare what lies before a position (about 20 ms); beyond that the first
HEAD_BYTES decide, and the position is verified when the reader arrives there."""

_LADDER = (8, 16, 32, 64, 128, 256, 512)

Relation = Literal["same", "shorter", "other"]


class Checkpoint(Struct, frozen=True, gc=False):
    """How far one file of a source has been handed out: `offset` in its (decompressed) bytes.

    A source can have several at once, oldest file first: the file that was rotated away and is still being written to,
    and its successor. Save and give back all of them, in order. `dev` and `ino` are 0 for a pattern or path that had
    no file yet. `head` is a ladder of hashes over the first 8, 16, 32 ... and `head_bytes` bytes, so that a shorter
    copy is known too; `before` a hash over the last min(256, offset) bytes before `offset`. `line` is the number of the
    next line (0 unknown), `mtime_ns` when the file had last been written as we opened it, `done` that it was read
    to its end and is kept only to know it again.
    """

    source: str
    dev: int
    ino: int
    offset: int
    head_bytes: int
    head: bytes
    before: bytes
    line: int = 0
    mtime_ns: int = 0
    done: bool = False


def _digest(data: bytes) -> bytes:
    return blake2b(data, digest_size=8).digest()


def head_ladder(head: bytes) -> bytes:
    """Hashes over the prefixes of `head` of 8, 16, 32 ... bytes that are shorter than it, then over all of it."""
    return b"".join([_digest(head[:size]) for size in _LADDER if size < len(head)]) + _digest(head)


def checkpoint_of(lines: Lines, dev: int, ino: int, mtime_ns: int, ladder: bytes | None = None) -> Checkpoint:
    """The checkpoint of a position; `ladder` where the caller has it already."""
    return Checkpoint(
        source=lines.source,
        dev=dev,
        ino=ino,
        offset=lines.offset,
        head_bytes=len(lines.head),
        head=ladder or head_ladder(lines.head),
        before=_digest(lines.before),
        line=lines.line,
        mtime_ns=mtime_ns,
    )


def head_agrees(position: Checkpoint, head: bytes) -> bool:
    """Whether a file that begins with `head` (all of it, where shorter than HEAD_BYTES) begins as `position`'s does."""
    if not position.head_bytes:
        return False
    if len(head) >= position.head_bytes:
        return position.head[-8:] == _digest(head[: position.head_bytes])
    steps = [size for size in _LADDER if size < position.head_bytes and size <= len(head)]
    if not steps:
        return False
    at = (len(steps) - 1) * 8
    return position.head[at : at + 8] == _digest(head[: steps[-1]])


def before_agrees(position: Checkpoint, before: bytes) -> bool:
    """Whether `before`, the bytes up to `position.offset`, are those that were handed out last."""
    return len(before) == min(BEFORE_BYTES, position.offset) and position.before == _digest(before)


def lines_at(position: Checkpoint, source: str, head: bytes, before: bytes) -> Lines:
    """A reader's state at `position`, with the content found there."""
    return Lines(source, position.offset, position.line, head[: min(HEAD_BYTES, position.offset)], before)


def relation_of_fd(position: Checkpoint, fd: int) -> Relation:
    """How an open plain file stands to `position`: the same content up to it, a shorter copy of it, or another file."""
    head = os.pread(fd, HEAD_BYTES, 0)
    if not head_agrees(position, head):
        return "other"
    size = min(BEFORE_BYTES, position.offset)
    before = os.pread(fd, size, position.offset - size)
    if len(before) < size:
        return "shorter"
    return "same" if before_agrees(position, before) else "other"


def relation_of_archive(position: Checkpoint, fd: int, packing: Packing) -> Relation:
    """The same for an open archive, by its decompressed content; damage counts as `other`."""
    unpacker = Unpacker(fd, packing)
    try:
        head = unpacker.read_exactly(HEAD_BYTES)
        if not head_agrees(position, head):
            return "other"
        if position.offset > VERIFY_BYTES:
            return "same"
        tail = head[: position.offset]
        while unpacker.position < position.offset:
            data = unpacker.read(min(1 << 16, position.offset - unpacker.position))
            if not data:
                return "shorter"
            tail = (tail + data)[-BEFORE_BYTES:]
        return "same" if before_agrees(position, tail[-BEFORE_BYTES:]) else "other"
    except ArchiveError:
        return "other"
