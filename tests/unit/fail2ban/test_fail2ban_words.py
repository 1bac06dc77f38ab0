"""The layout of `fail2ban-client`, byte for byte as the installed fail2ban's own client lays it out."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from typing import Any

import pytest
from fail2ban_files import PACKAGE, PYTHON
from msgspec import convert

from tocsin.announce import safe_text
from tocsin.fail2ban.moving import words
from tocsin.fail2ban.moving.words import JailStatus

BEAUTIFY = """
import json, sys
from fail2ban.client.beautifier import Beautifier
beautifier = Beautifier()
answers = []
for command, response in json.load(sys.stdin):
    beautifier.setInputCmd(command)
    answers.append(str(beautifier.beautify(response)))
print(json.dumps(answers))
"""
SSHD = JailStatus(
    "sshd",
    filter_files=("/var/log/auth.log", "/var/log/more.log"),
    failed_now=2,
    failed_total=17,
    banned_now=3,
    banned_total=5,
    banned=("192.0.2.7", "198.51.100.0/24", "2001:db8::/64"),
    logpath=("/var/log/*.log",),
)
JOURNAL = JailStatus("mail", journalmatch=("_SYSTEMD_UNIT=postfix.service", "_COMM=smtpd"))
EMPTY = JailStatus("web")


def theirs(asked: Sequence[tuple[list[str], Any]]) -> list[str]:
    """What fail2ban's client prints for these answers of its server."""
    assert PACKAGE.is_dir(), "install fail2ban: make setup does"
    done = subprocess.run([PYTHON, "-c", BEAUTIFY], input=json.dumps(asked), capture_output=True, text=True, check=True)
    answers: list[str] = json.loads(done.stdout)
    return answers


def answer_of(jail: JailStatus, *, short: bool = False) -> list[Any]:
    """What fail2ban's server answers to `status JAIL`, from what its classes put together."""
    found: list[Any] = [("Currently failed", jail.failed_now), ("Total failed", jail.failed_total)]
    if jail.journalmatch is None:
        found.append(("File list", list(jail.filter_files or jail.logpath)))
    else:
        found.append(("Journal matches", [" + ".join(jail.journalmatch)]))
    done: list[Any] = [("Currently banned", jail.banned_now), ("Total banned", jail.banned_total)]
    if not short:
        done.append(("Banned IP list", list(jail.banned)))
    return [("Filter", found), ("Actions", done)]


@pytest.mark.parametrize("jail", [SSHD, JOURNAL, EMPTY], ids=lambda jail: jail.name)
@pytest.mark.parametrize("short", [False, True])
def test_status_of_a_jail(jail: JailStatus, short: bool) -> None:
    (said,) = theirs([(["status", jail.name], answer_of(jail, short=short))])
    assert words.jail_status(jail, safe_text, short=short) == said


@pytest.mark.parametrize("jails", [(), (EMPTY,), (SSHD, EMPTY, JOURNAL)], ids=len)
def test_status_of_all(jails: tuple[JailStatus, ...]) -> None:
    names = ", ".join(sorted(jail.name for jail in jails))
    (said,) = theirs([(["status"], [("Number of jail", len(jails)), ("Jail list", names)])])
    assert words.status(jails) == said


def test_banned() -> None:
    answers = theirs(
        [
            (["banned"], [{"sshd": list(SSHD.banned)}, {"web": []}]),
            (["banned", "192.0.2.7", "192.0.2.8"], [["sshd"], []]),
        ]
    )
    assert words.banned((SSHD, EMPTY)) == answers[0]
    assert words.banned_by((SSHD, EMPTY), ["192.0.2.7", "192.0.2.8"]) == answers[1]


def test_a_configured_path_stands_for_files_that_are_not_known() -> None:
    jail = JailStatus("web", logpath=("/var/log/apache2/*.log",))
    assert "`- File list:\t/var/log/apache2/*.log\n" in words.jail_status(jail, safe_text)


def test_no_terminal_obeys_a_path() -> None:
    jail = JailStatus("web", filter_files=("/var/log/a\x1b[2Jb",))
    assert "\x1b" not in words.jail_status(jail, safe_text)


def test_a_jail_is_read_from_the_guards_status() -> None:
    row = {"name": "web", "banned": ["192.0.2.7"], "failed_now": 1, "bantime_s": None, "more": "of later versions"}
    assert convert(row, JailStatus) == JailStatus("web", failed_now=1, banned=("192.0.2.7",), bantime_s=None)
