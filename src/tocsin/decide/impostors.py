"""Whether who claims to be a crawler is one: verified, impostor or unknown, each with its proof. Pure.

Published networks come first (`crawlers`). Where they do not decide, and names in the DNS would, the address is put
into a queue; whoever has a resolver takes the questions and hands back an `Answer`. Answers are a source like a log:
the same lines and answers in the same order give the same verdicts. Without them (`dns` false) what the networks do not
decide stays unknown.

Only what an operator says of all its addresses proves an impostor; a time-out, or a name server that fails, proves
nothing.
"""

from __future__ import annotations

from typing import Literal

import msgspec
from msgspec import Struct, structs

from tocsin.decide.crawlers import (
    CRAWLERS,
    DRIVEN,
    FRESH_S,
    HOSTS,
    Published,
    claimed_crawler,
    is_named,
    shipped,
)
from tocsin.decide.subjects import bounds, canonical
from tocsin.model import Finding, HttpRequest

WAITING_MOST = 4096
DOUBTED_MOST = WAITING_MOST // 4
"""Of those whom the networks have refuted already, so few are asked after: the others wait for a verdict."""

ANSWERS_MOST = 1 << 16
LISTED_CACHED = 1 << 14
DNS_FRESH_S = 86400.0
"""What the DNS says now says nothing of a request from longer ago."""

TTL_LEAST_S, TTL_MOST_S = 3600.0, 86400.0
TTL_NONE_S = 3600.0
TTL_FAILED_S = 300.0
NAMES_SHOWN = 2

Verdict = Literal["verified", "impostor", "unknown"]

_YANDEX = "yandex"
_PROPER = {name: hosts for name, hosts in HOSTS.items() if not CRAWLERS.get(name) or set(CRAWLERS[name]) - DRIVEN}


class Answer(Struct, frozen=True, gc=False):
    """What the DNS said of an address at `ts`: the names of its PTR records, small letters, and which of them lead back
    to it (`confirmed`; asked only of names that a crawler could have). `none`: there is no such record. `failed`:
    nobody can tell. `ttl_s` is the shortest time to live of what was found.
    """

    address: str
    ts: float
    outcome: Literal["found", "none", "failed"]
    names: tuple[str, ...] = ()
    confirmed: tuple[str, ...] = ()
    ttl_s: float = 0.0

    @property
    def until_ts(self) -> float:
        """Until when it holds: bounded, and less long where there was nothing."""
        if self.outcome == "failed":
            return self.ts + TTL_FAILED_S
        if not self.confirmed:
            return self.ts + TTL_NONE_S
        return self.ts + min(max(self.ttl_s, TTL_LEAST_S), TTL_MOST_S)


class Judged(Struct, frozen=True, gc=False):
    """A verdict on a claim, and its proof in a sentence."""

    verdict: Verdict
    proof: str


class Saved(Struct, frozen=True, array_like=True):
    """What a restart takes up: findings that wait for an answer, bans that are doubted, what the DNS has said."""

    waiting: dict[str, tuple[str, Finding]]
    doubted: dict[str, str]
    answers: list[Answer]


class Crawlers:
    """Judges claims. `names` are what agents bear (in any case) that claim something that can be judged, `claims` what
    those bear that claim anything.
    """

    names = (_YANDEX, *(name for name, lists in CRAWLERS.items() if lists or name in HOSTS))
    claims = (_YANDEX, *CRAWLERS)

    def __init__(self, published: Published | None = None, *, dns: bool = False) -> None:
        self._published = published
        self.dns = dns
        self._listed: dict[tuple[str, str], bool | None] = {}
        self._answers: dict[str, Answer] = {}
        self._proven: dict[str, tuple[str, float]] = {}  # by subject: in words, until when
        self._waiting: dict[str, tuple[str, Finding]] = {}
        self._doubted: dict[str, str] = {}  # refuted by the networks, asked after all the same: the ban's target
        self._unsent: list[str] = []
        self._asking: tuple[str, str] | None = None  # name and address of the line that is being judged
        self._doubting: str | None = None

    @property
    def published(self) -> Published:
        """The operators' lists. Those that come with the program are read when the first claim is judged."""
        return shipped() if self._published is None else self._published

    def take_up(self, published: Published) -> None:
        """Go on with other lists."""
        self._published = published
        self._listed.clear()

    # -- claims ------------------------------------------------------------------------------------------------------

    def verdict(self, request: HttpRequest) -> Verdict | None:
        """What the request's claim is worth; None where it claims nothing, or its client is not known."""
        self._asking = self._doubting = None
        name, address = claimed_crawler(request.user_agent), request.source_ip
        if name is None or address is None:
            return None
        verdict = self.judge(name, address, request.ts).verdict
        if verdict == "impostor" and self._may_ask(name, address, request.ts) and len(self._doubted) < DOUBTED_MOST:
            self._doubting = address
        return verdict

    def proof(self, request: HttpRequest) -> str:
        """Why the claim is worth what it is; empty where there is none."""
        name, address = claimed_crawler(request.user_agent), request.source_ip
        return "" if name is None or address is None else self.judge(name, address, request.ts).proof

    def judge(self, name: str, address: str, ts: float) -> Judged:
        """The verdict on an address that claimed at `ts` to be a crawler."""
        published = self.published
        listed = self._is_listed(name, address)
        if listed:
            network = published.network(name, address)
            return Judged("verified", f"{address} is in {network}, {self._published_for(name)}")
        said = self._said(name, address, ts)
        if said is not None and said.verdict == "verified":
            return said
        if listed is False and abs(ts - published.ts) <= FRESH_S:
            return Judged("impostor", f"{address} is in none of the networks {self._published_for(name)}")
        return said or Judged("unknown", f"nothing proves or refutes that {address} is {name}")

    def _is_listed(self, name: str, address: str) -> bool | None:
        key = name, address
        if key in self._listed:
            return self._listed[key]
        if len(self._listed) >= LISTED_CACHED:
            self._listed.clear()
        found = self._listed[key] = self.published.in_range(name, address, None)
        return found

    def _published_for(self, name: str) -> str:
        lists = self.published.lists
        operator = next(lists[each].operator for each in CRAWLERS[name] if each in lists)
        return f"published by {operator} for {name} (as of {self.published.day})"

    def _said(self, name: str, address: str, ts: float) -> Judged | None:
        """What the DNS has to say of it; None where it was not asked lately, or there is nothing to ask."""
        answer, hosts = self._answers.get(address), HOSTS.get(name)
        if answer is None or hosts is None or not answer.ts - DNS_FRESH_S < ts < answer.until_ts:
            return None
        for host in answer.confirmed:
            if is_named(host, hosts.patterns):
                return Judged("verified", f"{address} is called {host}, and that name leads back to it")
        if answer.outcome == "failed":
            return Judged("unknown", f"no name server could tell whether {address} is {name}")
        if any(is_named(host, hosts.kin) for host in answer.confirmed):
            return Judged("unknown", f"{address} is called {answer.confirmed[0]}, which is no name of {name}'s")
        verdict: Verdict = "impostor" if hosts.always else "unknown"
        wanted = " or ".join(hosts.patterns)
        if not answer.names:
            return Judged(verdict, f"{address} has no name in the DNS; {name}'s addresses are called {wanted}")
        forged = next((host for host in answer.names if is_named(host, hosts.patterns)), None)
        if forged is not None:
            return Judged(verdict, f"{address} is called {forged}, but that name does not lead back to it")
        names = ", ".join(answer.names[:NAMES_SHOWN])
        return Judged(verdict, f"{address} is called {names}; {name}'s addresses are called {wanted}")

    # -- questions ---------------------------------------------------------------------------------------------------

    def ask(self, request: HttpRequest) -> bool:
        """Whether an answer of the DNS could still prove the claim false: what the line leads to then waits for it, if
        it is handed to `wait` before the next line is judged.
        """
        name, address = claimed_crawler(request.user_agent), request.source_ip
        if name is None or address is None or not self._may_ask(name, address, request.ts):
            return False
        if len(self._waiting) >= WAITING_MOST or self.judge(name, address, request.ts).verdict != "unknown":
            return False
        self._asking = name, address
        return True

    def _may_ask(self, name: str, address: str, ts: float) -> bool:
        if not self.dns or name not in HOSTS or address in self._waiting or address in self._doubted:
            return False
        known = self._answers.get(address)
        return known is None or ts >= known.until_ts

    def wait(self, finding: Finding) -> bool:
        """Keep a finding until the DNS has answered; False where it does not depend on an answer."""
        if self._asking is None:
            return False
        (name, address), self._asking = self._asking, None
        self._waiting[address] = name, finding
        self._unsent.append(address)
        return True

    def doubt(self, target: str) -> None:
        """The line that was judged last has led to the ban of `target`: ask whether the networks are out of date."""
        if self._doubting is not None:
            self._doubted[self._doubting] = target
            self._unsent.append(self._doubting)
            self._doubting = None

    def take_questions(self) -> list[str]:
        """The addresses to look up, each once; every one is to be answered, at least with `failed`."""
        asked, self._unsent = self._unsent, []
        return asked

    def answer(self, answer: Answer) -> tuple[Finding | None, tuple[str, str] | None]:
        """Take an answer. Returns the finding that waited for it, with its proof, where it proves an impostor; and
        the target of a ban that was wrong, with the proof, where it proves a crawler.
        """
        address = answer.address
        self._keep(answer)
        name, finding = self._waiting.pop(address, ("", None))
        if finding is not None:
            judged = self.judge(name, address, finding.ts)
            finding = structs.replace(finding, note=judged.proof) if judged.verdict == "impostor" else None
        target = self._doubted.pop(address, None)
        proven = self._proven.get(canonical(address))
        return finding, (target, proven[0]) if target is not None and proven is not None else None

    def _keep(self, answer: Answer) -> None:
        address = answer.address
        self._answers.pop(address, None)
        while len(self._answers) >= ANSWERS_MOST:
            self._forget(next(iter(self._answers)))
        self._answers[address] = answer
        for name, hosts in _PROPER.items():
            host = next((host for host in answer.confirmed if is_named(host, hosts.patterns)), None)
            if host is not None:
                self._proven[canonical(address)] = f"verified crawler {name} ({host})", answer.until_ts
                return
        self._proven.pop(canonical(address), None)

    def _forget(self, address: str) -> None:
        del self._answers[address]
        self._proven.pop(canonical(address), None)

    # -- who is never banned -----------------------------------------------------------------------------------------

    def verified(self, subject: str, ts: float) -> str | None:
        """Which crawler an address is, or a prefix holds, in words with the proof; None where none is known. Fetchers
        that others send where they like do not count.
        """
        covered = self.published.covered(subject)
        if covered is not None or not self._proven:
            return covered
        known = self._proven.get(subject)
        if known is not None:
            return known[0] if ts < known[1] else None
        return self._within(subject, ts) if "/" in subject and not subject.endswith("/64") else None

    def _within(self, subject: str, ts: float) -> str | None:
        version, low, high = bounds(subject)
        for other, (words, until_ts) in self._proven.items():
            other_version, first, last = bounds(other)
            if other_version == version and first <= high and last >= low and ts < until_ts:
                return words
        return None

    # -- restarts ----------------------------------------------------------------------------------------------------

    def dump(self) -> bytes:
        """State that a restart takes up."""
        return msgspec.msgpack.encode(Saved(self._waiting, self._doubted, list(self._answers.values())))

    def load(self, state: bytes) -> None:
        """Take up a dumped state; what was asked is asked again. msgspec.MsgspecError where it is none."""
        saved = msgspec.msgpack.decode(state, type=Saved)
        if not self.dns:
            return
        for answer in saved.answers:
            self._keep(answer)
        self._waiting, self._doubted = saved.waiting, saved.doubted
        self._unsent = [*self._waiting, *self._doubted]
