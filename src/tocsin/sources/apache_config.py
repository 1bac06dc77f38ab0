"""Apache's configuration, read for one question: which logs does it write, in which format, for which virtual host?

Lenient where Apache is strict: both arms of `<IfDefine>`, `<IfModule>` and `<IfVersion>` are read, for a log too many
costs a line in a report and a log too few an attack unseen. Facts: the Apache 2.4 manual (configuring, mod_log_config,
mod_macro, core) and the shipped `apache2.conf` and `envvars` of Debian, `httpd.conf` of RHEL.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

from msgspec import Struct, field

from tocsin.sources.found import Declared, Findings, Includer, LogKind, literal, printable
from tocsin.sources.piped import piped_target
from tocsin.sources.rooted import RootedTree, has_magic, strerror

# (main configuration, ServerRoot compiled in, file of environment variables)
LAYOUTS = (
    ("/etc/apache2/apache2.conf", "/etc/apache2", "/etc/apache2/envvars"),
    ("/etc/apache2/httpd.conf", "/etc/apache2", "/etc/sysconfig/apache2"),
    ("/etc/httpd/conf/httpd.conf", "/etc/httpd", "/etc/sysconfig/httpd"),
    ("/usr/local/apache2/conf/httpd.conf", "/usr/local/apache2", "/usr/local/apache2/bin/envvars"),
)
COMMON = '%h %l %u %t "%r" %>s %b'  # what TransferLog writes where no LogFormat came before it
MAX_MACRO_LINES = 100_000  # macros that use macros can multiply
_WELL_KNOWN = frozenset({"common", "combined", "vhost_combined"})
_TELL_PATH = "name the file it ends in under [[log]]"
_ARGUMENT = re.compile(
    r"""\s*(?:"(?P<double>(?:[^"\\]|\\.)*+)"?|'(?P<single>(?:[^'\\]|\\.)*+)'?|(?P<bare>\S+))""",
    re.DOTALL,
)
_VARIABLE = re.compile(r"\$\{([^}:]+)\}")
_SHELL_ASSIGNMENT = re.compile(r"\s*(?:export\s+)?([A-Za-z_]\w*)=(.*)")
_SHELL_DEFAULT = re.compile(r"\s*:\s+\"?\$\{([A-Za-z_]\w*):?=([^}]*)\}")
_SHELL_VARIABLE = re.compile(r"\$(?:\{([A-Za-z_]\w*)(?::?-([^}]*))?[^}]*\}|([A-Za-z_]\w*))")


class _Log(Struct, frozen=True):
    target: str
    kind: LogKind
    format: str | None  # a nickname or a format string; None: the last LogFormat without a name
    found_in: str
    note: str = ""


class _Server(Struct):
    """The main server, or one `<VirtualHost>`."""

    name: str | None = None
    logs: list[_Log] = field(default_factory=list)
    formats: dict[str, str] = field(default_factory=dict)
    transfer_format: str | None = None


class _Macro(Struct, frozen=True):
    parameters: list[str]
    lines: list[tuple[str, str]] = field(default_factory=list)  # where, text


def read_apache(tree: RootedTree, findings: Findings) -> bool:
    """Read every Apache configuration of the machine into `findings`; False where there is none."""
    present = False
    for path, server_root, envvars in LAYOUTS:
        try:
            tree.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError:  # there, or perhaps there: reading it reports why it cannot be read
            pass
        present = True
        reader = _Reader(Includer(tree, findings), server_root, _shell_variables(tree, envvars))
        reader.read_file(path, "")
        reader.declare()
    return present


class _Reader:
    def __init__(self, includer: Includer, server_root: str, environment: dict[str, str]) -> None:
        self._includer = includer
        self._server_root = server_root
        self._variables = environment
        self._main = _Server()
        self._server = self._main
        self._servers = [self._main]
        self._macros: dict[str, _Macro] = {}
        self._macro: _Macro | None = None
        self._macros_in_use: list[str] = []
        self._macro_lines = 0

    def read_file(self, path: str, found_in: str) -> None:
        text = self._includer.enter(path, found_in)
        if text is None:
            return
        for number, line in _logical_lines(text):
            self._line(f"{printable(path)}:{number}", line)
        self._includer.leave()

    def declare(self) -> None:
        """Resolve formats and paths, which Apache too does only once everything is read."""
        for server in self._servers:
            for log in server.logs:
                self._declare(server, log)

    def _line(self, where: str, line: str) -> None:
        if self._macro is not None and not line.lower().startswith("</macro"):
            self._macro.lines.append((where, line))
            return
        if line.startswith("<"):
            self._section(line)
            return
        name, *rest = line.split(None, 1)
        arguments = _arguments(self._substitute(rest[0])) if rest else []
        if arguments:
            self._directive(name.lower(), arguments, where)

    def _section(self, line: str) -> None:
        name, *arguments = _arguments(self._substitute(line.strip("<>"))) or [""]
        match name.lower():
            case "virtualhost":
                self._server = _Server()
                self._servers.append(self._server)
            case "/virtualhost":
                self._server = self._main
            case "macro" if arguments:
                self._macro = _Macro(parameters=arguments[1:])
                self._macros[arguments[0].lower()] = self._macro
            case "/macro":
                self._macro = None
            case _:
                pass  # conditions and containers: what they hold is read as if they were not there

    def _directive(self, name: str, arguments: list[str], where: str) -> None:
        first = arguments[0]
        match name:
            case "serverroot":
                self._server_root = first
            case "define":
                self._variables[first] = arguments[1] if len(arguments) > 1 else ""
            case "undefine":
                self._variables.pop(first, None)
            case "include" | "includeoptional":
                self._include(first, where, optional=name == "includeoptional")
            case "use":
                self._use(first.lower(), arguments[1:], where)
            case "servername":
                self._server.name = _host_name(first)
            case "logformat" if len(arguments) > 1:
                self._server.formats[arguments[1]] = first
            case "logformat":
                self._server.transfer_format = first
            case "customlog" | "globallog" if len(arguments) > 1:
                server = self._main if name == "globallog" else self._server
                server.logs.append(_Log(first, "access", arguments[1], where, _condition(arguments[2:])))
            case "transferlog":
                self._server.logs.append(_Log(first, "access", None, where))
            case "errorlog":
                self._server.logs.append(_Log(first, "error", "", where))
            case _:
                pass  # the hundreds of directives that say nothing of logs

    def _include(self, target: str, where: str, *, optional: bool) -> None:
        pattern = self._absolute(target)
        if has_magic(pattern):
            paths = self._includer.expand(pattern, where)
        elif optional and not self._includer.expand(literal(pattern), where):
            return
        else:
            paths = [pattern]
        for path in paths:
            if self._includer.tree.is_dir(path):
                for name in self._names(path, where):
                    self._include(literal(f"{path}/{name}"), where, optional=True)
            else:
                self.read_file(path, where)

    def _names(self, directory: str, where: str) -> list[str]:
        try:
            return self._includer.tree.names(directory)
        except OSError as error:
            self._includer.findings.refuse(directory, strerror(error), "make the directory readable", where)
            return []

    def _use(self, name: str, values: list[str], where: str) -> None:
        macro = self._macros.get(name)
        if macro is None:
            self._includer.findings.refuse(
                name, "macro is used but nowhere defined", "define it, or remove the Use", where
            )
            return
        if name in self._macros_in_use:
            self._includer.findings.refuse(name, "macro uses itself", "remove that Use", where)
            return
        pairs = sorted(zip(macro.parameters, values, strict=False), key=lambda pair: -len(pair[0]))
        self._macros_in_use.append(name)
        for origin, text in macro.lines:
            self._macro_lines += 1
            if self._macro_lines > MAX_MACRO_LINES:
                self._includer.findings.refuse(
                    name, f"more than {MAX_MACRO_LINES} lines from macros", "use fewer", where
                )
                break
            line = text
            for parameter, value in pairs:
                line = line.replace(parameter, value)
            self._line(origin, line)
        self._macros_in_use.pop()

    def _declare(self, server: _Server, log: _Log) -> None:
        refuse = self._includer.findings.refuse
        if log.target.startswith("|"):
            path, reason = piped_target(log.target)
            if path is None:
                refuse(log.target, reason, _TELL_PATH, log.found_in)
                return
        elif log.target.startswith(("syslog", "journald")) and "/" not in log.target.partition(":")[0]:
            refuse(log.target, "goes to syslog or the journal, not to a file", _TELL_PATH, log.found_in)
            return
        else:
            path = literal(log.target)
        if unknown := _VARIABLE.search(path):
            refuse(path, f"{unknown[0]} is set neither by Define nor in envvars", _TELL_PATH, log.found_in)
            return
        text, note = self._format(server, log)
        notes = "; ".join(part for part in (log.note, note) if part)
        found = Declared(self._absolute(path), log.kind, text, server.name, log.found_in, "apache", notes)
        self._includer.findings.declared.append(found)

    def _format(self, server: _Server, log: _Log) -> tuple[str, str]:
        """The format spec, and what to say of it."""
        if log.kind != "access":
            return "", ""
        if log.format is None:
            return f"apache {server.transfer_format or self._main.transfer_format or COMMON}", ""
        known = server.formats.get(log.format) or self._main.formats.get(log.format)
        if known is not None:
            return f"apache {known}", ""
        if "%" in log.format:
            return f"apache {log.format}", ""
        if log.format in _WELL_KNOWN:
            return log.format, ""
        return "", f'no LogFormat is named "{printable(log.format)}"'

    def _substitute(self, text: str) -> str:
        return _VARIABLE.sub(lambda match: self._variables.get(match[1], match[0]), text) if "${" in text else text

    def _absolute(self, path: str) -> str:
        return path if path.startswith("/") else f"{self._server_root.rstrip('/')}/{path}"


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Directives with the number of their first line: continuations joined, comments and blank lines dropped."""
    start, held = 0, ""
    for number, line in enumerate(text.split("\n"), 1):
        start = start or number
        body = line.rstrip("\r")
        if body.endswith("\\"):
            held += body[:-1]
            continue
        whole = (held + body).strip()
        if whole and not whole.startswith("#"):
            yield start, whole
        start, held = 0, ""
    if held.strip() and not held.lstrip().startswith("#"):
        yield start, held.strip()


def _arguments(text: str) -> list[str]:
    """Words as Apache splits them: quotes group, a backslash escapes the quote or itself and nothing else."""
    words = []
    for match in _ARGUMENT.finditer(text):
        quote = "'" if match["single"] is not None else '"'
        word = next(group for group in match.groups() if group is not None)
        words.append(re.sub(rf"\\([\\{quote}])" if match["bare"] is None else r"\\(\\)", r"\1", word))
    return words


def _host_name(text: str) -> str:
    """The host of a ServerName, which may carry a scheme and a port."""
    host = text.rpartition("://")[2]
    return printable(re.sub(r":\d+$", "", host))


def _condition(rest: list[str]) -> str:
    return f"holds only requests where {printable(' '.join(rest))}" if rest else ""


def _shell_variables(tree: RootedTree, path: str) -> dict[str, str]:
    """Assignments of an `envvars` or sysconfig file, its conditions ignored; empty where there is none."""
    variables: dict[str, str] = {}
    try:
        text = tree.text(path)
    except OSError:  # a variable that stays unknown is reported where a log's path needs it
        return variables
    for line in text.split("\n"):
        match = _SHELL_ASSIGNMENT.match(line) or _SHELL_DEFAULT.match(line)
        if match is None:
            continue
        value = match[2].strip().split(" #")[0].strip()
        if value[:1] in ("'", '"') and value.endswith(value[0]) and len(value) > 1:
            value = value[1:-1]
        variables[match[1]] = _SHELL_VARIABLE.sub(lambda v: variables.get(v[1] or v[3]) or v[2] or "", value)
    return variables
