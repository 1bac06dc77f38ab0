"""`tocsin rules test`: which lines of a log a rule matches, and why."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tocsin.cli import options
from tocsin.cli.failure import CONFIGURATION, DATA, NO_INPUT, OF_SOURCE, USAGE, Failure
from tocsin.cli.output import Output

if TYPE_CHECKING:
    from tocsin.formats import Anchor, Format
    from tocsin.reading import Readings
    from tocsin.rules import CompiledRule, Rule
    from tocsin.sources.notice import SourceError


def rules_test(
    *,
    rule: Annotated[str, typer.Argument(metavar="RULE", help="The id of a rule, or a TOML file with one rule.")],
    files: Annotated[
        list[Path], typer.Argument(metavar="FILE", readable=False, help="Log files; - is standard input.")
    ],
    rule_files: options.RuleFiles = None,
    fail2ban: Annotated[
        Path | None,
        typer.Option(
            "--fail2ban", metavar="DIR", help="RULE is a filter of this fail2ban configuration: sshd[mode=aggressive]."
        ),
    ] = None,
    log_format: Annotated[
        str | None, typer.Option("--format", metavar="SPEC", help="Format of the logs. Default: told by their lines.")
    ] = None,
    every: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say of the other lines too why they do not match.")
    ] = False,
    now: options.Now = None,
    tz: options.Zone = None,
    as_json: options.Json = False,
) -> None:
    """Mark the lines of a log that a rule matches, and say why.

    Each line is judged by itself; limits and windows are what `tocsin replay` is for.

    \b
    Examples:  tocsin rules test wordpress-login /var/log/apache2/access.log
               grep wp-login access.log | tocsin rules test mine.toml -
               tocsin rules test --fail2ban /etc/fail2ban 'sshd[mode=ddos]' /var/log/auth.log
    """
    from tocsin.cli import setup  # noqa: PLC0415  see main
    from tocsin.decide.impostors import Crawlers  # noqa: PLC0415  see main
    from tocsin.reading import Readings  # noqa: PLC0415  see main
    from tocsin.rules import compile_rule  # noqa: PLC0415  see main

    zone = setup.zone_of(tz)
    if fail2ban is not None:
        from tocsin.cli.filter_test import test_filter  # noqa: PLC0415  see main

        out = Output(as_json=as_json, zone=zone if tz else None)
        test_filter(fail2ban, rule, files, zone, now, out, every=every)
        return
    compiled = compile_rule(_find(rule, rule_files or [])).judged_by(Crawlers())
    proxies = setup.proxies_of(())
    if log_format is not None:
        setup.check_format(log_format, proxies)
    out = Output(as_json=as_json, zone=zone if tz else None)
    readings = Readings([("*", log_format)] if log_format else [], proxies, zone)
    tester = Tester(compiled, readings, out, every=every)
    for file in files:
        tester.take(file, now)
    if as_json:
        out.flush()
    else:
        out.line()
        out.line(f"{tester.matched:,} of {tester.lines:,} lines match {compiled.rule.id}: {compiled.sentence}")
    for trouble in tester.troubles:
        out.note(str(trouble))
    if tester.troubles:
        raise SystemExit(OF_SOURCE[tester.troubles[0].kind])
    if tester.lines and all(reading.format is None for reading in readings.known.values()) and not compiled.rule.line:
        raise Failure(DATA, "no known format fits these lines; name one with --format")


class Tester:
    """Judges line after line."""

    def __init__(self, rule: CompiledRule, readings: Readings, out: Output, *, every: bool) -> None:
        self.rule = rule
        self.readings = readings
        self.out = out
        self.every = every
        self.lines = 0
        self.matched = 0
        self.troubles: list[SourceError] = []

    def take(self, file: Path, now_ts: float | None) -> None:
        """All lines of one file, in order."""
        from tocsin.sources.finished import read_finished  # noqa: PLC0415  see main

        if now_ts is None:
            now_ts = file.stat().st_mtime if file.is_file() else time.time()
        for batch in read_finished([file], on_error=self.troubles.append):
            fmt, anchor = self.readings.of(batch, now_ts)
            for number, line in enumerate(batch.data[:-1].split(b"\n"), batch.line):
                self._judge(batch.source, number, line, fmt, anchor)

    def _judge(self, source: str, number: int, line: bytes, fmt: Format | None, anchor: Anchor) -> None:
        row = self._row(line, fmt, anchor)
        self.lines += 1
        self.matched += row["matched"]
        if self.out.as_json:
            self.out.json({"source": source, "line": number, **row})
            return
        matched = row["matched"]
        text = line.decode("utf-8", "backslashreplace")
        self.out.line(f"{'>' if matched else ' '} {number:>6}  {text}", style="bold green" if matched else "")
        if matched or self.every or row["ts"] is None:
            self.out.line(f"          {row['why']}", style="" if matched else "dim")

    def _row(self, line: bytes, fmt: Format | None, anchor: Anchor) -> dict[str, Any]:
        """What is said of a line: matched, rule, subject, ts, fields, why."""
        from tocsin.cli.words import number  # noqa: PLC0415  see main
        from tocsin.model import Other, RawLine, Unparsed  # noqa: PLC0415  see main

        row: dict[str, Any] = {"matched": False, "rule": self.rule.rule.id, "subject": None, "ts": None, "fields": {}}
        if self.rule.rule.line:
            address = self.rule.line_address(line.decode("utf-8", "backslashreplace"))
            if address is not None:
                row["matched"], row["subject"] = True, self.rule.subject(address)
            return {**row, "why": "yes: the line's pattern fits" if address else "no: no pattern of the rule fits"}
        event = fmt.parse(line, anchor) if fmt is not None else Unparsed("no known format fits this log")
        if isinstance(event, Unparsed):
            return {**row, "why": f"no: {event.reason}"}
        if isinstance(event, Other | RawLine):
            return {**row, "why": "no: a well-formed line that is about something else"}
        fields = {name: getattr(event, name) for name in event.__struct_fields__ if name != "ts"}
        row["fields"] = {name: value for name, value in fields.items() if value is not None}
        row["ts"] = number(event.ts)
        row["subject"] = self.rule.subject(event.source_ip) if event.source_ip else None
        why = self.rule.explain_match(event)
        if self.rule.predicate(event):
            if self.rule.keys(event) is None or (self.rule.rule.distinct and self.rule.distinct_value(event) is None):
                why = "no: its conditions hold, but the line lacks what the rule counts by"
            else:
                row["matched"] = True
        return {**row, "why": why}


def _find(name: str, files: list[Path]) -> Rule:
    """The rule that is meant: by its id, or the only one of a file."""
    from tocsin.cli.setup import rules_with  # noqa: PLC0415  see main

    path = Path(name)
    if path.suffix == ".toml" or path.is_file():
        return _only_rule(path)
    try:
        return rules_with(files, [name])[0]
    except Failure as failure:
        if failure.code != USAGE:
            raise
        hint = "to test a jail's filter add --fail2ban DIR and name the filter"
        raise Failure(USAGE, *(f"{line}; {hint}" for line in failure.lines)) from failure


def _only_rule(path: Path) -> Rule:
    from tocsin.rules import RuleErrors, load_shipped, read_rules  # noqa: PLC0415  see main

    try:
        text = path.read_text(encoding="utf-8")
        found = read_rules(text, str(path), {rule.id: rule for rule in load_shipped()})
    except OSError as error:
        raise Failure(NO_INPUT, f"{path}: cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise Failure(CONFIGURATION, f"{path}: byte {error.start} is not UTF-8; TOML is UTF-8") from error
    except RuleErrors as errors:
        raise Failure(CONFIGURATION, *map(str, errors.errors)) from errors
    if len(found) != 1:
        ids = ", ".join(rule.id for rule in found) or "none"
        raise Failure(
            USAGE, f"{path} holds {len(found)} rules ({ids}); expected one: add --rules {path} and name the id"
        )
    return found[0]
