"""fail2ban's own words on dates, as JSON on standard output. Run by the system's Python, beside Debian's package.

A request on standard input, one of
- `{"samples": true}`: every sample log and option set: its datepattern, and of every line the annotated time and what
  the date detector finds, carried through the file (`carried`) and new for each line (`fresh`);
- `{"dates": [[datepattern or null, logtimezone or null, line, now]...]}`: what a new detector finds;
- `{"zones": true}`: the offsets in minutes of all abbreviations;
- `{"templates": true}`: the names of the default templates.

What is found is `[cut text, start, end, seconds or null]`, or null.
"""

from __future__ import annotations

import json
import re
import sys
from importlib import import_module
from pathlib import Path
from typing import Any

PACKAGE = "/usr/lib/python3/dist-packages"
FILTERS = "/etc/fail2ban"
NOW_TS = 1124013600
ANNOTATION = re.compile(r"#+ ?(failJSON|(?:file|filter)Options|addFILE):(.+)$")


def detector_of(datepattern: str | None, logtimezone: str | None = None) -> Any:
    filters = import_module("fail2ban.server.filter").Filter(None)
    if logtimezone is not None:
        filters.setLogTimeZone(logtimezone)
    if datepattern is not None:
        filters.setDatePattern(datepattern)
    return filters.dateDetector


def found_by(detector: Any, line: str) -> list[Any] | None:
    match, template = detector.matchTime(line)
    if match is None:
        return None
    start, end = match.span(1)
    try:
        found = detector.getTime(line[start:end], (match, template))
    except (KeyError, TypeError, ValueError) as error:  # an unknown zone, a day without a month
        return [line[start:end], start, end, None, repr(error)]
    return [line[start:end], start, end, found[0] if found else None]


def datepattern_of(name: str, options: dict[str, Any]) -> str | None:
    given = {key: value for key, value in options.items() if not key.startswith("test.")}
    reader = import_module("fail2ban.client.filterreader").FilterReader(name, "jail", given, basedir=FILTERS)
    reader.read()
    reader.getOptions({})
    patterns = [option[3] for option in reader.convert() if option[2] == "datepattern"]
    return patterns[-1] if patterns else None


def samples() -> list[dict[str, Any]]:
    folder = Path(PACKAGE) / "fail2ban/tests/files/logs"
    told = []
    for path in sorted(folder.iterdir()):
        if Path(FILTERS, "filter.d", f"{path.name}.conf").exists():
            told += samples_of(path)
    return told


def samples_of(path: Path) -> list[dict[str, Any]]:
    """The option sets of a file, each with its lines; an included file belongs to the filter that includes it."""
    sets: dict[str, dict[str, Any]] = {}
    detectors: dict[str, Any] = {}
    common: dict[str, Any] = {}
    current: list[str] = []
    files = [path]
    for file in files:
        annotation: dict[str, Any] = {}
        for number, raw in enumerate(file.read_text("utf-8", errors="replace").split("\n"), start=1):
            line = raw.rstrip("\r")
            if noted := ANNOTATION.match(line):
                value = json.loads(noted[2])
                if noted[1] == "fileOptions":
                    common = value
                elif noted[1] == "addFILE":
                    files.append(path.parent / value)
                elif noted[1] == "failJSON":
                    annotation = value
                else:
                    current = []
                    for options in value if isinstance(value, list) else [value]:
                        current.append(add_set(sets, path.name, {**common, **options}))
                continue
            if line.startswith("#") or not line.strip():
                continue
            for key in current or [add_set(sets, path.name, {})]:
                if sets[key]["options"].get("logtype") == "journal":
                    continue
                pattern = sets[key]["datepattern"]
                carried = detectors.setdefault(key, detector_of(pattern))
                sets[key]["lines"].append(
                    {
                        "file": file.name,
                        "number": number,
                        "line": line,
                        "time": annotation.get("time") if annotation.get("match") else None,
                        "carried": found_by(carried, line),
                        "fresh": found_by(detector_of(pattern), line),
                    }
                )
            annotation = {}
    return list(sets.values())


def add_set(sets: dict[str, dict[str, Any]], name: str, options: dict[str, Any]) -> str:
    key = json.dumps(options, sort_keys=True)
    if key not in sets:
        sets[key] = {"filter": name, "options": options, "datepattern": datepattern_of(name, options), "lines": []}
    return key


def main() -> None:
    sys.path.insert(0, PACKAGE)
    clock = import_module("fail2ban.server.mytime").MyTime
    clock.setTime(NOW_TS)
    strptime = import_module("fail2ban.server.strptime")
    asked = json.load(sys.stdin)
    answer: Any
    if asked.get("samples"):
        answer = samples()
    elif asked.get("zones"):
        answer = {name.upper(): minutes for name, minutes in strptime.TZ_ABBR_OFFS.items() if name}
    elif asked.get("templates"):
        detector = detector_of(None) or import_module("fail2ban.server.datedetector").DateDetector()
        detector.addDefaultTemplate()
        answer = [template.name for template in detector.templates]
    else:
        answer = []
        for datepattern, logtimezone, line, now_ts in asked["dates"]:
            clock.setTime(now_ts)
            answer.append(found_by(detector_of(datepattern, logtimezone), line))
    json.dump(answer, sys.stdout)


if __name__ == "__main__":
    main()
