"""What everybody in one run's traffic shares: the site, the clock, and the book of who did what and what came of it."""

from __future__ import annotations

import asyncio
import random
from collections import Counter, defaultdict
from collections.abc import Coroutine
from typing import Any

import msgspec

from stack import Site
from wire import Link, Peer, Reply

Phase = dict[str, Any]


class World:
    """The shared state of one run. Times are seconds since its start."""

    def __init__(self, peer: Peer, site: Site, rng: random.Random) -> None:
        self.peer, self.site, self.rng = peer, site, rng
        self.began = asyncio.get_running_loop().time()
        self.roles: dict[str, set[str]] = defaultdict(set)
        self.sent: dict[str, Counter[str]] = defaultdict(Counter)
        self.loads: list[tuple[float, bool, float]] = []
        self.tasks: set[asyncio.Task[Any]] = set()

    def now(self) -> float:
        """Seconds since the start."""
        return asyncio.get_running_loop().time() - self.began

    async def until(self, at_s: float) -> None:
        """Sleep until a moment of the run; not at all where it is over."""
        await asyncio.sleep(max(0.0, at_s - self.now()))

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Something that runs beside; it is cut off when the run ends."""
        task = asyncio.get_running_loop().create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def meet(self, role: str, address: str) -> None:
        """Note that an address has sent something, and as what."""
        self.roles[role].add(address)

    def count(self, kind: str, reply: Reply) -> Reply:
        """Note what a request of a phase brought."""
        self.sent[kind]["failed" if reply.status is None else str(reply.status)] += 1
        return reply

    async def ask(
        self,
        role: str,
        link: Link,
        method: str,
        target: str,
        headers: dict[str, str],
        body: bytes | None = None,
        timeout_s: float = 20.0,
    ) -> Reply:
        """One request of somebody on a connection, noted."""
        self.meet(role, link.source)
        return self.count(role, await link.ask(method, target, headers, body, timeout_s=timeout_s))

    def arrivals(self, phase: Phase) -> list[float]:
        """When things of a phase begin: a Poisson process of `per_s`, or one of even pace where `even` says so.

        Over its first `ramp_s` the rate grows from nothing.
        """
        at_s, found, rate = float(phase["start_s"]), [], float(phase["per_s"])
        ramp_s = float(phase.get("ramp_s", 0))
        while at_s < phase["end_s"]:
            if at_s - phase["start_s"] >= ramp_s * self.rng.random():
                found.append(at_s)
            at_s += 1 / rate if phase.get("even") else self.rng.expovariate(rate)
        return found

    def page(self) -> str:
        """Some page of the site, as a reader comes to it."""
        site = self.site
        pick = self.rng.random()
        if pick < 0.3:
            return site.prefix
        if pick < 0.42 and site.categories:
            return self.rng.choice(site.categories)
        return self.rng.choice(site.posts)

    def report(self, start_ts: float) -> bytes:
        """The OUT file."""
        book = {
            "start_ts": start_ts,
            "roles": {role: sorted(who) for role, who in self.roles.items()},
            "loads": self.loads,
            "sent": self.sent,
        }
        return msgspec.json.encode(book)
