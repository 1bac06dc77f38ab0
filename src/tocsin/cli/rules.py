"""`tocsin rules`: the rules in sentences; `rules test` and `rules reset` beside it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output
from tocsin.cli.words import count

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config
    from tocsin.rules import Rule


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command and those below it."""
    from tocsin.cli.rules_test import rules_test  # noqa: PLC0415  its file imports this one's neighbours

    group = typer.Typer(rich_markup_mode=None, invoke_without_command=True)
    group.callback()(guarded(rules))
    group.command("test")(guarded(rules_test))
    group.command("reset")(guarded(rules_reset))
    app.add_typer(group, name=name)


def rules(
    context: typer.Context,
    *,
    files: options.RuleFiles = None,
    config: options.ConfigFile = None,
    fail2ban: options.ListedFail2ban = None,
    as_json: options.Json = False,
) -> None:
    """List rules and jails as sentences; test one on a log.

    \b
    Examples:  tocsin rules
               tocsin rules --fail2ban /etc/fail2ban
               tocsin rules test wordpress-xmlrpc /var/log/apache2/access.log
               sudo tocsin rules reset wordpress-login
    """
    if context.invoked_subcommand is not None:
        return
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    out = Output(as_json=as_json)
    loaded = configuration(config, fail2ban)
    own, jails, watching = _listed(loaded, files or ()), _jails(loaded), watchers(loaded)
    listed = [*own, *jails]
    if as_json:
        for each in listed:
            out.json(each)
        for each in watching:
            out.json({"watcher": each})
        out.flush()
        return
    for each in listed:
        state = "" if each["enabled"] else " (off)"
        out.line(f"{each['id']}{state}  {each['title']}", style="bold" if each["enabled"] else "dim")
        out.line(f"  {each['sentence']}")
        out.line(f"  {each['file']}, line {each['line']}", style="dim")
    for each in watching:
        state = "" if each["enabled"] else " (off)"
        out.line(f"{each['id']}{state}  {each['title']}", style="bold" if each["enabled"] else "dim")
        out.line(f"  {each['sentence']}")
        out.line(f"  built in; [{each['section']}] in the configuration", style="dim")
    on = sum(1 for each in own if each["enabled"])
    out.line()
    beside = f" {count(len(jails), 'jail')} of {loaded.fail2ban.path}." if loaded.fail2ban.path else ""
    out.line(f"{count(len(own), 'rule')}, {on} of them on.{beside}")


def rules_reset(
    *,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The rule's id.")],
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Let a rule ban again whose breaker has tripped because it would have hit visitors.

    \b
    Example:  sudo tocsin rules reset wordpress-login
    """
    from tocsin.cli.asking import ask  # noqa: PLC0415  see main
    from tocsin.cli.failure import USAGE, Failure  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    loaded = configuration(config)
    out = Output(as_json=as_json)
    reply = ask(loaded, {"cmd": "reset", "rule": rule})
    known = (*_listed(loaded, ()), *_jails(loaded), *watchers(loaded)) if not reply["reset"] else ()
    if not reply["reset"] and rule not in {each["id"] for each in known}:
        raise Failure(USAGE, f'there is no rule "{rule}"; `tocsin rules` lists them')
    if as_json:
        out.json(reply)
        out.flush()
    elif reply["reset"]:
        out.line(f"Rule {rule} bans again.")
    else:
        out.line(f"Rule {rule} was not stopped; nothing to do.")


def _listed(config: Config, extra: Sequence[Path]) -> list[dict[str, Any]]:
    """Every rule of the configuration and of further files, with what the configuration makes of it."""
    from tocsin.cli.setup import configured_rules, rules_with  # noqa: PLC0415  see main
    from tocsin.rules import compile_rule  # noqa: PLC0415  see main

    on = {each.rule.id: each for each in configured_rules(config)}
    listed = []
    for rule in rules_with([*configured_paths(config), *extra]):
        running = on.get(rule.id)
        listed.append(
            {
                "id": rule.id,
                "title": rule.title,
                "sentence": running.sentence if running else compile_rule(rule).sentence,
                "enabled": running is not None or (rule.enabled and _is_of(rule, extra)),
                "file": rule.origin.file,
                "line": rule.origin.line,
            }
        )
    return listed


def _jails(config: Config) -> list[dict[str, Any]]:
    """The jails that the configuration's fail2ban runs; those that cannot run are named on stderr."""
    if not config.fail2ban.path:
        return []
    from tocsin.cli.jail_sentence import jail_sentence  # noqa: PLC0415  see main
    from tocsin.cli.setup import configured_jails  # noqa: PLC0415  see main

    jailed = configured_jails(config)
    return [
        {
            "id": rule.rule.id,
            "title": rule.rule.title,
            "sentence": jail_sentence(jail),
            "enabled": True,
            "file": jail.file,
            "line": jail.line,
        }
        for jail, rule in (zip(jailed.jails, jailed.rules, strict=True) if jailed else ())
    ]


def watchers(config: Config) -> list[dict[str, Any]]:
    """What bans beside the rules, each with a breaker of its own: sieges, and networks for their addresses."""
    from tocsin.decide.prefixes import RULE as NETWORK  # noqa: PLC0415  see main
    from tocsin.decide.siege import RULE as CONTRAST  # noqa: PLC0415  see main
    from tocsin.duration import render_duration as lasting  # noqa: PLC0415  see main

    siege, network = config.contrast, config.prefixes
    return [
        {
            "id": CONTRAST,
            "title": "Sieges by ever new addresses",
            "sentence": (
                f"Bans an address for {lasting(siege.ban_s)} when it sends requests of a class under siege, and has "
                f"the web server turn that class away. A siege begins when strangers send, within 1m, {siege.least} "
                f"such requests more than {siege.factor:g} times the normal, and ends when it was calm for "
                f"{lasting(siege.calm_s)}. Nothing is done that would hit more than {siege.hit_share * 100:g}% of the "
                "visitors."
            ),
            "enabled": siege.enabled,
            "section": "contrast",
        },
        {
            "id": NETWORK,
            "title": "Networks whose addresses offend",
            "sentence": (
                f"Bans a network, at most an IPv4 /{network.ipv4} or an IPv6 /{network.ipv6}, when {network.offenders} "
                f"addresses of it or more were banned within {lasting(network.within_s)} and hardly anybody else is "
                "there, for as long as the longest of their rules says."
            ),
            "enabled": network.enabled,
            "section": "prefixes",
        },
    ]


def _is_of(rule: Rule, files: Sequence[Path]) -> bool:
    """Whether a rule stands in one of these files or folders."""
    origin = Path(rule.origin.file)
    return any(origin == file or file in origin.parents for file in files)


def configured_paths(config: Config) -> list[Path]:
    """Where the configuration's rules are; the default folder need not be there."""
    from tocsin.wiring import DEFAULT_RULES  # noqa: PLC0415  see main

    return [Path(path) for path in config.rules.paths if path != DEFAULT_RULES or any(Path(path).glob("*.toml"))]
