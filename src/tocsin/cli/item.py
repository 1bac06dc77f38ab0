"""What `tocsin check` says of one thing that it has looked at."""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Item(Struct, frozen=True):
    """One thing that was looked at. `code` is the exit code where it `failed`; a `warning` leaves guard at work."""

    name: str
    state: Literal["ok", "warning", "failed"]
    detail: str
    remedy: str = ""
    code: int = 0
