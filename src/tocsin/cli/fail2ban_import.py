"""`tocsin fail2ban import`: takes over the bans that fail2ban has in force, and takes them back with `--undo`."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import failure, options
from tocsin.cli.failure import Failure
from tocsin.cli.output import Output
from tocsin.cli.words import count, span

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.fail2ban.moving.database import Database, DatabaseError
    from tocsin.fail2ban.moving.presence import Presence
    from tocsin.importing import Arrival, Taken

DEFAULT = "/etc/fail2ban"
SHOWN = 50
EXAMPLES = 3


def import_(
    *,
    database: Annotated[
        Path | None,
        typer.Option("--database", metavar="FILE", help="fail2ban's database. Default: what fail2ban.conf says."),
    ] = None,
    directory: Annotated[
        Path | None,
        typer.Option("--fail2ban", metavar="DIR", help="fail2ban's configuration. Default: /etc/fail2ban."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be taken; change nothing.")] = False,
    undo: Annotated[bool, typer.Option("--undo", help="Take back exactly what the last import brought.")] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Take over the bans that fail2ban has in force, with the time they have left.

    Besides, how often addresses were banned before, so that bans grow from there. The running guard
    takes them at once; where none runs, they go into the ledger and into force at its next start.
    fail2ban's database is only read.

    \b
    Examples:  sudo tocsin fail2ban import --dry-run
               sudo tocsin fail2ban import
               sudo tocsin fail2ban import --undo
    """
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    if undo and (dry_run or database is not None):
        raise Failure(failure.USAGE, "--undo needs neither --database nor --dry-run: it takes back the last import")
    loaded = configuration(config)
    out = Output(as_json=as_json)
    if undo:
        _undo(out, loaded)
    else:
        _import(out, loaded, directory or Path(loaded.fail2ban.path or DEFAULT), database, dry_run=dry_run)


# -- taking ----------------------------------------------------------------------------------------------------------


class _Tally:
    """What came of all that was offered."""

    def __init__(self) -> None:
        self.bans: list[Arrival] = []  # the first of them, for people
        self.number = 0
        self.earlier = 0
        self.left: dict[str, tuple[int, list[str]]] = {}

    def took(self, arrival: Arrival) -> None:
        """Count one that was taken."""
        if not arrival.in_force:
            self.earlier += 1
            return
        self.number += 1
        if len(self.bans) < SHOWN:
            self.bans.append(arrival)

    def leave(self, reason: str, rows: int, examples: Sequence[str]) -> None:
        """Count some that were not."""
        before, known = self.left.get(reason, (0, []))
        self.left[reason] = before + rows, [*known, *examples][:EXAMPLES]


def _import(out: Output, config: Config, directory: Path, file: Path | None, *, dry_run: bool) -> None:
    from tocsin.fail2ban.moving.database import Database, DatabaseError  # noqa: PLC0415  see main
    from tocsin.fail2ban.moving.presence import presence  # noqa: PLC0415  see main

    there = presence(directory)
    if there.trouble:
        out.note(f"{there.trouble}; going by fail2ban's defaults")
    path = file or there.database
    if path is None:
        raise Failure(failure.NO_INPUT, f"fail2ban keeps no database (dbfile in {directory}/fail2ban.conf is None)")
    tally, now_ts = _Tally(), time.time()
    try:
        with Database(path, bantimes_s=there.bantimes_s, running=there.jails) as database:
            into, refused = _take_all(out, config, database, tally, now_ts, dry_run=dry_run)
            for reason, left in database.left_out.items():
                tally.leave(reason, left.rows, left.examples)
            _show(out, database, tally, there, now_ts, into=into, dry_run=dry_run)
    except DatabaseError as error:
        raise _failure(error) from error
    _complain(refused)


def _complain(refused: Sequence[str]) -> None:
    """End with what the firewall has refused, where it has."""
    if refused:
        more = [f"and {len(refused) - SHOWN:,} more"] if len(refused) > SHOWN else []
        first = "the firewall refused what follows; the guard will try again, and `tocsin why` tells what came of it:"
        raise Failure(failure.UNAVAILABLE, first, *refused[:SHOWN], *more)


def _failure(error: DatabaseError) -> Failure:
    return Failure(error.code, str(error))


def _take_all(
    out: Output, config: Config, database: Database, tally: _Tally, now_ts: float, *, dry_run: bool
) -> tuple[str, list[str]]:
    """Offer everything to the guard or the ledger; returns which of them it was, and what the firewall refused."""
    from tocsin.cli.fail2ban_record import Record  # noqa: PLC0415  see main
    from tocsin.cli.fail2ban_target import target_of  # noqa: PLC0415  see main

    with ExitStack() as stack:
        target = stack.enter_context(target_of(config, dry_run=dry_run))
        record = None if dry_run else stack.enter_context(Record(config, str(database.path), now_ts))
        for portion in _portions(database, now_ts, target.portion):
            taken, left = target.offer(portion)
            if record is not None:
                record.append(taken)
            reasons = dict(left)
            for number, arrival in enumerate(portion):
                reason = reasons.get(number)
                _tell(out, arrival, reason)
                if reason is None:
                    tally.took(arrival)
                else:
                    tally.leave(reason, 1, [arrival.address])
        target.finish(
            f"imported from fail2ban: {count(tally.number, 'ban')}, the earlier bans of "
            f"{count(tally.earlier, 'address', 'addresses')}"
        )
        return target.name, target.refused


def _portions(database: Database, now_ts: float, rows: int) -> Iterator[list[Arrival]]:
    """What the database knows, in portions."""
    from tocsin.importing import Arrival  # noqa: PLC0415  see main

    portion: list[Arrival] = []
    for known in database.known(now_ts):
        others = tuple(jail for jail in known.jails if jail != known.jail)
        portion.append(
            Arrival(
                *(known.address, known.jail, known.start_ts, known.end_ts, known.times, known.in_force),
                others,
                known.by_jail,
            )
        )
        if len(portion) == rows:
            yield portion
            portion = []
    if portion:
        yield portion


def _tell(out: Output, arrival: Arrival, reason: str | None) -> None:
    if out.as_json:
        row: dict[str, Any] = {
            "address": arrival.address,
            "jail": arrival.rule,
            "start_ts": arrival.start_ts,
            "end_ts": arrival.end_ts,
            "times": arrival.times,
            "in_force": arrival.in_force,
        }
        out.json({"taken": row} if reason is None else {"left": {**row, "reason": reason}})


def _show(
    out: Output, database: Database, tally: _Tally, there: Presence, now_ts: float, *, into: str, dry_run: bool
) -> None:
    if there.running:
        out.note(
            f"fail2ban still runs ({there.running}): it goes on banning by itself, and what it bans or unbans from now "
            "on is not known here. Once guard runs: systemctl disable --now fail2ban, then import again"
        )
    if out.as_json:
        out.json(
            {
                "summary": {
                    "database": str(database.path),
                    "version": database.version,
                    "into": into,
                    "dry_run": dry_run,
                    "bans": tally.number,
                    "earlier": tally.earlier,
                    "left": {reason: rows for reason, (rows, _) in tally.left.items()},
                    "fail2ban_running": bool(there.running),
                }
            }
        )
        out.flush()
        return
    _show_taken(out, tally, now_ts, dry_run=dry_run)
    out.line(
        f"{'Would take' if dry_run else 'Took'} {count(tally.number, 'ban')} in force, and the earlier bans of "
        f"{count(tally.earlier, 'more address', 'more addresses')}, from {database.path} (version {database.version}).",
        style="bold",
    )
    for reason, (rows, examples) in sorted(tally.left.items(), key=lambda item: -item[1][0]):
        named = ", ".join(examples) + (", ..." if rows > len(examples) else "")
        out.line(f"  not taken: {rows:,}: {reason}" + (f" ({named})" if named else ""))
    if dry_run:
        out.line("Nothing was changed. To take them: the same without --dry-run.")
    elif tally.number or tally.earlier:
        where = "They are in force." if into == "guard" else "They are in the ledger, and in force once guard starts."
        out.line(f"{where} `tocsin bans` lists them. To take them back: tocsin fail2ban import --undo")


def _show_taken(out: Output, tally: _Tally, now_ts: float, *, dry_run: bool) -> None:
    if tally.number > SHOWN:
        out.line(f"The first {SHOWN} of {tally.number:,}:")
    out.table(
        ("would be banned" if dry_run else "banned", "still", "jail", "time"),
        [
            (
                arrival.address,
                span(None if arrival.end_ts is None else max(1.0, arrival.end_ts - now_ts)),
                ", ".join((arrival.rule, *arrival.others)),
                f"{arrival.times}.",
            )
            for arrival in tally.bans
        ],
        right=("time",),
    )


# -- taking back -----------------------------------------------------------------------------------------------------


def _undo(out: Output, config: Config) -> None:
    from tocsin.cli.fail2ban_record import last_record  # noqa: PLC0415  see main
    from tocsin.cli.fail2ban_target import target_of  # noqa: PLC0415  see main

    lifted = total = 0
    with last_record(config) as record, target_of(config, dry_run=False) as target:
        while rows := record.last(target.portion):
            lifted += target.back(_reversed(rows))
            record.drop(len(rows))
            total += len(rows)
        target.finish(f"the import from fail2ban was undone: {count(lifted, 'ban')} ended")
        source, ts, refused = record.source, record.ts, target.refused
        record.remove()
    if out.as_json:
        out.json({"undone": {"database": source, "ts": ts, "rows": total, "lifted": lifted}})
        out.flush()
        _complain(refused)
        return
    out.line(f"Took back the import of {out.when(ts)} from {source}: {count(lifted, 'ban')} ended.", style="bold")
    if total > lifted:
        what = "had ended or changed since, or told of earlier bans alone: what is remembered is as it was before"
        out.line(f"  {count(total - lifted, 'other')} {what}")
    _complain(refused)


def _reversed(rows: Sequence[Taken]) -> list[Taken]:
    return list(reversed(rows))
