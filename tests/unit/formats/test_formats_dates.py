"""Times as logs write them."""

from __future__ import annotations

from datetime import UTC, timedelta, timezone

import pytest

from tocsin.formats import Anchor
from tocsin.formats.dates import CLF, Stamp, epoch_ts, iso_ts, time_piece

ANCHOR = Anchor(1700000000.0, UTC)  # 14 November 2023


@pytest.mark.parametrize(
    ("pattern", "text", "ts"),
    [
        (CLF, "20/Jun/2016:11:17:34 -0400", 1466435854.0),
        (CLF, "31/Dec/2016:23:59:60 +0000", 1483228799.0),
        (CLF, "20/Jun/2016:11:17:34 -04:00", None),
        (CLF, "20/Jun/2016:24:17:34 -0400", None),
        (CLF, "29/Feb/2015:11:17:34 -0400", None),
        (CLF, "20/Jun/0000:11:17:34 -0400", None),
        (CLF, "２０/Jun/2016:11:17:34 -0400", None),
        ("%A %d %B %Y %I:%M %p %Z", "Monday 20 June 2016 12:17 AM GMT", 1466381820.0),
        ("%A %d %B %Y %I:%M %p %Z", "Monday 20 June 2016 13:17 AM GMT", None),
        ("%D %R", "06/20/16 15:17", 1466435820.0),
        ("%F %T %% %e", "2016-06-20 15:17:34 % 20", 1466435854.0),
        ("%c", "Mon Jun 20 15:17:34 2016", 1466435854.0),
        ("%s", "1466435854", 1466435854.0),
        ("usec", "1466435854000001", 1466435854.000001),
        ("s.ms", "1466435854.500", 1466435854.5),
    ],
)
def test_patterns(pattern: str, text: str, ts: float | None) -> None:
    assert Stamp([time_piece(pattern)]).ts(text, ANCHOR) == ts


def test_seconds_of_a_known_minute_are_those_of_an_unknown_one() -> None:
    used = Stamp([time_piece(CLF)])
    for second in ("60", "00", "59", "7 ", "xx", "60", "²1", "61", "34"):
        text = f"31/Dec/2016:23:59:{second} +0000"
        assert used.ts(text, ANCHOR) == Stamp([time_piece(CLF)]).ts(text, ANCHOR)
    assert used.ts("31/Dec/2016:23:58:34 +0000", ANCHOR) == 1483228714.0


@pytest.mark.parametrize(
    ("text", "now_ts", "year_ts"),
    [
        ("Nov 14 22:13:20", 1700000000.0, 1700000000.0),
        ("Nov 15 22:13:20", 1700000000.0, 1700086400.0),  # a day ahead is a clock that runs ahead
        ("Nov 15 22:13:21", 1700000000.0, 1668550401.0),
        ("Dec 31 23:59:59", 1704067200.0, 1704067199.0),  # read a second into the new year
        ("Jan  1 00:00:00", 1704067199.0, 1704067200.0),
        ("Feb 29 00:00:00", 1700000000.0, 1582934400.0),
    ],
)
def test_a_missing_year(text: str, now_ts: float, year_ts: float) -> None:
    assert Stamp([time_piece("%b %e %H:%M:%S")]).ts(text, Anchor(now_ts, UTC)) == year_ts


def test_a_missing_zone_is_the_anchors_also_after_another_anchor_was_asked() -> None:
    stamp = Stamp([time_piece("%Y-%m-%d %T")])
    east = timezone(timedelta(hours=2))
    for zone, ts in ((UTC, 1466435854.0), (east, 1466428654.0), (UTC, 1466435854.0)):
        assert stamp.ts("2016-06-20 15:17:34", Anchor(1700000000.0, zone)) == ts
    assert not stamp.absolute
    assert Stamp([time_piece(CLF)]).absolute


@pytest.mark.parametrize(
    ("text", "ts"),
    [
        ("2016-06-20T15:17:34Z", 1466435854.0),
        ("2016-06-20T11:17:34.25-04:00", 1466435854.25),
        ("2016-06-20 15:17:34,123456789", 1466435854.123456789),
        ("2016-06-20T15:17Z", None),
        ("2016-13-20T15:17:34Z", None),
    ],
)
def test_iso(text: str, ts: float | None) -> None:
    assert iso_ts(text, ANCHOR) == ts


@pytest.mark.parametrize(
    ("number", "ts"),
    [
        (1466435854.5, 1466435854.5),
        (1466435854500.0, 1466435854.5),
        (1466435854500000.0, 1466435854.5),
        (1466435854500000000.0, 1466435854.5),
        (-1.0, None),
        (float("inf"), None),
        (float("nan"), None),
    ],
)
def test_epochs_by_size(number: float, ts: float | None) -> None:
    assert epoch_ts(number) == ts


def test_an_anchor_out_of_all_bounds_is_survived() -> None:
    stamp = Stamp([time_piece("%b %e %H:%M:%S")])
    for now_ts in (-1e18, 0.0, 1e18):
        ts = stamp.ts("Jun 20 15:17:34", Anchor(now_ts, UTC))
        assert ts is None or ts >= 0
