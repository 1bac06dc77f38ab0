"""What was asked for, and every value that a description of it may use. Pure."""

from __future__ import annotations

from functools import lru_cache

from tocsin.detect.contrast import Feature, features_of, is_browser

Asked = tuple[str, str, str, str, str, str, str]
"""Method, path, query, virtual host, agent, protocol and contact of a request; empty where there is none. The contact
is `no referer`, `own referer` (a page of this site that the address has not loaded), `link` (another one that it has)
or `referer`.
"""

Kind = tuple[str, str, str, str, str, str]
"""A class: virtual host, method, shape of the path, family of agents, protocol, and where the referer points to."""

_TRIGGERS = frozenset(("path", "query"))
ALL: Feature = ("all", "")
BROWSERS: Feature = ("user_agent", "Mozilla/")


def features(asked: Asked) -> tuple[Feature, ...]:
    """Every value that a description of such a request may use (see `contrast.features_of`)."""
    return (*features_of(*asked[:5]), ("protocol", asked[5]), ("contact", asked[6]))


def matched(asked: Asked) -> frozenset[Feature]:
    """The same, with what an agent claims: to tell browsers from the apps of a class, once that is found."""
    return frozenset((*features(asked), *((BROWSERS,) if is_browser(asked[4]) else ())))


@lru_cache(maxsize=1 << 13)
def trigger_features(asked: Asked) -> tuple[Feature, ...]:
    """The values by which a class far above its normal is noticed: all requests, their method, the path and its
    shapes, the names in the query, and the products that the agent names.
    """
    agent = asked[4]
    found = [one for one in features(asked) if one[0] in _TRIGGERS or (one[0] == "user_agent" and one[1] != agent)]
    found.append(("method", asked[0]))
    if agent:
        found.append(("user_agent", agent))
    found.append(ALL)
    return tuple(dict.fromkeys(found))
