"""The files for the system: the unit grants what the processes keep and nothing beyond, and systemd accepts it."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tocsin.config import Guard
from tocsin.config_model import Fail2ban
from tocsin.fail2ban.actions.runner import DEFAULT_USER, STATE_DIR
from tocsin.privileges import ENFORCER_KEEPS, WATCHER_KEEPS

PACKAGING = Path(__file__).parents[2] / "packaging"


def unit() -> dict[str, list[str]]:
    """Settings of the unit, each with its words."""
    settings: dict[str, list[str]] = {}
    for line in (PACKAGING / "tocsin.service").read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            name, _, value = line.partition("=")
            settings.setdefault(name, []).extend(value.split())
    return settings


def test_the_unit_grants_what_is_kept_and_the_right_to_drop_the_rest() -> None:
    granted = WATCHER_KEEPS | ENFORCER_KEEPS | {"CAP_SETPCAP"}
    assert set(unit()["AmbientCapabilities"]) == granted
    assert set(unit()["CapabilityBoundingSet"]) == granted
    assert unit()["User"] == [Guard().user]


def test_the_directories_are_those_of_the_configuration() -> None:
    assert f"/var/lib/{unit()['StateDirectory'][0]}" == Guard().state_dir
    assert f"/run/{unit()['RuntimeDirectory'][0]}" == Guard().run_dir
    assert f"/var/lib/{unit()['StateDirectory'][1]}" == STATE_DIR == f"{Guard().state_dir}-actions"
    assert Fail2ban().actions_user == DEFAULT_USER


def test_bans_come_before_the_web_server_and_after_whoever_flushes_rulesets() -> None:
    assert {"apache2.service", "httpd.service", "nginx.service", "caddy.service"} <= set(unit()["Before"])
    assert {"nftables.service", "firewalld.service", "ufw.service"} <= set(unit()["After"])
    assert unit()["Type"] == ["notify"]
    assert unit()["Restart"] == ["always"]
    assert unit()["StartLimitIntervalSec"] == ["0"]


def test_systemd_accepts_the_unit(tmp_path: Path) -> None:
    analyze = shutil.which("systemd-analyze")
    if analyze is None:
        pytest.skip("systemd-analyze is not installed here")
    text = (PACKAGING / "tocsin.service").read_text()
    file = tmp_path / "tocsin.service"
    file.write_text(text.replace("/usr/local/bin/tocsin", "/bin/true"))  # it asks that the program is installed
    ran = subprocess.run([analyze, "verify", str(file)], capture_output=True, text=True, timeout=30, check=False)
    assert (ran.returncode, ran.stdout + ran.stderr) == (0, "")


def test_the_user_can_be_made(tmp_path: Path) -> None:
    sysusers = shutil.which("systemd-sysusers")
    if sysusers is None:
        pytest.skip("systemd-sysusers is not installed here")
    (tmp_path / "etc").mkdir()
    command = [sysusers, f"--root={tmp_path}", str(PACKAGING / "sysusers.conf")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert ran.returncode == 0, ran.stderr
    passwd = tmp_path / "etc/passwd"
    made = {line.partition(":")[0] for line in passwd.read_text().splitlines()}
    assert {Guard().user, Fail2ban().actions_user} <= made
