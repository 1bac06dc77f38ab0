"""Shell text of actions: static tags filled in, dynamic tags turned into references to variables. Pure.

Nothing that a log says is ever spliced into text that a shell parses. A tag whose value is a typed address, a number
or a fixed word is written into the text; every other one becomes a reference to an environment variable, quoted for
the place where it stands: `"<matches>"` -> `"${f2bV_matches}"`, `'<matches>'` -> `'"${f2bV_matches}"'`. A shell does
not parse the value of a variable again, so whatever it holds is data. Two things remain, and are dealt with here: a
program that takes an argument as *its* program (`eval`, `sh -c`, `perl -e`, `ssh`), and words that name a program or a
file themselves: such a tag is refused; and a program
that reads backslashes in its arguments (`printf %b`, dash's `echo`): there they are doubled in the value, so that
what comes out is what was in the log.

The state of the quotes is found by reading the text once, left to right, as POSIX shells do. Where that reading is
mistaken the reference ends up unquoted, and is split into words: never run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping

from msgspec import Struct

TAG = re.compile(r"<([^ <>\n]+)>")
ROUNDS = 25
MAX_TEXT = 1 << 17  # what Linux takes as one argument of a program

_SEPARATORS = ";|&\n"
_WORD_START = " \t;|&(\n`"
# Programs that take text on their command line as a program of their own: always, or after such an option.
_REPARSE = frozenset(
    ("eval", "ssh", "source", "su", "runuser", "parallel", "watch", "trap", "awk", "gawk", "mawk", "nawk", "sed", "ed",
     "m4", "mysql", "mariadb", "psql", "sqlite", "sqlite3", "mongo", "mongosh", "redis-cli", "expect")
)  # fmt: skip
_REPARSE_WITH = {
    **dict.fromkeys(("sh", "bash", "dash", "zsh", "ksh", "mksh", "csh", "tcsh", "fish", "ash", "busybox"), "c"),
    **dict.fromkeys(("perl", "python", "python3", "ruby", "php", "node", "lua", "osascript"), "ecrE"),
}
_WRAPPERS = frozenset(
    ("xargs", "sudo", "env", "timeout", "nice", "ionice", "setpriv", "chroot", "nsenter", "doas", "flock")
)
_INTO_SHELL = re.compile(r"\|\s*(?:sudo\s+(?:-\S+\s+)*)?(?:/\S*/)?(?:ba|da|z|k|a)?sh\s*(?:-s?\s*)?(?=$|[;&|)\n`])")
_READS_BACKSLASHES = re.compile(r"%b|\becho\b")
_COMMAND = re.compile(
    r"(?:(?:if|then|else|elif|do|while|until|!|\{|time|exec|command|nohup|sudo(?:\s+-\S+)*|env|timeout(?:\s+-\S+)*\s+\d\S*|"
    r"[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s\"'])*)\s+)*"
    r"(?P<word>[^\s;|&(){}<>=\"'`$#]+)(?=\s|$)"
)
# Where the next word, or what is still missing of it, is the program to be run, or a file to be written or read.
_AT_COMMAND = re.compile(
    r"(?:(?:if|then|else|elif|do|while|until|!|\{|time|exec|command|nohup|sudo(?:\s+-\S+)*|env|xargs(?:\s+-\S+)*|"
    r"[A-Za-z_]\w*=(?:\"[^\"]*\"|'[^']*'|[^\s\"'])*)\s+)*(?![A-Za-z_]\w*=)[^\s<>]*\Z"
)
_AT_FILE = re.compile(r"[<>][|&]?\s*(?:\"[^\"]*|'[^']*|[^\s\"'<>]*)\Z")
_HERE = re.compile(r"<<<|<<-?[ \t]*[\\'\"]?(\w+)['\"]?|<<")
_KEYWORDS = frozenset(
    ("if", "then", "else", "elif", "fi", "do", "done", "for", "in", "while", "until", "case", "esac", "time", "{", "}",
     "function", "!", "[", "[[", "test")
)  # fmt: skip


class Reference(Struct, frozen=True):
    """A dynamic tag in a text: its name, the name of its variable, and what stands in the tag's place."""

    tag: str
    variable: str
    text: str


class ShellText(Struct, frozen=True):
    """A text with places for dynamic tags: `parts[i]` comes before `places[i]`, the last part after all of them.

    `reparsed` are the tags that stand where another program would read their value as its own text, each with that
    program. `doubles_backslashes`: some program in it reads backslashes in its arguments.
    """

    parts: tuple[str, ...]
    places: tuple[Reference, ...]
    reparsed: tuple[tuple[str, str], ...] = ()
    doubles_backslashes: bool = False

    def render(self, spliced: Callable[[str], str | None]) -> tuple[str, dict[str, str]]:
        """The text, and which variables it refers to (variable -> tag).

        `spliced` gives the text of a tag that is safe as such (an address, a number), None where it is a value.
        """
        out = [self.parts[0]]
        variables: dict[str, str] = {}
        for place, after in zip(self.places, self.parts[1:], strict=True):
            safe = spliced(place.tag)
            if safe is None:
                variables[place.variable] = place.tag
            out += (place.text if safe is None else safe, after)
        return "".join(out), variables


def fill_in(text: str, options: Mapping[str, str], family: str) -> str:
    """Static tags replaced by the action's own options, `option?family=inet6` before `option`, inner tags first.

    What no option defines stays. ValueError where a tag leads back to itself.
    """
    condition = f"?family={family}" if family else None

    def value(match: re.Match[str]) -> str:
        name = match[1]
        found = options.get(name + condition) if condition else None
        if found is None:
            found = options.get(name)
        return match[0] if found is None else found

    for _ in range(ROUNDS):
        filled = TAG.sub(value, text)
        if filled == text:
            return filled
        if len(filled) > MAX_TEXT:
            break
        text = filled
    raise ValueError(f"a tag leads back to itself, or the text grows without end: {text[:100]}")


def variable_of(tag: str) -> str:
    """`matches` -> `f2bV_matches`, `F-USER` -> `f2bV_F_USER`: the names that actions may also refer to themselves."""
    return "f2bV_" + re.sub(r"\W", "_", tag)


def prepare(text: str, is_dynamic: Callable[[str], bool]) -> ShellText:
    """Find the dynamic tags of a text and how each is to be quoted. Tags that are not dynamic stay text."""
    scan = _Scan(text, is_dynamic)
    scan.run()
    parts, places, at = [], [], 0
    for start, end, place in scan.found:
        parts.append(text[at:start])
        places.append(place)
        at = end
    parts.append(text[at:])
    return ShellText(tuple(parts), tuple(places), tuple(scan.reparsed), _READS_BACKSLASHES.search(text) is not None)


def programs(text: str) -> tuple[str, ...]:
    """Base names of the programs that a text calls, in order, each once; the shell's own words left out."""
    scan = _Scan(text, lambda _tag: False)
    scan.run()
    names: dict[str, None] = {}
    for command in scan.commands:
        match = _COMMAND.match(command)
        if match is None:
            continue
        name = match["word"].rsplit("/", 1)[-1]
        if name and name not in _KEYWORDS and not name.startswith(("-", "\\")):
            names[name] = None
    return tuple(names)


class _Frame:
    """An open quote, substitution or subshell; `start` is where its present command begins.

    `holes` are the substitutions within that command, which have commands of their own.
    """

    __slots__ = ("holes", "kind", "opened", "start")

    def __init__(self, kind: str, opened: int, start: int) -> None:
        self.kind = kind
        self.opened = opened
        self.start = start
        self.holes: list[tuple[int, int]] = []


class _Scan:
    """One pass over a text. `commands` are the texts of the simple commands, `found` the tags with their quoting."""

    def __init__(self, text: str, is_dynamic: Callable[[str], bool]) -> None:
        self.text = text
        self.found: list[tuple[int, int, Reference]] = []
        self.reparsed: list[tuple[str, str]] = []
        self.commands: list[str] = []
        self._tags = {match.start(): match for match in TAG.finditer(text) if is_dynamic(match[1])}
        self._stack = [_Frame("plain", 0, 0)]
        self._here_ends: list[str] = []  # delimiters of here-documents that begin with the next line
        self._here: tuple[int, int] | None = None  # how deep the one is that we are in, and where it ends

    def run(self) -> None:
        """Read all of it."""
        at = 0
        while at < len(self.text):
            if self._here is not None and at >= self._here[1]:
                del self._stack[self._here[0] :]
                self._here = None
                self._begin_here(at)
            tag = self._tags.get(at)
            if tag is not None:
                self._take_tag(tag)
                at = tag.end()
                continue
            kind = self._stack[-1].kind
            if kind == "single":
                at = self._in_single(at)
            elif kind in ("double", "here"):
                at = self._in_double(at)
            elif kind == "arithmetic":
                at = self._in_arithmetic(at)
            else:
                at = self._in_open(at)
        for frame in self._stack:
            if frame.kind in ("plain", "paren", "backquote"):
                self._end_command(frame, len(self.text))

    def _in_single(self, at: int) -> int:
        if self.text[at] == "'":
            self._stack.pop()
        return at + 1

    def _in_arithmetic(self, at: int) -> int:
        if self.text.startswith("))", at):
            self._stack.pop()
            return at + 2
        return at + 1

    def _in_double(self, at: int) -> int:
        char = self.text[at]
        if char == "\\":
            return at + 2
        if char == '"' and self._stack[-1].kind == "double":
            self._stack.pop()
        elif char == "`":
            return self._backquote(at)
        elif char == "$":
            return self._dollar(at)
        return at + 1

    def _in_open(self, at: int) -> int:
        char, frame = self.text[at], self._stack[-1]
        if char == "\\":
            return at + 2
        if char in "'\"":
            self._stack.append(_Frame("single" if char == "'" else "double", at, at + 1))
        elif char == "`":
            return self._backquote(at)
        elif char == "$":
            return self._dollar(at)
        elif char == "(":
            self._stack.append(_Frame("paren", at, at + 1))
        elif char == ")":
            self._close_paren(frame, at)
        elif char in _SEPARATORS and not self._is_redirection(at):
            self._end_command(frame, at)
            if char == "\n":
                self._begin_here(at + 1)
        elif char == "#" and (at == 0 or self.text[at - 1] in _WORD_START):
            end = self.text.find("\n", at)
            return len(self.text) if end < 0 else end
        else:
            here = _HERE.match(self.text, at)
            if here is not None:
                if here[1]:
                    self._here_ends.append(here[1])
                return here.end()
        return at + 1

    def _begin_here(self, at: int) -> None:
        """A here-document begins where one was announced: quotes mean nothing in it until its last line."""
        if not self._here_ends or self._here is not None:
            return
        last = re.compile(rf"^\t*{re.escape(self._here_ends.pop(0))}$", re.MULTILINE).search(self.text, at)
        self._here = len(self._stack), len(self.text) if last is None else last.end()
        self._stack.append(_Frame("here", at, at))

    def _is_redirection(self, at: int) -> bool:
        """`2>&1`, `>|file`, `&>file`."""
        return self.text[at - 1 : at] in (">", "<") or self.text.startswith("&>", at)

    def _dollar(self, at: int) -> int:
        if self.text.startswith("$((", at):
            self._stack.append(_Frame("arithmetic", at, at + 3))
            return at + 3
        if self.text.startswith("$(", at):
            self._stack.append(_Frame("paren", at, at + 2))
            return at + 2
        return at + 1

    def _close_paren(self, frame: _Frame, at: int) -> None:
        if frame.kind == "paren":
            self._end_command(frame, at)
            self._stack.pop()
            self._hole(frame.opened, at + 1)
        else:
            frame.start = at + 1  # a pattern of `case`

    def _backquote(self, at: int) -> int:
        for depth in range(len(self._stack) - 1, -1, -1):
            frame = self._stack[depth]
            if frame.kind == "backquote":
                self._end_command(frame, at)
                del self._stack[depth:]
                self._hole(frame.opened, at + 1)
                return at + 1
        self._stack.append(_Frame("backquote", at, at + 1))
        return at + 1

    def _hole(self, start: int, end: int) -> None:
        """Note a substitution with the command that it is part of, through the quotes between."""
        for frame in reversed(self._stack):
            if frame.kind in ("plain", "paren", "backquote"):
                frame.holes.append((start, end))
                return

    def _command(self, frame: _Frame, end: int) -> str:
        """The frame's present command up to `end`, its substitutions left out."""
        out: list[str] = []
        at = frame.start
        for start, stop in frame.holes:
            out += (self.text[at:start], "_")
            at = stop
        out.append(self.text[at:end])
        return "".join(out).lstrip()

    def _end_command(self, frame: _Frame, end: int) -> None:
        command = self._command(frame, end).rstrip()
        if command:
            self.commands.append(command)
        frame.start = end + 1
        frame.holes.clear()

    def _take_tag(self, tag: re.Match[str]) -> None:
        kind = self._stack[-1].kind
        variable = variable_of(tag[1])
        bare = f"${{{variable}}}"
        if kind in ("double", "here", "backquote", "arithmetic"):
            text = bare
        elif kind == "single":
            text = f"'\"{bare}\"'"
        else:
            text = f'"{bare}"'
        self.found.append((tag.start(), tag.end(), Reference(tag[1], variable, text)))
        program = self._read_by(tag)
        if program:
            self.reparsed.append((tag[1], program))
        self._hole(tag.start(), tag.end())

    def _read_by(self, tag: re.Match[str]) -> str:
        """The program that would take the tag's value as its own text, "" where there is none.

        Looked for outwards: what a substitution puts out is an argument of the command around it.
        """
        for frame in reversed(self._stack):
            if frame.kind in ("plain", "paren", "backquote"):
                program = _reparsing(self._command(frame, tag.start()))
                if program:
                    return program
        if self._stack[-1].kind == "arithmetic":
            return "shell arithmetic"  # it evaluates what variables hold: a[$(command)]
        frame = next(one for one in reversed(self._stack) if one.kind in ("plain", "paren", "backquote"))
        before = TAG.sub("_", self._command(frame, tag.start()))
        if any(one.kind == "here" for one in self._stack[self._stack.index(frame) :]):
            return ""  # the body of a here-document: what a program reads from its standard input
        if _AT_COMMAND.match(before):
            return "the shell (as the name of a program)"
        if _AT_FILE.search(before):
            return "the shell (as the name of a file)"
        end = self.text.find("\n", tag.end())
        piped = _INTO_SHELL.search(self.text, tag.end(), len(self.text) if end < 0 else end)
        return "sh" if piped else ""


def _reparsing(command: str) -> str:
    """The program in a command that takes an argument as its own text, "" where there is none."""
    match = _COMMAND.match(command)
    if match is None:
        return ""
    words = command[match.start("word") :].split()
    name = words[0].rsplit("/", 1)[-1]
    wrapped = [word.rsplit("/", 1)[-1] for word in words] if name in _WRAPPERS else [name]
    for at, one in enumerate(wrapped):
        options = _REPARSE_WITH.get(one)
        after = [word for word in words[at + 1 :] if word.startswith("-")]
        if one in _REPARSE or (options and any(set(word[1:]) & set(options) for word in after)):
            return one
    return ""
