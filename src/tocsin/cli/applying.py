"""`tocsin explain --apply`: gives the rule of a remedy to the running guard, after asking."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli.asking import ask
from tocsin.cli.failure import DATA, NO_PERMISSION, UNAVAILABLE, USAGE, Failure
from tocsin.cli.output import Output, safe
from tocsin.rules import RuleErrors, read_rules

if TYPE_CHECKING:
    from tocsin.config import Config
    from tocsin.explain.model import Remedy, Report


def apply_rules(out: Output, report: Report, config: Config, *, yes: bool) -> None:
    """Ask for each rule that the report proposes, write it among the configuration's rules, and have the guard read
    them again. A rule that the guard refuses is taken back. Failure where there is nobody to ask, or it cannot be done.
    """
    rules = {remedy.rule: remedy for incident in report.incidents for remedy in incident.remedies if remedy.rule}
    if not rules:
        out.note("nothing to apply: no rule follows from this report")
        return
    if not yes and not sys.stdin.isatty():
        raise Failure(USAGE, "--apply asks before it changes anything: run it on a terminal, or add --yes")
    folder = _folder(config)
    absent: Failure | None = None
    for remedy in rules.values():
        if yes or _agreed(remedy):
            absent = _apply(out, config, folder / f"{remedy.rule}.toml", remedy) or absent
        else:
            out.note(f"{remedy.rule}: left out")
    if absent is not None:
        raise Failure(absent.code, f"no guard took what is written: {absent.lines[0]}") from absent


def _folder(config: Config) -> Path:
    """The first folder that the configuration takes rules from; Failure where it names files alone."""
    folders = [path for path in map(Path, config.rules.paths) if not path.is_file()]
    if not folders:
        raise Failure(USAGE, "[rules] paths names no folder; add one, such as /etc/tocsin/rules.d")
    return folders[0]


def _agreed(remedy: Remedy) -> bool:
    print(f"\n{safe_lines(remedy.apply)}", file=sys.stderr)
    print(f"Give the rule {safe(remedy.rule)} to the running guard? [y/N] ", end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower() in {"y", "yes", "o", "oui", "j", "ja"}


def safe_lines(text: str) -> str:
    """Several lines, each made printable."""
    return "\n".join(map(safe, text.splitlines()))


def _apply(out: Output, config: Config, file: Path, remedy: Remedy) -> Failure | None:
    """Write a rule and have it read. What `ask` raised where no guard took it: it stays written."""
    try:
        read_rules(remedy.apply, str(file), {})
    except RuleErrors as error:
        raise Failure(DATA, f"the rule {remedy.rule} is not sound, which is a mistake in tocsin: {error}") from error
    try:
        there = _written(file, remedy.apply)
    except OSError as error:
        code = NO_PERMISSION if isinstance(error, PermissionError) else UNAVAILABLE
        raise Failure(code, f"{file}: {error.strerror}; run as root (sudo)") from error
    if there is None:
        out.note(f"{file} is there and says something else: left as it is; delete it to have this rule written")
        return None
    try:
        reply = ask(config, {"cmd": "reload"})
    except Failure as absent:
        out.note(f"{file} is written")
        return absent
    if reply["errors"]:
        if not there:
            file.unlink()
        raise Failure(UNAVAILABLE, f"the guard refused the rule, and it was taken back: {'; '.join(reply['errors'])}")
    out.note(f"{remedy.rule}: at work; it stands in {file} (delete it and run `systemctl reload tocsin` to undo)")
    return None


def _written(file: Path, text: str) -> bool | None:
    """Write a new file. True where it said the same already; None where it says something else, which is not ours."""
    file.parent.mkdir(parents=True, exist_ok=True)
    try:
        with file.open("x", encoding="utf-8") as new:
            new.write(text)
    except FileExistsError:
        return True if file.read_bytes() == text.encode() else None
    return False
