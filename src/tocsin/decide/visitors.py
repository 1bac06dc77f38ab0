"""Which addresses have lately behaved like visitors: so that a rule that would hit visitors can be told from one that
hits attackers, however many.

A browser loads a page, then what the page is made of, and names the page as referer. Of each watched address:

- a *page* is a GET answered 200 or 304 whose path does not end like an asset. It is *confirmed* when an asset that
  names it as referer was answered 200, 206 or 304, or at once when its own referer is another page that the address
  has loaded (of those, the last eight are known);
- an *asset* that names a page as referer of which there is no line yet, since nginx logs a page when all of it is
  sent, confirms that page if it is the next that is loaded;
- an *asset* that names no referer, as browsers that keep it to themselves send it, belongs to the page that was loaded
  within the last fifteen seconds;
- an *asset* is a GET whose path ends like a style sheet, script, picture or font;
- *innocent* are confirmed pages, and of each page's assets the first three, so that one heavy page is not worth a
  hundred requests. *Neutral* are its other assets (missing ones too), and whatever succeeds and names a loaded page
  as referer (scripts that call home), and pages answered 429: a browser that is asked comes again. All else, and all
  that is none of this and matches a rule, is *foreign*.

A *visitor* has, within `lately_s`, loaded a page that an asset confirmed, and of its latest innocent and foreign
requests at least three in four were innocent. Who fetches one page with all its assets and then attacks is none by
the time of the second foreign request; and that a rule must have counted *visiting* (`breaker.py`) keeps out who
goes on fetching pages meanwhile.

Who is remembered is a sample that depends on the addresses' CRC alone: all while there are few, half as many each time
the table is full, more again when it has emptied. It cannot change what a rule finds, only what breakers and the gate
of a siege see.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from zlib import crc32

import msgspec
from msgspec import Struct
from msgspec.structs import replace

from tocsin.decide.subjects import bounds, canonical, site_of
from tocsin.model import HttpRequest

_STYLE = {"css", "js", "mjs", "map", "wasm", "woff", "woff2", "ttf", "otf", "eot"}
_PICTURES = {"png", "jpg", "jpeg", "gif", "webp", "avif", "svg", "ico", "bmp", "mp3", "mp4", "ogg", "webm"}
ASSET_SUFFIXES = frozenset(_STYLE | _PICTURES)
AVATARS = ("/avatars", "/repo-avatars")
REFUSED = 429
PAGES_KEPT = 8
BARE_ASSET_S = 15.0
ASSETS_COUNTED = 3  # of each page
INNOCENT_SHARE = 0.75
COUNTED_MAX = 64  # requests that count; older ones fade out by halves
PASSING_S = 60.0  # an address that has confirmed no page is forgotten so soon when room is needed
REFERERS_CACHED = 2048
REFERER_CHARS = 200  # longer ones are not worth their memory
MASK_MAX = 0xFFFF


class Visits(Struct, array_like=True, gc=False):
    """What one address has done. `pages` are CRCs of the paths of the last pages, `assets` how many named each."""

    seen_ts: float
    confirmed_ts: float = -math.inf
    innocent: int = 0
    foreign: int = 0
    pages: list[int] = []
    assets: list[int] = []
    site: str = ""
    opened_ts: float = -math.inf  # the last page
    early: int = 0  # the page that an asset named before there was a line of it
    led: bool = False  # its last request names as referer another page that it has loaded


class Saved(Struct, frozen=True, array_like=True):
    """The whole state, for a restart."""

    mask: int
    now_ts: float
    relax_ts: float
    table: dict[str, Visits]


def is_asset(path: str) -> bool:
    """Whether a path ends like something that a page embeds, or is somebody's picture, as forges name them."""
    return path[-6:].rpartition(".")[2].lower() in ASSET_SUFFIXES or (
        "avatars/" in path and path.rpartition("/")[0].endswith(AVATARS)
    )


def is_page(path: str) -> bool:
    """Whether a path ends like a page's: with no kind of file, or one that is made."""
    name, dot, kind = path.rpartition("/")[2].rpartition(".")
    return not dot or not name or kind.lower() in {"php", "html", "htm"}


def page_key(target: str) -> int:
    """What pages and referers are compared by: the path as sent, without query and fragment."""
    path = target.partition("?")[0].partition("#")[0]
    return crc32(path.encode("utf-8", "surrogatepass")) or 1


def referer_key(referer: str | None) -> int:
    """The `page_key` of the page that a referer names, 0 where it names none."""
    if not referer:
        return 0
    scheme = referer.find("://")
    slash = referer.find("/", scheme + 3) if scheme > 0 else -1
    return page_key(referer[slash:]) if slash > 0 else 0


class Visitors:
    """What at most `max_addresses` addresses have done lately, told by `note` in the order of the lines. Addresses are
    subjects (IPv6 by /64).
    """

    def __init__(self, max_addresses: int = 16_384, lately_s: float = 3600.0) -> None:
        self.max_addresses = max_addresses
        self.lately_s = lately_s
        self.now_ts = -math.inf
        self._mask = 0
        self._relax_ts = -math.inf
        self._table: dict[str, Visits] = {}
        self._referers: dict[str, int] = {}

    def sampled(self, subject: str) -> bool:
        """Whether the requests of this address are wanted."""
        return not crc32(subject.encode()) & self._mask

    def note(self, request: HttpRequest, subject: str = "", *, matched: bool = False) -> Visits | None:
        """A request. `subject` is the key of its address (default: made from `source_ip`); `matched` says that the
        condition of a rule fits it, other than one that counts every request. Returns what is known of the address by
        now; None where it is not in the sample.
        """
        if not subject:
            if request.source_ip is None:
                return None
            subject = canonical(request.source_ip)
        if request.ts > self.now_ts:
            self.now_ts = request.ts
            if request.ts >= self._relax_ts:
                self._relax()
        visits = self._table.get(subject) or self._meet(subject, request.ts)
        if visits is not None:
            visits.seen_ts = max(request.ts, visits.seen_ts)
            self._judge(visits, request, matched=matched)
        return visits

    def _meet(self, subject: str, ts: float) -> Visits | None:
        """An address not seen lately: remember it if it is in the sample."""
        if not self.sampled(subject):
            return None
        if len(self._table) >= self.max_addresses:
            self._make_room()
            if not self.sampled(subject):
                return None
        visits = self._table[subject] = Visits(ts)
        return visits

    def of(self, subject: str) -> Visits | None:
        """What is known of an address."""
        return self._table.get(subject)

    def _judge(self, visits: Visits, request: HttpRequest, *, matched: bool) -> None:
        status, referer = request.status or 0, request.referer
        referred = self._referers.get(referer) if referer else 0
        if referred is None:
            referred = self._remember(referer)
        at = visits.pages.index(referred) if referred in visits.pages else -1
        visits.led = at >= 0 and referred != page_key(request.target)
        if request.method == "GET" and is_asset(request.path):
            if at < 0 and not request.referer and visits.pages and 0 <= request.ts - visits.opened_ts <= BARE_ASSET_S:
                at = len(visits.pages) - 1
            if at >= 0 and status in (200, 206, 304):
                self._asset(visits, at, request.ts)
            elif referred and status in (200, 206, 304):
                visits.early = referred
            elif at < 0 and (status >= 400 or not referred):
                _count(visits, 0, 1)
        elif request.method == "GET" and status in (200, 304):
            key = page_key(request.target)
            led = at >= 0 and referred != key
            _open(visits, key)
            visits.opened_ts = request.ts
            if led:
                visits.assets[-1] = 1  # it needs no assets any more: the browser has them
            _count(visits, led, not led)
            if key == visits.early:
                self._asset(visits, len(visits.pages) - 1, request.ts)
            visits.early = 0
        elif request.method == "GET" and status == REFUSED and not matched:
            return
        elif matched or at < 0 or status >= 400:
            _count(visits, 0, 1)

    def _remember(self, referer: str | None) -> int:
        """A referer's key; all the assets of a page name the same one."""
        key = referer_key(referer)
        if referer and len(referer) <= REFERER_CHARS:
            if len(self._referers) >= REFERERS_CACHED:
                self._referers.clear()
            self._referers[referer] = key
        return key

    def _asset(self, visits: Visits, at: int, ts: float) -> None:
        named = visits.assets[at] = visits.assets[at] + 1
        if named == 1:  # until now the page stood as foreign
            visits.foreign -= visits.foreign > 0
            visits.innocent += 1
        visits.confirmed_ts = max(ts, visits.confirmed_ts)
        if named <= ASSETS_COUNTED:
            _count(visits, 1, 0)

    # -- questions ---------------------------------------------------------------------------------------------------

    def is_visitor(self, visits: Visits) -> bool:
        """Whether the address has lately behaved like a visitor."""
        return visits.confirmed_ts >= self.now_ts - self.lately_s and visits.innocent >= INNOCENT_SHARE * (
            visits.innocent + visits.foreign
        )

    def may_hit(self, subject: str) -> bool:
        """Whether a ban of the subject could hit a visitor; cheap, and mostly no."""
        visits = self._table.get(subject)
        return bool(visits.pages) if visits is not None else _is_wide(subject)

    def hit_by(self, subject: str, crossing: HttpRequest | None = None) -> dict[str, Visits]:
        """The visitors whom a ban of the subject (an address, or a prefix) would hit. `crossing` is the request that
        leads to the ban and that was not noted yet: it may be the one that makes its sender a visitor.
        """
        visits = self._table.get(subject)
        if visits is not None:
            if crossing is not None and not self.is_visitor(visits):
                visits = self._with(visits, crossing)
            return {subject: visits} if self.is_visitor(visits) else {}
        if not _is_wide(subject):
            return {}
        version, low, high = bounds(subject)
        hit = {}
        for address, known in self._visitors():
            its_version, first, last = bounds(address)
            if its_version == version and low <= first and last <= high:
                hit[address] = known
        return hit

    def _with(self, visits: Visits, request: HttpRequest) -> Visits:
        """A copy of an address's state, one request later."""
        later = replace(visits, pages=visits.pages[:], assets=visits.assets[:])
        self._judge(later, request, matched=False)
        return later

    def sites_seen(self) -> int:
        """From how many networks (IPv4 /16, IPv6 /32) visitors came lately."""
        return len({self.site(address, visits) for address, visits in self._visitors()})

    def site(self, address: str, visits: Visits) -> str:
        """The network for which a visitor counts, worked out once."""
        if not visits.site:
            visits.site = site_of(address)
        return visits.site

    def was_visiting(self, address: str, request: HttpRequest) -> bool:
        """Whether a request of this address is what visitors do: a page that is there, or an asset that is there or
        that a page it has loaded asks for.
        """
        if request.method != "GET" or request.status is None:
            return False
        if not is_asset(request.path):
            return request.status in (200, 304)
        visits = self._table.get(address)
        own = visits is not None and referer_key(request.referer) in visits.pages
        return own or request.status in (200, 206, 304)

    def lately(self) -> Iterator[tuple[str, Visits]]:
        """All who have lately behaved like visitors, in the order in which they came first."""
        return self._visitors()

    def _visitors(self) -> Iterator[tuple[str, Visits]]:
        return ((address, visits) for address, visits in self._table.items() if self.is_visitor(visits))

    # -- bounds ------------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Free at least a quarter: whoever is gone, who only passed, then half of the sample as often as it takes."""
        self._keep(lambda visits: visits.seen_ts >= self.now_ts - self.lately_s)
        recent_ts = self.now_ts - PASSING_S
        self._keep(lambda visits: visits.confirmed_ts > -math.inf or visits.seen_ts >= recent_ts)
        enough = self.max_addresses * 3 // 4
        while len(self._table) > enough and self._mask < MASK_MAX:
            self._mask = 2 * self._mask + 1
            self._forget([address for address in self._table if not self.sampled(address)])
        if len(self._table) > enough:  # addresses chosen so that they are in every sample
            self._keep(lambda visits: visits.confirmed_ts > -math.inf)
            self._forget(list(self._table)[: max(0, len(self._table) - enough)])

    def _relax(self) -> None:
        """From time to time: forget who is gone, and watch twice as many where that leaves the table rather empty."""
        self._relax_ts = self.now_ts + self.lately_s / 2
        self._keep(lambda visits: visits.seen_ts >= self.now_ts - self.lately_s)
        if len(self._table) < self.max_addresses // 4:
            self._mask >>= 1

    def _keep(self, wanted: Callable[[Visits], bool]) -> None:
        self._forget([address for address, visits in self._table.items() if not wanted(visits)])

    def _forget(self, addresses: list[str]) -> None:
        for address in addresses:
            del self._table[address]

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """All state, for a restart."""
        return msgspec.msgpack.encode(Saved(self._mask, self.now_ts, self._relax_ts, self._table))

    def load(self, state: bytes) -> None:
        """Take up a dumped state. msgspec.DecodeError where it is none."""
        saved = msgspec.msgpack.decode(state, type=Saved)
        self._mask, self.now_ts, self._relax_ts, self._table = saved.mask, saved.now_ts, saved.relax_ts, saved.table


def _is_wide(subject: str) -> bool:
    """Whether a subject is more than the one address (or IPv6 /64) that visitors are watched by."""
    return "/" in subject and not subject.endswith(("/64", "/128"))


def _open(visits: Visits, key: int) -> None:
    """A page was loaded: it is the last one now."""
    if key in visits.pages:
        at = visits.pages.index(key)
        del visits.pages[at], visits.assets[at]
    elif len(visits.pages) >= PAGES_KEPT:
        del visits.pages[0], visits.assets[0]
    visits.pages.append(key)
    visits.assets.append(0)


def _count(visits: Visits, innocent: int, foreign: int) -> None:
    if visits.innocent + visits.foreign >= COUNTED_MAX:
        visits.innocent //= 2
        visits.foreign //= 2
    visits.innocent += innocent
    visits.foreign += foreign
