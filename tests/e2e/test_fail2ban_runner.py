"""The runner at work: what actions are told, what they cannot be made to do, and whom they cannot hold up."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest
from running_actions import Running, configure, running

from tocsin.fail2ban.actions.client import Actions, wants_runner
from tocsin.fail2ban.actions.lookups import look_up_addresses, look_up_name
from tocsin.fail2ban.actions.protocol import Answer, Dropped, Resolved, Restarted, Stopped, pair
from tocsin.fail2ban.actions.tickets import Ticket
from tocsin.fail2ban.settings.loader import load

# Each writes what it is told into a file, the way actions do: printf, a pipe, both quotes, backquotes, a variable.
NOTE = """[Definition]
actionstart = echo start >> log
actionstop = echo stop >> log
actionban = printf '%%s\\n' "<ip>|<matches>|<F-USER>|<failures>" >> log
            printf %%b "Hi,\\n<matches>\\n`printf %%s '<F-USER>'`\\n" | cat >> mail
            x=<F-USER>; echo "$x" >> log
            if [ "<F-USER>" = 'root' ] || [ '<matches>' = "" ]; then echo yes >> log; fi
actionunban = echo "unban <ip>" >> log
"""
QUICK = "[Definition]\nactionban = echo <ip> >> quick\n"
HANG = "[Definition]\nactionban = echo <ip> >> hung; (sleep 600 & sleep 600); echo never >> hung\n[Init]\ntimeout = 3\n"
SLOW = "[Definition]\nactionban = sleep 0.2; echo <ip> >> slow\n"
HELD = """[Definition]
actionban = while [ ! -e go ]; do sleep 0.05; done; echo ban >> log
actionunban = echo unban >> log
"""
LIFE = """[Definition]
actionstart = echo start <id> >> log
actionstop = echo stop <id> >> log
actionreload = echo reload <id> >> log
actionban = true
"""
WHO = """[Definition]
actionban = id -un > who
            grep -E '^Cap(Prm|Eff|Amb|Inh)' /proc/self/status >> who
            touch /etc/pwned 2>> who
"""
WALL = "[Definition]\nactionban = iptables -I f2b -s <ip> -j DROP\n"
HOSTILE = (
    "$(touch pwned)",
    "`touch pwned`",
    "'; touch pwned; '",
    '"; touch pwned; "',
    "\\'; touch pwned #",
    "a\ntouch pwned\nb",
    "~!touch pwned",
    "\\n~!touch pwned\\n",
    "a\x00b; touch pwned",
    "x\x1b]0;title\x07",
    "| touch pwned & touch pwned; > pwned",
    "%s%n%d \\x41 \\0101 \\c",
    "() { :;}; touch pwned",
)


def ticket(number: int = 7, **fields: str) -> Ticket:
    ip = f"192.0.{number >> 8}.{number & 255}"
    return Ticket(ip, ip, failures=3, bantime_s=600.0, matches=("a line",), fields=fields)


@pytest.fixture
def work(tmp_path: Path) -> Path:
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


@pytest.fixture
def noting(tmp_path: Path, work: Path) -> Iterator[Running]:
    directory = configure(tmp_path / "fail2ban", {"note": NOTE, "quick": QUICK}, {"one": "action = note\n  quick"})
    with running(directory, work) as runner:
        runner.begin("one")
        yield runner


def test_an_action_is_told_what_it_asks_for_in_order(noting: Running) -> None:
    assert noting.actions.run("one", "ban", ticket(7, user="root"))
    assert noting.actions.run("one", "unban", ticket(7))
    noting.through("one")
    lines = (noting.work / "log").read_text().splitlines()
    assert lines == ["start", "192.0.0.7|a line|root|3", "root", "yes", "unban 192.0.0.7"]
    assert (noting.work / "mail").read_text() == "Hi,\na line\nroot\n"
    assert (noting.work / "quick").read_text() == "192.0.0.7\n"
    assert noting.actions.stop()
    noting.until(lambda: any(isinstance(message, Stopped) for message in noting.messages))
    assert (noting.work / "log").read_text().splitlines()[-1] == "stop"


def test_nothing_that_a_log_says_is_run(noting: Running) -> None:
    for value in HOSTILE:
        hostile = Ticket(value, "", matches=(value, value), fields={"user": value, "mlfid": value})
        assert noting.actions.run("one", "ban", hostile)
        assert noting.actions.run(
            "one", "ban", Ticket("192.0.2.7", "192.0.2.7", matches=(value,), fields={"user": value})
        )
    noting.through("one")
    assert sorted(path.name for path in noting.work.iterdir()) == ["log", "mail", "quick"]
    assert not noting.reports("failed") + noting.reports("timeout")
    mail = (noting.work / "mail").read_bytes()
    for value in (
        "$(touch pwned)",
        "`touch pwned`",
        "'; touch pwned; '",
        "\\n~!touch pwned\\n",
        "%s%n%d \\x41 \\0101 \\c",
    ):
        assert value.encode() in mail  # as it was in the log, which a report to somebody else needs
    assert not [line for line in mail.splitlines() if line.startswith((b"~", b"touch pwned; "))]
    assert b"\x00" not in mail
    assert b"\x1b" not in mail


def test_what_another_interpreter_would_run_is_not_run(tmp_path: Path, work: Path) -> None:
    bad = '[Definition]\nactionban = eval "echo <matches> >> log"\nactionunban = echo over >> log\n'
    gate = '[Definition]\nactionban = sh -c "echo <ip> >> log"\n'
    jails = {"bad": "action = bad", "gate": "action = gate"}
    with running(configure(tmp_path / "fail2ban", {"bad": bad, "gate": gate}, jails), work) as runner:
        runner.begin("bad", "gate")
        hostile = Ticket("x; touch pwned", "", matches=("x; touch pwned",))
        for jail in jails:
            runner.actions.run(jail, "ban", hostile)
        runner.actions.run("gate", "ban", ticket(8))
        runner.through("bad", "gate")
        assert (work / "log").read_text() == "192.0.0.8\n"
        assert [report.jail for report in runner.reports("refused")] == ["gate"]


def processes_of(group_of: str) -> list[str]:
    """Command lines of living processes that contain a text."""
    found = []
    for path in Path("/proc").iterdir():
        if path.name.isdigit():
            try:
                found.append((path / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace"))
            except OSError:
                continue
    return [line for line in found if group_of in line]


def test_a_hanging_action_is_killed_and_delays_no_other_jail(tmp_path: Path, work: Path) -> None:
    hanging = [f"hang{n}" for n in range(24)]  # more than may run at once
    jails = dict.fromkeys(hanging, "action = hang") | {"fine": "action = quick"}
    hang = HANG.replace("600", f"6{os.getpid()}")
    with running(configure(tmp_path / "fail2ban", {"hang": hang, "quick": QUICK}, jails), work) as runner:
        runner.begin(*jails)
        for jail in jails:
            runner.actions.run(jail, "ban", ticket(7))
        runner.through("fine")
        assert (work / "quick").read_text() == "192.0.0.7\n"
        assert len((work / "hung").read_text().splitlines()) == 24
        assert all(runner.actions.waiting(jail) for jail in hanging)
        runner.through(*hanging)
        assert len(runner.reports("timeout")) == 24
        assert "time-out of 3 s" in runner.reports("timeout")[0].text
        assert "never" not in (work / "hung").read_text()
        assert not processes_of(f"sleep 6{os.getpid()}")


def test_a_full_queue_drops_and_counts_and_unbans_still_go(tmp_path: Path, work: Path) -> None:
    with running(configure(tmp_path / "fail2ban", {"held": HELD}, {"one": "action = held"}), work) as runner:
        runner.begin("one")
        for number in range(1200):
            runner.until(lambda: runner.actions.queued < 500)
            assert runner.actions.run("one", "ban", ticket(number))
        runner.until(lambda: any(isinstance(message, Dropped) for message in runner.messages))
        assert runner.actions.run("one", "unban", ticket(1))
        runner.until(lambda: runner.actions.waiting("one") == 1002)  # one runs, 1,000 wait, and the unban
        assert runner.actions.dropped["one"] == (199, 0)
        assert runner.actions.totals() == {"waiting": 1002, "unsent": 0, "dropped": 199}
        (work / "go").touch()
        runner.through("one")
        lines = (work / "log").read_text().splitlines()
        assert lines == ["ban"] * 1001 + ["unban"]


def test_a_thousand_bans_with_slow_actions_never_block_the_sender(tmp_path: Path, work: Path) -> None:
    with running(configure(tmp_path / "fail2ban", {"slow": SLOW}, {"one": "action = slow"}), work) as runner:
        runner.begin("one")
        os.kill(runner.process.pid, signal.SIGSTOP)  # it does not even read
        try:
            took_s = []
            for number in range(4000):
                began_s = time.perf_counter()
                runner.actions.run("one", "ban", ticket(number))
                took_s.append(time.perf_counter() - began_s)
            assert runner.actions.unsent["one"] > 0  # there is an end to what is kept for it
            assert runner.actions.waiting("one") + runner.actions.unsent["one"] == 4000
            assert sorted(took_s)[3900] < 0.01
        finally:
            os.kill(runner.process.pid, signal.SIGCONT)
        runner.until((work / "slow").exists)


def test_the_sender_survives_a_runner_that_is_gone(tmp_path: Path, work: Path) -> None:
    with running(configure(tmp_path / "fail2ban", {"quick": QUICK}, {"one": "action = quick"}), work) as runner:
        runner.begin("one")
        runner.process.terminate()
        runner.until(lambda: runner.actions.gone)
        assert not runner.actions.run("one", "ban", ticket(7))
        assert runner.actions.ask("one", ticket(7)) is None
        assert runner.actions.receive() == []
        assert runner.actions.unsent == {"one": 1}


def wrote(path: Path, lines: int) -> bool:
    return path.exists() and len(path.read_text().splitlines()) == lines


def test_another_runner_goes_on_at_the_same_socket(tmp_path: Path, work: Path) -> None:
    """As the supervisor does it: it keeps the runner's end, and starts another."""
    directory = configure(tmp_path / "fail2ban", {"quick": QUICK}, {"one": "action = quick"})
    ours, theirs = pair()
    command = [sys.executable, "-I", "-m", "tocsin.fail2ban.actions.runner", "--fd", str(theirs.fileno())]
    command += ["--fail2ban", str(directory), "--actions-user", "root", "--state-dir", str(work)]
    with ours, theirs:
        actions = Actions(ours)
        started = []
        for number in range(2):
            process = subprocess.Popen(command, pass_fds=(theirs.fileno(),))
            started.append(process)
            runner = Running(actions, process, work)
            if number == 0:
                actions.begin(["one"])
            runner.until(lambda: actions.ready is not None)
            actions.run("one", "ban", ticket(number))
            runner.until(partial(wrote, work / "quick", number + 1))
            actions.ready = None
            process.kill()
            process.wait()
        assert (work / "quick").read_text() == "192.0.0.0\n192.0.0.1\n"


def test_restored_bans_are_fed_as_there_is_room(tmp_path: Path, work: Path) -> None:
    jails = {"one": "action = quick\n  mail", "two": "action = quick"}
    actions = {"quick": QUICK, "mail": "[Definition]\nnorestored = 1\nactionban = echo <ip> >> mails\n"}
    with running(configure(tmp_path / "fail2ban", actions, jails), work) as runner:
        runner.begin("one")
        drawn = []

        def in_force() -> Iterator[Ticket]:
            for number in range(100):
                drawn.append(number)
                one = ticket(number)
                yield Ticket(one.fid, one.ip, restored=True)

        runner.actions.restore("one", in_force())
        assert len(drawn) <= 21
        runner.until(lambda: len(drawn) == 100)
        runner.through("one")
        assert len((work / "quick").read_text().splitlines()) == 100
        assert not (work / "mails").exists()


def test_what_a_command_says_and_how_it_fails_is_reported_printable(tmp_path: Path, work: Path) -> None:
    actions = {
        "loud": "[Definition]\nactionban = printf 'so be it\\033[2J'; head -c 9999 /dev/zero | tr '\\0' x\n",
        "none": "[Definition]\nactionban = no-such-program <ip>\n",
        "many": "[Definition]\nactionban = exit 3\n",
    }
    jails = {name: f"action = {name}" for name in actions}
    with running(configure(tmp_path / "fail2ban", actions, jails), work) as runner:
        runner.begin(*jails)
        for jail in jails:
            runner.actions.run(jail, "ban", ticket(7))
        for _ in range(3):
            runner.actions.run("many", "ban", ticket(7))
        runner.through(*jails)
        (said,) = runner.reports("output")
        assert "so be it\\x1b[2J" in said.text
        assert len(said.text) < 2100
        failed = {report.jail: report for report in runner.reports("failed")}
        assert "no-such-program" in failed["none"].text
        assert "install it" in failed["none"].text
        assert "exit code 3" in failed["many"].text
        assert len(runner.reports("failed")) == 2  # the like of it is counted, not said again and again


def test_an_action_that_lost_its_place_is_started_anew(tmp_path: Path, work: Path) -> None:
    action = (
        "[Definition]\nactionstart = mkdir place; echo start >> log\nactionstop = echo stop >> log\n"
        "actioncheck = [ -d place ]\nactionban = echo <ip> >> place/banned\n"
    )
    with running(configure(tmp_path / "fail2ban", {"place": action}, {"one": "action = place"}), work) as runner:
        runner.begin("one")
        runner.actions.run("one", "ban", ticket(7))
        runner.through("one")
        (work / "place" / "banned").unlink()
        (work / "place").rmdir()
        runner.actions.run("one", "ban", ticket(8))
        runner.through("one")
        assert (work / "place" / "banned").read_text() == "192.0.0.8\n"
        assert (work / "log").read_text() == "start\nstop\nstart\n"
        assert Restarted("one", "place") in runner.messages


def test_a_reload_starts_stops_and_leaves_alone(tmp_path: Path, work: Path) -> None:
    jails = {name: f"action = life[id={name}]" for name in ("kept", "gone", "new")}
    with running(configure(tmp_path / "fail2ban", {"life": LIFE}, jails), work) as runner:
        runner.begin("kept", "gone")
        runner.until(lambda: (work / "log").exists() and (work / "log").read_text().count("\n") == 2)
        runner.begin("kept", "new")
        runner.until(lambda: len((work / "log").read_text().splitlines()) == 5)
        lines = (work / "log").read_text().splitlines()
        assert sorted(lines[:2]) == ["start gone", "start kept"]
        assert sorted(lines[2:]) == ["reload kept", "start new", "stop gone"]
        (tmp_path / "fail2ban" / "jail.conf").unlink()
        runner.begin("kept", "nonsuch")
        assert runner.actions.ready is not None
        assert runner.actions.ready.missing == ("nonsuch",)
        assert "stay as they were" in runner.actions.ready.notes[-1]
        assert not runner.actions.run("nonsuch", "ban", ticket(7))


ASK = """ignorecommand = echo "<ip> <F-USER>" >> asked
    case "<F-USER>" in friend) exit 0;; foe) exit 1;; slow) sleep 600;; esac
    exit 7
"""


def test_ignorecommand_answers_with_its_exit_code(tmp_path: Path, work: Path) -> None:
    with running(
        configure(tmp_path / "fail2ban", {"quick": QUICK}, {"one": f"action = quick\n{ASK}", "two": "action = quick"}),
        work,
    ) as runner:
        runner.begin("one", "two")
        users = ["slow", "friend", "foe", "odd", "$(touch pwned)"]
        asked = {runner.actions.ask("one", ticket(7, user=user)): user for user in users}
        asked[runner.actions.ask("two", ticket(7))] = "none"
        runner.until(lambda: len([message for message in runner.messages if isinstance(message, Answer)]) == 5)
        answers = {asked[message.id]: message for message in runner.messages if isinstance(message, Answer)}
        assert {user: answer.ignore for user, answer in answers.items()} == {
            "friend": True,
            "foe": False,
            "odd": None,
            "$(touch pwned)": None,
            "none": None,
        }
        assert "exit code 7" in answers["odd"].error
        assert "no ignorecommand" in answers["none"].error
        assert not (work / "pwned").exists()
        runner.actions.run("one", "ban", ticket(8))  # a question that hangs holds up no action
        runner.through("one")
        assert (work / "quick").read_text() == "192.0.0.8\n"


def test_names_are_looked_up(tmp_path: Path, work: Path) -> None:
    with running(configure(tmp_path / "fail2ban", {"quick": QUICK}, {"one": "action = quick"}), work) as runner:
        assert runner.actions.resolve(["localhost"])
        runner.until(lambda: any(isinstance(message, Resolved) for message in runner.messages))
        (resolved,) = [message for message in runner.messages if isinstance(message, Resolved)]
        assert resolved.name == "localhost"
        assert set(resolved.addresses or ()) == set(look_up_addresses("localhost") or ()), "as this machine knows it"


def test_the_name_of_an_address_is_looked_up_where_it_is_wanted(tmp_path: Path, work: Path) -> None:
    action = '[Definition]\nactionban = echo "<ip-host>" >> log\n'
    with running(configure(tmp_path / "fail2ban", {"named": action}, {"one": "action = named"}), work) as runner:
        runner.begin("one")
        runner.actions.run("one", "ban", Ticket("127.0.0.1", "127.0.0.1"))
        runner.through("one")
        names = look_up_name("127.0.0.1") or ("",)
        assert (work / "log").read_text() == f"{names[0]}\n", "as this machine knows it"


def test_the_packages_own_mail_action_reports_a_hostile_line_as_it_was(tmp_path: Path, work: Path) -> None:
    stock = Path("/etc/fail2ban/action.d")
    if not stock.is_dir():
        pytest.fail("the package fail2ban is not there: make setup installs it")
    shutil.copytree(stock, tmp_path / "fail2ban" / "action.d")
    jail = 'action = sendmail-whois-matches[name=one, dest=root, sender=f2b, sendername=F, mailcmd="cat >> mail"]\n'
    with running(configure(tmp_path / "fail2ban", {}, {"one": jail}), work) as runner:
        runner.begin("one")
        lines = ("$(touch pwned) `touch pwned` \\n~!touch pwned\\n.\\n", "~!touch pwned", "'\"; touch pwned; %s")
        runner.actions.run("one", "ban", Ticket("192.0.2.7", "192.0.2.7", failures=3, matches=lines))
        runner.through("one")
        mail = (work / "mail").read_text()
        assert f"{lines[0]}\n {lines[1]}\n{lines[2]}" in mail
        assert "The IP 192.0.2.7 has just been banned" in mail
        assert [path.name for path in work.iterdir()] == ["mail"]
        assert not runner.reports("failed")


@pytest.mark.root
def test_actions_are_run_as_an_ordinary_user(tmp_path: Path) -> None:
    if os.getuid() != 0:
        pytest.skip("only root can become somebody else")
    tmp_path.chmod(0o755)
    for parent in tmp_path.parents[:2]:
        parent.chmod(0o755)
    directory = configure(tmp_path / "fail2ban", {"who": WHO}, {"one": "action = who"})
    (directory / "jail.conf").chmod(0o600)  # it is read before the rights are gone
    work = tmp_path / "made"
    with running(directory, work, user="nobody") as runner:
        runner.begin("one")
        runner.actions.run("one", "ban", ticket(7))
        runner.through("one")
        assert runner.actions.ready is not None
        assert runner.actions.ready.user == "nobody"
        who = (work / "who").read_text().splitlines()
        assert who[0] == "nobody"
        assert {line.split()[1] for line in who[1:5]} == {"0" * 16}
        assert not Path("/etc/pwned").exists()
        assert work.stat().st_uid == pwd.getpwnam("nobody").pw_uid
        assert work.stat().st_mode & 0o777 == 0o700


def test_only_jails_with_something_to_run_want_a_runner(tmp_path: Path) -> None:
    directory = configure(
        tmp_path / "fail2ban", {"wall": WALL, "quick": QUICK}, {"a": "action = wall", "b": "action = quick"}
    )
    jails = {jail.name: jail for jail in load(directory).jails}
    assert not wants_runner([jails["a"]])
    assert wants_runner(jails.values())


def test_without_a_configuration_it_says_so_and_ends(tmp_path: Path) -> None:
    ours, theirs = pair()
    with ours, theirs:
        command = [sys.executable, "-I", "-m", "tocsin.fail2ban.actions.runner", "--fd", str(theirs.fileno())]
        command += ["--fail2ban", str(tmp_path / "nowhere"), "--actions-user", "root", "--state-dir", str(tmp_path)]
        ran = subprocess.run(
            command, pass_fds=(theirs.fileno(),), capture_output=True, text=True, check=False, timeout=20
        )
        assert ran.returncode == os.EX_CONFIG
        assert "nowhere" in ran.stderr
