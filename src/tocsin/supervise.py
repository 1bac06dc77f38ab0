"""The parent of watcher and enforcer: starts both with a socket pair between them, and both anew when one has died.

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

FINAL_CODES = (64, 65, 66, 77, 78)  # sysexits: starting again would not help
SIGNALS = (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
STOP_WITHIN_S = 5.0
CALM_S = 5.0  # a pair that lived so long may be started again at once
# glibc keeps what large blocks (checkpoints, messages) have taken, and an arena a thread; mapped apart they are given
# back: 50 MB of 210 after a million addresses (mallopt(3); musl knows none of these and needs none).
ALLOCATOR = {"MALLOC_ARENA_MAX": "1", "MALLOC_MMAP_THRESHOLD_": "262144", "MALLOC_TRIM_THRESHOLD_": "262144"}
BACKOFF_S = (0.05, 0.2, 1.0, 5.0)


class Pair:
    """A watcher and an enforcer that talk to each other; where guard only observes, no enforcer."""

    def __init__(self, arguments: list[str], control: socket.socket) -> None:
        self.started_s = time.monotonic()
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
        observe = "--observe" in arguments
        with ours, theirs:
            self.children = []
            if not observe:
                self.children.append(_start("enforce", ["--fd", str(theirs.fileno()), *arguments], (theirs.fileno(),)))
            flags = ["--fd", "-1" if observe else str(ours.fileno()), "--control-fd", str(control.fileno())]
            watcher = _start("guard", [*flags, *arguments], (ours.fileno(), control.fileno()))
            self.children.insert(0, watcher)  # first: its exit code tells more, and it is to save where it stands

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


def supervise(arguments: list[str], run_dir: Path, socket_mode: int = 0o660) -> int:
    """Keep a pair running until told to end; returns the exit code. `arguments` go to both children."""
    signal.pthread_sigmask(signal.SIG_BLOCK, SIGNALS)
    run_dir.mkdir(parents=True, exist_ok=True)
    with (run_dir / "guard.lock").open("a+") as lock, socket.socket(socket.AF_UNIX) as control:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print(f"tocsin: another guard runs already ({run_dir}/guard.lock is held); stop it first", file=sys.stderr)
            return 69
        path = run_dir / "control.sock"
        path.unlink(missing_ok=True)
        control.bind(str(path))
        path.chmod(socket_mode)
        control.listen(16)
        try:
            return _keep_running(arguments, control)
        finally:
            path.unlink(missing_ok=True)


def _keep_running(arguments: list[str], control: socket.socket) -> int:
    failures = 0
    while True:
        pair = Pair(arguments, control)
        code = _until_dead_or_told(pair)
        if code is not None:
            return code
        calm = time.monotonic() - pair.started_s > CALM_S
        failures = 0 if calm else failures + 1
        pause_s = 0.0 if calm else BACKOFF_S[min(failures, len(BACKOFF_S)) - 1]
        print(f"tocsin: starting watcher and enforcer again in {pause_s:g} s; bans stay in force", file=sys.stderr)
        told = signal.sigtimedwait((signal.SIGTERM, signal.SIGINT), pause_s)
        if told is not None:
            return 0


def _until_dead_or_told(pair: Pair) -> int | None:
    """Wait. Returns our exit code where all is over, None where the pair is to be started again."""
    while True:
        number = signal.sigwait(SIGNALS)
        if number == signal.SIGHUP:
            pair.send(number)
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
            print(f"tocsin: the {name} ended ({how})", file=sys.stderr)
            return None


def main() -> int:
    """Run as `python -m tocsin.supervise RUN_DIR ARGUMENT...`: `tocsin guard` becomes this, to stay small."""
    run_dir, *arguments = sys.argv[1:]
    try:
        return supervise(arguments, Path(run_dir))
    except PermissionError as error:
        print(f"tocsin: {error.filename}: permission denied; run as root, or choose another run_dir", file=sys.stderr)
        return os.EX_NOPERM


if __name__ == "__main__":
    sys.exit(main())
