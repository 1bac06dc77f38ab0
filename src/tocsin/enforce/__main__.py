"""The enforcer's process: `python -m tocsin.enforce --fd N [--config PATH]`, started by the supervisor.

It reads the configuration's allow list by itself, so that no watcher, however deceived, can talk it into banning who
is on it; then it gives up everything but CAP_NET_ADMIN. The folder of what the web server is to deny becomes its own.
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
from pathlib import Path

from tocsin.config import Config, ConfigErrors, load
from tocsin.enforce.addresses import own_addresses
from tocsin.enforce.admission import parse_allow
from tocsin.enforce.denying import Denying
from tocsin.enforce.nftables import FirewallError
from tocsin.enforce.protocol import ProtocolError
from tocsin.enforce.server import run
from tocsin.enforce.subjects import Network
from tocsin.enforce.webfiles import marker_path
from tocsin.privileges import (
    Locked,
    PrivilegeError,
    die_with_parent,
    drop_to,
    lock_memory,
    own_directory,
    raise_priority,
    set_oom_score_adj,
)
from tocsin.saying import warn


def main() -> int:
    """Serve one watcher until it hangs up."""
    parser = argparse.ArgumentParser(prog="python -m tocsin.enforce")
    parser.add_argument("--fd", type=int, required=True, help="socket to the watcher")
    parser.add_argument("--config", type=Path)
    options, _ = parser.parse_known_args()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the supervisor's to hear
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    try:
        config = load(options.config)
    except ConfigErrors as error:
        warn(f"enforcer: {error}")
        return os.EX_CONFIG
    keep = {"CAP_NET_ADMIN"}
    allowed = parse_allow(config.allow.addresses)
    try:
        for wish in (lock_memory, set_oom_score_adj, raise_priority):
            try:
                got = wish()
                keep |= got.needs if isinstance(got, Locked) else set()
            except PrivilegeError as error:
                warn(f"enforcer: {error}")
        _own_web_directory(config)
        drop_to(config.guard.user if os.getuid() == 0 else None, frozenset(keep))
        die_with_parent(number=signal.SIGTERM)
        spared = _Spared(options.config, config.file, allowed)
        denying = Denying(Path(config.web.dir), marker_path(config.file), spared)
        allow = [*allowed, *parse_allow(config.proxies.trusted)]
        run(socket.socket(fileno=options.fd), allow, denying=denying)
    except (PrivilegeError, ProtocolError, FirewallError) as error:
        warn(f"enforcer: {error}")
        return os.EX_UNAVAILABLE if isinstance(error, FirewallError) else os.EX_NOPERM
    return 0


class _Spared:
    """Who is never denied anything: this machine's addresses, and `[allow]` as the file has it by now. What it had
    before stays where it cannot be read any more, or has mistakes.
    """

    def __init__(self, path: Path | None, file: str, allowed: list[Network]) -> None:
        self._path, self._file, self._allowed = path, file, allowed
        self._read_ns = self._changed_ns()

    def _changed_ns(self) -> int:
        try:
            return Path(self._file).stat().st_mtime_ns if self._file else 0
        except OSError:
            return 0

    def __call__(self) -> list[Network]:
        changed_ns = self._changed_ns()
        if changed_ns != self._read_ns:
            self._read_ns = changed_ns
            try:
                self._allowed = parse_allow(load(self._path).allow.addresses)
            except (ConfigErrors, ValueError) as error:
                warn(f"enforcer: {error}")
        return [*own_addresses(), *self._allowed]


def _own_web_directory(config: Config) -> None:
    """Where that fails, bans are made all the same; what is to be denied is answered with what is wrong."""
    try:
        own_directory(Path(config.web.dir), config.guard.user, 0o755)
    except PrivilegeError as error:
        warn(f"enforcer: {error}")


if __name__ == "__main__":
    sys.exit(main())
