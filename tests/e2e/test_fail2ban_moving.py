"""Moving in from a real fail2ban: its bans taken over and back, and its client's words answered byte for byte."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import socket
import subprocess
import threading
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from fail2ban_server import Fail2ban, fail2ban_in
from guarding import TOCSIN, Guard, guarding, scratch
from netns import Namespace, missing, wait_until

from tocsin.control import ControlServer, Reply, Request
from tocsin.decide.subjects import canonical


@pytest.fixture
def fail2ban() -> Iterator[Fail2ban]:
    """A fail2ban at work."""
    with scratch() as folder, fail2ban_in(folder) as one:
        yield one


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A network of its own."""
    if reason := missing():
        text = f"needs network namespaces with nftables: {reason}"
        if os.environ.get("CI"):
            pytest.fail(text)
        pytest.skip(text)
    with Namespace() as made:
        yield made


# -- taking over -----------------------------------------------------------------------------------------------------


def rows(guard: Guard, *words: str) -> list[dict[str, Any]]:
    """The JSON that a command prints."""
    return [json.loads(line) for line in guard.tell("fail2ban", *words, "--json").splitlines()]


@pytest.mark.root
def test_a_running_guard_takes_the_bans_over_and_back(fail2ban: Fail2ban, namespace: Namespace) -> None:
    fail2ban.ban("web", "192.0.2.7", "192.0.2.8", "2001:db8::7")
    fail2ban.ban("api", "192.0.2.7", "198.51.100.0/24", "127.0.0.1")
    wanted = {"192.0.2.7", "192.0.2.8", "2001:db8::/64", "198.51.100.0/24"}
    with guarding(namespace) as guard:
        guard.tell("ban", "192.0.2.8", "--for", "10m")
        where = ("import", "--fail2ban", str(fail2ban.folder))
        tried = rows(guard, *where, "--dry-run")
        assert tried[-1]["summary"]["bans"] == 4
        assert guard.in_kernel() == {"192.0.2.8"}

        done = guard.run_cli("fail2ban", *where)
        assert done.returncode == 0, done.stderr
        assert "fail2ban still runs" in done.stderr
        assert "systemctl disable --now fail2ban" in done.stderr
        assert "Took 4 bans in force" in done.stdout
        assert "not taken: 1: safe: 127.0.0.0/8: this machine itself (127.0.0.1)" in done.stdout
        guard.wait_banned(*wanted)

        def listed() -> list[dict[str, Any]]:
            return [row["ban"] for row in map(json.loads, guard.tell("bans", "--json").splitlines())]

        wait_until(lambda: [ban["origin"] for ban in listed()] == ["import"] * 4, "the ledger to know of all")
        bans = {ban["subject"]: ban for ban in listed()}
        assert {subject: (ban["rule"], ban["origin"]) for subject, ban in bans.items()} == {
            "192.0.2.7": ("api", "import"),  # for good, which is longer than the hour of the other jail
            "192.0.2.8": ("web", "import"),
            "2001:db8::/64": ("web", "import"),
            "198.51.100.0/24": ("api", "import"),
        }
        assert bans["192.0.2.7"]["end_ts"] is None
        assert bans["192.0.2.7"]["times"] == 2
        assert 3000 < bans["2001:db8::/64"]["end_ts"] - time.time() <= 3600
        assert "Taken over: banned there" in guard.tell("why", "192.0.2.7")
        assert "imported from fail2ban: 4 bans" in guard.said_text()

        guard.tell("unban", "198.51.100.0/24")  # what changed since is left as it is
        (undone,) = rows(guard, "import", "--undo")
        assert undone["undone"]["lifted"] == 3
        wait_until(lambda: guard.in_kernel() == {"192.0.2.8"}, "the kernel as it was before")
        wait_until(lambda: [ban["subject"] for ban in listed()] == ["192.0.2.8"], "the ledger as it was before")
        own = listed()
        assert 0 < own[0]["end_ts"] - time.time() <= 600
        assert "there is no import to undo" in guard.run_cli("fail2ban", "import", "--undo").stderr


@pytest.mark.root
def test_without_a_guard_the_next_one_has_the_bans(fail2ban: Fail2ban, namespace: Namespace) -> None:
    fail2ban.ban("web", *(f"192.0.2.{i}" for i in range(1, 201)), "2001:db8::7")
    fail2ban.stop()
    with scratch() as folder:
        guard = Guard(namespace, folder)
        done = guard.run_cli("fail2ban", "import", "--fail2ban", str(fail2ban.folder))
        assert done.returncode == 0, done.stderr
        assert "still runs" not in done.stderr
        assert "The first 50 of 201:" in done.stdout
        assert "in force once guard starts" in done.stdout
        try:
            guard.start()
            wanted = {f"192.0.2.{i}" for i in range(1, 201)} | {"2001:db8::/64"}
            guard.wait_banned(*wanted)
            assert rows(guard, "import", "--undo")[0]["undone"]["lifted"] == 201
            wait_until(lambda: not guard.in_kernel(), "nothing banned")
        finally:
            guard.stop()
        assert rows(guard, "import", "--fail2ban", str(fail2ban.folder))[-1]["summary"]["bans"] == 201
        assert rows(guard, "import", "--undo")[0]["undone"]["lifted"] == 201
        assert guard.tell("bans", "--json") == ""


@pytest.mark.root
def test_a_guard_that_only_observes_takes_nothing(fail2ban: Fail2ban, namespace: Namespace) -> None:
    fail2ban.ban("web", "192.0.2.7")
    with _observing(namespace) as guard:
        done = guard.run_cli("fail2ban", "import", "--fail2ban", str(fail2ban.folder))
        assert done.returncode == 69
        assert "the guard only observes" in done.stderr


@contextlib.contextmanager
def _observing(namespace: Namespace) -> Iterator[Guard]:
    with scratch() as folder:
        guard = Guard(namespace, folder)
        guard.config.write_text(guard.config.read_text().replace("[guard]\n", "[guard]\nobserve = true\n"))
        try:
            guard.start()
            yield guard
        finally:
            guard.stop()


# -- words -----------------------------------------------------------------------------------------------------------


class StandIn:
    """Speaks the control socket's protocol as a guard with jails does. What it bans is what it was told to ban."""

    def __init__(self, folder: Path, jails: list[dict[str, Any]] | None) -> None:
        self.jails = jails
        self.requests: list[Request] = []
        self.config = folder / "tocsin.toml"
        self.config.write_text(f'[guard]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}"\n')
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(folder / "control.sock"))
        self.listener.listen(16)
        self.selector = selectors.DefaultSelector()
        self.server = ControlServer(self.listener, self.selector, self.answer)
        self.ending = threading.Event()
        self.thread = threading.Thread(target=self.serve)
        self.thread.start()

    def serve(self) -> None:
        while not self.ending.is_set():
            for key, _ in self.selector.select(0.05):
                key.data()

    def stop(self) -> None:
        self.ending.set()
        self.thread.join()
        self.listener.close()
        self.selector.close()

    def answer(self, request: Request) -> Reply:
        self.requests.append(request)
        if request["cmd"] == "status":
            status = {"pid": 1, "version": "0"}
            return {"status": status if self.jails is None else {**status, "jails": self.jails}}
        assert self.jails is not None
        if request["cmd"] == "ban":
            subject = canonical(request["subject"])
            if subject.startswith("127."):
                return {"error": f"{subject} is safe", "kind": "refused"}
            jail = next(each for each in self.jails if each["name"] == request["rule"])
            jail["banned"].append(subject)
            jail["banned_now"] += 1
            jail["banned_total"] += 1
            return {"decision": {"held": None}, "receipt": {"ok": True}}
        wanted = None if request.get("all") else request["subject"]
        lifted = []
        for jail in self.jails:
            gone = [each for each in jail["banned"] if wanted in (None, each)]
            jail["banned"] = [each for each in jail["banned"] if each not in gone]
            jail["banned_now"] -= len(gone)
            lifted += gone
        return {"lifted": list(dict.fromkeys(lifted)), "receipts": []}

    def ask(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run `tocsin fail2ban WORDS` against it."""
        command: list[str | Path] = [TOCSIN, "fail2ban", *words, "--config", self.config]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, cwd="/")


@contextlib.contextmanager
def standing_in(jails: list[dict[str, Any]] | None) -> Iterator[StandIn]:
    """A stand-in at work."""
    with scratch() as folder:
        one = StandIn(folder, jails)
        try:
            yield one
        finally:
            one.stop()


def jails_like(fail2ban: Fail2ban) -> list[dict[str, Any]]:
    """The jails of that fail2ban, in the order in which it started them."""
    at = fail2ban.folder
    nothing: dict[str, Any] = {"failed_now": 0, "failed_total": 0, "banned_now": 0, "banned_total": 0}
    return [
        {
            "name": "web",
            **nothing,
            "banned": [],
            "filter_files": [f"{at}/web.log", f"{at}/more.log"],
            "bantime_s": 3600.0,
        },
        {"name": "api", **nothing, "banned": [], "filter_files": [f"{at}/api.log"], "bantime_s": None},
    ]


DIALOGUE: Sequence[str] = (
    "status", "status web", "status api", "banned", "ping", "get web banip", "get web banned",
    "set web banip 192.0.2.7", "set web banip 192.0.2.8 192.0.2.9", "set web banip 192.0.2.7",
    "set api banip 192.0.2.7 198.51.100.0/24",
    "status web", "status web short", "status api", "banned", "banned 192.0.2.7", "banned 192.0.2.7 192.0.2.99",
    "get web banip", "get web banned", "get web banned 192.0.2.7", "get web banned 192.0.2.7 192.0.2.99",
    "set web unbanip 192.0.2.8", "set web unbanip 192.0.2.99", "set web unbanip 192.0.2.99 192.0.2.9",
    "set web unbanip --report-absent 192.0.2.99", "status web", "banned 192.0.2.8",
    "status nonsuch", "set nonsuch banip 192.0.2.7", "set nonsuch unbanip 192.0.2.7", "get nonsuch banip",
    "set web banip 203.0.113.1 203.0.113.2", "set web unbanip 203.0.113.0/24", "banned",
    "unban 192.0.2.7", "unban 192.0.2.99", "banned", "unban --all", "status web", "banned",
)  # fmt: skip


def test_the_words_of_its_client_byte_for_byte(fail2ban: Fail2ban) -> None:
    """A dialogue with both: each answer on standard output is the same, and both end well or both do not."""
    with standing_in(jails_like(fail2ban)) as ours:
        for line in DIALOGUE:
            theirs, said = fail2ban.ask(*line.split()), ours.ask(*line.split())
            if line == "unban 192.0.2.7":  # banned by two jails there; here an address is banned once
                assert (theirs.stdout, said.stdout) == ("2\n", "1\n")
            elif line == "get web banip":  # in the order of their ends, which are the same second
                assert sorted(said.stdout.split()) == sorted(theirs.stdout.split())
            else:
                assert said.stdout == theirs.stdout, line
            assert bool(said.returncode) == bool(theirs.returncode), line
            assert bool(said.stderr) == bool(said.returncode), line
        asked = [each for each in ours.requests if each["cmd"] == "ban"]
        assert {(each["rule"], each["seconds"]) for each in asked} == {("web", 3600.0), ("api", None)}
        short = [("banip", "api", "192.0.2.50"), ("unbanip", "api", "192.0.2.50"), ("unbanip", "api", "192.0.2.50")]
        assert [ours.ask(*words).stdout for words in short] == ["1\n", "1\n", "0\n"]


def test_mistakes_and_json_of_the_words() -> None:
    jail = {"name": "web", "banned": ["192.0.2.7", "2001:db8::/64"], "filter_files": ["/a.log"], "banned_now": 2}
    with standing_in([jail]) as ours:
        assert json.loads(ours.ask("status", "--json").stdout)["jails"][0]["name"] == "web"
        assert json.loads(ours.ask("status", "web", "--json").stdout)["filter_files"] == ["/a.log"]
        assert json.loads(ours.ask("banned", "--json").stdout) == {"192.0.2.7": ["web"], "2001:db8::/64": ["web"]}
        assert ours.ask("banned", "2001:db8::55").stdout == "[['web']]\n"  # an IPv6 address is its /64
        assert json.loads(ours.ask("get", "web", "banip", "--json").stdout)["banned"] == jail["banned"]
        assert json.loads(ours.ask("unbanip", "web", "2001:db8::55", "--json").stdout) == {"lifted": ["2001:db8::/64"]}
        for words, code, said in (
            (("banip", "web", "bob"), 64, "expected an address or prefix"),
            (("set", "web", "bantime", "5"), 64, "can only be told banip and unbanip"),
            (("get", "web", "failregex"), 64, "expected banned or banip"),
            (("unban",), 64, "or --all"),
            (("banip", "web", "127.0.0.1"), 77, "is safe"),
        ):
            done = ours.ask(*words)
            assert (done.returncode, said in done.stderr) == (code, True), (words, done)
    with standing_in(None) as ours:
        done = ours.ask("status")
        assert (done.returncode, done.stdout) == (69, "")
        assert "the running guard has no jails: start it with `tocsin guard --fail2ban /etc/fail2ban`" in done.stderr


@pytest.mark.parametrize("words", ["status", "status web", "banned", "set web banip 192.0.2.7", "unban --all", "ping"])
def test_without_a_guard(words: str) -> None:
    with scratch() as folder:
        config = folder / "tocsin.toml"
        config.write_text(f'[guard]\nstate_dir = "{folder}/state"\nrun_dir = "{folder}/run"\n')
        command: list[str | Path] = [TOCSIN, "fail2ban", *words.split(), "--config", config]
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
        assert (done.returncode, done.stdout) == (69, "")
        assert "no guard is running" in done.stderr
