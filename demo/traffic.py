"""Visitors who load pages with their assets, and two false Googlebots that post to /xmlrpc.php, each from its address.

Prints a JSON object with the totals so far twice a second, until its time is over.
"""

from __future__ import annotations

import http.client
import json
import random
import sys
import threading
import time
from collections import Counter

GOOGLEBOT = "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"
FIREFOX = "Mozilla/5.0 (X11; Linux x86_64; rv:128.0) Gecko/20100101 Firefox/128.0"
VISITORS = [f"198.51.100.{n}" for n in range(10, 50)]
ATTACKERS = ["63.251.225.206", "63.251.225.207"]
TIMEOUT_S = 1.0


class Traffic:
    """Who asked for what, and what came of it."""

    def __init__(self, server: str, seconds: float) -> None:
        self.server = server
        self.end_s = time.monotonic() + seconds
        self.totals: Counter[str] = Counter()

    def request(self, source: str, method: str, path: str, headers: dict[str, str], kind: str) -> None:
        """One request on a connection of its own."""
        connection = http.client.HTTPConnection(self.server, 80, timeout=TIMEOUT_S, source_address=(source, 0))
        self.totals[f"{kind}_sent"] += 1
        try:
            connection.request(method, path, body=b"<methodCall/>" if method == "POST" else None, headers=headers)
            connection.getresponse().read()
            self.totals[f"{kind}_served"] += 1
        except (OSError, http.client.HTTPException):
            self.totals[f"{kind}_failed"] += 1
        finally:
            connection.close()

    def visit(self, source: str) -> None:
        """Page after page, each with its assets, at a reader's pace."""
        rng = random.Random(source)  # noqa: S311  the same visitors each time
        while time.monotonic() < self.end_s:
            page = f"/article/{rng.randrange(100)}/"
            self.request(source, "GET", page, {"User-Agent": FIREFOX}, "visitor")
            for asset in ("/style.css", "/site.js", "/logo.png"):
                headers = {"User-Agent": FIREFOX, "Referer": f"http://{self.server}{page}"}
                self.request(source, "GET", asset, headers, "visitor")
            time.sleep(rng.uniform(0.5, 2.0))

    def attack(self, source: str, after_s: float) -> None:
        """A post every quarter of a second, whatever happens."""
        time.sleep(after_s)
        while time.monotonic() < self.end_s:
            began_s = time.monotonic()
            self.request(source, "POST", "/xmlrpc.php", {"User-Agent": GOOGLEBOT}, "attack")
            time.sleep(max(0.0, 0.25 - (time.monotonic() - began_s)))

    def run(self, attack_after_s: float) -> None:
        """Everybody at once; returns when the time is over."""
        threads = [threading.Thread(target=self.visit, args=(source,)) for source in VISITORS]
        threads += [
            threading.Thread(target=self.attack, args=(source, attack_after_s + i))
            for i, source in enumerate(ATTACKERS)
        ]
        for thread in threads:
            thread.start()
        while any(thread.is_alive() for thread in threads):
            time.sleep(0.5)
            print(json.dumps(self.totals), flush=True)


if __name__ == "__main__":
    Traffic(sys.argv[1], float(sys.argv[2])).run(float(sys.argv[3]))
