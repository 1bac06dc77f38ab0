"""Everybody who is no attacker: readers, an office, crawlers, feed readers, an app, an administrator, the net's noise.

Each function writes one sort of them into the book, from a time to a time, by a random generator of its own.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from crowd_lab import (
    APPS,
    BINGBOT,
    FEED_READERS,
    GOOGLEBOT,
    GOOGLEBOT_MOBILE,
    MONITORS,
    OLD_BROWSERS,
    PROBES,
    WORDS,
    browser,
    words,
)
from crowd_site import OWN, Book, Host, Page, address_of, anywhere, arrivals, published, referer_of, size_of

HABITS = ("cold", "warm", "cached", "private")
HABIT_SHARES = (60, 20, 10, 10)
SLOW_BOTS = (
    "Mozilla/5.0 (compatible; SemrushBot/7~bl; +http://www.semrush.com/bot.html)",
    "Mozilla/5.0 (compatible; MJ12bot/v1.4.8; http://mj12bot.com/)",
    "Mozilla/5.0 (compatible; DotBot/1.2; +https://opensiteexplorer.org/dotbot; help@moz.com)",
    "Mozilla/5.0 (compatible; SeznamBot/4.0; +https://o-seznam.cz/napoveda/vyhledavani/en/seznambot-crawler/)",
)
SCANNERS = (
    "Mozilla/5.0 zgrab/0.x",
    "-",
    "Go-http-client/1.1",
    "Mozilla/5.0 (compatible; CensysInspect/1.1; +https://about.censys.io/)",
    "python-requests/2.32.3",
    *OLD_BROWSERS,
)


class Reader:
    """One browser on one host: its habit is what it sends beside the pages that it opens."""

    def __init__(self, book: Book, rng: random.Random, host: Host, who: str, agent: str, label: str) -> None:
        """`habit` is drawn: a cold cache, a warm one, one that holds everything, or a browser that names no referer."""
        self.book, self.rng, self.host, self.who, self.agent, self.label = book, rng, host, who, agent, label
        self.habit = rng.choices(HABITS, HABIT_SHARES)[0]
        self.seen: set[str] = set()
        self.blocks = rng.random() < 0.2  # scripts that call home

    def add(self, ts: float, request: str, status: int, size: int, referer: str, took_s: float) -> None:
        """One request of it."""
        shown = "-" if self.habit == "private" else referer
        self.book.add(ts, self.who, self.label, self.host, request, status, size, self.agent, shown, took_s=took_s)

    def open(self, ts: float, page: Page, referer: str) -> str:
        """A page with what it needs; the page's address, as it will be the next one's referer."""
        rng, took_s = self.rng, self.rng.lognormvariate(-1.2, 0.6)
        self.add(ts, f"GET {page.target}", 200, int(page.size * rng.uniform(0.97, 1.03)), referer, took_s)
        here, at = self.host.url(page.target), ts + took_s
        for file in self.wanted(page):
            at += rng.expovariate(25)
            old = self.habit == "warm" and rng.random() < 0.5
            self.add(at, f"GET {file}", 304 if old else 200, 0 if old else size_of(file), here, 0.01)
        if self.host.beacon and not self.blocks:
            self.add(at + rng.uniform(0.2, 3), f"POST {self.host.beacon}", 200, 61, here, rng.uniform(0.1, 0.5))
        return here

    def wanted(self, page: Page) -> list[str]:
        """The files of a page that the cache does not hold."""
        if self.habit == "cached":
            return []
        files = [file for file in (*self.host.theme, *page.files) if file not in self.seen]
        self.seen.update(files)
        if self.habit == "warm":
            return self.rng.sample(files, min(len(files), self.rng.randint(1, 3)))
        if not page.files and files and self.rng.random() < 0.3:
            files.append("/favicon.ico")
        return files

    def visit(self, ts: float, landing: Page, referer: str, pages: int, pace_s: float) -> None:
        """A visit of so many pages."""
        rng, host = self.rng, self.host
        here = self.open(ts, landing, referer)
        for _ in range(pages - 1):
            ts += 2 + rng.expovariate(1 / pace_s)
            pick = rng.random()
            if pick < 0.05:
                here = self.open(ts, Page(host.search(words(rng, rng.choice((1, 1, 2)))), (), 30_000), here)
            elif pick < 0.07:
                self.add(ts, f"GET {host.prefix}old-{rng.randrange(400)}/", 404, 9000, here, 0.3)
            elif pick < 0.08:
                self.add(ts, f"POST {host.prefix}wp-comments-post.php", 302, 0, here, 0.6)
            else:
                here = self.open(ts, host.page(rng), here)


def pages_of(rng: random.Random) -> int:
    """How many pages a visit has: most read one or two."""
    return min(12, 1 + int(rng.expovariate(0.7)))


def visitors(book: Book, rng: random.Random, start_ts: float, end_ts: float, factor: float = 1.0) -> None:
    """Readers, more by day than by night; some come back, some share a provider's address."""
    machine, known = book.machine, list[tuple[str, str, Host]]()
    shared = [machine.address(rng) for _ in range(rng.randint(3, 15))]
    back, crowded, members = rng.uniform(0.1, 0.4), rng.uniform(0, 0.1), rng.random() < 0.3
    for ts in arrivals(rng, start_ts, end_ts, factor * machine.per_min / 60):
        if rng.random() > machine.rate(ts):
            continue
        again = known and rng.random() < back
        if again:
            who, agent, host = rng.choice(known)
        else:
            who = rng.choice(shared) if rng.random() < crowded else machine.address(rng)
            agent, host = browser(rng), machine.host(rng)
            known.append((who, agent, host))
        reader = Reader(book, rng, host, who, agent, "visitor")
        if again and rng.random() < 0.6:
            reader.habit = rng.choice(("warm", "cached"))
        reader.visit(ts, host.page(rng), referer_of(rng), pages_of(rng), rng.uniform(8, 90))
        if members and rng.random() < 0.01:
            login(reader, ts + rng.uniform(60, 200), 0)


def login(reader: Reader, ts: float, mistypes: int) -> float:
    """Somebody opens the form, mistypes or not, and is let in; when that is."""
    host, rng = reader.host, reader.rng
    form = Page(f"{host.prefix}wp-login.php", (f"{host.prefix}wp-admin/css/login.min.css?ver=6.8.3",
        f"{host.prefix}wp-includes/css/buttons.min.css?ver=6.8.3",
        f"{host.prefix}wp-includes/js/jquery/jquery.min.js?ver=3.7.1",
        f"{host.prefix}wp-admin/js/user-profile.min.js?ver=6.8.3"), 7300)  # fmt: skip
    here = reader.open(ts, form, "-")
    for _ in range(mistypes):
        ts += rng.uniform(4, 20)
        reader.add(ts, f"POST {host.prefix}wp-login.php", 200, 7600, here, 0.7)
    ts += rng.uniform(4, 20)
    reader.add(ts, f"POST {host.prefix}wp-login.php", 302, 0, here, 0.8)
    return ts


def office(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """Thirty people behind one address, busy on the site while it is day."""
    machine, who = book.machine, book.machine.address(rng)
    host, version = machine.host(rng), browser(rng)
    desks = [Reader(book, rng, host, who, version if rng.random() < 0.7 else browser(rng), "office") for _ in range(30)]
    for desk in desks:
        for ts in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(900, 4000)):
            if 7 <= (ts + machine.zone_s) % 86400 / 3600 < 19 or rng.random() < 0.2:
                desk.visit(ts, host.page(rng), rng.choice(("-", host.url(host.prefix))), pages_of(rng), 40)


def crawler(book: Book, rng: random.Random, start_ts: float, end_ts: float, which: str) -> None:
    """The real Googlebot or bingbot, out of its operator's networks, at its own pace."""
    google = which == "googlebot"
    nets = published("google-googlebot" if google else "bing-bingbot")
    nets = [net for net in nets if net.startswith("66.249.")] if google else nets
    homes = [address_of(rng, net) for net in rng.sample(nets, min(len(nets), rng.randint(2, 6)))]
    pace_s = rng.uniform(5, 50) if google else rng.uniform(15, 120)
    for ts in arrivals(rng, start_ts, end_ts, 1 / pace_s):
        host, pick = book.machine.host(rng), rng.random()
        agent = rng.choice((GOOGLEBOT, GOOGLEBOT_MOBILE, GOOGLEBOT_MOBILE)) if google else BINGBOT
        page = host.page(rng)
        target, status, size = page.target, 200, page.size
        if pick < 0.03:
            target, size = "/robots.txt", 120
        elif pick < 0.15:
            target = rng.choice((*host.theme, *page.files))
            size = size_of(target)
        elif pick < 0.2:
            target, status, size = f"{host.prefix}gone-{rng.randrange(900)}/", 404, 9000
        elif pick < 0.3:
            status, size = 304, 0
        elif pick < 0.45:
            target = rng.choice(host.pages).target
        book.add(ts, rng.choice(homes), which, host, f"GET {target}", status, size, agent, took_s=0.3, proto="HTTP/1.1")


def slow_bots(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """Crawlers whose operators publish no networks; honest and slow."""
    for agent in rng.sample(SLOW_BOTS, rng.randint(1, 3)):
        who = [book.machine.address(rng) for _ in range(rng.randint(1, 4))]
        for ts in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(20, 200)):
            host = book.machine.host(rng)
            page = rng.choice((*host.pages, *host.lists))
            book.add(ts, rng.choice(who), "bot", host, f"GET {page.target}", 200, page.size, agent, took_s=0.4)


def every(rng: random.Random, start_ts: float, end_ts: float, every_s: float, once: Callable[[float], None]) -> None:
    """Something that a program does at an even pace."""
    ts = start_ts + rng.uniform(0, every_s)
    while ts < end_ts:
        once(ts)
        ts += every_s * rng.uniform(0.98, 1.02)


def feeds(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """Feed readers, each every 10 to 30 minutes."""
    for agent in rng.choices(FEED_READERS, k=rng.randint(2, 8)):
        host, who = book.machine.host(rng), book.machine.address(rng)

        def once(ts: float, host: Host = host, who: str = who, agent: str = agent) -> None:
            new = rng.random() < 0.2
            request = f"GET {host.prefix}feed/"
            book.add(ts, who, "feed", host, request, 200 if new else 304, 52_000 if new else 0, agent, took_s=0.3)

        every(rng, start_ts, end_ts, rng.uniform(600, 1800), once)


def monitors(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """An uptime monitor or two."""
    for agent in rng.sample(MONITORS, rng.randint(1, 2)):
        host, method = book.machine.hosts[0], rng.choice(("GET", "HEAD"))
        homes = [book.machine.address(rng) for _ in range(rng.randint(1, 4))]

        def once(
            ts: float, host: Host = host, method: str = method, homes: list[str] = homes, agent: str = agent
        ) -> None:
            size = 0 if method == "HEAD" else host.lists[0].size
            request = f"{method} {host.prefix}"
            book.add(ts, rng.choice(homes), "monitor", host, request, 200, size, agent, took_s=0.3, proto="HTTP/1.1")

        every(rng, start_ts, end_ts, rng.choice((60.0, 60.0, 300.0)), once)


def cron(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """WordPress calls itself."""
    for host in book.machine.hosts:
        agent = f"WordPress/6.8.3; https://{host.vhost}"

        def once(ts: float, host: Host = host, agent: str = agent) -> None:
            request = f"POST {host.prefix}wp-cron.php?doing_wp_cron={ts:.20f}"
            book.add(ts, OWN, "cron", host, request, 200, 0, agent, took_s=0.2, proto="HTTP/1.1")

        every(rng, start_ts, end_ts, rng.choice((60.0, 300.0)), once)


def app(book: Book, rng: random.Random, start_ts: float, end_ts: float, calls: int) -> None:
    """A mobile app that speaks XML-RPC: each phone opens it now and then, and each time it makes up to `calls`
    requests.
    """
    host, agent = book.machine.hosts[0], rng.choice(APPS)
    for _ in range(rng.randint(2, 5)):
        who = book.machine.address(rng)
        for opened in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(1200, 3600)):
            ts = opened
            for _ in range(rng.randint(1, calls)):
                size = rng.randint(600, 40_000)
                request = f"POST {host.prefix}xmlrpc.php"
                book.add(ts, who, "app", host, request, 200, size, agent, took_s=0.5)
                ts += rng.uniform(0.2, 4)


def admin(book: Book, rng: random.Random, attack_ts: float, who: str, *, before: bool) -> None:
    """The administrator, at work during the attack and, where `before` says so, an hour or so before it, too."""
    host, agent = book.machine.hosts[0], browser(rng)
    began = [attack_ts + rng.uniform(20, 400)]
    if before:
        began.insert(0, attack_ts - rng.uniform(1800, 7000))
    for start_ts in began:
        reader = Reader(book, rng, host, who, agent, "admin")
        reader.habit = rng.choice(("cold", "warm")) if start_ts == began[0] else "warm"
        ts = login(reader, start_ts, rng.choice((0, 0, 1, 2)))
        board = f"{host.prefix}wp-admin/"
        at_work_until = ts + rng.uniform(300, 1500)
        here = host.url(f"{host.prefix}wp-login.php")
        while ts < at_work_until:
            target = rng.choice((board, f"{board}edit.php", f"{board}post.php?post={rng.randrange(900)}&action=edit"))
            page = Page(target, (f"{board}load-styles.php?c=1&load%5Bchunk_0%5D=dashicons,admin-bar&ver=6.8.3",
                f"{board}load-scripts.php?c=1&load%5Bchunk_0%5D=jquery-core,utils&ver=6.8.3"), 70_000)  # fmt: skip
            here = reader.open(ts + 0.5, page, here)
            for _ in range(rng.randint(1, 6)):
                ts += rng.uniform(15, 60)
                reader.add(ts, f"POST {board}admin-ajax.php", 200, 120, here, 0.3)


def noise(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """What every log is full of: probes, a guess at a login, a try of XML-RPC, each from somebody else."""
    for ts in arrivals(rng, start_ts, end_ts, rng.uniform(0.2, 2.5) / 60):
        host, who, agent, pick = book.machine.host(rng), anywhere(rng), rng.choice(SCANNERS), rng.random()
        rows: list[tuple[str, int, int]]
        if pick < 0.4:
            rows = [(f"GET /{path}", 404, 9100) for path in rng.sample(PROBES, rng.randint(1, 3))]
        elif pick < 0.6:
            agent = rng.choice((agent, browser(rng)))
            rows = [(f"POST {host.prefix}wp-login.php", 200, 7600)] * rng.choice((1, 1, 2))
        elif pick < 0.75:
            agent = rng.choice((agent, browser(rng)))
            rows = [(f"POST {host.prefix}xmlrpc.php", rng.choice((200, 200, 405)), 674)] * rng.choice((1, 1, 2))
        elif pick < 0.9:
            rows = [("GET /", 200, host.lists[0].size)]
        else:
            rows = [(f"GET {host.prefix}wp-content/plugins/{rng.choice(WORDS)}/readme.txt", 404, 9100)]
        for number, (request, status, size) in enumerate(rows):
            book.add(ts + number, who, "noise", host, request, status, size, agent, took_s=0.2, proto="HTTP/1.1")
