"""Says what a guard's jails do in the words and the layout of `fail2ban-client`, because scripts read it.

Layouts are those of fail2ban 1.0; what is said follows from the jails alone. What is banned is named by Tocsin's
subjects: an IPv6 address by its /64.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from msgspec import UNSET, Struct, UnsetType


class JailStatus(Struct, frozen=True):
    """A jail at work, as the running guard's status tells it.

    `filter_files` are the files that it follows (`logpath` what the configuration says), `journalmatch` its matches
    where it reads the journal. `bantime_s` is its `bantime` (None: for good; UNSET: not told).
    """

    name: str
    filter_files: tuple[str, ...] = ()
    failed_now: int = 0
    failed_total: int = 0
    banned_now: int = 0
    banned_total: int = 0
    banned: tuple[str, ...] = ()
    logpath: tuple[str, ...] = ()
    journalmatch: tuple[str, ...] | None = None
    bantime_s: float | UnsetType | None = UNSET


Safe = Callable[[str], str]


def status(jails: Sequence[JailStatus]) -> str:
    """The answer to `status`."""
    names = ", ".join(sorted(jail.name for jail in jails))
    return f"Status\n|- Number of jail:\t{len(jails)}\n`- Jail list:\t{names}"


def jail_status(jail: JailStatus, safe: Safe, *, short: bool = False) -> str:
    """The answer to `status JAIL` (`short`: without the list of addresses). `safe` is what texts pass through."""
    if jail.journalmatch is not None:
        source = ("Journal matches", " + ".join(jail.journalmatch))
    else:
        source = ("File list", " ".join(jail.filter_files or jail.logpath))
    found = [("Currently failed", str(jail.failed_now)), ("Total failed", str(jail.failed_total)), source]
    done = [("Currently banned", str(jail.banned_now)), ("Total banned", str(jail.banned_total))]
    if not short:
        done.append(("Banned IP list", " ".join(jail.banned)))
    lines = [f"Status for the jail: {safe(jail.name)}", "|- Filter"]
    lines += _branch("|  ", found, safe)
    lines.append("`- Actions")
    lines += _branch("   ", done, safe)
    return "\n".join(lines)


def _branch(indent: str, entries: Sequence[tuple[str, str]], safe: Safe) -> list[str]:
    last = len(entries) - 1
    return [
        f"{indent}{'`-' if number == last else '|-'} {name}:\t{safe(value)}"
        for number, (name, value) in enumerate(entries)
    ]


def banned(jails: Sequence[JailStatus]) -> str:
    """The answer to `banned`."""
    return repr([{jail.name: list(jail.banned)} for jail in jails])


def banned_by(jails: Sequence[JailStatus], subjects: Sequence[str]) -> str:
    """The answer to `banned SUBJECT...`: for each, the jails that ban it."""
    return repr([[jail.name for jail in jails if subject in jail.banned] for subject in subjects])


def no_such_jail(name: str) -> str:
    """The answer to any question about a jail that is not there."""
    return f"Sorry but the jail '{name}' does not exist"


def not_banned(subjects: Sequence[str]) -> str:
    """The answer to `unbanip --report-absent` where some are not banned."""
    return f"not banned: {list(subjects)!r}"
