"""A runner as the supervisor would start it, over a small fail2ban configuration of the test's own."""

from __future__ import annotations

import contextlib
import select
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from tocsin.fail2ban.actions.client import Actions
from tocsin.fail2ban.actions.protocol import FromRunner, Report, pair

WITHIN_S = 20.0


def configure(directory: Path, actions: Mapping[str, str], jails: Mapping[str, str]) -> Path:
    """Write a configuration: actions by name (the whole file), jails by name (the lines of their section)."""
    for part in ("filter.d", "action.d"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    (directory / "fail2ban.conf").write_text("[Definition]\nloglevel = INFO\n")
    (directory / "filter.d" / "any.conf").write_text(
        "[Definition]\nfailregex = ^ failure of <F-USER>.*</F-USER> from <HOST>$\n"
    )
    for name, text in actions.items():
        (directory / "action.d" / f"{name}.conf").write_text(text)
    log = directory / "any.log"
    log.touch()
    sections = [f"[{name}]\nenabled = true\nfilter = any\nlogpath = {log}\n{text}\n" for name, text in jails.items()]
    (directory / "jail.conf").write_text("[DEFAULT]\nmaxretry = 3\n\n" + "\n".join(sections))
    return directory


class Running:
    """A runner at work. `messages` are all that it has said so far."""

    def __init__(self, actions: Actions, process: subprocess.Popen[bytes], work: Path) -> None:
        self.actions = actions
        self.process = process
        self.work = work
        self.messages: list[FromRunner] = []

    def until(self, done: Callable[[], object], within_s: float = WITHIN_S) -> None:
        """Take in what comes until the condition holds."""
        end_s = time.monotonic() + within_s
        while not done():
            left_s = end_s - time.monotonic()
            assert left_s > 0, f"not within {within_s} s; it said {self.messages}"
            writable = [self.actions] if self.actions.queued else []
            readable, sendable, _ = select.select([self.actions], writable, [], min(left_s, 0.05))
            if sendable:
                self.actions.flush()
            if readable:
                self.messages += self.actions.receive()

    def begin(self, *jails: str) -> None:
        """Have the jails at work."""
        self.actions.ready = None
        self.actions.begin(jails)
        self.until(lambda: self.actions.ready is not None)

    def through(self, *jails: str) -> None:
        """Wait until all that was handed over for the jails is through."""
        self.until(lambda: not any(self.actions.waiting(jail) for jail in jails))

    def reports(self, kind: str) -> list[Report]:
        """What it has reported of a kind."""
        return [message for message in self.messages if isinstance(message, Report) and message.kind == kind]


@contextlib.contextmanager
def running(configuration: Path, work: Path, user: str = "root") -> Iterator[Running]:
    """Start a runner, and see that it ends when we hang up."""
    ours, theirs = pair()
    with ours, theirs:
        command = [sys.executable, "-I", "-m", "tocsin.fail2ban.actions.runner", "--fd", str(theirs.fileno())]
        command += ["--fail2ban", str(configuration), "--actions-user", user, "--state-dir", str(work)]
        process = subprocess.Popen(command, pass_fds=(theirs.fileno(),), stdin=subprocess.DEVNULL)
        theirs.close()
        actions = Actions(ours)
        try:
            yield Running(actions, process, work)
        finally:
            actions.close()
            try:
                assert process.wait(WITHIN_S) == 0
            finally:
                process.kill()
                process.wait()
