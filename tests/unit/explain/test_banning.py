"""How whom a verdict names is banned by hand: by commands that work."""

from __future__ import annotations

import json
import shlex
import subprocess
import sys

import pytest
import typer.main
from explain_made import START_TS, visit, visits
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


@pytest.mark.parametrize("until", [4800, 1000])
def test_all_are_banned_who_sent_it_while_it_went_on(until: int) -> None:
    """Apache says once that it is full; who comes hours after a flood has ended is not of it."""
    waves = range(900, until, 100)
    others = [f"203.{i // 250}.{i % 250}.7" for i in range(100, 2000)]
    first = flood(600, 900, 2, [f"203.0.{i}.7" for i in range(100)], "/?s=x", user_agent="Evil")
    more = [
        one
        for i, at in enumerate(waves)
        for one in flood(at, at + 100, 2, others[i * 8 :][:8], "/?s=x", user_agent="Evil")
    ]
    late = flood(9000, 9010, 1, ["192.0.2.9"], "/?s=x", user_agent="Evil")
    incident = only([*visits(0, 9100), *first, *more, *late], saturated(890))
    assert len(incident.ban) == len({one.source_ip for one in [*first, *more]})
    assert any("went on after" in note.text for note in incident.notes) is (until > 1000)


def test_clients_of_what_stands_before_the_site_are_told_though_nobody_is_convicted() -> None:
    front = [f"162.158.{i}.{i}" for i in range(30)]
    calm = [one for i in range(700) for one in visit(i * 5, front[i % 30], f"/post-{i % 30}/")]
    faceted = flood(3440, 3500, 0.4, front, "/c/?max_price=3", referer="https://shop.example/")
    incident = only([*calm, *faceted], saturated(3480))
    assert (incident.cause, incident.ban) == ("unknown", ())
    assert any("mod_remoteip" in note.text for note in incident.notes)
