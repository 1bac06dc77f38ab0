"""Who of a class of requests is convicted: not whom it only seems to hold, and not a crowd that may come."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from explain_made import START_TS, dossier, fact, request, visits

from tocsin.explain.explain import explain
from tocsin.explain.model import Incident
from tocsin.model import HttpRequest
from tocsin.server_events import LimitReached

BINGBOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"


def only(requests: Sequence[HttpRequest], ts: float = 620) -> Incident:
    saturated = LimitReached(0.0, "apache2", "MaxRequestWorkers", 40)
    report = explain(dossier(requests, [fact(ts, saturated, "AH00161: server reached MaxRequestWorkers")]))
    assert len(report.incidents) == 1, [one.summary for one in report.incidents]
    return report.incidents[0]


def crowd(number: int) -> list[str]:
    return [f"203.{20 + i // 250}.{i % 250}.{1 + i % 200}" for i in range(number)]


def each(
    addresses: Sequence[str], path: str, start: float = 580, end: float = 700, **more: object
) -> list[HttpRequest]:
    """One request of each address, evenly in a span."""
    step = (end - start) / len(addresses)
    return [request(start + i * step, address, path, **more) for i, address in enumerate(addresses)]


def test_a_genuine_crawler_is_spared_in_a_class_of_which_most_claim_to_be_none() -> None:
    crawl = [request(590 + i * 4, "157.55.39.4", f"/produit/{i}/", user_agent=BINGBOT) for i in range(25)]
    attack = [one for i in range(6) for one in each(crowd(200), f"/produit/{i}/", 575 + i, 695 + i)]
    incident = only([*visits(0, 720), *crawl, *attack])
    assert incident.cause in {"distributed-flood", "request-flood"}
    assert len(incident.ban) == 200
    assert "157.55.39.4" in {one.subject for one in incident.spare}


def test_forms_sent_with_a_referer_are_no_followed_links() -> None:
    page = "https://shop.example/login"
    addresses = crowd(32)
    attack = [
        one
        for i in range(20)
        for one in (
            *each(addresses, "/login", 570 + 6 * i, 575 + 6 * i),
            *each(addresses, "/login", 571 + 6 * i, 576 + 6 * i, method="POST", referer=page),
        )
    ]
    incident = only([*visits(0, 720), *attack])
    assert incident.cause == "login-bruteforce"
    assert len(incident.ban) == 32


def test_who_is_answered_and_fetches_no_file_is_no_visitor_where_files_are_logged() -> None:
    site = {"referer": "https://shop.example/"}
    spam = [
        one
        for i in range(8)
        for one in (
            *each(crowd(60), f"/post-{i}/", 570 + 15 * i, 580 + 15 * i, **site),
            *each(crowd(60), "/wp-comments-post.php", 572 + 15 * i, 582 + 15 * i, method="POST", **site),
        )
    ]
    incident = only([*visits(0, 720), *spam])
    assert incident.cause in {"distributed-flood", "request-flood"}
    assert len(incident.ban) == 60


HOOK = "Stripe/1.0 (+https://stripe.com/docs/webhooks)"


def stuffing() -> list[HttpRequest]:
    """Passwords tried at three places at once, by browsers of all kinds."""
    places = ("/wp-login.php", "/my-account/", "/xmlrpc.php")
    return [
        request(560 + i / 5, address, places[i % 3], method="POST", user_agent=f"Mozilla/5.0 (X{i % 40}) Firefox/{i}.0")
        for i, address in enumerate(crowd(360) + crowd(360))
    ]


def test_passwords_tried_at_several_logins_at_once_are_guesses_and_hooks_are_none() -> None:
    hooks = [
        request(600 + 10 * i, f"192.0.2.{i % 3 + 1}", "/?wc-api=wc_stripe", method="POST", user_agent=HOOK, status=503)
        for i in range(10)
    ]
    incident = only([*visits(0, 720), *stuffing(), *hooks])
    assert incident.cause == "login-bruteforce"
    assert set(incident.ban) == set(crowd(360))
    assert not incident.deny
    assert not any(remedy.rule for remedy in incident.remedies)


def forge(addresses: Sequence[str], start: float, end: float) -> list[HttpRequest]:
    """A forge's deep pages, one for each address: no two have more in common than what they are of a repository."""
    step = (end - start) / len(addresses)
    deep = ("commit/{0}", "src/commit/{0}/a/b.c", "blame/commit/{0}/a.c", "raw/commit/{0}/b.c", "compare/{0}...{0}")
    return [
        request(
            start + i * step,
            address,
            f"/{('ana', 'club', 'lea')[i % 3]}/tool-{i % 7}/{deep[i % 5].format(f'{i * 7919:040x}')}",
            user_agent=f"Mozilla/5.0 (X11; rv:{60 + i % 80}.0) Firefox/{60 + i % 80}.0",
        )
        for i, address in enumerate(addresses)
    ]


def git(start: float, end: float) -> list[HttpRequest]:
    """A machine that fetches all the time."""
    path = "/ana/tool-1.git/info/refs?service=git-upload-pack"
    return [request(ts, "192.0.2.9", path, user_agent="git/2.47.1") for ts in range(int(start), int(end), 30)]


def test_who_reads_a_forge_to_death_is_convicted_though_no_two_ask_for_the_same() -> None:
    incident = only([*visits(0, 720), *git(0, 720), *forge(crowd(600), 500, 700)])
    assert incident.cause == "distributed-flood"
    assert set(incident.ban) == set(crowd(600))
    named = incident.suspects[0].name.args
    assert "/*/*/" in str(named["requests"])


def test_what_rose_for_hours_is_held_against_the_days_before_and_all_who_sent_it_are_found() -> None:
    day = 86400.0
    usual = [one for at in (-2 * day, -day, 0.0) for one in (*visits(at, at + 9000, 20.0), *git(at, at + 9000))]
    incident = only([*usual, *forge(crowd(4000), 1000, 8000)], 7900)
    assert incident.cause == "distributed-flood"
    assert set(incident.ban) <= set(crowd(4000))
    assert len(incident.ban) > 3900, "also those who came hours before"
    assert incident.onset <= START_TS + 1900
    assert any("came since" in note.text for note in incident.notes)


def test_where_no_kind_of_a_broad_class_rose_nobody_is_convicted() -> None:
    words = ["".join(chr(97 + int(digit)) for digit in str(i)) for i in range(700)]
    posts = [
        request(560 + i / 5, address, f"/{words[i]}/", method="POST", user_agent=f"Mozilla/5.0 (X{i}) Firefox/{i}.0")
        for i, address in enumerate([*crowd(350), *crowd(350)])
    ]
    incident = only([*visits(0, 720), *posts])
    assert incident.suspects[0].signature is not None
    assert incident.suspects[0].signature.path is None
    assert incident.ban == ()
    assert incident.deny == ()


def test_a_visitor_who_met_a_flood_of_few_addresses_is_not_convicted_of_it() -> None:
    attack = [request(570 + i / 10, f"203.0.113.{i % 6}", f"/post-{i % 30}/") for i in range(1300)]
    met = [request(630, "192.0.2.8", "/post-1/")]
    incident = only([*visits(0, 720), *attack, *met])
    assert set(incident.ban) == {f"203.0.113.{i}" for i in range(6)}
    assert "192.0.2.8" in {one.subject for one in incident.spare}


def test_who_followed_a_link_and_got_no_answer_is_not_convicted_among_a_crowd() -> None:
    attack = [one for i in range(4) for one in each(crowd(90), "/?s=casino", 570 + i, 690 + i)]
    failed = {"status": 504, "referer": "https://shop.example/"}
    incident = only([*visits(0, 720), *attack, request(630, "192.0.2.8", "/?s=casino", **failed)])
    assert len(incident.ban) == 90
    assert "192.0.2.8" in {one.subject for one in incident.spare}


def shared(agent: str) -> list[HttpRequest]:
    return [
        request(580 + i / 6, address, "/essay/", user_agent=agent.format(i=i)) for i, address in enumerate(crowd(600))
    ]


def test_servers_that_preview_what_was_shared_are_no_flood_and_those_of_a_pingback_are() -> None:
    mastodon = "Mastodon/4.3.2 (http.rb/5.2.0; +https://social-{i}.example/) Bot"
    incident = only([*visits(0, 720), *shared(mastodon)])
    assert incident.cause == "legitimate-surge"
    assert incident.ban == ()
    assert incident.deny == ()
    assert only([*visits(0, 720), *shared("WordPress/6.4; https://blog-{i}.example")]).cause == "distributed-flood"


def test_a_crowd_that_had_long_sent_the_same_and_was_answered_belongs_to_the_site() -> None:
    agent = {"method": "POST", "user_agent": "http.rb/5.2.0"}
    usual = each(crowd(120), "/inbox", -3000, 0, **agent)
    rush = [one for i in range(6) for one in each(crowd(130), "/inbox", 580 + i, 700 + i, **agent)]
    incident = only([*visits(-3600, 720), *usual, *rush])
    assert incident.cause == "legitimate-surge"
    assert incident.ban == ()


GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"


def indexed(genuine: int, others: int) -> list[HttpRequest]:
    """A wiki that two crawlers fetch from networks that are theirs, and addresses that nobody published."""
    known = [(f"66.249.66.{i}", GOOGLEBOT) if i % 3 else (f"157.55.39.{i}", BINGBOT) for i in range(1, genuine + 1)]
    unknown = [(address, f"Mozilla/5.0 (X11; rv:{i}.0) Firefox/{i}.0") for i, address in enumerate(crowd(others))]
    return [
        request(575 + 3 * n + i / 100, address, f"/w/?title=t{n * i}", user_agent=agent)
        for n in range(40)
        for i, (address, agent) in enumerate([*known, *unknown])
    ]


def test_beside_genuine_crawlers_that_sent_half_of_a_class_nobody_is_banned_and_fewer_are_spared_alone() -> None:
    incident = only([*visits(0, 720), *indexed(45, 15)])
    assert incident.cause == "crawler"
    assert incident.suspects[0].why.args["crawler"] == "Googlebot"
    assert incident.ban == ()
    assert incident.deny == ()
    assert any("Googlebot" in remedy.apply for remedy in incident.remedies)
    assert set(only([*visits(0, 720), *indexed(15, 45)]).ban) == set(crowd(45))


FACETS = ("brand", "size", "color", "price", "sort", "page", "rating", "sale", "stock", "seller", "fabric", "origin")


def filtered(addresses: Sequence[str]) -> list[HttpRequest]:
    """A shop's shelves, filtered: no two addresses name the same filters in the same order."""
    found = []
    for i, address in enumerate(addresses):
        first, second = FACETS[i % 12], FACETS[(i // 12 + i + 1) % 12]
        agent = f"Mozilla/5.0 (X11; rv:{60 + i % 80}.0) Firefox/{60 + i % 80}.0"
        path = f"/shelf-{chr(97 + i * 7 // 12 % 9) * 3}/?{first}={i}&{second}={i}"
        found.append(request(570 + i / 5, address, path, user_agent=agent))
    return found


def test_filters_in_any_order_are_one_kind_where_none_rises_by_its_first_name() -> None:
    incident = only([*visits(0, 720), *filtered(crowd(600))])
    signature = incident.suspects[0].signature
    assert signature is not None
    assert signature.path is None
    assert set(incident.ban) == set(crowd(600))


CLAUDEBOT = "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; ClaudeBot/1.0; +claudebot@anthropic.com)"


def slow(agent: str, start: float, end: float, first: int = 100) -> list[HttpRequest]:
    """A bot that asks for a page a minute, each from another address of its network."""
    return [
        request(ts, f"216.73.216.{first + i}", f"/ana/tool-1/commit/{i + 7:040x}", user_agent=agent)
        for i, ts in enumerate(range(int(start), int(end), 60))
    ]


@pytest.mark.parametrize(("agent", "spared"), [(CLAUDEBOT, True), ("Mozilla/5.0 (X11) Firefox/140.0", False)])
@pytest.mark.parametrize(("start", "end"), [(0, 480), (-86400 - 1400, -86400 + 1400)])
def test_a_slow_bot_that_came_before_from_its_network_is_spared_in_a_crowd(
    start: float, end: float, agent: str, spared: bool
) -> None:
    usual = [one for at in {start, 0} for one in (*visits(at - 200, at + 2900, 20.0), *git(at - 200, at + 2900))]
    bots = [*slow(agent, start, end), *slow(agent, 560, 700, 1)]
    incident = only([*usual, *bots, *forge(crowd(600), 500, 700)])
    late = {"216.73.216.1", "216.73.216.2", "216.73.216.3"}
    assert incident.cause == "distributed-flood"
    assert set(crowd(600)) <= set(incident.ban)
    assert not late & set(incident.ban) if spared else late <= set(incident.ban)
    assert (late <= {one.subject for one in incident.spare}) == spared
