"""Takes over bans that another program has made, and takes them back: in a running guard, and in a ledger at rest.

An `Arrival` is what the other program knows of an address: a ban in force, or how often it was banned before. What came
of it is a `Taken`, which holds what was there before, so that `take_back` can restore exactly that. What has changed
since (unbanned by hand, banned anew) is left as it is. Takings are undone in reverse order.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Protocol

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tocsin.decide.bans import last_ts, target_for
from tocsin.decide.pasts import Row
from tocsin.decide.policy import Policy
from tocsin.decide.subjects import canonical
from tocsin.duration import render_duration
from tocsin.ledger.load import imported_bans
from tocsin.ledger.writer import Recollection
from tocsin.model import Decision, parts_of

TIMES_MAX = 1_000_000
RECORDS = "fail2ban-import.*.jsonl"


class Arrival(Struct, frozen=True, array_like=True):
    """What another program knows of an address, or of a prefix.

    `rule` is what banned it, `start_ts` and `end_ts` (None: for good) are of its present or last ban, `times` is the
    number of its bans, `by_rule` those of each rule, where that is known. `in_force`: whether it is banned now;
    `others` what else bans it, for people.
    """

    address: str
    rule: str
    start_ts: float
    end_ts: float | None
    times: int
    in_force: bool
    others: tuple[str, ...] = ()
    by_rule: tuple[tuple[str, int], ...] = ()


class Past(Struct, frozen=True, array_like=True):
    """How many bans were remembered and when the last one ended or ends; None: never."""

    times: int
    end_ts: float | None


class Taken(Struct, frozen=True, array_like=True):
    """An arrival that was taken over; `subject` is a target (see `model`). `decision` is its ban ("" where only the
    number of earlier bans was taken), `end_ts` that ban's end. `had_end_ts` is of the ban that it took the place of,
    where `had_ban`; `had` and `has` are what was remembered before (None: nothing) and after, `learnt` how many more
    bans by single jails.
    """

    subject: str
    rule: str
    decision: str
    start_ts: float
    end_ts: float | None
    had_ban: bool
    had_end_ts: float | None
    had: Past | None
    has: Past
    learnt: tuple[tuple[str, int], ...] = ()


class Head(Struct, frozen=True):
    """The first line of an import's record, of which the others are what was taken: from which database, and when."""

    database: str
    ts: float


class Keeper(Protocol):
    """Where decisions and recollections go: the running watcher, or a ledger."""

    def carry_out(self, decision: Decision) -> None:
        """Bring a decision into force and keep it."""

    def recollect(self, row: Recollection) -> None:
        """Keep how often a subject was banned."""


class LedgerKeeper:
    """Keeps in the ledger alone, for the next start of a guard."""

    def __init__(self, decision: Callable[[Decision], None], recollect: Callable[[Recollection], None]) -> None:
        self.carry_out = decision
        self.recollect = recollect


def refusal(policy: Policy, arrival: Arrival, now_ts: float, services: str = "") -> str | None:
    """Why nothing is to be taken over of an arrival; None where something is. It changes nothing. `services` are those
    that its ban is to close (`Decision.services`).
    """
    try:
        subject = canonical(arrival.address)
    except ValueError as error:
        return str(error)
    if (safe := policy.allow.reason(subject)) is not None:
        return f"safe: {safe}"
    if not arrival.in_force:
        return _of_no_use(policy, subject, arrival, now_ts)
    policy.expire(now_ts)
    until_ts = policy.until_ts(subject, now_ts, services)
    if until_ts is not None and until_ts >= last_ts(arrival.end_ts):
        return "banned here already, as long or longer"
    if policy.end_of(target_for(subject, services)) is None and policy.counts()["active"] >= policy.settings.max_active:
        return f"no room: {policy.settings.max_active:,} bans are in force ([bans] max_active)"
    return None


def _of_no_use(policy: Policy, subject: str, arrival: Arrival, now_ts: float) -> str | None:
    if last_ts(arrival.end_ts) < now_ts - policy.settings.memory_s:
        return f"its last ban ended more than {render_duration(policy.settings.memory_s)} ago ([bans] memory)"
    past = policy.past(subject)
    return "known here already" if past is not None and past[0] >= arrival.times else None


def take(policy: Policy, keeper: Keeper, arrival: Arrival, now_ts: float, services: str = "") -> Taken:
    """Take over an arrival for which there is no `refusal`."""
    subject = canonical(arrival.address)
    target = target_for(subject, services)
    past, had_end_ts = policy.past(subject), policy.end_of(target)
    times = min(TIMES_MAX, max(arrival.times, past[0] if past else 0))
    decision_id, end_ts = "", arrival.end_ts
    last_end_ts = max(last_ts(end_ts), past[1] if past else -math.inf)
    if arrival.in_force:
        decision = _ban(policy, target, end_ts, now_ts)
        since_s = max(0.0, float(round(now_ts - arrival.start_ts)))
        note = f"taken over: banned there {render_duration(since_s)} ago, ban {arrival.times} of it"
        if arrival.others:
            note += f", also by {', '.join(arrival.others)}"
        decision = replace(decision, origin="import", rule=arrival.rule, note=note)
        keeper.carry_out(decision)
        decision_id, end_ts = decision.id, decision.end_ts
        last_end_ts = last_ts(end_ts)
    policy.recollect(subject, times, last_end_ts)
    by_rule = arrival.by_rule or ((arrival.rule, arrival.times),)
    ends = {rule: last_end_ts if rule == arrival.rule else min(now_ts, last_end_ts) for rule, _ in by_rule}
    learnt = [(rule, policy.pasts.learn(rule, target, bans, ends[rule])) for rule, bans in by_rule]
    has = Past(times, _finite(last_end_ts))
    keeper.recollect(Recollection(target, times, arrival.rule, arrival.start_ts, has.end_ts))
    had = None if past is None or past[1] == -math.inf else Past(past[0], _finite(past[1]))
    return Taken(
        target,
        arrival.rule,
        decision_id,
        arrival.start_ts,
        end_ts,
        had_end_ts is not None,
        None if had_end_ts is None else _finite(had_end_ts),
        had,
        has,
        tuple((rule, bans) for rule, bans in learnt if bans),
    )


def take_back(policy: Policy, keeper: Keeper, taken: Taken, now_ts: float) -> bool:
    """Undo one taking; says whether its ban was in force and has ended, or given way to the one before it."""
    target = taken.subject
    subject = parts_of(target)[0]
    past = policy.past(subject)
    times = past[0] if past is not None else taken.has.times
    last_end_ts = past[1] if past is not None else last_ts(taken.has.end_ts)
    lifted = bool(taken.decision) and policy.end_of(target) == last_ts(taken.end_ts)
    unchanged = last_end_ts == last_ts(taken.has.end_ts)
    if lifted:
        keeper.carry_out(policy.lift_own(target, now_ts, "import undone"))
        if taken.had_ban and last_ts(taken.had_end_ts) > now_ts:
            before = _ban(policy, target, taken.had_end_ts, now_ts)
            keeper.carry_out(replace(before, note="import undone: the ban before it"))
    for rule, bans in taken.learnt:
        policy.pasts.unlearn(rule, subject, bans, lifted=lifted and rule == taken.rule)
    times = max(0, times - (taken.has.times - (taken.had.times if taken.had is not None else 0)))
    if unchanged:
        last_end_ts = -math.inf if taken.had is None else last_ts(taken.had.end_ts)
    policy.recollect(subject, times, last_end_ts)
    keeper.recollect(Recollection(target, times, taken.rule, taken.start_ts, _finite(max(0.0, last_end_ts))))
    return lifted


def imported(folder: Path) -> Iterator[Row]:
    """What of earlier imports the ledger's folder knows about single jails, as `Pasts.suppose` takes it: each jail's
    own bans from the records of the imports, then for the rest the ledger's sums, which stand under one jail.
    """
    for path in sorted(folder.glob(RECORDS), key=lambda path: (len(path.name), path.name), reverse=True):
        yield from _recorded(path)
    yield from imported_bans(folder / "ledger.db")


def _recorded(path: Path) -> Iterator[Row]:
    """The rows of one record, as far as they can be read: whoever undoes it says what is wrong with it."""
    try:
        with path.open("rb") as file:
            began_ts = msgspec.json.decode(next(file, b""), type=Head).ts
            for line in file:
                taken = msgspec.json.decode(line, type=Taken)
                end_ts = last_ts(taken.has.end_ts)
                for jail, bans in taken.learnt:
                    yield jail, taken.subject, bans, end_ts if jail == taken.rule else min(began_ts, end_ts)
    except (OSError, msgspec.MsgspecError):
        return


def _ban(policy: Policy, target: str, end_ts: float | None, now_ts: float) -> Decision:
    """The policy's own ban, forced where the allow list has been looked at, or where it is put back."""
    subject, services = parts_of(target)
    seconds = None if end_ts is None else end_ts - now_ts
    return policy.ban(subject, seconds, now_ts, force=True, services=services)


def _finite(end_ts: float) -> float | None:
    return None if end_ts == math.inf else end_ts
