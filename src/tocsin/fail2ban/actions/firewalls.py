"""What firewall programs look like in an action, and which ports their words mean. Data, and reading of it; pure.

An action is known by what it calls and what it says, never by its file's name: a copy of `iptables.conf` under another
name is iptables all the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

from msgspec import Struct

PORT_MAX = 65535


class Family(Struct, frozen=True):
    """A firewall: the programs that are it, and whether it exists on Linux. `title` is for people."""

    title: str
    programs: frozenset[str]
    linux: bool = True


FAMILIES = (
    Family("iptables", frozenset(("iptables", "ip6tables", "iptables-nft", "ip6tables-nft", "iptables-legacy",
                                  "ip6tables-legacy", "ebtables"))),
    Family("nftables", frozenset(("nft",))),
    Family("ipset", frozenset(("ipset",))),
    Family("firewalld", frozenset(("firewall-cmd",))),
    Family("ufw", frozenset(("ufw",))),
    Family("shorewall", frozenset(("shorewall", "shorewall6", "shorewall-lite", "shorewall6-lite"))),
    Family("apf", frozenset(("apf",))),
    Family("csf", frozenset(("csf",))),
    Family("routes", frozenset(("route",))),
    Family("pf", frozenset(("pfctl",)), linux=False),
    Family("ipfw", frozenset(("ipfw",)), linux=False),
    Family("ipfilter", frozenset(("ipf",)), linux=False),
    Family("npf", frozenset(("npfctl",)), linux=False),
    Family("afctl", frozenset(("afctl",)), linux=False),
)  # fmt: skip
ROUTES = FAMILIES[8]
XT_RECENT = Family("iptables with xt_recent", frozenset())
TCP_WRAPPERS = Family("hosts.deny", frozenset())
_BY_PROGRAM = {program: family for family in FAMILIES for program in family.programs}

# What a firewall action may call beside the firewall and still be nothing but that: text tools, and programs that cut
# connections, which our own enforcement does as well.
HELPERS = frozenset(
    ("echo", "printf", "grep", "egrep", "fgrep", "sed", "awk", "tr", "cut", "head", "tail", "sort", "uniq", "cat",
     "expr", "id", "true", "false", ":", "exit", "read", "sleep", "wc", "rm", "touch", "ss",
     "conntrack", "set", "shift", "local", "unset", "break", "continue", "return", "date")
)  # fmt: skip

_ROUTE_COMMAND = re.compile(r"(?:^|[\s/;|&({])ip\s+(?:-\S+\s+)*r(?:o(?:u(?:t(?:e)?)?)?)?\s+(?:add|del|replace)\b")
_RECENT = re.compile(r"/proc/(?:self/)?net/(?:xt|ipt)_recent/")
_HOSTS_DENY = re.compile(r"hosts\.(?:deny|allow|evil)\b")

_BLOCKS = re.compile(
    r"(?:-j|-g|--jump)\s+(?:DROP|REJECT|TARPIT|STEAL)\b|"
    r"\b(?:drop|reject|deny|tarpit|blackhole|unreachable|prohibit|unreach)\b|(?i:f2b|fail2ban|black_?list|block|banned|\bban)",
)
_LETS_IN = re.compile(r"(?:-j|-g|--jump)\s+(?:ACCEPT|RETURN)\b|\b(?:accept|allow)\b|(?i:white_?list|allow_?list)")
_BLOCKING = frozenset(
    ("reject", "drop", "deny", "tarpit", "blackhole", "unreachable", "prohibit", "block", "unreach", "blacklist",
     "steal", "return-icmp(port-unr)", "logdrop", "logreject", "throw", "limit")
)  # fmt: skip
_LETTING = frozenset(("accept", "return", "allow", "log", "mark", "nflog", "ulog", "continue", "pass", "permit"))

_DPORT = re.compile(r"(?:--dports?|--destination-ports?|\bdport|\bport\s+port=)\s*!?\s*([^\n;]*)")
_PORT_WORDS = re.compile(r"[\w-]+(?:[:-][\w-]+)?(?:\s*,\s*[\w-]+(?:[:-][\w-]+)?)*")
_PROTOCOL = re.compile(
    r"(?:\s-p\s+|--protocol[= ]|\bl4proto\s+|\bprotocol=|\bproto\s+|\bfor proto in )"
    r"(\\?\{[^}\n]*|\$\([^)\n]*|'[^'\n]*|\S+)"
)
_NFT_PROTOCOL = re.compile(r"\b(tcp|udp|udplite|sctp|dccp)\s+dport\b")
_PROTOCOL_NAME = re.compile(r"\b(tcp|udp|udplite|sctp|dccp|icmp|icmpv6|ipv6-icmp|all)\b")

# Names of /etc/services (IANA's, and the aliases that Debian has) that servers behind fail2ban are known by.
SERVICES = {
    "ftp-data": 20, "ftp": 21, "ssh": 22, "telnet": 23, "smtp": 25, "mail": 25, "whois": 43, "tacacs": 49, "domain": 53,
    "dns": 53, "tftp": 69, "gopher": 70, "finger": 79, "http": 80, "www": 80, "kerberos": 88, "pop2": 109, "pop3": 110,
    "pop-3": 110, "sunrpc": 111, "portmapper": 111, "auth": 113, "nntp": 119, "ntp": 123, "epmap": 135,
    "netbios-ns": 137, "netbios-dgm": 138, "netbios-ssn": 139, "imap2": 143, "imap": 143, "snmp": 161, "snmp-trap": 162,
    "xdmcp": 177, "bgp": 179, "irc": 194, "qmtp": 209, "imap3": 220, "ldap": 389, "https": 443, "microsoft-ds": 445,
    "kpasswd": 464, "submissions": 465, "ssmtp": 465, "smtps": 465, "urd": 465, "isakmp": 500, "exec": 512,
    "login": 513, "shell": 514, "syslog": 514, "printer": 515, "uucp": 540, "nntps": 563, "snews": 563,
    "submission": 587, "ipp": 631, "ldaps": 636, "tinc": 655, "kerberos-adm": 749, "domain-s": 853, "rsync": 873,
    "ftps-data": 989, "ftps": 990, "telnets": 992, "imaps": 993, "ircs": 994, "pop3s": 995, "socks": 1080,
    "openvpn": 1194, "ms-sql-s": 1433, "ms-sql-m": 1434, "l2f": 1701, "l2tp": 1701, "radius": 1812, "radius-acct": 1813,
    "mqtt": 1883,
    "nfs": 2049, "cvspserver": 2401, "mysql": 3306, "icpv2": 3130, "ms-wbt-server": 3389, "rdp": 3389, "nut": 3493,
    "svn": 3690, "epmd": 4369, "sieve": 4190, "ipsec-nat-t": 4500, "iax": 4569, "munin": 4949, "sip": 5060,
    "sip-tls": 5061, "sips": 5061, "xmpp-client": 5222, "xmpp-server": 5269, "postgresql": 5432, "postgres": 5432,
    "amqps": 5671, "amqp": 5672, "x11": 6000, "redis": 6379, "ircd": 6667, "ircs-u": 6697, "http-alt": 8080,
    "webcache": 8080, "mqtts": 8883, "secure-mqtt": 8883, "git": 9418, "bacula-dir": 9101, "bacula-fd": 9102,
    "bacula-sd": 9103, "amanda": 10080, "webmin": 10000, "zabbix-agent": 10050, "zabbix-trapper": 10051,
    "mongodb": 27017, "mumble": 64738,
}  # fmt: skip

Lookup = Callable[[str], int | None]


def family_of_command(text: str, called: tuple[str, ...]) -> Family | None:
    """The firewall that a command works on, None where it works on none. `called` are its programs."""
    for program in called:
        family = _BY_PROGRAM.get(program)
        if family is not None:
            return family
    if _ROUTE_COMMAND.search(text):
        return ROUTES
    if _RECENT.search(text):
        return XT_RECENT
    return TCP_WRAPPERS if _HOSTS_DENY.search(text) else None


def others_called(text: str, called: tuple[str, ...]) -> tuple[str, ...]:
    """Programs in a firewall's command that are neither a firewall nor a helper: it does something else as well."""
    routes = _ROUTE_COMMAND.search(text) is not None
    return tuple(
        program
        for program in called
        if program not in _BY_PROGRAM and program not in HELPERS and not (routes and program == "ip")
    )


def verdict_of(blocktype: str, ban: str, all_texts: str) -> Literal["blocks", "lets in", "unknown"]:
    """What happens to whom the action is run for. `blocktype` is that option, "" without."""
    word = blocktype.strip().strip("'\"").partition(" ")[0].lower()
    if word in _LETTING:
        return "lets in"
    if word in _BLOCKING:
        return "blocks"
    if _LETS_IN.search(ban):
        return "lets in"
    return "blocks" if _BLOCKS.search(ban) or _BLOCKS.search(all_texts) else "unknown"


def names_ports(text: str) -> bool:
    """Whether the rules that a text makes look at the destination's port."""
    return _DPORT.search(text) is not None or re.search(r"\bto\s+\S+\s+port\b|\bport \$?\{?port", text) is not None


def literal_ports(text: str) -> str:
    """The ports written out after `--dports` and its like, "" where they are given by a variable."""
    match = _DPORT.search(text)
    if match is None:
        return ""
    given = match[1].strip()
    echoed = re.search(r"echo\s+['\"]([^'\"]*)['\"]", given)
    given = (echoed[1] if echoed else given).strip().lstrip("\\{ '\"")
    words = _PORT_WORDS.match(given)
    return "" if words is None else words[0]


def protocols_of(text: str, option: str) -> tuple[str, ...]:
    """The protocols that a rule looks at; empty: all."""
    given = [match[1] for match in _PROTOCOL.finditer(text)]
    given += _NFT_PROTOCOL.findall(text)
    if not given:
        return ()
    found = [name for words in given for name in _PROTOCOL_NAME.findall(words)] or _PROTOCOL_NAME.findall(option)
    return () if "all" in found else tuple(dict.fromkeys(found))


def ports_of(text: str, lookup: Lookup | None = None) -> tuple[tuple[tuple[int, int], ...], tuple[str, ...]]:
    """`http,8000:8080` -> ranges, sorted and merged, and the names that nobody knows.

    No ranges and no unknown names: nothing is named, or `all`. A name is looked up in the table here, then by `lookup`
    (such as socket.getservbyname). `a-b` is a range as `a:b` is, unless it is a name.
    """
    ranges: list[tuple[int, int]] = []
    unknown: list[str] = []
    for word in re.split(r"[\s,{}]+", text.strip()):
        if not word:
            continue
        if word.lower() in ("all", "any", "0-65535", "0:65535", "1:65535"):
            return (), ()
        span = _range_of(word, lookup)
        if span is None:
            unknown.append(word)
        else:
            ranges.append(span)
    merged = _merge(ranges)
    return (() if merged and merged[0][0] <= 1 and merged[-1] == (merged[0][0], PORT_MAX) else merged), tuple(unknown)


def _range_of(word: str, lookup: Lookup | None) -> tuple[int, int] | None:
    one = _port(word, lookup)
    if one is not None:
        return one, one
    for separator in (":", "-"):
        low, found, high = word.partition(separator)
        if not found:
            continue
        start = 0 if not low else _port(low, lookup)
        end = PORT_MAX if not high else _port(high, lookup)
        if start is not None and end is not None and start <= end:
            return start, end
    return None


def _port(word: str, lookup: Lookup | None) -> int | None:
    if word.isascii() and word.isdigit():
        number = int(word[:9])
        return number if number <= PORT_MAX else None
    known = SERVICES.get(word.lower())
    return known if known is not None or lookup is None else lookup(word)


def _merge(ranges: list[tuple[int, int]]) -> tuple[tuple[int, int], ...]:
    merged: list[tuple[int, int]] = []
    for low, high in sorted(ranges):
        if merged and low <= merged[-1][1] + 1:
            merged[-1] = (merged[-1][0], max(high, merged[-1][1]))
        else:
            merged.append((low, high))
    return tuple(merged)
