"""One attack by a crowd on a server of the lab, with Tocsin beside it or without; for `bench/crowd_live.py`.

python lab/besieged.py site                   what the site consists of, as JSON
python lab/besieged.py run JOB.json OUT.json  one run; leaves the access log in OUT.log
python lab/besieged.py warm COUNT             (within a server's network) so many requests at once

The server is an Apache with prefork and mod_php, a WordPress and a MariaDB within one memory limit, as on a small
virtual machine. The crowd sends one `POST /xmlrpc.php` an address: a `system.multicall` of pingbacks that name hosts
which never answer: half of the requests hold a worker, and its memory, for up to two minutes. Apache writes a line
when its request ends, so only those that name no such host are in the log at once. Tocsin runs within the same limit,
and without what its unit does to spare it from the kernel's killer.
"""

from __future__ import annotations

import asyncio
import json
import math
import random
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec

import draws
from draft import Draft
from server import Server
from space import FAR, SpaceError, command
from stack import Site, Stack
from wire import Peer, ask_once
from wordpress import ADMIN, ADMIN_PASSWORD, template

HERE = Path(__file__).resolve().parent
TOCSIN = Path(sys.executable).parent / "tocsin"
VHOST = "www.papierlicht.example"
STACK = Stack(
    web="apache", vhost=VHOST, aliases=[], wp_path="/", memory_bytes=3600 << 20, cpu_share=1.5, workers=450,
    keep_alive_s=2, reqtimeout=True, tz="UTC", access_format="combined", slow_log_s=None, kernel_log="kern.log",
    snapshots_s=None, supervised=False, posts=400, plugin_bytes=8 << 20,
)  # fmt: skip
DEAF = "203.0.113.0/24"  # nobody there answers or refuses
PER_S = 1000 / 120
PINGS = (0, 0, 2, 10)  # of a request; each waits ten seconds for the deaf, and a second of its own
ENDING_S = 40.0
READY_S = 60.0
READY = 350


class Job(msgspec.Struct):
    """One run: `kind` a (false Googlebots in forty /24s) or b (browsers that share no prefix), `history` the rotated
    log of the hours before, from which Tocsin learns; None: without Tocsin.
    """

    kind: str
    seed: int
    history: str | None
    quiet_s: int
    attack_s: int
    after_s: int


def draft_of(job: Job) -> Draft:
    """Everybody who comes."""
    rng = random.Random(f"crowd {job.kind} {job.seed}")
    draft = Draft(rng=rng, seed=job.seed, stack=STACK, nets=draws.networks(rng, 60))
    draft.before_s, draft.attack_s, draft.after_s = job.quiet_s, job.attack_s, job.after_s
    whole = draft.seconds
    draft.phase("visitors", 0, whole, draft.some(draft.nets, 400), per_s=0.8, pages=2, think_s=[2, 8])
    draft.phase("visitors", 0, whole, draft.some(draft.nets, 1), per_s=0.1, pages=2, think_s=[2, 8])  # an office
    google = [draws.address_like(rng, "66.249.66.{1-190}")]
    draft.phase("crawler", 5, whole, google, agent=draws.GOOGLEBOT, per_s=0.15)
    draft.phase("monitor", 0, whole, draft.some(draft.nets, 1), agent=draws.MONITORS[0], per_s=0.1, method="GET")
    draft.phase("app", 2, whole, draft.some(draft.nets, 1), agent=draws.APPS[0], per_s=0.02)
    draft.phase("admin", job.quiet_s + 20, whole, draft.some(draft.nets, 1), mistypes=1)
    count = math.ceil(PER_S * job.attack_s * 1.3)
    addresses = crowd_of(rng, job.kind, count)
    agent = draws.FALSE_GOOGLEBOTS[0] if job.kind == "a" else None
    for number, pings in enumerate(PINGS):
        draft.phase(
            "distributed", draft.before_s, draft.before_s + draft.attack_s, addresses[number :: len(PINGS)],
            agent=agent, per_s=PER_S / len(PINGS), in_flight=count, pings=pings, looks=2, timeout_s=150,
            froms=[DEAF.replace("0/24", f"{last}") for last in range(1, 200)], version="1.1",
        )  # fmt: skip
    return draft


def crowd_of(rng: random.Random, kind: str, count: int) -> list[str]:
    """The attackers: of forty /24s, or of a /16 each."""
    if kind == "a":
        nets = [f"{net}.{rng.randrange(256)}" for net in draws.networks(rng, 40)]
        return [f"{net}.{last}" for net, last in rng.sample([(n, x) for n in nets for x in range(1, 255)], count)]
    return [f"{net}.{rng.randrange(256)}.{rng.randrange(1, 255)}" for net in draws.networks(rng, count)]


def site_of() -> Site:
    """The site, without starting a server."""
    made = template()
    posts, login = made.posts[: STACK.posts], (ADMIN, ADMIN_PASSWORD)
    return Site(prefix="/", posts=posts, categories=made.categories, assets=made.assets, admin=login)


def run(job: Job, log: Path) -> dict[str, Any]:
    """One run; what became of it. The server's access log is left in `log`."""
    draft = draft_of(job)
    plan = {"vhost": VHOST, "seconds": draft.seconds, "seed": job.seed, "phases": draft.phases, "port": 80}
    with Server(STACK, "web1") as server:
        server.open_prefixes(sorted({f"{address.rpartition('.')[0]}.0/24" for address in draft.used}))
        keep_ready(server)
        command("ip", "-n", server.space.net, "route", "replace", DEAF, "via", FAR)
        guard = Guard(server, job.history) if job.history is not None else None
        try:
            seen, most_bytes = play(server, {**plan, "target": server.address})
            told = guard.told() if guard is not None else {}
            shutil.copyfile(server.space.root / "var/log/apache2/access.log", log)
        finally:
            if guard is not None:
                guard.stop()
        return {
            **seen, **told, "most_bytes": most_bytes, "oom_kills": server.oom_kills(), "dead": server.dead(),
            "failures": sum(service.failures for service in server.supervisor.services.values()),
        }  # fmt: skip


def keep_ready(server: Server) -> None:
    """Workers that are all there and have all served something, as on a server that has been up for long."""
    conf = server.space.home / "etc/apache2/mods-available/mpm_prefork.conf"
    text = re.sub(r"^StartServers .*$", f"StartServers {READY}", conf.read_text(), flags=re.MULTILINE)
    conf.write_text(re.sub(r"^MaxSpareServers .*$", f"MaxSpareServers {STACK.workers}", text, flags=re.MULTILINE))
    if not server.restart("web"):
        raise RuntimeError("Apache did not come back")
    there = ["nsenter", f"--net=/run/netns/{server.space.net}", sys.executable, str(HERE / "besieged.py")]
    subprocess.run([*there, "warm", str(READY)], check=True, timeout=READY_S)


async def warm(count: int) -> None:
    """Give each worker something to do."""
    peer, headers = Peer("127.0.0.1", 80, VHOST), {"User-Agent": "warm"}
    await asyncio.gather(*(ask_once(peer, "127.0.0.1", "GET", "/", headers, timeout_s=READY_S) for _ in range(count)))


def play(server: Server, plan: dict[str, Any]) -> tuple[dict[str, Any], int]:
    """The traffic to its end; what it saw, and the most memory that the server held."""
    home, most_bytes = server.space.home, 0
    (home / "plan.json").write_bytes(msgspec.json.encode({**plan, "site": msgspec.to_builtins(server.site)}))
    enter = ["nsenter", f"--net=/run/netns/{server.clients_netns}", sys.executable, str(HERE / "traffic.py")]
    with (home / "traffic.err").open("wb") as errors:
        words = [*enter, str(home / "plan.json"), str(home / "out.json")]
        traffic = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=errors, start_new_session=True)
        end_s = time.monotonic() + plan["seconds"] + ENDING_S
        try:
            while traffic.poll() is None and time.monotonic() < end_s:
                most_bytes = max(most_bytes, int((server.space.memory / "memory.usage_in_bytes").read_text()))
                time.sleep(0.2)
        finally:
            if traffic.poll() is None:
                traffic.kill()
                traffic.wait()
    if traffic.returncode != 0:
        raise RuntimeError(f"the traffic failed ({traffic.returncode}): {(home / 'traffic.err').read_text()[-2000:]}")
    seen: dict[str, Any] = json.loads((home / "out.json").read_text())
    return seen, most_bytes


class Guard:
    """Tocsin on that server, set up as its owner would: the include in Apache's configuration, then guard."""

    def __init__(self, server: Server, history: str) -> None:
        """Set up, started and ready."""
        self.server, self.space = server, server.space
        self.home = server.space.home / "guard"
        (self.home / "state").mkdir(parents=True)
        shutil.copy(history, self.space.root / "var/log/apache2/access.log.1")
        self.config = self.home / "tocsin.toml"
        self.config.write_text(
            f'[guard]\nstate_dir = "{self.home}/state"\n[logs]\ndiscover = false\njournal = "off"\n'
            f'[[log]]\npath = "/var/log/apache2/access.log"\n'
        )
        self.said = self.home / "guard.out"
        (self.space.root / "run/tocsin").mkdir()
        self.setup_said = self.tell("setup", "apache", "--yes")
        server.reload()
        with self.said.open("wb") as out:
            words = [str(TOCSIN), "guard", "--config", str(self.config)]
            self.process = self.space.start(words, stdout=out, stderr=out)
        end_s = time.monotonic() + READY_S
        while "guard is on:" not in self.said.read_text(errors="replace"):
            if self.process.poll() is not None or time.monotonic() > end_s:
                raise RuntimeError(f"guard did not start:\n{self.said.read_text(errors='replace')[-3000:]}")
            time.sleep(0.1)

    def tell(self, *words: str) -> str:
        """Run `tocsin WORDS` there."""
        line = self.space.inside([str(TOCSIN), *words, "--config", str(self.config)], in_cgroup=False)
        done = subprocess.run(line, capture_output=True, text=True, check=False, timeout=60, env=self.space.environment)
        if done.returncode:
            raise RuntimeError(f"tocsin {' '.join(words)} left with {done.returncode}: {done.stderr or done.stdout}")
        return done.stdout

    def told(self) -> dict[str, Any]:
        """What guard says of itself at the end, and what it said all the while."""
        status = json.loads(self.tell("status", "--json"))
        return {"status": status, "guard_said": self.said.read_text(errors="replace")[-20_000:]}

    def stop(self) -> None:
        """End it."""
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def main(words: list[str]) -> int:
    """One of the commands."""
    if TOCSIN.is_relative_to("/tmp"):  # noqa: S108 - the server's own stands over it
        raise SpaceError("this checkout lies below /tmp, which a server of the lab does not see")
    if words == ["site"]:
        print(json.dumps({"vhost": VHOST, **msgspec.to_builtins(site_of())}))
        return 0
    if words[0] == "warm":
        asyncio.run(warm(int(words[1])))
        return 0
    job = msgspec.json.decode(Path(words[1]).read_bytes(), type=Job)
    out = Path(words[2])
    out.write_text(json.dumps(run(job, out.with_suffix(".log"))))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
