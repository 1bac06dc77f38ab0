"""Crowds of programs that belong to the site's own life: those that preview or fetch what was shared, those that fetch
repositories, and those that come all the time. Pure.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from tocsin.detect.contrast import holds
from tocsin.explain.agents import honest_name
from tocsin.explain.load import Load, key_of, kind_of
from tocsin.explain.model import Group
from tocsin.explain.suspects import SUBJECT, Carried

_FEDIVERSE = re.compile(
    r"(?:Mastodon|Pleroma|Akkoma|Lemmy|gotosocial|Friendica|Misskey|SummalyBot|Firefish|Sharkey|Iceshrimp|Pixelfed"
    r"|PeerTube|Hubzilla|Mobilizon|BookWyrm|Mbin|kbin)[/ (;].{0,200}?https?://([\w.-]{1,253})",
    re.IGNORECASE,
).search
_GIT = ("/info/refs", "/git-upload-pack")
"""What git asks for to fetch: what there is, then a pack of it."""

_HOSTS = 20
_NEARLY_ALL = 0.9
_MOST = 0.5
_ONCE = 1.5
_CROWD = 20
_READERS = 20
_READERS_SHARE = 0.05
"""Readers of a page, and of a crowd that fetches what belongs to it, below which it was not shared."""

_READ_MORE = 5.0
_FILES = 2
_PLACE = 3
"""How many parts of a path, the empty one before its first slash included, tell what belongs together."""

_LONG_BEFORE_S = 600.0
_FAILED = 400


def previews_what_was_shared(one: Carried) -> bool:
    """Whether most of a class is servers of the fediverse, each naming its own host, that fetch once what somebody
    shared. An agent is a claim: but who forges it to load a server sends more than one request of each.
    """
    theirs = [(group, named[1]) for group in one.groups if (named := _FEDIVERSE(group.user_agent or ""))]
    if any(group.method not in {"GET", "HEAD"} for group, _ in theirs):
        return False
    number = sum(group.requests for group, _ in theirs)
    hosts = {host.lower() for _, host in theirs}
    return len(hosts) >= _HOSTS and number >= _MOST * one.requests and number <= _ONCE * len(hosts)


def fetches_what_was_shared(load: Load, one: Carried) -> bool:
    """Whether a crowd fetches what is of one place, once each, while far more people than usual read there: a release,
    or a link that a chat's servers preview. People fetch files too, which costs an attacker a browser for each; and who
    fetches for them says that it is a program, which a crowd in disguise does not.
    """
    signature, number = one.signature, len(one.addresses)
    if signature.method != "GET" or not signature.path or signature.query:
        return False
    if number < _CROWD or one.each > _ONCE or not load.before_s:
        return False
    places: Counter[str] = Counter()
    for group in one.groups:
        places[_place(group.path)] += group.requests
    (place, there), *_ = places.most_common(1)
    if there < _NEARLY_ALL * one.requests:
        return False
    told = sum(requests for agent, requests in one.agents.items() if honest_name(agent) is not None)
    if told < _MOST * one.requests:
        return False
    now, before = _readers(load.groups, place), _readers(load.before, place)
    is_read = now >= max(_READERS, _READERS_SHARE * number)
    return is_read and now / load.now_s >= _READ_MORE * (before + 1) / load.before_s


def _place(path: str) -> str:
    """What a path belongs to: a page, a project, which git knows as `project.git`."""
    return "/".join(path.split("/")[:_PLACE]).removesuffix(".git").rstrip("/") or "/"


def _readers(groups: Sequence[Group], place: str) -> int:
    """How many addresses read what is of a place and fetched files of pages."""
    files: Counter[str] = Counter()
    read = set()
    for group in groups:
        if not group.source_ip:
            continue
        if kind_of(group.method, group.path, group.query) == "asset":
            files[SUBJECT(group.source_ip)] += group.requests
        elif group.path == place or group.path.startswith(f"{place}/"):
            read.add(SUBJECT(group.source_ip))
    return sum(files[subject] >= _FILES for subject in read)


def fetches_repositories(load: Load, one: Carried) -> bool:
    """Whether most of a class is git's own protocol, and half of those who sent it were answered a pack: who only asks
    what there is, over and over, fetches nothing.
    """
    asked = sum(group.requests for group in one.groups if group.path.endswith(_GIT))
    if asked < _MOST * one.requests:
        return False
    answered = {
        SUBJECT(group.source_ip)
        for group in (*load.groups, *load.before)
        if group.source_ip
        and group.method == "POST"
        and group.path.endswith(_GIT[-1])
        and group.status is not None
        and group.status < _FAILED
    }
    return 2 * len(answered & one.addresses.keys()) >= len(one.addresses) > 0


def came_before(load: Load, one: Carried) -> bool:
    """Whether half of a crowd had long been sending the same, and was answered: it belongs to the site."""
    if len(one.addresses) < _CROWD or (one.signature.path or "").endswith("/xmlrpc.php"):
        return False  # who guesses there may have done so all day
    described = one.contrast.features
    known = {
        SUBJECT(group.source_ip)
        for group in load.before
        if group.source_ip
        and group.status is not None
        and group.status < _FAILED
        and not load.start - _LONG_BEFORE_S < group.first_ts < load.end
        and holds(described, load.cells[key_of(group)])
    }
    return 2 * len(known & one.addresses.keys()) >= len(one.addresses)
