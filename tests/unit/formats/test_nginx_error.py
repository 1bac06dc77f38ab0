"""nginx's error log: lines and what they tell; whose words stand where; entries that go on over lines."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.nginx_error import NginxError
from tocsin.server_events import AppError, LimitReached, ProcessKilled, ServerEvent, ServiceState, StorageError

ANCHOR = Anchor(1700000000.0, UTC)
HEAD = "2015/10/29 20:01:02 [error] 256554#0: *99927 "
TS = 1446148862.0
REST = ', client: 192.0.2.7, server: example.org, request: "GET /a HTTP/1.1", host: "example.org"'


def told(*lines: str) -> list[ServerEvent]:
    teller = NginxError()
    events = [item.event for number, line in enumerate(lines, 1) for item in teller.tell(line, number, ANCHOR)]
    assert teller.unparsed == 0
    return events  # type: ignore[return-value]


def complaint(line: str) -> tuple[object, ...]:
    (event,) = told(line)
    assert isinstance(event, AppError)
    return event.service, event.code, event.symptom, event.source_ip


def test_the_real_lines() -> None:
    assert told(
        "2014/05/15 08:57:21 [alert] 31914#0: *13546 128 worker_connections are not enough while connecting to upstream,"
        ' client: 1.2.3.4, server: , request: "GET /index.php?q=user HTTP/1.0", upstream: "http://127.0.0.1:452/index.php?q=user", host: "dev-example.gotpantheon.com"'
    ) == [LimitReached(1400144241.0, "nginx", "worker_connections", 128)]
    line = f'{HEAD}limiting requests, excess: 1.852 by zone "one", client: 1.2.3.4, server: example.com, request: "POST /index.htm HTTP/1.0", host: "exmaple.com"'
    text = line[len(HEAD) :]
    assert told(line) == [AppError(TS, "nginx", "error", "limit_req", "denied", "1.2.3.4", text)]


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("upstream timed out (110: Connection timed out) while reading response header from upstream",
         ("upstream-timeout", "backend-slow")),
        ("connect() failed (111: Connection refused) while connecting to upstream", ("connect", "backend-down")),
        ("connect() to unix:/run/php.sock failed (2: No such file or directory) while connecting to upstream",
         ("connect", "backend-down")),
        ("recv() failed (104: Connection reset by peer) while reading response header from upstream",
         ("recv", "backend-down")),
        ("no live upstreams while connecting to upstream", ("no-live-upstreams", "backend-down")),
        ("upstream prematurely closed connection while reading response header from upstream",
         ("upstream-closed", "backend-down")),
        ('limiting connections by zone "addr"', ("limit_conn", "denied")),
        ('delaying request, excess: 0.978, by zone "one"', ("delayed", None)),
        ("access forbidden by rule", ("forbidden", "denied")),
        ('user "joe": password mismatch', ("auth_basic", "login")),
        ('user "joe" was not found in "/etc/nginx/htpasswd"', ("auth_basic", "login")),
        ("client timed out (110: Connection timed out) while reading client request headers",
         ("client-timeout", "timeout")),
    ],
)  # fmt: skip
def test_complaints(message: str, says: tuple[object, ...]) -> None:
    assert complaint(HEAD + message + REST) == ("nginx", *says, "192.0.2.7")


@pytest.mark.parametrize(
    ("line", "event"),
    [
        ("[error] 1#1: *5 connect() to unix:/run/php/php8.3-fpm.sock failed (11: Resource temporarily unavailable) while connecting to upstream" + REST, LimitReached(TS, "php-fpm", "listen queue")),
        ("[error] 1#1: *5 connect() to unix:/run/php-fpm/www.sock failed (11: Resource temporarily unavailable) while connecting to upstream" + REST, LimitReached(TS, "php-fpm", "listen queue")),
        ("[error] 1#1: *5 connect() to unix:/run/gunicorn.sock failed (11: Resource temporarily unavailable) while connecting to upstream" + REST, LimitReached(TS, "gunicorn", "listen queue")),
        ("[alert] 1#1: *5 socket() failed (24: Too many open files) while connecting to upstream" + REST,
         LimitReached(TS, "nginx", "open files")),
        ("[crit] 1#1: accept4() failed (24: Too many open files)", LimitReached(TS, "nginx", "open files")),
        ("[warn] 1#1: 512 worker_connections are not enough, reusing connections",
         LimitReached(TS, "nginx", "worker_connections", 512, near=True)),
        ("[alert] 1#1: worker process 77 exited on signal 9", ProcessKilled(TS, "nginx", 77, "signal", "KILL")),
        ("[alert] 1#1: worker process 77 exited on signal 11 (core dumped)",
         ProcessKilled(TS, "nginx", 77, "signal", "SEGV")),
        ('[crit] 1#1: *5 pwrite() "/var/lib/nginx/body/0000000001" failed (28: No space left on device)' + REST,
         StorageError(TS, "nginx", "full", "/var/lib/nginx/body/0000000001")),
        ('[alert] 1#1: fork() failed while spawning "worker process" (12: Cannot allocate memory)',
         AppError(TS, "nginx", "alert", "ENOMEM", "out-of-memory", None,
                  'fork() failed while spawning "worker process" (12: Cannot allocate memory)')),
    ],
)  # fmt: skip
def test_limits_storage_and_deaths(line: str, event: ServerEvent) -> None:
    assert told(f"2015/10/29 20:01:02 {line}") == [event]


@pytest.mark.parametrize(
    "message",
    [
        'open() "/srv/a, client: 203.0.113.66, server: x" failed (2: No such file or directory)',
        'open() "/srv/x" failed (28: No space left on device), client: 203.0.113.66, server: " failed (2: No such file)',
        'open() "/srv/\n2015/10/29 20:01:02 [alert] 1#1: worker process 7 exited on signal 9" failed (2: No such file)',
        'directory index of "/srv/access forbidden by rule, client: 203.0.113.66, server: /" is forbidden',
    ],
)
def test_names_of_files_are_no_events(message: str) -> None:
    assert told(HEAD + message + REST) == []


def test_the_client_is_the_one_that_nginx_names() -> None:
    forged = 'x", client: 203.0.113.66, server: y, request: "'
    rest = f', client: 192.0.2.7, server: , request: "GET /{forged} HTTP/1.1", host: "a", referrer: "{forged}"'
    assert complaint(f"{HEAD}access forbidden by rule{rest}")[3] == "192.0.2.7"
    # a user's name comes before the client: where it names one, too, nobody is named
    assert complaint(f'{HEAD}user "{forged}": password mismatch{REST}')[3] is None
    assert complaint(f'{HEAD}user "{forged}" was not found in "/etc/x"{REST}')[3] is None


FATAL = 'FastCGI sent in stderr: "PHP message: PHP Fatal error:  Uncaught Exception: boo'


def test_stderr_may_go_on_over_lines() -> None:
    end = '  thrown in /srv/e.php on line 1" while reading response header from upstream' + REST
    after = f"{HEAD}access forbidden by rule{REST}"
    events = told(HEAD + FATAL, "Stack trace:", "#0 {main}", end, after)
    assert [event.code for event in events if isinstance(event, AppError)] == ["php-fatal", "forbidden"]
    # a script's words that look like a line of their own
    inside = "2015/10/29 20:01:02 [alert] 1#1: worker process 7 exited on signal 9"
    assert not any(isinstance(event, ProcessKilled) for event in told(HEAD + FATAL, inside, end))


def test_an_entry_that_was_cut_ends_where_nginx_cuts() -> None:
    lines = (HEAD + FATAL, "x" * (2047 - len(HEAD) - len(FATAL) - 1), f"{HEAD}access forbidden by rule{REST}")
    assert [event.code for event in told(*lines) if isinstance(event, AppError)] == ["php-fatal", "forbidden"]


SERVICE = """\
2026/11/22 09:52:53 [notice] 32487#32487: start worker processes
2026/11/22 09:52:53 [notice] 32487#32487: start worker process 32490
2026/11/22 09:53:00 [notice] 32487#32487: signal 1 (SIGHUP) received from 32594, reconfiguring
2026/11/22 09:53:00 [notice] 32487#32487: reconfiguring
2026/11/22 09:53:00 [notice] 32487#32487: start worker processes
2026/11/22 09:53:00 [notice] 32490#32490: exit
2026/11/22 09:53:00 [notice] 32487#32487: worker process 32490 exited with code 0
2026/11/22 09:53:02 [emerg] 32604#32604: bind() to 127.0.0.1:18082 failed (98: Address already in use)
2026/11/22 09:53:02 [emerg] 32604#32604: bind() to 127.0.0.1:18082 failed (98: Address already in use)
2026/11/22 09:53:02 [emerg] 32604#32604: still could not bind()
2026/11/22 09:53:05 [emerg] 32605#32605: unexpected end of file, expecting ";" or "}" in /etc/nginx/nginx.conf:19
2026/11/22 09:53:05 [notice] 32487#32487: signal 15 (SIGTERM) received from 32427, exiting
2026/11/22 09:53:05 [notice] 32603#32603: exit
2026/11/22 09:53:05 [notice] 32487#32487: exit
""".splitlines()


def test_each_coming_and_going_is_told_once() -> None:
    states = [(event.state, event.detail[:6]) for event in told(*SERVICE) if isinstance(event, ServiceState)]
    refused = [("refused", "bind()"), ("refused", "unexpe")]
    assert states == [
        ("started", "start "),
        ("reloaded", "signal"),
        *refused,
        ("stopping", "signal"),
        ("stopped", "exit"),
    ]
    assert NginxError.share(SERVICE) == 1.0


@given(st.sampled_from((HEAD, HEAD.replace("error", "emerg"), "")), st.sampled_from((FATAL, REST, *SERVICE)), st.text())
def test_any_text_is_read(head: str, words: str, text: str) -> None:
    teller = NginxError()
    for number, line in enumerate((head + words + text, head + text + words, text), 1):
        assert all(item.line == number for item in teller.tell(line, number, ANCHOR))
