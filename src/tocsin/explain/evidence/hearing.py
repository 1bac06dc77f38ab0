"""Reads one log that is no access log, from its first line to its last: what it told, and when it spoke. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from msgspec import Struct
from msgspec.structs import replace

from tocsin.explain.evidence.clocks import Lateness, Voice, uptime_of
from tocsin.explain.evidence.gaps import Minute
from tocsin.explain.model import Said, say
from tocsin.formats import Anchor
from tocsin.formats.told import Teller, Told
from tocsin.model import AuthAttempt
from tocsin.server_events import AppError, Banned, ClockTie, Sample

_MOST = (10_000, 7_000, 3_000)
"""Facts of each weight (see `_weight`) that are kept; from half of them on, what is of a kind is told once a minute."""

_KERNEL = " kernel: ["
_MOST_MINUTES = 1_000_000
_YEARS_S = 3 * 365.25 * 86400
_YEAR_S = 363 * 86400.0  # less the days that the future may begin early


class Heard(Struct):
    """What a log told (see `clocks.Voice`), and the minutes in which it spoke, by its own clock."""

    voice: Voice
    minutes: dict[int, tuple[float, float]]
    lines: int = 0
    left_out: int = 0


class Hearing:
    """One log and its teller."""

    def __init__(self, source: str, teller: Teller, anchor: Anchor) -> None:
        self.teller = teller
        self.heard = Heard(Voice(source, [], Lateness(), {}), {})
        self._anchor = anchor
        self._places: dict[object, int] = {}
        self._kept = [0] * len(_MOST)

    def take(self, text: str, first: int) -> None:
        """Whole lines, and the number of the first of them."""
        lines = text.replace("\r\n", "\n").split("\n")
        lines.pop()
        teller, anchor, tell, late = self.teller, self._anchor, self.teller.tell, self.heard.voice.lateness
        kernel = _KERNEL in text
        known_ts: float | None = None
        for number, line in enumerate(lines, first):
            told = tell(line, number, anchor)
            if told:
                self._keep(told)
            ts = teller.ts
            if ts is not None and ts != known_ts:
                known_ts = ts
                self._speak(ts)
            if kernel and _KERNEL in line and ts is not None:
                uptime_s = uptime_of(line)
                if uptime_s is not None:
                    late.add(ts, uptime_s)
        self.heard.lines += len(lines)

    def finish(self) -> Heard:
        """The log has ended."""
        self._keep(self.teller.finish())
        return self.heard

    def notes(self) -> list[Said]:
        """What was left out."""
        if not self.heard.left_out:
            return []
        text = "It tells of more than can be kept; {left} things of kinds that it told of before were left out."
        return [say(text, left=self.heard.left_out)]

    def _speak(self, ts: float) -> None:
        minutes = self.heard.minutes
        number = int(ts // 60)
        span = minutes.get(number)
        if span is not None:
            if ts > span[1]:  # most often; builtins cost as much as all the rest
                minutes[number] = (span[0], ts)
            elif ts < span[0]:
                minutes[number] = (ts, span[1])
        elif len(minutes) < _MOST_MINUTES:
            minutes[number] = (ts, ts)

    def _keep(self, told: Sequence[Told]) -> None:
        """Each thing once a second; of what comes in masses, once a minute."""
        voice = self.heard.voice
        for one in told:
            weight = _weight(one)
            key = _key(one) if 2 * self._kept[weight] < _MOST[weight] else _rough_key(one)
            place = self._places.get(key) if key is not None else None
            if place is not None:
                voice.counts[place] = voice.counts.get(place, 1) + 1
            elif self._kept[weight] >= _MOST[weight]:
                self.heard.left_out += 1
            else:
                if key is not None:
                    self._places[key] = len(voice.told)
                self._kept[weight] += 1
                voice.told.append(one)


def _weight(told: Told) -> int:
    """0: what is always worth telling; 1: logins, bans, complaints; 2: complaints that mean nothing to visitors."""
    event = told.event
    if isinstance(event, AppError):
        return 1 if event.symptom else 2
    return 1 if isinstance(event, AuthAttempt | Banned) else 0


def _key(told: Told) -> object:
    """What must be alike for things to be one; None where each stands for itself."""
    event = told.event
    if isinstance(event, Sample | ClockTie):
        return None
    alike = {"text": ""} if isinstance(event, AppError) else {}
    return told.clock, replace(event, ts=event.ts // 1, **alike)


def _rough_key(told: Told) -> object:
    """The same of things in masses: their kind and minute."""
    event = told.event
    kind = [
        getattr(event, name, None) for name in ("service", "kind", "state", "limit", "error", "code", "outcome", "by")
    ]
    return told.clock, type(event), event.ts // 60, *kind


def minutes_of(heard: Heard) -> list[Minute]:
    """The minutes in which it spoke, ascending."""
    return [Minute(number, *heard.minutes[number]) for number in sorted(heard.minutes)]


def is_settled(heard: Heard, guess_ts: float, now_ts: float) -> bool:
    """Whether a log without years that was heard from one moment would tell the same from another: all that it told is
    before both, and no other year's same day is.
    """
    if guess_ts == now_ts:
        return True
    first = min((first for first, _ in heard.minutes.values()), default=guess_ts)
    last = max((last for _, last in heard.minutes.values()), default=guess_ts)
    return max(guess_ts, now_ts) - _YEAR_S < first and last <= min(guess_ts, now_ts)


def names_year(teller: Teller, lines: Sequence[str], anchor: Anchor) -> bool:
    """Whether the lines say their year themselves: read from another year, they are of the same time.

    `teller` is used up by it.
    """
    seen: list[float | None] = []
    for ago_s in (0.0, _YEARS_S):
        one = type(teller)()
        for number, line in enumerate(lines, 1):
            one.tell(line, number, Anchor(anchor.now_ts - ago_s, anchor.zone))
        seen.append(one.ts)
    return seen[0] == seen[1]
