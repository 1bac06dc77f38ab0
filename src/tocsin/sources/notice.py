"""What the sources tell the operator: notices while following, errors while reading finished files."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

NoticeKind = Literal[
    "rotated",  # a rotation was followed; nothing to do
    "lost",  # lines were lost, or may have been; `lost_bytes_at_most` where a bound is known
    "unreadable",  # a file matched but cannot be read; tried again by itself
    "vanished",  # the file is gone and no other took its place
    "returned",  # a file that had vanished or was unreadable is read again
    "long-line",  # a line longer than MAX_LINE_BYTES was cut
    "polling",  # the kernel does not tell of changes here: the file is looked at every POLL_S
    "journal",  # the journal's reader ended and is started again
]


class Notice(Struct, frozen=True):
    """Something the operator should know. `text` is one sentence, with the remedy where there is one.

    `ts` is when it was noticed. `lost_bytes_at_most` is set with kind `lost` where the loss has a known bound in bytes;
    None where none is known (the text then gives the bound in time, if there is one).
    """

    source: str
    kind: NoticeKind
    text: str
    ts: float
    lost_bytes_at_most: int | None = None


class SourceError(Exception):
    """A finished source cannot be read, or not to its end: which, what was expected, what to do.

    `kind` maps to an exit code of the command line: `no-input` 66, `no-permission` 77, `data` 65. `position` is the
    decompressed byte at which reading stopped, None where it never began.
    """

    def __init__(
        self, path: str, kind: Literal["no-input", "no-permission", "data"], text: str, position: int | None = None
    ) -> None:
        super().__init__(f"{path}: {text}")
        self.path = path
        self.kind = kind
        self.text = text
        self.position = position
