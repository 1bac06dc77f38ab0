"""How to ban by hand whom a verdict names, where no rule does. Pure."""

from __future__ import annotations

from collections.abc import Sequence

from tocsin.explain.accuse import Accused
from tocsin.explain.model import Remedy, Said, say
from tocsin.explain.remedies import is_narrow

_FEW = 8
"""Addresses that fit a line to be typed."""

_LIST = (
    "tocsin explain --json | python3 -c 'import json, sys; "
    """print(*(a for i in json.load(sys.stdin)["incidents"] if int(i["start"]) == {start} for a in i["ban"]))' """
    "| xargs -r tocsin ban --for 1d"
)
"""In one line: what is pasted may be indented."""


def with_banning(remedies: Sequence[Remedy], ban: Sequence[str], top: Accused | None, start: float) -> list[Remedy]:
    """The remedies of an outage that began at `start`, and how to ban by hand where no rule bans; first of what is not
    for now where nothing else turns these away.
    """
    found = list(remedies)
    if not ban or top is None or any(one.rule for one in found):
        return found
    if is_narrow(top):
        return [*found, banning(ban, start)]
    why = say("nothing but the address tells these requests from visitors': there is no rule, and nothing to deny")
    at = sum(one.now for one in found)
    return [*found[:at], banning(ban, start, why), *found[at:]]


def banning(ban: Sequence[str], start: float, why: Said | None = None) -> Remedy:
    """The command that bans these; of many, one that takes them from the explanation of the outage of that start."""
    if len(ban) <= _FEW:
        text, apply = say("ban whom this names"), f"tocsin ban {' '.join(ban)} --for 1d"
    else:
        text = say("ban all whom this names (give it the same logs, where you named any)")
        apply = _LIST.format(start=int(start))
    return Remedy(text if why is None else say("{what}; {why}", what=text, why=why), apply)
