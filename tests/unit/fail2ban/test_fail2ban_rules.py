"""Jails as rules: the two cures that Tocsin was conceived from, and what becomes of a jail's words."""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

from tocsin.fail2ban.rules import Jailed, rules_of
from tocsin.fail2ban.settings.loader import load
from tocsin.model import Decision
from tocsin.replay import Replay

AGENT = '"-" "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"'
TIMES = (("206", ("34", "34", "36", "36")), ("207", ("41", "41", "43", "43")))
EXCERPT = "".join(
    f'63.251.225.{last} - - [20/Jun/2016:11:17:{second} -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 {AGENT}\n'
    for last, seconds in TIMES
    for second in seconds
)
SECOND_CURE = '[Definition]\nfailregex = ^<HOST>.*\\"POST /xmlrpc.php HTTP/1.0\nignoreregex =\n'
FIRST_CURE = "[Definition]\nfailregex = ^ -.POST /xmlrpc.php HTTP.\nignoreregex =\n"
JAIL = "[apache-xmlrpc]\nenabled = true\nport = http,https\nlogpath = /var/log/apache2/access.log\nmaxretry = 3\n"


def jailed(folder: Path, definition: str, jail: str = "", sources: list[str] | None = None) -> Jailed:
    (folder / "filter.d").mkdir(exist_ok=True)
    (folder / "filter.d" / "apache-xmlrpc.conf").write_text(definition)
    (folder / "jail.local").write_text(f"{JAIL}filter = apache-xmlrpc\nbantime = 240000\n{jail}")
    return rules_of(load(folder), UTC, sources=sources)


@pytest.mark.parametrize("prefilter", [True, False])
def test_the_second_cure_bans_both_at_their_third_post(tmp_path: Path, *, prefilter: bool) -> None:
    log = tmp_path / "access.log"
    log.write_text(EXCERPT)
    decisions: list[Decision] = []
    found = jailed(tmp_path, SECOND_CURE, sources=[str(log)])
    replay = Replay([log], found.rules, UTC, None, lambda decision, _: decisions.append(decision), prefilter=prefilter)
    summary = replay.run()
    assert [(each.subject, each.start_ts, each.rule, each.held) for each in decisions] == [
        ("63.251.225.206", 1466435856, "apache-xmlrpc", None),
        ("63.251.225.207", 1466435863, "apache-xmlrpc", None),
    ]
    assert {None if each.end_ts is None else each.end_ts - each.start_ts for each in decisions} == {240_000}
    assert (summary.lines, summary.stopped) == (8, 2)


def test_the_first_cure_as_printed_is_refused_with_what_to_write(tmp_path: Path) -> None:
    found = jailed(tmp_path, FIRST_CURE)
    assert not found.rules
    [error] = found.errors
    assert error.jail == "apache-xmlrpc"
    assert error.file == str(tmp_path / "filter.d" / "apache-xmlrpc.conf")
    assert "<HOST> is missing" in error.text
    assert "write: ^<HOST>" in error.text


def test_a_jail_reads_its_own_logs_and_of_a_replay_those_that_are_nobodys(tmp_path: Path) -> None:
    [rule] = jailed(tmp_path, SECOND_CURE).rules
    assert rule.covers("/var/log/apache2/access.log")
    assert not rule.covers("/var/log/other.log")
    [rule] = jailed(tmp_path, SECOND_CURE, sources=["other.log"]).rules
    assert rule.covers("other.log")
    assert not rule.covers("/var/log/other.log")


def test_a_jail_of_a_rules_name_gets_another(tmp_path: Path) -> None:
    jailed(tmp_path, SECOND_CURE)
    [rule] = rules_of(load(tmp_path), UTC, {"apache-xmlrpc"}).rules
    assert rule.rule.id == "jail-apache-xmlrpc"


def test_a_jail_whose_actions_are_none_on_purpose_holds_its_bans(tmp_path: Path) -> None:
    [rule] = jailed(tmp_path, SECOND_CURE, "action =\n").rules
    assert rule.held
    [rule] = jailed(tmp_path, SECOND_CURE).rules
    assert not rule.held
