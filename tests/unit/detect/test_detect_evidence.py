"""Evidence within its budget, line numbers of a block, and who contributed where a rule counts by no address."""

from __future__ import annotations

import json
import time
from datetime import UTC
from random import Random

import pytest

from tocsin.detect.block import Block, Lines
from tocsin.detect.books import Limits
from tocsin.detect.engine import Engine
from tocsin.detect.evidence import EVIDENCE_BYTES, EVIDENCE_LINES, EvidenceStore, printable
from tocsin.detect.plan import MASKS_KEPT
from tocsin.formats import Anchor, by_name
from tocsin.model import Batch, Finding
from tocsin.rules import compile_rule, read_rules

ANCHOR = Anchor(1_466_436_000.0, UTC)
COMBINED = by_name("combined")
BASE_TS = 1_466_421_454


def request(client: str, target: str = "/", ts: int = BASE_TS, agent: str = "-") -> bytes:
    stamp = time.strftime("%d/%b/%Y:%H:%M:%S +0000", time.gmtime(ts))
    return f'{client} - - [{stamp}] "GET {target} HTTP/1.1" 200 5 "-" "{agent}"\n'.encode()


def rule_text(**keys: object) -> str:
    return "[r]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def engine_of(limits: Limits | None = None, **keys: object) -> Engine:
    text = rule_text(**{"on": "http-request", "ban": 60, "within": "10m", **keys})
    if "where" not in keys:
        text += 'where = { method = "GET" }\n'
    return Engine([compile_rule(rule) for rule in read_rules(text, "r.toml")], limits)


def found_in(engine: Engine, data: bytes, offset: int = 0, line: int = 1) -> list[Finding]:
    found: list[Finding] = []
    engine.step(Batch("log", data, offset, line), COMBINED, ANCHOR, found.append)
    return found


# -- the store ---------------------------------------------------------------------------------------------------------


def test_the_last_lines_of_a_key_are_kept() -> None:
    store = EvidenceStore(1 << 20)
    for n in range(EVIDENCE_LINES + 5):
        store.add(("r", "k"), ("log", n, n * 10, b"line %d" % n))
    kept = store.take(("r", "k"))
    assert [line.line for line in kept] == list(range(5, EVIDENCE_LINES + 5))
    assert store.used_bytes == 0
    assert store.take(("r", "k")) == ()


def test_the_budget_holds_and_those_that_waited_longest_go() -> None:
    store = EvidenceStore(10_000)
    rng = Random("evidence")
    for n in range(2000):
        store.add(("r", str(rng.randrange(100))), ("log", n, n, b"x" * rng.randrange(300)))
        assert store.used_bytes <= 10_000
        assert store.used_bytes == sum(len(r[3]) + store.OVERHEAD_BYTES for rows in store.lines.values() for r in rows)
    store.add(("r", "busy"), ("log", 1, 1, b"x"))
    for n in range(500):
        store.add(("r", f"new {n}"), ("log", n, n, b"x"))
        store.add(("r", "busy"), ("log", n, n, b"x"))
    assert store.take(("r", "busy")), "a key that goes on is not among those that waited longest"


def test_the_line_just_added_is_never_the_one_dropped() -> None:
    """Whatever the budget, and also where its key is the oldest: it is what a finding is proved with."""
    for budget_bytes in (1, 500, 2000):
        store = EvidenceStore(budget_bytes)
        for n in range(50):
            for key in ("oldest", f"other {n}"):
                store.add(("r", key), ("log", n, n, b"x" * 100))
                assert store.lines["r", key][-1][1] == n


def test_a_finding_has_its_crossing_line_however_little_room_there_is() -> None:
    """Others' lines between those of one key, in any numbers, and room for five lines in all."""
    rng = Random("little room")
    for _ in range(100):
        engine = engine_of(Limits(evidence_bytes=2000), limit=3)
        gaps = [rng.randrange(4) for _ in range(3)]
        data = b"".join(
            request("192.0.2.1") + b"".join(request(f"10.0.{n}.{m}") for m in range(gap)) for n, gap in enumerate(gaps)
        )
        found = found_in(engine, data)
        assert [finding.subject for finding in found] == ["192.0.2.1"]
        assert found[0].evidence[-1].line == sum(gaps[:2]) + 3


def test_a_line_of_evidence_is_cut_and_harmless() -> None:
    found = found_in(engine_of(limit=1), request("192.0.2.1", agent="x" * 5000))
    assert len(found[0].evidence[0].text) == EVIDENCE_BYTES
    assert printable(b"\x1b[2J\x00a\xff\x7f\xe2\x80\xae\xc2\x9b") == "\\x1b[2J\\x00a\\xff\\x7f\\u202e\\x9b"


# -- where lines stand -------------------------------------------------------------------------------------------------


def test_line_numbers_and_offsets_are_those_of_the_source() -> None:
    rng = Random("blocks")
    lines = [b"x" * rng.randrange(5) for _ in range(200)]
    data = b"".join(line + b"\n" for line in lines)
    block = Block(Batch("log", data, 1000, 77), COMBINED, ANCHOR, lambda _: None)
    starts = [sum(len(line) + 1 for line in lines[:n]) for n in range(len(lines))]
    for n in [*range(0, 200, 7), 3, 199, 0]:  # in order, and back
        assert block.number(starts[n]) == 77 + n
        assert block.row(starts[n], starts[n] + len(lines[n])) == ("log", 77 + n, 1000 + starts[n], lines[n])
    joined = Block(Batch("log", data, 1000, 0), COMBINED, ANCHOR, lambda _: None)
    assert joined.number(starts[5]) == 0, "who joined in mid-file cannot know"
    spans = Lines(data)
    for n in (0, 1, 5, 5, 150):
        start, end = spans.span(n)
        assert (start, data[start:end]) == (starts[n], lines[n])
    spans.know(170, starts[170])
    assert spans.span(172)[0] == starts[172]


def test_a_finding_says_where_its_lines_stand() -> None:
    """Also those that a flood rule counts without parsing them."""
    for keys in ({"limit": 3}, {"limit": 3, "where": None}):
        engine = engine_of(**keys) if "where" not in keys else _flood(3)
        data = request("192.0.2.1") + request("192.0.2.2") + request("192.0.2.1") + b"junk\n" + request("192.0.2.1")
        (found,) = found_in(engine, data, 500, 10)
        assert [line.line for line in found.evidence] == [10, 12, 14]
        assert [data[line.offset - 500 :].split(b"\n")[0].decode() for line in found.evidence] == [
            line.text for line in found.evidence
        ]


def _flood(limit: int) -> Engine:
    text = rule_text(on="http-request", limit=limit, within="10m", ban=60)
    return Engine([compile_rule(rule) for rule in read_rules(text, "r.toml")])


# -- counting by something that is no address --------------------------------------------------------------------------


def test_the_subjects_are_the_addresses_that_contributed() -> None:
    engine = engine_of(by="path", limit=4)
    data = b"".join(request(f"192.0.2.{n}", "/a") + request(f"198.51.100.{n}", "/b") for n in (3, 1, 2))
    assert found_in(engine, data) == []
    found = found_in(engine, request("192.0.2.9", "/a"))
    assert [finding.subject for finding in found] == ["192.0.2.1", "192.0.2.2", "192.0.2.3", "192.0.2.9"]
    assert len({finding.id for finding in found}) == 4
    assert {finding.evidence for finding in found} == {found[0].evidence}
    assert found_in(engine, request("192.0.2.4", "/a")) == [], "a crossing begins anew"


def test_who_came_before_the_window_has_no_part_in_it() -> None:
    engine = engine_of(by="path", limit=2)
    found_in(engine, request("192.0.2.1", "/a"))
    found = found_in(engine, request("192.0.2.2", "/a", BASE_TS + 700) + request("192.0.2.3", "/a", BASE_TS + 701))
    assert [finding.subject for finding in found] == ["192.0.2.2", "192.0.2.3"]


def test_a_user_name_is_counted_across_addresses() -> None:
    text = rule_text(on="auth", by="user", limit=3, within="10m", ban=60)
    engine = Engine([compile_rule(rule) for rule in read_rules(text, "r.toml")])
    sshd = by_name("sshd")
    said = "Jun 20 11:17:34 web sshd[1]: Failed password for {} from 203.0.113.{} port 22 ssh2\n"
    lines = [("root", 1), ("admin", 2), ("root", 3), ("root", 4)]
    found: list[Finding] = []
    data = "".join(said.format(*line) for line in lines).encode()
    engine.step(Batch("log", data, 0, 1), sshd, ANCHOR, found.append)
    assert [finding.subject for finding in found] == ["203.0.113.1", "203.0.113.3", "203.0.113.4"]


def test_several_fields_are_one_key_whatever_stands_in_them() -> None:
    engine = engine_of(by=["path", "user_agent"], limit=2)
    assert found_in(engine, request("192.0.2.1", "/a", agent="b c") + request("192.0.2.2", "/a b", agent="c")) == []
    assert len(found_in(engine, request("192.0.2.3", "/a", agent="b c"))) == 2


@pytest.mark.parametrize("by", ["path", "user_agent"])
def test_keys_that_attackers_choose_are_bounded(by: str) -> None:
    """Law 5, where they send another text with every request, and long ones."""
    engine = engine_of(Limits(tracked_keys=200), by=by, limit=3)
    for at in range(0, 5000, 500):
        data = b"".join(
            request("192.0.2.1", f"/{n}" + "x" * 500, agent=f"{n}" + "x" * 500) for n in range(at, at + 500)
        )
        found_in(engine, data)
    (tracker,) = engine.trackers
    assert engine.pool.tracked <= 2 * 200 + 1
    assert tracker.contributors is not None
    assert len(tracker.contributors.by_key) <= 3 * 200
    assert max(map(len, tracker.contributors.by_key)) < 500


def test_contributors_to_one_key_are_bounded() -> None:
    engine = engine_of(by="path", limit=5000)
    for n in range(3000):
        found_in(engine, request(f"10.0.{n >> 8}.{n & 255}", "/a"))
    (tracker,) = engine.trackers
    assert tracker.contributors is not None
    assert len(tracker.contributors.by_key["/a"]) == 1024
    assert "10.0.11.183" in tracker.contributors.by_key["/a"], "the newest are kept"


def test_combinations_of_rules_on_one_line_are_bounded() -> None:
    """A client may send any combination of what rules look for: 2 to the power of the rules, each remembered once."""
    text = "".join(
        f'[r{n}]\non = "http-request"\nwhere = {{ path = {{ contains = "/x{n}y" }} }}\nlimit = 9\nban = 60\n'
        'within = "1m"\n'
        for n in range(14)
    )
    engine = Engine([compile_rule(rule) for rule in read_rules(text, "r.toml")])
    rng, kept = Random("masks"), []
    for _ in range(20):
        targets = ("".join(f"/x{n}y" for n in range(14) if rng.random() < 0.5) or "/" for _ in range(500))
        found_in(engine, b"".join(request("192.0.2.1", target) for target in targets))
        kept.append(len(engine._plan(COMBINED, "log")._by_mask))
    assert 1000 < max(kept) <= MASKS_KEPT
