"""Starts, restarts and mourns a server's services as systemd 252 does, with its lines in the server's syslog."""

from __future__ import annotations

import signal
import subprocess
import threading
import time
from collections.abc import Callable
from typing import Literal

import msgspec

from journal import Syslog
from space import Space

SYSTEMD = "systemd[1]"
START_WITHIN_S = 60.0
STOP_WITHIN_S = 40.0
BURST, BURST_S = 5, 10.0
EXIT_NAMES = {1: "FAILURE", 2: "INVALIDARGUMENT", 7: "NOTRUNNING", 78: "CONFIG", 255: "EXCEPTION"}


class Unit(msgspec.Struct):
    """One service. `ready` says of its pid that it answers; `restart` is Restart=, `after_oom` OOMPolicy= of the unit.

    `tag` is the program that writes to its standard error, `forking` the unit's Type=. Where nothing else starts it
    again after an out-of-memory stop, somebody does so `operator_s` later.
    """

    name: str
    description: str
    argv: list[str]
    tag: str
    ready: Callable[[int], bool]
    restart: Literal["no", "on-abnormal", "on-abort"] = "no"
    restart_s: float = 0.1
    after_oom: Literal["stop", "continue"] = "continue"
    stop_signal: int = signal.SIGTERM
    forking: bool = False
    operator_s: float | None = None
    environment: dict[str, str] = {}


class Service:
    """A unit and what has become of it. All methods are called under the supervisor's lock."""

    def __init__(
        self, unit: Unit, space: Space, log: Callable[[str, str], None], killed: Callable[[], list[int]]
    ) -> None:
        """`log` writes a tag and a text to syslog; `killed` lists the pids that the kernel has killed for memory."""
        self.unit, self._space, self._log, self._killed = unit, space, log, killed
        self.process: subprocess.Popen[bytes] | None = None
        self.state: Literal["dead", "starting", "running", "failed", "waiting"] = "dead"
        self.restarts = self.failures = 0
        self._title = f"{unit.name}.service - {unit.description}"
        self._began_s = self._due_s = 0.0
        self._operator_comes = False
        self._starts: list[float] = []

    def start(self) -> None:
        """Begin to start it, unless it has been started too often."""
        now_s = time.monotonic()
        self._starts = [each for each in self._starts if now_s - each < BURST_S]
        if len(self._starts) >= BURST:
            self._say(f"{self.unit.name}.service: Start request repeated too quickly.")
            self._fail("start-limit-hit", starting=True)
            return
        self._starts.append(now_s)
        self._say(f"Starting {self._title}...")
        environment = {**self._space.environment, **self.unit.environment}
        self.process = self._space.start(
            self.unit.argv, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        threading.Thread(target=self._relay, args=(self.process,), daemon=True).start()
        self.state, self._began_s = "starting", now_s

    def _relay(self, process: subprocess.Popen[bytes]) -> None:
        """What it writes to its standard error is journald's, hence syslog's."""
        assert process.stdout is not None
        for line in process.stdout:
            if text := line.decode("utf-8", "replace").rstrip():
                self._log(f"{self.unit.tag}[{process.pid}]", text)

    def _say(self, text: str) -> None:
        self._log(SYSTEMD, text)

    def look(self) -> None:
        """One step of its life."""
        if self.state == "waiting" and time.monotonic() >= self._due_s:
            self.restarts += 1
            self._say(f"{self.unit.name}.service: Scheduled restart job, restart counter is at {self.restarts}.")
            self._say(f"Stopped {self._title}.")
            self.start()
            return
        if self.state == "failed" and self._operator_comes and time.monotonic() >= self._due_s:
            self.start()
            return
        if self.process is None or self.state not in ("starting", "running"):
            return
        code = self.process.poll()
        if code is not None:
            self._exited(code)
        elif self.state == "starting":
            if self.unit.ready(self.process.pid):
                self.state = "running"
                self._say(f"Started {self._title}.")
            elif time.monotonic() - self._began_s > START_WITHIN_S:
                self._say(f"{self.unit.name}.service: start operation timed out. Terminating.")
                self._end(self.process)
                self._fail("timeout", starting=True)

    def child_killed(self) -> None:
        """The kernel has killed one of its children for memory."""
        if self.state != "running" or self.process is None or self.process.poll() is not None:
            return
        self._say(f"{self.unit.name}.service: A process of this unit has been killed by the OOM killer.")
        if self.unit.after_oom == "stop":
            self._end(self.process)
            self._fail("oom-kill", starting=False)

    def _exited(self, code: int) -> None:
        assert self.process is not None
        starting, pid = self.state == "starting", self.process.pid
        if code >= 0:
            what = f"code=exited, status={code}/{EXIT_NAMES.get(code, 'n/a')}"
            result = "exit-code"
        else:
            name = signal.Signals(-code).name.removeprefix("SIG")
            dumped = -code in (signal.SIGSEGV, signal.SIGABRT, signal.SIGBUS, signal.SIGFPE, signal.SIGILL)
            what = f"code={'dumped' if dumped else 'killed'}, status={-code}/{name}"
            result = "core-dump" if dumped else "signal"
        if pid in self._killed():
            self._say(f"{self.unit.name}.service: A process of this unit has been killed by the OOM killer.")
            result = "oom-kill"
        if code == 0:
            self.state = "dead"
            self._say(f"{self.unit.name}.service: Deactivated successfully.")
            return
        which = "Control" if starting and self.unit.forking else "Main"
        self._say(f"{self.unit.name}.service: {which} process exited, {what}")
        self._fail(result, starting=starting)

    def _fail(self, result: str, *, starting: bool) -> None:
        self.failures += 1
        self._say(f"{self.unit.name}.service: Failed with result '{result}'.")
        if starting:
            self._say(f"Failed to start {self._title}.")
        abnormal = {"on-abnormal": ("signal", "core-dump", "oom-kill", "timeout"), "on-abort": ("core-dump", "signal")}
        again = result in abnormal.get(self.unit.restart, ())
        self.state = "waiting" if again else "failed"
        self._operator_comes = result == "oom-kill" and self.unit.operator_s is not None
        self._due_s = time.monotonic() + (self.unit.restart_s if again else self.unit.operator_s or 0.0)

    def stop(self) -> None:
        """Stop it as an operator does; waits."""
        if self.state == "waiting":
            self.state = "dead"
        if self.process is None or self.state not in ("starting", "running"):
            return
        self._say(f"Stopping {self._title}...")
        clean = self._end(self.process)
        self.state = "dead"
        if clean:
            self._say(f"{self.unit.name}.service: Deactivated successfully.")
        else:
            self._say(f"{self.unit.name}.service: State 'stop-sigterm' timed out. Killing.")
            self._say(f"{self.unit.name}.service: Killing process {self.process.pid} with signal SIGKILL.")
        self._say(f"Stopped {self._title}.")

    def _end(self, process: subprocess.Popen[bytes]) -> bool:
        process.send_signal(self.unit.stop_signal)
        try:
            process.wait(STOP_WITHIN_S)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
            return False
        return True


class Supervisor:
    """A server's services. Where `told` is false nobody restarts anything, and of the start only errors are told."""

    def __init__(self, space: Space, syslog: Syslog, killed: Callable[[], list[int]], *, told: bool) -> None:
        """No service yet: `add` them."""
        self._space, self._syslog, self._killed, self._told = space, syslog, killed, told
        self.services: dict[str, Service] = {}
        self.lock = threading.RLock()
        self._owners: dict[int, str] = {}
        self._kills_seen = 0

    def add(self, unit: Unit) -> None:
        """A service, not yet started."""
        self.services[unit.name] = Service(unit, self._space, self._log, self._killed)

    def _log(self, tag: str, text: str) -> None:
        if self._told or tag != SYSTEMD:
            self._syslog.write(tag, text)

    def start(self, name: str, within_s: float = START_WITHIN_S) -> bool:
        """Start one and wait until it answers or has failed."""
        with self.lock:
            self.services[name].start()
        return self.settled(name, within_s)

    def settled(self, name: str, within_s: float = START_WITHIN_S) -> bool:
        """Wait until a service that is being started runs (true) or has failed."""
        end_s = time.monotonic() + within_s
        while time.monotonic() < end_s:
            self.look()
            if self.services[name].state != "starting":
                break
            time.sleep(0.05)
        return self.services[name].state == "running"

    def restart(self, name: str) -> bool:
        """Stop and start one, as an operator does."""
        with self.lock:
            self.services[name].stop()
            self.services[name].start()
        return self.settled(name)

    def reload(self, name: str, reload_signal: int) -> None:
        """Ask one to reload."""
        with self.lock:
            service = self.services[name]
            if service.process is None or service.state != "running":
                return
            title = f"{name}.service - {service.unit.description}"
            self._log(SYSTEMD, f"Reloading {title}...")
            service.process.send_signal(reload_signal)
            self._log(SYSTEMD, f"Reloaded {title}.")

    def look(self) -> None:
        """One step of everybody's life; called many times a second."""
        with self.lock:
            killed = self._killed()
            for pid in killed[self._kills_seen :]:
                self._tell_of(pid)
            self._kills_seen = len(killed)
            for service in self.services.values():
                if not self._told and service.state == "waiting":
                    service.state = "failed"
                service.look()

    def _tell_of(self, pid: int) -> None:
        """Tell the service whose child was killed; a main process is seen to be dead by its own service."""
        mains = {service.process.pid for service in self.services.values() if service.process is not None}
        if pid in mains:
            return
        if (owner := self._owners.get(pid)) is not None:
            self.services[owner].child_killed()

    def watch(self) -> None:
        """Note whose child each process is, while it lives."""
        mains = {s.process.pid: name for name, s in self.services.items() if s.process is not None}
        for pid in self._space.pids():
            if pid not in self._owners and (parent := parent_of(pid)) in mains:
                self._owners[pid] = mains[parent]


def parent_of(pid: int) -> int:
    """A process's parent; 0 when it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:  # noqa: PTH123
            return int(stat.read().rpartition(")")[2].split()[1])
    except (OSError, IndexError):
        return 0
