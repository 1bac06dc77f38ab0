"""What the machine could hold: memory, the size of a worker, and how many of them fit. Pure."""

from __future__ import annotations

from collections.abc import Iterable

from msgspec import Struct

from tocsin.explain.model import Fact
from tocsin.explain.symptoms import events
from tocsin.server_events import LimitReached, Processes, Sample

WORKERS = ("apache2", "httpd", "php-fpm", "php-cgi")
"""Programs whose processes each hold one request, by the beginning of their names."""


class Capacity(Struct, frozen=True):
    """Memory and workers as the samples show them, bytes; None where none does.

    `memory_bytes` is what there is (the cgroup's limit where that was hit); `worker_bytes` the mean of a web worker,
    `workers` how many there were at most, `others_bytes` what all else held then, `ran_out` that memory gave out with
    them; `allowed` how many the configuration allows, where a limit was reached that said so.
    """

    memory_bytes: int | None = None
    worker: str = ""
    worker_bytes: int | None = None
    workers: int | None = None
    others_bytes: int = 0
    allowed: int | None = None
    limit: str = ""
    ran_out: bool = False

    @property
    def fitting(self) -> int | None:
        """How many workers would have fitted into memory beside all else: fewer than those with which it gave out."""
        if not self.memory_bytes or not self.worker_bytes:
            return None
        fitting = (self.memory_bytes - self.others_bytes) // self.worker_bytes
        return max(1, min(fitting, self.workers - 1) if self.ran_out and self.workers else fitting)


def capacity_of(facts: Iterable[Fact]) -> Capacity:
    """The capacity that an outage's facts tell of: the sample with the most workers is taken, of the kernel's own
    reports where there are any (they tell what is a process's own from what all share; `ps` does not).
    """
    facts = list(facts)
    samples = [event for _, event in events(facts, Sample)]
    reports = [one for one in samples if one.kind == "oom-report" and one.processes]
    memory = min((size for one in samples if (size := one.limit_bytes)), default=None)
    memory = memory or max((one.memory_bytes for one in samples if one.memory_bytes), default=None)
    reached = [event for _, event in events(facts, LimitReached) if event.service in {"apache2", "php-fpm"}]
    allowed = max((event.value for event in reached if event.value and not event.near), default=None)
    limit = next((event.limit for event in reached if not event.near), "")
    best: tuple[Processes, Sample] | None = None
    for one in reports or samples:
        for processes in one.processes:
            if is_worker(processes.name) and processes.rss_bytes and (best is None or processes.count > best[0].count):
                best = processes, one
    if best is None:
        return Capacity(memory, allowed=allowed, limit=limit)
    workers, sample = best
    others = sum(each.rss_bytes for each in sample.processes if not is_worker(each.name))
    ran_out = sample.kind == "oom-report"
    if ran_out:
        others += _unaccounted(sample)
    mean = workers.rss_bytes // max(1, workers.count)
    return Capacity(memory, workers.name, mean or None, workers.count, others, allowed, limit, ran_out)


def _unaccounted(report: Sample) -> int:
    """What a report of memory run out leaves to the kernel itself, its slabs and page tables: no process held it."""
    memory = report.limit_bytes or report.memory_bytes or 0
    return max(0, memory - sum(each.rss_bytes for each in report.processes))


def is_worker(name: str) -> bool:
    """Whether a process of this name serves requests, one at a time."""
    return name.startswith(WORKERS)
