"""Rule files: shipped ones, those of users, and the documentation of both."""

from __future__ import annotations

from pathlib import Path

import pytest

from tocsin.rules import RuleErrors, load_rules, load_shipped, only, read_rules
from tocsin.rules.sentence import rules_table

OWN = '[own]\non = "http-request"\nwhere = { path = "/own" }\nlimit = 1\nban = "1h"\n'
DOC = Path(__file__).parents[3] / "docs" / "rules.md"


def test_shipped_rules_are_sound() -> None:
    """They read without a mistake, have titles of their own and are switched on."""
    rules = load_shipped()
    assert len({rule.id for rule in rules}) == len(rules) >= 19
    assert len({rule.title for rule in rules}) == len(rules)
    assert all(rule.enabled and rule.shipped and rule.by == ("address",) for rule in rules)
    assert all(rule.origin.file.startswith("shipped/") for rule in rules)


def test_files_and_directories(tmp_path: Path) -> None:
    """A file adds and adjusts; of a directory, every *.toml in the order of names."""
    (tmp_path / "b.toml").write_text("[wordpress-xmlrpc]\nlimit = 5\n")
    (tmp_path / "a.toml").write_text(OWN)
    (tmp_path / "readme.txt").write_text("not a rule")
    rules = {rule.id: rule for rule in load_rules([tmp_path])}
    assert len(rules) == len(load_shipped()) + 1
    assert rules["wordpress-xmlrpc"].limit == 5
    assert rules["own"].origin.file == str(tmp_path / "a.toml")
    assert [rule.id for rule in load_rules([tmp_path / "a.toml"], base=())] == ["own"]


def test_mistakes_of_all_files_at_once(tmp_path: Path) -> None:
    """Unreadable files, other encodings, ids that stand twice: all are named."""
    files = [tmp_path / name for name in ("a.toml", "b.toml", "c.toml", "gone.toml", "latin.toml", "empty")]
    files[0].write_text(OWN)
    files[1].write_text(f"\n\n{OWN}")
    files[2].write_text(OWN.replace("[own]", "[other]").replace("limit", "limti"))
    files[4].write_bytes(b"# caf\xe9\n")
    files[5].mkdir()
    with pytest.raises(RuleErrors) as caught:
        load_rules(files)
    said = str(caught.value).replace(f"{tmp_path}/", "").split("\n")
    assert said == [
        "empty: no *.toml in this directory",
        "b.toml:3: own: this rule stands already in a.toml, line 1",
        "c.toml:1: other: `limit` is missing: how many events make a finding, from 1",
        (
            "c.toml:4: other.limti: unknown key; expected one of title, on, where, by, limit, within, distinct, ban, "
            'ipv4_prefix, ipv6_prefix, enabled or line; did you mean "limit"?'
        ),
        "gone.toml: cannot be read: No such file or directory",
        "latin.toml: not UTF-8 at byte 5; TOML is UTF-8",
    ]


def test_only_the_named_rules(tmp_path: Path) -> None:
    """In the order named, each once, switched on; an unknown id is an error with the nearest known one."""
    (tmp_path / "a.toml").write_text("[request-flood]\nenabled = false\n")
    rules = load_rules([tmp_path])
    assert [(rule.id, rule.enabled) for rule in only(rules, ["request-flood", "sshd-login", "request-flood"])] == [
        ("request-flood", True),
        ("sshd-login", True),
    ]
    with pytest.raises(ValueError, match=r'there is no rule "sshd-logn"; did you mean "sshd-login"\?'):
        only(rules, ["sshd-logn"])


def test_the_documentation_lists_the_shipped_rules() -> None:
    """The table in docs/rules.md is the one that the rules give; paste this text where it is not."""
    table = rules_table(load_shipped())
    assert table in DOC.read_text(encoding="utf-8"), table


def test_the_examples_of_the_documentation_are_rules() -> None:
    """Every TOML block of docs/rules.md reads without a mistake."""
    blocks = DOC.read_text(encoding="utf-8").split("```toml\n")[1:]
    assert len(blocks) >= 5
    for number, block in enumerate(blocks):
        path = DOC.with_suffix(f".{number}.toml")
        assert read_rules(block.partition("```")[0], path.name, {rule.id: rule for rule in load_shipped()})
