"""Configuration, rules, zone and proxies for a command, or the Failure that names every mistake."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import tzinfo
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli.failure import CONFIGURATION, NO_INPUT, NO_PERMISSION, USAGE, Failure

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.formats import Proxies
    from tocsin.rules import CompiledRule, Rule


def configuration(file: Path | None) -> Config:
    """The configuration; every mistake of it at once ends the command."""
    from tocsin.config import ConfigErrors, load  # noqa: PLC0415  loaded by the commands that read one

    try:
        return load(file)
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found


def configured_rules(config: Config) -> tuple[CompiledRule, ...]:
    """The rules that are on by the configuration; every mistake at once ends the command."""
    from tocsin.config import ConfigErrors  # noqa: PLC0415  as above
    from tocsin.rules import RuleErrors  # noqa: PLC0415  as above
    from tocsin.wiring import rules_of  # noqa: PLC0415  as above

    try:
        return rules_of(config)
    except RuleErrors as found:
        raise Failure(CONFIGURATION, *map(str, found.errors)) from found
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found


def rules_with(files: Sequence[Path], ids: Sequence[str] = ()) -> tuple[Rule, ...]:
    """The shipped rules and those of the files; only the named ones, where any are named. Every mistake at once."""
    from tocsin.rules import RuleErrors, load_rules, only  # noqa: PLC0415  loaded by the commands that use rules

    for file in files:
        if not file.exists():
            raise Failure(
                NO_INPUT, f"{file}: there is no such file or folder; --rules takes a TOML file or a folder of them"
            )
    try:
        rules = load_rules(files)
    except RuleErrors as found:
        raise Failure(CONFIGURATION, *map(str, found.errors)) from found
    try:
        return only(rules, ids) if ids else rules
    except ValueError as error:
        raise Failure(USAGE, f"{error}; `tocsin rules` lists them") from error


def zone_of(name: str | None) -> tzinfo:
    """The zone of that name, or the machine's."""
    from tocsin.wiring import local_zone  # noqa: PLC0415  loaded by the commands that date lines

    try:
        return local_zone(name)
    except ValueError as error:
        raise Failure(USAGE, f"--tz: {error}" if name else f"TZ: {error}") from error


def proxies_of(texts: Sequence[str]) -> Proxies:
    """The proxies named on the command line."""
    from tocsin.formats import Proxies  # noqa: PLC0415  loaded by the commands that read logs

    try:
        return Proxies(tuple(ip_network(text, strict=False) for text in texts))
    except ValueError as error:
        raise Failure(USAGE, f"--trusted-proxy: {error}; expected an address or prefix such as 192.0.2.0/24") from error


def check_format(spec: str, proxies: Proxies) -> None:
    """Ends the command where `spec` names no log format."""
    from tocsin.formats import by_name  # noqa: PLC0415  as above

    try:
        by_name(spec, proxies)
    except ValueError as error:
        raise Failure(USAGE, f"--format: {error}") from error


def writable(path: Path) -> Failure | None:
    """Why nothing can be written into a folder (or made, where it is missing); None where it can."""
    import os  # noqa: PLC0415  here alone

    there = path
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        return Failure(CONFIGURATION, f"{there} is no folder", "name another in [guard] of the configuration")
    if not os.access(there, os.W_OK | os.X_OK):
        return Failure(
            NO_PERMISSION, f"{there} is not writable for this user", "run as root (sudo), or name another in [guard]"
        )
    return None
