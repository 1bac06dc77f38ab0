"""From a configuration to what guard runs with: rules, policy, allow list, formats of its logs, zone.

`tocsin check` and the watcher both use this, so that what was checked is what runs.
"""

from __future__ import annotations

import glob
import os
import socket
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta, timezone, tzinfo
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

import msgspec
from msgspec import UNSET, structs

from tocsin.config import Config, ConfigError, ConfigErrors
from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import BreakerSettings
from tocsin.decide.crawlers import Published, read_ranges, shipped
from tocsin.decide.impostors import Answer
from tocsin.decide.policy import PolicySettings
from tocsin.decide.prefixes import Prefixes, PrefixSettings
from tocsin.decide.siege import SiegeSettings
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.resolving import PORT, Resolver
from tocsin.rules import CompiledRule, Rule, compile_rule, load_rules
from tocsin.sources.host import read_resolvers, safe_addresses
from tocsin.sources.journal import Journal

if TYPE_CHECKING:
    from tocsin.fail2ban.rules import Jailed

DEFAULT_RULES = "/etc/tocsin/rules.d"
RANGES_MOST_BYTES = 4 << 20
SERVERS_MOST = 3


def reloaded(config: Config, before: Config) -> tuple[str, Config]:
    """A configuration as a reload takes it up, and what to say of what it cannot change; empty where it is the same.

    The running processes were made by the `[guard]` of the one before. One that says nothing of fail2ban keeps what the
    command line said.
    """
    if not config.fail2ban.path:
        config = structs.replace(config, fail2ban=before.fail2ban)
    wanted = structs.asdict(config.guard)
    kept = [(name, value) for name, value in structs.asdict(before.guard).items() if value != wanted[name]]
    if not kept:
        return "", config
    told = " and ".join(f"{name} = {msgspec.json.encode(value).decode()}" for name, value in kept)
    return f"; it goes on with [guard] {told} until a restart", structs.replace(config, guard=before.guard)


def rules_of(config: Config) -> tuple[CompiledRule, ...]:
    """The rules that are on: shipped and the configuration's, with its changes. RuleErrors or ConfigErrors."""
    rules = {rule.id: rule for rule in load_rules(_present(config))}
    errors: list[ConfigError] = []
    known = ", ".join(sorted(rules))
    for rule_id in config.rules.disable:
        if rule_id not in rules:
            problem, remedy = f'there is no rule "{rule_id}"', f"the rules are: {known}"
            errors.append(ConfigError(config.file, config.rules.disable_line, "rules.disable", problem, remedy))
    for change in config.rules.override:
        if change.rule not in rules:
            problem, remedy = f'there is no rule "{change.rule}"', f"the rules are: {known}"
            errors.append(ConfigError(config.file, change.line, f"rules.{change.rule}", problem, remedy))
            continue
        wanted = {"limit": change.limit, "within_s": change.within_s, "ban_s": change.ban_s}
        changed = {name: value for name, value in wanted.items() if value is not UNSET}
        rules[change.rule] = structs.replace(rules[change.rule], **changed)
    if errors:
        raise ConfigErrors(tuple(errors))
    return tuple(compile_rule(rule) for rule in _enabled(rules.values(), set(config.rules.disable)))


def jails_of(config: Config) -> Jailed | None:
    """The jails of the fail2ban configuration that `[fail2ban]` names, as rules beside those of `rules_of`.

    ConfigErrors where it cannot be read at all; what is wrong with single jails is in `remarks`.
    """
    if not config.fail2ban.path:
        return None
    from tocsin.fail2ban.rules import rules_of as jail_rules  # noqa: PLC0415  as above
    from tocsin.fail2ban.settings.loader import load as load_jails  # noqa: PLC0415  megabytes, for those who have one

    has_journal = config.logs.journal != "off" and Journal(()).available
    loaded = load_jails(
        Path(config.fail2ban.path), stands_in=lambda paths: has_journal and not any(map(is_there, paths))
    )
    taken = {rule.id for rule in load_rules(_present(config))}
    return jail_rules(loaded, local_zone(), taken, lookup=service_port)


def counted(rules: Iterable[CompiledRule]) -> str:
    """`22 rules`, `22 rules and 1 jail`."""
    jails = [rule.filter is not None for rule in rules]
    own, others = jails.count(False), jails.count(True)
    text = f"{own} rule{'' if own == 1 else 's'}"
    return f"{text} and {others} jail{'' if others == 1 else 's'}" if others else text


def is_there(pattern: str) -> bool:
    """Whether there is a file of that path or glob."""
    try:
        return next(glob.iglob(pattern), None) is not None  # noqa: PTH207  Path.glob refuses some patterns
    except ValueError:  # a NUL: no file is called so
        return False


def service_port(name: str) -> int | None:
    """The port of a service as /etc/services has it; None where it has none."""
    try:
        return socket.getservbyname(name)
    except (OSError, UnicodeError):
        return None


def _present(config: Config) -> list[Path]:
    """Where the configuration's rules are; the default folder need not be there."""
    paths = [Path(path) for path in config.rules.paths]
    return [path for path in paths if str(path) != DEFAULT_RULES or any(path.glob("*.toml"))]


def _enabled(rules: Iterable[Rule], disabled: set[str]) -> Iterable[Rule]:
    return (rule for rule in rules if rule.enabled and rule.id not in disabled)


def policy_settings(config: Config, *, observe: bool) -> PolicySettings:
    """The policy's part of a configuration."""
    bans = config.bans
    return PolicySettings(
        ban_s=bans.default_s,
        factor=bans.factor if bans.escalate else 1.0,
        max_s=bans.max_s,
        memory_s=bans.memory_s,
        max_active=bans.max_active,
        observe=observe,
    )


def breaker_settings(config: Config) -> BreakerSettings:
    """The breakers' part of a configuration."""
    return structs.replace(BreakerSettings(), **structs.asdict(config.breaker))


def prefixes_of(config: Config) -> Prefixes | None:
    """Who counts the offenders of networks, None where nobody is to."""
    wanted = config.prefixes
    if not wanted.enabled:
        return None
    return Prefixes(
        PrefixSettings(wanted.offenders, wanted.within_s, wanted.ipv4, wanted.ipv6, config.limits.lateness_s)
    )


def siege_settings(config: Config) -> SiegeSettings:
    """The part of a configuration that is about sieges."""
    return structs.replace(SiegeSettings(), **structs.asdict(config.contrast))


def published_of(config: Config) -> tuple[Published, str]:
    """The published networks of crawlers that a configuration names, and what is wrong with its file (then they are
    those that came with the program).
    """
    file = config.crawlers.ranges
    if not file:
        return shipped(), ""
    try:
        with Path(file).open("rb") as opened:
            data = opened.read(RANGES_MOST_BYTES + 1)
        if len(data) > RANGES_MOST_BYTES:
            return shipped(), f"{file}: larger than {RANGES_MOST_BYTES:,} bytes, which no such file is"
        return read_ranges(data.decode("utf-8")), ""
    except OSError as error:
        return shipped(), f"{file}: cannot be read: {error.strerror}"
    except ValueError as error:
        return shipped(), f"{file}: {error}"


def resolver_of(config: Config, on_answer: Callable[[Answer], None]) -> Resolver | None:
    """Who looks up the names of crawlers; None where that is not wanted, or no name server is known."""
    servers = read_resolvers() if config.crawlers.dns else ()
    return Resolver([(server, PORT) for server in servers[:SERVERS_MOST]], on_answer) if servers else None


def limits_of(config: Config) -> Limits:
    """The engine's part of a configuration."""
    return structs.replace(Limits(), **structs.asdict(config.limits))


def proxies_of(config: Config) -> Proxies:
    """The trusted proxies."""
    return Proxies(ip_network(text) for text in config.proxies.trusted)


def allow_list(config: Config) -> AllowList:
    """Who is never banned: configured addresses, trusted proxies, and this machine's own facts as of now."""
    allow = AllowList([(text, "[allow] in the configuration") for text in config.allow.addresses])
    allow.replace("proxy", [(text, "a trusted proxy") for text in config.proxies.trusted])
    refresh_allow(allow, config)
    return allow


def refresh_allow(allow: AllowList, config: Config) -> bool:
    """Read this machine's addresses, gateways, resolvers and SSH logins again; says whether anything changed."""
    safe = safe_addresses(environ=os.environ, own=config.allow.own, ssh=config.allow.ssh)
    return allow.replace("host", [(entry.network, entry.why) for entry in safe])


def local_zone(name: str | None = None) -> tzinfo:
    """The zone called `name`, else the machine's. ValueError where there is none of that name."""
    name = name or os.environ.get("TZ", "").lstrip(":")
    if name:
        try:
            return ZoneInfo(name)
        except (ZoneInfoNotFoundError, ValueError, OSError) as error:
            raise ValueError(
                f'there is no time zone "{name}"; expected a name such as "Europe/Paris" or "UTC"'
            ) from error
    try:
        with Path("/etc/localtime").open("rb") as file:
            return ZoneInfo.from_file(file, "local")
    except (OSError, ValueError):
        offset_s = datetime.now(UTC).astimezone().utcoffset() or timedelta(seconds=-time.timezone)
        return timezone(offset_s)
