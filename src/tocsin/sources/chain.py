"""The files of one source in the order in which they were written, read one after the other.

A younger file is read only while all older ones stand at their end. One that was opened anew or truncated is
*unconfirmed*: when its first whole lines have been read, but before they are handed out, the directory is searched for
rotations that were written between the last file read and this one (we may have been stopped, or late). Only this order
can be trusted, because a rotation may happen at any time: what was read before a look that finds nothing in between,
follows what was read last.

What can be lost: with copytruncate, the bytes written after the copy's last read and before the truncation. They exist
nowhere any more. This holds for every reader; those that we read before the truncation are not lost. The notice gives
the time between the copy's last write and the truncation as the bound.
"""

from __future__ import annotations

import os

from tocsin.model import Batch
from tocsin.sources.lines import MAX_LINE_BYTES, Lines
from tocsin.sources.lineup import Lineup, reason_of
from tocsin.sources.reader import Mistaken, PlainReader, Reader, Truncated
from tocsin.sources.rotation import Between, Found

GRACE_S = 60.0
"""A rotated file is read on until it was quiet for so long: Apache's children finish their requests in it."""
DELETED_GRACE_S = 10.0
"""The same for one that was deleted: it holds disk space as long as we keep it open."""
ORPHAN_GRACE_S = 600.0
"""The same for one that was deleted and has no successor: its writer may not know and write on."""
_LONG_LINE_NOTICE_S = 60.0
_TURNS = 64


class Chain:
    """Reads the files of a line-up. `more`: the last `pump` did not reach the end. `failure`: a file cannot be read any
    more; the owner clears it and looks for the file again."""

    def __init__(self, lineup: Lineup) -> None:
        self.lineup = lineup
        self.more = False
        self.failure = ""
        self._long_lines = 0
        self._long_notice_ts: float | None = None

    # -- reading --------------------------------------------------------------------------------------------------

    def pump(self, limit_bytes: int, now: float) -> list[Batch]:
        """Read on, oldest file first, about `limit_bytes`; `more` is True where the end was not reached."""
        batches: list[Batch] = []
        taken = index = turns = 0
        self.more = False
        while True:
            if index == len(self.lineup.readers):
                if not self.lineup.behind or not self._catch_up(now):
                    return batches
                index = 0
                continue
            reader = self.lineup.readers[index]
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
                self.more = index < len(self.lineup.readers) or self.lineup.behind
                return batches

    def _catch_up(self, now: float) -> bool:
        current = self.lineup.current
        if (current is None or not current.confirmed) and self._open_next(now):
            return True
        self.lineup.caught_up()
        return False

    def _open_next(self, now: float) -> bool:
        """What happened to open files comes first: the rest of one that was truncated is older than what is unread."""
        for reader in self.lineup.readers:
            if reader.confirmed and reader.is_truncated():
                self._truncated(reader, now)
                return True
        return self.lineup.open_next(now)

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
            self.lineup.keeper.tell(self.lineup.path, "lost", f"{reader.path}: {mistake.text}: its rest is lost", now)
            reader.lines.rest = b""
            return []
        except OSError as error:
            self.failure = reason_of(error)
            self.lineup.fail(reader)
            return None
        if reader.lines.cut_lines:
            self._count_long(reader.lines, now)
        return batches

    def _take_first(self, reader: PlainReader, now: float) -> list[Batch] | None:
        if not reader.lines.rest:
            self.lineup.recognise(reader)
            if reader.confirmed:
                return reader.take(now)
        batches = reader.take(now)
        if not batches:
            if not reader.lines.rest and reader.touched():
                self.lineup.behind = True  # it was written to and emptied again before we came
            return batches
        if self._open_next(now):
            reader.restart(Lines(self.lineup.path))
            return None
        self.lineup.confirm(reader)
        return batches

    def _truncated(self, reader: Reader, now: float) -> None:
        position = reader.checkpoint()
        self.lineup.copytruncated = True
        self.lineup.behind = True
        found = self.lineup.reopen(position, now, Between(None, reader.identity)) if position.offset else None
        if not isinstance(reader, PlainReader) or reader.role == "copy":
            self.lineup.drop(reader)
            return
        held_bytes = len(reader.lines.rest)
        reader.restart(Lines(self.lineup.path))
        if found is not None:
            self._tell_copied(reader, found, now)
        elif position.offset or not self._open_next(now):
            text = "emptied or overwritten, and no copy of it was found: what was written since the last read is lost"
            if held_bytes:
                text += f", with it the {held_bytes:,} bytes of an unfinished line"
            self.lineup.keeper.tell(self.lineup.path, "lost", text, now)

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
        self.lineup.keeper.tell(self.lineup.path, "lost", text, now)

    def _count_long(self, lines: Lines, now: float) -> None:
        self._long_lines += lines.cut_lines
        lines.cut_lines = lines.cut_bytes = 0
        if self._long_notice_ts is None or now - self._long_notice_ts >= _LONG_LINE_NOTICE_S:
            self._long_notice_ts = now
            text = f"longer than {MAX_LINE_BYTES:,} bytes and cut there: {self._long_lines:,} lines so far"
            self.lineup.keeper.tell(self.lineup.path, "long-line", text, now)

    # -- ending ---------------------------------------------------------------------------------------------------

    def _is_finished(self, reader: Reader, now: float) -> bool:
        if reader.role != "leaving":
            return reader.role == "copy"
        quiet_s = now - max(reader.since_ts, reader.data_ts)
        if quiet_s < DELETED_GRACE_S:
            return False
        deleted = os.fstat(reader.fd).st_nlink == 0
        if self.lineup.current is None:
            return deleted and quiet_s >= ORPHAN_GRACE_S
        return quiet_s >= (DELETED_GRACE_S if deleted else GRACE_S)

    def _finish(self, reader: Reader, now: float) -> list[Batch]:
        """Close a file read to its end. The unfinished last line of one that may have been copied while it was written
        to is not handed out: it was cut by the copying, and a cut line can name another address than the whole one."""
        if self.lineup.copytruncated and not reader.own and reader.lines.rest:
            held_bytes = len(reader.lines.rest)
            reader.lines.rest = b""
            text = f"{reader.path}: the copy ends in the middle of a line, which is lost"
            self.lineup.keeper.tell(self.lineup.path, "lost", text, now, held_bytes)
        batches = reader.lines.finish(now)
        self.lineup.finish(reader)
        return batches
