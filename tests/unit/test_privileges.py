"""Giving up rights, as far as anybody may: each in a process of its own, for it cannot be undone."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tocsin import privileges
from tocsin.privileges import CAPABILITIES, PrivilegeError, capabilities

PREAMBLE = "import json, os, sys\nfrom pathlib import Path\nfrom tocsin.privileges import *\n"


def run(program: str, *prefix: str) -> Any:
    """What a process of its own prints as JSON."""
    ran = subprocess.run(
        [*prefix, sys.executable, "-c", PREAMBLE + program], capture_output=True, timeout=30, check=False
    )
    assert ran.returncode == 0, ran.stderr.decode()
    return msgspec.json.decode(ran.stdout)


def test_capabilities_are_those_of_the_kernel() -> None:
    assert len(CAPABILITIES) == 41
    assert CAPABILITIES.index("CAP_NET_ADMIN") == 12
    assert CAPABILITIES.index("CAP_CHECKPOINT_RESTORE") == 40
    bits = next(line.split()[1] for line in Path("/proc/self/status").read_text().splitlines() if "CapBnd" in line)
    assert sum(1 << CAPABILITIES.index(name) for name in capabilities("bounding")) == int(bits, 16)


def test_a_capability_newer_than_we_are_is_named_by_its_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    status = tmp_path / "status"
    status.write_text("Name:\tx\nCapEff:\t0000060000001000\n")
    monkeypatch.setattr(privileges, "_STATUS", status)
    assert capabilities() == {"CAP_NET_ADMIN", "CAP_41", "CAP_42"}
    with pytest.raises(PrivilegeError, match="has no CapAmb"):
        capabilities("ambient")


def test_everything_can_be_given_up_by_anybody() -> None:
    sets = run(
        "d = drop_to(None, frozenset())\n"
        "sets = {w: sorted(capabilities(w)) for w in ('effective', 'permitted', 'inheritable', 'ambient')}\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(json.dumps([sets, 'NoNewPrivs:\\t1' in status, sorted(d.capabilities), d.uid]))"
    )
    empty: list[str] = []
    expected = {"effective": empty, "permitted": empty, "inheritable": empty, "ambient": empty}
    assert sets == [expected, True, empty, os.getuid()]


def test_what_is_not_there_cannot_be_kept_and_is_said() -> None:
    found = run(
        "drop_to(None, frozenset())\n"
        "d = drop_to('nobody', ENFORCER_KEEPS)\n"
        "print(json.dumps([sorted(d.missing), sorted(d.capabilities), list(d.notes), d.uid]))"
    )
    missing, kept, notes, uid = found
    assert (missing, kept, uid) == (["CAP_NET_ADMIN"], [], os.getuid())
    assert os.getuid() == 65534 or any("root alone" in note for note in notes)


def test_a_capability_that_does_not_exist_is_refused() -> None:
    with pytest.raises(PrivilegeError, match="CAP_NET_ADMINN"):
        privileges.drop_to(None, frozenset({"CAP_NET_ADMINN"}))


def test_rights_are_dropped_before_threads_start() -> None:
    release = threading.Event()
    thread = threading.Thread(target=release.wait)
    thread.start()
    try:
        with pytest.raises(PrivilegeError, match="first thread"):
            privileges.drop_to(None)
    finally:
        release.set()
        thread.join()


def test_a_parent_that_is_gone_is_noticed() -> None:
    problem = run("try: die_with_parent(1 << 22)\nexcept PrivilegeError as error: print(json.dumps(str(error)))")
    assert "has ended already" in problem


@pytest.mark.parametrize("then", ["", "drop_to(None); drop_to('nobody')"])
def test_a_child_dies_with_its_parent_also_after_dropping_rights(then: str) -> None:
    child = f"{PREAMBLE}import time\ndie_with_parent(os.getppid())\n{then}\nos.write(1, b'ready'); time.sleep(60)"
    parent = (
        "import subprocess, sys\n"
        f"child = subprocess.Popen([sys.executable, '-c', {child!r}], stdout=subprocess.PIPE)\n"
        "child.stdout.read(5); print(child.pid, flush=True); sys.stdin.read()"
    )
    with subprocess.Popen([sys.executable, "-c", parent], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        pid = int(process.stdout.readline())
        assert running(pid)
        process.send_signal(signal.SIGKILL)
        process.wait()
    deadline = time.monotonic() + 10
    while running(pid) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not running(pid)


def running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def test_memory_is_locked_or_the_reason_is_said() -> None:
    locked, problem, needs, kilobytes = run(
        "locked, problem, needs = 0, '', []\n"
        "try:\n    result = lock_memory(); locked, needs = result.locked_bytes, sorted(result.needs)\n"
        "except PrivilegeError as error: problem = str(error)\n"
        "status = Path('/proc/self/status').read_text()\n"
        "print(json.dumps([locked, problem, needs, int(status.split('VmLck:')[1].split()[0])]))"
    )
    if problem:
        assert kilobytes == 0
        assert "LimitMEMLOCK=infinity" in problem
    else:
        assert kilobytes * 1024 >= locked > 1 << 20
        assert needs in ([], ["CAP_IPC_LOCK"])


def test_memory_stays_usable_when_it_is_locked_and_rights_are_gone() -> None:
    touched = run(
        "try: needs = lock_memory().needs\nexcept PrivilegeError: needs = frozenset()\n"
        "drop_to(None, needs)\n"
        "block = bytearray(64 << 20)\n"
        "def deep(n): return 0 if n == 0 else 1 + deep(n - 1)\n"
        "print(json.dumps([len(block), deep(900)]))"
    )
    assert touched == [64 << 20, 900]


def test_memory_that_is_free_between_used_blocks_is_given_back_although_it_is_locked() -> None:
    before, after, locked_before, locked_after = run(
        "from tocsin.memory import give_back\n"
        "def of(name): return int(Path('/proc/self/status').read_text().split(name + ':')[1].split()[0])\n"
        "try: needs = lock_memory().needs\nexcept PrivilegeError: needs = frozenset()\n"
        "drop_to(None, needs)\n"
        "blocks = [bytes(2000) for _ in range(20_000)]\n"
        "last = bytes(2000); del blocks\n"
        "before, locked = of('VmRSS'), of('VmLck')\n"
        "give_back()\n"
        "print(json.dumps([before, of('VmRSS'), locked > 0, of('VmLck') > 0]))"
    )
    assert after < before - 30_000
    assert locked_after == locked_before


def test_being_killed_first_is_always_allowed_and_last_needs_a_right() -> None:
    before, after, problem = run(
        "before = set_oom_score_adj(1000)\n"
        "after, problem = int(Path('/proc/self/oom_score_adj').read_text()), ''\n"
        "drop_to(None)\n"
        "try: set_oom_score_adj(-1000)\nexcept PrivilegeError as error: problem = str(error)\n"
        "print(json.dumps([before, after, problem]))"
    )
    assert after == 1000
    assert before <= 1000
    assert "OOMScoreAdjust=" in problem


def test_a_directory_is_made(tmp_path: Path) -> None:
    here = tmp_path / "state" / "deep"
    notes = privileges.own_directory(here, "no-such-user-here")
    assert here.is_dir()
    assert "nobody" in notes[0]
    (tmp_path / "file").write_text("")
    with pytest.raises(PrivilegeError, match="cannot make the directory"):
        privileges.own_directory(tmp_path / "file", "nobody")
