"""What a proposed rule would have done to the same logs: found out by replaying it over them."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, tzinfo
from pathlib import Path

from msgspec import structs

from tocsin.explain.model import Incident, Remedy, Report, say
from tocsin.model import Decision, Finding
from tocsin.replay import Replay
from tocsin.rules import compile_rule, read_rules

MOST_BYTES = 512 << 20
"""Of more, a replay would take longer than the explanation itself."""


def with_effects(report: Report, now_ts: float | None = None, zone: tzinfo | None = None) -> Report:
    """The report, each proposed rule with what it would have stopped in the report's own access logs.

    Logs inside archives, and more than MOST_BYTES of them, are not read again: then nothing is added.
    """
    paths = [Path(one.source) for one in report.coverage if one.kind == "access"]
    if not paths or not all(map(Path.is_file, paths)) or sum(path.stat().st_size for path in paths) > MOST_BYTES:
        return report
    known: dict[str, Remedy] = {}
    incidents = tuple(_told(incident, paths, now_ts, zone or UTC, known) for incident in report.incidents)
    return structs.replace(report, incidents=incidents)


def _told(
    incident: Incident, paths: Sequence[Path], now_ts: float | None, zone: tzinfo, known: dict[str, Remedy]
) -> Incident:
    remedies = []
    for remedy in incident.remedies:
        if remedy.rule and remedy.apply not in known:
            known[remedy.apply] = _replayed(remedy, paths, now_ts, zone, set(incident.ban))
        remedies.append(known.get(remedy.apply, remedy) if remedy.rule else remedy)
    return structs.replace(incident, remedies=tuple(remedies))


def _replayed(remedy: Remedy, paths: Sequence[Path], now_ts: float | None, zone: tzinfo, guilty: set[str]) -> Remedy:
    banned: dict[str, float] = {}

    def decided(decision: Decision, _finding: Finding | None) -> None:
        if decision.action == "ban" and decision.held is None:
            banned.setdefault(decision.subject, decision.start_ts)

    rules = [compile_rule(rule) for rule in read_rules(remedy.apply, remedy.rule, {})]
    summary = Replay(paths, rules, zone, now_ts, decided, contrast=False).run()
    if not banned:
        text = say("{remedy}; replayed over these logs it would have banned nobody", remedy=remedy.text)
        return structs.replace(remedy, text=text)
    others = len(banned.keys() - guilty)
    if not others:
        text = say(
            "{remedy}; replayed over these logs it bans {banned} addresses, all of them to be banned, and stops "
            "{stopped} of their lines",
            remedy=remedy.text,
            banned=len(banned),
            stopped=summary.stopped,
        )
        return structs.replace(remedy, text=text)
    text = say(
        "{remedy}; replayed over these logs it bans {banned} addresses, {others} of them not among those to ban, and "
        "stops {stopped} of their lines",
        remedy=remedy.text,
        banned=len(banned),
        others=others,
        stopped=summary.stopped,
    )
    return structs.replace(remedy, text=text)
