"""A siege: a class of requests far above its normal, which no count by address can see, and what is done about it.

What carries the excess is described as `explain` describes it (`detect/contrast.py`), and then held against what is
remembered of visitors and what is seen of them now (`gate.py`), before anything is done:

- Whoever sends `times` requests of the class is banned. Spared are visitors, and whoever sent such requests a quarter
  of an hour and more before.
- A class that one request is enough for is turned away in the web server (`deny-request`), because an address that
  comes once is banned too late. Of pages, it asks who wants them to show that he is a browser: it answers with a page
  whose script sets a cookie and asks again. That takes a browser a moment.
- Where visitors begin with such requests, too, only who claims to be a browser is asked (`limit`).
- A class that does not pass the gate is an alarm and no more: it looks like visitors.

It ends by itself when for `calm_s` few such requests came; it is taken up again at once when they come back within
`memory_s`.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct

from tocsin.decide.visitors import Visits, page_key
from tocsin.detect.contrast import Description, Feature
from tocsin.model import MAX_WILDCARDS, Finding, Signature

RULE = "contrast"
RENEWED = "renewed"  # the note of a denial that takes the place of another, and of the lift of that
LEASE_S = 600.0
RENEW_S = 300.0
GATHERED_S = 3.0
SPARED_MAX = 8192
TOLD_MAX = 2000  # of them, the last: the web server has a file for each
COUNTED_MAX = 50_000
COUNTED_WITHIN_S = 600.0
JUDGED_AFTER_S = 10.0
REFUSED_TIMES = 8  # a browser that is asked once comes back with the cookie; so do its other tabs
SIGNED = frozenset(("method", "path", "query", "vhost", "user_agent", "protocol"))


class SiegeSettings(Struct, frozen=True):
    """When a class of requests is under siege. `factor` and `least`: within a minute so many times the normal, and so
    many requests above it; half of both while the machine suffers. `hit_share`: the share of visitors that a measure
    may hit.
    """

    enabled: bool = True
    hit_share: float = 0.001
    factor: float = 4.0
    least: int = 15
    calm_s: float = 120.0
    memory_s: float = 6 * 3600.0
    ban_s: float = 600.0


class Change(Struct, frozen=True):
    """What happened to a siege: `enter` or `return`, `deny` or `ask` (what the web server does from now until `end_ts`,
    in place of `lifts`), `leave`, or `alarm` (an excess that no measure fits). `finding` is the siege's.
    """

    verb: Literal["enter", "return", "deny", "ask", "leave", "alarm"]
    ts: float
    signature: Signature
    note: str
    finding: Finding
    id: str = ""
    lifts: str | None = None
    end_ts: float | None = None
    spare: tuple[str, ...] = ()


class Sent(Struct, array_like=True, gc=False):
    """What one address has sent of a class: how many that were served and how many that were refused, since when, by
    which agent first, and whether by another since, and whether he has shown that he is a browser.
    """

    since_ts: float
    agent: str
    served: int = 0
    refused: int = 0
    several: bool = False
    shown: bool = False


class Siege(Struct):
    """One class under siege, described as it was `found` and as it was narrowed. `normal` is how many such requests
    strangers send in a minute, `limit` how many made it a siege, `arrivals` how many came in the last. Who sends
    `times` of them (0: any number; `agents`: by several agents) is banned: `counted` are the requests of each address.
    `spared` is whom no measure is to hit. `told` is the class as the web server is told of it, which turns it away
    (`turned_away`) or asks its senders; None: it does neither. `opens`: who is turned away gets through if he is a
    browser.
    """

    description: Description
    found: Description
    wanted: frozenset[Feature]
    signature: Signature
    times: int
    agents: bool
    finding: Finding
    note: str
    normal: float
    limit: float
    turned_away: bool
    opens: bool
    told: Signature | None
    began_ts: float
    hot_ts: float
    counted: dict[str, Sent]
    spared: dict[str, float]
    arrivals: float = 0.0
    left_ts: float | None = None
    denied: str = ""
    denied_until_ts: float = 0.0
    number: int = 0
    unsaid: bool = False  # somebody is spared who was not yet when the class was denied last

    @property
    def strictness(self) -> tuple[int, bool]:
        """Less is stricter, as in `gate.Measure`."""
        return self.times or 99, not self.agents

    def count(self, subject: str, ts: float, agent: str, *, refused: bool = False, page: bool = False) -> bool:
        """One more request of an address; whether it has sent too many by now. `refused`: it was answered with 429;
        `page`: it is one that the web server asks about.
        """
        sent = self.counted.pop(subject, None)
        if sent is None or sent.since_ts < ts - COUNTED_WITHIN_S:
            sent = Sent(ts, agent)
        self.counted[subject] = sent
        if len(self.counted) > COUNTED_MAX:
            del self.counted[next(iter(self.counted))]
        sent.several = sent.several or agent != sent.agent
        if refused:
            sent.refused += 1
        else:
            sent.served += 1
            sent.shown = sent.shown or (page and sent.refused > 0)
            sent.refused = 0  # he has shown the cookie; his other tabs may have been asked as well
        if (
            self.times != 1 or self.opens
        ) and ts < sent.since_ts + JUDGED_AFTER_S:  # it might yet be told for a visitor
            return False
        enough = max(self.times, 2) if self.opens else self.times  # who was served has shown to be a browser
        served = self.times > 0 and sent.served >= enough and sent.several >= self.agents
        return served or sent.refused >= REFUSED_TIMES

    def spare(self, subject: str, ts: float) -> None:
        """Spare an address from now on; who was spared longest ago makes room."""
        self.spared.pop(subject, None)
        self.spared[subject] = ts
        if len(self.spared) > SPARED_MAX:
            del self.spared[next(iter(self.spared))]

    def concerns(self, visits: Visits) -> bool:
        """Whether a visitor might send such a request: he has loaded the page that it is sent from, or visitors do."""
        return self.is_wide or page_key(self.signature.path or "") in visits.pages

    @property
    def is_wide(self) -> bool:
        """Whether any visitor might send such a request."""
        path = self.signature.path
        return self.signature.method in {"GET", "HEAD", None} or path is None or "*" in path

    def is_due(self, now_ts: float) -> bool:
        """Whether to deny the class anew: the lease runs out, or there are others to spare. Where any visitor is, they
        are gathered for a few seconds: each time the whole list is written.
        """
        if now_ts > self.denied_until_ts - RENEW_S:
            return True
        said_ts = self.denied_until_ts - LEASE_S
        return self.unsaid and now_ts >= said_ts + (GATHERED_S if self.is_wide else 0.0)


def signature_of(description: Description) -> Signature | None:
    """The class as the web server is told of it. None where it says of nothing what is asked for or who asks, or says
    what no signature can (a protocol without a method among it) or no web server is told (too many `*`).
    """
    values = {dimension: value for dimension, value in description if dimension in SIGNED}
    if len(values) < len(description) or not values.keys() & {"path", "query", "user_agent"}:
        return None
    if "protocol" in values and not ("method" in values and values["protocol"]):
        return None
    if values.get("path", "").count("*") > MAX_WILDCARDS:
        return None
    return Signature(**values)


def question_of(description: Description) -> Signature | None:
    """The pages whose senders are asked whether they are browsers: all of the site. It costs a visitor a moment and is
    asked once, so it is asked wide: asked narrowly, a crowd goes on with the site's other pages. None where the class
    is of no pages that browsers get.
    """
    values = dict(description)
    return Signature("GET", vhost=values.get("vhost")) if values.get("method", "GET") == "GET" else None


def text_of(description: Description) -> str:
    """A class for people, with what no signature can say."""
    values = dict(description)
    signed = Signature(**{name: value for name, value in values.items() if name in SIGNED})
    beside = [values["contact"]] if values.get("contact") else []
    return ", ".join([signed.text, *beside] if signed != Signature() or not beside else beside)
