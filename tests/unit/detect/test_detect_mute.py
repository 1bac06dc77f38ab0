"""What a ban does to what other rules have counted of its subject: nothing that could still count after it."""

from __future__ import annotations

from datetime import UTC

import pytest

from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.formats import Anchor, by_name
from tocsin.model import Batch, Finding
from tocsin.rules import compile_rule, read_rules

RULES = """
[quick]
title = "Quick"
on = "http-request"
where = { path = "/quick" }
by = "address"
limit = 1
within = "1s"
ban = "1m"
[slow]
title = "Slow"
on = "http-request"
where = { path = "/slow" }
by = "address"
limit = 3
within = "30m"
ban = "1h"
"""
CLIENT = "192.0.2.7"


def line(minute: int, path: str) -> bytes:
    return f'{CLIENT} - - [20/Jun/2016:11:{minute:02}:00 +0000] "GET {path} HTTP/1.1" 200 5 "-" "x"\n'.encode()


@pytest.mark.parametrize(("ban_s", "found"), [(60.0, ["quick", "slow"]), (7200.0, ["quick"])])
def test_a_short_ban_leaves_what_other_rules_have_counted(ban_s: float, found: list[str]) -> None:
    """Two slow ones, the ban, one more after a short ban: three within the half hour. A long ban outlasts them all."""
    rules = [compile_rule(rule) for rule in read_rules(RULES, "rules.toml", {})]
    engine = Engine(rules, Limits(lateness_s=60.0))
    seen: list[str] = []

    def on_finding(finding: Finding) -> float:
        seen.append(finding.rule)
        return finding.ts + ban_s

    data = line(0, "/slow") + line(1, "/slow") + line(2, "/quick") + line(10, "/slow")
    engine.step(Batch("log", data, 0, 1), by_name("combined"), Anchor(0.0, UTC), on_finding)
    assert seen == found
    slow = next(tracker for tracker in engine.trackers if tracker.id == "slow")
    assert CLIENT not in slow.window.young, "neither after its own crossing nor through a long ban"
