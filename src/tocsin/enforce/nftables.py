"""The table `inet tocsin`, written through libnftables: one transaction for many Ops, and an honest result for each.

What the kernel holds when `Firewall.ensure` returns is what `render_table` says. Texts given to libnftables are
rendered from parsed keys and integers alone; nothing that came from elsewhere is passed through.

Three facts, measured with libnftables 1.0.6 on Linux 6.18, shape the writing:
- `add element`, `create element` and `delete element` make libnftables list every interval set *of the machine*: with
  20,000 ranges of some other program in a country list, one ban took 43 ms. `add set ... { elements }` of a set that is
  already there adds just the same and lists nothing: 57 microseconds. So elements known to be missing go in that way.
- An element that exists is renewed by add, delete and add with its new timeout, in one transaction: kernels before 6.12
  ignore a new timeout. Its counter begins anew.
- A transaction that fails costs 15 to 20 ms (the kernel waits for its readers), so nothing is tried on luck.
"""

from __future__ import annotations

import ctypes
import errno
from enum import Enum
from typing import TYPE_CHECKING, NamedTuple

from tocsin.enforce import netlink
from tocsin.enforce.elements import NFT_MSG_GETGEN, PERMANENT, Element, look_up_all
from tocsin.enforce.subjects import INTERVAL_SETS, Target, render_target

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

TABLE = "tocsin"

# Elements that a set takes; the next ban is refused with "Too many open files in system" (ENFILE). The kernel sets
# aside a bucket array for 4/3 of that: 8 MB for 524,288; smaller arrays make a dump of 100,000 slower, not faster.
SET_SIZE = {"host4": 524288, "host6": 262144, "addr6": 65536, "net4": 65536, "net6": 65536}

# Longest ban; longer is for good. libnftables takes at most 99,999,999 in one unit, hence days in `_timeout`.
MAX_BAN_S = 36500 * 86400

# Elements in one transaction. libnftables' memory grows with them (5 MB at 5,000 hosts); a message with more than
# about 3,000 prefixes, each of them two entries, does not fit netlink's buffer (EMSGSIZE).
CHUNK_HOSTS = 5000
CHUNK_PREFIXES = 2000

# A ban that is asked for again and differs by no more than this is in force already.
SAME_WITHIN_MS = 1000

# Failed transactions in one `apply` after which the rest is given up: 20 ms each.
MAX_FAILURES = 100

CAPABILITY_REMEDY = (
    "run as root or give the process CAP_NET_ADMIN (systemd: AmbientCapabilities=CAP_NET_ADMIN); "
    "without it only --observe works"
)
_KERNEL_REMEDY = "nf_tables has to be in the kernel: modprobe nf_tables"


class FirewallError(Exception):
    """libnftables is missing or refused what has to work; `remedy` says what to do, and the text says both."""

    def __init__(self, what: str, remedy: str) -> None:
        super().__init__(f"{what}: {remedy}")
        self.what = what
        self.remedy = remedy


class _State(Enum):
    MISSING = "to be added"
    OTHER = "to be renewed or taken out"
    SAME = "as wanted"


class Change(NamedTuple):
    """One element to put in for `seconds` (None: for good), or, with `ban` False, to take out."""

    target: Target
    ban: bool
    seconds: int | None = None


def _set_definition(name: str) -> str:
    kind = "ipv4_addr" if name.endswith("4") else "ipv6_addr"
    flags = "interval,timeout" if name in INTERVAL_SETS else "timeout"
    return f"type {kind}; size {SET_SIZE[name]}; flags {flags}; counter;"


# How each set is asked, in the order of the rules.
MATCHES = {
    "host4": "ip saddr @host4",
    "net4": "ip saddr @net4",
    "host6": "ip6 saddr and ffff:ffff:ffff:ffff:: @host6",
    "addr6": "ip6 saddr @addr6",
    "net6": "ip6 saddr @net6",
}


def render_table(table: str = TABLE, only: str = "") -> str:
    """The whole table as one transaction that creates it, or repairs it and keeps the elements that it holds.

    Loopback is never dropped. With `only`, a match in nft's words, nothing but what it matches is (for the self-test).

    Priority -300 (raw) is before connection tracking and before any address translation: established connections are
    cut too, forwarded ports and containers are covered, and a flood of a banned address fills no tracking table.
    """
    lines = [f"add table inet {table}"]
    lines += [f"add set inet {table} {name} {{ {_set_definition(name)} }}" for name in SET_SIZE]
    chain = f"inet {table} prerouting"
    lines += [
        # A chain of another type or policy cannot be changed, but replaced within the transaction.
        f"add chain {chain}",
        f"flush chain {chain}",
        f"delete chain {chain}",
        f"add chain {chain} {{ type filter hook prerouting priority -300; policy accept; }}",
        *(() if only else (f"add rule {chain} iif lo accept",)),
        *(f"add rule {chain} {f'{only} {match}'.lstrip()} drop" for match in MATCHES.values()),
    ]
    return "\n".join(lines)


def _timeout(seconds: int | None) -> str:
    if seconds is None:
        return ""
    return f" timeout {seconds}s" if seconds < 10**8 else f" timeout {seconds // 86400}d{seconds % 86400}s"


def _key(target: Target) -> str:
    text = render_target(target)
    return text if target.set in INTERVAL_SETS else text.partition("/")[0]


def render_new(table: str, set_name: str, changes: Iterable[Change]) -> str:
    """The command that adds elements which are not in the set."""
    elements = ",".join(_key(change.target) + _timeout(change.seconds) for change in changes)
    return f"add set inet {table} {set_name} {{ {_set_definition(set_name)} elements = {{ {elements} }} }}"


def render_renewal(table: str, set_name: str, changes: Sequence[Change]) -> str:
    """The commands that take elements out, whether they are in or not, and put those to be banned in again."""
    where = f"element inet {table} {set_name}"
    keys = ",".join(_key(change.target) for change in changes)
    lines = [f"add {where} {{ {keys} }}", f"delete {where} {{ {keys} }}"]
    if bans := [change for change in changes if change.ban]:
        lines.append(f"add {where} {{ {','.join(_key(ban.target) + _timeout(ban.seconds) for ban in bans)} }}")
    return "\n".join(lines)


class Libnftables:
    """The few functions of libnftables that are needed, through ctypes. Raises FirewallError where it is missing."""

    def __init__(self) -> None:
        try:
            self._library = ctypes.CDLL("libnftables.so.1")
        except OSError as error:
            raise FirewallError(str(error), "install the package libnftables1 (Debian) or nftables") from error
        library = self._library
        library.nft_ctx_new.restype = ctypes.c_void_p
        for name in ("nft_ctx_buffer_output", "nft_ctx_buffer_error", "nft_ctx_free", "nft_ctx_get_error_buffer"):
            getattr(library, name).argtypes = [ctypes.c_void_p]
        library.nft_ctx_get_error_buffer.restype = ctypes.c_char_p
        library.nft_run_cmd_from_buffer.argtypes = [ctypes.c_void_p, ctypes.c_char_p]
        library.nft_ctx_set_dry_run.argtypes = [ctypes.c_void_p, ctypes.c_bool]
        context = library.nft_ctx_new(0)
        if not context:
            raise FirewallError("libnftables could not be set up", _KERNEL_REMEDY)
        self._context: int | None = context
        library.nft_ctx_buffer_output(context)
        library.nft_ctx_buffer_error(context)

    def run(self, commands: str, *, dry_run: bool = False) -> str:
        """Run commands as one transaction; the error text, empty where it went in."""
        self._library.nft_ctx_set_dry_run(self._context, dry_run)
        if self._library.nft_run_cmd_from_buffer(self._context, commands.encode("ascii")) == 0:
            return ""
        text: bytes = self._library.nft_ctx_get_error_buffer(self._context) or b"libnftables: unknown error"
        first = text.decode("utf-8", "replace").split("\n", 1)[0]
        return first.removeprefix("netlink: ").removeprefix("Error: ")[:200]

    def close(self) -> None:
        """Release the context and its netlink socket."""
        if self._context is not None:
            self._library.nft_ctx_free(self._context)
            self._context = None


class Firewall:
    """One table in the kernel. Every method raises FirewallError only where nothing can be done at all.

    With `dry_run` libnftables reads and judges all that it would be told, and the kernel is left as it is.
    """

    def __init__(self, table: str = TABLE, *, only: str = "", dry_run: bool = False) -> None:
        self.table = table
        self._only = only
        self._dry_run = dry_run
        self._nft = Libnftables()
        self._lookup = netlink.Netlink(netlink.NETLINK_NETFILTER)

    def close(self) -> None:
        """Release the sockets. The table and its bans stay in the kernel."""
        self._nft.close()
        self._lookup.close()

    def ensure(self) -> None:
        """Create the table or repair it, keeping the bans that it holds. FirewallError says why it cannot be.

        Sets of another shape (of an older version) cannot be repaired; the table is replaced, and its bans with it.
        """
        self._check_permission()
        error = self._nft.run(render_table(self.table, self._only), dry_run=self._dry_run)
        if "File exists" in error or "mismatch" in error:
            replace = f"add table inet {self.table}\ndelete table inet {self.table}\n"
            error = self._nft.run(replace + render_table(self.table, self._only), dry_run=self._dry_run)
        if error:
            raise FirewallError(f"cannot create the table inet {self.table}: {error}", "see the kernel's log (dmesg)")

    def _check_permission(self) -> None:
        """Asked over netlink first: libnftables would write about it to standard error by itself."""
        try:
            self._lookup.request(NFT_MSG_GETGEN, 0, netlink.NFGENMSG.pack(0, 0, 0), "asking nf_tables")
        except netlink.NetlinkError as error:
            denied = error.errno in (errno.EPERM, errno.EACCES)
            raise FirewallError(str(error), CAPABILITY_REMEDY if denied else _KERNEL_REMEDY) from error

    def forget(self) -> None:
        """Give back what libnftables has cached: a renewal makes it list every interval set of the machine."""
        self._nft.run(f"add table inet {self.table}", dry_run=True)
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:  # musl has none, and keeps less
            trim(0)

    def remove(self) -> None:
        """Delete the table and every ban in it."""
        if error := self._nft.run(f"add table inet {self.table}\ndelete table inet {self.table}"):
            raise FirewallError(f"cannot delete the table inet {self.table}: {error}", "see the kernel's log (dmesg)")

    def apply(self, changes: Sequence[Change]) -> list[str]:
        """Apply changes; for each the empty text, or why it is not in the kernel.

        A later change of the same target replaces an earlier one. Unbans go first: a prefix that gives way must be out
        before the one that overlaps it comes in. One refused change never keeps out another: a transaction that fails
        is halved until the culprits are found, within MAX_FAILURES.
        """
        latest = {change.target: change for change in changes}
        groups: dict[tuple[bool, str], list[Change]] = {}
        for change in latest.values():
            groups.setdefault((change.ban, change.target.set), []).append(change)
        batch = _Batch(self)
        for _, set_name in sorted(groups, key=lambda group: group[0]):
            batch.run(groups.pop((_, set_name)), CHUNK_PREFIXES if set_name in INTERVAL_SETS else CHUNK_HOSTS)
        return [batch.errors.get(change.target, "") for change in changes]

    def transact(self, changes: Sequence[Change]) -> str:
        """Bring changes of one set, all bans or all unbans, into the kernel; the error text, empty where all went in.

        Each is looked up first; what is in force as wanted is left alone and keeps its counter.
        """
        set_name = changes[0].target.set
        new: list[Change] = []
        renewed: list[Change] = []
        for change, state in zip(changes, self._states(set_name, changes), strict=True):
            if state is not _State.SAME:
                (new if state is _State.MISSING else renewed).append(change)
        commands = [render_renewal(self.table, set_name, renewed)] if renewed else []
        if new:
            commands.append(render_new(self.table, set_name, new))
        error = self._run(commands)
        if new and "File exists" in error:
            # Added by somebody else in this very moment, or a libnftables that takes no set that is there already.
            error = self._run([render_renewal(self.table, set_name, [*renewed, *new])])
        return error

    def _run(self, commands: list[str]) -> str:
        if not commands:
            return ""
        if self._dry_run:
            commands = [render_table(self.table, self._only), *commands]
        return self._nft.run("\n".join(commands), dry_run=self._dry_run)

    def _states(self, set_name: str, changes: Sequence[Change]) -> list[_State]:
        """How far the kernel is from what is wanted, for each change."""
        try:
            there = look_up_all(self._lookup, self.table, set_name, [change.target for change in changes])
        except OSError:
            return [_State.OTHER] * len(changes)
        return [_compare(change, element) for change, element in zip(changes, there, strict=True)]


def _compare(change: Change, element: Element | None) -> _State:
    if element is None:
        return _State.MISSING if change.ban else _State.SAME
    if not change.ban or change.target.set in INTERVAL_SETS:
        return _State.OTHER
    if change.seconds is None or element.remaining_ms == PERMANENT:
        same = change.seconds is None and element.remaining_ms == PERMANENT
    else:
        same = abs(element.remaining_ms - change.seconds * 1000) <= SAME_WITHIN_MS
    return _State.SAME if same else _State.OTHER


class _Batch:
    """One `apply` under way: what failed so far, and whether to go on."""

    def __init__(self, firewall: Firewall) -> None:
        self.errors: dict[Target, str] = {}
        self._firewall = firewall
        self._failures = 0
        self._repaired = False
        self._given_up = ""

    def run(self, changes: Sequence[Change], chunk: int) -> None:
        """Apply changes of one set, at most `chunk` in one transaction."""
        pending = [changes[start : start + chunk] for start in range(0, len(changes), chunk)][::-1]
        while pending:
            part = pending.pop()
            error = self._given_up or self._attempt(part)
            if not error:
                continue
            self._note(error)
            if self._given_up or len(part) == 1:
                self.errors.update((change.target, self._given_up or error) for change in part)
            else:
                middle = len(part) // 2
                pending += [part[middle:], part[:middle]]

    def _attempt(self, part: Sequence[Change]) -> str:
        error = self._firewall.transact(part)
        if not error or self._repaired or not ("No such file" in error or "does not exist" in error):
            return error
        self._repaired = True
        try:
            self._firewall.ensure()
        except FirewallError as failure:
            self._given_up = str(failure)
            return self._given_up
        return self._firewall.transact(part)

    def _note(self, error: str) -> None:
        self._failures += 1
        if self._given_up:
            return
        if is_denied(error):
            self._given_up = f"{error}: {CAPABILITY_REMEDY}"
        elif self._failures >= MAX_FAILURES:
            self._given_up = f"given up after {MAX_FAILURES} failed transactions, the last of them: {error}"


def is_denied(error: str) -> bool:
    """Whether an error text of libnftables speaks of a missing capability."""
    return "Operation not permitted" in error or "Permission denied" in error
