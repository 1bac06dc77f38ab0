"""`tocsin guard`: shows what will be watched, then becomes the supervisor of watcher and enforcer."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.config import Config
    from tocsin.fail2ban.rules import Jailed
    from tocsin.sources.discovery import Discovery, FoundLog


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command."""
    app.command(name)(guarded(guard))


def guard(
    *,
    config: options.ConfigFile = None,
    fail2ban: options.Fail2ban = None,
    observe: Annotated[bool, typer.Option("--observe", help="Find and say, but put no ban into the firewall.")] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="List all that discovery looked at, also what is not watched.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Say what happens as JSON, one object a line.")] = False,
) -> None:
    """Watch this machine's logs and ban attackers in the firewall. Runs until it is stopped (Ctrl-C).

    Needs no configuration: logs are found in what Apache, nginx and Caddy are configured to write. Needs root to ban;
    where the firewall may not be touched it observes, and says so.

    \b
    Examples:  sudo tocsin guard --observe
               sudo tocsin guard
               sudo tocsin guard --fail2ban /etc/fail2ban
    """
    loaded, rules, runner = _loaded(config, fail2ban)
    missing = "" if observe or loaded.guard.observe else _why_no_bans()
    with suppress(OSError):  # a full disk where all this is logged must not keep guard from its work
        _introduce(Output(as_json=as_json), loaded, rules, missing, observe=observe, verbose=verbose)
    observe = observe or bool(missing)
    arguments = [*(("--config", str(config.absolute())) if config else ()), *(("--observe",) if observe else ())]
    if fail2ban is not None:
        arguments += ["--fail2ban", str(fail2ban.absolute())]
    if as_json:
        arguments.append("--json")
    if runner and not (observe or loaded.guard.observe):
        arguments += ["--", *runner]
    if not (observe or loaded.guard.observe):
        arguments += _reloader_arguments(loaded)
    # The supervisor needs none of what is in memory here, and lives for months.
    command = [sys.executable, "-I", "-m", "tocsin.supervise", loaded.guard.run_dir, *arguments]
    os.execv(sys.executable, command)  # noqa: S606  our own interpreter, no shell


def _introduce(out: Output, loaded: Config, rules: str, missing: str, *, observe: bool, verbose: bool) -> None:
    """Say what will be read, by which rules, and whether it comes to bans."""
    _show_logs(out, loaded, verbose=verbose)
    if missing:
        out.note(f"observing only, no ban will reach the firewall: {missing}")
    elif observe or loaded.guard.observe:
        out.line("Observing: what would be banned is said, nothing is banned.")
    out.line(f"{rules} are on (`tocsin rules` lists them).")
    out.flush()
    sys.stderr.flush()


def _loaded(file: Path | None, fail2ban: Path | None) -> tuple[Config, str, list[str]]:
    """The configuration, how many rules and jails are on, and the arguments of the runner of actions, if needed."""
    from tocsin.cli.setup import configuration, configured_jails, configured_rules  # noqa: PLC0415  see main
    from tocsin.wiring import counted  # noqa: PLC0415  see main

    loaded = configuration(file, fail2ban)
    jailed = configured_jails(loaded)
    rules = counted((*configured_rules(loaded), *(jailed.rules if jailed else ())))
    return loaded, rules, _runner_arguments(loaded, jailed) if jailed else []


def _runner_arguments(config: Config, jailed: Jailed) -> list[str]:
    from tocsin.fail2ban.actions.client import wants_runner  # noqa: PLC0415  see main

    if not config.fail2ban.actions or not wants_runner(jailed.jails):
        return []
    # Beside the state of guard, not in it: whoever writes there is believed.
    state = Path(config.guard.state_dir)
    return [
        *("--fail2ban", str(Path(config.fail2ban.path).absolute())),
        *("--actions-user", config.fail2ban.actions_user),
        *("--state-dir", str(state.with_name(f"{state.name}-actions"))),
    ]


def _reloader_arguments(config: Config) -> list[str]:
    """Those of nginx's reloader, where there is to be one: it needs root; under systemd it has a unit of its own."""
    from tocsin.enforce.webfiles import marker_path, read_marker  # noqa: PLC0415  see main

    marker = read_marker(marker_path(config.file))
    if marker is None or marker.server != "nginx" or os.getuid() != 0:
        return []
    return ["--reloader", "--child", "--dir", config.web.dir, "--marker", str(marker_path(config.file))]


def _why_no_bans() -> str:
    from tocsin.privileges import capabilities  # noqa: PLC0415  see main

    if "CAP_NET_ADMIN" in capabilities():
        return ""
    return "this process lacks CAP_NET_ADMIN; run `sudo tocsin guard`, or `systemctl start tocsin`"


def _show_logs(out: Output, config: Config, *, verbose: bool) -> None:
    from tocsin.sources.discovery import Discovery, discover  # noqa: PLC0415  see main

    found = discover() if config.logs.discover else Discovery((), (), ())
    if out.as_json:
        named = [{"path": log.path, "kind": log.kind, "format": log.format} for log in config.log]
        out.json({"event": "discovered", "configured": named, "logs": found.logs, "unreadable": found.unreadable})
        return
    configured = {log.path for log in config.log}
    rows: list[tuple[str, ...]] = [
        (log.path, log.kind, format_name(log.format), "configuration", "", "") for log in config.log
    ]
    watched = [log for log in found.logs if log.path not in configured and (verbose or log.kind != "error")]
    rows += [row_of(log) for log in watched]
    if rows:
        out.table(("log", "kind", "format", "found in", "written", "size"), rows, right=("size",))
    else:
        beside = " but those of the jails" if config.fail2ban.path else ""
        out.note(f"no logs were found{beside}; name them under [[log]] path = ... in /etc/tocsin/tocsin.toml")
    if verbose and found.configs:
        out.line(f"Read: {', '.join(found.configs)}")
    show_unreadable(out, found)


def row_of(log: FoundLog) -> tuple[str, ...]:
    """A found log as a row of the table."""
    from tocsin.cli.words import age, size  # noqa: PLC0415  see main

    written = f"{age(log.age_s)} ago" if log.age_s is not None else "not there yet" if not log.exists else "unknown"
    return log.path, log.kind, format_name(log.format), log.found_in, written, size(log.size_bytes)


def format_name(spec: str) -> str:
    """A format as it stands in the table."""
    return spec or "told by its lines"


def show_unreadable(out: Output, found: Discovery) -> None:
    """What could not be read, each with its remedy."""
    for item in found.unreadable:
        place = f" (named in {item.found_in})" if item.found_in else ""
        out.note(f"not read: {item.path}{place}: {item.reason}; {item.remedy}")
