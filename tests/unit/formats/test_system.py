"""The system's log: envelopes, and what the daemons in it say."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

import json
from datetime import UTC

import pytest

from tocsin.formats.base import Anchor
from tocsin.formats.services import service_name
from tocsin.formats.system import SystemLog
from tocsin.formats.told import Told
from tocsin.model import AuthAttempt
from tocsin.server_events import (
    ClockTie,
    JobStarted,
    LimitReached,
    ProcessKilled,
    ServerEvent,
    ServiceState,
    Stall,
    StorageError,
)

ANCHOR = Anchor(1700000000.0, UTC)  # 14 November 2023
TS = 1685798991.0  # Jun  3 13:29:51


def tell(*lines: str) -> tuple[SystemLog, list[Told]]:
    log = SystemLog()
    told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
    return log, [*told, *log.finish()]


def said(*spoken: str) -> list[object]:
    """What `tag: message` tells, each a second after the other, from TS."""
    lines = [f"Jun  3 13:29:{51 + place} host {message}" for place, message in enumerate(spoken)]
    return [one.event for one in tell(*lines)[1]]


SYN = "possible SYN flooding on port 4671. Sending cookies."


@pytest.mark.parametrize(
    ("line", "ts", "clock"),
    [
        (f"Jun  3 13:29:51 ywamrest kernel: {SYN}", TS, "local"),
        (f"<4>Jun  3 13:29:51 ywamrest kernel: {SYN}", TS, "local"),
        ("\0" * 300 + f"Jun  3 13:29:51 ywamrest kernel: {SYN}\0\0", TS, "local"),
        (f"Jun  3 13:29:51 ywamrest kernel: [  230.421540] {SYN}", TS, "local"),
        (f"Jun  3 13:29:51 ywamrest kernel: <4>[  230.421540] {SYN}", TS, "local"),
        (f"Jun 03 13:29:51.250000 ywamrest kernel: {SYN}", TS + 0.25, "local"),
        (f"2023-06-03T15:29:51+0200 ywamrest kernel: {SYN}", TS, "zone"),
        (f"2023-06-03T13:29:51.500000+00:00 ywamrest kernel: {SYN}", TS + 0.5, "zone"),
        (f"2023-06-03T13:29:51Z ywamrest kernel: {SYN}", TS, "zone"),
        (json.dumps({"__REALTIME_TIMESTAMP": "1685798991000000", "_TRANSPORT": "kernel", "MESSAGE": SYN}), TS, "zone"),
    ],
)
def test_envelopes(line: str, ts: float, clock: str) -> None:
    log, told = tell(line)
    assert [(one.event, one.clock, one.text) for one in told] == [
        (LimitReached(ts, "kernel", "listen queue"), clock, line)
    ]
    assert (log.ts, log.clock, log.unparsed) == (ts, clock, 0)


def test_lines_without_a_fact_fit_and_others_are_counted() -> None:
    log, told = tell(
        "-- Logs begin at Mon 2020-01-06 00:00:00 UTC, end at Mon 2020-01-06 02:00:00 UTC. --",
        "Jun  3 13:29:51 host last message repeated 2 times",
        "Jun  3 14:02:36 ywamrest mysqld_safe[781]: Number of processes running now: 0",
        "Jun  3 14:20:03 ywamrest mysqld_safe[838]: restarted",
        "May 19 12:19:38 ip-172-26-14-230 kernel: [230460.421540] Node 0 Normal free:3224kB",
        "    a message of several lines",
        "-- Subject: Unit failed",
        "--",
        "nothing like it",
        '{"MESSAGE": "no time"}',
        "Jun 33 13:29:51 host kernel: x",
    )
    assert (log.unparsed, log.sample) == (3, "nothing like it")
    assert [one for one in told if not isinstance(one.event, ServiceState)] == []


@pytest.mark.parametrize(
    ("spoken", "event"),
    [
        ("/USR/SBIN/CRON[770]: (root) CMD (/etc/webmin/status/monitor.pl)",
         JobStarted(TS, "cron", "/etc/webmin/status/monitor.pl", "root")),
        ("CRON[770]: (www-data) CMD (cd /srv && ( ./x ) )", JobStarted(TS, "cron", "cd /srv && ( ./x ) ", "www-data")),
        ("CROND[770]: (root) CMD (run-parts /etc/cron.hourly)",
         JobStarted(TS, "cron", "run-parts /etc/cron.hourly", "root")),
        ("anacron[5]: Job `cron.daily' started", JobStarted(TS, "cron", "cron.daily")),
        ("run-parts(/etc/cron.daily)[5]: starting logrotate", JobStarted(TS, "cron", "logrotate")),
        ("sudo: ubuntu : TTY=pts/0 ; PWD=/home/ubuntu ; USER=root ; COMMAND=/usr/bin/apt upgrade ; COMMAND=x",
         JobStarted(TS, "sudo", "/usr/bin/apt upgrade ; COMMAND=x", "ubuntu")),
        ("sudo:   eve : command not allowed ; TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/sh", None),
        ("sshd[5]: Failed password for root from 192.0.2.7 port 5 ssh2",
         AuthAttempt(TS, "192.0.2.7", "sshd", "root", "failure", "password")),
        ("sshd[5]: Invalid user No space left on device from 192.0.2.7 port 22",
         AuthAttempt(TS, "192.0.2.7", "sshd", "No space left on device", "failure", "preauth")),
        ("sshd[5]: Server listening on 0.0.0.0 port 22.", None),
        ("mysqld_safe[781]: Number of processes running now: 0",
         ServiceState(TS, "mysql", "died", "Number of processes running now: 0")),
        ("mysqld_safe[838]: restarted", ServiceState(TS, "mysql", "restarting", "restarted")),
        ("apache2[5]: AH00161: server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting",
         LimitReached(TS, "apache2", "MaxRequestWorkers")),
        ('nginx[5]: nginx: [emerg] unknown directive "x" in /etc/nginx/nginx.conf:5',
         ServiceState(TS, "nginx", "refused", 'unknown directive "x" in /etc/nginx/nginx.conf:5')),
        ("php-fpm8.2[5]: [26-Jul-2012 09:50:00] WARNING: [pool www] server reached pm.max_children setting (50), consider",
         LimitReached(1343296200.0, "php-fpm", "pm.max_children", 50)),
        ("postgres[5]: [3-1] 2021-09-09 18:15:08 UTC [5]: LOG:  database system is ready to accept connections",
         ServiceState(1631211308.0, "postgresql", "started", "database system is ready to accept connections")),
        ("nginx: 2014/05/15 08:57:21 [alert] 31914#0: *13546 128 worker_connections are not enough while connecting",
         LimitReached(1400144241.0, "nginx", "worker_connections", 128)),
        ("mysqld: 2014-05-21 08:33:23 25042 [ERROR] InnoDB: mmap(137363456 bytes) failed; errno 28",
         StorageError(TS, "mysql", "full")),
        ("postfix/pickup[5]: fatal: write /var/spool/x: No space left on device",
         StorageError(TS, "pickup", "full", "/var/spool/x")),
        ("mkdir: cannot create directory '/srv/a': No space left on device.", StorageError(TS, "mkdir", "full", "/srv/a")),
        (("rsyslogd: file '/var/log/syslog'[7] write error - see https://www.rsyslog.com/solving-rsyslog-write-errors/"
         " for help OS error: No space left on device [v8.2001.0 try https://www.rsyslog.com/e/2027 ]"),
         StorageError(TS, "rsyslogd", "full", "/var/log/syslog")),
        ("php8.2-fpm: cannot write: Read-only file system", StorageError(TS, "php-fpm", "read-only")),
        ("wordpress(x): Authentication failure for No space left on device from 192.0.2.7", None),
        ('earlyoom[5]: sending SIGTERM to process 7378 uid 1000 "tail": oom_score 156, VmRSS 4962 MiB',
         ProcessKilled(TS, "tail", 7378, "earlyoom", "TERM", 4962 << 20)),
        ("earlyoom[5]: Killing process 7378 tail", ProcessKilled(TS, "tail", 7378, "earlyoom")),
        (("systemd-oomd[5]: Marked /system.slice/systemd-journald.service for killing due to memory pressure for"
         " /system.slice being 85.03% > 80.00% for > 2s with reclaim activity"),
         ProcessKilled(TS, "systemd-journald", None, "systemd-oomd", unit="systemd-journald")),
        ("systemd-oomd[5]: Killed /system.slice/httpd.service due to memory used (32305733632) / total (33046",
         ProcessKilled(TS, "apache2", None, "systemd-oomd", unit="apache2")),
        ("systemd[1]: systemd-journald.service: systemd-oomd killed 1 process(es) in this unit.",
         ProcessKilled(TS, "systemd-journald", None, "systemd-oomd", unit="systemd-journald")),
        ("init: mysql main process (6526) terminated with status 1",
         ServiceState(TS, "mysql", "died", "terminated with status 1")),
        ("init: mysql main process ended, respawning", ServiceState(TS, "mysql", "restarting")),
        ("init: mysql post-start process (6976) terminated with status 1",
         ServiceState(TS, "mysql", "refused", "post-start process terminated with status 1")),
        ("init: mysql respawning too fast, stopped", ServiceState(TS, "mysql", "failed", "respawning too fast")),
        ("init: network-manager main process (1104) killed by SEGV signal",
         ServiceState(TS, "network-manager", "died", "killed by SEGV")),
        ("init: tty (/dev/tty1) main process (1104) killed by TERM signal",
         ServiceState(TS, "tty", "stopped", "killed by TERM")),
        ("systemd[1]: mysql.service: Main process exited, code=killed, status=9/KILL",
         ServiceState(TS, "mysql", "died", "killed by KILL")),
        ("systemd[1]: mysql.service: main process exited, code=dumped, status=11/SEGV",
         ServiceState(TS, "mysql", "died", "killed by SEGV (core dumped)")),
        ("systemd[1]: mysql.service: Main process exited, code=exited, status=0/SUCCESS", None),
        ("systemd[1]: mysql.service: Main process exited, code=killed, status=15/TERM",
         ServiceState(TS, "mysql", "stopped", "killed by TERM")),
        ("systemd[1]: mysql.service: Control process exited, code=exited status=1",
         ServiceState(TS, "mysql", "refused", "control process exited with status 1")),
        ("systemd[1]: mysql.service: Failed with result 'oom-kill'.", ServiceState(TS, "mysql", "died", "oom-kill")),
        ("systemd[1]: mysql.service: Failed with result 'start-limit-hit'.",
         ServiceState(TS, "mysql", "failed", "start-limit-hit")),
        ("systemd[1]: mysql.service: A process of this unit has been killed by the OOM killer.",
         ProcessKilled(TS, "mysql", None, "oom", unit="mysql")),
        ("systemd[1]: user-1021.slice: A process of this unit has been killed by the OOM killer.",
         ProcessKilled(TS, "user-1021.slice", None, "oom", unit="user-1021.slice")),
        ("systemd[1]: system-postgresql.slice: A process of this unit has been killed by the OOM killer.", None),
        ("systemd[1]: mysql.service: Scheduled restart job, restart counter is at 5.",
         ServiceState(TS, "mysql", "restarting", "restart counter is at 5")),
        ("systemd[1]: mysql.service: Service hold-off time over, scheduling restart.",
         ServiceState(TS, "mysql", "restarting", "scheduling restart")),
        ("systemd[1]: mysqld.service holdoff time over, scheduling restart.", ServiceState(TS, "mysql", "restarting")),
        ("systemd[1]: systemd-journald.service has no holdoff time, scheduling restart.",
         ServiceState(TS, "systemd-journald", "restarting")),
        ("systemd[1]: mysql.service: Start request repeated too quickly.",
         ServiceState(TS, "mysql", "failed", "start request repeated too quickly")),
        ("systemd[1]: start request repeated too quickly for mysql.service",
         ServiceState(TS, "mysql", "failed", "start request repeated too quickly")),
        ("systemd[1]: Unit mysql.service entered failed state.",
         ServiceState(TS, "mysql", "died", "entered failed state")),
        ("systemd[1]: mysql.service: Unit entered failed state.",
         ServiceState(TS, "mysql", "died", "entered failed state")),
        ("systemd[1]: systemd-journald.service: Watchdog timeout (limit 3min)!",
         Stall(TS, "systemd-journald", 180.0, "watchdog")),
        ("systemd[1]: Started The Apache HTTP Server.", ServiceState(TS, "apache2", "started")),
        ("systemd[1]: Started apache2.service - The Apache HTTP Server.", ServiceState(TS, "apache2", "started")),
        ("systemd[1]: Started LSB: Apache2 web server.", ServiceState(TS, "apache2", "started")),
        ("systemd[1]: Started MariaDB 10.11.6 database server.", ServiceState(TS, "mariadb", "started")),
        ("systemd[1]: Reloaded A high performance web server and a reverse proxy server.",
         ServiceState(TS, "nginx", "reloaded")),
        ("systemd[1]: Stopping The PHP 7.4 FastCGI Process Manager...", ServiceState(TS, "php-fpm", "stopping")),
        ("systemd[1]: Stopped PostgreSQL Cluster 14-main.", ServiceState(TS, "postgresql", "stopped")),
        ("systemd[1]: Failed to start mariadb.service - MariaDB 10.11.6 database server.",
         ServiceState(TS, "mariadb", "refused")),
        ("systemd[1]: mysql.service: Deactivated successfully.", ServiceState(TS, "mysql", "stopped")),
        ("systemd[1]: Started session-5.scope - Session 5 of User root.", None),
        ("systemd[1]: Started Session 5 of user root.", None),
        ("systemd[812]: Started pulseaudio.service - Sound Service.", None),
        ("systemd[1]: Starting backup.service - Nightly backup...", JobStarted(TS, "systemd", "backup")),
        ("systemd[1]: Starting Daily apt upgrade and clean activities...",
         JobStarted(TS, "systemd", "Daily apt upgrade and clean activities")),
        ("systemd[1]: Starting cron.service - Regular background program processing daemon...", None),
        ("systemd-logind[3]: System is rebooting.", ServiceState(TS, "kernel", "stopping", "System is rebooting")),
    ],
)  # fmt: skip
def test_messages(spoken: str, event: ServerEvent | AuthAttempt | None) -> None:
    assert said(spoken) == ([] if event is None else [event])


def test_the_iso_line_of_a_killed_slice() -> None:
    (told,) = tell(
        "2026-02-08T00:40:07.136582+00:00 largeweb2 systemd[1]: user-1021.slice: A process of this unit has been killed"
        " by the OOM killer."
    )[1]
    assert told.event == ProcessKilled(1770511207.136582, "user-1021.slice", None, "oom", unit="user-1021.slice")


def states(*spoken: str) -> list[str]:
    return [event.state for event in said(*spoken) if isinstance(event, ServiceState)]


def test_one_fall_is_told_once_and_the_next_again() -> None:
    death = (
        "systemd[1]: mysql.service: Main process exited, code=killed, status=9/KILL",
        "systemd[1]: mysql.service: Failed with result 'signal'.",
    )
    assert states(*death, "systemd[1]: mysql.service: Scheduled restart job, restart counter is at 1.", *death) == [
        "died",
        "restarting",
        "died",
    ]


def test_a_restart_is_told_once_and_its_stop_not() -> None:
    restart = (
        "systemd[1]: mariadb.service: Main process exited, code=killed, status=6/ABRT",
        "systemd[1]: mariadb.service: Failed with result 'signal'.",
        "systemd[1]: Failed to start MariaDB 10.3.17 database server.",
        "systemd[1]: mariadb.service: Service RestartSec=5s expired, scheduling restart.",
        "systemd[1]: mariadb.service: Scheduled restart job, restart counter is at 359.",
        "systemd[1]: Stopped MariaDB 10.3.17 database server.",
        "systemd[1]: Starting MariaDB 10.3.17 database server...",
    )
    assert states(*restart) == ["died", "refused", "restarting"]
    assert states(*restart, restart[0]) == ["died", "refused", "restarting", "died"]


def test_a_service_that_cannot_start_is_told_once() -> None:
    assert states(
        "systemd[1]: Starting apache2.service - The Apache HTTP Server...",
        "systemd[1]: apache2.service: Control process exited, code=exited, status=1/FAILURE",
        "systemd[1]: apache2.service: Failed with result 'exit-code'.",
        "systemd[1]: Failed to start apache2.service - The Apache HTTP Server.",
    ) == ["refused"]


def test_what_was_told_to_stop_does_not_die() -> None:
    assert states(
        "systemd[1]: Stopping The Apache HTTP Server...",
        "systemd[1]: apache2.service: Main process exited, code=killed, status=9/KILL",
        "systemd[1]: apache2.service: Failed with result 'signal'.",
        "systemd[1]: Stopped The Apache HTTP Server.",
        "systemd[1]: Started The Apache HTTP Server.",
        "systemd[1]: apache2.service: Main process exited, code=killed, status=9/KILL",
    ) == ["stopping", "stopped", "started", "died"]


def test_what_was_restarted_and_does_not_come_up_died() -> None:
    assert states(
        "systemd[1]: Stopping mariadb.service - MariaDB 10.11 database server...",
        "systemd[1]: mariadb.service: Deactivated successfully.",
        "systemd[1]: Stopped mariadb.service - MariaDB 10.11 database server.",
        "systemd[1]: Starting mariadb.service - MariaDB 10.11 database server...",
        "systemd[1]: mariadb.service: Main process exited, code=exited, status=13/n/a",
        "systemd[1]: mariadb.service: Failed with result 'exit-code'.",
        "systemd[1]: Failed to start mariadb.service - MariaDB 10.11 database server.",
    ) == ["stopping", "stopped", "died", "refused"]


def test_a_unit_that_finishes_was_a_job_from_its_start_on() -> None:
    log, told = tell(
        "Jun  3 13:29:51 host systemd[1]: Starting nightly-x.service - Whatever...",
        "Jun  3 13:30:51 host systemd[1]: nightly-x.service: Deactivated successfully.",
        "Jun  3 13:30:51 host systemd[1]: Finished nightly-x.service - Whatever.",
        "Jun  3 13:40:51 host systemd[1]: Starting x.service - Server...",
        "Jun  3 13:40:52 host systemd[1]: Started x.service - Server.",
        "Jun  3 13:41:51 host systemd[1]: Starting y.service - Whatever...",
        "Jun  3 13:42:51 host systemd[1]: Finished y.service - Whatever.",
    )
    assert log.unparsed == 0
    assert [(one.event, one.line) for one in told] == [
        (JobStarted(TS, "systemd", "nightly-x"), 1),
        (ServiceState(TS + 661, "x", "started"), 5),
        (JobStarted(TS + 720, "systemd", "y"), 6),
    ]


def entry(message: object, **fields: str) -> str:
    return json.dumps({"__REALTIME_TIMESTAMP": "1685798991000000", "MESSAGE": message, **fields})


def test_the_journal_knows_who_speaks() -> None:
    guess = "Failed password for root from 192.0.2.7 port 5 ssh2"
    kill = "Killed process 23551 (apache2)"
    lines = [
        entry(guess, SYSLOG_IDENTIFIER="sshd", _COMM="sshd-session"),
        entry(guess, SYSLOG_IDENTIFIER="sshd", _COMM="php"),
        entry(kill, SYSLOG_IDENTIFIER="kernel", _TRANSPORT="syslog", _COMM="php"),
        entry(kill, SYSLOG_IDENTIFIER="kernel", _TRANSPORT="kernel"),
        entry("mysql.service: Failed with result 'oom-kill'.", SYSLOG_IDENTIFIER="systemd", _PID="1"),
        entry("mysql.service: Failed with result 'oom-kill'.", SYSLOG_IDENTIFIER="systemd", _PID="99"),
        entry("Started Some Description.", SYSLOG_IDENTIFIER="systemd", _PID="1", UNIT="php8.2-fpm.service"),
        entry(list(b"No space left on device"), SYSLOG_IDENTIFIER="x"),
    ]
    assert [(one.line, one.event) for one in tell(*lines)[1]] == [
        (1, AuthAttempt(TS, "192.0.2.7", "sshd", "root", "failure", "password")),
        (4, ProcessKilled(TS, "apache2", 23551, "oom")),
        (5, ServiceState(TS, "mysql", "died", "oom-kill")),
        (7, ServiceState(TS, "php-fpm", "started")),
        (8, StorageError(TS, "x", "full")),
    ]


def test_the_journals_uptime_ties_the_clock() -> None:
    line = entry(
        "audit: type=1400 audit(1466221659.162:47): x", _TRANSPORT="kernel", _SOURCE_MONOTONIC_TIMESTAMP="5000000"
    )
    assert [one.event for one in tell(line)[1]] == [ClockTie(1466221659.162, 5.0)]


@pytest.mark.parametrize(
    ("name", "service"),
    [
        ("httpd", "apache2"),
        ("apache2.service", "apache2"),
        ("/usr/sbin/mysqld", "mysql"),
        ("mysqld", "mysql"),
        ("mysql.service", "mysql"),
        ("mysqld_safe", "mysql"),
        ("mariadbd", "mariadb"),
        ("mariadb.service", "mariadb"),
        ("php8.2-fpm", "php-fpm"),
        ("php8.2-fpm.service", "php-fpm"),
        ("php-fpm7.4", "php-fpm"),
        ("php-fpm: pool www", "php-fpm"),
        ("php82-php-fpm", "php-fpm"),
        ("php5-fpm", "php-fpm"),
        ("postgres: writer process", "postgresql"),
        ("postgresql@14-main.service", "postgresql"),
        ("postgresql-14.service", "postgresql"),
        ("nginx", "nginx"),
        ("snap.nextcloud.mysql.service", "mysql"),
        ("user-1021.slice", "user-1021.slice"),
        ("systemd-journald.service", "systemd-journald"),
        ("", ""),
        ("@", "@"),
    ],
)
def test_service_names(name: str, service: str) -> None:
    assert service_name(name) == service
