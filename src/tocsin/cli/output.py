"""How every command speaks: tables and colour on a terminal, aligned text in a pipe, JSON with `--json`.

Whatever comes from a log, a client or a configuration reaches the terminal through `safe` alone: control characters,
escape sequences, line breaks and marks that turn the writing direction stand there as their escapes. `rich` never sees
markup: it is handed ready `Text`. It is imported only where a terminal is to be written to.
"""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, tzinfo
from typing import TYPE_CHECKING, Any, TextIO

import msgspec

from tocsin.announce import safe_text as safe
from tocsin.cli.failure import BROKEN_PIPE
from tocsin.packed import spelt_out

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from tocsin.cli.progress import Bar

__all__ = ["Output", "json_line", "reader_may_leave", "safe", "shown_ts", "wants_colour"]

RICH_ROWS = 500  # rich lays out a table as a whole, 0.2 ms a row: longer ones are printed as in a pipe
BUFFER_BYTES = 1 << 16
_DEL = b"\x7f"


def is_terminal(stream: TextIO) -> bool:
    """Whether a person looks at it."""
    return stream.isatty() and os.environ.get("TERM") != "dumb"


def wants_colour(stream: TextIO) -> bool:
    """Whether it may be coloured: a terminal, and NO_COLOR (no-color.org) is not set."""
    return is_terminal(stream) and not os.environ.get("NO_COLOR")


@contextmanager
def reader_may_leave() -> Iterator[None]:
    """End quietly, as SIGPIPE would end us, when nobody reads standard output any more."""
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered has no reader
        raise SystemExit(BROKEN_PIPE) from None


def json_line(value: object) -> bytes:
    """One line of JSON in printable ASCII: whatever the texts hold, no terminal obeys it."""
    try:
        line = msgspec.json.encode(value)
    except UnicodeEncodeError:  # a lone surrogate, from a file name that is no UTF-8
        line = b"\xff"
    if not line.isascii() or _DEL in line:
        line = (
            json.dumps(spelt_out(msgspec.to_builtins(value)), separators=(",", ":")).encode().replace(_DEL, b"\\u007f")
        )
    return line + b"\n"


def shown_ts(ts: float, zone: tzinfo | None = None) -> str:
    """A moment, with its zone; `zone` None is the machine's own."""
    try:
        moment = datetime.fromtimestamp(ts, UTC).astimezone(zone)
    except (OverflowError, ValueError, OSError):
        return f"epoch {ts:.0f} s"
    return moment.strftime("%Y-%m-%d %H:%M:%S %Z")


class Output:
    """Where a command prints. `as_json` silences what is meant for people, but for `note`: that is standard error."""

    def __init__(self, *, as_json: bool = False, zone: tzinfo | None = None) -> None:
        self.as_json = as_json
        self.terminal = is_terminal(sys.stdout) and not as_json
        self.zone = zone
        self._pending: list[bytes] = []
        self._pending_bytes = 0
        self._console: Console | None = None

    # -- JSON --------------------------------------------------------------------------------------------------------

    def json(self, value: object) -> None:
        """Print a JSON document, or one object of a stream. Streams are gathered: `flush` at the end."""
        line = json_line(value)
        self._pending.append(line)
        self._pending_bytes += len(line)
        if self._pending_bytes >= BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Hand over what was gathered. BrokenPipeError where nobody reads any more."""
        if self._pending:
            sys.stdout.buffer.write(b"".join(self._pending))
            self._pending.clear()
            self._pending_bytes = 0
        sys.stdout.flush()

    # -- people ------------------------------------------------------------------------------------------------------

    def line(self, text: str = "", style: str = "") -> None:
        """Print one line. `text` may hold anything."""
        if self.as_json:
            return
        if self.terminal and style:
            self._rich().print(_text(text, style), soft_wrap=True)
        else:
            print(_encodable(safe(text)))

    def note(self, text: str) -> None:
        """Say something beside the result, on standard error: with `--json` too."""
        sys.stdout.flush()
        print(f"tocsin: {_encodable(safe(text), sys.stderr)}", file=sys.stderr)

    def table(self, columns: Sequence[str], rows: Iterable[Sequence[str]], right: Sequence[str] = ()) -> None:
        """Print a table; the columns named in `right` are flush right. Nothing where there are no rows."""
        ready = [tuple(map(safe, row)) for row in rows]
        if self.as_json or not ready:
            return
        aligned = tuple(column in right for column in columns)
        if self.terminal and len(ready) <= RICH_ROWS:
            self._rich_table(columns, ready, aligned)
        else:
            _plain_table(columns, ready, aligned)

    def when(self, ts: float | None) -> str:
        """A moment: local time on a terminal (or the zone asked for), UTC in a pipe; None is `never`."""
        if ts is None:
            return "never"
        return shown_ts(ts, self.zone if self.zone is not None or self.terminal else UTC)

    def _rich(self) -> Console:
        if self._console is None:
            from rich.console import Console  # noqa: PLC0415  50 ms, for terminals alone

            self._console = Console(highlight=False, markup=False, emoji=False)
        return self._console

    def _rich_table(self, columns: Sequence[str], rows: Sequence[Sequence[str]], aligned: Sequence[bool]) -> None:
        from rich.table import Table  # noqa: PLC0415  as above

        table = Table(box=None, padding=(0, 1), collapse_padding=True, pad_edge=False, header_style="bold underline")
        for column, is_right in zip(columns, aligned, strict=True):
            table.add_column(column, justify="right" if is_right else "left", overflow="fold")
        for row in rows:
            table.add_row(*(_text(cell, "") for cell in row))
        self._rich().print(table)


def progress_bar(what: str, total_bytes: int) -> Bar | None:
    """A progress bar on standard error for work that takes long; None where nobody would see it."""
    if not total_bytes or not is_terminal(sys.stderr):
        return None
    from tocsin.cli.progress import Bar  # noqa: PLC0415  for terminals alone

    return Bar(what, total_bytes)


def _text(text: str, style: str) -> Text:
    from rich.text import Text  # noqa: PLC0415  for terminals alone

    return Text(safe(text), style=style)


def _encodable(text: str, stream: Any = None) -> str:
    """The text with what the stream's encoding lacks as escapes (a terminal in the C locale knows ASCII alone)."""
    encoding = getattr(stream or sys.stdout, "encoding", None) or "utf-8"
    return text.encode(encoding, "backslashreplace").decode(encoding)


def _plain_table(columns: Sequence[str], rows: Sequence[Sequence[str]], aligned: Sequence[bool]) -> None:
    lines = [tuple(columns), *rows]
    widths = [max(len(line[i]) for line in lines) for i in range(len(columns))]
    for line in lines:
        cells = [
            cell.rjust(width) if is_right else cell.ljust(width)
            for cell, width, is_right in zip(line, widths, aligned, strict=True)
        ]
        print(_encodable("  ".join(cells).rstrip()))
