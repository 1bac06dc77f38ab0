"""`tocsin guard --fail2ban DIR`: a whole fail2ban configuration at work, with real packets, processes and scripts."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from enforcing import ATTACKER4, ATTACKER6, NEIGHBOUR4, SERVER4, Site
from guarding import TOCSIN, Guard, append, children, request_line, scratch
from netns import echo_server, wait_until

pytestmark = pytest.mark.root

# The second of the two definitions that the project began with, and the jail that its prose describes.
FOUNDING = r"""[Definition]
failregex = ^<HOST>.*\"POST /xmlrpc.php HTTP/1.0
ignoreregex =
"""
BLOCKS = """[Definition]
actionban = nft add element inet f2b addr-set-<name> \\{ <ip> \\}
actionunban = nft delete element inet f2b addr-set-<name> \\{ <ip> \\}
[Init]
name = default
port = 1:65535
protocol = tcp
"""
NOTES = """[Definition]
actionstart = echo start >> <file>
actionstop = echo stop >> <file>
actionban = printf 'ban %%s failures=%%s bantime=%%s bancount=%%s restored=%%s user=%%s\\n' <ip> <what> >> <file>
    printf '%%s\\n' "<matches>" >> <file>.matches
actionunban = printf 'unban %%s restored=%%s\\n' <ip> <restored> >> <file>
actionprolong = printf 'prolong %%s\\n' <ip> >> <file>
[Init]
file = /nowhere
what = <failures> <bantime> <bancount> <restored> "<F-USER>"
"""
ANY = "[Definition]\nfailregex = ^ failure of <F-USER>\\S+</F-USER> from <HOST>$\n"


def write(folder: Path, jails: Mapping[str, str], **files: str) -> Path:
    """A configuration: jails by name (the lines of their section), and files, `filter_d__name` by their text."""
    for part in ("filter.d", "action.d"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    (folder / "fail2ban.conf").write_text("[Definition]\nloglevel = INFO\n")
    (folder / "action.d" / "blocks.conf").write_text(BLOCKS)
    (folder / "action.d" / "notes.conf").write_text(NOTES)
    (folder / "filter.d" / "any.conf").write_text(ANY)
    for name, text in files.items():
        place, _, base = name.partition("__")
        (folder / place.replace("_", ".") / f"{base.replace('_', '-')}.conf").write_text(text)
    sections = [f"[{name}]\nenabled = true\n{text}\n" for name, text in jails.items()]
    (folder / "jail.local").write_text("[DEFAULT]\nfindtime = 600\nmaxretry = 3\n\n" + "\n".join(sections))
    return folder


class Jailed(Guard):
    """A guard with jails, whose actions run as root, for there may be nobody else in the namespace."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site.server, folder, f'[fail2ban]\npath = "{folder}/f2b"\nactions_user = "root"\n')
        self.f2b = folder / "f2b"
        self.notes = folder / "notes"

    def jails(self, jails: Mapping[str, str], **files: str) -> None:
        """Write the configuration of fail2ban."""
        write(self.f2b, jails, **files)

    def fail(self, client: str, times: int, name: str = "any.log") -> None:
        """So many failures of a client, one write each."""
        append(self.folder / name, times * [f"{time.strftime('%Y-%m-%d %H:%M:%S')} failure of bob from {client}\n"])

    def noted(self) -> list[str]:
        """What the action has written."""
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def wait_noted(self, line: str) -> None:
        """Wait until the action has written a line that begins so."""
        try:
            wait_until(lambda: any(each.startswith(line) for each in self.noted()), f"{line!r} noted")
        except AssertionError as error:
            raise AssertionError(f"{error}; noted {self.noted()}; guard said:\n{self.said_text()[-4000:]}") from error

    def wait_said(self, text: str, since: int = 0) -> str:
        """Wait until guard says it; what it said from `since` on."""
        try:
            wait_until(lambda: text in self.said_text()[since:], f"guard says {text!r}")
        except AssertionError as error:
            raise AssertionError(f"{error}; guard said:\n{self.said_text()[-4000:]}") from error
        return self.said_text()[since:]

    def reload(self) -> None:
        """SIGHUP, and wait until it is done."""
        since = len(self.said_text())
        os.kill(self.pids()["supervise"], signal.SIGHUP)
        self.wait_said("reloaded:", since)

    def any_jail(self, action: str = "blocks", more: str = "") -> str:
        """A jail on `any.log`."""
        return f"filter = any\nlogpath = {self.folder}/any.log\naction = {action}\n{more}"

    def noting(self) -> str:
        """The action that notes."""
        return f"notes[file={self.notes}]"


@pytest.fixture
def guard(site: Site) -> Iterator[Jailed]:
    """A guard that is configured but not started."""
    with scratch() as folder:
        one = Jailed(site, folder)
        (folder / "any.log").touch()
        try:
            yield one
        finally:
            one.stop()


# -- (a) the founding jail ---------------------------------------------------------------------------------------------


def test_the_founding_definition_bans_as_it_stands(site: Site, guard: Jailed) -> None:
    echo_server(site.server)
    jail = f"port = http,https\nfilter = apache-wp-xmlrpc\nlogpath = {guard.log}\nmaxretry = 3\nbantime = 240000\n"
    guard.jails({"apache-wp-xmlrpc": jail}, filter_d__apache_wp_xmlrpc=FOUNDING)
    guard.config.write_text(guard.config.read_text() + '[rules]\ndisable = ["wordpress-xmlrpc"]\n')
    guard.start()
    guard.write(*2 * [request_line(ATTACKER4)], *5 * [request_line(NEIGHBOUR4, "GET /xmlrpc.php HTTP/1.1")])
    assert site.client.connect(ATTACKER4, SERVER4) == "answered", "two lines are not three"
    guard.write(request_line(ATTACKER4))
    guard.wait_banned(ATTACKER4)
    assert site.client.connect(ATTACKER4, SERVER4) == "no answer"
    assert site.client.connect(NEIGHBOUR4, SERVER4) == "answered"

    assert guard.tell("fail2ban", "status") == "Status\n|- Number of jail:\t1\n`- Jail list:\tapache-wp-xmlrpc\n"
    told = guard.tell("fail2ban", "status", "apache-wp-xmlrpc")
    assert f"|  `- File list:\t{guard.log}\n" in told
    assert "|  |- Total failed:\t3\n" in told
    assert "|- Currently banned:\t1\n" in told
    assert told.endswith(f"`- Banned IP list:\t{ATTACKER4}\n")
    (row,) = [json.loads(line)["ban"] for line in guard.tell("bans", "--json").splitlines()]
    assert 239_900 < row["end_ts"] - time.time() <= 240_000
    assert "apache-wp-xmlrpc" in guard.tell("why", ATTACKER4)

    assert guard.tell("fail2ban", "unbanip", "apache-wp-xmlrpc", ATTACKER4) == "1\n"
    assert site.client.connect(ATTACKER4, SERVER4) == "answered"
    assert "Currently banned:\t0" in guard.tell("fail2ban", "status", "apache-wp-xmlrpc")
    assert "fail2ban.actions.runner" not in guard.pids(), "nothing is to be run, so there is no runner"


# -- (b) other actions -------------------------------------------------------------------------------------------------


def test_a_script_hears_of_ban_and_unban_with_its_arguments(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}", "bantime = 3\n")})
    guard.start()
    guard.wait_noted("start")
    guard.fail(ATTACKER4, 3)
    guard.wait_banned(ATTACKER4)
    guard.wait_noted(f"ban {ATTACKER4} failures=3 bantime=3 bancount=1 restored=0 user=bob")
    lines = Path(f"{guard.notes}.matches").read_text().splitlines()
    assert [line.partition(" failure ")[2] for line in lines] == 3 * [f"of bob from {ATTACKER4}"]
    guard.wait_noted(f"unban {ATTACKER4} restored=0")  # by time: nobody lifts it
    guard.fail(NEIGHBOUR4, 3)
    guard.wait_noted(f"ban {NEIGHBOUR4} ")
    guard.tell("unban", NEIGHBOUR4)
    guard.wait_noted(f"unban {NEIGHBOUR4} ")
    guard.tell("fail2ban", "banip", "any", "192.0.2.9")
    guard.wait_noted("ban 192.0.2.9 ")
    status = guard.need_status()
    assert status["actions"]["ok"]
    assert status["actions"]["unsent"] == status["actions"]["dropped"] == 0
    guard.stop()
    assert guard.noted()[-1] == "stop", "a guard that is ended stops the actions"


def test_an_ipv6_client_is_named_by_its_own_address_also_after_a_restart(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}", "bantime = 600\n")})
    guard.start()
    guard.fail(ATTACKER6, 3)
    guard.wait_noted(f"ban {ATTACKER6} ")
    guard.stop()
    guard.start()
    guard.wait_noted(f"ban {ATTACKER6} failures=1 bantime=59")  # it was told, as its actionstop has undone the ban
    assert f"ban {ATTACKER6} " in guard.noted()[-1]
    assert "restored=1" in guard.noted()[-1]
    guard.tell("unban", "2001:db8:a:1::/64")
    guard.wait_noted(f"unban {ATTACKER6} ")


def test_a_jail_that_only_notes_blocks_nobody_but_is_heard(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(guard.noting(), "bantime = 3\n")})
    guard.start()
    guard.fail(ATTACKER4, 3)
    guard.wait_noted(f"ban {ATTACKER4} ")
    assert ATTACKER4 in guard.tell("fail2ban", "status", "any")
    assert guard.in_kernel() == set()
    guard.wait_noted(f"unban {ATTACKER4} ")


def test_who_only_observes_runs_nothing(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}")})
    guard.config.write_text(guard.config.read_text().replace("[guard]", "[guard]\nobserve = true"))
    guard.start()
    guard.fail(ATTACKER4, 3)
    guard.wait_said(f"would ban {ATTACKER4}")
    assert "actions and ignorecommand are not run" in guard.said_text()
    assert "fail2ban.actions.runner" not in guard.pids()
    assert guard.noted() == []


def test_an_action_that_hangs_delays_no_ban(guard: Jailed) -> None:
    hangs = "[Definition]\nactionban = sleep 600\nactionunban = true\n[Init]\ntimeout = 60\n"
    guard.jails({"any": guard.any_jail("blocks\n  hangs")}, action_d__hangs=hangs)
    guard.start()
    guard.fail("192.0.2.1", 3)
    guard.wait_banned("192.0.2.1")
    runner = guard.pids()["fail2ban.actions.runner"]
    wait_until(lambda: _descendants(runner) != [], "the action hangs")
    took_s = []
    for number in range(2, 22):
        began_s = time.monotonic()
        guard.fail(f"192.0.2.{number}", 3)
        guard.wait_banned(f"192.0.2.{number}", deadline_s=2.0)
        took_s.append(time.monotonic() - began_s)
    assert max(took_s) < 1.0
    assert guard.need_status()["actions"]["waiting"] >= 20
    began_s = time.monotonic()
    guard.stop()
    assert time.monotonic() - began_s < 10
    wait_until(lambda: not Path(f"/proc/{runner}").exists(), "the runner has gone")


def _descendants(pid: int) -> list[str]:
    with contextlib.suppress(FileNotFoundError):
        return Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return []


def test_a_runner_that_is_killed_is_replaced_and_bans_go_on(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}", "bantime = 600\n")})
    guard.start()
    guard.fail("192.0.2.1", 3)
    guard.wait_noted("ban 192.0.2.1 ")
    before = guard.pids()
    os.kill(before["fail2ban.actions.runner"], signal.SIGKILL)
    guard.fail("192.0.2.2", 3)
    guard.wait_banned("192.0.2.1", "192.0.2.2")
    guard.wait_said("another runner of actions is at work")
    guard.wait_noted("ban 192.0.2.2 ")  # nobody was there to hear of it
    guard.fail("192.0.2.3", 3)
    guard.wait_noted("ban 192.0.2.3 ")
    after = guard.pids()
    assert after["fail2ban.actions.runner"] != before["fail2ban.actions.runner"]
    assert {name: after[name] for name in ("guard", "enforce")} == {name: before[name] for name in ("guard", "enforce")}
    guard.tell("unban", "192.0.2.1")
    guard.wait_noted("unban 192.0.2.1 ")


def test_a_runner_that_cannot_work_waits_for_a_reload(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}", "bantime = 600\n")})
    guard.start()
    guard.wait_noted("start")
    away = guard.f2b.rename(guard.folder / "away")
    os.kill(guard.pids()["fail2ban.actions.runner"], signal.SIGKILL)
    guard.wait_said("cannot work (exit code 78): actions wait until a reload")
    guard.fail("192.0.2.1", 3)
    guard.wait_banned("192.0.2.1")
    away.rename(guard.f2b)
    guard.reload()
    guard.wait_noted("ban 192.0.2.1 ")


def test_an_action_that_fails_is_said(guard: Jailed) -> None:
    fails = "[Definition]\nactionban = echo this is why >&2; exit 3\n"
    guard.jails({"any": guard.any_jail("blocks\n  fails")}, action_d__fails=fails)
    guard.start()
    guard.fail(ATTACKER4, 3)
    guard.wait_said("this is why")
    wait_until(lambda: bool(guard.need_status()["actions"]["reports"]), "the report in the status")
    (report,) = guard.need_status()["actions"]["reports"]
    assert (report["jail"], report["action"], report["kind"]) == ("any", "fails", "failed")
    assert "this is why" in guard.tell("status")


# -- whom a jail leaves alone ------------------------------------------------------------------------------------------


def test_ignorecommand_is_asked_and_the_others_count_at_their_own_time(guard: Jailed) -> None:
    script = guard.folder / "who"
    script.write_text(f'#!/bin/sh\necho "$1" >> {guard.folder}/asked\nsleep 0.3\ntest "$1" = 192.0.2.1\n')
    script.chmod(0o755)
    guard.jails({"any": guard.any_jail(more=f"ignorecommand = {script} <ip>\n")})
    guard.start()
    guard.fail("192.0.2.1", 5)
    guard.fail("192.0.2.2", 3)
    guard.wait_banned("192.0.2.2")
    asked = (guard.folder / "asked").read_text().split()
    assert sorted(asked) == ["192.0.2.1", "192.0.2.2"], "each is asked for once"
    assert guard.in_kernel() == {"192.0.2.2"}
    told = guard.tell("why", "192.0.2.2")
    assert told.count("failure of bob from 192.0.2.2") == 3, "the very lines"


def test_a_question_that_waits_is_asked_again_after_a_restart(guard: Jailed) -> None:
    script = guard.folder / "who"
    gate = guard.folder / "gate"
    script.write_text(f"#!/bin/sh\nwhile ! test -e {gate}; do sleep 0.05; done\nexit 1\n")
    script.chmod(0o755)
    guard.jails({"any": guard.any_jail(more=f"ignorecommand = {script} <ip>\n")})
    guard.start()
    guard.fail(ATTACKER4, 3)
    wait_until(lambda: guard.lines() == 3, "the lines are read")
    guard.stop()
    guard.start()
    assert guard.in_kernel() == set()
    gate.touch()
    guard.wait_banned(ATTACKER4)


def test_a_file_of_addresses_and_a_name_are_left_alone(guard: Jailed) -> None:
    friends = guard.folder / "friends"
    friends.write_text("192.0.2.1  # a friend\n")
    guard.jails({"any": guard.any_jail(more=f"ignoreip = file:{friends} 198.51.100.0/24\n")})
    guard.start()
    guard.fail("192.0.2.1", 5)
    guard.fail("198.51.100.7", 5)
    guard.fail("192.0.2.3", 3)
    guard.wait_banned("192.0.2.3")
    assert guard.in_kernel() == {"192.0.2.3"}


# -- (c) a regex that takes for ever -----------------------------------------------------------------------------------


def test_a_regex_that_takes_for_ever_is_set_aside_and_the_others_ban(guard: Jailed) -> None:
    slow = "[Definition]\nfailregex = ^ evil <HOST> (?:a|aa|b?a)*$\n            ^ failure of \\S+ from <HOST>$\n"
    jail = f"filter = slow\nlogpath = {guard.folder}/any.log\n"
    guard.jails({"slow": jail, "other": guard.any_jail()}, filter_d__slow=slow)
    guard.start()
    stamp = time.strftime("%Y-%m-%d %H:%M:%S")
    evil = f"{stamp} evil 192.0.2.66 {'a' * 60}!\n"
    append(guard.folder / "any.log", 10 * [evil])
    guard.fail(ATTACKER4, 3)
    took_s = guard.wait_banned(ATTACKER4, deadline_s=2.0)
    assert took_s < 2.0
    said = guard.wait_said("is set aside, the others go on")
    assert "jail slow" in said
    assert "(?:a|aa|b?a)*$" in said


# -- (d) reload --------------------------------------------------------------------------------------------------------


def test_a_reload_takes_up_a_changed_jail_its_new_log_and_its_new_action(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(f"blocks\n  {guard.noting()}", "bantime = 600\n")})
    guard.start()
    guard.fail(ATTACKER4, 2)
    wait_until(lambda: guard.lines() == 2, "two lines")
    (guard.folder / "new.log").touch()
    other = guard.folder / "other"
    guard.jails(
        {
            "any": guard.any_jail(f"blocks\n  notes[file={other}]", "bantime = 300\nmaxretry = 4\n"),
            "new": f"filter = any\nlogpath = {guard.folder}/new.log\nmaxretry = 2\naction = blocks\n",
        }
    )
    guard.reload()
    guard.fail(ATTACKER4, 1)
    guard.fail("192.0.2.8", 2, "new.log")
    guard.wait_banned("192.0.2.8")
    assert guard.in_kernel() == {"192.0.2.8"}, "three of four now"
    guard.fail(ATTACKER4, 1)
    guard.wait_banned(ATTACKER4)
    wait_until(lambda: other.exists() and "bantime=300" in other.read_text(), "the new action heard it")
    guard.wait_noted("stop")
    assert not any(line.startswith("ban") for line in guard.noted())
    assert guard.tell("fail2ban", "status").splitlines()[1] == "|- Number of jail:\t2"

    guard.jails({"new": f"filter = any\nlogpath = {guard.folder}/new.log\nmaxretry = 2\naction = blocks\n"})
    guard.reload()
    wait_until(lambda: other.read_text().endswith("stop\n"), "a jail that is gone is stopped")
    assert {ATTACKER4, "192.0.2.8"} <= guard.in_kernel(), "its bans stay until their time"


def test_a_broken_configuration_of_fail2ban_changes_nothing(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail()})
    guard.start()
    (guard.f2b / "jail.local").write_text("[any\nenabled = true\n")
    since = len(guard.said_text())
    os.kill(guard.pids()["supervise"], signal.SIGHUP)
    guard.wait_said("the old one stays", since)
    guard.fail(ATTACKER4, 3)
    guard.wait_banned(ATTACKER4)


# -- (e) rotation ----------------------------------------------------------------------------------------------------


def test_rotations_while_it_watches_lose_no_line(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(more="bantime = 600\n")})
    guard.start()
    log = guard.folder / "any.log"
    guard.fail("192.0.2.1", 2)
    log.rename(guard.folder / "any.log.1")
    guard.fail("192.0.2.1", 1)  # into the new file, which nobody has announced
    guard.wait_banned("192.0.2.1")
    append(guard.folder / "any.log.1", 3 * [f"{time.strftime('%F %T')} failure of bob from 192.0.2.2\n"])
    guard.wait_banned("192.0.2.2")  # a writer that still holds the old one
    guard.fail("192.0.2.3", 2)
    wait_until(lambda: guard.lines() == 8, "all lines so far")
    shutil.copy(log, guard.folder / "any.log.2")
    os.truncate(log, 0)
    guard.fail("192.0.2.3", 1)
    guard.wait_banned("192.0.2.3")
    assert guard.lines() == 9


# -- (f) one file, ten jails -------------------------------------------------------------------------------------------


def test_a_file_that_ten_jails_read_is_read_once(guard: Jailed) -> None:
    guard.jails({f"any{number}": guard.any_jail() for number in range(10)})
    guard.start()
    watcher = children(guard.pids()["supervise"])["guard"]
    before = _read_bytes(watcher)
    line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} nothing of interest, {'x' * 900}\n"
    append(guard.folder / "any.log", [line * 1000 for _ in range(8)])
    wait_until(lambda: guard.lines() == 8000, "all lines, each once")
    took = _read_bytes(watcher) - before
    size = 8000 * len(line)
    assert size <= took < 1.5 * size, f"{took} bytes for a file of {size}"
    guard.fail(ATTACKER4, 3)
    guard.wait_banned(ATTACKER4)


def _read_bytes(pid: int) -> int:
    rows = dict(line.split(": ") for line in Path(f"/proc/{pid}/io").read_text().splitlines())
    return int(rows["rchar"])


# -- a replay ----------------------------------------------------------------------------------------------------------


def test_a_replay_asks_nobody_and_says_so(guard: Jailed) -> None:
    guard.jails({"any": guard.any_jail(more="ignorecommand = /bin/true <ip>\nignoreip = 192.0.2.9 localhost\n")})
    guard.fail(ATTACKER4, 3)
    guard.fail("192.0.2.9", 3)
    command = [str(TOCSIN), "replay", "--fail2ban", str(guard.f2b), "--json", str(guard.folder / "any.log")]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60, cwd="/")
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [row["subject"] for row in rows[:-1]] == [ATTACKER4]
    assert "jail any: a replay does not ask ignorecommand, ignoreip = localhost" in done.stderr
