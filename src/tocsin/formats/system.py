"""The system's log: syslog's files and what `journalctl` exports, with the messages of many daemons in one place.

Classic syslog's times have neither year nor zone, and under memory pressure they are when a line was written down,
not when it happened: where the kernel's messages carry their uptime, that orders them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

import msgspec

from tocsin.formats.base import Anchor
from tocsin.formats.daemons import DaemonMessages, is_idle
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.heard import LONGEST, Heard, Hours, looked_at
from tocsin.formats.init import InitMessages
from tocsin.formats.json_access import decode_json
from tocsin.formats.kernel import KernelMessages, split_uptime
from tocsin.formats.sshd import TAGS
from tocsin.formats.syslog import JournalEntry, _message, _one
from tocsin.formats.told import TEXT_CHARACTERS, Clock, Told

# The tag ends at the first colon, bracket or blank: a message cannot reach back into it.
_HEAD = (
    r"(?:<[0-9]{1,3}>)?"
    r"(?:(?P<classic>[A-Z][a-z]{2} [ 0-9][0-9] [0-9]{2}:[0-9]{2}:[0-9]{2})(?:\.(?P<fraction>[0-9]{1,9}))?"
    r"|(?P<iso>[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.,](?P<part>[0-9]{1,9}))?"
    r"(?P<zone>Z|[+-][0-9]{2}:?[0-9]{2}))"
    r" \S{1,255} "
)
_TAG = r"(?P<tag>[^\s:\[\]]{1,128})(?:\[(?P<pid>[0-9]{1,10})\])?: ?"
_ENVELOPE = re.compile(rf"{_HEAD}(?:{_TAG})?(?P<message>.*)", re.DOTALL).fullmatch
_TAGGED = re.compile(_HEAD + _TAG).match
_INIT = frozenset(("init", "systemd", "systemd-oomd", "systemd-logind", "earlyoom"))
_MARK = "--"  # the journal's own lines: where it begins, a boot, with `-x` an explanation
_MICROSECONDS = re.compile(r"[0-9]{1,17}").fullmatch


class _Entry(JournalEntry, frozen=True):
    """What else we read of a journal entry: how it came, the uptime in microseconds, the unit that systemd means."""

    transport: str | list[str] | None = msgspec.field(name="_TRANSPORT", default=None)
    monotonic: str | list[str] | None = msgspec.field(name="_SOURCE_MONOTONIC_TIMESTAMP", default=None)
    unit: str | list[str] | None = msgspec.field(name="UNIT", default=None)


class _Line(NamedTuple):
    ts: float
    clock: Clock
    tag: str
    pid: str | None
    message: str
    uptime_s: float | None = None
    unit: str = ""


class SystemLog:
    """`/var/log/syslog`, `messages`, `kern.log`, `auth.log`, `cron.log`; `journalctl -o short`, `short-precise`,
    `short-iso`, `short-iso-precise` and `json`.
    """

    name = "system"
    kind = "system"

    def __init__(self) -> None:
        self.clock: Clock = "local"
        self.ts: float | None = None
        self.unparsed = 0
        self.sample = ""
        self._classic = Hours(Stamp([time_piece("%b %e %H:%M:%S")]).ts, 10)
        self._iso = Hours(iso_ts, 14)
        self._decoder: msgspec.json.Decoder[_Entry] = msgspec.json.Decoder(_Entry)
        self._kernel = KernelMessages()
        self._init = InitMessages()
        self._daemons = DaemonMessages()

    @classmethod
    def share(cls, lines: Sequence[str]) -> float:
        """How many lines have an envelope and a tag, or continue one that has."""
        decoder = msgspec.json.Decoder(_Entry)
        fitting = tried = 0
        for line in lines:
            if not line.strip():
                continue
            tried += 1
            if line.startswith("{"):
                entry = decode_json(decoder, _bytes(line))
                fitting += entry is not None and _MICROSECONDS(entry.realtime) is not None
                continue
            match = _ENVELOPE(looked_at(line))
            tagged = match is not None and match["tag"] is not None
            fitting += tagged or line.startswith(_MARK) or (fitting > 0 and line[0] in " \t")
        return fitting / tried if tried else 0.0

    def tell(self, line: str, number: int, anchor: Anchor) -> Sequence[Told]:
        """What a line completes."""
        if self._passed(line, anchor):
            return ()
        heard = self._entry(line) if line.startswith("{") else self._text(looked_at(line), anchor)
        if heard is None:
            if line.strip() and not line.startswith(_MARK) and (self.ts is None or line[0] not in " \t"):
                self.unparsed += 1
                self.sample = self.sample or line[:TEXT_CHARACTERS]
            return []
        self.ts, self.clock = heard.ts, heard.clock
        return self._spoken(heard, number, line[:TEXT_CHARACTERS], anchor)

    def _passed(self, line: str, anchor: Anchor) -> bool:
        """Whether a line tells nothing but that the log spoke: found out in a fifth of the time that reading takes."""
        head = _TAGGED(line) if len(line) <= LONGEST else None
        if head is None:
            return False
        tag, begin = head["tag"], head.end()
        if tag == "kernel":
            if not self._kernel.is_idle(line, begin):
                return False
        elif tag in _INIT or not is_idle(tag, line, begin):
            return False
        heard = self._when(head, anchor)
        if heard is None:
            return False
        self.ts, self.clock = heard
        return True

    def _spoken(self, said: _Line, number: int, text: str, anchor: Anchor) -> list[Told]:
        uptime_s, message = said.uptime_s, said.message
        if said.tag == "kernel":
            stamped_s, message = split_uptime(message)
            uptime_s = stamped_s if stamped_s is not None else uptime_s
        heard = Heard(said.ts, said.clock, number, text, uptime_s)
        if said.tag == "kernel":
            return self._kernel.tell(message, heard)
        told = self._init.tell(said.tag, said.pid, message, heard, said.unit)
        return told or self._daemons.tell(said.tag, message, heard, anchor)

    def _text(self, line: str, anchor: Anchor) -> _Line | None:
        match = _ENVELOPE(line)
        if match is None:
            return None
        when = self._when(match, anchor)
        return None if when is None else _Line(*when, match["tag"] or "", match["pid"], match["message"])

    def _when(self, head: re.Match[str], anchor: Anchor) -> tuple[float, Clock] | None:
        classic = head["classic"]
        ts = self._classic.ts(classic, anchor) if classic else self._iso.ts(head["iso"] + head["zone"], anchor)
        if ts is None:
            return None
        fraction = head["fraction"] or head["part"]
        return ts + float(f"0.{fraction}") if fraction else ts, "local" if classic else "zone"

    def _entry(self, line: str) -> _Line | None:
        entry = decode_json(self._decoder, _bytes(line))
        if entry is None or not _MICROSECONDS(entry.realtime):
            return None
        # `_TRANSPORT` and `_COMM` are the journal's own word, the identifier is what the sender claims
        tag = _one(entry.identifier) or _one(entry.comm)
        kernel = _one(entry.transport) == "kernel"
        claimed = tag in TAGS and entry.comm is not None and entry.comm not in TAGS
        if claimed or (tag == "kernel" and not kernel and entry.transport is not None):
            tag = _one(entry.comm)
        monotonic = _one(entry.monotonic)
        return _Line(
            int(entry.realtime) / 1e6,
            "zone",
            "kernel" if kernel and not tag else tag,
            _one(entry.pid) or _one(entry.sent_pid) or None,
            (_message(entry.message) or "")[:LONGEST],
            int(monotonic) / 1e6 if kernel and _MICROSECONDS(monotonic) else None,
            _one(entry.unit),
        )

    def finish(self) -> Sequence[Told]:
        """What was left open."""
        return self._kernel.finish()


def _bytes(line: str) -> bytes:
    return line.encode("utf-8", "backslashreplace")
