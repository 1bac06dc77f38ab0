"""Giving up rights for real: from root, and in a user namespace where nobody but root exists."""

from __future__ import annotations

import os
import pwd
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec
import pytest

pytestmark = pytest.mark.root

PREAMBLE = "import json, os, socket\nfrom pathlib import Path\nfrom tocsin.privileges import *\n"
# In CI, which is root, it is never skipped: there it fails instead.
NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0 and not os.environ.get("CI"), reason="become another user: as root")
REPORT = """
def tries(what):
    try: what(); return 'yes'
    except OSError as error: return error.strerror
status = Path('/proc/self/status').read_text()
print(json.dumps({
    'ids': [os.getresuid(), os.getresgid(), os.getgroups()],
    'sets': {w: sorted(capabilities(w)) for w in ('effective', 'permitted', 'inheritable', 'bounding', 'ambient')},
    'no_new_privs': 'NoNewPrivs:\\t1' in status,
    'notes': list(d.notes), 'user': d.user, 'missing': sorted(d.missing),
    'read': tries(lambda: Path('SECRET').read_text()),
    'write': tries(lambda: Path('SECRET').write_text('')),
    'raw': tries(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close()),
    'root again': tries(lambda: os.setuid(0)) if os.getuid() else 'no',
}))
"""


def run(program: str, *prefix: str) -> Any:
    command = [*prefix, sys.executable, "-c", PREAMBLE + program]
    ran = subprocess.run(command, capture_output=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr.decode()
    return msgspec.json.decode(ran.stdout)


@pytest.fixture
def secret(tmp_path: Path) -> str:
    """A file for root alone, in a directory for root alone, as logs often are."""
    tmp_path.chmod(0o700)
    file = tmp_path / "secret"
    file.write_text("hidden")
    file.chmod(0o600)
    return str(file)


@NEEDS_ROOT
def test_the_watcher_reads_every_log_and_can_do_nothing_else(secret: str) -> None:
    found = run("d = drop_to('nobody', WATCHER_KEEPS)\n" + REPORT.replace("SECRET", secret))
    nobody = pwd.getpwnam("nobody")
    assert found["ids"] == [[nobody.pw_uid] * 3, [nobody.pw_gid] * 3, [nobody.pw_gid]]
    kept = ["CAP_DAC_READ_SEARCH"]
    expected = {"effective": kept, "permitted": kept, "inheritable": [], "bounding": [], "ambient": []}
    assert found["sets"] == expected
    assert found["no_new_privs"]
    assert found["notes"] == []
    assert found["read"] == "yes"
    assert found["write"] == "Permission denied"
    assert found["raw"] == "Operation not permitted"
    assert found["root again"] == "Operation not permitted"


@NEEDS_ROOT
def test_the_enforcer_reads_no_log(secret: str) -> None:
    found = run("d = drop_to('nobody', ENFORCER_KEEPS)\n" + REPORT.replace("SECRET", secret))
    assert found["sets"]["permitted"] == ["CAP_NET_ADMIN"]
    assert found["read"] == "Permission denied"


@NEEDS_ROOT
def test_a_missing_user_is_replaced_by_nobody(secret: str) -> None:
    found = run("d = drop_to('no-such-user-here')\n" + REPORT.replace("SECRET", secret))
    assert found["user"] == "nobody"
    assert "no-such-user-here" in found["notes"][0]
    assert found["sets"]["permitted"] == []


@NEEDS_ROOT
def test_what_is_started_afterwards_gains_nothing() -> None:
    program = (
        "import subprocess\ndrop_to('nobody', WATCHER_KEEPS)\n"
        "print(json.dumps(subprocess.run(['cat', '/proc/self/status'], capture_output=True, text=True).stdout))"
    )
    status = run(program)
    assert {line.split()[1] for line in status.splitlines() if line.startswith("Cap")} == {"0000000000000000"}


def test_in_a_user_namespace_only_capabilities_are_dropped(secret: str) -> None:
    unshare = shutil.which("unshare")
    if unshare is None or subprocess.run([unshare, "-rn", "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("this kernel gives no user namespaces")
    found = run("d = drop_to('nobody', ENFORCER_KEEPS)\n" + REPORT.replace("SECRET", secret), unshare, "-rn")
    assert found["ids"][0] == [0, 0, 0]
    kept = ["CAP_NET_ADMIN"]
    expected = {"effective": kept, "permitted": kept, "inheritable": [], "bounding": [], "ambient": []}
    assert found["sets"] == expected
    assert found["no_new_privs"]
    assert found["raw"] == "Operation not permitted"
    assert any("not mapped" in note for note in found["notes"])


@NEEDS_ROOT
def test_a_directory_is_given_away_only_when_nothing_of_others_is_in_it(tmp_path: Path) -> None:
    program = f"""
made, full = Path({str(tmp_path)!r}) / 'a' / 'made', Path({str(tmp_path)!r}) / 'full'
full.mkdir(); (full / 'passwd').write_text('')
own_directory(made, 'nobody'); own_directory(made, 'nobody')
(made / 'ledger').write_text('')
own_directory(made, 'nobody')
try: own_directory(full, 'nobody')
except PrivilegeError as error: problem = str(error)
print(json.dumps([made.stat().st_uid, oct(made.stat().st_mode), full.stat().st_uid, problem]))
"""
    owner, mode, other, problem = run(program)
    assert (owner, mode, other) == (pwd.getpwnam("nobody").pw_uid, "0o40750", 0)
    assert "is not empty" in problem
