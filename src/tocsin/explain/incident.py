"""Incidents are found, not given: symptoms that stand together in time. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from itertools import accumulate

from msgspec import Struct

from tocsin.explain.model import Accesses
from tocsin.explain.symptoms import STEP_S, Symptom

APART_S = 600.0
"""Symptoms further apart than this belong to two incidents: a restart and its aftermath take minutes."""

LEAST_WEIGHT = 1.0
_NEAR_S = 120.0
_LEAST_BETWEEN = 10
_FAILED_BETWEEN = 0.9


class Trouble(Struct, frozen=True):
    """A cluster of symptoms that amounts to an outage."""

    symptoms: tuple[Symptom, ...]

    @property
    def start(self) -> float:
        """When the first symptom showed."""
        return self.symptoms[0].ts

    @property
    def end(self) -> float:
        """When the last symptom ended."""
        return max(symptom.end for symptom in self.symptoms)

    def of(self, *kinds: str) -> tuple[Symptom, ...]:
        """Its symptoms of some kinds, by time."""
        return tuple(symptom for symptom in self.symptoms if symptom.kind in kinds)


def troubles_of(symptoms: Sequence[Symptom], accesses: Accesses | None = None) -> list[Trouble]:
    """The outages among symptoms (ascending by time), in order of time. What is further apart than APART_S is one all
    the same where next to no request between was answered: at night too few come for their failing to be a symptom.
    """
    clusters: list[list[Symptom]] = []
    end = float("-inf")
    for symptom in symptoms:
        if not clusters or symptom.ts - end > APART_S:
            clusters.append([])
            end = float("-inf")
        clusters[-1].append(symptom)
        end = max(end, symptom.end)
    if accesses is not None and len(clusters) > 1:
        clusters = _joined(clusters, accesses)
    return [trouble for cluster in clusters if (trouble := _trouble(cluster)) is not None]


def _joined(clusters: Sequence[list[Symptom]], accesses: Accesses) -> list[list[Symptom]]:
    rates = accesses.rates(STEP_S, clusters[0][0].ts, clusters[-1][0].ts)
    times = [rate.ts for rate in rates]
    asked = [0, *accumulate(rate.requests for rate in rates)]
    failed = [0, *accumulate(rate.failed for rate in rates)]
    joined: list[list[Symptom]] = []
    end = clusters[0][0].ts
    for cluster in clusters:
        first = bisect_left(times, end)
        after = max(first, bisect_right(times, cluster[0].ts - STEP_S))
        number = asked[after] - asked[first]
        if joined and number >= _LEAST_BETWEEN and failed[after] - failed[first] >= _FAILED_BETWEEN * number:
            joined[-1] += cluster
        else:
            joined.append(cluster)
        end = max(symptom.end for symptom in cluster)
    return joined


def _trouble(cluster: list[Symptom]) -> Trouble | None:
    """None where it is no outage. What is weak and stands long before the rest is everyday noise that happens to be
    near.
    """
    if sum(symptom.weight for symptom in cluster) < LEAST_WEIGHT:
        return None
    times = [symptom.ts for symptom in cluster]
    sums = [0.0, *accumulate(symptom.weight for symptom in cluster)]
    kept = []
    for symptom in cluster:
        first, after = bisect_left(times, symptom.ts - _NEAR_S), bisect_right(times, symptom.ts + _NEAR_S)
        if sums[after] - sums[first] >= LEAST_WEIGHT / 2:
            kept.append(symptom)
    return Trouble(tuple(kept)) if sum(symptom.weight for symptom in kept) >= LEAST_WEIGHT else None
