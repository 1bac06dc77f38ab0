"""`tocsin rules` with fail2ban's jails, and what `tocsin check` says of those without a log."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import run

from tocsin.cli.jail_sentence import jail_sentence
from tocsin.fail2ban.model import ActionSpec, FilterSpec, Increment, Jail

FILTER = FilterSpec("fil", failregex=("^no <HOST>$",), journalmatch=("_COMM=a", "_COMM=b"))
ON_JOURNAL = FilterSpec("fil", failregex=("^no <HOST>$",), journalmatch=("_COMM=a", "_COMM=b"), logtype="journal")
BLOCKS = ActionSpec("blocks", "blocks", {"actionban": "nft add element inet f2b a { <ip> }"})
NOTES = ActionSpec("notes", "notes", {"actionban": "note <ip>"})
STOCK = Path("/etc/fail2ban")


FINDS = "when the filter fil finds 5 failures of it within 10m in /a.log."
IN_JOURNAL = "when the filter fil finds 1 failure of it in the journal (_COMM=a or _COMM=b)."
COMES_BACK = "Who comes back is banned for longer, by the number of earlier bans of all rules, up to 1h."
FOR_GOOD = {"filter": ON_JOURNAL, "bantime_s": None, "maxretry": 1, "increment": Increment(enabled=True)}


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, f"Closes everything to an address for 10m {FINDS}"),
        (
            {"logpath": ("/a.log", "/b.log", "/c*.log", "/d.log", "/e.log")},
            f"Closes everything to an address for 10m {FINDS[:-1]}, /b.log, /c*.log and 2 more.",
        ),
        (FOR_GOOD, f"Closes everything to an address for good {IN_JOURNAL}"),
        ({"actions": (NOTES,)}, f"Runs its actions for an address, to which it closes nothing, for 10m {FINDS}"),
        (
            {"increment": Increment(enabled=True, maxtime_s=3600.0, overalljails=True)},
            f"Closes everything to an address for 10m {FINDS} {COMES_BACK}",
        ),
    ],
)
def test_a_jail_in_a_sentence(changes: dict[str, object], sentence: str) -> None:
    made = {"name": "one", "filter": FILTER, "actions": (BLOCKS,), "logpath": ("/a.log",), **changes}
    assert jail_sentence(Jail(**made)) == sentence  # type: ignore[arg-type]  # the fields' own types


def folder(path: Path) -> Path:
    """The stock configuration with two jails on, of which one reads fail2ban's own log."""
    where = path / "fail2ban"
    where.mkdir()
    for name in ("action.d", "filter.d", "fail2ban.conf", "jail.conf", "paths-common.conf", "paths-debian.conf"):
        (where / name).symlink_to(STOCK / name)
    (where / "jail.local").write_text("[sshd]\nenabled = true\nbackend = polling\n[recidive]\nenabled = true\n")
    return where


def test_rules_lists_the_jails_of_a_folder_or_of_the_configuration(tmp_path: Path) -> None:
    where = folder(tmp_path)
    config = tmp_path / "tocsin.toml"
    config.write_text(f'[fail2ban]\npath = "{where}"\n')
    plain = tmp_path / "plain.toml"
    plain.write_text("")
    asked = run(["rules", "--fail2ban", where, "--config", plain])
    assert asked.code == 0
    assert asked.out == run(["rules", "--config", config]).out
    lines = asked.out.splitlines()
    at = lines.index("sshd  fail2ban's jail sshd")
    assert lines[at + 1] == (
        "  Closes tcp port 22 to an address for 10m when the filter sshd finds 5 failures of it within 10m in "
        "/var/log/auth.log."
    )
    rows = {row["id"]: row for row in run(["rules", "--json", "--config", config]).rows if "id" in row}
    assert rows["recidive"]["enabled"]
    assert rows["recidive"]["file"] == str(where / "jail.conf")
    assert not {"sshd", "recidive"} & {row.get("id") for row in run(["rules", "--json", "--config", plain]).rows}


def test_check_says_that_fail2bans_own_log_ends_with_it(tmp_path: Path) -> None:
    where = folder(tmp_path)
    plain = tmp_path / "plain.toml"
    plain.write_text(f'[guard]\nstate_dir = "{tmp_path}"\nrun_dir = "{tmp_path}"\n[logs]\ndiscover = false\n')
    out = run(["check", "--fail2ban", where, "--config", plain, "--no-firewall"]).out
    assert "nobody writes /var/log/fail2ban.log once fail2ban is switched off" in out


def test_where_bans_grow_already_check_does_not_ask_for_it(tmp_path: Path) -> None:
    where = folder(tmp_path)
    with (where / "jail.local").open("a") as file:
        file.write("[DEFAULT]\nbantime.increment = true\nmaxretry = 1\n")
    plain = tmp_path / "plain.toml"
    plain.write_text("")
    out = run(["check", "--no-firewall", "--fail2ban", where, "--config", plain]).out
    assert "leave it out: `bantime.increment` bans those who come back for longer already" in out
    assert "set `bantime.increment" not in out
    assert "1 failure: closes" in out


def test_a_jail_is_no_rule_and_a_filter_no_nameless_place(tmp_path: Path) -> None:
    where = folder(tmp_path)
    config = tmp_path / "tocsin.toml"
    config.write_text(f'[fail2ban]\npath = "{where}"\n')
    plain = tmp_path / "plain.toml"
    plain.write_text("")
    last = run(["rules", "--config", config]).out.splitlines()[-1]
    assert last == f"{run(['rules', '--config', plain]).out.splitlines()[-1]} 2 jails of {where}."
    log = tmp_path / "a.log"
    log.write_text("no\n")
    assert run(["rules", "test", "--fail2ban", where, "nosuch", log]).err.startswith(
        "tocsin: nosuch: there is no filter"
    )
    assert "add --fail2ban DIR" in run(["rules", "test", "sshd", log]).err
