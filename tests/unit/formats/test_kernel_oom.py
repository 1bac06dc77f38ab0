"""Reports of memory run out: every kernel's form, whole, cut off, smeared and doubled."""

# ruff: noqa: E501  lines of logs stand as they are

from __future__ import annotations

from datetime import UTC

import pytest

from tocsin.formats.base import Anchor
from tocsin.formats.kernel import KernelLog
from tocsin.formats.oom import unit_of
from tocsin.formats.oom_table import TaskTable
from tocsin.formats.system import SystemLog
from tocsin.server_events import Processes, ProcessKilled, Sample, ServiceState

ANCHOR = Anchor(1700000000.0, UTC)
PAGE = 4096


def events(*messages: str) -> list[object]:
    """What messages tell that stand a millisecond apart, from uptime 100."""
    log = KernelLog()
    lines = [f"[  {100 + place / 1000:.6f}] {message}" for place, message in enumerate(messages)]
    told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
    return [one.event for one in (*told, *log.finish())]


def killed(*messages: str) -> ProcessKilled:
    found = [event for event in events(*messages) if isinstance(event, ProcessKilled)]
    assert len(found) == 1, found
    return found[0]


@pytest.mark.parametrize(
    ("message", "asker"),
    [
        ("apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0", "apache2"),
        ("apache2 invoked oom-killer: gfp_mask=0x200da, order=0, oom_adj=0, oom_score_adj=0", "apache2"),
        ("mysqld invoked oom-killer: gfp_mask=0x100cca(GFP_HIGHUSER_MOVABLE), order=0, oom_score_adj=0", "mysqld"),
        (
            (
                "mempig invoked oom-killer: gfp_mask=0x24280ca(GFP_HIGHUSER_MOVABLE|__GFP_ZERO), nodemask=0, order=0,"
                " oom_score_adj=1000"
            ),
            "mempig",
        ),
        (
            (
                "oom02:4583 invoked oom-killer: gfp_mask=0x16080c0(GFP_KERNEL|__GFP_ZERO|__GFP_NOTRACK), nodemask=1, "
                " order=0, oom_score_adj=0"
            ),
            "oom02:4583",
        ),
        ("which invoked oom-killer: gfp_mask=0x201da, order=0, oom_adj=0, oom_score_adj=0", "which"),
    ],
)
def test_who_asked(message: str, asker: str) -> None:
    sample, kill = events(message, "Killed process 23551 (apache2)")
    assert sample == Sample(100.0, "oom-report")
    assert kill == ProcessKilled(100.001, "apache2", 23551, "oom", asker=asker)


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        (
            "Out of memory: kill process 23551 (apache2) score 75217 or a child",
            ProcessKilled(100.0, "apache2", 23551, "oom"),
        ),
        (
            "Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child",
            ProcessKilled(100.0, "apache2", 6898, "oom"),
        ),
        (
            "Out of memory (oom_kill_allocating_task): Kill process 7 (a b) score 0 or sacrifice child",
            ProcessKilled(100.0, "a b", 7, "oom"),
        ),
        ("Kill process 24774 (mysqld) score 842 or sacrifice child", ProcessKilled(100.0, "mysqld", 24774, "oom")),
        ("Killed process 23551 (apache2)", ProcessKilled(100.0, "apache2", 23551, "oom")),
        ("Killed process 22576 (apache2)", ProcessKilled(100.0, "apache2", 22576, "oom")),
        ("Out of Memory: Killed process 2592 (mysql).", ProcessKilled(100.0, "mysql", 2592, "oom")),
        (
            "Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB",
            ProcessKilled(100.0, "apache2", 6898, "oom", None, 103556 * 1024, 61624 * 1024),
        ),
        (
            "Killed process 6536 (mysqld) total-vm:315848kB, anon-rss:10264kB, file-rss:0kB",
            ProcessKilled(100.0, "mysqld", 6536, "oom", None, 10264 * 1024, 10264 * 1024),
        ),
        (
            "Killed process 24774, UID 0, (mysqld) total-vm:549180kB, anon-rss:437324kB, file-rss:44kB",
            ProcessKilled(100.0, "mysqld", 24774, "oom", None, 437368 * 1024, 437324 * 1024),
        ),
        (
            ("Out of memory: Killed process 1234 (mysqld) total-vm:2458732kB, anon-rss:1234kB, file-rss:0kB, shmem-rss:0kB,"
            " UID:27 pgtables:4567kB oom_score_adj:0"),
            ProcessKilled(100.0, "mysqld", 1234, "oom", None, 1234 * 1024, 1234 * 1024),
        ),
        (
            ("Memory cgroup out of memory: Killed process 9 (php-fpm8.2) total-vm:2kB, anon-rss:1kB, file-rss:0kB,"
            " shmem-rss:2kB, UID:33 pgtables:96kB oom_score_adj:0"),
            ProcessKilled(100.0, "php-fpm8.2", 9, "cgroup-oom", None, 3 * 1024, 1024),
        ),
        (
            "No available memory (MPOL_BIND): Killed process 5 (x) total-vm:2kB, anon-rss:1kB, file-rss:0kB",
            ProcessKilled(100.0, "x", 5, "oom", None, 1024, 1024),
        ),
        (
            "Killed process 5 (odd) (name, 1) total-vm:2kB, anon-rss:1kB, file-rss:0kB",
            ProcessKilled(100.0, "odd) (name, 1", 5, "oom", None, 1024, 1024),
        ),
        ("Killed process 5 (cut) total-vm:2kB, anon-r", ProcessKilled(100.0, "cut", 5, "oom")),
    ],
)  # fmt: skip
def test_kill_lines(message: str, expected: ProcessKilled) -> None:
    assert killed(message) == expected


@pytest.mark.parametrize(
    "message",
    [
        "somebody says Killed process 1 (x)",
        "Killed process of his own",
        "Out of memory: Kill process x (y)",
        "a" * 100 + " invoked oom-killer: gfp_mask=0x0",
    ],
)
def test_what_only_looks_like_it(message: str) -> None:
    assert events(message) == []


def test_a_pair_is_one_kill_and_a_sacrificed_child_is_the_one_killed() -> None:
    select = "Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child"
    assert killed(select, "Killed process 6898 (apache2)").pid == 6898
    assert killed(select, "Killed process 6899 (apache2)").pid == 6899
    cgroup = killed(
        "Memory cgroup out of memory: Kill process 3 (x) score 1 or sacrifice child", "Killed process 3 (x)"
    )
    assert cgroup.by == "cgroup-oom"


def test_two_selections_without_a_kill_line_are_two_kills() -> None:
    lines = [f"Out of memory: kill process {pid} (apache2) score 75217 or a child" for pid in (1, 2)]
    assert [event.pid for event in events(*lines) if isinstance(event, ProcessKilled)] == [1, 2]


BISON = """\
apache2 invoked oom-killer: gfp_mask=0x200da, order=0, oom_adj=0, oom_score_adj=0
apache2 cpuset=/ mems_allowed=0
Pid: 10785, comm: apache2 Not tainted 3.5.2-linode45 #1
Call Trace:
 [<c018e4a9>] ? dump_header.clone.13+0x79/0x1d0
Mem-Info:
Normal free:3124kB min:2816kB low:3520kB high:4224kB active_anon:232288kB inactive_anon:232560kB active_file:324kB
Swap cache stats: add 28450693, delete 28447232, find 488109270/490658208
Free swap  = 0kB
Total swap = 262140kB
133104 pages RAM
0 pages HighMem
5960 pages reserved
[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
[ 2098]     0  2098     1672        0   3     -17         -1000 sshd
[ 6536]   107  6536    78962     2566   0       0             0 mysqld
[10783]   107  6536    78962     2566   0       0             0 mysqld
[ 1975]     0  1975      712        0   0       0             0 upstart-socket-
[10666]    33 10666    21571     9423   0       0             0 apache2
[10667]    33 10667    21571     4000   0       0             0 apache2
Out of memory: Kill process 6536 (mysqld) score 88 or sacrifice child
Killed process 6536 (mysqld) total-vm:315848kB, anon-rss:10264kB, file-rss:0kB""".splitlines()


def test_a_whole_report_of_3_5() -> None:
    sample, kill = events(*BISON)
    assert sample == Sample(
        100.0,
        "oom-report",
        (
            Processes("apache2", 2, 13423 * PAGE, largest_bytes=9423 * PAGE, uids=(33,)),
            Processes("mysqld", 1, 2566 * PAGE, largest_bytes=2566 * PAGE, uids=(107,)),
            Processes("sshd", 1, 0, uids=(0,)),
            Processes("upstart-socket-", 1, 0, uids=(0,)),
        ),
        memory_bytes=(133104 - 5960) * PAGE,
        swap_bytes=262140 * 1024,
        swap_free_bytes=0,
    )
    assert isinstance(kill, ProcessKilled)
    assert (kill.process, kill.pid, kill.asker, kill.rss_bytes) == ("mysqld", 6536, "apache2", 10264 * 1024)


def test_threads_are_counted_once_by_the_one_that_holds_the_most() -> None:
    table = TaskTable()
    header = "[ pid ]   uid  tgid total_vm      rss swapents oom_score_adj name"
    rows = [f"[{pid}] 107 6536 78962 {rss} {swap} 0 mysqld" for pid, rss, swap in ((6536, 9, 0), (6537, 7, 3))]
    assert all(map(table.take, (header, *rows)))
    assert table.processes() == (Processes("mysqld", 1, 9 * PAGE, 3 * PAGE, largest_bytes=9 * PAGE, uids=(107,)),)


@pytest.mark.parametrize("row", ["[1] 107 6536 mysqld", "[1] 107 6536 x 1 1 0 mysqld", "[ 1 ] 0 1 1 1 1 0 x", "[1]"])
def test_rows_that_do_not_fit_the_header(row: str) -> None:
    table = TaskTable()
    assert table.take("[ pid ]   uid  tgid total_vm      rss swapents oom_score_adj name")
    assert not table.take(row)


def test_a_second_report_that_kills_a_thread_of_the_same_process_tells_no_second_kill() -> None:
    again = [line.replace("process 6536", "process 10783") for line in BISON]
    found = events(*BISON, *again)
    assert [type(event) for event in found] == [Sample, ProcessKilled, Sample]


def test_a_report_without_a_kill_and_one_that_is_cut_off_are_told() -> None:
    first, second = events(*BISON[:13], *BISON[:18])
    assert isinstance(first, Sample)
    assert isinstance(second, Sample)
    assert (first.ts, first.processes, first.memory_bytes) == (100.0, (), 127144 * PAGE)
    assert [group.name for group in second.processes] == ["mysqld", "sshd", "upstart-socket-"]


def test_a_report_whose_head_is_lost_is_told_by_its_table() -> None:
    sample, kill = events(*BISON[13:])
    assert isinstance(sample, Sample)
    assert sample.ts == 100.0
    assert isinstance(kill, ProcessKilled)
    assert kill.asker is None


def test_a_report_ends_with_its_boot() -> None:
    log = KernelLog()
    lines = [
        f"[99999.000000] {BISON[0]}",
        "[    0.000000] Linux version 3.5.2-linode45 (a@b) (gcc)",
        "[   50.000000] Killed process 5 (x)",
    ]
    told = [one.event for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
    assert told == [
        Sample(99999.0, "oom-report"),
        ServiceState(0.0, "kernel", "started", "3.5.2-linode45"),
        ProcessKilled(50.0, "x", 5, "oom"),
    ]


def test_memory_shown_for_another_reason_is_no_report() -> None:
    assert events("apache2: page allocation failure: order:5, mode:0x4020", *BISON[5:13]) == []


def test_a_table_of_recent_kernels_with_a_cgroup_and_its_limit() -> None:
    found = events(
        "php-fpm8.2 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
        "memory: usage 524288kB, limit 524288kB, failcnt 1019",
        "swap: usage 0kB, limit 9007199254740988kB, failcnt 0",
        "Memory cgroup stats for /system.slice/php8.2-fpm.service:",
        "Tasks state (memory values in pages):",
        "[  pid  ]   uid  tgid total_vm      rss rss_anon rss_file rss_shmem pgtables_bytes swapents oom_score_adj name",
        "[    375]     0   375    14010     2008      160     1848         0   102400      256          -250 systemd-journal",
        "[    376]    33   376    14010     1000      160     1848         0   102400      100          0 php-fpm8.2 (x) y",
        "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0-1,3,oom_memcg=/system.slice,"
        "task_memcg=/system.slice/php8.2-fpm.service,task=a,b,pid=376,uid=33",
        "Memory cgroup out of memory: Killed process 376 (a,b) total-vm:2kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB,"
        " UID:33 pgtables:96kB oom_score_adj:0",
    )  # fmt: skip
    assert found == [
        Sample(
            100.0,
            "oom-report",
            (
                Processes("systemd-journal", 1, 160 * PAGE, 256 * PAGE, largest_bytes=160 * PAGE, uids=(0,)),
                Processes("php-fpm8.2 (x) y", 1, 160 * PAGE, 100 * PAGE, largest_bytes=160 * PAGE, uids=(33,)),
            ),
            limit_bytes=512 << 20,
        ),
        ProcessKilled(
            *(100.009, "a,b", 376, "cgroup-oom", None, 1024, 1024, "php-fpm", "php-fpm8.2"),
            group="/system.slice/php8.2-fpm.service",
            limit_group="/system.slice",
        ),
    ]


def test_a_cgroup_of_old_kernels() -> None:
    kill = killed(
        "mysqld invoked oom-killer: gfp_mask=0xd0, order=0, oom_score_adj=0",
        "Task in /system.slice/mysql.service killed as a result of limit of /system.slice",
        "memory: usage 65536kB, limit 65536kB, failcnt 7",
        "[ pid ]   uid  tgid total_vm      rss nr_ptes nr_pmds swapents oom_score_adj name",
        "[   77]   107    77    78962     2566      10       3       12             0 mysqld",
        "Memory cgroup out of memory: Kill process 77 (mysqld) score 900 or sacrifice child",
        "Killed process 77 (mysqld)",
    )
    assert (kill.by, kill.unit, kill.rss_bytes, kill.asker) == ("cgroup-oom", "mysql", 2566 * PAGE, "mysqld")
    assert (kill.group, kill.limit_group) == ("/system.slice/mysql.service", "/system.slice")


@pytest.mark.parametrize(
    ("context", "by", "unit"),
    [
        (
            (
                "oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,"
                "task_memcg=/system.slice/mysql.service,task=mysqld,pid=1234,uid=112"
            ),
            "oom",
            "mysql",
        ),
        (
            (
                "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),cpuset=/,mems_allowed=0,"
                "oom_memcg=/docker/container123,task_memcg=/docker/container123,task=postgres,pid=1234,uid=1000"
            ),
            "cgroup-oom",
            "container123",
        ),
        ("oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/x,task=y,pid=1", "oom", None),
    ],
)
def test_the_context_line(context: str, by: str, unit: str | None) -> None:
    kill = killed(context, "Killed process 1234 (mysqld)")
    assert (kill.by, kill.unit) == (by, unit)


@pytest.mark.parametrize(
    ("path", "unit"),
    [
        ("/system.slice/system-postgresql.slice/postgresql@14-main.service", "postgresql"),
        ("/user.slice/user-1021.slice/session-5.scope", "session-5.scope"),
        ("/docker/" + "44c652b8bf6d7778" * 4, "container-44c652b8bf6d"),
        (f"/system.slice/docker-{'44c652b8bf6d7778' * 4}.scope", "docker-44c652b8bf6d"),
        ("/", None),
    ],
)
def test_units_of_cgroups(path: str, unit: str | None) -> None:
    assert unit_of(path) == unit


def test_a_report_smeared_over_syslog_is_one_moment() -> None:
    """47 minutes on a machine that thrashed (2009): the kernel wrote no uptime, syslog the time of writing."""
    log = SystemLog()
    lines = [
        "Jun  3 13:29:51 ywamrest kernel: apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0",
        "Jun  3 13:45:03 ywamrest /USR/SBIN/CRON[770]: (root) CMD (/etc/webmin/status/monitor.pl)",
        "Jun  3 14:03:35 ywamrest kernel: Call Trace:",
        "Jun  3 14:16:47 ywamrest kernel:  [<ffffffff802bb6a0>] out_of_memory+0x8b/0x203",
        "Jun  3 14:16:48 ywamrest kernel: Out of memory: kill process 23551 (apache2) score 75217 or a child",
        "Jun  3 14:16:48 ywamrest kernel: Killed process 23551 (apache2)",
        "Jun  3 14:20:09 ywamrest kernel: Killed process 23999 (apache2)",
    ]
    told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
    kills = [one.event for one in told if isinstance(one.event, ProcessKilled)]
    first_ts = 1685798991.0
    assert [(kill.pid, kill.ts - first_ts, kill.asker) for kill in kills] == [
        (23551, 0.0, "apache2"),
        (23999, 3018.0, None),
    ]
    assert [one.line for one in told] == [2, 1, 6, 7]


def test_uptimes_in_syslog_hold_a_smeared_report_together() -> None:
    log = SystemLog()
    lines = [
        "May 19 12:19:38 ip-172-26-14-230 kernel: [230460.421540] mysqld invoked oom-killer: gfp_mask=0x1, order=0",
        "May 19 12:21:00 ip-172-26-14-230 kernel: [230460.421541] Node 0 Normal free:3224kB",
        (
            "May 19 12:25:00 ip-172-26-14-230 kernel: [230461.421540] Out of memory: Killed process 5 (mysqld)"
            " total-vm:2kB, anon-rss:1kB, file-rss:0kB, shmem-rss:0kB, UID:27 pgtables:4kB oom_score_adj:0"
        ),
    ]
    told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
    assert [(one.event.ts, one.line) for one in told] == [(1684498778.0, 1), (1684498779.0, 3)]
