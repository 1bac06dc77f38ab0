"""The nouns that travel between the rooms, and nothing else.

Batch -> Event -> Finding -> Decision -> Op -> Receipt. Each carries what its cause can be found by. Times are Unix
seconds (UTC, float), named `*_ts`; spans are seconds, named `*_s`. Subjects are texts that `ipaddress` would render:
an IPv4 address (`192.0.2.7`), or a prefix (`2001:db8:1:2::/64`); never a host name.
"""

from __future__ import annotations

from typing import Literal

from msgspec import Struct


class Batch(Struct, frozen=True, gc=False):
    """Whole lines of one source, as one block of bytes: the unit of work.

    `data` holds whole lines, each ended by a newline (the reader adds one where a finished file lacks it).
    `offset` is the position of `data[0]` in the source's (decompressed) bytes, `line` the number of its first line,
    from 1 (0 where the reader joined in mid-file and cannot know). `arrival_ts` is when the lines were read; None for
    finished files, whose lines are taken to arrive when they say.
    """

    source: str
    data: bytes
    offset: int = 0
    line: int = 0
    arrival_ts: float | None = None


class HttpRequest(Struct, frozen=True, gc=False):
    """One line of an access log. Texts are decoded from the log's escapes; `None` where the log says `-` or nothing.

    `ts` is the stamp as logged (Apache: the request's start; nginx: its end). `source_ip` is the client whom the log
    and the trusted proxies vouch for, canonical, or None where it is no address; `via` the proxy that told us.
    `target` is the request target as sent; `path` its path percent-decoded once, slashes merged, dot segments resolved;
    `query` what follows `?`, undecoded. A garbage request line has no `method`; all of it is `target`.
    """

    ts: float
    source_ip: str | None
    method: str | None = None
    target: str = ""
    path: str = ""
    query: str = ""
    protocol: str | None = None
    status: int | None = None
    body_bytes: int | None = None
    referer: str | None = None
    user_agent: str | None = None
    user: str | None = None
    vhost: str | None = None
    duration_s: float | None = None
    via: str | None = None


class AuthAttempt(Struct, frozen=True, gc=False):
    """Somebody tried to log in. `service` is the daemon (`sshd`), `outcome` what it said."""

    ts: float
    source_ip: str | None
    service: str
    user: str | None
    outcome: Literal["success", "failure"]
    method: str | None = None


class RawLine(Struct, frozen=True, gc=False):
    """A line of a log without a known format, for rules that look at lines; `ts` is the first time that it holds."""

    ts: float
    text: str


class Unparsed(Struct, frozen=True, gc=False):
    """A line that does not fit its source's format; `reason` says what was expected, for people."""

    reason: str


class Other(Struct, frozen=True, gc=False):
    """A well-formed line that holds no fact we use (another daemon's syslog line). Counted, never a rule's business."""


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
"""What a server's other logs tell: no rule counts it, `explain` reads it."""

Event = HttpRequest | AuthAttempt | RawLine | Unparsed | Other


class Evidence(Struct, frozen=True, gc=False):
    """One log line that counted. `line` from 1, 0 where unknown; `offset` of its first byte in the source.

    `text` is at most 1,000 bytes of it, what is not printable as escapes; still hostile.
    """

    source: str
    line: int
    offset: int
    text: str


MAX_WILDCARDS = 4
"""So many `*` may stand in a path that the web server is told of."""


class Signature(Struct, frozen=True, omit_defaults=True):
    """A class of requests. `path` is exact, or with `*` for one segment or a part of it. `query` is one of its pairs,
    or the name of one with its `=`: `s=` is not in `items=3`, nor `page=1` in `page=12`; `=` alone is in any that holds
    one, and empty is no query. `user_agent` is a literal substring, `protocol` as in `HTTP/1.0`. What is None is not
    asked for.
    """

    method: str | None = None
    path: str | None = None
    query: str | None = None
    vhost: str | None = None
    user_agent: str | None = None
    protocol: str | None = None

    @property
    def text(self) -> str:
        """For people: `POST /xmlrpc.php, agent with "Googlebot"`; still hostile."""
        parts = [" ".join(part for part in (self.method, self.path) if part)]
        if self.query is not None:
            parts.append(f'query with "{self.query}"' if self.query else "without a query")
        parts += [f'agent with "{self.user_agent}"'] if self.user_agent else []
        parts += [f"site {self.vhost}"] if self.vhost else []
        parts += [self.protocol] if self.protocol else []
        return ", ".join(part for part in parts if part) or "all requests"


class Finding(Struct, frozen=True, gc=False):
    """A rule crossed its line. `id` derives from rule, subject and the crossing line, so reading twice finds once.

    `ts` is the event time of the crossing line, `count` what was counted by then, `within_s` the window. `via` is the
    proxy through which the subject came, None where it is the peer of our own socket. `note` is the proof where lines
    alone are none (a crawler's published networks, what a class of requests is compared with). A finding about a class
    of requests has a `signature` and an empty subject.
    """

    id: str
    rule: str
    subject: str
    ts: float
    count: int
    within_s: float
    evidence: tuple[Evidence, ...] = ()
    via: str | None = None
    note: str = ""
    signature: Signature | None = None


Action = Literal["ban", "limit", "deny-request", "lift"]


class Decision(Struct, frozen=True, gc=False):
    """What should be in force: `action` on `subject` from `start_ts` to `end_ts` (None: for good), due to `finding`.

    `origin` is who decided: `rule`, `operator` or `import`. `held` says why it is *not* to be put into the kernel
    (observing, breaker tripped, behind a proxy), None where it is. `lifts` is the id of the ban that a `lift` ends;
    `note` says to people what led to it (which ban of this subject it is, why it was lifted). `services` are the ports
    that a ban closes, sorted, as in `tcp/22,tcp/8000-8080,udp/53`; empty: everything.

    `deny-request` has an empty subject and says by `signature` which requests the web server turns away, but for those
    from the subjects in `spare`, sorted. `limit` says the same of requests that it answers once the browser that sends
    them has shown that it is one.
    """

    id: str
    action: Action
    subject: str
    start_ts: float
    end_ts: float | None
    rule: str
    finding: str | None
    origin: Literal["rule", "operator", "import"] = "rule"
    held: str | None = None
    lifts: str | None = None
    note: str = ""
    services: str = ""
    signature: Signature | None = None
    spare: tuple[str, ...] = ()

    @property
    def target(self) -> str:
        """What the ban is kept by: see `target_of`."""
        return target_of(self.subject, self.services)


def target_of(subject: str, services: str) -> str:
    """What a ban is kept by where it may close single services: `192.0.2.7`, or `192.0.2.7 tcp/22,tcp/80`.

    Only hosts (IPv4 addresses and IPv6 /64) are closed to single services.
    """
    return f"{subject} {services}" if services else subject


def parts_of(target: str) -> tuple[str, str]:
    """The subject and the services (empty: everything) of a target."""
    subject, _, services = target.partition(" ")
    return subject, services


def is_host(subject: str) -> bool:
    """Whether it is an IPv4 address or an IPv6 /64, which may be closed to single services."""
    return subject.endswith("/64") if ":" in subject else "/" not in subject


MAX_BAN_S = 36500 * 86400
"""The longest ban, a century; longer is for good."""


class Op(Struct, frozen=True, gc=False):
    """One change to the kernel: `ban` for `seconds` (1 to MAX_BAN_S, None: for good) or `unban` of a target (see
    `target_of`).
    """

    verb: Literal["ban", "unban"]
    subject: str
    seconds: int | None = None
    decision: str = ""


class Receipt(Struct, frozen=True, gc=False):
    """What really happened to an Op; `subject` is a target, as there. `deny` and `allow` are of a class of requests,
    whose subject is empty: whether the web server has it. `refused`: the enforcer never takes such a ban.
    """

    verb: Literal["ban", "unban", "deny", "allow"]
    subject: str
    decision: str
    ok: bool
    ts: float
    error: str = ""
    sockets_destroyed: int = 0
    refused: bool = False
