"""Which files are rotations of which, in which order they were written, and which of them are still unread.

Names: logrotate's and cronolog-like numbers and dates behind the name (`access.log.1`, `access.log-20260101.gz`) or
before its extension (`access-20260101.log`). Order: by number where all have one (larger is older), by date where all
have one, else by modification time. Other suffixes (`access.log.bak`) are looked at to find a known position again,
never read on the strength of their name.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable, Sequence
from stat import S_ISREG
from typing import Literal, NamedTuple

from tocsin.sources.archive import Packing
from tocsin.sources.fingerprint import Checkpoint, Relation, relation_of_archive, relation_of_fd

_PACKED = re.compile(r"\.(gz|xz|zst)\Z")
_NUMBER = re.compile(r"\d{1,5}\Z")
_DATE = re.compile(r"(?:\d{4}[-_.]?\d{2}[-_.]?\d{2}(?:[-_.T]?\d{1,6})*|\d{10})\Z")
_STABLE_TRIES = 8

OPEN_FLAGS = os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | os.O_NONBLOCK
"""O_NONBLOCK so that a FIFO under a log's name cannot hang us; it means nothing to a regular file."""

Identity = tuple[int, int]


class Age(NamedTuple):
    """What a rotated file's name says of its age: `order` grows with youth within one kind."""

    kind: Literal["number", "date", "other"]
    order: tuple[int, ...]


class Sibling(NamedTuple):
    """A file beside a log that may be one of its rotations."""

    path: str
    packing: Packing
    age: Age
    identity: Identity
    size_bytes: int
    mtime_ns: int


class Found(NamedTuple):
    """Where a position was found again. `relation` is `same` or, for a copy that ends before it, `shorter`."""

    path: str
    packing: Packing
    identity: Identity
    relation: Relation


def _age_of(suffix: str) -> Age:
    if _NUMBER.match(suffix):
        return Age("number", (-int(suffix),))
    if _DATE.match(suffix):
        return Age("date", tuple(int(part) for part in re.findall(r"\d+", _dateless(suffix))))
    return Age("other", ())


def _dateless(suffix: str) -> str:
    """The date's digits joined, what follows it apart: `2026-01-02-1` becomes `20260102-1`."""
    return re.sub(r"\A(\d{4})[-_.]?(\d{2})[-_.]?(\d{2})", r"\1\2\3", suffix) if len(suffix) != 10 else suffix


def identity_at(path: str) -> Identity | None:
    """Which file a path leads to; None where to none, or where that cannot be known."""
    try:
        status = os.stat(path)  # noqa: PTH116  texts throughout: this room's hot paths build no Path objects
    except OSError:
        return None
    return status.st_dev, status.st_ino


def split_packing(name: str) -> tuple[str, Packing]:
    """A file name without the suffix of its packing, and the packing."""
    found = _PACKED.search(name)
    if not found:
        return name, ""
    packing: Packing = "gz" if found[1] == "gz" else "xz" if found[1] == "xz" else "zst"
    return name[: found.start()], packing


def rotation_of(name: str, base: str) -> Age | None:
    """What `name`'s age is as a rotation of `base`; None where it is none. File names without directories."""
    plain, packing = split_packing(name)
    if plain == base:
        return Age("other", ()) if packing else None
    if plain.startswith(base) and plain[len(base)] in ".-_":
        return _age_of(plain[len(base) + 1 :])
    stem, dot, extension = base.rpartition(".")
    if stem and plain.startswith(stem) and plain.endswith(dot + extension):
        middle = plain[len(stem) : -len(extension) - 1]
        if middle[:1] in {".", "-", "_"} and (age := _age_of(middle[1:])).kind != "other":
            return age
    return None


def base_of(name: str) -> str:
    """The name of the log that a file of this name is a rotation of: `access.log` of `access.log.2.gz`; else itself."""
    plain, _ = split_packing(name)
    for separator in ".-_":
        at = plain.find(separator)
        while at > 0:
            if _age_of(plain[at + 1 :]).kind != "other":
                return plain[:at]
            stem, dot, extension = plain.rpartition(".")
            if dot and at < len(stem) and _age_of(stem[at + 1 :]).kind != "other":
                return f"{stem[:at]}.{extension}"
            at = plain.find(separator, at + 1)
    return plain


def _places(path: str) -> list[tuple[str, str]]:
    """(directory, base name) where rotations of `path` lie: its own, and its target's where it is a symbolic link."""
    places = [os.path.split(path)]
    try:
        if os.path.islink(path):  # noqa: PTH114  texts throughout: this room's hot paths build no Path objects
            places.append(os.path.split(os.path.realpath(path)))
    except OSError:
        return places
    return places


def _look(path: str) -> list[Sibling]:
    found: list[Sibling] = []
    for directory, base in _places(path):
        try:
            names = os.listdir(directory or ".")  # noqa: PTH208  2,000 names: 0.3 ms against 4 with Path.iterdir
        except OSError:
            continue
        stem = base.rpartition(".")[0] or base
        for name in names:
            if not name.startswith(stem) or name == base or (age := rotation_of(name, base)) is None:
                continue
            full = f"{directory}/{name}" if directory else name
            try:
                status = os.stat(full)  # noqa: PTH116
            except OSError:
                continue
            if S_ISREG(status.st_mode):
                identity = (status.st_dev, status.st_ino)
                packing = split_packing(name)[1]
                found.append(Sibling(full, packing, age, identity, status.st_size, status.st_mtime_ns))
    return found


def siblings_of(path: str) -> list[Sibling]:
    """All files beside `path` whose names are made of its name, from one moment: looked at until two looks agree.

    A rotation renames many files one after the other; a look in its middle would see one twice or not at all.
    """
    look = _look(path)
    for _ in range(_STABLE_TRIES):
        again = _look(path)
        if {(s.path, s.identity) for s in look} == {(s.path, s.identity) for s in again}:
            return again
        look = again
    return look


def generations(siblings: Iterable[Sibling]) -> list[list[Sibling]]:
    """Siblings that are rotations by name, oldest first; a file and its archive are one generation, the file first."""
    rotated = [s for s in siblings if s.age.kind != "other"]
    by_name = len({s.age.kind for s in rotated}) == 1

    def key(sibling: Sibling) -> tuple[int, ...]:
        return sibling.age.order if by_name else (sibling.mtime_ns,)

    groups: dict[tuple[int, ...], list[Sibling]] = {}
    for sibling in sorted(rotated, key=lambda s: (key(s), s.packing != "", s.path)):
        groups.setdefault(key(sibling), []).append(sibling)
    return list(groups.values())


def relation(position: Checkpoint, path: str, packing: Packing) -> Relation:
    """How the content of the file at `path` stands to a position; what cannot be read is `other`."""
    try:
        fd = os.open(path, OPEN_FLAGS)
    except OSError:
        return "other"
    try:
        return relation_of_archive(position, fd, packing) if packing else relation_of_fd(position, fd)
    except OSError:
        return "other"
    finally:
        os.close(fd)


def locate(path: str, position: Checkpoint) -> Found | None:
    """The file in which `position` lies now: the same file by identity and content, else a copy or archive by content.

    With nothing handed out (offset 0) there is no content to compare: identity alone decides. A copy that ends before
    the position is the answer only where nothing better is found: it shows that nothing of that file is unread.
    """
    siblings = siblings_of(path)
    there = identity_at(path)
    wanted = (position.dev, position.ino)
    plain = [(sibling.path, sibling.identity) for sibling in siblings if not sibling.packing]
    for place, identity in [(path, there), *plain]:
        if identity == wanted and (not position.offset or relation(position, place, "") == "same"):
            return Found(place, "", identity, "same")
    if not position.offset:
        return None
    if there is not None and relation(position, path, "") == "same":
        return Found(path, "", there, "same")
    return _locate_copy(siblings, position)


def _locate_copy(siblings: Sequence[Sibling], position: Checkpoint) -> Found | None:
    shorter: Found | None = None
    for sibling in sorted(siblings, key=lambda s: (s.packing != "", -s.mtime_ns)):
        how = relation(position, sibling.path, sibling.packing)
        found = Found(sibling.path, sibling.packing, sibling.identity, how)
        if how == "same":
            return found
        if how == "shorter" and shorter is None:
            shorter = found
    return shorter


class Between(NamedTuple):
    """The open files after and before which a file was written, as far as that is known."""

    follows: Identity | None = None
    followed_by: Identity | None = None


class Unread(NamedTuple):
    """A rotation to be read next, and where it belongs."""

    sibling: Sibling
    place: Between


def next_unread(
    path: str,
    positions: Sequence[Checkpoint],
    settled: frozenset[Identity],
    unsettled: Sequence[Checkpoint],
    refused: Callable[[Sibling], bool],
    since_ns: int,
) -> Unread | None:
    """The oldest rotation of `path` that was written after everything read so far and is itself unread; None: none.

    Read are the open files that are `settled` and those whose content agrees with one of `positions`. Open files of
    which nothing was handed out (`unsettled`, each with the content it begins with) may have unread ones on either
    side. Where nothing read is left, what was modified after `since_ns` counts as unread. `refused` are passed over.
    """
    younger: list[tuple[list[Sibling], Identity | None]] = []
    anchored = False
    for group in reversed(generations(siblings_of(path))):
        waiting = _waiting(group, unsettled)
        if waiting is None and any(s.identity in settled or _is_read(s, positions) for s in group):
            anchored = True
            break
        younger.append((group, waiting))
    younger.reverse()
    for index, (group, waiting) in enumerate(younger):
        if waiting is not None or not (anchored or group[0].mtime_ns > since_ns):
            continue
        usable = [s for s in group if not refused(s)]
        if usable:
            earlier = (identity for _, identity in reversed(younger[:index]) if identity is not None)
            later = (identity for _, identity in younger[index + 1 :] if identity is not None)
            return Unread(usable[0], Between(next(earlier, None), next(later, None)))
    return None


def _waiting(group: Sequence[Sibling], unsettled: Sequence[Checkpoint]) -> Identity | None:
    """The open file of which a generation is the file itself, or a copy or archive."""
    for position in unsettled:
        identity = (position.dev, position.ino)
        if any(s.identity == identity or _is_read(s, (position,)) for s in group):
            return identity
    return None


def _is_read(sibling: Sibling, positions: Sequence[Checkpoint]) -> bool:
    with_content = [p for p in positions if p.offset]
    return any(relation(p, sibling.path, sibling.packing) != "other" for p in with_content)
