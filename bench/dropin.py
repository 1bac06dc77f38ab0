"""fail2ban's own filters on long logs, and its bans, beside fail2ban: first the same findings, then how fast.

Whole processes, each with its start. What fail2ban would take for a whole log follows from a piece of it.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from guarding import Guard, scratch
from netns import Namespace, missing, wait_until

from fail2ban_logs import write_log
from logs import access_lines
from logs import write_log as write_access_log
from measuring import SCRATCH, TOCSIN, Measure, Skipped, alternating, share_of, timed
from peer import PYINOTIFY, STOCK, Rows, configuration, pace_of, piece_of, probe_environment, rows_of, serving
from throughput import FAILREGEX, fail2ban_installed

BENCH = "dropin"
LINES = 1_000_000
REPEAT = 5
AGREEING = 20_000  # lines that are compared finding by finding
PIECE, SLOW_PIECE = 40_000, 10_000  # lines that fail2ban-regex is timed on; with default dates on an access log
FOUNDING = "founding"
WITHIN_S = 1.0
# Jails read these filters as jail.conf has it.
FILTERS = {
    "sshd": "sshd",
    "apache-auth": "apache-auth",
    "apache-botsearch": "apache-botsearch",
    "nginx-http-auth": "nginx-http-auth",
    "nginx-botsearch": "nginx-botsearch",
    "dovecot": "dovecot",
    "postfix": "postfix[mode=more]",
    "recidive": "recidive",
}
TEN = (
    ("access log", "nginx-botsearch",
     ("nginx-bad-request", "nginx-limit-req", "nginx-http-auth", "apache-badbots", "apache-auth", "apache-botsearch",
      "apache-noscript", "php-url-fopen", "apache-shellshock")),
    ("error log", "apache-auth",
     ("apache-badbots", "apache-noscript", "apache-overflows", "apache-nohome", "apache-botsearch", "nginx-http-auth",
      "apache-modsecurity", "apache-shellshock", "php-url-fopen")),
)  # fmt: skip
OURS_BANS, THEIRS_BANS = 200, 60
HERE = Path(__file__).resolve().parent


def measure() -> Iterator[Measure]:
    """Each filter, ten jails, the delay of a ban."""
    if not fail2ban_installed() or not STOCK.is_dir():
        raise Skipped("fail2ban's filters and fail2ban-regex are not here: install its package (make oracle)")
    logs = {kind: write_log(SCRATCH / f"{kind}-7.log", kind, LINES) for kind in FILTERS}
    with scratch() as folder:
        founding = configuration(folder, FOUNDING, FAILREGEX, [f"logpath = {folder}/access.log"])
        access = write_access_log(SCRATCH / "attacked-7.log", access_lines(LINES))
        for kind, filter_ in FILTERS.items():
            name, _, mode = filter_.partition("[")
            there = f"{name}.conf" + (f"[{mode}" if mode else "")
            yield from _filter(kind, logs[kind], STOCK, filter_, there, 50.0, PIECE)
        yield from _filter(FOUNDING, access, founding, FOUNDING, FAILREGEX, 250.0, SLOW_PIECE)
    for log, one, others in TEN:
        yield _ten_jails(log, logs[one], one, others)
    yield from _latency()


# -- whole logs ------------------------------------------------------------------------------------------------------


def _filter(
    kind: str, log: Path, directory: Path, ours: str, theirs: str, asked: float, lines: int
) -> Iterator[Measure]:
    hits = _agree(piece_of(log, AGREEING), directory, ours, theirs)
    timed(["cat", str(log)])  # in the page cache, for everybody
    (took,) = alternating(REPEAT, lambda: timed(_replay(directory, log, kind)))
    size = f"{LINES:,} lines, {log.stat().st_size / 1e6:.0f} MB"
    yield Measure(BENCH, f"{kind}: replay, whole process", took.best, "s", WITHIN_S, how=f"{size}; {took}")
    pace = pace_of(piece_of(log, lines), theirs, lines)
    how = f"{pace}; the same {hits} findings in {AGREEING:,} lines"
    ratio = pace.whole_s(LINES) / took.best
    yield Measure(BENCH, f"{kind}: times fail2ban-regex", ratio, "x", asked, at_most=False, how=how)


def _replay(directory: Path, log: Path, *jails: str) -> list[str]:
    named = [word for jail in jails for word in ("--jail", jail)]
    return [str(TOCSIN), "replay", "--fail2ban", str(directory), *named, "--json", str(log)]


def _agree(piece: Path, directory: Path, ours: str, theirs: str) -> int:
    """How many failures both find in a piece; RuntimeError where they are not the same, line for line."""
    here, there = _rows(piece, directory, ours), rows_of(piece, theirs)
    if here != there or not here:
        first = next((pair for pair in zip(here, there, strict=False) if pair[0] != pair[1]), None)
        raise RuntimeError(f"{ours} on {piece.name}: {len(here)} findings here, {len(there)} there; first {first}")
    return len(here)


def _rows(piece: Path, directory: Path, filter_: str) -> Rows:
    command = [str(TOCSIN), "rules", "test", "--fail2ban", str(directory), filter_, str(piece), "--json"]
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    rows = [json.loads(line) for line in said.splitlines()]
    return [(row["subject"], row["ts"]) for row in rows if row.get("subject") is not None]


def _ten_jails(what: str, log: Path, one: str, others: tuple[str, ...]) -> Measure:
    alone, ten = alternating(
        REPEAT, lambda: timed(_replay(STOCK, log, one)), lambda: timed(_replay(STOCK, log, one, *others))
    )
    how = f"{one} alone {alone}; with {', '.join(others)} {ten}"
    return Measure(BENCH, f"ten web jails on one {what}, times one", ten.best / alone.best, "x", 1.5, how=how)


# -- bans ------------------------------------------------------------------------------------------------------------


def _latency() -> Iterator[Measure]:
    """From `write()` of the line that crosses the limit to the new element of the kernel's set: the same jail, the same
    lines, one after the other, each in a network namespace of its own.
    """
    if reason := missing():
        print(f"  ban latency skipped: no network namespaces can be made here: {reason}")
        return
    if not PYINOTIFY.exists():
        print("  ban latency skipped: python3-pyinotify is not here (make oracle)")
        return
    ours = sorted(_ours_ms())
    theirs = sorted(_theirs_ms())
    for share, name in ((0.5, "p50"), (0.99, "p99")):
        here, there = share_of(ours, share), share_of(theirs, share)
        how = f"{len(ours)} bans, best {ours[0]:.2f}, worst {ours[-1]:.2f} ms"
        yield Measure(BENCH, f"ban of a jail, write() to kernel, {name}", here, "ms", how=how)
        how = f"{len(theirs)} bans, pyinotify and nftables, best {theirs[0]:.0f}, worst {theirs[-1]:.0f} ms"
        yield Measure(BENCH, f"the same of fail2ban, {name}", there, "ms", how=how)
        yield Measure(BENCH, f"fail2ban's {name} over ours", there / here, "x", at_most=False)


def _jail(folder: Path) -> Path:
    log = folder / "access.log"
    log.touch()
    options = [f"logpath = {log}", "backend = pyinotify", "maxretry = 3", "findtime = 600", "bantime = 240000"]
    options += ["banaction = nftables", "port = http,https", "usedns = no", "ignoreself = false"]
    return configuration(folder, FOUNDING, FAILREGEX, options)


def _ours_ms() -> list[float]:
    with Namespace() as namespace, scratch() as folder:
        directory = _jail(folder)
        only = f'[rules]\ndisable = ["wordpress-xmlrpc"]\n[fail2ban]\npath = "{directory}"\n'
        guard = Guard(namespace, folder, only)
        guard.start()
        try:
            took_ms = _probe(namespace, guard.log, OURS_BANS, 0)
            bans = [json.loads(line)["ban"] for line in guard.tell("bans", "--json").splitlines()]
            by_jail = sum(ban["rule"] == FOUNDING for ban in bans)
            if by_jail != OURS_BANS:
                raise RuntimeError(
                    f"{by_jail} of {OURS_BANS} bans are the jail's; guard said {guard.said_text()[-2000:]}"
                )
            return took_ms
        finally:
            guard.stop()


def _theirs_ms() -> list[float]:
    with Namespace() as namespace, scratch() as folder:
        directory = _jail(folder)
        log = folder / "access.log"
        with serving(namespace, directory, FOUNDING):
            _probe(namespace, log, 1, 1)  # its table is made with the first ban
            wait_until(lambda: "Ban 198.19." in (folder / "fail2ban.log").read_text(), "fail2ban's first ban")
            return _probe(namespace, log, THEIRS_BANS, 0)


def _probe(namespace: Namespace, log: Path, bans: int, seed: int) -> list[float]:
    within_s = 10.0
    command = [sys.executable, str(HERE / "latency_probe.py"), str(log), str(bans), str(seed), str(within_s)]
    done = subprocess.run(
        namespace.command(*command), capture_output=True, text=True, check=False, env=probe_environment(), timeout=600
    )
    if done.returncode:
        raise RuntimeError(f"the probe failed: {done.stderr[-2000:]}")
    took_ms: list[float | None] = json.loads(done.stdout)
    good = [each for each in took_ms if each is not None]
    if len(good) < bans:
        raise RuntimeError(f"{bans - len(good)} of {bans} bans never came")
    return good
