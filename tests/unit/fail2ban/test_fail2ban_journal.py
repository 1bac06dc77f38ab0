"""Jails on the systemd journal: those whose logs are missing, and what each asks journalctl for."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC
from pathlib import Path
from types import SimpleNamespace

import pytest

from tocsin.cli.check_jails import jail_items
from tocsin.cli.checks import _logs
from tocsin.config import parse
from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.detect.books import Limits
from tocsin.fail2ban.model import FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import rules_of
from tocsin.fail2ban.settings.loader import load
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Finding
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.replay import Replay
from tocsin.sources.journal import Journal
from tocsin.sources.journal_match import Sorter, is_for
from tocsin.watching import any_of
from tocsin.wiring import is_there, jails_of

FILTER = """[Definition]
failregex = ^<lt_<logtype>>no <HOST>$
lt_file = file:
lt_journal =
journalmatch = _SYSTEMD_UNIT=a.service + _COMM=a
"""
BEGAN_TS = 1_700_000_000.0


def folder(path: Path, jail: str, definition: str = FILTER) -> Path:
    """A configuration of one jail, with `jail` over the rest of its section."""
    (path / "filter.d").mkdir()
    (path / "filter.d" / "fil.conf").write_text(definition)
    (path / "jail.conf").write_text("[one]\nenabled = true\nfilter = fil\nlogpath = /var/log/one.log\n")
    (path / "jail.local").write_text(f"[one]\n{jail}")
    return path


@pytest.mark.parametrize(
    ("jail", "reads"),
    [
        ("", "journal"),
        ("backend = auto\n", "journal"),
        ("systemd_if_nologs = false\n", "file"),
        ("backend = polling\n", "file"),
        ("backend = systemd\n", "journal"),
        ("filter = fil[logtype=file]\n", "file"),
    ],
)
def test_without_its_logs_a_jail_reads_the_journal_unless_it_says_no(tmp_path: Path, jail: str, reads: str) -> None:
    where = folder(tmp_path, jail)
    [one] = load(where, stands_in=lambda _paths: True).jails
    assert one.filter.logtype == reads
    [there] = load(where, stands_in=lambda _paths: False).jails
    assert there.filter.logtype == ("journal" if "systemd\n" in jail else "file")


def test_a_filter_without_a_match_waits_for_its_log(tmp_path: Path) -> None:
    where = folder(tmp_path, "", "[Definition]\nfailregex = ^no <HOST>$\n")
    [one] = load(where, stands_in=lambda _paths: True).jails
    assert one.filter.logtype == "file"


def test_it_is_asked_with_the_logs_and_said_once(tmp_path: Path) -> None:
    asked: list[Sequence[str]] = []

    def stands_in(paths: Sequence[str]) -> bool:
        asked.append(paths)
        return True

    loaded = load(folder(tmp_path, ""), stands_in=stands_in)
    assert asked == [("/var/log/one.log",)]
    [remark] = loaded.remarks
    assert (remark.severity, remark.jail, remark.line) == ("instead", "one", 4)
    assert remark.text == "none of its logs is there (/var/log/one.log), so it reads the journal"
    [one] = loaded.jails
    assert (one.backend, one.filter.failregex) == ("systemd", ("^no <HOST>$",))


def test_the_stock_jail_of_sshd_bans_by_the_journal() -> None:
    loaded = load(Path("/etc/fail2ban"), ["sshd"], stands_in=lambda _paths: True)
    found = rules_of(loaded, UTC)
    assert found.journal_matches == ("_SYSTEMD_UNIT=sshd.service + _COMM=sshd",)
    assert found.logs == ()
    decisions: list[tuple[str, str]] = []
    sources: list[str] = []
    readings = Readings([("journal*", "journal")], Proxies(()), UTC)
    sorter = Sorter(found.journal_readers)
    pipeline = Pipeline(
        found.rules,
        Limits(),
        Policy(PolicySettings(), AllowList()),
        readings,
        lambda decision, _finding: decisions.append((decision.rule, decision.subject)),
    )
    for number in range(10):
        ts = BEGAN_TS + number
        entry = {
            "__REALTIME_TIMESTAMP": str(int(ts * 1e6)),
            "_HOSTNAME": "host",
            "SYSLOG_IDENTIFIER": "sshd",
            "_COMM": "sshd" if number % 2 else "logger",
            "_PID": str(number + 1),
            "MESSAGE": "Failed password for root from 192.0.2.7 port 4242 ssh2",
        }
        line = json.dumps(entry).encode()
        sources.append(sorter.source_of(line))
        pipeline.take(Batch(sources[-1], line + b"\n", number, 0, ts), ts)
        assert bool(decisions) == (number == 9)  # what another program sends under the name of sshd is not for it
    assert decisions == [("sshd", "192.0.2.7")]
    assert sources == 5 * ["journal", "journal:sshd"]


def jail(*matches: str) -> Jail:
    """A jail on the journal."""
    spec = FilterSpec("any", failregex=("^no <HOST>",), journalmatch=matches, logtype="journal")
    return Jail("any", spec, backend="systemd")


@pytest.mark.parametrize(
    ("match", "arguments"),
    [
        ("_SYSTEMD_UNIT=a.service + _COMM=a", ["_SYSTEMD_UNIT=a.service", "+", "_COMM=a"]),
        ("SYSLOG_IDENTIFIER='my app' _COMM=a", ["SYSLOG_IDENTIFIER=my app", "_COMM=a"]),
        ('_COMM=a"b"', ["_COMM=ab"]),
    ],
)
def test_matches_are_split_as_a_shell_does_it(match: str, arguments: list[str]) -> None:
    found = rules_of(Loaded("", (jail(match),)), UTC)
    assert list(any_of(found.journal_matches)) == arguments
    Journal(any_of(found.journal_matches))  # takes them


@pytest.mark.parametrize("match", ["sshd", "_comm=a", "_COMM=a +", "+ _COMM=a", "_COMM=a + + _COMM=b", "_COMM='a", "+"])
def test_what_is_no_match_leaves_the_jail_out_and_stops_nobody_else(match: str) -> None:
    found = rules_of(Loaded("", (jail(match), jail("_COMM=a"))), UTC)
    assert len(found.jails) == 1
    [error] = found.errors
    assert "journalmatch" in error.text


def test_a_jail_without_a_match_reads_all_and_is_remarked() -> None:
    found = rules_of(Loaded("", (jail(),)), UTC)
    assert "_TRANSPORT=kernel" in any_of(found.journal_matches)
    Journal(any_of(found.journal_matches))
    assert any("whole journal" in remark.text for remark in found.remarks)


@pytest.mark.parametrize(
    ("journal", "available", "log", "reads"),
    [
        ("auto", True, "absent.log", "journal"),
        ("auto", True, "*.log", "file"),
        ("auto", False, "absent.log", "file"),
        ("off", True, "absent.log", "file"),
    ],
)
def test_guard_looks_for_logs_and_a_journal(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, journal: str, log: str, reads: str, *, available: bool
) -> None:
    where = folder(tmp_path, f"logpath = /nonexistent/a.log\n  {tmp_path}/{log}\n")
    (tmp_path / "there.log").touch()
    monkeypatch.setattr("tocsin.wiring.Journal", lambda _matches: SimpleNamespace(available=available))
    found = jails_of(parse(f'[logs]\njournal = "{journal}"\n[fail2ban]\npath = "{where}"\n', "t.toml"))
    assert found is not None
    assert [each.filter.logtype for each in found.jails] == [reads]
    assert (found.journal_readers == {}) == (reads == "file")


def test_check_says_where_the_journal_cannot_be_read(tmp_path: Path) -> None:
    where = folder(tmp_path, "backend = systemd\n")
    config = parse(f'[logs]\njournal = "off"\n[fail2ban]\npath = "{where}"\n', "t.toml")
    [item] = [item for item in jail_items(config) if item.name == "jail one" and "failures" in item.detail]
    assert item.state == "warning"
    assert "would read the journal" in item.detail
    assert 'journal = "off"' in item.detail


READERS = {
    "all": (),
    "either": ("_SYSTEMD_UNIT=a.service + _COMM=a",),
    "both": ("_SYSTEMD_UNIT=a.service _COMM=a",),
    "one, of two": ("_COMM=a _COMM=b",),
    "lines": ("_COMM=c", "_PID=7 PRIORITY=3"),
}


@pytest.mark.parametrize(
    ("entry", "readers"),
    [
        ('{"_COMM": "a"}', ["either", "one, of two"]),
        ('{"_SYSTEMD_UNIT": "a.service", "_COMM": "b"}', ["either", "one, of two"]),
        ('{"_SYSTEMD_UNIT": "a.service", "_COMM": "a"}', ["both", "either", "one, of two"]),
        ('{"_COMM": "c"}', ["lines"]),
        ('{"_PID": "7", "PRIORITY": "3", "MESSAGE": null}', ["lines"]),
        ('{"_PID": "7", "PRIORITY": ["4", "3"]}', ["lines"]),
        ('{"_COMM": [97]}', ["either", "one, of two"]),
        ('{"_COMM": [[98], "x"]}', ["one, of two"]),
        ('{"_COMM": null}', []),
        ('{"_COMM": {"a": 1}}', []),
        ('{"_COMM": [300, -1, true]}', []),
        ('{"MESSAGE": "_COMM=a"}', []),
    ],
)
def test_an_entry_is_for_those_whose_match_it_meets(entry: str, readers: list[str]) -> None:
    source = Sorter(READERS).source_of(entry.encode())
    assert [name for name in READERS if is_for(source, name)] == [name for name in READERS if name in [*readers, "all"]]
    assert Sorter({}).source_of(entry.encode()) == "journal"


@pytest.mark.parametrize("line", [b"", b"[]", b"{", b'{"_COMM": "\xff"}', b'{"a":' + 5000 * b"["])
def test_what_is_no_entry_is_for_nobody(line: bytes) -> None:
    assert Sorter(READERS).source_of(line) == "journal"
    assert not is_for("journal", "")
    assert not is_for("/var/log/journal:all", "all")


def test_the_names_of_readers_are_told_apart() -> None:
    source = Sorter({"a,b": ("_COMM=x",), "a_b": ("_COMM=y",), "a%2Cb": ("_COMM=z",)}).source_of(b'{"_COMM":"x"}')
    assert [name for name in ("a,b", "a_b", "a%2Cb", "a", "b") if is_for(source, name)] == ["a,b"]


def test_a_replay_of_an_export_gives_jails_what_the_guard_would_give_them(tmp_path: Path) -> None:
    spec = FilterSpec("any", failregex=("Failed .* from <HOST>",), journalmatch=("_COMM=sshd",), logtype="journal")
    on_file = FilterSpec("any", failregex=("Failed .* from <HOST>",))
    jails = (Jail("one", spec, backend="systemd", maxretry=3), Jail("file", on_file, maxretry=6))
    log = tmp_path / "export.json"
    rows = [
        {
            "__REALTIME_TIMESTAMP": str(int((BEGAN_TS + number) * 1e6)),
            "SYSLOG_IDENTIFIER": "sshd",
            "_COMM": "sshd" if number % 2 else "logger",
            "MESSAGE": f"Failed password from 192.0.2.{number % 2 + 1}",
        }
        for number in range(12)
    ]
    log.write_text("".join(f"{json.dumps(row)}\n" for row in rows))
    jailed = rules_of(Loaded("", jails), UTC, sources=[str(log)])
    made: list[tuple[str, str, list[tuple[str, int]]]] = []

    def hear(decision: Decision, finding: Finding | None) -> None:
        assert finding is not None
        made.append((decision.rule, decision.subject, [(each.source, each.line) for each in finding.evidence]))

    summary = Replay([log], jailed.rules, UTC, None, hear, journal_readers=jailed.journal_readers).run()
    assert summary.lines == 12
    source = f"{log}!journal"
    assert made == [
        ("one", "192.0.2.2", [(f"{source}:one", line) for line in (2, 4, 6)]),
        ("file", "192.0.2.1", [(source, line) for line in (1, 3, 5, 7, 9, 11)]),
        ("file", "192.0.2.2", [(f"{source}:one", line) for line in (2, 4, 6, 8, 10, 12)]),
    ]


def test_a_wrong_match_is_told_where_it_stands(tmp_path: Path) -> None:
    where = folder(tmp_path, 'backend = systemd\njournalmatch = _COMM=a "\n')
    [error] = rules_of(load(where), UTC).errors
    assert (error.file, error.line) == (str(where / "jail.local"), 3)


def test_a_path_that_cannot_be_is_left_out(tmp_path: Path) -> None:
    loaded = load(folder(tmp_path, "logpath = /nowhere/\0/*\n  /nowhere/a.log\n"))
    assert loaded.jails[0].logpath == ("/nowhere/a.log",)
    assert any("NUL" in remark.text for remark in loaded.remarks)
    assert not is_there("/nowhere/\0/*")


def test_no_jail_is_no_log(tmp_path: Path) -> None:
    for jail, state in (("enabled = false\n", "failed"), ("", "warning")):
        path = tmp_path / state
        path.mkdir()
        config = f'[logs]\njournal = "off"\ndiscover = false\n[fail2ban]\npath = "{folder(path, jail)}"\n'
        assert [item.state for item in _logs(parse(config, "t.toml"))] == [state]
