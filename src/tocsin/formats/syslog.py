"""The envelopes in which daemons' messages come: classic syslog, rsyslog's ISO times, and the journal as JSON.

Only sshd's messages are events (see `sshd`); any other well-formed line is Other.
"""

from __future__ import annotations

import re

import msgspec
from msgspec import Struct

from tocsin.formats.addresses import canonical
from tocsin.formats.base import Anchor, Skim, Verbatim, text_of
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.json_access import decode_json
from tocsin.formats.sshd import TAGS, login_event
from tocsin.model import Event, Other, Unparsed

# the tag ends at the first colon, bracket or blank: a message cannot reach back into it
_ENVELOPE = re.compile(
    r"(?:<[0-9]{1,3}>)?"
    r"(?:(?P<classic>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2})"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(?:\.[0-9]{1,9})?(?:Z|[+-][0-9]{2}:?[0-9]{2})))"
    r" \S+ (?:(?P<tag>[^\s:\[\]]+)(?:\[[0-9]{1,10}\])?: ?)?(?P<message>.*)",
    re.DOTALL,
).fullmatch


class Syslog(Verbatim):
    """`auth.log`, `secure`: classic (`Jun  3 13:29:51 host tag[pid]: message`) or ISO times, with `<PRI>` or without.

    The classic form has neither year nor zone: both come from the anchor.
    """

    name = "sshd-syslog"
    kind = "auth"
    json_escapes = False
    percent_pattern = b"%[2-7]"

    def __init__(self) -> None:
        self.skim: Skim | None = None
        self._stamp = Stamp([time_piece("%b %e %H:%M:%S")])

    def parse(self, line: bytes, anchor: Anchor) -> Event:
        """The login that a line tells of; Other where it tells of none; Unparsed where it has no envelope."""
        text = text_of(line)
        match = _ENVELOPE(text)
        if match is None:
            return Unparsed("expected a syslog line: `Jun  3 13:29:51 host tag[pid]: message`, or an ISO 8601 time")
        tag = match["tag"]
        ts = self._ts(match["classic"], match["iso"], anchor)
        if ts is None:
            return Unparsed(f"{match['classic'] or match['iso']!r} is no time")
        return login_event(ts, match["message"]) if tag in TAGS else Other()

    def _ts(self, classic: str | None, iso: str | None, anchor: Anchor) -> float | None:
        if classic is not None:
            return self._stamp.ts(classic, anchor)
        return iso_ts(iso, anchor) if iso else None

    def time_ts(self, text: bytes, anchor: Anchor) -> float | None:
        """Unix seconds of a classic or ISO time."""
        shown = text_of(text)
        return self._ts(None, shown, anchor) if "T" in shown else self._stamp.ts(shown, anchor)

    def client(self, raw: bytes) -> str | None:
        """The canonical address; None where it is none."""
        return canonical(text_of(raw))

    def request_pattern(self, method: str | None, literal: str) -> bytes | None:  # noqa: ARG002  the interface's
        """None: there are no requests."""
        return None


class JournalEntry(Struct, frozen=True):
    """The fields of a journal entry that we read. `_COMM` is the journal's own word, SYSLOG_IDENTIFIER the sender's."""

    realtime: str = msgspec.field(name="__REALTIME_TIMESTAMP")
    message: str | list[int | str | list[int]] | None = msgspec.field(name="MESSAGE", default=None)
    identifier: str | list[str] | None = msgspec.field(name="SYSLOG_IDENTIFIER", default=None)
    host: str | list[str] | None = msgspec.field(name="_HOSTNAME", default=None)
    sent_pid: str | list[str] | None = msgspec.field(name="SYSLOG_PID", default=None)
    pid: str | list[str] | None = msgspec.field(name="_PID", default=None)
    comm: str | list[str] | None = msgspec.field(name="_COMM", default=None)


_MICROSECONDS = re.compile(r"[0-9]{1,17}").fullmatch


class Journal:
    """The systemd journal as `journalctl -o json` prints it, one object a line."""

    name = "journal"
    kind = "auth"
    json_escapes = True
    verbatim = False
    percent_pattern = b"%[2-7]"

    def __init__(self) -> None:
        self.skim: Skim | None = None
        self._decoder: msgspec.json.Decoder[JournalEntry] = msgspec.json.Decoder(JournalEntry)

    def parse(self, line: bytes, anchor: Anchor) -> Event:
        """The login that an entry tells of; Other where it tells of none; Unparsed where it is no journal entry."""
        entry = decode_json(self._decoder, line)
        ts = None if entry is None else self.time_ts(entry.realtime.encode("utf-8", "backslashreplace"), anchor)
        if entry is None or ts is None:
            return Unparsed('expected an object of `journalctl -o json`, with "__REALTIME_TIMESTAMP" in microseconds')
        message = _message(entry.message)
        # another program may send what it likes under sshd's name, but not with sshd's `_COMM`
        speaker = entry.comm if entry.comm is not None else entry.identifier
        return login_event(ts, message) if speaker in TAGS and message is not None else Other()

    def plain(self, line: bytes, anchor: Anchor) -> tuple[str, float]:
        """The entry as syslog would write it, but for the time in front: `host tag[pid]: message`."""
        entry = decode_json(self._decoder, line)
        ts = None if entry is None else self.time_ts(entry.realtime.encode("utf-8", "backslashreplace"), anchor)
        if entry is None or ts is None:
            return text_of(line), anchor.now_ts
        tag, pid = _one(entry.identifier) or _one(entry.comm), _one(entry.sent_pid) or _one(entry.pid)
        if tag:
            tag = f"{tag}[{pid}]:" if pid else f"{tag}:"
        return " ".join(filter(None, (_one(entry.host), tag, _message(entry.message)))), ts

    def time_ts(self, text: bytes, anchor: Anchor) -> float | None:  # noqa: ARG002  the journal's times need no anchor
        """Unix seconds of microseconds."""
        shown = text_of(text)
        return int(shown) / 1e6 if _MICROSECONDS(shown) else None

    def client(self, raw: bytes) -> str | None:
        """The canonical address; None where it is none."""
        return canonical(text_of(raw))

    def request_pattern(self, method: str | None, literal: str) -> bytes | None:  # noqa: ARG002  the interface's
        """None: there are no requests."""
        return None


def _one(value: str | list[str] | None) -> str:
    """A field's only value; a field that is sent several times is nobody's word."""
    return value if isinstance(value, str) else ""


def _message(value: str | list[int | str | list[int]] | None) -> str | None:
    """MESSAGE as text. With unprintable signs or bytes that are no UTF-8 in it, the journal gives it as an array."""
    if value is None or isinstance(value, str):
        return value
    numbers = [item for item in value if isinstance(item, int)]
    if len(numbers) < len(value):
        return None  # several MESSAGE fields: none of them is sshd's
    return text_of(bytes(numbers)) if all(0 <= number < 256 for number in numbers) else None
