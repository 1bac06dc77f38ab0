"""The enforcer's part that denies classes of requests in the web server: judges, writes, renews the lease, lets go.

Bans come first: writing is cut into steps of a few milliseconds. What a decision asks for is answered once the web
server has it. A class whose end has come is let go without being told.
"""

from __future__ import annotations

import contextlib
import math
import time
from ipaddress import ip_network
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.enforce.protocol import Allow, Denied, Deny
from tocsin.enforce.webfiles import ApacheFiles, Files, Marker, NginxFiles, read_marker, why_not
from tocsin.enforce.webserver import LEASE_S, MAX_CLASSES, Denial, check
from tocsin.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable

    from tocsin.enforce.subjects import Network

STEP_NAMES = 200
RENEW_S = LEASE_S / 4
GRACE_S = 0.25  # what replaces a class comes right after its lift: the web server is not to see a gap between
ASK_S = 0.2
RETRY_S = 1.0
LOOPBACK = (ip_network("127.0.0.0/8"), ip_network("::1/128"))


class Denying:
    """What is denied, and its files. `directory` is where they are, `marker` says for which server (read when needed).

    `spared` tells the networks that are never denied anything, this machine's own addresses among them.
    """

    def __init__(self, directory: Path, marker: Path, spared: Callable[[], list[Network]] = list) -> None:
        self._directory = directory
        self._marker = marker
        self._spared = spared
        self._denials: dict[str, Denial] = {}
        self._leaving: dict[str, float] = {}
        self._waiting: list[tuple[int, str, bool]] = []  # request, decision, whether it denies
        self._files: Files | None = None
        self._server: Marker | None = None
        self._renew_due_s = math.inf
        self._changed = False  # what is wanted is to be worked out anew
        self._unfinished = False
        self._asking = False  # whether the server has what was written
        self._again_s = 0.0
        self._empty()

    def _empty(self) -> None:
        """What an enforcer that was killed has left."""
        marker = read_marker(self._marker)
        if marker is not None:
            self._open(marker)

    def _open(self, marker: Marker) -> str:
        """The files of the server that is set up; why they cannot be had, empty where they are there."""
        try:
            self._directory.mkdir(mode=0o755, exist_ok=True)
            self._directory.chmod(0o755)
            if marker.server == "apache":
                self._files = ApacheFiles(self._directory, marker.aliases)
            else:
                self._files = NginxFiles(self._directory, Path(marker.conf))
        except OSError as error:
            self._files, self._server = None, None
            return f"cannot write in {self._directory}: {error.strerror}"
        self._server = marker
        return ""

    # -- what is asked -----------------------------------------------------------------------------------------------

    def take(self, message: Deny | Allow) -> list[Denied]:
        """Judge a request. What is refused is answered at once, the rest by `work`."""
        if isinstance(message, Allow):
            if message.decision in self._denials:
                self._leaving[message.decision] = time.monotonic() + GRACE_S
                self._waiting.append((message.id, message.decision, False))
                return []
            return [_answer(message.id, message.decision, deny=False, error="")]
        error = self._refusal(message)
        if error:
            return [_answer(message.id, message.decision, deny=True, error=error)]
        spare = tuple(message.spare)
        denial = Denial(message.decision, message.signature, spare, message.end_ts, message.asks)
        self._leaving.pop(message.decision, None)
        self._denials.pop(message.decision, None)
        self._denials[message.decision] = denial  # the newest of a class is the one that counts
        self._waiting.append((message.id, message.decision, True))
        self._changed = True
        return []

    def _refusal(self, message: Deny) -> str:
        try:
            check(message.signature, message.spare, message.end_ts, time.time(), asks=message.asks)
        except ValueError as error:
            return str(error)
        classes = {each.kind for each in self._denials.values() if each.id not in self._leaving}
        if len(classes | {(message.signature, message.asks)}) > MAX_CLASSES:
            return f"expected at most {MAX_CLASSES} classes at a time"
        marker = read_marker(self._marker)
        if marker is None or why_not(marker, asks=message.asks):
            return why_not(marker, asks=message.asks)
        return "" if marker == self._server and self._files is not None else self._open(marker)

    # -- what is done ------------------------------------------------------------------------------------------------

    def due_s(self) -> float:
        """When `work` has something to do, on the monotonic clock."""
        if self._files is None:
            return math.inf
        if self._changed or self._unfinished or self._asking:
            return self._again_s
        ends_ts = min((each.end_ts for each in self._denials.values()), default=math.inf)
        left_s = ends_ts - time.time()
        ends_s = time.monotonic() + left_s if left_s > 0 else 0.0
        return min(self._renew_due_s, ends_s, *self._leaving.values())

    def work(self) -> list[Denied]:
        """Do a step of what is due; the answers that are known now."""
        now_s, now_ts = time.monotonic(), time.time()
        if self._files is None or now_s < self.due_s():
            return []
        self._drop(now_s, now_ts)
        try:
            return self._step(self._files, now_s, now_ts)
        except OSError as error:
            self._changed, self._again_s = True, now_s + RETRY_S
            return self._answered(self._anew() or f"cannot write in {self._directory}: {error.strerror}")

    def _anew(self) -> str:
        """Begin with empty files, after somebody or the disk has spoilt them; why that cannot be."""
        files, marker = self._files, self._server
        error = "" if marker is None else self._open(marker)
        if error:
            self._files, self._server = files, marker  # to try again
        return error

    def _drop(self, now_s: float, now_ts: float) -> None:
        """Let go of what was lifted, and of what is over."""
        gone = [each for each, due_s in self._leaving.items() if due_s <= now_s]
        gone += [each.id for each in self._denials.values() if each.end_ts <= now_ts]
        for each in gone:
            self._leaving.pop(each, None)
            self._changed = self._denials.pop(each, None) is not None or self._changed

    def _step(self, files: Files, now_s: float, now_ts: float) -> list[Denied]:
        if self._changed:
            newest = {each.kind: each for each in self._denials.values()}
            files.want(list(newest.values()), (*LOOPBACK, *self._spared()))
            self._changed, self._unfinished = False, True
        if self._unfinished:
            if not files.work(STEP_NAMES, now_ts):
                return []
            self._unfinished, self._asking = False, True
            self._renew_due_s = now_s + RENEW_S if self._denials else math.inf
        elif now_s >= self._renew_due_s:
            files.renew(now_ts)
            self._renew_due_s = now_s + RENEW_S
        if not self._asking:
            return []
        answer = files.answer(now_s)
        self._asking = answer is None
        self._again_s = now_s + ASK_S if answer is None else 0.0
        return [] if answer is None else self._answered(answer)

    def _answered(self, error: str) -> list[Denied]:
        """Those who wait, but for a lift that waits for what may replace it."""
        done = [each for each in self._waiting if each[2] or each[1] not in self._leaving]
        self._waiting = [each for each in self._waiting if each not in done]
        return [_answer(request, decision, deny=deny, error=error) for request, decision, deny in done]

    def close(self) -> None:
        """Deny nothing any more."""
        if self._files is not None:
            with contextlib.suppress(OSError):  # then the lease ends it
                self._files.clear()


def _answer(request: int, decision: str, *, deny: bool, error: str) -> Denied:
    receipt = Receipt("deny" if deny else "allow", "", decision, ok=not error, ts=time.time(), error=error)
    return Denied(request, receipt)
