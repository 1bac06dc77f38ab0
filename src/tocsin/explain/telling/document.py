"""Report -> the document of `tocsin explain --json`: stable keys, sentences in English, times in Unix seconds.

What no log tells is null. Texts of log lines are raw; whoever shows them must escape them.
"""

from __future__ import annotations

import math
from typing import Any

import msgspec

from tocsin.explain.model import (
    Coverage,
    Incident,
    Link,
    Mark,
    Remedy,
    Report,
    Said,
    Series,
    Spared,
    Suspect,
    Timeline,
)
from tocsin.explain.telling.words import Language

_ENGLISH = Language("en", names_zone=True)  # of the default zone, UTC: the document stands alone


def document(report: Report) -> dict[str, Any]:
    """The document, made of what JSON knows."""
    return {
        "coverage": [_coverage(each) for each in report.coverage],
        "incidents": [_incident(each) for each in report.incidents],
        "quiet": report.quiet,
        "notes": [_text(note) for note in report.notes],
    }


def _coverage(each: Coverage) -> dict[str, Any]:
    return {
        "source": each.source,
        "kind": each.kind,
        "start": _number(each.start),
        "end": _number(each.end),
        "lines": each.lines,
        "unparsed": each.unparsed,
        "gaps": [{"start": _number(gap.start), "end": _number(gap.end)} for gap in each.gaps],
        "notes": [_text(note) for note in each.notes],
    }


def _incident(each: Incident) -> dict[str, Any]:
    return {
        "start": _number(each.start),
        "end": _number(each.end),
        "onset": _number(each.onset),
        "cause": each.cause,
        "confidence": _number(each.confidence),
        "summary": _text(each.summary),
        "chain": [_link(link) for link in each.chain],
        "suspects": [_suspect(suspect) for suspect in each.suspects],
        "ban": list(each.ban),
        "deny": [msgspec.to_builtins(signature) for signature in each.deny],
        "spare": [_spared(spared) for spared in each.spare],
        "remedies": [_remedy(remedy) for remedy in each.remedies],
        "notes": [_text(note) for note in each.notes],
        "times": [_number(ts) for ts in each.times],
        "timeline": None if each.timeline is None else _timeline(each.timeline),
    }


def _link(link: Link) -> dict[str, Any]:
    return {
        "ts": _number(link.ts),
        "link": _text(link.link),
        "observed": link.observed,
        "source": link.source,
        "line": link.line,
        "text": link.text,
        "missing": link.missing,
    }


def _suspect(suspect: Suspect) -> dict[str, Any]:
    return {
        "kind": suspect.kind,
        "signature": None if suspect.signature is None else msgspec.to_builtins(suspect.signature),
        "process": suspect.process,
        "actors": [{"subject": actor.subject, "requests": actor.requests} for actor in suspect.actors],
        "requests": suspect.requests,
        "share": _number(suspect.share),
        "lift": _number(suspect.lift),
        "why": _text(suspect.why),
        "counter_evidence": None if suspect.counter_evidence is None else _text(suspect.counter_evidence),
        "cause": suspect.cause,
        "name": _text(suspect.name),
    }


def _spared(spared: Spared) -> dict[str, Any]:
    return {"subject": spared.subject, "why": _text(spared.why)}


def _remedy(remedy: Remedy) -> dict[str, Any]:
    return {"text": _text(remedy.text), "apply": remedy.apply, "now": remedy.now, "rule": remedy.rule}


def _timeline(timeline: Timeline) -> dict[str, Any]:
    return {
        "start": _number(timeline.start),
        "step_s": _number(timeline.step_s),
        "unit": _text(timeline.unit),
        "capacity": _number(timeline.capacity),
        "series": [_series(series) for series in timeline.series],
        "marks": [_mark(mark) for mark in timeline.marks],
    }


def _series(series: Series) -> dict[str, Any]:
    return {
        "name": _text(series.name),
        "suspect": series.suspect,
        "values": [_number(value) for value in series.values],
    }


def _mark(mark: Mark) -> dict[str, Any]:
    return {"ts": _number(mark.ts), "kind": mark.kind, "text": _text(mark.text)}


def _text(said: Said) -> str:
    return _ENGLISH.tell(said)


def _number(value: float | None) -> float | int | None:
    """Whole numbers without a fraction, others to the microsecond; what is no finite number is null."""
    if value is None or not math.isfinite(value):
        return None
    return int(value) if value == int(value) else round(value, 6)
