"""Discovery as a whole: usual places, rights, hostile trees; and the rooted view of files that it stands on."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from machine_tree import NOW_TS, plant

from tocsin.sources.discovery import Discovery, discover
from tocsin.sources.rooted import RootedTree


def test_an_empty_machine_has_nothing(tmp_path: Path) -> None:
    assert discover(tmp_path) == Discovery((), (), ())


def test_this_very_machine_is_read_without_an_error() -> None:
    msgspec.json.encode(discover())


def test_the_usual_places_without_any_configuration(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/var/log/apache2/access.log": "1",
            "/var/log/apache2/other_vhosts_access.log": "1",
            "/var/log/apache2/error.log": "1",
            "/var/log/apache2/access.log.1": "1",
            "/var/log/apache2/access.log.2.gz": "1",
            "/var/log/httpd/ssl_access_log": "1",
            "/var/log/nginx/site.access.log": "1",
            "/var/log/lighttpd/access.log": "1",
            "/var/log/auth.log": "1",
        },
        {"/var/log/secure": "gone"},
    )
    discovery = discover(tmp_path, NOW_TS)
    assert {(log.path, log.kind, log.format) for log in discovery.logs if log.exists} == {
        ("/var/log/apache2/access.log", "access", ""),
        ("/var/log/apache2/other_vhosts_access.log", "access", ""),
        ("/var/log/httpd/ssl_access_log", "access", ""),
        ("/var/log/nginx/site.access.log", "access", ""),
        ("/var/log/lighttpd/access.log", "access", ""),
        ("/var/log/auth.log", "auth", "sshd"),
    }
    assert {log.found_in for log in discovery.logs} == {"usual place"}


def test_a_configured_log_is_not_found_a_second_time(tmp_path: Path) -> None:
    files = {
        "/etc/nginx/nginx.conf": "http { access_log /var/log/nginx/$host.log; access_log /var/log/nginx/./access.log;}",
        "/var/log/nginx/access.log": "1",
        "/var/log/nginx/shop_access.log": "1",
    }
    logs = [log for log in discover(plant(tmp_path, files), NOW_TS).logs if log.kind == "access"]
    assert [(log.path, log.files) for log in logs] == [("/var/log/nginx/access.log", 1), ("/var/log/nginx/*.log", 1)]


def test_a_name_with_glob_characters_is_taken_literally(tmp_path: Path) -> None:
    files = {"/etc/apache2/apache2.conf": "CustomLog /l/a[1].log common\n", "/l/a[1].log": "1234", "/l/a1.log": "1"}
    (log,) = discover(plant(tmp_path, files), NOW_TS).logs
    assert (log.path, log.files, log.size_bytes) == ("/l/a[[]1].log", 1, 4)


def test_devices_and_pipes_are_not_opened(tmp_path: Path) -> None:
    plant(tmp_path, {"/etc/apache2/apache2.conf": "Include fifo\nCustomLog /var/log/fifo common\n"})
    (tmp_path / "var/log").mkdir(parents=True)
    os.mkfifo(tmp_path / "etc/apache2/fifo")
    os.mkfifo(tmp_path / "var/log/fifo")
    discovery = discover(tmp_path, NOW_TS)
    assert [item.path for item in discovery.unreadable] == ["/etc/apache2/fifo", "/var/log/fifo"]
    assert not discovery.logs[0].readable


def test_what_another_user_may_not_see_is_said(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/etc/nginx/nginx.conf": "http { access_log /var/log/nginx/a.log; include secret.conf; }",
            "/etc/nginx/secret.conf": "",
            "/var/log/nginx/a.log": "1",
            "/var/log/apache2/access.log": "1",
            "/var/log/auth.log": "1",
        },
    )
    tmp_path.chmod(0o755)
    for path in ("etc/nginx/secret.conf", "var/log/nginx", "var/log/apache2", "var/log/auth.log"):
        (tmp_path / path).chmod(0)
    program = (
        "import os, sys; from pathlib import Path; from tocsin.sources.discovery import discover; import msgspec\n"
        "os.chdir(sys.argv[1]); os.geteuid() or (os.setgroups([]), os.setgid(65534), os.setuid(65534))\n"
        "print(msgspec.json.encode(discover(Path('.'))).decode())"
    )
    ran = subprocess.run([sys.executable, "-c", program, str(tmp_path)], capture_output=True, check=True)
    for path in ("var/log/nginx", "var/log/apache2"):
        (tmp_path / path).chmod(0o755)
    discovery = msgspec.json.decode(ran.stdout, type=Discovery)
    assert {item.path for item in discovery.unreadable} == {
        "/etc/nginx/secret.conf",
        "/var/log/nginx/a.log",
        "/var/log/nginx/error.log",
        "/var/log/apache2",
        "/var/log/auth.log",
    }
    assert all(
        "Permission denied" in item.reason and "CAP_DAC_READ_SEARCH" in item.remedy for item in discovery.unreadable
    )
    assert not any(log.readable for log in discovery.logs)


def test_links_stay_inside_the_root(tmp_path: Path) -> None:
    plant(
        tmp_path / "root",
        {"/etc/real": "inside"},
        {"/etc/up": "../../../../etc/real", "/etc/absolute": "/etc/real", "/a": "b", "/b": "a"},
    )
    plant(tmp_path, {"/etc/real": "outside"})
    tree = RootedTree(tmp_path / "root")
    assert [tree.read(f"/etc/{name}") for name in ("up", "absolute", "../etc//./real")] == [b"inside"] * 3
    with pytest.raises(OSError, match="symbolic links") as caught:
        tree.canonical("/a/x")
    assert caught.value.errno == errno.ELOOP


def test_a_file_too_large_is_refused(tmp_path: Path) -> None:
    tree = RootedTree(plant(tmp_path, {"/f": "12345"}))
    assert tree.read("/f", limit_bytes=5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        tree.read("/f", limit_bytes=4)


def test_a_glob_is_sorted_and_leaves_hidden_names_out(tmp_path: Path) -> None:
    tree = RootedTree(plant(tmp_path, {"/d/b/x": "", "/d/a/x": "", "/d/.h/x": "", "/d/c/y": "", "/d/file": ""}))
    assert tree.glob("/d/*/x") == (["/d/a/x", "/d/b/x"], [])
    assert tree.glob("/d/.*/x") == (["/d/.h/x"], [])
    assert tree.glob("/nowhere/*") == ([], [])


PIECES = st.sampled_from(
    [
        *"{};\"'\\\n\t <>#$|%*[]",
        *(
            "http ",
            "server ",
            "access_log ",
            "/a.log",
            "include *;",
            "log {\n",
            "output file /c\n",
            "import *\n",
            "(s)",
        ),
        *("Include *\n", "CustomLog ", "<VirtualHost>\n", "</VirtualHost>\n", "<Macro m $x>\n", "Use m 1\n"),
    ]
)


@settings(max_examples=60)
@given(st.lists(PIECES | st.binary(max_size=4).map(lambda raw: raw.decode("latin-1"))))
def test_no_configuration_breaks_discovery(tmp_path_factory: pytest.TempPathFactory, pieces: list[str]) -> None:
    text = "".join(pieces).encode("latin-1")
    files = dict.fromkeys(("/etc/apache2/apache2.conf", "/etc/nginx/nginx.conf", "/etc/caddy/Caddyfile"), text)
    discovery = discover(plant(tmp_path_factory.mktemp("machine"), files), NOW_TS)
    assert msgspec.json.decode(msgspec.json.encode(discovery), type=Discovery) == discovery
