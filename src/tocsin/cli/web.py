"""`tocsin setup apache|nginx`: lets guard turn requests away in the web server, after showing what that changes."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.cli.websetup import Site
    from tocsin.config import Config
    from tocsin.enforce.webserver import Server

_RELOADS = {
    "apache": "reload Apache once (systemctl reload apache2, or httpd); from then on nobody needs to",
    "nginx": "start its reloader (systemctl enable --now tocsin-nginx), or, without systemd, start guard anew as root",
}
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Remove = Annotated[bool, typer.Option("--remove", help="Take it away again.")]
Into = Annotated[
    Path | None, typer.Option("--into", metavar="FILE", help="The file to write, in place of the usual one.")
]
Main = Annotated[
    Path | None,
    typer.Option("--main", metavar="FILE", help="The server's main configuration, where it is not the usual one."),
]


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command and the two below it."""
    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(guarded(setup))
    group.command("apache")(guarded(apache))
    group.command("nginx")(guarded(nginx))
    app.add_typer(group, name=name)


def setup() -> None:
    """Let guard turn requests away in the web server.

    A class of requests that overloads the site, each from another address, is answered with 429 before PHP starts,
    for as long as the siege lasts. This adds one file to the server's configuration, and shows it first. Each command
    takes --json too.

    \b
    Examples:  sudo tocsin setup apache
               sudo tocsin setup nginx --remove
    """


def apache(
    *,
    yes: Yes = False,
    remove: Remove = False,
    into: Into = None,
    main: Main = None,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Let guard turn requests away in Apache.

    Writes conf-available/tocsin.conf and enables it, shows both before and asks, has Apache test its configuration,
    and takes all back where it refuses. Needs Apache 2.4 with mod_alias; reload it once.

    \b
    Example:  sudo tocsin setup apache
    """
    _run("apache", into, main, config, yes=yes, remove=remove, as_json=as_json)


def nginx(
    *,
    yes: Yes = False,
    remove: Remove = False,
    into: Into = None,
    main: Main = None,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Let guard turn requests away in nginx.

    Writes conf.d/tocsin.conf, shows it before and asks, has nginx test its configuration, and takes it back where it
    refuses. nginx reads such changes when it is reloaded: a small root process does that, and nothing else.

    \b
    Example:  sudo tocsin setup nginx
    """
    _run("nginx", into, main, config, yes=yes, remove=remove, as_json=as_json)


def _run(
    server: Server,
    into: Path | None,
    main: Path | None,
    config: Path | None,
    *,
    yes: bool,
    remove: bool,
    as_json: bool,
) -> None:
    from tocsin.cli.failure import USAGE, Failure  # noqa: PLC0415  see main
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main
    from tocsin.cli.websetup import change, difference, lines_of, marker_of, own_limits, site_of  # noqa: PLC0415  see main
    from tocsin.enforce.webfiles import marker_path, read_marker  # noqa: PLC0415  see main

    loaded, out = configuration(config), Output(as_json=as_json)
    site, marker = site_of(server, into, main), marker_path(loaded.file)
    after = "" if remove else lines_of(site, loaded.web.dir)
    diff = difference(site, after)
    known = read_marker(marker)
    if known is not None and known.server != server and not remove:
        raise Failure(USAGE, f"{known.server} is set up; first: tocsin setup {known.server} --remove")
    done = not diff and known == (None if remove else marker_of(site))
    if not done:
        _show(out, diff)
        _agree(server, yes=yes)
        change(site, after, marker)
    for file in own_limits(site) if server == "nginx" and not remove else ():
        out.note(f"{file} has a limit_req of its own, which ours does not join: add `limit_req zone=tocsin;` beside it")
    if as_json:
        reload = "" if done else _RELOADS[server]
        out.json({"server": server, "conf": str(site.conf), "changed": not done, "diff": diff, "next": reload})
        out.flush()
    elif done:
        out.line(f"Nothing to do: {site.conf} is {'not there' if remove else 'as it should be'}.")
    else:
        _say_next(out, site, loaded, remove=remove)


def _show(out: Output, diff: str) -> None:
    for line in diff.splitlines():
        style = {"+": "green", "-": "red", "@": "cyan"}.get(line[:1], "")
        out.line(line, style)
    out.line()


def _agree(server: str, *, yes: bool) -> None:
    from tocsin.cli.failure import USAGE, Failure  # noqa: PLC0415  see main

    if yes:
        return
    if not sys.stdin.isatty():
        raise Failure(USAGE, "this asks before it changes anything: run it on a terminal, or add --yes")
    print(f"Change the configuration of {server} so? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise Failure(USAGE, "left as it is")


def _say_next(out: Output, site: Site, config: Config, *, remove: bool) -> None:
    if remove:
        out.line("Taken away. Reload the web server, so that it forgets it.")
        return
    out.line(f"Written and tested. Next: {_RELOADS[site.server]}.")
    out.line(
        f"What is denied will stand in {config.web.dir}; `tocsin status` shows it, `tocsin check` what is missing."
    )
