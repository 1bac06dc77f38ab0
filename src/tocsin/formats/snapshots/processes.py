"""Tables of processes: `ps` in any of its column choices, and `top -b` with the lines above its table.

Columns are found by the header. Processes are grouped by the program's base name; kernel threads and zombies, which
hold no memory, are left out unless they are blocked.
"""

from __future__ import annotations

import re

from msgspec import Struct

from tocsin.formats.snapshots.units import load_of, size
from tocsin.server_events import Processes, Sample

MOST_NAMES = 500
COMMAND_CHARACTERS = 200

_COMMANDS = frozenset(("COMMAND", "CMD", "COMM", "ARGS", "UCMD", "COM."))
_RSS = ("RSS", "RES", "RSZ", "RSSIZE", "RÉS")
_HEADER_WORD = re.compile(r"[A-ZÉ%n][A-ZÉ0-9%+./:_-]{0,15}").fullmatch
_WEEKDAY_WORD = re.compile(r"[A-Z][a-z]{2}").fullmatch
_HEADERLESS = re.compile(
    r"[\w.+-]{1,32} +[0-9]{1,8} +(?:"
    r"(?P<aux>[0-9.]{1,6} +[0-9.]{1,6} +[0-9]{1,12} +[0-9]{1,12} +\S{1,12} +[DIRSTtWXZ][<NLsl+]{0,5}"
    r" +\S{1,9} +[0-9]{1,6}:[0-9]{2} )"
    r"|[0-9]{1,8} +[0-9]{1,3} +\S{1,9} +\S{1,12} +[0-9-]{1,8}:[0-9]{2}:[0-9]{2} )"
).match
AUX = ("USER", "PID", "%CPU", "%MEM", "VSZ", "RSS", "TTY", "STAT", "START", "TIME", "COMMAND")
EF = ("UID", "PID", "PPID", "C", "STIME", "TTY", "TIME", "CMD")
_TREE = re.compile(r"[ |`\\_+-]{0,120}").match


class Group(Struct):
    """The processes of one name so far."""

    count: int = 0
    rss_bytes: int = 0
    swap_bytes: int = 0
    blocked: int = 0
    largest_bytes: int = -1
    command: str = ""
    line: int = 0
    text: str = ""


def base_name(command: str) -> str:
    """The program of a command line: `/usr/sbin/apache2 -k start` -> `apache2`, `php-fpm: pool www` -> `php-fpm`."""
    first = command.split(None, 1)[0] if command else ""
    first = first.strip("()").removeprefix("-").removesuffix(":").removesuffix("+")
    return first.rstrip("/").rpartition("/")[2] or first or "?"


def header_of(line: str) -> tuple[str, ...] | None:
    """The columns of a header of `ps` or `top`; None where the line is none."""
    words = tuple(line.split())
    if not 2 <= len(words) <= 40 or not ("PID" in words or any(word in words for word in _RSS)):
        return None
    if not any(word in _COMMANDS for word in words) or not all(map(_HEADER_WORD, words)):
        return None
    return words


def headerless(line: str) -> tuple[str, ...] | None:
    """The columns of a row of `ps aux` or `ps -ef` whose header `grep` or `sort` took away; None where it is none."""
    match = _HEADERLESS(line)
    if match is None:
        return None
    return AUX if match["aux"] else EF


class Table:
    """The rows under a header."""

    def __init__(self, columns: tuple[str, ...]) -> None:
        self.columns = columns
        self._at = next(index for index, name in enumerate(columns) if name in _COMMANDS)
        self._after = len(columns) - self._at - 1
        self._rss = next((index for index, name in enumerate(columns) if name in _RSS), None)
        self._state = next((index for index, name in enumerate(columns) if name in {"STAT", "S"}), None)
        self._swap = columns.index("SWAP") if "SWAP" in columns else None
        self._pid = columns.index("PID") if "PID" in columns else None
        self._dates = {index for index, name in enumerate(columns) if name == "STARTED"}
        self._pids: set[str] = set()
        self.groups: dict[str, Group] = {}

    def take(self, line: str, number: int) -> bool:
        """Whether the line is a row; then it counts."""
        cells = self._cells(line)
        if cells is None or (self._pid is not None and not _is_number(cells[self._pid])):
            return False
        rss = size(cells[self._rss], 1024) if self._rss is not None else 0
        if rss is None:
            return False
        pid = cells[self._pid] if self._pid is not None else ""
        # `ps -L` and `top -H` print a row for each thread
        if not pid or pid not in self._pids:
            self._pids.add(pid)
            self._count(cells, rss, line, number)
        return True

    def _cells(self, line: str) -> list[str] | None:
        """The row's cells by column; the command may hold blanks."""
        words = line.split()
        if self._dates:
            words = self._dates_joined(words)
        if len(words) < len(self.columns):
            return None
        end = len(words) - self._after
        return [*words[: self._at], " ".join(words[self._at : end]), *words[end:]]

    def _dates_joined(self, words: list[str]) -> list[str]:
        """`STARTED` is `21:24:01`, `Jul 05` or `Sun Jul  5 21:24:01 2015`: one cell."""
        for index in self._dates:
            if index >= self._at or index + 2 > len(words) or not _WEEKDAY_WORD(words[index]):
                continue
            length = 5 if _WEEKDAY_WORD(words[index + 1]) else 2
            words = [*words[:index], " ".join(words[index : index + length]), *words[index + length :]]
        return words

    def _count(self, cells: list[str], rss: int, line: str, number: int) -> None:
        command = cells[self._at]
        command = command[_TREE(command).end() :] if command[:1] in " |`\\" else command  # type: ignore[union-attr]
        state = cells[self._state][:1] if self._state is not None else ""
        blocked = state == "D"
        kernel = command[:1] == "[" or (rss == 0 and self._rss is not None)
        if (kernel and not blocked) or state == "Z" or command.endswith("<defunct>"):
            return
        name = base_name(command.strip("[]") if command[:1] == "[" else command)[:64]
        group = self.groups.get(name)
        if group is None:
            if len(self.groups) >= 4 * MOST_NAMES:
                return
            group = self.groups[name] = Group()
        group.count += 1
        group.rss_bytes += rss
        group.swap_bytes += (size(cells[self._swap], 1024) or 0) if self._swap is not None else 0
        group.blocked += blocked
        if rss > group.largest_bytes:
            group.largest_bytes, group.command = rss, command[:COMMAND_CHARACTERS]
            group.line, group.text = number, line

    def processes(self) -> tuple[Processes, ...]:
        """By memory held, the most first; of equals the more numerous, then by name."""
        ordered = sorted(self.groups.items(), key=lambda item: (-item[1].rss_bytes, -item[1].count, item[0]))
        return tuple(
            Processes(
                name=name,
                count=group.count,
                rss_bytes=group.rss_bytes,
                swap_bytes=group.swap_bytes,
                blocked=group.blocked,
                largest_bytes=max(group.largest_bytes, 0),
                command=group.command,
            )
            for name, group in ordered[:MOST_NAMES]
        )

    def best(self) -> Group | None:
        """The group that holds most, with the row of its largest process."""
        return max(self.groups.values(), key=lambda group: (group.rss_bytes, group.count), default=None)


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()


class PsSection:
    """One output of `ps`."""

    kind = "ps"
    blank_ends = True

    def __init__(self, columns: tuple[str, ...]) -> None:
        self._table = Table(columns)

    def take(self, line: str, number: int) -> bool:
        """Whether the line is a process."""
        return self._table.take(line, number)

    def told(self) -> tuple[Sample, int, str] | None:
        """The sample, and its row that tells most; None where there was no row."""
        best = self._table.best()
        if best is None:
            return None
        return Sample(ts=0.0, kind=self.kind, processes=self._table.processes()), best.line, best.text


_MEMORY = re.compile(r"(?:([KMGT])iB )?(Mem|Swap|Éch\w{0,9}) ?:").match
_FIGURE = re.compile(r"([0-9]{1,15}(?:[.,][0-9]{1,3})?)([kKmMgGtT]?)\+? +([^\W\d_][\w/]{0,15})").finditer
_SUMMARY = re.compile(
    r"(?:Tasks|Threads|T[âa]ches|%?Cpu(?:\(s\)|[0-9]{1,3})|CPU|CPU states|Load average|[0-9]{1,6} processes) ?:"
).match


class TopSection:
    """One screen of `top -b`, from its load average to its last process."""

    kind = "top"
    blank_ends = False

    def __init__(self, line: str, number: int) -> None:
        self._line, self._text = number, line
        self._load = load_of(line)
        self._memory: dict[str, int] = {}
        self._swap: dict[str, int] = {}
        self._table: Table | None = None
        self._threads = False

    def take(self, line: str, number: int) -> bool:
        """Whether the line belongs to this screen."""
        if self._table is not None:
            return self._table.take(line, number)
        if _SUMMARY(line):
            self._threads = self._threads or line.startswith("Threads")
            self._load = load_of(line) if self._load is None else self._load
            return True
        match = _MEMORY(line)
        if match:
            self._figures(line, match)
            return True
        columns = header_of(line)
        if columns is not None:
            self._table = Table(columns)
        return columns is not None

    def _figures(self, line: str, match: re.Match[str]) -> None:
        unit = size(f"1{match[1]}") or 1 if match[1] else 1024
        target = self._memory if match[2] == "Mem" else self._swap
        for figure in _FIGURE(line, match.end()):
            amount = size(figure[1] + figure[2], unit)
            word = figure[3].lower()
            # `728192 avail Mem` and `cached Mem` stand on the line of the swap
            (self._memory if word.startswith(("avail", "disp", "cached")) else target)[word[:4]] = amount or 0

    def told(self) -> tuple[Sample, int, str] | None:
        """The sample; its line is the one with the load."""
        memory, swap = self._memory, self._swap
        total = memory.get("tota")
        if total is None and "used" in memory:  # BusyBox
            total = memory["used"] + memory.get("free", 0)
        swap_free = swap.get("free", swap.get("libr"))
        table = None if self._threads else self._table
        sample = Sample(
            ts=0.0,
            kind=self.kind,
            processes=table.processes() if table else (),
            memory_bytes=total,
            available_bytes=_available(memory),
            swap_bytes=swap.get("tota"),
            swap_free_bytes=swap_free,
            load_1m=self._load,
        )
        return sample, self._line, self._text


def _available(memory: dict[str, int]) -> int | None:
    """What could still be had: as told, else what is free and what caches give back."""
    told = memory.get("avai", memory.get("disp"))
    if told is not None:
        return told
    free = memory.get("free", memory.get("libr"))
    if free is None:
        return None
    return free + sum(memory.get(word, 0) for word in ("buff", "cach", "tamp"))
