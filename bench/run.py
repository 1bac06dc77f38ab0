"""`make bench`: every bench, or those named, as a table on the terminal and in `bench/results/`.

    .venv/bin/python bench/run.py [NAME...]        NAME: throughput, latency, restart, footprint, dropin, explain

Without a name all run, in that order. Leaves with 1 where a figure misses what is asked, 64 for an unknown name.
"""

from __future__ import annotations

import compileall
import importlib
import json
import sys
import time
from pathlib import Path

import msgspec

from measuring import ROOT, SCRATCH, Measure, Skipped, machine

BENCHES = ("throughput", "latency", "restart", "footprint", "dropin", "explain")
RESULTS = Path(__file__).resolve().parent / "results"


def main(names: list[str]) -> int:
    """Run the benches and keep what they measured."""
    unknown = [name for name in names if name not in BENCHES]
    if unknown:
        print(f"bench: unknown: {', '.join(unknown)}; expected some of {', '.join(BENCHES)}", file=sys.stderr)
        return 64
    sys.path.append(str(ROOT / "tests" / "e2e"))  # the guard in a namespace that the tests use too
    SCRATCH.mkdir(parents=True, exist_ok=True)
    # As an installation has it: where the environment forbids a checkout to keep its bytecode each run compiles 100
    # modules, which takes 0.15 s.
    compileall.compile_dir(ROOT / "src", quiet=1)
    facts, measures, skipped, failed = machine(), list[Measure](), dict[str, str](), dict[str, str]()
    print("  ".join(f"{key}: {value}" for key, value in facts.items()))
    for name in names or BENCHES:
        print(f"\n{name}", flush=True)
        began_s = time.monotonic()
        try:
            for measure in importlib.import_module(name).measure():
                measures.append(measure)
                print(row(measure), flush=True)
        except Skipped as reason:
            skipped[name] = str(reason)
            print(f"  skipped: {reason}")
        except (RuntimeError, AssertionError) as failure:  # the other benches can still tell something
            failed[name] = str(failure)
            print(f"  FAILED: {failure}")
        print(f"  ({time.monotonic() - began_s:.0f} s)")
    keep(facts, measures, {"skipped": skipped, "failed": failed})
    missed = [measure for measure in measures if measure.met is False]
    met = sum(measure.met is True for measure in measures)
    print(f"\n{met} figures as asked, {len(missed)} not. Written to {RESULTS.relative_to(ROOT)}/latest.md and .json")
    return 1 if missed or failed else 0


def row(measure: Measure) -> str:
    """One figure as a line of the terminal's table."""
    asked = "" if measure.asked is None else f"{'<=' if measure.at_most else '>='} {number(measure.asked)}"
    ratio = "" if measure.ratio is None else f"{measure.ratio:.2f}"
    verdict = {None: "", True: "ok", False: "MISSED"}[measure.met]
    value = f"{number(measure.value)} {measure.unit}"
    return f"  {measure.name:<52} {value:>18}  {asked:>11} {ratio:>6}  {verdict:<6}  {measure.how}".rstrip()


def number(value: float) -> str:
    """A figure with the digits that mean something."""
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"


def keep(
    facts: dict[str, str], measures: list[Measure], absent: dict[str, dict[str, str]], stem: str = "latest"
) -> None:
    """Write both files, STEM.md and STEM.json. Benches that did not run this time keep nothing: a result is of one run
    on one machine.
    """
    RESULTS.mkdir(exist_ok=True)
    rows = [{**msgspec.to_builtins(each), "ratio": each.ratio, "met": each.met} for each in measures]
    document = {"machine": facts, "measures": rows, **absent}
    (RESULTS / f"{stem}.json").write_text(json.dumps(document, indent=1) + "\n")
    lines = [f"# {stem.capitalize()} benchmark", "", *(f"- {key}: {value}" for key, value in facts.items()), ""]
    lines += [
        "| bench | figure | measured | asked | measured/asked | verdict | how |",
        "| --- | --- | --- | --- | --- | --- | --- |",
    ]
    for each in measures:
        asked = "" if each.asked is None else f"{'≤' if each.at_most else '≥'} {number(each.asked)} {each.unit}"
        ratio = "" if each.ratio is None else f"{each.ratio:.2f}"
        verdict = {None: "", True: "ok", False: "**missed**"}[each.met]
        cells = (each.bench, each.name, f"{number(each.value)} {each.unit}", asked, ratio, verdict, each.how)
        lines.append("| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |")
    lines += [f"\n{why}: {name}: {reason}" for why, names in absent.items() for name, reason in names.items()]
    (RESULTS / f"{stem}.md").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
