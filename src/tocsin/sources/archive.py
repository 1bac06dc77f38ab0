"""Reads .gz, .xz and .zst as a stream, in bounded memory, and to the last byte that a damaged archive still yields."""

from __future__ import annotations

import os
import zlib
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    import lzma

    import zstandard

Packing = Literal["", "gz", "xz", "zst"]

_MAGIC: tuple[tuple[bytes, Packing], ...] = (
    (b"\x1f\x8b", "gz"),
    (b"\xfd7zXZ\x00", "xz"),
    (b"\x28\xb5\x2f\xfd", "zst"),
)
MAGIC_BYTES = 6
_XZ_MEMORY_BYTES = 256 << 20  # xz -9 asks for 65 MB; a crafted header may ask for 4 GB


class ArchiveError(Exception):
    """The archive ends too early or is damaged; `position` is the decompressed byte up to which it could be read."""

    def __init__(self, text: str, position: int) -> None:
        super().__init__(text)
        self.text = text
        self.position = position


def packing_of(head: bytes) -> Packing:
    """The packing that a file's first MAGIC_BYTES tell; "" for everything else."""
    return next((packing for magic, packing in _MAGIC if head.startswith(magic)), "")


# Each codec unpacks one member (frame, stream): `feed` yields at most `limit` bytes and wants input when `hungry`;
# `unused` is what follows the member's end.


class _Gzip:
    # zlib throws away what one call had unpacked before it met damage: small pieces lose less (16 KiB of the archive).
    input_bytes = 1 << 14

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(31)
        self.error: type[Exception] = zlib.error
        self._full = False

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes, limit: int) -> bytes:
        out = self._inner.decompress(self._inner.unconsumed_tail + data, limit)
        self._full = len(out) == limit  # zlib may hold more output although all input is consumed
        return out

    def hungry(self) -> bool:
        return not self._full and not self._inner.unconsumed_tail


class _Xz:
    input_bytes = 1 << 16

    def __init__(self) -> None:
        import lzma  # noqa: PLC0415  guard starts without what it may never need

        self._inner: lzma.LZMADecompressor = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=_XZ_MEMORY_BYTES)
        self.error: type[Exception] = lzma.LZMAError

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes, limit: int) -> bytes:
        return self._inner.decompress(data, limit)

    def hungry(self) -> bool:
        return self._inner.needs_input


class _Zstd:
    # zstandard knows no output limit here: 2 KiB of input yield 65 MB at the very worst (runs of one byte), not 2 GB.
    input_bytes = 2048

    def __init__(self) -> None:
        import zstandard  # noqa: PLC0415  20 ms and 3 MB, for those who have .zst

        self._inner: zstandard.ZstdDecompressionObj = zstandard.ZstdDecompressor().decompressobj()
        self.error: type[Exception] = zstandard.ZstdError
        self._ready = b""

    @property
    def eof(self) -> bool:
        return self._inner.eof and not self._ready

    @property
    def unused(self) -> bytes:
        return self._inner.unused_data

    def feed(self, data: bytes, limit: int) -> bytes:
        out = self._ready
        if data:
            fresh = self._inner.decompress(data)
            out = out + fresh if out else fresh
        self._ready = out[limit:]
        return out[:limit]

    def hungry(self) -> bool:
        return not self._ready


_CODECS: dict[str, type[_Gzip | _Xz | _Zstd]] = {"gz": _Gzip, "xz": _Xz, "zst": _Zstd}


class Unpacker:
    """Decompresses what `fd` yields from its current position on; several members after one another are one stream.

    `begun` is what was already read from `fd`. Does not close it. `raw_bytes` counts the compressed bytes read.
    """

    def __init__(self, fd: int, packing: Packing, begun: bytes = b"") -> None:
        self._fd = fd
        self._make = _CODECS[packing]
        self._codec = self._make()
        self._begun = begun
        self._fed_any = False
        self._ended = False
        self.position = 0
        self.raw_bytes = len(begun)

    def read(self, limit: int) -> bytes:
        """At most `limit` decompressed bytes, b"" at the end. ArchiveError where the archive is damaged or cut off."""
        while not self._ended:
            data = b""
            if self._codec.eof:
                data = self._next_member()
                if self._ended:
                    break
            elif self._codec.hungry():
                data = self._input()
                if not data:
                    self._end_of_input()
                    break
            out = self._feed(data, limit)
            if out:
                self.position += len(out)
                return out
        return b""

    def read_exactly(self, size: int) -> bytes:
        """`size` bytes, fewer only at the end."""
        parts: list[bytes] = []
        while size > 0 and (data := self.read(size)):
            parts.append(data)
            size -= len(data)
        return b"".join(parts)

    def _feed(self, data: bytes, limit: int) -> bytes:
        try:
            out = self._codec.feed(data, limit)
        except self._codec.error as error:
            self._ended = True
            raise ArchiveError(f"the archive is damaged ({error})", self.position) from error
        self._fed_any = self._fed_any or bool(data)
        return out

    def _input(self) -> bytes:
        size = self._make.input_bytes
        if self._begun:
            data, self._begun = self._begun[:size], self._begun[size:]
            return data
        data = os.read(self._fd, size)
        self.raw_bytes += len(data)
        return data

    def _next_member(self) -> bytes:
        """The first bytes of the next member; zero padding between members is allowed."""
        data = self._codec.unused.lstrip(b"\0")
        while len(data) < MAGIC_BYTES:
            more = self._input()
            if not more:
                break
            data = (data + more).lstrip(b"\0")
        if not data:
            self._ended = True
            return b""
        if not packing_of(data):
            self._ended = True
            raise ArchiveError("something that is no archive follows its end", self.position)
        # What does not fit into one feeding goes back in front of the file.
        size = self._make.input_bytes
        data, self._begun = data[:size], data[size:] + self._begun
        self._codec = self._make()
        return data

    def _end_of_input(self) -> None:
        self._ended = True
        if self._fed_any and not self._codec.eof:
            raise ArchiveError("the archive ends in its middle", self.position)
