"""A forge beside a machine's other site: its repositories, who reads, fetches and pushes, and who reads all of it."""

from __future__ import annotations

import random
from itertools import accumulate

from msgspec.structs import replace

from crowd_attacks import BULK, Truth, pool
from crowd_lab import WORDS, browser
from crowd_site import Book, Host, Machine, Page, anywhere, arrivals

GIT = ("git/2.39.5", "git/2.43.0", "git/2.47.1", "git/2.51.0", "JGit/6.10.0.202406032230-r", "go-git/5.12.0")
FILES = ("README.md", "Makefile", "go.mod", "src/main.c", "docs/index.md", "lib/util/table.py", "cmd/serve/main.go")
KINDS = (
    *("commit/{sha}", "src/commit/{sha}/{file}", "blame/commit/{sha}/{file}", "raw/commit/{sha}/{file}"),
    *("commits/commit/{sha}/{file}", "compare/{sha}...{other}", "rss/commit/{sha}/{file}", "archive/{sha}.zip"),
    *("issues?q=&type=all&sort={word}&labels={n}&state=closed", "graph?page={n}", "activity_author_data/{word}"),
)
"""What a repository has without end."""


def with_forge(machine: Machine, rng: random.Random) -> Machine:
    """The machine with one site and a forge."""
    return replace(machine, hosts=(machine.hosts[0], draw_forge(rng)), with_vhost=True)


def draw_forge(rng: random.Random) -> Host:
    """A forge: a few owners, their repositories, the pages that people read."""
    owners = rng.sample(WORDS, rng.randint(2, 8))
    repositories = [f"/{owner}/{name}" for owner in owners for name in rng.sample(WORDS, rng.randint(1, 6))]
    version = f"{rng.randint(7, 13)}.0.{rng.randint(0, 5)}"
    pages = [page for repository in repositories for page in pages_of(rng, repository)]
    rng.shuffle(pages)
    lists = [
        Page(target, (), rng.randint(9_000, 50_000)) for target in ("/", "/explore/repos", *(f"/{o}" for o in owners))
    ]
    return Host(
        vhost=f"git.{rng.choice(WORDS)}.example",
        prefix="/",
        pages=tuple(pages),
        lists=tuple(lists),
        theme=tuple(f"/assets/{file}?v={version}" for file in ("css/index.css", "js/index.js", "img/logo.svg")),
        reach=tuple(accumulate(1 / (rank + 1) ** rng.uniform(0.5, 1.1) for rank in range(len(pages)))),
        beacon="",
        pretty_search=False,
    )


def pages_of(rng: random.Random, repository: str) -> list[Page]:
    """What people read of a repository, with the pictures of those who wrote it."""
    names = ["", "/issues", "/releases", "/src/branch/main/README.md", f"/issues/{rng.randint(1, 300)}"]
    names += [f"/pulls/{rng.randint(1, 300)}", f"/commit/{sha(rng)}", f"/src/branch/main/{rng.choice(FILES)}"]
    return [
        Page(
            repository + name,
            tuple(f"/avatars/{sha(rng)}" for _ in range(rng.randint(0, 4))),
            rng.randint(9_000, 90_000),
        )
        for name in names
    ]


def sha(rng: random.Random) -> str:
    """A commit's name."""
    return f"{rng.getrandbits(160):040x}"


def repository_of(rng: random.Random, host: Host) -> str:
    """One that is there: `/owner/name`."""
    return rng.choice([page.target for page in host.pages if page.target.count("/") == 2])


def fetching(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """Machines that fetch all the time, those of a CI that have a new address each time, and who pushes."""
    host = book.machine.hosts[1]
    for _ in range(rng.randint(3, 25)):
        who, agent = book.machine.address(rng), rng.choice(GIT)
        for ts in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(60, 1500)):
            fetch(book, rng, ts, who, host, agent, news=rng.random() < 0.2)
    for ts in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(60, 600)):
        fetch(book, rng, ts, anywhere(rng), host, rng.choice(GIT), news=True)
    for ts in arrivals(rng, start_ts, end_ts, 1 / rng.uniform(300, 3000)):
        who, repository, agent = book.machine.address(rng), repository_of(rng, host), rng.choice(GIT)
        for number, status in enumerate((401, 200)):
            request = f"GET {repository}.git/info/refs?service=git-receive-pack"
            book.add(ts + number / 5, who, "git", host, request, status, 400, agent, took_s=0.1)
        book.add(ts + 1, who, "git", host, f"POST {repository}.git/git-receive-pack", 200, 120, agent, took_s=0.8)


def fetch(book: Book, rng: random.Random, ts: float, who: str, host: Host, agent: str, *, news: bool) -> None:
    """One fetch, which brings something new or not."""
    repository = repository_of(rng, host)
    request = f"GET {repository}.git/info/refs?service=git-upload-pack"
    book.add(ts, who, "git", host, request, 200, rng.randint(300, 9000), agent, took_s=0.1)
    for number in range(rng.randint(1, 2) if news else 0):
        size = rng.randint(400, 9_000_000)
        request = f"POST {repository}.git/git-upload-pack"
        book.add(ts + 0.2 + number, who, "git", host, request, 200, size, agent, took_s=rng.uniform(0.2, 5))


def deep_reading(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> Truth:
    """All that repositories have without end, from addresses that come once or a few times, as browsers."""
    host = book.machine.hosts[1]
    homes = pool(rng, book.machine, rng.randint(600, 6000))
    kinds = rng.sample(KINDS, rng.randint(3, len(KINDS)))
    agents = [browser(rng) for _ in range(rng.randint(5, 300))]
    own_referer = rng.random() < 0.3
    for ts in arrivals(rng, start_ts, end_ts, rng.uniform(4, 20)):
        repository = repository_of(rng, host)
        names = {"sha": sha(rng), "other": sha(rng), "file": rng.choice(FILES), "n": rng.randint(1, 400)}
        target = f"{repository}/{rng.choice(kinds).format(**names, word=rng.choice(WORDS))}"
        referer = host.url(repository) if own_referer else "-"
        size, took_s = rng.randint(9_000, 300_000), rng.uniform(0.3, 6)
        who, agent = rng.choice(homes), rng.choice(agents)
        book.add(ts, who, BULK, host, f"GET {target}", 200, size, agent, referer, took_s=took_s)
    return {"method": "GET"}
