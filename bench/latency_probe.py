"""Runs inside the namespace: writes crossing lines, and listens for the kernel's announcement of each ban.

latency_probe.py LOG COUNT SEED [WITHIN_S]     prints a JSON list of milliseconds, null where no ban came within 2 s
"""

from __future__ import annotations

import contextlib
import json
import os
import random
import socket
import sys
import time

from guarding import request_line

from kernel_watch import KernelWatch

LIMIT = 3  # of wordpress-xmlrpc
WITHIN_S = 2.0


def main(log: str, count: int, seed: int, within_s: float = WITHIN_S) -> list[float | None]:
    """Each attacker's first lines at once; then, at random moments, the line of each that crosses the limit."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, -5)  # as guard's own: what we hear late must not count as its delay
    rng = random.Random(seed)
    attackers = [f"198.{18 + seed % 2}.{number // 250}.{1 + number % 250}" for number in range(count)]
    watch = KernelWatch()
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    for attacker in attackers:
        os.write(descriptor, (LIMIT - 1) * request_line(attacker).encode())
    time.sleep(0.5)
    took_ms: list[float | None] = []
    for attacker in attackers:
        time.sleep(rng.uniform(0.02, 0.06))
        line, key = request_line(attacker).encode(), socket.inet_aton(attacker)
        watch.drain()
        began_ns = time.perf_counter_ns()
        os.write(descriptor, line)
        heard_ns = watch.wait_for(key, within_s)
        took_ms.append(None if heard_ns is None else (heard_ns - began_ns) / 1e6)
    return took_ms


if __name__ == "__main__":
    json.dump(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]), *map(float, sys.argv[4:])), sys.stdout)
