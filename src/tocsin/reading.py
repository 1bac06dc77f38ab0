"""Which format reads which source: the one that configuration or discovery names, else the one that fits its lines."""

from __future__ import annotations

from collections.abc import Callable
from datetime import tzinfo
from fnmatch import fnmatch

from msgspec import Struct

from tocsin.formats import Anchor, Format, Proxies, by_name, sniff
from tocsin.model import Batch, Evidence, HttpRequest
from tocsin.packed import spelt_out

SNIFF_LINES = 200
COMMONEST = "combined"
SURE_SHARE = 0.5  # of the lines tried that must fit; below that it is no format we know
LOOKED_AT_BYTES = 1 << 17  # an unknown log is looked at with each block so far, then whenever it has doubled


class Reading(Struct):
    """One source's format, how sure we are, and how the format came to be known."""

    format: Format | None
    share: float
    how: str


class Readings:
    """The formats of all sources, found at each source's first lines and kept."""

    def __init__(
        self,
        named: list[tuple[str, str]],
        proxies: Proxies,
        zone: tzinfo,
        on_new: Callable[[str, Reading], None] = lambda _source, _reading: None,
    ) -> None:
        """`named`: (path or glob, format spec) in order of precedence; an empty spec is sniffed.

        `ignored` may be filled with sources that a glob matches although they are another kind of log.
        """
        self.named = named
        self.proxies = proxies
        self.zone = zone
        self.on_new = on_new
        self.ignored: set[str] = set()
        self.known: dict[str, Reading] = {}
        self._by_spec: dict[str, Format] = {}
        self._unknown: dict[str, tuple[int, int]] = {}  # bytes seen, and when to look again

    def of(self, batch: Batch, now_ts: float, size: int | None = None) -> tuple[Format | None, Anchor]:
        """The format for a batch (None: unknown so far) and the anchor for its lines. `size`: of how many bytes it is
        what is left."""
        anchor = Anchor(now_ts, self.zone)
        reading = self.known.get(batch.source)
        size = len(batch.data) if size is None else size
        if reading is None or (reading.format is None and self._is_due(batch.source, size)):
            reading = self._find(batch, anchor)
            if batch.source not in self.known or reading.format is not None:
                self.on_new(batch.source, reading)
            self.known[batch.source] = reading
        return reading.format, anchor

    def _is_due(self, source: str, size: int) -> bool:
        """Whether to look at an unknown log again. Trying all formats on each block of a long one costs more than all
        that is done with it."""
        seen, due = self._unknown.get(source, (0, 0))
        seen += size
        looks = seen >= due
        self._unknown[source] = (seen, 2 * seen if looks and seen > LOOKED_AT_BYTES else due)
        return looks

    def expected(self, source: str, lines: bytes, now_ts: float) -> Format:
        """The format of a source's next lines: as named, or told by these of its lines, else the commonest."""
        fmt = self.of(Batch(source, lines), now_ts)[0] if lines or self._spec_of(source) else None
        return fmt or self._make(COMMONEST)

    def of_line(self, source: str, line: bytes, now_ts: float) -> tuple[Format | None, Anchor]:
        """The same for a single line of a source."""
        return self.of(Batch(source, line + b"\n"), now_ts)

    def request_of(self, evidence: Evidence, now_ts: float) -> HttpRequest | None:
        """A line of evidence as the request that it was; None where it is none, or was cut."""
        reading = self.known.get(evidence.source)
        if reading is None:  # evidence has paths spelt out
            reading = next((each for source, each in self.known.items() if spelt_out(source) == evidence.source), None)
        if reading is None or reading.format is None:
            return None
        event = reading.format.parse(evidence.text.encode(), Anchor(now_ts, self.zone))
        return event if isinstance(event, HttpRequest) else None

    def _find(self, batch: Batch, anchor: Anchor) -> Reading:
        spec = self._spec_of(batch.source)
        how = "from its lines"
        if spec:
            try:
                return Reading(self._make(spec), 1.0, "as configured")
            except ValueError as error:  # a format that we cannot read does not keep us from trying
                how = f"from its lines, for its configured format cannot be read: {error}"
        lines = batch.data[: 1 << 16].split(b"\n", SNIFF_LINES)[:SNIFF_LINES]
        guesses = sniff([line for line in lines if line], anchor, self.proxies)
        if not guesses or guesses[0].share < SURE_SHARE:
            return Reading(None, guesses[0].share if guesses else 0.0, "no known format fits")
        best = guesses[0]
        return Reading(self._by_spec.setdefault(best.format.name, best.format), best.share, how)

    def _spec_of(self, source: str) -> str:
        return next((spec for pattern, spec in self.named if pattern == source or fnmatch(source, pattern)), "")

    def _make(self, spec: str) -> Format:
        if spec not in self._by_spec:
            self._by_spec[spec] = by_name(spec, self.proxies)
        return self._by_spec[spec]
