"""A real nginx turns requests of a class away: a reloader of its own tests what is to be denied, and reloads."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from enforcing import ATTACKER4, ATTACKER6, NEIGHBOUR4, NEIGHBOUR6, SAME64, SERVER4, SERVER6, Site
from guarding import Guard, scratch
from netns import wait_until
from test_deny_apache import HOSTILE, XMLRPC, seed
from webs import PORT, Asker, Denier, Web, denier, end, need

from tocsin.enforce.webserver import LEASE_S
from tocsin.model import Decision, Signature

_MAIN = """
user www-data;
worker_processes 1;
pid {folder}/nginx.pid;
error_log {folder}/error.log warn;
events {{ }}
http {{
    access_log off;
    include {folder}/tocsin.con[f];
    server {{
        listen {port} default_server; listen [::]:{port};
        server_name shop.example;
        root {folder}/htdocs;
        location = /pretty {{ try_files /nothing /index.html; }}
        location /own/ {{ alias {folder}/htdocs/; }}
    }}
    server {{ listen {port}; server_name plain.example; root {folder}/htdocs; }}
}}
"""


@pytest.fixture
def web(site: Site) -> Iterator[Web]:
    need("nginx")
    with scratch() as folder, Web(site.server, folder, "nginx") as one:
        (folder / "main.conf").write_text(_MAIN.format(folder=folder, port=PORT))
        one.setup("--yes")
        one.start("nginx", "-c", str(folder / "main.conf"), "-g", "daemon off;")
        yield one


@pytest.fixture
def reloader(web: Web) -> subprocess.Popen[bytes]:
    return web.helper("tocsin.enforce.reloader", "--dir", str(web.directory), "--marker", str(web.folder / "web.json"))


@pytest.fixture
def asker(site: Site) -> Asker:
    return Asker(site.outside, SERVER4)


@pytest.fixture
def deny(web: Web) -> Iterator[Denier]:
    with denier(web) as one:
        yield one


def denied(asker: Asker, target: str, method: str = "GET", source: str = ATTACKER4, **headers: str) -> bool:
    """Whether requests are turned away: one a minute is let through, so the second one tells."""
    return bool([asker.ask(source, target, method, **headers) for _ in range(2)][1] == 429)


def until_denied(asker: Asker, target: str, method: str = "GET", **headers: str) -> None:
    """Wait for the new processes, and until the old ones take no more requests."""
    wait_until(lambda: denied(asker, target, method, **headers), "denied by the new processes")
    time.sleep(0.5)  # nginx lets the old ones go 100 ms after the new ones have started


@pytest.mark.usefixtures("reloader")
def test_a_class_is_turned_away_but_for_the_spared_and_let_in_again(site: Site, deny: Denier, asker: Asker) -> None:
    assert not denied(asker, "/xmlrpc.php", "POST")
    receipt = deny.deny("d1", XMLRPC, [NEIGHBOUR4, "2001:db8:a:1::/64"])
    assert receipt.ok, receipt.error
    until_denied(asker, "/xmlrpc.php", "POST")
    for host in ("shop.example", "plain.example"):
        assert denied(asker, "/xmlrpc.php", "POST", Host=host)
        assert denied(asker, "//x/../xmlrpc%2ephp?a", "POST", Host=host)
        assert not denied(asker, "/xmlrpc.php", Host=host)
    assert not denied(asker, "/xmlrpc.php", "POST", NEIGHBOUR4)
    assert not denied(asker, "/xmlrpc.php", "POST", "10.66.0.130")  # in [allow]
    six = Asker(site.outside, SERVER6)
    sources = (ATTACKER6, SAME64, NEIGHBOUR6, "2001:db8:66::2")
    assert [denied(six, "/xmlrpc.php", "POST", source) for source in sources] == [False, False, False, True]
    assert deny.allow("d1").ok
    wait_until(lambda: not denied(asker, "/xmlrpc.php", "POST"), "let in")


@pytest.mark.usefixtures("reloader")
def test_no_text_of_a_class_means_anything_but_itself(web: Web, deny: Denier, asker: Asker) -> None:
    for number, text in enumerate(HOSTILE[:15]):
        assert deny.deny(f"d{number}", Signature("GET", f"/own/page{number}", user_agent=text)).ok
    until_denied(asker, "/own/page14", User_Agent=HOSTILE[14])
    for number, text in enumerate(HOSTILE[:15]):
        assert denied(asker, f"/own/page{number}", User_Agent=f"a{text}z"), text
        assert not denied(asker, f"/own/page{number}", User_Agent="Mozilla/5.0"), text
    assert "emerg" not in (web.folder / "error.log").read_text()


@pytest.mark.usefixtures("reloader")
def test_each_part_of_a_class_is_asked_for(deny: Denier, asker: Asker) -> None:
    assert deny.deny("path", Signature(path="/a*/*/b*.php", vhost="www.shop.example")).ok
    assert deny.deny("query", Signature("GET", "/page.html", query="")).ok
    assert deny.deny("agent", Signature("GET", "/index.html", user_agent="")).ok
    targets = ("/a/x/b.php", "/ab/x/bcd.php", "/ab/bcd.php", "/a/x/y/b.php", "/a/x/b.phps")
    assert [denied(asker, target, Host="shop.example") for target in targets] == [True, True, False, False, False]
    assert not denied(asker, "/a/x/b.php", Host="plain.example")
    assert [denied(asker, target) for target in ("/page.html", "/page.html?a")] == [True, False]
    until_denied(asker, "/index.html", User_Agent="-")
    assert not denied(asker, "/index.html", User_Agent="x")
    assert not denied(asker, "/pretty", User_Agent="-")


def test_a_file_that_nginx_refuses_is_taken_back(web: Web, deny: Denier, asker: Asker) -> None:
    main = web.folder / "main.conf"
    sound, before = main.read_text(), (web.folder / "tocsin.conf").read_text()
    main.write_text(sound.replace("http {", "http {\n limit_req_status 503;"))
    web.helper("tocsin.enforce.reloader", "--dir", str(web.directory), "--marker", str(web.folder / "web.json"))
    receipt = deny.deny("d", XMLRPC)
    assert not receipt.ok
    assert "limit_req_status" in receipt.error
    assert (web.folder / "tocsin.conf").read_text() == before
    assert not denied(asker, "/xmlrpc.php", "POST")


def test_nothing_is_denied_once_guard_or_the_reloader_has_ended(
    web: Web, reloader: subprocess.Popen[bytes], deny: Denier, asker: Asker
) -> None:
    assert deny.deny("d", XMLRPC).ok
    until_denied(asker, "/xmlrpc.php", "POST")
    os.kill(deny.process.pid, signal.SIGKILL)
    time.sleep(1)
    assert denied(asker, "/xmlrpc.php", "POST")
    wait_until(lambda: not denied(asker, "/xmlrpc.php", "POST"), "let in", LEASE_S + 5.0)
    with denier(web) as other:
        assert other.deny("e", XMLRPC).ok
        until_denied(asker, "/xmlrpc.php", "POST")
        end(reloader)
        wait_until(lambda: not denied(asker, "/xmlrpc.php", "POST"), "let in", 5.0)
        assert reloader.returncode == 0


def test_the_reloader_judges_an_order_again(web: Web, reloader: subprocess.Popen[bytes], asker: Asker) -> None:
    order = {
        "token": "a1",
        "until_ts": time.time() + 15,
        "denials": [{"id": "d", "signature": {"method": "GET"}, "spare": [], "end_ts": time.time() + 60}],
    }
    web.directory.mkdir()
    (web.directory / "nginx.json").write_text(json.dumps(order))
    time.sleep(2)
    assert reloader.poll() is None
    assert not denied(asker, "/index.html")
    order["denials"] = [{"id": "d", "signature": {"path": "/index.html"}, "spare": [], "end_ts": time.time() + 60}]
    (web.directory / "nginx.json").write_text(json.dumps(order))
    wait_until(lambda: denied(asker, "/index.html"), "denied")
    Path(web.directory / "nginx.json").write_bytes(b"\xff" * 100)
    wait_until(lambda: not denied(asker, "/index.html"), "let in", 5.0)


def test_setup_finds_limits_that_ours_does_not_join_and_a_file_that_is_not_read(site: Site) -> None:
    need("nginx")
    with scratch() as folder, Web(site.server, folder, "nginx") as web:
        main = folder / "main.conf"
        text = _MAIN.format(folder=folder, port=PORT)
        main.write_text(text.replace("include ", "# include "))
        assert "does not include" in web.setup("--yes", code=69)["said"]
        assert not (folder / "tocsin.conf").exists()
        main.write_text(text)
        done = web.setup("--yes")
        assert done["changed"]
        assert not done["said"]
        limited = text.replace("http {", "http { limit_req_zone $uri zone=own:1m rate=9r/s;")
        main.write_text(limited.replace("location /own/ {", "location /own/ { limit_req zone=own;"))
        assert (
            "main.conf has a limit_req of its own"
            in web.setup("--remove", "--yes")["said"] + web.setup("--yes")["said"]
        )
        assert web.setup("--remove", "--yes")["changed"]
        assert not (folder / "tocsin.conf").exists()


def test_guard_that_is_root_has_the_reloader_for_a_child(web: Web, site: Site, asker: Asker) -> None:
    with scratch() as own:
        guard = Guard(site.server, own, f'[web]\ndir = "{web.directory}"\n')
        shutil.copy(web.folder / "web.json", own)
        now_ts = time.time()
        seed(guard.state, Decision("d", "deny-request", "", now_ts, now_ts + 600, "contrast", None, signature=XMLRPC))
        try:
            guard.start()
            until_denied(asker, "/xmlrpc.php", "POST")
            wait_until(
                lambda: [one["ok"] for one in guard.need_status()["web"]["denied"]] == [True], "said to be denied"
            )
            pids = guard.pids()
            guard.kill("enforce.reloader")
            wait_until(lambda: guard.pids().get("enforce.reloader", 0) not in (0, pids["enforce.reloader"]), "another")
            assert {name: guard.pids()[name] for name in ("guard", "enforce")} == {
                name: pids[name] for name in ("guard", "enforce")
            }
            until_denied(asker, "/xmlrpc.php", "POST")
        finally:
            guard.stop()
    wait_until(lambda: not denied(asker, "/xmlrpc.php", "POST"), "let in", 5.0)
