"""The parent of watcher and enforcer: starts both with a socket pair between them, and both anew when one has died.

Where jails of fail2ban have actions, there is a third child, the runner of these. It may die alone: its end of the
socket stays open here, another one is started at it, and neither of the two notices. So may nginx's reloader, which is
there where nginx is set up to turn requests away, and guard is root's.

It reads no logs and touches no firewall; it only keeps the rights that starting the two needs. Bans live in the
kernel and in the ledger, and the watcher goes on where its checkpoint stands, so a restart loses nothing. A child that
says that it cannot work at all (bad configuration, no permission) is believed: its exit code becomes ours.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

from tocsin.saying import warn

FINAL_CODES = (64, 65, 66, 77, 78)  # sysexits: starting again would not help
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOP_WITHIN_S = 5.0
SOCKET_MODE = 0o660
CALM_S = 5.0  # a pair that lived so long may be started again at once
# glibc keeps what large blocks (checkpoints, messages) have taken, and an arena a thread; mapped apart they are given
# back: 50 MB of 210 after a million addresses (mallopt(3); musl knows none of these and needs none).
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "65536", "MALLOC_TRIM_THRESHOLD_": "262144"}
BACKOFF_S = (0.05, 0.2, 1.0, 5.0)
RUNNER_BACKOFF_S = (0.05, 0.5, 2.0, 10.0, 60.0)


class Helper:
    """A child beside the two that may die alone: another one is started, and neither of the two notices."""

    def __init__(
        self, name: str, work: str, module: str, arguments: list[str], descriptors: tuple[int, ...] = ()
    ) -> None:
        self._name = name
        self._work = work
        self._module = module
        self._arguments = arguments
        self._descriptors = descriptors
        self._child: subprocess.Popen[bytes] | None = None
        self._failures = 0
        self._started_s = 0.0
        self.due_s: float | None = time.monotonic()

    def tend(self, now_s: float) -> None:
        """Notice that it has ended, and start it where that is due."""
        if self._child is not None and self._child.poll() is not None:
            self._on_end(self._child.returncode, now_s)
            self._child = None
        if self.due_s is not None and now_s >= self.due_s:
            self.due_s, self._started_s = None, now_s
            self._child = _start(self._module, self._arguments, self._descriptors)

    def _on_end(self, code: int, now_s: float) -> None:
        if code in FINAL_CODES:
            text = f"cannot work (exit code {code}): {self._work} wait until a reload; bans go on"
        else:
            self._failures = 0 if now_s - self._started_s > CALM_S else self._failures + 1
            pause_s = RUNNER_BACKOFF_S[min(self._failures, len(RUNNER_BACKOFF_S) - 1)]
            self.due_s = now_s + pause_s
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            text = f"ended ({how}); another one comes in {pause_s:g} s, bans go on"
        warn(f"the {self._name} {text}")

    def reload(self) -> None:
        """The configuration may be another: one that could not work is started again. The watcher tells the others."""
        if self._child is None:
            self.due_s = time.monotonic()

    def stop(self) -> None:
        """End it, and what it runs."""
        self.due_s = None
        if self._child is not None:
            _end(self._child)


class Runner(Helper):
    """The runner of actions, and its end of the socket to the watcher, which outlives it."""

    def __init__(self, arguments: list[str]) -> None:
        self.watchers_end, self._socket = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        descriptor = self._socket.fileno()
        arguments = ["--fd", str(descriptor), *arguments]
        super().__init__("runner of actions", "actions", "fail2ban.actions.runner", arguments, (descriptor,))

    def stop(self) -> None:
        """End it, and what it runs."""
        self.watchers_end.close()
        self._socket.close()
        super().stop()


class Pair:
    """A watcher and an enforcer that talk to each other; where guard only observes, no enforcer. And perhaps a runner
    and nginx's reloader: `runner` and `reloader` are their arguments.
    """

    def __init__(self, arguments: list[str], control: socket.socket, runner: list[str], reloader: list[str]) -> None:
        self.started_s = time.monotonic()
        self.runner = Runner(runner) if runner else None
        self.helpers: list[Helper] = [self.runner] if self.runner is not None else []
        if reloader:
            self.helpers.append(Helper("reloader of nginx", "denials", "enforce.reloader", reloader))
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        observe = "--observe" in arguments
        with ours, theirs:
            self.children = []
            if not observe:
                self.children.append(_start("enforce", ["--fd", str(theirs.fileno()), *arguments], (theirs.fileno(),)))
            flags = ["--fd", "-1" if observe else str(ours.fileno()), "--control-fd", str(control.fileno())]
            passed = [ours.fileno(), control.fileno()]
            if self.runner is not None:
                flags += ["--runner-fd", str(self.runner.watchers_end.fileno())]
                passed.append(self.runner.watchers_end.fileno())
            watcher = _start("guard", [*flags, *arguments], tuple(passed))
            self.children.insert(0, watcher)  # first: its exit code tells more, and it is to save where it stands
        if self.runner is not None:
            self.runner.watchers_end.close()  # so that the runner hears when the watcher has gone
        self.tend()

    def tend(self) -> None:
        """Start the helpers whose time has come."""
        for helper in self.helpers:
            helper.tend(time.monotonic())

    def due_s(self) -> float | None:
        """When one of them is to be started again."""
        return min((helper.due_s for helper in self.helpers if helper.due_s is not None), default=None)

    def dead(self) -> subprocess.Popen[bytes] | None:
        """The one that has ended, if any."""
        return next((child for child in self.children if child.poll() is not None), None)

    def send(self, number: int) -> None:
        """Pass a signal on to both."""
        for child in self.children:
            if child.poll() is None:
                child.send_signal(number)

    def stop(self) -> None:
        """End both: the watcher first and in peace, so that it saves where it stands."""
        for child in self.children:
            _end(child)
        for helper in self.helpers:
            helper.stop()


def _end(child: subprocess.Popen[bytes]) -> None:
    if child.poll() is None:
        child.terminate()
    try:
        child.wait(STOP_WITHIN_S)
    except subprocess.TimeoutExpired:
        child.kill()
        child.wait()


def _start(module: str, arguments: list[str], descriptors: tuple[int, ...]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-m", f"tocsin.{module}", *arguments]
    environment = {**ALLOCATOR, **os.environ}
    return subprocess.Popen(command, pass_fds=descriptors, stdin=subprocess.DEVNULL, env=environment)  # noqa: S603  our own interpreter


def supervise(arguments: list[str], run_dir: Path, runner: list[str], reloader: list[str]) -> int:
    """Keep a pair running until told to end; returns the exit code. `arguments` go to both children, `runner` to the
    runner of actions, `reloader` to nginx's reloader; where there are none, there is no such child.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "guard.lock").open("a+") as lock, socket.socket(socket.AF_UNIX) as control:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            warn(f"another guard runs already ({run_dir}/guard.lock is held); stop it first")
            return 69
        path = run_dir / "control.sock"
        path.unlink(missing_ok=True)
        control.bind(str(path))
        path.chmod(SOCKET_MODE)
        control.listen(16)
        try:
            return _keep_running(arguments, control, runner, reloader)
        finally:
            path.unlink(missing_ok=True)


def _keep_running(arguments: list[str], control: socket.socket, runner: list[str], reloader: list[str]) -> int:
    failures = 0
    while True:
        pair = Pair(arguments, control, runner, reloader)
        code = _until_dead_or_told(pair)
        if code is not None:
            return code
        calm = time.monotonic() - pair.started_s > CALM_S
        failures = 0 if calm else failures + 1
        pause_s = 0.0 if calm else BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
        warn(f"starting watcher and enforcer again in {pause_s:g} s; bans stay in force")
        told = signal.sigtimedwait((signal.SIGTERM, signal.SIGINT), pause_s)
        if told is not None:
            return 0


def _until_dead_or_told(pair: Pair) -> int | None:
    """Wait. Returns our exit code where all is over, None where the pair is to be started again."""
    while True:
        number = _next_signal(pair)
        if number == signal.SIGHUP:
            pair.send(number)
            for helper in pair.helpers:
                helper.reload()
        elif number in (signal.SIGTERM, signal.SIGINT):
            pair.stop()
            return 0
        dead = pair.dead()
        if dead is not None:
            name = "watcher" if dead is pair.children[0] else "enforcer"
            code = dead.returncode
            with contextlib.suppress(ProcessLookupError):
                pair.stop()
            if code in FINAL_CODES:
                return code
            how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            warn(f"the {name} ended ({how})")
            return None
        pair.tend()


def _next_signal(pair: Pair) -> int:
    """Wait for a signal, or until a helper is to be started again (then 0)."""
    due_s = pair.due_s()
    if due_s is None:
        return signal.sigwait(SIGNALS)
    told = signal.sigtimedwait(SIGNALS, max(0.0, due_s - time.monotonic()))
    return 0 if told is None else told.si_signo


def _cut(words: list[str], at: str) -> tuple[list[str], list[str]]:
    """What stands before and behind a word; all before it where it is missing."""
    place = words.index(at) if at in words else len(words)
    return words[:place], words[place + 1 :]


def main() -> int:
    """Run as `python -m tocsin.supervise RUN_DIR ARGUMENT... [-- RUNNER_ARGUMENT...] [--reloader ARGUMENT...]`:
    `tocsin guard` becomes this, to stay small.
    """
    run_dir, *arguments = sys.argv[1:]
    arguments, reloader = _cut(arguments, "--reloader")
    arguments, runner = _cut(arguments, "--")
    try:
        return supervise(arguments, Path(run_dir), runner, reloader)
    except PermissionError as error:
        warn(f"{error.filename}: permission denied; run as root, or choose another run_dir")
        return os.EX_NOPERM


if __name__ == "__main__":
    sys.exit(main())
