"""Labelled traffic: a log in which every line is known to be an attacker's or somebody's, the same for the same seed.

    .venv/bin/python bench/crowd_traffic.py KIND SEED FOLDER      writes access.log and labels.json

Two hours and more of everyday traffic, then ten minutes in which the crowd comes as well, then half an hour after.
Kinds: a false Googlebots on XML-RPC; b the same with browsers' agents and no common prefix; c logins, one an address;
d a scraper; e searches; f a surge of genuine visitors; g a quiet week; h a class that no rule knows; i a forge,
read deep.
"""

from __future__ import annotations

import random
import sys
from pathlib import Path

import msgspec
from msgspec import Struct
from msgspec.structs import replace

import crowd_forge as forge
import crowd_people as people
from crowd_attacks import ATTACKS, LASTS_S, Truth
from crowd_lab import browser
from crowd_site import DAY_S, FIRST_TS, LAST_TS, OWN, Book, Line, Machine, Page, arrivals, draw_machine, size_of

KINDS = "abcdefghi"
AFTER_S = 1800.0
INNOCENT = (
    "visitor",
    "surge",
    "office",
    "googlebot",
    "bingbot",
    "app",
    "admin",
    "feed",
    "monitor",
    "git",
    "cron",
    "bot",
    "backup",
)
"""The labels that nothing may happen to; the others are `attack` and `noise` (probes by single addresses)."""


class Case(Struct, frozen=True):
    """One labelled log. The crowd's ten minutes are from `attack_ts` to `attack_end_ts`, both 0 in a quiet week.

    `truth` says what the attack's requests have in common, `app_calls` how many requests the mobile app makes at most
    when it is opened, `admin_before` whether the administrator had logged in before the attack.
    """

    kind: str
    seed: int
    start_ts: float
    attack_ts: float
    attack_end_ts: float
    truth: Truth
    app_calls: int
    admin_before: bool
    machine: Machine
    lines: list[Line]


def make_case(kind: str, seed: int) -> Case:
    """The case of this kind and seed. KeyError where there is no such kind."""
    rng = random.Random(f"crowd {kind} {seed}")
    machine = draw_machine(rng)
    if kind == "g":
        machine = replace(machine, per_min=rng.uniform(1, 5))
    if kind == "i":
        machine = forge.with_forge(machine, rng)
    start_ts = float(rng.randrange(FIRST_TS, LAST_TS))
    attack_ts = 0.0 if kind == "g" else start_ts + rng.uniform(7300, 11_000)
    end_ts = start_ts + 7 * DAY_S if kind == "g" else attack_ts + LASTS_S + AFTER_S
    book = Book(machine)
    calls, before = rng.choice((1, 2, 2, 4)), rng.random() < 0.5
    everyday(book, f"{kind} {seed}", start_ts, end_ts, calls)
    if kind == "i":
        forge.fetching(book, random.Random(f"git {seed}"), start_ts, end_ts)
    own = random.Random(f"admin {kind} {seed}")
    administrator = machine.address(own)
    if kind == "g":
        for day in range(7):
            people.admin(book, own, start_ts + day * DAY_S + own.uniform(0, DAY_S), administrator, before=False)
        week(book, random.Random(f"week {seed}"), start_ts, end_ts)
        truth: Truth = {}
    else:
        people.admin(book, own, attack_ts, administrator, before=before)
        attack = forge.deep_reading if kind == "i" else ATTACKS[kind]
        truth = attack(book, random.Random(f"attack {kind} {seed}"), attack_ts, attack_ts + LASTS_S)
    lines = book.lines(end_ts)
    attack_end_ts = attack_ts + LASTS_S if attack_ts else 0.0
    return Case(kind, seed, start_ts, attack_ts, attack_end_ts, truth, calls, before, machine, lines)


def everyday(book: Book, name: str, start_ts: float, end_ts: float, app_calls: int) -> None:
    """Everybody who comes every day, each by a generator of its own."""

    def rng(who: str) -> random.Random:
        return random.Random(f"{who} {name}")

    people.visitors(book, rng("visitors"), start_ts, end_ts)
    people.office(book, rng("office"), start_ts, end_ts)
    people.crawler(book, rng("googlebot"), start_ts, end_ts, "googlebot")
    people.crawler(book, rng("bingbot"), start_ts, end_ts, "bingbot")
    people.slow_bots(book, rng("bots"), start_ts, end_ts)
    people.feeds(book, rng("feeds"), start_ts, end_ts)
    people.monitors(book, rng("monitors"), start_ts, end_ts)
    people.cron(book, rng("cron"), start_ts, end_ts)
    people.app(book, rng("app"), start_ts, end_ts, app_calls)
    people.noise(book, rng("noise"), start_ts, end_ts)


def week(book: Book, rng: random.Random, start_ts: float, end_ts: float) -> None:
    """What a week holds beside: a backup that fetches the pictures by night, a newsletter's hour, a slow bot."""
    machine, host = book.machine, book.machine.hosts[0]
    backup = machine.address(rng)
    files = [file for page in host.pages for file in page.files][: rng.randint(100, 900)]
    ts = start_ts - (start_ts + machine.zone_s) % DAY_S + DAY_S + rng.uniform(1, 5) * 3600
    while ts < end_ts:
        for number, file in enumerate(files):
            at = ts + number * 0.3
            book.add(at, backup, "backup", host, f"GET {file}", 200, size_of(file), "Wget/1.21.4", proto="HTTP/1.1")
        ts += DAY_S
    sent_ts = start_ts + rng.uniform(1, 5) * DAY_S
    page = rng.choice(host.pages)
    joint = "&" if "?" in page.target else "?"
    landing = Page(f"{page.target}{joint}utm_source=newsletter&utm_medium=email", page.files, page.size)
    per_s = rng.uniform(8, 15) * machine.per_min / 60
    for at in arrivals(rng, sent_ts, sent_ts + 3600, per_s):
        reader = people.Reader(book, rng, host, machine.address(rng), browser(rng), "visitor")
        reader.visit(at, landing, "-", people.pages_of(rng), 40)
    slow = machine.address(rng)
    for at in arrivals(rng, start_ts + DAY_S, start_ts + 3 * DAY_S, 1 / rng.uniform(8, 30)):
        page = rng.choice((*host.pages, *host.lists))
        agent = "Mozilla/5.0 (compatible; OldLibraryBot/0.3; +https://oldlibrary.example/bot)"
        book.add(at, slow, "bot", host, f"GET {page.target}", 200, page.size, agent, took_s=0.4, proto="HTTP/1.1")


def write_case(case: Case, folder: Path) -> Path:
    """`access.log`, and beside it `labels.json`: the case's facts, addresses by label, and `lines`: for each line of
    the log a letter, explained in `letters`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    log = folder / "access.log"
    log.write_text("".join(f"{line.text}\n" for line in case.lines))
    labels = sorted({line.label for line in case.lines})
    letter = {label: chr(ord("A") + number) for number, label in enumerate(labels)}
    roles: dict[str, dict[str, None]] = {label: {} for label in labels}
    for line in case.lines:
        roles[line.label][line.who] = None
    facts = {
        "kind": case.kind, "seed": case.seed, "start_ts": case.start_ts, "attack_ts": case.attack_ts,
        "attack_end_ts": case.attack_end_ts, "truth": case.truth, "app_calls": case.app_calls,
        "admin_before": case.admin_before, "own": OWN, "per_min": case.machine.per_min,
        "hosts": [host.vhost for host in case.machine.hosts],
        "roles": {label: list(who) for label, who in roles.items()},
        "letters": {each: label for label, each in letter.items()},
        "lines": "".join(letter[line.label] for line in case.lines),
    }  # fmt: skip
    (folder / "labels.json").write_bytes(msgspec.json.format(msgspec.json.encode(facts), indent=1))
    return log


if __name__ == "__main__":
    print(write_case(make_case(sys.argv[1], int(sys.argv[2])), Path(sys.argv[3])))
