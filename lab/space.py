"""Where a server of the lab lives: network namespaces, private mounts, a memory and a cpu cgroup, all ending with us.

A space is two network namespaces with a cable between them (the server's and its clients'), a mount namespace in which
directories of our own stand below the stock paths, a host name, and cgroups of version 1. What is started in it keeps
its process id, so the kernel's reports, error logs and `ps` agree.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

CGROUPS = Path("/sys/fs/cgroup")
ROOM = Path("/var/tmp/tocsin-lab")  # noqa: S108 - a directory that only root writes, on disk and not in memory
LIFE_S = 1200
NEAR, FAR = "169.254.77.1", "169.254.77.2"
ENTER = 'for g in $1; do echo 0 >"$g/cgroup.procs" || exit 125; done; shift; exec nsenter "$@"'


class SpaceError(RuntimeError):
    """This machine cannot hold a server, or a command that has to work did not."""


def command(*words: str, given: str | None = None, within_s: float = 60.0) -> str:
    """Run a program that has to work; its output."""
    done = subprocess.run(words, input=given, capture_output=True, text=True, check=False, timeout=within_s)
    if done.returncode:
        raise SpaceError(f"{' '.join(words)[:300]}: {(done.stderr or done.stdout).strip()[-600:]}")
    return done.stdout


class Mount(msgspec.Struct):
    """A directory or file of ours that stands at a stock path inside."""

    source: Path
    target: str


class Space:
    """Made by `open`, ended by `close`, which kills all that runs in it. `name` is unique on this machine."""

    def __init__(self, hostname: str, address: str, memory_bytes: int, cpu_share: float) -> None:
        """Names only; nothing is made yet. `cpu_share` in cores, `address` is the server's own."""
        self.name = f"tl{os.getpid()}"
        self.hostname, self.address = hostname, address
        self.net, self.clients = f"{self.name}s", f"{self.name}c"
        self.home = ROOM / self.name
        self.memory = CGROUPS / "memory" / "lxc" / f"{hostname}-{os.getpid()}"
        self.cpu = CGROUPS / "cpu" / "lxc" / f"{hostname}-{os.getpid()}"
        self._limits = memory_bytes, cpu_share
        self._holder: subprocess.Popen[bytes] | None = None
        self.environment = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}

    @property
    def root(self) -> Path:
        """The server's file system as seen from outside it."""
        assert self._holder is not None
        return Path(f"/proc/{self._holder.pid}/root")

    def open(self) -> None:
        """Make it all but the mounts; LIFE_S seconds later the holder ends even if we were killed."""
        if not (CGROUPS / "memory/memory.limit_in_bytes").exists():
            raise SpaceError(
                "cgroups of version 1 are needed: no memory controller is mounted at /sys/fs/cgroup/memory"
            )
        self.home.mkdir(parents=True)
        self.home.chmod(0o755)
        memory_bytes, cpu_share = self._limits
        for group in (self.memory, self.cpu):
            group.mkdir(parents=True)
        (self.memory / "memory.limit_in_bytes").write_text(str(memory_bytes))
        (self.memory / "memory.swappiness").write_text("0")  # a host's swap would hide the kills
        (self.cpu / "cpu.cfs_period_us").write_text("100000")
        (self.cpu / "cpu.cfs_quota_us").write_text(str(int(cpu_share * 100_000)))
        self._open_network()
        hold = f"hostname {self.hostname} && echo $$ >{self.home}/held && exec sleep {LIFE_S}"
        unshare = ["unshare", "--mount", "--uts", "--propagation", "private", "sh", "-c", hold]
        self._holder = subprocess.Popen(unshare, start_new_session=True, stdin=subprocess.DEVNULL)
        end_s = time.monotonic() + 10
        while not (self.home / "held").exists():
            if time.monotonic() > end_s or self._holder.poll() is not None:
                raise SpaceError("no mount namespace could be made")
            time.sleep(0.02)

    def _open_network(self) -> None:
        for name in (self.net, self.clients):
            command("ip", "netns", "add", name)
            command("ip", "-n", name, "link", "set", "lo", "up")
        peer = ("peer", "name", "world", "netns", self.clients)
        command("ip", "-n", self.net, "link", "add", "eth0", "type", "veth", *peer)
        for name, link, own in ((self.net, "eth0", NEAR), (self.clients, "world", FAR)):
            command("ip", "-n", name, "addr", "add", f"{own}/30", "dev", link)
            command("ip", "-n", name, "link", "set", link, "up")
        command("ip", "-n", self.net, "addr", "add", f"{self.address}/32", "dev", "lo")
        command("ip", "-n", self.clients, "route", "add", f"{self.address}/32", "via", NEAR)

    def open_prefixes(self, prefixes: list[str]) -> None:
        """Let the clients' programs use any address of these networks."""
        unique = sorted(set(prefixes))
        here = "".join(f"route replace local {each} dev lo\n" for each in unique)
        there = "".join(f"route replace {each} via {FAR}\n" for each in unique)
        command("ip", "-n", self.clients, "-batch", "-", given=here)
        command("ip", "-n", self.net, "-batch", "-", given=there)

    def mount(self, mounts: list[Mount]) -> None:
        """Bind our directories and files over the stock paths."""
        for each in mounts:
            self.outside("mount", "--bind", str(each.source), each.target)

    def outside(self, *words: str) -> str:
        """Run a program that has to work, in the server's mounts but not in its cgroups: the lab's own doing."""
        return command(
            "nsenter", f"--mount={self.root.parent}/ns/mnt", f"--uts={self.root.parent}/ns/uts", "--", *words
        )

    def inside(self, words: list[str], *, in_cgroup: bool = True) -> list[str]:
        """The command line that runs `words` in the server's namespaces and, unless told otherwise, its cgroups."""
        assert self._holder is not None
        spaces = f"/proc/{self._holder.pid}/ns"
        enter = [f"--mount={spaces}/mnt", f"--uts={spaces}/uts", f"--net=/run/netns/{self.net}", "--wd=/", "--", *words]
        groups = f"{self.memory} {self.cpu}" if in_cgroup else ""
        return ["sh", "-c", ENTER, "sh", groups, *enter]

    def start(self, words: list[str], **how: Any) -> subprocess.Popen[bytes]:
        """Start a program inside; it is ended by `close` at the latest. Its pid is that of the program itself."""
        how.setdefault("env", self.environment)
        how.setdefault("stdin", subprocess.DEVNULL)
        return subprocess.Popen(self.inside(words), start_new_session=True, **how)

    def pids(self) -> list[int]:
        """All processes in it, as the cgroup counts them."""
        with contextlib.suppress(OSError):
            return [int(pid) for pid in (self.memory / "cgroup.procs").read_text().split()]
        return []

    def close(self) -> None:
        """Kill what runs in it and take it apart; each step goes on where an earlier one failed."""
        for _ in range(200):
            pids = self.pids()
            for pid in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if not pids:
                break
            time.sleep(0.05)
        if self._holder is not None:
            self._holder.kill()
            self._holder.wait()
        remove(self.name, [self.memory, self.cpu])


def remove(name: str, groups: list[Path]) -> None:
    """Take away what a space leaves behind once its processes are gone."""
    for each in (f"{name}s", f"{name}c"):
        subprocess.run(["ip", "netns", "del", each], capture_output=True, check=False)
    for group in groups:
        for _ in range(50):
            try:
                group.rmdir()
            except FileNotFoundError:
                break
            except OSError:
                time.sleep(0.1)
            else:
                break
    shutil.rmtree(ROOM / name, ignore_errors=True)


def sweep() -> None:
    """Take away the spaces of runs that were killed before they could close theirs."""
    for home in ROOM.glob("tl*"):
        owner = home.name[2:]
        if not owner.isdigit() or words_of(int(owner)):
            continue
        groups = [group for kind in ("memory", "cpu") for group in (CGROUPS / kind / "lxc").glob(f"*-{owner}")]
        for group in groups:
            for pid in (group / "cgroup.procs").read_text().split():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(int(pid), signal.SIGKILL)
        with contextlib.suppress(OSError, ValueError):
            holder = int((home / "held").read_text())
            if words_of(holder) == [b"sleep", str(LIFE_S).encode()]:
                os.kill(holder, signal.SIGKILL)
        time.sleep(0.3)
        remove(home.name, groups)


def words_of(pid: int) -> list[bytes]:
    """A process's command line; empty for one that is gone, or dead and not yet reaped."""
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[:-1]
    except OSError:
        return []


class Repeating(threading.Thread):
    """Calls something every so many seconds until it is stopped; an error in it is kept, and raised by `stop`."""

    def __init__(self, call: Callable[[], None], every_s: float) -> None:
        """A thread; `start` it."""
        super().__init__(daemon=True)
        self._call, self._every_s = call, every_s
        self._ended = threading.Event()
        self.error: BaseException | None = None

    def run(self) -> None:
        """Until stopped."""
        try:
            while not self._ended.wait(self._every_s):
                self._call()
        except BaseException as error:  # noqa: BLE001 - handed to whoever stops the thread
            self.error = error

    def stop(self) -> None:
        """End it, and raise what it died of."""
        self._ended.set()
        if self.is_alive():
            self.join(30)
        if self.error is not None:
            raise self.error
