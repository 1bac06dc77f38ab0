"""Random draws of what a rule could cling to: addresses, agents, hosts, paths, zones, words."""

from __future__ import annotations

import random
from collections.abc import Sequence

# Real browsers' and programs' user agents as access logs show them in 2024 to 2026; {v} is the version.
WINDOWS, MAC, LINUX = "Windows NT 10.0; Win64; x64", "Macintosh; Intel Mac OS X 10_15_7", "X11; Linux x86_64"
CHROME = "Mozilla/5.0 ({os}) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Safari/537.36"
MOBILE = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/{v}.0.0.0 Mobile Safari/537.36"
)
EDGE = CHROME + " Edg/{v}.0.0.0"
FIREFOX = "Mozilla/5.0 ({os}; rv:{v}.0) Gecko/20100101 Firefox/{v}.0"
SAMSUNG = (
    "Mozilla/5.0 (Linux; Android 10; K) AppleWebKit/537.36 (KHTML, like Gecko) "
    "SamsungBrowser/{v}.0 Chrome/121.0.0.0 Mobile Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS {v}_{w} like Mac OS X) AppleWebKit/605.1.15 (KHTML, like Gecko) "
    "Version/{v}.{w} Mobile/15E148 Safari/604.1"
)
SAFARI = "Mozilla/5.0 ({os}) AppleWebKit/605.1.15 (KHTML, like Gecko) Version/{v}.{w} Safari/605.1.15"
OLD_BROWSERS = (
    "Mozilla/4.0 (compatible; MSIE 7.0; Windows NT 6.0)",
    "Mozilla/4.0 (compatible; MSIE 9.0; Windows NT 6.1)",
    "Mozilla/5.0 (Windows NT 6.1; WOW64; rv:40.0) Gecko/20100101 Firefox/40.1",
    "Mozilla/5.0",
    "Mozilla/5.0 (X11; Ubuntu; Linux i686; rv:28.0) Gecko/20100101 Firefox/28.0",
)
GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
GOOGLEBOT_MOBILE = (
    "Mozilla/5.0 (Linux; Android 6.0.1; Nexus 5X Build/MMB29P) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/131.0.6778.139 Mobile Safari/537.36 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
)
BINGBOT = (
    "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; bingbot/2.0; "
    "+http://www.bing.com/bingbot.htm) Chrome/116.0.1938.76 Safari/537.36"
)
FALSE_GOOGLEBOTS = (
    "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)",
    GOOGLEBOT,
    "Googlebot/2.1 (+http://www.google.com/bot.html)",
)
CRAWLERS = (
    (GOOGLEBOT, "66.249.{64-79}.{1-254}"),
    (GOOGLEBOT_MOBILE, "66.249.{64-79}.{1-254}"),
    (BINGBOT, "40.77.167.{1-254}"),
    (
        "Mozilla/5.0 AppleWebKit/537.36 (KHTML, like Gecko; compatible; GPTBot/1.2; +https://openai.com/gptbot)",
        "20.171.207.{1-254}",
    ),
)
MONITORS = (
    "Mozilla/5.0+(compatible; UptimeRobot/2.0; http://www.uptimerobot.com/)",
    "Pingdom.com_bot_version_1.4_(http://www.pingdom.com/)",
    "Uptime-Kuma/1.23.13",
    "Better Stack Better Uptime Bot Mozilla/5.0 (Windows NT 10.0; Win64; x64)",
    "check_http/v2.3.3 (monitoring-plugins 2.3.3)",
)
FEED_READERS = (
    "Feedly/1.0 (+http://www.feedly.com/fetcher.html; 12 subscribers; like FeedFetcher-Google)",
    "FreshRSS/1.24.1 (Linux; https://freshrss.org)",
    "Tiny Tiny RSS/24.03-7dafa1d (https://tt-rss.org/)",
    "Mozilla/5.0 (compatible; Miniflux/2.1.3; +https://miniflux.app)",
    "NetNewsWire (RSS Reader; https://netnewswire.com/)",
)
POLLERS = (
    "okhttp/4.12.0",
    "Dalvik/2.1.0 (Linux; U; Android 9; BRAVIA 4K)",
    "axios/1.7.7",
    "ESP32HTTPClient",
    "curl/7.88.1",
)
APPS = ("wp-android/24.8", "wp-iphone/25.1", "MarsEdit/5.2.1 Mac", "wp-android/25.6-rc-2")
SCRAPERS = (
    ("Scrapy/2.11.2 (+https://scrapy.org)", "Scrapy"),
    ("python-requests/2.31.0", "python-requests"),
    ("Mozilla/5.0 (compatible; CorpusHarvest/1.3; +https://corpusharvest.example/bot)", "CorpusHarvest"),
    ("Mozilla/5.0 (compatible; PriceLens/0.9; +https://pricelens.example/crawler)", "PriceLens"),
    ("Go-http-client/1.1", "Go-http-client"),
    ("Wget/1.21.4", "Wget"),
    ("HTTrack/3.49 (+https://www.httrack.com/)", "HTTrack"),
    ("colly - https://github.com/gocolly/colly/v2", "colly"),
)
PROBES = (
    ".env", ".git/config", "wp-config.php.bak", "wp-config.php~", "backup.sql", "phpinfo.php", ".aws/credentials",
    "vendor/phpunit/phpunit/src/Util/PHP/eval-stdin.php", "wp-content/debug.log", "old/",
    "adminer.php", "server-status",
)  # fmt: skip
CRON = (
    "[ -x /usr/lib/php/sessionclean ] && if [ ! -d /run/systemd/system ]; then /usr/lib/php/sessionclean; fi",
    "test -x /usr/bin/certbot && /usr/bin/certbot -q renew",
    "command -v debian-sa1 > /dev/null && debian-sa1 1 1",
    "/usr/bin/find /var/www -name '*.tmp' -mtime +7 -delete",
)
NEWS_SITES = (
    "https://news.ycombinator.com/", "https://www.reddit.com/", "https://www.heise.example/news/", "https://t.co/",
    "https://www.abendblatt.example/kultur/", "https://android-app.example/", "https://slashdot.org/",
)  # fmt: skip
SEARCHES = ("https://www.google.com/", "https://duckduckgo.com/", "https://www.bing.com/", None, None, None)
ZONES = (
    "UTC", "Europe/Berlin", "Europe/Paris", "America/New_York", "America/Los_Angeles", "Asia/Kolkata", "Asia/Tokyo",
    "Australia/Sydney", "America/Sao_Paulo", "Etc/UTC",
)  # fmt: skip
NAMES = (
    "gartenbote", "tinyharbour", "velomechanik", "bluekettle", "northwindcafe", "papierlicht", "oldmaps", "beekeeper",
    "chorprobe", "stonebridge", "kitchenlab", "fernwandern", "littlepress", "seaglass", "quartierblatt", "modelltrain",
)  # fmt: skip
WP_PATHS = ("/", "/", "/", "/blog/", "/blog/", "/wordpress/", "/journal/", "/news/")
WORDS = (
    "garden", "river", "train", "copper", "window", "market", "silver", "bridge", "winter", "harbour", "engine",
    "paper", "summer", "kitchen", "letter", "mountain", "forest", "bottle", "school", "signal", "yellow", "branch",
    "basket", "candle", "doctor", "island", "museum", "planet", "rocket", "saddle",
)  # fmt: skip
# Networks that no visitor of a public site comes from, or that belong to somebody whom the lab plays itself.
NOT_PUBLIC = {0, 10, 17, 20, 40, 66, 100, 127, 169, 172, 192, 198, 203}


def networks(rng: random.Random, count: int) -> list[str]:
    """`count` different /16 networks that look public, as `a.b`."""
    found: dict[str, None] = {}
    while len(found) < count:
        first = rng.randint(2, 222)
        if first not in NOT_PUBLIC:
            found[f"{first}.{rng.randint(0, 255)}"] = None
    return list(found)


def addresses(rng: random.Random, nets: Sequence[str], count: int) -> list[str]:
    """`count` different addresses out of `nets` (as `a.b`)."""
    found: dict[str, None] = {}
    while len(found) < count:
        found[f"{rng.choice(nets)}.{rng.randint(0, 255)}.{rng.randint(1, 254)}"] = None
    return list(found)


def address_like(rng: random.Random, pattern: str) -> str:
    """An address by a pattern such as `66.249.{64-79}.{1-254}`."""
    parts = []
    for part in pattern.split("."):
        low, dash, high = part.strip("{}").partition("-")
        parts.append(str(rng.randint(int(low), int(high))) if dash else part)
    return ".".join(parts)


def browser(rng: random.Random) -> str:
    """A browser's user agent, the common ones oftener than the rare."""
    shape = rng.choices((CHROME, MOBILE, IPHONE, FIREFOX, EDGE, SAFARI, SAMSUNG), (30, 25, 18, 9, 8, 6, 4))[0]
    if shape in (IPHONE, SAFARI):
        return shape.format(os=MAC, v=rng.choice((16, 17, 17, 18, 18, 26)), w=rng.randint(0, 6))
    if shape == SAMSUNG:
        return shape.format(v=rng.randint(23, 28))
    version = rng.choice((115, 128, 128, 131, 135, 140)) if shape == FIREFOX else rng.randint(119, 141)
    return shape.format(os=rng.choices((WINDOWS, MAC, LINUX), (7, 2, 1))[0], v=version)


def hostnames(rng: random.Random) -> tuple[str, list[str]]:
    """A virtual host's name and its aliases."""
    name = f"{rng.choice(NAMES)}.example"
    if rng.random() < 0.5:
        return f"www.{name}", [name]
    if rng.random() < 0.3:
        return f"blog.{name}", []
    return name, [f"www.{name}"]


def words(rng: random.Random, count: int) -> str:
    """`count` words as a search form sends them."""
    return "+".join(rng.sample(WORDS, count))
