"""PostgreSQL's log: its prefixes, what the messages mean, and whose words count."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.postgres import PostgresLog
from tocsin.server_events import (
    AppError,
    LimitReached,
    ProcessKilled,
    ServerEvent,
    ServiceState,
    SlowQuery,
    StorageError,
)

ANCHOR = Anchor(1700000000.0, UTC)
HEAD = "2021-09-09 18:15:08.250 UTC [560567] "
TS = 1631211308.25


def told(*lines: str) -> list[ServerEvent]:
    teller = PostgresLog()
    events = [item.event for number, line in enumerate(lines, 1) for item in teller.tell(line, number, ANCHOR)]
    assert teller.unparsed == 0
    return events  # type: ignore[return-value]


def test_the_real_lines() -> None:
    (slow,) = told(
        "2017-07-31 13:36:43.557 CEST [4983] postgres@postgres LOG:  duration: 37.118 ms  statement: SELECT 1"
    )
    assert isinstance(slow, SlowQuery)
    assert slow.ts == pytest.approx(1501501003.519882)
    assert slow.duration_s == pytest.approx(0.037118)
    assert (slow.user, slow.schema, slow.query) == ("postgres", "postgres", "SELECT 1")
    assert told(
        "2021-09-09 18:15:08 UTC [560567]: LOG:  server process (PID 2351983) was terminated by signal 9: Killed",
        "2021-09-09 18:15:08 UTC [560567]: LOG: server process (PID 2351984) was terminated by signal 9: Killed",
    ) == [ProcessKilled(1631211308.0, "postgres", pid, "signal", "KILL") for pid in (2351983, 2351984)]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        ("database system is ready to accept connections", "started"),
        ("received fast shutdown request", "stopping"),
        ("database system is shut down", "stopped"),
        ("received SIGHUP, reloading configuration files", "reloaded"),
        ("terminating any other active server processes", "died"),
        ("database system was not properly shut down; automatic recovery in progress", "recovered"),
        ("could not create any TCP/IP sockets", "refused"),
    ],
)
def test_states(message: str, state: str) -> None:
    for who in ("", "@ ", "user=,db=,app=,client= "):
        (event,) = told(f"{HEAD}{who}LOG:  {message}")
        assert isinstance(event, ServiceState)
        assert (event.ts, event.state) == (TS, state)
    # a client chooses the names of the user and the database that it asks for
    assert told(f"{HEAD}a@b LOG:  {message}") == []


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("FATAL:  sorry, too many clients already", LimitReached(TS, "postgresql", "max_connections")),
        ("FATAL:  remaining connection slots are reserved for non-replication superuser connections",
         LimitReached(TS, "postgresql", "max_connections")),
        ('ERROR:  could not extend file "base/16384/16401": No space left on device',
         StorageError(TS, "postgresql", "full", "base/16384/16401")),
        ('PANIC:  could not write to file "pg_wal/xlogtemp.1": No space left on device',
         StorageError(TS, "postgresql", "full", "pg_wal/xlogtemp.1")),
        ("LOG:  could not fork new process for connection: Cannot allocate memory",
         AppError(TS, "postgresql", "log", "ENOMEM", "out-of-memory", None,
                  "could not fork new process for connection: Cannot allocate memory")),
        ("ERROR:  out of memory", AppError(TS, "postgresql", "error", "ENOMEM", "out-of-memory", None, "out of memory")),
        ("LOG:  client backend (PID 7) was terminated by signal 11: Segmentation fault",
         ProcessKilled(TS, "postgres", 7, "signal", "SEGV")),
        ('LOG:  background worker "logical replication" (PID 7) was terminated by signal 6: Aborted',
         ProcessKilled(TS, "postgres", 7, "signal", "ABRT")),
    ],
)  # fmt: skip
def test_messages(message: str, event: ServerEvent) -> None:
    assert told(HEAD + message) == [event]


def test_lines_that_tell_nothing_fit_all_the_same() -> None:
    assert told(
        f'{HEAD}a@b ERROR:  invalid input syntax for type integer: "could not extend file "x": No space left on device"',
        f"{HEAD}a@b STATEMENT:  SELECT 'x",
        "\tserver process (PID 7) was terminated by signal 9: Killed'",
        f"{HEAD}a@b DETAIL:  database system is shut down",
    ) == []  # fmt: skip


def test_a_zone_that_may_be_several_is_the_servers_own() -> None:
    teller = PostgresLog()
    (local,) = teller.tell("2021-09-09 18:15:08 CST [1] LOG:  database system is shut down", 1, ANCHOR)
    (zoned,) = teller.tell("2021-09-09 18:15:08 -03 [1] LOG:  database system is shut down", 2, ANCHOR)
    assert (local.clock, local.event.ts) == ("local", 1631211308.0)
    assert (zoned.clock, zoned.event.ts) == ("zone", 1631222108.0)


@given(st.sampled_from((HEAD, HEAD + "a@b ", "")), st.text(), st.sampled_from(("LOG:  ", "FATAL:  duration: 1.5 ms  ")))
def test_any_text_is_read(head: str, text: str, level: str) -> None:
    teller = PostgresLog()
    for number, line in enumerate((head + level + text, head + text + level, text), 1):
        assert all(item.line == number for item in teller.tell(line, number, ANCHOR))
