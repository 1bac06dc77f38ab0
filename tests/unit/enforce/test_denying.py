"""The files of what is denied: in what order they change, who is answered when, and what is left where disks fail."""

from __future__ import annotations

import json
import shutil
import socket
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

from tocsin.enforce.client import Enforcer
from tocsin.enforce.denials import Denials
from tocsin.enforce.denying import STEP_NAMES, Denying
from tocsin.enforce.protocol import Allow, Channel, Denied, Deny, ToEnforcer
from tocsin.enforce.webfiles import Marker, read_marker, why_not
from tocsin.model import Decision, Receipt, Signature

XMLRPC = Signature("POST", "/xmlrpc.php")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    (tmp_path / "tocsin.conf").touch()
    (tmp_path / "web.json").write_text(
        json.dumps({"server": "apache", "conf": f"{tmp_path}/tocsin.conf", "asks": True})
    )
    return tmp_path / "web"


@pytest.fixture
def sockets() -> Iterator[tuple[socket.socket, socket.socket]]:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        yield ours, theirs


def made(directory: Path) -> Denying:
    return Denying(directory, directory.parent / "web.json")


def deny(number: int, spare: list[str], signature: Signature = XMLRPC, end_s: float = 60.0) -> Deny:
    return Deny(number, f"d{number}", signature, spare, time.time() + end_s)


def settle(denying: Denying, answers: int, seen: Callable[[], object] = lambda: None) -> list[Denied]:
    """Work until so many answers have come; `seen` looks between the steps."""
    found: list[Denied] = []
    until_s = time.monotonic() + 10
    while len(found) < answers:
        assert time.monotonic() < until_s
        found += denying.work()
        seen()
    return found


def classes(directory: Path) -> list[str]:
    """The classes in force, each with its slot."""
    return (directory / "classes").read_text().splitlines()[1:]


def spared(directory: Path, slot: int) -> set[str]:
    return {path.name for path in (directory / "spare" / str(slot)).iterdir()} - {"8-127.", "::1"}


def test_a_class_is_denied_when_all_its_spared_are_there(directory: Path) -> None:
    denying = made(directory)
    many = [f"10.0.{n >> 8}.{n & 255}" for n in range(3 * STEP_NAMES)]
    assert denying.take(deny(1, many)) == []
    steps = 0

    def look() -> None:
        nonlocal steps
        steps += 1
        assert not classes(directory) or spared(directory, 1) == set(many)

    (answer,) = settle(denying, 1, look)
    assert steps > 3
    assert (answer.id, answer.receipt.verb, answer.receipt.ok) == (1, "deny", True)
    assert classes(directory) == ["1\tPOST\t\t\t/xmlrpc.php\t"]
    assert (directory / "spare").stat().st_mode & 0o777 == 0o711
    assert (directory / "classes").stat().st_mode & 0o777 == 0o644


def test_what_takes_the_place_of_a_class_leaves_no_gap(directory: Path) -> None:
    denying = made(directory)
    denying.take(deny(1, ["192.0.2.1", "192.0.2.2"]))
    settle(denying, 1)
    denying.take(Allow(2, "d1"))
    denying.take(deny(3, ["192.0.2.2", "192.0.2.3"]))
    answers = settle(denying, 2, lambda: classes(directory)[0])  # IndexError where there were none
    assert {(each.receipt.decision, each.receipt.verb) for each in answers} == {("d1", "allow"), ("d3", "deny")}
    assert len(classes(directory)) == 1
    assert spared(directory, 1) == {"192.0.2.2", "192.0.2.3"}
    denying.take(Allow(4, "d3"))
    settle(denying, 1)
    assert (directory / "classes").read_bytes() == b""
    assert list((directory / "spare").iterdir()) == []


def test_who_is_asked_gets_a_cookie_that_is_good_while_somebody_is_asked(directory: Path) -> None:
    denying = made(directory)
    denying.take(msgspec.structs.replace(deny(1, ["192.0.2.1"], Signature("GET")), asks=True))
    denying.take(deny(2, [], Signature("POST", "/x", protocol="HTTP/1.0")))
    assert all(each.receipt.ok for each in settle(denying, 2))
    assert (directory / "asked").read_text().splitlines()[1:] == ["1\tGET\t\t\t\t"]
    assert classes(directory) == ["2\tPOST/HTTP/1.0\t\t\t/x\t"]
    (first,) = (directory / "token").iterdir()
    assert f"tocsin={first.name};" in (directory / "page").read_text()
    denying.take(Allow(3, "d1"))
    settle(denying, 1)
    assert (directory / "asked").read_bytes() == b""
    assert list((directory / "token").iterdir()) == []
    denying.take(deny(4, [], Signature("GET", "/y")))
    settle(denying, 1)
    assert (directory / "pages").read_text().splitlines()[1:] == ["3\tGET\t\t\t/y\t"]
    (second,) = (directory / "token").iterdir()
    assert first != second
    made(directory)
    assert list((directory / "token").iterdir()) == []


def test_only_pages_are_asked_for_and_a_class_may_be_all_of_them(directory: Path) -> None:
    denying = made(directory)
    for signature in (Signature("POST", "/x"), Signature(path="/x"), Signature("GET", "x")):
        (answer,) = denying.take(msgspec.structs.replace(deny(1, [], signature), asks=True))
        assert "expected" in answer.receipt.error
    (answer,) = denying.take(deny(2, [], Signature("GET")))
    assert "needs a path" in answer.receipt.error


def test_a_denial_ends_by_itself_and_with_its_enforcer(directory: Path) -> None:
    denying = made(directory)
    denying.take(deny(1, [], end_s=0.3))
    settle(denying, 1)
    until_s = time.monotonic() + 5
    while classes(directory):
        assert time.monotonic() < until_s
        denying.work()
    denying.take(deny(2, ["192.0.2.1"]))
    settle(denying, 1)
    made(directory)  # another one, after the first was killed
    assert (directory / "classes").read_bytes() == b""


def test_a_folder_that_is_gone_is_said_and_made_again(directory: Path) -> None:
    denying = made(directory)
    denying.take(deny(1, []))
    settle(denying, 1)
    shutil.rmtree(directory)
    denying.take(deny(2, [], Signature(path="/x")))
    (answer,) = settle(denying, 1)
    assert "cannot write" in answer.receipt.error
    until_s = time.monotonic() + 5
    while not (directory / "classes").exists() or len(classes(directory)) < 2:
        assert time.monotonic() < until_s
        denying.work()


def test_what_is_not_set_up_is_refused_until_it_is(directory: Path) -> None:
    marker = directory.parent / "web.json"
    text = marker.read_text()
    marker.unlink()
    denying = made(directory)
    (answer,) = denying.take(deny(1, []))
    assert "not set up" in answer.receipt.error
    marker.write_text(text)
    assert denying.take(deny(2, [])) == []
    assert settle(denying, 1)[0].receipt.ok
    (directory.parent / "tocsin.conf").unlink()
    assert read_marker(marker) is None


def test_behind_a_proxy_the_server_must_know_the_clients() -> None:
    assert "mod_remoteip" in why_not(Marker("apache", "/x"), proxied=True)
    assert why_not(Marker("apache", "/x", clients=True), proxied=True) == ""
    assert why_not(Marker("apache", "/x")) == ""
    assert why_not(Marker("apache", "/x", asks=True), asks=True) == why_not(Marker("nginx", "/x")) == ""
    assert "tocsin setup apache" in why_not(Marker("apache", "/x"), asks=True)  # its file may lack the question
    assert why_not(Marker("nginx", "/x"), asks=True).startswith("limit: nginx")


def test_the_watcher_says_once_what_can_be_pasted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, sockets: tuple[socket.socket, socket.socket]
) -> None:
    monkeypatch.setattr("tocsin.enforce.denials.present_servers", lambda: ["apache"])
    said: list[str] = []
    heard: list[Receipt] = []
    ours, theirs = sockets
    denials = Denials(Enforcer(ours), tmp_path / "web.json", lambda _kind, text, **_: said.append(text), heard.extend)
    assert set(denials.cannot()) == {"deny-request", "limit"}
    assert "not set up" in denials.cannot()["deny-request"]
    denials.say_rule(XMLRPC)
    denials.say_rule(XMLRPC)
    assert len(said) == 1
    assert r"RewriteRule ^/xmlrpc\.php$ - [R=429,L]" in said[0]
    now_ts = time.time()
    one = Decision(
        "d1", "deny-request", "", now_ts, now_ts + 60, "contrast", "f", signature=XMLRPC, spare=("192.0.2.7",)
    )
    denials.apply(one)
    denials.answered(Denied(1, Receipt("deny", "", "d1", ok=True, ts=now_ts)))
    (shown,) = denials.status()["denied"]
    assert shown == {
        "action": "deny-request",
        "signature": {"method": "POST", "path": "/xmlrpc.php"},
        "until_ts": now_ts + 60,
        "spared": 1,
        "ok": True,
        "error": "",
    }
    denials.apply(Decision("l1", "lift", "", now_ts, None, "contrast", "f", lifts="d1", signature=XMLRPC))
    assert denials.status()["denied"] == []
    strange = msgspec.structs.replace(one, id="d2", signature=Signature(user_agent="\udcff"))
    denials.apply(strange)  # no message can say it
    denials.apply(msgspec.structs.replace(one, id="d3", spare=("192.0.2.7",) * 5001))
    assert [(receipt.decision, receipt.ok) for receipt in heard] == [("d1", True), ("d2", False), ("d3", False)]
    asked = Channel[ToEnforcer](theirs, ToEnforcer).receive()
    assert [type(message) for message in asked] == [Deny, Allow]
