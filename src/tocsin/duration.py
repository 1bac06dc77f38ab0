"""Spans of time as people write them: `10m`, `66h40m`, `1d12h`, `90s`."""

from __future__ import annotations

import re

_UNIT_S = {"w": 604800.0, "d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 0.001}
_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|[wdhms])")
_WHOLE = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|[wdhms]))+")
EXPECTED = 'a duration such as "90s", "10m", "66h40m" or "1d12h", or a number of seconds'


def parse_duration_s(text: str | float) -> float:
    """Seconds of a duration text; a bare number counts seconds. ValueError says what was expected."""
    if isinstance(text, bool):
        raise ValueError(f"expected {EXPECTED}, got {text!r}")  # noqa: TRY004  one error type for callers
    if isinstance(text, int | float):
        return float(text)
    if not _WHOLE.fullmatch(text):
        raise ValueError(f"expected {EXPECTED}, got {text!r}")
    return sum(float(number) * _UNIT_S[unit] for number, unit in _PART.findall(text))


def render_duration(seconds: float | None) -> str:
    """The shortest text of the same span, hours not folded into days as in `66h40m`; None is `for good`."""
    if seconds is None:
        return "for good"
    if seconds < 1:
        return f"{seconds * 1000:.3g}ms"
    whole = round(seconds)
    days = whole // 86400 if whole % 86400 == 0 else 0
    if days:
        return f"{days}d"
    parts = [f"{whole // 3600}h", f"{whole % 3600 // 60}m", f"{whole % 60}s"]
    return "".join(part for part in parts if part[0] != "0") or "0s"
