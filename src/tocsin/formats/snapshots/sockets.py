"""Connections to this machine's web ports: tables of `ss` and `netstat`, and what people count of them."""

from __future__ import annotations

import re

from tocsin.formats.addresses import canonical
from tocsin.formats.snapshots.sections import Seen
from tocsin.server_events import Connections, Processes, Sample

MOST_ADDRESSES = 10_000

_SS_STATES = {
    "ESTAB": "ESTABLISHED", "SYN-RECV": "SYN_RECV", "SYN-SENT": "SYN_SENT", "CLOSE-WAIT": "CLOSE_WAIT",
    "TIME-WAIT": "TIME_WAIT", "FIN-WAIT-1": "FIN_WAIT1", "FIN-WAIT-2": "FIN_WAIT2", "LAST-ACK": "LAST_ACK",
    "CLOSING": "CLOSING", "UNCONN": "CLOSE", "LISTEN": "LISTEN",
}  # fmt: skip
_STATES = frozenset(_SS_STATES.values())
_WEB_PORTS = frozenset(
    ("80", "443", "8080", "8443", "http", "https", "http-alt", "webcache", "https-alt", "pcsync-https")
)
_NETSTAT_CUT = 23
_SOCKET_ROW = re.compile(r"(?:(?:tcp|TCP)6?\s|[A-Z][A-Z0-9-]{4,10}\s|udp|unix|u_|nl\s|raw|p_)").match


def socket_header(line: str) -> bool:
    """Whether a line is the header of `ss` or of `netstat`'s table of connections."""
    return ("Recv-Q" in line and "Local" in line) or line.startswith("Active Internet connections")


class SocketsSection:
    """`ss -tn`, `netstat -tn`: connections to this machine's web ports. States are named as `netstat` does."""

    blank_ends = True

    def __init__(self) -> None:
        self._counts: dict[tuple[str, str], int] = {}
        self._first: dict[tuple[str, str], tuple[int, str]] = {}
        self._rows = 0
        self._line, self._text = 0, ""

    def take(self, line: str, number: int) -> bool:
        """Whether the line is of the header or a connection (also one that does not concern us)."""
        if socket_header(line) or line.startswith(("Active UNIX", "Proto RefCnt")):
            return self._rows == 0 or "UNIX" in line or "RefCnt" in line
        if not _SOCKET_ROW(line):
            return False
        words = line.split(None, 7)
        state, local, peer = _ends(words)
        if state is None:
            return words[0][:4] in {"udp", "udp6", "unix", "raw", "raw6"} or words[0][:2] in {"u_", "nl", "p_"}
        self._rows += 1
        if self._rows == 1:
            self._line, self._text = number, line
        self._count(state, local, peer, line, number)
        return True

    def _count(self, state: str, local: str, peer: str, line: str, number: int) -> None:
        host, _, port = peer.rpartition(":")
        # netstat cuts long addresses short, and what is left may be another's
        cut = len(peer) == _NETSTAT_CUT and ":" in host and "[" not in host
        if state == "LISTEN" or local.rpartition(":")[2] not in _WEB_PORTS or not port or cut:
            return
        address = canonical(host)
        if address is None:
            return
        key = (address, state)
        if key in self._counts:
            self._counts[key] += 1
        elif len(self._counts) < 4 * MOST_ADDRESSES:
            self._counts[key] = 1
            self._first[key] = number, line

    def told(self) -> Seen | None:
        """The sample, the addresses with most connections first, with the first line of the first of them."""
        if not self._rows:
            return None
        ordered = sorted(self._counts.items(), key=lambda item: (-item[1], item[0]))[:MOST_ADDRESSES]
        connections = tuple(Connections(address, count, state) for (address, state), count in ordered)
        line, text = self._first[ordered[0][0]] if ordered else (self._line, self._text)
        return Sample(ts=0.0, kind="ss", connections=connections), line, text


def _ends(words: list[str]) -> tuple[str | None, str, str]:
    """State, local and remote end of a row of `ss` (with the protocol in front or not) or `netstat`."""
    if len(words) >= 6 and words[0][:3] == "tcp" and words[5] in _STATES:
        return words[5], words[3], words[4]
    at = 1 if len(words) >= 6 and words[0][:3] == "tcp" else 0
    if len(words) >= at + 5 and (state := _SS_STATES.get(words[at])) is not None:
        return state, words[at + 3], words[at + 4]
    return None, "", ""


_COUNT_ROW = re.compile(r"\s*([0-9]{1,7}) (?:([a-z][a-z0-9._-]{1,31})|([0-9A-Fa-f.:]{4,45}))\s*").fullmatch
_ABOUT_CONNECTIONS = re.compile(r"\b(?:netstat|ss|conn\w*)\b").search


class CountsSection:
    """What `sort | uniq -c` leaves: processes by name, or, where the title before speaks of connections, addresses."""

    blank_ends = True

    def __init__(self, title: str) -> None:
        self._addresses = _ABOUT_CONNECTIONS(title) is not None
        self._processes: dict[str, int] = {}
        self._connections: dict[str, int] = {}
        self._most = -1
        self._line, self._text = 0, ""

    def take(self, line: str, number: int) -> bool:
        """Whether the line is a count of something that we know."""
        match = _COUNT_ROW(line)
        if match is None:
            return False
        address = canonical(match[3]) if match[3] and self._addresses else None
        counts, name = (self._connections, address) if match[3] else (self._processes, match[2])
        if name is None or len(counts) >= MOST_ADDRESSES:
            return False
        counts[name] = counts.get(name, 0) + int(match[1])
        if int(match[1]) > self._most:
            self._most, self._line, self._text = int(match[1]), number, line
        return True

    def told(self) -> Seen | None:
        """The sample, with the line of the greatest number."""
        processes = tuple(Processes(name, count, 0) for name, count in _most_first(self._processes))
        connections = tuple(Connections(address, count) for address, count in _most_first(self._connections))
        kind = "ps" if processes else "ss"
        return Sample(ts=0.0, kind=kind, processes=processes, connections=connections), self._line, self._text


def _most_first(counts: dict[str, int]) -> list[tuple[str, int]]:
    return sorted(counts.items(), key=lambda item: (-item[1], item[0]))
