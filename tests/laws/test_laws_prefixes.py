"""Laws of networks: their order is of no account, they hold nobody who is safe, state is bounded and survives."""

from __future__ import annotations

import time
from datetime import UTC
from ipaddress import IPv4Network, IPv6Network, collapse_addresses, ip_address, ip_network
from pathlib import Path
from random import Random

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tocsin.decide.allow import AllowList
from tocsin.decide.breaker import Breaker, BreakerSettings
from tocsin.decide.crowd import Crowd
from tocsin.decide.neighbours import Neighbours, host_key, host_text
from tocsin.decide.policy import Policy, PolicySettings
from tocsin.decide.prefixes import Prefixes, PrefixSettings
from tocsin.decide.siege import SiegeSettings
from tocsin.decide.visitors import Visitors
from tocsin.detect.books import Limits
from tocsin.formats import Proxies
from tocsin.model import Batch, Decision, Evidence, Finding, HttpRequest
from tocsin.pipeline import Pipeline
from tocsin.reading import Readings
from tocsin.replay import Replay
from tocsin.rules import compile_rule, load_shipped

T0 = 1_431_861_456.0
BAN_S = 7200.0


class Known(Neighbours):
    """A site that nobody else has visited, and that would know."""

    def __init__(self) -> None:
        super().__init__()
        self.known = True


def crowd(base: int, sizes: tuple[int, ...]) -> st.SearchStrategy[list[int]]:
    """Addresses that gather in some part of a /20."""
    parts = st.tuples(st.sampled_from(sizes), st.integers(0, 4095), st.integers(0, 4095)).map(
        lambda part: base + part[1] // part[0] * part[0] + part[2] % part[0]
    )
    return st.lists(parts, max_size=45)


def addresses(sizes: tuple[int, ...] = (1, 8, 64, 256, 1024, 4096)) -> st.SearchStrategy[list[str]]:
    return crowd(int(ip_address("198.18.16.0")), sizes).map(lambda keys: [str(ip_address(key)) for key in keys])


def subnets() -> st.SearchStrategy[list[str]]:
    base = host_key("2001:db8:7::/64")
    return st.lists(
        st.tuples(st.integers(0, 15), st.integers(0, 1), st.integers(0, 255)).map(
            lambda part: host_text(base + (part[0] << 12) + (part[1] << 8) + part[2])
        ),
        max_size=30,
    )


Steps = list[tuple[float, str]]


def play(policy: Policy, script: Steps) -> list[Decision]:
    policy.neighbours = Known()
    made: list[Decision] = []
    for ts, subject in script:
        finding = Finding(f"{subject}~{ts}", "rule", subject, ts, 3, 600.0)
        decision = policy.decide(finding, BAN_S)
        if decision is not None:
            widened = policy.widen(finding, decision, BAN_S)
            made += policy.take_lifts() + [decision] + ([widened[1]] if widened else [])
    return made


def new(allow: tuple[str, ...] = (), max_offenders: int = 8192) -> Policy:
    allowed = AllowList([(text, "safe") for text in allow])
    return Policy(PolicySettings(), allowed, prefixes=Prefixes(PrefixSettings(max_offenders=max_offenders)))


def covered(policy: Policy) -> set[str]:
    """What is banned of networks, as few prefixes as may be."""
    held = [each for each in policy.desired(T0) if "/" in each and not each.endswith("/64")]
    ipv4 = collapse_addresses(IPv4Network(each) for each in held if ":" not in each)
    return {*map(str, ipv4), *map(str, collapse_addresses(IPv6Network(each) for each in held if ":" in each))}


@settings(max_examples=300)
@given(addresses() | subnets(), st.data())
def test_the_order_of_offences_is_of_no_account(subjects: list[str], data: st.DataObject) -> None:
    """Whatever comes first, the same networks are banned in the end, although a banned one hides what follows."""
    stamped = [(T0 + number, subject) for number, subject in enumerate(subjects)]
    one, other = new(), new()
    play(one, stamped)
    play(other, data.draw(st.permutations(stamped)))
    assert covered(one) == covered(other)


@given(addresses() | subnets(), st.lists(addresses().filter(bool).map(lambda each: each[0]), max_size=2))
def test_it_never_covers_who_is_safe_and_only_those_who_offended_have_led_to_it(
    subjects: list[str], safe: list[str]
) -> None:
    policy = new(tuple(safe))
    made = play(policy, [(T0 + number, subject) for number, subject in enumerate(subjects)])
    offenders = [ip_network(d.subject) for d in made if d.action == "ban" and d.rule == "rule" and d.held is None]
    for net in map(ip_network, covered(policy)):
        assert not any(ip_address(each) in net for each in safe)
        inside = sum(each.version == net.version and each.subnet_of(net) for each in offenders)  # type: ignore[arg-type]  # same version
        rows = 1 << 24 - net.prefixlen if net.version == 4 and net.prefixlen < 24 else 0
        assert inside >= (8 if net.prefixlen == 48 else 4 + rows)
        assert net.prefixlen >= (20 if net.version == 4 else 48)


@given(addresses((256, 4096)), st.integers(1, 6), st.data())
def test_it_is_bounded_deterministic_and_survives_restarts(subjects: list[str], most: int, data: st.DataObject) -> None:
    script = [(T0 + 40.0 * number, subject) for number, subject in enumerate(subjects)]
    whole, again = new(max_offenders=most), new(max_offenders=most)
    made = play(whole, script)
    assert made == play(again, script)
    assert whole.dump() == again.dump()
    assert whole.prefixes is not None
    assert len(whole.prefixes._offenders) == len(whole.prefixes._order) <= most
    cut = data.draw(st.integers(0, len(script)))
    first = new(max_offenders=most)
    before = play(first, script[:cut])
    second = Policy(
        first.settings,
        first.allow,
        prefixes=Prefixes(PrefixSettings(max_offenders=most)),
        active=dict(first._bans.ends),
        history=[(each, *known) for each in first._bans.ends if (known := first.past(each)) is not None],
    )
    second.load(first.dump())
    assert before + play(second, script[cut:]) == made


@given(st.integers(0, 2**64 - 1) | st.integers(0, 2**16 - 1).map(lambda group: group << 48))
def test_a_64_is_written_as_ipaddress_writes_it(top: int) -> None:
    text = host_text(1 << 64 | top)
    assert text == str(IPv6Network((top << 64, 64)))
    assert host_key(text) == 1 << 64 | top


# -- the whole way from lines to bans --------------------------------------------------------------------------------

RULES = [compile_rule(rule) for rule in load_shipped() if rule.enabled]


def log_lines(seed: int) -> list[bytes]:
    """Attackers in six networks, of which one has visitors and one a reader of feeds; a fifth of it out of order."""
    rng = Random(seed)
    nets = [f"203.0.{net}" for net in (4, 5, 6, 7)] + ["198.51.100", "192.0.2"]
    attackers = [f"{net}.{last}" for net in nets for last in rng.sample(range(100, 250), 12)]
    found = []
    for number in range(3000):
        ts = T0 + number / 4 - (rng.randrange(200) if rng.random() < 0.2 else 0)
        client, request, referer = rng.choice(attackers), "POST /xmlrpc.php", "-"
        if rng.random() < 0.4:
            net, page = rng.choice(["192.0.2", "198.18.3", "198.18.4"]), rng.randrange(5)
            client, request = f"{net}.{rng.randrange(1, 30)}", f"GET /page/{page}"
            if rng.random() < 0.7:
                request, referer = f"GET /{page}.css", f"https://example.org/page/{page}"
        elif rng.random() < 0.01:
            client, request = "198.51.100.7", "GET /feed"
        stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))
        found.append(f'{client} - - [{stamp}] "{request} HTTP/1.1" 200 12 "{referer}" "-"\n'.encode())
    return found


class Live:
    """The pipeline as guard has it, with a new process now and then."""

    def __init__(self) -> None:
        self.rows: list[tuple[Decision, Finding | None]] = []
        self.readings = Readings([("*", "combined")], Proxies(), UTC)
        self.pipeline = self._make()

    def _make(self) -> Pipeline:
        visitors = Visitors()
        breaker = Breaker(BreakerSettings(), visitors, self._request_of)
        policy = Policy(PolicySettings(), AllowList(), breaker=breaker, prefixes=Prefixes())
        self.policy = policy
        crowd = Crowd(visitors, SiegeSettings(enabled=False), lambda _change: None)
        return Pipeline(RULES, Limits(), policy, self.readings, lambda *row: self.rows.append(row), crowd=crowd)

    def _request_of(self, evidence: Evidence) -> HttpRequest | None:
        return self.readings.request_of(evidence, T0)

    def restart(self) -> None:
        state, active = self.pipeline.dump(), dict(self.policy._bans.ends)
        history = [(each, *known) for each in active if (known := self.policy.past(each)) is not None]
        self.pipeline = self._make()
        self.policy.adopt({each: end_ts - T0 for each, end_ts in active.items() if end_ts is not None}, T0)
        for subject, times, last_end_ts in history:
            self.policy.recollect(subject, times, last_end_ts)
        self.pipeline.load(state)


@pytest.mark.parametrize("seed", range(3))
def test_live_equals_replay_however_the_lines_are_cut(seed: int, tmp_path: Path) -> None:
    lines, rng = log_lines(seed), Random(f"cuts {seed}")
    log = tmp_path / "access.log"
    log.write_bytes(b"".join(lines))
    whole: list[tuple[Decision, Finding | None]] = []
    replay = Replay([log], RULES, UTC, None, lambda *row: whole.append(row), contrast=False, prefixes=True)
    replay.run()
    networks = [decision.subject for decision, _ in whole if decision.rule == "network" and decision.action == "ban"]
    assert any(each.startswith("203.0.") for each in networks)
    assert not any(ip_address("192.0.2.15") in ip_network(each) for each in networks), "visitors are there"
    live, at, offset = Live(), 0, 0
    while at < len(lines):
        batch = lines[at : at + rng.choice((1, 2, 30, 400))]
        data = b"".join(batch)
        live.pipeline.take(Batch(str(log), data, offset, at + 1), T0)
        at, offset = at + len(batch), offset + len(data)
        if rng.random() < 0.2:
            live.restart()
    assert msgspec.json.encode(live.rows) == msgspec.json.encode(whole)
