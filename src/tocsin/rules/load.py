"""Reads rule files: the shipped ones, and those that users name. The one place of this room that touches the disk."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

from msgspec import structs

from tocsin.rules.language import Rule, RuleError, RuleErrors
from tocsin.rules.mistakes import nearest
from tocsin.rules.tables import read_rules

SHIPPED = Path(__file__).parent / "shipped"


@cache
def load_shipped() -> tuple[Rule, ...]:
    """The rules that come with the program, in the order of their files."""
    rules: list[Rule] = []
    for path in sorted(SHIPPED.glob("*.toml")):
        rules += read_rules(path.read_text(encoding="utf-8"), f"shipped/{path.name}", shipped=True)
    return tuple(rules)


def load_rules(paths: Iterable[Path], base: Sequence[Rule] | None = None) -> tuple[Rule, ...]:
    """The shipped rules (or `base`), adjusted and followed by those of the files; of a directory, its `*.toml` by name.

    RuleErrors has every mistake of every file: what cannot be read, what is wrong in it, ids that stand twice.
    """
    shipped = {rule.id: rule for rule in (load_shipped() if base is None else base)}
    rules = dict(shipped)
    seen: dict[str, Rule] = {}
    errors: list[RuleError] = []
    for path in _files(paths, errors):
        for rule in _read(path, shipped, errors):
            if rule.id in seen:
                first = seen[rule.id].origin
                problem = f"this rule stands already in {first.file}, line {first.line}"
                errors.append(RuleError(rule.origin.file, rule.origin.line, rule.id, problem))
            seen[rule.id] = rules[rule.id] = rule
    if errors:
        raise RuleErrors(tuple(errors))
    return tuple(rules.values())


def only(rules: Sequence[Rule], ids: Sequence[str]) -> tuple[Rule, ...]:
    """The named rules, switched on even if they were off. ValueError names an unknown id and the nearest known one."""
    by_id = {rule.id: rule for rule in rules}
    for rule_id in ids:
        if rule_id not in by_id:
            near = nearest(rule_id, by_id)
            hint = f'; did you mean "{near}"?' if near else ""
            raise ValueError(f'there is no rule "{rule_id}"{hint}')
    return tuple(structs.replace(by_id[rule_id], enabled=True) for rule_id in dict.fromkeys(ids))


def _files(paths: Iterable[Path], errors: list[RuleError]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        if not path.is_dir():
            files.append(path)
            continue
        inside = sorted(path.glob("*.toml"))
        if not inside:
            errors.append(RuleError(str(path), 0, "", "no *.toml in this directory"))
        files += inside
    return files


def _read(path: Path, shipped: dict[str, Rule], errors: list[RuleError]) -> tuple[Rule, ...]:
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        errors.append(RuleError(str(path), 0, "", f"cannot be read: {error.strerror}"))
        return ()
    except UnicodeDecodeError as error:
        errors.append(RuleError(str(path), 0, "", f"not UTF-8 at byte {error.start}; TOML is UTF-8"))
        return ()
    try:
        return read_rules(text, str(path), shipped)
    except RuleErrors as found:
        errors += found.errors
        return ()
