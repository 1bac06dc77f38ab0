"""The traffic of one run, inside the clients' network namespace, each client from its own address.

python lab/traffic.py PLAN.json OUT.json

Prints `START EPOCH` when it begins, plays the plan's phases side by side, writes OUT.json and ends after the plan's
`seconds` (and what hung then is cut off).
"""

from __future__ import annotations

import asyncio
import random
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

import attacks
import visitors
from stack import Site
from wire import Peer
from world import Phase, World

KINDS: dict[str, Callable[[World, Phase], Awaitable[None]]] = {
    "visitors": visitors.visitors,
    "surge": visitors.visitors,
    "retries": visitors.retries,
    "crawler": visitors.crawler,
    "monitor": visitors.monitor,
    "feed": visitors.feed,
    "poller": visitors.poller,
    "noise": visitors.noise,
    "probes": visitors.probes,
    "app": visitors.app,
    "admin": visitors.admin,
    "flood": attacks.flood,
    "distributed": attacks.distributed,
    "login": attacks.login,
    "search": attacks.search,
    "scrape": attacks.scrape,
    "slow": attacks.slow,
}
SPARE_S = 1.0


async def play(plan: dict[str, Any]) -> tuple[bytes, list[BaseException]]:
    """All phases side by side; the OUT file, and what went wrong in the phases."""
    site = msgspec.convert(plan["site"], Site)
    peer = Peer(plan["target"], int(plan["port"]), plan["vhost"])
    world = World(peer, site, random.Random(plan["seed"]))
    start_ts = time.time()
    print(f"START {start_ts:.3f}", flush=True)
    phases = [asyncio.create_task(run_phase(world, phase)) for phase in plan["phases"]]
    await asyncio.sleep(float(plan["seconds"]))
    rest = [task for task in (*phases, *world.tasks) if not task.done()]
    for task in rest:
        task.cancel()
    if rest:
        await asyncio.wait(rest, timeout=SPARE_S)
    ended = [task for task in phases if task.done() and not task.cancelled()]
    return world.report(start_ts), [error for task in ended if (error := task.exception())]


async def run_phase(world: World, phase: Phase) -> None:
    """One phase, from its start."""
    await world.until(max(0.0, float(phase["start_s"])))
    await KINDS[phase["kind"]](world, phase)


def main(plan: Path, out: Path) -> None:
    """Play PLAN; OUT is written whatever became of its phases. Raises what the first broken one raised."""
    book, errors = asyncio.run(play(msgspec.json.decode(plan.read_bytes())))
    out.write_bytes(book)
    if errors:
        raise errors[0]


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
