"""`tocsin fail2ban`: the words that scripts know from `fail2ban-client`, and moving in.

Layouts and answers on standard output are fail2ban's; mistakes end with our own exit codes, and are said on standard
error too.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import failure, options
from tocsin.cli.failure import Failure
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from tocsin.config import Config
    from tocsin.fail2ban.moving.words import JailStatus

JailName = Annotated[str, typer.Argument(metavar="JAIL", help="The jail's name.")]
Subjects = Annotated[list[str], typer.Argument(metavar="IP", help="Addresses or prefixes; no names.")]
ReportAbsent = Annotated[bool, typer.Option("--report-absent", help="Complain of those that are not banned.")]


def register(app: typer.Typer, name: str, guarded: Callable[..., Any]) -> None:
    """Add the command and those below it."""
    from tocsin.cli.fail2ban_import import import_  # noqa: PLC0415  its file imports this one's neighbours

    group = typer.Typer(rich_markup_mode=None, no_args_is_help=True)
    group.callback()(guarded(fail2ban))
    words = (
        ("import", import_), ("status", status), ("banned", banned), ("banip", banip), ("unbanip", unbanip),
        ("set", set_), ("get", get), ("unban", unban), ("ping", ping),
    )  # fmt: skip
    for word, command in words:
        group.command(word)(guarded(command))
    app.add_typer(group, name=name)


def fail2ban() -> None:
    """Move in from fail2ban, and speak its words.

    What a running guard does with the jails of an /etc/fail2ban, in the words and the layout of
    fail2ban-client, for scripts that read it. Each command takes --json too.

    \b
    Examples:  sudo tocsin fail2ban import --dry-run
               sudo tocsin fail2ban status sshd
               sudo tocsin fail2ban set sshd unbanip 192.0.2.7
    """


def status(
    *,
    jail: Annotated[str | None, typer.Argument(metavar="JAIL", help="Show this one; default: name all.")] = None,
    flavor: Annotated[str, typer.Argument(metavar="FLAVOR", help='"short" leaves out the addresses.')] = "basic",
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """List the jails, or show one: what it found and whom it bans.

    \b
    Examples:  sudo tocsin fail2ban status
               sudo tocsin fail2ban status sshd
    """
    from tocsin.cli.output import safe  # noqa: PLC0415  see main
    from tocsin.fail2ban.moving import words  # noqa: PLC0415  see main

    jails = _jails(_config(config))
    chosen = None if jail is None else _named(jails, jail)
    if as_json:
        _json({"jails": jails} if chosen is None else chosen)
    else:
        _say(words.status(jails) if chosen is None else words.jail_status(chosen, safe, short=flavor == "short"))


def banned(
    *,
    subjects: Annotated[
        list[str] | None, typer.Argument(metavar="IP", help="Say which jails ban these; default: list all.")
    ] = None,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """List whom each jail bans, or say which jails ban an address.

    \b
    Examples:  sudo tocsin fail2ban banned
               sudo tocsin fail2ban banned 192.0.2.7
    """
    from tocsin.cli.asking import subject_of  # noqa: PLC0415  see main
    from tocsin.fail2ban.moving import words  # noqa: PLC0415  see main

    wanted = [subject_of(text) for text in subjects or ()]
    jails = _jails(_config(config))
    if as_json:
        chosen = wanted or sorted({subject for jail in jails for subject in jail.banned})
        _json({subject: [jail.name for jail in jails if subject in jail.banned] for subject in chosen})
    else:
        _say(words.banned_by(jails, wanted) if wanted else words.banned(jails))


def banip(
    *, jail: JailName, subjects: Subjects, config: options.ConfigFile = None, as_json: options.Json = False
) -> None:
    """Ban addresses as a jail would, for its bantime; prints how many were not banned yet.

    \b
    Example:  sudo tocsin fail2ban banip sshd 192.0.2.7
    """
    _ban(_config(config), jail, subjects, as_json=as_json)


def unbanip(
    *,
    jail: JailName,
    subjects: Subjects,
    report_absent: ReportAbsent = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Lift a jail's bans of addresses; prints how many.

    A jail that closes single ports takes back its own ban alone; else the address is let in as a whole.

    \b
    Example:  sudo tocsin fail2ban unbanip sshd 192.0.2.7
    """
    _unban(_config(config), jail, subjects, report_absent=report_absent, as_json=as_json)


def set_(
    *,
    jail: JailName,
    verb: Annotated[str, typer.Argument(metavar="banip|unbanip", help="What to do.")],
    subjects: Subjects,
    report_absent: ReportAbsent = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Ban or unban addresses, in fail2ban's order of words.

    \b
    Examples:  sudo tocsin fail2ban set sshd banip 192.0.2.7
               sudo tocsin fail2ban set sshd unbanip 192.0.2.7 192.0.2.8
    """
    if verb == "banip":
        _ban(_config(config), jail, subjects, as_json=as_json)
    elif verb == "unbanip":
        _unban(_config(config), jail, subjects, report_absent=report_absent, as_json=as_json)
    else:
        raise Failure(
            failure.USAGE,
            f'"set {jail} {verb}": a running guard can only be told banip and unbanip; everything else is set in the '
            "jail's files, and read again with `systemctl reload tocsin`",
        )


def get(
    *,
    jail: JailName,
    what: Annotated[str, typer.Argument(metavar="banned|banip", help="As a list in Python's writing, or in a line.")],
    subjects: Annotated[list[str] | None, typer.Argument(metavar="IP", help="Say whether these are banned.")] = None,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Print whom a jail bans.

    \b
    Example:  sudo tocsin fail2ban get sshd banip
    """
    from tocsin.cli.asking import subject_of  # noqa: PLC0415  see main

    if what not in ("banned", "banip"):
        raise Failure(failure.USAGE, f'"get {jail} {what}": expected banned or banip')
    wanted = [subject_of(text) for text in subjects or ()]
    chosen = _named(_jails(_config(config)), jail)
    found = [int(subject in chosen.banned) for subject in wanted]
    if as_json:
        _json({"banned": dict(zip(wanted, map(bool, found), strict=True)) if wanted else chosen.banned})
    elif what == "banip":
        _say(" ".join(chosen.banned))
    else:
        _say(repr(found[0] if len(found) == 1 else found or list(chosen.banned)))


def unban(
    *,
    subjects: Annotated[list[str] | None, typer.Argument(metavar="IP", help="Addresses or prefixes; no names.")] = None,
    every: Annotated[bool, typer.Option("--all", help="Lift every ban in force.")] = False,
    config: options.ConfigFile = None,
    as_json: options.Json = False,
) -> None:
    """Lift bans, whichever jail made them; prints how many.

    \b
    Example:  sudo tocsin fail2ban unban 192.0.2.7
    """
    from tocsin.cli.asking import ask, subject_of  # noqa: PLC0415  see main

    if every == bool(subjects):
        raise Failure(failure.USAGE, "name the addresses to unban, or --all")
    wanted = [subject_of(text) for text in subjects or ()]
    loaded = _config(config)
    requests = [{"cmd": "unban", "all": True}] if every else [{"cmd": "unban", "subject": each} for each in wanted]
    lifted = [subject for request in requests for subject in ask(loaded, request)["lifted"]]
    _count(lifted, as_json=as_json, key="lifted")


def ping(*, config: options.ConfigFile = None, as_json: options.Json = False) -> None:
    """Ask whether a guard answers.

    \b
    Example:  sudo tocsin fail2ban ping
    """
    from tocsin.cli.asking import ask  # noqa: PLC0415  see main

    running = ask(_config(config), {"cmd": "status"})["status"]
    if as_json:
        _json({"pid": running["pid"], "version": running["version"]})
    else:
        _say("Server replied: pong")


# -- what they share -------------------------------------------------------------------------------------------------


def _config(file: Any) -> Config:
    from tocsin.cli.setup import configuration  # noqa: PLC0415  see main

    return configuration(file)


def _jails(config: Config) -> tuple[JailStatus, ...]:
    """The jails of the running guard; a Failure where none runs, or it has no jails."""
    import msgspec  # noqa: PLC0415  see main

    from tocsin.cli.asking import ask  # noqa: PLC0415  see main
    from tocsin.fail2ban.moving.words import JailStatus  # noqa: PLC0415  see main

    jails = ask(config, {"cmd": "status"})["status"].get("jails")
    if jails is None:
        raise Failure(
            failure.UNAVAILABLE,
            "the running guard has no jails: start it with `tocsin guard --fail2ban /etc/fail2ban`, or with "
            "[fail2ban] path in the configuration; `tocsin bans` lists the bans of its own rules",
        )
    return msgspec.convert(jails, tuple[JailStatus, ...])


def _named(jails: Sequence[JailStatus], name: str) -> JailStatus:
    """The jail of that name. Where there is none, fail2ban says so on standard output, and so do we."""
    from tocsin.fail2ban.moving.words import no_such_jail  # noqa: PLC0415  see main

    for jail in jails:
        if jail.name == name:
            return jail
    _say(no_such_jail(name))
    known = ", ".join(sorted(jail.name for jail in jails)) or "none"
    raise Failure(failure.USAGE, f'there is no jail "{name}"; the jails are: {known}')


def _ban(config: Config, name: str, texts: Sequence[str], *, as_json: bool) -> None:
    from msgspec import UNSET  # noqa: PLC0415  see main

    from tocsin.cli.asking import ask, subject_of  # noqa: PLC0415  see main

    subjects = list(dict.fromkeys(subject_of(text) for text in texts))
    jail = _named(_jails(config), name)
    seconds = config.bans.default_s if jail.bantime_s is UNSET else jail.bantime_s
    done: list[str] = []
    failed: list[Failure] = []
    for subject in subjects:
        if subject in jail.banned:
            continue
        try:
            reply = ask(config, {"cmd": "ban", "subject": subject, "seconds": seconds, "rule": jail.name})
        except Failure as refused:
            if refused.code == failure.UNAVAILABLE:
                raise
            failed.append(refused)
            continue
        held, receipt = reply["decision"].get("held"), reply["receipt"]
        if held:
            failed.append(Failure(failure.UNAVAILABLE, f"{subject}: the guard holds the ban back: {held}"))
        elif receipt is not None and not receipt["ok"]:
            failed.append(Failure(failure.UNAVAILABLE, f"{subject}: the firewall refused: {receipt['error']}"))
        else:
            done.append(subject)
    _count(done, as_json=as_json, key="banned", failed=failed)


def _unban(config: Config, name: str, texts: Sequence[str], *, report_absent: bool, as_json: bool) -> None:
    from tocsin.cli.asking import ask, subject_of  # noqa: PLC0415  see main
    from tocsin.fail2ban.moving.words import not_banned  # noqa: PLC0415  see main

    subjects = {text: subject_of(text) for text in texts}
    jail = _named(_jails(config), name)
    here = set(jail.banned)
    lifted: list[str] = []
    absent: list[str] = []
    for text, subject in subjects.items():
        inside = _within(here, subject)
        for each in inside:
            lifted += ask(config, {"cmd": "unban", "subject": each, "rule": jail.name})["lifted"]
        here -= set(inside)
        if not inside:
            absent.append(text)
    if absent and report_absent:
        _say(not_banned(absent))
        raise Failure(failure.USAGE, f"not banned by jail {name}: {', '.join(absent)}")
    _count([each for each in dict.fromkeys(lifted) if each in jail.banned], as_json=as_json, key="lifted")


def _within(banned_here: set[str], subject: str) -> list[str]:
    """What is banned of a subject: itself, and where it is a prefix, all that it holds."""
    from tocsin.decide.subjects import bounds  # noqa: PLC0415  see main

    if subject in banned_here:
        return [subject]
    version, low, high = bounds(subject)
    if low == high:
        return []
    spans = [(each, bounds(each)) for each in sorted(banned_here)]
    return [each for each, (of, first, last) in spans if of == version and low <= first and last <= high]


def _count(done: Sequence[str], *, as_json: bool, key: str, failed: Sequence[Failure] = ()) -> None:
    """fail2ban answers with the number of those that changed."""
    if as_json:
        _json({key: done})
    else:
        _say(str(len(done)))
    if failed:
        raise Failure(failed[0].code, *(line for each in failed for line in each.lines))


def _json(value: object) -> None:
    out = Output(as_json=True)
    out.json(value)
    out.flush()


def _say(text: str) -> None:
    """To standard output as it is: tabs are part of the layout, and what is not ours was made safe before."""
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    print(text.encode(encoding, "backslashreplace").decode(encoding), flush=True)
