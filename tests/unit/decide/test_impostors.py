"""Claims judged by published networks and by the DNS; who waits for an answer, who is pardoned, who is never banned."""

from __future__ import annotations

from datetime import UTC, date, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.decide.crawlers import HOSTS, shipped
from tocsin.decide.impostors import (
    ANSWERS_MOST,
    DOUBTED_MOST,
    TTL_FAILED_S,
    TTL_MOST_S,
    WAITING_MOST,
    Answer,
    Crawlers,
)
from tocsin.model import Evidence, Finding, HttpRequest

TS = datetime(2026, 10, 1, tzinfo=UTC).timestamp()
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
YANDEX = "Mozilla/5.0 (compatible; YandexBot/3.0; +http://yandex.com/bots)"
AMAZON = "Mozilla/5.0 (compatible; Amazonbot/0.1; +https://developer.amazon.com/support/amazonbot)"
HERE = "203.0.113.9"


def request(agent: str | None, address: str | None = HERE, ts: float = TS) -> HttpRequest:
    return HttpRequest(ts, address, "GET", "/", "/", user_agent=agent)


def finding(address: str = HERE, ts: float = TS) -> Finding:
    return Finding(f"f~{address}", "false-crawler", address, ts, 1, 1.0, (Evidence("log", 1, 0, "line"),))


def found(*names: str, confirmed: bool = True, address: str = HERE, ts: float = TS + 1) -> Answer:
    return Answer(address, ts, "found" if names else "none", names, names if confirmed else (), 300.0)


def test_published_networks_come_first_and_the_proof_names_their_day() -> None:
    crawlers = Crawlers()
    real = request(GOOGLEBOT, "66.249.66.1")
    assert crawlers.verdict(real) == "verified"
    day = "published by Google for Googlebot (as of 2026-09-02)"
    assert crawlers.proof(real) == f"66.249.66.1 is in 66.249.66.0/24, {day}"
    assert crawlers.verdict(request(GOOGLEBOT)) == "impostor"
    assert crawlers.proof(request(GOOGLEBOT)) == f"{HERE} is in none of the networks {day}"
    assert crawlers.verdict(request(GOOGLEBOT, ts=TS - 10 * 366 * 86400)) == "unknown"
    assert crawlers.verdict(request(YANDEX)) == "unknown"
    assert crawlers.verdict(request("Mozilla/5.0 Firefox/128.0")) is None
    assert crawlers.verdict(request(GOOGLEBOT, None)) is None
    assert not crawlers.ask(request(YANDEX)), "nobody is there to be asked"


@pytest.mark.parametrize(
    ("agent", "answer", "verdict", "proof"),
    [
        (YANDEX, found("spider-5-255-1-1.yandex.com"), "verified", "and that name leads back to it"),
        (YANDEX, found("spider-5-255-1-1.yandex.com", confirmed=False), "impostor", "does not lead back"),
        (YANDEX, found("host.example.net"), "impostor", "YandexBot's addresses are called *.yandex.ru or *.yandex.net"),
        (YANDEX, found("evilyandex.com"), "impostor", "is called evilyandex.com"),
        (YANDEX, found("yandex.com.example.net"), "impostor", "is called yandex.com.example.net"),
        (YANDEX, found(), "impostor", "has no name in the DNS"),
        (YANDEX, Answer(HERE, TS + 1, "failed"), "unknown", "no name server could tell"),
        (AMAZON, found("1-2.crawl.amazonbot.amazon"), "verified", "leads back"),
        (AMAZON, found("host.example.net"), "unknown", "is called host.example.net"),
        (AMAZON, found(), "unknown", "has no name"),
        # refuted by the networks already; but they are of one day
        (GOOGLEBOT, found("crawl-203-0-113-9.googlebot.com"), "verified", "leads back"),
        (GOOGLEBOT, found("9.113.0.203.bc.googleusercontent.com"), "impostor", "in none of the networks"),
    ],
)
def test_names_decide_where_networks_do_not(agent: str, answer: Answer, verdict: str, proof: str) -> None:
    crawlers = Crawlers(dns=True)
    crawlers.answer(answer)
    assert crawlers.verdict(request(agent)) == verdict
    assert proof in crawlers.proof(request(agent))


def test_other_machines_of_the_operator_prove_neither() -> None:
    crawlers = Crawlers(dns=True)
    crawlers.answer(found("google-proxy-66-249-90-77.google.com", address="66.249.90.77"))
    assert crawlers.verdict(request(GOOGLEBOT, "66.249.90.77")) == "unknown"
    assert "which is no name of Googlebot's" in crawlers.proof(request(GOOGLEBOT, "66.249.90.77"))


def test_a_finding_waits_for_the_answer_that_proves_it() -> None:
    crawlers = Crawlers(dns=True)
    assert crawlers.verdict(request(YANDEX)) == "unknown"
    assert crawlers.ask(request(YANDEX))
    assert crawlers.wait(finding())
    assert not crawlers.wait(finding()), "one line, one question"
    assert not crawlers.ask(request(YANDEX)), "an address is asked after once"
    assert (crawlers.take_questions(), crawlers.take_questions()) == ([HERE], [])
    proven, pardoned = crawlers.answer(found("host.example.net"))
    assert proven is not None
    assert (proven.id, proven.evidence, pardoned) == (finding().id, finding().evidence, None)
    assert proven.note == f"{HERE} is called host.example.net; YandexBot's addresses are called {WANTED}"
    assert not crawlers.ask(request(YANDEX)), "it has been answered"
    assert crawlers.ask(request(YANDEX, ts=TS + 2 * 3600)), "answers grow old"


WANTED = " or ".join(HOSTS["YandexBot"].patterns)


@pytest.mark.parametrize("answer", [found("a.yandex.com"), Answer(HERE, TS + 1, "failed")])
def test_a_finding_that_is_not_proven_is_dropped(answer: Answer) -> None:
    crawlers = Crawlers(dns=True)
    assert crawlers.ask(request(YANDEX))
    assert crawlers.wait(finding())
    assert crawlers.answer(answer) == (None, None)


def test_the_question_of_another_line_is_not_mistaken() -> None:
    crawlers = Crawlers(dns=True)
    assert crawlers.ask(request(YANDEX))
    crawlers.verdict(request(GOOGLEBOT, "198.51.100.4"))
    assert not crawlers.wait(finding("198.51.100.4")), "this one is proven by its network"


def test_whom_new_networks_would_clear_is_asked_after_and_pardoned() -> None:
    crawlers = Crawlers(dns=True)
    assert crawlers.verdict(request(GOOGLEBOT)) == "impostor"
    crawlers.doubt(HERE)
    assert crawlers.take_questions() == [HERE]
    proven, pardoned = crawlers.answer(found("crawl-203-0-113-9.googlebot.com"))
    assert (proven, pardoned) == (None, (HERE, "verified crawler Googlebot (crawl-203-0-113-9.googlebot.com)"))
    assert crawlers.verdict(request(GOOGLEBOT)) == "verified"
    assert crawlers.answer(found("host.example.net")) == (None, None)


def test_who_is_verified() -> None:
    crawlers = Crawlers(dns=True)
    assert crawlers.verified("66.249.66.1", TS) == "verified crawler Googlebot (66.249.66.0/24, published 2026-09-02)"
    assert crawlers.verified("2001:4860:4801:10::/64", TS) is not None
    assert crawlers.verified("66.249.0.0/16", TS) is not None, "a prefix that holds some of it"
    assert crawlers.verified("4.151.71.176", TS) is None, "ChatGPT-User goes where its users send it"
    crawlers.answer(found("a.yandex.com"))
    crawlers.answer(found("b.yandex.com", address="2001:db8::5"))
    for subject in (HERE, "203.0.113.0/24", "2001:db8::/64", "2001:db8::/48"):
        assert "verified crawler YandexBot" in str(crawlers.verified(subject, TS + 2))
        assert crawlers.verified(subject, TS + 1 + TTL_MOST_S) is None
    assert crawlers.verified("198.51.100.0/24", TS + 2) is None
    crawlers.answer(found("google-proxy-1.google.com", address="198.51.100.1"))
    assert crawlers.verified("198.51.100.1", TS + 2) is None


def test_all_is_bounded() -> None:
    crawlers = Crawlers(dns=True)
    for number in range(WAITING_MOST + 5):
        address = f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        if crawlers.ask(request(YANDEX, address)):
            crawlers.wait(finding(address))
    assert len(crawlers.take_questions()) == WAITING_MOST
    for number in range(WAITING_MOST):
        address = f"11.{number >> 16}.{number >> 8 & 255}.{number & 255}"
        crawlers.verdict(request(GOOGLEBOT, address))
        crawlers.doubt(address)
    assert len(crawlers.take_questions()) == DOUBTED_MOST
    for number in range(ANSWERS_MOST + 5):
        crawlers.answer(found("a.yandex.com", address=f"12.{number >> 16}.{number >> 8 & 255}.{number & 255}"))
    assert crawlers.verified("12.0.0.1", TS) is None
    assert crawlers.verified("12.0.0.9", TS) is not None


def test_an_answer_holds_for_a_bounded_time() -> None:
    assert found("a.yandex.com").until_ts == TS + 1 + 3600
    assert Answer(HERE, TS, "found", ("a",), ("a",), 1e9).until_ts == TS + TTL_MOST_S
    assert Answer(HERE, TS, "failed").until_ts == TS + TTL_FAILED_S
    crawlers = Crawlers(dns=True)
    crawlers.answer(found("host.example.net"))
    assert crawlers.verdict(request(YANDEX, ts=TS - 2 * 86400)) == "unknown", "then it may have been another's"


AGENTS = st.sampled_from([GOOGLEBOT, YANDEX, AMAZON, "curl/8"])
ADDRESSES = st.sampled_from([HERE, "198.51.100.4", "66.249.66.1", "2001:db8::5"])
NAMES = st.lists(st.sampled_from(["a.yandex.com", "b.googlebot.com", "c.example.net"]), max_size=2).map(tuple)
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("line"), AGENTS, ADDRESSES, st.integers(0, 9000)),
        st.tuples(st.just("answer"), ADDRESSES, NAMES, st.booleans()),
    ),
    max_size=30,
)


def run(crawlers: Crawlers, steps: list[tuple[object, ...]], first_number: int = 0) -> list[object]:
    said: list[object] = []
    for number, (kind, first, second, third) in enumerate(steps, first_number):
        if kind == "line":
            line = request(str(first), str(second), TS + float(str(third)))
            said.append((crawlers.verdict(line), crawlers.proof(line)))
            if crawlers.ask(line):
                said.append(crawlers.wait(finding(str(second), line.ts)))
        else:
            assert isinstance(second, tuple)
            said.append(crawlers.answer(found(*second, confirmed=bool(third), address=str(first), ts=TS + number)))
    return said


@given(STEPS, st.integers(0, 30))
def test_a_restart_changes_no_verdict(steps: list[tuple[object, ...]], cut: int) -> None:
    whole, first, second = Crawlers(dns=True), Crawlers(dns=True), Crawlers(dns=True)
    said = run(first, steps[:cut])
    second.load(first.dump())
    assert said + run(second, steps[cut:], cut) == run(whole, steps)
    assert set(second.take_questions()) >= set(second._waiting)


def test_other_lists_are_taken_up() -> None:
    crawlers = Crawlers()
    assert crawlers.verdict(request(GOOGLEBOT)) == "impostor"
    published = shipped()
    crawlers.take_up(type(published)(date(2000, 1, 1), published.lists))
    assert crawlers.verdict(request(GOOGLEBOT)) == "unknown"
