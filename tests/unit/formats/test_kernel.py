"""The kernel's log: single messages, stamps, and the founding incident's."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest

from tocsin.formats.base import Anchor
from tocsin.formats.kernel import KernelLog
from tocsin.formats.told import Told
from tocsin.server_events import ClockTie, LimitReached, ProcessKilled, ServerEvent, ServiceState, Stall, StorageError

ANCHOR = Anchor(1700000000.0, UTC)  # 14 November 2023
UP = 4747880.5

# as the page shows them: its columns scrambled by HTML
FOUNDING = """\
[4747880.173192] [4747881.692184] init: [4747881.692197] init: [4747882.677913] init: [4747882.988167] init: \
[4747882.988183] init: m Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child
[4747880.176918] Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB
[4747881.542885] init: mysql main process (6526) terminated with status 1
[4747881.542913] init: mysql main process ended, respawning
[4747881.577925] type=1400 audit(1466221659.162:47): apparmor="STATUS" operation="profile_replace" \
profile="unconfined" name="/usr/sbin/mysqld" pid=6963 comm="apparmor_parser"
mysql main process (6975) terminated with status 1
mysql main process ended, respawning [4747882.704025] type=1400 audit(1466221660.286:48): apparmor="STATUS" \
operation="profile_replace" profile="unconfined" name="/usr/sbin/mysqld" pid=6999 comm="apparmor_parser"
mysql post-start process (6976) terminated with status 1
mysql main process (7011) terminated with status 1 ysql respawning too fast, stopped""".splitlines()

# the same, in the order of time
FOUNDING_MENDED = """\
[4747880.173192] Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child
[4747880.176918] Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB
[4747881.542885] init: mysql main process (6526) terminated with status 1
[4747881.542913] init: mysql main process ended, respawning
[4747881.577925] type=1400 audit(1466221659.162:47): apparmor="STATUS" name="/usr/sbin/mysqld" pid=6963
[4747881.692184] init: mysql main process (6975) terminated with status 1
[4747881.692197] init: mysql main process ended, respawning
[4747882.677913] init: mysql post-start process (6976) terminated with status 1
[4747882.704025] type=1400 audit(1466221660.286:48): apparmor="STATUS" name="/usr/sbin/mysqld" pid=6999
[4747882.988167] init: mysql main process (7011) terminated with status 1
[4747882.988183] init: mysql respawning too fast, stopped""".splitlines()

KILL = ProcessKilled(
    4747880.176918,
    "apache2",
    6898,
    "oom",
    rss_bytes=(61624 + 41932) * 1024,
    anon_bytes=61624 * 1024,
)
TIES = [ClockTie(1466221659.162, 4747881.577925), ClockTie(1466221660.286, 4747882.704025)]
STATUS_1 = "terminated with status 1"


def tell(lines: list[str], anchor: Anchor = ANCHOR) -> tuple[KernelLog, list[Told]]:
    log = KernelLog()
    told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, anchor)]
    return log, [*told, *log.finish()]


def events(*lines: str) -> list[object]:
    return [one.event for one in tell(list(lines))[1]]


def test_the_founding_excerpt_in_order() -> None:
    log, told = tell(FOUNDING_MENDED)
    assert [one.event for one in told] == [
        KILL,
        ServiceState(4747881.542885, "mysql", "died", STATUS_1),
        ServiceState(4747881.542913, "mysql", "restarting"),
        TIES[0],
        ServiceState(4747881.692184, "mysql", "died", STATUS_1),
        ServiceState(4747881.692197, "mysql", "restarting"),
        ServiceState(4747882.677913, "mysql", "refused", "post-start process terminated with status 1"),
        TIES[1],
        ServiceState(4747882.988167, "mysql", "died", STATUS_1),
        ServiceState(4747882.988183, "mysql", "failed", "respawning too fast"),
    ]
    assert {one.clock for one in told if not isinstance(one.event, ClockTie)} == {"uptime"}
    assert {one.clock for one in told if isinstance(one.event, ClockTie)} == {"zone"}
    assert (log.clock, log.ts, log.unparsed) == ("uptime", 4747882.988183, 0)
    assert [one.line for one in told] == [2, 3, 4, 5, 6, 7, 8, 9, 10, 11]
    boots = [tie.ts - tie.uptime_s for tie in TIES]
    assert abs(boots[0] - boots[1]) < 0.0022
    assert 1466221657.7 < boots[0] + KILL.ts < 1466221657.8  # 2016-06-18 03:47:37 UTC


def test_the_founding_excerpt_as_the_page_scrambled_it() -> None:
    log, told = tell(FOUNDING)
    found = [one.event for one in told]
    assert found[0] == KILL
    assert [event for event in found if isinstance(event, ClockTie)] == TIES
    states = [event.state for event in found if isinstance(event, ServiceState)]
    assert states == ["died", "restarting", "died", "restarting", "refused", "died"]
    assert log.unparsed == 0


@pytest.mark.parametrize(
    ("message", "event"),
    [
        ("possible SYN flooding on port 4671. Sending cookies.", LimitReached(UP, "kernel", "listen queue")),
        (
            "TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.  Check SNMP counters.",
            LimitReached(UP, "kernel", "listen queue"),
        ),
        (
            "TCP: request_sock_TCP: Possible SYN flooding on port 0.0.0.0:7070. Sending cookies.",
            LimitReached(UP, "kernel", "listen queue"),
        ),
        (
            "TCP: request_sock_subflow_v4: Possible SYN flooding on port [::]:20002. Sending cookies.",
            LimitReached(UP, "kernel", "listen queue"),
        ),
        (
            "NetworkManager[2628] general protection ip:469fee sp:7fffd0059330 error:0 in NetworkManager[400000+10d000]",
            ProcessKilled(UP, "NetworkManager", 2628, "signal", "SEGV"),
        ),
        ("INFO: task mysqld:1234 blocked for more than 120 seconds.", Stall(UP, "kernel", 120.0, "task mysqld")),
        (
            "INFO: task jbd2/sda1-8:213 blocked in I/O wait for more than 122 seconds.",
            Stall(UP, "kernel", 122.0, "task jbd2/sda1-8"),
        ),
        (
            "watchdog: BUG: soft lockup - CPU#1 stuck for 23s! [kworker/1:0:5]",
            Stall(UP, "kernel", 23.0, "CPU: kworker/1:0"),
        ),
        ("nf_conntrack: nf_conntrack: table full, dropping packet", LimitReached(UP, "kernel", "conntrack")),
        ("nf_conntrack: table full, dropping packet", LimitReached(UP, "kernel", "conntrack")),
        ("ip_conntrack: table full, dropping packet.", LimitReached(UP, "kernel", "conntrack")),
        (
            "apache2[1234]: segfault at 7fff ip 00007f sp 00007fff error 4 in libphp5.so[7f000+9d000]",
            ProcessKilled(UP, "apache2", 1234, "signal", "SEGV"),
        ),
        (
            "apache2[1234]: segfault at 7fff ip 00007f sp 00007fff error 4 in a.so[7f+9d] likely on CPU 17 (core 6)",
            ProcessKilled(UP, "apache2", 1234, "signal", "SEGV"),
        ),
        (
            "traps: php-fpm: pool w[77] trap invalid opcode ip:1 sp:2 error:0 in opcache.so[3+4]",
            ProcessKilled(UP, "php-fpm: pool w", 77, "signal", "ILL"),
        ),
        ("VFS: file-max limit 98304 reached", LimitReached(UP, "kernel", "open files", 98304)),
        (
            "cgroup: fork rejected by pids controller in /system.slice/apache2.service",
            LimitReached(UP, "apache2", "pids"),
        ),
        (
            "EXT4-fs error (device sda1): ext4_find_entry:1455: inode #2: comm apache2: reading directory lblock 0",
            StorageError(UP, "kernel", "io", "sda1"),
        ),
        ("EXT4-fs (dm-0): Remounting filesystem read-only", StorageError(UP, "kernel", "read-only", "dm-0")),
        (
            "EXT4-fs (sda1): Delayed block allocation failed for inode 13 at logical offset 0 with max blocks 1 with error 28",
            StorageError(UP, "kernel", "full", "sda1"),
        ),
        ("EXT4-fs (sda1): error count since last fsck: 5", None),
        ("EXT4-fs (sda1): mounted filesystem with ordered data mode. Opts: errors=remount-ro", None),
        ("blk_update_request: I/O error, dev vda, sector 123 op 0x1:(WRITE)", StorageError(UP, "kernel", "io", "vda")),
        ("blk_update_request: I/O error, dev fd0, sector 0", None),
        ("Buffer I/O error on dev sr0, logical block 0, async page read", None),
        ("XFS (sda2): Filesystem has been shut down due to log error (0x2).", StorageError(UP, "kernel", "io", "sda2")),
        ('XFS (sda2): metadata I/O error in "xfs_trans" at daddr 0x1', StorageError(UP, "kernel", "io", "sda2")),
        ("Linux version 5.4.0-84-generic (buildd@lcy01) (gcc)", ServiceState(UP, "kernel", "started", "5.4.0-84-generic")),
        (
            "Kernel panic - not syncing: Out of memory: system-wide panic_on_oom is enabled",
            ServiceState(UP, "kernel", "died", "Out of memory: system-wide panic_on_oom is enabled"),
        ),
        ("oom_reaper: reaped process 27664 (mempig), now anon-rss:0kB, file-rss:0kB, shmem-rss:0kB", None),
        ("usb 1-1: new high-speed USB device number 2 using xhci_hcd", None),
        ('audit: type=1400 audit(1466221659.162:47): apparmor="STATUS"', ClockTie(1466221659.162, UP)),
    ],
)  # fmt: skip
def test_messages(message: str, event: ServerEvent | None) -> None:
    assert events(f"[{UP:.6f}] {message}") == ([] if event is None else [event])


@pytest.mark.parametrize(
    ("stamp", "ts", "clock"),
    [
        ("[    0.000000]", 0.0, "uptime"),
        ("<4>[   12.345678]", 12.345678, "uptime"),
        ("[   12.345678][  T123]", 12.345678, "uptime"),
        ("[   12.345678][    C0]", 12.345678, "uptime"),
        ("kern  :warn  : [   12.345678]", 12.345678, "uptime"),
        ("[Fri Oct  8 14:08:06 2021]", 1633702086.0, "local"),
        ("2021-10-08T14:08:06,500000+02:00", 1633694886.5, "zone"),
    ],
)
def test_stamps(stamp: str, ts: float, clock: str) -> None:
    log, told = tell([f"{stamp} ip_conntrack: table full, dropping packet."])
    assert [(one.event.ts, one.clock) for one in told] == [(ts, clock)]
    assert (log.ts, log.clock, log.unparsed) == (ts, clock, 0)


def test_one_tie_a_second() -> None:
    lines = [
        f"[{100 + step / 10:.6f}] audit: type=1400 audit({1466221659 + step / 10:.3f}:47): x" for step in range(25)
    ]
    rebooted = "[    5.000000] audit: type=1400 audit(1466229999.000:1): x"
    assert [event.uptime_s for event in events(*lines, rebooted) if isinstance(event, ClockTie)] == [100, 101, 102, 5]


def test_what_fits_no_stamp_is_counted_and_the_first_kept() -> None:
    log, told = tell(["-- what is this", "[    1.000000] one", "  continued", "", "neither is this", "[x] nor this"])
    assert (log.unparsed, log.sample, told) == (3, "-- what is this", [])


def test_share() -> None:
    assert KernelLog.share(FOUNDING_MENDED) == 1.0
    assert KernelLog.share(FOUNDING) >= 0.5
    assert KernelLog.share(["[Fri Oct  8 14:08:06 2021] [10666]    33 10666    21571     9423   0 apache2"]) == 1.0
    assert KernelLog.share(["[Sat Jun 01 02:17:42 2013] [error] [client 192.0.2.1] File does not exist: /x"]) == 0.0
    assert KernelLog.share([]) == 0.0
