"""The command line as typer sees it: every command, or only those asked for, since importing costs time."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import wraps
from importlib import import_module
from typing import Annotated, Any

import typer

from tocsin import __version__
from tocsin.cli.output import reader_may_leave

COMMANDS = {
    "guard": "guard",
    "replay": "replay",
    "explain": "explain",
    "status": "status",
    "bans": "bans",
    "ban": "ban",
    "unban": "ban",
    "why": "why",
    "normal": "normal",
    "rules": "rules",
    "check": "check",
    "setup": "web",
    "fail2ban": "fail2ban",
}
"""Every command, in the order of `--help`, and the file that it lives in."""

EPILOG = "Start with `tocsin check`, then `tocsin guard --observe`. Documentation: docs/commands.md."


def application(names: Sequence[str]) -> typer.Typer:
    """The command line with these of its commands."""
    app = typer.Typer(name="tocsin", rich_markup_mode=None, no_args_is_help=True, epilog=EPILOG)

    @app.callback()
    def tocsin(
        *,
        _version: Annotated[
            bool, typer.Option("--version", help="Print the version and leave.", callback=_print_version, is_eager=True)
        ] = False,
    ) -> None:
        """Bans attackers in the kernel's firewall within milliseconds of the log line that gives them away.

        \b
        Example:  sudo tocsin guard
        """

    for name in names:
        import_module(f"tocsin.cli.{COMMANDS[name]}").register(app, name, guarded)
    return app


def guarded(function: Callable[..., Any]) -> Callable[..., Any]:
    """A command that leaves quietly when nobody reads its output any more."""

    @wraps(function)
    def run(**arguments: Any) -> Any:
        with reader_may_leave():
            return function(**arguments)

    return run


def run(arguments: Sequence[str]) -> None:
    """Find the command and run it; ends with SystemExit."""
    asked = arguments[:1] if arguments and arguments[0] in COMMANDS else list(COMMANDS)
    if "_TOCSIN_COMPLETE" in os.environ:
        asked = list(COMMANDS)
    typer.main.get_command(application(asked)).main(list(arguments), prog_name="tocsin")


def _print_version(wanted: bool) -> None:  # noqa: FBT001  typer calls it so
    if wanted:
        print(f"tocsin {__version__}")
        raise typer.Exit
