"""Whom to ban of those who sent a class of requests, and whom to spare. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_network

from tocsin.decide.crawlers import claimed_crawler, in_published_range
from tocsin.explain.accuse import Accused, folded
from tocsin.explain.load import BEFORE_S, Load
from tocsin.explain.model import Accesses, Profile, Spared, say
from tocsin.explain.suspects import is_visitor

_FEW = 5
_SOME = 3
_AS_OFTEN = 2.0
_CROWDS = frozenset(("distributed-flood", "login-bruteforce"))
_LONG_BEFORE_S = 60.0


def usual_senders(accesses: Accesses, accused: Accused, load: Load, end_ts: float) -> frozenset[str]:
    """Who sent requests of a class before it rose, too, and about as often: in a crowd that sends few each and came at
    once, an app that belongs to the site.
    """
    start_ts = max(accesses.start or load.start, load.start - BEFORE_S)
    before_s, now_s = load.start - start_ts, min(end_ts, accesses.end or end_ts) - load.start
    signature = accused.suspect.signature
    if signature is None or accused.suspect.cause not in _CROWDS or min(before_s, now_s) <= 0:
        return frozenset()
    before = dict(folded(accesses.actors(signature, start_ts, load.start)))
    now = {actor.subject: actor.requests for actor in accused.suspect.actors}
    return frozenset(
        subject
        for subject, number in before.items()
        if number >= _SOME and now.get(subject, 0) / now_s <= _AS_OFTEN * number / before_s
    )


def bans_of(
    accused: Accused, profiles: Mapping[str, Profile], onset_ts: float, usual: AbstractSet[str] = frozenset()
) -> tuple[tuple[str, ...], tuple[Spared, ...]]:
    """Every address of a class that may be banned, the most requests first; and whom to spare with the reason. `usual`
    are those of `usual_senders`.
    """
    ban: list[str] = []
    spare: list[Spared] = []
    agents = accused.carried.agents if accused.carried is not None else Counter[str]()
    crawler = claimed_crawler(max(agents, key=agents.__getitem__, default=""))
    for address, requests in ((actor.subject, actor.requests) for actor in accused.suspect.actors):
        profile = profiles.get(address)
        if crawler is not None and in_published_range(crawler, address.partition("/")[0], None):
            why = say("a genuine {crawler}: its address is one that is published", crawler=crawler)
            spare.append(Spared(address, why))
        elif profile is not None and is_visitor(profile):
            why = say("it behaves like a visitor: it fetched {assets} files of pages", assets=profile.assets)
            spare.append(Spared(address, why))
        elif profile is not None and requests <= _FEW and profile.first_ts < onset_ts - _LONG_BEFORE_S:
            why = say("it came before the outage began, too, and sent but {requests} of these", requests=requests)
            spare.append(Spared(address, why))
        elif address in usual:
            spare.append(Spared(address, say("it sent such requests before, too, and no more often now")))
        elif not ip_network(address).is_loopback:
            ban.append(address)
    return tuple(ban), tuple(spare)
