"""What a server's other logs tell: its limits, deaths, storage, jobs and changes, and what it measured of itself.

Nouns, as in `model.py`: times are Unix seconds, `*_ts` or `ts`; spans are seconds, `*_s`; sizes are bytes.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class LimitReached(Struct, frozen=True, gc=False):
    """A program, or the kernel, ran into a limit that somebody set.

    `limit` is named in the program's own words: `MaxRequestWorkers`, `pm.max_children`, `worker_connections`,
    `max_connections`, `open files`, `conntrack`, `listen queue`, `header timeout`; `value` what it was set to, where
    the line tells. `near`: it came close (workers spawned in haste), and `value` is how many there were.
    """

    ts: float
    service: str
    limit: str
    value: int | None = None
    near: bool = False


class ProcessKilled(Struct, frozen=True, gc=False):
    """A process was ended from outside, or by its own fault.

    `by`: `oom` (the machine's memory), `cgroup-oom` (the limit of a container or unit), `systemd-oomd`, `earlyoom`, or
    `signal` (`signal` names it: `SEGV`, `KILL`). `rss_bytes` is what it held, of it `anon_bytes` its own. `asker` is
    the process that asked for memory when there was none: neither victim nor culprit by that. `group` is the path of
    its control group, `limit_group` that of the one whose limit was reached; both empty where no line tells.
    """

    ts: float
    process: str
    pid: int | None
    by: Literal["oom", "cgroup-oom", "systemd-oomd", "earlyoom", "signal"]
    signal: str | None = None
    rss_bytes: int | None = None
    anon_bytes: int | None = None
    unit: str | None = None
    asker: str | None = None
    group: str = ""
    limit_group: str = ""


class ServiceState(Struct, frozen=True, gc=False):
    """A service changed its state.

    `started` (ready to serve), `reloaded` (kept serving), `stopping` and `stopped` (told to), `died` (nobody told it
    to), `restarting` (its supervisor tries again), `failed` (its supervisor gave up: it stays down), `refused` (it
    could not start: a configuration, a library), `recovered` (it found that it had died before). `service` is the
    program's name without path and version: `apache2`, `nginx`, `mariadb`, `mysql`, `php-fpm`, `postgresql`, or the
    unit's.
    """

    ts: float
    service: str
    state: Literal["started", "reloaded", "stopping", "stopped", "died", "restarting", "failed", "refused", "recovered"]
    detail: str = ""


class SlowQuery(Struct, frozen=True, gc=False):
    """A statement that took long. `ts` is its start; `query` at most 500 characters of it, still hostile."""

    ts: float
    service: str
    duration_s: float
    rows_examined: int | None = None
    user: str | None = None
    schema: str | None = None
    query: str = ""


class StorageError(Struct, frozen=True, gc=False):
    """Storage failed: it is full, out of inodes, mounted read-only, or broken."""

    ts: float
    service: str
    error: Literal["full", "inodes", "read-only", "io"]
    path: str | None = None


class Stall(Struct, frozen=True, gc=False):
    """Something stood still for `duration_s` up to `ts`: a task in the kernel, a database's flusher, a watchdog."""

    ts: float
    service: str
    duration_s: float
    what: str = ""


class JobStarted(Struct, frozen=True, gc=False):
    """A job that serves no request began: by cron, a timer, a package manager, an operator at a shell (`by`)."""

    ts: float
    by: str
    command: str
    user: str | None = None


class Changed(Struct, frozen=True, gc=False):
    """Software was changed: `what` is the package, `detail` what was done (`upgrade 8.2.20-1 8.2.26-1`)."""

    ts: float
    what: str
    detail: str = ""


class Banned(Struct, frozen=True, gc=False):
    """fail2ban banned or unbanned somebody."""

    ts: float
    jail: str
    subject: str
    verb: Literal["ban", "unban"]


class AppError(Struct, frozen=True, gc=False):
    """A program complained. `code` is its own (`AH01630`), or our name of a known text (see each format's table).

    `symptom`: what it means for visitors; None where it means nothing to them by itself (a file that does not exist).
    `database-down`, `backend-down`, `backend-slow`, `out-of-memory` (an allocation failed), `fatal` (a program's error
    that fails a request), `denied` (refused on purpose), `login` (a login failed), `timeout` (a client too slow).
    """

    ts: float
    service: str
    level: str
    code: str | None = None
    symptom: (
        Literal["database-down", "backend-down", "backend-slow", "out-of-memory", "fatal", "denied", "login", "timeout"]
        | None
    ) = None
    source_ip: str | None = None
    text: str = ""


class Processes(Struct, frozen=True, gc=False):
    """All processes of one name in a sample: how many, what they held together (bytes), how many were blocked (D).

    `uids` are the numbers of the users that they ran as, ascending; empty where the sample tells none.
    """

    name: str
    count: int
    rss_bytes: int
    swap_bytes: int = 0
    blocked: int = 0
    largest_bytes: int = 0
    command: str = ""
    uids: tuple[int, ...] = ()


class Filesystem(Struct, frozen=True, gc=False):
    """A filesystem in a sample; `used_share` 0 to 1, `inodes` whether inodes were counted in place of bytes."""

    path: str
    size_bytes: int | None
    used_share: float
    inodes: bool = False


class Connections(Struct, frozen=True, gc=False):
    """Connections to this machine's web ports in a sample, by remote address: who holds workers before any log line."""

    source_ip: str
    count: int
    state: str = ""


class Sample(Struct, frozen=True):
    """What the machine looked like at one instant. `kind` is what took it: `oom-report`, `ps`, `top`, `free`, `df`,
    `vmstat`, `ss`, `uptime`, `meminfo`, `pressure`. What it did not tell is None or empty.

    `limit_bytes` is the memory limit of the cgroup that was hit. `swapping_bytes_s` is what goes to and from the swap
    in a second, `waiting_share` how much of the time processors waited for storage, `stalled_share` how much of it
    some task waited for memory.
    """

    ts: float
    kind: str
    processes: tuple[Processes, ...] = ()
    memory_bytes: int | None = None
    available_bytes: int | None = None
    swap_bytes: int | None = None
    swap_free_bytes: int | None = None
    limit_bytes: int | None = None
    load_1m: float | None = None
    filesystems: tuple[Filesystem, ...] = ()
    connections: tuple[Connections, ...] = ()
    swapping_bytes_s: float | None = None
    waiting_share: float | None = None
    stalled_share: float | None = None


class ClockTie(Struct, frozen=True, gc=False):
    """A line that holds two clocks: `uptime_s` since boot, and the Unix time `ts` of the same moment."""

    ts: float
    uptime_s: float


ServerEvent = (
    LimitReached
    | ProcessKilled
    | ServiceState
    | SlowQuery
    | StorageError
    | Stall
    | JobStarted
    | Changed
    | Banned
    | AppError
    | Sample
    | ClockTie
)
