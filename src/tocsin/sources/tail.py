"""Follows many growing files at once, by inotify where the kernel tells of changes and by polling where it does not.

One call, `read`, hands out everything new as Batches of whole lines: the rest of a rotated file before its successor,
every line once, none twice, across rotations by rename and by copytruncate, compression, disappearance and restart. The
exceptions are told as notices: see `chain` for what no reader can recover.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from tocsin.model import Batch
from tocsin.sources.fingerprint import Checkpoint
from tocsin.sources.follow import Followed, Source
from tocsin.sources.inotify import (
    DIRECTORY_MASK,
    FILE_MASK,
    IN_ATTRIB,
    IN_IGNORED,
    IN_MODIFY,
    IN_Q_OVERFLOW,
    Inotify,
    silent_file_system,
)
from tocsin.sources.lines import MAX_LINE_BYTES
from tocsin.sources.lineup import Lineup
from tocsin.sources.notice import Notice, NoticeKind
from tocsin.sources.pattern import Pattern
from tocsin.sources.reader import Reader
from tocsin.sources.rotation import Identity, base_of, split_packing

__all__ = ["MAX_LINE_BYTES", "POLL_S", "SWEEP_S", "Checkpoint", "Followed", "Notice", "Tail"]

POLL_S = 0.25
"""How often a polled file is looked at. 200 of them cost 1 % of a core."""
SWEEP_S = 5.0
"""How often everything is looked at although nothing was told: what inotify cannot see (a link in the middle of a path,
a mount, permissions higher up) and what falls due (closing rotated files). 200 files cost 0.05 % of a core."""
_SHARE_BYTES = 1 << 20  # of one source in one turn, so that a flood in one log does not hold up the others
_NOTICES = 1000
_TIMESTAMP_SLACK_NS = 20_000_000  # files are stamped by the kernel's tick, up to 10 ms behind the clock


class Tail:
    """Follows `patterns` (absolute paths or globs) from `checkpoints` on.

    A file with a checkpoint is read on from it, wherever it has been moved. One without that is there now is read from
    its `start` ("end": only what is written from now on), one that appears later always from its first byte. `clock`
    gives Unix seconds: `arrival_ts`, notices and grace times are by it. Not for several threads.
    """

    def __init__(
        self,
        patterns: Sequence[str],
        checkpoints: Iterable[Checkpoint] = (),
        *,
        start: Literal["end", "start"] = "end",
        poll: bool = False,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self.pending = False
        self._clock = clock
        self._poll_all = poll
        self._patterns = [Pattern(text) for text in patterns]
        self._sources: dict[str, Source] = {}
        self._dirty: dict[Source, None] = {}
        self._owners: dict[Identity, Lineup] = {}
        self._by_watch: dict[int, Source] = {}
        self._watch_of: dict[int, int] = {}
        self._directories: dict[int, set[str]] = {}
        self._branches: set[str] = set()
        self._targets: dict[str, Source] = {}
        self._silent: dict[int, str] = {}
        self._polled: dict[Source, None] = {}
        self._notices: deque[Notice] = deque(maxlen=_NOTICES)
        # The file systems' clock, not ours: compared with modification times only.
        self._begun_ns = time.time_ns() - _TIMESTAMP_SLACK_NS
        now = clock()
        self._swept_ts = now
        self._polled_ts = now
        self._inotify: Inotify | None = None
        self._idle_fd = -1
        self._open_inotify(now)
        self._watch_directories(now)
        self._begin(list(checkpoints), start, now)

    # -- outside --------------------------------------------------------------------------------------------------

    def fileno(self) -> int:
        """Becomes readable when there may be something to read; to wait on with epoll or select."""
        return self._inotify.fd if self._inotify is not None else self._idle_fd

    def deadline_ts(self) -> float | None:
        """When `read` wants to be called although `fileno` stayed silent, by the clock."""
        if self.pending or self._dirty:
            return self._clock()
        due = self._swept_ts + SWEEP_S
        return min(due, self._polled_ts + POLL_S) if self._polled else due

    def read(self, budget_bytes: int = 4 << 20) -> list[Batch]:
        """Everything new, in whole lines, about `budget_bytes` at most; never waits. `pending`: there is more."""
        now = self._clock()
        if self._inotify is not None:
            for watch, mask, name in self._inotify.events():
                self._on_event(watch, mask, name, now)
        if self._polled and not self._polled_ts <= now < self._polled_ts + POLL_S:
            self._polled_ts = now
            self._look_at(self._polled, now)
        if not self._swept_ts <= now < self._swept_ts + SWEEP_S:  # also when the clock was set back
            self._swept_ts = now
            self._rescan(now)
            self._look_at(self._sources.values(), now)
        batches: list[Batch] = []
        queue = self._dirty
        while queue and budget_bytes > 0:
            source = next(iter(queue))
            del queue[source]
            got = source.pump(min(budget_bytes, _SHARE_BYTES), now)
            if source.chain.more:
                queue[source] = None
                budget_bytes -= _SHARE_BYTES
            else:
                for batch in got:
                    budget_bytes -= len(batch.data)
            batches += got
        self.pending = bool(queue)
        return batches

    def checkpoints(self) -> list[Checkpoint]:
        """What has been handed out so far; a Tail that begins with all of them, in order, repeats and loses nothing.

        Several for one source while files that were rotated away are still read, or known to have been.
        """
        positions = [position for source in self._sources.values() for position in source.lineup.checkpoints()]
        now_ns = time.time_ns() - _TIMESTAMP_SLACK_NS
        watched = [p.text for p in self._patterns if p.magic]
        return positions + [Checkpoint(text, 0, 0, 0, 0, b"", b"", 0, now_ns) for text in watched]

    def notices(self) -> list[Notice]:
        """What happened since the last call, oldest first; at most the newest 1,000."""
        notices = list(self._notices)
        self._notices.clear()
        return notices

    def files(self) -> list[Followed]:
        """All that is followed, by source; a path that cannot be read or is not there says why."""
        return [row for source in self._sources.values() for row in source.followed()]

    def close(self) -> None:
        """Close all files. What was handed out stays as `checkpoints` said."""
        for source in self._sources.values():
            source.lineup.close()
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        if self._idle_fd >= 0:
            os.close(self._idle_fd)
            self._idle_fd = -1

    # -- for the sources ------------------------------------------------------------------------------------------

    def watch(self, lineup: Lineup, reader: Reader) -> None:
        """A line-up opened a file."""
        source = self._sources[lineup.path]
        self._owners[reader.identity] = lineup
        self._dirty[source] = None
        silent = self._silent_reason(reader)
        if not silent and self._inotify is not None:
            try:
                # Through /proc: the path may lead to another file by now.
                watch = self._inotify.add(f"/proc/self/fd/{reader.fd}", FILE_MASK)
            except OSError as error:
                silent = f"no watch to be had ({error.strerror}; raise fs.inotify.max_user_watches)"
            else:
                self._watch_of[reader.fd] = watch
                self._by_watch[watch] = source
        if silent and not source.polled:
            source.polled = silent
            self._polled[source] = None
            if not self._poll_all:
                self.tell(lineup.path, "polling", f"looked at every {POLL_S} s: {silent}", self._clock())
        if reader is lineup.current:
            self._watch_target(source)

    def unwatch(self, reader: Reader) -> None:
        """A line-up is about to close a file."""
        watch = self._watch_of.pop(reader.fd, None)
        if watch is not None and self._inotify is not None:
            self._by_watch.pop(watch, None)
            self._inotify.remove(watch)

    def claim(self, identity: Identity, lineup: Lineup) -> str | None:
        """A file is read by one source only, under however many names it is found."""
        owner = self._owners.setdefault(identity, lineup)
        return None if owner is lineup else owner.path

    def release(self, identity: Identity, lineup: Lineup) -> None:
        if self._owners.get(identity) is lineup:
            del self._owners[identity]

    def tell(self, source: str, kind: NoticeKind, text: str, ts: float, lost_bytes: int | None = None) -> None:
        """Keep a notice for the next call of `notices`."""
        self._notices.append(Notice(source, kind, text, ts, lost_bytes))

    # -- events ---------------------------------------------------------------------------------------------------

    def _on_event(self, watch: int, mask: int, name: bytes, now: float) -> None:
        source = self._by_watch.get(watch)
        if source is not None:
            self._dirty[source] = None
            if not mask & IN_MODIFY:
                source.check(now)
            if mask & IN_IGNORED:
                self._by_watch.pop(watch, None)
        elif watch in self._directories:
            self._on_directory_event(watch, mask, os.fsdecode(name), now)
        elif mask & IN_Q_OVERFLOW:
            self._rescan(now)
            self._look_at(self._sources.values(), now)

    def _on_directory_event(self, watch: int, mask: int, name: str, now: float) -> None:
        directories = self._directories[watch]
        if not name:
            if mask & IN_IGNORED:
                del self._directories[watch]
            if mask & ~IN_ATTRIB:
                self._rescan(now)
            self._look_at([s for path, s in self._sources.items() if os.path.dirname(path) in directories], now)  # noqa: PTH120
            return
        for directory in list(directories):
            path = f"{directory.rstrip('/')}/{name}"
            if directory in self._branches:
                self._rescan(now)
            source = self._sources.get(path) or self._targets.get(path)
            if source is not None:
                source.retry_now()
                source.check(now)
                self._dirty[source] = None
            elif (base := self._rotated_source(path)) is not None:
                base.lineup.suspect()
                self._dirty[base] = None
            elif any(pattern.matches(path) for pattern in self._patterns):
                self._add(path, now)

    def _look_at(self, sources: Iterable[Source], now: float) -> None:
        for source in list(sources):
            source.check(now)
            self._dirty[source] = None

    # -- what to follow -------------------------------------------------------------------------------------------

    def _begin(self, checkpoints: list[Checkpoint], start: Literal["end", "start"], now: float) -> None:
        grouped: dict[str, list[Checkpoint]] = {}
        for position in checkpoints:
            grouped.setdefault(position.source, []).append(position)
        for pattern in self._patterns:
            seen_before = pattern.magic and pattern.text in grouped
            paths = set(pattern.paths()) | {path for path in grouped if pattern.matches(path) and path != pattern.text}
            if not pattern.magic:
                paths.add(pattern.text)
            for path in sorted(paths):
                source = self._enrol(path)
                if source is None:
                    continue
                if path in grouped:
                    source.resume(grouped[path], now)
                elif seen_before:
                    source.resume(grouped[pattern.text], now)
                else:
                    source.begin(now, start)

    def _enrol(self, path: str) -> Source | None:
        """A new source; None for what is one already, is an archive, or is a rotation of one."""
        if path in self._sources or split_packing(path)[1] or self._rotated_source(path) is not None:
            return None
        directory, name = os.path.split(path)
        for other in list(self._sources):
            if os.path.split(other)[0] == directory and base_of(os.path.split(other)[1]) == name:
                self._dismiss(other)  # enrolled while a rotation had left this name empty
        source = Source(path, self, self._begun_ns)
        self._sources[path] = source
        self._dirty[source] = None
        if self._poll_all or self._inotify is None:
            source.polled = "asked for" if self._poll_all else "no inotify"
            self._polled[source] = None
        return source

    def _add(self, path: str, now: float) -> None:
        source = self._enrol(path)
        if source is not None:
            source.check(now)

    def _dismiss(self, path: str) -> None:
        source = self._sources.pop(path)
        source.lineup.close()
        self._dirty.pop(source, None)
        self._polled.pop(source, None)

    def _rotated_source(self, path: str) -> Source | None:
        directory, name = os.path.split(path)
        base = base_of(name)
        if base == name:
            return None
        base_path = f"{directory.rstrip('/')}/{base}"
        return self._sources.get(base_path) or self._targets.get(base_path)

    def _rescan(self, now: float) -> None:
        self._watch_directories(now)
        for pattern in self._patterns:
            if pattern.magic:
                for path in pattern.paths():
                    if path not in self._sources:
                        self._add(path, now)

    # -- watches --------------------------------------------------------------------------------------------------

    def _open_inotify(self, now: float) -> None:
        if not self._poll_all:
            try:
                self._inotify = Inotify()
            except OSError as error:
                text = f"no inotify to be had ({error.strerror}; raise fs.inotify.max_user_instances): polling"
                self.tell("", "polling", text, now)
        if self._inotify is None:
            self._idle_fd = os.eventfd(0)  # never readable: something to wait on together with `deadline_ts`

    def _watch_directories(self, now: float) -> None:
        self._branches = set()
        for pattern in self._patterns:
            for directory, leaf in pattern.directories():
                if not leaf:
                    self._branches.add(directory)
                self._watch_directory(directory, now)

    def _watch_directory(self, directory: str, now: float) -> None:
        if self._inotify is None:
            return
        try:
            watch = self._inotify.add(directory, DIRECTORY_MASK)
        except (FileNotFoundError, PermissionError, NotADirectoryError):
            return  # the sweep looks again, and the source itself says what is wrong with its path
        except OSError as error:
            self.tell(directory, "polling", f"{error.strerror}; raise fs.inotify.max_user_watches", now)
            return
        self._directories.setdefault(watch, set()).add(directory)

    def _watch_target(self, source: Source) -> None:
        """A symbolic link's target is rotated in its own directory."""
        real = os.path.realpath(source.path)
        if real != source.path:
            self._targets[real] = source
            self._watch_directory(os.path.dirname(real), self._clock())  # noqa: PTH120

    def _silent_reason(self, reader: Reader) -> str:
        if self._poll_all or self._inotify is None:
            return "asked for" if self._poll_all else "no inotify"
        device = reader.identity[0]
        if device not in self._silent:
            name = silent_file_system(reader.fd)
            self._silent[device] = f"on {name}, where the kernel does not tell of changes" if name else ""
        return self._silent[device]
