"""Which files of one source are open, in the order in which they were written, and what is known of older ones.

Finds files again after rotations and restarts (`resume`), and the rotations between them that nobody has read yet
(`open_next`). Reading them is the chain's business.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Protocol

from msgspec.structs import replace

from tocsin.sources.fingerprint import Checkpoint, lines_at, relation_of_fd
from tocsin.sources.lines import BEFORE_BYTES, HEAD_BYTES, Lines
from tocsin.sources.notice import NoticeKind
from tocsin.sources.reader import PackedReader, PlainReader, Reader, Role
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

_KNOWN = 8
_RACES = 3
_LOOKS = 64
_ANYWHERE = Between()


class Keeper(Protocol):
    """What a line-up needs of the tail that it belongs to."""

    def watch(self, lineup: Lineup, reader: Reader) -> None: ...
    def unwatch(self, reader: Reader) -> None: ...
    def claim(self, identity: Identity, lineup: Lineup) -> str | None:
        """None when the file is this line-up's; else the source that reads it already."""

    def release(self, identity: Identity, lineup: Lineup) -> None: ...
    def tell(self, source: str, kind: NoticeKind, text: str, ts: float, lost_bytes: int | None = None) -> None: ...


def reason_of(error: OSError) -> str:
    """The error in words, with what to do where that is clear."""
    text = (error.strerror or str(error)).lower()
    if isinstance(error, PermissionError):
        return f"{text}; give the user that Tocsin runs as permission to read it (on Debian: the group adm)"
    return text


class Lineup:
    """The files of the source at `path`. `readers` is oldest first, `current` the one at the path. `behind`: there may
    be rotations to look for. `copytruncated`: this log has been seen to be rotated so."""

    def __init__(self, path: str, keeper: Keeper, since_ns: int) -> None:
        self.path = path
        self.keeper = keeper
        self.readers: list[Reader] = []
        self.current: PlainReader | None = None
        self.behind = True
        self.copytruncated = False
        self._known: list[Checkpoint] = []
        self._unplaced: list[Checkpoint] = []
        self._foreign: set[Identity] = set()
        self._refused: set[tuple[Identity, int]] = set()
        self._since_ns = since_ns

    @property
    def begun(self) -> bool:
        """Whether any file of this source was ever read."""
        return bool(self.readers or self._known)

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
        self.behind = True
        if position.done:
            self.remember(position)
            return
        if not position.ino:
            return
        if self._hides(position):
            self._unplaced.append(position)
            return
        if self.reopen(position, now) is not None or not position.offset:
            return
        text = (
            f"the file that was being read (inode {position.ino}, read up to byte {position.offset:,}) is neither here "
            "nor among its rotations and archives: if anything was written to it after that, it is lost"
        )
        self.keeper.tell(self.path, "lost", text, now)

    def place_again(self, now: float) -> None:
        """Look anew for what could not be read."""
        unplaced, self._unplaced = self._unplaced, []
        for position in unplaced:
            self._place(position, now)

    def reopen(self, position: Checkpoint, now: float, place: Between = _ANYWHERE) -> Found | None:
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
        self.remember(position)
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
            self.behind = True

    def caught_up(self) -> None:
        """All that was written before the current file has been read."""
        self.behind = False
        if self.current is not None:
            self._since_ns = self.current.mtime_ns

    def confirm(self, reader: PlainReader) -> None:
        """Nothing unread lies before this file: from here on the content read tells where a search is to stop."""
        reader.confirmed = True
        self._foreign.clear()
        self._refused.clear()  # the inode number of a deleted file comes back

    def recognise(self, reader: PlainReader) -> None:
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
                    self.drop(other)  # a copy of this very file, which need not be complete yet
            return

    def suspect(self) -> None:
        """Rotations appeared while there is no current file: the next pump searches them."""
        self.behind = self.behind or self.current is None

    def _add(self, reader: Reader, place: Between = _ANYWHERE) -> None:
        if reader.role == "current" and isinstance(reader, PlainReader):
            self.current = reader
            self.readers.append(reader)
        else:
            self.readers.insert(self._rank(reader.identity, place), reader)
        self.keeper.watch(self, reader)

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
        if self.keeper.claim(identity, self) is not None:
            self._refused.add((identity, status.st_mtime_ns))
            os.close(fd)
            return None
        return fd, status

    def _open_found(self, found: Found, position: Checkpoint, now: float, place: Between = _ANYWHERE) -> bool:
        for reader in list(self.readers):
            if reader.identity == found.identity and position.offset and not reader.lines.offset:
                self.drop(reader)  # opened for the inode number of an empty file that is gone
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
        self.copytruncated = self.copytruncated or role == "copy"
        size = min(BEFORE_BYTES, position.offset)
        lines = lines_at(position, self.path, os.pread(fd, HEAD_BYTES, 0), os.pread(fd, size, position.offset - size))
        reader = PlainReader(found.path, fd, status, lines, role, now)
        reader.mtime_ns = position.mtime_ns or reader.mtime_ns
        reader.own = same
        self._add(reader, place)
        return True

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
            self.keeper.tell(self.path, "lost", text, now, None if sibling.packing else sibling.size_bytes)
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

    def remember(self, position: Checkpoint) -> None:
        """Keep the youngest few positions by which files are known that need not be read; an empty one has nothing."""
        if position.offset:
            self._known.append(replace(position, done=True))
            if len(self._known) > _KNOWN:
                self._known.remove(min(self._known, key=lambda known: known.mtime_ns))

    def open_next(self, now: float) -> bool:
        """Open the oldest rotation that is unread and younger than all that was read; False where there is none."""
        for _ in range(_LOOKS):
            positions = [*self._known, *self._unplaced, *(r.known_by() for r in self.readers if r.confirmed)]
            unsettled = [r.peek() for r in self.readers if not r.confirmed]
            settled = frozenset(r.identity for r in self.readers if r.confirmed)
            unread = next_unread(self.path, positions, settled, unsettled, self._refuses, self._since_ns)
            if unread is None:
                return False
            if self._open_sibling(unread.sibling, unread.place, now):
                return True
        return False

    def finish(self, reader: Reader) -> None:
        """A file was read to its end and need not be read again."""
        self.remember(reader.checkpoint())
        if not reader.lines.offset:  # empty: it has no content to be known again by
            self._refused.add((reader.identity, os.fstat(reader.fd).st_mtime_ns))
        self.drop(reader)

    def fail(self, reader: Reader) -> None:
        """A file cannot be read any more (I/O error, stale network handle): to be looked for again later."""
        self._unplaced.append(reader.checkpoint())
        self.behind = True
        self.drop(reader)

    def drop(self, reader: Reader) -> None:
        """Close a file."""
        self.readers.remove(reader)
        if reader is self.current:
            self.current = None
        self.keeper.unwatch(reader)
        self.keeper.release(reader.identity, self)
        reader.close()

    def close(self) -> None:
        """Close all."""
        for reader in list(self.readers):
            self.drop(reader)

    def checkpoints(self) -> list[Checkpoint]:
        """Oldest file first; never empty, so that a restart knows that this path was followed."""
        positions = [*self._known, *self._unplaced, *(reader.checkpoint() for reader in self.readers)]
        if any(position.offset for position in positions):
            return positions
        return [Checkpoint(self.path, 0, 0, 0, 0, b"", b"", 0, self._since_ns), *positions]
