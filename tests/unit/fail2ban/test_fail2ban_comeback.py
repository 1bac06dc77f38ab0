"""How long those who come back are banned, by whose history, and what their failures weigh: against fail2ban's own."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path

import msgspec
import pytest

from tocsin.decide.allow import AllowList
from tocsin.decide.pasts import Pasts
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.detect.books import Limits
from tocsin.fail2ban.model import Failure, FilterSpec, Increment, Jail, Loaded
from tocsin.fail2ban.rules import rules_of
from tocsin.formats import Proxies
from tocsin.importing import Arrival, Head, LedgerKeeper, imported, take, take_back
from tocsin.jailed_bans import Saved, saved_of
from tocsin.jailing import Jailing
from tocsin.model import Batch, Decision
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.sparing import Late, weight

PYTHON = Path("/usr/bin/python3")
PACKAGE = Path("/usr/lib/python3/dist-packages/fail2ban")
BANS = """
import json, sys
from fail2ban.server.database import Fail2BanDb
from fail2ban.server.jail import Jail
from fail2ban.server.mytime import MyTime
from fail2ban.server.observer import ObserverThread
from fail2ban.server.ticket import BanTicket
overall, bans = json.load(sys.stdin)
Jail.isAlive = lambda _jail: True
database, jails, answers = Fail2BanDb(":memory:"), {}, []
for name in ("one", "two"):
    jails[name] = jail = Jail(name, "polling", db=database)
    database.addJail(jail)
    jail.setBanTimeExtra("increment", "true")
    jail.setBanTimeExtra("overalljails", overall)
for name, ip, ts in bans:
    MyTime.setTime(ts)
    ticket = BanTicket(ip, ts)
    seconds = ObserverThread().incrBanTime(jails[name], 600, ticket)
    ticket.setBanTime(seconds)
    ticket.incrBanCount(0)
    if ticket.getBanCount() == 0:
        ticket.setBanCount(1)
    database.addBan(jails[name], ticket)
    answers.append(seconds)
print(json.dumps(answers))
"""
WEIGHTS = """
import json, sys
from fail2ban.server.jail import Jail
from fail2ban.server.observer import ObserverThread
from fail2ban.server.ticket import FailTicket
Jail.isAlive = lambda _jail: True
class Database:
    def getBan(self, ip, jail):
        return [(self.count, 1.0, 600)] if self.count else []
answers = []
for count, limit in json.load(sys.stdin):
    database = Database()
    database.count = count
    jail = Jail("j", "polling")
    jail._Jail__db = database
    jail.setBanTimeExtra("increment", "true")
    jail.filter.failManager.setMaxRetry(limit)
    jail.filter.performBan = lambda *_: None
    ticket = FailTicket("192.0.2.7", 1700000000.0)
    jail.filter.failManager.addFailure(ticket)
    ObserverThread().failureFound(jail, ticket)
    [held] = jail.filter.failManager._FailManager__failList.values()
    answers.append(int(held.getRetry()))
print(json.dumps(answers))
"""
A, B = "192.0.2.7", "198.51.100.9"
DAY_S = 86_400
NOWHERE = Path("/nonexistent")  # the machine that runs the tests may have any address
BEGAN_TS = 1_700_000_000
COMINGS = [
    ("one", A), ("one", A), ("two", A), ("one", B), ("two", A), ("one", A), ("two", B), ("two", B), ("one", A),
    ("two", A), ("two", A), ("one", B),
]  # fmt: skip
WHEN = [(name, ip, BEGAN_TS + number * DAY_S) for number, (name, ip) in enumerate(COMINGS)]


def oracle(program: str, given: object) -> list[float]:
    """What the installed fail2ban says."""
    assert PACKAGE.is_dir(), "install fail2ban: make setup does"
    done = subprocess.run([PYTHON, "-c", program], input=json.dumps(given), text=True, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr
    answers = json.loads(done.stdout)
    assert isinstance(answers, list)
    return answers


class Scene:
    """Two jails, each with a log of its own, and what they have decided. `weighs`: whether failures of known offenders
    count for more.
    """

    def __init__(self, *, overall: bool, increment: bool = True, maxretry: int = 1, weighs: bool = False) -> None:
        spec = FilterSpec("any", failregex=("^ no <HOST>$",))
        growth = Increment(enabled=increment, overalljails=overall)
        jails = [
            Jail(name, spec, logpath=(f"/{name}.log",), maxretry=maxretry, increment=growth, has_action=False)
            for name in ("one", "two")
        ]
        self.decisions: list[Decision] = []
        self.policy = Policy(PolicySettings(), AllowList())
        readings = Readings([], Proxies(()), UTC)
        jailed = rules_of(Loaded("", tuple(jails)), UTC)
        jailing = Jailing(jailed, (), root=NOWHERE, earlier=self.policy.earlier_by, weighs=lambda: weighs)
        decided = self.decisions.append
        self.pipeline = Pipeline(jailing.rules, Limits(), self.policy, readings, lambda made, _: decided(made))
        self.offset = 0

    def fail(self, jail: str, address: str, ts: float) -> None:
        """A failure, which bans."""
        line = f"{int(ts)} no {address}\n".encode()
        self.pipeline.take(Batch(f"/{jail}.log", line, self.offset, 1, ts), ts)
        self.offset += len(line)

    def spans(self, comings: Sequence[tuple[str, str, float]]) -> list[float]:
        """How long each of these is banned."""
        before = len(self.decisions)
        for jail, address, ts in comings:
            self.fail(jail, address, ts)
        made = self.decisions[before:]
        assert [(each.rule, each.subject) for each in made] == [(jail, address) for jail, address, _ in comings]
        return [each.end_ts - each.start_ts for each in made if each.end_ts is not None]


def test_bans_grow_by_their_own_jails_history_alone_as_in_fail2ban() -> None:
    found = Scene(overall=False).spans(WHEN)
    assert found == oracle(BANS, (False, WHEN))
    assert found[2] == 600  # the other jail's first ban of somebody banned twice


def test_with_overalljails_each_ban_counts_once() -> None:
    found, theirs = Scene(overall=True).spans(WHEN), oracle(BANS, (True, WHEN))
    assert found == [600 * 2**earlier for earlier in (0, 1, 2, 0, 3, 4, 1, 2, 5, 6, 7, 3)]
    assert found[:4] == theirs[:4]
    assert theirs[4] == 600 * 2**5  # it adds up 2 of one jail and 3 of the other, which holds those 2 already


def test_without_increment_nothing_grows() -> None:
    assert set(Scene(overall=False, increment=False).spans(WHEN)) == {600}


def test_a_restart_in_between_changes_nothing() -> None:
    whole = Scene(overall=False)
    expected = whole.spans(WHEN)
    before, after = Scene(overall=False), Scene(overall=False)
    found = before.spans(WHEN[:5])
    after.pipeline.load(before.pipeline.dump())
    after.offset = before.offset
    assert found + after.spans(WHEN[5:]) == expected


def test_a_lifted_ban_does_not_count() -> None:
    scene = Scene(overall=False)
    assert scene.spans([("one", A, BEGAN_TS), ("one", A, BEGAN_TS + DAY_S)]) == [600, 1200]
    scene.policy.lift(A, BEGAN_TS + DAY_S + 5)
    scene.pipeline.engine.unmute(A)
    assert scene.spans([("one", A, BEGAN_TS + 2 * DAY_S)]) == [1200]


def test_what_is_imported_counts_for_its_jail_until_it_is_taken_back() -> None:
    scene = Scene(overall=False)
    keeper = LedgerKeeper(lambda _decision: None, lambda _row: None)
    past = Arrival(
        A, "two", BEGAN_TS - DAY_S, BEGAN_TS - DAY_S + 600, 5, in_force=False, by_rule=(("two", 3), ("other", 2))
    )
    taken = take(scene.policy, keeper, past, BEGAN_TS)
    now = Arrival(B, "one", BEGAN_TS, BEGAN_TS + 600, 2, in_force=True)
    undone = take(scene.policy, keeper, now, BEGAN_TS)
    take_back(scene.policy, keeper, undone, BEGAN_TS)
    later = BEGAN_TS + DAY_S
    assert scene.spans([("one", A, later), ("one", B, later), ("two", A, later + 700)]) == [600, 600, 4800]
    take_back(scene.policy, keeper, taken, later)
    assert scene.spans([("two", A, later + DAY_S)]) == [1200]


def test_what_the_ledger_knows_of_imports_fills_in_where_nothing_is_known() -> None:
    pasts = Pasts(90 * DAY_S)
    pasts.rules = frozenset(("one",))
    pasts.begun("one", A, 0.0, 600.0)
    pasts.suppose([("one", A, 7, 900.0), ("one", B, 7, 900.0), ("two", B, 7, 900.0)])
    assert [pasts.earlier(rule, who, 1000.0) for rule, who in (("one", A), ("one", B), ("two", B))] == [1, 7, None]
    assert pasts.earlier("one", B, 900.0 + 90 * DAY_S + 1) == 0


def test_pasts_are_bounded_and_the_oldest_goes() -> None:
    pasts = Pasts(DAY_S, most=2)
    pasts.rules = frozenset(("one",))
    for who, ts in ((A, 1.0), (B, 2.0), (A, 700.0), ("203.0.113.1", 800.0)):
        pasts.begun("one", who, ts, ts + 600)
    assert [pasts.earlier("one", who, 2000.0) for who in (A, B, "203.0.113.1")] == [2, 0, 1]


def test_failures_of_known_offenders_weigh_what_fail2ban_has_them_weigh() -> None:
    cases = [(count, limit) for count in (0, 1, 2, 3, 4, 5, 19, 20, 21, 50) for limit in (1, 2, 3, 5, 20, 10_000_000)]
    assert [weight(*case) for case in cases] == oracle(WEIGHTS, cases)


def failures_until_banned(scene: Scene, ts: float) -> int:
    """How many failures of A in the first jail, a second apart, it takes to ban."""
    before = len(scene.decisions)
    for number in range(1, 20):
        scene.fail("one", A, ts + number)
        if len(scene.decisions) > before:
            return number
    raise AssertionError("never banned")


def test_the_failures_of_known_offenders_ban_sooner_where_that_is_wanted() -> None:
    light, heavy = (Scene(overall=False, maxretry=5, weighs=weighs) for weighs in (False, True))
    days = [BEGAN_TS + number * DAY_S for number in range(5)]
    assert [failures_until_banned(light, ts) for ts in days] == [5, 5, 5, 5, 5]
    assert [failures_until_banned(heavy, ts) for ts in days] == [5, 3, 2, 1, 1]
    heavy.fail("two", A, days[-1] + DAY_S)  # nobody there yet
    assert heavy.decisions[-1].rule == "one"


def test_without_increment_all_failures_weigh_the_same() -> None:
    scene = Scene(overall=False, increment=False, maxretry=5, weighs=True)
    assert [failures_until_banned(scene, BEGAN_TS + number * DAY_S) for number in range(3)] == [5, 5, 5]


def test_what_others_have_counted_takes_only_the_room_that_is_left() -> None:
    pasts = Pasts(DAY_S, most=3)
    pasts.rules = frozenset(("one",))
    pasts.begun("one", A, 0.0, 600.0)
    pasts.suppose(("one", f"203.0.113.{number}", 7, 500.0) for number in range(9))
    assert pasts.learn("one", B, 7, 500.0) == 0
    who = (A, "203.0.113.0", "203.0.113.1", "203.0.113.2", B)
    assert [pasts.earlier("one", each, 700.0) for each in who] == [1, 7, 7, 0, 0]
    pasts.begun("one", B, 700.0, 900.0)
    assert [pasts.earlier("one", each, 1000.0) for each in who] == [1, 0, 7, 0, 1], "supposed ones go first"


def test_an_ended_ban_is_that_of_the_rule_that_banned_last() -> None:
    for order in (("one", "two"), ("two", "one")):
        pasts = Pasts(DAY_S)
        pasts.rules = frozenset(("one", "two", "ports"))
        pasts.begun("ports", f"{A} tcp/22", 0.0, float("inf"))
        for rule in order:
            pasts.begun(rule, A, 1.0, float("inf"))
        pasts.ended(A, float("inf"), 5.0)
        counted = {rule: count for rule, _, (count, *_) in msgspec.msgpack.decode(pasts.dump())}
        assert counted == {"ports": 1, order[0]: 1, order[1]: 0}


@pytest.mark.parametrize("named", ["one", "jail-one"])
def test_an_import_at_rest_counts_for_each_jail_until_it_is_taken_back(tmp_path: Path, named: str) -> None:
    rest, guard = Policy(PolicySettings(), AllowList()), Policy(PolicySettings(), AllowList())
    keeper = LedgerKeeper(lambda _decision: None, lambda _row: None)
    arrival = Arrival(A, "one", BEGAN_TS - 700, BEGAN_TS - 100, 10, in_force=False, by_rule=(("two", 9), ("one", 1)))
    taken = take(rest, keeper, arrival, BEGAN_TS)
    lines = (msgspec.json.encode(each) + b"\n" for each in (Head("db", BEGAN_TS), taken))
    (tmp_path / "fail2ban-import.1.jsonl").write_bytes(b"".join(lines) + b"{torn")
    guard.pasts.rules = frozenset((named, "two"))
    guard.pasts.begun("two", A, BEGAN_TS - 600, BEGAN_TS)
    guard.pasts.suppose(imported(tmp_path))
    later = BEGAN_TS + DAY_S
    assert [guard.earlier_by(rule, A, later) for rule in (named, "two")] == [1, 1]  # what was counted here stands
    take_back(guard, keeper, taken, later)
    assert [guard.earlier_by(rule, A, later) for rule in (named, "two")] == [0, 1]


def test_what_waits_is_kept_until_counting_begins() -> None:
    """The past is remembered in between, and guard may be stopped there."""
    jail = Jail("one", FilterSpec("any", failregex=("^ no <HOST>$",)), logpath=("/one.log",))
    late = Late("one", Failure(1.0, A, A), 1.0, ("/one.log", 1, 0, b"no"))
    saved = msgspec.msgpack.encode(Saved([late], {}))
    jailing = Jailing(rules_of(Loaded("", (jail,)), UTC), (), saved, root=NOWHERE)
    assert saved_of(jailing.dump()).waiting == [late]
