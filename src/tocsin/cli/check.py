"""`tocsin check`: whether guard can work here, each finding with its remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from tocsin.cli.item import Item

MARKS = {"ok": "ok", "warning": "note", "failed": "FAIL"}
STYLES = {"ok": "", "warning": "yellow", "failed": "bold red"}


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(check))


def check(
    *,
    config: options.ConfigFile = None,
    fail2ban: options.ListedFail2ban = None,
    selftest: Annotated[
        bool,
        typer.Option(
            "--firewall/--no-firewall",
            help="Prove with a scratch table and real packets on the loopback that a ban works.",
        ),
    ] = True,
    as_json: options.Json = False,
) -> None:
    """Check whether guard can work here.

    Looks at configuration, rules, logs, firewall, folders and clock, and says what to do. Changes nothing.
    Leaves with 0, or 78 (configuration), 77 (permission), 69 (firewall).

    \b
    Examples:  sudo tocsin check
               tocsin check --fail2ban /etc/fail2ban
    """
    from tocsin.cli.checks import every_item  # noqa: PLC0415  see main
    from tocsin.cli.failure import CONFIGURATION, NO_PERMISSION  # noqa: PLC0415  see main

    out = Output(as_json=as_json)
    items: list[Item] = []
    for item in every_item(config, fail2ban, firewall=selftest):
        items.append(item)
        if not as_json:
            _show(out, item)
    codes = {item.code for item in items if item.state == "failed"}
    code = next((code for code in (CONFIGURATION, NO_PERMISSION) if code in codes), min(codes, default=0))
    if as_json:
        out.json({"ok": not codes, "items": items})
        out.flush()
    else:
        out.line()
        out.line("All is well." if not codes else "Guard cannot do its whole work here: see above.", style="bold")
    if code:
        raise SystemExit(code)


def _show(out: Output, item: Item) -> None:
    out.line(f"{MARKS[item.state]:<5} {item.name}: {item.detail}", style=STYLES[item.state])
    if item.remedy:
        out.line(f"      -> {item.remedy}")
