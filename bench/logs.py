"""Realistic access logs for measuring, always the same for the same arguments.

2 % of the lines are the founding attack (POST /xmlrpc.php by false Googlebots); of the innocent ones a fifth contain
its literal, as a referer or as a GET; the rest are visitors' pages and assets, some 404, from 20,000 addresses.
A third of the lines are out of order, as Apache writes them under load.

In `access_lines` each line is by anybody, the worst for who remembers clients; in `visit_lines` people open pages, and
their browsers fetch what those are made of, as on any site.
"""

from __future__ import annotations

import heapq
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path

START_TS = 1_466_421_454  # 20 June 2016, 11:17:34 -0400: the founding attack
LINES_A_SECOND = 50
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/120.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:109.0) Gecko/20100101 Firefox/115.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 16_6 like Mac OS X) AppleWebKit/605.1.15 Version/16.6 Mobile/15E148 Safari/604",
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"
PATHS = (
    "/",
    "/blog/2016/{}/",
    "/wp-content/themes/x/style{}.css",
    "/wp-content/uploads/img{}.jpg",
    "/shop/{}/",
    "/feed/",
)
PAGES, ASSETS = (*PATHS[:2], *PATHS[4:]), PATHS[2:4]
LINES_A_VISIT = 22.5  # on average
ATTACK_SHARE = 0.02
STATUSES = (200,) * 14 + (304, 304, 301, 404)
SITE = "https://www.example.org"


def stamp(ts: float) -> str:
    """Apache's `%t` without its brackets."""
    return time.strftime("%d/%b/%Y:%H:%M:%S -0400", time.gmtime(ts - 4 * 3600))


def access_lines(
    count: int,
    *,
    attack_share: float = ATTACK_SHARE,
    seed: int = 7,
    attackers: int = 200,
    start_ts: int = START_TS,
    lines_a_second: int = LINES_A_SECOND,
) -> Iterator[str]:
    """`count` combined lines with newline. `attack_share` of them attack, from `attackers` addresses."""
    rng = random.Random(seed)
    pick, chance, number = rng.choice, rng.random, rng.randrange
    clients = [f"{number(11, 200)}.{number(256)}.{number(256)}.{number(1, 255)}" for _ in range(20_000)]
    stamps: dict[int, str] = {}
    for i in range(count):
        ts = start_ts + i // lines_a_second - (number(1, 20) if chance() < 1 / 3 else 0)
        when = stamps.get(ts) or stamps.setdefault(ts, stamp(ts))
        draw = chance()
        if draw < attack_share:
            who = number(attackers)
            client = f"203.0.{113 + who // 250}.{1 + who % 250}" if attackers < 10_000 else _spread(who)
            yield f'{client} - - [{when}] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "{GOOGLEBOT}"\n'
            continue
        path, referer = pick(PATHS).format(number(9999)), f"{SITE}/blog/some-page-title-{number(999)}/"
        literal = chance()
        if literal < 0.1:
            referer = f"{SITE}/xmlrpc.php"
        elif literal < 0.2:
            path = "/xmlrpc.php?rsd"
        yield (
            f'{pick(clients)} - - [{when}] "GET {path} HTTP/1.1" {pick(STATUSES)} {number(100, 90_000)} '
            f'"{referer}" "{pick(AGENTS)}"\n'
        )


def visit_lines(count: int, *, seed: int = 7) -> Iterator[str]:
    """`count` combined lines with newline: visits of one to four pages, each with four to twelve assets."""
    rng = random.Random(seed)
    chance, number = rng.random, rng.randrange
    clients = [f"{number(11, 200)}.{number(256)}.{number(256)}.{number(1, 255)}" for _ in range(20_000)]
    waiting: list[tuple[float, str]] = []
    now, written = 0.0, 0
    while written < count:
        now += rng.expovariate(LINES_A_SECOND / LINES_A_VISIT)
        while waiting and waiting[0][0] <= now and written < count:
            ts, line = heapq.heappop(waiting)
            if chance() < ATTACK_SHARE:
                line = f'203.0.113.{number(200)} - - [{{}}] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "{GOOGLEBOT}"\n'
            yield line.format(stamp(START_TS + int(ts) - (number(1, 20) if chance() < 1 / 3 else 0)))
            written += 1
        for each in _visit(rng, now, rng.choice(clients)):
            heapq.heappush(waiting, each)


def _visit(rng: random.Random, ts: float, client: str) -> Iterator[tuple[float, str]]:
    """The lines of one visit, with a place for the stamp in each."""
    agent, number = rng.choice(AGENTS), rng.randrange

    def line(path: str, referer: str) -> str:
        answer = f"{rng.choice(STATUSES)} {number(100, 90_000)}"
        return f'{client} - - [{{}}] "GET {path} HTTP/1.1" {answer} "{referer}" "{agent}"\n'

    for _ in range(number(1, 5)):
        page = rng.choice(PAGES).format(number(9999))
        yield ts, line(page, f"{SITE}/blog/some-page-title-{number(999)}/")
        for _ in range(number(4, 13)):
            path, referer, literal = rng.choice(ASSETS).format(number(9999)), SITE + page, rng.random()
            if literal < 0.1:
                referer = f"{SITE}/xmlrpc.php"
            elif literal < 0.2:
                path = "/xmlrpc.php?rsd"
            yield ts + rng.uniform(0.2, 2), line(path, referer)
        ts += rng.uniform(5, 40)


def _spread(who: int) -> str:
    return f"{11 + who % 180}.{who // 180 % 256}.{who // 46_080 % 256}.{1 + who % 253}"


def write_log(path: Path, lines: Iterator[str]) -> Path:
    """Write such a log, unless it is there already."""
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        partial = path.with_suffix(".partial")
        with partial.open("w") as out:
            out.writelines(lines)
        partial.rename(path)
    return path


if __name__ == "__main__":
    write_log(
        Path(sys.argv[1]), access_lines(int(sys.argv[2]), attack_share=float(sys.argv[3]) if sys.argv[3:] else 0.02)
    )
