"""Cuts a stream of bytes into Batches of whole lines, whatever the pieces in which it comes.

Every reader of this room (tail, archives, finished files, journal, standard input) uses this one class, so a line is
the same line however it was read. Memory is bounded: at most MAX_LINE_BYTES of an unfinished line are held back.
"""

from __future__ import annotations

from collections.abc import Iterator

from tocsin.model import Batch

MAX_LINE_BYTES = 64 * 1024
"""Longest line handed out, without its newline. Apache's request line and header limits (8190 bytes each) keep honest
lines far below; what is longer is handed out cut, as a line of its own, and its rest skipped."""

HEAD_BYTES = 1024
BEFORE_BYTES = 256
_NEWLINE = 10


def count_lines(data: bytes) -> int:
    """Newlines in `data`. Deleting them is 6 times as fast as `bytes.count` (CPython 3.11: 15 against 2.6 GB/s)."""
    return len(data) - len(data.replace(b"\n", b""))


def _runs(body: bytes) -> Iterator[tuple[int, int, int]]:
    """(begin, stop, next) of what to hand out of whole lines: stop < next where a line was cut at MAX_LINE_BYTES."""
    begin = at = 0
    end = len(body)
    while end - at > MAX_LINE_BYTES + 1:
        newline = body.rfind(b"\n", at, at + MAX_LINE_BYTES + 1)
        if newline >= 0:
            at = newline + 1
            continue
        if at > begin:
            yield begin, at, at
        following = body.index(b"\n", at + MAX_LINE_BYTES) + 1
        yield at, at + MAX_LINE_BYTES, following
        begin = at = following
    if end > begin:
        yield begin, end, end


class Lines:
    """Position in one stream, and the bytes by which the stream is known again.

    `offset` counts the bytes handed out (or skipped as the rest of an over-long line); `rest` is the beginning of a
    line that has not ended yet and lies behind it. `line` is the number of the next line, 0 where it cannot be known.
    `head` holds the first HEAD_BYTES before `offset`, `before` the last BEFORE_BYTES. A position that does not stand
    after a newline stands inside an over-long line, whose rest is skipped: so a restart needs no more than the offset.
    """

    __slots__ = ("before", "cut_bytes", "cut_lines", "head", "line", "offset", "rest", "skipping", "source")

    def __init__(self, source: str, offset: int = 0, line: int = 1, head: bytes = b"", before: bytes = b"") -> None:
        self.source = source
        self.offset = offset
        self.line = line
        self.head = head
        self.before = before
        self.rest = b""
        self.skipping = offset > 0 and before[-1:] != b"\n"
        self.cut_lines = 0
        self.cut_bytes = 0

    @property
    def end(self) -> int:
        """How far the stream was read: `offset` and what is held back."""
        return self.offset + len(self.rest)

    def mark(self) -> bytes:
        """The last bytes before `end`, at most BEFORE_BYTES."""
        return (self.before + self.rest)[-BEFORE_BYTES:] if self.rest else self.before

    def feed(self, data: bytes, arrival_ts: float | None = None) -> list[Batch]:
        """The next bytes of the stream; returns the whole lines that they complete, in order."""
        if self.skipping:
            data = self._skip(data)
        cut = data.rfind(b"\n") + 1
        if not cut:
            self.rest += data
            return self._cut_rest(arrival_ts) if len(self.rest) > MAX_LINE_BYTES else []
        body = data if cut == len(data) else data[:cut]
        if self.rest:
            body = self.rest + body
        self.rest = data[cut:]
        short = len(body) <= MAX_LINE_BYTES + 1
        batches = [self._pass(body, arrival_ts)] if short else self._pass_long(body, arrival_ts)
        if len(self.rest) > MAX_LINE_BYTES:
            batches += self._cut_rest(arrival_ts)
        return batches

    def finish(self, arrival_ts: float | None = None) -> list[Batch]:
        """The stream is known to have ended: what is held back is its last line and gets the newline it lacks."""
        if not self.rest:
            return []
        rest, self.rest = self.rest, b""
        batch = Batch(self.source, rest + b"\n", self.offset, self.line, arrival_ts)
        self._advance(rest, 1)
        self.skipping = True
        return [batch]

    def _pass(self, body: bytes, arrival_ts: float | None) -> Batch:
        batch = Batch(self.source, body, self.offset, self.line, arrival_ts)
        self._advance(body, count_lines(body) if self.line else 0)
        return batch

    def _pass_long(self, body: bytes, arrival_ts: float | None) -> list[Batch]:
        batches: list[Batch] = []
        for begin, stop, following in _runs(body):
            piece = body if following - begin == len(body) else body[begin:following]
            if stop == following:
                batches.append(self._pass(piece, arrival_ts))
                continue
            kept = body[begin:stop] + b"\n"
            batches.append(Batch(self.source, kept, self.offset, self.line, arrival_ts))
            self._count_cut(following - stop - 1)
            self._advance(piece, 1)
        return batches

    def _cut_rest(self, arrival_ts: float | None) -> list[Batch]:
        rest, self.rest = self.rest, b""
        kept = rest[:MAX_LINE_BYTES] + b"\n"
        batch = Batch(self.source, kept, self.offset, self.line, arrival_ts)
        self._count_cut(len(rest) - MAX_LINE_BYTES)
        self._advance(rest, 1)
        self.skipping = True
        return [batch]

    def _skip(self, data: bytes) -> bytes:
        newline = data.find(b"\n")
        skipped = data if newline < 0 else data[: newline + 1]
        self.skipping = newline < 0
        self.cut_bytes += len(skipped)
        self._advance(skipped, 0)
        return data[len(skipped) :]

    def _count_cut(self, skipped_bytes: int) -> None:
        self.cut_lines += 1
        self.cut_bytes += skipped_bytes

    def _advance(self, raw: bytes, lines: int) -> None:
        self.offset += len(raw)
        if self.line:
            self.line += lines
        if len(self.head) < HEAD_BYTES:
            self.head = (self.head + raw[:HEAD_BYTES])[:HEAD_BYTES]
        self.before = raw[-BEFORE_BYTES:] if len(raw) >= BEFORE_BYTES else (self.before + raw)[-BEFORE_BYTES:]
