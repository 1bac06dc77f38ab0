"""The logs of a running guard: which they are, how each is read, how far, and what there is to say of them.

A reload takes up logs that are new without losing a line of the others: they are read on from where they stand.
"""

from __future__ import annotations

import math
import os
import re
import selectors
import shlex
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec
from msgspec import structs

from tocsin.reading import Reading, Readings
from tocsin.sources.discovery import USUAL_PLACES, discover
from tocsin.sources.journal import Journal
from tocsin.sources.journal_match import SOURCE
from tocsin.sources.notice import Notice
from tocsin.sources.tail import Checkpoint, Tail
from tocsin.wiring import local_zone, proxies_of

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.detect.engine import Engine
    from tocsin.fail2ban.rules import Jailed
    from tocsin.model import Batch
    from tocsin.rules import CompiledRule

NOTICES_KEPT = 50
LAST_BYTES = 1 << 16  # of a log, by which its format is told before it grows
JOURNAL_MATCHES = ("_COMM=sshd", "_COMM=sshd-session")
CURSOR = b"cursor "
PATH = b"path "  # of a checkpoint whose path is no UTF-8: the path, a NUL, the rest

_HOST = re.compile(rb"(?m)^(?:<[0-9]{1,3}>)?(?:[A-Z][a-z]{2} [ 0-9][0-9] [0-9:]{8}|[0-9]{4}-[0-9]{2}-\S+) ([^ \n]+) ")
"""Which machine wrote a syslog line."""

Named = list[tuple[str, str]]
Asked = tuple[tuple[str, ...], dict[str, tuple[str, ...]]]


class Watching:
    """The sources of a guard. `positions` are the rows of an earlier guard's `positions`."""

    def __init__(
        self, config: Config, jailed: Jailed | None, say: Callable[..., None], positions: Iterable[bytes]
    ) -> None:
        self._say = say
        self._jailed = jailed
        self._selector: selectors.BaseSelector | None = None
        self._read: Callable[[], None] = lambda: None
        self.notices: deque[Notice] = deque(maxlen=NOTICES_KEPT)
        self._told_journal = False
        self.readings = Readings(self._find(config, jailed), proxies_of(config), local_zone(), self._new_reading)
        self.readings.ignored = self._ignored
        rows = list(positions)
        checkpoints = [_unpacked(row) for row in rows if not row.startswith(CURSOR)]
        cursor = next((row.removeprefix(CURSOR).decode() for row in rows if row.startswith(CURSOR)), None)
        self._patterns = [pattern for pattern, _ in self.readings.named]
        self.tail = Tail(self._patterns, checkpoints)
        self.journal: Journal | None = None
        self._take_up_journal(config, jailed, cursor)

    @property
    def inputs(self) -> tuple[Tail | Journal, ...]:
        """All there is to read."""
        return (self.tail,) if self.journal is None else (self.tail, self.journal)

    # -- which they are ----------------------------------------------------------------------------------------------

    def _find(self, config: Config, jailed: Jailed | None) -> Named:
        """(path or glob, format) of the configured logs and of what the machine's web server says of its own.

        `tocsin guard` has shown all of it before it started us; here only what cannot be read is said again.
        """
        named = [(log.path, log.format or ("sshd" if log.kind == "auth" else "")) for log in config.log]
        self._ignored: set[str] = set()
        if config.logs.discover:
            found = discover()
            self._ignored = {path for log in found.logs for path in log.exclude}
            for refused in found.unreadable:
                self._say("logs", f"{refused.path}: {refused.reason}; {refused.remedy}", source=refused.path)
            seen = {path for path, _ in named}
            named += [
                (log.path, log.format or ("sshd" if log.kind == "auth" else ""))
                for log in found.logs
                if log.kind in ("access", "auth") and log.path not in seen
            ]
        if jailed is not None:
            seen = {path for path, _ in named}
            named += [(path, "") for path in jailed.logs if path not in seen]
        return named

    def _matches_wanted(self, config: Config, jailed: Jailed | None) -> tuple[str, ...]:
        """What to read of the journal: sshd, where no log has that, and what jails ask for. Empty: nothing."""
        wanted = config.logs.journal
        if wanted == "off":
            return ()
        own = () if wanted == "auto" and self._auth_logs else JOURNAL_MATCHES
        return any_of((*own, *(jailed.journal_matches if jailed else ())))

    def _find_auth_logs(self, config: Config) -> tuple[str, ...]:
        """The logs that hold what this machine's sshd writes, where the journal is read, too."""
        if config.logs.journal == "off" or not Journal(()).available:
            return ()
        return tuple(file.source for file in self.tail.files() if not file.trouble and self._is_auth_log(file.source))

    def _is_auth_log(self, source: str) -> bool:
        if source in self.readings.ignored:
            return False
        lines = last_lines(Path(source))
        usual = any(path == source for path, kind, *_ in USUAL_PLACES if kind == "auth")
        is_auth = self.readings.expected(source, lines, time.time()).kind == "auth" or (usual and not lines)
        return is_auth and (usual or names_this_machine(lines))

    def share(self, rules: Iterable[CompiledRule]) -> tuple[CompiledRule, ...]:
        """Tocsin's own rules, made not to see a login twice: those about logins leave out the journal while a log holds
        the same, or with `journal = "on"` that log. Jails read what they are told to.
        """
        unseen = self._unseen
        return tuple(
            structs.replace(rule, covers=lambda source: not unseen(source)) if rule.rule.on == "auth" else rule
            for rule in rules
        )

    def _hide(self, wanted: str) -> None:
        """Settle what own rules about logins do not see."""
        logs = self._auth_logs if self.journal is not None else ()
        self._unseen: Callable[[str], bool] = lambda _source: False
        if logs and wanted == "on":
            self._unseen = frozenset(logs).__contains__
            text = 'counts for jails alone; the other rules have sshd read from the journal ([logs] journal = "on")'
            for path in logs:
                self._say("logs", f"{path} {text}", source=path)
        elif logs:
            self._unseen = lambda source: source.partition(":")[0] == SOURCE

    def _open_journal(
        self, config: Config, jailed: Jailed | None, matches: tuple[str, ...], cursor: str | None
    ) -> Journal | None:
        self._asked: Asked = ((), {})
        if not matches:
            return None
        readers = jailed.journal_readers if jailed else {}
        journal = Journal(matches, cursor=cursor, readers=readers)
        if not journal.available:
            if config.logs.journal == "on" or (jailed and jailed.journal_matches):
                self._say("logs", f"the journal cannot be read: {journal.why_not}")
            return None
        self._asked = (matches, readers)
        return journal

    def _take_up_journal(self, config: Config, jailed: Jailed | None, cursor: str | None) -> None:
        """Have the journal that is wanted, the present one where it is the same."""
        self._auth_logs = self._find_auth_logs(config)
        matches = self._matches_wanted(config, jailed)
        if self.journal is None or self._asked != (matches, jailed.journal_readers if jailed else {}):
            if self.journal is not None:
                cursor = self.journal.cursor
                self._hear(self.journal)
                self.journal.close()
            self.journal = self._open_journal(config, jailed, matches, cursor)
        if self.journal is not None:
            self.readings.named.append(("journal*", "journal"))
        self._hide(config.logs.journal)
        if not self.readings.named:
            self._say("logs", "no logs found to watch; name them in [[log]] path = ... in the configuration")

    def take_up(self, config: Config, jailed: Jailed | None) -> None:
        """Go on with the logs of a new configuration: the old ones where they stand, new ones from their end."""
        self._jailed = jailed
        named = self._find(config, jailed)
        self.readings.named = named
        self.readings.ignored = self._ignored
        self._unregister()
        patterns = [pattern for pattern, _ in named]
        if patterns != self._patterns:
            positions = self.tail.checkpoints()
            self._hear(self.tail)
            self.tail.close()
            self._patterns = patterns
            self.tail = Tail(patterns, positions)
        self._take_up_journal(config, jailed, None)
        self._register()

    def _new_reading(self, source: str, reading: Reading) -> None:
        if source.partition(":")[0] == SOURCE:  # one for each combination of readers
            source, told, self._told_journal = SOURCE, self._told_journal, True
            if told:
                return
        if reading.format is None and self._jailed and any(rule.covers(source) for rule in self._jailed.rules):
            text = f"watching {source} for the jails that read it; no format that the other rules know fits its lines"
        elif reading.format is None:
            text = f"{source}: no known format fits its lines; they are only counted. Name one in [[log]] format"
        else:
            text = f"watching {source} as {reading.format.name} ({reading.share:.0%} of its lines fit, {reading.how})"
        self._say("log", text, source=source)

    # -- reading -----------------------------------------------------------------------------------------------------

    def wait_on(self, selector: selectors.BaseSelector, read: Callable[[], None]) -> None:
        """Have `read` called whenever a source wakes `selector`."""
        self._selector, self._read = selector, read
        self._register()

    def _register(self) -> None:
        if self._selector is not None:
            for source in self.inputs:
                self._selector.register(source.fileno(), selectors.EVENT_READ, self._read)

    def _unregister(self) -> None:
        if self._selector is not None:
            for source in self.inputs:
                self._selector.unregister(source.fileno())

    def read(self) -> Iterator[Batch]:
        """Everything new, as batches of whole lines."""
        for source in self.inputs:
            yield from (batch for batch in source.read() if batch.source not in self.readings.ignored)

    @property
    def pending(self) -> bool:
        """Whether there is more to be read at once."""
        return any(source.pending for source in self.inputs)

    def due_ts(self) -> float:
        """When a source wants to be read although it woke nobody."""
        return min((ts for source in self.inputs if (ts := source.deadline_ts()) is not None), default=math.inf)

    def tick(self) -> None:
        """Pass on what the sources have to say."""
        for source in self.inputs:
            self._hear(source)

    def _hear(self, source: Tail | Journal) -> None:
        for notice in source.notices():
            self.notices.append(notice)
            text = notice.text if notice.source in {"", SOURCE} else f"{notice.source}: {notice.text}"
            self._say(f"source-{notice.kind}", text, source=notice.source)

    def positions(self) -> list[bytes]:
        """Where each source stands, to be saved with what was made of its lines."""
        rows = [_packed(checkpoint) for checkpoint in self.tail.checkpoints()]
        if self.journal is not None and self.journal.cursor:
            rows.append(CURSOR + self.journal.cursor.encode())
        return rows

    def followed(self) -> int:
        """How many logs can be read."""
        return len([file for file in self.tail.files() if not file.trouble])

    def prepare(self, engine: Engine) -> None:
        """Make ready, for the formats of all logs, what would hold up the ban that the first line of one leads to."""
        now_ts = time.time()
        for file in self.tail.files():
            if not file.trouble and file.source not in self.readings.ignored:
                lines = last_lines(Path(file.source))
                engine.prepare(self.readings.expected(file.source, lines, now_ts), file.source)

    def close(self) -> None:
        """Let go."""
        for source in self.inputs:
            source.close()


def _packed(checkpoint: Checkpoint) -> bytes:
    try:
        return msgspec.msgpack.encode(checkpoint)
    except UnicodeEncodeError:
        rest = structs.replace(checkpoint, source="")
        return PATH + os.fsencode(checkpoint.source) + b"\0" + msgspec.msgpack.encode(rest)


def _unpacked(row: bytes) -> Checkpoint:
    path, _, rest = row.removeprefix(PATH).partition(b"\0") if row.startswith(PATH) else (b"", b"", row)
    checkpoint = msgspec.msgpack.decode(rest, type=Checkpoint)
    return structs.replace(checkpoint, source=os.fsdecode(path)) if path else checkpoint


def any_of(matches: Sequence[str]) -> tuple[str, ...]:
    """Arguments of journalctl that take what any of the matches takes; a match may be several fields, and hold `+`."""
    arguments: list[str] = []
    for match in matches:
        arguments += (["+"] if arguments else []) + shlex.split(match)
    return tuple(arguments)


def names_this_machine(lines: bytes) -> bool:
    """Whether a syslog is this machine's own, at least in part, as far as its lines tell."""
    ours = os.uname().nodename.partition(".")[0].lower()
    hosts = {host.decode("utf-8", "replace").partition(".")[0].lower() for host in _HOST.findall(lines)}
    return not hosts or not hosts.isdisjoint((ours, "localhost"))


def last_lines(path: Path) -> bytes:
    """The last whole lines of a file, 64 KiB at most; empty where it has none or has gone."""
    try:
        with path.open("rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(0, size - LAST_BYTES))
            data = file.read(LAST_BYTES)
    except OSError:
        return b""
    start = data.find(b"\n") + 1 if size > LAST_BYTES else 0
    return data[start : data.rfind(b"\n") + 1]
