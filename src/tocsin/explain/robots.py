"""What to tell a crawler that fetches more than a site bears. Pure."""

from __future__ import annotations

import re

from tocsin.explain.agents import honest_name
from tocsin.explain.crawling import genuine_crawler
from tocsin.explain.model import Remedy, say
from tocsin.explain.suspects import Carried
from tocsin.model import Signature

_PLAIN = re.compile(r"[!-~]{1,500}").fullmatch
"""What may stand in a robots.txt as it is."""


def slower(one: Carried) -> Remedy:
    """Lines for robots.txt. Google minds no Crawl-delay, but what it is not to fetch."""
    name = genuine_crawler(one)
    if name is None or "google" not in name.lower():
        agent = max(one.agents, key=one.agents.__getitem__, default="")
        apply = f"User-agent: {honest_name(agent) or '*'}\nCrawl-delay: 10"
        return Remedy(say("ask the crawler to go slower, in robots.txt"), apply)
    if pattern := _disallowed(one.signature):
        text = say("ask {crawler} not to fetch these, in robots.txt: it minds no Crawl-delay", crawler=name)
        return Remedy(text, f"User-agent: {name}\nDisallow: {pattern}")
    return Remedy(say("{crawler} minds no Crawl-delay: name in robots.txt what it need not fetch", crawler=name))


def _disallowed(signature: Signature) -> str:
    """The class as a pattern of robots.txt; empty where it is no less than the site."""
    path, query = signature.path or "", signature.query
    pattern = f"{path or '/'}" if not query else f"{path or '/*'}?*{query}"
    if query == "":
        pattern = f"{path}$" if path else ""
    return pattern if pattern not in {"", "/", "/*"} and _PLAIN(pattern) else ""
