"""The systemd journal as a source: `journalctl -f -o json` as a child that is started again, where it left off.

Facts: journalctl(1), systemd.journal-fields(7). A cursor is `s=...;i=SEQUENCE;b=...;m=...;t=...;x=...`; `i` is the
entry's sequence number in hexadecimal. journalctl ends by itself when the pipe that it writes to is closed, so the
child does not outlive a guard that was killed.
"""

from __future__ import annotations

import os
import re
import select
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING

from tocsin.model import Batch
from tocsin.sources.journal_match import SOURCE, Sorter
from tocsin.sources.lines import MAX_LINE_BYTES, Lines
from tocsin.sources.notice import Notice, NoticeKind

if TYPE_CHECKING:
    import subprocess

JOURNAL_DIRECTORIES = (Path("/run/log/journal"), Path("/var/log/journal"))
BACKOFF_FIRST_S = 1.0
BACKOFF_MOST_S = 60.0

_SETTLED_S = 60.0  # a child that lived so long had begun well: the back-off begins anew
_REAP_S = 0.1  # a child that closed its output gets this long to end by itself
_CLOSE_S = 1.0
_SAME_NOTICE_S = 3600.0
_READ_BYTES = 1 << 16  # what a pipe holds
_ERROR_BYTES = 2048

_MATCH = re.compile(r"[A-Z0-9_]+=[^\0]*|\+")
_CURSOR = re.compile(rb'"__CURSOR"\s*:\s*"([^"\\]*)"')  # a quote inside a value stands behind a backslash
_SEQUENCE = re.compile(rb"(?:\A|;)i=([0-9a-f]{1,15})(?:;|\Z)")


class Journal:
    """The entries of the journal that meet some matches, each as a Batch of one JSON line, source "journal".

    `readers` are those who have matches of their own; an entry that meets these is told so by its source,
    "journal:NAME,NAME" (see `journal_match.is_for`).

    Nothing is started before the first `fileno` or `read`. `available` says whether there is a journalctl and a
    journal, `why_not` in a sentence what is missing. `cursor` is that of the last entry handed out: given back to a new
    Journal, it loses and repeats nothing; without one, what is logged from now on is read. `Batch.offset` is the
    entry's sequence number, so that an entry read again is the same evidence; `Batch.line` is 0.
    """

    def __init__(
        self,
        matches: Sequence[str],
        cursor: str | None = None,
        *,
        readers: Mapping[str, Sequence[str]] = {},
        program: Path | None = None,
        directories: Sequence[Path] = JOURNAL_DIRECTORIES,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """`matches` as journalctl takes them (`_COMM=sshd`); `program` None: the first journalctl on PATH.

        ValueError where a match is none.
        """
        for match in matches:
            if not _MATCH.fullmatch(match):
                raise ValueError(f"{match!r} is no match of the journal; expected FIELD=VALUE")
        self._matches = tuple(matches)
        self._sorter = Sorter(readers)
        self._program = program or _find_program()
        self._clock = clock
        self._since_ts: float | None = None
        self.cursor = cursor
        self.pending = False
        self.why_not = _why_not(self._program, directories)
        self.available = not self.why_not
        self._epoll: select.epoll | None = None
        self._child: subprocess.Popen[bytes] | None = None
        self._lines = Lines(SOURCE, line=0)
        self._errors = b""
        self._gave_any = False
        self._started_ts = clock()
        self._due_ts: float | None = self._started_ts
        self._backoff_s = BACKOFF_FIRST_S
        self._notices: list[Notice] = []
        self._told_ts: dict[str, float] = {}
        self._cut_lines = 0

    def fileno(self) -> int:
        """To wait on with epoll or select; stays the same whatever becomes of the child, which it starts."""
        epoll = self._open()
        self._tend(self._clock())
        return epoll.fileno()

    def deadline_ts(self) -> float | None:
        """When `read` wants to be called although nothing came: to start the child again. None: not at all."""
        return self._due_ts if self.available else None

    def read(self, budget_bytes: int = 1 << 20) -> list[Batch]:
        """The entries that came, in order, about `budget_bytes` at most (then `pending`). Never waits."""
        self._open()
        now = self._clock()
        self._tend(now)
        batches: list[Batch] = []
        self.pending = False
        while self._is_reading():
            data = _read_some(_stream(self._child, "stdout"))
            if data is None:
                break
            if not data:
                self._end(now)
                break
            batches += self._entries(data, now)
            budget_bytes -= len(data)
            if budget_bytes <= 0:
                self.pending = True
                break
        self._hear_errors()
        return batches

    def notices(self) -> list[Notice]:
        """What the operator should know, since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def close(self) -> None:
        """End the child and let go of everything; waits for it a second at most before it is killed."""
        self._due_ts = None
        self.available, self.why_not = False, "it was closed"
        child, self._child = self._child, None
        if child is not None:
            _close_streams(child)
            child.terminate()
            import subprocess  # noqa: PLC0415  loaded already, by _start

            try:
                child.wait(_CLOSE_S)
            except subprocess.TimeoutExpired:
                child.kill()
                child.wait(_CLOSE_S)
        if self._epoll is not None:
            self._epoll.close()
            self._epoll = None

    # -- the child ---------------------------------------------------------------------------------------------------

    def _open(self) -> select.epoll:
        if not self.available:
            raise ValueError(f"the journal cannot be read: {self.why_not}")
        if self._epoll is None:
            self._epoll = select.epoll()
        return self._epoll

    def _is_reading(self) -> bool:
        return self._child is not None and not _stream(self._child, "stdout").closed

    def _tend(self, now: float) -> None:
        """Start the child, or see to the one that has ended, when it is time; also after the clock was set back."""
        if self._due_ts is None or self._due_ts - BACKOFF_MOST_S <= now < self._due_ts:
            return
        if self._child is None:
            self._start(now)
            return
        status = self._child.poll()
        if status is None:
            self._child.kill()
            self._due_ts = now + _REAP_S
            return
        self._child = None
        self._retry(f"signal {-status}" if status < 0 else f"exit status {status}", now)

    def _arguments(self) -> list[str]:
        if self.cursor is not None:
            start = ["--no-tail", f"--after-cursor={self.cursor}"]
        elif self._since_ts is not None:  # a child before this one gave nothing: all since then is new
            start = ["--no-tail", f"--since=@{self._since_ts:.6f}"]
        else:
            start = ["--lines=0"]
        return [str(self._program), "--output=json", "--follow", "--no-pager", *start, *self._matches]

    def _start(self, now: float) -> None:
        import subprocess  # noqa: PLC0415  guard starts without what only a machine with a journal needs

        arguments = self._arguments()
        self._started_ts = now
        if self._since_ts is None:
            self._since_ts = now
        self._lines = Lines(SOURCE, line=0)
        self._errors = b""
        self._gave_any = False
        environment = {"PATH": os.defpath, "LC_ALL": "C.UTF-8"}
        try:
            # A process group of its own: Ctrl-C in guard's terminal is guard's to answer. No preexec_fn: it would fork
            # (and copy the page tables of) a large process where vfork does.
            self._child = child = subprocess.Popen(  # noqa: S603  an absolute program, arguments we made, no shell
                arguments,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                bufsize=0,
                env=environment,
                process_group=0,
            )
        except OSError as error:
            self._retry(f"it cannot be started, {error.strerror}", now)
            return
        self._due_ts = None
        for name in ("stdout", "stderr"):
            stream = _stream(child, name)
            os.set_blocking(stream.fileno(), False)
            self._open().register(stream.fileno(), select.EPOLLIN)

    def _end(self, now: float) -> None:
        """The child has closed its output: it is about to end, or made to."""
        self._hear_errors()
        if self._child is not None:
            _close_streams(self._child)
        self._due_ts = now + _REAP_S

    def _hear_errors(self) -> None:
        """Keep the last of what the child complains of, so that it can neither block nor fill the memory."""
        if self._child is None or (stream := _stream(self._child, "stderr")).closed:
            return
        for _ in range(16):
            data = _read_some(stream)
            if data is None:
                return
            if not data:
                stream.close()  # which takes it out of epoll, too
                return
            self._errors = (self._errors + data)[-_ERROR_BYTES:]

    def _retry(self, how: str, now: float) -> None:
        if now - self._started_ts >= _SETTLED_S:
            self._backoff_s = BACKOFF_FIRST_S
        complaint = _printable(self._errors)
        why = f"{how}: {complaint}" if complaint else how
        if self.cursor is not None and not self._gave_any and "cursor" in complaint:
            self.cursor = None
            self._since_ts = now
            self._tell("lost", f"journalctl does not know the saved position ({why}); reading goes on from now", now)
        else:
            self._tell("journal", f"journalctl ended ({why}); it is started again where it left off{_remedy(why)}", now)
        self._due_ts = now + self._backoff_s
        self._backoff_s = min(2 * self._backoff_s, BACKOFF_MOST_S)

    # -- entries -----------------------------------------------------------------------------------------------------

    def _entries(self, data: bytes, now: float) -> list[Batch]:
        entries: list[Batch] = []
        for block in self._lines.feed(data, now):
            for line in block.data[:-1].split(b"\n"):
                if not line.startswith(b"{"):  # "-- Boot ... --" and the like are journalctl's own words
                    continue
                found = _CURSOR.search(line)
                if found is not None:
                    self.cursor = found[1].decode("utf-8", "replace")
                sequence = _SEQUENCE.search(found[1]) if found is not None else None
                source = self._sorter.source_of(line)
                entries.append(Batch(source, line + b"\n", int(sequence[1], 16) if sequence else 0, 0, now))
        if entries:
            self._gave_any = True
        if self._lines.cut_lines:
            self._cut_lines += self._lines.cut_lines
            self._lines.cut_lines = self._lines.cut_bytes = 0
            what = f"entries longer than {MAX_LINE_BYTES:,} bytes were cut there"
            self._tell("long-line", what, now, f"{what}: {self._cut_lines:,} so far")
        return entries

    def _tell(self, kind: NoticeKind, what: str, now: float, text: str | None = None) -> None:
        """One notice; the same again not before an hour has passed."""
        told_ts = self._told_ts.get(what)
        if told_ts is None or not 0 <= now - told_ts < _SAME_NOTICE_S:
            if len(self._told_ts) >= 64:
                self._told_ts.clear()
            self._told_ts[what] = now
            self._notices.append(Notice(SOURCE, kind, text or what, now))


def _find_program() -> Path | None:
    for directory in os.environ.get("PATH", os.defpath).split(os.pathsep):
        path = Path(directory) / "journalctl"
        if path.is_absolute() and _is_program(path):
            return path
    return None


def _is_program(path: Path) -> bool:
    return os.path.isfile(path) and os.access(path, os.X_OK)  # noqa: PTH113  Path's own fails where a folder is closed


def _why_not(program: Path | None, directories: Sequence[Path]) -> str:
    """What is missing, "" where nothing is."""
    if program is None:
        return "there is no journalctl on PATH; install systemd, or name log files instead"
    if not program.is_absolute() or not _is_program(program):
        return f"{program} is not the absolute path of a program"
    refused = ""
    for directory in directories:
        try:
            if next(directory.glob("*/*.journal"), None) is not None:
                return ""
            if directory.is_dir() and not os.access(directory, os.R_OK):
                refused = f"{directory} cannot be read; run as root or as a member of the group systemd-journal"
        except PermissionError:
            refused = f"{directory} cannot be read; run as root or as a member of the group systemd-journal"
    names = " or ".join(str(directory) for directory in directories)
    return refused or f"there is no journal in {names}; is systemd-journald running?"


def _stream(child: subprocess.Popen[bytes] | None, name: str) -> IO[bytes]:
    stream: IO[bytes] = getattr(child, name)
    return stream


def _close_streams(child: subprocess.Popen[bytes]) -> None:
    """Closing takes a descriptor out of epoll: nobody else holds these."""
    for name in ("stdout", "stderr"):
        with suppress(OSError):
            _stream(child, name).close()


def _read_some(stream: IO[bytes]) -> bytes | None:
    """What is there; None where nothing is yet, b"" at the end."""
    try:
        return os.read(stream.fileno(), _READ_BYTES)
    except BlockingIOError:
        return None


def _printable(errors: bytes) -> str:
    """The last line that the child complained with, what is not printable as escapes."""
    last = errors.decode("utf-8", "backslashreplace").strip().rpartition("\n")[2]
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in last)[-300:]


def _remedy(why: str) -> str:
    if "ermission" in why:
        return "; add the user that guard runs as to the group systemd-journal"
    return ""
