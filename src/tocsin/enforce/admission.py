"""The enforcer's own judgement of each Op: a hole in the watcher must not become a hole in the machine."""

from __future__ import annotations

import time
from ipaddress import ip_network
from typing import TYPE_CHECKING

from msgspec import Struct

from tocsin.enforce.addresses import own_addresses
from tocsin.enforce.subjects import (
    IPV4_PREFIX_MIN,
    IPV6_PREFIX_MIN,
    NEVER,
    Change,
    Spared,
    parse_subject,
    render_target,
)
from tocsin.model import MAX_BAN_S

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tocsin.enforce.subjects import Network, Target
    from tocsin.model import Op


class Limits(Struct, frozen=True):
    """What the enforcer refuses to go beyond. `own_refresh_s`: own addresses are asked again when older than that."""

    max_ban_s: int = MAX_BAN_S
    ipv4_prefix_min: int = IPV4_PREFIX_MIN
    ipv6_prefix_min: int = IPV6_PREFIX_MIN
    own_refresh_s: float = 10.0
    changed_interval_s: float = 0.2


LISTED = "holds an address of the allowlist"


class Refused(Exception):  # noqa: N818  an answer, not an accident
    """An Op that is not carried out; the text goes into its Receipt."""


class Admission:
    """Turns an Op into a Change, or refuses it.

    `allow` are the networks never to be banned; `own` tells the machine's own addresses, asked again from time to
    time, because they change.
    """

    def __init__(
        self, allow: Iterable[Network], limits: Limits, own: Callable[[], list[Network]] = own_addresses
    ) -> None:
        self._limits = limits
        self._read_own = own
        self._allow = tuple(allow)
        self._own: frozenset[Network] = frozenset()
        self._spared = Spared((*NEVER, *self._allow))
        self._own_read_s = float("-inf")

    def refresh(self) -> None:
        """Ask for the machine's own addresses again where they are older than `own_refresh_s`."""
        now_s = time.monotonic()
        if now_s - self._own_read_s < self._limits.own_refresh_s:
            return
        self._own_read_s = now_s
        networks = frozenset(self._read_own())
        if networks != self._own:
            self._own = networks
            self._spared = Spared((*NEVER, *self._allow, *networks))

    def admit(self, op: Op) -> Change:
        """The Change that an Op asks for. Raises Refused with what is wrong with it.

        Taking out is admitted for every canonical subject: what must not be banned must be possible to unban.
        """
        try:
            target = parse_subject(op.subject)
        except ValueError as error:
            raise Refused(str(error)) from error
        if op.verb == "unban":
            return Change(target, ban=False)
        self._check_target(target)
        if op.seconds is not None and not 1 <= op.seconds <= self._limits.max_ban_s:
            raise Refused(f"expected 1 to {self._limits.max_ban_s} seconds, or none for good, got {op.seconds}")
        return Change(target, ban=True, seconds=op.seconds)

    def _check_target(self, target: Target) -> None:
        widest = self._limits.ipv4_prefix_min if len(target.key) == 4 else self._limits.ipv6_prefix_min
        if target.prefix < widest:
            raise Refused(f"{render_target(target)} is wider than the widest prefix allowed, /{widest}")
        if self._spared.overlaps(target):
            raise Refused(f"{render_target(target)} {self._why(target)}")

    def _why(self, target: Target) -> str:
        if Spared(self._own).overlaps(target):
            return "holds an address of this machine"
        if Spared(self._allow).overlaps(target):
            return LISTED
        return "holds loopback, link-local, multicast or other addresses that no attacker can have"


def parse_allow(texts: Iterable[str]) -> list[Network]:
    """Networks from texts such as `192.0.2.0/24` or `2001:db8::1`; ValueError names the one that is none."""
    networks: list[Network] = []
    for text in texts:
        try:
            networks.append(ip_network(text, strict=False))
        except ValueError as error:
            raise ValueError(f"expected an address or a prefix in the allowlist, got {text!r:.80}") from error
    return networks
