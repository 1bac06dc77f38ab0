"""A ledger with many bans in force, as a guard leaves it: for benches that start with them."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

from guarding import NOBODY

from tocsin.ledger.writer import Portion, Writer
from tocsin.model import Decision

PORTION = 25_000
DAY_S = 86400.0


def address(number: int) -> str:
    """Distinct addresses that somebody out there could have, none of them in 198.51.100.0/24; from 0 to 6,553,599."""
    return f"{20 + number % 100}.{number // 100 % 256}.{number // 25_600 % 256}.{1 + number % 253}"


def bans(count: int, now_ts: float) -> Iterator[Decision]:
    """Bans of distinct addresses that end within the next days, one after the other."""
    for number in range(count):
        subject, end_ts = address(number), now_ts + DAY_S + number
        yield Decision(f"ban~{subject}~{end_ts!r}", "ban", subject, now_ts, end_ts, "wordpress-xmlrpc", None)


def fill_ledger(state: Path, count: int) -> None:
    """Write a ledger with so many bans in force into a state directory, for whoever guard runs as here."""
    state.mkdir(parents=True, exist_ok=True)
    now_ts = time.time()
    writer = Writer(state / "ledger.db", keep_s=90 * DAY_S, max_rows=1_000_000, memory_s=90 * DAY_S, now_ts=now_ts)
    decisions = list(bans(count, now_ts))
    for start in range(0, count, PORTION):
        writer.write(Portion([], decisions[start : start + PORTION], [], [], None), now_ts)
    writer.close()
    if os.geteuid() == 0:
        for path in (state, *state.iterdir()):
            os.chown(path, NOBODY, NOBODY)
