"""Nothing lost: several writers, random rotation by rename, copytruncate and compression, and a reader that is killed.

Every line that a writer wrote is counted exactly once. The only exception is accounted for: with copytruncate, lines
that come between the copying and the truncation exist nowhere afterwards, for any reader. The rotation here knows which
those are (it looks once more under a lock before it truncates): only they may be missing, and then a notice says so.

`TOCSIN_LINES` sets the number of lines (100,000; 1,000,000 takes about a minute).
"""

from __future__ import annotations

import fcntl
import gzip
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from contextlib import closing
from pathlib import Path

LINES = int(os.environ.get("TOCSIN_LINES", "100000"))
WRITERS = 3
LOGS = 2
LASTS_S = LINES / 20000  # how long the writing takes: time for rotations and kills
DEADLINE_S = 60 + 3 * LASTS_S

WRITER = r"""
import fcntl, os, random, sys, time
logs, number, count, seed = sys.argv[1].split(","), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
lasts_s, began_s = float(sys.argv[5]), time.monotonic()
rng = random.Random(f"{seed}-{number}")
class Log:
    def __init__(self, path):
        self.path, self.fd, self.stale = path, -1, 0
        self.lock = os.open(path + ".lock", os.O_RDWR | os.O_CREAT)
    def write(self, data):
        fcntl.flock(self.lock, fcntl.LOCK_SH)
        try:
            self.reopen()
            os.write(self.fd, data)
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)
    def reopen(self):
        # After a rename it writes on for a while, as a server does until it is told to reload.
        if self.fd >= 0:
            try:
                here = os.stat(self.path).st_ino == os.fstat(self.fd).st_ino
            except FileNotFoundError:
                here = False
            if here:
                return
            self.stale = self.stale or rng.randint(1, 200)
            self.stale -= 1
            if self.stale:
                return
            self.hold(fcntl.LOCK_UN)
            os.close(self.fd)
        self.fd = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        self.hold(fcntl.LOCK_SH)
    def hold(self, how):
        fcntl.flock(self.fd, how)  # tells the rotation that this file still has a writer
logs = [Log(path) for path in logs]
line = 0
while line < count:
    batch = min(rng.choice([1, 1, 1, 5, 40]), count - line)
    log = rng.choice(logs)
    log.write(b"".join(b"w%d-%08d %s\n" % (number, n, b"x" * rng.randint(20, 160)) for n in range(line, line + batch)))
    line += batch
    if rng.random() < 0.1:
        time.sleep(max(0.0, began_s + lasts_s * line / count - time.monotonic()))
"""

READER = r"""
import os, select, sqlite3, sys, time
import msgspec
from tocsin.sources.tail import Checkpoint, Tail
pattern, store, poll = sys.argv[1], sys.argv[2], sys.argv[3] == "poll"
db = sqlite3.connect(store, isolation_level=None)
db.execute("PRAGMA journal_mode=WAL")
db.execute("PRAGMA synchronous=OFF")  # SIGKILL, not a power cut
db.executescript(
    "CREATE TABLE IF NOT EXISTS line (id TEXT, source TEXT); CREATE TABLE IF NOT EXISTS notice (kind TEXT, text TEXT);"
    "CREATE TABLE IF NOT EXISTS state (id INTEGER PRIMARY KEY CHECK (id = 0), checkpoints BLOB);"
)
row = db.execute("SELECT checkpoints FROM state").fetchone()
tail = Tail([pattern], msgspec.msgpack.decode(row[0], type=list[Checkpoint]) if row else (), start="start", poll=poll)
while True:
    batches = tail.read(1 << 18)
    rows = [(line[:11].decode("latin-1"), batch.source) for batch in batches for line in batch.data.splitlines()]
    notices = [(notice.kind, notice.source + ": " + notice.text) for notice in tail.notices()]
    if rows or notices or row is None:
        db.execute("BEGIN")
        db.executemany("INSERT INTO line VALUES (?, ?)", rows)
        db.executemany("INSERT INTO notice VALUES (?, ?)", notices)
        db.execute("REPLACE INTO state VALUES (0, ?)", (msgspec.msgpack.encode(tail.checkpoints()),))
        db.execute("COMMIT")
        row = ()
    if not tail.pending:
        select.select([tail], [], [], max(0.0, tail.deadline_ts() - time.time()))
"""


class Rotation:
    """What logrotate does to one log, at random, and an account of what it destroys."""

    def __init__(self, path: Path, rng: random.Random) -> None:
        self.path = path
        self.rng = rng
        self.lock = os.open(f"{path}.lock", os.O_RDWR | os.O_CREAT)
        self.destroyed: set[str] = set()
        self.counts = {"rename": 0, "copytruncate": 0, "compress": 0}

    def rotated(self) -> list[tuple[int, Path]]:
        found = [
            p for p in self.path.parent.iterdir() if p.name.startswith(f"{self.path.name}.") and p.suffix != ".lock"
        ]
        return sorted((int(p.name[len(self.path.name) + 1 :].split(".")[0]), p) for p in found)

    def shift(self) -> None:
        for number, old in reversed(self.rotated()):
            packed = ".gz" if old.suffix == ".gz" else ""
            old.rename(f"{self.path}.{number + 1}{packed}")

    def turn(self) -> None:
        if not self.path.exists() or not self.path.stat().st_size:
            return  # notifempty
        kind = self.rng.choice(["rename", "copytruncate"])
        self.shift()
        if kind == "rename":
            self.path.rename(f"{self.path}.1")
        else:
            self.copytruncate()
        self.counts[kind] += 1
        for _ in range(self.rng.randint(0, 3)):
            self.compress()

    def copytruncate(self) -> None:
        copy = Path(f"{self.path}.1")
        shutil.copyfile(self.path, copy)
        if self.rng.random() < 0.5:
            time.sleep(self.rng.random() * 0.003)  # logrotate's own gap; the writers write on in it
        fcntl.flock(self.lock, fcntl.LOCK_EX)
        try:
            whole = copy.read_bytes().rfind(b"\n") + 1
            gone = self.path.read_bytes()[whole:]
            self.destroyed |= {line[:11].decode() for line in gone.splitlines()}
            os.truncate(self.path, 0)
        finally:
            fcntl.flock(self.lock, fcntl.LOCK_UN)

    def compress(self) -> None:
        plain = [path for _, path in self.rotated() if path.suffix != ".gz"]
        if not plain:
            return
        path = self.rng.choice(plain)
        with path.open("rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # somebody still writes to it, and compressing it would destroy lines for any reader
        before = path.stat()
        packed = path.with_name(f"{path.name}.gz")
        with path.open("rb") as source, gzip.open(packed, "wb", compresslevel=1) as target:
            shutil.copyfileobj(source, target)
        os.utime(packed, ns=(before.st_atime_ns, before.st_mtime_ns))
        path.unlink()
        self.counts["compress"] += 1


def start_reader(home: Path, *, poll: bool) -> subprocess.Popen[bytes]:
    argv = [sys.executable, "-c", READER, f"{home}/*.log", str(home / "store.db"), "poll" if poll else "inotify"]
    return subprocess.Popen(argv)


def counted(store: Path) -> int:
    if not store.exists():
        return 0
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        if db.execute("SELECT count(*) FROM sqlite_master WHERE name = 'line'").fetchone()[0] == 0:
            return 0
        return int(db.execute("SELECT count(*) FROM line").fetchone()[0])


def seen(store: Path) -> set[str]:
    if not counted(store):
        return set()
    with closing(sqlite3.connect(f"file:{store}?mode=ro", uri=True)) as db:
        return {row[0] for row in db.execute("SELECT id FROM line")}


def run(home: Path, seed: int, *, lines: int, poll: bool) -> None:
    rng = random.Random(seed)
    logs = [home / f"site{number}.log" for number in range(LOGS)]
    for log in logs:
        log.touch()
    store = home / "store.db"
    reader = start_reader(home, poll=poll)
    deadline = time.monotonic() + DEADLINE_S
    while not store.exists():  # the first start must come before the first rotation: it defines what is to be read
        assert time.monotonic() < deadline
        time.sleep(0.005)
    each = lines // WRITERS
    paths = ",".join(map(str, logs))
    writers = [
        subprocess.Popen([sys.executable, "-c", WRITER, paths, str(number), str(each), str(seed), str(LASTS_S)])
        for number in range(WRITERS)
    ]
    rotations = [Rotation(log, rng) for log in logs]
    kills = 0
    try:
        while any(writer.poll() is None for writer in writers):
            assert time.monotonic() < deadline, "the writers do not come to an end"
            time.sleep(rng.random() * 0.15)
            rng.choice(rotations).turn()
            if rng.random() < 0.15:
                reader.send_signal(signal.SIGKILL)
                reader.wait()
                kills += 1
                for _ in range(rng.randint(0, 3)):  # several rotations while nobody reads
                    rng.choice(rotations).turn()
                reader = start_reader(home, poll=poll)
        assert all(writer.returncode == 0 for writer in writers)
        wanted = {f"w{number}-{line:08d}" for number in range(WRITERS) for line in range(each)}
        gone: set[str] = set().union(*(rotation.destroyed for rotation in rotations))
        for number, log in enumerate(logs):  # what was rotated away unseen is found from its successor's first line
            with log.open("ab") as file:
                file.write(b"w9-%08d end\n" % number)
            wanted.add(f"w9-{number:08d}")
        # By name: a reader may have seen lines that were destroyed, so that their number would come too early.
        while not wanted - gone <= seen(store) and time.monotonic() < deadline:
            time.sleep(0.1)
        settled = -1
        while settled != (settled := counted(store)):  # what would come twice, comes now
            time.sleep(0.5)
    finally:
        for process in [reader, *writers]:
            if process.poll() is None:
                process.kill()
            process.wait()
    check(store, wanted, gone)
    kinds = [rotation.counts for rotation in rotations]
    print(f"{len(wanted):,} lines, {kills} kills, {kinds}, {len(gone):,} destroyed by copytruncate", file=sys.stderr)
    assert kills > 0


def check(store: Path, wanted: set[str], gone: set[str]) -> None:
    with closing(sqlite3.connect(store)) as db:
        rows = [row[0] for row in db.execute("SELECT id FROM line")]
        notices = [text for kind, text in db.execute("SELECT kind, text FROM notice") if kind == "lost"]
    found = set(rows)
    twice = len(rows) - len(found)
    missing = wanted - found
    assert not twice, f"{twice} lines were counted twice"
    assert missing <= gone, f"{len(missing - gone)} lines are lost, such as {sorted(missing - gone)[:5]}\n{notices}"
    assert found <= wanted, f"lines that nobody wrote: {sorted(found - wanted)[:5]}"
    assert not missing or any("truncated" in text for text in notices), "lines were lost and nobody was told"


def test_every_line_is_counted_once(tmp_path: Path) -> None:
    run(tmp_path, seed=1, lines=LINES, poll=False)


def test_every_line_is_counted_once_by_polling(tmp_path: Path) -> None:
    run(tmp_path, seed=2, lines=LINES // 5, poll=True)
