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
    action runs too, as `actions_user`.
    """

    path: str = ""
    actions: bool = True
    actions_user: str = "tocsin-actions"


class Breaker(Struct, frozen=True):
    """`[breaker]`: when a rule that hits visitors stops banning, and for how long it must be calm to go on."""

    min_visitors: int = 5
    share: float = 0.1
    within_s: float = 3600.0
    calm_s: float = _DAY_S


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
    bans: Bans = field(default_factory=Bans)
    breaker: Breaker = field(default_factory=Breaker)
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
        return (
            f"{place}: {self.key}: {self.message}; {self.remedy}"
            if self.key
            else f"{place}: {self.message}; {self.remedy}"
        )


class ConfigErrors(Exception):  # noqa: N818  it holds several
    """Every mistake of one file, in the order of its lines."""

    def __init__(self, errors: tuple[ConfigError, ...]) -> None:
        super().__init__("\n".join(error.render() for error in errors))
        self.errors = errors
