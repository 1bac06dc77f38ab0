"""The watcher's side of what the web server turns away: asks the enforcer, hears what came of it, tells people.

A denial is a decision of action `deny-request` or `limit`; a `lift` takes it back. What was in force when a watcher or
an enforcer ended is asked for again by the next pair.
"""

from __future__ import annotations

import math
import time
from typing import TYPE_CHECKING, Any

import msgspec
from msgspec import Struct

from tocsin.enforce.pasting import denial_rule
from tocsin.enforce.protocol import Denied
from tocsin.enforce.webfiles import present_servers, read_marker, why_not
from tocsin.enforce.webserver import check
from tocsin.model import Receipt

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from pathlib import Path

    from tocsin.enforce.client import Enforcer
    from tocsin.model import Action, Decision, Signature

SAID_AT_MOST = 1000


class _Denial(Struct):
    decision: Decision
    asked: bool = False
    error: str | None = None  # None: not answered yet


class Denials:
    """What is denied. `marker` says for which server it was set up, `receipts` hears what came of each request.
    `proxied`: clients come through proxies.
    """

    def __init__(
        self,
        enforcer: Enforcer | None,
        marker: Path,
        say: Callable[..., None],
        receipts: Callable[[list[Receipt]], None],
        *,
        proxied: bool = False,
    ) -> None:
        self._enforcer = enforcer
        self._marker = marker
        self._say = say
        self._receipts = receipts
        self._proxied = proxied
        self._denials: dict[str, _Denial] = {}
        self._lifts: list[str] = []
        self._said: set[Signature] = set()

    def cannot(self) -> dict[Action, str]:
        """Why the web server turns nobody away, and asks nobody; without what it would do."""
        marker, proxied = read_marker(self._marker), self._proxied
        denies, asks = why_not(marker, proxied=proxied), why_not(marker, proxied=proxied, asks=True)
        found: dict[Action, str] = {"deny-request": denies, "limit": asks}
        return {action: why for action, why in found.items() if why}

    def restore(self, decisions: Iterable[Decision]) -> None:
        """What was in force when the last watcher ended."""
        for decision in decisions:
            self.apply(decision)

    def apply(self, decision: Decision) -> None:
        """Take in a `deny-request`, a `limit` or the `lift` of one, and ask the enforcer where it is to be in force."""
        if decision.action == "lift":
            if self._denials.pop(decision.lifts or "", None) is not None and self._enforcer is not None:
                self._lifts.append(decision.lifts or "")
        elif decision.held is None and self._enforcer is not None and decision.signature is not None:
            self._denials[decision.id] = _Denial(decision)
            asks, end_ts = decision.action == "limit", decision.end_ts or math.inf
            try:
                check(decision.signature, decision.spare, end_ts, time.time(), asks=asks)
            except ValueError as error:
                self._refuse(decision, str(error))
        self.tick()

    def _refuse(self, decision: Decision, error: str) -> None:
        """What the enforcer would refuse, or could not even read."""
        self._denials[decision.id] = _Denial(decision, asked=True)
        receipt = Receipt("deny", "", decision.id, ok=False, ts=time.time(), error=error)
        self.answered(Denied(0, receipt))

    def tick(self) -> None:
        """Ask for what could not be asked yet, and forget what is over."""
        now_ts = time.time()
        over = [each for each, denial in self._denials.items() if (denial.decision.end_ts or 0.0) <= now_ts]
        for each in over:
            del self._denials[each]
        if self._enforcer is None:
            return
        while self._lifts and self._enforcer.allow(self._lifts[0]) is not None:
            del self._lifts[0]
        for denial in self._denials.values():
            if not denial.asked and not self._lifts:
                denial.asked = self._enforcer.deny(denial.decision) is not None

    def answered(self, message: Denied) -> None:
        """Hear what came of a request."""
        receipt = message.receipt
        self._receipts([receipt])
        denial = self._denials.get(receipt.decision)
        if denial is not None and receipt.verb == "deny":
            denial.error = receipt.error
        if not receipt.ok:
            self._say("failed", f"{receipt.verb} {receipt.decision}: the web server: {receipt.error}")

    def say_rule(self, signature: Signature) -> None:
        """Where the web server is not set up: say, once, what its owner can paste."""
        if signature in self._said or len(self._said) >= SAID_AT_MOST:
            return
        self._said.add(signature)
        rules = {server: denial_rule(server, signature) for server in present_servers()}
        text = "".join(f"\n{server}:\n{rule}" for server, rule in rules.items() if rule)
        advice = "`tocsin setup apache` (or nginx) lets guard turn such requests away by itself"
        paste = f"; until then this rule does it, for everybody:{text}" if text else ""
        self._say("deny", f"a class of requests overloads the site, and nobody turns it away: {advice}{paste}")

    def status(self) -> dict[str, Any]:
        """See `docs/json.md`."""
        marker = read_marker(self._marker)
        return {
            "server": None if marker is None else marker.server,
            "denied": [
                {
                    "action": denial.decision.action,
                    "signature": msgspec.to_builtins(denial.decision.signature),
                    "until_ts": denial.decision.end_ts,
                    "spared": len(denial.decision.spare),
                    "ok": denial.error == "",
                    "error": denial.error or "",
                }
                for denial in self._denials.values()
            ],
        }
