"""Which logs there are below some paths, packed in archives or not, and by their content what kind each is."""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from stat import S_ISDIR, S_ISREG

from msgspec import Struct

from tocsin.explain.evidence.archives import kind_of, members, stage
from tocsin.explain.evidence.durations import word_of
from tocsin.explain.evidence.shapes import extended_formats, shape_of
from tocsin.explain.model import Coverage, Said, say
from tocsin.formats import Anchor, Format, by_name, sniff
from tocsin.formats.access import COMBINED, COMMON, VHOST_COMBINED
from tocsin.formats.sniff import NGINX_MAIN
from tocsin.formats.tellers import teller_for
from tocsin.formats.told import Teller
from tocsin.model import HttpRequest
from tocsin.server_events import ClockTie
from tocsin.sources.finished import STANDARD_INPUT, read_finished
from tocsin.sources.notice import SourceError
from tocsin.sources.rotation import base_of, rotation_of

NGINX_COMBINED = (
    '$remote_addr - $remote_user [$time_local] "$request" $status $body_bytes_sent "$http_referer" "$http_user_agent"'
)
MOST_FILES = 20_000
HEAD_BYTES = 1 << 16
SNIFF_LINES = 60
TELL_LINES = 200
SURE_SHARE = 0.9
LEAST_SHARE = 0.5

_ROOM_BYTES = 1 << 30
_CHUNK_BYTES = 1 << 20
_ALIKE_LINES = 20
_HEAD_BATCHES = 16  # a truncated log begins with NULs
_HOST = re.compile(r"(?=.*[a-z])[a-z0-9-]+(?:\.[a-z0-9-]+)*\.[a-z][a-z0-9-]+").fullmatch
_NO_HOST = re.compile(
    r"(?:\A|(?<=[-_.]))(?:access|ssl|https?|log|logs|combined|other|vhosts?|custom|nginx|apache2?|httpd)(?=[-_.]|\Z)"
)


_WELL_KNOWN = (
    (COMBINED, "combined"),
    (VHOST_COMBINED, "vhost_combined"),
    (NGINX_COMBINED, "combined"),
    (NGINX_MAIN, "main"),
    (COMMON, "common"),
)
_DURATION = re.compile(r" (?:\$request_time|%D|%T|%\{[mu]?s\}T)").fullmatch


class File(Struct):
    """A log to be read. `path` is what to open: the file's own, or a descriptor's. `format` and `vhost` where a web
    server's configuration told them.
    """

    name: str
    path: str
    size_bytes: int
    mtime_ts: float | None
    fd: int = -1
    format: str = ""
    vhost: str | None = None

    @property
    def group(self) -> tuple[str, str]:
        """What rotations of one log have in common."""
        directory, name = os.path.split(self.name)
        return directory, base_of(name)

    def close(self) -> None:
        """Let go of what an archive's member was unpacked into."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


class Found(Struct):
    """Files to read, what is said of those that cannot be, and what ties this machine's uptime to the time."""

    files: list[File]
    refused: list[Coverage]
    ties: list[ClockTie] = []
    notes: list[Said] = []

    def refuse(self, name: str, kind: str, note: Said) -> None:
        """Name a file that is not read, and why."""
        self.refused.append(Coverage(name, kind, None, None, 0, 0, (), (note,)))


class Access(Struct):
    """A file that holds requests; see `intake.Log` for `word`. `begin_ts` is when its first one was, where it has any
    yet.
    """

    format: Format
    word: int
    begin_ts: float | None


def find(paths: Sequence[Path]) -> Found:
    """All files that are named, or lie below what is named; each once, rotations of one log together, oldest first."""
    found = Found([], [])
    seen: set[tuple[int, int]] = set()
    for path in paths:
        for name in _below(str(path), found):
            if len(found.files) >= MOST_FILES:
                found.refuse(str(path), "unread", say("There are more than {count} files.", count=MOST_FILES))
                break
            _take(name, found, seen)
    found.files = _in_order(found.files)
    return found


def _below(path: str, found: Found) -> Iterator[str]:
    if path == STANDARD_INPUT or not os.path.isdir(path):  # noqa: PTH112  names as they were given
        yield path
        return
    empty = True
    for directory, below, names in os.walk(path, onerror=lambda error: _refuse_os(error.filename, error, found)):
        below.sort()
        for name in sorted(names):
            empty = False
            yield os.path.join(directory, name)  # noqa: PTH118
    if empty and not any(cover.source.startswith(path) for cover in found.refused):
        found.refuse(path, "empty", say("The folder is empty."))


def _take(name: str, found: Found, seen: set[tuple[int, int]]) -> None:
    if name == STANDARD_INPUT:
        fd = stage(iter(lambda: os.read(0, _CHUNK_BYTES), b""), [_ROOM_BYTES])
        if fd is None:
            found.refuse(name, "unread", say("It is too large to be kept; name the file."))
        else:
            found.files.append(_staged(name, fd, None))
        return
    try:
        status = os.stat(name)  # noqa: PTH116
    except OSError as error:
        _refuse_os(name, error, found)
        return
    identity = (status.st_dev, status.st_ino)
    if S_ISDIR(status.st_mode) or not S_ISREG(status.st_mode):
        found.refuse(name, "unread", say("It is no regular file."))
    elif not status.st_size:
        found.refuse(name, "empty", say("The file is empty."))
    elif identity not in seen:
        seen.add(identity)
        kind = kind_of(name)
        if kind:
            _unfold(name, kind, found)
        else:
            found.files.append(File(name, name, status.st_size, status.st_mtime))


def _unfold(name: str, kind: str, found: Found) -> None:
    def refuse(member: str, note: Said) -> None:
        found.refuse(f"{name}!{_shown(member)}" if member else name, "unread", note)

    before = len(found.files)
    for member in members(name, kind, refuse):
        found.files.append(_staged(f"{name}!{_shown(member.name)}", member.fd, member.mtime_ts or None))
    if len(found.files) == before and not any(cover.source.startswith(name) for cover in found.refused):
        found.refuse(name, "empty", say("The archive is empty."))


def _staged(name: str, fd: int, mtime_ts: float | None) -> File:
    return File(name, f"/proc/self/fd/{fd}", os.fstat(fd).st_size, mtime_ts, fd)


def _shown(name: str) -> str:
    """A member's name: somebody else's text."""
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in name.removeprefix("./"))[:300]


def _refuse_os(name: str, error: OSError, found: Found) -> None:
    if isinstance(error, PermissionError):
        found.refuse(name, "unread", say("It may not be read; run as root, or as a member of the group that owns it."))
    else:
        found.refuse(name, "unread", say("It cannot be read ({what}).", what=error.strerror or str(error)))


def _in_order(files: Iterable[File]) -> list[File]:
    groups: dict[tuple[str, str], list[File]] = {}
    for file in files:
        groups.setdefault(file.group, []).append(file)
    return [file for (_, base), group in groups.items() for file in _oldest_first(group, base)]


def _oldest_first(group: list[File], base: str) -> list[File]:
    ages = {file.name: rotation_of(os.path.basename(file.name), base) for file in group}  # noqa: PTH119
    kinds = {age.kind for age in ages.values() if age is not None}
    if len(kinds) == 1 and "other" not in kinds:
        return sorted(group, key=lambda file: (0, age.order) if (age := ages[file.name]) else (1, ()))
    return sorted(group, key=lambda file: file.mtime_ts or 0.0) if len(group) > 1 else group


# -- what kind of log a file is ----------------------------------------------------------------------------------------


class Typing:
    """Tells files apart by their first lines; remembers what it met, for most files of a folder are alike."""

    def __init__(self, anchor: Anchor) -> None:
        self._anchor = anchor
        self._met: list[Format] = []

    def of(self, file: File) -> Access | Teller | None:
        """The kind of a file; None where no kind fits half of its lines. SourceError where it cannot be read."""
        lines = head_of(file)
        some = lines[:SNIFF_LINES]
        configured = _configured(file.format)
        if configured is not None and self._share(configured, some) >= LEAST_SHARE:
            return self._as(configured, some)
        met = next((fmt for fmt in self._met if self._alike(fmt, some[:_ALIKE_LINES])), None)
        if met is not None:
            return self._as(met, some)
        fmt, share = self._access(some)
        if fmt is None or share < SURE_SHARE:
            told = teller_for([line.decode("utf-8", "backslashreplace") for line in lines[:TELL_LINES]])
            if told is not None and told[1] > share:
                return told[0]
        if fmt is None or share < LEAST_SHARE:
            return None
        if fmt.name not in {one.name for one in self._met}:
            self._met.append(fmt)
        return self._as(fmt, some)

    def _access(self, lines: Sequence[bytes]) -> tuple[Format | None, float]:
        guesses = [guess for guess in sniff(lines, self._anchor) if guess.format.kind == "access"]
        best = (guesses[0].format, guesses[0].share, guesses[0].addressed) if guesses else (None, 0.0, 0.0)
        quotes = Counter(line.count(b'"') for line in lines)
        if best[1] < SURE_SHARE and quotes:
            for fmt in extended_formats(quotes.most_common(1)[0][0]):
                events = [fmt.parse(line, self._anchor) for line in lines]
                requests = [event for event in events if isinstance(event, HttpRequest)]
                share = len(requests) / len(lines)
                addressed = sum(event.source_ip is not None for event in requests) / len(lines)
                if (share, addressed) > best[1:]:
                    best = fmt, share, addressed
        return best[:2]

    def _share(self, fmt: Format, lines: Sequence[bytes]) -> float:
        """How many of the lines fit; all, where there are none yet."""
        fitting = [isinstance(fmt.parse(line, self._anchor), HttpRequest) for line in lines]
        return sum(fitting) / len(fitting) if fitting else 1.0

    def _alike(self, fmt: Format, lines: Sequence[bytes]) -> bool:
        events = [fmt.parse(line, self._anchor) for line in lines]
        return bool(events) and all(isinstance(event, HttpRequest) and event.source_ip for event in events)

    def _as(self, fmt: Format, lines: Sequence[bytes]) -> Access:
        shape = shape_of(fmt.name)
        parsed = ((line, fmt.parse(line, self._anchor)) for line in lines)
        fitting = [(line, event.ts) for line, event in parsed if isinstance(event, HttpRequest)]
        word = word_of([line for line, _ in fitting]) if shape is not None and shape.more else 0
        return Access(fmt, word, fitting[0][1] if fitting else None)


def _configured(spec: str) -> Format | None:
    """The format that a configuration gives, under the name of the well-known one that it spells: those DuckDB reads.
    None where it gives none, or one that cannot be read.
    """
    text = spec.removeprefix("apache ").removeprefix("nginx ").replace("%O", "%b").replace("%v:%p", "%v")
    for base, name in _WELL_KNOWN:
        rest = text.removeprefix(base)
        if text == base or (_DURATION(rest) and name.endswith("combined") and rest != text):
            return by_name(f"{name} and more" if rest else name)
    try:
        return by_name(spec) if spec else None
    except ValueError:
        return None


def head_of(file: File) -> list[bytes]:
    """Its first lines that hold anything. SourceError where it is no text, or cannot be read."""
    failed: list[SourceError] = []
    for batch in islice(
        read_finished([Path(file.path)], block_bytes=HEAD_BYTES, on_error=failed.append), _HEAD_BATCHES
    ):
        lines = [line for line in batch.data[:-1].split(b"\n") if line.strip(b"\0")]
        if lines:
            return lines
    if failed:
        raise failed[0]
    return []


def vhost_of(name: str) -> str | None:
    """The virtual host that a log's file name tells (`shop.example-access.log`); None where it tells none."""
    base = base_of(os.path.basename(name)).lower()  # noqa: PTH119
    rest = _NO_HOST.sub("", base).strip("-_.")
    return rest if _HOST(rest) and not rest.endswith((".txt", ".out", ".err", ".json")) else None
