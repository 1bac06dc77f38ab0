"""What a guard that starts for the first time learns from the logs that are there: what normal looks like.

Without it the first quarter of an hour would pass before anything can stand out, and a night before the night is known.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator, Sequence
from pathlib import Path

from tocsin.decide.crowd import Crowd
from tocsin.decide.siege import SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.model import Batch, Unparsed
from tocsin.reading import Readings

MOST_BYTES = 8 << 20  # of all logs together: 28,000 lines took 1.3 s, in which nothing is watched yet
LINES_AT_ONCE = 500

Row = tuple[float, int, bytes]


def learn(paths: Sequence[Path], readings: Readings, settings: SiegeSettings, now_ts: float) -> tuple[Crowd, int]:
    """The crowd as it would be, had it seen the last lines of these logs and of their predecessors (`.1`), in the order
    of their times; and how many lines that were. What cannot be read, or has no known format, is left out.
    """
    crowd = Crowd(Visitors(), settings, lambda _change: None)
    engine = Engine((), Limits(), observer=crowd)
    most_bytes = MOST_BYTES // max(1, len(paths))
    lines = 0
    logs = [_rows(number, path, readings, now_ts, most_bytes) for number, path in enumerate(paths)]
    for number, rows in _portions(heapq.merge(*logs)):
        source, data = str(paths[number]), b"".join(line + b"\n" for _, _, line in rows)
        fmt, anchor = readings.of(Batch(source, data), now_ts)
        if fmt is not None and fmt.kind == "access":
            engine.step(Batch(source, data), fmt, anchor, lambda _finding: None)
            lines += len(rows)
    return crowd, lines


def _rows(number: int, path: Path, readings: Readings, now_ts: float, most_bytes: int) -> Iterator[Row]:
    """The lines of a log and its predecessor with their times, none of them before the one before it."""
    newest_ts = 0.0
    for line in _tail(path, most_bytes).split(b"\n"):
        fmt, anchor = readings.of_line(str(path), line, now_ts) if line else (None, None)
        if fmt is None or anchor is None:
            continue
        event = fmt.parse(line, anchor)
        if not isinstance(event, Unparsed):
            newest_ts = max(newest_ts, getattr(event, "ts", newest_ts))
            yield newest_ts, number, line


def _tail(path: Path, most_bytes: int) -> bytes:
    """At most so many of the last bytes of a log and its predecessor, from the begin of a line."""
    found = b""
    for each in (path, path.with_name(path.name + ".1")):
        left = most_bytes - len(found)
        try:
            with each.open("rb") as file:
                size = file.seek(0, 2)
                file.seek(max(0, size - left))
                data = file.read(left)
        except OSError:  # named by those who watch the logs; what came before it is there or not
            continue
        found = (data if size <= left else data[data.find(b"\n") + 1 :]) + found
        if len(found) >= most_bytes:
            break
    return found


def _portions(rows: Iterator[Row]) -> Iterator[tuple[int, list[Row]]]:
    """Rows that follow each other in one log, some hundred at a time."""
    portion: list[Row] = []
    for row in rows:
        if portion and (row[1] != portion[0][1] or len(portion) >= LINES_AT_ONCE):
            yield portion[0][1], portion
            portion = []
        portion.append(row)
    if portion:
        yield portion[0][1], portion
