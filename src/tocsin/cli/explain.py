"""`tocsin explain`: its arguments. What it does is in `explaining`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(explain))


def explain(
    *,
    paths: Annotated[
        list[Path] | None,
        typer.Argument(
            metavar="[PATH...]",
            readable=False,  # what cannot be read is named with its own exit code, and the rest is explained
            help="Logs, folders, archives (.tar, .zip, .gz, .xz, .zst); - is standard input. "
            "None: this machine's own logs.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="FILE", help="Write a page with a picture too: one file, no network needed."),
    ] = None,
    lang: Annotated[
        str | None, typer.Option("--lang", metavar="en|fr", help="Language. Default: that of the locale.")
    ] = None,
    apply: Annotated[
        bool, typer.Option("--apply", help="Give the rule that is proposed to the running guard, after asking.")
    ] = False,
    yes: Annotated[bool, typer.Option("--yes", help="With --apply: do not ask.")] = False,
    config: options.ConfigFile = None,
    now: options.Now = None,
    tz: options.Zone = None,
    as_json: options.Json = False,
) -> None:
    """Explain why the server went down.

    Reads every log that it is given, finds the outages by itself, and says what caused each, how sure that is, which
    lines prove it, what speaks against it, and what to do. Says so where the evidence does not reach. Changes nothing,
    unless --apply is given.

    \b
    Examples:  sudo tocsin explain
               tocsin explain /var/log/apache2 /var/log/syslog --html why.html
               tocsin explain --lang fr --tz Europe/Paris saved-logs/
    """
    from tocsin.cli.explaining import run  # noqa: PLC0415  `--help` needs no engine

    run(
        paths=paths or (),
        html=html,
        lang=lang,
        now=now,
        tz=tz,
        as_json=as_json,
        apply=apply or yes,
        yes=yes,
        config=config,
    )
