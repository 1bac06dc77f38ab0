"""Lines a second of the real command line, whole process, beside `grep` and `fail2ban-regex` on the same file."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

from logs import access_lines, visit_lines, write_log
from measuring import SCRATCH, TOCSIN, Measure, alternating, span, timed

LINES = 1_000_000
PIECES = {"default dates": 20_000, "fixed datepattern": 200_000}  # so that what is measured is not the start
REPEAT = 3
FOUNDING = "wordpress-xmlrpc"
STRING = "POST /xmlrpc.php"
# These count every line of a client, or every answer of a kind, so none can be passed over unread.
COUNTING = re.compile(r"flood|sweep")
FAILREGEX = '^<HOST>.*"POST /xmlrpc.php HTTP/1.0'  # the founding filter
DATEPATTERN = "%d/%b/%Y:%H:%M:%S %z"


def measure() -> Iterator[Measure]:
    """The figures asked for, and what they are made of."""
    log = write_log(SCRATCH / "attacked-7.log", access_lines(LINES))
    visits = write_log(SCRATCH / "visits-7.log", visit_lines(LINES))
    all_attack = write_log(SCRATCH / "all-attack-7.log", access_lines(LINES, attack_share=1.0))
    timed(["cat", str(log), str(visits), str(all_attack)])  # in the page cache, for everybody
    signing, all_rules = shipped_rules()
    one, signatures, everything, scattered, watched, attacked, grep = alternating(
        REPEAT,
        lambda: timed(_replay(log, [FOUNDING])),
        lambda: timed(_replay(log, signing)),
        lambda: timed(_replay(visits, all_rules)),
        lambda: timed(_replay(log, all_rules)),
        lambda: timed(_replay(log, [])),
        lambda: timed(_replay(all_attack, [])),
        lambda: timed(["grep", "-c", STRING, str(log)], piped=True),
    )
    size = f"{LINES:,} lines, {log.stat().st_size / 1e6:.0f} MB"
    yield Measure("throughput", f"grep -c '{STRING}' FILE | cat", grep.best, "s", how=f"{size}; {grep}")
    yield Measure("throughput", "replay, the founding rule", one.best, "s", how=str(one))
    yield Measure(
        "throughput",
        "founding rule, times grep",
        one.best / grep.best,
        "x",
        6.0,
        how=f"medians {one.median / grep.median:.1f}",
    )
    yield from _fail2ban(log, one.best)
    yield Measure(
        "throughput",
        f"{len(signing)} signature rules, times the one",
        signatures.best / one.best,
        "x",
        2.0,
        how=str(signatures),
    )
    rate = "lines/s"
    for what, took in (
        ("all rules, visits as browsers make them", everything),
        ("all rules, each line by anybody", scattered),
    ):
        yield Measure("throughput", what, LINES / took.best, rate, 400_000, at_most=False, how=str(took))
    yield Measure(
        "throughput",
        "all rules and contrast",
        LINES / watched.best,
        rate,
        200_000,
        at_most=False,
        how=str(watched),
    )
    yield Measure(
        "throughput",
        "all rules and contrast, every line attacks",
        LINES / attacked.best,
        rate,
        150_000,
        at_most=False,
        how=str(attacked),
    )


def shipped_rules() -> tuple[list[str], list[str]]:
    """The shipped rules that are on: those that need not count every line, and all of them (contrast is no rule)."""
    done = subprocess.run([str(TOCSIN), "rules", "--json"], capture_output=True, text=True, check=True)
    rules = [json.loads(line) for line in done.stdout.splitlines()]
    found = [rule["id"] for rule in rules if rule.get("enabled")]
    return [rule for rule in found if not COUNTING.search(rule)], found


def _replay(log: Path, only: list[str]) -> list[str]:
    return [str(TOCSIN), "replay", "--json", *(word for rule in only for word in ("--only", rule)), str(log)]


def _fail2ban(log: Path, ours_s: float) -> Iterator[Measure]:
    """fail2ban-regex on the first lines of the same file, from which follows what the whole would take."""
    if not fail2ban_installed():
        print("  fail2ban-regex is not here and cannot be installed (only root can): not compared")
        return
    start = span([timed(["fail2ban-regex", "--usedns=no", "127.0.0.1 x", FAILREGEX]) for _ in range(2)]).best
    for what, options, asked, repeat in (
        ("default dates", [], 250.0, 2),
        ("fixed datepattern", ["-d", DATEPATTERN], 25.0, 3),
    ):
        lines = PIECES[what]
        piece = SCRATCH / f"piece-{lines}.log"
        with log.open() as source, piece.open("w") as out:
            out.writelines(islice(source, lines))
        command = ["fail2ban-regex", "--usedns=no", "--print-no-missed", *options, str(piece), FAILREGEX]
        _expect_matches(command)
        took = span([timed(command) for _ in range(repeat)])
        a_line_s = (took.best - start) / lines
        how = f"{took} for {lines:,} lines, {start:.2f} s of it to start: {1 / a_line_s:,.0f} lines/s"
        whole_s = start + LINES * a_line_s  # what it would take for the whole file
        yield Measure(
            "throughput", f"times fail2ban-regex, {what}", whole_s / ours_s, "x", asked, at_most=False, how=how
        )


def _expect_matches(command: list[str]) -> None:
    """That it reads the lines as we do: as many matches as there are lines with the string."""
    said = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    found = re.search(r"(\d+) lines, \d+ ignored, (\d+) matched", said)
    expected = sum(f'"{STRING} ' in line for line in Path(command[-2]).read_text().splitlines())
    if found is None or int(found[2]) != expected:
        raise RuntimeError(f"fail2ban-regex matched otherwise than expected ({expected}): {said[-400:]}")


def fail2ban_installed() -> bool:
    """Whether fail2ban-regex is here, installed from Debian's package if need be. Its service is never started."""
    if shutil.which("fail2ban-regex"):
        return True
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        return False
    print("  installing Debian's fail2ban for fail2ban-regex (its service is not started)")
    policy = Path("/usr/sbin/policy-rc.d")  # Debian's way to keep packages from starting services
    mine = not policy.exists()
    if mine:
        policy.write_text("#!/bin/sh\nexit 101\n")
        policy.chmod(0o755)
    try:
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", "fail2ban"]):
            subprocess.run(["apt-get", *words], env=quiet, stdout=subprocess.DEVNULL, check=False)
    finally:
        if mine:
            policy.unlink()
    return shutil.which("fail2ban-regex") is not None
