r"""Date templates: what a `datepattern` says, made into regexes.

A template is a regex in which `%` letters stand for the parts of a date (`directives`) and a few words for more:
`{DATE}` for any of the seventeen common dates, `{DEFAULT}` for the list that is used where nothing is configured,
`{^LN-BEG}` before a template for the start of the line or at most two characters that belong to no word, alone for
those of the list that stand there, `{UNB}` or `**` for no boundaries, `{NONE}` for lines without dates, `EPOCH`,
`LEPOCH` (also milli- and microseconds; both also in braces within a regex) and `TAI64N`.

A template that says nothing of its ends begins and ends at a boundary: not between two characters of a word. Its first
unnamed group is what is cut out of the line; without one all of it is, but for `^` and `$`.

Digits are ASCII, names English. `%ExY` is a year of this century. Facts: fail2ban 1.0.2, docs of its datepattern.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from difflib import get_close_matches
from functools import cache
from re import _constants as sre  # type: ignore[attr-defined]  # the width of a group has no public name
from re import _parser as sre_parser  # type: ignore[attr-defined]  # as above
from typing import Literal

from msgspec import Struct

from tocsin.fail2ban.dates.directives import is_named, rendered
from tocsin.fail2ban.dates.fields import KNOWN

Reads = Literal["fields", "epoch", "long_epoch", "tai64n", "nothing"]

_WORD = re.compile(r"(?<!\\)\{\^?[A-Z][A-Z0-9^-]*\}", re.IGNORECASE)
_WORDS = ("{DATE}", "{DEFAULT}", "{^LN-BEG}", "{UNB}", "{NONE}", "{EPOCH}", "{LEPOCH}")

_BEFORE_ALONE = ("", "^", "{^LN-BEG}")

BOUND = r"(?:\b|(?!\w))"
"""Not between two characters of a word."""

_CLOCK = "%H:%M:%S"
_BLANK_CLOCK = "%k:%M:%S"
_SUBSECOND = r"(?:\.%f)?"
_SYSLOG = f"(?:%a )?%b %d {_BLANK_CLOCK}{_SUBSECOND}(?: %ExY)?"
_ISO_TAIL = r"(?:[.,]%f)?(?:\s*%z)?"

COMMON: tuple[str, ...] = (
    f"%ExY(?P<mark>[-./])%m(?P=mark)%d(?:T| {{1,2}}){_CLOCK}{_ISO_TAIL}",
    _SYSLOG,
    f"(?:%a )?%b %d %ExY {_BLANK_CLOCK}{_SUBSECOND}",
    f"%d(?P<mark>[-/])%m(?P=mark)(?:%ExY|%Exy) {_BLANK_CLOCK}",
    f"%d(?P<mark>[-/])%b(?P=mark)%ExY[ :]?{_CLOCK}{_SUBSECOND}(?: %z)?",
    f"%m/%d/%ExY:{_CLOCK}",
    f"%m-%d-%ExY {_BLANK_CLOCK}{_SUBSECOND}",
    "EPOCH",
    f"{{^LN-BEG}}{_CLOCK}",
    f"^<%m/%d/%Exy@{_CLOCK}>",
    f"%Exy%Exm%Exd {{1,2}}{_CLOCK}",
    "%b %d, %ExY %I:%M:%S %p",
    f"^%b-%d-%Exy {_BLANK_CLOCK}",
    f"%ExY%Exm%Exd(?:T| {{1,2}})%ExH%ExM%ExS{_ISO_TAIL}",
    f"(?:%Z )?{_SYSLOG}",
    f"(?:%z )?{_SYSLOG}",
    "TAI64N",
)
"""The common dates, in the order in which fail2ban tries them."""

_EPOCH = r"[0-9]{10,11}\b(?:\.[0-9]{3,6})?"
_LONG_EPOCH = r"[0-9]{10,11}(?:[0-9]{3}(?:\.[0-9]{1,6}|[0-9]{3})?)?"
_TAI64N = "@[0-9a-f]{24}"
LINE_BEGIN = r"^(?:\W{0,2})"


class Branch(Struct, frozen=True):
    """A template as one of many alternatives of a regex: its groups have no names but `mark`. `cut` and `date` are the
    numbers of the groups that are cut out and that hold the date; `fields` takes the date apart, None: it is one
    number."""

    source: str
    groups: int
    cut: int
    date: int
    fields: str | None = None


class Template(Struct, frozen=True):
    """One way to write a date. `regex` is the whole of it; `told` the number of the group that holds a date which is
    one number, 0 where the groups' names tell what they are. `begins` and `ends`: it stands at the line's start, at
    its end. `anchored`: nothing of it can match elsewhere than at the start.

    `own` is what the user wrote of the regex, "" where all of it is ours.
    """

    text: str
    regex: str
    reads: Reads
    told: int = 0
    begins: bool = False
    ends: bool = False
    anchored: bool = False
    own: str = ""
    branch: Branch | None = None


@cache
def templates_of(datepattern: str | None) -> tuple[Template, ...]:
    """The templates of a `datepattern` (one a line; None or empty: the default list), in order and each once.
    ValueError says what is wrong and what was expected."""
    lines = [line.strip() for line in (datepattern or "").splitlines() if line.strip()]
    found: dict[tuple[str, Reads], Template] = {}
    for line in lines or ["{DEFAULT}"]:
        for template in _of_line(line):
            found.setdefault((template.regex, template.reads), template)
    return tuple(found.values())


def _of_line(line: str) -> Iterator[Template]:
    # letter case matters only where there are directives
    word = line if "%" in line else line.upper()
    if word == "{DEFAULT}":
        yield from default_templates()
    elif word == "{^LN-BEG}":
        yield from (template for template in default_templates() if template.begins)
    elif word == "{NONE}":
        yield Template(line, "^()", "nothing", begins=True, anchored=True)
    elif (words := _words(line)).count("{DATE}") == 1:
        yield from _around(line)
    elif words.count("{DATE}") > 1:
        raise ValueError(f"datepattern {line!r} holds {{DATE}} {words.count('{DATE}')} times; expected once")
    else:
        yield _single(line, own=line)


def _words(line: str) -> list[str]:
    return [word.upper() for word in _WORD.findall(line)]


@cache
def default_templates() -> tuple[Template, ...]:
    """The common dates at the line's start, then anywhere."""
    starting = ("{^LN-BEG}" + common for common in COMMON if not common.startswith(("^", "{^LN-BEG}")))
    return tuple(_single(common, own="") for common in (*starting, *COMMON))


def _around(line: str) -> Iterator[Template]:
    """The common dates within what a user wrote around `{DATE}`. A number is a date at the line's start only."""
    before, after = re.split(r"(?<!\\)\{DATE\}", line, maxsplit=1, flags=re.IGNORECASE)
    alone = not after and before.upper() in _BEFORE_ALONE
    for common in COMMON:
        date = common.removeprefix("{^LN-BEG}")
        if common in ("EPOCH", "TAI64N"):
            if alone:
                yield _single(before + common, own="")
        elif not date.startswith("^") or alone:
            # what is sound around one date is so around all
            yield _pattern(
                before, date.removeprefix("^" if before == "^" else ""), after, checked=common is not COMMON[0]
            )


def _single(line: str, *, own: str) -> Template:
    """A template that holds no `{DATE}`."""
    begins = line.upper().startswith(("^", "{^LN-BEG}"))
    name = re.sub(r"^(?:\{\^LN-BEG\}|\^)", "", line.upper())
    if name in ("EPOCH", "LEPOCH"):
        return _epoch(line, begins=begins, long=name == "LEPOCH")
    if name == "TAI64N":
        start = LINE_BEGIN if begins else ""
        regex = rf"{start}({_TAI64N}){BOUND}"
        return Template(line, regex, "tai64n", 1, begins, anchored=begins, branch=Branch(regex, 1, 1, 1))
    if {"{EPOCH}", "{LEPOCH}"} & set(_words(line)):
        return _epoch_within(line)
    return _pattern("", line, "", own=own, checked=not own)


def _epoch(line: str, *, begins: bool, long: bool) -> Template:
    start = LINE_BEGIN if begins else r"(?:^|(?<=^\[)|(?<=\baudit\())"
    regex = rf"{start}({_LONG_EPOCH if long else _EPOCH}){BOUND}"
    reads: Reads = "long_epoch" if long else "epoch"
    return Template(line, regex, reads, 1, begins, anchored=begins, branch=Branch(regex, 1, 1, 1))


def _epoch_within(line: str) -> Template:
    """`{EPOCH}` or `{LEPOCH}` within a regex, all of which is cut out."""
    long = "{LEPOCH}" in _words(line)
    before, after = re.split(r"(?<!\\)\{L?EPOCH\}", line, maxsplit=1, flags=re.IGNORECASE)
    shape = _shape(f"{before}{_OPEN}{after}", whole=True)
    _refuse_words(line, shape.body)
    digits = _LONG_EPOCH if long else _EPOCH
    regex = shape.flags + shape.body.replace(_OPEN, f"({digits})")
    _compiled(line, regex)
    return Template(
        line,
        regex,
        "long_epoch" if long else "epoch",
        _unnamed_groups(shape.body.partition(_OPEN)[0]) + 1,
        shape.begins,
        shape.ends,
        _is_anchored(shape, line),
        line,
    )


def _pattern(before: str, date: str, after: str, *, own: str | None = None, checked: bool = False) -> Template:
    """A regex with directives: a common date with what stands around it, or (`own`) one without anything around."""
    line = before + date + after
    around = own is None
    alone = before.upper() in _BEFORE_ALONE and not after
    text = own if own is not None else "" if alone else f"{before}{{DATE}}{after}"
    shape = _shape(_joined(before, date, after, named=True, around=around))
    ignore_case = is_named(line)
    flags = shape.flags or "(?)"
    flags = flags.replace("(?", "(?i", 1) if ignore_case and "i" not in flags else flags
    regex = ("" if flags == "(?)" else flags) + _without_marks(shape.body)
    reads: Reads = "fields"
    if not checked:
        _refuse_words(line, shape.body)
        named = frozenset(_compiled(line, regex).groupindex)
        _refuse_half_dates(line, named)
        if not KNOWN & named:
            if _widest_cut(regex):
                raise ValueError(f"datepattern {line!r} tells no time; expected directives such as %Y-%m-%d %H:%M:%S")
            reads = "nothing"
    branch = None
    if not shape.flags and (not text or (around and _is_tame(text))):
        branch = _branch(before, date, after, around=around, ignore_case=ignore_case)
    return Template(line, regex, reads, 0, shape.begins, shape.ends, _is_anchored(shape, text), text, branch)


def _branch(before: str, date: str, after: str, *, around: bool, ignore_case: bool) -> Branch:
    body = _shape(_joined(before, date, after, named=False, around=around)).body
    ahead = _unnamed_groups(body.partition(_OPEN)[0]) if around else 0
    source = body.replace(_OPEN, "(").replace(_CLOSE, ")")
    fields = rendered(re.sub(r"^(?:\{\^LN-BEG\}|\^)", "", date))
    if ignore_case:
        source, fields = f"(?i:{source})", f"(?i:{fields})"
    groups = _unnamed_groups(source) + source.count("(?P<")
    return Branch(source, groups, 1 if ahead or not around else 2, ahead + 1, fields)


# -- rendering -----------------------------------------------------------------------------------------------------

_OPEN, _CLOSE = "\0", "\1"  # where the common date stands within what is around it


def _joined(before: str, date: str, after: str, *, named: bool, around: bool) -> str:
    date = rendered(date, named=named)
    if not around:
        return date
    return f"{rendered(before, named=named)}{_OPEN}{date}{_CLOSE}{rendered(after, named=named)}"


def _without_marks(body: str) -> str:
    return body.replace(_OPEN, "").replace(_CLOSE, "")


class _Shape(Struct, frozen=True):
    """A regex with its boundaries: global flags apart, one group at least, and where it stands in the line."""

    flags: str
    body: str
    begins: bool
    ends: bool


_FLAGS = re.compile(r"\(\?[a-zA-Z]+\)")
_NO_BOUND_BEFORE = re.compile(r"\(*(?:\?:)?(?:\^|\*\*)")
_BEGINS = re.compile(r"\(*(?:\?:)?\^(?!\|)")
_NO_BOUND_AFTER = re.compile(r"(?<!\\)(?:\$|\\[bs]|\*\*)\)*$")
_ENDS = re.compile(r"(?<![\\|])\$\)*$")
_STARS_BEFORE = re.compile(r"^(\(*)\*\*")
_STARS_AFTER = re.compile(r"(?<!\\)\*\*(\)*)$")


def _shape(text: str, *, whole: bool = False) -> _Shape:
    """What is said of a rendered text's ends, as regex. `whole`: all of it is cut out, whatever groups it has."""
    unbound, text = _stripped(text.strip(), "{UNB}")
    line_begin, text = _stripped(text, "{^LN-BEG}")
    flags = ""
    if found := _FLAGS.search(text):
        flags = found[0]
        text = text[: found.start()] + text[found.end() :]
    bound_before = not unbound and not _NO_BOUND_BEFORE.match(text)
    bound_after = not unbound and not _NO_BOUND_AFTER.search(text)
    begins = _BEGINS.match(text) is not None
    ends = _ENDS.search(text) is not None
    text = _STARS_AFTER.sub(r"\1", _STARS_BEFORE.sub(r"\1", text))
    if whole or not _unnamed_groups(text):
        caret, text = _stripped(text, "^")
        dollar = ends and text.endswith("$")
        text = f"{'^' if caret else ''}({text.removesuffix('$') if dollar else text}){'$' if dollar else ''}"
    if bound_before:
        text = (LINE_BEGIN if line_begin else BOUND) + text
    return _Shape(flags, text + (BOUND if bound_after else ""), begins or (bound_before and line_begin), ends)


def _stripped(text: str, word: str) -> tuple[bool, str]:
    if text[: len(word)].upper() == word:
        return True, text[len(word) :]
    return False, text


def _is_anchored(shape: _Shape, own: str) -> bool:
    return shape.begins and shape.body.startswith("^") and "|" not in own and "m" not in shape.flags


def _is_tame(text: str) -> bool:
    """Whether a user's regex can be one of many alternatives: it names no groups and refers to none."""
    return not re.search(r"\(\?(?!:)|\\[0-9]", text)


def _widest_cut(regex: str) -> int:
    """The most characters that the first unnamed group of a regex can match."""
    parsed = sre_parser.parse(regex)
    cut = min(set(range(1, parsed.state.groups)) - set(parsed.state.groupdict.values()))
    widths = [arg[3].getwidth()[1] for op, arg in parsed if op is sre.SUBPATTERN and arg[0] == cut]
    return int(widths[0]) if widths else 1


def _unnamed_groups(text: str) -> int:
    """How many unnamed capturing groups a regex holds."""
    plain = re.sub(r"\\.|\[\^?\]?(?:\\.|[^\]\\])*\]", "", text, flags=re.DOTALL)
    return len(re.findall(r"\((?!\?)", plain))


# -- refusals ------------------------------------------------------------------------------------------------------


def _compiled(line: str, regex: str) -> re.Pattern[str]:
    try:
        return re.compile(regex)
    except (re.error, OverflowError, RecursionError) as error:
        raise ValueError(
            f"datepattern {line!r} is not a valid regex with each part of the date at most once: {error}"
        ) from error


def _refuse_words(line: str, text: str) -> None:
    for word in _words(text):
        near = get_close_matches(word, _WORDS, 1, 0.5)
        meant = f" (is {near[0]} meant?)" if near and near[0] != word else ""
        raise ValueError(
            f"{word} in datepattern {line!r} is not understood there{meant}; expected {{DATE}} once, {{^LN-BEG}} or "
            "{UNB} in front, {DEFAULT} or {NONE} alone on a line; a literal brace is written \\{"
        )


def _refuse_half_dates(line: str, told: frozenset[str]) -> None:
    months, weeks, weekdays = told & {"m", "b", "B"}, told & {"U", "W"}, told & {"w", "a", "A"}
    whole = ("d" in told and months) or "j" in told or (weeks and weekdays)
    if not whole and told & {"Y", "y", "d", "m", "b", "B", "U", "W"}:
        raise ValueError(
            f"datepattern {line!r} tells a part of the date only; expected month and day, %j, or a week with its "
            "weekday, each with or without a year, or the time of day alone"
        )
