"""Which logs guard reads, where it goes on after a restart or a reload, and what it says of them."""

from __future__ import annotations

import json
import os
import selectors
import time
from collections.abc import Iterator, Mapping
from datetime import UTC
from pathlib import Path
from typing import ClassVar

import pytest
from msgspec import structs

from tocsin import wiring
from tocsin.config import Config, parse
from tocsin.config_model import Log, Logs
from tocsin.decide.allow import AllowList
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.detect.books import Limits
from tocsin.fail2ban.model import FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import Jailed, rules_of
from tocsin.model import Batch
from tocsin.pipeline import Pipeline
from tocsin.sources.journal_match import Sorter
from tocsin.sources.notice import Notice
from tocsin.watching import LAST_BYTES, Watching, any_of, last_lines


class Scene:
    """A folder with logs and whoever watches them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.said: list[str] = []
        self.open: list[Watching] = []

    def log(self, name: str, *lines: str) -> Path:
        """A log, with these lines appended."""
        path = self.folder / name
        with path.open("a") as file:
            file.writelines(f"{line}\n" for line in lines)
        return path

    def config(self, *names: str) -> Config:
        """A configuration of these logs alone."""
        logs = tuple(Log(str(self.folder / name)) for name in names)
        return Config(logs=Logs(discover=False, journal="off"), log=logs)

    def watch(self, *names: str, jailed: Jailed | None = None, positions: list[bytes] | None = None) -> Watching:
        """Watch them."""
        one = Watching(
            self.config(*names), jailed, lambda _event, text, **_fields: self.said.append(text), positions or []
        )
        self.open.append(one)
        return one

    def jailed(self, *names: str) -> Jailed:
        """A jail that reads these."""
        paths = tuple(str(self.folder / name) for name in names)
        jail = Jail("any", FilterSpec("any", failregex=("^ no <HOST>",)), logpath=paths)
        return rules_of(Loaded("", (jail,)), UTC)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    """A folder, and everything closed after."""
    one = Scene(tmp_path)
    yield one
    for watching in one.open:
        watching.close()


def lines(watching: Watching) -> list[str]:
    """All that is new."""
    return [line for batch in watching.read() for line in batch.data.decode().splitlines()]


def test_a_reload_takes_up_a_new_log_and_goes_on_with_the_old_where_it_stands(scene: Scene) -> None:
    scene.log("a.log", "before")
    watching = scene.watch("a.log")
    selector = selectors.DefaultSelector()
    woken: list[bool] = []
    watching.wait_on(selector, lambda: woken.append(True))
    scene.log("a.log", "one")
    assert lines(watching) == ["one"]
    scene.log("a.log", "two")
    scene.log("b.log", "before")
    watching.take_up(scene.config("a.log"), scene.jailed("b.log"))
    scene.log("b.log", "three")
    for key, _ in selector.select(5.0):
        key.data()
    assert woken, "the new ones wake too"
    assert sorted(lines(watching)) == ["three", "two"]
    watching.take_up(scene.config("a.log"), None)
    scene.log("b.log", "nobody reads this")
    scene.log("a.log", "four")
    assert lines(watching) == ["four"]
    selector.close()


@pytest.mark.parametrize("name", ["a.log", os.fsdecode(b"caf\xe9\n.log")])
def test_a_restart_goes_on_where_the_positions_are(scene: Scene, name: str) -> None:
    scene.log(name, "before")
    first = scene.watch("*.log")
    scene.log(name, "one")
    assert lines(first) == ["one"]
    positions = first.positions()
    scene.log(name, "two")
    assert lines(scene.watch("*.log", positions=positions)) == ["two"]


def test_a_log_that_only_jails_can_read_is_no_cause_for_alarm(scene: Scene) -> None:
    path = scene.log("a.log", "of a format of its own")
    for jailed, expected in ((scene.jailed("a.log"), "for the jails that read it"), (None, "no known format fits")):
        watching = scene.watch("a.log", jailed=jailed)
        scene.log("a.log", "more of it")
        for batch in watching.read():
            assert watching.readings.of(batch, 0.0)[0] is None
        assert expected in scene.said[-1]
        assert str(path) in scene.said[-1]


def test_without_logs_it_says_so(scene: Scene) -> None:
    scene.watch()
    assert scene.said == ["no logs found to watch; name them in [[log]] path = ... in the configuration"]


def test_the_last_lines_are_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.log"
    assert last_lines(path) == b""
    path.write_bytes(b"one\ntwo\nhal")
    assert last_lines(path) == b"one\ntwo\n"
    path.write_bytes(b"x" * LAST_BYTES + b"\nlast\n")
    assert last_lines(path) == b"last\n"


def test_matches_of_several_jails_are_alternatives() -> None:
    assert any_of(("_COMM=sshd", "_SYSTEMD_UNIT=a.service + _COMM=b")) == (
        *("_COMM=sshd", "+", "_SYSTEMD_UNIT=a.service", "+", "_COMM=b"),
    )


class FakeJournal:
    """A journal that is there, and that nobody writes to."""

    made: ClassVar[list[tuple[tuple[str, ...], list[str]]]] = []
    available = True

    def __init__(self, matches: tuple[str, ...], cursor: str = "", readers: Mapping[str, tuple[str, ...]] = {}) -> None:
        self.cursor = cursor
        if matches:
            self.made.append((matches, list(readers)))

    def notices(self) -> list[Notice]:
        """Nothing to say."""
        return []

    def close(self) -> None:
        """Nothing to let go of."""


def test_the_journal_is_asked_for_what_is_read_nowhere_else(scene: Scene, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.watching.Journal", FakeJournal)
    monkeypatch.setattr(FakeJournal, "made", [])

    def jailed(*names: str) -> Jailed:
        spec = FilterSpec("any", failregex=("^ no <HOST>",), journalmatch=("_COMM=a",), logtype="journal")
        return rules_of(Loaded("", tuple(Jail(name, spec, backend="systemd") for name in names)), UTC)

    auth = Log(str(scene.log("auth.log")), kind="auth")
    plain, with_log = (Config(logs=Logs(discover=False), log=logs) for logs in ((), (auth,)))
    watching = Watching(plain, jailed("one"), lambda *_said, **_fields: None, [])
    scene.open.append(watching)
    watching.take_up(plain, jailed("one"))  # the same: it is not opened anew
    watching.take_up(with_log, jailed("one"))
    watching.take_up(with_log, jailed("one", "two"))
    watching.take_up(with_log, None)
    own = ("_COMM=sshd", "+", "_COMM=sshd-session", "+")
    assert FakeJournal.made == [
        ((*own, "_COMM=a"), ["one"]),
        (("_COMM=a",), ["one"]),
        (("_COMM=a",), ["one", "two"]),
    ]
    assert watching.journal is None


SSHD = {
    "_COMM": "sshd",
    "SYSLOG_IDENTIFIER": "sshd",
    "_SYSTEMD_UNIT": "ssh.service",
    "_SYSTEMD_SLICE": "system.slice",
    "SYSLOG_FACILITY": "4",
    "_TRANSPORT": "syslog",
}
LIMIT = 8  # of the rule sshd-login


@pytest.mark.parametrize("spec", ["auth", ""])
@pytest.mark.parametrize("file_jail", [False, True])
@pytest.mark.parametrize(
    ("match", "journal", "host", "times"),
    [
        ("_COMM=sshd", "auto", "", 1),
        ("_SYSTEMD_UNIT=ssh.service + _COMM=sshd", "auto", "", 1),
        ("SYSLOG_FACILITY=4", "auto", "", 1),
        ("_SYSTEMD_SLICE=system.slice", "auto", "", 1),
        ("_COMM=a", "on", "", 1),
        ("_COMM=a", "auto", "elsewhere", 2),
        ("_COMM=sshd", "on", "elsewhere", 2),
    ],
)
def test_a_login_counts_once_for_rules_that_are_no_jails(
    scene: Scene,
    monkeypatch: pytest.MonkeyPatch,
    match: str,
    journal: str,
    host: str,
    times: int,
    spec: str,
    *,
    file_jail: bool,
) -> None:
    """Of another machine's log nothing is in our journal."""
    monkeypatch.setattr("tocsin.watching.Journal", FakeJournal)
    if not spec and not file_jail:
        return  # then nobody reads the log
    host = host or os.uname().nodename
    line = f"Nov 22 12:00:00 {host} sshd[1]: Failed password for root from 192.0.2.77 port 4000 ssh2"
    path = str(scene.log("auth.log", line))
    on_journal = FilterSpec("any", failregex=("^ no <HOST>",), journalmatch=(match,), logtype="journal")
    on_file = Jail("two", FilterSpec("any", failregex=("no <HOST>",)), logpath=(path,))
    jails = (Jail("one", on_journal, backend="systemd"), *((on_file,) if file_jail else ()))
    config = parse(f'[logs]\njournal = "{journal}"\ndiscover = false\n', "t.toml")
    config = structs.replace(config, log=(Log(path, kind="auth"),) if spec else ())
    jailed = rules_of(Loaded("", jails), UTC)
    watching = Watching(config, jailed, lambda _event, text, **_: scene.said.append(text), [])
    scene.open.append(watching)
    rules = (*jailed.rules, *watching.share(wiring.rules_of(config)))
    banned: list[str] = []
    pipeline = Pipeline(
        rules,
        Limits(),
        Policy(PolicySettings(), AllowList()),
        watching.readings,
        lambda decision, _finding: banned.append(decision.rule),
    )
    now = time.time()
    stamp = time.strftime("%b %e %H:%M:%S", time.localtime(now))
    sorter = Sorter(jailed.journal_readers)
    entry = {**SSHD, "__REALTIME_TIMESTAMP": f"{now * 1e6:.0f}", "MESSAGE": line.partition("]: ")[2]}
    data = json.dumps(entry).encode()
    asked = Sorter({"all": (" ".join(FakeJournal.made[-1][0]),)})
    for number in range(LIMIT // times):
        assert not banned
        scene.log("auth.log", f"{stamp}{line[15:]}")
        for batch in watching.tail.read():
            pipeline.take(batch, now)
        if asked.source_of(data) != "journal":
            pipeline.take(Batch(sorter.source_of(data), data + b"\n", number, 0, now), now)
    assert banned == ["sshd-login"]
    assert any('journal = "on"' in text for text in scene.said) == (journal == "on" and times == 1)
    assert sum(text.startswith("watching journal") for text in scene.said) <= 1
