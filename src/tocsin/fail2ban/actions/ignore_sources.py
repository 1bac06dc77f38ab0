"""What `ignoreip` names and the host has to look up: the names by the runner, the files here."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

from tocsin.fail2ban.actions.client import Actions
from tocsin.fail2ban.actions.ignore import IgnoreList

NAMES_EVERY_S = 300.0
NAMES_AGAIN_S = 30.0
FILES_EVERY_S = 5.0
FILE_BYTES_MAX = 4 << 20
FILE_ENTRIES_MAX = 200_000
_COMMENT = re.compile(r"[#;].*")


class IgnoreSources:
    """The names and files of all jails' lists. Call `refresh` now and then (`due_s` says when), `resolved` when told.

    A name that cannot be looked up keeps its last addresses, a file that cannot be read what it held. `troubles` are
    told once each, for people. Times are of a monotonic clock, in seconds.
    """

    def __init__(self, lists: Iterable[IgnoreList]) -> None:
        self._lists = tuple(lists)
        self.names = tuple(dict.fromkeys(name for one in self._lists for name in one.names))
        self.files = tuple(dict.fromkeys(path for one in self._lists for path in one.files))
        self.due_s = 0.0 if self.names or self.files else float("inf")
        self._names_due_s = 0.0
        self._stamps: dict[str, tuple[int, int, int]] = {}
        self._told: set[str] = set()

    def refresh(self, actions: Actions | None, now_s: float) -> tuple[str, ...]:
        """Read the files that have changed, ask for the names that are due; what went wrong, each thing once."""
        troubles = [trouble for path in self.files if (trouble := self._refresh_file(path))]
        if self.names and now_s >= self._names_due_s:
            asked = actions is not None and actions.resolve(self.names)
            self._names_due_s = now_s + (NAMES_EVERY_S if asked else NAMES_AGAIN_S)
        self.due_s = min(
            now_s + FILES_EVERY_S if self.files else float("inf"), self._names_due_s if self.names else float("inf")
        )
        return tuple(troubles)

    def resolved(self, name: str, addresses: Sequence[str] | None) -> str:
        """A name's answer has come; a sentence where it has none, said once."""
        for one in self._lists:
            one.set_name(name, addresses)
        if addresses:
            self._told.discard(name)
            return ""
        why = "has no address" if addresses is not None else "cannot be looked up now"
        return self._once(name, f"ignoreip: {name} {why}; it spares nobody who was not spared before")

    def _refresh_file(self, path: str) -> str:
        try:
            status = Path(path).stat()
            stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
            if self._stamps.get(path) == stamp:
                return ""
            entries = read_entries(Path(path))
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else str(error)
            return self._once(path, f"ignoreip: file {path} cannot be used ({why}); what it held before still holds")
        self._stamps[path] = stamp
        self._told.discard(path)
        for one in self._lists:
            one.set_file(path, entries)
        return ""

    def _once(self, what: str, text: str) -> str:
        if what in self._told:
            return ""
        self._told.add(what)
        return text


def read_entries(path: Path) -> tuple[str, ...]:
    """Entries apart by blanks, commas or line ends; `#` and `;` begin comments. ValueError where it is too large."""
    with path.open("rb") as file:
        data = file.read(FILE_BYTES_MAX + 1)
    if len(data) > FILE_BYTES_MAX:
        raise ValueError(f"larger than {FILE_BYTES_MAX} bytes")
    text = data.decode("utf-8", "replace")
    words = [word for line in text.splitlines() for word in _COMMENT.sub("", line).replace(",", " ").split()]
    if len(words) > FILE_ENTRIES_MAX:
        raise ValueError(f"more than {FILE_ENTRIES_MAX} entries")
    return tuple(words)
