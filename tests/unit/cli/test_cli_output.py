"""Nothing that a client can put into a log reaches a terminal as anything but printable text."""

from __future__ import annotations

import json

import pytest
from cli_runs import Stream, streams
from hypothesis import given
from hypothesis import strategies as st

from tocsin.cli.output import Output, json_line, safe
from tocsin.cli.words import age, count, number, size

HOSTILE = {
    "escape": "\x1b[2J\x1b]0;owned\x07",
    "c1": "\x9b31m",
    "nul": "a\x00b",
    "newline": "a\nfake line",
    "return": "a\rb",
    "bidi": "a\u202eb\u2066c\u200f",
    "delete": "a\x7fb",
    "separator": "a\u2028b",
    "surrogate": "a\udc9bb",
    "markup": "[bold red]a[/bold red][link=http://x]b[/link]",
}


def obeyed(text: str) -> list[str]:
    """Characters of a text that a terminal could obey, but for the newline that ends a line."""
    return [sign for sign in text if not sign.isprintable() and sign != "\n"]


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_safe_text_is_printable(text: str) -> None:
    assert safe(text).isprintable()


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_plain_output_is_printable(text: str) -> None:
    out, err = Stream(), Stream()
    with streams(out, err):
        shown = Output()
        shown.line(text)
        shown.note(text)
        shown.table(("column", "other"), [(text, text)])
    assert not obeyed(out.text())
    assert out.text().count("\n") == 3
    assert not obeyed(err.text())
    assert err.text().count("\n") == 1


@pytest.mark.parametrize("text", HOSTILE.values(), ids=HOSTILE.keys())
def test_a_terminal_sees_escapes_and_markup_as_text(text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    out = Stream(terminal=True)
    with streams(out, Stream()):
        shown = Output()
        shown.line(text, style="bold")
        shown.table(("column", "other"), [(text, "x")])
    # rich may still set bold, which is no colour; what it sets is known and is taken off
    written = out.text()
    for known in ("\x1b[1m", "\x1b[0m", "\x1b[1;4m"):
        written = written.replace(known, "")
    assert not obeyed(written)
    assert written.count(safe(text)) == 2


def test_no_color_is_honoured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm-256color")
    colours = []
    for value in ("", "1"):
        monkeypatch.setenv("NO_COLOR", value)
        out = Stream(terminal=True)
        with streams(out, Stream()):
            Output().line("text", style="red")
        colours.append("\x1b[31m" in out.text())
    assert colours == [True, False]


@given(st.text())
def test_json_is_printable_ascii_and_the_same_text(text: str) -> None:
    line = json_line({"text": text})
    assert line.endswith(b"\n")
    assert all(0x20 <= byte < 0x7F for byte in line[:-1])
    assert json.loads(line) == {"text": text}


@given(st.text(st.characters(categories=["Cs"]), min_size=1))
def test_json_has_no_lone_surrogates_but_spells_them_out(text: str) -> None:
    assert json.loads(json_line([text])) == [text.encode("utf-8", "backslashreplace").decode()]


def test_a_plain_table_is_aligned() -> None:
    out = Stream()
    with streams(out, Stream()):
        Output().table(("name", "count"), [("a", "1"), ("longer", "22")], right=("count",))
    assert out.text() == "name    count\na           1\nlonger     22\n"


def test_a_stream_that_knows_ascii_alone_gets_escapes() -> None:
    out = Stream()
    out.reconfigure(encoding="ascii", errors="strict")
    with streams(out, Stream()):
        Output().line("é")
    assert out.text() == "\\xe9\n"


def test_moments_are_utc_in_a_pipe() -> None:
    with streams(Stream(), Stream()):
        assert Output().when(0) == "1970-01-01 00:00:00 UTC"
        assert Output().when(1e300).startswith("epoch 1")


def test_words() -> None:
    assert (count(1, "line"), count(2000, "line")) == ("1 line", "2,000 lines")
    assert (size(12), size(1536), size(None), size(1 << 50)) == ("12 B", "1.5 KiB", "", "1024.0 TiB")
    assert (age(None), age(5), age(600), age(90000), age(864000)) == ("", "5 s", "10 min", "25 h", "10 days")
    assert (number(None), repr(number(3600.0)), number(0.1234567)) == (None, "3600", 0.123457)
