"""From classes of requests to suspects: what each is called in the vocabulary of causes, and what speaks against it.
Pure.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence

from msgspec import Struct, structs

from tocsin.decide.crawlers import claimed_crawler
from tocsin.explain.agents import honest_name
from tocsin.explain.crawling import genuine_crawler, is_honest_client
from tocsin.explain.kinds import is_broad, risen_kinds, spill_of
from tocsin.explain.load import Load
from tocsin.explain.logins import guesses_at_logins
from tocsin.explain.model import Accesses, Actor, Cause, Said, Suspect, Value, say
from tocsin.explain.ownsite import runs_own_jobs
from tocsin.explain.readers import readers_of
from tocsin.explain.returning import (
    came_before,
    fetches_repositories,
    fetches_what_was_shared,
    previews_what_was_shared,
)
from tocsin.explain.surges import VISITORS, why_surge
from tocsin.explain.suspects import SUBJECT, Carried
from tocsin.explain.waiting import Full, has_waited
from tocsin.model import Signature

_SEARCH = frozenset(("s=", "q=", "query=", "search=", "keyword=", "keywords=", "term="))

_MANY = 20
_FEW_EACH = 12.0
_SPREAD = 0.2
"""The ten busiest addresses send no more than this of what is spread over many."""

_SEVERAL = 6
_ONCE = 2.0
_ONE_CLIENT = 0.9
_LATE_S = 20.0
"""A class that begins later than this after the first symptom is an effect of it."""

_ROSE = 3.0
_MOSTLY = 0.5
_FAILED = 500
_WAITED = say("they are logged as they end, and had waited: when they came is not known")

_RETRIED = say("most of them failed, and they came when a service was gone already: rather retries, an effect of it")

_NO_FILES = say("these logs hold next to no files of pages at any time: that these fetched none says nothing of them")
_DOUBTFUL, _PRESUMED = 0.25, 0.75
"""The most that is said against a crowd that may be readers, and for one that seems to be."""

_DEAR = 3.0
"""So many times the cost of a page make a request expensive."""

_SLOW_S = 8.0
_UNHURT_S = 2.5
_OVER_S = 120.0
_HARDLY = 0.25
_SURGES = 1.5
_LEAST: dict[Cause, tuple[int, int]] = {
    "legitimate-surge": (30, 8),
    "crawler": (30, 1),
    "request-flood": (10, 1),
    "login-bruteforce": (10, 1),
    "distributed-flood": (5, 5),
}
"""Requests, and addresses, below which a class is no such thing."""

_LEAST_POOLED = 0.2
_POOLED = 0.7
"""What is left of the doubt for each further outage before which the same class stood."""

_NUMEROUS = 3.0
"""Requests a second that no server falls by for their number, however few come to it as a rule."""


class Accused(Struct, frozen=True):
    """A suspect, how strongly the evidence speaks against it (0 to 1), and what it came from, where it is requests.
    `rose` are the kinds of requests that rose in a class that says too little by itself (see `is_broad`): its actors
    are who sent these, and where none rose nobody is convicted.
    """

    suspect: Suspect
    score: float
    carried: Carried | None = None
    rose: tuple[Signature, ...] = ()


def accused_requests(
    accesses: Accesses,
    load: Load,
    classes: Iterable[Carried],
    first_ts: float,
    end_ts: float,
    lost_ts: float | None = None,
    full: Full | None = None,
) -> list[Accused]:
    """The classes as suspects, the likeliest first, with all who sent them until `end_ts`. `lost_ts`: when a service
    was gone that pages need, where that came first; `full`: when all workers were busy, where that came first.
    """
    found = []
    for each in classes:
        rose = risen_kinds(load, each) if is_broad(each.signature) else ()
        one = structs.replace(each, spill=spill_of(load, rose)) if rose else each
        actors = senders(accesses, rose or (one.signature,), load.start, end_ts)
        held = accesses.took(one.signature, load.start, load.end)
        waited = one.first_ts > first_ts + _LATE_S and has_waited(accesses, load, one, full)
        retried = lost_ts is not None and _is_retried(load, one, lost_ts)
        found.append(_accused(load, one, rose, first_ts, actors, held, waited=waited, retried=retried))
    return sorted(found, key=lambda one: -one.score)


def senders(accesses: Accesses, kinds: Iterable[Signature], start_ts: float, end_ts: float) -> list[tuple[str, int]]:
    """Who sent requests of these classes in a span, IPv6 by /64, and how many, the most first."""
    return folded(actor for kind in kinds for actor in accesses.actors(kind, start_ts, end_ts))


def _is_retried(load: Load, one: Carried, lost_ts: float) -> bool:
    """Whether a class is what programs do that are answered with an error: try again. It came with the loss, and most
    of it failed.
    """
    if _rose_before(load, one, lost_ts):
        return False
    failed = sum(
        group.requests
        for group in one.groups
        if group.status is not None and group.status >= _FAILED and group.first_ts >= lost_ts
    )
    return failed >= (_MOSTLY if one.first_ts >= lost_ts else _ONE_CLIENT) * one.requests


def _rose_before(load: Load, one: Carried, lost_ts: float) -> bool:
    """Whether a class had come far above its usual rate when a service was still there: it may have brought it down,
    and what of it failed later proves nothing.
    """
    if not load.before_s:
        return False  # what is usual is not known
    number = sum(group.requests for group in one.groups if group.first_ts < lost_ts)
    usual = one.contrast.before * (lost_ts - load.start) / load.before_s
    return number >= max(_MANY, _ROSE * usual)


def folded(actors: Iterable[tuple[str, int]]) -> list[tuple[str, int]]:
    """Actors as they are banned, the most requests first: IPv6 by /64."""
    sums: Counter[str] = Counter()
    for address, number in actors:
        sums[SUBJECT(address)] += number
    return sums.most_common()


def _accused(
    load: Load,
    one: Carried,
    rose: tuple[Signature, ...],
    first_ts: float,
    actors: list[tuple[str, int]],
    held: tuple[float, float],
    *,
    waited: bool,
    retried: bool,
) -> Accused:
    cause = "slow-connections" if _is_slow(load, one, held) else cause_of(load, one)
    late = (one.first_ts > first_ts + _LATE_S and not waited) or one.last_ts < first_ts - _OVER_S or retried
    strength = load.rise / (load.rise + 6.0)
    score = min(0.95, 1.05 * one.contrast.share * one.contrast.purity * strength) * (0.15 if late else 1.0)
    score *= (1 - min(1.0, one.spill) / 2) * _enough(load, one, cause)
    score *= 0.9 if waited else 1.0  # that they came first is inferred
    if not load.before_s:
        score *= 0.7
    readers = None if one.visitors >= VISITORS else readers_of(load, one)
    if readers is not None:
        score = min(score, _DOUBTFUL if readers == "perhaps" else _PRESUMED)
    lift = one.contrast.lift if load.before_s else None
    suspect = Suspect(
        "connections" if cause == "slow-connections" else "requests",
        cause,
        name_of(one.signature, rose),
        _why(load, one, cause),
        one.signature,
        actors=tuple(Actor(address, number) for address, number in actors),
        requests=sum(number for _, number in actors),
        share=one.contrast.share,
        lift=lift,
        counter_evidence=_NO_FILES
        if readers is not None
        else _RETRIED
        if retried
        else _WAITED
        if waited
        else _against(load, one, first_ts),
    )
    return Accused(suspect, score, one, rose)


def pooled(cases: Sequence[Sequence[Accused]]) -> list[list[Accused]]:
    """The accused of several outages, those that stand before more than one of them accused more strongly of each: what
    is there each time is no chance.
    """
    strongest: defaultdict[tuple[str | None, str | None], list[float]] = defaultdict(list)
    for accused in cases:
        best: dict[tuple[str | None, str | None], float] = {}
        for one in accused:
            if (key := _key(one)) is not None:
                best[key] = max(one.score, best.get(key, 0.0))
        for key, score in best.items():
            if score >= _LEAST_POOLED:
                strongest[key].append(score)
    return [sorted((_again(one, strongest) for one in accused), key=lambda one: -one.score) for accused in cases]


def _key(one: Accused) -> tuple[str | None, str | None] | None:
    signature = one.suspect.signature
    return None if signature is None or signature.path is None else (signature.method, signature.path)


def _again(one: Accused, strongest: Mapping[tuple[str | None, str | None], Sequence[float]]) -> Accused:
    key = _key(one)
    times = len(strongest.get(key, ())) if key is not None else 0
    if times < 2 or one.score < _LEAST_POOLED:
        return one
    return structs.replace(one, score=1 - (1 - one.score) * _POOLED ** min(times - 1, 3))


def _enough(load: Load, one: Carried, cause: Cause) -> float:
    """Whether there were enough of them to matter at all: 1, or less where a server would hardly have noticed."""
    least_requests, least_addresses = _LEAST.get(cause, (4, 1))
    if cause == "legitimate-surge":
        now = sum(cell.now for cell in load.cells.values())
        if load.before_s and now / load.now_s < _SURGES * _usual(load):
            return 0.3
        if one.visitors < VISITORS:
            least_addresses = 1  # a crowd it need not be: a mirror, or a crawler
    few = one.requests < least_requests or len(one.addresses) < least_addresses
    return _HARDLY if few else 1.0


def _is_slow(load: Load, one: Carried, held: tuple[float, float]) -> bool:
    """Whether it is the clients that take their time: a body comes drop by drop, and others are served as fast as ever
    meanwhile. Few of them hold all workers, each several as a rule: what many ask for, one answer at a time, and what
    is known to be dear takes long by itself.
    """
    ours_s, others_s = held
    if one.signature.method != "POST" or ours_s < _SLOW_S or others_s > _UNHURT_S:
        return False
    at_once = one.requests * ours_s / load.now_s
    few = len(one.addresses) < max(_MANY, at_once)
    return few and not (one.signature.path or "").endswith("/xmlrpc.php")


# -- what it is called -------------------------------------------------------------------------------------------------


def cause_of(load: Load, one: Carried) -> Cause:
    """What a class of requests is, in the vocabulary of causes: the first that fits."""
    if one.visitors >= VISITORS:
        return "legitimate-surge"
    if runs_own_jobs(load, one):
        return "local-job"
    if readers_of(load, one) == "readers":
        return "legitimate-surge"
    if guesses_at_logins(one):
        return "login-bruteforce"
    if fetches_repositories(load, one):
        return "legitimate-surge"
    if genuine_crawler(one) is not None or is_honest_client(one):
        return "crawler"
    number = len(one.addresses)
    few_each = one.each <= _FEW_EACH or one.topmost <= _SPREAD
    many = (number >= _MANY and few_each) or (number >= _SEVERAL and one.each <= _ONCE)
    if many and _is_known_crowd(load, one):
        return "legitimate-surge"
    dear = _is_dear(load, one)
    if many and not (dear and _is_search(one)):
        return "distributed-flood"
    if dear and one.requests / load.now_s <= max(_NUMEROUS, _usual(load)):
        return "expensive-requests"
    return "distributed-flood" if many else "request-flood"


def _is_known_crowd(load: Load, one: Carried) -> bool:
    """Whether a crowd of no visitors may come all the same."""
    return previews_what_was_shared(one) or fetches_what_was_shared(load, one) or came_before(load, one)


def _usual(load: Load) -> float:
    """How many requests a second the server answered before: those it bears, so no more of others fell it by number."""
    return sum(cell.before for cell in load.cells.values()) / load.before_s if load.before_s else 0.0


def _is_search(one: Carried) -> bool:
    return one.signature.query is not None and one.signature.query.partition("=")[0] + "=" in _SEARCH


def _is_dear(load: Load, one: Carried) -> bool:
    if _is_search(one):
        return True
    return load.measured and one.contrast.now_cost / max(1, one.requests) >= _DEAR * load.unit_s


# -- what is said of it ------------------------------------------------------------------------------------------------


def name_of(signature: Signature, rose: Sequence[Signature] = ()) -> Said:
    """A class of requests in a few words: `POST /xmlrpc.php`, the agent named where nothing else tells; one that says
    too little by the kinds in it that rose most.
    """
    if len(rose) > 2:
        return say("{requests}, {others} and the like", requests=_words(rose[0]), others=_words(rose[1]))
    if len(rose) == 2:
        return say("{requests} and {others}", requests=_words(rose[0]), others=_words(rose[1]))
    if rose:
        return say("{requests}", requests=_words(rose[0]))
    words = _words(signature)
    agent = signature.user_agent or ""
    name = claimed_crawler(agent) or honest_name(agent)
    if words and name:
        return say('{requests} as "{agent}"', requests=words, agent=name)
    if signature.path or signature.query or not agent:
        return say("{requests}", requests=words) if words else say("all requests")
    return say('{requests} as "{agent}"', requests=words or "*", agent=name or agent)


def _words(signature: Signature) -> str:
    target = (signature.path or "") + (f"?{signature.query}" if signature.query else "")
    return " ".join(part for part in (signature.method, signature.vhost and f"{signature.vhost}:", target) if part)


def _why(load: Load, one: Carried, cause: Cause) -> Said:
    facts: dict[str, Value] = {
        "requests": one.requests,
        "addresses": len(one.addresses),
        "span": load.now_s,
        "share": one.contrast.share,
        "lift": one.contrast.lift,
    }
    if cause == "legitimate-surge":
        return why_surge(load, one, facts)
    if cause == "local-job":
        return say("{requests} requests in {span:span} by the site's own WordPress, to run its scheduled jobs", **facts)
    if cause == "crawler" and (crawler := genuine_crawler(one)) is not None:
        return say(
            "{requests} requests in {span:span} by {addresses} addresses, most of them from the published networks of "
            "crawlers such as {crawler}; {share:share} of the excess load, {lift:times} the usual",
            crawler=crawler,
            **facts,
        )
    if cause == "crawler":
        return say(
            "{requests} requests in {span:span} by one client that says what it is; {share:share} of the excess load",
            **facts,
        )
    if load.measured:
        return say(
            "{requests} requests in {span:span} by {addresses} addresses; {share:share} of the excess time of workers, "
            "{lift:times} the usual rate",
            **facts,
        )
    return say(
        "{requests} requests in {span:span} by {addresses} addresses; {share:share} of the excess load (estimated: no "
        "durations are logged), {lift:times} the usual rate",
        **facts,
    )


def _against(load: Load, one: Carried, first_ts: float) -> Said | None:
    if one.first_ts > first_ts + _LATE_S:
        return say("it began {span:span} after the first symptom: rather an effect", span=one.first_ts - first_ts)
    if not load.before_s:
        return say("the logs hold nothing from before: what is usual here is not known")
    if one.contrast.before:
        return say(
            "such requests came before, too: {before} in {span:span}", before=one.contrast.before, span=load.before_s
        )
    if not load.measured:
        return say("what each request cost is an estimate: log durations (%D) to be sure")
    return None
