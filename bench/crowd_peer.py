"""fail2ban on the same log: who its two best jails would have banned when, from what fail2ban-regex finds in it.

Its server's clock cannot be driven through hours in seconds, so `maxretry` and `findtime` are counted here, from the
failures that fail2ban's own filters find. Everything is at its best for it: the virtual host is taken off the lines;
the stock filter `apache-fakegooglebot`, which as shipped finds nothing in Apache's combined log (its pattern wants a
field more than that has once fail2ban has cut the date out), gets a date pattern with which it does; no PTR record
speaks for an impostor, each does for the real Googlebot, and no answer takes time.
"""

from __future__ import annotations

import ast
import subprocess
import tempfile
from collections import defaultdict, deque
from pathlib import Path

from crowd_force import Force
from crowd_score import Run
from crowd_site import Line
from crowd_traffic import Case
from tocsin.model import Decision

REGEX = "fail2ban-regex"
DATE_PATTERN = "%d/%b/%Y:%H:%M:%S %z"
FAKE_GOOGLEBOT = "apache-fakegooglebot"
PER_ADDRESS = r'^<HOST> [^"]*"POST /\S*(?:xmlrpc|wp-login)\.php[ ?]'
FIND_S, BAN_S = 600.0, 600.0  # jail.conf's own
MAXRETRY = {FAKE_GOOGLEBOT: 1, PER_ADDRESS: 5}


def fail2ban(case: Case) -> Run:
    """What both jails would have come to."""
    force = Force(with_vhost=case.machine.with_vhost)
    written: dict[tuple[str, int], deque[float]] = defaultdict(deque)
    real = {line.who for line in case.lines if line.label == "googlebot"}
    for line in case.lines:
        written[line.who, int(line.ts)].append(line.end_ts)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "access.log"
        log.write_text("".join(f"{without_vhost(case, line)}\n" for line in case.lines))
        bans = [ban for filter_ in MAXRETRY for ban in bans_of(log, filter_, written, real)]
    for number, (ts, address, filter_) in enumerate(sorted(bans)):
        now_ts = float(int(ts) + 1)
        subject = address if ":" not in address else f"{address}/128"
        rule = "jail fakegooglebot" if filter_ == FAKE_GOOGLEBOT else "jail per address"
        force.take(Decision(f"{number}", "ban", subject, now_ts, now_ts + BAN_S, rule, None), now_ts)
    return Run(case, [force.stopping(line) for line in case.lines], force)


def without_vhost(case: Case, line: Line) -> str:
    """A line of the combined log."""
    return line.text.partition(" ")[2] if case.machine.with_vhost else line.text


def bans_of(
    log: Path, filter_: str, written: dict[tuple[str, int], deque[float]], real: set[str]
) -> list[tuple[float, str, str]]:
    """(when its line was written, address, filter) of each ban of a jail with this filter."""
    command = [REGEX, "--usedns=no", "-d", DATE_PATTERN, "-o", "row", str(log), filter_]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [ast.literal_eval(line.rstrip(",")) for line in said.splitlines() if line.startswith("[")]
    lately: dict[str, deque[float]] = defaultdict(deque)
    until: dict[str, float] = {}
    bans = []
    for address, ts in ((row[0], float(row[1])) for row in rows):
        if filter_ == FAKE_GOOGLEBOT and address in real:
            continue
        times = lately[address]
        times.append(ts)
        while times[0] <= ts - FIND_S:
            times.popleft()
        if len(times) >= MAXRETRY[filter_] and ts >= until.get(address, 0.0):
            end_ts = written[address, int(ts)][0]
            bans.append((end_ts, address, filter_))
            until[address] = end_ts + BAN_S
            times.clear()
    return bans
