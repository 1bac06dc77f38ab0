"""What a fail2ban jail does here, in sentences."""

from __future__ import annotations

from tocsin.cli.words import count, span
from tocsin.fail2ban.actions.actions import sort_actions
from tocsin.fail2ban.model import Jail
from tocsin.wiring import service_port

LOGS_SHOWN = 3


def closed_by(jail: Jail) -> str:
    """What its bans close: `tcp port 22`, `everything`; empty where they close nothing."""
    blocked = sort_actions(jail, service_port).enforcement
    return blocked.sentence() if blocked else "" if jail.has_action else "everything"


def jail_sentence(jail: Jail) -> str:
    """`Closes tcp port 22 to an address for 10m when the filter sshd finds 5 failures of it within 10m in ...`."""
    closed = closed_by(jail)
    does = (
        f"Closes {closed} to an address" if closed else "Runs its actions for an address, to which it closes nothing,"
    )
    lasts = f"for {span(jail.bantime_s)}" if jail.bantime_s is not None else "for good"
    finder = f"the filter {jail.filter.name}" if jail.filter.name else "its own failregex"
    return f"{does} {lasts} when {finder} finds {failures_of(jail, ' of it')} in {_where(jail)}.{_growth(jail)}"


def failures_of(jail: Jail, whose: str = "") -> str:
    """`5 failures within 10m`, `1 failure`; `whose` stands behind the noun."""
    within = "" if jail.maxretry == 1 else f" within {span(jail.findtime_s)}"
    return f"{count(jail.maxretry, 'failure')}{whose}{within}"


def _where(jail: Jail) -> str:
    if jail.filter.logtype == "journal":
        match = " or ".join(jail.filter.journalmatch)
        return f"the journal ({match})" if match else "the whole journal"
    shown, more = jail.logpath[:LOGS_SHOWN], len(jail.logpath) - LOGS_SHOWN
    return (", ".join(shown) or "no log") + (f" and {more} more" if more > 0 else "")


def _growth(jail: Jail) -> str:
    increment = jail.increment
    if not increment.enabled or jail.bantime_s is None:
        return ""
    whose = "of all rules" if increment.overalljails else "of this jail"
    most = f", up to {span(increment.maxtime_s)}" if increment.maxtime_s is not None else ""
    return f" Who comes back is banned for longer, by the number of earlier bans {whose}{most}."
