"""A jail becomes a rule: the same engine, policy, ledger, `why` and `replay` as for Tocsin's own. Pure.

`maxretry` failures within `findtime` are an exact sliding window here; fail2ban estimates a rate. IPv6 is counted and
banned by /64, as everywhere in Tocsin. What a filter finds without an address (a host name) bans nobody.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Iterable, Sequence
from datetime import tzinfo
from fnmatch import fnmatch

from msgspec import Struct, structs

from tocsin.fail2ban.actions.actions import Enforcement, sort_actions
from tocsin.fail2ban.actions.firewalls import Lookup
from tocsin.fail2ban.actions.ignore import IgnoreList, Ignoring
from tocsin.fail2ban.dates.dates import DateFinder
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.regexes import Budget, FilterError
from tocsin.fail2ban.filters.remarks import remarks_of as filter_remarks
from tocsin.fail2ban.formula import FormulaError, Growth
from tocsin.fail2ban.model import Jail, Loaded, Remark
from tocsin.rules import CompiledRule, Judge, Rule, compile_rule
from tocsin.rules.language import Origin, Where
from tocsin.services import COLLECTIONS_MAX, Span, render_services
from tocsin.sources.journal_match import is_for, parse_match, path_of

IPV6_PREFIX = 64
EVERYTHING = (
    "_TRANSPORT=audit _TRANSPORT=driver _TRANSPORT=journal _TRANSPORT=kernel _TRANSPORT=stdout _TRANSPORT=syslog",
)
"""All entries of this machine: systemd.journal-fields(7) names no other transport."""


class Jailed(Struct, frozen=True):
    """The jails of a configuration that can run, the rule of each in the same order, and what there is to remark."""

    jails: tuple[Jail, ...] = ()
    rules: tuple[CompiledRule, ...] = ()
    remarks: tuple[Remark, ...] = ()

    def services_of(self, name: str) -> str:
        """What the bans of a jail close, by its name or its rule's; empty (everything) where there is no such jail."""
        pairs = zip(self.jails, self.rules, strict=True)
        return next((rule.services for jail, rule in pairs if name in (jail.name, rule.rule.id)), "")

    @property
    def errors(self) -> tuple[Remark, ...]:
        """Why jails were left out."""
        return tuple(remark for remark in self.remarks if remark.severity == "error")

    @property
    def logs(self) -> tuple[str, ...]:
        """The paths and globs of all logs that are to be read, each once."""
        return tuple(dict.fromkeys(path for jail in self.jails if _is_file(jail) for path in jail.logpath))

    @property
    def journal_matches(self) -> tuple[str, ...]:
        """The matches of all jails that read the journal, each a jail's line, each once; a jail without any reads it
        all."""
        jails = [jail for jail in self.jails if not _is_file(jail)]
        return tuple(dict.fromkeys(match for jail in jails for match in jail.filter.journalmatch or EVERYTHING))

    @property
    def journal_readers(self) -> dict[str, tuple[str, ...]]:
        """The matches of each jail that reads the journal, by its name; none: it reads all."""
        return {jail.name: jail.filter.journalmatch for jail in self.jails if not _is_file(jail)}


def rules_of(
    loaded: Loaded,
    zone: tzinfo,
    taken: Container[str] = (),
    sources: Sequence[str] | None = None,
    lookup: Lookup | None = None,
) -> Jailed:
    """Each jail as a rule of its name (`jail-NAME` where that is `taken`). A jail that cannot run is left out, with a
    remark. `sources` are those of a replay: what no jail's `logpath` names of them is read by all jails; None: only
    what is named is read. `lookup` knows the ports of uncommon services. The rules judge by the addresses of `ignoreip`
    alone; what else there is to ask, the guard asks.
    """
    paths = [covers_of(jail) for jail in loaded.jails]
    strays = frozenset(source for source in sources or () if not any(covers(source) for covers in paths))
    jails: list[Jail] = []
    rules: list[CompiledRule] = []
    remarks: list[Remark] = list(loaded.remarks)
    dates: dict[tuple[str | None, str | None], DateFinder] = {}
    for jail in loaded.jails:
        try:
            rule, said = _rule_of(jail, zone, taken, dates, strays, lookup)
        except FilterError as error:
            remarks += [Remark("error", problem, jail.name, jail.filter.file) for problem in error.problems]
            continue
        except _MisreadError as error:
            remarks.append(Remark("error", str(error), jail.name, *error.place))
            continue
        except ValueError as error:
            remarks.append(Remark("error", str(error), jail.name, jail.file, jail.line))
            continue
        jails.append(jail)
        rules.append(rule)
        remarks += [*said, *_of_own_log(jail, loaded.settings.get("logtarget", ""))]
    rules, said = _bounded(jails, rules)
    remarks += said
    if sources is not None:
        remarks += not_asked(jails)
    return Jailed(tuple(jails), tuple(rules), tuple(remarks))


def _rule_of(
    jail: Jail,
    zone: tzinfo,
    taken: Container[str],
    dates: dict[tuple[str | None, str | None], DateFinder],
    strays: frozenset[str],
    lookup: Lookup | None,
) -> tuple[CompiledRule, list[Remark]]:
    """A jail's rule; ValueError says what of it cannot be read."""
    key = (jail.filter.datepattern, jail.logtimezone)
    if key not in dates:  # jails that date alike learn together
        dates[key] = DateFinder(jail.filter.datepattern, zone, logtimezone=jail.logtimezone)
    sorted_ = sort_actions(jail, lookup)
    blocked = sorted_.enforcement
    services, said = _services_of(jail, blocked)
    compiled = compile_rule(_plain_rule(jail, f"jail-{jail.name}" if jail.name in taken else jail.name))
    return (
        structs.replace(
            compiled,
            filter=LineFilter(jail.filter, dates[key], Budget(), encoding=_encoding(jail)),
            covers=covers_of(jail, strays),
            judge=_judge_of(jail),
            ban_s_of=_growth(jail),
            alone=jail.increment.enabled and not jail.increment.overalljails,
            services=services,
            held="" if blocked or not jail.has_action else "no action of this jail blocks anybody",
        ),
        [
            *(sorted_.remarks if jail.has_action else _no_action(jail)),
            *said,
            *filter_remarks(jail.filter, jail.name),
            *_of_ignoring(jail),
            *(() if _is_file(jail) else _check_journal(jail)),
        ],
    )


def _no_action(jail: Jail) -> list[Remark]:
    text = "no `action` is configured, so Tocsin's own enforcement blocks everything; write `action` to choose ports"
    return [Remark("instead", text, jail.name, jail.file, jail.line)]


def _of_own_log(jail: Jail, log: str) -> tuple[Remark, ...]:
    """A jail that looks for those who come back in what fail2ban itself writes."""
    if not log or log not in jail.logpath:
        return ()
    remedy = "set `bantime.increment = true` to ban those who come back for longer"
    if jail.increment.enabled:
        remedy = "leave it out: `bantime.increment` bans those who come back for longer already"
    text = f"nobody writes {log} once fail2ban is switched off, so it finds nothing; {remedy}"
    return (Remark("warning", text, jail.name, jail.file, jail.line),)


def _is_file(jail: Jail) -> bool:
    return jail.filter.logtype == "file"


class _MisreadError(ValueError):
    """What is wrong with an option, and at which file and line."""

    def __init__(self, text: str, place: tuple[str, int]) -> None:
        super().__init__(text)
        self.place = place


def _check_journal(jail: Jail) -> tuple[Remark, ...]:
    """What there is to remark of a jail that reads the journal. ValueError where a match of it is none."""
    of_filter = (jail.filter.file, 0) if jail.filter.file else (jail.file, jail.line)
    for match in jail.filter.journalmatch:
        try:
            parse_match(match)
        except ValueError as error:
            place = jail.places.get("journalmatch", of_filter)
            raise _MisreadError(f"`journalmatch`: {error}", place) from error
    text = ""
    if not jail.filter.journalmatch:
        text = "without a `journalmatch` it reads the whole journal, every line of every service; write one"
    elif "[" in jail.backend:
        text = "Tocsin reads the machine's own journal; what stands in the brackets of `backend` is not heeded"
    return (Remark("instead", text, jail.name, jail.file, jail.line),) if text else ()


def _encoding(jail: Jail) -> str:
    return "utf-8" if jail.logencoding == "auto" else jail.logencoding


def _plain_rule(jail: Jail, name: str) -> Rule:
    return Rule(
        id=name,
        title=f"fail2ban's jail {jail.name}",
        on="filter",
        where=Where(),
        by=("address",),
        limit=jail.maxretry,
        within_s=jail.findtime_s,
        distinct=None,
        ban_s=jail.bantime_s,
        ipv4_prefix=32,
        ipv6_prefix=IPV6_PREFIX,
        enabled=True,
        line=(),
        origin=Origin(jail.file, jail.line),
    )


def covers_of(jail: Jail, strays: Container[str] = ()) -> Callable[[str], bool]:
    """Whether a source is one of the jail's logs, or one of those that are everybody's."""
    if not _is_file(jail):
        return lambda source: source in strays or is_for(source, jail.name)
    patterns = jail.logpath

    def covers(source: str) -> bool:
        path = path_of(source)
        return path in strays or any(path == pattern or fnmatch(path, pattern) for pattern in patterns)

    return covers


def _services_of(jail: Jail, blocked: Enforcement | None) -> tuple[str, tuple[Remark, ...]]:
    """What a ban closes, as in `Decision.services`, and what there is to remark of it."""
    spans = blocked.services if blocked else ()
    try:
        return render_services(Span(one.protocol, one.low, one.high) for one in spans), ()
    except ValueError as error:
        return "", (Remark("instead", f"{error}, so everything is blocked", jail.name, jail.file, jail.line),)


def _bounded(jails: Sequence[Jail], rules: Sequence[CompiledRule]) -> tuple[list[CompiledRule], list[Remark]]:
    """The rules with no more different services than the firewall keeps, and what there is to remark of the others."""
    known = list(dict.fromkeys(rule.services for rule in rules if rule.services))
    kept = {"", *known[:COLLECTIONS_MAX]}
    text = f"{COLLECTIONS_MAX} different collections of ports are in use by other jails, so everything is blocked"
    pairs = list(zip(jails, rules, strict=True))
    said = [
        Remark("instead", text, jail.name, jail.file, jail.line) for jail, rule in pairs if rule.services not in kept
    ]
    return [rule if rule.services in kept else structs.replace(rule, services="") for rule in rules], said


def _growth(jail: Jail) -> Callable[[int, str], float | None]:
    """How long a ban is, by how often the address was banned before."""
    try:
        growth = Growth(jail.increment)
    except FormulaError as error:
        raise ValueError(str(error)) from error
    return lambda earlier, seed: growth.ban_s(jail.bantime_s, earlier, seed)


def _judge_of(jail: Jail) -> Judge | None:
    """Ignores whom the entries of `ignoreip` name by their addresses."""
    spared = IgnoreList(jail.ignoreip)
    if not jail.ignoreip:
        return None
    return lambda failure, _ts, _place: "ignored" if spared.covers(failure.source_ip, failure.key) else "counts"


def _of_ignoring(jail: Jail) -> tuple[Remark, ...]:
    """What there is to remark of `ignoreip`, `ignorecommand` and `ignorecache`."""
    return Ignoring[None](jail, lambda _jail, _ticket: None, lambda _address: False).remarks


def not_asked(jails: Iterable[Jail]) -> list[Remark]:
    """Jails that leave somebody alone whom only the running guard can know: to a replay nothing of the host counts."""
    found = []
    for jail in jails:
        entries = IgnoreList(jail.ignoreip)
        what = [
            *(("ignorecommand",) if jail.ignorecommand else ()),
            *(f"ignoreip = {name}" for name in entries.names),
            *(f"ignoreip = file:{path}" for path in entries.files),
        ]
        if what:
            text = f"a replay does not ask {', '.join(what)}: whom the running guard would ignore counts here"
            found.append(Remark("instead", text, jail.name, jail.file, jail.line))
    return found


def remarks_text(remarks: Sequence[Remark]) -> list[str]:
    """Each remark as one line for people."""
    return [remark_text(remark) for remark in remarks]


def remark_text(remark: Remark) -> str:
    """`FILE:LINE: jail NAME: text`, of which only the text is always there."""
    place = f"{remark.file}:{remark.line}" if remark.file and remark.line else remark.file
    return ": ".join(part for part in (place, remark.jail and f"jail {remark.jail}", remark.text) if part)
