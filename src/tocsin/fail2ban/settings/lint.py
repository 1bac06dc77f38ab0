"""What fail2ban passes over in silence: options that nothing reads, sections that nothing opens, names nearly right."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from typing import Literal

from tocsin.fail2ban.model import Remark
from tocsin.fail2ban.settings.definitions import ACTION_OPTIONS, FILTER_OPTIONS
from tocsin.fail2ban.settings.ini import DEFAULT, Value
from tocsin.fail2ban.settings.jail_options import CONVENTIONS, JAIL_OPTIONS
from tocsin.fail2ban.settings.merge import INCLUDES, Merged, nearest

_REFERENCE = re.compile(r"%\((?:[\w-]+/)?([^)]+)\)s")
_TAG = re.compile(r"<([^<> ]+)>")
_OPENED = re.compile(r"%\(([\w-]+)/[^)]+\)s|<([^ >]*?)/[^ >]*>")
_MEANT_FOR_ALL = (DEFAULT, INCLUDES, "Definition", "Init")
_ALWAYS_GIVEN = frozenset(
    (
        *FILTER_OPTIONS,
        *ACTION_OPTIONS,
        *CONVENTIONS,
        "name",
        "actname",
        "logtype",
        "dest",
        "logpath",
        "service",
        "agent",
    )
)
_ACTIONS_TO_CHOOSE = "action_"
_MOST_UNREAD = 20
_SETTINGS = (
    "loglevel",
    "logtarget",
    "syslogsocket",
    "socket",
    "pidfile",
    "allowipv6",
    "dbfile",
    "dbmaxmatches",
    "dbpurgeage",
    "stacksize",
)


def is_stray_head(section: str) -> bool:
    """Whether a section of `jail.conf` is no jail, but a head that is nearly another (`[default]`)."""
    return section not in _MEANT_FOR_ALL and section.lower() in {head.lower() for head in _MEANT_FOR_ALL}


def jail_remarks(merged: Merged) -> list[Remark]:
    """What stands in `jail.*` and has no effect."""
    remarks: list[Remark] = []
    for section in merged.sections:
        if is_stray_head(section):
            file, line = merged.headers[section]
            meant = next(head for head in _MEANT_FOR_ALL if head.lower() == section.lower())
            remarks.append(
                Remark(
                    "warning",
                    f"the section [{section}] is neither [{meant}] nor a jail (fail2ban takes it for a jail, and what"
                    f" it says has no effect elsewhere); write [{meant}]",
                    "",
                    file,
                    line,
                )
            )
    read = _referred(merged)
    known = (*JAIL_OPTIONS, *CONVENTIONS)
    for section, options in [(DEFAULT, merged.defaults), *merged.sections.items()]:
        if section != INCLUDES and not is_stray_head(section):
            jail = "" if section == DEFAULT else section
            remarks += _unread(options, known, read, jail, f"[{section}]")
    return remarks


def settings_remarks(merged: Merged) -> list[Remark]:
    """What stands in `fail2ban.*` and has no effect."""
    read = _referred(merged)
    remarks: list[Remark] = []
    for section in ("Definition", "Thread"):
        remarks += _unread(merged.sections.get(section, {}), _SETTINGS, read, "", f"[{section}]")
    return remarks


def definition_remarks(merged: Merged, kind: Literal["filter", "action"]) -> list[Remark]:
    """What stands in a filter's or an action's file and has no effect.

    Only options that are nearly one with a meaning are spoken of: files keep variables for others to use.
    """
    known = FILTER_OPTIONS if kind == "filter" else ACTION_OPTIONS
    remarks: list[Remark] = []
    sections = [section for section in merged.sections if section not in _MEANT_FOR_ALL]
    opened = _opened(merged) if sections else set()
    for section in sections:
        near = nearest(section.title(), ["Definition", "Init"])
        if near and section not in opened:
            file, line = merged.headers[section]
            remarks.append(
                Remark("warning", f"nothing reads the section [{section}]{near}; correct its head", "", file, line)
            )
    read = _referred(merged)
    for section in ("Definition", "Init"):
        remarks += [
            remark
            for remark in _unread(merged.sections.get(section, {}), known, read, "", f"[{section}]")
            if "did you mean" in remark.text and not remark.text.startswith("`_")
        ]
    return remarks


def bracket_remarks(merged: Merged, name: str, given: Collection[str], jail: str, place: Value | None) -> list[Remark]:
    """Options in a jail's brackets that the file does not know, but that are nearly one which it does."""
    read = _referred(merged)
    defined = {*merged.defaults, *merged.sections.get("Definition", {}), *merged.sections.get("Init", {})}
    remarks: list[Remark] = []
    for option in given:
        if option in _ALWAYS_GIVEN or option in defined or read.reads(option.lower()):
            continue
        if near := nearest(option, sorted(defined | read.names)):
            file, line = (place.file, place.line) if place else ("", 0)
            text = f"`{option}` in the brackets of `{name}` is nothing that `{name}` reads{near}; correct it"
            remarks.append(Remark("warning", text, jail, file, line))
    return remarks


def _unread(
    options: dict[str, Value], known: Collection[str], read: _Referred, jail: str, where: str
) -> Iterable[Remark]:
    unread = [
        (name, value)
        for name, value in options.items()
        if name not in known
        and name.split("?", 1)[0] not in known
        and not name.startswith(_ACTIONS_TO_CHOOSE)
        and not read.reads(name)
    ]
    for name, value in unread[:_MOST_UNREAD]:
        near = nearest(name, list(known))
        what = "correct it" if near else "take it out, or refer to it"
        yield Remark(
            "warning",
            f"`{name}` in {where} is no option and nothing refers to it{near}; {what}",
            jail,
            value.file,
            value.line,
        )


class _Referred:
    """The names that values refer to; those of composed tags (`<mdre-<mode>>`) as patterns."""

    def __init__(self) -> None:
        self.names: set[str] = set()
        self.shapes: set[str] = set()

    def reads(self, name: str) -> bool:
        name = name.split("?", 1)[0]
        return name in self.names or any(re.fullmatch(shape, name) for shape in self.shapes)


def _values(merged: Merged) -> Iterable[Value]:
    yield from merged.defaults.values()
    for options in merged.sections.values():
        yield from options.values()


def _referred(merged: Merged) -> _Referred:
    referred = _Referred()
    for value in _values(merged):
        if "%(" in value.text:
            referred.names.update(name.lower() for name in _REFERENCE.findall(value.text))
        if "<" in value.text:
            _tags(value.text, referred)
    return referred


def _tags(text: str, referred: _Referred) -> None:
    """Notes the tags of a value, from the innermost outwards; what an inner one stands for may be anything."""
    for _ in range(5):
        tags = set(_TAG.findall(text))
        for tag in tags:
            name = tag.rsplit("/", 1)[-1].lower()
            if "\0" in name:
                referred.shapes.add(".*".join(re.escape(part) for part in name.split("\0")))
            else:
                referred.names.add(name)
        inner = _TAG.sub("\0", text)
        if inner == text or "<" not in inner:
            return
        text = inner


def _opened(merged: Merged) -> set[str]:
    opened: set[str] = set()
    for value in _values(merged):
        for plain, tagged in _OPENED.findall(value.text):
            opened.add(plain or tagged)
    return opened
