"""The table `inet tocsin` in nft's words: its sets, the rules that ask them, and the elements to put in or take out.

Texts are rendered from parsed keys and integers alone; nothing that came from elsewhere is passed through.
"""

from __future__ import annotations

from itertools import groupby
from typing import TYPE_CHECKING

from tocsin.enforce.subjects import INTERVAL_SETS, SERVICE_KINDS, Change, Target, kind_of, render_target, service_set
from tocsin.model import parts_of
from tocsin.services import PORT_MAX, parse_services

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence


TABLE = "tocsin"

# Elements that a set takes; the next ban is refused with "Too many open files in system" (ENFILE). The kernel sets
# aside a bucket array for 4/3 of that: 8 MB for 524,288; smaller arrays make a dump of 100,000 slower, not faster.
SET_SIZE = {"host4": 524288, "host6": 262144, "addr6": 65536, "net4": 65536, "net6": 65536}

# The same for sets of hosts that are closed to single services, of which there may be many.
SERVICE_SET_SIZE = {"host4": 131072, "host6": 65536}

# An element stops matching when its time ends; its memory waits for the kernel's sweep over the whole set, which keeps
# a processor for up to 10 ms with 100,000 elements. By default it comes every second, and a ban may meet it.
GC_INTERVAL_S = 60

# As in /etc/protocols, which need not be there.
_PROTOCOLS = {"icmp": 1, "tcp": 6, "udp": 17, "dccp": 33, "icmpv6": 58, "sctp": 132, "udplite": 136}


def _set_definition(name: str) -> str:
    like = kind_of(name)
    kind = "ipv4_addr" if like.endswith("4") else "ipv6_addr"
    flags = "interval,timeout" if name in INTERVAL_SETS else "timeout"
    size = SET_SIZE[name] if name == like else SERVICE_SET_SIZE[like]
    return f"type {kind}; size {size}; flags {flags}; gc-interval {GC_INTERVAL_S}s; counter;"


# How each set is asked, in the order of the rules.
MATCHES = {
    "host4": "ip saddr @host4",
    "net4": "ip saddr @net4",
    "host6": "ip6 saddr and ffff:ffff:ffff:ffff:: @host6",
    "addr6": "ip6 saddr @addr6",
    "net6": "ip6 saddr @net6",
}


def _service_matches(services: str) -> Iterator[str]:
    """How the sets of the hosts that are closed to services are asked, in nft's words."""
    for protocol, spans in groupby(parse_services(services), lambda span: span.protocol):
        ports = [str(span).partition("/")[2] for span in spans]
        asked = "" if ports == [f"0-{PORT_MAX}"] else f"th dport {{ {', '.join(ports)} }} "
        for kind in SERVICE_KINDS:
            match = MATCHES[kind].replace(f"@{kind}", f"@{service_set(kind, services)}")
            yield f"meta l4proto {_PROTOCOLS[protocol]} {asked}{match}"


def render_table(table: str = TABLE, only: str = "", services: Iterable[str] = ()) -> str:
    """The whole table as one transaction that creates it, or repairs it and keeps the elements that it holds.

    `services` are those that hosts are closed to singly. Loopback is never dropped. With `only`, a match in nft's
    words, nothing but what it matches is (for the self-test).

    Priority -300 (raw) is before connection tracking and before any address translation: established connections are
    cut too, forwarded ports and containers are covered, and a flood of a banned address fills no tracking table.
    """
    lines = [f"add table inet {table}"]
    services = tuple(services)
    names = (*SET_SIZE, *(service_set(kind, each) for each in services for kind in SERVICE_KINDS))
    matches = (*MATCHES.values(), *(match for each in services for match in _service_matches(each)))
    lines += [f"add set inet {table} {name} {{ {_set_definition(name)} }}" for name in names]
    chain = f"inet {table} prerouting"
    lines += [
        # A chain of another type or policy cannot be changed, but replaced within the transaction.
        f"add chain {chain}",
        f"flush chain {chain}",
        f"delete chain {chain}",
        f"add chain {chain} {{ type filter hook prerouting priority -300; policy accept; }}",
        *(() if only else (f"add rule {chain} iif lo accept",)),
        *(f"add rule {chain} {f'{only} {match}'.lstrip()} drop" for match in matches),
    ]
    return "\n".join(lines)


def _timeout(seconds: int | None) -> str:
    if seconds is None:
        return ""
    # libnftables takes at most 99,999,999 in one unit
    return f" timeout {seconds}s" if seconds < 10**8 else f" timeout {seconds // 86400}d{seconds % 86400}s"


def _key(target: Target) -> str:
    text = parts_of(render_target(target))[0]
    return text if target.set in INTERVAL_SETS else text.partition("/")[0]


def render_new(table: str, set_name: str, changes: Iterable[Change]) -> str:
    """The command that adds elements which are not in the set."""
    elements = ",".join(_key(change.target) + _timeout(change.seconds) for change in changes)
    return f"add set inet {table} {set_name} {{ {_set_definition(set_name)} elements = {{ {elements} }} }}"


def render_renewal(table: str, set_name: str, changes: Sequence[Change]) -> str:
    """The commands that take elements out, whether they are in or not, and put those to be banned in again."""
    where = f"element inet {table} {set_name}"
    keys = ",".join(_key(change.target) for change in changes)
    lines = [f"add {where} {{ {keys} }}", f"delete {where} {{ {keys} }}"]
    if bans := [change for change in changes if change.ban]:
        lines.append(f"add {where} {{ {','.join(_key(ban.target) + _timeout(ban.seconds) for ban in bans)} }}")
    return "\n".join(lines)
