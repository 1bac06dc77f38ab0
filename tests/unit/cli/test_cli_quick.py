"""The quick reading of `replay`'s arguments is typer's."""

from __future__ import annotations

import contextlib
import functools
from pathlib import Path
from random import Random
from typing import Any

import pytest
import typer
from hypothesis import given
from hypothesis import strategies as st

from tocsin.cli import replay as command
from tocsin.cli.quick import replay_arguments

PLAIN = [
    ("a.log",), ("-",), ("--json",), ("--no-prefilter",), ("--prefilter",), ("--rules", "r.toml"), ("--rules=s.toml",),
    ("--only", "x"), ("--only=y",), ("--format", "combined"), ("--now", "1466435856.5"), ("--now=12",), ("--tz", "UTC"),
    ("--trusted-proxy", "192.0.2.0/24"),
]  # fmt: skip
ODD = [
    ("--",), ("--help",), ("-x",), ("--jso",), ("--json=1",), ("--now=",), ("",), ("--rules",), ("--now", "1e9"),
    ("--now", "nan"), ("--tz", "-1"), ("--only", "--json"),
]  # fmt: skip


def typer_reads(arguments: list[str]) -> dict[str, Any] | None:
    """What the function of the command gets from typer; None where it is not called."""
    got: list[dict[str, Any]] = []
    app = typer.Typer(rich_markup_mode=None)
    command.register(app, "replay", lambda function: _spy(function, got))
    with contextlib.suppress(SystemExit):  # how typer ends; `got` tells whether it called us
        typer.main.get_command(app).main(arguments, prog_name="tocsin", standalone_mode=True)
    return got[0] if got else None


def _spy(function: Any, got: list[dict[str, Any]]) -> Any:
    @functools.wraps(function)
    def spy(**arguments: Any) -> None:
        got.append(arguments)

    return spy


@given(st.lists(st.sampled_from(PLAIN), max_size=8), st.lists(st.sampled_from(ODD), max_size=1), st.randoms())
def test_what_is_read_quickly_is_what_typer_reads(plain: list[Any], odd: list[Any], chance: Random) -> None:
    pieces = plain + odd
    chance.shuffle(pieces)
    arguments = [token for piece in pieces for token in piece]
    quick = replay_arguments(arguments)
    assert quick is not None or odd or not {("a.log",), ("-",)} & set(plain)
    if quick is None:
        return
    slow = typer_reads(arguments)
    assert slow is not None
    defaults: dict[str, Any] = {"as_json": False, "prefilter": True}
    for name, value in slow.items():
        assert quick.get(name, defaults.get(name)) == (value or defaults.get(name) if value in (None, []) else value)
    assert quick.keys() <= slow.keys()


@pytest.mark.parametrize("arguments", [["--help"], [], ["--json"], ["a", "--wrong"], ["a", "--now", "x"], ["a", "--"]])
def test_what_is_unusual_is_left_to_typer(arguments: list[str]) -> None:
    assert replay_arguments(arguments) is None


def test_the_usual_is_read_quickly() -> None:
    assert replay_arguments(["--rules", "r.toml", "--only=x", "--only", "y", "a.log", "--json", "--now", "5", "-"]) == {
        "logs": [Path("a.log"), Path("-")],
        "rules": [Path("r.toml")],
        "only": ["x", "y"],
        "as_json": True,
        "now": 5.0,
    }
