"""Formats by name, and by trying."""

from __future__ import annotations

from datetime import UTC
from ipaddress import ip_network

import pytest

from tocsin.formats import Anchor, Proxies, best, by_name, sniff

ANCHOR = Anchor(1700000000.0, UTC)
TIME = "20/Jun/2016:11:17:34 -0400"
COMMON = f'192.0.2.1 - - [{TIME}] "GET / HTTP/1.1" 200 5'
COMBINED = f'{COMMON} "-" "Mozilla/5.0"'
LOGIN = "Dec 10 06:55:48 h sshd[1]: Failed password for root from 192.0.2.1 port 5 ssh2"
CADDY = (
    '{"ts":1.5,"logger":"http.log.access","request":{"remote_ip":"192.0.2.1","method":"GET","uri":"/"},"status":200}'
)


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("common", COMMON),
        ("combined", COMBINED),
        ("vhost_combined", f"example.org:80 {COMBINED}"),
        ("vhost_combined", f"example.org {COMBINED}"),
        ("main", f'{COMBINED} "-"'),
        ("combined and more", f"{COMBINED} 1234 0.5"),
        ("sshd-syslog", LOGIN),
        ("sshd-syslog", "Jun  3 13:45:03 ywamrest /USR/SBIN/CRON[770]: (root) CMD (x)"),
        ("caddy", CADDY),
        (
            "traefik",
            '{"ClientAddr":"192.0.2.1:5","RequestMethod":"GET","RequestPath":"/","StartUTC":"2021-05-16T08:30:00Z"}',
        ),
        ("journal", '{"__REALTIME_TIMESTAMP":"1700000000123456","_COMM":"cron","MESSAGE":"x"}'),
        ("json", f'{{"time_local":"{TIME}","remote_addr":"192.0.2.1","request":"GET / HTTP/1.1","status":"200"}}'),
    ],
)
def test_the_best_guess(name: str, line: str) -> None:
    guesses = sniff([line.encode()] * 9 + [b"junk \x1b"], ANCHOR)
    found = best(guesses)
    assert found is not None
    assert (found.format.name, found.share, found.tried, found.sample) == (name, 0.9, 10, "junk \x1b")


def test_what_nothing_fits_is_no_guess() -> None:
    assert sniff([b"junk", b"", b"\xff"], ANCHOR) == []
    assert best([]) is None
    assert sniff([], ANCHOR) == []
    few = sniff([COMBINED.encode(), b"x", b"y"], ANCHOR)
    assert best(few) is None
    assert best(few, 0.3) is few[0]


@pytest.mark.parametrize(
    ("spec", "name", "kind"),
    [
        ("combined", "combined", "access"),
        ("sshd", "sshd-syslog", "auth"),
        ("syslog", "sshd-syslog", "auth"),
        ("journal", "journal", "auth"),
        ("caddy-json", "caddy", "access"),
        (" apache %h %t ", "apache %h %t", "access"),
        ("nginx $remote_addr $msec", "nginx $remote_addr $msec", "access"),
        ("nginx escape=json $remote_addr $msec", "nginx escape=json $remote_addr $msec", "access"),
    ],
)
def test_names(spec: str, name: str, kind: str) -> None:
    form = by_name(spec)
    assert (form.name, form.kind) == (name, kind)
    assert by_name(form.name).name == form.name, "a format's name is a spec for it"


@pytest.mark.parametrize(
    "spec", ["", "foo", "apache", "nginx", "nginx escape=json", "apache foo", "nginx escape=x $msec"]
)
def test_unknown_names_say_what_was_expected(spec: str) -> None:
    with pytest.raises(ValueError, match=r"expected|such as|no time"):
        by_name(spec)


def test_proxies_are_handed_on() -> None:
    proxies = Proxies([ip_network("192.0.2.0/24")])
    for name, line in (("combined", COMBINED), ("caddy", CADDY)):
        event = by_name(name, proxies).parse(line.encode(), ANCHOR)
        assert getattr(event, "via", None) == "192.0.2.1"
