"""`tocsin status`: how the running guard is."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output
from tocsin.cli.words import age, count, size

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config
    from tocsin.ledger.reader import Summary


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(status))


def status(*, config: options.ConfigFile = None, as_json: options.Json = False) -> None:
    """Show how the running guard is.

    What it watches, what it counted, how many bans are in force, what troubles it. Leaves with 69 where no
    guard runs, after saying what its ledger knows.

    \b
    Example:  sudo tocsin status
    """
    from tocsin.cli.asking import status_of  # noqa: PLC0415  see main
    from tocsin.cli.failure import UNAVAILABLE  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    loaded = configuration(config)
    out = Output(as_json=as_json)
    state, absent = status_of(loaded)
    summary, unread = _summary(loaded)
    if as_json:
        out.json({"running": state is not None, "guard": state, "why_not": absent or None, "ledger": summary})
        out.flush()
    elif state is not None:
        _show(out, state)
    else:
        out.note(absent)
    if not as_json:
        if summary is not None:
            _show_ledger(out, summary)
        else:
            out.note(unread)
    if state is None:
        raise SystemExit(UNAVAILABLE)


def _summary(config: Config) -> tuple[Summary | None, str]:
    """What the ledger knows, or why it cannot be asked."""
    from tocsin.cli.asking import ledger_of  # noqa: PLC0415  see main
    from tocsin.cli.failure import Failure  # noqa: PLC0415  see main

    try:
        with ledger_of(config) as reader:
            return reader.summary(time.time()), ""
    except Failure as failure:
        return None, failure.lines[0]


def _show(out: Output, state: dict[str, Any]) -> None:
    lasted_s = state["now_ts"] - state["since_ts"]
    out.line(
        f"guard {state['version']} runs (pid {state['pid']}) since {out.when(state['since_ts'])}, {age(lasted_s)}",
        style="bold",
    )
    if state["observe"]:
        out.line(f"It only observes: {state['why_observing']}", style="yellow")
    elif not state["enforcer"]["ok"]:
        out.line(f"The firewall fails: {state['enforcer']['error']}", style="bold red")
    for breaker in state["breakers"]:
        out.line(f"Stopped banning: {breaker['text']}", style="bold red")
    if state["ledger"]["trouble"]:
        out.line(f"Ledger: {state['ledger']['trouble']}", style="bold red")
    out.line()
    out.table(
        ("log", "format", "fits", "size", "behind", ""),
        [_source_row(each) for each in state["sources"]],
        right=("fits", "size", "behind"),
    )
    if not state["sources"]:
        out.line("It watches no log; name some under [[log]] in the configuration.", style="yellow")
    _show_counts(out, state)
    _show_contrast(out, state["contrast"])
    _show_sieges(out, state["sieges"])
    if state.get("actions"):
        _show_actions(out, state["actions"])
    for sample in state["unparsed_samples"]:
        out.line(f"  unparsed {sample['source']}:{sample['line']}: {sample['reason']}")
        out.line(f"    {sample['text']}")
    for notice in state["notices"]:
        out.line(f"  {out.when(notice['ts'])} {notice['kind']} {notice['source']}: {notice['text']}")


def _source_row(source: dict[str, Any]) -> tuple[str, ...]:
    share = source["share"]
    behind = None if source["size_bytes"] is None else max(0, source["size_bytes"] - source["offset"])
    return (
        source["source"],
        source["format"] or "not known yet",
        f"{share:.0%}" if share is not None else "",
        size(source["size_bytes"]),
        size(behind),
        "" if source["readable"] else source["why"] or "not readable",
    )


def _show_counts(out: Output, state: dict[str, Any]) -> None:
    counts, bans, latency = state["counts"], state["bans"], state["ban_latency_ms"]
    out.line(
        f"{count(counts['lines'], 'line')} ({size(counts['bytes'])}) read; {counts['unparsed']:,} fitted no format, "
        f"{counts['stopped']:,} from banned addresses, {counts['late']:,} late, "
        f"{counts['no_address']:,} without an address"
    )
    out.line(
        f"{count(state['rules']['enabled'], 'rule')} on, {count(counts['findings'], 'finding')}; "
        f"{count(bans['active'], 'ban')} in force, {count(bans['remembered'], 'subject')} remembered"
    )
    if bans["evicted"] or state["evicted"]:
        out.line(
            f"Made room: {count(bans['evicted'], 'ban')} lifted early, {count(state['evicted'], 'count')} let go early",
            style="yellow",
        )
    if latency["count"]:
        took = f"half within {latency['p50']:g} ms, 99% within {latency['p99']:g} ms"
        out.line(f"From line to kernel: {took} ({count(latency['count'], 'ban')})")


def _show_contrast(out: Output, contrast: dict[str, Any]) -> None:
    """Whether guard knows what is normal, and how much it looks at."""
    if not contrast["enabled"]:
        out.line("Contrast is off: no siege is noticed", style="yellow")
        return
    if contrast["learnt"]:
        text = f"normal traffic is known from {age(contrast['learnt_s'])} and {count(contrast['visitors'], 'visitor')}"
    else:
        text = (
            f"still learning what is normal, {age(contrast['learnt_s'])} of {age(contrast['needs_s'])} and "
            f"{contrast['visitors']} of {contrast['needs_visitors']} visitors so far"
        )
    suffers = "; the machine suffers, so half as much is enough" if contrast["suffering"] else ""
    looks = "all addresses are" if contrast["share"] == 1 else f"one address in {1 / contrast['share']:.0f} is"
    out.line(f"Contrast: {text}; {looks} looked at{suffers}")


def _until_ts(siege: dict[str, Any]) -> float | None:
    """Until when the web server does something about a siege, if nobody renews it."""
    turned_away: float | None = siege["turned_away_until_ts"]
    asked: float | None = siege["asked_until_ts"]
    return turned_away or asked


def _show_sieges(out: Output, sieges: list[dict[str, Any]]) -> None:
    """The sieges that last, then those that were left lately."""
    lasting = [each for each in sieges if each["left_ts"] is None]
    if lasting:
        out.line("Under siege, by requests of strangers:", style="bold red")
    out.table(
        ("what", "since", "a minute", "normal", "spares", "done"),
        [
            (
                each["class"],
                out.when(each["since_ts"]),
                f"{each['requests_a_minute']:,.0f}",
                f"{each['normal_a_minute']:,.2g}",
                f"{each['spared']:,}",
                each["done"] + (f" (until {out.when(until_ts)})" if (until_ts := _until_ts(each)) else ""),
            )
            for each in lasting
        ],
        right=("a minute", "normal", "spares"),
    )
    for each in sieges:
        if each["left_ts"] is not None:
            out.line(f"Siege over: {each['class']}, {out.when(each['since_ts'])} to {out.when(each['left_ts'])}")
    if sieges:
        out.line("`tocsin why sieges` tells why.")


def _show_actions(out: Output, actions: dict[str, Any]) -> None:
    """What becomes of the actions of fail2ban's jails that are no bans."""
    if not actions["ok"]:
        out.line("The runner of the jails' actions does not answer: none of them runs", style="bold red")
    else:
        out.line(f"{count(actions['running'], 'other action')} of jails run as {actions['user']}")
    left = [(actions["waiting"], "waiting"), (actions["dropped"], "dropped"), (actions["unsent"], "not handed over")]
    if any(number for number, _ in left):
        out.line(f"  bans and unbans for them: {', '.join(f'{number:,} {what}' for number, what in left)}")
    for note in actions["notes"]:
        out.line(f"  {note}")
    for report in actions["reports"]:
        more = f" ({report['more']:,} more like this)" if report["more"] else ""
        out.line(f"  {out.when(report['ts'])} {report['text']}{more}")


def _show_ledger(out: Output, summary: Summary) -> None:
    out.line(
        f"Ledger ({size(summary.file_bytes)}): {count(summary.active, 'ban')} in force ({summary.for_good:,} for "
        f"good), {count(summary.decisions, 'decision')}, {count(summary.findings, 'finding')}; bans in force have "
        f"stopped {count(summary.stopped_packets, 'packet')} ({size(summary.stopped_bytes)})"
    )
