"""Numbers as people read them."""

from __future__ import annotations

from tocsin.duration import render_duration

_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def count(number: float, one: str, many: str = "") -> str:
    """`1 line`, `2,000 lines`."""
    return f"{number:,} {one if number == 1 else many or one + 's'}"


def size(octets: int | None) -> str:
    """Bytes in the unit that fits; empty where unknown."""
    if octets is None:
        return ""
    value = float(octets)
    for unit in _UNITS:
        if value < 1024 or unit == _UNITS[-1]:
            break
        value /= 1024
    return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"


def span(seconds: float | None) -> str:
    """A span to the second and no finer; None is `for good`."""
    return render_duration(seconds if seconds is None or seconds < 1 else float(round(seconds)))


def age(seconds: float | None) -> str:
    """How long ago, coarsely; empty where unknown."""
    if seconds is None:
        return ""
    for limit_s, unit_s, unit in ((120.0, 1.0, "s"), (7200.0, 60.0, "min"), (172800.0, 3600.0, "h")):
        if seconds < limit_s:
            return f"{seconds / unit_s:.0f} {unit}"
    return f"{seconds / 86400:.0f} days"


def number(value: float | None) -> float | int | None:
    """A number for JSON: whole ones without a fraction, others to the microsecond."""
    if value is None:
        return None
    return int(value) if value == int(value) else round(value, 6)
