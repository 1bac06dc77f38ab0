"""What `tocsin explain` does: gathers the evidence, has it judged, and tells the report."""

from __future__ import annotations

import gc
import os
import shutil
import sys
from collections.abc import Sequence
from datetime import timedelta, timezone, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

from tocsin.cli import setup
from tocsin.cli.failure import DATA, NO_INPUT, NO_PERMISSION, UNAVAILABLE, USAGE, Failure
from tocsin.cli.output import Output, progress_bar

if TYPE_CHECKING:
    from tocsin.cli.progress import Bar
    from tocsin.explain.model import Dossier, Report
    from tocsin.explain.telling.words import Code, Language

NARROWEST, WIDEST = 60, 100  # columns; longer lines tire the eye
SWITCHING_S = 0.001  # DuckDB's thread waits so long for its turn, a hundred times; Python's own 5 ms are half a second
REFUSED = 10  # sources that are named where none could be used


def run(
    *,
    paths: Sequence[Path],
    html: Path | None = None,
    lang: str | None = None,
    now: float | None = None,
    tz: str | None = None,
    as_json: bool = False,
    apply: bool = False,
    yes: bool = False,
    config: Path | None = None,
) -> None:
    """Explain and print. Failure where nothing can be read, or the page cannot be written."""
    from tocsin.explain.effect import with_effects  # noqa: PLC0415  here alone
    from tocsin.explain.explain import explain  # noqa: PLC0415  as above
    from tocsin.explain.telling.words import Language  # noqa: PLC0415  as above

    code = _language_code(lang)
    zone = setup.zone_of(tz)
    missing = [f"{path}: there is no such file or folder" for path in paths if str(path) != "-" and not path.exists()]
    if missing:
        raise Failure(NO_INPUT, *missing)
    loaded = setup.configuration(config) if apply or config is not None else None
    out = Output(as_json=as_json)
    collecting = gc.isenabled()
    switching_s = sys.getswitchinterval()
    gc.disable()  # nothing here makes cycles, and looking for them among a million objects takes a tenth of the time
    sys.setswitchinterval(SWITCHING_S)
    try:
        dossier = _gathered(paths, now, zone if tz else None)
        _require_something(dossier, paths)
        report = with_effects(explain(dossier), now, zone)
    finally:
        sys.setswitchinterval(switching_s)
        if collecting:
            gc.enable()
    language = Language(code, zone if tz else _zone_shown(dossier, zone))
    if as_json:
        from tocsin.explain.telling.document import document  # noqa: PLC0415  here alone

        out.json(document(report))
        out.flush()
    else:
        _print(out, report, language)
    if html is not None:
        _write_page(out, html, report, language)
    if apply and loaded is not None:
        from tocsin.cli.applying import apply_rules  # noqa: PLC0415  here alone

        apply_rules(out, report, loaded, yes=yes)


def _language_code(lang: str | None) -> Code:
    from tocsin.explain.telling.words import CODES, chosen  # noqa: PLC0415  as in run

    if lang is None:
        return chosen(os.environ)
    for code in CODES:
        if code == lang:
            return code
    raise Failure(USAGE, f"--lang: expected one of {', '.join(CODES)}, got {lang!r}")


def _gathered(paths: Sequence[Path], now_ts: float | None, zone: tzinfo | None) -> Dossier:
    from tocsin.explain.evidence.gather import gather  # noqa: PLC0415  here alone

    shown = _Shown()
    try:
        return gather(paths, now_ts, zone, shown.advance)
    finally:
        shown.close()


class _Shown:
    """The progress bar, once it is known how much there is to do."""

    def __init__(self) -> None:
        self._bar: Bar | None = None
        self._asked = False

    def advance(self, done: int, total: int) -> None:
        """So much of so much is done."""
        if not self._asked:
            self._asked, self._bar = True, progress_bar("reading", total)
        if self._bar is not None:
            self._bar.advance_to(done)

    def close(self) -> None:
        """Take it away."""
        if self._bar is not None:
            self._bar.close()


def _zone_shown(dossier: Dossier, machine: tzinfo) -> tzinfo:
    """The zone of the logs, so that what is said and what is quoted agree; the machine's where they name none."""
    if dossier.zone_s is None:
        return machine
    return timezone(timedelta(seconds=dossier.zone_s))


def _print(out: Output, report: Report, language: Language) -> None:
    from tocsin.explain.telling.render import render  # noqa: PLC0415  as in run

    width = min(WIDEST, max(NARROWEST, shutil.get_terminal_size().columns)) if out.terminal else WIDEST
    for row in render(report, language, width, whole_quotes=not out.terminal):
        out.line(row.text, style=row.style)


def _write_page(out: Output, file: Path, report: Report, language: Language) -> None:
    from tocsin.explain.telling.page import page  # noqa: PLC0415  as in run

    try:
        file.write_text(page(report, language), encoding="utf-8")
    except OSError as error:
        code = NO_PERMISSION if isinstance(error, PermissionError) else UNAVAILABLE
        raise Failure(code, f"--html: {file}: {error.strerror}; name a file that can be written") from error
    out.note(f"the page is in {file}")


def _require_something(dossier: Dossier, paths: Sequence[Path]) -> None:
    """End where nothing was read: no report is better than one that says that all was well."""
    from tocsin.explain.telling.phrases import holes, is_used  # noqa: PLC0415  as in run
    from tocsin.explain.telling.words import Language  # noqa: PLC0415  as in run

    if any(map(is_used, dossier.coverage)):
        return
    said = [f"{each.source}: {holes(each, Language())}" for each in dossier.coverage[:REFUSED]]
    if not paths:
        raise Failure(
            NO_INPUT, *said, "no readable log was found on this machine; run as root (sudo), or name the logs"
        )
    if not all(os.access(path, os.R_OK) for path in paths if path.exists()):
        raise Failure(NO_PERMISSION, *said, "run as root (sudo), or as a member of the group that owns the logs")
    if all(each.kind == "empty" for each in dossier.coverage):
        raise Failure(NO_INPUT, *said, "there is nothing to read; name the folder that holds the logs")
    raise Failure(DATA, *said, "no line fits a known format; name logs of the web server, the system or the database")
