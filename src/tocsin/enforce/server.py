"""The enforcer's process: reads Ops from a socket, judges each, brings them into the kernel, says what happened.

One loop, no threads. Bans come first: reading large sets and destroying sockets are cut into steps of a few
milliseconds, and every waiting Op is served between two of them. The loop ends when the far side hangs up; bans stay
in the kernel, whose timeouts end them. Nothing is remembered here, so a crash loses nothing: the far side starts
another enforcer, reads and reconciles.
"""

from __future__ import annotations

import math
import select
import time
from collections import deque
from typing import TYPE_CHECKING, Literal

from tocsin.enforce import netlink
from tocsin.enforce.admission import Admission, Limits, Refused
from tocsin.enforce.events import RulesetMonitor
from tocsin.enforce.nftables import Firewall, FirewallError
from tocsin.enforce.protocol import (
    Allow,
    Apply,
    Changed,
    Channel,
    Denied,
    Deny,
    FromEnforcer,
    Look,
    Ping,
    Pong,
    Probe,
    Probed,
    ProtocolError,
    Read,
    Receipts,
    ToEnforcer,
)
from tocsin.enforce.reading import Reading
from tocsin.enforce.ruleset import TABLE
from tocsin.enforce.sockets import destroy_sockets
from tocsin.model import Receipt

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterable, Iterator, Sequence

    from tocsin.enforce.denying import Denying
    from tocsin.enforce.subjects import Change, Network, Target
    from tocsin.model import Op

# While this much of what we said is unread, nothing more is taken in and no set is read: the far side sets the pace.
BACKLOG_BYTES = 1 << 20
_READS_MAX = 8
# Bans wait for their sockets to be destroyed at most this long while Ops keep coming.
_DESTROY_WITHIN_S = 0.1
_DESTROY_AT_BANS = 2000
# After this many Ops at once, an unban or a reading of the sets, and this long a quiet, memory is given back.
_TRIM_AFTER_OPS = 1000
_TRIM_AFTER_S = 0.2


def run(
    sock: socket.socket, allow: Iterable[Network], limits: Limits | None = None, denying: Denying | None = None
) -> None:
    """Serve one watcher until it hangs up.

    Args:
        sock: our end of a stream socket pair.
        allow: networks never to be banned, beside the machine's own addresses and those that no one ever may.
        limits: what to refuse.
        denying: what is to be denied in the web server; None: nothing ever.

    Raises ProtocolError where the far side breaks the protocol and FirewallError where libnftables is missing. Without
    CAP_NET_ADMIN it serves: each Receipt says what is missing.
    """
    server = Server(sock, Admission(allow, limits or Limits()), limits or Limits(), denying=denying)
    try:
        server.serve()
    except (EOFError, BrokenPipeError, ConnectionResetError):
        return
    finally:
        server.close()


class Server:
    """The loop and what it has in hand."""

    def __init__(
        self,
        sock: socket.socket,
        admission: Admission,
        limits: Limits,
        table: str = TABLE,
        denying: Denying | None = None,
    ) -> None:
        self._channel: Channel[ToEnforcer] = Channel(sock, ToEnforcer, max_queued_bytes=64 << 20)
        self._admission = admission
        self._limits = limits
        self._denying = denying
        self._table = table
        self._firewall = Firewall(table)
        self._reading = Reading(table, self._say)
        self._diag = netlink.Netlink(netlink.NETLINK_SOCK_DIAG)
        self._monitor = RulesetMonitor(table)
        self._reads: deque[Iterator[bool]] = deque()
        self._banned: list[tuple[int, Target, Receipt]] = []
        self._banned_since_s = 0.0
        self._changed: dict[str, None] = {}
        self._changed_sent_s = float("-inf")
        self._trim = False
        self._ensure()

    def close(self) -> None:
        """Release everything; the table stays, the web server turns away nothing any more."""
        if self._denying is not None:
            self._denying.close()
        self._firewall.close()
        self._reading.close()
        self._diag.close()
        self._monitor.close()
        self._channel.close()

    def serve(self) -> None:
        """Run until EOFError (the far side has hung up) or ProtocolError."""
        poll = select.poll()
        poll.register(self._monitor.fileno(), select.POLLIN)
        channel = self._channel.fileno()
        while True:
            backlog = self._channel.queued_bytes
            wanted = (select.POLLOUT if backlog else 0) | (select.POLLIN if backlog < BACKLOG_BYTES else 0)
            poll.register(channel, wanted)
            ready = dict(poll.poll(self._wait_ms()))
            if backlog and ready.get(channel):
                self._channel.flush()
            if self._monitor.fileno() in ready:
                self._hear_others()
            incoming = bool(ready.get(channel, 0) & ~select.POLLOUT)
            if incoming:
                self._handle(self._channel.receive())
            self._tell_changed()
            self._deny()
            self._work(idle=not ready)

    def _wait_ms(self) -> float | None:
        wait_ms = self._own_wait_ms()
        denying_s = math.inf if self._denying is None else self._denying.due_s() - time.monotonic()
        if denying_s == math.inf:
            return wait_ms
        denying_ms = max(0.0, denying_s * 1000 + 1) if denying_s > 0 else 0.0
        return denying_ms if wait_ms is None else min(wait_ms, denying_ms)

    def _own_wait_ms(self) -> float | None:
        if self._banned or (self._reads and self._channel.queued_bytes < BACKLOG_BYTES):
            return 0
        if self._changed:
            due_s = self._changed_sent_s + self._limits.changed_interval_s - time.monotonic()
            return max(0.0, due_s * 1000 + 1)
        return _TRIM_AFTER_S * 1000 if self._trim else None

    def _say(self, message: FromEnforcer) -> None:
        if not self._channel.push(message):
            raise ProtocolError("the far side does not read its answers")

    def _handle(self, messages: list[ToEnforcer]) -> None:
        applies: list[Apply] = []
        for message in messages:
            if isinstance(message, Apply):
                applies.append(message)
                continue
            self._apply(applies)
            applies.clear()
            if isinstance(message, Read | Look):
                if len(self._reads) >= _READS_MAX:
                    raise ProtocolError(f"more than {_READS_MAX} Reads and Looks at once")
                reading = self._reading
                self._reads.append(reading.read(message) if isinstance(message, Read) else reading.look(message))
            elif isinstance(message, Deny | Allow):
                self._take_denial(message)
            elif isinstance(message, Probe):
                self._say(self._probe(message.id))
            elif isinstance(message, Ping):
                self._say(Pong(message.id))
        self._apply(applies)

    def _take_denial(self, message: Deny | Allow) -> None:
        if self._denying is None:
            verb: Literal["deny", "allow"] = "deny" if isinstance(message, Deny) else "allow"
            receipt = Receipt(verb, "", message.decision, ok=False, ts=time.time(), error="no web server here")
            self._say(Denied(message.id, receipt))
            return
        for denied in self._denying.take(message):
            self._say(denied)

    def _deny(self) -> None:
        """One step of what the web server is to turn away."""
        if self._denying is not None:
            for denied in self._denying.work():
                self._say(denied)

    def _apply(self, messages: Sequence[Apply]) -> None:
        """Bring the Ops of messages that came together into the kernel together."""
        if not messages:
            return
        self._admission.refresh()
        ops = messages[0].ops if len(messages) == 1 else [op for message in messages for op in message.ops]
        refused: dict[int, str] = {}
        changes: list[Change] = []
        for index, op in enumerate(ops):
            try:
                changes.append(self._admission.admit(op))
            except Refused as refusal:
                refused[index] = str(refusal)
        results = iter(zip(changes, self._firewall.apply(changes), strict=True))
        now_ts = time.time()
        index = 0
        for message in messages:
            receipts = []
            for op in message.ops:
                if index in refused:
                    receipts.append(_receipt(op, now_ts, refused[index], refused=True))
                else:
                    change, error = next(results)
                    receipts.append(_receipt(op, now_ts, error))
                    if change.ban and not error:
                        self._note_banned(message.id, change.target, receipts[-1])
                index += 1
            self._say(Receipts(message.id, receipts))
        self._trim = self._trim or len(ops) >= _TRIM_AFTER_OPS or any(op.verb == "unban" for op in ops)

    def _note_banned(self, request: int, target: Target, receipt: Receipt) -> None:
        if not self._banned:
            self._banned_since_s = time.monotonic()
        self._banned.append((request, target, receipt))

    def _work(self, *, idle: bool) -> None:
        """One step of what can wait."""
        if self._banned:
            waited_s = time.monotonic() - self._banned_since_s
            if idle or waited_s > _DESTROY_WITHIN_S or len(self._banned) >= _DESTROY_AT_BANS:
                self._destroy()
        elif self._reads:
            if self._channel.queued_bytes < BACKLOG_BYTES and not next(self._reads[0], False):
                self._reads.popleft()
                self._trim = True
        elif self._trim and idle:
            self._trim = False
            self._firewall.forget()

    def _destroy(self) -> None:
        """End the connections of all that were banned since the last time, with one walk over the kernel's table."""
        banned, self._banned = self._banned, []
        counts = self._destroyed({target for _, target, _ in banned})
        revised: dict[int, list[Receipt]] = {}
        for request, target, old in banned if counts else ():
            if count := counts.pop(target, 0):
                new = Receipt(old.verb, old.subject, old.decision, old.ok, old.ts, old.error, count)
                revised.setdefault(request, []).append(new)
        for request, receipts in revised.items():
            self._say(Receipts(request, receipts, revised=True))

    def _destroyed(self, targets: set[Target]) -> dict[Target, int]:
        """How many connections of each target ended. Bans hold without; the self-test names a kernel that cannot."""
        try:
            return destroy_sockets(self._diag, targets)
        except OSError:
            # A dump that was cut short spoils its socket.
            self._diag.close()
            self._diag = netlink.Netlink(netlink.NETLINK_SOCK_DIAG)
            return {}

    def _probe(self, request: int) -> Probed:
        from tocsin.enforce.selftest import selftest, works  # noqa: PLC0415  only few enforcers are ever asked

        steps = selftest()
        self._monitor.ignore_own()
        return Probed(request, works(steps), steps)

    def _hear_others(self) -> None:
        change = self._monitor.changes()
        if change is None:
            return
        self._changed[change.reason] = None
        if change.structure:
            self._ensure()

    def _tell_changed(self) -> None:
        now_s = time.monotonic()
        if self._changed and now_s - self._changed_sent_s >= self._limits.changed_interval_s:
            self._changed_sent_s = now_s
            self._say(Changed(", ".join(self._changed)))
            self._changed.clear()

    def _ensure(self) -> None:
        """The table as it has to be. Where that fails, each Apply tries again and its Receipts say why not."""
        try:
            self._firewall.ensure()
        except FirewallError as error:
            self._changed[str(error)] = None
        self._monitor.ignore_own()


def _receipt(op: Op, now_ts: float, error: str, *, refused: bool = False) -> Receipt:
    return Receipt(op.verb, op.subject, op.decision, ok=not error, ts=now_ts, error=error, refused=refused)
