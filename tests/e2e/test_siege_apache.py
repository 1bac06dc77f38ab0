"""From a log to a page that asks: guard learns what is normal, meets a scraper, and a real Apache asks browsers."""

from __future__ import annotations

import re
import shutil
import time
from random import Random

from enforcing import ATTACKER4, NEIGHBOUR4, SERVER4, Site
from guarding import Guard, append, scratch, stamp
from netns import wait_until
from test_deny_apache import BROWSER, apache, start
from webs import Asker, need

AGENTS = (BROWSER, "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 Chrome/129.0.0.0 Safari/537.36")
PAGES = ("/", "/page.html", "/shop/", "/about/")
_COOKIE = re.compile(r"tocsin=[0-9a-f]{32}")


def line(ts: float, who: str, target: str, referer: str = "-", agent: str = BROWSER) -> tuple[float, str]:
    return ts, f'{who} - - [{stamp(ts)}] "GET {target} HTTP/1.1" 200 820 "{referer}" "{agent}"\n'


def visitors(rng: Random, start_ts: float, end_ts: float) -> list[tuple[float, str]]:
    """One every ten seconds, each with a page and what it is made of."""
    found = []
    for number in range(int(end_ts - start_ts) // 10):
        ts, who, page = start_ts + 10 * number, f"198.18.{number >> 8}.{number & 255}", rng.choice(PAGES)
        found.append(line(ts, who, page))
        found += [line(ts + 1, who, f"/{asset}", f"https://main.example{page}") for asset in ("a.css", "b.js", "c.png")]
    return found


def scraper(rng: Random, start_ts: float, end_ts: float) -> list[tuple[float, str]]:
    """Pages, four a second, from sixty addresses that change their agents."""
    pool = [f"203.0.113.{number}" for number in range(60)]
    times = (start_ts + number / 4 for number in range(int(4 * (end_ts - start_ts))))
    return [line(ts, rng.choice(pool), rng.choice(PAGES), agent=rng.choice(AGENTS)) for ts in times]


def test_a_scraper_is_met_by_a_question_that_browsers_answer(site: Site) -> None:
    need("apache2")
    rng = Random(1)
    asker = Asker(site.outside, SERVER4)
    with scratch() as folder, apache(site, folder) as web, scratch() as own:
        guard = Guard(site.server, own, f'[web]\ndir = "{web.directory}"\n')
        web.setup("--yes")
        start(web)
        shutil.copy(folder / "web.json", own)
        now_ts = time.time()
        guard.log.write_text("".join(text for _, text in visitors(rng, now_ts - 4000, now_ts - 90)))
        try:
            guard.start()
            wait_until(lambda: "what is normal was learnt" in guard.said_text(), "learnt", 30.0)
            assert asker.ask(ATTACKER4, "/", User_Agent=BROWSER) == 200
            during = visitors(rng, now_ts - 85, now_ts) + scraper(rng, now_ts - 85, now_ts)
            append(guard.log, (text for _, text in sorted(during)))
            wait_until(lambda: asker.ask(ATTACKER4, "/", User_Agent=BROWSER) == 429, "asked", 30.0)
            cookie = _COOKIE.search(asker.answer(ATTACKER4, "/", User_Agent=BROWSER)[2])
            assert cookie is not None
            assert asker.ask(ATTACKER4, "/", User_Agent=BROWSER, Cookie=cookie[0]) == 200
            assert asker.ask(NEIGHBOUR4, "/", User_Agent="Feedbin feed-id:1 - 2 subscribers") == 200
            done = [siege["done"] for siege in guard.need_status()["sieges"]]
            assert any(each.startswith("browsers asked to show a cookie, ") for each in done), done
            assert all(subject.startswith("203.0.113.") for subject in guard.in_kernel())
        finally:
            guard.stop()
