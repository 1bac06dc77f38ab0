"""How long a ban is for who comes back: `bantime.increment` and its formulas.

What is computed follows fail2ban: without earlier bans, for a ban for good, or without `increment`, the ban stays as
it is. Else multipliers (the last one for all later bans) or the formula, which never makes a ban shorter; then
`maxtime`, then up to `rndtime` more. A result of -1 is a ban for good there and here. What fail2ban leaves undefined
is settled: nothing is shorter than a second, what is longer than `LONGEST_S` is for good, and where a formula fails on
certain numbers the ban keeps its length, as there.

`random.*` and `bantime.rndtime` draw from the seed that is handed in (the finding's id), so the same lines give the
same bans in every run, and who does not know the seed cannot foresee them.
"""

from __future__ import annotations

import math
from functools import lru_cache

from tocsin.fail2ban.expression import Draws, FormulaError, Number, Terms, read
from tocsin.fail2ban.model import Increment

__all__ = ["FormulaError", "Growth", "ban_s"]

FOR_GOOD = -1
LONGEST_S = 100 * 31_557_600.0
MULTIPLIERS_MAX = 1000
COUNTS_TRIED = 25  # numbers of earlier bans with which a formula is tried before it is needed
DEFAULT = "ban.Time * 2 ** min(ban.Count, 20) * banFactor"


class Growth:
    """One jail's `bantime.*`, read once. FormulaError where formula or factor cannot be read."""

    def __init__(self, increment: Increment) -> None:
        if len(increment.multipliers) > MULTIPLIERS_MAX:
            raise FormulaError("bantime.multipliers", None, f"more than {MULTIPLIERS_MAX:,} multipliers")
        self.increment = increment
        self._multipliers = tuple(_whole(number) for number in increment.multipliers)
        self._formula = read(increment.formula.strip() or DEFAULT)
        self._factor = read(increment.factor.strip() or "1", of_ban=False)(Terms(0, 0, 1, Draws("")))

    def ban_s(self, base_s: float | None, earlier_bans: int, seed: str) -> float | None:
        """How long a ban is whose jail says `base_s` (None: for good, in the result too). `seed` is what random
        numbers come from. Where the formula fails on these numbers, `base_s`.
        """
        try:
            return self._computed_s(base_s, earlier_bans, seed)
        except FormulaError:
            return base_s

    def trouble(self, base_s: float | None) -> tuple[str, ...]:
        """What would go wrong with one of the first 25 bans of somebody: the mistake, and at which ban."""
        found: dict[str, int] = {}
        for count in range(1, COUNTS_TRIED + 1):
            try:
                self._computed_s(base_s, count, "")
            except FormulaError as error:
                found.setdefault(str(error), count)
        return tuple(f"{text} with ban.Count {count}: such a ban keeps bantime" for text, count in found.items())

    def _computed_s(self, base_s: float | None, earlier_bans: int, seed: str) -> float | None:
        increment = self.increment
        if base_s is None or base_s <= 0 or earlier_bans <= 0 or not increment.enabled:
            return base_s
        draws = Draws(seed)
        time = _whole(base_s)
        if self._multipliers:
            multiplier = self._multipliers[min(earlier_bans, len(self._multipliers) - 1)]
            seconds = float(time) * self._factor * multiplier
        else:
            seconds = float(max(time, self._formula(Terms(time, earlier_bans, self._factor, draws))))
        if increment.maxtime_s is not None:
            seconds = min(seconds, increment.maxtime_s)
        if seconds == FOR_GOOD:
            return None
        if increment.rndtime_s:
            seconds += draws.next() * increment.rndtime_s
        if math.isnan(seconds):
            raise FormulaError(increment.formula, None, "the result is no number")
        return None if seconds > LONGEST_S else max(1.0, seconds)


def ban_s(increment: Increment, base_s: float | None, earlier_bans: int, seed: str) -> float | None:
    """How long a ban is, in seconds (None: for good). See `Growth`; FormulaError where a formula cannot be read."""
    return _growth(increment).ban_s(base_s, earlier_bans, seed)


@lru_cache(maxsize=512)
def _growth(increment: Increment) -> Growth:
    return Growth(increment)


def _whole(number: float) -> Number:
    """The number as fail2ban's configuration has it: `<<` works on whole ones alone."""
    return int(number) if float(number).is_integer() else number
