"""What a proposed rule would have done to the same logs: found out by replaying it over them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from collections.abc import Set as AbstractSet
from datetime import UTC, tzinfo
from pathlib import Path

from msgspec import Struct, structs

from tocsin.explain.banning import banning
from tocsin.explain.model import Incident, Remedy, Report, Said, say
from tocsin.explain.remedies import tolerating, turning_away
from tocsin.model import Decision, Finding
from tocsin.replay import Replay
from tocsin.rules import compile_rule, read_rules

MOST_BYTES = 512 << 20
"""Of more, a replay would take longer than the explanation itself."""


_MOST_OTHERS = 0.02
"""Of those that a rule bans, more who are not to be banned make it no remedy."""

_HIGHER = (10, 30)
"""Limits that are tried where a rule's own hits others."""


class _Effect(Struct, frozen=True):
    """What a rule would have done: how many it bans, how many of them are not to be banned, the lines that it stops."""

    banned: int
    others: int
    stopped: int

    @property
    def is_harm(self) -> bool:
        return self.others > _MOST_OTHERS * self.banned

    @property
    def is_none(self) -> bool:
        return not self.stopped


def with_effects(report: Report, now_ts: float | None = None, zone: tzinfo | None = None) -> Report:
    """The report, each proposed rule with what it would have stopped in the report's own access logs. A rule that would
    have banned others, or stopped nothing, is taken out, and a note says so: in its place stands one with a higher
    limit, or what the web server can do.

    Logs inside archives, and more than MOST_BYTES of them, are not read again: then nothing is changed.
    """
    paths = [Path(one.source) for one in report.coverage if one.kind == "access"]
    if not paths or not all(map(Path.is_file, paths)) or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        return report
    guilty = {subject for incident in report.incidents for subject in incident.ban}
    known: dict[str, tuple[str, _Effect]] = {}

    def replayed(rule: str) -> _Effect:
        return _replayed(rule, paths, now_ts, zone or UTC, guilty)

    incidents = tuple(_told(incident, replayed, known) for incident in report.incidents)
    return structs.replace(report, incidents=incidents)


def _told(incident: Incident, replayed: Callable[[str], _Effect], known: dict[str, tuple[str, _Effect]]) -> Incident:
    remedies, notes = [], []
    for remedy in incident.remedies:
        if not remedy.rule:
            remedies.append(remedy)
            continue
        if remedy.apply not in known:
            known[remedy.apply] = _tried(remedy.apply, replayed)
        rule, effect = known[remedy.apply]
        if not effect.is_harm and not effect.is_none:
            remedies.append(structs.replace(remedy, text=_effect_told(remedy.text, effect), apply=rule))
            continue
        notes.append(_refused(effect))
        if remedy.instead:
            remedies.append(Remedy(turning_away(is_usual=effect.is_harm), remedy.instead))
        remedies += [banning(incident.ban, incident.start)] if incident.ban else []
    return structs.replace(incident, remedies=tuple(remedies), notes=(*incident.notes, *notes))


def _tried(rule: str, replayed: Callable[[str], _Effect]) -> tuple[str, _Effect]:
    """A rule and what it does; with a higher limit, where that keeps others out of it and it still stops something."""
    first = replayed(rule)
    if first.is_harm:
        for limit in _HIGHER:
            higher = tolerating(rule, limit)
            effect = replayed(higher)
            if effect.is_none:
                break
            if not effect.is_harm:
                return higher, effect
    return rule, first


def _replayed(
    rule: str, paths: Sequence[Path], now_ts: float | None, zone: tzinfo, guilty: AbstractSet[str]
) -> _Effect:
    banned: set[str] = set()

    def decided(decision: Decision, _finding: Finding | None) -> None:
        if decision.action == "ban" and decision.held is None:
            banned.add(decision.subject)

    rules = [compile_rule(each) for each in read_rules(rule, "explained", {})]
    summary = Replay(paths, rules, zone, now_ts, decided, contrast=False).run()
    return _Effect(len(banned), len(banned - guilty), summary.stopped)


def _effect_told(remedy: Said, effect: _Effect) -> Said:
    if not effect.others:
        return say(
            "{remedy}; replayed over these logs it bans {banned} addresses, all of them to be banned, and stops "
            "{stopped} of their lines",
            remedy=remedy,
            banned=effect.banned,
            stopped=effect.stopped,
        )
    return say(
        "{remedy}; replayed over these logs it bans {banned} addresses, {others} of them not among those to ban, and "
        "stops {stopped} of their lines",
        remedy=remedy,
        banned=effect.banned,
        others=effect.others,
        stopped=effect.stopped,
    )


def _refused(effect: _Effect) -> Said:
    if effect.is_harm:
        return say(
            "no rule is proposed: replayed over these logs, {others} of the {banned} addresses that it bans are not to "
            "be banned",
            others=effect.others,
            banned=effect.banned,
        )
    return say("no rule is proposed: replayed over these logs, it stops nothing")
