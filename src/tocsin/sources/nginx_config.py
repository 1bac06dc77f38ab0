"""nginx's configuration, read for one question: which logs does it write, in which format, for which server?

Facts: the nginx documentation (ngx_http_log_module, core `error_log`, `include`), its lexer's rules for quotes and
variables, and the configurations that Debian, RHEL and nginx.org ship.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct

from tocsin.sources.found import Declared, Findings, Includer, LogKind, literal, printable
from tocsin.sources.rooted import RootedTree

# (main configuration, prefixes that a relative log path may stand under: Debian and RHEL compile /usr/share/nginx in)
LAYOUTS = (
    ("/etc/nginx/nginx.conf", ("/usr/share/nginx", "/etc/nginx")),
    ("/usr/local/nginx/conf/nginx.conf", ("/usr/local/nginx",)),
    ("/usr/local/openresty/nginx/conf/nginx.conf", ("/usr/local/openresty/nginx",)),
)
DEFAULT_ACCESS = "/var/log/nginx/access.log"
DEFAULT_ERROR = "/var/log/nginx/error.log"
_TELL_PATH = "name the file it ends in under [[log]]"
_OTHER_PROTOCOLS = frozenset({"stream", "mail"})  # their logs hold no HTTP requests
_TOKEN = re.compile(
    r"""\s++|\#[^\n]*+|(?P<mark>[;{}])
    |"(?P<double>(?:[^"\\]|\\.)*+)"|'(?P<single>(?:[^'\\]|\\.)*+)'
    |(?P<bare>(?:\\.|\$\{[^}\s]*+\}?|[^\s;{\\])++)|(?P<stray>.)""",
    re.DOTALL | re.VERBOSE,
)
_ESCAPE = re.compile(r"""\\(["'\\trn])""")
_CONTROL = {"t": "\t", "r": "\r", "n": "\n"}
_VARIABLE = re.compile(r"\$(?:\{\w+\}|\w+)")
_BRACE = re.compile(r"[{}]")


class _Directive(Struct):
    name: str
    arguments: list[str]
    where: str
    block: list[_Directive] | None = None


class _Scope(Struct):
    """What a level of nesting passes down."""

    vhost: str | None = None
    has_access_log: bool = False
    in_http: bool = False


def read_nginx(tree: RootedTree, findings: Findings) -> bool:
    """Read every nginx configuration of the machine into `findings`; False where there is none."""
    present = False
    for path, prefixes in LAYOUTS:
        try:
            tree.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # there, or perhaps there: reading it reports why it cannot be read
            pass
        present = True
        reader = _Reader(Includer(tree, findings), path.rpartition("/")[0], prefixes)
        reader.walk(path)
    return present


class _Reader:
    def __init__(self, includer: Includer, conf_dir: str, prefixes: tuple[str, ...]) -> None:
        self._includer = includer
        self._conf_dir = conf_dir
        self._prefixes = prefixes
        self._formats: dict[str, str] = {}
        self._default_needed = False
        self._error_log_seen = False

    def walk(self, path: str) -> None:
        """Read the main file and declare what it and its includes log."""
        tree = self._load(path, "")
        if tree is None:
            return
        self._collect_formats(tree)
        self._level(tree, _Scope())
        if self._default_needed:
            self._declare(DEFAULT_ACCESS, "access", "combined", None, "nginx's default", "")
        if not self._error_log_seen:
            self._declare(DEFAULT_ERROR, "error", "", None, "nginx's default", "")

    def _load(self, path: str, found_in: str) -> list[_Directive] | None:
        """The directives of a file, includes put in their place."""
        text = self._includer.enter(path, found_in)
        if text is None:
            return None
        directives = self._expand(_parse(text, printable(path)))
        self._includer.leave()
        return directives

    def _expand(self, directives: list[_Directive]) -> list[_Directive]:
        whole: list[_Directive] = []
        for directive in directives:
            if directive.name == "include" and directive.arguments and directive.block is None:
                target = directive.arguments[0]
                pattern = target if target.startswith("/") else f"{self._conf_dir}/{target}"
                paths = self._includer.expand(pattern, directive.where)
                if not paths and not re.search(r"[*?\[]", pattern):
                    paths = [pattern]  # nginx refuses to start without it: entering it reports it
                for path in paths:
                    whole += self._load(path, directive.where) or []
                continue
            if directive.block is not None:
                directive.block = self._expand(directive.block)
            whole.append(directive)
        return whole

    def _collect_formats(self, directives: list[_Directive]) -> None:
        for directive in directives:
            if directive.name == "log_format" and len(directive.arguments) > 1:
                name, *pieces = directive.arguments
                escape = pieces.pop(0) + " " if pieces[0].startswith("escape=") else ""
                self._formats[name] = f"nginx {escape}{''.join(pieces)}"
            elif directive.block is not None and directive.name not in _OTHER_PROTOCOLS:
                self._collect_formats(directive.block)

    def _level(self, directives: list[_Directive], outer: _Scope) -> None:
        """One block: its own `access_log`s stand in place of the outer ones, all of them."""
        own = [directive for directive in directives if directive.name == "access_log" and directive.arguments]
        scope = _Scope(outer.vhost, outer.has_access_log or bool(own), outer.in_http)
        for directive in own:
            self._access_log(directive, scope.vhost)
        for directive in directives:
            if directive.name == "error_log" and directive.arguments:
                self._error_log(directive, scope.vhost)
            elif directive.block is not None and directive.name not in _OTHER_PROTOCOLS:
                self._block(directive, directive.block, scope)

    def _block(self, directive: _Directive, block: list[_Directive], scope: _Scope) -> None:
        inner = _Scope(scope.vhost, scope.has_access_log, scope.in_http or directive.name == "http")
        if directive.name == "server":
            inner.vhost = _server_name(block)
            silent = not any(each.name == "access_log" for each in block)
            self._default_needed |= scope.in_http and silent and not scope.has_access_log
        self._level(block, inner)

    def _access_log(self, directive: _Directive, vhost: str | None) -> None:
        target, *rest = directive.arguments
        if target == "off":
            return
        if any(option == "gzip" or option.startswith("gzip=") for option in rest):
            remedy = "drop gzip= from the access_log; `tocsin replay` reads the finished file"
            self._includer.findings.refuse(target, "nginx compresses it as it writes", remedy, directive.where)
            return
        notes = [
            f"written in blocks of {option[7:]}, so lines come late" for option in rest if option.startswith("buffer=")
        ]
        notes += [f"holds only requests where {option[3:]} is set" for option in rest if option.startswith("if=")]
        name = next((option for option in rest if "=" not in option), "combined")
        text = self._formats.get(name, "combined" if name == "combined" else "")
        if not text:
            notes.append(f'no log_format is named "{printable(name)}"')
        self._target(target, "access", text, vhost, directive.where, printable("; ".join(notes)))

    def _error_log(self, directive: _Directive, vhost: str | None) -> None:
        self._error_log_seen = True
        target = directive.arguments[0]
        if not target.startswith("memory:"):
            self._target(target, "error", "", vhost, directive.where, "")

    def _target(self, target: str, kind: LogKind, text: str, vhost: str | None, where: str, note: str) -> None:
        if target.startswith("syslog:") or target == "stderr":
            place = "stderr" if target == "stderr" else "syslog"
            self._includer.findings.refuse(target, f"goes to {place}, not to a file", _TELL_PATH, where)
            return
        pieces = [literal(piece) for piece in _VARIABLE.split(target)]
        self._declare(re.sub(r"\*{2,}", "*", "*".join(pieces)), kind, text, vhost, where, note)

    def _declare(self, path: str, kind: LogKind, text: str, vhost: str | None, where: str, note: str) -> None:
        found = Declared(self._absolute(path), kind, text, vhost, where, "nginx", note)
        self._includer.findings.declared.append(found)

    def _absolute(self, path: str) -> str:
        if path.startswith("/"):
            return path
        places = [f"{prefix}/{path}" for prefix in self._prefixes]
        return next((place for place in places if self._includer.tree.glob(place)[0]), places[0])


def _server_name(block: list[_Directive]) -> str | None:
    """The first name of a server that is a name: not the catch-all, not a regex."""
    for directive in block:
        if directive.name == "server_name":
            for name in directive.arguments:
                if name not in ("", "_") and not name.startswith("~"):
                    return printable(name.lstrip("."))
    return None


def _tokens(text: str) -> Iterator[tuple[str, str, int]]:
    """(kind, value, line): `mark` for `;{}`, `word` for everything else. Bodies of Lua blocks are left out."""
    position, line, first = 0, 1, ""
    while (match := _TOKEN.match(text, position)) is not None:
        kind, end = match.lastgroup, match.end()
        if kind == "mark":
            yield "mark", match[0], line
            if match[0] == "{" and first.endswith("_by_lua_block"):
                end = _closing_brace(text, end)
            first = ""
        elif kind is not None:
            word = match[0] if kind in ("bare", "stray") else _ESCAPE.sub(_unescape, match[kind])
            first = first or word
            yield "word", word, line
        line += text.count("\n", position, end)
        position = end


def _unescape(match: re.Match[str]) -> str:
    return _CONTROL.get(match[1], match[1])


def _parse(text: str, path: str) -> list[_Directive]:
    """The directives of one file. Unbalanced braces and a missing last semicolon are taken as well as they can be."""
    top: list[_Directive] = []
    blocks = [top]
    words: list[str] = []
    first_line = 0
    for kind, value, line in _tokens(text):
        if kind == "word":
            first_line = first_line if words else line
            words.append(value)
            continue
        if value != "}" and words:
            directive = _Directive(words[0], words[1:], f"{path}:{first_line}", [] if value == "{" else None)
            blocks[-1].append(directive)
            if directive.block is not None:
                blocks.append(directive.block)
        elif value == "}" and len(blocks) > 1:
            blocks.pop()
        words = []
    if words:
        blocks[-1].append(_Directive(words[0], words[1:], f"{path}:{first_line}"))
    return top


def _closing_brace(text: str, start: int) -> int:
    """The position of the brace that closes a block of Lua, whose quotes are not nginx's."""
    depth = 1
    for match in _BRACE.finditer(text, start):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return match.start()
    return len(text)
