"""Bans that are held back: decided, but not to be put into the kernel. Each is said once in the time that it had."""

from __future__ import annotations

import math
from collections.abc import Mapping

from tocsin.decide.bantable import BanTable
from tocsin.model import Decision, Finding, parts_of

HELD_ROWS = 50_000


class Held:
    """What was held back lately. `ends` say until when it is not said again (None: never), by subject and rule."""

    def __init__(self) -> None:
        self._table = BanTable(HELD_ROWS)
        self.ends = self._table.ends

    def __len__(self) -> int:
        return len(self._table)

    def hold(self, finding: Finding, target: str, seconds: float | None, why: str) -> Decision | None:
        """The decision that bans nobody, and says why; None where the same was held back a moment ago."""
        key = f"{finding.subject}~{finding.rule}"
        end_ts = None if seconds is None else finding.ts + seconds
        last = self.ends.get(key, -math.inf)
        if last is None or last > finding.ts:
            return None
        self._table.put(key, end_ts, finding.ts)
        return Decision(
            id=f"held~{finding.subject}~{finding.id}",
            action="ban",
            subject=finding.subject,
            start_ts=finding.ts,
            end_ts=end_ts,
            rule=finding.rule,
            finding=finding.id,
            held=why,
            services=parts_of(target)[1],
        )

    def expire(self, now_ts: float) -> None:
        """Forget what would have ended."""
        self._table.expire(now_ts)

    def load(self, ends: Mapping[str, float | None]) -> None:
        """Take up what an earlier one held back."""
        for key, end_ts in ends.items():
            self._table.put(key, end_ts, -math.inf)
