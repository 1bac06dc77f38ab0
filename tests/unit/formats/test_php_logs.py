"""PHP's logs: FPM's own, its slow log, and PHP's error log."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.entries import Entries
from tocsin.formats.php import FpmLog, FpmSlow, PhpErrors
from tocsin.formats.told import Told
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServiceState, StorageError

ANCHOR = Anchor(1700000000.0, UTC)
TS = 1343296199.0


def told(teller: Entries, lines: Sequence[str], anchor: Anchor = ANCHOR) -> list[Told]:
    events = [item for number, line in enumerate(lines, 1) for item in teller.tell(line, number, anchor)]
    return [*events, *teller.finish()]


FPM = """\
[26-Jul-2012 09:49:59] WARNING: [pool www] seems busy (you may need to increase pm.start_servers, or pm.min/max_spare_servers), spawning 32 children, there are 8 idle, and 58 total children
[26-Jul-2012 09:50:00] WARNING: [pool www] server reached pm.max_children setting (50), consider raising it
[26-Jul-2012 09:50:00.250000] WARNING: [pool www] server reached max_children setting (5), consider raising it
[26-Jul-2012 09:50:01] WARNING: [pool www] child 1231 exited on signal 9 (SIGKILL) after 0.955455 seconds from start
[26-Jul-2012 09:50:01] WARNING: [pool www] child 1101 exited on signal 15 (SIGTERM) after 3.339970 seconds from start
[26-Jul-2012 09:50:02] WARNING: [pool www] child 1226 exited on signal 11 (SIGSEGV - core dumped) after 0.466721 seconds from start
""".splitlines()


def test_fpm_tells_of_its_limits_and_dead() -> None:
    assert [item.event for item in told(FpmLog(), FPM)] == [
        LimitReached(TS, "php-fpm", "pm.max_children", 58, near=True),
        LimitReached(TS + 1, "php-fpm", "pm.max_children", 50),
        LimitReached(TS + 1.25, "php-fpm", "pm.max_children", 5),
        ProcessKilled(TS + 2, "php-fpm", 1231, "signal", "KILL"),
        ProcessKilled(TS + 3, "php-fpm", 1226, "signal", "SEGV"),
    ]


FPM_SLOW_AND_PHP = """\
[22-Nov-2026 09:54:25] WARNING: [pool www] child 1101, script '/srv/s.php' (request: "GET /x") executing too slow (1.204734 sec), logging
[22-Nov-2026 09:54:25] NOTICE: child 1101 stopped for tracing
[22-Nov-2026 09:54:27] WARNING: [pool www] child 1101, script '/srv/s.php' (request: "GET /x") execution timed out (3.206290 sec), terminating
[22-Nov-2026 09:54:28] WARNING: [pool www] child 1225 said into stderr: "NOTICE: PHP message: AH00161: server reached MaxRequestWorkers setting"
[22-Nov-2026 09:54:28] WARNING: [pool www] child 1225 said into stderr: "NOTICE: PHP message: PHP Fatal error:  Allowed memory size of 4194304 bytes exhausted (tried to allocate 20000768 bytes) in /srv/m.php on line 1"
[22-Nov-2026 09:54:31] WARNING: [pool www] child 1225 said into stderr: "NOTICE: PHP message: PHP Warning:  mysqli_connect(): (HY000/2002): Connection refused in /srv/my.php on line 1"
[22-Nov-2026 09:54:32] ERROR: fork() failed: Cannot allocate memory (12)
[22-Nov-2026 09:54:32] ERROR: failed to open access log (/var/log/x): No space left on device (28)
""".splitlines()


def test_fpm_tells_of_slow_scripts_and_what_scripts_said() -> None:
    teller = FpmLog()
    events = [item.event for item in told(teller, FPM_SLOW_AND_PHP)]
    assert [(event.code, event.symptom) for event in events if isinstance(event, AppError)] == [
        ("request_slowlog_timeout", "backend-slow"),
        ("request_terminate_timeout", "backend-slow"),
        ("memory_limit", "out-of-memory"),
        ("php-database", "database-down"),
        ("ENOMEM", "out-of-memory"),
    ]
    assert isinstance(events[-1], StorageError)
    assert teller.unparsed == 0


FPM_STATES = """\
[22-Nov-2026 09:54:24] NOTICE: fpm is running, pid 1100
[22-Nov-2026 09:54:24] NOTICE: ready to handle connections
[22-Nov-2026 09:54:31] NOTICE: Reloading in progress ...
[22-Nov-2026 09:54:31] NOTICE: reloading: execvp("php-fpm8.2", {"php-fpm8.2", "-R"})
[22-Nov-2026 09:54:31] NOTICE: fpm is running, pid 1230
[22-Nov-2026 09:54:31] NOTICE: ready to handle connections
[22-Nov-2026 09:54:33] NOTICE: Terminating ...
[22-Nov-2026 09:54:33] NOTICE: exiting, bye-bye!
[22-Nov-2026 09:54:34] ERROR: invalid port value '99999'
[22-Nov-2026 09:54:34] ERROR: FPM initialization failed
[22-Nov-2026 09:54:35] ERROR: unable to bind listening socket for address '127.0.0.1:18085': Address already in use (98)
[22-Nov-2026 09:54:35] ERROR: FPM initialization failed
""".splitlines()


def test_fpm_comes_and_goes_and_says_why_it_would_not_start() -> None:
    events = [item.event for item in told(FpmLog(), FPM_STATES)]
    states = [(event.state, event.detail[:15]) for event in events if isinstance(event, ServiceState)]
    assert [state for state, _ in states] == ["started", "reloaded", "stopping", "stopped", "refused", "refused"]
    assert [detail for _, detail in states[-2:]] == ["invalid port va", "unable to bind "]


SLOW = """\
[22-Nov-2026 09:54:25]  [pool www] pid 1101
script_filename = /srv/www/index.php
[0x00007f4ccec15070] mysqli_query() /srv/www/wp-includes/class-wpdb.php:2351
[0x00007f4ccec15000] query() /srv/www/wp-blog-header.php:3

[22-Nov-2026 09:54:26]  [pool www] pid 1143
script_filename = /srv/www/cron.php
""".splitlines()


def test_the_slow_log_names_script_and_where_it_hung() -> None:
    teller = FpmSlow()
    items = told(teller, SLOW)
    texts = ["/srv/www/index.php mysqli_query() /srv/www/wp-includes/class-wpdb.php:2351", "/srv/www/cron.php"]
    assert [item.event for item in items] == [
        AppError(ts, "php-fpm", "warning", "slowlog", "backend-slow", None, text)
        for ts, text in zip((1795341265.0, 1795341266.0), texts, strict=True)
    ]
    assert [(item.line, item.text) for item in items] == [(2, SLOW[1]), (7, SLOW[6])]
    assert teller.unparsed == 0
    assert FpmSlow.share(SLOW) == 1.0


@pytest.mark.parametrize(
    ("zone", "ts", "clock"),
    [
        (" UTC", TS, "zone"),
        (" Europe/Paris", TS - 7200, "zone"),
        (" +05:30", TS - 19800, "zone"),
        ("", TS + 3600, "local"),
        (" Nowhere/Land", TS + 3600, "local"),
    ],
)
def test_phps_own_log_names_its_zone(zone: str, ts: float, clock: str) -> None:
    line = f"[26-Jul-2012 09:49:59{zone}] PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried"
    (item,) = told(PhpErrors(), [line], Anchor(1700000000.0, timezone(timedelta(hours=-1))))
    text = line.partition("] ")[2]
    assert item.event == AppError(ts, "php", "fatal", "memory_limit", "out-of-memory", None, text)
    assert item.clock == clock


def test_phps_own_log_goes_on_over_lines() -> None:
    lines = [
        "[26-Jul-2012 09:49:59 UTC] PHP Fatal error:  Uncaught Error: x in /srv/e.php:1",
        "Stack trace:",
        "#0 {main}",
        "  thrown in /srv/e.php on line 1",
        "[26-Jul-2012 09:50:00 UTC] PHP Notice:  Undefined variable: x in /srv/e.php on line 1",
        "[26-Jul-2012 09:50:01 UTC] WordPress database error Too many connections for query SELECT 1 made by x",
    ]
    teller = PhpErrors()
    items = told(teller, lines)
    codes = [(item.line, item.event.code) for item in items if isinstance(item.event, AppError)]
    assert codes == [(1, "php-fatal"), (6, "wordpress-database")]
    assert teller.unparsed == 0


def test_the_logs_are_told_apart() -> None:
    errors = ["[26-Jul-2012 09:49:59 UTC] PHP Warning:  x in y on line 1"]
    samples: dict[type[Entries], list[str]] = {FpmLog: FPM, FpmSlow: SLOW[:4], PhpErrors: errors}
    for teller in samples:
        assert [name for name, lines in samples.items() if teller.share(lines) > 0] == [teller]


@given(st.sampled_from((FpmLog, FpmSlow, PhpErrors)), st.sampled_from((*FPM, *FPM_SLOW_AND_PHP, *SLOW)), st.text())
def test_any_text_is_read(kind: type[Entries], line: str, text: str) -> None:
    half = len(line) // 2
    lines = (line, text, line + text, text + line, line[:half] + text + line[half:], line[:half])
    assert all(1 <= item.line <= len(lines) for item in told(kind(), lines))
