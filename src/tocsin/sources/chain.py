"""The files of one source in the order in which they were written, read one after the other.

`readers` is oldest first; a younger one is read only while all older ones stand at their end. The file at the path is
`current`. After it was opened anew or truncated it is *unconfirmed*: when its first whole lines have been read, but
before they are handed out, the directory is searched for rotations that were written between the last file read and
this one (we may have been stopped, or late). Only this order can be trusted, because a rotation may happen at any time:
what was read before a look that finds nothing in between, follows what was read last.

What can be lost: with copytruncate, the bytes written after the copy's last read and before the truncation. They exist
nowhere any more. This holds for every reader; those that we read before the truncation are not lost. The notice gives
the time between the copy's last write and the truncation as the bound.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from tocsin.model import Batch
from tocsin.sources.fingerprint import Checkpoint, lines_at, relation_of_fd
from tocsin.sources.lines import BEFORE_BYTES, HEAD_BYTES, MAX_LINE_BYTES, Lines
from tocsin.sources.notice import NoticeKind
from tocsin.sources.reader import Mistaken, PackedReader, PlainReader, Reader, Role, Truncated
from tocsin.sources.rotation import (
    OPEN_FLAGS,
    Between,
    Found,
    Identity,
    Sibling,
    generations,
    identity_at,
    locate,
    next_unread,
    siblings_of,
)

GRACE_S = 60.0
"""A rotated file is read on until it was quiet for so long: Apache's children finish their requests in it."""
DELETED_GRACE_S = 10.0
"""The same for one that was deleted: it holds disk space as long as we keep it open."""
ORPHAN_GRACE_S = 600.0
"""The same for one that was deleted and has no successor: its writer may not know and write on."""
_LONG_LINE_NOTICE_S = 60.0
_KNOWN = 8
_TURNS = 64
_RACES = 3
_ANYWHERE = Between()


class Keeper(Protocol):
    """What a chain needs of the tail that it belongs to."""

    def watch(self, chain: Chain, reader: Reader) -> None: ...
    def unwatch(self, reader: Reader) -> None: ...
    def claim(self, identity: Identity, chain: Chain) -> str | None:
        """None when the file is this chain's; else the source that reads it already."""

    def release(self, identity: Identity, chain: Chain) -> None: ...
    def tell(self, source: str, kind: NoticeKind, text: str, ts: float, lost_bytes: int | None = None) -> None: ...


def reason_of(error: OSError) -> str:
    """The error in words, with what to do where that is clear."""
    text = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return f"{text}; give the user that Tocsin runs as permission to read it (on Debian: the group adm)"
    return text


class Chain:
    """Reads the files of the source at `path`. `more`: the last `pump` did not reach the end. `failure`: the current
    file cannot be read any more; the owner clears it and looks for the file again."""

    def __init__(self, path: str, keeper: Keeper, since_ns: int) -> None:
        self.path = path
        self.readers: list[Reader] = []
        self.current: PlainReader | None = None
        self.more = False
        self.failure = ""
        self._keeper = keeper
        self._known: list[Checkpoint] = []
        self._unplaced: list[Checkpoint] = []
        self._foreign: set[Identity] = set()
        self._refused: set[tuple[Identity, int]] = set()
        self._since_ns = since_ns
        self._behind = True
        self._copytruncated = False
        self._long_lines = 0
        self._long_notice_ts: float | None = None

    @property
    def begun(self) -> bool:
        """Whether any file of this source was ever read."""
        return bool(self.readers or self._known)

    # -- which files ----------------------------------------------------------------------------------------------

    def refuse_older(self) -> None:
        """The rotations that are there now are not ours to read."""
        self._foreign = {sibling.identity for sibling in siblings_of(self.path)}

    def resume(self, positions: Sequence[Checkpoint], now: float) -> None:
        """Go on from checkpoints, oldest file first."""
        read = [position.mtime_ns for position in positions if position.offset]
        self._since_ns = read[-1] if read else min((position.mtime_ns for position in positions), default=0)
        for position in positions:
            self._place(position, now)
        if len(self.readers) > 1:
            self._order()

    def _order(self) -> None:
        """Oldest file first by what the directory says now: the inode number of a file of which nothing had been read
        may belong to a younger one by now."""
        age = self._ages()
        self.readers.sort(key=lambda reader: (reader is self.current, age.get(reader.identity, -1)))

    def _place(self, position: Checkpoint, now: float) -> None:
        """Go on from a checkpoint, wherever its file is now."""
        self._behind = True
        if position.done:
            self._remember(position)
            return
        if not position.ino:
            return
        if self._hides(position):
            self._unplaced.append(position)
            return
        if self._reopen(position, now) is not None or not position.offset:
            return
        text = (
            f"the file that was being read (inode {position.ino}, read up to byte {position.offset:,}) is neither here "
            "nor among its rotations and archives: if anything was written to it after that, it is lost"
        )
        self._keeper.tell(self.path, "lost", text, now)

    def place_again(self, now: float) -> None:
        """Look anew for what could not be read."""
        unplaced, self._unplaced = self._unplaced, []
        for position in unplaced:
            self._place(position, now)

    def _reopen(self, position: Checkpoint, now: float, place: Between = _ANYWHERE) -> Found | None:
        """Find the file of a position and read on there. None where there is none: then its rest is lost."""
        found = None
        for _ in range(_RACES):  # a rotation may rename the file between the look and the opening
            found = locate(self.path, position)
            if found is None or found.relation == "shorter":
                break
            if self._open_found(found, position, now, place):
                return found
            if any(reader.identity == found.identity for reader in self.readers):
                break
        self._remember(position)
        return found

    def _hides(self, position: Checkpoint) -> bool:
        """Whether the file is where it was and only cannot be opened: then it is looked for again."""
        if identity_at(self.path) != (position.dev, position.ino):
            return False
        try:
            os.close(os.open(self.path, OPEN_FLAGS))
        except FileNotFoundError:
            return False
        except OSError:
            return True
        return False

    def begin(self, fd: int, status: os.stat_result, lines: Lines, now: float) -> None:
        """A new file is at the path, open as `fd`: it is the current one. One that is open already is so again."""
        self.retire(now)
        identity = (status.st_dev, status.st_ino)
        returned = next((r for r in self.readers if r.identity == identity), None)
        if not isinstance(returned, PlainReader):
            self._add(PlainReader(self.path, fd, status, lines, "current", now))
            return
        os.close(fd)
        self.readers.remove(returned)
        self.readers.append(returned)
        returned.role = "current"
        self.current = returned

    def retire(self, now: float) -> None:
        """The path no longer leads to the current file, which may still be written to."""
        if self.current is not None:
            self.current.role = "leaving"
            self.current.since_ts = now
            self.current = None
            self._behind = True

    def suspect(self) -> None:
        """Rotations appeared while there is no current file: the next pump searches them."""
        self._behind = self._behind or self.current is None

    def _add(self, reader: Reader, place: Between = _ANYWHERE) -> None:
        if reader.role == "current" and isinstance(reader, PlainReader):
            self.current = reader
            self.readers.append(reader)
        else:
            self.readers.insert(self._rank(reader.identity, place), reader)
        self._keeper.watch(self, reader)

    def _rank(self, identity: Identity, place: Between) -> int:
        """Where a file belongs in the order of writing: before the first younger one, and before the current."""
        if not self.readers:
            return 0
        age = self._ages()
        mine = age.get(identity, -1)
        there = identity_at(self.path)  # the current file may have been rotated away just now
        begun = [index for index, reader in enumerate(self.readers, 1) if reader.identity == place.follows]
        for index, reader in enumerate(self.readers):
            if begun and index < begun[0]:
                continue
            if reader.identity in {place.followed_by, there} or -1 < mine < age.get(reader.identity, -1):
                return index
        return len(self.readers)

    def _ages(self) -> dict[Identity, int]:
        """How young the rotations in the directory are: the larger, the younger."""
        ranked = enumerate(generations(siblings_of(self.path)))
        return {sibling.identity: index for index, group in ranked for sibling in group}

    def _open(self, path: str, identity: Identity) -> tuple[int, os.stat_result] | None:
        """The file at `path` if it still is the one that was looked at, and ours to read; OSError as from open."""
        fd = os.open(path, OPEN_FLAGS)
        status = os.fstat(fd)
        if identity != (status.st_dev, status.st_ino) or any(r.identity == identity for r in self.readers):
            os.close(fd)
            return None
        if self._keeper.claim(identity, self) is not None:
            self._refused.add((identity, status.st_mtime_ns))
            os.close(fd)
            return None
        return fd, status

    def _open_found(self, found: Found, position: Checkpoint, now: float, place: Between = _ANYWHERE) -> bool:
        try:
            opened = self._open(found.path, found.identity)
        except OSError:
            return False
        if opened is None:
            return False
        fd, status = opened
        if found.packing:
            packed = PackedReader(found.path, fd, status, found.packing, position, self.path, now)
            self._add(packed, place)
            return True
        same = found.identity == (position.dev, position.ino)
        role: Role = "current" if found.path == self.path else "leaving" if same else "copy"
        self._copytruncated = self._copytruncated or role == "copy"
        size = min(BEFORE_BYTES, position.offset)
        lines = lines_at(position, self.path, os.pread(fd, HEAD_BYTES, 0), os.pread(fd, size, position.offset - size))
        reader = PlainReader(found.path, fd, status, lines, role, now)
        reader.mtime_ns = position.mtime_ns or reader.mtime_ns
        reader.own = same
        self._add(reader, place)
        return True

    def _open_next(self, now: float) -> bool:
        """Open the oldest rotation that is unread and younger than all that was read; False where there is none.

        What happened to the open files comes first: the rest of one that was truncated is older than what is unread."""
        for reader in self.readers:
            if reader.confirmed and reader.is_truncated():
                self._truncated(reader, now)
                return True
        for _ in range(_TURNS):
            positions = [*self._known, *self._unplaced, *(r.known_by() for r in self.readers if r.confirmed)]
            unsettled = [r.peek() for r in self.readers if not r.confirmed]
            settled = frozenset(r.identity for r in self.readers if r.confirmed)
            unread = next_unread(self.path, positions, settled, unsettled, self._refuses, self._since_ns)
            if unread is None:
                return False
            if self._open_sibling(unread.sibling, unread.place, now):
                return True
        return False

    def _refuses(self, sibling: Sibling) -> bool:
        return sibling.identity in self._foreign or (sibling.identity, sibling.mtime_ns) in self._refused

    def _open_sibling(self, sibling: Sibling, place: Between, now: float) -> bool:
        try:
            opened = self._open(sibling.path, sibling.identity)
        except FileNotFoundError:
            return False
        except OSError as error:
            self._refused.add((sibling.identity, sibling.mtime_ns))
            text = f"{sibling.path}, a rotation that was not read yet, cannot be read: {reason_of(error)}"
            self._keeper.tell(self.path, "lost", text, now, None if sibling.packing else sibling.size_bytes)
            return False
        if opened is None:
            return False
        fd, status = opened
        if sibling.packing:
            packed = PackedReader(sibling.path, fd, status, sibling.packing, None, self.path, now)
            self._add(packed, place)
            return True
        reader = PlainReader(sibling.path, fd, status, Lines(self.path), "leaving", now)
        reader.own = False
        reader.confirmed = True
        self._add(reader, place)
        return True

    def _remember(self, position: Checkpoint) -> None:
        """Keep the youngest few positions by which files are known that need not be read; an empty one has nothing."""
        if position.offset:
            self._known.append(replace(position, done=True))
            if len(self._known) > _KNOWN:
                self._known.remove(min(self._known, key=lambda known: known.mtime_ns))

    # -- reading --------------------------------------------------------------------------------------------------

    def pump(self, limit_bytes: int, now: float) -> list[Batch]:
        """Read on, oldest file first, about `limit_bytes`; `more` is True where the end was not reached."""
        batches: list[Batch] = []
        taken = index = turns = 0
        self.more = False
        while True:
            if index == len(self.readers):
                if not self._behind or not self._catch_up(now):
                    return batches
                index = 0
                continue
            reader = self.readers[index]
            got = self._take(reader, now)
            if got is None:
                index = 0
                turns += 1
            else:
                for batch in got:
                    taken += len(batch.data)
                batches += got
                if not reader.eof:
                    turns += 0 if got else _TURNS  # an archive on its way to a position takes one turn a pump
                elif self._is_finished(reader, now):
                    batches += self._finish(reader, now)
                else:
                    index += 1
            if taken >= limit_bytes or turns >= _TURNS:
                self.more = index < len(self.readers) or self._behind
                return batches

    def _catch_up(self, now: float) -> bool:
        current = self.current
        if (current is None or not current.confirmed) and self._open_next(now):
            return True
        self._behind = False
        if current is not None:
            self._since_ns = current.mtime_ns
        return False

    def _take(self, reader: Reader, now: float) -> list[Batch] | None:
        """The reader's next batches; None where the readers changed and the turn begins anew."""
        try:
            if isinstance(reader, PlainReader) and not reader.confirmed:
                batches = self._take_first(reader, now)
            else:
                batches = reader.take(now)
        except Truncated:
            self._truncated(reader, now)
            return None
        except Mistaken as mistake:
            self._keeper.tell(self.path, "lost", f"{reader.path}: {mistake.text}: its rest is lost", now)
            reader.lines.rest = b""
            return []
        except OSError as error:
            self._fail(reader, error)
            return None
        if reader.lines.cut_lines:
            self._count_long(reader.lines, now)
        return batches

    def _take_first(self, reader: PlainReader, now: float) -> list[Batch] | None:
        if not reader.lines.rest:
            self._recognise(reader)
            if reader.confirmed:
                return reader.take(now)
        batches = reader.take(now)
        if not batches:
            if not reader.lines.rest and reader.touched():
                self._behind = True  # it was written to and emptied again before we came
            return batches
        if self._open_next(now):
            reader.restart(Lines(self.path))
            return None
        reader.confirmed = True
        self._foreign.clear()
        self._refused.clear()  # from here on the content read tells where to stop; an inode number can come back
        return batches

    def _recognise(self, reader: PlainReader) -> None:
        """A file that was read before under another identity (moved away and back, copied) is read on, not again."""
        others = [other for other in self.readers if other is not reader]
        for position in [*self._known, *(other.checkpoint() for other in others)]:
            if not position.offset or relation_of_fd(position, reader.fd) != "same":
                continue
            size = min(BEFORE_BYTES, position.offset)
            before = os.pread(reader.fd, size, position.offset - size)
            reader.restart(lines_at(position, self.path, os.pread(reader.fd, HEAD_BYTES, 0), before))
            for other in others:
                if other.checkpoint() == position:
                    self._drop(other)  # a copy of this very file, which need not be complete yet
            return

    def _truncated(self, reader: Reader, now: float) -> None:
        position = reader.checkpoint()
        self._copytruncated = True
        self._behind = True
        found = self._reopen(position, now, Between(None, reader.identity)) if position.offset else None
        if not isinstance(reader, PlainReader) or reader.role == "copy":
            self._drop(reader)
            return
        held_bytes = len(reader.lines.rest)
        reader.restart(Lines(self.path))
        if found is not None:
            self._tell_copied(reader, found, now)
        elif position.offset or not self._open_next(now):
            text = "emptied or overwritten, and no copy of it was found: what was written since the last read is lost"
            if held_bytes:
                text += f", with it the {held_bytes:,} bytes of an unfinished line"
            self._keeper.tell(self.path, "lost", text, now)

    def _tell_copied(self, reader: PlainReader, found: Found, now: float) -> None:
        bound = "after its last line"
        try:
            if not found.packing:
                gap_ns = reader.mtime_ns - os.stat(found.path).st_mtime_ns  # noqa: PTH116
                bound = f"within {max(0, gap_ns) / 1e9:.3f} s"
        except OSError:
            bound = "after its last line"
        text = (
            f"copied to {found.path} and truncated: the copy is read to its end; what was written between its last "
            f"read and the truncation ({bound}) may be lost, for any reader. Rotate by renaming to lose nothing"
        )
        self._keeper.tell(self.path, "lost", text, now)

    def _fail(self, reader: Reader, error: OSError) -> None:
        """The file cannot be read any more (I/O error, stale network handle): it is looked for again later."""
        self._unplaced.append(reader.checkpoint())
        self._behind = True
        self.failure = reason_of(error)
        self._drop(reader)

    def _count_long(self, lines: Lines, now: float) -> None:
        self._long_lines += lines.cut_lines
        lines.cut_lines = lines.cut_bytes = 0
        if self._long_notice_ts is None or now - self._long_notice_ts >= _LONG_LINE_NOTICE_S:
            self._long_notice_ts = now
            text = f"longer than {MAX_LINE_BYTES:,} bytes and cut there: {self._long_lines:,} lines so far"
            self._keeper.tell(self.path, "long-line", text, now)

    # -- ending ---------------------------------------------------------------------------------------------------

    def _is_finished(self, reader: Reader, now: float) -> bool:
        if reader.role != "leaving":
            return reader.role == "copy"
        quiet_s = now - max(reader.since_ts, reader.data_ts)
        if quiet_s < DELETED_GRACE_S:
            return False
        deleted = os.fstat(reader.fd).st_nlink == 0
        if self.current is None:
            return deleted and quiet_s >= ORPHAN_GRACE_S
        return quiet_s >= (DELETED_GRACE_S if deleted else GRACE_S)

    def _finish(self, reader: Reader, now: float) -> list[Batch]:
        """Close a file read to its end. The unfinished last line of one that may have been copied while it was written
        to is not handed out: it was cut by the copying, and a cut line can name another address than the whole one."""
        if self._copytruncated and not reader.own and reader.lines.rest:
            held_bytes = len(reader.lines.rest)
            reader.lines.rest = b""
            text = f"{reader.path}: the copy ends in the middle of a line, which is lost"
            self._keeper.tell(self.path, "lost", text, now, held_bytes)
        batches = reader.lines.finish(now)
        self._remember(reader.checkpoint())
        if not reader.lines.offset:
            self._refused.add(
                (reader.identity, os.fstat(reader.fd).st_mtime_ns)
            )  # empty: it has no content to be known again by
        self._drop(reader)
        return batches

    def _drop(self, reader: Reader) -> None:
        self.readers.remove(reader)
        if reader is self.current:
            self.current = None
        self._keeper.unwatch(reader)
        self._keeper.release(reader.identity, self)
        reader.close()

    def close(self) -> None:
        for reader in list(self.readers):
            self._drop(reader)

    def checkpoints(self) -> list[Checkpoint]:
        """Oldest file first; never empty, so that a restart knows that this path was followed."""
        positions = [*self._known, *self._unplaced, *(reader.checkpoint() for reader in self.readers)]
        if any(position.offset for position in positions):
            return positions
        return [Checkpoint(self.path, 0, 0, 0, 0, b"", b"", 0, self._since_ns), *positions]
