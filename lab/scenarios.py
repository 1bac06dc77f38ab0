"""The scenarios: `draw(name, seed)` decides everything about one run, from the server's limits to the decoys.

The same name and seed give the same draw. Times are seconds from the start of the traffic (`lab/traffic.py`).
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

import msgspec

import draws
import faulty
import hostile
from draft import Draft, Fault
from stack import Stack

Draw = Callable[[Draft], None]
# What each scenario does to the server, and the cause that a right verdict names; none: nothing went wrong.
SCENARIOS: dict[str, tuple[Draw, str | None]] = {
    "xmlrpc-flood": (hostile.xmlrpc_flood, "request-flood"),
    "xmlrpc-distributed": (hostile.xmlrpc_distributed, "distributed-flood"),
    "login-bruteforce": (hostile.login_bruteforce, "login-bruteforce"),
    "expensive-search": (hostile.expensive_search, "expensive-requests"),
    "scraper": (hostile.scraper, "crawler"),
    "slow-connections": (hostile.slow_connections, "slow-connections"),
    "surge": (hostile.surge, "legitimate-surge"),
    "local-job": (faulty.local_job, "local-job"),
    "disk-full": (faulty.disk_full, "disk-full"),
    "crash-loop": (faulty.crash_loop, "crash"),
    "quiet": (faulty.quiet, None),
}
APACHE_ONLY = {"slow-connections"}  # nginx reads requests whole before a worker of PHP sees them
WORKER_BYTES = 32 << 20  # what WordPress takes in a worker beside its plugins
FIELDS = ("method", "path", "query", "vhost", "user_agent")


class Scenario(msgspec.Struct, kw_only=True):
    """One drawn run. `prefixes` are the networks whose addresses the traffic uses.

    `plan` lacks only `target`, `port` and `site`, which the started server knows. `truth` is what truth.json says
    before the run, with `start_s` and `end_s` of the attack or fault.
    """

    name: str
    seed: int
    stack: Stack
    prefixes: list[str]
    plan: dict[str, Any]
    faults: list[Fault]
    truth: dict[str, Any]


def draw(name: str, seed: int) -> Scenario:
    """The run of this name and seed. KeyError where there is no such scenario."""
    make, cause = SCENARIOS[name]
    rng = random.Random(f"{name} {seed}")
    stack = draw_stack(name, rng)
    if cause is None:
        stack = roomy(stack)
    draft = Draft(rng=rng, seed=seed, stack=stack, nets=draws.networks(rng, 60))
    draft.before_s, draft.attack_s, draft.after_s = rng.randint(60, 110), rng.randint(50, 85), rng.randint(20, 40)
    visitors(draft)
    decoys(draft)
    make(draft)
    background(draft)
    if cause and rng.random() < 0.6:
        retries(draft)
    if cause and not draft.stack.supervised and rng.random() < 0.5:  # somebody comes at last and starts it again
        draft.fault(draft.before_s + draft.attack_s + rng.randint(2, 15), "restart-db")
    truth = {
        "scenario": name,
        "seed": seed,
        "cause": cause,
        "signature": {field: draft.signature.get(field) for field in FIELDS},
        "process": draft.process,
        "expect": "incident" if cause else "quiet",
        "start_s": draft.before_s,
        "end_s": draft.before_s + draft.attack_s,
        "draw": {**draft.notes, "stack": msgspec.to_builtins(draft.stack)},
    }
    plan = {"vhost": draft.stack.vhost, "seconds": draft.seconds, "seed": seed, "phases": draft.phases}
    prefixes = sorted({".".join(each.split(".")[:2]) + ".0.0/16" for each in draft.used})
    faults = sorted(draft.faults, key=lambda fault: fault.at_s)
    return Scenario(
        name=name, seed=seed, stack=draft.stack, prefixes=prefixes, plan=plan, faults=faults, truth=truth
    )  # fmt: skip


def draw_stack(name: str, rng: random.Random) -> Stack:
    """A small server. Apache's workers are more than the memory holds in most draws, as Debian's default 150 is."""
    vhost, aliases = draws.hostnames(rng)
    web = "apache" if name in APACHE_ONLY or rng.random() < 0.6 else "nginx"
    memory = rng.randrange(400, 701, 4) << 20
    return Stack(
        web="apache" if web == "apache" else "nginx",
        vhost=vhost,
        aliases=aliases,
        wp_path=rng.choice(draws.WP_PATHS),
        memory_bytes=memory,
        cpu_share=rng.choice((0.25, 0.3, 0.35, 0.4, 0.5)),
        workers=rng.choice((20, 25, 30, 40, 60, 100, 150) if web == "apache" else (8, 10, 12, 16, 24, 40)),
        keep_alive_s=rng.choice((2, 5, 5, 5, 8)),
        reqtimeout=rng.random() < 0.6,
        tz=rng.choice(draws.ZONES),
        access_format=rng.choice(("combined", "combined", "vhost_combined", "timed")),
        slow_log_s=rng.choice((None, None, 0.5, 1.0, 2.0)),
        kernel_log=rng.choice(("kern.log", "dmesg", "syslog-iso")),
        snapshots_s=rng.choice((None, 15.0, 20.0, 30.0)),
        supervised=rng.random() < 0.7,
        plugin_bytes=rng.randrange(8, 33) << 20,
    )


def roomy(stack: Stack) -> Stack:
    """The same server with memory for all of its workers, and half a core: on a quiet day nothing falls by chance."""
    workers = min(stack.workers, 20)
    memory = (400 << 20) + workers * (stack.plugin_bytes + WORKER_BYTES)
    return msgspec.structs.replace(stack, workers=workers, memory_bytes=memory, cpu_share=max(0.5, stack.cpu_share))


def visitors(draft: Draft) -> None:
    """The readers of an ordinary day, the whole time long."""
    rng = draft.rng
    who, think_s = draft.some(draft.nets, rng.randint(80, 260)), [rng.randint(2, 5), rng.randint(8, 20)]
    per_s, pages = round(rng.uniform(0.15, 0.3), 3), rng.uniform(1.5, 3)
    draft.phase("visitors", 0, draft.seconds, who, per_s=per_s, pages=pages, think_s=think_s)


def decoys(draft: Draft) -> None:
    """Some of those who come to every site, at times that have nothing to do with the attack's."""
    rng, whole = draft.rng, draft.seconds
    for agent, pattern in rng.sample(draws.CRAWLERS, rng.randint(1, 2)):
        address = draws.address_like(rng, pattern)
        draft.phase("crawler", rng.randint(0, 40), whole, [address], agent=agent, per_s=rng.uniform(0.05, 0.25))
    agent, where = rng.choice(draws.MONITORS), draft.some(draft.nets, rng.randint(1, 3))
    if rng.random() < 0.8:
        every_s, method = rng.choice((10, 15, 20, 30)), rng.choice(("GET", "HEAD"))
        draft.phase("monitor", 0, whole, where, agent=agent, per_s=1 / every_s, even=True, method=method)
    for agent in rng.sample(draws.FEED_READERS, rng.randint(0, 2)):
        draft.phase(
            "feed", rng.randint(0, 30), whole, draft.some(draft.nets, 1), agent=agent, per_s=rng.uniform(0.01, 0.04)
        )
    if rng.random() < 0.5:
        draft.phase(
            "app", rng.randint(0, 60), whole, draft.some(draft.nets, 1), agent=rng.choice(draws.APPS), per_s=0.02
        )
    if rng.random() < 0.6:
        draft.phase(
            "admin", rng.randint(0, int(whole * 0.7)), whole, draft.some(draft.nets, 1), mistypes=rng.randint(0, 2)
        )
    if rng.random() < 0.7:
        paths = rng.sample(draws.PROBES, rng.randint(4, len(draws.PROBES)))
        agent = rng.choice((draws.browser(rng), "python-requests/2.32.3", "Mozilla/5.0 zgrab/0.x", "curl/8.5.0"))
        draft.phase(
            "probes", rng.randint(5, int(whole * 0.8)), whole, draft.some(draft.nets, 1), agent=agent, paths=paths
        )
    if rng.random() < 0.3:
        draft.fault(rng.randint(5, draft.before_s - 20), "reload")
    for _ in range(rng.randint(0, 2)):
        draft.fault(rng.randint(5, whole - 10), "cron", command=rng.choice(draws.CRON))


def background(draft: Draft) -> None:
    """Noise that looks like an attack (most of it where requests are not to blame), and requests that cost nothing."""
    rng, whole = draft.rng, draft.seconds
    what = rng.choice(("login", "xmlrpc"))
    script = {"login": "wp-login.php", "xmlrpc": "xmlrpc.php"}[what]
    if rng.random() < 0.6:
        most = 0.1 if draft.signature.get("path", "").endswith(script) else 0.4 if draft.signature else 1.5
        start_s = rng.choice((0, draft.before_s // 2, draft.before_s + rng.randint(5, 30)))
        who, agent = draft.some(draft.nets, rng.randint(1, 6)), rng.choice((*draws.OLD_BROWSERS, draws.browser(rng)))
        draft.phase("noise", start_s, whole, who, what=what, agent=agent, per_s=rng.uniform(most / 8, most))
    if rng.random() < 0.4:
        start_s, who, agent = rng.randint(0, draft.before_s), draft.some(draft.nets, 1), rng.choice(draws.POLLERS)
        draft.phase("poller", start_s, whole, who, agent=agent, per_s=rng.uniform(2, 7), even=True, timeout_s=5)


def retries(draft: Draft) -> None:
    """People who reload a page that does not come, while it lasts and a little longer."""
    rng, end_s = draft.rng, draft.before_s + draft.attack_s
    who = draft.some(draft.nets, rng.randint(2, 8))
    draft.phase("retries", draft.before_s + rng.randint(15, 35), min(end_s + 25, draft.seconds), who)
