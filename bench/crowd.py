"""`make bench-crowd`: the attacker who never comes back with the same address, beside fail2ban, as tables.

    .venv/bin/python bench/crowd.py [--seeds N,N...] [--live] [KIND...]      KIND: a to i, all without one

Each kind is drawn with each seed (default 1,2,3), runs with all shipped rules and, where an attack has no rule of its
own to be stopped by, with `--only contrast`; each time over the log as it is and as guard would have seen it. A figure
is the worst of its runs. `--live` adds the live runs (root, the lab's packages). Leaves with 1 where one misses what
is asked. Writes bench/results/crowd.md and .json.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from msgspec import Struct

from crowd_attacks import LASTS_S
from crowd_peer import fail2ban
from crowd_score import Score, chosen_of, play, render, score
from crowd_traffic import KINDS, make_case
from measuring import Measure, Skipped, machine
from run import RESULTS, keep, row
from throughput import fail2ban_installed

SEEDS = (1, 2, 3)
ALONE = "bcdehi"  # those that contrast has to carry without any rule
ASKED_90, ASKED_120, ASKED_FEW = 95.0, 99.0, 90.0
TITLES = {
    "a": "false Googlebots, one POST each, forty /24s",
    "b": "browsers, one POST each, no common prefix",
    "c": "logins, 5,000 addresses, one each",
    "d": "a scraper that rotates agents and addresses",
    "e": "expensive searches",
    "f": "a surge of genuine visitors",
    "g": "a quiet week",
    "h": "a class that no rule knows",
    "i": "a forge, read deep",
}


class Result(Struct, frozen=True):
    """One run of one drawn case. `by` is `tocsin`, `contrast alone` or `fail2ban`, `seen` how it was fed."""

    kind: str
    seed: int
    by: str
    seen: str
    figures: Score
    seconds: float


def main() -> int:
    """Run, print, keep."""
    options = argparse.ArgumentParser()
    options.add_argument("--seeds", default=",".join(map(str, SEEDS)))
    options.add_argument("--live", action="store_true")
    options.add_argument("kinds", nargs="*", metavar="KIND", help=f"some of {', '.join(KINDS)}")
    asked = options.parse_args()
    kinds = asked.kinds or list(KINDS)
    if unknown := [kind for kind in kinds if kind not in TITLES]:
        print(f"bench: unknown: {', '.join(unknown)}; expected some of {', '.join(KINDS)}", file=sys.stderr)
        return 64
    seeds = [int(seed) for seed in asked.seeds.split(",")]
    facts = {**machine(), "seeds": asked.seeds}
    print("  ".join(f"{key}: {value}" for key, value in facts.items()))
    results, measures = list[Result](), list[Measure]()
    absent: dict[str, dict[str, str]] = {"skipped": {}, "failed": {}}
    cases = [(kind, seed) for kind in kinds for seed in seeds]
    with ProcessPoolExecutor(max_workers=os.cpu_count()) as pool:
        for (kind, seed), found in zip(cases, pool.map(of_case, *zip(*cases, strict=True)), strict=True):
            results += found
            if seed == seeds[-1]:
                print(f"\n{kind}: {TITLES[kind]}", flush=True)
                for measure in measures_of(kind, [each for each in results if each.kind == kind]):
                    measures.append(measure)
                    print(row(measure), flush=True)
    if asked.live:
        live(measures, absent)
    keep(facts, measures, absent, "crowd")
    with (RESULTS / "crowd.md").open("a") as out:
        out.write("\n## Each run\n\n```\n" + "\n".join(map(told, results)) + "\n```\n")
    missed = [measure for measure in measures if measure.met is False]
    met = sum(measure.met is True for measure in measures)
    print(f"\n{met} figures as asked, {len(missed)} not. Each run stands in bench/results/crowd.md")
    return 1 if missed or absent["failed"] else 0


def live(measures: list[Measure], absent: dict[str, dict[str, str]]) -> None:
    """The live runs, in the same tables."""
    print("\nlive: a real Apache, PHP, WordPress and MariaDB, without Tocsin and with it", flush=True)
    try:
        for measure in importlib.import_module("crowd_live").measure():
            measures.append(measure)
            print(row(measure), flush=True)
    except Skipped as reason:
        absent["skipped"]["live"] = str(reason)
        print(f"  skipped: {reason}")
    except (RuntimeError, AssertionError, OSError) as failure:
        absent["failed"]["live"] = str(failure)
        print(f"  FAILED: {failure}")


def of_case(kind: str, seed: int) -> list[Result]:
    """All runs of one drawn case."""
    case, found = make_case(kind, seed), list[Result]()
    for by, only in (("tocsin", ()), ("contrast alone", ("contrast",))):
        if only and kind not in ALONE:
            continue
        chosen = chosen_of(only)
        for seen in ("replayed", "live"):
            began_s = time.monotonic()
            figures = score(play(case, chosen, live=seen == "live"))
            found.append(Result(kind, seed, by, seen, figures, time.monotonic() - began_s))
    if kind not in "fg" and fail2ban_installed():
        began_s = time.monotonic()
        found.append(Result(kind, seed, "fail2ban", "replayed", score(fail2ban(case)), time.monotonic() - began_s))
    return found


def measures_of(kind: str, results: Sequence[Result]) -> Iterator[Measure]:
    """The figures of a kind, the worst of its runs each."""
    for by in ("tocsin", "contrast alone", "fail2ban"):
        runs = [each for each in results if each.by == by]
        if runs:
            yield from harmless(kind, by, runs) if kind in "fg" else stopping(kind, by, runs)


def stopping(kind: str, by: str, runs: Sequence[Result]) -> Iterator[Measure]:
    """What became of an attack."""
    scores, ours = [each.figures for each in runs], by != "fail2ban"
    few = kind == "b"

    def of(name: str, values: Sequence[float], unit: str, asked: float | None, how: str = "", *, most: bool) -> Measure:
        value = max(values) if most else min(values)
        how = how or f"runs: {', '.join(f'{each:,.4g}' for each in values)}"
        return Measure(f"crowd {kind}", f"{by}: {name}", value, unit, asked if ours else None, most, how)

    requests = f"of {', '.join(f'{each.requests:,}' for each in scores)}"
    yield of("attack requests served before", [each.served_before for each in scores], "", None, requests, most=True)
    yield of("time to the first measure", [given(each.first_s) for each in scores], "s", None, most=True)
    yield of("time until 95 in 100 are stopped", [given(each.most_s) for each in scores], "s", None, most=True)
    asked_90, asked_120 = (ASKED_FEW, ASKED_FEW) if few else (ASKED_90, ASKED_120)
    yield of("stopped from 90 s on", [100 * each.from_90 for each in scores], "%", asked_90, most=False)
    yield of(
        "from 90 s on, by addresses that had come before", [100 * each.again for each in scores], "%", None, most=False
    )
    yield of("stopped from 120 s on", [100 * each.from_120 for each in scores], "%", asked_120, most=False)
    yield from harm(kind, by, runs, ours=ours)


def harm(kind: str, by: str, runs: Sequence[Result], *, ours: bool) -> Iterator[Measure]:
    """Who was hit that should not be. Visitors are counted over all seeds together: 0.1 % of one draw is nobody."""
    bench = f"crowd {kind}"
    pooled = []
    for seen in dict.fromkeys(each.seen for each in runs):
        those = [each.figures for each in runs if each.seen == seen]
        hit, came = sum(each.hit for each in those), sum(each.visitors for each in those)
        pooled.append((100 * hit / max(came, 1), f"{seen}: {hit} of {came:,}"))
    how = "; ".join(text for _, text in pooled)
    yield Measure(bench, f"{by}: visitors hit", max(pooled)[0], "%", 0.1 if ours else None, how=how)
    if ours:
        often = max(100 * each.figures.asked / max(each.figures.visitors, 1) for each in runs)
        yield Measure(bench, f"{by}: browsers asked for a cookie, and let through", often, "% of visitors")
    longest = max(each.figures.longest_s for each in runs)
    yield Measure(bench, f"{by}: the longest that one was kept out", longest, "s", 600 if ours else None)
    for what, name in (
        ("never", "crawlers, office, app, admin, git stopped"),
        ("others", "feeds, monitors and such stopped"),
    ):
        worst = max(runs, key=lambda run, what=what: sum(getattr(run.figures, what).values()))  # type: ignore[misc]
        found: dict[str, int] = getattr(worst.figures, what)
        asked = 0.0 if ours and what == "never" else None
        how = ", ".join(f"{count} of {label}" for label, count in found.items())
        yield Measure(bench, f"{by}: {name}", sum(found.values()), "requests", asked, how=how)


def harmless(kind: str, by: str, runs: Sequence[Result]) -> Iterator[Measure]:
    """Where nobody attacks: whom it cost anything all the same. Who probes for secrets is banned for that."""
    bans = [sum(count for label, count in each.figures.bans.items() if label != "noise") for each in runs]
    classes = [len(each.figures.denied) for each in runs]
    probes = max(each.figures.bans.get("noise", 0) for each in runs)
    yield Measure(f"crowd {kind}", f"{by}: innocents banned", max(bans), "", 0, how=f"and {probes} who probed, at most")
    yield Measure(f"crowd {kind}", f"{by}: classes turned away", max(classes), "", 0)
    yield from harm(kind, by, runs, ours=True)


def given(seconds: float | None) -> float:
    """A time, the attack's whole length where it never came."""
    return LASTS_S if seconds is None else seconds


def told(result: Result) -> str:
    """One run for the file."""
    head = f"{result.kind} seed {result.seed}, {result.by}, {result.seen} ({result.seconds:.1f} s)"
    return f"{head}: {render(result.figures)}"


if __name__ == "__main__":
    sys.exit(main())
