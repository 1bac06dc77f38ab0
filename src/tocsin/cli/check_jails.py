"""What `tocsin check` says of fail2ban's jails: what each does here, and what has no equal and is done otherwise."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from tocsin.cli.failure import CONFIGURATION, Failure
from tocsin.cli.item import Item
from tocsin.cli.setup import configured_jails
from tocsin.cli.words import span
from tocsin.config import Config
from tocsin.fail2ban.actions.actions import sort_actions
from tocsin.fail2ban.model import Jail, Remark

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
    yield Item("fail2ban", "ok", f"{len(jailed.jails)} jails of {config.fail2ban.path} run")
    names = {jail.name for jail in jailed.jails}
    for remark in jailed.remarks:
        if remark.jail not in names:
            yield _of_remark(remark)
    for jail in jailed.jails:
        yield _of_jail(jail)
        for remark in jailed.remarks:
            if remark.jail == jail.name:
                yield _of_remark(remark)


def _of_jail(jail: Jail) -> Item:
    blocked = sort_actions(jail).enforcement
    what = f"closes {blocked.sentence()}" if blocked else "closes nothing" if jail.has_action else "closes everything"
    limit = f"{jail.maxretry} failures within {span(jail.findtime_s)}: {what} for {span(jail.bantime_s)}"
    if jail.filter.logtype == "journal":
        return Item(f"jail {jail.name}", "ok", f"{limit}; reads the journal")
    missing = [path for path in jail.logpath if not any(Path("/").glob(path.lstrip("/")))]
    if jail.logpath and len(missing) == len(jail.logpath):
        where = f"none of its logs is there yet ({', '.join(missing)})"
        return Item(f"jail {jail.name}", "warning", f"{limit}; {where}", "it is read as soon as it appears")
    return Item(f"jail {jail.name}", "ok", f"{limit}; reads {', '.join(jail.logpath) or 'nothing'}")


def _of_remark(remark: Remark) -> Item:
    states: dict[str, Literal["ok", "warning", "failed"]] = {"error": "failed", "warning": "warning", "instead": "ok"}
    place = f"{remark.file}:{remark.line}" if remark.file and remark.line else remark.file
    text = f"{place}: {remark.text}" if place else remark.text
    name = f"jail {remark.jail}" if remark.jail else "fail2ban"
    failed = remark.severity == "error"
    return Item(name, states[remark.severity], text, REMEDY if failed else "", CONFIGURATION if failed else 0)
