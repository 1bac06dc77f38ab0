"""A small site's log, made up: visitors who load pages as browsers do, an app, and crowds that do not belong."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from random import Random

START_TS = 1_793_000_000  # a Monday of October 2026
SITE = "https://shop.example"
AGENTS = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/129.0.0.0 Safari/537.36",
    "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0",
    "Mozilla/5.0 (iPhone; CPU iPhone OS 17_6 like Mac OS X) AppleWebKit/605.1.15 Version/17.6 Safari/604.1",
)
PAGES = ("/", "/shop/", "/shop/chair/", "/shop/table/", "/about/")

Line = tuple[float, bytes]


def line(ts: float, who: str, request: str, status: int, referer: str, agent: str) -> Line:
    """One line of a combined log."""
    when = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))
    return ts, f'{who} - - [{when}] "{request} HTTP/1.1" {status} 512 "{referer}" "{agent}"'.encode()


def visit(rng: Random, ts: float, who: str, landing: str | None = None) -> Iterator[Line]:
    """A visitor: a page, what it is made of, and perhaps another page."""
    agent, page, referer = (
        rng.choice(AGENTS),
        landing or rng.choice(PAGES),
        rng.choice(("-", "https://search.example/")),
    )
    for _ in range(rng.randrange(1, 4)):
        yield line(ts, who, f"GET {page}", 200, referer, agent)
        for asset in ("style.css", "site.js", "logo.png"):
            yield line(ts + rng.uniform(0.2, 2), who, f"GET /assets/{asset}", 200, SITE + page, agent)
        referer, page = SITE + page, rng.choice(PAGES)
        ts += rng.uniform(5, 40)


def address(rng: Random, first: int = 20) -> str:
    """Any address, from a range of its own by its first byte."""
    return f"{first + rng.randrange(60)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def visitors(seed: int, start_s: float, end_s: float, a_minute: float = 20.0, landing: str | None = None) -> list[Line]:
    """Ordinary traffic, with one phone whose app posts every few minutes."""
    rng = Random(f"visitors {seed} {start_s} {landing}")
    found: list[Line] = []
    at = start_s
    while at < end_s:
        found += visit(rng, START_TS + at, address(rng), landing)
        at += rng.expovariate(a_minute / 60)
    for at_s in range(int(start_s) + 30, int(end_s), 290):
        found.append(line(START_TS + at_s, "203.0.113.9", "POST /xmlrpc.php", 200, "-", "wp-android/24.1"))
    return found


def crowd(
    seed: int, start_s: float, end_s: float, a_second: float, request: Callable[[Random], tuple[str, str]]
) -> list[Line]:
    """Requests (request, agent), each from another address."""
    rng = Random(f"crowd {seed}")
    found = []
    at = start_s
    while at < end_s:
        asked, agent = request(rng)
        found.append(line(START_TS + at, address(rng, 120), asked, 200, "-", agent))
        at += rng.expovariate(a_second)
    return found


def xmlrpc(rng: Random) -> tuple[str, str]:
    """What brought the founders' site down, with the agents of browsers."""
    return "POST /xmlrpc.php", rng.choice(AGENTS)


def log(*parts: list[Line]) -> list[Line]:
    """All of it in the order of time."""
    return sorted(each for part in parts for each in part)
