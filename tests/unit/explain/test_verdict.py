"""Outages made by hand, one of each cause: the verdict, whom it bans, and whom it spares."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from explain_made import START_TS, dossier, fact, request, visit, visits
from msgspec import structs

from tocsin.explain.explain import explain
from tocsin.explain.model import Fact, Incident
from tocsin.model import HttpRequest
from tocsin.server_events import (
    AppError,
    Changed,
    JobStarted,
    LimitReached,
    Processes,
    ProcessKilled,
    Sample,
    ServiceState,
    StorageError,
)

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"
REAL_GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
MIB = 1 << 20


def only(requests: Sequence[HttpRequest], facts: Sequence[Fact]) -> Incident:
    report = explain(dossier(requests, facts))
    assert len(report.incidents) == 1, [one.summary for one in report.incidents]
    assert not report.quiet
    return report.incidents[0]


def out_of_memory(ts: float, victim: str = "mariadbd", workers: int = 12) -> list[Fact]:
    """The kernel's report: the database is killed while the workers hold most of the memory."""
    table = (
        Processes("apache2", workers, workers * 40 * MIB, largest_bytes=44 * MIB),
        Processes("mariadbd", 1, 90 * MIB),
    )
    return [
        fact(ts, Sample(0.0, "oom-report", table, limit_bytes=600 * MIB)),
        fact(
            ts + 0.1, ProcessKilled(0.0, victim, 77, "cgroup-oom", rss_bytes=90 * MIB), f"Killed process 77 ({victim})"
        ),
        fact(ts + 0.5, ServiceState(0.0, "mariadb", "died", "code=killed, status=9/KILL")),
        fact(ts + 3, AppError(0.0, "apache2", "error", symptom="database-down"), "Error establishing"),
        fact(ts + 6, ServiceState(0.0, "mariadb", "started")),
    ]


def saturated(ts: float) -> list[Fact]:
    return [
        fact(ts, LimitReached(0.0, "apache2", "MaxRequestWorkers", 40), "AH00161: server reached MaxRequestWorkers")
    ]


def flood(
    start: float, end: float, per_s: float, addresses: Sequence[str], path: str, **more: object
) -> list[HttpRequest]:
    number = int((end - start) * per_s)
    return [request(start + i / per_s, addresses[i % len(addresses)], path, **more) for i in range(number)]


def crowd(number: int, first: int = 20) -> list[str]:
    return [f"203.{first + i // 250}.{i % 250}.{1 + i % 200}" for i in range(number)]


def test_an_xmlrpc_flood_of_two_addresses() -> None:
    attack = flood(300, 360, 20, ["203.0.113.7", "203.0.113.9"], "/xmlrpc.php", method="POST", user_agent=GOOGLEBOT)
    incident = only([*visits(0, 420), *attack], out_of_memory(320))
    assert incident.cause == "request-flood"
    first = incident.suspects[0]
    assert first.signature is not None
    assert (first.signature.method, first.signature.path) == ("POST", "/xmlrpc.php")
    assert set(incident.ban) == {"203.0.113.7", "203.0.113.9"}
    assert abs(incident.onset - START_TS - 300) < 5
    assert incident.confidence >= 0.7
    assert any("MaxRequestWorkers" in remedy.apply for remedy in incident.remedies)
    assert any('path = "/xmlrpc.php"' in remedy.apply for remedy in incident.remedies)


def test_a_slow_flood_of_addresses_that_never_come_back_spares_the_app_that_posts_too() -> None:
    attack = flood(300, 420, 1.5, crowd(180), "/xmlrpc.php", method="POST", user_agent=GOOGLEBOT)
    app = [
        request(ts, "198.51.100.3", "/xmlrpc.php", method="POST", user_agent="wp-android/25.1") for ts in (60, 200, 350)
    ]
    incident = only([*visits(0, 480), *attack, *app], saturated(330))
    assert incident.cause == "distributed-flood"
    assert set(incident.ban) == set(crowd(180))
    assert incident.deny[0].path == "/xmlrpc.php"
    assert "Googlebot" in (incident.deny[0].user_agent or "")


def test_an_app_that_posted_all_the_time_is_no_part_of_the_crowd() -> None:
    attack = [
        request(300 + i / 6, who, "/xmlrpc.php", method="POST", user_agent=f"Mozilla/5.0 (X11; rv:{i % 90}.0) Firefox")
        for i, who in enumerate(crowd(540))
    ]
    app = [
        request(ts, "198.51.100.8", "/xmlrpc.php", method="POST", user_agent="wp-iphone/25.1")
        for ts in range(40, 400, 9)
    ]
    incident = only([*visits(0, 420), *attack, *app], saturated(320))
    assert incident.cause == "distributed-flood"
    assert "198.51.100.8" not in incident.ban
    assert "198.51.100.8" in {one.subject for one in incident.spare}
    assert len(incident.ban) == 540


def test_guesses_at_a_login_spare_the_administrator() -> None:
    attack = flood(300, 390, 6, crowd(90), "/wp-login.php", method="POST")
    admin = [*visit(310, "198.51.100.8", "/wp-admin/"), request(312, "198.51.100.8", "/wp-login.php", method="POST")]
    incident = only([*visits(0, 420), *attack, *admin], saturated(320))
    assert incident.cause == "login-bruteforce"
    assert "198.51.100.8" not in incident.ban
    assert len(incident.ban) == 90


def test_few_searches_each_too_expensive() -> None:
    words = [f"/?s=word{i}" for i in range(40)]
    attack = [request(300 + i * 2, f"203.0.113.{i % 10}", words[i], duration_s=9.0) for i in range(40)]
    others = [
        HttpRequest(**{name: getattr(one, name) for name in one.__struct_fields__} | {"duration_s": 0.2})
        for one in visits(0, 420)
    ]
    incident = only([*others, *attack], saturated(320))
    assert incident.cause == "expensive-requests"
    assert incident.suspects[0].signature is not None
    assert incident.suspects[0].signature.query == "s="


@pytest.mark.parametrize(
    ("addresses", "per_s", "cause"),
    [
        (29, 4.0, "expensive-requests"),
        (12, 4.0, "expensive-requests"),
        (29, 60.0, "request-flood"),
        (200, 60.0, "distributed-flood"),
    ],
)
def test_searches_no_more_than_all_requests_that_a_site_bears_fell_it_by_their_cost(
    addresses: int, per_s: float, cause: str
) -> None:
    attack = [
        request(300 + i / per_s, address, f"/?s=word{i}")
        for i in range(int(80 * per_s))
        for address in (f"203.0.113.{i % addresses}",)
    ]
    incident = only([*visits(0, 420, each_s=0.7), *attack], out_of_memory(320))  # six requests a second
    assert incident.cause == cause
    assert incident.suspects[0].signature is not None
    assert incident.suspects[0].signature.query == "s="


def test_few_dear_requests_keep_workers_as_slow_connections_do() -> None:
    """Where nothing rose, connections that never became requests are inferred; where searches did, those are named."""
    attack = [request(300 + 8 * i, "203.0.113.7", f"/?s=word{i}") for i in range(12)]
    usual = [*visits(0, 300), *visits(300, 420, each_s=20)]
    assert only(usual, [*saturated(302), *saturated(360)]).cause == "slow-connections"
    assert only([*usual, *attack], [*saturated(302), *saturated(360)]).cause == "expensive-requests"


def test_who_tries_again_is_not_taken_for_who_searched() -> None:
    """The front page, at which searches are put, too: what fails there is loaded again and again."""
    attack = flood(300, 380, 2, [f"203.0.113.{i}" for i in range(15)], "/?s=word", status=500)
    again = flood(322, 380, 2.5, [f"198.18.0.{i}" for i in range(9)], "/", status=500)
    usual = [*visits(0, 420), *(request(7.0 * i, f"198.51.100.{i}", "/") for i in range(40))]
    incident = only([*usual, *attack, *again], out_of_memory(304))
    assert incident.cause == "expensive-requests"
    assert incident.suspects[0].signature is not None
    assert incident.suspects[0].signature.query == "s="
    assert set(incident.ban) == {f"203.0.113.{i}" for i in range(15)}


@pytest.mark.parametrize(("addresses", "cause"), [(30, "slow-connections"), (180, "distributed-flood")])
def test_bodies_that_come_drop_by_drop_hold_several_workers_for_each_address(addresses: int, cause: str) -> None:
    who = crowd(addresses)
    held = flood(300, 345, 4, who, "/comment", method="POST", duration_s=35.0)
    others = [structs.replace(one, duration_s=0.2) for one in visits(0, 420)]
    incident = only([*others, *held], saturated(312))
    assert incident.cause == cause
    assert set(incident.ban) == set(who)


def test_a_scraper_that_says_what_it_is() -> None:
    agent = "Scrapy/2.11 (+https://scrapy.org)"
    attack = [request(300 + i / 8, "203.0.113.5", f"/post-{i}/", user_agent=agent) for i in range(500)]
    incident = only([*visits(0, 420), *attack], out_of_memory(330))
    assert incident.cause == "crawler"
    assert incident.suspects[0].signature is not None
    assert "Scrapy" in (incident.suspects[0].signature.user_agent or "")


def test_a_surge_of_visitors_bans_nobody() -> None:
    surge = [one for i in range(400) for one in visit(300 + i / 5, f"203.0.{i // 200}.{i % 200 + 1}", "/post-1/")]
    incident = only([*visits(0, 420), *surge], out_of_memory(330))
    assert incident.cause == "legitimate-surge"
    assert not incident.ban
    assert not incident.deny


def test_a_job_that_takes_the_memory() -> None:
    table = (Processes("restic", 1, 380 * MIB), Processes("apache2", 6, 120 * MIB), Processes("mariadbd", 1, 80 * MIB))
    facts = [
        fact(310, JobStarted(0.0, "cron", "/usr/local/bin/restic backup /srv", "root")),
        *out_of_memory(330)[1:],
        fact(330, Sample(0.0, "oom-report", table, limit_bytes=600 * MIB)),
    ]
    incident = only(visits(0, 420), facts)
    assert incident.cause == "local-job"
    assert incident.suspects[0].process == "restic"
    assert not incident.ban


def test_a_full_disk() -> None:
    facts = [
        fact(300, StorageError(0.0, "mariadb", "full", "/var/lib/mysql/ibtmp1"), "No space left on device"),
        fact(302, ServiceState(0.0, "mariadb", "died")),
        fact(303, ServiceState(0.0, "mariadb", "refused", "Disk full")),
    ]
    incident = only(visits(0, 420), facts)
    assert (incident.cause, incident.suspects[0].kind) == ("disk-full", "storage")
    assert not incident.ban


@pytest.mark.parametrize("how", ["segfault", "refused"])
def test_a_program_that_fails_by_itself(how: str) -> None:
    faults = [fact(300 + i, ProcessKilled(0.0, "apache2", i, "signal", "SEGV")) for i in range(20)]
    if how == "refused":
        faults = [
            fact(299, ServiceState(0.0, "apache2", "stopping")),
            fact(300, ServiceState(0.0, "apache2", "refused", "AH00526: Syntax error on line 3")),
        ]
    incident = only(visits(0, 420), [fact(200, Changed(0.0, "php8.2", "upgrade")), *faults])
    assert (incident.cause, incident.suspects[0].process) == ("crash", "apache2")
    assert not incident.ban


def test_connections_that_never_become_requests() -> None:
    late = [
        request(300 + i, f"203.0.113.{i % 30}", "", method=None, status=408, target="", user_agent=None)
        for i in range(60)
    ]
    incident = only([*visits(0, 300), *late, *visits(380, 480)], saturated(302))
    assert (incident.cause, incident.suspects[0].kind) == ("slow-connections", "connections")
    assert set(incident.ban) == {f"203.0.113.{i}" for i in range(30)}


@pytest.mark.parametrize(("until", "cause"), [(480, "misconfiguration"), (300, "unknown")])
def test_a_limit_is_reached_by_ordinary_load_only_where_that_is_seen(until: float, cause: str) -> None:
    full = LimitReached(0.0, "php-fpm", "pm.max_children", 24)
    incident = only(visits(0, until), [fact(300, full, "WARNING: [pool www] server reached pm.max_children (24)")])
    assert incident.cause == cause
    assert not incident.ban
    assert not incident.deny


@pytest.mark.parametrize(
    ("statuses", "cause"),
    [((499, 502), "distributed-flood"), ((502, 502), "unknown"), ((200, 200), "unknown")],
    ids=["nginx", "apache", "answered"],
)
def test_requests_that_a_frozen_nginx_logs_as_it_goes_on_had_waited(statuses: tuple[int, int], cause: str) -> None:
    """Apache's stamps are of the start, and nginx alone has the status 499."""
    full = LimitReached(0.0, "php-fpm", "pm.max_children", 24)
    waited = [
        request(400 + i / 60, who, "/xmlrpc.php", method="POST", status=statuses[i % 2])
        for i, who in enumerate(crowd(120))
    ]
    facts = [fact(300, full, "WARNING: [pool www] server reached pm.max_children (24)")]
    incident = only([*visits(0, 300), *waited, *visits(402, 480)], facts)
    assert incident.cause == cause


@pytest.mark.parametrize(("before", "cause"), [(0, "distributed-flood"), (40, "unknown")])
def test_what_ends_first_once_all_workers_are_busy_is_what_they_were_busy_with(before: int, cause: str) -> None:
    """nginx logs requests as they end. Where others were answered first, the class came after the limit was reached."""
    full = fact(300, LimitReached(0.0, "php-fpm", "pm.max_children", 16), "server reached pm.max_children (16)")
    answered = flood(300.5, 320, 2, [f"198.18.0.{i}" for i in range(40)], "/news/")[:before]
    held = flood(324, 330, 3, crowd(18), "/xmlrpc.php", method="POST")
    given_up = flood(360, 420, 5, crowd(300, 100), "/xmlrpc.php", method="POST", status=504)
    visitors = [request(320 + i, f"198.19.0.{i}", f"/post-{i}/", status=499) for i in range(20)]
    incident = only([*visits(0, 299), *answered, *held, *given_up, *visitors], [full])
    assert incident.cause == cause


def test_a_quiet_day() -> None:
    noise = [
        fact(50, ServiceState(0.0, "apache2", "reloaded")),
        fact(90, JobStarted(0.0, "cron", "run-parts /etc/cron.hourly")),
        fact(120, AppError(0.0, "apache2", "error", "AH01630", "denied", "203.0.113.4")),
    ]
    crawl = [request(i * 7, "66.249.66.1", f"/post-{i}/", user_agent=REAL_GOOGLEBOT) for i in range(60)]
    probes = [request(100 + i, "203.0.113.4", f"/.env{i}", status=404) for i in range(30)]
    report = explain(dossier([*visits(0, 480), *crawl, *probes], noise))
    assert report.quiet
    assert not report.incidents


def test_an_attack_after_the_crash_is_not_its_cause() -> None:
    """The outage is not covered by the access log; who attacks two days later is named, and convicted of nothing."""
    later = 2.5 * 86400
    attack = flood(
        later, later + 10, 0.8, ["63.251.225.206", "63.251.225.207"], "/xmlrpc.php", method="POST", user_agent=GOOGLEBOT
    )
    facts = [
        fact(0, ProcessKilled(0.0, "apache2", 6898, "oom", rss_bytes=103556 * 1024)),
        fact(1.4, ServiceState(0.0, "mysql", "died", "terminated with status 1")),
        fact(2.8, ServiceState(0.0, "mysql", "failed", "respawning too fast")),
    ]
    report = explain(dossier(attack, facts))
    incident = report.incidents[0]
    assert incident.cause == "unknown"
    assert not incident.ban
    assert not incident.deny
    assert any(link.missing for link in incident.chain)
    assert any("active now" in note.text for note in report.notes)


def test_the_victim_is_not_the_culprit() -> None:
    """The 512 MB machine: the database is killed holding 10 MB, 23 workers hold 445 MB, cron.daily had just begun."""
    table = (Processes("apache2", 23, 113_983 * 4096), Processes("mysqld", 1, 2566 * 4096))
    facts = [
        fact(0, JobStarted(0.0, "cron", "test -x /usr/sbin/anacron || run-parts --report /etc/cron.daily", "root")),
        fact(
            248,
            Sample(0.0, "oom-report", table, memory_bytes=127_144 * 4096, swap_bytes=262140 << 10, swap_free_bytes=0),
        ),
        fact(248, ProcessKilled(0.0, "mysqld", 6536, "oom", rss_bytes=10264 << 10)),
    ]
    incident = only([], facts)
    assert {"misconfiguration", "local-job"} <= {suspect.cause for suspect in incident.suspects}
    assert incident.suspects[0].process == "apache2"
    assert "mysqld" not in {suspect.process for suspect in incident.suspects}
    assert not incident.ban


def test_what_stands_before_each_outage_is_a_habit() -> None:
    """Fifteen requests, no two from one address, before each of three outages on three days: no count sees them."""
    attack = [
        request(day * 86400 + 3500 + i * 5, f"203.{day}.{i}.9", "/xmlrpc.php", method="POST", user_agent=GOOGLEBOT)
        for day in range(3)
        for i in range(15)
    ]
    calm = [one for day in range(3) for one in visits(day * 86400, day * 86400 + 3600, 20.0)]
    limits = [one for day in range(3) for one in saturated(day * 86400 + 3580)]
    report = explain(dossier([*calm, *attack], limits))
    assert [one.cause for one in report.incidents] == ["distributed-flood"] * 3
    assert [len(one.ban) for one in report.incidents] == [15, 15, 15]
    assert min(one.confidence for one in report.incidents) > 0.6
    assert any("habit" in note.text for note in report.notes)
