"""The watcher's end: hands Ops to the enforcer and collects what it answers. Never waits, needs no privilege."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from tocsin.enforce.protocol import (
    Actual,
    Allow,
    Apply,
    Channel,
    Deny,
    FromEnforcer,
    Look,
    Ping,
    Probe,
    Read,
    unpack_elements,
)

if TYPE_CHECKING:
    import socket
    from collections.abc import Sequence

    from tocsin.model import Decision, Op

# A single ban never waits behind more than this many others being written into the kernel (about 8 ms).
OPS_PER_MESSAGE = 1000


class Enforcer:
    """A running enforcer as the watcher sees it.

    Wait on it (`fileno`) for reading, and for writing while `queued_bytes` is not 0. Every method raises OSError or
    EOFError where the enforcer is gone and ProtocolError where it talks nonsense: start another, `read`, reconcile.
    """

    def __init__(self, sock: socket.socket, *, max_queued_bytes: int = 16 << 20) -> None:
        self._channel: Channel[FromEnforcer] = Channel(sock, FromEnforcer, max_queued_bytes=max_queued_bytes)
        self._id = 0

    def fileno(self) -> int:
        """The socket to wait on."""
        return self._channel.fileno()

    @property
    def queued_bytes(self) -> int:
        """What the socket has not taken yet; while it is not 0, call `flush` when the socket can be written."""
        return self._channel.queued_bytes

    def close(self) -> None:
        """Hang up: the enforcer ends, the bans stay in the kernel."""
        self._channel.close()

    def flush(self) -> None:
        """Send what the socket takes now."""
        self._channel.flush()

    def send(self, ops: Sequence[Op]) -> list[Op]:
        """Hand over Ops; those that the bounded queue could not take, in order, to be offered again later.

        Each Op taken is answered by a Receipt, in order.
        """
        for start in range(0, len(ops), OPS_PER_MESSAGE):
            if not self._channel.push(Apply(self._next_id(), list(ops[start : start + OPS_PER_MESSAGE]))):
                return list(ops[start:])
        return []

    def deny(self, denial: Decision) -> int | None:
        """Have the web server turn away a class of requests; the id that Denied will carry, None where the queue is
        full. ValueError where the decision is for good, or of no class.
        """
        if denial.signature is None or denial.end_ts is None:
            raise ValueError(f"expected a class of requests and an end, got {denial.id}")
        asks, spare = denial.action == "limit", list(denial.spare)
        return self._request(Deny(self._next_id(), denial.id, denial.signature, spare, denial.end_ts, asks))

    def allow(self, decision: str) -> int | None:
        """Take back what a decision denied; the id as above."""
        return self._request(Allow(self._next_id(), decision))

    def read(self) -> int | None:
        """Ask for all that the kernel holds; the id that the answers will carry, None where the queue is full."""
        return self._request(Read(self._next_id()))

    def look(self, subjects: Sequence[str]) -> int | None:
        """Ask for at most MAX_LOOKS subjects alone: what each has stopped so far. As `read`, but cheap for few."""
        return self._request(Look(self._next_id(), list(subjects)))

    def probe(self) -> int | None:
        """Ask for a self-test; the id that Probed will carry, None where the queue is full."""
        return self._request(Probe(self._next_id()))

    def ping(self) -> int | None:
        """Ask for a Pong; its id, None where the queue is full."""
        return self._request(Ping(self._next_id()))

    def receive(self) -> list[FromEnforcer]:
        """What has come since, in order, perhaps nothing."""
        return self._channel.receive()

    def _request(self, message: Read | Look | Deny | Allow | Probe | Ping) -> int | None:
        return message.id if self._channel.push(message) else None

    def _next_id(self) -> int:
        self._id += 1
        return self._id


class InForce:
    """Gathers the Actual messages of one Read into what `reconcile` and the ledger ask for."""

    def __init__(self) -> None:
        self.end_ts: dict[str, float | None] = {}
        """Subject to the end of its ban in Unix seconds, None for good."""
        self.stopped: dict[str, tuple[int, int]] = {}
        """Subject to (packets, bytes), only where there were any. Both may begin anew when a ban is renewed."""
        self.whole = True
        """False where elements may be missing: reconciling with it is harmless, as a ban in force stays as it is."""
        self.error = ""
        self.complete = False
        self._rows = 0

    def add(self, part: Actual) -> bool:
        """Take one message in; True once it was the last."""
        for banned in unpack_elements(part):
            self._rows += 1
            self.end_ts[banned.subject] = banned.end_ts
            if banned.packets:
                self.stopped[banned.subject] = (banned.packets, banned.bytes)
        # A hash set that the kernel resized under the dump was walked in two orders: what came twice took the place of
        # something else. Seen in the first second after 100,000 elements were added.
        self.whole = self.whole and part.whole and self._rows == len(self.end_ts)
        self.error = self.error or part.error
        self.complete = part.last
        return part.last

    def remaining_s(self, now_ts: float) -> dict[str, float | None]:
        """Subject to the seconds left at `now_ts`, None for good: what `reconcile` takes as actual."""
        return dict(self.remaining(now_ts))

    def remaining(self, now_ts: float) -> Mapping[str, float | None]:
        """The same, worked out when asked: 200,000 rows need not be held twice."""
        return _Remaining(self.end_ts, now_ts)


class _Remaining(Mapping[str, "float | None"]):
    def __init__(self, end_ts: Mapping[str, float | None], now_ts: float) -> None:
        self._end_ts = end_ts
        self._now_ts = now_ts

    def __getitem__(self, subject: str) -> float | None:
        end_ts = self._end_ts[subject]
        return None if end_ts is None else end_ts - self._now_ts

    def __iter__(self) -> Iterator[str]:
        return iter(self._end_ts)

    def __len__(self) -> int:
        return len(self._end_ts)
