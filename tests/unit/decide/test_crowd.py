"""Sieges end to end through a replay: what is met, how, whom it spares, and what is left alone."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path
from random import Random

import crowding
import pytest
from crowding import START_TS, Line, address, crowd, line, log, visit, visitors, xmlrpc

from tocsin.decide.crowd import RIPENING_MAX, WINDOW_MAX, Crowd
from tocsin.decide.records import kind_of
from tocsin.decide.siege import Change, SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.model import Decision, Finding, Signature
from tocsin.replay import Replay

QUIET_S = 2400.0
Decisions = list[tuple[Decision, Finding | None]]


class Played:
    """A log replayed with contrast alone."""

    def __init__(
        self, folder: Path, lines: list[Line], settings: SiegeSettings | None = None, *, asks: bool = True
    ) -> None:
        path = folder / "access.log"
        path.write_bytes(b"".join(text + b"\n" for _, text in lines))
        self.decisions: Decisions = []
        self.changes: list[Change] = []
        job = Replay([path], [], UTC, None, lambda *row: self.decisions.append(row))
        if settings is not None:
            job.crowd.configure(settings)
        job.crowd.sieges.asks = asks
        tell = job.crowd.sieges.hear

        def hear(change: Change) -> None:
            self.changes.append(change)
            tell(change)

        job.crowd.sieges.hear = hear
        job.run()
        self.crowd = job.crowd

    def of(self, action: str) -> list[Decision]:
        return [decision for decision, _ in self.decisions if decision.action == action]

    def verbs(self) -> list[str]:
        return [change.verb for change in self.changes if change.verb != "deny"]


def test_a_class_from_ever_new_addresses_is_turned_away_within_seconds(tmp_path: Path) -> None:
    attack = crowd(1, QUIET_S, QUIET_S + 300, 6, xmlrpc)
    played = Played(tmp_path, log(visitors(1, 0, QUIET_S + 900), attack))
    assert played.verbs() == ["enter", "leave"]
    first = played.of("deny-request")[0]
    assert first.signature is not None
    assert (first.signature.method, first.signature.path) == ("POST", "/xmlrpc.php")
    assert first.start_ts - START_TS - QUIET_S < 30
    assert "203.0.113.9" in first.spare, "the phone that posted there all the time"
    assert first.end_ts == first.start_ts + 600
    attackers = {text.split()[0].decode() for _, text in attack}
    assert {ban.subject for ban in played.of("ban")} <= attackers
    assert all(ban.end_ts == ban.start_ts + 600 for ban in played.of("ban"))
    assert len(played.of("deny-request")) == len(played.of("lift")), "everything is lifted"
    assert played.of("lift")[-1].lifts == played.of("deny-request")[-1].id


def test_the_finding_tells_what_stood_out_and_shows_the_lines(tmp_path: Path) -> None:
    played = Played(tmp_path, log(visitors(2, 0, QUIET_S + 60), crowd(2, QUIET_S, QUIET_S + 60, 8, xmlrpc)))
    finding = played.changes[0].finding
    assert finding.rule == "contrast"
    assert finding.subject == ""
    assert "POST /xmlrpc.php" in finding.note
    assert "of the excess" in finding.note
    assert "visitors remembered" in finding.note
    assert finding.evidence
    assert all("POST /xmlrpc.php" in each.text for each in finding.evidence)


def test_assets_that_are_not_there_are_no_part_of_a_page(tmp_path: Path) -> None:
    rng = Random(7)
    attack = [
        line(
            START_TS + QUIET_S + at / 8,
            address(rng, 120),
            f"GET /assets/{rng.random()}.css",
            404,
            crowding.SITE + "/",
            "X/1",
        )
        for at in range(8 * 200)
    ]
    played = Played(tmp_path, log(visitors(1, 0, QUIET_S + 400), attack))
    assert played.of("deny-request")


def test_what_only_ends_like_a_file_is_none(tmp_path: Path) -> None:
    for folder, request in (("a", "POST /xmlrpc.php/x.css"), ("b", "GET /index.php/x.css")):
        rng = Random(7)
        attack = [
            line(START_TS + QUIET_S + at / 8, address(rng, 120), request, 200, crowding.SITE + "/", "X/1")
            for at in range(8 * 120)
        ]
        (tmp_path / folder).mkdir()
        assert Played(tmp_path / folder, log(visitors(1, 0, QUIET_S + 400), attack)).of("deny-request")


def test_another_phone_with_the_app_goes_on(tmp_path: Path) -> None:
    """It was not seen before, but its like was, and those who attack claim to be browsers."""
    phone = [line(START_TS + QUIET_S + 30 + 9 * n, "203.0.113.77", "POST /xmlrpc.php", 200, "-", "wp-iphone/25.1")
             for n in range(20)]  # fmt: skip
    played = Played(tmp_path, log(visitors(2, 0, QUIET_S + 300), crowd(2, QUIET_S, QUIET_S + 300, 6, xmlrpc), phone))
    denied = played.of("deny-request")
    assert {each.signature for each in denied} == {Signature("POST", "/xmlrpc.php", user_agent="Mozilla/")}
    assert "203.0.113.77" not in {each.subject for each in played.of("ban")}


def browsing_a_forge(rng: Random) -> tuple[str, str]:
    """What residential proxies ask a forge for: anything deep, in any repository."""
    owner, what = rng.choice(("ana", "club", "lea")), rng.choice(("commit", "blame/commit", "raw/commit"))
    agent = f"Mozilla/5.0 (X11; Linux x86_64; rv:{rng.randrange(60, 140)}.0) Gecko/20100101 Firefox/140.0"
    return f"GET /{owner}/tool-{rng.randrange(4)}/{what}/{rng.getrandbits(160):040x}", agent


def test_a_forge_read_from_ever_new_addresses_goes_on_for_those_who_fetch_and_push(tmp_path: Path) -> None:
    rng = Random(3)
    machines = [f"192.0.2.{n}" for n in range(1, 9)]
    fetches = [
        line(START_TS + at, rng.choice(machines), f"GET /ana/tool-{at % 4}.git/info/refs?service=git-upload-pack", 200,
             "-", "git/2.47.1")
        for at in range(0, int(QUIET_S) + 300, 20)
    ]  # fmt: skip
    attack = crowd(5, QUIET_S, QUIET_S + 300, 6, browsing_a_forge)
    played = Played(tmp_path, log(visitors(5, 0, QUIET_S + 300), fetches, attack))
    paths = {each.signature.path for each in played.of("deny-request") if each.signature is not None}
    assert "/*/*/commit/*" in paths
    assert {ban.subject for ban in played.of("ban")}.isdisjoint(machines)


def test_who_behaves_like_a_visitor_is_spared_as_soon_as_he_does(tmp_path: Path) -> None:
    """An administrator nobody knows logs in while guesses come from everywhere."""

    def login(rng: Random) -> tuple[str, str]:
        return "POST /wp-login.php", rng.choice(crowding.AGENTS)

    came_ts, who, agent = START_TS + QUIET_S + 120, "198.51.100.20", crowding.AGENTS[0]
    administrator = [
        line(came_ts, who, "GET /wp-login.php", 200, "-", agent),
        line(came_ts + 1, who, "GET /wp-admin/css/login.min.css", 200, crowding.SITE + "/wp-login.php", agent),
        line(came_ts + 9, who, "POST /wp-login.php", 302, crowding.SITE + "/wp-login.php", agent),
    ]
    attack = crowd(3, QUIET_S, QUIET_S + 240, 8, login)
    played = Played(tmp_path, log(visitors(3, 0, QUIET_S + 240), attack, administrator))
    in_force = [each for each in played.of("deny-request") if each.start_ts < came_ts + 9][-1]
    assert who in in_force.spare
    assert who not in {ban.subject for ban in played.of("ban")}


def test_a_surge_of_visitors_is_an_alarm_at_most(tmp_path: Path) -> None:
    surge = visitors(4, QUIET_S, QUIET_S + 600, 400, landing="/news/we-are-in-the-paper/")
    played = Played(tmp_path, log(visitors(4, 0, QUIET_S + 900), surge))
    assert played.decisions == []
    assert set(played.verbs()) <= {"alarm"}


def test_what_rises_slowly_does_not_make_itself_normal(tmp_path: Path) -> None:
    """A scraper that takes an hour and a half to come to six pages a second, each five minutes a little more."""
    steps = [(QUIET_S + 300 * n, (n + 1) / 3) for n in range(18)]

    def page(rng: Random) -> tuple[str, str]:
        return f"GET {rng.choice(crowding.PAGES)}", rng.choice(crowding.AGENTS)

    attack = [one for n, (at, a_second) in enumerate(steps) for one in crowd(n, at, at + 300, a_second, page)]
    played = Played(tmp_path, log(visitors(5, 0, QUIET_S + 5400), attack))
    assert played.of("limit") or played.of("deny-request")


def test_an_excess_that_no_measure_fits_is_kept_out_of_the_normal_for_two_hours_of_a_day(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sieges = Crowd(Visitors(), SiegeSettings(), lambda _change: None).sieges
    monkeypatch.setattr(sieges, "_search", lambda _now_ts: None)
    sieges.unmet = True

    def held(start_s: float, end_s: float) -> float:
        """For how long what comes is not learnt, while nothing fits."""
        seconds = 0.0
        for at in range(int(start_s), int(end_s), 5):
            sieges.tick(START_TS + at, [], ("access.log", 0, 0, b""))
            seconds += 5 * sieges.is_odd(START_TS + at)
        return seconds

    assert held(0, 4 * 3600) == pytest.approx(7200, rel=0.1)
    sieges.unmet = False
    sieges.tick(START_TS + 30 * 3600, [], ("access.log", 0, 0, b""))
    assert not sieges.is_odd(START_TS + 30 * 3600)
    sieges.unmet = True
    assert 1800 < held(30 * 3600, 34 * 3600) < 7200


def test_episodes_that_the_same_apps_fetch_are_no_siege(tmp_path: Path) -> None:
    rng = Random(4)
    apps = ("AntennaPod/3.5.0", "Podcasts/1700.2 CFNetwork/1490 Darwin/23", "gPodder/3.11.4")
    usual = [line(START_TS + at, address(rng), "GET /feed/podcast.xml", 200, "-", rng.choice(apps))
             for at in range(0, int(QUIET_S) + 900, 30)]  # fmt: skip
    release = crowd(6, QUIET_S, QUIET_S + 300, 12, lambda rng: ("GET /feed/podcast.xml", rng.choice(apps)))
    played = Played(tmp_path, log(visitors(5, 0, QUIET_S + 900), usual, release))
    assert played.decisions == []
    attack = crowd(6, QUIET_S, QUIET_S + 300, 12, lambda rng: ("GET /feed/podcast.xml", rng.choice(crowding.AGENTS)))
    assert Played(tmp_path, log(visitors(5, 0, QUIET_S + 900), usual, attack)).decisions


def test_a_quiet_day_is_quiet(tmp_path: Path) -> None:
    assert Played(tmp_path, log(visitors(5, 0, 4 * 3600, 6))).changes == []


def test_nothing_is_done_while_it_learns(tmp_path: Path) -> None:
    played = Played(tmp_path, log(visitors(6, 0, 800), crowd(6, 300, 700, 8, xmlrpc)))
    assert played.changes == []
    assert not played.crowd.normal.learnt


def test_a_siege_that_comes_back_is_met_at_once(tmp_path: Path) -> None:
    attacks = [crowd(at, at, at + 120, 6, xmlrpc) for at in (int(QUIET_S), int(QUIET_S) + 1800)]
    played = Played(tmp_path, log(visitors(7, 0, QUIET_S + 2400), *attacks))
    assert played.verbs() == ["enter", "leave", "return", "leave"]
    back_ts = next(change.ts for change in played.changes if change.verb == "return")
    assert back_ts - START_TS - QUIET_S - 1800 < 10


def test_scrapers_that_look_like_landing_visitors_are_told_by_their_second_page(tmp_path: Path) -> None:
    """Pages that visitors land on cannot be turned away; who takes several and nothing else is banned."""
    rng = Random(8)
    pool = [address(rng, 120) for _ in range(60)]
    attack = []
    for n in range(2400):
        asked, agent = f"GET {rng.choice(crowding.PAGES)}", rng.choice(crowding.AGENTS)
        attack.append(line(START_TS + QUIET_S + n / 4, rng.choice(pool), asked, 200, "-", agent))
    played = Played(tmp_path, log(visitors(8, 0, QUIET_S + 660), attack))
    assert played.of("deny-request") == []
    questions = played.of("limit")
    assert {each.signature for each in questions} == {Signature("GET")}
    assert questions[0].start_ts - START_TS - QUIET_S < 40
    banned = {ban.subject for ban in played.of("ban")}
    assert banned <= set(pool)
    assert len(banned) >= 55


def test_settings_are_heeded(tmp_path: Path) -> None:
    lines = log(visitors(9, 0, QUIET_S + 300), crowd(9, QUIET_S, QUIET_S + 300, 6, xmlrpc))
    assert Played(tmp_path, lines, SiegeSettings(enabled=False)).changes == []
    assert Played(tmp_path, lines, SiegeSettings(least=5000)).changes == []


def test_a_busy_site_is_sampled_until_something_stands_out(tmp_path: Path) -> None:
    everybody = visitors(10, 0, 1700, 400)
    quiet = [each for each in everybody if each[0] < START_TS + 1500]
    assert Played(tmp_path, quiet).crowd.mask > 0
    played = Played(tmp_path, log(everybody, crowd(10, 1500, 1700, 10, xmlrpc)))
    assert played.crowd.mask == 0
    assert played.verbs()[0] == "enter"
    assert played.of("deny-request")[0].start_ts - START_TS - 1500 < 60


def test_memory_is_bounded_under_ever_new_addresses_and_paths(tmp_path: Path) -> None:
    rng = Random(11)

    def anything(_: Random) -> tuple[str, str]:
        return f"GET /{rng.randrange(1 << 40):x}?{rng.randrange(1 << 40):x}=1", f"agent {rng.randrange(1 << 30)}"

    played = Played(tmp_path, log(visitors(12, 0, 1200), crowd(11, 1200, 1400, 60, anything)))
    window, normal = played.crowd.sieges.window, played.crowd.normal
    assert len(window) <= 20_000
    assert len(normal.features) <= 4096
    assert len(normal.classes) <= 1024
    assert len(normal.samples) <= 4096
    assert len(normal.dump()) < 4 << 20


def test_memory_is_bounded_within_a_burst(tmp_path: Path) -> None:
    played = Played(tmp_path, log(crowd(14, 0, 8, 6000, xmlrpc)))
    assert len(played.crowd._ripening) <= RIPENING_MAX
    assert len(played.crowd.sieges.window) <= WINDOW_MAX


def test_a_class_is_told_by_its_path_with_what_varies_left_open() -> None:
    for path, shape in (("/blog/xmlrpc.php", "/blog/xmlrpc.php"), ("/p/4711/", "/p/*/"), ("/a/b/c", "/a/b/c")):
        assert kind_of(("POST", path, "", "", "wp-iphone/25.1", "HTTP/2.0", "no referer")) == (
            *("", "POST", shape, "wp-iphone", "HTTP/2.0", "no referer"),
        )


def test_a_login_page_stays_open_while_its_posts_are_turned_away(tmp_path: Path) -> None:
    """Guesses that fetch the form first: who has a right to log in begins there, too, with a browser."""
    posts = crowd(13, QUIET_S, QUIET_S + 200, 6, lambda rng: ("POST /wp-login.php", rng.choice(crowding.AGENTS)))
    forms = []
    for ts, text in posts:
        who, _, rest = text.decode().partition(" ")
        agent = rest.rpartition(' "')[2].strip('"')
        forms.append(line(ts - 2, who, "GET /wp-login.php", 200, "-", agent))
    lines = log(visitors(13, 0, QUIET_S + 200), posts, forms)
    for asks in (True, False):
        denied = {each.signature for each in Played(tmp_path, lines, asks=asks).of("deny-request")}
        methods = {"GET", "POST"} if asks else {"POST"}
        assert {(each.method, each.path) for each in denied if each} == {(each, "/wp-login.php") for each in methods}


def test_one_visit_is_a_visit() -> None:
    """The generator makes what it says."""
    requests = [text for _, text in visit(Random(1), START_TS, "192.0.2.1")]
    assert (
        sum(b"style.css" in text for text in requests) == sum(b"GET /assets/site.js" in text for text in requests) >= 1
    )
