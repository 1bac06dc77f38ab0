"""False crawlers from line to ban: at once where networks prove it, after the answer where names do."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.config import parse
from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.impostors import Answer, Crawlers
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.replay import Replay
from tocsin.rules import compile_rule, load_shipped, only, read_rules
from tocsin.wiring import published_of, resolver_of

TS = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
YANDEX = "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
HERE, THERE = "203.0.113.9", "198.51.100.4"
RULES = """
[probe]
on = "http-request"
where = { path = "/.env" }
limit = 2
within = "10m"
ban = "1h"
"""
SHIPPED = only(load_shipped(), ["false-crawler"])


def line(agent: str, client: str = HERE, after_s: float = 0, target: str = "/") -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(TS + after_s))
    return f'{client} - - [{stamp}] "GET {target} HTTP/1.1" 200 5 "-" "{agent}"\n'.encode()


class Made:
    """A pipeline with the rule, and what comes out of it."""

    def __init__(self, *, dns: bool = True, prefilter: bool = True) -> None:
        self.decisions: list[Decision] = []
        self.findings: list[Finding] = []
        self.crawlers = Crawlers(dns=dns)
        self.policy = Policy(PolicySettings(), AllowList(), crawlers=self.crawlers)
        self.pipeline = Pipeline(
            [compile_rule(rule) for rule in (*SHIPPED, *read_rules(RULES, "t.toml"))],
            Limits(),
            self.policy,
            Readings([("*", "combined")], Proxies(), UTC),
            lambda decision, _finding: self.decisions.append(decision),
            self.findings.append,
            prefilter=prefilter,
        )
        self.offset = 0

    def take(self, *lines: bytes) -> None:
        data = b"".join(lines)
        self.pipeline.take(Batch("log", data, self.offset, 1), TS)
        self.offset += len(data)

    def told(self) -> list[tuple[str, str, str | None]]:
        return [(decision.action, decision.subject, decision.held) for decision in self.decisions]


def test_what_networks_refute_is_banned_at_the_first_request_with_the_proof() -> None:
    made = Made(dns=False)
    made.take(line(GOOGLEBOT) * 3, line(FIREFOX, THERE))
    assert made.told() == [("ban", HERE, None)]
    (finding,) = made.findings
    assert finding.note == f"{HERE} is in none of the networks published by Google for Googlebot (as of 2026-09-02)"
    assert (finding.rule, finding.count, len(finding.evidence)) == ("false-crawler", 1, 1)
    assert made.pipeline.engine.counts.stopped == 2
    (decision,) = made.decisions
    assert decision.end_ts == TS + 86400


def test_a_verified_crawler_is_never_banned_by_any_rule() -> None:
    made = Made()
    made.take(line(GOOGLEBOT, "66.249.66.1", 0, "/.env") * 3)
    assert made.told() == [("ban", "66.249.66.1", "verified crawler Googlebot (66.249.66.0/24, published 2026-09-02)")]


def test_a_name_that_is_not_the_crawlers_bans_when_the_answer_comes() -> None:
    made = Made()
    made.take(line(YANDEX), line(YANDEX, after_s=1))
    assert not made.findings
    assert made.crawlers.take_questions() == [HERE]
    made.pipeline.answer(Answer(HERE, TS + 2, "found", ("host.example.net",)))
    (finding,) = made.findings
    assert (finding.ts, finding.evidence[0].offset) == (TS, 0), "the line that claimed it"
    assert finding.note.startswith(f"{HERE} is called host.example.net; YandexBot's addresses are called ")
    assert made.told() == [("ban", HERE, None)]
    made.take(line(YANDEX, after_s=3))
    assert made.pipeline.engine.counts.stopped == 1, "muted like any other"


@pytest.mark.parametrize("outcome", ["none", "failed"])
def test_an_answer_that_proves_nothing_bans_nobody(outcome: str) -> None:
    made = Made()
    agent = YANDEX if outcome == "failed" else "Amazonbot/0.1"
    made.take(line(agent))
    made.pipeline.answer(Answer(HERE, TS + 1, "failed" if outcome == "failed" else "none"))
    made.take(line(agent, after_s=2))
    assert (made.decisions, made.findings, made.crawlers.take_questions()) == ([], [], [HERE])


def test_a_name_that_proves_the_crawler_keeps_other_rules_off() -> None:
    made = Made()
    made.take(line(YANDEX))
    made.pipeline.answer(Answer(HERE, TS + 1, "found", ("a.yandex.com",), ("a.yandex.com",), 300.0))
    made.take(line(YANDEX, HERE, 2, "/.env") * 2)
    assert made.told() == [("ban", HERE, "verified crawler YandexBot (a.yandex.com)")]


def test_a_crawler_from_a_network_that_is_too_new_is_let_in_again() -> None:
    made = Made()
    made.take(line(GOOGLEBOT))
    assert made.crawlers.take_questions() == [HERE]
    name = "crawl-203-0-113-9.googlebot.com"
    made.pipeline.answer(Answer(HERE, TS + 1, "found", (name,), (name,), 300.0))
    made.take(line(GOOGLEBOT, after_s=2) * 2)
    assert made.told() == [("ban", HERE, None), ("lift", HERE, None)]
    assert made.decisions[1].note == f"verified crawler Googlebot ({name})"


def test_a_ban_of_the_operators_is_not_lifted() -> None:
    made = Made()
    made.policy.ban(HERE, 7 * 86400.0, TS)
    made.take(line(GOOGLEBOT))
    made.pipeline.answer(Answer(HERE, TS + 1, "found", ("a.googlebot.com",), ("a.googlebot.com",), 300.0))
    assert made.policy.until_ts(HERE, TS + 2) == TS + 7 * 86400


def test_who_behaves_like_a_visitor_besides_is_not_banned_for_a_claim() -> None:
    """A proxy that nobody named: behind it visitors read, and a crawler comes through it, too."""
    visitors = Visitors()
    page = HttpRequest(TS, HERE, "GET", "/a", "/a", status=200)
    asset = HttpRequest(TS + 1, HERE, "GET", "/a.css", "/a.css", status=200, referer="https://example.org/a")
    for request in (page, asset):
        visitors.note(request, HERE)
    made = Made()
    made.policy.breaker = Breaker(BreakerSettings(), visitors, lambda _evidence: None)
    made.take(line(GOOGLEBOT, after_s=2), line(GOOGLEBOT, THERE, 2))
    told = {subject: held for _, subject, held in made.told()}
    assert told == {HERE: "it behaves like a visitor, too; if it is a proxy, name it in [proxies]", THERE: None}
    made.take(line(GOOGLEBOT, HERE, 3, "/.env") * 2)
    assert [decision.rule for decision in made.decisions if decision.held is None] == ["false-crawler", "probe"]


def test_replay_looks_up_nothing(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(line(YANDEX) * 3 + line(GOOGLEBOT, THERE) * 2)
    found: list[tuple[Decision, Finding | None]] = []
    rules = [compile_rule(rule) for rule in SHIPPED]
    summary = Replay([path], rules, UTC, None, lambda *both: found.append(both)).run()
    assert [decision.subject for decision, _ in found] == [THERE]
    assert (summary.findings, summary.stopped) == (1, 1)


STEPS = st.lists(
    st.one_of(
        st.tuples(st.sampled_from([GOOGLEBOT, YANDEX, FIREFOX]), st.sampled_from([HERE, THERE, "66.249.66.1"])),
        st.tuples(st.just(""), st.sampled_from([HERE, THERE])),
    ),
    max_size=12,
)


def play(made: Made, steps: list[tuple[str, str]], begin: int = 0) -> None:
    for number, (agent, address) in enumerate(steps, begin):
        if agent:
            made.take(line(agent, address, number))
        else:
            names = ("a.yandex.com",) if address == THERE else ("host.example.net",)
            made.pipeline.answer(Answer(address, TS + number, "found", names, names[: address == THERE], 60.0))


@settings(max_examples=60)
@given(STEPS, st.integers(0, 12))
def test_lines_and_answers_in_their_order_decide_alone(steps: list[tuple[str, str]], cut: int) -> None:
    """Replayed, without the prefilter, and across a restart: the same decisions."""
    whole, blind, first, second = Made(), Made(prefilter=False), Made(), Made()
    play(whole, steps)
    play(blind, steps)
    play(first, steps[:cut])
    second.policy._bans = first.policy._bans  # the ledger's part
    second.pipeline.load(first.pipeline.dump())
    second.offset = first.offset
    play(second, steps[cut:], cut)
    assert blind.decisions == whole.decisions == first.decisions + second.decisions
    assert blind.findings == whole.findings == first.findings + second.findings


def test_a_file_of_networks_that_cannot_be_used_leaves_the_shipped_ones(tmp_path: Path) -> None:
    path = tmp_path / "ranges.txt"
    config = parse(f'[crawlers]\nranges = "{path}"', "t.toml")
    published, trouble = published_of(config)
    assert trouble == f"{path}: cannot be read: No such file or directory"
    path.write_text("# date 2026-11-01\nbing-bingbot Microsoft\n  nowhere\n")
    assert published_of(config)[1].startswith(f"{path}: line 3: ")
    path.write_bytes(b"\xff")
    assert published_of(config) == (published, published_of(config)[1])
    path.write_text("# date 2026-11-01\nbing-bingbot Microsoft\n  192.0.2.0/24\n")
    own, trouble = published_of(config)
    assert (str(own.day), trouble) == ("2026-11-01", "")


def test_who_wants_no_lookups_has_none() -> None:
    assert resolver_of(parse("[crawlers]\ndns = false", "t.toml"), lambda _answer: None) is None
