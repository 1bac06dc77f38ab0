"""`tocsin normal`: what guard has learnt of this site's ordinary traffic, and holds an excess against."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output
from tocsin.cli.words import age, count

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config
    from tocsin.detect.asked import Kind
    from tocsin.detect.normal import Class, Normal

SHOWN = 30
DAY_S = 86400.0
REFERERS = {"no referer": "none", "own referer": "own", "referer": "other"}


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(normal))


def normal(
    *,
    like: Annotated[
        str, typer.Option("--class", metavar="TEXT", help="Only classes with this in site, method, path or agents.")
    ] = "",
    every: Annotated[bool, typer.Option("--all", help=f"All classes, not the {SHOWN} busiest.")] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Show what guard has learnt of ordinary traffic.

    By class of requests: how many, by whom, how dear, when. A class far above this is a siege (docs/crowd.md). Read
    from the ledger, so it works without a running guard too.

    \b
    Examples:  tocsin normal
               tocsin normal --class xmlrpc
    """
    from tocsin.cli.asking import ledger_of, status_of  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    loaded = configuration(config)
    out = Output(as_json=as_json)
    with ledger_of(loaded) as reader:
        known = _read(reader.normal())
    now_ts = time.time()
    running, absent = status_of(loaded)
    if as_json:
        out.json(_document(known, like, now_ts, loaded, None if running is None else running["since_ts"]))
        out.flush()
        return
    if not loaded.contrast.enabled:
        out.note("[contrast] enabled is false: guard learns nothing, and meets no siege")
    _show(out, known, now_ts, None if running is None else running["since_ts"])
    if known.classes:
        rows = _classes(known, like)
        _show_classes(out, rows if every else rows[:SHOWN], now_ts, left=0 if every else len(rows[SHOWN:]))
    if running is None:
        out.note(absent)


def _read(state: bytes | None) -> Normal:
    """What the ledger holds; nothing yet is a memory that knows nothing."""
    import msgspec  # noqa: PLC0415  see main

    from tocsin.cli.failure import DATA, Failure  # noqa: PLC0415  see main
    from tocsin.detect.normal import Normal  # noqa: PLC0415  see main

    known = Normal()
    try:
        if state is not None:
            known.load(state)
    except (msgspec.MsgspecError, ValueError) as error:
        raise Failure(DATA, f"what the ledger holds of normal traffic cannot be read ({error})") from error
    return known


def _classes(known: Normal, like: str) -> list[tuple[Kind, Class, float]]:
    """The classes with the text in them and their requests a day, the busiest first. What has not been seen lately has
    faded since, as the whole has.
    """
    from tocsin.detect.normal import HALF_LIFE_S  # noqa: PLC0415  see main

    latest_ts = max((each.last_ts for each in known.classes.values()), default=0.0)
    rows = [
        (kind, each, each.requests * 0.5 ** ((latest_ts - each.last_ts) / HALF_LIFE_S) / known.seconds * DAY_S)
        for kind, each in known.classes.items()
        if like.casefold() in " ".join(kind).casefold()
    ]
    return sorted(rows, key=lambda row: (-row[2], row[0]))


# -- people ------------------------------------------------------------------------------------------------------------


def _show(out: Output, known: Normal, now_ts: float, since_ts: float | None) -> None:
    from tocsin.detect.normal import LEARNT_AFTER_S, LEAST_VISITORS  # noqa: PLC0415  see main

    if known.learnt:
        out.line(
            f"Learnt, from {age(known.seconds)} of traffic; what is old fades, half of it in a week.", style="bold"
        )
    else:
        since = "" if since_ts is None else f" since {out.when(since_ts)}"
        out.line(
            f"Still learning{since}: {age(known.seconds)} of {age(LEARNT_AFTER_S)} and {len(known.visitors)} of "
            f"{LEAST_VISITORS} visitors so far. Until then no siege is noticed; the rules work.",
            style="yellow",
        )
    if known.seconds:
        a_minute, factor = known.strangers / known.seconds * 60, known.hour_factor(now_ts)
        usual = "" if factor == 1 else f"; this hour of the week has {factor:.2g} times the mean"
        out.line(
            f"{count(len(known.visitors), 'visitor')} and {count(len(known.classes), 'class', 'classes')} of requests "
            f"remembered; strangers send {a_minute:.3g} requests a minute{usual}."
        )
        if known.evicted:
            out.line(f"Made room: {known.evicted:,} values and classes that were seldom asked for are forgotten.")


def _show_classes(out: Output, rows: list[tuple[Kind, Class, float]], now_ts: float, *, left: int) -> None:
    out.line()
    out.table(
        (
            *("site", "method", "path", "protocol", "agents", "referer", "a day", "by visitors", "takes", "addresses"),
            *("last seen", "busiest"),
        ),
        [_row(out, *row, now_ts) for row in rows],
        right=("a day", "by visitors", "takes", "addresses"),
    )
    if left:
        out.line(f"{count(left, 'more class', 'more classes')}; --all shows them, --class TEXT looks for some.")
    elif not rows:
        out.line("No class of requests is like that.")


def _row(out: Output, kind: Kind, known: Class, a_day: float, now_ts: float) -> tuple[str, ...]:
    site, method, path, agents, protocol, contact = kind
    takes_s = _takes_s(known)
    return (
        site,
        method,
        path,
        protocol,
        agents,
        REFERERS.get(contact, contact),
        f"{a_day:,.0f}" if a_day >= 10 else f"{a_day:.2g}",
        f"{_by_visitors(known):.0%}",
        "" if takes_s is None else f"{takes_s * 1000:,.0f} ms",
        f"~{known.distinct():,}",
        f"{age(max(0.0, now_ts - known.last_ts))} ago",
        _hour_text(out, _busiest(known), now_ts),
    )


def _hour_text(out: Output, hour: int | None, now_ts: float) -> str:
    """An hour of the week as it is called where times are shown."""
    from tocsin.detect.normal import hour_of  # noqa: PLC0415  see main

    if hour is None:
        return ""
    ts = (now_ts // 3600 + hour - hour_of(now_ts)) * 3600
    zone = out.zone if out.zone is not None or out.terminal else UTC
    return datetime.fromtimestamp(ts, UTC).astimezone(zone).strftime("%a %H:%M")


# -- figures -----------------------------------------------------------------------------------------------------------


def _by_visitors(known: Class) -> float:
    return known.visitors / known.requests if known.requests else 0.0


def _takes_s(known: Class) -> float | None:
    """What a request takes, where that is logged."""
    return known.cost_s / known.requests if known.cost_s and known.requests else None


def _busiest(known: Class) -> int | None:
    """The hour of the week with the most requests; of several the first."""
    return min(known.hours, key=lambda hour: (-known.hours[hour], hour), default=None)


def _document(known: Normal, like: str, now_ts: float, config: Config, since_ts: float | None) -> dict[str, Any]:
    from tocsin.detect.normal import LEARNT_AFTER_S, LEAST_VISITORS  # noqa: PLC0415  see main

    return {
        "enabled": config.contrast.enabled,
        "learnt": known.learnt,
        "learnt_s": known.seconds,
        "visitors": len(known.visitors),
        "needs_s": LEARNT_AFTER_S,
        "needs_visitors": LEAST_VISITORS,
        "guard_since_ts": since_ts,
        "strangers_a_minute": known.strangers / known.seconds * 60 if known.seconds else 0.0,
        "hour_factor": known.hour_factor(now_ts),
        "evicted": known.evicted,
        "classes": [
            {
                "site": kind[0],
                "method": kind[1],
                "path": kind[2],
                "agents": kind[3],
                "protocol": kind[4],
                "referer": REFERERS.get(kind[5], kind[5]),
                "requests_a_day": a_day,
                "by_visitors": _by_visitors(each),
                "duration_s": _takes_s(each),
                "addresses": each.distinct(),
                "first_ts": each.first_ts,
                "last_ts": each.last_ts,
                "busiest_hour": _busiest(each),
            }
            for kind, each, a_day in _classes(known, like)
        ],
    }
