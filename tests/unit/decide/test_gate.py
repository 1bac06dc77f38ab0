"""The gate: which measure a class of requests allows, given who else sends such requests."""

from __future__ import annotations

import pytest

from tocsin.decide.gate import Measure, Present, measure_of
from tocsin.decide.siege import REFUSED_TIMES, Siege, SiegeSettings, question_of, signature_of, text_of
from tocsin.detect.asked import Asked
from tocsin.detect.contrast import Description
from tocsin.detect.normal import Normal, Request
from tocsin.model import Finding, Signature

T0 = 1_793_000_000.0
XMLRPC: Description = (("method", "POST"), ("path", "/xmlrpc.php"))
SHOP: Description = (("method", "GET"), ("path", "/shop/"))
FINDING = Finding("f", "contrast", "", T0, 9, 60.0)
STRANGERS = {f"198.51.100.{n}": ("agent/1", "agent/2", "agent/3") for n in range(20)}


FEW = {f"192.0.2.{n}": ("git/2.47.1",) for n in range(5)}
MANY = {f"192.0.2.{n}": ("git/2.47.1",) for n in range(12)}
MOSTLY_ONCE = {f"192.0.2.{n}": ("a", "b")[: 1 + (n < 9)] for n in range(100)}


def asked(method: str, path: str, agent: str = "browser") -> Asked:
    return method, path, "", "", agent, "HTTP/1.1", "no referer"


def normal(first: list[tuple[Asked, ...]]) -> Normal:
    known = Normal()
    kind = ("", "GET", "/", "browser", "", "")
    known.learn([Request(asked("GET", "/"), kind, 9.0, 900.0, 0.0, 9.0, {})], first, {}, T0, T0 + 300)
    return known


@pytest.mark.parametrize(
    ("first", "description", "present", "times", "agents"),
    [
        # nobody but strangers ever does it: the first is enough
        ([(asked("GET", "/shop/"),)] * 100, XMLRPC, Present({}, STRANGERS, 50, 0.0, 0.0), 1, False),
        # every visitor begins so: the second by another agent
        ([(asked("GET", "/shop/"),)] * 100, SHOP, Present({}, STRANGERS, 50, 0.1, 0.0), 2, True),
        # visitors with changing agents: so many that none of them made
        (
            [(asked("GET", "/shop/"), asked("GET", "/shop/", "b"))] * 100,
            SHOP,
            Present({}, STRANGERS, 50, 0.1, 0.0),
            3,
            False,
        ),
        # one in a hundred did it once: too many for the first
        ([(asked("POST", "/xmlrpc.php"),)] + [()] * 99, XMLRPC, Present({}, STRANGERS, 50, 0.0, 0.0), 2, True),
        # two of those who did it a moment ago turned out to be visitors
        ([()] * 100, XMLRPC, Present({"a": ("x",), "b": ("x",)}, STRANGERS, 50, 0.1, 0.0), 2, True),
        # one may have been sent to keep the gate shut
        ([()] * 100, XMLRPC, Present({"a": ("x",)}, STRANGERS, 50, 0.04, 0.0), 1, False),
        # most of those who do it are visitors: it is they who are more than usual
        ([()] * 100, XMLRPC, Present({}, STRANGERS, 500, 0.8, 0.0), 0, False),
        # nine of a hundred come twice: a measure that the crowd would not feel
        ([()] * 99 + [(asked("GET", "/shop/"),)], SHOP, Present({}, MOSTLY_ONCE, 50, 0.0, 0.0), 0, False),
        # what a class without a path is left with, once others are met
        ([()] * 100, (("user_agent", "git/2.47.1"),), Present({}, FEW, 50, 0.0, 0.0), 0, False),
        ([()] * 100, (("user_agent", "git/2.47.1"),), Present({}, MANY, 50, 0.0, 0.0), 1, False),
        # more of the programs that come anyway
        ([()] * 100, XMLRPC, Present({}, STRANGERS, 50, 0.0, 0.6), 0, False),
        # strangers who come once, as visitors do, cannot be told from them
        (
            [(asked("GET", "/shop/"),)] * 9,
            SHOP,
            Present({}, {"a": ("x",), "b": ("x",), "c": ("x",)}, 5, 0.0, 0.0),
            0,
            False,
        ),
    ],
)
def test_the_strictest_measure_that_hits_no_visitor(
    first: list[tuple[Asked, ...]], description: Description, present: Present, times: int, agents: bool
) -> None:
    measure = measure_of(description, normal(first), present, SiegeSettings(), purity=0.95, asks=False)
    assert (measure.times, measure.agents) == (times, agents), measure.note
    assert measure.note


def test_a_class_that_is_half_normal_is_not_met_at_the_first_request() -> None:
    measure = measure_of(
        XMLRPC, normal([()] * 100), Present({}, STRANGERS, 50, 0.0, 0.0), SiegeSettings(), purity=0.5, asks=False
    )
    assert measure.times > 1


def test_pages_that_are_normal_can_still_be_asked_for_where_nobody_there_is_a_visitor() -> None:
    known = normal([(asked("GET", "/shop/"),)] * 100)
    once = dict.fromkeys(STRANGERS, ("agent/1",))

    def measure(visiting: float, *, asks: bool = True) -> Measure:
        present = Present({}, once, 50, visiting, 0.0)
        return measure_of(SHOP, known, present, SiegeSettings(), purity=0.95, asks=asks)

    assert (measure(0.0).times, measure(0.0).asks) == (0, True)
    assert not measure(0.2).asks
    assert not measure(0.0, asks=False).asks


@pytest.mark.parametrize(
    ("description", "signature", "text"),
    [
        (XMLRPC, Signature("POST", "/xmlrpc.php"), "POST /xmlrpc.php"),
        ((("method", "GET"), ("query", "s=")), Signature("GET", query="s="), 'GET, query with "s="'),
        ((("method", "GET"),), None, "GET"),
        ((("path", "/*/*/src/*/*"),), Signature(path="/*/*/src/*/*"), "/*/*/src/*/*"),
        ((("path", "/*/*/src/*/*/*"),), None, "/*/*/src/*/*/*"),
        ((*SHOP, ("contact", "no referer")), None, "GET /shop/, no referer"),
        ((("protocol", "HTTP/1.0"),), None, "HTTP/1.0"),
    ],
)
def test_only_what_a_signature_can_say_is_turned_away(
    description: Description, signature: Signature | None, text: str
) -> None:
    assert signature_of(description) == signature
    assert text_of(description) == text


@pytest.mark.parametrize(
    ("description", "asked"),
    [
        (XMLRPC, None),
        (SHOP, Signature("GET")),
        ((("vhost", "shop.example"), ("contact", "no referer")), Signature("GET", vhost="shop.example")),
        ((("method", "HEAD"),), None),
    ],
)
def test_who_can_be_asked_is_asked_about_all_pages(description: Description, asked: Signature | None) -> None:
    assert question_of(description) == asked


def test_who_is_refused_is_not_banned_for_asking_again_as_browsers_do() -> None:
    siege = Siege(SHOP, SHOP, frozenset(SHOP), Signature(), 2, False, FINDING, "", normal=0.0, limit=9.0,
                  turned_away=False, opens=False, told=None, began_ts=0.0, hot_ts=0.0, counted={},
                  spared={})  # fmt: skip
    assert not any(siege.count("192.0.2.1", 20.0 * n, "a", refused=True) for n in range(REFUSED_TIMES - 1))
    assert siege.count("192.0.2.1", 200.0, "a", refused=True)
    assert [siege.count("192.0.2.2", ts, "a") for ts in (0.0, 1.0, 20.0)] == [False, False, True]


def test_who_is_turned_away_before_he_is_served_is_not_banned_at_once() -> None:
    siege = Siege(XMLRPC, XMLRPC, frozenset(XMLRPC), Signature(), 1, False, FINDING, "", normal=0.0, limit=9.0,
                  turned_away=True, opens=False, told=Signature(), began_ts=0.0, hot_ts=0.0, counted={},
                  spared={})  # fmt: skip
    assert siege.count("192.0.2.1", 1.0, "a"), "before the web server was told"
    assert not siege.count("192.0.2.2", 2.0, "a", refused=True)
    assert any(siege.count("192.0.2.2", 2.0 + n, "a", refused=True) for n in range(REFUSED_TIMES))


def test_who_has_shown_the_cookie_is_a_browser_and_who_fetches_a_file_has_not() -> None:
    siege = Siege(SHOP, SHOP, frozenset(SHOP), Signature(), 2, False, FINDING, "", normal=0.0, limit=9.0,
                  turned_away=False, opens=False, told=None, began_ts=0.0, hot_ts=0.0, counted={},
                  spared={})  # fmt: skip
    for who, page in (("192.0.2.1", True), ("192.0.2.2", False)):
        siege.count(who, 0.0, "a", refused=True)
        siege.count(who, 1.0, "a", page=page)
    assert [siege.counted[who].shown for who in ("192.0.2.1", "192.0.2.2")] == [True, False]
