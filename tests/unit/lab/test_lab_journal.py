"""Of the host's kernel log a server keeps what is its own: its out-of-memory reports, its crashes, no neighbour's."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "lab"))

from journal import KernelLine, KernelLog, Syslog, as_dmesg

REPORT = (
    "apache2 invoked oom-killer: gfp_mask=0xcc0(GFP_KERNEL), order=0, oom_score_adj=0",
    "[   8567]   102  8567 2147631141    19102    14103     4999         0   348160        0             0 mariadbd",
    "oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/lxc/GROUP,task_memcg=/lxc/GROUP,task=mariadbd",
    "Memory cgroup out of memory: Killed process 8567 (mariadbd) total-vm:8590524564kB, anon-rss:56412kB",
)
SEGFAULT = (
    "php-fpm8.2[PID]: segfault at 0 ip 00007f82216f6102 sp 00007ffe7a800e30 error 6 in imagemagick.so[1102,7f8+1000]",
    "Code: 64 ff ff ff c6 05 25 2f 00 00 01 5d c3",
)


class Recorded(KernelLog):
    """A reader that is handed its records, and writes none."""

    def __init__(self, group: Path) -> None:
        self.kept: list[str] = []
        super().__init__(group, lambda line: self.kept.append(line.text))

    def _open(self) -> int:
        return -1

    def read(self, *texts: str, facility: int = 0) -> None:
        for text in texts:
            self.take(f"{facility << 3 | 4},10991,20692165488,-;{text}\n SUBSYSTEM=none\n")


@pytest.fixture
def log() -> Recorded:
    recorded = Recorded(Path("/sys/fs/cgroup/memory/lxc/web1-77"))
    recorded.pids = {500}
    return recorded


def test_own_report_is_kept_whole_and_a_neighbours_not(log: Recorded) -> None:
    log.read(*(text.replace("GROUP", "web2-78") for text in REPORT))
    assert log.kept == []
    log.read(*(text.replace("GROUP", "web1-77") for text in REPORT))
    assert len(log.kept) == len(REPORT)
    assert log.killed == [8567]


def test_a_name_that_begins_like_ours_is_a_neighbours(log: Recorded) -> None:
    log.read(*(text.replace("GROUP", "web1-771") for text in REPORT))
    assert log.kept == []


def test_single_lines_are_known_by_their_pid(log: Recorded) -> None:
    for pid, kept in (("501", 0), ("500", 2)):
        log.read(*(text.replace("PID", pid) for text in SEGFAULT))
        assert len(log.kept) == kept
    log.read("Memory cgroup out of memory: Killed process 500 (apache2) total-vm:1kB, anon-rss:1kB")
    assert log.killed == [500]


def test_what_a_program_writes_into_the_kernels_log_is_not_the_kernels(log: Recorded) -> None:
    log.read("apache2[500]: segfault at 0", facility=3)
    assert log.kept == []


@pytest.mark.parametrize(
    ("iso", "expected"),
    [
        (False, "Nov  2 00:30:00 web1 a[1]: b\n"),
        (True, "2026-11-02T00:30:00.250000+01:00 web1 a[1]: b\n"),
    ],
)
def test_syslog_stamps_in_the_servers_zone(tmp_path: Path, expected: str, *, iso: bool) -> None:
    Syslog(lambda: tmp_path, "web1", "Europe/Berlin", iso=iso).write("a[1]", "b", 1_793_575_800.25)
    assert (tmp_path / "syslog").read_text() == expected


def test_dmesg_stamps_by_the_kernels_clock() -> None:
    assert as_dmesg(KernelLine(0.0, 24395075711, "x")) == "[24395.075711] x"
