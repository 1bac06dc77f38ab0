"""Outputs of `free`, `df` and `uptime`, and what /proc/meminfo, /proc/loadavg and /proc/pressure hold.

A section takes the lines that belong to it and tells a sample of them; its time is the teller's business.
"""

from __future__ import annotations

import re
from typing import Protocol

from tocsin.formats.snapshots.units import decimal, load_of, size, whole
from tocsin.server_events import Filesystem, Sample

Seen = tuple[Sample, int, str]
"""A sample, and the number and text of the line that tells most of it."""

MOST_FILESYSTEMS = 200


class Section(Protocol):
    """One output of one command."""

    blank_ends: bool
    """Whether an empty line ends it."""

    def take(self, line: str, number: int) -> bool:
        """Whether the line belongs to it; then it is remembered."""

    def told(self) -> Seen | None:
        """What it tells, when no more of its lines come; None where there was nothing under its header."""


is_free = re.compile(r"\s*total\s+(?:used|utilis)").match
"""Whether a line is the header of `free`."""

_FREE_ROW = re.compile(
    r"\s*(Mem|-/\+ buffers/cache|Swap|Échange|Partition d.échange|Low|High|Total|Comm) ?: *(.*)"
).fullmatch
_UNITS = (1024, 1 << 20, 1, 1 << 30)


class FreeSection:
    """`free`, with any unit. Plain figures do not say theirs: `memory_bytes`, where another command has told the
    machine's memory, decides it, else their size (KiB from 128 Ki on, MiB from 64 on; bytes where all are whole KiB).
    """

    blank_ends = True

    def __init__(self, header: str, memory_bytes: int | None) -> None:
        self._columns = header.split()
        self._known = memory_bytes
        self._rows: dict[str, list[str]] = {}
        self._line, self._text = 0, ""

    def take(self, line: str, number: int) -> bool:
        """Whether the line is one of its rows."""
        match = _FREE_ROW(line)
        if match is None or match[1] in self._rows:
            return False
        self._rows[match[1]] = match[2].split()[:10]
        if match[1] == "Mem":
            self._line, self._text = number, line
        return True

    def told(self) -> Seen | None:
        """The sample, with the line of the memory."""
        memory = self._rows.get("Mem")
        if not memory or len(memory) < 3:
            return None
        unit = self._unit()
        swap = next((row for name, row in self._rows.items() if name in {"Swap", "Échange"} or name[:4] == "Part"), [])
        sample = Sample(
            ts=0.0,
            kind="free",
            memory_bytes=size(memory[0], unit),
            available_bytes=self._available(memory, unit),
            swap_bytes=size(swap[0], unit) if len(swap) >= 3 else None,
            swap_free_bytes=size(swap[2], unit) if len(swap) >= 3 else None,
        )
        return sample, self._line, self._text

    def _available(self, memory: list[str], unit: int) -> int | None:
        without_caches = self._rows.get("-/+ buffers/cache", [])
        if len(without_caches) >= 2:
            return size(without_caches[1], unit)
        for index, name in enumerate(self._columns):
            if name.startswith(("avail", "disp")) and index < len(memory):
                return size(memory[index], unit)
        return sum(size(cell, unit) or 0 for cell in [memory[2], *memory[4:]])

    def _unit(self) -> int:
        figures = [number for row in self._rows.values() for cell in row if (number := whole(cell)) is not None]
        total = whole(self._rows["Mem"][0])
        if total is None or total == 0:
            return 1
        known = self._known
        if known:
            return min(_UNITS, key=lambda unit: max(total * unit, known) / min(total * unit, known))
        if total >= 1 << 26 and all(number % 1024 == 0 for number in figures):
            return 1
        return 1024 if total >= 1 << 17 else 1 << 20 if total >= 64 else 1 << 30


_MEMINFO_ROW = re.compile(r"([A-Za-z0-9_]{1,40}(?:\([a-z_]{1,20}\))?): +([0-9]{1,15})(?: kB)?\s*").fullmatch


class MeminfoSection:
    """/proc/meminfo. Kernels before 3.14 do not say what is available: then it is what is free or cached."""

    blank_ends = True

    def __init__(self, line: str, number: int) -> None:
        self._line, self._text = number, line
        self._bytes: dict[str, int] = {}
        self.take(line, number)

    def take(self, line: str, number: int) -> bool:  # noqa: ARG002  the interface's
        """Whether the line is one of its rows."""
        match = _MEMINFO_ROW(line)
        if match is None or len(self._bytes) > 200:
            return False
        self._bytes.setdefault(match[1], int(match[2]) * 1024)
        return True

    def told(self) -> Seen | None:
        """The sample, with its first line."""
        told = self._bytes
        available = told.get("MemAvailable")
        if available is None and "MemFree" in told:
            available = told["MemFree"] + told.get("Buffers", 0) + told.get("Cached", 0)
        sample = Sample(
            ts=0.0,
            kind="meminfo",
            memory_bytes=told.get("MemTotal"),
            available_bytes=available,
            swap_bytes=told.get("SwapTotal"),
            swap_free_bytes=told.get("SwapFree"),
        )
        return sample, self._line, self._text


is_df = re.compile(r"(?:Filesystem|Sys\. ?(?:de )?fich\S{0,8})\s.*(?:Mounted on|Monté sur)").fullmatch
"""Whether a line is the header of `df`."""

_BLOCKS = re.compile(r"(?:blocs de |)([0-9]{1,9})([KMG]?)(?:-blocks|\s)").search
_PERCENT = re.compile(r"([0-9]{1,3})%|-").fullmatch
_ALWAYS_FULL = ("squashfs", "iso9660", "erofs")
_NO_STORAGE = ("/snap/", "/proc/", "/sys/", "/dev/")


class DfSection:
    """`df`, of bytes or inodes. What is full by nature (snaps, images) or holds no files is left out."""

    blank_ends = True

    def __init__(self, header: str) -> None:
        self._inodes = "nodes" in header or "nœuds" in header or "IUti" in header
        match = _BLOCKS(header)
        self._unit = (size(match[1] + match[2]) or 1024) if match else 1024
        self._found: list[Filesystem] = []
        self._best = -1.0
        self._line, self._text = 0, ""
        self._device: str | None = None

    def take(self, line: str, number: int) -> bool:
        """Whether the line is one of its rows, or the device of a row that was wrapped."""
        words = line.split()
        if len(words) == 1 and len(words[0]) > 15:
            self._device = words[0]
            return True
        at = next((index for index in range(3, min(len(words) - 1, 12)) if _percent(words, index)), None)
        if at is None:
            return False
        before = words[: at - 3] if at > 3 or self._device is None else [self._device]
        self._device = None
        self._add(before, words[at - 3 : at + 1], " ".join(words[at + 1 :]), line, number)
        return True

    def _add(self, before: list[str], figures: list[str], path: str, line: str, number: int) -> None:
        if not before or before[0].startswith("/dev/loop") or before[-1] in _ALWAYS_FULL:
            return
        share = _PERCENT(figures[3])
        if share is None or share[1] is None or path.startswith(_NO_STORAGE) or path in {"/dev", "/sys", "/proc"}:
            return
        if len(self._found) >= MOST_FILESYSTEMS:
            return
        used_share = min(int(share[1]), 100) / 100
        total = whole(figures[0]) if self._inodes else size(figures[0], self._unit)
        self._found.append(Filesystem(path[:200], None if self._inodes else total, used_share, self._inodes))
        if used_share > self._best:
            self._best, self._line, self._text = used_share, number, line

    def told(self) -> Seen | None:
        """The sample, with the line of the fullest."""
        if not self._found:
            return None
        ordered = sorted(self._found, key=lambda filesystem: (-filesystem.used_share, filesystem.path))
        return Sample(ts=0.0, kind="df", filesystems=tuple(ordered)), self._line, self._text


def _percent(words: list[str], index: int) -> bool:
    return bool(_PERCENT(words[index])) and words[index + 1][:1] == "/"


class UptimeSection:
    """`uptime`, the first line of `w`, or /proc/loadavg: the load alone."""

    blank_ends = True

    def __init__(self, load: float, line: str, number: int) -> None:
        self._seen = Sample(ts=0.0, kind="uptime", load_1m=load), number, line

    def take(self, line: str, number: int) -> bool:  # noqa: ARG002  the interface's
        """Whether the line belongs to `w`."""
        return line.startswith("USER ") and "LOGIN@" in line

    def told(self) -> Seen:
        """The sample."""
        return self._seen


_LOADAVG = re.compile(
    r"([0-9]{1,6}\.[0-9]{2}) [0-9]{1,6}\.[0-9]{2} [0-9]{1,6}\.[0-9]{2} [0-9]{1,7}/[0-9]{1,7} [0-9]{1,10}\s*"
).fullmatch


def uptime_section(line: str, number: int) -> UptimeSection | None:
    """The section that a line with the load opens; None where it is none."""
    match = _LOADAVG(line)
    load = decimal(match[1]) if match else load_of(line)
    return None if load is None else UptimeSection(load, line, number)


_PRESSURE = re.compile(
    r"(some|full) avg10=([0-9]{1,3}\.[0-9]{2}) avg60=\S{1,8} avg300=\S{1,8} total=[0-9]{1,20}\s*"
).fullmatch

_OTHER_PRESSURE = re.compile(r"\b(?:cpu|io|irq)\b").search


class PressureSection:
    """/proc/pressure/memory: the share of the last ten seconds in which some task waited for memory.

    The files for processors and storage read the same: only a title before them tells them apart.
    """

    blank_ends = True

    def __init__(self, line: str, number: int, title: str) -> None:
        self._line, self._text = number, line
        self._other = _OTHER_PRESSURE(title) is not None
        self._share: float | None = None
        self.take(line, number)

    def take(self, line: str, number: int) -> bool:  # noqa: ARG002  the interface's
        """Whether the line is the next of its two."""
        match = _PRESSURE(line)
        if match is None or (match[1] == "some" and self._share is not None):
            return False
        if match[1] == "some":
            self._share = min(float(match[2]) / 100, 1.0)
        return True

    def told(self) -> Seen | None:
        """The sample; None where the title before it was another's."""
        if self._other:
            return None
        return Sample(ts=0.0, kind="pressure", stalled_share=self._share), self._line, self._text


def is_pressure(line: str) -> bool:
    """Whether a line begins what one of /proc/pressure holds."""
    return line.startswith("some ") and _PRESSURE(line) is not None
