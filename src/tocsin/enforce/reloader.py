"""nginx's reloader: `python -m tocsin.enforce.reloader --dir DIR --marker FILE`, the one process that stays root.

It exists because nginx reads its configuration when it is told to alone, and because whoever writes a line of that
configuration can have nginx write any file as root. So it takes no text from anybody: it looks at the enforcer's
Order, judges each class again, renders nginx's file itself, has nginx test it, and only then reload. A file that nginx
refuses is taken back. At most one reload in two seconds, in ten where others are spared and nothing else is new: each
leaves processes behind that finish their work. Where the order is not renewed any more, nothing is denied.

It keeps the capabilities that `nginx -t` and `nginx -s reload` need. What came of an order stands beside nginx's file.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import subprocess
import sys
import time
from ipaddress import ip_network
from pathlib import Path

import msgspec

from tocsin.enforce.webfiles import (
    MAX_ORDER_BYTES,
    Marker,
    Order,
    Result,
    read_marker,
    replace,
    result_path,
)
from tocsin.enforce.webserver import LEASE_S, MAX_CLASSES, check, nginx_conf
from tocsin.model import Signature
from tocsin.privileges import PrivilegeError, die_with_parent, drop_to
from tocsin.saying import warn

POLL_S = 0.5
BETWEEN_S = 2.0
BETWEEN_SPARED_S = 10.0
TEST_WITHIN_S = 20.0
SAID_CHARS = 500
ALWAYS_AT_MOST = 10_000
KEEPS = frozenset(
    ("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_KILL", "CAP_NET_BIND_SERVICE")
)
PROGRAMS = ("/usr/sbin/nginx", "/usr/local/sbin/nginx", "/usr/local/nginx/sbin/nginx", "/usr/bin/nginx")
NOTHING = Order("", 0.0)


class Reloader:
    """Brings orders to nginx. `program` is nginx."""

    def __init__(self, directory: Path, marker: Marker, program: str) -> None:
        self._order_path = directory / "nginx.json"
        self._conf = Path(marker.conf)
        self._command = [program, *(("-c", marker.main) if marker.main else ())]
        self._token: str | None = None
        self._classes: list[Signature] = []
        self._reloaded_s = float("-inf")

    def look(self) -> None:
        """Take up what is ordered now, if it is new and it is time."""
        order = self._ordered()
        same = self._classes == [denial.signature for denial in order.denials]
        pause_s = BETWEEN_SPARED_S if same else BETWEEN_S
        if order.token != self._token and time.monotonic() - self._reloaded_s >= pause_s:
            self.bring(order)

    def bring(self, order: Order) -> None:
        """Have nginx deny what an order says; what it refuses is taken back."""
        self._token, self._classes = order.token, [denial.signature for denial in order.denials]
        try:
            text = nginx_conf(order.denials, time.time(), order.always)
            error = self._put(text.encode())
        except (OSError, ValueError) as problem:
            error = str(problem)
        result = Result(order.token, ok=not error, text=error[:SAID_CHARS])
        with contextlib.suppress(OSError):  # then the enforcer says that nobody took its order
            replace(result_path(self._conf), msgspec.json.encode(result))
        if error:
            warn(f"nginx: {error}")

    def _put(self, text: bytes) -> str:
        before = self._conf.read_bytes()
        if text == before:
            return ""
        self._reloaded_s = time.monotonic()
        replace(self._conf, text)
        error = self._run("-t", "-q")
        if error:
            replace(self._conf, before)
            return f"refused, and taken back: {error}"
        return self._run("-s", "reload")

    def _run(self, *words: str) -> str:
        """What nginx complains of; empty where it is content."""
        try:
            done = subprocess.run(  # noqa: S603  nginx, with fixed words
                [*self._command, *words],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=TEST_WITHIN_S,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            return str(error)
        said = done.stderr.decode("utf-8", "backslashreplace").strip()
        return "" if done.returncode == 0 else said or f"nginx left with {done.returncode}"

    def _ordered(self) -> Order:
        """The order that holds now: nothing where there is none, or it was not renewed, or is not sound."""
        now_ts = time.time()
        try:
            flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
            with open(os.open(self._order_path, flags), "rb") as file:  # noqa: PTH123  a descriptor
                order = msgspec.json.decode(file.read(MAX_ORDER_BYTES), type=Order)
            if not now_ts < order.until_ts <= now_ts + 2 * LEASE_S:
                return NOTHING
            judge(order, now_ts)
        except (OSError, ValueError, msgspec.MsgspecError):
            return NOTHING
        return order


def judge(order: Order, now_ts: float) -> None:
    """ValueError where an order asks for what nobody may ask."""
    if len(order.denials) > MAX_CLASSES or len(order.always) > ALWAYS_AT_MOST or not order.token.isalnum():
        raise ValueError("more classes or networks than are allowed, or no token")
    for denial in order.denials:
        check(denial.signature, denial.spare, max(denial.end_ts, now_ts + 1), now_ts)
    for network in order.always:
        if str(ip_network(network)) != network:
            raise ValueError(f"expected a network, got {network!r:.80}")


def main() -> int:
    """Serve until told to stop, or the parent has gone; then nothing is denied."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.enforce.reloader")
    parser.add_argument("--dir", type=Path, required=True, help="the enforcer's folder")
    parser.add_argument("--marker", type=Path, required=True, help="what `tocsin setup nginx` has left")
    parser.add_argument("--child", action="store_true", help="end with the process that started this one")
    options = parser.parse_args()
    stop = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
    signal.pthread_sigmask(signal.SIG_BLOCK, stop)
    marker = read_marker(options.marker)
    program = next((each for each in PROGRAMS if os.access(each, os.X_OK)), None)
    if marker is None or marker.server != "nginx" or program is None:
        warn("nginx's reloader: not set up here; run `tocsin setup nginx`")
        return os.EX_CONFIG
    try:
        drop_to(None, KEEPS)
        if options.child:
            die_with_parent(number=signal.SIGTERM)
    except PrivilegeError as error:
        warn(f"nginx's reloader: {error}")
        return os.EX_NOPERM
    reloader = Reloader(options.dir, marker, program)
    while signal.sigtimedwait({signal.SIGTERM, signal.SIGINT}, POLL_S) is None:
        reloader.look()
    reloader.bring(NOTHING)
    return 0


if __name__ == "__main__":
    sys.exit(main())
