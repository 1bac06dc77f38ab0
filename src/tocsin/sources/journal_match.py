"""Which entries of the journal are for whom: journalctl's matches, tried on entries that were read for several at once.

Facts: journalctl(1): matches of different fields must all hold, of the same field one of them; `+` stands between
alternatives. A field may occur several times (an array of texts), and hold bytes (an array of numbers); of one that is
too long for journalctl there is null.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from itertools import groupby

import msgspec

from tocsin.model import Batch

SOURCE = "journal"
EXPORTED = "!"  # between the path of an export and the source that its entries would have in the journal

_MATCH = re.compile(r"[A-Z0-9_]+=[^\0\n]*").fullmatch

Entry = dict[str, object]
Group = dict[str, set[str]]


def parse_match(text: str) -> list[Group]:
    """The alternatives of a match as a shell splits it: the values of each field. ValueError where it is none."""
    groups: list[Group] = [{}]
    try:
        words = shlex.split(text)
    except ValueError as error:
        raise ValueError(f"{error} in {text!r}") from error
    for word in words:
        if word == "+":
            groups.append({})
        elif _MATCH(word):
            field, _, value = word.partition("=")
            groups[-1].setdefault(field, set()).add(value)
        else:
            groups = [{}]
            break
    if not all(groups):
        raise ValueError(f"expected FIELD=VALUE, with `+` between alternatives, got {text!r}")
    return groups


def is_for(source: str, reader: str) -> bool:
    """Whether a batch of that source is for a reader of the journal."""
    kind, _, names = source.rpartition(EXPORTED)[2].partition(":")
    return kind == SOURCE and bool(names) and _name(reader) in names.split(",")


def path_of(source: str) -> str:
    """The file that holds the entries of a source, where that is an export of the journal; else the source."""
    path, mark, rest = source.rpartition(EXPORTED)
    return path if mark and (rest == SOURCE or rest.startswith(f"{SOURCE}:")) else source


def _name(reader: str) -> str:
    """A reader as it stands in a source: commas part them there."""
    return reader.replace("%", "%25").replace(",", "%2C")


class Sorter:
    """Names the source of an entry by those whom it is for. `readers`: the matches of each, without any it is for all.

    ValueError where a match is none.
    """

    def __init__(self, readers: Mapping[str, Sequence[str]]) -> None:
        self.readers = [
            (_name(name), [group for match in matches for group in parse_match(match)])
            for name, matches in sorted(readers.items())
        ]
        self._decoder = msgspec.json.Decoder(Entry)

    def split(self, batch: Batch) -> Iterator[Batch]:
        """The lines of an export of the journal, in order, as batches of those that are for the same readers: their
        source is `PATH!journal:one,two`.
        """
        if not self.readers:
            yield batch
            return
        offset, number = batch.offset, batch.line
        for source, group in groupby(batch.data[:-1].split(b"\n"), self.source_of):
            lines = list(group)
            data = b"\n".join((*lines, b""))
            yield Batch(f"{batch.source}{EXPORTED}{source}", data, offset, number, batch.arrival_ts)
            offset, number = offset + len(data), number + len(lines)

    def source_of(self, line: bytes) -> str:
        """`journal:one,two`; `journal` for an entry that is for none of them, or that cannot be read."""
        if not self.readers:
            return SOURCE
        try:
            entry = self._decoder.decode(line)
        except (msgspec.MsgspecError, RecursionError, UnicodeDecodeError):
            return SOURCE
        names = [name for name, groups in self.readers if not groups or any(_meets(entry, each) for each in groups)]
        return f"{SOURCE}:{','.join(names)}" if names else SOURCE


def _meets(entry: Entry, group: Group) -> bool:
    return all(not wanted.isdisjoint(_values(entry.get(field))) for field, wanted in group.items())


def _values(value: object) -> list[str]:
    """The texts of a field."""
    if isinstance(value, str):
        return [value]
    if not isinstance(value, list):
        return []
    if any(isinstance(item, int) for item in value):
        return _of_bytes(value)
    return [text for item in value for text in ([item] if isinstance(item, str) else _of_bytes(item))]


def _of_bytes(value: object) -> list[str]:
    """One value given as the numbers of its bytes."""
    numbers = [item for item in value if isinstance(item, int) and 0 <= item < 256] if isinstance(value, list) else []
    return [bytes(numbers).decode("utf-8", "replace")] if numbers else []
