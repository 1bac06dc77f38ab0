"""The bans: which are in force until when, and who was banned how often before.

A ban may close single services of a host; it is then kept by its target (`model.target_of`), beside others of the same
subject. A ban of everything covers it. Who was banned how often is remembered by subject: bans that are in force at the
same time count once, and a ban that was lifted does not count.

What is in force is bounded: beyond `max_active` bans the ones that end first make room, lifted and counted. A ban's id
follows from what it is, so that 200,000 of them need not be kept.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Literal

from tocsin.decide.bantable import BanTable
from tocsin.decide.history import History
from tocsin.decide.pasts import Pasts
from tocsin.decide.subjects import bounds, canonical
from tocsin.model import Decision, is_host, parts_of, target_of

REMEMBERED_A_STEP = 1000
EXTEND_BY = 0.1  # the part of a new ban by which it must outlast the one in force: no decision for every late line
TAKEN_OVER = "taken over"

Origin = Literal["rule", "operator", "import"]


class Bans:
    """The bans of one policy. `ends` are the targets in force with their ends (None: for good), for reading; those that
    have ended stay in it until `expire`. `lifts` are the ends that nobody has asked for (a ban had to make room, and
    what the policy adds), in their order, until the policy hands them out.

    `pasts` counts those of single rules by themselves. `active` are the bans in force and `starts` when those of them
    began that are for good, both from the ledger.
    """

    def __init__(
        self,
        max_active: int,
        max_history: int,
        memory_s: float,
        active: Mapping[str, float | None],
        starts: Mapping[str, float],
    ) -> None:
        self.lifts: list[Decision] = []
        self.pasts = Pasts(memory_s)
        self._memory_s = memory_s
        self._active = BanTable(max_active)
        self._history = History(max_history)
        self._starts = dict(starts)  # of the bans for good, whose ids need it
        self._left_out: list[str] = []  # fewer fit than before: whoever is left out can be banned again
        for target, end_ts in active.items():
            self._left_out += (left_out for left_out, _ in self._active.put(target, end_ts, -math.inf))
        self.ends: Mapping[str, float | None] = self._active.ends

    # -- what was ----------------------------------------------------------------------------------------------------

    def remember(self, history: Iterable[tuple[str, int, float]]) -> Iterator[None]:
        """Take in who was banned before, in steps of a few milliseconds: 500,000 rows take seconds. Rows are (target,
        number of bans, last end).
        """
        several: set[str] = set()  # subjects with services: of these there may be more than one row
        for number, (target, count, last_end_ts) in enumerate(history, 1):
            if " " in target:
                several.add(parts_of(target)[0])
            if several:
                self._remember_too(target, count, last_end_ts, several)
            else:
                self._history.put(target, count, last_end_ts)
            if number % REMEMBERED_A_STEP == 0:
                yield
        for target, end_ts in self.ends.items():
            subject = parts_of(target)[0]
            if self._history.get(subject) is None:
                self._history.put(subject, 1, last_ts(end_ts))
        for left_out in self._left_out:
            subject = parts_of(left_out)[0]
            if not self._active.own(subject, -math.inf):
                self._history.put(subject, 0, -math.inf)
        self._left_out = []

    def _remember_too(self, target: str, count: int, last_end_ts: float, several: set[str]) -> None:
        subject = parts_of(target)[0]
        known = self._history.get(subject) if subject in several else None
        if known is not None:
            count, last_end_ts = max(known[0], count), max(known[1], last_end_ts)
        self._history.put(subject, count, last_end_ts)

    def past(self, subject: str) -> tuple[int, float] | None:
        """How many bans of a subject are remembered, and the last end (infinity: never); None: nothing is known."""
        return self._history.get(subject)

    def recollect(self, subject: str, times: int, last_end_ts: float) -> None:
        """Remember a subject's bans as somebody else knows them, in place of what was remembered."""
        self._history.put(subject, times, last_end_ts)

    def earlier(self, subject: str, ts: float) -> tuple[int, bool]:
        """How many bans before one that would begin at `ts` still count; and whether none is in force, but one was at
        `ts`, or was lifted since.
        """
        known, is_banned = self._history.get(subject), bool(self._active.own(subject, ts))
        if known is None:
            return 0, False
        count = known[0] - is_banned if ts <= known[1] + self._memory_s else 0
        return max(count, 0), not is_banned and ts < known[1]

    # -- what is in force --------------------------------------------------------------------------------------------

    def holder(self, target: str, now_ts: float) -> str | None:
        """What is in force that covers all of the target: itself, its subject, a wider prefix; of several, what ends
        last.
        """
        holder = self._active.holder(parts_of(target)[0] if " " in target else target, now_ts)
        if " " not in target or target not in self.ends:
            return holder
        end_ts, other_ts = (last_ts(self.ends[each]) if each else -math.inf for each in (target, holder))
        return target if end_ts > now_ts and end_ts >= other_ts else holder

    def end_of(self, target: str) -> float | None:
        """When the target's own ban ends (infinity: never); None where it has none."""
        end_ts = self.ends.get(target, -math.inf)
        return None if end_ts == -math.inf else last_ts(end_ts)

    def covering(self, subject: str) -> list[str]:
        """All that cover all of a subject, from itself outwards."""
        return list(self._active.holders(subject))

    def touching(self, text: str) -> list[str]:
        """All because of which an address or a prefix cannot get through: its own, those of prefixes that hold it, and,
        where it is a prefix itself, those of everything in it. ValueError where it is neither.
        """
        subject, active = canonical(text), self._active
        found = dict.fromkeys((*active.holders(subject), *active.holders(text.strip()), *active.targets(subject)))
        version, low, high = bounds(subject)
        if low != high and (not subject.endswith("/64") or active.holds_narrower(64)):
            found.update(dict.fromkeys(self._within(version, low, high)))
        return list(found)

    def _within(self, version: int, low: int, high: int) -> list[str]:
        inside = []
        for target in self.ends:
            if (":" in target) == (version == 6):
                _, first, last = bounds(parts_of(target)[0])
                if low <= first and last <= high:
                    inside.append(target)
        return inside

    def counts(self) -> dict[str, int]:
        """Figures for `status`."""
        return {
            "active": len(self._active),
            "evicted": self._active.evicted,
            "remembered": len(self._history),
            "forgotten": self._history.evicted,
        }

    # -- what changes ------------------------------------------------------------------------------------------------

    def begin(
        self,
        target: str,
        start_ts: float,
        end_ts: float | None,
        earlier: int,
        *,
        rule: str = "",
        finding: str | None = None,
        origin: Origin = "rule",
        held: str | None = None,
        note: str = "",
    ) -> Decision:
        """Put a ban in force, in place of the target's own, as one more than `earlier`; the decision that says so."""
        subject, services = parts_of(target)
        last_end_ts = last_ts(end_ts)
        for other in self._active.own(subject, start_ts):
            if other != target:
                last_end_ts = max(last_end_ts, last_ts(self.ends[other]))
        self._history.put(subject, earlier + 1, last_end_ts)
        self.pasts.begun(rule, target, start_ts, last_ts(end_ts))
        self._starts.pop(target, None)
        if end_ts is None:
            self._starts[target] = start_ts
        for gone, gone_end_ts in self._active.put(target, end_ts, start_ts):
            why = f"made room: {self._active.max_rows} bans are in force and this one ended first"
            self.lifts.append(self._ended(gone, gone_end_ts, start_ts, why))
        return Decision(
            id=self._id(target, end_ts),
            action="ban",
            subject=subject,
            start_ts=start_ts,
            end_ts=end_ts,
            rule=rule,
            finding=finding,
            origin=origin,
            held=held,
            note=note,
            services=services,
        )

    def take_over(self, target: str, now_ts: float, end_ts: float | None) -> Decision:
        """Put a ban in force that is not known here, only to the kernel."""
        return self.begin(target, now_ts, end_ts, 0, origin="import", note=TAKEN_OVER)

    def end(self, target: str, now_ts: float, note: str, *, origin: Origin = "rule", rule: str = "") -> Decision:
        """End a target's own ban, and no other; the decision that says so. KeyError where it has none."""
        end_ts = self.ends[target]
        self._active.remove(target)
        return self._ended(target, end_ts, now_ts, note, origin=origin, rule=rule)

    def _ended(
        self, target: str, end_ts: float | None, now_ts: float, note: str, *, origin: Origin = "rule", rule: str = ""
    ) -> Decision:
        lifts = self._id(target, end_ts)
        self._starts.pop(target, None)
        subject, services = parts_of(target)
        self.pasts.ended(target, last_ts(end_ts), now_ts)
        known, left = self._history.get(subject), self._active.own(subject, now_ts)
        if known is not None and left:
            self._history.amend(subject, known[0], max(last_ts(self.ends[each]) for each in left))
        elif known is not None:
            self._history.amend(subject, max(known[0] - 1, 0), now_ts)
        return Decision(
            id=f"lift~{lifts}~{now_ts!r}",
            action="lift",
            subject=subject,
            start_ts=now_ts,
            end_ts=None,
            rule=rule,
            finding=None,
            origin=origin,
            lifts=lifts,
            note=note,
            services=services,
        )

    def expire(self, now_ts: float) -> list[str]:
        """Forget those that have ended, as the kernel does by itself; returns their targets."""
        return self._active.expire(now_ts)

    def restate(self, now_ts: float) -> Iterator[Decision]:
        """Those in force as decisions that begin now; their rules and findings are lost to us. What ends or is lifted
        while they are asked for is left out.
        """
        for target in list(self.ends):
            end_ts = self.ends.get(target, -math.inf)
            if end_ts is None or end_ts > now_ts:
                (subject, services), ban_id = parts_of(target), self._id(target, end_ts)
                yield Decision(
                    ban_id, "ban", subject, now_ts, end_ts, "", None, "import", note=TAKEN_OVER, services=services
                )

    def _id(self, target: str, end_ts: float | None) -> str:
        if end_ts is not None:
            return f"ban~{target}~{end_ts!r}"
        return f"ban~{target}~{self._starts.get(target, 0.0)!r}~for-good"


def target_for(subject: str, services: str) -> str:
    """What a ban is kept by: only hosts are closed to single services, whatever is wider to everything."""
    return target_of(subject, services if services and is_host(subject) else "")


def last_ts(end_ts: float | None) -> float:
    """An end as a number: infinity where it is None, for good."""
    return math.inf if end_ts is None else end_ts


def much_later(new_end_ts: float | None, end_ts: float | None, seconds: float | None) -> bool:
    """Whether a ban until `new_end_ts` (of so many seconds) is worth putting in place of one until `end_ts`."""
    if end_ts is None or new_end_ts is None or seconds is None:
        return end_ts is not None
    return new_end_ts > end_ts + EXTEND_BY * seconds
