"""Runs inside the namespace: waits until the kernel holds all of the bans of a filled ledger.

    restore_probe.py COUNT        prints the value of time.monotonic() at that moment

Every tenth ban is looked up over netlink, those that are still missing again and again.
"""

from __future__ import annotations

import sys
import time

from filled import address
from tocsin.enforce import netlink
from tocsin.enforce.elements import look_up
from tocsin.enforce.ruleset import TABLE
from tocsin.enforce.subjects import parse_subject

WITHIN_S = 120.0
EVERY = 10


def main(count: int) -> float:
    """Look until none is missing."""
    kernel = netlink.Netlink(netlink.NETLINK_NETFILTER)
    missing = [parse_subject(address(number)) for number in {*range(0, count, EVERY), count - 1}]
    end_s = time.monotonic() + WITHIN_S
    while missing:
        try:
            there = look_up(kernel, TABLE, missing[-1]) is not None
        except netlink.NetlinkError:
            there = False  # no table yet
        if there:
            missing.pop()
        elif time.monotonic() > end_s:
            sys.exit(f"{len(missing)} bans of the sample are missing after {WITHIN_S:g} s")
        else:
            time.sleep(0.002)
    return time.monotonic()


if __name__ == "__main__":
    print(main(int(sys.argv[1])))
