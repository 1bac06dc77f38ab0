"""Everybody who brings no server down: readers, crawlers, monitors, feed readers, an app, an administrator, probes.

Each function plays one phase of the plan until its end. `phase["addresses"]` are those that may be used.
"""

from __future__ import annotations

import asyncio
import random
import re

from draws import SEARCHES, browser, words
from wire import NOTHING, Link, Reply
from world import Phase, World

ASSET = re.compile(
    rb"""(?:src|href)=["'](?:https?://[^/"' ]{1,200})?(/[^"'?# >]{1,200}\.(?:css|js|png|jpe?g|gif|svg|ico|woff2?))"""
)
FORM = "application/x-www-form-urlencoded"
PATIENCE_S = 20.0
ASSETS_AT_MOST = 12


def profile(phase: Phase, address: str) -> random.Random:
    """What stays the same about an address for the whole run: its browser, its habits."""
    return random.Random(f"{phase['seed']} {address}")


class Reader:
    """One browser on one site: what it has in its cache, and where it stands."""

    def __init__(self, world: World, address: str, agent: str, referer: str | None) -> None:
        self.world, self.agent, self.referer = world, agent, referer
        self.link = Link(world.peer, address)
        self.cached: set[str] = set()

    def headers(self, referer: str | None) -> dict[str, str]:
        """As a browser sends them."""
        found = {"User-Agent": self.agent, "Accept": "text/html,*/*;q=0.8", "Accept-Language": "en,de;q=0.7"}
        return {**found, "Referer": referer} if referer else found

    async def load(self, path: str) -> bool:
        """A page and what belongs to it; whether the page itself came."""
        world, began = self.world, self.world.now()
        reply = await world.ask("visitor", self.link, "GET", path, self.headers(self.referer), timeout_s=PATIENCE_S)
        if reply.status in (301, 302) and (there := reply.headers.get("location", "")):
            path = "/" + there.split("/", 3)[-1] if "://" in there else there
            reply = await world.ask("visitor", self.link, "GET", path, self.headers(self.referer), timeout_s=PATIENCE_S)
        came = reply.status is not None and reply.status < 500
        world.loads.append((round(began, 3), came, round(world.now() - began, 3)))
        if came:
            self.referer = f"http://{world.peer.vhost}{path}"
            await self.assets(reply)
        return came

    async def assets(self, reply: Reply) -> None:
        """What the page names and the cache has not, and some of the site's own."""
        named = [match.decode("latin-1") for match in ASSET.findall(reply.body)]
        wanted = dict.fromkeys([*named, *self.world.site.assets])
        for asset in [each for each in wanted if each not in self.cached][:ASSETS_AT_MOST]:
            came = await self.world.ask("visitor", self.link, "GET", asset, self.headers(self.referer), timeout_s=8)
            if came.status is None:
                return
            self.cached.add(asset)


async def session(world: World, phase: Phase, address: str, rng: random.Random) -> None:
    """One visit: some pages at a reader's pace; a page that fails is reloaded by some."""
    referer = phase.get("referer") or rng.choice(SEARCHES)
    reader = Reader(world, address, browser(profile(phase, address)), referer)
    path = phase.get("landing") or world.page()
    try:
        for _ in range(min(8, 1 + int(rng.expovariate(1 / float(phase["pages"]))))):
            tries = 0
            while not await reader.load(path):
                tries += 1
                if tries > 2 or rng.random() < 0.45 or world.now() > phase["end_s"]:
                    return
                await asyncio.sleep(rng.uniform(1, 6))
            await asyncio.sleep(rng.uniform(*phase["think_s"]))
            if world.now() > phase["end_s"]:
                return
            path = next_page(world, rng)
    finally:
        reader.link.close()


def next_page(world: World, rng: random.Random) -> str:
    """Where a reader goes from here: mostly on, sometimes to the search, sometimes after a link that is dead."""
    pick = rng.random()
    if pick < 0.03:
        return f"{world.site.prefix}?s={words(rng, 1)}"
    if pick < 0.06:
        return f"{world.site.prefix}old-{rng.randrange(400)}/"
    return world.page()


async def visitors(world: World, phase: Phase) -> None:
    """Readers who come one by one (`per_s`); also the surge, where `referer` and `landing` say what brought them."""
    for at_s in world.arrivals(phase):
        await world.until(at_s)
        world.spawn(session(world, phase, world.rng.choice(phase["addresses"]), random.Random(world.rng.random())))


async def retries(world: World, phase: Phase) -> None:
    """The impatient, who reload until the page comes."""
    await asyncio.gather(*(impatient(world, phase, address) for address in phase["addresses"]))


async def impatient(world: World, phase: Phase, address: str) -> None:
    """One of them."""
    rng = profile(phase, address)
    reader = Reader(world, address, browser(rng), None)
    path = world.page()
    await world.until(phase["start_s"] + rng.uniform(0, 5))
    for _ in range(200):
        if world.now() > phase["end_s"] or await reader.load(path):
            break
        await asyncio.sleep(rng.uniform(0.8, 4))
    reader.link.close()


async def paced(world: World, phase: Phase, role: str, target: str | None = None, method: str = "GET") -> None:
    """A program that asks at its own pace (`per_s`), each time from one of its addresses; for pages where no target."""
    timeout_s = float(phase.get("timeout_s", 30))
    for at_s in world.arrivals(phase):
        await world.until(at_s)
        link = Link(world.peer, world.rng.choice(phase["addresses"]), keep=False)
        headers = {"User-Agent": phase["agent"], "Accept": "*/*"}
        world.spawn(quietly(world.ask(role, link, method, target or world.page(), headers, timeout_s=timeout_s)))


async def quietly(work: object) -> None:
    """A request whose answer nobody reads."""
    assert asyncio.iscoroutine(work)
    await work


async def crawler(world: World, phase: Phase) -> None:
    """A crawler that is what it says, at a moderate pace, robots.txt first."""
    link = Link(world.peer, phase["addresses"][0], keep=False)
    await world.until(phase["start_s"])
    await world.ask("crawler", link, "GET", "/robots.txt", {"User-Agent": phase["agent"]})
    await paced(world, phase, "crawler")


async def monitor(world: World, phase: Phase) -> None:
    """An uptime monitor."""
    await paced(world, phase, "monitor", world.site.prefix, phase["method"])


async def feed(world: World, phase: Phase) -> None:
    """Feed readers."""
    await paced(world, phase, "feed", f"{world.site.prefix}feed/")


async def poller(world: World, phase: Phase) -> None:
    """Something that fetches the same small file again and again: many requests that cost next to nothing."""
    await paced(world, phase, "app", world.site.assets[int(phase["seed"]) % len(world.site.assets)])


async def noise(world: World, phase: Phase) -> None:
    """What every site's log is full of: somebody tries a password, or XML-RPC, now and then, and harms nobody."""
    script = {"login": "wp-login.php", "xmlrpc": "xmlrpc.php"}[phase["what"]]
    for number, at_s in enumerate(world.arrivals(phase)):
        await world.until(at_s)
        body = f"log=admin&pwd=qwerty{number}".encode() if phase["what"] == "login" else APP_CALL.format(
            name="wp.getUsersBlogs", user="admin", password=f"qwerty{number}"
        ).encode()  # fmt: skip
        headers = {"User-Agent": phase["agent"], "Content-Type": FORM if phase["what"] == "login" else "text/xml"}
        link = Link(world.peer, world.rng.choice(phase["addresses"]), keep=False)
        world.spawn(quietly(world.ask("probe", link, "POST", world.site.prefix + script, headers, body)))


async def probes(world: World, phase: Phase) -> None:
    """Somebody looks for secrets; nobody's server falls from it."""
    await world.until(phase["start_s"])
    link = Link(world.peer, phase["addresses"][0])
    for path in phase["paths"]:
        await world.ask("probe", link, "GET", world.site.prefix + path, {"User-Agent": phase["agent"]})
        await asyncio.sleep(world.rng.uniform(0.1, 0.8))
    link.close()


APP_CALL = """<?xml version="1.0"?><methodCall><methodName>{name}</methodName><params>
<param><value><int>1</int></value></param><param><value><string>{user}</string></value></param>
<param><value><string>{password}</string></value></param></params></methodCall>"""


async def app(world: World, phase: Phase) -> None:
    """A mobile app that uses XML-RPC as it is meant."""
    user, password = world.site.admin
    link = Link(world.peer, phase["addresses"][0])
    for at_s in world.arrivals(phase):
        await world.until(at_s)
        for name in world.rng.sample(("wp.getPosts", "wp.getOptions", "wp.getComments", "wp.getProfile"), 2):
            body = APP_CALL.format(name=name, user=user, password=password).encode()
            headers = {"User-Agent": phase["agent"], "Content-Type": "text/xml"}
            await world.ask("app", link, "POST", f"{world.site.prefix}xmlrpc.php", headers, body)
    link.close()


async def admin(world: World, phase: Phase) -> None:
    """The administrator: mistypes the password now and then, logs in, works in wp-admin with its heartbeat."""
    prefix, (user, password) = world.site.prefix, world.site.admin
    link = Link(world.peer, phase["addresses"][0])
    headers = {"User-Agent": browser(profile(phase, phase["addresses"][0]))}
    await world.until(phase["start_s"])
    await world.ask("admin", link, "GET", f"{prefix}wp-login.php", headers)
    reply = NOTHING
    for secret in [*["not-this-one"] * int(phase["mistypes"]), password]:
        await asyncio.sleep(world.rng.uniform(1, 4))
        body = f"log={user}&pwd={secret}&wp-submit=Log+In&testcookie=1".encode()
        form = {
            **headers,
            "Content-Type": "application/x-www-form-urlencoded",
            "Cookie": "wordpress_test_cookie=WP+Cookie+check",
        }
        reply = await world.ask("admin", link, "POST", f"{prefix}wp-login.php", form, body)
    inside = {**headers, "Cookie": "; ".join(reply.cookies)}
    for page in ("", "edit.php", "upload.php", "plugins.php"):
        await world.ask("admin", link, "GET", f"{prefix}wp-admin/{page}", inside)
        await asyncio.sleep(world.rng.uniform(2, 6))
    while world.now() < phase["end_s"]:
        beat = {**inside, "Content-Type": FORM}
        await world.ask("admin", link, "POST", f"{prefix}wp-admin/admin-ajax.php", beat, b"action=heartbeat")
        await asyncio.sleep(15)
    link.close()
