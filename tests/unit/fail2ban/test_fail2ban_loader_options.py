"""The small languages inside values."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.fail2ban.settings.options import parse_bool, parse_call, parse_int, parse_span_s, parse_words, split_calls


@pytest.mark.parametrize(
    ("text", "name", "options"),
    [
        ("sshd", "sshd", {}),
        ("sshd[mode=ddos]", "sshd", {"mode": "ddos"}),
        (" sshd [ mode = ddos ] ".replace(" = ", "="), "sshd", {"mode": "ddos"}),
        ("a[x=1,y=2][z=3] [x=4]", "a", {"x": "4", "y": "2", "z": "3"}),
        ('a[x="b,c]d", y=\'e"f\']', "a", {"x": "b,c]d", "y": 'e"f'}),
        ("a[x=]", "a", {"x": ""}),
        ("a[]", "a", {}),
        ("a[x=1,]", "a", {"x": "1"}),
        ('a[x="open]', "a", {"x": '"open'}),
        ("a[x.y-z_1=b=c d]", "a", {"x.y-z_1": "b=c d"}),
        ("a[t?family=inet6=1]", "a", {"t?family=inet6": "1"}),
        ("a[x=1,\n  y=2]", "a", {"x": "1", "y": "2"}),
    ],
)
def test_parse_call(text: str, name: str, options: dict[str, str]) -> None:
    assert parse_call(text) == (name, options)


@pytest.mark.parametrize(
    "text", ["", "   ", "[x=1]", "a[x=1", "a[x]", "a[x=1]y", "a[=1]", 'a[x="1"y]', "a[x=1 ]]", "a b", "a[x=1,,y=2]"]
)
def test_parse_call_says_what_it_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        parse_call(text)


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("", []),
        ("a", ["a"]),
        ("a b\n c", ["a", "b", "c"]),
        ("a[x=1] b[y='2 3\n4']\n   c.py[z=\"]\"]", ["a[x=1]", "b[y='2 3\n4']", 'c.py[z="]"]']),
        ("a [x=1]\n[y=2] b", ["a [x=1]\n[y=2]", "b"]),
    ],
)
def test_split_calls(text: str, calls: list[str]) -> None:
    assert split_calls(text) == calls


@pytest.mark.parametrize("text", ["a[x=1", "a[x=1]b", "[x=1]", "a[x", "a ]["])
def test_split_calls_says_what_it_expected(text: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        [parse_call(call) for call in split_calls(text)]


@given(st.text(alphabet="ab[]=,\"' \n\\", max_size=40))
def test_calls_of_any_text_end(text: str) -> None:
    try:
        calls = split_calls(text)
    except ValueError as error:
        assert "expected" in str(error)  # noqa: PT017  both ways are right, but the error must speak
    else:
        assert "".join("".join(calls).split()) == "".join(text.split())


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("600", 600),
        ("10m", 600),
        ("1h30m", 5400),
        ("1d 12h", 129_600),
        ("1y", 31_557_600),
        ("6mo", 15_778_800),
        ("1year-6mo", 15_778_800),
        ("2*1h", 7200),
        ("2*60+30", 150),
        ("(1h + 30m) / 2", 2700),
        ("-1", -1),
        ("0.5h", 1800),
        ("1H 5Min", 3900),
    ],
)
def test_parse_span(text: str, seconds: float) -> None:
    assert parse_span_s(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        *("", "h", "10x", "m10", "1h+", "1/0", "(1h", "1h)", "__import__('os')", "1e9", "10 fortnights", "²"),
        *("9" * 99, "9" * 300, "(" * 99, "-" * 99, "1**9**9", "1;2", "1,5h", "٣h"),
    ],
)
def test_a_span_that_is_none_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(ValueError, match="expected") as raised:
        parse_span_s(text)
    assert len(str(raised.value)) < 350


def test_words_and_switches() -> None:
    assert parse_words(" a, b\n c,,d ") == ("a", "b", "c", "d")
    assert [parse_bool(word) for word in ("true", "YES", "1", "on", "false", "No", "0", "off")] == [True] * 4 + [
        False
    ] * 4
    assert parse_int(" -12 ") == -12
    for parse, text in ((parse_bool, "ture"), (parse_bool, ""), (parse_int, "1.5"), (parse_int, "9" * 50)):
        with pytest.raises(ValueError, match="expected"):
            parse(text)
