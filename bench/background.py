"""Visitors' lines into a log at a steady rate, each in a write of its own, as a busy web server does it.

background.py LOG LINES_A_SECOND SECONDS
"""

from __future__ import annotations

import os
import sys
import time

from logs import access_lines


def main(log: str, rate: int, seconds: float) -> None:
    """Write; the stamps are those of the moment at which each line is due."""
    start_ts = time.time() + 1.0
    lines = [
        line.encode()
        for line in access_lines(int(rate * seconds), attack_share=0.0, start_ts=int(start_ts), lines_a_second=rate)
    ]
    descriptor = os.open(log, os.O_WRONLY | os.O_APPEND)
    start_s, written = time.monotonic(), 0
    while written < len(lines):
        due = min(len(lines), int((time.monotonic() - start_s) * rate))
        for line in lines[written:due]:
            os.write(descriptor, line)
        written = max(written, due)
        time.sleep(0.0005)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), float(sys.argv[3]))
