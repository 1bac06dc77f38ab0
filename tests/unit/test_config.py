"""The configuration: defaults, strict types, every mistake at once; and its documents, which must say what it does."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from msgspec import UNSET, Struct
from msgspec.structs import fields

from tocsin.config import (
    SECTIONS,
    Allow,
    Bans,
    Breaker,
    Config,
    ConfigErrors,
    Log,
    Override,
    load,
    parse,
)

REPOSITORY = Path(__file__).parents[2]
ROW = re.compile(r"^\| `(\w+)` \| (.+?) \| (.+) \|$")


def mistakes(text: str) -> list[tuple[int, str, str]]:
    with pytest.raises(ConfigErrors) as caught:
        parse(text, "t.toml")
    assert all(error.file == "t.toml" and error.message and error.remedy for error in caught.value.errors)
    return [(error.line, error.key, f"{error.message}; {error.remedy}") for error in caught.value.errors]


def test_no_file_means_all_defaults(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.config.DEFAULT_PATH", tmp_path / "absent.toml")
    assert load() == Config()
    assert parse("", "t.toml") == Config(file="t.toml")


def test_a_file_that_was_asked_for_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigErrors, match="cannot be read: No such file"):
        load(tmp_path / "absent.toml")
    with pytest.raises(ConfigErrors, match="cannot be read: Is a directory"):
        load(tmp_path)


def test_every_section_is_read(tmp_path: Path) -> None:
    file = tmp_path / "tocsin.toml"
    file.write_text(
        """
guard.observe = true
[[log]]
path = "/srv/*/access.log"
vhost = "www.example.org"
[[log]]
path = "/srv/auth"
kind = "auth"
[allow]
addresses = ["192.0.2.7", "192.0.2.0/24", "2001:DB8::1", "2001:db8:1::/48",
  "::ffff:198.51.100.0/120", "::ffff:203.0.113.9"]
own = false
[proxies]
trusted = ["10.0.0.0/8"]
[rules]
paths = ["/a", "/b.toml"]
disable = ["http-auth"]
override.request-flood = { limit = 500, within = "1m30s" }
[rules.override.wordpress-xmlrpc]
ban = "forever"
[bans]
default = 90
factor = 1.5
[breaker]
share = 1
"""
    )
    config = load(file)
    assert config.file == str(file)
    assert config.guard.observe
    assert config.log == (Log("/srv/*/access.log", vhost="www.example.org"), Log("/srv/auth", kind="auth"))
    networks = ("192.0.2.7", "192.0.2.0/24", "2001:db8::1", "2001:db8:1::/48", "198.51.100.0/24", "203.0.113.9")
    assert config.allow == Allow(networks, own=False)
    assert config.proxies.trusted == ("10.0.0.0/8",)
    assert config.rules.paths == ("/a", "/b.toml")
    assert (config.rules.disable, config.rules.disable_line) == (("http-auth",), 17)
    assert config.rules.override == (
        Override("request-flood", 18, limit=500, within_s=90.0),
        Override("wordpress-xmlrpc", 19, ban_s=None),
    )
    assert config.rules.override[0].ban_s is UNSET
    assert config.bans == Bans(default_s=90.0, factor=1.5)
    assert config.breaker == Breaker(share=1.0)


def test_every_mistake_of_a_file_comes_at_once_with_its_line_and_a_remedy() -> None:
    text = """observe = true
[guard]
observ = true
user = root
[alow]
addresses = []
[allow]
addresses = [
  "192.0.2.1/24",
  7, "home.example.org",
]
[rules.override.wordpress-xmlrpc]
limit = 0
wihtin = "10m"
[bans]
default = "10 minutes"
escalate = 1
"""
    found = mistakes(text)
    assert [(line, key) for line, key, _ in found] == [
        (1, "observe"),
        (3, "guard.observ"),
        (4, ""),
        (5, "alow"),
        (9, "allow.addresses[0]"),
        (10, "allow.addresses[1]"),
        (10, "allow.addresses[2]"),
        (13, "rules.override.wordpress-xmlrpc.limit"),
        (14, "rules.override.wordpress-xmlrpc.wihtin"),
        (16, "bans.default"),
        (17, "bans.escalate"),
    ]
    says = [text for *_, text in found]
    assert "belongs under [guard]" in says[0]
    assert "did you mean `observe`?" in says[1]
    assert 'user = "root"' in says[2]
    assert "did you mean `allow`?" in says[3]
    assert "the network is 192.0.2.0/24" in says[4]
    assert "names are not looked up" in says[6]
    assert "did you mean `within`?" in says[8]


@pytest.mark.parametrize(
    ("section", "key", "value", "says"),
    [
        ("guard", "observe", "1", "true or false, got 1"),
        ("guard", "observe", '"yes"', "true or false"),
        ("guard", "user", '"Robert Tables"', "system user"),
        ("guard", "user", "0", "system user"),
        ("guard", "state_dir", '"var/lib"', "absolute path"),
        ("guard", "run_dir", '"/run/\\u0000x"', "absolute path"),
        ("logs", "journal", "true", '"auto" or "on" or "off"'),
        ("logs", "journal", "[]", '"auto" or "on" or "off"'),
        ("allow", "addresses", '"192.0.2.1"', "a list"),
        ("allow", "addresses", '["0.0.0.0/0"]', "every address"),
        ("proxies", "trusted", '["::/0"]', "every address"),
        ("proxies", "trusted", '["fe80::1%eth0/"]', "address or prefix"),
        ("rules", "disable", '[""]', "printable"),
        ("rules", "override", "3", "tables"),
        ("bans", "default", "0", "from 1s to 3650d"),
        ("bans", "default", "-5", "from 1s"),
        ("bans", "default", "inf", "from 1s"),
        ("bans", "max", "nan", "from 1s"),
        ("bans", "max", '"forever"', "duration"),
        ("bans", "max", '"30m"', "`max` is shorter than `default`"),
        ("bans", "default", '"31d"', "`max` is shorter than `default`"),
        ("bans", "default", "true", "duration"),
        ("bans", "factor", "0.5", "from 1 to 100"),
        ("bans", "factor", "nan", "from 1 to 100"),
        ("bans", "max_active", "1.0", "whole number"),
        ("bans", "max_active", "true", "whole number"),
        ("bans", "max_active", "1000001", "1,000,000"),
        ("breaker", "share", "1.1", "from 0 to 1"),
        ("limits", "lateness", '"2h"', "from 0s to 1h"),
        ("limits", "skew", "[1]", "duration"),
        ("ledger", "keep", "{ a = 1 }", "duration"),
        ("ledger", "max_rows", '"\\u001b[2J"', "'\\x1b[2J'"),
    ],
)
def test_a_value_of_the_wrong_kind(section: str, key: str, value: str, says: str) -> None:
    ((line, where, text),) = mistakes(f"# a comment\n[{section}]\n\n{key} = {value}\n")
    assert (line, where.partition("[")[0]) == (4, f"{section}.{key}")
    assert says in text
    assert text.isprintable()


@pytest.mark.parametrize(
    ("text", "line", "says"),
    [
        ("guard = 3", 1, "write [guard]"),
        ("[[guard]]", 1, "write [guard]"),
        ("[log]\npath = '/a'", 1, "[[log]]"),
        ("log = [3]", 1, "[[log]]"),
        ("[[log]]\nvhost = 'example.org'", 1, "`path` is missing"),
        ("[[log]]\npath = '/a'\n[[log]]\npath = '/a'", 4, "remove one"),
        ("[[log]]\npath = '/a'\nkind = 'error'", 3, '"access" or "auth"'),
        ("[rules.override]\nx = 1", 2, "[rules.override.RULE]"),
        ("[rules.override.x.limit]\n", 1, "whole number"),
        ('"\\u001b[2J" = 1', 1, "unknown key"),
        ("a" * 5000 + " = 1", 1, "unknown key"),
    ],
)
def test_a_document_of_the_wrong_shape(text: str, line: int, says: str) -> None:
    ((found, key, message),) = mistakes(text)
    assert found == line
    assert says in message
    assert (key + message).isprintable()


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        ("[guard\nobserve = 1", [1]),
        ('x = "open\n[bans]\nfactor = 0', [1, 3]),
        ("[allow]\naddresses = [\n'192.0.2.1'\n[bans]\nfactor = 0", [4]),
        ("[allow]\naddresses = [\n192.0.2.1,\n'::1'\n]\n[bans]\nfactor = 0", [3, 7]),
        ("[guard]\nobserve\nuser = 1", [2, 3]),
        ("[guard]\nobserve = true\nobserve = false\nuser = 1", [3, 4]),
        ("[guard]\n[guard]\n", [2]),
        ("[guard]\nuser = 'x' 'y'\nobserve = 0", [2, 3]),
        ("x = " + "[" * 50_000, [1]),
        ("x = " + "9" * 5000, [1]),
        ("[guard]\nuser = 'caf\x00'", [2]),
        ("\n".join(f"k{n} = bare" for n in range(100)), list(range(1, 51))),
        ('x = """\nopen', [2]),
    ],
)
def test_a_syntax_error_does_not_hide_the_others(text: str, lines: list[int]) -> None:
    assert [line for line, *_ in mistakes(text)] == lines


def test_bytes_that_are_no_text(tmp_path: Path) -> None:
    file = tmp_path / "t.toml"
    file.write_bytes(b"[guard]\nuser = 'caf\xe9'\n")
    with pytest.raises(ConfigErrors) as caught:
        load(file)
    assert str(caught.value) == f"{file}:2: byte 0xe9 is not UTF-8; save the file as UTF-8"


def test_a_format_that_cannot_be_read_is_a_mistake_of_the_file() -> None:
    assert parse("[[log]]\npath = '/a'\nformat = 'combined'", "t.toml").log[0].format == "combined"
    ((line, key, _),) = mistakes("[[log]]\npath = '/a'\nformat = 'combinde'")
    assert (line, key) == (3, "log[0].format")


@given(st.text(alphabet="[]{}=\"'\\\n#.,-x1 ", max_size=60) | st.text(max_size=30))
def test_any_text_is_a_configuration_or_has_mistakes(text: str) -> None:
    try:
        parse(text, "t.toml")
    except ConfigErrors as error:
        assert all(1 <= each.line <= text.count("\n") + 1 for each in error.errors)  # noqa: PT017  either outcome is right


def documented() -> dict[str, dict[str, str]]:
    """The tables of docs/config.md: section, key, the text in the column of defaults."""
    sections: dict[str, dict[str, str]] = {}
    for line in (REPOSITORY / "docs/config.md").read_text().splitlines():
        if line.startswith("## "):
            name = line.strip("# []")
            sections[name] = {}
        elif match := ROW.match(line):
            sections[name][match[1]] = match[2]
    return sections


def defaults_of(structure: type[Struct]) -> dict[str, object]:
    return {field.name: field.default for field in fields(structure)}


@pytest.mark.parametrize("section", SECTIONS)
def test_the_documents_name_every_key_with_its_default(section: str) -> None:
    structure, keys = SECTIONS[section]
    rows = documented()[section]
    assert list(rows) == [key.name for key in keys]
    text = "".join(f"{name} = {default.strip('`')}\n" for name, default in rows.items())
    read = getattr(parse(f"[{section}]\n{text}", "t.toml"), section)
    for key in keys:
        assert getattr(read, key.attribute) == defaults_of(structure)[key.attribute]
    assert {key.attribute for key in keys} == set(defaults_of(structure)) - {"override", "disable_line"}


def test_the_documents_name_no_other_section_and_the_keys_of_tables() -> None:
    rows = documented()
    assert set(rows) == {*SECTIONS, "log", "rules.override.RULE"}
    assert list(rows["log"]) == [field.name for field in fields(Log)]
    assert list(rows["rules.override.RULE"]) == ["limit", "within", "ban"]


def test_the_examples_in_messages_are_valid() -> None:
    for section, (_, keys) in SECTIONS.items():
        parse(f"[{section}]\n" + "".join(f"{key.name} = {key.example}\n" for key in keys), "t.toml")


def test_the_sample_file_holds_every_key_and_equals_the_defaults() -> None:
    file = REPOSITORY / "packaging/tocsin.toml"
    document = tomllib.loads(file.read_text())
    assert {name: set(table) for name, table in document.items()} == {
        name: {key.name for key in keys} for name, (_, keys) in SECTIONS.items()
    }
    read = load(file)
    empty = parse("", str(file))
    assert read.rules.disable_line > 0
    for section in SECTIONS:
        if section != "rules":
            assert getattr(read, section) == getattr(empty, section)
    assert (read.rules.paths, read.rules.disable, read.rules.override) == (empty.rules.paths, (), ())


def test_the_samples_commented_tables_are_valid_too() -> None:
    text = (REPOSITORY / "packaging/tocsin.toml").read_text()
    config = parse(re.sub(r"(?m)^#(?=\S)", "", text), "t.toml")
    assert [log.path for log in config.log] == ["/srv/*/logs/access.log"]
    assert [override.rule for override in config.rules.override] == ["wordpress-xmlrpc"]
