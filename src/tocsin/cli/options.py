"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

Json = Annotated[bool, typer.Option("--json", help="Print JSON (docs/json.md) instead of text for people.")]
ConfigFile = Annotated[
    Path | None,
    typer.Option("--config", metavar="FILE", help="Configuration to use in place of /etc/tocsin/tocsin.toml."),
]
RuleFiles = Annotated[
    list[Path] | None,
    typer.Option("--rules", metavar="FILE|DIR", help="Add the rules of a file, or of a folder's *.toml. Repeatable."),
]
Fail2ban = Annotated[
    Path | None,
    typer.Option("--fail2ban", metavar="DIR", help="Run the jails of this fail2ban configuration, as /etc/fail2ban."),
]
ListedFail2ban = Annotated[
    Path | None,
    typer.Option(
        "--fail2ban", metavar="DIR", help="Beside the rules, the jails of this fail2ban configuration: /etc/fail2ban."
    ),
]
EPOCH_MAX = 99_999_999_999.0  # in the year 5138


def _epoch(text: str) -> float:
    with suppress(ValueError):
        if 0.0 <= float(text) <= EPOCH_MAX:
            return float(text)
    raise typer.BadParameter(f"expected Unix seconds, 0 to {EPOCH_MAX:.0f}, got {text!r:.40}")


Now = Annotated[
    float | None,
    typer.Option(
        "--now",
        parser=_epoch,
        metavar="EPOCH",
        help="Unix seconds from which years that stamps lack are told. Default: each file's modification time.",
    ),
]
Zone = Annotated[
    str | None,
    typer.Option(
        "--tz", metavar="ZONE", help="Zone of stamps that name none, such as Europe/Paris. Default: this machine's."
    ),
]
