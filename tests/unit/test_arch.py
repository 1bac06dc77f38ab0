"""The shape of the whole: who may import whom, how long a file may be, what guard loads, what the tree may not name.

The import law counts every import, also those inside functions and under TYPE_CHECKING: a room that needs a later
room's types knows of that room. Nothing here is an exception to the order.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE = ROOT / "src" / "tocsin"
MODULES = sorted(SOURCE.rglob("*.py"))

# A room may import rooms that stand in an earlier row, and itself. Files beside the rooms stand where they belong.
ORDER = (
    ("model", "server_events", "memory", "packed", "duration", "saying", "services", "privileges"),
    ("formats", "sources"),
    ("rules",),
    ("config_values", "config_model", "config_keys", "config"),
    ("fail2ban",),
    ("detect",),
    ("decide",),
    ("enforce",),
    ("ledger",),
    (
        *("announce", "control", "daemon", "importing", "enforcing", "reading", "pipeline", "resolving", "wiring"),
        *("ahead", "replay", "watching", "learning", "sparing", "acting", "steering", "telling", "loop"),
        *("jailed_bans", "jailing", "guard", "supervise"),
    ),
    ("explain",),
    ("cli",),
)
RANK = {room: rank for rank, row in enumerate(ORDER) for room in row}
PURE = ("model", "server_events", "duration", "services", "formats", "detect", "decide")
IMPURE_MODULES = frozenset(
    (
        "os", "sys", "time", "socket", "select", "selectors", "subprocess", "sqlite3", "threading", "multiprocessing",
        "asyncio", "concurrent", "random", "secrets", "uuid", "logging", "signal", "shutil", "tempfile", "pathlib",
        "io", "glob", "urllib", "http", "tomllib",
    )
)  # fmt: skip
IMPURE_CALLS = frozenset(("now", "utcnow", "today", "open", "input", "print", "exec", "eval", "__import__"))
MOST_LINES, MANY_LINES = 600, 400


def room_of(path: Path) -> str:
    """The room, or the file beside the rooms, that a module belongs to."""
    return path.relative_to(SOURCE).parts[0].removesuffix(".py")


def imports(path: Path) -> Iterator[tuple[int, str]]:
    """Line and full name of everything that a module imports, wherever in it."""
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}:{node.lineno}: a relative import"
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)


def rooms_imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and room of what a module imports of our own."""
    for line, name in imports(path):
        parts = name.split(".")
        if parts[0] == "tocsin" and parts[1] != "__version__":
            yield line, parts[1]


def test_every_module_has_its_place() -> None:
    assert {room_of(path) for path in MODULES} - {"__init__"} == set(RANK)


def test_no_room_imports_a_later_one() -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {room_of(path)} imports {room}"
        for path in MODULES
        for line, room in rooms_imported(path)
        if RANK[room] > RANK[room_of(path)]
    ]
    assert not wrong


@pytest.mark.parametrize("room", ["sources", "formats"])
def test_sources_and_formats_know_the_nouns_alone(room: str) -> None:
    for path in (SOURCE / room).glob("*.py"):
        assert {name for _, name in rooms_imported(path)} <= {room, "model", "server_events"}, path


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_import_nothing_that_acts(room: str) -> None:
    wrong = [
        f"{path.relative_to(ROOT)}:{line}: {name}"
        for path in MODULES
        if room_of(path) == room
        for line, name in imports(path)
        if name.split(".")[0] in IMPURE_MODULES
    ]
    assert not wrong


@pytest.mark.parametrize("room", PURE)
def test_pure_rooms_read_no_clock_and_no_file(room: str) -> None:
    """`datetime` is there for arithmetic; what asks it for the present moment is not."""
    wrong = []
    for path in MODULES:
        for node in ast.walk(ast.parse(path.read_text())) if room_of(path) == room else ():
            if isinstance(node, ast.Call):
                called = node.func
                name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
                if name in IMPURE_CALLS:
                    wrong.append(f"{path.relative_to(ROOT)}:{node.lineno}: {name}()")
    assert not wrong


def test_what_reasons_about_an_outage_touches_nothing() -> None:
    """In the room of explanations `evidence` reads, `effect` replays; all else only thinks and speaks."""
    room = SOURCE / "explain"
    for path in room.rglob("*.py"):
        used = {name.split(".")[0] for _, name in imports(path)}
        if path.parent.name != "evidence" and path.stem != "effect":
            assert not used & IMPURE_MODULES - {"pathlib"}, path  # names of files are taken apart, none is opened
        assert path.stem == "table" or "duckdb" not in used, f"{path}: DuckDB is reached from one place"


def test_the_language_of_rules_touches_no_disk() -> None:
    """`load` alone does, in the room of the rules."""
    for path in (SOURCE / "rules").glob("*.py"):
        if path.name != "load.py":
            assert not {name.split(".")[0] for _, name in imports(path)} & IMPURE_MODULES - {"tomllib"}, path


def test_no_file_is_too_long() -> None:
    """At 600 lines a file is split; those that ask for it are named."""
    paths = [path for part in ("src", "tests", "bench", "demo") for path in (ROOT / part).rglob("*.py")]
    lengths = {str(path.relative_to(ROOT)): path.read_text().count("\n") for path in paths}
    long = "\n".join(f"{count:>5} {name}" for name, count in sorted(lengths.items()) if count > MANY_LINES)
    assert not [name for name, count in lengths.items() if count > MOST_LINES], f"more than {MANY_LINES}:\n{long}"


def loaded_by(module: str) -> set[str]:
    """Everything that a new interpreter has loaded once it has imported a module."""
    code = f"import sys; before = set(sys.modules); import {module}; print('\\n'.join(set(sys.modules) - before))"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return set(ran.stdout.split())


def packages(modules: set[str]) -> set[str]:
    return {name.partition(".")[0] for name in modules}


@pytest.mark.parametrize("module", ["tocsin.guard", "tocsin.supervise", "tocsin.enforce.__main__"])
def test_what_runs_all_day_loads_nothing_it_does_not_use(module: str) -> None:
    loaded = loaded_by(module)
    assert module in loaded
    assert not packages(loaded) & {"rich", "typer", "click", "duckdb", "pydantic", "asyncio", "http", "ssl", "unittest"}
    assert not {name for name in loaded if name.startswith("tocsin.cli")}


@pytest.mark.parametrize("module", ["tocsin.guard", "tocsin.supervise", "tocsin.enforce.__main__"])
def test_who_has_no_fail2ban_loads_nothing_of_it(module: str) -> None:
    loaded = loaded_by(module)
    assert not {name for name in loaded if name.startswith("tocsin.fail2ban")} | (packages(loaded) & {"regex"})


def test_the_enforcer_knows_no_log() -> None:
    """Who holds CAP_NET_ADMIN reads no line that an attacker wrote, and loads nothing that could."""
    loaded = loaded_by("tocsin.enforce.__main__")
    rooms = {name.split(".")[1] for name in loaded if name.startswith("tocsin.")}
    assert not rooms & {"sources", "detect", "ledger", "pipeline", "guard", "decide"}
    assert not packages(loaded) & {"hyperscan", "sqlite3", "zstandard"}


# Written with a bracket in each, so that this file does not hold what it looks for.
FORBIDDEN = {
    "a developer's path": r"/[h]ome/[a-z]+/|/[U]sers/[a-z]+/|/[w]ork/(?:main|shared|inc)|/[t]mp/w\b|[p]yenv",
    "the name of a package registry": r"[p]ypi\.org|[p]ythonhosted|[n]pmjs\.",
}


@pytest.mark.parametrize("text", ["{}home/jdoe/x", "{}work/main/src", "{}tmp/w/x", "~/.{}env/versions"])
def test_such_paths_would_be_found(text: str) -> None:
    line = text.format("py" if "env" in text else "/")
    assert re.search(FORBIDDEN["a developer's path"], line)


def tracked() -> list[Path]:
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    return [ROOT / name for name in listed.split("\0") if name and (ROOT / name).is_file()]


@pytest.mark.parametrize("what", FORBIDDEN)
def test_no_tracked_file_names(what: str) -> None:
    pattern = re.compile(FORBIDDEN[what])
    found = []
    for path in tracked():
        for number, line in enumerate(path.read_text(encoding="utf-8", errors="replace").splitlines(), 1):
            if pattern.search(line):
                found.append(f"{path.relative_to(ROOT)}:{number}: {line.strip()[:120]}")
    assert not found


def commands() -> set[str]:
    """The commands that the program itself names."""
    ran = subprocess.run(
        [sys.executable, "-m", "tocsin.cli.main", "--help"], capture_output=True, text=True, check=True
    )
    return set(re.findall(r"^  ([a-z0-9]+)  +\S", ran.stdout.partition("Commands:")[2], re.MULTILINE))


def test_every_command_is_documented() -> None:
    """Each has a chapter of its own, and each chapter a command; `rules test` stands below `rules`."""
    headings = set(re.findall(r"^#+ tocsin (.+)$", (ROOT / "docs" / "commands.md").read_text(), re.MULTILINE))
    assert {heading.split()[0] for heading in headings} == commands()
    assert commands() <= headings


def test_the_designed_commands_are_there() -> None:
    assert commands() >= {"guard", "replay", "explain", "status", "bans", "ban", "unban", "why", "rules", "check"}
