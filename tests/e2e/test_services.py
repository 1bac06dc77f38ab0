"""A ban that closes single services: its ports are shut and the others are open, whatever happens to the ruleset."""

from __future__ import annotations

import json
import re
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from enforcing import (
    ATTACKER4,
    ATTACKER6,
    NEIGHBOUR4,
    NEIGHBOUR6,
    SAME64,
    SERVER4,
    SERVER6,
    Running,
    Site,
    enforcing,
    held_connection,
)
from guarding import Guard, append, scratch
from netns import echo_server, wait_until

from tocsin.model import Op
from tocsin.services import COLLECTIONS_MAX

pytestmark = pytest.mark.root

ANSWERED, DROPPED = "answered", "no answer"
NET6 = "2001:db8:a:1::/64"


_UDP_SERVER = """
import socket
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind(("", 5353))
    print("listening", flush=True)
    while True:
        sock.sendto(*sock.recvfrom(100))
"""
_UDP_CLIENT = """
import socket, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
    sock.bind((sys.argv[1], 0))
    sock.settimeout(float(sys.argv[3]))
    sock.sendto(b"x", (sys.argv[2], 5353))
    try:
        sock.recv(100)
    except TimeoutError:
        print("no answer")
    else:
        print("answered")
"""


def ports(site: Site, source: str = ATTACKER4) -> dict[int, str]:
    """How the server answers at its three ports."""
    server = SERVER6 if ":" in source else SERVER4
    return {port: site.client.connect(source, server, port) for port in (22, 80, 8080)}


def listen(site: Site) -> None:
    for port in (22, 80, 8080):
        echo_server(site.server, port=port)


# -- the enforcer ------------------------------------------------------------------------------------------------------


def test_only_the_ports_of_a_ban_are_closed(site: Site, running: Running) -> None:
    listen(site)
    target = f"{ATTACKER4} tcp/22"
    assert running.ban(target).ok
    assert ports(site) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    assert ports(site, NEIGHBOUR4) == dict.fromkeys((22, 80, 8080), ANSWERED)
    for in_force in (running.read(), running.look([target])):
        assert set(in_force.end_ts) == {target}
        assert in_force.stopped[target][0] >= 1
    assert running.look([ATTACKER4, f"{ATTACKER4} tcp/80", f"{NEIGHBOUR4} tcp/22"]).end_ts == {}
    assert running.unban(target).ok
    assert ports(site) == dict.fromkeys((22, 80, 8080), ANSWERED)


def test_ipv6_ranges_and_other_protocols(site: Site, running: Running) -> None:
    listen(site)
    assert running.ban(f"{NET6} tcp/1-79,tcp/8000-8080,udp/53").ok
    for source in (ATTACKER6, SAME64):
        assert ports(site, source) == {22: DROPPED, 80: ANSWERED, 8080: DROPPED}
    assert ports(site, NEIGHBOUR6) == dict.fromkeys((22, 80, 8080), ANSWERED)
    udp = site.server.python(_UDP_SERVER)
    assert udp.stdout
    assert udp.stdout.readline() == "listening\n"

    def asked(wait_s: str) -> str:
        client = site.outside.python(_UDP_CLIENT, ATTACKER4, SERVER4, wait_s)
        return client.communicate(timeout=10)[0].strip()

    assert asked("5") == ANSWERED
    assert running.ban(f"{ATTACKER4} tcp/0-65535").ok
    assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED)
    assert asked("5") == ANSWERED
    assert running.ban(f"{ATTACKER4} udp/5353").ok
    assert asked("0.3") == DROPPED
    assert running.ban(f"{NEIGHBOUR4} icmp/0-65535,icmpv6/0-65535").ok
    assert ports(site, NEIGHBOUR4) == dict.fromkeys((22, 80, 8080), ANSWERED)
    rules = site.server.run("nft", "list", "chain", "inet", "tocsin", "prerouting")
    named = re.compile(r"meta l4proto (icmp|1) ip saddr @host4\.icmp/0-65535_icmpv6/0-65535 drop")
    assert named.search(rules), "by its number where /etc/protocols is missing"


def test_several_targets_of_one_address_beside_each_other(site: Site, running: Running) -> None:
    listen(site)
    first, second = f"{ATTACKER4} tcp/22", f"{ATTACKER4} tcp/80,udp/443"
    receipts = running.apply([Op("ban", first, 600), Op("ban", second, 300), Op("ban", f"{NEIGHBOUR4} tcp/22", 60)])
    assert all(receipt.ok for receipt in receipts)
    assert [receipt.subject for receipt in receipts] == [first, second, f"{NEIGHBOUR4} tcp/22"]
    assert ports(site) == {22: DROPPED, 80: DROPPED, 8080: ANSWERED}
    assert running.unban(first).ok
    assert ports(site) == {22: ANSWERED, 80: DROPPED, 8080: ANSWERED}
    assert running.ban(ATTACKER4).ok
    assert running.unban(second).ok
    assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED)
    assert running.unban(f"{ATTACKER4} tcp/9999").ok, "what is not there need not be taken out"


@pytest.mark.parametrize(
    "destruction", ["flush ruleset", "delete table inet tocsin", "flush chain inet tocsin prerouting"]
)
def test_what_others_destroy_comes_back(site: Site, running: Running, destruction: str) -> None:
    listen(site)
    desired: dict[str, float | None] = {
        f"{ATTACKER4} tcp/22": time.time() + 600,
        f"{ATTACKER4} tcp/80": None,
        f"{NET6} tcp/22": time.time() + 600,
        NEIGHBOUR4: time.time() + 600,
    }
    running.reconcile(desired)
    site.server.run("nft", destruction)
    running.changed()
    running.reconcile(desired)
    assert set(running.read().end_ts) == set(desired)
    assert ports(site) == {22: DROPPED, 80: DROPPED, 8080: ANSWERED}
    assert ports(site, ATTACKER6) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    assert running.reconcile(desired) == []
    assert running.reconcile({}) != []
    assert running.read().end_ts == {}


def test_another_enforcer_takes_up_what_is_used_and_clears_what_is_not(site: Site) -> None:
    listen(site)
    kept, ended = f"{ATTACKER4} tcp/22", f"{ATTACKER4} tcp/80"
    with enforcing(site.server) as one:
        assert one.ban(kept).ok
        assert one.ban(ended).ok
        assert one.unban(ended).ok
    assert ports(site) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    with enforcing(site.server) as other:
        assert set(other.read().end_ts) == {kept}
        assert ports(site) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
        sets = site.server.run("nft", "list", "sets", "inet")
        assert "host4.tcp/22" in sets
        assert "host4.tcp/80" not in sets
        assert other.ban(ended).ok
        assert ports(site) == {22: DROPPED, 80: DROPPED, 8080: ANSWERED}
        assert set(other.read().end_ts) == {kept, ended}


def test_only_connections_to_closed_ports_end(site: Site, running: Running) -> None:
    """The held connection is to 8080."""
    echo = echo_server(site.server)
    held_connection(site.outside, ATTACKER4, SERVER4)
    assert running.ban(f"{ATTACKER4} tcp/22,udp/8080").ok
    assert running.ban(f"{ATTACKER4} tcp/8000-8100").ok
    assert running.destroyed() == 1
    assert echo.stdout
    assert echo.stdout.readline() == "ConnectionAbortedError\n"
    sessions = running.look([f"{ATTACKER4} tcp/22,udp/8080", f"{ATTACKER4} tcp/8000-8100"])
    assert len(sessions.end_ts) == 2


def test_what_is_no_service_is_refused_and_there_are_not_more_than_so_many(running: Running) -> None:
    hostile = [
        f"{ATTACKER4} ",
        f"{ATTACKER4} tcp/22 ",
        f"{ATTACKER4}  tcp/22",
        f"{ATTACKER4} ssh",
        f"{ATTACKER4} tcp/22; flush ruleset",
        f"{ATTACKER4} tcp/22 }} drop",
        f"{ATTACKER4} tcp/65536",
        f"{ATTACKER4} ip/1",
        "10.9.0.0/24 tcp/22",
        "2001:db8:9::/48 tcp/22",
        "2001:db8:9::1 tcp/22",
        "localhost tcp/22",
        "127.0.0.1 tcp/22",
        "10.66.0.200 tcp/22",
        f"{SERVER4} tcp/22",
    ]
    for receipt in running.apply([Op("ban", one, 60) for one in hostile]):
        assert not receipt.ok, receipt
        assert receipt.error
    assert running.read().end_ts == {}
    many = [f"{ATTACKER4} tcp/{1000 + 2 * number}" for number in range(COLLECTIONS_MAX + 1)]
    *fitting, last = running.apply([Op("ban", one, 600) for one in many])
    assert all(receipt.ok for receipt in fitting)
    assert "at most 64" in last.error
    assert set(running.read().end_ts) == set(many[:-1])
    assert running.ban(f"{NEIGHBOUR4} tcp/1000").ok
    assert running.unban(many[1]).ok
    assert running.ban(many[-1]).ok, "there is room again"
    assert set(running.read().end_ts) == {f"{NEIGHBOUR4} tcp/1000", *many} - {many[1]}


# -- guard with jails --------------------------------------------------------------------------------------------------

FILTER = "[Definition]\nfailregex = ^ failure of \\S+ from <HOST>$\n"
MULTIPORT = """[Definition]
actionban = iptables -I f2b-<name> 1 -p <protocol> -m multiport --dports <port> -s <ip> -j REJECT
actionunban = iptables -D f2b-<name> -p <protocol> -m multiport --dports <port> -s <ip> -j REJECT
[Init]
name = default
port = ssh
protocol = tcp
"""


class Jailed(Guard):
    """A guard with a jail for the port of SSH and another for the web's."""

    def __init__(self, site: Site, folder: Path) -> None:
        super().__init__(site.server, folder, f'[fail2ban]\npath = "{folder}/f2b"\nactions = false\n')
        f2b = folder / "f2b"
        for part in ("filter.d", "action.d"):
            (f2b / part).mkdir(parents=True)
        (f2b / "fail2ban.conf").write_text("[Definition]\n")
        (f2b / "filter.d" / "any.conf").write_text(FILTER)
        (f2b / "action.d" / "multi.conf").write_text(MULTIPORT)
        jail = "[{name}]\nenabled = true\nfilter = any\nlogpath = {folder}/{name}.log\nmaxretry = 3\nport = {port}\n"
        jail += 'action = multi[name={name}, port="%(port)s"]\n'
        pairs = (("ssh", "ssh"), ("web", "http,8000:8100"))
        (f2b / "jail.local").write_text("".join(jail.format(name=n, folder=folder, port=p) for n, p in pairs))
        for name, _ in pairs:
            (folder / f"{name}.log").touch()

    def fail(self, name: str, client: str) -> None:
        """Three failures in a jail's log."""
        line = f"{time.strftime('%Y-%m-%d %H:%M:%S')} failure of bob from {client}\n"
        append(self.folder / f"{name}.log", [line] * 3)


@pytest.fixture
def guard(site: Site) -> Iterator[Jailed]:
    listen(site)
    with scratch() as folder:
        one = Jailed(site, folder)
        try:
            one.start()
            yield one
        finally:
            one.stop()


def test_jails_close_their_own_ports(site: Site, guard: Jailed) -> None:
    ssh, web = f"{ATTACKER4} tcp/22", f"{ATTACKER4} tcp/80,tcp/8000-8100"
    guard.fail("ssh", ATTACKER4)
    guard.wait_banned(ssh)
    assert ports(site) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    guard.fail("web", ATTACKER4)
    guard.wait_banned(ssh, web)
    assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED)
    assert ports(site, NEIGHBOUR4) == dict.fromkeys((22, 80, 8080), ANSWERED)

    wait_until(lambda: guard.tell("bans").count(ATTACKER4) == 2, "both in the ledger")
    assert "closes" in guard.tell("bans")
    shown = {row["ban"]["services"]: row["ban"] for row in map(json.loads, guard.tell("bans", "--json").splitlines())}
    assert set(shown) == {"tcp/22", "tcp/80,tcp/8000-8100"}
    assert {ban["subject"] for ban in shown.values()} == {ATTACKER4}
    story = json.loads(guard.tell("why", ATTACKER4, "--json"))
    assert {(ban["rule"], ban["services"]) for ban in story["bans"]} == {("ssh", "tcp/22"), ("web", web.split()[1])}
    assert all(ban["packets"] for ban in story["bans"])
    assert {past["decision"]["services"] for past in story["past"]} == set(shown)
    assert all(past["answers"] and past["answers"][0]["ok"] for past in story["past"])
    assert "is banned from tcp/22 until" in guard.tell("why", ATTACKER4)

    assert guard.tell("fail2ban", "set", "ssh", "unbanip", ATTACKER4) == "1\n"
    assert ports(site) == {22: ANSWERED, 80: DROPPED, 8080: DROPPED}
    assert guard.tell("fail2ban", "set", "ssh", "banip", ATTACKER4, NEIGHBOUR4) == "2\n"
    assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED)
    assert ports(site, NEIGHBOUR4) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    guard.tell("unban", ATTACKER4)
    assert ports(site) == dict.fromkeys((22, 80, 8080), ANSWERED)
    assert guard.in_kernel() == {f"{NEIGHBOUR4} tcp/22"}
    guard.tell("ban", "10.66.0.64/28")
    assert ports(site, NEIGHBOUR4) == dict.fromkeys((22, 80, 8080), DROPPED)
    guard.tell("unban", "--all")
    assert guard.in_kernel() == set()


@pytest.mark.parametrize("trouble", ["flush", "kill", "restart", "no ledger"])
def test_bans_of_jails_survive(site: Site, guard: Jailed, trouble: str) -> None:
    targets = {f"{ATTACKER4} tcp/22", f"{ATTACKER4} tcp/80,tcp/8000-8100", f"{NET6} tcp/22"}
    for name, client in (("ssh", ATTACKER4), ("web", ATTACKER4), ("ssh", ATTACKER6)):
        guard.fail(name, client)
    guard.wait_banned(*targets)
    wait_until(lambda: guard.tell("bans", "--json").count('"services"') == 3, "all in the ledger")
    if trouble == "flush":
        site.server.run("nft", "flush", "ruleset")
    elif trouble == "kill":
        guard.kill("enforce")
        site.server.run("nft", "flush", "ruleset")
        wait_until(lambda: "starting watcher and enforcer again" in guard.said_text(), "the supervisor noticed")
        guard.wait_ready()
    else:
        guard.stop()
        assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED), "bans outlive us in the kernel"
        if trouble == "restart":
            site.server.run("nft", "flush", "ruleset")
        else:
            for file in guard.state.glob("ledger.db*"):
                file.unlink()
        guard.start()
    guard.wait_banned(*targets)
    assert guard.in_kernel() == targets
    assert ports(site, ATTACKER6) == {22: DROPPED, 80: ANSWERED, 8080: ANSWERED}
    assert ports(site) == dict.fromkeys((22, 80, 8080), DROPPED)
    if trouble == "no ledger":
        return
    wait_until(lambda: guard.tell("fail2ban", "status", "ssh").count(ATTACKER4) == 1, "the jail has its own again")
    with closing(sqlite3.connect(guard.state / "ledger.db")) as ledger:
        rows = ledger.execute("SELECT subject, times FROM ban ORDER BY subject").fetchall()
    assert rows == [(target, 1) for target in sorted(targets)]
