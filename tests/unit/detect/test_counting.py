"""Counting every line: who is watched, who is banned, and how a client is spelt, change nothing in what is counted."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC

import pytest

from tocsin.detect.books import Limits, Strike
from tocsin.detect.engine import Engine
from tocsin.detect.evidence import Row
from tocsin.formats import Anchor, by_name
from tocsin.model import Batch, Finding, HttpRequest
from tocsin.rules import CompiledRule, compile_rule, read_rules

FLOOD = """
[flood]
title = "Flood"
on = "http-request"
by = "address"
limit = 30
within = "1m"
ban = "1m"
[post]
title = "Post"
on = "http-request"
where = { method = "POST", path = "/post" }
by = "address"
limit = 1
within = "1s"
ban = "1m"
"""


def rules() -> list[CompiledRule]:
    return [compile_rule(rule) for rule in read_rules(FLOOD, "rules.toml", {})]


def line(client: str, second: int, request: str = "GET /") -> bytes:
    when = f"20/Jun/2016:11:{second // 60:02}:{second % 60:02} +0000"
    return f'{client} - - [{when}] "{request} HTTP/1.1" 200 5 "-" "x"\n'.encode()


class Watcher:
    """An observer that wants those whose CRC has no bit of `mask`, which changes after so many requests."""

    def __init__(self, after: int) -> None:
        self.mask, self.thorough, self.after = 0, True, after
        self.seen: list[tuple[str, float]] = []

    def glance(self, request: HttpRequest, subject: str, now_ts: float) -> None:
        pass

    def note(
        self,
        request: HttpRequest,
        subject: str,
        now_ts: float,  # noqa: ARG002
        row: Callable[[], Row],  # noqa: ARG002
        *,
        matched: bool,  # noqa: ARG002
    ) -> Strike | None:
        self.seen.append((subject, request.ts))
        if len(self.seen) == self.after:
            self.mask = 1
        elif len(self.seen) == 2 * self.after:
            self.mask = 0
        return None


def run(
    data: bytes,
    observer: Watcher | None = None,
    *,
    prefilter: bool = True,
    keys: int = 500_000,
    ban_s: float | None = None,
) -> tuple[list[Finding], Engine]:
    found: list[Finding] = []
    limits = Limits(tracked_keys=keys, lateness_s=60.0)
    engine = Engine(rules(), limits, prefilter=prefilter, observer=observer)

    def on_finding(finding: Finding) -> float | None:
        found.append(finding)
        return None if ban_s is None else finding.ts + ban_s

    engine.step(Batch("log", data, 0, 1), by_name("combined"), Anchor(0.0, UTC), on_finding)
    return found, engine


CLIENTS = ["192.0.2.1", "192.0.2.2", "192.0.2.3", "2001:db8::1", "2001:db8:0:0::2", "::ffff:192.0.2.9"]


@pytest.mark.parametrize("keys", [500_000, 2])
def test_the_observer_sees_just_those_it_wants(keys: int) -> None:
    """Also after it wants others, and where clients have to be forgotten early."""
    data = b"".join(line(CLIENTS[i % 6], i) for i in range(240))
    watchers = [Watcher(40), Watcher(40)]
    for watcher, prefilter in zip(watchers, (True, False), strict=True):
        run(data, watcher, prefilter=prefilter, keys=keys)
    assert watchers[0].seen == watchers[1].seen
    assert 80 < len(watchers[0].seen) < 240


@pytest.mark.parametrize("client", CLIENTS)
def test_a_flood_is_found_however_its_lines_are_ordered_and_spelt(client: str) -> None:
    data = b"".join(line(client, 60 + (i * 7) % 30) for i in range(29)) + line(client, 90)
    found, _ = run(data)
    assert [(each.rule, each.count) for each in found] == [("flood", 30)]
    assert run(data, prefilter=False)[0] == found
    assert not run(data[: len(data) - len(line(client, 90))])[0]


@pytest.mark.parametrize("prefilter", [True, False])
def test_lines_of_the_banned_are_stopped_whatever_they_match(prefilter: bool) -> None:
    """Also those that come late, after the ban has ended; and what was counted before a short ban still counts."""
    data = b"".join(line("192.0.2.1", 60 + i) for i in range(20))
    data += line("192.0.2.1", 80, "POST /post") + line("192.0.2.1", 85, "POST /post") + line("192.0.2.1", 88)
    data += line("192.0.2.1", 91) + line("192.0.2.1", 87) + b"".join(line("192.0.2.1", 91) for _ in range(9))
    found, engine = run(data, ban_s=10.0, prefilter=prefilter)
    assert [each.rule for each in found] == ["post", "flood"]
    assert (engine.counts.stopped, engine.counts.parsed) == (4, 34)


def test_a_restart_under_another_limit_counts_on() -> None:
    """What stands in the order of reading is put in order."""
    _, before = run(b"".join(line("192.0.2.1", 60 + (i * 7) % 15) for i in range(15)))
    after = Engine([compile_rule(rule) for rule in read_rules(FLOOD.replace("30", "16"), "r.toml", {})])
    after.load(before.dump())
    found: list[Finding] = []
    step = Batch("log", line("192.0.2.1", 75), 0, 1)
    after.step(step, by_name("combined"), Anchor(0.0, UTC), found.append)
    assert [each.count for each in found] == [16]
