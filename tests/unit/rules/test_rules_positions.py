"""Lines of TOML keys, and the agreement with what tomllib reads."""

from __future__ import annotations

import tomllib
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tocsin.rules.positions import Path, key_lines

TEXT = '''\
# a comment with [brackets] and "quotes"
top = 1

["quoted.rule"] # why not
a.b = "x # no comment"
'c d' = """
many [lines]
= { here """
list = [
  "one", # first
  "two",
  { inner = 3, 'x' = [1,
    2] },
]

[rule.where]
path = { prefix = ["/a",
  "/b"], not = "/c" }

[[rule.any]]
when = 2015-05-17 10:00:00
[[rule.any]]
z = 1.5
[rule.any.sub]
y = 'it''s'
'''.replace("'it''s'", "'its'")


def test_lines_of_keys() -> None:
    """Tables, dotted and quoted keys, arrays over several lines, inline tables, arrays of tables."""
    lines = key_lines(TEXT)
    expected: dict[Path, int] = {
        ("top",): 2,
        ("quoted.rule",): 4,
        ("quoted.rule", "a", "b"): 5,
        ("quoted.rule", "c d"): 6,
        ("quoted.rule", "list"): 9,
        ("quoted.rule", "list", 1): 11,
        ("quoted.rule", "list", 2, "inner"): 12,
        ("quoted.rule", "list", 2, "x", 1): 13,
        ("rule", "where"): 16,
        ("rule", "where", "path", "prefix", 1): 18,
        ("rule", "where", "path", "not"): 18,
        ("rule", "any", 0): 20,
        ("rule", "any", 0, "when"): 21,
        ("rule", "any", 1, "z"): 23,
        ("rule", "any", 1, "sub", "y"): 25,
    }
    assert {path: lines.get(path) for path in expected} == expected


def paths_of(value: object, path: Path = ()) -> set[Path]:
    """Every path of a parsed document."""
    paths: set[Path] = {path} if path else set()
    items: list[tuple[str | int, Any]] = []
    if isinstance(value, dict):
        items = list(value.items())
    elif isinstance(value, list):
        items = list(enumerate(value))
    for key, item in items:
        paths |= paths_of(item, (*path, key))
    return paths


def test_every_path_of_the_text_has_a_line() -> None:
    """The scanner follows tomllib."""
    assert paths_of(tomllib.loads(TEXT)) <= set(key_lines(TEXT))


KEYS = st.text("abc-_", min_size=1, max_size=4)
SCALARS = st.one_of(
    st.integers(-5, 5).map(str),
    st.booleans().map(lambda value: str(value).lower()),
    st.text("ab =,[]{}#'\"\\", max_size=5).map(lambda text: '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'),
    st.text('ab =,[]{}#"\\', max_size=5).map(lambda text: f"'{text}'"),
)


def tables(values: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays and inline tables of values."""
    pairs = st.dictionaries(KEYS, values, max_size=3)
    return st.one_of(
        st.lists(values, max_size=3).map(lambda items: "[" + ",\n ".join(items) + "]"),
        pairs.map(lambda table: "{ " + ", ".join(f"{key} = {value}" for key, value in table.items()) + " }"),
    )


VALUES = st.recursive(SCALARS, tables, max_leaves=6)


@given(
    st.dictionaries(KEYS, st.dictionaries(KEYS, VALUES, max_size=4), max_size=4),
    st.lists(st.integers(0, 2), min_size=20, max_size=20),
)
def test_lines_of_any_document(document: dict[str, dict[str, str]], blanks: list[int]) -> None:
    """Every key of a made document has the line it was written on, and no path is missing."""
    lines: list[str] = []
    expected: dict[Path, int] = {}
    gaps = iter(blanks)
    for table, pairs in document.items():
        lines += [""] * next(gaps)
        lines.append(f"[{table}] # [x]")
        expected[(table,)] = len(lines)
        for key, value in pairs.items():
            expected[(table, key)] = len(lines) + 1
            lines += f"{key} = {value}".split("\n")
    text = "\n".join(lines)
    found = key_lines(text)
    assert {path: found.get(path) for path in expected} == expected
    assert paths_of(tomllib.loads(text)) <= set(found)
