"""What is remembered of normal traffic: counted right, faded, bounded, and the same after a restart."""

from __future__ import annotations

import pytest

from tocsin.detect import normal as remembered
from tocsin.detect.asked import ALL, Asked
from tocsin.detect.normal import HALF_LIFE_S, Normal, Request, hour_of

T0 = 1_793_000_000.0  # Monday 26 October 2026, 07:33 UTC
AGENT = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"


def asked(request: str, agent: str = AGENT, contact: str = "no referer") -> Asked:
    method, _, target = request.partition(" ")
    path, _, query = target.partition("?")
    return method, path, query, "", agent, "HTTP/1.1", contact


def request(text: str, strangers: float = 0.0, visitors: float = 0.0, agent: str = AGENT, **sources: float) -> Request:
    of = asked(text, agent)
    kind = ("", of[0], of[1], "Firefox", "HTTP/1.1", "no referer")
    return Request(
        of, kind, strangers, visitors, 0.0, strangers, {f"192.0.2.{who[1:]}": ts for who, ts in sources.items()}
    )


def learnt(chapters: int = 12) -> Normal:
    """An hour in which strangers posted twice in five minutes, and 20 visitors came by the shop."""
    normal = Normal()
    for chapter in range(chapters):
        ts = T0 + 300 * chapter
        visitors = [(asked("GET /shop/"),) for _ in range(20)]
        requests = [request("POST /xmlrpc.php", 2, s7=ts), request("GET /shop/", 0, 60)]
        normal.learn(requests, visitors, {ALL: 2.0}, ts, ts + 300)
    return normal


def test_it_knows_after_a_quarter_of_an_hour_with_visitors() -> None:
    assert not learnt(2).learnt
    assert learnt(4).learnt
    silent = Normal()
    silent.learn([request("POST /xmlrpc.php", 9)] * 9, [], {}, T0, T0 + 300)
    assert not silent.learnt


def test_what_is_expected_is_what_came() -> None:
    normal = learnt()
    assert normal.expected(("path", "/xmlrpc.php"), T0, 300) == pytest.approx(2, rel=0.01)
    assert normal.expected(("path", "/other"), T0, 300) == 0
    assert normal.rate_of((("method", "POST"), ("path", "/xmlrpc.php")), T0, 300) == pytest.approx(2, rel=0.01)


def test_far_above_is_above_the_mean_and_above_the_peak() -> None:
    normal = learnt()
    assert normal.limit(("path", "/xmlrpc.php"), T0, 4, 15) == pytest.approx(15 + 4 * 0.4, rel=0.01)
    normal.learn([], [], {("path", "/xmlrpc.php"): 40.0}, T0 + 3600, T0 + 3900)
    assert normal.limit(("path", "/xmlrpc.php"), T0, 4, 15) == pytest.approx(15 + 1.5 * 40, rel=0.01)


def test_visitors_are_remembered_by_what_they_did_before_they_were_told_for_visitors() -> None:
    normal = learnt(4)
    shop = (("method", "GET"), ("path", "/shop/"))
    assert normal.share_of_visitors(shop, 1) == 1.0
    assert normal.share_of_visitors(shop, 2) == 0.0
    assert normal.share_of_visitors((("method", "POST"),), 1) == 0.0
    twice = (asked("GET /shop/"), asked("GET /shop/"))
    other = (asked("GET /shop/"), asked("GET /shop/", "another agent/1.0"))
    normal.learn([], [twice, other], {}, T0 + 1200, T0 + 1500)
    assert normal.share_of_visitors(shop, 2) == pytest.approx(2 / 82)
    assert normal.share_of_visitors(shop, 2, agents=True) == pytest.approx(1 / 82)


def test_who_asked_for_it_is_known_since_when_he_first_did() -> None:
    normal = learnt()
    assert normal.known_sources((("method", "POST"), ("path", "/xmlrpc.php"))) == {"192.0.2.7": T0}
    assert normal.known_sources((("user_agent", AGENT),)) == {"192.0.2.7": T0}
    assert normal.known_sources((("user_agent", "git/2.47.1"),)) == {}
    no_referer = (("contact", "no referer"),)
    assert normal.known_sources(no_referer) == {"192.0.2.7": T0}, "nobody else's address is known"
    assert normal.known_sources((("contact", "referer"),)) == {}


def test_a_program_that_asks_for_the_like_at_other_times_is_familiar() -> None:
    normal, sync = Normal(), "Mozilla/5.0 (Linux) mirall/3.13.0"
    kind = ("", "PROPFIND", "/remote.php/dav/files/ana/", "mirall", "HTTP/1.1", "no referer")
    seen = Request(asked("PROPFIND /remote.php/dav/files/ana/", sync), kind, 9.0, 0.0, 0.0, 9.0, {})
    normal.learn([seen], [], {}, T0, T0 + 300)

    def familiar(text: str, agent: str, ts: float = T0 + 1000) -> bool:
        return normal.is_familiar(request(text, agent=agent), ts)

    assert familiar("PROPFIND /remote.php/dav/files/lea/", sync)
    assert not familiar("PROPFIND /remote.php/dav/files/lea/", sync, T0 + 800), "it has come but now"
    assert not familiar("POST /remote.php/dav/files/lea/", sync)
    assert not familiar("PROPFIND /remote.php/dav/files/ana/", AGENT), "anybody says that he is a browser"
    assert not familiar("PROPFIND /elsewhere/", sync)


def test_who_asked_for_the_most_is_the_last_to_make_room() -> None:
    normal = Normal()
    often = [request(f"GET /{name}.git/info/refs", 1, s9=T0) for name in "abc"]
    normal.learn([*often, request("GET /a.git/info/refs", 1, s200=T0)], [], {}, T0, T0 + 300)
    assert list(normal.known_sources((("method", "GET"),))) == ["192.0.2.200", "192.0.2.9"]


def test_what_was_learnt_fades() -> None:
    normal = learnt()
    before = normal.seconds
    normal.learn([], [], {}, T0 + 4000, T0 + 4300)
    assert normal.seconds == pytest.approx(before * 0.5 ** (300 / HALF_LIFE_S) + 300)


def test_hours_of_the_week_begin_on_monday() -> None:
    assert hour_of(1_792_972_800) == 0  # Monday 26 October 2026, 0:00 UTC
    assert hour_of(1_792_972_800 - 1) == 167


def test_a_busy_hour_expects_more() -> None:
    normal = learnt(72)  # six hours, the same number in each
    assert normal.hour_factor(T0) == pytest.approx(1, rel=0.1)
    noon_ts = T0 + 5 * 3600
    for chapter in range(12):
        ts = noon_ts + 300 * chapter
        normal.learn([request("GET /a", 40)], [], {}, ts, ts + 300)
    assert normal.hour_factor(noon_ts + 600) > 1.5
    assert normal.hour_factor(T0 + 3600) < 1


def test_it_is_bounded_and_says_what_made_room() -> None:
    normal = Normal()
    for chapter in range(4):
        many = [request(f"GET /{chapter}/{n:x}", 1, agent=f"agent{n}/1") for n in range(3000)]
        normal.learn(
            many, [(asked(f"GET /{n}"),) for n in range(3000)], {}, T0 + 300 * chapter, T0 + 300 * chapter + 300
        )
    assert len(normal.features) <= remembered.FEATURES_KEPT
    assert len(normal.classes) <= remembered.CLASSES_KEPT
    assert len(normal.samples) == remembered.SAMPLES_KEPT
    assert len(normal.visitors) == remembered.VISITORS_KEPT
    assert normal.evicted > 0


def test_who_seldom_posts_does_not_make_room_for_many_pages() -> None:
    normal = learnt()
    for chapter in range(4):
        pages = [request(f"GET /{chapter}/{n:x}", 1) for n in range(1000)]
        normal.learn(pages, [], {}, T0 + 9000 + 300 * chapter, T0 + 9300 + 300 * chapter)
    assert normal.known_sources((("method", "POST"), ("path", "/xmlrpc.php"))) == {"192.0.2.7": T0}


def test_distinct_addresses_are_counted_within_a_few_percent() -> None:
    normal = Normal()
    for chapter in range(20):
        sources = {f"10.{chapter}.{n >> 8}.{n & 255}": T0 for n in range(50)}
        of = request("GET /a", 50)
        normal.learn([Request(of.asked, of.kind, 50.0, 0.0, 0.0, 50.0, sources)], [], {}, T0, T0 + 300)
    (one,) = normal.classes.values()
    assert one.distinct() == pytest.approx(1000, rel=0.07)
    assert len(one.sources) == remembered.SOURCES_KEPT


def test_a_restart_forgets_nothing() -> None:
    first, second = learnt(), Normal()
    second.load(first.dump())
    assert second.dump() == first.dump()
    for one in (first, second):
        one.learn([request("POST /login", 3)], [(asked("GET /x"),)], {ALL: 3.0}, T0 + 9000, T0 + 9300)
    assert second.dump() == first.dump()
