"""Services of any name, containers and their limits: what is killed there is no job."""

from __future__ import annotations

import pytest
from explain_made import fact, visits
from test_verdict import only

from tocsin.model import AppError, Processes, ProcessKilled, Sample, ServiceState

MIB = 1 << 20
MISSED = [fact(601 + i, AppError(0.0, "nginx", "error", symptom="backend-down"), "refused") for i in range(9)]


@pytest.mark.parametrize("after_s", [-0.2, 0.2])
def test_a_kill_of_which_systemd_tells_again_by_the_unit_is_one(after_s: float) -> None:
    facts = [
        fact(600, Sample(0.0, "oom-report", (Processes("ruby", 4, 3200 * MIB),), 3750 * MIB)),
        fact(600.0, ProcessKilled(0.0, "ruby", 2233, "oom", rss_bytes=800 * MIB, unit="puma")),
        fact(600.0 + after_s, ProcessKilled(0.0, "puma", None, "oom", unit="puma"), "journal"),
        *MISSED,
    ]
    incident = only(visits(0, 680), facts)
    assert incident.cause == "misconfiguration"
    assert "puma, ruby" not in incident.summary.text
