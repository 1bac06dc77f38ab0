"""How good `tocsin explain` is on cases of the lab, beside what anybody would have said with `sort | uniq -c`.

python lab/score.py [--json] CASE...

AC@1 and AC@3: of the cases with an outage, those whose cause and suspect are right (the first, one of the first three).
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import msgspec

import baselines
import matching

TOCSIN = Path(__file__).resolve().parent.parent / ".venv" / "bin" / "tocsin"
TIMEOUT_S = 300.0
LATER_S = 180.0  # an overload outlives its attack by minutes
BLAMELESS = {"quiet", "surge", "local-job", "disk-full", "crash-loop"}


class Score(msgspec.Struct, kw_only=True):
    """What one case's verdict is worth. `said` is the cause named; `onset_error_s` is its onset less the truth's."""

    case: str
    scenario: str
    said: str
    confidence: float | None
    first: bool
    third: bool
    suspect_first: bool
    suspect_third: bool
    accused: bool
    wrongly_banned: list[str]
    wrongly_denied: int
    other_incidents: int
    onset_error_s: float | None
    baselines: dict[str, tuple[bool, bool]]
    chance: tuple[float, float]
    failure: str = ""

    @property
    def right(self) -> bool:
        """The whole verdict, for the table: of a quiet day that it was quiet."""
        return self.said == "quiet" if self.scenario == "quiet" else self.first


def explain(logs: Path, options: list[str]) -> tuple[dict[str, Any], str]:
    """The document of `tocsin explain --json`, empty where it fails, and how it failed."""
    words = [str(TOCSIN), "explain", "--json", *options, str(logs)]
    try:
        done = subprocess.run(words, capture_output=True, text=True, timeout=TIMEOUT_S)
        return json.loads(done.stdout), "" if done.returncode == 0 else f"exit {done.returncode}"
    except subprocess.TimeoutExpired:
        return {}, f"took more than {TIMEOUT_S:.0f} s"
    except json.JSONDecodeError:
        return {}, f"exit {done.returncode}: {done.stderr.strip()[-200:] or 'no JSON'}"


def main_incident(truth: dict[str, Any], incidents: list[dict[str, Any]]) -> dict[str, Any] | None:
    """The incident that is about the truth's: the one of most confidence among those that touch its time."""
    first, last = truth["start"], truth["end"] + LATER_S
    near = [one for one in incidents if one["start"] <= last and (one["end"] is None or one["end"] >= first)]
    return max(near, key=lambda one: one.get("confidence") or 0.0, default=None)


def innocents(truth: dict[str, Any]) -> list[str]:
    """Everybody who may not be banned. Those who probe for secrets may: they only are not the cause."""
    others = [address for role, group in truth["others"].items() if role != "probe" for address in group]
    return [*truth["visitors"], *truth["crawlers"], *others]


def judge(truth: dict[str, Any], document: dict[str, Any], found: list[baselines.Hit], case: str = "") -> Score:
    """Hold a verdict against the truth."""
    incidents = document.get("incidents", [])
    mine = main_incident(truth, incidents) or {}
    said = mine.get("cause") or ("quiet" if document.get("quiet") else "nothing")
    right = [matching.suspect_right(truth, suspect) for suspect in mine.get("suspects", [])[:3]]
    bans = sorted({subject for one in incidents for subject in one.get("ban", [])})
    denied = [signature for one in incidents for signature in one.get("deny", [])]
    blameless = innocents(truth)
    theirs = [hit for hit in found if hit.address in set(blameless)] if denied else []
    onset = mine.get("onset")
    return Score(
        case=case,
        scenario=truth["scenario"],
        said=said,
        confidence=mine.get("confidence"),
        first=said == truth["cause"] and any(right[:1]),
        third=said == truth["cause"] and any(right),
        suspect_first=any(right[:1]),
        suspect_third=any(right),
        accused=truth["scenario"] in BLAMELESS and bool(bans or denied),
        wrongly_banned=matching.covered(bans, blameless),
        wrongly_denied=sum(any(matching.denies(signature, hit) for signature in denied) for hit in theirs),
        other_incidents=len(incidents) - bool(mine),
        onset_error_s=None if onset is None else round(onset - truth["start"], 1),
        baselines={name: (first, third) for name, first, third in baselines.verdicts(truth, found)},
        chance=baselines.chance(truth, found),
    )


def score(case: Path, options: list[str]) -> Score:
    """Run `explain` on a case and judge it."""
    truth = json.loads((case / "truth.json").read_text())
    document, failure = explain(case / "logs", options)
    judged = judge(truth, document, baselines.hits(case / "logs"), case.name)
    judged.failure = failure
    return judged


def as_meant(case: Path) -> bool:
    """Whether the server fell where it should and stood where it should: else there is nothing to be right about."""
    truth = json.loads((case / "truth.json").read_text())
    return truth["fell"] is (truth["expect"] == "incident")


def share(right: list[bool]) -> str:
    """How many of how many."""
    return f"{sum(right)}/{len(right)}" if right else "-"


def table(scores: list[Score]) -> None:
    """One line a case, one a scenario, then the sums."""
    width = max(len(each.case) for each in scores)
    print(f"{'case':{width}}  {'verdict':18} conf   right  top3   onset   banned wrongly / denied wrongly")
    for each in scores:
        confidence = "    " if each.confidence is None else f"{each.confidence:.2f}"
        onset = "      " if each.onset_error_s is None else f"{each.onset_error_s:+6.0f}"
        tail = each.failure or ("ACCUSES" if each.accused else "")
        print(
            f"{each.case:{width}}  {each.said:18} {confidence}   {'yes' if each.right else 'NO':5}  "
            f"{'yes' if each.third else '-':4}  {onset}   {len(each.wrongly_banned)} / {each.wrongly_denied}  {tail}"
        )
    by_scenario: dict[str, list[Score]] = defaultdict(list)
    for each in scores:
        by_scenario[each.scenario].append(each)
    print()
    for name, group in sorted(by_scenario.items()):
        print(f"  {name:20} {share([each.right for each in group])}")


def sums(scores: list[Score]) -> dict[str, Any]:
    """The figures of all cases together."""
    outages = [each for each in scores if each.scenario != "quiet"]
    attacks = [each for each in outages if each.scenario not in BLAMELESS]
    sure = [each for each in outages if (each.confidence or 0) >= 0.9]
    errors = [abs(each.onset_error_s) for each in outages if each.onset_error_s is not None]
    ranked = {
        name: [share([each.baselines[name][k] for each in attacks]) for k in (0, 1)]
        for name in (attacks[0].baselines if attacks else {})
    }
    best = max(ranked.items(), key=lambda item: int(item[1][0].split("/")[0]), default=None)
    return {
        "AC@1": share([each.first for each in outages]),
        "AC@3": share([each.third for each in outages]),
        "quiet right": share([each.right for each in scores if each.scenario == "quiet"]),
        "false accusations": share([each.accused for each in scores if each.scenario in BLAMELESS]),
        "innocents banned": sum(len(each.wrongly_banned) for each in scores),
        "requests of innocents denied": sum(each.wrongly_denied for each in scores),
        "incidents too many": sum(each.other_incidents for each in scores),
        "onset error, median s": statistics.median(errors) if errors else None,
        "right of those sure (0.9)": share([each.first for each in sure]),
        "attacks, suspect alone @1 @3": [
            share([each.suspect_first for each in attacks]),
            share([each.suspect_third for each in attacks]),
        ],
        "attacks, best baseline @1 @3": [best[0], *best[1]] if best else None,
        "attacks, baselines @1 @3": ranked,
        "attacks, chance @1 @3": [
            round(statistics.fmean(each.chance[k] for each in attacks), 3) if attacks else None for k in (0, 1)
        ],
        "failures": sum(bool(each.failure) for each in scores),
    }


def main(words: list[str]) -> int:
    """Score the named cases; 66 where there is none."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", action="store_true", help="one document instead of the tables")
    parser.add_argument("--option", action="append", default=[], help="a further option for `tocsin explain`")
    parser.add_argument("cases", nargs="+", type=Path)
    given = parser.parse_args(words)
    cases = [case for case in given.cases if (case / "truth.json").is_file()]
    meant = [case for case in cases if as_meant(case)]
    for case in set(cases) - set(meant):
        print(f"score: {case.name} did not go as it was meant; it is left out", file=sys.stderr)
    if not meant:
        print("score: none of these is a case with a truth.json that went as it was meant", file=sys.stderr)
        return 66
    scores = [score(case, given.option) for case in meant]
    if given.json:
        print(msgspec.json.encode({"cases": scores, "sums": sums(scores)}).decode())
        return 0
    table(scores)
    print()
    for name, value in sums(scores).items():
        if isinstance(value, dict):
            for inner, figures in value.items():
                print(f"    {inner:28} {'  '.join(figures)}")
        else:
            print(f"  {name:30} {'  '.join(map(str, value)) if isinstance(value, list) else value}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
