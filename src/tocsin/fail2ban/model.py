"""The nouns of this room: what an /etc/fail2ban says, read, merged and interpolated, and what its filters find.

Spans are seconds, `*_s`; times are Unix seconds, `*_ts`. Options that nothing says anything about have fail2ban's own
defaults. Texts are as fail2ban 1.0 reads them: `%(...)s` and static `<tags>` resolved, the tags of regexes (`<HOST>`,
`<F-USER>`) and of ban time (`<ip>`, `<matches>`) left in place.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

from msgspec import Struct


class Remark(Struct, frozen=True):
    """Something that the owner of the configuration should know.

    `error`: what is meant cannot be run, and the jail (`jail`, "" where it concerns all) is left out. `warning`: it
    runs, but something is ignored or mistaken. `instead`: fail2ban does it in its way, here it is done otherwise;
    `text` says how. `file` and `line` (0: unknown) are where it stands.
    """

    severity: Literal["error", "warning", "instead"]
    text: str
    jail: str = ""
    file: str = ""
    line: int = 0


class FilterSpec(Struct, frozen=True):
    """A filter as one jail uses it: its options and the jail's own overrides merged.

    `datepattern` is the option's text (one or more lines), None: fail2ban's own list. `options` holds all others,
    interpolated, for what else a filter may define.
    """

    name: str
    failregex: tuple[str, ...] = ()
    ignoreregex: tuple[str, ...] = ()
    prefregex: str | None = None
    maxlines: int = 1
    datepattern: str | None = None
    journalmatch: tuple[str, ...] = ()
    usedns: Literal["yes", "warn", "no", "raw"] = "warn"
    logtype: Literal["file", "journal"] = "file"
    options: Mapping[str, str] = {}
    file: str = ""


class ActionSpec(Struct, frozen=True):
    """An action as one jail uses it. `name` is the file's (`nftables-multiport`), `actname` the unique one.

    `options` are all of the action's options with static tags resolved, `actionban` and its kin among them; the
    conditional ones keep fail2ban's spelling (`blocktype?family=inet6`). `given` are those that the jail gave in
    brackets. A Python action (`smtp.py`) has its file and the arguments only.
    """

    name: str
    actname: str
    options: Mapping[str, str] = {}
    given: Mapping[str, str] = {}
    file: str = ""


class Increment(Struct, frozen=True):
    """`bantime.*`: how a ban grows for those who come back."""

    enabled: bool = False
    factor: str = ""
    formula: str = ""
    multipliers: tuple[float, ...] = ()
    maxtime_s: float | None = None
    rndtime_s: float = 0.0
    overalljails: bool = False


class Jail(Struct, frozen=True):
    """One `[jail]`, merged. `bantime_s` None: for good. `logpath` are paths or globs; `from_tail` those of them that
    are to be read from their end. `port`, `protocol`, `chain` are the conventional variables as the jail has them.
    `skip_if_nologs`, `systemd_if_nologs` (1.1): without a log the jail is left out, or reads the journal. `options` are
    those that the jail's own section sets, interpolated; `places` tells where (file, line). `has_action` is false where
    nothing says `action` at all.
    """

    name: str
    filter: FilterSpec
    enabled: bool = False
    backend: str = "auto"
    logpath: tuple[str, ...] = ()
    from_tail: tuple[str, ...] = ()
    logencoding: str = "auto"
    logtimezone: str | None = None
    maxretry: int = 5
    maxmatches: int | None = None
    findtime_s: float = 600.0
    bantime_s: float | None = 600.0
    increment: Increment = Increment()
    ignoreself: bool = True
    ignoreip: tuple[str, ...] = ()
    ignorecommand: str = ""
    ignorecache: str = ""
    actions: tuple[ActionSpec, ...] = ()
    has_action: bool = True
    port: str = ""
    protocol: str = ""
    chain: str = ""
    skip_if_nologs: bool = False
    systemd_if_nologs: bool = True
    options: Mapping[str, str] = {}
    places: Mapping[str, tuple[str, int]] = {}
    file: str = ""
    line: int = 0


class Loaded(Struct, frozen=True):
    """A whole configuration: the jails that can run, what `fail2ban.conf` says, and what there is to remark."""

    directory: str
    jails: tuple[Jail, ...] = ()
    settings: Mapping[str, str] = {}
    remarks: tuple[Remark, ...] = ()


class Failure(Struct):
    """What a filter found in a line, its connection's earlier lines merged in.

    `key` is what is counted: the filter's own id (`<F-ID>`), else the address. `source_ip` is canonical, None where
    the line names no address (a host name is never an address). `attempts` is how often it counts; whoever judges it
    may have it count for more. `fields` are what the regex captured, by fail2ban's names without `F-`, in lower case
    (`user`, `port`, `mlfid`). `matches` are the lines it rests on, oldest first, the line itself last. `users` are all
    whom its connection named.
    """

    ts: float
    key: str
    source_ip: str | None
    attempts: int = 1
    fields: Mapping[str, str | None] = {}
    matches: tuple[str, ...] = ()
    users: tuple[str, ...] = ()
