"""What an action is told about a ban, and how it stands in its text. Pure.

Tags are fail2ban's: `<ip>`, `<fid>`, `<family>`, `<ip-rev>`, `<ip-host>`, `<failures>`, `<time>`, `<bantime>`,
`<bancount>`, `<matches>`, `<restored>`, `<F-*>`, `<ipmatches>`, `<ipjailmatches>`, `<ipfailures>`, `<ipjailfailures>`,
`<raw-ticket>`, `<jail.*>`, `<br>`, `<sp>`, `<fq-hostname>`, `<sh-hostname>`. A `<F-NAME>` that the filter did not
capture is empty, as there.

Texts that come from a log are cleaned: control characters become U+FFFD (a NUL could not be passed at all, an escape
sequence would reach a terminal), a line that begins with `~` or is `.` alone gets a space before it (mail programs take
such lines as commands: CVE-2021-32749), and what a filter captured has no line breaks (they would forge headers).
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping

from msgspec import Struct

from tocsin.fail2ban.actions.shelltext import ShellText

MAX_MATCHES_BYTES = 32 << 10
MAX_FIELD_BYTES = 4 << 10
MAX_FIELDS = 64

_CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]")
_CONTROL_OR_BREAK = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_MAIL_COMMAND = re.compile(r"^(?=~|\.$)", re.MULTILINE)
_HOST_NAME = re.compile(r"[A-Za-z0-9_](?:[A-Za-z0-9._-]{0,251}[A-Za-z0-9_])?\.?\Z")
_WORD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\Z")

_TEXTS = frozenset(("matches", "ipmatches", "ipjailmatches", "raw-ticket"))
_NUMBERS = {
    "failures": "failures",
    "bancount": "bancount",
    "ipfailures": "ip_failures",
    "ipjailfailures": "ip_jail_failures",
    "jail.banned": "jail_banned",
    "jail.banned_total": "jail_banned_total",
    "jail.found": "jail_found",
    "jail.found_total": "jail_found_total",
}
_FIXED = frozenset(("br", "sp", "family", "ip-rev", "time", "bantime", "restored", "jail.name"))
_TAGS = _TEXTS | _NUMBERS.keys() | _FIXED | {"ip", "fid", "ip-host", "fq-hostname", "sh-hostname"}


class Ticket(Struct, frozen=True, omit_defaults=True):
    """A ban as actions see it. Times in Unix seconds, spans in seconds; `bantime_s` None is for good.

    `ip` is the address, canonical, or "" where the key is none; `fid` is what is banned. `matches` are the lines of
    this ban, oldest first; `ip_matches` and `ip_jail_matches` those of all bans of the address, in all jails or this
    one. `fields` are the filter's captures by fail2ban's names without `F-`, in lower case.
    """

    fid: str
    ip: str = ""
    ts: float = 0.0
    failures: int = 1
    bantime_s: float | None = None
    bancount: int = 0
    restored: bool = False
    matches: tuple[str, ...] = ()
    fields: Mapping[str, str | None] = {}
    ip_matches: tuple[str, ...] = ()
    ip_jail_matches: tuple[str, ...] = ()
    ip_failures: int = 0
    ip_jail_failures: int = 0
    jail_banned: int = 0
    jail_banned_total: int = 0
    jail_found: int = 0
    jail_found_total: int = 0


class Host(Struct, frozen=True):
    """Who this machine is: `fq` with its domain, `short` without."""

    fq: str = ""
    short: str = ""


def is_dynamic(tag: str) -> bool:
    """Whether a tag is filled in when somebody is banned."""
    return tag in _TAGS or (tag.startswith("F-") and tag[2:3].isupper())


def from_log(tag: str) -> bool:
    """Whether a client, or who runs its name server, may have chosen the tag's value."""
    return tag in _TEXTS or tag.startswith("F-") or tag in ("ip-host", "fid", "ip")


def family_of(ticket: Ticket) -> str:
    """`inet4`, `inet6`, or "" where what is banned is no address."""
    if not ticket.ip:
        return ""
    return "inet6" if ":" in ticket.ip else "inet4"


def bound(ticket: Ticket) -> Ticket:
    """The same ticket, small enough to be passed on: the newest lines that fit, fields cut."""
    fields = {
        name[:64]: None if text is None else _cut(text, MAX_FIELD_BYTES)
        for name, text in list(ticket.fields.items())[:MAX_FIELDS]
    }
    return Ticket(
        fid=_cut(ticket.fid, MAX_FIELD_BYTES),
        ip=ticket.ip if _is_address(ticket.ip) else "",
        ts=ticket.ts,
        failures=ticket.failures,
        bantime_s=ticket.bantime_s,
        bancount=ticket.bancount,
        restored=ticket.restored,
        matches=_newest(ticket.matches),
        fields=fields,
        ip_matches=_newest(ticket.ip_matches),
        ip_jail_matches=_newest(ticket.ip_jail_matches),
        ip_failures=ticket.ip_failures,
        ip_jail_failures=ticket.ip_jail_failures,
        jail_banned=ticket.jail_banned,
        jail_banned_total=ticket.jail_banned_total,
        jail_found=ticket.jail_found,
        jail_found_total=ticket.jail_found_total,
    )


def render(text: ShellText, ticket: Ticket, jail: str, host: Host, ip_host: str = "") -> tuple[str, dict[str, str]]:
    """The text to give to a shell and the variables to give with it.

    ValueError where a text from a log would stand where another program reads it as its own.
    """

    def spliced(tag: str) -> str | None:
        value = value_of(tag, ticket, jail, host, ip_host)
        return value if _is_plain(tag, value) else None

    rendered, variables = text.render(spliced)
    for tag, program in text.reparsed:
        if tag in variables.values() and from_log(tag):
            raise ValueError(f"<{tag}> is no address here, and {program} would read it as its own text")
    environment = {}
    for variable, tag in variables.items():
        value = _clean(tag, value_of(tag, ticket, jail, host, ip_host))
        environment[variable] = value.replace("\\", "\\\\") if text.doubles_backslashes else value
    return rendered, environment


def value_of(tag: str, ticket: Ticket, jail: str, host: Host, ip_host: str) -> str:
    """A dynamic tag's value as it came, "" where there is none."""
    if tag in _NUMBERS:
        return str(int(getattr(ticket, _NUMBERS[tag])))
    if tag.startswith("F-"):
        return ticket.fields.get(_field_of(tag)) or ""
    values = {
        "ip": ticket.ip or ticket.fid,
        "fid": ticket.fid,
        "family": family_of(ticket),
        "ip-rev": _reversed(ticket.ip),
        "ip-host": ip_host if _HOST_NAME.match(ip_host) else "",
        "time": str(int(ticket.ts)),
        "bantime": "-1" if ticket.bantime_s is None else str(int(ticket.bantime_s)),
        "restored": "1" if ticket.restored else "0",
        "matches": "\n".join(ticket.matches),
        "ipmatches": "\n".join(ticket.ip_matches or ticket.matches),
        "ipjailmatches": "\n".join(ticket.ip_jail_matches or ticket.matches),
        "raw-ticket": repr(ticket),
        "jail.name": jail,
        "br": "\n",
        "sp": " ",
        "fq-hostname": host.fq,
        "sh-hostname": host.short,
    }
    return values[tag]


def _field_of(tag: str) -> str:
    name = tag[2:].lower()
    return {"id": "fid", "port": "fport"}.get(name, name)


def _is_plain(tag: str, value: str) -> bool:
    """Whether the value may stand in the text itself: an address, a number, or a fixed word of ours."""
    if tag in ("br", "sp", "family", "ip-rev", "time", "bantime", "restored") or tag in _NUMBERS:
        return True
    if tag in ("ip", "fid"):
        return _is_address(value)
    if tag in ("jail.name", "fq-hostname", "sh-hostname"):
        return _WORD.match(value) is not None
    return False


def _clean(tag: str, value: str) -> str:
    if tag in _TEXTS:
        return _MAIL_COMMAND.sub(" ", _CONTROL.sub("\ufffd", value))
    return _MAIL_COMMAND.sub(" ", _CONTROL_OR_BREAK.sub("\ufffd", value))


def _is_address(text: str) -> bool:
    """Whether the text is an address as `ipaddress` would write it: no zone, no mask, nothing else."""
    try:
        return str(ipaddress.ip_address(text)) == text and "%" not in text
    except ValueError:
        return False


def _reversed(ip: str) -> str:
    """`192.0.2.7` -> `7.2.0.192.`, as the front of a name in DNS lists; IPv6 by nibbles."""
    if not _is_address(ip):
        return ""
    address = ipaddress.ip_address(ip)
    digits = ip.split(".") if address.version == 4 else list(address.exploded.replace(":", ""))
    return ".".join(reversed(digits)) + "."


def _cut(text: str, limit_bytes: int) -> str:
    raw = text.encode("utf-8", "replace")
    return text if len(raw) <= limit_bytes else raw[:limit_bytes].decode("utf-8", "ignore")


def _newest(lines: tuple[str, ...]) -> tuple[str, ...]:
    kept: list[str] = []
    room = MAX_MATCHES_BYTES
    for line in reversed(lines):
        line = _cut(line, MAX_FIELD_BYTES)  # noqa: PLW2901  the same line, bounded
        room -= len(line.encode("utf-8", "replace")) + 1
        if room < 0:
            break
        kept.append(line)
    return tuple(reversed(kept))
