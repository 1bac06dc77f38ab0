"""What the kernel says of tasks that stand still (pressure stall information, /proc/pressure; Linux 4.20 and later)."""

from __future__ import annotations

import re
from pathlib import Path

from tocsin.server_events import Sample

RESOURCES = ("memory", "io", "cpu")
_SOME = re.compile(r"^some avg10=([0-9]{1,3}\.[0-9]{2}) ")


def read_pressure(now_ts: float, root: Path = Path("/")) -> Sample | None:
    """How much of the last ten seconds some task waited for memory, storage or a processor, the most of the three as
    `stalled_share`; None where the kernel does not tell.
    """
    shares = [share for name in RESOURCES if (share := _some(root / "proc/pressure" / name)) is not None]
    return Sample(now_ts, "pressure", stalled_share=max(shares)) if shares else None


def _some(path: Path) -> float | None:
    try:
        match = _SOME.match(path.read_text("ascii"))
    except (OSError, UnicodeError):  # no such kernel, or it was told not to (psi=0)
        return None
    return float(match[1]) / 100 if match else None
