"""`explain --apply`: asks, writes, has the guard read it, and takes back what the guard refuses."""

from __future__ import annotations

import io
from pathlib import Path

import pytest

from tocsin.cli import applying
from tocsin.cli.applying import apply_rules
from tocsin.cli.failure import UNAVAILABLE, Failure
from tocsin.cli.output import Output
from tocsin.config import Config
from tocsin.config_model import Rules
from tocsin.control import Request
from tocsin.explain.model import Incident, Remedy, Report, say

RULE = """\
[explained-xmlrpc-php]
title  = "request-flood"
on     = "http-request"
where  = { path = "/xmlrpc.php" }
by     = "address"
limit  = 3
within = "10m"
ban    = "1d"
"""


def report(*rules: str) -> Report:
    remedies = tuple(Remedy(say("a rule"), rule, rule=rule[1:].partition("]")[0]) for rule in rules or (RULE,))
    incident = Incident(0.0, 1.0, 0.0, "request-flood", 0.9, say("x"), (), (), remedies=remedies)
    return Report((), (incident,), quiet=False)


def config(folder: Path) -> Config:
    return Config(rules=Rules(paths=(str(folder),)))


def answering(monkeypatch: pytest.MonkeyPatch, *errors: str) -> list[Request]:
    asked: list[Request] = []

    def ask(_config: Config, request: Request) -> dict[str, object]:
        asked.append(request)
        return {"ok": not errors, "errors": list(errors)}

    monkeypatch.setattr(applying, "ask", ask)
    return asked


def test_a_rule_is_written_and_read_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = answering(monkeypatch)
    apply_rules(Output(), report(), config(tmp_path / "rules.d"), yes=True)
    assert (tmp_path / "rules.d" / "explained-xmlrpc-php.toml").read_text() == RULE
    assert asked == [{"cmd": "reload"}]


def test_what_the_guard_refuses_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch, "no such rule")
    with pytest.raises(Failure, match="taken back"):
        apply_rules(Output(), report(), config(tmp_path), yes=True)
    assert not list(tmp_path.iterdir())


def test_without_a_guard_the_rules_stay_for_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def ask(_config: Config, _request: Request) -> dict[str, object]:
        raise Failure(UNAVAILABLE, "no guard is running")

    monkeypatch.setattr(applying, "ask", ask)
    with pytest.raises(Failure, match="no guard is running") as absent:
        apply_rules(Output(), report(RULE, RULE.replace("xmlrpc", "other")), config(tmp_path), yes=True)
    assert absent.value.code == UNAVAILABLE
    assert len(list(tmp_path.iterdir())) == 2


def test_a_file_that_says_something_else_is_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = answering(monkeypatch)
    file = tmp_path / "explained-xmlrpc-php.toml"
    file.write_text("# mine\n")
    apply_rules(Output(), report(), config(tmp_path), yes=True)
    assert (file.read_text(), asked) == ("# mine\n", [])
    assert "left as it is" in capsys.readouterr().err


@pytest.mark.parametrize(("answer", "written"), [("y\n", 1), ("\n", 0), ("", 0), ("no\n", 0)])
def test_it_asks_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, written: int) -> None:
    answering(monkeypatch)
    terminal = io.StringIO(answer)
    monkeypatch.setattr(terminal, "isatty", lambda: True)
    monkeypatch.setattr("sys.stdin", terminal)
    apply_rules(Output(), report(), config(tmp_path), yes=False)
    assert len(list(tmp_path.iterdir())) == written


def test_nobody_to_ask_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.StringIO("y\n"))
    with pytest.raises(Failure, match="--yes"):
        apply_rules(Output(), report(), config(tmp_path), yes=False)


def test_a_rule_that_is_none_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answering(monkeypatch)
    with pytest.raises(Failure, match="not sound"):
        apply_rules(Output(), report("[x]\nnonsense = 1\n"), config(tmp_path), yes=True)
    assert not list(tmp_path.iterdir())
