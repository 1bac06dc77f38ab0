"""Formats, engine and policy in a row: what a finding leads to, and what it silences."""

from __future__ import annotations

import math
import time
from datetime import UTC
from ipaddress import ip_network

import msgspec
import pytest

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Finding
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.rules import compile_rule, read_rules

BASE_TS = 1_466_421_454
RULES = """
[probe]
on = "http-request"
where = { path = { contains = "/.env" } }
limit = 2
within = "10m"
ban = "1h"
[forever]
on = "http-request"
where = { path = "/never-again" }
limit = 1
ban = "forever"
"""
LINE_RULE = """
[door]
line = '^[\\d-]{10} [\\d:]{8} door: refused <address>$'
limit = 2
within = "10m"
ban = "1h"
"""


def request(client: str, target: str, ts: int = BASE_TS) -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))
    return f'{client} - - [{stamp}] "GET {target} HTTP/1.1" 404 5 "-" "-"\n'.encode()


class Made:
    """A pipeline and what comes out of it."""

    def __init__(
        self, rules: str = RULES, *, observe: bool = False, allow: tuple[str, ...] = (), proxies: str = ""
    ) -> None:
        self.decisions: list[Decision] = []
        self.findings: list[Finding] = []
        compiled = [compile_rule(rule) for rule in read_rules(rules, "t.toml")]
        self.policy = Policy(PolicySettings(observe=observe), AllowList([(text, "here") for text in allow]))
        self.pipeline = Pipeline(
            compiled,
            Limits(),
            self.policy,
            Readings([], Proxies([ip_network(proxies)] if proxies else ()), UTC),
            lambda decision, _finding: self.decisions.append(decision),
            self.findings.append,
        )
        self._offset = 0

    def take(self, data: bytes, source: str = "log") -> None:
        self.pipeline.take(Batch(source, data, self._offset, 1), BASE_TS)
        self._offset += len(data)

    @property
    def stopped(self) -> int:
        return self.pipeline.engine.counts.stopped


def test_a_ban_is_decided_at_the_crossing_line_and_silences_what_follows() -> None:
    made = Made()
    made.take(request("203.0.113.7", "/.env") * 5 + request("198.51.100.1", "/.env"))
    (decision,) = made.decisions
    assert (decision.subject, decision.start_ts, decision.end_ts) == ("203.0.113.7", BASE_TS, BASE_TS + 3600)
    assert decision.finding == made.findings[0].id
    assert made.stopped == 3


def test_lines_after_the_ban_count_again() -> None:
    made = Made()
    made.take(request("203.0.113.7", "/.env") * 2)
    made.take(request("203.0.113.7", "/.env", BASE_TS + 3601) * 2)
    assert [decision.start_ts for decision in made.decisions] == [BASE_TS, BASE_TS + 3601]
    assert made.stopped == 0


def test_a_ban_for_good_never_ends() -> None:
    made = Made()
    made.take(request("203.0.113.7", "/never-again"))
    made.take(request("203.0.113.7", "/.env", BASE_TS + 10**9) * 3)
    assert [decision.end_ts for decision in made.decisions] == [None]
    assert made.pipeline.engine.muted["203.0.113.7"] == math.inf
    assert made.stopped == 3


def test_who_is_allowed_is_found_once_a_window_and_never_banned() -> None:
    made = Made(allow=("203.0.113.0/24",))
    made.take(request("203.0.113.7", "/.env") * 6)
    assert [finding.subject for finding in made.findings] == ["203.0.113.7"]
    assert [str(decision.held)[:8] for decision in made.decisions] == ["allowed:"]
    assert made.stopped == 0, "nobody stopped these lines"
    made.take(request("203.0.113.7", "/.env", BASE_TS + 601) * 2)
    assert len(made.findings) == 2


def test_a_ban_that_is_held_does_not_blind_other_rules() -> None:
    """Held, because this time the address came through a proxy; then it comes by itself and does something else."""
    made = Made(proxies="10.0.0.0/8")
    through = request("10.0.0.1", "/.env")[:-1] + b' "203.0.113.7"\n'
    direct = request("203.0.113.7", "/never-again")[:-1] + b' "-"\n'
    made.take(through * 4 + direct)
    assert [(d.rule, d.subject, d.held is None) for d in made.decisions] == [
        ("probe", "203.0.113.7", False),
        ("forever", "203.0.113.7", True),
    ]


def test_a_ban_that_is_held_behind_a_proxy_is_not_held_without_it() -> None:
    made = Made(proxies="10.0.0.0/8")
    through = request("10.0.0.1", "/.env")[:-1] + b' "203.0.113.7"\n'
    direct = request("203.0.113.7", "/.env")[:-1] + b' "-"\n'
    made.take(through * 2 + direct * 2)
    assert [(d.subject, d.held is None) for d in made.decisions] == [("203.0.113.7", False), ("203.0.113.7", True)]


def test_observing_decides_the_same_and_holds_it() -> None:
    acting, observing = Made(), Made(observe=True)
    for made in (acting, observing):
        made.take(request("203.0.113.7", "/.env") * 5)
    assert [decision.held for decision in observing.decisions] == ["observing"]
    assert [(d.subject, d.start_ts, d.end_ts) for d in observing.decisions] == [
        (d.subject, d.start_ts, d.end_ts) for d in acting.decisions
    ]
    assert observing.stopped == acting.stopped == 3


def test_a_log_that_nobody_knows_is_counted_and_shown() -> None:
    made = Made()
    made.take(b"nothing \x1b[2J known\nhere\n", "odd")
    counts = made.pipeline.engine.counts
    assert (counts.lines, counts.unparsed) == (2, 2)
    ((_, text, reason),) = made.pipeline.engine.samples["odd"]
    assert text == "nothing \\x1b[2J known"
    assert "no known format" in reason


def test_a_rule_on_lines_reads_a_log_that_nobody_knows() -> None:
    made = Made(LINE_RULE)
    made.take(b"2016-06-20 11:17:34 door: refused 203.0.113.7\nother\n" * 3, "door.log")
    (decision,) = made.decisions
    assert (decision.rule, decision.subject) == ("door", "203.0.113.7")
    assert made.pipeline.engine.counts.lines == 6
    assert made.stopped == 1


def test_a_rule_on_lines_is_anchored() -> None:
    made = Made(LINE_RULE)
    made.take(b"2016-06-20 11:17:34 door: name 2016-06-20 11:17:34 door: refused 192.0.2.99\n" * 5, "door.log")
    made.take(b"2016-06-20 11:17:34 door: refused 192.0.2.99 not\n" * 5, "door.log")
    assert not made.findings


def test_state_is_taken_up_where_it_was_left() -> None:
    whole, first, second = Made(), Made(), Made()
    data = request("203.0.113.7", "/.env") + request("198.51.100.1", "/never-again")
    more = request("203.0.113.7", "/.env") + request("198.51.100.1", "/.env")
    whole.take(data)
    whole.take(more)
    first.take(data)
    second.pipeline.load(first.pipeline.dump())
    second._offset = len(data)
    second.take(more)
    assert first.decisions + second.decisions == whole.decisions
    assert second.stopped == whole.stopped == 1


def test_what_is_no_state_is_refused() -> None:
    for state in (b"", b"x", msgspec.msgpack.encode((b"", b""))):
        with pytest.raises(msgspec.MsgspecError):
            Made().pipeline.load(state)
