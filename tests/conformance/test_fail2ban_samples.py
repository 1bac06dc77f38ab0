"""The stock filters on Debian's annotated samples: the whole score, by every way that a line can take."""

from __future__ import annotations

import json
import random
import subprocess
import time
from collections.abc import Iterator

import pytest
import samples
from samples import NOW_TS, Check, Gate, checks_of, filter_names, filter_of, problem_of, score_of, spec_of

from tocsin.fail2ban.filters import tags
from tocsin.fail2ban.filters.filter import LineFilter
from tocsin.fail2ban.filters.regexes import Budget, Regex
from tocsin.fail2ban.filters.remarks import remarks_of
from tocsin.fail2ban.model import Failure

PYTHON = "/usr/bin/python3"
FILTERS, CHECKS, POSITIVE, OPTION_SETS = 89, 1381, 1135, 123

ORACLE = """
import json, sys
sys.path.insert(0, "/usr/lib/python3/dist-packages")
from fail2ban.server.failregex import Regex
tags, texts = json.load(sys.stdin)
answers = []
for tag, usedns in tags:
    regex = Regex("^" + tag, useDns=usedns)
    row = []
    for text in texts:
        found = regex._regexObj.search(text)
        row.append(None if found is None else [found.end(), found.groupdict()])
    answers.append(row)
json.dump(answers, sys.stdout)
"""


def all_checks() -> Iterator[Check]:
    for name in filter_names():
        yield from checks_of(name)


def answers(checks: list[Check], *, gate: bool = False, simple: bool = False, timed: bool = False) -> list[object]:
    """What each check's filter answers; the filters of a set of options are made anew and see the lines in order."""
    filters: dict[str, tuple[LineFilter, Gate]] = {}
    found: list[object] = []
    for check in checks:
        key = check.options.key
        if key not in filters:
            line_filter = filter_of(check.options, check.name, Budget(5.0))
            if timed:
                run_timed(line_filter)
            filters[key] = line_filter, Gate(line_filter, simple=simple)
        line_filter, gated = filters[key]
        found.append(gated.take(check.line) if gate else line_filter.take(check.line, NOW_TS))
    return found


def run_timed(line_filter: LineFilter) -> None:
    """Let all its regexes be matched by the engine that has a clock."""
    regexes: tuple[Regex, ...] = (*line_filter.regexes,)
    for regex in regexes:
        regex.always_timed()


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return list(all_checks())


@pytest.fixture(scope="module")
def plain(checks: list[Check]) -> list[object]:
    """The answers of filters that are given every line."""
    return answers(checks)


def filter_for(filters: dict[str, LineFilter], check: Check) -> LineFilter:
    """The filter of a check's options, made when first asked for."""
    key = check.options.key
    if key not in filters:
        filters[key] = filter_of(check.options, check.name)
    return filters[key]


def test_the_samples_are_read_as_the_package_reads_them(checks: list[Check]) -> None:
    assert len(filter_names()) == FILTERS
    assert len(checks) == CHECKS
    assert sum(bool(check.expected.get("match")) for check in checks) == POSITIVE
    assert len({check.options.key for check in checks}) == OPTION_SETS
    keys = {key for check in checks for key in check.expected}
    assert {"host", "time", "user", "users", "attempts"} <= keys


def test_every_check_passes() -> None:
    scores = [score_of(name) for name in filter_names()]
    assert [problem for score in scores for problem in score.problems] == []
    assert sum(score.passed for score in scores) == CHECKS


def test_every_failregex_is_hit_by_a_sample() -> None:
    hit: set[str] = set()
    used: set[str] = set()
    for name in filter_names():
        filters: dict[str, LineFilter] = {}
        for check in checks_of(name):
            line_filter = filter_for(filters, check)
            trace = line_filter.explain(check.line, NOW_TS)
            if trace.failregex is not None:
                hit.add(line_filter.spec.failregex[trace.failregex])
        used |= {regex for line_filter in filters.values() for regex in line_filter.spec.failregex}
    assert used - hit == set()


def test_with_the_prefilter_all_is_the_same(checks: list[Check], plain: list[object]) -> None:
    assert answers(checks, gate=True) == plain


def test_with_the_simple_prefilter_all_is_the_same(checks: list[Check], plain: list[object]) -> None:
    assert answers(checks, gate=True, simple=True) == plain


def test_both_engines_find_the_same(checks: list[Check], plain: list[object]) -> None:
    assert answers(checks, timed=True) == plain


def test_what_is_explained_is_what_is_found(checks: list[Check], plain: list[object]) -> None:
    filters: dict[str, LineFilter] = {}
    assert [filter_for(filters, check).explain(check.line, NOW_TS).failures for check in checks] == plain


def test_state_goes_on_where_it_was_dumped(checks: list[Check], plain: list[object]) -> None:
    """A filter that is dumped and loaded after every line answers as one that goes on."""
    filters: dict[str, LineFilter] = {}
    found: list[object] = []
    for check in checks:
        line_filter = filter_for(filters, check)
        line_filter.load(line_filter.dump())
        found.append(line_filter.take(check.line, NOW_TS))
    assert found == plain


def test_stock_filters_raise_few_remarks() -> None:
    doubtful = {name for name in filter_names() if remarks_of(spec_of(name))}
    assert doubtful == {"mongodb-auth", "oracleims", "portsentry"}


def test_a_wrong_answer_would_fail(checks: list[Check]) -> None:
    """The comparison sees each thing that the samples say."""
    check = next(check for check in checks if {"users", "attempts"} <= check.expected.keys())
    right = Failure(
        samples.wanted("time", check.expected["time"]),
        samples.wanted("host", check.expected["host"]),
        check.expected["host"],
        1,
        {"user": check.expected.get("user")},
        ("line",) * check.expected["attempts"],
        tuple(check.expected["users"]),
    )
    assert problem_of(check, (right,)) is None
    changed = {"ts": right.ts + 1, "key": "192.0.2.99", "matches": ("line",), "users": ("nobody",)}
    for field, value in changed.items():
        wrong = Failure(**{**{name: getattr(right, name) for name in right.__struct_fields__}, field: value})
        assert problem_of(check, (wrong,)) is not None, field
    assert problem_of(check, ()) is not None
    assert problem_of(check, (right, right)) is not None


def test_the_lines_that_hang_fail2ban_cost_nothing() -> None:
    """A user name of many words (GHSA-33wh-ccjc-p397): seconds in `re`, doubling with each word."""
    budget = Budget()
    line_filter = filter_of(samples.Options("", {}), "domino-smtp", budget)
    words = "word " * 40
    begin_s = time.perf_counter()
    for said in (
        "authentication failure using internet password!",
        "[192.0.2.7 authentication failure using internet password",
    ):
        line_filter.take(f"03-07-2005 23:07:20   smtp: {words}{said}", NOW_TS)
    assert time.perf_counter() - begin_s < 2.0
    line = "03-07-2005 23:07:20   smtp: some body [192.0.2.7] authentication failure using internet password"
    assert [failure.key for failure in line_filter.take(line, NOW_TS)] == ["192.0.2.7"]


def texts() -> list[str]:
    rng = random.Random(5)
    parts = ["1", "25", "255", "999", ".", ":", "::", "[", "]", "f", "ffff", "fe80", "0", "-", "_", "^", "host", " ",
             "/", "24", "%", "é", "::ffff:", "192.0.2.7", "2001:db8::1", "a.example", "\n", "80", "user"]  # fmt: skip
    return ["".join(rng.choice(parts) for _ in range(rng.randrange(1, 9))) for _ in range(3000)]


def test_tags_match_what_fail2ban_lets_them_match() -> None:
    """Our own spelling of the tags takes the same texts, as long, into the same groups."""
    cases = [("<HOST>", "warn"), ("<HOST>", "no"), ("<HOST>$", "yes"), ("<ADDR>", "warn"), ("<IP4>", "warn"),
             ("<IP6>", "warn"), ("<IP6>$", "warn"), ("<DNS>", "warn"), ("<SUBNET>", "warn"), ("<CIDR>", "warn"),
             ("<ADDR>/<CIDR>", "warn"), ("<F-ID/>", "warn"), ("<F-ID>[a-z]+</F-ID>", "warn"), ("<F-PORT/>", "warn"),
             ("<F-USER>\\S+</F-USER> <HOST>", "warn"), ("<F-ALT_USER>x</F-ALT_USER>?<W>?<HOST>", "warn"),
             ("((?i)HOST|f) ?<ADDR>", "warn"), ("<HOST></F-USER>?", "warn"), ("<F-SUBNET/>", "warn")]  # fmt: skip
    asked = json.dumps([cases, texts()])
    ran = subprocess.run([PYTHON, "-c", ORACLE], input=asked, capture_output=True, text=True, check=True)
    for (tag, usedns), row in zip(cases, json.loads(ran.stdout), strict=True):
        regex = Regex("^" + tag, "ignoreregex", "x", Budget(5.0), usedns=usedns)
        for text, theirs in zip(texts(), row, strict=True):
            found = regex.search(text)
            ours = None if found is None else [found.end(), named(found.groups(), regex)]
            assert ours == theirs, (tag, text)


def named(values: tuple[str | None, ...], regex: Regex) -> dict[str, str | None]:
    return {name: values[number - 1] for name, number in regex.groups.items()}


def test_samples_name_no_group_that_we_call_otherwise(checks: list[Check]) -> None:
    used = {key for check in checks for key in check.expected} - {"match", "desc", "constraint", "time", "host"}
    assert used == {"user", "users", "attempts", "ip4", "ip6", "dns"}
    assert tags.field_of("fid") == "id"
