"""Figures as commands print them: sizes with suffixes, decimal commas, loads, shares."""

from __future__ import annotations

import re

_FACTORS = {"": 1, "B": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40, "P": 1 << 50}
_SIZE = re.compile(r"([0-9]{1,18}(?:[.,][0-9]{1,6})?)([BKMGTPbkmgtpo]?)i?[Bbo]?\+?").fullmatch


def size(text: str, unit: int = 1) -> int | None:
    """Bytes of `24684092` (in `unit`), `1.2g`, `393m`, `8,6Mi`, `262144k`, `0B`; None where it is no size."""
    match = _SIZE(text)
    if match is None:
        return None
    suffix = match[2].upper().replace("O", "B")
    return int(float(match[1].replace(",", ".")) * (_FACTORS[suffix] if suffix else unit))


def decimal(text: str) -> float | None:
    """A number with a point or a comma; None where it is none."""
    return float(text.replace(",", ".")) if re.fullmatch(r"[0-9]{1,9}(?:[.,][0-9]{1,6})?", text) else None


def whole(text: str) -> int | None:
    """A natural number; None where it is none."""
    return int(text) if text.isascii() and text.isdecimal() and len(text) <= 18 else None


_LOAD = re.compile(r"(?:[Ll]oad averages?|[Cc]harge moyenne) ?: *([0-9]{1,6}[.,][0-9]{1,2})").search


def load_of(line: str) -> float | None:
    """The load average of the last minute; None where the line tells none."""
    match = _LOAD(line)
    return decimal(match[1]) if match else None
