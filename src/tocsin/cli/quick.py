"""Reads the arguments of `tocsin replay` as typer would, in a thousandth of the time.

Only what is plain is read here. At the first argument that is not (help, a mistake, `--`) typer reads all of them, so
that there is one wording of help and of errors. A test holds that both read the same.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

_FLAGS = {"--json": ("as_json", True), "--prefilter": ("prefilter", True), "--no-prefilter": ("prefilter", False)}
_ONCE: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--format": ("log_format", str),
    "--now": ("now", float),
    "--tz": ("tz", str),
    "--fail2ban": ("fail2ban", Path),
}
_REPEATED: dict[str, tuple[str, Callable[[str], Any]]] = {
    "--rules": ("rules", Path),
    "--only": ("only", str),
    "--jail": ("jails", str),
    "--trusted-proxy": ("trusted_proxy", str),
}
_EPOCH = re.compile(r"[0-9]{1,11}(?:\.[0-9]{1,9})?").fullmatch


def replay_arguments(arguments: Sequence[str]) -> dict[str, Any] | None:
    """The arguments of `replaying.run`; None where typer is to read them."""
    known: dict[str, Any] = {"logs": []}
    rest = iter(arguments)
    for argument in rest:
        if argument in _FLAGS:
            name, value = _FLAGS[argument]
            known[name] = value
        elif argument == "-" or (argument and not argument.startswith("-")):
            known["logs"].append(Path(argument))
        elif not _take_value(known, argument, rest):
            return None
    return known if known["logs"] else None


def _take_value(known: dict[str, Any], argument: str, rest: Any) -> bool:
    """Take an option and its value; False where this is not for us."""
    option, equals, text = argument.partition("=")
    if not equals:
        text = next(rest, "")
    if not text or text.startswith("-") or (option == "--now" and not _EPOCH(text)):
        return False
    if option in _ONCE:
        name, read = _ONCE[option]
        known[name] = read(text)
    elif option in _REPEATED:
        name, read = _REPEATED[option]
        known.setdefault(name, []).append(read(text))
    else:
        return False
    return True
