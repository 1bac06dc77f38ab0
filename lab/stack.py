"""What one draw of the lab decides about its server, and what a started server says about its site."""

from __future__ import annotations

from typing import Literal

import msgspec


class Stack(msgspec.Struct, kw_only=True):
    """One server: its software, its limits and what it logs.

    `workers` is Apache's MaxRequestWorkers or PHP-FPM's pm.max_children. `cpu_share` is in cores. `access_format` is
    `combined`, `vhost_combined` or `timed` (combined with `%D` on Apache, with `$request_time` on nginx). `wp_path`
    begins and ends with a slash.
    `small_disk` is a file system of its own below /var/lib/mysql or /var/log: ("mysql" | "log", bytes free at the
    start, over what the site needs). `supervised` restarts a dead database as systemd's Restart=on-failure does.
    `plugin_bytes` is what every request of PHP takes beside WordPress itself, as the plugins of a grown site do.
    """

    web: Literal["apache", "nginx"]
    vhost: str
    aliases: list[str]
    wp_path: str
    memory_bytes: int
    cpu_share: float
    workers: int
    keep_alive_s: int
    reqtimeout: bool
    tz: str
    access_format: Literal["combined", "vhost_combined", "timed"]
    slow_log_s: float | None
    kernel_log: Literal["kern.log", "dmesg", "syslog-iso"]
    snapshots_s: float | None
    supervised: bool
    small_disk: tuple[str, int] | None = None
    posts: int = 2600
    plugin_bytes: int = 16 << 20


class Site(msgspec.Struct, kw_only=True):
    """A started site: `prefix` is its path (with both slashes), the others are absolute paths below it.

    `admin` is the administrator's name and password.
    """

    prefix: str
    posts: list[str]
    categories: list[str]
    assets: list[str]
    admin: tuple[str, str]
