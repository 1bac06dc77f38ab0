"""Who only looks like the cause: clients that try again, apps, the site itself, a proxy before it, readers."""

from __future__ import annotations

import pytest
from explain_made import START_TS, dossier, fact, request, visit, visits
from msgspec import structs

from tocsin.explain.explain import explain
from tocsin.explain.model import Fact, Incident
from tocsin.model import HttpRequest, Signature
from tocsin.server_events import AppError, LimitReached, Processes, ProcessKilled, Sample, ServiceState

APP = "okhttp/4.9.3"


def only(requests: list[HttpRequest], facts: list[Fact]) -> Incident:
    report = explain(dossier(requests, facts))
    assert len(report.incidents) == 1, [one.summary for one in report.incidents]
    return report.incidents[0]


def polls(start: float, end: float, each_s: float, status: int = 200) -> list[HttpRequest]:
    number = int((end - start) / each_s)
    return [
        request(start + i * each_s, "203.0.113.23", "/api/status", user_agent=APP, status=status) for i in range(number)
    ]


def database_lost(ts: float, *states: ServiceState) -> list[Fact]:
    errors = [
        fact(ts + 3 + 7 * i, AppError(0.0, "php", "error", symptom="database-down"), "Connection refused")
        for i in range(20)
    ]
    return [*(fact(ts + i, state) for i, state in enumerate(states)), *errors]


def test_retries_after_the_database_was_stopped_are_an_effect() -> None:
    requests = [*visits(0, 600), *polls(0, 600, 60), *polls(605, 900, 0.5, status=500)]
    stopped = [ServiceState(0.0, "mariadb", "stopping"), ServiceState(0.0, "mariadb", "stopped")]
    incident = only(requests, database_lost(600, *stopped))
    assert incident.cause == "unknown"
    assert incident.suspects[0].process == "mariadb"
    assert incident.ban == ()
    assert incident.deny == ()
    assert incident.chain[0].ts == START_TS + 600
    assert any(remedy.apply == "systemctl restart mariadb" for remedy in incident.remedies)


def test_retries_after_the_database_aborted_are_an_effect() -> None:
    requests = [*visits(0, 600), *polls(0, 600, 60), *polls(604, 900, 0.5, status=500)]
    aborted = fact(600, ProcessKilled(0.0, "mysqld", 77, "signal", signal="ABRT"))
    states = [
        ServiceState(0.0, "mariadb", "died", "code=killed, status=6/ABRT"),
        ServiceState(0.0, "mariadb", "failed"),
    ]
    incident = only(requests, [aborted, *database_lost(600, *states)])
    assert incident.cause == "crash"
    assert incident.confidence >= 0.8
    assert incident.ban == ()


def test_a_flood_that_came_before_the_database_was_lost_is_no_effect() -> None:
    requests = [*visits(0, 600), *polls(540, 603, 0.05), *polls(603, 700, 0.05, status=500)]
    incident = only(requests, database_lost(600, ServiceState(0.0, "mariadb", "died", "code=killed, status=9/KILL")))
    assert incident.cause == "request-flood"
    assert incident.ban == ("203.0.113.23",)


@pytest.mark.parametrize(("paths", "cause"), [(1, "request-flood"), (200, "crawler")])
def test_a_library_is_a_crawler_only_where_it_crawls(paths: int, cause: str) -> None:
    asked = [request(600 + i / 20, "203.0.113.23", f"/p/{i % paths}/", user_agent=APP) for i in range(1500)]
    facts = [fact(640, ProcessKilled(0.0, "mariadbd", 77, "oom"), "Killed process 77")]
    assert only([*visits(0, 680), *asked], facts).cause == cause


def jobs(start: float, end: float, each_s: float, address: str = "203.0.113.80") -> list[HttpRequest]:
    """A WordPress that calls itself."""
    return [
        request(
            start + i * each_s,
            address,
            f"/wp-cron.php?doing_wp_cron={i}.5",
            method="POST",
            user_agent="WordPress/6.6.2; https://shop.example",
        )
        for i in range(int((end - start) / each_s))
    ]


OUT_OF_MEMORY = [fact(640, ProcessKilled(0.0, "mariadbd", 77, "oom"), "Killed process 77")]


def test_a_site_that_calls_itself_is_mended_and_not_banned() -> None:
    incident = only([*visits(0, 680), *jobs(0, 560, 50), *jobs(560, 680, 0.1)], OUT_OF_MEMORY)
    assert incident.cause == "local-job"
    assert incident.ban == ()
    assert incident.deny == ()
    assert [one.subject for one in incident.spare] == ["203.0.113.80"]
    assert any("DISABLE_WP_CRON" in remedy.apply for remedy in incident.remedies)
    assert not any(remedy.rule for remedy in incident.remedies)


def test_whoever_only_says_that_it_is_the_site_is_banned() -> None:
    requests = [*visits(0, 680), *jobs(0, 560, 50), *jobs(560, 680, 0.1, "203.0.113.66")]
    incident = only(requests, OUT_OF_MEMORY)
    assert incident.cause == "request-flood"
    assert incident.ban == ("203.0.113.66",)


@pytest.mark.parametrize("behind", [True, False])
def test_what_stands_before_the_site_is_not_banned(behind: bool) -> None:
    edges = "198.51" if behind else "203.20"
    attack = [
        request(580 + i / 10, f"{edges}.{i % 400 // 2}.{i % 400 % 2 + 1}", "/xmlrpc.php", method="POST")
        for i in range(900)
    ]
    incident = only([*visits(0, 680), *attack], OUT_OF_MEMORY)
    assert incident.cause == "distributed-flood"
    assert incident.deny[0].path == "/xmlrpc.php"
    assert (incident.ban == ()) == behind
    assert any(remedy.rule for remedy in incident.remedies) != behind
    assert any("198.51.0.0/16" in str(note.args.get("network")) for note in incident.notes) == behind


def test_a_service_that_fails_after_it_was_stopped_to_be_started_again_is_what_failed() -> None:
    states = [ServiceState(0.0, "php-fpm", "stopping"), ServiceState(0.0, "php-fpm", "stopped")]
    faults = [fact(601 + i, ProcessKilled(0.0, "php-fpm8.2", i, "signal", signal="SEGV")) for i in range(3)]
    requests = [*visits(0, 600), *polls(603, 700, 0.5, status=502)]
    assert only(requests, [*database_lost(600, *states), *faults]).cause == "crash"


NODE = [
    fact(600, Sample(0.0, "oom-report", (Processes("node", 1, 680 << 20), Processes("nginx", 2, 9 << 20)), 1 << 30)),
    fact(600, ProcessKilled(0.0, "node", 1444, "oom", rss_bytes=680 << 20), "Killed process 1444 (node)"),
]
RESTARTED = [
    fact(601, ServiceState(0.0, "app", "died", "code=killed, status=9/KILL")),
    fact(602, ServiceState(0.0, "app", "restarting")),
]
MISSED = [fact(601 + i, AppError(0.0, "nginx", "error", symptom="backend-down"), "refused") for i in range(9)]


@pytest.mark.parametrize(("more", "process"), [(RESTARTED, "app"), (MISSED, "node"), ([*RESTARTED, *MISSED], "app")])
def test_a_service_that_outgrows_the_memory_is_no_job(more: list[Fact], process: str) -> None:
    incident = only(visits(0, 680), [*NODE, *more])
    assert incident.cause == "misconfiguration"
    assert incident.suspects[0].process == process
    assert not any("systemd-run" in remedy.apply for remedy in incident.remedies)
    assert any(f"{process}: systemctl edit\n[Service]\nMemoryMax=" in remedy.apply for remedy in incident.remedies)


def test_of_an_interpreter_nothing_is_claimed_that_no_line_shows() -> None:
    incident = only(visits(0, 680), NODE)
    assert incident.cause == "local-job"
    assert incident.confidence < 0.5
    assert "not known" in incident.suspects[0].why.text


def readers(query: str, follow_up: int, agents: int = 5) -> list[HttpRequest]:
    """A crowd that follows one link, of which one in `follow_up` goes on, on a site whose files are elsewhere."""
    usual = [request(3.0 * i, f"198.{i % 90}.7.{i % 250 + 1}", f"/post-{i % 20}/") for i in range(200)]
    found = []
    for i in range(600):
        who, agent = f"203.{i % 50}.{i % 40}.9", f"Mozilla/5.0 (X11; Linux x86_64; rv:{i % agents}) Gecko Firefox"
        found.append(request(580 + i / 8, who, f"/offer/{query}", user_agent=agent))
        if i % follow_up == 0:
            more = {"user_agent": agent, "referer": "https://shop.example/offer/"}
            found += [request(582 + i / 8 + n, who, f"/post-{n}/", **more) for n in (1, 2)]
    return [*usual, *found]


def test_readers_of_a_letter_are_no_flood_where_files_are_elsewhere() -> None:
    incident = only(readers("?utm_source=letter", 15), OUT_OF_MEMORY)
    assert incident.cause == "legitimate-surge"
    assert incident.ban == ()
    assert incident.deny == ()


def test_a_crowd_that_may_be_readers_is_not_convicted() -> None:
    incident = only(readers("", 25), OUT_OF_MEMORY)
    assert incident.cause == "unknown"
    assert incident.ban == ()


@pytest.mark.parametrize(("follow_up", "agents"), [(10**6, 5), (15, 1)])
def test_a_crowd_of_which_nobody_goes_on_or_all_are_alike_is_a_flood(follow_up: int, agents: int) -> None:
    assert only(readers("?utm_source=letter", follow_up, agents), OUT_OF_MEMORY).cause == "distributed-flood"


def test_a_visitor_who_asks_for_the_same_is_not_quoted_as_proof() -> None:
    attack = [request(300 + 2 * i, f"203.0.113.{i % 10}", f"/?s=word{i}", duration_s=9.0) for i in range(40)]
    searchers = [each for ts in (299, 301) for each in visit(ts, f"192.0.2.{ts - 200}", "/?s=yeast")]
    usual = [structs.replace(one, duration_s=0.2) for one in (*visits(0, 420), *searchers)]
    incident = only([*usual, *attack], [fact(320, LimitReached(0.0, "apache", "MaxRequestWorkers"))])
    assert incident.suspects[0].signature == Signature("GET", "/", query="s=")
    quoted = [link.text for link in incident.chain if link.source == "access.log"]
    assert quoted == ["GET /?s=word0", "GET /?s=word1"]
    assert {one.subject for one in incident.spare} == {"192.0.2.99", "192.0.2.101"}


def clones(number: int, addresses: int, agent: str = "git/2.51.2", *, packed: int = 1) -> list[HttpRequest]:
    """Machines that clone a repository, each by a new connection; no more than one in `packed` is answered a pack."""
    found = []
    for i in range(number):
        who, at, more = f"203.{i % addresses % 50}.{i % addresses}.7", 580 + i * 90 / number, {"user_agent": agent}
        found.append(request(at, who, "/ana/tool.git/info/refs?service=git-upload-pack", **more))
        status = 200 if i % addresses % packed == 0 else 403
        found.append(request(at + 1, who, "/ana/tool.git/git-upload-pack", method="POST", status=status, **more))
    return found


@pytest.mark.parametrize(("number", "addresses"), [(600, 200), (900, 12), (900, 1)])
def test_machines_that_clone_a_repository_are_no_attack(number: int, addresses: int) -> None:
    incident = only([*visits(0, 680), *clones(number, addresses)], OUT_OF_MEMORY)
    assert incident.cause == "legitimate-surge"
    assert "git's own" in incident.suspects[0].why.text
    assert incident.ban == ()
    assert incident.deny == ()
    assert not any(remedy.rule for remedy in incident.remedies)


def test_who_asks_a_repository_for_packs_and_gets_none_does_not_clone_it() -> None:
    incident = only([*visits(0, 680), *clones(900, 200, packed=5)], OUT_OF_MEMORY)
    assert incident.cause == "distributed-flood"
    assert len(incident.ban) == 200


SYNAPSE = "Synapse (bot; +https://github.com/matrix-org/synapse)"


def shared(agent: str, readers: int, readers_before: int = 0, page: str = "/ana/tool/issues/7") -> list[HttpRequest]:
    """A crowd that fetches one page, once each, and people who read it, with its files."""
    usual = [one for i in range(readers_before) for one in visit(2.0 * i, f"192.0.{i // 200}.{i % 200}", page)]
    read = [one for i in range(readers) for one in visit(582 + i, f"192.0.{100 + i // 200}.{i % 200}", page)]
    crowd = [request(580 + i / 7, f"203.{i % 50}.{i % 40}.{i % 90}", page, user_agent=agent) for i in range(600)]
    return [*visits(0, 680), *usual, *read, *crowd]


def test_programs_that_fetch_what_was_shared_are_no_flood_where_people_read_it() -> None:
    incident = only(shared(SYNAPSE, 60), OUT_OF_MEMORY)
    assert incident.cause == "legitimate-surge"
    assert "read what it belongs to" in incident.suspects[0].why.text
    assert incident.ban == ()
    assert incident.deny == ()


def test_a_release_is_fetched_in_many_ways_and_is_one_thing() -> None:
    ways = (
        *(("/ana/tool/releases/download/v2/tool.tar.gz", "curl/8.14.1"), ("/ana/tool/archive/v2.zip", "Wget/1.25.0")),
        *(("/ana/tool/releases/download/v2/tool.deb", "Homebrew/4.6.20"), ("/ana/tool.git/info/refs", "git/2.47.1")),
    )
    fetched = [
        request(580 + i / 7, f"203.{i % 50}.{i % 40}.{i % 90}", ways[i % 4][0], user_agent=ways[i % 4][1])
        for i in range(600)
    ]
    read = [one for i in range(60) for one in visit(582 + i, f"192.0.100.{i}", "/ana/tool/releases")]
    incident = only([*visits(0, 680), *read, *fetched], OUT_OF_MEMORY)
    assert incident.cause == "legitimate-surge"
    assert incident.ban == ()


@pytest.mark.parametrize(
    ("agent", "readers", "readers_before"), [(SYNAPSE, 12, 0), (SYNAPSE, 60, 280), ("Mozilla/5.0 Chrome/140.0", 60, 0)]
)
def test_a_crowd_is_a_flood_where_few_read_what_it_fetches_or_no_more_than_usual_or_it_hides(
    agent: str, readers: int, readers_before: int
) -> None:
    incident = only(shared(agent, readers, readers_before), OUT_OF_MEMORY)
    assert incident.cause == "distributed-flood"
    assert len(incident.ban) > 500


REFUSED = "connect() failed (111: Connection refused) while connecting to upstream"


def backend_lost(unit: str, text: str = REFUSED) -> list[Fact]:
    """A backend of any name that dies each time it is started."""
    died = [fact(598 + 20 * i, ServiceState(0.0, unit, "died", "code=exited, status=1")) for i in range(10)]
    missed = [fact(600 + 7 * i, AppError(0.0, "nginx", "error", symptom="backend-down"), text) for i in range(20)]
    return [*died, *missed]


def test_retries_after_a_backend_of_any_name_died_are_an_effect() -> None:
    requests = [*visits(0, 600), *polls(0, 600, 60), *polls(601, 900, 0.5, status=502)]
    incident = only(requests, backend_lost("forgejo"))
    assert incident.cause == "crash"
    assert incident.suspects[0].process == "forgejo"
    assert incident.ban == ()
    assert incident.deny == ()


def test_retries_after_an_unknown_backend_was_lost_are_an_effect() -> None:
    requests = [*visits(0, 600), *polls(0, 600, 60), *polls(601, 900, 0.5, status=502)]
    missed = [one for one in backend_lost("forgejo") if isinstance(one.event, AppError)]
    assert only(requests, missed).cause == "unknown"


@pytest.mark.parametrize("text", [REFUSED, "connect() failed (110: Connection timed out) while connecting"])
def test_a_flood_that_came_before_its_backend_died_is_no_effect_though_nearly_all_of_it_failed(text: str) -> None:
    requests = [*visits(0, 600), *polls(590, 600, 0.2), *polls(600, 900, 0.2, status=502)]
    incident = only(requests, backend_lost("forgejo", text))
    assert incident.cause == "request-flood"
    assert incident.ban == ("203.0.113.23",)
