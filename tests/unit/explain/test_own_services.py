"""Services of any name, containers and their limits: what is killed there is no job."""

from __future__ import annotations

import pytest
from explain_made import fact, visits
from msgspec import structs
from test_verdict import only

from tocsin.explain.model import Fact, Incident
from tocsin.explain.telling.words import Language
from tocsin.server_events import AppError, JobStarted, LimitReached, Processes, ProcessKilled, Sample

MIB = 1 << 20
MISSED = [fact(601 + i, AppError(0.0, "nginx", "error", symptom="backend-down"), "refused") for i in range(9)]


@pytest.mark.parametrize("after_s", [-0.2, 0.2])
def test_a_kill_of_which_systemd_tells_again_by_the_unit_is_one(after_s: float) -> None:
    facts = [
        fact(600, Sample(0.0, "oom-report", (Processes("ruby", 4, 3200 * MIB),), 3750 * MIB)),
        fact(600.0, ProcessKilled(0.0, "ruby", 2233, "oom", rss_bytes=800 * MIB, unit="puma")),
        fact(600.0 + after_s, ProcessKilled(0.0, "puma", None, "oom", unit="puma"), "journal"),
        *MISSED,
    ]
    incident = only(visits(0, 680), facts)
    assert incident.cause == "misconfiguration"
    assert "puma, ruby" not in incident.summary.text


SCOPE = "/system.slice/docker-44c652b8bf6d" + 52 * "0" + ".scope"


def killed(
    name: str, table: tuple[Processes, ...], by: str = "oom", group: str = "", limit_group: str = ""
) -> list[Fact]:
    """A report of the kernel's, in which `name` is killed, on a machine, or in a group, of 1 GiB."""
    sizes = {"limit_bytes": 1 << 30} if limit_group else {"memory_bytes": 1 << 30}
    kill = ProcessKilled(0.0, name, 77, by, rss_bytes=table[0].rss_bytes, group=group, limit_group=limit_group)  # type: ignore[arg-type]
    return [fact(600, Sample(0.0, "oom-report", table, **sizes)), fact(600, kill)]  # type: ignore[arg-type]


def test_a_container_that_reaches_its_own_limit_is_no_job_on_the_machine() -> None:
    java = (Processes("java", 1, 1010 * MIB),)
    incident = only(visits(0, 680), killed("java", java, "cgroup-oom", SCOPE, SCOPE))
    first = incident.suspects[0]
    assert (incident.cause, first.kind, first.process) == ("misconfiguration", "limit", "docker-44c652b8bf6d")
    assert first.why.args["limit"] == 1 << 30


def test_a_limit_that_was_reached_is_to_be_raised_or_kept() -> None:
    java = (Processes("java", 1, 1010 * MIB),)
    (remedy,) = only(visits(0, 680), killed("java", java, "cgroup-oom", SCOPE, SCOPE)).remedies
    assert remedy.apply == "docker update --memory 1536m --memory-swap 1536m 44c652b8bf6d"
    unit = "/system.slice/search.service"
    (remedy,) = only(visits(0, 680), killed("java", java, "cgroup-oom", unit, unit)).remedies
    assert remedy.apply.endswith("[Service]\nMemoryMax=1536M")
    full = fact(600, LimitReached(0.0, "postgresql", "max_connections"))
    (remedy,) = only(visits(0, 680), [full]).remedies
    assert "pg_stat_activity" in remedy.apply


@pytest.mark.parametrize(("held", "limit"), [(870, "75%"), (640, "55%")])
def test_a_service_that_outgrew_the_memory_is_limited_to_somewhat_less_than_it_held(held: int, limit: str) -> None:
    facts = killed("renderd", (Processes("renderd", 5, held * MIB),), group="/system.slice/renderd.service")
    (remedy,) = only(visits(0, 680), facts).remedies
    assert f"MemoryMax={limit}\nRestart=always" in remedy.apply


@pytest.mark.parametrize("group", ["/lxc/web", SCOPE])
def test_a_group_that_stands_for_a_machine_has_jobs(group: str) -> None:
    table = (Processes("restic", 1, 700 * MIB), Processes("mariadbd", 1, 90 * MIB), Processes("nginx", 2, 9 * MIB))
    incident = only(visits(0, 680), killed("restic", table, "cgroup-oom", group, group))
    assert (incident.cause, incident.suspects[0].process) == ("local-job", "restic")


def victim_of(group: str, *more: Fact) -> Incident:
    table = (Processes("renderd", 5, 800 * MIB), Processes("nginx", 2, 9 * MIB))
    return only(visits(0, 680), [*killed("renderd", table, group=group), *more])


def test_what_is_killed_in_a_service_is_no_job_but_what_cron_and_people_start_is() -> None:
    assert victim_of("/system.slice/renderd.service").cause == "misconfiguration"
    assert victim_of("/system.slice/cron.service").cause == "local-job"
    assert victim_of("/user.slice/user-1000.slice/user@1000.service/app.slice/x.service").cause == "local-job"
    timer = JobStarted(0.0, "systemd", "tiles")
    (report, kill) = killed("renderd", (Processes("renderd", 5, 800 * MIB),), group="/system.slice/tiles.service")
    kill = structs.replace(kill, event=structs.replace(kill.event, unit="tiles"))
    assert only(visits(0, 680), [fact(500, timer), report, kill]).cause == "local-job"


def test_of_a_service_killed_while_no_access_log_tells_of_requests_little_is_claimed() -> None:
    table = (Processes("renderd", 5, 800 * MIB),)
    incident = only([], killed("renderd", table, group="/system.slice/renderd.service"))
    assert incident.confidence < 0.5


@pytest.mark.parametrize(
    ("name", "uid", "job", "is_job"),
    [
        ("git", 998, None, False),
        ("git", 0, None, True),
        ("git", 1000, None, True),
        ("git", 998, JobStarted(0.0, "cron", "git gc", "git"), True),
        ("ffmpeg", 33, None, False),
        ("restic", 106, None, True),
        ("tar", 33, JobStarted(0.0, "cron", "/usr/local/bin/backup.sh", "www-data"), True),
    ],
)
def test_what_a_service_starts_as_its_user_is_no_job(name: str, uid: int, job: JobStarted | None, is_job: bool) -> None:
    table = (
        Processes(name, 26, 700 * MIB, uids=(uid,)),
        Processes("forgejo", 1, 180 * MIB, uids=(998,)),
        Processes("php-fpm", 2, 30 * MIB, uids=(0, 33)),
        Processes("mariadbd", 1, 30 * MIB, uids=(106,)),
    )
    facts = killed("forgejo", table, group="/system.slice/forgejo.service")
    incident = only(visits(0, 680), [*facts, *([] if job is None else [fact(500, job)])])
    assert (name in {one.process for one in incident.suspects}) == is_job


@pytest.mark.parametrize(("by", "killer"), [("oom", "the kernel"), ("earlyoom", "earlyoom"), ("systemd-oomd", None)])
def test_who_killed_is_said_as_it_was(by: str, killer: str | None) -> None:
    facts = [fact(600, ProcessKilled(0.0, "ledgerd", 77, by))]  # type: ignore[arg-type]
    if killer is None:
        facts.append(fact(601, ProcessKilled(0.0, "mysqld", 78, "oom")))
    text = Language().tell(only(visits(0, 680), facts).summary)
    assert (f"{killer} killed ledgerd" if killer else "ledgerd, mysqld were killed") in text
    assert "0 B" not in text


@pytest.mark.parametrize(
    ("command", "at", "is_named"),
    [
        ("/usr/local/bin/night.sh", (500,), True),
        ("cd / && run-parts --report /etc/cron.hourly", (500,), False),
        ("[ -x /usr/lib/php/sessionclean ] && /usr/lib/php/sessionclean", (-1300, 500), False),
    ],
)
def test_of_jobs_that_only_began_those_that_always_do_are_not_named(
    command: str, at: tuple[float, ...], is_named: bool
) -> None:
    began = [fact(ts + late, JobStarted(0.0, "cron", command, "root")) for ts in at for late in (0, 1)]
    full = fact(600, LimitReached(0.0, "apache2", "MaxRequestWorkers", 40))
    incident = only(visits(0, 590), [*began, full])
    assert ("local-job" in {one.cause for one in incident.suspects}) == is_named
