"""Lines of a log whose format nobody knows: the text, and the first time that stands in it. For rules with `line`."""

from __future__ import annotations

import re

from tocsin.formats.addresses import canonical
from tocsin.formats.base import Anchor, Skim, Verbatim, text_of
from tocsin.formats.dates import CLF, Stamp, iso_ts, time_piece
from tocsin.model import Event, RawLine

_TIME_WITHIN = 200  # a time that comes later is something that somebody wrote, not the line's own
_TIME = re.compile(
    r"(?P<clf>[0-9]{2}/[A-Z][a-z]{2}/[0-9]{4}:[0-9:]{8} [+-][0-9]{4})"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}:[0-9]{2}"
    r"(?:[.,][0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})?)"
    r"|(?P<syslog>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2})"
)


class RawLines(Verbatim):
    """Every line fits. One without a time counts at the anchor's: its arrival, or the finished file's own time."""

    name = "raw lines"
    kind = "line"
    json_escapes = False
    percent_pattern = b"%[2-7]"

    def __init__(self) -> None:
        self.skim: Skim | None = None
        self._clf = Stamp([time_piece(CLF)])
        self._syslog = Stamp([time_piece("%b %e %H:%M:%S")])

    def parse(self, line: bytes, anchor: Anchor) -> Event:
        """The line as text, with its time."""
        text = text_of(line)
        ts = self._first_ts(text[:_TIME_WITHIN], anchor)
        return RawLine(anchor.now_ts if ts is None else ts, text)

    def time_ts(self, text: bytes, anchor: Anchor) -> float | None:
        """Unix seconds of the first time in the text."""
        return self._first_ts(text_of(text), anchor)

    def client(self, raw: bytes) -> str | None:
        """The canonical address; None where it is none."""
        return canonical(text_of(raw))

    def request_pattern(self, method: str | None, literal: str) -> bytes | None:  # noqa: ARG002  the interface's
        """None: there are no requests."""
        return None

    def _first_ts(self, text: str, anchor: Anchor) -> float | None:
        match = _TIME.search(text)
        if match is None:
            return None
        if match["clf"]:
            return self._clf.ts(match["clf"], anchor)
        if match["iso"]:
            return iso_ts(match["iso"].replace(" ", "T", 1).replace(",", "."), anchor)
        return self._syslog.ts(match["syslog"], anchor)
