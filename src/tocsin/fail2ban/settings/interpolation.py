"""What stands for something else in a value: `%(name)s` when it is read, `<tag>` when a filter or action is composed.

`%(name)s` is looked up among what the jail hands over, the section, `[DEFAULT]`; `%(section/name)s`, `%(default/name)s`
and `%(known/name)s` (the value that a later file overwrote) where the name says; `%%` is a percent sign. A `<tag>` is
looked up among the options, inner tags first, so that names can be composed (`<lt_<logtype>/__prefix_line>`); tags that
nothing defines stay, for they are the matcher's (`<HOST>`) or the shell's.

Work is bounded: MAX_DEPTH levels, MAX_STEPS replacements, MAX_ROUNDS rounds of tags, MAX_TEXT characters a value.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Mapping

from tocsin.fail2ban.settings.ini import DEFAULT, Value
from tocsin.fail2ban.settings.merge import KNOWN, Merged, nearest

MAX_DEPTH = 50
MAX_STEPS = 2_000
MAX_TEXT = 1 << 19
MAX_SAME_TAG = 25
MAX_ROUNDS = 50

_NAME = re.compile(r"%\(([^)]+)\)s")
_SECTION_AND_OPTION = re.compile(r"([\w-]+)/(.+)", re.DOTALL)
_TAG = re.compile(r"<([^<> ]+)>")


class Unresolved(ValueError):  # noqa: N818  the word says what the value is
    """A value that cannot be put together, and why; `value` is where it stands, None where that is unknown."""

    def __init__(self, text: str, value: Value | None = None) -> None:
        super().__init__(text)
        self.value = value


class Missing(Unresolved):
    """The option itself is not there."""


def get(merged: Merged, section: str, option: str, given: Mapping[str, str] = {}, final: Mapping[str, str] = {}) -> str:
    """An option's value, interpolated. Raises Missing where neither `given`, section nor `[DEFAULT]` has it.

    `given` (names in lower case) comes before what the files say and is interpolated as well; `final` (`known/name`) is
    put in as it is.
    """
    raw = given.get(option)
    value = Value(raw, "", 0) if raw is not None else merged.raw(section, option)
    if value is None:
        raise Missing(f"`{option}` is not set in [{section}]")
    if "%" not in value.text:
        return value.text
    return _Expansion(merged, section, given, final, option).run(value)


class _Expansion:
    """One value being interpolated: its budget, and the values on the way down."""

    def __init__(
        self, merged: Merged, section: str, given: Mapping[str, str], final: Mapping[str, str], option: str
    ) -> None:
        self._merged = merged
        self._section = section
        self._given = given
        self._final = final
        self._option = option
        self._steps = 0
        self._length = 0
        self._out: list[str] = []
        self._way: list[tuple[str, Value]] = []

    def run(self, value: Value) -> str:
        self._expand(self._option, value)
        return "".join(self._out)

    def _expand(self, name: str, value: Value) -> None:
        self._way.append((name, value))
        if len(self._way) > MAX_DEPTH:
            raise self._error(f"`{self._option}` is nested more than {MAX_DEPTH} levels deep; write it more plainly")
        text = value.text
        at = 0
        while (percent := text.find("%", at)) >= 0:
            self._emit(text[at:percent])
            if text.startswith("%%", percent):
                self._emit("%")
                at = percent + 2
                continue
            match = _NAME.match(text, percent)
            if match is None:
                raise self._error(
                    f"`{name}` has a lone `%` at `{_excerpt(text, percent)}`;"
                    " write `%%` for a percent sign, `%(name)s` for an option's value"
                )
            self._put(match[1])
            at = match.end()
        self._emit(text[at:])
        self._way.pop()

    def _put(self, name: str) -> None:
        self._steps += 1
        if self._steps > MAX_STEPS:
            raise self._error(f"`{self._option}` takes more than {MAX_STEPS} replacements; write it more plainly")
        key = name.lower()
        if key == "__name__":
            self._emit(self._section)
        elif key in self._final:
            self._emit(self._final[key])
        else:
            value = self._find(name, key)
            if "%" in value.text:
                self._expand(key, value)
            else:
                self._emit(value.text)

    def _find(self, name: str, key: str) -> Value:
        """The raw value that the name stands for here; one that is being expanded already is a circle."""
        value = self._look_up(name, key)
        if value is None and key.startswith("known/"):
            raise self._error(self._unknown(name))
        if value is None:
            near = nearest(key, [*self._merged.own(self._section), *self._merged.defaults, *self._given])
            raise self._error(
                f"`{self._way[-1][0]}` refers to `%({name})s`, which nothing sets{near};"
                f" set `{key}` in [{self._section}] or [DEFAULT], or correct the name"
            )
        inside = value
        while any(each is inside or each == inside for _, each in self._way):
            if not key.startswith("known/"):
                loop = " -> ".join((*(each for each, _ in self._way), key))
                raise self._error(f"`{self._option}` comes back to itself ({loop}); break the circle")
            if inside.before is None:
                raise self._error(self._unknown(name))
            inside = inside.before
        return inside

    def _unknown(self, name: str) -> str:
        known = name.partition("/")[2]
        return (
            f"`{self._way[-1][0]}` refers to `%({name})s`, but no earlier file sets `{known}`; take the reference out"
        )

    def _look_up(self, name: str, key: str) -> Value | None:
        given = self._given.get(key)
        if given is not None:
            return Value(given, "", 0)
        found = self._merged.raw(self._section, key)
        if found is not None:
            return found
        qualified = _SECTION_AND_OPTION.fullmatch(name)
        if qualified is None:
            return None
        return qualified_raw(self._merged, self._section, qualified[1], qualified[2].lower())

    def _emit(self, text: str) -> None:
        self._length += len(text)
        if self._length > MAX_TEXT:
            raise self._error(f"`{self._option}` grows beyond {MAX_TEXT} characters; write it more plainly")
        self._out.append(text)

    def _error(self, text: str) -> Unresolved:
        places = [value for _, value in self._way if value.file]
        return Unresolved(text, places[-1] if places else None)


def qualified_raw(merged: Merged, section: str, prefix: str, option: str) -> Value | None:
    """What `prefix/option` names from inside `section`: another section's raw value, else that of `[DEFAULT]`."""
    kind = prefix.lower()
    if kind == "default":
        return merged.defaults.get(option)
    if kind == "known":
        options = merged.known.get(section, {})
    elif (named := merged.sections.get(prefix)) is not None:
        options = named
    else:
        return None
    return options.get(option) or merged.defaults.get(option)


def get_qualified(merged: Merged, section: str, name: str, given: Mapping[str, str]) -> str | None:
    """What a `<tag>` of this name stands for in `section`'s files: `option` or `section/option`; None for nothing."""
    qualified = _SECTION_AND_OPTION.fullmatch(name)
    if qualified and (value := _of_section(merged, section, qualified[1], qualified[2].lower())) is not None:
        return value
    try:
        return get(merged, section, name.lower(), given)
    except Missing:
        return None


def _of_section(merged: Merged, section: str, prefix: str, option: str) -> str | None:
    """`<prefix/option>`, each where it stands: what was overwritten is put together from what was overwritten."""
    kind = prefix.lower()
    if kind == "known":
        places = [KNOWN + section, section] if section in merged.known else [section]
    elif kind == "default":
        places = [DEFAULT]
    else:
        places = [prefix] if prefix in merged.sections else []
    for place in places:
        try:
            return get(merged, place, option)
        except Missing:
            continue
    return None


def substitute(
    options: Mapping[str, str], ignore: Collection[str], lookup: Callable[[str], str | None]
) -> dict[str, str]:
    """The options with their tags replaced by other options, or by what `lookup` knows, as far as that goes.

    Names in `ignore` neither replace nor are replaced in. Unresolved where a tag leads back to itself.
    """
    done = dict(options)
    counts: dict[str, dict[str, int]] = {}
    waiting = [name for name, text in done.items() if "<" in text and name not in ignore]
    for _ in range(MAX_ROUNDS):
        again = []
        for name in waiting:
            before = done[name]
            after = _replace_tags(name, before, done, ignore, lookup, counts.setdefault(name, {}))
            if after != before:
                done[name] = after
                if _TAG.search(after):
                    again.append(name)
        if not again:
            return done
        waiting = [name for name in waiting if "<" in done[name]]
    raise Unresolved(f"`{waiting[0]}` is not resolved after {MAX_ROUNDS} rounds of tags; write it more plainly")


def _replace_tags(
    name: str,
    text: str,
    options: Mapping[str, str],
    ignore: Collection[str],
    lookup: Callable[[str], str | None],
    counts: dict[str, int],
) -> str:
    """One pass from left to right; what a tag brings in is looked through as well."""
    match = _TAG.search(text)
    while match:
        tag = match[1]
        if tag in ignore:
            match = _TAG.search(text, match.end())
            continue
        if tag == name or counts.get(tag, 0) > MAX_SAME_TAG:
            raise Unresolved(f"`{name}` leads back to itself through `<{tag}>`; break the circle")
        found = options.get(tag)
        if found is None:
            found = lookup(tag)
        if found is None:
            match = _TAG.search(text, match.end())
            continue
        text = text.replace(match[0], found)
        if len(text) > MAX_TEXT:
            raise Unresolved(f"`{name}` grows beyond {MAX_TEXT} characters through `<{tag}>`; write it more plainly")
        counts[tag] = counts.get(tag, 0) + 1
        if len(counts) > MAX_STEPS:
            raise Unresolved(f"`{name}` takes more than {MAX_STEPS} different tags; write it more plainly")
        match = _TAG.search(text, match.start())
    return text


def _excerpt(text: str, at: int) -> str:
    return ascii(text[at : at + 20])[1:-1]
