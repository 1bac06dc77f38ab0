"""Where a piped log ends: the file that `rotatelogs` or `cronolog` writes, as far as their arguments tell.

Facts: the manual pages of rotatelogs(8) of Apache 2.4 and cronolog(1).
"""

from __future__ import annotations

import re
import shlex

from tocsin.sources.found import literal

_STRFTIME = re.compile(r"%(?:[EO_^#0-]?[A-Za-z]|%)")
_VALUED = frozenset("Lnp")  # rotatelogs: the options that take a value


def strftime_glob(template: str) -> str:
    """A file name template as a glob: each date field becomes `*`, everything else stays itself."""
    pieces, end = [], 0
    for match in _STRFTIME.finditer(template):
        pieces += [literal(template[end : match.start()]), "%" if match[0] == "%%" else "*"]
        end = match.end()
    return re.sub(r"\*{2,}", "*", "".join([*pieces, literal(template[end:])]))


def piped_target(target: str) -> tuple[str | None, str]:
    """(path or glob that a piped log is written to, ""), or (None, why that cannot be known)."""
    command = target.lstrip("|$ ")
    try:
        words = shlex.split(command)
    except ValueError as error:
        return None, f"piped to a command that cannot be read ({error})"
    program = words[0].rsplit("/", 1)[-1] if words else ""
    if program.startswith("rotatelogs"):
        path = _rotatelogs(words[1:])
    elif program.startswith("cronolog"):
        path = next((strftime_glob(word) for word in words[1:] if not word.startswith("-")), None)
    else:
        path = None
    if path is None:
        return None, f"piped to {program or 'a command'}, which decides itself where the lines go"
    return path, ""


def _rotatelogs(words: list[str]) -> str | None:
    flags, rest = "", list(words)
    while rest and rest[0].startswith("-") and len(rest[0]) > 1:
        option = rest.pop(0)
        flags += option[1]
        if option[1] in _VALUED and len(option) == 2 and rest:
            rest.pop(0)
    if not rest:
        return None
    template = rest[0]
    if "n" in flags:
        return f"{literal(template)}*"  # a ring: FILE, FILE.1, FILE.2 ...
    if "t" in flags or _STRFTIME.search(template):
        return strftime_glob(template)  # -t: one file, truncated
    return f"{literal(template)}.*"  # the start of the period in seconds is appended
