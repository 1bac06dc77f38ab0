"""Whom fail2ban's jails leave alone while the guard runs: `ignoreip`, `ignoreself`, `ignorecommand`.

The engine asks the judges that stand in the rules; what has to wait for a program's answer is kept here, and handed to
the engine when it is known to count. The clock that the answers are timed by is the host's, the failures' own is not.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, cast

from msgspec import Struct, structs

from tocsin.decide.allow import AllowList
from tocsin.fail2ban.actions.ignore import Ignoring
from tocsin.fail2ban.actions.ignore_sources import IgnoreSources
from tocsin.fail2ban.model import Failure
from tocsin.sources.host import read_own_addresses

if TYPE_CHECKING:
    from tocsin.fail2ban.actions.client import Actions
    from tocsin.fail2ban.actions.protocol import Answer
    from tocsin.fail2ban.actions.tickets import Ticket
    from tocsin.fail2ban.rules import Jailed
    from tocsin.rules import CompiledRule, Judge, Place, Verdict
    from tocsin.rules import Failure as AnyFailure

OWN_EVERY_S = 30.0


Earlier = Callable[[str, str, float], int]


def weight(earlier: int, limit: int) -> int:
    """For how many a failure counts of who was banned so often before: 1, 2, 3, 5, 9, ..., at most the limit.

    fail2ban does so for each jail with `bantime.increment` (its observer's `failureFound`).
    """
    return min(1 + (1 << min(earlier, 20)) // 2, limit) if earlier > 0 else 1


class Late(Struct, frozen=True, array_like=True):
    """A failure that waits: of which rule, what the filter found, its event time, and its line's place."""

    rule: str
    failure: Failure
    ts: float
    place: tuple[str, int, int, bytes]


class Sparing:
    """The judges of all jails. `rules` are the jails' rules with them, in the same order.

    `crossing` holds, by rule, the failure that counted last: the one to which a finding that has just come is due.
    `earlier` tells (rule, subject, event time) how often somebody was banned before, where known offenders are to weigh
    more; None: all weigh the same.
    """

    def __init__(
        self,
        jailed: Jailed,
        ask: Callable[[str, Ticket], int | None],
        *,
        root: Path = Path("/"),
        earlier: Earlier | None = None,
    ) -> None:
        self._root = root
        self._earlier = earlier
        self._growing = {
            rule.rule.id: rule for jail, rule in zip(jailed.jails, jailed.rules, strict=True) if jail.increment.enabled
        }
        self._own = AllowList()
        self._own_due_s = float("inf")
        self.crossing: dict[str, Failure] = {}
        self._ignoring = [Ignoring[Late](jail, ask, self._is_own) for jail in jailed.jails]
        self.sources = IgnoreSources(each.entries for each in self._ignoring)
        self._judges: dict[str, Judge] = {}
        rules: list[CompiledRule] = []
        for rule, ignoring in zip(jailed.rules, self._ignoring, strict=True):
            judge = self._judges[rule.rule.id] = self._judge_of(rule.rule.id, ignoring)
            rules.append(structs.replace(rule, judge=judge))
        self.rules = tuple(rules)
        if any(jail.ignoreself for jail in jailed.jails):
            self._own_due_s = 0.0
            self._refresh_own(time.monotonic())

    def _judge_of(self, rule_id: str, ignoring: Ignoring[Late]) -> Judge:
        def judge(failure: AnyFailure, ts: float, place: Place) -> Verdict:
            found = cast(Failure, failure)  # a jail's filter finds nothing else
            verdict = ignoring.judge(found, Late(rule_id, found, ts, place), time.monotonic())
            if verdict == "counts":
                self._counts(rule_id, found, ts)
            return verdict

        return judge

    # -- what waits --------------------------------------------------------------------------------------------------

    def answered(self, answer: Answer, now_s: float) -> Iterator[Late]:
        """What counts after all, now that an answer has come."""
        for ignoring in self._ignoring:
            yield from self._due(ignoring.answered(answer.id, ignore=answer.ignore, now_s=now_s))

    def expire(self, now_s: float) -> Iterator[Late]:
        """What has waited for too long, and counts."""
        for ignoring in self._ignoring:
            yield from self._due(ignoring.expire(now_s))

    def again(self, lates: Iterable[Late]) -> Iterator[Late]:
        """Judge anew what an earlier guard, or the judges before a reload, had wait; what counts at once."""
        for late in lates:
            judge = self._judges.get(late.rule)
            if judge is not None and judge(late.failure, late.ts, late.place) == "counts":
                yield late

    def _due(self, lates: Iterable[Late]) -> Iterator[Late]:
        for late in lates:
            self._counts(late.rule, late.failure, late.ts)
            yield late

    def _counts(self, rule_id: str, failure: Failure, ts: float) -> None:
        """A failure is about to be counted."""
        self.crossing[rule_id] = failure
        rule = self._growing.get(rule_id)
        if self._earlier is not None and rule is not None and failure.source_ip is not None:
            earlier = self._earlier(rule_id, rule.subject(failure.source_ip), ts)
            failure.attempts += weight(earlier, rule.rule.limit) - 1

    def waiting(self) -> list[Late]:
        """What waits now: to be saved with the engine's state."""
        return [late for ignoring in self._ignoring for late in ignoring.waiting()]

    # -- what the host knows -----------------------------------------------------------------------------------------

    def refresh(self, actions: Actions | None, now_s: float) -> tuple[str, ...]:
        """Look again at files, names and own addresses, where it is time; what went wrong, each thing once."""
        if now_s >= self._own_due_s:
            self._refresh_own(now_s)
        return self.sources.refresh(actions, now_s) if now_s >= self.sources.due_s else ()

    def due_s(self) -> float:
        """When `refresh` or `expire` has something to do, on the monotonic clock."""
        waits = [due_s for ignoring in self._ignoring if (due_s := ignoring.next_due_s()) is not None]
        return min(self._own_due_s, self.sources.due_s, *waits)

    def _refresh_own(self, now_s: float) -> None:
        self._own.replace("own", [(network, "") for network in read_own_addresses(self._root)])
        self._own_due_s = now_s + OWN_EVERY_S

    def _is_own(self, address: str) -> bool:
        return self._own.reason(address) is not None
