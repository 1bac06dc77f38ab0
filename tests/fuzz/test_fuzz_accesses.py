"""Law 9 under mutation: real lines, damaged and respelt, read by DuckDB as their format reads them."""

from __future__ import annotations

from random import Random

import pytest
from mutation import SAMPLES, SPECS, WRITTEN_SPECS, damaged, requests, written
from read_twice import assert_alike

from tocsin.explain.evidence.shapes import extended_formats, shape_of
from tocsin.formats import Format, by_name

LINES = 1200
REQUESTS = requests()
TAILS = (
    b"",
    b" ",
    b" 1234",
    b" 0.042",
    b" rt=0.5 1",
    b" - 17",
    b" x\ty",
    b' "-"',
    b' "a b" 7',
    b' "\\"" 7',
    b" \xff",
    b'"',
)
EXTENDED = [fmt for quotes in (8, 10, 14) for fmt in extended_formats(quotes) if shape_of(fmt.name) is not None]


@pytest.mark.parametrize("spec", SPECS)
@pytest.mark.parametrize("seed", range(3))
def test_damaged_lines_read_alike(spec: str, seed: int) -> None:
    rng = Random(seed)
    own = [sample.line for sample in SAMPLES if sample.spec == spec]
    others = [sample.line for sample in SAMPLES]
    lines = [damaged(rng, rng.choice(own if own and rng.random() < 0.7 else others)) for _ in range(LINES)]
    if spec in WRITTEN_SPECS:
        lines += [written(rng, request, spec) for request in REQUESTS]
    assert_alike(by_name(spec), lines, rng.choice((1, 50, 700)) if seed else 10_000)


@pytest.mark.parametrize("name", ["combined and more", "vhost_combined and more", *(fmt.name for fmt in EXTENDED)])
def test_lines_with_something_appended_read_alike(name: str) -> None:
    rng = Random(name)
    fmt: Format = next((one for one in EXTENDED if one.name == name), None) or by_name(name)
    base = "vhost_combined" if name.startswith("vhost") else "combined"
    shape = shape_of(name)
    assert shape is not None
    quoted = b' "x"' * (shape.quoted - 2)
    lines = []
    for _ in range(LINES):
        line = written(rng, rng.choice(REQUESTS), base)
        line += b"".join(rng.choice(TAILS) for _ in range(rng.randrange(3))) if rng.random() < 0.3 else quoted
        line += rng.choice(TAILS[:6]) if shape.more else b""
        lines.append(damaged(rng, line) if rng.random() < 0.3 else line)
    assert assert_alike(fmt, lines, 300) > LINES / 4
