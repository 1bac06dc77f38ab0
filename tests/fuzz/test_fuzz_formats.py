"""Mutated real lines through every format, the sniffer and the engine: nothing raises, nothing is lost or uncounted.

And law 7 at scale: all shipped rules find the same with the prefilter (Hyperscan, and its fallback) as without it,
over requests in every spelling that a client or a server can give them.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from functools import cache
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec import structs
from mutation import (
    ANCHOR,
    FORMAT_SAMPLES,
    PROXIES,
    RULE_SAMPLES,
    SAMPLES,
    SPECS,
    WRITTEN_SPECS,
    damaged,
    requests,
    written,
)

from tocsin.decide.impostors import Crawlers
from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.formats import Format, Proxies, RawLines, by_name, sniff
from tocsin.model import AuthAttempt, Batch, Finding, HttpRequest, Other, RawLine, Unparsed
from tocsin.rules import CompiledRule, compile_rule, load_shipped
from tocsin.sources.lines import Lines

LAW = settings(derandomize=True, max_examples=60)
NEVER_LATE = Limits(lateness_s=1e12)
seeds = st.integers(0, 2**32)
REQUESTS = requests()


@cache
def format_of(spec: str, *, trusting: bool = False) -> Format:
    return by_name(spec, PROXIES if trusting else Proxies())


@cache
def shipped() -> tuple[CompiledRule, ...]:
    return tuple(compile_rule(rule).judged_by(Crawlers()) for rule in load_shipped())


@cache
def at_once() -> tuple[CompiledRule, ...]:
    """The shipped conditions without their limits: every line that a rule counts is a finding."""
    rules = (structs.replace(rule, limit=1, distinct=None) for rule in load_shipped())
    return tuple(compile_rule(rule).judged_by(Crawlers()) for rule in rules)


def block(lines: Sequence[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def found_by(engine: Engine, data: bytes, fmt: Format) -> list[Finding]:
    found: list[Finding] = []
    engine.step(Batch("log", data, 0, 1), fmt, ANCHOR, found.append)
    return found


def test_there_is_something_to_mutate() -> None:
    assert len(FORMAT_SAMPLES) > 50
    assert len(RULE_SAMPLES) > 100
    assert len(REQUESTS) > 80


@pytest.mark.parametrize("trusting", [False, True])
@pytest.mark.parametrize("spec", SPECS)
@LAW
@given(seeds)
def test_no_format_raises_and_each_says_what_it_read(spec: str, trusting: bool, seed: int) -> None:
    rng = Random(seed)
    fmt = format_of(spec, trusting=trusting)
    for _ in range(20):
        line = damaged(rng, rng.choice(SAMPLES).line)
        event = fmt.parse(line, ANCHOR)
        assert isinstance(event, HttpRequest | AuthAttempt | Other | Unparsed)
        if isinstance(event, Unparsed):
            assert event.reason
        msgspec.json.encode(event)  # a lone surrogate, or a number that is none, would raise
        if isinstance(event, HttpRequest | AuthAttempt):
            assert abs(event.ts) < 1e12


@LAW
@given(seeds)
def test_raw_lines_take_everything(seed: int) -> None:
    rng = Random(seed)
    for _ in range(20):
        event = RawLines().parse(damaged(rng, rng.choice(SAMPLES).line), ANCHOR)
        assert isinstance(event, RawLine)
        event.text.encode()


@LAW
@given(seeds)
def test_sniffing_never_raises(seed: int) -> None:
    rng = Random(seed)
    lines = [damaged(rng, rng.choice(SAMPLES).line) for _ in range(rng.randrange(1, 8))]
    for guess in sniff(lines, ANCHOR, PROXIES):
        assert 0 < guess.share <= 1
        assert guess.tried == len(lines)
        assert 0 <= guess.addressed <= guess.share
        guess.sample.encode()


@pytest.mark.parametrize(
    "spec", ["combined", "vhost_combined", "main", "common", "caddy", "traefik", "journal", "sshd"]
)
def test_samples_are_told_by_their_lines(spec: str) -> None:
    """The format that a sample file was written in is one that its lines are taken for."""
    lines = [sample.line for sample in SAMPLES if sample.spec == spec]
    fitting = [guess.format.name for guess in sniff(lines, ANCHOR)]
    assert format_of(spec).name in fitting


class Pair:
    """The same rules with prefilter, with its fallback, and without, over one format; kept for many blocks."""

    def __init__(self, spec: str, rules: tuple[CompiledRule, ...]) -> None:
        self.fmt = format_of(spec)
        self.filtered = Engine(rules, NEVER_LATE)
        self.fallback = Engine(rules, NEVER_LATE, fallback=True)
        self.all = Engine(rules, NEVER_LATE, prefilter=False)

    def assert_alike(self, data: bytes) -> list[Finding]:
        """All three find the same in a block; returns it."""
        wanted = found_by(self.all, data, self.fmt)
        for engine in (self.filtered, self.fallback):
            got = found_by(engine, data, self.fmt)
            assert [(f.rule, f.subject, f.id) for f in got] == [(f.rule, f.subject, f.id) for f in wanted]
            assert got == wanted
        return wanted


pair_at_once = cache(lambda spec: Pair(spec, at_once()))


@pytest.mark.parametrize("spec", SPECS)
@LAW
@given(seeds)
def test_every_line_is_counted_once(spec: str, seed: int) -> None:
    """`parsed` and `unparsed` are all lines where all are looked at; the others are parts of `parsed`."""
    rng = Random(seed)
    lines = [damaged(rng, rng.choice(SAMPLES).line) for _ in range(rng.randrange(40))]
    data = block(lines)
    pair = pair_at_once(spec)
    engines = (pair.filtered, pair.fallback, pair.all)
    before = [structs.replace(engine.counts) for engine in engines]
    pair.assert_alike(data)
    filtered, fallback, looked_at = (
        {name: getattr(engine.counts, name) - getattr(old, name) for name in structs.asdict(old)}
        for engine, old in zip(engines, before, strict=True)
    )
    assert filtered["lines"] == fallback["lines"] == looked_at["lines"] == len(lines)
    assert filtered["bytes"] == looked_at["bytes"] == len(data)
    assert looked_at["parsed"] + looked_at["unparsed"] == len(lines)
    assert looked_at["late"] + looked_at["no_address"] + looked_at["stopped"] <= looked_at["parsed"]
    unparsed = sum(isinstance(pair.fmt.parse(line, ANCHOR), Unparsed) for line in lines)
    assert looked_at["unparsed"] == unparsed
    assert filtered["unparsed"] <= unparsed
    assert filtered["parsed"] + filtered["unparsed"] <= len(lines)
    if pair.fmt.skim is not None:  # the flood rule counts every line
        assert (filtered["parsed"], filtered["unparsed"]) == (looked_at["parsed"], looked_at["unparsed"])


@pytest.mark.parametrize("spec", WRITTEN_SPECS)
@LAW
@given(seeds)
def test_the_prefilter_is_invisible_however_a_request_is_spelt(spec: str, seed: int) -> None:
    rng = Random(seed)
    pair_at_once(spec).assert_alike(block([written(rng, rng.choice(REQUESTS), spec) for _ in range(20)]))


@pytest.mark.parametrize("spec", WRITTEN_SPECS)
def test_the_prefilter_is_invisible_at_scale(spec: str) -> None:
    """5,000 requests, a few clients: with the shipped limits and windows; and every rule has its share in it."""
    rng = Random(f"law 7 {spec}")
    pair, found = pair_at_once(spec), set()
    lines = [written(rng, rng.choice(REQUESTS), spec) for _ in range(5000)]
    found |= {finding.rule for finding in pair.assert_alike(block(lines))}
    assert found == {rule.rule.id for rule in at_once() if rule.rule.on == "http-request"}
    assert Pair(spec, shipped()).assert_alike(block(lines))


@pytest.mark.parametrize("spec", WRITTEN_SPECS)
def test_what_is_damaged_is_damaged_for_all(spec: str) -> None:
    """The same with cut and broken lines between the whole ones."""
    rng = Random(f"damaged {spec}")
    lines = []
    for _ in range(3000):
        line = written(rng, rng.choice(REQUESTS), spec)
        lines.append(damaged(rng, line) if rng.random() < 0.3 else line)
    pair_at_once(spec).assert_alike(block(lines))
    Pair(spec, shipped()).assert_alike(block(lines))


@pytest.mark.parametrize("spec", ["combined", "vhost_combined", "caddy", "sshd"])
@LAW
@given(seeds)
def test_pieces_of_a_stream_may_end_anywhere(spec: str, seed: int) -> None:
    """Law 2 down to the byte: cut into lines by the reader of streams, then judged: as if read whole."""
    rng = Random(seed)
    pool = RULE_SAMPLES if spec != "sshd" else [sample for sample in SAMPLES if sample.spec == "sshd"]
    lines = [
        damaged(rng, rng.choice(pool).line)
        if spec == "sshd" or rng.random() < 0.3
        else written(rng, rng.choice(REQUESTS), spec)
        for _ in range(rng.randrange(1, 30))
    ]
    data = block(lines)
    if rng.random() < 0.5:
        data = data.replace(b"\n", b"\r\n", 3)
    read_whole, read_in_pieces = STREAMS[spec]
    whole = found_by(read_whole, data, format_of(spec))
    reader = Lines("log")
    found: list[Finding] = []
    at = 0
    while at < len(data):
        size = rng.choice((1, 2, 7, 100, 4096))
        for batch in reader.feed(data[at : at + size]):
            read_in_pieces.step(batch, format_of(spec), ANCHOR, found.append)
        at += size
    assert found == whole
    assert read_in_pieces.counts.lines == read_whole.counts.lines
    assert read_in_pieces.counts.findings == read_whole.counts.findings


# Kept for many streams: at a limit of one, and never late, an engine has no memory but its counts.
STREAMS: defaultdict[str, tuple[Engine, Engine]] = defaultdict(
    lambda: (Engine(at_once(), NEVER_LATE), Engine(at_once(), NEVER_LATE))
)
