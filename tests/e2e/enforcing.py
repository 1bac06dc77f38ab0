"""An enforcer running in a namespace, and the site that it protects; for the tests of this folder."""

from __future__ import annotations

import contextlib
import os
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from netns import DEADLINE_S, Client, Namespace, socket_pair, wire

from tocsin.decide.reconcile import reconcile
from tocsin.enforce.client import Enforcer, InForce
from tocsin.enforce.protocol import Actual, Changed, FromEnforcer, Probed, Receipts
from tocsin.model import Op, Receipt

SERVER4, ATTACKER4, NEIGHBOUR4 = "10.66.0.1", "10.66.0.66", "10.66.0.67"
SERVER6, ATTACKER6, SAME64, NEIGHBOUR6 = "2001:db8:66::1", "2001:db8:a:1::5", "2001:db8:a:1::6", "2001:db8:a:2::5"
BEHIND4 = "10.77.0.2"

_ENFORCER = """
import socket, sys
from tocsin.enforce.admission import Limits, parse_allow
from tocsin.enforce.server import run
run(socket.socket(fileno=int(sys.argv[1])), parse_allow(sys.argv[2:]), Limits())
"""


class Site(NamedTuple):
    """A server, the world outside it, and a machine behind it whose packets the server forwards."""

    outside: Namespace
    server: Namespace
    behind: Namespace
    client: Client


@contextlib.contextmanager
def make_site() -> Iterator[Site]:
    """Three namespaces in a row: outside - server - behind."""
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Namespace())
        outside = stack.enter_context(Namespace(beside=server))
        behind = stack.enter_context(Namespace(beside=server))
        wire(server, "out0", outside, "eth0")
        wire(server, "in0", behind, "eth0")
        server.addresses("out0", f"{SERVER4}/24", f"{SERVER6}/64")
        server.addresses("in0", "10.77.0.1/24")
        outside.addresses("eth0", f"{ATTACKER4}/24", f"{NEIGHBOUR4}/24", "10.66.0.130/24", "2001:db8:66::2/64")
        outside.addresses("eth0", *(f"{one}/128" for one in (ATTACKER6, SAME64, NEIGHBOUR6)))
        behind.addresses("eth0", f"{BEHIND4}/24")
        server.run("sh", "-c", "echo 1 > /proc/sys/net/ipv4/ip_forward")
        server.run("ip", "route", "add", "2001:db8:a::/48", "via", "2001:db8:66::2")
        outside.run("ip", "route", "add", "10.77.0.0/24", "via", SERVER4)
        behind.run("ip", "route", "add", "default", "via", "10.77.0.1")
        yield Site(outside, server, behind, Client(outside))


class Running:
    """A running enforcer, its process and what it has said."""

    def __init__(self, sock: socket.socket, process: subprocess.Popen[str]) -> None:
        self.socket = sock
        self.enforcer = Enforcer(sock)
        self.process = process
        self.said: list[FromEnforcer] = []

    def hear(self, until: Callable[[FromEnforcer], bool], deadline_s: float = DEADLINE_S) -> list[FromEnforcer]:
        """Read until a message fits; all messages read, that one the last. What comes after it is kept."""
        deadline_ts = time.monotonic() + deadline_s
        heard: list[FromEnforcer] = []
        while True:
            while self.said:
                heard.append(self.said.pop(0))
                if until(heard[-1]):
                    return heard
            left_s = deadline_ts - time.monotonic()
            assert left_s > 0, f"the enforcer did not say it within {deadline_s:g} s"
            writers = [self.enforcer] if self.enforcer.queued_bytes else []
            readable, writable, _ = select.select([self.enforcer], writers, [], left_s)
            if writable:
                self.enforcer.flush()
            if readable:
                self.said += self.enforcer.receive()

    def apply(self, ops: Sequence[Op]) -> list[Receipt]:
        """Send Ops and wait for all their Receipts, in order."""
        left, receipts = list(ops), list[Receipt]()
        while len(receipts) < len(ops):
            left = self.enforcer.send(left) if left else left
            (*_, message) = self.hear(lambda one: isinstance(one, Receipts) and not one.revised)
            assert isinstance(message, Receipts)
            receipts += message.receipts
        return receipts

    def ban(self, subject: str, seconds: int | None = 600) -> Receipt:
        """Ban one subject; its Receipt."""
        return self.apply([Op("ban", subject, seconds)])[0]

    def unban(self, subject: str) -> Receipt:
        """Unban one subject; its Receipt."""
        return self.apply([Op("unban", subject)])[0]

    def destroyed(self) -> int:
        """Wait for the Receipts that tell of destroyed sockets; how many."""
        (*_, message) = self.hear(lambda one: isinstance(one, Receipts) and one.revised)
        assert isinstance(message, Receipts)
        return sum(receipt.sockets_destroyed for receipt in message.receipts)

    def read(self) -> InForce:
        """All that the kernel holds; read again where it says itself that some may be missing."""
        for _ in range(5):
            in_force = self._gather(self.enforcer.read())
            if in_force.whole or in_force.error:
                return in_force
        raise AssertionError("five readings, and none was whole")

    def look(self, subjects: Sequence[str]) -> InForce:
        """What the kernel holds of some subjects."""
        return self._gather(self.enforcer.look(subjects))

    def _gather(self, number: int | None) -> InForce:
        in_force = InForce()
        while not in_force.complete:
            (*_, message) = self.hear(lambda one: isinstance(one, Actual))
            assert isinstance(message, Actual)
            assert message.id == number
            in_force.add(message)
        return in_force

    def probe(self) -> Probed:
        """The self-test's result."""
        self.enforcer.probe()
        (*_, message) = self.hear(lambda one: isinstance(one, Probed))
        assert isinstance(message, Probed)
        return message

    def changed(self) -> Changed:
        """Wait until the enforcer says that somebody changed the table."""
        (*_, message) = self.hear(lambda one: isinstance(one, Changed))
        assert isinstance(message, Changed)
        return message

    def reconcile(self, desired: dict[str, float | None]) -> list[Op]:
        """What guard does when told to look again: read, compare, change. The Ops, all of them done."""
        actual = self.read()
        assert not actual.error
        now_ts = time.time()
        ops = reconcile(desired, actual.remaining_s(now_ts), now_ts)
        assert all(receipt.ok for receipt in self.apply(ops))
        return ops


@contextlib.contextmanager
def enforcing(
    namespace: Namespace, allow: Iterable[str] = (), *, drop: bool = False, ends: int = 0
) -> Iterator[Running]:
    """Start an enforcer in a namespace, with `drop` without any capability; it ends when its socket closes."""
    with socket_pair() as (ours, theirs):
        dropping = ["setpriv", "--bounding-set", "-all", "--inh-caps", "-all"] if drop else []
        command = [*dropping, sys.executable, "-c", _ENFORCER, str(theirs.fileno()), *allow]
        process = namespace.start(*command, pass_fds=[theirs.fileno()])
        theirs.close()
        running = Running(ours, process)
        number = running.enforcer.ping()
        running.hear(lambda one: getattr(one, "id", None) == number)
        yield running
        running.enforcer.close()
        assert process.wait(DEADLINE_S) == ends


def rss_kib(pid: int) -> int:
    """Resident memory of a process."""
    with open(f"/proc/{pid}/statm", encoding="ascii") as statm:  # noqa: PTH123  one line of /proc
        return int(statm.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def held_connection(namespace: Namespace, source: str, address: str) -> subprocess.Popen[str]:
    """A client inside that connects from `source`, says something, and then holds the connection without a word."""
    code = """
import socket, sys
with socket.create_connection((sys.argv[2], 8080), 5, (sys.argv[1], 0)) as connection:
    connection.sendall(b"x")
    connection.recv(1)
    print("held", flush=True)
    sys.stdin.read()
"""
    client = namespace.python(code, source, address)
    assert client.stdout
    assert client.stdout.readline() == "held\n"
    return client
