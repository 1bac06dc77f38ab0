"""People who follow a letter, an advertisement or a link, on a site whose files lie elsewhere: that they fetched none
proves nothing. Pure.
"""

from __future__ import annotations

import re
from typing import Literal

from tocsin.explain.agents import honest_name
from tocsin.explain.load import Load
from tocsin.explain.suspects import Carried
from tocsin.explain.visitors import has_no_files

_CROWD = 20
_AGENTS = 3
_ONE_AGENT = 0.8
_EACH = 5.0
_SOME_GO_ON = 0.02
_MANY_GO_ON = 0.1
_CAMPAIGN = re.compile(r"(?:\A|&)(?:utm_[a-z]{1,20}|gclid|fbclid|msclkid|mc_cid|mc_eid|dclid|ref)=").search
"""What letters and advertisements put into the links to a site, so that their readers are counted."""


def readers_of(load: Load, one: Carried) -> Literal["readers", "perhaps"] | None:
    """Whether a crowd that fetched no files is one of people: many browsers of several kinds, few pages each, of whom
    some go on from page to page. That a campaign's mark is on their links, or that many go on, decides; None where
    nothing says so, or files would have been seen.
    """
    browsers = {agent: number for agent, number in one.agents.items() if agent and honest_name(agent) is None}
    varied = len(browsers) >= _AGENTS and max(one.agents.values()) <= _ONE_AGENT * one.requests
    crowd = len(one.addresses) >= _CROWD and one.each <= _EACH and one.visitors >= _SOME_GO_ON
    if one.signature.method not in {"GET", None} or not varied or not crowd or not has_no_files(load):
        return None
    marked = sum(group.requests for group in one.groups if _CAMPAIGN(group.query))
    return "readers" if 2 * marked >= one.requests or one.visitors >= _MANY_GO_ON else "perhaps"
