"""How whom a verdict names is banned by hand: by commands that work."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import typer.main
from explain_made import START_TS, visits
from test_verdict import flood, only, saturated

from tocsin.cli.app import application
from tocsin.explain.banning import banning

CROWD = [f"203.0.113.{i}" for i in range(60)]


@pytest.mark.parametrize("ban", [CROWD[:3], CROWD, ["2001:db8:1:2::/64"]])
def test_the_command_bans_exactly_those(ban: list[str]) -> None:
    apply = banning(ban, START_TS + 0.25).apply
    if len(ban) > 8:
        code, xargs = apply.split("'")[1], apply.rpartition("xargs -r ")[2]
        others = {"start": START_TS - 900, "ban": ["192.0.2.1"]}
        report = json.dumps({"incidents": [others, {"start": START_TS + 0.25, "ban": ban}]})
        told = subprocess.run([sys.executable, "-c", code], input=report, capture_output=True, text=True, check=True)
        apply = f"{xargs} {told.stdout}"
    command, *words = shlex.split(apply)[1:]
    assert command == "ban"
    line = typer.main.get_command(application(["ban", "explain"]))
    parsed = line.commands["ban"].make_context("ban", words)  # type: ignore[attr-defined]
    assert (list(parsed.params["subjects"]), parsed.params["span_text"]) == (ban, "1d")


def test_whom_only_their_addresses_tell_from_visitors_is_banned_by_hand_and_it_says_why() -> None:
    pages = [one for i in range(30) for one in flood(600 + i * 10, 610 + i * 10, 8, CROWD, f"/post-{i}/")]
    incident = only([*visits(0, 900), *pages], saturated(890))
    assert len(incident.ban) == 60
    assert not incident.deny
    assert "nothing but the address" in str(incident.remedies[0].text.args["why"])
    assert "tocsin ban" in incident.remedies[0].apply
