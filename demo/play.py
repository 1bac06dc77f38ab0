"""The demo: a web site, visitors, two false Googlebots, and Tocsin, in network namespaces made for it. Under a minute.

Everything is real: TCP connections from forty visitors' addresses and two attackers', a site that writes an access
log, `tocsin guard` as it is installed, bans in a kernel's firewall. Nothing leaves the namespaces; they end with us.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from tocsin.decide.crawlers import in_published_range
from traffic import ATTACKERS, VISITORS

HERE = Path(__file__).resolve().parent
TOCSIN = HERE.parent / ".venv" / "bin" / "tocsin"
SERVER, CLIENTS = "10.9.0.1", "10.9.0.2"
QUIET_S, WHOLE_S = 5.0, 25.0
INSIDE = "TOCSIN_DEMO_INSIDE"


def enter_namespaces() -> None:
    """Run this program again inside a network namespace of its own (as root, or as root of a user namespace)."""
    if os.environ.get(INSIDE):
        return
    unshare = ["unshare", "--net", "--mount", *([] if os.getuid() == 0 else ["--user", "--map-root-user"])]
    if subprocess.run([*unshare, "true"], capture_output=True, check=False).returncode != 0:
        sys.exit("demo: this kernel lets us make no namespaces; run `make demo` as root")
    os.execvpe(unshare[0], [*unshare, sys.executable, *sys.argv], {**os.environ, INSIDE: "1"})


def command(*words: str) -> None:
    """Run a program that has to work."""
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"demo: {' '.join(words)}: {done.stderr.strip()}")


def make_network(pid: int) -> None:
    """A cable between us (the server) and the namespace of process `pid` (the clients), and routes to them."""
    inside = ("nsenter", "--net", "--target", str(pid))
    command("ip", "link", "set", "lo", "up")
    command("ip", "link", "add", "site", "type", "veth", "peer", "name", "world", "netns", str(pid))
    command("ip", "addr", "add", f"{SERVER}/24", "dev", "site")
    command("ip", "link", "set", "site", "up")
    command(*inside, "ip", "link", "set", "lo", "up")
    command(*inside, "ip", "addr", "add", f"{CLIENTS}/24", "dev", "world")
    command(*inside, "ip", "link", "set", "world", "up")
    for network in ("198.51.100.0/24", "63.251.225.0/24"):
        command(*inside, "ip", "route", "add", "local", network, "dev", "lo")
        command("ip", "route", "add", network, "via", CLIENTS)


@contextlib.contextmanager
def started(*words: str, **how: Any) -> Iterator[subprocess.Popen[str]]:
    """A program that runs beside us and is ended with us."""
    process = subprocess.Popen(words, text=True, **how)
    try:
        yield process
    finally:
        if process.poll() is None:
            process.terminate()
            try:
                process.wait(5)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


class KernelWatch:
    """Listens to the kernel's own announcements of new set elements, and notes when each attacker's came."""

    def __init__(self) -> None:
        self.banned_ts: dict[str, float] = {}

    def listen(self, lines: Iterator[str]) -> None:
        """Read `nft monitor` until it ends."""
        for line in lines:
            now = time.time()
            for address in ATTACKERS:
                if "add element" in line and address in line:
                    self.banned_ts.setdefault(address, now)


def dropped_packets() -> int:
    """What the kernel has counted against the attackers."""
    listing = subprocess.run(
        ["nft", "-j", "list", "table", "inet", "tocsin"], capture_output=True, text=True, check=False
    )
    if listing.returncode:
        return 0
    total = 0
    for item in json.loads(listing.stdout)["nftables"]:
        for element in item.get("set", {}).get("elem", []):
            total += element.get("elem", {}).get("counter", {}).get("packets", 0)
    return total


def enough(address: str) -> int:
    """How many lines give an attacker away: the first, which claims to be Googlebot from an address that Google does
    not publish; the third, by the rule against floods, once our lists of such addresses are too old to prove that.
    """
    return 1 if in_published_range("Googlebot", address, time.time()) is False else 3


def crossing_lines(times: Path) -> dict[str, float]:
    """When the site wrote the line by which each attacker is banned."""
    written: dict[str, list[float]] = {}
    for line in times.read_text().splitlines():
        address, when = line.split()
        written.setdefault(address, []).append(float(when))
    return {who: each[enough(who) - 1] for who, each in written.items() if len(each) >= enough(who)}


def say(text: str = "") -> None:
    """One line, at once."""
    print(text, flush=True)


def show(totals: dict[str, int], began_s: float, killed: int, watch: KernelWatch) -> None:
    """One line of the running picture."""
    get = totals.get
    attack = f"attack: {get('attack_sent', 0):3} sent, {get('attack_served', 0):2} served"
    visitors = f"visitors: {get('visitor_served', 0):4} served, {get('visitor_failed', 0)} failed"
    banned = f"   banned: {', '.join(sorted(watch.banned_ts))}" if watch.banned_ts else ""
    say(f"  {time.monotonic() - began_s:4.0f} s   {visitors}   {attack}   dropped packets: {killed:3}{banned}")


def report(totals: dict[str, int], folder: Path, watch: KernelWatch) -> bool:
    """The figures at the end; says whether all went as it should."""
    say("\nWhat happened")
    crossing = crossing_lines(folder / "times")
    for address in ATTACKERS:
        if address not in crossing or address not in watch.banned_ts:
            say(f"  {address} was NOT banned")
            return False
        millis = 1000 * (watch.banned_ts[address] - crossing[address])
        say(f"  {address}: {millis:.1f} ms from its line {enough(address)} in the log to the ban in the kernel")
    served, failed = totals.get("attack_served", 0), totals.get("visitor_failed", 0)
    say(f"  requests the attackers got through: {served} of {totals.get('attack_sent', 0)}")
    say(f"  packets of theirs that died in the kernel: {dropped_packets()}")
    say(f"  visitors' requests: {totals.get('visitor_served', 0)} served, {failed} failed ({len(VISITORS)} addresses)")
    return failed == 0 and served < 4 * sum(map(enough, ATTACKERS))


def main() -> int:
    """Run it all."""
    enter_namespaces()
    began_s = time.monotonic()
    folder = Path(tempfile.mkdtemp(prefix="tocsin-demo-"))
    folder.chmod(0o755)
    try:
        return play(folder, began_s)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def play(folder: Path, began_s: float) -> int:
    """The scene: the network, the site, guard, the traffic; then the figures and `tocsin why`."""
    config = folder / "tocsin.toml"
    config.write_text(
        f'[guard]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[logs]\ndiscover = false\njournal = "off"\n[[log]]\npath = "{folder}/access.log"\n'
    )
    with contextlib.ExitStack() as stack:
        clients = stack.enter_context(started("unshare", "--net", "sleep", str(4 * WHOLE_S)))
        wait_until(lambda: namespace(clients.pid) != namespace(os.getpid()), "the clients' namespace")
        make_network(clients.pid)
        (folder / "access.log").touch()
        stack.enter_context(started(sys.executable, str(HERE / "website.py"), str(folder)))
        say("A web site on port 80, and `tocsin guard` on its access log:\n")
        stack.enter_context(started(str(TOCSIN), "guard", "--config", str(config), cwd="/"))
        tell = str(TOCSIN), "status", "--config", str(config), "--json"
        wait_until(lambda: subprocess.run(tell, capture_output=True, check=False).returncode == 0, "guard")
        wait_until(
            lambda: (
                subprocess.run(["nft", "list", "table", "inet", "tocsin"], capture_output=True, check=False).returncode
                == 0
            ),
            "table",
        )
        monitor = stack.enter_context(started("nft", "monitor", "elements", stdout=subprocess.PIPE))
        watch = KernelWatch()
        assert monitor.stdout is not None
        threading.Thread(target=watch.listen, args=(iter(monitor.stdout),), daemon=True).start()
        say(f"\n{len(VISITORS)} visitors read the site; after {QUIET_S:.0f} s two false Googlebots post to it:\n")
        enter = ("nsenter", "--net", "--target", str(clients.pid), sys.executable, str(HERE / "traffic.py"))
        traffic = stack.enter_context(started(*enter, SERVER, str(WHOLE_S), str(QUIET_S), stdout=subprocess.PIPE))
        assert traffic.stdout is not None
        totals: dict[str, int] = {}
        for number, line in enumerate(traffic.stdout):
            totals = json.loads(line)
            if number % 4 == 0:
                show(totals, began_s, dropped_packets(), watch)
        good = report(totals, folder, watch)
        say(f"\n$ tocsin why {ATTACKERS[0]}\n")
        subprocess.run([str(TOCSIN), "why", ATTACKERS[0], "--config", str(config)], check=False)
        say(f"\n{'All as it should be' if good else 'NOT as it should be'}, in {time.monotonic() - began_s:.0f} s.")
        return 0 if good else 1


def namespace(pid: int) -> str:
    """Which network namespace a process is in."""
    return str(Path(f"/proc/{pid}/ns/net").readlink())


def wait_until(holds: Any, what: str, within_s: float = 15.0) -> None:
    """Wait for something that has to come."""
    end_s = time.monotonic() + within_s
    while not holds():
        if time.monotonic() > end_s:
            sys.exit(f"demo: {what} did not come up within {within_s:.0f} s")
        time.sleep(0.05)


if __name__ == "__main__":
    sys.exit(main())
