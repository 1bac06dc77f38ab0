"""Real lines and what they mean, side by side: tests/conformance/formats/NAME.log and NAME.jsonl.

The first line of the .jsonl says with which format and anchor the log is read; each further line is the event of a
line of the log, without its empty fields. The README there says which lines are real and which were composed.
"""

from __future__ import annotations

import json
from datetime import UTC
from ipaddress import ip_network
from pathlib import Path

import msgspec
import pytest

from tocsin.formats import Anchor, Proxies, by_name

CASES = Path(__file__).parents[2] / "conformance" / "formats"


@pytest.mark.parametrize("log", sorted(CASES.glob("*.log")), ids=lambda log: log.stem)
def test_lines_mean_what_stands_beside_them(log: Path) -> None:
    head, *expected = (json.loads(row) for row in log.with_suffix(".jsonl").read_text().splitlines())
    proxies = Proxies(ip_network(network) for network in head.get("proxies", []))
    form = by_name(head["format"], proxies)
    anchor = Anchor(head["now_ts"], UTC)
    lines = log.read_bytes().split(b"\n")[:-1]
    assert len(lines) == len(expected)
    for number, (line, wanted) in enumerate(zip(lines, expected, strict=True), start=1):
        event = form.parse(line, anchor)
        told = {name: value for name, value in msgspec.to_builtins(event).items() if value is not None and value != ""}
        assert {"event": type(event).__name__, **told} == wanted, f"{log.name}:{number}"
