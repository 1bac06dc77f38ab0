"""The JSON of an explanation: its exact keys, English sentences, and nothing that JSON does not know."""

from __future__ import annotations

import json
import math

import pytest
from explain_reports import HOSTS, REPORTS, START, flood
from msgspec.structs import replace

from tocsin.cli.output import json_line
from tocsin.explain.model import Report
from tocsin.explain.telling.document import document

INCIDENT = "start end onset cause confidence summary chain suspects ban deny spare remedies".split()  # noqa: SIM905
SUSPECT = "kind signature process actors requests share lift why counter_evidence".split()  # noqa: SIM905


def test_the_keys_are_those_that_are_documented() -> None:
    report = document(flood())
    assert list(report) == ["coverage", "incidents", "quiet", "notes"]
    assert list(report["coverage"][0])[:7] == ["source", "kind", "start", "end", "lines", "unparsed", "gaps"]
    assert report["coverage"][0]["gaps"] == [{"start": 1436124660, "end": 1436125620}]
    incident = report["incidents"][0]
    assert list(incident)[:12] == INCIDENT
    assert list(incident["chain"][0])[:6] == ["ts", "link", "observed", "source", "line", "text"]
    assert list(incident["suspects"][0])[:9] == SUSPECT
    assert incident["suspects"][0]["actors"][0] == {"subject": "203.0.113.1", "requests": 20}
    assert incident["suspects"][0]["signature"] == incident["deny"][0]
    assert incident["deny"] == [{"method": "POST", "path": "/xmlrpc.php", "user_agent": "Googlebot/2.1"}]
    assert list(incident["spare"][0]) == ["subject", "why"]
    assert list(incident["remedies"][0])[:2] == ["text", "apply"]


def test_values_are_as_the_report_has_them() -> None:
    incident = document(flood())["incidents"][0]
    assert incident["start"] == int(START)
    assert incident["ban"] == list(HOSTS)
    assert incident["summary"].startswith("On 2015-07-05 19:26:42 UTC memory ran out, and the kernel killed mysqld")
    assert (incident["cause"], incident["confidence"]) == ("distributed-flood", 0.94)


@pytest.mark.parametrize("name", REPORTS)
def test_every_report_is_json(name: str) -> None:
    report = REPORTS[name]()
    again = json.loads(json_line(document(report)))
    assert again == document(report)
    assert again["quiet"] is (name == "quiet")


def test_what_is_no_number_is_null() -> None:
    report = flood()
    suspect = replace(report.incidents[0].suspects[0], lift=math.inf)
    odd = Report((), (replace(report.incidents[0], suspects=(suspect,), onset=math.nan),), quiet=False)
    incident = document(odd)["incidents"][0]
    assert incident["onset"] is None
    assert incident["suspects"][0]["lift"] is None
