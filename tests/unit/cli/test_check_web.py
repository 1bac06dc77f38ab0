"""What `tocsin check` says of the web server."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tocsin.cli.check_web import web_items
from tocsin.config_model import Config, Proxies, Web
from tocsin.enforce.webserver import apache_conf


@pytest.fixture
def config(tmp_path: Path) -> Config:
    """Set up for an Apache whose main configuration is not the usual one."""
    conf = tmp_path / "tocsin.conf"
    conf.write_text(apache_conf("/run/tocsin-test/web"))
    (tmp_path / "web.json").write_text(
        json.dumps({"server": "apache", "conf": str(conf), "main": "/x", "clients": True})
    )
    return Config(file=str(tmp_path / "tocsin.toml"), web=Web("/run/tocsin-test/web"))


def said(config: Config) -> list[tuple[str, str]]:
    """State and remedy of each item."""
    return [(item.state, item.remedy) for item in web_items(config)]


def test_what_is_set_up_and_current_is_well(config: Config) -> None:
    assert said(config) == [("ok", "")]


def test_what_is_not_set_up_is_a_note(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tocsin.cli.check_web.present_servers", lambda: ["nginx"])
    assert said(Config(file=str(tmp_path / "tocsin.toml"))) == [("warning", "sudo tocsin setup nginx")]


def test_a_file_of_another_folder_is_told(config: Config, tmp_path: Path) -> None:
    (tmp_path / "tocsin.conf").write_text(apache_conf("/run/other"))
    assert said(config) == [("warning", "sudo tocsin setup apache")]


def test_a_folder_that_apache_may_not_look_into_is_told(config: Config, tmp_path: Path) -> None:
    closed = tmp_path / "run"
    closed.mkdir(mode=0o700)
    (tmp_path / "tocsin.conf").write_text(apache_conf(f"{closed}/web"))
    found = said(Config(file=config.file, web=Web(f"{closed}/web")))
    assert ("warning", f"chmod o+x {closed}") in found


def test_behind_a_proxy_the_server_must_know_the_clients(config: Config, tmp_path: Path) -> None:
    proxied = Config(file=config.file, web=config.web, proxies=Proxies(("192.0.2.0/24",)))
    assert said(proxied) == [("ok", "")]
    marker = tmp_path / "web.json"
    marker.write_text(marker.read_text().replace("true", "false"))
    (item,) = web_items(proxied)
    assert (item.state, "behind a proxy" in item.detail) == ("warning", True)
