"""Reads finished logs, packed or plain, and standard input: one as fast as the disk gives it, several by time.

`Batch.source` is the path as it was given, `-` for standard input; offsets are positions in the decompressed bytes and
line numbers exact from 1, both within that file. The last line gets a newline where it lacks one; lines longer than
MAX_LINE_BYTES are cut there, as in logs that are followed.
"""

from __future__ import annotations

import errno
import os
import select
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from tocsin.model import Batch
from tocsin.sources.archive import MAGIC_BYTES, ArchiveError, Unpacker, packing_of
from tocsin.sources.lines import MAX_LINE_BYTES, Lines
from tocsin.sources.merge import NO_TIME, LineTs, Log, first_ts, merged
from tocsin.sources.notice import Notice, SourceError
from tocsin.sources.rotation import base_of, rotation_of

BLOCK_BYTES = 1 << 18  # what is made of a block stays in the cache: a tenth faster than 1 MiB
STANDARD_INPUT = "-"

_MERGE_MEMORY_BYTES = 128 << 20  # for the blocks of all files that are open at once
_LEAST_BLOCK_BYTES = 1 << 16
_PEEK_BYTES = 1 << 16
_HEAP_BYTES = 8 << 20
_OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY  # a FIFO that was named is waited for

_BINARY_HEAD_BYTES = 4096
_CONTROL = bytes(set(range(32)) - set(b"\t\n\v\f\r\x1b")) + b"\x7f"
_BINARY_SHARE = 0.05  # random bytes have 10 %, programs and data bases more
_BINARY_LEAST = 16
_TEXT_LINE_BYTES = 20  # a line so long without a control character is taken to be text, whatever stands around it
_FOREIGN_PACKINGS = ((b"BZh", "bzip2"), (b"PK\x03\x04", "zip"), (b"\x04\x22\x4d\x18", "lz4"), (b"7z\xbc\xaf", "7z"))

Refused = Callable[[SourceError], None]


def read_finished(
    paths: Sequence[Path],
    *,
    block_bytes: int = BLOCK_BYTES,
    progress: Callable[[int], None] | None = None,
    line_ts: LineTs | None = None,
    on_error: Refused | None = None,
    on_notice: Callable[[Notice], None] | None = None,
) -> Iterator[Batch]:
    """All lines of `paths`, as Batches of whole lines.

    Several are read in the order of their lines' times, which `line_ts` tells, in runs as long as that order allows; of
    equal times, rotations of one log (`access.log.2.gz` before `access.log.1`) come oldest first, else files as named.
    Without `line_ts` they are read one after the other in that same order. A regular file named twice is read once.

    `progress` hears how many bytes of the files, packed as they are, have been read in all. A file that cannot be read,
    or not to its end, is a SourceError: told to `on_error`, and the rest is still read; raised where there is none.
    Of a damaged archive all whole lines before the damage are handed out. `on_notice` hears of files with lines cut.
    """
    keep_heap()
    sources = _in_order(paths)
    job = _Job(block_bytes, progress, on_error, on_notice)
    if line_ts is None or len(sources) < 2:
        for source in sources:
            yield from job.batches(source)
        return
    job.block_bytes = min(block_bytes, max(_LEAST_BLOCK_BYTES, _MERGE_MEMORY_BYTES // len(sources)))
    yield from merged([Log(source, job.batches(source), _first_ts(source, line_ts), line_ts) for source in sources])


class _Job:
    """What reading the files has in common: how, and whom to tell."""

    def __init__(
        self,
        block_bytes: int,
        progress: Callable[[int], None] | None,
        on_error: Refused | None,
        on_notice: Callable[[Notice], None] | None,
    ) -> None:
        self.block_bytes = block_bytes
        self._progress = progress
        self._on_error = on_error
        self._on_notice = on_notice
        self._done_bytes = 0

    def batches(self, source: str) -> Iterator[Batch]:
        """The lines of one file; opened at the first, closed behind the last."""
        lines = Lines(source)
        fd = -1
        try:
            try:
                fd = _open(source)
                yield from self._read(fd, lines)
            except OSError as error:
                raise _refusal(source, error, lines.offset if fd >= 0 else None) from error
        except SourceError as error:
            if self._on_error is None:
                raise
            self._on_error(error)
        finally:
            if fd >= 0 and source != STANDARD_INPUT:
                os.close(fd)
        if lines.cut_lines and self._on_notice is not None:
            text = f"{lines.cut_lines:,} lines longer than {MAX_LINE_BYTES:,} bytes were cut there"
            self._on_notice(Notice(source, "long-line", text, time.time()))

    def _read(self, fd: int, lines: Lines) -> Iterator[Batch]:
        head = _head(fd, max(self.block_bytes, MAGIC_BYTES))
        packing = packing_of(head)
        if packing:
            yield from self._unpack(Unpacker(fd, packing, head), lines)
        else:
            _check_text(lines.source, head)
            yield from self._copy(fd, head, lines)
        yield from lines.finish()

    def _copy(self, fd: int, head: bytes, lines: Lines) -> Iterator[Batch]:
        """The fast way: one buffer for all reads, each byte copied once, no work that depends on the lines."""
        buffer = bytearray(self.block_bytes)
        view = memoryview(buffer)
        cut = head.rfind(b"\n") + 1
        yield from lines.feed(head[:cut])
        rest = head[cut:]
        self._advance(len(head))
        while size := _read_into(fd, view):
            cut = buffer.rfind(b"\n", 0, size) + 1
            if cut:
                yield from lines.feed(b"".join((rest, view[:cut])))
                rest = bytes(view[cut:size])
            else:  # the inside of a line that does not end here: Lines knows how much of it to keep
                yield from lines.feed(rest + view[:size])
                rest = b""
            self._advance(size)
        yield from lines.feed(rest)

    def _unpack(self, unpacker: Unpacker, lines: Lines) -> Iterator[Batch]:
        known_bytes = 0
        damage: ArchiveError | None = None
        while damage is None:
            parts: list[bytes] = []
            missing = self.block_bytes
            try:
                while missing > 0 and (data := unpacker.read(missing)):
                    parts.append(data)
                    missing -= len(data)
            except ArchiveError as error:
                damage = error
            if not parts:
                break
            data = b"".join(parts)
            if not known_bytes:
                _check_text(lines.source, data)
            yield from lines.feed(data)
            self._advance(unpacker.raw_bytes - known_bytes)
            known_bytes = unpacker.raw_bytes
        if damage is not None:
            # What is left of the line in which it broke may say something else than the whole did: it is no line.
            text = f"{damage.text}, at decompressed byte {damage.position:,}; the whole lines before it were read. "
            text += "Restore the file from where it was copied, or unpack by other means what follows"
            raise SourceError(lines.source, "data", text, lines.offset) from damage

    def _advance(self, size: int) -> None:
        self._done_bytes += size
        if self._progress is not None:
            self._progress(self._done_bytes)


def keep_heap() -> None:
    """Let malloc keep the blocks that we free and ask for again.

    glibc gives freed memory back as soon as it exceeds twice the largest block that was ever freed: of blocks of 1 MiB
    every one would be given back and faulted in anew (240 MB: 43,000 page faults, as long as all the rest). This one is
    never written to and costs nothing.
    """
    bytes(_HEAP_BYTES)


# -- which files, in which order ---------------------------------------------------------------------------------------


def _in_order(paths: Sequence[Path]) -> list[str]:
    """The files, each once; rotations of one log together, oldest first, where the first of them was named."""
    groups: dict[tuple[str, str], list[str]] = {}
    seen: set[tuple[int, int]] = set()
    for source in dict.fromkeys(str(path) for path in paths):
        identity = _identity(source)
        if identity is not None:
            if identity in seen:
                continue
            seen.add(identity)
        directory, name = os.path.split(source)
        groups.setdefault((directory, base_of(name)), []).append(source)
    return [source for (_, base), group in groups.items() for source in _oldest_first(group, base)]


def _identity(source: str) -> tuple[int, int] | None:
    if source == STANDARD_INPUT:
        return None
    try:
        status = os.stat(source)  # noqa: PTH116  texts throughout, as they were given
    except OSError:
        return None  # told when it is opened
    return (status.st_dev, status.st_ino) if S_ISREG(status.st_mode) else None


def _oldest_first(group: list[str], base: str) -> list[str]:
    """By the numbers or dates in their names where all have the one kind, else by when they were last written."""
    ages = {source: rotation_of(os.path.basename(source), base) for source in group}  # noqa: PTH119  texts throughout
    kinds = {age.kind for age in ages.values() if age is not None}
    if len(kinds) == 1 and "other" not in kinds:
        return sorted(group, key=lambda source: (0, age.order) if (age := ages[source]) else (1, ()))
    return sorted(group, key=_mtime_ns) if len(group) > 1 else group


def _mtime_ns(source: str) -> int:
    try:
        return os.stat(source).st_mtime_ns  # noqa: PTH116  texts throughout
    except OSError:
        return 0


def _first_ts(source: str, line_ts: LineTs) -> float:
    """The time at which a file begins; NO_TIME, so that it is read first, where that cannot be told beforehand."""
    if _identity(source) is None:
        return NO_TIME
    try:
        fd = _open(source)
    except (OSError, SourceError):
        return NO_TIME
    try:
        head = _head(fd, _PEEK_BYTES)
        if packing := packing_of(head):
            head = Unpacker(fd, packing, head).read_exactly(_PEEK_BYTES)
        return first_ts(source, head, line_ts)
    except (OSError, ArchiveError):
        return NO_TIME
    finally:
        os.close(fd)


# -- opening and reading -----------------------------------------------------------------------------------------------


def _open(source: str) -> int:
    if source == STANDARD_INPUT:
        return 0
    fd = os.open(source, _OPEN_FLAGS)
    status = os.fstat(fd)
    if S_ISDIR(status.st_mode):
        os.close(fd)
        raise SourceError(source, "no-input", "is a directory; name the log files in it")
    if S_ISREG(status.st_mode):
        os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_SEQUENTIAL)
    return fd


def _read_into(fd: int, view: memoryview) -> int:
    """A read that waits, also on standard input that somebody made non-blocking."""
    while True:
        try:
            return os.readv(fd, [view])
        except BlockingIOError:
            select.select([fd], [], [])


def _head(fd: int, limit: int) -> bytes:
    """What the file begins with: at least what tells its packing, unless it is shorter."""
    view = memoryview(bytearray(limit))
    size = 0
    while size < MAGIC_BYTES and (more := _read_into(fd, view[size:])):
        size += more
    return bytes(view[:size])


def _check_text(source: str, head: bytes) -> None:
    """SourceError where a file does not look like text. NULs in front are what truncating a log leaves: no sign."""
    for magic, name in _FOREIGN_PACKINGS:
        if head.startswith(magic):
            text = f"is packed with {name}; expected plain text, .gz, .xz or .zst: unpack it, and pipe it in or name it"
            raise SourceError(source, "data", text)
    sample = head[:_BINARY_HEAD_BYTES].lstrip(b"\0")
    controls = len(sample) - len(sample.translate(None, _CONTROL))
    if controls < max(_BINARY_LEAST, _BINARY_SHARE * len(sample)):
        return
    # One line of plain text is enough: a client must not be able to hide a log by what it puts into its requests.
    whole = sample[: sample.rfind(b"\n") + 1].split(b"\n")
    if not any(len(line) >= _TEXT_LINE_BYTES and len(line.translate(None, _CONTROL)) == len(line) for line in whole):
        text = "is no text but binary data; expected the lines of a log, plain or packed as .gz, .xz or .zst"
        raise SourceError(source, "data", text)


def _refusal(source: str, error: OSError, position: int | None) -> SourceError:
    """What an error of the system's means for a source that somebody named."""
    what = (error.strerror or str(error)).lower()
    if position is not None:
        text = f"reading failed at byte {position:,} ({what}); the whole lines before it were read"
        if error.errno == errno.EIO:
            text += ". Check the disk"
        return SourceError(source, "data", text, position)
    if isinstance(error, FileNotFoundError):
        return SourceError(source, "no-input", "there is no such file; check the name")
    if isinstance(error, PermissionError):
        text = "it may not be read; run as root, or as a member of the group that owns the logs (often adm)"
        return SourceError(source, "no-permission", text)
    if error.errno in (errno.EMFILE, errno.ENFILE):
        return SourceError(source, "no-input", "too many files are open; allow more (ulimit -n), or name fewer at once")
    return SourceError(source, "no-input", f"it cannot be opened ({what})")
