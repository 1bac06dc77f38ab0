"""The tags of a filter's regexes (`<HOST>`, `<F-USER>...</F-USER>`), written out. Pure.

A tag stands for a group: addresses are captured as `ip4`, `ip6` or `dns`, a filter's own id as `fid`, its port as
`fport`, `<F-X>` as `x`. Unknown tags stay as they are, since `<` and `>` are ordinary signs in a log.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from tocsin.fail2ban.filters.syntax import ADDRESS_GROUPS

_OCTETS = r"\d{1,3}(?:\.\d{1,3}){3}"
_QUAD = "[0-9A-Fa-f]{1,4}"
IP4 = rf"(?:::ffff{{1,3}}:)?(?P<ip4>{_OCTETS})"
IP6 = rf"(?P<ip6>(?:(?:{_QUAD})?::|{_QUAD}:){{1,7}}(?:{_QUAD}|(?<=:):))"
DNS = r"(?P<dns>[\w^.-]*\w)"
CIDR = r"(?P<cidr>\d+)"
ADDR = rf"\[?(?:{IP4}|{IP6})\]?"
HOST = rf"(?:{ADDR}|{DNS})"
SUBNET = rf"\[?(?:{IP4}|{IP6})(?:/{CIDR})?\]?"

_ADDRESSES: Mapping[str, str] = {
    "IP4": IP4,
    "IP6": IP6,
    "ADDR": ADDR,
    "DNS": DNS,
    "CIDR": CIDR,
    "SUBNET": SUBNET,
}
_CLOSED: Mapping[str, str] = {
    **{f"F-{name}/": text for name, text in _ADDRESSES.items()},
    "F-ID/": r"(?P<fid>\S+)",
    "F-PORT/": r"(?P<fport>\w+)",
}
_TAG = re.compile(r"<(/?)([\w-]+)(/?)>")
_OWN = re.compile(r"F-([A-Z0-9_-]+)")
_FLAGS_IN_GROUP = re.compile(r"(?<!\\)\((?:\?:)?\(\?([a-z]+)\)")

GROUPS: Mapping[str, str] = {"id": "fid", "port": "fport"}
"""The groups that are called otherwise than their tags."""

ID_GROUPS = ("fid", *ADDRESS_GROUPS)


def expand(regex: str, usedns: str = "warn") -> str:
    """A filter's regex with its tags written out, as `re` reads it.

    With `usedns` "no", `<HOST>` is an address only. A flag at the beginning of a group, `((?i)a|b)`, holds for that
    group, which thereby no longer captures.
    """
    opened: set[str] = set()
    skipped = 0

    def of(match: re.Match[str]) -> str:
        nonlocal skipped
        closing, name, closed = match.groups()
        tag = name + closed
        if closing:
            own = _OWN.fullmatch(name)
            return ")" if own and not closed and own[1] in opened else match[0]
        if tag == "HOST":
            return ADDR if usedns == "no" else HOST
        if tag == "SKIPLINES":
            skipped += 1
            return rf"\n(?P<skiplines{skipped - 1}>(?:.*\n)*?)"
        if fixed := _ADDRESSES.get(tag) or _CLOSED.get(tag):
            return fixed
        own = None if closed else _OWN.fullmatch(name)
        if own is None:
            return match[0]
        opened.add(own[1])
        return f"(?P<{group_of(own[1])}>"

    return _FLAGS_IN_GROUP.sub(r"(?\1:", _TAG.sub(of, regex))


def group_of(tag: str) -> str:
    """The group that a tag `<F-TAG>` captures into."""
    return GROUPS.get(tag.lower(), tag.lower())


FIELDS: Mapping[str, str] = {group: tag for tag, group in GROUPS.items()}


def field_of(group: str) -> str:
    """What a group is called among a failure's fields: the tag's name in lower case."""
    return FIELDS.get(group, group)


_COMPLEX = re.compile(r"(alt|tuple)_(.+?)(?:_\d+)?", re.DOTALL)


def alternates(groups: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    """(group, the group that it stands in for where that is empty), of `<F-ALT_X>`, in order of name."""
    return _complex(groups, "alt")


def parts(groups: Mapping[str, int]) -> tuple[tuple[str, str], ...]:
    """(group, the group whose value it becomes a further part of), of `<F-TUPLE_X>`, in order of name."""
    return _complex(groups, "tuple")


def _complex(groups: Mapping[str, int], kind: str) -> tuple[tuple[str, str], ...]:
    found = ((group, _COMPLEX.fullmatch(group)) for group in sorted(groups))
    return tuple((group, group_of(match[2])) for group, match in found if match and match[1] == kind)
