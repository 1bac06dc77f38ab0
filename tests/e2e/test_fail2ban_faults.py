"""What fail2ban is known to get wrong, absent here. Where its own code can run, the same test shows what it does.

Its classes run in a process of the system's Python; its server, where one is needed, in a folder and a namespace of
its own. What would take it hours is measured on less.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

sys.path.append(str(Path(__file__).parents[1] / "conformance"))  # fail2ban_peer serves the fuzzer too

import pytest
from fail2ban_peer import Peer, Silent, peer
from guarding import TOCSIN, Guard, append, request_line, scratch
from netns import Namespace, missing, wait_until

from tocsin.fail2ban.filters.regexes import Budget

FAILREGEX = '^<HOST>.*"POST /xmlrpc.php HTTP/1.0'
ZERO_TS = 1_466_421_454.0
TOO_LONG_S = 2.0  # a line that fail2ban has not got through by then is enough of a proof
DOMINO = "2016-11-07 22:21:20   smtp: {words} [192.0.2.7] authentication failur\n"


@pytest.fixture
def fail2ban() -> Iterator[Peer]:
    """fail2ban's classes at work."""
    with peer() as one:
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


def configured(folder: Path, filters: dict[str, str], jails: dict[str, str], action: str = "") -> Path:
    """A small fail2ban configuration: failregexes by filter, options by jail."""
    directory = folder / "fail2ban"
    for part in ("filter.d", "action.d"):
        (directory / part).mkdir(parents=True, exist_ok=True)
    for name, failregex in filters.items():
        (directory / "filter.d" / f"{name}.conf").write_text(f"[Definition]\nfailregex = {failregex}\n")
    sections = [f"[{name}]\nenabled = true\n{options}\n" for name, options in jails.items()]
    (directory / "jail.conf").write_text(
        f"[DEFAULT]\nignoreself = false\nusedns = no\nfindtime = 600\nbantime = 1d\n{action}\n" + "\n".join(sections)
    )
    (directory / "fail2ban.conf").write_text(
        f"[Definition]\nloglevel = INFO\nlogtarget = {folder}/fail2ban.log\nsyslogsocket = auto\n"
        f"socket = {folder}/fail2ban.sock\npidfile = {folder}/fail2ban.pid\ndbfile = {folder}/fail2ban.sqlite3\n"
        "dbpurgeage = 1d\ndbmaxmatches = 10\nallowipv6 = auto\n[Thread]\n"
    )
    return directory


def replayed(directory: Path, log: Path, *jails: str) -> list[dict[str, Any]]:
    """The rows of a replay: decisions, then the summary."""
    named = [word for jail in jails for word in ("--jail", jail)]
    command = [str(TOCSIN), "replay", "--fail2ban", str(directory), *named, "--json", str(log)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    return [json.loads(line) for line in done.stdout.splitlines()]


def guard_of(namespace: Namespace, folder: Path, directory: Path) -> Guard:
    """A guard with these jails and no rule of its own for what they look for."""
    extra = f'[rules]\ndisable = ["wordpress-xmlrpc"]\n[fail2ban]\npath = "{directory}"\n'
    return Guard(namespace, folder, extra)


# -- findtime --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("after_s", "exact"),
    [((0, 1, 2, 3, 602.9), 2), ((0, 170, 340, 510, 680), 4), ((0, 1, 2, 3, 599), 5)],
    ids=["four at once and one ten minutes later", "one every 170 s", "five in time"],
)
def test_findtime_is_a_window(fail2ban: Peer, tmp_path: Path, after_s: Sequence[float], exact: int) -> None:
    """maxretry 5, findtime 600. fail2ban bans each of them, though the last 600 s held two, four and five failures."""
    times = [ZERO_TS + each for each in after_s]
    assert sum(times[-1] - each < 600 for each in times) == exact
    assert fail2ban.ask("bans_at", times=times, maxretry=5, findtime=600) == 5
    log = tmp_path / "a.log"
    directory = configured(tmp_path, {"one": FAILREGEX}, {"one": f"filter = one\nmaxretry = 5\nlogpath = {log}"})
    append(log, [request_line("192.0.2.7", ts=ts) for ts in times])
    *bans, _ = replayed(directory, log, "one")
    assert len(bans) == (exact >= 5)


# -- rotation --------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_no_line_is_lost_when_a_log_is_rotated(fail2ban: Peer, namespace: Namespace) -> None:
    """Renamed with two unread lines: fail2ban never sees them. Truncated, and longer than before at the next look: it
    goes on in the middle. Every line bans another address, so the bans are the lines that were seen.
    """
    with scratch() as folder:
        options = f"filter = one\nmaxretry = 1\nlogpath = {folder}/access.log"
        guard = guard_of(namespace, folder, configured(folder, {"one": FAILREGEX}, {"one": options}))
        log = guard.log
        fail2ban.ask("watch", path=str(log), failregex=FAILREGEX)
        try:
            guard.start()
            kept, tail, new = "198.18.0.1", ["198.18.0.2", "198.18.0.3"], "198.18.0.4"
            guard.write(request_line(kept))
            assert fail2ban.ask("look")["banned"] == [kept]
            guard.wait_banned(kept)
            with halted(guard):
                guard.write(*map(request_line, tail))
                log.rename(folder / "access.log.1")
                guard.write(request_line(new))
                assert fail2ban.ask("look")["banned"] == [new]
            guard.wait_banned(*tail, new)

            before = [f"198.18.1.{n}" for n in range(1, 5)]
            guard.write(*map(request_line, before))
            assert fail2ban.ask("look")["banned"] == before
            guard.wait_banned(*before)
            after = [f"198.18.2.{n}" for n in range(1, 9)]
            with halted(guard):
                os.truncate(log, 0)
                guard.write(*map(request_line, after))
                assert fail2ban.ask("look")["banned"] == after[5:]
            guard.wait_banned(*after)
            assert guard.in_kernel() == {kept, *tail, new, *before, *after}
        finally:
            guard.stop()


class halted:  # noqa: N801  it is used as a word
    """The watcher stands still meanwhile, so that what happens falls between two of its looks."""

    def __init__(self, guard: Guard) -> None:
        self.pid = guard.pids()["guard"]

    def __enter__(self) -> None:
        os.kill(self.pid, signal.SIGSTOP)
        stat = Path(f"/proc/{self.pid}/stat")
        wait_until(lambda: stat.read_text().rpartition(")")[2].split()[0] == "T", "the watcher standing still")

    def __exit__(self, *_: object) -> None:
        os.kill(self.pid, signal.SIGCONT)


# -- regexes that never end ------------------------------------------------------------------------------------------


def test_a_line_of_twenty_words_ends_at_once(fail2ban: Peer, tmp_path: Path) -> None:
    """The stock domino-smtp filter: with each word a line takes fail2ban twice as long."""
    number = fail2ban.ask("filter", name="domino-smtp")

    def theirs_s(words: int) -> float:
        began_s = time.monotonic()
        line = DOMINO.format(words=" ".join(["word"] * words))
        assert fail2ban.ask("lines", number=number, lines=[line], now_ts=ZERO_TS)[0][1] == []
        return time.monotonic() - began_s

    theirs_s(2)
    assert theirs_s(20) > 5 * theirs_s(16)
    with pytest.raises(Silent):
        fail2ban.ask("lines", TOO_LONG_S, number=number, lines=[DOMINO.format(words="word " * 27)], now_ts=ZERO_TS)
    lines = [DOMINO.format(words=" ".join(["word"] * words)) for words in (20, 200)]
    log = tmp_path / "domino.log"
    good = "2016-11-07 22:21:20   smtp: postmaster [198.18.0.1] authentication failure using internet password\n"
    append(log, [*lines, *[good] * 5])
    began_s = time.monotonic()
    *bans, last = replayed(Path("/etc/fail2ban"), log, "domino-smtp")
    assert last["summary"]["lines"] == 7
    assert [ban["subject"] for ban in bans] == ["198.18.0.1"]
    assert time.monotonic() - began_s < TOO_LONG_S + 3


def test_a_regex_that_never_ends_is_set_aside_and_the_others_go_on(fail2ban: Peer, tmp_path: Path) -> None:
    """A regex that doubles with each character, beside a harmless one of the same jail and one of another jail."""
    log = tmp_path / "a.log"
    directory = configured(
        tmp_path,
        {"costly": "^ <HOST> (?:a|aa|b?a)*$\n            ^ plain <HOST>$", "other": "^ other <HOST>$"},
        {name: f"filter = {name}\nmaxretry = 3\nlogpath = {log}" for name in ("costly", "other")},
    )
    stamp = "2016-06-20 11:17:3{}"
    hostile = [f"{stamp.format(n)} 192.0.2.{n} {'a' * 50}!\n" for n in range(6)]
    harmless = [f"{stamp.format(7)} plain 198.18.0.1\n"] * 3 + [f"{stamp.format(8)} other 198.18.0.2\n"] * 3
    number = fail2ban.ask("filter", name="costly", directory=str(directory))
    assert fail2ban.ask("lines", number=number, lines=harmless[:1], now_ts=ZERO_TS)[0][1][0][0] == "198.18.0.1"
    with pytest.raises(Silent):
        fail2ban.ask("lines", TOO_LONG_S, number=number, lines=hostile[:1], now_ts=ZERO_TS)
    append(log, [*hostile, *harmless])
    began_s = time.monotonic()
    *bans, _ = replayed(directory, log)
    assert {(ban["rule"], ban["subject"]) for ban in bans} == {("costly", "198.18.0.1"), ("other", "198.18.0.2")}
    assert time.monotonic() - began_s < 6 * Budget().limit_s + 5  # and the start


# -- many bans -------------------------------------------------------------------------------------------------------


@pytest.mark.root
def test_twenty_thousand_bans_are_back_in_seconds(fail2ban: Peer, namespace: Namespace) -> None:
    """From a database as fail2ban leaves it, taken over. fail2ban itself starts with 150: a shell for each."""
    many, few = 20_000, 150
    with scratch() as folder:
        options = f"filter = one\nmaxretry = 3\nlogpath = {folder}/access.log\naction = nftables[name=one, port=80]"
        directory = configured(folder, {"one": FAILREGEX}, {"one": options})
        stock = Path("/etc/fail2ban/action.d/nftables.conf")
        assert stock.exists(), "install fail2ban: make setup does"
        (directory / "action.d" / stock.name).write_bytes(stock.read_bytes())
        database = folder / "fail2ban.sqlite3"
        addresses = set(fail2ban.ask("restorable", path=str(database), jail="one", count=many, bantime=86_400))
        assert len(addresses) == many
        guard = guard_of(namespace, folder, directory)
        taken = guard.run_cli("fail2ban", "import", "--fail2ban", str(directory), "--json")
        assert taken.returncode == 0, taken.stderr
        began_s = time.monotonic()
        try:
            guard.start()
            wait_until(lambda: len(guard.in_kernel()) == many, "all bans in the kernel", 30)
            ours_s = time.monotonic() - began_s
            assert guard.in_kernel() == {f"{address} tcp/80" for address in addresses}, "for the port of the jail"
        finally:
            guard.stop()
    with scratch() as folder, Namespace() as other:
        (folder / "access.log").touch()
        directory = configured(folder, {"one": FAILREGEX}, {"one": options.replace(str(guard.folder), str(folder))})
        (directory / "action.d" / stock.name).write_bytes(stock.read_bytes())
        fail2ban.ask("restorable", path=str(folder / "fail2ban.sqlite3"), jail="one", count=few, bantime=86_400)
        theirs_s = restored_by_fail2ban(other, folder, directory, few)
    assert theirs_s / few > 5 * ours_s / many, f"{few} in {theirs_s:.2f} s there, {many} in {ours_s:.2f} s here"


def restored_by_fail2ban(namespace: Namespace, folder: Path, directory: Path, count: int) -> float:
    """Seconds from the first of the bans in the kernel to the last, so that its start does not count."""
    command = namespace.command("/usr/bin/fail2ban-server", "-c", str(directory), "-f", "start")
    with (folder / "server.out").open("wb") as out:
        server = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=out, stderr=out)

    def there() -> int:
        listing = namespace.command("nft", "-j", "list", "set", "inet", "f2b-table", "addr-set-one")
        done = subprocess.run(listing, capture_output=True, text=True, check=False)
        sets = [item["set"] for item in json.loads(done.stdout)["nftables"] if "set" in item] if done.stdout else []
        return sum(len(each.get("elem", [])) for each in sets)

    try:
        wait_until(lambda: there() > 0, "fail2ban's first ban")
        return wait_until(lambda: there() == count, "fail2ban's last ban")
    finally:
        server.terminate()
        server.wait(30)


# -- one file, ten jails ---------------------------------------------------------------------------------------------


@pytest.mark.root
def test_a_file_of_ten_jails_is_read_once(fail2ban: Peer, namespace: Namespace) -> None:
    """Bytes read through system calls for the same two megabytes."""
    lines = [request_line(f"203.0.{n % 256}.7", f"GET /page/{n} HTTP/1.1") for n in range(20_000)]
    with scratch() as folder:
        names = [f"jail{n}" for n in range(10)]
        options = f"filter = one\nmaxretry = 3\nlogpath = {folder}/access.log"
        guard = guard_of(namespace, folder, configured(folder, {"one": FAILREGEX}, dict.fromkeys(names, options)))
        fail2ban.ask("watch", path=str(guard.log), failregex="^<HOST> no such line", jails=10)
        try:
            guard.start()
            before = read_bytes(guard.pids()["guard"])
            text = "".join(lines).encode()
            with guard.log.open("ab") as out:
                out.write(text)
            wait_until(lambda: guard.lines() >= len(lines), "all lines read")
            ours = read_bytes(guard.pids()["guard"]) - before
        finally:
            guard.stop()
        theirs = fail2ban.ask("look")["read"]
    assert len(text) <= ours < 2 * len(text)
    assert theirs >= 10 * len(text)


def read_bytes(pid: int) -> int:
    """What a process has read so far, through system calls."""
    lines = Path(f"/proc/{pid}/io").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("rchar")).split()[1])
