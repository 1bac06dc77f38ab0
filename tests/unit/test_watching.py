"""Which logs guard reads, where it goes on after a restart or a reload, and what it says of them."""

from __future__ import annotations

import selectors
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path

import pytest

from tocsin.config import Config
from tocsin.config_model import Log, Logs
from tocsin.fail2ban.model import FilterSpec, Jail, Loaded
from tocsin.fail2ban.rules import Jailed, rules_of
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


def test_a_restart_goes_on_where_the_positions_are(scene: Scene) -> None:
    scene.log("a.log", "before")
    first = scene.watch("a.log")
    scene.log("a.log", "one")
    assert lines(first) == ["one"]
    positions = first.positions()
    scene.log("a.log", "two")
    assert lines(scene.watch("a.log", positions=positions)) == ["two"]


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
