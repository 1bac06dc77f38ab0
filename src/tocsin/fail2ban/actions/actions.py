"""Which of a jail's actions block somebody, what they block, and what becomes of the others. Pure.

An action is judged by what it calls and says (`firewalls`). Those that work on a firewall and on nothing else are not
run: Tocsin's own enforcement takes their place, for the same ports and protocols. All others are run as configured by
the runner. A firewall action that lets in whom it finds (`blocktype = RETURN`: port knocking) is no ban: it is left to
the runner, and its jail has no enforcement.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from typing import Literal

from msgspec import Struct

from tocsin.fail2ban.actions import firewalls
from tocsin.fail2ban.actions.commands import Commands, commands_of, text_of
from tocsin.fail2ban.actions.firewalls import Family, Lookup
from tocsin.fail2ban.actions.shelltext import programs
from tocsin.fail2ban.model import ActionSpec, Jail, Remark

Kind = Literal["ours", "both", "run", "elsewhere", "python", "part"]

# What an ordinary user may not do: a hint for people, nothing depends on it.
_ROOTS = frozenset(
    ("iptables", "ip6tables", "nft", "ipset", "firewall-cmd", "ufw", "conntrack", "sysctl", "systemctl", "service",
     "rndc", "ss", "route", "apachectl", "apache2ctl", "nginx", "a2ensite", "a2dissite", "postfix")
)  # fmt: skip
_ROOTS_PLACES = re.compile(r"(?:>|\btouch\b|\brm\b|\btruncate\b|\bsed\s+-i)[^\n;|]*?(/etc|/proc/net|/usr|/boot)/")
_SENDS_MAIL = frozenset(("mail", "mailx", "sendmail", "mutt"))
_RUN_DIRECTORY = re.compile(r"(/(?:var/)?run/[\w.-]+)/")
_SERVICE_PROTOCOLS = ("tcp", "udp")


class Service(Struct, frozen=True, order=True):
    """Ports of a protocol, both ends included."""

    protocol: str
    low: int
    high: int


class Enforcement(Struct, frozen=True):
    """What a ban of this jail is to block: `services`; where there are none, everything.

    `ports` and `protocols` say the same apart from each other, for people and for sets that know no pairs: empty means
    all. `chain` is the one that the actions named (ours comes before every chain). `actions` are those it stands for.
    """

    services: tuple[Service, ...] = ()
    ports: tuple[tuple[int, int], ...] = ()
    protocols: tuple[str, ...] = ()
    chain: str = ""
    actions: tuple[str, ...] = ()

    def sentence(self) -> str:
        """`tcp ports 80, 443`, or `everything`."""
        if not self.services:
            return "everything"
        parts = []
        for protocol in dict.fromkeys(service.protocol for service in self.services):
            mine = [service for service in self.services if service.protocol == protocol]
            spans = ", ".join(str(one.low) if one.low == one.high else f"{one.low} to {one.high}" for one in mine)
            whole = [(one.low, one.high) for one in mine] == [(0, firewalls.PORT_MAX)]
            parts.append(f"all of {protocol}" if whole else f"{protocol} port{'' if spans.isdigit() else 's'} {spans}")
        return " and ".join(parts)


class Sorting(Struct, frozen=True):
    """What becomes of one action.

    `ours`: enforced in its place. `both`: it blocks and does something else as well, so it is enforced and run. `run`:
    run as configured. `elsewhere`: a firewall that Linux does not have, enforced in its place. `python`: a Python
    class, not run. `part`: nothing to run. `sentence` says so to people, with what to do where there is something.
    """

    action: ActionSpec
    kind: Kind
    sentence: str
    enforcement: Enforcement | None = None
    remarks: tuple[Remark, ...] = ()


class Sorted(Struct, frozen=True):
    """A jail's actions. `enforcement` None: a ban of this jail blocks nobody, it only runs `run`."""

    jail: str
    enforcement: Enforcement | None
    run: tuple[ActionSpec, ...]
    sortings: tuple[Sorting, ...]
    remarks: tuple[Remark, ...]


def enforcement_of(jail: Jail, lookup: Lookup | None = None) -> Enforcement | None:
    """What a ban of the jail blocks, None where none of its actions blocks anybody."""
    return sort_actions(jail, lookup).enforcement


def sort_actions(jail: Jail, lookup: Lookup | None = None) -> Sorted:
    """Judge all of a jail's actions. `lookup` knows port names beyond the common ones."""
    sortings = tuple(sort_action(action, jail, lookup) for action in jail.actions)
    remarks = [remark for sorting in sortings for remark in sorting.remarks]
    enforcement = _together([sorting.enforcement for sorting in sortings if sorting.enforcement is not None])
    run = tuple(sorting.action for sorting in sortings if sorting.kind in ("run", "both"))
    if enforcement is None:
        what = "its actions are run, but nobody is blocked" if run else "whom it finds is reported, but not blocked"
        text = f"no action of this jail blocks anybody: {what}; add `banaction` to its `action` if it should"
        remarks.append(Remark("warning", text, jail.name, jail.file, jail.line))
    return Sorted(jail.name, enforcement, run, sortings, tuple(remarks))


def sort_action(action: ActionSpec, jail: Jail, lookup: Lookup | None = None) -> Sorting:
    """Judge one action."""
    if action.name.endswith(".py") or action.file.endswith(".py"):
        text = (
            f"{action.name} is a Python class, and is not run; use one of shell commands (mail, sendmail) in its place"
        )
        return Sorting(action, "python", text, None, (_remark("warning", text, jail, action),))
    try:
        ban, texts = _texts(action)
    except ValueError as error:
        text = f"{action.name}: {error}; it is not run"
        return Sorting(action, "part", text, None, (_remark("warning", text, jail, action),))
    if not any(texts):
        text = f"{action.name} has no commands: a part of others, or empty; nothing is run"
        return Sorting(action, "part", text, None, (_remark("warning", text, jail, action),))
    called = programs(ban)
    family = firewalls.family_of_command(ban, called)
    if family is None:
        return _run(action, jail, texts, "")
    verdict = firewalls.verdict_of(action.options.get("blocktype", ""), ban, "\n".join(texts))
    if verdict == "lets in":
        why = f"it lets in whom it finds ({family.title}); Tocsin's enforcement only blocks"
        return _run(action, jail, texts, why)
    return _enforced(action, jail, family, ban, texts, lookup, sure=verdict == "blocks")


def _texts(action: ActionSpec) -> tuple[str, tuple[str, ...]]:
    """actionban, and all that is run; each for both families where they differ."""
    moments = ("actionban", "actionstart", "actionstop", "actionunban", "actionflush", "actioncheck", "actionprolong")
    return text_of(action, "actionban"), tuple(
        text_of(action, moment, family) for family in ("inet4", "inet6") for moment in moments
    )


def _run(action: ActionSpec, jail: Jail, texts: Sequence[str], why: str) -> Sorting:
    commands = commands_of(action)
    sentence = f"{action.name} is run as configured, beside the ban, for at most {commands.timeout_s:g} s"
    if why:
        sentence += f": {why}"
    remarks = [_remark("warning" if why else "instead", sentence, jail, action)]
    remarks += [_remark("warning", text, jail, action) for text in _wants(action, texts)]
    remarks += [_remark("warning", text, jail, action) for text in unrunnable(commands)]
    return Sorting(action, "run", sentence, None, tuple(remarks))


def unrunnable(commands: Commands) -> tuple[str, ...]:
    """What is not run, and what to write instead."""
    refused = tuple(
        f"{one.moment} is not run: {one.program} would read <{one.tag}>, which a client has written, as its own text; "
        f'put the command into a script and call it with "<{one.tag}>" as an argument'
        for one in commands.refused
    )
    return refused + tuple(f"not run: {text}" for text in commands.troubles)


def _wants(action: ActionSpec, texts: Sequence[str]) -> Iterable[str]:
    """What an action will likely need more than an ordinary user has."""
    joined = "\n".join(texts)
    called = [name for text in texts for name in programs(text)]
    place = _ROOTS_PLACES.search(joined)
    needs = [f"it calls {name}" for name in called if name in _ROOTS] or ([f"it writes in {place[1]}"] if place else [])
    if needs:
        yield f'{action.name} will likely need root ({needs[0]}): set [fail2ban] actions_user = "root" if you trust it'
    if _SENDS_MAIL & set(called):
        yield (
            f"{action.name} sends mail: where the mail program is setuid or setgid (sendmail of Postfix and Exim), the "
            "systemd unit must have NoNewPrivileges=no"
        )
    directories = dict.fromkeys(_RUN_DIRECTORY.findall(joined))
    for directory in directories:
        yield f"{action.name} writes in {directory}: it has to be there and belong to [fail2ban] actions_user"


def _enforced(
    action: ActionSpec, jail: Jail, family: Family, ban: str, texts: Sequence[str], lookup: Lookup | None, *, sure: bool
) -> Sorting:
    enforcement, unknown = _blocked(action, jail, "\n".join(texts), lookup)
    others = firewalls.others_called(ban, programs(ban))
    sentence = f"{action.name}: Tocsin's own enforcement blocks {enforcement.sentence()} in its place"
    if not family.linux:
        sentence += f" ({family.title} is not on this system)"
    elif enforcement.chain:
        sentence += f" (it comes before chain {enforcement.chain}, as before every other)"
    remarks = [_remark("instead", sentence, jail, action)]
    if not sure:
        text = f"nothing in {action.name} says that it blocks: it is taken to; write `blocktype = ACCEPT` if it lets in"
        remarks.append(_remark("warning", text, jail, action))
    for name in unknown:
        text = f"port = {name}: nobody knows a service of that name; write its number"
        remarks.append(_remark("warning", text, jail, action))
    if unknown and not enforcement.ports:
        remarks.append(_remark("warning", "no port is known, so all are blocked", jail, action))
    for option in ("application", "daemon_list"):
        named = action.options.get(option, "").strip()
        if named and named != "ALL" and not enforcement.services:
            text = f"{option} = {named}: its ports are not known here, so all are blocked"
            remarks.append(_remark("warning", text, jail, action))
    kind: Kind = "ours" if family.linux else "elsewhere"
    if others:
        kind = "both"
        text = f"{action.name} also calls {', '.join(others)}: it is run as well, its firewall commands included"
        remarks.append(_remark("warning", text, jail, action))
        remarks += [_remark("warning", text, jail, action) for text in _wants(action, texts)]
        remarks += [_remark("warning", text, jail, action) for text in unrunnable(commands_of(action))]
    return Sorting(action, kind, sentence, enforcement, tuple(remarks))


def _blocked(action: ActionSpec, jail: Jail, text: str, lookup: Lookup | None) -> tuple[Enforcement, tuple[str, ...]]:
    """What the rules that a firewall action makes look at, and the port names that nobody knows."""
    ports: tuple[tuple[int, int], ...] = ()
    unknown: tuple[str, ...] = ()
    if firewalls.names_ports(text):
        option = action.options.get("port") or jail.port
        written = firewalls.literal_ports(text)
        ports, unknown = firewalls.ports_of(written or option, lookup)
    protocols = firewalls.protocols_of(text, action.options.get("protocol") or jail.protocol)
    if ports and not protocols:
        protocols = _SERVICE_PROTOCOLS
    spans = ports or ((0, firewalls.PORT_MAX),)
    services = tuple(Service(protocol, low, high) for protocol in protocols for low, high in spans)
    chain = action.options.get("chain", "")
    chain = jail.chain if "<" in chain else chain
    used = chain if chain and "<" not in chain and re.search(rf"\b{re.escape(chain)}\b", text) else ""
    return Enforcement(services, ports, protocols, used, (action.actname,)), unknown


def _together(parts: Sequence[Enforcement]) -> Enforcement | None:
    """What several actions of one jail block."""
    if not parts:
        return None
    everything = any(not part.services for part in parts)
    services = () if everything else tuple(sorted({service for part in parts for service in part.services}))
    ports = (
        () if everything or any(not part.ports for part in parts) else {span for part in parts for span in part.ports}
    )
    protocols = () if everything else dict.fromkeys(protocol for part in parts for protocol in part.protocols)
    chain = next((part.chain for part in parts if part.chain), "")
    actions = tuple(dict.fromkeys(name for part in parts for name in part.actions))
    return Enforcement(services, tuple(sorted(ports)), tuple(protocols), chain, actions)


def _remark(severity: Literal["error", "warning", "instead"], text: str, jail: Jail, action: ActionSpec) -> Remark:
    return Remark(severity, text, jail.name, action.file or jail.file, 0 if action.file else jail.line)
