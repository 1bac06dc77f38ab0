"""The circuit breaker of each rule: a rule that would hit visitors stops banning, goes on observing and says so.

It is driven by whom a rule hits, not by how many it bans: 100,000 banned attackers leave it alone. A finding hits a
visitor when its subject is, or holds, an address that has lately behaved like one (`visitors.py`) *and* most of the
lines that the rule counted are themselves what visitors do (a page that is there, an asset). The second half is what
keeps attackers from tripping it at will: posts to xmlrpc.php, wrong passwords and probes for what is not there count
for nothing, however many pages their sender loaded in between. To trip it, bots would have to get a rule to count
plain page loads, from as many networks as `min_visitors` says and a `share` of all that visitors came from, as
browsers make them, with three innocent requests for each foreign one.

A rule that bans at the very first request leaves nobody time to behave like a visitor: it is judged by those who
visited before it came, of whom there are none when a guard starts for the first time.

Visitors are counted by network (IPv4 /16, IPv6 /32), so that one network cannot trip it, nor hide that it tripped.

A tripped breaker stays so until the operator resets it, or until no visitor was hit for `calm_s`. Without that a rule
that was wild for an hour would be off for ever; with less, it would be let loose each night and hit the first visitors
of each morning.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import msgspec
from msgspec import Struct

from tocsin.decide.visitors import Visitors
from tocsin.duration import render_duration
from tocsin.model import Evidence, Finding, HttpRequest

HITS_KEPT = 1024  # of each rule
EXAMPLES = 3

Read = Callable[[Evidence], HttpRequest | None]


class BreakerSettings(Struct, frozen=True):
    """A rule trips when within `within_s` it would hit visitors of at least `min_visitors` networks, and of at least
    `share` of the networks that visitors lately came from. `calm_s` without such a hit resets it.
    """

    min_visitors: int = 5
    share: float = 0.1
    within_s: float = 3600.0
    calm_s: float = 86400.0


class Tripped(Struct, frozen=True, array_like=True):
    """That a rule has tripped: visitors it would have hit, of how many seen (both counted by network), and examples."""

    rule: str
    ts: float
    visitors: int
    seen: int
    within_s: float
    examples: tuple[str, ...]

    @property
    def text(self) -> str:
        """For people: what happened and what to do."""
        share = f"{100 * self.visitors / max(self.seen, 1):.0f}%"
        return (
            f"rule {self.rule} has stopped banning: within {render_duration(self.within_s)} it would have hit visitors "
            f"of {self.visitors} of the {self.seen} networks that visitors lately came from ({share}), such as "
            f"{', '.join(self.examples)}. Their bans are lifted; the rule goes on observing. See `tocsin why "
            f"{self.examples[0]}`, then correct the rule, or let it ban again with `tocsin rules reset {self.rule}`"
        )


class Reset(Struct, frozen=True, array_like=True):
    """That a rule bans again."""

    rule: str
    ts: float
    why: str

    @property
    def text(self) -> str:
        """For people."""
        return f"rule {self.rule} bans again: {self.why}"


Notice = Tripped | Reset


class _State(Struct, array_like=True):
    """One rule: when it hit which visitors, and whether it has tripped."""

    hits: dict[str, tuple[float, str]] = {}  # by address: when last, and the network it counts for
    bans: dict[str, float | None] = {}  # the bans of subjects that hold such an address, and their ends
    last_hit_ts: float = -math.inf
    last_subject: str = ""
    tripped: Tripped | None = None


class _Saved(Struct, array_like=True):
    rules: dict[str, _State]
    visitors: bytes


class Breaker:
    """The breakers of all rules. `read` turns a line of evidence back into its request, None where it is none."""

    def __init__(self, settings: BreakerSettings, visitors: Visitors, read: Read) -> None:
        self.settings = settings
        self.visitors = visitors
        self._read = read
        self._rules: dict[str, _State] = {}
        self._notices: list[Notice] = []

    def hit(self, finding: Finding) -> dict[str, float | None]:
        """Weigh a finding. When it trips the breaker: the bans to lift, because the rule had hit visitors with them."""
        if not self.visitors.may_hit(finding.subject):
            return {}
        requests = [self._read(evidence) for evidence in finding.evidence]
        hit = self.visitors.hit_by(finding.subject, requests[-1] if requests else None)
        if not hit or not self._are_visits(requests, next(iter(hit))):
            return {}
        state = self._rules.setdefault(finding.rule, _State())
        state.last_hit_ts = max(finding.ts, state.last_hit_ts)
        state.last_subject = finding.subject
        for address, visits in hit.items():
            state.hits.pop(address, None)
            state.hits[address] = (finding.ts, self.visitors.site(address, visits))
        while len(state.hits) > HITS_KEPT:
            del state.hits[next(iter(state.hits))]
        if state.tripped is not None or not self._weigh(finding, state):
            return {}
        bans, state.bans = state.bans, {}
        return bans

    def banned(self, finding: Finding, end_ts: float | None, target: str) -> None:
        """The finding has led to this ban: remembered where it hit a visitor, to be lifted if the rule proves wild."""
        state = self._rules.get(finding.rule)
        if state is None or state.last_subject != finding.subject:
            return
        state.bans.pop(target, None)
        state.bans[target] = end_ts
        if len(state.bans) > HITS_KEPT:
            del state.bans[next(iter(state.bans))]

    def _are_visits(self, requests: Sequence[HttpRequest | None], address: str) -> bool:
        """Whether more than half of the requests that were counted are what visitors do."""
        visiting = sum(r is not None and self.visitors.was_visiting(address, r) for r in requests)
        return 2 * visiting > len(requests)

    def _weigh(self, finding: Finding, state: _State) -> bool:
        """Whether the rule has hit too many visitors by now; then it trips."""
        since_ts = finding.ts - self.settings.within_s
        late = [address for address, (ts, _) in state.hits.items() if ts >= since_ts]
        sites = {state.hits[address][1] for address in late}
        if len(sites) < self.settings.min_visitors:
            return False
        seen = max(self.visitors.sites_seen(), len(sites))
        if len(sites) < self.settings.share * seen:
            return False
        examples = tuple(late[-EXAMPLES:])
        state.tripped = Tripped(finding.rule, finding.ts, len(sites), seen, self.settings.within_s, examples)
        self._notices.append(state.tripped)
        return True

    def reason(self, rule: str, now_ts: float) -> str | None:
        """Why the rule may not ban now, None where it may."""
        state = self._rules.get(rule)
        if state is None or state.tripped is None:
            return None
        if now_ts > state.last_hit_ts + self.settings.calm_s:
            self._reset(rule, now_ts, f"no visitor was hit for {render_duration(self.settings.calm_s)}")
            return None
        return f"breaker: the rule has hit visitors of {state.tripped.visitors} networks"

    def reset(self, rule: str, now_ts: float) -> bool:
        """Let the rule ban again, because the operator says so; False where it had not tripped."""
        if rule not in self.tripped():
            return False
        self._reset(rule, now_ts, "reset by the operator")
        return True

    def _reset(self, rule: str, now_ts: float, why: str) -> None:
        del self._rules[rule]
        self._notices.append(Reset(rule, now_ts, why))

    def tripped(self) -> dict[str, Tripped]:
        """The rules that have stopped banning."""
        return {rule: state.tripped for rule, state in self._rules.items() if state.tripped is not None}

    def take_notices(self) -> list[Notice]:
        """What has happened since the last call."""
        notices, self._notices = self._notices, []
        return notices

    def dump(self) -> bytes:
        """All state, the visitors' included, for a restart."""
        return msgspec.msgpack.encode(_Saved(self._rules, self.visitors.dump()))

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.DecodeError where it is none."""
        saved = msgspec.msgpack.decode(state, type=_Saved)
        self._rules = saved.rules
        self.visitors.load(saved.visitors)
