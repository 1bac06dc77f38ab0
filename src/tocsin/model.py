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
