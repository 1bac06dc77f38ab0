"""What a guard learns at its first start, and what the kernel says of pressure."""

from __future__ import annotations

import sys
from datetime import UTC
from pathlib import Path

import pytest

from tocsin.decide.siege import SiegeSettings
from tocsin.formats import Proxies
from tocsin.learning import learn
from tocsin.reading import Readings
from tocsin.sources.pressure import read_pressure

sys.path.insert(0, str(Path(__file__).parent / "decide"))
from crowding import START_TS, Line, visitors

NOW_TS = START_TS + 3600.0


def readings() -> Readings:
    return Readings([], Proxies(), UTC)


def write(path: Path, lines: list[Line]) -> None:
    path.write_bytes(b"".join(text + b"\n" for _, text in sorted(lines)))


def test_the_logs_that_are_there_and_their_predecessors_are_learnt(tmp_path: Path) -> None:
    write(tmp_path / "access.log.1", visitors(1, 0, 1800))
    write(tmp_path / "access.log", visitors(2, 1800, 3600))
    crowd, lines = learn([tmp_path / "access.log"], readings(), SiegeSettings(), NOW_TS)
    assert lines == sum(len((tmp_path / name).read_bytes().splitlines()) for name in ("access.log", "access.log.1"))
    assert crowd.normal.learnt
    assert crowd.normal.seconds == pytest.approx(3600, rel=0.1)


def test_several_logs_are_learnt_in_the_order_of_their_times(tmp_path: Path) -> None:
    write(tmp_path / "a.log", visitors(1, 0, 3600))
    write(tmp_path / "b.log", visitors(2, 0, 3600))
    crowd, _ = learn([tmp_path / "a.log", tmp_path / "b.log"], readings(), SiegeSettings(), NOW_TS)
    assert crowd.normal.seconds == pytest.approx(3600, rel=0.1), "one hour, not two"


def test_only_the_end_of_a_long_log_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.learning.MOST_BYTES", 20_000)
    write(tmp_path / "access.log", visitors(1, 0, 3600))
    _, lines = learn([tmp_path / "access.log"], readings(), SiegeSettings(), NOW_TS)
    whole = (tmp_path / "access.log").read_bytes()
    assert 0 < lines <= whole[-20_000:].count(b"\n")


def test_what_cannot_be_learnt_from_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "binary.log").write_bytes(bytes(range(256)) * 50)
    (tmp_path / "empty.log").write_bytes(b"")
    paths = [tmp_path / name for name in ("binary.log", "empty.log", "none.log")]
    crowd, lines = learn(paths, readings(), SiegeSettings(), NOW_TS)
    assert (lines, crowd.normal.seconds) == (0, 0.0)


def test_pressure_is_the_worst_of_the_three(tmp_path: Path) -> None:
    folder = tmp_path / "proc" / "pressure"
    folder.mkdir(parents=True)
    for name, share in (("memory", "12.34"), ("io", "55.00"), ("cpu", "1.00")):
        (folder / name).write_text(f"some avg10={share} avg60=0.00 avg300=0.00 total=1\nfull avg10=0.00 total=0\n")
    sample = read_pressure(NOW_TS, tmp_path)
    assert sample is not None
    assert sample.stalled_share == pytest.approx(0.55)
    assert read_pressure(NOW_TS, tmp_path / "nowhere") is None
