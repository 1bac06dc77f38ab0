"""Snapshots made by hand: each command's old and new shapes, real outputs, and what times a file of them gives."""

from __future__ import annotations

from datetime import UTC, datetime
from time import perf_counter
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.formats import Anchor
from tocsin.formats.snapshots.processes import base_name
from tocsin.formats.snapshots.snapshot import Snapshot
from tocsin.formats.snapshots.times import date_of
from tocsin.formats.told import Told
from tocsin.server_events import Connections, Filesystem, Processes, Sample

PARIS = ZoneInfo("Europe/Paris")
MIB = 1 << 20
# 5 July 2015, 21:40 in Paris
ANCHOR = Anchor(datetime(2015, 7, 5, 21, 40, tzinfo=PARIS).timestamp(), PARIS)

PS_AUX = """\
USER       PID %CPU %MEM    VSZ   RSS TTY      STAT START   TIME COMMAND
root         2  0.0  0.0      0     0 ?        S    03:15   0:00 [kthreadd]
root        25  0.0  0.0      0     0 ?        D    03:15   0:00 [kswapd0]
root       811  0.0  0.0 202940 21308 ?        Ss   09:54   0:00 php-fpm: master process (/etc/php/8.2/fpm/php-fpm.conf)
www-data  1023  1.4  0.1 341264 44000 ?        S    09:54   0:00 php-fpm: pool www
www-data  1024  0.0  0.0      0     0 ?        Z    09:54   0:00 [php-fpm8.2] <defunct>
mysql      640  0.2  0.6 1340200 149432 ?      Dl   09:54   0:00 /usr/sbin/mariadbd --user=mysql
root      1500 88.0  1.1 281264 270000 ?       R    03:00   9:10 python3 /usr/local/bin/backup.py --all
"""

TOP = """\
top - 09:55:31 up  6:39,  0 user,  load average: 0.71, 0.58, 0.55
Tasks: 143 total,   1 running, 142 sleeping,   0 stopped,   0 zombie
%Cpu(s):  2.5 us,  1.0 sy,  0.0 ni, 96.5 id,  0.0 wa,  0.0 hi,  0.0 si,  0.0 st
MiB Mem :  24105.6 total,  22403.0 free,   1250.2 used,    942.7 buff/cache
MiB Swap:      0.0 total,      0.0 free,      0.0 used.  22855.4 avail Mem

  PID USER      PR  NI    VIRT    RES    SHR S  %CPU  %MEM     TIME+ COMMAND
 1023 www-data  20   0  341264  44000  30148 S   0.0   0.2   0:00.08 php-fpm8.2
  640 mysql     20   0 1340200   1.2g  31024 S   0.0   0.6   0:00.40 mariadbd
    2 root      20   0       0      0      0 S   0.0   0.0   0:00.00 kthreadd
"""

# the figures of the outage of forensics: 256 MB, load 86.6, 167 tasks, nearly all of the swap used
OLD_TOP = """\
top - 14:02:31 up 41 days,  3:07,  0 users,  load average: 86.60, 71.32, 40.01
Tasks: 167 total,   1 running, 166 sleeping,   0 stopped,   0 zombie
Cpu(s):  1.2%us,  2.7%sy,  0.0%ni,  0.0%id, 96.0%wa,  0.0%hi,  0.1%si,  0.0%st
Mem:    262316k total,   259104k used,     3212k free,      180k buffers
Swap:   393208k total,   393004k used,      204k free,     3120k cached

  PID USER      PR  NI  VIRT  RES  SHR S %CPU %MEM    TIME+  COMMAND
 4711 www-data  20   0 44920  12m  728 D    0  5.0   0:00.41 apache2
 4712 www-data  20   0 44920 9124  728 D    0  3.5   0:00.32 apache2
  770 root      20   0 10644  604  496 D    0  0.2   0:00.02 monitor.pl
"""


def read(text: str, anchor: Anchor = ANCHOR) -> list[Told]:
    """All that a file tells; it must fit."""
    teller = Snapshot()
    told = [each for number, line in enumerate(text.split("\n"), start=1) for each in teller.tell(line, number, anchor)]
    told += teller.finish()
    assert teller.unparsed == 0, teller.sample
    return told


def samples(text: str) -> list[Sample]:
    """The samples of a file."""
    return [told.event for told in read(text) if isinstance(told.event, Sample)]


def sample(text: str) -> Sample:
    """The only sample of a file."""
    (seen,) = samples(text)
    return seen


def times(text: str, anchor: Anchor = ANCHOR) -> list[str]:
    """When the samples were, in the anchor's zone."""
    return [
        f"{datetime.fromtimestamp(told.event.ts, anchor.zone):%d %H:%M:%S} {told.clock}" for told in read(text, anchor)
    ]


# -- processes ---------------------------------------------------------------------------------------------------------


def test_processes_are_grouped_by_their_programs_name() -> None:
    (told,) = read(PS_AUX)
    assert isinstance(told.event, Sample)
    assert told.event.kind == "ps"
    assert told.event.processes == (
        Processes("python3", 1, 270000 * 1024, 0, 0, 270000 * 1024, "python3 /usr/local/bin/backup.py --all"),
        Processes("mariadbd", 1, 149432 * 1024, 0, 1, 149432 * 1024, "/usr/sbin/mariadbd --user=mysql"),
        Processes("php-fpm", 2, 65308 * 1024, 0, 0, 44000 * 1024, "php-fpm: pool www"),
        Processes("kswapd0", 1, 0, 0, 1, 0, "[kswapd0]"),
    )
    assert (told.line, told.text.endswith("backup.py --all")) == (8, True)


@pytest.mark.parametrize(
    ("header", "row", "name", "rss_kib"),
    [
        (
            "UID        PID  PPID  C STIME TTY       TIME CMD",
            "root 811 588 0 09:54 ? 00:00:00 nginx: master",
            "nginx",
            0,
        ),
        ("    PID    PPID   RSS STAT COMMAND", "   1023    1013 44000 S    php-fpm: pool www", "php-fpm", 44000),
        ("PID CMD                         %CPU %MEM", " 986 /usr/sbin/mysqld --daemoniz  0.1  7.3", "mysqld", 0),
        ("  PID         STARTED   RSS COMMAND", "    1 Sun Nov 22 03:15:34 2026 19428 systemd", "systemd", 19428),
        ("  PID  STARTED   RSS COMMAND", "    9   Jul 05 19428 cron", "cron", 19428),
        ("PID   USER     TIME  COMMAND", "  1 root      0:04 {init} /sbin/init", "{init}", 0),
        ("  PID USER       VSZ  RSS STAT COMMAND", " 77 root  1.2m 3m S  /usr/sbin/httpd -f", "httpd", 3072),
        ("  PID TTY  STAT  TIME  RSS COMMAND", " 2101 ? S 0:02 42996  |   \\_ /usr/sbin/apache2", "apache2", 42996),
        ("RSS COMMAND", "8436 -bash", "bash", 8436),
    ],
)
def test_columns_are_read_by_the_header(header: str, row: str, name: str, rss_kib: int) -> None:
    (processes,) = sample(f"{header}\n{row}\n").processes
    assert (processes.name, processes.rss_bytes) == (name, rss_kib * 1024)


def test_rows_of_grep_have_no_header() -> None:
    text = "21h28\nwww-data  3101  0.3  2.1  98420 42996 ?        D    21:26   0:02 /usr/sbin/apache2 -k start\n" * 2
    assert [[each.blocked for each in seen.processes] for seen in samples(text)] == [[1], [1]]


def test_a_thread_is_no_process() -> None:
    text = """\
UID          PID    PPID     LWP  C NLWP STIME TTY          TIME CMD
mysql        640       1     640  0    2 09:54 ?        00:00:00 /usr/sbin/mariadbd
mysql        640       1     644  0    2 09:54 ?        00:00:00 /usr/sbin/mariadbd
"""
    assert [processes.count for processes in sample(text).processes] == [1]
    assert sample(TOP.replace("Tasks:", "Threads:")).processes == ()


@pytest.mark.parametrize(
    ("command", "name"),
    [
        ("/usr/sbin/apache2 -k start", "apache2"),
        ("php-fpm: pool www", "php-fpm"),
        ("-bash", "bash"),
        ("(sd-pam)", "sd-pam"),
        ("/bin/sh /usr/bin/mysqld_safe", "sh"),
        ("process_a+", "process_a"),
        ("/", "/"),
        ("", "?"),
    ],
)
def test_names(command: str, name: str) -> None:
    assert base_name(command) == name


# -- top ---------------------------------------------------------------------------------------------------------------


def test_top() -> None:
    seen = sample(TOP)
    assert (seen.kind, seen.load_1m, seen.swap_bytes, seen.swap_free_bytes) == ("top", 0.71, 0, 0)
    assert (seen.memory_bytes, seen.available_bytes) == (int(24105.6 * MIB), int(22855.4 * MIB))
    assert [(p.name, p.rss_bytes) for p in seen.processes] == [
        ("mariadbd", int(1.2 * 1024 * MIB)),
        ("php-fpm8.2", 44000 << 10),
    ]


def test_top_of_an_old_server_in_a_thrash() -> None:
    seen = sample(OLD_TOP)
    assert (seen.load_1m, seen.memory_bytes) == (86.6, 262316 << 10)
    assert (seen.swap_bytes, seen.swap_free_bytes) == (393208 << 10, 204 << 10)
    assert seen.available_bytes == (3212 + 180 + 3120) << 10
    assert [(p.name, p.count, p.blocked) for p in seen.processes] == [("apache2", 2, 2), ("monitor.pl", 1, 1)]


@pytest.mark.parametrize(
    ("memory", "swap", "kib"),
    [
        (
            "KiB Mem:   1014976 total,   517484 used,   497492 free,    39483 buffers",
            "KiB Swap:  2097148 total,        0 used,  2097148 free.   728192 cached Mem",
            (1014976, 497492 + 39483 + 728192, 2097148),
        ),
        (
            "KiB Mem :  1014976 total,   517484 free,   102656 used,   394836 buff/cache",
            "KiB Swap:        0 total,        0 free,        0 used.   728192 avail Mem",
            (1014976, 728192, 0),
        ),
        (
            "MiB Mem :    512,0 total,    100,0 libr,    300,0 util,    112,0 tamp/cache",
            "MiB Éch :    256,0 total,    128,0 libr,    128,0 util.    200,0 dispo Mem",
            (512 << 10, 200 << 10, 128 << 10),
        ),
    ],
)
def test_the_memory_of_every_top(memory: str, swap: str, kib: tuple[int, int, int]) -> None:
    head = "top - 21:24:01 up 10 days,  1:02,  1 user,  load average: 0,42, 0,29, 0,56"
    seen = sample(f"{head}\n{memory}\n{swap}\n")
    assert (seen.memory_bytes, seen.available_bytes, seen.swap_free_bytes) == tuple(each << 10 for each in kib)
    assert seen.load_1m == 0.42


def test_top_before_it_said_its_name() -> None:
    text = (
        " 21:24:01  up 1 day,  1:02,  1 user,  load average: 3.00, 0.29, 0.56\n77 processes: 76 sleeping, 1 running\n"
    )
    assert (sample(text).kind, sample(text).load_1m) == ("top", 3.0)


# -- memory, storage, load ---------------------------------------------------------------------------------------------

FREE = """\
               total        used        free      shared  buff/cache   available
Mem:        24684092     1280192    22940996       67256      940912    23403900
Swap:              0           0           0
"""
FREE_H = """\
               total        used        free      shared  buff/cache   available
Mem:            23Gi       790Mi        22Gi       8.6Mi       1.1Gi        22Gi
Swap:             0B          0B          0B
"""
OLD_FREE = """\
             total       used       free     shared    buffers     cached
Mem:        515792     501372      14420          0      54784     240360
-/+ buffers/cache:     206228     309564
Swap:       401616          0     401616
"""
OLD_FREE_M = """\
             total       used       free     shared    buffers     cached
Mem:          1877        859       1017          0         70        557
-/+ buffers/cache:        231       1645
Swap:         4031          0       4031
"""
FREE_W = """\
               total        used        free      shared     buffers       cache   available
Mem:           24105         790       22572           8         286         856       23314
Swap:              0           0           0
"""
FREE_B = """\
               total        used        free      shared  buff/cache   available
Mem:     25276510208  1310916608 23491579904    68870144   963493888 23965593600
Swap:              0           0           0
"""


@pytest.mark.parametrize(
    ("text", "memory", "available", "swap"),
    [
        (FREE, 24684092 << 10, 23403900 << 10, 0),
        (FREE_H, 23 << 30, 22 << 30, 0),
        (OLD_FREE, 515792 << 10, 309564 << 10, 401616 << 10),
        (OLD_FREE_M, 1877 << 20, 1645 << 20, 4031 << 20),
        (FREE_W, 24105 << 20, 23314 << 20, 0),
        (FREE_B, 25276510208, 23965593600, 0),
    ],
)
def test_free_in_any_unit(text: str, memory: int, available: int, swap: int) -> None:
    seen = sample(text)
    assert (seen.kind, seen.memory_bytes, seen.available_bytes, seen.swap_bytes) == ("free", memory, available, swap)


def test_the_unit_of_free_is_known_where_another_command_told_the_memory() -> None:
    small = OLD_FREE.replace("515792", "122880").replace("501372", "100000")
    assert sample(small).memory_bytes == 122880 << 20
    _, free = read(f"MemTotal:         122880 kB\n\n{small}")
    assert isinstance(free.event, Sample)
    assert free.event.memory_bytes == 122880 << 10


DF = """\
Filesystem              1K-blocks     Used Available Use% Mounted on
devtmpfs                 12334492        0  12334492   0% /dev
/dev/vda                264212084 32038300  74352612  31% /
/dev/loop3                  65536    65536         0 100% /snap/core20/1
tmpfs                    24684092        0  24684092   0% /run
"""
DF_FRENCH = """\
Sys. de fichiers           Taille Utilisé Dispo Uti% Monté sur
/dev/mapper/ssd--120-lv120   110G    2,1M  104G   1% /mnt/mes photos
/dev/sda1                     20G     20G     0 100% /
"""
DF_INODES = """\
Filesystem                Inodes   IUsed    IFree IUse% Mounted on
/dev/vda                16777216 16777216        0  100% /
efivarfs                       0        0        0     - /sys/firmware/efi/efivars
"""
DF_WRAPPED = """\
Filesystem           1K-blocks      Used Available Use% Mounted on
/dev/mapper/vg_www1343uf-lv_root
                      51606140   1417744  47566956   3% /
"""
DF_TYPE = """\
Filesystem              Type     1M-blocks     Used Available Use% Mounted on
/dev/vda                ext4        258020    31288     72610  31% /
/dev/sr0                iso9660        500      500         0 100% /media/cdrom
"""


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (DF, [("/", 264212084 << 10, 0.31, False), ("/run", 24684092 << 10, 0.0, False)]),
        (DF_FRENCH, [("/", 20 << 30, 1.0, False), ("/mnt/mes photos", 110 << 30, 0.01, False)]),
        (DF_INODES, [("/", None, 1.0, True)]),
        (DF_WRAPPED, [("/", 51606140 << 10, 0.03, False)]),
        (DF_TYPE, [("/", 258020 << 20, 0.31, False)]),
    ],
)
def test_df(text: str, expected: list[tuple[str, int | None, float, bool]]) -> None:
    assert sample(text).filesystems == tuple(Filesystem(*each) for each in expected)


VMSTAT = """\
procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu-----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st
 3  1      0 23112468 293664 878060   900    0  1158  4621  492 1272 43  8 49  0  0
 1  9 120000    4000   120   3000  1200 3400  2736 77608 1343 9524  5 14  1 80  0
 4  0 120000    9000   120   3000     0    0  2736 77608 1343 9524 65 14 21  1  0
"""
VMSTAT_T = """\
procs -----------memory---------- ---swap-- -----io---- -system-- ------cpu----- -----timestamp-----
 r  b   swpd   free   buff  cache   si   so    bi    bo   in   cs us sy id wa st                UTC
 5  0      0 22998284 294292 967144    0    0  1158  4623  492 1273 43  8 49  0  0 2015-07-05 21:31:31
 5  0      0 22998284 294292 967144    0   10     0     0 2082 6724 89 11  0  0  0 2015-07-05 21:31:32
 5  0      0 22998284 294292 967144    0   20     0     0 2082 6724 89 11  0  7  0 2015-07-05 21:31:33
"""


def test_vmstat_tells_the_worst_after_the_row_that_speaks_of_the_time_since_boot() -> None:
    seen = sample(VMSTAT)
    assert (seen.swapping_bytes_s, seen.waiting_share, seen.available_bytes) == (4600 << 10, 0.8, 7120 << 10)
    alone = sample("\n".join(VMSTAT.split("\n")[:3]))
    assert alone.swapping_bytes_s == 900 << 10


def test_vmstat_with_stamps() -> None:
    assert times(VMSTAT_T) == ["05 21:31:32 local", "05 21:31:33 local"]
    assert [seen.waiting_share for seen in samples(VMSTAT + VMSTAT_T)] == [0.8, 0.0, 0.07]


def test_load_and_pressure_and_meminfo() -> None:
    assert sample(" 09:55:32 up  6:39,  0 user,  load average: 0.71, 0.58, 0.55").load_1m == 0.71
    assert sample("12.71 0.58 0.55 4/230 1706").load_1m == 12.71
    assert sample("cat /proc/meminfo:\nMemTotal: 500 kB".replace("cat", "$ cat")).memory_bytes == 500 << 10
    old = sample("MemTotal: 500 kB\nMemFree: 10 kB\nBuffers: 20 kB\nCached: 30 kB\nSwapTotal: 9 kB\nSwapFree: 8 kB")
    assert (old.available_bytes, old.swap_bytes, old.swap_free_bytes) == (60 << 10, 9 << 10, 8 << 10)
    rows = "some avg10=40.25 avg60=0.00 avg300=0.00 total=24187255\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=1"
    assert sample(f"==> /proc/pressure/memory <==\n{rows}").stalled_share == 0.4025
    assert read(f"==> /proc/pressure/io <==\n{rows}") == []


# -- connections -------------------------------------------------------------------------------------------------------

SS = """\
State      Recv-Q Send-Q        Local Address:Port          Peer Address:Port Process
LISTEN     129    128                 0.0.0.0:80                 0.0.0.0:*
ESTAB      0      0                 192.0.2.2:443         198.51.100.7:51234 users:(("apache2",pid=31,fd=9))
ESTAB      0      0        [::ffff:192.0.2.2]:443  [::ffff:198.51.100.7]:51235
SYN-RECV   0      0               [2001:db8::]:80         [2001:db8::7]:4
ESTAB      0      0                 192.0.2.2:22          198.51.100.9:51236
ESTAB      0      0                 192.0.2.2:40112       198.51.100.9:443
"""
NETSTAT = """\
Active Internet connections (servers and established)
Proto Recv-Q Send-Q Local Address           Foreign Address         State       PID/Program name
tcp        0      0 0.0.0.0:80              0.0.0.0:*               LISTEN      31/apache2
tcp        0      0 192.0.2.2:80            198.51.100.7:80         TIME_WAIT   -
tcp6       0      0 192.0.2.2:http          198.51.100.8:51234      CLOSE_WAIT  31/apache2
tcp6       0      0 2001:db8:1:2:3:4:5:80   2001:db8:1:2:3:4:443123 ESTABLISHED 31/apache2
udp        0      0 0.0.0.0:68              0.0.0.0:*                           9/dhclient
"""


def test_connections_to_the_web_ports() -> None:
    assert sample(SS).connections == (
        Connections("198.51.100.7", 2, "ESTABLISHED"),
        Connections("2001:db8::7", 1, "SYN_RECV"),
    )
    assert sample(NETSTAT).connections == (
        Connections("198.51.100.7", 1, "TIME_WAIT"),
        Connections("198.51.100.8", 1, "CLOSE_WAIT"),
    )
    assert len(read(SS + NETSTAT)) == 2


def test_counts_by_address() -> None:
    text = "=== 21:24 ===\n$ netstat -nt | awk '{print $5}' | sort | uniq -c\n    212 192.0.2.7\n      3 2001:db8::7\n"
    assert sample(text).connections == (Connections("192.0.2.7", 212), Connections("2001:db8::7", 3))


# -- times -------------------------------------------------------------------------------------------------------------

LOAD = "0.71 0.58 0.55 4/230 1706"


@pytest.mark.parametrize(
    ("date", "expected"),
    [
        ("Sun Jul  5 21:24:01 CEST 2015", "05 21:24:01 zone"),
        ("Sun Jul  5 19:24:01 UTC 2015", "05 21:24:01 zone"),
        ("Sun  5 Jul 21:24:01 CEST 2015", "05 21:24:01 zone"),
        ("Sun Jul  5 09:24:01 PM CEST 2015", "05 21:24:01 zone"),
        ("Sun 05 Jul 2015 09:24:01 PM", "05 21:24:01 local"),
        ("Sun Jul  5 21:24:01 XYZT 2015", "05 21:24:01 local"),
        ("Jul  5 21:24:01", "05 21:24:01 local"),
        ("dimanche 5 juillet 2015, 21:24:01 (UTC+0200)", "05 21:24:01 zone"),
        ("dim. juil.  5 21:24:01 CEST 2015", "05 21:24:01 zone"),
        ("mar. juin 30 21:24:01 CEST 2015", "30 21:24:01 zone"),
        ("mardi 3 mars 2015, 21:24:01 (UTC+0100)", "03 21:24:01 zone"),
        ("2015-07-05T19:24:01Z", "05 21:24:01 zone"),
        ("=== 2015-07-05T21:24:01 ===", "05 21:24:01 local"),
        ("=== 2015-07-05T21:24:01+02:00 ps and free ===", "05 21:24:01 zone"),
        ("2015-07-05_21-24-01", "05 21:24:01 local"),
        ("20150705-212401", "05 21:24:01 local"),
        ("05/07/2015 21:24:01", "05 21:24:01 local"),
        ("2015/07/05 21:24:01", "05 21:24:01 local"),
        ("[2015-07-05 21:24:01]", "05 21:24:01 local"),
        ("date: 2015-07-05 21:24", "05 21:24:00 local"),
        ("--- 2015-07-05 21:24:01 --- load 3", "05 21:24:01 local"),
        ("Sun, 05 Jul 2015 21:24:01 +0200 --------", "05 21:24:01 zone"),
        ("DATE=2015-07-05 21:24:01", "05 21:24:01 local"),
        ("1436124241", "05 21:24:01 zone"),
        ("### 1436124241 ###", "05 21:24:01 zone"),
        ("1436124241.5", "05 21:24:01 zone"),
        ("Le 5 juillet 2015 à 21h24", "05 21:24:00 local"),
        ("21h24", "05 21:24:00 zone"),
        ("=== 5 apache at 21:24 ===", "05 21:24:00 zone"),
        ("---- 21:24:01 ----", "05 21:24:01 zone"),
        ("---- 21:45 ----", "04 21:45:00 zone"),
        ("", "05 21:40:00 zone"),
    ],
)
def test_dates(date: str, expected: str) -> None:
    assert times(f"{date}\n{LOAD}\n") == [expected]


@pytest.mark.parametrize(
    "line",
    [
        "11 12:30", "Sun Jul 5 21:24:01 2015 apache2", "2015-13-05 10:00:00", "root 21:24", "10.5 1436124241",
        "=== ps ===", "Jul 5 2015 2016 10:00", "24:01", "21:24:01 up", "5 21:24", "Jul", "mar mar mar", "12:61 AM",
        "15:10 PM", "2015 21:24", "1436124241 1436124241",
    ],
)  # fmt: skip
def test_what_is_no_date(line: str) -> None:
    assert date_of(line) is None


def test_a_day_that_does_not_exist_is_counted() -> None:
    teller = Snapshot()
    teller.tell("2015-02-30 10:00:00", 1, ANCHOR)
    assert (teller.unparsed, teller.sample) == (1, "2015-02-30 10:00:00")


def test_each_command_has_the_date_before_it() -> None:
    text = "".join(f"Sun Jul  5 21:{minute}:01 CEST 2015\n{PS_AUX}\n{FREE}\n{DF}\n" for minute in (24, 28))
    assert times(text) == ["05 21:24:01 zone"] * 3 + ["05 21:28:01 zone"] * 3


def test_times_of_day_alone_are_counted_back_from_the_anchor() -> None:
    text = "".join(f"{TOP.replace('09:55:31', clock)}\n{FREE}\n" for clock in ("23:56:00", "00:01:00", "21:36:00"))
    assert times(text) == [f"{when} zone" for when in ("04 23:56:00", "05 00:01:00", "05 21:36:00") for _ in "12"]


def test_times_of_day_go_on_from_a_date() -> None:
    text = "2015-07-01 23:50:00\n" + "".join(
        TOP.replace("09:55:31", clock) for clock in ("23:50:02", "23:59:00", "00:03:00")
    )
    assert times(text) == ["01 23:50:02 local", "01 23:59:00 local", "02 00:03:00 local"]


def test_the_date_may_be_in_another_zone_than_top() -> None:
    assert times("2015-07-05T19:24:00Z\n" + TOP.replace("09:55:31", "21:24:02")) == ["05 21:24:02 zone"]


def test_samples_before_the_first_date_take_it() -> None:
    assert times(f"{FREE}\n2015-07-05 21:24:00\n{FREE}") == ["05 21:24:00 local"] * 2


# -- the whole ---------------------------------------------------------------------------------------------------------


def test_titles_and_prompts_are_no_mistakes() -> None:
    text = f"$ ps aux\n{PS_AUX}\nroot@www1:~# free\n{FREE}\n+ df\n{DF}\n=== the end ==="
    assert len(read(text)) == 3
    assert Snapshot.share(text.split("\n")) == 1.0


def test_other_files_are_none() -> None:
    access = '192.0.2.7 - - [05/Jul/2015:21:24:01 +0200] "GET / HTTP/1.1" 200 5 "-" "curl/7.88.1"'
    syslog = "Jun  3 13:29:51 ywamrest kernel: apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0"
    for line in (access, syslog, "2015-07-05 21:24:01", "# a comment", "21:24 said nothing", ""):
        assert Snapshot.share([line] * 20) == 0.0


_PIECES = (
    PS_AUX,
    TOP,
    OLD_TOP,
    FREE,
    OLD_FREE,
    DF,
    DF_WRAPPED,
    VMSTAT,
    VMSTAT_T,
    SS,
    NETSTAT,
    LOAD,
    "21h24",
    "MemTotal: 5 kB",
)
_LINES = st.one_of(
    st.sampled_from([line for piece in _PIECES for line in piece.split("\n")]),
    st.text(max_size=80),
    st.text(alphabet="0123456789 :-/.%DSTULWKMG[]=\\", max_size=60),
)


@given(st.lists(_LINES, max_size=30), st.floats(allow_nan=False, allow_infinity=False))
def test_any_text_is_read(lines: list[str], now_ts: float) -> None:
    teller = Snapshot()
    anchor = Anchor(now_ts, UTC)
    told = [each for number, line in enumerate(lines, start=1) for each in teller.tell(line, number, anchor)]
    told += teller.finish()
    assert all(1 <= each.line <= len(lines) and lines[each.line - 1].startswith(each.text[:5]) for each in told)
    assert 0.0 <= Snapshot.share(lines) <= 1.0


@pytest.mark.parametrize(
    "line", ["1 " * 2000, "a" * 4000, "21:24 " * 600, "= " * 2000, "/ 1% " * 800, "PID CMD " * 500]
)
def test_a_line_costs_little(line: str) -> None:
    begun = perf_counter()
    for head in ("", "PID RSS COMMAND", "Filesystem Size Used Avail Use% Mounted on", "State Recv-Q Send-Q Local"):
        read_any = Snapshot()
        for number, each in enumerate([head, *[line] * 20], start=1):
            read_any.tell(each, number, ANCHOR)
        read_any.finish()
    assert perf_counter() - begun < 1.0
