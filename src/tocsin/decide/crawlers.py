"""Who an agent says that it is, and where its operator says that it comes from. Pure: no name is looked up here.

An agent's text is a claim. An address outside the networks that the operator publishes refutes it, one inside confirms
it; where there are no networks, names in the DNS do both (`Hosts`). The networks are those of one day: `Published.day`.
"""

from __future__ import annotations

import pkgutil
import re
from bisect import bisect_right
from collections.abc import Iterable, Iterator
from datetime import UTC, date, datetime
from functools import cache, lru_cache
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_network

from msgspec import Struct

from tocsin.decide.subjects import bounds

AGENT_CHARACTERS = 1000
FRESH_S = 366 * 86400.0
"""How far from the day of the lists a time may be for an absence from them to mean anything."""

LEAST_PREFIX = {4: 8, 6: 20}
"""A list with anything wider is no list of a crawler's networks."""

# -- what an agent calls itself ----------------------------------------------------------------------------------------

_GOOGLE = ("google-googlebot",)
_GOOGLE_SPECIAL = ("google-special",)
_GOOGLE_USER = ("google-user-triggered", "google-user-triggered-google")
# Google counts GoogleOther among its common crawlers, others among its special ones
_GOOGLE_OTHER = (*_GOOGLE, *_GOOGLE_SPECIAL)

CRAWLERS: dict[str, tuple[str, ...]] = {
    **dict.fromkeys(("Googlebot", "Googlebot-Image", "Googlebot-News", "Googlebot-Video"), _GOOGLE),
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

LISTS = tuple(dict.fromkeys(each for lists in CRAWLERS.values() for each in lists))
"""The lists that there are."""

DRIVEN = frozenset(
    (
        *("google-user-triggered", "google-user-triggered-google", "google-user-triggered-agents"),
        *("openai-chatgpt-user", "perplexity-user"),
    )
)
"""Lists of fetchers that others send where they like: to come from there proves the fetcher, and nothing more."""

_KNOWN = {name.lower(): name for name in sorted(CRAWLERS, key=len, reverse=True)}
_YANDEX = "yandex(?:mobile|additional|com)?(?:bot|images|metrika|direct|media)"
# Feedly is `like FeedFetcher-Google`, and says so
_CLAIM = re.compile(
    rf"(?<![a-z0-9])(?<!like )(?:{'|'.join(re.escape(name) for name in _KNOWN)}|({_YANDEX}))(?![a-z])"
).search


@lru_cache(maxsize=4096)
def claimed_crawler(user_agent: str | None) -> str | None:
    """The known crawler whose name an agent bears (`Googlebot`, `bingbot`, `GPTBot`), None where it bears none."""
    if not user_agent:
        return None
    match = _CLAIM(user_agent[:AGENT_CHARACTERS].lower())
    if match is None:
        return None
    return "YandexBot" if match[1] else _KNOWN[match[0]]


# -- names in the DNS --------------------------------------------------------------------------------------------------


class Hosts(Struct, frozen=True):
    """How an operator says that a crawler's addresses are called: the PTR record of the address is one of `patterns`
    (`*` for anything, once), and that name leads back to the address.

    `always`: the operator says so of all of them, so that another name, or none, refutes the claim. `kin` are names of
    the same operator's other machines: they prove neither.
    """

    patterns: tuple[str, ...]
    always: bool = False
    kin: tuple[str, ...] = ()


_GOOGLES = ("*.google.com", "*.googlebot.com", "*.gae.googleusercontent.com")
_OF_USERS = Hosts(("*.google.com", "*.gae.googleusercontent.com"))
# `*.bc.googleusercontent.com` is whoever rents a machine there
HOSTS: dict[str, Hosts] = {
    # developers.google.com/search/docs/crawling-indexing/verifying-googlebot has a mask for each kind of crawler
    **dict.fromkeys(
        ("Googlebot", "Googlebot-Image", "Googlebot-News", "Googlebot-Video"),
        Hosts(("*.googlebot.com",), always=True, kin=_GOOGLES),
    ),
    **dict.fromkeys(
        ("GoogleOther", "Google-CloudVertexBot", "Google-InspectionTool", "Storebot-Google"),
        Hosts(("*.googlebot.com", "rate-limited-proxy-*.google.com"), always=True, kin=_GOOGLES),
    ),
    **dict.fromkeys(
        ("AdsBot-Google", "Mediapartners-Google", "APIs-Google"),
        Hosts(("rate-limited-proxy-*.google.com",), always=True, kin=_GOOGLES),
    ),
    **dict.fromkeys(("FeedFetcher-Google", "Google-Read-Aloud", "Google-Site-Verification"), _OF_USERS),
    # bing.com/webmaster/help/how-to-verify-bingbot-3905dc26
    "bingbot": Hosts(("*.search.msn.com",), always=True),
    **dict.fromkeys(("msnbot", "BingPreview", "adidxbot"), Hosts(("*.search.msn.com",))),
    # support.apple.com/en-us/119829: reverse DNS shows it there
    "Applebot": Hosts(("*.applebot.apple.com",), always=True),
    # yandex.com/support/webmaster/robot-workings/check-yandex-robots.html: all of them
    "YandexBot": Hosts(("*.yandex.ru", "*.yandex.net", "*.yandex.com"), always=True),
    # help.baidu.com/question?prod_en=master&class=Baiduspider: others are fake
    "Baiduspider": Hosts(("*.baidu.com", "*.baidu.jp"), always=True),
    # napoveda.seznam.cz/en/seznambot-crawler: all used addresses
    "SeznamBot": Hosts(("*.seznam.cz",), always=True),
    # ahrefs.com/robot: always
    **dict.fromkeys(("AhrefsBot", "AhrefsSiteAudit"), Hosts(("*.ahrefs.com", "*.ahrefs.net"), always=True)),
    # Of these the operators, or those who watch them, name a domain; that all addresses have such names nobody says.
    "Amazonbot": Hosts(("*.crawl.amazonbot.amazon",)),
    "CCBot": Hosts(("*.crawl.commoncrawl.org",)),
    "PetalBot": Hosts(("*.petalsearch.com", "*.aspiegel.com")),
    "Slurp": Hosts(("*.crawl.yahoo.net", "*.yse.yahoo.net")),
    "Sogou web spider": Hosts(("*.crawl.sogou.com",)),
    "MojeekBot": Hosts(("*.mojeek.com",)),
    "Pinterestbot": Hosts(("*.pinterest.com", "*.pinterestcrawler.com")),
    "Yeti": Hosts(("*.web.naver.com",)),
}
"""What is known of the names of crawlers' addresses, by crawler, each with its source."""


def is_named(host: str, patterns: Iterable[str]) -> bool:
    """Whether a host's name fits one of the patterns. `evilgooglebot.com` is not in `*.googlebot.com`."""
    text = host.lower().rstrip(".")
    for pattern in patterns:
        first, _, last = pattern.partition("*")
        if len(text) > len(first) + len(last) and text.startswith(first) and text.endswith(last):
            return True
    return False


# -- published networks ------------------------------------------------------------------------------------------------


class _List(Struct):
    """The networks of one list, as first and last addresses, ascending and disjoint, by IP version."""

    operator: str
    firsts: dict[int, list[int]]
    lasts: dict[int, list[int]]

    def holding(self, version: int, number: int) -> str | None:
        """The network that an address is in."""
        at = bisect_right(self.firsts[version], number) - 1
        if at < 0 or number > self.lasts[version][at]:
            return None
        return _text(version, self.firsts[version][at], self.lasts[version][at])


def _text(version: int, first: int, last: int) -> str:
    kind, bits = (IPv4Network, 32) if version == 4 else (IPv6Network, 128)
    return str(kind((first, bits - (last - first).bit_length())))


class Published:
    """The networks that operators publish, as of `day` (`ts` is its start); see `crawler_ranges.txt` for the format."""

    def __init__(self, day: date, lists: dict[str, _List]) -> None:
        self.day = day
        self.ts = datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()
        self.lists = lists
        self._lows: dict[int, list[int]] = {4: [], 6: []}
        self._spans: dict[int, list[tuple[int, str]]] = {4: [], 6: []}
        self._join()

    def network(self, name: str, address: str) -> str | None:
        """The published network of a crawler that an address is in. ValueError where it is no address."""
        version, number, _ = bounds(address) if ":" not in address else _lone(address)
        found = (self.lists[each].holding(version, number) for each in CRAWLERS.get(name, ()) if each in self.lists)
        return next((network for network in found if network), None)

    def in_range(self, name: str, address: str, ts: float | None) -> bool | None:
        """As `in_published_range`."""
        own = [each for each in CRAWLERS.get(name, ()) if each in self.lists]
        try:
            version, number, _ = bounds(address) if ":" not in address else _lone(address)
        except ValueError:
            return None
        if not own:
            return None
        if any(self.lists[each].holding(version, number) for each in own):
            return True
        operators = {self.lists[each].operator for each in own}
        if any(each.operator in operators and each.holding(version, number) for each in self.lists.values()):
            return None
        return None if ts is not None and abs(ts - self.ts) > FRESH_S else False

    def covered(self, subject: str) -> str | None:
        """As `covers_published`."""
        version, low, high = bounds(subject)
        at = bisect_right(self._lows[version], high) - 1
        if at < 0:
            return None
        last, name = self._spans[version][at]
        if last < low:
            return None
        return f"verified crawler {name} ({_text(version, self._lows[version][at], last)}, published {self.day})"

    def _join(self) -> None:
        """The networks of crawlers proper, ascending; of those inside another only the widest."""
        bearers: dict[str, str] = {}
        for name, lists in CRAWLERS.items():
            bearers.setdefault(lists[0] if lists else "", name)
        rows = [
            (first, -last, version, bearers.get(name, name))
            for name, one in self.lists.items()
            if name in bearers and name not in DRIVEN
            for version in (4, 6)
            for first, last in zip(one.firsts[version], one.lasts[version], strict=True)
        ]
        ends = {4: -1, 6: -1}
        for first, minus_last, version, name in sorted(rows):
            if -minus_last > ends[version]:
                self._lows[version].append(first)
                self._spans[version].append((-minus_last, name))
                ends[version] = -minus_last


def _lone(address: str) -> tuple[int, int, int]:
    """One IPv6 address as itself, where `bounds` would take its /64."""
    return bounds(address if "/" in address else f"{address}/128")


def read_ranges(text: str) -> Published:
    """Lists in the format of `crawler_ranges.txt`. ValueError says what is wrong in which line."""
    reader = _Reader()
    for number, line in enumerate(text.splitlines(), 1):
        try:
            reader.take(line)
        except (ValueError, IndexError) as error:
            raise ValueError(f"line {number}: {error}") from error
    if reader.day is None:
        raise ValueError("no line `# date YYYY-MM-DD` says of which day the lists are")
    if not reader.networks:
        raise ValueError("it holds no list")
    return Published(
        reader.day, {each: _list_of(reader.operators[each], reader.networks[each]) for each in reader.networks}
    )


class _Reader:
    """Takes a file of lists line by line."""

    def __init__(self) -> None:
        self.day: date | None = None
        self.networks: dict[str, list[IPv4Network | IPv6Network]] = {}
        self.operators: dict[str, str] = {}
        self._name = ""

    def take(self, line: str) -> None:
        """ValueError or IndexError where a line is none of the format's."""
        words = line.split()
        if line.startswith("# date "):
            self.day = date.fromisoformat(words[2])
        elif line.startswith((" ", "\t")) and words:
            if not self._name:
                raise ValueError("networks before the name of a list")
            self.networks[self._name].extend(_networks(words))
        elif words and not line.startswith("#"):
            if words[0] not in LISTS or len(words) < 2:
                raise ValueError(f"expected the name of a list and its operator; the lists are {', '.join(LISTS)}")
            self._name = words[0]
            self.networks[words[0]], self.operators[words[0]] = [], words[1]


def _networks(words: Iterable[str]) -> Iterator[IPv4Network | IPv6Network]:
    for word in words:
        network = ip_network(word)
        if network.prefixlen < LEAST_PREFIX[network.version]:
            raise ValueError(f"{word} is wider than any crawler's network")
        yield network


def _list_of(operator: str, networks: list[IPv4Network | IPv6Network]) -> _List:
    made = _List(operator, {4: [], 6: []}, {4: [], 6: []})
    joined: list[IPv4Network | IPv6Network] = [
        *collapse_addresses([each for each in networks if isinstance(each, IPv4Network)]),
        *collapse_addresses([each for each in networks if isinstance(each, IPv6Network)]),
    ]
    for each in joined:
        made.firsts[each.version].append(int(each[0]))
        made.lasts[each.version].append(int(each[-1]))
    return made


@cache
def shipped() -> Published:
    """The lists that come with the program."""
    data = pkgutil.get_data("tocsin.decide", "crawler_ranges.txt")
    assert data is not None  # noqa: S101  it is part of the package
    return read_ranges(data.decode("utf-8"))


def ranges_ts() -> float:
    """The day on which the published networks were fetched."""
    return shipped().ts


def in_published_range(name: str, address: str, ts: float | None = None) -> bool | None:
    """Whether a crawler's operator says that it comes from this address.

    None where nobody can tell: the operator publishes nothing, the address stands in a list of another of its
    crawlers, or `ts`, the time of the request, is more than a year from the day of the lists and so an absence from
    them proves nothing.
    """
    return shipped().in_range(name, address, ts)


def covers_published(subject: str) -> str | None:
    """Which crawler proper comes from an address or a prefix, or from a part of it, by the shipped lists, in words that
    name the network; None where none does. ValueError where the subject is none.
    """
    return shipped().covered(subject)
