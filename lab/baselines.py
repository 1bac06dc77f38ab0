"""What somebody with `sort | uniq -c` would have said of a case: baselines beside which `explain` has to stand.

Each ranks either addresses or (method, path) classes of the access logs; a suspect is right if the address sent a tenth
of the attack or more, or the class is the attack's. They are told the cause, and cannot say that nobody is to blame.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Hashable, Iterator
from datetime import datetime
from itertools import pairwise
from math import comb
from pathlib import Path
from typing import Any, NamedTuple

LINE = re.compile(
    r"^(?:[^ ]{1,255}:\d{1,5} )?(?P<address>[0-9a-fA-F.:]{2,45}) \S{1,99} \S{1,99} \[(?P<stamp>[^\]]{20,30})\] "
    r'"(?P<request>(?:[^"\\]|\\.){0,8192})" (?P<status>\d{3}) \S{1,20}'
    r'(?: "(?P<referer>(?:[^"\\]|\\.){0,8192})" "(?P<agent>(?:[^"\\]|\\.){0,8192})")?'
)
HOUR_S, MINUTES_S = 3600.0, 600.0


class Hit(NamedTuple):
    """A request of an access log."""

    ts: float
    address: str
    method: str
    path: str
    query: str
    status: int
    agent: str

    def of_class(self) -> tuple[str, str]:
        """What is asked for, without its query."""
        return self.method, self.path


def access_logs(logs: Path) -> list[Path]:
    """The access logs of a case."""
    return sorted(path for path in logs.rglob("*access*log*") if path.is_file())


def hits(logs: Path) -> list[Hit]:
    """Every readable request of a case, by time."""
    found = []
    for path in access_logs(logs):
        for line in path.read_text(encoding="latin-1").splitlines():
            if match := LINE.match(line):
                method, _, rest = match["request"].partition(" ")
                target, _, _ = rest.rpartition(" ")
                where, _, query = (target or rest).partition("?")
                ts = datetime.strptime(match["stamp"], "%d/%b/%Y:%H:%M:%S %z").timestamp()
                status, agent = int(match["status"]), match["agent"] or ""
                found.append(Hit(ts, match["address"], method, where, query, status, agent))
    return sorted(found)


def first_symptom(found: list[Hit], otherwise_ts: float) -> float:
    """When the first of two server errors within ten seconds came; where none did, `otherwise_ts`."""
    errors = [hit.ts for hit in found if hit.status >= 500]
    return next((one for one, following in pairwise(errors) if following - one <= 10), otherwise_ts)


Key = Callable[[Hit], Hashable]
KEYS: dict[str, Key] = {"address": lambda hit: hit.address, "class": Hit.of_class}


def ranking(weights: dict[Hashable, float]) -> list[Hashable]:
    """Heaviest first; what weighs the same by name, so that chance does not."""
    return sorted(weights, key=lambda key: (-weights[key], repr(key)))


def most_hits(found: list[Hit], key: Key, symptom_ts: float) -> list[Hashable]:
    """Most requests in all the log."""
    del symptom_ts
    return ranking(dict(Counter(map(key, found))))


def most_hits_lately(found: list[Hit], key: Key, symptom_ts: float) -> list[Hashable]:
    """Most requests in the ten minutes before the first symptom."""
    return ranking(dict(Counter(key(hit) for hit in found if symptom_ts - MINUTES_S <= hit.ts <= symptom_ts)))


def ratio_to_before(found: list[Hit], key: Key, symptom_ts: float) -> list[Hashable]:
    """Greatest growth: the last minute before the first symptom against the hour before it."""
    late = Counter(key(hit) for hit in found if symptom_ts - 60 <= hit.ts <= symptom_ts)
    early = Counter(key(hit) for hit in found if symptom_ts - 60 - HOUR_S <= hit.ts < symptom_ts - 60)
    return ranking({each: count / (1 + early[each]) for each, count in late.items()})


RANKERS = {"hits": most_hits, "hits in 10 min": most_hits_lately, "ratio": ratio_to_before}


def culprits(truth: dict[str, Any], found: list[Hit]) -> set[Hashable]:
    """The suspects that are right: addresses that sent a tenth of the attack, and the attack's class."""
    attackers = set(truth["attackers"])
    sent = Counter(hit.address for hit in found if hit.address in attackers)
    right: set[Hashable] = {address for address, count in sent.items() if 10 * count >= sent.total()}
    signature = truth["signature"]
    return right | ({(signature["method"], signature["path"])} if signature["path"] else set())


def verdicts(truth: dict[str, Any], found: list[Hit]) -> Iterator[tuple[str, bool, bool]]:
    """For each baseline: its name, whether its first suspect is right, whether one of its first three is."""
    symptom_ts, blamed = first_symptom(found, float(truth["end"])), culprits(truth, found)
    for name, ranker in RANKERS.items():
        for by, key in KEYS.items():
            right = [suspect in blamed for suspect in ranker(found, key, symptom_ts)[:3]]
            yield f"{name}, by {by}", any(right[:1]), any(right)


def chance(truth: dict[str, Any], found: list[Hit]) -> tuple[float, float]:
    """How often one suspect, or one of three, drawn from the addresses or the classes (the better) is right."""
    best, blamed = (0.0, 0.0), culprits(truth, found)
    for key in KEYS.values():
        suspects = set(map(key, found))
        wrong = len(suspects - blamed)
        if suspects:
            three = min(3, len(suspects))
            best = max(best, (1 - wrong / len(suspects), 1 - comb(wrong, three) / comb(len(suspects), three)))
    return best
