"""Changes that fail again and again: each is tried ever more rarely, and said once an hour."""

from __future__ import annotations

from msgspec import Struct

RETRY_S = 1.0
LONGEST_S = 600.0
SAY_AGAIN_S = 3600.0
KEPT = 10_000  # beyond, what fails anew counts as one


class _Failure(Struct):
    said_s: float
    pause_s: float
    due_s: float


class Failing:
    """What fails at present, by a name for it. Times are monotonic, in seconds."""

    def __init__(self) -> None:
        self._known: dict[str, _Failure] = {}

    def __bool__(self) -> bool:
        return bool(self._known)

    def failed(self, what: str, now_s: float) -> tuple[bool, float]:
        """Whether that is to be said, and in how many seconds to try again: 1, then twice as many each time, to 600."""
        name = what if what in self._known or len(self._known) < KEPT else ""
        known = self._known.get(name)
        if known is None:
            self._known[name] = _Failure(now_s, RETRY_S, now_s + RETRY_S)
            return True, RETRY_S
        if now_s >= known.due_s:  # tried earlier for another's sake, it is not yet a try of its own
            known.pause_s = min(2 * known.pause_s, LONGEST_S)
            known.due_s = now_s + known.pause_s
        say = now_s >= known.said_s + SAY_AGAIN_S
        known.said_s = now_s if say else known.said_s
        return say, known.due_s - now_s

    def succeeded(self, what: str) -> None:
        """It has not failed this time."""
        self._known.pop(what, None)

    def clear(self) -> None:
        """Nothing fails any more."""
        self._known.clear()
