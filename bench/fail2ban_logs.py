"""Realistic logs for fail2ban's stock filters, always the same for the same arguments.

2 % of the lines are what the filter looks for, from 200 addresses; of the others a fifth hold a literal of the filter
without being it; for sshd a quarter of all lines are successful logins. The rest is what such a log is full of. What
the lines look like stands in fail2ban_logs.toml.
"""

from __future__ import annotations

import random
import sys
import time
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

START_TS = 1_466_421_454  # 20 June 2016, 11:17:34 UTC
LINES_A_SECOND = 50
HITS, LOGINS, NEAR = 0.02, 0.25, 0.2
NAMES = ("root", "admin", "test", "oracle", "git", "ubuntu", "postgres", "guest", "deploy", "www-data")
USERS = ("anna", "bert", "carla", "dieter", "emma", "git", "backup", "hanne")
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
)
PAGES = ("/", "/blog/2016/05/", "/style.css", "/uploads/img.jpg", "/shop/", "/feed/")
PROBES = ("/phpmyadmin/index.php", "/wp-login.php", "/roundcube/", "/mysqladmin/scripts/", "/cgi-bin/test.cgi")
STAMPS = {
    "syslog": "%b %e %H:%M:%S server ",
    "apache_error": "[%a %b %d %H:%M:%S.000000 %Y] ",
    "nginx_error": "%Y/%m/%d %H:%M:%S ",
    "access": "%d/%b/%Y:%H:%M:%S +0000",
    "fail2ban": "%Y-%m-%d %H:%M:%S,000 ",
}
KINDS: dict[str, dict[str, Any]] = tomllib.loads(Path(__file__).with_suffix(".toml").read_text())


class Words:
    """What stands for the words in braces, drawn anew whenever one is asked for."""

    def __init__(self, seed: int) -> None:
        rng = random.Random(seed)
        pick, number = rng.choice, rng.randrange
        self.chance, self.pick = rng.random, rng.choice
        clients = [f"{number(11, 200)}.{number(256)}.{number(256)}.{number(1, 255)}" for _ in range(20_000)]
        attackers = [f"203.0.{113 + n // 250}.{1 + n % 250}" for n in range(200)]
        self.stamp = ""
        self._of: dict[str, Callable[[], object]] = {
            "attacker": lambda: pick(attackers),
            "client": lambda: pick(clients),
            "port": lambda: number(1024, 65536),
            "pid": lambda: number(300, 4_000_000),
            "number": lambda: number(1, 100_000),
            "name": lambda: pick(NAMES),
            "user": lambda: pick(USERS),
            "agent": lambda: pick(AGENTS),
            "page": lambda: pick(PAGES),
            "probe": lambda: pick(PROBES),
            "stamp": lambda: self.stamp,
        }

    def __getitem__(self, word: str) -> object:
        return self._of[word]()


def lines_for(kind: str, count: int, *, seed: int = 7) -> Iterator[str]:
    """`count` lines with newline of a stock filter's log."""
    log, words = KINDS[kind], Words(seed)
    chance, pick = words.chance, words.pick
    pattern = STAMPS[log["stamp"]]
    begins = "" if log["stamp"] == "access" else "{stamp}"
    hits, near, plain, logins = (
        [begins + line + "\n" for line in log.get(part, ())] for part in ("hits", "near", "plain", "logins")
    )
    last = -1
    for i in range(count):
        second = i // LINES_A_SECOND
        if second != last:
            last, words.stamp = second, time.strftime(pattern, time.gmtime(START_TS + second))
        share = chance()
        if share < HITS:
            lines = hits
        elif logins and share < HITS + LOGINS:
            lines = logins
        else:
            lines = near if chance() < NEAR else plain
        yield pick(lines).format_map(words)


def write_log(path: Path, kind: str, count: int, *, seed: int = 7) -> Path:
    """Write such a log, unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w") as out:
            out.writelines(lines_for(kind, count, seed=seed))
        partial.rename(path)
    return path


if __name__ == "__main__":
    write_log(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]))
