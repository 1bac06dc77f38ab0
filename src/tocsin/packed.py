"""A queue of structs, packed: a decision takes 150 bytes here, as an object with its texts 500.

While a flood is banned, or the disk fails, 100,000 and more of them wait for the disk and for the kernel.
"""

from __future__ import annotations

import struct
import threading
from collections import deque
from typing import Any, Generic, TypeVar, cast

import msgspec
from msgspec import Struct
from msgspec.structs import astuple, fields, replace

T = TypeVar("T", bound=Struct)

CHUNK_ROWS = 500
_ARRAY = struct.Struct(">BI")  # msgpack's head of an array with a 32-bit length
_ARRAY_32 = 0xDD


class Packed(Generic[T]):
    """Structs of one kind, in order, at most `max_rows`. One thread puts, another takes."""

    def __init__(self, kind: type[T], max_rows: int) -> None:
        row: Any = tuple[tuple(field.type for field in fields(kind))]  # type: ignore[misc]  # known only here
        self._kind = kind
        self._max_rows = max_rows
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[list[tuple[Any, ...]]] = msgspec.msgpack.Decoder(list[row])
        self._lock = threading.Lock()  # held for a microsecond: taking only takes the chunks away
        self._chunks: deque[tuple[bytearray, int]] = deque()
        self._chunk = _begun()
        self._chunk_rows = 0
        self._rows = 0

    def __len__(self) -> int:
        return self._rows

    @property
    def full(self) -> bool:
        """Whether there is no room for another."""
        return self._rows >= self._max_rows

    def put(self, row: T) -> bool:
        """Keep a row; False where there is no room. What no UTF-8 can hold (a lone surrogate) is spelt out."""
        if self.full:
            return False
        with self._lock:
            size = len(self._chunk)
            try:
                self._encoder.encode_into(astuple(row), self._chunk, -1)
            except UnicodeEncodeError:
                del self._chunk[size:]
                self._encoder.encode_into(astuple(spelt_out(row)), self._chunk, -1)
            self._chunk_rows += 1
            self._rows += 1
            if self._chunk_rows >= CHUNK_ROWS:
                self._seal()
        return True

    def take(self, about: int) -> list[T]:
        """The oldest rows, `about` so many: all where there are no more, at most a chunk beyond."""
        taken: list[bytearray] = []
        count = 0
        with self._lock:
            while count < about and self._rows:
                if not self._chunks:
                    self._seal()
                chunk, rows = self._chunks.popleft()
                taken.append(chunk)
                count += rows
                self._rows -= rows
        make, decode = self._kind, self._decoder.decode
        return [make(*row) for chunk in taken for row in decode(chunk)]

    def clear(self) -> None:
        """Drop all."""
        with self._lock:
            self._chunks.clear()
            self._chunk, self._chunk_rows, self._rows = _begun(), 0, 0

    def _seal(self) -> None:
        _ARRAY.pack_into(self._chunk, 0, _ARRAY_32, self._chunk_rows)
        self._chunks.append((self._chunk, self._chunk_rows))
        self._chunk, self._chunk_rows = _begun(), 0


def _begun() -> bytearray:
    return bytearray(_ARRAY.size)


S = TypeVar("S")


def spelt_out(value: S) -> S:
    """The same with every character that no UTF-8 can hold spelt out: a lone surrogate, as in the path of a file whose
    name is no UTF-8. Of a struct or of what JSON has.
    """
    return cast("S", _spelt_out(value))


def _spelt_out(value: object) -> object:
    if isinstance(value, str):
        return value if value.isascii() else value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, tuple):
        return tuple(map(_spelt_out, value))
    if isinstance(value, list):
        return list(map(_spelt_out, value))
    if isinstance(value, dict):
        return {_spelt_out(key): _spelt_out(each) for key, each in value.items()}
    if isinstance(value, Struct):
        return replace(value, **{name: _spelt_out(getattr(value, name)) for name in value.__struct_fields__})
    return value
