"""The lines that prove a finding: kept while a rule counts, in bounded memory, handed out with the finding.

Only so many bytes are kept in all; beyond, the lines of the keys that have waited longest go first. The crossing line
itself is always there.
"""

from __future__ import annotations

from _blake2 import blake2b  # what hashlib hands out; hashlib itself loads OpenSSL, 4 MB of it
from collections import OrderedDict
from collections.abc import Iterable

from tocsin.model import Evidence, Finding

EVIDENCE_LINES = 10  # of a finding: the last ones before the crossing line, and it
EVIDENCE_BYTES = 1000  # of one line

Row = tuple[str, int, int, bytes]  # source, line number, offset, the line


class EvidenceStore:
    """The lines that counted, by (rule, key): the last few of each, oldest keys dropped beyond a budget of bytes."""

    OVERHEAD_BYTES = 300

    def __init__(self, budget_bytes: int) -> None:
        self.budget_bytes = budget_bytes
        self.used_bytes = 0
        self.lines: OrderedDict[tuple[str, str], list[Row]] = OrderedDict()

    def add(self, slot: tuple[str, str], row: Row) -> None:
        """Keep a line (source, line number, offset, bytes)."""
        rows = self.lines.get(slot)
        if rows is None:
            rows = self.lines[slot] = []
        else:
            self.lines.move_to_end(slot)  # else its own next line could push it out, crossing line and all
            if len(rows) >= EVIDENCE_LINES:
                self.used_bytes -= len(rows.pop(0)[3]) + self.OVERHEAD_BYTES
        rows.append(row)
        self.used_bytes += len(row[3]) + self.OVERHEAD_BYTES
        while self.used_bytes > self.budget_bytes and len(self.lines) > 1:
            _, gone = self.lines.popitem(last=False)
            self.used_bytes -= sum(len(row[3]) + self.OVERHEAD_BYTES for row in gone)

    def take(self, slot: tuple[str, str]) -> tuple[Evidence, ...]:
        """The lines of a key as evidence; they are forgotten."""
        rows = self.lines.pop(slot, [])
        self.used_bytes -= sum(len(row[3]) + self.OVERHEAD_BYTES for row in rows)
        return evidence_of(rows)


def evidence_of(rows: Iterable[Row]) -> tuple[Evidence, ...]:
    """Rows as they are shown."""
    return tuple(Evidence(source, line, offset, printable(text)) for source, line, offset, text in rows)


def finding_of(
    rule: str,
    subject: str,
    ts: float,
    count: int,
    within_s: float,
    evidence: tuple[Evidence, ...],
    via: str | None = None,
    note: str = "",
) -> Finding:
    """A finding whose id follows from rule, subject and the crossing line, the last of the evidence."""
    crossing = evidence[-1]
    digest = blake2b(digest_size=8)
    for part in (rule, subject, repr(ts), crossing.source, str(crossing.offset), crossing.text):
        digest.update(part.encode() + b"\0")
    return Finding(digest.hexdigest(), rule, subject, ts, count, within_s, evidence, via, note)


def printable(line: bytes) -> str:
    """A log line as text that no terminal obeys: what is not a printable character stands as its escape."""
    text = line.decode("utf-8", "backslashreplace")
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)
