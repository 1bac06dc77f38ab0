"""The gate: before a class of requests is acted upon, it is held against the visitors. Pure.

Of the visitors remembered, and of those seen in the last minute, at most `hit_share` may have sent such a request so
many times (`times`), perhaps by more than one agent, before they could be told for visitors. The strictest measure that
passes is taken. None passes where most of those who send such requests now are visitors: then they are more than usual.
Where no count passes, and hardly any of the senders is a visitor, pages can still be asked for (`siege.py`): that hits
nobody who has a browser.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct

from tocsin.decide.siege import SiegeSettings
from tocsin.detect.contrast import Description
from tocsin.detect.normal import Normal

STEPS = ((1, False), (2, True), (2, False), (3, False), (5, False))  # times, and whether by several agents
KNOWN_AFTER_S = 900.0
LEAST_SENDERS = 3
LEAST_PURITY = 0.8  # how much of such requests must be excess for one request to be enough
NORMAL_SHARE = 0.02  # of all requests may normally be such ones of strangers, for the same
VISITING_SHARE = 0.5  # of the senders, at most
ASKED_VISITING_SHARE = 0.1  # of the senders, where they are only asked
LEAST_REACHED = 0.25  # of such requests, from those whom a count would hit: a crowd that comes once is not met by it
LEAST_VAGUE = 10  # of those, where a class does not say what is asked for: what others leave over looks like one
FAMILIAR_SHARE = 0.5  # of such requests, by programs that ask for the same at other times
MANY_VISITORS = 2  # so many of the last minute, or more, speak against a measure; one may have been sent to


class Present(Struct):
    """Who sent requests of a class within the last minute, before they were told for visitors, and by which agents:
    those who turned out to be `visitors`, and the `strangers`; how many visitors there were at all; the share of all
    senders who are visitors; and the share of the strangers' requests by programs that ask for the same at other times.
    """

    visitors: Mapping[str, Sequence[str]]
    strangers: Mapping[str, Sequence[str]]
    all_visitors: int
    visiting: float
    familiar: float


class Measure(Struct, frozen=True):
    """How many requests are enough, whether by several agents only, and whom that would hit; `times` 0: nobody may be
    banned for their number, and why; `asks`: but all can be asked to show that they are browsers.
    """

    times: int
    note: str
    agents: bool = False
    asks: bool = False

    @property
    def strictness(self) -> tuple[int, bool]:
        """Less is stricter."""
        return self.times or 99, not self.agents


def measure_of(
    description: Description,
    normal: Normal,
    present: Present,
    settings: SiegeSettings,
    purity: float,
    *,
    asks: bool,
    is_form: bool = False,
) -> Measure:
    """The narrowest sufficient measure against a class. `purity` is how much of it is excess, 0 to 1. `asks`: its
    senders can be asked to show that they are browsers. `is_form`: it is the page from which what is under siege is
    posted, where everybody begins who has a right to: it is not to be closed where nobody can be asked.
    """
    if present.visiting > VISITING_SHARE:
        return Measure(0, f"{present.visiting:.0%} of those who send such requests are visitors")
    if present.familiar > FAMILIAR_SHARE:
        return Measure(0, f"{present.familiar:.0%} of them are by programs that ask for the same at other times")
    why = ""
    sent = sum(map(len, present.strangers.values()))
    vague = not {"path", "query"} & {dimension for dimension, _ in description}
    for times, agents in STEPS:
        before = normal.share_of_visitors(description, times, agents=agents)
        hit = sum(is_enough(each, times, agents=agents) for each in present.visitors.values())
        reached = [len(each) for each in present.strangers.values() if is_enough(each, times, agents=agents)]
        others = len(reached)
        if before > settings.hit_share:
            why = f"{before:.1%} of the visitors remembered sent such requests"
        elif hit >= MANY_VISITORS and hit > settings.hit_share * present.all_visitors:
            why = f"{hit} of the {hit + others} who sent such requests lately are visitors"
        elif times == 1 and is_form and not asks:
            why = "everybody begins there who logs in"
        elif times == 1 and (purity < LEAST_PURITY or normal.share_of_all(description) > NORMAL_SHARE):
            why = "too many such requests are normal"
        elif others < (LEAST_VAGUE if vague else LEAST_SENDERS) or sum(reached) < LEAST_REACHED * sent:
            why = why or f"too few send {times} of them"
        else:
            of = len(normal.visitors)
            return Measure(
                times, f"it would hit {before:.2%} of {of} visitors remembered, {hit} of those here now", agents
            )
    few = len(present.strangers) < LEAST_SENDERS
    if asks and purity >= LEAST_PURITY and present.visiting <= ASKED_VISITING_SHARE and not few:
        return Measure(0, f"nobody is banned for their number, because {why}", asks=True)
    return Measure(0, why)


def is_enough(sent: Sequence[str], times: int, *, agents: bool) -> bool:
    """Whether so many requests, each by its agent, are too many."""
    return len(sent) >= times and not (agents and len(set(sent)) < 2)


def known_before(normal: Normal, description: Description, now_ts: float) -> Iterable[str]:
    """The addresses that have sent such requests for so long that they are no part of what began just now, who sent the
    most kinds of them last: he is the last to make room.
    """
    found = normal.known_sources(description)
    return (who for who, ts in found.items() if ts <= now_ts - KNOWN_AFTER_S)
