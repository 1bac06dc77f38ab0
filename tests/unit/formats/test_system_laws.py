"""Laws of the readers of kernel and system logs: any text is read, at a cost that grows with its length alone."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import UTC

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from msgspec.structs import replace

from tocsin.formats.base import Anchor
from tocsin.formats.kernel import KernelLog
from tocsin.formats.system import SystemLog
from tocsin.formats.told import TEXT_CHARACTERS
from tocsin.model import AuthAttempt
from tocsin.server_events import ClockTie, ServerEvent

LAW = settings(derandomize=True, max_examples=200)
ANCHOR = Anchor(1700000000.0, UTC)
N = 8_000
"""Just within what is looked at of a line."""

TEXTS = st.binary(max_size=200).map(lambda data: data.decode("utf-8", "backslashreplace"))
STAMPS = st.sampled_from(
    [
        *("", "[    1.500000] ", "[Fri Oct  8 14:08:06 2021] ", "Jun  3 13:29:51 h kernel: ", "<4>[12.000001][  T1] "),
        *("Jun  3 13:29:51 h kernel: [12.000001] ", "Jun  3 13:29:51 h systemd[1]: ", "Jun  3 13:29:51 h init: "),
        *("2023-06-03T15:29:51+0200 h earlyoom[1]: ", "Jun  3 13:29:51 h CRON[1]: ", "Jun  3 13:29:51 h sudo: "),
        *("Jun  3 13:29:51 h sshd[1]: ", '{"__REALTIME_TIMESTAMP":"1","MESSAGE":"'),
    ]
)
MESSAGES = st.sampled_from(
    [
        "apache2 invoked oom-killer: gfp_mask=0x201d2, order=0, oomkilladj=0",
        "[ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name",
        "[ pid ] name tgid rss name",
        "[ 6536]   107  6536    78962     2566   0       0             0 mysqld",
        "133104 pages RAM",
        "Free swap  = 0kB",
        "memory: usage 524288kB, limit 524288kB, failcnt 1019",
        "Task in /a killed as a result of limit of /",
        "oom-kill:constraint=CONSTRAINT_MEMCG,task_memcg=/,task=a,pid=1,uid=0",
        "Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child",
        "ill process ",
        "Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB",
        "audit: type=1400 audit(1466221659.162:47): x",
        "Starting backup.service - x...",
        "a.service: Main process exited, code=killed, status=9/KILL",
        "a.service: Watchdog timeout (limit 3min 5min .s)!",
    ]
)
LINES = st.lists(st.tuples(STAMPS, MESSAGES | TEXTS, TEXTS | st.just("")).map("".join), max_size=12)


@LAW
@given(LINES)
def test_any_text_is_read(lines: list[str]) -> None:
    for log in (KernelLog(), SystemLog()):
        assert 0 <= log.share(lines) <= 1
        told = [one for number, line in enumerate(lines, 1) for one in log.tell(line, number, ANCHOR)]
        for one in (*told, *log.finish()):
            assert 1 <= one.line <= len(lines)
            assert one.text == lines[one.line - 1][:TEXT_CHARACTERS]
        assert 0 <= log.unparsed <= len(lines)
        assert log.unparsed == 0 or log.sample


@LAW
@given(st.lists(MESSAGES | TEXTS.filter(lambda text: ": " not in text), max_size=12))
def test_a_kernel_message_tells_the_same_however_it_came(messages: list[str]) -> None:
    raw, forwarded = KernelLog(), SystemLog()
    told: list[list[ServerEvent | AuthAttempt]] = [[], []]
    for number, message in enumerate(messages, 1):
        stamped = f"[   {number:02}.000000] {message}"
        told[0] += [one.event for one in raw.tell(stamped, number, ANCHOR)]
        line = f"Jun  3 13:29:{number:02} h kernel: {stamped}"
        told[1] += [one.event for one in forwarded.tell(line, number, ANCHOR)]
    told[0] += [one.event for one in raw.finish()]
    told[1] += [one.event for one in forwarded.finish()]
    start_ts = 1685798940.0
    moved = [event if isinstance(event, ClockTie) else replace(event, ts=event.ts + start_ts) for event in told[0]]
    assert moved == told[1]


HOSTILE = (
    lambda n: "Out of memory: Killed process 1 (" + ")" * n,
    lambda n: "Killed process 1 (" + ") total-vm:1kB, anon-rss:1kB, file-rss:1kB (" * (n // 40),
    lambda n: "Killed process " * (n // 15),
    lambda n: "Kill process 1 (a) score " * (n // 25),
    lambda n: " invoked oom-killer: " * (n // 21),
    lambda n: "[ pid ] tgid rss" + " a" * (n // 2),
    lambda n: "[ 1] " + "1 " * (n // 2),
    lambda n: "oom-kill:constraint=CONSTRAINT_NONE," + ",task_memcg=/,task=,pid=" * (n // 20),
    lambda n: "[" * n,
    lambda n: "a[1" * (n // 3),
    lambda n: "INFO: task a" + ":1 blocked for more than" * (n // 20),
    lambda n: "EXT4-fs (sda1): " + " with error" * (n // 11),
    lambda n: "BTRFS" + " (device a)" * (n // 11),
    lambda n: "a.service: " * (n // 11),
    lambda n: "Started " + "a.service - " * (n // 12),
    lambda n: "(root) CMD (" * (n // 12),
    lambda n: " : TTY=x ; COMMAND=" * (n // 18),
    lambda n: "x: No space left on device" * (n // 26),
    lambda n: "/ " * (n // 2) + "No space left on device",
    lambda n: 'sending SIGTERM to process 1 uid 1 "' + '":' * (n // 2),
    lambda n: "a (b) " * (n // 6) + "main process (1) ",
    lambda n: " " * n,
    lambda n: '{"a":' * 10 * n,
    lambda n: '{"__REALTIME_TIMESTAMP":"1","MESSAGE":[' + "1," * 10 * n + "1]}",
)  # fmt: skip
PREFIXES = (
    "",
    "[    1.500000] ",
    "Jun  3 13:29:51 h kernel: ",
    "Jun  3 13:29:51 h systemd[1]: ",
    "Jun  3 13:29:51 h x: ",
)


def cost_s(line: str) -> float:
    best = float("inf")
    for _ in range(3):
        logs = KernelLog(), SystemLog()
        start = time.process_time()
        for log in logs:
            log.tell("[    1.000000] [ pid ] tgid rss name", 1, ANCHOR)
            log.share([line])
            log.tell(line, 2, ANCHOR)
        best = min(best, time.process_time() - start)
    return best


@pytest.mark.parametrize("make", HOSTILE)
def test_cost_grows_with_the_length_alone(make: Callable[[int], str]) -> None:
    """Ten times the text costs at most twenty times the time, or so little that noise is all there is to see."""
    for prefix in PREFIXES:
        for _ in range(3):
            once, tenfold = cost_s(prefix + make(N // 10)), cost_s(prefix + make(N))
            if tenfold <= 20 * once + 0.005:
                break
        else:
            pytest.fail(f"{prefix!r}: {once:.4f} s for {N // 10} characters, {tenfold:.4f} s for {N}")
