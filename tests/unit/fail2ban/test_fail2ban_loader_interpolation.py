"""`%(name)s` and `<tag>`: what they stand for, circles, and bounded work."""

from __future__ import annotations

import time

import pytest

from tocsin.fail2ban.settings.ini import parse
from tocsin.fail2ban.settings.interpolation import MAX_TEXT, Missing, Unresolved, get, get_qualified, substitute
from tocsin.fail2ban.settings.merge import Merged


def merged(*texts: str) -> Merged:
    found = Merged("0.conf")
    for number, text in enumerate(texts):
        found.add(parse(text, f"{number}.conf"))
    return found


def test_names_are_looked_up_in_given_section_and_default() -> None:
    config = merged(
        "[DEFAULT]\nd = D%(a)s\na = 0\n[s]\na = 1\nx = %(a)s %(d)s %(g)s %(__name__)s 100%%\n[t]\na = %(b)s\n"
    )
    assert get(config, "s", "x", {"g": "G%(a)s"}) == "1 D1 G1 s 100%"
    assert get(config, "s", "x", {"g": "", "a": "9"}) == "9 D9  s 100%"
    with pytest.raises(Missing):
        get(config, "s", "nothing")


def test_sections_defaults_and_known_values() -> None:
    config = merged(
        "[DEFAULT]\nd = 0\n[s]\nx = 1\n[t]\ny = %(x)s of t\n",
        "[s]\nx = %(known/x)s 2\nz = %(default/d)s %(DEFAULT/d)s %(t/y)s %(t/d)s %(known/d)s\n",
        "[s]\nx = %(known/x)s 3\n",
    )
    assert get(config, "s", "x") == "1 2 3"
    assert get(config, "s", "z") == "0 0 1 2 3 of t 0 0"
    assert get(config, "s", "x", {}, {"known/x": "100% of the filter"}) == "100% of the filter 3"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("%(names)s", "did you mean `name`"),
        ("%(x)s", "x -> x"),
        ("%(a)s", "x -> a -> b -> a"),
        ("50% off", "write `%%`"),
        ("%(open", "lone `%`"),
        ("%(known/x)s", "no earlier file sets `x`"),
        ("%(nosection/x)s", "nothing sets"),
    ],
)
def test_what_cannot_be_put_together_says_why_and_where(text: str, says: str) -> None:
    config = merged(f"[s]\nname = 1\na = %(b)s\nb = %(a)s\nx = {text}\n")
    with pytest.raises(Unresolved, match=says.replace("(", r"\(").replace("?", r"\?")) as raised:
        get(config, "s", "x")
    value = raised.value.value
    assert value is not None
    assert value.file == "0.conf"


def test_tags_are_resolved_inner_first_and_unknown_ones_stay() -> None:
    options = {"x": "<HOST> <a-<b>> <ip> <c> << <> <d e>", "a-B": "found", "b": "B", "c": "<d>", "d": "<a-<b>>!"}
    done = substitute(options, (), lambda tag: "of the file" if tag == "ip" else None)
    assert done["x"] == "<HOST> found of the file found! << <> <d e>"
    assert substitute({"x": "<a> <b>", "a": "1", "b": "<a>"}, ("a",), lambda _: None) == {
        "x": "<a> <a>",
        "a": "1",
        "b": "<a>",
    }


def test_tags_that_lead_back_are_refused() -> None:
    for options in ({"x": "<x>"}, {"x": "<y>", "y": "<x>"}, {"x": "<y-<z>>", "z": "1", "y-1": "<x>"}):
        with pytest.raises(Unresolved, match="back to itself"):
            substitute(options, (), lambda _: None)
    with pytest.raises(Unresolved, match="back to itself"):
        substitute({"x": "<outside>"}, (), lambda _: "more <outside>")


def test_tags_of_sections() -> None:
    config = merged("[DEFAULT]\nx = 0\n[Definition]\na = 1\n[other]\na = %(x)s!\n", "[Definition]\na = 2\n")
    names = ("a", "A", "known/a", "other/a", "default/x", "other/x", "HOST", "no/a", "a/b/c", "known/x")
    found = [get_qualified(config, "Definition", name, {}) for name in names]
    assert found == ["2", "2", "1", "0!", "0", "0", None, None, None, "0"]


def test_bombs_go_off_early() -> None:
    start = time.perf_counter()
    wide = "".join(f"x{n} = " + f"%(x{n + 1})s" * 10 + "\n" for n in range(30))
    deep = "".join(f"x{n} = %(x{n + 1})s\n" for n in range(3000))
    long = "".join(f"x{n} = %(x{n + 1})s%(x{n + 1})s\n" for n in range(10)) + "x10 = " + "y" * 1000
    for text in (wide, deep, long):
        config = merged("[s]\n" + text + "\n[t]\nz = 1\n")
        try:
            assert len(get(config, "s", "x0")) <= MAX_TEXT
        except Unresolved as error:
            assert len(str(error)) < 300  # noqa: PT017  either it is short enough, or it is refused
    tags = {f"x{n}": f"<x{n + 1}><x{n + 1}><y{n}>" for n in range(60)}
    with pytest.raises(Unresolved):
        substitute({**tags, "x60": "z" * 50}, (), lambda _: None)
    with pytest.raises(Unresolved):
        substitute({"a": "<b>"}, (), lambda tag: f"<{tag}x>")
    assert time.perf_counter() - start < 10
