"""`tocsin explain`: what it prints where, in which language, and how it leaves. The evidence is made here."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Sequence
from datetime import tzinfo
from pathlib import Path
from types import ModuleType

import pytest
from cli_runs import run

from tocsin.explain.evidence.noaccesses import NoAccesses
from tocsin.explain.model import Coverage, Dossier, Incident, Link, Remedy, Report, say

AT = 1436124360.0
SILENT = Coverage("access.log", "access", AT - 60, AT, 12, 0)
NOTE = say("It fits no format that is known; it was not used.")
STRANGE = Coverage("notes.txt", "unknown", None, None, 12, 12, notes=(NOTE,))
INCIDENT = Incident(
    start=AT,
    end=AT + 60,
    onset=AT,
    cause="unknown",
    confidence=0.5,
    summary=say("{fell}. What brought it there is not proven.", fell=say("{service} died", service="mysqld")),
    chain=(Link(AT, say("{service} dies", service="mysqld"), True, "syslog", 3, "mysqld\x1b[2J died"),),
    suspects=(),
    remedies=(
        Remedy(say("{service} was down when the logs end: start it", service="mysqld"), "systemctl start mysqld"),
    ),
)


class Made:
    """Stands for the evidence and the reasoning: keeps how it was called."""

    def __init__(self) -> None:
        self.coverage: tuple[Coverage, ...] = (SILENT,)
        self.incidents: tuple[Incident, ...] = (INCIDENT,)
        self.asked: tuple[Sequence[Path], float | None, tzinfo | None] | None = None
        self.zone_s: int | None = 7200

    def gather(
        self,
        paths: Sequence[Path],
        now_ts: float | None,
        zone: tzinfo | None,
        on_progress: Callable[[int, int], None] | None,
    ) -> Dossier:
        """As `evidence.gather`."""
        self.asked = paths, now_ts, zone
        if on_progress:
            on_progress(1, 2)
        return Dossier((), (), self.coverage, NoAccesses(), AT, self.zone_s)

    def explain(self, dossier: Dossier) -> Report:
        """As `explain.explain`."""
        return Report(dossier.coverage, self.incidents, not self.incidents)


@pytest.fixture(autouse=True)
def made(monkeypatch: pytest.MonkeyPatch) -> Made:
    """Takes the place of the two modules that the command calls."""
    made = Made()
    for name in ("evidence.gather", "explain"):
        module = ModuleType(name)
        module.__dict__.update(gather=made.gather, explain=made.explain)
        monkeypatch.setitem(sys.modules, f"tocsin.explain.{name}", module)
    for name in ("LC_ALL", "LC_MESSAGES", "LANG"):
        monkeypatch.delenv(name, raising=False)
    return made


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """A log that is there."""
    file = tmp_path / "access.log"
    file.write_text("x\n")
    return file


def test_people_read_the_verdict_in_the_zone_of_the_logs(log: Path, made: Made) -> None:
    ran = run(["explain", log])
    assert ran.code == 0
    assert "mysqld died. What brought it there is not proven." in ran.out
    assert "Sunday 5 July 2015, 21:26:00 → 21:27:00" in ran.out
    assert "syslog:3: mysqld\\x1b[2J died" in ran.out
    assert "\x1b" not in ran.out
    assert made.asked == ([log], None, None)


def test_a_zone_that_is_asked_for_wins(log: Path, made: Made) -> None:
    ran = run(["explain", "--tz", "America/New_York", "--now", "1500000000", log])
    assert "15:26:00 → 15:27:00" in ran.out
    assert made.asked is not None
    assert (made.asked[1], str(made.asked[2])) == (1500000000, "America/New_York")


def test_the_language_is_that_of_the_locale_or_the_one_asked_for(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    assert "La cause n’est pas prouvée" in run(["explain", log]).out
    assert "The cause is not proven" in run(["explain", "--lang", "en", log]).out
    ran = run(["explain", "--lang", "de", log])
    assert ran.code == 64
    assert "expected one of en, fr, got 'de'" in ran.err


def test_json_is_one_document_in_english(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LANG", "fr_FR.UTF-8")
    ran = run(["explain", "--json", log])
    assert (ran.code, ran.err) == (0, "")
    report = json.loads(ran.out)
    assert report["incidents"][0]["summary"] == "mysqld died. What brought it there is not proven."
    assert report["incidents"][0]["chain"][0]["text"] == "mysqld\x1b[2J died"


def test_the_page_is_written_beside_the_text(log: Path, tmp_path: Path) -> None:
    file = tmp_path / "why.html"
    ran = run(["explain", "--html", file, log])
    assert ran.code == 0
    assert file.read_text().startswith("<!DOCTYPE html>")
    assert f"the page is in {file}" in ran.err
    assert "mysqld died" in ran.out
    ran = run(["explain", "--html", tmp_path / "none" / "why.html", log])
    assert ran.code == 69
    assert "mysqld died" in ran.out
    assert "why.html: No such file or directory" in ran.err


def test_no_path_asks_for_this_machine(made: Made) -> None:
    assert run(["explain"]).code == 0
    assert made.asked is not None
    assert list(made.asked[0]) == []
    made.coverage = ()
    assert run(["explain"]).code == 66


def test_what_is_not_there_is_named_before_anything_is_read(log: Path, tmp_path: Path, made: Made) -> None:
    ran = run(["explain", log, tmp_path / "a.log", tmp_path / "b.log"])
    assert ran.code == 66
    assert ran.err.count("there is no such file or folder") == 2
    assert made.asked is None


def test_lines_of_no_known_format_are_no_quiet_day(log: Path, made: Made) -> None:
    made.coverage, made.incidents = (STRANGE,), ()
    ran = run(["explain", log])
    assert ran.code == 65
    assert "notes.txt: It fits no format that is known" in ran.err
    assert "no line fits a known format" in ran.err
    assert not ran.out


def test_a_terminal_is_coloured_and_narrow(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "72")
    monkeypatch.delenv("NO_COLOR", raising=False)
    ran = run(["explain", log], terminal=True)
    assert ran.code == 0
    assert "\x1b[1;33mThe cause is not proven" in ran.out
    assert "\x1b[2J" not in ran.out
