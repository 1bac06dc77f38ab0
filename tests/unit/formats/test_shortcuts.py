"""Laws of what makes reading fast: a line that is passed over would have told nothing, an hour's times are its own."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC
from itertools import product
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from tocsin.formats.base import Anchor
from tocsin.formats.dates import Stamp, iso_ts, time_piece
from tocsin.formats.heard import Hours
from tocsin.formats.system import SystemLog

LAW = settings(derandomize=True, max_examples=300)
ANCHOR = Anchor(1700000000.0, UTC)
TAGS = (
    "kernel",
    "kernel:",
    "sshd[7]",
    "sshd-session[7]",
    "systemd[1]",
    "init",
    "systemd-oomd[5]",
    "earlyoom",
    "CRON[9]",
    "/usr/sbin/cron",
    "anacron",
    "sudo",
    "run-parts(/etc/cron.daily)",
    "mysqld",
    "mariadbd",
    "apache2[4]",
    "php-fpm",
    "nginx",
    "postgres[5]",
    "rsyslogd",
    "postfix/smtpd[1]",
)
STAMPS = st.sampled_from(
    ("Jun  3 13:29:51", "<4>Jun  3 14:00:00", "Jun 31 13:29:51", "2023-06-03T15:29:51.25+0200", "2023-06-03T15:30:00Z")
)
MESSAGES = (
    "[12.000001] [UFW BLOCK] IN=eth0 OUT= SRC=198.51.100.7",
    "[12.000001] apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0",
    "[12.000001] [ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name",
    "[12.000001] [ 6536]   107  6536    78962     2566   0       0             0 mysqld",
    "[12.000001] Out of memory: Kill process 6536 (mysqld) score 102 or sacrifice child",
    "Killed process 6536 (mysqld) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB",
    "memory: usage 524288kB, limit 524288kB, failcnt 1019",
    "[12.000001] audit: type=1400 audit(1466221659.162:47): x",
    "traps: php[7] general protection ip:1 sp:2 error:0",
    "INFO: task a:1 blocked for more than 120 seconds.",
    "TCP: request_sock_TCP: Possible SYN flooding on port 80. Sending cookies.",
    "nf_conntrack: table full, dropping packet",
    "EXT4-fs (sda1): Remounting filesystem read-only",
    "BTRFS info (device sda1): forced readonly",
    "VFS: file-max limit 100 reached",
    "Linux version 6.1.0",
    "Kernel panic - not syncing: x",
    "Failed password for invalid user a from 198.51.100.7 port 7 ssh2",
    "message repeated 2 times: [ Failed password for root from 198.51.100.7 port 7 ssh2]",
    "Invalid user a from 198.51.100.7",
    "pam_unix(cron:session): session opened for user root",
    "(root) CMD (run-parts /etc/cron.hourly)",
    "Job `cron.daily' started",
    "  admin : TTY=pts/0 ; PWD=/ ; USER=root ; COMMAND=/bin/ls",
    "starting apt-compat",
    "cannot write /var/log/x: No space left on device",
    "write: Disk quota exceeded",
    "open: Read-only file system",
    "mysql.service: Main process exited, code=killed, status=9/KILL",
    "mysql main process (812) killed by KILL signal",
    "PHP Fatal error:  Allowed memory size of 1 bytes exhausted (tried to allocate 2 bytes) in /x.php on line 1",
    "connect from unknown[198.51.100.7]",
)
LINES = st.lists(
    st.tuples(
        STAMPS, st.sampled_from(TAGS), st.sampled_from(MESSAGES), st.sampled_from(("", " ", "\0", "x" * 9000))
    ).map(lambda parts: f"{parts[0]} host {parts[1]}: {parts[2]}{parts[3]}")
    | st.text(max_size=40),
    max_size=20,
)


class Thorough(SystemLog):
    """Reads every line."""

    def _passed(self, line: str, anchor: Anchor) -> bool:  # noqa: ARG002  the interface's
        return False


def test_no_message_is_missed_under_any_tag() -> None:
    told = set()
    for tag, message in product(TAGS, MESSAGES):
        line = f"Jun  3 13:29:51 host {tag}: {message}"
        fast, thorough = SystemLog(), Thorough()
        found = [*fast.tell(line, 1, ANCHOR), *fast.finish()]
        assert found == [*thorough.tell(line, 1, ANCHOR), *thorough.finish()], line
        told |= {message} if found else set()
    silent = ("UFW BLOCK", "[ pid ]", "6536]", "usage 524288kB", "pam_unix", "connect from")
    assert not [one for one in MESSAGES if one not in told and not any(word in one for word in silent)]


@LAW
@given(LINES)
def test_lines_that_are_passed_over_would_have_told_nothing(lines: Sequence[str]) -> None:
    fast, thorough = SystemLog(), Thorough()
    for number, line in enumerate(lines, 1):
        assert list(fast.tell(line, number, ANCHOR)) == list(thorough.tell(line, number, ANCHOR)), line
        assert (fast.ts, fast.clock) == (thorough.ts, thorough.clock)
    assert list(fast.finish()) == list(thorough.finish())
    assert (fast.unparsed, fast.sample) == (thorough.unparsed, thorough.sample)


@LAW
@given(
    st.sampled_from(("UTC", "Europe/Paris", "Australia/Lord_Howe", "Asia/Kathmandu")),
    st.lists(
        st.tuples(
            st.sampled_from(("Mar 26", "Oct 29", "Apr  2", "Oct  1", "Feb 29", "Nov 15")), st.integers(0, 90_000)
        ),
        max_size=12,
    ),
)
@example("Europe/Paris", [("Mar 26", 7200), ("Mar 26", 10_799), ("Oct 29", 9000)])
@example("Australia/Lord_Howe", [("Oct  1", 7200), ("Oct  1", 9000), ("Oct  1", 10_000)])
@example("UTC", [("Nov 15", 79_000), ("Nov 15", 80_000), ("Nov 15", 80_001), ("Nov 15", 81_000)])
def test_an_hour_remembered_is_the_hour_read(zone: str, times: Sequence[tuple[str, int]]) -> None:
    """Where clocks are put forward, and where a year without a name ends, too (the anchor's moment is 22:13:20)."""
    anchor = Anchor(1700000000.0, ZoneInfo(zone))
    classic, whole = Stamp([time_piece("%b %e %H:%M:%S")]), Stamp([time_piece("%b %e %H:%M:%S")])
    hours, iso = Hours(classic.ts, 10), Hours(iso_ts, 14)
    for day, second in times:
        clock = f"{second // 3600:02}:{second // 60 % 60:02}:{second % 60:02}"
        assert hours.ts(f"{day} {clock}", anchor) == whole.ts(f"{day} {clock}", anchor)
        text = f"2023-10-{day[-2:].strip():0>2}T{clock}+05:45"
        assert iso.ts(text, anchor) == iso_ts(text, anchor)
    for text in ("", "Nov 15 10:00:60", "Nov 15 1:2:3", "x" * 30):
        assert hours.ts(text, anchor) == whole.ts(text, anchor)
