"""Spans of time in words: read strictly, and written so that they are read back as the same."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.duration import parse_duration_s, render_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("66h40m", 240_000),
        ("10m", 600),
        ("1d12h", 129_600),
        ("90s", 90),
        ("2w", 1_209_600),
        ("500ms", 0.5),
        ("1.5h", 5400),
        (45, 45),
        (0.25, 0.25),
        ("0s", 0),
    ],
)
def test_what_people_write(text: str | float, seconds: float) -> None:
    assert parse_duration_s(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "text", ["", "10", "m", "10 m", "-5m", "1h-", "10mm", "1e3s", "١m", "10M", "\n5m", "5m\n", True]
)
def test_what_is_no_duration_is_refused_with_an_example(text: str | float) -> None:
    with pytest.raises(ValueError, match="expected a duration such as"):
        parse_duration_s(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (240_000, "66h40m"),
        (600, "10m"),
        (86_400, "1d"),
        (129_600, "36h"),
        (61, "1m1s"),
        (0.5, "500ms"),
        (None, "for good"),
        (0, "0ms"),
        (3600, "1h"),
        (3601.4, "1h1s"),
    ],
)
def test_how_it_is_written(seconds: float | None, text: str) -> None:
    assert render_duration(seconds) == text


@given(st.integers(1, 10**8))
def test_what_is_written_is_read_back(seconds: int) -> None:
    assert parse_duration_s(render_duration(seconds)) == seconds
