"""The nouns of an explanation. Pure. Times are Unix seconds, spans seconds, shares 0 to 1.

What people read is `Said`: an English sentence with named places, and what stands in them. JSON gets the English; a
terminal or a page the reader's language (`words`). So the reasoning writes sentences once, where it finds them.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Literal, Protocol, TypeAlias

from msgspec import Struct

from tocsin.model import AuthAttempt, Signature
from tocsin.server_events import ServerEvent

Value: TypeAlias = "str | int | float | Said | None"


class Said(Struct, frozen=True):
    """A sentence in English with named places, such as `{process} was killed at {ts:time}, holding {rss:size}`.

    Formats of places: none (a text, or a number with its thousands), `time` (Unix seconds), `clock` (the same, hours
    and minutes alone), `span` (seconds), `size` (bytes), `share` (0 to 1, in percent), `times` (a factor). A text may
    be hostile; a sentence may stand in a sentence.
    """

    text: str
    args: dict[str, Value] = {}


def say(text: str, /, **args: Value) -> Said:
    """A sentence; see `Said`. Every literal text that is given here has its French in `french`."""
    return Said(text, args)


class Gap(Struct, frozen=True):
    """A span in which a log says nothing though it would have."""

    start: float
    end: float


class Coverage(Struct, frozen=True):
    """What one source has to say: its kind (`access`, or a teller's), the times from and to which it speaks (None: it
    names none), its lines, those that fit no format, its gaps, and what was repaired, guessed or broken (`notes`).
    """

    source: str
    kind: str
    start: float | None
    end: float | None
    lines: int
    unparsed: int
    gaps: tuple[Gap, ...] = ()
    notes: tuple[Said, ...] = ()


class Fact(Struct, frozen=True):
    """An event, when it was by the repaired clock, and the line that proves it. `spread_s`: how far `ts` may be off.
    `count`: how often the same was said within that second (the first line is quoted).
    """

    ts: float
    event: ServerEvent | AuthAttempt
    source: str
    line: int
    text: str
    spread_s: float = 0.0
    count: int = 1


class Rate(Struct, frozen=True, gc=False):
    """The requests of one step of time, from `ts` on.

    `failed`: statuses of 500 and more. `timeouts`: 408, and 400 without a request. `busy_s` sums the durations,
    `slowest_s` is the longest; both None where none is logged.
    """

    ts: float
    requests: int
    failed: int
    timeouts: int
    busy_s: float | None = None
    slowest_s: float | None = None


class Group(Struct, frozen=True, gc=False):
    """Requests that are alike in all that is named here, of one span of time; texts as in `HttpRequest`.

    `busy_s` sums the durations, None where none is logged. `first_ts` and `last_ts` are starts of requests.
    """

    source_ip: str | None
    vhost: str | None
    method: str | None
    path: str
    query: str
    protocol: str | None
    status: int | None
    user_agent: str | None
    requests: int
    busy_s: float | None
    first_ts: float
    last_ts: float


class Step(Struct, frozen=True, gc=False):
    """Requests of one step of time that are alike but for their address."""

    ts: float
    method: str | None
    path: str
    query: str
    vhost: str | None
    user_agent: str | None
    requests: int


class Profile(Struct, frozen=True, gc=False):
    """What one address did in a span of time: to tell visitors from the rest."""

    source_ip: str
    requests: int
    pages: int
    assets: int
    posts: int
    referred: int
    failed: int
    agents: int
    first_ts: float
    last_ts: float


class Quote(Struct, frozen=True, gc=False):
    """A line of an access log."""

    ts: float
    source: str
    line: int
    text: str


class Accesses(Protocol):
    """All access logs together, by the start of each request, every question bounded in what it answers with."""

    start: float | None
    end: float | None
    requests: int
    has_durations: bool
    has_user_agents: bool

    def rates(self, step_s: float, start: float | None = None, end: float | None = None) -> list[Rate]:
        """By steps of time (multiples of `step_s` since the epoch), ascending; steps without requests are left out."""

    def groups(self, start: float, end: float, limit: int = 200_000) -> list[Group]:
        """The requests that began in a span, the largest groups first; queries and agents are dropped where more than
        `limit` would come.
        """

    def groups_between(self, edges: Sequence[float]) -> list[list[Group]]:
        """The same of the spans from each of some ascending times to the next: one question, where they are few."""

    def steps(self, step_s: float, start: float, end: float) -> list[Step]:
        """The requests that began in a span, by steps of time (multiples of `step_s` since `start`)."""

    def took(self, signature: Signature, start: float, end: float) -> tuple[float, float]:
        """How long the requests of a class in a span held a worker, in seconds on average, and how long all others but
        assets did. By the durations that are logged; else by the order of the lines, as far as that tells: a server
        that stamps the start and writes at the end leaves what took long behind what came later (a lower bound).
        """

    def profiles(self, start: float, end: float, limit: int = 200_000) -> list[Profile]:
        """What each address did in a span, the most requests first."""

    def profiles_of(self, addresses: list[str]) -> list[Profile]:
        """What these addresses did in all the logs; those that never came are left out."""

    def hits(self, signature: Signature, start: float, end: float) -> tuple[int, int]:
        """How many requests of a span, of how many addresses, a class holds."""

    def actors(self, signature: Signature, start: float, end: float) -> list[tuple[str, int]]:
        """The addresses of a class in a span and their requests, the most first; complete."""

    def quotes(
        self, signature: Signature, start: float, end: float, limit: int = 3, by: Collection[str] = ()
    ) -> list[Quote]:
        """The first lines of a class in a span, in order of time; where `by` has any, those of these addresses (IPv6:
        /64) alone.
        """


class Dossier(Struct, frozen=True):
    """All evidence. `facts` ascend by time. `facts_without_time` could not be placed (uptime without a tie: `ts` is
    seconds since boot).

    `zone_s` is the server's offset to UTC as the logs tell it (None: they do not). `now_ts` is the moment of asking.
    """

    facts: tuple[Fact, ...]
    facts_without_time: tuple[Fact, ...]
    coverage: tuple[Coverage, ...]
    accesses: Accesses
    now_ts: float
    zone_s: int | None = None
    notes: tuple[Said, ...] = ()


Cause = Literal[
    "disk-full",
    "local-job",
    "crash",
    "slow-connections",
    "login-bruteforce",
    "crawler",
    "distributed-flood",
    "request-flood",
    "expensive-requests",
    "legitimate-surge",
    "misconfiguration",
    "unknown",
]


class Link(Struct, frozen=True):
    """A link of the causal chain: observed (then a line proves it), inferred, or looked for and `missing`. `main`: the
    verdict rests on it, so that it stands in every short form of the chain.
    """

    ts: float | None
    link: Said
    observed: bool
    source: str | None = None
    line: int | None = None
    text: str | None = None
    missing: bool = False
    main: bool = False


class Actor(Struct, frozen=True):
    """Who carried a class of requests: an address or a prefix, and how many."""

    subject: str
    requests: int


class Suspect(Struct, frozen=True):
    """One possible cause, the likeliest first. `share` of the excess load that it carries, `lift` over its normal."""

    kind: Literal["requests", "connections", "process", "storage", "limit"]
    cause: Cause
    name: Said
    why: Said
    signature: Signature | None = None
    process: str | None = None
    actors: tuple[Actor, ...] = ()
    requests: int = 0
    share: float = 0.0
    lift: float | None = None
    counter_evidence: Said | None = None


class Spared(Struct, frozen=True):
    """Whom a ban must not hit, though it came near."""

    subject: str
    why: Said


class Remedy(Struct, frozen=True):
    """What to do; `apply` is what to type or paste: a command, a rule, a directive. `now`: before anything else.

    `rule` is the id of the rule for Tocsin that `apply` holds, empty where it is none; `instead` are the lines for the
    web server that take its place where it would do harm, or nothing.
    """

    text: Said
    apply: str = ""
    now: bool = False
    rule: str = ""
    instead: str = ""


class Series(Struct, frozen=True):
    """A line of the picture: busy workers (or requests where no cost is known) of one class of requests, by step."""

    name: Said
    values: tuple[float, ...]
    suspect: bool = False


class Mark(Struct, frozen=True):
    """A symptom in the picture."""

    ts: float
    kind: str
    text: Said


class Timeline(Struct, frozen=True):
    """What the picture of an incident shows: load by class against symptoms. `unit` says what the values are."""

    start: float
    step_s: float
    unit: Said
    series: tuple[Series, ...]
    marks: tuple[Mark, ...]
    capacity: float | None = None


class Incident(Struct, frozen=True):
    """One outage, or several of one habit (`times`: when each began)."""

    start: float
    end: float
    onset: float
    cause: Cause
    confidence: float
    summary: Said
    chain: tuple[Link, ...]
    suspects: tuple[Suspect, ...]
    ban: tuple[str, ...] = ()
    deny: tuple[Signature, ...] = ()
    spare: tuple[Spared, ...] = ()
    remedies: tuple[Remedy, ...] = ()
    notes: tuple[Said, ...] = ()
    times: tuple[float, ...] = ()
    timeline: Timeline | None = None


class Report(Struct, frozen=True):
    """The whole explanation. `quiet`: nothing went wrong."""

    coverage: tuple[Coverage, ...]
    incidents: tuple[Incident, ...]
    quiet: bool
    notes: tuple[Said, ...] = ()
