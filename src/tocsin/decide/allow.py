"""Who is never banned: configured addresses and prefixes, and what this machine cannot do without.

Entries come in kinds (`configured`, `own`, `gateway`, `resolver`, `login`); each kind is replaced as a whole when what
it describes has changed. A subject that overlaps an entry in either direction is safe: an address in an allowed
prefix, and a prefix that holds an allowed address.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable

from tocsin.decide.subjects import bounds

CACHED_SUBJECTS = 1 << 15

# A ban of these stops nobody and cuts the machine off from itself, its neighbours or its router (which IPv6 reaches
# through fe80::/10).
BUILT_IN = (
    ("0.0.0.0/8", "no address of a client"),
    ("127.0.0.0/8", "this machine itself"),
    ("169.254.0.0/16", "link-local"),
    ("224.0.0.0/4", "multicast"),
    ("255.255.255.255", "broadcast"),
    ("::/96", "this machine itself"),
    ("fe80::/10", "link-local: the router is reached through it"),
    ("ff00::/8", "multicast"),
)


class AllowError(ValueError):
    """Entries that are no addresses; the text names all of them."""


class AllowList:
    """Who is safe, and why. `configured` holds pairs of an address or a prefix and the reason to show."""

    def __init__(self, configured: Iterable[tuple[str, str]] = ()) -> None:
        self._kinds: dict[str, tuple[tuple[str, str], ...]] = {"built-in": BUILT_IN}
        self._lows: dict[int, list[int]] = {}
        self._spans: dict[int, list[tuple[int, str]]] = {}
        self._cache: dict[str, str | None] = {}
        self._compile()
        self.replace("configured", configured)

    def replace(self, kind: str, entries: Iterable[tuple[str, str]]) -> bool:
        """Put these (text, reason) pairs in place of all that `kind` held; says whether anything changed.

        AllowError names every text that is no address; then nothing has changed.
        """
        wanted = tuple(entries)
        if self._kinds.get(kind, ()) == wanted:
            return False
        errors = []
        for text, _ in wanted:
            try:
                bounds(text)
            except ValueError as error:
                errors.append(str(error))
        if errors:
            raise AllowError(f"allow list ({kind}): {'; '.join(errors)}")
        self._kinds[kind] = wanted
        self._compile()
        return True

    def entries(self) -> list[tuple[str, str, str]]:
        """All entries as (kind, text, reason), for showing and for the enforcer's own copy."""
        return [(kind, text, reason) for kind, pairs in self._kinds.items() for text, reason in pairs]

    def reason(self, subject: str) -> str | None:
        """Why the subject is safe, None where it is not. ValueError where it is no address."""
        known = self._cache.get(subject, subject)
        if known is not subject:
            return known
        if len(self._cache) >= CACHED_SUBJECTS:
            self._cache.clear()
        found = self._cache[subject] = self._look_up(subject)
        return found

    def _look_up(self, subject: str) -> str | None:
        version, low, high = bounds(subject)
        lows = self._lows[version]
        at = bisect_right(lows, high) - 1  # the last span that begins within or before the subject
        if at >= 0:
            span_high, reason = self._spans[version][at]
            if span_high >= low:
                return reason
        return None

    def _compile(self) -> None:
        """Sort the entries into spans that do not overlap: of nested prefixes only the widest is needed."""
        rows: dict[int, list[tuple[int, int, str]]] = {4: [], 6: []}
        for pairs in self._kinds.values():
            for text, reason in pairs:
                version, low, high = bounds(text)
                rows[version].append((low, high, f"{text}: {reason}" if reason else text))
        for version, spans in rows.items():
            self._lows[version], self._spans[version] = [], []
            last_high = -1
            for low, high, reason in sorted(spans, key=lambda span: (span[0], -span[1])):
                if high > last_high:
                    self._lows[version].append(low)
                    self._spans[version].append((high, reason))
                    last_high = high
        self._cache.clear()
