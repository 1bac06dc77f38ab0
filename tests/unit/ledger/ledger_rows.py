"""Rows for the tests of the ledger, and a way to wait for its thread."""

from __future__ import annotations

import time
from collections.abc import Callable

from tocsin.model import Decision, Evidence, Finding

NOW_TS = 1_700_000_000.0
DAY_S = 86400.0


def ban(subject: str, start_ts: float = NOW_TS, seconds: float | None = 600.0, held: str | None = None) -> Decision:
    end_ts = None if seconds is None else start_ts + seconds
    return Decision(f"ban~{subject}~{end_ts}~{held}", "ban", subject, start_ts, end_ts, "xmlrpc", "f1", held=held)


def lift(subject: str, ts: float) -> Decision:
    return Decision(f"lift~{subject}~{ts}", "lift", subject, ts, None, "", None, "operator", lifts=f"ban~{subject}")


def finding(identity: str, subject: str = "192.0.2.7", text: str = "POST /xmlrpc.php") -> Finding:
    lines = tuple(Evidence("/var/log/access.log", n, 200 * n, f"{text} {n}") for n in (1, 2, 3))
    return Finding(identity, "xmlrpc", subject, NOW_TS, 3, 600.0, lines)


def until(condition: Callable[[], bool], seconds: float = 10.0) -> None:
    deadline_s = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline_s, "the condition did not come true in time"
        time.sleep(0.01)
