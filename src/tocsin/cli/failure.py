"""How a command ends when it cannot do what was asked: an exit code of sysexits.h and lines that say what to do."""

from __future__ import annotations

import os

USAGE = os.EX_USAGE  # 64
DATA = os.EX_DATAERR  # 65
NO_INPUT = os.EX_NOINPUT  # 66
UNAVAILABLE = os.EX_UNAVAILABLE  # 69
INTERNAL = os.EX_SOFTWARE  # 70
NO_PERMISSION = os.EX_NOPERM  # 77
CONFIGURATION = os.EX_CONFIG  # 78
INTERRUPTED = 130
BROKEN_PIPE = 141  # as of a program that SIGPIPE ends

OF_SOURCE = {"no-input": NO_INPUT, "no-permission": NO_PERMISSION, "data": DATA}
"""The exit code of each kind of SourceError."""


class Failure(Exception):  # noqa: N818  it is how a command ends
    """Ends a command: `code`, and lines for standard error."""

    def __init__(self, code: int, *lines: str) -> None:
        super().__init__("\n".join(lines))
        self.code = code
        self.lines = lines
