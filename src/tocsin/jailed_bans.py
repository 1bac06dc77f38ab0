"""A jail's bans as a running guard keeps them, and how they are saved."""

from __future__ import annotations

import msgspec
from msgspec import Struct

from tocsin.sparing import Late

BEFORE = -1  # as `told`: a runner of an earlier guard


class Ban(Struct, array_like=True):
    """One of a jail's bans: until when (None: for good), whom the log named, and which runner was told (0: none).

    `services` are those that it closes, as in `Decision`. `held`: it is in no firewall and no ledger, only the jail's
    actions know of it.
    """

    end_ts: float | None
    ip: str
    fid: str
    held: bool = False
    told: int = BEFORE
    services: str = ""


class Saved(Struct, array_like=True):
    """What the ledger does not hold: failures that wait, and bans of which it does not know all."""

    waiting: list[Late]
    bans: dict[str, dict[str, Ban]]


def saved_of(state: bytes) -> Saved:
    """What an earlier guard has saved; nothing where it had no jails, or where it was of another version."""
    try:
        return msgspec.msgpack.decode(state, type=Saved) if state else Saved([], {})
    except msgspec.MsgspecError:
        return Saved([], {})


def plain_ban(subject: str, end_ts: float | None) -> Ban:
    return Ban(end_ts, address_of(subject), subject)


def address_of(subject: str) -> str:
    """The address that a subject is, "" where it is a prefix."""
    return "" if "/" in subject else subject
