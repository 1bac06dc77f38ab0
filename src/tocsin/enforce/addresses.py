"""The machine's own addresses, asked of the kernel (RTM_GETADDR): the enforcer never bans them, whoever says so."""

from __future__ import annotations

import contextlib
import socket
import struct
from ipaddress import IPv4Network, IPv6Network
from typing import TYPE_CHECKING

from tocsin.enforce import netlink

if TYPE_CHECKING:
    from tocsin.enforce.subjects import Network

_RTM_NEWADDR, _RTM_GETADDR = 20, 22
_IFADDRMSG_BYTES = 8
_IFA_ADDRESS, _IFA_LOCAL = 1, 2


def own_addresses() -> list[Network]:
    """Each address of each interface as a network of that one address. Raises OSError where the kernel refuses."""
    source = netlink.Netlink(netlink.NETLINK_ROUTE)
    found: list[Network] = []
    try:
        # Interrupted: an address came or went in this very moment; the next reading has it.
        with contextlib.suppress(netlink.Interrupted):
            for batch in source.dump(_RTM_GETADDR, struct.pack("=B7x", socket.AF_UNSPEC), "reading own addresses"):
                for reply in batch:
                    found += _addresses(reply)
    finally:
        source.close()
    return found


def _addresses(reply: netlink.Message) -> list[Network]:
    if reply.type != _RTM_NEWADDR:
        return []
    values = {
        kind: reply.buffer[low:high]
        for kind, low, high in netlink.attributes(reply.buffer, reply.start + _IFADDRMSG_BYTES, reply.end)
        if kind in (_IFA_ADDRESS, _IFA_LOCAL)
    }
    # On a point-to-point link IFA_ADDRESS is the peer's, IFA_LOCAL ours; elsewhere they are equal or one is absent.
    key = values.get(_IFA_LOCAL, values.get(_IFA_ADDRESS, b""))
    return [IPv4Network(key)] if len(key) == 4 else [IPv6Network(key)] if len(key) == 16 else []
