"""What an agent calls itself, and what in its own request speaks against it. Pure.

An agent's text is a claim; `tocsin.decide.crawlers` knows the names that are claimed and where their bearers come from.
"""

from __future__ import annotations

import re

from tocsin.decide.crawlers import AGENT_CHARACTERS, CRAWLERS, claimed_crawler
from tocsin.explain.model import Said, say

NAME_CHARACTERS = 64

# -- what an agent calls itself ----------------------------------------------------------------------------------------

_LIBRARIES = frozenset(
    (
        "curl", "wget", "python-requests", "python-urllib", "python-httpx", "aiohttp", "httpx", "scrapy",
        "go-http-client", "java", "apache-httpclient", "okhttp", "libwww-perl", "lwp", "lwp-trivial", "lwp-request",
        "php", "guzzlehttp", "ruby", "faraday", "axios", "node-fetch", "undici", "got", "superagent", "wordpress",
        "httrack", "sqlmap", "nikto", "nmap", "masscan", "zgrab", "apachebench", "siege", "wrk", "hey", "k6",
        "jmeter", "vegeta", "locust", "wpscan", "headlesschrome", "phantomjs", "puppeteer", "playwright", "selenium",
        "postmanruntime", "insomnia", "restsharp", "winhttp", "mechanize", "libcurl", "pycurl", "typhoeus", "jakarta",
        "jersey", "dart", "reqwest", "hyper", "colly", "heritrix", "nutch", "teleport", "webzip", "offline",
        "webcopier", "sitesucker", "gobuster", "ffuf", "feroxbuster", "dirbuster", "nuclei", "rclone",
        "ansible-httpget", "chef",
    )
)  # fmt: skip
_TRADES = re.compile(
    r"bot(?![a-z])|crawl|spider|scrap|slurp|archiv|fetch|monitor|check|validat|index|harvest|scan|prob|feed|rss|aggregat"
    r"|preview|mirror|download"
).search
_NO_TRADE = ("cubot", "feedback")  # the first makes telephones
_URL = re.compile(r"https?://[^\s;,)]{0,300}|[\w.+-]{1,64}@[\w.-]{1,128}|www\.[^\s;,)]{0,300}")
_VERSION = re.compile(r"[-_]?v?[0-9][\w.]{0,20}$")
_WORD = re.compile(r"[A-Za-z][\w.!-]{0,63}").findall
_PRODUCT = re.compile(r"([A-Za-z][\w.!-]{0,40}(?: [A-Za-z][\w.-]{0,40}){0,3})/v?[0-9]").match
_AFTER_COMPATIBLE = re.compile(r"compatible[;:,]? *([A-Za-z][\w.!-]{0,63})").search
_BROWSERS = frozenset(
    (
        "mozilla", "opera", "safari", "dalvik", "lynx", "links", "elinks", "w3m", "konqueror", "netsurf", "dillo",
        "blackberry", "nokia", "samsung", "sonyericsson", "lg", "ucweb", "ucbrowser", "icab", "galeon", "epiphany",
    )
)  # fmt: skip
_OF_A_DEVICE = re.compile(r"CFNetwork|Darwin|Android|iPhone|iPad|Windows NT|Macintosh|J2ME|MIDP").search


def honest_name(user_agent: str | None) -> str | None:
    """What an agent that is no browser, and does not say so either, calls itself: a crawler, a library, a program.

    None for browsers, for agents that look like browsers and for none at all. `Mozilla/5.0 (compatible; Foo;
    +http://foo.example)` is `Foo`: who leaves an address to complain to is no browser.
    """
    if not user_agent:
        return None
    known = claimed_crawler(user_agent)
    if known is not None:
        return known
    agent = user_agent[:AGENT_CHARACTERS]
    bare = _URL.sub(" ", agent)
    words: list[str] = _WORD(bare)
    for word in words:
        low = word.lower()
        if {low, _VERSION.sub("", low)} & _LIBRARIES or (_TRADES(low) and not low.startswith(_NO_TRADE)):
            return word[:NAME_CHARACTERS]
    product = _PRODUCT(bare)
    if product and product[1].split()[0].lower() not in _BROWSERS and not _OF_A_DEVICE(bare):
        return product[1][:NAME_CHARACTERS]
    if "+http" not in agent:
        return None
    compatible = _AFTER_COMPATIBLE(bare)
    return compatible[1] if compatible else None


def is_library(user_agent: str) -> bool:
    """Whether an agent names but the library that it was made with: apps, monitors and crawlers alike do."""
    name = (honest_name(user_agent) or "").lower()
    return bool({name, _VERSION.sub("", name)} & _LIBRARIES)


# -- what speaks against a claim ---------------------------------------------------------------------------------------

_LEAVES_ADDRESS = frozenset(
    ("Googlebot", "bingbot", "GPTBot", "OAI-SearchBot", "Applebot", "DuckDuckBot", "AhrefsBot", "Amazonbot", "PetalBot")
)
"""Crawlers that have always put `+http` before their operator's page; Googlebot's short form does so, too."""

_LOGINS = re.compile(r"/(?:xmlrpc\.php|wp-login\.php|wp-comments-post\.php|administrator/|user/login|wp-admin/)").search
_READERS = frozenset(name for name, lists in CRAWLERS.items() if lists) | {
    "ClaudeBot", "Baiduspider", "SemrushBot", "MJ12bot", "DotBot", "BLEXBot", "PetalBot", "SeznamBot", "Bytespider",
    "Amazonbot", "YandexBot", "msnbot", "Slurp", "DataForSeoBot", "archive.org_bot",
}  # fmt: skip


def contradiction(user_agent: str | None, method: str | None, path: str, protocol: str | None) -> Said | None:
    """Why an agent cannot be the crawler that it claims to be; None where nothing speaks against it, or it claims none.

    Give `protocol` only where the log's other requests speak HTTP/1.1 or later: behind a proxy all speak HTTP/1.0.
    """
    name = claimed_crawler(user_agent)
    if name is None or user_agent is None or name not in _READERS:
        return None
    if method == "POST" and _LOGINS(path.lower()):
        return say("{crawler} only reads: it never posts to {path}", crawler=name, path=path[:200])
    # a log may cut long agents
    if name in _LEAVES_ADDRESS and "+http" not in user_agent and "http" in user_agent and len(user_agent) < 200:
        return say("the agent lacks the + that {crawler} puts before its address", crawler=name)
    if protocol == "HTTP/1.0":
        return say("{crawler} speaks HTTP/1.1 or later, not HTTP/1.0", crawler=name)
    return None
