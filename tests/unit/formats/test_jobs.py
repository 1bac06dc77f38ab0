"""Logs of dpkg, apt and fail2ban: what changed when, who was banned, and that triggers and restarts are neither."""

from __future__ import annotations

from datetime import UTC

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats import Anchor
from tocsin.formats.jobs import AptHistory, DpkgLog, Fail2banLog
from tocsin.formats.told import Told
from tocsin.server_events import Banned, Changed, JobStarted

ANCHOR = Anchor(1795340000.0, UTC)  # 22 November 2026

DPKG = """\
2025-06-24 14:36:25 startup archives unpack
2025-06-24 14:36:25 upgrade libsystemd0:amd64 252.36-1~deb12u1 252.38-1~deb12u1
2025-06-24 14:36:25 status triggers-pending libc-bin:amd64 2.36-9+deb12u10
2025-06-24 14:36:25 status half-configured libsystemd0:amd64 252.36-1~deb12u1
2025-06-24 14:36:26 conffile /etc/php/8.2/fpm/php.ini keep
2025-06-24 14:36:26 configure libsystemd0:amd64 252.38-1~deb12u1 <none>
2025-06-24 14:36:26 status installed libsystemd0:amd64 252.38-1~deb12u1
2025-06-24 14:36:27 install perl-modules-5.36:all <none> 5.36.0-7+deb12u2
2025-06-24 14:36:27 trigproc libc-bin:amd64 2.36-9+deb12u14 <none>
2025-06-24 14:36:28 status installed libc-bin:amd64 2.36-9+deb12u14
2025-06-24 14:36:29 remove nano:amd64 7.2-1 <none>
2025-06-24 14:36:29 status not-installed nano:amd64 <none>
"""

APT = """\
Start-Date: 2026-11-22  06:39:42
Commandline: apt-get install -y -qq --no-install-recommends apache2
Requested-By: admin (1000)
Install: libwrap0:amd64 (7.6.q-32, automatic), mariadb-server:amd64 (1:10.11.19-0+deb12u1)
Upgrade: perl-base:amd64 (5.36.0-7+deb12u2, 5.36.0-7+deb12u4)
End-Date: 2026-11-22  06:40:08

Start-Date: 2026-11-22  06:50:00
Commandline: /usr/bin/unattended-upgrade
Error: Sub-process /usr/bin/dpkg returned an error code (1)
"""


def read(log: DpkgLog | AptHistory | Fail2banLog, text: str) -> list[Told]:
    """All that a log tells."""
    told = [each for number, line in enumerate(text.split("\n"), start=1) for each in log.tell(line, number, ANCHOR)]
    return [*told, *log.finish()]


def test_dpkg_tells_what_began_and_what_was_done() -> None:
    log = DpkgLog()
    told = read(log, DPKG)
    assert [(each.line, each.event) for each in told] == [
        (2, Changed(1750775785.0, "libsystemd0", "upgrade 252.36-1~deb12u1 252.38-1~deb12u1")),
        (7, Changed(1750775786.0, "libsystemd0", "installed 252.38-1~deb12u1")),
        (8, Changed(1750775787.0, "perl-modules-5.36", "install 5.36.0-7+deb12u2")),
        (11, Changed(1750775789.0, "nano", "remove 7.2-1")),
    ]
    assert (log.unparsed, log.ts, log.clock, DpkgLog.share(DPKG.split("\n"))) == (0, 1750775789.0, "local", 1.0)


def test_apt_tells_each_run_with_its_changes() -> None:
    log = AptHistory()
    told = read(log, APT)
    start = 1795329582.0
    assert [(each.line, each.event) for each in told] == [
        (2, JobStarted(start, "apt", "apt-get install -y -qq --no-install-recommends apache2", "admin")),
        (4, Changed(start, "libwrap0", "install 7.6.q-32")),
        (4, Changed(start, "mariadb-server", "install 1:10.11.19-0+deb12u1")),
        (5, Changed(start, "perl-base", "upgrade 5.36.0-7+deb12u2 5.36.0-7+deb12u4")),
        (9, JobStarted(start + 618, "apt", "/usr/bin/unattended-upgrade")),
    ]
    assert (log.unparsed, AptHistory.share(APT.split("\n"))) == (0, 1.0)


@pytest.mark.parametrize(
    ("line", "ts", "jail", "subject", "verb"),
    [
        ("2016-06-20 11:17:38,062 fail2ban.actions: WARNING [apache-xmlrpc] Ban 63.251.225.206",
         1466421458.062, "apache-xmlrpc", "63.251.225.206", "ban"),
        ("2006-02-13 16:07:31,183 fail2ban.actions[123]: NOTICE [sendmail] Unban 1.2.3.4",
         1139846851.183, "sendmail", "1.2.3.4", "unban"),
        ("2006-02-13 15:52:30,388 fail2ban.actions        [123]: NOTICE  [sendmail] Restore Ban 2001:DB8::7",
         1139845950.388, "sendmail", "2001:db8::7", "ban"),
        ("2019-01-07 16:24:57 fail2ban.filter [1837]: NOTICE [recidive] Ban 192.0.2.0/25",
         1546878297.0, "recidive", "192.0.2.0/25", "ban"),
        ("Mar 05 08:41:28 test.org fail2ban-server[11524]: fail2ban.actions  [11524]: NOTICE  [postfix] Ban 192.0.2.2",
         1772700088.0, "postfix", "192.0.2.2", "ban"),
        ("Jan 16 17:11:25 testorg fail2ban.actions[6605]: NOTICE [postfix-auth] Ban 192.0.2.1",
         1768583485.0, "postfix-auth", "192.0.2.1", "ban"),
    ],
)  # fmt: skip
def test_bans_of_all_versions(line: str, ts: float, jail: str, subject: str, verb: str) -> None:
    (told,) = read(Fail2banLog(), line)
    assert told.event == Banned(ts, jail, subject, "ban" if verb == "ban" else "unban")


@pytest.mark.parametrize(
    "line",
    [
        "2016-06-20 01:31:42,842 fail2ban.jail : INFO Creating new jail 'apache-xmlrpc'",
        "2023-04-19 13:04:26,272 fail2ban.filter [745]: INFO [sshd] Found 192.0.2.105 - 2023-04-19 13:04:26",
        "2016-06-20 11:17:38,062 fail2ban.actions: WARNING [apache-xmlrpc] 192.0.2.7 already banned",
        "2016-06-20 11:17:38,062 fail2ban.actions: NOTICE [by-name] Ban some.host.example",
        "2016-06-20 11:17:38,062 fail2ban.filter [7]: INFO [x] Found 192.0.2.7 [y] Ban 192.0.2.8",
    ],
)
def test_what_is_no_ban(line: str) -> None:
    log = Fail2banLog()
    assert read(log, line) == []
    assert log.unparsed == 0


def test_what_does_not_fit_is_counted() -> None:
    log = Fail2banLog()
    read(log, "Traceback (most recent call last):\n2016-06-20 11:17:38,062 fail2ban.jail: INFO x\n  File x\nnonsense")
    assert (log.unparsed, log.sample) == (2, "Traceback (most recent call last):")


_LINES = st.one_of(
    st.sampled_from((DPKG + APT).split("\n")), st.text(max_size=60), st.just("Start-Date: 2026-13-22  06:39:42")
)


@given(st.lists(_LINES, max_size=20))
def test_any_text_is_read(lines: list[str]) -> None:
    for kind in (DpkgLog, AptHistory, Fail2banLog):
        log = kind()
        told = read(log, "\n".join(lines))
        assert 0 <= log.unparsed <= sum(1 + line.count("\n") for line in lines)
        assert all(each.event.ts for each in told if isinstance(each.event, Changed | JobStarted | Banned))
        assert 0.0 <= kind.share(lines) <= 1.0
