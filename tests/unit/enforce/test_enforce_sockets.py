"""The kernel's socket filter, run here as the kernel runs it, and the comparison that stands in for it."""

from __future__ import annotations

import ipaddress
import random
import socket
import struct

from tocsin.enforce.sockets import MAX_CONDITIONS, _bytecode, _Which
from tocsin.enforce.subjects import Target, parse_subject

SUBJECTS = [
    "192.0.2.7",
    "198.51.100.0/24",
    "10.20.0.0/16",
    "2001:db8:1:2::/64",
    "2001:db8:7::7",
    "2001:db8:8::/47",
    "2001:db8:9::4/127",
]
REMOTES = [
    "192.0.2.7",
    "192.0.2.8",
    "::ffff:192.0.2.7",
    "::ffff:192.0.2.8",
    "198.51.100.255",
    "198.51.101.0",
    "::ffff:10.20.255.1",
    "10.21.0.0",
    "2001:db8:1:2:ffff::1",
    "2001:db8:1:3::1",
    "2001:db8:7::7",
    "2001:db8:7::8",
    "2001:db8:9:ffff::",
    "2001:db8:a::",
    "2001:db8:9::5",
    "::1",
]


def packed(remote: str) -> bytes:
    """An address in network byte order."""
    return ipaddress.ip_address(remote).packed


def lies_in(remote: str, subject: str) -> bool:
    """What `ipaddress` says, mapped addresses counting as IPv4."""
    address = ipaddress.ip_address(remote)
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped:
        address = address.ipv4_mapped
    return address in ipaddress.ip_network(subject)


def kernel_accepts(code: bytes, remote: bytes) -> bool:
    """Linux' inet_diag_bc_run over conditions on the remote address and jumps, with the checks of its audit."""
    left = len(code)
    while left > 0:
        op, yes, no = struct.unpack_from("=BBH", code, len(code) - left)
        assert 4 <= yes <= left + 4
        assert yes % 4 == no % 4 == 0
        assert 4 <= no <= left + 4
        if op == 1:  # INET_DIAG_BC_JMP always takes `no`
            left -= no
            continue
        assert op == 8
        family, prefix, _, port = struct.unpack_from("=BBHi", code, len(code) - left + 4)
        size = 4 if family == socket.AF_INET else 16
        assert port == -1
        key = code[len(code) - left + 12 : len(code) - left + 12 + size]
        assert yes == 12 + size
        if size == 4 and len(remote) == 16 and remote[:12] == bytes(10) + b"\xff\xff":
            matched = same_bits(remote[12:], key, prefix)
        else:
            matched = len(remote) == size and same_bits(remote, key, prefix)
        left -= yes if matched else no
    return left == 0


def same_bits(left: bytes, right: bytes, prefix: int) -> bool:
    """Whether two addresses share their first bits."""
    shift = len(left) * 8 - prefix
    return int.from_bytes(left, "big") >> shift == int.from_bytes(right, "big") >> shift


def test_the_filter_takes_just_the_sockets_of_the_targets() -> None:
    """Alone and together, in any order, up to as many as the kernel is ever told."""
    dice = random.Random(2)
    for count in (1, 2, 3, len(SUBJECTS)):
        for _ in range(20):
            subjects = dice.sample(SUBJECTS, count)
            code = _bytecode([parse_subject(one) for one in subjects])
            for remote in REMOTES:
                expected = any(lies_in(remote, one) for one in subjects)
                assert kernel_accepts(code, packed(remote)) == expected, (subjects, remote)
    many = [f"2001:db8:{n:x}::/64" for n in range(1, MAX_CONDITIONS)] + ["192.0.2.7"]
    code = _bytecode([parse_subject(one) for one in many])
    assert kernel_accepts(code, packed("2001:db8:3f::1"))
    assert kernel_accepts(code, packed("192.0.2.7"))
    assert not kernel_accepts(code, packed("2001:db8:40::1"))


def test_the_comparison_finds_the_target_of_a_remote_address() -> None:
    """The same answer as the filter's, and which target it was."""
    targets: dict[Target, str] = {parse_subject(one): one for one in SUBJECTS}
    which = _Which(targets.keys())
    for remote in REMOTES:
        expected = [one for one in SUBJECTS if lies_in(remote, one)]
        found = which.target_of(packed(remote))
        assert targets[found] in expected if found else not expected, remote
