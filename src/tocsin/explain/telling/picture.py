"""Timeline -> SVG: what the machine had to carry, class upon class, against what it could, and when what fell.

The classes are stacked with the suspects on top, so that the red above the grey is what came in addition; a dashed line
is the capacity, a shaded span the outage, and each symptom stands as a numbered mark below. No script, no style in
attributes: colours come from the page's classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape
from typing import NamedTuple

from msgspec import structs

from tocsin.explain.model import Incident, Mark, Series, Timeline, say
from tocsin.explain.telling.words import Language

MOST_STEPS = 400
MOST_MARKS = 14
OTHERS = 5  # classes with a colour of their own; the rest are one
CAPACITY_IN_VIEW = 3.0  # a capacity further above the load than this is told, not drawn: it would flatten the picture
_LEFT, _RIGHT, _TOP, _BOTTOM = 52, 22, 18, 62
_MOST_TICKS = 40
_TOO_MUCH = 1e12
_TICKS_S = (1, 5, 10, 30, 60, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400, 172800, 604800, 2592000)


class Numbered(NamedTuple):
    """A mark with its number; `more`: how many of the same kind follow closely."""

    number: int
    mark: Mark
    more: int


class Layer(NamedTuple):
    """One band of the stack: its colour's class, its name, its values by step."""

    style: str
    name: str
    values: tuple[float, ...]


def numbered(timeline: Timeline) -> list[Numbered]:
    """The marks in order of time; those of one kind within a fiftieth of the picture are one."""
    near_s = timeline.step_s * max((len(each.values) for each in timeline.series), default=1) / 50
    merged: list[tuple[Mark, int]] = []
    last: dict[str, int] = {}
    for mark in sorted(timeline.marks, key=lambda mark: mark.ts):
        at = last.get(mark.kind)
        if at is not None and mark.ts - merged[at][0].ts <= near_s:
            merged[at] = merged[at][0], merged[at][1] + 1
        else:
            last[mark.kind] = len(merged)
            merged.append((mark, 0))
    return [Numbered(number, mark, more) for number, (mark, more) in enumerate(merged[:MOST_MARKS], 1)]


def layers(timeline: Timeline, language: Language) -> list[Layer]:
    """The stack from the ground up: the rest, the innocent (largest lowest), the suspects on top."""
    series = [structs.replace(each, values=_drawable(each.values)) for each in timeline.series]
    innocent = sorted((each for each in series if not each.suspect), key=_sum, reverse=True)
    suspects = sorted((each for each in series if each.suspect), key=_sum)
    stack = []
    if len(innocent) > OTHERS:
        rest = _together([each.values for each in innocent[OTHERS - 1 :]])
        innocent = innocent[: OTHERS - 1]
        stack.append(Layer("rest", language.tell(say("everything else")), rest))
    stack += [Layer(f"n{i}", language.tell(each.name), each.values) for i, each in enumerate(innocent)]
    stack += [
        Layer(f"sus{min(2, len(suspects) - 1 - i)}", language.tell(each.name), each.values)
        for i, each in enumerate(suspects)
    ]
    return stack


def picture(incident: Incident, timeline: Timeline, language: Language, width: int, height: int) -> str:
    """The SVG element, `width` x `height` units; empty where there is nothing to draw."""
    return "".join(Picture(incident, timeline, language, width, height).parts())


class Picture:
    """Draws one timeline."""

    def __init__(self, incident: Incident, timeline: Timeline, language: Language, width: int, height: int) -> None:
        self.incident = incident
        self.timeline = timeline
        self.language = language
        self.width, self.height = width, height
        self.right, self.floor = width - _RIGHT, height - _BOTTOM
        self.layers, self.step_s = _thinned(layers(timeline, language), timeline.step_s)
        self.steps = max((len(each.values) for each in self.layers), default=0)
        self.start, self.end = timeline.start, timeline.start + max(1, self.steps) * self.step_s
        tallest = max(_together([each.values for each in self.layers]), default=0.0)
        capacity = timeline.capacity
        self.capacity = capacity if capacity and 0 < capacity <= CAPACITY_IN_VIEW * max(tallest, 1.0) else None
        self.grid = _nice(max(tallest, (self.capacity or 0.0) * 1.06, 1e-9), 5 if height > 240 else 4)
        self.top = max(max(tallest, self.capacity or 0.0) * 1.08, self.grid)

    def parts(self) -> Iterator[str]:
        """The element, piece by piece."""
        if not self.steps or not all(map(math.isfinite, (self.start, self.end, self.top))):
            return
        label = escape(self.language.tell(say("Load by class of requests, and what fell when")))
        yield f'<svg viewBox="0 0 {self.width} {self.height}" role="img" aria-label="{label}">'
        yield from self._outage()
        yield from self._grid()
        yield from self._stack()
        yield from self._capacity()
        yield from self._onset()
        yield from self._marks()
        yield from self._culprit()
        yield "</svg>"

    def x(self, ts: float) -> float:
        """Where a moment stands, within the picture."""
        inside = min(1.0, max(0.0, (ts - self.start) / (self.end - self.start)))
        return round(_LEFT + inside * (self.right - _LEFT), 1)

    def y(self, value: float) -> float:
        """Where an amount stands."""
        return round(self.floor - value / self.top * (self.floor - _TOP), 1)

    def _outage(self) -> Iterator[str]:
        left, right = self.x(self.incident.start), self.x(self.incident.end)
        yield (
            f'<rect class="outage" x="{left}" y="{_TOP}" width="{max(2.0, round(right - left, 1))}" '
            f'height="{self.floor - _TOP}"/>'
        )

    def _grid(self) -> Iterator[str]:
        for line in range(int(self.top / self.grid) + 1):
            value = line * self.grid
            y = self.y(value)
            yield f'<line class="grid" x1="{_LEFT}" x2="{self.right}" y1="{y}" y2="{y}"/>'
            shown = self.language.number(round(value, 6))
            yield f'<text class="tick" x="{_LEFT - 6}" y="{y + 4}" text-anchor="end">{escape(shown)}</text>'
        wanted_s = (self.end - self.start) / (self.width / 105)
        tick_s = next((each for each in _TICKS_S if each >= wanted_s), wanted_s)
        moment = self.language.moment(self.start)
        offset_s = (moment.utcoffset() or moment - moment).total_seconds() if moment else 0.0
        first = math.ceil((self.start + offset_s) / tick_s) * tick_s - offset_s
        for ts in (first + tick * tick_s for tick in range(_MOST_TICKS)):
            if ts > self.end:
                return
            yield f'<line class="grid" x1="{self.x(ts)}" x2="{self.x(ts)}" y1="{self.floor}" y2="{self.floor + 5}"/>'
            at = self._tick(ts, tick_s)
            side = "end" if self.x(ts) > self.right - 10 else "middle"
            yield f'<text class="tick" x="{self.x(ts)}" y="{self.floor + 18}" text-anchor="{side}">{escape(at)}</text>'

    def _tick(self, ts: float, tick_s: float) -> str:
        if tick_s >= 86400:
            at = self.language.moment(ts)
            return f"{at:%d/%m}" if at and self.language.code == "fr" else f"{at:%m-%d}" if at else ""
        return self.language.clock(ts, seconds=tick_s < 60)

    def _stack(self) -> Iterator[str]:
        below = [0.0] * self.steps
        for layer in self.layers:
            above = [low + value for low, value in zip(below, _padded(layer.values, self.steps), strict=True)]
            name = f"<title>{escape(layer.name)}</title>"
            yield f'<path class="{layer.style}" d="{self._band(below, above)}">{name}</path>'
            below = above

    def _band(self, below: Sequence[float], above: Sequence[float]) -> str:
        """The outline of a band as steps: each value holds for its whole step."""
        there, back = [], []
        for i in range(self.steps):
            left, right = self.x(self.start + i * self.step_s), self.x(self.start + (i + 1) * self.step_s)
            there.append(f"{left} {self.y(above[i])} {right} {self.y(above[i])}")
            back.append(f"{right} {self.y(below[i])} {left} {self.y(below[i])}")
        return f"M{' '.join(there)} {' '.join(reversed(back))}Z"

    def _capacity(self) -> Iterator[str]:
        if self.capacity is None:
            return
        y = self.y(self.capacity)
        said = self.language.tell(say("capacity: {capacity}", capacity=self.capacity))
        yield f'<line class="capacity" x1="{_LEFT}" x2="{self.right}" y1="{y}" y2="{y}"/>'
        yield f'<text class="captext" x="{_LEFT + 6}" y="{y - 5}">{escape(said)}</text>'

    def _onset(self) -> Iterator[str]:
        if not self.start <= self.incident.onset < self.incident.start:
            return
        x = self.x(self.incident.onset)
        begins = self.language.tell(say("it begins")) + self.language.sign(":")
        said = f"{begins} {self.language.clock(self.incident.onset, seconds=self.step_s < 60)}"
        yield f'<line class="onset" x1="{x}" x2="{x}" y1="{_TOP - 6}" y2="{self.floor}"/>'
        side, shift = ("end", -5) if x > _LEFT + 120 else ("start", 5)
        yield f'<text class="onsettext" x="{x + shift}" y="{_TOP + 6}" text-anchor="{side}">{escape(said)}</text>'

    def _culprit(self) -> Iterator[str]:
        """The first suspect's name beside its band, on the side that has more room."""
        culprit = self.layers[-1]
        values = _padded(culprit.values, self.steps)
        peak = max(values)
        if not culprit.style.startswith("sus") or peak <= 0:
            return
        high = [i for i, value in enumerate(values) if value >= peak / 2]
        below = max(math.fsum(each.values[i] for each in self.layers[:-1] if i < len(each.values)) for i in high)
        before, after = self.x(self.start + high[0] * self.step_s), self.x(self.start + (high[-1] + 1) * self.step_s)
        side, x = ("start", after + 8) if self.right - after >= before - _LEFT else ("end", before - 8)
        room = int((self.right - after if side == "start" else before - _LEFT) / 9)
        name = escape(_cut(culprit.name, max(8, room)))
        y = self.y(min(below + peak / 2, 0.92 * self.top))
        yield f'<text class="culprit" x="{x}" y="{y}" text-anchor="{side}">{name}</text>'

    def _marks(self) -> Iterator[str]:
        free: list[float] = [-99.0, -99.0]  # how far each of the two rows of marks is taken
        for number, mark, _ in numbered(self.timeline):
            x = self.x(mark.ts)
            row = 0 if x - free[0] >= 19 else 1
            at = max(x, free[row] + 19)
            free[row] = at
            y = self.floor + 31 + 19 * row
            told = f"{self.language.clock(mark.ts, seconds=True)} {self.language.tell(mark.text)}"
            yield f'<g class="mark"><title>{escape(told)}</title>'
            yield f'<line class="markline" x1="{x}" x2="{x}" y1="{_TOP}" y2="{self.floor + 20}"/>'
            yield f'<circle class="dot" cx="{round(at, 1)}" cy="{y}" r="9"/>'
            yield f'<text class="dottext" x="{round(at, 1)}" y="{y + 4}" text-anchor="middle">{number}</text></g>'


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"


def _sum(series: Series) -> float:
    return math.fsum(series.values)


def _drawable(values: Sequence[float]) -> tuple[float, ...]:
    """Nothing where there is no amount that could be one."""
    return tuple(value if 0 <= value < _TOO_MUCH else 0.0 for value in values)


def _together(columns: Sequence[Sequence[float]]) -> tuple[float, ...]:
    steps = max(map(len, columns), default=0)
    return tuple(math.fsum(each[i] for each in columns if i < len(each)) for i in range(steps))


def _padded(values: Sequence[float], steps: int) -> list[float]:
    return [*values, *[0.0] * (steps - len(values))]


def _thinned(stack: list[Layer], step_s: float) -> tuple[list[Layer], float]:
    """At most MOST_STEPS steps: of several that become one, the fullest stands for them, so that peaks stay."""
    steps = max((len(each.values) for each in stack), default=0)
    each_of = -(-steps // MOST_STEPS) if steps else 1
    if each_of == 1:
        return stack, step_s
    total = _together([layer.values for layer in stack])
    fullest = [max(range(i, min(i + each_of, steps)), key=total.__getitem__) for i in range(0, steps, each_of)]
    thin = [layer._replace(values=tuple(_padded(layer.values, steps)[i] for i in fullest)) for layer in stack]
    return thin, step_s * each_of


def _nice(tallest: float, lines: int) -> float:
    """A round distance between grid lines, about so many of them."""
    raw = tallest / lines
    power = 10.0 ** math.floor(math.log10(raw))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= raw)
