"""What a process of a guard says on standard error when something is wrong with itself."""

from __future__ import annotations

import contextlib
import os

STANDARD_ERROR = 2


def warn(text: str) -> None:
    """One line for whoever listens. Where nobody can (no terminal, a full disk) the work goes on all the same."""
    with contextlib.suppress(OSError):
        os.write(STANDARD_ERROR, f"tocsin: {text}\n".encode(errors="backslashreplace"))
