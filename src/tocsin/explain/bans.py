"""Whom to ban of those who sent a class of requests, and whom to spare. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from ipaddress import ip_network

from tocsin.decide.crawlers import claimed_crawler
from tocsin.detect.contrast import holds
from tocsin.explain.accuse import Accused, folded
from tocsin.explain.agents import honest_name
from tocsin.explain.crawling import genuine, genuine_crawler
from tocsin.explain.kinds import is_broad
from tocsin.explain.load import BEFORE_S, Load, key_of
from tocsin.explain.model import Accesses, Profile, Said, Spared, say
from tocsin.explain.suspects import SUBJECT
from tocsin.explain.visitors import fetched_files, has_no_files, is_visitor

_FEW = 5
_SOME = 3
_AS_OFTEN = 2.0
_ONCE_OR_SO = 3
_FEW_SENDERS = frozenset(("request-flood", "expensive-requests"))
_NEXT_TO_NOTHING = 0.05
"""Of what those send who sent most of a class of few senders: who sent less only met it."""

_CROWDS = frozenset(("distributed-flood", "login-bruteforce"))
_LONG_BEFORE_S = 60.0
_FEW_NETWORKS = 16
_NEARLY_ALL = 0.95
_LEAST_VISITORS = 20
"""Addresses before an outage that tell from how many networks visitors come."""

_LEAST_SENDERS = 5


def usual_senders(accesses: Accesses, accused: Accused, load: Load, start_ts: float, end_ts: float) -> frozenset[str]:
    """Who sent requests of a class before it rose (`start_ts`), too, and about as often: in a crowd that sends few each
    and came at once, an app that belongs to the site, or a bot that takes its time.
    """
    earliest_ts = max(accesses.start or start_ts, start_ts - BEFORE_S)
    before_s, now_s = start_ts - earliest_ts, min(end_ts, accesses.end or end_ts) - start_ts
    signature = accused.suspect.signature
    if signature is None or accused.suspect.cause not in _CROWDS or min(before_s, now_s) <= 0:
        return frozenset()
    before = dict(folded(accesses.actors(signature, earliest_ts, start_ts)))
    now = {actor.subject: actor.requests for actor in accused.suspect.actors}
    return _usual_bots(load, accused, now, now_s) | {
        subject
        for subject, number in before.items()
        if number >= _SOME and now.get(subject, 0) / now_s <= _AS_OFTEN * number / before_s
    }


def _usual_bots(load: Load, accused: Accused, now: Mapping[str, int], now_s: float) -> frozenset[str]:
    """Who is of a network from which bots that say what they are came about as often before, at this hour of other days
    too: a slow one (ClaudeBot) sends but a few requests a day from each of its addresses.
    """
    if accused.carried is None or not load.before_s:
        return frozenset()
    described = accused.carried.contrast.features
    bots = {agent for agent in {group.user_agent for group in load.before} if agent and honest_name(agent)}
    before: Counter[str] = Counter()
    for group in load.before:
        if group.source_ip and group.user_agent in bots and holds(described, load.cells[key_of(group)]):
            before[_block(group.source_ip)] += group.requests
    sent: Counter[str] = Counter()
    for subject, number in now.items():
        sent[_block(subject)] += number
    usual = {
        block
        for block, number in before.items()
        if number >= _SOME and sent[block] / now_s <= _AS_OFTEN * number / load.before_s
    }
    return frozenset(subject for subject in now if _block(subject) in usual)


def bans_of(
    accused: Accused,
    profiles: Mapping[str, Profile],
    load: Load,
    start_ts: float,
    usual: AbstractSet[str] = frozenset(),
) -> tuple[tuple[str, ...], tuple[Spared, ...]]:
    """Every address of a class that may be banned, the most requests first; and whom to spare with the reason.
    `start_ts`: when the class began; `usual` are those of `usual_senders`.
    """
    if accused.carried is not None and is_broad(accused.carried.signature) and not accused.rose:
        return (), ()
    only_genuine = accused.carried is not None and genuine_crawler(accused.carried) is not None
    files_elsewhere, least = has_no_files(load), _least_sent(accused)
    agents = accused.carried.agents if accused.carried is not None else Counter[str]()
    crawler = claimed_crawler(max(agents, key=agents.__getitem__, default=""))
    ban: list[str] = []
    spare: list[Spared] = []
    for address, requests in ((actor.subject, actor.requests) for actor in accused.suspect.actors):
        profile = profiles.get(address)
        known = genuine(address, crawler)
        why: Said | None = None
        if known is not None:
            why = say("a genuine {crawler}: its address is one that is published", crawler=known)
        elif profile is not None:
            why = _as_visitor(profile, requests, start_ts, files_elsewhere=files_elsewhere)
        if why is None and requests < least:
            why = say("it sent but {requests} of these, next to nothing beside the others", requests=requests)
        if why is None and address in usual:
            why = say("such requests came from it, or from beside it, before, and as often as now")
        if why is not None:
            spare.append(Spared(address, why))
        elif not (only_genuine or ip_network(address).is_loopback):
            ban.append(address)
    return tuple(ban), tuple(spare)


def _as_visitor(profile: Profile, requests: int, start_ts: float, *, files_elsewhere: bool) -> Said | None:
    """Why to spare whom all that it did, beside so many requests of a class, shows to be no attacker."""
    if fetched_files(profile):
        return say("it behaves like a visitor: it fetched {assets} files of pages", assets=profile.assets)
    if is_visitor(profile, files_elsewhere=files_elsewhere, answered=_FEW):
        return say("it behaves like a visitor: it followed {referred} links", referred=profile.referred)
    if requests <= _FEW and profile.first_ts < start_ts - _LONG_BEFORE_S:
        return say("it came before the outage began, too, and sent but {requests} of these", requests=requests)
    if requests <= _ONCE_OR_SO and _got_no_answer(profile):
        return say("it followed a link, and nothing that it asked for was answered")
    return None


def _got_no_answer(profile: Profile) -> bool:
    """Whether a visitor may be one who met the outage: such fetch no files, since they got no page."""
    return profile.referred > 0 and not profile.posts and profile.failed == profile.requests


def _least_sent(accused: Accused) -> float:
    """Fewer requests than this convict nobody of a flood from few addresses: a part of what the address sent at which
    half of them is reached.
    """
    if accused.suspect.cause not in _FEW_SENDERS:
        return 0.0
    sent, half = 0, accused.suspect.requests / 2
    for actor in accused.suspect.actors:
        sent += actor.requests
        if sent >= half:
            return _NEXT_TO_NOTHING * actor.requests
    return 0.0


def own_of(accused: Accused) -> tuple[Spared, ...]:
    """The site's own server, whose requests to itself are accused: it is to be mended, not banned."""
    why = say("it is the site's own server: its WordPress calls itself")
    return tuple(Spared(actor.subject, why) for actor in accused.suspect.actors)


def front_of(load: Load, accused: Accused) -> Said | None:
    """Why to ban no address at all: visitors, too, come from the few networks that a class comes from, so these are of
    what stands before the site. None where visitors come from elsewhere, or from too many networks to be one's.
    """
    if accused.carried is None or len(accused.carried.addresses) < _LEAST_SENDERS:
        return None
    asked = {(group.method, group.path) for group in accused.carried.groups}
    others = (group for group in load.before if (group.method, group.path) not in asked)
    theirs = Counter(map(_network, {SUBJECT(group.source_ip) for group in others if group.source_ip}))
    number = theirs.total()
    few = theirs.most_common(_FEW_NETWORKS)
    if number < _LEAST_VISITORS or sum(each for _, each in few) < _NEARLY_ALL * number:
        return None
    shared = {network for network, _ in few}
    ours = Counter(_network(address) for address in accused.carried.addresses)
    if sum(each for network, each in ours.items() if network in shared) < _NEARLY_ALL * ours.total():
        return None
    return say(
        "visitors come from the same {number} networks as these requests, such as {network}: they are of what stands "
        "before the site (a CDN, a proxy), and to ban it is to shut everybody out; let the web server take the "
        "clients' own addresses from it (mod_remoteip, ngx_http_realip_module)",
        number=len(few),
        network=few[0][0],
    )


def _block(subject: str) -> str:
    """The addresses beside one's: a /24, or an IPv6 /48."""
    network = ip_network(subject)
    return str(network.supernet(new_prefix=24 if network.version == 4 else 48))


def _network(subject: str) -> str:
    """The network that an address's owner has, about: a /16, or an IPv6 /32."""
    network = ip_network(subject)
    return str(network.supernet(new_prefix=16 if network.version == 4 else 32))
