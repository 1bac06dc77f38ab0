"""What `tocsin replay` does: runs the logs through the engine and prints decisions and summary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from tocsin.cli import setup
from tocsin.cli.failure import DATA, OF_SOURCE
from tocsin.cli.output import Output, progress_bar
from tocsin.cli.words import count, number, size, span
from tocsin.decide.prefixes import RULE as NETWORK
from tocsin.decide.siege import RENEWED
from tocsin.decide.siege import RULE as CONTRAST
from tocsin.model import Decision, Finding
from tocsin.replay import Replay, Summary
from tocsin.rules import SET_ASIDE

Row = tuple[str, ...]
COLUMNS = ("when", "what", "whom", "how long", "rule", "count", "")


def run(
    *,
    logs: Sequence[Path],
    rules: Sequence[Path] = (),
    only: Sequence[str] = (),
    fail2ban: Path | None = None,
    jails: Sequence[str] = (),
    log_format: str | None = None,
    trusted_proxy: Sequence[str] = (),
    now: float | None = None,
    tz: str | None = None,
    as_json: bool = False,
    prefilter: bool = True,
) -> None:
    """Replay and print. SystemExit with the code where something could not be read."""
    zone = setup.zone_of(tz)
    named = [rule for rule in only if rule not in (CONTRAST, NETWORK)]
    chosen, readers = setup.all_rules(rules, named, fail2ban, jails, zone, logs) if named or not only else ([], {})
    proxies = setup.proxies_of(trusted_proxy)
    if log_format is not None:
        setup.check_format(log_format, proxies)
    out = Output(as_json=as_json, zone=zone if tz else None)
    rows: list[Row] = []
    job = Replay(
        logs,
        chosen,
        zone,
        now,
        _to_json(out, live=Path("-") in logs) if as_json else _to_rows(out, rows),
        proxies=proxies,
        named=[("*", log_format)] if log_format else (),
        prefilter=prefilter,
        contrast=not (only or jails) or CONTRAST in only,
        prefixes=not (only or jails) or NETWORK in only,
        journal_readers=readers,
    )
    bar = progress_bar("reading", sum(path.stat().st_size for path in logs if path.is_file()))
    summary = job.run(bar.advance_to if bar else None)
    if bar:
        bar.close()
    if as_json:
        out.json({"summary": summary})
        out.flush()
    else:
        _say_decisions(out, rows)
        _say_summary(out, job, summary)
    _say_troubles(out, job)
    code = _exit_code(job, summary)
    if code:
        raise SystemExit(code)


def _to_json(out: Output, *, live: bool) -> Callable[[Decision, Finding | None], None]:
    def take(decision: Decision, finding: Finding | None) -> None:
        lasts_s = None if decision.end_ts is None else decision.end_ts - decision.start_ts
        evidence = finding.evidence if finding else ()
        row: dict[str, object] = {
            "ts": number(decision.start_ts),
            "rule": decision.rule,
            "subject": decision.subject,
            "action": decision.action,
            "duration_s": number(lasts_s),
            "count": finding.count if finding else 0,
            "evidence": [{"source": line.source, "line": line.line, "text": line.text} for line in evidence],
            "id": decision.id,
            "held": decision.held,
        }
        if decision.services:
            row["services"] = decision.services
        if decision.lifts is not None:
            row["lifts"] = decision.lifts
        if decision.signature is not None:
            row |= {"signature": decision.signature, "spare": decision.spare, "note": decision.note}
            del row["subject"]
        out.json(row)
        if live:
            out.flush()

    return take


def _to_rows(out: Output, rows: list[Row]) -> Callable[[Decision, Finding | None], None]:
    denials: dict[str | None, tuple[int, Decision, int]] = {}  # by their siege: row, the first, renewals

    def renew(decision: Decision) -> None:
        """One row for a denial however often it was renewed: it may be so each second."""
        if decision.action == "lift":
            return
        at, first, renewed = denials[decision.finding]
        denials[decision.finding] = at, first, renewed + 1
        lasts_s = (decision.end_ts or decision.start_ts) - first.start_ts
        said = f"renewed {count(renewed + 1, 'time')}, spares {len(decision.spare):,} in the end"
        rows[at] = (
            *rows[at][:3],
            span(lasts_s),
            *rows[at][4:-1],
            "; ".join(filter(None, (said, first.held or first.note))),
        )

    def take(decision: Decision, finding: Finding | None) -> None:
        if decision.signature is not None and decision.note == RENEWED:
            renew(decision)
            return
        if decision.action in {"deny-request", "limit"}:
            denials[decision.finding] = len(rows), decision, 0
        lift = decision.action == "lift"
        rows.append(
            (
                out.when(decision.start_ts),
                decision.action if decision.held is None else f"{decision.action} (held)",
                decision.target or (decision.signature.text if decision.signature else ""),
                "" if lift else span(None if decision.end_ts is None else decision.end_ts - decision.start_ts),
                decision.rule,
                f"{finding.count}" if finding else "",
                decision.held or decision.note,
            )
        )

    return take


def _say_decisions(out: Output, rows: list[Row]) -> None:
    width = len(COLUMNS) if any(row[-1] for row in rows) else len(COLUMNS) - 1
    out.table(COLUMNS[:width], [row[:width] for row in rows], right=("count",))
    if rows:
        out.line()


def _say_summary(out: Output, job: Replay, summary: Summary) -> None:
    speed = f", {summary.lines / summary.seconds:,.0f} lines a second" if summary.seconds >= 0.1 else ""
    out.line(f"Read {count(summary.lines, 'line')} ({size(summary.bytes)}) in {summary.seconds:.2f} s{speed}.")
    out.line(f"{count(summary.findings, 'finding')}, {count(summary.decisions, 'decision')}.", style="bold")
    if summary.stopped:
        out.line(f"{count(summary.stopped, 'line')} came from addresses that were banned by then.")
    if summary.late:
        out.line(f"{count(summary.late, 'line')} were too far out of order to be placed, and were not judged.")
    if summary.no_address:
        out.line(f"{count(summary.no_address, 'line')} named no client address, or only a trusted proxy.")
    if summary.evicted:
        out.line(f"{count(summary.evicted, 'address', 'addresses')} had to be forgotten early: too many at once.")
    if summary.unparsed:
        out.line(
            f"{count(summary.unparsed, 'line')} of those looked at fitted no format, for instance:", style="yellow"
        )
        for source, samples in job.pipeline.engine.samples.items():
            for line, text, reason in samples:
                out.line(f"  {source}:{line}: {reason}")
                out.line(f"    {text}")
    for source, reading in job.readings.known.items():
        if reading.format is not None and reading.share < 1:
            out.line(f"{source}: read as {reading.format.name}, which {reading.share:.0%} of its first lines fit.")


def _say_troubles(out: Output, job: Replay) -> None:
    for source, reading in job.readings.known.items():
        if reading.format is None and not job.pipeline.reads(source):
            out.note(
                f"{source}: no known format fits its lines (the best fits {reading.share:.0%}); name one with --format"
            )
    for rule in job.pipeline.rules.values():
        for regex in rule.filter.set_aside if rule.filter else ():
            out.note(f"{rule.rule.id}: {SET_ASIDE}: {regex}")
    for trouble in job.troubles:
        out.note(str(trouble))


def _exit_code(job: Replay, summary: Summary) -> int:
    codes = [OF_SOURCE[trouble.kind] for trouble in job.troubles]
    if codes:
        return DATA if DATA in codes else codes[0]
    known = job.readings.known
    strange = [source for source, each in known.items() if each.format is None and not job.pipeline.reads(source)]
    return DATA if summary.lines and known and len(strange) == len(known) else 0
