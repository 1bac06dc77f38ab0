"""Laws 2 and 6 of the tail: an interpreter of file-system actions against a model that knows every line written.

Whatever happens to the files (rotation by rename and by copytruncate, compression, deletion of what was read, late
writers), and however often the reader stops (with its last save, or without), every line is handed out exactly once,
and in the order in which it was written.
"""

from __future__ import annotations

import gzip
import os
import shutil
import tempfile
from pathlib import Path

from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from tocsin.sources.fingerprint import Checkpoint
from tocsin.sources.tail import Tail


class Written:
    """One physical file as the model sees it: the lines that were put into it, and who still writes to it."""

    def __init__(self) -> None:
        self.lines: list[int] = []


class FollowedLog(RuleBasedStateMachine):
    """One log, one writer (and sometimes a second that still holds the rotated file), one reader."""

    poll = False

    def __init__(self) -> None:
        super().__init__()
        self.home = Path(tempfile.mkdtemp(prefix="tocsin-tail-"))
        self.path = self.home / "access.log"
        self.now = 1_000_000.0
        self.written = 0
        self.late: set[int] = set()
        self.partial = b""
        self.current = Written()
        self.rotated: list[tuple[Path, Written]] = []  # youngest first
        self.lingering: tuple[Path, Written] | None = None
        self.out: list[int] = []
        self.path.touch()
        self.tail = self.start(())
        self.saved: tuple[list[Checkpoint], int] = (self.tail.checkpoints(), 0)

    def start(self, checkpoints: tuple[Checkpoint, ...]) -> Tail:
        return Tail([str(self.path)], checkpoints, poll=self.poll, clock=lambda: self.now)

    # -- the writer -----------------------------------------------------------------------------------------------

    def line(self, into: Written, length: int) -> bytes:
        number = self.written
        self.written += 1
        into.lines.append(number)
        return b"%08d 192.0.2.7 " % number + b"x" * length + b"\n"

    def put(self, path: Path, data: bytes) -> None:
        with path.open("ab", buffering=0) as file:
            file.write(data)

    @rule(count=st.integers(1, 5), length=st.sampled_from([0, 40, 700]))
    def append(self, count: int, length: int) -> None:
        data, self.partial = self.partial, b""
        self.put(self.path, data + b"".join(self.line(self.current, length) for _ in range(count)))

    @rule(cut=st.integers(1, 20))
    def append_partly(self, cut: int) -> None:
        self.complete()
        line = self.line(self.current, 10)
        self.put(self.path, line[:cut])
        self.partial = line[cut:]

    def complete(self) -> None:
        if self.partial:
            self.put(self.path, self.partial)
            self.partial = b""

    @precondition(lambda self: self.lingering is not None)
    @rule()
    def append_late(self) -> None:
        assert self.lingering is not None
        path, written = self.lingering
        self.late.add(self.written)
        self.put(path, self.line(written, 30))

    # -- the rotation ---------------------------------------------------------------------------------------------

    def shift(self) -> None:
        """access.log.1 becomes access.log.2 and so on, oldest first, as logrotate does."""
        moved: list[tuple[Path, Written]] = []
        for number in range(len(self.rotated), 0, -1):
            old, written = self.rotated[number - 1]
            new = self.home / old.name.replace(f".log.{self.number(old)}", f".log.{number + 1}")
            old.rename(new)
            moved.append((new, written))
            if self.lingering is not None and self.lingering[1] is written:
                self.lingering = (new, written)
        self.rotated = moved[::-1]

    @staticmethod
    def number(path: Path) -> int:
        return int(path.name.split(".")[2])

    @rule(linger=st.booleans())
    def rotate_by_rename(self, linger: bool) -> None:
        """With `linger`, writers keep the old file. Not an empty one (logrotate's notifempty): lines put into it late
        that its successor is being read, and then compressed while the reader is down, can no longer be told apart."""
        self.complete()
        linger = linger and bool(self.current.lines)
        self.shift()
        target = self.home / "access.log.1"
        self.path.rename(target)
        self.rotated.insert(0, (target, self.current))
        if linger:
            self.lingering = (target, self.current)
        self.current = Written()
        self.path.touch()

    @rule()
    def rotate_by_copytruncate(self) -> None:
        self.complete()
        self.shift()
        target = self.home / "access.log.1"
        shutil.copyfile(self.path, target)
        with self.path.open("r+b") as file:
            file.truncate(0)
        self.rotated.insert(0, (target, self.current))
        self.current = Written()

    @precondition(lambda self: bool(self.rotated))
    @rule(which=st.integers(0, 3))
    def compress(self, which: int) -> None:
        index = which % len(self.rotated)
        path, written = self.rotated[index]
        if path.suffix == ".gz" or (self.lingering is not None and self.lingering[1] is written):
            return
        packed = path.with_name(path.name + ".gz")
        with path.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        stamp = path.stat().st_mtime_ns  # gzip, xz, zstd and logrotate keep it
        os.utime(packed, ns=(stamp, stamp))
        path.unlink()
        self.rotated[index] = (packed, written)

    @precondition(lambda self: bool(self.rotated))
    @rule()
    def delete_oldest_read(self) -> None:
        """As a rotation does, but never the very file at which the reader stopped: where that is gone too, only
        modification times tell what is unread, and those of two files written within a tick are equal."""
        path, written = self.rotated[-1]
        kept = set(self.out[: self.saved[1]])
        lingers = self.lingering is not None and self.lingering[1] is written
        begun = any(kept.intersection(w.lines) for w in [self.current, *(w for _, w in self.rotated[:-1])])
        if kept.issuperset(written.lines) and begun and not lingers:
            path.unlink()
            self.rotated.pop()

    # -- the reader -----------------------------------------------------------------------------------------------

    def take(self) -> None:
        for _ in range(500):
            for batch in self.tail.read(2000):
                assert batch.data.endswith(b"\n")
                assert batch.source == str(self.path)
                for line in batch.data.splitlines():
                    assert line[8:] in (b" 192.0.2.7 " + b"x" * n for n in (0, 10, 30, 40, 700))
                    self.out.append(int(line[:8]))
            if not self.tail.pending:
                return
        raise AssertionError("the tail never comes to an end")

    @rule()
    def read(self) -> None:
        self.take()

    @rule()
    def read_a_little(self) -> None:
        for batch in self.tail.read(1):
            self.out += [int(line[:8]) for line in batch.data.splitlines()]

    @rule()
    def save(self) -> None:
        self.saved = (self.tail.checkpoints(), len(self.out))

    @rule(save=st.booleans())
    def restart(self, save: bool) -> None:
        if save:
            self.save()
        self.tail.close()
        checkpoints, count = self.saved
        del self.out[count:]
        self.tail = self.start(tuple(checkpoints))

    @rule(seconds=st.sampled_from([0.3, 6.0, 61.0]))
    def wait(self, seconds: float) -> None:
        if seconds > 60:
            self.lingering = None
            self.take()  # what the last late writer wrote, before its file is left alone for good
        self.now += seconds

    @invariant()
    def each_line_once_and_in_order(self) -> None:
        assert len(self.out) == len(set(self.out))
        on_time = [number for number in self.out if number not in self.late]
        assert on_time == sorted(on_time)

    def teardown(self) -> None:
        try:
            self.complete()
            for _ in range(3):
                self.take()
                self.now += 61.0
            self.each_line_once_and_in_order()
            assert sorted(self.out) == list(range(self.written))
        finally:
            self.tail.close()
            shutil.rmtree(self.home)


class PolledLog(FollowedLog):
    """The same without inotify: what a poll can see is enough."""

    poll = True

    def take(self) -> None:
        self.now += 0.3
        super().take()


common = settings(
    derandomize=True,
    max_examples=80,
    stateful_step_count=40,
    suppress_health_check=list(HealthCheck),
    phases=(Phase.explicit, Phase.generate),  # inode numbers differ from run to run: shrinking chases them for minutes
)
TestFollowedLog = FollowedLog.TestCase
TestFollowedLog.settings = common
TestPolledLog = PolledLog.TestCase
TestPolledLog.settings = settings(common, max_examples=30)
