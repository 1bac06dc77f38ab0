"""A full disk: guard bans all the same, says what it could not write, and writes it when there is room again."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from enforcing import Site
from guarding import HOSTS_ALONE, TOCSIN, Guard, request_line, scratch
from netns import wait_until

pytestmark = pytest.mark.root
ATTACKERS = [f"198.51.{100 + number // 250}.{1 + number % 250}" for number in range(400)]
MOUNT = 'mkdir -p "$0" && mount -t tmpfs -o size=1m,mode=777 tmpfs "$0" && exec "$@"'


class SmallDisk:
    """A guard whose state directory is a file system of 1 MiB, in a mount namespace of its own."""

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        guard.start(prefix=["unshare", "--mount", "sh", "-c", MOUNT, str(guard.state)])
        assert guard.process
        self.state = Path(f"/proc/{guard.process.pid}/root{guard.state}")
        self._filler = self.state / "filler"

    def fill(self) -> None:
        """Leave no byte free."""
        with self._filler.open("wb", buffering=0) as out, contextlib.suppress(OSError):
            for size in (1 << 16, 1 << 12, 1):
                with contextlib.suppress(OSError):
                    while out.write(bytes(size)) == size:
                        pass

    def make_room(self) -> None:
        """Take away what fills it."""
        self._filler.unlink()

    def written(self) -> set[str]:
        """The bans in force as the file has them: `tocsin bans` where the file system is to be seen."""
        assert self.guard.process
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        inside = ["nsenter", "--target", str(self.guard.process.pid), *user, "--mount", "--net"]
        command = [*inside, str(TOCSIN), "bans", "--json", "--config", str(self.guard.config)]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        return {json.loads(line)["ban"]["subject"] for line in done.stdout.splitlines()}


@pytest.fixture
def disk(site: Site) -> Iterator[SmallDisk]:
    """Guard at work with little room."""
    with scratch() as folder:
        guard = Guard(site.server, folder, HOSTS_ALONE)
        try:
            yield SmallDisk(guard)
        finally:
            guard.stop()


def test_bans_do_not_wait_for_the_disk(disk: SmallDisk) -> None:
    guard = disk.guard
    guard.write(*3 * [request_line("203.0.113.1")])
    guard.wait_banned("203.0.113.1")
    wait_until(lambda: disk.written() == {"203.0.113.1"}, "the first ban in the ledger")
    disk.fill()
    guard.write(*(3 * request_line(attacker) for attacker in ATTACKERS))
    guard.wait_banned(*ATTACKERS)
    wait_until(lambda: bool(guard.need_status()["ledger"]["trouble"]), "guard says that it cannot write")
    trouble = guard.need_status()["ledger"]["trouble"]
    assert "cannot be written" in trouble
    assert "waiting to be written" in trouble
    assert "cannot be written" in " ".join(guard.tell("status").split())
    assert not set(ATTACKERS) <= disk.written()
    disk.make_room()
    wait_until(lambda: disk.written() == {"203.0.113.1", *ATTACKERS}, "all bans in the ledger", 60)
    wait_until(lambda: guard.need_status()["ledger"]["trouble"] is None, "guard says that all is well again")
