"""Agents that name themselves, and claims that are contradicted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.decide.crawlers import claimed_crawler
from tocsin.explain.agents import contradiction, honest_name

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
FORGED = "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"
BINGBOT = "Mozilla/5.0 (compatible; bingbot/2.0; +http://www.bing.com/bingbot.htm)"
CHROME = "Mozilla/5.0 (Windows NT 6.1; WOW64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/32.0.1700.107 Safari/537.36"


@pytest.mark.parametrize(
    ("agent", "crawler", "name"),
    [
        (GOOGLEBOT, "Googlebot", "Googlebot"),
        ("Googlebot-Image/1.0", "Googlebot-Image", "Googlebot-Image"),
        ("DoCoMo/2.0 N905i(c100;TB;W24H16) (compatible; Googlebot-Mobile/2.1)", "Googlebot", "Googlebot"),
        ("Mozilla/5.0 (compatible; YandexImages/3.0; +http://yandex.com/bots)", "YandexBot", "YandexBot"),
        ("Mozilla/5.0; compatible; GPTBot/1.2; +https://openai.com/gptbot", "GPTBot", "GPTBot"),
        ("Feedly/1.0 (+http://www.feedly.com/fetcher.html; like FeedFetcher-Google)", None, "Feedly"),
        ("curl/7.88.1", None, "curl"),
        ("python-requests/1.2.0 CPython/2.7.4 Linux/3.8.0-33-generic", None, "python-requests"),
        ("Go-http-client/1.1", None, "Go-http-client"),
        ("Java/1.8.0_151", None, "Java"),
        ("LWP::Simple/5.827 libwww-perl/5.833", None, "LWP"),
        ("Scrapy/2.11.0 (+https://scrapy.org)", None, "Scrapy"),
        ("WordPress/6.1; https://blog.example", None, "WordPress"),
        ("nutch-1.4/Nutch-1.4", None, "nutch-1.4"),
        ("ApacheBench/2.3", None, "ApacheBench"),
        ("k6/0.49.0 (https://k6.io/)", None, "k6"),
        ("UniversalFeedParser/4.2-pre-314-svn +http://feedparser.org/", None, "UniversalFeedParser"),
        ("Mozilla/5.0 (compatible; SiteExplorer/1.0b; +http://siteexplorer.info/)", None, "SiteExplorer"),
        ("Mozilla/5.0 (compatible; magpie-crawler/1.1)", None, "magpie-crawler"),
        ("Xenu Link Sleuth/1.3.8", None, "Xenu Link Sleuth"),
        (CHROME, None, None),
        ("Mozilla/4.0 (compatible: MSIE 7.0; Windows NT 6.0)", None, None),
        ("Opera/9.80 (X11; Linux x86_64) Presto/2.12.388 Version/12.16", None, None),
        ("Safari/9537.73.11 CFNetwork/673.0.3 Darwin/13.0.0 (x86_64)", None, None),
        ("Dalvik/1.6.0 (Linux; U; Android 4.2.2; Symphony W68 Build/JDQ39)", None, None),
        ("Mozilla/5.0 (Linux; Android 10; CUBOT_X30) Chrome/96.0 Mobile Safari/537.36", None, None),
        ("Mozilla/5.0 (X11; http://www.google.com/bot.html) Firefox/27.0", None, None),
        ("-", None, None),
        ("", None, None),
        (None, None, None),
    ],
)
def test_names(agent: str | None, crawler: str | None, name: str | None) -> None:
    assert (claimed_crawler(agent), honest_name(agent)) == (crawler, name)


@pytest.mark.parametrize(
    ("agent", "method", "path", "protocol", "text"),
    [
        (FORGED, "GET", "/", None, "the agent lacks the + that Googlebot puts before its address"),
        (GOOGLEBOT, "POST", "/blog/xmlrpc.php", "HTTP/1.1", "Googlebot only reads: it never posts to /blog/xmlrpc.php"),
        (BINGBOT, "POST", "/WP-LOGIN.PHP", None, "bingbot only reads: it never posts to /WP-LOGIN.PHP"),
        (BINGBOT, "GET", "/", "HTTP/1.0", "bingbot speaks HTTP/1.1 or later, not HTTP/1.0"),
        (GOOGLEBOT, "GET", "/xmlrpc.php", "HTTP/1.1", None),
        (GOOGLEBOT, "POST", "/search", "HTTP/2.0", None),
        ("Googlebot-Image/1.0", "GET", "/a.png", None, None),
        ("Mozilla/5.0 (compatible; MJ12bot/v1.4.4; http://www.majestic12.co.uk/bot.php?+)", "GET", "/", None, None),
        (CHROME, "POST", "/xmlrpc.php", "HTTP/1.0", None),
        (None, "POST", "/xmlrpc.php", "HTTP/1.0", None),
    ],
)
def test_contradictions(agent: str | None, method: str, path: str, protocol: str | None, text: str | None) -> None:
    said = contradiction(agent, method, path, protocol)
    assert (said.text.format(**said.args) if said else None) == text


@given(st.one_of(st.none(), st.text(max_size=300)), st.text(max_size=50))
def test_any_text_is_judged(agent: str | None, path: str) -> None:
    contradiction(agent, "POST", path, "HTTP/1.0")
    name = honest_name(agent)
    assert name is None or name in (agent or "") or claimed_crawler(agent) == name
