"""What guard keeps of jails: their bans and ends, whom they leave alone, and what their actions hear; also restarts.

The runner's end of the socket is held by the test.
"""

from __future__ import annotations

import selectors
import time
from collections.abc import Callable, Iterator
from datetime import UTC
from pathlib import Path

import pytest
from msgspec import structs

from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.detect.books import Limits
from tocsin.fail2ban.actions.ignore import WAIT_S
from tocsin.fail2ban.actions.protocol import (
    Answer,
    Ask,
    Begin,
    Done,
    Link,
    Ready,
    Report,
    Resolve,
    Resolved,
    Restarted,
    Run,
    Stop,
    Stopped,
    ToRunner,
    pair,
)
from tocsin.fail2ban.model import ActionSpec, FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import Jailed, rules_of
from tocsin.formats import Proxies
from tocsin.jailing import Jailing
from tocsin.model import Batch, Decision, Finding
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings

LOG = "/var/log/any.log"
NOWHERE = Path("/nonexistent")  # the machine that runs the tests may have any address
NOTES = ActionSpec("notes", "notes", {"actionban": "note <ip>", "actionunban": "forget <ip>"})
BLOCKS = ActionSpec("blocks", "blocks", {"actionban": "nft add element inet f2b a { <ip> }"})
FILTER = FilterSpec("any", failregex=(r"^ failure of <F-USER>\S+</F-USER> from <HOST>$",))


def jail(name: str = "any", **changed: object) -> Jail:
    """A jail of three failures in ten minutes that blocks and notes."""
    made = {"name": name, "filter": FILTER, "logpath": (LOG,), "maxretry": 3, "actions": (BLOCKS, NOTES), **changed}
    return Jail(**made)  # type: ignore[arg-type]  # the fields' own types


def jailed(*jails: Jail) -> Jailed:
    """The jails as rules."""
    made = rules_of(Loaded("/etc/fail2ban", jails), UTC)
    assert len(made.rules) == len(jails), made.remarks
    return made


SCENES: list[Scene] = []


@pytest.fixture(autouse=True)
def closing() -> Iterator[None]:
    """Close what a test has opened."""
    yield
    while SCENES:
        SCENES.pop().close()


class Scene:
    """A guard's inside: pipeline, policy and jails, and the far end of the runner's socket."""

    def __init__(self, *jails: Jail, saved: bytes = b"", in_force: list[tuple[str, str, float | None]] = []) -> None:  # noqa: B006  it is only read
        ours, theirs = pair()
        self.far: Link[ToRunner] = Link(theirs, ToRunner)
        self.said: list[str] = []
        self.decisions: list[Decision] = []
        self.jailing = Jailing(
            jailed(*jails),
            in_force,
            saved,
            say=lambda _event, text, **_fields: self.said.append(text),
            runner=ours,
            root=NOWHERE,
        )
        self.policy = Policy(PolicySettings(), AllowList())
        readings = Readings([], Proxies(()), UTC)
        self.pipeline = Pipeline(self.jailing.rules, Limits(), self.policy, readings, self._decided)
        self.jailing.begin(self.pipeline)
        self.selector = selectors.DefaultSelector()
        self.jailing.wait_on(self.selector)
        self.offset = 0
        SCENES.append(self)

    def close(self) -> None:
        """Hang up on both ends."""
        self.selector.close()
        self.far.close()
        if self.jailing.acting is not None:
            self.jailing.acting.actions.close()

    def _decided(self, decision: Decision, finding: Finding | None) -> None:
        self.decisions.append(decision)
        self.jailing.note(decision, finding)

    def fail(self, client: str, times: int = 1) -> None:
        """Failures of a client, now."""
        stamp = time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime())
        data = times * f"{stamp} failure of bob from {client}\n".encode()
        self.pipeline.take(Batch(LOG, data, self.offset, 1, time.time()), time.time())
        self.offset += len(data)

    def heard(self, kind: type, *, within: Callable[[], None] = lambda: None) -> list[ToRunner]:
        """What the runner was sent of a kind since the last call."""
        within()
        return [message for message in self._all() if isinstance(message, kind)]

    def runs(self) -> list[tuple[str, str, bool]]:
        """What its actions were told since the last call: what, whom, whether restored."""
        return [
            (message.what, message.ticket.ip, message.ticket.restored)
            for message in self._all()
            if isinstance(message, Run)
        ]

    def _all(self) -> Iterator[ToRunner]:
        self.jailing.want_writes()
        while messages := self.far.receive():
            yield from messages

    def say(self, *messages: Answer | Done | Ready | Report | Resolved | Restarted | Stopped) -> None:
        """The runner says something, and guard hears it."""
        for message in messages:
            self.far.push(message)
        for key, _ in self.selector.select(1.0):
            key.data()
        self.jailing.tick(time.monotonic(), time.time())

    def greet(self, *forgetful: str) -> None:
        """A runner begins."""
        self.say(Ready("nobody", began=False))
        self.say(Ready("nobody", began=True, actions=1, forgetful=forgetful))

    def banned(self) -> list[str]:
        """Whom the first jail bans, as `fail2ban status` shows it."""
        rows = self.jailing.status(self.pipeline.engine, [LOG], time.time())
        names = rows[0]["banned"]
        assert isinstance(names, list)
        return names


# -- bans --------------------------------------------------------------------------------------------------------------


def test_a_ban_is_told_with_its_lines_and_its_end_by_time_too() -> None:
    scene = Scene(jail(bantime_s=60.0, maxmatches=2))
    assert scene.heard(Begin) == [Begin(("any",))]
    scene.fail("192.0.2.7", 3)
    (run,) = scene.heard(Run)
    assert isinstance(run, Run)
    assert (run.jail, run.what, run.ticket.ip, run.ticket.fid) == ("any", "ban", "192.0.2.7", "192.0.2.7")
    assert run.ticket.failures == 3
    assert run.ticket.bantime_s == 60.0
    assert run.ticket.fields["user"] == "bob"
    assert len(run.ticket.matches) == 2
    assert all("failure of bob from 192.0.2.7" in line for line in run.ticket.matches)
    assert scene.banned() == ["192.0.2.7"]
    end_ts = scene.decisions[0].end_ts
    assert end_ts is not None
    now_s, now_ts = time.monotonic(), time.time()
    assert scene.jailing.due_s(now_s, now_ts) <= now_s + 60
    scene.jailing.tick(now_s, end_ts - 0.1)
    assert scene.runs() == []
    scene.jailing.tick(now_s, end_ts)
    assert scene.runs() == [("unban", "192.0.2.7", False)]
    assert scene.banned() == []


def test_a_lifted_ban_ends_at_the_next_tick() -> None:
    scene = Scene(jail(), jail("other", maxretry=99))
    scene.fail("192.0.2.7", 3)
    for lift in scene.policy.lift("192.0.2.7", time.time()):
        scene.jailing.note(lift)
    assert scene.banned() == []
    scene.jailing.tick(time.monotonic(), time.time())
    assert scene.runs() == [("ban", "192.0.2.7", False), ("unban", "192.0.2.7", False)]


def test_the_end_of_a_ban_of_other_services_is_no_end() -> None:
    scene = Scene(jail())
    now_ts = time.time()
    scene.jailing.note(Decision("1", "ban", "192.0.2.7", now_ts, None, "any", None, services="tcp/22"))
    lift = Decision("2", "lift", "192.0.2.7", now_ts, None, "", None, "operator", lifts="0")
    scene.jailing.note(lift)
    assert scene.banned() == ["192.0.2.7"]
    scene.jailing.note(structs.replace(lift, services="tcp/22"))
    assert scene.banned() == []


def test_a_longer_ban_of_the_same_jail_prolongs() -> None:
    scene = Scene(jail())
    now_ts = time.time()
    scene.jailing.note(Decision("1", "ban", "192.0.2.7", now_ts, now_ts + 60, "any", None))
    scene.jailing.note(Decision("2", "ban", "192.0.2.7", now_ts, now_ts + 600, "any", None))
    assert [what for what, _, _ in scene.runs()] == ["ban", "prolong"]
    scene.jailing.tick(time.monotonic(), now_ts + 61)
    assert scene.runs() == [], "the end of the first is no end"
    scene.jailing.tick(time.monotonic(), now_ts + 601)
    assert scene.runs() == [("unban", "192.0.2.7", False)]


def test_held_bans_run_nothing_but_where_noting_is_all_there_is() -> None:
    scene = Scene(jail(actions=(NOTES,)))
    scene.fail("192.0.2.7", 3)
    assert scene.decisions[0].held == "no action of this jail blocks anybody"
    assert scene.runs() == [("ban", "192.0.2.7", False)]
    held = Decision("1", "ban", "192.0.2.8", time.time(), None, "any", None, held="breaker")
    scene.jailing.note(held)
    assert scene.runs() == []
    assert scene.banned() == ["192.0.2.7"]


def test_many_ends_at_once_wait_for_the_runner_and_none_is_lost() -> None:
    now_ts, count = time.time(), 5000
    rows: list[tuple[str, str, float | None]] = [("any", f"10.0.{n >> 8}.{n & 255}", now_ts + 9) for n in range(count)]
    scene = Scene(jail(), in_force=rows)
    ended: set[str] = set()
    for _ in range(count):
        scene.jailing.tick(time.monotonic(), now_ts + 10)
        for key, _ in scene.selector.select(0):
            key.data()
        ended |= {ip for what, ip, restored in scene.runs() if what == "unban" and restored}
        if len(ended) == count:
            break
    assert len(ended) == count
    assert scene.jailing.acting
    assert scene.jailing.acting.actions.totals()["unsent"] == 0


# -- runners come and go -----------------------------------------------------------------------------------------------


def test_bans_in_force_are_told_to_forgetful_actions_alone_and_once() -> None:
    rows: list[tuple[str, str, float | None]] = [("any", "192.0.2.7", None), ("any", "192.0.2.8", time.time() + 99)]
    scene = Scene(jail(), in_force=rows)
    scene.greet()
    assert scene.runs() == [], "they remember"
    forgetful = Scene(jail(), in_force=rows)
    forgetful.greet("any")
    assert sorted(forgetful.runs()) == [("ban", "192.0.2.7", True), ("ban", "192.0.2.8", True)]
    forgetful.say(Ready("nobody", began=True, actions=1, forgetful=("any",)))
    assert forgetful.runs() == [], "a reload that changes nothing"
    forgetful.say(Restarted("any", "notes"), Done("any", 2))
    assert sorted(forgetful.runs()) == [("ban", "192.0.2.7", True), ("ban", "192.0.2.8", True)]


def test_another_runner_is_told_what_the_one_before_had_not_done() -> None:
    scene = Scene(jail())
    scene.greet()
    scene.fail("192.0.2.1", 3)
    scene.fail("192.0.2.2", 3)
    assert len(scene.runs()) == 2
    scene.say(Done("any", 1))
    scene.say(Ready("nobody", began=False))
    messages = list(scene._all())
    assert isinstance(messages[0], Begin), "first which jails are at work"
    assert [message.ticket.ip for message in messages if isinstance(message, Run)] == ["192.0.2.2"]
    scene.policy.expire(time.time())
    for lift in scene.policy.lift("192.0.2.1", time.time()):
        scene.jailing.note(lift)
    scene.jailing.tick(time.monotonic(), time.time())
    assert scene.runs() == [("unban", "192.0.2.1", True)], "this runner has not banned it"


def test_what_a_runner_says_is_passed_on() -> None:
    scene = Scene(jail())
    scene.say(Ready("nobody", began=False))
    scene.say(
        Ready("nobody", True, ("no such user",), 1, (), ("any",)), Report("any", "notes", "actionban", "failed", "x")
    )
    assert "no such user" in scene.said
    assert any("has no such jail" in text for text in scene.said)
    assert any(text.startswith("jail x") for text in scene.said)
    acting = scene.jailing.acting
    assert acting
    status = acting.status()
    assert (status["user"], status["ok"], status["running"], status["missing"]) == ("nobody", True, 1, ["any"])
    assert [report["kind"] for report in status["reports"]] == ["failed"]
    scene.far.close()
    for key, _ in scene.selector.select(1.0):
        key.data()
    scene.jailing.want_writes()
    scene.fail("192.0.2.7", 3)
    assert scene.decisions, "bans go on"
    assert any("gone for good" in text for text in scene.said)
    assert not acting.status()["ok"]


def test_the_end_waits_for_the_actions_but_not_for_ever() -> None:
    scene = Scene(jail())
    scene.jailing.stop()
    assert scene.heard(Stop) == [Stop()]
    scene.far.push(Stopped())
    began_s = time.monotonic()
    scene.jailing.wait_stopped(10.0)
    assert time.monotonic() - began_s < 5
    silent = Scene(jail())
    silent.jailing.stop()
    silent.jailing.wait_stopped(0.05)


def test_without_a_runner_it_is_said_what_is_not_run() -> None:
    said: list[str] = []
    made = jailed(jail())
    Jailing(made, (), say=lambda _event, text, **_fields: said.append(text), why_not="guard only observes")
    assert said == ["actions and ignorecommand are not run, and names in ignoreip not looked up: guard only observes"]


# -- whom it leaves alone ----------------------------------------------------------------------------------------------


def asking() -> Jail:
    """A jail that asks a program."""
    return jail(ignorecommand="/usr/local/bin/known <ip>", actions=())


@pytest.mark.parametrize("ignore", [True, False, None])
def test_who_is_asked_for_counts_when_the_answer_says_so(ignore: bool | None) -> None:
    scene = Scene(asking())
    scene.fail("192.0.2.7", 3)
    (ask,) = scene.heard(Ask)
    assert isinstance(ask, Ask)
    assert scene.decisions == []
    scene.say(Answer(ask.id, ignore))
    assert [decision.subject for decision in scene.decisions] == ([] if ignore else ["192.0.2.7"])
    scene.fail("192.0.2.7", 3)
    assert scene.heard(Ask) == [], "what was said is remembered"


def test_who_nobody_vouches_for_in_time_counts() -> None:
    scene = Scene(asking())
    scene.fail("192.0.2.7", 3)
    now_s = time.monotonic()
    assert now_s < scene.jailing.due_s(now_s, time.time()) <= now_s + WAIT_S
    scene.jailing.tick(now_s + WAIT_S + 1, time.time())
    (decision,) = scene.decisions
    assert decision.subject == "192.0.2.7"


def test_what_waits_outlives_a_restart_and_is_asked_again() -> None:
    scene = Scene(asking())
    scene.fail("192.0.2.7", 3)
    state, saved = scene.pipeline.dump(), scene.jailing.dump()
    other = Scene(asking(), saved=saved)
    other.pipeline.load(state)
    (ask,) = other.heard(Ask)
    assert isinstance(ask, Ask)
    other.say(Answer(ask.id, False))
    (decision,) = other.decisions
    assert decision.subject == "192.0.2.7"


def test_a_reload_judges_what_waits_by_the_new_jails() -> None:
    scene = Scene(asking())
    scene.fail("192.0.2.7", 3)
    scene.jailing.take_up(jailed(jail(actions=())))
    state = scene.pipeline.dump()
    scene.pipeline = Pipeline(scene.jailing.rules, Limits(), scene.policy, scene.pipeline.readings, scene._decided)
    scene.pipeline.load(state)
    scene.jailing.begin(scene.pipeline)
    assert [decision.subject for decision in scene.decisions] == ["192.0.2.7"]


def test_names_are_looked_up_and_files_read_before_the_first_line(tmp_path: Path) -> None:
    (tmp_path / "friends").write_text("192.0.2.1\n")
    scene = Scene(jail(ignoreip=("home.example.org", f"file:{tmp_path}/friends", "192.0.2.3"), actions=()))
    assert scene.heard(Resolve) == [Resolve(("home.example.org",))]
    scene.say(Resolved("home.example.org", ("192.0.2.2",)))
    for last in range(1, 5):
        scene.fail(f"192.0.2.{last}", 3)
    assert [decision.subject for decision in scene.decisions] == ["192.0.2.4"]
    scene.say(Resolved("home.example.org", ()))
    assert any("home.example.org has no address" in text for text in scene.said)


def test_own_addresses_are_left_alone_where_the_jail_says_so() -> None:
    for own, wanted in ((True, []), (False, ["127.0.0.1"])):
        scene = Scene(jail(ignoreself=own, actions=()))
        scene.policy.allow = AllowList()
        scene.fail("127.0.0.1", 3)
        assert [decision.subject for decision in scene.decisions] == wanted


# -- restarts ----------------------------------------------------------------------------------------------------------


def test_what_the_ledger_does_not_hold_is_saved() -> None:
    scene = Scene(jail(actions=(NOTES,)), jail("six", maxretry=3, bantime_s=None))
    scene.fail("192.0.2.7", 3)
    scene.fail("2001:db8:1:2::5", 3)
    rows: list[tuple[str, str, float | None]] = [("six", "2001:db8:1:2::/64", None)]
    other = Scene(jail(actions=(NOTES,)), jail("six"), saved=scene.jailing.dump(), in_force=rows)
    assert other.banned() == ["192.0.2.7", "2001:db8:1:2::/64"], "held bans are in no ledger"
    other.greet("six")
    assert other.runs() == [("ban", "2001:db8:1:2::5", True)], "the address itself, which the ledger does not have"
    assert Scene(jail(), saved=b"\xc1 of another version").banned() == []


def test_jails_that_would_be_lost_by_a_mistake_are_named() -> None:
    scene = Scene(jail(), jail("other"))
    broken = rules_of(Loaded("", (jail(), jail("other", filter=FilterSpec("x", failregex=("^ no host",))))), UTC)
    assert len(scene.jailing.lost_by(broken)) == 1
    assert scene.jailing.lost_by(jailed(jail())) == [], "it was taken out"
    assert scene.jailing.lost_by(None) == []
