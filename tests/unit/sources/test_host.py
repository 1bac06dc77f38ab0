"""Facts of a machine, read from files as kernels, sshd and systemd write them."""

from __future__ import annotations

import os
import struct
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from machine_tree import plant

from tocsin.sources import host
from tocsin.sources.host import Safe, safe_addresses

FIB_TRIE = """Main:
  +-- 0.0.0.0/0 3 0 5
     |-- 0.0.0.0
        /0 universe UNICAST
     +-- 127.0.0.0/8 2 0 2
        +-- 127.0.0.0/31 1 0 0
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
        |-- 127.255.255.255
           /32 link BROADCAST
     +-- 198.51.100.0/24 2 0 2
        +-- 198.51.100.0/28 2 0 2
           |-- 198.51.100.0
              /24 link UNICAST
              /32 link BROADCAST
           |-- 198.51.100.7
              /32 host LOCAL
        |-- 198.51.100.255
           /32 link BROADCAST
Local:
  +-- 0.0.0.0/0 3 0 5
           |-- 198.51.100.7
              /32 host LOCAL
"""
IF_INET6 = """20010db8000000010000000000000007 02 40 00 80     eth0
fe80000000000000505400fffe123456 02 40 20 80     eth0
00000000000000000000000000000001 01 80 10 80       lo
"""
ROUTE = (
    "Iface\tDestination\tGateway \tFlags\tRefCnt\tUse\tMetric\tMask\t\tMTU\tWindow\tIRTT\n"
    "eth0\t00000000\t{gateway}\t0003\t0\t0\t0\t00000000\t0\t0\t0\n"
    "eth0\t006433C6\t00000000\t0001\t0\t0\t0\t00FFFFFF\t0\t0\t0\n"
)
IPV6_ROUTE = (
    "20010db8000000010000000000000000 40 00000000000000000000000000000000 00 00000000000000000000000000000000"
    " 00000100 00000001 00000000 00000001     eth0\n"
    "00000000000000000000000000000000 00 00000000000000000000000000000000 00 fe800000000000000000000000000001"
    " 00000400 00000002 00000000 00000003     eth0\n"
)
RESOLV = (
    "# made by hand\nsearch example.org\nnameserver 192.0.2.53\nnameserver fe80::53%eth0\nnameserver\nnameserver x\n"
)
LOGIND = """# This is private data. Do not parse.
UID=1000
USER=admin
ACTIVE=1
STATE={state}
REMOTE={remote}
TYPE=tty
CLASS=user
REMOTE_HOST={address}
SERVICE={service}
"""


def utmp(kind: int = 7, pid: int = 4711, line: str = "pts/0", host_name: str = "", address: bytes = b"") -> bytes:
    """One record, by the offsets of utmp(5): type 0, pid 4, line 8, id 40, user 44, host 76, addr_v6 348, size 384."""
    record = bytearray(384)
    struct.pack_into("=h", record, 0, kind)
    struct.pack_into("=i", record, 4, pid)
    for offset, text in ((8, line), (40, "ts/0"), (44, "admin"), (76, host_name)):
        record[offset : offset + len(text)] = text.encode()
    record[348 : 348 + len(address)] = address
    return bytes(record)


def test_own_addresses(tmp_path: Path) -> None:
    plant(tmp_path, {"/proc/net/fib_trie": FIB_TRIE, "/proc/net/if_inet6": IF_INET6})
    assert host.read_own_addresses(tmp_path) == (
        "127.0.0.0/8",
        "127.0.0.1",
        "198.51.100.7",
        "2001:db8:0:1::7",
        "fe80::5054:ff:fe12:3456",
        "::1",
    )


def test_gateways(tmp_path: Path) -> None:
    gateway = f"{struct.unpack('=I', bytes([198, 51, 100, 1]))[0]:08X}"
    assert sys.byteorder != "little" or gateway == "016433C6"
    plant(tmp_path, {"/proc/net/route": ROUTE.format(gateway=gateway), "/proc/net/ipv6_route": IPV6_ROUTE})
    assert host.read_gateways(tmp_path) == ("198.51.100.1", "fe80::1")


def test_resolvers_and_those_behind_the_stub(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {
            "/etc/resolv.conf": RESOLV,
            "/run/systemd/resolve/resolv.conf": "nameserver 203.0.113.53\nnameserver 192.0.2.53\n",
        },
    )
    assert host.read_resolvers(tmp_path) == ("192.0.2.53", "fe80::53", "203.0.113.53")


@pytest.mark.parametrize(
    ("record", "addresses"),
    [
        (utmp(address=bytes([203, 0, 113, 9])), ("203.0.113.9",)),
        (utmp(address=bytes.fromhex("20010db8000000000000000000000009")), ("2001:db8::9",)),
        (utmp(address=bytes.fromhex("00000000000000000000ffffcb007109")), ("203.0.113.9",)),
        (utmp(host_name="203.0.113.9"), ("203.0.113.9",)),
        (utmp(host_name="203.0.113.9", address=bytes([192, 0, 2, 1])), ("192.0.2.1",)),
        (utmp(host_name="203.0.113.9 via mosh [123]"), ("203.0.113.9",)),
        (utmp(host_name="client.example.org"), ()),
        (utmp(host_name=":0"), ()),
        (utmp(kind=6, host_name="203.0.113.9"), ()),  # LOGIN_PROCESS: nobody has logged in yet
        (utmp(kind=8, host_name="203.0.113.9"), ()),  # DEAD_PROCESS: the session has ended
        (utmp(pid=4712, host_name="203.0.113.9"), ()),  # a record left behind: no such process
        (utmp(line="ftpd4711", host_name="203.0.113.9"), ()),  # anonymous transfers are entered too
        (utmp(host_name="203.0.113.9")[:-1], ()),
        (b"\xff" * 384 * 2, ()),
    ],
)
def test_logins_in_utmp(tmp_path: Path, record: bytes, addresses: tuple[str, ...]) -> None:
    plant(tmp_path, {"/run/utmp": record, "/proc/1/comm": "init", "/proc/4711/comm": "sshd"})
    assert host.read_utmp_logins(tmp_path) == addresses


def test_a_record_counts_where_other_processes_are_hidden(tmp_path: Path) -> None:
    plant(tmp_path, {"/var/run/utmp": utmp(kind=2) + utmp(host_name="203.0.113.9")})
    assert host.read_utmp_logins(tmp_path) == ("203.0.113.9",)


@pytest.mark.parametrize(
    ("session", "addresses"),
    [
        ({}, ("203.0.113.9",)),
        ({"address": "2001:db8::9"}, ("2001:db8::9",)),
        ({"state": "online"}, ("203.0.113.9",)),
        ({"state": "closing"}, ()),
        ({"service": "vsftpd"}, ()),
        ({"service": "login", "remote": "0"}, ()),
        ({"address": "client.example.org"}, ()),
    ],
)
def test_logins_that_logind_knows(tmp_path: Path, session: dict[str, str], addresses: tuple[str, ...]) -> None:
    values = {"state": "active", "remote": "1", "address": "203.0.113.9", "service": "sshd"} | session
    plant(tmp_path, {"/run/systemd/sessions/12": LOGIND.format(**values), "/run/systemd/sessions/12.ref": ""})
    assert host.read_logind_logins(tmp_path) == addresses


@pytest.mark.parametrize(
    ("environ", "addresses"),
    [
        ({"SSH_CONNECTION": "203.0.113.9 50022 192.0.2.1 22"}, ("203.0.113.9",)),
        ({"SSH_CONNECTION": "fe80::9%eth0 50022 fe80::1%eth0 22"}, ("fe80::9",)),
        ({"SSH_CLIENT": "203.0.113.8 50022 22"}, ("203.0.113.8",)),
        ({"SSH_CONNECTION": "", "SSH_CLIENT": "nonsense"}, ()),
        ({}, ()),
    ],
)
def test_the_callers_own_login(environ: dict[str, str], addresses: tuple[str, ...]) -> None:
    assert host.read_own_login(environ) == addresses


def test_a_connection_that_has_not_logged_in_is_not_safe(tmp_path: Path) -> None:
    """An attacker holds a TCP connection to port 22 and is asked for his password: established, and worth nothing."""
    plant(
        tmp_path,
        {
            "/proc/net/tcp": "  sl  local_address rem_address   st\n   0: 076433C6:0016 097100CB:C350 01\n",
            "/proc/1/comm": "init",
            "/proc/900/comm": "sshd",
            "/proc/900/cmdline": "sshd: [accepted]",
            "/run/utmp": utmp(kind=6, pid=900, host_name="203.0.113.9"),
        },
    )
    (tmp_path / "run/systemd/sessions").mkdir(parents=True)
    assert safe_addresses(tmp_path, {}) == ()


def test_each_safe_network_comes_once_with_its_reason_and_each_kind_may_be_left_out(tmp_path: Path) -> None:
    plant(
        tmp_path,
        {"/proc/net/fib_trie": FIB_TRIE, "/etc/resolv.conf": "nameserver 127.0.0.1\nnameserver 192.0.2.53\n"},
    )
    environ = {"SSH_CONNECTION": "203.0.113.9 50022 198.51.100.7 22"}
    safe = safe_addresses(tmp_path, environ)
    assert [each.network for each in safe] == ["127.0.0.0/8", "127.0.0.1", "198.51.100.7", "192.0.2.53", "203.0.113.9"]
    assert safe[1].why == "this machine's own address"
    login = Safe("203.0.113.9", "the SSH login that started this process")
    assert safe_addresses(tmp_path, environ, own=False) == (login,)
    assert login not in safe_addresses(tmp_path, environ, ssh=False)
    assert safe_addresses(tmp_path / "nowhere") == ()


def test_this_very_machine_knows_its_loopback() -> None:
    assert "127.0.0.1" in {each.network for each in safe_addresses(environ=os.environ)}


@given(
    st.binary(max_size=900), st.sampled_from(["proc/net/fib_trie", "proc/net/route", "proc/net/ipv6_route", "run/utmp"])
)
def test_no_content_breaks_a_reader(tmp_path_factory: pytest.TempPathFactory, content: bytes, name: str) -> None:
    root = plant(tmp_path_factory.mktemp("machine"), {name: content})
    assert isinstance(safe_addresses(root), tuple)
