"""`tocsin ban` and `tocsin unban`: by hand, on the running guard, at once."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import failure, options
from tocsin.cli.failure import Failure
from tocsin.cli.output import Output
from tocsin.cli.words import count, span

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add one of the two commands."""
    app.command(name)(guarded({"ban": ban, "unban": unban}[name]))


def ban(
    *,
    subjects: Annotated[list[str], typer.Argument(metavar="SUBJECT", help="Addresses or prefixes; no names.")],
    span_text: Annotated[
        str | None,
        typer.Option(
            "--for", metavar="DURATION", help='How long: "90s", "10m", "66h40m", "1d12h". Default: [bans] default.'
        ),
    ] = None,
    forever: Annotated[bool, typer.Option("--forever", help="For good.")] = False,
    force: Annotated[bool, typer.Option("--force", help="Even where it hits a router, name server or login.")] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Ban addresses or prefixes by hand, at once.

    The running guard puts them into the firewall. An IPv6 address stands for its /64. What this
    machine itself needs is refused.

    \b
    Examples:  sudo tocsin ban 192.0.2.7 --for 1d
               sudo tocsin ban 2001:db8:1:2::/64 192.0.2.0/24 --forever
    """
    from tocsin.cli.asking import ask, subject_of  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    if forever and span_text is not None:
        raise Failure(failure.USAGE, "--for and --forever exclude each other; give one of them")
    seconds = _seconds(span_text) if span_text is not None else None
    wanted = [subject_of(text) for text in subjects]
    loaded = configuration(config)
    if span_text is None and not forever:
        seconds = loaded.bans.default_s
    out = Output(as_json=as_json)
    failed: list[Failure] = []
    for subject in wanted:
        try:
            reply = ask(loaded, {"cmd": "ban", "subject": subject, "seconds": seconds, "force": force})
        except Failure as refused:
            if refused.code == failure.UNAVAILABLE:
                raise
            failed.append(refused)
            continue
        if as_json:
            out.json(reply)
        else:
            _show_ban(out, subject, seconds, reply)
        if reply["receipt"] is not None and not reply["receipt"]["ok"]:
            failed.append(Failure(failure.UNAVAILABLE, f"{subject}: the firewall refused: {reply['receipt']['error']}"))
    out.flush()
    _raise(failed)


def unban(
    *,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="SUBJECT", help="Addresses or prefixes; no names.")
    ] = None,
    every: Annotated[bool, typer.Option("--all", help="Lift every ban in force.")] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Lift bans by hand, at once.

    Every ban is lifted because of which an address cannot get through: its own, and those of prefixes that hold it.

    \b
    Examples:  sudo tocsin unban 192.0.2.7
               sudo tocsin unban --all
    """
    from tocsin.cli.asking import subject_of  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    if every == bool(subjects):
        raise Failure(failure.USAGE, "name the addresses to unban, or --all; `tocsin bans` lists them")
    for text in subjects or ():
        subject_of(text)
    loaded = configuration(config)
    out = Output(as_json=as_json)
    failed: list[Failure] = []
    for request in (
        [{"cmd": "unban", "all": True}] if every else [{"cmd": "unban", "subject": text} for text in subjects or ()]
    ):
        failed += _unban(out, loaded, request)
    out.flush()
    _raise(failed)


def _unban(out: Output, config: Config, request: dict[str, Any]) -> list[Failure]:
    from tocsin.cli.asking import ask  # noqa: PLC0415  see main

    reply = ask(config, request)
    lifted = reply["lifted"]
    if out.as_json:
        out.json(reply)
    elif not lifted:
        out.line("No ban is in force." if request.get("all") else f"{request['subject']} is not banned.")
    elif len(lifted) > 20:
        out.line(f"{count(len(lifted), 'ban')} lifted.")
    for subject in lifted if len(lifted) <= 20 else ():
        out.line(f"{subject} is unbanned.")
    return [
        Failure(failure.UNAVAILABLE, f"{receipt['subject']}: the firewall refused: {receipt['error']}")
        for receipt in reply["receipts"]
        if not receipt["ok"]
    ]


def _seconds(text: str) -> float:
    from tocsin.duration import parse_duration_s  # noqa: PLC0415  see main
    from tocsin.model import MAX_BAN_S  # noqa: PLC0415  see main

    try:
        seconds = parse_duration_s(float(text) if text.replace(".", "", 1).isdigit() else text)
    except ValueError as error:
        raise Failure(failure.USAGE, f"--for: {error}; for good is --forever") from error
    if not 1 <= seconds <= MAX_BAN_S:
        bounds = f"one second to {MAX_BAN_S // 86400}d"
        raise Failure(failure.USAGE, f"--for: expected {bounds}, got {text!r}; for good is --forever")
    return seconds


def _show_ban(out: Output, subject: str, seconds: float | None, reply: dict[str, Any]) -> None:
    receipt, held = reply["receipt"], reply["decision"].get("held")
    if held:
        out.line(f"{subject} would be banned {_for(seconds)}, but the guard holds it back: {held}", style="yellow")
    elif receipt is None:
        out.line(
            f"{subject} is banned {_for(seconds)}; the firewall has not confirmed it yet (`tocsin why {subject}`)."
        )
    elif receipt["ok"]:
        ended = receipt["sockets_destroyed"]
        more = f", {count(ended, 'open connection')} ended" if ended else ""
        out.line(f"{subject} is banned {_for(seconds)}{more}.")


def _for(seconds: float | None) -> str:
    return "for good" if seconds is None else f"for {span(seconds)}"


def _raise(failed: list[Failure]) -> None:
    """All that failed, with the code of the first."""
    if failed:
        raise Failure(failed[0].code, *(line for each in failed for line in each.lines))
