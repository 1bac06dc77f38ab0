"""Every line handed out once: several writers, rotation by rename, copytruncate and packing, a reader that is killed.

TOCSIN_LINES sets how many lines are written (default 100,000). Copytruncate is done while the writers pause: what is
written between the copy and the truncation is in neither file, for any reader; the notices say so with their bound.
"""

from __future__ import annotations

import fcntl
import gzip
import os
import random
import shutil
import subprocess
import sys
import time
from pathlib import Path

import msgspec

from tocsin.sources.tail import Checkpoint, Tail

LINES = int(os.environ.get("TOCSIN_LINES", "100000"))
WRITERS = 4
DEADLINE_S = 60 + LINES / 1000


class Saved(msgspec.Struct):
    """What a reader knows: where to go on, and how often each line came. Saved together, as guard does."""

    checkpoints: list[Checkpoint]
    times: bytes


def write(folder: Path, number: int) -> None:
    """A writer: appends its lines, reopens the log when it was renamed, holds still while somebody copies it."""
    log, rng = folder / "access.log", random.Random(number)
    with (folder / "pause").open() as pause:
        out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        for first in range(number, LINES, WRITERS * 50):
            fcntl.flock(pause, fcntl.LOCK_SH)
            lines = (
                b"%d line of writer %d\n" % (n, number) for n in range(first, min(first + WRITERS * 50, LINES), WRITERS)
            )
            os.write(out, b"".join(lines))
            fcntl.flock(pause, fcntl.LOCK_UN)
            if not log.exists() or os.fstat(out).st_ino != log.stat().st_ino:
                os.close(out)
                out = os.open(log, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
            time.sleep(rng.uniform(0, 0.02))


def read(folder: Path) -> None:
    """A reader: goes on where it was saved last, until it is killed or has every line."""
    path = folder / "saved"
    saved = msgspec.msgpack.decode(path.read_bytes(), type=Saved) if path.exists() else Saved([], bytes(LINES))
    times = bytearray(saved.times)
    tail = Tail([str(folder / "access.log")], saved.checkpoints, start="start")
    saved_s = time.monotonic()
    while True:
        for batch in tail.read():
            for line in batch.data.splitlines():
                times[int(line.split(b" ", 1)[0])] += 1
        if time.monotonic() - saved_s > 0.1:
            saved_s = time.monotonic()
            partial = folder / "saved.partial"
            partial.write_bytes(msgspec.msgpack.encode(Saved(tail.checkpoints(), bytes(times))))
            partial.rename(path)
        time.sleep(0.002)


def started(folder: Path, what: str, *more: str) -> subprocess.Popen[bytes]:
    """Another process of this test."""
    return subprocess.Popen([sys.executable, __file__, what, str(folder), *more])


def rotate(folder: Path, rng: random.Random) -> None:
    """One rotation of a kind drawn by lot; older ones move on, some of them packed."""
    log = folder / "access.log"
    for path in sorted(folder.glob("access.log.*"), key=_age, reverse=True):
        path.rename(folder / f"access.log.{_age(path) + 1}{'.gz' if path.suffix == '.gz' else ''}")
    second = folder / "access.log.2"
    if second.exists() and rng.random() < 0.7:
        packed = folder / "access.log.2.gz"
        with second.open("rb") as plain, gzip.open(packed, "wb", compresslevel=1) as out:
            shutil.copyfileobj(plain, out)
        second.unlink()
    if rng.random() < 0.6:
        log.rename(folder / "access.log.1")
        return
    with (folder / "pause").open() as pause:
        fcntl.flock(pause, fcntl.LOCK_EX)
        shutil.copyfile(log, folder / "access.log.1")
        os.truncate(log, 0)


def _age(path: Path) -> int:
    return int(path.name.split(".")[2])


def test_every_line_is_handed_out_once(tmp_path: Path) -> None:
    """Whatever happens to the files and to the reader."""
    rng = random.Random(7)
    (tmp_path / "pause").touch()
    (tmp_path / "access.log").touch()
    writers = [started(tmp_path, "write", str(number)) for number in range(WRITERS)]
    reader = started(tmp_path, "read")
    end_s = time.monotonic() + DEADLINE_S
    kills = rotations = 0
    try:
        while any(writer.poll() is None for writer in writers):
            assert time.monotonic() < end_s, "the writers did not end in time"
            time.sleep(rng.uniform(0.1, 0.6))
            if (tmp_path / "access.log").exists() and (tmp_path / "access.log").stat().st_size:
                rotate(tmp_path, rng)
                rotations += 1
            if rng.random() < 0.4:
                reader.kill()
                reader.wait()
                kills += 1
                time.sleep(rng.uniform(0, 0.5))
                reader = started(tmp_path, "read")
        times = b""
        while time.monotonic() < end_s:
            time.sleep(0.2)
            saved = tmp_path / "saved"
            times = msgspec.msgpack.decode(saved.read_bytes(), type=Saved).times if saved.exists() else b""
            if times and min(times) >= 1:
                break
    finally:
        for process in (*writers, reader):
            process.kill()
            process.wait()
    doubled = sum(count > 1 for count in times)
    print(f"\n{LINES:,} lines, {rotations} rotations, {kills} kills: {times.count(0)} lost, {doubled} doubled")
    assert times == b"\x01" * LINES


if __name__ == "__main__":
    _, what, folder, *more = sys.argv
    if what == "write":
        write(Path(folder), int(more[0]))
    else:
        read(Path(folder))
