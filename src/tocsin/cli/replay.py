"""`tocsin replay`: its arguments. What it does is in `replaying`, which starts without typer (see `quick`)."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options

if TYPE_CHECKING:
    from collections.abc import Callable


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(replay))


def replay(
    *,
    logs: Annotated[
        list[Path],
        typer.Argument(metavar="LOG", readable=False, help="Log files, also .gz, .xz, .zst; - is standard input."),
    ],
    rules: options.RuleFiles = None,
    only: Annotated[
        list[str] | None, typer.Option("--only", metavar="RULE", help="Use just this rule, by its id. Repeatable.")
    ] = None,
    fail2ban: options.Fail2ban = None,
    jails: Annotated[
        list[str] | None,
        typer.Option(
            "--jail", metavar="NAME", help="Of --fail2ban, just this jail, be it enabled or not, and no shipped rule."
        ),
    ] = None,
    log_format: Annotated[
        str | None,
        typer.Option(
            "--format",
            metavar="SPEC",
            help="Format: combined, caddy, 'apache %h ...', 'nginx $remote_addr ...'. Default: told by the lines.",
        ),
    ] = None,
    trusted_proxy: Annotated[
        list[str] | None,
        typer.Option(
            "--trusted-proxy", metavar="NET", help="Believe the forwarded-for header of these peers. Repeatable."
        ),
    ] = None,
    now: options.Now = None,
    tz: options.Zone = None,
    as_json: options.Json = False,
    prefilter: Annotated[
        bool,
        typer.Option("--prefilter/--no-prefilter", help="Parse only lines that can matter; the result is the same."),
    ] = True,
) -> None:
    """Show what guard would have done to finished logs.

    Time is what the logs say; nobody is banned. Nothing of this machine counts: the shipped rules and those of
    --rules judge the lines, as on a fresh installation.

    \b
    Examples:  tocsin replay /var/log/apache2/access.log
               tocsin replay --rules mine.toml --only my-rule --json access.log.*
               tocsin replay --fail2ban /etc/fail2ban --jail sshd /var/log/auth.log
    """
    from tocsin.cli.replaying import run  # noqa: PLC0415  `--help` needs no engine

    run(
        logs=logs,
        rules=rules or (),
        only=only or (),
        fail2ban=fail2ban,
        jails=jails or (),
        log_format=log_format,
        trusted_proxy=trusted_proxy or (),
        now=now,
        tz=tz,
        as_json=as_json,
        prefilter=prefilter,
    )
