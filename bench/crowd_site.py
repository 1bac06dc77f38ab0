"""A machine as its access log shows it, drawn from a seed: its hosts, their pages, who is on the net, how it logs.

`Book` takes requests as they begin and writes them as Apache does: each line when its request ends, with the stamp of
its start.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from ipaddress import IPv6Address, ip_network
from itertools import accumulate
from typing import NamedTuple
from zlib import crc32

from msgspec import Struct

from crowd_lab import NAMES, NEWS_SITES, NOT_PUBLIC, SEARCHES, WORDS, networks
from measuring import ROOT

ZONES_S = (0, 0, 3600, 7200, -18000, -28800, 19800, 32400, 36000, -10800)
FIRST_TS, LAST_TS = 1_790_000_000, 1_795_000_000  # 21 September to 18 November 2026
FIRSTS = [first for first in range(2, 223) if first not in NOT_PUBLIC]
OWN = "203.0.113.80"
DAY_S = 86400.0


class Line(NamedTuple):
    """One line of the log. `ts` is when its request began, to the microsecond, `end_ts` when it was written; `who` is
    the client's address, `label` what it is (`visitor`, `office`, `attack` ...).
    """

    ts: float
    text: str
    who: str
    label: str
    end_ts: float


class Page(Struct, frozen=True):
    """A page: its target, the files that it alone embeds, its length in bytes."""

    target: str
    files: tuple[str, ...]
    size: int


class Host(Struct, frozen=True):
    """A WordPress below `prefix` of a virtual host. `theme` are the files that all its pages embed; `reach` the
    cumulated weights by which visitors come to its pages, `beacon` what its pages call home with.
    """

    vhost: str
    prefix: str
    pages: tuple[Page, ...]
    lists: tuple[Page, ...]
    theme: tuple[str, ...]
    reach: tuple[float, ...]
    beacon: str
    pretty_search: bool

    def page(self, rng: random.Random) -> Page:
        """A page as a reader comes to it."""
        pick = rng.random()
        if pick < 0.25:
            return self.lists[0]
        return rng.choice(self.lists) if pick < 0.35 else rng.choices(self.pages, cum_weights=self.reach)[0]

    def search(self, words: str) -> str:
        """The target of a search."""
        return f"{self.prefix}search/{words.replace('+', '%20')}/" if self.pretty_search else f"{self.prefix}?s={words}"

    def url(self, target: str) -> str:
        """What a browser names as referer."""
        return f"https://{self.vhost}{target}"


class Machine(Struct, frozen=True):
    """Everything about one case that its people share. `nets` are the networks (`a.b`) of its visitors, `nets6` their
    IPv6 providers; `per_min` how many visits begin in a minute of the day's best hour.
    """

    hosts: tuple[Host, ...]
    zone_s: int
    with_vhost: bool
    h2: bool
    nets: tuple[str, ...]
    nets6: tuple[int, ...]
    v6_share: float
    per_min: float
    night: float

    def host(self, rng: random.Random) -> Host:
        """A host as visitors choose it."""
        return rng.choices(self.hosts, (6, 2, 1)[: len(self.hosts)])[0]

    def address(self, rng: random.Random) -> str:
        """Some visitor's address."""
        if rng.random() < self.v6_share:
            return address6(rng, rng.choice(self.nets6))
        return f"{rng.choice(self.nets)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"

    def rate(self, ts: float) -> float:
        """The part of the best hour's visitors that a time has: by night few come."""
        hour = (ts + self.zone_s) % DAY_S / 3600
        return self.night + (1 - self.night) * (0.5 + 0.5 * math.cos((hour - 16) * math.pi / 12))


def address6(rng: random.Random, provider: int) -> str:
    """An address out of a /32."""
    return str(IPv6Address(provider << 96 | rng.getrandbits(28) << 68 | rng.getrandbits(4) << 64 | rng.getrandbits(64)))


def anywhere(rng: random.Random) -> str:
    """An IPv4 address out of any network."""
    return f"{rng.choice(FIRSTS)}.{rng.randrange(256)}.{rng.randrange(256)}.{rng.randrange(1, 255)}"


def draw_machine(rng: random.Random) -> Machine:
    """One machine."""
    count = rng.choices((1, 2, 3), (5, 3, 2))[0]
    names = rng.sample(NAMES, count)
    return Machine(
        hosts=tuple(draw_host(rng, f"{'www.' if rng.random() < 0.5 else ''}{name}.example") for name in names),
        zone_s=rng.choice(ZONES_S),
        with_vhost=count > 1 or rng.random() < 0.2,
        h2=rng.random() < 0.6,
        nets=tuple(networks(rng, rng.randint(60, 250))),
        nets6=tuple(0x2A000000 + rng.randrange(0x0FFFFFF) for _ in range(rng.randint(5, 30))),
        v6_share=rng.choice((0.0, 0.1, 0.3, 0.45)),
        per_min=rng.uniform(6, 40),
        night=rng.uniform(0.15, 0.5),
    )


def draw_host(rng: random.Random, vhost: str) -> Host:
    """One site: how it names its pages, how many there are, what they are made of."""
    prefix = rng.choice(("/", "/", "/", "/", "/blog/", "/wordpress/"))
    shape = rng.choice(("{slug}/", "{slug}/", "{y}/{m:02}/{slug}/", "posts/{slug}", "?p={id}", "{slug}.html"))
    theme_name, version = rng.choice(WORDS), f"{rng.randint(1, 6)}.{rng.randint(0, 9)}.{rng.randint(0, 4)}"
    theme = [f"{prefix}wp-content/themes/{theme_name}/style.css?ver={version}"]
    for number in range(rng.randint(3, 12)):
        folder = rng.choice((f"themes/{theme_name}/js", f"plugins/{rng.choice(WORDS)}/assets", f"uploads/{theme_name}"))
        theme.append(
            f"{prefix}wp-content/{folder}/{rng.choice(WORDS)}{number}.{rng.choice(('js', 'css', 'svg', 'woff2'))}"
        )
    pages = tuple(draw_page(rng, prefix, shape, number) for number in range(rng.randint(60, 700)))
    steep = rng.uniform(0.5, 1.1)
    lists = [Page(prefix, (f"{prefix}wp-content/uploads/header.jpg",), rng.randint(15_000, 90_000))]
    for word in rng.sample(WORDS, rng.randint(4, 15)):
        base = f"{prefix}{rng.choice(('category', 'tag', 'product-category'))}/{word}/"
        lists += [Page(f"{base}page/{number}/" if number > 1 else base, (), rng.randint(12_000, 80_000))
                  for number in range(1, rng.randint(2, 6))]  # fmt: skip
    return Host(
        vhost=vhost,
        prefix=prefix,
        pages=pages,
        lists=tuple(lists),
        theme=tuple(theme),
        reach=tuple(accumulate(1 / (rank + 1) ** steep for rank in range(len(pages)))),
        beacon=rng.choice(
            ("", "", f"{prefix}wp-admin/admin-ajax.php", f"{prefix}wp-json/{rng.choice(WORDS)}/v1/views")
        ),
        pretty_search=rng.random() < 0.2,
    )


def draw_page(rng: random.Random, prefix: str, shape: str, number: int) -> Page:
    """One post of a site."""
    slug = "-".join(rng.sample(WORDS, rng.randint(2, 4)))
    year, month = rng.randint(2014, 2026), rng.randint(1, 12)
    target = prefix + shape.format(slug=f"{slug}-{number}", y=year, m=month, id=number * 7 + 11)
    files = (
        f"{prefix}wp-content/uploads/{year}/{month:02}/{slug}-{each}-{rng.choice((300, 768, 1024))}.{kind}"
        for each, kind in enumerate(rng.choices(("jpg", "jpg", "webp", "png"), k=rng.choice((0, 1, 1, 2, 3, 6))))
    )
    return Page(target, tuple(files), rng.randint(9_000, 120_000))


def size_of(file: str) -> int:
    """The length of a file in bytes, always the same."""
    return 800 + crc32(file.encode()) % 200_000


def published(name: str) -> list[str]:
    """The IPv4 networks that a crawler's operator publishes, out of the shipped lists."""
    text = next((ROOT / "src" / "tocsin").rglob("crawler_ranges.txt")).read_text()
    block = text.partition(f"\n{name} ")[2].partition("\n")[2].split("\n\n")[0]
    return [word for word in block.split() if "/" in word and ":" not in word]


def address_of(rng: random.Random, network: str) -> str:
    """A host's address out of a network."""
    net = ip_network(network)
    return str(net[rng.randrange(1, net.num_addresses - 1)])


def referer_of(rng: random.Random) -> str:
    """Where a reader comes from; often nowhere that a log tells of."""
    return rng.choices((rng.choice(SEARCHES) or "-", rng.choice(NEWS_SITES), "-"), (6, 1, 3))[0]


def arrivals(rng: random.Random, start_ts: float, end_ts: float, per_s: float) -> Iterator[float]:
    """Times of a Poisson process."""
    ts = start_ts + rng.expovariate(per_s)
    while ts < end_ts:
        yield ts
        ts += rng.expovariate(per_s)


class Book:
    """What becomes a log: requests of everybody, in any order."""

    def __init__(self, machine: Machine) -> None:
        """Empty."""
        self.machine = machine
        self._lines: list[Line] = []
        self._stamps: dict[int, str] = {}
        self._zone = (
            f"{'-' if machine.zone_s < 0 else '+'}{abs(machine.zone_s) // 3600:02}{abs(machine.zone_s) % 3600 // 60:02}"
        )

    def add(
        self,
        ts: float,
        who: str,
        label: str,
        host: Host,
        request: str,
        status: int,
        size: int,
        agent: str,
        referer: str = "-",
        *,
        took_s: float = 0.02,
        proto: str = "",
    ) -> None:
        """One request: `request` is method and target."""
        whole = int(ts)
        stamp = self._stamps.get(whole) or self._stamps.setdefault(whole, self._stamp(whole))
        vhost = f"{host.vhost}:443 " if self.machine.with_vhost else ""
        proto = proto or ("HTTP/2.0" if self.machine.h2 else "HTTP/1.1")
        text = f'{vhost}{who} - - [{stamp}] "{request} {proto}" {status} {size or "-"} "{referer}" "{agent}"'
        self._lines.append(Line(ts, text, who, label, ts + took_s))

    def _stamp(self, ts: int) -> str:
        return time.strftime(f"%d/%b/%Y:%H:%M:%S {self._zone}", time.gmtime(ts + self.machine.zone_s))

    def lines(self, end_ts: float) -> list[Line]:
        """All that was written by a time, in the order of writing."""
        return sorted((line for line in self._lines if line.end_ts < end_ts), key=lambda line: line.end_ts)
