"""What a process may still do: users, capabilities, locked memory, its place before the out-of-memory killer.

Only prctl(2), capset(2) and mlockall(2) through ctypes. Nothing here fails in silence: each function does what it says,
and what it had to leave undone is in what it returns, or it raises PrivilegeError with what to do.

Order in a process: `lock_memory`, `set_oom_score_adj`, `own_directory`, `drop_to` (after which the others are no longer
possible), `die_with_parent`. All before the first thread is started: capabilities belong to threads.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import pwd
import resource
import signal
from collections.abc import Iterator
from pathlib import Path

from msgspec import Struct

# Bits of <linux/capability.h>, in order from 0.
CAPABILITIES = (
    *("CAP_CHOWN", "CAP_DAC_OVERRIDE", "CAP_DAC_READ_SEARCH", "CAP_FOWNER", "CAP_FSETID", "CAP_KILL", "CAP_SETGID"),
    *("CAP_SETUID", "CAP_SETPCAP", "CAP_LINUX_IMMUTABLE", "CAP_NET_BIND_SERVICE", "CAP_NET_BROADCAST", "CAP_NET_ADMIN"),
    *("CAP_NET_RAW", "CAP_IPC_LOCK", "CAP_IPC_OWNER", "CAP_SYS_MODULE", "CAP_SYS_RAWIO", "CAP_SYS_CHROOT"),
    *("CAP_SYS_PTRACE", "CAP_SYS_PACCT", "CAP_SYS_ADMIN", "CAP_SYS_BOOT", "CAP_SYS_NICE", "CAP_SYS_RESOURCE"),
    *("CAP_SYS_TIME", "CAP_SYS_TTY_CONFIG", "CAP_MKNOD", "CAP_LEASE", "CAP_AUDIT_WRITE", "CAP_AUDIT_CONTROL"),
    *("CAP_SETFCAP", "CAP_MAC_OVERRIDE", "CAP_MAC_ADMIN", "CAP_SYSLOG", "CAP_WAKE_ALARM", "CAP_BLOCK_SUSPEND"),
    *("CAP_AUDIT_READ", "CAP_PERFMON", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"),
)
WATCHER_KEEPS = frozenset({"CAP_DAC_READ_SEARCH"})
ENFORCER_KEEPS = frozenset({"CAP_NET_ADMIN"})
FALLBACK_USER = "nobody"

_PR_SET_PDEATHSIG, _PR_GET_PDEATHSIG, _PR_SET_KEEPCAPS = 1, 2, 8
_PR_CAPBSET_READ, _PR_CAPBSET_DROP = 23, 24
_PR_SET_NO_NEW_PRIVS, _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL = 38, 47, 4
_MCL_CURRENT, _MCL_FUTURE, _MCL_ONFAULT = 1, 2, 4
_CAPABILITY_VERSION_3 = 0x20080522
_LOCK_REMEDY = "set LimitMEMLOCK=infinity in the unit, or start as root"
_ALL_USERS = ["0", "0", "4294967295"]
_STATUS = Path("/proc/self/status")
_SETS = {
    "effective": "CapEff",
    "permitted": "CapPrm",
    "inheritable": "CapInh",
    "bounding": "CapBnd",
    "ambient": "CapAmb",
}

_libc = ctypes.CDLL(None, use_errno=True)


class PrivilegeError(Exception):
    """A right that could not be had or given up, and what to do about it."""


class Dropped(Struct, frozen=True):
    """What `drop_to` did. `user` is who the process is now, `capabilities` what it still may.

    `missing` are capabilities that were to be kept but were not there to keep. `notes` say, for people, what could not
    be done as asked and what stands in its place.
    """

    user: str
    uid: int
    gid: int
    capabilities: frozenset[str]
    missing: frozenset[str] = frozenset()
    notes: tuple[str, ...] = ()


class Locked(Struct, frozen=True):
    """What `lock_memory` did. `onfault`: pages are locked as they are touched (else all at once).

    `needs` must be among what `drop_to` keeps: without it every later allocation would fail. Empty where RLIMIT_MEMLOCK
    could be raised.
    """

    onfault: bool
    locked_bytes: int
    needs: frozenset[str] = frozenset()


def capabilities(which: str = "effective") -> frozenset[str]:
    """This thread's capabilities as the kernel tells them.

    `which` of its sets: "effective", "permitted", "inheritable", "bounding" or "ambient".
    """
    bits = int(_status(_SETS[which]), 16)
    names = {name for bit, name in enumerate(CAPABILITIES) if bits >> bit & 1}
    newer = bits >> len(CAPABILITIES)
    return frozenset(
        names | {f"CAP_{bit + len(CAPABILITIES)}" for bit in range(newer.bit_length()) if newer >> bit & 1}
    )


def drop_to(user: str | None, keep: frozenset[str] = frozenset()) -> Dropped:
    """Become `user` (None: stay who we are) and keep exactly the capabilities in `keep`, for good.

    Afterwards permitted and effective are `keep` (as far as they were there), inheritable, ambient and bounding set are
    empty, and no program that is started can gain a right (PR_SET_NO_NEW_PRIVS). A user that does not exist is replaced
    by "nobody"; in a user namespace where the user is not mapped the process stays who it is; both are in `notes`.
    A signal set by `die_with_parent` before is set again: the kernel clears it when rights change.

    PrivilegeError where something of this cannot be done, or reads back otherwise than it was set.
    """
    unknown = keep - set(CAPABILITIES)
    if unknown:
        raise PrivilegeError(f"no capabilities of this kernel: {', '.join(sorted(unknown))}")
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        raise PrivilegeError("rights belong to threads: drop them before the first thread is started")
    notes: list[str] = []
    missing = keep - capabilities("permitted")
    kept = keep - missing
    death_signal = _death_signal()
    _drop_bounding_set(notes)
    if user is not None:
        _become(user, notes)
    _prctl("clear ambient capabilities", _PR_CAP_AMBIENT, _PR_CAP_AMBIENT_CLEAR_ALL)
    _capset(kept)
    _prctl("set no_new_privs", _PR_SET_NO_NEW_PRIVS, 1)
    if death_signal:
        _prctl("set the death signal", _PR_SET_PDEATHSIG, death_signal)
    _verify(kept)
    uid, gid = os.getuid(), os.getgid()
    return Dropped(_name(uid), uid, gid, kept, missing, tuple(notes))


def lock_memory() -> Locked:
    """Keep all of this process in memory, now and later, without touching pages that it never uses.

    RLIMIT_MEMLOCK is raised to no limit first; where that is not allowed, CAP_IPC_LOCK serves while it is kept
    (`needs`); without either nothing is locked, for later allocations would fail. Not inherited by children.
    PrivilegeError says what to do.
    """
    needs = _unlimit_memlock()
    return Locked(_lock(), _locked_bytes(), needs)


@contextlib.contextmanager
def unlocked() -> Iterator[None]:
    """Not locked for a moment, where memory is: the kernel takes no locked page back (madvise(2), EINVAL).

    34 ms for 200 MB. PrivilegeError where the kernel does not lock again what was locked.
    """
    locked = _locked_bytes() > 0
    if locked:
        _libc.munlockall()
    try:
        yield
    finally:
        if locked:
            _lock()


def set_oom_score_adj(score: int = -900) -> int:
    """Tell the out-of-memory killer how much to spare us (-1000: never us, 1000: first); returns what it was before.

    PrivilegeError where the kernel refuses (less than before needs CAP_SYS_RESOURCE).
    """
    file = Path("/proc/self/oom_score_adj")
    before = int(file.read_text())
    if before == score:
        return before
    try:
        file.write_text(str(score))
    except OSError as error:
        remedy = "set OOMScoreAdjust= in the unit, or start with CAP_SYS_RESOURCE"
        raise PrivilegeError(
            f"cannot set oom_score_adj from {before} to {score}: {error.strerror}; {remedy}"
        ) from error
    after = int(file.read_text())
    if after != score:
        raise PrivilegeError(f"oom_score_adj was set to {score} but reads {after}")
    return before


def raise_priority(nice: int = -5) -> int:
    """Go before ordinary processes at the processor, when many want it at once; returns the nice value before.

    PrivilegeError where the kernel refuses (it takes CAP_SYS_NICE). A process that has as much already is left alone.
    """
    before = os.getpriority(os.PRIO_PROCESS, 0)
    if before <= nice:
        return before
    try:
        os.setpriority(os.PRIO_PROCESS, 0, nice)
    except OSError as error:
        remedy = "set Nice= in the unit, or start as root"
        raise PrivilegeError(f"cannot set the priority from {before} to {nice}: {error.strerror}; {remedy}") from error
    return before


def own_directory(path: Path, user: str, mode: int = 0o750) -> tuple[str, ...]:
    """Make sure that the directory is there and that `user` (or who `drop_to` takes in its place) can write in it.

    A directory is given away only where it was made here, is empty, or is the user's already: a slip in the
    configuration must not hand over /etc. PrivilegeError says what to do; what is returned are notes for people.
    """
    notes: list[str] = []
    account = _account(user, notes)
    try:
        path.mkdir(mode=0o755, parents=True, exist_ok=True)
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise PrivilegeError(f"cannot make the directory {path}: {error.strerror}; make it, or name another") from error
    try:
        owner = os.fstat(descriptor).st_uid
        if owner == account.pw_uid or not _can_become(account):
            return tuple(notes)
        if any(path.iterdir()):
            remedy = f"chown -R {account.pw_name} {path}, or name another directory"
            raise PrivilegeError(f"{path} belongs to {_name(owner)} and is not empty; {remedy}")
        os.fchown(descriptor, account.pw_uid, account.pw_gid)
        os.fchmod(descriptor, mode)
    except OSError as error:
        raise PrivilegeError(f"cannot give {path} to {account.pw_name}: {error.strerror}") from error
    finally:
        os.close(descriptor)
    return tuple(notes)


def die_with_parent(parent_pid: int | None = None, number: int = signal.SIGKILL) -> None:
    """Have the kernel send `number` to this process when its parent ends.

    `parent_pid` is who the parent must be: PrivilegeError where it has ended already, in the moment between the fork
    and this call. The kernel forgets this when user or capabilities change (`drop_to` sets it again).
    """
    expected = os.getppid() if parent_pid is None else parent_pid
    _prctl("set the death signal", _PR_SET_PDEATHSIG, number)
    if os.getppid() != expected:
        raise PrivilegeError(f"the parent process {expected} has ended already; start again")


def _status(name: str) -> str:
    for line in _STATUS.read_text().splitlines():
        if line.startswith(f"{name}:"):
            return line.partition(":")[2].strip()
    raise PrivilegeError(f"{_STATUS} has no {name}: is /proc mounted, and the kernel 4.10 or later?")


def _failed(what: str, remedy: str = "") -> PrivilegeError:
    reason = os.strerror(ctypes.get_errno())
    return PrivilegeError(f"cannot {what}: {reason}{'; ' if remedy else ''}{remedy}")


def _prctl(what: str, option: int, argument: int = 0) -> int:
    result = _try_prctl(option, argument)
    if result < 0:
        raise _failed(what)
    return result


def _try_prctl(option: int, argument: int) -> int:
    """prctl(2) itself: the result, negative where it failed. It takes longs, which ctypes must be told."""
    zero = ctypes.c_ulong(0)
    result: int = _libc.prctl(option, ctypes.c_ulong(argument), zero, zero, zero)
    return result


def _death_signal() -> int:
    number = ctypes.c_int()
    if _libc.prctl(_PR_GET_PDEATHSIG, ctypes.byref(number), 0, 0, 0) != 0:
        raise _failed("read the death signal")
    return number.value


def _drop_bounding_set(notes: list[str]) -> None:
    """Empty the bounding set, so that a program with file capabilities brings none."""
    if not capabilities("bounding"):
        return
    if "CAP_SETPCAP" not in capabilities():
        notes.append("the bounding set stays (CAP_SETPCAP is missing); no_new_privs keeps it without effect")
        return
    bit = 0
    while _try_prctl(_PR_CAPBSET_READ, bit) >= 0:
        _prctl("drop the bounding set", _PR_CAPBSET_DROP, bit)
        bit += 1


def _become(user: str, notes: list[str]) -> None:
    account = _account(user, notes)
    if os.getresuid() == (account.pw_uid,) * 3 and os.getresgid() == (account.pw_gid,) * 3:
        return
    if not _can_become(account):
        why = "is not mapped in this user namespace" if _may_change_user() else "can be taken on by root alone"
        notes.append(f"{account.pw_name} {why}; the process stays {_name(os.getuid())}")
        return
    _prctl("keep capabilities across setuid", _PR_SET_KEEPCAPS, 1)
    try:
        os.setgroups(os.getgrouplist(account.pw_name, account.pw_gid))
        os.setresgid(account.pw_gid, account.pw_gid, account.pw_gid)
        os.setresuid(account.pw_uid, account.pw_uid, account.pw_uid)
    except OSError as error:
        raise PrivilegeError(f"cannot become {account.pw_name}: {error.strerror}") from error
    _prctl("reset keeping capabilities", _PR_SET_KEEPCAPS, 0)
    if os.getresuid() != (account.pw_uid,) * 3 or os.getresgid() != (account.pw_gid,) * 3:
        raise PrivilegeError(f"became {_name(os.getuid())} where {account.pw_name} was asked for")


def _account(user: str, notes: list[str]) -> pwd.struct_passwd:
    try:
        return pwd.getpwnam(user)
    except KeyError:
        pass
    try:
        account = pwd.getpwnam(FALLBACK_USER)
    except KeyError:
        raise PrivilegeError(
            f"there is no user {user}, nor {FALLBACK_USER}; make it: useradd --system {user}"
        ) from None
    notes.append(f"there is no user {user}; using {FALLBACK_USER} (make it: useradd --system {user})")
    return account


def _may_change_user() -> bool:
    return {"CAP_SETUID", "CAP_SETGID"} <= capabilities()


def _can_become(account: pwd.struct_passwd) -> bool:
    return _may_change_user() and _mapped("uid_map", account.pw_uid) and _mapped("gid_map", account.pw_gid)


def _mapped(name: str, number: int) -> bool:
    """Whether this user namespace knows the user or group (user_namespaces(7): inside, outside, length)."""
    for line in Path(f"/proc/self/{name}").read_text().splitlines():
        inside, _, length = map(int, line.split())
        if inside <= number < inside + length:
            return True
    return False


def _capset(names: frozenset[str]) -> None:
    bits = sum(1 << CAPABILITIES.index(name) for name in names)
    header = (ctypes.c_uint32 * 2)(_CAPABILITY_VERSION_3, 0)
    low, high = bits & 0xFFFFFFFF, bits >> 32
    data = (ctypes.c_uint32 * 6)(low, low, 0, high, high, 0)  # effective, permitted, inheritable; twice 32 bits
    if _libc.capset(header, data) != 0:
        raise _failed(f"keep only {', '.join(sorted(names)) or 'no capability'}")


def _verify(kept: frozenset[str]) -> None:
    for which, expected in (
        ("effective", kept),
        ("permitted", kept),
        ("inheritable", frozenset()),
        ("ambient", frozenset()),
    ):
        actual = capabilities(which)
        if actual != expected:
            raise PrivilegeError(f"{which} capabilities read {sorted(actual)} where {sorted(expected)} were set")


def _unlimit_memlock() -> frozenset[str]:
    """Raise the limit; returns the capability that must stand in for it where that is not allowed."""
    limits = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    if limits[0] == resource.RLIM_INFINITY:
        return frozenset()
    try:
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    except (OSError, ValueError) as error:
        # In a user namespace of its own a process holds CAP_IPC_LOCK, but the kernel asks for that of the first one.
        if "CAP_IPC_LOCK" in capabilities() and Path("/proc/self/uid_map").read_text().split() == _ALL_USERS:
            return frozenset({"CAP_IPC_LOCK"})
        raise PrivilegeError(f"cannot lock memory: RLIMIT_MEMLOCK is {limits[0]} bytes; {_LOCK_REMEDY}") from error
    return frozenset()


def _lock() -> bool:
    """Lock all pages; returns whether as they are touched."""
    if _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE | _MCL_ONFAULT) == 0:
        return True
    if ctypes.get_errno() == errno.EINVAL and _libc.mlockall(_MCL_CURRENT | _MCL_FUTURE) == 0:
        return False  # MCL_ONFAULT came with Linux 4.4
    raise _failed("lock memory", _LOCK_REMEDY)


def _locked_bytes() -> int:
    return int(_status("VmLck").split()[0]) * 1024


def _name(uid: int) -> str:
    with contextlib.suppress(KeyError):
        return pwd.getpwuid(uid).pw_name
    return str(uid)
