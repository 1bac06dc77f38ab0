"""How often single rules have banned a subject: for rules whose bans grow by their own past alone.

What all rules together have done is `Bans`' to remember; a fail2ban jail with `bantime.increment` looks at its own bans
only, unless `bantime.overalljails` says otherwise. Bounded: beyond `most` rows the one that was touched longest ago
goes; what others have counted takes only the room that is left.
"""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tocsin.decide.history import COUNT_MAX
from tocsin.model import parts_of

PASTS_MAX = 50_000

Row = tuple[str, str, int, float]
"""Rule or jail, target, number of bans, end of the last one (infinity: never)."""


class _Past(Struct, frozen=True, array_like=True):
    """How many bans, when the last one ends or ended, how many of them others have counted, and what it closes."""

    count: int = 0
    end_ts: float = 0.0
    foreign: int = 0
    services: str = ""


class Pasts:
    """`rules` are those whose bans are counted alone; of others nothing is kept. Who counts elsewhere names jails:
    the rule of one is called as it is, or `jail-NAME`.
    """

    def __init__(self, memory_s: float, most: int = PASTS_MAX) -> None:
        self._memory_s = memory_s
        self._most = most
        self._known: dict[tuple[str, str], _Past] = {}
        self.rules: frozenset[str] = frozenset()

    def earlier(self, rule: str, subject: str, ts: float) -> int | None:
        """How many bans by the rule before one at `ts` still count; None where its bans are not counted alone."""
        if rule not in self.rules:
            return None
        past = self._of(rule, subject)
        if ts > past.end_ts + self._memory_s:
            return 0
        return max(past.count - (ts < past.end_ts), 0)  # one in force is prolonged, which makes no further one of it

    def begun(self, rule: str, target: str, start_ts: float, end_ts: float) -> None:
        """A rule has banned a target."""
        subject, services = parts_of(target)
        earlier = self.earlier(rule, subject, start_ts)
        if earlier is not None:
            foreign = min(earlier, self._of(rule, subject).foreign)
            self._put(rule, subject, _Past(earlier + 1, end_ts, foreign, services))

    def ended(self, target: str, end_ts: float, now_ts: float) -> None:
        """A target's ban that was to last until `end_ts` was lifted: it counts no more. Of several that could be meant
        it is the last one, which has taken the others' place.
        """
        subject, services = parts_of(target)
        meant = [
            rule
            for rule in self.rules
            if (past := self._of(rule, subject)).count and (past.end_ts, past.services) == (end_ts, services)
        ]
        if not meant or now_ts >= end_ts:
            return
        latest = (rule for rule, who in reversed(self._known) if who == subject and rule in meant)
        rule = next(latest) if len(meant) > 1 else meant[0]
        past = self._of(rule, subject)
        self._put(rule, subject, replace(past, count=past.count - 1, end_ts=now_ts))

    def learn(self, jail: str, target: str, bans: int, end_ts: float) -> int:
        """Take in how many bans by a jail somebody else knows of, where that is more and there is room for it; how many
        more there are now. Of a jail that is not counted alone: all, should it be so later (`suppose`).
        """
        rule, (subject, services) = self._rule_of(jail), parts_of(target)
        if not rule:
            return bans
        past = self._of(rule, subject)
        if bans <= past.count or ((rule, subject) not in self._known and len(self._known) >= self._most):
            return 0
        if end_ts < past.end_ts:
            end_ts, services = past.end_ts, past.services
        self._put(rule, subject, _Past(bans, end_ts, past.foreign + bans - past.count, services))
        return bans - past.count

    def unlearn(self, jail: str, subject: str, bans: int, *, lifted: bool) -> None:
        """Count so many fewer, of those that others have counted. `lifted`: the end of a ban has taken one of them."""
        rule = self._rule_of(jail)
        if (rule, subject) in self._known:
            past = self._known[rule, subject]
            gone = min(bans, past.foreign)
            left = replace(past, count=past.count - max(gone - lifted, 0), foreign=past.foreign - gone)
            self._put(rule, subject, left)

    def suppose(self, rows: Iterable[Row]) -> None:
        """Take in what is known from elsewhere, the latest first, where nothing is known of a rule and a subject, and
        as long as there is room.
        """
        fresh: dict[tuple[str, str], _Past] = {}
        for jail, target, count, end_ts in rows if self.rules else ():
            if len(fresh) + len(self._known) >= self._most:
                break
            rule, (subject, services) = self._rule_of(jail), parts_of(target)
            if rule and (rule, subject) not in self._known:
                fresh.setdefault((rule, subject), _Past(min(count, COUNT_MAX), end_ts, count, services))
        self._known = {**fresh, **self._known}

    def _rule_of(self, jail: str) -> str:
        """The rule of a jail; empty where its bans are not counted alone."""
        return next((rule for rule in (f"jail-{jail}", jail) if rule in self.rules), "")

    def _of(self, rule: str, subject: str) -> _Past:
        return self._known.get((rule, subject), _Past())

    def _put(self, rule: str, subject: str, past: _Past) -> None:
        self._known.pop((rule, subject), None)
        self._known[rule, subject] = replace(past, count=min(max(past.count, 0), COUNT_MAX))
        if len(self._known) > self._most:
            del self._known[next(iter(self._known))]

    def dump(self) -> bytes:
        """All that is known."""
        return msgspec.msgpack.encode([(*who, past) for who, past in self._known.items()])

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.MsgspecError where it is none."""
        rows = msgspec.msgpack.decode(state, type=list[tuple[str, str, _Past]])
        self._known = {(rule, subject): past for rule, subject, past in rows}
