"""The score on the samples of Debian's fail2ban package, by filter: `make conformance`."""

from __future__ import annotations

import sys

from samples import filter_names, score_of


def main() -> int:
    """Prints a line for each filter, what fails, and the sum; 1 where anything fails."""
    passed = total = sets = 0
    differing = []
    for name in filter_names():
        score, gated = score_of(name), score_of(name, prefilter=True)
        passed, total, sets = passed + score.passed, total + score.total, sets + score.sets
        print(f"{name:24} {score.passed:5} of {score.total:5}   {score.sets:2} option set{'s' * (score.sets > 1)}")
        for problem in score.problems:
            print(f"  {problem}")
        if gated.problems != score.problems:
            differing.append(name)
    print(f"{'all':24} {passed:5} of {total:5}   {sets} option sets, {len(filter_names())} filters")
    print(f"with the prefilter: {'identical' if not differing else 'differs in ' + ', '.join(differing)}")
    return 0 if passed == total and not differing else 1


if __name__ == "__main__":
    sys.exit(main())
