"""Writes docs/commands.md from the commands' own help: `python -m tocsin.cli.manual > docs/commands.md`."""

from __future__ import annotations

import sys

from typer.testing import CliRunner

from tocsin.cli.app import COMMANDS, application

BELOW = {
    "rules": ("test", "reset"),
    "setup": ("apache", "nginx"),
    "fail2ban": ("import", "status", "banned", "banip", "unbanip", "set", "get", "unban", "ping"),
}
HEAD = """# Commands

Written by `python -m tocsin.cli.manual > docs/commands.md` from what `--help` says; a test holds it fresh.

Every command prints tables and colour on a terminal (`NO_COLOR` is honoured), plain text in a pipe, and with `--json`
one JSON document, or one object a line where there are many ([JSON](json.md)). Text from logs and clients is shown with
control characters as escapes. Times are local on a terminal and UTC in a pipe. Errors and notes go to standard error.

| exit code | means |
| --- | --- |
| 0 | done |
| 64 | the arguments are wrong |
| 65 | the data cannot be read to its end, or no known format fits it |
| 66 | a file is not there |
| 69 | no guard runs, the firewall does not work, or there is no room to write |
| 70 | a mistake in tocsin itself (`TOCSIN_DEBUG=1` shows where) |
| 77 | permission missing, or refused because of the allow list |
| 78 | configuration or rules have mistakes; every one is named with its line |
| 130 | interrupted (Ctrl-C) |
"""


def manual() -> str:
    """The whole page."""
    parts = [HEAD]
    for name in COMMANDS:
        parts.append(_section(name))
        parts += [_section(name, below) for below in BELOW.get(name, ())]
    return "\n".join(parts)


def _section(*words: str) -> str:
    app = application([words[0]])
    shown = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "80", "TERM": "dumb"}, prog_name="tocsin")
    text = "\n".join(line.rstrip() for line in shown.stdout.rstrip().splitlines())
    return f"## tocsin {' '.join(words)}\n\n```text\n{text}\n```\n"


if __name__ == "__main__":
    sys.stdout.write(manual())
