"""`tocsin guard`, as installed, in a namespace, on a log of its own; for the tests of this folder and `bench/`."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from ipaddress import ip_network
from pathlib import Path
from typing import Any

from netns import DEADLINE_S, Namespace, wait_until

from tocsin.control import GuardUnavailableError, ask
from tocsin.model import target_of

TOCSIN = Path(sys.executable).parent / "tocsin"
NOBODY = 65534
SETS = ("host4", "host6", "addr6", "net4", "net6")


def stamp(ts: float) -> str:
    """Apache's `%t` in UTC, without its brackets."""
    return time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))


def request_line(
    client: str,
    request: str = "POST /xmlrpc.php HTTP/1.0",
    *,
    status: int = 200,
    agent: str = "-",
    ts: float | None = None,
) -> str:
    """A line of a combined log, stamped now."""
    return f'{client} - - [{stamp(ts or time.time())}] "{request}" {status} 820 "-" "{agent}"\n'


def append(log: Path, lines: Iterable[str]) -> None:
    """Append lines as a web server does: one write for each."""
    with log.open("ab", buffering=0) as out:
        for line in lines:
            out.write(line.encode())


def children(pid: int) -> dict[str, int]:
    """The processes that a supervisor has started: `guard` (the watcher) and `enforce`, by their module."""
    found: dict[str, int] = {}
    with contextlib.suppress(FileNotFoundError):
        for child in map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()):
            with contextlib.suppress(FileNotFoundError, ProcessLookupError):
                words = Path(f"/proc/{child}/cmdline").read_bytes().split(b"\0")
                if b"-m" in words:
                    found[words[words.index(b"-m") + 1].decode().removeprefix("tocsin.")] = child
    return found


HOSTS_ALONE = "[prefixes]\nenabled = false\n"  # many addresses of one network are banned one by one


class Guard:
    """One guard with its folder: log, state, configuration. It can be started, ended and started again."""

    def __init__(self, namespace: Namespace, folder: Path, extra: str = "", state: Path | None = None) -> None:
        """`extra` is further configuration; `state` another place for the ledger."""
        self.namespace = namespace
        self.folder = folder
        self.log = folder / "access.log"
        self.config = folder / "tocsin.toml"
        self.run_dir = folder / "run"
        self.state = state or folder / "state"
        self.said = folder / "guard.out"
        self.process: subprocess.Popen[bytes] | None = None
        self.log.touch()
        self.configure(extra)

    def configure(self, extra: str) -> None:
        """Write the configuration: our log alone, then `extra`."""
        self.config.write_text(
            f'[guard]\nstate_dir = "{self.state}"\nrun_dir = "{self.run_dir}"\n'
            f'[logs]\ndiscover = false\njournal = "off"\n[[log]]\npath = "{self.log}"\n{extra}'
        )

    # -- its life ----------------------------------------------------------------------------------------------------

    def start(self, prefix: Sequence[str] = (), *, wait: bool = True) -> None:
        """Start it, through a command in front of it (`prefix`); unless told otherwise wait until it watches."""
        command = self.namespace.command(*prefix, str(TOCSIN), "guard", "--config", str(self.config))
        with self.said.open("ab") as out:
            self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out, cwd="/")
        if wait:
            self.wait_ready()

    def wait_ready(self, deadline_s: float = DEADLINE_S) -> dict[str, Any]:
        """Wait until it answers, has both its processes, and holds in the kernel what it should; its status."""
        before = self.said_text().count("guard is on:")

        def ready() -> bool:
            self.check()
            return self.status() is not None and self.said_text().count("guard is on:") >= max(before, self._starts())

        wait_until(ready, "guard at work", deadline_s)
        return self.need_status()

    def _starts(self) -> int:
        return 1 + self.said_text().count("starting watcher and enforcer again")

    def check(self) -> None:
        """AssertionError with what it said where it has ended by itself."""
        assert self.process, "guard was not started"
        assert self.process.poll() is None, f"guard ended with {self.process.returncode}:\n{self.said_text()}"

    def stop(self) -> None:
        """End it in peace."""
        if self.process is not None and self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(DEADLINE_S)
            except subprocess.TimeoutExpired:
                self.kill()
        self.process = None

    def kill(self, *names: str) -> None:
        """SIGKILL some of `supervise`, `guard` (the watcher) and `enforce`; without a name all, the parent first."""
        assert self.process
        pids = self.pids()
        for name in names or ("supervise", "guard", "enforce"):
            if name in pids:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pids[name], signal.SIGKILL)
        if not names or "supervise" in names:
            self.process.wait(DEADLINE_S)

    def pids(self) -> dict[str, int]:
        """Its processes: `supervise`, `guard` (the watcher), `enforce`."""
        assert self.process
        return {"supervise": self.process.pid, **children(self.process.pid)}

    def said_text(self) -> str:
        """All that it has said."""
        return self.said.read_text(errors="replace") if self.said.exists() else ""

    # -- what it does ------------------------------------------------------------------------------------------------

    def write(self, *lines: str) -> None:
        """Append lines to its log."""
        append(self.log, lines)

    def status(self) -> dict[str, Any] | None:
        """What `tocsin status` shows of the running guard; None where none answers."""
        try:
            reply = ask(self.run_dir, {"cmd": "status"})
        except GuardUnavailableError:
            return None
        status: dict[str, Any] = reply["status"]
        return status

    def need_status(self) -> dict[str, Any]:
        """Its status. AssertionError with what it said where none comes."""
        status = self.status()
        assert status is not None, self.said_text()
        return status

    def lines(self) -> int:
        """How many lines it has read so far; -1 where it does not answer just now."""
        status = self.status()
        return -1 if status is None else int(status["counts"]["lines"])

    def tell(self, *words: str, code: int = 0) -> str:
        """Run `tocsin WORDS` beside it; its output. AssertionError where it leaves with another code."""
        done = self.run_cli(*words)
        assert done.returncode == code, (
            f"tocsin {' '.join(words)} left with {done.returncode}:\n{done.stdout}{done.stderr}"
        )
        return done.stdout

    def run_cli(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `tocsin WORDS` beside it."""
        command = self.namespace.command(str(TOCSIN), *words, "--config", str(self.config))
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")

    def in_kernel(self) -> set[str]:
        """The subjects that the kernel holds, as nft lists them; empty where there is no table."""
        return kernel_subjects(self.namespace)

    def wait_banned(self, *subjects: str, deadline_s: float = DEADLINE_S) -> float:
        """Wait until the kernel holds all of them; the seconds it took."""
        try:
            return wait_until(lambda: set(subjects) <= self.in_kernel(), f"{subjects} in the kernel", deadline_s)
        except AssertionError as error:
            raise AssertionError(f"{error}; guard said:\n{self.said_text()[-4000:]}") from error


def kernel_subjects(namespace: Namespace) -> set[str]:
    """The targets in the sets of a namespace, in Tocsin's words."""
    found: set[str] = set()
    listed = namespace.command("nft", "-j", "-t", "list", "sets", "inet")
    items = json.loads(subprocess.run(listed, capture_output=True, text=True, check=True, timeout=60).stdout)[
        "nftables"
    ]
    closing = {item["set"]["name"] for item in items if item.get("set", {}).get("table") == "tocsin"} - set(SETS)
    for name in (*SETS, *sorted(closing)):
        command = namespace.command("nft", "-j", "list", "set", "inet", "tocsin", name)
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        if done.returncode:
            continue
        for item in json.loads(done.stdout)["nftables"]:
            found |= {_subject(name, each) for each in item.get("set", {}).get("elem", [])}
    return found


def _subject(set_name: str, element: Any) -> str:
    value = element.get("elem", element) if isinstance(element, dict) else element
    key = value.get("val", value) if isinstance(value, dict) else value
    if isinstance(key, dict):  # an interval set's prefix; Tocsin puts no other ranges in
        return str(ip_network(f"{key['prefix']['addr']}/{key['prefix']['len']}"))
    kind, _, services = set_name.partition(".")
    return target_of(f"{key}/64" if kind == "host6" else f"{key}", services.replace("_", ","))


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder with a short path (a socket's may have 107 bytes) into which whoever guard runs as may look."""
    folder = Path(tempfile.mkdtemp(prefix="tocsin-"))
    folder.chmod(0o755)
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextlib.contextmanager
def guarding(namespace: Namespace, extra: str = "") -> Iterator[Guard]:
    """A guard at work in a namespace, ended and cleaned up after."""
    with scratch() as folder:
        guard = Guard(namespace, folder, extra)
        try:
            guard.start()
            yield guard
        finally:
            guard.stop()
