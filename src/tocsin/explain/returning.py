"""Crowds of programs that belong to the site's own life: those that preview what was shared, those that fetch
repositories, and those that come all the time. Pure.
"""

from __future__ import annotations

import re

from tocsin.detect.contrast import holds
from tocsin.explain.load import Load, key_of
from tocsin.explain.suspects import SUBJECT, Carried

_FEDIVERSE = re.compile(
    r"(?:Mastodon|Pleroma|Akkoma|Lemmy|gotosocial|Friendica|Misskey|SummalyBot|Firefish|Sharkey|Iceshrimp|Pixelfed"
    r"|PeerTube|Hubzilla|Mobilizon|BookWyrm|Mbin|kbin)[/ (;].{0,200}?https?://([\w.-]{1,253})",
    re.IGNORECASE,
).search
_GIT = ("/info/refs", "/git-upload-pack")
"""What git asks for to fetch: what there is, then a pack of it."""

_HOSTS = 20
_MOST = 0.5
_ONCE = 1.5
_CROWD = 20
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
