"""Apache's error log: lines and what they tell, beside each other; forgeries; a server's comings and goings."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.apache_error import ApacheError, apache_message
from tocsin.formats.base import Anchor
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState, StorageError

ANCHOR = Anchor(1700000000.0, UTC)
T24 = "[Fri Oct 08 14:08:06.376261 2021]"
TS24 = 1633702086.376261
T22 = "[Sun Jul 05 19:21:12 2015]"
TS22 = 1436124072.0


def told(*lines: str) -> list[ServerEvent]:
    teller = ApacheError()
    events = [item.event for number, line in enumerate(lines, 1) for item in teller.tell(line, number, ANCHOR)]
    assert teller.unparsed == 0
    return events  # type: ignore[return-value]


def brief(event: ServerEvent) -> tuple[object, ...]:
    """What an event says beside its time and words."""
    match event:
        case AppError():
            return event.service, event.code, event.symptom, event.source_ip
        case LimitReached():
            return event.service, event.limit, event.value, event.near
        case ServiceState():
            return event.service, event.state
        case StorageError():
            return event.service, event.error
        case _:
            return (event,)


@pytest.mark.parametrize(
    "line",
    [
        "[Sat Jun 01 02:17:42 2013] [error] [client 192.168.33.1] File does not exist: /srv/http/site/x",
        "[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok /etc/httpd/conf/workers2.properties",
        f"{T24} [mpm_prefork:info] [pid 32434:tid 32434] AH00164: Server built: 2026-11-12T08:58:41",
        f"{T24} [proxy_fcgi:error] [pid 7] [client 192.0.2.7:1] AH01071: Got error 'Primary script unknown'",
        f"{T24} [php7:notice] [pid 2] [client 192.0.2.7:1] PHP Notice:  Undefined index: a in /x.php on line 3",
        f"{T24} [mpm_event:notice] [pid 2:tid 3] AH00052: child pid 77 exit signal Terminated (15)",
    ],
)
def test_lines_that_tell_nothing_fit_all_the_same(line: str) -> None:
    assert told(line) == []


@pytest.mark.parametrize(
    ("line", "event"),
    [
        (
            f"{T22} [error] server reached MaxClients setting, consider raising the MaxClients setting",
            LimitReached(TS22, "apache2", "MaxClients"),
        ),
        (
            f"{T24} [mpm_prefork:error] [pid 2029] AH00161: server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting",
            LimitReached(TS24, "apache2", "MaxRequestWorkers"),
        ),
        (
            f"{T24} [mpm_prefork:notice] [pid 2029] AH00052: child pid 31210 exit signal Killed (9)",
            ProcessKilled(TS24, "apache2", 31210, "signal", "KILL"),
        ),
        (
            f"{T22} [notice] child pid 31210 exit signal Segmentation fault (11), possible coredump in /etc/apache2",
            ProcessKilled(TS22, "apache2", 31210, "signal", "SEGV"),
        ),
        (
            "[Sun Sep 14 21:44:43.008606 2014] [authz_core:error] [pid 10691] [client 192.3.9.178:44271] AH01630: client denied by server configuration: /var/www/html/noentry/cant_get_me.html",
            AppError(
                1410731083.008606,
                "apache2",
                "error",
                "AH01630",
                "denied",
                "192.3.9.178",
                "client denied by server configuration: /var/www/html/noentry/cant_get_me.html",
            ),
        ),
        (
            "[Sat May 09 00:35:52.389262 2020] [:error] [pid 22406:tid 139985298601728] [client 192.0.2.2:47762] [client 192.0.2.2] ModSecurity: Access denied with code 401 (phase 2).",
            AppError(
                1588984552.389262,
                "apache2",
                "error",
                "modsecurity",
                "denied",
                "192.0.2.2",
                "ModSecurity: Access denied with code 401 (phase 2).",
            ),
        ),
    ],
)
def test_lines_mean_what_stands_beside_them(line: str, event: ServerEvent) -> None:
    assert told(line) == [event]


MESSAGES = [
    ("mpm_event:error", "AH00484: server reached MaxRequestWorkers setting", ("MaxRequestWorkers", None, False)),
    ("mpm_worker:error", "AH00286: server reached MaxRequestWorkers setting", ("MaxRequestWorkers", None, False)),
    ("mpm_event:error", "AH10159: server is within MinSpareThreads of", ("MaxRequestWorkers", None, True)),
    ("mpm_event:error", "AH03490: scoreboard is full, not at MaxRequestWorkers.", ("scoreboard", None, False)),
    ("mpm_worker:error", "AH00288: scoreboard is full, not at MaxRequestWorkers", ("scoreboard", None, False)),
    (
        "mpm_prefork:info",
        "AH00162: server seems busy, (you may need to increase StartServers, or Min/MaxSpareServers), spawning 32 children, there are 0 idle, and 98 total children",
        ("MaxRequestWorkers", 98, True),
    ),
    ("mpm_prefork:error", "(11)Resource temporarily unavailable: AH00159: fork: Unable to fork new process",
     ("processes", None, False)),
    ("proxy:error", "(11)Resource temporarily unavailable: AH02454: FCGI: attempt to connect to Unix domain socket /run/php/php8.2-fpm.sock (*) failed", ("listen queue", None, False)),
    ("core:emerg", "(28)No space left on device: AH00023: Couldn't create the mpm-accept mutex",
     ("semaphores", None, False)),
    ("core:error", "(24)Too many open files: AH00528: something", ("open files", None, False)),
    ("mpm_prefork:error", "(12)Cannot allocate memory: AH00159: fork: Unable to fork new process",
     ("AH00159", "out-of-memory", None)),
    ("core:warn", "AH00045: child process 77 still did not exit, sending a SIGTERM", ("AH00045", None, None)),
    ("core:error", "AH00046: child process 77 still did not exit, sending a SIGKILL", ("AH00046", None, None)),
    ("proxy_fcgi:error", "(70007)The timeout specified has expired: [client 192.0.2.7:5] AH01075: Error dispatching request to : (polling)", ("AH01075", "backend-slow", "192.0.2.7")),
    ("proxy_fcgi:error", "(104)Connection reset by peer: [client 192.0.2.7:5] AH01075: Error dispatching request to :",
     ("AH01075", "backend-down", "192.0.2.7")),
    ("proxy_fcgi:error", "(70007)The timeout specified has expired: [client 2001:db8::1:44271] AH01067: Failed to read FastCGI header", ("AH01067", "backend-slow", "2001:db8::1")),
    ("proxy_fcgi:error", "[client 192.0.2.7:5] AH01068: Got bogus version 10", ("AH01068", "backend-down", "192.0.2.7")),
    ("proxy_fcgi:error", "[client 192.0.2.7:5] AH01070: Error parsing script headers", ("AH01070", "fatal", "192.0.2.7")),
    ("proxy_fcgi:error", "[client 192.0.2.7:5] AH01079: failed to make connection to backend: 127.0.0.1",
     ("AH01079", "backend-down", "192.0.2.7")),
    ("proxy_http:error", "[client 192.0.2.7:5] AH01114: HTTP: failed to make connection to backend: 127.0.0.1",
     ("AH01114", "backend-down", "192.0.2.7")),
    ("proxy:error", "(111)Connection refused: AH00957: http: attempt to connect to 127.0.0.1:1 (127.0.0.1:1) failed",
     ("AH00957", "backend-down", None)),
    ("access_compat:error", "[client 192.0.2.7:5] AH01797: client denied by server configuration: /x",
     ("AH01797", "denied", "192.0.2.7")),
    ("auth_basic:error", '[client 192.0.2.7:5] AH01617: user joe: authentication failure for "/auth": Password Mismatch',
     ("AH01617", "login", "192.0.2.7")),
    ("auth_basic:error", "[client 192.0.2.7:5] AH01618: user joe not found: /auth", ("AH01618", "login", "192.0.2.7")),
    ("reqtimeout:info", "[client 192.0.2.7:5] AH01382: Request header read timeout", ("AH01382", "timeout", "192.0.2.7")),
    ("cache_disk:warn", "(28)No space left on device: [client 192.0.2.7:5] AH00725: could not create a file", ("full",)),
]  # fmt: skip


@pytest.mark.parametrize(("who", "message", "says"), MESSAGES, ids=[message[:40] for _, message, _ in MESSAGES])
def test_numbered_messages(who: str, message: str, says: tuple[object, ...]) -> None:
    assert [brief(event) for event in told(f"{T24} [{who}] [pid 1234:tid 5] {message}")] == [("apache2", *says)]


PHP = [
    ("php:error", "PHP Fatal error:  Allowed memory size of 4194304 bytes exhausted (tried", "memory_limit", "out-of-memory"),
    (":error", "PHP Fatal error:  Maximum execution time of 30 seconds exceeded in", "max_execution_time", "backend-slow"),
    ("php7:error", "PHP Fatal error:  Uncaught Exception: boo\\nhoo in /e.php:1", "php-fatal", "fatal"),
    ("php:error", "PHP Fatal error:  Uncaught PDOException: SQLSTATE[HY000] [2002] Connection refused in", "php-database",
     "database-down"),
    ("php:warn", "PHP Warning:  mysqli_connect(): (HY000/2002): Connection refused in /x.php on line 1", "php-database",
     "database-down"),
    ("php:notice", "WordPress database error MySQL server has gone away for query SELECT", "wordpress-database",
     "database-down"),
    ("php:notice", "WordPress database error Deadlock found when trying for query SELECT 'Connection refused'",
     "wordpress-database", None),
    ("proxy_fcgi:error", "AH01071: Got error 'PHP message: PHP Warning:  x in /y.php on line 1; PHP message: PHP Fatal error:  Allowed memory size of 1 bytes exhausted'", "memory_limit", "out-of-memory"),
    ("fcgid:warn", "mod_fcgid: stderr: PHP Fatal error:  Uncaught Error: x", "php-fatal", "fatal"),
    ("cgi:error", "AH01215: PHP Parse error:  syntax error", "php-fatal", "fatal"),
]  # fmt: skip


@pytest.mark.parametrize(("who", "message", "code", "symptom"), PHP, ids=[message[:40] for _, message, _, _ in PHP])
def test_messages_of_php(who: str, message: str, code: str, symptom: str | None) -> None:
    events = told(f"{T24} [{who}] [pid 1234] [client 192.0.2.7:5] {message}, referer: https://example.org/")
    assert [brief(event) for event in events] == [("php", code, symptom, "192.0.2.7")]


def test_php_that_cannot_write_says_that_storage_is_full() -> None:
    written = (
        "PHP Warning:  file_put_contents(): Write of 10 bytes failed with errno=28 No space left on device in /x.php"
    )
    asked = "PHP Warning:  fopen(/tmp/: No space left on device): Failed to open stream: No such file or directory in /x.php"
    head = f"{T24} [php:warn] [pid 1] [client 192.0.2.7:5] "
    assert told(head + written, head + asked) == [StorageError(TS24, "php", "full")]


@pytest.mark.parametrize(
    "line",
    [
        # scripts and CGIs say what they like, under their own name
        f"{T24} [php:notice] [pid 1] [client 192.0.2.7:5] AH00161: server reached MaxRequestWorkers setting",
        f"{T24} [php:notice] [pid 1] [client 192.0.2.7:5] [client 203.0.113.66] AH00169: caught SIGTERM, shutting down",
        f"{T24} [cgi:error] [pid 1] [client 192.0.2.7:5] AH01215: AH00161: server reached MaxRequestWorkers setting",
        f"{T22} [error] [client 192.0.2.7] server reached MaxClients setting, consider raising the MaxClients setting",
        f"{T22} [error] [client 192.0.2.7] caught SIGTERM, shutting down",
        f"{T24} [core:error] [pid 1] [client 192.0.2.7:5] AH00161: server reached MaxRequestWorkers setting",
        f"{T24} [core:info] [pid 1] [client 192.0.2.7:5] AH00128: File does not exist: /x\\n{T24} [mpm_event:error] [pid 1] AH00484: server reached MaxRequestWorkers setting",
        f"{T24} [core:info] [pid 1] [client 192.0.2.7:5] AH00128: File does not exist: /(28)No space left on device: x",
    ],
)
def test_what_a_client_or_script_writes_is_no_event(line: str) -> None:
    assert told(line) == []


@pytest.mark.parametrize(
    "message",
    [
        "AH01618: user evil, [client 203.0.113.66] not found: /auth",
        "AH01630: client denied by server configuration: /x [client 203.0.113.66]",
        "AH01630: client denied by server configuration: /x, referer: [client 203.0.113.66] AH01618: user a not found: /",
        "[client 203.0.113.66] ModSecurity: Access denied with code 403",
    ],
)
def test_a_forged_client_is_nobody(message: str) -> None:
    (event,) = told(f"{T24} [auth_basic:error] [pid 1] [client 192.0.2.7:5] {message}")
    assert isinstance(event, AppError)
    assert event.source_ip == "192.0.2.7"


RESTARTS = """\
[Sun Nov 22 09:52:44.499925 2026] [mpm_prefork:notice] [pid 32434:tid 32434] AH00163: Apache/2.4.71 (Debian) configured -- resuming normal operations
[Sun Nov 22 09:52:44.499994 2026] [core:notice] [pid 32434:tid 32434] AH00094: Command line: 'apache2 -f /etc/h.conf'
[Sun Nov 22 09:52:50.603645 2026] [mpm_prefork:notice] [pid 32434:tid 32434] AH00171: Graceful restart requested, doing restart
[Sun Nov 22 09:52:50.647412 2026] [mpm_prefork:notice] [pid 32434:tid 32434] AH00163: Apache/2.4.71 (Debian) configured -- resuming normal operations
[Sun Nov 22 09:52:50.647494 2026] [core:notice] [pid 32434:tid 32434] AH00094: Command line: 'apache2 -f /etc/h.conf'
[Sun Nov 22 09:53:01.863469 2026] [core:warn] [pid 32162:tid 32162] AH00098: pid file /run/apache2.pid overwritten -- Unclean shutdown of previous Apache run?
[Sun Nov 22 09:53:01.865511 2026] [mpm_prefork:notice] [pid 32162:tid 32162] AH00163: Apache/2.4.71 (Debian) configured -- resuming normal operations
[Sun Nov 22 09:53:04.875593 2026] [mpm_prefork:notice] [pid 32162:tid 32162] AH00173: SIGHUP received.  Attempting to restart
[Sun Nov 22 09:53:04.897821 2026] [mpm_prefork:notice] [pid 32162:tid 32162] AH00163: Apache/2.4.71 (Debian) configured -- resuming normal operations
[Sun Nov 22 09:53:06.883989 2026] [mpm_prefork:notice] [pid 32162:tid 32162] AH00170: caught SIGWINCH, shutting down gracefully
[Sun Nov 22 09:53:08.995139 2026] [core:error] [pid 32263:tid 32263] AH00100: apache2: could not log pid to file /nonexistent/x
[Sun Nov 22 09:53:10.002664 2026] [mpm_prefork:notice] [pid 32266:tid 32266] AH00163: Apache/2.4.71 (Debian) configured -- resuming normal operations
[Sun Nov 22 09:53:11.009005 2026] [mpm_prefork:notice] [pid 32266:tid 32266] AH00169: caught SIGTERM, shutting down
""".splitlines()


def test_each_coming_and_going_is_told_once() -> None:
    states = [event.state for event in told(*RESTARTS) if isinstance(event, ServiceState)]
    first = ["started", "reloaded", "recovered", "started", "reloaded", "stopping", "refused", "started", "stopped"]
    assert states == first


def test_the_same_of_2_2() -> None:
    lines = (
        f"{T22} [notice] Apache/2.2.22 (Ubuntu) PHP/5.3.10-1ubuntu3 with Suhosin-Patch configured -- resuming normal operations",
        f"{T22} [notice] SIGUSR1 received.  Doing graceful restart",
        f"{T22} [notice] caught SIGTERM, shutting down",
    )
    assert [brief(event)[1] for event in told(*lines)] == ["started", "reloaded", "stopped"]


@pytest.mark.parametrize(
    "message",
    [
        "AH00526: Syntax error on line 44 of /etc/apache2/apache2.conf:",
        "(98)Address already in use: AH00072: make_sock: could not bind to address 127.0.0.1:18081",
        "no listening sockets available, shutting down",
        "AH00015: Unable to open logs",
        "AH00020: Configuration Failed, exiting",
        "apache2: Syntax error on line 146 of /etc/apache2/apache2.conf: Cannot load modules/mod_x.so into server: modules/mod_x.so: undefined symbol: ap_x",
    ],
)
def test_why_it_did_not_start_comes_without_a_head(message: str) -> None:
    event = apache_message(TS24, message)
    assert isinstance(event, ServiceState)
    assert event.state == "refused"


def test_a_log_is_known_by_its_lines() -> None:
    assert ApacheError.share(RESTARTS) == 1.0
    assert ApacheError.share(["2014/05/15 08:57:21 [alert] 31914#0: x", "[26-Jul-2012 09:49:59] NOTICE: x"]) == 0.0


HEADS = st.sampled_from((f"{T24} [php:error] [pid 1] ", f"{T22} [error] ", f"{T24} [:error] [client 192.0.2.7:5] ", ""))
WORDS = st.sampled_from((*(message for _, message, _ in MESSAGES), *(message for _, message, _, _ in PHP), ""))


@given(HEADS, WORDS, st.text(max_size=60), st.integers(0, 100))
def test_any_text_is_read(head: str, words: str, text: str, at: int) -> None:
    line = head + words[:at] + text + words[at:]
    teller = ApacheError()
    assert all(item.text == line[:1000] for item in teller.tell(line, 1, ANCHOR))
    apache_message(TS24, line)
