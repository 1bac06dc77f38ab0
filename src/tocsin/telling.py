"""What guard says of what it decides, in words, one line each: bans and their ends, classes of requests, sieges."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import msgspec

from tocsin.decide.crowd import Crowd
from tocsin.decide.siege import RENEWED, Change, text_of
from tocsin.duration import render_duration
from tocsin.model import Action, Decision, Finding, Signature
from tocsin.steering import what_is_done


class Telling:
    """Says it through `say`. `paste` shows the owner of a web server that is not set up what can be done by hand.

    `cannot` is why the web server does not do this or that, at the time of saying.
    """

    def __init__(
        self, say: Callable[..., None], paste: Callable[[Signature], None], crowd: Crowd, *, observe: bool
    ) -> None:
        self._say = say
        self._paste = paste
        self._crowd = crowd
        self._observe = observe

    def decision(self, decision: Decision, finding: Finding | None, cannot: Mapping[Action, str]) -> None:
        """That a ban begins or ends, or that the web server is to treat a class of requests in some way."""
        if decision.signature is not None:
            if decision.note == RENEWED:
                return  # whom it spares changes each second
            if decision.action == "deny-request" and decision.held == cannot.get("deny-request", ""):
                self._paste(decision.signature)
            text = _of_class(decision, decision.signature)
        else:
            text = _of_ban(decision, finding)
        if decision.held is not None:
            text = f"would {text} (held: {decision.held})"
        fields = {name: getattr(decision, name) for name in ("action", "subject", "services", "rule", "held", "id")}
        self._say("decision", text, **fields)

    def siege(self, change: Change, cannot: Mapping[Action, str]) -> None:
        """That a siege begins, is back or is over, or an alarm; what is turned away is said as a decision."""
        if change.verb in {"deny", "ask"}:
            return
        siege = next((each for each in self._crowd.sieges.all if each.finding.id == change.finding.id), None)
        if siege is None:
            text = f"alarm: {change.note}"
        elif change.verb == "leave":
            text = f"siege over: {text_of(siege.description)}: {change.note}"
        else:
            done = what_is_done(siege, self._crowd.settings, cannot, observe=self._observe)
            text = f"siege: {change.note}; {done}"
        about = msgspec.to_builtins(change.signature)
        self._say("siege", text, verb=change.verb, finding=change.finding.id, signature=about)


def _of_ban(decision: Decision, finding: Finding | None) -> str:
    if decision.action == "lift":
        return f"unban {decision.target}: {decision.note}"
    span_s = None if decision.end_ts is None else decision.end_ts - decision.start_ts
    text = f"ban {decision.target} {'for good' if span_s is None else f'for {render_duration(span_s)}'}"
    if finding is not None:
        text += f": {finding.rule}, {finding.count} within {render_duration(finding.within_s)}"
    return text


def _of_class(decision: Decision, signature: Signature) -> str:
    about = signature.text
    if decision.action == "lift":
        return f"turn away or ask no more: {about}: {decision.note}"
    span_s = (decision.end_ts or decision.start_ts) - decision.start_ts
    what = "turn away" if decision.action == "deny-request" else "ask browsers for a cookie"
    return f"{what} for {render_duration(span_s)}, sparing {len(decision.spare)}: {about}"
