"""Who an agent says that it is, and what speaks against it. Pure: no name is looked up, no list is fetched.

An agent's text is a claim. It is refuted by what no such crawler does, or by an address outside the networks that its
operator publishes; nothing but such a network confirms it. The networks are those of one day: see `ranges_ts`.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from datetime import UTC, datetime
from functools import cache
from importlib.resources import files
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network

from msgspec import Struct

from tocsin.explain.model import Said, say

AGENT_CHARACTERS = 1000
NAME_CHARACTERS = 64
FRESH_S = 366 * 86400.0
"""How far from the day of the lists a time may be for an absence from them to mean anything."""

# -- what an agent calls itself ----------------------------------------------------------------------------------------

_GOOGLE = ("google-googlebot",)
_GOOGLE_SPECIAL = ("google-special",)
_GOOGLE_USER = ("google-user-triggered", "google-user-triggered-google")
# Google counts GoogleOther among its common crawlers, others among its special ones
_GOOGLE_OTHER = (*_GOOGLE, *_GOOGLE_SPECIAL)

CRAWLERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Googlebot-Image", "Googlebot-News", "Googlebot-Video", "Googlebot"), _GOOGLE),
    **dict.fromkeys(
        ("GoogleOther", "Google-CloudVertexBot", "Google-InspectionTool", "Storebot-Google"), _GOOGLE_OTHER
    ),
    **dict.fromkeys(("AdsBot-Google", "Mediapartners-Google", "APIs-Google"), _GOOGLE_SPECIAL),
    **dict.fromkeys(("FeedFetcher-Google", "Google-Read-Aloud", "Google-Site-Verification"), _GOOGLE_USER),
    "Google-Agent": ("google-user-triggered-agents",),
    "bingbot": ("bing-bingbot",),
    "Applebot": ("apple-applebot",),
    "DuckDuckBot": ("duckduckgo-duckduckbot",),
    "GPTBot": ("openai-gptbot",),
    "OAI-SearchBot": ("openai-searchbot",),
    "ChatGPT-User": ("openai-chatgpt-user",),
    "PerplexityBot": ("perplexity-bot",),
    "Perplexity-User": ("perplexity-user",),
    "CCBot": ("commoncrawl-ccbot",),
    **dict.fromkeys(("AhrefsBot", "AhrefsSiteAudit"), ("ahrefs-crawler",)),
    **dict.fromkeys(
        (
            "ClaudeBot", "Claude-User", "Claude-SearchBot", "anthropic-ai", "DuckAssistBot", "meta-externalagent",
            "meta-externalfetcher", "facebookexternalhit", "FacebookBot", "Amazonbot", "Bytespider", "TikTokSpider",
            "Baiduspider", "SemrushBot", "SiteAuditBot", "MJ12bot", "DotBot", "rogerbot", "BLEXBot", "DataForSeoBot",
            "serpstatbot", "SEOkicks", "barkrowler", "PetalBot", "SeznamBot", "Qwantbot", "MojeekBot", "Yeti",
            "YouBot", "cohere-ai", "MistralAI-User", "Diffbot", "ImagesiftBot", "archive.org_bot", "ia_archiver",
            "Twitterbot", "LinkedInBot", "Slackbot", "Discordbot", "TelegramBot", "Pinterestbot", "msnbot",
            "BingPreview", "adidxbot", "Slurp", "Sogou web spider", "360Spider", "YisouSpider", "coccocbot", "Exabot",
            "UptimeRobot", "Pingdom", "AI2Bot", "Timpibot", "omgili", "AwarioBot",
        ),
        (),
    ),
}  # fmt: skip
"""The crawlers that we know by name, each with the lists in which its operator publishes where it comes from."""

_KNOWN = {name.lower(): name for name in CRAWLERS}
_YANDEX = "yandex(?:mobile|additional|com)?(?:bot|images|metrika|direct|media)"
# Feedly is `like FeedFetcher-Google`, and says so
_CLAIM = re.compile(
    rf"(?<![a-z0-9])(?<!like )(?:{'|'.join(re.escape(name) for name in _KNOWN)}|({_YANDEX}))(?![a-z])"
).search

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


def claimed_crawler(user_agent: str | None) -> str | None:
    """The known crawler whose name an agent bears (`Googlebot`, `bingbot`, `GPTBot`), None where it bears none."""
    if not user_agent:
        return None
    match = _CLAIM(user_agent[:AGENT_CHARACTERS].lower())
    if match is None:
        return None
    return "YandexBot" if match[1] else _KNOWN[match[0]]


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


# -- published networks ------------------------------------------------------------------------------------------------


class _List(Struct):
    """The networks of one list, as first and last addresses, ascending, by IP version."""

    operator: str
    firsts: dict[int, list[int]]
    lasts: dict[int, list[int]]

    def holds(self, version: int, number: int) -> bool:
        """Whether an address is in one of them."""
        at = bisect_right(self.firsts[version], number) - 1
        return at >= 0 and number <= self.lasts[version][at]


@cache
def _ranges() -> tuple[float, dict[str, _List]]:
    """The day of the lists, and the lists by name."""
    ts = 0.0
    networks: dict[str, list[IPv4Network | IPv6Network]] = {}
    operators: dict[str, str] = {}
    name = ""
    for line in files("tocsin.explain").joinpath("crawler_ranges.txt").read_text("utf-8").splitlines():
        words = line.split()
        if line.startswith("# date "):
            ts = datetime.fromisoformat(words[2]).replace(tzinfo=UTC).timestamp()
        elif line.startswith(" "):
            networks[name].extend(ip_network(word) for word in words)
        elif words and not line.startswith("#"):
            name = words[0]
            networks[name], operators[name] = [], words[1]
    return ts, {name: _list_of(operators[name], found) for name, found in networks.items()}


def _list_of(operator: str, networks: list[IPv4Network | IPv6Network]) -> _List:
    made = _List(operator, {4: [], 6: []}, {4: [], 6: []})
    for first, last, version in sorted((int(each[0]), int(each[-1]), each.version) for each in networks):
        made.firsts[version].append(first)
        made.lasts[version].append(last)
    return made


def ranges_ts() -> float:
    """The day on which the published networks were fetched."""
    return _ranges()[0]


def in_published_range(name: str, address: str, ts: float | None = None) -> bool | None:
    """Whether a crawler's operator says that it comes from this address.

    None where nobody can tell: the operator publishes nothing, the address stands in a list of another of its
    crawlers, or `ts`, the time of the request, is more than a year from the day of the lists and so an absence from
    them proves nothing.
    """
    day_ts, lists = _ranges()
    own = CRAWLERS.get(name, ())
    try:
        parsed = ip_address(address)
    except ValueError:
        return None
    if not own:
        return None
    version, number = parsed.version, int(parsed)
    if any(lists[each].holds(version, number) for each in own):
        return True
    operators = {lists[each].operator for each in own}
    if any(each.operator in operators and each.holds(version, number) for each in lists.values()):
        return None
    return None if ts is not None and abs(ts - day_ts) > FRESH_S else False
