"""Runs the command line inside the test's own process, and a log to run it on."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from tocsin.cli.main import main

FOUNDING = "\n".join(
    f'63.251.225.{host} - - [20/Jun/2016:11:17:{second} -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" '
    '"Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"'
    for host, second in ((206, 34), (206, 34), (206, 36), (206, 36), (207, 41), (207, 41), (207, 43), (207, 43))
)
RULE = """[mine]
title  = "XML-RPC flood"
on     = "http-request"
where  = { method = "POST", path = "/xmlrpc.php" }
by     = "address"
limit  = 3
within = "10m"
ban    = "66h40m"
"""


class Ran(NamedTuple):
    """How a command ended and what it said."""

    code: int
    out: str
    err: str

    @property
    def rows(self) -> list[dict[str, Any]]:
        """The JSON objects that it printed."""
        return [json.loads(line) for line in self.out.splitlines()]


class Stream(io.TextIOWrapper):
    """A stream as the interpreter makes them, into memory; a terminal if told so."""

    def __init__(self, *, terminal: bool = False) -> None:
        self.bytes = io.BytesIO()
        self.terminal = terminal
        super().__init__(self.bytes, encoding="utf-8", errors="surrogateescape", write_through=True)

    def isatty(self) -> bool:
        """Whether it plays a terminal."""
        return self.terminal

    def text(self) -> str:
        """What was written."""
        return self.bytes.getvalue().decode("utf-8")


@contextmanager
def streams(out: Stream, err: Stream) -> Iterator[None]:
    """Standard output and error are these."""
    kept = sys.stdout, sys.stderr
    sys.stdout, sys.stderr = out, err
    try:
        yield
    finally:
        sys.stdout, sys.stderr = kept


def run(arguments: Sequence[str | Path], *, terminal: bool = False) -> Ran:
    """Run `tocsin ARGUMENTS`."""
    out, err = Stream(terminal=terminal), Stream()
    with streams(out, err):
        code = main([str(each) for each in arguments])
    return Ran(code, out.text(), err.text())


def founding_log(folder: Path) -> Path:
    """The access log of the founding incident, and beside it the rule as `mine.toml`."""
    log = folder / "access.log"
    log.write_text(FOUNDING + "\n")
    (folder / "mine.toml").write_text(RULE)
    return log


def config_in(folder: Path, more: str = "") -> Path:
    """A configuration whose folders are below `folder`, and that discovers nothing."""
    file = folder / "tocsin.toml"
    file.write_text(
        f'[guard]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n'
        f'[logs]\ndiscover = false\njournal = "off"\n{more}'
    )
    return file
