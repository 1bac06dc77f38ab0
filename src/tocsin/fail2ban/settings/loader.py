"""Reads an /etc/fail2ban: `load` for its jails, `load_filter` for one filter alone.

Nothing is executed and nothing evaluated; files are read, at most 1 MiB each. A mistake in one jail is a remark and
leaves the jail out; the others stand. Values are put together as fail2ban 1.0.2 does it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Literal

from msgspec import structs

from tocsin.config_model import ConfigError, ConfigErrors
from tocsin.fail2ban.model import ActionSpec, FilterSpec, Jail, Loaded, Remark
from tocsin.fail2ban.settings.definitions import Definition, Mistake, action_spec, filter_spec, open_filter
from tocsin.fail2ban.settings.ini import DEFAULT, Fault, Value
from tocsin.fail2ban.settings.interpolation import Unresolved, get
from tocsin.fail2ban.settings.jail_options import (
    JailOptions,
    read_backend,
    read_bantime_s,
    read_findtime_s,
    read_ignoreip,
    read_increment,
    read_logencoding,
    read_logpath,
)
from tocsin.fail2ban.settings.lint import (
    bracket_remarks,
    definition_remarks,
    is_stray_head,
    jail_remarks,
    settings_remarks,
)
from tocsin.fail2ban.settings.merge import INCLUDES, Merged, Reader, nearest
from tocsin.fail2ban.settings.options import parse_call, parse_span_s, split_calls
from tocsin.fail2ban.settings.remarks import RejectedError, Remarks, place_of, plain

VERSION = "1.0.2"
"""The fail2ban whose reading of the configuration this is; what `%(fail2ban_version)s` stands for."""

MAX_JAILS = 2_000


def load(
    directory: Path,
    jails: Sequence[str] = (),
    *,
    all_jails: bool = False,
    stands_in: Callable[[Sequence[str]], bool] = lambda _logpath: False,
) -> Loaded:
    """The jails that are enabled; with `jails` only those named, with `all_jails` all, be they enabled or not.

    `stands_in`: whether a jail should read the journal in place of its `logpath`, because none of that is there. It is
    asked for `backend = auto` with a `journalmatch`, unless `systemd_if_nologs` says no (as fail2ban 1.1.1 does it).
    What is wrong with single jails, or looks like a slip, is in `remarks`. ConfigErrors where there is nothing to read.
    """
    reader = _reader(directory)
    merged = reader.read("jail")
    if merged is None:
        raise _no_configuration(directory, "holds neither jail.conf nor jail.local", "name the directory of fail2ban")
    return _Loader(reader, merged, stands_in).load(tuple(jails), all_jails=all_jails)


def load_filter(
    directory: Path, spec: str, *, logtype: Literal["file", "journal"] = "file"
) -> tuple[FilterSpec, tuple[Remark, ...]]:
    """The filter that a jail would have with `filter = spec`, and what there is to remark about it.

    ConfigErrors where there is no such filter or it cannot be put together.
    """
    reader = _reader(directory)
    remarks = Remarks()
    try:
        name, given = parse_call(spec)
        filter_, _ = _read_filter(reader, name, given, logtype, remarks)
        filter_.read({}, everything=True)
        combined = filter_.combined()
        built, mistakes = filter_spec(name, reader.read(f"filter.d/{name}"), combined, {}, combined)
    except RejectedError as error:
        raise ConfigErrors(
            (ConfigError(error.file, error.line, plain(spec), plain(str(error)), error.remedy),)
        ) from error
    except Unresolved as error:
        file, line = place_of(error.value) or (str(directory), 0)
        raise ConfigErrors(
            (ConfigError(file, line, plain(spec), plain(str(error)), "or use another filter"),)
        ) from error
    except ValueError as error:
        raise ConfigErrors(
            (ConfigError(str(directory), 0, plain(spec), plain(str(error)), "write name[option=value]"),)
        ) from error
    for mistake in mistakes:
        remarks.add(Remark("warning", f"`{mistake.option}`: {mistake}", "", built.file))
    return built, remarks.all()


class _Loader:
    """One reading of a directory."""

    def __init__(self, reader: Reader, merged: Merged, stands_in: Callable[[Sequence[str]], bool]) -> None:
        self._reader = reader
        self._merged = merged
        self._stands_in = stands_in
        self._remarks = Remarks()
        self._linted: set[str] = set()

    def load(self, wanted: tuple[str, ...], *, all_jails: bool) -> Loaded:
        merged = self._merged
        settings = self._settings()
        spoilt = self._faults()
        for remark in jail_remarks(merged):
            self._remarks.add(remark)
        merged.defaults["fail2ban_version"] = Value(VERSION, "", 0)
        merged.defaults["fail2ban_confpath"] = Value(str(self._reader.directory), "", 0)
        names = [name for name in merged.sections if name != INCLUDES and not is_stray_head(name)]
        for name in wanted:
            if name not in names:
                self._reject(name, f"there is no jail [{name}]{nearest(name, names)}; correct the name", "", 0)
        if len(names) > MAX_JAILS:
            text = f"there are {len(names)} jails, more than {MAX_JAILS}; those above are left out, take some out"
            self._reject("", text, *merged.headers[names[MAX_JAILS]])
        jails: list[Jail] = []
        for name in names[:MAX_JAILS]:
            if (wanted and name not in wanted) or "" in spoilt or name in spoilt:
                continue
            jail = self._jail(name, force=all_jails or bool(wanted))
            if jail is not None:
                jails.append(jail)
        return Loaded(str(self._reader.directory), tuple(jails), settings, self._remarks.all())

    def _settings(self) -> dict[str, str]:
        merged = self._reader.read("fail2ban")
        settings: dict[str, str] = {}
        if merged is None:
            return settings
        for file, fault in merged.faults:
            self._remarks.add(Remark("warning", fault.text, "", file, fault.line))
        for remark in settings_remarks(merged):
            self._remarks.add(remark)
        for section in ("Definition", "Thread"):
            for option in {**merged.defaults, **merged.sections.get(section, {})}:
                try:
                    settings[option] = get(merged, section, option)
                except Unresolved as error:
                    file, line = place_of(error.value) or ("", 0)
                    self._remarks.add(Remark("warning", f"{error} (it counts as not set)", "", file, line))
        return settings

    def _faults(self) -> set[str]:
        """Remarks what is wrong with the jails' files; the jails that it spoils, `""` for all of them."""
        spoilt: set[str] = set()
        for file, fault in self._merged.faults:
            jail = "" if fault.section in ("", DEFAULT, INCLUDES) else fault.section.split("?", 1)[0]
            self._remarks.add(Remark(fault.severity, fault.text, jail, file, fault.line))
            if fault.severity == "error":
                spoilt.add(jail)
        return spoilt

    def _jail(self, name: str, *, force: bool) -> Jail | None:
        """The jail, or None where it is not enabled or, with a remark, cannot be run."""
        file, line = self._merged.headers[name]
        try:
            return self._read_jail(name, force=force)
        except Unresolved as error:
            self._reject(name, str(error), *(place_of(error.value) or (file, line)))
        except RejectedError as error:
            place = (error.file, error.line) if error.file else (file, line)
            self._reject(name, f"{error}; {error.remedy}", *place)
        return None

    def _reject(self, jail: str, text: str, file: str, line: int) -> None:
        self._remarks.add(Remark("error", text, jail, file, line))

    def _read_jail(self, name: str, *, force: bool) -> Jail | None:
        first = JailOptions(self._merged, name, {})
        enabled = first.flag("enabled", default=False)
        if not enabled and not force:
            for remark in first.remarks:
                self._remarks.add(remark)
            return None
        backend = read_backend(first)
        jail = self._read_as(name, first, backend, enabled=enabled)
        if backend == "auto" and jail.systemd_if_nologs and jail.filter.journalmatch and jail.logpath:
            if not self._stands_in(jail.logpath):
                return jail
            other = self._read_as(name, first, "systemd", enabled=enabled)
            if other.filter.logtype == "journal" and other.filter.journalmatch:
                text = f"none of its logs is there ({', '.join(jail.logpath)}), so it reads the journal"
                self._remarks.add(Remark("instead", text, name, *self._said(name, "logpath")))
                return structs.replace(other, backend="systemd")
        return jail

    def _read_as(self, name: str, first: JailOptions, backend: str, *, enabled: bool) -> Jail:
        """The jail as it is with a backend, which tells its filter whether it reads files or the journal."""
        call = first.line("filter")
        filter_name, filter_, combined = "", None, {}
        if call:
            filter_name, filter_ = self._open_filter(name, call, backend)
            filter_.read({"enabled": str(enabled), "backend": backend, "filter": call}, everything=True)
            combined = filter_.combined()
        final = {f"known/{option}": text for option, text in combined.items() if not option.startswith("known/")}
        return self._build(name, JailOptions(self._merged, name, final), filter_name, filter_, combined)

    def _said(self, jail: str, option: str) -> tuple[str, int]:
        """Where the jail itself sets the option; its head where a default does."""
        return place_of(self._merged.sections[jail].get(option)) or self._merged.headers[jail]

    def _open_filter(self, jail: str, call: str, backend: str) -> tuple[str, Definition]:
        file, line = self._said(jail, "filter")
        try:
            name, given = parse_call(call)
        except ValueError as error:
            raise RejectedError(f"`filter`: {error}", "write name[option=value]", file, line) from error
        logtype = "journal" if backend.startswith("systemd") else "file"
        try:
            filter_, merged = _read_filter(self._reader, name, given, logtype, self._remarks)
        except RejectedError as error:
            if not error.file:
                error.file, error.line = file, line
            raise
        self._lint(merged, "filter", name, given, jail)
        return name, filter_

    def _build(
        self,
        name: str,
        options: JailOptions,
        filter_name: str,
        filter_: Definition | None,
        everything: dict[str, str],
    ) -> Jail:
        handed = options.handed()
        if filter_ is not None:
            filter_.read(handed)
        combined = filter_.combined() if filter_ is not None else {}
        merged = self._reader.read(f"filter.d/{filter_name}") if filter_name else None
        spec, mistakes = filter_spec(filter_name, merged, combined, handed, everything)
        logpath, from_tail = read_logpath(options)
        file, line = self._merged.headers[name]
        jail = Jail(
            name=name,
            filter=spec,
            enabled=options.flag("enabled", default=False),
            backend=read_backend(options),
            logpath=logpath,
            from_tail=from_tail,
            logencoding=read_logencoding(options),
            logtimezone=options.line("logtimezone") or None,
            maxretry=options.number("maxretry", 5) or 5,
            maxmatches=options.number("maxmatches", None),
            findtime_s=read_findtime_s(options),
            bantime_s=read_bantime_s(options),
            increment=read_increment(options),
            ignoreself=options.flag("ignoreself", default=True),
            ignoreip=read_ignoreip(options),
            ignorecommand=options.text("ignorecommand") or "",
            ignorecache=options.line("ignorecache"),
            actions=self._actions(name, options, handed),
            has_action=self._merged.raw(name, "action") is not None,
            port=self._loose(options, "port"),
            protocol=self._loose(options, "protocol"),
            chain=self._loose(options, "chain"),
            skip_if_nologs=options.flag("skip_if_nologs", default=False),
            systemd_if_nologs=options.flag("systemd_if_nologs", default=True),
            options={option: self._loose(options, option) for option in self._merged.sections[name]},
            places={option: (each.file, each.line) for option, each in self._merged.sections[name].items()},
            file=file,
            line=line,
        )
        self._mistakes(mistakes, options, spec.file)
        self._emptiness(jail, options)
        for remark in options.remarks:
            self._remarks.add(remark)
        return jail

    def _lint(
        self, merged: Merged, kind: Literal["filter", "action"], name: str, given: dict[str, str], jail: str
    ) -> None:
        if merged.main not in self._linted:
            self._linted.add(merged.main)
            for remark in definition_remarks(merged, kind):
                self._remarks.add(remark)
        for remark in bracket_remarks(merged, name, given, jail, self._merged.raw(jail, kind)):
            self._remarks.add(remark)

    def _loose(self, options: JailOptions, option: str) -> str:
        """A variable that is only a habit: what it refers to may be missing without harm."""
        try:
            return options.text(option) or ""
        except Unresolved:
            return ""

    def _mistakes(self, mistakes: list[Mistake], options: JailOptions, file: str) -> None:
        for mistake in mistakes:
            options.remark(mistake.option, f"`{mistake.option}` of {file or 'the jail'}: {mistake}")

    def _emptiness(self, jail: Jail, options: JailOptions) -> None:
        if not jail.filter.failregex:
            options.remark("filter", "the jail has no failregex and finds nothing; set `filter` or `failregex`")
        if not jail.logpath and not jail.backend.startswith("systemd"):
            options.remark("logpath", "the jail watches no log; set `logpath`, or `backend = systemd`")
        if not jail.actions and jail.has_action:
            options.remark("action", "the jail has no action and bans nobody; set `action`, or take its override out")

    def _actions(self, jail: str, options: JailOptions, handed: dict[str, str]) -> tuple[ActionSpec, ...]:
        file, line = self._said(jail, "action")
        try:
            calls = [parse_call(call) for call in split_calls(options.text("action") or "")]
        except Unresolved:
            raise
        except ValueError as error:
            raise RejectedError(f"`action`: {error}", "write name[option=value, ...]", file, line) from error
        actions: list[ActionSpec] = []
        for name, given in calls:
            action = self._action(jail, name, given, options, handed)
            if any(action.actname == each.actname for each in actions):
                options.remark(
                    "action",
                    f"two actions of the jail are named `{action.actname}` (fail2ban refuses the second one); the"
                    f" second is named `{action.actname}-{len(actions) + 1}` here. Give it an `actname`",
                    "instead",
                )
                actname = f"{action.actname}-{len(actions) + 1}"
                action = ActionSpec(
                    action.name, actname, {**action.options, "actname": actname}, action.given, action.file
                )
            actions.append(action)
        return tuple(actions)

    def _action(
        self, jail: str, name: str, given: dict[str, str], options: JailOptions, handed: dict[str, str]
    ) -> ActionSpec:
        file, line = self._said(jail, "action")
        if name.endswith(".py"):
            path = self._reader.directory / "action.d" / name
            rest = {option: text for option, text in given.items() if option != "actname"}
            return ActionSpec(name, given.get("actname", Path(name).stem), rest, given, str(path))
        merged = self._reader.read(f"action.d/{name}")
        if merged is None:
            near = nearest(name, _names(self._reader.directory / "action.d"))
            raise RejectedError(f"there is no action action.d/{name}.conf{near}", "correct the name", file, line)
        _refuse_faults(merged, self._remarks, f"the action `{name}`")
        self._lint(merged, "action", name, given, jail)
        action, mistakes = action_spec(name, merged, given, jail, handed)
        self._mistakes(mistakes, options, action.file)
        return action


def _reader(directory: Path) -> Reader:
    try:
        if not directory.is_dir():
            raise _no_configuration(directory, "is no directory", "name the directory of fail2ban")
        next(directory.iterdir(), None)
    except OSError as error:
        reason = error.strerror or str(error)
        raise _no_configuration(directory, f"cannot be read ({reason})", "make it readable for this user") from error
    return Reader(directory)


def _no_configuration(directory: Path, message: str, remedy: str) -> ConfigErrors:
    return ConfigErrors((ConfigError(str(directory), 0, "", message, f"{remedy}, usually /etc/fail2ban"),))


def _read_filter(
    reader: Reader, name: str, given: dict[str, str], logtype: str, remarks: Remarks
) -> tuple[Definition, Merged]:
    merged = reader.read(f"filter.d/{name}")
    if merged is None:
        near = nearest(name, _names(reader.directory / "filter.d"))
        raise RejectedError(
            f"there is no filter filter.d/{name}.conf{near}", "correct `filter`, or the jail's name that it is made of"
        )
    _refuse_faults(merged, remarks, f"the filter `{name}`")
    return open_filter(merged, given, logtype), merged


def _refuse_faults(merged: Merged, remarks: Remarks, what: str) -> None:
    """Passes on what is wrong with a filter's or an action's files; an error is the end of the jail."""
    worst: tuple[str, Fault] | None = None
    for file, fault in merged.faults:
        if fault.severity != "error":
            remarks.add(Remark(fault.severity, fault.text, "", file, fault.line))
        elif worst is None:
            worst = (file, fault)
    if not worst and "Definition" not in merged.sections:
        near = nearest("Definition", [section.title() for section in merged.sections])
        raise RejectedError(f"{what} has no [Definition]{near}", "write its head", merged.main)
    if worst:
        raise RejectedError(f"{what} cannot be used: {worst[1].text}", "then load again", worst[0], worst[1].line)


def _names(directory: Path) -> list[str]:
    return sorted(path.stem for path in directory.glob("*.conf"))


__all__ = ["VERSION", "load", "load_filter", "parse_span_s"]
