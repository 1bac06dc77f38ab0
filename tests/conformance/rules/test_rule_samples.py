"""Every shipped rule against the lines beside this file: those that it must count, and look-alikes that it must not.

`<rule>.log`: `# format: NAME` once, then `# match` or `# no match: why` before the lines it speaks of.
"""

from __future__ import annotations

from datetime import UTC
from pathlib import Path

import pytest

from tocsin.decide.impostors import Crawlers
from tocsin.formats import Anchor, Proxies, by_name
from tocsin.model import AuthAttempt, HttpRequest, Other
from tocsin.rules import compile_rule, load_shipped

HERE = Path(__file__).parent
RULES = {rule.id: compile_rule(rule).judged_by(Crawlers()) for rule in load_shipped()}
ANCHOR = Anchor(1_718_300_000.0, UTC)


def samples(path: Path) -> list[tuple[str, bool, str, str, bytes]]:
    """(rule, expected, why, format, line) of a sample file."""
    found: list[tuple[str, bool, str, str, bytes]] = []
    fmt, expected, why = "combined", True, ""
    for line in path.read_bytes().splitlines():
        text = line.decode("utf-8", "backslashreplace")
        if text.startswith("# format: "):
            fmt = text.removeprefix("# format: ")
        elif text.startswith(("# match", "# no match")):
            marker, _, why = text.partition(":")
            expected = marker == "# match"
        elif not text.startswith("# "):
            found.append((path.stem, expected, why.strip(), fmt, line))
    return found


ALL = [sample for path in sorted(HERE.glob("*.log")) for sample in samples(path)]


@pytest.mark.parametrize(("rule_id", "expected", "why", "fmt", "line"), ALL)
def test_sample(rule_id: str, *, expected: bool, why: str, fmt: str, line: bytes) -> None:
    """The rule counts the line, or it does not; and where it does, the prefilter lets the line through."""
    rule = RULES[rule_id]
    event = by_name(fmt, Proxies()).parse(line, ANCHOR)
    assert isinstance(event, HttpRequest | AuthAttempt | Other), (why, event)
    matched = isinstance(event, HttpRequest | AuthAttempt) and rule.predicate(event)
    assert matched is expected, why
    if isinstance(event, HttpRequest | AuthAttempt):
        assert rule.explain_match(event).startswith("yes: " if expected else "no: ")
    if expected:
        assert rule.need_holds(line)
        assert isinstance(event, HttpRequest | AuthAttempt)
        assert rule.keys(event)


@pytest.mark.parametrize("rule_id", sorted(RULES))
def test_every_rule_has_samples(rule_id: str) -> None:
    """A rule without lines that fire it, or (unless it counts everything) without look-alikes, is not shipped."""
    outcomes = {expected for rule, expected, *_ in ALL if rule == rule_id}
    assert outcomes == ({True} if RULES[rule_id].rule.where.is_empty() else {True, False})


def test_every_sample_file_has_a_rule() -> None:
    """A file whose rule was renamed would test nothing."""
    assert {path.stem for path in HERE.glob("*.log")} == set(RULES)


@pytest.mark.parametrize("rule_id", sorted(rule_id for rule_id, rule in RULES.items() if rule.rule.distinct))
def test_distinct_rules_see_different_values(rule_id: str) -> None:
    """The matching samples of a rule that counts distinct values differ in that value."""
    values = set()
    for rule, expected, _, fmt, line in ALL:
        if rule == rule_id and expected:
            event = by_name(fmt, Proxies()).parse(line, ANCHOR)
            assert isinstance(event, HttpRequest | AuthAttempt)
            values.add(RULES[rule_id].distinct_value(event))
    assert len(values - {None}) >= 2
