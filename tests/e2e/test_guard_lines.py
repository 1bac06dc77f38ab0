"""Nothing lost, nothing twice: a log that is written, rotated by renaming, and a guard that is killed meanwhile."""

from __future__ import annotations

import random
import threading
import time
from pathlib import Path

import pytest
from enforcing import Site
from guarding import guarding, request_line
from netns import wait_until

pytestmark = pytest.mark.root
WRITERS, LINES_EACH = 3, 6000
ROTATIONS, KILLS = 4, 3


class Log:
    """A log with several writers; rotated as logrotate does it: renamed, then all reopen."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._lock = threading.Lock()
        self._out = path.open("ab", buffering=0)
        self.rotated = 0

    def write(self, line: bytes) -> None:
        """One whole line."""
        with self._lock:
            self._out.write(line)

    def rotate(self) -> None:
        """`access.log` becomes `access.log.1`, that `.2`, and so on."""
        for number in range(self.rotated, 0, -1):
            Path(f"{self.path}.{number}").rename(f"{self.path}.{number + 1}")
        self.rotated += 1
        self.path.rename(f"{self.path}.1")
        late = self._out
        with self._lock:
            self._out = self.path.open("ab", buffering=0)
            late.close()

    def close(self) -> None:
        """Nobody writes any more."""
        self._out.close()

    def lines(self) -> int:
        """How many lines all its files hold."""
        files = [self.path, *(Path(f"{self.path}.{number}") for number in range(1, self.rotated + 1))]
        return sum(file.read_bytes().count(b"\n") for file in files)


def _writer(log: Log, number: int) -> None:
    rng = random.Random(number)
    for _ in range(LINES_EACH):
        client = f"198.51.100.{rng.randrange(1, 250)}"
        log.write(request_line(client, f"GET /page/{rng.randrange(999)} HTTP/1.1").encode())
        if rng.random() < 0.02:
            time.sleep(rng.uniform(0.001, 0.05))


def test_every_line_is_counted_once(site: Site) -> None:
    rng = random.Random(2)
    with guarding(site.server) as guard:
        log = Log(guard.log)
        writers = [threading.Thread(target=_writer, args=(log, number)) for number in range(WRITERS)]
        for writer in writers:
            writer.start()
        todo = [log.rotate] * ROTATIONS + [lambda: guard.kill("guard")] * KILLS
        rng.shuffle(todo)
        for act in todo:
            time.sleep(rng.uniform(0.2, 1.0))
            act()
            guard.wait_ready()
        for writer in writers:
            writer.join()
        log.close()
        expected = WRITERS * LINES_EACH
        assert log.lines() == expected, "the test itself lost lines"
        wait_until(lambda: guard.lines() >= expected, f"{expected} lines counted", 30)
        guard.write(*10 * [request_line("203.0.113.9", "GET /last HTTP/1.1")])
        wait_until(lambda: guard.lines() >= expected + 10, "the last lines counted")
        status = guard.need_status()
        assert status["counts"]["lines"] == expected + 10
        assert status["counts"]["unparsed"] == 0, status["unparsed_samples"]
