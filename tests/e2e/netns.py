"""Network namespaces for tests: made, wired with veth pairs, and gone with their holder process.

As root they are plain network namespaces; without root they live in one user namespace, in which we are root. Nothing
here touches the host's network: every command runs inside a namespace that the test made.
"""

from __future__ import annotations

import contextlib
import functools
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Self

DEADLINE_S = 20.0


def wait_until(condition: Callable[[], bool], what: str, deadline_s: float = DEADLINE_S) -> float:
    """Wait for a condition; the seconds it took. AssertionError names what did not come."""
    start_s = time.monotonic()
    while not condition():
        assert time.monotonic() - start_s < deadline_s, f"not within {deadline_s:g} s: {what}"
        time.sleep(0.005)
    return time.monotonic() - start_s


@functools.cache
def missing() -> str | None:
    """Why namespaces cannot be made here; None where they can."""
    done = subprocess.run([*_unshare(None), "nft", "list", "ruleset"], capture_output=True, text=True, check=False)
    return done.stderr.strip() or "unshare failed" if done.returncode else None


def _unshare(beside: Namespace | None) -> list[str]:
    if os.geteuid() == 0:
        return ["unshare", "--net"]
    if beside is None:
        return ["unshare", "--user", "--map-root-user", "--net"]
    return ["nsenter", "--target", str(beside.pid), "--user", "--preserve-credentials", "unshare", "--net"]


class Namespace:
    """One network namespace with its loopback up, held by a process of its own."""

    def __init__(self, beside: Namespace | None = None) -> None:
        """Make it; without root, `beside` is one made before, whose user namespace it shares (to be wired to it)."""
        self._children: list[subprocess.Popen[str]] = []
        # `cat` says when it is inside the namespace by echoing, and ends when its input closes.
        self._holder = subprocess.Popen(
            [*_unshare(beside), "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        assert self._holder.stdin
        assert self._holder.stdout
        self._holder.stdin.write("ready\n")
        assert self._holder.stdout.readline() == "ready\n", "no network namespace could be made"
        self.pid = self._holder.pid
        self.run("ip", "link", "set", "lo", "up")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def command(self, *arguments: str) -> list[str]:
        """The command line that runs a command inside."""
        user = [] if os.geteuid() == 0 else ["--user", "--preserve-credentials"]
        return ["nsenter", "--target", str(self.pid), *user, "--net", *arguments]

    def run(self, *arguments: str, stdin: str | None = None) -> str:
        """Run a command inside to its end; its output. AssertionError shows what a failing one said."""
        done = subprocess.run(
            self.command(*arguments), input=stdin, capture_output=True, text=True, check=False, timeout=DEADLINE_S
        )
        assert done.returncode == 0, f"{' '.join(arguments)[:200]}: {done.stderr}"
        return done.stdout

    def start(self, *arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
        """Start a program inside; it is ended with the namespace."""
        child = subprocess.Popen(
            self.command(*arguments), stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, pass_fds=pass_fds
        )
        self._children.append(child)
        return child

    def python(self, code: str, *arguments: str, pass_fds: Sequence[int] = ()) -> subprocess.Popen[str]:
        """Start a Python program inside, with this interpreter and its packages."""
        return self.start(sys.executable, "-c", code, *arguments, pass_fds=pass_fds)

    def addresses(self, link: str, *addresses: str) -> None:
        """Give a link addresses (`192.0.2.1/24`), usable at once."""
        for address in addresses:
            nodad = ["nodad"] if ":" in address else []
            self.run("ip", "addr", "add", address, "dev", link, *nodad)
        self.run("ip", "link", "set", link, "up")

    def close(self) -> None:
        """End what was started inside, and the namespace with it."""
        for child in [*self._children, self._holder]:
            child.kill()
            child.wait()
            for pipe in (child.stdin, child.stdout):
                if pipe:
                    with contextlib.suppress(BrokenPipeError):
                        pipe.close()


def wire(left: Namespace, left_link: str, right: Namespace, right_link: str) -> None:
    """A veth pair between two namespaces; both ends still down and without addresses."""
    left.run(
        *(
            "ip",
            "link",
            "add",
            left_link,
            "type",
            "veth",
            "peer",
            "name",
            right_link,
            "netns",
            f"/proc/{right.pid}/ns/net",
        )
    )


_SERVER = """
import os, socket, sys, threading
def serve(connection):
    with connection:
        try:
            while data := connection.recv(65536):
                connection.sendall(data)
            os.write(1, b"closed\\n")
        except OSError as error:
            os.write(1, type(error).__name__.encode() + b"\\n")
listener = socket.create_server((sys.argv[1], int(sys.argv[2])), family=socket.AF_INET6 if ":" in sys.argv[1] else
    socket.AF_INET, dualstack_ipv6=sys.argv[1] == "::")
print("listening", flush=True)
while True:
    threading.Thread(target=serve, args=listener.accept()[:1], daemon=True).start()
"""

_CLIENT = """
import socket, sys
def connect(source, address, port, wait_s):
    try:
        with socket.create_connection((address, int(port)), float(wait_s), (source, 0)) as connection:
            connection.sendall(b"hello")
            return "answered" if connection.recv(5) == b"hello" else "cut off"
    except TimeoutError:
        return "no answer"
    except OSError as error:
        return f"{type(error).__name__}: {error}"
for line in sys.stdin:
    print(connect(*line.split()), flush=True)
"""


def echo_server(namespace: Namespace, address: str = "::", port: int = 8080) -> subprocess.Popen[str]:
    """A TCP server inside that echoes, one thread a connection; `::` serves IPv4 too, as mapped addresses.

    Its output tells how each connection ended: `closed` by the client, or the name of the error.
    """
    server = namespace.python(_SERVER, address, str(port))
    assert server.stdout
    assert server.stdout.readline() == "listening\n"
    return server


class Client:
    """Connects from inside a namespace, from any of its addresses."""

    def __init__(self, namespace: Namespace) -> None:
        self._process = namespace.python(_CLIENT)

    def connect(self, source: str, address: str, port: int = 8080, wait_s: float = 0.25) -> str:
        """Connect, say something, hear it back: `answered`, `no answer`, or an error."""
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.write(f"{source} {address} {port} {wait_s}\n")
        self._process.stdin.flush()
        return self._process.stdout.readline().strip()


@contextlib.contextmanager
def socket_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two ends of a stream; the second inheritable, for a child."""
    ours, theirs = socket.socketpair()
    os.set_inheritable(theirs.fileno(), True)
    with ours, theirs:
        yield ours, theirs
