"""Facts of this machine that keep it from cutting itself, or its administrator, off.

Own addresses, gateways, resolvers, and the addresses from which somebody is logged in over SSH. Every reader takes the
root of the file tree, so that a test stands in for a machine; a fact whose file is missing is simply not there, for
each file is absent on some healthy machine. Order is that of the files; addresses are canonical texts.

An address is safe through SSH only once the login has succeeded: the records read here (utmp, systemd-logind, the
variables that sshd gives to a session) are written after authentication. A mere connection to port 22 leaves no trace.
"""

from __future__ import annotations

import ipaddress
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path

from msgspec import Struct

MAX_FILE_BYTES = 16 << 20  # a router's whole table of routes; a hostile or broken file ends here
_LOCAL_ROUTE = re.compile(rb"\|-- ([\d.]+)\n((?:\s+/\d+ [^\n]*\n)+)")
_LOCAL_LENGTH = re.compile(rb"/(\d+) host LOCAL")
_UP_GATEWAY = 0x0003  # RTF_UP | RTF_GATEWAY, <linux/route.h>
# struct utmp of glibc on Linux: 384 bytes on every architecture that keeps 32-bit times in it (utmp(5))
_UTMP = struct.Struct("=h2xi32s4s32s256s2hi2i16s20x")
_USER_PROCESS = 7
_TERMINALS = ("pts/", "tty", "ssh")
_SSH_SERVICES = frozenset({"sshd", "ssh", "sshd-session", "dropbear"})
_V4_MAPPED = b"\0" * 10 + b"\xff\xff"


class Safe(Struct, frozen=True):
    """A network that must not be banned, and why, in words for people."""

    network: str
    why: str


def read_own_addresses(root: Path = Path("/")) -> tuple[str, ...]:
    """Networks whose packets this machine itself receives: each own address, and the loopback network."""
    found: list[str] = []
    for match in _LOCAL_ROUTE.finditer(_read(root, "proc/net/fib_trie")):
        for length in _LOCAL_LENGTH.findall(match[2]):
            found += _network(match[1].decode("ascii"), length.decode("ascii"))
    for line in _lines(root, "proc/net/if_inet6"):
        digits = line.split(None, 1)[0] if line.strip() else ""
        found += _hex_ipv6(digits)
    return tuple(dict.fromkeys(found))


def read_gateways(root: Path = Path("/")) -> tuple[str, ...]:
    """The routers that this machine sends through."""
    found: list[str] = []
    for line in _lines(root, "proc/net/route")[1:]:
        fields = line.split()
        if len(fields) > 3 and _is_gateway(fields[3]):
            found += _hex_ipv4(fields[2])
    for line in _lines(root, "proc/net/ipv6_route"):
        fields = line.split()
        if len(fields) > 8 and _is_gateway(fields[8]):
            found += _hex_ipv6(fields[4])
    return tuple(address for address in dict.fromkeys(found) if address not in ("0.0.0.0", "::"))  # noqa: S104  no bind


def read_resolvers(root: Path = Path("/")) -> tuple[str, ...]:
    """The name servers in use, and those behind systemd-resolved's local stub."""
    found: list[str] = []
    for name in ("etc/resolv.conf", "run/systemd/resolve/resolv.conf"):
        for line in _lines(root, name):
            fields = line.split()
            if len(fields) > 1 and fields[0] == "nameserver":
                found += _address(fields[1])
    return tuple(dict.fromkeys(found))


def read_utmp_logins(root: Path = Path("/")) -> tuple[str, ...]:
    """Addresses of the terminal sessions that utmp holds and whose process lives.

    Anonymous file transfers, which some servers enter too, are on no terminal and do not count. Where other users'
    processes are hidden (`hidepid`), a record that nobody removed cannot be told from a live one, and counts.
    """
    found: list[str] = []
    data = _read(root, "run/utmp") or _read(root, "var/run/utmp")
    can_see = (root / "proc/1").exists()
    for record in range(0, len(data) - _UTMP.size + 1, _UTMP.size):
        kind, pid, line, _, _, host, *_, address = _UTMP.unpack_from(data, record)
        if kind != _USER_PROCESS or not _c_text(line).startswith(_TERMINALS):
            continue
        if can_see and not (root / f"proc/{pid}").exists():
            continue
        found += _utmp_address(address) or _address(_c_text(host).partition(" via mosh")[0])
    return tuple(dict.fromkeys(found))


def read_logind_logins(root: Path = Path("/")) -> tuple[str, ...]:
    """Addresses of the SSH sessions that systemd-logind knows and that are not closing."""
    found: list[str] = []
    directory = root / "run/systemd/sessions"
    try:
        sessions = sorted(path for path in directory.iterdir() if not path.name.endswith(".ref"))
    except OSError:  # no systemd here
        return ()
    for path in sessions:
        values = dict(line.partition("=")[::2] for line in _text(path).splitlines())
        if values.get("SERVICE") in _SSH_SERVICES and values.get("STATE") != "closing" and values.get("REMOTE") == "1":
            found += _address(values.get("REMOTE_HOST", "").strip("\"'"))
    return tuple(dict.fromkeys(found))


def read_own_login(environ: Mapping[str, str]) -> tuple[str, ...]:
    """The address from which the caller's own session came, which sshd told it in SSH_CONNECTION or SSH_CLIENT."""
    for name in ("SSH_CONNECTION", "SSH_CLIENT"):
        fields = environ.get(name, "").split()
        if fields and (found := _address(fields[0])):
            return tuple(found)
    return ()


def safe_addresses(
    root: Path = Path("/"), environ: Mapping[str, str] | None = None, *, own: bool = True, ssh: bool = True
) -> tuple[Safe, ...]:
    """What must not be banned on this machine, each network once, with the first reason that was found.

    `own`: its addresses, gateways and resolvers. `ssh`: where somebody is logged in, `environ` being the caller's own
    environment. Read it again while running: addresses and logins come and go.
    """
    facts: list[tuple[tuple[str, ...], str]] = []
    if own:
        facts += [
            (read_own_addresses(root), "this machine's own address"),
            (read_gateways(root), "a gateway of this machine"),
            (read_resolvers(root), "a name server of this machine"),
        ]
    if ssh:
        facts += [
            (read_own_login(environ or {}), "the SSH login that started this process"),
            (read_utmp_logins(root), "an open login (utmp)"),
            (read_logind_logins(root), "an open SSH login (systemd-logind)"),
        ]
    safe: dict[str, Safe] = {}
    for networks, why in facts:
        for network in networks:
            safe.setdefault(network, Safe(network, why))
    return tuple(safe.values())


def _read(root: Path, name: str) -> bytes:
    try:
        with (root / name).open("rb") as file:
            return file.read(MAX_FILE_BYTES)
    except OSError:  # absent on some healthy machine: IPv6 off, no utmp, no systemd
        return b""


def _text(path: Path) -> str:
    return _read(path.parent, path.name).decode("ascii", "replace")


def _lines(root: Path, name: str) -> list[str]:
    return _text(root / name).splitlines()


def _address(text: str) -> Iterator[str]:
    """The canonical text of an address, its zone dropped, IPv4 unwrapped from IPv6; nothing where it is none."""
    try:
        address = ipaddress.ip_address(text.partition("%")[0])
    except ValueError:  # a name, a display, nothing: no address to keep safe
        return
    mapped = getattr(address, "ipv4_mapped", None)
    if not address.is_unspecified:
        yield str(mapped or address)


def _network(address: str, length: str) -> Iterator[str]:
    if length == "32":
        yield from _address(address)
        return
    try:
        yield str(ipaddress.ip_network(f"{address}/{length}"))
    except ValueError:  # not the kernel's text
        return


def _hex_ipv4(digits: str) -> Iterator[str]:
    """An address as /proc/net/route prints it: the memory of a big-endian word, read in the machine's own order."""
    if re.fullmatch(r"[0-9A-Fa-f]{8}", digits):
        yield from _address(str(ipaddress.IPv4Address(struct.pack("=I", int(digits, 16)))))


def _hex_ipv6(digits: str) -> Iterator[str]:
    if re.fullmatch(r"[0-9A-Fa-f]{32}", digits):
        yield from _address(str(ipaddress.IPv6Address(bytes.fromhex(digits))))


def _is_gateway(flags: str) -> bool:
    return re.fullmatch(r"[0-9A-Fa-f]{1,8}", flags) is not None and int(flags, 16) & _UP_GATEWAY == _UP_GATEWAY


def _utmp_address(raw: bytes) -> list[str]:
    """`ut_addr_v6`: an IPv4 address in its first four bytes, or an IPv6 address; zero where sshd gave none."""
    if not any(raw):
        return []
    if not any(raw[4:]):
        return list(_address(str(ipaddress.IPv4Address(raw[:4]))))
    return list(_address(str(ipaddress.IPv6Address(raw))))


def _c_text(raw: bytes) -> str:
    return raw.partition(b"\0")[0].decode("ascii", "replace")
