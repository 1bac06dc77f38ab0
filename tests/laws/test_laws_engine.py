"""The design's laws, held by the engine over random logs: lines of a few clients, real formats, real rules."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import UTC

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.formats import Anchor, Format, by_name
from tocsin.model import Batch, Finding
from tocsin.rules import compile_rule, read_rules

RULES = [
    compile_rule(rule)
    for rule in read_rules(
        """
[xmlrpc]
title = "posts"
on = "http-request"
where = { method = "POST", path = "/xmlrpc.php" }
limit = 3
within = "1m"
ban = "1h"
[probe]
title = "probe"
on = "http-request"
where = { path = { contains = "/.env" } }
limit = 1
within = "1m"
ban = "1h"
[sweep]
title = "sweep"
on = "http-request"
where = { status = [403, 404] }
distinct = "path"
limit = 3
within = "1m"
ban = "1h"
[flood]
title = "flood"
on = "http-request"
limit = 6
within = "30s"
ban = "1h"
[agent]
title = "agent"
on = "http-request"
where = { user_agent = { prefix = "bot" } }
by = "user_agent"
limit = 3
within = "1m"
ban = "1h"
""",
        "laws.toml",
    )
]
ANCHOR = Anchor(1_466_421_454.0, UTC)
BASE_TS = 1_466_421_454
COMBINED = by_name("combined")
JSON = by_name("caddy")


class Line(msgspec.Struct, frozen=True):
    """One request, before it is written in a format."""

    ts: int
    client: str
    method: str
    target: str
    status: int
    agent: str


def combined(line: Line) -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(line.ts))
    request = f"{line.method} {line.target} HTTP/1.1"
    return f'{line.client} - - [{stamp}] "{request}" {line.status} 12 "-" "{line.agent}"\n'.encode()


def caddy(line: Line) -> bytes:
    request = {"remote_ip": line.client, "method": line.method, "uri": line.target, "proto": "HTTP/1.1", "host": "h"}
    request["headers"] = {"User-Agent": [line.agent]}  # type: ignore[assignment]  # a JSON object
    entry = {"ts": float(line.ts), "logger": "http.log.access", "request": request, "status": line.status, "size": 12}
    return msgspec.json.encode(entry) + b"\n"


LINES = st.lists(
    st.builds(
        Line,
        ts=st.integers(BASE_TS, BASE_TS + 200),
        client=st.sampled_from(["192.0.2.1", "192.0.2.2", "2001:db8::1", "2001:db8::2", "host.example", "203.0.113.9"]),
        method=st.sampled_from(["GET", "POST", "HEAD"]),
        target=st.sampled_from(
            [
                "/",
                "/xmlrpc.php",
                "/%78mlrpc.php",
                "//xmlrpc.php",
                "/./xmlrpc.php?a=1",
                "/a/.env",
                "/a/%2eenv",
                "/x1",
                "/x2",
            ]
        ),
        status=st.sampled_from([200, 200, 403, 404]),
        agent=st.sampled_from(["bot/1", "bot/2", "Mozilla"]),
    ),
    min_size=1,
    max_size=60,
)


def run(
    lines: Sequence[bytes],
    fmt: Format = COMBINED,
    *,
    mute: bool = True,
    cuts: Sequence[int] = (),
    prefilter: bool = True,
    fallback: bool = False,
) -> bytes:
    """The findings over lines cut into blocks after the given line numbers, as bytes."""
    engine = Engine(RULES, Limits(lateness_s=300.0), prefilter=prefilter, fallback=fallback)
    return msgspec.json.encode(feed(engine, lines, fmt, mute=mute, cuts=cuts))


def feed(
    engine: Engine, lines: Sequence[bytes], fmt: Format, *, mute: bool, cuts: Sequence[int], start: int = 0
) -> list[Finding]:
    found: list[Finding] = []

    def on_finding(finding: Finding) -> float | None:
        found.append(finding)
        return finding.ts + 20 if mute else None

    offset, number = sum(map(len, lines[:start])), start
    for end in sorted({*(cut for cut in cuts if start < cut < len(lines)), len(lines)}):
        data = b"".join(lines[number:end])
        if data:
            engine.step(Batch("log", data, offset, number + 1), fmt, ANCHOR, on_finding)
        offset, number = offset + len(data), end
    return found


@given(LINES)
def test_deterministic(lines: list[Line]) -> None:
    """Law 1: same rules and lines, byte-identical findings."""
    raw = [combined(line) for line in lines]
    assert run(raw) == run(raw)


@given(LINES, st.lists(st.integers(0, 60)))
def test_chunking_does_not_matter(lines: list[Line], cuts: list[int]) -> None:
    """Law 2: whole, cut anywhere between lines, line by line: same findings, evidence and line numbers included."""
    raw = [combined(line) for line in lines]
    whole = run(raw)
    assert run(raw, cuts=cuts) == whole
    assert run(raw, cuts=range(60)) == whole


@given(LINES, st.sampled_from(["combined", "caddy"]))
def test_the_prefilter_is_invisible(lines: list[Line], kind: str) -> None:
    """Law 7: with Hyperscan, with the fallback, and without any scan: same findings."""
    raw = [combined(line) if kind == "combined" else caddy(line) for line in lines]
    fmt = COMBINED if kind == "combined" else JSON
    looked_at_all = run(raw, fmt, prefilter=False)
    assert run(raw, fmt) == looked_at_all
    assert run(raw, fmt, fallback=True) == looked_at_all


@given(LINES, st.randoms(use_true_random=False))
def test_order_within_the_lateness_does_not_matter(lines: list[Line], shuffler: object) -> None:
    """Law 4: any order within the lateness finds the same (rule, subject) pairs."""
    shuffled = list(lines)
    shuffler.shuffle(shuffled)  # type: ignore[attr-defined]  # a random.Random

    def pairs(some: list[Line]) -> set[tuple[str, str]]:
        found = feed(Engine(RULES), [combined(line) for line in some], COMBINED, mute=False, cuts=())
        return {(finding.rule, finding.subject) for finding in found if finding.rule != "agent"}

    assert pairs(shuffled) == pairs(lines)


@given(LINES, st.integers(0, 60))
def test_a_restart_changes_nothing(lines: list[Line], at: int) -> None:
    """Law 6: state saved between any two lines and taken up by a new engine gives the findings of one that ran on."""
    raw = [combined(line) for line in lines]
    at = min(at, len(raw))
    first, second = Engine(RULES), Engine(RULES)
    found = feed(first, raw[:at], COMBINED, mute=True, cuts=())
    second.load(first.dump())
    found += feed(second, raw, COMBINED, mute=True, cuts=(), start=at)
    assert msgspec.json.encode(found) == run(raw)
    assert second.counts.lines == len(raw)


@settings(max_examples=30)
@given(LINES)
def test_every_line_is_accounted_for(lines: list[Line]) -> None:
    """Counted, parsed or unparsed: the sums agree, with garbage between the lines."""
    raw = [piece for line in lines for piece in (combined(line), b"garbage \x00\xff\n")]
    engine = Engine(RULES)
    feed(engine, raw, COMBINED, mute=True, cuts=())
    counts = engine.counts
    assert counts.lines == len(raw)
    assert counts.unparsed == len(lines)
    assert counts.parsed + counts.unparsed == counts.lines


def test_event_time_is_bounded_by_arrival() -> None:
    """Law 3: a stamp from the future counts as arrival plus skew; later lines of the present are not late for it."""
    engine = Engine(RULES, Limits(skew_s=60.0))
    future = Line(BASE_TS + 10_000, "192.0.2.1", "GET", "/", 200, "x")
    present = Line(BASE_TS, "192.0.2.2", "GET", "/a/.env", 200, "x")
    found: list[Finding] = []
    for line in (future, present):
        batch = Batch("log", combined(line), arrival_ts=float(BASE_TS))
        engine.step(batch, COMBINED, ANCHOR, found.append)
    assert engine.now_ts == BASE_TS + 60
    assert [finding.rule for finding in found] == ["probe"]


def test_state_is_bounded_under_changing_addresses() -> None:
    """Law 5: more keys than there is room for: bounded, and the evicted are counted, the same each time."""
    lines = [
        combined(Line(BASE_TS, f"10.{i >> 16 & 255}.{i >> 8 & 255}.{i & 255}", "POST", "/xmlrpc.php", 200, "x"))
        for i in range(5000)
    ]
    engines = [Engine(RULES, Limits(tracked_keys=1000)) for _ in range(2)]
    for engine in engines:
        feed(engine, lines, COMBINED, mute=True, cuts=())
        assert engine.pool.tracked <= 2 * 1000 + len(RULES)
        assert engine.pool.evicted > 0
    assert engines[0].pool.evicted == engines[1].pool.evicted
