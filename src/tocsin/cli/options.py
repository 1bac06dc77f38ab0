"""Options that several commands share, so that they are called and explained the same everywhere."""

from __future__ import annotations

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
Now = Annotated[
    float | None,
    typer.Option(
        "--now",
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
