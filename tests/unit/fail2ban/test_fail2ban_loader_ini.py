"""One file: the dialect, the places, and mistakes that leave the rest standing."""

from __future__ import annotations

import os
import time
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from tocsin.fail2ban.settings.ini import MAX_FILE_BYTES, parse, read_file


def texts(text: str, section: str = "a") -> dict[str, str]:
    return {name: value.text for name, value in parse(text, "f").sections[section].items()}


def test_the_dialect() -> None:
    text = (
        "# c\n; c\n[DEFAULT]\nD: 1\n[a] said\n  One = 1 ; said\n Two=a;b = c: d\n"
        "   more\n# c\n   ; c\n\n   most ; said\n"
        "\nthree\t:\t3\nempty =\n[b]\nx=1\r\ny=2\rz=3"
    )
    ini = parse(text, "f")
    assert not ini.faults
    assert {name: value.text for name, value in ini.defaults.items()} == {"d": "1"}
    assert texts(text) == {"one": "1", "two": "a;b = c: d\nmore\n\nmost", "three": "3", "empty": ""}
    assert texts(text, "b") == {"x": "1", "y": "2", "z": "3"}


def test_every_value_knows_its_place() -> None:
    ini = parse("[a]\nx = 1\n\n# c\ny = 2\n  3\nz = 4\n", "file.conf")
    assert [(name, value.file, value.line) for name, value in ini.sections["a"].items()] == [
        ("x", "file.conf", 2),
        ("y", "file.conf", 5),
        ("z", "file.conf", 7),
    ]
    assert ini.headers == {"a": 1}


def test_mistakes_have_a_line_a_section_and_a_remedy_and_cost_only_themselves() -> None:
    ini = parse("[a]\nx = 1\nbare\nx = 2\n= 3\n[b]\ny = 4\n[a]\nz = 5\n", "f")
    found = [(fault.severity, fault.section, fault.line) for fault in ini.faults]
    assert found == [("warning", "a", 3), ("error", "a", 4), ("warning", "a", 5), ("error", "a", 8)]
    assert "first in line 2" in ini.faults[1].text
    assert "first in line 1" in ini.faults[3].text
    assert ini.sections["b"]["y"].text == "4"


def test_lines_before_any_section_are_an_error_of_the_file() -> None:
    [fault] = parse("x = 1\ny = 2\n[a]\nz = 3\n", "f").faults
    assert (fault.severity, fault.section, fault.line) == ("error", "", 1)


def test_a_comment_that_cuts_a_regex_or_a_command_is_told() -> None:
    ini = parse("[a]\nfailregex = x ;y <HOST>\n  z\nactionban = one ; two\nport = 1 ; two\n", "f")
    assert [fault.line for fault in ini.faults] == [2, 4]
    assert "';y <HOST>'" in ini.faults[0].text


def test_bytes_that_are_no_utf8_spoil_a_value_but_not_a_comment(tmp_path: Path) -> None:
    path = tmp_path / "x.conf"
    path.write_bytes(b"[a]\n# caf\xe9\nx = 1\n[b]\ny = caf\xe9\n[c]\nz = caf\xc3\xa9\n")
    ini = read_file(path)
    assert ini is not None
    found = [(fault.severity, fault.section, fault.line) for fault in ini.faults]
    assert found == [("error", "b", 5), ("instead", "", 2)]
    assert ini.sections["c"]["z"].text == "café"


def test_what_is_no_file_is_refused_and_what_is_missing_is_none(tmp_path: Path) -> None:
    assert read_file(tmp_path / "none.conf") is None
    os.mkfifo(tmp_path / "pipe.conf")
    (tmp_path / "large.conf").write_bytes(b"[a]\n" + b"x" * MAX_FILE_BYTES)
    for path in (tmp_path, tmp_path / "pipe.conf", Path("/dev/zero"), tmp_path / "large.conf", tmp_path / ("x" * 300)):
        ini = read_file(path)
        assert ini is not None
        [fault] = ini.faults
        assert (fault.severity, fault.section, ini.sections) == ("error", "", {})


def test_a_large_file_of_anything_is_read_in_bounded_time_and_remarks() -> None:
    start = time.perf_counter()
    for piece in (
        "bare\n",
        "[a]\n",
        "[a]\nx=1\n",
        "=\n",
        " x\n",
        "[a]x=1\n x\n",
        "x ;\n",
        "\n",
        "[a]\nx = ;;;;;;;;;;\n",
    ):
        ini = parse("[s]\n" + piece * (MAX_FILE_BYTES // 4 // len(piece)), "f")
        assert len(ini.faults) <= 102
        assert all(len(fault.text) < 400 for fault in ini.faults)
    assert time.perf_counter() - start < 30


@given(st.text(alphabet="[]a=: ;#\n\t%é\udce9", max_size=200))
def test_any_text_is_read(text: str) -> None:
    ini = parse(text, "f")
    for options in (ini.defaults, *ini.sections.values()):
        assert all(name == name.strip().lower() and value.line >= 1 for name, value in options.items())
