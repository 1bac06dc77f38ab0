"""Proof that a ban works on this machine: a scratch table, a real packet that dies and a neighbour's that does not.

All happens on the loopback interface, in a table of its own whose rules see nothing but one UDP port that the test
has opened: no traffic of others can be touched, and the table is deleted again. Loopback delivers in order and at
once, so nothing has to be waited for: when the neighbour's datagram is there and the banned one, sent before it, is
not, it was dropped.
"""

from __future__ import annotations

import contextlib
import os
import socket
from typing import TYPE_CHECKING

from tocsin.enforce import netlink
from tocsin.enforce.elements import look_up
from tocsin.enforce.nftables import Firewall, FirewallError
from tocsin.enforce.protocol import Step
from tocsin.enforce.sockets import destroy_sockets
from tocsin.enforce.subjects import Change, parse_subject

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

_SERVER4, _BANNED4, _NEIGHBOUR4 = "127.66.66.1", "127.66.66.66", "127.66.66.67"
_WAIT_S = 0.2
_BAN_S = 60


class _Failed(Exception):  # noqa: N818  the outcome of a step
    def __init__(self, detail: str, remedy: str = "") -> None:
        super().__init__(detail)
        self.remedy = remedy


def works(steps: Iterable[Step]) -> bool:
    """Whether all that a ban needs has passed."""
    return all(step.ok or not step.required for step in steps)


def selftest() -> list[Step]:
    """Run the proof, about 30 ms. Each step says what it found; the first required one that fails ends it."""
    steps: list[Step] = []
    with contextlib.ExitStack() as stack:
        try:
            receiver4 = stack.enter_context(_receiver(socket.AF_INET, _SERVER4))
            port = int(receiver4.getsockname()[1])
            firewall = stack.enter_context(_scratch(port))
        except FirewallError as error:
            return [Step("firewall", ok=False, detail=error.what, remedy=error.remedy)]
        except OSError as error:
            return [_loopback_down(error, required=True)]
        steps.append(Step("firewall", ok=True, detail=f"created the scratch table inet {firewall.table}"))
        plan: list[tuple[str, bool, Callable[[], str]]] = [
            ("ban an IPv4 address", True, lambda: _ban4(firewall, receiver4)),
            ("ban an IPv6 /64", True, lambda: _ban6(firewall, port)),
            ("end a held connection", False, _end_connection),
        ]
        for name, required, step in plan:
            try:
                steps.append(Step(name, ok=True, detail=step(), required=required))
            except _Failed as failure:
                steps.append(Step(name, ok=False, detail=str(failure), remedy=failure.remedy, required=required))
            except OSError as error:
                steps.append(_loopback_down(error, required=required))
            if not works(steps):
                break
    return steps


def _loopback_down(error: OSError, *, required: bool) -> Step:
    remedy = "the test needs the loopback interface: ip link set lo up"
    return Step("loopback", ok=False, detail=f"no packet could be sent: {error}", remedy=remedy, required=required)


@contextlib.contextmanager
def _scratch(port: int) -> Iterator[Firewall]:
    firewall = Firewall(f"tocsin_selftest_{os.getpid()}", only=f"iif lo udp dport {port}")
    try:
        firewall.ensure()
        try:
            yield firewall
        finally:
            firewall.remove()
    finally:
        firewall.close()


def _receiver(family: socket.AddressFamily, address: str, port: int = 0) -> socket.socket:
    receiver = socket.socket(family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC)
    receiver.bind((address, port))
    receiver.settimeout(_WAIT_S)
    return receiver


def _send(receiver: socket.socket, source: str, payload: bytes) -> None:
    with socket.socket(receiver.family, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as sender:
        sender.bind((source, 0))
        sender.sendto(payload, receiver.getsockname()[:2])


def _first(receiver: socket.socket) -> bytes:
    try:
        return receiver.recv(64)
    except TimeoutError:
        return b""


def _change(firewall: Firewall, subject: str, *, ban: bool) -> None:
    (error,) = firewall.apply([Change(parse_subject(subject), ban, _BAN_S if ban else None)])
    if error:
        raise _Failed(f"{'ban' if ban else 'unban'} of {subject} refused: {error}")


def _packets(firewall: Firewall, subject: str) -> int:
    """What the element has stopped, read over plain netlink."""
    source = netlink.Netlink(netlink.NETLINK_NETFILTER)
    try:
        element = look_up(source, firewall.table, parse_subject(subject))
    finally:
        source.close()
    if element is None or not 0 < element.remaining_ms <= _BAN_S * 1000:
        raise _Failed(f"{subject} is not in the set as it was put there: {element}")
    return element.packets


def _ban4(firewall: Firewall, receiver: socket.socket) -> str:
    _change(firewall, _BANNED4, ban=True)
    _send(receiver, _BANNED4, b"banned")
    _send(receiver, _NEIGHBOUR4, b"neighbour")
    return _judge(firewall, receiver, _BANNED4, _BANNED4)


def _ban6(firewall: Firewall, port: int) -> str:
    try:
        receiver = _receiver(socket.AF_INET6, "::1", port)
    except OSError as error:
        return f"left out: this machine has no IPv6 ({error})"
    with receiver:
        _change(firewall, "::/64", ban=True)
        _send(receiver, "::1", b"banned")
        # The loopback has no second /64: what is let in once the first is free again stands for the neighbour.
        if _packets(firewall, "::/64") != 1:
            raise _Failed("a packet from the banned /64 was not counted", _NO_DROP)
        _change(firewall, "::/64", ban=False)
        _send(receiver, "::1", b"neighbour")
        if _first(receiver) != b"neighbour":
            raise _Failed("a packet from a banned /64 arrived, or one from a free address did not", _NO_DROP)
        return "a packet from it was dropped and counted; once it was free, one arrived"


_NO_ARRIVAL = "is loopback up (ip link set lo up)? Does another table drop it (nft list ruleset)?"
_NO_DROP = "see `nft list ruleset` for another table that accepts or drops earlier, and the kernel's log"


def _judge(firewall: Firewall, receiver: socket.socket, subject: str, address: str) -> str:
    first = _first(receiver)
    if first == b"banned":
        raise _Failed(f"a packet from {address} arrived although it was banned", _NO_DROP)
    if first != b"neighbour":
        raise _Failed(f"a packet from {_NEIGHBOUR4}, which was not banned, did not arrive", _NO_ARRIVAL)
    if _packets(firewall, subject) != 1:
        raise _Failed(f"the packet from {address} was not counted", _NO_DROP)
    _change(firewall, subject, ban=False)
    _send(receiver, address, b"free again")
    if _first(receiver) != b"free again":
        raise _Failed(f"{address} stayed banned after its unban", _NO_ARRIVAL)
    return f"a packet from {address} was dropped and counted, its neighbour's arrived; unbanned, its own arrived"


def _end_connection() -> str:
    remedy = "bans work; workers held by a banned client are free only after the web server's own time-out"
    with socket.create_server((_SERVER4, 0)) as listener, socket.socket() as client:
        client.settimeout(_WAIT_S)
        client.bind((_BANNED4, 0))
        client.connect(listener.getsockname())
        accepted, _ = listener.accept()
        with accepted:
            accepted.settimeout(_WAIT_S)
            source = netlink.Netlink(netlink.NETLINK_SOCK_DIAG)
            try:
                count = sum(destroy_sockets(source, {parse_subject(_BANNED4)}).values())
            except netlink.NetlinkError as error:
                raise _Failed(f"this kernel cannot end connections: {error}", remedy) from error
            finally:
                source.close()
            try:
                accepted.recv(1)
            except ConnectionError:
                return f"{count} connection of {_BANNED4} ended at once"
            except TimeoutError:
                pass
            raise _Failed(f"a connection of {_BANNED4} outlived its end ({count} ended)", remedy)
