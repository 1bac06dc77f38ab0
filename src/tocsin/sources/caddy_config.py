"""A Caddyfile, read for one question: which access logs go to files?

Facts: the Caddy 2 documentation (Caddyfile concepts, the `log` directive and global option, `import`, environment
placeholders). Caddy writes no access log unless a site says `log`; where that names no file, it goes to standard error
and so to the journal.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from tocsin.sources.found import Declared, Findings, Includer, literal, printable
from tocsin.sources.rooted import RootedTree, has_magic

CADDYFILE = "/etc/caddy/Caddyfile"
_TOKEN = re.compile(
    r"""(?P<newline>\n)|[^\S\n]++|(?<!\S)\#[^\n]*+|\\\n
    |"(?P<double>(?:[^"\\]|\\.)*+)"|`(?P<raw>[^`]*+)`
    |(?<!\S)(?P<mark>[{}])(?!\S)|(?P<bare>\S++)""",
    re.DOTALL | re.VERBOSE,
)
_ENVIRONMENT = re.compile(r"\{\$[^:}]+(?::([^}]*))?\}")
_PLACEHOLDER = re.compile(r"\{[^}]*\}")


class _Line(Struct):
    """One line of words, and the block that it opens."""

    words: list[str]
    where: str
    block: list[_Line] | None = None


def read_caddy(tree: RootedTree, findings: Findings) -> bool:
    """Read the machine's Caddyfile into `findings`; False where there is none."""
    try:
        tree.stat(CADDYFILE)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except OSError:  # there, or perhaps there: reading it reports why it cannot be read
        pass
    reader = _Reader(Includer(tree, findings))
    for line in reader.load(CADDYFILE, ""):
        reader.top(line)
    return True


class _Reader:
    def __init__(self, includer: Includer) -> None:
        self._includer = includer
        self._snippets: dict[str, list[_Line]] = {}
        self._importing: list[str] = []

    def load(self, path: str, found_in: str) -> list[_Line]:
        """The lines of a file, files that it imports put in their place, snippets remembered."""
        text = self._includer.enter(path, found_in)
        if text is None:
            return []
        lines = self._expand(_parse(text, printable(path)), path.rpartition("/")[0])
        self._includer.leave()
        return lines

    def top(self, line: _Line) -> None:
        """One top-level block: a site, or the global options."""
        if line.block is None:
            return
        vhost = _site_name(line.words)
        for inner in line.block:
            if inner.words[:1] == ["log"]:
                self._log(inner, vhost, is_global=not line.words)

    def _expand(self, lines: list[_Line], directory: str) -> list[_Line]:
        whole: list[_Line] = []
        for line in lines:
            first = line.words[0] if line.words else ""
            if first == "import" and len(line.words) > 1:
                whole += self._import(line.words[1], directory, line.where)
                continue
            if line.block is not None:
                line.block = self._expand(line.block, directory)
            if first.startswith("(") and first.endswith(")"):
                self._snippets[first[1:-1]] = line.block or []
                continue
            whole.append(line)
        return whole

    def _import(self, name: str, directory: str, where: str) -> list[_Line]:
        if name in self._snippets:
            return self._snippets[name]
        pattern = name if name.startswith("/") else f"{directory}/{name}"
        paths = self._includer.expand(pattern, where) if has_magic(pattern) else [pattern]
        return [line for path in paths for line in self.load(path, where)]

    def _log(self, line: _Line, vhost: str | None, *, is_global: bool) -> None:
        options = {inner.words[0]: inner for inner in line.block or [] if inner.words}
        output = options["output"].words[1:] if "output" in options else []
        if len(output) > 1 and output[0] == "file":
            shape = options["format"].words[1:2] if "format" in options else []
            text = "caddy-json" if shape in ([], ["json"]) else ""
            path = _ENVIRONMENT.sub(lambda match: match[1] or "*", output[1])
            pattern = "*".join(literal(piece) for piece in _PLACEHOLDER.split(path)) if "{" in path else path
            note = "Caddy's own messages, with the requests of sites that name no file" if is_global else ""
            self._includer.findings.declared.append(Declared(pattern, "access", text, vhost, line.where, "caddy", note))
        elif not is_global and output[:1] != ["discard"]:
            target = " ".join(output) or "stderr"
            remedy = "give the site `log { output file /var/log/caddy/access.log }`"
            self._includer.findings.refuse(target, "the access log goes to no file", remedy, line.where)


def _site_name(words: list[str]) -> str | None:
    """The host of a site's first address (`https://example.org:443/path`); None for a bare port or a catch-all."""
    if not words:
        return None
    host = words[0].rstrip(",").rpartition("://")[2].partition("/")[0]
    host = re.sub(r":[^:\]]*$", "", host)
    return printable(host) or None


def _parse(text: str, path: str) -> list[_Line]:
    """Lines and their blocks; unbalanced braces are taken as well as they can be."""
    top: list[_Line] = []
    blocks = [top]
    words: list[str] = []
    for kind, value, number in _tokens(text):
        if kind == "word":
            words.append(value)
            continue
        if value == "{":
            line = _Line(words, f"{path}:{number}", [])
            blocks[-1].append(line)
            blocks.append(line.block if line.block is not None else [])
        elif words and not (len(blocks) == 1 and words[-1].endswith(",")):
            blocks[-1].append(_Line(words, f"{path}:{number}"))
        else:
            if value == "}" and len(blocks) > 1:
                blocks.pop()
            continue
        if value == "}" and len(blocks) > 1:
            blocks.pop()
        words = []
    return _braceless(top)


def _braceless(lines: list[_Line]) -> list[_Line]:
    """A Caddyfile of one site may leave its braces out: the first line is then its address."""
    if len(lines) > 1 and lines[0].block is None and lines[0].words[:1] != ["import"]:
        return [_Line(lines[0].words, lines[0].where, lines[1:])]
    return lines


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, value, line): `word`, or `mark` for a brace or the end of a line."""
    position, number = 0, 1
    while (match := _TOKEN.match(text, position)) is not None:
        kind = match.lastgroup
        if kind in ("newline", "mark"):
            yield "mark", match[0], number
        elif kind is not None:
            yield "word", match[kind], number
        number += match[0].count("\n")
        position = match.end()
    yield "mark", "\n", number
