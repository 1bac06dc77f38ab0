"""A labelled log through the real pipeline by the log's own clock, and what it would have meant for whom.

    .venv/bin/python bench/crowd_score.py KIND SEED [RULE...]      RULE: only these rules, as `replay --only`

A decision is in force from the end of the second in which the line that led to it was written: what was under way by
then was served. Where the log is taken as it is (`replayed`), the pipeline sees every line; where it is as guard would
have seen it (`live`), the requests of who is banned are missing and those that are turned away stand there with 429.
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import UTC
from itertools import groupby

from msgspec import Struct

from crowd_force import Force, Span, subject_of
from crowd_site import Line
from crowd_traffic import INNOCENT, Case, make_case
from tocsin.cli.setup import all_rules
from tocsin.decide.prefixes import RULE as NETWORK
from tocsin.decide.siege import RULE as CONTRAST
from tocsin.model import Batch, Decision, Finding
from tocsin.replay import Replay
from tocsin.rules import CompiledRule

SOURCE = "/var/log/apache2/access.log"
VISITORS = ("visitor", "surge")
NEVER = ("googlebot", "bingbot", "office", "app", "admin", "git")
STEP_S, LONG_STEP_S = 1, 10  # a long quiet log goes through in longer steps
ANSWER = re.compile(r'" \d{3} (\d+|-) "')


class Run(Struct, frozen=True):
    """What a case came to: for each of its lines the measure that stopped it or None, and all that was decided."""

    case: Case
    stopped: list[Span | None]
    force: Force


class Score(Struct, frozen=True):
    """The figures of one run. `from_90` and `from_120` are shares of the attack's requests that were stopped, begun so
    many seconds after its first; `again` is the share from 90 s on that came from addresses that had come before: more
    no ban of an address can reach. `first_s` is when the first measure stopped one, `most_s` from when on 95 in 100
    were stopped (each None: never). `visitors` came since the attack began, `asked` browsers were let through after
    they had shown a cookie, `hit` of the visitors lost a request, for at most `longest_s`. `never` are requests of
    those whom nothing may happen to that were stopped, `others` those of the other innocents, by label. `bans` are
    counted by label of who was behind the address at first.
    """

    requests: int
    served_before: int
    first_s: float | None
    most_s: float | None
    from_90: float
    from_120: float
    again: float
    visitors: int
    asked: int
    hit: int
    longest_s: float
    never: dict[str, int]
    others: dict[str, int]
    bans: dict[str, int]
    rules: dict[str, int]
    denied: list[str]


class Chosen(Struct, frozen=True):
    """What a replay runs with: rules, and whether sieges are noticed and networks banned."""

    rules: tuple[CompiledRule, ...]
    contrast: bool = True
    prefixes: bool = True


def chosen_of(only: Sequence[str] = ()) -> Chosen:
    """What `tocsin replay` runs with, or its `--only` of these."""
    named = [rule for rule in only if rule not in (CONTRAST, NETWORK)]
    rules = all_rules([], named, None, [], UTC, [])[0] if named or not only else []
    return Chosen(tuple(rules), not only or CONTRAST in only, not only or NETWORK in only)


def play(case: Case, chosen: Chosen, *, live: bool) -> Run:
    """Feed the case to a replay's pipeline, second by second."""
    force = Force(with_vhost=case.machine.with_vhost)
    heard: list[Decision] = []

    def hear(decision: Decision, _finding: Finding | None) -> None:
        heard.append(decision)

    job = Replay([], chosen.rules, UTC, None, hear, contrast=chosen.contrast, prefixes=chosen.prefixes)
    stopped: list[Span | None] = []
    offset, number = 0, 1
    step_s = STEP_S if case.attack_ts else LONG_STEP_S
    for step, group in groupby(case.lines, key=lambda line: line.end_ts // step_s):
        lines = list(group)
        answers = [force.answered(line) for line in lines]
        stopped += (span for span, _ in answers)
        shown = seen(lines, answers) if live else [line.text for line in lines]
        if not shown:
            continue
        data = "".join(f"{text}\n" for text in shown).encode()
        now_ts = (step + 1) * step_s
        job.pipeline.take(Batch(SOURCE, data, offset, number), now_ts)
        offset, number = offset + len(data), number + len(shown)
        for decision in heard:
            force.take(decision, now_ts)
        heard.clear()
    return Run(case, stopped, force)


def seen(lines: Iterable[Line], answers: Iterable[tuple[Span | None, bool]]) -> list[str]:
    """The lines as the web server would have written them: nothing of who is banned, 429 for who is turned away or
    asked; who was asked comes again.
    """
    shown = []
    for line, (span, asked) in zip(lines, answers, strict=True):
        if asked or (span is not None and span.decision.action != "ban"):
            shown.append(ANSWER.sub('" 429 226 "', line.text, count=1))
        if span is None:
            shown.append(line.text)
    return shown


def score(run: Run) -> Score:
    """The figures of a run."""
    case, start_ts = run.case, run.case.attack_ts
    pairs = list(zip(case.lines, run.stopped, strict=True))
    attack = sorted(((line.ts, span is not None) for line, span in pairs if line.label == "attack"))
    first_ts = attack[0][0] if attack else start_ts
    stop_ts = next((ts for ts, stopped in attack if stopped), None)
    visitors = {subject_of(line.who) for line, _ in pairs if line.label in VISITORS and line.ts >= start_ts}
    hits = [(line, span) for line, span in pairs if span is not None and line.label in INNOCENT]
    counts = Counter(line.label for line, _ in hits)
    hit = {subject_of(line.who) for line, _ in hits if line.label in VISITORS}
    labels: dict[str, str] = {}
    for line in case.lines:
        labels.setdefault(subject_of(line.who), line.label)
    bans = [each for each in run.force.decisions if each.action == "ban"]
    return Score(
        requests=len(attack),
        served_before=len(attack) if stop_ts is None else sum(ts < stop_ts for ts, _ in attack),
        first_s=None if stop_ts is None else stop_ts - first_ts,
        most_s=None if stop_ts is None else most_s(attack, first_ts, stop_ts),
        from_90=share(stopped for ts, stopped in attack if ts >= first_ts + 90),
        from_120=share(stopped for ts, stopped in attack if ts >= first_ts + 120),
        again=again(case, first_ts + 90),
        visitors=len(visitors),
        asked=len(run.force.asked),
        hit=len(hit),
        longest_s=longest_s([(line, span) for line, span in hits if line.label in VISITORS]),
        never={label: counts[label] for label in NEVER if counts[label]},
        others={label: count for label, count in counts.items() if label not in (*NEVER, *VISITORS)},
        bans=dict(Counter(labels.get(each.subject, "prefix") for each in bans)),
        rules=dict(Counter(f"{each.action} {each.rule}" for each in run.force.decisions)),
        denied=list(dict.fromkeys(named(span.decision) for span in run.force.of_class())),
    )


def again(case: Case, since_ts: float) -> float:
    """The share of the attack's requests from then on whose address had come before."""
    known: set[str] = set()
    came = []
    for line in sorted((line for line in case.lines if line.label == "attack"), key=lambda line: line.ts):
        if line.ts >= since_ts:
            came.append(subject_of(line.who) in known)
        known.add(subject_of(line.who))
    return share(came)


def most_s(attack: Sequence[tuple[float, bool]], first_ts: float, stop_ts: float) -> float | None:
    """From when on, once there was a measure, 95 in 100 of all that was still to come were stopped."""
    rest = stopped = 0
    found: float | None = None
    for ts, was in reversed(attack):
        rest, stopped = rest + 1, stopped + was
        if ts < stop_ts or stopped < 0.95 * rest:
            break
        found = ts - first_ts
    return found


def share(stopped: Iterable[bool]) -> float:
    """The part that is true; 0 of nothing."""
    every = list(stopped)
    return sum(every) / len(every) if every else 0.0


def longest_s(hits: Sequence[tuple[Line, Span]]) -> float:
    """For how long somebody was kept out: to the end of the ban, or to the last request that was turned away."""
    first: dict[str, float] = {}
    longest = 0.0
    for line, span in hits:
        since_ts = first.setdefault(line.who, line.ts)
        until_ts = span.end_ts if span.decision.action == "ban" else line.ts
        longest = max(longest, until_ts - since_ts)
    return longest


def named(decision: Decision) -> str:
    """A class as text."""
    each = decision.signature
    assert each is not None
    fields = {
        "method": each.method,
        "path": each.path,
        "query": each.query,
        "vhost": each.vhost,
        "agent": each.user_agent,
        "protocol": each.protocol,
    }
    return " ".join(f"{name}={value}" for name, value in fields.items() if value is not None)


def render(figures: Score) -> str:
    """One run in a few lines, for people."""
    first = "never" if figures.first_s is None else f"after {figures.first_s:.0f} s"
    most = "never" if figures.most_s is None else f"from {figures.most_s:.0f} s"
    return (
        f"{figures.requests:,} attack requests, {figures.served_before:,} served before the first measure ({first}),"
        f" 95 % stopped {most}; stopped from 90 s {figures.from_90:.1%}, from 120 s {figures.from_120:.1%}"
        f" ({figures.again:.1%} came from addresses that had come before)\n"
        f"    browsers asked {figures.asked:,}; visitors hit {figures.hit} of {figures.visitors:,}, longest"
        f" {figures.longest_s:,.0f} s; never to be hit: {figures.never or 'none'};"
        f" others hit: {figures.others or 'none'}\n"
        f"    bans of {figures.bans or 'nobody'}; {figures.rules or 'no decisions'}\n"
        f"    turned away: {'; '.join(figures.denied) or 'nothing'}"
    )


if __name__ == "__main__":
    drawn = make_case(sys.argv[1], int(sys.argv[2]))
    print(f"{drawn.kind} {drawn.seed}: {len(drawn.lines):,} lines; the attack: {drawn.truth}")
    for name, live in (("replayed", False), ("live", True)):
        print(f"  {name}: {render(score(play(drawn, chosen_of(sys.argv[3:]), live=live)))}")
