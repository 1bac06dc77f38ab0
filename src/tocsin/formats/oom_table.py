"""The table of processes in a report of the kernel's out-of-memory killer, read by its header."""

from __future__ import annotations

import re

from msgspec import Struct

from tocsin.server_events import Processes

PAGE_BYTES = 4096
MOST_TASKS = 65536

_HEADER = re.compile(r"\[ *pid *\] +(.{1,200})").fullmatch
_ROW = re.compile(r"\[ *([0-9]{1,10})\] (.{1,400})", re.DOTALL).fullmatch
_NUMBER = re.compile(r"-?[0-9]{1,20}").fullmatch


class Task(Struct, gc=False):
    """A process of the table, in pages."""

    name: str
    rss: int
    swap: int
    uid: int | None = None


class TaskTable:
    """Rows under their header, folded by `tgid`: the threads of a process share its memory."""

    __slots__ = ("_columns", "_held", "_process", "_tasks")

    def __init__(self) -> None:
        self._columns: dict[str, int] = {}
        self._held = 0
        self._tasks: dict[int, Task] = {}
        self._process: dict[int, int] = {}

    def __bool__(self) -> bool:
        return bool(self._tasks)

    def take(self, message: str) -> bool:
        """Whether the message is the header, or a row that fits it."""
        header = _HEADER(message)
        if header:
            names = header[1].split()
            if names[-1] == "name" and {"tgid", "rss"} <= set(names) and len(set(names)) == len(names):
                self._columns = {name: place for place, name in enumerate(names)}
                # what is a process's own, where the table tells it: files and caches that all share count in every rss
                self._held = self._columns.get("rss_anon", self._columns["rss"])
            return True
        row = _ROW(message) if self._columns else None
        return row is not None and self._row(int(row[1]), row[2])

    def _row(self, pid: int, text: str) -> bool:
        """The name comes last and may hold anything: as many numbers as the header says stand before it."""
        last = len(self._columns) - 1
        values = text.split(None, last)
        if len(values) <= last or not all(map(_NUMBER, values[:last])):
            return False
        if len(self._process) >= MOST_TASKS:
            return True
        tgid, rss = int(values[self._columns["tgid"]]), max(0, int(values[self._held]))
        swap = max(0, int(values[self._columns["swapents"]])) if "swapents" in self._columns else 0
        self._process[pid] = tgid
        known = self._tasks.get(tgid)
        if known is None:
            uid = int(values[self._columns["uid"]]) if "uid" in self._columns else None
            self._tasks[tgid] = Task(values[last].strip(), rss, swap, uid)
        else:
            known.rss, known.swap = max(known.rss, rss), max(known.swap, swap)
        return True

    def process_of(self, pid: int) -> int:
        """The process whose thread `pid` is, itself where the table does not say."""
        return self._process.get(pid, pid)

    def rss_bytes(self, pid: int) -> int | None:
        """What a process held; None where the table does not list it."""
        task = self._tasks.get(self.process_of(pid))
        return None if task is None else task.rss * PAGE_BYTES

    def processes(self) -> tuple[Processes, ...]:
        """All processes by name, those that held the most first."""
        groups: dict[str, list[Task]] = {}
        for task in self._tasks.values():
            groups.setdefault(task.name, []).append(task)
        found = [
            Processes(
                name,
                len(tasks),
                sum(task.rss for task in tasks) * PAGE_BYTES,
                sum(task.swap for task in tasks) * PAGE_BYTES,
                largest_bytes=max(task.rss for task in tasks) * PAGE_BYTES,
                uids=tuple(sorted({task.uid for task in tasks if task.uid is not None})),
            )
            for name, tasks in groups.items()
        ]
        return tuple(sorted(found, key=lambda group: (-group.rss_bytes - group.swap_bytes, group.name)))
