"""The sections and keys of the configuration: what each is called, how it is read, and an example of it."""

from __future__ import annotations

from msgspec import Struct

from tocsin.config_model import (
    Allow,
    Bans,
    Breaker,
    Contrast,
    Crawlers,
    Fail2ban,
    Guard,
    Ledger,
    Limits,
    Logs,
    Prefixes,
    Proxies,
    Rules,
    Web,
)
from tocsin.config_values import (
    Key,
    choice,
    each,
    flag,
    forever_or,
    identifier,
    log_format,
    number,
    path,
    path_or_none,
    plain_path,
    proper_network,
    ratio,
    span,
    user_name,
)

_DAY_S = 86400.0


_BAN_AT_MOST_S = 3650 * _DAY_S
OVERRIDE_KEYS = (
    Key("limit", "limit", number(1, 100_000), "5"),
    Key("within", "within_s", span(1, 31 * _DAY_S), '"10m"'),
    Key("ban", "ban_s", forever_or(span(1, _BAN_AT_MOST_S)), '"4h"'),
)
LOG_KEYS = (
    Key("path", "path", path, '"/var/log/nginx/access.log"'),
    Key("format", "format", log_format, '"combined"'),
    Key("kind", "kind", choice("access", "auth"), '"access"'),
    Key("vhost", "vhost", identifier("vhost"), '"www.example.org"'),
)
SECTIONS: dict[str, tuple[type[Struct], tuple[Key, ...]]] = {
    "guard": (
        Guard,
        (
            Key("observe", "observe", flag, "true"),
            Key("user", "user", user_name, '"tocsin"'),
            Key("state_dir", "state_dir", path, '"/var/lib/tocsin"'),
            Key("run_dir", "run_dir", path, '"/run/tocsin"'),
        ),
    ),
    "logs": (
        Logs,
        (Key("discover", "discover", flag, "true"), Key("journal", "journal", choice("auto", "on", "off"), '"auto"')),
    ),
    "allow": (
        Allow,
        (
            Key("addresses", "addresses", each(proper_network), '["192.0.2.7", "2001:db8:1::/48"]'),
            Key("own", "own", flag, "true"),
            Key("ssh", "ssh", flag, "true"),
        ),
    ),
    "proxies": (Proxies, (Key("trusted", "trusted", each(proper_network), '["192.0.2.0/24"]'),)),
    "rules": (
        Rules,
        (
            Key("paths", "paths", each(path), '["/etc/tocsin/rules.d"]'),
            Key("disable", "disable", each(identifier("rule")), '["scanner-agent"]'),
        ),
    ),
    "fail2ban": (
        Fail2ban,
        (
            Key("path", "path", path_or_none, '"/etc/fail2ban"'),
            Key("actions", "actions", flag, "true"),
            Key("actions_user", "actions_user", user_name, '"nobody"'),
            Key("weigh_offenders", "weigh_offenders", flag, "true"),
        ),
    ),
    "crawlers": (
        Crawlers,
        (
            Key("dns", "dns", flag, "true"),
            Key("ranges", "ranges", path_or_none, '"/var/lib/tocsin/crawler_ranges.txt"'),
        ),
    ),
    "bans": (
        Bans,
        (
            Key("default", "default_s", forever_or(span(1, _BAN_AT_MOST_S)), '"1h"'),
            Key("escalate", "escalate", flag, "true"),
            Key("factor", "factor", ratio(1, 100), "2"),
            Key("max", "max_s", span(1, _BAN_AT_MOST_S), '"30d"'),
            Key("memory", "memory_s", span(0, _BAN_AT_MOST_S), '"90d"'),
            Key("max_active", "max_active", number(1, 1_000_000), "200000"),
        ),
    ),
    "web": (Web, (Key("dir", "dir", plain_path, '"/run/tocsin/web"'),)),
    "breaker": (
        Breaker,
        (
            Key("min_visitors", "min_visitors", number(1, 1_000_000), "5"),
            Key("share", "share", ratio(0, 1), "0.1"),
            Key("within", "within_s", span(1, 31 * _DAY_S), '"1h"'),
            Key("calm", "calm_s", span(1, 365 * _DAY_S), '"1d"'),
        ),
    ),
    "prefixes": (
        Prefixes,
        (
            Key("enabled", "enabled", flag, "true"),
            Key("offenders", "offenders", number(2, 100), "4"),
            Key("within", "within_s", span(60, 86400), '"1h"'),
            Key("ipv4", "ipv4", number(16, 30), "20"),
            Key("ipv6", "ipv6", number(48, 56), "48"),
        ),
    ),
    "contrast": (
        Contrast,
        (
            Key("enabled", "enabled", flag, "true"),
            Key("hit_share", "hit_share", ratio(0, 1), "0.001"),
            Key("factor", "factor", ratio(2, 100), "4"),
            Key("least", "least", number(5, 10_000), "15"),
            Key("calm", "calm_s", span(30, 86400), '"2m"'),
            Key("ban", "ban_s", span(60, 86400), '"10m"'),
        ),
    ),
    "ledger": (
        Ledger,
        (
            Key("keep", "keep_s", span(3600, _BAN_AT_MOST_S), '"90d"'),
            Key("max_rows", "max_rows", number(1000, 100_000_000), "1000000"),
        ),
    ),
    "limits": (
        Limits,
        (
            Key("tracked_keys", "tracked_keys", number(1000, 10_000_000), "500000"),
            Key("lateness", "lateness_s", span(0, 3600), '"5m"'),
            Key("skew", "skew_s", span(0, 3600), '"1m"'),
        ),
    ),
}
