"""What guard says while it runs: one line an event, to standard output, never waited for.

A pipe that nobody reads, or a journal that stands still because the machine thrashes, must not hold up a ban. So a
thread writes, from a bounded queue; what does not fit is counted and said when there is room again.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections import deque
from typing import Any, TextIO

from tocsin.packed import spelt_out

QUEUE_LINES = 10_000


def safe_text(text: str) -> str:
    """The text with everything that a terminal could obey as its escape."""
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class Announcer:
    """Says things in order. `as_json`: one object a line with `ts`, `event`, `text` and the fields given."""

    def __init__(self, out: TextIO | None = None, *, as_json: bool = False) -> None:
        self._out = out or sys.stdout
        self._json = as_json
        self._lines: deque[str] = deque()
        self._wake = threading.Event()
        self._dropped = 0
        self._closing = False
        self._thread = threading.Thread(target=self._write, name="announce", daemon=True)
        self._thread.start()

    def say(self, event: str, text: str, **fields: Any) -> None:
        """Queue one line; never waits."""
        if len(self._lines) >= QUEUE_LINES:
            self._dropped += 1
            return
        self._lines.append(self._line(event, text, fields))
        self._wake.set()

    def _line(self, event: str, text: str, fields: dict[str, Any]) -> str:
        if self._json:
            return json.dumps(spelt_out({"ts": round(time.time(), 3), "event": event, "text": text, **fields}))
        line = f"tocsin: {safe_text(text)}"
        encoding = getattr(self._out, "encoding", None) or "utf-8"
        return line.encode(encoding, "backslashreplace").decode(encoding)  # what the locale lacks, as its escape

    def close(self, within_s: float = 1.0) -> None:
        """Say what is left, if that goes quickly."""
        self._closing = True
        self._wake.set()
        self._thread.join(within_s)

    def _write(self) -> None:
        while not (self._closing and not self._lines):
            self._wake.wait()
            self._wake.clear()
            try:
                while self._lines:
                    self._out.write(self._lines.popleft() + "\n")
                if self._dropped:
                    dropped, self._dropped = self._dropped, 0
                    text = f"{dropped} messages were left out: nobody read them in time"
                    self._out.write(self._line("left-out", text, {"messages": dropped}) + "\n")
                self._out.flush()
            except (OSError, ValueError):
                return  # standard output is gone, for good: there is nobody to tell, and the ledger has it all
