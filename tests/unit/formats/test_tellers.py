"""Every kind of log is known by its content, and taken for no other."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

import pytest

from tocsin.formats.tellers import LEAST_SHARE, TELLERS, teller_for

SAMPLES = {
    "kernel": """\
[4747880.173192] Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child
[4747880.176918] Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB
[4747881.542885] init: mysql main process (6526) terminated with status 1
[4747881.542913] init: mysql main process ended, respawning""",
    "kernel -T": """\
[Fri Oct  8 14:08:06 2021] apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0
[Fri Oct  8 14:08:06 2021] [ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
[Fri Oct  8 14:08:06 2021] [10666]    33 10666    21571     9423   0       0             0 apache2""",
    "system": """\
Jun  3 13:29:51 ywamrest kernel: apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0
May 19 12:19:38 ip-172-26-14-230 kernel: [230460.421540] Node 0 Normal free:3224kB
Jun  3 14:02:36 ywamrest mysqld_safe[781]: Number of processes running now: 0
Jun  3 13:45:03 ywamrest /USR/SBIN/CRON[770]: (root) CMD (/etc/webmin/status/monitor.pl)""",
    "system iso": """\
2026-02-08T00:40:07.136582+00:00 largeweb2 systemd[1]: user-1021.slice: A process of this unit has been killed by the OOM killer.
2026-02-08T00:40:08.000000+00:00 largeweb2 mariadbd[77]: 2026-02-08  0:40:08 0 [Note] InnoDB: Using Linux native AIO""",
    "system json": """\
{"__REALTIME_TIMESTAMP":"1685798991000000","MESSAGE":"x","SYSLOG_IDENTIFIER":"kernel"}
{"__REALTIME_TIMESTAMP":"1685798991000001","MESSAGE":null}""",
    "apache-error 2.2": """\
[Sat Jun 01 02:17:42 2013] [error] [client 192.168.33.1] File does not exist: /srv/http/site/x
[Sun Jul 05 19:21:12 2015] [error] server reached MaxClients setting, consider raising the MaxClients setting
[Sun Dec 04 04:47:44 2005] [notice] workerEnv.init() ok /etc/httpd/conf/workers2.properties""",
    "apache-error 2.4": """\
[Fri Oct 08 14:08:06.376261 2021] [mpm_prefork:error] [pid 2029] AH00161: server reached MaxRequestWorkers setting, consider raising the MaxRequestWorkers setting
[Sat May 09 00:35:52.389262 2020] [:error] [pid 22406:tid 139985298601728] [client 192.0.2.2:47762] [client 192.0.2.2] ModSecurity: Access denied with code 401 (phase 2).""",
    "nginx-error": """\
2014/05/15 08:57:21 [alert] 31914#0: *13546 128 worker_connections are not enough while connecting to upstream, client: 1.2.3.4, server: , request: "GET /index.php?q=user HTTP/1.0", upstream: "http://127.0.0.1:452/index.php?q=user", host: "dev-example.gotpantheon.com"
2015/10/29 20:01:02 [error] 256554#0: *99927 limiting requests, excess: 1.852 by zone "one", client: 1.2.3.4, server: example.com, request: "POST /index.htm HTTP/1.0", host: "exmaple.com\"""",
    "php-fpm": """\
[26-Jul-2012 09:49:59] WARNING: [pool www] seems busy (you may need to increase pm.start_servers, or pm.min/max_spare_servers), spawning 32 children, there are 8 idle, and 58 total children
[26-Jul-2012 09:50:00] WARNING: [pool www] server reached pm.max_children setting (50), consider raising it""",
    "php-fpm-slow": """\
[26-Jul-2012 09:49:59]  [pool www] pid 2029
script_filename = /srv/http/index.php
[0x00007f] sleep() /srv/http/index.php:3
""",
    "php-errors": """\
[20-Jun-2016 11:17:34 UTC] PHP Fatal error:  Allowed memory size of 134217728 bytes exhausted (tried to allocate 20480 bytes) in /srv/http/x.php on line 5
[20-Jun-2016 11:17:35 UTC] PHP Warning:  mysqli_connect(): (HY000/2002): Connection refused in /srv/http/x.php on line 5""",
    "mysql-error 5.5": """\
230312 19:26:00 [Warning] IP address '10.10.10.10' could not be resolved: Name or service not known
140521 08:26:40 mysqld_safe Starting mysqld daemon with databases from /var/lib/mysql""",
    "mysql-error 5.6": """\
2014-05-21 08:33:23 25042 [ERROR] InnoDB: Cannot allocate memory for the buffer pool
2019-10-16 17:24:15 0 [Note] InnoDB: Using Linux native AIO""",
    "mysql-error 8": """\
2016-12-09T12:08:33.402440Z 0 [Note] InnoDB: Database was not shutdown normally!
2016-12-09T22:21:02.443689Z 0 [Note] InnoDB: page_cleaner: 1000ms intended loop took 772568ms. The settings might not be optimal. (flushed=0 and evicted=0, during the time.)
2019-03-24T13:44:34.420123Z 0 [System] [MY-010931] [Server] /usr/sbin/mysqld: ready for connections.""",
    "mysql-slow": """\
# Time: 161209 14:37:59
# User@Host: root[root] @ localhost []  Id:    14
# Query_time: 178.306017  Lock_time: 0.000000 Rows_sent: 0  Rows_examined: 53022772
SET timestamp=1481294279;
select * from wp_options;""",
    "postgresql": """\
2017-07-31 13:36:43.557 CEST [4983] postgres@postgres LOG:  duration: 37.118 ms  statement: SELECT 1
2021-09-09 18:15:08 UTC [560567]: LOG:  server process (PID 2351983) was terminated by signal 9: Killed""",
    "dpkg": """\
2021-10-08 06:25:01 startup packages configure
2021-10-08 06:25:02 upgrade php8.2-fpm:amd64 8.2.20-1 8.2.26-1
2021-10-08 06:25:03 status half-configured php8.2-fpm:amd64 8.2.20-1""",
    "apt-history": """\
Start-Date: 2021-10-08  06:25:01
Commandline: /usr/bin/unattended-upgrade
Upgrade: php8.2-fpm:amd64 (8.2.20-1, 8.2.26-1)
End-Date: 2021-10-08  06:25:09""",
    "fail2ban": """\
2016-06-20 01:31:42,859 fail2ban.jail : INFO Jail 'apache-xmlrpc' started
2016-06-20 11:17:38,062 fail2ban.actions: WARNING [apache-xmlrpc] Ban 63.251.225.206""",
    "snapshot": """\
              total        used        free      shared  buff/cache   available
Mem:         497232      400000       10000        1000       87232       60000
Swap:        262140      262140           0""",
}


@pytest.mark.parametrize("name", SAMPLES)
def test_every_kind_is_told_as_itself(name: str) -> None:
    found = teller_for(SAMPLES[name].splitlines())
    assert found is not None
    teller, share = found
    assert teller.name == name.partition(" ")[0]
    assert share == pytest.approx(1.0)


@pytest.mark.parametrize("name", SAMPLES)
def test_no_other_kind_fits_as_well(name: str) -> None:
    lines = SAMPLES[name].splitlines()
    others = [kind for kind in TELLERS if kind.name != name.partition(" ")[0] and kind.share(lines) >= LEAST_SHARE]
    assert others == []


def test_every_kind_has_a_sample() -> None:
    assert {kind.name for kind in TELLERS} == {name.partition(" ")[0] for name in SAMPLES}


@pytest.mark.parametrize(
    "lines",
    [
        [],
        ["", "  "],
        ["nothing", "that anybody", "knows"],
        ['192.0.2.7 - - [20/Jun/2016:11:17:34 -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" "x"'] * 3,
        ['{"time": "2016-06-20", "MESSAGE": "x"}'],
    ],
)
def test_what_is_no_known_kind(lines: list[str]) -> None:
    assert teller_for(lines) is None


def test_a_file_of_two_kinds_is_of_the_one_that_fits_more() -> None:
    kernel, apache = SAMPLES["kernel"].splitlines(), SAMPLES["apache-error 2.2"].splitlines()
    found = teller_for([*kernel, *apache])
    assert found is not None
    assert (found[0].name, found[1]) == ("kernel", 4 / 7)


def test_of_kinds_that_fit_alike_the_first_is_taken() -> None:
    found = teller_for([*SAMPLES["kernel"].splitlines(), *SAMPLES["system"].splitlines()])
    assert found is not None
    assert (type(found[0]), found[1]) == (TELLERS[0], 0.5)
