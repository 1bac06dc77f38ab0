"""The draws of the scenarios in which requests or connections bring the server down."""

from __future__ import annotations

import random

import draws
from draft import Draft

# What a request costs a whole core, about (WordPress 6.1, PHP 8.2 with its opcode cache): so that every draw falls.
COST_S = {"login": 0.014, "multicall": 0.03, "pingback": 0.014, "guess": 0.022, "search": 0.35, "page": 0.05}
BACKLOG_S = 24  # a queue of so many seconds' work outlasts a visitor's patience


def bears(draft: Draft, what: str) -> float:
    """How many requests of this sort the server can serve in a second, about."""
    return draft.stack.cpu_share / COST_S[what]


def overload(draft: Draft, what: str, least: float, most: float) -> dict[str, float]:
    """A rate of `least` to `most` times what the server bears, and how many requests may wait for their answers."""
    can = bears(draft, what)
    waiting = int(can * BACKLOG_S * draft.rng.uniform(1, 1.5)) + draft.stack.workers
    per_s, ramp_s = round(can * draft.rng.uniform(least, most), 2), draft.rng.choice((0, 0, 5, 15, 25))
    return {"per_s": per_s, "in_flight": min(1200, waiting), "ramp_s": ramp_s}


def forged(rng: random.Random) -> str | None:
    """An attacker's agent: a false Googlebot, an old browser, a new one, or (None) one for each address."""
    return rng.choice((rng.choice(draws.FALSE_GOOGLEBOTS), rng.choice(draws.OLD_BROWSERS), draws.browser(rng), None))


def told(draft: Draft, method: str, script: str, agent: str | None, query: str | None = None) -> None:
    """What defines the attack, for truth.json."""
    draft.signature = {"method": method, "path": draft.stack.wp_path + script}
    if agent:
        draft.signature["user_agent"] = agent
    if query:
        draft.signature["query"] = query


def xmlrpc_flood(draft: Draft) -> None:
    """POST /xmlrpc.php from two addresses (in some draws one or three), as in the founding story."""
    rng = draft.rng
    addresses = draft.some(draft.fresh_nets(2), rng.choice((1, 2, 2, 2, 3)))
    agent = forged(rng) or draws.browser(rng)
    told(draft, "POST", "xmlrpc.php", agent)
    body = rng.choice(("login", "multicall", "pingback"))
    draft.attack(
        "flood", addresses, agent=agent, even=rng.random() < 0.5, body=body, version=rng.choice(("1.0", "1.1")),
        timeout_s=rng.choice((20, 30, 60)), **overload(draft, body, 2, 3.5),
    )  # fmt: skip


def xmlrpc_distributed(draft: Draft) -> None:
    """system.multicall of pingbacks, each address once (in some draws twice): each request sleeps for many seconds."""
    rng, workers = draft.rng, draft.stack.workers
    uses, count = rng.choice((1, 1, 1, 2)), rng.randint(150, 800)
    needed = int(workers * draft.attack_s / 25 * 1.6)  # each holds a worker for some 25 s
    count = min(800, max(count, needed // uses))
    addresses = draft.some(draft.fresh_nets(rng.randint(40, 110)), count)
    agent = forged(rng)
    told(draft, "POST", "xmlrpc.php", agent)
    draft.notes["uses"] = uses
    froms = rng.sample(addresses, 5)  # a name that resolves to nothing would be refused at once, without the sleep
    draft.attack(
        "distributed", addresses, agent=agent, per_s=round(count * uses / draft.attack_s, 2), even=rng.random() < 0.5,
        in_flight=count, pings=rng.randint(18, 30), looks=rng.randint(0, 60), froms=froms, timeout_s=90,
        version=rng.choice(("1.0", "1.1", "1.1")),
    )  # fmt: skip


def login_bruteforce(draft: Draft) -> None:
    """POST wp-login.php from 40 to 400 addresses."""
    rng = draft.rng
    count = rng.randint(40, 400)
    addresses = draft.some(draft.fresh_nets(rng.randint(10, 60)), count)
    agent = forged(rng)
    told(draft, "POST", "wp-login.php", agent)
    name = draft.stack.vhost.removeprefix("www.").split(".")[0]
    draft.attack(
        "login", addresses, agent=agent, even=rng.random() < 0.3, users=["admin", "administrator", name, "editor"],
        referer=rng.choice((None, f"http://{draft.stack.vhost}{draft.stack.wp_path}wp-login.php")),
        timeout_s=rng.choice((20, 30, 60)), **overload(draft, "guess", 2, 3.5),
    )  # fmt: skip


def expensive_search(draft: Draft) -> None:
    """Searches of several words, few a second, from one address or from some tens of them."""
    rng = draft.rng
    count = 1 if rng.random() < 0.3 else rng.randint(5, 40)
    addresses = draft.some(draft.fresh_nets(max(1, count // 4)), count)
    agent = draws.browser(rng) if count == 1 or rng.random() < 0.3 else None
    told(draft, "GET", "", agent, "s=")
    draft.attack(
        "search", addresses, agent=agent, even=rng.random() < 0.4, words=rng.randint(4, 8),
        timeout_s=rng.choice((30, 60)), **overload(draft, "search", 2, 4),
    )  # fmt: skip


def scraper(draft: Draft) -> None:
    """One program that says who it is and fetches every page as fast as it can, from an address or a small network."""
    rng = draft.rng
    agent, token = rng.choice(draws.SCRAPERS)
    net = rng.choice(draft.fresh_nets(1))
    if rng.random() < 0.3:
        low, third = 16 * rng.randrange(1, 15), rng.randrange(256)
        addresses = [f"{net}.{third}.{low + i}" for i in range(1, 15)]
    else:
        addresses = draft.some([net], 1)
    draft.signature = {"user_agent": token}
    lanes = int(bears(draft, "page") * BACKLOG_S * rng.uniform(0.8, 1.3)) + 20
    draft.attack("scrape", addresses, agent=agent, lanes=lanes, robots=rng.random() < 0.5, keep=rng.random() < 0.4)


def slow_connections(draft: Draft) -> None:
    """More connections than there are workers, none of which completes its request."""
    rng, stack = draft.rng, draft.stack
    stack.workers = min(stack.workers, 100)
    addresses = draft.some(draft.fresh_nets(rng.randint(1, 12)), rng.choice((1, 1, 2, 5, rng.randint(10, 60))))
    style = rng.choice(("headers", "body"))
    agent = forged(rng)
    draft.attack(
        "slow", addresses, agent=agent, style=style, form=rng.choice(("", "", "wp-comments-post.php", "wp-login.php")),
        connections=int(stack.workers * rng.uniform(1.5, 2.5)) + 20,
        ramp_s=rng.randint(1, 12), every_s=sorted((rng.randint(2, 6), rng.randint(5, 12))),
    )  # fmt: skip


def surge(draft: Draft) -> None:
    """Readers whom a news site has sent: pages with their assets, one landing page for most, one referer for all."""
    rng = draft.rng
    who = draft.some(draft.fresh_nets(80), rng.randint(400, 900))
    start_s, end_s = draft.before_s, draft.before_s + draft.attack_s
    referer = rng.choice(draws.NEWS_SITES)
    draft.notes["attack"] = {"kind": "surge", "addresses": len(who), "referer": referer}
    per_s = round(bears(draft, "page") * rng.uniform(1.5, 2.5), 2)
    draft.phase(
        "surge", start_s, end_s, who, per_s=per_s, pages=rng.uniform(1.2, 2), think_s=[2, rng.randint(6, 15)],
        referer=referer, landing=draft.stack.wp_path,
    )  # fmt: skip
