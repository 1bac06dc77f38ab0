"""`tocsin replay` and `tocsin rules test`: results, JSON, exit codes, and hostile lines."""

from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest
from cli_runs import FOUNDING, founding_log, run

DECISION_KEYS = ["ts", "rule", "subject", "action", "duration_s", "count", "evidence", "id", "held"]
SUMMARY_KEYS = {"lines", "bytes", "unparsed", "stopped", "findings", "decisions", "seconds", "late", "evicted"}
HOSTILE = {
    "agent": '"GET / HTTP/1.1" 200 1 "-" "{}"',
    "referer": '"GET / HTTP/1.1" 200 1 "{}" "-"',
    "path": '"GET /{} HTTP/1.1" 200 1 "-" "-"',
    "user": "{}",
}
PAYLOADS = {
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "nul": "a\x00b",
    "bidi": "a\u202eb",
    "c1": "\x9b31m",
    "markup": "[bold red]a[/]",
    "return": "a\rb",
}


def test_the_founding_incident(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    ran = run(["replay", "--rules", tmp_path / "mine.toml", "--only", "mine", log, "--json"])
    assert ran.code == 0
    *decisions, last = ran.rows
    assert [(row["subject"], row["ts"], row["duration_s"], row["count"], row["action"]) for row in decisions] == [
        ("63.251.225.206", 1466435856, 240000, 3, "ban"),
        ("63.251.225.207", 1466435863, 240000, 3, "ban"),
    ]
    for row in decisions:
        assert list(row) == DECISION_KEYS
        assert [set(line) for line in row["evidence"]] == [{"source", "line", "text"}] * 3
    assert decisions[0]["evidence"][2] == {"source": str(log), "line": 3, "text": FOUNDING.splitlines()[2]}
    assert last.keys() == {"summary"}
    assert last["summary"].keys() >= SUMMARY_KEYS
    assert {key: last["summary"][key] for key in ("lines", "stopped", "findings", "decisions")} == {
        "lines": 8,
        "stopped": 2,
        "findings": 2,
        "decisions": 2,
    }


def test_a_file_whose_name_is_no_utf_8_is_read_and_named(tmp_path: Path) -> None:
    log = founding_log(tmp_path).rename(tmp_path / os.fsdecode(b"b\xff\n.log"))
    for words in (
        ["replay", "--rules", tmp_path / "mine.toml"],
        ["rules", "test", tmp_path / "mine.toml"],
        ["explain"],
    ):
        ran = run([*words, log, "--json"])
        assert ran.code == 0, ran.err
        assert str(tmp_path / "b\\\\udcff\\n.log") in ran.out, "printable, and no surrogate that JSON readers refuse"
        assert run([*words, log]).code == 0


def test_people_see_a_table_and_a_summary(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    ran = run(["replay", "--rules", tmp_path / "mine.toml", "--only", "mine", "--tz", "Europe/Paris", log])
    assert ran.code == 0
    assert "2016-06-20 17:17:36 CEST  ban   63.251.225.206  66h40m    mine      3\n" in ran.out
    assert "Read 8 lines" in ran.out
    assert "2 findings, 2 decisions." in ran.out
    assert not ran.err


def test_archives_are_read(tmp_path: Path) -> None:
    log = tmp_path / "access.log.2.gz"
    log.write_bytes(gzip.compress(FOUNDING.encode() + b"\n"))
    ran = run(["replay", log, "--only", "wordpress-xmlrpc", "--json"])
    assert (ran.code, len(ran.rows)) == (0, 3)


def test_a_damaged_archive_is_read_as_far_as_it_goes(tmp_path: Path) -> None:
    damaged, whole = tmp_path / "a.log.gz", tmp_path / "b.log"
    damaged.write_bytes(gzip.compress(FOUNDING.encode() * 50)[:-40])
    whole.write_text(FOUNDING + "\n")
    ran = run(["replay", damaged, whole, "--only", "wordpress-xmlrpc", "--json"])
    assert ran.code == 65
    assert "a.log.gz" in ran.err
    assert ran.rows[-1]["summary"]["lines"] >= 8


def test_lines_of_no_known_format_are_shown(tmp_path: Path) -> None:
    log = tmp_path / "odd.log"
    log.write_text("what is this\n" * 5)
    ran = run(["replay", log])
    assert ran.code == 65
    assert "5 lines of those looked at fitted no format" in ran.out
    assert "what is this" in ran.out
    assert "name one with --format" in ran.err


@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS.keys())
@pytest.mark.parametrize("place", HOSTILE.values(), ids=HOSTILE.keys())
@pytest.mark.parametrize("command", ["replay --only sweep-not-found", "rules test sweep-not-found -v"])
def test_hostile_text_never_reaches_the_terminal_raw(place: str, payload: str, command: str, tmp_path: Path) -> None:
    log = tmp_path / "access.log"
    stamp, user = "[20/Jun/2016:11:17:34 -0400]", payload if place == "{}" else "-"
    request = '"GET / HTTP/1.1" 404 1 "-" "-"' if place == "{}" else place.format(payload)
    lines = [f"203.0.113.5 - {user} {stamp} {request}", f"{payload} is no line", FOUNDING]
    log.write_text("\n".join(lines) + "\n", encoding="utf-8")
    for options in ([], ["--json"]):
        ran = run([*command.split(), *options, log])
        assert all(sign.isprintable() or sign == "\n" for sign in ran.out + ran.err)


def test_rules_test_marks_lines(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    with log.open("a") as file:
        file.write('203.0.113.5 - - [20/Jun/2016:11:18:00 -0400] "GET / HTTP/1.1" 200 5 "-" "-"\nbroken\n')
    ran = run(["rules", "test", tmp_path / "mine.toml", log])
    assert ran.code == 0
    marks = [line[0] for line in ran.out.splitlines() if "[20/Jun" in line]
    assert marks == [">"] * 8 + [" "]
    assert "8 of 10 lines match mine" in ran.out
    ran = run(["rules", "test", "mine", "--rules", tmp_path / "mine.toml", log, "--json"])
    rows = ran.rows
    assert [row["line"] for row in rows] == list(range(1, 11))
    assert [row["matched"] for row in rows] == [True] * 8 + [False, False]
    assert rows[0] == {
        "source": str(log),
        "line": 1,
        "matched": True,
        "rule": "mine",
        "subject": "63.251.225.206",
        "ts": 1466435854,
        "fields": {
            "source_ip": "63.251.225.206",
            "method": "POST",
            "target": "/xmlrpc.php",
            "path": "/xmlrpc.php",
            "query": "",
            "protocol": "HTTP/1.0",
            "status": 200,
            "body_bytes": 820,
            "user_agent": "Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)",
        },
        "why": rows[0]["why"],
    }
    assert rows[9]["ts"] is None
    assert rows[9]["fields"] == {}


def test_the_prefilter_changes_nothing(tmp_path: Path) -> None:
    log = founding_log(tmp_path)
    with_it, without = (
        run(["replay", log, "--only", "wordpress-xmlrpc", "--json", option]).rows[:-1]
        for option in ("--prefilter", "--no-prefilter")
    )
    assert with_it == without
    assert len(with_it) == 2
