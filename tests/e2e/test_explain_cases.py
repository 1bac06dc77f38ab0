"""`tocsin explain` on real outages: the lab's kept cases, and the golden ones from their own lines."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
CASES = sorted((ROOT / "lab" / "cases").glob("*.tar.xz"))
NEAR_S = 30.0


def explained(*arguments: str | Path) -> dict[str, Any]:
    """The JSON of one run."""
    command = [sys.executable, "-m", "tocsin.cli.main", "explain", "--json", *map(str, arguments)]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_every_scenario_has_a_case() -> None:
    assert len({case.name.rpartition("-")[0] for case in CASES}) == 11


@pytest.mark.parametrize("archive", CASES, ids=lambda path: path.name.partition(".")[0])
def test_a_case_of_the_lab(archive: Path, tmp_path: Path) -> None:
    subprocess.run([sys.executable, ROOT / "lab" / "case.py", "unpack", archive, tmp_path], check=True)
    case = tmp_path / archive.name.removesuffix(".tar.xz")
    truth = json.loads((case / "truth.json").read_text())
    report = explained(case / "logs")
    if truth["cause"] is None:
        assert report["quiet"]
        assert not report["incidents"]
        return
    incident = report["incidents"][0]
    assert incident["cause"] == truth["cause"]
    assert abs(incident["onset"] - truth["start"]) < NEAR_S
    first, banned = incident["suspects"][0], set(incident["ban"])
    if truth["process"]:
        assert first["process"] == truth["process"]
    if path := (truth["signature"] or {}).get("path"):
        assert first["signature"]["path"] == path
    innocent = {*truth["visitors"], *truth["crawlers"], *(one for ones in truth["others"].values() for one in ones)}
    assert not banned & (innocent - set(truth["others"].get("probe", ())))
    assert bool(banned) == bool(truth["attackers"])


# The lines of the founding article, those of dmesg with their columns put back in order.
FOUNDING = """\
[4747880.173192] Out of memory: Kill process 6898 (apache2) score 102 or sacrifice child
[4747880.176918] Killed process 6898 (apache2) total-vm:319164kB, anon-rss:61624kB, file-rss:41932kB
[4747881.542885] init: mysql main process (6526) terminated with status 1
[4747881.542913] init: mysql main process ended, respawning
[4747881.577925] type=1400 audit(1466221659.162:47): apparmor="STATUS" operation="profile_replace" \
profile="unconfined" name="/usr/sbin/mysqld" pid=6963 comm="apparmor_parser"
[4747881.692184] init: mysql main process (6975) terminated with status 1
[4747881.692197] init: mysql main process ended, respawning
[4747882.677913] init: mysql post-start process (6976) terminated with status 1
[4747882.704025] type=1400 audit(1466221660.286:48): apparmor="STATUS" operation="profile_replace" \
profile="unconfined" name="/usr/sbin/mysqld" pid=6999 comm="apparmor_parser"
[4747882.988167] init: mysql main process (7011) terminated with status 1
[4747882.988183] init: mysql respawning too fast, stopped
"""
POST = (
    '63.251.225.{} - - [20/Jun/2016:11:17:{} -0400] "POST /xmlrpc.php HTTP/1.0" 200 820 "-" '
    '"Mozilla/5.0 (compatible; Googlebot/2.1; http://www.google.com/bot.html)"\n'
)


def test_the_founding_incident_convicts_nobody(tmp_path: Path) -> None:
    """The kill is of 2016-06-18 03:47:37 UTC, the requests that were blamed for it came two and a half days later."""
    (tmp_path / "dmesg.txt").write_text(FOUNDING)
    (tmp_path / "access.log").write_text("".join(POST.format(206 + i // 4, 34 + i) for i in range(8)))
    report = explained(tmp_path)
    (incident,) = report["incidents"]
    assert incident["start"] == pytest.approx(1466221657.76, abs=0.05)
    assert incident["cause"] == "unknown"
    assert not incident["ban"]
    assert not incident["deny"]
    assert "no access log covers" in json.dumps(incident["chain"])
    assert any("active now" in note and "/xmlrpc.php" in note for note in report["notes"])


# Of the 512 MB machine's report: its own lines where they are quoted, and 23 rows like the one that is.
HEAD = "Feb 10 06:29:13 bison kernel: "
ROW = HEAD + "[{0}]    33 {0}    21571     4956   0       0             0 apache2\n"
TASKS = "".join(ROW.format(10666 + i) for i in range(23))
DAILY = "(root) CMD (test -x /usr/sbin/anacron || ( cd / && run-parts --report /etc/cron.daily ))"
VICTIM = f"""\
Feb 10 06:25:01 bison CRON[10650]: {DAILY}
Feb 10 06:29:13 bison kernel: apache2 invoked oom-killer: gfp_mask=0x200da, order=0, oom_adj=0, oom_score_adj=0
Feb 10 06:29:13 bison kernel: Free swap  = 0kB
Feb 10 06:29:13 bison kernel: Total swap = 262140kB
Feb 10 06:29:13 bison kernel: 133104 pages RAM
Feb 10 06:29:13 bison kernel: 5960 pages reserved
Feb 10 06:29:13 bison kernel: [ pid ]   uid  tgid total_vm      rss cpu oom_adj oom_score_adj name
Feb 10 06:29:13 bison kernel: [ 2098]     0  2098     1672        0   3     -17         -1000 sshd
Feb 10 06:29:13 bison kernel: [ 6536]   107  6536    78962     2566   0       0             0 mysqld
{TASKS}\
Feb 10 06:29:13 bison kernel: Out of memory: Kill process 6536 (mysqld) score 88 or sacrifice child
Feb 10 06:29:13 bison kernel: Killed process 6536 (mysqld) total-vm:315848kB, anon-rss:10264kB, file-rss:0kB
"""


def test_the_victim_is_separated_from_the_culprits(tmp_path: Path) -> None:
    """mysqld was killed for holding 10 MB; 23 apache2 held 445 MB; cron.daily had begun: both are offered."""
    (tmp_path / "syslog").write_text(VICTIM)
    report = explained("--now", "1360600000", "--tz", "UTC", tmp_path)
    (incident,) = report["incidents"]
    assert incident["suspects"][0]["process"] == "apache2"
    assert {"misconfiguration", "local-job"} <= {suspect["cause"] for suspect in incident["suspects"]}
    assert "mysqld" not in [suspect["process"] for suspect in incident["suspects"]]
    assert "445" in incident["suspects"][0]["why"]
    assert not incident["ban"]
