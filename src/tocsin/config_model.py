"""The configuration as the program sees it, and the mistakes that a file can have.

Each Struct is a section of `docs/config.md`, its defaults those written there. Attributes in seconds end in `_s`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import UNSET, Struct, UnsetType, field

_DAY_S = 86400.0


class Guard(Struct, frozen=True):
    """`[guard]`: the processes themselves."""

    observe: bool = False
    user: str = "tocsin"
    state_dir: str = "/var/lib/tocsin"
    run_dir: str = "/run/tocsin"


class Logs(Struct, frozen=True):
    """`[logs]`: where lines come from, besides the `[[log]]` tables."""

    discover: bool = True
    journal: Literal["auto", "on", "off"] = "auto"


class Log(Struct, frozen=True):
    """One `[[log]]`: a file or glob to follow. `format` as `formats.by_name` takes it, empty: to be sniffed."""

    path: str
    format: str = ""
    kind: Literal["access", "auth"] = "access"
    vhost: str | None = None


class Allow(Struct, frozen=True):
    """`[allow]`: who is never banned. `addresses` are canonical addresses and prefixes."""

    addresses: tuple[str, ...] = ()
    own: bool = True
    ssh: bool = True


class Proxies(Struct, frozen=True):
    """`[proxies]`: whose `X-Forwarded-For` and `Forwarded` are believed; canonical addresses and prefixes."""

    trusted: tuple[str, ...] = ()


class Override(Struct, frozen=True):
    """One `[rules.override.ID]`: what is not UNSET takes the place of the rule's own. `ban_s` None is for good."""

    rule: str
    line: int
    limit: int | UnsetType = UNSET
    within_s: float | UnsetType = UNSET
    ban_s: float | UnsetType | None = UNSET


class Rules(Struct, frozen=True):
    """`[rules]`: rules besides the shipped ones, and what is changed in any. `disable_line`: where `disable` stands."""

    paths: tuple[str, ...] = ("/etc/tocsin/rules.d",)
    disable: tuple[str, ...] = ()
    override: tuple[Override, ...] = ()
    disable_line: int = 0


class Crawlers(Struct, frozen=True):
    """`[crawlers]`: how a claim to be a crawler is checked. `dns`: names are looked up where published networks do not
    decide. `ranges`: a file of networks in place of the shipped ones; empty: these.
    """

    dns: bool = True
    ranges: str = ""


class Web(Struct, frozen=True):
    """`[web]`: where the files stand that the web server reads to know which requests to turn away."""

    dir: str = "/run/tocsin/web"


class Bans(Struct, frozen=True):
    """`[bans]`: how long. `default_s` None is for good; `memory_s` is how long a ban that ended is remembered."""

    default_s: float | None = 3600.0
    escalate: bool = True
    factor: float = 2.0
    max_s: float = 30 * _DAY_S
    memory_s: float = 90 * _DAY_S
    max_active: int = 200_000


class Fail2ban(Struct, frozen=True):
    """`[fail2ban]`: whose jails run beside the rules. `path` empty: nobody's. `actions`: whether what is no firewall
    action runs too, as `actions_user`. `weigh_offenders`: whether a failure of who was banned before counts for more.
    """

    path: str = ""
    actions: bool = True
    actions_user: str = "tocsin-actions"
    weigh_offenders: bool = False


class Breaker(Struct, frozen=True):
    """`[breaker]`: when a rule that hits visitors stops banning, and for how long it must be calm to go on."""

    min_visitors: int = 5
    share: float = 0.1
    within_s: float = 3600.0
    calm_s: float = _DAY_S


class Prefixes(Struct, frozen=True):
    """`[prefixes]`: how many offenders of a network, within what, ban all of it; `ipv4` and `ipv6` are the lengths of
    the widest.
    """

    enabled: bool = True
    offenders: int = 4
    within_s: float = 3600.0
    ipv4: int = 20
    ipv6: int = 48


class Contrast(Struct, frozen=True):
    """`[contrast]`: when a class of requests by ever new addresses is a siege, and whom a measure may hit."""

    enabled: bool = True
    hit_share: float = 0.001
    factor: float = 4.0
    least: int = 15
    calm_s: float = 120.0
    ban_s: float = 600.0


class Ledger(Struct, frozen=True):
    """`[ledger]`: how much is remembered on disk."""

    keep_s: float = 90 * _DAY_S
    max_rows: int = 1_000_000


class Limits(Struct, frozen=True):
    """`[limits]`: bounds of the engine's state and of the disorder in time that it puts up with."""

    tracked_keys: int = 500_000
    lateness_s: float = 300.0
    skew_s: float = 60.0


class Config(Struct, frozen=True):
    """The whole configuration. `file` is empty where none was read."""

    file: str = ""
    guard: Guard = field(default_factory=Guard)
    logs: Logs = field(default_factory=Logs)
    log: tuple[Log, ...] = ()
    allow: Allow = field(default_factory=Allow)
    proxies: Proxies = field(default_factory=Proxies)
    rules: Rules = field(default_factory=Rules)
    fail2ban: Fail2ban = field(default_factory=Fail2ban)
    crawlers: Crawlers = field(default_factory=Crawlers)
    bans: Bans = field(default_factory=Bans)
    web: Web = field(default_factory=Web)
    breaker: Breaker = field(default_factory=Breaker)
    prefixes: Prefixes = field(default_factory=Prefixes)
    contrast: Contrast = field(default_factory=Contrast)
    ledger: Ledger = field(default_factory=Ledger)
    limits: Limits = field(default_factory=Limits)


class ConfigError(Struct, frozen=True):
    """One mistake: where (`line` from 1, 0 where it is the file itself), what was expected, and what to do."""

    file: str
    line: int
    key: str
    message: str
    remedy: str

    def render(self) -> str:
        """One line for people."""
        place = f"{self.file}:{self.line}" if self.line else self.file
        return ": ".join(part for part in (place, self.key, f"{self.message}; {self.remedy}") if part)


class ConfigErrors(Exception):  # noqa: N818  it holds several
    """Every mistake of one file, in the order of its lines."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(error.render() for error in errors))
        self.errors = errors
