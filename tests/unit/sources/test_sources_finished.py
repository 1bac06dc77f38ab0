"""Finished logs: whole lines at exact positions, several files by time, and clear words for what cannot be read."""

from __future__ import annotations

import gzip
import io
import lzma
import os
import random
import subprocess
import sys
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.model import Batch
from tocsin.sources.finished import read_finished
from tocsin.sources.lines import MAX_LINE_BYTES
from tocsin.sources.merge import Log, merged
from tocsin.sources.notice import Notice, SourceError

PACKERS: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".xz": lzma.compress,
    ".zst": zstandard.ZstdCompressor().compress,
}


def line_ts(_source: str, line: bytes) -> float | None:
    """The number that a line begins with."""
    first = line.split(b" ")[0]
    return float(first) if first.isdigit() else None


def stamped(times: range | list[int], text: str = "line") -> bytes:
    return b"".join(f"{ts} {text}\n".encode() for ts in times)


def content(batches: list[Batch]) -> bytes:
    return b"".join(batch.data for batch in batches)


def assert_positions(batches: list[Batch], whole: bytes) -> None:
    """Every batch of one source stands where it says it does."""
    for batch in batches:
        assert whole[batch.offset : batch.offset + len(batch.data)] == batch.data
        assert batch.line == whole[: batch.offset].count(b"\n") + 1
        assert batch.arrival_ts is None


@pytest.mark.parametrize("suffix", PACKERS)
@pytest.mark.parametrize("block_bytes", [7, 64, 1 << 20])
def test_every_packing_gives_the_same_lines_at_the_same_positions(
    tmp_path: Path, suffix: str, block_bytes: int
) -> None:
    whole = stamped(range(2_000), "α β")
    path = tmp_path / f"access.log{suffix}"
    path.write_bytes(PACKERS[suffix](whole))
    progress: list[int] = []
    batches = list(read_finished([path], block_bytes=block_bytes, progress=progress.append))
    assert content(batches) == whole
    assert_positions(batches, whole)
    assert {batch.source for batch in batches} == {str(path)}
    assert progress == sorted(progress)
    assert progress[-1] == path.stat().st_size


def test_the_packing_is_told_by_the_content_not_by_the_name(tmp_path: Path) -> None:
    (tmp_path / "plain.gz").write_bytes(b"1 a\n")
    (tmp_path / "packed.log").write_bytes(gzip.compress(b"2 b\n"))
    assert content(list(read_finished([tmp_path / "plain.gz"]))) == b"1 a\n"
    assert content(list(read_finished([tmp_path / "packed.log"]))) == b"2 b\n"


def test_a_missing_last_newline_is_added_and_an_empty_file_gives_nothing(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1 a\n2 b")
    (tmp_path / "b").write_bytes(b"")
    assert content(list(read_finished([tmp_path / "a"]))) == b"1 a\n2 b\n"
    assert list(read_finished([tmp_path / "b"])) == []


@pytest.mark.parametrize("block_bytes", [1_000, 1 << 20])
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_an_over_long_line_is_cut_and_told_of(tmp_path: Path, block_bytes: int, pack: Callable[[bytes], bytes]) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(pack(b"1 a\n" + b"x" * 200_000 + b"\n2 b\n"))
    notices: list[Notice] = []
    batches = list(read_finished([path], block_bytes=block_bytes, on_notice=notices.append))
    assert content(batches) == b"1 a\n" + b"x" * MAX_LINE_BYTES + b"\n2 b\n"
    assert (batches[-1].offset, batches[-1].line) == (200_005, 3)
    assert [(n.source, n.kind) for n in notices] == [(str(path), "long-line")]


@settings(max_examples=60)
@given(st.binary(max_size=300), st.integers(1, 50))
def test_any_block_size_reads_the_same(tmp_path_factory: pytest.TempPathFactory, tail: bytes, block_bytes: int) -> None:
    whole = b"1 a line of plain text in front\n" + tail
    path = tmp_path_factory.getbasetemp() / "any.log"
    path.write_bytes(whole)
    batches = list(read_finished([path], block_bytes=block_bytes))
    assert content(batches) == whole + (b"" if whole.endswith(b"\n") else b"\n")
    assert [batch.line for batch in batches] == [whole[: batch.offset].count(b"\n") + 1 for batch in batches]


def test_standard_input_plain_and_packed() -> None:
    program = (
        "import sys; from pathlib import Path; from tocsin.sources.finished import read_finished\n"
        "for b in read_finished([Path('-')]): sys.stdout.write(f'{b.source} {b.offset} {b.line} {b.data!r}\\n')"
    )
    for sent in (b"1 a\n2 b", gzip.compress(b"1 a\n2 b")):
        done = subprocess.run([sys.executable, "-c", program], input=sent, capture_output=True, timeout=30, check=True)
        shown = done.stdout.decode().splitlines()
        assert shown == ["- 0 1 b'1 a\\n'", "- 4 2 b'2 b\\n'"]


def test_a_fifo_is_read_to_its_end(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with subprocess.Popen(["sh", "-c", f"printf '1 a\\n2 b\\n' > {path}"]) as writer:
        assert content(list(read_finished([path]))) == b"1 a\n2 b\n"
        assert writer.wait(10) == 0


# -- several files -----------------------------------------------------------------------------------------------------


def test_rotations_are_read_oldest_first(tmp_path: Path) -> None:
    names = ["access.log", "access.log.1", "access.log.2.gz", "access.log.10.xz"]
    for age, name in enumerate(names):
        pack = PACKERS[Path(name).suffix if Path(name).suffix in PACKERS else ""]
        (tmp_path / name).write_bytes(pack(stamped(range(100 - 10 * age, 110 - 10 * age))))
    paths = [tmp_path / name for name in names]
    for ts in (None, line_ts):
        batches = list(read_finished(paths, line_ts=ts))
        assert content(batches) == stamped(range(70, 110))
        assert [Path(batch.source).name for batch in batches] == names[::-1]
        assert [batch.line for batch in batches] == [1] * 4


def test_rotations_by_date_and_of_two_logs_without_times(tmp_path: Path) -> None:
    names = ["b.log", "a-20260102.log", "b.log.1", "a-20260101.log"]
    for name in names:
        (tmp_path / name).write_bytes(name.encode() + b"\n")
    read = content(list(read_finished([tmp_path / name for name in names]))).decode().split()
    assert read == ["b.log.1", "b.log", "a-20260101.log", "a-20260102.log"]


def test_logs_of_two_hosts_that_are_numbered_like_rotations_are_merged_all_the_same(tmp_path: Path) -> None:
    (tmp_path / "web-1.log").write_bytes(stamped(range(0, 1_000, 2)))
    (tmp_path / "web-2.log").write_bytes(stamped(range(1, 1_000, 2)))
    batches = list(read_finished([tmp_path / "web-1.log", tmp_path / "web-2.log"], line_ts=line_ts))
    assert content(batches) == stamped(range(1_000))


@pytest.mark.parametrize("block_bytes", [100, 1 << 20])
def test_unrelated_logs_are_merged_by_time_in_the_longest_runs(tmp_path: Path, block_bytes: int) -> None:
    drawn = random.Random(7)
    wholes: dict[str, bytes] = {}
    for name in ("shop", "blog", "mail"):
        times = sorted(drawn.randrange(300) for _ in range(500))
        wholes[name] = stamped(times, name)
        (tmp_path / name).write_bytes(wholes[name])
    batches = list(read_finished([tmp_path / name for name in wholes], line_ts=line_ts, block_bytes=block_bytes))
    times = [int(line.split()[0]) for line in content(batches).splitlines()]
    assert times == sorted(times)
    for name, whole in wholes.items():
        own = [batch for batch in batches if batch.source == str(tmp_path / name)]
        assert content(own) == whole
        assert_positions(own, whole)
    if block_bytes > max(map(len, wholes.values())):
        assert not [1 for a, b in pairwise(batches) if a.source == b.source], "a run was cut in two"


def test_disjoint_logs_come_as_whole_blocks(tmp_path: Path) -> None:
    (tmp_path / "late").write_bytes(stamped(range(5_000, 9_000)))
    (tmp_path / "early").write_bytes(stamped(range(4_000)))
    batches = list(read_finished([tmp_path / "late", tmp_path / "early"], line_ts=line_ts))
    assert [(Path(batch.source).name, batch.data.count(b"\n")) for batch in batches] == [
        ("early", 4000),
        ("late", 4000),
    ]


def test_a_line_without_a_time_stays_with_the_one_before(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"garbage\n1 a\n5 a\nmore\nand more\n9 a\n")
    (tmp_path / "b").write_bytes(b"2 b\nbeyond\n6 b\n")
    read = content(list(read_finished([tmp_path / "a", tmp_path / "b"], line_ts=line_ts)))
    assert read == b"garbage\n1 a\n2 b\nbeyond\n5 a\nmore\nand more\n6 b\n9 a\n"


def test_logs_without_any_times_are_read_one_after_the_other(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_bytes(f"line of {name}\n".encode() * 300)
    batches = list(read_finished([tmp_path / "b", tmp_path / "a"], line_ts=line_ts))
    assert [Path(batch.source).name for batch in batches] == ["b", "a"]


def test_a_file_named_twice_is_read_once(tmp_path: Path) -> None:
    (tmp_path / "access.log").write_bytes(b"1 a\n")
    (tmp_path / "link.log").symlink_to(tmp_path / "access.log")
    paths = [tmp_path / "access.log", tmp_path / "access.log", tmp_path / "link.log"]
    assert content(list(read_finished(paths, line_ts=line_ts))) == b"1 a\n"


@settings(max_examples=80)
@given(st.lists(st.lists(st.one_of(st.none(), st.integers(0, 30)), max_size=25), min_size=2, max_size=4), st.data())
def test_merging_keeps_every_line_and_the_order_within_each_log(
    columns: list[list[int | None]], data: st.DataObject
) -> None:
    logs, wholes = [], []
    for index, column in enumerate(columns):
        lines = [f"{'x' if ts is None else ts} {index}-{number}\n".encode() for number, ts in enumerate(column)]
        cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(lines) - 1)), max_size=3)))
        blocks = [lines[a:b] for a, b in zip([0, *cuts], [*cuts, len(lines)], strict=True)]
        batches, offset, line = [], 0, 1
        for block in filter(None, blocks):
            batches.append(Batch(str(index), b"".join(block), offset, line))
            offset, line = offset + len(batches[-1].data), line + len(block)
        first = next((float(ts) for ts in column if ts is not None), float("-inf"))
        logs.append(Log(str(index), iter(batches), first, line_ts))
        wholes.append(b"".join(lines))
    merged_batches = list(merged(logs))
    for index, whole in enumerate(wholes):
        own = [batch for batch in merged_batches if batch.source == str(index)]
        assert content(own) == whole
        assert_positions(own, whole)


# -- what cannot be read -----------------------------------------------------------------------------------------------


def refused(path: Path) -> tuple[SourceError, bytes]:
    errors: list[SourceError] = []
    read = content(list(read_finished([path], on_error=errors.append)))
    assert len(errors) == 1
    assert str(errors[0]).startswith(f"{path}: ")
    return errors[0], read


def test_missing_directory_and_forbidden(tmp_path: Path) -> None:
    assert refused(tmp_path / "none")[0].kind == "no-input"
    assert refused(tmp_path)[0].text == "is a directory; name the log files in it"
    secret = tmp_path / "secret.log"
    secret.write_bytes(b"1 a\n")
    secret.chmod(0)
    user = os.geteuid()
    if user == 0:  # root reads everything
        os.seteuid(65534)
    try:
        assert refused(secret)[0].kind == "no-permission"
    finally:
        os.seteuid(user)


def test_without_on_error_it_is_raised_and_with_it_the_rest_is_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"1 a\n")
    paths = [tmp_path / "none", tmp_path / "a"]
    for ts in (None, line_ts):
        with pytest.raises(SourceError, match="no such file"):
            list(read_finished(paths, line_ts=ts))
        errors: list[SourceError] = []
        assert content(list(read_finished(paths, line_ts=ts, on_error=errors.append))) == b"1 a\n"
        assert [error.path for error in errors] == [str(tmp_path / "none")]


@pytest.mark.parametrize("suffix", [".gz", ".xz", ".zst"])
def test_of_a_truncated_archive_the_whole_lines_are_read(tmp_path: Path, suffix: str) -> None:
    drawn = random.Random(3)
    whole = b"".join(b"%d %s\n" % (ts, drawn.randbytes(20).hex().encode()) for ts in range(50_000))
    packed = PACKERS[suffix](whole)
    path = tmp_path / f"access.log{suffix}"
    path.write_bytes(packed[: len(packed) // 2])
    error, read = refused(path)
    assert error.kind == "data"
    assert error.position == len(read)
    assert read.endswith(b"\n")
    assert whole.startswith(read)
    assert len(read) > len(whole) // 4


def test_a_damaged_archive_names_the_position(tmp_path: Path) -> None:
    drawn = random.Random(4)
    packed = bytearray(gzip.compress(b"".join(b"1 %s\n" % drawn.randbytes(30).hex().encode() for _ in range(20_000))))
    packed[len(packed) // 2 : len(packed) // 2 + 500] = bytes(500)
    path = tmp_path / "access.log.1.gz"
    path.write_bytes(packed)
    error, read = refused(path)
    assert error.kind == "data"
    assert "damaged" in error.text
    assert read


@pytest.mark.parametrize(
    "data",
    [
        random.Random(5).randbytes(50_000),
        b"\x7fELF\x02\x01\x01" + bytes(9) + b"\x03\x00>\x00" + bytes(400),
        b"BZh91AY&SY" + random.Random(6).randbytes(500),
        gzip.compress(random.Random(5).randbytes(50_000)),
        "1 a line\n".encode("utf-16") * 30,
    ],
)
def test_binary_files_are_refused(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(data)
    error, read = refused(path)
    assert (error.kind, read) == ("data", b"")
    assert "expected" in error.text


@pytest.mark.parametrize(
    "data",
    [
        bytes(5_000) + b"1 the log was truncated under its writer\n",
        b"\x00\x01\x02\x03\n",
        b"\x16\x03\x01" * 500 + b"\n192.0.2.7 a line of plain text among hostile ones\n",
    ],
)
def test_hostile_bytes_do_not_hide_a_log(tmp_path: Path, data: bytes) -> None:
    path = tmp_path / "access.log"
    path.write_bytes(data)
    assert content(list(read_finished([path]))) == data


def test_nothing_stays_open(tmp_path: Path) -> None:
    paths = [tmp_path / f"{name}.log" for name in "abc"]
    for path in paths:
        path.write_bytes(stamped(range(100)))
    before = len(list(Path("/proc/self/fd").iterdir()))
    list(read_finished([*paths, tmp_path / "none"], line_ts=line_ts, on_error=lambda _error: None))
    begun = read_finished(paths, line_ts=line_ts, block_bytes=50)
    next(begun)
    del begun
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_stream_of_many_members_is_one_stream(tmp_path: Path) -> None:
    packed = io.BytesIO()
    for ts in range(50):
        packed.write(gzip.compress(f"{ts} a\n".encode()))
    (tmp_path / "a.gz").write_bytes(packed.getvalue())
    assert content(list(read_finished([tmp_path / "a.gz"]))) == stamped(range(50), "a")
