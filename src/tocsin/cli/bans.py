"""`tocsin bans`: who is banned."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output
from tocsin.cli.words import count, size, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.ledger.reader import Ban
    from tocsin.model import Decision

SHOWN = 1000  # newest decisions that `--all` looks at


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(bans))


def bans(
    *,
    every: Annotated[
        bool, typer.Option("--all", help=f"The newest {SHOWN:,} decisions too: ended, held and lifted ones.")
    ] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """List the bans in force, newest first.

    Each with its rule and what it has stopped. Read from the ledger, so it works without a running guard too.

    \b
    Examples:  tocsin bans
               tocsin bans --json | head
    """
    from tocsin.cli.asking import ledger_of, status_of  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    loaded = configuration(config)
    out = Output(as_json=as_json)
    now_ts = time.time()
    with ledger_of(loaded) as reader:
        active = reader.bans(now_ts)
        decisions = reader.decisions(SHOWN) if every else []
    if as_json:
        for each in active:
            out.json({"ban": each})
        for decision in decisions:
            out.json({"decision": decision})
        out.flush()
        return
    closes, folded = any(each.services for each in active), _folded(active)
    rows = [
        (*_ban_row(out, each, now_ts, closes=closes), *((folded.get(each.target, ""),) if folded else ()))
        for each in active
    ]
    out.table(
        (
            *("since", "banned", *(("closes",) if closes else ()), "still", "rule", "time", "stopped", ""),
            *(("folded into",) if folded else ()),
        ),
        rows,
        right=("time", "stopped", ""),
    )
    out.line(f"{count(len(active), 'ban')} in force. `tocsin why ADDRESS` tells why.")
    if every:
        _show_decisions(out, decisions)
    running, absent = status_of(loaded)
    if running is None:
        out.note(f"{absent}. What the kernel holds stays in force until it ends, and nobody is banned anew")
    elif running["observe"]:
        out.note(f"the guard only observes ({running['why_observing']}): these bans are not in the kernel")


def _folded(active: list[Ban]) -> dict[str, str]:
    """The targets that lie in a network that is banned too, and the widest such network."""
    from tocsin.decide.bantable import BanTable  # noqa: PLC0415  see main
    from tocsin.model import is_host  # noqa: PLC0415  see main

    networks = BanTable(len(active))
    for ban in active:
        if not is_host(ban.subject):
            networks.put(ban.subject, ban.end_ts, ban.start_ts)
    if not len(networks):
        return {}
    holders = {ban.target: [each for each in networks.holders(ban.subject) if each != ban.subject] for ban in active}
    return {target: found[-1] for target, found in holders.items() if found}


def _ban_row(out: Output, ban: Ban, now_ts: float, *, closes: bool) -> tuple[str, ...]:
    left_s = None if ban.end_ts is None else max(1.0, ban.end_ts - now_ts)
    stopped = f"{ban.packets:,} packets" if ban.packets else ""
    who = ban.rule or f"({ban.origin})"
    return (
        out.when(ban.start_ts),
        ban.subject,
        *((ban.services or "everything",) if closes else ()),
        span(left_s),
        who,
        f"{ban.times}.",
        stopped,
        size(ban.bytes) if ban.bytes else "",
    )


def _show_decisions(out: Output, decisions: list[Decision]) -> None:
    out.line()
    rows = []
    for each in decisions:
        lasts_s = None if each.end_ts is None else each.end_ts - each.start_ts
        how_long = "" if each.action == "lift" else span(lasts_s)
        what = each.action if each.held is None else f"{each.action} (held)"
        rows.append(
            (
                out.when(each.start_ts),
                what,
                each.target or (each.signature.text if each.signature else ""),
                how_long,
                each.rule or f"({each.origin})",
                each.held or each.note,
            )
        )
    out.table(("when", "what", "whom", "how long", "rule", ""), rows)
