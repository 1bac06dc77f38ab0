"""Folders of logs with one outage in them, always the same for the same arguments: what `explain` is measured on.

A site's access logs, one file a day, from 24,000 visitors; on the last afternoon 300 false Googlebots post to
XML-RPC until Apache has no worker left and the kernel kills MySQL, which the error log and the kernel's log tell of.
Beside them everyday lines: denied scripts, the firewall's packets, cron, guesses at SSH, slow queries.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Protocol

from logs import GOOGLEBOT

START_TS = 1_748_736_000  # 1 June 2025, midnight UTC
DAY_S = 86_400
ZONE_S, ZONE = 7_200, "+0200"
OUTAGE_S = 14 * 3600  # of the last day
BEFORE_S, UNTIL_S = 240, 900  # the attack's length until the kill, and until all is well again
ATTACKERS, ATTACK_PER_S = 300, 40
VISITORS = 24_000
COLOURS = ("red", "green", "blue", "wool", "oak", "steel", "old", "new")
THINGS = ("chair", "lamp", "desk", "cup")
SITE = "https://shop.example.org"


class _Visit(Protocol):
    """Makes a visitor's line of a time; pages fail while the database is down."""

    def __call__(self, when: str, *, down: bool) -> str: ...


def write_access(folder: Path, lines: int, days: int) -> int:
    """Access logs of so many lines and days, rotated daily, the last of them still open; when the attack begins."""
    rng = random.Random(11)
    visit = _visits(rng)
    each = lines // days
    attack_ts = START_TS + (days - 1) * DAY_S + OUTAGE_S
    for day in range(days):
        name = f"access.log.{days - 1 - day}" if day < days - 1 else "access.log"
        start = START_TS + day * DAY_S
        with (folder / name).open("w") as out:
            out.writelines(_day(visit, rng, start, each, attack_ts if start < attack_ts < start + DAY_S else None))
    return attack_ts


def _day(visit: _Visit, rng: random.Random, start: int, lines: int, attack_ts: int | None) -> Iterator[str]:
    """One day's lines, evenly over it; a third are out of order, as Apache writes them under load."""
    stamps: dict[int, str] = {}
    attacked: set[int] = set()
    for i in range(lines):
        second = start + i * DAY_S // lines
        since = second - attack_ts if attack_ts is not None else -1
        if 0 <= since < UNTIL_S and second not in attacked:
            attacked.add(second)
            yield from _attack(rng, second, down=since >= BEFORE_S)
        ts = second - (rng.randrange(1, 20) if rng.random() < 1 / 3 else 0)
        when = stamps.get(ts) or stamps.setdefault(ts, _access_stamp(ts))
        yield visit(when, down=BEFORE_S <= since < UNTIL_S)


def _attack(rng: random.Random, ts: int, *, down: bool) -> Iterator[str]:
    when, status = _access_stamp(ts), 500 if down else 200
    for _ in range(ATTACK_PER_S):
        who = rng.randrange(ATTACKERS)
        client = f"203.0.{113 + who // 250}.{1 + who % 250}"
        yield f'{client} - - [{when}] "POST /xmlrpc.php HTTP/1.0" {status} 674 "-" "{GOOGLEBOT}"\n'


def _visits(rng: random.Random) -> _Visit:
    """Visitors with agents of their own; some of them come often, and some pages are dear to many."""
    agents = list(_agents())
    visitors = [
        f"{rng.randrange(11, 200)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"
        for _ in range(VISITORS)
    ]
    agent_of = {visitor: rng.choice(agents) for visitor in visitors}
    words = [f"{a}-{b}" for a in COLOURS for b in THINGS]
    pages = [f"/product/{rng.choice(words)}-{number}/" for number in range(20_000)]
    pages += [f"/blog/20{rng.randrange(10, 26)}/{rng.choice(words)}-{number}/" for number in range(8_000)]
    assets = [f"/wp-content/uploads/{rng.choice(words)}-{number}.jpg" for number in range(6_000)]
    assets += [f"/wp-content/themes/shop/{name}.css?ver=6.{n}" for name in words for n in range(8)]
    statuses = (200,) * 16 + (304, 304, 301, 404)
    chance = rng.random

    def visit(when: str, *, down: bool) -> str:
        visitor = visitors[int(VISITORS * chance() ** 2)]
        draw, status = chance(), statuses[int(20 * chance())]
        referer = SITE + pages[int(28_000 * chance() ** 3)] if draw < 0.8 else "-"
        if draw < 0.55:
            target = assets[int(len(assets) * chance() ** 3)]
        else:
            status = 500 if down else status
            target = pages[int(28_000 * chance() ** 2)] if draw < 0.9 else "/"
            if 0.80 < draw < 0.85:
                target = f"/?s={words[int(32 * chance())]}+{int(90_000 * chance())}"
            elif draw > 0.98:
                target = f"/wp-json/wc/v3/cart?key={int(1e9 * chance())}&page={int(9 * chance())}"
        size = 300 + int(80_000 * chance())
        return f'{visitor} - - [{when}] "GET {target} HTTP/1.1" {status} {size} "{referer}" "{agent_of[visitor]}"\n'

    return visit


def _agents() -> Iterator[str]:
    for n in range(80, 140):
        for system in ("Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64"):
            yield f"Mozilla/5.0 ({system}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{n}.0.0.0 Safari/537.36"
            yield f"Mozilla/5.0 ({system}; rv:{n}.0) Gecko/20100101 Firefox/{n}.0"
    for n in range(12, 19):
        for m in range(7):
            yield (
                f"Mozilla/5.0 (iPhone; CPU iPhone OS {n}_{m} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
                f"Version/{n}.{m} Mobile/15E148 Safari/604.1"
            )
    yield "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"


# -- what the machine's other logs say ---------------------------------------------------------------------------------


def write_others(folder: Path, attack_ts: int, syslog_lines: int, error_lines: int, queries: int = 0) -> None:
    """`syslog`, `error.log` and, where there are queries, `mysql-slow.log` of the outage and five days before it."""
    kill_ts = attack_ts + BEFORE_S
    days_s = min(attack_ts - START_TS, 5 * DAY_S)
    rng = random.Random(12)

    def spread(count: int, line: Callable[[random.Random, int, int], str]) -> Iterator[tuple[int, str]]:
        for i in range(count):
            ts = attack_ts - days_s + i * (days_s + UNTIL_S) // count
            yield ts, line(rng, ts, i)

    _write(folder / "syslog", [*spread(syslog_lines, _system_line), *_killing(kill_ts)])
    _write(folder / "error.log", [*spread(error_lines, _error_line), *_exhaustion(attack_ts, kill_ts)])
    if queries:
        _write(folder / "mysql-slow.log", spread(queries, _query))


def _write(path: Path, lines: Iterable[tuple[int, str]]) -> None:
    with path.open("w") as out:
        out.writelines(f"{line}\n" for _, line in sorted(lines, key=lambda timed: timed[0]))


def _system_line(rng: random.Random, ts: int, number: int) -> str:
    who = f"198.51.{rng.randrange(100, 104)}.{rng.randrange(1, 255)}"
    uptime = f"[{ts - START_TS + 900_000}.{rng.randrange(10**6):06}]"
    pid = rng.randrange(300, 60_000)
    packet = f"SRC={who} DST=192.0.2.10 LEN=40 TOS=0x00 PREC=0x00 TTL=241 ID={pid} PROTO=TCP SPT={pid} DPT=23"
    said = (
        f"kernel: {uptime} [UFW BLOCK] IN=eth0 OUT= MAC=52:54:00:12:34:56:52:54:00:ab:cd:ef:08:00 {packet} SYN",
        f"sshd[{pid}]: Failed password for invalid user admin{number % 70} from {who} port {pid} ssh2",
        f"sshd[{pid}]: pam_unix(sshd:auth): authentication failure; logname= uid=0 euid=0 tty=ssh ruser= rhost={who}",
        f"sshd[{pid}]: Received disconnect from {who} port {pid}:11: Bye Bye [preauth]",
        f"CRON[{pid}]: (www-data) CMD (php /var/www/shop/wp-cron.php >/dev/null 2>&1)",
        f"CRON[{pid}]: pam_unix(cron:session): session opened for user www-data(uid=33) by (uid=0)",
        f"postfix/smtpd[{pid}]: connect from unknown[{who}]",
        f"postfix/smtpd[{pid}]: disconnect from unknown[{who}] ehlo=1 auth=0/1 quit=1 commands=2/3",
        f"systemd[1]: Started session-{number}.scope - Session {number} of User www-data.",
        f"systemd[1]: session-{number}.scope: Deactivated successfully.",
        f"named[812]: client @0x7f{pid:010x} {who}#{pid} (example.org): query (cache) 'example.org/ANY/IN' denied",
        f"dhclient[{600 + number % 7}]: DHCPREQUEST for 192.0.2.10 on eth0 to 192.0.2.1 port 67 (xid=0x{pid:x})",
    )[rng.randrange(12)]
    return f"{_syslog_stamp(ts)} web1 {said}"


DENIED = "AH01630: client denied by server configuration: /var/www/shop/.git/config"
WARNING = "PHP Warning:  Undefined variable $price in /var/www/shop/wp-content/plugins/x/x.php on line"


def _error_line(rng: random.Random, ts: int, number: int) -> str:
    who = f"{rng.randrange(11, 200)}.{rng.randrange(256)}.{number % 256}.{rng.randrange(1, 255)}"
    port, pid = rng.randrange(1024, 65_000), rng.randrange(300, 60_000)
    head = f"[{_local('%a %b %d %H:%M:%S', ts)}.{rng.randrange(10**6):06} {_local('%Y', ts)}]"
    missing = f"script '/var/www/shop/{rng.choice(('wp-login2', 'shell', 'alfa', 'x'))}{number % 900}.php'"
    return (
        f"{head} [php7:error] [pid {pid}] [client {who}:{port}] {missing} not found or unable to stat",
        f"{head} [authz_core:error] [pid {pid}] [client {who}:{port}] {DENIED}",
        f"{head} [php7:warn] [pid {pid}] [client {who}:{port}] {WARNING} {number % 400}, referer: {SITE}/cart/",
        f"{head} [ssl:info] [pid {pid}] [client {who}:{port}] AH02008: SSL library error 1 in handshake",
    )[rng.randrange(4)]


def _query(rng: random.Random, ts: int, number: int) -> str:
    took = 1 + rng.random() * 4
    return (
        f"# Time: {time.strftime('%Y-%m-%dT%H:%M:%S', time.gmtime(ts))}.000000Z\n"
        f"# User@Host: shop[shop] @ localhost []  Id: {number}\n"
        f"# Query_time: {took:.6f}  Lock_time: 0.000100 Rows_sent: 10  Rows_examined: {rng.randrange(10**6)}\n"
        f"SET timestamp={ts};\n"
        f"SELECT SQL_CALC_FOUND_ROWS wp_posts.ID\nFROM wp_posts\nWHERE wp_posts.post_title LIKE '%lamp{number}%'\n"
        f"ORDER BY wp_posts.post_date DESC LIMIT 0, 10;"
    )


def _killing(ts: int) -> Iterator[tuple[int, str]]:
    """The kernel's report: 150 Apaches and MySQL, which it kills; systemd starts that again."""
    for at in range(20):  # the firewall speaks on, so that the kernel's clock is known around the kill
        yield ts - 100 + at * 10, f"{_syslog_stamp(ts - 100 + at * 10)} web1 kernel: {_uptime(ts - 100 + at * 10)} x: y"
    rows = [
        f"[{1000 + n:7}]    33  {1000 + n}   98765    15000   400000        0             0 apache2" for n in range(150)
    ]
    report = (
        "apache2 invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0",
        "Free swap  = 0kB",
        "Total swap = 524284kB",
        "1048428 pages RAM",
        "[  pid  ]   uid  tgid total_vm      rss pgtables_bytes swapents oom_score_adj name",
        *rows,
        "[    812]   110   812  512345   120000  1400000        0             0 mysqld",
        "Out of memory: Killed process 812 (mysqld) total-vm:2049380kB, anon-rss:480000kB, file-rss:0kB, shmem-rss:0kB",
    )
    for line in report:
        yield ts, f"{_syslog_stamp(ts)} web1 kernel: {_uptime(ts)} {line}"
    yield (
        ts + 1,
        f"{_syslog_stamp(ts + 1)} web1 systemd[1]: mysql.service: Main process exited, code=killed, status=9/KILL",
    )
    yield ts + 1, f"{_syslog_stamp(ts + 1)} web1 systemd[1]: mysql.service: Failed with result 'oom-kill'."


def _exhaustion(attack_ts: int, kill_ts: int) -> Iterator[tuple[int, str]]:
    for ts, text in (
        (attack_ts + 90, "AH00161: server reached MaxRequestWorkers setting, consider raising the setting"),
        (kill_ts + UNTIL_S - BEFORE_S, "AH00169: caught SIGTERM, shutting down"),
        (kill_ts + UNTIL_S - BEFORE_S + 5, "AH00163: Apache/2.4.57 (Debian) configured -- resuming normal operations"),
    ):
        head = f"[{_local('%a %b %d %H:%M:%S', ts)}.000000 {_local('%Y', ts)}]"
        yield ts, f"{head} [mpm_prefork:error] [pid 700] {text}"


def _uptime(ts: int) -> str:
    return f"[{ts - START_TS + 900_000}.000000]"


def _syslog_stamp(ts: int) -> str:
    return _local("%b %e %H:%M:%S", ts)


def _access_stamp(ts: int) -> str:
    return f"{_local('%d/%b/%Y:%H:%M:%S', ts)} {ZONE}"


def _local(form: str, ts: int) -> str:
    return time.strftime(form, time.gmtime(ts + ZONE_S))
