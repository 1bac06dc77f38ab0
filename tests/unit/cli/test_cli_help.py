"""Every command explains itself, and docs/commands.md says the same."""

from __future__ import annotations

from pathlib import Path

import pytest
from cli_runs import run

from tocsin import __version__
from tocsin.cli.app import COMMANDS
from tocsin.cli.manual import BELOW, manual

DOCS = Path(__file__).parents[3] / "docs" / "commands.md"
EVERY = [*[[name] for name in COMMANDS], *[[name, below] for name, belows in BELOW.items() for below in belows]]


@pytest.mark.parametrize("command", EVERY, ids=" ".join)
def test_help_is_enough_to_start(command: list[str]) -> None:
    ran = run([*command, "--help"])
    assert ran.code == 0
    assert f"Usage: tocsin {' '.join(command)}" in ran.out
    assert "Example" in ran.out
    assert "--json" in ran.out
    assert not ran.err


def test_the_overview_names_every_command() -> None:
    ran = run(["--help"])
    assert ran.code == 0
    for name in COMMANDS:
        assert f"\n  {name} " in ran.out
    assert "..." not in ran.out.partition("Commands:")[2]


def test_without_arguments_the_overview_is_shown() -> None:
    ran = run([])
    assert ran.code == 64
    assert "Commands:" in ran.out + ran.err


def test_version() -> None:
    assert run(["--version"]) == (0, f"tocsin {__version__}\n", "")


def test_the_manual_is_fresh() -> None:
    assert DOCS.read_text(encoding="utf-8") == manual(), "run: python -m tocsin.cli.manual > docs/commands.md"
