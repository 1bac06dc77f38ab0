"""The error log of MySQL and MariaDB: the shapes of their lines, what the messages mean, and whose words count."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.mysql import MysqlError, mysql_message
from tocsin.formats.told import Told
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState, Stall, StorageError

ANCHOR = Anchor(1700000000.0, UTC)
TS = 1400661203.0


def told(*lines: str, anchor: Anchor = ANCHOR) -> list[Told]:
    teller = MysqlError()
    items = [item for number, line in enumerate(lines, 1) for item in teller.tell(line, number, anchor)]
    assert teller.unparsed == 0
    return items


def states(*lines: str) -> list[str]:
    return [item.event.state for item in told(*lines) if isinstance(item.event, ServiceState)]


SHAPES = [
    ("230312 19:26:00 [Warning] IP address '10.10.10.10' could not be resolved: Name or service not known", None),
    ("140521 08:26:40 mysqld_safe Starting mysqld daemon with databases from /var/lib/mysql", None),
    ("140521  8:26:40 [Note] Plugin 'FEDERATED' is disabled.", None),
    ("140521  8:26:40  InnoDB: Initializing buffer pool, size = 128.0M", None),
    ("2014-05-21 08:33:23 7fbf2f7fe700 InnoDB: Warning: a long semaphore wait:", None),
    (
        "2014-05-21 08:33:23 25042 [ERROR] InnoDB: Cannot allocate memory for the buffer pool",
        AppError(TS, "mysql", "error", "ENOMEM", "out-of-memory", None,
                 "InnoDB: Cannot allocate memory for the buffer pool"),
    ),
    ("2019-10-16 17:24:15 0 [Note] InnoDB: Using Linux native AIO", None),
    ("2019-10-16  7:24:15 0 [Note] InnoDB: Using Linux native AIO", None),
    (
        "2016-12-09T12:08:33.402440Z 0 [Note] InnoDB: Database was not shutdown normally!",
        ServiceState(1481285313.40244, "mysql", "recovered", "InnoDB: Database was not shutdown normally!"),
    ),
    (
        "2016-12-09T22:21:02.443689Z 0 [Note] InnoDB: page_cleaner: 1000ms intended loop took 772568ms. The settings might not be optimal. (flushed=0 and evicted=0, during the time.)",
        Stall(1481322062.443689, "mysql", 772.568, "page_cleaner"),
    ),
    (
        "2019-03-24T13:44:34.420123Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections.",
        ServiceState(1553435074.420123, "mysql", "started", "/usr/sbin/mysqld: ready for connections."),
    ),
    ("2019-03-24T13:44:34.420123Z 0 [System] [MY-011323] [Server] X Plugin ready for connections. Socket: x", None),
]  # fmt: skip


@pytest.mark.parametrize(("line", "event"), SHAPES)
def test_lines_of_every_version(line: str, event: ServerEvent | None) -> None:
    assert [item.event for item in told(line)] == ([event] if event else [])
    assert MysqlError.share([line]) == 1.0


def test_old_lines_stand_in_the_servers_zone_new_ones_name_theirs() -> None:
    anchor = Anchor(1700000000.0, timezone(timedelta(hours=2)))
    (local,) = told("140521  8:33:23 [Note] /usr/sbin/mysqld: ready for connections.", anchor=anchor)
    (zoned,) = told("2014-05-21T08:33:23.000000+00:00 0 [Note] /usr/sbin/mysqld: ready for connections.", anchor=anchor)
    assert (local.event.ts, local.clock) == (TS - 7200, "local")
    assert (zoned.event.ts, zoned.clock) == (TS, "zone")


MESSAGES: list[tuple[str, ServerEvent | None]] = [
    ("Too many connections", LimitReached(TS, "mysql", "max_connections")),
    (
        "Aborted connection 0 to db: 'unconnected' user: 'unauthenticated' host: 'connecting host' (Too many connections)",
        LimitReached(TS, "mysql", "max_connections"),
    ),
    ("/usr/sbin/mysqld: Normal shutdown", ServiceState(TS, "mysql", "stopping", "/usr/sbin/mysqld: Normal shutdown")),
    ("Received SHUTDOWN from user root. Shutting down mysqld (Version: 8.0.15).",
     ServiceState(TS, "mysql", "stopping", "Received SHUTDOWN from user root. Shutting down mysqld (Version: 8.0.15).")),
    ("InnoDB: Starting crash recovery from checkpoint LSN=44388",
     ServiceState(TS, "mysql", "recovered", "InnoDB: Starting crash recovery from checkpoint LSN=44388")),
    ("Number of processes running now: 0", ServiceState(TS, "mysql", "died", "Number of processes running now: 0")),
    ("mysqld restarted", ServiceState(TS, "mysql", "restarting", "mysqld restarted")),
    ("restarted", ServiceState(TS, "mysql", "restarting", "restarted")),
    ("Aborting", ServiceState(TS, "mysql", "refused", "Aborting")),
    ("unknown variable 'x=3'", ServiceState(TS, "mysql", "refused", "unknown variable 'x=3'")),
    ("/usr/sbin/mysqld: unknown option '--x'", ServiceState(TS, "mysql", "refused", "/usr/sbin/mysqld: unknown option '--x'")),
    ("InnoDB: Operating system error number 28 in a file operation.", StorageError(TS, "mysql", "full")),
    ("InnoDB: Error number 28 means 'No space left on device'.", StorageError(TS, "mysql", "full")),
    ("Disk is full writing '/var/lib/mysql/binlog.000003' (Errcode: 28 - No space left on device). Waiting",
     StorageError(TS, "mysql", "full", "/var/lib/mysql/binlog.000003")),
    ('/usr/sbin/mysqld: Disk full (/srv/tmp/#sql_1_0.MAI); waiting for someone to free some space... (errno: 28 "No',
     StorageError(TS, "mysql", "full", "/srv/tmp/#sql_1_0.MAI")),
    ("/usr/sbin/mysqld: The table '/srv/tmp/#sql_1_0' is full", StorageError(TS, "mysql", "full", "/srv/tmp/#sql_1_0")),
    ("/usr/sbin/mysqld: Disk is full writing '/srv/db/aria_log.00000001' (Errcode: 28 \"No space left on device\"). Waiting for someone to free space... (Expect up to 60 secs delay for server to continue after freeing disk space)",
     StorageError(TS, "mysql", "full", "/srv/db/aria_log.00000001")),
    ("/usr/sbin/mysqld: Disk got full writing '.(temporary)' (Errcode: 28 \"No space left on device\")", StorageError(TS, "mysql", "full")),
    ("InnoDB: Operating system error number 5 in a file operation.", StorageError(TS, "mysql", "io")),
    ("/usr/sbin/mysqld: Can't create/write to file '/run/x.pid' (Errcode: 30 - Read-only file system)",
     StorageError(TS, "mysql", "read-only", "/run/x.pid")),
    ("Error in accept: Too many open files (errno: 24)", LimitReached(TS, "mysql", "open files")),
    ("Can't create thread to handle new connection(errno= 11)", LimitReached(TS, "mysql", "processes")),
    ("InnoDB: Semaphore wait has lasted > 600 seconds. We intentionally crash the server because it appears to be hung.",
     Stall(TS, "mysql", 600.0, "semaphore")),
    ("InnoDB: Starting shutdown...", None),
    ("InnoDB: Buffer pool(s) dump completed at 261122  9:51:55", None),
    # what a client wrote
    ("Unsafe statement written to the binary log. Statement: INSERT INTO c VALUES ('No space left on device')", None),
    ("Slave SQL: Error 'x' on query. Query: 'INSERT (errno: 28)', Error_code: 1062", None),
]  # fmt: skip


@pytest.mark.parametrize(("message", "event"), MESSAGES, ids=[message[:50] for message, _ in MESSAGES])
def test_messages(message: str, event: ServerEvent | None) -> None:
    assert mysql_message(TS, "mysql", message) == event
    # through journald they bring their own time, which is not the envelope's business
    assert mysql_message(TS, "mysql", f"2011-01-01  1:01:01 0 [ERROR] {message}") == event
    assert [item.event for item in told(f"2014-05-21 08:33:23 25042 [Note] {message}")] == ([event] if event else [])


def test_complaints_say_what_they_are_about() -> None:
    denied = mysql_message(
        TS, "mysql", "Access denied for user 'a'@'203.0.113.66' (using'@'192.0.2.7' (using password: YES)"
    )
    assert isinstance(denied, AppError)
    assert (denied.code, denied.symptom, denied.source_ip) == ("access-denied", "login", "192.0.2.7")
    aborted = (
        "Aborted connection 14 to db: 'wp' user: 'wp' host: 'localhost' (Got timeout reading communication packets)"
    )
    event = mysql_message(TS, "mysql", f"2011-01-01  1:01:01 14 [Warning] {aborted}")
    assert event == AppError(TS, "mysql", "warning", "aborted-connection", None, None, aborted)


def test_lines_without_a_time_belong_to_those_before_them() -> None:
    items = told(
        "140521  8:33:23  InnoDB: Initializing buffer pool, size = 128.0M",
        "InnoDB: mmap(137363456 bytes) failed; errno 12",
        "140521  8:33:23  InnoDB: Completed initialization of buffer pool",
        "140521  8:33:23  InnoDB: Fatal error: cannot allocate memory for the buffer pool",
    )
    assert [(item.line, item.event.ts) for item in items] == [(2, TS), (4, TS)]
    assert all(isinstance(item.event, AppError) and item.event.code == "ENOMEM" for item in items)
    semaphore = "--Thread 140 has waited at buf0flu.cc line 1209 for 241.00 seconds the semaphore:"
    (item,) = told("2014-05-21 08:33:23 7fbf2f7fe700 InnoDB: Warning: a long semaphore wait:", semaphore)
    assert item.event == Stall(TS, "mysql", 241.0, "semaphore")


def test_a_statements_own_lines_tell_nothing() -> None:
    statement = "2014-05-21 08:33:23 25042 [Warning] Unsafe statement written to the binary log. Statement: INSERT '"
    assert told(statement, "InnoDB: mmap(137363456 bytes) failed; errno 12", "'") == []


LIVES = """\
2026-11-22  9:51:49 0 [Note] Starting MariaDB 10.11.19-MariaDB-0+deb12u1-log source revision 5843d84 as process 31985
2026-11-22  9:51:49 0 [Note] mariadbd: ready for connections.
Version: '10.11.19-MariaDB-0+deb12u1-log'  socket: '/run/m.sock'  port: 0  Debian 12
2026-11-22  9:51:53 0 [Note] Starting MariaDB 10.11.19-MariaDB-0+deb12u1-log source revision 5843d84 as process 32036
2026-11-22  9:51:53 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=44388
2026-11-22  9:51:54 0 [Note] mariadbd: ready for connections.
261122  9:51:54 [ERROR] mariadbd got signal 11 ;
Sorry, we probably made a mistake, and this is a bug.
Max open files            20000                20000                files
2026-11-22  9:51:54 0 [Note] InnoDB: Database was not shutdown normally!
2026-11-22  9:51:54 0 [Note] InnoDB: Starting crash recovery from checkpoint LSN=44404
2026-11-22  9:51:55 0 [Note] mariadbd: ready for connections.
2026-11-22  9:51:55 0 [Note] mariadbd (initiated by: unknown): Normal shutdown
2026-11-22  9:51:55 0 [Note] Shutdown completed; log sequence number 44776; transaction id 16
2026-11-22  9:51:55 0 [Note] mariadbd: Shutdown complete
2026-11-22  9:51:55 0 [ERROR] mariadbd: unknown variable 'nonsense-variable=3'
2026-11-22  9:51:55 0 [ERROR] Aborting
""".splitlines()


def test_the_lives_of_a_server() -> None:
    recovered = ["recovered", "started"]
    assert states(*LIVES) == ["started", *recovered, *recovered, "stopping", "stopped", "refused"]
    items = told(*LIVES)
    died = ProcessKilled(1795341114.0, "mariadbd", None, "signal", "SEGV")
    assert [item.event for item in items if isinstance(item.event, ProcessKilled)] == [died]
    assert {item.event.service for item in items if isinstance(item.event, ServiceState)} == {"mariadb"}
    assert MysqlError.share(LIVES) == 1.0


def test_what_made_it_abort_is_its_first_error() -> None:
    (item,) = told(
        "2014-05-21 08:33:23 25042 [ERROR] Plugin 'InnoDB' init function returned error.",
        "2014-05-21 08:33:23 25042 [ERROR] Unknown/unsupported storage engine: InnoDB",
        "2014-05-21 08:33:23 25042 [ERROR] Aborting",
    )
    assert item.event == ServiceState(TS, "mysql", "refused", "Plugin 'InnoDB' init function returned error.")


def test_a_crash_tells_the_time_of_day_in_utc() -> None:
    anchor = Anchor(1700000000.0, timezone(timedelta(hours=2)))
    last = "2014-05-21 23:30:00 25042 [Note] InnoDB: x"  # 21:30 UTC
    (soon,) = told(last, "21:33:23 UTC - mysqld got signal 6 ;", anchor=anchor)
    (next_day,) = told(last, "04:00:00 UTC - mysqld got signal 11 ;", anchor=anchor)
    assert soon.event == ProcessKilled(1400708003.0, "mysqld", None, "signal", "ABRT")
    assert (soon.clock, next_day.event.ts) == ("zone", 1400731200.0)
    (new,) = told("2021-09-01T10:00:00Z UTC - mysqld got signal 11 ;")
    assert isinstance(new.event, ProcessKilled)


PIECES = st.sampled_from((*(line for line, _ in SHAPES), *(message for message, _ in MESSAGES), *LIVES))


@given(PIECES, PIECES, st.text())
def test_any_text_is_read(line: str, other: str, text: str) -> None:
    teller = MysqlError()
    half = len(line) // 2
    lines = (line, text, line + text, other[: len(other) // 2] + line, line[:half] + text + other[half:])
    for number, each in enumerate(lines, 1):
        assert all(item.line == number for item in teller.tell(each, number, ANCHOR))
        mysql_message(TS, "mysql", each)
