"""Logs inside .tar (packed or not) and .zip, each as an anonymous file: nothing is written to a disk.

Names inside an archive are shown, never used as a path. What an archive may unfold to is bounded.
"""

from __future__ import annotations

import os
import tarfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from typing import IO, TYPE_CHECKING

from msgspec import Struct

from tocsin.explain.model import Said, say
from tocsin.sources.archive import MAGIC_BYTES, ArchiveError, Unpacker, packing_of

if TYPE_CHECKING:
    from collections.abc import Iterable

MEMBERS = 20_000
MEMBER_BYTES = 8 << 30
"""What one member may unfold to."""
STAGED_BYTES = 1 << 30
"""What the members of one archive may take as anonymous files, packed."""

_TAR_BLOCK = 512
_CHUNK_BYTES = 1 << 20
_HEADER_BYTES = 1 << 20
_ZIP_MAGIC = b"PK\x03\x04"
_REGULAR = (tarfile.REGTYPE, tarfile.AREGTYPE, tarfile.CONTTYPE)
_WORDY = (
    *(tarfile.XHDTYPE, tarfile.XGLTYPE, tarfile.SOLARIS_XHDTYPE),
    *(tarfile.GNUTYPE_LONGNAME, tarfile.GNUTYPE_LONGLINK),
)
_BROKEN = (OSError, EOFError, RuntimeError, ValueError, zlib.error)
"""What the standard library raises over archives: cut off (EOFError), damaged (zlib.error, OSError of gzip and bz2),
locked or packed in a way that it does not know (RuntimeError), with headers that make no sense (ValueError).
"""


class Member(Struct, frozen=True):
    """A file of an archive, to be read at `/proc/self/fd/FD`; whoever has it closes it."""

    name: str
    fd: int
    mtime_ts: float


Refuse = Callable[[str, Said], None]
"""Told the name of a member ("": the archive's own) and what is wrong with it."""


def kind_of(path: str) -> str:
    """`tar`, `zip`, or "" for everything that is no archive or cannot be read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return ""
    try:
        head = os.read(fd, _TAR_BLOCK)
        if head.startswith(_ZIP_MAGIC):
            return "zip"
        if packing := packing_of(head[:MAGIC_BYTES]):
            head = Unpacker(fd, packing, head).read_exactly(_TAR_BLOCK)
        return "tar" if head[257:262] == b"ustar" else ""
    except (OSError, ArchiveError):
        return ""
    finally:
        os.close(fd)


def members(path: str, kind: str, refuse: Refuse) -> Iterator[Member]:
    """The regular files of an archive, in its order; of a damaged one those before the damage."""
    room = [STAGED_BYTES]
    try:
        yield from (_zip if kind == "zip" else _tar)(path, refuse, room)
    except (*_BROKEN, ArchiveError, tarfile.TarError, zipfile.BadZipFile) as error:
        what = error.text if isinstance(error, ArchiveError) else str(error) or type(error).__name__
        refuse("", say("The archive cannot be read to its end ({what}); what comes before is used.", what=what[:200]))


def stage(chunks: Iterable[bytes], room: list[int]) -> int | None:
    """Chunks of a file as an anonymous one, compressed unless they are; None where they are more than `room` holds."""
    import zstandard  # noqa: PLC0415  only for those who have archives

    fd = os.memfd_create("log", os.MFD_CLOEXEC)
    packer: zstandard.ZstdCompressionObj | None = None
    seen = written = 0
    try:
        for chunk in chunks:
            if not seen and not packing_of(chunk):
                packer = zstandard.ZstdCompressor(level=1).compressobj()
            seen += len(chunk)
            written += os.write(fd, packer.compress(chunk) if packer else chunk)
            if seen > MEMBER_BYTES or written > room[0]:
                os.close(fd)
                return None
        if packer is not None:
            written += os.write(fd, packer.flush())
    except BaseException:
        os.close(fd)
        raise
    room[0] -= written
    return fd


def _take(name: str, stream: IO[bytes], mtime_ts: float, refuse: Refuse, room: list[int]) -> Iterator[Member]:
    fd = stage(iter(lambda: stream.read(_CHUNK_BYTES), b""), room)
    if fd is None:
        refuse(name, say("It is too large to be read inside its archive; unpack it and name its folder."))
    else:
        yield Member(name, fd, mtime_ts)


class _Careful(tarfile.TarInfo):
    """Headers whose texts are not so long that reading them fills the memory."""

    @classmethod
    def frombuf(cls, buf: bytes | bytearray, encoding: str, errors: str) -> _Careful:
        header = super().frombuf(buf, encoding, errors)
        if header.type in _WORDY and header.size > _HEADER_BYTES:
            raise tarfile.ReadError("a header is longer than any name")
        return header


class _Stream:
    """A packed or plain file as the stream that tarfile reads."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        head = os.read(fd, MAGIC_BYTES)
        packing = packing_of(head)
        self._unpacker = Unpacker(fd, packing, head) if packing else None
        self._head = b"" if packing else head

    def read(self, size: int) -> bytes:
        if self._unpacker is not None:
            return self._unpacker.read_exactly(size)
        head, self._head = self._head, b""
        return head + os.read(self._fd, size - len(head))


def _tar(path: str, refuse: Refuse, room: list[int]) -> Iterator[Member]:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        with tarfile.open(fileobj=_Stream(fd), mode="r|", tarinfo=_Careful, errors="backslashreplace") as tar:  # type: ignore[call-overload]
            for number, member in enumerate(tar):
                if number >= MEMBERS:
                    refuse("", say("It holds more than {count} files; the first of them are used.", count=MEMBERS))
                    return
                stream = tar.extractfile(member) if member.type in _REGULAR and member.size else None
                if stream is not None:
                    yield from _take(member.name, stream, float(member.mtime), refuse, room)
    finally:
        os.close(fd)


def _zip(path: str, refuse: Refuse, room: list[int]) -> Iterator[Member]:
    from datetime import datetime  # noqa: PLC0415

    with zipfile.ZipFile(path) as archive:
        for number, info in enumerate(archive.infolist()):
            if number >= MEMBERS:
                refuse("", say("It holds more than {count} files; the first of them are used.", count=MEMBERS))
                return
            if info.is_dir() or not info.file_size:
                continue
            try:
                written_ts = datetime(*info.date_time).timestamp()  # noqa: DTZ001  zip's times are local
            except ValueError:
                written_ts = 0.0
            try:
                with archive.open(info) as stream:
                    yield from _take(info.filename, stream, written_ts, refuse, room)
            except (*_BROKEN, zipfile.BadZipFile) as error:
                refuse(info.filename, say("It cannot be unpacked ({what}).", what=str(error)[:200]))
