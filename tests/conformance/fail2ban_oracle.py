"""What fail2ban itself makes of a configuration, and the same of ours, as one comparable record a jail.

`fail2ban-client -d` prints the commands that it would send to its server, one Python literal a line. What those leave
raw (an action's properties) is asked of fail2ban's own readers, in a process of the system's Python.
"""

from __future__ import annotations

import ast
import glob
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from tocsin.fail2ban.model import ActionSpec, Jail
from tocsin.fail2ban.settings.definitions import ACTION_OPTIONS

STOCK = Path("/etc/fail2ban")
_READERS = """
import json, logging, signal, sys
logging.disable(logging.CRITICAL)
from fail2ban.client.actionreader import ActionReader
from fail2ban.client.jailsreader import JailsReader
from fail2ban.server.action import CommandAction
from fail2ban.server.mytime import MyTime
ignored = CommandAction._escapedTags | {"timeout", "bantime"}
def read(directory):
    reader = JailsReader(share_config={}, basedir=directory)
    reader.read()
    reader.getOptions(None)
    found = {}
    for jail in reader.jails:
        if "config-error" in jail.options:
            continue
        actions = {}
        for action in jail._JailReader__actions:
            if isinstance(action, ActionReader):
                actions[action.getName()] = action.getCombined(ignore=ignored)
        spans = {}
        for option in ("findtime", "bantime", "bantime.maxtime", "bantime.rndtime"):
            if jail.options.get(option):
                spans[option] = float(MyTime.str2seconds(jail.options[option]))
        found[jail.getName()] = {"actions": actions, "spans": spans}
    return {"jails": found, "commands": reader.convert(allow_no_files=True)}
def too_long(signum, frame):
    raise TimeoutError("no end in sight")
signal.signal(signal.SIGALRM, too_long)
def attempt(directory):
    signal.setitimer(signal.ITIMER_REAL, 1)
    try:
        return read(directory)
    except Exception as error:
        return {"refused": type(error).__name__ + ": " + str(error)[:500]}
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
print(json.dumps([attempt(directory) for directory in sys.argv[1:]]))
"""


def copy_of_stock(directory: Path, jail_local: str = "", files: dict[str, str] | None = None) -> Path:
    """A copy of the installed configuration with a `jail.local` and further files of its own."""
    assert STOCK.joinpath("jail.conf").is_file(), "install fail2ban: make setup does"
    copy = directory / "fail2ban"
    shutil.copytree(STOCK, copy)
    for name, text in {"jail.local": jail_local, **(files or {})}.items():
        path = copy / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return copy


def dump(directory: Path) -> list[list[Any]]:
    """The commands of `fail2ban-client -d`."""
    client = shutil.which("fail2ban-client")
    assert client, "install fail2ban: make setup does"
    ran = subprocess.run([client, "-c", str(directory), "-d"], capture_output=True, text=True, timeout=60, check=False)
    assert ran.returncode == 0, ran.stdout + ran.stderr
    return [ast.literal_eval(line) for line in ran.stdout.splitlines() if line.startswith("[")]


def read_with_fail2ban(directories: Sequence[Path]) -> list[dict[str, Any]]:
    """What fail2ban's readers make of each: `{"jails", "commands"}`, or `{"refused"}` with the exception."""
    ran = subprocess.run(
        ["/usr/bin/python3", "-c", _READERS, *map(str, directories)],
        capture_output=True,
        text=True,
        timeout=300,
        env={**os.environ, "PYTHONPATH": ""},
        check=False,
    )
    assert ran.returncode == 0, ran.stderr
    found: list[dict[str, Any]] = json.loads(ran.stdout)
    return found


def records_of_fail2ban(directory: Path) -> dict[str, dict[str, Any]]:
    """A record for each jail that fail2ban would start, in its order, by `fail2ban-client -d`."""
    [found] = read_with_fail2ban([directory])
    assert "refused" not in found, found
    return records(dump(directory), found["jails"])


def records(commands: list[list[Any]], readers: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """The commands as a record a jail; `readers` say what they leave raw."""
    found: dict[str, dict[str, Any]] = {}
    for command in commands:
        if command[0] == "add":
            found[command[1]] = _defaults(command[2])
        elif command[0] in ("set", "multi-set") and command[1] in found:
            _take(found[command[1]], command)
    for name, record in found.items():
        record.update(readers[name]["spans"])
        if record["bantime"] is not None and record["bantime"] < 0:
            record["bantime"] = None
        for action in record["actions"].values():
            if "resolved" in action:
                action["resolved"] = _texts(readers[name]["actions"][action["actname"]])
                _agree(action)
    return found


def _defaults(backend: str) -> dict[str, Any]:
    return {
        "backend": backend,
        "usedns": "warn",
        "prefregex": None,
        "maxlines": 1,
        "failregex": [],
        "ignoreregex": [],
        "datepattern": None,
        "journalmatch": [],
        "logencoding": "auto",
        "logtimezone": None,
        "maxretry": 5,
        "maxmatches": None,
        "findtime": 600.0,
        "bantime": 600.0,
        "bantime.increment": False,
        "bantime.factor": "",
        "bantime.formula": "",
        "bantime.multipliers": [],
        "bantime.maxtime": None,
        "bantime.rndtime": 0.0,
        "bantime.overalljails": False,
        "ignoreself": True,
        "ignoreip": [],
        "ignorecommand": "",
        "ignorecache": "",
        "logpath": [],
        "actions": {},
    }


def _take(record: dict[str, Any], command: list[Any]) -> None:
    """One `set` or `multi-set` command, laid into the record."""
    option, values = command[2], command[3:]
    if option in ("addfailregex", "addignoreregex"):
        record[option[3:]] += values[0] if command[0] == "multi-set" else values
    elif option == "addjournalmatch":
        record["journalmatch"].append(values)
    elif option == "addignoreip":
        record["ignoreip"] += values
    elif option == "addlogpath":
        record["logpath"].append((values[0], values[1]))
    elif option == "addaction":
        record["actions"][values[0]] = {"actname": values[0]}
        if len(values) > 1:
            record["actions"][values[0]].update(file=values[1], arguments=json.loads(values[2]))
        else:
            record["actions"][values[0]].update(stated={}, resolved={})
    elif option == "action":
        pairs = values[1] if command[0] == "multi-set" else [values[1:]]
        record["actions"][values[0]]["stated"] = _texts(dict(pairs))
    elif option == "bantime.multipliers":
        record[option] = [float(word) for word in values[0].split()]
    elif option in ("prefregex", "datepattern", "logtimezone"):
        record[option] = values[0] or None
    else:
        assert option in record, f"a command that the comparison does not know: {command}"
        record[option] = values[0]


def _texts(options: dict[str, Any]) -> dict[str, str]:
    """Options without the `known/` shadows; yes and no as words."""
    return {
        name: str(value).lower() if isinstance(value, bool) else str(value)
        for name, value in options.items()
        if not name.startswith("known/")
    }


def _agree(action: dict[str, Any]) -> None:
    """The dump states commands resolved and properties raw: both must be found in what the readers resolved."""
    stated = action.pop("stated")
    for name, value in stated.items():
        if name in ACTION_OPTIONS or "<" not in value:
            assert action["resolved"][name] == value, (name, value)
    assert set(stated) == set(action["resolved"])


def record_of_ours(jail: Jail) -> dict[str, Any]:
    """The same record of a jail as it was loaded here. `logpath` are the files that exist now."""
    increment = jail.increment
    return {
        "backend": jail.backend,
        "usedns": jail.filter.usedns,
        "prefregex": jail.filter.prefregex,
        "maxlines": jail.filter.maxlines,
        "failregex": list(jail.filter.failregex),
        "ignoreregex": list(jail.filter.ignoreregex),
        "datepattern": jail.filter.datepattern,
        "journalmatch": [shlex.split(match) for match in jail.filter.journalmatch],
        "logencoding": jail.logencoding,
        "logtimezone": jail.logtimezone,
        "maxretry": jail.maxretry,
        "maxmatches": jail.maxmatches,
        "findtime": jail.findtime_s,
        "bantime": jail.bantime_s,
        "bantime.increment": increment.enabled,
        "bantime.factor": increment.factor,
        "bantime.formula": increment.formula,
        "bantime.multipliers": list(increment.multipliers),
        "bantime.maxtime": increment.maxtime_s,
        "bantime.rndtime": increment.rndtime_s,
        "bantime.overalljails": increment.overalljails,
        "ignoreself": jail.ignoreself,
        "ignoreip": list(jail.ignoreip),
        "ignorecommand": jail.ignorecommand,
        "ignorecache": jail.ignorecache,
        "logpath": [] if jail.backend.startswith("systemd") else list(_existing(jail)),
        "actions": {action.actname: _action(action) for action in jail.actions},
    }


def _existing(jail: Jail) -> Iterable[tuple[str, str]]:
    for path in jail.logpath:
        for found in glob.glob(path):  # noqa: PTH207  the paths are absolute, and in the order of fail2ban's
            yield found, "tail" if path in jail.from_tail else "head"


def _action(action: ActionSpec) -> dict[str, Any]:
    if action.name.endswith(".py"):
        return {"actname": action.actname, "file": action.file, "arguments": dict(action.options)}
    return {"actname": action.actname, "resolved": dict(action.options)}


def compare(theirs: dict[str, dict[str, Any]], ours: Iterable[Jail]) -> tuple[int, list[str]]:
    """The number of fields compared, and a line for each that differs."""
    mine = {jail.name: record_of_ours(jail) for jail in ours}
    differences = [f"jails: fail2ban has {list(theirs)}, here are {list(mine)}"] if list(theirs) != list(mine) else []
    fields = 0
    for name, expected in theirs.items():
        for field, value in expected.items():
            got = mine.get(name, {}).get(field)
            if field == "actions":
                count, wrong = _compare_actions(name, value, got or {})
                fields += count
                differences += wrong
                continue
            fields += 1
            if got != value:
                differences.append(f"{name}.{field}: fail2ban has {value!r}, here is {got!r}")
    return fields, differences


def _compare_actions(jail: str, theirs: dict[str, Any], ours: dict[str, Any]) -> tuple[int, list[str]]:
    fields, differences = 0, []
    if list(theirs) != list(ours):
        differences.append(f"{jail}.actions: fail2ban has {list(theirs)}, here are {list(ours)}")
    for name, expected in theirs.items():
        got = ours.get(name, {})
        for part, value in expected.items():
            mine = got.get(part)
            if not isinstance(value, dict) or not isinstance(mine, dict):
                fields += 1
                if mine != value:
                    differences.append(f"{jail}.{name}.{part}: fail2ban has {value!r}, here is {mine!r}")
                continue
            for option in sorted({*value, *mine}):
                fields += 1
                if value.get(option) != mine.get(option):
                    differences.append(
                        f"{jail}.{name}.{option}: fail2ban has {value.get(option)!r}, here is {mine.get(option)!r}"
                    )
    return fields, differences
