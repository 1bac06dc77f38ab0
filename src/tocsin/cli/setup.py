"""Configuration, rules, zone and proxies for a command, or the Failure that names every mistake."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import tzinfo
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli.failure import CONFIGURATION, NO_INPUT, NO_PERMISSION, USAGE, Failure

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.fail2ban.model import Remark
    from tocsin.fail2ban.rules import Jailed
    from tocsin.formats import Proxies
    from tocsin.rules import CompiledRule, Rule


def configuration(file: Path | None, fail2ban: Path | None = None) -> Config:
    """The configuration, with the jails of `fail2ban` in place of its own; every mistake at once ends the command."""
    from msgspec import structs  # noqa: PLC0415  as below

    from tocsin.config import ConfigErrors, load  # noqa: PLC0415  loaded by the commands that read one

    try:
        config = load(file)
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found

    if fail2ban is None:
        return config
    return structs.replace(config, fail2ban=structs.replace(config.fail2ban, path=str(fail2ban.absolute())))


def configured_jails(config: Config) -> Jailed | None:
    """The jails that are on by the configuration, None where it names no fail2ban; one that cannot be read ends the
    command, what there is to remark goes to stderr.
    """
    from tocsin.config import ConfigErrors  # noqa: PLC0415  loaded by the commands that read one
    from tocsin.wiring import jails_of  # noqa: PLC0415  as above

    try:
        jailed = jails_of(config)
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found
    if jailed is not None:
        say_remarks(jailed.errors)
    return jailed


def say_remarks(remarks: Iterable[Remark]) -> None:
    """Name on stderr the jails that cannot run, or not as configured."""
    import sys  # noqa: PLC0415  here alone

    from tocsin.fail2ban.rules import remark_text  # noqa: PLC0415  as above

    for remark in remarks:
        print(f"tocsin: {remark_text(remark)}", file=sys.stderr)


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


def all_rules(
    files: Sequence[Path],
    ids: Sequence[str],
    fail2ban: Path | None,
    jails: Sequence[str],
    zone: tzinfo,
    logs: Sequence[Path],
) -> tuple[list[CompiledRule], dict[str, tuple[str, ...]]]:
    """The rules that are on (shipped, of the files) and the jails of a fail2ban directory; only those of `ids`, where
    there are any. With `jails` just these, without the shipped rules. Besides, which jails read what of the journal.
    Every mistake at once ends the command.
    """
    from tocsin.rules import compile_rule, load_shipped  # noqa: PLC0415  loaded by the commands that use rules

    if fail2ban is None:
        if jails:
            raise Failure(USAGE, "--jail names a jail of --fail2ban DIR; add --fail2ban /etc/fail2ban")
        return [compile_rule(rule) for rule in rules_with(files, ids) if rule.enabled], {}
    jailed = jails_of(fail2ban, jails, zone, {rule.id for rule in load_shipped()}, [str(log) for log in logs])
    found, wanted = jailed.rules, {rule.rule.id for rule in jailed.rules}
    others = [name for name in ids if name not in wanted]
    own = () if (jails or ids) and not (others or files) else rules_with(files, others)
    if jails and not others:
        own = tuple(rule for rule in own if not rule.shipped)
    chosen = [rule for rule in found if not ids or rule.rule.id in ids]
    return chosen + [compile_rule(rule) for rule in own if rule.enabled], jailed.journal_readers


def jails_of(
    directory: Path, names: Sequence[str], zone: tzinfo, taken: set[str], sources: Sequence[str] | None = None
) -> Jailed:
    """The jails of a fail2ban directory with their rules. What there is to remark goes to stderr; where one that was
    named cannot run, or none can, the command ends.

    `sources`: the logs that are read; those that no jail's `logpath` names are given to all jails.
    """
    from tocsin.config import ConfigErrors  # noqa: PLC0415  loaded by the commands that read one
    from tocsin.fail2ban.rules import not_asked, remark_text, rules_of  # noqa: PLC0415  as above
    from tocsin.fail2ban.settings.loader import load  # noqa: PLC0415  as above
    from tocsin.wiring import service_port  # noqa: PLC0415  as above

    try:
        loaded = load(directory, names)
    except ConfigErrors as found:
        raise Failure(CONFIGURATION, *(error.render() for error in found.errors)) from found
    jailed = rules_of(loaded, zone, taken, sources, service_port)
    errors = [remark_text(remark) for remark in jailed.errors]
    if errors and (names or not jailed.rules):
        raise Failure(CONFIGURATION, *errors)
    if not jailed.rules:
        raise Failure(
            CONFIGURATION, f"{directory}: no jail is enabled; name one with --jail, or set enabled = true in jail.local"
        )
    say_remarks([*jailed.errors, *(not_asked(jailed.jails) if sources is not None else ())])
    return jailed


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
