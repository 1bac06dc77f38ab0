"""What guard says: never waited for, in order, one object a line with JSON, nothing that a terminal obeys."""

from __future__ import annotations

import io
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import pytest

from tocsin.announce import QUEUE_LINES, Announcer, safe_text

HOSTILE = "a\x1b[2J\x00\r\nb\x7f\x9b31m\u202e\u2028\udcff"


def said(*, as_json: bool, text: str = "hello", **fields: object) -> str:
    out = io.StringIO()
    announcer = Announcer(out, as_json=as_json)
    announcer.say("event", text, **fields)
    announcer.close()
    return out.getvalue()


def test_people_get_a_line() -> None:
    assert said(as_json=False) == "tocsin: hello\n"


def test_programs_get_an_object_a_line() -> None:
    before_ts = time.time() - 1
    (line,) = said(as_json=True, rule="r", held=None).splitlines()
    row = json.loads(line)
    assert before_ts < row.pop("ts") < time.time() + 1
    assert row == {"event": "event", "text": "hello", "rule": "r", "held": None}


@pytest.mark.parametrize("as_json", [False, True])
def test_nothing_reaches_the_terminal_raw(as_json: bool) -> None:
    text = said(as_json=as_json, text=HOSTILE, subject=HOSTILE)
    assert text.count("\n") == 1
    assert text[:-1].isprintable()
    if as_json:
        assert json.loads(text)["text"] == HOSTILE.replace("\udcff", "\\udcff"), "no JSON reader refuses it"


def test_safe_text_leaves_what_is_safe() -> None:
    assert safe_text("plain, é, 漢字") == "plain, é, 漢字"
    assert safe_text("a\tb\x1b") == "a\\tb\\x1b"


def test_the_order_is_kept() -> None:
    out = io.StringIO()
    announcer = Announcer(out)
    for n in range(1000):
        announcer.say("n", str(n))
    announcer.close()
    assert out.getvalue().split() == [word for n in range(1000) for word in ("tocsin:", str(n))]


@pytest.fixture
def full_pipe() -> Iterator[tuple[int, TextIO]]:
    """A pipe whose reader does not read: (reading end, stream to write to)."""
    reading, writing = os.pipe()
    with os.fdopen(writing, "w") as stream:
        yield reading, stream
    os.close(reading)


def read_all(fd: int, until: str) -> str:
    data = b""
    while until.encode() not in data:
        piece = os.read(fd, 1 << 16)
        assert piece, "ended before it was said"
        data += piece
    return data.decode()


@pytest.mark.parametrize("as_json", [False, True])
def test_a_pipe_that_nobody_reads_holds_nobody_up(full_pipe: tuple[int, TextIO], as_json: bool) -> None:
    """What does not fit is counted, and said when somebody reads again."""
    reading, stream = full_pipe
    announcer = Announcer(stream, as_json=as_json)
    began_s = time.monotonic()
    for n in range(QUEUE_LINES * 2):
        announcer.say("n", f"line {n} " + "x" * 100)
    assert time.monotonic() - began_s < 5.0
    announcer.close(0.05)  # does not wait for who does not read
    text = read_all(reading, "nobody read them")
    rows = text.splitlines()
    if as_json:
        left_out = [row for row in map(json.loads, rows) if row["event"] == "left-out"]
        assert left_out
        assert left_out[0]["messages"] > 0
    assert "messages were left out" in rows[-1]
    assert "line 0 " in rows[0]


class Gone(io.StringIO):
    """A stream whose reader has left."""

    def write(self, _text: str) -> int:
        """As a pipe without a reader answers."""
        raise BrokenPipeError


def test_standard_output_may_go_away() -> None:
    announcer = Announcer(Gone())
    for n in range(QUEUE_LINES * 2):
        announcer.say("n", str(n))
    announcer.close()
    announcer.say("n", "to nobody")


def test_a_stream_of_another_encoding_gets_escapes(tmp_path: Path) -> None:
    """A locale that lacks a sign does not silence what comes after it."""
    path = tmp_path / "out"
    with path.open("w", encoding="ascii") as stream:
        announcer = Announcer(stream)
        announcer.say("n", "café")
        announcer.say("n", "after")
        announcer.close()
    assert path.read_text() == "tocsin: caf\\xe9\ntocsin: after\n"
