"""From a configuration to what runs: rules with their changes, bounds, allow list, zone."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

from tocsin.config import ConfigErrors, parse
from tocsin.decide.breaker import BreakerSettings
from tocsin.decide.policy import PolicySettings
from tocsin.detect.books import Limits
from tocsin.rules import RuleErrors, load_shipped
from tocsin.wiring import (
    allow_list,
    breaker_settings,
    limits_of,
    local_zone,
    policy_settings,
    proxies_of,
    refresh_allow,
    rules_of,
)

MINE = '[mine]\non = "http-request"\nwhere = { path = "/x" }\nlimit = 2\nwithin = "1m"\nban = "1h"\n'
NOWHERE = "[rules]\npaths = []\n"


def config_mistakes(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        rules_of(parse(text, "t.toml"))
    return [(error.line, error.key, error.message) for error in caught.value.errors]


def test_without_a_word_all_shipped_rules_run() -> None:
    assert [rule.rule.id for rule in rules_of(parse(NOWHERE, "t.toml"))] == [r.id for r in load_shipped() if r.enabled]


def test_a_rule_can_be_switched_off_and_changed() -> None:
    text = """
[rules]
paths = []
disable = ["request-flood"]
[rules.override.wordpress-xmlrpc]
limit = 5
within = "20m"
ban = "1h"
[rules.override.sshd-login]
ban = "forever"
"""
    rules = {rule.rule.id: rule.rule for rule in rules_of(parse(text, "t.toml"))}
    assert "request-flood" not in rules
    changed = rules["wordpress-xmlrpc"]
    assert (changed.limit, changed.within_s, changed.ban_s) == (5, 1200, 3600)
    shipped = {rule.id: rule for rule in load_shipped()}["sshd-login"]
    assert rules["sshd-login"].ban_s is None
    assert (rules["sshd-login"].limit, rules["sshd-login"].within_s) == (shipped.limit, shipped.within_s)


def test_a_change_shows_in_the_sentence() -> None:
    text = NOWHERE + "[rules.override.wordpress-xmlrpc]\nlimit = 77\n"
    sentences = {rule.rule.id: rule.sentence for rule in rules_of(parse(text, "t.toml"))}
    assert "77" in sentences["wordpress-xmlrpc"]


def test_every_unknown_rule_is_named_with_its_line() -> None:
    text = """
[rules]
paths = []
disable = [
  "no-such-rule", "nor-this"]
[rules.override.wordpress-xmlrp]
limit = 5
"""
    mistakes = config_mistakes(text)
    assert [message for _, _, message in mistakes] == [
        'there is no rule "no-such-rule"',
        'there is no rule "nor-this"',
        'there is no rule "wordpress-xmlrp"',
    ]
    assert [line for line, _, _ in mistakes] == [4, 4, 6]


def test_the_remedy_names_the_rules_that_are() -> None:
    with pytest.raises(ConfigErrors) as caught:
        rules_of(parse(NOWHERE + 'disable = ["x"]\n', "t.toml"))
    assert all("wordpress-xmlrpc" in error.remedy for error in caught.value.errors)


def test_rules_of_ones_own_are_added_and_can_be_changed(tmp_path: Path) -> None:
    (tmp_path / "mine.toml").write_text(MINE)
    text = f'[rules]\npaths = ["{tmp_path}"]\n[rules.override.mine]\nlimit = 9\n'
    rules = {rule.rule.id: rule.rule for rule in rules_of(parse(text, "t.toml"))}
    assert rules["mine"].limit == 9
    assert len(rules) == len([rule for rule in load_shipped() if rule.enabled]) + 1


def test_a_folder_of_rules_that_was_named_must_hold_some(tmp_path: Path) -> None:
    with pytest.raises(RuleErrors, match=r"no \*\.toml in this directory"):
        rules_of(parse(f'[rules]\npaths = ["{tmp_path}"]\n', "t.toml"))


def test_bounds_and_settings_come_from_the_configuration() -> None:
    config = parse(
        '[bans]\nescalate = false\nmax = "2d"\n[limits]\ntracked_keys = 1234\nlateness = "1m"\n'
        "[breaker]\nmin_visitors = 9\n",
        "t.toml",
    )  # fmt: skip
    policy = policy_settings(config, observe=True)
    assert (policy.factor, policy.max_s, policy.observe) == (1.0, 172_800, True)
    limits = limits_of(config)
    assert (limits.tracked_keys, limits.lateness_s) == (1234, 60.0)
    assert breaker_settings(config).min_visitors == 9


def test_without_a_word_guard_runs_as_replay_does() -> None:
    """`replay` is what guard does on a fresh machine: same bounds, same policy, same breakers."""
    config = parse("", "t.toml")
    assert limits_of(config) == Limits()
    assert policy_settings(config, observe=False) == PolicySettings()
    assert breaker_settings(config) == BreakerSettings()


def test_who_is_allowed_is_safe_and_so_are_the_proxies() -> None:
    config = parse('[allow]\naddresses = ["198.51.100.0/24"]\n[proxies]\ntrusted = ["10.1.0.0/16"]\n', "t.toml")
    allow = allow_list(config)
    assert "[allow]" in str(allow.reason("198.51.100.7"))
    assert "trusted proxy" in str(allow.reason("10.1.2.3"))
    assert allow.reason("203.0.113.7") is None
    assert proxies_of(config).trusted("10.1.2.3")
    assert not proxies_of(config).trusted("10.2.2.3")
    assert not refresh_allow(allow, config), "nothing has changed since"


def test_this_machines_own_addresses_are_safe_unless_told_otherwise() -> None:
    assert allow_list(parse("", "t.toml")).reason("127.0.0.1")
    told = allow_list(parse("[allow]\nown = false\nssh = false\n", "t.toml"))
    assert told.reason("127.0.0.1"), "a ban of loopback never helps"


def test_the_zone_is_the_one_asked_for_or_the_machines(monkeypatch: pytest.MonkeyPatch) -> None:
    summer = datetime(2016, 6, 20, 12, tzinfo=UTC)
    assert summer.astimezone(local_zone("Europe/Paris")).hour == 14
    monkeypatch.setenv("TZ", ":Asia/Tokyo")
    assert summer.astimezone(local_zone()).hour == 21
    monkeypatch.delenv("TZ")
    assert summer.astimezone(local_zone()).utcoffset() == summer.astimezone().utcoffset()


@pytest.mark.parametrize("name", ["Mars/Olympus", "../etc/passwd", "", "a\0b"])
def test_what_is_no_zone_is_refused(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TZ", "No/Where")
    with pytest.raises(ValueError, match="there is no time zone"):
        local_zone(name)
