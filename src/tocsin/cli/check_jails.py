"""What `tocsin check` says of fail2ban's jails: what each does here, and what has no equal and is done otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from tocsin.cli.failure import CONFIGURATION, Failure
from tocsin.cli.item import Item
from tocsin.cli.jail_sentence import closed_by, failures_of
from tocsin.cli.setup import configured_jails
from tocsin.cli.words import count, span
from tocsin.config import Config
from tocsin.fail2ban.model import Jail, Remark
from tocsin.sources.journal import Journal
from tocsin.wiring import is_there

NO_JOURNAL = "it finds nothing until it can; or set `backend = auto` and a `logpath` for it"
REMEDY = "correct it in the file named; a jail that cannot run is left out, the others run"


def jail_items(config: Config) -> Iterator[Item]:
    """One item a jail, with its remarks after it; first what concerns all."""
    try:
        jailed = configured_jails(config)
    except Failure as failure:
        for line in failure.lines:
            yield Item("fail2ban", "failed", line, "correct this, or name another directory", CONFIGURATION)
        return
    if jailed is None:
        return
    number = len(jailed.jails)
    yield Item(
        "fail2ban", "ok", f"{count(number, 'jail')} of {config.fail2ban.path} {'runs' if number == 1 else 'run'}"
    )
    names = {jail.name for jail in jailed.jails}
    for remark in jailed.remarks:
        if remark.jail not in names:
            yield _of_remark(remark)
    for jail in jailed.jails:
        yield _of_jail(jail, config.logs.journal)
        for remark in jailed.remarks:
            if remark.jail == jail.name:
                yield _of_remark(remark)


def _of_jail(jail: Jail, journal: str) -> Item:
    lasts = "for good" if jail.bantime_s is None else f"for {span(jail.bantime_s)}"
    limit = f"{failures_of(jail)}: closes {closed_by(jail) or 'nothing'} {lasts}"
    if jail.filter.logtype == "journal":
        why_not = 'the configuration says [logs] journal = "off"' if journal == "off" else Journal(()).why_not
        if why_not:
            return Item(
                f"jail {jail.name}", "warning", f"{limit}; it would read the journal, but {why_not}", NO_JOURNAL
            )
        return Item(f"jail {jail.name}", "ok", f"{limit}; reads the journal")
    if jail.logpath and not any(map(is_there, jail.logpath)):
        where = f"none of its logs is there yet ({', '.join(jail.logpath)})"
        return Item(f"jail {jail.name}", "warning", f"{limit}; {where}", "it is read as soon as it appears")
    return Item(f"jail {jail.name}", "ok", f"{limit}; reads {', '.join(jail.logpath) or 'nothing'}")


def _of_remark(remark: Remark) -> Item:
    states: dict[str, Literal["ok", "warning", "failed"]] = {"error": "failed", "warning": "warning", "instead": "ok"}
    place = f"{remark.file}:{remark.line}" if remark.file and remark.line else remark.file
    text = f"{place}: {remark.text}" if place else remark.text
    name = f"jail {remark.jail}" if remark.jail else "fail2ban"
    failed = remark.severity == "error"
    return Item(name, states[remark.severity], text, REMEDY if failed else "", CONFIGURATION if failed else 0)
