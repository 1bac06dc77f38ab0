"""The table `inet tocsin`: one transaction for many Ops, and an honest result for each.

The table and its interval sets are written through libnftables, the elements of hash sets over netlink (`writing`).

What the kernel holds when `Firewall.ensure` returns is what `ruleset.render_table` says.

Three facts, measured with libnftables 1.0.6 on Linux 6.18, shape the writing:
- `add element`, `create element` and `delete element` make libnftables list every interval set *of the machine*: with
  20,000 ranges of some other program in a country list, one ban took 43 ms. `add set ... { elements }` of a set that is
  already there adds just the same and lists nothing: 57 microseconds. So elements known to be missing go in that way.
- An element that exists is renewed by add, delete and add with its new timeout, in one transaction: kernels before 6.12
  ignore a new timeout. Its counter begins anew.
- A transaction that fails costs 15 to 20 ms (the kernel waits for its readers), so only crowds are tried on luck. A
  single ban needs none: the kernel echoes what it added, and is silent about what was there.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import time
from enum import Enum
from typing import TYPE_CHECKING

from tocsin.enforce import netlink, ruleset
from tocsin.enforce.elements import NFT_MSG_GETGEN, PERMANENT, Element, has_elements, look_up_all, service_sets
from tocsin.enforce.subjects import HASH_PREFIX, INTERVAL_SETS, SERVICE_KINDS, Change, Target, service_set, services_of
from tocsin.enforce.writing import Writer
from tocsin.memory import give_back
from tocsin.services import COLLECTIONS_MAX

if TYPE_CHECKING:
    from collections.abc import Sequence


# Elements in one transaction: all its messages have to fit netlink's buffer (EMSGSIZE). A host takes 40 bytes, three
# times that where it is renewed; a prefix, being two entries, 70.
CHUNK_HOSTS = 1000
CHUNK_PREFIXES = 2000

# A ban that is asked for again and differs by no more than this is in force already.
SAME_WITHIN_MS = 1000

# So many hosts at once are written unseen; after that was wrong, all are looked up first for a while.
MANY = 200
LOOK_S = 5.0

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

    def __init__(self, table: str = ruleset.TABLE, *, only: str = "", dry_run: bool = False) -> None:
        self.table = table
        self._only = only
        self._dry_run = dry_run
        self._nft = Libnftables()
        self._lookup = netlink.Netlink(netlink.NETLINK_NETFILTER)
        self._writer = Writer(table)
        self._look_until_s = float("-inf")
        self._services: set[str] | None = None  # not known before the table was looked at
        self._hash_sets = set(HASH_PREFIX)

    def close(self) -> None:
        """Release the sockets. The table and its bans stay in the kernel."""
        self._nft.close()
        self._lookup.close()
        self._writer.close()

    def ensure(self) -> None:
        """Create the table or repair it, keeping the bans that it holds. FirewallError says why it cannot be.

        Sets of another shape (of an older version) cannot be repaired; the table is replaced, and its bans with it.
        """
        self._check_permission()
        unused: list[str] = []
        if self._services is None:
            self._services, unused = self._find_services()
            self._hash_sets = {
                *HASH_PREFIX,
                *(service_set(kind, one) for one in self._services for kind in SERVICE_KINDS),
            }
        error = self._nft.run(self._render(), dry_run=self._dry_run)
        if "File exists" in error or "mismatch" in error:
            replace = f"add table inet {self.table}\ndelete table inet {self.table}\n"
            error = self._nft.run(replace + self._render(), dry_run=self._dry_run)
        if not error and unused:  # one that somebody else's rule asks stays, which harms nobody
            self._nft.run("\n".join(f"delete set inet {self.table} {name}" for name in unused), dry_run=self._dry_run)
        if error:
            raise FirewallError(f"cannot create the table inet {self.table}: {error}", "see the kernel's log (dmesg)")

    def _render(self) -> str:
        return ruleset.render_table(self.table, self._only, sorted(self._services or ()))

    def _find_services(self) -> tuple[set[str], list[str]]:
        """The services that hosts in the table are closed to, and the sets that are left over from others."""
        try:
            names = service_sets(self._lookup, self.table)
            used = {services_of(name) for name in names if has_elements(self.table, name)}
        except OSError as error:
            raise FirewallError(str(error), _KERNEL_REMEDY) from error
        return used, [name for name in names if services_of(name) not in used]

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
        give_back()

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
        if len(changes) == 1 and self._added(changes[0]):
            return [""]
        latest = {change.target: change for change in changes}
        refused = self._provide(latest)
        groups: dict[tuple[bool, str], list[Change]] = {}
        for change in latest.values():
            groups.setdefault((change.ban, change.target.set), []).append(change)
        batch = _Batch(self)
        for _, set_name in sorted(groups, key=lambda group: group[0]):
            batch.run(groups.pop((_, set_name)), CHUNK_PREFIXES if set_name in INTERVAL_SETS else CHUNK_HOSTS)
        batch.errors.update(refused)
        return [batch.errors.get(change.target, "") for change in changes]

    def _provide(self, latest: dict[Target, Change]) -> dict[Target, str]:
        """Make the sets that are missing for services; what cannot be done, or has nothing to do, is taken out."""
        refused: dict[Target, str] = {}
        missing = [one for one in latest if one.set not in self._hash_sets and one.set not in INTERVAL_SETS]
        if not missing:
            return refused
        with contextlib.suppress(FirewallError):  # each change will tell
            if self._services is None or len(self._services) >= COLLECTIONS_MAX:
                self._services = None  # look again: some may be in use no more
                self.ensure()
        known = self._services if self._services is not None else set[str]()
        before = len(known)
        for target in missing:
            services = services_of(target.set)
            if not latest[target].ban:
                del latest[target]
            elif services in known or len(known) < COLLECTIONS_MAX:
                known.add(services)
                self._hash_sets.update(service_set(kind, services) for kind in SERVICE_KINDS)
            else:
                refused[target] = f"at most {COLLECTIONS_MAX} different collections of services can be closed"
                del latest[target]
        if len(known) > before:
            with contextlib.suppress(FirewallError):  # as above
                self.ensure()
        return refused

    def _added(self, change: Change) -> bool:
        """The common case, one new ban of a host; False where it is another, or did not go in."""
        target, ban, seconds = change
        if not ban or seconds is None or self._dry_run or target.set not in self._hash_sets:
            return False
        try:
            return self._writer.add(target.set, target.key, seconds)
        except OSError:
            return False

    def transact(self, changes: Sequence[Change]) -> str:
        """Bring changes of one set, all bans or all unbans, into the kernel; the error text, empty where all went in.

        Each is looked up first; what is in force as wanted is left alone and keeps its counter. Only where many come at
        once, as after a flush, they are tried as new: looking up a thousand takes a fifth of what a failure takes.
        """
        set_name = changes[0].target.set
        many = len(changes) >= MANY and set_name not in INTERVAL_SETS and not self._dry_run
        if many and not changes[0].ban:
            return self._write_elements(set_name, [], changes)
        if many and time.monotonic() >= self._look_until_s:
            error = self._write_elements(set_name, changes, [])
            if "File exists" not in error:
                return error
            self._look_until_s = time.monotonic() + LOOK_S
        new: list[Change] = []
        renewed: list[Change] = []
        for change, state in zip(changes, self._states(set_name, changes), strict=True):
            if state is not _State.SAME:
                (new if state is _State.MISSING else renewed).append(change)
        write = self._write_texts if set_name in INTERVAL_SETS or self._dry_run else self._write_elements
        error = write(set_name, new, renewed)
        if new and "File exists" in error:
            # Added by somebody else in this very moment, or a libnftables that takes no set that is there already.
            error = write(set_name, [], [*renewed, *new])
        return error

    def _write_elements(self, set_name: str, new: Sequence[Change], renewed: Sequence[Change]) -> str:
        added = [(change.target.key, change.seconds) for change in new]
        again = [(change.target.key, change.seconds) for change in renewed if change.ban]
        return self._writer.write(set_name, added, again, [change.target.key for change in renewed if not change.ban])

    def _write_texts(self, set_name: str, new: Sequence[Change], renewed: Sequence[Change]) -> str:
        commands = [ruleset.render_renewal(self.table, set_name, renewed)] if renewed else []
        if new:
            commands.append(ruleset.render_new(self.table, set_name, new))
        return self._run(commands)

    def _run(self, commands: list[str]) -> str:
        if not commands:
            return ""
        if self._dry_run:
            commands = [self._render(), *commands]
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
