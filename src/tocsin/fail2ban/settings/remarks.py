"""What is to be remarked while a configuration is read: collected once each, fit to be shown."""

from __future__ import annotations

from msgspec import structs

from tocsin.fail2ban.model import Remark
from tocsin.fail2ban.settings.ini import Value

_MOST_CHARS = 1_000


class RejectedError(ValueError):
    """What is meant cannot be run: why, where that stands, and what to do."""

    def __init__(self, text: str, remedy: str, file: str = "", line: int = 0) -> None:
        super().__init__(text)
        self.remedy = remedy
        self.file = file
        self.line = line


class Remarks:
    """Remarks in the order in which they came up, each once."""

    def __init__(self) -> None:
        self._remarks: dict[Remark, None] = {}

    def add(self, remark: Remark) -> None:
        if len(remark.text) > _MOST_CHARS or not remark.text.isprintable():
            remark = structs.replace(remark, text=plain(remark.text))
        self._remarks.setdefault(remark)

    def all(self) -> tuple[Remark, ...]:
        return tuple(self._remarks)


def plain(text: str) -> str:
    """A text that quotes a file, as it may be shown: of bounded length, with nothing that a terminal would obey."""
    short = text if len(text) <= _MOST_CHARS else f"{text[: _MOST_CHARS // 2]} ... {text[-_MOST_CHARS // 2 :]}"
    return "".join(sign if sign.isprintable() else ascii(sign)[1:-1] for sign in short)


def place_of(value: Value | None) -> tuple[str, int] | None:
    """File and line of a value; None where it stands in no file."""
    return (value.file, value.line) if value else None
