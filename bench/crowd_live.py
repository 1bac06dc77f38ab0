"""The crowd against a real server: the same attack twice, without Tocsin and with it (`lab/besieged.py` is one run).

Tocsin finds a rotated log of the two hours before, with the everyday traffic of that site, and learns from it. The
rate is the original's (1,000 addresses in two minutes), not compressed; the run without Tocsin ends after the fall.
"""

from __future__ import annotations

import json
import math
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from msgspec import Struct

import crowd_people as people
from crowd_lab import missing_packages, networks
from crowd_site import Book, Host, Machine, Page
from measuring import ROOT, Measure, Skipped, share_of

BENCH = "crowd live"
RUN = ROOT / "lab" / "besieged.py"
SEED = 1
QUIET_S, WITHOUT_S, WITH_S, AFTER_S = 45, 115, 150, 5
WARM_S = 15.0  # the first pages of a cold server tell nothing
HISTORY_S = 2 * 3600.0
FELL_SHARE, SLOW_S = 0.2, 10.0
NEVER = ("crawler", "app", "admin", "monitor")
REFUSED = ("403", "429", "failed")


class Seen(Struct, frozen=True):
    """One run: p95 of the visitors' page loads before the attack and during it (a failed one takes for ever), the part
    of those during it that failed or took longer than a visitor waits, and what was refused to whom.
    """

    quiet_s: float
    during_s: float
    lost: float
    loads: int
    oom_kills: int
    dead: list[str]
    answered: int
    refused: int
    never: dict[str, int]

    @property
    def fell(self) -> bool:
        """Whether the server fell: something was killed or died, or every fifth visitor got nothing."""
        return bool(self.oom_kills or self.dead) or self.lost >= FELL_SHARE


def measure() -> Iterator[Measure]:
    """Kinds a and b, each without Tocsin and with it. Skipped where this machine cannot hold such a server."""
    if os.geteuid() != 0:
        raise Skipped("root is needed")
    if absent := missing_packages():
        raise Skipped(f"not installed: {', '.join(absent)} (make lab-setup)")
    with TemporaryDirectory(prefix="tocsin-crowd-") as folder:
        site = command("site", within_s=300)
        history = Path(folder) / "history.log"
        for kind in "ab":
            without = seen(run(Path(folder), kind, None), QUIET_S)
            yield from told(kind, "without Tocsin", without, asked=False)
            write_history(history, site, time.time())
            yield from told(kind, "with Tocsin", seen(run(Path(folder), kind, history), QUIET_S), asked=True)


def command(*words: str, within_s: float) -> dict[str, Any]:
    """A word to `lab/besieged.py`; what it printed."""
    line = [sys.executable, str(RUN), *words]
    done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=within_s, cwd=ROOT)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["?"])[-1]
        if last.startswith("space.SpaceError: "):
            raise Skipped(last.removeprefix("space.SpaceError: "))
        raise RuntimeError(f"lab/besieged.py {' '.join(words)}: {done.stderr.strip()[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout or "{}")
    return found


def run(folder: Path, kind: str, history: Path | None) -> dict[str, Any]:
    """One run."""
    job, out = folder / "job.json", folder / "out.json"
    attack_s = WITHOUT_S if history is None else WITH_S
    plan = {"kind": kind, "seed": SEED, "history": str(history) if history else None}
    job.write_text(json.dumps({**plan, "quiet_s": QUIET_S, "attack_s": attack_s, "after_s": AFTER_S}))
    command("run", str(job), str(out), within_s=QUIET_S + attack_s + AFTER_S + 240)
    found: dict[str, Any] = json.loads(out.read_text())
    return found


def write_history(log: Path, site: Mapping[str, Any], end_ts: float) -> None:
    """Two hours of that site's everyday traffic, up to now."""
    rng = random.Random(SEED)
    assets = tuple(site["assets"])
    pages = tuple(Page(path, (), 40_000) for path in site["posts"])
    lists = tuple(Page(path, (), 40_000) for path in ("/", *site["categories"]))
    reach = tuple(float(number + 1) for number in range(len(pages)))
    host = Host(site["vhost"], "/", pages, lists, assets, reach, "", pretty_search=False)
    machine = Machine((host,), 0, False, False, tuple(networks(rng, 60)), (0x2A000001,), 0.0, 25.0, 0.9)
    book, start_ts = Book(machine), end_ts - HISTORY_S
    people.visitors(book, rng, start_ts, end_ts)
    people.office(book, rng, start_ts, end_ts)
    people.crawler(book, rng, start_ts, end_ts, "googlebot")
    people.feeds(book, rng, start_ts, end_ts)
    people.monitors(book, rng, start_ts, end_ts)
    people.app(book, rng, start_ts, end_ts, 2)
    people.noise(book, rng, start_ts, end_ts)
    log.write_text("".join(f"{line.text}\n" for line in book.lines(end_ts)))


def seen(out: Mapping[str, Any], attack_s: float) -> Seen:
    """The figures of a run, the attack of which began at so many seconds."""
    loads: Sequence[tuple[float, bool, float]] = out["loads"]
    took = [(at_s, seconds if good else math.inf) for at_s, good, seconds in loads]
    during = [seconds for at_s, seconds in took if at_s >= attack_s]
    sent: Mapping[str, Mapping[str, int]] = out["sent"]
    attack = sent["distributed"]
    refused = sum(attack.get(status, 0) for status in REFUSED)
    return Seen(
        quiet_s=share_of([seconds for at_s, seconds in took if WARM_S <= at_s < attack_s], 0.95),
        during_s=share_of(during, 0.95),
        lost=sum(seconds > SLOW_S for seconds in during) / len(during),
        loads=len(during),
        oom_kills=out["oom_kills"],
        dead=out["dead"],
        answered=sum(attack.values()) - refused,
        refused=refused,
        never={who: sum(sent.get(who, {}).get(status, 0) for status in REFUSED) for who in NEVER},
    )


def told(kind: str, with_what: str, found: Seen, *, asked: bool) -> Iterator[Measure]:
    """A run's figures; without Tocsin what is asked is that the server falls, else the other figures prove nothing."""
    bench = f"{BENCH} {kind}"
    how = f"{found.loads} page loads; quiet p95 {1000 * found.quiet_s:.0f} ms"
    how += ", then none" if math.isinf(found.during_s) else f", then {1000 * found.during_s:.0f} ms"
    ratio = min(found.during_s / found.quiet_s, 9999.0)
    yield Measure(bench, f"{with_what}: p95 over the quiet p95", ratio, "x", 2.0 if asked else None, how=how)
    lost = 100 * found.lost
    yield Measure(bench, f"{with_what}: page loads lost or over 10 s", lost, "%", how=how)
    kills, how = found.oom_kills, f"died: {', '.join(found.dead) or 'nothing'}"
    yield Measure(bench, f"{with_what}: killed for memory", kills, "", 0 if asked else None, how=how)
    if not asked:
        yield Measure(bench, f"{with_what}: the server falls", float(found.fell), "", 1.0, at_most=False)
        return
    how = f"{found.answered} answered, {found.refused} refused, dropped or still waiting"
    yield Measure(bench, f"{with_what}: attack requests answered", found.answered, "", how=how)
    refused = sum(found.never.values())
    how = ", ".join(f"{who} {count}" for who, count in found.never.items())
    yield Measure(bench, f"{with_what}: refused to crawler, app, admin, monitor", refused, "", 0, how=how)
