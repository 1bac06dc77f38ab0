"""Law 8, its last clause: no line costs more than its time budget, which grows with its length alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC
from ipaddress import ip_network

import pytest

from tocsin.formats import Anchor, Format, Proxies, by_name

ANCHOR = Anchor(1700000000.0, UTC)
N = 30_000
PROXIED = b'10.0.0.1 - - [20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "-" "'
ADVERSARIAL = (
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "' + b"\\" * n,
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "' + b'\\"' * (n // 2),
    lambda n: b"1.2.3.4 - " + b" [20/Jun/2016:11:17:34 -0400] " * (n // 30),
    lambda n: b"1.2.3.4 - " + b"a " * (n // 2) + b'[20/Jun/2016:11:17:34 -0400] "GET / HTTP/1.1" 200 5 "-" "-" x"',
    lambda n: b"1.2.3.4 " * (n // 8),
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET ' + b" /" * (n // 2) + b' HTTP/1.1" 200 5 "-" "-"',
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET ' + b"/.." * (n // 3) + b' HTTP/1.1" 200 5 "-" "-"',
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "GET ' + b"%" * n + b' HTTP/1.1" 200 5 "-" "-"',
    lambda n: b'1.2.3.4 - - [20/Jun/2016:11:17:34 -0400] "' + b" " * n + b'HTTP/1.1" 200 5 "-" "-"',
    lambda n: PROXIED + b"10.0.0.1, " * (n // 10) + b'"',
    lambda n: PROXIED + b"," * n + b'"',
    lambda n: b"Dec 10 06:55:48 h sshd[1]: Failed password for " + b" from 1.1.1.1 port 5" * (n // 20),
    lambda n: b"Dec 10 06:55:48 h sshd[1]: Failed publickey for " + b" from 1.1.1.1 port 5 ssh2: " * (n // 27),
    lambda n: b"Dec 10 06:55:48 h sshd[1]: Invalid user " + b" from" * (n // 5),
    lambda n: b"Dec 10 06:55:48 h sshd[1]: Connection closed by authenticating user " + b" a" * (n // 2),
    lambda n: b"Dec 10 06:55:48 " + b"h" * n,
    lambda n: b'{"a":' * (n // 5),
    lambda n: b"[" * n,
    lambda n: b'{"time":"' + b"1" * n + b'"}',
    lambda n: b"\0" * n,
    lambda n: b"\xff" * n,
)  # fmt: skip
SPECS = (
    "combined",
    "common",
    "vhost_combined",
    "main",
    "combined and more",
    "caddy",
    "traefik",
    "json",
    "sshd",
    "journal",
    "apache %h %u %t %U %q %m",
    "apache %{User-Agent}i | %h %u | %t %>s %U",
    'nginx escape=none [$time_local] $remote_addr $status "$request" $http_user_agent $upstream_response_time',
    'nginx escape=json {"t":"$time_local","a":"$remote_addr","r":"$request","g":"$http_user_agent"}',
)
FORMATS = [by_name(spec, Proxies([ip_network("10.0.0.0/8")])) for spec in SPECS]


def cost_s(form: Format, line: bytes) -> float:
    best = float("inf")
    for _ in range(3):
        start = time.process_time()
        form.parse(line, ANCHOR)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("make", ADVERSARIAL)
def test_cost_grows_with_the_length_alone(make: Callable[[int], bytes]) -> None:
    """Twice the bytes cost at most three times the time, or so little that noise is all there is to see."""
    for form in FORMATS:
        for _ in range(3):
            once, twice = cost_s(form, make(N)), cost_s(form, make(2 * N))
            if twice <= 3 * once + 0.005:
                break
        else:
            pytest.fail(f"{form.name}: {once:.4f} s for {N} bytes, {twice:.4f} s for {2 * N}")
