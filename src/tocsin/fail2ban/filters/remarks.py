"""What is doubtful in a filter's regexes: who writes into the log could choose whom it bans. Pure.

A log holds what strangers send: user names, paths, agents. A regex that can begin anywhere finds its own beginning in
such text (CVE-2013-2178); one whose greedy `.*` stands before the address, with nothing certain after it, takes the
last address in the line, which may be the stranger's. These are remarks: the filter runs as it is.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator

from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.parsing import parse
from tocsin.fail2ban.filters.syntax import (
    ASCII,
    NEWLINE,
    Alt,
    Chars,
    Group,
    Mask,
    Node,
    Place,
    Repeat,
    Seq,
    anchored,
    flat,
    is_address,
)
from tocsin.fail2ban.model import FilterSpec, Remark

_ANY: Mask = ASCII & ~NEWLINE


def remarks_of(spec: FilterSpec, jail: str = "") -> tuple[Remark, ...]:
    """The remarks on a filter, in the order of its regexes. Regexes that are none are passed over: they are errors."""
    pref = _tree(spec.prefregex, spec) if spec.prefregex else None
    within = pref is not None and _ends_before(pref)
    found: list[Remark] = []
    for source in spec.failregex:
        tree = _tree(source, spec)
        if tree is not None:
            found += (Remark("warning", text, jail, spec.file) for text in _doubts(source, tree, pref, within=within))
    return tuple(found)


def _tree(source: str, spec: FilterSpec) -> Seq | None:
    flags = re.MULTILINE if spec.maxlines > 1 else 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return parse(tags.expand(source, spec.usedns), flags)
    except (re.error, OverflowError, RecursionError):
        return None


def _ends_before(pref: Seq) -> bool:
    """Whether a prefregex leaves its content to the failregexes, so that `^` of these is a place within the line."""
    return any(isinstance(node, Group) and node.name == "content" for node in _groups(pref))


def _groups(node: Node) -> Iterator[Group]:
    match node:
        case Group(item):
            yield node
            yield from _groups(item)
        case Seq(items) | Alt(items):
            for item in items:
                yield from _groups(item)
        case Repeat(item):
            yield from _groups(item)
        case _:
            return


def _doubts(source: str, tree: Seq, pref: Seq | None, *, within: bool) -> Iterator[str]:
    items = flat(tree, is_address)
    place = next((i for i, item in enumerate(items) if is_address(item)), None)
    if not anchored(tree) and (place is not None or within):
        yield (
            f"failregex {source!r} can match anywhere in a line, also in what a client wrote into it, and then bans"
            " whom the client named (CVE-2013-2178); begin it with ^ and all that stands before"
        )
    if pref is not None and not anchored(pref) and within and place is None:
        yield (
            f"failregex {source!r}: the address is the prefregex's, which can match anywhere in a line; begin the"
            " prefregex with ^"
        )
    if place is not None and any(_takes_all(item) for item in items[:place]) and not _is_firm(items[place + 1 :]):
        yield (
            f"failregex {source!r} has a greedy .* or .+ before the address and nothing certain after it up to the end"
            " of the line: of two addresses it takes the last one, which a client may have written; use .*? or a class"
            " such as [^ ]*, and end it with $"
        )


def _takes_all(item: Node) -> bool:
    """Whether an item is a greedy run of anything."""
    if isinstance(item, Group):
        return _takes_all(item.item)
    if isinstance(item, Seq):
        return any(_takes_all(one) for one in item.items)
    if isinstance(item, Alt):
        return any(_takes_all(branch) for branch in item.branches)
    if not isinstance(item, Repeat) or item.lazy or item.high is not None:
        return False
    inner = flat(item.item)
    return len(inner) == 1 and isinstance(inner[0], Chars) and _is_any(inner[0])


def _is_any(chars: Chars) -> bool:
    return chars.mask & _ANY == _ANY


def _is_firm(items: tuple[Node, ...]) -> bool:
    """Whether what follows the address leads to the line's end, and no run of anything is in it."""
    ends = any(isinstance(item, Place) and item.kind == "end" for item in items)
    return ends and not any(_runs_on(item) for item in items)


def _runs_on(item: Node) -> bool:
    """Whether an item holds a run of anything, greedy or not."""
    match item:
        case Repeat(inner, _, high):
            only = flat(inner)
            alone = len(only) == 1 and isinstance(only[0], Chars) and _is_any(only[0])
            return (alone and high is None) or _runs_on(inner)
        case Group(inner):
            return _runs_on(inner)
        case Seq(items) | Alt(items):
            return any(_runs_on(one) for one in items)
        case _:
            return False
