"""The crowd's bench: its traffic is what it says, and its score counts what a measure stops and nothing else."""

from __future__ import annotations

import sys
from collections import Counter
from functools import cache
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "bench"))

from crowd_force import Force, fits, subject_of
from crowd_score import Run, score, seen
from crowd_site import Line, published
from crowd_traffic import Case, make_case
from tocsin.model import Decision, Signature


@cache
def case_of(kind: str, seed: int = 1) -> Case:
    return make_case(kind, seed)


def attack(case: Case) -> list[Line]:
    return [line for line in case.lines if line.label == "attack"]


def line(text: str, ts: float, who: str = "192.0.2.7", label: str = "attack") -> Line:
    return Line(ts, text, who, label, ts + 0.5)


def ban(name: str, subject: str, start_ts: float, end_ts: float | None, **more: object) -> Decision:
    return Decision(name, "ban", subject, start_ts, end_ts, "r", None, **more)  # type: ignore[arg-type]


# -- traffic -----------------------------------------------------------------------------------------------------------


def test_the_same_seed_draws_the_same_log() -> None:
    assert make_case("h", 4).lines == case_of("h", 4).lines
    assert make_case("h", 5).lines != case_of("h", 4).lines


@pytest.mark.parametrize("kind", ["a", "b", "c", "e"])
def test_all_lines_are_requests_in_the_order_of_writing(kind: str) -> None:
    case = case_of(kind)
    force = Force(with_vhost=case.machine.with_vhost)
    for each in case.lines:
        request = force.request(each)
        assert request.source_ip == each.who
        assert request.ts == int(each.ts)
    assert [each.end_ts for each in case.lines] == sorted(each.end_ts for each in case.lines)
    assert case.attack_ts - case.lines[0].ts > 7200


def test_false_googlebots_come_once_from_forty_networks() -> None:
    case = case_of("a")
    requests = attack(case)
    assert set(Counter(each.who for each in requests).values()) == {1}
    assert len({each.who.rpartition(".")[0] for each in requests}) == 40
    assert sum(each.ts < case.attack_ts + 120 for each in requests) == 1000
    nets = [ip_network(text) for text in published("google-googlebot")]
    real = {each.who for each in case.lines if each.label == "googlebot"}
    assert real
    assert all(any(ip_address(who) in net for net in nets) for who in real)
    assert not any(ip_address(each.who) in net for each in requests for net in nets)


def test_browsers_share_no_prefix_and_logins_come_once() -> None:
    who = [each.who for each in attack(case_of("b"))]
    assert len({address.rsplit(".", 2)[0] for address in who}) == len(who) == 5000
    posts = [each.who for each in attack(case_of("c")) if '"POST ' in each.text]
    assert len(set(posts)) == len(posts) == 5000


# -- what is in force --------------------------------------------------------------------------------------------------


def test_a_measure_counts_from_when_it_was_heard_until_it_is_lifted() -> None:
    force = Force(with_vhost=False)
    force.take(ban("b1", "192.0.2.7", 100.0, 500.0), 104.0)
    text = '192.0.2.7 - - [01/Nov/2026:10:00:00 +0000] "GET / HTTP/1.1" 200 5 "-" "x"'
    assert force.stopping(line(text, 103.9)) is None
    assert force.stopping(line(text, 104.0)) is not None
    assert force.stopping(line(text, 104.0, "192.0.2.8")) is None
    force.take(Decision("l1", "lift", "192.0.2.7", 200.0, None, "r", None, lifts="b1"), 200.0)
    assert force.stopping(line(text, 199.0)) is not None
    assert force.stopping(line(text, 200.0)) is None


def test_what_is_held_stops_nobody() -> None:
    force = Force(with_vhost=False)
    force.take(ban("b1", "192.0.2.7", 0.0, None, held="observing"), 0.0)
    assert force.stopping(line("", 1.0)) is None
    assert force.held == {"observing": 1}


def test_prefixes_and_ipv6() -> None:
    force = Force(with_vhost=False)
    force.take(ban("b1", "198.51.100.0/24", 0.0, 100.0), 0.0)
    force.take(ban("b2", "2001:db8:1:2::/64", 0.0, 100.0), 0.0)
    stopped = ("198.51.100.9", "2001:db8:1:2:3:4:5:6")
    assert all(force.stopping(line("", 1.0, who)) for who in stopped)
    assert not any(force.stopping(line("", 1.0, who)) for who in ("198.51.101.9", "2001:db8:1:3::1"))


def test_a_class_spares_whom_it_names() -> None:
    force = Force(with_vhost=True)
    signature = Signature(method="POST", path="/xmlrpc.php", vhost="a.example", user_agent="Chrome")
    spare = (subject_of("2001:db8::1"),)
    force.take(Decision("d1", "deny-request", "", 0.0, 600.0, "contrast", None, signature=signature, spare=spare), 10.0)

    def stopped(request: str, who: str = "192.0.2.7", host: str = "a.example", agent: str = "Chrome/9") -> bool:
        text = f'{host}:443 {who} - - [01/Nov/2026:10:00:00 +0000] "{request} HTTP/1.1" 200 5 "-" "{agent}"'
        return force.stopping(line(text, 11.0, who)) is not None

    assert stopped("POST /xmlrpc.php")
    assert stopped("POST /xmlrpc.php?rsd")
    assert not stopped("GET /xmlrpc.php")
    assert not stopped("POST /blog/xmlrpc.php")
    assert not stopped("POST /xmlrpc.php", host="b.example")
    assert not stopped("POST /xmlrpc.php", agent="Firefox")
    assert not stopped("POST /xmlrpc.php", "2001:db8::99")


@pytest.mark.parametrize(
    ("signature", "request_line", "matches"),
    [
        (Signature(path="/search/*/"), "GET /search/some%20words/", True),
        (Signature(path="/search/*/"), "GET /search/some/more/", False),
        (Signature(query="s="), "GET /?s=x", True),
        (Signature(query=""), "GET /?s=x", False),
        (Signature(query=""), "GET /", True),
    ],
)
def test_classes_by_path_and_query(signature: Signature, request_line: str, *, matches: bool) -> None:
    text = f'192.0.2.7 - - [01/Nov/2026:10:00:00 +0000] "{request_line} HTTP/1.1" 200 5 "-" "x"'
    assert fits(signature, Force(with_vhost=False).request(line(text, 0.0))) is matches


# -- figures -----------------------------------------------------------------------------------------------------------


def run_with(case: Case, *decisions: tuple[Decision, float]) -> Run:
    force = Force(with_vhost=case.machine.with_vhost)
    for decision, now_ts in decisions:
        force.take(decision, now_ts)
    return Run(case, [force.stopping(each) for each in case.lines], force)


def test_nothing_stopped() -> None:
    figures = score(run_with(case_of("b")))
    assert (figures.requests, figures.served_before, figures.first_s, figures.most_s) == (5000, 5000, None, None)
    assert (figures.from_90, figures.hit, figures.never, figures.longest_s) == (0.0, 0, {}, 0.0)


def test_a_class_denied_after_a_minute_and_who_else_it_hits() -> None:
    case = case_of("b")
    deny_ts = case.attack_ts + 60
    signature = Signature(method="POST", path=str(case.truth["path"]))
    decision = Decision("d1", "deny-request", "", deny_ts, deny_ts + 9000, "contrast", None, signature=signature)
    figures = score(run_with(case, (decision, deny_ts)))
    assert figures.from_90 == figures.from_120 == 1.0
    assert figures.served_before == sum(each.ts < deny_ts for each in attack(case))
    assert figures.first_s == figures.most_s
    assert 58 < (figures.first_s or 0) < 62
    assert figures.hit == 0
    apps = [each for each in case.lines if each.label == "app" and each.ts >= deny_ts]
    assert figures.never == {"app": len(apps)}


def test_a_visitor_who_is_banned() -> None:
    case = case_of("b")
    first = next(each for each in case.lines if each.label == "visitor" and each.ts > case.attack_ts)
    subject = subject_of(first.who)
    figures = score(run_with(case, (ban("b1", subject, first.ts, first.ts + 3600), first.ts)))
    assert figures.hit == 1
    assert figures.longest_s == 3600
    assert figures.bans == {"visitor": 1}
    assert figures.from_90 == 0.0


def test_what_guard_sees_of_what_is_stopped() -> None:
    text = '192.0.2.7 - - [01/Nov/2026:10:00:00 +0000] "POST /x" 200 674 "-" "200 "'
    banned, denied = Force(with_vhost=False), Force(with_vhost=False)
    banned.take(ban("b1", "192.0.2.7", 0.0, None), 0.0)
    denied.take(Decision("d1", "deny-request", "", 0.0, 9.0, "contrast", None, signature=Signature(method="POST")), 0.0)
    one = line(text, 1.0)
    assert seen([one], [banned.answered(one)]) == []
    assert seen([one], [denied.answered(one)]) == [text.replace("200 674", "429 226")]
    assert seen([one], [(None, False)]) == [text]


@pytest.mark.parametrize(
    ("label", "request_line", "agent", "shown"),
    [
        ("visitor", "GET /x", "Mozilla/5.0 (X11; Linux)", ["429 226", "200 674", "200 674"]),
        ("attack", "GET /x", "Mozilla/5.0 (X11; Linux)", ["429 226", "429 226"]),
        ("attack", "GET /x", "python-requests/2.32.3", ["200 674", "200 674"]),
        (
            "googlebot",
            "GET /x",
            "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)",
            ["200 674"] * 2,
        ),
        ("visitor", "GET /x.css", "Mozilla/5.0 (X11; Linux)", ["200 674", "200 674"]),
        ("visitor", "POST /x", "Mozilla/5.0 (X11; Linux)", ["200 674", "200 674"]),
    ],
)
def test_who_is_asked_comes_again_where_it_is_a_browser(
    label: str, request_line: str, agent: str, shown: list[str]
) -> None:
    force = Force(with_vhost=False)
    force.take(Decision("a1", "limit", "", 0.0, 9.0, "contrast", None, signature=Signature(method="GET")), 0.0)
    text = f'192.0.2.7 - - [01/Nov/2026:10:00:00 +0000] "{request_line} HTTP/1.1" 200 674 "-" "{agent}"'
    both = [line(text, 1.0, label=label), line(text, 2.0, label=label)]
    answers = [force.answered(one) for one in both]
    assert [each.split('" ')[1][:7] for each in seen(both, answers)] == shown
