"""It works when it matters: in a memory cgroup that thrashes and whose processes are killed, guard still bans.

The site's group is given little memory. Hogs in it take all there is, touch it again and again, read files through
its page cache, and are killed by the kernel, one after the other; guard lives in the same group.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from enforcing import Site
from guarding import HOSTS_ALONE, Guard, request_line, scratch
from netns import wait_until

pytestmark = pytest.mark.root
LIMIT_BYTES = 224 << 20
BANS = 20
DEADLINE_MS = 5000.0

_HOG = """
import os, sys
held, folder = [], sys.argv[1]
with open(f"{folder}/ballast", "rb", buffering=0) as ballast:
    while True:
        held.append(bytearray(os.urandom(1 << 12) * 512))
        for block in held[::7]:
            block[::4096] = bytes(len(block) // 4096)
        if not ballast.read(1 << 20):
            ballast.seek(0)
"""

# Writes each address's crossing line and asks the kernel for the element until it is there.
_STOPWATCH = """
import sys, time
from tocsin.enforce import netlink
from tocsin.enforce.elements import look_up
from tocsin.enforce.ruleset import TABLE
from tocsin.enforce.subjects import parse_subject
kernel = netlink.Netlink(netlink.NETLINK_NETFILTER)
with open(sys.argv[1], "ab", buffering=0) as log:
    for line in sys.stdin.buffer:
        target = parse_subject(line.split()[0].decode())
        log.write(line + line)
        time.sleep(0.05)
        began_s = time.perf_counter()
        log.write(line)
        while look_up(kernel, TABLE, target) is None and time.perf_counter() - began_s < 10:
            time.sleep(0.0002)
        print(1000 * (time.perf_counter() - began_s), flush=True)
        time.sleep(0.2)
"""


class MemoryGroup:
    """A memory cgroup, of version 1 or 2, whichever is mounted. OSError where none can be made."""

    def __init__(self, limit_bytes: int) -> None:
        root = Path("/sys/fs/cgroup")
        self.v1 = (root / "memory").is_dir()
        self.path = (root / "memory" if self.v1 else root) / f"tocsin-test-{os.getpid()}"
        self.path.mkdir()
        try:
            (self.path / ("memory.limit_in_bytes" if self.v1 else "memory.max")).write_text(str(limit_bytes))
        except OSError:
            self.path.rmdir()
            raise

    def kills(self) -> int:
        """How many processes of it the kernel has killed for want of memory."""
        text = (self.path / ("memory.oom_control" if self.v1 else "memory.events")).read_text()
        return next(int(line.split()[1]) for line in text.splitlines() if line.startswith("oom_kill "))

    def entering(self) -> list[str]:
        """The front of a command that runs in it."""
        return ["sh", "-c", 'echo $$ > "$0" && exec "$@"', str(self.path / "cgroup.procs")]

    def remove(self) -> None:
        """End what is left in it, and take it away."""
        for pid in (self.path / "cgroup.procs").read_text().split():
            with contextlib.suppress(ProcessLookupError):
                os.kill(int(pid), signal.SIGKILL)
        wait_until(lambda: not (self.path / "cgroup.procs").read_text().split(), "the memory cgroup empty")
        wait_until(self._gone, "the memory cgroup gone")

    def _gone(self) -> bool:
        try:
            self.path.rmdir()
        except OSError:
            return False
        return True


@pytest.fixture
def group() -> Iterator[MemoryGroup]:
    """A memory cgroup with little room."""
    try:
        made = MemoryGroup(LIMIT_BYTES)
    except OSError as error:
        pytest.skip(f"needs a memory cgroup (version 1 or 2) that may be made: {error}")
    try:
        yield made
    finally:
        made.remove()


class Hogs:
    """One hog after the other, each until the kernel kills it."""

    def __init__(self, group: MemoryGroup, folder: Path) -> None:
        (folder / "ballast").write_bytes(os.urandom(1 << 20) * 256)
        self._command = [*group.entering(), sys.executable, "-c", _HOG, str(folder)]
        self._ending = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None
        self.killed = 0
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        while not self._ending.is_set():
            self._process = subprocess.Popen(self._command, stderr=subprocess.DEVNULL)
            self.killed += self._process.wait() == -signal.SIGKILL

    def end(self) -> None:
        """No more of them."""
        self._ending.set()
        if self._process is not None:
            self._process.kill()
        self._thread.join()


def test_guard_bans_while_its_neighbours_are_killed(site: Site, group: MemoryGroup) -> None:
    with scratch() as folder:
        guard = Guard(site.server, folder, HOSTS_ALONE)
        guard.start(prefix=group.entering())
        try:
            before = guard.pids()
            hogs = Hogs(group, folder)
            try:
                wait_until(lambda: group.kills() > 0, "the first hog killed", 60)
                took_ms = _timed_bans(guard)
            finally:
                hogs.end()
            took_ms.sort()
            print(
                f"\n{len(took_ms)} bans in a thrashing memory cgroup, {group.kills()} processes killed meanwhile: "
                f"half within {took_ms[len(took_ms) // 2]:.1f} ms, the slowest {took_ms[-1]:.1f} ms"
            )
            assert guard.pids() == before, "guard's own processes were not the ones that were killed"
            assert took_ms[-1] < DEADLINE_MS
        finally:
            guard.stop()


def _timed_bans(guard: Guard) -> list[float]:
    lines = "".join(request_line(f"198.51.100.{1 + number}") for number in range(BANS))
    command = guard.namespace.command(sys.executable, "-c", _STOPWATCH, str(guard.log))
    done = subprocess.run(command, input=lines, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return [float(line) for line in done.stdout.splitlines()]
