"""The crowds themselves: each function writes one kind of attack (or a surge that is none) into the book, and says what
it was.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from crowd_lab import FALSE_GOOGLEBOTS, NEWS_SITES, OLD_BROWSERS, WORDS, browser, words
from crowd_people import Reader, pages_of
from crowd_site import FIRSTS, Book, Host, Machine, Page, address6, anywhere, arrivals

WAVE, WAVE_S, LASTS_S = 1000, 120.0, 600.0
BULK = "attack"
ODD_AGENTS = (
    "Mozilla/5.0 (X11; Linux x86_64) HarvestKit/2.4",
    "Java/1.8.0_202",
    "python-requests/2.31.0",
    "Mozilla/5.0 (Windows NT 10.0; WOW64) Trident/7.0; rv:11.0) like Gecko",
    "-",
    "libcurl-agent/1.0",
    "Mozilla/5.0",
    "axios/0.21.4",
    "okhttp/3.14.9",
    "Opera/9.80 (Windows NT 6.1; U; en) Presto/2.8.131 Version/11.11",
)
# Servers that fetch a page once because somebody has linked it: no browser, no harm.
PREVIEWS = (
    "http.rb/5.1.1 (Mastodon/4.2.10; +https://{name}.example/)",
    "Mastodon/4.3.1 (http.rb/5.2.0; +https://{name}.example/)",
    "Akkoma 3.13.2; https://{name}.example <admin@{name}.example>",
    "Mozilla/5.0 (compatible; Twitterbot/1.0)",
    "TelegramBot (like TwitterBot)",
    "WhatsApp/2.23.20.0",
    "Slackbot-LinkExpanding 1.0 (+https://api.slack.com/robots)",
)
Truth = dict[str, object]
Attack = Callable[[Book, random.Random, float, float], Truth]


def strangers(rng: random.Random, count: int) -> list[str]:
    """So many addresses of which no two share a /16."""
    nets = rng.sample([(first, second) for first in FIRSTS for second in range(256)], count)
    return [f"{first}.{second}.{rng.randrange(256)}.{rng.randrange(1, 255)}" for first, second in nets]


def pool(rng: random.Random, machine: Machine, count: int) -> list[str]:
    """So many addresses as a proxy service or a botnet has them: here and there several of a network, some of them in
    the networks of the site's own visitors, in some cases IPv6 too.
    """
    nets = [address.rpartition(".")[0] for address in strangers(rng, max(40, count // rng.choice((1, 2, 5, 20))))]
    six = rng.choice((0.0, 0.0, 0.15))
    found: dict[str, None] = {}
    while len(found) < count:
        pick = rng.random()
        if pick < six:
            found[address6(rng, rng.choice(machine.nets6))] = None
        elif pick < 0.9:
            found[f"{rng.choice(nets)}.{rng.randrange(1, 255)}"] = None
        else:
            found[f"{rng.choice(machine.nets)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"] = None
    return list(found)


def waves(rng: random.Random, start_ts: float, count: int) -> Iterator[float]:
    """Times, a thousand of them in each two minutes."""
    for number in range(count):
        yield start_ts + number // WAVE * WAVE_S + rng.uniform(0, WAVE_S)


def false_googlebots(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """A thousand addresses in forty /24s in two minutes, one XML-RPC POST each; then the next thousand."""
    count = WAVE * int((end_ts - start_ts) / WAVE_S)
    firsts = strangers(rng, 40)
    homes = [f"{first.rpartition('.')[0]}.{last}" for first in firsts for last in range(1, 255)]
    who = rng.sample(homes, count)
    host, proto = book.machine.hosts[0], rng.choice(("HTTP/1.0", "HTTP/1.1"))
    agents = rng.sample(FALSE_GOOGLEBOTS, rng.randint(1, 3))
    for address, ts in zip(who, waves(rng, start_ts, count), strict=True):
        xmlrpc(book, rng, ts, address, host, rng.choice(agents), proto, "-")
    return {"method": "POST", "path": f"{host.prefix}xmlrpc.php", "user_agent": "Googlebot"}


def xmlrpc(
    book: Book, rng: random.Random, ts: float, who: str, host: Host, agent: str, proto: str, referer: str
) -> None:
    """One POST to XML-RPC."""
    request, took_s = f"POST {host.prefix}xmlrpc.php", rng.uniform(0.3, 4)
    book.add(ts, who, BULK, host, request, 200, rng.choice((370, 403, 674)), agent, referer, took_s=took_s, proto=proto)


def browser_xmlrpc(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """The same with browsers' agents, from addresses that share no prefix."""
    count = WAVE * int((end_ts - start_ts) / WAVE_S)
    host, proto = book.machine.hosts[0], rng.choice(("HTTP/1.1", "HTTP/1.1", ""))
    referer = rng.choice(("-", "-", host.url(host.prefix)))
    agents = [browser(rng) for _ in range(rng.choice((20, 200, count)))]
    for address, ts in zip(strangers(rng, count), waves(rng, start_ts, count), strict=True):
        xmlrpc(book, rng, ts, address, host, rng.choice(agents), proto, referer)
    return {"method": "POST", "path": f"{host.prefix}xmlrpc.php"}


def logins(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """Guesses at wp-login.php from 5,000 addresses, one each; in some cases each fetches the form first."""
    host, count = book.machine.hosts[0], 5 * WAVE
    lasts_s = rng.uniform(0.5, 1.0) * (end_ts - start_ts)
    target, first = f"{host.prefix}wp-login.php", rng.random() < 0.25
    referer = rng.choice(("-", host.url(target)))
    agents = [*(browser(rng) for _ in range(rng.choice((10, 300)))), *rng.choice(((), OLD_BROWSERS))]
    for address in pool(rng, book.machine, count):
        ts, agent = start_ts + rng.uniform(0, lasts_s), rng.choice(agents)
        if first:
            book.add(ts, address, BULK, host, f"GET {target}", 200, 7300, agent, took_s=0.4)
        book.add(ts + 1.5 * first, address, BULK, host, f"POST {target}", 200, 7600, agent, referer, took_s=1.0)
    return {"method": "POST", "path": target}


def scraper(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """Every page and never a picture, from a pool of addresses, each of which comes again after a pause, each time with
    another agent.
    """
    host = book.machine.host(rng)
    homes = pool(rng, book.machine, rng.randint(300, 2000))
    per_s = min(40.0, max(8.0, len(homes) / rng.uniform(10, 45)))
    agents = [*(browser(rng) for _ in range(rng.randint(5, 200))), *rng.choice(((), OLD_BROWSERS))]
    own_referer, deep = rng.random() < 0.3, rng.random() < 0.4
    everything = (*host.pages, *host.lists)
    for ts in arrivals(rng, start_ts, end_ts, per_s):
        page = rng.choice(everything)
        target, status = page.target, 200
        if deep and rng.random() < 0.7:
            at = rng.choice(host.lists[1:]).target.split("page/")[0]
            target, status = f"{at}page/{rng.randint(2, 90)}/", rng.choice((200, 404))
        referer = host.url(rng.choice(everything).target) if own_referer else "-"
        who, agent = rng.choice(homes), rng.choice(agents)
        book.add(ts, who, BULK, host, f"GET {target}", status, page.size, agent, referer, took_s=rng.uniform(0.2, 2))
    return {"method": "GET"}


def searches(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """Searches for words that nobody's cache holds, from many addresses, a few from each."""
    host = book.machine.host(rng)
    homes = pool(rng, book.machine, rng.randint(300, 3000))
    agents = [browser(rng) for _ in range(rng.randint(5, 300))]
    referer = rng.choice(("-", "-", host.url(host.prefix)))
    for ts in arrivals(rng, start_ts, end_ts, rng.uniform(4, 20)):
        terms = rng.choice((words(rng, rng.randint(1, 4)), f"{rng.getrandbits(40):x}"))
        request, who = f"GET {host.search(terms)}", rng.choice(homes)
        size, agent = rng.randint(9_000, 60_000), rng.choice(agents)
        book.add(ts, who, BULK, host, request, 200, size, agent, referer, took_s=rng.uniform(0.8, 8))
    if host.pretty_search:
        return {"method": "GET", "path": f"{host.prefix}search/*/"}
    return {"method": "GET", "path": host.prefix, "query": "s="}


def surge(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """Ten to thirty times the visitors, all by one link; none of them has been here before. It swells and fades."""
    machine = book.machine
    host = machine.host(rng)
    landing, news = rng.choice(host.pages), rng.choice(NEWS_SITES)
    named, fediverse = rng.uniform(0.3, 0.9), rng.choice((0.0, 0.0, 0.1))
    usual_per_s = machine.per_min / 60 * machine.rate(start_ts)
    per_s, swells_s = min(30.0, rng.uniform(10, 30) * max(usual_per_s, 0.1)), rng.uniform(20, 240)
    for ts in arrivals(rng, start_ts, end_ts, per_s):
        if (ts - start_ts) / swells_s < rng.random():
            continue
        if rng.random() < fediverse:
            agent, who = rng.choice(PREVIEWS).format(name=rng.choice(WORDS)), machine.address(rng)
            book.add(ts, who, "surge", host, f"GET {landing.target}", 200, landing.size, agent, took_s=0.5)
            continue
        who = anywhere(rng) if rng.random() < 0.5 else machine.address(rng)
        reader = Reader(book, rng, host, who, browser(rng), "surge")
        reader.visit(ts, landing, news if rng.random() < named else "-", 1 if rng.random() < 0.7 else pages_of(rng), 40)
    return {}


def unknown(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """A class that no rule knows: path, query, agent and host at random."""
    machine = book.machine
    host, method = rng.choice(machine.hosts), rng.choice(("GET", "GET", "POST"))
    there = rng.random() < 0.5
    path, status, size = drawn_path(rng, host, there=there)
    kind = rng.choice(("none", "own", "shared"))
    key, shared = rng.choice(("id", "ref", "export", "format", "filter", "callback")), rng.choice(WORDS)
    one = rng.choice((*ODD_AGENTS, browser(rng)))
    agents = rng.choice(([one], [one], [browser(rng) for _ in range(rng.randint(10, 300))]))
    homes = pool(rng, machine, rng.randint(500, 3000))
    joint = "&" if "?" in path else "?"
    for ts in arrivals(rng, start_ts, end_ts, rng.uniform(5, 25)):
        query = {"none": "", "own": f"{joint}{key}={rng.getrandbits(32):x}", "shared": f"{joint}{key}={shared}"}[kind]
        request, who, took_s = f"{method} {path}{query}", rng.choice(homes), rng.uniform(0.3, 3)
        book.add(ts, who, BULK, host, request, status, size, rng.choice(agents), took_s=took_s)
    truth: Truth = {"method": method, "path": path.partition("?")[0], "there": there, "query_kind": kind}
    if machine.with_vhost:
        truth["vhost"] = host.vhost
    if kind != "none" or "?" in path:
        truth["query"] = (path.partition("?")[2] + joint if "?" in path else "") + (f"{key}=" if kind != "none" else "")
    if len(agents) == 1:
        truth["user_agent"] = one
    return truth


def drawn_path(rng: random.Random, host: Host, *, there: bool) -> tuple[str, int, int]:
    """A path that visitors know or that is nowhere, with what the server says to it."""
    if there:
        page: Page = rng.choice((*host.pages, *host.lists[1:]))
        return page.target, 200, page.size
    shape = rng.choice(
        ("{a}/{b}.php", "wp-json/{a}/v{n}/{b}", "api/v{n}/{a}/{b}", "{a}-{b}/", "wp-content/plugins/{a}/{b}.php")
    )
    path = host.prefix + shape.format(a=rng.choice(WORDS), b=rng.choice(WORDS), n=rng.randint(1, 3))
    status = rng.choice((200, 404, 403))
    return path, status, rng.randint(200, 12_000)


ATTACKS: dict[str, Attack] = {
    "a": false_googlebots,
    "b": browser_xmlrpc,
    "c": logins,
    "d": scraper,
    "e": searches,
    "f": surge,
    "h": unknown,
}
