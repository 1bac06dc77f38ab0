"""One command of an action as a process: a shell with the values in its environment, a time-out, bounded output.

The shell leads a process group of its own. When the time is up the group gets SIGTERM, and a second later SIGKILL; the
shell is not reaped before, so that its group's number cannot have become somebody else's. What a command leaves running
in the background when its shell ends is left alone.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
from collections.abc import Mapping

from tocsin.fail2ban.actions.moments import Ended

SHELL = "/bin/sh"
PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
KEPT_BYTES = 2000
KILL_AFTER_S = 1.0
LOOK_AFTER_S = 0.02
_READ_BYTES = 1 << 16
_UNPRINTABLE = re.compile(r"[^\x20-\x7e\u00a1-\ud7ff\ue000-\uffff]")
_HINTS = {
    126: "it may not be executed",
    127: "a program that it calls was not found: install it, or give its full path",
}


class Process:
    """A running command. Wait on `fileno` (its output) and for SIGCHLD; then `read`, `poll`; at `due_s`, `expire`."""

    def __init__(self, text: str, variables: Mapping[str, str], directory: str, timeout_s: float, now_s: float) -> None:
        """Start it. OSError where that cannot be done (too many processes, a text that is too long)."""
        environment = {"PATH": PATH, "HOME": directory, "LC_ALL": os.environ.get("LC_ALL", "C.UTF-8"), "SHELL": SHELL}
        if "TZ" in os.environ:
            environment["TZ"] = os.environ["TZ"]
        self._popen = subprocess.Popen(  # noqa: S603  the text is the configuration's; what a log says is in variables
            [SHELL, "-c", text],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            cwd=directory,
            env={**environment, **variables},
            start_new_session=True,
        )
        assert self._popen.stdout is not None  # noqa: S101  asked for above
        self._output = self._popen.stdout
        os.set_blocking(self._output.fileno(), False)
        self._kept = bytearray()
        self.started_s = now_s
        self.due_s = now_s + timeout_s
        self.timeout_s = timeout_s
        self._terminated = False
        self._killed = False

    def fileno(self) -> int:
        """Where its output is to be read."""
        return self._output.fileno()

    def read(self) -> bool:
        """Take in what it has put out; False once it has closed its output."""
        try:
            data = os.read(self._output.fileno(), _READ_BYTES)
        except BlockingIOError:
            return True
        self._kept += data[: max(0, KEPT_BYTES + 1 - len(self._kept))]
        return bool(data)

    def poll(self) -> Ended | None:
        """How it has ended, None while it runs or is being ended."""
        if self._terminated and not self._killed:
            return None
        code = self._popen.poll()
        if code is None:
            return None
        if self._terminated:
            return "timeout"
        return "ok" if code == 0 else "no" if code == 1 else "failed"

    @property
    def code(self) -> int:
        """Its exit code, negative for a signal, once `poll` says that it has ended."""
        code = self._popen.returncode
        return -1 if code is None else code

    def expire(self, now_s: float) -> None:
        """The time is up: SIGTERM to all of its group, SIGKILL from the second call on."""
        number = signal.SIGKILL if self._terminated else signal.SIGTERM
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._popen.pid, number)
        self._killed = self._terminated
        self._terminated = True
        # A shell that died of SIGTERM has sent its SIGCHLD already: nothing but the clock tells when to look again.
        self.due_s = now_s + (LOOK_AFTER_S if self._killed else KILL_AFTER_S)

    def kill(self) -> None:
        """End it and its group now, and wait for that."""
        if self._popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._popen.pid, signal.SIGKILL)
            self._popen.wait()

    def close(self) -> None:
        """Read no more of its output."""
        self._output.close()

    def output(self) -> str:
        """The beginning of what it put out, printable."""
        text = bytes(self._kept[:KEPT_BYTES]).decode("utf-8", "backslashreplace").strip()
        text = _UNPRINTABLE.sub(lambda match: "\\n" if match[0] == "\n" else f"\\x{ord(match[0]):02x}", text)
        return text + ("..." if len(self._kept) > KEPT_BYTES else "")

    def tell(self, ended: Ended) -> str:
        """How it ended, for people."""
        if ended == "timeout":
            text = f"ran into its time-out of {self.timeout_s:g} s, and was killed with all that it had started"
        elif ended == "ok":
            text = "done"
        elif self.code < 0:
            text = f"ended by signal {-self.code}"
        else:
            hint = _HINTS.get(self.code)
            text = f"ended with exit code {self.code}" + (f" ({hint})" if hint else "")
        output = self.output()
        return f"{text}: {output}" if output else text
